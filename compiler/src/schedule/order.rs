//! The order of execution.
//!
//! Any topological order computes the same; they differ in how much is alive at once. Tried are the model's
//! own order, one that always runs the ready node that frees most, and depth first from the outputs. The
//! model's own stays unless another has a lower [`peak`], an estimate on values: views cost nothing, parts
//! of a concatenation live in its memory from the first part on, and operators that work elementwise may
//! write over an operand that dies.

use super::home::Home;
use crate::ir::{NodeId, ValueId};
use crate::ops::{Graph, LayoutRule, Node};
use std::collections::BTreeMap;

/// How many ready nodes are weighed against each other.
const MOST_READY: usize = 64;

/// The graph in the best order found.
pub(super) fn best(graph: &Graph) -> Graph {
    let mut out = graph.clone();
    let none = BTreeMap::new();
    let mut least = peak(graph, graph.order(), &none);
    for order in [greedy(graph), depth_first(graph)] {
        let found = peak(graph, &order, &none);
        if order.len() == graph.order().len() && found < least {
            least = found;
            out.set_order(order);
        }
    }
    out
}

/// Which value's memory each value lies in.
fn roots(graph: &Graph, homes: &BTreeMap<ValueId, Home>) -> Vec<ValueId> {
    let mut roots: Vec<ValueId> = (0..graph.value_count()).map(|i| ValueId(i as u32)).collect();
    let root = |roots: &[ValueId], v: ValueId| roots.get(v.0 as usize).copied().unwrap_or(v);
    // Homes first, outermost concatenations last in execution order.
    for (_, node) in graph.nodes().rev() {
        for &v in node.outputs.iter().flatten() {
            if let Some(home) = homes.get(&v) {
                let target = root(&roots, home.target);
                if let Some(r) = roots.get_mut(v.0 as usize) {
                    *r = target;
                }
            }
        }
    }
    for (_, node) in graph.nodes() {
        if node.op.as_op().layout() != LayoutRule::View {
            continue;
        }
        let Some(first) = node.inputs.first().copied().flatten() else { continue };
        let of = root(&roots, first);
        for &v in node.outputs.iter().flatten() {
            if let Some(r) = roots.get_mut(v.0 as usize) {
                *r = of;
            }
        }
    }
    roots
}

fn bytes(graph: &Graph, v: ValueId) -> usize {
    let value = graph.value(v);
    if value.constant.is_some() { 0 } else { value.shape.elements().saturating_mul(value.dtype.size()) }
}

/// Bytes alive at the worst moment of an order.
pub(super) fn peak(graph: &Graph, order: &[NodeId], homes: &BTreeMap<ValueId, Home>) -> usize {
    let roots = roots(graph, homes);
    let root = |v: ValueId| roots.get(v.0 as usize).copied().unwrap_or(v);
    let end = order.len() + 1;
    let mut lives: BTreeMap<ValueId, (usize, usize)> = BTreeMap::new();
    let mut touch = |v: ValueId, time: usize| {
        let life = lives.entry(root(v)).or_insert((time, time));
        *life = (life.0.min(time), life.1.max(time));
    };
    for &v in &graph.inputs {
        touch(v, 0);
    }
    for (i, node) in order.iter().enumerate().filter_map(|(i, &n)| graph.node(n).map(|n| (i, n))) {
        for &v in node.inputs.iter().chain(&node.outputs).flatten() {
            touch(v, i + 1);
        }
    }
    for &(_, v) in &graph.outputs {
        touch(v, end);
    }
    let mut change = vec![0i128; end + 2];
    for (&v, &(start, last)) in &lives {
        let size = bytes(graph, v) as i128;
        for (time, by) in [(start, size), (last + 1, -size)] {
            if let Some(c) = change.get_mut(time) {
                *c += by;
            }
        }
    }
    let (mut alive, mut most) = (0i128, 0i128);
    for (time, c) in change.iter().enumerate() {
        alive += c;
        let node = time.checked_sub(1).and_then(|i| order.get(i)).and_then(|&n| graph.node(n));
        let saved = node.map_or(0, |n| in_place(graph, n, time, &lives, &root));
        most = most.max(alive - saved as i128);
    }
    usize::try_from(most).unwrap_or(0)
}

/// Bytes that an elementwise node saves by writing over an operand that dies.
fn in_place(
    graph: &Graph,
    node: &Node,
    time: usize,
    lives: &BTreeMap<ValueId, (usize, usize)>,
    root: &impl Fn(ValueId) -> ValueId,
) -> usize {
    if node.op.as_op().layout() != LayoutRule::Follow {
        return 0;
    }
    let Some(result) = node.outputs.first().copied().flatten() else { return 0 };
    let born = lives.get(&root(result)).is_some_and(|l| l.0 == time);
    let dies = |v: &&ValueId| {
        lives.get(&root(**v)).is_some_and(|l| l.0 < time && l.1 == time)
            && bytes(graph, **v) == bytes(graph, result)
    };
    if born && node.inputs.iter().flatten().any(|v| dies(&v)) { bytes(graph, result) } else { 0 }
}

/// Always the ready node after which least is alive; the earliest of equals.
fn greedy(graph: &Graph) -> Vec<NodeId> {
    let roots = roots(graph, &BTreeMap::new());
    let root = |v: ValueId| roots.get(v.0 as usize).copied().unwrap_or(v);
    // Reads of each piece of memory that are still to come.
    let mut reads: BTreeMap<ValueId, usize> = BTreeMap::new();
    let mut waiting: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut readers: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in graph.nodes() {
        for &v in node.inputs.iter().flatten() {
            *reads.entry(root(v)).or_insert(0) += 1;
            if let Some((producer, _)) = graph.producer(v) {
                *waiting.entry(id).or_insert(0) += 1;
                readers.entry(producer).or_default().push(id);
            }
        }
    }
    for &(_, v) in &graph.outputs {
        *reads.entry(root(v)).or_insert(0) += 1;
    }
    let position: BTreeMap<NodeId, usize> = graph.order().iter().enumerate().map(|(i, &n)| (n, i)).collect();
    let at = |n: &NodeId| position.get(n).copied().unwrap_or(usize::MAX);
    let mut ready: Vec<NodeId> = graph.order().iter().copied().filter(|n| !waiting.contains_key(n)).collect();
    let mut order = Vec::with_capacity(graph.order().len());
    let grows = |id: &NodeId, reads: &BTreeMap<ValueId, usize>| -> i128 {
        let Some(node) = graph.node(*id) else { return 0 };
        let made: i128 =
            node.outputs.iter().flatten().filter(|&&v| root(v) == v).map(|&v| bytes(graph, v) as i128).sum();
        let mut mine: BTreeMap<ValueId, usize> = BTreeMap::new();
        for &v in node.inputs.iter().flatten() {
            *mine.entry(root(v)).or_insert(0) += 1;
        }
        let freed: i128 =
            mine.iter().filter(|(v, n)| reads.get(v) == Some(n)).map(|(&v, _)| bytes(graph, v) as i128).sum();
        made - freed
    };
    while let Some(next) = ready.iter().copied().take(MOST_READY).min_by_key(|n| (grows(n, &reads), at(n))) {
        ready.retain(|&n| n != next);
        order.push(next);
        for &v in graph.node(next).map_or(&[][..], |n| &n.inputs).iter().flatten() {
            if let Some(n) = reads.get_mut(&root(v)) {
                *n = n.saturating_sub(1);
            }
        }
        for &reader in readers.get(&next).map_or(&[][..], Vec::as_slice) {
            if let Some(n) = waiting.get_mut(&reader) {
                *n -= 1;
                if *n == 0 {
                    ready.push(reader);
                }
            }
        }
    }
    order
}

/// Each node right before its first reader, operands in their order.
fn depth_first(graph: &Graph) -> Vec<NodeId> {
    let mut done = std::collections::BTreeSet::new();
    let mut order = Vec::with_capacity(graph.order().len());
    let last = graph.order().iter().rev().copied();
    let first = graph.outputs.iter().filter_map(|&(_, v)| graph.producer(v).map(|(n, _)| n));
    for start in first.chain(last) {
        // A node is on the stack once to be opened and once more to be emitted.
        let mut stack = vec![(start, false)];
        while let Some((id, opened)) = stack.pop() {
            if done.contains(&id) {
                continue;
            }
            if opened {
                done.insert(id);
                order.push(id);
                continue;
            }
            stack.push((id, true));
            for &v in graph.node(id).map_or(&[][..], |n| &n.inputs).iter().rev().flatten() {
                if let Some((producer, _)) = graph.producer(v)
                    && !done.contains(&producer)
                {
                    stack.push((producer, false));
                }
            }
        }
    }
    order
}
