//! [MatMulInteger](https://onnx.ai/onnx/operators/onnx__MatMulInteger.html): product of 8-bit integers
//! around their zero points, with exact (wrapping) sums of 32 bits.

use super::conv_integer::{centred, expect_byte, is_zero};
use super::matmul::{Geometry, multiply, picks};
use super::nest::{access, mul, push, read, read_optional};
use super::number::Number;
use super::typed::expect;
use super::views::broadcast;
use super::walk::{broadcast_shape, checked_type, operand, optional};
use super::{Fact, Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::Nest;
use crate::kernel::expr::{Expr, ReduceOp};
use crate::kernel::loops::{Reduction, Store};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};

/// `Σ (a - a_zero)·(b - b_zero)` with numpy's semantics of batches and vectors.
///
/// Operands: `a`, `b`, `a_zero` (a scalar, one per row as `[M]`, or `[…, M, 1]`), `b_zero` (a scalar, one per
/// column as `[N]`, or `[…, 1, N]`); each signed or unsigned, the zero points optional.
#[derive(Debug, Clone, PartialEq)]
pub struct MatMulInteger;

impl OnnxOp for MatMulInteger {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("MatMulInteger", 10)];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(MatMulInteger.into())
    }
}

/// A row or column parameter's shape such that it broadcasts to the operand's: vectors of `a` stand upright.
fn upright(shape: &[usize], of_rows: bool) -> Vec<usize> {
    match shape {
        [m] if of_rows && *m != 1 => vec![*m, 1],
        other => other.to_vec(),
    }
}

fn expect_zero(of: Fact<'_>, zero: Option<Fact<'_>>, rows: bool) -> Result<(), OpError> {
    let Some(zero) = zero else { return Ok(()) };
    expect(zero.dtype == of.dtype, zero.dtype)?;
    let shape = Shape::from(upright(zero.shape, rows));
    // One value along the summed axis.
    let summed = if rows { shape.dims().last() } else { shape.dims().iter().rev().nth(1) };
    let constant = summed.is_none_or(|&d| d == 1);
    if !constant || broadcast_shape([of.shape, &shape]).ok().as_ref() != Some(of.shape) {
        return Err(OpError::invalid(format!("zero points of shape {} for {}", zero.shape, of.shape)));
    }
    Ok(())
}

impl Op for MatMulInteger {
    fn name(&self) -> &'static str {
        "MatMulInteger"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (a, b) = (inputs.required(0)?, inputs.required(1)?);
        expect_byte(a.dtype)?;
        expect_byte(b.dtype)?;
        expect_zero(a, inputs.get(2), true)?;
        expect_zero(b, inputs.get(3), false)?;
        Ok(vec![checked_type(DType::I32, Geometry::new(a.shape, b.shape)?.output())?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let g = Geometry::new(a.shape(), b.shape())?;
        let moved = |t: &Tensor, zero: Option<&Tensor>, rows: bool| -> Result<Vec<i64>, OpError> {
            let mut values = i64::load(t)?.into_owned();
            if let Some(zero) = zero {
                let zeros = i64::load(zero)?;
                for (v, z) in values.iter_mut().zip(picks(t.shape(), &upright(zero.shape(), rows))) {
                    *v -= zeros.get(z).copied().unwrap_or(0);
                }
            }
            Ok(values)
        };
        let (a, b) = (moved(a, optional(inputs, 2), true)?, moved(b, optional(inputs, 3), false)?);
        Ok(vec![i64::store(multiply(&a, &b, &g), DType::I32, g.output().into())?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (a, b) = (cx.read(0)?, cx.read(1)?);
        let g = Geometry::new(&a.shape, &b.shape)?;
        let mut y = cx.write(0)?;
        let full = g.full();
        if full.contains(&0) {
            return Ok(());
        }
        let rank = g.batch.len();
        let mut reads = Vec::new();
        // An operand or its zero points, which take its shape, over loops batch, m, n | k.
        let mut value = |cx: &mut LowerCx<'_>, view: TensorView, zero: usize, rows: bool| {
            let zeros = if is_zero(cx, zero) { None } else { read_optional(cx, zero)? };
            let zeros = zeros.map(|z| broadcast(&as_upright(z, rows), &view.shape)).transpose()?;
            let (dtype, mut parts) = (view.dtype, Vec::new());
            for v in [Some(view), zeros].into_iter().flatten() {
                let v = matrix(v, rows && g.row, !rows && g.column);
                let shape = if rows { [g.m, g.k] } else { [g.k, g.n] };
                let v = broadcast(&v, &g.batch.iter().copied().chain(shape).collect::<Vec<_>>())?;
                let (s, t) = (v.strides[rank], v.strides[rank + 1]);
                let inner = if rows { [s, 0, t] } else { [0, t, s] };
                let strides = v.strides[..rank].iter().copied().chain(inner).collect();
                reads.push(read(&v, 0, strides)?);
                parts.push((v.dtype, Expr::Read(reads.len() - 1)));
            }
            let mut parts = parts.into_iter();
            let (_, first) = parts.next().ok_or_else(|| OpError::internal("no operand"))?;
            Ok::<_, OpError>(centred(dtype, first, parts.next()))
        };
        let left = value(cx, a, 2, true)?;
        let right = value(cx, b, 3, false)?;
        if g.column {
            y.shape.push(1);
            y.strides.push(0);
        }
        if g.row {
            let at = y.shape.len() - 1;
            y.shape.insert(at, 1);
            y.strides.insert(at, 0);
        }
        let to = y.strides.iter().copied().chain([0]).collect();
        let nest = Nest {
            extents: full.into_iter().chain([g.k]).collect(),
            reduce: 1,
            reads,
            reductions: vec![Reduction { op: ReduceOp::Sum, dtype: DType::I32, value: mul(left, right) }],
            stores: vec![Store { access: access(&y, 0, to)?, value: Expr::Acc(0) }],
        };
        push(cx, nest);
        Ok(())
    }

    fn macs(&self, inputs: &[Option<Type>], outputs: &[Type]) -> u64 {
        let k = match inputs.first() {
            Some(Some(a)) => a.shape.last().copied().unwrap_or(0) as u64,
            _ => 0,
        };
        outputs.first().map_or(0, |y| k.saturating_mul(y.shape.elements() as u64))
    }
}

/// [`upright`] for a view.
fn as_upright(mut view: TensorView, of_rows: bool) -> TensorView {
    if upright(&view.shape, of_rows).len() > view.shape.len() {
        view.shape.push(1);
        view.strides.push(0);
    }
    view
}

/// A one-dimensional operand as a row or a column.
fn matrix(mut view: TensorView, row: bool, column: bool) -> TensorView {
    if row {
        view.shape.insert(0, 1);
        view.strides.insert(0, 0);
    }
    if column {
        view.shape.push(1);
        view.strides.push(0);
    }
    view
}

#[cfg(test)]
mod tests {
    use super::super::testing::apply;
    use super::*;

    #[test]
    fn the_standards_example() {
        let a = Tensor::new([4, 3], vec![11u8, 7, 3, 10, 6, 2, 9, 5, 1, 8, 4, 0]).unwrap();
        let b = Tensor::new([3, 2], vec![1u8, 4, 2, 5, 3, 6]).unwrap();
        let y = apply("MatMulInteger", 10, &[], &[&a, &b, &Tensor::vector(&[12u8]), &Tensor::vector(&[0u8])]);
        let expected = vec![-38i32, -83, -44, -98, -50, -113, -56, -128];
        assert_eq!(y.unwrap(), Tensor::new([4, 2], expected).unwrap());
    }

    #[test]
    fn zero_points_per_row_and_column() {
        let a = Tensor::new([2, 2], vec![1i8, 2, 3, 4]).unwrap();
        let b = Tensor::new([2, 2], vec![5u8, 6, 7, 8]).unwrap();
        let (rows, columns) = (Tensor::vector(&[1i8, -1]), Tensor::vector(&[5u8, 0]));
        let y = apply("MatMulInteger", 10, &[], &[&a, &b, &rows, &columns]).unwrap();
        // [[0,1],[4,5]] · [[0,6],[2,8]]
        assert_eq!(y, Tensor::new([2, 2], vec![2i32, 8, 10, 64]).unwrap());
        let column = Tensor::new([2, 1], vec![1i8, -1]).unwrap();
        assert_eq!(apply("MatMulInteger", 10, &[], &[&a, &b, &column, &columns]).unwrap(), y);
        assert!(apply("MatMulInteger", 10, &[], &[&a, &b, &Tensor::vector(&[1i8, 2, 3])]).is_err());
        assert!(apply("MatMulInteger", 10, &[], &[&a, &b, &Tensor::full([1, 2], 1i8)]).is_err());
    }

    #[test]
    fn vectors_vanish() {
        let (a, b) = (Tensor::vector(&[1i8, 2]), Tensor::vector(&[3i8, -4]));
        assert_eq!(apply("MatMulInteger", 10, &[], &[&a, &b]).unwrap(), Tensor::scalar(-5i32));
    }
}
