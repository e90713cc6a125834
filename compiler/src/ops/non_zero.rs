//! [NonZero](https://onnx.ai/onnx/operators/onnx__NonZero.html): where a tensor is not zero. How many places
//! there are only a run knows, at most one per element.

use super::length::{Axes, of};
use super::nest::{read_as, scratch};
use super::typed::floats;
use super::walk::{operand, strides};
use super::{Along, Inputs, Length, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Operand: `x`. Results: per axis of `x` a row with a coordinate of each place, in row-major order of the places
/// and zeros behind the last, `i64`; and the number of places, `i64[1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct NonZero;

impl OnnxOp for NonZero {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("NonZero", 9)];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(NonZero.into())
    }
}

impl Op for NonZero {
    fn name(&self) -> &'static str {
        "NonZero"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        super::typed::expect(x.dtype != DType::String, x.dtype)?;
        let places = super::walk::checked_type(DType::I64, [x.shape.rank(), x.shape.elements()])?;
        Ok(vec![places, Type::new(DType::I64, [1])])
    }

    fn lengths(&self, _inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        let lengths = Lengths {
            results: vec![Some(Along { axis: 1, length: Length::Result(1) })],
            ..Lengths::default()
        };
        // Zeros count for nothing.
        Ok(if of(along, 0).is_some() { lengths.clearing(0) } else { lengths })
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let found: Vec<usize> =
            floats(x)?.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i).collect();
        let mut rows = vec![0i64; x.shape().rank() * x.len()];
        for (row, (&extent, step)) in
            rows.chunks_mut(x.len().max(1)).zip(x.shape().iter().zip(strides(x.shape())))
        {
            for (coordinate, &i) in row.iter_mut().zip(&found) {
                *coordinate = (i / step.unsigned_abs().max(1) % extent.max(1)) as i64;
            }
        }
        let count = Tensor::vector(&[found.len() as i64]);
        Ok(vec![Tensor::new::<i64>([x.shape().rank(), x.len()], rows)?, count])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (_, shape) = cx.input_type(0).ok_or_else(|| OpError::internal("no operand"))?;
        let extents: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        // Any number is true unless it is zero.
        let x = read_as(cx, 0, DType::Bool)?;
        let len: usize = x.shape.iter().product();
        let extents = cx.blob("extents", &extents);
        let places = match cx.output_type(0) {
            Some(_) => cx.write_dense(0)?,
            None => scratch(cx, "places", DType::I64, &[shape.rank(), len])?,
        };
        let count = match cx.output_type(1) {
            Some(_) => cx.write_dense(1)?,
            None => scratch(cx, "count", DType::I64, &[1])?,
        };
        cx.push(Kernel::Routine(Routine {
            function: "places::non_zero",
            reads: vec![x.operand, extents],
            writes: vec![places.operand, count.operand],
            params: vec![Param::Usize(len)],
            fallible: false,
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{f32s, i64s, import, run};
    use super::*;

    #[test]
    fn coordinates_by_axis_and_their_number() {
        let op = import("NonZero", 13, &[], 1, 1).unwrap();
        let x = f32s(&[2, 2], &[1., 0., -0.5, f32::NAN]);
        let y = run(&op, &[Some(&x)], 1).unwrap();
        assert_eq!(y, [i64s(&[2, 4], &[0, 1, 1, 0, 0, 0, 1, 0]), i64s(&[1], &[3])]);
        let none = run(&op, &[Some(&Tensor::full::<bool>([3], false))], 1).unwrap();
        assert_eq!(none, [i64s(&[1, 3], &[0, 0, 0]), i64s(&[1], &[0])]);
    }

    #[test]
    fn a_scalar_has_places_without_coordinates() {
        let y = run(&NonZero.into(), &[Some(&Tensor::scalar(7i64))], 1).unwrap();
        assert_eq!(y, [i64s(&[0, 1], &[]), i64s(&[1], &[1])]);
        let empty = run(&NonZero.into(), &[Some(&f32s(&[2, 0], &[]))], 1).unwrap();
        assert_eq!(empty, [i64s(&[2, 0], &[]), i64s(&[1], &[0])]);
    }
}
