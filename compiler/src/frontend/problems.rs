//! Collects everything that is wrong with a model.

use super::limits::{MAX_ERRORS, MAX_WARNINGS};
use crate::diag::{Code, Diagnostic, Diagnostics, NodeRef, Severity};
use crate::onnx::DataError;
use std::collections::BTreeMap;

/// Names of nodes shown for one unsupported operator.
const NAMES_SHOWN: usize = 5;

/// Nodes refused for the same reason.
#[derive(Clone)]
struct Group {
    diagnostic: Diagnostic,
    names: Vec<String>,
    count: usize,
}

/// What was found so far, in order of finding.
#[derive(Default, Clone)]
pub(super) struct Problems {
    list: Diagnostics,
    groups: Vec<Group>,
    by_reason: BTreeMap<String, usize>,
    errors: usize,
    warnings: usize,
}

impl Problems {
    /// Adds one; beyond the limits it is only counted.
    pub fn push(&mut self, d: Diagnostic) {
        let (count, most) = match d.severity {
            Severity::Error => (&mut self.errors, MAX_ERRORS),
            Severity::Warning => (&mut self.warnings, MAX_WARNINGS),
            Severity::Note => return self.list.push(d),
        };
        *count += 1;
        if *count <= most {
            self.list.push(d);
        }
    }

    /// Adds a node to those refused with this message; `d.node` is shown for the first of them.
    pub fn push_grouped(&mut self, d: Diagnostic) {
        self.errors += 1;
        let name = d.node.as_ref().map(|n| n.name.clone()).unwrap_or_default();
        let next = self.groups.len();
        let at = *self.by_reason.entry(d.message.clone()).or_insert(next);
        match self.groups.get_mut(at) {
            Some(group) => {
                group.count += 1;
                if group.names.len() < NAMES_SHOWN {
                    group.names.push(name);
                }
            }
            None => self.groups.push(Group { diagnostic: d, names: vec![name], count: 1 }),
        }
    }

    /// Errors so far.
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// Whether anything forbids going on.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether further errors are only counted.
    pub fn is_full(&self) -> bool {
        self.errors >= MAX_ERRORS
    }

    /// All of it; groups first, since they are what a user looks for.
    pub fn finish(self) -> Diagnostics {
        let mut out = Diagnostics::new();
        let left_out = self.groups.len().saturating_sub(MAX_ERRORS);
        let mut errors_shown = 0;
        for group in self.groups.into_iter().take(MAX_ERRORS) {
            errors_shown += group.count;
            let mut d = group.diagnostic;
            if group.count > 1 {
                let names: Vec<String> = group.names.iter().map(|n| format!("`{n}`")).collect();
                let more = if group.count > names.len() { ", …" } else { "" };
                d.notes.insert(0, format!("{} nodes: {}{more}", group.count, names.join(", ")));
            }
            out.push(d);
        }
        errors_shown += self.list.iter().filter(|d| d.severity == Severity::Error).count();
        out.append(self.list);
        if left_out > 0 || self.errors > errors_shown {
            let hidden = self.errors - errors_shown.min(self.errors);
            out.push(Diagnostic::error(Code::Limit, format!("{hidden} more errors are not shown")));
        }
        if self.warnings > MAX_WARNINGS {
            let hidden = self.warnings - MAX_WARNINGS;
            out.push(Diagnostic::warning(
                Code::ShapeMismatch,
                format!("{hidden} more warnings of this kind are not shown"),
            ));
        }
        out
    }
}

/// A tensor's error as a diagnostic; `what` names the tensor.
pub(super) fn data_problem(what: &str, error: &DataError, node: Option<NodeRef>) -> Diagnostic {
    let code = match error {
        DataError::Data(_) => Code::TensorData,
        DataError::External(_) => Code::ExternalData,
        DataError::Limit(_) => Code::Limit,
        DataError::Io(_) => Code::Io,
    };
    let mut d = Diagnostic::error(code, format!("{what}: {error}"));
    d.node = node;
    d
}
