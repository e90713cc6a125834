//! [Dropout](https://onnx.ai/onnx/operators/onnx__Dropout.html) outside training: its operand, and a
//! mask that keeps everything.

use super::typed::{expect, from_floats, is_arithmetic_float, literal};
use super::walk::operand;
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// The operand itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// Whether the mask is of the operand's type rather than bool (before opset 10).
    pub typed_mask: bool,
    /// Whether the mask is asked for.
    pub mask: bool,
}

impl OnnxOp for Dropout {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Dropout", 1)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        // Only training draws random numbers.
        attrs.ignore(if node.opset < 12 { "ratio" } else { "seed" });
        if node.opset < 7 {
            // Said whether this was a training graph; exporters left it at its default of no test.
            attrs.ignore("is_test");
        }
        Ok(Dropout { typed_mask: node.opset < 10, mask: node.outputs.len() > 1 }.into())
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect(is_arithmetic_float(x.dtype) || x.dtype.is_float(), x.dtype)?;
        if let Some(training) = inputs.get(2) {
            match training.constant.and_then(Tensor::to_scalar_f64) {
                Some(0.0) => {}
                Some(_) => {
                    return Err(OpError::unsupported_help("training", "export the model for inference"));
                }
                None => return Err(OpError::NotConstant("training_mode".to_owned())),
            }
        }
        let mut types = vec![Type::new(x.dtype, x.shape.clone())];
        if self.mask {
            types.push(Type::new(self.mask_dtype(x.dtype), x.shape.clone()));
        }
        Ok(types)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let mut results = vec![x.clone()];
        if self.mask {
            let ones = std::iter::repeat_n(1.0, x.len());
            results.push(from_floats(self.mask_dtype(x.dtype()), x.shape().clone(), ones)?);
        }
        Ok(results)
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::View
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        if cx.output_type(0).is_some() {
            let x = cx.read(0)?;
            cx.alias(0, x)?;
        }
        if cx.output_type(1).is_some() {
            let mask = cx.write(1)?;
            cx.elementwise(&mask, &[], literal(mask.dtype, 1.0))?;
        }
        Ok(())
    }
}

impl Dropout {
    fn mask_dtype(&self, x: DType) -> DType {
        if self.typed_mask { x } else { DType::Bool }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, import, run};
    use super::*;
    use crate::onnx::Attr;

    #[test]
    fn keeps_everything() {
        let x = f32s(&[2], &[1.0, -2.0]);
        let old = import("Dropout", 7, &[("ratio", Attr::Float(0.3))], 1, 2).unwrap();
        assert_eq!(run(&old, &[Some(&x)], 2).unwrap(), [x.clone(), f32s(&[2], &[1.0, 1.0])]);
        let new = import("Dropout", 13, &[("seed", Attr::Int(1))], 3, 2).unwrap();
        let (ratio, off, on) = (f32s(&[], &[0.5]), Tensor::scalar(false), Tensor::scalar(true));
        let y = run(&new, &[Some(&x), Some(&ratio), Some(&off)], 2).unwrap();
        assert_eq!(y[1], Tensor::vector(&[true, true]));
        assert!(run(&new, &[Some(&x), Some(&ratio), Some(&on)], 2).is_err());
        assert_eq!(apply("Dropout", 13, &[], &[&x]).unwrap(), x);
    }
}
