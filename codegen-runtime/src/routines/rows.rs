//! What a loop gives row by row.

use crate::loops::at;
use crate::operand::Element;

/// Writes the row of iteration `number` into `y`, seen as `[outer, extent, inner]`: the elements at that place of the
/// middle axis, counted from the end where `backwards`. `row` is `[outer, inner]`. A number outside the axis leaves
/// `y` as it is.
pub fn put<T: Element>(
    number: &[i64],
    row: &[T],
    y: &mut [T],
    outer: usize,
    extent: usize,
    inner: usize,
    backwards: bool,
) {
    let Some(number) = usize::try_from(at(number, 0)).ok().filter(|&n| n < extent) else { return };
    let place = if backwards { extent - 1 - number } else { number };
    for (o, run) in row.chunks_exact(inner.max(1)).take(outer).enumerate() {
        let start = (o * extent + place) * inner;
        if let Some(to) = y.get_mut(start..).and_then(|y| y.get_mut(..run.len())) {
            to.iter_mut().zip(run).for_each(|(to, &from)| *to = from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_middle_axis() {
        let mut y = [0u8; 12];
        put(&[1], &[1, 2, 3, 4], &mut y, 2, 3, 2, false);
        assert_eq!(y, [0, 0, 1, 2, 0, 0, 0, 0, 3, 4, 0, 0]);
        put(&[0], &[5, 6, 7, 8], &mut y, 2, 3, 2, true);
        assert_eq!(y, [0, 0, 1, 2, 5, 6, 0, 0, 3, 4, 7, 8]);
        for number in [-1, 3, i64::MIN] {
            put(&[number], &[9, 9, 9, 9], &mut y, 2, 3, 2, false);
        }
        assert_eq!(y, [0, 0, 1, 2, 5, 6, 0, 0, 3, 4, 7, 8]);
    }
}
