//! Walking over the elements of tensors: strides, broadcasting, picking elements by position.

use super::{OpError, Type};
use crate::ir::{DType, Data, Element, Shape, Tensor, for_each_type};
use std::sync::Arc;

/// Largest number of elements of a value; far above what a model holds, far below overflow.
const MAX_ELEMENTS: usize = 1 << 40;

/// Operand `i` of an evaluation, which inference found present.
pub(super) fn operand<'a>(inputs: &[Option<&'a Tensor>], i: usize) -> Result<&'a Tensor, OpError> {
    optional(inputs, i).ok_or_else(|| OpError::internal(format!("operand {i} is missing")))
}

/// Operand `i` of an evaluation, absent allowed.
pub(super) fn optional<'a>(inputs: &[Option<&'a Tensor>], i: usize) -> Option<&'a Tensor> {
    inputs.get(i).copied().flatten()
}

/// A result's type, once its number of elements is known to be sane.
pub(super) fn checked_type(dtype: DType, shape: impl Into<Shape>) -> Result<Type, OpError> {
    let shape = shape.into();
    match shape.checked_len() {
        Some(n) if n <= MAX_ELEMENTS => Ok(Type { dtype, shape }),
        _ => Err(OpError::Limit(format!("a value of shape {shape} is too large"))),
    }
}

/// The shape that all of `shapes` broadcast to.
pub(super) fn broadcast_shape<'a>(shapes: impl IntoIterator<Item = &'a Shape>) -> Result<Shape, OpError> {
    let shapes: Vec<&[usize]> = shapes.into_iter().map(Shape::dims).collect();
    crate::ir::broadcast(shapes.iter().copied())
        .ok_or_else(|| OpError::invalid(format!("shapes {shapes:?} do not broadcast together")))
}

/// Resolves an axis that may count from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    crate::ir::normalize_axis(axis, rank)
        .ok_or_else(|| OpError::invalid(format!("axis {axis} is outside a rank of {rank}")))
}

/// Resolves several axes, none twice; in the order given.
pub(super) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    let mut out = Vec::with_capacity(list.len());
    for &a in list {
        let a = axis(a, rank)?;
        if out.contains(&a) {
            return Err(OpError::invalid(format!("axis {a} is named twice")));
        }
        out.push(a);
    }
    Ok(out)
}

/// An extent read from a model.
pub(super) fn extent(value: i64) -> Result<usize, OpError> {
    usize::try_from(value).map_err(|_| OpError::invalid(format!("an extent is {value}")))
}

/// Row-major strides.
pub(super) fn strides(shape: &[usize]) -> Vec<isize> {
    let mut out = vec![1isize; shape.len()];
    let mut step = 1isize;
    for (s, &d) in out.iter_mut().zip(shape).rev() {
        *s = step;
        step = step.saturating_mul(isize::try_from(d).unwrap_or(isize::MAX));
    }
    out
}

/// Row-major strides of `shape` along the axes of `out`, to which it broadcasts: 0 where it repeats.
pub(super) fn broadcast_strides(shape: &[usize], out: &[usize]) -> Vec<isize> {
    let mut result = vec![0; out.len().saturating_sub(shape.len())];
    result.extend(strides(shape).iter().zip(shape).map(|(&s, &d)| if d == 1 { 0 } else { s }));
    result
}

/// The positions `start + Σ strides[k]·i_k` over all indices below `extents`, row-major.
#[derive(Debug)]
pub(super) struct Positions {
    extents: Vec<usize>,
    strides: Vec<isize>,
    index: Vec<usize>,
    position: isize,
    left: usize,
}

/// Walks `extents` row-major; positions below zero come out as `usize::MAX`.
pub(super) fn positions(extents: &[usize], strides: &[isize], start: isize) -> Positions {
    Positions {
        extents: extents.to_vec(),
        strides: strides.to_vec(),
        index: vec![0; extents.len()],
        position: start,
        left: Shape::from(extents).checked_len().unwrap_or(0),
    }
}

impl Iterator for Positions {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let here = usize::try_from(self.position).unwrap_or(usize::MAX);
        for ((i, &d), &s) in self.index.iter_mut().zip(&self.extents).zip(&self.strides).rev() {
            *i += 1;
            self.position = self.position.wrapping_add(s);
            if *i < d {
                break;
            }
            *i = 0;
            self.position = self.position.wrapping_sub(s.wrapping_mul(d as isize));
        }
        Some(here)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// A tensor whose elements are those of `x` at `positions`.
pub(super) fn pick(
    x: &Tensor,
    shape: impl Into<Shape>,
    positions: impl Iterator<Item = usize>,
) -> Result<Tensor, OpError> {
    pick_from(&[x], shape, positions.map(|p| (0, p)))
}

/// A tensor whose elements are those of several tensors of one type, given as (source, position).
pub(super) fn pick_from(
    sources: &[&Tensor],
    shape: impl Into<Shape>,
    mut picks: impl Iterator<Item = (usize, usize)>,
) -> Result<Tensor, OpError> {
    let first = sources.first().ok_or_else(|| OpError::internal("nothing to pick from"))?;
    let picks: &mut dyn Iterator<Item = (usize, usize)> = &mut picks;
    let data =
        for_each_type!(first.data(), v => typed(v, sources, picks)?, Data::String(strings(sources, picks)?));
    Ok(Tensor::from_data(shape.into(), data)?)
}

fn typed<T: Element>(
    _type_of: &[T],
    sources: &[&Tensor],
    picks: &mut dyn Iterator<Item = (usize, usize)>,
) -> Result<Data, OpError> {
    let slices: Vec<&[T]> =
        sources.iter().map(|t| t.as_slice::<T>()).collect::<Option<_>>().ok_or_else(mixed)?;
    let picked: Arc<[T]> = picks
        .map(|(s, p)| slices.get(s).and_then(|v| v.get(p)).copied().ok_or_else(outside))
        .collect::<Result<_, _>>()?;
    Ok(T::wrap(picked))
}

fn strings(
    sources: &[&Tensor],
    picks: &mut dyn Iterator<Item = (usize, usize)>,
) -> Result<Arc<[String]>, OpError> {
    picks
        .map(|(s, p)| match sources.get(s).map(|t| t.data()) {
            Some(Data::String(v)) => v.get(p).cloned().ok_or_else(outside),
            Some(_) => Err(mixed()),
            None => Err(outside()),
        })
        .collect()
}

fn mixed() -> OpError {
    OpError::internal("operands of different types")
}

fn outside() -> OpError {
    OpError::internal("a position outside its tensor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_walk_any_strides() {
        let all: Vec<usize> = positions(&[2, 3], &[1, 2], 0).collect();
        assert_eq!(all, [0, 2, 4, 1, 3, 5]);
        let back: Vec<usize> = positions(&[3], &[-1], 2).collect();
        assert_eq!(back, [2, 1, 0]);
        assert_eq!(positions(&[2, 0], &[1, 1], 0).count(), 0);
        assert_eq!(positions(&[], &[], 4).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn picks_move_any_type_and_refuse_positions_outside() {
        let a = Tensor::vector(&[1i8, 2]);
        let b = Tensor::vector(&[3i8]);
        let t = pick_from(&[&a, &b], [2], [(1, 0), (0, 1)].into_iter()).unwrap();
        assert_eq!(t, Tensor::vector(&[3i8, 2]));
        assert!(pick(&a, [1], [2].into_iter()).is_err());
        let s = Tensor::from_data(Shape::from([1]), Data::String([String::from("x")].into())).unwrap();
        assert_eq!(pick(&s, [2], [0, 0].into_iter()).unwrap().len(), 2);
    }

    #[test]
    fn axes_resolve_once() {
        assert_eq!(axes(&[-1, 0], 3).unwrap(), [2, 0]);
        assert!(axes(&[-1, 2], 3).is_err());
        assert!(axis(i64::MIN, 3).is_err());
        assert!(checked_type(DType::F32, [usize::MAX, 2]).is_err());
        assert_eq!(broadcast_strides(&[3, 1], &[2, 3, 4]), [0, 1, 0]);
    }
}
