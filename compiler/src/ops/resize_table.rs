//! One axis of a Resize as a table: which elements each output reads, and with what weights.

use super::OpError;

/// ONNX `coordinate_transformation_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // ONNX's names
pub enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfHalfPixelForNn,
    TfCropAndResize,
}

/// ONNX `nearest_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // ONNX's names
pub enum Rounding {
    /// What operators before opset 11 do, which have no such attribute: up where an axis shrinks, down where it
    /// grows. Their texts don't say so; their tests and ONNX Runtime do.
    ByScale,
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// ONNX `mode`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// The nearest element.
    Nearest(Rounding),
    /// Two neighbours, or with `antialias` all under a triangle as wide as the reduction.
    Linear {
        /// Widen the filter when shrinking.
        antialias: bool,
    },
    /// Four neighbours under Keys' cubic, or more with `antialias`.
    Cubic {
        /// Widen the filter when shrinking.
        antialias: bool,
        /// `cubic_coeff_a`.
        a: f32,
    },
}

/// How the outputs of one axis are positioned and weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    /// Input elements, at least 1.
    pub input: usize,
    /// Output elements.
    pub output: usize,
    /// Output elements per input element, as given or from the sizes.
    pub scale: f32,
    /// Whether the scale is the quotient of the extents.
    pub sized: bool,
    /// First and last position in parts of the axis (`tf_crop_and_resize`).
    pub roi: (f32, f32),
}

/// The table of one axis: `taps` entries for each output.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    /// Entries per output.
    pub taps: usize,
    /// Elements read, all on the axis; `[output][tap]`.
    pub index: Vec<i64>,
    /// Their weights.
    pub weight: Vec<f64>,
    /// Added to each output; empty where every output lies on the axis.
    pub outside: Vec<f64>,
}

impl Table {
    /// Every output is its own input.
    pub(super) fn is_identity(&self) -> bool {
        self.outside.is_empty()
            && self
                .index
                .chunks(self.taps)
                .zip(self.weight.chunks(self.taps))
                .enumerate()
                .all(|(o, (i, w))| i.iter().zip(w).all(|(&i, &w)| w == 0.0 || (w == 1.0 && i == o as i64)))
    }
}

impl Axis {
    /// The input position of output `x`. Where a scale is given, in the arithmetic of runtimes (`f32`), so that
    /// positions which are whole numbers on paper stay whole; a quotient of extents is not rounded before the end.
    fn position(&self, coordinates: Coordinates, x: usize) -> f32 {
        let (x, input, output) = (x as f64, self.input as f64, self.output as f64);
        let whole = self.sized || coordinates == Coordinates::TfCropAndResize;
        // Of two `f32`, one operation in `f64` rounds to what it is in `f32`.
        let r = |v: f64| if whole { v } else { f64::from(v as f32) };
        let scale = if self.sized { output / input } else { self.scale.into() };
        // The extent before it was rounded to whole elements.
        let resized = r(scale * input);
        let half_pixel = r(r(r(x + 0.5) / scale) - 0.5);
        let same = scale == 1.0 && self.input == self.output;
        let position = match coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = r(output / resized);
                r(r(r(input / 2.0) * r(1.0 - adjustment)) + half_pixel)
            }
            Coordinates::PytorchHalfPixel if resized == 1.0 => -0.5,
            Coordinates::PytorchHalfPixel => half_pixel,
            Coordinates::AlignCorners if resized == 1.0 => 0.0,
            Coordinates::AlignCorners => r(r(x * r(input - 1.0)) / r(resized - 1.0)),
            Coordinates::Asymmetric => r(x / scale),
            // Half a pixel to the right on every axis; those that are not resized stay, as in ONNX Runtime.
            Coordinates::TfHalfPixelForNn if same => x,
            Coordinates::TfHalfPixelForNn => r(r(x + 0.5) / scale),
            Coordinates::TfCropAndResize => {
                let (start, end) = (f64::from(self.roi.0), f64::from(self.roi.1));
                let along = match resized == 1.0 {
                    true => (end - start) * (input - 1.0) / 2.0,
                    false => x * (end - start) * (input - 1.0) / (resized - 1.0),
                };
                along + start * (input - 1.0)
            }
        };
        position as f32
    }

    /// The axis' table. With `exclude_outside` neighbours beyond the edge weigh nothing; otherwise
    /// the edge is repeated. Positions outside the axis give `extrapolation` under
    /// `tf_crop_and_resize`.
    pub(super) fn table(
        &self,
        mode: Mode,
        coordinates: Coordinates,
        exclude_outside: bool,
        extrapolation: f32,
    ) -> Result<Table, OpError> {
        let last = i64::try_from(self.input)
            .ok()
            .and_then(|n| n.checked_sub(1))
            .filter(|&n| n >= 0)
            .ok_or_else(|| OpError::invalid("an empty axis cannot be resized"))?;
        let mut table = Table { taps: 1, index: Vec::new(), weight: Vec::new(), outside: Vec::new() };
        let mut outside = vec![0.0; self.output];
        for (x, extra) in outside.iter_mut().enumerate() {
            let position = self.position(coordinates, x);
            if !position.is_finite() {
                return Err(OpError::invalid("a position of the resized image is not a number"));
            }
            let floor = position.floor();
            let ratio = f64::from(position - floor);
            let (first, mut weights) = neighbours(mode, ratio, self.scale.into());
            let start = floor as i64 + first;
            if exclude_outside {
                for (i, w) in weights.iter_mut().enumerate() {
                    if !(0..=last).contains(&start.saturating_add(i as i64)) {
                        *w = 0.0;
                    }
                }
                let sum: f64 = weights.iter().sum();
                weights.iter_mut().for_each(|w| *w /= sum);
            }
            if coordinates == Coordinates::TfCropAndResize && (position < 0.0 || position > last as f32) {
                weights.iter_mut().for_each(|w| *w = 0.0);
                *extra = extrapolation.into();
                table.outside = vec![0.0];
            }
            table.taps = weights.len();
            table.index.extend((0..weights.len()).map(|i| start.saturating_add(i as i64).clamp(0, last)));
            table.weight.extend(weights);
        }
        if !table.outside.is_empty() {
            table.outside = outside;
        }
        Ok(table)
    }
}

/// The first neighbour of a position relative to its floor, and the weights from there on.
fn neighbours(mode: Mode, ratio: f64, scale: f64) -> (i64, Vec<f64>) {
    let scale = if scale < 1.0 { scale } else { 1.0 };
    match mode {
        Mode::Nearest(rounding) => {
            let up = match rounding {
                Rounding::RoundPreferFloor => ratio > 0.5,
                Rounding::RoundPreferCeil => ratio >= 0.5,
                Rounding::ByScale => scale < 1.0 && ratio > 0.0,
                Rounding::Floor => false,
                Rounding::Ceil => ratio > 0.0,
            };
            (i64::from(up), vec![1.0])
        }
        Mode::Linear { antialias: false } => (0, vec![1.0 - ratio, ratio]),
        Mode::Linear { antialias: true } => {
            filtered((-1.0 / scale).floor() as i64 + 1, ratio, scale, |x| (1.0 - x).clamp(0.0, 1.0))
        }
        Mode::Cubic { antialias: false, a } => {
            let keys = |x| cubic(x, a.into());
            (-1, vec![keys(1.0 + ratio), keys(ratio), keys(1.0 - ratio), keys(2.0 - ratio)])
        }
        Mode::Cubic { antialias: true, a } => {
            filtered((-2.0 / scale).floor() as i64 + 1, ratio, scale, |x| cubic(x, a.into()))
        }
    }
}

/// Normalised weights of a filter from `start` on, symmetric around a half.
fn filtered(start: i64, ratio: f64, scale: f64, filter: impl Fn(f64) -> f64) -> (i64, Vec<f64>) {
    let mut weights: Vec<f64> =
        (start..2 - start).map(|i| filter(((i as f64 - ratio) * scale).abs())).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= sum);
    (start, weights)
}

/// Keys' cubic at distance `x ≥ 0`.
fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(input: usize, output: usize) -> Axis {
        Axis { input, output, scale: output as f32 / input as f32, sized: false, roi: (0.0, 1.0) }
    }

    fn nearest(a: Axis, coordinates: Coordinates, rounding: Rounding) -> Vec<i64> {
        a.table(Mode::Nearest(rounding), coordinates, false, 0.0).unwrap().index
    }

    #[test]
    fn nearest_positions() {
        use Coordinates::*;
        use Rounding::*;
        assert_eq!(nearest(axis(2, 4), Asymmetric, Floor), [0, 0, 1, 1]);
        assert_eq!(nearest(axis(2, 4), HalfPixel, RoundPreferFloor), [0, 0, 1, 1]);
        assert_eq!(nearest(axis(2, 4), Asymmetric, Ceil), [0, 1, 1, 1]);
        assert_eq!(nearest(axis(2, 4), Asymmetric, RoundPreferCeil), [0, 1, 1, 1]);
        assert_eq!(nearest(axis(2, 4), Asymmetric, RoundPreferFloor), [0, 0, 1, 1]);
        assert_eq!(nearest(axis(4, 2), AlignCorners, Floor), [0, 3]);
        assert_eq!(nearest(axis(4, 2), TfHalfPixelForNn, Floor), [1, 3]);
        // 2 / (2/3) is 3 exactly in f32.
        let third = Axis { input: 6, output: 4, scale: 2.0 / 3.0, sized: false, roi: (0.0, 1.0) };
        assert_eq!(nearest(third, Asymmetric, Floor), [0, 1, 3, 4]);
        // 2 / (4/7) is 3.5 exactly, though not in f32.
        let sized = Axis { sized: true, ..axis(7, 4) };
        assert_eq!(nearest(sized, Asymmetric, RoundPreferCeil), [0, 2, 4, 5]);
    }

    #[test]
    fn linear_weights() {
        let t =
            axis(2, 4).table(Mode::Linear { antialias: false }, Coordinates::HalfPixel, false, 0.0).unwrap();
        assert_eq!(t.index, [0, 0, 0, 1, 0, 1, 1, 1]);
        assert_eq!(t.weight, [0.25, 0.75, 0.75, 0.25, 0.25, 0.75, 0.75, 0.25]);
        let wide =
            axis(4, 2).table(Mode::Linear { antialias: true }, Coordinates::HalfPixel, true, 0.0).unwrap();
        // Distances 1.5, .5, .5, 1.5 halved: 1/4, 3/4, 3/4, 1/4; the first output's first neighbour is outside.
        assert_eq!((wide.taps, &wide.weight[..4]), (4, &[0.0, 3. / 7., 3. / 7., 1. / 7.][..]));
    }

    #[test]
    fn cubic_weights_sum_to_one() {
        for (ratio, scale) in [(0.0, 1.0), (0.3, 1.0), (0.5, 0.4)] {
            for antialias in [false, true] {
                let (first, w) = neighbours(Mode::Cubic { antialias, a: -0.75 }, ratio, scale);
                assert!((w.iter().sum::<f64>() - 1.0).abs() < 1e-12 && first < 0);
            }
        }
        let (_, w) = neighbours(Mode::Cubic { antialias: false, a: -0.5 }, 0.5, 1.0);
        assert_eq!(w, [-0.0625, 0.5625, 0.5625, -0.0625]);
    }

    #[test]
    fn cropping_extrapolates() {
        let a = Axis { input: 3, output: 3, scale: 1.0, sized: false, roi: (-0.5, 0.5) };
        let t = a.table(Mode::Linear { antialias: false }, Coordinates::TfCropAndResize, false, 9.0).unwrap();
        assert_eq!(t.outside, [9.0, 0.0, 0.0]);
        assert_eq!(t.weight[..2], [0.0, 0.0]);
        assert!(
            axis(0, 3).table(Mode::Linear { antialias: false }, Coordinates::HalfPixel, false, 0.0).is_err()
        );
    }
}
