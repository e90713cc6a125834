//! Squared distances between rows, for the radial kernels of support vector machines. Named by bodies only.

use super::composite::INTERNAL;
use super::nest::{Reduce, binary, mul};
use super::number::expect_float;
use super::typed::{floats, from_floats};
use super::walk::{checked_type, operand};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::Tensor;
use crate::kernel::expr::{BinaryFn, Expr, ReduceOp};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Operands: `x: [n, f]` and `y: [m, f]`. The result is `Σ_k (x[i, k] − y[j, k])²`, `[n, m]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SquaredDistance;

impl OnnxOp for SquaredDistance {
    const NAMES: &'static [OnnxName] = &[OnnxName { domain: INTERNAL, op_type: "SquaredDistance", since: 1 }];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(SquaredDistance.into())
    }
}

impl Op for SquaredDistance {
    fn name(&self) -> &'static str {
        "SquaredDistance"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, y) = (inputs.required(0)?, inputs.required(1)?);
        expect_float(x.dtype)?;
        match (x.shape.dims(), y.shape.dims()) {
            (&[n, f], &[m, g]) if f == g && x.dtype == y.dtype => Ok(vec![checked_type(x.dtype, [n, m])?]),
            _ => Err(OpError::invalid(format!("rows of shapes {} and {}", x.shape, y.shape))),
        }
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, y) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let (&[n, f], &[m, _]) = (x.shape().dims(), y.shape().dims()) else {
            return Err(OpError::internal("rows of another rank"));
        };
        let (xs, ys) = (floats(x)?, floats(y)?);
        let distance = |i: usize, j: usize| {
            let pairs = xs.iter().skip(i * f).zip(ys.iter().skip(j * f)).take(f);
            pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>()
        };
        let all = (0..n).flat_map(|i| (0..m).map(move |j| (i, j))).map(|(i, j)| distance(i, j));
        Ok(vec![from_floats(x.dtype(), [n, m], all)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (mut x, mut y) = (cx.read(0)?, cx.read(1)?);
        let mut z = cx.write(0)?;
        // `x: [n, 1, f]` repeated over the rows of `y: [1, m, f]`, reduced over the last axis.
        let m = y.shape.first().copied().unwrap_or(1);
        x.shape.insert(1, m);
        x.strides.insert(1, 0);
        y.shape.insert(0, 1);
        y.strides.insert(0, 0);
        z.shape.push(1);
        z.strides.push(0);
        let distance = || binary(BinaryFn::Sub, Expr::Read(0), Expr::Read(1));
        Reduce {
            x: &x,
            extra: &[y],
            axes: &[2],
            op: ReduceOp::Sum,
            value: mul(distance(), distance()),
            finish: Expr::Acc(0),
        }
        .emit(cx, &z)
    }
}
