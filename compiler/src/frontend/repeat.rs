//! `Loop`: its body as a graph of its own, or, where that has no fixed shapes but the number of iterations is known,
//! the body once for each of them.

use super::attrs;
use super::limits::{MAX_DEPTH, MAX_UNROLLED, short};
use super::node::Operands;
use super::scope::{Scope, Slot};
use super::subgraph::Formal;
use super::walk::{Frame, Stop, Walker, plain_domain};
use crate::diag::Diagnostic;
use crate::ir::{DType, Origin, Shape, Tensor, ValueId};
use crate::kernel::expr::BinaryFn;
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto};
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::concat::Concat;
use crate::ops::loop_::{Along, Count, Loop};
use crate::ops::reshape::Reshape;
use crate::ops::{Graph, OpError, Type};

/// An ONNX `Loop`, checked.
struct Repeated<'m> {
    body: &'m GraphProto,
    /// The number of iterations at most; `None` for no operand.
    count: Option<ValueId>,
    /// That number, where known.
    known: Option<u64>,
    /// The first condition; `None` for no operand.
    condition: Option<ValueId>,
    /// Whether that is known to hold, or known not to.
    holds: Option<bool>,
    states: Vec<ValueId>,
}

/// Most iterations of a loop that only a run ends and that gives a row for each: room is made for all of them.
const MAX_ROWS: u64 = 1 << 20;

/// A node's attributes by name.
pub(super) type Attributes<'m> = Vec<(&'m str, &'m AttributeProto)>;

/// What became of a loop as straight code.
enum Unrolled {
    /// Its results.
    Done(Vec<Slot>),
    /// Nothing, which was reported.
    Refused,
    /// Nothing: a condition is computed at run time.
    Checked,
}

/// Where a subgraph's attribute stands, and a node's other attributes may not.
pub(super) fn body_of<'m>(
    node: &'m NodeProto,
    frame: &Frame<'m>,
    others: &[&str],
) -> Result<(&'m GraphProto, Attributes<'m>), OpError> {
    if frame.depth >= MAX_DEPTH {
        return Err(OpError::Limit(format!("functions, branches and loops nest deeper than {MAX_DEPTH}")));
    }
    let attributes = attrs::resolved(node, &frame.given);
    if let Some((name, _)) = attributes.iter().find(|(n, _)| *n != "body" && !others.contains(n)) {
        let message = format!("attribute `{}` is not one of `{}`", short(name), short(&node.op_type));
        return Err(OpError::invalid(message));
    }
    let body = attributes.iter().find(|(n, _)| *n == "body").and_then(|(_, a)| a.g.as_deref());
    Ok((body.ok_or_else(|| OpError::invalid("attribute `body` is missing"))?, attributes))
}

impl<'m> Walker<'m> {
    /// Walks a `Loop` or `Scan`; the slots of its results.
    pub fn repeat(
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
        if node.op_type == "Scan" {
            return self.scan(node, operands, scope, frame, origin);
        }
        let repeated = match self.repeated(node, operands, frame) {
            Ok(repeated) => repeated,
            Err(e) => return Ok(self.refuse(&e, node, operands, origin)),
        };
        let before = self.problems.clone();
        let mut rolled = None;
        let may_unroll = repeated.holds == Some(true) && repeated.known.is_some_and(|n| n > 0);
        if !(may_unroll && repeated.known == Some(1)) {
            let kept = self.rolled(&repeated, node, operands, scope, frame, origin)?;
            let few = repeated.known.is_some_and(|n| n <= MAX_UNROLLED);
            if kept.is_some() || !(may_unroll && few) {
                return Ok(kept);
            }
            rolled = Some(std::mem::replace(&mut self.problems, before));
        }
        // What the body alone could not do may be possible where the number of the iteration is known.
        match self.unrolled(&repeated, node, scope, frame, origin)? {
            Unrolled::Done(slots) => return Ok(Some(slots)),
            Unrolled::Refused => {}
            Unrolled::Checked => match rolled {
                Some(problems) => self.problems = problems,
                None => {
                    let e = OpError::internal("a loop of one iteration checks its condition");
                    return Ok(self.refuse(&e, node, operands, origin));
                }
            },
        }
        Ok(None)
    }

    /// Reports an operator's error.
    pub fn refuse<T>(
        &mut self,
        e: &OpError,
        node: &NodeProto,
        operands: &Operands,
        origin: &Origin,
    ) -> Option<T> {
        let at = self.node_ref(node, origin, operands);
        self.problems.push(Diagnostic::from_op(e, at));
        None
    }

    fn repeated(
        &self,
        node: &'m NodeProto,
        operands: &Operands,
        frame: &Frame<'m>,
    ) -> Result<Repeated<'m>, OpError> {
        let (body, _) = body_of(node, frame, &[])?;
        let (first, states) = operands.values.split_at_checked(2).unwrap_or((&operands.values, &[]));
        let [count, condition] = [0, 1].map(|i| first.get(i).copied().flatten());
        let single = |v: ValueId, dtype: DType, what: &str| {
            let value = self.graph.value(v);
            match value.dtype == dtype && value.shape.elements() == 1 {
                true => Ok(()),
                false => Err(OpError::invalid(format!("{what} is not a single {dtype}"))),
            }
        };
        if let Some(v) = count {
            single(v, DType::I64, "the number of iterations")?;
        }
        if let Some(v) = condition {
            single(v, DType::Bool, "the condition")?;
        }
        let states: Option<Vec<ValueId>> = states.iter().copied().collect();
        let states = states.ok_or_else(|| OpError::unsupported("a loop's state without a first value"))?;
        if body.input.len() != states.len() + 2 || body.output.len() < states.len() + 1 {
            return Err(OpError::invalid(format!(
                "a body of {} inputs and {} outputs for {} states",
                body.input.len(),
                body.output.len(),
                states.len()
            )));
        }
        if node.output.len() > body.output.len() - 1 {
            return Err(OpError::invalid(format!("the body gives {} results", body.output.len() - 1)));
        }
        let known = |v: ValueId| self.graph.constant(v);
        let holds = match condition {
            None => Some(true),
            Some(v) => known(v).and_then(|t| t.as_slice::<bool>()).and_then(|t| t.first().copied()),
        };
        let number = count.and_then(known).and_then(|t| t.as_slice::<i64>()).and_then(|t| t.first().copied());
        let known =
            if holds == Some(false) { Some(0) } else { number.map(|n| u64::try_from(n).unwrap_or(0)) };
        Ok(Repeated { body, count, known, condition, holds, states })
    }

    /// A loop that stays one.
    fn rolled(
        &mut self,
        loop_: &Repeated<'m>,
        node: &'m NodeProto,
        operands: &Operands,
        scope: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Option<Vec<Slot>>, Stop> {
        // States that no iteration changes are like what the body takes from around it.
        let fixed: Vec<bool> = (0..loop_.states.len()).map(|k| passes(loop_.body, k + 2, k + 1)).collect();
        let mut formals = vec![
            Formal::Open(Type::new(DType::I64, Shape::scalar())),
            // An iteration runs only where the condition holds.
            Formal::Known(Tensor::scalar(true)),
        ];
        for (&v, fixed) in loop_.states.iter().zip(&fixed) {
            let value = self.graph.value(v);
            formals.push(match fixed {
                true => Formal::Outer(v),
                false => Formal::Open(Type::new(value.dtype, value.shape.clone())),
            });
        }
        let Some(sub) = self.subgraph(loop_.body, formals, scope, frame, origin)? else { return Ok(None) };
        let mut body = sub.graph;
        let condition =
            body.outputs.first().and_then(|&(_, v)| body.constant(v)).and_then(|t| t.as_slice::<bool>());
        let ends = condition.is_none_or(|c| c != [true]);
        let checked = loop_.known != Some(0) && (ends || loop_.holds.is_none());
        // Results by position that the loop gives: no states that stay, no rows that nobody wants.
        let named = |i: usize| node.output.get(i).is_some_and(|name| !name.is_empty());
        let gives = |i: usize| fixed.get(i).map_or(named(i), |fixed| !fixed);
        let mut position = 0;
        body.outputs.retain(|_| {
            position += 1;
            match position - 1 {
                0 => checked,
                k => gives(k - 1),
            }
        });
        let count = match (loop_.known, loop_.count) {
            (Some(n), _) => Count::Known(n),
            (None, Some(_)) => Count::Given { most: None },
            (None, None) if checked => Count::Unbounded,
            (None, None) => {
                let e = OpError::invalid(
                    "a loop that nothing ends: no number of iterations, and a condition that holds",
                );
                return Ok(self.refuse(&e, node, operands, origin));
            }
        };
        let mut states = fixed.iter().filter(|f| !**f).count();
        let rows = (loop_.states.len()..loop_.body.output.len() - 1).filter(|&i| gives(i)).count();
        let counted = checked && rows > 0 && matches!(count, Count::Known(n) if n <= MAX_ROWS);
        if counted {
            count_iterations(&mut body, states, origin);
        }
        let mut values: Vec<Option<ValueId>> = Vec::new();
        values.extend(loop_.count.filter(|_| matches!(count, Count::Given { .. })).map(Some));
        if checked {
            let first =
                loop_.condition.unwrap_or_else(|| self.graph.add_constant("goes on", Tensor::scalar(true)));
            values.push(Some(first));
        }
        let carried = loop_.states.iter().zip(&fixed).filter(|(_, fixed)| !**fixed);
        values.extend(carried.map(|(&v, _)| Some(v)));
        if counted {
            values.push(Some(self.graph.add_constant("iterations", Tensor::vector(&[0i64]))));
        }
        values.extend(sub.captured.into_iter().map(Some));
        let counter = counted.then_some(states);
        states += usize::from(counted);
        let op = Loop {
            body: Box::new(body),
            count,
            checked,
            numbered: true,
            states,
            counted,
            slices: Vec::new(),
            rows: vec![Along { axis: 0, backwards: false }; rows],
            name: "Loop",
        };
        let names = node.output.iter().enumerate().filter(|(i, _)| gives(*i));
        let mut names: Vec<&str> = names.map(|(_, name)| name.as_str()).collect();
        if let Some(at) = counter {
            names.insert(at.min(names.len()), "iterations");
        }
        let operands = Operands { values, unknown: false };
        let Some(mut slots) = self.add(op.into(), node, &names, &operands, frame, origin) else {
            return Ok(None);
        };
        if let Some(at) = counter.filter(|&at| at < slots.len()) {
            slots.remove(at);
        }
        let mut slots = slots.into_iter();
        let slot = |i: usize| match loop_.states.get(i) {
            _ if gives(i) => slots.next().unwrap_or(Slot::Unknown),
            Some(&v) => Slot::Value(v),
            None => Slot::Unknown,
        };
        Ok(Some((0..node.output.len()).map(slot).collect()))
    }

    /// A loop as its iterations, one behind the other.
    fn unrolled(
        &mut self,
        loop_: &Repeated<'m>,
        node: &'m NodeProto,
        scope: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Unrolled, Stop> {
        let (body, count) = (loop_.body, loop_.known.unwrap_or(0));
        let problems = self.problems.error_count();
        let mut states: Vec<Slot> = loop_.states.iter().map(|&v| Slot::Value(v)).collect();
        let mut rows: Vec<Vec<ValueId>> = vec![Vec::new(); body.output.len() - 1 - states.len()];
        for number in 0..count {
            let inner = Frame {
                top: Some(frame.top.unwrap_or(origin.index)),
                depth: frame.depth + 1,
                prefix: format!("{}/{number}", short(&origin.name)),
                ..frame.clone()
            };
            let mut within = Scope::inside(scope);
            let name = |i: usize| body.input.get(i).map_or("", |info| info.name.as_str());
            let first = [Tensor::scalar(number as i64), Tensor::scalar(true)];
            for (i, tensor) in first.into_iter().enumerate() {
                let v = self.graph.add_constant(inner.value_name(name(i)), tensor);
                self.define(name(i), Slot::Value(v), &mut within);
            }
            for (k, &slot) in states.iter().enumerate() {
                self.define(name(k + 2), slot, &mut within);
            }
            self.initializers(body, &mut within, &inner)?;
            self.nodes(&body.node, &mut within, &inner)?;
            let results = self.results(body.output.iter().map(|o| o.name.as_str()), &within, origin);
            if self.problems.error_count() > problems || results.iter().any(|s| !matches!(s, Slot::Value(_)))
            {
                return Ok(Unrolled::Refused);
            }
            let next = results.get(1..=states.len()).unwrap_or(&[]).to_vec();
            for (rows, slot) in rows.iter_mut().zip(results.iter().skip(1 + states.len())) {
                if let Slot::Value(v) = slot {
                    rows.push(*v);
                }
            }
            states = next;
            let goes_on = match results.first() {
                Some(Slot::Value(v)) => self.graph.constant(*v).and_then(|t| t.as_slice::<bool>()),
                _ => None,
            };
            match goes_on {
                _ if number + 1 == count => {}
                Some([true]) => {}
                Some([false]) => break,
                _ => return Ok(Unrolled::Checked),
            }
        }
        for (k, row) in rows.iter().enumerate() {
            let wanted = node.output.get(loop_.states.len() + k).map_or("", String::as_str);
            if wanted.is_empty() {
                states.push(Slot::Unknown);
                continue;
            }
            match self.stacked(row, wanted, node, frame, origin) {
                Some(slot) => states.push(slot),
                None => return Ok(Unrolled::Refused),
            }
        }
        states.truncate(node.output.len());
        Ok(Unrolled::Done(states))
    }

    /// Values joined on a new first axis.
    fn stacked(
        &mut self,
        rows: &[ValueId],
        name: &str,
        node: &'m NodeProto,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Option<Slot> {
        let mut parts = Vec::with_capacity(rows.len());
        for &row in rows {
            let op = Reshape::Unsqueeze { axes: Some(vec![0]) };
            let operands = Operands { values: vec![Some(row)], unknown: false };
            match self.add(op.into(), node, &["row"], &operands, frame, origin)?.first() {
                Some(Slot::Value(v)) => parts.push(Some(*v)),
                _ => return None,
            }
        }
        let operands = Operands { values: parts, unknown: false };
        self.add(Concat { axis: 0 }.into(), node, &[name], &operands, frame, origin)?.first().copied()
    }
}

/// Gives a loop's body a state behind its `states`, whose conditions come first: the number of iterations.
fn count_iterations(body: &mut Graph, states: usize, origin: &Origin) {
    let (name, shape) = ("iterations", Shape::from([1]));
    let before = body.add_input(name, DType::I64, shape.clone());
    // Behind the number of the iteration and the other states, in front of what is taken from around.
    if let Some(counter) = body.inputs.pop() {
        body.inputs.insert((1 + states).min(body.inputs.len()), counter);
    }
    let one = body.add_constant("one", Tensor::vector(&[1i64]));
    let op = Binary { function: BinaryKind::Arith(BinaryFn::Add) };
    let result = Some((name.to_owned(), DType::I64, shape));
    let id = body.add_node(op.into(), vec![Some(before), Some(one)], vec![result], vec![origin.clone()]);
    if let Some(after) = body.node(id).and_then(|n| n.outputs.first().copied().flatten()) {
        body.outputs.insert((1 + states).min(body.outputs.len()), (name.to_owned(), after));
    }
}

/// Whether output `to` of a graph is its input `from`, untouched.
fn passes(graph: &GraphProto, from: usize, to: usize) -> bool {
    let (Some(from), Some(to)) = (graph.input.get(from), graph.output.get(to)) else { return false };
    let mut name = to.name.as_str();
    // No chain is longer than the list of nodes.
    for _ in 0..=graph.node.len().min(16) {
        if name == from.name {
            return true;
        }
        let identity = |n: &&NodeProto| n.op_type == "Identity" && plain_domain(&n.domain).is_empty();
        let makers = graph.node.iter().filter(|n| n.output.iter().any(|o| o == name));
        match makers.filter(identity).find_map(|n| n.input.first()) {
            Some(input) => name = input,
            None => return false,
        }
    }
    false
}
