//! Building loop nests over views: reductions, windows, padding, staging of half-precision values.

use super::OpError;
use super::typed::{cast, compute_dtype, literal};
use super::views::broadcast;
use super::window::Taps;
use crate::ir::DType;
use crate::kernel::expr::{BinaryFn, Expr, ReduceOp, Scalar, UnaryFn};
use crate::kernel::loops::{Read, Reduction, Store};
use crate::kernel::spec::View;
use crate::kernel::{Access, Kernel, Loops, Nest, Operand};
use crate::schedule::{LowerCx, Spatial, SpatialNeed, TensorView};

/// Largest scratch that lowering asks for, in elements: beyond it the model, not the device, is at fault.
const MAX_SCRATCH: usize = 1 << 28;

/// A size as a stride.
pub(super) fn signed(n: usize) -> Result<isize, OpError> {
    isize::try_from(n).map_err(|_| OpError::Limit("a stride is too large".to_owned()))
}

/// `a ∘ b`.
pub(super) fn binary(f: BinaryFn, a: Expr, b: Expr) -> Expr {
    Expr::Binary(f, Box::new(a), Box::new(b))
}

/// `f(a)`.
pub(super) fn unary(f: UnaryFn, a: Expr) -> Expr {
    Expr::Unary(f, Box::new(a))
}

/// `a + b`.
pub(super) fn add(a: Expr, b: Expr) -> Expr {
    binary(BinaryFn::Add, a, b)
}

/// `a · b`.
pub(super) fn mul(a: Expr, b: Expr) -> Expr {
    binary(BinaryFn::Mul, a, b)
}

/// The smallest value of a type, as a literal: minus infinity, or the least integer.
pub(super) fn lowest(dtype: DType) -> Expr {
    let least = match dtype {
        DType::I8 => i64::from(i8::MIN),
        DType::I16 => i64::from(i16::MIN),
        DType::I32 => i64::from(i32::MIN),
        DType::I64 => i64::MIN,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => 0,
        other => return literal(other, f64::NEG_INFINITY),
    };
    if dtype == DType::U64 { literal(dtype, 0.0) } else { Expr::Const(Scalar::Int(dtype, least)) }
}

/// Access to a view with these strides per loop, `shift` elements behind its first.
pub(super) fn access(view: &TensorView, shift: isize, strides: Vec<isize>) -> Result<Access, OpError> {
    let offset = view
        .offset
        .checked_add_signed(shift)
        .ok_or_else(|| OpError::internal("an access starts before its operand"))?;
    Ok(Access { operand: view.operand, dtype: view.dtype, offset, strides })
}

/// A plain read of [`access`].
pub(super) fn read(view: &TensorView, shift: isize, strides: Vec<isize>) -> Result<Read, OpError> {
    Ok(Read { access: access(view, shift, strides)?, gather: Vec::new() })
}

/// A single nest as a step.
pub(super) fn push(cx: &mut LowerCx<'_>, nest: Nest) {
    cx.push(Kernel::Loops(Loops { nests: vec![nest] }));
}

/// Nests that share a step; none reads what another of them writes.
pub(super) fn push_nests(cx: &mut LowerCx<'_>, nests: Vec<Nest>) {
    cx.push(Kernel::Loops(Loops { nests }));
}

/// Dense scratch of a shape, row-major.
pub(super) fn scratch(
    cx: &mut LowerCx<'_>,
    name: &str,
    dtype: DType,
    shape: &[usize],
) -> Result<TensorView, OpError> {
    let order: Vec<usize> = (0..shape.len()).collect();
    scratch_in(cx, name, dtype, shape, &order)
}

/// Dense scratch of a shape whose axes lie in memory in this order, outermost first.
pub(super) fn scratch_in(
    cx: &mut LowerCx<'_>,
    name: &str,
    dtype: DType,
    shape: &[usize],
    order: &[usize],
) -> Result<TensorView, OpError> {
    let mut strides = vec![0isize; shape.len()];
    let mut len = 1usize;
    for &axis in order.iter().rev() {
        strides[axis] = signed(len)?;
        len = len
            .checked_mul(shape[axis])
            .filter(|&n| n <= MAX_SCRATCH)
            .ok_or_else(|| OpError::Limit(format!("scratch memory for {shape:?} is too large")))?;
    }
    let operand = cx.scratch(name, dtype, len);
    Ok(TensorView { operand, dtype, shape: shape.to_vec(), offset: 0, strides })
}

/// The axis order of channels-last memory for `N C …`: batch, space, channels.
pub(super) fn channels_last_order(rank: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rank).filter(|&a| a != 1).collect();
    if rank > 1 {
        order.push(1);
    }
    order
}

/// Distance between the elements of a view that has at most one extent above one.
pub(super) fn vector_stride(view: &TensorView) -> isize {
    view.shape.iter().zip(&view.strides).find(|(d, _)| **d != 1).map_or(1, |(_, &s)| s)
}

/// A vector operand seen as `[1, …, C, …, 1]` with `C` at `axis` of `rank` axes.
pub(super) fn along_axis(vector: &TensorView, axis: usize, rank: usize) -> TensorView {
    let mut view = vector.clone();
    view.shape = vec![1; rank];
    view.strides = vec![0; rank];
    if let (Some(d), Some(s)) = (view.shape.get_mut(axis), view.strides.get_mut(axis)) {
        *d = vector.shape.iter().product();
        *s = vector_stride(vector);
    }
    view
}

/// Operand `i` wherever it lies; `None` where absent.
pub(super) fn read_optional(cx: &mut LowerCx<'_>, i: usize) -> Result<Option<TensorView>, OpError> {
    match cx.input_type(i) {
        Some(_) => cx.read(i).map(Some),
        None => Ok(None),
    }
}

/// A reduction of `x` over `axes` with one accumulator: `y = finish(op(value))`.
///
/// `value` sees the element as `Expr::Read(0)` and `extra` views (of `x`'s shape or broadcast to it)
/// as the following reads. `y` has `x`'s rank with ones at `axes`. `finish` sees `Expr::Acc(0)`, and
/// the reads only where they don't vary over `axes`.
pub(super) struct Reduce<'v> {
    /// What is reduced.
    pub x: &'v TensorView,
    /// Further operands.
    pub extra: &'v [TensorView],
    /// Axes reduced over.
    pub axes: &'v [usize],
    /// How.
    pub op: ReduceOp,
    /// Combined per element.
    pub value: Expr,
    /// Stored.
    pub finish: Expr,
}

impl Reduce<'_> {
    /// Emits the nest into `y`.
    pub(super) fn emit(self, cx: &mut LowerCx<'_>, y: &TensorView) -> Result<(), OpError> {
        let rank = self.x.shape.len();
        let kept: Vec<usize> = (0..rank).filter(|a| !self.axes.contains(a)).collect();
        let order: Vec<usize> = kept.iter().chain(self.axes).copied().collect();
        let strides = |v: &TensorView| order.iter().map(|&a| v.strides[a]).collect::<Vec<_>>();
        let mut reads = vec![read(self.x, 0, strides(self.x))?];
        for v in self.extra {
            let v = broadcast(v, &self.x.shape)?;
            reads.push(read(&v, 0, strides(&v))?);
        }
        let y_strides =
            order.iter().map(|&a| if self.axes.contains(&a) { 0 } else { y.strides[a] }).collect();
        push(
            cx,
            Nest {
                extents: order.iter().map(|&a| self.x.shape[a]).collect(),
                reduce: self.axes.len(),
                reads,
                reductions: vec![Reduction {
                    op: self.op,
                    dtype: compute_dtype(self.x.dtype),
                    value: self.value,
                }],
                stores: vec![Store { access: access(y, 0, y_strides)?, value: self.finish }],
            },
        );
        Ok(())
    }
}

/// `x` with its padding stored: copied into scratch where the window reads any, `x` itself otherwise.
/// Axes 0 and 1 (batch, channels) are not padded. `dtype` is the scratch's type.
pub(super) fn pad(
    cx: &mut LowerCx<'_>,
    x: &TensorView,
    taps: &Taps,
    fill: Expr,
    dtype: DType,
) -> Result<TensorView, OpError> {
    if !taps.padded() && dtype == x.dtype {
        return Ok(x.clone());
    }
    let mut shape = x.shape.clone();
    for (axis, extent) in shape.iter_mut().skip(2).enumerate() {
        *extent += taps.begin[axis] + taps.overrun(axis);
    }
    let padded = scratch(cx, "padded", dtype, &shape)?;
    let fill = Nest {
        extents: vec![shape.iter().product()],
        reduce: 0,
        reads: Vec::new(),
        reductions: Vec::new(),
        stores: vec![Store { access: access(&padded, 0, vec![1])?, value: fill }],
    };
    let shift: isize = padded.strides.iter().skip(2).zip(&taps.begin).map(|(&s, &p)| s * p as isize).sum();
    let copy = Nest {
        extents: x.shape.clone(),
        reduce: 0,
        reads: vec![read(x, 0, x.strides.clone())?],
        reductions: Vec::new(),
        stores: vec![Store {
            access: access(&padded, shift, padded.strides.clone())?,
            value: cast(compute_dtype(x.dtype), compute_dtype(dtype), Expr::Read(0)),
        }],
    };
    push_nests(cx, vec![fill, copy]);
    Ok(padded)
}

/// Strides of a (padded) view's spatial axes per window step and per tap.
pub(super) fn window_strides(view: &TensorView, taps: &Taps) -> (Vec<isize>, Vec<isize>) {
    let spatial = || view.strides.iter().skip(2);
    (
        spatial().zip(&taps.strides).map(|(&s, &n)| s * n as isize).collect(),
        spatial().zip(&taps.dilations).map(|(&s, &n)| s * n as isize).collect(),
    )
}

/// Whether kernels of `f32` serve a type: itself, and the half types through staging.
pub(super) fn single(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::Bf16)
}

/// A channels-last view as spatial extents; `view` is `N C …` of rank 3 to 5 in dense scratch.
fn spatial_view(view: &TensorView) -> Result<View, OpError> {
    let [batch, channels, space @ ..] = view.shape.as_slice() else {
        return Err(OpError::internal("a spatial view of rank below 2"));
    };
    let extent =
        Taps::spatial(space, 1).ok_or_else(|| OpError::internal("a spatial view of rank above 5"))?;
    Ok(View::channels_last(*batch, extent, *channels))
}

/// [`LowerCx::read_spatial`] for `f32`; half types are widened into scratch first.
pub(super) fn read_spatial(cx: &mut LowerCx<'_>, i: usize, need: SpatialNeed) -> Result<Spatial, OpError> {
    match cx.input_type(i) {
        Some((DType::F32, _)) => cx.read_spatial(i, need),
        _ => {
            let x = cx.read(i)?;
            let wide = widened(cx, &x)?;
            Ok(Spatial { operand: wide.operand, view: spatial_view(&wide)?, pads: need.pads })
        }
    }
}

/// [`LowerCx::read_residual`] for `f32`; half types are widened into scratch first.
pub(super) fn read_residual(cx: &mut LowerCx<'_>, i: usize) -> Result<(Operand, View), OpError> {
    match cx.input_type(i) {
        Some((DType::F32, _)) => cx.read_residual(i),
        _ => {
            let x = cx.read(i)?;
            let wide = widened(cx, &x)?;
            Ok((wide.operand, spatial_view(&wide)?))
        }
    }
}

/// A copy in `f32`, channels last.
fn widened(cx: &mut LowerCx<'_>, x: &TensorView) -> Result<TensorView, OpError> {
    let order = channels_last_order(x.shape.len());
    let wide = scratch_in(cx, "widened", DType::F32, &x.shape, &order)?;
    cx.elementwise(&wide, std::slice::from_ref(x), Expr::Read(0))?;
    Ok(wide)
}

/// Where an `f32` kernel writes a result; [`Staged::finish`] moves it to its place where the kernel
/// could not write there (half types, strides that the kernel does not do).
pub(super) struct Staged<V> {
    /// The kernel's output.
    pub operand: Operand,
    /// Its view.
    pub view: V,
    moved: Option<(TensorView, TensorView)>,
}

/// [`LowerCx::write_spatial`] for `f32`; half types are written to scratch first.
pub(super) fn write_spatial(cx: &mut LowerCx<'_>, i: usize) -> Result<Staged<View>, OpError> {
    match cx.output_type(i) {
        Some((DType::F32, _)) | None => {
            let (operand, view) = cx.write_spatial(i)?;
            Ok(Staged { operand, view, moved: None })
        }
        Some((_, shape)) => {
            let order = channels_last_order(shape.rank());
            let wide = scratch_in(cx, "unrounded", DType::F32, shape, &order)?;
            let y = cx.write(i)?;
            Ok(Staged { operand: wide.operand, view: spatial_view(&wide)?, moved: Some((wide, y)) })
        }
    }
}

/// Storage of an `f32` result that `fits` a kernel: the result's own, or dense scratch.
pub(super) fn write_fitting(
    cx: &mut LowerCx<'_>,
    i: usize,
    fits: impl Fn(&TensorView) -> bool,
) -> Result<Staged<TensorView>, OpError> {
    let y = cx.write(i)?;
    if y.dtype == DType::F32 && fits(&y) {
        return Ok(Staged { operand: y.operand, view: y, moved: None });
    }
    let wide = scratch(cx, "unmoved", DType::F32, &y.shape)?;
    Ok(Staged { operand: wide.operand, view: wide.clone(), moved: Some((wide, y)) })
}

/// Storage of an `f32` result for a kernel that writes in the order in which `x` lies densely.
pub(super) fn write_like(
    cx: &mut LowerCx<'_>,
    i: usize,
    x: &TensorView,
) -> Result<Staged<TensorView>, OpError> {
    let y = cx.write(i)?;
    let alike = |(&d, (a, b)): (&usize, (&isize, &isize))| d == 1 || a == b;
    if y.dtype == DType::F32
        && y.offset == 0
        && y.shape.iter().zip(y.strides.iter().zip(&x.strides)).all(alike)
    {
        return Ok(Staged { operand: y.operand, view: y, moved: None });
    }
    let mut order: Vec<usize> = (0..x.shape.len()).collect();
    order.sort_by_key(|&a| (std::cmp::Reverse(x.strides[a]), a));
    let wide = scratch_in(cx, "unmoved", DType::F32, &x.shape, &order)?;
    Ok(Staged { operand: wide.operand, view: wide.clone(), moved: Some((wide, y)) })
}

/// A dense row-major copy in `f32`.
pub(super) fn dense_copy(cx: &mut LowerCx<'_>, x: &TensorView) -> Result<TensorView, OpError> {
    let copy = scratch(cx, "dense", DType::F32, &x.shape)?;
    cx.elementwise(&copy, std::slice::from_ref(x), Expr::Read(0))?;
    Ok(copy)
}

impl<V> Staged<V> {
    /// Emits the move into the result, if one is needed.
    pub(super) fn finish(self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        match self.moved {
            None => Ok(()),
            Some((wide, y)) => cx.elementwise(&y, &[wide], Expr::Read(0)),
        }
    }
}

/// An `f32` operand, row-major and alone in its memory, as `Softmax`, `Norm` and routines want.
pub(super) fn read_whole(cx: &mut LowerCx<'_>, i: usize) -> Result<TensorView, OpError> {
    match cx.input_type(i) {
        Some((DType::F32, _)) => cx.read_dense(i),
        _ => {
            let x = cx.read(i)?;
            dense_copy(cx, &x)
        }
    }
}

/// Storage of an `f32` result, row-major and alone in its memory.
pub(super) fn write_whole(cx: &mut LowerCx<'_>, i: usize) -> Result<Staged<TensorView>, OpError> {
    match cx.output_type(i) {
        Some((DType::F32, _)) => {
            let view = cx.write_dense(i)?;
            Ok(Staged { operand: view.operand, view, moved: None })
        }
        _ => write_fitting(cx, i, |_| false),
    }
}

/// Operand `i` converted to a type, row-major and alone in its memory.
pub(super) fn read_as(cx: &mut LowerCx<'_>, i: usize, dtype: DType) -> Result<TensorView, OpError> {
    match cx.input_type(i) {
        Some((own, shape)) if own != dtype => {
            let x = cx.read(i)?;
            let y = scratch(cx, "converted", dtype, shape)?;
            cx.elementwise(&y, &[x], cast(compute_dtype(own), dtype, Expr::Read(0)))?;
            Ok(y)
        }
        _ => cx.read_dense(i),
    }
}

/// Storage for a routine that computes result `i` in another type, row-major and alone in its memory;
/// [`finish_as`] converts it.
pub(super) fn write_as(cx: &mut LowerCx<'_>, i: usize, dtype: DType) -> Result<TensorView, OpError> {
    match cx.output_type(i) {
        Some((own, shape)) if own != dtype => scratch(cx, "unrounded", dtype, shape),
        _ => cx.write_dense(i),
    }
}

/// Moves what [`write_as`] gave into result `i`, if it is not there.
pub(super) fn finish_as(cx: &mut LowerCx<'_>, i: usize, y: TensorView) -> Result<(), OpError> {
    match cx.output_type(i) {
        Some((own, _)) if own != y.dtype => {
            let (from, out) = (y.dtype, cx.write(i)?);
            cx.elementwise(&out, &[y], cast(from, compute_dtype(own), Expr::Read(0)))
        }
        _ => Ok(()),
    }
}

/// Mean of `x` over `axes`, in the type it computes in; extents of one at the axes.
pub(super) fn mean(cx: &mut LowerCx<'_>, x: &TensorView, axes: &[usize]) -> Result<TensorView, OpError> {
    moment(cx, "mean", x, &[], axes, Expr::Read(0))
}

/// Mean of squares of `x`, or of its distances from `center`, over `axes`.
pub(super) fn mean_square(
    cx: &mut LowerCx<'_>,
    x: &TensorView,
    center: Option<&TensorView>,
    axes: &[usize],
) -> Result<TensorView, OpError> {
    match center {
        None => moment(cx, "mean square", x, &[], axes, mul(Expr::Read(0), Expr::Read(0))),
        Some(c) => {
            let distance = || binary(BinaryFn::Sub, Expr::Read(0), Expr::Read(1));
            moment(cx, "variance", x, std::slice::from_ref(c), axes, mul(distance(), distance()))
        }
    }
}

fn moment(
    cx: &mut LowerCx<'_>,
    name: &str,
    x: &TensorView,
    extra: &[TensorView],
    axes: &[usize],
    value: Expr,
) -> Result<TensorView, OpError> {
    let mut shape = x.shape.clone();
    let mut count = 1usize;
    for &a in axes {
        count = count.saturating_mul(shape[a]);
        shape[a] = 1;
    }
    let compute = compute_dtype(x.dtype);
    let y = scratch(cx, name, compute, &shape)?;
    let finish = binary(BinaryFn::Div, Expr::Acc(0), literal(compute, count as f64));
    Reduce { x, extra, axes, op: ReduceOp::Sum, value, finish }.emit(cx, &y)?;
    Ok(y)
}
