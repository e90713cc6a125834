//! ONNX Det.

use crate::loops::{at, put};
use crate::num::{Number, abs, div, mul, neg, sub};
use crate::operand::Element;

/// Determinants of `x: [batch, n, n]` in `y: [batch]`, by elimination with the largest pivot of each column;
/// `work` holds `n·n` elements.
pub fn det<T: Number + Element>(x: &[T], y: &mut [T], work: &mut [T], batch: usize, n: usize) {
    for sample in 0..batch {
        for i in 0..n * n {
            put(work, i, at(x, sample * n * n + i));
        }
        let mut product = T::ONE;
        for column in 0..n {
            let mut pivot = column;
            for row in column + 1..n {
                if abs(at(work, row * n + column)) > abs(at(work, pivot * n + column)) {
                    pivot = row;
                }
            }
            if pivot != column {
                for i in column..n {
                    let (a, b) = (at(work, column * n + i), at(work, pivot * n + i));
                    put(work, column * n + i, b);
                    put(work, pivot * n + i, a);
                }
                product = neg(product);
            }
            let head = at(work, column * n + column);
            product = mul(product, head);
            if head == <T as Number>::ZERO {
                break;
            }
            for row in column + 1..n {
                let factor = div(at(work, row * n + column), head);
                for i in column..n {
                    let rest = sub(at(work, row * n + i), mul(factor, at(work, column * n + i)));
                    put(work, row * n + i, rest);
                }
            }
        }
        put(y, sample, product);
    }
}

#[cfg(test)]
mod tests {
    use super::det;

    #[test]
    fn small_matrices() {
        let mut y = [0.0f64; 2];
        det(&[0., 1., 2., 3., 1., 2., 2., 4.], &mut y, &mut [0.0; 4], 2, 2);
        assert_eq!(y, [-2., 0.]);
        let mut y = [0.0f32; 1];
        det(&[2., 0., 0., 0., 0., 3., 0., 4., 0.], &mut y, &mut [0.0; 9], 1, 3);
        assert_eq!(y, [-24.]);
        det::<f32>(&[], &mut y, &mut [], 1, 0);
        assert_eq!(y, [1.]);
        det::<f32>(&[], &mut y, &mut [], 3, 3);
    }
}
