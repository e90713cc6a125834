//! [Transpose](https://onnx.ai/onnx/operators/onnx__Transpose.html): a view with permuted strides.

use super::length::{Axes, of};
use super::views::permuted;
use super::walk::{axes, operand, pick, positions, strides};
use super::{Inputs, LayoutRule, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Axis `k` of the result is axis `perm[k]` of the operand.
#[derive(Debug, Clone, PartialEq)]
pub struct Transpose {
    /// Reversed order where absent.
    pub perm: Option<Vec<usize>>,
}

impl OnnxOp for Transpose {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Transpose", 1)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let perm = attrs.ints("perm")?.map(|p| axes(&p, p.len())).transpose()?;
        Ok(Transpose { perm }.into())
    }
}

impl Op for Transpose {
    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        let perm = self.order(x.shape.rank())?;
        Ok(vec![Type::new(x.dtype, permute(x.shape, &perm))])
    }

    fn lengths(&self, inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        let Some(axis) = of(along, 0) else { return Ok(Lengths::default()) };
        let to = self.order(inputs.required(0)?.shape.rank())?.iter().position(|&p| p == axis);
        Ok(Lengths::same(to.unwrap_or(axis)).moved())
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let perm = self.order(x.shape().rank())?;
        let steps = strides(x.shape());
        let steps: Vec<isize> = perm.iter().filter_map(|&p| steps.get(p).copied()).collect();
        let shape = permute(x.shape(), &perm);
        Ok(vec![pick(x, shape.clone(), positions(&shape, &steps, 0))?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::View
    }

    fn on_texts(&self, operands: &[Option<&[String]>]) -> Option<OpKind> {
        super::facts::only_first(operands).then(|| self.clone().into())
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read(0)?;
        let view = permuted(&x, &self.order(x.shape.len())?)?;
        cx.alias(0, view)
    }
}

impl Transpose {
    /// The permutation for an operand of this rank.
    pub fn order(&self, rank: usize) -> Result<Vec<usize>, OpError> {
        match &self.perm {
            None => Ok((0..rank).rev().collect()),
            Some(p) if p.len() == rank => Ok(p.clone()),
            Some(p) => Err(OpError::invalid(format!("`perm` has {} entries for a rank of {rank}", p.len()))),
        }
    }
}

fn permute(shape: &Shape, perm: &[usize]) -> Shape {
    perm.iter().filter_map(|&p| shape.get(p).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, i64s, import};
    use crate::onnx::Attr;

    #[test]
    fn permutes_any_axes() {
        let x = i64s(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(apply("Transpose", 13, &[], &[&x]).unwrap(), i64s(&[3, 2], &[1, 4, 2, 5, 3, 6]));
        let x = x.reshaped([1, 2, 3]).unwrap();
        let perm = [("perm", Attr::Ints(vec![2, 0, 1]))];
        assert_eq!(apply("Transpose", 13, &perm, &[&x]).unwrap(), i64s(&[3, 1, 2], &[1, 4, 2, 5, 3, 6]));
        assert!(apply("Transpose", 13, &perm, &[&i64s(&[1], &[1])]).is_err());
        assert!(import("Transpose", 13, &[("perm", Attr::Ints(vec![0, 0]))], 1, 1).is_err());
        assert_eq!(apply("Transpose", 13, &[], &[&i64s(&[], &[7])]).unwrap(), i64s(&[], &[7]));
    }
}
