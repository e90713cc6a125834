//! Requantization of sums of integer products; inside the compiler only, as what `QLinearConv`,
//! `QLinearMatMul` and their kin end with.
//!
//! `clamp(zero + RNE(f32(acc) × scale))`: the sum is rounded to `f32`, the product to the nearest integer
//! at once, ties to even. The product of two `f32` is exact in `f64`, so this takes no second rounding.

use super::nest::{binary, read_optional};
use super::typed::{cast, expect, from_floats};
use super::walk::{broadcast_shape, broadcast_strides, operand, positions};
use super::{INTERNAL, Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::{BinaryFn, Expr};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Operands: `acc` (`i32`), `scale` (`f32`) and `zero` (8- or 16-bit integers, which the result has as type);
/// the latter two broadcast to `acc`.
#[derive(Debug, Clone, PartialEq)]
pub struct Requantize;

impl OnnxOp for Requantize {
    const NAMES: &'static [OnnxName] = &[OnnxName { domain: INTERNAL, op_type: "Requantize", since: 1 }];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Requantize.into())
    }
}

impl Requantize {
    /// The result for one element of each operand.
    pub fn expr(&self, dtypes: &[DType], args: Vec<Expr>) -> Option<Expr> {
        let [acc, scale, zero] = <[Expr; 3]>::try_from(args).ok()?;
        let to = *dtypes.get(2)?;
        let acc = cast(DType::F32, DType::F64, cast(DType::I32, DType::F32, acc));
        let value = binary(BinaryFn::Mul, acc, cast(DType::F32, DType::F64, scale));
        Some(Expr::Quantize { to, value: Box::new(value), zero: Box::new(cast(to, DType::I32, zero)) })
    }
}

impl Op for Requantize {
    fn name(&self) -> &'static str {
        "Requantize"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let [acc, scale, zero] = [inputs.required(0)?, inputs.required(1)?, inputs.required(2)?];
        expect(acc.dtype == DType::I32, acc.dtype)?;
        expect(scale.dtype == DType::F32, scale.dtype)?;
        expect(matches!(zero.dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16), zero.dtype)?;
        if broadcast_shape([acc.shape, scale.shape, zero.shape])? != *acc.shape {
            let what = format!("scales of shape {} for sums of {}", scale.shape, acc.shape);
            return Err(OpError::invalid(what));
        }
        Ok(vec![Type::new(zero.dtype, acc.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let [acc, scale, zero] = [operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?];
        let shape = acc.shape().clone();
        let wrong = || OpError::internal("operands of other types than inferred");
        let sums = acc.as_slice::<i32>().ok_or_else(wrong)?;
        let scales = scale.as_slice::<f32>().ok_or_else(wrong)?;
        let zeros = zero.to_f64_vec().ok_or_else(wrong)?;
        let at = |t: &Tensor| positions(&shape, &broadcast_strides(t.shape(), &shape), 0);
        let values = sums.iter().zip(at(scale)).zip(at(zero)).map(|((&acc, s), z)| {
            let scale = scales.get(s).copied().unwrap_or(0.0);
            let product = f64::from(acc as f32) * f64::from(scale);
            let lowest = if product.is_nan() { f64::NEG_INFINITY } else { libm::rint(product) };
            lowest + zeros.get(z).copied().unwrap_or(0.0)
        });
        Ok(vec![from_floats(zero.dtype(), shape.clone(), values.collect::<Vec<_>>())?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (acc, scale) = (cx.read(0)?, cx.read(1)?);
        let zero = read_optional(cx, 2)?.ok_or_else(|| OpError::internal("no zero point"))?;
        let y = cx.write(0)?;
        let dtypes = [acc.dtype, scale.dtype, zero.dtype];
        let value = self.expr(&dtypes, (0..3).map(Expr::Read).collect());
        let value = value.ok_or_else(|| OpError::internal("three operands"))?;
        cx.elementwise(&y, &[acc, scale, zero], value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use super::*;

    #[test]
    fn rounds_the_exact_product_once() {
        let check = |acc: &[i32], scale: f32, zero: i8| {
            let (acc, scale, zero) = (Tensor::vector(acc), Tensor::scalar(scale), Tensor::scalar(zero));
            let y = run(&Requantize.into(), &[Some(&acc), Some(&scale), Some(&zero)], 1).unwrap();
            y[0].as_slice::<i8>().unwrap().to_vec()
        };
        assert_eq!(check(&[1, 3, -1, -3, 1000, -1000], 0.5, 0), [0, 2, 0, -2, 127, -128]);
        assert_eq!(check(&[5, -300], 0.5, 1), [3, -128]);
        // 0.1f32 is above 1/10: fifteen of them are above 1.5, which their product in f32 is not.
        assert_eq!(check(&[15, 25, 35], 0.1, 0), [2, 3, 4]);
        assert_eq!(check(&[0, 1], f32::INFINITY, 3), [-128, 127]);
    }

    #[test]
    fn scales_of_other_shapes_are_refused() {
        let acc = Tensor::vector(&[1i32, 2]);
        let scale = Tensor::full([2, 1], 1.0f32);
        assert!(run(&Requantize.into(), &[Some(&acc), Some(&scale), Some(&Tensor::scalar(0u8))], 1).is_err());
    }
}
