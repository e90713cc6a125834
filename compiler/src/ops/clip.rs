//! [Clip](https://onnx.ai/onnx/operators/onnx__Clip.html): bounds as attributes (6) or operands (11).
//!
//! Where the lower bound exceeds the upper, the upper wins. NaN stays NaN.

use super::binary::{of_floats, of_ints};
use super::length::{Axes, elements};
use super::typed::{
    expect, expect_loop_type, expect_same, floats, from_floats, from_ints, ints, is_arithmetic_float,
    is_number, literal,
};
use super::walk::{operand, optional};
use super::{Inputs, LayoutRule, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::{BinaryFn, Expr};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// `min(max(x, low), high)`, each bound optional.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// Lower bound given as attribute; otherwise operand 1 holds it, if anything does.
    pub min: Option<f32>,
    /// Upper bound given as attribute; otherwise operand 2 holds it, if anything does.
    pub max: Option<f32>,
}

impl OnnxOp for Clip {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Clip", 1)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        // Reading attributes only where they exist makes them an error from opset 11 on.
        let (min, max) =
            if node.opset < 11 { (attrs.float("min")?, attrs.float("max")?) } else { (None, None) };
        Ok(Clip { min, max }.into())
    }
}

impl Op for Clip {
    fn name(&self) -> &'static str {
        "Clip"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect(is_number(x.dtype), x.dtype)?;
        for i in [1, 2] {
            let Some(bound) = inputs.get(i) else { continue };
            expect_same(x.dtype, bound.dtype)?;
            if bound.shape.elements() != 1 {
                return Err(OpError::invalid(format!(
                    "a bound is of shape {}, expected a scalar",
                    bound.shape
                )));
            }
        }
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn lengths(&self, _inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        elements(along)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let (dtype, shape) = (x.dtype(), x.shape().clone());
        let y = if is_arithmetic_float(dtype) {
            let (low, high) = self.bounds(optional(inputs, 1), optional(inputs, 2))?;
            let above = |v| low.map_or(v, |b| of_floats(BinaryFn::Max, v, b));
            let below = |v| high.map_or(v, |b| of_floats(BinaryFn::Min, v, b));
            from_floats(dtype, shape, floats(x)?.into_iter().map(|v| below(above(v))))?
        } else {
            let bound =
                |i| optional(inputs, i).map(ints).transpose().map(|v| v.and_then(|v| v.first().copied()));
            let (low, high) = (bound(1)?, bound(2)?);
            let above = |v| low.map_or(v, |b| of_ints(BinaryFn::Max, v, b, 0));
            let below = |v| high.map_or(v, |b| of_ints(BinaryFn::Min, v, b, 0));
            from_ints(dtype, shape, ints(x)?.into_iter().map(|v| below(above(v))))?
        };
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let mut reads = vec![cx.read(0)?];
        expect_loop_type(reads[0].dtype)?;
        let mut value = Expr::Read(0);
        for (i, attribute, f) in [(1, self.min, BinaryFn::Max), (2, self.max, BinaryFn::Min)] {
            let bound = if let Some(v) = attribute {
                literal(reads[0].dtype, v.into())
            } else if let Some(t) = cx.constant(i) {
                super::typed::literal_of(t).ok_or_else(|| OpError::internal("a bound is not a scalar"))?
            } else if cx.input_type(i).is_some() {
                let mut view = cx.read(i)?;
                // One element, whatever its rank: it broadcasts as a scalar.
                (view.shape, view.strides) = (Vec::new(), Vec::new());
                reads.push(view);
                Expr::Read(reads.len() - 1)
            } else {
                continue;
            };
            value = Expr::Binary(f, Box::new(value), Box::new(bound));
        }
        let y = cx.write(0)?;
        cx.elementwise(&y, &reads, value)
    }
}

impl Clip {
    /// Lower and upper bound of a float operand, from the attributes or from known operands 1 and 2.
    pub fn bounds(
        &self,
        min: Option<&Tensor>,
        max: Option<&Tensor>,
    ) -> Result<(Option<f64>, Option<f64>), OpError> {
        let scalar =
            |t: &Tensor| t.to_scalar_f64().ok_or_else(|| OpError::invalid("a bound is not a scalar"));
        let pick = |attribute: Option<f32>, t: Option<&Tensor>| match attribute {
            Some(v) => Ok(Some(v.into())),
            None => t.map(scalar).transpose(),
        };
        Ok((pick(self.min, min)?, pick(self.max, max)?))
    }

    /// The function applied to an expression and its bounds, where these are known or absent.
    pub fn expr(&self, dtype: DType, x: Expr, bounds: [Option<&Tensor>; 2]) -> Option<Expr> {
        let mut value = x;
        for (attribute, t, f) in [(self.min, bounds[0], BinaryFn::Max), (self.max, bounds[1], BinaryFn::Min)]
        {
            let bound = match (attribute, t) {
                (Some(v), _) => literal(dtype, v.into()),
                (None, Some(t)) => super::typed::literal_of(t)?,
                (None, None) => continue,
            };
            value = Expr::Binary(f, Box::new(value), Box::new(bound));
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, import, run};
    use super::*;
    use crate::onnx::Attr;

    #[test]
    fn bounds_as_attributes_and_operands() {
        let x = f32s(&[3], &[-2.0, 0.0, 2.0]);
        let attrs = [("min", Attr::Float(-1.0)), ("max", Attr::Float(1.0))];
        let expected = f32s(&[3], &[-1.0, 0.0, 1.0]);
        assert_eq!(apply("Clip", 6, &attrs, &[&x]).unwrap(), expected);
        let (low, high) = (f32s(&[], &[-1.0]), f32s(&[1], &[1.0]));
        assert_eq!(apply("Clip", 13, &[], &[&x, &low, &high]).unwrap(), expected);
        assert!(import("Clip", 13, &attrs, 1, 1).is_err(), "attributes ended with opset 11");
        let only_max = import("Clip", 13, &[], 3, 1).unwrap();
        let y = run(&only_max, &[Some(&x), None, Some(&high)], 1).unwrap();
        assert_eq!(y[0], f32s(&[3], &[-2.0, 0.0, 1.0]));
    }

    #[test]
    fn edge_cases() {
        let x = f32s(&[2], &[f32::NAN, 0.0]);
        let y = apply("Clip", 13, &[], &[&x, &f32s(&[], &[2.0]), &f32s(&[], &[1.0])]).unwrap();
        let y = y.as_slice::<f32>().unwrap();
        assert!(y[0].is_nan());
        assert_eq!(y[1], 1.0);
        let i = Tensor::vector(&[-5i8, 5]);
        assert_eq!(apply("Clip", 12, &[], &[&i, &Tensor::scalar(0i8)]).unwrap(), Tensor::vector(&[0i8, 5]));
        assert!(apply("Clip", 13, &[], &[&x, &f32s(&[2], &[0.0, 1.0])]).is_err());
    }
}
