//! Factors per channel in front of a pointwise convolution move into its weights.
//!
//! - Pattern: Mul of a feature map and a gate with one factor per channel (squeeze-and-excite), read by a
//!   pointwise Conv only.
//! - Result: the Conv reads the map itself, and weights that a Mul scales at run time: a few hundred numbers
//!   instead of the whole map.
//! - Precondition: f32; one image; one group; weights known, and at least [`FEWER`] times fewer than the map, since
//!   they are also packed at run time; the gate comes from a sigmoid, so that no product overflows.
//! - Exactness: a factor moves from one operand of a product to the other.
//!
//! ```text
//! %m = Mul(%x, %s); %y = Conv(%m, W)   →   %w = Mul(W, %s); %y = Conv(%x, %w)
//! ```

use super::matching::{Editor, Outcome, Replacement, input, origins, visit};
use super::product::{Product, WEIGHTS};
use super::{Pass, PassCx, PassError};
use crate::ir::{DType, NodeId, Shape, ValueId};
use crate::kernel::expr::BinaryFn;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::fused::Activation;
use crate::ops::{Graph, OpKind, Patch};

/// Elements of the map for each weight, from which on moving the factors pays: a weight is scaled and then
/// packed one by one, a map is scaled in vectors.
const FEWER: usize = 32;

/// See the module.
pub(super) struct GateWeights;

impl Pass for GateWeights {
    fn name(&self) -> &'static str {
        "gate_weights"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, fuse);
        Ok(())
    }
}

fn fuse(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let product = Product::of(graph, id)?;
    let OpKind::Conv(conv) = &product.op else { return None };
    let scaled = product.input(0)?;
    let (mul, node) = graph.producer(scaled)?;
    let OpKind::Binary(Binary { function: BinaryKind::Arith(BinaryFn::Mul) }) = &node.op else { return None };
    let (a, b) = (input(node, 0)?, input(node, 1)?);
    let shape = graph.value(scaled).shape.clone();
    let (x, gate) = [(a, b), (b, a)].into_iter().find(|&(x, gate)| {
        graph.value(x).shape == shape && is_gate(&graph.value(gate).shape, &shape) && is_sigmoid(graph, gate)
    })?;
    let weights = product.input(WEIGHTS)?;
    let extents = graph.value(weights).shape.clone();
    let pointwise = conv.groups == 1 && extents.iter().skip(2).all(|&k| k == 1);
    if !pointwise || product.dtype != DType::F32 || graph.constant(weights).is_none() {
        return None;
    }
    if let Err(reason) = graph.only_reader(scaled) {
        return Some(Err(reason));
    }
    if shape.first() != Some(&1) {
        return Some(Err("each image has factors of its own".to_owned()));
    }
    if extents.elements().saturating_mul(FEWER) > shape.elements() {
        return Some(Err(format!("the map has fewer than {FEWER} elements for each weight")));
    }
    let nodes = origins(graph, [&mul]);
    let name = format!("{}.gated", graph.value(weights).name);
    let mut patch = Patch::new(graph, "gate_weights", id);
    let op = Binary { function: BinaryKind::Arith(BinaryFn::Mul) }.into();
    let gated = patch.node(op, vec![Some(weights), Some(gate)], (name, DType::F32, extents), nodes);
    patch.apply();
    graph.refresh();
    let mut inputs = product.inputs_with(WEIGHTS, gated);
    if let Some(first) = inputs.first_mut() {
        *first = Some(x);
    }
    let new = Replacement { label: "gate_weights", at: id, absorbed: &[mul], op: product.op, inputs };
    new.apply(graph).map(Ok)
}

/// Whether `gate` has one factor for each channel of images of `shape`.
fn is_gate(gate: &Shape, shape: &Shape) -> bool {
    gate.rank() == shape.rank()
        && gate.first() == shape.first()
        && gate.get(1) == shape.get(1)
        && gate.iter().skip(2).all(|&d| d == 1)
}

/// Whether a value lies between 0 and 1, since a product with a sigmoid gives it.
fn is_sigmoid(graph: &Editor<'_>, v: ValueId) -> bool {
    Product::producing(graph, v)
        .is_some_and(|p| matches!(p.fused.activation, Activation::Sigmoid | Activation::HardSigmoid { .. }))
}
