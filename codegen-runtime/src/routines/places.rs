//! Places whose number a run decides: ONNX NonZero, Unique.

use crate::Bool;
use crate::loops::{at, put};
use crate::num::{Number, above, quotient, remainder};
use crate::operand::Element;

/// Coordinates of the true elements of `x`, which has `len` elements in axes of these `extents`: one row of `len` per
/// axis, zeros behind the last place. `count` gets the number of places.
pub fn non_zero(x: &[Bool], extents: &[i64], rows: &mut [i64], count: &mut [i64], len: usize) {
    rows.fill(0);
    let mut found = 0;
    for (i, &yes) in x.iter().enumerate() {
        if !yes.get() {
            continue;
        }
        let mut rest = i;
        for (axis, &extent) in extents.iter().enumerate().rev() {
            put(rows, axis * len + found, remainder(rest, extent as usize) as i64);
            rest = quotient(rest, extent as usize);
        }
        found += 1;
    }
    put(count, 0, found as i64);
}

/// The different slices of `x: [outer, len, inner]` along its middle axis. `first` gets the first position of each,
/// `back` for each slice its place among the different ones, `counts` how often each is there, `number` how many they
/// are; zeros behind the last. `order` is scratch of `len` elements. NaN equals NaN and is the largest.
pub fn unique<T: Number + Element>(
    x: &[T],
    first: &mut [i64],
    back: &mut [i64],
    counts: &mut [i64],
    number: &mut [i64],
    order: &mut [i64],
    outer: usize,
    len: usize,
    inner: usize,
    sorted: bool,
) {
    let by = Slices { x, outer, len, inner };
    for (l, place) in order.iter_mut().enumerate() {
        *place = l as i64;
    }
    sort(order, |a, b| by.less(a, b) || !by.less(b, a) && a < b);
    first.fill(0);
    counts.fill(0);
    let (mut found, mut leader) = (0, 0);
    // Leads from each slice to the first of its kind, which comes first among equals.
    for k in 0..len {
        let l = at(order, k);
        if k == 0 || by.less(leader, l) {
            leader = l;
            if sorted {
                put(first, found, l);
            }
            found += 1;
        }
        put(back, l as usize, if sorted { found as i64 - 1 } else { leader });
    }
    put(number, 0, found as i64);
    if !sorted {
        let mut next = 0;
        for l in 0..len {
            let leader = at(back, l) as usize;
            if leader == l {
                put(first, next, l as i64);
                put(order, l, next as i64);
                next += 1;
            }
            // The leader of a slice stands in front of it.
            put(back, l, at(order, leader));
        }
    }
    for l in 0..len {
        let g = at(back, l) as usize;
        put(counts, g, at(counts, g) + 1);
    }
}

/// Slices of `x: [outer, len, inner]` in the order of their elements.
struct Slices<'a, T> {
    x: &'a [T],
    outer: usize,
    len: usize,
    inner: usize,
}

impl<T: Number + Element> Slices<'_, T> {
    fn less(&self, a: i64, b: i64) -> bool {
        for o in 0..self.outer {
            let row = o * self.len;
            for i in 0..self.inner {
                let a = at(self.x, (row + a as usize) * self.inner + i);
                let b = at(self.x, (row + b as usize) * self.inner + i);
                if above(b, a) {
                    return true;
                }
                if above(a, b) {
                    return false;
                }
            }
        }
        false
    }
}

/// Puts `order` in order: heapsort, which needs neither memory nor luck.
pub(super) fn sort(order: &mut [i64], less: impl Fn(i64, i64) -> bool) {
    let len = order.len();
    for root in (0..len / 2).rev() {
        sink(order, root, len, &less);
    }
    for end in (1..len).rev() {
        let (last, most) = (at(order, end), at(order, 0));
        put(order, end, most);
        put(order, 0, last);
        sink(order, 0, end, &less);
    }
}

/// Restores the heap of `len` entries below `root`, whose root is the last in order.
fn sink(order: &mut [i64], mut root: usize, len: usize, less: &impl Fn(i64, i64) -> bool) {
    loop {
        let left = 2 * root + 1;
        if left >= len {
            return;
        }
        let right = left + 1;
        let child = if right < len && less(at(order, left), at(order, right)) { right } else { left };
        let (a, b) = (at(order, root), at(order, child));
        if !less(a, b) {
            return;
        }
        put(order, root, b);
        put(order, child, a);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn bools(bits: &[u8]) -> Vec<Bool> {
        bits.iter().map(|&b| Bool::from(b != 0)).collect()
    }

    #[test]
    fn places_by_axis() {
        let x = bools(&[0, 1, 0, 0, 1, 1]);
        let (mut rows, mut count) = ([9; 12], [9]);
        non_zero(&x, &[2, 3], &mut rows, &mut count, 6);
        assert_eq!(rows, [0, 1, 1, 0, 0, 0, 1, 1, 2, 0, 0, 0]);
        assert_eq!(count, [3]);
        non_zero(&bools(&[1]), &[], &mut [], &mut count, 1);
        assert_eq!(count, [1]);
        non_zero(&x, &[0, 3], &mut [], &mut [], 0);
    }

    #[test]
    fn different_slices_and_the_way_back() {
        let x = [2.0f32, 1.0, 1.0, f32::NAN, 3.0, f32::NAN];
        let (mut first, mut back, mut counts, mut number, mut order) = ([9; 6], [9; 6], [9; 6], [9], [9; 6]);
        unique(&x, &mut first, &mut back, &mut counts, &mut number, &mut order, 1, 6, 1, true);
        assert_eq!((first, back), ([1, 0, 4, 3, 0, 0], [1, 0, 0, 3, 2, 3]));
        assert_eq!((counts, number), ([2, 1, 1, 2, 0, 0], [4]));
        unique(&x, &mut first, &mut back, &mut counts, &mut number, &mut order, 1, 6, 1, false);
        assert_eq!((first, back), ([0, 1, 3, 4, 0, 0], [0, 1, 1, 2, 3, 2]));
        assert_eq!((counts, number), ([1, 2, 2, 1, 0, 0], [4]));
        // Two columns of [[1, 1, 0], [2, 2, 5]].
        let x = [1i8, 1, 0, 2, 2, 5];
        let (mut first, mut back, mut counts, mut order) = ([9; 3], [9; 3], [9; 3], [9; 3]);
        unique(&x, &mut first, &mut back, &mut counts, &mut number, &mut order, 2, 3, 1, true);
        assert_eq!((first, back, counts, number), ([2, 0, 0], [1, 1, 0], [1, 2, 0], [2]));
    }
}
