//! Products of 8-bit integers that become floats, of
//! [`com.microsoft`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md):
//! `DynamicQuantizeMatMul` (which quantizes its left operand by its range) and `MatMulIntegerToFloat`.

use super::composite::{Composite, Script};
use super::dynamic_quantize::quantized;
use super::qlinear_matmul::scalar_or;
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `a` (floats), `b`, `b_scale`, `b_zero`, bias; or `a`, `b`, `a_scale`, `b_scale`, `a_zero`, `b_zero`,
/// bias. Zero points and bias are optional; parameters of `b` may be per column.
pub struct DynamicQuantizeMatMul;

impl Composite for DynamicQuantizeMatMul {
    const NAMES: &'static [OnnxName] = &[
        OnnxName { domain: "com.microsoft", op_type: "DynamicQuantizeMatMul", since: 1 },
        OnnxName { domain: "com.microsoft", op_type: "MatMulIntegerToFloat", since: 1 },
    ];

    fn body(_attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let dynamic = node.op_type == "DynamicQuantizeMatMul";
        let present = |i: usize, name: &'static str| if inputs.get(i).is_some() { name } else { "" };
        let (mut s, [b_scale, b_zero, bias]) = if dynamic {
            (Script::new(&["a", "b", "b_scale", "b_zero", "bias"]), [2, 3, 4])
        } else {
            (Script::new(&["a", "b", "a_scale", "b_scale", "a_zero", "b_zero", "bias"]), [3, 5, 6])
        };
        let scale_fact = inputs.required(b_scale)?;
        let (a, a_scale, a_zero) = if dynamic {
            let [a, scale, zero] = quantized(&mut s, "a")?;
            (a, scale, zero)
        } else {
            let scale = scalar_or(&mut s, inputs.required(2)?, "a_scale");
            ("a".to_owned(), scale, present(4, "a_zero").to_owned())
        };
        let sums = s.op("MatMulInteger", &[&a, "b", &a_zero, present(b_zero, "b_zero")]);
        let floats = s.cast(&sums, scale_fact.dtype);
        let scale = scalar_or(&mut s, scale_fact, "b_scale");
        let scale = s.op("Mul", &[&a_scale, &scale]);
        let mut y = s.op("Mul", &[&floats, &scale]);
        if inputs.get(bias).is_some() {
            y = s.op("Add", &[&y, "bias"]);
        }
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::f32s;
    use crate::ir::Tensor;

    #[test]
    fn by_the_range_of_the_left_operand() {
        let b = Tensor::new([2, 2], vec![1i8, -2, 3, 4]).unwrap();
        let (sb, bias) = (Tensor::vector(&[1.0f32, 0.5]), Tensor::vector(&[10.0f32, 0.0]));
        // The range 0..255 makes steps of 1.
        let a = f32s(&[1, 2], &[255.0, 2.4]);
        let all = [Some(&a), Some(&b), Some(&sb), None, Some(&bias)];
        close(&run("com.microsoft.DynamicQuantizeMatMul", &all, 1).unwrap()[0], &[271.0, -251.0]);
        let a = Tensor::new([1, 2], vec![255u8, 2]).unwrap();
        let (sa, za) = (Tensor::scalar(2.0f32), Tensor::scalar(1u8));
        let all = [Some(&a), Some(&b), Some(&sa), Some(&sb), Some(&za), None, Some(&bias)];
        close(&run("com.microsoft.MatMulIntegerToFloat", &all, 1).unwrap()[0], &[524.0, -504.0]);
    }
}
