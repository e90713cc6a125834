//! Resize → loop nests, in whatever memory order the value lies: nearest as one copy with strides,
//! repeats or index tables; the rest one axis at a time with tables of positions and weights.

use super::OpError;
use super::nest::{access, add, mul, push, read, scratch_in, signed};
use super::resize::{Mode, Resize, order};
use super::resize_table::Table;
use super::typed::{cast, compute_dtype};
use crate::ir::DType;
use crate::kernel::Nest;
use crate::kernel::expr::{Expr, ReduceOp};
use crate::kernel::loops::{Gather, Read, Reduction, Store};
use crate::schedule::{LowerCx, TensorView};

/// Up to so many neighbours are written out; more are a loop.
const UNROLLED_TAPS: usize = 4;

/// Emits the steps of a resize.
pub(super) fn lower(op: &Resize, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
    let (_, shape) = cx.input_type(0).ok_or_else(|| OpError::internal("no operand"))?;
    let plan = op.plan_of(shape, [1, 2, 3].map(|i| cx.constant(i)))?;
    let x = cx.read(0)?;
    let y = cx.write(0)?;
    if y.shape.contains(&0) {
        return Ok(());
    }
    let tables = plan.iter().map(|a| op.table(a)).collect::<Result<Vec<_>, _>>()?;
    if matches!(op.mode, Mode::Nearest(_)) && tables.iter().all(|t| t.outside.is_empty()) {
        return nearest(cx, &x, &y, &tables);
    }
    let order = order(&plan, &tables);
    let Some((&last, first)) = order.split_last() else {
        return cx.copy(&x, &y);
    };
    let between = match compute_dtype(y.dtype) {
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    let memory = memory_order(&y);
    let mut from = x;
    for &axis in first {
        let mut extents = from.shape.clone();
        extents[axis] = plan[axis].output;
        let to = scratch_in(cx, "resized", between, &extents, &memory)?;
        along(cx, &from, &to, axis, &tables[axis], between)?;
        from = to;
    }
    along(cx, &from, &y, last, &tables[last], between)
}

/// Axes by their strides, largest first.
fn memory_order(view: &TensorView) -> Vec<usize> {
    let mut order: Vec<usize> = (0..view.shape.len()).collect();
    order.sort_by_key(|&a| (std::cmp::Reverse(view.strides[a]), a));
    order
}

/// How the positions of an axis follow from loop variables.
enum Walk {
    /// `first + o·step`.
    Steps { first: usize, step: isize },
    /// `o / repeat`.
    Repeats { repeat: usize },
    /// No rule.
    Listed,
}

fn walk(index: &[i64]) -> Walk {
    let (Some(&first), step) = (index.first(), index.get(1).map_or(0, |b| b - index[0])) else {
        return Walk::Listed;
    };
    if index.iter().enumerate().all(|(o, &i)| i == first + o as i64 * step) {
        return Walk::Steps { first: first as usize, step: step as isize };
    }
    let repeat = index.iter().take_while(|&&i| i == first).count();
    if first == 0
        && index.len().is_multiple_of(repeat)
        && index.iter().enumerate().all(|(o, &i)| i == (o / repeat) as i64)
    {
        return Walk::Repeats { repeat };
    }
    Walk::Listed
}

fn nearest(cx: &mut LowerCx<'_>, x: &TensorView, y: &TensorView, tables: &[Table]) -> Result<(), OpError> {
    let (mut extents, mut from, mut to) = (Vec::new(), Vec::new(), Vec::new());
    let mut listed = Vec::new();
    let mut shift = 0isize;
    for axis in memory_order(y) {
        let (sx, sy) = (x.strides[axis], y.strides[axis]);
        match walk(&tables[axis].index) {
            Walk::Steps { first, step } => {
                shift += sx * signed(first)?;
                extents.push(y.shape[axis]);
                from.push(sx * step);
                to.push(sy);
            }
            Walk::Repeats { repeat } => {
                extents.extend([y.shape[axis] / repeat, repeat]);
                from.extend([sx, 0]);
                to.extend([sy * signed(repeat)?, sy]);
            }
            Walk::Listed => {
                listed.push((extents.len(), axis));
                extents.push(y.shape[axis]);
                from.push(0);
                to.push(sy);
            }
        }
    }
    let mut reads = Vec::new();
    let mut gather = Vec::new();
    for (level, axis) in listed {
        gather.push(position(reads.len(), x, axis));
        reads.push(column(cx, &tables[axis], 0, level, extents.len())?);
    }
    let value = Expr::Read(reads.len());
    reads.push(Read { access: access(x, shift, from)?, gather });
    let stores = vec![Store { access: access(y, 0, to)?, value }];
    push(cx, Nest { extents, reduce: 0, reads, reductions: Vec::new(), stores });
    Ok(())
}

/// An axis' position, which read `index` names.
fn position(index: usize, x: &TensorView, axis: usize) -> Gather {
    Gather { index: Expr::Read(index), extent: x.shape[axis], stride: x.strides[axis], proven: true }
}

/// Read of one neighbour's positions, which vary with loop `level` of `levels`.
fn column(
    cx: &mut LowerCx<'_>,
    table: &Table,
    tap: usize,
    level: usize,
    levels: usize,
) -> Result<Read, OpError> {
    let index: Vec<i64> = table.index.iter().skip(tap).step_by(table.taps).copied().collect();
    let operand = cx.blob("positions", &index);
    varying(operand, DType::I64, level, levels)
}

fn varying(
    operand: crate::kernel::Operand,
    dtype: DType,
    level: usize,
    levels: usize,
) -> Result<Read, OpError> {
    let view = TensorView { operand, dtype, shape: Vec::new(), offset: 0, strides: Vec::new() };
    read(&view, 0, (0..levels).map(|l| isize::from(l == level)).collect())
}

fn floats(cx: &mut LowerCx<'_>, name: &str, values: &[f64], dtype: DType) -> crate::kernel::Operand {
    match dtype {
        DType::F64 => cx.blob(name, values),
        _ => cx.blob(name, &values.iter().map(|&v| v as f32).collect::<Vec<f32>>()),
    }
}

/// Interpolation along one axis, computed in `compute`.
fn along(
    cx: &mut LowerCx<'_>,
    x: &TensorView,
    y: &TensorView,
    axis: usize,
    table: &Table,
    compute: DType,
) -> Result<(), OpError> {
    let order = memory_order(y);
    let level = order.iter().position(|&a| a == axis).unwrap_or(0);
    let unrolled = table.taps <= UNROLLED_TAPS;
    let levels = order.len() + usize::from(!unrolled);
    let padded = |mut v: Vec<isize>| {
        v.resize(levels, 0);
        v
    };
    let from = padded(order.iter().map(|&a| if a == axis { 0 } else { x.strides[a] }).collect());
    let to = padded(order.iter().map(|&a| y.strides[a]).collect());
    let mut extents: Vec<usize> = order.iter().map(|&a| y.shape[a]).collect();
    let mut reads = Vec::new();
    let mut reductions = Vec::new();
    let element = |n: usize| cast(x.dtype, compute, Expr::Read(n));
    let mut value;
    if unrolled {
        value = None;
        for tap in 0..table.taps {
            let n = reads.len();
            reads.push(column(cx, table, tap, level, levels)?);
            let weights: Vec<f64> = table.weight.iter().skip(tap).step_by(table.taps).copied().collect();
            let operand = floats(cx, "weights", &weights, compute);
            reads.push(varying(operand, compute, level, levels)?);
            reads.push(Read { access: access(x, 0, from.clone())?, gather: vec![position(n, x, axis)] });
            let term = mul(element(n + 2), Expr::Read(n + 1));
            value = Some(match value {
                None => term,
                Some(sum) => add(sum, term),
            });
        }
    } else {
        extents.push(table.taps);
        let by_tap = |read: Result<Read, OpError>| {
            read.map(|mut r| {
                for s in &mut r.access.strides {
                    *s *= table.taps as isize;
                }
                if let Some(s) = r.access.strides.last_mut() {
                    *s = 1;
                }
                r
            })
        };
        let index = cx.blob("positions", &table.index);
        reads.push(by_tap(varying(index, DType::I64, level, levels))?);
        let weights = floats(cx, "weights", &table.weight, compute);
        reads.push(by_tap(varying(weights, compute, level, levels))?);
        reads.push(Read { access: access(x, 0, from)?, gather: vec![position(0, x, axis)] });
        reductions.push(Reduction {
            op: ReduceOp::Sum,
            dtype: compute,
            value: mul(element(2), Expr::Read(1)),
        });
        value = Some(Expr::Acc(0));
    }
    let mut value = value.take().ok_or_else(|| OpError::internal("a resize without neighbours"))?;
    if !table.outside.is_empty() {
        let operand = floats(cx, "outside", &table.outside, compute);
        value = add(value, Expr::Read(reads.len()));
        reads.push(varying(operand, compute, level, levels)?);
    }
    let reduce = usize::from(!unrolled);
    let value = cast(compute, compute_dtype(y.dtype), value);
    push(
        cx,
        Nest { extents, reduce, reads, reductions, stores: vec![Store { access: access(y, 0, to)?, value }] },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_are_recognised() {
        assert!(matches!(walk(&[0, 2, 4]), Walk::Steps { first: 0, step: 2 }));
        assert!(matches!(walk(&[1, 3]), Walk::Steps { first: 1, step: 2 }));
        assert!(matches!(walk(&[0]), Walk::Steps { first: 0, step: 0 }));
        assert!(matches!(walk(&[0, 0, 1, 1, 2, 2]), Walk::Repeats { repeat: 2 }));
        assert!(matches!(walk(&[0, 0, 1, 2, 2, 3]), Walk::Listed));
        assert!(matches!(walk(&[0, 0, 1]), Walk::Listed));
    }
}
