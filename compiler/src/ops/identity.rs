//! [Identity](https://onnx.ai/onnx/operators/onnx__Identity.html).

use super::length::{self, Axes, Lengths};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::Tensor;
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// The operand itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity;

impl OnnxOp for Identity {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Identity", 1)];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Identity.into())
    }
}

impl Op for Identity {
    fn name(&self) -> &'static str {
        "Identity"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn lengths(&self, _inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        Ok(length::elements(along)?.moved())
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs.first().copied().flatten().ok_or_else(|| OpError::internal("operand 0 is missing"))?;
        Ok(vec![x.clone()])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::View
    }

    fn on_texts(&self, operands: &[Option<&[String]>]) -> Option<OpKind> {
        super::facts::only_first(operands).then(|| self.clone().into())
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read(0)?;
        cx.alias(0, x)
    }
}
