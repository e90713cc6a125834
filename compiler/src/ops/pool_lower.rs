//! Pools → kernel steps: `Kernel::Pool`, or loop nests for positions, norms and other types.

use super::OpError;
use super::fused::activation_expr;
use super::nest::{
    access, add, binary, lowest, mul, pad, push, read, read_spatial, signed, single, unary, window_strides,
    write_spatial,
};
use super::typed::{cast, compute_dtype, literal};

use super::pool::{Kind, Pool};
use super::window::{Taps, advance};
use crate::ir::DType;
use crate::kernel::expr::{BinaryFn, Expr, ReduceOp, Scalar, UnaryFn};
use crate::kernel::loops::{Read, Reduction, Store};
use crate::kernel::spec::{PoolKind, PoolSpec};
use crate::kernel::{Kernel, Nest};
use crate::schedule::{LowerCx, SpatialNeed, TensorView};

/// Emits the steps of a pool.
pub(super) fn lower(op: &Pool, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
    let (dtype, x) = cx.input_type(0).ok_or_else(|| OpError::internal("a pool without operand"))?;
    let taps = op.taps(x)?;
    let places = cx.output_type(1).is_some();
    if x.iter().take(2).chain(&taps.output).any(|&d| d == 0) {
        for i in (0..2).filter(|&i| cx.output_type(i).is_some()).collect::<Vec<_>>() {
            cx.write(i)?;
        }
        return Ok(());
    }
    let kind = match op.kind {
        Kind::Max { .. } => Some(PoolKind::Max),
        Kind::Average { include_pad: true } => Some(PoolKind::AverageIncludePad),
        Kind::Average { include_pad: false } => Some(PoolKind::AverageExcludePad),
        Kind::Lp { .. } => None,
    };
    match (kind, Taps::spatial(&taps.kernel, 1)) {
        (Some(kind), Some(kernel)) if single(dtype) && !places && !x.contains(&0) => {
            by_kernel(op, cx, &taps, kind, kernel)
        }
        _ => by_nests(op, cx, &taps, dtype, places),
    }
}

fn by_kernel(
    op: &Pool,
    cx: &mut LowerCx<'_>,
    taps: &Taps,
    kind: PoolKind,
    kernel: [usize; 3],
) -> Result<(), OpError> {
    let axes = |values: &[usize], fill| {
        Taps::spatial(values, fill).ok_or_else(|| OpError::internal("more than three spatial axes"))
    };
    // The padding takes no part, or counts only where the model put it: it is never stored.
    let need = SpatialNeed {
        pads: axes(&taps.begin, 0)?,
        pads_end: axes(&taps.overruns(), 0)?,
        fill: None,
        planar: false,
    };
    let input = read_spatial(cx, 0, need)?;
    let output = write_spatial(cx, 0)?;
    cx.push(Kernel::Pool {
        spec: PoolSpec {
            kind,
            x: input.view,
            y: output.view,
            kernel,
            stride: axes(&taps.strides, 1)?,
            dilation: axes(&taps.dilations, 1)?,
            pads: input.pads,
            pads_end: axes(&taps.end, 0)?,
            activation: op.activation,
        },
        x: input.operand,
        y: output.operand,
    });
    output.finish(cx)
}

fn by_nests(op: &Pool, cx: &mut LowerCx<'_>, taps: &Taps, dtype: DType, places: bool) -> Result<(), OpError> {
    let x = cx.read(0)?;
    // Positions need a fill below every element, so integers are widened.
    let narrow = places && dtype.is_int() && dtype.size() < 8;
    let stored = if narrow { DType::I64 } else { dtype };
    let compute = compute_dtype(stored);
    let max = matches!(op.kind, Kind::Max { .. });
    let fill = if max { lowest(stored) } else { literal(stored, 0.0) };
    let padded = pad(cx, &x, taps, fill, stored)?;
    let (steps, tap_steps) = window_strides(&padded, taps);
    let from = padded.strides.iter().take(2).copied().chain(steps).chain(tap_steps).collect();
    let mut reads = vec![read(&padded, 0, from)?];
    let element = Expr::Read(0);
    let (combine, value) = match op.kind {
        Kind::Max { .. } => (ReduceOp::Max, element.clone()),
        Kind::Average { .. } => (ReduceOp::Sum, element.clone()),
        Kind::Lp { p: 1 } => (ReduceOp::Sum, unary(UnaryFn::Abs, element.clone())),
        Kind::Lp { p: 2 } => (ReduceOp::Sum, mul(element.clone(), element.clone())),
        Kind::Lp { p } => {
            let magnitude = unary(UnaryFn::Abs, element.clone());
            (ReduceOp::Sum, binary(BinaryFn::Pow, magnitude, literal(compute, p as f64)))
        }
    };
    let result = match op.kind {
        Kind::Max { .. } | Kind::Lp { p: 1 } => Expr::Acc(0),
        Kind::Average { include_pad } => {
            let (table, count) = counts(cx, taps, compute, include_pad, reads.len())?;
            reads.extend(table);
            binary(BinaryFn::Div, Expr::Acc(0), count)
        }
        Kind::Lp { p: 2 } => unary(UnaryFn::Sqrt, Expr::Acc(0)),
        Kind::Lp { p } => binary(BinaryFn::Pow, Expr::Acc(0), literal(compute, 1.0 / p as f64)),
    };
    let result = cast(compute, compute_dtype(dtype), activation_expr(op.activation, result, None));
    let mut reductions = Vec::new();
    let mut stores = Vec::new();
    let to = |y: &TensorView| {
        let strides = y.strides.iter().copied().chain(vec![0; taps.rank()]).collect();
        access(y, 0, strides)
    };
    reductions.push(Reduction { op: combine, dtype: compute, value });
    if cx.output_type(0).is_some() {
        let y = cx.write(0)?;
        stores.push(Store { access: to(&y)?, value: result });
    }
    if let (true, Kind::Max { column_major }) = (places, op.kind) {
        reductions.push(Reduction { op: ReduceOp::ArgMax { last: false }, dtype: compute, value: element });
        let y = cx.write(1)?;
        stores.push(Store { access: to(&y)?, value: place(taps, x.shape[1], column_major)? });
    }
    let extents = x.shape.iter().take(2).chain(&taps.output).chain(&taps.kernel).copied().collect::<Vec<_>>();
    push(cx, Nest { extents, reduce: taps.rank(), reads, reductions, stores });
    Ok(())
}

/// The position in the flattened input of the tap that accumulator 1 names.
fn place(taps: &Taps, channels: usize, column_major: bool) -> Result<Expr, OpError> {
    let int = |n: usize| Ok::<_, OpError>(Expr::Const(Scalar::Int(DType::I64, signed(n)? as i64)));
    let size: usize = taps.input.iter().product();
    let plane = add(mul(Expr::Index(0), int(channels)?), Expr::Index(1));
    let mut sum = mul(plane, int(size)?);
    for axis in 0..taps.rank() {
        let inner: usize = taps.kernel[axis + 1..].iter().product();
        let tap = binary(BinaryFn::Div, Expr::Acc(1), int(inner)?);
        let tap = binary(BinaryFn::Mod, tap, int(taps.kernel[axis])?);
        let at =
            add(mul(Expr::Index(2 + axis), int(taps.strides[axis])?), mul(tap, int(taps.dilations[axis])?));
        let at = binary(BinaryFn::Sub, at, int(taps.begin[axis])?);
        let stride: usize = if column_major {
            taps.input[..axis].iter().product()
        } else {
            taps.input[axis + 1..].iter().product()
        };
        sum = add(sum, mul(at, int(stride)?));
    }
    Ok(sum)
}

/// How many taps each mean divides by: a literal, or a table over the output's space as read `index`.
fn counts(
    cx: &mut LowerCx<'_>,
    taps: &Taps,
    compute: DType,
    include_pad: bool,
    index: usize,
) -> Result<(Option<Read>, Expr), OpError> {
    let mut window = vec![0; taps.rank()];
    let mut table = Vec::new();
    loop {
        let per_axis = window.iter().enumerate();
        let count: usize = per_axis
            .map(|(axis, &o)| if include_pad { taps.inside_padded(axis, o) } else { taps.inside(axis, o) })
            .map(|range| range.len())
            .product();
        table.push(count as f64);
        if !advance(&mut window, &taps.output) {
            break;
        }
    }
    if let Some(&first) = table.first()
        && table.iter().all(|&c| c == first)
    {
        return Ok((None, literal(compute, first)));
    }
    let operand = match compute {
        DType::F64 => cx.blob("counts", &table),
        _ => cx.blob("counts", &table.iter().map(|&c| c as f32).collect::<Vec<f32>>()),
    };
    let mut strides = vec![0isize; 2];
    for axis in 0..taps.rank() {
        strides.push(signed(taps.output[axis + 1..].iter().product())?);
    }
    strides.extend(vec![0; taps.rank()]);
    let view = TensorView { operand, dtype: compute, shape: Vec::new(), offset: 0, strides: Vec::new() };
    Ok((Some(read(&view, 0, strides)?), Expr::Read(index)))
}
