//! Operators of the user: a function that the generated code calls. Made by the frontend, which knows the types of
//! the results; there is no reference evaluation, so nothing of it is folded.

use super::{Inputs, Op, OpError, Type};
use crate::ir::{DType, Tensor};
pub use crate::kernel::CustomAttribute;
use crate::kernel::{Custom as Call, CustomTensor, Kernel};
use crate::schedule::LowerCx;

/// Operands and results that a layer of generated code can borrow at once.
const MOST_OPERANDS: usize = 16;
const MOST_RESULTS: usize = 8;

/// A node whose operator the user computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Custom {
    /// Domain and operator type.
    pub name: (String, String),
    /// Absolute path of the function.
    pub path: String,
    /// Attributes as the node states them.
    pub attributes: Vec<(String, CustomAttribute)>,
    /// Types of the results.
    pub results: Vec<Type>,
}

impl Op for Custom {
    fn name(&self) -> &'static str {
        "Custom"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let present = inputs.present().count();
        if present > MOST_OPERANDS || self.results.len() > MOST_RESULTS || self.results.is_empty() {
            return Err(OpError::unsupported(format!(
                "a custom operator with {present} operands and {} results; at most {MOST_OPERANDS} and \
                 {MOST_RESULTS} can be",
                self.results.len()
            )));
        }
        let texts = inputs.present().map(|f| f.dtype).chain(self.results.iter().map(|t| t.dtype));
        if texts.into_iter().any(|dtype| dtype == DType::String) {
            return Err(OpError::unsupported("texts as operands or results of a custom operator"));
        }
        Ok(self.results.clone())
    }

    fn eval(&self, _inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (domain, op_type) = &self.name;
        Err(OpError::unsupported(format!(
            "the reference evaluation of the custom operator `{domain}:{op_type}`; only generated code computes it"
        )))
    }

    fn folds(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let tensor = |dtype, shape: &[usize]| CustomTensor { dtype, shape: shape.to_vec() };
        let mut operands = Vec::new();
        let mut reads = Vec::new();
        for i in 0..cx.node().inputs.len() {
            operands.push(match cx.input_type(i) {
                Some((dtype, shape)) => {
                    let own = tensor(dtype, shape.dims());
                    reads.push(cx.read_dense(i)?.operand);
                    Some(own)
                }
                None => None,
            });
        }
        let mut writes = Vec::new();
        let mut results = Vec::new();
        for (i, ty) in self.results.iter().enumerate() {
            results.push(tensor(ty.dtype, ty.shape.dims()));
            // The function writes all its results, wanted or not.
            writes.push(match cx.output_type(i) {
                Some(_) => cx.write_dense(i)?.operand,
                None => cx.scratch("unused", ty.dtype, ty.shape.elements()),
            });
        }
        let (domain, op_type) = self.name.clone();
        let name = cx.node().origins.first().map(|o| o.name.clone()).unwrap_or_default();
        cx.push(Kernel::Custom(Call {
            path: self.path.clone(),
            name,
            domain,
            op_type,
            operands,
            results,
            attributes: self.attributes.clone(),
            reads,
            writes,
        }));
        Ok(())
    }
}
