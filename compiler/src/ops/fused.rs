//! What passes fold into the epilogue of a convolution or matrix product.

pub use edgec_runtime::spec::{Activation, Residual};

use super::{Fact, Inputs, OpError};
use crate::ir::DType;
use crate::kernel::expr::{BinaryFn, Expr, Scalar, UnaryFn};

/// `y = activation(acc·scale + bias + residual)`, or the residual behind the activation.
///
/// Operands: the operator's own, then position `own` the residual and `own + 1` the PRelu slopes
/// (one per channel), each present only where this asks for it. Only operators that compute in
/// `f32` (element types `f32`, `f16`, `bf16`) may carry more than the default.
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

impl Fused {
    /// Whether nothing is fused.
    pub fn is_none(&self) -> bool {
        *self == Fused::default()
    }

    /// The epilogue of one accumulator, in `f32`, each operation rounded.
    pub fn apply(&self, acc: f32, bias: f32, residual: f32, slope: f32) -> f32 {
        let scaled = match self.scale {
            Some(s) => acc * s,
            None => acc,
        };
        let sum = scaled + bias;
        match self.residual {
            Residual::None => activate(self.activation, sum, slope),
            Residual::Before => activate(self.activation, sum + residual, slope),
            Residual::After => activate(self.activation, sum, slope) + residual,
        }
    }

    /// The epilogue as an expression for loop nests, where no kernel serves. Without anything fused
    /// it is `acc + bias` in any type.
    pub(super) fn expr(
        &self,
        acc: Expr,
        bias: Option<Expr>,
        residual: Option<Expr>,
        slope: Option<Expr>,
    ) -> Expr {
        let binary = |f, a, b| Expr::Binary(f, Box::new(a), Box::new(b));
        let plus = |a, b: Option<Expr>| match b {
            Some(b) => binary(BinaryFn::Add, a, b),
            None => a,
        };
        let scaled = match self.scale {
            Some(s) => binary(BinaryFn::Mul, acc, Expr::Const(Scalar::F32(s))),
            None => acc,
        };
        let sum = plus(scaled, bias);
        match self.residual {
            Residual::None => activation_expr(self.activation, sum, slope),
            Residual::Before => activation_expr(self.activation, plus(sum, residual), slope),
            Residual::After => plus(activation_expr(self.activation, sum, slope), residual),
        }
    }

    /// Checks the operands at `own` and `own + 1` against what is fused, and that the element type
    /// admits it. `channels` is the number of slopes; `residual_fits` judges the residual's shape.
    pub(super) fn check(
        &self,
        inputs: &Inputs<'_>,
        own: usize,
        dtype: DType,
        channels: usize,
        residual_fits: impl Fn(&Fact<'_>) -> bool,
    ) -> Result<(), OpError> {
        if self.is_none() {
            return if inputs.get(own).is_none() && inputs.get(own + 1).is_none() {
                Ok(())
            } else {
                Err(OpError::invalid(format!("more than {own} operands")))
            };
        }
        if !matches!(dtype, DType::F32 | DType::F16 | DType::Bf16) {
            return Err(OpError::internal(format!("an epilogue was fused into an operator on {dtype}")));
        }
        let residual = inputs.get(own);
        match (self.residual, residual) {
            (Residual::None, None) => {}
            (Residual::Before | Residual::After, Some(r)) if r.dtype == dtype && residual_fits(&r) => {}
            _ => return Err(OpError::internal("the fused residual does not fit")),
        }
        match (self.activation, inputs.get(own + 1)) {
            (Activation::PRelu, Some(s)) if s.dtype == dtype && s.shape.elements() == channels => Ok(()),
            (Activation::PRelu, _) => Err(OpError::internal("the fused slopes do not fit")),
            (_, None) => Ok(()),
            (_, Some(_)) => Err(OpError::internal("slopes without PRelu")),
        }
    }
}

/// An activation as an expression over `f32`.
pub(super) fn activation_expr(activation: Activation, x: Expr, slope: Option<Expr>) -> Expr {
    let bound = |f, x, limit| Expr::Binary(f, Box::new(x), Box::new(Expr::Const(Scalar::F32(limit))));
    let f = match activation {
        Activation::None => return x,
        Activation::Clip { lo, hi } => return bound(BinaryFn::Min, bound(BinaryFn::Max, x, lo), hi),
        Activation::PRelu => {
            return match slope {
                Some(s) => Expr::Binary(BinaryFn::PRelu, Box::new(x), Box::new(s)),
                None => x,
            };
        }
        Activation::Relu => UnaryFn::Relu,
        Activation::LeakyRelu { alpha } => UnaryFn::LeakyRelu { alpha },
        Activation::HardSigmoid { alpha, beta } => UnaryFn::HardSigmoid { alpha, beta },
        Activation::HardSwish => UnaryFn::HardSwish,
        Activation::Sigmoid => UnaryFn::Sigmoid,
        Activation::Swish { alpha } => UnaryFn::Swish { alpha },
        Activation::Tanh => UnaryFn::Tanh,
        Activation::Gelu => UnaryFn::Gelu,
        Activation::GeluTanh => UnaryFn::GeluTanh,
        Activation::Elu { alpha } => UnaryFn::Elu { alpha },
        Activation::Softplus => UnaryFn::Softplus,
    };
    Expr::Unary(f, Box::new(x))
}

/// An activation in the reference's arithmetic: curves in `f64`, rounded once to `f32`.
pub fn activate(activation: Activation, x: f32, slope: f32) -> f32 {
    let wide = f64::from(x);
    // Comparisons are written so that NaN falls through unchanged.
    match activation {
        Activation::None => x,
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Activation::Clip { lo, hi } => {
            let low = if x < lo { lo } else { x };
            if low > hi { hi } else { low }
        }
        Activation::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha * x
            } else {
                x
            }
        }
        Activation::PRelu => {
            if x < 0.0 {
                slope * x
            } else {
                x
            }
        }
        Activation::HardSigmoid { alpha, beta } => {
            let y = alpha * x + beta;
            let low = if y < 0.0 { 0.0 } else { y };
            if low > 1.0 { 1.0 } else { low }
        }
        Activation::HardSwish => {
            let y = x / 6.0 + 0.5;
            let low = if y < 0.0 { 0.0 } else { y };
            x * if low > 1.0 { 1.0 } else { low }
        }
        Activation::Sigmoid => sigmoid(wide) as f32,
        Activation::Swish { alpha } => (wide * sigmoid(f64::from(alpha) * wide)) as f32,
        Activation::Tanh => libm::tanh(wide) as f32,
        Activation::Gelu => (0.5 * wide * (1.0 + libm::erf(wide * std::f64::consts::FRAC_1_SQRT_2))) as f32,
        Activation::GeluTanh => {
            // sqrt(2/pi) = 2/sqrt(pi) / sqrt(2)
            let c = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
            (0.5 * wide * (1.0 + libm::tanh(c * (wide + 0.044715 * wide * wide * wide)))) as f32
        }
        Activation::Elu { alpha } => {
            if x < 0.0 {
                (f64::from(alpha) * libm::expm1(wide)) as f32
            } else {
                x
            }
        }
        Activation::Softplus => {
            // ln(1 + e^x) without overflow.
            let positive = if wide > 0.0 { wide } else { 0.0 };
            if wide.is_nan() { x } else { (positive + libm::log1p(libm::exp(-libm::fabs(wide)))) as f32 }
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epilogue_order() {
        let fused = Fused { scale: Some(2.0), residual: Residual::Before, activation: Activation::Relu };
        assert_eq!(fused.apply(1.0, 0.5, -4.0, 0.0), 0.0);
        let after = Fused { residual: Residual::After, ..fused };
        assert_eq!(after.apply(1.0, 0.5, -4.0, 0.0), -1.5);
    }

    #[test]
    fn activations_at_known_points() {
        let at = |a, x| activate(a, x, 0.25);
        assert_eq!(at(Activation::Clip { lo: 0.0, hi: 6.0 }, 7.0), 6.0);
        assert_eq!(at(Activation::LeakyRelu { alpha: 0.5 }, -2.0), -1.0);
        assert_eq!(at(Activation::PRelu, -2.0), -0.5);
        assert_eq!(at(Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }, 10.0), 1.0);
        assert_eq!(at(Activation::HardSwish, 3.0), 3.0);
        assert_eq!(at(Activation::Sigmoid, 0.0), 0.5);
        assert_eq!(at(Activation::Swish { alpha: 1.0 }, 0.0), 0.0);
        assert_eq!(at(Activation::Softplus, 0.0), std::f32::consts::LN_2);
        assert_eq!(at(Activation::Softplus, 100.0), 100.0);
        assert!((at(Activation::Gelu, 1.0) - 0.841_344_8).abs() < 1e-6);
        assert!((at(Activation::GeluTanh, 1.0) - 0.841_192).abs() < 1e-6);
        assert!((at(Activation::Elu { alpha: 1.0 }, -1.0) + 0.632_120_56).abs() < 1e-6);
        for a in [
            Activation::Relu,
            Activation::Clip { lo: 0.0, hi: 1.0 },
            Activation::Softplus,
            Activation::HardSwish,
        ] {
            assert!(at(a, f32::NAN).is_nan());
        }
    }
}
