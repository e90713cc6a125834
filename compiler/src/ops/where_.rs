//! [Where](https://onnx.ai/onnx/operators/onnx__Where.html): a choice per element, with broadcasting.

use super::length::{Axes, broadcast};
use super::typed::{bools, expect, expect_loop_type, expect_same};
use super::walk::{broadcast_shape, broadcast_strides, checked_type, operand, pick_from, positions};
use super::{Inputs, LayoutRule, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::Expr;
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// `condition ? x : y`.
#[derive(Debug, Clone, PartialEq)]
pub struct Where;

impl OnnxOp for Where {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Where", 9)];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Where.into())
    }
}

impl Op for Where {
    fn name(&self) -> &'static str {
        "Where"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (c, x, y) = (inputs.required(0)?, inputs.required(1)?, inputs.required(2)?);
        expect(c.dtype == DType::Bool, c.dtype)?;
        expect_same(x.dtype, y.dtype)?;
        Ok(vec![checked_type(x.dtype, broadcast_shape([c.shape, x.shape, y.shape])?)?])
    }

    fn lengths(&self, inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        broadcast(inputs, along)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (c, x, y) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
        let shape = broadcast_shape([c.shape(), x.shape(), y.shape()])?;
        let walk = |t: &Tensor| positions(&shape, &broadcast_strides(t.shape(), &shape), 0);
        let conditions = bools(c)?;
        let picks = walk(c).zip(walk(x)).zip(walk(y)).map(|((c, x), y)| match conditions.get(c) {
            Some(true) => (0, x),
            _ => (1, y),
        });
        Ok(vec![pick_from(&[x, y], shape.clone(), picks)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let reads = [cx.read(0)?, cx.read(1)?, cx.read(2)?];
        let out = cx.write(0)?;
        expect_loop_type(out.dtype)?;
        let dtypes = [reads[0].dtype, reads[1].dtype, reads[2].dtype];
        let value = self
            .expr(&dtypes, (0..3).map(Expr::Read).collect())
            .ok_or_else(|| OpError::internal("a choice between two operands"))?;
        cx.elementwise(&out, &reads, value)
    }
}

impl Where {
    /// The choice between two expressions; `dtypes` are the operands' element types.
    pub fn expr(&self, _dtypes: &[DType], args: Vec<Expr>) -> Option<Expr> {
        let [c, x, y] = <[Expr; 3]>::try_from(args).ok()?;
        Some(Expr::Select(Box::new(c), Box::new(x), Box::new(y)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s};
    use super::*;

    #[test]
    fn chooses_and_broadcasts() {
        let c = Tensor::new::<bool>([2, 1], vec![true, false]).unwrap();
        let (x, y) = (i64s(&[2], &[1, 2]), i64s(&[], &[9]));
        assert_eq!(apply("Where", 9, &[], &[&c, &x, &y]).unwrap(), i64s(&[2, 2], &[1, 2, 9, 9]));
        assert!(apply("Where", 16, &[], &[&x, &x, &y]).is_err(), "the condition is bool");
        assert!(apply("Where", 16, &[], &[&c, &x, &f32s(&[], &[1.0])]).is_err());
    }
}
