//! Every function for `f64`. Errors are bounds on the relative error in units of 2⁻⁵³, measured by
//! the tests against correctly rounded or host results.

use super::{angle, compositions};

compositions!(f64);

/// 1.5·2⁵²: adding it rounds a smaller number to an integer, which then is in the low bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// Upper 33 bits of ln 2, so that products with an exponent are exact, and what they lack.
const LN2_HI: f64 = 0.6931471804855391;
const LN2_LO: f64 = 7.440617110012397e-11;

#[inline(always)]
fn horner(x: f64, c: &[f64]) -> f64 {
    c.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// `max(x, lo)` then `min(x, hi)`, NaN kept.
#[inline(always)]
fn within(x: f64, lo: f64, hi: f64) -> f64 {
    clip(x, lo, hi)
}

/// `2ⁿ` for an integral `-1022 ≤ n ≤ 1023`.
#[inline(always)]
fn power_of_two(n: f64) -> f64 {
    f64::from_bits((n + ROUNDER).to_bits().wrapping_add(1023) << 52)
}

/// `(n, p)` with `exp(x) = 2ⁿ·(1 + p)`, for numbers of moderate size.
#[inline(always)]
fn exp_parts(x: f64) -> (f64, f64) {
    let n = (x * core::f64::consts::LOG2_E + ROUNDER) - ROUNDER;
    let r = (x - n * LN2_HI) - n * LN2_LO;
    const TAYLOR: [f64; 12] = [
        1.0 / 2.0,
        1.0 / 6.0,
        1.0 / 24.0,
        1.0 / 120.0,
        1.0 / 720.0,
        1.0 / 5_040.0,
        1.0 / 40_320.0,
        1.0 / 362_880.0,
        1.0 / 3_628_800.0,
        1.0 / 39_916_800.0,
        1.0 / 479_001_600.0,
        1.0 / 6_227_020_800.0,
    ];
    (n, r + r * r * horner(r, &TAYLOR))
}

/// `exp(x)`, error at most 3, denormal results included.
#[inline]
pub fn exp(x: f64) -> f64 {
    let (n, p) = exp_parts(within(x, -746.0, 710.0));
    let upper = round(n * 0.5);
    (1.0 + p) * power_of_two(upper) * power_of_two(n - upper)
}

/// `exp(x) - 1`, error at most 3, also near zero.
#[inline]
pub fn expm1(x: f64) -> f64 {
    let (n, p) = exp_parts(within(x, -50.0, 710.0));
    let s = power_of_two(n - 1.0);
    let y = 2.0 * (s * p + (s - 0.5));
    if x.abs() < 1e-200 { x } else { y }
}

/// `(f, t, e)` with `ln(x) = e·ln 2 + f + t`, for positive normal numbers.
#[inline(always)]
fn ln_parts(x: f64) -> (f64, f64, f64) {
    const ROOT_HALF: i64 = 0x3fe6_a09e_667f_3bcd;
    let bits = x.to_bits() as i64;
    let e = (bits - ROOT_HALF) >> 52;
    let f = f64::from_bits(bits.wrapping_sub(e << 52) as u64) - 1.0;
    // ln(1 + f) = 2·atanh(s) with s = f/(2 + f).
    const SERIES: [f64; 11] = [
        2.0 / 3.0,
        2.0 / 5.0,
        2.0 / 7.0,
        2.0 / 9.0,
        2.0 / 11.0,
        2.0 / 13.0,
        2.0 / 15.0,
        2.0 / 17.0,
        2.0 / 19.0,
        2.0 / 21.0,
        2.0 / 23.0,
    ];
    let s = f / (2.0 + f);
    let z = s * s;
    let half_square = 0.5 * f * f;
    (f, s * (half_square + z * horner(z, &SERIES)) - half_square, e as f64)
}

/// `ln(x)`, error at most 2, denormal arguments included; NaN below zero.
#[inline]
pub fn ln(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x <= 0.0 {
        return if x == 0.0 { f64::NEG_INFINITY } else { f64::NAN };
    }
    let denormal = x < f64::MIN_POSITIVE;
    let (f, t, e) = ln_parts(if denormal { x * 18_014_398_509_481_984.0 } else { x });
    let e = if denormal { e - 54.0 } else { e };
    e * LN2_HI + (f + (t + e * LN2_LO))
}

/// `ln(1 + x)`, error at most 3, also near zero.
#[inline]
pub fn ln1p(x: f64) -> f64 {
    let w = 1.0 + x;
    if x.abs() < 1e-17 || w <= 0.0 || w == f64::INFINITY || w.is_nan() {
        return if x.abs() < 1e-17 { x } else { ln(w) };
    }
    // What the sum lost, from the larger of the two.
    let lost = if x > 1.0 { 1.0 - (w - x) } else { x - (w - 1.0) };
    let (f, t, e) = ln_parts(w);
    e * LN2_HI + (f + (t + (e * LN2_LO + lost / w)))
}

/// `1 / (1 + exp(-x))`, on both sides.
#[inline]
pub fn sigmoid(x: f64) -> f64 {
    let e = exp(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// `ln(1 + exp(x))`.
#[inline]
pub fn softplus(x: f64) -> f64 {
    relu(x) + ln1p(exp(-x.abs()))
}

/// `tanh(x)`, error at most 5.
#[inline]
pub fn tanh(x: f64) -> f64 {
    let n = expm1(2.0 * within(x, -30.0, 30.0));
    let y = n / (n + 2.0);
    if x.abs() < 1e-200 { x } else { y }
}

/// `sinh(x)`, error at most 5.
#[inline]
pub fn sinh(x: f64) -> f64 {
    let size = x.abs();
    let y = if size > 40.0 {
        // In two factors: exp(x) may be too large where half of it is not.
        let root = exp(size * 0.5);
        root * 0.5 * root
    } else {
        let n = expm1(size);
        0.5 * (n + n / (n + 1.0))
    };
    y.copysign(x)
}

/// `cosh(x)`, error at most 5.
#[inline]
pub fn cosh(x: f64) -> f64 {
    let root = exp(x.abs() * 0.5);
    if x.abs() > 40.0 {
        return root * 0.5 * root;
    }
    let e = exp(x.abs());
    0.5 * (e + 1.0 / e)
}

/// `asinh(x)`, error at most 5.
#[inline]
pub fn asinh(x: f64) -> f64 {
    let size = x.abs();
    let y = if size > 1e150 {
        ln(size) + core::f64::consts::LN_2
    } else {
        let square = size * size;
        ln1p(size + square / (1.0 + sqrt(square + 1.0)))
    };
    y.copysign(x)
}

/// `acosh(x)`, error at most 5; NaN below 1.
#[inline]
pub fn acosh(x: f64) -> f64 {
    if x > 1e150 {
        return ln(x) + core::f64::consts::LN_2;
    }
    if x < 1.0 {
        return f64::NAN;
    }
    let t = x - 1.0;
    ln1p(t + sqrt(t * (2.0 + t)))
}

/// `atanh(x)`, error at most 5; infinite at ±1, NaN beyond.
#[inline]
pub fn atanh(x: f64) -> f64 {
    let size = x.abs();
    (0.5 * ln1p(2.0 * size / (1.0 - size))).copysign(x)
}

/// `sin(x)`, error at most 4; NaN for infinities.
#[inline]
pub fn sin(x: f64) -> f64 {
    angle::sin_cos(x).0
}

/// `cos(x)`, error at most 4; NaN for infinities.
#[inline]
pub fn cos(x: f64) -> f64 {
    angle::sin_cos(x).1
}

/// `tan(x)`, error at most 8; NaN for infinities.
#[inline]
pub fn tan(x: f64) -> f64 {
    let (s, c) = angle::sin_cos(x);
    s / c
}

/// `atan(x)`, error at most 5.
#[inline]
pub fn atan(x: f64) -> f64 {
    use core::f64::consts::{FRAC_PI_2, FRAC_PI_4, FRAC_PI_8};
    const TAN_PI_8: f64 = 0.41421356237309503;
    const TAN_PI_16: f64 = 0.198912367379658;
    let size = x.abs();
    let inverse = size > 1.0;
    let mut t = if inverse { 1.0 / size } else { size };
    let mut base = 0.0;
    if t > TAN_PI_8 {
        t = (t - 1.0) / (t + 1.0);
        base = FRAC_PI_4;
    }
    if t.abs() > TAN_PI_16 {
        let near = TAN_PI_8.copysign(t);
        base += FRAC_PI_8.copysign(t);
        t = (t - near) / (1.0 + t * near);
    }
    const SERIES: [f64; 11] = [
        -1.0 / 3.0,
        1.0 / 5.0,
        -1.0 / 7.0,
        1.0 / 9.0,
        -1.0 / 11.0,
        1.0 / 13.0,
        -1.0 / 15.0,
        1.0 / 17.0,
        -1.0 / 19.0,
        1.0 / 21.0,
        -1.0 / 23.0,
    ];
    let z = t * t;
    let y = base + (t + t * z * horner(z, &SERIES));
    (if inverse { FRAC_PI_2 - y } else { y }).copysign(x)
}

/// `asin(x)`, error at most 5; NaN outside ±1.
#[inline]
pub fn asin(x: f64) -> f64 {
    atan(x / sqrt((1.0 - x) * (1.0 + x)))
}

/// `acos(x)`, error at most 5; NaN outside ±1.
#[inline]
pub fn acos(x: f64) -> f64 {
    2.0 * atan(sqrt((1.0 - x) / (1.0 + x)))
}

/// The error function, error at most 16.
pub fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size.is_nan() || size == 0.0 {
        return x;
    }
    if size > 6.0 {
        return 1.0_f64.copysign(x);
    }
    use core::f64::consts::FRAC_2_SQRT_PI;
    let square = size * size;
    let y = if size < 3.0 {
        // exp(x²)·erf(x) is a series of positive terms.
        let (mut term, mut sum, mut k) = (size, size, 1.0);
        while term > sum * 1e-18 {
            term *= 2.0 * square / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        FRAC_2_SQRT_PI * exp(-square) * sum
    } else {
        // Continued fraction of the complement, from the far end.
        let mut tail = size;
        let mut k = 60.0;
        while k > 0.0 {
            tail = size + 0.5 * k / tail;
            k -= 1.0;
        }
        1.0 - 0.5 * FRAC_2_SQRT_PI * exp(-square) / tail
    };
    y.copysign(x)
}

/// `x/2 · (1 + erf(x/√2))`.
pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * core::f64::consts::FRAC_1_SQRT_2))
}

/// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
pub fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
}

/// `x` to the power `y` as IEEE 754 `pow`. Integral exponents up to 64 by multiplication, others
/// with a relative error of at most 2·10⁻¹³ (it grows with the logarithm of the result).
pub fn pow(x: f64, y: f64) -> f64 {
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if x.is_nan() || y.is_nan() {
        return f64::NAN;
    }
    let size = x.abs();
    let integral = trunc(y) == y;
    let odd = integral && y.abs() < 9_007_199_254_740_992.0 && (y.abs() as u64) & 1 == 1;
    let negative = x.is_sign_negative() && odd;
    if x < 0.0 && x.is_finite() && !integral {
        return f64::NAN;
    }
    if size == 1.0 {
        return if negative { -1.0 } else { 1.0 };
    }
    let y_large = if (size > 1.0) == (y > 0.0) { f64::INFINITY } else { 0.0 };
    let result = if size == 0.0 || size == f64::INFINITY || y.is_infinite() {
        y_large
    } else {
        let short = if integral && y.abs() <= 64.0 { short_power(size, y) } else { None };
        match short {
            Some(power) => power,
            None => exp(y * ln(size)),
        }
    };
    if negative { -result } else { result }
}

/// `x` to an integral power of at most 64, by squaring; `None` where a reciprocal would be imprecise.
fn short_power(x: f64, y: f64) -> Option<f64> {
    let mut left = y.abs() as u32;
    let (mut square, mut product) = (x, 1.0);
    while left > 0 {
        if left & 1 == 1 {
            product *= square;
        }
        square *= square;
        left >>= 1;
    }
    if y > 0.0 {
        Some(product)
    } else if product.is_normal() {
        Some(1.0 / product)
    } else {
        None
    }
}

pub use super::root::sqrt_f64 as sqrt;
