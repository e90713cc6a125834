//! What this machine can do at a level: rates of matrix products that lie in the nearest caches, by the kernels that the
//! generated code uses, measured in the same run as the layers that are compared with them.
//!
//! The extents make whole tiles at every level, the weights of a tile stay in the first cache and the rest streams
//! from the second: on AVX-512 such a product runs within 2 % of the arithmetic units' limit.

use super::environment;
use super::harness::Harness;
use crate::config::{Config, ModelConfig};
use crate::diag::Diagnostics;
use crate::kernel::Kernel;
use crate::onnx::text::parse_model;
use crate::pipeline::{self, Compiled};
use edgec_runtime::Level;
use prost::Message;
use serde::Serialize;

/// Rows of the left operand.
const ROWS: usize = 448;
/// Length of the sums.
const DEPTH: usize = 256;
/// Columns of the weights.
const COLUMNS: usize = 64;

/// Rates in GOP/s, where a multiply-add counts as two; `None` where no layer is to be compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Peaks {
    /// `f32`.
    pub float: Option<f64>,
    /// 8-bit integers.
    pub integer: Option<f64>,
}

impl Peaks {
    /// What a kernel's rate is to be compared with.
    pub fn of(&self, kernel: &Kernel) -> Option<f64> {
        if is_integer(kernel) { self.integer } else { self.float }
    }

    /// Measures what the layers of a model are compared with, `seconds` each.
    pub fn measure(
        model: &Compiled,
        config: &Config,
        level: Level,
        seconds: f64,
        harness: &mut Harness,
    ) -> Result<Peaks, Diagnostics> {
        let integers = || model.schedule.steps.iter().filter(|s| s.macs > 0).map(|s| is_integer(&s.kernel));
        let mut peaks = Peaks::default();
        if integers().any(|i| !i) {
            peaks.float = Some(rate(&float(), config, level, seconds, harness)?);
        }
        if integers().any(|i| i) {
            peaks.integer = Some(rate(&integer(), config, level, seconds, harness)?);
        }
        Ok(peaks)
    }
}

/// Whether a kernel's products are of integers.
fn is_integer(kernel: &Kernel) -> bool {
    matches!(kernel, Kernel::ConvI8(_) | Kernel::DepthwiseI8(_))
}

fn float() -> String {
    format!(
        "<ir_version: 8, opset_import: [\"\" : 17]>\n\
         product (float[{ROWS}, {DEPTH}] x) => (float[{ROWS}, {COLUMNS}] y)\n\
         <float[{DEPTH}, {COLUMNS}] w = {{0.5, -0.25, 0.125 ...}}>\n\
         {{ y = MatMul (x, w) }}"
    )
}

fn integer() -> String {
    format!(
        "<ir_version: 8, opset_import: [\"\" : 17]>\n\
         product (uint8[{ROWS}, {DEPTH}] x) => (uint8[{ROWS}, {COLUMNS}] y)\n\
         <int8[{DEPTH}, {COLUMNS}] w = {{5, -7, 3 ...}}, float s = {{0.0078125}}, uint8 z = {{0}}, int8 zw = {{0}},\n\
         float[{COLUMNS}] b = {{0.5, -0.25 ...}}>\n\
         {{\n\
           a = DequantizeLinear (x, s, z)\n\
           c = DequantizeLinear (w, s, zw)\n\
           p = MatMul (a, c)\n\
           y = QuantizeLinear (p, s, z)\n\
         }}"
    )
}

fn rate(
    text: &str,
    config: &Config,
    level: Level,
    seconds: f64,
    harness: &mut Harness,
) -> Result<f64, Diagnostics> {
    let proto = parse_model(text).map_err(|e| environment(format!("the yardstick: {e}")))?;
    let model = ModelConfig::bytes("yardstick", proto.encode_to_vec());
    let compiled = pipeline::compile(&model, config)?;
    let places = harness.add(&[&compiled], config)?;
    let place = places.first().ok_or_else(|| environment("nothing was generated"))?;
    harness.build_one(&place.package)?;
    let dir = harness.scratch().join(&place.package);
    super::bench::write_inputs(&compiled, &dir)?;
    let mut runner = harness.start(&place.package)?;
    let (least, ..) = super::bench::time(&mut runner, place, level, seconds, &dir)?;
    Ok(2.0 * (ROWS * DEPTH * COLUMNS) as f64 / (least * 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A yardstick that fell to loops would flatter everything.
    #[test]
    fn the_products_run_in_the_kernels_of_products() {
        for (text, integer) in [(float(), false), (integer(), true)] {
            let bytes = parse_model(&text).unwrap().encode_to_vec();
            let compiled =
                pipeline::compile(&ModelConfig::bytes("yardstick", bytes), &Config::new()).unwrap();
            let steps = &compiled.schedule.steps;
            assert_eq!(steps.len(), 1, "{text}");
            assert!(matches!(
                steps[0].kernel,
                Kernel::Conv { .. } | Kernel::MatMul { .. } | Kernel::ConvI8(_)
            ));
            assert_eq!(is_integer(&steps[0].kernel), integer);
            assert_eq!(steps[0].macs, (ROWS * DEPTH * COLUMNS) as u64);
        }
    }
}
