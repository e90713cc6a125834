//! [Concat](https://onnx.ai/onnx/operators/onnx__Concat.html): operands side by side along an axis.
//!
//! The schedule may let producers write into their part of the result; then nothing is left to copy.

use super::length::{Axes, none, of};
use super::typed::expect_same;
use super::views::{same_place, sliced};
use super::walk::{axis, checked_type, pick_from};
use super::{Inputs, LayoutRule, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Joins its operands along `axis`.
#[derive(Debug, Clone, PartialEq)]
pub struct Concat {
    /// May count from the end.
    pub axis: i64,
}

impl OnnxOp for Concat {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Concat", 1)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let axis = attrs.int("axis")?.or((node.opset < 4).then_some(1));
        Ok(Concat { axis: AttrReader::required("axis", axis)? }.into())
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let first = inputs.required(0)?;
        let mut shapes = Vec::new();
        for i in 0..inputs.len() {
            let x = inputs.required(i)?;
            expect_same(first.dtype, x.dtype)?;
            shapes.push(x.shape);
        }
        Ok(vec![checked_type(first.dtype, self.joined(&shapes)?)?])
    }

    fn lengths(&self, inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        let Some(axis_of) = of(along, 0) else { return none(along) };
        let at = axis(self.axis, inputs.required(0)?.shape.rank())?;
        match along.iter().all(|a| *a == Some(axis_of)) && axis_of != at {
            true => Ok(Lengths::same(axis_of).moved()),
            false => none(along),
        }
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let all: Vec<&Tensor> = inputs.iter().copied().flatten().collect();
        let shapes: Vec<&Shape> = all.iter().map(|t| t.shape()).collect();
        let shape = self.joined(&shapes)?;
        let at = axis(self.axis, shape.rank())?;
        let outer: usize = shape.iter().take(at).product();
        // Per outer index, each operand gives one contiguous run.
        let runs: Vec<usize> = shapes.iter().map(|s| s.iter().skip(at).product()).collect();
        let picks = (0..outer).flat_map(|o| {
            runs.iter()
                .enumerate()
                .flat_map(move |(source, &run)| (o * run..(o + 1) * run).map(move |p| (source, p)))
        });
        Ok(vec![pick_from(&all, shape.clone(), picks)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Join { axis: self.axis }
    }

    fn on_texts(&self, operands: &[Option<&[String]>]) -> Option<OpKind> {
        let same = operands.windows(2).all(|pair| pair.first() == pair.last());
        (same && operands.iter().all(Option::is_some)).then(|| self.clone().into())
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let y = cx.write(0)?;
        let at = axis(self.axis, y.shape.len())?;
        let mut start = 0;
        for i in 0..cx.node().inputs.len() {
            let x = cx.read(i)?;
            let len = x.shape.get(at).copied().unwrap_or(0);
            let part = sliced(&y, at, start, len, 1)?;
            start += len;
            if !x.shape.contains(&0) && !same_place(&x, &part) {
                cx.copy(&x, &part)?;
            }
        }
        Ok(())
    }
}

impl Concat {
    fn joined(&self, shapes: &[&Shape]) -> Result<Shape, OpError> {
        let first = shapes.first().ok_or_else(|| OpError::invalid("no operands"))?;
        let at = axis(self.axis, first.rank())?;
        let mut dims = first.to_vec();
        for shape in shapes.iter().skip(1) {
            let fits = shape.rank() == dims.len()
                && shape.iter().zip(&dims).enumerate().all(|(i, (a, b))| i == at || a == b);
            if !fits {
                return Err(OpError::invalid(format!("{shape} does not join {first} along axis {at}")));
            }
            if let (Some(total), Some(&d)) = (dims.get_mut(at), shape.get(at)) {
                *total = total.saturating_add(d);
            }
        }
        Ok(Shape::from(dims))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s, import};
    use crate::onnx::Attr;

    #[test]
    fn joins_along_any_axis() {
        let (a, b) = (i64s(&[2, 2], &[1, 2, 3, 4]), i64s(&[2, 1], &[5, 6]));
        let last = [("axis", Attr::Int(-1))];
        assert_eq!(apply("Concat", 13, &last, &[&a, &b]).unwrap(), i64s(&[2, 3], &[1, 2, 5, 3, 4, 6]));
        let first = [("axis", Attr::Int(0))];
        assert_eq!(apply("Concat", 13, &first, &[&a, &a]).unwrap(), i64s(&[4, 2], &[1, 2, 3, 4, 1, 2, 3, 4]));
        assert_eq!(apply("Concat", 13, &first, &[&i64s(&[0, 2], &[]), &a]).unwrap(), a);
        assert!(apply("Concat", 13, &first, &[&a, &b]).is_err());
        assert!(apply("Concat", 13, &last, &[&a, &f32s(&[2, 1], &[1.0, 2.0])]).is_err());
        assert!(apply("Concat", 13, &[("axis", Attr::Int(2))], &[&a]).is_err());
        assert!(import("Concat", 13, &[], 2, 1).is_err());
    }
}
