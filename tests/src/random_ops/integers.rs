//! Quantized values: scales, integer products, operators of runtimes.

use super::{Draw, Values};
use edgec::ir::DType::{self, F32, I8, I16, I32, U8, U16};
use edgec::ir::Tensor;

/// A scale and a zero point of a type that `Any` bytes do not saturate at once.
fn point(d: &mut Draw, dtype: DType, scale: f64) -> [String; 2] {
    let s = Tensor::scalar((scale * d.random.range(2, 6) as f64 / 4.0) as f32);
    let s = d.constant(s);
    let (low, high) = if matches!(dtype, U8 | U16) { (100, 150) } else { (-20, 20) };
    let z = d.tensor(dtype, &[], Values::Whole(low, high));
    [s, d.constant(z)]
}

pub(super) fn scale(d: &mut Draw) {
    for dtype in [I8, U8, I16, U16] {
        let shape = d.shape(1..=4, 6);
        let x = d.data(F32, &shape, Values::Any);
        let [s, z] = point(d, dtype, 0.03);
        d.node("QuantizeLinear", dtype, &[&x, &s, &z], 1);
        let x = d.data(dtype, &shape, Values::Any);
        let [s, z] = point(d, dtype, 0.03);
        d.node("DequantizeLinear", dtype, &[&x, &s, &z], 1);
        let axis = d.random.below(shape.len());
        for quantize in [true, false] {
            let x =
                if quantize { d.data(F32, &shape, Values::Any) } else { d.data(dtype, &shape, Values::Any) };
            let s = d.tensor(F32, &[shape[axis]], Values::Positive);
            let (s, z) = (d.constant(s), d.tensor(dtype, &[shape[axis]], Values::Whole(0, 30)));
            let z = d.constant(z);
            let op = if quantize { "QuantizeLinear" } else { "DequantizeLinear" };
            d.node(&format!("{op} <axis = {axis}>"), dtype, &[&x, &s, &z], 1);
        }
    }
    for _ in 0..4 {
        let shape = d.shape(1..=3, 6);
        let x = d.data(F32, &shape, Values::Any);
        d.node("DynamicQuantizeLinear", F32, &[&x], 3);
    }
}

pub(super) fn products(d: &mut Draw) {
    for (a, b) in [(U8, I8), (U8, U8), (I8, I8), (I8, U8)] {
        for most in [6, 40] {
            let [m, k, n] = [0, 1, 2].map(|_| d.random.range(1, most));
            let x = d.data(a, &[m, k], Values::Any);
            let y = d.weight(b, &[k, n], Values::Any);
            let za = d.tensor(a, &[], Values::Whole(0, 90));
            let za = d.either(za);
            let zb = d.tensor(b, &[], Values::Whole(0, 9));
            let zb = d.either(zb);
            d.node("MatMulInteger", a, &[&x, &y, &za, &zb], 1);
        }
        let group = d.random.of(&[1, 1, 2]);
        let (c, o, kernel) = (d.random.range(1, 5), d.random.range(1, 9), d.random.of(&[1, 2, 3]));
        let x =
            d.data(a, &[1, group * c, kernel + d.random.below(6), kernel + d.random.below(6)], Values::Any);
        let w = d.weight(b, &[group * o, c, kernel, kernel], Values::Any);
        let za = d.tensor(a, &[], Values::Whole(0, 90));
        let (za, pad) = (d.either(za), d.random.below(kernel));
        d.node(
            &format!("ConvInteger <group = {group}, pads = [{pad}, {pad}, {pad}, {pad}]>"),
            a,
            &[&x, &w, &za],
            1,
        );
    }
}

pub(super) fn qlinear(d: &mut Draw) {
    for dtype in [U8, I8] {
        for most in [6, 40] {
            let [m, k, n] = [0, 1, 2].map(|_| d.random.range(1, most));
            let x = d.data(dtype, &[m, k], Values::Any);
            let [xs, xz] = point(d, dtype, 0.02);
            let y = d.tensor(I8, &[k, n], Values::Any);
            let y = if dtype == I8 && d.random.once_in(2) { d.input(y) } else { d.constant(y) };
            let [ys, yz] = point(d, I8, 0.02);
            let [zs, zz] = point(d, dtype, 0.3);
            d.node("QLinearMatMul", dtype, &[&x, &xs, &xz, &y, &ys, &yz, &zs, &zz], 1);
        }
        for _ in 0..4 {
            let kernel = d.random.of(&[1, 3]);
            let depthwise = d.random.once_in(2);
            let channels = d.random.range(1, 20);
            let (group, inner, outer) = match depthwise {
                true => (channels, 1, channels),
                false => (1, channels, d.random.range(1, 20)),
            };
            let x = d.data(
                dtype,
                &[1, channels, kernel + d.random.below(8), kernel + d.random.below(8)],
                Values::Any,
            );
            let [xs, xz] = point(d, dtype, 0.02);
            let w = d.tensor(I8, &[outer, inner, kernel, kernel], Values::Any);
            let w = d.constant(w);
            let ws = d.tensor(F32, &[outer], Values::Positive);
            let (ws, wz) = (d.constant(ws), d.tensor(I8, &[outer], Values::Whole(0, 0)));
            let wz = d.constant(wz);
            let [ys, yz] = point(d, dtype, 30.0);
            let bias = d.tensor(I32, &[outer], Values::Whole(-900, 900));
            let bias = d.constant(bias);
            let (pad, stride) = (kernel / 2, d.random.range(1, 2));
            let op = format!(
                "QLinearConv <group = {group}, pads = [{pad}, {pad}, {pad}, {pad}], strides = [{stride}, {stride}]>"
            );
            d.node(&op, dtype, &[&x, &xs, &xz, &w, &ws, &wz, &ys, &yz, &bias], 1);
        }
        for op in ["QLinearAdd", "QLinearMul"] {
            let shape = d.shape(2..=4, 6);
            let x = d.data(dtype, &shape, Values::Any);
            let [xs, xz] = point(d, dtype, 0.02);
            let y = d.data(dtype, &shape, Values::Any);
            let [ys, yz] = point(d, dtype, 0.02);
            let [zs, zz] = point(d, dtype, 0.05);
            d.node(&format!("com.microsoft.{op}"), dtype, &[&x, &xs, &xz, &y, &ys, &yz, &zs, &zz], 1);
        }
        for op in ["QLinearSigmoid", "QLinearLeakyRelu <alpha = 0.125>"] {
            let shape = d.shape(2..=4, 6);
            let x = d.data(dtype, &shape, Values::Any);
            let [xs, xz] = point(d, dtype, 0.02);
            let [ys, yz] = point(d, dtype, 0.01);
            d.node(&format!("com.microsoft.{op}"), dtype, &[&x, &xs, &xz, &ys, &yz], 1);
        }
        let shape = [1, d.random.range(1, 20), d.random.range(2, 6), d.random.range(2, 6)];
        let x = d.data(dtype, &shape, Values::Any);
        let [xs, xz] = point(d, dtype, 0.02);
        let [ys, yz] = point(d, dtype, 0.02);
        d.node("com.microsoft.QLinearGlobalAveragePool", dtype, &[&x, &xs, &xz, &ys, &yz], 1);
        let x = d.data(dtype, &shape, Values::Any);
        let [xs, xz] = point(d, dtype, 0.02);
        let [ys, yz] = point(d, dtype, 0.02);
        d.node(
            "com.microsoft.QLinearAveragePool <kernel_shape = [2, 2]>",
            dtype,
            &[&x, &xs, &xz, &ys, &yz],
            1,
        );
    }
}
