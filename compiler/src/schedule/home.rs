//! Values produced directly into their part of a concatenation, so that the concatenation is no code.
//!
//! An operand gets a home in the result when
//! - its part has no gaps, or is a run of the innermost axis (channels of a channels-last image): what the
//!   runtime can prove apart from other parts while one is read and another written. In a result that
//!   has gaps itself only the latter: blocks of rows in a column of rows are more than its table can say;
//! - it is computed, is no model output, and stands in no other concatenation that took it already;
//! - it lies as its part does; or it is a view, without gaps, of such a value, and the part has none;
//! - nobody else needs it at the start of a buffer of its own (row-major kernels and routines).
//!
//! Concatenations are taken from the last to the first, so that nested ones fall into the outermost. The
//! memory of a concatenation lives from its first part on; where that makes the peak higher, its operands
//! are copied after all.

use super::builder::{Decisions, shifted};
use super::view::{TensorView, dense_strides, same_layout};
use super::{order, probe};
use crate::ir::{NodeId, ValueId, normalize_axis};
use crate::ops::{Graph, LayoutRule, OpError};
use std::collections::BTreeSet;

/// How many concatenations, the largest ones, are tried without homes.
const MOST_TRIED: usize = 64;

/// How far views and readers of views are followed.
const DEPTH: usize = 6;

/// The part of another value's memory in which a value is produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Home {
    /// Whose memory.
    pub target: ValueId,
    /// Axis of the target along which parts lie.
    pub axis: usize,
    /// First index along it.
    pub start: usize,
    /// The part has no gaps and the value lies in it in its own order, since what the concatenation reads
    /// is a view of it under other axes. Otherwise it has the target's strides.
    pub regrouped: bool,
    /// Other parts lie between this one's rows.
    pub gaps: bool,
}

impl Home {
    /// The part itself.
    pub(super) fn part(
        &self,
        target: &TensorView,
        shape: &[usize],
        order: &[usize],
    ) -> Result<TensorView, OpError> {
        let stride = target.strides.get(self.axis).copied().unwrap_or(0);
        let offset = shifted(target.offset, std::iter::once((self.start, stride)))
            .ok_or_else(|| OpError::internal("a part in front of its operand"))?;
        let strides = if self.regrouped { dense_strides(shape, order) } else { target.strides.clone() };
        Ok(TensorView { offset, shape: shape.to_vec(), strides, ..target.clone() })
    }
}

/// Gives homes to the operands of concatenations.
pub(super) fn choose(graph: &Graph, decisions: &mut Decisions) {
    let users = graph.users();
    for (id, node) in graph.nodes().rev() {
        let LayoutRule::Join { axis } = node.op.as_op().layout() else { continue };
        let Some(target) = node.outputs.first().copied().flatten() else { continue };
        let shape = &graph.value(target).shape;
        let Some(axis) = normalize_axis(axis, shape.rank()) else { continue };
        let order = decisions.orders.get(target.0 as usize).cloned().unwrap_or_default();
        let wide = |a: &&usize| shape.get(**a).is_some_and(|&d| d != 1);
        let mut outside = order.iter().take_while(|&&a| a != axis);
        // Memory of the result that has gaps itself, as a part of another with others between its rows.
        let gaps = decisions.homes.get(&target).is_some_and(|h| h.gaps);
        let gapless = !outside.any(|a| wide(&a)) && !gaps;
        let innermost = order.iter().rev().find(wide) == Some(&axis);
        if shape.elements() == 0 || !(gapless || innermost) {
            continue;
        }
        let mut start = 0;
        for &v in node.inputs.iter().flatten() {
            let len = graph.value(v).shape.get(axis).copied().unwrap_or(0);
            let chooser = Chooser { graph, users: &users, decisions, join: id, gapless, order: &order };
            if let Some((root, regrouped)) = chooser.root(v) {
                decisions.homes.insert(root, Home { target, axis, start, regrouped, gaps: !gapless });
            }
            start += len;
        }
    }
    drop_costly(graph, decisions);
}

/// Takes homes back where they make the peak higher.
fn drop_costly(graph: &Graph, decisions: &mut Decisions) {
    let targets: BTreeSet<ValueId> = decisions.homes.values().map(|h| h.target).collect();
    let mut targets: Vec<ValueId> = targets.into_iter().collect();
    targets.sort_by_key(|&v| std::cmp::Reverse(graph.value(v).shape.elements()));
    targets.truncate(MOST_TRIED);
    let mut now = order::peak(graph, graph.order(), &decisions.homes);
    for target in targets {
        let mut without = decisions.homes.clone();
        without.retain(|_, h| h.target != target);
        let found = order::peak(graph, graph.order(), &without);
        if found < now {
            now = found;
            decisions.homes = without;
        }
    }
}

struct Chooser<'a> {
    graph: &'a Graph,
    users: &'a [Vec<NodeId>],
    decisions: &'a Decisions,
    join: NodeId,
    /// The part has no gaps.
    gapless: bool,
    /// The result's order.
    order: &'a [usize],
}

impl Chooser<'_> {
    /// The value to produce in the part of operand `v`, and whether it is another one than `v`, of which
    /// `v` is a view; `None` where the operand must be copied.
    fn root(&self, v: ValueId) -> Option<(ValueId, bool)> {
        let order_of = |v: ValueId| self.decisions.orders.get(v.0 as usize);
        if !same_layout(&self.graph.value(v).shape, order_of(v)?, self.order) {
            return None;
        }
        let mut at = v;
        let mut reader = self.join;
        for _ in 0..DEPTH {
            let (id, node) = self.graph.producer(at)?;
            let value = self.graph.value(at);
            let free = value.constant.is_none()
                && !self.graph.is_output(at)
                && value.shape.elements() > 0
                && !self.decisions.homes.contains_key(&at);
            if !free || !self.readers_agree(at, reader, DEPTH) {
                return None;
            }
            match node.op.as_op().layout() {
                LayoutRule::View if self.gapless => {
                    let first = node.inputs.first().copied().flatten()?;
                    let trial = probe::with_order(self.graph, id, order_of(first)?, &self.decisions.orders)?;
                    let position = node.outputs.iter().position(|o| *o == Some(at))?;
                    let view = trial.results.get(position)?.as_ref()?;
                    let dense = dense_strides(&view.shape, order_of(at)?);
                    let mut axes = view.shape.iter().zip(view.strides.iter().zip(&dense));
                    let whole = self.graph.value(first).shape.elements() == view.elements();
                    let gapless = view.offset == 0 && axes.all(|(&d, (a, b))| d == 1 || a == b);
                    if trial.moved > 0 || !whole || !gapless {
                        return None;
                    }
                    (at, reader) = (first, id);
                }
                LayoutRule::View => return None,
                LayoutRule::RowMajor
                | LayoutRule::ChannelsLast
                | LayoutRule::Follow
                | LayoutRule::Join { .. } => return Some((at, at != v)),
            }
        }
        None
    }

    /// Whether all readers but one can read a value inside a wider buffer.
    fn readers_agree(&self, v: ValueId, but: NodeId, depth: usize) -> bool {
        let readers = self.users.get(v.0 as usize).map_or(&[][..], Vec::as_slice);
        readers.iter().filter(|&&r| r != but).all(|&r| {
            let Some(node) = self.graph.node(r) else { return false };
            match node.op.as_op().layout() {
                LayoutRule::ChannelsLast | LayoutRule::Follow | LayoutRule::Join { .. } => true,
                LayoutRule::RowMajor => false,
                LayoutRule::View => {
                    self.gapless
                        && depth > 0
                        && node
                            .outputs
                            .iter()
                            .flatten()
                            .all(|&o| !self.graph.is_output(o) && self.readers_agree(o, but, depth - 1))
                }
            }
        })
    }
}
