//! Functions of one value, element by element: [Relu](https://onnx.ai/onnx/operators/onnx__Relu.html),
//! [Sigmoid](https://onnx.ai/onnx/operators/onnx__Sigmoid.html) and their kind, one struct for all.

use super::cast::RoundMode;
use super::length::{Axes, elements};
use super::typed::{
    bools, cast, expect, expect_loop_type, floats, from_bools, from_floats, from_ints, ints,
    is_arithmetic_float, is_arithmetic_int, is_number,
};
use super::walk::operand;
use super::{Inputs, LayoutRule, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Element, Tensor};
use crate::kernel::expr::{Expr, UnaryFn};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// An elementwise function of one operand.
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// Which, with its attributes.
    pub function: UnaryFn,
}

impl OnnxOp for Unary {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("Abs", 1),
        OnnxName::onnx("Neg", 1),
        OnnxName::onnx("Sign", 9),
        OnnxName::onnx("Exp", 1),
        OnnxName::onnx("Log", 1),
        OnnxName::onnx("Sqrt", 1),
        OnnxName::onnx("Reciprocal", 1),
        OnnxName::onnx("Floor", 1),
        OnnxName::onnx("Ceil", 1),
        OnnxName::onnx("Round", 11),
        OnnxName::onnx("Erf", 9),
        OnnxName::onnx("Sigmoid", 1),
        OnnxName::onnx("Tanh", 1),
        OnnxName::onnx("Sin", 7),
        OnnxName::onnx("Cos", 7),
        OnnxName::onnx("Tan", 7),
        OnnxName::onnx("Asin", 7),
        OnnxName::onnx("Acos", 7),
        OnnxName::onnx("Atan", 7),
        OnnxName::onnx("Sinh", 9),
        OnnxName::onnx("Cosh", 9),
        OnnxName::onnx("Asinh", 9),
        OnnxName::onnx("Acosh", 9),
        OnnxName::onnx("Atanh", 9),
        OnnxName::onnx("Softplus", 1),
        OnnxName::onnx("Softsign", 1),
        OnnxName::onnx("Relu", 1),
        OnnxName::onnx("HardSwish", 14),
        OnnxName::onnx("Mish", 18),
        OnnxName::onnx("Gelu", 20),
        OnnxName::onnx("Not", 1),
        OnnxName::onnx("BitwiseNot", 18),
        OnnxName::onnx("IsNaN", 9),
        OnnxName::onnx("IsInf", 10),
        OnnxName::onnx("LeakyRelu", 1),
        OnnxName::onnx("Elu", 1),
        OnnxName::onnx("Celu", 12),
        OnnxName::onnx("Selu", 1),
        OnnxName::onnx("HardSigmoid", 1),
        OnnxName::onnx("ThresholdedRelu", 10),
        OnnxName::onnx("Swish", 24),
        OnnxName::onnx("Shrink", 9),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        use UnaryFn::*;
        let function = match node.op_type {
            "Abs" => Abs,
            "Neg" => Neg,
            "Sign" => Sign,
            "Exp" => Exp,
            "Log" => Log,
            "Sqrt" => Sqrt,
            "Reciprocal" => Reciprocal,
            "Floor" => Floor,
            "Ceil" => Ceil,
            "Round" => Round,
            "Erf" => Erf,
            "Sigmoid" => Sigmoid,
            "Tanh" => Tanh,
            "Sin" => Sin,
            "Cos" => Cos,
            "Tan" => Tan,
            "Asin" => Asin,
            "Acos" => Acos,
            "Atan" => Atan,
            "Sinh" => Sinh,
            "Cosh" => Cosh,
            "Asinh" => Asinh,
            "Acosh" => Acosh,
            "Atanh" => Atanh,
            "Softplus" => Softplus,
            "Softsign" => Softsign,
            "Relu" => Relu,
            "HardSwish" => HardSwish,
            "Mish" => Mish,
            "Gelu" => match attrs.text("approximate")? {
                None | Some("none") => Gelu,
                Some("tanh") => GeluTanh,
                Some(other) => return Err(OpError::invalid(format!("attribute `approximate` is `{other}`"))),
            },
            "Not" => Not,
            "BitwiseNot" => BitwiseNot,
            "IsNaN" => IsNaN,
            "IsInf" => IsInf {
                positive: attrs.int_or("detect_positive", 1)? != 0,
                negative: attrs.int_or("detect_negative", 1)? != 0,
            },
            "LeakyRelu" => LeakyRelu { alpha: attrs.float_or("alpha", 0.01)? },
            "Elu" => Elu { alpha: attrs.float_or("alpha", 1.0)? },
            "Celu" => Celu { alpha: attrs.float_or("alpha", 1.0)? },
            // The first definition had fewer digits.
            "Selu" if node.opset < 6 => {
                Selu { alpha: attrs.float_or("alpha", 1.6732)?, gamma: attrs.float_or("gamma", 1.0507)? }
            }
            "Selu" => Selu {
                alpha: attrs.float_or("alpha", 1.673_263_2)?,
                gamma: attrs.float_or("gamma", 1.050_701)?,
            },
            "HardSigmoid" => {
                HardSigmoid { alpha: attrs.float_or("alpha", 0.2)?, beta: attrs.float_or("beta", 0.5)? }
            }
            "ThresholdedRelu" => ThresholdedRelu { alpha: attrs.float_or("alpha", 1.0)? },
            "Swish" => Swish { alpha: attrs.float_or("alpha", 1.0)? },
            "Shrink" => Shrink { lambd: attrs.float_or("lambd", 0.5)?, bias: attrs.float_or("bias", 0.0)? },
            other => return Err(OpError::internal(format!("`{other}` is not a unary function"))),
        };
        Ok(Unary { function }.into())
    }
}

impl Op for Unary {
    fn name(&self) -> &'static str {
        use UnaryFn::*;
        match self.function {
            Abs => "Abs",
            Neg => "Neg",
            Sign => "Sign",
            Exp => "Exp",
            Log => "Log",
            Sqrt => "Sqrt",
            Reciprocal => "Reciprocal",
            Floor => "Floor",
            Ceil => "Ceil",
            Round => "Round",
            Erf => "Erf",
            Sigmoid => "Sigmoid",
            Tanh => "Tanh",
            Sin => "Sin",
            Cos => "Cos",
            Tan => "Tan",
            Asin => "Asin",
            Acos => "Acos",
            Atan => "Atan",
            Sinh => "Sinh",
            Cosh => "Cosh",
            Asinh => "Asinh",
            Acosh => "Acosh",
            Atanh => "Atanh",
            Softplus => "Softplus",
            Softsign => "Softsign",
            Relu => "Relu",
            HardSwish => "HardSwish",
            Mish => "Mish",
            Gelu | GeluTanh => "Gelu",
            Not => "Not",
            BitwiseNot => "BitwiseNot",
            IsNaN => "IsNaN",
            IsInf { .. } => "IsInf",
            LeakyRelu { .. } => "LeakyRelu",
            Elu { .. } => "Elu",
            Celu { .. } => "Celu",
            Selu { .. } => "Selu",
            HardSigmoid { .. } => "HardSigmoid",
            ThresholdedRelu { .. } => "ThresholdedRelu",
            Swish { .. } => "Swish",
            Shrink { .. } => "Shrink",
            PowerOfTwo { .. } => "PowerOfTwo",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        let d = x.dtype;
        expect(
            match self.function {
                UnaryFn::Not => d == DType::Bool,
                UnaryFn::BitwiseNot => is_arithmetic_int(d),
                UnaryFn::Abs | UnaryFn::Sign | UnaryFn::Shrink { .. } => is_number(d),
                UnaryFn::Neg | UnaryFn::Relu => is_arithmetic_float(d) || d.is_signed_int() && is_number(d),
                _ => is_arithmetic_float(d),
            },
            d,
        )?;
        Ok(vec![Type::new(self.result(d), x.shape.clone())])
    }

    fn lengths(&self, _inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        elements(along)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let (dtype, shape, f) = (x.dtype(), x.shape().clone(), self.function);
        let y = match f {
            UnaryFn::Not => from_bools(shape, bools(x)?.iter().map(|b| !b))?,
            UnaryFn::IsNaN => from_bools(shape, floats(x)?.into_iter().map(f64::is_nan))?,
            UnaryFn::IsInf { positive, negative } => from_bools(
                shape,
                floats(x)?
                    .into_iter()
                    .map(|v| v == f64::INFINITY && positive || v == f64::NEG_INFINITY && negative),
            )?,
            UnaryFn::Shrink { .. } => {
                from_floats(dtype, shape, floats(x)?.into_iter().map(|v| of_float(f, v)))?
            }
            _ if dtype.is_int() => {
                let values = ints(x)?.into_iter().map(|v| of_int(f, v)).collect::<Option<Vec<_>>>();
                let values =
                    values.ok_or_else(|| OpError::internal(format!("{} of integers", self.name())))?;
                from_ints(dtype, shape, values)?
            }
            _ => from_floats(dtype, shape, floats(x)?.into_iter().map(|v| of_float(f, v)))?,
        };
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read(0)?;
        expect_loop_type(x.dtype)?;
        let value = self
            .expr(&[x.dtype], vec![Expr::Read(0)])
            .ok_or_else(|| OpError::internal("a function of one operand"))?;
        let y = cx.write(0)?;
        cx.elementwise(&y, &[x], value)
    }
}

impl Unary {
    /// The function applied to an expression; `dtypes` are the operands' element types.
    pub fn expr(&self, dtypes: &[DType], args: Vec<Expr>) -> Option<Expr> {
        let dtype = *dtypes.first()?;
        let x = args.into_iter().next()?;
        let apply = |x| Expr::Unary(self.function, Box::new(x));
        if matches!(self.function, UnaryFn::Shrink { .. }) && dtype.is_int() {
            return Some(cast(DType::F64, dtype, apply(cast(dtype, DType::F64, x))));
        }
        Some(apply(x))
    }

    fn result(&self, dtype: DType) -> DType {
        match self.function {
            UnaryFn::IsNaN | UnaryFn::IsInf { .. } => DType::Bool,
            _ => dtype,
        }
    }
}

/// Functions that integers have, in arithmetic wide enough not to wrap.
pub(super) fn of_int(f: UnaryFn, x: i128) -> Option<i128> {
    match f {
        UnaryFn::Abs => Some(x.abs()),
        UnaryFn::Neg => Some(-x),
        UnaryFn::Sign => Some(x.signum()),
        UnaryFn::Relu => Some(x.max(0)),
        UnaryFn::BitwiseNot => Some(!x),
        _ => None,
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// ln(1 + e^x) without overflow.
fn softplus(x: f64) -> f64 {
    if x > 0.0 { x + libm::log1p(libm::exp(-x)) } else { libm::log1p(libm::exp(x)) }
}

/// Into `0..=1`; NaN stays.
fn unit(x: f64) -> f64 {
    x.clamp(0.0, 1.0)
}

/// The function in `f64`, by libm's pure-Rust code on every host.
pub(super) fn of_float(f: UnaryFn, x: f64) -> f64 {
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
    match f {
        UnaryFn::Abs => libm::fabs(x),
        UnaryFn::Neg => -x,
        UnaryFn::Sign if x > 0.0 => 1.0,
        UnaryFn::Sign if x < 0.0 => -1.0,
        UnaryFn::Sign => x,
        UnaryFn::Exp => libm::exp(x),
        UnaryFn::Log => libm::log(x),
        UnaryFn::Sqrt => libm::sqrt(x),
        UnaryFn::Reciprocal => 1.0 / x,
        UnaryFn::Floor => libm::floor(x),
        UnaryFn::Ceil => libm::ceil(x),
        UnaryFn::Round => libm::rint(x),
        UnaryFn::Erf => libm::erf(x),
        UnaryFn::Sigmoid => sigmoid(x),
        UnaryFn::Tanh => libm::tanh(x),
        UnaryFn::Sin => libm::sin(x),
        UnaryFn::Cos => libm::cos(x),
        UnaryFn::Tan => libm::tan(x),
        UnaryFn::Asin => libm::asin(x),
        UnaryFn::Acos => libm::acos(x),
        UnaryFn::Atan => libm::atan(x),
        UnaryFn::Sinh => libm::sinh(x),
        UnaryFn::Cosh => libm::cosh(x),
        UnaryFn::Asinh => libm::asinh(x),
        UnaryFn::Acosh => libm::acosh(x),
        UnaryFn::Atanh => libm::atanh(x),
        UnaryFn::Softplus => softplus(x),
        UnaryFn::Softsign => x / (1.0 + libm::fabs(x)),
        UnaryFn::Relu if x < 0.0 => 0.0,
        UnaryFn::Relu => x,
        UnaryFn::HardSwish => x * unit(x / 6.0 + 0.5),
        UnaryFn::Mish => x * libm::tanh(softplus(x)),
        UnaryFn::Gelu => 0.5 * x * (1.0 + libm::erf(x * FRAC_1_SQRT_2)),
        // sqrt(2/pi) = 2/sqrt(pi) / sqrt(2)
        UnaryFn::GeluTanh => {
            0.5 * x * (1.0 + libm::tanh(FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (x + 0.044715 * x * x * x)))
        }
        UnaryFn::LeakyRelu { alpha } if x < 0.0 => f64::from(alpha) * x,
        UnaryFn::LeakyRelu { .. } => x,
        UnaryFn::Elu { alpha } if x < 0.0 => f64::from(alpha) * libm::expm1(x),
        UnaryFn::Elu { .. } => x,
        UnaryFn::Celu { alpha } if x < 0.0 => f64::from(alpha) * libm::expm1(x / f64::from(alpha)),
        UnaryFn::Celu { .. } => x,
        UnaryFn::Selu { alpha, gamma } if x < 0.0 => f64::from(gamma) * f64::from(alpha) * libm::expm1(x),
        UnaryFn::Selu { gamma, .. } => f64::from(gamma) * x,
        UnaryFn::HardSigmoid { alpha, beta } => unit(f64::from(alpha) * x + f64::from(beta)),
        UnaryFn::ThresholdedRelu { alpha } if x > f64::from(alpha) => x,
        UnaryFn::ThresholdedRelu { .. } => 0.0,
        UnaryFn::Swish { alpha } => x * sigmoid(f64::from(alpha) * x),
        UnaryFn::Shrink { lambd, bias } if x < -f64::from(lambd) => x + f64::from(bias),
        UnaryFn::Shrink { lambd, bias } if x > f64::from(lambd) => x - f64::from(bias),
        UnaryFn::Shrink { .. } => 0.0,
        UnaryFn::PowerOfTwo { nearest } => {
            let mode = if nearest { RoundMode::Nearest } else { RoundMode::Down };
            super::cast::power_of_two(x, mode).to_f64()
        }
        // Not functions of numbers; `eval` handles them.
        UnaryFn::Not | UnaryFn::BitwiseNot | UnaryFn::IsNaN | UnaryFn::IsInf { .. } => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, import};
    use super::*;
    use crate::ir::f16;
    use crate::onnx::Attr;

    fn float(op: &str, opset: i64, attrs: &[(&str, Attr)], x: f32) -> f32 {
        apply(op, opset, attrs, &[&f32s(&[1], &[x])]).unwrap().as_slice::<f32>().unwrap()[0]
    }

    #[test]
    fn every_listed_name_imports_under_that_name() {
        for name in Unary::NAMES {
            assert_eq!(import(name.op_type, 24, &[], 1, 1).unwrap().as_op().name(), name.op_type);
        }
    }

    #[test]
    fn functions_at_known_points() {
        // Hand-derived or from the ONNX operator pages.
        for (op, x, y) in [
            ("Relu", -1.5, 0.0),
            ("Sigmoid", 0.0, 0.5),
            ("Exp", 1.0, std::f32::consts::E),
            ("Round", 2.5, 2.0),
            ("Round", -1.5, -2.0),
            ("Reciprocal", 4.0, 0.25),
            ("Erf", 1.0, 0.842_700_8),
            ("Softsign", -1.0, -0.5),
            ("Softplus", 100.0, 100.0),
            ("HardSwish", 1.0, 4.0 / 6.0),
            ("Gelu", 1.0, 0.841_344_8),
            ("Mish", 1.0, 0.865_098_4),
            ("LeakyRelu", -2.0, -0.02),
            ("Elu", -1.0, -0.632_120_55),
            ("HardSigmoid", 1.0, 0.7),
            ("ThresholdedRelu", 1.0, 0.0),
            ("Sign", -3.0, -1.0),
            ("Atanh", 0.5, 0.549_306_15),
        ] {
            let found = float(op, 22, &[], x);
            assert!((found - y).abs() <= 1e-6 * y.abs(), "{op}({x}) = {found}, expected {y}");
        }
        assert_eq!(float("Selu", 6, &[("alpha", Attr::Float(2.0)), ("gamma", Attr::Float(3.0))], 1.0), 3.0);
        assert_eq!(float("Shrink", 9, &[("lambd", Attr::Float(1.5)), ("bias", Attr::Float(1.5))], 2.0), 0.5);
        assert!(
            (float("Gelu", 20, &[("approximate", Attr::String(b"tanh".to_vec()))], 1.0) - 0.841_192).abs()
                < 1e-6
        );
    }

    #[test]
    fn nan_and_infinity() {
        assert!(float("Relu", 14, &[], f32::NAN).is_nan());
        assert!(float("HardSigmoid", 14, &[], f32::NAN).is_nan());
        let x = f32s(&[3], &[f32::NEG_INFINITY, 1.0, f32::INFINITY]);
        let only_positive = [("detect_negative", Attr::Int(0))];
        assert_eq!(apply("IsInf", 10, &only_positive, &[&x]).unwrap(), Tensor::vector(&[false, false, true]));
    }

    #[test]
    fn integers_wrap_and_half_rounds() {
        assert_eq!(
            apply("Abs", 13, &[], &[&Tensor::vector(&[i8::MIN, -3])]).unwrap(),
            Tensor::vector(&[i8::MIN, 3])
        );
        assert_eq!(
            apply("BitwiseNot", 18, &[], &[&Tensor::vector(&[5u8])]).unwrap(),
            Tensor::vector(&[250u8])
        );
        let x = Tensor::vector(&[f16::from_f32(0.1)]);
        let expected = f16::from_f32(1.0 / f16::from_f32(0.1).to_f32());
        assert_eq!(apply("Reciprocal", 13, &[], &[&x]).unwrap(), Tensor::vector(&[expected]));
    }

    #[test]
    fn what_is_refused() {
        assert!(apply("Exp", 13, &[], &[&Tensor::vector(&[1i32])]).is_err());
        assert!(apply("Not", 1, &[], &[&f32s(&[1], &[1.0])]).is_err());
        assert!(import("Relu", 14, &[("alpha", Attr::Float(1.0))], 1, 1).is_err());
        assert!(import("Gelu", 20, &[("approximate", Attr::String(b"erf".to_vec()))], 1, 1).is_err());
    }
}
