//! Model-local functions and branches, walked in place.

use super::attrs::{self, Given};
use super::limits::{MAX_DEPTH, short};
use super::node::{Operands, names};
use super::scope::{Scope, Slot};
use super::subgraph::share_captured;
use super::walk::{Frame, FunctionKey, Opsets, Stop, Walker, plain_domain};
use crate::diag::{Code, Diagnostic, NodeRef};
use crate::ir::{Origin, ValueId};
use crate::onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto};
use crate::ops::branch::Branch;
use crate::ops::{Body, INLINE, INTERNAL, OpError};

/// Versions of the other operator sets that bodies of composites use.
const BODY_OPSETS: &[(&str, i64)] = &[("ai.onnx.ml", 5), ("com.microsoft", 1)];

/// Operator sets by domain; of two imports of one domain the later version counts.
pub(super) fn opsets(imports: &[OperatorSetIdProto]) -> Opsets<'_> {
    let mut out = Opsets::new();
    for import in imports.iter().filter(|i| i.domain != INTERNAL) {
        let version = out.entry(plain_domain(&import.domain)).or_insert(import.version);
        *version = import.version.max(*version);
    }
    out
}

impl<'m> Walker<'m> {
    /// Walks the body of a function at a call; the slots of its results.
    pub fn call(
        &mut self,
        node: &'m NodeProto,
        function: &'m FunctionProto,
        key: FunctionKey<'m>,
        outer: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Option<Vec<Slot>>, Stop> {
        let at = || NodeRef::from(origin);
        if frame.calls.contains(&key) {
            let message = format!("function `{}` calls itself", short(&function.name));
            self.problems.push(Diagnostic::error(Code::GraphStructure, message).at(at()));
            return Ok(None);
        }
        if frame.depth >= MAX_DEPTH {
            let message = format!("functions and branches nest deeper than {MAX_DEPTH}");
            self.problems.push(Diagnostic::error(Code::Limit, message).at(at()));
            return Ok(None);
        }
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            let message = format!(
                "function `{}` takes {} operands and gives {} results",
                short(&function.name),
                function.input.len(),
                function.output.len()
            );
            self.problems.push(Diagnostic::error(Code::InvalidNode, message).at(at()));
            return Ok(None);
        }
        let given = match given(node, function, frame) {
            Ok(given) => given,
            Err(problem) => {
                self.problems.push(problem.at(at()));
                return Ok(None);
            }
        };

        let mut scope = Scope::new();
        for (i, name) in function.input.iter().enumerate() {
            let slot = match node.input.get(i) {
                Some(actual) if !actual.is_empty() => outer.lookup(actual).unwrap_or(Slot::Unknown),
                _ => Slot::Absent,
            };
            self.define(name, slot, &mut scope);
        }
        // A function imports its own operator sets; some exporters leave out those of the model.
        let mut sets = frame.opsets.clone();
        sets.extend(opsets(&function.opset_import));
        let mut calls = frame.calls.clone();
        calls.push(key);
        let inner = Frame {
            opsets: sets,
            given,
            prefix: origin.name.clone(),
            top: Some(origin.index),
            calls,
            depth: frame.depth + 1,
        };
        self.nodes(&function.node, &mut scope, &inner)?;
        Ok(Some(self.results(function.output.iter().map(String::as_str), &scope, origin)))
    }

    /// Walks the body of a composite operator; the slots of its results. `outer` is what the node's own graphs see.
    pub fn expand(
        &mut self,
        node: &'m NodeProto,
        body: &Body,
        operands: &Operands,
        outer: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Option<Vec<Slot>>, Stop> {
        let function = &body.function;
        let wanted = |i: usize| node.output.get(i).is_some_and(|name| !name.is_empty());
        let computed = |i: usize| function.output.get(i).is_some_and(|name| !name.is_empty());
        let problem = if frame.depth >= MAX_DEPTH {
            Some(OpError::Limit(format!("functions and branches nest deeper than {MAX_DEPTH}")))
        } else if operands.values.iter().skip(function.input.len()).any(Option::is_some) {
            Some(OpError::invalid(format!("the operator has {} operands", function.input.len())))
        } else {
            let missing = (0..node.output.len()).find(|&i| wanted(i) && !computed(i));
            missing.map(|i| OpError::unsupported(format!("result {i} of `{}`", short(&node.op_type))))
        };
        if let Some(e) = problem {
            let at = self.node_ref(node, origin, operands);
            self.problems.push(Diagnostic::from_op(&e, at));
            return Ok(None);
        }
        let mut scope = Scope::new();
        let actuals = operands.values.iter().copied().chain(std::iter::repeat(None));
        for (name, actual) in function.input.iter().zip(actuals) {
            let actual = actual.map(|v| self.without_texts(v));
            self.define(name, actual.map_or(Slot::Absent, Slot::Value), &mut scope);
        }
        let mut opsets = Opsets::from([("", *super::OPSETS.end()), (INTERNAL, 1)]);
        opsets.extend(BODY_OPSETS.iter().copied());
        let inner = Frame {
            opsets,
            given: Given::new(),
            prefix: origin.name.clone(),
            top: Some(origin.index),
            calls: Vec::new(),
            depth: frame.depth + 1,
        };
        for (name, tensor) in &body.tensors {
            let constant = self.graph.add_constant(inner.value_name(name), tensor.clone());
            self.define(name, Slot::Value(constant), &mut scope);
        }
        let mut rest = function.node.as_slice();
        loop {
            let graph = |n: &NodeProto| n.domain == INTERNAL && n.op_type == INLINE;
            let end = rest.iter().position(graph).unwrap_or(rest.len());
            let (plain, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            // The body does not live as long as the model: a walker of its own takes the graph meanwhile.
            let mut walker = self.lend();
            let walked = walker.nodes(plain, &mut scope, &inner);
            let lent = walker.into_lent();
            self.take_back(lent);
            walked?;
            let Some((inline, behind)) = behind.split_first() else { break };
            let slot = self.inlined(inline, &scope, node, outer, frame, origin)?;
            for name in &inline.output {
                self.define(name, slot, &mut scope);
            }
            rest = behind;
        }
        let results = self.results(function.output.iter().map(String::as_str), &scope, origin);
        if let Some(&Slot::Value(first)) = results.first() {
            if let Some(texts) = &body.texts {
                self.graph.value_mut(first).texts = Some(texts.clone());
            }
            if let Some(keys) = &body.keys {
                self.dictionary(node, Slot::Value(first), keys.clone(), frame.depth);
            }
        }
        Ok(Some(results))
    }

    /// Walks a graph that a composite's node holds, at a place of its body; the slot of its result. The operand's type
    /// is the result's.
    fn inlined(
        &mut self,
        inline: &NodeProto,
        body: &Scope<'_>,
        node: &'m NodeProto,
        outer: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Slot, Stop> {
        let operand = inline.input.first().and_then(|name| body.lookup(name));
        let Some(Slot::Value(operand)) = operand else { return Ok(Slot::Unknown) };
        let name = inline.attribute.iter().find(|a| a.name == "graph").and_then(|a| a.s.as_deref());
        let attributes = attrs::resolved(node, &frame.given);
        let graph =
            attributes.iter().find(|(n, _)| Some(n.as_bytes()) == name).and_then(|(_, a)| a.g.as_deref());
        let values = Operands { values: vec![Some(operand)], unknown: false };
        let (graph, formal) = match graph.map(|g| (g, g.input.as_slice(), g.output.len())) {
            _ if frame.depth >= MAX_DEPTH => {
                let e = OpError::Limit(format!("functions, branches and loops nest deeper than {MAX_DEPTH}"));
                return Ok(self.refuse(&e, node, &values, origin).unwrap_or(Slot::Unknown));
            }
            Some((graph, [formal], 1)) => (graph, formal),
            _ => {
                let e = OpError::invalid("a graph that does not have one input and one output");
                return Ok(self.refuse(&e, node, &values, origin).unwrap_or(Slot::Unknown));
            }
        };
        let mut scope = Scope::inside(outer);
        self.define(&formal.name, Slot::Value(operand), &mut scope);
        let inner =
            Frame { top: Some(frame.top.unwrap_or(origin.index)), depth: frame.depth + 1, ..frame.clone() };
        self.initializers(graph, &mut scope, &inner)?;
        self.nodes(&graph.node, &mut scope, &inner)?;
        let results = self.results(graph.output.iter().map(|o| o.name.as_str()), &scope, origin);
        let Some(&Slot::Value(result)) = results.first() else { return Ok(Slot::Unknown) };
        let (given, made) = (self.graph.value(operand), self.graph.value(result));
        if (given.dtype, &given.shape) != (made.dtype, &made.shape) {
            let e = OpError::invalid(format!(
                "a graph that makes {}{} of {}{}",
                made.dtype, made.shape, given.dtype, given.shape
            ));
            return Ok(self.refuse(&e, node, &values, origin).unwrap_or(Slot::Unknown));
        }
        Ok(Slot::Value(result))
    }

    /// Walks an `If`: the branch that a known condition chooses in place, else both as graphs of their own; the
    /// slots of its results.
    pub fn branch(
        &mut self,
        node: &'m NodeProto,
        operands: &Operands,
        scope: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Option<Vec<Slot>>, Stop> {
        if operands.unknown {
            return Ok(None);
        }
        let (condition, graphs) = match branches(node, operands, frame) {
            Ok(found) => found,
            Err(e) => {
                let at = self.node_ref(node, origin, operands);
                self.problems.push(Diagnostic::from_op(&e, at));
                return Ok(None);
            }
        };
        let known = self.graph.constant(condition).and_then(|t| t.as_slice::<bool>());
        let chosen = match (known, graphs) {
            (Some([true]), [then, _]) => then,
            (Some([false]), [_, otherwise]) => otherwise,
            (_, both) => return self.run_time_branch(node, operands, both, scope, frame, origin),
        };
        let mut inner_scope = Scope::inside(scope);
        let inner =
            Frame { top: Some(frame.top.unwrap_or(origin.index)), depth: frame.depth + 1, ..frame.clone() };
        self.initializers(chosen, &mut inner_scope, &inner)?;
        self.nodes(&chosen.node, &mut inner_scope, &inner)?;
        Ok(Some(self.results(chosen.output.iter().map(|o| o.name.as_str()), &inner_scope, origin)))
    }

    /// An `If` that stays one.
    fn run_time_branch(
        &mut self,
        node: &'m NodeProto,
        operands: &Operands,
        graphs: [&'m GraphProto; 2],
        scope: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Option<Vec<Slot>>, Stop> {
        let mut subs = Vec::new();
        for graph in graphs {
            subs.extend(self.subgraph(graph, Vec::new(), scope, frame, origin)?);
        }
        if subs.len() != graphs.len() {
            return Ok(None);
        }
        let (graphs, captured) = share_captured(subs, 0);
        let mut graphs = graphs.into_iter().map(Box::new);
        let (Some(then), Some(otherwise)) = (graphs.next(), graphs.next()) else { return Ok(None) };
        let values = operands.values.iter().copied().chain(captured.into_iter().map(Some)).collect();
        let operands = Operands { values, unknown: false };
        Ok(self.add(Branch { then, otherwise }.into(), node, &names(node), &operands, frame, origin))
    }

    pub fn results<'n>(
        &mut self,
        names: impl Iterator<Item = &'n str>,
        scope: &Scope<'_>,
        origin: &Origin,
    ) -> Vec<Slot> {
        let mut slots = Vec::new();
        for name in names {
            slots.push(match scope.lookup(name) {
                Some(slot) => slot,
                None if name.is_empty() => Slot::Absent,
                None => {
                    let message = format!("result `{}` is defined by no node of the body", short(name));
                    self.problems
                        .push(Diagnostic::error(Code::GraphStructure, message).at(NodeRef::from(origin)));
                    Slot::Unknown
                }
            });
        }
        slots
    }
}

/// The condition of an `If` and its two graphs.
fn branches<'m>(
    node: &'m NodeProto,
    operands: &Operands,
    frame: &Frame<'m>,
) -> Result<(ValueId, [&'m GraphProto; 2]), OpError> {
    if frame.depth >= MAX_DEPTH {
        return Err(OpError::Limit(format!("functions and branches nest deeper than {MAX_DEPTH}")));
    }
    let [Some(condition)] = *operands.values.as_slice() else {
        return Err(OpError::invalid("an `If` has one operand, the condition"));
    };
    let attributes = attrs::resolved(node, &frame.given);
    if let Some((name, _)) = attributes.iter().find(|(n, _)| *n != "then_branch" && *n != "else_branch") {
        return Err(OpError::invalid(format!("attribute `{}` is not one of `If`", short(name))));
    }
    let graph = |wanted: &str| {
        let graph = attributes.iter().find(|(n, _)| *n == wanted).and_then(|(_, a)| a.g.as_deref());
        let graph = graph.ok_or_else(|| OpError::invalid(format!("attribute `{wanted}` is missing")))?;
        if graph.output.len() != node.output.len() {
            return Err(OpError::invalid(format!(
                "the branch gives {} results, the node {}",
                graph.output.len(),
                node.output.len()
            )));
        }
        Ok(graph)
    };
    Ok((condition, [graph("then_branch")?, graph("else_branch")?]))
}

/// The attributes that a function's body sees: those of the call, and defaults.
fn given<'m>(
    node: &'m NodeProto,
    function: &'m FunctionProto,
    frame: &Frame<'m>,
) -> Result<Given<'m>, Box<Diagnostic>> {
    let mut out: Given<'m> = function.attribute_proto.iter().map(|a| (a.name.as_str(), a)).collect();
    for (name, attribute) in attrs::resolved(node, &frame.given) {
        let known = out.contains_key(name) || function.attribute.iter().any(|a| a == name);
        if !known {
            let message =
                format!("function `{}` does not know the attribute `{}`", short(&function.name), short(name));
            return Err(Box::new(Diagnostic::error(Code::UnknownAttribute, message)));
        }
        if holds_graph(attribute) {
            let message = format!(
                "attribute `{}` passes a subgraph to a function, which is not supported",
                short(name)
            );
            return Err(Box::new(Diagnostic::error(Code::UnsupportedForm, message)));
        }
        out.insert(name, attribute);
    }
    Ok(out)
}

fn holds_graph(attribute: &AttributeProto) -> bool {
    attribute.g.is_some() || !attribute.graphs.is_empty()
}
