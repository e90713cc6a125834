//! [`QLinearConcat`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearConcat):
//! operands brought to the result's scale, one behind another.

use super::composite::{Composite, Script};
use super::qlinear::{Quantized, dequantized, quantized};
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: scale and zero point of the result; then value, scale and zero point of each part.
pub struct QLinearConcat;

impl Composite for QLinearConcat {
    const NAMES: &'static [OnnxName] =
        &[OnnxName { domain: "com.microsoft", op_type: "QLinearConcat", since: 1 }];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let axis = AttrReader::required("axis", attrs.int("axis")?)?;
        if inputs.len() < 5 || inputs.len() % 3 != 2 {
            return Err(OpError::invalid(format!(
                "{} operands, expected 2 and 3 for each part",
                inputs.len()
            )));
        }
        let mut s = Script::numbered(inputs.len());
        let like = inputs.required(1)?.dtype;
        let mut parts = Vec::new();
        for first in (2..inputs.len()).step_by(3) {
            let [x, scale, zero] = [first, first + 1, first + 2].map(|i| format!("x{i}"));
            let operand = Quantized { names: [&x, &scale, &zero], zero: first + 2 };
            let floats = dequantized(&mut s, inputs, operand)?;
            parts.push(quantized(&mut s, inputs, Quantized { names: [&floats, "x0", "x1"], zero: 1 }, like)?);
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let y = s.op(&format!("Concat <axis = {axis}>"), &parts);
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run;
    use crate::ir::Tensor;

    #[test]
    fn parts_take_the_results_scale() {
        let (a, b) =
            (Tensor::new([2, 1], vec![1u8, 3]).unwrap(), Tensor::new([2, 1], vec![10u8, 250]).unwrap());
        let (half, one) = (Tensor::scalar(0.5f32), Tensor::scalar(1.0f32));
        let (zero, ten) = (Tensor::scalar(0u8), Tensor::scalar(10u8));
        let all = [&half, &ten, &a, &one, &zero, &b, &half, &ten].map(Some);
        let y = run("com.microsoft.QLinearConcat <axis = 1>", &all, 1).unwrap();
        assert_eq!(y[0], Tensor::new([2, 2], vec![12u8, 10, 16, 250]).unwrap());
        assert!(run("com.microsoft.QLinearConcat <axis = 1>", &all[..7], 1).is_err());
    }
}
