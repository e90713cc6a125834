//! [ReduceSum](https://onnx.ai/onnx/operators/onnx__ReduceSum.html), ReduceMean, ReduceMax and their
//! kind, one struct for all.
//!
//! Axes are attributes, or operand 1 (ReduceSum from 13, the others from 18), then known at compile
//! time. Integers accumulate wrapping, their means truncate; L2 norms and logarithms of integers are
//! computed in `f64` and truncated.

use super::length::{Axes, none, of, unknown_length};
use super::typed::{
    cast, compute_dtype, expect, expect_loop_type, floats, from_floats, from_ints, ints, is_arithmetic_float,
    is_number, literal,
};
use super::views::{reduction_order, reordered};
use super::walk::{axes, operand, optional, positions, strides};
use super::{Inputs, LayoutRule, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::{BinaryFn, Expr, ReduceOp, UnaryFn};
use crate::kernel::loops::{Read, Reduction, Store};
use crate::kernel::{Kernel, Loops, Nest};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};

/// What is computed of the elements along the reduced axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the ONNX operator of that name
pub enum ReduceFn {
    L1,
    L2,
    LogSum,
    LogSumExp,
    Max,
    Mean,
    Min,
    Prod,
    Sum,
    SumSquare,
}

/// A reduction over axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduce {
    /// Which.
    pub function: ReduceFn,
    /// Axes given as attribute; otherwise operand 1 holds them, if anything does.
    pub axes: Option<Vec<i64>>,
    /// Whether reduced axes stay with extent 1.
    pub keepdims: bool,
    /// Whether no axes mean none rather than all.
    pub noop_with_empty_axes: bool,
}

const LIST: &[(&str, ReduceFn)] = &[
    ("ReduceL1", ReduceFn::L1),
    ("ReduceL2", ReduceFn::L2),
    ("ReduceLogSum", ReduceFn::LogSum),
    ("ReduceLogSumExp", ReduceFn::LogSumExp),
    ("ReduceMax", ReduceFn::Max),
    ("ReduceMean", ReduceFn::Mean),
    ("ReduceMin", ReduceFn::Min),
    ("ReduceProd", ReduceFn::Prod),
    ("ReduceSum", ReduceFn::Sum),
    ("ReduceSumSquare", ReduceFn::SumSquare),
];

const fn names() -> [OnnxName; LIST.len()] {
    let mut names = [OnnxName::onnx("", 0); LIST.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = OnnxName::onnx(LIST[i].0, 1);
        i += 1;
    }
    names
}

impl OnnxOp for Reduce {
    const NAMES: &'static [OnnxName] = &names();

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let listed = LIST.iter().find(|(name, _)| *name == node.op_type);
        let &(_, function) =
            listed.ok_or_else(|| OpError::internal(format!("`{}` is not a reduction", node.op_type)))?;
        let operand_since = if function == ReduceFn::Sum { 13 } else { 18 };
        let by_operand = node.opset >= operand_since;
        Ok(Reduce {
            function,
            axes: if by_operand { None } else { attrs.ints("axes")? },
            keepdims: attrs.int_or("keepdims", 1)? != 0,
            noop_with_empty_axes: by_operand && attrs.int_or("noop_with_empty_axes", 0)? != 0,
        }
        .into())
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        LIST.iter().find(|(_, f)| *f == self.function).map_or("Reduce", |(name, _)| name)
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        let extremum = matches!(self.function, ReduceFn::Max | ReduceFn::Min);
        expect(is_number(x.dtype) || extremum && x.dtype == DType::Bool, x.dtype)?;
        if let Some(list) = inputs.get(1) {
            expect(list.dtype == DType::I64, list.dtype)?;
        }
        let reduced = self.reduced(x.shape.rank(), inputs.known_ints(1, "axes")?)?;
        Ok(vec![Type::new(x.dtype, self.shape(x.shape, &reduced))])
    }

    fn lengths(&self, inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        let Some(axis) = of(along, 0) else { return none(along) };
        let rank = inputs.required(0)?.shape.rank();
        let reduced = self.reduced(rank, inputs.known_ints(1, "axes")?)?;
        let in_front = if self.keepdims { 0 } else { reduced.iter().filter(|&&a| a < axis).count() };
        match (reduced.contains(&axis), self.function) {
            (false, _) => Ok(Lengths::same(axis - in_front)),
            // Zeros count for nothing.
            (true, ReduceFn::L1 | ReduceFn::L2 | ReduceFn::Sum | ReduceFn::SumSquare) => {
                Ok(Lengths::default().clearing(0))
            }
            (true, _) => Err(unknown_length("the axis that is reduced")),
        }
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let reduced = self.reduced(x.shape().rank(), optional(inputs, 1).and_then(Tensor::to_i64_vec))?;
        let shape = self.shape(x.shape(), &reduced);
        let groups = Groups::new(x.shape(), &reduced);
        let real = matches!(self.function, ReduceFn::L2 | ReduceFn::LogSum | ReduceFn::LogSumExp);
        let y = if is_arithmetic_float(x.dtype()) || real {
            let values = floats(x)?;
            let reduce = |group: Vec<f64>| of_floats(self.function, &group);
            from_floats(x.dtype(), shape, groups.of(&values).map(reduce))?
        } else {
            let values = ints(x)?;
            let bounds = bounds(x.dtype());
            let reduce = |group: Vec<i128>| of_ints(self.function, &group, bounds);
            from_ints(x.dtype(), shape, groups.of(&values).map(reduce))?
        };
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        if self.keepdims { LayoutRule::Follow } else { LayoutRule::View }
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read(0)?;
        expect_loop_type(x.dtype)?;
        let reduced = self.reduced(x.shape.len(), cx.constant(1).and_then(Tensor::to_i64_vec))?;
        let mut y = cx.write(0)?;
        if y.shape.contains(&0) {
            return Ok(());
        }
        if !self.keepdims {
            y = with_reduced_axes(&y, &x, &reduced);
        }
        if self.function == ReduceFn::LogSumExp {
            return log_sum_exp(cx, &x, &y, &reduced);
        }
        let count = reduced.iter().filter_map(|&a| x.shape.get(a)).product::<usize>();
        let (reduction, store) = self.parts(x.dtype, count);
        let nest = nest(&x, None, &y, &reduced, reduction, store);
        cx.push(Kernel::Loops(Loops { nests: vec![nest] }));
        Ok(())
    }
}

impl Reduce {
    /// The axes reduced over, ascending; `given` is operand 1.
    pub fn reduced(&self, rank: usize, given: Option<Vec<i64>>) -> Result<Vec<usize>, OpError> {
        let list = self.axes.clone().or(given).unwrap_or_default();
        if list.is_empty() {
            return Ok(if self.noop_with_empty_axes { Vec::new() } else { (0..rank).collect() });
        }
        let mut list = axes(&list, rank)?;
        list.sort_unstable();
        Ok(list)
    }

    fn shape(&self, x: &Shape, reduced: &[usize]) -> Shape {
        let kept = x.iter().enumerate().filter(|(a, _)| self.keepdims || !reduced.contains(a));
        kept.map(|(a, &d)| if reduced.contains(&a) { 1 } else { d }).collect()
    }

    /// What is accumulated of `Expr::Read(0)`, and what is stored of `Expr::Acc(0)`.
    fn parts(&self, dtype: DType, count: usize) -> (Reduction, Expr) {
        let unary = |f, e| Expr::Unary(f, Box::new(e));
        let square = |e: Expr| Expr::Binary(BinaryFn::Mul, Box::new(e.clone()), Box::new(e));
        // Integers that leave the integers do so in f64; their means add up in 64 bits.
        let wide = match self.function {
            ReduceFn::L2 | ReduceFn::LogSum | ReduceFn::LogSumExp if dtype.is_int() => DType::F64,
            ReduceFn::Mean if dtype.is_int() && dtype != DType::U64 => DType::I64,
            _ => compute_dtype(dtype),
        };
        let x = cast(dtype, wide, Expr::Read(0));
        let (op, value, finish) = match self.function {
            ReduceFn::L1 => (ReduceOp::Sum, unary(UnaryFn::Abs, x), Expr::Acc(0)),
            ReduceFn::L2 => (ReduceOp::Sum, square(x), unary(UnaryFn::Sqrt, Expr::Acc(0))),
            ReduceFn::LogSum | ReduceFn::LogSumExp => (ReduceOp::Sum, x, unary(UnaryFn::Log, Expr::Acc(0))),
            ReduceFn::Max if dtype == DType::Bool => (ReduceOp::Any, x, Expr::Acc(0)),
            ReduceFn::Min if dtype == DType::Bool => (ReduceOp::All, x, Expr::Acc(0)),
            ReduceFn::Max => (ReduceOp::Max, x, Expr::Acc(0)),
            ReduceFn::Min => (ReduceOp::Min, x, Expr::Acc(0)),
            ReduceFn::Mean => {
                let n = Box::new(literal(wide, count as f64));
                (ReduceOp::Sum, x, Expr::Binary(BinaryFn::Div, Box::new(Expr::Acc(0)), n))
            }
            ReduceFn::Prod => (ReduceOp::Prod, x, Expr::Acc(0)),
            ReduceFn::Sum => (ReduceOp::Sum, x, Expr::Acc(0)),
            ReduceFn::SumSquare => (ReduceOp::Sum, square(x), Expr::Acc(0)),
        };
        (Reduction { op, dtype: wide, value }, cast(wide, compute_dtype(dtype), finish))
    }
}

/// `y` with the reduced axes of `x` put back as axes of extent 1.
pub(super) fn with_reduced_axes(y: &TensorView, x: &TensorView, reduced: &[usize]) -> TensorView {
    let mut kept = y.strides.iter().copied();
    let strides = (0..x.shape.len()).map(|a| if reduced.contains(&a) { 0 } else { kept.next().unwrap_or(0) });
    let shape = x.shape.iter().enumerate().map(|(a, &d)| if reduced.contains(&a) { 1 } else { d });
    TensorView { shape: shape.collect(), strides: strides.collect(), ..y.clone() }
}

/// One nest reducing `x` into `y`, which has `x`'s rank; `more` is a second operand of `y`'s shape,
/// `Expr::Read(1)`.
pub(super) fn nest(
    x: &TensorView,
    more: Option<&TensorView>,
    y: &TensorView,
    reduced: &[usize],
    reduction: Reduction,
    store: Expr,
) -> Nest {
    let (order, reduce) = reduction_order(x, y, reduced);
    let mut extents: Vec<usize> = order.iter().filter_map(|&a| x.shape.get(a).copied()).collect();
    // Accumulators need a loop, even where each takes one element.
    let single = usize::from(reduce == 0);
    extents.resize(extents.len() + single, 1);
    let access = |v: &TensorView| {
        let mut access = reordered(v, &order);
        access.strides.resize(access.strides.len() + single, 0);
        access
    };
    let reads = std::iter::once(x).chain(more).map(|v| Read { access: access(v), gather: Vec::new() });
    Nest {
        extents,
        reduce: reduce + single,
        reads: reads.collect(),
        reductions: vec![reduction],
        stores: vec![Store { access: access(y), value: store }],
    }
}

/// log Σ exp(x), by way of the maximum so that no exponential overflows.
fn log_sum_exp(
    cx: &mut LowerCx<'_>,
    x: &TensorView,
    y: &TensorView,
    reduced: &[usize],
) -> Result<(), OpError> {
    let wide = if x.dtype.is_int() { DType::F64 } else { compute_dtype(x.dtype) };
    let element = cast(x.dtype, wide, Expr::Read(0));
    let len = y.shape.iter().product();
    let operand = cx.scratch("max", wide, len);
    let max =
        TensorView { operand, dtype: wide, shape: y.shape.clone(), offset: 0, strides: strides(&y.shape) };
    // An infinite maximum would make x - max undefined; zero serves there.
    let infinite = UnaryFn::IsInf { positive: true, negative: true };
    let finite_max = Expr::Select(
        Box::new(Expr::Unary(infinite, Box::new(Expr::Acc(0)))),
        Box::new(literal(wide, 0.0)),
        Box::new(Expr::Acc(0)),
    );
    let reduction = Reduction { op: ReduceOp::Max, dtype: wide, value: element.clone() };
    let first = nest(x, None, &max, reduced, reduction, finite_max);
    cx.push(Kernel::Loops(Loops { nests: vec![first] }));
    let shifted = Expr::Binary(BinaryFn::Sub, Box::new(element), Box::new(Expr::Read(1)));
    let reduction =
        Reduction { op: ReduceOp::Sum, dtype: wide, value: Expr::Unary(UnaryFn::Exp, Box::new(shifted)) };
    let log = Expr::Unary(UnaryFn::Log, Box::new(Expr::Acc(0)));
    let sum = Expr::Binary(BinaryFn::Add, Box::new(log), Box::new(Expr::Read(1)));
    let store = cast(wide, compute_dtype(y.dtype), sum);
    let second = nest(x, Some(&max), y, reduced, reduction, store);
    cx.push(Kernel::Loops(Loops { nests: vec![second] }));
    Ok(())
}

/// The elements that each result is made of, results and elements in row-major order.
pub(super) struct Groups {
    starts: Vec<usize>,
    members: Vec<usize>,
}

impl Groups {
    pub(super) fn new(x: &Shape, reduced: &[usize]) -> Self {
        let steps = strides(x);
        let walk = |inside: bool| -> Vec<usize> {
            let axes = (0..x.rank()).filter(|a| reduced.contains(a) == inside);
            let (extents, steps): (Vec<usize>, Vec<isize>) = axes.map(|a| (x[a], steps[a])).unzip();
            positions(&extents, &steps, 0).collect()
        };
        Groups { starts: walk(false), members: walk(true) }
    }

    pub(super) fn of<'v, T: Copy>(&'v self, values: &'v [T]) -> impl Iterator<Item = Vec<T>> + 'v {
        let member = move |start: usize| move |m: &usize| values.get(start + m).copied();
        self.starts.iter().map(move |&start| self.members.iter().filter_map(member(start)).collect())
    }
}

fn of_floats(f: ReduceFn, group: &[f64]) -> f64 {
    let sum = |term: fn(f64) -> f64| group.iter().fold(0.0, |n, &x| n + term(x));
    let extremum = |empty, f| group.iter().fold(empty, |n, &x| super::binary::of_floats(f, n, x));
    match f {
        ReduceFn::L1 => sum(libm::fabs),
        ReduceFn::L2 => libm::sqrt(sum(|x| x * x)),
        ReduceFn::LogSum => libm::log(sum(|x| x)),
        ReduceFn::LogSumExp => {
            let max = extremum(f64::NEG_INFINITY, BinaryFn::Max);
            let max = if max.is_infinite() { 0.0 } else { max };
            libm::log(group.iter().fold(0.0, |n, &x| n + libm::exp(x - max))) + max
        }
        ReduceFn::Max => extremum(f64::NEG_INFINITY, BinaryFn::Max),
        ReduceFn::Mean => sum(|x| x) / group.len() as f64,
        ReduceFn::Min => extremum(f64::INFINITY, BinaryFn::Min),
        ReduceFn::Prod => group.iter().fold(1.0, |n, &x| n * x),
        ReduceFn::Sum => sum(|x| x),
        ReduceFn::SumSquare => sum(|x| x * x),
    }
}

/// `bounds` are the type's smallest and largest value, results of empty reductions.
fn of_ints(f: ReduceFn, group: &[i128], bounds: (i128, i128)) -> i128 {
    let sum = |term: fn(i128) -> i128| group.iter().fold(0i128, |n, &x| n.wrapping_add(term(x)));
    match f {
        ReduceFn::L1 => sum(i128::abs),
        ReduceFn::Max => group.iter().copied().fold(bounds.0, i128::max),
        ReduceFn::Min => group.iter().copied().fold(bounds.1, i128::min),
        ReduceFn::Mean => sum(|x| x).checked_div(group.len() as i128).unwrap_or(0),
        ReduceFn::Prod => group.iter().fold(1i128, |n, &x| n.wrapping_mul(x)),
        ReduceFn::SumSquare => sum(|x| x.wrapping_mul(x)),
        // Computed in floats; `eval` does not come here with them.
        ReduceFn::Sum | ReduceFn::L2 | ReduceFn::LogSum | ReduceFn::LogSumExp => sum(|x| x),
    }
}

fn bounds(dtype: DType) -> (i128, i128) {
    if dtype == DType::Bool {
        return (0, 1);
    }
    let bits = 8 * dtype.size() as u32;
    if dtype.is_signed_int() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s, import, run};
    use super::*;
    use crate::onnx::Attr;

    fn all(op: &str, values: &[f32]) -> f32 {
        let y = apply(op, 18, &[("keepdims", Attr::Int(0))], &[&f32s(&[values.len()], values)]).unwrap();
        y.as_slice::<f32>().unwrap()[0]
    }

    #[test]
    fn every_function() {
        let x = [1.0, -2.0, 4.0];
        for (op, y) in [
            ("ReduceL1", 7.0),
            ("ReduceL2", 21f32.sqrt()),
            ("ReduceLogSum", 3f32.ln()),
            ("ReduceLogSumExp", 4.050_946),
            ("ReduceMax", 4.0),
            ("ReduceMean", 1.0),
            ("ReduceMin", -2.0),
            ("ReduceProd", -8.0),
            ("ReduceSum", 3.0),
            ("ReduceSumSquare", 21.0),
        ] {
            assert!((all(op, &x) - y).abs() < 1e-5, "{op}: {}", all(op, &x));
            assert_eq!(import(op, 13, &[], 1, 1).unwrap().as_op().name(), op);
        }
        assert_eq!(all("ReduceLogSumExp", &[1000.0, 1000.0]), 1_000.693_2);
        assert_eq!(all("ReduceLogSumExp", &[f32::NEG_INFINITY]), f32::NEG_INFINITY);
        assert!(all("ReduceMax", &[1.0, f32::NAN]).is_nan());
    }

    #[test]
    fn axes_as_attribute_and_operand() {
        let x = i64s(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        let attr = [("axes", Attr::Ints(vec![-1])), ("keepdims", Attr::Int(0))];
        assert_eq!(apply("ReduceSum", 11, &attr, &[&x]).unwrap(), i64s(&[2, 1], &[6, 15]));
        assert!(import("ReduceSum", 13, &attr, 2, 1).is_err(), "axes are an operand since 13");
        assert!(import("ReduceMean", 13, &attr, 1, 1).is_ok());
        assert_eq!(
            apply("ReduceSum", 13, &[], &[&x, &i64s(&[2], &[2, 0])]).unwrap(),
            i64s(&[1, 1, 1], &[21])
        );
        let noop = [("noop_with_empty_axes", Attr::Int(1))];
        assert_eq!(
            apply("ReduceSumSquare", 18, &noop, &[&i64s(&[2], &[2, 3])]).unwrap(),
            i64s(&[2], &[4, 9])
        );
        assert_eq!(apply("ReduceSum", 13, &[], &[&x, &i64s(&[0], &[])]).unwrap(), i64s(&[1, 1, 1], &[21]));
        assert!(apply("ReduceSum", 13, &[], &[&x, &i64s(&[2], &[0, -3])]).is_err());
        assert!(apply("ReduceSum", 13, &[], &[&x, &i64s(&[1], &[i64::MIN])]).is_err());
    }

    #[test]
    fn integers_and_empty_reductions() {
        let keep = [("axes", Attr::Ints(vec![0])), ("keepdims", Attr::Int(0))];
        let bytes = Tensor::vector(&[200u8, 100]);
        assert_eq!(apply("ReduceMax", 13, &keep, &[&bytes]).unwrap(), Tensor::scalar(200u8));
        assert_eq!(apply("ReduceMean", 13, &keep, &[&i64s(&[2], &[-1, -2])]).unwrap(), i64s(&[], &[-1]));
        assert_eq!(apply("ReduceL2", 13, &keep, &[&i64s(&[2], &[3, -4])]).unwrap(), i64s(&[], &[5]));
        let empty = f32s(&[0, 2], &[]);
        assert_eq!(apply("ReduceMin", 13, &keep, &[&empty]).unwrap(), f32s(&[2], &[f32::INFINITY; 2]));
        assert_eq!(apply("ReduceProd", 13, &keep, &[&empty]).unwrap(), f32s(&[2], &[1.0; 2]));
        let op = import("ReduceMax", 20, &[], 1, 1).unwrap();
        assert_eq!(
            run(&op, &[Some(&Tensor::vector(&[false, true]))], 1).unwrap()[0],
            Tensor::vector(&[true])
        );
        let none = Tensor::vector::<i8>(&[]);
        assert_eq!(run(&op, &[Some(&none)], 1).unwrap()[0], Tensor::vector(&[i8::MIN]));
    }

    #[test]
    fn half_precision_accumulates_in_f32() {
        let op = Reduce { function: ReduceFn::Mean, axes: None, keepdims: true, noop_with_empty_axes: false };
        let (reduction, store) = op.parts(DType::F16, 4);
        assert_eq!((reduction.dtype, reduction.value), (DType::F32, Expr::Read(0)));
        let four = Box::new(literal(DType::F32, 4.0));
        assert_eq!(store, Expr::Binary(BinaryFn::Div, Box::new(Expr::Acc(0)), four));
    }
}
