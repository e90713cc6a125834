//! Numbers of few bits: 8- and 4-bit floats, 4- and 2-bit integers, and quantization to integers.
//!
//! A number of fewer than eight bits takes a byte; integers are sign-extended in it.

use crate::operand::{F4E2M1, F8E4M3, F8E4M3Uz, F8E5M2, F8E5M2Uz, F8E8M0};

/// How a format spends its bits. Codes below the sign bit grow with the number's size.
#[derive(Clone, Copy)]
struct Format {
    /// Bits of the mantissa.
    mantissa: u32,
    /// What is added to the exponent.
    bias: u32,
    /// The sign bit.
    sign: u8,
    /// Code of the largest number.
    largest: u8,
    /// Code of what rounds beyond it: infinity, NaN, or the largest number.
    beyond: u8,
    /// Code of NaN; zero where there is none.
    nan: u8,
    /// Codes from this one on, without sign, are infinity and NaN as in IEEE 754.
    infinite: u8,
    /// Whether zero has a sign.
    signed_zero: bool,
}

const E4M3: Format = Format {
    mantissa: 3,
    bias: 7,
    sign: 0x80,
    largest: 0x7e,
    beyond: 0x7f,
    nan: 0x7f,
    infinite: 0xff,
    signed_zero: true,
};
const E4M3UZ: Format = Format { bias: 8, largest: 0x7f, beyond: 0x80, nan: 0x80, signed_zero: false, ..E4M3 };
const E5M2: Format = Format {
    mantissa: 2,
    bias: 15,
    sign: 0x80,
    largest: 0x7b,
    beyond: 0x7c,
    nan: 0x7f,
    infinite: 0x7c,
    signed_zero: true,
};
const E5M2UZ: Format =
    Format { bias: 16, largest: 0x7f, beyond: 0x80, nan: 0x80, infinite: 0xff, signed_zero: false, ..E5M2 };
const E2M1: Format = Format {
    mantissa: 1,
    bias: 1,
    sign: 8,
    largest: 7,
    beyond: 7,
    nan: 0,
    infinite: 0xff,
    signed_zero: true,
};

/// The nearest code, ties to even.
#[inline(always)]
fn encode(value: f32, f: Format) -> u8 {
    let bits = value.to_bits();
    let size = bits & 0x7fff_ffff;
    let shift = 23 - f.mantissa;
    // Normal: rebias the exponent and round by carry.
    let carry = (1 << (shift - 1)) - 1 + (size >> shift & 1);
    let normal = (size.wrapping_add(carry) >> shift).wrapping_sub((127 - f.bias) << f.mantissa);
    // Denormal: adding a power of two moves units to the end of the mantissa, rounded.
    let unit = (127 + 1 + 23 - f.bias - f.mantissa) << 23;
    let small = (f32::from_bits(size) + f32::from_bits(unit)).to_bits().wrapping_sub(unit);
    let code = if size < (128 - f.bias) << 23 { small } else { normal };
    let code = if code > u32::from(f.largest) { f.beyond } else { code as u8 };
    let negative = bits >> 31 != 0 && (f.signed_zero || code != 0);
    let code = if negative { code | f.sign } else { code };
    if size > 0x7f80_0000 { f.nan } else { code }
}

/// The number behind a code.
#[inline(always)]
fn decode(code: u8, f: Format) -> f32 {
    let plain = code & (f.sign - 1);
    let size = u32::from(plain) << (23 - f.mantissa);
    // The exponent is too small; the product is exact, for denormals too.
    let value = f32::from_bits(size) * f32::from_bits((254 - f.bias) << 23);
    let value = if plain >= f.infinite { f32::from_bits(size | 0x7f80_0000) } else { value };
    let value = if code & f.sign != 0 { -value } else { value };
    let nan = f.nan != 0 && (if f.signed_zero { plain == f.nan } else { code == f.nan });
    if nan { f32::NAN } else { value }
}

macro_rules! conversions {
    ($($t:ident as $format:ident),*) => {$(
        impl $t {
            /// The nearest number, ties to even; what rounds beyond the largest becomes infinity, NaN, or the
            /// largest, whichever the format has first.
            #[inline(always)]
            pub fn from_f32(value: f32) -> Self {
                $t(encode(value, $format))
            }

            /// [`from_f32`](Self::from_f32), rounded once.
            #[inline(always)]
            pub fn from_f64(value: f64) -> Self {
                Self::from_f32(super::half::to_odd(value))
            }

            /// The same number.
            #[inline(always)]
            pub fn to_f32(self) -> f32 {
                decode(self.0, $format)
            }
        }
    )*};
}

conversions!(F8E4M3 as E4M3, F8E4M3Uz as E4M3UZ, F8E5M2 as E5M2, F8E5M2Uz as E5M2UZ, F4E2M1 as E2M1);

impl F8E8M0 {
    /// The power of two at or above the number's size; NaN for what is not finite. Exact for powers of two.
    #[inline(always)]
    pub fn from_f32(value: f32) -> Self {
        Self::rounded(value, 1)
    }

    /// [`from_f32`](Self::from_f32) of the number's neighbour in `f32` that lies further out.
    #[inline(always)]
    pub fn from_f64(value: f64) -> Self {
        Self::from_f32(super::half::to_odd(value))
    }

    /// The power of two at or below the number's size.
    #[inline(always)]
    pub fn down(value: f32) -> Self {
        Self::rounded(value, 0x80_0000)
    }

    /// The nearer power of two; ties go up.
    #[inline(always)]
    pub fn nearest(value: f32) -> Self {
        Self::rounded(value, 0x40_0000)
    }

    /// The power of two below, or the one above for mantissas from `up` on (of 2²³).
    #[inline(always)]
    fn rounded(value: f32, up: u32) -> Self {
        let size = value.to_bits() & 0x7fff_ffff;
        let normal = (size >> 23) + u32::from(size & 0x7f_ffff >= up);
        // 2⁻¹²⁷ is the lowest; below 2⁻¹²⁶ the mantissa has one bit less.
        let small = u32::from(size > 0x40_0000 && (size & 0x3f_ffff) << 1 >= up);
        let code = if size < 0x80_0000 { small } else { normal };
        F8E8M0(if size >= 0x7f80_0000 { 0xff } else { code.min(254) as u8 })
    }

    /// The same number.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        let bits = if self.0 == 0 { 0x40_0000 } else { u32::from(self.0) << 23 };
        if self.0 == 0xff { f32::NAN } else { f32::from_bits(bits) }
    }
}

macro_rules! narrow {
    ($($wrap:ident $t:ident $bits:literal),*) => {$(
        #[doc = concat!("The low ", $bits, " bits, as an integer of that many bits.")]
        #[inline(always)]
        pub fn $wrap(x: $t) -> $t {
            x << (8 - $bits) >> (8 - $bits)
        }
    )*};
}

narrow!(
    wrap_i4 i8 4,
    wrap_u4 u8 4,
    wrap_i2 i8 2,
    wrap_u2 u8 2
);

/// What is quantized: `f32` and `f64`.
pub trait Quantizable: Copy {
    /// Nearest integer, ties to even, within `low..=high`, which lie within ±2²⁰; NaN gives `low`.
    fn nearest_within(self, low: i32, high: i32) -> i32;
}

impl Quantizable for f32 {
    #[inline(always)]
    fn nearest_within(self, low: i32, high: i32) -> i32 {
        // Adding 1.5·2²³ leaves no bits behind the point, and the integer in the lower bits.
        const ROUNDER: f32 = 12_582_912.0;
        let (low, high) = (low as f32, high as f32);
        let x = if self > low { self } else { low };
        let x = if x < high { x } else { high };
        ((x + ROUNDER).to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32)
    }
}

impl Quantizable for f64 {
    #[inline(always)]
    fn nearest_within(self, low: i32, high: i32) -> i32 {
        // 1.5·2⁵²; the lower half of the sum is the integer.
        const ROUNDER: f64 = 6_755_399_441_055_744.0;
        let (low, high) = (f64::from(low), f64::from(high));
        let x = if self > low { self } else { low };
        let x = if x < high { x } else { high };
        (x + ROUNDER).to_bits() as i32
    }
}

macro_rules! quantize {
    ($($name:ident $t:ident $low:literal $high:literal),*) => {$(
        #[doc = concat!("`clamp(zero + RNE(x), ", $low, "..=", $high, ")`; NaN gives the lowest. `zero` is itself in that range.")]
        #[inline(always)]
        pub fn $name<T: Quantizable>(x: T, zero: i32) -> $t {
            // A zero point outside of its type's range would let the bounds wrap; it is cut off.
            let zero = zero.clamp($low, $high);
            (x.nearest_within($low - zero, $high - zero) + zero) as $t
        }
    )*};
}

quantize!(
    quantize_i8 i8 -128 127,
    quantize_u8 u8 0 255,
    quantize_i16 i16 -32768 32767,
    quantize_u16 u16 0 65535,
    quantize_i4 i8 -8 7,
    quantize_u4 u8 0 15,
    quantize_i2 i8 -2 1,
    quantize_u2 u8 0 3
);

#[cfg(test)]
mod tests {
    use super::*;

    /// A code's value from its definition.
    fn value(code: u8, f: Format) -> f64 {
        let plain = code & (f.sign - 1);
        let exponent = i32::from(plain >> f.mantissa);
        let fraction = f64::from(plain & ((1 << f.mantissa) - 1)) / f64::from(1 << f.mantissa);
        let (lead, exponent) = if exponent == 0 { (0.0, 1) } else { (1.0, exponent) };
        let size = (lead + fraction) * f64::from(exponent - f.bias as i32).exp2();
        if code & f.sign != 0 { -size } else { size }
    }

    #[test]
    fn every_code_is_its_number_and_back() {
        for f in [E4M3, E4M3UZ, E5M2, E5M2UZ, E2M1] {
            for plain in 0..=f.largest {
                for code in [plain, plain | f.sign] {
                    if code == f.nan && f.nan != 0 {
                        continue;
                    }
                    assert_eq!(f64::from(decode(code, f)), value(code, f), "{code:#x}");
                    assert_eq!(encode(decode(code, f), f), code, "{code:#x}");
                }
            }
        }
        assert!(F8E4M3(0x7f).to_f32().is_nan() && F8E4M3(0xff).to_f32().is_nan());
        assert!(F8E4M3Uz(0x80).to_f32().is_nan() && F8E5M2Uz(0x80).to_f32().is_nan());
        assert!(F8E5M2(0x7d).to_f32().is_nan());
        assert_eq!((F8E5M2(0x7c).to_f32(), F8E5M2(0xfc).to_f32()), (f32::INFINITY, f32::NEG_INFINITY));
    }

    #[test]
    fn numbers_between_go_to_the_nearest_and_ties_to_even() {
        for f in [E4M3, E4M3UZ, E5M2, E5M2UZ, E2M1] {
            for code in 0..f.largest {
                let (a, b) = (value(code, f), value(code + 1, f));
                let even = code + (code & 1);
                let middle = ((a + b) / 2.0) as f32;
                assert_eq!(encode(middle, f), even);
                assert_eq!(encode(middle.next_down(), f), code);
                assert_eq!(encode(middle.next_up(), f), code + 1);
                assert_eq!(encode(-middle.next_up(), f), (code + 1) | f.sign);
            }
            assert_eq!(encode(1e30, f), f.beyond);
            assert_eq!(encode(f32::INFINITY, f), f.beyond);
            assert_eq!(encode(f32::NAN, f), f.nan);
            assert_eq!(encode(-0.0, f), if f.signed_zero { f.sign } else { 0 });
        }
        assert_eq!((F8E4M3::from_f32(464.0).0, F8E4M3::from_f32(465.0).0), (0x7e, 0x7f));
        // Just above a tie, by less than f32 can tell.
        assert_eq!(F8E4M3::from_f64(1.0625 + 1e-12).0, 0x39);
    }

    #[test]
    fn powers_of_two_are_rounded_as_asked() {
        let codes = |x: f32| (F8E8M0::from_f32(x).0, F8E8M0::down(x).0, F8E8M0::nearest(x).0);
        assert_eq!(codes(1.0), (127, 127, 127));
        assert_eq!(codes(2.5), (129, 128, 128));
        assert_eq!(codes(-3.0), (129, 128, 129));
        assert_eq!(codes(f32::MAX), (254, 254, 254));
        assert_eq!(codes(f32::NEG_INFINITY), (255, 255, 255));
        assert_eq!((codes(0.0), codes(1e-45)), ((0, 0, 0), (0, 0, 0)));
        assert_eq!(codes(f32::from_bits(0x40_0001)), (1, 0, 0));
        assert_eq!(codes(f32::from_bits(0x60_0000)), (1, 0, 1));
        for code in 0..255 {
            assert_eq!(F8E8M0::from_f32(F8E8M0(code).to_f32()).0, code);
        }
        assert!(F8E8M0(255).to_f32().is_nan());
    }

    #[test]
    fn quantization_rounds_to_even_and_saturates() {
        for (x, y) in [(0.5f32, 0i8), (1.5, 2), (-0.5, 0), (-2.5, -2), (1e30, 127), (-1e30, -128)] {
            assert_eq!((quantize_i8(x, 0), quantize_i8(f64::from(x), 0)), (y, y));
        }
        assert_eq!((quantize_u8(f32::NAN, 3), quantize_i8(f64::NAN, 3)), (0, -128));
        assert_eq!(
            (quantize_u8(-3.4f32, 128), quantize_u8(126.5f32, 1), quantize_u8(255.0f32, 128)),
            (125, 127, 255)
        );
        assert_eq!((quantize_u16(65_534.5f32, 0), quantize_i16(-40_000.0f64, 5)), (65_534, -32_768));
        assert_eq!(
            (quantize_u8(0.0f32, i32::MAX), quantize_i4(-9.0f32, 0), quantize_u2(2.5f32, 0)),
            (255, -8, 2)
        );
        assert_eq!(
            (quantize_i2(1.0f32, -1), quantize_u4(1.0f32, 15), quantize_i8(f32::INFINITY, -128)),
            (0, 15, 127)
        );
    }

    #[test]
    fn few_bits_wrap() {
        assert_eq!((wrap_i4(9), wrap_i4(-9), wrap_u4(0x35), wrap_i2(2), wrap_u2(7)), (-7, 7, 5, -2, 3));
    }
}
