//! Conversions of the storage types, rounded to nearest, ties to even.

use crate::operand::{Bf16, F16};

impl F16 {
    /// The nearest binary16: infinite from 65520 on, denormals kept, NaN quiet.
    #[inline(always)]
    pub fn from_f32(value: f32) -> F16 {
        let bits = value.to_bits();
        let sign = (bits >> 16) as u16 & 0x8000;
        let size = bits & 0x7fff_ffff;
        // Normal: rebias the exponent and round by carry.
        let carry = 0xfff + (size >> 13 & 1);
        let normal = (size.wrapping_add(carry).wrapping_sub(112 << 23) >> 13) as u16;
        // Denormal: adding 1/2 moves units of 2⁻²⁴ to the end of the mantissa, rounded.
        let small = (f32::from_bits(size) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits()) as u16;
        let half = if size < 0x3880_0000 { small } else { normal };
        let half = if size >= 0x477f_f000 { 0x7c00 } else { half };
        let half = if size > 0x7f80_0000 { 0x7e00 } else { half };
        F16(sign | half)
    }

    /// The nearest binary16, rounded once.
    #[inline(always)]
    pub fn from_f64(value: f64) -> F16 {
        F16::from_f32(to_odd(value))
    }

    /// The same number.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        let sign = u32::from(self.0 & 0x8000) << 16;
        let size = u32::from(self.0 & 0x7fff) << 13;
        // The exponent is too small by 112; the product is exact, for denormals too.
        let value = f32::from_bits(size) * f32::from_bits((112 + 127) << 23);
        let top = if size >= 0x0f80_0000 { 0x7f80_0000 } else { 0 };
        f32::from_bits(value.to_bits() | sign | top)
    }
}

impl Bf16 {
    /// The nearest bfloat16: denormals kept, NaN quiet.
    #[inline(always)]
    pub fn from_f32(value: f32) -> Bf16 {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        let nan = bits & 0x7fff_ffff > 0x7f80_0000;
        Bf16((if nan { bits | 0x0040_0000 } else { rounded } >> 16) as u16)
    }

    /// The nearest bfloat16, rounded once.
    #[inline(always)]
    pub fn from_f64(value: f64) -> Bf16 {
        Bf16::from_f32(to_odd(value))
    }

    /// The same number.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

/// `value` rounded to odd: an inexact result is the neighbour with an odd mantissa, so that a second
/// rounding to fewer bits gives what a single one would have given.
#[inline(always)]
pub(super) fn to_odd(value: f64) -> f32 {
    let near = value as f32;
    let exact = f64::from(near) == value || value.is_nan();
    let outward = f64::from(near).abs() > value.abs();
    let bits = near.to_bits();
    let down = if outward { bits.wrapping_sub(1) } else { bits };
    f32::from_bits(if exact { bits } else { down | 1 })
}
