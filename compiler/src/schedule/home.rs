//! Values produced directly into their part of a concatenation.

use super::builder::shifted;
use super::view::{TensorView, dense_strides};
use crate::ir::ValueId;
use crate::ops::OpError;

/// The part of another value's memory in which a value is produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Home {
    /// Whose memory.
    pub target: ValueId,
    /// Axis of the target along which parts lie.
    pub axis: usize,
    /// First index along it.
    pub start: usize,
    /// The part has no gaps and the value lies in it in its own order, since what the concatenation reads
    /// is a view of it under other axes. Otherwise it has the target's strides.
    pub regrouped: bool,
}

impl Home {
    /// The part itself.
    pub(super) fn part(
        &self,
        target: &TensorView,
        shape: &[usize],
        order: &[usize],
    ) -> Result<TensorView, OpError> {
        let stride = target.strides.get(self.axis).copied().unwrap_or(0);
        let offset = shifted(target.offset, std::iter::once((self.start, stride)))
            .ok_or_else(|| OpError::internal("a part in front of its operand"))?;
        let strides = if self.regrouped { dense_strides(shape, order) } else { target.strides.clone() };
        Ok(TensorView { offset, shape: shape.to_vec(), strides, ..target.clone() })
    }
}
