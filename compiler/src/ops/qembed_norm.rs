//! [QEmbedLayerNormalization](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md) of
//! `com.microsoft`: `EmbedLayerNormalization` of quantized tables. Rows are gathered before they are dequantized.

use super::composite::{Composite, Script};
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::{DType, Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};

/// Operands: word and segment ids; tables of words, positions and segments, `gamma`, `beta`; a mask; five scales; five
/// zero points.
pub struct QEmbedNorm;

impl Composite for QEmbedNorm {
    const NAMES: &'static [OnnxName] =
        &[OnnxName { domain: "com.microsoft", op_type: "QEmbedLayerNormalization", since: 1 }];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let epsilon = attrs.float_or("epsilon", 1e-12)?;
        let ids = inputs.required(0)?;
        let &[batch, len] = ids.shape.dims() else {
            return Err(OpError::invalid(format!("ids of shape {}", ids.shape)));
        };
        let mut s = Script::numbered(18);
        // Operand `i` as floats, by the scale and zero point that belong to table `i − 2`; a part of it, if named.
        let floats = |s: &mut Script, i: usize, part: Option<&str>| -> Result<String, OpError> {
            let (scale, zero) = (i + 6, i + 11);
            for needed in [i, scale, zero] {
                inputs.required(needed)?;
            }
            let [scale, zero] = [scale, zero].map(|i| s.reshape(&format!("x{i}"), &[]));
            let own = format!("x{i}");
            Ok(s.op("DequantizeLinear", &[part.unwrap_or(&own), &scale, &zero]))
        };
        let words = s.op("Gather <axis = 0>", &["x2", "x0"]);
        let mut sum = floats(&mut s, 2, Some(&words))?;
        let end = i64::try_from(len).map_err(|_| OpError::Limit(format!("{len} positions")))?;
        let [from, to, axis] = [s.ints(&[0]), s.ints(&[end]), s.ints(&[0])];
        let places = s.op("Slice", &["x3", &from, &to, &axis]);
        let places = floats(&mut s, 3, Some(&places))?;
        sum = s.op("Add", &[&sum, &places]);
        match (inputs.get(1), inputs.get(4)) {
            (Some(_), Some(_)) => {
                let kinds = s.op("Gather <axis = 0>", &["x4", "x1"]);
                let kinds = floats(&mut s, 4, Some(&kinds))?;
                sum = s.op("Add", &[&sum, &kinds]);
            }
            (None, None) => {}
            _ => return Err(OpError::invalid("segments come with their table")),
        }
        let [gamma, beta] = [floats(&mut s, 5, None)?, floats(&mut s, 6, None)?];
        let op = format!("LayerNormalization <axis = -1, epsilon = {epsilon:?}>");
        let y = s.op(&op, &[&sum, &gamma, &beta]);
        let counts = match inputs.get(7) {
            None => s.tensor(Tensor::from_fn::<i32>([batch], |_| 0)),
            Some(mask) => {
                let one = s.tensor(super::typed::from_ints(mask.dtype, Shape::scalar(), [1])?);
                let ones = s.op("Equal", &["x7", &one]);
                let ones = s.cast(&ones, DType::I32);
                let axis = s.ints(&[1]);
                s.op("ReduceSum <keepdims = 0>", &[&ones, &axis])
            }
        };
        s.finish(&[&y, &counts])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run_text};

    // Expectations are ONNX Runtime's.

    #[test]
    fn rows_are_dequantized_and_normalized() {
        let tables = "uint8[2, 4] w = {10, 200, 90, 7, 130, 20, 255, 60}, uint8[2, 4] p = {1, 2, 3, 4, 40, 30, 20, 10},
            uint8[2, 4] g = {5, 9, 1, 0, 7, 7, 50, 3}, uint8[4] gamma = {120, 140, 160, 100}, uint8[4] beta = {128, 130, 120, 90}";
        let scales = "float ws = {0.01}, float ps = {0.02}, float gs = {0.03}, float gammas = {0.05}, float betas = {0.1}";
        let zeros =
            "uint8 wz = {128}, uint8 pz = {10}, uint8 gz = {4}, uint8 gammaz = {100}, uint8 betaz = {128}";
        let y = run_text(&format!(
            "g () => (y, m) <int32[1, 2] ids = {{1, 0}}, int32[1, 2] kinds = {{0, 1}}, int32[1, 2] mask = {{1, 0}}, {tables}, {scales}, {zeros}>
             {{ y, m = com.microsoft.QEmbedLayerNormalization <epsilon = 0.000001>
                (ids, kinds, w, p, g, gamma, beta, mask, ws, ps, gs, gammas, betas, wz, pz, gz, gammaz, betaz) }}"
        ))
        .unwrap();
        close(&y[0], &[0.172372, -1.737696, 3.889701, -3.8, -0.617727, 2.146775, 2.092084, -3.8]);
        assert_eq!(y[1].to_i64_vec().unwrap(), [1]);
    }
}
