//! From sums of integer products to bytes, as quantized operators inside the compiler end: the one definition,
//! bit-equal to what kernels do.
//!
//! The first step is that of ONNX's `QLinearConv` and `QLinearMatMul`: the sum of 32 bits, rounded to `f32`, times the
//! channel's factor `x_scale·w_scale / y_scale` (computed in `f32`), the product rounded once to the nearest integer,
//! ties to even, and clamped. Further quantized steps of the model may follow, each exactly as if it stood alone:
//!
//! - a *rescale* rounds the integer times a factor in the same way (`QuantizeLinear` of `DequantizeLinear`, with or
//!   without a Relu between them);
//! - an *addition* of another quantized operand rounds `(q·own + (r - zero)·other) · 2^-shift`, where `own` and `other`
//!   have two parts: integers with a sum of at most 2¹⁶, and integers of at most 2¹⁴ in units 2¹⁵ times smaller. The sum of
//!   the high parts is exact in `f32` as in `i32`, so is that of the low parts; the two are added in `f32`, and the result is
//!   rounded to the nearest integer, ties to even. That is as close to the real number as the sum of two `f32` is.
//!
//! Last comes the zero point.

use crate::ir::DType;
use edgec_runtime::pack::Tail;
use edgec_runtime::spec::RequantSteps;

/// Largest sum of an addition's two multipliers.
const MOST: f64 = 65_536.0;

/// Low parts of the multipliers are in units of this part of the high parts' unit.
const LOW: f64 = 32_768.0;

/// What happens to a sum. Bounds are those of the integer without its zero point.
#[derive(Debug, Clone, PartialEq)]
pub struct Requant {
    /// Bounds behind the channel's factor.
    pub first: [i32; 2],
    /// A rescale behind it.
    pub rescale: Option<Rescale>,
    /// An addition behind that.
    pub add: Option<Addend>,
    /// A rescale behind that.
    pub last: Option<Rescale>,
    /// Zero point of the result.
    pub zero: i32,
    /// Its type: `u8` or `i8`.
    pub to: DType,
}

/// `RNE(q · factor)`, clamped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rescale {
    /// Old scale by new one.
    pub factor: f32,
    /// Bounds of the result.
    pub bounds: [i32; 2],
}

/// `RNE((q·own + (r - zero)·other) · 2^-shift)`, clamped; multipliers have a part in units of 2⁻¹⁵ besides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Addend {
    /// Multiplier of the sum so far.
    pub own: i32,
    /// Multiplier of the addend.
    pub other: i32,
    /// The low part of `own`.
    pub own_low: i32,
    /// The low part of `other`.
    pub other_low: i32,
    /// The sum is taken times two to the power of minus this.
    pub shift: i32,
    /// Zero point of the addend.
    pub zero: i32,
    /// Bounds of the result.
    pub bounds: [i32; 2],
}

impl Addend {
    /// For factors `own` and `other` (old scales by the new one), an addend around `zero`; `None` for factors that
    /// are not positive numbers.
    pub fn new(own: f32, other: f32, zero: i32, bounds: [i32; 2]) -> Option<Self> {
        let (a, b) = (f64::from(own), f64::from(other));
        if !(a > 0.0 && b > 0.0 && (a + b).is_finite()) {
            return None;
        }
        // The largest power of two that keeps both below the limit when rounded.
        let shift = libm::floor(libm::log2((MOST - 1.0) / (a + b))).clamp(-30.0, 60.0);
        let parts = |v: f64| {
            let whole = libm::rint(v * libm::exp2(shift));
            (whole as i32, libm::rint((v * libm::exp2(shift) - whole) * LOW) as i32)
        };
        let ((own, own_low), (other, other_low)) = (parts(a), parts(b));
        let sum = Addend { own, other, own_low, other_low, shift: shift as i32, zero, bounds };
        (i64::from(sum.own) + i64::from(sum.other) <= MOST as i64).then_some(sum)
    }

    /// Both multipliers with the power of two: high parts, low parts.
    pub(super) fn factors(&self) -> [[f32; 2]; 2] {
        let unit = libm::exp2(-f64::from(self.shift));
        let high = [self.own, self.other].map(|v| (f64::from(v) * unit) as f32);
        [high, [self.own_low, self.other_low].map(|v| (f64::from(v) * unit / LOW) as f32)]
    }
}

/// `RNE(a · b)` within bounds, the product exact.
fn rounded(a: f32, b: f32, [low, high]: [i32; 2]) -> i32 {
    let product = f64::from(a) * f64::from(b);
    if product.is_nan() {
        return low;
    }
    libm::rint(product).clamp(f64::from(low), f64::from(high.max(low))) as i32
}

impl Requant {
    /// The steps, for a kernel.
    pub fn steps(&self) -> RequantSteps {
        RequantSteps { rescale: self.rescale.is_some(), add: self.add.is_some(), last: self.last.is_some() }
    }

    /// The result for one sum; `addend` is read where something is added.
    pub fn apply(&self, sum: i32, factor: f32, addend: i32) -> i32 {
        let mut q = rounded(sum as f32, factor, self.first);
        if let Some(step) = self.rescale {
            q = rounded(q as f32, step.factor, step.bounds);
        }
        if let Some(step) = self.add {
            // Products and both sums are exact.
            let part = |[own, other]: [f32; 2]| q as f32 * own + (addend - step.zero) as f32 * other;
            let [high, low] = step.factors();
            q = rounded(part(high) + part(low), 1.0, step.bounds);
        }
        if let Some(step) = self.last {
            q = rounded(q as f32, step.factor, step.bounds);
        }
        q + self.zero
    }

    /// The numbers that a kernel reads; `fill` is what padding holds.
    pub fn tail(&self, fill: u8) -> Tail {
        let pair = |b: [i32; 2]| b.map(|v| v as f32);
        let step = |r: Option<Rescale>| {
            let Some(Rescale { factor, bounds }) = r else { return [0.0; 3] };
            let [low, high] = pair(bounds);
            [factor, low, high]
        };
        let add = self.add.map_or([0.0; 8], |a| {
            let ([[x, y], [x_low, y_low]], [low, high]) = (a.factors(), pair(a.bounds));
            let zero = -(a.zero as f32);
            [x, y, zero * y, x_low, y_low, zero * y_low, low, high]
        });
        Tail {
            fill,
            first: pair(self.first),
            rescale: step(self.rescale),
            add,
            last: step(self.last),
            zero: self.zero,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_round_one_after_the_other() {
        let mut r =
            Requant { first: [-128, 127], rescale: None, add: None, last: None, zero: 3, to: DType::U8 };
        assert_eq!([1, 3, -3, 1000].map(|s| r.apply(s, 0.5, 0)), [3, 5, 1, 130]);
        r.rescale = Some(Rescale { factor: 0.5, bounds: [0, 50] });
        assert_eq!([2, 6, -10, 1000].map(|s| r.apply(s, 0.5, 0)), [3, 5, 3, 53]);
        r.rescale = None;
        r.add = Addend::new(1.0, 0.5, 10, [-20, 20]);
        assert_eq!(r.apply(8, 0.5, 20), 4 + 5 + 3);
        assert_eq!(r.apply(8, 0.5, 13), 3 + 6, "5.5 goes to the even neighbour");
        assert_eq!(r.apply(100, 0.5, 20), 23);
    }

    #[test]
    fn multipliers_of_additions_are_close_and_exact() {
        for (a, b) in [(0.7f32, 1.3f32), (1e-4, 0.9), (37.0, 12.0), (1.0, 1.0)] {
            let add = Addend::new(a, b, 5, [0, 1]).unwrap();
            let [[x, y], [x_low, y_low]] = add.factors().map(|p| p.map(f64::from));
            let most = f64::from(a + b) / 32_767.0 / 32_768.0;
            assert!((x + x_low - f64::from(a)).abs() <= most && (y + y_low - f64::from(b)).abs() <= most);
            assert!(add.own + add.other <= 65_536);
        }
        assert!(
            Addend::new(f32::NAN, 1.0, 0, [0, 1]).is_none() && Addend::new(0.0, 1.0, 0, [0, 1]).is_none()
        );
    }
}
