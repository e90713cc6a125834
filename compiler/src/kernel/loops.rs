//! Affine loop nests: the family that carries elementwise work and data movement.

use super::Operand;
use super::expr::{Expr, ReduceOp};
use crate::ir::DType;

/// Nests that run one after the other over the same operands, as one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Loops {
    /// In order of execution.
    pub nests: Vec<Nest>,
}

/// One perfect loop nest.
///
/// ```text
/// for i0 in 0..extents[0] { … for ik in 0..extents[k] {          // k = extents.len() - reduce - 1
///     let mut acc = reductions' initial values;
///     for i(k+1) … { acc = op(acc, reduction.value) }             // the innermost `reduce` loops
///     store[j] = store.value                                      // may read accumulators
/// } }
/// ```
///
/// The outer loops index every store; stores of a nest write distinct elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Nest {
    /// Loop extents, outermost first.
    pub extents: Vec<usize>,
    /// How many of the innermost loops are reduced over.
    pub reduce: usize,
    /// Elements read; `Expr::Read(i)` refers to the i-th. Reads used by reductions may depend on all
    /// loops, those used by stores only on the outer ones (where `reduce > 0`).
    pub reads: Vec<Read>,
    /// Accumulators, `Expr::Acc(i)`.
    pub reductions: Vec<Reduction>,
    /// What is written.
    pub stores: Vec<Store>,
}

/// One element read per iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// Where.
    pub access: Access,
    /// Added to the position: a data-dependent index (Gather). Checked against `extent` at run
    /// time; outside it, it is clamped and the fault recorded.
    pub gather: Vec<Gather>,
}

/// A data-dependent part of a position.
#[derive(Debug, Clone, PartialEq)]
pub struct Gather {
    /// Integer expression over earlier reads and loop variables; negative values count from the end.
    pub index: Expr,
    /// Extent of the axis.
    pub extent: usize,
    /// Elements between neighbours along the axis.
    pub stride: isize,
    /// The index comes from a table that the compiler checked: still clamped, so that no panic path
    /// is left, but there is no fault to record and the step stays infallible.
    pub proven: bool,
}

/// Position `offset + Σ strides[k]·i_k` of an operand, in elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    /// What is accessed.
    pub operand: Operand,
    /// Element type of the operand.
    pub dtype: DType,
    /// Position of the first iteration.
    pub offset: usize,
    /// One per loop; 0 repeats, negative walks backwards.
    pub strides: Vec<isize>,
}

/// An accumulator.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduction {
    /// How values are combined.
    pub op: ReduceOp,
    /// Type of the accumulator.
    pub dtype: DType,
    /// Combined per inner iteration, of type `dtype`.
    pub value: Expr,
}

/// An element written per outer iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// Where; strides for the outer loops only matter (those of reduced loops are 0).
    pub access: Access,
    /// What, of type `access.dtype` (storage types f16/bf16 take an f32 value and round).
    pub value: Expr,
}

impl Loops {
    /// Operands read, each once, in order of first use.
    pub fn reads(&self) -> Vec<Operand> {
        unique(self.nests.iter().flat_map(|n| n.reads.iter().map(|r| r.access.operand)))
    }

    /// Operands written, each once.
    pub fn writes(&self) -> Vec<Operand> {
        unique(self.nests.iter().flat_map(|n| n.stores.iter().map(|s| s.access.operand)))
    }

    /// Whether an index is read from run-time data.
    pub fn fallible(&self) -> bool {
        self.nests.iter().any(|n| n.reads.iter().any(|r| r.gather.iter().any(|g| !g.proven)))
    }
}

fn unique(operands: impl Iterator<Item = Operand>) -> Vec<Operand> {
    let mut out = Vec::new();
    for operand in operands {
        if !out.contains(&operand) {
            out.push(operand);
        }
    }
    out
}
