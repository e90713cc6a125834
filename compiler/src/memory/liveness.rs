//! When each buffer holds something that is still needed.

use crate::kernel::{BufferId, Operand};
use crate::schedule::Schedule;

/// First and last time at which a buffer is occupied, both included. Step `s` runs at time `s + 1`;
/// time 0 is the caller writing inputs, time `steps + 1` the caller reading outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When it is first written.
    pub start: usize,
    /// When it is last read or written.
    pub end: usize,
}

impl Life {
    /// Whether the two are occupied at the same time.
    pub fn meets(&self, other: &Life) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// Life of every buffer; `None` for one that nobody touches.
///
/// A loop runs its steps again: what it shares with the steps around it (what it reads from outside, what it
/// carries from one iteration to the next, what it leaves behind) lives through all of it. What is written and
/// read in one iteration lives only there. The branches of an `If` stand one behind the other and need no rule;
/// its condition counts as read by the first step.
pub fn lives(schedule: &Schedule) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> = vec![None; schedule.buffers.len()];
    let mut touch = |operand: Operand, time: usize| {
        let Operand::Buffer(BufferId(id)) = operand else { return };
        let Some(slot) = lives.get_mut(id as usize) else { return };
        let life = slot.get_or_insert(Life { start: time, end: time });
        life.start = life.start.min(time);
        life.end = life.end.max(time);
    };
    for port in &schedule.inputs {
        touch(port.operand, 0);
    }
    for (i, step) in schedule.steps.iter().enumerate() {
        for operand in step.kernel.reads().into_iter().chain(step.kernel.writes()) {
            touch(operand, i + 1);
        }
    }
    for port in &schedule.outputs {
        touch(port.operand, schedule.steps.len() + 1);
    }
    for region in &schedule.regions {
        if let Some(condition) = region.control.condition() {
            touch(condition, region.first + 1);
        }
    }
    // Inner loops first: what they stretch may reach into outer ones.
    for region in schedule.regions.iter().rev().filter(|r| r.control.repeats() && r.first < r.end) {
        let (first, last) = (region.first + 1, region.end);
        for life in lives.iter_mut().flatten() {
            if life.start < first && (first..last).contains(&life.end) {
                life.end = last;
            }
            if life.end > last && (first + 1..=last).contains(&life.start) {
                life.start = first;
            }
        }
    }
    lives
}
