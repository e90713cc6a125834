//! Flattening a spatial value before known weights permutes the weights, not the data.
//!
//! - Pattern: Reshape of `x[N, C, space…]` to `[N, C·space]`, read by MatMuls with known weights
//!   `[C·space, n]` only, where `x` comes from a spatial operator (channels last in memory).
//! - Result: Reshape of the transposed `x[N, space…, C]`, which is how the data lies, and weights with
//!   their rows in that order.
//! - Precondition: more than one channel and more than one place, or nothing would change; weights of two
//!   axes, each set read by one product (a second copy would be stored).
//! - Exactness: the same products in another order of summation.
//!
//! ```text
//! %r = Reshape(%x[1, 8, 4, 4], [1, 128]); %y = MatMul(%r, W)
//!   →   %t = Transpose(%x, [0, 2, 3, 1]); %r = Reshape(%t, [1, 128]); %y = MatMul(%r, W′)
//! ```

use super::matching::{Editor, Outcome, input, origins, output, visit};
use super::product::{Product, WEIGHTS};
use super::{Pass, PassCx, PassError};
use crate::ir::{NodeId, Shape, ValueId, normalize_axis};
use crate::ops::reshape::Reshape;
use crate::ops::transpose::Transpose;
use crate::ops::{Graph, LayoutRule, Op, OpKind, Patch};

/// See the module.
pub(super) struct ReshapeBeforeWeights;

impl Pass for ReshapeBeforeWeights {
    fn name(&self) -> &'static str {
        "reshape_before_weights"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let OpKind::Reshape(_) = &node.op else { return None };
    let (x, y) = (input(node, 0)?, output(node)?);
    let (from, to) = (graph.value(x).shape.clone(), graph.value(y).shape.clone());
    let [batch, channels, space @ ..] = from.dims() else { return None };
    let places = space.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    let flat = channels.checked_mul(places)?;
    // A batch of 1 may have vanished or been multiplied in.
    let flattens = to.dims() == [*batch, flat];
    if !flattens || *channels < 2 || places < 2 || flat == 0 || !is_spatial(graph, x) {
        return None;
    }
    let readers: Vec<Product> = graph
        .readers(y)
        .iter()
        .filter_map(|&n| Product::of(graph, n).filter(|p| p.input(0) == Some(y)))
        .collect();
    if readers.is_empty() {
        return None;
    }
    let decline = |reason: &str| Some(Err(reason.to_owned()));
    if readers.len() != graph.readers(y).len() || graph.is_model_output(y) {
        return decline("other nodes than products read the flattened value");
    }
    for product in &readers {
        let Some(w) = product.input(WEIGHTS) else { continue };
        if graph.constant(w).is_none() {
            return decline("the weights are not known");
        }
        if graph.value(w).shape.rank() != 2 {
            return decline("the weights have not two axes");
        }
        if graph.readers(w).len() > 1 {
            return decline("the weights have several readers, and a second copy would be stored");
        }
    }
    let Some(patches) = permuted_weights(graph, &readers, *channels, places) else {
        return decline("the weights could not be permuted");
    };
    let rank = from.rank();
    let perm: Vec<usize> = std::iter::once(0).chain(2..rank).chain(std::iter::once(1)).collect();
    let last: Shape = perm.iter().filter_map(|&p| from.get(p).copied()).collect();
    let (dtype, names) = (graph.value(x).dtype, (graph.value(x).name.clone(), graph.value(y).name.clone()));
    let extents: Vec<i64> = to.iter().filter_map(|&d| i64::try_from(d).ok()).collect();
    let from_nodes = origins(graph, [&id]);
    let mut patch = Patch::new(graph, "reshape_before_weights", id);
    let transposed = patch.node(
        Transpose { perm: Some(perm) }.into(),
        vec![Some(x)],
        (format!("{}.channels_last", names.0), dtype, last),
        from_nodes.clone(),
    );
    let shape = patch.constant(format!("{}.shape", names.1), crate::ir::Tensor::vector(&extents));
    let flat = patch.node(
        Reshape::Shape { allowzero: true }.into(),
        vec![Some(transposed), Some(shape)],
        (names.1, dtype, to),
        from_nodes,
    );
    patch.redirect(y, flat);
    patch.remove(id);
    let label = patch.apply();
    for (node, weights) in patches {
        if let Some(slot) = graph.node_mut(node).and_then(|n| n.inputs.get_mut(WEIGHTS)) {
            *slot = Some(weights);
        }
    }
    graph.refresh();
    Some(Ok(label))
}

/// For each product a new constant: rows of its weights from `[C, space]` to `[space, C]` order.
fn permuted_weights(
    graph: &mut Graph,
    readers: &[Product],
    channels: usize,
    places: usize,
) -> Option<Vec<(NodeId, ValueId)>> {
    let mut out = Vec::new();
    for product in readers {
        let v = product.input(WEIGHTS)?;
        let weights = graph.constant(v)?;
        let &[rows, n] = weights.shape().dims() else { return None };
        let split = weights.reshaped([channels, places, n]).ok()?;
        let swap = Transpose { perm: Some(vec![1, 0, 2]) };
        let swapped = swap.eval(&[Some(&split)]).ok()?.into_iter().next()?;
        let tensor = swapped.reshaped([rows, n]).ok()?;
        let name = graph.value(v).name.clone();
        out.push((product.node, graph.add_constant(name, tensor)));
    }
    Some(out)
}

/// Whether a value lies channels last: a spatial operator computes it, perhaps with elementwise ones
/// behind.
fn is_spatial(graph: &Graph, v: ValueId) -> bool {
    let mut v = v;
    while let Some((_, node)) = graph.producer(v) {
        match node.op.as_op().layout() {
            LayoutRule::ChannelsLast => return true,
            LayoutRule::Follow => match input(node, 0) {
                Some(x) if graph.value(x).shape == graph.value(v).shape => v = x,
                _ => return false,
            },
            // Joined along another axis than the batch, its parts lie as the whole does.
            LayoutRule::Join { axis } => {
                let at = normalize_axis(axis, graph.value(v).shape.rank());
                match input(node, 0).filter(|_| at.is_some_and(|a| a > 0)) {
                    Some(x) => v = x,
                    None => return false,
                }
            }
            LayoutRule::RowMajor | LayoutRule::View => return false,
        }
    }
    false
}
