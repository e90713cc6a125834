//! Scalar arithmetic as ONNX defines it, and as this project defines it where ONNX does not.
//!
//! Nothing here panics. Integers wrap; `x / 0 == 0`, `x mod 0 == 0` and `MIN / -1` wraps; shifts by
//! the width or more give 0. NaN wins in [`max`], [`min`], [`above`] and [`below`].
//!
//! Conversions of ONNX Cast are `as` between numbers: floats to integers truncate towards zero,
//! saturate outside the range, and NaN becomes 0; integers wrap. A number is true when it is not 0.
//! Storage types go through [`F16::from_f64`](crate::operand::F16) and the like, rounded once.

mod divide;
mod half;
mod small;

pub use small::{
    Quantizable, quantize_i2, quantize_i4, quantize_i8, quantize_i16, quantize_u2, quantize_u4, quantize_u8,
    quantize_u16, wrap_i2, wrap_i4, wrap_u2, wrap_u4,
};

pub(crate) use divide::{ceiling, quotient, remainder};

/// Types that expressions calculate with: all integers, `f32`, `f64`.
pub trait Number: Copy + PartialOrd + 'static {
    /// Identity of [`max`]: minus infinity, or the smallest integer.
    const LOWEST: Self;
    /// Identity of [`min`]: infinity, or the largest integer.
    const HIGHEST: Self;
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;

    /// See [`add`].
    fn add(self, other: Self) -> Self;
    /// See [`sub`].
    fn sub(self, other: Self) -> Self;
    /// See [`mul`].
    fn mul(self, other: Self) -> Self;
    /// See [`div`].
    fn div(self, other: Self) -> Self;
    /// See [`modulo`].
    fn modulo(self, other: Self) -> Self;
    /// See [`fmod`].
    fn fmod(self, other: Self) -> Self;
    /// See [`pow`].
    fn pow(self, exponent: Self) -> Self;
    /// See [`neg`].
    fn neg(self) -> Self;
    /// See [`abs`].
    fn abs(self) -> Self;
    /// See [`sign`].
    fn sign(self) -> Self;
}

/// Integers: [`Number`]s with bits.
pub trait Integer: Number {
    /// See [`shl`].
    fn shl(self, by: Self) -> Self;
    /// See [`shr`].
    fn shr(self, by: Self) -> Self;
}

macro_rules! floats {
    ($($t:ident in $math:ident),*) => {$(
        impl Number for $t {
            const LOWEST: Self = $t::NEG_INFINITY;
            const HIGHEST: Self = $t::INFINITY;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                self / other
            }
            #[inline(always)]
            fn modulo(self, other: Self) -> Self {
                let rest = self % other;
                if rest == 0.0 {
                    rest.abs().copysign(other)
                } else if (rest < 0.0) != (other < 0.0) {
                    rest + other
                } else {
                    rest
                }
            }
            #[inline(always)]
            fn fmod(self, other: Self) -> Self {
                self % other
            }
            #[inline(always)]
            fn pow(self, exponent: Self) -> Self {
                crate::math::$math::pow(self, exponent)
            }
            #[inline(always)]
            fn neg(self) -> Self {
                -self
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $t::abs(self)
            }
            #[inline(always)]
            fn sign(self) -> Self {
                if self > 0.0 {
                    1.0
                } else if self < 0.0 {
                    -1.0
                } else {
                    // Zero, or NaN.
                    self + 0.0
                }
            }
        }
    )*};
}

floats!(f32 in single, f64 in double);

macro_rules! integers {
    ($($t:ident: $signed:literal),*) => {$(
        impl Number for $t {
            const LOWEST: Self = $t::MIN;
            const HIGHEST: Self = $t::MAX;
            const ZERO: Self = 0;
            const ONE: Self = 1;

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            #[allow(unused_comparisons)]
            fn modulo(self, other: Self) -> Self {
                let rest = self.fmod(other);
                if rest != 0 && (rest < 0) != (other < 0) { rest.wrapping_add(other) } else { rest }
            }
            #[inline(always)]
            fn fmod(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_rem(other) }
            }
            #[inline]
            #[allow(unused_comparisons)]
            fn pow(self, exponent: Self) -> Self {
                if exponent < 0 {
                    // 1/x truncated, where |x| = 1 gives ±1 and 1/0 = 0.
                    let odd = exponent & 1 == 1;
                    let unit = self == 1 || ($signed && self == (0 as $t).wrapping_sub(1));
                    return if unit { if odd { self } else { 1 } } else { 0 };
                }
                let (mut left, mut square, mut product) = (exponent, self, 1 as $t);
                while left > 0 {
                    if left & 1 == 1 {
                        product = product.wrapping_mul(square);
                    }
                    square = square.wrapping_mul(square);
                    left >>= 1;
                }
                product
            }
            #[inline(always)]
            fn neg(self) -> Self {
                self.wrapping_neg()
            }
            #[inline(always)]
            #[allow(unused_comparisons)]
            fn abs(self) -> Self {
                if self < 0 { self.wrapping_neg() } else { self }
            }
            #[inline(always)]
            #[allow(unused_comparisons)]
            fn sign(self) -> Self {
                if self > 0 {
                    1
                } else if self < 0 {
                    (0 as $t).wrapping_sub(1)
                } else {
                    0
                }
            }
        }

        impl Integer for $t {
            #[inline(always)]
            fn shl(self, by: Self) -> Self {
                match u32::try_from(by) {
                    Ok(by) => self.checked_shl(by).unwrap_or(0),
                    Err(_) => 0,
                }
            }
            #[inline(always)]
            fn shr(self, by: Self) -> Self {
                // All bits of the sign, of which unsigned types have none.
                let beyond = if $signed { self >> (<$t>::BITS - 1) } else { 0 };
                match u32::try_from(by) {
                    Ok(by) => self.checked_shr(by).unwrap_or(beyond),
                    Err(_) => beyond,
                }
            }
        }
    )*};
}

integers!(i8: true, i16: true, i32: true, i64: true, u8: false, u16: false, u32: false, u64: false);

/// `a + b`. ONNX Add.
#[inline(always)]
pub fn add<T: Number>(a: T, b: T) -> T {
    a.add(b)
}

/// `a - b`. ONNX Sub.
#[inline(always)]
pub fn sub<T: Number>(a: T, b: T) -> T {
    a.sub(b)
}

/// `a · b`. ONNX Mul.
#[inline(always)]
pub fn mul<T: Number>(a: T, b: T) -> T {
    a.mul(b)
}

/// `a / b`; integers truncate, and `x / 0 == 0`. ONNX Div.
#[inline(always)]
pub fn div<T: Number>(a: T, b: T) -> T {
    a.div(b)
}

/// Remainder with the divisor's sign, as Python's; integers: `x mod 0 == 0`. ONNX Mod, `fmod == 0`.
#[inline(always)]
pub fn modulo<T: Number>(a: T, b: T) -> T {
    a.modulo(b)
}

/// Remainder with the dividend's sign, as C's; integers: `x mod 0 == 0`. ONNX Mod, `fmod == 1`.
#[inline(always)]
pub fn fmod<T: Number>(a: T, b: T) -> T {
    a.fmod(b)
}

/// `a` to the power `b`; integers wrap, and negative exponents truncate. ONNX Pow.
#[inline(always)]
pub fn pow<T: Number>(a: T, b: T) -> T {
    a.pow(b)
}

/// `-a`. ONNX Neg.
#[inline(always)]
pub fn neg<T: Number>(a: T) -> T {
    a.neg()
}

/// `|a|`; the smallest signed integer stays itself. ONNX Abs.
#[inline(always)]
pub fn abs<T: Number>(a: T) -> T {
    a.abs()
}

/// -1, 0 or 1; NaN stays NaN. ONNX Sign.
#[inline(always)]
pub fn sign<T: Number>(a: T) -> T {
    a.sign()
}

/// The larger; NaN if either is. ONNX Max, ReduceMax.
#[inline(always)]
#[allow(clippy::eq_op)] // true for NaN only
pub fn max<T: Number>(a: T, b: T) -> T {
    if a > b || a != a { a } else { b }
}

/// The smaller; NaN if either is. ONNX Min, ReduceMin.
#[inline(always)]
#[allow(clippy::eq_op)] // true for NaN only
pub fn min<T: Number>(a: T, b: T) -> T {
    if a < b || a != a { a } else { b }
}

/// Whether `a` replaces `best` as the largest: it is larger, or the first NaN. ONNX ArgMax.
#[inline(always)]
#[allow(clippy::eq_op)] // true for NaN only
pub fn above<T: Number>(a: T, best: T) -> bool {
    a > best || (a != a && best == best)
}

/// Whether `a` replaces `best` as the smallest: it is smaller, or the first NaN. ONNX ArgMin.
#[inline(always)]
#[allow(clippy::eq_op)] // true for NaN only
pub fn below<T: Number>(a: T, best: T) -> bool {
    a < best || (a != a && best == best)
}

/// Whether `a` is not a number. ONNX IsNaN.
#[inline(always)]
#[allow(clippy::eq_op)] // true for NaN only
pub fn is_nan<T: Number>(a: T) -> bool {
    a != a
}

/// Whether `a` is one of the infinities asked for; false for integers. ONNX IsInf.
#[inline(always)]
pub fn is_inf<T: Number>(a: T, positive: bool, negative: bool) -> bool {
    let finite_type = T::ONE.div(T::ZERO) != T::HIGHEST;
    !finite_type && ((positive && a == T::HIGHEST) || (negative && a == T::LOWEST))
}

/// `a << b`; 0 where `b` is the width or more. ONNX BitShift LEFT.
#[inline(always)]
pub fn shl<T: Integer>(a: T, b: T) -> T {
    a.shl(b)
}

/// `a >> b`; 0 where `b` is the width or more. ONNX BitShift RIGHT.
#[inline(always)]
pub fn shr<T: Integer>(a: T, b: T) -> T {
    a.shr(b)
}

#[cfg(test)]
mod tests;
