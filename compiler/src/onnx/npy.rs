//! NumPy's `.npy` files, versions 1 to 3: little-endian, in C or Fortran order. Texts are read, not written.

use super::tensor::{DataError, MAX_RANK, MAX_TENSOR_BYTES};
use crate::ir::{DType, Data, Shape, Tensor};

const MAGIC: &[u8] = b"\x93NUMPY";

/// NumPy's type descriptions without byte order.
const TYPES: &[(&str, DType)] = &[
    ("f4", DType::F32),
    ("f8", DType::F64),
    ("f2", DType::F16),
    ("i1", DType::I8),
    ("i2", DType::I16),
    ("i4", DType::I32),
    ("i8", DType::I64),
    ("u1", DType::U8),
    ("u2", DType::U16),
    ("u4", DType::U32),
    ("u8", DType::U64),
    ("b1", DType::Bool),
];

fn bad(what: impl Into<String>) -> DataError {
    DataError::Data(format!("npy: {}", what.into()))
}

/// The array of a `.npy` file, row-major.
pub fn read_npy(bytes: &[u8]) -> Result<Tensor, DataError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| bad("the file does not begin as one"))?;
    let (header, data) = split_header(rest).ok_or_else(|| bad("the header is cut off"))?;
    let header = std::str::from_utf8(header).map_err(|_| bad("the header is not text"))?;
    let header =
        Header::parse(header).ok_or_else(|| bad(format!("the header `{header}` is not understood")))?;

    let size = header.size;
    let length = header.shape.checked_len().and_then(|n| n.checked_mul(size));
    match length {
        Some(n) if n > MAX_TENSOR_BYTES => {
            return Err(DataError::Limit(format!("npy: {n} bytes are too many")));
        }
        Some(n) if n == data.len() => {}
        _ => {
            return Err(bad(format!("{} bytes of data for {}{}", data.len(), header.dtype, header.shape)));
        }
    }
    let ordered;
    let data = if header.fortran {
        ordered = from_fortran(data, &header.shape, size);
        ordered.as_slice()
    } else {
        data
    };
    if header.dtype == DType::String {
        return texts(header.shape, data, size, header.wide);
    }
    Ok(Tensor::from_le_bytes(header.dtype, header.shape, data)?)
}

/// Texts of `size` bytes each, filled up with zeros: UTF-32 (`U`) or bytes (`S`).
fn texts(shape: Shape, data: &[u8], size: usize, wide: bool) -> Result<Tensor, DataError> {
    if size == 0 {
        // No data vouches for the number of elements.
        if shape.elements() > MAX_TENSOR_BYTES / size_of::<String>() {
            return Err(DataError::Limit(format!("npy: {shape} texts are too many")));
        }
        let empty = vec![String::new(); shape.elements()];
        return Ok(Tensor::from_data(shape, Data::String(empty.into()))?);
    }
    let text = |bytes: &[u8]| -> Option<String> {
        if !wide {
            let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
            return String::from_utf8(bytes.get(..end)?.to_vec()).ok();
        }
        let codes = bytes.as_chunks::<4>().0.iter().map(|c| char::from_u32(u32::from_le_bytes(*c)));
        let all: String = codes.collect::<Option<_>>()?;
        Some(all.trim_end_matches('\0').to_owned())
    };
    let list: Option<Vec<String>> = data.chunks(size).map(text).collect();
    let list = list.ok_or_else(|| bad("a text is not Unicode"))?;
    Ok(Tensor::from_data(shape, Data::String(list.into()))?)
}

/// A `.npy` file (version 1) of a tensor; `None` for types that NumPy does not have.
pub fn write_npy(tensor: &Tensor) -> Option<Vec<u8>> {
    let (name, _) = TYPES.iter().find(|(_, d)| *d == tensor.dtype())?;
    let order = if tensor.dtype().size() == 1 { '|' } else { '<' };
    let dims: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
    let comma = if dims.len() == 1 { "," } else { "" };
    let mut header = format!(
        "{{'descr': '{order}{name}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        dims.join(", ")
    );
    // The data begins at a multiple of 64, behind a line break.
    let used = MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(used.next_multiple_of(64) - used));
    header.push('\n');
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    out.extend(u16::try_from(header.len()).ok()?.to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(tensor.to_le_bytes());
    Some(out)
}

fn split_header(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (version, rest) = rest.split_first_chunk::<2>()?;
    let (length, rest) = match version[0] {
        1 => {
            let (n, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_le_bytes(*n)), rest)
        }
        2 | 3 => {
            let (n, rest) = rest.split_first_chunk::<4>()?;
            (usize::try_from(u32::from_le_bytes(*n)).ok()?, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

struct Header {
    dtype: DType,
    /// Bytes of an element.
    size: usize,
    /// Of texts: whether a character takes four bytes.
    wide: bool,
    fortran: bool,
    shape: Shape,
}

impl Header {
    /// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, keys in any order.
    fn parse(text: &str) -> Option<Header> {
        let value = |key: &str| {
            let at = text.find(&format!("'{key}'"))?;
            text.get(at + key.len() + 2..)?.trim_start().strip_prefix(':').map(str::trim_start)
        };
        let descr = value("descr")?.strip_prefix('\'')?;
        let descr = descr.get(..descr.find('\'')?)?;
        let (order, name) = descr.split_at_checked(1)?;
        let (dtype, size, wide) = match name.split_at_checked(1)? {
            ("U", n) => (DType::String, n.parse::<usize>().ok()?.checked_mul(4)?, true),
            ("S", n) => (DType::String, n.parse().ok()?, false),
            _ => {
                let &(_, dtype) = TYPES.iter().find(|(n, _)| *n == name)?;
                (dtype, dtype.size(), false)
            }
        };
        if order != "<" && !(order == "|" && (size == 1 || dtype == DType::String && !wide)) {
            return None;
        }
        let order = value("fortran_order")?;
        let fortran = order.starts_with("True");
        if !fortran && !order.starts_with("False") {
            return None;
        }
        let dims = value("shape")?.strip_prefix('(')?;
        let dims = dims.get(..dims.find(')')?)?;
        let shape: Shape = dims
            .split(',')
            .map(str::trim)
            .filter(|d| !d.is_empty())
            .map(|d| d.trim_end_matches('L').parse::<usize>().ok())
            .collect::<Option<_>>()?;
        (shape.rank() <= MAX_RANK).then_some(Header { dtype, size, wide, fortran, shape })
    }
}

/// Reorders elements of `size` bytes from first-index-fastest to row-major.
fn from_fortran(data: &[u8], shape: &Shape, size: usize) -> Vec<u8> {
    let mut strides = vec![0usize; shape.rank()];
    let mut step = size;
    for (stride, &extent) in strides.iter_mut().zip(shape.iter()) {
        *stride = step;
        step = step.saturating_mul(extent);
    }
    let row_major = shape.strides();
    let mut out = Vec::with_capacity(data.len());
    for i in 0..shape.elements() {
        let at: usize = row_major
            .iter()
            .zip(shape.iter())
            .zip(&strides)
            .map(|((&stride, &extent), &from)| i / stride.max(1) % extent.max(1) * from)
            .sum();
        out.extend_from_slice(data.get(at..at + size).unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_round_trip() {
        for &(_, dtype) in TYPES {
            for shape in [Shape::scalar(), Shape::from([3]), Shape::from([2, 0]), Shape::from([1, 2, 3])] {
                let bytes: Vec<u8> = (0..shape.elements() * dtype.size()).map(|i| i as u8 & 1).collect();
                let tensor = Tensor::from_le_bytes(dtype, shape, &bytes).unwrap();
                let file = write_npy(&tensor).unwrap();
                assert_eq!(read_npy(&file).unwrap(), tensor);
                assert!(read_npy(&file[..file.len() - 1]).is_err());
            }
        }
    }

    #[test]
    fn fortran_order_and_long_headers_are_read() {
        let header = "{'shape': (2, 3), 'descr': '<i2', 'fortran_order': True}\n";
        let mut file = MAGIC.to_vec();
        file.extend([3, 0]);
        file.extend((header.len() as u32).to_le_bytes());
        file.extend(header.as_bytes());
        for v in [1i16, 4, 2, 5, 3, 6] {
            file.extend(v.to_le_bytes());
        }
        assert_eq!(read_npy(&file).unwrap().to_i64_vec().unwrap(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn texts_are_read() {
        let file = |descr: &str, data: &[u8]| {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,)}}\n");
            [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
        };
        let wide: Vec<u8> = "aé\0b\0\0".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        let expected = |a: &str, b: &str| {
            let texts = Data::String(vec![a.to_owned(), b.to_owned()].into());
            Tensor::from_data([2].into(), texts).unwrap()
        };
        for (file, a, b) in
            [(file("<U3", &wide), "aé", "b"), (file("|S2", b"abc\0"), "ab", "c"), (file("<U0", b""), "", "")]
        {
            assert_eq!(read_npy(&file).unwrap(), expected(a, b));
        }
        assert!(read_npy(&file("<U1", &[0xff; 8])).is_err() && read_npy(&file("<U3", b"")).is_err());
    }

    #[test]
    fn strange_headers_are_refused() {
        for (descr, shape) in
            [(">f4", "(1,)"), ("<c8", "(1,)"), ("<f4", "(-1,)"), ("<f4", "(99999999999, 99999999999)")]
        {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n");
            let mut file = MAGIC.to_vec();
            file.extend([1, 0]);
            file.extend((header.len() as u16).to_le_bytes());
            file.extend(header.as_bytes());
            file.extend([0; 4]);
            assert!(read_npy(&file).is_err(), "{descr} {shape}");
        }
    }
}
