//! Elementary functions in pure Rust: for single numbers the same bits at every level and on every host.
//!
//! [`formula`] holds the functions that kernels evaluate on whole vectors, written once for `f32` and
//! for vectors; [`single`] and [`double`] hold every function for `f32` and `f64` under the same
//! names, for emitted loops: plain multiplications and additions throughout, never fused. On vectors the
//! formulas fuse them where the level can, within the same bounds.
//! NaN gives NaN; infinities, signed zeros and denormals are as IEEE 754 says.

mod angle;
pub mod double;
pub mod formula;
mod root;
pub mod single;

/// Functions that are compositions of others, for one of the two types.
///
/// Defined once so that `single` and `double` cannot differ.
macro_rules! compositions {
    ($t:ty) => {
        /// `1 / x`.
        #[inline(always)]
        pub fn reciprocal(x: $t) -> $t {
            1.0 / x
        }

        /// `max(x, 0)`, NaN kept. ONNX Relu.
        #[inline(always)]
        pub fn relu(x: $t) -> $t {
            if x < 0.0 { 0.0 } else { x }
        }

        /// `x < 0 ? alpha·x : x`. ONNX LeakyRelu, PRelu.
        #[inline(always)]
        pub fn leaky_relu(x: $t, alpha: $t) -> $t {
            if x < 0.0 { alpha * x } else { x }
        }

        /// `x > alpha ? x : 0`. ONNX ThresholdedRelu.
        #[inline(always)]
        pub fn thresholded_relu(x: $t, alpha: $t) -> $t {
            if x > alpha { x } else { 0.0 }
        }

        /// `min(max(x, lo), hi)`, NaN kept. ONNX Clip.
        #[inline(always)]
        pub fn clip(x: $t, lo: $t, hi: $t) -> $t {
            let x = if x < lo { lo } else { x };
            if x > hi { hi } else { x }
        }

        /// `clip(alpha·x + beta, 0, 1)`. ONNX HardSigmoid.
        #[inline(always)]
        pub fn hard_sigmoid(x: $t, alpha: $t, beta: $t) -> $t {
            clip(alpha * x + beta, 0.0, 1.0)
        }

        /// `x · clip(x/6 + 1/2, 0, 1)`. ONNX HardSwish.
        #[inline(always)]
        pub fn hard_swish(x: $t) -> $t {
            x * hard_sigmoid(x, 1.0 / 6.0, 0.5)
        }

        /// `x / (1 + |x|)`. ONNX Softsign.
        #[inline(always)]
        pub fn softsign(x: $t) -> $t {
            x / (1.0 + x.abs())
        }

        /// `x < -lambd ? x + bias : x > lambd ? x - bias : 0`. ONNX Shrink.
        #[inline(always)]
        pub fn shrink(x: $t, lambd: $t, bias: $t) -> $t {
            let inner = if x > lambd { x - bias } else { 0.0 };
            if x < -lambd { x + bias } else { inner }
        }

        /// `max(0, x) + min(0, alpha·(exp(x/alpha) - 1))`. ONNX Celu.
        #[inline(always)]
        pub fn celu(x: $t, alpha: $t) -> $t {
            let curve = alpha * expm1(x / alpha);
            relu(x) + if curve > 0.0 { 0.0 } else { curve }
        }

        /// `gamma · (x > 0 ? x : alpha·(exp(x) - 1))`. ONNX Selu.
        #[inline(always)]
        pub fn selu(x: $t, alpha: $t, gamma: $t) -> $t {
            gamma * if x > 0.0 { x } else { alpha * expm1(x) }
        }

        /// `x · sigmoid(alpha·x)`; SiLU for `alpha == 1`. ONNX Swish.
        #[inline(always)]
        pub fn swish(x: $t, alpha: $t) -> $t {
            x * sigmoid(alpha * x)
        }

        /// `x < 0 ? alpha·(exp(x) - 1) : x`. ONNX Elu.
        #[inline(always)]
        pub fn elu(x: $t, alpha: $t) -> $t {
            if x < 0.0 { alpha * expm1(x) } else { x }
        }

        /// `x · tanh(ln(1 + exp(x)))`. ONNX Mish.
        #[inline(always)]
        pub fn mish(x: $t) -> $t {
            // tanh(ln(1 + e)) = n/(n + 2) with n = e·(e + 2); it is 1 from 20 (f64: 40) on.
            let top = if size_of::<$t>() == 4 { 20.0 } else { 40.0 };
            let e = exp(if x > top { top } else { x });
            let n = e * (e + 2.0);
            let curve = x * (n / (n + 2.0));
            if x > top { x } else { curve }
        }

        /// Nearest integer, ties to even. ONNX Round.
        #[inline(always)]
        pub fn round(x: $t) -> $t {
            // Adding 2^(mantissa bits) leaves no bits behind the point; larger numbers have none.
            const ROUNDER: $t = 1.0 / <$t>::EPSILON;
            let size = x.abs();
            let near = (size + ROUNDER) - ROUNDER;
            (if size < ROUNDER { near } else { x }).copysign(x)
        }

        /// Largest integer not above `x`. ONNX Floor.
        #[inline(always)]
        pub fn floor(x: $t) -> $t {
            let near = round(x);
            (if near > x { near - 1.0 } else { near }).copysign(x)
        }

        /// Smallest integer not below `x`. ONNX Ceil.
        #[inline(always)]
        pub fn ceil(x: $t) -> $t {
            let near = round(x);
            (if near < x { near + 1.0 } else { near }).copysign(x)
        }

        /// The integer part.
        #[inline(always)]
        pub fn trunc(x: $t) -> $t {
            floor(x.abs()).copysign(x)
        }
    };
}
use compositions;

#[cfg(test)]
mod tests;
