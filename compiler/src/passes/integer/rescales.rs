//! Clamps and other scales behind a product of bytes are further roundings of the product's sums.
//!
//! - Pattern: QuantizeLinear of DequantizeLinear of a [`ProductI8`](crate::ops::product_i8::ProductI8), with or without a Relu
//!   or Clip between; nobody else reads the product.
//! - Result: the product goes on to round its result by the quotient of the scales, and clamps; with the same scale on both
//!   sides it only clamps.
//! - Precondition: one scale on either side; one of the product's two places for it is free.
//! - Exactness: the first result is still rounded to its own steps, as in the model. Within one step of the float form,
//!   where the exact quotient lies within a few roundings of a tie.
//!
//! ```text
//! %p = ProductI8(…); QuantizeLinear(Relu(DequantizeLinear(%p)))   →   ProductI8{rescale}(…)
//! ```

use super::super::matching::{Editor, Outcome, Replacement, input, visit};
use super::super::{Pass, PassCx, PassError};
use super::{Steps, clamped, dequantized};
use crate::ir::NodeId;
use crate::ops::requant::Rescale;
use crate::ops::{Graph, Node, OpKind};

/// See the module.
pub(in crate::passes) struct IntegerRescales;

impl Pass for IntegerRescales {
    fn name(&self) -> &'static str {
        "integer_rescales"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    matches!(node.op, OpKind::Quantize(_)).then_some(())?;
    let y = Steps::of(graph, node)?;
    let (mut at, mut between, mut clamp) = (input(node, 0)?, Vec::new(), None);
    let (producer, inner) = graph.producer(at)?;
    if let Some(bounds) = clamped(inner) {
        (clamp, at) = (Some(bounds), input(inner, 0)?);
        between.push(producer);
    }
    let (dequantizer, bytes, x) = dequantized(graph, at)?;
    between.push(dequantizer);
    let (product, inner) = graph.producer(bytes)?;
    matches!(inner.op, OpKind::ProductI8(_)).then_some(())?;
    Some(fuse(graph, id, product, between, (x, y), y.clamped(clamp)))
}

fn fuse(
    graph: &mut Editor<'_>,
    id: NodeId,
    product: NodeId,
    mut between: Vec<NodeId>,
    (x, y): (Steps, Steps),
    bounds: [i32; 2],
) -> Result<&'static str, String> {
    let (mut op, inputs) = match graph.node(product) {
        Some(Node { op: OpKind::ProductI8(op), inputs, .. }) => (op.clone(), inputs.clone()),
        _ => return Err("it is gone".to_owned()),
    };
    between.push(product);
    for &node in &between {
        let v = graph.node(node).and_then(super::super::matching::output).ok_or("it has several results")?;
        graph.only_reader(v)?;
    }
    if op.requant.zero != x.zero {
        return Err("its zero point is not that of the product".to_owned());
    }
    let requant = &mut op.requant;
    if x.scale == y.scale {
        // Integers stay the same: the last step clamps to both.
        let last = match (&mut requant.last, &mut requant.add, &mut requant.rescale) {
            (Some(step), ..) => &mut step.bounds,
            (None, Some(step), _) => &mut step.bounds,
            (None, None, Some(step)) => &mut step.bounds,
            (None, None, None) => &mut requant.first,
        };
        *last = last.map(|v| v.clamp(bounds[0], bounds[1]));
    } else {
        let factor = x.scale / y.scale;
        if !(factor > 0.0 && factor.is_finite()) {
            return Err("its scales are too far apart".to_owned());
        }
        let place = match (&requant.add, &requant.rescale, &requant.last) {
            (None, None, None) => &mut requant.rescale,
            (_, _, None) => &mut requant.last,
            _ => return Err("the product is rounded again already".to_owned()),
        };
        *place = Some(Rescale { factor, bounds });
    }
    (op.requant.zero, op.requant.to) = (y.zero, y.dtype);
    let new = Replacement { label: "integer_rescales", at: id, absorbed: &between, op: op.into(), inputs };
    new.apply(graph).ok_or_else(|| "it has several results".to_owned())
}
