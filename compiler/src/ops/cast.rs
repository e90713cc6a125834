//! [Cast](https://onnx.ai/onnx/operators/onnx__Cast.html) and CastLike: conversion by value.
//!
//! Floats to integers truncate and saturate (NaN gives 0) but wrap to 4 and 2 bits, as the
//! reference does; integers to narrower ones wrap, anything but zero is true. Strings are converted at compile time only.

use super::length::{Axes, elements};
use super::nest::{binary, unary};
use super::typed::{cast, expect_loop_type, floats, from_floats, from_ints, ints, literal};
use super::walk::operand;
use super::{Inputs, LayoutRule, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Data, F8E5M2, F8E8M0, Shape, Tensor};
use crate::kernel::expr::{BinaryFn, Expr, UnaryFn};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;
use std::sync::Arc;

/// How a value between two powers of two becomes an 8-bit power of two (`float8e8m0`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // ONNX's names
pub enum RoundMode {
    Up,
    Down,
    Nearest,
}

/// Conversion of the elements' type.
#[derive(Debug, Clone, PartialEq)]
pub struct Cast {
    /// Type of the result; `None` takes that of operand 1 (CastLike).
    pub to: Option<DType>,
    /// Whether values outside an 8-bit float's range become its largest number rather than NaN or
    /// infinity.
    pub saturate: bool,
    /// Rounding to `float8e8m0`.
    pub round_mode: RoundMode,
}

impl OnnxOp for Cast {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Cast", 1), OnnxName::onnx("CastLike", 15)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let to = match node.op_type {
            "CastLike" => None,
            _ if node.opset < 6 => {
                let name = AttrReader::required("to", attrs.text("to")?)?;
                let named = DType::ALL.iter().copied().find(|d| d.onnx_name().eq_ignore_ascii_case(name));
                Some(named.ok_or_else(|| OpError::unsupported(format!("conversion to type {name}")))?)
            }
            _ => {
                let code = AttrReader::required("to", attrs.int("to")?)?;
                Some(
                    dtype_of(code)
                        .ok_or_else(|| OpError::unsupported(format!("conversion to type {code}")))?,
                )
            }
        };
        let saturate = node.opset < 19 || attrs.int_or("saturate", 1)? != 0;
        let round_mode = match if node.opset < 24 { None } else { attrs.text("round_mode")? } {
            None | Some("up") => RoundMode::Up,
            Some("down") => RoundMode::Down,
            Some("nearest") => RoundMode::Nearest,
            Some(other) => return Err(OpError::invalid(format!("attribute `round_mode` is `{other}`"))),
        };
        Ok(Cast { to, saturate, round_mode }.into())
    }
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        if self.to.is_some() { "Cast" } else { "CastLike" }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        let to = match self.to {
            Some(to) => to,
            None => inputs.required(1)?.dtype,
        };
        Ok(vec![Type::new(to, x.shape.clone())])
    }

    fn lengths(&self, _inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        elements(along)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let to = match self.to {
            Some(to) => to,
            None => operand(inputs, 1)?.dtype(),
        };
        Ok(vec![self.convert(x, to)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn on_texts(&self, operands: &[Option<&[String]>]) -> Option<OpKind> {
        // A text as a text.
        (self.to == Some(DType::String) && super::facts::only_first(operands))
            .then(|| super::identity::Identity.into())
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (to, _) = cx.output_type(0).ok_or_else(|| OpError::internal("a conversion without result"))?;
        let x = cx.read(0)?;
        if x.dtype == to {
            return cx.alias(0, x);
        }
        expect_loop_type(x.dtype)?;
        expect_loop_type(to)?;
        let y = cx.write(0)?;
        let value = self.value(x.dtype, to, Expr::Read(0));
        cx.elementwise(&y, &[x], value)
    }
}

impl Cast {
    /// The conversion of an expression; `dtypes` are the operands' element types.
    pub fn expr(&self, dtypes: &[DType], args: Vec<Expr>) -> Option<Expr> {
        let to = self.to.or_else(|| dtypes.get(1).copied())?;
        Some(self.value(*dtypes.first()?, to, args.into_iter().next()?))
    }

    fn value(&self, from: DType, to: DType, value: Expr) -> Expr {
        let nearest = self.round_mode == RoundMode::Nearest;
        match largest(to) {
            _ if from == to => value,
            Some(largest) if self.saturate => {
                // What is cut off here cannot round beyond the largest number.
                let wide = if from == DType::F64 { DType::F64 } else { DType::F32 };
                let value = cast(from, wide, value);
                let above = binary(BinaryFn::Max, value, literal(wide, -largest));
                cast(wide, to, binary(BinaryFn::Min, above, literal(wide, largest)))
            }
            None if to == DType::F8E8M0 && self.round_mode != RoundMode::Up => {
                unary(UnaryFn::PowerOfTwo { nearest }, cast(from, DType::F32, value))
            }
            _ => cast(from, to, value),
        }
    }

    fn convert(&self, x: &Tensor, to: DType) -> Result<Tensor, OpError> {
        if x.dtype() == to {
            return Ok(x.clone());
        }
        let shape = x.shape().clone();
        match x.data() {
            Data::String(text) => return parse(text, to, shape),
            _ if to == DType::String => return format(x),
            _ => {}
        }
        if !x.dtype().is_float() && largest(to).is_none() && to != DType::F8E8M0 {
            return from_ints(to, shape, ints(x)?);
        }
        let values = floats(x)?;
        match to {
            // As integers of 32 bits, of which the low bits remain.
            _ if to.is_int() && to.packed_bits().is_some() => {
                from_ints(to, shape, values.into_iter().map(|v| (v as i32).into()))
            }
            DType::F8E8M0 => {
                let scales: Vec<F8E8M0> =
                    values.into_iter().map(|v| power_of_two(v, self.round_mode)).collect();
                Ok(Tensor::new::<F8E8M0>(shape, scales)?)
            }
            DType::F8E5M2 if !self.saturate => {
                // The bit patterns of infinity follow the largest number, 57344.
                let cast = from_floats(to, shape.clone(), values.iter().copied())?;
                let bits = cast.as_slice::<F8E5M2>().unwrap_or_default().iter().zip(&values).map(|(b, v)| {
                    if libm::fabs(*v) >= 61440.0 { F8E5M2(if *v < 0.0 { 0xfc } else { 0x7c }) } else { *b }
                });
                Ok(Tensor::new::<F8E5M2>(shape, bits.collect::<Vec<_>>())?)
            }
            // A value that would round beyond the largest number (448, 240, 57344) has no pattern but NaN's.
            DType::F8E4M3 if !self.saturate => from_floats(to, shape, beyond(values, 464.0, true)),
            DType::F8E4M3Uz if !self.saturate => from_floats(to, shape, beyond(values, 248.0, false)),
            DType::F8E5M2Uz if !self.saturate => from_floats(to, shape, beyond(values, 61440.0, false)),
            _ => from_floats(to, shape, values),
        }
    }
}

/// The largest number of the 8-bit floats, which conversions beyond it may or may not reach.
fn largest(dtype: DType) -> Option<f64> {
    match dtype {
        DType::F8E4M3 => Some(448.0),
        DType::F8E4M3Uz => Some(240.0),
        DType::F8E5M2 | DType::F8E5M2Uz => Some(57344.0),
        _ => None,
    }
}

/// NaN in place of values that round beyond a format's largest number; `limit` is the tie between
/// it and what would come next, which `tie_fits` keeps.
fn beyond(values: Vec<f64>, limit: f64, tie_fits: bool) -> impl Iterator<Item = f64> {
    values.into_iter().map(move |v| {
        let size = libm::fabs(v);
        if size > limit || size == limit && !tie_fits { f64::NAN } else { v }
    })
}

/// The power of two near `x`, as an exponent biased by 127.
pub(super) fn power_of_two(x: f64, mode: RoundMode) -> F8E8M0 {
    if !x.is_finite() {
        return F8E8M0(0xff);
    }
    if x == 0.0 {
        return F8E8M0(0);
    }
    // |x| = fraction · 2^exponent with the fraction in 0.5..1.
    let (fraction, exponent) = libm::frexp(libm::fabs(x));
    let up = match mode {
        RoundMode::Up => fraction > 0.5,
        RoundMode::Down => false,
        RoundMode::Nearest => fraction >= 0.75,
    };
    F8E8M0((exponent - 1 + i32::from(up) + 127).clamp(0, 254) as u8)
}

fn parse(text: &Arc<[String]>, to: DType, shape: Shape) -> Result<Tensor, OpError> {
    if to.is_int() {
        let parsed = text.iter().map(|s| s.trim().parse::<i128>().ok()).collect::<Option<Vec<_>>>();
        if let Some(values) = parsed {
            return from_ints(to, shape, values);
        }
    }
    let parsed = text.iter().map(|s| s.trim().parse::<f64>().ok()).collect::<Option<Vec<_>>>();
    from_floats(to, shape, parsed.ok_or_else(|| OpError::invalid("a string is not a number"))?)
}

fn format(x: &Tensor) -> Result<Tensor, OpError> {
    let number = |v: f64, shortest: String| match v {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "INF".to_owned(),
        f64::NEG_INFINITY => "-INF".to_owned(),
        _ => shortest,
    };
    let text: Vec<String> = match x.data() {
        Data::F64(v) => v.iter().map(|v| number(*v, v.to_string())).collect(),
        data if data.dtype().is_float() => {
            floats(x)?.iter().map(|v| number(*v, (*v as f32).to_string())).collect()
        }
        _ => ints(x)?.iter().map(i128::to_string).collect(),
    };
    Ok(Tensor::from_data(x.shape().clone(), Data::String(text.into()))?)
}

/// The element type behind a code of ONNX's `TensorProto.DataType`.
pub fn dtype_of(code: i64) -> Option<DType> {
    Some(match code {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        8 => DType::String,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::Bf16,
        17 => DType::F8E4M3,
        18 => DType::F8E4M3Uz,
        19 => DType::F8E5M2,
        20 => DType::F8E5M2Uz,
        21 => DType::U4,
        22 => DType::I4,
        23 => DType::F4E2M1,
        24 => DType::F8E8M0,
        25 => DType::U2,
        26 => DType::I2,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, import};
    use super::*;
    use crate::ir::{F8E4M3, f16};
    use crate::onnx::Attr;

    fn to(code: i64, x: &Tensor) -> Tensor {
        apply("Cast", 21, &[("to", Attr::Int(code))], &[x]).unwrap()
    }

    #[test]
    fn numbers_convert_by_value() {
        let x = f32s(&[4], &[-1.7, 2.9, 300.0, f32::NAN]);
        assert_eq!(to(3, &x), Tensor::vector(&[-1i8, 2, 127, 0]));
        assert_eq!(to(9, &f32s(&[3], &[0.0, -0.0, 0.5])), Tensor::vector(&[false, false, true]));
        assert_eq!(to(2, &Tensor::vector(&[258i64, -1])), Tensor::vector(&[2u8, 255]));
        // 2^53 + 1 lies halfway between two floats after a detour through f64, not before.
        assert_eq!(
            to(1, &Tensor::scalar((1i64 << 60) + (1 << 36) + 1)),
            Tensor::scalar(((1u64 << 60) + (1 << 37)) as f32)
        );
        assert_eq!(to(10, &f32s(&[1], &[65520.0])), Tensor::vector(&[f16::INFINITY]));
    }

    #[test]
    fn small_floats_saturate_or_not() {
        let x = f32s(&[2], &[1e6, 1.5]);
        assert_eq!(to(17, &x).to_f64_vec().unwrap(), [448.0, 1.5]);
        let open = [("to", Attr::Int(17)), ("saturate", Attr::Int(0))];
        let y = apply("Cast", 19, &open, &[&x]).unwrap().to_f64_vec().unwrap();
        assert!(y[0].is_nan() && y[1] == 1.5);
        let open = [("to", Attr::Int(19)), ("saturate", Attr::Int(0))];
        let y = apply("Cast", 19, &open, &[&f32s(&[2], &[-1e6, 2.0])]).unwrap();
        assert_eq!(y.to_f64_vec().unwrap(), [f64::NEG_INFINITY, 2.0]);
        assert_eq!(power_of_two(3.0, RoundMode::Up), F8E8M0(129));
        assert_eq!(power_of_two(3.0, RoundMode::Down), F8E8M0(128));
    }

    #[test]
    fn strings_at_compile_time() {
        let text = |v: &[&str]| {
            let v: Vec<String> = v.iter().map(|s| (*s).to_owned()).collect();
            Tensor::from_data(Shape::from([v.len()]), Data::String(v.into())).unwrap()
        };
        assert_eq!(
            to(1, &text(&["1.5", "-INF", "NaN"])).to_f64_vec().unwrap()[..2],
            [1.5, f64::NEG_INFINITY]
        );
        assert_eq!(to(8, &Tensor::vector(&[7i32, -2])), text(&["7", "-2"]));
        assert!(apply("Cast", 13, &[("to", Attr::Int(7))], &[&text(&["x"])]).is_err());
    }

    #[test]
    fn like_another_operand() {
        let y = apply("CastLike", 19, &[], &[&f32s(&[1], &[3.0]), &Tensor::vector(&[F8E4M3(0)])]).unwrap();
        assert_eq!(y.dtype(), DType::F8E4M3);
        assert!(import("Cast", 13, &[], 1, 1).is_err());
        assert!(import("Cast", 13, &[("to", Attr::Int(14))], 1, 1).is_err(), "complex numbers");
    }
}
