//! Quantized average pools of
//! [`com.microsoft`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md):
//! `QLinearAveragePool`, `QLinearGlobalAveragePool`: the float pool between dequantization and quantization.

use super::composite::{Composite, Script};
use super::qlinear::{Quantized, dequantized, quantized};
use super::qlinear_conv::window;
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `x`, its scale and zero point, scale and zero point of the result.
pub struct QLinearPool;

impl Composite for QLinearPool {
    const NAMES: &'static [OnnxName] = &[
        OnnxName { domain: "com.microsoft", op_type: "QLinearAveragePool", since: 1 },
        OnnxName { domain: "com.microsoft", op_type: "QLinearGlobalAveragePool", since: 1 },
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let x = inputs.required(0)?;
        let rank = x.shape.rank();
        let last = attrs.int_or("channels_last", 0)? != 0;
        let op = if node.op_type == "QLinearGlobalAveragePool" {
            "GlobalAveragePool".to_owned()
        } else {
            let (ceil, pad) = (attrs.int_or("ceil_mode", 0)?, attrs.int_or("count_include_pad", 0)?);
            format!("AveragePool <{}, ceil_mode = {ceil}, count_include_pad = {pad}>", window(attrs)?)
        };
        let mut s = Script::new(&["x", "x_scale", "x_zero", "y_scale", "y_zero"]);
        let planar = if last { s.channels_first("x", rank) } else { "x".to_owned() };
        let operand = Quantized { names: [&planar, "x_scale", "x_zero"], zero: 2 };
        let floats = dequantized(&mut s, inputs, operand)?;
        let y = s.op(&op, &[&floats]);
        let y = quantized(&mut s, inputs, Quantized { names: [&y, "y_scale", "y_zero"], zero: 4 }, x.dtype)?;
        let y = if last { s.channels_last(&y, rank) } else { y };
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run;
    use crate::ir::Tensor;

    #[test]
    fn windows_and_everything() {
        let x = Tensor::new([1, 1, 2, 4], vec![0u8, 4, 8, 12, 4, 8, 12, 17]).unwrap();
        let (one, zero) = (Tensor::scalar(1.0f32), Tensor::scalar(4u8));
        let all = [&x, &one, &zero, &one, &zero].map(Some);
        let pool = "com.microsoft.QLinearAveragePool <kernel_shape = [2, 2], strides = [2, 2]>";
        assert_eq!(run(pool, &all, 1).unwrap()[0].to_i64_vec().unwrap(), [4, 12]);
        let global = run("com.microsoft.QLinearGlobalAveragePool", &all, 1).unwrap();
        assert_eq!(global[0], Tensor::full([1, 1, 1, 1], 8u8));
        let last = x.reshaped([1, 2, 4, 1]).unwrap();
        let all = [&last, &one, &zero, &one, &zero].map(Some);
        let pool = "com.microsoft.QLinearAveragePool <kernel_shape = [2, 4], channels_last = 1>";
        assert_eq!(run(pool, &all, 1).unwrap()[0], Tensor::full([1, 1, 1, 1], 8u8));
    }
}
