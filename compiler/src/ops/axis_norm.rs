//! [LpNormalization](https://onnx.ai/onnx/operators/onnx__LpNormalization.html) and
//! [MeanVarianceNormalization](https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html):
//! normalisation over given axes without scale.

use super::nest::{Reduce, add, binary, mean, mean_square, mul, scratch, unary};
use super::number::expect_float;
use super::typed::{compute_dtype, from_floats, literal};
use super::walk::{axes, operand, positions, strides};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{Shape, Tensor};
use crate::kernel::expr::{BinaryFn, CompareFn, Expr, ReduceOp, UnaryFn};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Added to the deviation, as the operator's function body has it.
const EPSILON: f64 = 1e-9;

/// What values are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The sum of magnitudes; 0 stays 0.
    L1,
    /// The root of the sum of squares; 0 stays 0.
    L2,
    /// The deviation, with the mean subtracted first.
    MeanVariance,
}

/// Normalisation over axes.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisNorm {
    /// What values are divided by.
    pub kind: Kind,
    /// The axes; may count from the end.
    pub axes: Vec<i64>,
}

impl OnnxOp for AxisNorm {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("LpNormalization", 1),
        OnnxName::onnx("LpNormalization", 22),
        OnnxName::onnx("MeanVarianceNormalization", 9),
        OnnxName::onnx("MeanVarianceNormalization", 13),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        if node.op_type == "MeanVarianceNormalization" {
            let axes = attrs.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
            return Ok(AxisNorm { kind: Kind::MeanVariance, axes }.into());
        }
        let kind = match attrs.int_or("p", 2)? {
            1 => Kind::L1,
            2 => Kind::L2,
            p => return Err(OpError::invalid(format!("`p` is {p}, expected 1 or 2"))),
        };
        Ok(AxisNorm { kind, axes: vec![attrs.int_or("axis", -1)?] }.into())
    }
}

impl Op for AxisNorm {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::MeanVariance => "MeanVarianceNormalization",
            Kind::L1 | Kind::L2 => "LpNormalization",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        axes(&self.axes, x.shape.rank())?;
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let axes = axes(&self.axes, x.shape().rank())?;
        let mut values = x.to_f64_vec().ok_or_else(|| OpError::internal("not numbers"))?;
        // Positions of the slices' first elements, and of a slice's elements relative to them.
        let extents = |inside: bool| -> Vec<usize> {
            x.shape()
                .iter()
                .enumerate()
                .map(|(a, &d)| if axes.contains(&a) == inside { d } else { 1 })
                .collect()
        };
        let steps = strides(x.shape());
        let inner: Vec<usize> = positions(&extents(true), &steps, 0).collect();
        for start in positions(&extents(false), &steps, 0) {
            let slice: Vec<f64> = inner.iter().filter_map(|p| values.get(start + p).copied()).collect();
            let n = slice.len() as f64;
            let (center, divisor) = match self.kind {
                Kind::L1 => (0.0, slice.iter().map(|v| libm::fabs(*v)).sum()),
                Kind::L2 => (0.0, libm::sqrt(slice.iter().map(|v| v * v).sum())),
                Kind::MeanVariance => {
                    let mean = slice.iter().sum::<f64>() / n;
                    let variance = slice.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
                    (mean, libm::sqrt(variance) + EPSILON)
                }
            };
            for (p, v) in inner.iter().zip(slice) {
                if let Some(to) = values.get_mut(start + p) {
                    *to = if divisor == 0.0 { 0.0 } else { (v - center) / divisor };
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
        let axes = axes(&self.axes, shape.rank())?;
        let x = cx.read(0)?;
        let y = cx.write(0)?;
        if shape.contains(&0) {
            return Ok(());
        }
        let compute = compute_dtype(dtype);
        let divided = || binary(BinaryFn::Div, Expr::Read(0), Expr::Read(1));
        if self.kind == Kind::MeanVariance {
            let center = mean(cx, &x, &axes)?;
            let variance = mean_square(cx, &x, Some(&center), &axes)?;
            let deviation = add(unary(UnaryFn::Sqrt, Expr::Read(2)), literal(compute, EPSILON));
            let distance = binary(BinaryFn::Sub, Expr::Read(0), Expr::Read(1));
            return cx.elementwise(&y, &[x, center, variance], binary(BinaryFn::Div, distance, deviation));
        }
        let kept: Shape =
            shape.iter().enumerate().map(|(a, &d)| if axes.contains(&a) { 1 } else { d }).collect();
        let norm = scratch(cx, "norm", compute, &kept)?;
        let (value, finish) = match self.kind {
            Kind::L1 => (unary(UnaryFn::Abs, Expr::Read(0)), Expr::Acc(0)),
            _ => (mul(Expr::Read(0), Expr::Read(0)), unary(UnaryFn::Sqrt, Expr::Acc(0))),
        };
        Reduce { x: &x, extra: &[], axes: &axes, op: ReduceOp::Sum, value, finish }.emit(cx, &norm)?;
        let zero = || literal(compute, 0.0);
        let empty = Expr::Compare(CompareFn::Equal, Box::new(Expr::Read(1)), Box::new(zero()));
        cx.elementwise(&y, &[x, norm], Expr::Select(Box::new(empty), Box::new(zero()), Box::new(divided())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};
    use crate::onnx::Attr;

    #[test]
    fn norms_along_an_axis() {
        let x = f32s(&[2, 2], &[3., 4., 0., 0.]);
        let y = apply("LpNormalization", 1, &[], &[&x]).unwrap();
        assert_eq!(y, f32s(&[2, 2], &[0.6, 0.8, 0., 0.]));
        let attrs = [("p", Attr::Int(1)), ("axis", Attr::Int(0))];
        let x = f32s(&[2, 2], &[1., 2., -3., 2.]);
        assert_eq!(
            apply("LpNormalization", 22, &attrs, &[&x]).unwrap(),
            f32s(&[2, 2], &[0.25, 0.5, -0.75, 0.5])
        );
    }

    #[test]
    fn mean_and_variance_over_batch_and_space() {
        let x = f32s(&[2, 2, 1, 1], &[1., 10., 3., 30.]);
        let y = apply("MeanVarianceNormalization", 13, &[], &[&x]).unwrap();
        assert_eq!(y, f32s(&[2, 2, 1, 1], &[-1., -1., 1., 1.]));
    }
}
