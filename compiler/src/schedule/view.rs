//! Where values lie: views of operands, orders of axes, and the step from one to the other.
//!
//! An *order* lists the axes of a value from the outermost in memory to the innermost. Axes of extent 1
//! lie anywhere, so two orders are one layout when they agree on the others ([`same_layout`]).

use crate::ir::DType;
use crate::kernel::{Operand, spec::View};

/// Axes of a value, outermost in memory first.
pub(super) type Order = Vec<usize>;

/// Where the elements of a value lie: element `(i0, i1, …)` in the value's own (ONNX) axes is at
/// `offset + Σ strides[k]·ik` of the operand.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorView {
    /// Buffer or constant.
    pub operand: Operand,
    /// Element type.
    pub dtype: DType,
    /// Extents in ONNX order.
    pub shape: Vec<usize>,
    /// Elements before the first.
    pub offset: usize,
    /// In elements, one per axis; any order of magnitude (channels last, transposed, sliced).
    pub strides: Vec<isize>,
}

impl TensorView {
    /// Whether the elements lie row-major without gaps.
    pub fn is_dense(&self) -> bool {
        let mut expected = 1isize;
        for (&d, &s) in self.shape.iter().zip(&self.strides).rev() {
            if d != 1 && s != expected {
                return false;
            }
            expected = expected.saturating_mul(signed(d));
        }
        true
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether both name the same elements in the same places.
    pub fn same_place(&self, other: &TensorView) -> bool {
        self.operand == other.operand
            && self.dtype == other.dtype
            && self.offset == other.offset
            && self.shape == other.shape
            && self
                .shape
                .iter()
                .zip(self.strides.iter().zip(&other.strides))
                .all(|(&d, (a, b))| d <= 1 || a == b)
    }

    /// The order in which the axes lie.
    pub(super) fn order(&self) -> Order {
        order_of(&self.shape, &self.strides)
    }

    /// Extents as they lie in memory, outermost first.
    pub(super) fn memory_shape(&self) -> Vec<usize> {
        self.order().iter().filter_map(|&a| self.shape.get(a).copied()).collect()
    }
}

/// A stride or extent as a signed number; saturates where no memory could be that large.
pub(super) fn signed(n: usize) -> isize {
    isize::try_from(n).unwrap_or(isize::MAX)
}

/// ONNX order.
pub(super) fn row_major(rank: usize) -> Order {
    (0..rank).collect()
}

/// Batch, space, channels.
pub(super) fn channels_last(rank: usize) -> Order {
    let mut order: Order = (0..rank).filter(|&a| a != 1).collect();
    if rank > 1 {
        order.push(1);
    }
    order
}

/// Whether two orders mean the same memory for a shape.
pub(super) fn same_layout(shape: &[usize], a: &[usize], b: &[usize]) -> bool {
    let wide = |&&axis: &&usize| shape.get(axis).is_some_and(|&d| d != 1);
    a.iter().filter(wide).eq(b.iter().filter(wide))
}

/// Strides of a shape without gaps in an order.
pub(super) fn dense_strides(shape: &[usize], order: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    let mut next = 1isize;
    for &axis in order.iter().rev() {
        if let (Some(s), Some(&d)) = (strides.get_mut(axis), shape.get(axis)) {
            *s = next;
            next = next.saturating_mul(signed(d).max(1));
        }
    }
    strides
}

/// The order that strides stand for: row-major or channels last under that name where they are it
/// (axes of extent 1 leave a choice), row-major where elements repeat.
pub(super) fn order_of(shape: &[usize], strides: &[isize]) -> Order {
    let rank = shape.len();
    let extent = |a: usize| shape.get(a).copied().unwrap_or(1);
    let stride = |a: usize| strides.get(a).copied().unwrap_or(0);
    if (0..rank).any(|a| extent(a) != 1 && stride(a) == 0) {
        return row_major(rank);
    }
    let mut order: Order = (0..rank).filter(|&a| extent(a) != 1).collect();
    order.sort_by_key(|&a| std::cmp::Reverse(stride(a).unsigned_abs()));
    for known in [row_major(rank), channels_last(rank)] {
        if same_layout(shape, &order, &known) {
            return known;
        }
    }
    let mut whole: Order = (0..rank).filter(|&a| extent(a) == 1).collect();
    whole.append(&mut order);
    whole
}

/// A value of rank 3 to 5 (`N C [D] [H] W`) as kernels see it; `None` for other ranks and for views that
/// walk backwards. Axes of extent 1 get the strides they would have without gaps.
pub(super) fn spatial(view: &TensorView) -> Option<View> {
    let [batch, channels, space @ ..] = view.shape.as_slice() else { return None };
    let [n, c, rest @ ..] = view.strides.as_slice() else { return None };
    if space.is_empty() || space.len() > 3 || rest.len() != space.len() {
        return None;
    }
    let lead = 3 - space.len();
    let mut extent = [1usize; 3];
    let mut strides = [0usize; 3];
    for (to, &d) in extent.iter_mut().skip(lead).zip(space) {
        *to = d;
    }
    let positive = |d: usize, s: isize| if d == 1 { Some(0) } else { usize::try_from(s).ok() };
    for ((to, &d), &s) in strides.iter_mut().skip(lead).zip(space).zip(rest) {
        *to = positive(d, s)?;
    }
    let c_stride = if *channels == 1 { 1 } else { positive(*channels, *c)? };
    let mut n_stride = positive(*batch, *n)?;
    let mut natural = if c_stride == 1 { *channels } else { 1 };
    for (s, &d) in strides.iter_mut().zip(&extent).rev() {
        if d == 1 {
            *s = natural;
        }
        natural = s.saturating_mul(d);
    }
    if *batch == 1 {
        n_stride = if c_stride > natural { c_stride.saturating_mul(*channels) } else { natural };
    }
    Some(View {
        offset: view.offset,
        batch: *batch,
        extent,
        channels: *channels,
        n_stride,
        strides,
        c_stride,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::BufferId;

    fn view(shape: &[usize], order: &[usize]) -> TensorView {
        let strides = dense_strides(shape, order);
        let operand = Operand::Buffer(BufferId(0));
        TensorView { operand, dtype: DType::F32, shape: shape.to_vec(), offset: 0, strides }
    }

    #[test]
    fn orders_survive_the_way_through_strides() {
        for order in [row_major(4), channels_last(4), vec![3, 1, 0, 2]] {
            assert_eq!(view(&[2, 3, 4, 5], &order).order(), order);
        }
        assert_eq!(view(&[1, 1, 4, 5], &channels_last(4)).order(), row_major(4));
        assert!(same_layout(&[1, 8, 1, 1], &row_major(4), &channels_last(4)));
        assert!(!same_layout(&[1, 8, 1, 2], &row_major(4), &channels_last(4)));
    }

    #[test]
    fn channels_last_values_are_the_kernels_dense_views() {
        for (shape, extent) in [
            (vec![2, 3, 4, 5, 6], [4, 5, 6]),
            (vec![2, 3, 5, 6], [1, 5, 6]),
            (vec![1, 3, 6], [1, 1, 6]),
            (vec![1, 3, 1, 1], [1, 1, 1]),
        ] {
            let v = view(&shape, &channels_last(shape.len()));
            assert_eq!(spatial(&v), Some(View::channels_last(shape[0], extent, 3)), "{shape:?}");
        }
        assert_eq!(
            spatial(&view(&[1, 3, 4, 5], &row_major(4))).map(|v| (v.strides[2], v.c_stride)),
            Some((1, 20))
        );
        assert_eq!(spatial(&view(&[3, 4], &row_major(2))), None);
    }
}
