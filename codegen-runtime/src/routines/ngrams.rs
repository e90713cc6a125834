//! ONNX TfIdfVectorizer.

use crate::loops::{at, put};

/// Counts n-grams in `x: [rows, len]`, into `y: [rows, columns]`.
///
/// `grams` holds one after the other: its length, its column, its items. Items may lie up to `skips` others
/// apart, all at the same distance; single items are counted once. With `once` a count is at most 1; in the
/// end each column is multiplied by its weight.
pub fn count(
    x: &[i64],
    grams: &[i64],
    weights: &[f32],
    y: &mut [f32],
    rows: usize,
    len: usize,
    columns: usize,
    skips: usize,
    once: bool,
) {
    for row in 0..rows {
        let x = x.get(row * len..).unwrap_or_default();
        for c in 0..columns {
            put(y, row * columns + c, 0.0);
        }
        let mut rest = grams;
        while let [size, column, items @ ..] = rest {
            let (size, column) = (*size as usize, *column as usize);
            let (gram, next) = items.split_at_checked(size).unwrap_or((&[], &[]));
            rest = next;
            let mut found = 0u32;
            for distance in 1..=if size < 2 { 1 } else { skips.saturating_add(1) } {
                let reach = size.saturating_sub(1).saturating_mul(distance);
                if reach >= len {
                    break;
                }
                for start in 0..len.saturating_sub(reach) {
                    let same = gram.iter().enumerate().all(|(i, g)| at(x, start + i * distance) == *g);
                    found += u32::from(same);
                }
            }
            if column < columns {
                let place = row * columns + column;
                put(y, place, at(y, place) + found as f32);
            }
        }
        for c in 0..columns {
            let place = row * columns + c;
            let found = at(y, place);
            put(y, place, at(weights, c) * if once && found > 1.0 { 1.0 } else { found });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn single_items_and_pairs() {
        let grams = [1, 1, 7, 2, 0, 7, 8];
        let x = [7, 7, 8, 8, 8, 7];
        let mut y = [0.0; 4];
        // Neighbours: 7 8 at 1. One apart: 0 and 1.
        count(&x, &grams, &[1.0, 0.5], &mut y, 1, 6, 2, 1, false);
        assert_eq!(y[..2], [3.0, 1.5]);
        count(&x, &grams, &[1.0, 2.0], &mut y, 2, 3, 2, 0, true);
        assert_eq!(y, [1.0, 2.0, 0.0, 2.0]);
        count(&[], &[9, 9], &[], &mut [], 3, 3, 3, usize::MAX - 1, false);
    }
}
