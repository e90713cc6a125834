//! [Compress](https://onnx.ai/onnx/operators/onnx__Compress.html): the slices that a condition marks. Of a condition
//! that only a run knows the result has at most as many as the condition has elements.

use super::composite::{Composite, INTERNAL, Script};
use super::walk::axis;
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::DType;
use crate::onnx::{AttrReader, NodeView};

/// Operands: `x`, and the condition, a vector of at most as many elements as the axis has (or all of `x`, where no axis
/// is given).
pub struct Compress;

impl Composite for Compress {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Compress", 9)];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let at = attrs.int("axis")?;
        let (x, condition) = (inputs.required(0)?, inputs.required(1)?);
        let (at, extent) = match at {
            Some(at) => {
                let at = axis(at, x.shape.rank())?;
                (Some(at), x.shape.get(at).copied().unwrap_or(1))
            }
            None => (None, x.shape.elements()),
        };
        let marks = condition.shape.elements();
        if condition.dtype != DType::Bool || condition.shape.rank() != 1 || marks > extent {
            return Err(OpError::invalid(format!(
                "the condition is {}{}, expected bool[n] of at most {extent} elements",
                condition.dtype, condition.shape
            )));
        }
        let mut s = Script::new(&["x", "condition"]);
        let found = s.op("NonZero", &["condition"]);
        let front = s.ints(&[0]);
        let places = s.op("Squeeze", &[&found, &front]);
        let x = match at {
            Some(_) => "x".to_owned(),
            None => s.reshape("x", &[x.shape.elements()]),
        };
        let y = s.op(&format!("{INTERNAL}.Take <axis = {}>", at.unwrap_or(0)), &[&x, &places]);
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run_at;
    use super::super::testing::f32s;
    use crate::ir::Tensor;

    fn marks(bits: &[bool]) -> Tensor {
        Tensor::new([bits.len()], bits.to_vec()).unwrap()
    }

    #[test]
    fn marked_slices_stay() {
        let x = f32s(&[3, 2], &[1., 2., 3., 4., 5., 6.]);
        let of = |op: &str, bits: &[bool]| run_at(11, op, &[Some(&x), Some(&marks(bits))], 1);
        assert_eq!(
            of("Compress <axis = 0>", &[false, true, true]).unwrap()[0],
            f32s(&[2, 2], &[3., 4., 5., 6.])
        );
        assert_eq!(of("Compress <axis = -1>", &[false, true]).unwrap()[0], f32s(&[3, 1], &[2., 4., 6.]));
        assert_eq!(of("Compress", &[false, true, false, false, true]).unwrap()[0], f32s(&[2], &[2., 5.]));
        assert!(of("Compress <axis = 1>", &[true, true, true]).is_err());
    }

    #[test]
    fn a_known_condition_leaves_its_slices() {
        let model = "<ir_version: 10, opset_import: [\"\": 17]>
            g (float[3, 1] x) => (y) <bool[3] c = {1, 0, 1}> { y = Compress <axis = 0> (x, c) }";
        let model = crate::onnx::text::parse_model(model).unwrap();
        let none = crate::onnx::ExternalData::none();
        let graph = crate::frontend::load_model(&model, &none, &Default::default()).unwrap().graph;
        let y = crate::interp::run(&graph, &[f32s(&[3, 1], &[1., 2., 3.])]).unwrap();
        assert_eq!(y, [f32s(&[2, 1], &[1., 3.])]);
    }
}
