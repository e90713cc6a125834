//! [CumSum](https://onnx.ai/onnx/operators/onnx__CumSum.html): running sums along an axis.
//!
//! The axis must be known at compile time. On the device each sum is taken anew, so that the loops stay
//! independent: quadratic in the axis.

use super::typed::{
    compute_dtype, expect, expect_loop_type, floats, from_floats, from_ints, ints, is_arithmetic_float,
    is_number, literal,
};
use super::views::access;
use super::walk::{axis, operand, strides};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::{CompareFn, Expr, ReduceOp};
use crate::kernel::loops::{Read, Reduction, Store};
use crate::kernel::{Access, Kernel, Loops, Nest};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Running sums of operand 0 along the axis in operand 1.
#[derive(Debug, Clone, PartialEq)]
pub struct CumSum {
    /// Whether an element is left out of its own sum.
    pub exclusive: bool,
    /// From the end.
    pub reverse: bool,
}

impl OnnxOp for CumSum {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("CumSum", 11)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(CumSum {
            exclusive: attrs.int_or("exclusive", 0)? != 0,
            reverse: attrs.int_or("reverse", 0)? != 0,
        }
        .into())
    }
}

impl Op for CumSum {
    fn name(&self) -> &'static str {
        "CumSum"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect(is_number(x.dtype), x.dtype)?;
        let at = inputs.required(1)?;
        expect(matches!(at.dtype, DType::I32 | DType::I64), at.dtype)?;
        axis_of(at.constant, x.shape.rank())?;
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let at = axis_of(Some(operand(inputs, 1)?), x.shape().rank())?;
        let (dtype, shape) = (x.dtype(), x.shape().clone());
        let y = if is_arithmetic_float(dtype) {
            from_floats(dtype, shape.clone(), self.sums(&floats(x)?, &shape, at, 0.0, |a, b| a + b))?
        } else {
            from_ints(dtype, shape.clone(), self.sums(&ints(x)?, &shape, at, 0, i128::wrapping_add))?
        };
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read(0)?;
        expect_loop_type(x.dtype)?;
        let at = axis_of(cx.constant(1), x.shape.len())?;
        let y = cx.write(0)?;
        if y.shape.contains(&0) {
            return Ok(());
        }
        let rank = x.shape.len();
        let (mut extents, whole, mut store) = (x.shape.clone(), access(&x), access(&y));
        // One more loop, over the elements of the sum.
        extents.push(extents.get(at).copied().unwrap_or(1));
        let mut along = whole.strides.clone();
        let step = along.get_mut(at).map(std::mem::take).unwrap_or(0);
        along.push(step);
        store.strides.push(0);
        let side = match (self.reverse, self.exclusive) {
            (false, false) => CompareFn::LessOrEqual,
            (false, true) => CompareFn::Less,
            (true, false) => CompareFn::GreaterOrEqual,
            (true, true) => CompareFn::Greater,
        };
        let counts = Expr::Compare(side, Box::new(Expr::Index(rank)), Box::new(Expr::Index(at)));
        let value = Expr::Select(Box::new(counts), Box::new(Expr::Read(0)), Box::new(literal(x.dtype, 0.0)));
        let nest = Nest {
            extents,
            reduce: 1,
            reads: vec![Read { access: Access { strides: along, ..whole }, gather: Vec::new() }],
            reductions: vec![Reduction { op: ReduceOp::Sum, dtype: compute_dtype(x.dtype), value }],
            stores: vec![Store { access: store, value: Expr::Acc(0) }],
        };
        cx.push(Kernel::Loops(Loops { nests: vec![nest] }));
        Ok(())
    }
}

impl CumSum {
    fn sums<T: Copy>(&self, x: &[T], shape: &Shape, at: usize, zero: T, add: fn(T, T) -> T) -> Vec<T> {
        let n = shape.get(at).copied().unwrap_or(1);
        let step = strides(shape).get(at).copied().unwrap_or(1) as usize;
        let mut y = x.to_vec();
        for first in (0..x.len()).filter(|p| (p / step).is_multiple_of(n)) {
            let mut sum = zero;
            for k in 0..n {
                let p = first + step * if self.reverse { n - 1 - k } else { k };
                let (Some(&here), Some(out)) = (x.get(p), y.get_mut(p)) else { continue };
                let with = add(sum, here);
                *out = if self.exclusive { sum } else { with };
                sum = with;
            }
        }
        y
    }
}

fn axis_of(operand: Option<&Tensor>, rank: usize) -> Result<usize, OpError> {
    let t = operand.ok_or_else(|| OpError::NotConstant("axis".to_owned()))?;
    match t.to_i64_vec().as_deref() {
        Some([a]) => axis(*a, rank),
        _ => Err(OpError::invalid("the axis is not a scalar")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, i64s};
    use crate::onnx::Attr;

    #[test]
    fn running_sums() {
        let x = i64s(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        let sum = |axis: i64, exclusive, reverse| {
            let attrs = [("exclusive", Attr::Int(exclusive)), ("reverse", Attr::Int(reverse))];
            apply("CumSum", 14, &attrs, &[&x, &i64s(&[], &[axis])]).map(|t| t.to_i64_vec().unwrap())
        };
        assert_eq!(sum(0, 0, 0).unwrap(), [1, 2, 3, 5, 7, 9]);
        assert_eq!(sum(-1, 0, 0).unwrap(), [1, 3, 6, 4, 9, 15]);
        assert_eq!(sum(1, 1, 0).unwrap(), [0, 1, 3, 0, 4, 9]);
        assert_eq!(sum(1, 0, 1).unwrap(), [6, 5, 3, 15, 11, 6]);
        assert_eq!(sum(1, 1, 1).unwrap(), [5, 3, 0, 11, 6, 0]);
        assert!(sum(2, 0, 0).is_err());
    }
}
