//! [`QLinearSoftmax`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearSoftmax):
//! softmax between dequantization and quantization.

use super::composite::{Composite, Script};
use super::qlinear::{Quantized, dequantized, quantized};
use super::walk::axis;
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `x`, its scale and zero point, scale and zero point of the result. Attribute `opset` says whose
/// meaning of `axis` holds.
pub struct QLinearSoftmax;

impl Composite for QLinearSoftmax {
    const NAMES: &'static [OnnxName] =
        &[OnnxName { domain: "com.microsoft", op_type: "QLinearSoftmax", since: 1 }];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let x = inputs.required(0)?;
        let at = axis(attrs.int_or("axis", -1)?, x.shape.rank())?;
        let opset = AttrReader::required("opset", attrs.int("opset")?)?;
        let mut s = Script::new(&["x", "x_scale", "x_zero", "y_scale", "y_zero"]);
        let floats = dequantized(&mut s, inputs, Quantized { names: ["x", "x_scale", "x_zero"], zero: 2 })?;
        let y = if opset < 13 {
            // Over all axes from this one on.
            let (outer, inner) = x.shape.split_at(at.min(x.shape.rank()));
            let flat = s.reshape(&floats, &[outer.iter().product(), inner.iter().product()]);
            let y = s.op("Softmax <axis = 1>", &[&flat]);
            s.reshape(&y, x.shape)
        } else {
            s.op(&format!("Softmax <axis = {at}>"), &[&floats])
        };
        let y = quantized(&mut s, inputs, Quantized { names: [&y, "y_scale", "y_zero"], zero: 4 }, x.dtype)?;
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run;
    use crate::ir::Tensor;

    #[test]
    fn along_one_axis_or_all_behind_it() {
        let x = Tensor::new([1, 2, 2], vec![0i8, 0, 100, 0]).unwrap();
        let (sx, zx) = (Tensor::scalar(1.0f32), Tensor::scalar(0i8));
        let (sy, zy) = (Tensor::scalar(1.0f32 / 256.0), Tensor::scalar(-128i8));
        let all = [&x, &sx, &zx, &sy, &zy].map(Some);
        let y = run("com.microsoft.QLinearSoftmax <axis = 2, opset = 13>", &all, 1).unwrap();
        assert_eq!(y[0].to_i64_vec().unwrap(), [0, 0, 127, -128]);
        let y = run("com.microsoft.QLinearSoftmax <axis = 1, opset = 12>", &all, 1).unwrap();
        assert_eq!(y[0].to_i64_vec().unwrap(), [-128, -128, 127, -128]);
        assert!(run("com.microsoft.QLinearSoftmax <axis = 1>", &all, 1).is_err(), "which meaning?");
    }
}
