//! What is known of operands while shapes are inferred.

use super::OpError;
use crate::ir::{DType, Shape, Tensor};

/// Element type and shape of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: Shape,
}

impl Type {
    /// A type.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Type { dtype, shape: shape.into() }
    }
}

/// What is known of one operand.
#[derive(Debug, Clone, Copy)]
pub struct Fact<'a> {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: &'a Shape,
    /// The value, where known.
    pub constant: Option<&'a Tensor>,
}

/// Facts of all operands, absent ones included.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    facts: &'a [Option<Fact<'a>>],
    outputs: usize,
    texts: &'a [Option<&'a [String]>],
}

impl<'a> Inputs<'a> {
    /// Facts by position, and how many results the node has.
    pub fn new(facts: &'a [Option<Fact<'a>>], outputs: usize) -> Self {
        Inputs { facts, outputs, texts: &[] }
    }

    /// With the tables of those operands whose elements are positions of texts.
    pub fn with_texts(self, texts: &'a [Option<&'a [String]>]) -> Self {
        Inputs { texts, ..self }
    }

    /// The texts that operand `i`'s elements are positions of; a position outside stands for a text that is not there.
    pub fn texts(&self, i: usize) -> Option<&'a [String]> {
        self.texts.get(i).copied().flatten()
    }

    /// Number of operand positions.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Number of results the node declares (trailing optional ones may be absent).
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Operand `i`, absent allowed.
    pub fn get(&self, i: usize) -> Option<Fact<'a>> {
        self.facts.get(i).copied().flatten()
    }

    /// Operand `i`, which must be there.
    pub fn required(&self, i: usize) -> Result<Fact<'a>, OpError> {
        self.get(i).ok_or_else(|| OpError::invalid(format!("operand {i} is missing")))
    }

    /// All present operands.
    pub fn present(&self) -> impl Iterator<Item = Fact<'a>> {
        self.facts.iter().copied().flatten()
    }

    /// Integers of operand `i`, known at compile time; `Ok(None)` where absent.
    pub fn known_ints(&self, i: usize, what: &str) -> Result<Option<Vec<i64>>, OpError> {
        let Some(fact) = self.get(i) else { return Ok(None) };
        let tensor = fact.constant.ok_or_else(|| OpError::NotConstant(what.to_owned()))?;
        tensor
            .to_i64_vec()
            .map(Some)
            .ok_or_else(|| OpError::invalid(format!("`{what}` is {}, not an integer tensor", fact.dtype)))
    }

    /// Numbers of operand `i`, known at compile time; `Ok(None)` where absent.
    pub fn known_floats(&self, i: usize, what: &str) -> Result<Option<Vec<f64>>, OpError> {
        let Some(fact) = self.get(i) else { return Ok(None) };
        let tensor = fact.constant.ok_or_else(|| OpError::NotConstant(what.to_owned()))?;
        tensor
            .to_f64_vec()
            .map(Some)
            .ok_or_else(|| OpError::invalid(format!("`{what}` is {}, not numbers", fact.dtype)))
    }
}

/// Whether texts are operand 0 and no other.
pub(super) fn only_first(operands: &[Option<&[String]>]) -> bool {
    operands.iter().enumerate().all(|(i, texts)| texts.is_some() == (i == 0))
}
