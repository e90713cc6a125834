//! Softmax of quantized values works by a table of exponentials.
//!
//! - Pattern: QuantizeLinear of Softmax of DequantizeLinear.
//! - Result: [`SoftmaxI8`].
//! - Precondition: 8 bits and one scale on both sides; nobody else reads the Softmax.
//! - Exactness: within one step; exponentials have 23 bits, fewer for slices of more than 128 elements.
//!
//! ```text
//! QuantizeLinear(Softmax(DequantizeLinear(%x, s)), t)   →   SoftmaxI8(%x)
//! ```

use super::super::matching::{Editor, Outcome, Replacement, input, visit};
use super::super::{Pass, PassCx, PassError};
use super::{Steps, dequantized};
use crate::ir::NodeId;
use crate::ops::softmax::Kind;
use crate::ops::softmax_i8::{MAX_SLICE, SoftmaxI8};
use crate::ops::{Graph, OpKind};

/// See the module.
pub(in crate::passes) struct IntegerSoftmax;

impl Pass for IntegerSoftmax {
    fn name(&self) -> &'static str {
        "integer_softmax"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    matches!(node.op, OpKind::Quantize(_)).then_some(())?;
    let curve = input(node, 0)?;
    let (at, inner) = graph.producer(curve)?;
    let OpKind::Softmax(softmax) = &inner.op else { return None };
    let (_, x, data) = dequantized(graph, input(inner, 0)?)?;
    let y = Steps::of(graph, node)?;
    if softmax.kind != Kind::Soft {
        return Some(Err("only Softmax itself has a table".to_owned()));
    }
    let axes = softmax.axes(&graph.value(x).shape).ok()?;
    let extents = axes.iter().filter_map(|&a| graph.value(x).shape.get(a));
    if extents.fold(1usize, |n, &d| n.saturating_mul(d)) > MAX_SLICE {
        return Some(Err("its slices are too long for sums of 32 bits".to_owned()));
    }
    if let Err(reason) = graph.only_reader(curve) {
        return Some(Err(reason));
    }
    let op = SoftmaxI8 { axes, x_scale: data.scale, y_scale: y.scale, zero: y.zero, to: y.dtype };
    let inputs = vec![Some(x)];
    let new = Replacement { label: "integer_softmax", at: id, absorbed: &[at], op: op.into(), inputs };
    new.apply(graph).map(Ok)
}
