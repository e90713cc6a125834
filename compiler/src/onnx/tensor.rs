//! TensorProto to [`Tensor`] and back: raw and typed fields, packing of 4- and 2-bit elements, external files.
//!
//! Lengths are held against shape and type before anything is allocated; what a tensor may claim is
//! bounded by [`MAX_TENSOR_BYTES`].

use super::external::ExternalData;
use super::proto::{SparseTensorProto, TensorProto};
use super::types::{code_of_dtype, dtype_from_code};
use crate::ir::{
    DType, Data, Element, F4E2M1, F8E4M3, F8E4M3Uz, F8E5M2, F8E5M2Uz, F8E8M0, I2, I4, Shape, Tensor,
    TensorError, U2, U4, bf16, f16,
};
use prost::Message;
use prost::bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// Bytes of one tensor's elements: far beyond any device here. While a tensor is read, its bytes are
/// in memory twice.
pub const MAX_TENSOR_BYTES: usize = 256 << 20;

/// Dimensions of a tensor. ONNX sets no limit; exporters stay below 7.
pub const MAX_RANK: usize = 12;

/// Why a tensor could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataError {
    /// The message contradicts itself, or its type is not read.
    Data(String),
    /// The file that it points to.
    External(String),
    /// A limit was exceeded.
    Limit(String),
    /// The operating system refused.
    Io(String),
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (DataError::Data(s) | DataError::External(s) | DataError::Limit(s) | DataError::Io(s)) = self;
        f.write_str(s)
    }
}

impl std::error::Error for DataError {}

impl From<TensorError> for DataError {
    fn from(e: TensorError) -> Self {
        DataError::Data(e.to_string())
    }
}

/// Element type and shape of a tensor message, with its limits checked; reads no data.
pub fn tensor_type(proto: &TensorProto) -> Result<(DType, Shape), DataError> {
    let dtype = dtype_from_code(proto.data_type).map_err(DataError::Data)?;
    Ok((dtype, checked_shape(dtype, &proto.dims)?))
}

fn checked_shape(dtype: DType, dims: &[i64]) -> Result<Shape, DataError> {
    if dims.len() > MAX_RANK {
        return Err(DataError::Limit(format!("{} dimensions; at most {MAX_RANK} are supported", dims.len())));
    }
    let shape: Shape = dims
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| DataError::Data(format!("dimension {d} is negative"))))
        .collect::<Result<_, _>>()?;
    let size = dtype.size().max(1);
    match shape.checked_len().and_then(|n| n.checked_mul(size)) {
        Some(bytes) if bytes <= MAX_TENSOR_BYTES => Ok(shape),
        _ => Err(DataError::Limit(format!("a tensor of shape {shape} exceeds {MAX_TENSOR_BYTES} bytes"))),
    }
}

/// The tensor of a message; `external` reads the files it may point to.
pub fn decode_tensor(proto: &TensorProto, external: &ExternalData) -> Result<Tensor, DataError> {
    let (dtype, shape) = tensor_type(proto)?;
    if proto.segment.is_some() {
        return Err(DataError::Data("segmented tensors are not supported".into()));
    }
    match proto.data_location {
        0 => {}
        1 if dtype == DType::String => {
            return Err(DataError::Data("strings cannot stand in an external file".into()));
        }
        1 => {
            let bytes = external.read(&proto.external_data, stored_bytes(dtype, shape.elements()))?;
            return from_raw(dtype, shape, &bytes);
        }
        other => return Err(DataError::Data(format!("data location {other} is not defined"))),
    }
    if dtype == DType::String {
        return strings(shape, &proto.string_data);
    }
    match &proto.raw_data {
        Some(raw) => from_raw(dtype, shape, raw),
        None => typed(dtype, shape, proto),
    }
}

/// Bytes that elements take in `raw_data` and in external files.
fn stored_bytes(dtype: DType, elements: usize) -> usize {
    match dtype.packed_bits() {
        Some(bits) => elements.div_ceil(8 / bits),
        None => elements.saturating_mul(dtype.size()),
    }
}

fn wrong_length(what: &str, found: usize, dtype: DType, shape: &Shape, expected: usize) -> DataError {
    DataError::Data(format!("{what} holds {found}, but {}{shape} takes {expected}", dtype.onnx_name()))
}

fn from_raw(dtype: DType, shape: Shape, raw: &[u8]) -> Result<Tensor, DataError> {
    let expected = stored_bytes(dtype, shape.elements());
    if raw.len() != expected {
        let what = format!("`raw_data` ({} bytes)", raw.len());
        return Err(wrong_length(&what, raw.len(), dtype, &shape, expected));
    }
    let Some(bits) = dtype.packed_bits() else {
        return Ok(Tensor::from_le_bytes(dtype, shape, raw)?);
    };
    let unpacked = unpack(dtype, bits, raw.iter().copied(), shape.elements());
    Ok(Tensor::from_le_bytes(dtype, shape, &unpacked)?)
}

/// Elements of `bits` bits, the first in the lowest; signed ones are extended.
fn unpack(dtype: DType, bits: usize, packed: impl Iterator<Item = u8>, elements: usize) -> Vec<u8> {
    let (mask, sign) = ((1u8 << bits) - 1, 1u8 << (bits - 1));
    let extend = |x: u8| if dtype.is_signed_int() && x & sign != 0 { x | !mask } else { x };
    packed
        .flat_map(|b| (0..8).step_by(bits).map(move |shift| b >> shift & mask))
        .take(elements)
        .map(extend)
        .collect()
}

fn strings(shape: Shape, data: &[Bytes]) -> Result<Tensor, DataError> {
    if data.len() != shape.elements() {
        return Err(wrong_length("`string_data`", data.len(), DType::String, &shape, shape.elements()));
    }
    let texts: Arc<[String]> = data
        .iter()
        .map(|s| {
            String::from_utf8(s.to_vec()).map_err(|_| DataError::Data("a string is not UTF-8 text".into()))
        })
        .collect::<Result<_, _>>()?;
    Ok(Tensor::from_data(shape, Data::String(texts))?)
}

/// From the typed field that ONNX prescribes for the element type.
fn typed(dtype: DType, shape: Shape, p: &TensorProto) -> Result<Tensor, DataError> {
    fn put<S: Copy, T: Element>(
        field: &str,
        values: &[S],
        shape: Shape,
        convert: impl Fn(S) -> T,
    ) -> Result<Tensor, DataError> {
        if values.len() != shape.elements() {
            return Err(wrong_length(field, values.len(), T::DTYPE, &shape, shape.elements()));
        }
        let data: Arc<[T]> = values.iter().map(|&v| convert(v)).collect();
        Ok(Tensor::new(shape, data)?)
    }
    let (i32s, narrow) = ("`int32_data`", &p.int32_data[..]);
    match dtype {
        DType::F32 => put("`float_data`", &p.float_data, shape, |v: f32| v),
        DType::F64 => put("`double_data`", &p.double_data, shape, |v: f64| v),
        DType::I64 => put("`int64_data`", &p.int64_data, shape, |v: i64| v),
        DType::U64 => put("`uint64_data`", &p.uint64_data, shape, |v: u64| v),
        DType::U32 => put("`uint64_data`", &p.uint64_data, shape, |v: u64| v as u32),
        DType::I32 => put(i32s, narrow, shape, |v: i32| v),
        DType::I16 => put(i32s, narrow, shape, |v: i32| v as i16),
        DType::I8 => put(i32s, narrow, shape, |v: i32| v as i8),
        DType::U16 => put(i32s, narrow, shape, |v: i32| v as u16),
        DType::U8 => put(i32s, narrow, shape, |v: i32| v as u8),
        DType::Bool => put(i32s, narrow, shape, |v: i32| v != 0),
        DType::F16 => put(i32s, narrow, shape, |v: i32| f16::from_bits(v as u16)),
        DType::Bf16 => put(i32s, narrow, shape, |v: i32| bf16::from_bits(v as u16)),
        DType::F8E4M3 => put(i32s, narrow, shape, |v: i32| F8E4M3(v as u8)),
        DType::F8E4M3Uz => put(i32s, narrow, shape, |v: i32| F8E4M3Uz(v as u8)),
        DType::F8E5M2 => put(i32s, narrow, shape, |v: i32| F8E5M2(v as u8)),
        DType::F8E5M2Uz => put(i32s, narrow, shape, |v: i32| F8E5M2Uz(v as u8)),
        DType::F8E8M0 => put(i32s, narrow, shape, |v: i32| F8E8M0(v as u8)),
        DType::I4 | DType::U4 | DType::F4E2M1 | DType::I2 | DType::U2 => {
            let expected = stored_bytes(dtype, shape.elements());
            if narrow.len() != expected {
                return Err(wrong_length(i32s, narrow.len(), dtype, &shape, expected));
            }
            let bits = dtype.packed_bits().unwrap_or(8);
            let unpacked = unpack(dtype, bits, narrow.iter().map(|&v| v as u8), shape.elements());
            match dtype {
                DType::I2 => put(i32s, &unpacked, shape, |v| I2(v as i8)),
                DType::U2 => put(i32s, &unpacked, shape, U2),
                DType::I4 => put(i32s, &unpacked, shape, |v| I4(v as i8)),
                DType::U4 => put(i32s, &unpacked, shape, U4),
                _ => put(i32s, &unpacked, shape, F4E2M1),
            }
        }
        DType::String => strings(shape, &p.string_data),
    }
}

/// A sparse tensor, made dense. Indices are linear (`[n]`) or by coordinates (`[n, rank]`).
pub fn decode_sparse(proto: &SparseTensorProto, external: &ExternalData) -> Result<Tensor, DataError> {
    let missing = || DataError::Data("a sparse tensor lacks its values or indices".into());
    let values = decode_tensor(proto.values.as_ref().ok_or_else(missing)?, external)?;
    let shape = checked_shape(values.dtype(), &proto.dims)?;
    if values.dtype() == DType::String {
        return Err(DataError::Data("sparse tensors of strings are not supported".into()));
    }
    let size = values.dtype().size();
    let mut dense = vec![0u8; shape.elements().saturating_mul(size)];
    let indices = match &proto.indices {
        Some(indices) => decode_tensor(indices, external)?,
        None if values.is_empty() => Tensor::vector::<i64>(&[]),
        None => return Err(missing()),
    };
    let positions = linear_indices(&indices, &shape, values.len())?;
    for (&position, value) in positions.iter().zip(values.to_le_bytes().chunks_exact(size)) {
        let at = position.saturating_mul(size);
        let to = dense
            .get_mut(at..at.saturating_add(size))
            .ok_or_else(|| DataError::Data(format!("index {position} lies outside {shape}")))?;
        to.copy_from_slice(value);
    }
    Ok(Tensor::from_le_bytes(values.dtype(), shape, &dense)?)
}

fn linear_indices(indices: &Tensor, shape: &Shape, count: usize) -> Result<Vec<usize>, DataError> {
    let wrong = || DataError::Data(format!("sparse indices of type {indices:?} do not fit {shape}"));
    let flat = indices.to_i64_vec().ok_or_else(wrong)?;
    let index = |v: i64, extent: usize| usize::try_from(v).ok().filter(|&i| i < extent).ok_or_else(wrong);
    match indices.shape().dims() {
        [n] if *n == count => flat.iter().map(|&v| index(v, shape.elements())).collect(),
        [n, rank] if *n == count && *rank == shape.rank() && *rank > 0 => flat
            .chunks_exact(*rank)
            .map(|point| {
                point.iter().zip(shape.iter()).try_fold(0usize, |at, (&v, &extent)| {
                    Ok(at.saturating_mul(extent).saturating_add(index(v, extent)?))
                })
            })
            .collect(),
        _ => Err(wrong()),
    }
}

/// A message with the tensor in `raw_data` (strings in `string_data`).
pub fn encode_tensor(name: impl Into<String>, tensor: &Tensor) -> TensorProto {
    let mut proto = TensorProto {
        name: name.into(),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: code_of_dtype(tensor.dtype()),
        ..TensorProto::default()
    };
    if let Data::String(texts) = tensor.data() {
        proto.string_data = texts.iter().map(|s| Bytes::from(s.clone().into_bytes())).collect();
        return proto;
    }
    let mut bytes = tensor.to_le_bytes();
    if let Some(bits) = tensor.dtype().packed_bits() {
        let mask = (1u8 << bits) - 1;
        let pack = |group: &[u8]| group.iter().rev().fold(0u8, |byte, x| byte << bits | x & mask);
        bytes = bytes.chunks(8 / bits).map(pack).collect();
    }
    proto.raw_data = Some(bytes.into());
    proto
}

/// A lone TensorProto file (`input_0.pb` of the ONNX test layout).
pub fn read_tensor_pb(bytes: &[u8]) -> Result<Tensor, DataError> {
    super::scan::scan_tensor(bytes).map_err(|e| DataError::Data(e.to_string()))?;
    let proto = TensorProto::decode(bytes).map_err(|e| DataError::Data(e.to_string()))?;
    decode_tensor(&proto, &ExternalData::none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(proto: &TensorProto) -> Result<Tensor, DataError> {
        decode_tensor(proto, &ExternalData::none())
    }

    #[test]
    fn raw_data_round_trips_in_every_type() {
        for &dtype in DType::ALL.iter().filter(|d| **d != DType::String) {
            let bytes: Vec<u8> = (0..5 * dtype.size() as u8)
                .map(|i| if dtype.packed_bits().is_some() || dtype == DType::Bool { i & 1 } else { i })
                .collect();
            let tensor = Tensor::from_le_bytes(dtype, [5], &bytes).unwrap();
            let proto = encode_tensor("t", &tensor);
            assert_eq!(decode(&proto).unwrap().to_le_bytes(), bytes, "{dtype}");
        }
    }

    #[test]
    fn typed_fields_are_read() {
        let narrow = |code, dims: i64, data: &[i32]| TensorProto {
            data_type: code,
            dims: vec![dims],
            int32_data: data.to_vec(),
            ..Default::default()
        };
        let half = decode(&narrow(10, 1, &[0x3c00])).unwrap();
        assert_eq!(half.to_f64_vec().unwrap(), [1.0]);
        let brain = decode(&narrow(16, 1, &[0x3f80])).unwrap();
        assert_eq!(brain.to_f64_vec().unwrap(), [1.0]);
        let fp8 = decode(&narrow(17, 1, &[0x38])).unwrap();
        assert_eq!(fp8.to_f64_vec().unwrap(), [1.0]);
        let int4 = decode(&narrow(22, 3, &[0xf1, 0x07])).unwrap();
        assert_eq!(int4.to_i64_vec().unwrap(), [1, -1, 7]);
        let uint4 = decode(&narrow(21, 2, &[0xf1])).unwrap();
        assert_eq!(uint4.to_i64_vec().unwrap(), [1, 15]);
        let u32s = TensorProto {
            data_type: 12,
            dims: vec![1],
            uint64_data: vec![u64::from(u32::MAX)],
            ..Default::default()
        };
        assert_eq!(decode(&u32s).unwrap().to_i64_vec().unwrap(), [i64::from(u32::MAX)]);
    }

    #[test]
    fn lies_about_lengths_are_refused() {
        let raw = |dims: &[i64], bytes: &[u8]| TensorProto {
            data_type: 1,
            dims: dims.to_vec(),
            raw_data: Some(bytes.to_vec().into()),
            ..Default::default()
        };
        assert!(matches!(decode(&raw(&[2], &[0; 7])), Err(DataError::Data(_))));
        assert!(matches!(decode(&raw(&[i64::MAX, 4], &[0; 8])), Err(DataError::Limit(_))));
        assert!(matches!(decode(&raw(&[-1], &[])), Err(DataError::Data(_))));
        assert!(decode(&raw(&[0, i64::MAX], &[])).unwrap().is_empty());
        assert!(matches!(
            decode(&TensorProto { data_type: 14, ..Default::default() }),
            Err(DataError::Data(_))
        ));
    }

    #[test]
    fn sparse_tensors_become_dense() {
        let sparse = SparseTensorProto {
            values: Some(encode_tensor("v", &Tensor::vector(&[5f32, 7.0]))),
            indices: Some(encode_tensor("i", &Tensor::new([2, 2], vec![0i64, 1, 1, 0]).unwrap())),
            dims: vec![2, 2],
        };
        let dense = decode_sparse(&sparse, &ExternalData::none()).unwrap();
        assert_eq!(dense.as_slice::<f32>().unwrap(), [0.0, 5.0, 7.0, 0.0]);
        let outside = SparseTensorProto { dims: vec![1, 2], ..sparse };
        assert!(decode_sparse(&outside, &ExternalData::none()).is_err());
    }
}
