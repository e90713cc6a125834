//! [QLinearMatMul](https://onnx.ai/onnx/operators/onnx__QLinearMatMul.html): a product of 8-bit integers
//! with exact sums, requantized.

use super::composite::{Composite, Script};
use super::{Body, Fact, Inputs, OnnxName, OpError};
use crate::ir::DType;
use crate::onnx::{AttrReader, NodeView};

/// Operands: `a`, `a_scale`, `a_zero`, `b`, `b_scale`, `b_zero`, `y_scale`, `y_zero`. Those of `a` and `y` may be
/// per row, those of `b` per column.
pub struct QLinearMatMul;

impl Composite for QLinearMatMul {
    const NAMES: &'static [OnnxName] =
        &[OnnxName::onnx("QLinearMatMul", 10), OnnxName::onnx("QLinearMatMul", 21)];

    fn body(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let mut s = Script::new(&["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]);
        let sums = s.op("MatMulInteger", &["a", "b", "a_zero", "b_zero"]);
        // Products of scales are rounded to their own type.
        let [a, b, y] =
            [(1, "a_scale"), (4, "b_scale"), (6, "y_scale")].map(|(i, name)| (inputs.required(i), name));
        let a = over_rows(&mut s, a.0?, a.1);
        let b = scalar_or(&mut s, b.0?, b.1);
        let y = over_rows(&mut s, y.0?, y.1);
        let scale = s.op("Mul", &[&a, &b]);
        let scale = s.op("Div", &[&scale, &y]);
        let scale = s.cast(&scale, DType::F32);
        let zero = over_rows(&mut s, inputs.required(7)?, "y_zero");
        let y = s.op("edgec.internal.Requantize", &[&sums, &scale, &zero]);
        s.finish(&[&y])
    }
}

/// One parameter for all as a scalar.
pub(super) fn scalar_or(s: &mut Script, fact: Fact<'_>, name: &str) -> String {
    if fact.shape.elements() == 1 { s.reshape(name, &[]) } else { name.to_owned() }
}

/// One parameter for all as a scalar, a vector of one per row upright.
fn over_rows(s: &mut Script, fact: Fact<'_>, name: &str) -> String {
    match fact.shape.dims() {
        [n] if *n != 1 => s.reshape(name, &[*n, 1]),
        _ => scalar_or(s, fact, name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run;
    use crate::ir::Tensor;

    #[test]
    fn rows_and_columns_have_their_own_scales() {
        let a = Tensor::new([2, 2], vec![1u8, 2, 3, 4]).unwrap();
        let b = Tensor::new([2, 2], vec![10i8, -10, 20, 5]).unwrap();
        let (sa, za) = (Tensor::vector(&[1.0f32, 2.0]), Tensor::vector(&[0u8, 1]));
        let (sb, zb) = (Tensor::vector(&[0.5f32, 1.0]), Tensor::vector(&[0i8, 5]));
        let (sy, zy) = (Tensor::scalar(2.0f32), Tensor::scalar(10i8));
        let y = run("QLinearMatMul", &[&a, &sa, &za, &b, &sb, &zb, &sy, &zy].map(Some), 1).unwrap();
        // Sums [[50, -15], [80, -30]], scales [[1/4, 1/2], [1/2, 1]].
        assert_eq!(y[0], Tensor::new([2, 2], vec![22i8, 2, 50, -20]).unwrap());
    }
}
