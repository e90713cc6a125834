//! [`MatMulNBits`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits):
//! a product with weights of 2, 4 or 8 bits in blocks along the summed axis.
//!
//! Weights that are known become a tensor of that type under DequantizeLinear, which keeps them packed.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::{DType, Tensor, U2, U4};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `a[…, K]`, `b[N, blocks, bytes]` (`u8`, the first element in the lowest bits), `scales[N·blocks]`,
/// zero points (packed `u8` rows, or of `a`'s type; the middle of the range where absent), `g_idx[K]` (the
/// block of each index, optional), bias `[N]` (optional).
pub struct MatMulNBits;

/// Largest `K`, `N` and block: beyond any model, and products of two stay far below overflow.
const MAX_EXTENT: usize = 1 << 24;

/// The attributes.
struct Form {
    k: usize,
    n: usize,
    bits: usize,
    size: usize,
    blocks: usize,
}

impl Form {
    fn read(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>) -> Result<Self, OpError> {
        let mut int = |name: &'static str| -> Result<usize, OpError> {
            let value = AttrReader::required(name, attrs.int(name)?)?;
            let fits = usize::try_from(value).ok().filter(|v| (1..=MAX_EXTENT).contains(v));
            fits.ok_or_else(|| OpError::invalid(format!("`{name}` is {value}")))
        };
        let (k, n, size) = (int("K")?, int("N")?, int("block_size")?);
        let bits = attrs.int_or("bits", 4)?;
        if !matches!(bits, 2 | 4 | 8) {
            return Err(OpError::unsupported(format!("weights of {bits} bits")));
        }
        // How exact a product may be is not asked for here: it is exact.
        attrs.ignore("accuracy_level");
        let (bits, blocks) = (bits as usize, k.div_ceil(size));
        let weights = (n * blocks).checked_mul(size * bits / 8);
        if size * bits % 8 != 0 || Some(inputs.required(1)?.shape.elements()) != weights {
            let what =
                format!("weights of shape {} for {n}×{k} in blocks of {size}", inputs.required(1)?.shape);
            return Err(OpError::invalid(what));
        }
        if inputs.required(2)?.shape.elements() != n * blocks {
            let what = format!("{} scales, expected {n}×{blocks}", inputs.required(2)?.shape);
            return Err(OpError::invalid(what));
        }
        Ok(Form { k, n, bits, size, blocks })
    }

    /// Type of a weight; run-time weights are unpacked to bytes.
    fn dtype(&self, known: bool) -> DType {
        match self.bits {
            2 if known => DType::U2,
            4 if known => DType::U4,
            _ => DType::U8,
        }
    }

    /// Bytes whose rows hold `columns` elements, as `[n, columns]`.
    fn unpacked(&self, bytes: &[u8], columns: usize) -> Result<Tensor, OpError> {
        let (per_byte, mask) = (8 / self.bits, ((1u16 << self.bits) - 1) as u8);
        let row = columns.div_ceil(per_byte).max(1);
        let elements = bytes.chunks(row).flat_map(|row| {
            let each = row.iter().flat_map(|b| (0..per_byte).map(move |i| b >> (i * self.bits) & mask));
            each.take(columns).collect::<Vec<u8>>()
        });
        let shape = [self.n, columns];
        Ok(match self.bits {
            2 => Tensor::new::<U2>(shape, elements.map(U2).collect::<Vec<_>>())?,
            4 => Tensor::new::<U4>(shape, elements.map(U4).collect::<Vec<_>>())?,
            _ => Tensor::new::<u8>(shape, elements.collect::<Vec<_>>())?,
        })
    }

    /// Packed rows of operand `i` as `[n, columns]`.
    fn elements(
        &self,
        s: &mut Script,
        inputs: &Inputs<'_>,
        (i, name): (usize, &str),
        columns: usize,
        known: bool,
    ) -> Result<String, OpError> {
        let fact = inputs.required(i)?;
        let row = (columns * self.bits).div_ceil(8);
        if fact.dtype != DType::U8 || fact.shape.elements() != self.n * row {
            return Err(OpError::invalid(format!("operand {i} is {}{}", fact.dtype, fact.shape)));
        }
        if let Some(bytes) = fact.constant.filter(|_| known).and_then(Tensor::as_slice::<u8>) {
            return Ok(s.tensor(self.unpacked(bytes, columns)?));
        }
        let mut parts = Vec::new();
        let bytes = s.reshape(name, &[self.n, row, 1]);
        let mask = s.scalar(DType::U8, ((1u16 << self.bits) - 1).into())?;
        for shift in (0..8).step_by(self.bits) {
            let by = s.scalar(DType::U8, shift as f64)?;
            let moved = s.op("BitShift <direction = \"RIGHT\">", &[&bytes, &by]);
            parts.push(s.op("BitwiseAnd", &[&moved, &mask]));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let all = s.op("Concat <axis = 2>", &parts);
        let all = s.reshape(&all, &[self.n, row * (8 / self.bits)]);
        Ok(first_columns(s, &all, columns, row * (8 / self.bits)))
    }
}

/// The first of a matrix's columns.
fn first_columns(s: &mut Script, x: &str, wanted: usize, columns: usize) -> String {
    if wanted == columns {
        return x.to_owned();
    }
    let [from, to, axis] = [0, wanted as i64, 1].map(|v| s.ints(&[v]));
    s.op("Slice", &[x, &from, &to, &axis])
}

impl Composite for MatMulNBits {
    const NAMES: &'static [OnnxName] =
        &[OnnxName { domain: "com.microsoft", op_type: "MatMulNBits", since: 1 }];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let form = Form::read(attrs, inputs)?;
        let a = inputs.required(0)?;
        expect_float(a.dtype)?;
        let mut s = Script::new(&["a", "b", "scales", "zeros", "g_idx", "bias"]);
        let (n, blocks, padded) = (form.n, form.blocks, form.blocks * form.size);
        // Weights and zero points are of one type: that of values only known later is a byte.
        let zero = inputs.get(3);
        let packed_zero = zero.is_some_and(|z| z.dtype == DType::U8);
        let known = inputs.required(1)?.constant.is_some()
            && zero.is_none_or(|z| !packed_zero || z.constant.is_some());
        let weights = form.elements(&mut s, inputs, (1, "b"), padded, known)?;
        let scales = s.reshape("scales", &[n, blocks]);
        let zeros = if packed_zero {
            form.elements(&mut s, inputs, (3, "zeros"), blocks, known)?
        } else {
            let middle = [(1u32 << (form.bits - 1)).into()].into_iter().cycle().take(n * blocks);
            s.tensor(super::typed::from_floats(form.dtype(known), [n, blocks], middle)?)
        };
        let plain = format!("DequantizeLinear <axis = 1, block_size = {}>", form.size);
        let floating = zero.is_some() && !packed_zero;
        let mut w = if floating || inputs.get(4).is_some() {
            // As floats first, then moved and scaled by what belongs to each index.
            let one = s.scalar(a.dtype, 1.0)?;
            let w = s.op("DequantizeLinear", &[&weights, &one]);
            let w = first_columns(&mut s, &w, form.k, padded);
            let index = match inputs.get(4) {
                Some(_) => s.reshape("g_idx", &[form.k]),
                None => s.ints(&(0..form.k).map(|i| (i / form.size) as i64).collect::<Vec<_>>()),
            };
            let zeros = match floating {
                true => s.reshape("zeros", &[n, blocks]),
                false => s.op("DequantizeLinear", &[&zeros, &one]),
            };
            let [zeros, scales] = [zeros, scales].map(|each| s.op("Gather <axis = 1>", &[&each, &index]));
            let moved = s.op("Sub", &[&w, &zeros]);
            s.op("Mul", &[&moved, &scales])
        } else {
            let w = s.op(&plain, &[&weights, &scales, &zeros]);
            first_columns(&mut s, &w, form.k, padded)
        };
        w = s.op("Transpose <perm = [1, 0]>", &[&w]);
        let mut y = s.op("MatMul", &["a", &w]);
        if inputs.get(5).is_some() {
            y = s.op("Add", &[&y, "bias"]);
        }
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::f32s;
    use crate::ir::Tensor;

    const OP: &str = "com.microsoft.MatMulNBits <K = 3, N = 2, bits = 4, block_size = 2>";

    #[test]
    fn nibbles_in_blocks() {
        let a = f32s(&[1, 3], &[1.0, 10.0, 100.0]);
        // Rows [8+1, 8-1 | 8+2, ·] and [8-8, 8+7 | 8, ·].
        let b = Tensor::new([2, 2, 1], vec![0x79u8, 0x8a, 0xf0, 0x08]).unwrap();
        let scales = Tensor::vector(&[1.0f32, 0.5, 1.0, 2.0]);
        let y = run(OP, &[&a, &b, &scales].map(Some), 1).unwrap();
        close(&y[0], &[1.0 - 10.0 + 100.0, -8.0 + 70.0]);
        // Zero points 9, 10 and 0, 7: one byte a row.
        let zeros = Tensor::vector(&[0xa9u8, 0x70]);
        let y = run(OP, &[&a, &b, &scales, &zeros].map(Some), 1).unwrap();
        close(&y[0], &[-20.0, 150.0 + 200.0]);
        let zeros = f32s(&[2, 2], &[9.0, 10.0, 0.0, 7.0]);
        let y = run(OP, &[&a, &b, &scales, &zeros].map(Some), 1).unwrap();
        close(&y[0], &[-20.0, 350.0]);
        let (group, bias) = (Tensor::vector(&[1i32, 0, 0]), Tensor::vector(&[0.5f32, 0.0]));
        let y = run(OP, &[Some(&a), Some(&b), Some(&scales), None, Some(&group), Some(&bias)], 1).unwrap();
        close(&y[0], &[0.5 - 10.0 + 200.0 + 0.5, -16.0 + 70.0]);
    }

    #[test]
    fn sizes_are_held_against_the_attributes() {
        let a = f32s(&[1, 3], &[1.0; 3]);
        let b = Tensor::new([2, 2, 1], vec![0u8; 4]).unwrap();
        assert!(run(OP, &[&a, &b, &Tensor::vector(&[1.0f32; 3])].map(Some), 1).is_err());
        let odd = "com.microsoft.MatMulNBits <K = 3, N = 2, bits = 3, block_size = 2>";
        assert!(run(odd, &[&a, &b, &Tensor::vector(&[1.0f32; 4])].map(Some), 1).is_err());
    }
}
