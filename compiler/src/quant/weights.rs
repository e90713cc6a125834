//! Constants become integers: weights with a scale per channel, biases in steps of what the product sums up.

use super::scale::step;
use crate::ir::Tensor;

/// Weights of 8 bits around zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// From -127 to 127, in the shape of the weights.
    pub integers: Tensor,
    /// One for each index of the axis, or one.
    pub scales: Vec<f32>,
    /// What rounding takes away from each weight: float minus integer times scale.
    pub lost: Vec<f64>,
}

/// Largest size of a quantized bias: a bit is left for the sum of products.
const MOST_BIAS: f64 = (1u32 << 30) as f64;

/// Bits that a bias gets in a channel whose weights are all zero.
const ALONE_BIAS: f64 = (1u32 << 20) as f64;

/// Quantizes weights, per index of `axis` or as a whole. With `bias`, the scale of the data and one bias per
/// index, scales are wide enough for biases to fit 32 bits.
pub fn quantize(weights: &Tensor, axis: Option<usize>, bias: Option<(f32, &[f64])>) -> Option<Weights> {
    let dims = weights.shape().dims();
    let (count, inner) = match axis {
        Some(a) => (*dims.get(a)?, dims.get(a + 1..)?.iter().product::<usize>()),
        None => (1, weights.len()),
    };
    let (count, inner) = (count.max(1), inner.max(1));
    let values = weights.to_f64_vec()?;
    let mut sizes = vec![0f64; count];
    for (i, v) in values.iter().enumerate() {
        if let Some(size) = sizes.get_mut(i / inner % count) {
            *size = size.max(v.abs());
        }
    }
    let mut scales: Vec<f32> = sizes.iter().map(|&s| step(s, 127.0)).collect();
    if let Some((x, bias)) = bias {
        for (c, &b) in bias.iter().enumerate() {
            let at = if count == 1 { 0 } else { c };
            let dead = sizes.get(at).is_some_and(|s| *s == 0.0);
            let most = if dead { ALONE_BIAS } else { MOST_BIAS };
            let least = step(b.abs() / f64::from(x), most);
            if let Some(scale) = scales.get_mut(at)
                && b != 0.0
                && (dead && count > 1 || least > *scale && least != 1.0)
            {
                *scale = least;
            }
        }
    }
    let scale_of = |i: usize| f64::from(scales.get(i / inner % count).copied().unwrap_or(1.0));
    let integers: Vec<i8> = values
        .iter()
        .enumerate()
        .map(|(i, v)| (v / scale_of(i)).round_ties_even().clamp(-127.0, 127.0) as i8)
        .collect();
    let lost =
        values.iter().zip(&integers).enumerate().map(|(i, (v, &q))| v - f64::from(q) * scale_of(i)).collect();
    Some(Weights { integers: Tensor::new(weights.shape().clone(), integers).ok()?, scales, lost })
}

/// Biases in steps of `x · scale`, and those steps.
pub fn quantize_bias(bias: &[f64], x: f32, scales: &[f32]) -> (Vec<i32>, Vec<f32>) {
    let steps: Vec<f32> = scales.iter().map(|s| x * s).collect();
    let step = |c: usize| f64::from(steps.get(if steps.len() == 1 { 0 } else { c }).copied().unwrap_or(1.0));
    let limit = f64::from(i32::MAX);
    let integers = bias
        .iter()
        .enumerate()
        .map(|(c, b)| (b / step(c)).round_ties_even().clamp(-limit, limit) as i32)
        .collect();
    (integers, steps)
}

/// What rounding of the weights shifts each output channel by, for data of these means per input channel:
/// the correction of its bias. `layout` says where channels stand in the weights.
pub fn shift(weights: &Weights, means: &[f32], layout: Layout) -> Option<Vec<f64>> {
    let dims = weights.integers.shape().dims();
    let mean = |c: usize| means.get(c).copied().map(f64::from);
    let mut out;
    match layout {
        Layout::Conv { groups } => {
            let (outputs, group_in) = (*dims.first()?, *dims.get(1)?);
            let taps: usize = dims.get(2..)?.iter().product();
            let per_group = outputs.checked_div(groups)?.max(1);
            out = vec![0.0; outputs];
            for (run, lost) in weights.lost.chunks(taps.max(1)).enumerate() {
                let (m, c) = (run / group_in.max(1), run % group_in.max(1));
                *out.get_mut(m)? += lost.iter().sum::<f64>() * mean(m / per_group * group_in + c)?;
            }
        }
        Layout::Matrix { transposed } => {
            let [rows, columns] = *dims else { return None };
            out = vec![0.0; if transposed { rows } else { columns }];
            for (i, lost) in weights.lost.iter().enumerate() {
                let (r, c) = (i / columns.max(1), i % columns.max(1));
                let (m, k) = if transposed { (r, c) } else { (c, r) };
                *out.get_mut(m)? += lost * mean(k)?;
            }
        }
    }
    Some(out)
}

/// Where channels stand in weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[out, in / groups, taps…]`.
    Conv {
        /// Number of groups.
        groups: usize,
    },
    /// `[in, out]`, or `[out, in]`.
    Matrix {
        /// The latter.
        transposed: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_uses_its_range() {
        let w = Tensor::new([2, 2], vec![1f32, -0.25, 0.01, 0.03]).unwrap();
        let q = quantize(&w, Some(0), None).unwrap();
        assert_eq!(q.integers.as_slice::<i8>().unwrap(), [127, -32, 42, 127]);
        let all = quantize(&w, None, None).unwrap();
        assert_eq!(
            (all.integers.as_slice::<i8>().unwrap(), all.scales.len()),
            ([127, -32, 1, 4].as_slice(), 1)
        );
    }

    #[test]
    fn biases_fit_their_integers() {
        // Weights of almost nothing, and a channel of nothing, under large biases.
        let w = Tensor::new([3, 1], vec![1e-20f32, 0.0, 1.0]).unwrap();
        let bias = [5.0, 2.0, 3.0];
        let q = quantize(&w, Some(0), Some((0.1, &bias))).unwrap();
        let (integers, steps) = quantize_bias(&bias, 0.1, &q.scales);
        for ((b, i), s) in bias.iter().zip(&integers).zip(&steps) {
            assert!((f64::from(*i) * f64::from(*s) / b - 1.0).abs() < 1e-5, "{b}: {i} steps of {s}");
        }
    }

    #[test]
    fn what_rounding_shifts_is_found() {
        let w = Tensor::new([2, 2], vec![127f32, 0.4, 0.4, 127.0]).unwrap();
        let q = quantize(&w, Some(1), None).unwrap();
        let s = shift(&q, &[1.0, 2.0], Layout::Matrix { transposed: false }).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-5;
        assert!(close(s[0], 0.8) && close(s[1], 0.4), "{s:?}");
        let c = Tensor::new([2, 1, 2], vec![127f32, 0.4, 0.4, 127.0]).unwrap();
        let q = quantize(&c, Some(0), None).unwrap();
        let s = shift(&q, &[1.0, 2.0], Layout::Conv { groups: 2 }).unwrap();
        assert!(close(s[0], 0.4) && close(s[1], 0.8), "{s:?}");
    }
}
