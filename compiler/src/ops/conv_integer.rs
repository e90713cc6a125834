//! [ConvInteger](https://onnx.ai/onnx/operators/onnx__ConvInteger.html): convolution of 8-bit integers
//! around their zero points, with exact (wrapping) sums of 32 bits.

use super::conv::{Geometry, convolve, groups};
use super::nest::{
    access, binary, mul, push, push_nests, read, read_optional, scratch, signed, window_strides,
};
use super::number::Number;
use super::typed::{cast, expect, literal};
use super::views::broadcast;
use super::walk::{checked_type, operand, optional};
use super::window::Window;
use super::{Fact, Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::Nest;
use crate::kernel::expr::{BinaryFn, Expr, ReduceOp};
use crate::kernel::loops::{Reduction, Store};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};

/// `Σ (x - x_zero)·(w - w_zero)`, where padding is `x_zero`.
///
/// Operands: `x[N, C, space…]`, `w[M, C/groups, kernel…]`, `x_zero` (a scalar), `w_zero` (a scalar or `[M]`);
/// each signed or unsigned, the zero points optional.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvInteger {
    /// Kernel extents (from the weights where absent), strides, dilations, pads.
    pub window: Window,
    /// `group`.
    pub groups: usize,
}

impl OnnxOp for ConvInteger {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("ConvInteger", 10)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(ConvInteger { window: Window::import(attrs)?, groups: groups(attrs)? }.into())
    }
}

/// Refuses what is no 8-bit integer.
pub(super) fn expect_byte(dtype: DType) -> Result<(), OpError> {
    expect(matches!(dtype, DType::I8 | DType::U8), dtype)
}

/// Refuses a zero point of another type than its operand, or one whose elements are not these.
pub(super) fn expect_zero(of: Fact<'_>, zero: Option<Fact<'_>>, lens: &[usize]) -> Result<(), OpError> {
    let Some(zero) = zero else { return Ok(()) };
    expect(zero.dtype == of.dtype, zero.dtype)?;
    if zero.shape.rank() > 1 || !lens.contains(&zero.shape.elements()) {
        return Err(OpError::invalid(format!("zero points of shape {}", zero.shape)));
    }
    Ok(())
}

/// `read - zero` as `i32`; a zero point that is known to be 0 is left out.
pub(super) fn centred(dtype: DType, value: Expr, zero: Option<(DType, Expr)>) -> Expr {
    let value = cast(dtype, DType::I32, value);
    match zero {
        Some((d, zero)) => binary(BinaryFn::Sub, value, cast(d, DType::I32, zero)),
        None => value,
    }
}

/// Whether operand `i` is absent or known to be 0.
pub(super) fn is_zero(cx: &LowerCx<'_>, i: usize) -> bool {
    let zero = |t: &Tensor| t.to_i64_vec().is_some_and(|v| v.iter().all(|&v| v == 0));
    cx.input_type(i).is_none() || cx.constant(i).is_some_and(zero)
}

impl Op for ConvInteger {
    fn name(&self) -> &'static str {
        "ConvInteger"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, w) = (inputs.required(0)?, inputs.required(1)?);
        expect_byte(x.dtype)?;
        expect_byte(w.dtype)?;
        let g = Geometry::new(&self.window, self.groups, x.shape, w.shape)?;
        expect_zero(x, inputs.get(2), &[1])?;
        expect_zero(w, inputs.get(3), &[1, g.outputs()])?;
        Ok(vec![checked_type(DType::I32, g.output())?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, w) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let g = Geometry::new(&self.window, self.groups, x.shape(), w.shape())?;
        let load = |i| optional(inputs, i).map(i64::load).transpose();
        let (x_zero, w_zero) = (load(2)?, load(3)?);
        let mut values = i64::load(x)?.into_owned();
        if let Some(&zero) = x_zero.as_ref().and_then(|z| z.first()) {
            values.iter_mut().for_each(|v| *v -= zero);
        }
        let mut weights = i64::load(w)?.into_owned();
        let per_output = w.shape().iter().skip(1).product::<usize>().max(1);
        for (i, v) in weights.iter_mut().enumerate() {
            let zero = w_zero.as_ref().and_then(|z| z.get(i / per_output).or(z.first()));
            *v -= zero.copied().unwrap_or(0);
        }
        let sums = convolve(&values, &weights, &g);
        Ok(vec![i64::store(sums, DType::I32, g.output().into())?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let missing = || OpError::internal("ConvInteger without operands");
        let (_, x) = cx.input_type(0).ok_or_else(missing)?;
        let (_, w) = cx.input_type(1).ok_or_else(missing)?;
        let g = Geometry::new(&self.window, self.groups, x, w)?;
        if g.output().contains(&0) {
            return cx.write(0).map(|_| ());
        }
        let x = self.shifted(cx, &g)?;
        let w = cx.read(1)?;
        let w_zero = if is_zero(cx, 3) { None } else { read_optional(cx, 3)? };
        let y = cx.write(0)?;
        let (steps, taps) = window_strides(&x, &g.taps);
        let (group_in, group_out) = (signed(g.group_in)?, signed(g.group_out)?);
        let rank = g.taps.rank();
        // Loops: batch, group, output channel, space | input channel, taps.
        let over = |outer: [isize; 3], space: &[isize], inner: &[isize]| {
            outer.into_iter().chain(space.iter().copied()).chain(inner.iter().copied()).collect::<Vec<_>>()
        };
        let (still, no_taps) = (vec![0; rank], vec![0; rank + 1]);
        let inner: Vec<isize> = [x.strides[1]].into_iter().chain(taps).collect();
        let from_x = over([x.strides[0], x.strides[1] * group_in, 0], &steps, &inner);
        let from_w = over([0, w.strides[0] * group_out, w.strides[0]], &still, &w.strides[1..]);
        let to = over([y.strides[0], y.strides[1] * group_out, y.strides[1]], &y.strides[2..], &no_taps);
        let mut reads = vec![read(&x, 0, from_x)?, read(&w, 0, from_w)?];
        let mut zero = None;
        if let Some(view) = w_zero {
            let view = broadcast(&flat(&view), &[g.outputs()])?;
            let stride = view.strides[0];
            reads.push(read(&view, 0, over([0, stride * group_out, stride], &still, &no_taps))?);
            zero = Some((view.dtype, Expr::Read(2)));
        }
        let value = mul(cast(x.dtype, DType::I32, Expr::Read(0)), centred(w.dtype, Expr::Read(1), zero));
        let extents = [g.batch, g.groups, g.group_out]
            .into_iter()
            .chain(g.taps.output.iter().copied())
            .chain([g.group_in])
            .chain(g.taps.kernel.iter().copied());
        let nest = Nest {
            extents: extents.collect(),
            reduce: rank + 1,
            reads,
            reductions: vec![Reduction { op: ReduceOp::Sum, dtype: DType::I32, value }],
            stores: vec![Store { access: access(&y, 0, to)?, value: Expr::Acc(0) }],
        };
        push(cx, nest);
        Ok(())
    }

    fn macs(&self, inputs: &[Option<Type>], outputs: &[Type]) -> u64 {
        let per_output = match inputs.get(1) {
            Some(Some(w)) => w.shape.iter().skip(1).fold(1u64, |n, &d| n.saturating_mul(d as u64)),
            _ => 0,
        };
        outputs.first().map_or(0, |y| per_output.saturating_mul(y.shape.elements() as u64))
    }
}

/// A scalar or vector as a vector.
fn flat(view: &TensorView) -> TensorView {
    let (shape, strides) = match view.shape.as_slice() {
        [] => (vec![1], vec![0]),
        _ => (view.shape.clone(), view.strides.clone()),
    };
    TensorView { shape, strides, ..view.clone() }
}

impl ConvInteger {
    /// `x - x_zero` with zeros around it, as `i16`; `x` itself where that is the same.
    fn shifted(&self, cx: &mut LowerCx<'_>, g: &Geometry) -> Result<TensorView, OpError> {
        let x = cx.read(0)?;
        let zero = if is_zero(cx, 2) { None } else { read_optional(cx, 2)? };
        if zero.is_none() && !g.taps.padded() {
            return Ok(x);
        }
        let mut shape = x.shape.clone();
        for (axis, extent) in shape.iter_mut().skip(2).enumerate() {
            *extent += g.taps.begin[axis] + g.taps.overrun(axis);
        }
        let padded = scratch(cx, "shifted", DType::I16, &shape)?;
        let begin = padded.strides.iter().skip(2).zip(&g.taps.begin);
        let shift: isize = begin.map(|(&s, &p)| s * p as isize).sum();
        let mut reads = vec![read(&x, 0, x.strides.clone())?];
        let mut origin = None;
        if let Some(zero) = zero {
            reads.push(read(&zero, 0, vec![0; x.shape.len()])?);
            origin = Some((zero.dtype, Expr::Read(1)));
        }
        let value = cast(DType::I32, DType::I16, centred(x.dtype, Expr::Read(0), origin));
        let rim = Nest {
            extents: vec![shape.iter().product()],
            reduce: 0,
            reads: Vec::new(),
            reductions: Vec::new(),
            stores: vec![Store { access: access(&padded, 0, vec![1])?, value: literal(DType::I16, 0.0) }],
        };
        let copy = Nest {
            extents: x.shape.clone(),
            reduce: 0,
            reads,
            reductions: Vec::new(),
            stores: vec![Store { access: access(&padded, shift, padded.strides.clone())?, value }],
        };
        push_nests(cx, if g.taps.padded() { vec![rim, copy] } else { vec![copy] });
        Ok(padded)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::apply;
    use super::*;
    use crate::onnx::Attr;

    #[test]
    fn padding_is_the_zero_point() {
        // The standard's own example.
        let x = Tensor::new([1, 1, 3, 3], vec![2u8, 3, 4, 5, 6, 7, 8, 9, 10]).unwrap();
        let w = Tensor::full([1, 1, 2, 2], 1u8);
        let zero = Tensor::scalar(1u8);
        let y = apply("ConvInteger", 10, &[], &[&x, &w, &zero]).unwrap();
        assert_eq!(y, Tensor::new([1, 1, 2, 2], vec![12i32, 16, 24, 28]).unwrap());
        let pads = [("pads", Attr::Ints(vec![1, 1, 1, 1]))];
        let y = apply("ConvInteger", 10, &pads, &[&x, &w, &zero]).unwrap();
        let expected = vec![1i32, 3, 5, 3, 5, 12, 16, 9, 11, 24, 28, 15, 7, 15, 17, 9];
        assert_eq!(y, Tensor::new([1, 1, 4, 4], expected).unwrap());
    }

    #[test]
    fn signs_mix_and_weights_have_zero_points_per_channel() {
        let x = Tensor::new([1, 1, 2], vec![-3i8, 100]).unwrap();
        let w = Tensor::new([2, 1, 1], vec![200u8, 1]).unwrap();
        let y = apply("ConvInteger", 10, &[], &[&x, &w, &Tensor::scalar(-1i8), &Tensor::vector(&[100u8, 3])]);
        assert_eq!(y.unwrap(), Tensor::new([1, 2, 2], vec![-200i32, 10_100, 4, -202]).unwrap());
        let bad = apply("ConvInteger", 10, &[], &[&x, &w, &Tensor::scalar(1u8)]);
        assert!(bad.is_err(), "a zero point of another type");
    }
}
