//! The reference's matrix product: blocked for registers, with a fixed order of summation.

use super::number::Number;

/// Rows of a block.
const ROWS: usize = 4;
/// Columns of a block: with `ROWS` rows of `f32` half of the baseline's registers.
const COLUMNS: usize = 8;

/// `c[i, j] = Σ_p a[i, p]·b[p, j]`, summed over `p` in increasing order whatever the blocking.
///
/// `a` is `m × k` dense, `b` has `k` rows of stride `n`, `c` has rows of stride `c_stride ≥ n`.
/// Slices that are too short leave the rest of `c` untouched.
pub(super) fn product<N: Number>(
    a: &[N],
    b: &[N],
    c: &mut [N],
    (m, k, n): (usize, usize, usize),
    c_stride: usize,
) {
    let mut i = 0;
    while i + ROWS <= m {
        rows::<N, ROWS>(a, b, c, i, (k, n), c_stride);
        i += ROWS;
    }
    while i < m {
        rows::<N, 1>(a, b, c, i, (k, n), c_stride);
        i += 1;
    }
}

/// Rows `i..i + R` of the product.
fn rows<N: Number, const R: usize>(
    a: &[N],
    b: &[N],
    c: &mut [N],
    i: usize,
    (k, n): (usize, usize),
    c_stride: usize,
) {
    let mut j = 0;
    while j + COLUMNS <= n {
        let mut acc = [[N::ZERO; COLUMNS]; R];
        for p in 0..k {
            let Some(Ok(row)) = b.get(p * n + j..p * n + j + COLUMNS).map(<&[N; COLUMNS]>::try_from) else {
                break;
            };
            for (r, acc) in acc.iter_mut().enumerate() {
                let factor = a[(i + r) * k + p];
                for (s, &y) in acc.iter_mut().zip(row) {
                    *s = s.add(factor.mul(y));
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            let start = (i + r) * c_stride + j;
            if let Some(to) = c.get_mut(start..start + COLUMNS) {
                to.copy_from_slice(acc);
            }
        }
        j += COLUMNS;
    }
    for q in j..n {
        for r in i..i + R {
            let mut sum = N::ZERO;
            for p in 0..k {
                sum = sum.add(a[r * k + p].mul(b[p * n + q]));
            }
            if let Some(to) = c.get_mut(r * c_stride + q) {
                *to = sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_remainders_agree_with_the_definition() {
        for (m, k, n) in [(1, 1, 1), (4, 3, 8), (5, 7, 19), (9, 2, 8), (3, 0, 4)] {
            let a: Vec<i64> = (0..m * k).map(|i| (i * 7 % 11) as i64 - 5).collect();
            let b: Vec<i64> = (0..k * n).map(|i| (i * 5 % 13) as i64 - 6).collect();
            let mut c = vec![99; m * (n + 2)];
            product(&a, &b, &mut c, (m, k, n), n + 2);
            for i in 0..m {
                for j in 0..n {
                    let want: i64 = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
                    assert_eq!(c[i * (n + 2) + j], want);
                }
                assert_eq!(c[i * (n + 2) + n], 99);
            }
        }
    }
}
