//! ONNX Resize and Upsample, one axis at a time, by tables that the compiler computes.
//!
//! The tables carry everything that distinguishes modes (nearest, linear, cubic, antialiased), coordinate
//! transformations and `exclude_outside`; the order of the axes is the compiler's choice.

/// What a table's first index says where the output lies outside the image: it becomes the fill value.
pub const OUTSIDE: i32 = -1;

/// Resamples the middle axis of `x: [outer, in_len, inner]` to `y: [outer, out_len, inner]`.
///
/// `index` and `weight` are `[out_len, taps]`: `y[o] = Σ weight[o, t] · x[index[o, t]]`, summed in the order of
/// the taps. Taps of weight 0 are not read. An output whose first index is [`OUTSIDE`] is `fill`.
pub fn resize_axis(
    x: &[f32],
    index: &[i32],
    weight: &[f32],
    y: &mut [f32],
    outer: usize,
    in_len: usize,
    out_len: usize,
    inner: usize,
    taps: usize,
    fill: f32,
) {
    if in_len == 0 || out_len == 0 || inner == 0 || taps == 0 {
        return;
    }
    let slices = x.chunks_exact(in_len * inner).zip(y.chunks_exact_mut(out_len * inner));
    for (x, y) in slices.take(outer) {
        let tables = index.chunks_exact(taps).zip(weight.chunks_exact(taps));
        for (y, (index, weight)) in y.chunks_exact_mut(inner).zip(tables) {
            if index.first() == Some(&OUTSIDE) {
                y.fill(fill);
                continue;
            }
            let mut empty = true;
            for (&at, &w) in index.iter().zip(weight) {
                let start = usize::try_from(at).ok().and_then(|at| at.checked_mul(inner));
                let Some(x) = start.and_then(|start| x.get(start..)?.get(..inner)) else { continue };
                if w == 0.0 {
                    continue;
                }
                for (y, x) in y.iter_mut().zip(x) {
                    *y = if empty { w * x } else { *y + w * x };
                }
                empty = false;
            }
            if empty {
                y.fill(0.0);
            }
        }
    }
}

/// As [`resize_axis`] with one tap of weight 1, for every element type: copies `x[index[o]]`.
pub fn nearest_axis<T: Copy>(
    x: &[T],
    index: &[i32],
    y: &mut [T],
    outer: usize,
    in_len: usize,
    out_len: usize,
    inner: usize,
    fill: T,
) {
    if in_len == 0 || out_len == 0 || inner == 0 {
        return;
    }
    let slices = x.chunks_exact(in_len * inner).zip(y.chunks_exact_mut(out_len * inner));
    for (x, y) in slices.take(outer) {
        for (y, &at) in y.chunks_exact_mut(inner).zip(index) {
            let start = usize::try_from(at).ok().and_then(|at| at.checked_mul(inner));
            match start.and_then(|start| x.get(start..)?.get(..inner)) {
                Some(x) => y.copy_from_slice(x),
                None => y.fill(fill),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_interpolation_along_rows_and_columns() {
        // Two columns to four, align_corners = false.
        let (index, weight) = ([0, 1, 0, 1, 0, 1, 0, 1], [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0]);
        let mut y = [9.0; 8];
        resize_axis(&[0.0, 4.0, 10.0, 14.0], &index, &weight, &mut y, 2, 2, 4, 1, 2, 0.0);
        assert_eq!(y, [0.0, 1.0, 3.0, 4.0, 10.0, 11.0, 13.0, 14.0]);
        // The same over rows of two.
        let mut y = [9.0; 8];
        resize_axis(&[0.0, 1.0, 4.0, 5.0], &index, &weight, &mut y, 1, 2, 4, 2, 2, 0.0);
        assert_eq!(y, [0.0, 1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 5.0]);
    }

    #[test]
    fn taps_of_weight_zero_are_not_read_and_outside_is_filled() {
        let mut y = [9.0; 3];
        let x = [1.0, f32::INFINITY];
        resize_axis(&x, &[0, 1, -1, 0, 0, 5], &[2.0, 0.0, 1.0, 0.0, 0.0, 1.0], &mut y, 1, 2, 3, 1, 2, 7.0);
        assert_eq!(y, [2.0, 7.0, 0.0]);
    }

    #[test]
    fn nearest_copies_any_type() {
        let mut y = [0u8; 8];
        nearest_axis(&[1, 2, 3, 4], &[1, 0, 0, -1], &mut y, 1, 2, 4, 2, 9);
        assert_eq!(y, [3, 4, 1, 2, 1, 2, 9, 9]);
    }

    #[test]
    fn short_slices_do_not_panic() {
        let mut y = [9.0; 3];
        resize_axis(&[1.0], &[0], &[1.0], &mut y, 4, 1, 2, 1, 1, 0.0);
        assert_eq!(y, [1.0, 9.0, 9.0]);
        resize_axis(&[1.0], &[0], &[1.0], &mut y, 1, 0, 0, 0, 0, 0.0);
        nearest_axis(&[1.0], &[0], &mut y, 3, 2, 2, 1, 0.0);
    }
}
