//! Products of integers and the requantization behind them are one kernel.
//!
//! - Pattern: `Requantize` of ConvInteger or MatMulInteger, with or without known integers added between: what `QLinearConv`,
//!   `QLinearMatMul` and `QGemm` are read as.
//! - Result: [`ProductI8`].
//! - Precondition: data of unsigned bytes with one known zero point; known weights with zero points, if any, per output
//!   channel, that fit 8 bits without them; the sums cannot leave 32 bits.
//! - Exactness: exact, it is the same definition.
//!
//! ```text
//! Requantize(Add(ConvInteger(%x, W, z), B), factors, zero)   →   ProductI8(%x, W, B, factors)
//! ```

use super::super::matching::{Editor, Outcome, Replacement, constant, input, output, per_axis, visit};
use super::super::{Pass, PassCx, PassError};
use super::single;
use crate::ir::{DType, NodeId, Shape, Tensor, ValueId};
use crate::kernel::expr::BinaryFn;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::product_i8::{Form, ProductI8};
use crate::ops::requant::Requant;
use crate::ops::{Graph, Node, OpKind};

/// See the module.
pub(in crate::passes) struct IntegerRequantized;

impl Pass for IntegerRequantized {
    fn name(&self) -> &'static str {
        "integer_requantized"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    matches!(node.op, OpKind::Requantize(_)).then_some(())?;
    let (mut at, mut between, mut addend) = (input(node, 0)?, Vec::new(), None);
    let (producer, inner) = graph.producer(at)?;
    if let OpKind::Binary(Binary { function: BinaryKind::Arith(BinaryFn::Add) }) = &inner.op {
        let known = (0..2).find(|&i| constant(graph, inner, i).is_some())?;
        addend = input(inner, known);
        at = input(inner, 1 - known)?;
        between.push(producer);
    }
    let (producer, inner) = graph.producer(at)?;
    matches!(inner.op, OpKind::ConvInteger(_) | OpKind::MatMulInteger(_)).then_some(())?;
    between.push(producer);
    Some(fuse(graph, id, &between, producer, addend))
}

/// Weights without zero points, `[M, …]`.
fn weights(graph: &Graph, node: &Node, rows: bool) -> Result<(Vec<i8>, Shape), String> {
    let tensor = constant(graph, node, 1).ok_or("its weights are not known")?;
    let dims = tensor.shape().clone();
    if rows && dims.rank() != 2 {
        return Err("its weights have batches".to_owned());
    }
    let outputs = dims.get(usize::from(rows)).copied().unwrap_or(0);
    let plain = tensor.to_i64_vec().ok_or("its weights are no integers")?;
    let zeros = match input(node, 3) {
        None => vec![0; outputs],
        Some(_) => {
            let zeros = constant(graph, node, 3).and_then(Tensor::to_i64_vec);
            match zeros.as_deref() {
                Some([one]) => vec![*one; outputs],
                Some(many) if many.len() == outputs => many.to_vec(),
                _ => return Err("its weights' zero points are not known".to_owned()),
            }
        }
    };
    let inner = plain.len().checked_div(outputs).unwrap_or(0);
    let mut values = Vec::with_capacity(plain.len());
    for (m, zero) in zeros.iter().enumerate() {
        for i in 0..inner {
            let at = if rows { i * outputs + m } else { m * inner + i };
            let moved = plain.get(at).copied().unwrap_or(0) - zero;
            values.push(i8::try_from(moved).map_err(|_| "its weights without zero point leave 8 bits")?);
        }
    }
    Ok((values, if rows { Shape::from([outputs, inner]) } else { dims }))
}

fn fuse(
    graph: &mut Editor<'_>,
    id: NodeId,
    between: &[NodeId],
    product: NodeId,
    addend: Option<ValueId>,
) -> Result<&'static str, String> {
    for &node in between {
        graph.only_reader(graph.node(node).and_then(output).ok_or("it has several results")?)?;
    }
    let (node, last) = graph.node(product).zip(graph.node(id)).ok_or("it is gone")?;
    let x = input(node, 0).ok_or("it has no data")?;
    let form = match &node.op {
        OpKind::ConvInteger(conv) => Form::Window { window: conv.window.clone(), groups: conv.groups },
        _ => Form::Rows,
    };
    let rows = form == Form::Rows;
    if graph.value(x).dtype != DType::U8 || graph.constant(x).is_some() {
        return Err("its data are signed bytes that something else reads, too".to_owned());
    }
    if rows && graph.value(x).shape.rank() < 2 {
        return Err("its data are a vector".to_owned());
    }
    let x_zero = match input(node, 2) {
        None => 0,
        Some(_) => constant(graph, node, 2).and_then(single).ok_or("its data's zero point is not known")?,
    };
    let x_zero = u8::try_from(x_zero).map_err(|_| "its data's zero point is no byte")?;
    let (values, shape) = weights(graph, node, rows)?;
    let outputs = shape.first().copied().unwrap_or(0);
    let sums = output(node).map(|v| graph.value(v).shape.clone()).ok_or("it has several results")?;
    let axis = if rows { sums.rank().saturating_sub(1) } else { 1 };
    let along = |v: Option<ValueId>, what: &str| {
        let tensor = v.and_then(|v| graph.constant(v)).ok_or(format!("{what} is not known"))?;
        per_axis(tensor, &sums, Some(axis)).ok_or(format!("{what} is not one value per channel"))
    };
    let bias = match addend {
        None => vec![0; outputs],
        Some(v) => along(Some(v), "its bias")?.iter().map(|&b| b as i32).collect(),
    };
    let factors: Vec<f32> = along(input(last, 1), "its scale")?.iter().map(|&f| f as f32).collect();
    let zero = constant(graph, last, 2).and_then(single).ok_or("its zero point is not known")?;
    let to = output(last).map(|v| graph.value(v).dtype).ok_or("it has several results")?;
    let [low, high] = match to {
        DType::U8 => [0, 255],
        DType::I8 => [-128, 127],
        other => return Err(format!("its result is {other}")),
    };
    if bias.len() != outputs || factors.len() != outputs || factors.iter().any(|f| !f.is_finite()) {
        return Err("its scales are out of range".to_owned());
    }
    let inner = values.len().checked_div(outputs).unwrap_or(0) as i64;
    let worst = bias.iter().map(|b| i64::from(*b).abs()).max().unwrap_or(0);
    if worst + inner * 255 * 128 * 2 > i64::from(i32::MAX) {
        return Err("its sums could leave 32 bits".to_owned());
    }
    let first = [low - zero, high - zero];
    let requant = Requant { first, rescale: None, add: None, last: None, zero, to };
    let op = ProductI8 { form, x_zero, requant };
    let values = Tensor::new(shape, values).map_err(|e| e.to_string())?;
    let w = graph.add_constant("weights", values);
    let b = graph.add_constant("bias", Tensor::vector(&bias));
    let f = graph.add_constant("factors", Tensor::vector(&factors));
    let inputs = vec![Some(x), Some(w), Some(b), Some(f)];
    let new = Replacement { label: "integer_requantized", at: id, absorbed: between, op: op.into(), inputs };
    new.apply(graph).ok_or_else(|| "it has several results".to_owned())
}
