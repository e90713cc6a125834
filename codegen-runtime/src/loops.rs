//! Element access of emitted loop nests: without `unsafe`, and without a path that could panic.
//!
//! Emitted loops have literal bounds, so LLVM proves the checks made here and drops them; where it
//! does not, a check fails into a default instead of a panic.

use crate::fault::Fault;
use crate::operand::Element;

/// Lanes that a sum over contiguous elements is split into: element `i` goes to accumulator
/// `i % LANES`, at every level, and [`fold`] joins them. So sums do not depend on the level.
pub const LANES: usize = 16;

/// `N` elements from `start`. Emitted code asks for rows that exist.
#[inline(always)]
pub fn row<const N: usize, T>(x: &[T], start: usize) -> Option<&[T; N]> {
    x.get(start..)?.first_chunk()
}

/// `N` elements from `start`, to write.
#[inline(always)]
pub fn row_mut<const N: usize, T>(y: &mut [T], start: usize) -> Option<&mut [T; N]> {
    y.get_mut(start..)?.first_chunk_mut()
}

/// Element `i`; zero outside.
#[inline(always)]
pub fn at<T: Element>(x: &[T], i: usize) -> T {
    match x.get(i) {
        Some(&v) => v,
        None => T::ZERO,
    }
}

/// Writes element `i`; nothing outside.
#[inline(always)]
pub fn put<T>(y: &mut [T], i: usize, value: T) {
    if let Some(y) = y.get_mut(i) {
        *y = value;
    }
}

/// A data-dependent position on an axis of `extent` elements: negative indices count from the end;
/// those outside are clamped and noted in `fault`.
#[inline(always)]
pub fn index(index: i64, extent: usize, fault: &mut Fault) -> usize {
    let n = extent as i64;
    let from_start = if index < 0 { index.wrapping_add(n) } else { index };
    if from_start < 0 {
        *fault = Fault::IndexOutOfRange;
        0
    } else if from_start >= n {
        *fault = Fault::IndexOutOfRange;
        extent.saturating_sub(1)
    } else {
        from_start as usize
    }
}

/// [`index()`] for an index that the compiler proved to lie on the axis: nothing to note.
#[inline(always)]
pub fn proven_index(position: i64, extent: usize) -> usize {
    index(position, extent, &mut Fault::None)
}

/// Joins accumulators in a fixed order: halves onto each other, 16 → 8 → 4 → 2 → 1.
#[inline(always)]
pub fn fold<T: Copy>(mut lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    // Each loop has constant bounds, so that its checks go away.
    for i in 0..8 {
        lanes[i] = join(lanes[i], lanes[i + 8]);
    }
    for i in 0..4 {
        lanes[i] = join(lanes[i], lanes[i + 4]);
    }
    for i in 0..2 {
        lanes[i] = join(lanes[i], lanes[i + 2]);
    }
    lanes[0] = join(lanes[0], lanes[1]);
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_elements_outside_are_none_or_zero() {
        let x = [1.0f32, 2.0, 3.0];
        assert_eq!(row::<2, _>(&x, 1), Some(&[2.0, 3.0]));
        assert_eq!(row::<2, _>(&x, 2), None);
        assert_eq!(row::<2, _>(&x, usize::MAX), None);
        assert_eq!(at(&x, 3), 0.0);
        let mut y = x;
        put(&mut y, 3, 9.0);
        assert_eq!(y, x);
    }

    #[test]
    fn indices_count_from_the_end_and_are_clamped() {
        let mut fault = Fault::None;
        assert_eq!(index(-1, 5, &mut fault), 4);
        assert_eq!(index(-5, 5, &mut fault), 0);
        assert_eq!(fault, Fault::None);
        assert_eq!(index(-6, 5, &mut fault), 0);
        assert_eq!(fault, Fault::IndexOutOfRange);
        fault = Fault::None;
        assert_eq!(index(5, 5, &mut fault), 4);
        assert_eq!(fault, Fault::IndexOutOfRange);
        assert_eq!(index(i64::MIN, 5, &mut fault), 0);
        assert_eq!(index(i64::MAX, 5, &mut fault), 4);
        assert_eq!(proven_index(7, 5), 4);
    }

    #[test]
    fn folding_joins_halves() {
        let lanes = core::array::from_fn(|i| i as u32 + 1);
        assert_eq!(fold(lanes, |a, b| a + b), 136);
        let first = fold(core::array::from_fn(|i| [i, 0]), |a, b| [a[0], b[0]]);
        assert_eq!(first, [0, 1]);
    }
}
