//! Recurrent cells and transforms of signals.

use super::{Draw, Values};
use edgec::ir::DType::{F16, F32, F64, I32};
use edgec::ir::Tensor;

pub(super) fn recurrent(d: &mut Draw) {
    for dtype in [F32, F32, F64, F16] {
        for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
            for _ in 0..2 {
                let (steps, batch) = (d.random.range(1, 5), d.random.range(1, 3));
                let (width, hidden) = (d.random.range(1, 20), d.random.range(1, 20));
                let direction = d.random.of(&["forward", "reverse", "bidirectional"]);
                let ways = if direction == "bidirectional" { 2 } else { 1 };
                let x = d.data(dtype, &[steps, batch, width], Values::Unit);
                let known = d.random.once_in(2);
                let mut weight = |shape: &[usize]| {
                    let t = d.tensor(dtype, shape, Values::Unit);
                    if known { d.constant(t) } else { d.input(t) }
                };
                let w = weight(&[ways, gates * hidden, width]);
                let r = weight(&[ways, gates * hidden, hidden]);
                let b = weight(&[ways, 2 * gates * hidden]);
                let lengths = d.tensor(I32, &[batch], Values::Whole(1, steps as i64));
                let lengths = d.either(lengths);
                let h = d.data(dtype, &[ways, batch, hidden], Values::Unit);
                let extra = if op == "GRU" {
                    format!(", linear_before_reset = {}", d.random.below(2))
                } else {
                    String::new()
                };
                let text = format!("{op} <hidden_size = {hidden}, direction = \"{direction}\"{extra}>");
                if op == "LSTM" {
                    let c = d.data(dtype, &[ways, batch, hidden], Values::Unit);
                    d.node(&text, dtype, &[&x, &w, &r, &b, &lengths, &h, &c], 3);
                } else {
                    d.node(&text, dtype, &[&x, &w, &r, &b, &lengths, &h], 2);
                }
            }
        }
    }
}

pub(super) fn fourier(d: &mut Draw) {
    for dtype in [F32, F64] {
        for n in [4usize, 5, 8, 12] {
            let real = d.random.once_in(2);
            let x = d.data(dtype, &[2, n, if real { 1 } else { 2 }], Values::Any);
            let axis = d.constant(Tensor::scalar(1i64));
            let inverse = if real { 0 } else { d.random.below(2) };
            d.node(&format!("DFT <inverse = {inverse}>"), dtype, &[&x, "", &axis], 1);
        }
        let x = d.data(dtype, &[1, 32, 1], Values::Any);
        let (step, length) = (d.constant(Tensor::scalar(8i64)), d.constant(Tensor::scalar(16i64)));
        let window = d.tensor(dtype, &[16], Values::Positive);
        let window = d.constant(window);
        d.node("STFT <onesided = 1>", dtype, &[&x, &step, &window, &length], 1);
    }
}
