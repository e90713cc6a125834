//! Steps that do not run exactly once: branches and loops, as ranges of the one list of steps.

use crate::kernel::Operand;

/// Steps from `first` to before `end` that run together. Regions lie within one another or apart; in a schedule
/// each stands before those within it, and they are in the order of their first steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First step.
    pub first: usize,
    /// One past the last step.
    pub end: usize,
    /// When and how often they run.
    pub control: Control,
}

/// When and how often the steps of a region run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The steps before `otherwise` where the condition holds, the others where it does not.
    If {
        /// A bool at the start of a buffer or constant, read before the first step.
        condition: Operand,
        /// First step of the other branch.
        otherwise: usize,
    },
    /// Again and again, a number of times known at compile time.
    Repeat {
        /// How often.
        times: u64,
    },
    /// As long as the condition holds.
    While {
        /// A bool at the start of a buffer or constant, read before each iteration.
        condition: Operand,
    },
}

impl Control {
    /// What is read between steps.
    pub fn condition(&self) -> Option<Operand> {
        match self {
            Control::If { condition, .. } | Control::While { condition } => Some(*condition),
            Control::Repeat { .. } => None,
        }
    }

    /// Whether the steps may run more than once.
    pub fn repeats(&self) -> bool {
        match self {
            Control::If { .. } => false,
            Control::Repeat { .. } | Control::While { .. } => true,
        }
    }
}

impl Region {
    /// Whether a step lies within.
    pub fn holds(&self, step: usize) -> bool {
        self.first <= step && step < self.end
    }
}
