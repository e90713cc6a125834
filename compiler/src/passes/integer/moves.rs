//! Data is moved as integers.
//!
//! - Pattern: QuantizeLinear of a Reshape, Transpose, Pad with zeros or MaxPool of a DequantizeLinear.
//! - Result: the move over the integers.
//! - Precondition: both have the same scale, zero point and type, one for the whole tensor; what is in between has
//!   no other reader.
//! - Exactness: `QuantizeLinear` gives each integer back: `x·s/s` is within two roundings of an integer below 2⁸.
//!
//! ```text
//! %d = DequantizeLinear(%x); %r = Reshape(%d); %y = QuantizeLinear(%r)   →   %y = Reshape(%x)
//! ```

use super::super::matching::{Editor, Outcome, Replacement, constant, input, visit};
use super::super::{Pass, PassCx, PassError};
use super::{Steps, dequantized, moves};
use crate::ir::{DType, NodeId, Tensor};
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
    matches!(node.op, OpKind::Quantize(_)).then_some(())?;
    let steps = Steps::of(graph, node)?;
    let moved = input(node, 0)?;
    let (at, inner) = graph.producer(moved)?;
    (moves(&inner.op) && inner.outputs.iter().flatten().count() == 1).then_some(())?;
    let (_, x, own) = dequantized(graph, input(inner, 0)?)?;
    if own != steps {
        return Some(Err("the scales or zero points on both sides differ".to_owned()));
    }
    let (mut op, mut inputs) = (inner.op.clone(), inner.inputs.clone());
    if let OpKind::Pad(pad) = &mut op {
        let fill = match input(inner, 2) {
            None => Some(f64::from(pad.value.unwrap_or(0.0))),
            Some(_) => constant(graph, inner, 2).and_then(Tensor::to_scalar_f64),
        };
        if pad.mode == PadMode::Constant && fill != Some(0.0) {
            return Some(Err("it pads with something else than zeros".to_owned()));
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
    if let Err(reason) = graph.only_reader(moved) {
        return Some(Err(reason));
    }
    if let Some(first) = inputs.first_mut() {
        *first = Some(x);
    }
    Replacement { label: "integer_moves", at: id, absorbed: &[at], op, inputs }.apply(graph).map(Ok)
}
