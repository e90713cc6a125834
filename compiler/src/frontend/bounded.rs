//! Values whose extent along an axis is a maximum: which they are, and the values that say their lengths.

use super::limits::short;
use super::node::Operands;
use super::walk::Walker;
use crate::ir::{DType, Origin, OutputLength, Shape, Tensor, ValueId};
use crate::ops::binary::BinaryFn;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::clear::Clear;
use crate::ops::concat::Concat;
use crate::ops::reshape::Reshape;
use crate::ops::shape::Shape as Asked;
use crate::ops::{Length, Lengths, OpError, OpKind};
use std::collections::BTreeMap;

/// What a value's extent along an axis is in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    /// The axis.
    pub axis: usize,
    /// An `i64[1]` that says the extent.
    pub length: ValueId,
    /// Whether what lies beyond is zeros.
    pub cleared: bool,
}

/// Those of a graph, by value.
pub(super) type Bounds = BTreeMap<ValueId, Bound>;

/// Axes of operands that have a length, and that length; `None` where none has one.
pub(super) struct Found {
    pub along: Vec<Option<usize>>,
    pub length: Option<ValueId>,
    /// Whether what lies beyond is zeros in all of them.
    cleared: bool,
}

impl Walker<'_> {
    /// Which operands have a length.
    pub fn along(&self, operands: &Operands) -> Result<Found, OpError> {
        let bounds = operands.values.iter().map(|v| v.and_then(|v| self.bounds.get(&v)).copied());
        let mut found = Found { along: Vec::new(), length: None, cleared: true };
        for bound in bounds {
            found.along.push(bound.map(|b| b.axis));
            let Some(bound) = bound else { continue };
            if found.length.is_some_and(|other| other != bound.length) {
                return Err(OpError::unsupported_help(
                    "operands have numbers of elements that only a run knows, and not the same",
                    "join such values outside the model",
                ));
            }
            found.length = Some(bound.length);
            found.cleared &= bound.cleared;
        }
        Ok(found)
    }

    /// Operands with zeros where an operator needs them beyond the length.
    pub fn cleared(
        &mut self,
        operands: &Operands,
        lengths: &Lengths,
        origin: &Origin,
    ) -> Vec<Option<ValueId>> {
        let mut values = operands.values.clone();
        for &i in &lengths.cleared {
            let Some(slot) = values.get_mut(i) else { continue };
            let Some((v, bound)) = slot.and_then(|v| Some((v, *self.bounds.get(&v)?))) else { continue };
            if !bound.cleared {
                let value = self.graph.value(v);
                let (name, dtype, shape) = (value.name.clone(), value.dtype, value.shape.clone());
                let op = Clear { axis: bound.axis };
                let cleared = self.helper(op, vec![v, bound.length], (name, dtype, shape), origin);
                self.bounds.insert(cleared, Bound { cleared: true, ..bound });
                *slot = Some(cleared);
            }
        }
        values
    }

    /// Notes which results of a node have lengths.
    pub fn bound_results(
        &mut self,
        results: &[Option<ValueId>],
        lengths: &Lengths,
        found: &Found,
        origin: &Origin,
    ) -> Result<(), OpError> {
        let mut made: Vec<(Length, ValueId)> = Vec::new();
        for (result, along) in results.iter().zip(&lengths.results) {
            let (Some(v), Some(along)) = (result, along) else { continue };
            // No elements at all are no question of a run.
            if self.graph.value(*v).shape.get(along.axis).is_none_or(|&d| d == 0) {
                continue;
            }
            let known = made.iter().find(|(l, _)| *l == along.length).map(|&(_, v)| v);
            let length = match (known, along.length, found.length) {
                (Some(length), _, _) => length,
                (None, Length::Result(k), _) => results
                    .get(k)
                    .copied()
                    .flatten()
                    .ok_or_else(|| OpError::internal("a length that is no result"))?,
                (None, other, Some(of)) => self.derived(of, other, origin),
                (None, _, None) => return Err(OpError::internal("a length of nothing")),
            };
            made.push((along.length, length));
            let own = matches!(along.length, Length::Result(_));
            let cleared = own || lengths.moves && found.cleared;
            self.bounds.insert(*v, Bound { axis: along.axis, length, cleared });
        }
        Ok(())
    }

    /// A length that follows from another.
    fn derived(&mut self, of: ValueId, length: Length, origin: &Origin) -> ValueId {
        let step = |w: &mut Self, f: BinaryFn, of: ValueId, by: usize| {
            let by = w.graph.add_constant("length", Tensor::vector(&[by as i64]));
            let op = Binary { function: BinaryKind::Arith(f) };
            w.helper(op, vec![of, by], ("length".to_owned(), DType::I64, Shape::from([1])), origin)
        };
        match length {
            Length::Result(_) | Length::Same => of,
            Length::Times(n) => step(self, BinaryFn::Mul, of, n),
            Length::Plus(n) => step(self, BinaryFn::Add, of, n),
            Length::Window { from, to } => {
                let end = step(self, BinaryFn::Min, of, to);
                if from == 0 {
                    return end;
                }
                let len = step(self, BinaryFn::Sub, end, from);
                step(self, BinaryFn::Max, len, 0)
            }
        }
    }

    /// A node of the walk's own.
    fn helper(
        &mut self,
        op: impl Into<OpKind>,
        inputs: Vec<ValueId>,
        result: (String, DType, Shape),
        origin: &Origin,
    ) -> ValueId {
        let inputs = inputs.into_iter().map(Some).collect();
        let id = self.graph.add_node(op.into(), inputs, vec![Some(result)], vec![origin.clone()]);
        let made = self.graph.node(id).and_then(|n| n.outputs.first().copied().flatten());
        // A node that was just added has the result that it was given.
        made.unwrap_or(ValueId(0))
    }

    /// The extents (Shape) or the number of elements (Size) of a value with a length; `None` where the answer
    /// does not depend on it.
    pub fn asked(&mut self, asked: &Asked, of: ValueId, name: &str, origin: &Origin) -> Option<ValueId> {
        let bound = *self.bounds.get(&of)?;
        let shape = self.graph.value(of).shape.clone();
        let vector = |len: usize| (short(name), DType::I64, Shape::from([len]));
        let Asked::Extents { .. } = asked else {
            let others = shape.iter().enumerate().filter(|(a, _)| *a != bound.axis).map(|(_, &d)| d);
            let size = self.derived(bound.length, Length::Times(others.product()), origin);
            let op = Reshape::Squeeze { axes: Some(vec![0]) };
            return Some(self.helper(op, vec![size], (short(name), DType::I64, Shape::scalar()), origin));
        };
        let axes = asked.axes(shape.rank());
        if !axes.contains(&bound.axis) {
            return None;
        }
        let extents: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let mut parts = vec![bound.length];
        for (fixed, front) in [(axes.start..bound.axis, true), (bound.axis + 1..axes.end, false)] {
            let Some(fixed) = extents.get(fixed).filter(|f| !f.is_empty()) else { continue };
            let part = self.graph.add_constant("extents", Tensor::vector(fixed));
            parts.insert(if front { 0 } else { parts.len() }, part);
        }
        Some(self.helper(Concat { axis: 0 }, parts, vector(axes.len()), origin))
    }

    /// Adds the lengths of the graph's outputs behind its own.
    pub fn output_lengths(&mut self) {
        let own = self.graph.outputs.clone();
        let mut added: Vec<ValueId> = Vec::new();
        for (output, (name, v)) in own.iter().enumerate() {
            let Some(bound) = self.bounds.get(v) else { continue };
            let place = added.iter().position(|&l| l == bound.length).unwrap_or_else(|| {
                added.push(bound.length);
                self.graph.outputs.push((format!("length of {name}"), bound.length));
                added.len() - 1
            });
            let length = own.len() + place;
            self.graph.lengths.push(OutputLength { output, axis: bound.axis, length });
        }
    }
}

/// Known results cut to their lengths: nothing of them is left to a run.
pub(super) fn cut(results: Vec<Tensor>, lengths: &Lengths) -> Result<Vec<Tensor>, OpError> {
    let length_of = |k: usize| results.get(k).and_then(Tensor::to_i64_vec).and_then(|v| v.first().copied());
    let mut cut = results.clone();
    for (result, along) in cut.iter_mut().zip(&lengths.results) {
        let Some((axis, Length::Result(k))) = along.map(|a| (a.axis, a.length)) else { continue };
        let length = length_of(k).and_then(|n| usize::try_from(n).ok());
        *result = length
            .and_then(|n| result.truncated(axis, n))
            .ok_or_else(|| OpError::internal("a length beyond its maximum"))?;
    }
    Ok(cut)
}
