//! [Softmax](https://onnx.ai/onnx/operators/onnx__Softmax.html),
//! [LogSoftmax](https://onnx.ai/onnx/operators/onnx__LogSoftmax.html) and
//! [Hardmax](https://onnx.ai/onnx/operators/onnx__Hardmax.html). Before opset 13 the operand is seen
//! as a matrix, split at `axis`; since then one axis is normalised.

use super::nest::{Reduce, binary, read_whole, scratch, single, unary, write_like, write_whole};
use super::number::{Number, by_class, expect_float};
use super::typed::{compute_dtype, literal};
use super::walk::operand;
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor, normalize_axis};
use crate::kernel::Kernel;
use crate::kernel::expr::{BinaryFn, CompareFn, Expr, ReduceOp, UnaryFn};
use crate::kernel::spec::SoftmaxSpec;
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};

/// Which function of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `exp(x - max) / Σ exp(x - max)`.
    Soft,
    /// `x - max - ln Σ exp(x - max)`.
    Log,
    /// 1 at the first maximum, 0 elsewhere.
    Hard,
}

/// A normalised exponential along an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Softmax {
    /// Which function.
    pub kind: Kind,
    /// The axis; may count from the end.
    pub axis: i64,
    /// All axes from `axis` on form one slice (opset below 13).
    pub flatten: bool,
}

impl OnnxOp for Softmax {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("Softmax", 1),
        OnnxName::onnx("Softmax", 11),
        OnnxName::onnx("Softmax", 13),
        OnnxName::onnx("LogSoftmax", 1),
        OnnxName::onnx("LogSoftmax", 11),
        OnnxName::onnx("LogSoftmax", 13),
        OnnxName::onnx("Hardmax", 1),
        OnnxName::onnx("Hardmax", 11),
        OnnxName::onnx("Hardmax", 13),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let kind = match node.op_type {
            "Softmax" => Kind::Soft,
            "LogSoftmax" => Kind::Log,
            _ => Kind::Hard,
        };
        let flatten = node.opset < 13;
        Ok(Softmax { kind, axis: attrs.int_or("axis", if flatten { 1 } else { -1 })?, flatten }.into())
    }
}

impl Softmax {
    /// The axes that form a slice.
    pub fn axes(&self, shape: &[usize]) -> Result<Vec<usize>, OpError> {
        let rank = shape.len();
        // The matrix may be split behind the last axis: slices of one element.
        if self.flatten && usize::try_from(self.axis) == Ok(rank) {
            return Ok(Vec::new());
        }
        let axis = normalize_axis(self.axis, rank)
            .ok_or_else(|| OpError::invalid(format!("`axis` is {} for {rank} axes", self.axis)))?;
        Ok(if self.flatten { (axis..rank).collect() } else { vec![axis] })
    }
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Soft => "Softmax",
            Kind::Log => "LogSoftmax",
            Kind::Hard => "Hardmax",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        self.axes(x.shape)?;
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let axes = self.axes(x.shape())?;
        let len: usize = axes.iter().map(|&a| x.shape()[a]).product();
        let inner: usize = match axes.last() {
            Some(&last) => x.shape()[last + 1..].iter().product(),
            None => 1,
        };
        let y = by_class!(x.dtype(), N => {
            let mut y = N::load(x)?.into_owned();
            for block in y.chunks_mut((len * inner).max(1)) {
                for i in 0..inner {
                    let mut slice: Vec<f64> = block.iter().skip(i).step_by(inner).map(|v| v.wide()).collect();
                    self.slice(&mut slice);
                    for (to, v) in block.iter_mut().skip(i).step_by(inner).zip(slice) {
                        *to = N::of(v);
                    }
                }
            }
            N::store(y, x.dtype(), x.shape().clone())?
        });
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        if self.flatten { LayoutRule::RowMajor } else { LayoutRule::Follow }
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (dtype, shape) = cx.input_type(0).ok_or_else(|| OpError::internal("no operand"))?;
        let axes = self.axes(shape)?;
        if shape.contains(&0) {
            return cx.write(0).map(|_| ());
        }
        if self.kind == Kind::Hard || !single(dtype) {
            return self.lower_nests(cx, dtype, &axes);
        }
        // A value that is dense in another order of its axes is normalised as it lies.
        let placed = cx.read(0)?;
        let permuted = placed.dtype == DType::F32 && !placed.is_dense() && slices(&placed, &axes).is_some();
        let (x, y) = if permuted {
            let y = write_like(cx, 0, &placed)?;
            (placed, y)
        } else {
            (read_whole(cx, 0)?, write_whole(cx, 0)?)
        };
        let (outer, len, inner) =
            slices(&x, &axes).ok_or_else(|| OpError::internal("a dense operand has no slices"))?;
        cx.push(Kernel::Softmax {
            spec: SoftmaxSpec { outer, len, inner, log: self.kind == Kind::Log },
            x: x.operand,
            y: y.operand,
        });
        y.finish(cx)
    }
}

/// Outer, slice and inner extents of a view that is dense in some order of axes, in which `axes` are
/// neighbours; `None` for others.
fn slices(x: &TensorView, axes: &[usize]) -> Option<(usize, usize, usize)> {
    let mut order: Vec<usize> = (0..x.shape.len()).filter(|&a| x.shape[a] != 1).collect();
    order.sort_by_key(|&a| (std::cmp::Reverse(x.strides[a]), a));
    let mut expected = 1isize;
    for &a in order.iter().rev() {
        if x.strides[a] != expected {
            return None;
        }
        expected = expected.checked_mul(isize::try_from(x.shape[a]).ok()?)?;
    }
    let wanted: Vec<usize> = axes.iter().copied().filter(|&a| x.shape[a] != 1).collect();
    let start = match wanted.first() {
        None => order.len(),
        Some(first) => order.iter().position(|a| a == first)?,
    };
    let end = start + wanted.len();
    if x.offset != 0 || order.get(start..end)? != wanted {
        return None;
    }
    let product = |axes: &[usize]| axes.iter().map(|&a| x.shape[a]).product::<usize>();
    Some((product(&order[..start]), product(&wanted), product(&order[end..])))
}

impl Softmax {
    /// One slice in place, in `f64`.
    fn slice(&self, values: &mut [f64]) {
        let mut max = f64::NEG_INFINITY;
        let mut first = 0;
        for (i, &v) in values.iter().enumerate() {
            if v > max || (v.is_nan() && !max.is_nan()) {
                (max, first) = (v, i);
            }
        }
        match self.kind {
            Kind::Hard => {
                for (i, v) in values.iter_mut().enumerate() {
                    *v = if i == first { 1.0 } else { 0.0 };
                }
            }
            Kind::Soft => {
                values.iter_mut().for_each(|v| *v = libm::exp(*v - max));
                let sum: f64 = values.iter().sum();
                values.iter_mut().for_each(|v| *v /= sum);
            }
            Kind::Log => {
                let sum: f64 = values.iter().map(|v| libm::exp(v - max)).sum();
                let shift = max + libm::log(sum);
                values.iter_mut().for_each(|v| *v -= shift);
            }
        }
    }

    /// Hardmax, and `f64`: reductions into scratch, then one pass.
    fn lower_nests(&self, cx: &mut LowerCx<'_>, dtype: DType, axes: &[usize]) -> Result<(), OpError> {
        let x = cx.read(0)?;
        let y = cx.write(0)?;
        let compute = compute_dtype(dtype);
        let mut kept = x.shape.clone();
        for &a in axes {
            kept[a] = 1;
        }
        let element = || Expr::Read(0);
        if axes.is_empty() {
            let one = if self.kind == Kind::Log { 0.0 } else { 1.0 };
            return cx.elementwise(&y, &[], literal(compute, one));
        }
        if self.kind == Kind::Hard {
            let first = scratch(cx, "first", DType::I64, &kept)?;
            Reduce {
                x: &x,
                extra: &[],
                axes,
                op: ReduceOp::ArgMax { last: false },
                value: element(),
                finish: Expr::Acc(0),
            }
            .emit(cx, &first)?;
            return self.one_hot(cx, &x, &y, &first, axes);
        }
        let max = scratch(cx, "max", compute, &kept)?;
        Reduce { x: &x, extra: &[], axes, op: ReduceOp::Max, value: element(), finish: Expr::Acc(0) }
            .emit(cx, &max)?;
        let sum = scratch(cx, "sum", compute, &kept)?;
        let shifted = || binary(BinaryFn::Sub, element(), Expr::Read(1));
        Reduce {
            x: &x,
            extra: std::slice::from_ref(&max),
            axes,
            op: ReduceOp::Sum,
            value: unary(UnaryFn::Exp, shifted()),
            finish: if self.kind == Kind::Log { unary(UnaryFn::Log, Expr::Acc(0)) } else { Expr::Acc(0) },
        }
        .emit(cx, &sum)?;
        let value = match self.kind {
            Kind::Log => binary(BinaryFn::Sub, shifted(), Expr::Read(2)),
            _ => binary(BinaryFn::Div, unary(UnaryFn::Exp, shifted()), Expr::Read(2)),
        };
        cx.elementwise(&y, &[x, max, sum], value)
    }

    /// 1 where the row-major position within the slice is that of the maximum.
    fn one_hot(
        &self,
        cx: &mut LowerCx<'_>,
        x: &TensorView,
        y: &TensorView,
        first: &TensorView,
        axes: &[usize],
    ) -> Result<(), OpError> {
        // The position as a table over the slice's axes, so that the loops may run in any order.
        let len: usize = axes.iter().map(|&a| x.shape[a]).product();
        let table: Vec<i64> = (0..len).map(|i| i as i64).collect();
        let mut position = TensorView {
            operand: cx.blob("positions", &table),
            dtype: DType::I64,
            shape: vec![1; x.shape.len()],
            offset: 0,
            strides: vec![0; x.shape.len()],
        };
        let mut stride = 1;
        for &a in axes.iter().rev() {
            (position.shape[a], position.strides[a]) = (x.shape[a], stride);
            stride *= super::nest::signed(x.shape[a])?;
        }
        let compute = compute_dtype(y.dtype);
        let hit = Expr::Compare(CompareFn::Equal, Box::new(Expr::Read(0)), Box::new(Expr::Read(1)));
        let (one, zero) = (literal(compute, 1.0), literal(compute, 0.0));
        let value = Expr::Select(Box::new(hit), Box::new(one), Box::new(zero));
        cx.elementwise(y, &[position, first.clone()], value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: Kind, axis: i64, flatten: bool, x: &Tensor) -> Vec<f64> {
        Softmax { kind, axis, flatten }.eval(&[Some(x)]).unwrap()[0].to_f64_vec().unwrap()
    }

    fn ln(values: &[f64], shape: [usize; 2]) -> Tensor {
        Tensor::new::<f64>(shape, values.iter().map(|v| v.ln()).collect::<Vec<_>>()).unwrap()
    }

    fn close(a: &[f64], b: &[f64]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-12)
    }

    #[test]
    fn along_each_axis() {
        let x = ln(&[1., 3., 2., 2.], [2, 2]);
        assert!(close(&run(Kind::Soft, -1, false, &x), &[0.25, 0.75, 0.5, 0.5]));
        assert!(close(&run(Kind::Soft, 0, false, &x), &[1. / 3., 0.6, 2. / 3., 0.4]));
        let logs = run(Kind::Log, 1, false, &x);
        assert!(close(&logs, &[0.25f64.ln(), 0.75f64.ln(), 0.5f64.ln(), 0.5f64.ln()]));
    }

    #[test]
    fn old_opsets_flatten_behind_the_axis() {
        let x = ln(&[1., 3., 2., 2.], [2, 2]);
        assert!(close(&run(Kind::Soft, 0, true, &x), &[0.125, 0.375, 0.25, 0.25]));
        assert!(close(&run(Kind::Soft, 2, true, &x), &[1.; 4]));
    }

    #[test]
    fn hardmax_takes_the_first_of_equals() {
        let x = Tensor::new::<f32>([2, 3], vec![1., 5., 5., 0., -1., -2.]).unwrap();
        assert_eq!(run(Kind::Hard, -1, false, &x), [0., 1., 0., 1., 0., 0.]);
    }

    #[test]
    fn large_values_do_not_overflow() {
        let x = Tensor::vector(&[1000f32, 1000.]);
        assert_eq!(run(Kind::Soft, 0, false, &x), [0.5, 0.5]);
    }

    #[test]
    fn slices_of_channels_last_memory() {
        let view = |shape: &[usize], strides: &[isize]| TensorView {
            operand: crate::kernel::Operand::Buffer(crate::kernel::BufferId(0)),
            dtype: DType::F32,
            shape: shape.to_vec(),
            offset: 0,
            strides: strides.to_vec(),
        };
        // [N, C, H, W] = [1, 3, 4, 5] lying as N H W C.
        let x = view(&[1, 3, 4, 5], &[60, 1, 15, 3]);
        assert_eq!(slices(&x, &[1]), Some((20, 3, 1)));
        assert_eq!(slices(&x, &[3]), Some((4, 5, 3)));
        assert_eq!(slices(&x, &[1, 2]), None);
        assert_eq!(slices(&view(&[2, 3], &[4, 1]), &[1]), None);
    }
}
