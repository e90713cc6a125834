//! [GatherBlockQuantized](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md) of
//! `com.microsoft`: rows of a table that is quantized by blocks. The rows are gathered first, then dequantized.
//!
//! Bytes that hold several elements must be known; each then takes a byte. An index outside is an error of the run
//! rather than a row of zeros.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::typed::{from_ints, ints};
use super::walk::axis;
use super::{Body, Fact, Inputs, OnnxName, OpError};
use crate::ir::DType;
use crate::onnx::{AttrReader, NodeView};

/// Operands: the table, indices, scales of the blocks, and their zero points.
pub struct GatherBlockQuantized;

impl Composite for GatherBlockQuantized {
    const NAMES: &'static [OnnxName] =
        &[OnnxName { domain: "com.microsoft", op_type: "GatherBlockQuantized", since: 1 }];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let (data, indices, scales) = (inputs.required(0)?, inputs.required(1)?, inputs.required(2)?);
        expect_float(scales.dtype)?;
        let bits = attrs.int_or("bits", 4)?;
        let rank = data.shape.rank();
        let quantized = axis(attrs.int_or("quantize_axis", 1)?, rank)?;
        let gathered = axis(attrs.int_or("gather_axis", 0)?, rank)?;
        let block = attrs.int_or("block_size", 128)?;
        if gathered == quantized || block < 1 {
            return Err(OpError::unsupported(
                "rows along the axis of the blocks, or one block for a whole row",
            ));
        }
        let mut s = Script::new(&["data", "indices", "scales", "zeros"]);
        // Elements within bytes lie along the last axis.
        let packed = data.dtype == DType::U8 && bits < 8;
        if !packed && !matches!(data.dtype, DType::U8 | DType::U4 | DType::I4) {
            return Err(OpError::unsupported(format!("a table of {}", data.dtype)));
        }
        let table = if packed { unpacked(&mut s, &data, bits, None)? } else { "data".to_owned() };
        let zeros = match inputs.get(3) {
            Some(zeros) if packed => {
                let width = scales.shape.dims().last().copied().unwrap_or(1);
                Some(unpacked(&mut s, &zeros, bits, Some(width))?)
            }
            Some(_) => Some("zeros".to_owned()),
            None if data.dtype == DType::U8 => {
                let middle = [1i128 << (bits.clamp(1, 8) - 1)].into_iter().cycle();
                let count = scales.shape.elements();
                Some(s.tensor(from_ints(DType::U8, scales.shape.clone(), middle.take(count))?))
            }
            None => None,
        };
        let pick = format!("Gather <axis = {gathered}>");
        let rows = s.op(&pick, &[&table, "indices"]);
        let scale = s.op(&pick, &["scales", "indices"]);
        let zero = zeros.map(|zeros| s.op(&pick, &[&zeros, "indices"])).unwrap_or_default();
        // Indices put their own axes in the place of the one that they choose from.
        let at = if quantized > gathered { quantized + indices.shape.rank() - 1 } else { quantized };
        let y =
            s.op(&format!("DequantizeLinear <axis = {at}, block_size = {block}>"), &[&rows, &scale, &zero]);
        s.finish(&[&y])
    }
}

/// Elements of bytes that hold several, the first in the lowest bits; `width` elements of each row where given.
fn unpacked(s: &mut Script, x: &Fact<'_>, bits: i64, width: Option<usize>) -> Result<String, OpError> {
    let per = match bits {
        2 => 4,
        4 => 2,
        _ => return Err(OpError::invalid(format!("attribute `bits` is {bits}"))),
    };
    let known = x.constant.ok_or_else(|| OpError::NotConstant("data".to_owned()))?;
    let mut shape = x.shape.dims().to_vec();
    let Some(last) = shape.last_mut() else { return Err(OpError::invalid("a table without axes")) };
    let row = *last;
    *last = width.unwrap_or(row.saturating_mul(per));
    let width = *last;
    if width > row.saturating_mul(per) {
        return Err(OpError::invalid(format!("{width} elements in rows of {row} bytes")));
    }
    let bytes = ints(known)?;
    let mask = (1i128 << bits) - 1;
    let rows = bytes.chunks(row.max(1));
    let element =
        |row: &[i128], i: usize| row.get(i / per).map_or(0, |b| b >> (i % per * bits as usize) & mask);
    let all = rows.flat_map(|row| (0..width).map(move |i| element(row, i)));
    Ok(s.tensor(from_ints(DType::U8, shape, all)?))
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run_text};

    // Expectations are ONNX Runtime's.

    const DATA: &str =
        "uint8[2, 8] d = {16, 50, 84, 118, 152, 186, 220, 254, 15, 15, 15, 15, 15, 15, 15, 15}";

    #[test]
    fn rows_of_nibbles() {
        let y = run_text(&format!(
            "g () => (y) <{DATA}, int64[2] i = {{1, 0}}, float[2, 1] s = {{0.5, 2.0}}>
             {{ y = com.microsoft.GatherBlockQuantized <block_size = 16> (d, i, s) }}"
        ));
        let expected: Vec<f64> = (0..16)
            .map(|i| if i % 2 == 0 { 14.0 } else { -16.0 })
            .chain((0..16).map(|i| f64::from(i) * 0.5 - 4.0))
            .collect();
        close(&y.unwrap()[0], &expected);
        let zeros = "int64[1] i = {0}, float[2, 1] s = {0.5, 2.0}, uint8[2, 1] z = {19, 32}";
        let y = run_text(&format!(
            "g () => (y) <{DATA}, {zeros}> {{ y = com.microsoft.GatherBlockQuantized <block_size = 16> (d, i, s, z) }}"
        ));
        close(&y.unwrap()[0], &(0..16).map(|i| f64::from(i) * 0.5 - 1.5).collect::<Vec<_>>());
        let along = format!(
            "g () => (y) <{DATA}, {zeros}> {{ y = com.microsoft.GatherBlockQuantized <gather_axis = 1> (d, i, s, z) }}"
        );
        assert!(run_text(&along).is_err());
    }
}
