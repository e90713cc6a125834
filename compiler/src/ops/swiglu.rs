//! [SwiGLU](https://onnx.ai/onnx/operators/onnx__SwiGLU.html): `Swish(a)·b`.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: the gate and the values, of one shape.
pub struct SwiGlu;

impl Composite for SwiGlu {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("SwiGLU", 28)];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let alpha = attrs.float_or("alpha", 1.0)?;
        let (a, b) = (inputs.required(0)?, inputs.required(1)?);
        expect_float(a.dtype)?;
        if a.shape != b.shape {
            return Err(OpError::invalid(format!("operands of shapes {} and {}", a.shape, b.shape)));
        }
        let mut s = Script::new(&["a", "b"]);
        let gate = s.op(&format!("Swish <alpha = {alpha:?}>"), &["a"]);
        let y = s.op("Mul", &[&gate, "b"]);
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run_at};
    use super::super::testing::f32s;

    #[test]
    fn the_gate_is_a_swish() {
        let (a, b) = (f32s(&[2], &[0., 3.]), f32s(&[2], &[7., 2.]));
        let y = run_at(28, "SwiGLU <alpha = 2.0>", &[Some(&a), Some(&b)], 1).unwrap();
        close(&y[0], &[0., 6. / (1. + (-6f64).exp())]);
        assert!(run_at(28, "SwiGLU", &[Some(&a), Some(&f32s(&[1], &[1.]))], 1).is_err());
    }
}
