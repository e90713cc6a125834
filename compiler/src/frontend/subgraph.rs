//! Graphs that stay graphs: branches that are chosen at run time, bodies of loops.

use super::limits::short;
use super::order::captured;
use super::scope::{Scope, Slot};
use super::walk::{Frame, Stop, Walker};
use crate::diag::{Diagnostic, NodeRef};
use crate::ir::{Origin, Tensor, ValueId};
use crate::onnx::proto::GraphProto;
use crate::ops::{Graph, OpError, Type, unknown_length};
use std::collections::BTreeMap;

/// What a formal input of a subgraph is.
pub(super) enum Formal {
    /// A value that changes from run to run.
    Open(Type),
    /// The same tensor in every run.
    Known(Tensor),
    /// A value of the graph around it.
    Outer(ValueId),
}

/// A subgraph as a graph of its own.
pub(super) struct Sub {
    /// Inputs are the formal ones that are open, in their order, then the captured values.
    pub graph: Graph,
    /// Values of the graph around it that it reads, one per input behind the formal ones.
    pub captured: Vec<ValueId>,
}

impl<'m> Walker<'m> {
    /// Walks a subgraph into a graph of its own; `None` where that failed and was reported.
    pub fn subgraph(
        &mut self,
        proto: &'m GraphProto,
        formals: Vec<Formal>,
        outer: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Option<Sub>, Stop> {
        let around = std::mem::replace(&mut self.graph, Graph::new(short(&proto.name)));
        let bounds_around = std::mem::take(&mut self.bounds);
        let mut scope = Scope::new();
        let mut known = true;
        let mut slots = Vec::with_capacity(formals.len());
        for (info, formal) in proto.input.iter().zip(&formals) {
            let name = frame.value_name(&info.name);
            slots.push(match formal {
                Formal::Open(ty) => Slot::Value(self.graph.add_input(name, ty.dtype, ty.shape.clone())),
                Formal::Known(tensor) => Slot::Value(self.graph.add_constant(name, tensor.clone())),
                // Behind the open ones.
                Formal::Outer(_) => Slot::Absent,
            });
        }
        let mut taken = Taken { around: &around, from: Vec::new(), inside: BTreeMap::new() };
        for ((info, formal), slot) in proto.input.iter().zip(&formals).zip(slots) {
            let slot = match formal {
                Formal::Outer(v) => Slot::Value(taken.take(*v, &mut self.graph)),
                Formal::Open(_) | Formal::Known(_) => slot,
            };
            self.define(&info.name, slot, &mut scope);
        }
        let graph = &mut self.graph;
        captured(proto, &mut |name| {
            let slot = match outer.lookup(name) {
                Some(Slot::Value(v)) => Slot::Value(taken.take(v, graph)),
                Some(slot) => slot,
                // Reported where it is read.
                None => return,
            };
            known &= slot != Slot::Unknown;
            scope.define(name, slot);
        });
        let from = taken.from;
        let problems = self.problems.error_count();
        let inner =
            Frame { top: Some(frame.top.unwrap_or(origin.index)), depth: frame.depth + 1, ..frame.clone() };
        let walked = self
            .initializers(proto, &mut scope, &inner)
            .and_then(|()| self.nodes(&proto.node, &mut scope, &inner));
        let results = walked.map(|()| {
            let names = proto.output.iter().map(|o| o.name.as_str());
            self.results(names, &scope, origin)
        });
        let mut graph = std::mem::replace(&mut self.graph, around);
        let bounds = std::mem::replace(&mut self.bounds, bounds_around);
        let results = results?;
        if let Some(Slot::Value(v)) =
            results.iter().find(|s| matches!(s, Slot::Value(v) if bounds.contains_key(v)))
        {
            let why = format!("`{}`, a result of a branch or loop,", graph.value(*v).name);
            self.problems.push(Diagnostic::from_op(&unknown_length(&why), NodeRef::from(origin)));
            return Ok(None);
        }
        for (info, slot) in proto.output.iter().zip(&results) {
            match slot {
                Slot::Value(v) if graph.value(*v).texts.is_some() => {
                    let e = OpError::unsupported("texts as results of branches and loops");
                    self.problems.push(Diagnostic::from_op(&e, NodeRef::from(origin)));
                }
                Slot::Value(v) => graph.outputs.push((short(&info.name), *v)),
                Slot::Unknown | Slot::Absent => known = false,
            }
        }
        if !known || self.problems.error_count() > problems {
            return Ok(None);
        }
        graph.remove_dead();
        Ok(Some(Sub { graph, captured: from }))
    }
}

/// Values that a subgraph takes from the graph around it.
struct Taken<'a> {
    around: &'a Graph,
    from: Vec<ValueId>,
    inside: BTreeMap<ValueId, ValueId>,
}

impl Taken<'_> {
    /// The subgraph's own value for one of the graph around it: an input, or the same constant.
    fn take(&mut self, v: ValueId, graph: &mut Graph) -> ValueId {
        let value = self.around.value(v);
        *self.inside.entry(v).or_insert_with(|| match &value.constant {
            Some(tensor) => graph.add_constant(value.name.clone(), tensor.clone()),
            None => {
                self.from.push(v);
                let taken = graph.add_input(value.name.clone(), value.dtype, value.shape.clone());
                graph.value_mut(taken).texts = value.texts.clone();
                taken
            }
        })
    }
}

/// Gives several subgraphs the same captured inputs, those that one of them reads, behind `formals` of their own;
/// the values around them, in order.
pub(super) fn share_captured(subs: Vec<Sub>, formals: usize) -> (Vec<Graph>, Vec<ValueId>) {
    let mut wanted: Vec<ValueId> = Vec::new();
    for sub in &subs {
        let read = read_inputs(&sub.graph);
        for (&v, input) in sub.captured.iter().zip(sub.graph.inputs.iter().skip(formals)) {
            if read.contains(input) && !wanted.contains(&v) {
                wanted.push(v);
            }
        }
    }
    // A value's type is the same in each: taken from whichever reads it.
    let mut types: BTreeMap<ValueId, (String, Type)> = BTreeMap::new();
    for sub in &subs {
        for (&v, &input) in sub.captured.iter().zip(sub.graph.inputs.iter().skip(formals)) {
            let value = sub.graph.value(input);
            types.insert(v, (value.name.clone(), Type::new(value.dtype, value.shape.clone())));
        }
    }
    let graphs = subs.into_iter().map(|sub| {
        let mut graph = sub.graph;
        let old: BTreeMap<ValueId, ValueId> =
            sub.captured.iter().copied().zip(graph.inputs.iter().skip(formals).copied()).collect();
        graph.inputs.truncate(formals);
        for v in &wanted {
            match (old.get(v), types.get(v)) {
                (Some(&input), _) => graph.inputs.push(input),
                (None, Some((name, ty))) => {
                    graph.add_input(name.clone(), ty.dtype, ty.shape.clone());
                }
                (None, None) => {}
            }
        }
        graph
    });
    (graphs.collect(), wanted)
}

/// Inputs that a node or an output reads.
fn read_inputs(graph: &Graph) -> std::collections::BTreeSet<ValueId> {
    let nodes = graph.nodes().flat_map(|(_, n)| n.inputs.iter().flatten().copied());
    nodes.chain(graph.outputs.iter().map(|&(_, v)| v)).collect()
}
