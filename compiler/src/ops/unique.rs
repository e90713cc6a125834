//! [Unique](https://onnx.ai/onnx/operators/onnx__Unique.html): the different elements of a tensor, or the different
//! slices along an axis; at most as many as there are. NaN equals NaN and stands behind all numbers, as in NumPy.

use super::composite::{Composite, INTERNAL, Script};
use super::length::{Axes, none};
use super::nest::{read_as, scratch};
use super::number::class;
use super::typed::{compute_dtype, ints, is_arithmetic_float};
use super::walk::{axis, operand};
use super::{Along, Body, Inputs, Length, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;
use std::cmp::Ordering;

/// Operand: `x`. Results: the unique slices, the first position of each, for each slice of `x` its position among the
/// unique ones, and how often each is there.
pub struct Unique;

impl Composite for Unique {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Unique", 11)];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let (at, sorted) = (attrs.int("axis")?, attrs.int_or("sorted", 1)?);
        let x = inputs.required(0)?;
        let mut s = Script::new(&["x"]);
        let (all, at) = match at {
            Some(at) => ("x".to_owned(), axis(at, x.shape.rank())?),
            None => (s.reshape("x", &[x.shape.elements()]), 0),
        };
        let places = s.ops(&format!("{INTERNAL}.FirstPlaces <axis = {at}, sorted = {sorted}>"), &[&all], 3);
        let [first, back, counts] = places.as_slice() else { return Err(OpError::internal("three results")) };
        let y = s.op(&format!("{INTERNAL}.Take <axis = {at}>"), &[&all, first]);
        s.finish(&[&y, first, back, counts])
    }
}

/// Operand: `x`. Results, of as many elements as the axis has but the last: the first position of each unique slice,
/// each slice's place among the unique ones, how often each is there, and their number.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstPlaces {
    /// The axis.
    pub axis: usize,
    /// In ascending order, or in that of their first positions.
    pub sorted: bool,
}

impl OnnxOp for FirstPlaces {
    const NAMES: &'static [OnnxName] = &[OnnxName { domain: INTERNAL, op_type: "FirstPlaces", since: 1 }];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let at = attrs.int_or("axis", 0)?;
        let at = usize::try_from(at).map_err(|_| OpError::internal("an axis from the end"))?;
        Ok(FirstPlaces { axis: at, sorted: attrs.int_or("sorted", 1)? != 0 }.into())
    }
}

impl FirstPlaces {
    /// Extents in front of, along and behind the axis.
    fn split(&self, x: &[usize]) -> Result<[usize; 3], OpError> {
        match x.split_at_checked(self.axis) {
            Some((outer, [len, inner @ ..])) => Ok([outer.iter().product(), *len, inner.iter().product()]),
            _ => Err(OpError::internal("no such axis")),
        }
    }
}

impl Op for FirstPlaces {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        if x.dtype != DType::Bool {
            class(x.dtype)?;
        }
        let [_, len, _] = self.split(x.shape)?;
        let places = Type::new(DType::I64, [len]);
        Ok(vec![places.clone(), places.clone(), places, Type::new(DType::I64, [1])])
    }

    fn lengths(&self, _inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        none(along)?;
        let own = Some(Along { axis: 0, length: Length::Result(3) });
        Ok(Lengths { results: vec![own, None, own], ..Lengths::default() })
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let [outer, len, inner] = self.split(x.shape())?;
        let float = is_arithmetic_float(x.dtype());
        let real = x.to_f64_vec().ok_or_else(|| OpError::internal("not numbers"))?;
        let wide = if float || x.dtype() == DType::Bool { Vec::new() } else { ints(x)? };
        let element = |a: usize, b: usize| match (wide.get(a), wide.get(b)) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => {
                let (a, b) = (real[a], real[b]);
                a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            }
        };
        let slice = |a: usize, b: usize| {
            let cells = (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i)));
            let each = |(o, i): (usize, usize)| element((o * len + a) * inner + i, (o * len + b) * inner + i);
            cells.map(each).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        };
        let mut order: Vec<usize> = (0..len).collect();
        order.sort_by(|&a, &b| slice(a, b).then(a.cmp(&b)));
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for l in order {
            match groups.last_mut() {
                Some(group) if slice(group[0], l).is_eq() => group.push(l),
                _ => groups.push(vec![l]),
            }
        }
        if !self.sorted {
            groups.sort_by_key(|g| g[0]);
        }
        let mut results = [vec![0i64; len], vec![0i64; len], vec![0i64; len]];
        for (g, group) in groups.iter().enumerate() {
            results[0][g] = group[0] as i64;
            results[2][g] = group.len() as i64;
            group.iter().for_each(|&l| results[1][l] = g as i64);
        }
        let mut all: Vec<Tensor> = results.iter().map(|r| Tensor::vector(r)).collect();
        all.push(Tensor::vector(&[groups.len() as i64]));
        Ok(all)
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (dtype, shape) = cx.input_type(0).ok_or_else(|| OpError::internal("no operand"))?;
        let [outer, len, inner] = self.split(shape)?;
        let wide = if dtype == DType::Bool { DType::U8 } else { compute_dtype(dtype) };
        let x = read_as(cx, 0, wide)?;
        let mut writes = Vec::new();
        for (i, extent) in [len, len, len, 1].into_iter().enumerate() {
            writes.push(match cx.output_type(i) {
                Some(_) => cx.write_dense(i)?.operand,
                None => scratch(cx, "unused", DType::I64, &[extent])?.operand,
            });
        }
        writes.push(scratch(cx, "order", DType::I64, &[len])?.operand);
        let params = [outer, len, inner].map(Param::Usize).into_iter().chain([Param::Bool(self.sorted)]);
        cx.push(Kernel::Routine(Routine {
            function: "places::unique",
            reads: vec![x.operand],
            writes,
            params: params.collect(),
            fallible: false,
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run_at;
    use super::super::testing::{f32s, i64s};

    #[test]
    fn elements_in_order_or_as_they_come() {
        let x = f32s(&[6], &[2., 1., 1., f32::NAN, 3., f32::NAN]);
        let y = run_at(11, "Unique", &[Some(&x)], 4).unwrap();
        assert_eq!(y[0].as_slice::<f32>().unwrap()[..3], [1., 2., 3.]);
        assert_eq!(
            y[1..],
            [i64s(&[4], &[1, 0, 4, 3]), i64s(&[6], &[1, 0, 0, 3, 2, 3]), i64s(&[4], &[2, 1, 1, 2])]
        );
        let y = run_at(11, "Unique <sorted = 0>", &[Some(&x)], 4).unwrap();
        assert_eq!(
            y[1..],
            [i64s(&[4], &[0, 1, 3, 4]), i64s(&[6], &[0, 1, 1, 2, 3, 2]), i64s(&[4], &[1, 2, 2, 1])]
        );
    }

    #[test]
    fn slices_along_an_axis() {
        let x = i64s(&[3, 3], &[1, 0, 0, 1, 0, 0, 2, 3, 4]);
        let y = run_at(11, "Unique <axis = 0>", &[Some(&x)], 4).unwrap();
        assert_eq!(y[0], i64s(&[2, 3], &[1, 0, 0, 2, 3, 4]));
        let y = run_at(11, "Unique <axis = -1>", &[Some(&x)], 4).unwrap();
        assert_eq!(y[0], i64s(&[3, 3], &[0, 0, 1, 0, 0, 1, 3, 4, 2]));
        assert_eq!(y[1], i64s(&[3], &[1, 2, 0]));
    }
}
