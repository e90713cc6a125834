//! LSTM, GRU and RNN by hand-computed cells, and what they refuse.

use super::testing::{f32s, import, run};
use crate::ir::{DType, Tensor, f16};
use crate::onnx::Attr;

fn texts(names: &[&str]) -> Attr {
    Attr::Strings(names.iter().map(|n| n.as_bytes().to_vec()).collect())
}

/// Results of an operator at opset 14.
fn results(op: &str, attrs: &[(&str, Attr)], operands: &[Option<&Tensor>]) -> Vec<Vec<f64>> {
    let op = import(op, 14, attrs, operands.len(), 3).unwrap();
    run(&op, operands, 3).unwrap().iter().map(|t| t.to_f64_vec().unwrap()).collect()
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{found:?} instead of {expected:?}");
    }
}

#[test]
fn a_linear_rnn_adds_up_in_both_directions() {
    // H ← x + 2·H forwards, H ← 10·x + H + 1 backwards.
    let x = f32s(&[3, 1, 1], &[1., 2., 3.]);
    let (w, r) = (f32s(&[2, 1, 1], &[1., 10.]), f32s(&[2, 1, 1], &[2., 1.]));
    let bias = f32s(&[2, 2], &[0., 0., 0.5, 0.5]);
    let first = f32s(&[2, 1, 1], &[1., 0.]);
    let attrs = [
        ("direction", Attr::String(b"bidirectional".to_vec())),
        ("activations", texts(&["Affine", "Affine"])),
        ("hidden_size", Attr::Int(1)),
    ];
    let operands = [Some(&x), Some(&w), Some(&r), Some(&bias), None, Some(&first)];
    let y = results("RNN", &attrs, &operands);
    assert_eq!(y[0], [3., 63., 8., 52., 19., 31.]);
    assert_eq!(y[1], [19., 63.]);
    // Half as long: the rest is zero, and the way back starts at the end.
    let lengths = Tensor::vector(&[2i32]);
    let operands = [Some(&x), Some(&w), Some(&r), Some(&bias), Some(&lengths), Some(&first)];
    let y = results("RNN", &attrs, &operands);
    assert_eq!(y[0], [3., 32., 8., 21., 0., 0.]);
    assert_eq!(y[1], [8., 32.]);
    // No element at all: the first state.
    let lengths = Tensor::vector(&[0i32]);
    let operands = [Some(&x), Some(&w), Some(&r), Some(&bias), Some(&lengths), Some(&first)];
    assert_eq!(results("RNN", &attrs, &operands)[1], [1., 0.]);
}

#[test]
fn one_step_of_an_lstm() {
    // All gates are x·w + h·r + b + p·c of scalars; the functions are the identity.
    let x = f32s(&[1, 1, 1], &[2.]);
    let w = f32s(&[1, 4, 1], &[1., 2., 3., 4.]);
    let r = f32s(&[1, 4, 1], &[0.1, 0.2, 0.3, 0.4]);
    let bias = f32s(&[1, 8], &[0.5; 8]);
    let (h, c) = (f32s(&[1, 1, 1], &[10.]), f32s(&[1, 1, 1], &[3.]));
    let p = f32s(&[1, 3], &[1., 0.1, 2.]);
    let attrs = [("activations", texts(&["Affine"; 3]))];
    let all = [Some(&x), Some(&w), Some(&r), Some(&bias), None, Some(&h), Some(&c), Some(&p)];
    // i = 2 + 1 + 1 + 3, f = 6 + 3 + 1 + 6, c = 8 + 4 + 1, o = 4 + 2 + 1 + 0.1·C.
    let cell = 16. * 3. + 7. * 13.;
    let y = results("LSTM", &attrs, &all);
    close(&y[2], &[cell]);
    close(&y[0], &[(7. + 0.1 * cell) * cell]);
    assert_eq!(y[0], y[1]);
    // The forget gate is 1 - i = -6; gates and candidate are at most 5, C is not.
    let attrs =
        [("activations", texts(&["Affine"; 3])), ("input_forget", Attr::Int(1)), ("clip", Attr::Float(5.))];
    let y = results("LSTM", &attrs, &all);
    close(&y[2], &[-4. * 3. + 25.]);
    close(&y[0], &[5. * 13.]);
}

#[test]
fn one_step_of_a_gru() {
    let x = f32s(&[1, 1, 1], &[1.]);
    let w = f32s(&[1, 3, 2], &[0.; 6]);
    assert!(run(&import("GRU", 14, &[], 3, 2).unwrap(), &[Some(&x), Some(&w), Some(&w)], 2).is_err());
    let w = f32s(&[1, 3, 1], &[0.25, 3., 5.]);
    let r = f32s(&[1, 3, 1], &[0.125, 0.5, 2.]);
    let bias = f32s(&[1, 6], &[0., 0., 0., 0., 0., 7.]);
    let h = f32s(&[1, 1, 1], &[2.]);
    let all = [Some(&x), Some(&w), Some(&r), Some(&bias), None, Some(&h)];
    let run = |linear: i64| {
        let attrs = [("activations", texts(&["Affine"; 2])), ("linear_before_reset", Attr::Int(linear))];
        results("GRU", &attrs, &all)
    };
    // z = 0.5, r = 4; the candidate is 5 + (4·2)·2 + 7, or 5 + 4·(2·2 + 7).
    close(&run(0)[1], &[0.5 * 28. + 0.5 * 2.]);
    close(&run(1)[0], &[0.5 * 49. + 0.5 * 2.]);
}

#[test]
fn the_batch_may_come_first() {
    let x = f32s(&[2, 3, 1], &[1., 2., 3., 10., 20., 30.]);
    let w = f32s(&[1, 1, 1], &[1.]);
    let attrs = [("layout", Attr::Int(1)), ("activations", texts(&["Affine"]))];
    let y = results("RNN", &attrs, &[Some(&x), Some(&w), Some(&w)]);
    assert_eq!(y[0], [1., 3., 6., 10., 30., 60.]);
    assert_eq!(y[1], [6., 60.]);
}

#[test]
fn half_precision_rounds_the_results_once() {
    let half = |shape: &[usize], v: f32| Tensor::from_fn::<f16>(shape, |_| f16::from_f32(v));
    let (x, w) = (half(&[2, 1, 1], 1.0), half(&[1, 1, 1], 0.0996));
    let op = import("RNN", 14, &[("activations", texts(&["Affine"]))], 3, 1).unwrap();
    let y = run(&op, &[Some(&x), Some(&w), Some(&w)], 1).unwrap();
    assert_eq!((y[0].dtype(), y[1].dtype()), (DType::F16, DType::F16));
    let w = w.to_f64_vec().unwrap()[0];
    assert_eq!(y[1].to_f64_vec().unwrap(), [f16::from_f64(w * w + w).to_f64()]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = f32s(&[2, 1, 3], &[0.; 6]);
    let (w, r) = (f32s(&[1, 8, 3], &[0.; 24]), f32s(&[1, 8, 2], &[0.; 16]));
    let refused = |attrs: &[(&str, Attr)], operands: &[Option<&Tensor>]| match import(
        "LSTM",
        14,
        attrs,
        operands.len(),
        3,
    ) {
        Ok(op) => run(&op, operands, 3).unwrap_err().to_string(),
        Err(e) => e.to_string(),
    };
    let good = [Some(&x), Some(&w), Some(&r)];
    assert!(run(&import("LSTM", 14, &[], 3, 3).unwrap(), &good, 3).is_ok());
    let short = f32s(&[1, 8], &[0.; 8]);
    let lengths = Tensor::vector(&[1i64]);
    for (attrs, operands, what) in [
        (vec![("hidden_size", Attr::Int(3))], good.to_vec(), "hidden_size"),
        (vec![("direction", Attr::String(b"up".to_vec()))], good.to_vec(), "direction"),
        (vec![("direction", Attr::String(b"bidirectional".to_vec()))], good.to_vec(), "weight"),
        (vec![("layout", Attr::Int(2))], good.to_vec(), "layout"),
        (vec![("clip", Attr::Float(-1.))], good.to_vec(), "clip"),
        (vec![("activations", texts(&["Sine", "Tanh", "Tanh"]))], good.to_vec(), "Sine"),
        (vec![], vec![Some(&x), Some(&w), Some(&r), Some(&short)], "bias"),
        (vec![], vec![Some(&x), Some(&w), Some(&r), None, Some(&lengths)], "i64"),
        (vec![], vec![Some(&x), Some(&w)], "operand 2"),
        (vec![], vec![Some(&x), Some(&x), Some(&r)], "weight"),
    ] {
        let message = refused(&attrs, &operands);
        assert!(message.contains(what), "{message} does not say {what}");
    }
}
