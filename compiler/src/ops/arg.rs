//! [ArgMax](https://onnx.ai/onnx/operators/onnx__ArgMax.html) and ArgMin: where along an axis the
//! extremum stands. The first NaN counts as the extremum.

use super::reduce::{Groups, nest, with_reduced_axes};
use super::typed::{compute_dtype, expect, floats, from_ints, ints, is_arithmetic_float, is_number};
use super::walk::{axis, operand};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::{Expr, ReduceOp};
use crate::kernel::loops::Reduction;
use crate::kernel::{Kernel, Loops};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Position of the extremum along an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// The largest instead of the smallest.
    pub max: bool,
    /// May count from the end.
    pub axis: i64,
    /// Whether the axis stays with extent 1.
    pub keepdims: bool,
    /// The last of equals instead of the first.
    pub last: bool,
}

impl OnnxOp for Arg {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("ArgMax", 1), OnnxName::onnx("ArgMin", 1)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Arg {
            max: node.op_type == "ArgMax",
            axis: attrs.int_or("axis", 0)?,
            keepdims: attrs.int_or("keepdims", 1)? != 0,
            last: node.opset >= 12 && attrs.int_or("select_last_index", 0)? != 0,
        }
        .into())
    }
}

impl Op for Arg {
    fn name(&self) -> &'static str {
        if self.max { "ArgMax" } else { "ArgMin" }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect(is_number(x.dtype), x.dtype)?;
        let at = axis(self.axis, x.shape.rank())?;
        if x.shape.get(at) == Some(&0) {
            return Err(OpError::invalid(format!("axis {at} of {} has no elements", x.shape)));
        }
        Ok(vec![Type::new(DType::I64, self.shape(x.shape, at))])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let at = axis(self.axis, x.shape().rank())?;
        let shape = self.shape(x.shape(), at);
        let groups = Groups::new(x.shape(), &[at]);
        let y = if is_arithmetic_float(x.dtype()) {
            from_ints(DType::I64, shape, groups.of(&floats(x)?).map(|g| self.position(&g)))?
        } else {
            from_ints(DType::I64, shape, groups.of(&ints(x)?).map(|g| self.position(&g)))?
        };
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        if self.keepdims { LayoutRule::Follow } else { LayoutRule::View }
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read(0)?;
        let at = axis(self.axis, x.shape.len())?;
        let mut y = cx.write(0)?;
        if y.shape.contains(&0) {
            return Ok(());
        }
        if !self.keepdims {
            y = with_reduced_axes(&y, &x, &[at]);
        }
        let op = if self.max {
            ReduceOp::ArgMax { last: self.last }
        } else {
            ReduceOp::ArgMin { last: self.last }
        };
        let reduction = Reduction { op, dtype: compute_dtype(x.dtype), value: Expr::Read(0) };
        let nest = nest(&x, None, &y, &[at], reduction, Expr::Acc(0));
        cx.push(Kernel::Loops(Loops { nests: vec![nest] }));
        Ok(())
    }
}

impl Arg {
    fn shape(&self, x: &Shape, at: usize) -> Shape {
        let kept = x.iter().enumerate().filter(|&(a, _)| self.keepdims || a != at);
        kept.map(|(a, &d)| if a == at { 1 } else { d }).collect()
    }

    #[allow(clippy::eq_op)] // a value that differs from itself is NaN
    fn position<T: PartialOrd + Copy>(&self, group: &[T]) -> i128 {
        let mut best: Option<(usize, T)> = None;
        for (i, &x) in group.iter().enumerate() {
            let wins = match best {
                None => true,
                Some((_, b)) if b != b => false,
                Some(_) if x != x => true,
                Some((_, b)) => (if self.max { x > b } else { x < b }) || self.last && x == b,
            };
            if wins {
                best = Some((i, x));
            }
        }
        best.map_or(0, |(i, _)| i as i128)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s};
    use crate::onnx::Attr;

    #[test]
    fn ties_nan_and_axes() {
        let x = f32s(&[2, 3], &[1.0, 3.0, 3.0, 2.0, 0.0, 0.0]);
        let at = |axis, last| [("axis", Attr::Int(axis)), ("select_last_index", Attr::Int(last))];
        assert_eq!(apply("ArgMax", 13, &at(1, 0), &[&x]).unwrap(), i64s(&[2, 1], &[1, 0]));
        assert_eq!(apply("ArgMax", 13, &at(-1, 1), &[&x]).unwrap(), i64s(&[2, 1], &[2, 0]));
        assert_eq!(apply("ArgMin", 13, &at(1, 1), &[&x]).unwrap(), i64s(&[2, 1], &[0, 2]));
        let flat = [("keepdims", Attr::Int(0))];
        assert_eq!(apply("ArgMin", 13, &flat, &[&x]).unwrap(), i64s(&[3], &[0, 1, 1]));
        let nan = f32s(&[4], &[1.0, f32::NAN, 9.0, f32::NAN]);
        assert_eq!(apply("ArgMax", 13, &[], &[&nan]).unwrap(), i64s(&[1], &[1]));
        assert!(apply("ArgMax", 13, &at(1, 0), &[&f32s(&[2, 0], &[])]).is_err());
        assert!(apply("ArgMax", 11, &at(0, 0), &[&x]).is_err(), "select_last_index came with opset 12");
    }
}
