//! [BitCast](https://onnx.ai/onnx/operators/onnx__BitCast.html): the same bits as another type of the same
//! width. Types of less than 8 bits are refused: they are not stored in their own width.

use super::cast::dtype_of;
use super::walk::operand;
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::{Kernel, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Reinterprets the elements of its operand.
#[derive(Debug, Clone, PartialEq)]
pub struct BitCast {
    /// Type of the result.
    pub to: DType,
}

impl OnnxOp for BitCast {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("BitCast", 26)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let code = AttrReader::required("to", attrs.int("to")?)?;
        let to = dtype_of(code).ok_or_else(|| OpError::unsupported(format!("bits of type {code}")))?;
        Ok(BitCast { to }.into())
    }
}

impl Op for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        let whole = |d: DType| d != DType::String && d.packed_bits().is_none();
        if !whole(x.dtype) || !whole(self.to) {
            return Err(OpError::unsupported(format!("the bits of {} as {}", x.dtype, self.to)));
        }
        if x.dtype.size() != self.to.size() {
            return Err(OpError::invalid(format!("{} and {} differ in width", x.dtype, self.to)));
        }
        Ok(vec![Type::new(self.to, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        Ok(vec![Tensor::from_le_bytes(self.to, x.shape().clone(), &x.to_le_bytes())?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read_dense(0)?;
        if x.dtype == self.to {
            return cx.alias(0, x);
        }
        let y = cx.write_dense(0)?;
        cx.push(Kernel::Routine(Routine {
            function: "bits::cast",
            reads: vec![x.operand],
            writes: vec![y.operand],
            params: Vec::new(),
            fallible: false,
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};
    use crate::ir::Tensor;
    use crate::onnx::Attr;

    #[test]
    fn bits_stay() {
        let to = |code| [("to", Attr::Int(code))];
        let y = apply("BitCast", 26, &to(12), &[&f32s(&[2], &[1.0, -0.0])]).unwrap();
        assert_eq!(y, Tensor::vector(&[0x3f80_0000u32, 0x8000_0000]));
        assert!(apply("BitCast", 26, &to(7), &[&y]).is_err(), "another width");
        assert!(apply("BitCast", 26, &to(22), &[&Tensor::vector(&[1u8])]).is_err(), "half a byte");
    }
}
