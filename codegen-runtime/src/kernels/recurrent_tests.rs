//! Recurrent layers at every level against `f64`.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::kernels::testing::{EachLevel, Random, each_level};

struct Check {
    spec: RecurrentSpec,
    with_states: bool,
    /// Projections by step, sample, gate and unit; as packed.
    x: Vec<f32>,
    /// `[gates, hidden, hidden]`.
    plain: Vec<f32>,
    r: Vec<f32>,
    bias: Vec<f32>,
    first: [Vec<f32>; 2],
}

impl Check {
    /// All hidden states, the last ones, and the last cell states.
    fn reference(&self, with_states: bool) -> [Vec<f64>; 3] {
        let s = &self.spec;
        let g = s.kind.gates();
        let [mut y, mut last_h, mut last_c] =
            [vec![9.5; s.y_end()], vec![9.5; s.state_end()], vec![9.5; s.state_end()]];
        for n in 0..s.batch {
            let state = s.state_offset + n * s.state_batch;
            let first = |i: usize| -> Vec<f64> {
                (0..s.hidden)
                    .map(|j| if with_states { f64::from(self.first[i][state + j]) } else { 0.0 })
                    .collect()
            };
            let (mut h, mut c) = (first(0), first(1));
            for i in 0..s.steps {
                let t = if s.backwards { s.steps - 1 - i } else { i };
                let x = |gate: usize, j: usize| {
                    let at = (j / LANES * g + gate) * LANES + j % LANES;
                    f64::from(self.x[t * s.x_step + n * s.x_batch + at])
                };
                let product = |gate: usize, j: usize| -> f64 {
                    let row = &self.plain[(gate * s.hidden + j) * s.hidden..][..s.hidden];
                    row.iter().zip(&h).map(|(r, h)| f64::from(*r) * h).sum()
                };
                let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
                let mut new = vec![0.0; s.hidden];
                for j in 0..s.hidden {
                    let gate = |gate: usize| x(gate, j) + product(gate, j);
                    new[j] = match s.kind {
                        RecurrentKind::Lstm => {
                            c[j] = sigmoid(gate(2)) * c[j] + sigmoid(gate(0)) * gate(3).tanh();
                            sigmoid(gate(1)) * c[j].tanh()
                        }
                        RecurrentKind::Gru => {
                            let product = product(2, j) + f64::from(self.bias[j]);
                            let (z, v) = (sigmoid(gate(0)), (x(2, j) + sigmoid(gate(1)) * product).tanh());
                            (1.0 - z) * v + z * h[j]
                        }
                    };
                }
                h = new;
                y[s.y_offset + t * s.y_step + n * s.y_batch..][..s.hidden].copy_from_slice(&h);
            }
            last_h[state..][..s.hidden].copy_from_slice(&h);
            last_c[state..][..s.hidden].copy_from_slice(&c);
        }
        [y, last_h, last_c]
    }
}

impl EachLevel for Check {
    fn at<I: Isa>(&mut self, isa: I) {
        let s = self.spec;
        let lstm = matches!(s.kind, RecurrentKind::Lstm);
        let want = self.reference(self.with_states);
        let mut found = [&want[0], &want[1], &want[2]].map(|w| vec![9.5f32; w.len()]);
        let mut state = vec![f32::NAN; s.scratch_len()];
        let [y, last_h, last_c] = &mut found;
        isa.call(layer::SharedCode(Job {
            spec: &s,
            x: self.x.as_ptr(),
            r: self.r.as_ptr(),
            bias: self.bias.as_ptr(),
            first_h: self.with_states.then_some(self.first[0].as_ptr()),
            first_c: (self.with_states && lstm).then_some(self.first[1].as_ptr()),
            y: Some(y.as_mut_ptr()),
            last_h: Some(last_h.as_mut_ptr()),
            last_c: lstm.then_some(last_c.as_mut_ptr()),
            state: state.as_mut_ptr(),
        }));
        for (i, (found, want)) in found.iter().zip(&want).enumerate().take(if lstm { 3 } else { 2 }) {
            for (a, b) in found.iter().zip(want) {
                let close = (f64::from(*a) - b).abs() < 1e-5;
                assert!(close, "{a}, not {b}, in result {i} at {} for {s:?}", I::LEVEL.name());
            }
        }
    }
}

#[test]
fn cells_agree_with_doubles_at_every_level() {
    let mut random = Random(23);
    for round in 0..60 {
        let kind = random.pick(&[RecurrentKind::Lstm, RecurrentKind::Gru]);
        let hidden: usize = random.pick(&[1, 3, 8, 15, 16, 17, 33, 48]);
        let (steps, batch) = (1 + random.below(4), 1 + random.below(3));
        let (gates, width) = (kind.gates(), hidden.div_ceil(LANES) * LANES);
        let first_of_time = random.below(2) == 0;
        let (x_step, x_batch) = if first_of_time { (batch, 1) } else { (1, steps) };
        let directions = 1 + random.below(2);
        let direction = random.below(directions);
        let spec = RecurrentSpec {
            kind,
            steps,
            batch,
            hidden,
            backwards: round % 2 == 1,
            x_step: x_step * gates * width,
            x_batch: x_batch * gates * width,
            y_offset: direction * hidden,
            y_step: x_step * directions * hidden,
            y_batch: x_batch * directions * hidden,
            state_offset: direction * batch * hidden,
            state_batch: hidden,
        };
        let packing = pack::Recurrent { gates, hidden };
        let plain = random.values(gates * hidden * hidden).iter().map(|v| v * 0.5).collect::<Vec<_>>();
        let mut r = vec![0.0; packing.packed_len()];
        packing.pack(&plain, &mut r).unwrap();
        let mut x = random.values(spec.x_end());
        // Padding.
        for (i, v) in x.iter_mut().enumerate() {
            let column = i % (gates * width);
            if column / (gates * LANES) * LANES + column % LANES >= hidden {
                *v = 0.0;
            }
        }
        let mut bias = random.values(width);
        bias[hidden..].fill(0.0);
        let first = [random.values(spec.state_end()), random.values(spec.state_end())];
        let with_states = random.below(2) == 0;
        each_level(&mut Check { spec, with_states, x, plain, r, bias, first });
    }
}
