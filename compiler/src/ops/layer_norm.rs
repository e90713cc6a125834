//! [LayerNormalization](https://onnx.ai/onnx/operators/onnx__LayerNormalization.html) and
//! [RMSNormalization](https://onnx.ai/onnx/operators/onnx__RMSNormalization.html): statistics over the
//! trailing axes.

use super::nest::{add, binary, mean, mean_square, mul, read_whole, scratch, single, unary, write_whole};
use super::number::{Number, expect_float, expect_same};
use super::typed::{cast, compute_dtype, literal};
use super::walk::{axis, broadcast_strides, operand, optional, positions};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor, broadcast};
use crate::kernel::expr::{BinaryFn, Expr, UnaryFn};
use crate::kernel::spec::{NormKind, NormSpec};
use crate::kernel::{Kernel, Operand};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Normalisation over the axes from `axis` on. Operands: `x`, `scale`, `bias` (optional; not for RMS),
/// which broadcast to `x`. Results: the values; for layers also the mean and the inverse deviation, with
/// extents of one at the normalised axes.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm {
    /// Which statistics.
    pub kind: NormKind,
    /// First normalised axis; may count from the end.
    pub axis: i64,
    /// Added to the variance.
    pub epsilon: f32,
    /// Type of the mean and the inverse deviation (`stash_type`).
    pub stash: DType,
}

impl OnnxOp for LayerNorm {
    // ONNX Runtime's optimiser writes the first into files of any version.
    const NAMES: &'static [OnnxName] =
        &[OnnxName::onnx("LayerNormalization", 1), OnnxName::onnx("RMSNormalization", 23)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let kind = if node.op_type == "LayerNormalization" { NormKind::Layer } else { NormKind::Rms };
        let code = attrs.int_or("stash_type", 1)?;
        let stash = super::cast::dtype_of(code)
            .filter(|&d| expect_float(d).is_ok())
            .ok_or_else(|| OpError::invalid(format!("`stash_type` is {code}")))?;
        Ok(LayerNorm {
            kind,
            axis: attrs.int_or("axis", -1)?,
            epsilon: attrs.float_or("epsilon", 1e-5)?,
            stash,
        }
        .into())
    }
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        match self.kind {
            NormKind::Layer => "LayerNormalization",
            NormKind::Rms => "RMSNormalization",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        let first = axis(self.axis, x.shape.rank())?;
        inputs.required(1)?;
        for (i, name) in [(1, "Scale"), (2, "B")] {
            let Some(v) = inputs.get(i) else { continue };
            expect_same(x.dtype, v.dtype, name)?;
            if broadcast([v.shape.dims(), x.shape.dims()]).as_ref() != Some(x.shape) {
                return Err(OpError::invalid(format!(
                    "`{name}` is {}, which does not broadcast to {}",
                    v.shape, x.shape
                )));
            }
        }
        let mut types = vec![Type::new(x.dtype, x.shape.clone())];
        if self.kind == NormKind::Layer {
            let statistics = Type::new(self.stash, statistics_shape(x.shape, first));
            types.extend([statistics.clone(), statistics]);
        }
        Ok(types)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let shape = x.shape();
        let first = axis(self.axis, shape.rank())?;
        let len: usize = shape.iter().skip(first).product();
        let along = |i: usize| {
            optional(inputs, i)
                .map(|t| {
                    let values = t.to_f64_vec().ok_or_else(|| OpError::internal("not numbers"))?;
                    let picks = positions(shape, &broadcast_strides(t.shape(), shape), 0);
                    Ok::<Vec<f64>, OpError>(picks.filter_map(|p| values.get(p).copied()).collect())
                })
                .transpose()
        };
        let (scale, bias) = (along(1)?, along(2)?);
        let mut values = x.to_f64_vec().ok_or_else(|| OpError::internal("not numbers"))?;
        let (mut means, mut inverses) = (Vec::new(), Vec::new());
        for row in values.chunks_mut(len.max(1)) {
            let n = row.len() as f64;
            let mean = match self.kind {
                NormKind::Layer => row.iter().sum::<f64>() / n,
                NormKind::Rms => 0.0,
            };
            let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
            let inverse = 1.0 / libm::sqrt(variance + f64::from(self.epsilon));
            row.iter_mut().for_each(|v| *v = (*v - mean) * inverse);
            means.push(mean);
            inverses.push(inverse);
        }
        let at = |v: &Option<Vec<f64>>, i: usize, default| {
            v.as_ref().and_then(|v| v.get(i)).copied().unwrap_or(default)
        };
        for (i, v) in values.iter_mut().enumerate() {
            *v = *v * at(&scale, i, 1.0) + at(&bias, i, 0.0);
        }
        let mut results = vec![super::typed::from_floats(x.dtype(), shape.clone(), values)?];
        if self.kind == NormKind::Layer {
            for v in [means, inverses] {
                results.push(super::typed::from_floats(self.stash, statistics_shape(shape, first), v)?);
            }
        }
        Ok(results)
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (dtype, shape) = cx.input_type(0).ok_or_else(|| OpError::internal("no operand"))?;
        let first = axis(self.axis, shape.rank())?;
        if shape.contains(&0) {
            for i in (0..3).filter(|&i| cx.output_type(i).is_some()).collect::<Vec<_>>() {
                cx.write(i)?;
            }
            return Ok(());
        }
        let normal: Vec<usize> = shape.iter().skip(first).copied().collect();
        let plain = |v: Option<(DType, &Shape)>| v.is_none_or(|(_, s)| is_row(s, &normal));
        let statistics = cx.output_type(1).is_some() || cx.output_type(2).is_some();
        if statistics || !single(dtype) || !plain(cx.input_type(1)) || !plain(cx.input_type(2)) {
            return self.lower_nests(cx, dtype, first);
        }
        let x = read_whole(cx, 0)?;
        let scale = row(cx, 1)?;
        let bias = row(cx, 2)?;
        let y = write_whole(cx, 0)?;
        let len: usize = normal.iter().product();
        cx.push(Kernel::Norm {
            spec: NormSpec {
                kind: self.kind,
                rows: shape.elements() / len,
                len,
                epsilon: self.epsilon,
                scale: scale.is_some(),
                bias: bias.is_some(),
            },
            x: x.operand,
            scale,
            bias,
            y: y.operand,
        });
        y.finish(cx)
    }
}

/// Extents of the mean and the inverse deviation.
fn statistics_shape(x: &[usize], first: usize) -> Shape {
    x.iter().enumerate().map(|(a, &d)| if a < first { d } else { 1 }).collect()
}

/// Whether a shape is that of one row, leading ones aside.
fn is_row(shape: &[usize], row: &[usize]) -> bool {
    let lead = shape.len().saturating_sub(row.len());
    shape.len() >= row.len() && shape[..lead].iter().all(|&d| d == 1) && &shape[lead..] == row
}

/// Scale or bias of one row, dense in `f32`.
fn row(cx: &mut LowerCx<'_>, i: usize) -> Result<Option<Operand>, OpError> {
    if cx.input_type(i).is_none() {
        return Ok(None);
    }
    if let Some(t) = cx.constant(i) {
        let values = f32::load(t)?;
        return Ok(Some(cx.blob("row", &values)));
    }
    Ok(Some(read_whole(cx, i)?.operand))
}

impl LayerNorm {
    /// Any types, any broadcasting, statistics as results: reductions into scratch, then one pass.
    fn lower_nests(&self, cx: &mut LowerCx<'_>, dtype: DType, first: usize) -> Result<(), OpError> {
        let x = cx.read(0)?;
        let axes: Vec<usize> = (first..x.shape.len()).collect();
        let compute = compute_dtype(dtype);
        let center = match self.kind {
            NormKind::Layer => Some(mean(cx, &x, &axes)?),
            NormKind::Rms => None,
        };
        let variance = mean_square(cx, &x, center.as_ref(), &axes)?;
        let inverse = scratch(cx, "inverse", compute, &variance.shape)?;
        let deviation = unary(UnaryFn::Sqrt, add(Expr::Read(0), literal(compute, self.epsilon.into())));
        cx.elementwise(&inverse, &[variance], unary(UnaryFn::Reciprocal, deviation))?;
        for (i, view) in [(1, center.as_ref()), (2, Some(&inverse))] {
            if let (Some(_), Some(view)) = (cx.output_type(i), view) {
                let to = cx.write(i)?;
                let value = cast(compute, compute_dtype(to.dtype), Expr::Read(0));
                cx.elementwise(&to, std::slice::from_ref(view), value)?;
            }
        }
        if cx.output_type(0).is_none() {
            return Ok(());
        }
        let mut reads = vec![x, inverse];
        let mut value = Expr::Read(0);
        if let Some(center) = center {
            value = binary(BinaryFn::Sub, value, Expr::Read(reads.len()));
            reads.push(center);
        }
        value = mul(value, Expr::Read(1));
        for (i, f) in [(1, BinaryFn::Mul), (2, BinaryFn::Add)] {
            if cx.input_type(i).is_some() {
                value = binary(f, value, Expr::Read(reads.len()));
                let v = cx.read(i)?;
                reads.push(v);
            }
        }
        let y = cx.write(0)?;
        cx.elementwise(&y, &reads, value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, import, run};
    use super::*;
    use crate::onnx::Attr;

    #[test]
    fn rows_have_zero_mean_and_unit_variance() {
        let x = f32s(&[2, 2], &[1., 3., 10., 30.]);
        let (scale, bias) = (f32s(&[2], &[1., 2.]), f32s(&[2], &[0., 5.]));
        let y =
            apply("LayerNormalization", 17, &[("epsilon", Attr::Float(0.0))], &[&x, &scale, &bias]).unwrap();
        assert_eq!(y, f32s(&[2, 2], &[-1., 7., -1., 7.]));
    }

    #[test]
    fn statistics_are_results() {
        let op =
            import("LayerNormalization", 17, &[("epsilon", Attr::Float(0.0)), ("axis", Attr::Int(0))], 2, 3);
        let (x, one) = (f32s(&[1, 2], &[1., 5.]), f32s(&[1], &[1.]));
        let y = run(&op.unwrap(), &[Some(&x), Some(&one)], 3).unwrap();
        assert_eq!(y, [f32s(&[1, 2], &[-1., 1.]), f32s(&[1, 1], &[3.]), f32s(&[1, 1], &[0.5])]);
    }

    #[test]
    fn root_mean_square() {
        let x = f32s(&[1, 4], &[2., -2., 2., -2.]);
        let scale = f32s(&[4], &[1., 1., 3., 3.]);
        let y = apply("RMSNormalization", 23, &[("epsilon", Attr::Float(0.0))], &[&x, &scale]).unwrap();
        assert_eq!(y, f32s(&[1, 4], &[1., -1., 3., -3.]));
    }

    #[test]
    fn which_shapes_are_rows() {
        assert!(is_row(&[1, 4], &[4]) && is_row(&[2, 3], &[2, 3]));
        assert!(!is_row(&[3], &[2, 3]) && !is_row(&[2, 4], &[4]));
    }
}
