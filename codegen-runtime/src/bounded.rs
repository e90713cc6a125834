//! Outputs whose number of elements a run decides, up to a maximum that the model fixes.

use core::fmt;
use core::ops::Deref;

/// At most `MAX` elements, in the model's arena: those that the run has made. A slice of them.
///
/// ```ignore
/// # use edgec_runtime::Bounded;
/// let boxes = Bounded::new(&[[0, 0, 3], [0, 1, 7], [0, 0, 0]], 2);
/// assert_eq!(boxes.len(), 2);
/// for [batch, class, index] in boxes.iter() {
///     assert!(*batch == 0 && *class < 2 && *index > 0);
/// }
/// ```
pub struct Bounded<'m, T, const MAX: usize> {
    all: &'m [T; MAX],
    len: usize,
}

impl<'m, T, const MAX: usize> Bounded<'m, T, MAX> {
    /// Most elements that there can be.
    pub const MAX: usize = MAX;

    /// The first `len` of `all`, or all of them if that is more.
    #[inline(always)]
    pub const fn new(all: &'m [T; MAX], len: usize) -> Self {
        Bounded { all, len: if len < MAX { len } else { MAX } }
    }

    /// The elements, for as long as the outputs live.
    #[inline(always)]
    pub fn as_slice(&self) -> &'m [T] {
        self.all.get(..self.len).unwrap_or(self.all)
    }

    /// All places; those behind the elements hold nothing of meaning.
    #[inline(always)]
    pub const fn places(&self) -> &'m [T; MAX] {
        self.all
    }
}

impl<T, const MAX: usize> Deref for Bounded<'_, T, MAX> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<'m, T, const MAX: usize> IntoIterator for Bounded<'m, T, MAX> {
    type Item = &'m T;
    type IntoIter = core::slice::Iter<'m, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter()
    }
}

impl<T, const MAX: usize> Clone for Bounded<'_, T, MAX> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const MAX: usize> Copy for Bounded<'_, T, MAX> {}

impl<T: fmt::Debug, const MAX: usize> fmt::Debug for Bounded<'_, T, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// `ROWS` rows of equally many elements, at most `MAX`: an output whose inner axis has a length that the run decides.
pub struct BoundedRows<'m, T, const MAX: usize, const ROWS: usize> {
    all: &'m [[T; MAX]; ROWS],
    len: usize,
}

impl<'m, T, const MAX: usize, const ROWS: usize> BoundedRows<'m, T, MAX, ROWS> {
    /// Most elements that a row can have.
    pub const MAX: usize = MAX;

    /// The first `len` of each of `all`, or all of them if that is more.
    #[inline(always)]
    pub const fn new(all: &'m [[T; MAX]; ROWS], len: usize) -> Self {
        BoundedRows { all, len: if len < MAX { len } else { MAX } }
    }

    /// Number of elements of each row.
    #[inline(always)]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the rows are empty.
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A row; `None` where there are fewer.
    #[inline(always)]
    pub fn row(&self, index: usize) -> Option<&'m [T]> {
        let row = self.all.get(index)?;
        Some(row.get(..self.len).unwrap_or(row))
    }

    /// The rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = &'m [T]> + use<'m, T, MAX, ROWS> {
        let len = self.len;
        self.all.iter().map(move |row| row.get(..len).unwrap_or(row))
    }

    /// All places of all rows; those behind the elements hold nothing of meaning.
    #[inline(always)]
    pub const fn places(&self) -> &'m [[T; MAX]; ROWS] {
        self.all
    }
}

impl<T, const MAX: usize, const ROWS: usize> Clone for BoundedRows<'_, T, MAX, ROWS> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const MAX: usize, const ROWS: usize> Copy for BoundedRows<'_, T, MAX, ROWS> {}

impl<T: fmt::Debug, const MAX: usize, const ROWS: usize> fmt::Debug for BoundedRows<'_, T, MAX, ROWS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rows()).finish()
    }
}

/// A length as a model computes it.
#[inline(always)]
pub fn length(computed: &[i64]) -> usize {
    match computed {
        // 32-bit targets hold no more than their address space.
        [n, ..] if *n > 0 => usize::try_from(*n).unwrap_or(usize::MAX),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn only_what_the_run_made_is_seen() {
        let all = [[1, 2], [3, 4], [0, 0]];
        let some = Bounded::new(&all, 2);
        assert_eq!(*some, [[1, 2], [3, 4]]);
        assert_eq!(some.into_iter().map(|[_, b]| *b).collect::<Vec<_>>(), [2, 4]);
        assert_eq!((Bounded::<u8, 5>::MAX, some.places().len()), (5, 3));
        assert_eq!(Bounded::new(&all, 9).len(), 3);
        assert_eq!(format!("{:?}", Bounded::new(&all, 1)), "[[1, 2]]");
    }

    #[test]
    fn rows_end_together() {
        let all = [[1, 2, 0], [3, 4, 0]];
        let some = BoundedRows::new(&all, length(&[2]));
        assert_eq!(some.row(1), Some(&[3, 4][..]));
        assert_eq!((some.len(), some.row(2)), (2, None));
        assert_eq!(format!("{some:?}"), "[[1, 2], [3, 4]]");
        assert!(BoundedRows::new(&all, length(&[-1])).is_empty());
        assert_eq!((length(&[]), length(&[7])), (0, 7));
    }
}
