//! Per-channel constants become bias and weights.
//!
//! - Pattern: Conv or MatMul, then Add, Sub, Mul or Div with a known operand that varies along the output
//!   channels at most; or such a Mul, Div, Add or Sub along the input channels, then Conv or MatMul
//!   with known weights.
//! - Result: the constant is in the bias (Add, Sub) or in weights and bias (Mul, Div).
//! - Precondition: the value in between has no other reader; nothing between bias and constant; finite
//!   constants; for Mul and Div known weights (otherwise `fuse_scale` may do it). In front of a
//!   convolution that pads only Mul and Div.
//! - Exactness: `f64`, rounded once.
//!
//! ```text
//! %c = Conv(%x, W); %y = Add(%c, B[8, 1, 1])   →   %y = Conv(%x, W, B[8])
//! ```

use super::matching::{Editor, Outcome, Replacement, input, per_axis, visit};
use super::product::{Affine, BIAS, Product, WEIGHTS};
use super::{Pass, PassCx, PassError};
use crate::ir::{NodeId, Shape, ValueId};
use crate::kernel::expr::BinaryFn;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::{Graph, OpKind};

/// See the module.
pub(super) struct FuseBias;

impl Pass for FuseBias {
    fn name(&self) -> &'static str {
        "fuse_bias"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, |graph, id| after(graph, id).or_else(|| before(graph, id)));
        Ok(())
    }
}

/// An elementwise step with a known operand: the other operand, the function, the constant, and
/// whether the constant is the left one.
pub(super) struct Step {
    pub x: ValueId,
    pub function: BinaryFn,
    pub constant: ValueId,
    pub left: bool,
}

impl Step {
    /// Add, Sub, Mul or Div with exactly one known operand that does not widen the other.
    pub(super) fn of(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = graph.node(id)?;
        let OpKind::Binary(Binary { function: BinaryKind::Arith(function) }) = &node.op else { return None };
        if !matches!(function, BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul | BinaryFn::Div) {
            return None;
        }
        let (a, b) = (input(node, 0)?, input(node, 1)?);
        let (x, constant, left) = match (graph.constant(a).is_some(), graph.constant(b).is_some()) {
            (false, true) => (a, b, false),
            (true, false) => (b, a, true),
            _ => return None,
        };
        let y = super::matching::output(node)?;
        (graph.value(x).shape == graph.value(y).shape).then_some(Step {
            x,
            function: *function,
            constant,
            left,
        })
    }

    /// The step as factors and offsets along an axis of `shape`.
    pub(super) fn affine(&self, graph: &Graph, shape: &Shape, axis: Option<usize>) -> Option<Affine> {
        let values = per_axis(graph.constant(self.constant)?, shape, axis)?;
        let factor = |v: Vec<f64>| Some(Affine { factor: Some(v), offset: None });
        let offset = |v: Vec<f64>| Some(Affine { factor: None, offset: Some(v) });
        match (self.function, self.left) {
            (BinaryFn::Mul, _) => factor(values),
            // The inverse of a tiny divisor overflows; refused as not finite.
            (BinaryFn::Div, false) => factor(values.iter().map(|v| 1.0 / v).collect()),
            (BinaryFn::Add, _) => offset(values),
            (BinaryFn::Sub, false) => offset(values.iter().map(|v| -v).collect()),
            (BinaryFn::Sub, true) => {
                Some(Affine { factor: Some(vec![-1.0; values.len()]), offset: Some(values) })
            }
            _ => None,
        }
    }
}

/// The step `id` behind a product.
fn after(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let step = Step::of(graph, id)?;
    let product = Product::producing(graph, step.x)?;
    let known_bias = product.input(BIAS).is_none_or(|v| graph.constant(v).is_some());
    let known_weights = product.input(WEIGHTS).is_some_and(|v| graph.constant(v).is_some());
    let Some(affine) = step.affine(graph, &product.shape, product.axis) else {
        return Some(Err("the constant varies along other axes than the channels".to_owned()));
    };
    if affine.factor.is_some() && !known_weights {
        return None; // fuse_scale's
    }
    if !product.is_affine() {
        return Some(Err("an activation or residual stands in between".to_owned()));
    }
    if !known_bias {
        return Some(Err("the bias is not known".to_owned()));
    }
    Some(fold_after(graph, id, &product, &affine))
}

fn fold_after(
    graph: &mut Editor<'_>,
    id: NodeId,
    product: &Product,
    step: &Affine,
) -> Result<&'static str, String> {
    graph.only_reader(product.y)?;
    let inputs = product.absorb_after(graph, step)?;
    let label = if step.factor.is_some() { "fuse_channel_scale" } else { "fuse_bias" };
    let new = Replacement { label, at: id, absorbed: &[product.node], op: product.op.clone(), inputs };
    new.apply(graph).ok_or_else(|| "it has no result".to_owned())
}

/// A step in front of the product `id`.
fn before(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let product = Product::of(graph, id)?;
    graph.constant(product.input(WEIGHTS)?)?;
    let x = product.input(0)?;
    let (at, _) = graph.producer(x)?;
    let step = Step::of(graph, at)?;
    let axis = product.input_axis(graph);
    let affine = step.affine(graph, &graph.value(x).shape.clone(), axis)?;
    Some(fold_before(graph, at, &step, &product, &affine))
}

fn fold_before(
    graph: &mut Editor<'_>,
    at: NodeId,
    step: &Step,
    product: &Product,
    affine: &Affine,
) -> Result<&'static str, String> {
    let x = product.input(0).ok_or("the product has no operand")?;
    graph.only_reader(x)?;
    let inputs = product.absorb_before(graph, affine, step.x)?;
    let label = "fuse_input_scale";
    let new = Replacement { label, at: product.node, absorbed: &[at], op: product.op.clone(), inputs };
    new.apply(graph).ok_or_else(|| "it has no result".to_owned())
}
