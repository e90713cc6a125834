//! Softmax of bytes, requantized; inside the compiler only, as what passes make of a Softmax between
//! DequantizeLinear and QuantizeLinear. By a table, so that all levels give the same bits.
//!
//! For a slice of `n` bytes with the largest `m`, scale `s` of the operand and `t` of the result:
//!
//! - `e(d) = RNE(2^p · exp(-d·s))` for each difference `d` from 0 to 255, computed once in `f64`, with `p` the smaller of
//!   23 and `30 - ⌈log2 n⌉`: a sum of `n` such integers stays below 2³¹;
//! - `y = clamp(zero + RNE(f32(e(m - x)) · factor))` with `factor = (1/t) / f32(Σ e(m - x))`, both quotients in `f32`, the product
//!   rounded once, ties to even.

use super::nest::{access, binary, mul, push, read, scratch};
use super::typed::{cast, expect};
use super::views::broadcast;
use super::walk::{operand, strides};
use super::{Inputs, LayoutRule, Op, OpError, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::{BinaryFn, Expr, ReduceOp};
use crate::kernel::loops::{Gather, Read, Reduction, Store};
use crate::kernel::{Access, Nest, Operand};
use crate::schedule::{LowerCx, TensorView};

/// Operand: `x` (`u8` or `i8`).
#[derive(Debug, Clone, PartialEq)]
pub struct SoftmaxI8 {
    /// The axes that form a slice, ascending.
    pub axes: Vec<usize>,
    /// Scale of the operand.
    pub x_scale: f32,
    /// Scale of the result.
    pub y_scale: f32,
    /// Zero point of the result.
    pub zero: i32,
    /// Its type: `u8` or `i8`.
    pub to: DType,
}

/// Differences of two bytes.
const ENTRIES: usize = 256;

/// Longest slice: sums keep ten bits for its smallest elements.
pub const MAX_SLICE: usize = 1 << 20;

impl SoftmaxI8 {
    /// The table for slices of `n` elements.
    fn table(&self, n: usize) -> Vec<i32> {
        let bits = n.max(1).next_power_of_two().trailing_zeros();
        let one = f64::from(1u32 << 30u32.saturating_sub(bits).min(23));
        let entry = |d: usize| libm::rint(one * libm::exp(-(d as f64) * f64::from(self.x_scale))) as i32;
        (0..ENTRIES).map(entry).collect()
    }

    fn slice_len(&self, shape: &[usize]) -> Result<usize, OpError> {
        let mut len = 1usize;
        for &axis in &self.axes {
            let extent = shape.get(axis).ok_or_else(|| OpError::internal("a slice along no axis"))?;
            len = len.saturating_mul(*extent);
        }
        if len > MAX_SLICE {
            return Err(OpError::Limit(format!("a softmax of {len} bytes")));
        }
        Ok(len)
    }

    fn inverse(&self) -> f32 {
        1.0 / self.y_scale
    }

    /// The result for an entry of the table and the sum of the slice's.
    fn result(&self, entry: i32, sum: i32) -> i64 {
        let factor = self.inverse() / sum as f32;
        let y = libm::rint(f64::from(entry as f32) * f64::from(factor)) + f64::from(self.zero);
        let [low, high] = if self.to == DType::U8 { [0.0, 255.0] } else { [-128.0, 127.0] };
        y.clamp(low, high) as i64
    }
}

impl Op for SoftmaxI8 {
    fn name(&self) -> &'static str {
        "QLinearSoftmax"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect(matches!(x.dtype, DType::U8 | DType::I8), x.dtype)?;
        expect(matches!(self.to, DType::U8 | DType::I8), self.to)?;
        self.slice_len(x.shape)?;
        Ok(vec![Type::new(self.to, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let table = self.table(self.slice_len(x.shape())?);
        let values = x.to_i64_vec().ok_or_else(|| OpError::internal("operands of other types"))?;
        let (steps, shape) = (strides(x.shape()), x.shape());
        // Elements of one slice share the place of its first.
        let first = |i: usize| {
            let along = |&a: &usize| {
                let step = usize::try_from(steps.get(a).copied().unwrap_or(1)).unwrap_or(1).max(1);
                i / step % shape.get(a).copied().unwrap_or(1).max(1) * step
            };
            i - self.axes.iter().map(along).sum::<usize>()
        };
        let mut largest = vec![i64::MIN; values.len()];
        for (i, v) in values.iter().enumerate() {
            if let Some(m) = largest.get_mut(first(i)) {
                *m = (*m).max(*v);
            }
        }
        let entry = |i: usize, v: i64| {
            let m = largest.get(first(i)).copied().unwrap_or(v);
            usize::try_from(m - v).ok().and_then(|d| table.get(d)).copied().unwrap_or(0)
        };
        let mut sums = vec![0i32; values.len()];
        for (i, v) in values.iter().enumerate() {
            if let Some(sum) = sums.get_mut(first(i)) {
                *sum = sum.wrapping_add(entry(i, *v));
            }
        }
        let sum = |i: usize| sums.get(first(i)).copied().unwrap_or(1);
        let results = values.iter().enumerate().map(|(i, &v)| self.result(entry(i, v), sum(i)));
        Ok(vec![super::typed::from_ints(self.to, shape.clone(), results.map(i128::from))?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (x, y) = (cx.read(0)?, cx.write(0)?);
        if y.shape.contains(&0) {
            return Ok(());
        }
        let rank = x.shape.len();
        let kept = (0..rank).filter(|a| !self.axes.contains(a));
        let order: Vec<usize> = kept.chain(self.axes.iter().copied()).collect();
        let mut slices = x.shape.clone();
        for &axis in &self.axes {
            if let Some(extent) = slices.get_mut(axis) {
                *extent = 1;
            }
        }
        let table = cx.blob("exponentials", &self.table(self.slice_len(&x.shape)?));
        let numbers = cx.blob("numbers", &[self.inverse(), self.zero as f32]);
        let nest = Slices { order, reduce: self.axes.len(), x: &x, table, numbers };
        let maxima = scratch(cx, "maxima", DType::I32, &slices)?;
        let factors = scratch(cx, "factors", DType::F32, &slices)?;
        nest.maxima(cx, &maxima)?;
        nest.factors(cx, &maxima, &factors)?;
        nest.results(cx, [&maxima, &factors, &y], self.to)
    }
}

/// What the three nests share.
struct Slices<'v> {
    /// Axes, those of a slice last.
    order: Vec<usize>,
    /// How many of them are.
    reduce: usize,
    x: &'v TensorView,
    table: Operand,
    /// The result scale's inverse, and its zero point.
    numbers: Operand,
}

impl Slices<'_> {
    fn strides(&self, view: &TensorView) -> Result<Vec<isize>, OpError> {
        let view = broadcast(view, &self.x.shape)?;
        Ok(self.order.iter().map(|&a| view.strides.get(a).copied().unwrap_or(0)).collect())
    }

    fn read(&self, view: &TensorView) -> Result<Read, OpError> {
        read(view, 0, self.strides(view)?)
    }

    /// Number `i`.
    fn number(&self, i: usize) -> Read {
        let strides = vec![0; self.order.len()];
        Read {
            access: Access { operand: self.numbers, dtype: DType::F32, offset: i, strides },
            gather: Vec::new(),
        }
    }

    /// The table's entry for read 0 below read 1.
    fn entry(&self) -> Read {
        let below = binary(BinaryFn::Sub, Expr::Read(1), self.element());
        let index = cast(DType::I32, DType::I64, below);
        let gather = vec![Gather { index, extent: ENTRIES, stride: 1, proven: true }];
        let strides = vec![0; self.order.len()];
        Read { access: Access { operand: self.table, dtype: DType::I32, offset: 0, strides }, gather }
    }

    fn element(&self) -> Expr {
        cast(self.x.dtype, DType::I32, Expr::Read(0))
    }

    fn extents(&self) -> Vec<usize> {
        self.order.iter().map(|&a| self.x.shape.get(a).copied().unwrap_or(1)).collect()
    }

    fn maxima(&self, cx: &mut LowerCx<'_>, to: &TensorView) -> Result<(), OpError> {
        let reads = vec![self.read(self.x)?];
        let reductions = vec![Reduction { op: ReduceOp::Max, dtype: DType::I32, value: self.element() }];
        let stores = vec![Store { access: access(to, 0, self.strides(to)?)?, value: Expr::Acc(0) }];
        push(cx, Nest { extents: self.extents(), reduce: self.reduce, reads, reductions, stores });
        Ok(())
    }

    fn factors(&self, cx: &mut LowerCx<'_>, maxima: &TensorView, to: &TensorView) -> Result<(), OpError> {
        let reads = vec![self.read(self.x)?, self.read(maxima)?, self.entry(), self.number(0)];
        let reductions = vec![Reduction { op: ReduceOp::Sum, dtype: DType::I32, value: Expr::Read(2) }];
        let factor = binary(BinaryFn::Div, Expr::Read(3), cast(DType::I32, DType::F32, Expr::Acc(0)));
        let stores = vec![Store { access: access(to, 0, self.strides(to)?)?, value: factor }];
        push(cx, Nest { extents: self.extents(), reduce: self.reduce, reads, reductions, stores });
        Ok(())
    }

    fn results(
        &self,
        cx: &mut LowerCx<'_>,
        [maxima, factors, y]: [&TensorView; 3],
        to: DType,
    ) -> Result<(), OpError> {
        let reads =
            vec![self.read(self.x)?, self.read(maxima)?, self.entry(), self.read(factors)?, self.number(1)];
        let wide = |v: Expr| cast(DType::F32, DType::F64, v);
        let product = mul(wide(cast(DType::I32, DType::F32, Expr::Read(2))), wide(Expr::Read(3)));
        let zero = Box::new(cast(DType::F32, DType::I32, Expr::Read(4)));
        let value = Expr::Quantize { to, value: Box::new(product), zero };
        let stores = vec![Store { access: access(y, 0, self.strides(y)?)?, value }];
        push(cx, Nest { extents: self.extents(), reduce: 0, reads, reductions: Vec::new(), stores });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use super::*;

    #[test]
    fn within_a_step_of_the_real_function() {
        let op = SoftmaxI8 { axes: vec![1], x_scale: 0.1, y_scale: 1.0 / 256.0, zero: -128, to: DType::I8 };
        let x = Tensor::new([2, 4], vec![-128i8, 0, 10, 127, 5, 5, 5, 5]).unwrap();
        let y = run(&op.into(), &[Some(&x)], 1).unwrap();
        let values = x.to_f64_vec().unwrap();
        let mut want = Vec::new();
        for row in values.chunks(4) {
            let e: Vec<f64> = row.iter().map(|v| libm::exp(v * 0.1)).collect();
            let sum: f64 = e.iter().sum();
            want.extend(e.iter().map(|v| (v / sum * 256.0).round() - 128.0));
        }
        for (y, want) in y[0].to_f64_vec().unwrap().iter().zip(want) {
            assert!((y - want.min(127.0)).abs() <= 1.0, "{y} instead of {want}");
        }
    }

    #[test]
    fn slices_along_the_first_axis() {
        let op = SoftmaxI8 { axes: vec![0], x_scale: 100.0, y_scale: 0.01, zero: 0, to: DType::U8 };
        let x = Tensor::new([2, 3], vec![1u8, 2, 3, 1, 9, 0]).unwrap();
        let y = run(&op.into(), &[Some(&x)], 1).unwrap();
        assert_eq!(y[0], Tensor::new([2, 3], vec![50u8, 0, 100, 50, 100, 0]).unwrap());
    }
}
