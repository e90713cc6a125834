//! Rust types of tensor elements.

use super::{DType, Data};
use half::{bf16, f16};
use std::sync::Arc;

/// A tensor element. `to_f64`/`from_f64` convert by value (rounding to nearest even for floats,
/// truncating and saturating for integers, NaN to zero for integers).
pub trait Element: Copy + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// Its element type.
    const DTYPE: DType;
    /// Data of this type.
    fn wrap(v: Arc<[Self]>) -> Data;
    /// The elements, where `data` is of this type.
    fn unwrap_data(data: &Data) -> Option<&[Self]>;
    /// Value as `f64`.
    fn to_f64(self) -> f64;
    /// Nearest value.
    fn from_f64(x: f64) -> Self;
    /// Value of an integer or bool; `None` for floats.
    fn to_i64(self) -> Option<i64>;
    /// Appends its little-endian bytes.
    fn write_le(self, out: &mut Vec<u8>);
    /// From exactly its size of little-endian bytes; missing bytes count as zero.
    fn read_le(bytes: &[u8]) -> Self;
}

fn le<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut b = [0; N];
    for (to, from) in b.iter_mut().zip(bytes) {
        *to = *from;
    }
    b
}

macro_rules! element {
    ($t:ty, $variant:ident, $to:expr, $from:expr, $int:expr) => {
        element!($t, $variant, $to, $from, $int, |x: $t| x.to_le_bytes(), |b: &[u8]| <$t>::from_le_bytes(
            le(b)
        ));
    };
    ($t:ty, $variant:ident, $to:expr, $from:expr, $int:expr, $write:expr, $read:expr) => {
        impl Element for $t {
            const DTYPE: DType = DType::$variant;
            fn wrap(v: Arc<[Self]>) -> Data {
                Data::$variant(v)
            }
            fn unwrap_data(data: &Data) -> Option<&[Self]> {
                match data {
                    Data::$variant(v) => Some(v),
                    _ => None,
                }
            }
            fn to_f64(self) -> f64 {
                let f: fn($t) -> f64 = $to;
                f(self)
            }
            fn from_f64(x: f64) -> Self {
                let f: fn(f64) -> $t = $from;
                f(x)
            }
            fn to_i64(self) -> Option<i64> {
                let f: fn($t) -> Option<i64> = $int;
                f(self)
            }
            fn write_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&$write(self));
            }
            fn read_le(bytes: &[u8]) -> Self {
                $read(bytes)
            }
        }
    };
}

element!(f32, F32, |x| x.into(), |x| x as f32, |_| None);
element!(f64, F64, |x| x, |x| x, |_| None);
// By way of f32: `half` rounds f64 in one step or two depending on the host's instructions.
element!(f16, F16, |x| x.to_f64(), |x| f16::from_f32(x as f32), |_| None);
element!(bf16, Bf16, |x| x.to_f64(), |x| bf16::from_f32(x as f32), |_| None);
element!(i8, I8, |x| x.into(), |x| x as i8, |x| Some(x.into()));
element!(i16, I16, |x| x.into(), |x| x as i16, |x| Some(x.into()));
element!(i32, I32, |x| x.into(), |x| x as i32, |x| Some(x.into()));
element!(i64, I64, |x| x as f64, |x| x as i64, Some);
element!(u8, U8, |x| x.into(), |x| x as u8, |x| Some(x.into()));
element!(u16, U16, |x| x.into(), |x| x as u16, |x| Some(x.into()));
element!(u32, U32, |x| x.into(), |x| x as u32, |x| Some(x.into()));
element!(u64, U64, |x| x as f64, |x| x as u64, |x| i64::try_from(x).ok());
element!(
    bool,
    Bool,
    |x| f64::from(u8::from(x)),
    |x| x != 0.0,
    |x| Some(x.into()),
    |x: bool| [u8::from(x)],
    |b: &[u8]| le::<1>(b) != [0]
);

macro_rules! byte_type {
    ($(#[$doc:meta])* $name:ident($repr:ty), $to:expr, $from:expr, $int:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub $repr);
        element!($name, $name, $to, $from, $int,
            |x: $name| x.0.to_le_bytes(), |b: &[u8]| $name(<$repr>::from_le_bytes(le(b))));
    };
}

byte_type!(
    /// Signed 4-bit integer, sign-extended into a byte.
    I4(i8), |x| x.0.into(), |x| I4((x as i8).clamp(-8, 7)), |x| Some(x.0.into())
);
byte_type!(
    /// Unsigned 4-bit integer in a byte.
    U4(u8), |x| x.0.into(), |x| U4((x as u8).min(15)), |x| Some(x.0.into())
);
byte_type!(
    /// Signed 2-bit integer, sign-extended into a byte.
    I2(i8), |x| x.0.into(), |x| I2((x as i8).clamp(-2, 1)), |x| Some(x.0.into())
);
byte_type!(
    /// Unsigned 2-bit integer in a byte.
    U2(u8), |x| x.0.into(), |x| U2((x as u8).min(3)), |x| Some(x.0.into())
);
byte_type!(
    /// 8-bit float, 4 exponent bits, no infinities.
    F8E4M3(u8), |x| E4M3.decode(x.0), |x| F8E4M3(E4M3.encode(x)), |_| None
);
byte_type!(
    /// 8-bit float, 4 exponent bits, no negative zero, one NaN.
    F8E4M3Uz(u8), |x| E4M3UZ.decode(x.0), |x| F8E4M3Uz(E4M3UZ.encode(x)), |_| None
);
byte_type!(
    /// 8-bit float, 5 exponent bits, with infinities.
    F8E5M2(u8), |x| E5M2.decode(x.0), |x| F8E5M2(E5M2.encode(x)), |_| None
);
byte_type!(
    /// 8-bit float, 5 exponent bits, no negative zero, one NaN.
    F8E5M2Uz(u8), |x| E5M2UZ.decode(x.0), |x| F8E5M2Uz(E5M2UZ.encode(x)), |_| None
);
byte_type!(
    /// 8-bit power of two, no sign.
    F8E8M0(u8),
    |x| if x.0 == 0xff { f64::NAN } else { libm::exp2(f64::from(i32::from(x.0) - 127)) },
    |x| if x.is_nan() { F8E8M0(0xff) } else { F8E8M0((libm::log2(x.abs()).round() + 127.0).clamp(0.0, 254.0) as u8) },
    |_| None
);
byte_type!(
    /// 4-bit float in a byte.
    F4E2M1(u8), |x| E2M1.decode(x.0), |x| F4E2M1(E2M1.encode(x)), |_| None
);

/// How a minifloat spends its bits.
#[derive(Clone, Copy)]
struct MiniFloat {
    exponent: u32,
    mantissa: u32,
    bias: i32,
    special: Special,
}

/// Which bit patterns are not numbers.
#[derive(Clone, Copy, PartialEq)]
enum Special {
    /// As IEEE 754: the top exponent holds infinities and NaNs.
    Ieee,
    /// All ones is NaN; no infinities.
    AllOnes,
    /// Negative zero is NaN; no infinities.
    NegativeZero,
    /// Every pattern is a number.
    Nothing,
}

const E4M3: MiniFloat = MiniFloat { exponent: 4, mantissa: 3, bias: 7, special: Special::AllOnes };
const E4M3UZ: MiniFloat = MiniFloat { exponent: 4, mantissa: 3, bias: 8, special: Special::NegativeZero };
const E5M2: MiniFloat = MiniFloat { exponent: 5, mantissa: 2, bias: 15, special: Special::Ieee };
const E5M2UZ: MiniFloat = MiniFloat { exponent: 5, mantissa: 2, bias: 16, special: Special::NegativeZero };
const E2M1: MiniFloat = MiniFloat { exponent: 2, mantissa: 1, bias: 1, special: Special::Nothing };

impl MiniFloat {
    fn sign_bit(self) -> u8 {
        1 << (self.exponent + self.mantissa)
    }

    fn decode(self, bits: u8) -> f64 {
        let magnitude = bits & (self.sign_bit() - 1);
        let negative = bits & self.sign_bit() != 0;
        let e = u32::from(magnitude) >> self.mantissa;
        let m = u32::from(magnitude) & ((1 << self.mantissa) - 1);
        let top = (1 << self.exponent) - 1;
        let special = match self.special {
            Special::Ieee if e == top => Some(if m == 0 { f64::INFINITY } else { f64::NAN }),
            Special::AllOnes if magnitude == self.sign_bit() - 1 => Some(f64::NAN),
            Special::NegativeZero if negative && magnitude == 0 => Some(f64::NAN),
            _ => None,
        };
        let scale = f64::from(1u32 << self.mantissa);
        let value = special.unwrap_or_else(|| {
            let (lead, exponent) = if e == 0 { (0.0, 1 - self.bias) } else { (1.0, e as i32 - self.bias) };
            (lead + f64::from(m) / scale) * f64::from(exponent).exp2()
        });
        if negative { -value } else { value }
    }

    /// Nearest value, ties to even, saturating to the largest number as ONNX's Cast does by default.
    fn encode(self, x: f64) -> u8 {
        let sign = if x.is_sign_negative() { self.sign_bit() } else { 0 };
        if x.is_nan() {
            return match self.special {
                Special::Ieee | Special::AllOnes => self.sign_bit() - 1,
                Special::NegativeZero => self.sign_bit(),
                Special::Nothing => 0,
            };
        }
        // The patterns below the sign bit are in increasing order; find the nearest by bisection.
        let largest = (0..self.sign_bit()).rev().find(|&b| self.decode(b).is_finite()).unwrap_or(0);
        let target = x.abs();
        if target >= self.decode(largest) {
            return largest | sign;
        }
        let (mut lo, mut hi) = (0u8, largest);
        while hi - lo > 1 {
            let mid = lo + (hi - lo) / 2;
            if self.decode(mid) <= target {
                lo = mid;
            } else {
                hi = mid;
            }
        }
        let (below, above) = (target - self.decode(lo), self.decode(hi) - target);
        let nearest = match below.partial_cmp(&above) {
            Some(std::cmp::Ordering::Less) => lo,
            Some(std::cmp::Ordering::Greater) => hi,
            _ => lo + (lo & 1),
        };
        if nearest == 0 && self.special == Special::NegativeZero { 0 } else { nearest | sign }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minifloats_round_trip_every_finite_pattern() {
        for format in [E4M3, E4M3UZ, E5M2, E5M2UZ, E2M1] {
            for bits in 0..2 * u16::from(format.sign_bit()) {
                let bits = bits as u8;
                let value = format.decode(bits);
                if value.is_finite() {
                    assert_eq!(format.encode(value), bits, "{value}");
                }
            }
        }
    }

    #[test]
    fn minifloats_saturate_and_round_to_even() {
        assert_eq!(E4M3.decode(E4M3.encode(1e9)), 448.0);
        assert_eq!(E5M2.decode(E5M2.encode(1e9)), 57344.0);
        assert_eq!(E2M1.decode(E2M1.encode(2.5)), 2.0);
        assert_eq!(E2M1.decode(E2M1.encode(-3.5)), -4.0);
    }
}
