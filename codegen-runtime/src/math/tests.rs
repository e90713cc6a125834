//! Sweeps over bit patterns against the host's `f64` functions, and IEEE 754's special cases.

use super::formula::{self, Lanes, Real};
use super::*;
use crate::isa::{Isa, LANES, Scalar, Task};
use std::vec::Vec;

/// Every 3001st bit pattern, both signs: about 1.4 million numbers, denormals included.
fn sweep() -> impl Iterator<Item = f32> {
    (0..u32::MAX).step_by(3001).map(f32::from_bits)
}

/// Distance of `got` from `want` in units in the last place of `want`'s nearest `f32`.
fn ulps(got: f32, want: f64) -> f64 {
    let near = want as f32;
    if near.is_nan() || near.is_infinite() || got.is_nan() || got.is_infinite() {
        // The step from the largest number to infinity is one of rounding.
        let top = f64::from(f32::MAX);
        let edge = got.is_infinite() && want.abs() <= top && want.abs() > top * (1.0 - 2e-7)
            || near.is_infinite() && got.abs() >= f32::MAX * (1.0 - 2e-7);
        let same = got == near || (got.is_nan() && near.is_nan());
        return if same || edge { 0.0 } else { f64::INFINITY };
    }
    let size = near.abs().max(f32::MIN_POSITIVE);
    let unit = f64::from(f32::from_bits(size.to_bits() + 1)) - f64::from(size);
    (f64::from(got) - want).abs() / unit
}

fn worst(name: &str, bound: f64, got: impl Fn(f32) -> f32, want: impl Fn(f64) -> f64) {
    let (mut most, mut at) = (0.0, 0.0);
    for x in sweep() {
        let distance = ulps(got(x), want(f64::from(x)));
        if distance > most {
            (most, at) = (distance, x);
        }
    }
    std::println!("{name}: {most:.3} ULP at {at:e}");
    assert!(most <= bound, "{name}({at:e}) = {:e} is off by {most} ULP", got(at));
}

fn erf_reference(x: f64) -> f64 {
    double::erf(x)
}

#[test]
fn formulas_are_within_their_bounds() {
    worst("exp", 1.0, single::exp, f64::exp);
    worst("expm1", 2.0, single::expm1, f64::exp_m1);
    worst("ln", 1.0, single::ln, f64::ln);
    worst("sigmoid", 3.0, single::sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
    worst("softplus", 2.0, single::softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p() + (x - x).min(0.0));
    worst("tanh", 5.0, single::tanh, f64::tanh);
    worst("erf", 5.0, single::erf, erf_reference);
}

#[test]
fn rounded_functions_are_within_one_ulp() {
    worst("ln1p", 1.0, single::ln1p, f64::ln_1p);
    worst("sin", 1.0, single::sin, f64::sin);
    worst("cos", 1.0, single::cos, f64::cos);
    worst("tan", 1.0, single::tan, f64::tan);
    worst("asin", 1.0, single::asin, f64::asin);
    worst("acos", 1.0, single::acos, f64::acos);
    worst("atan", 1.0, single::atan, f64::atan);
    worst("sinh", 1.0, single::sinh, f64::sinh);
    worst("cosh", 1.0, single::cosh, f64::cosh);
    worst("asinh", 1.0, single::asinh, f64::asinh);
    worst("acosh", 1.0, single::acosh, f64::acosh);
    worst("atanh", 1.0, single::atanh, f64::atanh);
    for y in [-2.5, -1.0, 0.3, 0.5, 2.0, 3.0, 7.7, 100.0] {
        worst("pow", 1.0, |x| single::pow(x, y), |x| x.powf(f64::from(y)));
    }
}

#[test]
fn activations_are_close() {
    let near = |got: f32, want: f64, x: f64| {
        let fine = (f64::from(got) - want).abs() <= 1e-6 * x.abs().max(want.abs()).max(1e-30);
        assert!(fine || (got.is_nan() && want.is_nan()), "{got} for {want} at {x}");
    };
    for x in sweep().filter(|x| x.abs() < 1e9) {
        let w = f64::from(x);
        near(single::gelu(x), 0.5 * w * (1.0 + erf_reference(w / 2f64.sqrt())), w);
        let inner = (2.0 / core::f64::consts::PI).sqrt() * (w + 0.044715 * w * w * w);
        near(single::gelu_tanh(x), 0.5 * w * (1.0 + inner.tanh()), w);
        near(single::mish(x), w * (w.max(0.0) + (-w.abs()).exp().ln_1p()).tanh(), w);
        near(single::swish(x, 1.5), w / (1.0 + (-1.5 * w).exp()), w);
        near(single::elu(x, 0.7), if w < 0.0 { f64::from(0.7f32) * w.exp_m1() } else { w }, w);
        near(single::hard_swish(x), w * (w / 6.0 + 0.5).clamp(0.0, 1.0), w);
        near(single::softsign(x), w / (1.0 + w.abs()), w);
    }
}

#[test]
fn compositions_at_their_corners() {
    assert_eq!(single::relu(-3.0), 0.0);
    assert!(single::relu(f32::NAN).is_nan() && single::clip(f32::NAN, 0.0, 6.0).is_nan());
    assert_eq!(single::clip(9.0, 0.0, 6.0), 6.0);
    assert_eq!(single::leaky_relu(-2.0, 0.5), -1.0);
    assert_eq!(single::thresholded_relu(1.0, 1.0), 0.0);
    assert_eq!(single::shrink(-2.0, 0.5, 0.25), -1.75);
    assert_eq!(single::shrink(2.0, 0.5, 0.25), 1.75);
    assert_eq!(single::shrink(0.5, 0.5, 0.25), 0.0);
    assert_eq!(single::selu(1.0, 1.5, 2.0), 2.0);
    assert!((single::selu(-1.0, 1.5, 2.0) - 3.0 * (-1f32).exp_m1()).abs() < 1e-6);
    assert!((double::celu(-1.0, 2.0) - 2.0 * (-0.5f64).exp_m1()).abs() < 1e-15);
    assert_eq!(single::mish(f32::INFINITY), f32::INFINITY);
    assert_eq!(single::softplus(f32::INFINITY), f32::INFINITY);
    assert_eq!(single::tanh(20.0), 1.0);
    assert_eq!(single::erf(-9.0), -1.0);
    assert!(sweep().all(|x| x.is_nan() || (single::tanh(x).abs() <= 1.0 && single::erf(x).abs() <= 1.0)));
}

#[test]
fn rounding_agrees_with_std() {
    for x in sweep() {
        let same = |got: f32, want: f32| got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
        assert!(same(single::round(x), x.round_ties_even()), "round {x:e}");
        assert!(same(single::floor(x), x.floor()), "floor {x:e}");
        assert!(same(single::ceil(x), x.ceil()), "ceil {x:e}");
        assert!(same(single::trunc(x), x.trunc()), "trunc {x:e}");
    }
    for x in [0.5, 1.5, 2.5, -0.5, -1.5, 4_503_599_627_370_497.5, 1e300, -0.0] {
        assert_eq!(double::round(x).to_bits(), x.round_ties_even().to_bits());
        assert_eq!(double::floor(x).to_bits(), x.floor().to_bits());
        assert_eq!(double::ceil(x).to_bits(), x.ceil().to_bits());
    }
}

#[test]
fn roots_are_correctly_rounded() {
    for x in sweep() {
        let (got, want) = (root::soft::sqrt_f32(x), x.sqrt());
        assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{x:e}");
        assert!(single::sqrt(x).to_bits() == want.to_bits() || want.is_nan());
    }
    for x in doubles() {
        let (got, want) = (root::soft::sqrt_f64(x), x.sqrt());
        assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{x:e}");
        assert!(double::sqrt(x).to_bits() == want.to_bits() || want.is_nan());
    }
}

/// Doubles of every exponent with mixed mantissas, both signs.
fn doubles() -> Vec<f64> {
    let mut state = 1u64;
    let mut out = Vec::new();
    for i in 0..200_000u64 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let exponent = if i % 2 == 0 { state >> 53 & 0x7ff } else { 1023 - 8 + (state >> 57) % 14 };
        out.push(f64::from_bits(state << 63 | exponent << 52 | state >> 12));
    }
    out
}

#[test]
fn doubles_are_close() {
    let check = |name: &str, bound: f64, got: fn(f64) -> f64, want: fn(f64) -> f64| {
        let (mut most, mut at) = (0.0, 0.0);
        for x in doubles() {
            let (g, w) = (got(x), want(x));
            let off = if g.to_bits() == w.to_bits() || (g.is_nan() && w.is_nan()) {
                0.0
            } else {
                // Denormal results have fewer bits.
                ((g - w) / w.abs().max(f64::MIN_POSITIVE)).abs() * 9_007_199_254_740_992.0
            };
            if off > most || off.is_nan() {
                (most, at) = (off, x);
            }
        }
        std::println!("{name}: {most:.2} at {at:e}");
        assert!(most <= bound, "{name}({at:e}) = {:e}, not {:e}", got(at), want(at));
    };
    check("exp", 3.0, double::exp, f64::exp);
    check("expm1", 3.0, double::expm1, f64::exp_m1);
    check("ln", 2.0, double::ln, f64::ln);
    check("ln1p", 3.0, double::ln1p, f64::ln_1p);
    check("tanh", 5.0, double::tanh, f64::tanh);
    check("sinh", 5.0, double::sinh, f64::sinh);
    check("cosh", 5.0, double::cosh, f64::cosh);
    // The host overflows above.
    check("asinh", 5.0, |x| double::asinh(x.clamp(-1e307, 1e307)), |x| x.clamp(-1e307, 1e307).asinh());
    check("acosh", 5.0, |x| double::acosh(x.clamp(-1e307, 1e307)), |x| x.clamp(-1e307, 1e307).acosh());
    // The host is inaccurate below zero.
    check("atanh", 5.0, |x| double::atanh(x.abs()), |x| x.abs().atanh());
    check("sin", 4.0, double::sin, f64::sin);
    check("cos", 4.0, double::cos, f64::cos);
    check("tan", 8.0, double::tan, f64::tan);
    check("atan", 5.0, double::atan, f64::atan);
    check("asin", 5.0, double::asin, f64::asin);
    check("acos", 5.0, double::acos, f64::acos);
    check("pow 2", 2.0, |x| double::pow(x, 2.0), |x| x * x);
    check("pow 0.3", 1e4, |x| double::pow(x, 0.3), |x| x.powf(0.3));
}

#[test]
fn erf_has_known_values() {
    // Abramowitz and Stegun 7.1, to more digits.
    for (x, want) in [
        (0.1, 0.112_462_916_018_284_89),
        (0.5, 0.520_499_877_813_046_5),
        (1.0, 0.842_700_792_949_714_9),
        (2.0, 0.995_322_265_018_952_7),
        (2.9, 0.999_958_902_121_900_5),
        (3.1, 0.999_988_351_342_632_8),
        (4.0, 0.999_999_984_582_742_1),
    ] {
        assert!((double::erf(x) / want - 1.0).abs() < 2e-15, "erf({x})");
        assert_eq!(double::erf(-x), -double::erf(x));
    }
}

#[test]
fn powers_follow_ieee() {
    const INF: f64 = f64::INFINITY;
    let values = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1e300, INF, -INF, f64::NAN];
    for x in values {
        for y in values {
            let (got, want) = (double::pow(x, y), x.powf(y));
            let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
            assert!(same || (got / want - 1.0).abs() < 1e-13, "{x}^{y} = {got}, not {want}");
            let (got, want) = (single::pow(x as f32, y as f32), (x as f32).powf(y as f32));
            let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
            assert!(same, "{x}^{y} = {got}, not {want} in f32");
        }
    }
}

/// A curve at every number of the sweep, on vectors.
struct OnLanes<'a, F>(&'a [f32], F);

trait Curve: Copy {
    fn wide<I: Isa>(self, isa: I, v: I::P) -> I::P;
}

impl<F: Curve> Task for OnLanes<'_, F> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.0.len());
        for x in self.0.chunks_exact(LANES) {
            let x = core::array::from_fn(|i| x[i]);
            out.extend(isa.to_array(self.1.wide(isa, isa.from_array(x))));
        }
        out
    }
}

/// Holds a curve on the vectors of every level of this CPU to `bound` ULP, or where the result is near zero
/// to `slack` of the argument.
fn lanes_are_close(name: &str, bound: f64, slack: f64, curve: impl Curve, want: impl Fn(f64) -> f64) {
    let mut x: Vec<f32> = sweep().step_by(5).collect();
    x.truncate(x.len() / LANES * LANES);
    let mut levels = std::vec![("scalar", Scalar::TOKEN.call(OnLanes(&x, curve)))];
    #[cfg(target_arch = "x86_64")]
    {
        levels.extend(crate::isa::V3::new().map(|isa| ("v3", isa.call(OnLanes(&x, curve)))));
        levels.extend(crate::isa::V4::new().map(|isa| ("v4", isa.call(OnLanes(&x, curve)))));
    }
    for (level, got) in levels {
        let mut most = 0.0f64;
        for (&x, &got) in x.iter().zip(&got) {
            let want = want(f64::from(x));
            let off = if (f64::from(got) - want).abs() <= slack * f64::from(x).abs() {
                0.0
            } else {
                ulps(got, want)
            };
            most = most.max(off);
            assert!(off <= bound, "{name}({x:e}) = {got:e} at {level} is off by {off} ULP");
        }
        std::println!("{name} at {level}: {most:.3} ULP");
    }
}

macro_rules! curve {
    ($name:ident, $x:ident, $formula:expr) => {{
        #[derive(Clone, Copy)]
        struct $name;
        impl Curve for $name {
            #[inline(always)]
            fn wide<I: Isa>(self, isa: I, v: I::P) -> I::P {
                let $x = Lanes::new(isa, v);
                $formula.v
            }
        }
        $name
    }};
}

#[test]
fn every_level_is_within_the_bounds() {
    lanes_are_close("exp", 1.0, 0.0, curve!(Exp, x, formula::exp(x)), f64::exp);
    lanes_are_close("expm1", 2.0, 0.0, curve!(Expm1, x, formula::expm1(x)), f64::exp_m1);
    lanes_are_close("ln", 1.0, 0.0, curve!(Ln, x, formula::ln(x)), f64::ln);
    lanes_are_close("softplus", 2.0, 0.0, curve!(Softplus, x, formula::softplus(x)), |x| {
        x.max(0.0) + (-x.abs()).exp().ln_1p() + (x - x).min(0.0)
    });
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    lanes_are_close("sigmoid", 3.0, 0.0, curve!(Sigmoid, x, formula::sigmoid(x)), sigmoid);
    lanes_are_close("tanh", 5.0, 0.0, curve!(Tanh, x, formula::tanh(x)), f64::tanh);
    lanes_are_close("erf", 5.0, 0.0, curve!(Erf, x, formula::erf(x)), erf_reference);
    lanes_are_close("swish", 4.0, 1e-37, curve!(Swish, x, formula::swish(x, 1.0)), |x| x * sigmoid(x));
    lanes_are_close("elu", 3.0, 0.0, curve!(Elu, x, formula::elu(x, 0.5)), |x| {
        if x < 0.0 { 0.5 * x.exp_m1() } else { x }
    });
    lanes_are_close("gelu", 4.0, 2e-7, curve!(Gelu, x, formula::gelu(x)), |x| {
        0.5 * x * (1.0 + erf_reference(x / 2f64.sqrt()))
    });
    lanes_are_close("gelu_tanh", 4.0, 4e-7, curve!(GeluTanh, x, formula::gelu_tanh(x)), |x| {
        0.5 * x * (1.0 + ((2.0 / core::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
    });
    assert_eq!(2.0f32.like(3.0), 3.0);
}
