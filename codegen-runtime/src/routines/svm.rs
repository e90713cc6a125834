//! Probabilities of classes from those of pairs (`ai.onnx.ml` SVMClassifier, after libsvm).

use crate::loops::{at, put};

/// Rounds of the iteration, and the distance from the fixed point that ends it, divided by the classes.
const ROUNDS: usize = 100;
const NEAR: f32 = 0.005;

/// For every row of `pairs: [rows, classes·(classes − 1)/2]`, the probability of the first of each pair of
/// classes (0 1, 0 2, …, 1 2, …), the probabilities of all classes that fit them best: `[rows, classes]`.
/// `q` is scratch of `classes·classes` elements, `qp` of `classes`.
pub fn couple(pairs: &[f32], y: &mut [f32], q: &mut [f32], qp: &mut [f32], classes: usize) {
    let count = classes * classes.saturating_sub(1) / 2;
    if count == 0 {
        return;
    }
    let near = NEAR / classes as f32;
    for (pairs, p) in pairs.chunks_exact(count).zip(y.chunks_exact_mut(classes)) {
        // Probability of `i` against `j`.
        let of = |i: usize, j: usize| {
            let (a, b) = if i < j { (i, j) } else { (j, i) };
            let first = at(pairs, a * (2 * classes - a - 1) / 2 + b - a - 1);
            if i < j { first } else { 1.0 - first }
        };
        for i in 0..classes {
            let mut sum = 0.0;
            for j in (0..classes).filter(|&j| j != i) {
                sum += of(j, i) * of(j, i);
                put(q, i * classes + j, -of(j, i) * of(i, j));
            }
            put(q, i * classes + i, sum);
        }
        p.fill(1.0 / classes as f32);
        for _ in 0..ROUNDS {
            let mut whole = 0.0;
            for i in 0..classes {
                let mut sum = 0.0;
                for j in 0..classes {
                    sum += at(q, i * classes + j) * at(p, j);
                }
                put(qp, i, sum);
                whole += at(p, i) * sum;
            }
            let mut worst = 0.0;
            for i in 0..classes {
                let error = (at(qp, i) - whole).abs();
                if error > worst {
                    worst = error;
                }
            }
            if worst < near {
                break;
            }
            for i in 0..classes {
                let own = at(q, i * classes + i);
                let by = (whole - at(qp, i)) / own;
                put(p, i, at(p, i) + by);
                whole = (whole + by * (by * own + 2.0 * at(qp, i))) / (1.0 + by) / (1.0 + by);
                for j in 0..classes {
                    put(qp, j, (at(qp, j) + by * at(q, i * classes + j)) / (1.0 + by));
                    put(p, j, at(p, j) / (1.0 + by));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consistent_pairs_give_their_classes_back() {
        // Classes of 1/2, 1/3 and 1/6.
        let pairs = [0.6, 0.75, 2.0 / 3.0];
        let (mut p, mut q, mut qp) = ([0.0; 3], [0.0; 9], [0.0; 3]);
        couple(&pairs, &mut p, &mut q, &mut qp, 3);
        for (found, expected) in p.iter().zip([0.5, 1.0 / 3.0, 1.0 / 6.0]) {
            assert!((found - expected).abs() < 0.01, "{p:?}");
        }
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
