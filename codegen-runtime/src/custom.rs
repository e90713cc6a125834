//! What a custom operator's function is told of the node that it computes.
//!
//! The function is `fn name(op: &CustomOp, x0: &[T0], x1: &[T1], …, y0: &mut [U0], …)`: one slice for each operand
//! of the node, then one for each result, row-major and dense, in the element types of the model (`f16` is
//! [`F16`](crate::F16), `bool` is [`Bool`](crate::Bool)). An absent operand is an empty slice. It writes every element
//! of every result: what they hold before is undefined, though never invalid.

/// A node of a custom operator, known at compile time.
#[derive(Debug, Clone, Copy)]
pub struct CustomOp {
    /// The node's name in the model.
    pub name: &'static str,
    /// Domain of its operator set.
    pub domain: &'static str,
    /// Operator type.
    pub op_type: &'static str,
    /// Operands; `None` where the node leaves one out.
    pub inputs: &'static [Option<CustomTensor>],
    /// Results, those that nobody reads included.
    pub outputs: &'static [CustomTensor],
    /// Attributes as the model states them, in its order.
    pub attributes: &'static [(&'static str, Attribute)],
}

/// Type of an operand or result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CustomTensor {
    /// Element type: `f32`, `i64`, `bool`, …
    pub dtype: &'static str,
    /// Extents, outermost first.
    pub shape: &'static [usize],
}

/// Value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f32),
    /// Text.
    Text(&'static str),
    /// A list of integers.
    Ints(&'static [i64]),
    /// A list of floats.
    Floats(&'static [f32]),
    /// A list of texts.
    Texts(&'static [&'static str]),
}

impl CustomOp {
    /// Extents of operand `i`; none where it is absent.
    pub fn input_shape(&self, i: usize) -> &'static [usize] {
        match self.inputs.get(i) {
            Some(Some(tensor)) => tensor.shape,
            _ => &[],
        }
    }

    /// Extents of result `i`.
    pub fn output_shape(&self, i: usize) -> &'static [usize] {
        self.outputs.get(i).map_or(&[], |tensor| tensor.shape)
    }

    /// The attribute of that name; `None` where the model does not state it.
    pub fn attribute(&self, name: &str) -> Option<Attribute> {
        self.attributes.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name) {
            Some(Attribute::Int(v)) => Some(v),
            _ => None,
        }
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attribute(name) {
            Some(Attribute::Float(v)) => Some(v),
            _ => None,
        }
    }

    /// A text attribute.
    pub fn text(&self, name: &str) -> Option<&'static str> {
        match self.attribute(name) {
            Some(Attribute::Text(v)) => Some(v),
            _ => None,
        }
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Option<&'static [i64]> {
        match self.attribute(name) {
            Some(Attribute::Ints(v)) => Some(v),
            _ => None,
        }
    }

    /// A list of floats.
    pub fn floats(&self, name: &str) -> Option<&'static [f32]> {
        match self.attribute(name) {
            Some(Attribute::Floats(v)) => Some(v),
            _ => None,
        }
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> Option<&'static [&'static str]> {
        match self.attribute(name) {
            Some(Attribute::Texts(v)) => Some(v),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_go_by_name_and_kind() {
        const OP: CustomOp = CustomOp {
            name: "n",
            domain: "d",
            op_type: "T",
            inputs: &[Some(CustomTensor { dtype: "f32", shape: &[2, 3] }), None],
            outputs: &[CustomTensor { dtype: "f32", shape: &[6] }],
            attributes: &[("alpha", Attribute::Float(0.5)), ("axes", Attribute::Ints(&[1, 2]))],
        };
        assert_eq!((OP.float("alpha"), OP.int("alpha"), OP.float("beta")), (Some(0.5), None, None));
        assert_eq!(OP.ints("axes"), Some(&[1, 2][..]));
        assert_eq!(
            (OP.input_shape(0), OP.input_shape(1), OP.output_shape(0)),
            (&[2, 3][..], &[][..], &[6][..])
        );
    }
}
