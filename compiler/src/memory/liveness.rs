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
    lives
}
