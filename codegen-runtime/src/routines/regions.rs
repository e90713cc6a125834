//! ONNX RoiAlign, MaxRoiPool.

use super::real::Real;
use crate::fault::Fault;
use crate::loops::{at, index, put};
use crate::math::double::{ceil, floor};

/// Resamples regions `rois: [n, 4]` (x1, y1, x2, y2) of the images `x: [batch, channels, height, width]` that `images: [n]` names
/// into `y: [n, channels, rows, columns]`.
///
/// `sampling` is the number of samples along an axis of a bin; 0 takes as many as the bin spans pixels, at most four
/// for each pixel of the image. `max` takes the largest weighted corner of all samples instead of their mean.
pub fn roi_align<T: Real>(
    x: &[T],
    rois: &[T],
    images: &[i64],
    y: &mut [T],
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    rows: usize,
    columns: usize,
    sampling: usize,
    scale: f32,
    half_pixel: bool,
    max: bool,
) -> Fault {
    let mut fault = Fault::None;
    for (n, &image) in images.iter().enumerate() {
        let image = index(image, batch, &mut fault);
        let edge = |i: usize| at(rois, n * 4 + i).wide() * f64::from(scale);
        let across = Line::new(edge(0), edge(2), columns, width, sampling, half_pixel);
        let down = Line::new(edge(1), edge(3), rows, height, sampling, half_pixel);
        let samples = (down.count * across.count) as f64;
        for c in 0..channels {
            let plane = (image * channels + c) * height * width;
            for r in 0..rows {
                for s in 0..columns {
                    let (mut sum, mut top) = (0.0, f64::NEG_INFINITY);
                    for i in 0..down.count {
                        let (v, v_next, v_part) = down.tap(r, i);
                        for j in 0..across.count {
                            let (u, u_next, u_part) = across.tap(s, j);
                            // A weight below zero marks a sample outside.
                            let outside = v_part < 0.0 || u_part < 0.0;
                            let pixel = |row: usize, column: usize, weight: f64| match outside {
                                true => 0.0,
                                false => at(x, plane + row * width + column).wide() * weight,
                            };
                            let corners = [
                                pixel(v, u, (1.0 - v_part) * (1.0 - u_part)),
                                pixel(v, u_next, (1.0 - v_part) * u_part),
                                pixel(v_next, u, v_part * (1.0 - u_part)),
                                pixel(v_next, u_next, v_part * u_part),
                            ];
                            for corner in corners {
                                sum += corner;
                                if corner > top {
                                    top = corner;
                                }
                            }
                        }
                    }
                    let value = match (samples > 0.0, max) {
                        (false, _) => 0.0,
                        (true, true) => top,
                        (true, false) => sum / samples,
                    };
                    put(y, ((n * channels + c) * rows + r) * columns + s, T::narrow(value));
                }
            }
        }
    }
    fault
}

/// One axis of a region.
struct Line {
    start: f64,
    bin: f64,
    count: usize,
    extent: usize,
}

impl Line {
    fn new(from: f64, to: f64, bins: usize, extent: usize, sampling: usize, half_pixel: bool) -> Line {
        let (start, mut size) = (if half_pixel { from - 0.5 } else { from }, to - from);
        if !half_pixel {
            // Also where the region's extent is no number.
            size = if size > 1.0 { size } else { 1.0 };
        }
        let bin = size / bins as f64;
        let asked = ceil(bin);
        let most = extent.saturating_mul(4);
        let count = match sampling {
            0 if asked < most as f64 => asked as usize,
            0 if asked.is_nan() => 0,
            0 => most,
            n => n,
        };
        Line { start, bin, count, extent }
    }

    /// Of sample `i` of a bin: the pixel in front, that behind, and the weight of the latter; below zero outside.
    fn tap(&self, bin: usize, i: usize) -> (usize, usize, f64) {
        let part = (i as f64 + 0.5) * self.bin / self.count as f64;
        let place = self.start + bin as f64 * self.bin + part;
        if !(place >= -1.0 && place <= self.extent as f64) {
            return (0, 0, -1.0);
        }
        let place = if place > 0.0 { place } else { 0.0 };
        let (low, last) = (floor(place) as usize, self.extent.saturating_sub(1));
        if low >= last { (last, last, 0.0) } else { (low, low + 1, place - low as f64) }
    }
}

/// The largest element in each of `rows · columns` bins of regions `rois: [n, 5]` (image, x1, y1, x2, y2) of the images
/// `x: [batch, channels, height, width]`, in `y: [n, channels, rows, columns]`; zero in a bin without elements.
pub fn max_roi_pool<T: Real>(
    x: &[T],
    rois: &[T],
    y: &mut [T],
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    rows: usize,
    columns: usize,
    scale: f32,
) -> Fault {
    let mut fault = Fault::None;
    let (regions, _) = rois.as_chunks::<5>();
    for (n, &[image, x1, y1, x2, y2]) in regions.iter().enumerate() {
        let image = index(floor(image.wide()) as i64, batch, &mut fault);
        let corner = |v: T| {
            let v = v.wide() * f64::from(scale);
            // Halves away from zero.
            let (size, low) = (v.abs(), floor(v.abs()));
            (if size - low >= 0.5 { low + 1.0 } else { low }).copysign(v) as i64
        };
        let (left, top) = (corner(x1), corner(y1));
        let (wide, high) = (span(left, corner(x2)), span(top, corner(y2)));
        for c in 0..channels {
            let plane = (image * channels + c) * height * width;
            for r in 0..rows {
                let (from_row, to_row) = bin(top, high, r, rows, height);
                for s in 0..columns {
                    let (from, to) = bin(left, wide, s, columns, width);
                    let mut best: Option<f64> = None;
                    for v in from_row..to_row {
                        for u in from..to {
                            let value = at(x, plane + v * width + u).wide();
                            best = match best {
                                Some(b) => Some(if value > b { value } else { b }),
                                None => Some(value),
                            };
                        }
                    }
                    let value = T::narrow(best.unwrap_or(0.0));
                    put(y, ((n * channels + c) * rows + r) * columns + s, value);
                }
            }
        }
    }
    fault
}

/// Elements from one corner to the other, both counted; at least one.
fn span(from: i64, to: i64) -> u64 {
    to.saturating_sub(from).saturating_add(1).clamp(1, 1 << 40) as u64
}

/// The elements of bin `i` of `bins` along an axis of `extent`, for a region of `size` elements from `start`.
fn bin(start: i64, size: u64, i: usize, bins: usize, extent: usize) -> (usize, usize) {
    let inside = |place: u64| start.saturating_add(place as i64).clamp(0, extent as i64) as usize;
    let bins = (bins as u64).max(1);
    let (from, to) = (size.saturating_mul(i as u64), size.saturating_mul(i as u64 + 1));
    (inside(from / bins), inside(to.div_ceil(bins)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_maxima_of_a_ramp() {
        let x: [f32; 16] = core::array::from_fn(|i| (i % 4) as f32);
        let rois = [1.0, 1.0, 3.0, 3.0, 0.0, 0.0, 2.0, 4.0];
        let mut y = [0.0; 4];
        let fault = roi_align(&x, &rois, &[0, 0], &mut y, 1, 1, 4, 4, 1, 2, 0, 1.0, true, false);
        assert_eq!((y, fault), ([1.0, 2.0, 0.0, 1.0], Fault::None));
        let fault = roi_align(&x, &rois, &[0, 7], &mut y, 1, 1, 4, 4, 1, 1, 1, 1.0, true, true);
        assert_eq!((&y[..2], fault), (&[0.5, 0.25][..], Fault::IndexOutOfRange));
        let wild = [f32::NAN, -1e30, 1e30, f32::INFINITY];
        roi_align(&x, &wild, &[0], &mut y, 1, 1, 4, 4, 1, 2, 0, 1.0, false, false);
        roi_align(&[], &wild, &[-9], &mut y, 0, 1, 0, 0, 0, 0, 0, 1.0, false, true);
    }

    #[test]
    fn pooled_bins() {
        let x: [f64; 16] = core::array::from_fn(|i| i as f64);
        let mut y = [9.0; 8];
        let rois = [0.0, 0.0, 0.0, 3.0, 3.0, 0.0, 2.0, 2.0, 9.0, 9.0];
        let fault = max_roi_pool(&x, &rois, &mut y, 1, 1, 4, 4, 2, 2, 1.0);
        assert_eq!((y, fault), ([5., 7., 13., 15., 15., 0., 0., 0.], Fault::None));
        max_roi_pool(&x, &[f64::NAN, f64::MAX, -1e300, f64::MIN, 1e300], &mut y, 1, 1, 4, 4, 2, 2, 1e30);
    }
}
