//! [MatMulBnb4](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md) of `com.microsoft`: a
//! product with weights of 4 bits each, which name one of sixteen numbers (NF4 or FP4), and a scale per block.
//!
//! Weights and scales must be known; the generated crate holds them as floats.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::typed::{floats, from_floats};
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `a`, the weights `u8[⌈n·k/2⌉]` (the first of a pair in the high half), and the scales of their blocks.
pub struct MatMulBnb4;

/// Quantiles of a normal distribution, as bitsandbytes has them.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Three bits of magnitude and a sign.
const FP4: [f32; 16] = [
    0.0,
    0.005_208_333_5,
    0.666_666_7,
    1.0,
    0.333_333_34,
    0.5,
    0.166_666_67,
    0.25,
    -0.0,
    -0.005_208_333_5,
    -0.666_666_7,
    -1.0,
    -0.333_333_34,
    -0.5,
    -0.166_666_67,
    -0.25,
];

impl Composite for MatMulBnb4 {
    const NAMES: &'static [OnnxName] =
        &[OnnxName { domain: "com.microsoft", op_type: "MatMulBnb4", since: 1 }];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let mut extent = |name: &str| {
            let n = AttrReader::required(name, attrs.int(name)?)?;
            usize::try_from(n)
                .ok()
                .filter(|&n| n > 0)
                .ok_or_else(|| OpError::invalid(format!("`{name}` is {n}")))
        };
        let (n, k, block) = (extent("N")?, extent("K")?, extent("block_size")?);
        let table = match AttrReader::required("quant_type", attrs.int("quant_type")?)? {
            0 => FP4,
            1 => NF4,
            other => return Err(OpError::invalid(format!("attribute `quant_type` is {other}"))),
        };
        attrs.ignore("training_mode");
        let transposed = attrs.int_or("transB", 1)? != 0;
        let a = inputs.required(0)?;
        expect_float(a.dtype)?;
        let known = |i: usize, what: &str| {
            inputs.required(i)?.constant.ok_or_else(|| OpError::NotConstant(what.to_owned()))
        };
        let (b, scales) = (known(1, "B")?, floats(known(2, "absmax")?)?);
        let bytes =
            b.as_slice::<u8>().ok_or_else(|| OpError::invalid(format!("weights of {}", b.dtype())))?;
        let count =
            n.checked_mul(k).filter(|&c| bytes.len() == c.div_ceil(2) && scales.len() == c.div_ceil(block));
        let count = count.ok_or_else(|| {
            OpError::invalid(format!(
                "{} bytes and {} scales for {n} × {k} weights",
                bytes.len(),
                scales.len()
            ))
        })?;
        let weight = |i: usize| {
            let byte = bytes.get(i / 2).copied().unwrap_or(0);
            let nibble = if i.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
            let value = table.get(usize::from(nibble)).copied().unwrap_or(0.0);
            f64::from(value) * scales.get(i / block).copied().unwrap_or(0.0)
        };
        let mut s = Script::new(&["a", "b", "scales"]);
        let mut w = s.tensor(from_floats(a.dtype, [n, k], (0..count).map(weight))?);
        if transposed {
            w = s.op("Transpose <perm = [1, 0]>", &[&w]);
        }
        let y = s.op("MatMul", &["a", &w]);
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run_text};

    // Expectations are ONNX Runtime's.

    fn product(kind: usize, scales: &str) -> Result<Vec<crate::ir::Tensor>, crate::diag::Diagnostics> {
        run_text(&format!(
            "g () => (y) <float[1, 16] a = {{1.0, 2.0, -1.0, 0.5, 3.0, -2.0, 1.0, 1.0, 0.25, -1.0, 2.0, 1.0, -0.5, 1.0, 4.0, -3.0}},
             uint8[8] b = {{1, 35, 69, 103, 137, 171, 205, 239}}, {scales}>
             {{ y = com.microsoft.MatMulBnb4 <N = 1, K = 16, block_size = 16, quant_type = {kind}> (a, b, s) }}"
        ))
    }

    #[test]
    fn both_tables() {
        let scale = "float[1] s = {2.0}";
        close(&product(0, scale).unwrap()[0], &[-4.635417]);
        close(&product(1, scale).unwrap()[0], &[-3.432809]);
        assert!(product(2, scale).is_err() && product(1, "float[2] s = {2.0, 2.0}").is_err());
    }
}
