//! What calibration keeps of a value: its bounds, a histogram, sums per channel. Memory does not grow with
//! the number of samples, and the result does not depend on the order in which they are merged.

use crate::ir::Tensor;

/// Bins on each side of zero: about 8 to 16 for each step of an 8-bit scale.
const HALF: i32 = 2048;

/// Counts over bins of equal width, a power of two, with an edge at zero. Bins nest: a wider histogram is
/// exactly the sum of a narrower one, so the order of samples leaves no trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Binary logarithm of the width.
    exponent: i32,
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { exponent: LOWEST, counts: vec![0; 2 * HALF as usize] }
    }
}

/// The narrowest bins: below, everything is zero to an 8-bit scale.
const LOWEST: i32 = -60;

impl Histogram {
    fn reach(&self) -> f64 {
        f64::from(HALF) * self.width()
    }

    /// Width of a bin.
    pub fn width(&self) -> f64 {
        f64::from(self.exponent).exp2()
    }

    /// Makes room for values up to `size` away from zero.
    fn widen(&mut self, size: f64) {
        let mut by = 0;
        while size >= self.reach() * f64::from(by).exp2() && self.exponent + by < 1100 {
            by += 1;
        }
        self.coarsen(by);
    }

    fn coarsen(&mut self, by: i32) {
        if by <= 0 {
            return;
        }
        let mut counts = vec![0u64; self.counts.len()];
        for (i, &n) in self.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            // An arithmetic shift rounds down, as bins nest.
            let bin = (i as i32 - HALF) >> by.min(31);
            if let Some(slot) = counts.get_mut((bin + HALF) as usize) {
                *slot += n;
            }
        }
        self.counts = counts;
        self.exponent += by;
    }

    fn add(&mut self, values: &[f32]) {
        let inverse = f64::from(-self.exponent).exp2();
        for &v in values {
            let bin = (f64::from(v) * inverse).floor() as i32;
            if let Some(slot) = self.counts.get_mut((bin + HALF).max(0) as usize) {
                *slot += 1;
            }
        }
    }

    fn merge(&mut self, other: &Histogram) {
        let mut other = other.clone();
        other.coarsen(self.exponent - other.exponent);
        self.coarsen(other.exponent - self.exponent);
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
    }

    /// Bins that hold something: lower edge, count; from below.
    pub fn bins(&self) -> impl Iterator<Item = (f64, u64)> {
        let width = self.width();
        let filled = self.counts.iter().enumerate().filter(|(_, n)| **n > 0);
        filled.map(move |(i, &n)| (f64::from(i as i32 - HALF) * width, n))
    }

    /// Number of values.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Everything that was seen of one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Smallest finite element; above `max` where nothing was seen.
    pub min: f32,
    /// Largest finite element.
    pub max: f32,
    /// Elements that were NaN or infinite.
    pub strange: u64,
    /// Counts, where the method needs them.
    pub histogram: Option<Histogram>,
    /// Sum per channel and number of elements in each, where bias correction needs them.
    pub sums: Option<(Vec<f64>, u64)>,
    /// Smallest of the rows' largest elements and the rows' length, where a softmax reads the value.
    pub peak: Option<(f32, usize)>,
    wants: Wants,
}

/// What is to be kept besides bounds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Wants {
    /// Counts.
    pub histogram: bool,
    /// Axis of channels for sums, counted from the end where negative.
    pub sums: Option<i64>,
    /// The rows' peaks.
    pub peaks: bool,
}

impl Observed {
    /// Nothing seen yet.
    pub fn new(wants: Wants) -> Observed {
        Observed {
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            strange: 0,
            histogram: wants.histogram.then(Histogram::default),
            sums: None,
            peak: None,
            wants,
        }
    }

    /// Looks at a tensor of one sample.
    pub fn see(&mut self, tensor: &Tensor) {
        let Some(values) = tensor.as_slice::<f32>() else { return };
        let (mut min, mut max, mut strange) = (self.min, self.max, 0u64);
        for &v in values {
            if v.is_finite() {
                min = min.min(v);
                max = max.max(v);
            } else {
                strange += 1;
            }
        }
        (self.min, self.max) = (min, max);
        self.strange += strange;
        if let Some(h) = &mut self.histogram {
            if min <= max {
                h.widen(f64::from(min.abs().max(max.abs())));
            }
            if strange == 0 {
                h.add(values);
            } else {
                let finite: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
                h.add(&finite);
            }
        }
        if let Some(axis) = self.wants.sums {
            self.sum(tensor, values, axis);
        }
        if self.wants.peaks {
            let length = tensor.shape().dims().last().copied().unwrap_or(1).max(1);
            let peaks =
                values.chunks(length).map(|row| row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let low = peaks.filter(|p| p.is_finite()).fold(f32::INFINITY, f32::min);
            self.peak = Some((self.peak.map_or(low, |(p, _)| p.min(low)), length));
        }
    }

    fn sum(&mut self, tensor: &Tensor, values: &[f32], axis: i64) {
        let dims = tensor.shape().dims();
        let Some(axis) = crate::ir::normalize_axis(axis, dims.len()) else { return };
        let count = dims.get(axis).copied().unwrap_or(1).max(1);
        let inner: usize = dims.get(axis + 1..).unwrap_or_default().iter().product::<usize>().max(1);
        let (sums, seen) = self.sums.get_or_insert_with(|| (vec![0.0; count], 0));
        for (run, chunk) in values.chunks(inner).enumerate() {
            if let Some(sum) = sums.get_mut(run % count) {
                *sum += chunk.iter().map(|&v| f64::from(v)).sum::<f64>();
            }
        }
        *seen += (values.len() / count) as u64;
    }

    /// Takes in what another observer saw of the same value.
    pub fn merge(&mut self, other: &Observed) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.strange += other.strange;
        match (&mut self.histogram, &other.histogram) {
            (Some(a), Some(b)) => a.merge(b),
            (None, Some(b)) => self.histogram = Some(b.clone()),
            _ => {}
        }
        match (&mut self.sums, &other.sums) {
            (Some((a, n)), Some((b, m))) => {
                a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                *n += m;
            }
            (None, Some(b)) => self.sums = Some(b.clone()),
            _ => {}
        }
        self.peak = match (self.peak, other.peak) {
            (Some((a, n)), Some((b, _))) => Some((a.min(b), n)),
            (a, b) => a.or(b),
        };
    }

    /// Means per channel.
    pub fn means(&self) -> Option<Vec<f32>> {
        let (sums, n) = self.sums.as_ref().filter(|(_, n)| *n > 0)?;
        Some(sums.iter().map(|s| (s / *n as f64) as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(order: &[&[f32]]) -> Observed {
        let mut o = Observed::new(Wants { histogram: true, sums: Some(-1), peaks: false });
        for values in order {
            o.see(&Tensor::vector(values));
        }
        o
    }

    #[test]
    fn the_order_of_samples_leaves_no_trace_in_a_histogram() {
        let samples: [&[f32]; 4] =
            [&[0.0, 0.1, -0.3], &[1e6, 2.0, -1.0], &[1e-12, -1e-12, 3.0], &[5.0, 5.0, 5.0]];
        let all = seen(&samples);
        let backwards = seen(&[samples[3], samples[2], samples[1], samples[0]]);
        let mut merged = seen(&[samples[1], samples[3]]);
        merged.merge(&seen(&[samples[2], samples[0]]));
        assert_eq!(all.histogram, backwards.histogram);
        assert_eq!(all.histogram, merged.histogram);
        assert_eq!((all.min, all.max), (-1.0, 1e6));
        assert_eq!(all.histogram.map(|h| h.total()), Some(12));
    }

    #[test]
    fn bins_hold_what_lies_in_them() {
        let o = seen(&[&[0.0, 0.25, 0.25, -0.5]]);
        let h = o.histogram.unwrap();
        let bins: Vec<(f64, u64)> = h.bins().collect();
        assert_eq!(bins, [(-0.5, 1), (0.0, 1), (0.25, 2)]);
        assert!(h.width() <= 0.5 / 1024.0);
    }

    #[test]
    fn strange_values_are_counted_and_left_out() {
        let o = seen(&[&[1.0, f32::NAN, f32::INFINITY]]);
        assert_eq!((o.min, o.max, o.strange), (1.0, 1.0, 2));
        assert_eq!(o.histogram.unwrap().total(), 1);
    }

    #[test]
    fn means_are_per_channel() {
        let mut o = Observed::new(Wants { sums: Some(1), ..Wants::default() });
        o.see(&Tensor::new([1, 2, 2], vec![1f32, 3.0, 5.0, 7.0]).unwrap());
        o.see(&Tensor::new([1, 2, 2], vec![0f32, 0.0, 0.0, 0.0]).unwrap());
        assert_eq!(o.means(), Some(vec![1.0, 3.0]));
    }

    #[test]
    fn rows_have_peaks() {
        let mut o = Observed::new(Wants { peaks: true, ..Wants::default() });
        o.see(&Tensor::new([2, 3], vec![-90f32, 5.0, 1.0, -80.0, 2.0, -7.0]).unwrap());
        assert_eq!(o.peak, Some((2.0, 3)));
    }
}
