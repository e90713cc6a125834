//! [DequantizeLinear](https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html), also of `com.microsoft`:
//! `(x - zero) · scale`, in `f32`, rounded once to the result's type.
//!
//! Known operands are not folded: weights stay in 8 bits or fewer in the blob, and passes that look for
//! quantized operators find them as the model has them. Constants of 4 and 2 bits are packed.

use super::grid::Grid;
use super::nest::{binary, mul};
use super::quantize::{is_quantized, type_attr};
use super::typed::{cast, expect, floats, from_floats};
use super::walk::{operand, optional};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::{BinaryFn, Expr, Scalar};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};

/// The reverse of quantization. Operands: `x`, `scale`, and `zero` of the scale's shape and `x`'s type.
#[derive(Debug, Clone, PartialEq)]
pub struct Dequantize {
    /// Axis of scales that are no scalar.
    pub axis: i64,
    /// Indices of a block of the axis; zero where scales are not by block.
    pub block: i64,
    /// Type of the result; `None` takes the scale's.
    pub to: Option<DType>,
}

impl OnnxOp for Dequantize {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("DequantizeLinear", 10),
        OnnxName::onnx("DequantizeLinear", 13),
        OnnxName::onnx("DequantizeLinear", 19),
        OnnxName::onnx("DequantizeLinear", 21),
        OnnxName::onnx("DequantizeLinear", 23),
        OnnxName::onnx("DequantizeLinear", 24),
        OnnxName::onnx("DequantizeLinear", 25),
        OnnxName { domain: "com.microsoft", op_type: "DequantizeLinear", since: 1 },
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let from = |version: i64| !node.domain.is_empty() || node.opset >= version;
        Ok(Dequantize {
            axis: if from(13) { attrs.int_or("axis", 1)? } else { 1 },
            block: if from(21) { attrs.int_or("block_size", 0)? } else { 0 },
            to: if from(23) { type_attr(attrs, "output_dtype")? } else { None },
        }
        .into())
    }
}

impl Dequantize {
    fn target(&self, scale: DType) -> DType {
        match (self.to, scale) {
            (Some(to), _) => to,
            (None, DType::F8E8M0) => DType::F32,
            (None, scale) => scale,
        }
    }

    /// The result as a function of one element of each operand, where scale and zero point hold for all.
    pub fn expr(&self, dtypes: &[DType], args: Vec<Expr>) -> Option<Expr> {
        let (x, scale, zero) = (*dtypes.first()?, *dtypes.get(1)?, dtypes.get(2).copied());
        if self.target(scale) != DType::F32 {
            return None;
        }
        let mut args = args.into_iter();
        let (value, step) = (args.next()?, args.next()?);
        let origin = args.next().unwrap_or(Expr::Const(Scalar::Int(DType::I32, 0)));
        Some(Self::value(x, scale, zero, [value, step, origin]))
    }

    /// The result for one element of `x`, `scale` and `zero`, as `f32`.
    fn value(x: DType, scale: DType, zero: Option<DType>, args: [Expr; 3]) -> Expr {
        let [value, step, origin] = args;
        let wide = if x.is_int() { DType::I32 } else { DType::F32 };
        let nothing = matches!(origin, Expr::Const(Scalar::Int(_, 0)));
        let moved = match zero.filter(|_| !nothing) {
            Some(zero) => {
                let moved = binary(BinaryFn::Sub, cast(x, wide, value), cast(zero, wide, origin));
                cast(wide, DType::F32, moved)
            }
            None => cast(x, DType::F32, value),
        };
        mul(moved, cast(scale, DType::F32, step))
    }
}

impl Op for Dequantize {
    fn name(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        use DType::{Bf16, F8E8M0, F16, F32, I32};
        let (x, scale) = (inputs.required(0)?, inputs.required(1)?);
        expect(is_quantized(x.dtype) || x.dtype == I32, x.dtype)?;
        expect(matches!(scale.dtype, F32 | F16 | Bf16 | F8E8M0), scale.dtype)?;
        let grid = Grid::new(x.shape, scale.shape, self.axis, self.block)?;
        if let Some(zero) = inputs.get(2) {
            grid.expect_zero(scale.shape, zero.shape)?;
            expect(zero.dtype == x.dtype, zero.dtype)?;
        }
        let to = self.target(scale.dtype);
        expect(matches!(to, F32 | F16 | Bf16), to)?;
        Ok(vec![Type::new(to, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, scale, zero) = (operand(inputs, 0)?, operand(inputs, 1)?, optional(inputs, 2));
        let grid = Grid::new(x.shape(), scale.shape(), self.axis, self.block)?;
        let scales = floats(scale)?;
        let zeros = zero.map(floats).transpose()?;
        let values = floats(x)?.into_iter().zip(grid.positions(x.shape())).map(|(v, s)| {
            let scale = scales.get(s).copied().unwrap_or(1.0);
            let zero = zeros.as_ref().and_then(|z| z.get(s)).copied().unwrap_or(0.0);
            // Integers of 32 bits wrap; all others are exact.
            let moved = if x.dtype() == DType::I32 { f64::from((v - zero) as i64 as i32) } else { v - zero };
            f64::from(moved as f32 * scale as f32)
        });
        Ok(vec![from_floats(self.target(scale.dtype()), x.shape().clone(), values)?])
    }

    fn folds(&self) -> bool {
        false
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (x_type, shape) = cx.input_type(0).ok_or_else(|| OpError::internal("no operand"))?;
        let shape = shape.to_vec();
        let scale = cx.read(1)?;
        let zero = super::nest::read_optional(cx, 2)?;
        let y = cx.write(0)?;
        let grid = Grid::new(&shape[..].into(), &scale.shape[..].into(), self.axis, self.block)?;
        let zero_type = zero.as_ref().map(|z| z.dtype);
        let coarse: Vec<_> = [scale.clone()].into_iter().chain(zero).collect();
        for part in parts(cx, grid)? {
            let value = Self::value(
                x_type,
                scale.dtype,
                zero_type,
                [part.element(x_type), Expr::Read(1), Expr::Read(2)],
            );
            // What lies over the part, of `y` and of scales.
            let cut = |v: &TensorView, axis: usize, unit: usize| match part.slice {
                Some((_, start, len)) => cx.part(v, axis, start / unit, len.div_ceil(unit)),
                None => Ok(v.clone()),
            };
            let at = part.slice.map_or(0, |(axis, ..)| axis);
            let along = |v: &TensorView| match grid {
                Grid::Axis { axis } if axis == at => cut(v, 0, 1),
                Grid::Blocks { axis, size } => cut(v, at, if axis == at { size.max(1) } else { 1 }),
                Grid::Axis { .. } | Grid::Tensor => Ok(v.clone()),
            };
            let y = cut(&y, at, 1)?;
            let coarse = coarse.iter().map(along).collect::<Result<Vec<_>, _>>()?;
            grid.emit(cx, &[y, part.x], &coarse, |cx, full, coarse| {
                let [y, x] = full else { return Err(OpError::internal("views got lost")) };
                let reads: Vec<_> = [x].into_iter().chain(coarse).cloned().collect();
                cx.elementwise(y, &reads, value.clone())
            })?;
        }
        Ok(())
    }
}

/// A part of `x`: all of it, or what one place in each byte holds.
struct XPart {
    x: TensorView,
    /// Axis, first index and length of the part.
    slice: Option<(usize, usize, usize)>,
    /// Bits below the element in its byte.
    shift: usize,
}

impl XPart {
    /// The element behind a read of `x`.
    fn element(&self, dtype: DType) -> Expr {
        if self.slice.is_none() {
            return Expr::Read(0);
        }
        let by = Expr::Const(Scalar::Int(DType::U8, self.shift as i64));
        let moved = binary(BinaryFn::ShiftRight, Expr::Read(0), by);
        cast(DType::U8, dtype, moved)
    }
}

/// `x` as it lies; a constant of 4- or 2-bit integers is packed first. An axis is cut into as many parts as a
/// byte has places, and equal indices of the parts share a byte: so each part is read and written in rows.
fn parts(cx: &mut LowerCx<'_>, grid: Grid) -> Result<Vec<XPart>, OpError> {
    if let Some(x) = cx.constant(0).filter(|t| t.dtype().is_int())
        && let Some(bits) = x.dtype().packed_bits()
        && let Some(axis) = cut_axis(x.shape(), 8 / bits, grid)
    {
        let (places, shape) = (8 / bits, x.shape());
        let inner: usize = shape.iter().skip(axis).product::<usize>() / places;
        let bytes = x.to_le_bytes();
        let mask = (1u8 << bits) - 1;
        let mut packed = vec![0u8; bytes.len() / places];
        for (i, byte) in bytes.iter().enumerate() {
            let (row, column) = (i / inner.max(1), i % inner.max(1));
            if let Some(to) = packed.get_mut(row / places * inner + column) {
                *to |= (byte & mask) << (row % places * bits);
            }
        }
        let operand = cx.blob("packed", &packed);
        let mut part = shape.to_vec();
        let len = part.get(axis).copied().unwrap_or(0) / places;
        if let Some(d) = part.get_mut(axis) {
            *d = len;
        }
        let strides = super::walk::strides(&part);
        let view = TensorView { operand, dtype: DType::U8, shape: part, offset: 0, strides };
        return Ok((0..places)
            .map(|i| XPart { x: view.clone(), slice: Some((axis, i * len, len)), shift: i * bits })
            .collect());
    }
    Ok(vec![XPart { x: cx.read(0)?, slice: None, shift: 0 }])
}

/// The outermost axis that falls into `places` equal parts, none within a block.
fn cut_axis(shape: &[usize], places: usize, grid: Grid) -> Option<usize> {
    (0..shape.len()).find(|&a| {
        let unit = match grid {
            Grid::Blocks { axis, size } if axis == a => size.saturating_mul(places),
            _ => places,
        };
        shape.get(a).is_some_and(|d| *d > 0 && d.is_multiple_of(unit.max(1)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};
    use super::*;
    use crate::ir::{F8E4M3, I4, f16};
    use crate::onnx::Attr;

    #[test]
    fn moves_and_scales() {
        let (x, zero) = (Tensor::vector(&[0u8, 3, 255]), Tensor::scalar(128u8));
        let y = apply("DequantizeLinear", 10, &[], &[&x, &Tensor::scalar(2.0f32), &zero]).unwrap();
        assert_eq!(y, f32s(&[3], &[-256.0, -250.0, 254.0]));
        let big = Tensor::vector(&[i32::MAX, -7]);
        let y = apply("DequantizeLinear", 13, &[], &[&big, &Tensor::scalar(0.5f32)]).unwrap();
        assert_eq!(y, f32s(&[2], &[1_073_741_824.0, -3.5]));
    }

    #[test]
    fn every_granularity_and_type() {
        let x = Tensor::new([2, 3], [1i8, -2, 3, 4, 5, -6].map(I4).to_vec()).unwrap();
        let scale = f32s(&[2, 2], &[1.0, 10.0, 0.5, 2.0]);
        let y = apply("DequantizeLinear", 21, &[("block_size", Attr::Int(2))], &[&x, &scale]).unwrap();
        assert_eq!(y, f32s(&[2, 3], &[1.0, -2.0, 30.0, 2.0, 2.5, -12.0]));
        let half = Tensor::vector(&[f16::from_f32(2.0), f16::from_f32(3.0)]);
        let y = apply(
            "DequantizeLinear",
            19,
            &[("axis", Attr::Int(0))],
            &[&Tensor::vector(&[F8E4M3(0x38), F8E4M3(0xb8)]), &half],
        );
        assert_eq!(y.unwrap(), Tensor::vector(&[f16::from_f32(2.0), f16::from_f32(-3.0)]));
        let to = [("output_dtype", Attr::Int(10))];
        let y = apply("DequantizeLinear", 23, &to, &[&Tensor::vector(&[3i16]), &Tensor::scalar(2.0f32)]);
        assert_eq!(y.unwrap(), Tensor::vector(&[f16::from_f32(6.0)]));
    }

    #[test]
    fn axes_that_bytes_can_be_cut_along() {
        assert_eq!(cut_axis(&[3, 4], 2, Grid::Tensor), Some(1));
        assert_eq!(cut_axis(&[3, 4], 2, Grid::Blocks { axis: 1, size: 4 }), None);
        assert_eq!(cut_axis(&[3, 8], 2, Grid::Blocks { axis: 1, size: 4 }), Some(1));
        assert_eq!(cut_axis(&[3, 5], 2, Grid::Tensor), None);
    }
}
