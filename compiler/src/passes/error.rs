//! What can go wrong in a pass: always a bug of the compiler, never of the model.

use crate::diag::{Code, Diagnostic};
use std::fmt;

/// Why the passes stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassError {
    /// The graph broke a rule after this pass.
    Verify {
        /// The pass that ran last.
        pass: &'static str,
        /// Every violated rule.
        violations: Vec<String>,
    },
    /// A group of passes kept changing the graph.
    NoFixpoint {
        /// The group.
        group: &'static str,
        /// How often it ran.
        rounds: usize,
        /// Passes that still changed something in the last round.
        restless: Vec<&'static str>,
    },
    /// A pass met something that its own matching had ruled out.
    Broken {
        /// The pass.
        pass: &'static str,
        /// What it met.
        what: String,
    },
}

impl fmt::Display for PassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PassError::Verify { pass, violations } => {
                write!(f, "internal error in pass `{pass}`: {}", violations.join("; "))
            }
            PassError::NoFixpoint { group, rounds, restless } => write!(
                f,
                "internal error in passes `{group}`: no fixpoint after {rounds} rounds, still changing: {}",
                restless.join(", ")
            ),
            PassError::Broken { pass, what } => write!(f, "internal error in pass `{pass}`: {what}"),
        }
    }
}

impl std::error::Error for PassError {}

impl From<&PassError> for Diagnostic {
    fn from(e: &PassError) -> Self {
        let help = "this is a bug in edgec: please report it with the model";
        let d = match e {
            PassError::Verify { pass, violations } => {
                let d = Diagnostic::error(Code::Internal, format!("internal error in pass `{pass}`"));
                violations.iter().fold(d, |d, v| d.with_note(v.clone()))
            }
            PassError::NoFixpoint { .. } | PassError::Broken { .. } => {
                Diagnostic::error(Code::Internal, e.to_string())
            }
        };
        d.with_help(help)
    }
}

impl From<PassError> for Diagnostic {
    fn from(e: PassError) -> Self {
        Diagnostic::from(&e)
    }
}
