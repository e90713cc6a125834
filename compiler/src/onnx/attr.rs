//! Strict reading of attributes: one that nobody read is an error.

use crate::ir::Tensor;
use std::fmt;

/// A decoded attribute.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // ONNX's attribute types
pub enum Attr {
    Int(i64),
    Float(f32),
    String(Vec<u8>),
    Tensor(Tensor),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<Vec<u8>>),
    Tensors(Vec<Tensor>),
    /// A subgraph, by its index in the frontend's table of subgraphs of this node.
    Graph(usize),
    Graphs(Vec<usize>),
}

impl Attr {
    fn kind(&self) -> &'static str {
        match self {
            Attr::Int(_) => "an integer",
            Attr::Float(_) => "a float",
            Attr::String(_) => "a string",
            Attr::Tensor(_) => "a tensor",
            Attr::Ints(_) => "a list of integers",
            Attr::Floats(_) => "a list of floats",
            Attr::Strings(_) => "a list of strings",
            Attr::Tensors(_) => "a list of tensors",
            Attr::Graph(_) => "a graph",
            Attr::Graphs(_) => "a list of graphs",
        }
    }
}

/// Why an attribute could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttrError {
    /// Another type than the operator's definition says.
    Kind {
        /// Attribute.
        name: String,
        /// What the operator wants.
        expected: &'static str,
        /// What the file holds.
        found: &'static str,
    },
    /// Not there.
    Missing(String),
    /// Not UTF-8.
    NotText(String),
}

impl fmt::Display for AttrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttrError::Kind { name, expected, found } => {
                write!(f, "attribute `{name}` is {found}, expected {expected}")
            }
            AttrError::Missing(name) => write!(f, "attribute `{name}` is missing"),
            AttrError::NotText(name) => write!(f, "attribute `{name}` is not UTF-8 text"),
        }
    }
}

impl std::error::Error for AttrError {}

/// The attributes of one node; reading one ticks it off.
#[derive(Debug)]
pub struct AttrReader<'a> {
    attrs: &'a [(String, Attr)],
    read: Vec<bool>,
}

impl<'a> AttrReader<'a> {
    /// A reader over decoded attributes.
    pub fn new(attrs: &'a [(String, Attr)]) -> Self {
        AttrReader { attrs, read: vec![false; attrs.len()] }
    }

    fn take(&mut self, name: &str) -> Option<&'a Attr> {
        let i = self.attrs.iter().position(|(n, _)| n == name)?;
        if let Some(read) = self.read.get_mut(i) {
            *read = true;
        }
        self.attrs.get(i).map(|(_, a)| a)
    }

    /// Whether the attribute is there; does not tick it off.
    pub fn has(&self, name: &str) -> bool {
        self.attrs.iter().any(|(n, _)| n == name)
    }

    /// Ticks off an attribute that says nothing to a compiler (documentation, hints).
    pub fn ignore(&mut self, name: &str) {
        self.take(name);
    }

    /// Whether the attribute is there, of whatever kind; it then counts as read.
    pub fn is_given(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    /// Names that nobody read.
    pub fn unread(&self) -> Vec<&'a str> {
        self.attrs.iter().zip(&self.read).filter(|(_, read)| !**read).map(|((n, _), _)| n.as_str()).collect()
    }

    /// An integer.
    pub fn int(&mut self, name: &str) -> Result<Option<i64>, AttrError> {
        match self.take(name) {
            None => Ok(None),
            Some(Attr::Int(v)) => Ok(Some(*v)),
            Some(other) => Err(kind(name, "an integer", other)),
        }
    }

    /// An integer with a default.
    pub fn int_or(&mut self, name: &str, default: i64) -> Result<i64, AttrError> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// A float.
    pub fn float(&mut self, name: &str) -> Result<Option<f32>, AttrError> {
        match self.take(name) {
            None => Ok(None),
            Some(Attr::Float(v)) => Ok(Some(*v)),
            Some(other) => Err(kind(name, "a float", other)),
        }
    }

    /// A float with a default.
    pub fn float_or(&mut self, name: &str, default: f32) -> Result<f32, AttrError> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// Text.
    pub fn text(&mut self, name: &str) -> Result<Option<&'a str>, AttrError> {
        match self.take(name) {
            None => Ok(None),
            Some(Attr::String(v)) => {
                std::str::from_utf8(v).map(Some).map_err(|_| AttrError::NotText(name.to_owned()))
            }
            Some(other) => Err(kind(name, "a string", other)),
        }
    }

    /// A list of integers. An empty list has no type in the file, so any empty list is one.
    pub fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, AttrError> {
        match self.take(name) {
            None => Ok(None),
            Some(Attr::Ints(v)) => Ok(Some(v.clone())),
            Some(Attr::Floats(v)) if v.is_empty() => Ok(Some(Vec::new())),
            Some(Attr::Strings(v)) if v.is_empty() => Ok(Some(Vec::new())),
            Some(other) => Err(kind(name, "a list of integers", other)),
        }
    }

    /// A list of floats.
    pub fn floats(&mut self, name: &str) -> Result<Option<Vec<f32>>, AttrError> {
        match self.take(name) {
            None => Ok(None),
            Some(Attr::Floats(v)) => Ok(Some(v.clone())),
            Some(Attr::Ints(v)) if v.is_empty() => Ok(Some(Vec::new())),
            Some(other) => Err(kind(name, "a list of floats", other)),
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<&'a str>>, AttrError> {
        match self.take(name) {
            None => Ok(None),
            Some(Attr::Strings(v)) => v
                .iter()
                .map(|s| std::str::from_utf8(s).map_err(|_| AttrError::NotText(name.to_owned())))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(Attr::Ints(v)) if v.is_empty() => Ok(Some(Vec::new())),
            Some(other) => Err(kind(name, "a list of strings", other)),
        }
    }

    /// A tensor.
    pub fn tensor(&mut self, name: &str) -> Result<Option<&'a Tensor>, AttrError> {
        match self.take(name) {
            None => Ok(None),
            Some(Attr::Tensor(v)) => Ok(Some(v)),
            Some(other) => Err(kind(name, "a tensor", other)),
        }
    }

    /// An attribute that must be there.
    pub fn required<T>(name: &str, value: Option<T>) -> Result<T, AttrError> {
        value.ok_or_else(|| AttrError::Missing(name.to_owned()))
    }
}

fn kind(name: &str, expected: &'static str, found: &Attr) -> AttrError {
    AttrError::Kind { name: name.to_owned(), expected, found: found.kind() }
}

/// What an importer may know of its node besides attributes.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    /// Operator type.
    pub op_type: &'a str,
    /// Domain; empty for ONNX's own.
    pub domain: &'a str,
    /// Version of the operator set that the model imports.
    pub opset: i64,
    /// Presence of each operand.
    pub inputs: &'a [bool],
    /// Presence of each result.
    pub outputs: &'a [bool],
}
