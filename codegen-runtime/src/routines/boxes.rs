//! Boxes in images: ONNX NonMaxSuppression.

use super::places::sort;
use crate::loops::{at, put};
use core::cmp::Ordering;

/// Keeps, per batch and class, boxes in the order of their scores that overlap with none kept before.
///
/// `boxes: [batches, len, 4]`, `scores: [batches, classes, len]`, `most`: how many of a class, `overlap`: intersection over
/// union above which the later box goes, `least`: scores must be above it where `scored`. `rows` gets batch, class
/// and position of each, at most `limit` of a class, zeros behind the last; `number` how many they are. `order` is
/// scratch of `len` elements. Boxes are corners `y1, x1, y2, x2` in either order, or with `centers` `x, y, w, h`.
pub fn non_max_suppression(
    boxes: &[f32],
    scores: &[f32],
    most: &[i64],
    overlap: &[f32],
    least: &[f32],
    rows: &mut [i64],
    number: &mut [i64],
    order: &mut [i64],
    batches: usize,
    classes: usize,
    len: usize,
    limit: usize,
    centers: bool,
    scored: bool,
) {
    rows.fill(0);
    let most = at(most, 0);
    let limit = if most <= 0 {
        0
    } else if (most as u64) < limit as u64 {
        most as usize
    } else {
        limit
    };
    let (overlap, least) = (at(overlap, 0), at(least, 0));
    let mut found = 0;
    for batch in 0..batches {
        let boxes = Boxes { boxes, first: batch * len, centers };
        for class in 0..classes {
            let row = (batch * classes + class) * len;
            let mut candidates = 0;
            for i in 0..len {
                if !scored || at(scores, row + i) > least {
                    put(order, candidates, i as i64);
                    candidates += 1;
                }
            }
            let Some(order) = order.get_mut(..candidates) else { continue };
            sort(order, |a, b| before(at(scores, row + a as usize), at(scores, row + b as usize), a < b));
            let start = found;
            for &i in order.iter() {
                if found - start >= limit {
                    break;
                }
                let candidate = boxes.corners(i as usize);
                let free = (start..found).all(|k| {
                    let kept = boxes.corners(at(rows, 3 * k + 2) as usize);
                    !suppresses(kept, candidate, overlap)
                });
                if free {
                    put(rows, 3 * found, batch as i64);
                    put(rows, 3 * found + 1, class as i64);
                    put(rows, 3 * found + 2, i);
                    found += 1;
                }
            }
        }
    }
    put(number, 0, found as i64);
}

/// Higher scores first, NaN last, and in front of its equals what stood there.
fn before(a: f32, b: f32, in_front: bool) -> bool {
    match a.partial_cmp(&b) {
        Some(Ordering::Equal) => in_front,
        Some(by) => by.is_gt(),
        None => (!a.is_nan() && b.is_nan()) || (a.is_nan() == b.is_nan() && in_front),
    }
}

/// Corner of a box as left, top, right, bottom.
type Corners = [f32; 4];

struct Boxes<'a> {
    boxes: &'a [f32],
    first: usize,
    centers: bool,
}

impl Boxes<'_> {
    fn corners(&self, i: usize) -> Corners {
        let place = (self.first + i) * 4;
        let [a, b, c, d] = [0, 1, 2, 3].map(|k| at(self.boxes, place + k));
        if self.centers {
            let (half_w, half_h) = (c / 2.0, d / 2.0);
            return [a - half_w, b - half_h, a + half_w, b + half_h];
        }
        [b.min(d), a.min(c), b.max(d), a.max(c)]
    }
}

fn suppresses(a: Corners, b: Corners, threshold: f32) -> bool {
    let (left, top) = (a[0].max(b[0]), a[1].max(b[1]));
    let (right, bottom) = (a[2].min(b[2]), a[3].min(b[3]));
    let common = (right - left) * (bottom - top);
    let one = (a[2] - a[0]) * (a[3] - a[1]);
    let other = (b[2] - b[0]) * (b[3] - b[1]);
    let union = one + other - common;
    right > left && bottom > top && one > 0.0 && other > 0.0 && union > 0.0 && common / union > threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_overlapping_boxes_stays() {
        let boxes = [0., 0., 1., 1., 1., 1.1, 0., 0.1, 0., 10., 1., 11.];
        let (mut rows, mut number, mut order) = ([9; 9], [9], [9; 3]);
        let mut of = |scores: [f32; 3], most: i64, overlap: f32, least: f32| {
            non_max_suppression(
                &boxes,
                &scores,
                &[most],
                &[overlap],
                &[least],
                &mut rows,
                &mut number,
                &mut order,
                1,
                1,
                3,
                3,
                false,
                true,
            );
            (number[0], rows)
        };
        assert_eq!(of([0.9, 0.95, 0.1], 3, 0.5, 0.0), (2, [0, 0, 1, 0, 0, 2, 0, 0, 0]));
        assert_eq!(of([0.9, 0.95, 0.1], 3, 0.9, 0.0), (3, [0, 0, 1, 0, 0, 0, 0, 0, 2]));
        assert_eq!(of([0.9, 0.95, 0.1], 3, 0.5, 0.2).0, 1);
        assert_eq!(of([0.5, 0.5, 0.5], 1, 0.5, 0.2), (1, [0; 9]));
        assert_eq!(of([f32::NAN, 0.5, 0.5], 9, 0.5, 0.2), (2, [0, 0, 1, 0, 0, 2, 0, 0, 0]));
        assert_eq!(of([0.9, 0.95, 0.1], i64::MIN, 0.5, 0.0).0, 0);
    }
}
