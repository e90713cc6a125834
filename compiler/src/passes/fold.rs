//! Computes what is known at compile time.
//!
//! - Pattern: a node all of whose operands are known, and whose operator folds (DequantizeLinear does not).
//! - Result: its results become constants.
//! - Precondition: results and work stay within [`MAX_RESULT_BYTES`], [`MAX_GROWTH_BYTES`] and
//!   [`MAX_WORK`]. What is declined is computed at run time, from the small operands it has.
//!
//! The frontend folds while it infers; this takes what rewrites expose.
//!
//! ```text
//! %w = Transpose(W); %y = MatMul(%x, %w)   →   %y = MatMul(%x, Wᵀ)
//! ```

use super::log::describe;
use super::{Pass, PassCx, PassError};
use crate::ir::{NodeId, Tensor};
use crate::ops::{Graph, Node, Type, eval_within};

/// Results of one node, in bytes: the frontend's limit for the same.
const MAX_RESULT_BYTES: usize = 16 << 20;

/// How much larger than its operands a result may be (Expand, Tile, Range, Resize of a constant):
/// beyond a few pages of a microcontroller's flash a loop is cheaper than the blob it would fill.
const MAX_GROWTH_BYTES: usize = 64 << 10;

/// Multiply-accumulates and elements of all nodes folded in one run: under a second in a debug build.
const MAX_WORK: u64 = 1 << 26;

/// See the module.
pub(super) struct Fold;

impl Pass for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let order: Vec<NodeId> = graph.order().to_vec();
        let mut work = 0;
        for id in order {
            let Some(node) = graph.node(id) else { continue };
            let wanted = node.outputs.iter().flatten().any(|&v| graph.constant(v).is_none());
            if !wanted {
                continue;
            }
            let Some(operands) = known(graph, node) else { continue };
            match evaluate(graph, node, &operands, &mut work) {
                Err(Refusal::Declined(reason)) => cx.missed(graph, id, reason),
                Err(Refusal::Broken(what)) => {
                    let what = format!("{}: {what}", describe(graph, id));
                    return Err(PassError::Broken { pass: self.name(), what });
                }
                Ok(results) => {
                    let outputs = node.outputs.clone();
                    for (v, tensor) in outputs.into_iter().zip(results) {
                        if let Some(v) = v {
                            graph.set_constant(v, tensor);
                        }
                    }
                    cx.fired("fold");
                }
            }
        }
        Ok(())
    }
}

enum Refusal {
    Declined(String),
    Broken(String),
}

/// All operands, where all are known. Nodes without operands are not folded: they are generators,
/// which the frontend has folded where it could.
fn known<'g>(graph: &'g Graph, node: &Node) -> Option<Vec<Option<&'g Tensor>>> {
    node.inputs.iter().flatten().next().filter(|_| node.op.as_op().folds())?;
    node.inputs
        .iter()
        .map(|v| match v {
            None => Some(None),
            Some(v) => graph.constant(*v).map(Some),
        })
        .collect()
}

fn evaluate(
    graph: &Graph,
    node: &Node,
    operands: &[Option<&Tensor>],
    work: &mut u64,
) -> Result<Vec<Tensor>, Refusal> {
    let bytes = |elements: usize, size: usize| elements.saturating_mul(size.max(1));
    let given: usize = operands.iter().flatten().map(|t| bytes(t.len(), t.dtype().size())).sum();
    let types: Vec<Type> = node
        .outputs
        .iter()
        .flatten()
        .map(|&v| Type::new(graph.value(v).dtype, graph.value(v).shape.clone()))
        .collect();
    let made =
        types.iter().map(|t| bytes(t.shape.elements(), t.dtype.size())).fold(0usize, usize::saturating_add);
    if made > MAX_RESULT_BYTES {
        return Err(Refusal::Declined(format!("the result would have {made} bytes")));
    }
    if made > given.saturating_add(MAX_GROWTH_BYTES) {
        return Err(Refusal::Declined(format!("{given} bytes would become {made}")));
    }
    let inputs: Vec<Option<Type>> =
        operands.iter().map(|t| t.map(|t| Type::new(t.dtype(), t.shape().clone()))).collect();
    let elements = types.iter().map(|t| t.shape.elements() as u64).fold(0, u64::saturating_add);
    let own = node.op.as_op().macs(&inputs, &types).saturating_add(elements).saturating_add(given as u64);
    if work.saturating_add(own) > MAX_WORK {
        return Err(Refusal::Declined(format!("it would take {own} operations at compile time")));
    }
    *work += own;
    // What branches and loops do shows when it is done.
    let mut left = MAX_WORK.saturating_sub(*work);
    let results = match eval_within(&node.op, operands, &mut left) {
        Some(results) => {
            *work = MAX_WORK.saturating_sub(left);
            results
        }
        None => node.op.as_op().eval(operands),
    };
    let results = results.map_err(|e| Refusal::Declined(e.to_string()))?;
    if results.len() < node.outputs.len() {
        let what = format!("{} results for {} declared ones", results.len(), node.outputs.len());
        return Err(Refusal::Broken(what));
    }
    Ok(results)
}
