//! [ReverseSequence](https://onnx.ai/onnx/operators/onnx__ReverseSequence.html): the first elements of each
//! sequence in reverse, the rest as they are.

use super::nest::{binary, push};
use super::typed::{expect, expect_loop_type, ints, literal};
use super::views::access;
use super::walk::{operand, pick, positions, strides};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::{BinaryFn, CompareFn, Expr};
use crate::kernel::loops::{Gather, Read, Store};
use crate::kernel::{Access, Nest};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Operands: the sequences, and how many elements of each are reversed (`i64`). A length beyond the axis is
/// invalid data.
#[derive(Debug, Clone, PartialEq)]
pub struct ReverseSequence {
    /// The axis of sequences; 0 or 1.
    pub batch: usize,
    /// The axis along which they run; the other one.
    pub time: usize,
}

impl OnnxOp for ReverseSequence {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("ReverseSequence", 10)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let (batch, time) = (attrs.int_or("batch_axis", 1)?, attrs.int_or("time_axis", 0)?);
        match (batch, time) {
            (0, 1) | (1, 0) => Ok(ReverseSequence { batch: batch as usize, time: time as usize }.into()),
            _ => Err(OpError::invalid(format!("`batch_axis` is {batch} and `time_axis` is {time}"))),
        }
    }
}

impl Op for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, lengths) = (inputs.required(0)?, inputs.required(1)?);
        expect(lengths.dtype == DType::I64, lengths.dtype)?;
        if x.shape.rank() < 2 || lengths.shape.dims() != [x.shape.get(self.batch).copied().unwrap_or(0)] {
            return Err(OpError::invalid(format!("lengths {} for sequences {}", lengths.shape, x.shape)));
        }
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, lengths) = (operand(inputs, 0)?, ints(operand(inputs, 1)?)?);
        let (shape, steps) = (x.shape(), strides(x.shape()));
        let along = |axis: usize| (steps[axis] as usize, shape[axis]);
        let ((batch_step, batches), (step, extent)) = (along(self.batch), along(self.time));
        if lengths.iter().any(|&n| n < 0 || n > extent as i128) {
            return Err(OpError::invalid(format!("a length that is not in 0..={extent}")));
        }
        let places = positions(shape, &steps, 0).map(|p| {
            let (t, b) = (p / step % extent, p / batch_step % batches);
            let n = lengths[b] as usize;
            if t < n { p - t * step + (n - 1 - t) * step } else { p }
        });
        Ok(vec![pick(x, Shape::clone(shape), places)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (x, lengths) = (cx.read(0)?, cx.read(1)?);
        expect_loop_type(x.dtype)?;
        let y = cx.write(0)?;
        if y.shape.contains(&0) {
            return Ok(());
        }
        let mut length = Access { strides: vec![0; x.shape.len()], ..access(&lengths) };
        length.strides[self.batch] = lengths.strides.first().copied().unwrap_or(0);
        let mut element = access(&x);
        element.strides[self.time] = 0;
        let (t, n) = (Expr::Index(self.time), Expr::Read(0));
        let inside = Expr::Compare(CompareFn::Less, Box::new(t.clone()), Box::new(n.clone()));
        let last = binary(BinaryFn::Sub, n, literal(DType::I64, 1.0));
        let mirrored = binary(BinaryFn::Sub, last, t.clone());
        let from = Gather {
            index: Expr::Select(Box::new(inside), Box::new(mirrored), Box::new(t)),
            extent: x.shape[self.time],
            stride: x.strides[self.time],
            proven: false,
        };
        let nest = Nest {
            extents: x.shape.clone(),
            reduce: 0,
            reads: vec![
                Read { access: length, gather: Vec::new() },
                Read { access: element, gather: vec![from] },
            ],
            reductions: Vec::new(),
            stores: vec![Store { access: access(&y), value: Expr::Read(1) }],
        };
        push(cx, nest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s};
    use crate::onnx::Attr;

    #[test]
    fn the_standards_examples() {
        let x = f32s(&[4, 4], &[0., 4., 8., 12., 1., 5., 9., 13., 2., 6., 10., 14., 3., 7., 11., 15.]);
        let y = apply("ReverseSequence", 10, &[], &[&x, &i64s(&[4], &[4, 3, 2, 1])]).unwrap();
        let want = [3., 6., 9., 12., 2., 5., 8., 13., 1., 4., 10., 14., 0., 7., 11., 15.];
        assert_eq!(y, f32s(&[4, 4], &want));
        let attrs = [("batch_axis", Attr::Int(0)), ("time_axis", Attr::Int(1))];
        let x = i64s(&[2, 3, 1], &[1, 2, 3, 4, 5, 6]);
        let y = apply("ReverseSequence", 10, &attrs, &[&x, &i64s(&[2], &[0, 2])]).unwrap();
        assert_eq!(y, i64s(&[2, 3, 1], &[1, 2, 3, 5, 4, 6]));
        assert!(apply("ReverseSequence", 10, &attrs, &[&x, &i64s(&[2], &[0, 4])]).is_err());
        assert!(apply("ReverseSequence", 10, &attrs, &[&x, &i64s(&[3], &[0, 0, 0])]).is_err());
    }
}
