//! `Gelu`, `FastGelu`, `BiasGelu` and `QuickGelu` of
//! [`com.microsoft`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `x`, and for BiasGelu and FastGelu (there optional) a bias of its last axis.
pub struct ContribGelu;

const fn ms(op_type: &'static str) -> OnnxName {
    OnnxName { domain: "com.microsoft", op_type, since: 1 }
}

impl Composite for ContribGelu {
    const NAMES: &'static [OnnxName] = &[ms("Gelu"), ms("FastGelu"), ms("BiasGelu"), ms("QuickGelu")];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        expect_float(inputs.required(0)?.dtype)?;
        let mut s = Script::new(&["x", "bias"]);
        let biased = node.op_type == "BiasGelu" || node.op_type == "FastGelu" && inputs.get(1).is_some();
        let x = if biased {
            inputs.required(1)?;
            s.op("Add", &["x", "bias"])
        } else {
            "x".to_owned()
        };
        let y = match node.op_type {
            "QuickGelu" => s.op(&format!("Swish <alpha = {:?}>", attrs.float_or("alpha", 1.702)?), &[&x]),
            "FastGelu" => s.op("Gelu <approximate = \"tanh\">", &[&x]),
            _ => s.op("Gelu", &[&x]),
        };
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::f32s;

    // Expectations are ONNX Runtime's.

    #[test]
    fn all_forms() {
        let (x, b) = (f32s(&[3], &[-1., 0.5, 2.]), f32s(&[3], &[0.5, -1., 0.25]));
        let y = |op: &str, b| run(&format!("com.microsoft.{op}"), &[Some(&x), b], 1).unwrap().swap_remove(0);
        close(&y("Gelu", None), &[-0.158_655_256, 0.345_731_229, 1.954_499_722]);
        close(&y("FastGelu", None), &[-0.158_807_963, 0.345_714_003, 1.954_597_712]);
        close(&y("FastGelu", Some(&b)), &[-0.154_285_997, -0.154_285_997, 2.222_798_586]);
        close(&y("BiasGelu", Some(&b)), &[-0.154_268_771, -0.154_268_771, 2.222_495_079]);
        close(&y("QuickGelu", None), &[-0.154_204_220, 0.350_388_408, 1.935_658_693]);
        close(&y("QuickGelu <alpha = 1.0>", None), &[-0.268_941_432, 0.311_229_646, 1.761_594_176]);
        assert!(run("com.microsoft.BiasGelu", &[Some(&x)], 1).is_err());
    }
}
