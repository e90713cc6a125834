//! The plan as the generated crate states it: who writes what, who reads it. Emission prints it as
//! `const PLAN`, and rustc runs `rt::plan::check` over it.

use edgec_runtime::kernels::Form;
use edgec_runtime::plan::Range;

/// One entry per step, then one that reads the outputs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanTable {
    /// In order of execution.
    pub steps: Vec<TableStep>,
}

/// A step's traffic; `edgec_runtime::plan::Step` with owned lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableStep {
    /// Bytes written, pairwise disjoint.
    pub writes: Vec<Range>,
    /// Values read from the arena.
    pub reads: Vec<TableRead>,
}

/// A value as a step reads it; `edgec_runtime::plan::Read` with an owned list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRead {
    /// Bytes read.
    pub range: Range,
    /// Steps that made the value, or `edgec_runtime::plan::CALLER`.
    pub writers: Vec<usize>,
    /// How the reading step's writes may lie.
    pub form: Form,
}
