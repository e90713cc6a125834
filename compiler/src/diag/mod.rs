//! Diagnostics: what a user is told, with a code, the node, the reason and the way out.
//!
//! One [`Diagnostic`] per problem, all of a model at once in [`Diagnostics`]; rendered as text for
//! the terminal and `compile_error!`, and as JSON. Codes live in one table ([`Code`]), which
//! `edgec explain` and the book print.

mod code;
mod render;

pub use code::Code;

use crate::ir::Origin;
use crate::ops::OpError;
use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// Probably not what was meant.
    Warning,
    /// No output is written.
    Error,
}

/// A node as it is shown to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct NodeRef {
    /// Position in the file's node list.
    pub index: usize,
    /// Name, or that of its first output.
    pub name: String,
    /// Operator.
    pub op_type: String,
    /// Domain; empty for ONNX's own.
    pub domain: String,
    /// Opset version the model imports for the domain.
    pub opset: i64,
    /// Operands: name and, where known, type such as `f32[1, 64, 12, 12]`.
    pub inputs: Vec<(String, Option<String>)>,
}

impl From<&Origin> for NodeRef {
    fn from(o: &Origin) -> Self {
        NodeRef {
            index: o.index,
            name: o.name.clone(),
            op_type: o.op_type.clone(),
            domain: o.domain.clone(),
            opset: o.opset,
            inputs: Vec::new(),
        }
    }
}

/// One problem. Messages are lower case, without full stop, names in backticks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// From the table.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where in the model.
    pub node: Option<NodeRef>,
    /// Further facts.
    pub notes: Vec<String>,
    /// What the user can do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message)
    }

    /// A warning.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message)
    }

    /// A remark.
    pub fn note(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Note, message)
    }

    fn new(code: Code, severity: Severity, message: impl Into<String>) -> Self {
        Diagnostic { code, severity, message: message.into(), node: None, notes: Vec::new(), help: None }
    }

    /// An operator's error, placed at its node.
    pub fn from_op(error: &OpError, node: NodeRef) -> Self {
        let mut d = match error {
            OpError::Unsupported { what, help } => {
                let mut d = Self::error(Code::UnsupportedForm, what.clone());
                d.help = help.clone();
                d
            }
            OpError::Invalid(what) => Self::error(Code::InvalidNode, what.clone()),
            OpError::Limit(what) => Self::error(Code::Limit, what.clone()),
            OpError::NotConstant(what) => Self::error(
                Code::NotConstant,
                format!("`{what}` must be known at compile time, but is computed at run time"),
            )
            .with_help(format!(
                "give it as an initializer, or bind the graph input it comes from: `--bind {what}=VALUE`"
            )),
            OpError::Internal(what) => Self::error(Code::Internal, what.clone())
                .with_help("this is a bug in edgec: please report it with the model"),
        };
        d.node = Some(node);
        d
    }

    /// Adds the way out.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a fact.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Places it at a node.
    pub fn at(mut self, node: NodeRef) -> Self {
        self.node = Some(node);
        self
    }
}

/// All that is to be said about a model.
#[derive(Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Nothing to say.
    pub fn new() -> Self {
        Diagnostics(Vec::new())
    }

    /// One thing to say.
    pub fn one(d: Diagnostic) -> Self {
        Diagnostics(vec![d])
    }

    /// Adds one.
    pub fn push(&mut self, d: Diagnostic) {
        self.0.push(d);
    }

    /// Adds all of another.
    pub fn append(&mut self, mut other: Diagnostics) {
        self.0.append(&mut other.0);
    }

    /// Whether any forbids going on.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity == Severity::Error)
    }

    /// In order of finding.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(d: Diagnostic) -> Self {
        Diagnostics::one(d)
    }
}

impl std::error::Error for Diagnostics {}
