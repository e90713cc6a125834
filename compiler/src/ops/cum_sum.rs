//! [CumSum](https://onnx.ai/onnx/operators/onnx__CumSum.html) and
//! [CumProd](https://onnx.ai/onnx/operators/onnx__CumProd.html): running sums and products along an axis.
//!
//! On the device each one is taken anew, so that the loops stay independent: quadratic in the axis. An axis
//! that only run-time data tells is computed for every axis, and one of the results is chosen.

use super::composite::{Composite, INTERNAL, Script};
use super::typed::{
    compute_dtype, expect, expect_loop_type, floats, from_floats, from_ints, ints, is_arithmetic_float,
    is_number, literal,
};
use super::views::access;
use super::walk::{axis, operand, strides};
use super::{Body, Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::{CompareFn, Expr, ReduceOp};
use crate::kernel::loops::{Read, Reduction, Store};
use crate::kernel::{Access, Kernel, Loops, Nest};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Running sums or products of the operand along an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Cumulate {
    /// Products instead of sums.
    pub product: bool,
    /// The axis; may count from the end.
    pub axis: i64,
    /// Whether an element is left out of its own sum.
    pub exclusive: bool,
    /// From the end.
    pub reverse: bool,
}

/// The ONNX operators. Operands: `x`, and the axis (a scalar, or a vector of one).
pub struct Cumulative;

impl Composite for Cumulative {
    const NAMES: &'static [OnnxName] =
        &[OnnxName::onnx("CumSum", 11), OnnxName::onnx("CumSum", 14), OnnxName::onnx("CumProd", 26)];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let (exclusive, reverse) = (attrs.int_or("exclusive", 0)?, attrs.int_or("reverse", 0)?);
        let (x, at) = (inputs.required(0)?, inputs.required(1)?);
        expect(matches!(at.dtype, DType::I32 | DType::I64), at.dtype)?;
        if at.shape.elements() != 1 {
            return Err(OpError::invalid("the axis is not a scalar"));
        }
        let rank = x.shape.rank();
        let mut s = Script::new(&["x", "axis"]);
        let along = |s: &mut Script, axis: i64| {
            let attrs = format!("axis = {axis}, exclusive = {exclusive}, reverse = {reverse}");
            s.op(&format!("{INTERNAL}.{} <{attrs}>", node.op_type), &["x"])
        };
        if let Some(&[known]) =
            inputs.get(1).and_then(|at| at.constant).and_then(Tensor::to_i64_vec).as_deref()
        {
            let y = along(&mut s, known);
            return s.finish(&[&y]);
        }
        if rank == 0 {
            return Err(OpError::invalid("an axis of a scalar"));
        }
        // Both an axis and the same counted from the end choose it.
        let at = s.reshape("axis", &[]);
        let at = s.cast(&at, DType::I64);
        let mut y = along(&mut s, 0);
        for axis in 1..rank as i64 {
            let hits = [axis, axis - rank as i64].map(|a| {
                let a = s.tensor(Tensor::scalar(a));
                s.op("Equal", &[&at, &a])
            });
            let hit = s.op("Or", &[&hits[0], &hits[1]]);
            let this = along(&mut s, axis);
            y = s.op("Where", &[&hit, &this, &y]);
        }
        s.finish(&[&y])
    }
}

impl OnnxOp for Cumulate {
    const NAMES: &'static [OnnxName] = &[
        OnnxName { domain: INTERNAL, op_type: "CumSum", since: 1 },
        OnnxName { domain: INTERNAL, op_type: "CumProd", since: 1 },
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Cumulate {
            product: node.op_type == "CumProd",
            axis: AttrReader::required("axis", attrs.int("axis")?)?,
            exclusive: attrs.int_or("exclusive", 0)? != 0,
            reverse: attrs.int_or("reverse", 0)? != 0,
        }
        .into())
    }
}

impl Op for Cumulate {
    fn name(&self) -> &'static str {
        if self.product { "CumProd" } else { "CumSum" }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect(is_number(x.dtype), x.dtype)?;
        axis(self.axis, x.shape.rank())?;
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let at = axis(self.axis, x.shape().rank())?;
        let (dtype, shape) = (x.dtype(), x.shape().clone());
        let y = if is_arithmetic_float(dtype) {
            let (first, f): (f64, fn(f64, f64) -> f64) =
                if self.product { (1.0, |a, b| a * b) } else { (0.0, |a, b| a + b) };
            from_floats(dtype, shape.clone(), self.totals(&floats(x)?, &shape, at, first, f))?
        } else {
            let (first, f): (i128, fn(i128, i128) -> i128) =
                if self.product { (1, i128::wrapping_mul) } else { (0, i128::wrapping_add) };
            from_ints(dtype, shape.clone(), self.totals(&ints(x)?, &shape, at, first, f))?
        };
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read(0)?;
        expect_loop_type(x.dtype)?;
        let at = axis(self.axis, x.shape.len())?;
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
        let (op, neutral) = if self.product { (ReduceOp::Prod, 1.0) } else { (ReduceOp::Sum, 0.0) };
        let counts = Expr::Compare(side, Box::new(Expr::Index(rank)), Box::new(Expr::Index(at)));
        let value =
            Expr::Select(Box::new(counts), Box::new(Expr::Read(0)), Box::new(literal(x.dtype, neutral)));
        let nest = Nest {
            extents,
            reduce: 1,
            reads: vec![Read { access: Access { strides: along, ..whole }, gather: Vec::new() }],
            reductions: vec![Reduction { op, dtype: compute_dtype(x.dtype), value }],
            stores: vec![Store { access: store, value: Expr::Acc(0) }],
        };
        cx.push(Kernel::Loops(Loops { nests: vec![nest] }));
        Ok(())
    }
}

impl Cumulate {
    fn totals<T: Copy>(&self, x: &[T], shape: &Shape, at: usize, first: T, join: fn(T, T) -> T) -> Vec<T> {
        let n = shape.get(at).copied().unwrap_or(1);
        let step = strides(shape).get(at).copied().unwrap_or(1) as usize;
        let mut y = x.to_vec();
        for start in (0..x.len()).filter(|p| (p / step).is_multiple_of(n)) {
            let mut sum = first;
            for k in 0..n {
                let p = start + step * if self.reverse { n - 1 - k } else { k };
                let (Some(&here), Some(out)) = (x.get(p), y.get_mut(p)) else { continue };
                let with = join(sum, here);
                *out = if self.exclusive { sum } else { with };
                sum = with;
            }
        }
        y
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run;
    use super::super::testing::{apply, i64s};
    use crate::ir::Tensor;
    use crate::onnx::Attr;

    fn along(op: &str, x: &Tensor, axis: i64, exclusive: i64, reverse: i64) -> Option<Vec<i64>> {
        let attrs =
            [("axis", axis), ("exclusive", exclusive), ("reverse", reverse)].map(|(n, v)| (n, Attr::Int(v)));
        apply(&format!("edgec.internal.{op}"), 1, &attrs, &[x]).ok()?.to_i64_vec()
    }

    #[test]
    fn running_sums() {
        let x = i64s(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        let sum = |axis, exclusive, reverse| along("CumSum", &x, axis, exclusive, reverse);
        assert_eq!(sum(0, 0, 0).unwrap(), [1, 2, 3, 5, 7, 9]);
        assert_eq!(sum(-1, 0, 0).unwrap(), [1, 3, 6, 4, 9, 15]);
        assert_eq!(sum(1, 1, 0).unwrap(), [0, 1, 3, 0, 4, 9]);
        assert_eq!(sum(1, 0, 1).unwrap(), [6, 5, 3, 15, 11, 6]);
        assert_eq!(sum(1, 1, 1).unwrap(), [5, 3, 0, 11, 6, 0]);
        assert!(sum(2, 0, 0).is_none());
    }

    #[test]
    fn running_products() {
        let x = i64s(&[3], &[2, 3, 4]);
        assert_eq!(along("CumProd", &x, 0, 0, 0).unwrap(), [2, 6, 24]);
        assert_eq!(along("CumProd", &x, 0, 1, 0).unwrap(), [1, 2, 6]);
        assert_eq!(along("CumProd", &x, 0, 0, 1).unwrap(), [24, 12, 4]);
    }

    #[test]
    fn the_axis_may_come_at_run_time() {
        let x = i64s(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        for (axis, want) in [(0, [1, 2, 3, 5, 7, 9]), (-1, [1, 3, 6, 4, 9, 15]), (1, [1, 3, 6, 4, 9, 15])] {
            let y = run("CumSum", &[Some(&x), Some(&i64s(&[1], &[axis]))], 1).unwrap();
            assert_eq!(y, [i64s(&[2, 3], &want)]);
        }
    }
}
