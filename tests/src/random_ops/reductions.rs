//! Sums and extremes along axes, orders, softmax and norms.

use super::elementwise::{FLOATS, INTS};
use super::{Draw, Values};
use edgec::ir::DType::{self, Bf16, F16, F32, F64, I8, I32, I64, U8, U32, U64};

/// Some of the axes of a rank, in any order, counted from either end.
fn some_axes(d: &mut Draw, rank: usize) -> Vec<i64> {
    let mut axes: Vec<i64> = (0..rank as i64).collect();
    d.random.shuffle(&mut axes);
    axes.truncate(d.random.range(1, rank));
    axes.into_iter().map(|a| if d.random.once_in(2) { a - rank as i64 } else { a }).collect()
}

pub(super) fn reduce(d: &mut Draw) {
    let wide: &[DType] = &[F32, F64, F16, Bf16, I32, I64, U32, U64];
    let all: Vec<DType> = wide.iter().chain(&[I8, U8]).copied().collect();
    for (op, values) in [
        ("ReduceSum", Values::Any),
        ("ReduceMean", Values::Any),
        ("ReduceProd", Values::Whole(1, 2)),
        ("ReduceL1", Values::Any),
        ("ReduceL2", Values::Any),
        ("ReduceSumSquare", Values::Any),
        ("ReduceLogSum", Values::Positive),
        ("ReduceLogSumExp", Values::Unit),
        ("ReduceMax", Values::Any),
        ("ReduceMin", Values::Any),
    ] {
        let types = match op {
            "ReduceMax" | "ReduceMin" => &all,
            // Logarithms of integers are of no use to anyone.
            "ReduceLogSum" | "ReduceLogSumExp" => FLOATS,
            _ => wide,
        };
        for &dtype in types {
            let shape = d.shape(1..=5, 5);
            let keep = d.random.below(2);
            let axes = some_axes(d, shape.len());
            let x = d.data(dtype, &shape, values);
            if d.random.once_in(5) {
                d.node(&format!("{op} <keepdims = {keep}>"), dtype, &[&x], 1);
            } else {
                let axes = d.ints(&axes);
                d.node(&format!("{op} <keepdims = {keep}>"), dtype, &[&x, &axes], 1);
            }
        }
    }
}

pub(super) fn order(d: &mut Draw) {
    for &dtype in FLOATS.iter().chain(INTS) {
        for op in ["ArgMax", "ArgMin"] {
            let shape = d.shape(1..=4, 6);
            let (axis, keep, last) = (d.random.below(shape.len()), d.random.below(2), d.random.below(2));
            let x = d.data(dtype, &shape, Values::Any);
            let op = format!("{op} <axis = {axis}, keepdims = {keep}, select_last_index = {last}>");
            d.node(&op, dtype, &[&x], 1);
        }
        let shape = d.shape(1..=4, 6);
        let (axis, largest) = (d.random.below(shape.len()), d.random.below(2));
        let x = d.data(dtype, &shape, Values::Any);
        let k = d.random.range(1, shape[axis]) as i64;
        let k = d.ints(&[k]);
        d.node(&format!("TopK <axis = {axis}, largest = {largest}, sorted = 1>"), dtype, &[&x, &k], 2);
    }
    for dtype in [F32, F64, F16, I32, I64, U32, U64] {
        let shape = d.shape(1..=4, 5);
        let (axis, exclusive, reverse) = (d.random.below(shape.len()), d.random.below(2), d.random.below(2));
        let x = d.data(dtype, &shape, Values::Unit);
        let axis = d.constant(edgec::ir::Tensor::scalar(axis as i64));
        d.node(&format!("CumSum <exclusive = {exclusive}, reverse = {reverse}>"), dtype, &[&x, &axis], 1);
    }
    for &dtype in FLOATS {
        let shape = d.shape(1..=4, 6);
        let axis = d.random.below(shape.len());
        let x = d.data(dtype, &shape, Values::Any);
        d.node(&format!("Hardmax <axis = {axis}>"), dtype, &[&x], 1);
    }
}

pub(super) fn softmax(d: &mut Draw) {
    for op in ["Softmax", "LogSoftmax"] {
        for &dtype in FLOATS {
            for most in [5, 40] {
                let shape = d.shape(1..=if most == 5 { 4 } else { 2 }, most);
                let axis = d.random.int(-(shape.len() as i64), shape.len() as i64 - 1);
                let x = d.data(dtype, &shape, Values::Any);
                d.node(&format!("{op} <axis = {axis}>"), dtype, &[&x], 1);
            }
        }
    }
}

pub(super) fn norm(d: &mut Draw) {
    for &dtype in FLOATS {
        for most in [5, 40] {
            let shape = d.shape(1..=if most == 5 { 4 } else { 2 }, most);
            let axis = d.random.below(shape.len());
            let (x, scale) =
                (d.data(dtype, &shape, Values::Any), d.weight(dtype, &shape[axis..], Values::Any));
            if d.random.once_in(2) {
                let bias = d.weight(dtype, &shape[axis..], Values::Any);
                d.node(&format!("LayerNormalization <axis = {axis}>"), dtype, &[&x, &scale, &bias], 1);
            } else {
                d.node(&format!("LayerNormalization <axis = {axis}>"), dtype, &[&x, &scale], 1);
            }
        }
        let mut shape = d.shape(3..=5, 5);
        let channels = shape[1];
        let x = d.data(dtype, &shape, Values::Any);
        let (scale, bias) =
            (d.weight(dtype, &[channels], Values::Any), d.weight(dtype, &[channels], Values::Any));
        let (mean, var) =
            (d.weight(dtype, &[channels], Values::Any), d.weight(dtype, &[channels], Values::Positive));
        d.node("BatchNormalization", dtype, &[&x, &scale, &bias, &mean, &var], 1);

        let x = d.data(dtype, &shape, Values::Any);
        let (scale, bias) =
            (d.weight(dtype, &[channels], Values::Any), d.weight(dtype, &[channels], Values::Any));
        if dtype != Bf16 {
            d.node("InstanceNormalization", dtype, &[&x, &scale, &bias], 1);
        } else {
            d.inputs.clear();
            d.constants.clear();
        }

        let groups = d.random.range(1, 3);
        shape[1] = groups * d.random.range(1, 4);
        let x = d.data(dtype, &shape, Values::Any);
        let (scale, bias) =
            (d.weight(dtype, &[shape[1]], Values::Any), d.weight(dtype, &[shape[1]], Values::Any));
        d.node(&format!("GroupNormalization <num_groups = {groups}>"), dtype, &[&x, &scale, &bias], 1);
    }
    for dtype in [F32, F64, F16] {
        let shape = d.shape(1..=4, 6);
        let (axis, p) = (d.random.below(shape.len()), d.random.range(1, 2));
        let x = d.data(dtype, &shape, Values::Positive);
        d.node(&format!("LpNormalization <axis = {axis}, p = {p}>"), dtype, &[&x], 1);
        let shape = d.shape(4..=4, 6);
        let size = 2 * d.random.below(3) + 1;
        let x = d.data(dtype, &shape, Values::Any);
        d.node(&format!("LRN <size = {size}, alpha = 0.01, beta = 0.5, bias = 1.5>"), dtype, &[&x], 1);
    }
    for dtype in [F32, F16] {
        let shape = d.shape(2..=3, 24);
        let [x, skip] = [0, 1].map(|_| d.data(dtype, &shape, Values::Any));
        let width = shape[shape.len() - 1];
        let [gamma, beta, bias] = [0, 1, 2].map(|_| d.weight(dtype, &[width], Values::Any));
        d.node("com.microsoft.SkipLayerNormalization", dtype, &[&x, &skip, &gamma, &beta, &bias], 1);
    }
}
