//! [InstanceNormalization](https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html) and
//! [GroupNormalization](https://onnx.ai/onnx/operators/onnx__GroupNormalization.html): statistics per
//! image and group of channels.

use super::nest::{add, along_axis, binary, mean, mean_square, mul, scratch, unary};
use super::number::{expect_float, expect_same};
use super::typed::{compute_dtype, from_floats, literal};
use super::views::split;
use super::walk::operand;
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::Tensor;
use crate::kernel::expr::{BinaryFn, Expr, UnaryFn};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};

/// `(x - mean) / sqrt(var + epsilon) · scale + bias`. Operands: `x[N, C, …]`, `scale`, `bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupNorm {
    /// Groups of channels; `None`: each channel is one (instance normalisation).
    pub groups: Option<usize>,
    /// Scale and bias are per group, not per channel (GroupNormalization of opset 18).
    pub per_group: bool,
    /// Added to the variance.
    pub epsilon: f32,
}

impl OnnxOp for GroupNorm {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("InstanceNormalization", 1),
        OnnxName::onnx("InstanceNormalization", 22),
        OnnxName::onnx("GroupNormalization", 18),
        OnnxName::onnx("GroupNormalization", 21),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let epsilon = attrs.float_or("epsilon", 1e-5)?;
        if node.op_type == "InstanceNormalization" {
            return Ok(GroupNorm { groups: None, per_group: false, epsilon }.into());
        }
        let groups = AttrReader::required("num_groups", attrs.int("num_groups")?)?;
        let groups = usize::try_from(groups)
            .ok()
            .filter(|&g| g > 0)
            .ok_or_else(|| OpError::invalid(format!("`num_groups` is {groups}")))?;
        // The precision of the statistics: they are never less precise than single here.
        attrs.ignore("stash_type");
        Ok(GroupNorm { groups: Some(groups), per_group: node.opset < 21, epsilon }.into())
    }
}

impl GroupNorm {
    /// Groups, and channels of each.
    fn split(&self, x: &[usize]) -> Result<[usize; 2], OpError> {
        let [_, channels, _, ..] = x else {
            return Err(OpError::invalid("`X` needs a batch, a channel and a spatial axis"));
        };
        let groups = self.groups.unwrap_or(*channels);
        match channels.checked_rem(groups) {
            Some(0) => Ok([groups, channels / groups]),
            // No channels, no groups.
            None => Ok([0, 0]),
            _ => Err(OpError::invalid(format!("{channels} channels in {groups} groups"))),
        }
    }
}

impl Op for GroupNorm {
    fn name(&self) -> &'static str {
        if self.groups.is_some() { "GroupNormalization" } else { "InstanceNormalization" }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        let [groups, channels] = self.split(x.shape)?;
        let len = if self.per_group { groups } else { groups * channels };
        for (i, name) in [(1, "scale"), (2, "B")] {
            let v = inputs.required(i)?;
            expect_same(x.dtype, v.dtype, name)?;
            if v.shape.dims() != [len] {
                return Err(OpError::invalid(format!("`{name}` is {}, expected [{len}]", v.shape)));
            }
        }
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let numbers = |t: &Tensor| t.to_f64_vec().ok_or_else(|| OpError::internal("not numbers"));
        let (scale, bias) = (numbers(operand(inputs, 1)?)?, numbers(operand(inputs, 2)?)?);
        let [groups, channels] = self.split(x.shape())?;
        let space: usize = x.shape().iter().skip(2).product();
        let mut values = numbers(x)?;
        for (i, group) in values.chunks_mut((channels * space).max(1)).enumerate() {
            let n = group.len() as f64;
            let mean = group.iter().sum::<f64>() / n;
            let variance = group.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
            let inverse = 1.0 / libm::sqrt(variance + f64::from(self.epsilon));
            for (j, plane) in group.chunks_mut(space.max(1)).enumerate() {
                let g = i % groups.max(1);
                let at = if self.per_group { g } else { g * channels + j };
                for v in plane {
                    *v = (*v - mean) * inverse * scale[at] + bias[at];
                }
            }
        }
        Ok(vec![from_floats(x.dtype(), x.shape().clone(), values)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (dtype, shape) = cx.input_type(0).ok_or_else(|| OpError::internal("no operand"))?;
        let parts = self.split(shape)?;
        if shape.contains(&0) {
            return cx.write(0).map(|_| ());
        }
        let compute = compute_dtype(dtype);
        let x = split(&cx.read(0)?, 1, &parts)?;
        let y = split(&cx.write(0)?, 1, &parts)?;
        let rank = x.shape.len();
        let axes: Vec<usize> = (2..rank).collect();
        let center = mean(cx, &x, &axes)?;
        let variance = mean_square(cx, &x, Some(&center), &axes)?;
        let inverse = scratch(cx, "inverse", compute, &variance.shape)?;
        let deviation = unary(UnaryFn::Sqrt, add(Expr::Read(0), literal(compute, self.epsilon.into())));
        cx.elementwise(&inverse, &[variance], unary(UnaryFn::Reciprocal, deviation))?;
        let per_channel = |v: &TensorView| -> Result<TensorView, OpError> {
            if self.per_group {
                return Ok(along_axis(v, 1, rank));
            }
            split(&along_axis(v, 1, rank - 1), 1, &parts)
        };
        let (scale, bias) = (cx.read(1)?, cx.read(2)?);
        let reads = [x, center, inverse, per_channel(&scale)?, per_channel(&bias)?];
        let value = mul(binary(BinaryFn::Sub, Expr::Read(0), Expr::Read(1)), Expr::Read(2));
        cx.elementwise(&y, &reads, add(mul(value, Expr::Read(3)), Expr::Read(4)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};
    use crate::onnx::Attr;

    #[test]
    fn instances_and_groups() {
        let x = f32s(&[1, 2, 2], &[1., 3., 10., 30.]);
        let (scale, bias) = (f32s(&[2], &[1., 2.]), f32s(&[2], &[0., 1.]));
        let exact = ("epsilon", Attr::Float(0.0));
        let y =
            apply("InstanceNormalization", 6, std::slice::from_ref(&exact), &[&x, &scale, &bias]).unwrap();
        assert_eq!(y, f32s(&[1, 2, 2], &[-1., 1., -1., 3.]));
        // One group: mean 2, deviation 1 over all four.
        let x = f32s(&[1, 2, 2], &[1., 3., 3., 1.]);
        let attrs = [exact, ("num_groups", Attr::Int(1))];
        let y = apply("GroupNormalization", 21, &attrs, &[&x, &scale, &bias]).unwrap();
        assert_eq!(y, f32s(&[1, 2, 2], &[-1., 1., 3., -1.]));
        let (scale, bias) = (f32s(&[1], &[3.]), f32s(&[1], &[1.]));
        let y = apply("GroupNormalization", 18, &attrs, &[&x, &scale, &bias]).unwrap();
        assert_eq!(y, f32s(&[1, 2, 2], &[-2., 4., 4., -2.]));
    }

    #[test]
    fn groups_must_divide_the_channels() {
        let (x, v) = (f32s(&[1, 3, 1], &[0.; 3]), f32s(&[3], &[0.; 3]));
        assert!(apply("GroupNormalization", 21, &[("num_groups", Attr::Int(2))], &[&x, &v, &v]).is_err());
    }
}
