//! Sine, cosine and tangent: reduction of any finite angle to ±π/4, then Taylor polynomials.

/// 2/π behind the binary point.
static TWO_OVER_PI: [u64; 20] = [
    0xa2f9836e4e441529,
    0xfc2757d1f534ddc0,
    0xdb6295993c439041,
    0xfe5163abdebbc561,
    0xb7246e3a424dd2e0,
    0x06492eea09d1921c,
    0xfe1deb1cb129a73e,
    0xe88235f52ebb4484,
    0xe99c7026b45f7e41,
    0x3991d639835339f4,
    0x9c845f8bbdf9283b,
    0x1ff897ffde05980f,
    0xef2f118b5a0a6d1f,
    0x6d367ecf27cb09b7,
    0x4f463f669e5fea2d,
    0x7527bac7ebe5f17b,
    0x3d0739f78a5292ea,
    0x6bfb5fb11f8d5d08,
    0x56033046fc7b6bab,
    0xf0cfbc209af4361d,
];

/// The 64 bits of 2/π from bit `at` behind the point on; bits outside the table are zero.
fn two_over_pi(at: i32) -> u64 {
    let word = |i: i32| usize::try_from(i).ok().and_then(|i| TWO_OVER_PI.get(i)).copied().unwrap_or(0);
    let (index, shift) = (at.div_euclid(64), at.rem_euclid(64));
    let both = (u128::from(word(index)) << 64) | u128::from(word(index + 1));
    (both >> (64 - shift)) as u64
}

/// Angles below this are reduced with a few multiplications.
const LARGE: f64 = 1_647_099.0; // 2^20·π/2

/// `(q, r)` with `x = (4·k + q)·π/2 + r` and `|r| ≤ π/4`, for finite `x`.
#[inline]
fn reduce(x: f64) -> (u32, f64) {
    if x.abs() < LARGE {
        // π/2 in parts of 33 bits, whose products with a 20-bit number are exact.
        const PARTS: [f64; 4] =
            [1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32];
        const ROUNDER: f64 = 6_755_399_441_055_744.0; // 1.5·2^52
        let n = (x * core::f64::consts::FRAC_2_PI + ROUNDER) - ROUNDER;
        let r = PARTS.iter().fold(x, |r, part| r - n * part);
        (n as i32 as u32 & 3, r)
    } else {
        reduce_large(x)
    }
}

/// As [`reduce`], with as many bits of 2/π as matter for the number's exponent.
#[cold]
fn reduce_large(x: f64) -> (u32, f64) {
    let bits = x.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1075;
    let mantissa = u128::from(bits & 0x000f_ffff_ffff_ffff | 0x0010_0000_0000_0000);
    // Bits of 2/π further left than two below the exponent contribute whole turns. The product with
    // the next 192 bits, in units of 2^-190 quarter turns, is needed modulo 2^192.
    let start = exponent - 2;
    let low = mantissa * u128::from(two_over_pi(start + 128));
    let middle = mantissa * u128::from(two_over_pi(start + 64)) + (low >> 64);
    let high = (mantissa * u128::from(two_over_pi(start)) + (middle >> 64)) as u64;
    let quarter = high >> 62;
    // The fraction of a quarter turn, 126 bits of it at the top of a word, as a signed number.
    let fraction = (u128::from(high) << 64 | u128::from(middle as u64)) << 2 | u128::from(low as u64 >> 62);
    let signed = fraction as i128;
    let quarter = if signed < 0 { quarter + 1 } else { quarter };
    // 2^-128, in two factors.
    let unit = 1.0 / 18_446_744_073_709_551_616.0;
    let r = signed as f64 * unit * unit * core::f64::consts::FRAC_PI_2;
    if x < 0.0 { (quarter.wrapping_neg() as u32 & 3, -r) } else { (quarter as u32 & 3, r) }
}

/// `1/3!, 1/5!, …` with signs.
const SINE: [f64; 8] = [
    -1.0 / 6.0,
    1.0 / 120.0,
    -1.0 / 5_040.0,
    1.0 / 362_880.0,
    -1.0 / 39_916_800.0,
    1.0 / 6_227_020_800.0,
    -1.0 / 1_307_674_368_000.0,
    1.0 / 355_687_428_096_000.0,
];
/// `1/4!, 1/6!, …` with signs.
const COSINE: [f64; 8] = [
    1.0 / 24.0,
    -1.0 / 720.0,
    1.0 / 40_320.0,
    -1.0 / 3_628_800.0,
    1.0 / 479_001_600.0,
    -1.0 / 87_178_291_200.0,
    1.0 / 20_922_789_888_000.0,
    -1.0 / 6_402_373_705_728_000.0,
];

#[inline(always)]
fn horner(z: f64, c: &[f64]) -> f64 {
    c.iter().rev().fold(0.0, |sum, c| sum * z + c)
}

#[inline(always)]
fn sine(r: f64) -> f64 {
    let z = r * r;
    r + r * z * horner(z, &SINE)
}

#[inline(always)]
fn cosine(r: f64) -> f64 {
    let z = r * r;
    let half = 0.5 * z;
    let head = 1.0 - half;
    head + (((1.0 - head) - half) + z * z * horner(z, &COSINE))
}

/// `(sin x, cos x)`; NaN for infinities.
#[inline]
pub(super) fn sin_cos(x: f64) -> (f64, f64) {
    if !x.is_finite() {
        return (f64::NAN, f64::NAN);
    }
    if x.abs() < 1e-9 {
        return (x, 1.0);
    }
    let (quarter, r) = reduce(x);
    let (s, c) = (sine(r), cosine(r));
    match quarter {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    }
}
