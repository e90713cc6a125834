//! Quantized elementwise operators and means of
//! [`com.microsoft`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md):
//! `QLinearAdd`, `QLinearMul`, `QLinearSigmoid`, `QLinearLeakyRelu`, `QLinearWhere`, `QLinearReduceMean`.
//!
//! Defined by the float operator between dequantized operands and a quantized result.

use super::composite::{Composite, Script};
use super::qlinear::{Quantized, dequantized, quantized};
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: per quantized one its value, scale and zero point; then scale and zero point of the result.
/// `QLinearWhere` has its condition in front.
pub struct QLinearElementwise;

impl Composite for QLinearElementwise {
    const NAMES: &'static [OnnxName] = &[
        OnnxName { domain: "com.microsoft", op_type: "QLinearAdd", since: 1 },
        OnnxName { domain: "com.microsoft", op_type: "QLinearMul", since: 1 },
        OnnxName { domain: "com.microsoft", op_type: "QLinearSigmoid", since: 1 },
        OnnxName { domain: "com.microsoft", op_type: "QLinearLeakyRelu", since: 1 },
        OnnxName { domain: "com.microsoft", op_type: "QLinearWhere", since: 1 },
        OnnxName { domain: "com.microsoft", op_type: "QLinearReduceMean", since: 1 },
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let (lead, operands) = match node.op_type {
            "QLinearAdd" | "QLinearMul" => (0, 2),
            "QLinearWhere" => (1, 2),
            _ => (0, 1),
        };
        let names: Vec<String> = (0..lead + 3 * operands + 2).map(|i| format!("x{i}")).collect();
        let mut s = Script::numbered(names.len());
        let name = |i: usize| names.get(i).map_or("", String::as_str);
        let mut floats = Vec::new();
        for first in (0..operands).map(|i| lead + 3 * i) {
            let operand =
                Quantized { names: [name(first), name(first + 1), name(first + 2)], zero: first + 2 };
            floats.push(dequantized(&mut s, inputs, operand)?);
        }
        let op = match node.op_type {
            "QLinearAdd" => "Add".to_owned(),
            "QLinearMul" => "Mul".to_owned(),
            "QLinearSigmoid" => "Sigmoid".to_owned(),
            "QLinearLeakyRelu" => format!("LeakyRelu <alpha = {:?}>", attrs.float_or("alpha", 0.01)?),
            "QLinearWhere" => "Where".to_owned(),
            _ => format!("ReduceMean <keepdims = {}>", attrs.int_or("keepdims", 1)?),
        };
        let mut arguments: Vec<&str> = (0..lead).map(name).chain(floats.iter().map(String::as_str)).collect();
        let axes = if node.op_type == "QLinearReduceMean" { attrs.ints("axes")? } else { None };
        let axes = axes.map(|axes| s.ints(&axes));
        arguments.extend(axes.as_deref());
        let y = s.op(&op, &arguments);
        let last = lead + 3 * operands;
        let result = Quantized { names: [&y, name(last), name(last + 1)], zero: last + 1 };
        let y = quantized(&mut s, inputs, result, inputs.required(lead)?.dtype)?;
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run;
    use crate::ir::Tensor;

    fn scale(x: f32) -> Tensor {
        Tensor::scalar(x)
    }

    #[test]
    fn sums_and_products() {
        let (a, b) = (Tensor::vector(&[10i8, -20, 127]), Tensor::vector(&[1i8, 2, 127]));
        let (one, half, zero) = (scale(1.0), scale(0.5), Tensor::scalar(2i8));
        let all = [Some(&a), Some(&half), Some(&zero), Some(&b), Some(&one), None, Some(&one), Some(&zero)];
        assert_eq!(run("com.microsoft.QLinearAdd", &all, 1).unwrap()[0], Tensor::vector(&[7i8, -7, 127]));
        assert_eq!(run("com.microsoft.QLinearMul", &all, 1).unwrap()[0], Tensor::vector(&[6i8, -20, 127]));
        let several = Tensor::vector(&[1i8, 2]);
        let all = [Some(&a), Some(&half), Some(&several), Some(&b), Some(&one), None, Some(&one)];
        assert!(run("com.microsoft.QLinearAdd", &all, 1).is_err());
    }

    #[test]
    fn functions_choice_and_mean() {
        let x = Tensor::new([2, 2], vec![0u8, 128, 136, 255]).unwrap();
        let (sx, zx) = (scale(0.5), Tensor::scalar(128u8));
        let y = |op: &str, sy: f32| {
            run(op, &[&x, &sx, &zx, &scale(sy), &Tensor::scalar(0u8)].map(Some), 1).unwrap().remove(0)
        };
        let sigmoid = y("com.microsoft.QLinearSigmoid", 1.0 / 256.0);
        assert_eq!(sigmoid.to_i64_vec().unwrap(), [0, 128, 251, 255]);
        let leaky = y("com.microsoft.QLinearLeakyRelu <alpha = 0.5>", 0.5);
        assert_eq!(leaky.to_i64_vec().unwrap(), [0, 0, 8, 127]);
        let mean = y("com.microsoft.QLinearReduceMean <axes = [1], keepdims = 0>", 0.25);
        assert_eq!(mean, Tensor::vector(&[0u8, 135]));
        let (c, b) = (Tensor::new([2, 1], vec![true, false]).unwrap(), Tensor::vector(&[1u8]));
        let (one, zero) = (scale(1.0), Tensor::scalar(0u8));
        let all = [&c, &x, &sx, &zx, &b, &one, &zero, &one, &zx].map(Some);
        let y = run("com.microsoft.QLinearWhere", &all, 1).unwrap();
        assert_eq!(y[0].to_i64_vec().unwrap(), [64, 128, 129, 129]);
    }
}
