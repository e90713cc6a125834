//! [CausalConvWithState](https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html): a depthwise convolution
//! over a signal and what came before it.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::DType;
use crate::onnx::{AttrReader, NodeView};

/// Operands: `[n, channels, length]`, weights `[channels, 1, k]`, bias (optional), and the last `k - 1` elements
/// before the signal (optional, zeros). Results: the convolution, and its own last `k - 1` elements.
pub struct CausalConv;

impl Composite for CausalConv {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("CausalConvWithState", 27)];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let swish = match attrs.text("activation")?.unwrap_or("none") {
            "none" => false,
            "silu" | "swish" => true,
            other => return Err(OpError::invalid(format!("attribute `activation` is `{other}`"))),
        };
        let (x, w) = (inputs.required(0)?, inputs.required(1)?);
        expect_float(x.dtype)?;
        let bad = || OpError::invalid(format!("weights {} for a signal {}", w.shape, x.shape));
        let ([n, channels, length], [groups, 1, k]) = (x.shape.dims(), w.shape.dims()) else {
            return Err(bad());
        };
        let before = k.checked_sub(1).filter(|_| groups == channels).ok_or_else(bad)?;
        if inputs.get(3).is_some_and(|past| past.shape.dims() != [*n, *channels, before]) {
            return Err(OpError::invalid(format!("a state that is not [{n}, {channels}, {before}]")));
        }
        let mut s = Script::new(&["x", "w", "bias", "past"]);
        let padded = match inputs.get(3) {
            _ if before == 0 => "x".to_owned(),
            Some(_) => s.op("Concat <axis = 2>", &["past", "x"]),
            None => {
                let pads = s.ints(&[0, 0, before as i64, 0, 0, 0]);
                s.op("Pad", &["x", &pads])
            }
        };
        let operands: &[&str] =
            if inputs.get(2).is_some() { &[&padded, "w", "bias"] } else { &[&padded, "w"] };
        let mut y = s.op(&format!("Conv <group = {channels}>"), operands);
        if swish {
            // The activation is computed wide, whatever the signal's type.
            let wide = s.cast(&y, if x.dtype == DType::F64 { DType::F64 } else { DType::F32 });
            let active = s.op("Swish", &[&wide]);
            y = s.cast(&active, x.dtype);
        }
        if node.outputs.get(1) != Some(&true) {
            return s.finish(&[&y]);
        }
        let end = (before + length) as i64;
        let [from, to, axis] = [end - before as i64, end, 2].map(|v| s.ints(&[v]));
        let present = s.op("Slice", &[&padded, &from, &to, &axis]);
        s.finish(&[&y, &present])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run_at};
    use super::super::testing::f32s;

    #[test]
    fn the_state_carries_on() {
        let x = f32s(&[1, 1, 3], &[1., 2., 3.]);
        let w = f32s(&[1, 1, 2], &[10., 1.]);
        let y = run_at(27, "CausalConvWithState", &[Some(&x), Some(&w)], 2).unwrap();
        close(&y[0], &[1., 12., 23.]);
        close(&y[1], &[3.]);
        let all = [Some(&x), Some(&w), None, Some(&y[1])];
        close(&run_at(27, "CausalConvWithState", &all, 1).unwrap()[0], &[31., 12., 23.]);
        assert!(run_at(27, "CausalConvWithState", &[Some(&x), Some(&w), None, Some(&x)], 1).is_err());
    }
}
