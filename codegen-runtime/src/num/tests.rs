//! Corners of every function, and the storage types over all their values.

use super::*;
use crate::operand::{Bf16, F16};

#[test]
fn nan_wins() {
    assert!(max(f32::NAN, 1.0).is_nan() && max(1.0, f32::NAN).is_nan());
    assert!(min(f64::NAN, 1.0).is_nan() && min(1.0, f64::NAN).is_nan());
    assert_eq!((max(2.0, 1.0), max(1, 2), min(-1i8, 5), min(2.0, 3.0)), (2.0, 2, -1, 2.0));
    assert!(above(f32::NAN, 9.0) && !above(f32::NAN, f32::NAN) && !above(9.0, f32::NAN));
    assert!(below(f32::NAN, -9.0) && !below(-10.0, f32::NAN) && below(1, 2) && !below(2, 2));
    assert_eq!((f32::LOWEST, u8::LOWEST, i16::HIGHEST), (f32::NEG_INFINITY, 0, i16::MAX));
}

#[test]
fn division_is_defined() {
    assert_eq!((div(7, 0), div(-7, 2), div(i32::MIN, -1), div(i8::MIN, -1)), (0, -3, i32::MIN, i8::MIN));
    assert_eq!((modulo(7, 0), fmod(7, 0), fmod(i64::MIN, -1), modulo(i64::MIN, -1)), (0, 0, 0, 0));
    for (a, b, python, c) in [(7, 3, 1, 1), (-7, 3, 2, -1), (7, -3, -2, 1), (-7, -3, -1, -1), (6, -3, 0, 0)] {
        assert_eq!((modulo(a, b), fmod(a, b)), (python, c));
        assert_eq!(modulo(f64::from(a), f64::from(b)), f64::from(python));
        assert_eq!(fmod(a as f32, b as f32), c as f32);
    }
    assert_eq!(modulo(250u8, 7), 5);
    assert_eq!(div(1.0, 0.0), f32::INFINITY);
}

#[test]
fn integers_wrap() {
    assert_eq!((add(i8::MAX, 1), sub(0u8, 1), mul(1i32 << 30, 4)), (i8::MIN, 255, 0));
    assert_eq!(
        (neg(i16::MIN), neg(1u32), abs(i8::MIN), abs(-5i64), abs(5u8)),
        (i16::MIN, u32::MAX, i8::MIN, 5, 5)
    );
    assert_eq!((sign(-5i8), sign(0u16), sign(9u64), sign(-0.5f32)), (-1, 0, 1, -1.0));
    assert!(sign(f64::NAN).is_nan());
    assert_eq!((pow(3, 4), pow(-2i64, 3), pow(2u8, 9), pow(0, 0)), (81, -8, 0, 1));
    assert_eq!((pow(5, -1), pow(1, -3), pow(-1, -3), pow(-1, -4), pow(0, -2)), (0, 1, -1, 1, 0));
    assert_eq!((pow(255u8, 1), pow(2.0f32, -2.0)), (255, 0.25));
}

#[test]
fn wide_shifts_give_zero() {
    assert_eq!((shl(1u8, 7), shl(1u8, 8), shr(0x80u8, 7), shr(0x80u8, 200)), (128, 0, 1, 0));
    assert_eq!((shr(-8i8, 8), shr(-8i8, -1), shr(4i8, 9), shl(-8i8, 8), shl(64i8, 1)), (-1, -1, 0, 0, -128));
    assert_eq!((shl(1u64, 63), shl(1u64, 1 << 40), shl(1i32, -1), shr(-8i32, 1)), (1 << 63, 0, 0, -4));
}

#[test]
fn infinities_are_told_apart() {
    assert!(is_inf(f32::INFINITY, true, false) && !is_inf(f32::INFINITY, false, true));
    assert!(is_inf(f64::NEG_INFINITY, false, true) && !is_inf(1.0, true, true));
    assert!(!is_inf(i32::MAX, true, true) && !is_inf(u8::MIN, true, true));
    assert!(is_nan(f32::NAN) && !is_nan(f32::INFINITY) && !is_nan(3));
}

/// What a binary16 stands for, from its fields.
fn value(half: u16) -> f64 {
    let (exponent, mantissa) = (i32::from(half >> 10 & 31), f64::from(half & 0x3ff));
    let size = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if half & 0x3ff != 0 => f64::NAN,
        31 => f64::INFINITY,
        _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
    };
    if half >> 15 == 1 { -size } else { size }
}

#[test]
fn binary16_keeps_every_value() {
    for bits in 0..=u16::MAX {
        let (got, want) = (F16(bits).to_f32(), value(bits));
        if want.is_nan() {
            assert!(got.is_nan() && F16::from_f32(got).to_f32().is_nan());
        } else {
            assert_eq!(f64::from(got).to_bits(), want.to_bits(), "{bits:#x}");
            assert_eq!(F16::from_f32(got).0, bits);
            assert_eq!(F16::from_f64(want).0, bits);
        }
    }
}

#[test]
fn binary16_rounds_to_nearest_even() {
    for bits in 0..0x7c00u16 {
        let (low, high) = (value(bits), if bits == 0x7bff { 65536.0 } else { value(bits + 1) });
        let middle = (low + high) / 2.0;
        let even = if bits & 1 == 0 { bits } else { bits + 1 };
        assert_eq!(F16::from_f64(middle).0, even, "{middle}");
        assert_eq!(F16::from_f32(middle as f32).0, even, "{middle}");
        // A hair beside the middle: lost in an f32, not in a single rounding.
        let hair = middle * 2f64.powi(-40);
        assert_eq!(
            (F16::from_f64(middle - hair).0, F16::from_f64(-middle - hair).0),
            (bits, (bits + 1) | 0x8000)
        );
    }
    assert_eq!((F16::from_f64(1e300).0, F16::from_f64(-1e-300).0), (0x7c00, 0x8000));
    assert!(F16::from_f64(f64::NAN).to_f32().is_nan());
}

#[test]
fn bfloat16_keeps_every_value_and_rounds_to_even() {
    for bits in 0..=u16::MAX {
        let wide = Bf16(bits).to_f32();
        if wide.is_nan() {
            assert!(Bf16::from_f32(wide).to_f32().is_nan());
            continue;
        }
        assert_eq!(Bf16::from_f32(wide).0, bits);
        if wide.is_finite() {
            let middle = f32::from_bits(wide.to_bits() | 0x8000);
            let even = if bits & 1 == 0 { bits } else { bits + 1 };
            assert_eq!(Bf16::from_f32(middle).0, even);
            let hair = f64::from(middle) * (1.0 + 2f64.powi(-40));
            assert_eq!(Bf16::from_f64(hair).0, bits + 1);
        }
    }
    assert!(Bf16::from_f32(f32::from_bits(0x7f80_0001)).to_f32().is_nan());
}
