//! Steps → arena: liveness, offsets, lower bound.

pub mod footprint;
pub mod liveness;
pub mod place;

mod table;

pub use table::{PlanTable, TableRead, TableStep};

/// Where each buffer lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Byte offset of each buffer, indexed by `BufferId`.
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// The largest sum of live, unpadded bytes over the steps.
    pub lower_bound_bytes: usize,
    /// For each step, the form that its input and output buffers take to each other.
    pub forms: Vec<StepForm>,
}

/// How a step's buffers lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepForm {
    /// No written range meets another range of the step.
    Disjoint,
    /// Written over an operand: same offset, or a safe distance ahead.
    Overlap,
    /// Read and written parts interleave within rows of one wider buffer.
    Strided {
        /// Bytes between rows.
        pitch: usize,
    },
}
