//! [HannWindow](https://onnx.ai/onnx/operators/onnx__HannWindow.html), HammingWindow, BlackmanWindow: sums of
//! cosines over a length that must be known at compile time.

use super::cast::dtype_of;
use super::composite::{Composite, Script};
use super::number::class;
use super::typed::from_floats;
use super::walk::{checked_type, extent};
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};
use std::f64::consts::PI;

/// Operand: the length.
pub struct WindowFunction;

impl Composite for WindowFunction {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("BlackmanWindow", 17),
        OnnxName::onnx("HammingWindow", 17),
        OnnxName::onnx("HannWindow", 17),
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        inputs.required(0)?;
        let dtype = dtype_of(attrs.int_or("output_datatype", 1)?)
            .ok_or_else(|| OpError::invalid("attribute `output_datatype` is no type of a window"))?;
        class(dtype)?;
        let periodic = attrs.int_or("periodic", 1)? != 0;
        let size = match inputs.known_ints(0, "size")?.as_deref() {
            Some(&[n]) => extent(n)?,
            _ => return Err(OpError::invalid("`size` must hold one value")),
        };
        checked_type(dtype, [size])?;
        // One period, or one that ends where it began.
        let period = if periodic { size } else { size.saturating_sub(1) } as f64;
        let factors = match node.op_type {
            "BlackmanWindow" => [0.42, -0.5, 0.08],
            "HammingWindow" => [25.0 / 46.0, -21.0 / 46.0, 0.0],
            _ => [0.5, -0.5, 0.0],
        };
        if size > MAX_SIZE {
            return Err(OpError::Limit(format!(
                "a window of {size} values; at most {MAX_SIZE} are computed"
            )));
        }
        let value = |i: usize| {
            let angle = if period > 0.0 { 2.0 * PI * i as f64 / period } else { 0.0 };
            factors[0] + factors[1] * libm::cos(angle) + factors[2] * libm::cos(2.0 * angle)
        };
        let mut s = Script::new(&["size"]);
        let window = s.tensor(from_floats(dtype, [size], (0..size).map(value))?);
        let y = s.op("Identity", &[&window]);
        s.finish(&[&y])
    }
}

/// Longest window: a minute of sound.
const MAX_SIZE: usize = 1 << 22;

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run_text};

    fn window(op: &str) -> Vec<crate::ir::Tensor> {
        run_text(&format!("g () => (y) <int64 n = {{4}}> {{ y = {op} (n) }}")).unwrap()
    }

    #[test]
    fn periodic_or_symmetric() {
        close(&window("HannWindow")[0], &[0., 0.5, 1., 0.5]);
        close(&window("HannWindow <periodic = 0>")[0], &[0., 0.75, 0.75, 0.]);
        close(&window("HammingWindow")[0], &[4. / 46., 25. / 46., 1., 25. / 46.]);
        close(&window("BlackmanWindow <output_datatype = 11>")[0], &[0., 0.34, 1., 0.34]);
    }
}
