//! Trial runs of one node's `lower` on made-up memory: what views a View operator gives, and what a spatial
//! operator asks for. So that layouts can be chosen without a second description of each operator.

use super::builder::{Builder, Decisions, Probe};
use super::view::{Order, TensorView, dense_strides};
use super::{LowerCx, SpatialNeed};
use crate::ir::{NodeId, ValueId};
use crate::kernel::Kernel;
use crate::ops::{Graph, Node};

/// Outcome of a trial run.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    /// Where each result lies, if it has a place.
    pub results: Vec<Option<TensorView>>,
    /// Bytes that the node's loops wrote; 0 when everything is an alias.
    pub moved: usize,
}

/// Lowers a node whose operand 0 lies in `order` without gaps and whose others lie as `decisions` say;
/// `None` where lowering fails.
pub(super) fn with_order(graph: &Graph, id: NodeId, order: &Order, orders: &[Order]) -> Option<Trial> {
    let node = graph.node(id)?;
    let mut builder = Builder::new(graph, Decisions { orders: orders.to_vec(), ..Decisions::default() });
    let first = node.inputs.first().copied().flatten();
    give(graph, node, &mut builder, |v| (Some(v) == first).then(|| order.clone()));
    run(graph, id, &mut builder)?;
    let results = node.outputs.iter().map(|o| o.and_then(|v| builder.placed(v).cloned())).collect();
    let moved = builder.steps.iter().map(|s| moved_bytes(&s.kernel)).sum();
    Some(Trial { results, moved })
}

/// The spatial operands that a node asks for, as far as its first.
pub(super) fn needs(graph: &Graph, id: NodeId, reorder_sums: bool) -> Vec<(usize, SpatialNeed)> {
    let Some(node) = graph.node(id) else { return Vec::new() };
    let mut builder = Builder::new(graph, Decisions { reorder_sums, ..Decisions::default() });
    builder.probe = Some(Probe { needs: Vec::new(), stop_at_need: true });
    give(graph, node, &mut builder, |_| None);
    let _ = run(graph, id, &mut builder);
    builder.probe.map(|p| p.needs).unwrap_or_default()
}

/// Gives every computed operand memory.
fn give(graph: &Graph, node: &Node, builder: &mut Builder, order: impl Fn(ValueId) -> Option<Order>) {
    for &v in node.inputs.iter().flatten() {
        let value = graph.value(v);
        if value.constant.is_none() && builder.placed(v).is_none() {
            let order = order(v).unwrap_or_else(|| builder.order(graph, v));
            let len = value.shape.elements();
            let operand = builder.buffer("", value.dtype, len, len);
            let shape = value.shape.to_vec();
            let strides = dense_strides(&shape, &order);
            builder.set_place(v, TensorView { operand, dtype: value.dtype, shape, offset: 0, strides });
        }
    }
}

fn run(graph: &Graph, id: NodeId, builder: &mut Builder) -> Option<()> {
    let node = graph.node(id)?;
    node.op.as_op().lower(&mut LowerCx::new(graph, node, builder)).ok()
}

fn moved_bytes(kernel: &Kernel) -> usize {
    match kernel {
        Kernel::Loops(loops) => loops
            .nests
            .iter()
            .map(|n| {
                let outer = n.extents.len().saturating_sub(n.reduce);
                let count: usize = n.extents.iter().take(outer).product();
                n.stores.iter().map(|s| count.saturating_mul(s.access.dtype.size())).sum::<usize>()
            })
            .sum(),
        _ => 0,
    }
}
