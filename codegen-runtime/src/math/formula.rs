//! Branch-free `f32` functions, written once for scalars and for vectors of any level.
//!
//! Errors are given in units in the last place (ULP) of the result, the largest over a dense sweep
//! of all bit patterns (`tests.rs` holds them). Coefficients are minimax fits, rounded to `f32` one
//! at a time from the constant term up, the others refitted each time.

use core::ops::{Add, Div, Mul, Sub};

use crate::isa::Isa;

/// What the formulas need of a number: `f32`, or [`Lanes`] of them.
pub trait Real:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// The constant `v`, as wide as `self`.
    fn like(self, v: f32) -> Self;
    /// `self < than ? yes : no`; `no` where either is NaN.
    fn if_less(self, than: Self, yes: Self, no: Self) -> Self;
    /// `|self|`.
    fn abs(self) -> Self;
    /// `self · by + plus`: rounded once where vectors have FMA, twice elsewhere.
    fn mul_add(self, by: Self, plus: Self) -> Self;
    /// `self`, which has no sign, with the sign of `of`.
    fn signed_like(self, of: Self) -> Self;
    /// `2ⁿ` for `self = n + ROUNDER`, `-126 ≤ n ≤ 127`.
    fn power_of_two(self) -> Self;
    /// `self · 2ⁿ`, rounded once, for `½ ≤ |self| < 2` and an integer `-160 ≤ n ≤ 140`.
    fn times_power_of_two(self, n: Self) -> Self;
    /// `(m, e)` with `self = m·2^e` and `√½ ≤ m < √2`, for positive normal numbers.
    fn split(self) -> (Self, Self);

    /// `max(self, v)`, NaN kept.
    #[inline(always)]
    fn at_least(self, v: f32) -> Self {
        let v = self.like(v);
        self.if_less(v, v, self)
    }
    /// `min(self, v)`, NaN kept.
    #[inline(always)]
    fn at_most(self, v: f32) -> Self {
        let v = self.like(v);
        v.if_less(self, v, self)
    }
}

/// 1.5·2²³: adding it rounds a smaller number to an integer, which then is in the low bits.
const ROUNDER: f32 = 12_582_912.0;
/// Bits of √½.
const ROOT_HALF: i32 = 0x3f35_04f3;

impl Real for f32 {
    #[inline(always)]
    fn like(self, v: f32) -> f32 {
        v
    }
    #[inline(always)]
    fn if_less(self, than: f32, yes: f32, no: f32) -> f32 {
        if self < than { yes } else { no }
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::from_bits(self.to_bits() & 0x7fff_ffff)
    }
    #[inline(always)]
    fn mul_add(self, by: f32, plus: f32) -> f32 {
        self * by + plus
    }
    #[inline(always)]
    fn signed_like(self, of: f32) -> f32 {
        f32::from_bits(self.to_bits() | (of.to_bits() & 0x8000_0000))
    }
    #[inline(always)]
    fn power_of_two(self) -> f32 {
        f32::from_bits(self.to_bits().wrapping_add(127) << 23)
    }
    #[inline(always)]
    fn times_power_of_two(self, n: f32) -> f32 {
        // In two factors, since 2ⁿ itself may be too large or denormal; the first product is exact.
        let upper = n * 0.5 + ROUNDER;
        let lower = (n - (upper - ROUNDER)) + ROUNDER;
        self * upper.power_of_two() * lower.power_of_two()
    }
    #[inline(always)]
    fn split(self) -> (f32, f32) {
        let bits = self.to_bits() as i32;
        let e = bits.wrapping_sub(ROOT_HALF) >> 23;
        (f32::from_bits(bits.wrapping_sub(e << 23) as u32), e as f32)
    }
}

/// A vector together with the token that its operations need.
#[derive(Clone, Copy)]
pub struct Lanes<I: Isa> {
    /// The level.
    pub isa: I,
    /// The lanes.
    pub v: I::P,
}

impl<I: Isa> Lanes<I> {
    /// Joins the two.
    #[inline(always)]
    pub fn new(isa: I, v: I::P) -> Self {
        Lanes { isa, v }
    }
}

impl<I: Isa> Add for Lanes<I> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Lanes { v: self.isa.add(self.v, other.v), ..self }
    }
}

impl<I: Isa> Sub for Lanes<I> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Lanes { v: self.isa.sub(self.v, other.v), ..self }
    }
}

impl<I: Isa> Mul for Lanes<I> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Lanes { v: self.isa.mul(self.v, other.v), ..self }
    }
}

impl<I: Isa> Div for Lanes<I> {
    type Output = Self;
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Lanes { v: self.isa.div(self.v, other.v), ..self }
    }
}

impl<I: Isa> Real for Lanes<I> {
    #[inline(always)]
    fn like(self, v: f32) -> Self {
        Lanes { v: self.isa.splat(v), ..self }
    }
    #[inline(always)]
    fn if_less(self, than: Self, yes: Self, no: Self) -> Self {
        Lanes { v: self.isa.select(self.isa.lt(self.v, than.v), yes.v, no.v), ..self }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Lanes { v: self.isa.abs(self.v), ..self }
    }
    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        Lanes { v: self.isa.fmadd(self.v, by.v, plus.v), ..self }
    }
    #[inline(always)]
    fn signed_like(self, of: Self) -> Self {
        let isa = self.isa;
        let sign = isa.and_i32(isa.bits(of.v), isa.splat_i32(i32::MIN));
        Lanes { v: isa.from_bits(isa.or_i32(isa.bits(self.v), sign)), ..self }
    }
    #[inline(always)]
    fn power_of_two(self) -> Self {
        let isa = self.isa;
        let biased = isa.add_i32(isa.bits(self.v), isa.splat_i32(127));
        Lanes { v: isa.from_bits(isa.shl::<23>(biased)), ..self }
    }
    #[inline(always)]
    fn times_power_of_two(self, n: Self) -> Self {
        Lanes { v: self.isa.times_power_of_two(self.v, n.v), ..self }
    }
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let isa = self.isa;
        let bits = isa.bits(self.v);
        let e = isa.sra::<23>(isa.sub_i32(bits, isa.splat_i32(ROOT_HALF)));
        let m = isa.from_bits(isa.sub_i32(bits, isa.shl::<23>(e)));
        (Lanes { v: m, ..self }, Lanes { v: isa.to_f32(e), ..self })
    }
    // The second operand is the result where either is NaN.
    #[inline(always)]
    fn at_least(self, v: f32) -> Self {
        Lanes { v: self.isa.max(self.isa.splat(v), self.v), ..self }
    }
    #[inline(always)]
    fn at_most(self, v: f32) -> Self {
        Lanes { v: self.isa.min(self.isa.splat(v), self.v), ..self }
    }
}

/// `c[0] + c[1]·x + c[2]·x² + …`.
#[inline(always)]
fn polynomial<R: Real, const N: usize>(x: R, c: [f32; N]) -> R {
    let mut sum = x.like(c[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = sum.mul_add(x, x.like(c[i]));
    }
    sum
}

/// Upper bits of ln 2, few enough that products with an exponent are exact, and what they lack.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;

/// `(n, p)` with `exp(x) = 2ⁿ·(1 + p)`, for numbers of moderate size.
#[inline(always)]
fn exp_parts<R: Real>(x: R) -> (R, R) {
    let rounder = x.like(ROUNDER);
    let n = x.mul_add(x.like(core::f32::consts::LOG2_E), rounder) - rounder;
    let r = n.mul_add(x.like(-LN2_LO), n.mul_add(x.like(-LN2_HI), x));
    let q = polynomial(r, [0.499_999_97, 0.166_665_45, 0.041_667_443, 0.008_366_433, 0.001_387_013_2]);
    (n, (r * r).mul_add(q, r))
}

/// `exp(x)`, within 1 ULP, denormal results included.
#[inline(always)]
pub fn exp<R: Real>(x: R) -> R {
    // Beyond these the result is infinite or rounds to zero.
    let (n, p) = exp_parts(x.at_least(-104.0).at_most(89.0));
    (x.like(1.0) + p).times_power_of_two(n)
}

/// `exp(x) - 1`, within 2 ULP, also near zero.
#[inline(always)]
pub fn expm1<R: Real>(x: R) -> R {
    let (n, p) = exp_parts(x.at_least(-18.0).at_most(89.0));
    // Half of it, since 2ⁿ may be too large: exp(x) - 1 = 2·(s·p + (s - 1/2)), s = 2ⁿ/2.
    let s = (n + x.like(ROUNDER - 1.0)).power_of_two();
    let y = s.mul_add(p, s - x.like(0.5)) * x.like(2.0);
    // Keeps -0.
    x.abs().if_less(x.like(1e-30), x, y)
}

/// `ln(1 + f)` for `√½ - 1 ≤ f ≤ √2 - 1`, as `f + tail`.
#[inline(always)]
fn ln_tail<R: Real>(f: R) -> R {
    let c = [
        0.333_333_13,
        -0.250_000_1,
        0.200_020_73,
        -0.166_679_96,
        0.142_203_27,
        -0.124_060_325,
        0.118_835_695,
        -0.116_714_42,
        0.067_509_405,
    ];
    let square = f * f;
    (square * f).mul_add(polynomial(f, c), square * f.like(-0.5))
}

/// `ln(x)`, within 1 ULP, denormal arguments included; NaN below zero.
#[inline(always)]
pub fn ln<R: Real>(x: R) -> R {
    let normal = x.like(f32::MIN_POSITIVE);
    let (m, e) = x.if_less(normal, x * x.like(8_388_608.0), x).split();
    let e = e - x.if_less(normal, x.like(23.0), x.like(0.0));
    let f = m - x.like(1.0);
    let y = e * x.like(LN2_HI) + (f + (ln_tail(f) + e * x.like(LN2_LO)));
    // Infinity and NaN stay themselves.
    let y = x.if_less(x.like(f32::INFINITY), y, x);
    let zero = x.like(0.0);
    let outside = x.if_less(zero, x.like(f32::NAN), x.like(f32::NEG_INFINITY));
    x.if_less(x.like(f32::from_bits(1)), outside, y)
}

/// `ln(1 + u)` for `0 ≤ u ≤ 1`.
#[inline(always)]
fn ln_1p_unit<R: Real>(u: R) -> R {
    const ROOT_TWO_LESS_ONE: f32 = 0.414_213_57;
    // 1 + u is 1·(1 + u) or 2·(1 + (u - 1)/2).
    let root = u.like(ROOT_TWO_LESS_ONE);
    let f = u.if_less(root, u, (u - u.like(1.0)) * u.like(0.5));
    let e = u.if_less(root, u.like(0.0), u.like(1.0));
    e * u.like(LN2_HI) + (f + (ln_tail(f) + e * u.like(LN2_LO)))
}

/// `ln(1 + exp(x))`, within 2 ULP.
#[inline(always)]
pub fn softplus<R: Real>(x: R) -> R {
    x.at_least(0.0) + ln_1p_unit(exp(x.like(0.0) - x.abs()))
}

/// `1 / (1 + exp(-x))`, within 3 ULP, on both sides.
#[inline(always)]
pub fn sigmoid<R: Real>(x: R) -> R {
    let e = exp(x.like(0.0) - x.abs());
    x.if_less(x.like(0.0), e, x.like(1.0)) / (x.like(1.0) + e)
}

/// `x · sigmoid(alpha·x)`, within 4 ULP where `alpha·x ≥ -87`, and below that by less than `|x|·10⁻³⁷`.
#[inline(always)]
pub fn swish<R: Real>(x: R, alpha: f32) -> R {
    // x / (1 + exp(-z)) with z = n·ln 2 + r. The power is infinite from 2¹²⁸ on, and the result then zero.
    let (one, rounder) = (x.like(1.0), x.like(ROUNDER));
    let z = (x * x.like(alpha)).at_least(-89.0).at_most(87.0);
    let t = z.mul_add(x.like(-core::f32::consts::LOG2_E), rounder);
    let n = t - rounder;
    let r = n.mul_add(x.like(LN2_LO), n.mul_add(x.like(LN2_HI), z));
    // exp(-r), within two units of 2⁻²⁴.
    let p = polynomial(r, [1.0, -1.0, 0.499_992_3, -0.166_671_17, 0.041_890_256, -0.008_312_332]);
    x / p.mul_add(t.power_of_two(), one)
}

/// `x < 0 ? alpha·(exp(x) - 1) : x`.
#[inline(always)]
pub fn elu<R: Real>(x: R, alpha: f32) -> R {
    x.if_less(x.like(0.0), expm1(x) * x.like(alpha), x)
}

/// `tanh(x)`, within 5 ULP; never beyond ±1.
#[inline(always)]
pub fn tanh<R: Real>(x: R) -> R {
    // From here on the nearest number is ±1.
    const TOP: f32 = 9.02;
    let size = x.abs();
    let t = size.at_most(TOP);
    let z = t * t;
    let above = polynomial(z, [1.0, 0.133_777_9, 0.003_491_744_6, 2.054_574_2e-5, 1.326_663_05e-8]);
    let below = polynomial(z, [1.0, 0.467_111_05, 0.025_862_364, 3.279_345_7e-4, 7.740_589_5e-7]);
    let y = (t * above / below).at_most(1.0);
    x.like(TOP).if_less(size, x.like(1.0), y).signed_like(x)
}

/// The error function, within 5 ULP; never beyond ±1.
#[inline(always)]
pub fn erf<R: Real>(x: R) -> R {
    // From here on the nearest number is ±1.
    const TOP: f32 = 3.93;
    let size = x.abs();
    let t = size.at_most(TOP);
    let z = t * t;
    let above = polynomial(
        z,
        [
            core::f32::consts::FRAC_2_SQRT_PI,
            0.191_540_82,
            0.052_874_19,
            0.003_807_751_5,
            2.846_78e-4,
            2.025_976e-6,
        ],
    );
    let below =
        polynomial(z, [1.0, 0.503_081_3, 0.114_555_694, 0.015_054_272, 0.001_170_625_2, 3.783_199_3e-5]);
    let y = (t * above / below).at_most(1.0);
    x.like(TOP).if_less(size, x.like(1.0), y).signed_like(x)
}

/// `x/2 · (1 + erf(x/√2))`.
#[inline(always)]
pub fn gelu<R: Real>(x: R) -> R {
    let y = erf(x * x.like(core::f32::consts::FRAC_1_SQRT_2));
    x * x.like(0.5) * (x.like(1.0) + y)
}

/// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
#[inline(always)]
pub fn gelu_tanh<R: Real>(x: R) -> R {
    let inner = (x + x * x * x * x.like(0.044_715)) * x.like(0.797_884_6);
    x * x.like(0.5) * (x.like(1.0) + tanh(inner))
}
