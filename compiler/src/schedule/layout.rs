//! The order in which each value's axes lie in memory.
//!
//! Spatial operators read and write channels last, most others row-major, the caller's inputs and outputs
//! as the API says; views (Transpose, Reshape, Slice) give what follows from their operand, learned from a
//! trial run of their lowering. What is left to choose are the operators that work in any layout: each
//! first takes the layout of its largest operand; then every group of them that hangs together is tried
//! row-major and channels last as a whole, and keeps what moves the fewest bytes between layouts, its own
//! readers' and the caller's wishes included, views looked through; views that cannot be expressed in
//! strides (the end of a channel shuffle) copy, and so may write any layout too. Ties stay as they are, so the outcome
//! is deterministic. Values read as planar images of few channels are not converted: first convolutions
//! read them as they are.

use super::probe;
use super::view::{Order, channels_last, row_major, same_layout};
use crate::ir::{NodeId, ValueId};
use crate::ops::{Graph, LayoutRule, Node};
use std::collections::BTreeMap;

/// A planar image of at most this many channels is read as it is.
const PLANAR_CHANNELS: usize = 4;

/// A separate conversion reads and writes every byte and needs memory of its own; an elementwise loop that
/// changes the layout while it computes pays for its scattered reads only.
const STEP_COST: usize = 3;

/// How far wishes are traced through views.
const VIEW_DEPTH: usize = 8;

/// The order of every value, by `ValueId`. `inputs` gives the caller's order of each graph input.
pub(super) fn choose(graph: &Graph, inputs: &BTreeMap<ValueId, Order>) -> Vec<Order> {
    let orders = (0..graph.value_count())
        .map(|i| {
            let v = ValueId(i as u32);
            inputs.get(&v).cloned().unwrap_or_else(|| row_major(graph.value(v).shape.rank()))
        })
        .collect();
    let mut chooser = Chooser { graph, users: graph.users(), orders, views: BTreeMap::new() };
    chooser.forward(&BTreeMap::new());
    chooser.improve();
    chooser.orders
}

/// Result orders of a view, and bytes its lowering moves.
type Seen = Option<(Vec<Option<Order>>, usize)>;

struct Chooser<'g> {
    graph: &'g Graph,
    users: Vec<Vec<NodeId>>,
    orders: Vec<Order>,
    views: BTreeMap<(NodeId, Order), Seen>,
}

impl Chooser<'_> {
    fn order(&self, v: ValueId) -> Order {
        self.orders.get(v.0 as usize).cloned().unwrap_or_default()
    }

    fn set(&mut self, v: ValueId, order: Order) {
        if let Some(o) = self.orders.get_mut(v.0 as usize) {
            *o = order;
        }
    }

    /// Orders in execution order; `fixed` ones of following operators are kept.
    fn forward(&mut self, fixed: &BTreeMap<ValueId, Order>) {
        for (id, node) in self.graph.nodes() {
            let rule = node.op.as_op().layout();
            let view = match rule {
                LayoutRule::View => self.through(id, node),
                _ => None,
            };
            for (i, v) in node.outputs.iter().enumerate() {
                let Some(v) = *v else { continue };
                let rank = self.graph.value(v).shape.rank();
                let order = match rule {
                    LayoutRule::RowMajor => row_major(rank),
                    LayoutRule::ChannelsLast if i == 0 && (3..=5).contains(&rank) => channels_last(rank),
                    LayoutRule::ChannelsLast => row_major(rank),
                    LayoutRule::Follow | LayoutRule::Join { .. } => match fixed.get(&v) {
                        Some(order) => order.clone(),
                        None => self.followed(node, v),
                    },
                    LayoutRule::View => match &view {
                        Some((orders, 0)) => orders.get(i).cloned().flatten().unwrap_or(row_major(rank)),
                        // It copies, and so writes what is wanted.
                        _ => fixed.get(&v).cloned().unwrap_or(row_major(rank)),
                    },
                };
                self.set(v, order);
            }
        }
    }

    /// The order of a following operator's largest operand of the result's rank.
    fn followed(&self, node: &Node, result: ValueId) -> Order {
        let rank = self.graph.value(result).shape.rank();
        let mut best: Option<(usize, Order)> = None;
        for &v in node.inputs.iter().flatten() {
            let value = self.graph.value(v);
            let len = value.shape.elements();
            let larger = best.as_ref().is_none_or(|(most, _)| len > *most);
            if value.constant.is_none() && value.shape.rank() == rank && larger {
                best = Some((len, self.order(v)));
            }
        }
        best.map_or_else(|| row_major(rank), |(_, order)| order)
    }

    /// What a view makes of its operand's order.
    fn through(&mut self, id: NodeId, node: &Node) -> Seen {
        let first = node.inputs.first().copied().flatten()?;
        self.through_order(id, self.order(first))
    }

    fn through_order(&mut self, id: NodeId, order: Order) -> Seen {
        if let Some(seen) = self.views.get(&(id, order.clone())) {
            return seen.clone();
        }
        let seen = probe::with_order(self.graph, id, &order, &self.orders).map(|trial| {
            let orders = trial.results.iter().map(|r| r.as_ref().map(|v| v.order())).collect();
            (orders, trial.moved)
        });
        self.views.insert((id, order), seen.clone());
        seen
    }

    fn bytes(&self, v: ValueId) -> usize {
        let value = self.graph.value(v);
        value.shape.elements().saturating_mul(value.dtype.size())
    }

    /// Bytes moved because `v` lies in `order`, at its readers outside `inside`.
    fn reading_cost(&mut self, v: ValueId, order: &Order, inside: &[NodeId], depth: usize) -> usize {
        let shape = &self.graph.value(v).shape;
        let rank = shape.rank();
        let bytes = self.bytes(v);
        let plain = same_layout(shape, order, &row_major(rank));
        let mut cost = 0usize;
        if self.graph.is_output(v) && !plain {
            cost += STEP_COST * bytes;
        }
        // A conversion is made once for all readers that want it.
        let (mut to_plain, mut to_last) = (false, false);
        for reader in self.users.get(v.0 as usize).cloned().unwrap_or_default() {
            if inside.contains(&reader) {
                continue;
            }
            let Some(node) = self.graph.node(reader) else { continue };
            match node.op.as_op().layout() {
                LayoutRule::RowMajor => to_plain |= !plain,
                LayoutRule::ChannelsLast => {
                    let first = node.inputs.first() == Some(&Some(v));
                    let result = node.outputs.first().copied().flatten();
                    let residual = result.is_some_and(|r| self.graph.value(r).shape == *shape);
                    let planar = first && plain && shape.get(1).is_some_and(|&c| c <= PLANAR_CHANNELS);
                    let last = same_layout(shape, order, &channels_last(rank));
                    to_last |= (first || residual) && !last && !planar;
                }
                LayoutRule::Follow | LayoutRule::Join { .. } => {
                    let result = node.outputs.first().copied().flatten().map(|r| self.order(r));
                    if result.is_some_and(|o| o.len() == rank && !same_layout(shape, &o, order)) {
                        cost += bytes;
                    }
                }
                LayoutRule::View if node.inputs.first() != Some(&Some(v)) => {}
                LayoutRule::View => match self.through_order(reader, order.clone()) {
                    Some((_, moved)) if moved > 0 => cost += moved.saturating_mul(STEP_COST),
                    Some((orders, _)) => {
                        for (result, order) in node.outputs.iter().zip(orders) {
                            if let (Some(r), Some(o), true) = (*result, order, depth > 0) {
                                cost += self.reading_cost(r, &o, &[], depth - 1);
                            }
                        }
                    }
                    None => to_plain |= !plain,
                },
            }
        }
        cost + STEP_COST * bytes * (usize::from(to_plain) + usize::from(to_last))
    }

    /// Tries every group of following operators as a whole, twice, since groups see each other through
    /// views.
    fn improve(&mut self) {
        let mut groups = groups(self.graph);
        for (id, node) in self.graph.nodes() {
            let copies = node.op.as_op().layout() == LayoutRule::View
                && self.through(id, node).is_none_or(|(_, moved)| moved > 0);
            if copies && node.outputs.len() == 1 {
                groups.push(vec![id]);
            }
        }
        let mut fixed = BTreeMap::new();
        for _ in 0..2 {
            for group in &groups {
                for (v, order) in self.best_of(group) {
                    fixed.insert(v, order);
                }
            }
            self.forward(&fixed);
        }
    }

    /// The best orders of a group's results.
    fn best_of(&mut self, group: &[NodeId]) -> Vec<(ValueId, Order)> {
        let graph = self.graph;
        let results: Vec<ValueId> = group
            .iter()
            .filter_map(|&n| graph.node(n))
            .flat_map(|n| n.outputs.iter().flatten())
            .copied()
            .collect();
        let now: Vec<Order> = results.iter().map(|&v| self.order(v)).collect();
        let rank = |v: &ValueId| graph.value(*v).shape.rank();
        let mut best = (self.cost(group, &results), now.clone());
        for try_last in [true, false] {
            if try_last && !results.iter().all(|v| (3..=5).contains(&rank(v))) {
                continue;
            }
            let orders: Vec<Order> = results
                .iter()
                .map(|v| if try_last { channels_last(rank(v)) } else { row_major(rank(v)) })
                .collect();
            for (&v, order) in results.iter().zip(&orders) {
                self.set(v, order.clone());
            }
            let cost = self.cost(group, &results);
            if cost < best.0 {
                best = (cost, orders);
            }
        }
        for (&v, order) in results.iter().zip(&best.1) {
            self.set(v, order.clone());
        }
        results.into_iter().zip(best.1).collect()
    }

    /// Bytes moved at the borders of a group as its results lie now.
    fn cost(&mut self, group: &[NodeId], results: &[ValueId]) -> usize {
        let graph = self.graph;
        let mut cost = 0;
        for node in group.iter().filter_map(|&n| graph.node(n)) {
            let Some(result) = node.outputs.first().copied().flatten() else { continue };
            if node.op.as_op().layout() == LayoutRule::View {
                continue;
            }
            let order = self.order(result);
            for &v in node.inputs.iter().flatten() {
                let value = graph.value(v);
                let outside = value.constant.is_none() && !results.contains(&v);
                if outside
                    && value.shape.rank() == order.len()
                    && !same_layout(&value.shape, &order, &self.order(v))
                {
                    cost += self.bytes(v);
                }
            }
        }
        for &v in results {
            let order = self.order(v);
            cost += self.reading_cost(v, &order, group, VIEW_DEPTH);
        }
        cost
    }
}

/// Following operators joined by values of one rank, each group in execution order.
fn groups(graph: &Graph) -> Vec<Vec<NodeId>> {
    let mut group_of: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut groups: Vec<Vec<NodeId>> = Vec::new();
    for (id, node) in graph.nodes() {
        if !matches!(node.op.as_op().layout(), LayoutRule::Follow | LayoutRule::Join { .. }) {
            continue;
        }
        let rank = node.outputs.first().copied().flatten().map(|v| graph.value(v).shape.rank());
        let mut mine = groups.len();
        groups.push(vec![id]);
        group_of.insert(id, mine);
        for &v in node.inputs.iter().flatten() {
            let value = graph.value(v);
            let Some(&theirs) = value.producer.and_then(|(p, _)| group_of.get(&p)) else { continue };
            if theirs == mine || Some(value.shape.rank()) != rank {
                continue;
            }
            let (keep, gone) = (theirs.min(mine), theirs.max(mine));
            let moved = groups.get_mut(gone).map(std::mem::take).unwrap_or_default();
            for &n in &moved {
                group_of.insert(n, keep);
            }
            if let Some(g) = groups.get_mut(keep) {
                g.extend(moved);
            }
            mine = keep;
        }
    }
    groups.retain(|g| !g.is_empty());
    groups
}
