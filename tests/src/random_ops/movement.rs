//! Data that moves: views, parts, indices, fills.

use super::elementwise::{FLOATS, INTS};
use super::{Draw, Values};
use edgec::ir::DType::{self, Bool, F16, F32, F64, I32, I64, U8};
use edgec::ir::Tensor;

/// A few of the types that moving data knows, so that every one has its turn over some rounds.
fn types(d: &mut Draw) -> Vec<DType> {
    let mut all: Vec<DType> = FLOATS.iter().chain(INTS).chain(&[Bool]).copied().collect();
    d.random.shuffle(&mut all);
    all.truncate(7);
    all
}

fn list(values: &[usize]) -> String {
    format!("{values:?}")
}

pub(super) fn views(d: &mut Draw) {
    for dtype in types(d) {
        let shape = d.shape(1..=5, 5);
        let mut perm: Vec<usize> = (0..shape.len()).collect();
        d.random.shuffle(&mut perm);
        let x = d.data(dtype, &shape, Values::Any);
        d.node(&format!("Transpose <perm = {}>", list(&perm)), dtype, &[&x], 1);

        let mut shape = d.shape(1..=4, 5);
        let x = d.data(dtype, &shape, Values::Any);
        d.random.shuffle(&mut shape);
        let at = d.random.below(shape.len());
        let mut wanted: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        wanted[at] = -1;
        let wanted = d.ints(&wanted);
        d.node("Reshape", dtype, &[&x, &wanted], 1);

        let shape = d.shape(1..=4, 4);
        let axis = d.random.below(shape.len() + 1);
        let x = d.data(dtype, &shape, Values::Any);
        d.node(&format!("Flatten <axis = {axis}>"), dtype, &[&x], 1);

        let x = d.data(dtype, &shape, Values::Any);
        let axes = d.ints(&[0, -1]);
        d.node("Unsqueeze", dtype, &[&x, &axes], 1);

        let narrow = super::elementwise::narrower(d, &shape);
        let x = d.data(dtype, &narrow, Values::Any);
        let wanted: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let wanted = d.ints(&wanted);
        d.node("Expand", dtype, &[&x, &wanted], 1);

        let x = d.data(dtype, &shape, Values::Any);
        let times: Vec<i64> = shape.iter().map(|_| d.random.int(1, 3)).collect();
        let times = d.ints(&times);
        d.node("Tile", dtype, &[&x, &times], 1);

        let block = d.random.range(1, 3);
        let shape = [d.random.range(1, 2), d.random.range(1, 3), d.random.range(1, 4), d.random.range(1, 4)];
        let deep = [shape[0], shape[1] * block * block, shape[2], shape[3]];
        let x = d.data(dtype, &deep, Values::Any);
        let mode = d.random.of(&["DCR", "CRD"]);
        d.node(&format!("DepthToSpace <blocksize = {block}, mode = \"{mode}\">"), dtype, &[&x], 1);
        let wide = [shape[0], shape[1], shape[2] * block, shape[3] * block];
        let x = d.data(dtype, &wide, Values::Any);
        d.node(&format!("SpaceToDepth <blocksize = {block}>"), dtype, &[&x], 1);
    }
}

pub(super) fn parts(d: &mut Draw) {
    for dtype in types(d) {
        let shape = d.shape(1..=4, 7);
        let x = d.data(dtype, &shape, Values::Any);
        let (mut starts, mut ends, mut steps) = (vec![], vec![], vec![]);
        for &n in &shape {
            let n = n as i64;
            let (a, b) = (d.random.int(0, n - 1), d.random.int(1, n));
            let step = d.random.int(1, 3);
            let (a, b) = (a.min(b - 1), b.max(a + 1));
            if d.random.once_in(3) {
                starts.push(b - 1);
                ends.push(if a == 0 { -n - 1 } else { a - 1 });
                steps.push(-step);
            } else {
                starts.push(if d.random.once_in(2) { a } else { a - n });
                ends.push(if b == n { i64::MAX } else { b });
                steps.push(step);
            }
        }
        let axes: Vec<i64> = (0..shape.len() as i64).collect();
        let operands = [starts, ends, axes, steps].map(|l| d.ints(&l));
        d.node("Slice", dtype, &[&x, &operands[0], &operands[1], &operands[2], &operands[3]], 1);

        let shape = d.shape(1..=4, 5);
        let axis = d.random.below(shape.len());
        let operands: Vec<String> = (0..d.random.range(1, 4))
            .map(|_| {
                let mut part = shape.clone();
                part[axis] = d.random.range(1, 5);
                d.weight(dtype, &part, Values::Any)
            })
            .collect();
        if d.inputs.is_empty() {
            let (name, tensor) = d.constants.remove(0);
            d.inputs.push((name, tensor));
        }
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        d.node(&format!("Concat <axis = {axis}>"), dtype, &operands, 1);

        let mut shape = d.shape(1..=4, 4);
        let axis = d.random.below(shape.len());
        let sizes: Vec<i64> = (0..d.random.range(1, 3)).map(|_| d.random.int(1, 4)).collect();
        shape[axis] = sizes.iter().sum::<i64>() as usize;
        let x = d.data(dtype, &shape, Values::Any);
        let count = sizes.len();
        let sizes = d.ints(&sizes);
        d.node(&format!("Split <axis = {axis}>"), dtype, &[&x, &sizes], count);

        let shape = d.shape(1..=4, 5);
        let mode = d.random.of(&["constant", "edge", "reflect", "wrap"]);
        let mut pads = vec![0i64; 2 * shape.len()];
        for (i, &n) in shape.iter().enumerate() {
            for at in [i, i + shape.len()] {
                let most = if mode == "reflect" || mode == "wrap" { n as i64 - 1 } else { 3 };
                pads[at] = d.random.int(0, most.min(3));
            }
        }
        let x = d.data(dtype, &shape, Values::Any);
        let pads = d.ints(&pads);
        let fill = d.tensor(dtype, &[], Values::Positive);
        let fill = d.either(fill);
        d.node(&format!("Pad <mode = \"{mode}\">"), dtype, &[&x, &pads, &fill], 1);

        let mut shape = d.shape(2..=4, 5);
        let rank = shape.len();
        shape[rank - 1] = d.random.range(1, 6);
        let upper = d.random.below(2);
        let x = d.data(dtype, &shape, Values::Any);
        let k = d.random.int(-3, 3);
        let k = d.constant(Tensor::scalar(k));
        d.node(&format!("Trilu <upper = {upper}>"), dtype, &[&x, &k], 1);

        let shape = [d.random.range(2, 5), d.random.range(1, 4), d.random.range(1, 3)];
        let x = d.data(dtype, &shape, Values::Any);
        let lengths = d.tensor(I64, &[shape[1]], Values::Whole(1, shape[0] as i64));
        let lengths = d.either(lengths);
        d.node("ReverseSequence <time_axis = 0, batch_axis = 1>", dtype, &[&x, &lengths], 1);
    }
}

pub(super) fn gather(d: &mut Draw) {
    for dtype in types(d) {
        let shape = d.shape(1..=4, 5);
        let axis = d.random.below(shape.len());
        let n = shape[axis] as i64;
        let index = d.random.of(&[I32, I64]);
        let x = d.weight(dtype, &shape, Values::Any);
        let at = d.shape(0..=3, 4);
        let at = d.data(index, &at, Values::Whole(-n, n - 1));
        d.node(&format!("Gather <axis = {axis}>"), dtype, &[&x, &at], 1);

        let x = d.data(dtype, &shape, Values::Any);
        let mut at: Vec<usize> = shape.iter().map(|&n| d.random.range(1, n)).collect();
        at[axis] = d.random.range(1, 6);
        let at = d.weight(I64, &at, Values::Whole(-n, n - 1));
        d.node(&format!("GatherElements <axis = {axis}>"), dtype, &[&x, &at], 1);

        let shape = d.shape(2..=4, 4);
        let least = *shape.iter().min().unwrap_or(&1) as i64;
        let depth = d.random.range(1, shape.len());
        let rows = d.random.range(1, 5);
        let x = d.data(dtype, &shape, Values::Any);
        let at = d.weight(I64, &[rows, depth], Values::Whole(-least, least - 1));
        d.node("GatherND", dtype, &[&x, &at], 1);

        let x = d.data(dtype, &[6, 2], Values::Any);
        let at = d.tensor(Bool, &[6], Values::Any);
        let at = d.constant(at);
        d.node("Compress <axis = 0>", dtype, &[&x, &at], 1);
    }
}

pub(super) fn scatter(d: &mut Draw) {
    for dtype in [F32, F64, I32, I64, U8, F16] {
        for how in ["none", "add", "mul", "max", "min"] {
            let shape = d.shape(1..=3, 5);
            let axis = d.random.below(shape.len());
            let mut at = shape.clone();
            at[axis] = d.random.range(1, shape[axis]);
            // Places that are told apart, so that the order of writing is of no importance.
            let (n, k) = (shape[axis], at[axis]);
            let inner: usize = at[axis + 1..].iter().product();
            let shift = d.random.below(n);
            let places = super::tensor(I64, &at, |i| ((i / inner % k + shift) % n) as f64);
            let x = d.data(dtype, &shape, Values::Any);
            let (places, new) = (d.either(places), d.data(dtype, &at, Values::Any));
            let op = format!("ScatterElements <axis = {axis}, reduction = \"{how}\">");
            d.node(&op, dtype, &[&x, &places, &new], 1);

            let rows = d.random.range(1, shape[0]);
            let places = super::tensor(I64, &[rows, 1], |i| ((i + shift) % shape[0]) as f64);
            let mut new = shape.clone();
            new[0] = rows;
            let x = d.data(dtype, &shape, Values::Any);
            let (places, new) = (d.either(places), d.data(dtype, &new, Values::Any));
            d.node(&format!("ScatterND <reduction = \"{how}\">"), dtype, &[&x, &places, &new], 1);
        }
    }
}

pub(super) fn fill(d: &mut Draw) {
    for dtype in [F32, F64, I32, I64, U8] {
        let shape = d.shape(0..=3, 4);
        let depth = d.random.int(1, 6);
        let axis = d.random.int(-1, shape.len() as i64);
        let at = d.data(I64, &shape, Values::Whole(-depth - 1, depth));
        let depth = d.constant(Tensor::scalar(depth));
        let values = d.weight(dtype, &[2], Values::Any);
        d.node(&format!("OneHot <axis = {axis}>"), dtype, &[&at, &depth, &values], 1);
    }
    for dtype in [F32, I64, Bool] {
        let shape = d.shape(2..=2, 6);
        let k = d.random.int(-3, 3);
        let x = d.data(dtype, &shape, Values::Any);
        let code = edgec::onnx::code_of_dtype(F32);
        d.node(&format!("EyeLike <k = {k}, dtype = {code}>"), dtype, &[&x], 1);
    }
    let shape = d.shape(1..=3, 4);
    let x = d.data(F32, &shape, Values::Any);
    d.node("Dropout", F32, &[&x], 2);
}
