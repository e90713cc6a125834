//! ONNX LSTM, GRU and RNN in their rare forms: any activations, clipping, peepholes, lengths of samples, weights
//! that come at run time, `f64`. The usual ones are [`kernels::recurrent`](crate::kernels::recurrent).

use super::real::Real;
use crate::loops::{at, put};
use crate::math::double;

/// `kind` of [`recurrent`]: LSTM.
const LSTM: usize = 0;
/// LSTM whose forget gate is one minus the input gate.
const COUPLED: usize = 1;
/// GRU that resets the state before the product.
const GRU: usize = 2;
/// GRU that resets the product.
const LINEAR: usize = 3;

/// Function `code` of a value; `curve` is code, alpha, beta.
fn apply(curves: &[f32], which: usize, x: f64) -> f64 {
    let number = |i: usize| f64::from(at(curves, which * 3 + i));
    let (code, alpha, beta) = (at(curves, which * 3) as usize, number(1), number(2));
    // The order of the compiler's table.
    match code {
        0 => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        1 => double::tanh(x),
        2 => double::sigmoid(x),
        3 => alpha * x + beta,
        4 => {
            if x < 0.0 {
                alpha * x
            } else {
                x
            }
        }
        5 => {
            if x < alpha {
                0.0
            } else {
                x
            }
        }
        6 => alpha * double::tanh(beta * x),
        7 => bound(alpha * x + beta, 0.0, 1.0),
        8 => {
            if x < 0.0 {
                alpha * double::expm1(x)
            } else {
                x
            }
        }
        9 => x / (1.0 + x.abs()),
        _ => double::softplus(x),
    }
}

/// Within the bounds; NaN stays.
fn bound(x: f64, least: f64, most: f64) -> f64 {
    if x < least {
        least
    } else if x > most {
        most
    } else {
        x
    }
}

/// `Σ a[from + k]·b[other + k]` over `n`.
fn dot<T: Real>(a: &[T], from: usize, b: &[T], other: usize, n: usize) -> f64 {
    let (a, b) = (a.get(from..).unwrap_or(&[]), b.get(other..).unwrap_or(&[]));
    a.iter().zip(b).take(n).fold(0.0, |sum, (x, y)| sum + x.wide() * y.wide())
}

/// Runs a layer over `x: [steps, batch, input]` (`[batch, steps, input]` with `batch_first`), `w: [directions,
/// gates·hidden, input]`, `r: [directions, gates·hidden, hidden]`, `bias: [directions, 2·gates·hidden]`, first states
/// `[directions, batch, hidden]` (`[batch, directions, hidden]`), `peepholes: [directions, 3·hidden]` and `curves:
/// [directions, activations, 3]`; writes `y: [steps, directions, batch, hidden]` (`[batch, steps, directions,
/// hidden]`) and the last states. `gates` is scratch of one sample's gates.
///
/// Bias, first states and peepholes that are shorter count as zeros. `lengths`, one per sample, hold where
/// `with_lengths`; they are clamped to the steps. The first direction goes backwards where `backwards`, the second
/// always does. What goes into the activations of gates is bounded by `clip`.
pub fn recurrent<T: Real>(
    x: &[T],
    w: &[T],
    r: &[T],
    bias: &[T],
    lengths: &[i32],
    first_h: &[T],
    first_c: &[T],
    peepholes: &[T],
    curves: &[f32],
    y: &mut [T],
    last_h: &mut [T],
    last_c: &mut [T],
    gates: &mut [T],
    kind: usize,
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    directions: usize,
    backwards: bool,
    batch_first: bool,
    with_lengths: bool,
    clip: f32,
) {
    y.fill(T::ZERO);
    let (count, functions) = match kind {
        LSTM | COUPLED => (4, 3),
        GRU | LINEAR => (3, 2),
        _ => (1, 1),
    };
    let clip = f64::from(clip);
    let rows = count * hidden;
    for d in 0..directions {
        let activate = |which: usize, v: f64| apply(curves, d * functions + which, bound(v, -clip, clip));
        let (w_at, r_at, b_at) = (d * rows * input, d * rows * hidden, d * 2 * rows);
        // The state's share of a row.
        let product = |row: usize, h: &[T], from: usize| {
            at(bias, b_at + rows + row).wide() + dot(r, r_at + row * hidden, h, from, hidden)
        };
        let back = backwards || d > 0;
        for n in 0..batch {
            let state = hidden * if batch_first { n * directions + d } else { d * batch + n };
            for j in state..state + hidden {
                put(last_h, j, at(first_h, j));
                put(last_c, j, at(first_c, j));
            }
            let length = if with_lengths { at(lengths, n).max(0) as usize } else { steps };
            let length = if length < steps { length } else { steps };
            for i in 0..length {
                let t = if back { length - 1 - i } else { i };
                let from = input * if batch_first { n * steps + t } else { t * batch + n };
                for row in 0..rows {
                    let mut v = at(bias, b_at + row).wide() + dot(w, w_at + row * input, x, from, input);
                    // The candidate of a GRU waits for its reset gate.
                    if !((kind == GRU || kind == LINEAR) && row >= 2 * hidden) {
                        v += product(row, last_h, state);
                    }
                    put(gates, row, T::narrow(v));
                }
                match kind {
                    LSTM | COUPLED => {
                        for j in 0..hidden {
                            let old = at(last_c, state + j).wide();
                            let peep = |p: usize| at(peepholes, (d * 3 + p) * hidden + j).wide();
                            let gate = |g: usize| at(gates, g * hidden + j).wide();
                            let enter = activate(0, gate(0) + peep(0) * old);
                            let keep = if kind == COUPLED {
                                1.0 - enter
                            } else {
                                activate(0, gate(2) + peep(2) * old)
                            };
                            let new = keep * old + enter * activate(1, gate(3));
                            let leave = activate(0, gate(1) + peep(1) * new);
                            put(last_c, state + j, T::narrow(new));
                            let seen = apply(curves, d * functions + 2, new);
                            put(last_h, state + j, T::narrow(leave * seen));
                        }
                    }
                    GRU | LINEAR => {
                        for row in 0..2 * hidden {
                            let v = activate(0, at(gates, row).wide());
                            put(gates, row, T::narrow(v));
                        }
                        for j in 0..hidden {
                            let row = 2 * hidden + j;
                            let share = if kind == LINEAR {
                                at(gates, hidden + j).wide() * product(row, last_h, state)
                            } else {
                                let mut sum = at(bias, b_at + rows + row).wide();
                                for k in 0..hidden {
                                    let kept = at(gates, hidden + k).wide() * at(last_h, state + k).wide();
                                    sum += at(r, r_at + row * hidden + k).wide() * kept;
                                }
                                sum
                            };
                            let v = activate(1, at(gates, row).wide() + share);
                            put(gates, row, T::narrow(v));
                        }
                        for j in 0..hidden {
                            let (z, new) = (at(gates, j).wide(), at(gates, 2 * hidden + j).wide());
                            let old = at(last_h, state + j).wide();
                            put(last_h, state + j, T::narrow((1.0 - z) * new + z * old));
                        }
                    }
                    _ => {
                        for j in 0..hidden {
                            put(last_h, state + j, T::narrow(activate(0, at(gates, j).wide())));
                        }
                    }
                }
                let to = hidden
                    * if batch_first {
                        (n * steps + t) * directions + d
                    } else {
                        (t * directions + d) * batch + n
                    };
                for j in 0..hidden {
                    put(y, to + j, at(last_h, state + j));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::recurrent;

    #[test]
    fn a_plain_cell_adds_up_until_its_sample_ends() {
        // H ← 2·x + H, two samples of lengths 1 and 3, backwards.
        let (mut y, mut h, mut c, mut gates) = ([9.0f64; 6], [0.0; 2], [0.0; 2], [0.0; 1]);
        recurrent(
            &[1., 10., 2., 20., 3., 30.],
            &[2.],
            &[1.],
            &[],
            &[1, 7],
            &[100., 0.],
            &[],
            &[],
            &[3., 1., 0.],
            &mut y,
            &mut h,
            &mut c,
            &mut gates,
            4,
            3,
            2,
            1,
            1,
            1,
            true,
            false,
            true,
            f32::INFINITY,
        );
        assert_eq!(y, [102., 120., 0., 100., 0., 60.]);
        assert_eq!(h, [102., 120.]);
    }

    #[test]
    fn gates_of_one_unit() {
        let run = |kind: usize, count: usize| {
            let (mut y, mut h, mut c, mut gates) = ([0.0f32; 1], [0.0; 1], [0.0; 1], [0.0; 4]);
            let (w, r, b) = ([0.5f32; 4], [0.25f32; 4], [0.125f32; 8]);
            // The identity, everywhere.
            let curves = [3., 1., 0.].repeat(3);
            recurrent(
                &[2.],
                &w[..count],
                &r[..count],
                &b[..2 * count],
                &[],
                &[4.],
                &[3.],
                &[],
                &curves,
                &mut y,
                &mut h,
                &mut c,
                &mut gates,
                kind,
                1,
                1,
                1,
                1,
                1,
                false,
                true,
                false,
                2.0,
            );
            (y[0], c[0])
        };
        // Each gate is 1 + 1 + 0.25, bounded by 2.
        assert_eq!(run(0, 4), (20., 10.));
        assert_eq!(run(1, 4), (2., 1.));
        // The candidate: 1 + 0.125 + 0.125 + 0.25·(2·4), bounded; then -1·2 + 2·4.
        assert_eq!(run(2, 3), (6., 3.));
        assert_eq!(run(3, 3), (6., 3.));
        assert_eq!(run(4, 1), (2., 3.));
    }

    #[test]
    fn short_slices_do_not_panic() {
        for kind in 0..5 {
            let (mut y, mut h) = ([0.0f32; 1], [0.0; 1]);
            recurrent(
                &[],
                &[],
                &[],
                &[],
                &[],
                &[],
                &[],
                &[],
                &[],
                &mut y,
                &mut h,
                &mut [],
                &mut [],
                kind,
                2,
                2,
                2,
                2,
                2,
                true,
                true,
                true,
                1.0,
            );
        }
    }
}
