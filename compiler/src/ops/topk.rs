//! [TopK](https://onnx.ai/onnx/operators/onnx__TopK.html). `K` must be known at compile time; the results
//! are in order even where the model does not ask for that. Of equals the lower position comes first;
//! NaN counts as the largest value.

use super::nest::{dense_copy, scratch, single};
use super::number::class;
use super::typed::{from_floats, from_ints, ints, is_arithmetic_float};
use super::walk::{axis, checked_type, operand, optional};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::Expr;
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;
use std::cmp::Ordering;

/// The `k` largest or smallest values along an axis. Operands: `x`, `K` (where not an attribute).
/// Results: the values, and their positions on the axis as `i64`.
#[derive(Debug, Clone, PartialEq)]
pub struct TopK {
    /// `k` where it is an attribute (opset below 10).
    pub k: Option<i64>,
    /// The axis; may count from the end.
    pub axis: i64,
    /// The largest, or the smallest.
    pub largest: bool,
}

impl OnnxOp for TopK {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("TopK", 1),
        OnnxName::onnx("TopK", 10),
        OnnxName::onnx("TopK", 11),
        OnnxName::onnx("TopK", 24),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let axis = attrs.int_or("axis", -1)?;
        let k = if node.opset < 10 { Some(AttrReader::required("k", attrs.int("k")?)?) } else { None };
        let largest = node.opset < 11 || attrs.int_or("largest", 1)? != 0;
        if node.opset >= 11 {
            attrs.ignore("sorted");
        }
        Ok(TopK { k, axis, largest }.into())
    }
}

impl TopK {
    /// `k`, checked against the extent of the axis.
    fn count(&self, operand: Option<Vec<i64>>, extent: usize) -> Result<usize, OpError> {
        let k = match (self.k, operand.as_deref()) {
            (Some(k), _) => k,
            (None, Some(&[k])) => k,
            _ => return Err(OpError::invalid("`K` must hold one value")),
        };
        usize::try_from(k)
            .ok()
            .filter(|&k| k <= extent)
            .ok_or_else(|| OpError::invalid(format!("`K` is {k} on an axis of {extent}")))
    }

    /// Extents before, along and behind the axis, and the axis itself.
    fn split(&self, x: &[usize]) -> Result<([usize; 3], usize), OpError> {
        let at = axis(self.axis, x.len())?;
        let (outer, rest) = x.split_at(at);
        let len = rest.first().copied().unwrap_or(1);
        Ok(([outer.iter().product(), len, rest.iter().skip(1).product()], at))
    }
}

impl Op for TopK {
    fn name(&self) -> &'static str {
        "TopK"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        class(x.dtype)?;
        let ([_, len, _], at) = self.split(x.shape)?;
        let k = self.count(inputs.known_ints(1, "K")?, len)?;
        let mut shape = x.shape.to_vec();
        shape[at] = k;
        Ok(vec![checked_type(x.dtype, shape.clone())?, Type::new(DType::I64, shape)])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let ([outer, len, inner], at) = self.split(x.shape())?;
        let k = self.count(optional(inputs, 1).and_then(Tensor::to_i64_vec), len)?;
        let float = is_arithmetic_float(x.dtype());
        // Integers compare exactly, floats by value with NaN on top.
        let wide = if float { Vec::new() } else { ints(x)? };
        let real = x.to_f64_vec().ok_or_else(|| OpError::internal("not numbers"))?;
        let rank = |a: usize, b: usize| -> Ordering {
            if !float {
                return wide[a].cmp(&wide[b]);
            }
            let (a, b) = (real[a], real[b]);
            a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        };
        let mut places = vec![0usize; outer * k * inner];
        let mut sources = places.clone();
        for o in 0..outer {
            for i in 0..inner {
                let from = |l: usize| (o * len + l) * inner + i;
                let mut order: Vec<usize> = (0..len).collect();
                // The sort is stable: equals stay in order.
                order.sort_by(|&a, &b| {
                    let by = rank(from(a), from(b));
                    if self.largest { by.reverse() } else { by }
                });
                for (n, l) in order.into_iter().take(k).enumerate() {
                    places[(o * k + n) * inner + i] = l;
                    sources[(o * k + n) * inner + i] = from(l);
                }
            }
        }
        let mut shape = x.shape().to_vec();
        shape[at] = k;
        let values = if float {
            from_floats(x.dtype(), shape.clone(), sources.iter().map(|&s| real[s]))?
        } else {
            from_ints(x.dtype(), shape.clone(), sources.iter().map(|&s| wide[s]))?
        };
        Ok(vec![values, Tensor::new::<i64>(shape, places.iter().map(|&p| p as i64).collect::<Vec<_>>())?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (dtype, shape) = cx.input_type(0).ok_or_else(|| OpError::internal("no operand"))?;
        let ([outer, len, inner], at) = self.split(shape)?;
        let k = self.count(cx.constant(1).and_then(Tensor::to_i64_vec), len)?;
        let mut result = shape.to_vec();
        result[at] = k;
        if result.contains(&0) {
            for i in (0..2).filter(|&i| cx.output_type(i).is_some()).collect::<Vec<_>>() {
                cx.write(i)?;
            }
            return Ok(());
        }
        // Half types are ranked in `f32`, which holds them exactly.
        let half = single(dtype) && dtype != DType::F32;
        let x = if half {
            let x = cx.read(0)?;
            dense_copy(cx, &x)?
        } else {
            cx.read_dense(0)?
        };
        let values = match cx.output_type(0) {
            Some(_) if !half => cx.write_dense(0)?,
            _ => scratch(cx, "values", x.dtype, &result)?,
        };
        let places = match cx.output_type(1) {
            Some(_) => cx.write_dense(1)?,
            None => scratch(cx, "positions", DType::I64, &result)?,
        };
        cx.push(Kernel::Routine(Routine {
            function: "topk::topk",
            reads: vec![x.operand],
            writes: vec![values.operand, places.operand],
            params: [outer, len, inner, k]
                .map(Param::Usize)
                .into_iter()
                .chain([Param::Bool(self.largest)])
                .collect(),
            fallible: false,
        }));
        if half && cx.output_type(0).is_some() {
            let y = cx.write(0)?;
            cx.elementwise(&y, &[values], Expr::Read(0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{f32s, i64s, import, run};
    use crate::onnx::Attr;

    #[test]
    fn best_first_and_lower_positions_first() {
        let x = f32s(&[2, 4], &[1., 5., 5., 2., f32::NAN, 0., -1., 7.]);
        let k = i64s(&[1], &[2]);
        let op = import("TopK", 11, &[("sorted", Attr::Int(0))], 2, 2).unwrap();
        let y = run(&op, &[Some(&x), Some(&k)], 2).unwrap();
        assert_eq!(y[1], i64s(&[2, 2], &[1, 2, 0, 3]));
        assert_eq!(y[0].as_slice::<f32>().unwrap()[..2], [5., 5.]);
        let op = import("TopK", 11, &[("largest", Attr::Int(0)), ("axis", Attr::Int(0))], 2, 2).unwrap();
        let y = run(&op, &[Some(&i64s(&[2, 2], &[3, 1, 2, i64::MAX])), Some(&i64s(&[1], &[1]))], 2).unwrap();
        assert_eq!(y, [i64s(&[1, 2], &[2, 1]), i64s(&[1, 2], &[1, 0])]);
    }

    #[test]
    fn counts_are_checked() {
        let x = f32s(&[3], &[1., 2., 3.]);
        let op = import("TopK", 10, &[], 2, 2).unwrap();
        for k in [4, -1] {
            assert!(run(&op, &[Some(&x), Some(&i64s(&[1], &[k]))], 2).is_err());
        }
        let old = import("TopK", 7, &[("k", Attr::Int(1))], 1, 2).unwrap();
        assert_eq!(run(&old, &[Some(&x)], 2).unwrap()[1], i64s(&[1], &[2]));
    }
}
