//! [QLinearConv](https://onnx.ai/onnx/operators/onnx__QLinearConv.html), also of
//! [`com.microsoft`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearConv):
//! a convolution of 8-bit integers with exact sums, requantized.

use super::composite::{Composite, Script};
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `x`, `x_scale`, `x_zero`, `w`, `w_scale`, `w_zero`, `y_scale`, `y_zero`, and a bias of 32-bit
/// integers in steps of `x_scale·w_scale`. Those of `w` may be per output channel.
pub struct QLinearConv;

impl Composite for QLinearConv {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("QLinearConv", 10),
        OnnxName { domain: "com.microsoft", op_type: "QLinearConv", since: 1 },
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let last = !node.domain.is_empty() && attrs.int_or("channels_last", 0)? != 0;
        let mut s =
            Script::new(&["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "bias"]);
        let rank = inputs.required(0)?.shape.rank();
        let outputs = inputs.required(3)?.shape.first().copied().unwrap_or(0);
        let present = |i: usize, name: &'static str| if inputs.get(i).is_some() { name } else { "" };
        let x = if last { s.channels_first("x", rank) } else { "x".to_owned() };
        let (window, group) = (window(attrs)?, attrs.int_or("group", 1)?);
        let operands = [x.as_str(), "w", present(2, "x_zero"), present(5, "w_zero")];
        let mut sums = s.op(&format!("ConvInteger <{window}, group = {group}>"), &operands);
        // Per output channel: axis 1 of the sums.
        let per_channel = |s: &mut Script, name: &str, len: usize| {
            let mut shape = vec![1; rank.saturating_sub(1)];
            if let Some(d) = shape.first_mut() {
                *d = len;
            }
            s.reshape(name, &shape)
        };
        if inputs.get(8).is_some() {
            let bias = per_channel(&mut s, "bias", outputs);
            sums = s.op("Add", &[&sums, &bias]);
        }
        let mut scale = "w_scale".to_owned();
        if inputs.required(4)?.shape.elements() != 1 {
            scale = per_channel(&mut s, "w_scale", outputs);
        }
        let [x_scale, y_scale] = ["x_scale", "y_scale"].map(|name| s.reshape(name, &[]));
        if inputs.required(4)?.shape.elements() == 1 {
            scale = s.reshape("w_scale", &[]);
        }
        let scale = s.op("Mul", &[&x_scale, &scale]);
        let scale = s.op("Div", &[&scale, &y_scale]);
        let zero = match inputs.get(7) {
            Some(_) => s.reshape("y_zero", &[]),
            None => s.scalar(inputs.required(0)?.dtype, 0.0)?,
        };
        let mut y = s.op("edgec.internal.Requantize", &[&sums, &scale, &zero]);
        if last {
            y = s.channels_last(&y, rank);
        }
        s.finish(&[&y])
    }
}

/// The attributes of windows, as text of a body; some are there.
pub(super) fn window(attrs: &mut AttrReader<'_>) -> Result<String, OpError> {
    let mut text = Vec::new();
    for name in ["kernel_shape", "strides", "dilations", "pads"] {
        if let Some(values) = attrs.ints(name)? {
            text.push(format!("{name} = {values:?}"));
        }
    }
    match attrs.text("auto_pad")? {
        None | Some("") => text.push("auto_pad = \"NOTSET\"".to_owned()),
        Some(name @ ("NOTSET" | "VALID" | "SAME_UPPER" | "SAME_LOWER")) => {
            text.push(format!("auto_pad = \"{name}\""));
        }
        Some(other) => return Err(OpError::invalid(format!("`auto_pad` is `{other}`"))),
    }
    Ok(text.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run;
    use crate::ir::Tensor;

    #[test]
    fn sums_are_exact_and_rounded_once() {
        let x = Tensor::new([1, 1, 1, 3], vec![10u8, 20, 255]).unwrap();
        let w = Tensor::new([2, 1, 1, 1], vec![3i8, -2]).unwrap();
        let (sx, zx) = (Tensor::scalar(0.5f32), Tensor::scalar(10u8));
        let (sw, zw) = (Tensor::vector(&[1.0f32, 0.25]), Tensor::vector(&[0i8, 0]));
        let (sy, zy) = (Tensor::scalar(2.0f32), Tensor::scalar(100u8));
        let bias = Tensor::vector(&[4i32, -8]);
        let all = [&x, &sx, &zx, &w, &sw, &zw, &sy, &zy, &bias].map(Some);
        let y = run("QLinearConv", &all, 1).unwrap();
        // Sums [4, 34, 739] and [-8, -28, -498]; scales 1/4 and 1/16.
        assert_eq!(y[0], Tensor::new([1, 2, 1, 3], vec![101u8, 108, 255, 100, 98, 69]).unwrap());
        let last = x.reshaped([1, 1, 3, 1]).unwrap();
        let all = [&last, &sx, &zx, &w, &sw, &zw, &sy, &zy, &bias].map(Some);
        let y = run("com.microsoft.QLinearConv <channels_last = 1>", &all, 1).unwrap();
        assert_eq!(y[0], Tensor::new([1, 1, 3, 2], vec![101u8, 100, 108, 98, 255, 69]).unwrap());
    }
}
