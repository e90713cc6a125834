//! What can go wrong inside an operator. Carries no node: the caller adds it.

use crate::ir::TensorError;
use std::fmt;

/// Why an operator could not be imported, inferred, evaluated or lowered.
#[derive(Debug, Clone, PartialEq)]
pub enum OpError {
    /// Valid ONNX that edgec does not do; `help` says what the user can do about it.
    Unsupported {
        /// What, in lower case, without full stop.
        what: String,
        /// The nearest way out.
        help: Option<String>,
    },
    /// The model breaks the operator's definition.
    Invalid(String),
    /// A limit on sizes or counts was hit.
    Limit(String),
    /// An operand must be known at compile time but is not; the text names it (`axes`, `shape`).
    NotConstant(String),
    /// edgec contradicts itself: a bug in the compiler.
    Internal(String),
}

impl OpError {
    /// Valid ONNX that edgec does not do.
    pub fn unsupported(what: impl Into<String>) -> Self {
        OpError::Unsupported { what: what.into(), help: None }
    }

    /// Valid ONNX that edgec does not do, with the way out.
    pub fn unsupported_help(what: impl Into<String>, help: impl Into<String>) -> Self {
        OpError::Unsupported { what: what.into(), help: Some(help.into()) }
    }

    /// A broken model.
    pub fn invalid(what: impl Into<String>) -> Self {
        OpError::Invalid(what.into())
    }

    /// A compiler bug.
    pub fn internal(what: impl Into<String>) -> Self {
        OpError::Internal(what.into())
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpError::Unsupported { what, .. } => write!(f, "unsupported: {what}"),
            OpError::Invalid(what) | OpError::Limit(what) => f.write_str(what),
            OpError::NotConstant(what) => write!(f, "`{what}` must be known at compile time"),
            OpError::Internal(what) => write!(f, "internal error: {what}"),
        }
    }
}

impl std::error::Error for OpError {}

impl From<TensorError> for OpError {
    fn from(e: TensorError) -> Self {
        OpError::Invalid(e.to_string())
    }
}

impl From<crate::onnx::AttrError> for OpError {
    fn from(e: crate::onnx::AttrError) -> Self {
        OpError::Invalid(e.to_string())
    }
}
