//! Functions of two operands before opset 7, such as [Add](https://onnx.ai/onnx/operators/onnx__Add.html) 6:
//! the second operand broadcasts only where `broadcast` says so, and `axis` may say which of the first
//! operand's axes it starts at. [PRelu](https://onnx.ai/onnx/operators/onnx__PRelu.html) 6 takes one slope
//! for all, or one per channel (axis 1).

use super::composite::{Composite, Script};
use super::walk::{axis, broadcast_shape};
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// The old forms; the second operand gets the axes that broadcasting by position wants.
pub struct OldBroadcast;

impl Composite for OldBroadcast {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("Add", 1),
        OnnxName::onnx("Sub", 1),
        OnnxName::onnx("Mul", 1),
        OnnxName::onnx("Div", 1),
        OnnxName::onnx("Pow", 1),
        OnnxName::onnx("And", 1),
        OnnxName::onnx("Or", 1),
        OnnxName::onnx("Xor", 1),
        OnnxName::onnx("Equal", 1),
        OnnxName::onnx("Greater", 1),
        OnnxName::onnx("Less", 1),
        OnnxName::onnx("PRelu", 1),
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let (a, b) = (inputs.required(0)?, inputs.required(1)?);
        let mut shape = b.shape.to_vec();
        let bad = || OpError::invalid(format!("operands of shapes {} and {}", a.shape, b.shape));
        if node.op_type == "PRelu" {
            // Slopes of a whole shape are as later opsets have them.
            if b.shape.rank() == 1 && b.shape.elements() != 1 {
                shape.resize(a.shape.rank().max(2) - 1, 1);
            }
        } else {
            let broadcasts = attrs.int_or("broadcast", 0)? != 0;
            let at = attrs.int("axis")?;
            if !broadcasts && a.shape != b.shape {
                return Err(bad());
            }
            if let Some(at) = at.filter(|_| broadcasts && !shape.is_empty()) {
                let behind = a.shape.rank() - axis(at, a.shape.rank())?;
                if behind < shape.len() {
                    return Err(bad());
                }
                shape.resize(behind, 1);
            }
        }
        if broadcast_shape([a.shape, &shape.as_slice().into()])? != *a.shape {
            return Err(bad());
        }
        let mut s = Script::new(&["a", "b"]);
        let b = if shape == b.shape.dims() { "b".to_owned() } else { s.reshape("b", &shape) };
        let y = s.op(node.op_type, &["a", &b]);
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run_at};
    use super::super::testing::f32s;
    use crate::ir::Tensor;

    #[test]
    fn the_second_operand_starts_at_an_axis() {
        let a = f32s(&[2, 3, 1], &[1., 2., 3., 4., 5., 6.]);
        let run = |op: &str, b: &Tensor| run_at(6, op, &[Some(&a), Some(b)], 1);
        let rows = f32s(&[2], &[10., 20.]);
        let y = run("Add <broadcast = 1, axis = 0>", &rows).unwrap();
        close(&y[0], &[11., 12., 13., 24., 25., 26.]);
        let y = run("Add <broadcast = 1, axis = 1>", &f32s(&[3], &[10., 20., 30.])).unwrap();
        close(&y[0], &[11., 22., 33., 14., 25., 36.]);
        let y = run("Sub <broadcast = 1>", &f32s(&[3, 1], &[1., 2., 3.])).unwrap();
        close(&y[0], &[0., 0., 0., 3., 3., 3.]);
        assert!(run("Add", &rows).is_err(), "no broadcasting unless asked for");
        assert!(run("Add <broadcast = 1, axis = 2>", &f32s(&[3, 1], &[1., 2., 3.])).is_err());
        assert!(
            run("Add <broadcast = 1>", &f32s(&[1, 2, 3, 1], &[0.; 6])).is_err(),
            "the result is like `a`"
        );
    }

    #[test]
    fn a_slope_per_channel() {
        let x = f32s(&[1, 2, 2], &[-1., 2., -3., -4.]);
        let y = run_at(6, "PRelu", &[Some(&x), Some(&f32s(&[2], &[0.5, 2.]))], 1).unwrap();
        close(&y[0], &[-0.5, 2., -6., -8.]);
        let y = run_at(6, "PRelu", &[Some(&x), Some(&f32s(&[1], &[0.5]))], 1).unwrap();
        close(&y[0], &[-0.5, 2., -1.5, -2.]);
    }
}
