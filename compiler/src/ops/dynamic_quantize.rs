//! [DynamicQuantizeLinear](https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html): quantization
//! to `u8` by the range that the data have, widened to hold 0.

use super::composite::{Composite, Script};
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::DType;
use crate::onnx::{AttrReader, NodeView};

/// Operand: `x` (`f32`). Results: `y` (`u8`), its scale and its zero point.
pub struct DynamicQuantizeLinear;

impl Composite for DynamicQuantizeLinear {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("DynamicQuantizeLinear", 11)];

    fn body(
        _attrs: &mut AttrReader<'_>,
        _node: &NodeView<'_>,
        _inputs: &Inputs<'_>,
    ) -> Result<Body, OpError> {
        let mut s = Script::new(&["x"]);
        let [y, scale, zero] = quantized(&mut s, "x")?;
        s.finish(&[&y, &scale, &zero])
    }
}

/// `x` quantized, its scale, and its zero point.
pub(super) fn quantized(s: &mut Script, x: &str) -> Result<[String; 3], OpError> {
    let nothing = s.scalar(DType::F32, 0.0)?;
    let [one, top] = [s.scalar(DType::F32, 1.0)?, s.scalar(DType::F32, 255.0)?];
    let high = s.op("ReduceMax <keepdims = 0>", &[x]);
    let high = s.op("Max", &[&high, &nothing]);
    let low = s.op("ReduceMin <keepdims = 0>", &[x]);
    let low = s.op("Min", &[&low, &nothing]);
    let range = s.op("Sub", &[&high, &low]);
    // A tensor of zeros has the range of one.
    let none = s.op("Equal", &[&high, &low]);
    let range = s.op("Where", &[&none, &one, &range]);
    let scale = s.op("Div", &[&range, &top]);
    let zero = s.op("Div", &[&low, &scale]);
    let zero = s.op("Sub", &[&nothing, &zero]);
    let zero = s.op("Clip", &[&zero, &nothing, &top]);
    let zero = s.op("Round", &[&zero]);
    let zero = s.cast(&zero, DType::U8);
    let y = s.op("QuantizeLinear", &[x, &scale, &zero]);
    Ok([y, scale, zero])
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run;
    use super::super::testing::f32s;
    use crate::ir::Tensor;

    #[test]
    fn ranges_hold_zero() {
        let x = f32s(&[6], &[0.0, 2.0, -3.0, -2.5, 1.34, 0.5]);
        let y = run("DynamicQuantizeLinear", &[Some(&x)], 3).unwrap();
        assert_eq!(y[0], Tensor::vector(&[153u8, 255, 0, 26, 221, 179]));
        assert_eq!((y[1].clone(), y[2].clone()), (Tensor::scalar(5.0f32 / 255.0), Tensor::scalar(153u8)));
        let y = run("DynamicQuantizeLinear", &[Some(&f32s(&[2], &[0.0, 0.0]))], 3).unwrap();
        assert_eq!((y[0].clone(), y[2].clone()), (Tensor::vector(&[0u8, 0]), Tensor::scalar(0u8)));
    }
}
