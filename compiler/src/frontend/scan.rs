//! `Scan`: a loop over slices of its operands. That of operator set 8 has a batch, and becomes two loops.

use super::node::{Operands, names};
use super::repeat::body_of;
use super::scope::{Scope, Slot};
use super::subgraph::Formal;
use super::walk::{Frame, Stop, Walker};
use crate::ir::{DType, Origin, Shape, ValueId};
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::ops::loop_::{Along, Count, Loop};
use crate::ops::{Fact, Graph, Inputs, OpError, OpKind, Type};

impl<'m> Walker<'m> {
    /// Walks a `Scan`; the slots of its results.
    pub(super) fn scan(
        &mut self,
        node: &'m NodeProto,
        operands: &Operands,
        scope: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Option<Vec<Slot>>, Stop> {
        let made = match origin.opset {
            ..9 => self.scan_of_batches(node, operands, scope, frame, origin),
            _ => self.plain_scan(node, operands, scope, frame, origin),
        };
        let (op, operands) = match made {
            Ok(Some(made)) => made,
            Ok(None) => return Ok(None),
            Err(Refused::Stop) => return Err(Stop),
            Err(Refused::Op(e)) => return Ok(self.refuse(&e, node, operands, origin)),
        };
        Ok(self.add(op.into(), node, &names(node), &operands, frame, origin))
    }

    fn plain_scan(
        &mut self,
        node: &'m NodeProto,
        operands: &Operands,
        scope: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Option<(Loop, Operands)>, Refused> {
        let others = [
            "num_scan_inputs",
            "scan_input_axes",
            "scan_output_axes",
            "scan_input_directions",
            "scan_output_directions",
        ];
        let (body, attributes) = body_of(node, frame, &others)?;
        let values = present(&operands.values)?;
        let count = slice_count(&attributes, values.len())?;
        let states = values.len() - count;
        expect_body(body.input.len(), body.output.len(), values.len(), states)?;
        let rows = body.output.len() - states;
        let (first, whole) = values.split_at_checked(states).unwrap_or((&values, &[]));
        let backwards = directions(&attributes, "scan_input_directions", count)?;
        let mut slices = Vec::new();
        let mut formals: Vec<Formal> = first.iter().map(|&v| Formal::Open(self.type_of(v))).collect();
        let axes = ints(&attributes, "scan_input_axes", count)?;
        for ((&v, axis), backwards) in whole.iter().zip(axes).zip(backwards) {
            let ty = self.type_of(v);
            let axis = normal(axis, ty.shape.rank())?;
            slices.push(Along { axis, backwards });
            formals.push(Formal::Open(without(&ty, axis)));
        }
        let extent = |(&v, along): (&ValueId, &Along)| self.graph.value(v).shape.get(along.axis).copied();
        let extent = whole.iter().zip(&slices).find_map(extent).unwrap_or(0);
        let Some(sub) = self.subgraph(body, formals, scope, frame, origin)? else { return Ok(None) };
        let axes = ints(&attributes, "scan_output_axes", rows)?;
        let backwards = directions(&attributes, "scan_output_directions", rows)?;
        let ranks = sub.graph.outputs.iter().skip(states).map(|&(_, v)| sub.graph.value(v).shape.rank());
        let rows = ranks
            .zip(axes)
            .zip(backwards)
            .map(|((rank, axis), backwards)| Ok(Along { axis: normal(axis, rank + 1)?, backwards }));
        let rows = rows.collect::<Result<_, OpError>>()?;
        let op = Loop {
            body: Box::new(sub.graph),
            count: Count::Known(extent as u64),
            checked: false,
            numbered: false,
            counted: false,
            states,
            slices,
            rows,
            name: "Scan",
        };
        let values = values.into_iter().chain(sub.captured).map(Some).collect();
        Ok(Some((op, Operands { values, unknown: false })))
    }

    /// Operand 0: the length of each sequence, optional. All others, and all results, have the batch on axis 0; what
    /// is read and made row by row has its rows on axis 1. Rows behind a sequence's end are zero.
    fn scan_of_batches(
        &mut self,
        node: &'m NodeProto,
        operands: &Operands,
        scope: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Option<(Loop, Operands)>, Refused> {
        let (body, attributes) = body_of(node, frame, &["num_scan_inputs", "directions"])?;
        let (lengths, values) = match operands.values.split_first() {
            Some((first, rest)) => (*first, present(rest)?),
            None => return Err(OpError::invalid("operand 0 is missing").into()),
        };
        let count = slice_count(&attributes, values.len())?;
        let states = values.len() - count;
        expect_body(body.input.len(), body.output.len(), values.len(), states)?;
        let rows = body.output.len() - states;
        let first = values.get(states).map(|&v| self.type_of(v));
        let (batch, extent) = match first.as_ref().map(|t| t.shape.dims()) {
            Some(&[batch, extent, ..]) => (batch, extent),
            _ => return Err(OpError::invalid("sequences of fewer than two axes").into()),
        };
        let mut formals = Vec::new();
        for (k, &v) in values.iter().enumerate() {
            let ty = self.type_of(v);
            let fits = match ty.shape.dims() {
                [b, n, ..] if k >= states => *b == batch && *n == extent,
                [b, ..] if k < states => *b == batch,
                _ => false,
            };
            if !fits {
                let message = format!("operand {} is {} for {batch} sequences of {extent}", k + 1, ty.shape);
                return Err(OpError::invalid(message).into());
            }
            let one = without(&ty, 0);
            formals.push(Formal::Open(if k < states { one } else { without(&one, 0) }));
        }
        if let Some(v) = lengths {
            let ty = self.type_of(v);
            if ty.dtype != DType::I64 || ty.shape.dims() != [batch] {
                return Err(OpError::invalid(format!(
                    "{}{} for the lengths of sequences",
                    ty.dtype, ty.shape
                ))
                .into());
            }
        }
        let backwards = directions(&attributes, "directions", count)?;
        let Some(sub) = self.subgraph(body, formals, scope, frame, origin)? else { return Ok(None) };
        let in_front = |backwards| Along { axis: 0, backwards };
        let inner = Loop {
            count: match lengths {
                Some(_) => Count::Given { most: Some(extent as u64) },
                None => Count::Known(extent as u64),
            },
            checked: false,
            numbered: false,
            counted: false,
            states,
            slices: backwards.into_iter().map(in_front).collect(),
            rows: vec![in_front(false); rows],
            name: "Scan",
            body: Box::new(sub.graph),
        };
        // One sequence: its length, its states, its slices, what the body takes from around.
        let mut one = Graph::new(super::limits::short(&body.name));
        let mut given = Vec::new();
        if lengths.is_some() {
            given.push(one.add_input("length", DType::I64, Shape::scalar()));
        }
        for &v in &values {
            let value = self.graph.value(v);
            let ty = without(&Type::new(value.dtype, value.shape.clone()), 0);
            given.push(one.add_input(value.name.clone(), ty.dtype, ty.shape));
        }
        for &v in &sub.captured {
            let value = self.graph.value(v);
            given.push(one.add_input(value.name.clone(), value.dtype, value.shape.clone()));
        }
        one.outputs = put(&mut one, inner.into(), &given, origin)?;
        let outer = Loop {
            body: Box::new(one),
            count: Count::Known(batch as u64),
            checked: false,
            numbered: false,
            counted: false,
            states: 0,
            slices: vec![in_front(false); values.len() + usize::from(lengths.is_some())],
            rows: vec![in_front(false); states + rows],
            name: "Scan",
        };
        let values = lengths.into_iter().chain(values).chain(sub.captured).map(Some).collect();
        Ok(Some((outer, Operands { values, unknown: false })))
    }

    fn type_of(&self, v: ValueId) -> Type {
        let value = self.graph.value(v);
        Type::new(value.dtype, value.shape.clone())
    }
}

/// Why there is no loop.
enum Refused {
    Op(OpError),
    Stop,
}

impl From<OpError> for Refused {
    fn from(e: OpError) -> Self {
        Refused::Op(e)
    }
}

impl From<Stop> for Refused {
    fn from(_: Stop) -> Self {
        Refused::Stop
    }
}

/// Adds a node to a graph of the walk's own; its results by name.
fn put(
    graph: &mut Graph,
    op: OpKind,
    inputs: &[ValueId],
    origin: &Origin,
) -> Result<Vec<(String, ValueId)>, OpError> {
    let facts: Vec<Option<Fact<'_>>> = inputs
        .iter()
        .map(|&v| Some(Fact { dtype: graph.value(v).dtype, shape: &graph.value(v).shape, constant: None }))
        .collect();
    let types = op.as_op().infer(&Inputs::new(&facts, 0))?;
    let outputs =
        types.into_iter().enumerate().map(|(i, t)| Some((format!("result {i}"), t.dtype, t.shape))).collect();
    let inputs = inputs.iter().copied().map(Some).collect();
    let id = graph.add_node(op, inputs, outputs, vec![origin.clone()]);
    let results = graph.node(id).map(|n| n.outputs.clone()).unwrap_or_default();
    Ok(results.into_iter().flatten().map(|v| (graph.value(v).name.clone(), v)).collect())
}

/// Operands that must all be there.
fn present(values: &[Option<ValueId>]) -> Result<Vec<ValueId>, OpError> {
    let all: Option<Vec<ValueId>> = values.iter().copied().collect();
    all.ok_or_else(|| OpError::invalid("an operand of a `Scan` is missing"))
}

/// Attribute `num_scan_inputs`, of so many operands.
fn slice_count(attributes: &[(&str, &AttributeProto)], operands: usize) -> Result<usize, OpError> {
    let count = attributes.iter().find(|(n, _)| *n == "num_scan_inputs").and_then(|(_, a)| a.i);
    let count = count.ok_or_else(|| OpError::invalid("attribute `num_scan_inputs` is missing"))?;
    match usize::try_from(count) {
        Ok(n) if (1..=operands).contains(&n) => Ok(n),
        _ => Err(OpError::invalid(format!("attribute `num_scan_inputs` is {count}, of {operands} operands"))),
    }
}

fn expect_body(inputs: usize, outputs: usize, operands: usize, states: usize) -> Result<(), OpError> {
    if inputs == operands && outputs >= states {
        return Ok(());
    }
    let message = format!(
        "a body of {inputs} inputs and {outputs} outputs for {operands} operands, {states} of them states"
    );
    Err(OpError::invalid(message))
}

/// A list of integers, one for each of `count`; zeros where it is not given.
fn ints(attributes: &[(&str, &AttributeProto)], name: &str, count: usize) -> Result<Vec<i64>, OpError> {
    match attributes.iter().find(|(n, _)| *n == name) {
        None => Ok(vec![0; count]),
        Some((_, a)) if a.ints.len() == count => Ok(a.ints.clone()),
        Some((_, a)) => {
            Err(OpError::invalid(format!("attribute `{name}` has {} elements, not {count}", a.ints.len())))
        }
    }
}

/// 0 for the usual direction, 1 for backwards.
fn directions(
    attributes: &[(&str, &AttributeProto)],
    name: &str,
    count: usize,
) -> Result<Vec<bool>, OpError> {
    let one = |d: i64| match d {
        0 | 1 => Ok(d == 1),
        _ => Err(OpError::invalid(format!("attribute `{name}` holds {d}"))),
    };
    ints(attributes, name, count)?.into_iter().map(one).collect()
}

fn normal(axis: i64, rank: usize) -> Result<usize, OpError> {
    let bad = || OpError::invalid(format!("axis {axis} of {rank}"));
    let signed = i64::try_from(rank).map_err(|_| bad())?;
    let axis = if axis < 0 { axis.checked_add(signed).ok_or_else(bad)? } else { axis };
    usize::try_from(axis).ok().filter(|&a| a < rank).ok_or_else(bad)
}

/// A type without one of its axes.
fn without(ty: &Type, axis: usize) -> Type {
    let shape: Shape = ty.shape.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, &d)| d).collect();
    Type::new(ty.dtype, shape)
}
