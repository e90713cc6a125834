//! Element types: which arithmetic each uses in the reference, and which in expressions.
//!
//! The reference computes floats in `f64`, rounded once when stored (`f16` and `bf16` by way of
//! `f32`, as generated code does), and integers in `i128`, whose low bits are those of the narrower
//! type's wrapping arithmetic.

use super::OpError;
use crate::ir::{
    DType, Data, Element, F4E2M1, F8E4M3, F8E4M3Uz, F8E5M2, F8E5M2Uz, F8E8M0, I2, I4, Shape, Tensor, U2, U4,
    bf16, f16,
};
use crate::kernel::expr::{Expr, Scalar};

/// Floating-point types with arithmetic.
pub(super) fn is_arithmetic_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::Bf16)
}

/// Integers with arithmetic: 8 to 64 bits.
pub(super) fn is_arithmetic_int(dtype: DType) -> bool {
    dtype.is_int() && dtype.packed_bits().is_none()
}

/// Numbers with arithmetic.
pub(super) fn is_number(dtype: DType) -> bool {
    is_arithmetic_float(dtype) || is_arithmetic_int(dtype)
}

/// Refuses an operand type that an operator does not define.
pub(super) fn expect(ok: bool, dtype: DType) -> Result<(), OpError> {
    if ok { Ok(()) } else { Err(OpError::invalid(format!("operand type {dtype} is not allowed here"))) }
}

/// Refuses operands of different types.
pub(super) fn expect_same(a: DType, b: DType) -> Result<(), OpError> {
    if a == b { Ok(()) } else { Err(OpError::invalid(format!("operands are of types {a} and {b}"))) }
}

/// The type that expressions compute `dtype` in: `f32` for the floats of 16 bits and fewer, bytes for the
/// integers of 4 and 2 bits.
pub(super) fn compute_dtype(dtype: DType) -> DType {
    match dtype {
        DType::I4 | DType::I2 => DType::I8,
        DType::U4 | DType::U2 => DType::U8,
        DType::F64 => DType::F64,
        float if float.is_float() => DType::F32,
        other => other,
    }
}

/// Refuses types that loop nests cannot hold: strings.
pub(super) fn expect_loop_type(dtype: DType) -> Result<(), OpError> {
    if dtype != DType::String {
        Ok(())
    } else {
        Err(OpError::unsupported(format!("{dtype} values that are not known at compile time")))
    }
}

/// A literal of the type that `dtype` is computed in.
pub(super) fn literal(dtype: DType, value: f64) -> Expr {
    Expr::Const(match dtype {
        DType::F64 => Scalar::F64(value),
        DType::Bool => Scalar::Bool(value != 0.0),
        DType::U64 => Scalar::U64(value as u64),
        d if d.is_int() => Scalar::Int(d, value as i64),
        _ => Scalar::F32(value as f32),
    })
}

/// A literal of a tensor's only element.
pub(super) fn literal_of(tensor: &Tensor) -> Option<Expr> {
    if tensor.len() != 1 {
        return None;
    }
    let scalar = match tensor.data() {
        Data::U64(v) => Scalar::U64(*v.first()?),
        Data::String(_) => return None,
        data if data.dtype().is_int() => Scalar::Int(data.dtype(), *tensor.to_i64_vec()?.first()?),
        data => return Some(literal(data.dtype(), tensor.to_scalar_f64()?)),
    };
    Some(Expr::Const(scalar))
}

/// Conversion of an expression, where the types differ at all; of literals to wider types, the literal.
pub(super) fn cast(from: DType, to: DType, value: Expr) -> Expr {
    let from = compute_dtype(from);
    match (&value, to) {
        (Expr::Const(Scalar::Int(_, v)), DType::I32) if i32::try_from(*v).is_ok() => {
            return Expr::Const(Scalar::Int(DType::I32, *v));
        }
        (Expr::Const(Scalar::F32(v)), DType::F64) => return literal(DType::F64, f64::from(*v)),
        _ => {}
    }
    // Integers of few bits wrap; from floats that is by way of integers that hold them.
    let (from, value) = match from.is_float() && to.is_int() && to.packed_bits().is_some() {
        true => (DType::I32, Expr::Cast { from, to: DType::I32, value: Box::new(value) }),
        false => (from, value),
    };
    if from == to { value } else { Expr::Cast { from, to, value: Box::new(value) } }
}

/// Elements as `f64`; 64-bit integers round.
pub(super) fn floats(tensor: &Tensor) -> Result<Vec<f64>, OpError> {
    tensor.to_f64_vec().ok_or_else(|| wrong(tensor.dtype()))
}

/// Elements of an integer or bool tensor, exact.
pub(super) fn ints(tensor: &Tensor) -> Result<Vec<i128>, OpError> {
    if let Data::U64(v) = tensor.data() {
        return Ok(v.iter().map(|&x| x.into()).collect());
    }
    let values = tensor.to_i64_vec().ok_or_else(|| wrong(tensor.dtype()))?;
    Ok(values.into_iter().map(i128::from).collect())
}

/// Elements of a bool tensor.
pub(super) fn bools(tensor: &Tensor) -> Result<&[bool], OpError> {
    tensor.as_slice::<bool>().ok_or_else(|| wrong(tensor.dtype()))
}

fn wrong(dtype: DType) -> OpError {
    OpError::internal(format!("{dtype} elements where another type was inferred"))
}

/// A tensor of `dtype` whose elements are the nearest to these (integers truncate and saturate).
pub(super) fn from_floats(
    dtype: DType,
    shape: impl Into<Shape>,
    values: impl IntoIterator<Item = f64>,
) -> Result<Tensor, OpError> {
    fn make<T: Element>(shape: Shape, values: &mut dyn Iterator<Item = f64>) -> Result<Tensor, OpError> {
        // The sign and payload of a NaN depend on the host; one NaN goes out.
        let round = |x: f64| T::from_f64(if x.is_nan() { f64::NAN } else { x });
        Ok(Tensor::new::<T>(shape, values.map(round).collect::<Vec<T>>())?)
    }
    let (shape, values) = (shape.into(), &mut values.into_iter());
    match dtype {
        DType::F32 => make::<f32>(shape, values),
        DType::F64 => make::<f64>(shape, values),
        DType::F16 => make::<f16>(shape, values),
        DType::Bf16 => make::<bf16>(shape, values),
        DType::I8 => make::<i8>(shape, values),
        DType::I16 => make::<i16>(shape, values),
        DType::I32 => make::<i32>(shape, values),
        DType::I64 => make::<i64>(shape, values),
        DType::U8 => make::<u8>(shape, values),
        DType::U16 => make::<u16>(shape, values),
        DType::U32 => make::<u32>(shape, values),
        DType::U64 => make::<u64>(shape, values),
        DType::Bool => make::<bool>(shape, values),
        DType::I4 => make::<I4>(shape, values),
        DType::U4 => make::<U4>(shape, values),
        DType::I2 => make::<I2>(shape, values),
        DType::U2 => make::<U2>(shape, values),
        DType::F8E4M3 => make::<F8E4M3>(shape, values),
        DType::F8E4M3Uz => make::<F8E4M3Uz>(shape, values),
        DType::F8E5M2 => make::<F8E5M2>(shape, values),
        DType::F8E5M2Uz => make::<F8E5M2Uz>(shape, values),
        DType::F8E8M0 => make::<F8E8M0>(shape, values),
        DType::F4E2M1 => make::<F4E2M1>(shape, values),
        DType::String => Err(wrong(dtype)),
    }
}

/// A tensor of `dtype` from integers: wrapped to narrower integers, rounded to floats.
pub(super) fn from_ints(
    dtype: DType,
    shape: impl Into<Shape>,
    values: impl IntoIterator<Item = i128>,
) -> Result<Tensor, OpError> {
    fn make<T: Element>(
        shape: Shape,
        values: &mut dyn Iterator<Item = i128>,
        wrap: fn(i128) -> T,
    ) -> Result<Tensor, OpError> {
        Ok(Tensor::new::<T>(shape, values.map(wrap).collect::<Vec<T>>())?)
    }
    let (shape, values) = (shape.into(), &mut values.into_iter());
    match dtype {
        DType::I8 => make(shape, values, |x| x as i8),
        DType::I16 => make(shape, values, |x| x as i16),
        DType::I32 => make(shape, values, |x| x as i32),
        DType::I64 => make(shape, values, |x| x as i64),
        DType::U8 => make(shape, values, |x| x as u8),
        DType::U16 => make(shape, values, |x| x as u16),
        DType::U32 => make(shape, values, |x| x as u32),
        DType::U64 => make(shape, values, |x| x as u64),
        DType::Bool => make(shape, values, |x| x != 0),
        // Sign extension of the low bits.
        DType::I4 => make(shape, values, |x| I4(((x as i8) << 4) >> 4)),
        DType::U4 => make(shape, values, |x| U4(x as u8 & 15)),
        DType::I2 => make(shape, values, |x| I2(((x as i8) << 6) >> 6)),
        DType::U2 => make(shape, values, |x| U2(x as u8 & 3)),
        DType::F32 => make(shape, values, |x| x as f32),
        DType::F64 => make(shape, values, |x| x as f64),
        DType::F16 => make(shape, values, |x| f16::from_f32(x as f32)),
        DType::Bf16 => make(shape, values, |x| bf16::from_f32(x as f32)),
        other => from_floats(other, shape, values.map(|x| x as f64)),
    }
}

/// A tensor of truth values.
pub(super) fn from_bools(
    shape: impl Into<Shape>,
    values: impl IntoIterator<Item = bool>,
) -> Result<Tensor, OpError> {
    Ok(Tensor::new::<bool>(shape, values.into_iter().collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_wrap_and_floats_saturate() {
        let t = from_ints(DType::I8, [2], [130, -129]).unwrap();
        assert_eq!(t, Tensor::vector(&[-126i8, 127]));
        assert_eq!(from_floats(DType::U8, [2], [300.0, f64::NAN]).unwrap(), Tensor::vector(&[255u8, 0]));
        assert_eq!(from_ints(DType::I4, [1], [9]).unwrap(), Tensor::vector(&[I4(-7)]));
    }

    #[test]
    fn literals_keep_every_bit() {
        assert_eq!(literal_of(&Tensor::scalar(u64::MAX)), Some(Expr::Const(Scalar::U64(u64::MAX))));
        assert_eq!(
            literal_of(&Tensor::scalar(i64::MIN)),
            Some(Expr::Const(Scalar::Int(DType::I64, i64::MIN)))
        );
        assert_eq!(literal_of(&Tensor::vector(&[1f32, 2.0])), None);
    }
}
