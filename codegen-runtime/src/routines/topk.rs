//! ONNX TopK.

use crate::loops::{at, put};
use crate::num::{Number, above, quotient, remainder};
use crate::operand::Element;

/// The `k` largest (or smallest) of the middle axis of `x: [outer, len, inner]`, best first, with their
/// positions; both outputs are `[outer, k, inner]`.
///
/// Of equals the lower position is better. NaN counts as larger than every number, equal to itself. The
/// results are in order whether or not the operator asks for that.
pub fn topk<T: Number + Element>(
    x: &[T],
    values: &mut [T],
    positions: &mut [i64],
    outer: usize,
    len: usize,
    inner: usize,
    k: usize,
    largest: bool,
) {
    let k = if k < len { k } else { len };
    for slice in 0..outer * inner {
        let (o, i) = (quotient(slice, inner), remainder(slice, inner));
        let first = o * k * inner + i;
        let mut heap = Heap { values, positions, first, step: inner, largest };
        // The k best so far, the worst of them at the root.
        for l in 0..k {
            heap.set(l, (at(x, (o * len + l) * inner + i), l as i64));
        }
        for root in (0..k / 2).rev() {
            heap.sink(root, k);
        }
        for l in k..len {
            let new = (at(x, (o * len + l) * inner + i), l as i64);
            if k > 0 && heap.better(new, heap.get(0)) {
                heap.set(0, new);
                heap.sink(0, k);
            }
        }
        // Worst to the end, one after the other.
        for end in (1..k).rev() {
            let (worst, last) = (heap.get(0), heap.get(end));
            heap.set(end, worst);
            heap.set(0, last);
            heap.sink(0, end);
        }
    }
}

/// A binary heap in one slice of the outputs, whose root is the worst.
struct Heap<'a, T> {
    values: &'a mut [T],
    positions: &'a mut [i64],
    first: usize,
    step: usize,
    largest: bool,
}

impl<T: Number + Element> Heap<'_, T> {
    fn get(&self, i: usize) -> (T, i64) {
        let place = self.first + i * self.step;
        (at(self.values, place), at(self.positions, place))
    }

    fn set(&mut self, i: usize, (value, position): (T, i64)) {
        let place = self.first + i * self.step;
        put(self.values, place, value);
        put(self.positions, place, position);
    }

    fn better(&self, a: (T, i64), b: (T, i64)) -> bool {
        let (more, less) = if self.largest { (a.0, b.0) } else { (b.0, a.0) };
        above(more, less) || (!above(less, more) && a.1 < b.1)
    }

    /// Restores the heap of `len` entries below `root`.
    fn sink(&mut self, mut root: usize, len: usize) {
        loop {
            let left = 2 * root + 1;
            if left >= len {
                return;
            }
            let right = left + 1;
            let worse =
                if right < len && self.better(self.get(left), self.get(right)) { right } else { left };
            let (parent, child) = (self.get(root), self.get(worse));
            if self.better(child, parent) {
                return;
            }
            self.set(root, child);
            self.set(worse, parent);
            root = worse;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn agrees_with_sorting() {
        let mut state = 1u32;
        for round in 0..200 {
            let mut next = |n: usize| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) as usize % n
            };
            let (outer, len, inner) = (1 + next(3), 1 + next(30), 1 + next(3));
            let k = next(len + 1);
            let x: Vec<i32> = (0..outer * len * inner).map(|_| next(12) as i32).collect();
            let largest = round % 2 == 0;
            let (mut values, mut positions) = (vec![-1; outer * k * inner], vec![-1; outer * k * inner]);
            topk(&x, &mut values, &mut positions, outer, len, inner, k, largest);
            for (o, i) in (0..outer * inner).map(|s| (s / inner, s % inner)) {
                let mut all: Vec<(i32, i64)> =
                    (0..len).map(|l| (x[(o * len + l) * inner + i], l as i64)).collect();
                all.sort_by_key(|(v, l)| (if largest { -v } else { *v }, *l));
                for (j, want) in all.iter().take(k).enumerate() {
                    let place = (o * k + j) * inner + i;
                    assert_eq!((values[place], positions[place]), *want);
                }
            }
        }
    }

    #[test]
    fn nan_is_the_largest() {
        let x = [1.0, f32::NAN, 3.0, f32::NAN];
        let (mut values, mut positions) = ([0.0; 3], [0; 3]);
        topk(&x, &mut values, &mut positions, 1, 4, 1, 3, true);
        assert_eq!(positions, [1, 3, 2]);
        topk(&x, &mut values, &mut positions, 1, 4, 1, 3, false);
        assert_eq!(positions, [0, 2, 1]);
        assert_eq!(values[..2], [1.0, 3.0]);
    }

    #[test]
    fn short_slices_do_not_panic() {
        topk(&[1i64], &mut [0], &mut [], 2, 3, 2, 3, true);
        topk::<f64>(&[], &mut [], &mut [], 1, 0, 1, 5, true);
    }
}
