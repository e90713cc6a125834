//! Arithmetic of the reference evaluation: element types widened to three classes.
//!
//! `f16` and `bf16` compute in `f32` and round once when stored; integers compute in wrapping `i64`,
//! whose low bits are those of the narrower type's wrapping arithmetic.

use super::OpError;
use super::fused::Fused;
use crate::ir::{DType, Element, Shape, Tensor, bf16, f16};
use std::borrow::Cow;

/// Which arithmetic an element type uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// `f32`, and the storage types `f16` and `bf16`.
    Single,
    /// `f64`.
    Double,
    /// Integers of 8 to 64 bits.
    Integer,
}

/// The class of an element type; types without arithmetic are refused.
pub(super) fn class(dtype: DType) -> Result<Class, OpError> {
    use DType::*;
    match dtype {
        F32 | F16 | Bf16 => Ok(Class::Single),
        F64 => Ok(Class::Double),
        I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 => Ok(Class::Integer),
        _ => Err(OpError::unsupported(format!("arithmetic on {dtype}"))),
    }
}

/// Runs `$body` with `$n` naming the number type of an element type.
macro_rules! by_class {
    ($dtype:expr, $n:ident => $body:expr) => {
        match $crate::ops::number::class($dtype)? {
            $crate::ops::number::Class::Single => {
                type $n = f32;
                $body
            }
            $crate::ops::number::Class::Double => {
                type $n = f64;
                $body
            }
            $crate::ops::number::Class::Integer => {
                type $n = i64;
                $body
            }
        }
    };
}
pub(super) use by_class;

/// A number of one class.
pub(super) trait Number: Copy + PartialEq + PartialOrd + std::fmt::Debug + 'static {
    /// Neutral element of addition.
    const ZERO: Self;
    /// Nothing is smaller.
    const LOWEST: Self;
    /// Sum; wraps for integers.
    fn add(self, other: Self) -> Self;
    /// Product; wraps for integers.
    fn mul(self, other: Self) -> Self;
    /// Nearest number.
    fn of(x: f64) -> Self;
    /// As `f64`.
    fn wide(self) -> f64;
    /// Whether it is not a number.
    fn is_nan(self) -> bool {
        self.partial_cmp(&self).is_none()
    }
    /// What an epilogue makes of it. Only `f32` knows more than the bias.
    fn fuse(self, fused: &Fused, bias: Self, residual: Self, slope: Self) -> Self;
    /// A tensor's elements in this class.
    fn load(tensor: &Tensor) -> Result<Cow<'_, [Self]>, OpError>;
    /// A tensor of these elements, rounded (floats) or wrapped (integers) to `dtype`.
    fn store(values: Vec<Self>, dtype: DType, shape: Shape) -> Result<Tensor, OpError>;
}

fn wrong(dtype: DType) -> OpError {
    OpError::internal(format!("{dtype} elements where another class was inferred"))
}

impl Number for f32 {
    const ZERO: Self = 0.0;
    const LOWEST: Self = f32::NEG_INFINITY;
    fn add(self, other: Self) -> Self {
        self + other
    }
    fn mul(self, other: Self) -> Self {
        self * other
    }
    fn of(x: f64) -> Self {
        x as f32
    }
    fn wide(self) -> f64 {
        self.into()
    }
    fn fuse(self, fused: &Fused, bias: Self, residual: Self, slope: Self) -> Self {
        fused.apply(self, bias, residual, slope)
    }
    fn load(tensor: &Tensor) -> Result<Cow<'_, [Self]>, OpError> {
        if let Some(v) = tensor.as_slice::<f32>() {
            return Ok(Cow::Borrowed(v));
        }
        if let Some(v) = tensor.as_slice::<f16>() {
            return Ok(v.iter().map(|x| x.to_f32()).collect());
        }
        if let Some(v) = tensor.as_slice::<bf16>() {
            return Ok(v.iter().map(|x| x.to_f32()).collect());
        }
        Err(wrong(tensor.dtype()))
    }
    fn store(values: Vec<Self>, dtype: DType, shape: Shape) -> Result<Tensor, OpError> {
        Ok(match dtype {
            DType::F32 => Tensor::new::<f32>(shape, values)?,
            DType::F16 => {
                Tensor::new::<f16>(shape, values.into_iter().map(f16::from_f32).collect::<Vec<_>>())?
            }
            DType::Bf16 => {
                Tensor::new::<bf16>(shape, values.into_iter().map(bf16::from_f32).collect::<Vec<_>>())?
            }
            other => return Err(wrong(other)),
        })
    }
}

impl Number for f64 {
    const ZERO: Self = 0.0;
    const LOWEST: Self = f64::NEG_INFINITY;
    fn add(self, other: Self) -> Self {
        self + other
    }
    fn mul(self, other: Self) -> Self {
        self * other
    }
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
    fn fuse(self, _fused: &Fused, bias: Self, _residual: Self, _slope: Self) -> Self {
        self + bias
    }
    fn load(tensor: &Tensor) -> Result<Cow<'_, [Self]>, OpError> {
        tensor.as_slice::<f64>().map(Cow::Borrowed).ok_or_else(|| wrong(tensor.dtype()))
    }
    fn store(values: Vec<Self>, dtype: DType, shape: Shape) -> Result<Tensor, OpError> {
        if dtype == DType::F64 { Ok(Tensor::new::<f64>(shape, values)?) } else { Err(wrong(dtype)) }
    }
}

impl Number for i64 {
    const ZERO: Self = 0;
    const LOWEST: Self = i64::MIN;
    fn add(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
    fn mul(self, other: Self) -> Self {
        self.wrapping_mul(other)
    }
    fn of(x: f64) -> Self {
        x as i64
    }
    fn wide(self) -> f64 {
        self as f64
    }
    fn fuse(self, _fused: &Fused, bias: Self, _residual: Self, _slope: Self) -> Self {
        self.wrapping_add(bias)
    }
    fn load(tensor: &Tensor) -> Result<Cow<'_, [Self]>, OpError> {
        if let Some(v) = tensor.as_slice::<i64>() {
            return Ok(Cow::Borrowed(v));
        }
        if let Some(v) = tensor.as_slice::<u64>() {
            return Ok(v.iter().map(|&x| x as i64).collect());
        }
        tensor.to_i64_vec().map(Cow::Owned).ok_or_else(|| wrong(tensor.dtype()))
    }
    fn store(values: Vec<Self>, dtype: DType, shape: Shape) -> Result<Tensor, OpError> {
        fn narrow<T: Element>(
            values: &[i64],
            shape: Shape,
            wrap: impl Fn(i64) -> T,
        ) -> Result<Tensor, OpError> {
            Ok(Tensor::new::<T>(shape, values.iter().map(|&v| wrap(v)).collect::<Vec<_>>())?)
        }
        match dtype {
            DType::I8 => narrow(&values, shape, |v| v as i8),
            DType::I16 => narrow(&values, shape, |v| v as i16),
            DType::I32 => narrow(&values, shape, |v| v as i32),
            DType::I64 => Ok(Tensor::new::<i64>(shape, values)?),
            DType::U8 => narrow(&values, shape, |v| v as u8),
            DType::U16 => narrow(&values, shape, |v| v as u16),
            DType::U32 => narrow(&values, shape, |v| v as u32),
            DType::U64 => narrow(&values, shape, |v| v as u64),
            other => Err(wrong(other)),
        }
    }
}

/// Floating-point types that edgec computes in.
pub(super) fn expect_float(dtype: DType) -> Result<(), OpError> {
    match dtype {
        DType::F32 | DType::F64 | DType::F16 | DType::Bf16 => Ok(()),
        other => Err(OpError::invalid(format!("operand type is {other}, expected a floating-point type"))),
    }
}

/// The operand types must be one.
pub(super) fn expect_same(a: DType, b: DType, what: &str) -> Result<(), OpError> {
    if a == b {
        Ok(())
    } else {
        Err(OpError::invalid(format!("`{what}` is {b}, but the first operand is {a}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_wrap_to_their_width() {
        let t = i64::store(vec![130, -129, 255], DType::I8, Shape::from([3])).unwrap();
        assert_eq!(t.as_slice::<i8>(), Some(&[-126i8, 127, -1][..]));
    }

    #[test]
    fn half_precision_rounds_once() {
        let t = f32::store(vec![1.0 + 1.0 / 4096.0], DType::F16, Shape::from([1])).unwrap();
        assert_eq!(t.to_f64_vec(), Some(vec![1.0]));
        assert!(f32::NAN.is_nan() && !Number::is_nan(1i64));
    }
}
