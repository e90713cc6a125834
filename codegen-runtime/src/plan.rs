//! The memory plan as data, and its check, run by rustc on every emitted crate.
//!
//! Emission writes `const PLAN: [Step; S]` and `const _: () = check(&PLAN, ARENA_BYTES);` (with
//! `#[allow(long_running_const_eval)]`: the check of a large model takes tenths of a second). A last step
//! that only reads stands for the caller, who reads the outputs.

use crate::kernels::Form;

/// Bytes of the arena: runs of `run` bytes, one every `pitch` bytes, from `start` to the end of the
/// last run at `end`. Dense ranges have one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Bytes of each run.
    pub run: usize,
    /// Bytes from one run to the next; `run` for a dense range.
    pub pitch: usize,
}

impl Range {
    /// Every byte from `start` to `end`.
    pub const fn dense(start: usize, end: usize) -> Range {
        let run = end.saturating_sub(start);
        Range { start, end, run, pitch: run }
    }

    /// `rows ≥ 1` runs of `run` bytes, one every `pitch` bytes.
    pub const fn strided(start: usize, run: usize, pitch: usize, rows: usize) -> Range {
        if rows <= 1 || run == pitch {
            return Range::dense(start, start + rows * run);
        }
        Range { start, end: start + (rows - 1) * pitch + run, run, pitch }
    }

    const fn is_dense(&self) -> bool {
        self.run >= self.end - self.start
    }

    /// Number of runs.
    const fn rows(&self) -> isize {
        if self.is_dense() { 1 } else { ((self.end - self.start - self.run) / self.pitch) as isize + 1 }
    }

    /// Whether the two share a byte. Exact where one is dense or both have the same pitch; otherwise
    /// true if one starts before the other ends.
    const fn meets(&self, other: &Range) -> bool {
        if self.start >= other.end || other.start >= self.end {
            return false;
        }
        if self.is_dense() && other.is_dense() {
            return true;
        }
        let pitch = if self.is_dense() { other.pitch } else { self.pitch } as isize;
        if !self.is_dense() && !other.is_dense() && self.pitch != other.pitch {
            return true;
        }
        // Run i of self meets run j of other iff -other.run < apart + (j - i)·pitch < self.run.
        let apart = other.start as isize - self.start as isize;
        let least = -((apart + other.run as isize - 1).div_euclid(pitch));
        let most = (self.run as isize - 1 - apart).div_euclid(pitch);
        let (first, last) = (1 - self.rows(), other.rows() - 1);
        let low = if least > first { least } else { first };
        let high = if most < last { most } else { last };
        low <= high
    }
}

/// Stands among [`Read::writers`] for the caller, who writes the model's inputs (and carried state)
/// before the first step.
pub const CALLER: usize = usize::MAX;

/// A value as a step reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Bytes read.
    pub range: Range,
    /// The steps that made the value, or [`CALLER`]. Several where parts were written in place
    /// (concatenation) or a fill precedes the interior of a haloed buffer.
    pub writers: &'static [usize],
    /// How the reading step's own writes may lie: they may meet the range only for [`Form::Overlap`],
    /// whose distance the layer's own check proves.
    pub form: Form,
}

/// A step's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes written, pairwise disjoint.
    pub writes: &'static [Range],
    /// Values read.
    pub reads: &'static [Read],
}

/// Steps from `first` to before `end` that do not run exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First step.
    pub first: usize,
    /// One past the last step.
    pub end: usize,
    /// How they run.
    pub control: Control,
}

/// How the steps of a region run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Any number of times.
    Loop,
    /// Either those before `otherwise` or the others.
    Branch {
        /// First step of the other branch.
        otherwise: usize,
    },
}

impl Region {
    const fn holds(&self, step: usize) -> bool {
        self.first <= step && step < self.end
    }
}

/// Fails the build unless every step finds what it reads. For each step:
///
/// - its ranges lie in the arena, and its writes are disjoint from one another;
/// - its writes meet what it reads only where the read says [`Form::Overlap`];
/// - each read's writers are earlier steps;
/// - their writes cover it: one writer's range holds all of it, or dense writes follow one another through
///   it, or writes of one pitch lie side by side over every pitch of it;
/// - no other step between the first writer and this one writes into it.
pub const fn check(plan: &[Step], arena_bytes: usize) {
    check_regions(plan, &[], arena_bytes);
}

/// [`check`] for plans with branches and loops. Regions lie within one another or apart, none is empty, and each
/// stands before those within it. A read's writers may then also be steps behind it in a common loop. Then:
///
/// - a read is covered whatever branches were taken, and already in the first iteration: by its writers that run
///   whenever it does, or by those in either branch of an `If` together with them. A loop that may end at once
///   covers nothing for those behind it;
/// - what a loop reads that was made outside, or in an earlier iteration, is not written by any other step of the
///   loop, wherever it stands.
pub const fn check_regions(plan: &[Step], regions: &[Region], arena_bytes: usize) {
    let mut index = 0;
    while index < plan.len() {
        let step = &plan[index];
        let mut i = 0;
        while i < step.writes.len() {
            check_range(&step.writes[i], arena_bytes, index);
            let mut j = 0;
            while j < i {
                if step.writes[i].meets(&step.writes[j]) {
                    fail("two writes overlap in", index);
                }
                j += 1;
            }
            i += 1;
        }
        let mut i = 0;
        while i < step.reads.len() {
            let read = &step.reads[i];
            check_range(&read.range, arena_bytes, index);
            if !matches!(read.form, Form::Overlap) && meets_any(&read.range, step.writes) {
                fail("a write overlaps a read, undeclared, in", index);
            }
            check_read(plan, regions, index, read);
            i += 1;
        }
        index += 1;
    }
}

const fn check_range(range: &Range, arena_bytes: usize, index: usize) {
    let ordered = range.start <= range.end && range.end <= arena_bytes;
    let runs = range.run <= range.pitch && (range.start == range.end || range.run > 0);
    if !(ordered && runs && range.run <= range.end - range.start) {
        fail("a range leaves the arena or is malformed in", index);
    }
    if !range.is_dense() && !(range.end - range.start - range.run).is_multiple_of(range.pitch) {
        fail("a range does not end with a run in", index);
    }
}

const fn meets_any(range: &Range, writes: &[Range]) -> bool {
    let mut i = 0;
    while i < writes.len() {
        if range.meets(&writes[i]) {
            return true;
        }
        i += 1;
    }
    false
}

const fn check_read(plan: &[Step], regions: &[Region], index: usize, read: &Read) {
    let mut first = index;
    let mut outside = false;
    let mut i = 0;
    while i < read.writers.len() {
        let writer = read.writers[i];
        if writer == CALLER {
            first = 0;
            outside = true;
        } else if writer >= index && !share_loop(regions, index, writer) {
            fail("a value is read before it is written in", index);
        } else if writer < first {
            first = writer;
        }
        i += 1;
    }
    if !covered(plan, regions, read, 0, index, At::Step(index)) {
        fail("a read is not covered by its writers in", index);
    }
    // Which steps run between a write and the read: those between them, and all of a loop that brings the value
    // to the reader from outside or from an earlier iteration. It does not where each iteration first makes it anew.
    let mut end = index;
    let from = first;
    let mut i = 0;
    while i < regions.len() {
        let r = &regions[i];
        if matches!(r.control, Control::Loop)
            && r.holds(index)
            && (outside
                || from < r.first
                || carries(r, read.writers, index)
                    && !covered(plan, regions, read, r.first, index, At::Step(index)))
        {
            first = if r.first < first { r.first } else { first };
            end = if r.end > end { r.end } else { end };
        }
        i += 1;
    }
    // Bounds are compared here first: const evaluation is slow, above all in calls.
    let (start, stop) = (read.range.start, read.range.end);
    let mut between = first;
    while between < end {
        let writes = plan[between].writes;
        let mut i = 0;
        while i < writes.len() {
            let write = &writes[i];
            if write.start < stop
                && start < write.end
                && write.meets(&read.range)
                && !contains(read.writers, between)
            {
                fail("a live value was overwritten before it was read in", index);
            }
            i += 1;
        }
        between += 1;
    }
}

/// Whether a loop holds both steps.
const fn share_loop(regions: &[Region], a: usize, b: usize) -> bool {
    let mut i = 0;
    while i < regions.len() {
        if matches!(regions[i].control, Control::Loop) && regions[i].holds(a) && regions[i].holds(b) {
            return true;
        }
        i += 1;
    }
    false
}

/// Whether one of the writers stands in the loop, not before step `index`.
const fn carries(region: &Region, writers: &[usize], index: usize) -> bool {
    let mut i = 0;
    while i < writers.len() {
        if writers[i] != CALLER && writers[i] >= index && region.holds(writers[i]) {
            return true;
        }
        i += 1;
    }
    false
}

const fn contains(writers: &[usize], step: usize) -> bool {
    let mut i = 0;
    while i < writers.len() {
        if writers[i] == step {
            return true;
        }
        i += 1;
    }
    false
}

/// A place from which one looks back: a step, or the end of a branch (of a region, the first or the other).
#[derive(Clone, Copy)]
enum At {
    Step(usize),
    End { region: usize, first: bool },
}

/// Where in a region a place lies: 0 outside, 1 in a loop or the first branch, 2 in the other.
const fn side(regions: &[Region], region: usize, at: At) -> u8 {
    let r = &regions[region];
    let step = match at {
        At::Step(step) => step,
        At::End { region: b, first } => {
            if b == region {
                return if first { 1 } else { 2 };
            }
            if b < region || r.first > regions[b].first || r.end < regions[b].end {
                return 0;
            }
            regions[b].first
        }
    };
    match r.control {
        _ if !r.holds(step) => 0,
        Control::Branch { otherwise } if step >= otherwise => 2,
        _ => 1,
    }
}

/// Whether what happens at `what` has happened whenever control is at `at`, as far as regions say; regions from
/// `most` on are not looked at.
const fn sees(regions: &[Region], at: At, what: At, most: usize) -> bool {
    let mut i = 0;
    while i < most {
        let inside = side(regions, i, what);
        if inside != 0 && inside != side(regions, i, at) {
            return false;
        }
        i += 1;
    }
    true
}

/// Whether the writers from `from` to before `limit` that ran for sure cover a read, by themselves or with either branch of a
/// region.
const fn covered(plan: &[Step], regions: &[Region], read: &Read, from: usize, limit: usize, at: At) -> bool {
    let seen = Seen { regions, from, limit, at };
    if covered_by(plan, read, &seen) {
        return true;
    }
    let mut b = match at {
        At::Step(_) => 0,
        At::End { region, .. } => region + 1,
    };
    while b < regions.len() {
        let r = &regions[b];
        if let Control::Branch { otherwise } = r.control
            && from <= r.first
            && r.end <= limit
            && sees(regions, at, At::End { region: b, first: true }, b)
            && covered(plan, regions, read, from, otherwise, At::End { region: b, first: true })
            && covered(plan, regions, read, from, r.end, At::End { region: b, first: false })
        {
            return true;
        }
        b += 1;
    }
    false
}

/// Which writers count.
struct Seen<'a> {
    regions: &'a [Region],
    from: usize,
    limit: usize,
    at: At,
}

impl Seen<'_> {
    const fn has(&self, writer: usize) -> bool {
        self.from <= writer
            && writer < self.limit
            && sees(self.regions, self.at, At::Step(writer), self.regions.len())
    }
}

/// Whether the writes of a read's writers cover it: along all of it, or along each pitch of it.
const fn covered_by(plan: &[Step], read: &Read, seen: &Seen<'_>) -> bool {
    if contains(read.writers, CALLER) || read.range.start == read.range.end {
        return true;
    }
    let range = &read.range;
    // Dense writes, one behind the other.
    let mut at = range.start;
    while at < range.end {
        let next = furthest(plan, read.writers, seen, at, None);
        if next <= at {
            break;
        }
        at = next;
    }
    if at >= range.end {
        return true;
    }
    // Rows, side by side.
    let pitch = first_pitch(plan, read.writers, seen);
    if pitch == 0 || !(range.is_dense() || range.pitch == pitch) {
        return false;
    }
    let rows =
        if range.is_dense() { (range.end - range.start).div_ceil(pitch) } else { range.rows() as usize };
    let row = if range.run < pitch { range.run } else { pitch };
    let row_end = range.start + row;
    let mut at = range.start;
    while at < row_end {
        let next = furthest(plan, read.writers, seen, at, Some((range.start, rows, pitch)));
        if next <= at {
            return false;
        }
        at = next;
    }
    true
}

const fn first_pitch(plan: &[Step], writers: &[usize], seen: &Seen<'_>) -> usize {
    let mut i = 0;
    while i < writers.len() {
        let writes = if seen.has(writers[i]) { plan[writers[i]].writes } else { &[] };
        let mut j = 0;
        while j < writes.len() {
            if !writes[j].is_dense() {
                return writes[j].pitch;
            }
            j += 1;
        }
        i += 1;
    }
    0
}

/// How far from byte `at` the writers' ranges reach without a gap: dense ranges, or, with
/// `rows = (start, rows, pitch)`, ranges of that pitch that do the same in each of the rows.
const fn furthest(
    plan: &[Step],
    writers: &[usize],
    seen: &Seen<'_>,
    at: usize,
    rows: Option<(usize, usize, usize)>,
) -> usize {
    let mut best = at;
    let mut i = 0;
    while i < writers.len() {
        let writes = if seen.has(writers[i]) { plan[writers[i]].writes } else { &[] };
        let mut j = 0;
        while j < writes.len() {
            let end = reach(&writes[j], at, rows);
            if end > best {
                best = end;
            }
            j += 1;
        }
        i += 1;
    }
    best
}

const fn reach(write: &Range, at: usize, rows: Option<(usize, usize, usize)>) -> usize {
    match rows {
        None if write.is_dense() && write.start <= at => write.end,
        Some((start, rows, pitch)) if write.pitch == pitch && !write.is_dense() => {
            // Which run of the write lies in row 0 (counted from the byte `at` itself).
            let ahead = at as isize - write.start as isize;
            let run = ahead.div_euclid(pitch as isize);
            let within = ahead.rem_euclid(pitch as isize) as usize;
            // The last row of a dense range may be cut short in front of this window.
            let needed = rows as isize - (at - start >= pitch) as isize;
            if within < write.run && run >= 0 && run + needed <= write.rows() {
                at + write.run - within
            } else {
                at
            }
        }
        _ => at,
    }
}

/// Fails with the step's number in the message.
const fn fail(what: &str, step: usize) -> ! {
    let mut text = [b' '; 96];
    let what = what.as_bytes();
    let mut length = 0;
    while length < what.len() && length < 64 {
        text[length] = what[length];
        length += 1;
    }
    let label = b" step ";
    let mut i = 0;
    while i < label.len() {
        text[length] = label[i];
        length += 1;
        i += 1;
    }
    let mut digits = 1;
    let mut rest = step / 10;
    while rest > 0 {
        digits += 1;
        rest /= 10;
    }
    let mut i = digits;
    let mut rest = step;
    while i > 0 {
        i -= 1;
        text[length + i] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let (text, _) = text.split_at(length + digits);
    match core::str::from_utf8(text) {
        Ok(text) => panic!("{}", text),
        Err(_) => panic!("the memory plan is wrong"),
    }
}

#[cfg(test)]
mod tests;
