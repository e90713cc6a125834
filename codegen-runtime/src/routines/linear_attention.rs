//! ONNX LinearAttention.

use crate::loops::{at, put};
use crate::math::single;

/// The recurrence of linear attention over `q: [n, t, heads, key]`, `k: [n, t, kv, key]`, `v: [n, t, kv, value]`,
/// `past: [n, kv, key, value]`, `decay: [n, t, kv, decays]` and `beta: [n, t, betas]`; writes
/// `y: [n, t, heads, value]` and `state`, alike to `past`.
///
/// `decays` is 1 or `key`; `betas` is 0 (nothing is corrected, `beta` is not read), 1 or `kv`.
pub fn linear_attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    past: &[f32],
    decay: &[f32],
    beta: &[f32],
    y: &mut [f32],
    state: &mut [f32],
    n: usize,
    t: usize,
    heads: usize,
    kv: usize,
    key: usize,
    value: usize,
    decays: usize,
    betas: usize,
    scale: f32,
) {
    for (new, old) in state.iter_mut().zip(past) {
        *new = *old;
    }
    for sample in 0..n {
        for row in sample * t..(sample + 1) * t {
            let mut queries = row * heads;
            for h in 0..kv {
                let head = row * kv + h;
                let first = (sample * kv + h) * key * value;
                for i in 0..key {
                    let factor = single::exp(at(decay, head * decays + if decays > 1 { i } else { 0 }));
                    for m in 0..value {
                        let place = first + i * value + m;
                        put(state, place, factor * at(state, place));
                    }
                }
                for m in 0..value {
                    let mut new = at(v, head * value + m);
                    if betas > 0 {
                        let mut held = 0.0;
                        for i in 0..key {
                            held += at(state, first + i * value + m) * at(k, head * key + i);
                        }
                        let own = row * betas + if betas > 1 { h } else { 0 };
                        new = at(beta, own) * (new - held);
                    }
                    for i in 0..key {
                        let place = first + i * value + m;
                        put(state, place, at(state, place) + at(k, head * key + i) * new);
                    }
                }
                // Heads that share this state lie one behind another.
                let mut sharing = h;
                while sharing < heads {
                    for m in 0..value {
                        let mut sum = 0.0;
                        for i in 0..key {
                            sum += at(q, queries * key + i) * at(state, first + i * value + m);
                        }
                        put(y, queries * value + m, scale * sum);
                    }
                    queries += 1;
                    sharing += kv;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::linear_attention;

    #[test]
    fn two_heads_share_a_state() {
        let (mut y, mut state) = ([0.0; 4], [0.0; 1]);
        // Two elements of one feature: the state is 3, then 3·1 + 5.
        linear_attention(
            &[1., 10., 2., 20.],
            &[1., 1.],
            &[3., 5.],
            &[0.],
            &[0., 0.],
            &[],
            &mut y,
            &mut state,
            1,
            2,
            2,
            1,
            1,
            1,
            1,
            0,
            0.5,
        );
        assert_eq!((y, state), ([1.5, 15., 8., 80.], [8.]));
    }

    #[test]
    fn short_slices_do_not_panic() {
        linear_attention(&[], &[], &[], &[], &[], &[], &mut [0.0], &mut [], 2, 2, 2, 1, 2, 2, 2, 1, 1.0);
    }
}
