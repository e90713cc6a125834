//! What names stand for.

use crate::ir::ValueId;
use std::collections::HashMap;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// A value of the graph.
    Value(ValueId),
    /// Something whose computation was refused; what depends on it is skipped in silence.
    Unknown,
    /// An optional operand that a function was called without.
    Absent,
}

/// Names of one graph or function body, and those it sees around it. Only looked up, never iterated.
pub(super) struct Scope<'s> {
    names: HashMap<&'s str, Slot>,
    outer: Option<&'s Scope<'s>>,
}

impl<'s> Scope<'s> {
    /// A scope that sees nothing: the model's graph, a function's body.
    pub fn new() -> Self {
        Scope { names: HashMap::new(), outer: None }
    }

    /// The scope of a subgraph.
    pub fn inside(outer: &'s Scope<'s>) -> Self {
        Scope { names: HashMap::new(), outer: Some(outer) }
    }

    /// What `name` stands for, here or outside.
    pub fn lookup(&self, name: &str) -> Option<Slot> {
        let mut scope = Some(self);
        while let Some(s) = scope {
            if let Some(&slot) = s.names.get(name) {
                return Some(slot);
            }
            scope = s.outer;
        }
        None
    }

    /// Defines a name; `false` where this scope already has it (the first definition stays).
    pub fn define(&mut self, name: &'s str, slot: Slot) -> bool {
        if self.names.contains_key(name) {
            return false;
        }
        self.names.insert(name, slot);
        true
    }
}
