//! ONNX MelWeightMatrix.

use crate::loops::{at, put};
use crate::math::double::{expm1, floor, ln1p};

/// Triangles of `bands` bands, evenly spaced on the mel scale between the frequencies `low` and `high` (one element each), over the
/// `bins` bins of a transform of `length` elements at `rate` samples per second, in `y: [bins, bands]`.
pub fn weights(
    rate: &[f64],
    low: &[f64],
    high: &[f64],
    y: &mut [f64],
    length: usize,
    bins: usize,
    bands: usize,
) {
    y.fill(0.0);
    let (rate, low, high) = (at(rate, 0), ln1p(at(low, 0) / 700.0), ln1p(at(high, 0) / 700.0));
    let step = (high - low) / (bands + 2) as f64;
    let corner = |i: usize| floor((length + 1) as f64 * (700.0 * expm1(low + i as f64 * step)) / rate) as i64;
    let clamped = |place: i64| place.clamp(0, bins as i64);
    for band in 0..bands {
        let [left, center, right] = [corner(band), corner(band + 1), corner(band + 2)];
        let width = |from: i64, to: i64| to as f64 - from as f64;
        for bin in clamped(left)..clamped(center) {
            put(y, bin as usize * bands + band, width(left, bin) / width(left, center));
        }
        for bin in clamped(center)..clamped(right) {
            put(y, bin as usize * bands + band, width(bin, right) / width(center, right));
        }
        if let Ok(peak) = usize::try_from(center)
            && peak < bins
        {
            put(y, peak * bands + band, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::weights;

    #[test]
    fn triangles() {
        let mut y = [9.0; 10];
        weights(&[8192.0], &[0.0], &[4096.0], &mut y, 8, 5, 2);
        assert_eq!(y, [1., 0., 0., 1., 0., 0., 0., 0., 0., 0.]);
        weights(&[0.0], &[f64::NAN], &[-1e9], &mut y, 8, 5, 2);
        weights(&[], &[], &[], &mut [], 8, 5, 2);
    }
}
