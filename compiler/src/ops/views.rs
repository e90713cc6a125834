//! Other views of the same memory: what Transpose, Slice, Reshape and Expand lower to.

use super::OpError;
use crate::kernel::expr::Expr;
use crate::kernel::loops::{Read, Store};
use crate::kernel::{Access, Nest};
use crate::schedule::TensorView;

fn bad_axis() -> OpError {
    OpError::internal("an axis outside a view")
}

fn signed(n: usize) -> isize {
    isize::try_from(n).unwrap_or(isize::MAX)
}

/// Axis `k` of the result is axis `perm[k]` of `view`.
pub(super) fn permuted(view: &TensorView, perm: &[usize]) -> Result<TensorView, OpError> {
    let mut out = view.clone();
    let take = |p: &usize| Some((*view.shape.get(*p)?, *view.strides.get(*p)?));
    let axes: Vec<_> = perm.iter().map(take).collect::<Option<_>>().ok_or_else(bad_axis)?;
    (out.shape, out.strides) = axes.into_iter().unzip();
    Ok(out)
}

/// `len` elements along `axis`, from `start` in steps of `step`.
pub(super) fn sliced(
    view: &TensorView,
    axis: usize,
    start: usize,
    len: usize,
    step: isize,
) -> Result<TensorView, OpError> {
    let mut out = view.clone();
    let (extent, stride) = out.shape.get_mut(axis).zip(out.strides.get_mut(axis)).ok_or_else(bad_axis)?;
    // An empty view may start behind the last element; its offset must stay inside the operand.
    if len > 0 {
        out.offset = signed(start)
            .checked_mul(*stride)
            .and_then(|by| out.offset.checked_add_signed(by))
            .ok_or_else(|| OpError::internal("a slice starts before its operand"))?;
    }
    *extent = len;
    *stride = stride.saturating_mul(step);
    Ok(out)
}

/// Repeats axes of extent 1, and adds leading ones, up to `shape`.
pub(super) fn broadcast(view: &TensorView, shape: &[usize]) -> Result<TensorView, OpError> {
    let lead = shape.len().checked_sub(view.shape.len()).ok_or_else(bad_axis)?;
    let mut strides = vec![0; lead];
    let same = view.shape.iter().zip(shape.iter().skip(lead)).zip(&view.strides);
    strides.extend(same.map(|((have, want), &stride)| if have == want { stride } else { 0 }));
    Ok(TensorView { shape: shape.to_vec(), strides, ..view.clone() })
}

/// Splits `axis` into `parts`, outermost first, whose product is its extent.
pub(super) fn split(view: &TensorView, axis: usize, parts: &[usize]) -> Result<TensorView, OpError> {
    let mut out = view.clone();
    let stride = *view.strides.get(axis).ok_or_else(bad_axis)?;
    let strides: Vec<isize> =
        super::walk::strides(parts).into_iter().map(|s| s.saturating_mul(stride)).collect();
    out.shape.splice(axis..=axis, parts.iter().copied());
    out.strides.splice(axis..=axis, strides);
    Ok(out)
}

/// The same elements in row-major order under another shape, where strides can express it.
pub(super) fn regrouped(view: &TensorView, shape: &[usize]) -> Option<TensorView> {
    let done = |strides| Some(TensorView { shape: shape.to_vec(), strides, ..view.clone() });
    if view.shape.contains(&0) || shape.contains(&0) {
        return done(super::walk::strides(shape));
    }
    // Axes of extent 1 have no say. Both shapes fall into groups of equal products; the old axes of
    // one group must lie in memory as one axis does.
    let mut old =
        view.shape.iter().copied().zip(view.strides.iter().copied()).filter(|&(d, _)| d != 1).peekable();
    let mut strides = Vec::with_capacity(shape.len());
    let mut new = shape.iter().copied().peekable();
    while let Some(&first) = new.peek() {
        if first == 1 {
            strides.push(0);
            new.next();
            continue;
        }
        let (mut have, mut stride) = old.next()?;
        let (mut want, mut group) = (first, vec![first]);
        new.next();
        while have != want {
            if have < want {
                let (d, s) = old.next()?;
                if stride != s.checked_mul(signed(d))? {
                    return None;
                }
                (have, stride) = (have.checked_mul(d)?, s);
            } else {
                let d = new.next()?;
                want = want.checked_mul(d)?;
                group.push(d);
            }
        }
        let group = super::walk::strides(&group);
        strides.extend(group.iter().map(|s| s.saturating_mul(stride)));
    }
    if old.next().is_some() { None } else { done(strides) }
}

/// Whether both views name the same elements of the same memory in the same order.
pub(super) fn same_place(a: &TensorView, b: &TensorView) -> bool {
    let strides = a.strides.iter().zip(&b.strides).zip(&a.shape);
    a.operand == b.operand
        && a.dtype == b.dtype
        && a.shape == b.shape
        && (a.shape.contains(&0)
            || a.offset == b.offset && strides.into_iter().all(|((x, y), &d)| d == 1 || x == y))
}

/// An access whose loops are the view's axes.
pub(super) fn access(view: &TensorView) -> Access {
    Access {
        operand: view.operand,
        dtype: view.dtype,
        offset: view.offset,
        strides: view.shape.iter().zip(&view.strides).map(|(&d, &s)| if d == 1 { 0 } else { s }).collect(),
    }
}

/// An access whose loops are the view's axes in this order.
pub(super) fn reordered(view: &TensorView, order: &[usize]) -> Access {
    let whole = access(view);
    let strides = order.iter().map(|&a| whole.strides.get(a).copied().unwrap_or(0)).collect();
    Access { strides, ..whole }
}

/// Loops for a reduction of `x` over `reduced` into `y`, of the same rank: kept axes in `y`'s memory
/// order, then reduced ones in `x`'s, and how many these are. Axes of extent 1 get no loop.
pub(super) fn reduction_order(x: &TensorView, y: &TensorView, reduced: &[usize]) -> (Vec<usize>, usize) {
    let by_stride = |view: &TensorView, inside: bool| {
        let wide = |a: &usize| x.shape.get(*a) != Some(&1) && reduced.contains(a) == inside;
        let mut axes: Vec<usize> = (0..x.shape.len()).filter(wide).collect();
        axes.sort_by_key(|&a| std::cmp::Reverse(view.strides.get(a).map_or(0, |s| s.unsigned_abs())));
        axes
    };
    let (mut order, inner) = (by_stride(y, false), by_stride(x, true));
    let count = inner.len();
    order.extend(inner);
    (order, count)
}

/// A nest computing `value` for every element of `out` from reads of its shape, in its memory order.
pub(super) fn elementwise(out: &TensorView, reads: &[TensorView], value: Expr) -> Nest {
    let (order, _) = reduction_order(out, out, &[]);
    Nest {
        extents: order.iter().filter_map(|&a| out.shape.get(a).copied()).collect(),
        reduce: 0,
        reads: reads.iter().map(|r| Read { access: reordered(r, &order), gather: Vec::new() }).collect(),
        reductions: Vec::new(),
        stores: vec![Store { access: reordered(out, &order), value }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DType;
    use crate::kernel::{BufferId, Operand};

    fn view(shape: &[usize], strides: &[isize]) -> TensorView {
        let operand = Operand::Buffer(BufferId(0));
        TensorView {
            operand,
            dtype: DType::F32,
            shape: shape.to_vec(),
            offset: 10,
            strides: strides.to_vec(),
        }
    }

    #[test]
    fn slices_and_permutes() {
        let v = view(&[4, 6], &[6, 1]);
        let back = sliced(&v, 1, 5, 3, -2).unwrap();
        assert_eq!((back.offset, back.strides, back.shape), (15, vec![6, -2], vec![4, 3]));
        assert_eq!(permuted(&v, &[1, 0]).unwrap(), view(&[6, 4], &[1, 6]));
        assert!(permuted(&v, &[2, 0]).is_err());
        assert_eq!(sliced(&v, 0, 9, 0, 1).unwrap().offset, 10);
        assert_eq!(broadcast(&view(&[1, 3], &[3, 1]), &[2, 5, 3]).unwrap(), view(&[2, 5, 3], &[0, 0, 1]));
        assert_eq!(split(&v, 1, &[2, 3]).unwrap(), view(&[4, 2, 3], &[6, 3, 1]));
    }

    #[test]
    fn regroups_where_strides_allow() {
        // Rows of 6 in a buffer of rows of 8.
        let v = view(&[4, 6], &[8, 1]);
        assert_eq!(regrouped(&v, &[24]), None);
        assert_eq!(regrouped(&v, &[2, 2, 1, 3, 2]), Some(view(&[2, 2, 1, 3, 2], &[16, 8, 0, 2, 1])));
        assert_eq!(regrouped(&view(&[2, 3, 4], &[12, 4, 1]), &[6, 4]), Some(view(&[6, 4], &[4, 1])));
        assert_eq!(regrouped(&view(&[3, 4], &[1, 3]), &[12]), None, "transposed");
        assert_eq!(regrouped(&view(&[3, 1, 4], &[4, 99, 1]), &[12]), Some(view(&[12], &[1])));
        assert_eq!(regrouped(&view(&[6], &[-1]), &[2, 3]), Some(view(&[2, 3], &[-3, -1])));
        assert_eq!(regrouped(&view(&[1], &[7]), &[]), Some(view(&[], &[])));
    }

    #[test]
    fn same_place_ignores_strides_that_do_not_matter() {
        assert!(same_place(&view(&[1, 3], &[5, 1]), &view(&[1, 3], &[9, 1])));
        assert!(!same_place(&view(&[2, 3], &[5, 1]), &view(&[2, 3], &[9, 1])));
    }
}
