//! ONNX ScatterElements and ScatterND.

use crate::fault::Fault;
use crate::loops::{at, index, put};
use crate::num::{Number, add, max, min, mul, quotient, remainder};
use crate::operand::Element;

/// Writes `updates` into `y`, one element per index.
///
/// `table` holds an extent of `indices` and a stride of `y` per axis, outermost first; the index takes the
/// place of the coordinate on the axis of `extent` elements that lie `stride` apart (its stride in the table
/// is 0). Later updates win.
pub fn elements<T: Element>(
    indices: &[i64],
    updates: &[T],
    table: &[i64],
    y: &mut [T],
    extent: usize,
    stride: usize,
) -> Fault {
    each_element(indices, updates, table, y, extent, stride, |_, new| new)
}

/// [`elements`], combined with what is there: 0 adds, 1 multiplies, 2 keeps the larger, 3 the smaller.
pub fn elements_with<T: Element + Number>(
    indices: &[i64],
    updates: &[T],
    table: &[i64],
    y: &mut [T],
    extent: usize,
    stride: usize,
    how: usize,
) -> Fault {
    each_element(indices, updates, table, y, extent, stride, |old, new| join(how, old, new))
}

/// Writes slices of `len` elements of `updates` into `y`, at tuples of `indices`.
///
/// `table` holds the extent and the stride of each of `y`'s axes that a tuple names. Later updates win.
pub fn slices<T: Element>(indices: &[i64], updates: &[T], table: &[i64], y: &mut [T], len: usize) -> Fault {
    each_slice(indices, updates, table, y, len, |_, new| new)
}

/// [`slices`], combined with what is there as in [`elements_with`].
pub fn slices_with<T: Element + Number>(
    indices: &[i64],
    updates: &[T],
    table: &[i64],
    y: &mut [T],
    len: usize,
    how: usize,
) -> Fault {
    each_slice(indices, updates, table, y, len, |old, new| join(how, old, new))
}

fn join<T: Number>(how: usize, old: T, new: T) -> T {
    match how {
        0 => add(old, new),
        1 => mul(old, new),
        2 => max(old, new),
        _ => min(old, new),
    }
}

fn each_element<T: Element>(
    indices: &[i64],
    updates: &[T],
    table: &[i64],
    y: &mut [T],
    extent: usize,
    stride: usize,
    join: impl Fn(T, T) -> T,
) -> Fault {
    let mut fault = Fault::None;
    for (n, (&i, &new)) in indices.iter().zip(updates).enumerate() {
        let (mut rest, mut place) = (n, index(i, extent, &mut fault) * stride);
        let (axes, _) = table.as_chunks::<2>();
        for &[extent, stride] in axes.iter().rev() {
            place += remainder(rest, extent as usize) * stride as usize;
            rest = quotient(rest, extent as usize);
        }
        let old = at(y, place);
        put(y, place, join(old, new));
    }
    fault
}

fn each_slice<T: Element>(
    indices: &[i64],
    updates: &[T],
    table: &[i64],
    y: &mut [T],
    len: usize,
    join: impl Fn(T, T) -> T,
) -> Fault {
    let mut fault = Fault::None;
    let (axes, _) = table.as_chunks::<2>();
    for tuple in 0..quotient(updates.len(), len) {
        let mut place = 0;
        for (k, &[extent, stride]) in axes.iter().enumerate() {
            let i = at(indices, tuple * axes.len() + k);
            place += index(i, extent as usize, &mut fault) * stride as usize;
        }
        for l in 0..len {
            let old = at(y, place + l);
            put(y, place + l, join(old, at(updates, tuple * len + l)));
        }
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_along_the_last_axis() {
        // y: [2, 3], indices: [2, 2].
        let mut y = [0i32; 6];
        let table = [2, 3, 2, 0];
        let fault = elements(&[0, -1, 1, 1], &[1, 2, 3, 4], &table, &mut y, 3, 1);
        assert_eq!((y, fault), ([1, 0, 2, 0, 4, 0], Fault::None));
        let fault = elements_with(&[0, 0, 9, 1], &[5, 5, 7, 3], &table, &mut y, 3, 1, 0);
        assert_eq!((y, fault), ([11, 0, 2, 0, 7, 7], Fault::IndexOutOfRange));
    }

    #[test]
    fn slices_at_tuples() {
        let mut y = [1f32; 8];
        slices(&[1, 0, 0, 1], &[2., 3., 4., 5.], &[2, 4, 2, 2], &mut y, 2);
        assert_eq!(y, [1., 1., 4., 5., 2., 3., 1., 1.]);
        slices_with(&[1, 0], &[4., 4.], &[2, 4, 2, 2], &mut y, 2, 3);
        assert_eq!(y, [1., 1., 4., 5., 2., 3., 1., 1.]);
        slices_with(&[7], &[4.], &[], &mut [], 0, 1);
    }
}
