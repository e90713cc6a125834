//! Products between DequantizeLinear and QuantizeLinear are products of bytes.
//!
//! - Pattern: QuantizeLinear of a Conv or MatMul, with bias and clamp in its epilogue, whose operands
//!   DequantizeLinear makes: data of bytes, known weights of bytes.
//! - Result: [`ProductI8`], which has ONNX's rounding of `QLinearConv`. Padding in front of it is taken along.
//! - Precondition: one scale for the data and the result, one for all weights or one per output channel; the sums
//!   cannot leave 32 bits.
//! - Exactness: sums are exact and rounded once, where the float form rounds each product and sum: results differ by
//!   at most one step, where the exact result lies within a few roundings of a tie.
//!
//! ```text
//! QuantizeLinear(Conv(DequantizeLinear(%x), DequantizeLinear(W), DequantizeLinear(B)))   →   ProductI8(%x, W, B, factors)
//! ```

use super::super::fuse_pad;
use super::super::matching::{Editor, Outcome, Replacement, constant, input, visit};
use super::super::product::{BIAS, Product, RESIDUAL, WEIGHTS};
use super::super::{Pass, PassCx, PassError};
use super::{Steps, dequantized};
use crate::ir::{DType, NodeId, Shape, Tensor, ValueId};
use crate::ops::fused::{Activation, Residual};
use crate::ops::product_i8::{Form, ProductI8};
use crate::ops::requant::Requant;
use crate::ops::{Graph, OpKind};

/// See the module.
pub(in crate::passes) struct IntegerProducts;

impl Pass for IntegerProducts {
    fn name(&self) -> &'static str {
        "integer_products"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

/// Weights as a product of bytes has them.
struct Weights {
    /// Without zero points, `[M, …]`.
    values: Vec<i8>,
    shape: Shape,
    /// One per output channel.
    scales: Vec<f32>,
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    matches!(node.op, OpKind::Quantize(_)).then_some(())?;
    let product = Product::producing(graph, input(node, 0)?)?;
    // Before anything is said about it: a product of floats with a quantized result is no quantized product.
    let (_, mut x, data) = dequantized(graph, product.input(0)?)?;
    let y = Steps::of(graph, node)?;
    Some(replace(graph, id, &product, &mut x, data, y))
}

fn replace(
    graph: &mut Editor<'_>,
    id: NodeId,
    product: &Product,
    x: &mut ValueId,
    data: Steps,
    y: Steps,
) -> Result<&'static str, String> {
    graph.only_reader(product.y)?;
    let zero = u8::try_from(data.zero).ok().filter(|_| data.dtype == DType::U8);
    let x_zero = zero.ok_or("its data are signed bytes that something else reads, too")?;
    let mut weights = weights(graph, product)?;
    if let Some(scale) = product.fused.scale {
        if !(scale > 0.0 && scale.is_finite()) {
            return Err("the factor in its epilogue is not positive".to_owned());
        }
        // In front of the bias, so that it goes with the weights.
        weights.scales.iter_mut().for_each(|s| *s *= scale);
    }
    let bias = bias(graph, product, data.scale, &weights)?;
    let [least, most] = y.bounds();
    // QuantizeLinear is monotone, so that it may clamp in the place of the activation.
    let quantized = |v: f32| libm::rint(f64::from(v / y.scale)).clamp(-1e9, 1e9) as i32;
    let (low, high) = match product.fused.activation {
        Activation::None => (least, most),
        Activation::Relu => (0, most),
        Activation::Clip { lo, hi } => (quantized(lo), quantized(hi)),
        _ => return Err("its activation is no clamp".to_owned()),
    };
    let first = [low.clamp(least, most), high.clamp(least, most)];
    let form = match &product.op {
        OpKind::Conv(conv) => {
            let mut window = conv.window.clone();
            let kernel = weights.shape.get(2..).unwrap_or(&[]).to_vec();
            if let Some((_, pad)) = graph.producer(*x)
                && let OpKind::Pad(_) = &pad.op
                && let Ok(rim) = fuse_pad::rim(graph, pad)
                && rim.fill == f64::from(x_zero)
            {
                (window, _) = fuse_pad::widened(graph, &window, &rim, *x, Some(&kernel), false)?;
                *x = rim.x;
            }
            Form::Window { window, groups: conv.groups }
        }
        _ => Form::Rows,
    };
    let per_output = weights.values.len() / weights.scales.len().max(1);
    // The largest sum that bytes can make, with the bias, and with the zero point's share.
    let worst =
        bias.iter().map(|b| i64::from(*b).abs()).max().unwrap_or(0) + per_output as i64 * 255 * 128 * 2;
    if worst > i64::from(i32::MAX) {
        return Err("its sums could leave 32 bits".to_owned());
    }
    let factors: Vec<f32> = weights.scales.iter().map(|w| data.scale * w / y.scale).collect();
    if factors.iter().any(|f| !f.is_finite()) {
        return Err("its scales are out of range".to_owned());
    }
    let requant = Requant { first, rescale: None, add: None, last: None, zero: y.zero, to: y.dtype };
    let op = ProductI8 { form, x_zero, requant };
    let values = Tensor::new(weights.shape, weights.values).map_err(|e| e.to_string())?;
    let w = graph.add_constant("weights", values);
    let b = graph.add_constant("bias", Tensor::vector(&bias));
    let f = graph.add_constant("factors", Tensor::vector(&factors));
    let inputs = vec![Some(*x), Some(w), Some(b), Some(f)];
    let absorbed = [product.node];
    let new = Replacement { label: "integer_products", at: id, absorbed: &absorbed, op: op.into(), inputs };
    new.apply(graph).ok_or_else(|| "it has several results".to_owned())
}

/// Known weights of bytes behind DequantizeLinear, or why there are none.
fn weights(graph: &Graph, product: &Product) -> Result<Weights, String> {
    let unknown = || "its weights are no known bytes".to_owned();
    let mut v = product.input(WEIGHTS).ok_or_else(unknown)?;
    let rows = !matches!(product.op, OpKind::Conv(_));
    // `[K, N]`, or `[N, K]` behind a transposition.
    let mut transposed = rows;
    if let Some((_, node)) = graph.producer(v)
        && let OpKind::Transpose(op) = &node.op
        && rows
        && op.perm.as_ref().is_none_or(|p| p == &[1, 0])
    {
        v = input(node, 0).ok_or_else(unknown)?;
        transposed = false;
    }
    let (_, node) = graph.producer(v).ok_or_else(unknown)?;
    let OpKind::Dequantize(op) = &node.op else { return Err(unknown()) };
    if op.block != 0 || op.to.is_some_and(|to| to != DType::F32) {
        return Err("its weights have scales by block".to_owned());
    }
    let tensor = constant(graph, node, 0).ok_or_else(unknown)?;
    if !matches!(tensor.dtype(), DType::I8 | DType::U8 | DType::I4 | DType::U4 | DType::I2 | DType::U2) {
        return Err(format!("its weights are {}", tensor.dtype()));
    }
    let dims = tensor.shape().clone();
    if rows && dims.rank() != 2 {
        return Err("its weights have batches".to_owned());
    }
    let axis = usize::from(transposed);
    let outputs = dims.get(axis).copied().ok_or_else(unknown)?;
    let of_axis = op.axis.rem_euclid(dims.rank().max(1) as i64) as usize;
    let per_channel = |i: usize| -> Option<Vec<f64>> {
        let values = constant(graph, node, i)?.to_f64_vec()?;
        match values.len() {
            1 => Some(vec![*values.first()?; outputs]),
            n if n == outputs && of_axis == axis => Some(values),
            _ => None,
        }
    };
    let scales = per_channel(1).ok_or("its weights have scales along another axis")?;
    let zeros = match input(node, 2) {
        None => vec![0.0; outputs],
        Some(_) => per_channel(2).ok_or("its weights have zero points along another axis")?,
    };
    let plain = tensor.to_i64_vec().ok_or_else(unknown)?;
    let inner = plain.len().checked_div(outputs).unwrap_or(0);
    let mut values = Vec::with_capacity(plain.len());
    for (m, zero) in zeros.iter().enumerate() {
        for i in 0..inner {
            let at = if transposed { i * outputs + m } else { m * inner + i };
            let moved = plain.get(at).copied().unwrap_or(0) - *zero as i64;
            values.push(i8::try_from(moved).map_err(|_| "its weights without zero point leave 8 bits")?);
        }
    }
    let shape = if transposed { Shape::from([outputs, inner]) } else { dims };
    Ok(Weights { values, shape, scales: scales.iter().map(|&s| s as f32).collect() })
}

/// Biases in steps of the sums: given as such, or rounded to the nearest.
fn bias(graph: &Graph, product: &Product, x: f32, weights: &Weights) -> Result<Vec<i32>, String> {
    /// Two scales are the same when a bias of 24 bits means the same number with either.
    const CLOSE: f64 = 1e-6;
    let operand = match product.fused.residual {
        Residual::None => product.input(BIAS),
        // A row for all rows, which is a bias.
        Residual::Before if product.input(BIAS).is_none() => product.input(RESIDUAL),
        _ => return Err("something is added that is no bias".to_owned()),
    };
    let outputs = weights.scales.len();
    let Some(v) = operand else { return Ok(vec![0; outputs]) };
    let unknown = || "its bias is not known".to_owned();
    let steps = |m: usize| f64::from(x) * f64::from(weights.scales.get(m).copied().unwrap_or(0.0));
    let spread = |v: Vec<f64>| match v.as_slice() {
        [one] => Some(vec![*one; outputs]),
        many if many.len() == outputs => Some(v),
        _ => None,
    };
    if let Some((_, node)) = graph.producer(v)
        && matches!(node.op, OpKind::Dequantize(_))
    {
        let tensor = constant(graph, node, 0).filter(|t| t.dtype() == DType::I32).ok_or_else(unknown)?;
        let values = spread(tensor.to_f64_vec().ok_or_else(unknown)?).ok_or_else(unknown)?;
        let scales =
            constant(graph, node, 1).and_then(Tensor::to_f64_vec).and_then(spread).ok_or_else(unknown)?;
        let plain = match input(node, 2) {
            None => true,
            Some(_) => constant(graph, node, 2)
                .and_then(Tensor::to_i64_vec)
                .is_some_and(|zeros| zeros.iter().all(|z| *z == 0)),
        };
        let same = scales.iter().enumerate().all(|(m, s)| (s - steps(m)).abs() <= CLOSE * s.abs());
        if plain && same {
            return Ok(values.iter().map(|v| *v as i32).collect());
        }
        let numbers: Vec<f64> = values.iter().zip(&scales).map(|(v, s)| v * s).collect();
        return if plain { rounded(&numbers, steps) } else { Err("its bias has a zero point".to_owned()) };
    }
    let tensor = graph.constant(v).ok_or_else(unknown)?;
    rounded(&spread(tensor.to_f64_vec().ok_or_else(unknown)?).ok_or_else(unknown)?, steps)
}

/// Numbers in steps, each to the nearest.
fn rounded(numbers: &[f64], steps: impl Fn(usize) -> f64) -> Result<Vec<i32>, String> {
    let each = numbers.iter().enumerate().map(|(m, v)| {
        let n = libm::rint(v / steps(m));
        (n.abs() < f64::from(i32::MAX / 2)).then_some(n as i32)
    });
    each.collect::<Option<Vec<i32>>>().ok_or_else(|| "its bias is out of the sums' range".to_owned())
}
