//! Batch normalisation becomes part of the weights next to it.
//!
//! - Pattern: Conv or MatMul with known weights, then BatchNormalization over its output channels; or
//!   BatchNormalization, then Conv or MatMul with known weights.
//! - Result: weights times `scale / sqrt(var + ε)` per output (input) channel; the rest in the bias.
//! - Precondition: statistics known and finite; the value in between has no other reader. Behind the
//!   product: nothing between bias and normalisation. In front of a convolution: no padding, since the
//!   zeros of the padding are not normalised (unless no offset would be added).
//! - Exactness: `f64`, weights and bias rounded once each.
//!
//! ```text
//! %c = Conv(%x, W); %y = BatchNormalization(%c, s, b, m, v)   →   %y = Conv(%x, W·f, b - m·f)
//! ```

use super::matching::{Editor, Outcome, Replacement, constant, input, visit};
use super::product::{Affine, Product};
use super::{Pass, PassCx, PassError};
use crate::ir::NodeId;
use crate::ops::{Graph, OpKind};

/// See the module.
pub(super) struct FoldBatchNorm;

impl Pass for FoldBatchNorm {
    fn name(&self) -> &'static str {
        "fold_batch_norm"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, |graph, id| after(graph, id).or_else(|| before(graph, id)));
        Ok(())
    }
}

/// A normalisation as factors and offsets.
fn affine(graph: &Graph, id: NodeId) -> Option<Result<Affine, String>> {
    let node = graph.node(id)?;
    let OpKind::BatchNorm(norm) = &node.op else { return None };
    let known = |i| constant(graph, node, i);
    let (Some(scale), Some(bias), Some(mean), Some(var)) = (known(1), known(2), known(3), known(4)) else {
        return Some(Err("its statistics are not known".to_owned()));
    };
    let affine = norm.affine([scale, bias, mean, var])?;
    Some(Ok(Affine { factor: Some(affine.factor), offset: Some(affine.offset) }))
}

/// The normalisation `id` behind a product.
fn after(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let OpKind::BatchNorm(_) = &graph.node(id)?.op else { return None };
    let x = input(graph.node(id)?, 0)?;
    let product = Product::producing(graph, x)?;
    let folded = fold_after(graph, id, &product);
    Some(folded)
}

fn fold_after(graph: &mut Editor<'_>, id: NodeId, product: &Product) -> Result<&'static str, String> {
    if product.axis != Some(1) {
        return Err("it normalises another axis than the product's columns".to_owned());
    }
    if !product.is_affine() {
        return Err("an activation or residual stands in between".to_owned());
    }
    graph.only_reader(product.y)?;
    let step = affine(graph, id).ok_or("its statistics differ in length")??;
    let inputs = product.absorb_after(graph, &step)?;
    let new = Replacement {
        label: "fold_batch_norm",
        at: id,
        absorbed: &[product.node],
        op: product.op.clone(),
        inputs,
    };
    new.apply(graph).ok_or_else(|| "it has no result".to_owned())
}

/// A normalisation in front of the product `id`.
fn before(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let product = Product::of(graph, id)?;
    let (norm, node) = graph.producer(product.input(0)?)?;
    let OpKind::BatchNorm(_) = &node.op else { return None };
    let given = input(node, 0)?;
    Some(fold_before(graph, norm, given, &product))
}

fn fold_before(
    graph: &mut Editor<'_>,
    norm: NodeId,
    given: crate::ir::ValueId,
    product: &Product,
) -> Result<&'static str, String> {
    if product.input_axis(graph) != Some(1) {
        return Err("it normalises another axis than the product sums over".to_owned());
    }
    let x = product.input(0).ok_or("the product has no operand")?;
    graph.only_reader(x)?;
    let step = affine(graph, norm).ok_or("its statistics differ in length")??;
    let inputs = product.absorb_before(graph, &step, given)?;
    let new = Replacement {
        label: "fold_batch_norm",
        at: product.node,
        absorbed: &[norm],
        op: product.op.clone(),
        inputs,
    };
    new.apply(graph).ok_or_else(|| "it has no result".to_owned())
}
