//! What passes fold into the epilogue of a convolution or matrix product.

pub use edgec_runtime::spec::{Activation, Residual};

/// `y = activation(acc·scale + bias + residual)`, or the residual behind the activation.
///
/// Operands: the operator's own, then position `own` the residual and `own + 1` the PRelu slopes
/// (one per channel), each present only where this asks for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fused {
    /// Factor on the accumulator.
    pub scale: Option<f32>,
    /// Whether and where a residual is added.
    pub residual: Residual,
    /// Activation on the result.
    pub activation: Activation,
}

impl Default for Fused {
    fn default() -> Self {
        Fused { scale: None, residual: Residual::None, activation: Activation::None }
    }
}
