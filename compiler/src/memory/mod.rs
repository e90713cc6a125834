//! Steps → arena: liveness, offsets, lower bound, and the plan as a table that rustc checks.
//!
//! [`plan`] takes a schedule and gives every buffer an offset. It sees buffers, not values: views and parts of
//! concatenations share a buffer by design and live as long as it does. What may be written over what is
//! in [`share`], the search in [`place`].

mod bound;
pub mod footprint;
pub mod liveness;
pub mod place;
mod share;
mod table;
#[cfg(test)]
mod tests;

pub use table::{PlanTable, TableRead, TableStep, table};

use crate::kernel::{BufferId, Kernel, Operand};
use crate::schedule::Schedule;
use footprint::{Footprint, Touch};
use liveness::Life;
use place::{Block, Rule, Sharing};

/// Alignment of buffers where levels with vectors are built: one cache line, and the widest register.
pub const VECTOR_ALIGN: usize = 64;

/// Alignment of buffers for scalar code: the largest element.
pub const SCALAR_ALIGN: usize = 8;

/// What the plan may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// Offsets are multiples of it; at least 8, the largest element.
    pub align: usize,
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions { align: VECTOR_ALIGN }
    }
}

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
    /// No written range meets another range of the step, except that a kernel's residual may be its
    /// output's own memory, element by element.
    Disjoint,
    /// Written over an operand: same offset, or a safe distance ahead.
    Overlap,
    /// Read and written parts interleave within rows of one wider buffer.
    Strided {
        /// Bytes between rows.
        pitch: usize,
    },
}

/// Places the buffers of a schedule.
///
/// Sharing at the same place (elementwise loops, softmax, residuals) costs nothing and is always open to
/// the search. Writing behind a moving read costs a kernel its freedom of order, so that is taken only
/// where it makes the arena smaller.
pub fn plan(schedule: &Schedule, options: &PlanOptions) -> Plan {
    let lives = liveness::lives(schedule);
    let shares = share::shares(schedule, &lives);
    // Buffers that nobody touches take no room.
    let blocks: Vec<Block> = schedule
        .buffers
        .iter()
        .zip(&lives)
        .map(|(b, life)| match *life {
            Some(life) => Block { size: b.len.saturating_mul(b.dtype.size()), life },
            None => Block { size: 0, life: Life { start: 0, end: 0 } },
        })
        .collect();
    let sharings = |keep: fn(&Rule) -> bool| -> Vec<Sharing> {
        let of = |b: BufferId| b.0 as usize;
        let sharing = |s: &share::Share| Sharing { read: of(s.read), written: of(s.written), rule: s.rule };
        shares.iter().filter(|s| keep(&s.rule)).map(sharing).collect()
    };
    let align = options.align.max(SCALAR_ALIGN);
    let (mut offsets, mut end) = place::place(&blocks, &sharings(|r| matches!(r, Rule::Exactly(_))), align);
    if shares.iter().any(|s| matches!(s.rule, Rule::AtLeast(_))) {
        let (closer, lower) = place::place(&blocks, &sharings(|_| true), align);
        if lower < end {
            (offsets, end) = (closer, lower);
        }
    }
    let forms = (0..schedule.steps.len()).map(|i| form(schedule, &offsets, i)).collect();
    Plan { offsets, arena_bytes: end, lower_bound_bytes: bound::lower_bound(schedule, &lives), forms }
}

/// A touch of the arena, in bytes.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    buffer: BufferId,
    footprint: Footprint,
    write: bool,
}

/// What a step touches in the arena, in bytes, in the order of [`footprint::of_kernel`].
fn bytes(schedule: &Schedule, offsets: &[usize], step: usize) -> Vec<Bytes> {
    let Some(step) = schedule.steps.get(step) else { return Vec::new() };
    let place = |t: Touch| {
        let Operand::Buffer(buffer) = t.operand else { return None };
        let size = schedule.buffers.get(buffer.0 as usize)?.dtype.size();
        let offset = *offsets.get(buffer.0 as usize)?;
        let f = t.footprint;
        let footprint = Footprint {
            start: offset + f.start * size,
            run: f.run * size,
            pitch: f.pitch * size,
            rows: f.rows,
        };
        (f.rows > 0).then_some(Bytes { buffer, footprint, write: t.write })
    };
    footprint::of_kernel(&step.kernel, |o| schedule.len_of(o)).into_iter().filter_map(place).collect()
}

fn form(schedule: &Schedule, offsets: &[usize], index: usize) -> StepForm {
    let touches = bytes(schedule, offsets, index);
    let kernel = schedule.steps.get(index).map(|s| &s.kernel);
    let mut form = StepForm::Disjoint;
    for w in touches.iter().filter(|t| t.write) {
        for r in touches.iter().filter(|t| !t.write) {
            if !r.footprint.hull().meets(&w.footprint.hull()) || residual_in_place(kernel, r, w) {
                continue;
            }
            if r.footprint.meets(&w.footprint) {
                return StepForm::Overlap;
            }
            form = StepForm::Strided { pitch: w.footprint.pitch.max(r.footprint.pitch) };
        }
    }
    form
}

/// Whether a read is the residual of a fused kernel, lying just where the kernel writes. The first read of
/// those kernels is their input, which is something else.
fn residual_in_place(kernel: Option<&Kernel>, r: &Bytes, w: &Bytes) -> bool {
    let (input, residual) = match kernel {
        Some(Kernel::Conv { x, epilogue, .. } | Kernel::Depthwise { x, epilogue, .. }) => {
            (x, epilogue.residual)
        }
        Some(Kernel::MatMul { a, epilogue, .. }) => (a, epilogue.residual),
        Some(Kernel::ConvI8(k) | Kernel::DepthwiseI8(k)) => (&k.x, k.residual),
        _ => return false,
    };
    residual == Some(Operand::Buffer(r.buffer))
        && *input != Operand::Buffer(r.buffer)
        && r.footprint == w.footprint
}
