//! Computes and stores the same thing once.
//!
//! - Pattern: two nodes with equal operators over the same operands; two constants with the same bytes.
//! - Result: readers of the later one read the earlier one.
//! - Precondition: none for nodes, operators are functions of their operands. Two model outputs keep
//!   their own values, so that each has its place.
//!
//! ```text
//! %a = Relu(%x); %b = Relu(%x); %y = Add(%a, %b)   →   %a = Relu(%x); %y = Add(%a, %a)
//! ```

use super::matching::{Editor, origins};
use super::{Pass, PassCx, PassError};
use crate::ir::{DType, Data, Element, NodeId, Tensor, ValueId, for_each_type};
use crate::ops::Graph;
use std::collections::BTreeMap;

/// See the module.
pub(super) struct CommonSubexpressions;

impl Pass for CommonSubexpressions {
    fn name(&self) -> &'static str {
        "common_subexpressions"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        // Constants first: nodes that differ in them alone become equal.
        let mut editor = Editor::new(graph);
        merge_constants(&mut editor, cx);
        merge_nodes(&mut editor, cx);
        graph.compact_order();
        Ok(())
    }
}

/// Elements at either end that the first comparison looks at.
const ENDS: usize = 4;

fn merge_constants(graph: &mut Editor<'_>, cx: &mut PassCx<'_>) {
    let mut seen: BTreeMap<(DType, Vec<usize>, Vec<u8>), Vec<ValueId>> = BTreeMap::new();
    let mut done = vec![false; graph.value_count()];
    let order: Vec<NodeId> = graph.order().to_vec();
    for id in order {
        let Some(node) = graph.node(id) else { continue };
        let operands: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        for v in operands {
            if done.get_mut(v.0 as usize).is_none_or(|d| std::mem::replace(d, true)) {
                continue;
            }
            let Some(tensor) = graph.constant(v) else { continue };
            let key = (tensor.dtype(), tensor.shape().to_vec(), ends(tensor));
            let equal = seen.entry(key).or_default();
            match equal.iter().find(|&&e| graph.constant(e).is_some_and(|t| same_bytes(t, tensor))) {
                None => equal.push(v),
                Some(&first) => {
                    graph.redirect(v, first);
                    cx.fired("merge_constants");
                }
            }
        }
    }
}

/// Bytes of the first and last few elements.
fn ends(tensor: &Tensor) -> Vec<u8> {
    let some = |range: std::ops::Range<usize>| {
        for_each_type!(tensor.data(), v => {
            let mut out = Vec::new();
            for x in v.get(range).unwrap_or(&[]) {
                x.write_le(&mut out);
            }
            out
        }, Vec::new())
    };
    let n = tensor.len();
    let mut bytes = some(0..n.min(ENDS));
    bytes.extend(some(n.saturating_sub(ENDS)..n));
    bytes
}

/// Bit for bit: zeros of both signs differ, a NaN equals itself.
fn same_bytes(a: &Tensor, b: &Tensor) -> bool {
    match (a.dtype(), b.dtype()) {
        (DType::String, _) | (_, DType::String) => a == b,
        _ => a.to_le_bytes() == b.to_le_bytes(),
    }
}

/// Operator name, operands, and which results are there.
type Key = (&'static str, Vec<Option<ValueId>>, Vec<bool>);

fn merge_nodes(graph: &mut Editor<'_>, cx: &mut PassCx<'_>) {
    let mut seen: BTreeMap<Key, Vec<NodeId>> = BTreeMap::new();
    let order: Vec<NodeId> = graph.order().to_vec();
    for id in order {
        let Some(node) = graph.node(id) else { continue };
        let present = node.outputs.iter().map(Option::is_some).collect();
        let key = (node.op.as_op().name(), node.inputs.clone(), present);
        let equal = seen.entry(key).or_default();
        let first = equal.iter().copied().find(|&e| graph.node(e).is_some_and(|n| n.op == node.op));
        let Some(first) = first else {
            equal.push(id);
            continue;
        };
        let theirs = graph.node(first).map(|n| n.outputs.clone()).unwrap_or_default();
        let pairs: Vec<(ValueId, ValueId)> =
            node.outputs.iter().zip(&theirs).filter_map(|(a, b)| (*a).zip(*b)).collect();
        // Each output of the model has memory of its own.
        if pairs.iter().any(|&(a, b)| graph.is_model_output(a) && graph.is_model_output(b)) {
            cx.missed(graph, id, "both results are model outputs");
            continue;
        }
        let all = origins(graph, [&first, &id]);
        for (old, new) in pairs {
            graph.redirect(old, new);
        }
        graph.remove(id);
        cx.fired("merge_nodes");
        if let Some(node) = graph.node_mut(first) {
            node.origins = all;
        }
    }
}
