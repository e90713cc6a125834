//! [`QGemm`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QGemm):
//! a product of 8-bit integers with exact sums, requantized, or as floats where the result has no scale.

use super::composite::{Composite, Script};
use super::qlinear_matmul::scalar_or;
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::DType;
use crate::onnx::{AttrReader, NodeView};

/// Operands: `a`, `a_scale`, `a_zero`, `b`, `b_scale`, `b_zero`, `c` (32-bit integers in steps of
/// `alpha·a_scale·b_scale`, optional), `y_scale` and `y_zero` (optional). Those of `b` may be per column.
pub struct QGemm;

impl Composite for QGemm {
    const NAMES: &'static [OnnxName] = &[OnnxName { domain: "com.microsoft", op_type: "QGemm", since: 1 }];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let alpha = attrs.float_or("alpha", 1.0)?;
        let turned = [attrs.int_or("transA", 0)? != 0, attrs.int_or("transB", 0)? != 0];
        let mut s =
            Script::new(&["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "c", "y_scale", "y_zero"]);
        let [a, b] = [("a", turned[0]), ("b", turned[1])].map(|(name, turned)| match turned {
            true => s.op("Transpose <perm = [1, 0]>", &[name]),
            false => name.to_owned(),
        });
        let a_zero = s.reshape("a_zero", &[]);
        let b_zero = scalar_or(&mut s, inputs.required(5)?, "b_zero");
        let mut sums = s.op("MatMulInteger", &[&a, &b, &a_zero, &b_zero]);
        if inputs.get(6).is_some() {
            sums = s.op("Add", &[&sums, "c"]);
        }
        let alpha = s.scalar(DType::F32, f64::from(alpha))?;
        let a_scale = s.reshape("a_scale", &[]);
        let b_scale = scalar_or(&mut s, inputs.required(4)?, "b_scale");
        let scale = s.op("Mul", &[&alpha, &a_scale]);
        let scale = s.op("Mul", &[&scale, &b_scale]);
        let y = match (inputs.get(7), inputs.get(8)) {
            (Some(_), zero) => {
                let y_scale = s.reshape("y_scale", &[]);
                let scale = s.op("Div", &[&scale, &y_scale]);
                let zero = match zero {
                    Some(_) => s.reshape("y_zero", &[]),
                    None => s.scalar(inputs.required(0)?.dtype, 0.0)?,
                };
                s.op("edgec.internal.Requantize", &[&sums, &scale, &zero])
            }
            (None, None) => {
                let floats = s.cast(&sums, DType::F32);
                s.op("Mul", &[&floats, &scale])
            }
            (None, Some(_)) => return Err(OpError::invalid("a zero point of the result without a scale")),
        };
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use crate::ir::Tensor;

    #[test]
    fn quantized_or_float_results() {
        let a = Tensor::new([2, 1], vec![11u8, 13]).unwrap();
        let b = Tensor::new([2, 2], vec![1i8, 2, 3, -4]).unwrap();
        let (sa, za) = (Tensor::scalar(0.5f32), Tensor::scalar(10u8));
        let (sb, zb) = (Tensor::vector(&[1.0f32, 2.0]), Tensor::vector(&[0i8, 0]));
        let (c, sy, zy) = (Tensor::vector(&[4i32, 0]), Tensor::scalar(1.0f32), Tensor::scalar(5u8));
        let op = "com.microsoft.QGemm <transA = 1, transB = 1, alpha = 2.0>";
        let all = [&a, &sa, &za, &b, &sb, &zb, &c, &sy, &zy].map(Some);
        // Sums [1·1 + 3·2 + 4, 1·3 - 3·4] = [11, -9], scales [1, 2].
        assert_eq!(run(op, &all, 1).unwrap()[0], Tensor::new([1, 2], vec![16u8, 0]).unwrap());
        close(&run(op, &all[..7], 1).unwrap()[0], &[11.0, -18.0]);
    }
}
