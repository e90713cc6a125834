//! Transposes meet and cancel, also through elementwise work.
//!
//! - Pattern and result: Transpose of a Transpose → one with the composed order. A region of elementwise
//!   operators that reads transposes of one order (and known or single values), and that only transposes
//!   read → the region on untransposed values; each transpose behind it takes the composed order, and the
//!   canonical form removes those that keep the order.
//! - Precondition: every reader of the region is a transpose, no value of it is a model output, and it has at
//!   most [`MAX_REGION`] operators. Then the transposes in front are gone and none was added.
//! - Exactness: bit for bit.
//!
//! ```text
//! %t = Transpose(%x, p); %a = Relu(%t); %y = Transpose(%a, p⁻¹)   →   %y = Relu(%x)
//! ```

use super::matching::{Editor, Replacement, input, output, visit};
use super::{Pass, PassCx, PassError, describe};
use crate::ir::{NodeId, Shape, Tensor, ValueId};
use crate::ops::transpose::Transpose;
use crate::ops::{Graph, Node, Op, OpKind};
use std::collections::{BTreeMap, BTreeSet};

/// Operators that a cancellation may reach over. Larger regions do not occur between two layout
/// conversions; the limit keeps the search linear in the size of the model.
const MAX_REGION: usize = 64;

/// See the module.
pub(super) struct CancelTransposes;

impl Pass for CancelTransposes {
    fn name(&self) -> &'static str {
        "cancel_transposes"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, |graph, id| {
            compose(graph, id).map(Ok).or_else(|| {
                let region = match Region::around(graph, id)? {
                    Ok(region) => region,
                    Err(reason) => return Some(Err(reason)),
                };
                region.rewrite(graph).map(|()| Ok("transpose_through_elementwise"))
            })
        });
        Ok(())
    }
}

/// The order of a transpose.
fn order_of(graph: &Graph, node: &Node) -> Option<Vec<usize>> {
    let OpKind::Transpose(t) = &node.op else { return None };
    t.order(graph.value(input(node, 0)?).shape.rank()).ok()
}

/// `first`, then `second`.
fn composed(first: &[usize], second: &[usize]) -> Option<Vec<usize>> {
    second.iter().map(|&k| first.get(k).copied()).collect()
}

fn inverse(perm: &[usize]) -> Option<Vec<usize>> {
    (0..perm.len()).map(|k| perm.iter().position(|&p| p == k)).collect()
}

/// A transpose that reads another reads its operand instead.
fn compose(graph: &mut Editor<'_>, id: NodeId) -> Option<&'static str> {
    let node = graph.node(id)?;
    let second = order_of(graph, node)?;
    let (_, before) = graph.producer(input(node, 0)?)?;
    let first = order_of(graph, before)?;
    let op = Transpose { perm: Some(composed(&first, &second)?) }.into();
    let inputs = vec![input(before, 0)];
    Replacement { label: "compose_transposes", at: id, absorbed: &[], op, inputs }.apply(graph)
}

/// Elementwise operators between transposes.
struct Region {
    /// Order of the transposes in front.
    perm: Vec<usize>,
    /// Its operators.
    nodes: BTreeSet<NodeId>,
    /// What the transposes in front read, by their results.
    entries: BTreeMap<ValueId, ValueId>,
    /// The transposes behind.
    exits: BTreeSet<NodeId>,
}

fn is_elementwise(op: &OpKind) -> bool {
    matches!(
        op,
        OpKind::Unary(_)
            | OpKind::Binary(_)
            | OpKind::Variadic(_)
            | OpKind::Clip(_)
            | OpKind::Cast(_)
            | OpKind::Where(_)
    )
}

impl Region {
    /// The region behind a transpose; `None` where no transpose is met behind it.
    fn around(graph: &Editor<'_>, id: NodeId) -> Option<Result<Region, String>> {
        let perm = order_of(graph, graph.node(id)?)?;
        let mut region =
            Region { perm, nodes: BTreeSet::new(), entries: BTreeMap::new(), exits: BTreeSet::new() };
        match region.grow(graph, id) {
            Ok(()) => (!region.exits.is_empty()).then_some(Ok(region)),
            // Nothing to tell where no transpose was ever met.
            Err(reason) => (!region.exits.is_empty()).then_some(Err(reason)),
        }
    }

    fn grow(&mut self, graph: &Editor<'_>, start: NodeId) -> Result<(), String> {
        let first = graph.node(start).and_then(output).ok_or("it has no result")?;
        self.enter(graph, first);
        let mut values = vec![first];
        let mut reason = None;
        // The search goes on behind an obstacle, to know whether there is anything to tell.
        while let Some(v) = values.pop() {
            if graph.is_model_output(v) {
                reason = reason.or(Some(format!("`{}` is a model output", graph.value(v).name)));
            }
            for &reader in graph.readers(v) {
                let Some(node) = graph.node(reader) else { continue };
                if order_of(graph, node).is_some() {
                    self.exits.insert(reader);
                } else if !is_elementwise(&node.op) {
                    reason = reason.or(Some(format!("{} reads it", describe(graph, reader))));
                } else if self.nodes.insert(reader) {
                    if self.nodes.len() > MAX_REGION {
                        return Err(format!("more than {MAX_REGION} operators lie behind it"));
                    }
                    if let Err(why) = self.add(graph, node, &mut values) {
                        reason = reason.or(Some(why));
                    }
                }
            }
        }
        reason.map_or(Ok(()), Err)
    }

    /// Notes a transpose of the region's order as a way in.
    fn enter(&mut self, graph: &Graph, v: ValueId) -> bool {
        let Some((_, node)) = graph.producer(v) else { return false };
        match (order_of(graph, node), input(node, 0)) {
            (Some(perm), Some(x)) if perm == self.perm => {
                self.entries.insert(v, x);
                true
            }
            _ => false,
        }
    }

    /// Checks the operands of a new operator, and queues its results and those of elementwise operators
    /// in front of it.
    fn add(&mut self, graph: &Graph, node: &Node, values: &mut Vec<ValueId>) -> Result<(), String> {
        let rank = self.perm.len();
        let y = output(node).ok_or("an elementwise operator has several results")?;
        values.push(y);
        if graph.value(y).shape.rank() != rank {
            return Err(format!("`{}` has another number of axes", graph.value(y).name));
        }
        for v in node.inputs.iter().flatten().copied() {
            let value = graph.value(v);
            if value.constant.is_some() || is_single_element(&value.shape) || self.entries.contains_key(&v) {
                continue;
            }
            if value.shape.rank() != rank {
                return Err(format!("`{}` has another number of axes", value.name));
            }
            if self.enter(graph, v) {
                values.push(v);
                continue;
            }
            match graph.producer(v) {
                Some((id, before)) if is_elementwise(&before.op) => {
                    if self.nodes.insert(id) {
                        if self.nodes.len() > MAX_REGION {
                            return Err(format!("more than {MAX_REGION} operators lie around it"));
                        }
                        self.add(graph, before, values)?;
                    }
                }
                _ => return Err(format!("`{}` is not transposed alike", value.name)),
            }
        }
        Ok(())
    }

    /// Values of the region lose their transposition in place; the transposes behind it gain it.
    fn rewrite(&self, graph: &mut Editor<'_>) -> Option<()> {
        let back = inverse(&self.perm)?;
        // Everything that can fail comes before the first change.
        let mut nodes = Vec::new();
        for &id in &self.nodes {
            let node = graph.node(id)?.clone();
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for v in &node.inputs {
                inputs.push(match v {
                    None => None,
                    Some(v) => Some(match self.entries.get(v) {
                        Some(&x) => x,
                        None if graph.constant(*v).is_some() => untransposed(graph, *v, &back)?,
                        None => *v,
                    }),
                });
            }
            let y = output(&node)?;
            let shape: Shape = back.iter().filter_map(|&k| graph.value(y).shape.get(k).copied()).collect();
            nodes.push((id, inputs, y, shape));
        }
        let mut exits = Vec::new();
        for &id in &self.exits {
            let node = graph.node(id)?;
            let perm = Some(composed(&self.perm, &order_of(graph, node)?)?);
            let x = input(node, 0)?;
            exits.push((id, perm, self.entries.get(&x).copied().unwrap_or(x)));
        }
        for (id, inputs, y, shape) in nodes {
            graph.set_inputs(id, inputs);
            graph.value_mut(y).shape = shape;
        }
        for (id, perm, x) in exits {
            graph.set_inputs(id, vec![Some(x)]);
            if let Some(node) = graph.node_mut(id) {
                node.op = Transpose { perm }.into();
            }
        }
        Some(())
    }
}

fn is_single_element(shape: &Shape) -> bool {
    shape.iter().all(|&d| d == 1)
}

/// A known operand that broadcasts against transposed values, for untransposed ones.
fn untransposed(graph: &mut Graph, v: ValueId, back: &[usize]) -> Option<ValueId> {
    if is_single_element(&graph.value(v).shape) {
        return Some(v);
    }
    let tensor: &Tensor = graph.constant(v)?;
    let lead = back.len().checked_sub(tensor.shape().rank())?;
    let shape: Shape = std::iter::repeat_n(1, lead).chain(tensor.shape().iter().copied()).collect();
    let wide = tensor.reshaped(shape).ok()?;
    let turned = Transpose { perm: Some(back.to_vec()) }.eval(&[Some(&wide)]).ok()?.into_iter().next()?;
    let name = graph.value(v).name.clone();
    Some(graph.add_constant(name, turned))
}
