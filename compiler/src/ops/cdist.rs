//! [CDist](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md) of `com.microsoft`: distances
//! between the rows of two matrices, as converters write nearest neighbours and Gaussian processes.

use super::composite::{Composite, INTERNAL, Script};
use super::number::expect_float;
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `a: [m, n]`, `b: [k, n]`; the result is `[m, k]`. Metrics are those that ONNX Runtime has.
pub struct CDist;

impl Composite for CDist {
    const NAMES: &'static [OnnxName] = &[OnnxName { domain: "com.microsoft", op_type: "CDist", since: 1 }];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        expect_float(inputs.required(0)?.dtype)?;
        let metric = attrs.text("metric")?.unwrap_or("sqeuclidean");
        let mut s = Script::new(&["a", "b"]);
        let mut y = s.op(&format!("{INTERNAL}.SquaredDistance"), &["a", "b"]);
        match metric {
            "sqeuclidean" => {}
            "euclidean" => y = s.op("Sqrt", &[&y]),
            other => return Err(OpError::unsupported(format!("the metric `{other}`"))),
        }
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::f32s;

    #[test]
    fn rows_against_rows() {
        let (a, b) = (f32s(&[2, 2], &[0., 0., 3., 1.]), f32s(&[3, 2], &[3., 4., 0., 0., 3., -1.]));
        let y = run("com.microsoft.CDist", &[Some(&a), Some(&b)], 1).unwrap();
        assert_eq!(y[0], f32s(&[2, 3], &[25., 0., 10., 9., 10., 4.]));
        let y = run("com.microsoft.CDist <metric = \"euclidean\">", &[Some(&a), Some(&b)], 1).unwrap();
        close(&y[0], &[5., 0., 10f64.sqrt(), 3., 10f64.sqrt(), 2.]);
        assert!(run("com.microsoft.CDist <metric = \"cosine\">", &[Some(&a), Some(&b)], 1).is_err());
        assert!(run("com.microsoft.CDist", &[Some(&a), Some(&f32s(&[1, 3], &[0.; 3]))], 1).is_err());
    }
}
