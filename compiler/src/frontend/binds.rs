//! Tensors that options bind to inputs, in the types that the model declares.

use std::borrow::Cow;

use super::inputs::{Declared, Dim};
use crate::ir::{DType, Tensor};

/// A tensor as the input wants it, where that is the same numbers: whole numbers become any type that holds all of
/// them, and one number a vector of one, as options cannot write either.
pub(super) fn fitted<'t>(tensor: &'t Tensor, ty: &Declared<'_>) -> Cow<'t, Tensor> {
    let mut out = Cow::Borrowed(tensor);
    if let (true, Some(other)) = (tensor.dtype() == DType::I64, typed(tensor, ty.dtype)) {
        out = Cow::Owned(other);
    }
    let one = |dim: &Dim<'_>| matches!(dim, Dim::Open(_) | Dim::Value(1));
    if tensor.shape().rank() == 0
        && ty.dims.as_ref().is_some_and(|dims| matches!(dims.as_slice(), [dim] if one(dim)))
        && let Ok(vector) = out.reshaped(vec![1])
    {
        out = Cow::Owned(vector);
    }
    out
}

/// Whole numbers in another type; `None` where it does not hold one of them.
fn typed(tensor: &Tensor, to: DType) -> Option<Tensor> {
    let values = tensor.to_i64_vec()?;
    macro_rules! whole {
        ($($dtype:ident => $t:ty),+) => {
            match to {
                $(DType::$dtype => values
                    .iter()
                    .map(|&v| <$t>::try_from(v).ok())
                    .collect::<Option<Vec<$t>>>()
                    .map(|v| Tensor::vector(&v)),)+
                DType::F32 => {
                    let exact = values.iter().all(|&v| v.unsigned_abs() <= 1 << f32::MANTISSA_DIGITS);
                    exact.then(|| Tensor::vector(&values.iter().map(|&v| v as f32).collect::<Vec<_>>()))
                }
                DType::F64 => {
                    let exact = values.iter().all(|&v| v.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS);
                    exact.then(|| Tensor::vector(&values.iter().map(|&v| v as f64).collect::<Vec<_>>()))
                }
                DType::Bool => {
                    let bits = values.iter().all(|v| matches!(v, 0 | 1));
                    bits.then(|| Tensor::vector(&values.iter().map(|&v| v == 1).collect::<Vec<_>>()))
                }
                _ => None,
            }
        };
    }
    let vector = whole!(I8 => i8, I16 => i16, I32 => i32, U8 => u8, U16 => u16, U32 => u32, U64 => u64)?;
    vector.reshaped(tensor.shape().to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(dtype: DType, dims: Option<Vec<Dim<'static>>>) -> Declared<'static> {
        Declared { dtype, dims }
    }

    #[test]
    fn whole_numbers_take_the_type_that_is_declared() {
        let given = Tensor::vector(&[2i64, 0]);
        let to = |dtype| fitted(&given, &declared(dtype, None)).into_owned();
        assert_eq!(to(DType::I32), Tensor::vector(&[2i32, 0]));
        assert_eq!(to(DType::F32), Tensor::vector(&[2.0f32, 0.0]));
        assert_eq!(to(DType::F64), Tensor::vector(&[2.0f64, 0.0]));
        // No bool is 2.
        assert_eq!(to(DType::Bool), given);
        let bits = Tensor::vector(&[1i64, 0]);
        assert_eq!(fitted(&bits, &declared(DType::Bool, None)).into_owned(), Tensor::vector(&[true, false]));
    }

    #[test]
    fn what_a_type_does_not_hold_stays_and_is_refused_later() {
        for (value, dtype) in [(300, DType::U8), (-1, DType::U32), ((1 << 24) + 1, DType::F32)] {
            let given = Tensor::vector(&[value]);
            assert_eq!(fitted(&given, &declared(dtype, None)).into_owned(), given);
        }
        // Reals are not rounded to whole numbers, nor widened from their nearest float.
        let real = Tensor::vector(&[0.1f32]);
        assert_eq!(fitted(&real, &declared(DType::F64, None)).into_owned(), real);
    }

    #[test]
    fn one_number_is_a_vector_of_one_where_that_is_declared() {
        let scalar = Tensor::scalar(4i64);
        let one = fitted(&scalar, &declared(DType::I64, Some(vec![Dim::Value(1)]))).into_owned();
        assert_eq!(one, Tensor::vector(&[4i64]));
        for dims in [Some(vec![]), Some(vec![Dim::Value(2)]), None] {
            assert_eq!(fitted(&scalar, &declared(DType::I64, dims)).into_owned(), scalar);
        }
    }
}
