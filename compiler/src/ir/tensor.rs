//! Tensors known at compile time: weights, folded values, samples.

use super::element::{F4E2M1, F8E4M3, F8E4M3Uz, F8E5M2, F8E5M2Uz, F8E8M0, I2, I4, U2, U4};
use super::{DType, Element, Shape};
use half::{bf16, f16};
use std::fmt;
use std::sync::Arc;

/// Writes the `Data` enum and the matches over it from one list of types.
macro_rules! data {
    ($($variant:ident($t:ty)),* $(,)?) => {
        /// The elements of a tensor, row-major. Cheap to clone.
        #[derive(Clone, PartialEq)]
        #[allow(missing_docs)] // one variant per element type
        pub enum Data { $($variant(Arc<[$t]>),)* String(Arc<[String]>) }

        impl Data {
            /// Their type.
            pub fn dtype(&self) -> DType {
                match self { $(Data::$variant(_) => DType::$variant,)* Data::String(_) => DType::String }
            }

            /// Their number.
            pub fn len(&self) -> usize {
                match self { $(Data::$variant(v) => v.len(),)* Data::String(v) => v.len() }
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Zeros (false) of a numeric type; `None` for strings.
            fn read(dtype: DType, bytes: &[u8]) -> Option<Data> {
                match dtype {
                    $(DType::$variant => Some(Data::$variant(
                        bytes.chunks_exact(dtype.size()).map(<$t as Element>::read_le).collect(),
                    )),)*
                    DType::String => None,
                }
            }
        }

        /// Runs `$body` with `$v` bound to the typed elements; `$string` for strings. `Data` must be
        /// in scope.
        macro_rules! for_each_type {
            ($data:expr, $v:ident => $body:expr, $string:expr) => {
                match $data { $(Data::$variant($v) => $body,)* Data::String(_) => $string }
            };
        }
    };
}

data! {
    F32(f32), F64(f64), F16(f16), Bf16(bf16), I8(i8), I16(i16), I32(i32), I64(i64), U8(u8), U16(u16),
    U32(u32), U64(u64), Bool(bool), I4(I4), U4(U4), I2(I2), U2(U2), F8E4M3(F8E4M3), F8E4M3Uz(F8E4M3Uz), F8E5M2(F8E5M2),
    F8E5M2Uz(F8E5M2Uz), F8E8M0(F8E8M0), F4E2M1(F4E2M1),
}

pub(crate) use for_each_type;

/// Why a tensor could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TensorError {
    /// The number of elements differs from the shape's.
    Length {
        /// Shape asked for.
        shape: Shape,
        /// Elements found.
        found: usize,
    },
}

impl fmt::Display for TensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TensorError::Length { shape, found } => {
                write!(f, "{found} elements for a tensor of shape {shape}")
            }
        }
    }
}

impl std::error::Error for TensorError {}

/// A dense row-major tensor.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Data,
}

impl Tensor {
    /// A tensor of `data`; its length must be the shape's.
    pub fn new<T: Element>(shape: impl Into<Shape>, data: impl Into<Arc<[T]>>) -> Result<Self, TensorError> {
        Self::from_data(shape.into(), T::wrap(data.into()))
    }

    /// A tensor of already typed data; its length must be the shape's.
    pub fn from_data(shape: Shape, data: Data) -> Result<Self, TensorError> {
        let found = data.len();
        if shape.checked_len() != Some(found) {
            return Err(TensorError::Length { shape, found });
        }
        Ok(Tensor { shape, data })
    }

    /// A tensor whose element at each row-major index is `f(index)`.
    pub fn from_fn<T: Element>(shape: impl Into<Shape>, f: impl FnMut(usize) -> T) -> Self {
        let shape = shape.into();
        let data: Arc<[T]> = (0..shape.elements()).map(f).collect();
        Tensor { shape, data: T::wrap(data) }
    }

    /// A tensor of equal elements.
    pub fn full<T: Element>(shape: impl Into<Shape>, value: T) -> Self {
        Self::from_fn(shape, |_| value)
    }

    /// A scalar.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self::full(Shape::scalar(), value)
    }

    /// A one-dimensional tensor.
    pub fn vector<T: Element>(values: &[T]) -> Self {
        Tensor { shape: Shape::from([values.len()]), data: T::wrap(values.into()) }
    }

    /// Its shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Its elements as `T`, or `None` where they are of another type.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        T::unwrap_data(&self.data)
    }

    /// The same elements under another shape of as many elements.
    pub fn reshaped(&self, shape: impl Into<Shape>) -> Result<Self, TensorError> {
        Self::from_data(shape.into(), self.data.clone())
    }

    /// The first `len` elements along an axis; `None` where there are fewer, or no such axis, and of strings.
    pub fn truncated(&self, axis: usize, len: usize) -> Option<Self> {
        let extent = *self.shape.get(axis)?;
        if len > extent {
            return None;
        }
        let mut shape = self.shape.to_vec();
        *shape.get_mut(axis)? = len;
        let row = self.shape.iter().skip(axis + 1).product::<usize>() * self.dtype().size();
        let bytes = self.to_le_bytes();
        let kept: Vec<u8> = match row * extent {
            0 => Vec::new(),
            rows => bytes.chunks(rows).flat_map(|rows| rows.iter().take(row * len)).copied().collect(),
        };
        Self::from_le_bytes(self.dtype(), shape, &kept).ok()
    }

    /// Elements as `f64` (strings give `None`); 64-bit integers round.
    pub fn to_f64_vec(&self) -> Option<Vec<f64>> {
        for_each_type!(&self.data, v => Some(v.iter().map(|x| x.to_f64()).collect()), None)
    }

    /// Elements as `i64` for integer and bool tensors; `None` for others, and for `u64` out of range.
    pub fn to_i64_vec(&self) -> Option<Vec<i64>> {
        for_each_type!(&self.data, v => v.iter().map(|x| x.to_i64()).collect(), None)
    }

    /// The single element of a one-element tensor.
    pub fn to_scalar_f64(&self) -> Option<f64> {
        if self.len() == 1 { self.to_f64_vec()?.first().copied() } else { None }
    }

    /// Every element equals the first; `false` when empty.
    pub fn is_uniform(&self) -> bool {
        for_each_type!(&self.data, v => match v.split_first() {
            Some((first, rest)) => rest.iter().all(|x| x == first),
            None => false,
        }, false)
    }

    /// Little-endian bytes as they stand in the arena or the blob (4-bit types one byte each).
    pub fn to_le_bytes(&self) -> Vec<u8> {
        for_each_type!(&self.data, v => {
            let mut out = Vec::with_capacity(v.len() * self.dtype().size());
            for x in v.iter() {
                x.write_le(&mut out);
            }
            out
        }, Vec::new())
    }

    /// [`Tensor::to_le_bytes`] with axis 1 moved to the end: images as cameras hand them over.
    pub fn to_le_bytes_channels_last(&self) -> Vec<u8> {
        let bytes = self.to_le_bytes();
        let [batch, channels, spatial @ ..] = self.shape.dims() else { return bytes };
        let (points, size) = (spatial.iter().product::<usize>(), self.dtype().size());
        let mut out = Vec::with_capacity(bytes.len());
        for n in 0..*batch {
            for p in 0..points {
                for c in 0..*channels {
                    let at = ((n * channels + c) * points + p) * size;
                    out.extend_from_slice(bytes.get(at..at + size).unwrap_or_default());
                }
            }
        }
        out
    }

    /// A tensor from little-endian bytes, the inverse of [`Tensor::to_le_bytes`].
    pub fn from_le_bytes(dtype: DType, shape: impl Into<Shape>, bytes: &[u8]) -> Result<Self, TensorError> {
        let shape = shape.into();
        let found = bytes.len().checked_div(dtype.size()).unwrap_or(0);
        let whole = found.checked_mul(dtype.size()) == Some(bytes.len());
        match Data::read(dtype, bytes) {
            Some(data) if whole => Self::from_data(shape, data),
            _ => Err(TensorError::Length { shape, found }),
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype(), self.shape)?;
        if self.len() <= 16 {
            match (&self.data, self.to_f64_vec()) {
                (Data::String(v), _) => write!(f, " {v:?}")?,
                (_, Some(v)) => write!(f, " {v:?}")?,
                _ => {}
            }
        }
        Ok(())
    }
}
