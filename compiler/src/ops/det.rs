//! [Det](https://onnx.ai/onnx/operators/onnx__Det.html): determinants of square matrices.

use super::nest::{dense_copy, scratch, single};
use super::number::expect_float;
use super::typed::{floats, from_floats};
use super::walk::operand;
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::Expr;
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// The determinant of each `[n, n]` in `[…, n, n]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Det;

impl OnnxOp for Det {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Det", 11), OnnxName::onnx("Det", 22)];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Det.into())
    }
}

/// Leading extents, and that of a matrix.
fn split(x: &[usize]) -> Result<(&[usize], usize), OpError> {
    match x {
        [batch @ .., a, b] if a == b => Ok((batch, *a)),
        _ => Err(OpError::invalid(format!("{x:?} are no square matrices"))),
    }
}

impl Op for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        Ok(vec![Type::new(x.dtype, split(x.shape)?.0)])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let (batch, n) = split(x.shape())?;
        let values = floats(x)?;
        let count = batch.iter().product();
        let results = (0..count).map(|b| determinant(values.get(b * n * n..).unwrap_or_default(), n));
        Ok(vec![from_floats(x.dtype(), batch, results.collect::<Vec<f64>>())?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (dtype, shape) = cx.input_type(0).ok_or_else(|| OpError::internal("no operand"))?;
        let (batch, n) = split(shape)?;
        let (count, batch) = (batch.iter().product::<usize>(), batch.to_vec());
        // Half types are computed in `f32`.
        let half = single(dtype) && dtype != DType::F32;
        let x = if half {
            let x = cx.read(0)?;
            dense_copy(cx, &x)?
        } else {
            cx.read_dense(0)?
        };
        let y = if half { scratch(cx, "determinants", x.dtype, &batch)? } else { cx.write_dense(0)? };
        let work = cx.scratch("matrix", x.dtype, n * n);
        if count > 0 {
            cx.push(Kernel::Routine(Routine {
                function: "det::det",
                reads: vec![x.operand],
                writes: vec![y.operand, work],
                params: vec![Param::Usize(count), Param::Usize(n)],
                fallible: false,
            }));
        }
        if half {
            let out = cx.write(0)?;
            cx.elementwise(&out, &[y], Expr::Read(0))?;
        }
        Ok(())
    }
}

/// By rows: each is freed of those before it, and what is left on the diagonal multiplies up.
fn determinant(x: &[f64], n: usize) -> f64 {
    let mut rows: Vec<Vec<f64>> = x.chunks(n.max(1)).take(n).map(<[f64]>::to_vec).collect();
    let mut result = 1.0;
    for at in 0..n {
        let size = |row: &Vec<f64>| row.get(at).map_or(0.0, |v| v.abs());
        let best = (at..rows.len()).max_by(|&a, &b| size(&rows[a]).total_cmp(&size(&rows[b]))).unwrap_or(at);
        if best != at {
            rows.swap(at, best);
            result = -result;
        }
        let (done, rest) = rows.split_at_mut(at + 1);
        let Some(own) = done.last() else { return result };
        let Some(&pivot) = own.get(at) else { return result };
        result *= pivot;
        if pivot == 0.0 {
            return result;
        }
        for row in rest {
            let factor = row.get(at).map_or(0.0, |v| v / pivot);
            row.iter_mut().zip(own).skip(at).for_each(|(x, o)| *x -= factor * o);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};

    #[test]
    fn small_matrices() {
        let det = |shape: &[usize], x: &[f32]| apply("Det", 11, &[], &[&f32s(shape, x)]);
        assert_eq!(det(&[2, 2], &[0., 1., 2., 3.]).unwrap(), f32s(&[], &[-2.]));
        let two = [2., 0., 0., 0., 0., 3., 0., 4., 0., 1., 1., 1., 1., 1., 1., 0., 0., 1.];
        assert_eq!(det(&[2, 3, 3], &two).unwrap(), f32s(&[2], &[-24., 0.]));
        assert!(det(&[1, 2], &[1., 2.]).is_err());
    }
}
