//! Every function for `f32`. Those on the path of inference are [`formula`]s, which
//! vectorise; the others are evaluated in `f64` and rounded once, hence within 1 ULP.

use super::{compositions, double, formula};

compositions!(f32);

/// Functions that are formulas.
macro_rules! formulas {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub fn $name(x: f32) -> f32 {
            formula::$name(x)
        }
    )*};
}

formulas! {
    /// `exp(x)`, within 1 ULP.
    exp,
    /// `exp(x) - 1`, within 2 ULP.
    expm1,
    /// `ln(x)`, within 1 ULP; NaN below zero.
    ln,
    /// `ln(1 + exp(x))`, within 2 ULP.
    softplus,
    /// `1 / (1 + exp(-x))`, within 3 ULP.
    sigmoid,
    /// `tanh(x)`, within 5 ULP.
    tanh,
    /// The error function, within 5 ULP.
    erf,
    /// `x/2 · (1 + erf(x/√2))`.
    gelu,
    /// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
    gelu_tanh,
}

/// Functions that are those of `f64`, rounded.
macro_rules! rounded {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(x: f32) -> f32 {
            double::$name(f64::from(x)) as f32
        }
    )*};
}

rounded! {
    /// `ln(1 + x)`.
    ln1p,
    /// `sin(x)`; NaN for infinities.
    sin,
    /// `cos(x)`; NaN for infinities.
    cos,
    /// `tan(x)`; NaN for infinities.
    tan,
    /// `asin(x)`; NaN outside ±1.
    asin,
    /// `acos(x)`; NaN outside ±1.
    acos,
    /// `atan(x)`.
    atan,
    /// `sinh(x)`.
    sinh,
    /// `cosh(x)`.
    cosh,
    /// `asinh(x)`.
    asinh,
    /// `acosh(x)`; NaN below 1.
    acosh,
    /// `atanh(x)`; infinite at ±1, NaN beyond.
    atanh,
}

/// `x` to the power `y` as IEEE 754 `pow`, within 1 ULP.
#[inline]
pub fn pow(x: f32, y: f32) -> f32 {
    double::pow(f64::from(x), f64::from(y)) as f32
}

pub use super::root::sqrt_f32 as sqrt;
