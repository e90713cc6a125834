//! ONNX GridSample.

use super::real::Real;
use crate::loops::{at, put};
use crate::math::double::{floor, round};
use crate::num::{quotient, remainder};

/// Samples `x: [batch, channels, depth, height, width]` at `grid: [batch, points, 2 or 3]` (x, y and z in
/// -1 to 1) into `y: [batch, channels, points]`.
///
/// A plane has `depth` 1 and `volume` false. `order` is 0 (nearest), 1 (linear) or 3 (cubic, planes only);
/// beyond the edge lie zeros (`padding` 0), the edge (1) or a reflection (2).
pub fn grid_sample<T: Real>(
    x: &[T],
    grid: &[T],
    y: &mut [T],
    batch: usize,
    channels: usize,
    depth: usize,
    height: usize,
    width: usize,
    points: usize,
    volume: bool,
    order: usize,
    padding: usize,
    align_corners: bool,
) {
    let axes = if volume { 3 } else { 2 };
    let extents = [width, height, depth];
    for n in 0..batch * points {
        let (sample, point) = (quotient(n, points), remainder(n, points));
        let mut taps = [Taps::ONE; 3];
        for (k, (taps, &extent)) in taps.iter_mut().zip(&extents).enumerate().take(axes) {
            let place = at(grid, n * axes + k).wide();
            *taps = Taps::new(place, extent, order, padding, align_corners);
        }
        let [tx, ty, tz] = &taps;
        for c in 0..channels {
            let first = (sample * channels + c) * depth;
            let mut sum = 0.0;
            for (z, wz) in tz.each() {
                for (v, wy) in ty.each() {
                    for (u, wx) in tx.each() {
                        let value = at(x, ((first + z) * height + v) * width + u).wide();
                        sum += value * (wx * wy * wz);
                    }
                }
            }
            put(y, (sample * channels + c) * points + point, T::narrow(sum));
        }
    }
}

/// The elements of an axis that a sample is made of.
struct Taps {
    at: [usize; 4],
    weights: [f64; 4],
    /// Taps that lie outside count for nothing, not even where the value is no number.
    inside: [bool; 4],
}

impl Taps {
    /// An axis that has no coordinate.
    const ONE: Taps = Taps { at: [0; 4], weights: [1.0; 4], inside: [true, false, false, false] };

    fn new(place: f64, extent: usize, order: usize, padding: usize, align: bool) -> Taps {
        let n = extent as f64;
        // The coordinate in elements; the range that reflects is one of centers or one of edges.
        let (mut v, low, high) = if align {
            ((place + 1.0) / 2.0 * (n - 1.0), 0.0, n - 1.0)
        } else {
            (((place + 1.0) * n - 1.0) / 2.0, -0.5, n - 0.5)
        };
        if order != 3 {
            v = settle(v, low, high, n, padding);
        }
        let mut taps = Taps { at: [0; 4], weights: [0.0; 4], inside: [false; 4] };
        let (first, count) = match order {
            0 => (round(v), 1),
            1 => (floor(v), 2),
            _ => (floor(v) - 1.0, 4),
        };
        let t = v - floor(v);
        let weights = match order {
            0 => [1.0, 0.0, 0.0, 0.0],
            1 => [1.0 - t, t, 0.0, 0.0],
            _ => cubic(t),
        };
        let slots = taps.at.iter_mut().zip(&mut taps.weights).zip(&mut taps.inside).zip(weights);
        for (i, (((place, weight), inside), w)) in slots.enumerate().take(count) {
            let mut p = first + i as f64;
            if order == 3 {
                p = settle(p, low, high, n, padding);
            }
            *inside = p >= 0.0 && p <= n - 1.0;
            *place = p as usize;
            *weight = w;
        }
        taps
    }

    fn each(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let all = self.at.iter().zip(&self.weights).zip(&self.inside);
        all.filter(|(_, inside)| **inside).map(|((&at, &w), _)| (at, w))
    }
}

/// A coordinate after padding by the edge or by reflection.
fn settle(v: f64, low: f64, high: f64, n: f64, padding: usize) -> f64 {
    let clamp = |v: f64| if v > 0.0 { if v < n - 1.0 { v } else { n - 1.0 } } else { 0.0 };
    match padding {
        0 => v,
        1 => clamp(v),
        _ => {
            let span = high - low;
            if span <= 0.0 {
                return 0.0;
            }
            // Folded into two spans, of which the second runs backwards.
            let turned = (v - low) / (2.0 * span);
            let rest = (turned - floor(turned)) * (2.0 * span);
            clamp(if rest <= span { low + rest } else { high - (rest - span) })
        }
    }
}

/// Keys' kernel with a = -0.75 at distances 1 + t, t, 1 - t, 2 - t.
fn cubic(t: f64) -> [f64; 4] {
    let a = -0.75;
    let near = |x: f64| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
    [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)]
}

#[cfg(test)]
mod tests {
    use super::grid_sample;

    #[test]
    fn a_plane_at_its_centers_and_beyond() {
        let x = [1.0f32, 2.0, 3.0, 4.0];
        let grid = [-1.0, -1.0, 0.0, 0.0, 3.0, 1.0];
        let mut y = [0.0; 3];
        for (order, padding, expected) in [
            (1, 0, [1.0, 2.5, 0.0]),
            (1, 1, [1.0, 2.5, 4.0]),
            (1, 2, [1.0, 2.5, 3.0]),
            (0, 0, [1.0, 1.0, 0.0]),
        ] {
            grid_sample(&x, &grid, &mut y, 1, 1, 1, 2, 2, 3, false, order, padding, true);
            assert_eq!(y, expected);
        }
        grid_sample(&[], &[f32::NAN], &mut y, 2, 2, 2, 0, 0, 3, true, 3, 2, false);
    }
}
