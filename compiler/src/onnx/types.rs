//! Element types by their number in the file.

use crate::ir::DType;

/// Number and type of every element type that edgec reads.
const CODES: &[(i32, DType)] = &[
    (1, DType::F32),
    (2, DType::U8),
    (3, DType::I8),
    (4, DType::U16),
    (5, DType::I16),
    (6, DType::I32),
    (7, DType::I64),
    (8, DType::String),
    (9, DType::Bool),
    (10, DType::F16),
    (11, DType::F64),
    (12, DType::U32),
    (13, DType::U64),
    (16, DType::Bf16),
    (17, DType::F8E4M3),
    (18, DType::F8E4M3Uz),
    (19, DType::F8E5M2),
    (20, DType::F8E5M2Uz),
    (21, DType::U4),
    (22, DType::I4),
    (23, DType::F4E2M1),
    (24, DType::F8E8M0),
    (25, DType::U2),
    (26, DType::I2),
];

/// Types that ONNX defines and edgec does not read.
const UNREAD: &[(i32, &str)] =
    &[(14, "complex64"), (15, "complex128"), (27, "float6e2m3"), (28, "float6e3m2")];

/// The element type of `TensorProto.data_type` and the like; an error says what stands there instead.
pub fn dtype_from_code(code: i32) -> Result<DType, String> {
    if let Some((_, dtype)) = CODES.iter().find(|(c, _)| *c == code) {
        return Ok(*dtype);
    }
    Err(match UNREAD.iter().find(|(c, _)| *c == code) {
        Some((_, name)) => format!("element type `{name}` is not supported"),
        None if code == 0 => "the element type is not given".to_owned(),
        None => format!("{code} is no element type"),
    })
}

/// The number of an element type in the file.
pub fn code_of_dtype(dtype: DType) -> i32 {
    CODES.iter().find(|(_, d)| *d == dtype).map_or(0, |(c, _)| *c)
}

/// The number of an element type by ONNX's name (`float`, `int64`, `complex64`).
pub(super) fn code_of_name(name: &str) -> Option<i32> {
    CODES
        .iter()
        .find(|(_, d)| d.onnx_name() == name)
        .map(|(c, _)| *c)
        .or_else(|| UNREAD.iter().find(|(_, n)| *n == name).map(|(c, _)| *c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_number() {
        for &dtype in DType::ALL {
            assert_eq!(dtype_from_code(code_of_dtype(dtype)), Ok(dtype));
            assert_eq!(code_of_name(dtype.onnx_name()), Some(code_of_dtype(dtype)));
        }
    }
}
