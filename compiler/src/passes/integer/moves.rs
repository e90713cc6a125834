//! Data is moved as integers.
//!
//! - Pattern: an operator that hands on elements as they are (Reshape, Transpose, Slice and their like; Pad with zeros;
//!   MaxPool; Resize to the nearest) of a DequantizeLinear; QuantizeLinear behind it or not.
//! - Result: the operator over the integers, and DequantizeLinear behind it, which goes away with a QuantizeLinear of the same
//!   steps.
//! - Precondition: one scale, zero point and type for the whole tensor; between two of the same steps, nobody else reads.
//! - Exactness: `QuantizeLinear` gives each integer back: `x·s/s` is within two roundings of an integer below 2⁸.
//!
//! ```text
//! %d = DequantizeLinear(%x); %r = Reshape(%d); %y = QuantizeLinear(%r)   →   %y = Reshape(%x)
//! %d = DequantizeLinear(%x); %y = Transpose(%d)                          →   %y = DequantizeLinear(Transpose(%x))
//! ```

use super::super::matching::{Editor, Outcome, Replacement, constant, input, origins, output, visit};
use super::super::{Pass, PassCx, PassError};
use super::{Steps, dequantized, moves};
use crate::ir::{DType, NodeId, Patch, Tensor, ValueId};
use crate::ops::pad::PadMode;
use crate::ops::{Graph, OpKind};

/// See the module.
pub(in crate::passes) struct IntegerMoves;

impl Pass for IntegerMoves {
    fn name(&self) -> &'static str {
        "integer_moves"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    match &node.op {
        OpKind::Quantize(_) => same_steps(graph, id),
        op if moves(op) => behind(graph, id),
        _ => None,
    }
}

/// QuantizeLinear of DequantizeLinear with the same steps.
fn same_steps(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let steps = Steps::of(graph, node)?;
    let (_, x, own) = dequantized(graph, input(node, 0)?)?;
    if own != steps || graph.constant(x).is_some() {
        return None;
    }
    graph.bypass(id, x).map(|()| Ok("same_integers"))
}

/// DequantizeLinear behind a move instead of before it.
fn behind(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let y = output(node)?;
    let (dequantizer, x, steps) = dequantized(graph, input(node, 0)?)?;
    if graph.constant(x).is_some() {
        return None;
    }
    let Some((op, mut inputs)) = filled(graph, id, steps) else {
        return Some(Err("it pads with something else than zeros".to_owned()));
    };
    if let Some(first) = inputs.first_mut() {
        *first = Some(x);
    }
    let last = graph.node(dequantizer)?;
    let (after, numbers) = (last.op.clone(), [input(last, 1), input(last, 2)]);
    let (name, shape) = (format!("{}.integers", graph.value(y).name), graph.value(y).shape.clone());
    let from = origins(graph, [&id]);
    let mut patch = Patch::new(graph, "integer_moves", id);
    let moved = patch.node(op, inputs, (name, steps.dtype, shape), from);
    patch.apply();
    graph.refresh();
    let inputs = [Some(moved)].into_iter().chain(numbers).collect();
    Replacement { label: "integer_moves", at: id, absorbed: &[], op: after, inputs }.apply(graph).map(Ok)
}

/// The move's operator and operands over integers: what it fills with is the zero point, where that is zero.
fn filled(graph: &mut Editor<'_>, id: NodeId, steps: Steps) -> Option<(OpKind, Vec<Option<ValueId>>)> {
    let node = graph.node(id)?;
    let (mut op, mut inputs) = (node.op.clone(), node.inputs.clone());
    if let OpKind::Pad(pad) = &mut op {
        let fill = match input(node, 2) {
            None => Some(f64::from(pad.value.unwrap_or(0.0))),
            Some(_) => constant(graph, node, 2).and_then(Tensor::to_scalar_f64),
        };
        if pad.mode == PadMode::Constant && fill != Some(0.0) {
            return None;
        }
        pad.value = None;
        let zero = match steps.dtype {
            DType::U8 => Tensor::scalar(steps.zero as u8),
            _ => Tensor::scalar(steps.zero as i8),
        };
        if pad.mode == PadMode::Constant {
            // Pads given as attribute have no operand.
            inputs.resize(inputs.len().max(3), None);
            let fill = graph.add_constant("fill", zero);
            if let Some(slot) = inputs.get_mut(2) {
                *slot = Some(fill);
            }
        }
    }
    Some((op, inputs))
}
