//! Model-local functions and branches, walked in place.

use super::attrs::{self, Given};
use super::limits::{MAX_DEPTH, short};
use super::node::Operands;
use super::scope::{Scope, Slot};
use super::walk::{Frame, FunctionKey, Opsets, Stop, Walker, plain_domain};
use crate::diag::{Code, Diagnostic, NodeRef};
use crate::ir::Origin;
use crate::onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto};
use crate::ops::{Body, INTERNAL, OpError};

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

    /// Walks the body of a composite operator; the slots of its results.
    pub fn expand(
        &mut self,
        node: &NodeProto,
        body: &Body,
        operands: &Operands,
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
        // The body does not live as long as the model: a walker of its own takes the graph meanwhile.
        let mut walker = self.lend();
        let walked = walker.nodes(&function.node, &mut scope, &inner);
        let slots =
            walked.map(|()| walker.results(function.output.iter().map(String::as_str), &scope, origin));
        let lent = walker.into_lent();
        self.take_back(lent);
        slots.map(Some)
    }

    /// Walks the branch of an `If` whose condition is known; the slots of its results.
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
        let chosen = match self.chosen(node, operands, frame) {
            Ok(graph) => graph,
            Err(e) => {
                let at = self.node_ref(node, origin, operands);
                self.problems.push(Diagnostic::from_op(&e, at));
                return Ok(None);
            }
        };
        let mut inner_scope = Scope::inside(scope);
        let inner =
            Frame { top: Some(frame.top.unwrap_or(origin.index)), depth: frame.depth + 1, ..frame.clone() };
        self.initializers(chosen, &mut inner_scope, &inner)?;
        self.nodes(&chosen.node, &mut inner_scope, &inner)?;
        Ok(Some(self.results(chosen.output.iter().map(|o| o.name.as_str()), &inner_scope, origin)))
    }

    fn chosen(
        &self,
        node: &'m NodeProto,
        operands: &Operands,
        frame: &Frame<'m>,
    ) -> Result<&'m GraphProto, OpError> {
        if frame.depth >= MAX_DEPTH {
            return Err(OpError::Limit(format!("functions and branches nest deeper than {MAX_DEPTH}")));
        }
        let condition = operands
            .values
            .first()
            .copied()
            .flatten()
            .ok_or_else(|| OpError::invalid("the condition is missing"))?;
        let known = self.graph.constant(condition).ok_or_else(|| {
            OpError::unsupported_help(
                "an `If` whose condition is computed at run time",
                "give the condition's input a value with `--bind`, or fix the shapes it depends on",
            )
        })?;
        let truth = match known.as_slice::<bool>() {
            Some([truth]) => *truth,
            _ => return Err(OpError::invalid("the condition is not a single bool")),
        };
        let attributes = attrs::resolved(node, &frame.given);
        if let Some((name, _)) = attributes.iter().find(|(n, _)| *n != "then_branch" && *n != "else_branch") {
            return Err(OpError::invalid(format!("attribute `{}` is not one of `If`", short(name))));
        }
        let wanted = if truth { "then_branch" } else { "else_branch" };
        let graph = attributes
            .iter()
            .find(|(n, _)| *n == wanted)
            .and_then(|(_, a)| a.g.as_deref())
            .ok_or_else(|| OpError::invalid(format!("attribute `{wanted}` is missing")))?;
        if graph.output.len() != node.output.len() {
            return Err(OpError::invalid(format!(
                "the branch gives {} results, the node {}",
                graph.output.len(),
                node.output.len()
            )));
        }
        Ok(graph)
    }

    fn results<'n>(
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
