//! Calls of functions of the user.

use super::Operand;
use crate::ir::DType;

/// Call of `path(&OP, reads…, writes…)`, with an empty slice for each absent operand. `OP` states the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Custom {
    /// Absolute path of the function: `crate::my_ops::squash`, `::my_crate::squash`.
    pub path: String,
    /// Name of the node.
    pub name: String,
    /// Domain of the operator set.
    pub domain: String,
    /// Operator type.
    pub op_type: String,
    /// Operands by position; `None` where absent.
    pub operands: Vec<Option<CustomTensor>>,
    /// Results by position.
    pub results: Vec<CustomTensor>,
    /// Attributes in the model's order.
    pub attributes: Vec<(String, CustomAttribute)>,
    /// Where the present operands lie, dense.
    pub reads: Vec<Operand>,
    /// Where the results lie, dense.
    pub writes: Vec<Operand>,
}

/// Type of an operand or result.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomTensor {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: Vec<usize>,
}

/// Value of an attribute.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the variants are their types
pub enum CustomAttribute {
    Int(i64),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
}
