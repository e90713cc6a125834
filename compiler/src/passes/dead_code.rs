//! Removes nodes that nobody reads.
//!
//! - Pattern: a node none of whose results is read by a live node or returned, or all of whose read
//!   results are known.
//! - Result: the node is gone; optional results that nobody reads are dropped from those that stay.
//! - Precondition: none; operators have no effects.
//!
//! ```text
//! %a = Relu(%x); %b = Neg(%x); return %a   →   %a = Relu(%x); return %a
//! ```

use super::{Pass, PassCx, PassError};
use crate::ir::NodeId;
use crate::ops::Graph;

/// See the module.
pub(super) struct DeadCode;

impl Pass for DeadCode {
    fn name(&self) -> &'static str {
        "dead_code"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let removed = graph.remove_dead();
        cx.fired_times("dead_code", removed);
        cx.fired_times("dead_result", drop_unread_results(graph));
        Ok(())
    }
}

/// Positions behind the first that nobody reads (MaxPool's indices and the like) become absent, so
/// that they need no memory.
fn drop_unread_results(graph: &mut Graph) -> usize {
    let users = graph.users();
    let unread = |graph: &Graph, v: crate::ir::ValueId| {
        users.get(v.0 as usize).is_none_or(Vec::is_empty) && !graph.is_output(v)
    };
    let ids: Vec<NodeId> = graph.order().to_vec();
    let mut dropped = 0;
    for id in ids {
        let Some(node) = graph.node(id) else { continue };
        let drop: Vec<usize> = node
            .outputs
            .iter()
            .enumerate()
            .skip(1)
            .filter_map(|(i, v)| v.filter(|&v| unread(graph, v)).map(|_| i))
            .collect();
        for i in drop {
            let Some(slot) = graph.node_mut(id).and_then(|n| n.outputs.get_mut(i)) else { continue };
            let Some(v) = slot.take() else { continue };
            graph.value_mut(v).producer = None;
            dropped += 1;
        }
    }
    dropped
}
