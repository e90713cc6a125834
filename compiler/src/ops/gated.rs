//! `ScaledSiLU`, `GatedRMSNorm` and `GatedAdd` of
//! [`com.microsoft`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `x` and an optional scale; `x`, the norm's weights and the gate; `x`, `y`, the gate, and what projects it.
pub struct Gated;

const fn ms(op_type: &'static str) -> OnnxName {
    OnnxName { domain: "com.microsoft", op_type, since: 1 }
}

impl Composite for Gated {
    const NAMES: &'static [OnnxName] = &[ms("ScaledSiLU"), ms("GatedRMSNorm"), ms("GatedAdd")];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        let mut s = Script::new(&["x", "a", "gate", "weight"]);
        let y = match node.op_type {
            "ScaledSiLU" => {
                let scale = match inputs.get(1) {
                    Some(scale) if scale.shape.elements() == 1 => {
                        let scale = s.reshape("a", &[]);
                        s.cast(&scale, x.dtype)
                    }
                    Some(scale) => return Err(OpError::invalid(format!("a scale of shape {}", scale.shape))),
                    None => s.scalar(x.dtype, attrs.float_or("alpha", 1.0)?.into())?,
                };
                attrs.ignore("alpha");
                let z = s.op("Mul", &["x", &scale]);
                let gate = s.op("Sigmoid", &[&z]);
                s.op("Mul", &[&z, &gate])
            }
            "GatedRMSNorm" => {
                let (scale, gate) = (inputs.required(1)?, inputs.required(2)?);
                let epsilon = attrs.float_or("epsilon", 1e-5)?;
                let width = scale.shape.elements();
                let last = x.shape.dims().last().copied().unwrap_or(0);
                if width == 0 || last % width != 0 || gate.shape != x.shape {
                    return Err(OpError::invalid(format!("{width} weights for rows of {last}")));
                }
                let rows = s.reshape("x", &[x.shape.elements() / width, width]);
                let normal =
                    s.op(&format!("RMSNormalization <axis = -1, epsilon = {epsilon:?}>"), &[&rows, "a"]);
                let normal = s.reshape(&normal, x.shape.dims());
                let open = match attrs.text("activation")?.unwrap_or("silu") {
                    "silu" | "swish" => s.op("Swish", &["gate"]),
                    "sigmoid" => s.op("Sigmoid", &["gate"]),
                    other => return Err(OpError::invalid(format!("attribute `activation` is `{other}`"))),
                };
                s.op("Mul", &[&normal, &open])
            }
            _ => {
                let gate = match inputs.get(3) {
                    Some(_) => {
                        let sum = s.op("MatMul", &["gate", "weight"]);
                        s.op("Sigmoid", &[&sum])
                    }
                    None => "gate".to_owned(),
                };
                let part = s.op("Mul", &["a", &gate]);
                s.op("Add", &["x", &part])
            }
        };
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::f32s;

    // Expectations are ONNX Runtime's.

    #[test]
    fn all_forms() {
        let x = f32s(&[3], &[-1., 0.5, 2.]);
        let expected = [-0.273_638, 0.509_384, 2.857_722];
        close(&run("com.microsoft.ScaledSiLU <alpha = 1.5>", &[Some(&x)], 1).unwrap()[0], &expected);
        let scale = f32s(&[], &[1.5]);
        close(&run("com.microsoft.ScaledSiLU", &[Some(&x), Some(&scale)], 1).unwrap()[0], &expected);

        let (x, gate) = (f32s(&[1, 4], &[1., 2., -3., 4.]), f32s(&[1, 4], &[0.5, -1., 2., 1.]));
        let scale = f32s(&[2], &[1., 0.5]);
        let y = run("com.microsoft.GatedRMSNorm", &[Some(&x), Some(&scale), Some(&gate)], 1).unwrap();
        close(&y[0], &[0.196_839, -0.170_093, -1.494_762, 0.413_549]);
        let (x, gate) = (f32s(&[1, 2], &[1., 2.]), f32s(&[1, 2], &[0.5, -1.]));
        let op = "com.microsoft.GatedRMSNorm <activation = \"sigmoid\", epsilon = 0.5>";
        close(&run(op, &[Some(&x), Some(&scale), Some(&gate)], 1).unwrap()[0], &[0.359_377, 0.155_273]);

        let y = run("com.microsoft.GatedAdd", &[&x, &gate, &f32s(&[1, 1], &[2.])].map(Some), 1).unwrap();
        close(&y[0], &[2., 0.]);
        let project = f32s(&[2, 1], &[1., 1.]);
        let y = run("com.microsoft.GatedAdd", &[&x, &x, &gate, &project].map(Some), 1).unwrap();
        let open = 1. / (1. + 0.5f64.exp());
        close(&y[0], &[1. + open, 2. + 2. * open]);
    }
}
