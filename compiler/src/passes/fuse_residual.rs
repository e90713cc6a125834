//! An addend of the result's shape is added in the product's epilogue.
//!
//! - Pattern: Add of a Conv's or MatMul's result and another computed value.
//! - Result: the product reads the value as residual, before its activation where it has none yet,
//!   otherwise behind it. Of two products the later one takes the other's result.
//! - Precondition: f32, f16 or bf16; the product's result has no other reader; it has no residual yet; the
//!   addend has the result's shape (for MatMul, broadcasts to it). For Conv the addend is computed: a
//!   constant over space would have to be stored in the order of the result's layout.
//! - Exactness: one rounding of the sum, as before.
//!
//! The product moves to the place of the Add, where the residual is there by construction.
//!
//! ```text
//! %c = Conv(%a, W); %y = Add(%c, %x)   →   %y = Conv{residual: Before}(%a, W, _, %x)
//! ```

use super::matching::{Editor, Outcome, Replacement, input, is_single, visit};
use super::product::{Product, RESIDUAL};
use super::{Pass, PassCx, PassError};
use crate::ir::{NodeId, ValueId, broadcast};
use crate::kernel::expr::BinaryFn;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::fused::{Activation, Fused, Residual};
use crate::ops::{Graph, OpKind};

/// See the module.
pub(super) struct FuseResidual;

impl Pass for FuseResidual {
    fn name(&self) -> &'static str {
        "fuse_residual"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, fuse);
        Ok(())
    }
}

fn fuse(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let OpKind::Binary(Binary { function: BinaryKind::Arith(BinaryFn::Add) }) = &node.op else { return None };
    let (a, b) = (input(node, 0)?, input(node, 1)?);
    let sides = [(a, b), (b, a)];
    let mut candidates: Vec<(usize, Product, ValueId)> = sides
        .into_iter()
        .filter_map(|(own, addend)| {
            let product = Product::producing(graph, own)?;
            Some((graph.place(product.node), product, addend))
        })
        .collect();
    // The later one first: the other's result then waits the shortest.
    candidates.sort_by_key(|(place, ..)| std::cmp::Reverse(*place));
    let mut reasons = Vec::new();
    for (_, product, addend) in &candidates {
        match declined(graph, id, product, *addend) {
            Some(reason) => reasons.push(reason),
            None => {
                let residual = match product.fused.activation {
                    Activation::None => Residual::Before,
                    _ => Residual::After,
                };
                let op = product.with(Fused { residual, ..product.fused });
                let inputs = product.inputs_with(RESIDUAL, *addend);
                let new =
                    Replacement { label: "fuse_residual", at: id, absorbed: &[product.node], op, inputs };
                return new.apply(graph).map(Ok);
            }
        }
    }
    reasons.into_iter().next().map(Err)
}

/// Why the addend cannot become the product's residual.
fn declined(graph: &Editor<'_>, add: NodeId, product: &Product, addend: ValueId) -> Option<String> {
    let (value, result) = (graph.value(addend), graph.node(add).and_then(super::matching::output));
    if !is_single(product.dtype) {
        return Some(format!("epilogues do not compute in {}", product.dtype));
    }
    if let Err(reason) = graph.only_reader(product.y) {
        return Some(reason);
    }
    if product.fused.residual != Residual::None {
        return Some("the product has a residual already".to_owned());
    }
    if result.is_none_or(|y| graph.value(y).shape != product.shape) {
        return Some("the addend widens the product's result".to_owned());
    }
    match product.op {
        OpKind::Conv(_) if value.shape != product.shape => {
            Some(format!("the addend is {}, the result {}", value.shape, product.shape))
        }
        OpKind::Conv(_) if value.constant.is_some() => {
            Some("the addend is a constant that varies over space".to_owned())
        }
        _ if broadcast([value.shape.dims(), product.shape.dims()]).as_ref() != Some(&product.shape) => {
            Some(format!("the addend {} does not broadcast to {}", value.shape, product.shape))
        }
        _ => None,
    }
}
