//! [BatchNormalization](https://onnx.ai/onnx/operators/onnx__BatchNormalization.html), inference form:
//! training mode, its outputs and `spatial = 0` (opset 7) are refused.

use super::nest::{add, along_axis, binary, mul, scratch, unary};
use super::number::{Number, by_class, expect_float};
use super::typed::{compute_dtype, literal};
use super::walk::operand;
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::{BinaryFn, Expr, UnaryFn};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};

/// `(x - mean) / sqrt(var + epsilon) · scale + bias` per channel (axis 1).
///
/// Operands: `x[N, C, …]`, then `scale`, `bias`, `mean`, `var`, each `[C]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f32,
}

impl OnnxOp for BatchNorm {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("BatchNormalization", 1),
        OnnxName::onnx("BatchNormalization", 7),
        OnnxName::onnx("BatchNormalization", 9),
        OnnxName::onnx("BatchNormalization", 14),
        OnnxName::onnx("BatchNormalization", 15),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        attrs.ignore("momentum");
        if node.opset < 9 && attrs.int_or("spatial", 1)? == 0 {
            return Err(OpError::unsupported("batch normalisation with `spatial` = 0"));
        }
        let training = match node.opset {
            ..7 => attrs.int_or("is_test", 0)? == 0,
            7..14 => false,
            14.. => attrs.int_or("training_mode", 0)? != 0,
        };
        if training {
            return Err(OpError::unsupported_help(
                "batch normalisation in training mode",
                "export the model in evaluation mode",
            ));
        }
        if node.outputs.iter().skip(1).any(|&present| present) {
            return Err(OpError::unsupported("training outputs of batch normalisation"));
        }
        Ok(BatchNorm { epsilon: attrs.float_or("epsilon", 1e-5)? }.into())
    }
}

/// A batch normalisation as `x·factor + offset` per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// `scale / sqrt(var + epsilon)`.
    pub factor: Vec<f64>,
    /// `bias - mean·factor`.
    pub offset: Vec<f64>,
}

impl BatchNorm {
    /// Factor and offset of known operands: `scale`, `bias`, `mean`, `var`; `None` where lengths differ
    /// or an operand is not numeric.
    pub fn affine(&self, operands: [&Tensor; 4]) -> Option<Affine> {
        let [scale, bias, mean, var] = operands.map(Tensor::to_f64_vec);
        let (scale, bias, mean, var) = (scale?, bias?, mean?, var?);
        if bias.len() != scale.len() || mean.len() != scale.len() || var.len() != scale.len() {
            return None;
        }
        let epsilon = f64::from(self.epsilon);
        let factor: Vec<f64> = scale.iter().zip(&var).map(|(s, v)| s / libm::sqrt(v + epsilon)).collect();
        let offset = bias.iter().zip(&mean).zip(&factor).map(|((b, m), f)| b - m * f).collect();
        Some(Affine { factor, offset })
    }
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        // One axis alone is a batch of single-channel values.
        let channels = match x.shape.dims() {
            [] => return Err(OpError::invalid("`X` is a scalar")),
            [_] => 1,
            [_, c, ..] => *c,
        };
        for (i, name) in ["scale", "B", "input_mean", "input_var"].into_iter().enumerate() {
            let v = inputs.required(i + 1)?;
            expect_float(v.dtype)?;
            if v.shape.dims() != [channels] {
                return Err(OpError::invalid(format!("`{name}` is {}, expected [{channels}]", v.shape)));
            }
        }
        let same = |i: usize, j: usize| inputs.get(i).map(|f| f.dtype) == inputs.get(j).map(|f| f.dtype);
        if !same(1, 2) || !same(3, 4) {
            return Err(OpError::invalid("`scale` and `B`, or `input_mean` and `input_var`, differ in type"));
        }
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let affine = self
            .affine([operand(inputs, 1)?, operand(inputs, 2)?, operand(inputs, 3)?, operand(inputs, 4)?])
            .ok_or_else(|| OpError::internal("statistics of different lengths"))?;
        let inner: usize = x.shape().iter().skip(2).product();
        let channels = affine.factor.len();
        let y = by_class!(x.dtype(), N => {
            let mut y = N::load(x)?.into_owned();
            for (plane, values) in y.chunks_mut(inner.max(1)).enumerate() {
                let c = plane % channels.max(1);
                for v in values {
                    *v = N::of(v.wide() * affine.factor[c] + affine.offset[c]);
                }
            }
            N::store(y, x.dtype(), x.shape().clone())?
        });
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (dtype, shape) = cx.input_type(0).ok_or_else(|| OpError::internal("no operand"))?;
        let (compute, rank) = (compute_dtype(dtype), shape.rank());
        let (factor, offset) = self.vectors(cx, compute)?;
        let x = cx.read(0)?;
        let y = cx.write(0)?;
        let reads = if rank < 2 {
            [x, along_axis(&factor, 0, 1), along_axis(&offset, 0, 1)]
        } else {
            [x, along_axis(&factor, 1, rank), along_axis(&offset, 1, rank)]
        };
        cx.elementwise(&y, &reads, add(mul(Expr::Read(0), Expr::Read(1)), Expr::Read(2)))
    }
}

impl BatchNorm {
    /// Factor and offset per channel, in the type that the result computes in.
    fn vectors(&self, cx: &mut LowerCx<'_>, compute: DType) -> Result<(TensorView, TensorView), OpError> {
        let known: Vec<&Tensor> = (1..5).filter_map(|i| cx.constant(i)).collect();
        if let Some(a) = <[&Tensor; 4]>::try_from(known).ok().and_then(|known| self.affine(known)) {
            let view = |cx: &mut LowerCx<'_>, name, values: &[f64]| {
                let operand = match compute {
                    DType::F64 => cx.blob(name, values),
                    _ => cx.blob(name, &values.iter().map(|&v| v as f32).collect::<Vec<f32>>()),
                };
                let (shape, strides) = (vec![values.len()], vec![1]);
                TensorView { operand, dtype: compute, shape, offset: 0, strides }
            };
            return Ok((view(cx, "factor", &a.factor), view(cx, "offset", &a.offset)));
        }
        let mut views = Vec::new();
        for i in 1..5 {
            let v = cx.read(i)?;
            // Statistics may be of another type than the values.
            if compute_dtype(v.dtype) == compute {
                views.push(v);
            } else {
                let wide = scratch(cx, "statistic", compute, &v.shape)?;
                let value = super::typed::cast(compute_dtype(v.dtype), compute, Expr::Read(0));
                cx.elementwise(&wide, &[v], value)?;
                views.push(wide);
            }
        }
        let [scale, bias, mean, var] =
            <[TensorView; 4]>::try_from(views).map_err(|_| OpError::internal("four statistics were read"))?;
        let factor = scratch(cx, "factor", compute, &scale.shape)?;
        let deviation = unary(UnaryFn::Sqrt, add(Expr::Read(1), literal(compute, self.epsilon.into())));
        let value = binary(BinaryFn::Div, Expr::Read(0), deviation);
        cx.elementwise(&factor, &[scale, var], value)?;
        let offset = scratch(cx, "offset", compute, &bias.shape)?;
        let value = binary(BinaryFn::Sub, Expr::Read(0), mul(Expr::Read(1), Expr::Read(2)));
        cx.elementwise(&offset, &[bias, mean, factor.clone()], value)?;
        Ok((factor, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Fact;

    #[test]
    fn normalises_per_channel() {
        let op = BatchNorm { epsilon: 0.0 };
        let x = Tensor::new::<f32>([1, 2, 2], vec![1., 3., 10., 20.]).unwrap();
        let v = |a: f32, b: f32| Tensor::vector(&[a, b]);
        let (scale, bias, mean, var) = (v(1., 2.), v(0., 5.), v(1., 10.), v(4., 25.));
        let operands = [&x, &scale, &bias, &mean, &var];
        let y = op.eval(&operands.map(Some)).unwrap();
        assert_eq!(y[0].to_f64_vec(), Some(vec![0., 1., 5., 9.]));
        let facts = operands.map(|t| Some(Fact { dtype: t.dtype(), shape: t.shape(), constant: None }));
        assert_eq!(op.infer(&Inputs::new(&facts, 1)).unwrap(), [Type::new(DType::F32, [1, 2, 2])]);
    }

    #[test]
    fn epsilon_joins_the_variance() {
        let one = Tensor::vector(&[1f32]);
        let zero = Tensor::vector(&[0f32]);
        let a = BatchNorm { epsilon: 3.0 }.affine([&one, &zero, &one, &one]).unwrap();
        assert_eq!(a, Affine { factor: vec![0.5], offset: vec![-0.5] });
    }
}
