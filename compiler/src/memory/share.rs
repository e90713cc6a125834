//! Which steps may write over what they read.
//!
//! A buffer that is read for the last time at the step that writes another for the first time may share
//! bytes with it where the kernel allows:
//!
//! - a loop nest that reads and writes the same position in each iteration, and reads the buffer nowhere
//!   else: at the same place;
//! - softmax and row norms, which finish a row before the next: at the same place;
//! - the residual of an epilogue whose elements lie as the output's do: at the same place;
//! - convolutions, pools and matrix products: as far ahead as their `safe_lead` in the runtime says, which
//!   the emitted layer proves again.
//!
//! Refused: a buffer that the step reads twice, several nests, a result that already holds something (a
//! further part of a concatenation), different element types.

use super::footprint;
use super::liveness::Life;
use super::place::Rule;
use crate::kernel::spec::{MatMulSpec, Residual, View};
use crate::kernel::{BufferId, EpilogueOperands, Kernel, Loops, Operand};
use crate::schedule::Schedule;
use edgec_runtime::kernels;

/// One buffer that may be written over at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Read for the last time.
    pub read: BufferId,
    /// Written for the first time.
    pub written: BufferId,
    /// How.
    pub rule: Rule,
}

/// Every pair that may share, given when each buffer is alive.
pub(super) fn shares(schedule: &Schedule, lives: &[Option<Life>]) -> Vec<Share> {
    let mut list = Vec::new();
    let life = |b: BufferId| lives.get(b.0 as usize).copied().flatten();
    for (i, step) in schedule.steps.iter().enumerate() {
        let time = i + 1;
        for (read, written, rule) in rules(&step.kernel) {
            let (Operand::Buffer(read), Operand::Buffer(written)) = (read, written) else { continue };
            let dies = life(read).is_some_and(|l| l.end == time && l.start < time);
            let born = life(written).is_some_and(|l| l.start == time);
            let dtype = |b: BufferId| schedule.buffers.get(b.0 as usize).map(|b| b.dtype);
            if dies && born && dtype(read) == dtype(written) && reads_of(schedule, &step.kernel, read) == 1 {
                list.push(Share { read, written, rule });
            }
        }
    }
    list
}

/// How often a kernel names a buffer among what it reads; all reads of one nest at one position count once.
fn reads_of(schedule: &Schedule, kernel: &Kernel, buffer: BufferId) -> usize {
    if let Kernel::Loops(_) = kernel {
        return 1; // `in_place` looked at every read.
    }
    let touches = footprint::of_kernel(kernel, |o| schedule.len_of(o));
    touches.iter().filter(|t| !t.write && t.operand == Operand::Buffer(buffer)).count()
}

/// Rows of an output up to which leads are computed: here, and once more by rustc for the emitted layer, which
/// looks at each row.
const MOST_ROWS: usize = 4096;

fn few_rows(y: &View) -> bool {
    let rows = [y.extent[0], y.extent[1]].iter().fold(y.batch, |n, &d| n.saturating_mul(d));
    rows <= MOST_ROWS
}

/// What a kernel may write over, as `(read, written, rule)`, distances in bytes from buffer to buffer.
fn rules(kernel: &Kernel) -> Vec<(Operand, Operand, Rule)> {
    let at_least = |lead: Option<isize>, x: Operand, y: Operand| lead.map(|l| (x, y, Rule::AtLeast(l)));
    match kernel {
        Kernel::Conv { spec, x, epilogue, y, .. } => {
            let lead = few_rows(&spec.y).then(|| kernels::conv::safe_lead(spec)).flatten();
            let lead = at_least(lead, *x, *y);
            let r = residual(epilogue, spec.epilogue.residual, &spec.residual, &spec.y, *y, size_of::<f32>());
            lead.into_iter().chain(r).collect()
        }
        Kernel::Depthwise { spec, x, epilogue, y, .. } => {
            let lead = few_rows(&spec.y).then(|| kernels::depthwise::safe_lead(spec)).flatten();
            let lead = at_least(lead, *x, *y);
            let r = residual(epilogue, spec.epilogue.residual, &spec.residual, &spec.y, *y, size_of::<f32>());
            lead.into_iter().chain(r).collect()
        }
        Kernel::ConvI8(k) | Kernel::DepthwiseI8(k) => {
            let kind = if k.spec.steps.add { Residual::Before } else { Residual::None };
            let operands = EpilogueOperands { residual: k.residual, ..EpilogueOperands::default() };
            residual(&operands, kind, &k.spec.residual, &k.spec.y, k.y, size_of::<u8>()).into_iter().collect()
        }
        Kernel::MatMul { spec, a, epilogue, y, .. } => {
            let few = spec.batch.saturating_mul(spec.m) <= MOST_ROWS;
            let lead = at_least(few.then(|| kernels::matmul::safe_lead(spec)).flatten(), *a, *y);
            lead.into_iter().chain(matmul_residual(spec, epilogue, *y)).collect()
        }
        Kernel::Pool { spec, x, y } => {
            let lead = few_rows(&spec.y).then(|| kernels::pool::safe_lead(spec)).flatten();
            at_least(lead, *x, *y).into_iter().collect()
        }
        Kernel::Softmax { x, y, .. } | Kernel::Norm { x, y, .. } => vec![(*x, *y, Rule::Exactly(0))],
        Kernel::Loops(loops) => in_place(loops),
        Kernel::WinogradOutput { spec, epilogue, y, .. } => {
            residual(epilogue, spec.epilogue.residual, &spec.residual, &spec.y, *y, size_of::<f32>())
                .into_iter()
                .collect()
        }
        Kernel::Pack { .. }
        | Kernel::Recurrent(_)
        | Kernel::WinogradInput { .. }
        | Kernel::Routine(_)
        | Kernel::Custom(_) => Vec::new(),
    }
}

/// The residual, where its elements lie to each other as the output's do.
fn residual(
    operands: &EpilogueOperands,
    kind: Residual,
    r: &View,
    y: &View,
    written: Operand,
    size: usize,
) -> Option<(Operand, Operand, Rule)> {
    let same = r.n_stride == y.n_stride && r.strides == y.strides && r.c_stride == y.c_stride;
    (same && kind != Residual::None).then_some(())?;
    Some((operands.residual?, written, behind(r.offset, y.offset, size)?))
}

fn matmul_residual(
    spec: &MatMulSpec,
    operands: &EpilogueOperands,
    written: Operand,
) -> Option<(Operand, Operand, Rule)> {
    let same =
        (spec.m == 1 || spec.r_stride == spec.y_stride) && (spec.batch == 1 || spec.r_batch == spec.y_batch);
    (same && spec.epilogue.residual != Residual::None).then_some(())?;
    Some((operands.residual?, written, behind(spec.r_offset, spec.y_offset, size_of::<f32>())?))
}

/// The read buffer starts where element `read` of it falls on element `written` of the other.
fn behind(read: usize, written: usize, size: usize) -> Option<Rule> {
    let distance = isize::try_from(written).ok()?.checked_sub_unsigned(read)?;
    Some(Rule::Exactly(distance.checked_mul(isize::try_from(size).ok()?)?))
}

/// Operands of a single nest that are read only where the nest writes in the same iteration.
fn in_place(loops: &Loops) -> Vec<(Operand, Operand, Rule)> {
    let [nest] = loops.nests.as_slice() else { return Vec::new() };
    let [store] = nest.stores.as_slice() else { return Vec::new() };
    if nest.reduce > 0 {
        return Vec::new();
    }
    let mut list: Vec<(Operand, Operand, Rule)> = Vec::new();
    for candidate in &nest.reads {
        let operand = candidate.access.operand;
        if list.iter().any(|(read, ..)| *read == operand) || operand == store.access.operand {
            continue;
        }
        let mut all = nest.reads.iter().filter(|r| r.access.operand == operand);
        let aligned = all.all(|r| {
            r.gather.is_empty()
                && r.access.offset == candidate.access.offset
                && r.access.dtype == store.access.dtype
                && same_strides(&nest.extents, &r.access.strides, &store.access.strides)
        });
        let rule = behind(candidate.access.offset, store.access.offset, store.access.dtype.size());
        if let (true, Some(rule)) = (aligned, rule) {
            list.push((operand, store.access.operand, rule));
        }
    }
    list
}

fn same_strides(extents: &[usize], a: &[isize], b: &[isize]) -> bool {
    a.len() == b.len() && extents.iter().zip(a.iter().zip(b)).all(|(&d, (a, b))| d <= 1 || a == b)
}
