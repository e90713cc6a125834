//! [QuantizeLinear](https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html), also of `com.microsoft`:
//! `saturate(round(x / scale) + zero)`, ties to even.
//!
//! The quotient is computed in the precision that the attribute or the scale's type names, and rounded to it
//! before it is rounded to an integer; in `f64` where the scale is an integer. NaN becomes the lowest integer.

use super::cast::{Cast, RoundMode, dtype_of};
use super::grid::Grid;
use super::nest::{add, binary};
use super::typed::{cast, compute_dtype, expect, floats, from_floats, literal};
use super::walk::{operand, optional};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor, bf16, f16};
use crate::kernel::expr::{BinaryFn, Expr};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Quantization by given scales. Operands: `x`, `scale`, and `zero` of the scale's shape and the result's type.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantize {
    /// Axis of scales that are no scalar.
    pub axis: i64,
    /// Indices of a block of the axis; zero where scales are not by block.
    pub block: i64,
    /// Whether 8-bit floats take their largest number in place of infinity and NaN.
    pub saturate: bool,
    /// Type of the result where there is no zero point.
    pub to: Option<DType>,
    /// Type of the quotient.
    pub precision: Option<DType>,
}

/// Types that quantized values have.
pub(super) fn is_quantized(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, I8 | U8 | I16 | U16 | I4 | U4 | I2 | U2) || is_small_float(dtype)
}

fn is_small_float(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, F8E4M3 | F8E4M3Uz | F8E5M2 | F8E5M2Uz | F4E2M1)
}

/// The element type that an attribute names, where it is there and not zero.
pub(super) fn type_attr(attrs: &mut AttrReader<'_>, name: &str) -> Result<Option<DType>, OpError> {
    match attrs.int_or(name, 0)? {
        0 => Ok(None),
        code => {
            dtype_of(code).map(Some).ok_or_else(|| OpError::unsupported(format!("`{name}` of type {code}")))
        }
    }
}

impl OnnxOp for Quantize {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("QuantizeLinear", 10),
        OnnxName::onnx("QuantizeLinear", 13),
        OnnxName::onnx("QuantizeLinear", 19),
        OnnxName::onnx("QuantizeLinear", 21),
        OnnxName::onnx("QuantizeLinear", 23),
        OnnxName::onnx("QuantizeLinear", 24),
        OnnxName::onnx("QuantizeLinear", 25),
        OnnxName { domain: "com.microsoft", op_type: "QuantizeLinear", since: 1 },
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let from = |version: i64| !node.domain.is_empty() || node.opset >= version;
        Ok(Quantize {
            axis: if from(13) { attrs.int_or("axis", 1)? } else { 1 },
            saturate: !from(19) || attrs.int_or("saturate", 1)? != 0,
            block: if from(21) { attrs.int_or("block_size", 0)? } else { 0 },
            to: if from(21) { type_attr(attrs, "output_dtype")? } else { None },
            precision: if from(23) { type_attr(attrs, "precision")? } else { None },
        }
        .into())
    }
}

impl Quantize {
    /// Type of the result.
    fn target(&self, zero: Option<DType>) -> DType {
        zero.or(self.to).unwrap_or(DType::U8)
    }

    /// Type of the quotient.
    fn precision(&self, x: DType, scale: DType) -> DType {
        match (self.precision, scale) {
            (Some(dtype), _) => dtype,
            (None, DType::I32) => DType::F64,
            (None, DType::F8E8M0) if x.is_float() => x,
            (None, DType::F8E8M0) => DType::F32,
            (None, scale) => scale,
        }
    }

    /// The result as a function of one element of each operand, where scale and zero point hold for all.
    pub fn expr(&self, dtypes: &[DType], args: Vec<Expr>) -> Option<Expr> {
        let zero = dtypes.get(2).copied();
        let mut args = args.into_iter();
        let (x, scale) = (args.next()?, args.next()?);
        let origin = args.next().unwrap_or(literal(DType::I32, 0.0));
        Some(self.value(*dtypes.first()?, *dtypes.get(1)?, zero, [x, scale, origin]))
    }

    fn cast(to: DType, saturate: bool) -> Cast {
        Cast { to: Some(to), saturate, round_mode: RoundMode::Up }
    }

    /// The result for one element of `x`, `scale` and `zero`.
    fn value(&self, x: DType, scale: DType, zero: Option<DType>, args: [Expr; 3]) -> Expr {
        let (precision, to) = (self.precision(x, scale), self.target(zero));
        let [value, step, origin] = args;
        let rounded = |from: DType, e: Expr| if from == precision { e } else { cast(from, precision, e) };
        let quotient = binary(BinaryFn::Div, rounded(x, value), rounded(scale, step));
        let wide = compute_dtype(precision);
        let quotient = cast(wide, precision, quotient);
        if to.is_int() {
            let zero = zero.map_or(literal(DType::I32, 0.0), |d| cast(d, DType::I32, origin));
            return Expr::Quantize { to, value: Box::new(quotient), zero: Box::new(zero) };
        }
        let moved = match zero {
            Some(d) => add(quotient, cast(d, wide, origin)),
            None => quotient,
        };
        Self::cast(to, self.saturate).expr(&[wide], vec![moved.clone()]).unwrap_or(moved)
    }
}

/// A number rounded to a type of the quotient.
fn round_to(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F16 => f16::from_f32(x as f32).to_f64(),
        DType::Bf16 => bf16::from_f32(x as f32).to_f64(),
        DType::F32 => f64::from(x as f32),
        _ => x,
    }
}

impl Op for Quantize {
    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        use DType::{Bf16, F8E8M0, F16, F32, F64, I32};
        let (x, scale) = (inputs.required(0)?, inputs.required(1)?);
        expect(matches!(x.dtype, F32 | F16 | Bf16 | I32), x.dtype)?;
        expect(matches!(scale.dtype, F32 | F16 | Bf16 | I32 | F8E8M0), scale.dtype)?;
        let precision = self.precision(x.dtype, scale.dtype);
        expect(matches!(precision, F32 | F16 | Bf16 | F64), precision)?;
        let grid = Grid::new(x.shape, scale.shape, self.axis, self.block)?;
        let zero = inputs.get(2);
        if let Some(zero) = zero {
            grid.expect_zero(scale.shape, zero.shape)?;
        }
        let to = self.target(zero.map(|z| z.dtype));
        expect(is_quantized(to), to)?;
        if self.to.is_some_and(|asked| asked != to) {
            return Err(OpError::invalid(format!("`output_dtype` differs from the zero point's type {to}")));
        }
        Ok(vec![Type::new(to, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, scale, zero) = (operand(inputs, 0)?, operand(inputs, 1)?, optional(inputs, 2));
        let precision = self.precision(x.dtype(), scale.dtype());
        let to = self.target(zero.map(Tensor::dtype));
        let grid = Grid::new(x.shape(), scale.shape(), self.axis, self.block)?;
        let scales = floats(scale)?;
        let zeros = zero.map(floats).transpose()?;
        let values: Vec<f64> = floats(x)?
            .into_iter()
            .zip(grid.positions(x.shape()))
            .map(|(v, s)| {
                let scale = scales.get(s).copied().unwrap_or(1.0);
                let zero = zeros.as_ref().and_then(|z| z.get(s)).copied().unwrap_or(0.0);
                let quotient = round_to(precision, v) / round_to(precision, scale);
                let quotient = round_to(precision, quotient);
                match to.is_int() {
                    true if quotient.is_nan() => f64::NEG_INFINITY,
                    true => libm::rint(quotient) + zero,
                    false => f64::from(quotient as f32 + zero as f32),
                }
            })
            .collect();
        if to.is_int() {
            return Ok(vec![from_floats(to, x.shape().clone(), values)?]);
        }
        let wide = from_floats(DType::F32, x.shape().clone(), values)?;
        Self::cast(to, self.saturate).eval(&[Some(&wide)])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (x, scale) = (cx.read(0)?, cx.read(1)?);
        let zero = super::nest::read_optional(cx, 2)?;
        let y = cx.write(0)?;
        let grid = Grid::new(&x.shape[..].into(), &scale.shape[..].into(), self.axis, self.block)?;
        let zero_type = zero.as_ref().map(|z| z.dtype);
        let value =
            self.value(x.dtype, scale.dtype, zero_type, [Expr::Read(0), Expr::Read(1), Expr::Read(2)]);
        let coarse: Vec<_> = [scale].into_iter().chain(zero).collect();
        grid.emit(cx, &[y, x], &coarse, |cx, full, coarse| {
            let [y, x] = full else { return Err(OpError::internal("views got lost")) };
            let reads: Vec<_> = [x].into_iter().chain(coarse).cloned().collect();
            cx.elementwise(y, &reads, value.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, import};
    use super::*;
    use crate::ir::{I4, U2};
    use crate::onnx::Attr;

    #[test]
    fn rounds_to_even_then_adds_the_zero_point() {
        let x = f32s(&[6], &[1.0, 3.0, -1.0, 1e9, f32::NAN, -5.0]);
        let (two, zero) = (Tensor::scalar(2.0f32), Tensor::scalar(1i8));
        let y = apply("QuantizeLinear", 13, &[], &[&x, &two, &zero]).unwrap();
        assert_eq!(y, Tensor::vector(&[1i8, 3, 1, 127, -128, -1]));
        let y = apply("QuantizeLinear", 10, &[], &[&x, &two]).unwrap();
        assert_eq!(y, Tensor::vector(&[0u8, 2, 0, 255, 0, 0]));
    }

    #[test]
    fn scales_per_axis_and_per_block() {
        let x = f32s(&[2, 3], &[2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        let y = apply("QuantizeLinear", 13, &[("axis", Attr::Int(0))], &[&x, &Tensor::vector(&[1f32, 2.0])]);
        assert_eq!(y.unwrap(), Tensor::new([2, 3], vec![2u8, 4, 6, 4, 5, 6]).unwrap());
        let attrs = [("block_size", Attr::Int(2)), ("output_dtype", Attr::Int(22))];
        let y = apply("QuantizeLinear", 21, &attrs, &[&x, &f32s(&[2, 2], &[1.0, 2.0, 4.0, 1.0])]).unwrap();
        assert_eq!(y, Tensor::new([2, 3], [2, 4, 3, 2, 2, 7].map(I4).to_vec()).unwrap());
    }

    #[test]
    fn precision_decides_ties() {
        // 0.5 + 2⁻¹² is 0.5 in half precision, hence a tie.
        let (x, one) = (f32s(&[1], &[0.5 + 1.0 / 4096.0]), Tensor::scalar(1.0f32));
        let half = [("precision", Attr::Int(10))];
        assert_eq!(apply("QuantizeLinear", 23, &[], &[&x, &one]).unwrap(), Tensor::vector(&[1u8]));
        assert_eq!(apply("QuantizeLinear", 23, &half, &[&x, &one]).unwrap(), Tensor::vector(&[0u8]));
    }

    #[test]
    fn few_bits_and_floats() {
        let (x, one) = (f32s(&[3], &[-1.0, 2.5, 1000.0]), Tensor::scalar(1.0f32));
        let y = apply("QuantizeLinear", 25, &[], &[&x, &one, &Tensor::scalar(U2(1))]).unwrap();
        assert_eq!(y, Tensor::vector(&[U2(0), U2(3), U2(3)]));
        let e4m3 = [("output_dtype", Attr::Int(17))];
        let y = apply("QuantizeLinear", 21, &e4m3, &[&x, &one]).unwrap();
        assert_eq!(y.to_f64_vec().unwrap(), [-1.0, 2.5, 448.0]);
        let open = [("output_dtype", Attr::Int(17)), ("saturate", Attr::Int(0))];
        assert!(apply("QuantizeLinear", 21, &open, &[&x, &one]).unwrap().to_f64_vec().unwrap()[2].is_nan());
    }

    #[test]
    fn contradictions_are_refused() {
        let (x, one) = (f32s(&[3], &[1.0; 3]), Tensor::scalar(1.0f32));
        let e4m3 = [("output_dtype", Attr::Int(17))];
        assert!(apply("QuantizeLinear", 21, &e4m3, &[&x, &one, &Tensor::scalar(0u8)]).is_err());
        assert!(apply("QuantizeLinear", 13, &[], &[&x, &one, &Tensor::vector(&[0u8, 1])]).is_err());
        assert!(apply("QuantizeLinear", 13, &[], &[&x, &one, &Tensor::scalar(0i32)]).is_err());
        assert!(import("QuantizeLinear", 10, &[("axis", Attr::Int(0))], 2, 1).is_err());
    }
}
