//! Elementwise loop nests over views.

use super::view::{TensorView, signed};
use crate::kernel::expr::{Expr, Scalar};
use crate::kernel::loops::{Read, Store};
use crate::kernel::{Access, Nest};
use crate::ops::OpError;

/// One nest computing `value` for every element of `out`; `None` where there is none.
///
/// Loops run in the output's memory order, so that writes are contiguous, and neighbouring loops become one
/// where every operand's strides allow: the usual case is a single loop over all elements. A `value` that
/// names loop variables keeps one loop per axis, in ONNX order.
pub(super) fn elementwise(
    out: &TensorView,
    reads: &[TensorView],
    value: Expr,
) -> Result<Option<Nest>, OpError> {
    if out.elements() == 0 {
        return Ok(None);
    }
    let mut views = vec![out.strides.clone()];
    for read in reads {
        views.push(broadcast_strides(read, &out.shape)?);
    }
    let as_written = names_index(&value);
    let order = if as_written { (0..out.shape.len()).collect() } else { out.order() };
    let mut extents: Vec<usize> = Vec::new();
    let mut strides: Vec<Vec<isize>> = vec![Vec::new(); views.len()];
    for axis in order {
        let extent = out.shape.get(axis).copied().unwrap_or(1);
        if extent == 1 && !as_written {
            continue;
        }
        let here: Vec<isize> = views.iter().map(|v| v.get(axis).copied().unwrap_or(0)).collect();
        let fits = !as_written
            && strides
                .iter()
                .zip(&here)
                .all(|(list, &s)| list.last() == Some(&s.saturating_mul(signed(extent))));
        if let (true, Some(last)) = (fits, extents.last_mut()) {
            *last *= extent;
            for (list, &s) in strides.iter_mut().zip(&here) {
                if let Some(last) = list.last_mut() {
                    *last = s;
                }
            }
        } else {
            extents.push(extent);
            for (list, &s) in strides.iter_mut().zip(&here) {
                list.push(s);
            }
        }
    }
    let mut strides = strides.into_iter();
    let mut access = |view: &TensorView| Access {
        operand: view.operand,
        dtype: view.dtype,
        offset: view.offset,
        strides: strides.next().unwrap_or_default(),
    };
    let store = Store { access: access(out), value };
    let reads = reads.iter().map(|r| Read { access: access(r), gather: Vec::new() }).collect();
    Ok(Some(Nest { extents, reduce: 0, reads, reductions: Vec::new(), stores: vec![store] }))
}

/// A nest that copies between views of equal shapes.
pub(super) fn copy(from: &TensorView, to: &TensorView) -> Result<Option<Nest>, OpError> {
    if from.shape != to.shape || from.dtype != to.dtype {
        return Err(OpError::internal(format!(
            "a copy from {}{:?} to {}{:?}",
            from.dtype, from.shape, to.dtype, to.shape
        )));
    }
    elementwise(to, std::slice::from_ref(from), Expr::Read(0))
}

/// A nest that sets every element of a view to zero (false).
pub(super) fn zero(to: &TensorView) -> Result<Option<Nest>, OpError> {
    use crate::ir::DType;
    let value = match to.dtype {
        DType::F32 | DType::F16 | DType::Bf16 => Scalar::F32(0.0),
        DType::F64 => Scalar::F64(0.0),
        DType::U64 => Scalar::U64(0),
        DType::Bool => Scalar::Bool(false),
        other => Scalar::Int(other, 0),
    };
    elementwise(to, &[], Expr::Const(value))
}

/// Strides of a view along the axes of `shape`, to which it broadcasts.
fn broadcast_strides(view: &TensorView, shape: &[usize]) -> Result<Vec<isize>, OpError> {
    let clash = || OpError::internal(format!("a view of {:?} does not broadcast to {shape:?}", view.shape));
    let skip = shape.len().checked_sub(view.shape.len()).ok_or_else(clash)?;
    let mut strides = vec![0isize; skip];
    for ((&d, &s), &want) in view.shape.iter().zip(&view.strides).zip(shape.iter().skip(skip)) {
        if d != want && d != 1 {
            return Err(clash());
        }
        strides.push(if d == 1 { 0 } else { s });
    }
    Ok(strides)
}

fn names_index(value: &Expr) -> bool {
    match value {
        Expr::Index(_) => true,
        Expr::Read(_) | Expr::Acc(_) | Expr::Const(_) => false,
        Expr::Unary(_, a) | Expr::Cast { value: a, .. } => names_index(a),
        Expr::Binary(_, a, b) | Expr::Compare(_, a, b) | Expr::Quantize { value: a, zero: b, .. } => {
            names_index(a) || names_index(b)
        }
        Expr::Select(c, a, b) => names_index(c) || names_index(a) || names_index(b),
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::{channels_last, dense_strides, row_major};
    use super::*;
    use crate::ir::DType;
    use crate::kernel::{BufferId, Operand};

    fn view(buffer: u32, shape: &[usize], order: &[usize]) -> TensorView {
        let operand = Operand::Buffer(BufferId(buffer));
        let strides = dense_strides(shape, order);
        TensorView { operand, dtype: DType::F32, shape: shape.to_vec(), offset: 0, strides }
    }

    #[test]
    fn equal_layouts_become_one_loop() {
        let (a, b) = (view(0, &[1, 3, 4, 5], &channels_last(4)), view(1, &[1, 3, 4, 5], &channels_last(4)));
        let nest = copy(&a, &b).unwrap().unwrap();
        assert_eq!((nest.extents, nest.stores[0].access.strides.clone()), (vec![60], vec![1]));
    }

    #[test]
    fn a_channel_vector_stays_an_inner_loop() {
        let x = view(0, &[1, 3, 4, 5], &channels_last(4));
        let bias = view(1, &[3, 1, 1], &row_major(3));
        let nest = elementwise(&x, &[x.clone(), bias], Expr::Read(0)).unwrap().unwrap();
        assert_eq!(nest.extents, [20, 3]);
        assert_eq!(nest.reads[1].access.strides, [0, 1]);
    }

    #[test]
    fn transposing_follows_the_output() {
        let (a, b) = (view(0, &[1, 3, 4, 5], &row_major(4)), view(1, &[1, 3, 4, 5], &channels_last(4)));
        let nest = copy(&a, &b).unwrap().unwrap();
        assert_eq!(nest.extents, [20, 3]);
        assert_eq!(nest.reads[0].access.strides, [1, 20]);
        assert_eq!(nest.stores[0].access.strides, [3, 1]);
    }

    #[test]
    fn loop_variables_keep_their_axes() {
        let x = view(0, &[2, 1, 3], &row_major(3));
        let nest = elementwise(&x, &[], Expr::Index(2)).unwrap().unwrap();
        assert_eq!(nest.extents, [2, 1, 3]);
    }

    #[test]
    fn scalars_and_empties() {
        assert_eq!(copy(&view(0, &[], &[]), &view(1, &[], &[])).unwrap().unwrap().extents, [0usize; 0]);
        assert!(copy(&view(0, &[0, 3], &[0, 1]), &view(1, &[0, 3], &[0, 1])).unwrap().is_none());
        assert!(copy(&view(0, &[3], &[0]), &view(1, &[4], &[0])).is_err());
    }
}
