//! [Shape](https://onnx.ai/onnx/operators/onnx__Shape.html) and Size: extents as values, known from the
//! operand's type.

use super::walk::operand;
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape as Extents, Tensor};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// What is told of the operand's extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Those from `start` to `end`, clamped; may count from the end.
    Extents {
        /// First axis.
        start: i64,
        /// Behind the last axis; the rank where absent.
        end: Option<i64>,
    },
    /// Their product.
    Size,
}

impl OnnxOp for Shape {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Shape", 1), OnnxName::onnx("Size", 1)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(match node.op_type {
            "Size" => Shape::Size,
            _ if node.opset < 15 => Shape::Extents { start: 0, end: None },
            _ => Shape::Extents { start: attrs.int_or("start", 0)?, end: attrs.int("end")? },
        }
        .into())
    }
}

impl Op for Shape {
    fn name(&self) -> &'static str {
        match self {
            Shape::Extents { .. } => "Shape",
            Shape::Size => "Size",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        Ok(vec![Type::new(DType::I64, self.of(inputs.required(0)?.shape).shape().clone())])
    }

    fn known(&self, inputs: &Inputs<'_>) -> Option<Vec<Tensor>> {
        Some(vec![self.of(inputs.get(0)?.shape)])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![self.of(operand(inputs, 0)?.shape())])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::View
    }

    fn lower(&self, _cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        Err(OpError::internal(format!("{} was not folded, though its value follows from types", self.name())))
    }
}

impl Shape {
    /// Axes of an operand of this rank that the result tells of.
    pub fn axes(&self, rank: usize) -> std::ops::Range<usize> {
        let Shape::Extents { start, end } = self else { return 0..rank };
        let all = rank as i64;
        let axis = |a: i64| (if a < 0 { a.saturating_add(all) } else { a }).clamp(0, all) as usize;
        axis(*start)..end.map_or(rank, axis)
    }

    fn of(&self, x: &Extents) -> Tensor {
        if *self == Shape::Size {
            return Tensor::scalar(x.elements() as i64);
        }
        let axes = self.axes(x.rank());
        let extents: Vec<i64> = x.iter().take(axes.end).skip(axes.start).map(|&d| d as i64).collect();
        Tensor::vector(&extents)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Fact;
    use super::super::testing::{apply, i64s};
    use super::*;
    use crate::onnx::Attr;

    #[test]
    fn extents_and_size() {
        let x = Tensor::full::<f32>([2, 3, 4], 0.0);
        assert_eq!(apply("Shape", 13, &[], &[&x]).unwrap(), i64s(&[3], &[2, 3, 4]));
        let part =
            |s, e| apply("Shape", 15, &[("start", Attr::Int(s)), ("end", Attr::Int(e))], &[&x]).unwrap();
        assert_eq!(part(-2, i64::MAX), i64s(&[2], &[3, 4]));
        assert_eq!(part(i64::MIN, -1), i64s(&[2], &[2, 3]));
        assert_eq!(part(2, 1), i64s(&[0], &[]));
        assert_eq!(apply("Size", 13, &[], &[&x]).unwrap(), i64s(&[], &[24]));
    }

    #[test]
    fn known_without_the_value() {
        let shape = Extents::from([5, 6]);
        let facts = [Some(Fact { dtype: DType::F32, shape: &shape, constant: None })];
        assert_eq!(Shape::Size.known(&Inputs::new(&facts, 1)), Some(vec![Tensor::scalar(30i64)]));
    }
}
