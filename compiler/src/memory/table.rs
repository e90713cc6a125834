//! The plan as the generated crate states it: who writes what, who reads it. Emission prints it as
//! `const PLAN`, and rustc runs `rt::plan::check` over it.
//!
//! A value is named by its bytes, so the table says which steps made them: those that wrote into the read
//! buffer's range before. Pieces that one step writes into a buffer that held nothing before (a rim of
//! zeros) stand as one range from the first to the last.
//!
//! A step of a loop also reads what later steps of the loop wrote in the iteration before, where the buffer holds
//! something from before the loop. What is read between steps, the condition of a region, counts as read by the
//! region's first step.

use super::footprint::Footprint;
use super::{Bytes, Plan, bytes};
use crate::kernel::{BufferId, Operand};
use crate::schedule::{Control, Schedule};
use edgec_runtime::kernels::Form;
use edgec_runtime::plan::{self, CALLER, Range, Region};

/// One entry per step, then one that reads the outputs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanTable {
    /// In order of execution.
    pub steps: Vec<TableStep>,
    /// Steps that do not run exactly once, as in the schedule.
    pub regions: Vec<Region>,
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

/// The table of a plan: one entry per step, and one for the caller who reads the outputs.
pub fn table(schedule: &Schedule, plan: &Plan) -> PlanTable {
    let touches: Vec<Vec<Bytes>> =
        (0..schedule.steps.len()).map(|index| bytes(schedule, &plan.offsets, index)).collect();
    let mut done = Done {
        writes: vec![Vec::new(); schedule.buffers.len()],
        loops: schedule
            .regions
            .iter()
            .filter(|r| r.control.repeats())
            .map(|r| Repeated {
                first: r.first,
                end: r.end,
                writes: (r.first..r.end)
                    .filter_map(|step| Some((step, merged(touches.get(step)?))))
                    .flat_map(|(step, writes)| writes.into_iter().map(move |(b, f)| (step, b, f)))
                    .collect(),
            })
            .collect(),
    };
    for port in &schedule.inputs {
        if let Operand::Buffer(b) = port.operand {
            done.wrote(b, CALLER, Footprint::dense(0, usize::MAX));
        }
    }
    let mut steps = Vec::with_capacity(schedule.steps.len() + 1);
    for (index, touches) in touches.iter().enumerate() {
        let conditions = schedule.regions.iter().filter(|r| r.first == index && r.first < r.end);
        let mut between = Vec::new();
        for condition in conditions.filter_map(|r| r.control.condition()) {
            let Some((buffer, whole)) = whole(schedule, plan, condition) else { continue };
            // Read before the step runs, so that it may write there.
            let reads = done.reads(index, buffer, Footprint::dense(whole.start, 1), &[]);
            between.extend(reads.into_iter().map(|r| TableRead { form: Form::Overlap, ..r }));
        }
        let mut step = done.step(index, touches);
        between.retain(|r| !step.reads.contains(r));
        step.reads.extend(between);
        steps.push(step);
    }
    let end = schedule.steps.len();
    let outputs = schedule.outputs.iter().filter_map(|port| {
        let (buffer, whole) = whole(schedule, plan, port.operand)?;
        Some(done.reads(end, buffer, whole, &[]))
    });
    let reads = outputs.flatten().collect();
    steps.push(TableStep { writes: Vec::new(), reads });
    let regions = schedule.regions.iter().filter(|r| r.first < r.end);
    let regions = regions.map(|r| Region {
        first: r.first,
        end: r.end,
        control: match r.control {
            Control::If { otherwise, .. } => plan::Control::Branch { otherwise },
            Control::Repeat { .. } | Control::While { .. } => plan::Control::Loop,
        },
    });
    PlanTable { steps, regions: regions.collect() }
}

/// All bytes of a buffer.
fn whole(schedule: &Schedule, plan: &Plan, operand: Operand) -> Option<(BufferId, Footprint)> {
    let Operand::Buffer(b) = operand else { return None };
    let buffer = schedule.buffers.get(b.0 as usize)?;
    let start = *plan.offsets.get(b.0 as usize)?;
    Some((b, Footprint::dense(start, buffer.len * buffer.dtype.size())))
}

/// What a step writes: several pieces of one buffer become one range, or the ones that hold the others.
fn merged(touches: &[Bytes]) -> Vec<(BufferId, Footprint)> {
    let mut writes: Vec<(BufferId, Footprint)> = Vec::new();
    for touch in touches.iter().filter(|t| t.write) {
        match writes.iter_mut().find(|(b, _)| *b == touch.buffer) {
            Some((_, print)) if covers(print, &touch.footprint) => {}
            Some((_, print)) if covers(&touch.footprint, print) => *print = touch.footprint,
            Some((_, print)) => {
                let (start, end) =
                    (print.start.min(touch.footprint.start), print.end().max(touch.footprint.end()));
                *print = Footprint::dense(start, end - start);
            }
            None => writes.push((touch.buffer, touch.footprint)),
        }
    }
    writes
}

/// What was written so far.
struct Done {
    /// For each buffer, who wrote which bytes of it.
    writes: Vec<Vec<(usize, Footprint)>>,
    /// Outermost first.
    loops: Vec<Repeated>,
}

/// A loop, and all that it writes.
struct Repeated {
    first: usize,
    end: usize,
    writes: Vec<(usize, BufferId, Footprint)>,
}

impl Done {
    fn wrote(&mut self, buffer: BufferId, step: usize, footprint: Footprint) {
        if let Some(list) = self.writes.get_mut(buffer.0 as usize) {
            list.push((step, footprint));
        }
    }

    fn so_far(&self, buffer: BufferId) -> &[(usize, Footprint)] {
        self.writes.get(buffer.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// Who may have written into a buffer when step `index` reads it: whoever stands before, and in a loop that
    /// found something there, the steps behind.
    fn makers(&self, index: usize, buffer: BufferId) -> Vec<(usize, Footprint)> {
        let mut makers = self.so_far(buffer).to_vec();
        let before = |l: &&Repeated| makers.iter().any(|&(w, _)| w == CALLER || w < l.first);
        if let Some(outermost) = self.loops.iter().filter(|l| l.first <= index && index < l.end).find(before)
        {
            let later = outermost.writes.iter().filter(|(step, b, _)| *b == buffer && *step >= index);
            makers.extend(later.map(|&(step, _, f)| (step, f)));
        }
        makers
    }

    fn step(&mut self, index: usize, touches: &[Bytes]) -> TableStep {
        let writes = merged(touches);
        let mut reads: Vec<TableRead> = Vec::new();
        for (position, touch) in touches.iter().enumerate().filter(|(_, t)| !t.write) {
            // What an earlier nest of the step itself wrote is not for others to have made.
            let own = touches.iter().take(position).any(|t| t.write && t.buffer == touch.buffer);
            if own && self.so_far(touch.buffer).iter().all(|(_, w)| !w.meets(&touch.footprint)) {
                continue;
            }
            for read in self.reads(index, touch.buffer, touch.footprint, &writes) {
                if !reads.contains(&read) {
                    reads.push(read);
                }
            }
        }
        for &(buffer, footprint) in &writes {
            self.wrote(buffer, index, footprint);
        }
        TableStep { writes: writes.iter().map(|(_, f)| range(f)).collect(), reads }
    }

    /// A read and who made what it reads. Where rows of a value were written at another pitch than they
    /// are read, the read stands for everything from its first to its last byte. Where what it reads lies
    /// in several blocks, one behind another and each made by writers of its own (parts of nested
    /// concatenations), there is one read for each.
    fn reads(
        &self,
        index: usize,
        buffer: BufferId,
        footprint: Footprint,
        own: &[(BufferId, Footprint)],
    ) -> Vec<TableRead> {
        let so_far = &self.makers(index, buffer);
        let mixed = !footprint.is_dense()
            && so_far.iter().any(|(_, w)| w.meets(&footprint) && !w.is_dense() && w.pitch != footprint.pitch);
        let footprint = if mixed { footprint.hull() } else { footprint };
        let makers: Vec<Footprint> = so_far.iter().map(|(_, w)| *w).filter(|w| w.meets(&footprint)).collect();
        let footprint = whole_rows(footprint, &makers);
        let pieces: Vec<Footprint> = cuts(&footprint, &makers)
            .windows(2)
            .filter_map(|c| Some(clip(&footprint, *c.first()?, *c.get(1)?)))
            .collect();
        let whole = pieces.iter().map(Footprint::elements).sum::<usize>() == footprint.elements();
        if !whole && !footprint.is_dense() {
            return self.reads(index, buffer, footprint.hull(), own);
        }
        let pieces = if whole { pieces } else { vec![footprint] };
        let read = |piece: &Footprint| {
            let mut writers: Vec<usize> =
                so_far.iter().filter(|(_, w)| w.meets(piece)).map(|(step, _)| *step).collect();
            writers.dedup();
            let meets = own.iter().any(|(_, w)| w.meets(piece));
            TableRead {
                range: range(piece),
                writers,
                form: if meets { Form::Overlap } else { Form::Disjoint },
            }
        };
        pieces.iter().filter(|p| p.rows > 0).map(read).collect()
    }
}

/// A read without gaps that starts or ends within a row, where its writers fill whole rows between them: all of
/// the rows, since the check compares rows.
fn whole_rows(read: Footprint, writers: &[Footprint]) -> Footprint {
    let Some(first) = writers.iter().min_by_key(|w| w.start).filter(|w| !w.is_dense()) else { return read };
    let side_by_side = writers.iter().all(|w| w.pitch == first.pitch && w.rows == first.rows);
    let filled = writers.iter().map(|w| w.run).sum::<usize>() == first.pitch;
    let end = writers.iter().map(Footprint::end).max().unwrap_or(0);
    if !(read.is_dense() && side_by_side && filled && first.start <= read.start && read.end() <= end) {
        return read;
    }
    let start = first.start + (read.start - first.start) / first.pitch * first.pitch;
    let behind = first.start + (read.end() - first.start).div_ceil(first.pitch) * first.pitch;
    Footprint::dense(start, behind.min(end) - start)
}

/// Where to cut a read so that each of its writers holds rows of a piece from the first to the last, or none:
/// at the rows where a writer starts or stops. One piece where there are no rows at all.
fn cuts(read: &Footprint, writers: &[Footprint]) -> Vec<usize> {
    let mut cuts = vec![read.start, read.end()];
    if !read.is_dense() || writers.iter().any(|w| !w.is_dense()) {
        for w in writers {
            let ends = if w.is_dense() {
                [Some(w.start), Some(w.end())]
            } else {
                // The read's row that holds the writer's first run, and the one behind its last.
                let ahead = (w.start % w.pitch + w.pitch - read.start % w.pitch) % w.pitch;
                let row = w.start.checked_sub(ahead);
                [row, row.map(|r| r + w.rows * w.pitch)]
            };
            cuts.extend(ends.into_iter().flatten().filter(|&c| read.start < c && c < read.end()));
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// The part of a footprint from `start` to `end`, in whole runs where it has several.
fn clip(f: &Footprint, start: usize, end: usize) -> Footprint {
    if f.is_dense() {
        let (start, end) = (f.start.max(start), f.end().min(end));
        return Footprint::dense(start, end.saturating_sub(start));
    }
    let first = start.saturating_sub(f.start).div_ceil(f.pitch);
    let last = match end.checked_sub(f.start + f.run) {
        Some(room) => (room / f.pitch + 1).min(f.rows),
        None => 0,
    };
    if first >= last {
        return Footprint::NOTHING;
    }
    Footprint { start: f.start + first * f.pitch, rows: last - first, ..*f }
}

/// Whether `b` lies within `a` for sure.
fn covers(a: &Footprint, b: &Footprint) -> bool {
    if a.is_dense() {
        return a.start <= b.start && b.end() <= a.end();
    }
    let inside = |start: usize, end: usize| {
        let within = (start - a.start) % a.pitch;
        within + (end - start) <= a.run
    };
    if a.start > b.start || b.end() > a.end() {
        return false;
    }
    if b.is_dense() {
        inside(b.start, b.end())
    } else {
        a.pitch == b.pitch && inside(b.start, b.start + b.run)
    }
}

fn range(f: &Footprint) -> Range {
    Range::strided(f.start, f.run, f.pitch, f.rows)
}
