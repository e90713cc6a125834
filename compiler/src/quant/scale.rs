//! From what was seen to a scale and a zero point.

use super::observe::{Histogram, Observed};
use serde::{Deserialize, Serialize};

/// How the range of an activation follows from its histogram.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Method {
    /// Whichever of the others (and of biases corrected or not) loses least on a part of the samples.
    Auto,
    /// From the smallest to the largest value seen.
    #[default]
    MinMax,
    /// This share of the values, in percent; as much is cut off at each end.
    Percentile(f64),
    /// The range whose quantization has the least mean squared error.
    Mse,
}

/// As a user would name it.
impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Method::Auto => f.write_str("auto"),
            Method::MinMax => f.write_str("min-max"),
            Method::Percentile(share) => write!(f, "percentile {share}"),
            Method::Mse => f.write_str("mse"),
        }
    }
}

/// Form of quantized activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// `uint8` with a zero point: the whole range of 256 steps for any interval.
    #[default]
    Asymmetric,
    /// `int8` around zero.
    Symmetric,
}

/// Bounds of a value. Zero always lies between.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Lower.
    pub min: f32,
    /// Upper.
    pub max: f32,
}

impl Range {
    /// Bounds that take in zero.
    pub fn new(min: f32, max: f32) -> Range {
        Range { min: min.min(0.0), max: max.max(0.0) }
    }

    /// Both.
    pub fn union(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// Their distance.
    pub fn width(self) -> f64 {
        f64::from(self.max) - f64::from(self.min)
    }
}

/// A scale and what stands for zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// Size of a step.
    pub scale: f32,
    /// The integer that is zero.
    pub zero_point: i32,
    /// Whether integers are signed.
    pub signed: bool,
}

/// The scale of a size that integers up to `most` are to reach; 1 where there is nothing to reach.
pub fn step(size: f64, most: f64) -> f32 {
    let scale = (size / most) as f32;
    if scale.is_finite() && scale >= f32::MIN_POSITIVE { scale } else { 1.0 }
}

impl Params {
    /// For a range.
    pub fn new(range: Range, form: Activations) -> Params {
        match form {
            Activations::Symmetric => {
                let size = f64::from(range.max.max(-range.min));
                Params { scale: step(size, 127.0), zero_point: 0, signed: true }
            }
            Activations::Asymmetric => {
                let scale = step(range.width(), 255.0);
                let zero = (-f64::from(range.min) / f64::from(scale)).round_ties_even().clamp(0.0, 255.0);
                Params { scale, zero_point: zero as i32, signed: false }
            }
        }
    }

    /// Lowest and highest integer.
    pub fn limits(self) -> (i32, i32) {
        if self.signed { (-128, 127) } else { (0, 255) }
    }

    /// What `QuantizeLinear` makes of a number.
    pub fn quantize(self, v: f64) -> i32 {
        let (low, high) = self.limits();
        let q = (v / f64::from(self.scale)).round_ties_even() + f64::from(self.zero_point);
        q.clamp(f64::from(low), f64::from(high)) as i32
    }

    /// The number that an integer stands for.
    pub fn dequantize(self, q: i32) -> f64 {
        f64::from(q - self.zero_point) * f64::from(self.scale)
    }
}

/// The range that a method finds.
pub fn range(seen: &Observed, method: Method, form: Activations) -> Range {
    if seen.min > seen.max {
        return Range::new(0.0, 0.0);
    }
    let all = Range::new(seen.min, seen.max);
    if let Some((peak, length)) = seen.peak {
        return Range::new(seen.min.max(peak - softmax_reach(length)), seen.max);
    }
    match (&seen.histogram, method) {
        (Some(h), Method::Percentile(share)) => percentile(h, all, share),
        (Some(h), Method::Mse) => least_error(h, all, form),
        _ => all,
    }
}

/// How far below a row's largest element something still matters to a softmax of 8 bits: there, a whole row
/// of such elements has less than half a step of its result. What lies lower is cut off, which costs nothing
/// and leaves the steps to where classes differ; the upper end stays whatever the method is.
fn softmax_reach(length: usize) -> f32 {
    libm::logf(512.0 * length as f32)
}

/// Cuts off `(100 − share)/2` percent at each end, to the bin.
fn percentile(h: &Histogram, all: Range, share: f64) -> Range {
    let total = h.total() as f64;
    let most = total * (100.0 - share.clamp(50.0, 100.0)) / 200.0;
    let (mut below, mut above) = (0.0, total);
    let (mut min, mut max) = (all.min, all.max);
    let mut open = true;
    for (edge, count) in h.bins() {
        if open && below + count as f64 > most {
            min = all.min.max(edge as f32);
            open = false;
        }
        below += count as f64;
        above -= count as f64;
        if above <= most {
            max = all.max.min((edge + h.width()) as f32);
            break;
        }
    }
    Range::new(min, max)
}

/// Candidates that the search tries at each end.
const CANDIDATES: u32 = 40;

/// The best of ranges that are a share of the whole one: first both ends alike, then each alone.
fn least_error(h: &Histogram, all: Range, form: Activations) -> Range {
    let error = |r: Range| squared_error(h, Params::new(r, form));
    let share = |i: u32| f64::from(i) / f64::from(CANDIDATES);
    let cut = |low: f64, high: f64| {
        Range::new((f64::from(all.min) * low) as f32, (f64::from(all.max) * high) as f32)
    };
    let mut best = ((1.0, 1.0), error(all));
    let mut consider = |low: f64, high: f64| {
        let e = error(cut(low, high));
        if e < best.1 {
            best = ((low, high), e);
        }
        best.0
    };
    for i in (CANDIDATES / 5..CANDIDATES).rev() {
        consider(share(i), share(i));
    }
    let (_, high) = consider(1.0, 1.0);
    for i in (CANDIDATES / 5..=CANDIDATES).rev() {
        consider(share(i), high);
    }
    let (low, _) = consider(1.0, 1.0);
    for i in (CANDIDATES / 5..=CANDIDATES).rev() {
        consider(low, share(i));
    }
    let ((low, high), _) = best;
    cut(low, high)
}

/// Sum over the histogram's bins, each at its middle.
fn squared_error(h: &Histogram, params: Params) -> f64 {
    let half = h.width() / 2.0;
    h.bins()
        .map(|(edge, count)| {
            // The first bin above zero holds the zeros themselves, which every scale has exactly.
            let v = if edge == 0.0 { 0.0 } else { edge + half };
            let e = v - params.dequantize(params.quantize(v));
            e * e * count as f64
        })
        .sum()
}

/// The share of values outside a range.
pub fn clipped(h: &Histogram, range: Range) -> f64 {
    let (low, high) = (f64::from(range.min) - h.width(), f64::from(range.max));
    let outside: u64 = h.bins().filter(|(edge, _)| *edge < low || *edge > high).map(|(_, n)| n).sum();
    outside as f64 / (h.total().max(1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Tensor;
    use crate::quant::observe::Wants;

    fn seen(values: &[f32]) -> Observed {
        let mut o = Observed::new(Wants { histogram: true, ..Wants::default() });
        o.see(&Tensor::vector(values));
        o
    }

    #[test]
    fn zero_is_exact_and_the_range_is_used() {
        let p = Params::new(Range::new(-1.0, 3.0), Activations::Asymmetric);
        assert_eq!((p.zero_point, p.quantize(3.0), p.quantize(-1.0)), (64, 255, 0));
        assert_eq!(p.dequantize(p.quantize(0.0)), 0.0);
        // Behind a Relu the zero point is the lowest integer.
        assert_eq!(Params::new(Range::new(0.5, 2.0), Activations::Asymmetric).zero_point, 0);
        let s = Params::new(Range::new(-1.0, 2.54), Activations::Symmetric);
        assert_eq!((s.zero_point, s.quantize(2.54), s.signed), (0, 127, true));
        // A constant of zero still has a scale.
        assert_eq!(Params::new(Range::new(0.0, 0.0), Activations::Asymmetric).scale, 1.0);
    }

    #[test]
    fn percentiles_leave_outliers_out() {
        let mut values: Vec<f32> = (0..9999).map(|i| i as f32 / 9999.0).collect();
        values.push(1000.0);
        let o = seen(&values);
        assert_eq!(range(&o, Method::MinMax, Activations::Asymmetric).max, 1000.0);
        let p = range(&o, Method::Percentile(99.9), Activations::Asymmetric);
        assert!(p.max < 2.0 && p.min == 0.0, "{p:?}");
    }

    #[test]
    fn the_least_error_cuts_a_long_tail_only() {
        let uniform: Vec<f32> = (0..4000).map(|i| i as f32 / 4000.0).collect();
        let r = range(&seen(&uniform), Method::Mse, Activations::Asymmetric);
        assert!(r.max > 0.95, "{r:?}");
        // The outlier's error against that of four hundred thousand coarser steps.
        let mut tail: Vec<f32> = (0..400_000).map(|i| (i % 200) as f32 / 200.0).collect();
        tail.push(4.0);
        let r = range(&seen(&tail), Method::Mse, Activations::Asymmetric);
        assert!(r.max > 1.0 && r.max < 3.0, "{r:?}");
        assert!(clipped(seen(&tail).histogram.as_ref().unwrap(), r) > 0.0);
    }

    #[test]
    fn a_softmax_needs_no_lower_end() {
        let mut o = Observed::new(Wants { histogram: true, peaks: true, sums: None });
        o.see(&Tensor::new([2, 2], vec![-260f32, 20.0, 30.0, -100.0]).unwrap());
        let r = range(&o, Method::Percentile(50.0), Activations::Asymmetric);
        assert!(r.max == 30.0 && r.min == 0.0, "{r:?}");
        o.see(&Tensor::new([1, 2], vec![-260f32, -5.0]).unwrap());
        let r = range(&o, Method::MinMax, Activations::Asymmetric);
        assert!(r.min < -11.0 && r.min > -13.0, "{r:?}");
    }
}
