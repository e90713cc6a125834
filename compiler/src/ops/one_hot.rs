//! [OneHot](https://onnx.ai/onnx/operators/onnx__OneHot.html): a new axis that is "on" where an index says.
//!
//! The depth must be known at compile time. Indices outside it switch nothing on.

use super::typed::{cast, expect, expect_loop_type, floats, ints, is_number};
use super::walk::{axis, checked_type, operand, pick_from, positions, strides};
use super::{Fact, Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::{BinaryFn, CompareFn, Expr, Scalar};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};

/// Operands: indices, depth, `[off, on]`.
#[derive(Debug, Clone, PartialEq)]
pub struct OneHot {
    /// Where the new axis stands in the result; may count from the end.
    pub axis: i64,
    /// Whether negative indices count from the end (since opset 11).
    pub from_end: bool,
}

impl OnnxOp for OneHot {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("OneHot", 9)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(OneHot { axis: attrs.int_or("axis", -1)?, from_end: node.opset >= 11 }.into())
    }
}

impl Op for OneHot {
    fn name(&self) -> &'static str {
        "OneHot"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (indices, depth, values) = (inputs.required(0)?, inputs.required(1)?, inputs.required(2)?);
        expect(is_number(indices.dtype), indices.dtype)?;
        let Fact { constant: Some(depth), .. } = depth else {
            return Err(OpError::NotConstant("depth".to_owned()));
        };
        if values.shape.dims() != [2] {
            return Err(OpError::invalid(format!("values are of shape {}, expected [2]", values.shape)));
        }
        Ok(vec![checked_type(values.dtype, self.shape(indices.shape, depth)?)?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (indices, values) = (operand(inputs, 0)?, operand(inputs, 2)?);
        let shape = self.shape(indices.shape(), operand(inputs, 1)?)?;
        let at = axis(self.axis, shape.rank())?;
        let depth = shape.get(at).copied().unwrap_or(0) as i128;
        let list: Vec<i128> = if indices.dtype().is_float() {
            floats(indices)?.into_iter().map(|v| v as i128).collect()
        } else {
            ints(indices)?
        };
        let (mut over, mut along) = (strides(indices.shape()), vec![0; shape.rank()]);
        over.insert(at, 0);
        if let Some(s) = along.get_mut(at) {
            *s = 1;
        }
        let picks = positions(&shape, &over, 0).zip(positions(&shape, &along, 0)).map(|(i, k)| {
            let index = list.get(i).copied().unwrap_or(-1);
            let index = if index < 0 && self.from_end { index + depth } else { index };
            (0, usize::from(index == k as i128))
        });
        Ok(vec![pick_from(&[values], shape.clone(), picks)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::View
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (mut indices, values, y) = (cx.read(0)?, cx.read(2)?, cx.write(0)?);
        expect_loop_type(y.dtype)?;
        let at = axis(self.axis, y.shape.len())?;
        let depth = y.shape.get(at).copied().unwrap_or(0) as i64;
        indices.shape.insert(at, 1);
        indices.strides.insert(at, 0);
        let step = values.strides.first().copied().unwrap_or(1);
        let off = TensorView { shape: Vec::new(), strides: Vec::new(), ..values };
        let on = TensorView { offset: off.offset.saturating_add_signed(step), ..off.clone() };
        let int = |v| Box::new(Expr::Const(Scalar::Int(DType::I64, v)));
        let index = cast(indices.dtype, DType::I64, Expr::Read(0));
        let index = if self.from_end {
            let negative = Expr::Compare(CompareFn::Less, Box::new(index.clone()), int(0));
            let wrapped = Expr::Binary(BinaryFn::Add, Box::new(index.clone()), int(depth));
            Expr::Select(Box::new(negative), Box::new(wrapped), Box::new(index))
        } else {
            index
        };
        let hit = Expr::Compare(CompareFn::Equal, Box::new(index), Box::new(Expr::Index(at)));
        let value = Expr::Select(Box::new(hit), Box::new(Expr::Read(2)), Box::new(Expr::Read(1)));
        cx.elementwise(&y, &[indices, off, on], value)
    }
}

impl OneHot {
    fn shape(&self, indices: &Shape, depth: &Tensor) -> Result<Shape, OpError> {
        let depth = depth.to_scalar_f64().filter(|d| (1.0..9e15).contains(d));
        let depth = depth.ok_or_else(|| OpError::invalid("the depth is not a positive scalar"))?;
        let mut dims = indices.to_vec();
        dims.insert(axis(self.axis, dims.len() + 1)?, depth as usize);
        Ok(Shape::from(dims))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s};
    use crate::onnx::Attr;

    #[test]
    fn switches_on() {
        let (i, depth, values) = (i64s(&[3], &[1, -1, 7]), i64s(&[], &[3]), f32s(&[2], &[0.0, 5.0]));
        let y = apply("OneHot", 11, &[], &[&i, &depth, &values]).unwrap();
        assert_eq!(y, f32s(&[3, 3], &[0.0, 5.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0]));
        let front = [("axis", Attr::Int(0))];
        let y =
            apply("OneHot", 9, &front, &[&f32s(&[2], &[1.0, -1.0]), &f32s(&[1], &[2.0]), &values]).unwrap();
        assert_eq!(y, f32s(&[2, 2], &[0.0, 0.0, 5.0, 0.0]), "before opset 11 negative indices are off");
        assert!(apply("OneHot", 11, &[], &[&i, &i64s(&[], &[0]), &values]).is_err());
        assert!(apply("OneHot", 11, &[], &[&i, &i64s(&[], &[i64::MAX]), &values]).is_err());
    }
}
