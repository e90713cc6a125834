//! How the scales of a quantized tensor lie over it: one for all, one per index of an axis, or one per
//! block of indices.

use super::OpError;
use super::nest::along_axis;
use super::views::split;
use super::walk::axis;
use crate::ir::Shape;
use crate::schedule::{LowerCx, TensorView};

/// Scales and zero points over a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grid {
    /// One for all.
    Tensor,
    /// One for each index of an axis.
    Axis {
        /// The axis.
        axis: usize,
    },
    /// One for each block of an axis, and each index of the others.
    Blocks {
        /// The axis.
        axis: usize,
        /// Indices of a block; the last may have fewer.
        size: usize,
    },
}

impl Grid {
    /// What a scale's shape means, for these attributes; ONNX ignores `axis` where one scale serves all.
    pub(super) fn new(x: &Shape, scale: &Shape, at: i64, block: i64) -> Result<Grid, OpError> {
        if scale.elements() == 1 && scale.rank() <= 1 && block == 0 {
            return Ok(Grid::Tensor);
        }
        let at = axis(at, x.rank())?;
        let extent = x.get(at).copied().unwrap_or(1);
        if block == 0 {
            return match scale.dims() {
                [n] if *n == extent => Ok(Grid::Axis { axis: at }),
                _ => Err(OpError::invalid(format!("a scale of shape {scale} for axis {at} of {x}"))),
            };
        }
        let size =
            usize::try_from(block).map_err(|_| OpError::invalid(format!("`block_size` is {block}")))?;
        let fits = |(a, (d, s)): (usize, (&usize, &usize))| *s == if a == at { d.div_ceil(size) } else { *d };
        if scale.rank() != x.rank() || !x.iter().zip(scale.iter()).enumerate().all(fits) {
            return Err(OpError::invalid(format!("a scale of shape {scale} for blocks of {size} of {x}")));
        }
        Ok(Grid::Blocks { axis: at, size })
    }

    /// Checks that zero points lie as the scales do; of one element, either may be a scalar.
    pub(super) fn expect_zero(self, scale: &Shape, zero: &Shape) -> Result<(), OpError> {
        if zero == scale || (self == Grid::Tensor && zero.elements() == 1) {
            return Ok(());
        }
        Err(OpError::invalid(format!("zero points of shape {zero} for scales of {scale}")))
    }

    /// For each element of a row-major tensor, the position of its scale.
    pub(super) fn positions(self, x: &Shape) -> impl Iterator<Item = usize> {
        let at = match self {
            Grid::Tensor => 0,
            Grid::Axis { axis } | Grid::Blocks { axis, .. } => axis,
        };
        let extent = x.get(at).copied().unwrap_or(1).max(1);
        let inner = x.iter().skip(at + 1).product::<usize>().max(1);
        (0..x.elements()).map(move |i| match self {
            Grid::Tensor => 0,
            Grid::Axis { .. } => i / inner % extent,
            Grid::Blocks { size, .. } => {
                let size = size.max(1);
                let block = i / inner % extent / size;
                (i / inner / extent * extent.div_ceil(size) + block) * inner + i % inner
            }
        })
    }

    /// Calls `emit` with views of equal or broadcasting shapes: those of `full`, whose shape is the tensor's,
    /// and those of `coarse`, which lie as scales do. Twice where the last block is shorter.
    pub(super) fn emit(
        self,
        cx: &mut LowerCx<'_>,
        full: &[TensorView],
        coarse: &[TensorView],
        mut emit: impl FnMut(&mut LowerCx<'_>, &[TensorView], &[TensorView]) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let shape = full.first().map(|v| v.shape.clone()).unwrap_or_default();
        let (at, size) = match self {
            Grid::Tensor => {
                let alone =
                    |v: &TensorView| TensorView { shape: Vec::new(), strides: Vec::new(), ..v.clone() };
                return emit(cx, full, &coarse.iter().map(alone).collect::<Vec<_>>());
            }
            Grid::Axis { axis } => {
                let along = |v: &TensorView| along_axis(v, axis, shape.len());
                return emit(cx, full, &coarse.iter().map(along).collect::<Vec<_>>());
            }
            Grid::Blocks { axis, size } => (axis, size.max(1)),
        };
        let extent = shape.get(at).copied().unwrap_or(0);
        let (whole, rest) = (extent / size, extent % size);
        for (first, blocks, size) in [(0, whole, size), (whole, 1, rest)] {
            if blocks * size == 0 {
                continue;
            }
            let start = extent - rest;
            let start = if first == 0 { 0 } else { start };
            let parts = |views: &[TensorView], start: usize, blocks: usize, size: usize| {
                let part =
                    |v: &TensorView| split(&cx.part(v, at, start, blocks * size)?, at, &[blocks, size]);
                views.iter().map(part).collect::<Result<Vec<_>, OpError>>()
            };
            let (full, coarse) = (parts(full, start, blocks, size)?, parts(coarse, first, blocks, 1)?);
            emit(cx, &full, &coarse)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_decide() {
        let x = Shape::from([2, 5, 3]);
        let grid = |scale: &[usize], axis, block| Grid::new(&x, &Shape::from(scale), axis, block);
        assert_eq!(grid(&[], 9, 0).unwrap(), Grid::Tensor);
        assert_eq!(grid(&[1], 1, 0).unwrap(), Grid::Tensor);
        assert_eq!(grid(&[3], -1, 0).unwrap(), Grid::Axis { axis: 2 });
        assert_eq!(grid(&[2, 3, 3], 1, 2).unwrap(), Grid::Blocks { axis: 1, size: 2 });
        assert!(grid(&[3], 1, 0).is_err() && grid(&[2, 2, 3], 1, 2).is_err());
        assert!(grid(&[5], 1, 2).is_err() && grid(&[2, 5, 3], 1, -1).is_err() && grid(&[3], 3, 0).is_err());
    }

    #[test]
    fn every_element_finds_its_scale() {
        let x = Shape::from([2, 3]);
        let all = |g: Grid| g.positions(&x).collect::<Vec<_>>();
        assert_eq!(all(Grid::Tensor), [0; 6]);
        assert_eq!(all(Grid::Axis { axis: 0 }), [0, 0, 0, 1, 1, 1]);
        assert_eq!(all(Grid::Axis { axis: 1 }), [0, 1, 2, 0, 1, 2]);
        assert_eq!(all(Grid::Blocks { axis: 1, size: 2 }), [0, 0, 1, 2, 2, 3]);
        assert_eq!(all(Grid::Blocks { axis: 0, size: 2 }), [0, 1, 2, 0, 1, 2]);
    }
}
