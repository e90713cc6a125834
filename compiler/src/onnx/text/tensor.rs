//! Tensors in textual syntax.

use super::super::proto::*;
use super::super::tensor::{MAX_TENSOR_BYTES, encode_tensor};
use super::super::types::dtype_from_code;
use super::lex::Literal;
use super::{Parser, Result};
use crate::ir::{DType, Data, Element, Shape, Tensor, for_each_type};

impl Parser<'_> {
    /// The elements of a tensor whose name and type came before: `{1, 2}`, `{1, 2 ...}`, or a
    /// reference to external data `["location": "w.bin"]`.
    pub(super) fn tensor_of(&mut self, name: &str, ty: Option<&TypeProto>) -> Result<TensorProto> {
        let Some(TypeValue::Tensor(tensor)) = ty.and_then(|t| t.value.as_ref()) else {
            return Err(self.lex.error("a tensor's type is expected"));
        };
        let Some(shape) = &tensor.shape else {
            return Err(self.lex.error("a tensor's shape is expected"));
        };
        let dims: Vec<i64> = shape
            .dim
            .iter()
            .map(|d| match &d.value {
                Some(DimensionValue::Value(v)) if *v >= 0 => Ok(*v),
                _ => Err(self.lex.error("a tensor's shape is made of numbers")),
            })
            .collect::<Result<_>>()?;
        if self.lex.peek("[") {
            return Ok(TensorProto {
                name: name.to_owned(),
                dims,
                data_type: tensor.elem_type,
                data_location: 1,
                external_data: self.pairs()?,
                ..TensorProto::default()
            });
        }
        let dtype = dtype_from_code(tensor.elem_type).map_err(|e| self.lex.error(e))?;
        let shape: Shape = dims.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
        let bytes = shape.checked_len().and_then(|n| n.checked_mul(dtype.size().max(1)));
        if bytes.is_none_or(|n| n > MAX_TENSOR_BYTES) {
            return Err(self.lex.error(format!("a tensor of shape {shape} is too large")));
        }
        let tensor = self.elements(dtype, shape)?;
        Ok(encode_tensor(name, &tensor))
    }

    fn elements(&mut self, dtype: DType, shape: Shape) -> Result<Tensor> {
        self.lex.expect("{")?;
        let mut literals = Vec::new();
        let mut repeat = false;
        while !self.lex.accept("}") {
            literals.push(self.lex.literal()?);
            if self.lex.accept("...") {
                repeat = true;
                self.lex.expect("}")?;
                break;
            }
            if !self.lex.accept(",") {
                self.lex.expect("}")?;
                break;
            }
        }
        let fits =
            if repeat { literals.len() <= shape.elements() } else { literals.len() == shape.elements() };
        if !fits {
            let n = literals.len();
            return Err(self.lex.error(format!("{n} elements for a tensor of shape {shape}")));
        }
        if dtype == DType::String {
            let texts: Vec<String> = literals
                .into_iter()
                .map(|l| match l {
                    Literal::Text(text) => Ok(text),
                    _ => Err(self.lex.error("a string is expected")),
                })
                .collect::<Result<_>>()?;
            let texts = texts.iter().cycle().take(shape.elements()).cloned().collect();
            return Tensor::from_data(shape, Data::String(texts)).map_err(|e| self.lex.error(e.to_string()));
        }
        let mut bytes = Vec::with_capacity(literals.len() * dtype.size());
        for literal in &literals {
            element(dtype, literal, &mut bytes)
                .ok_or_else(|| self.lex.error(format!("{literal:?} is no {dtype} value")))?;
        }
        let bytes: Vec<u8> = bytes.iter().copied().cycle().take(shape.elements() * dtype.size()).collect();
        Tensor::from_le_bytes(dtype, shape, &bytes).map_err(|e| self.lex.error(e.to_string()))
    }
}

/// Appends one element; `None` where the literal does not fit the type.
fn element(dtype: DType, literal: &Literal, out: &mut Vec<u8>) -> Option<()> {
    match (dtype, literal) {
        (_, Literal::Text(_)) => return None,
        (DType::F32, Literal::Int(s) | Literal::Float(s)) => s.parse::<f32>().ok()?.write_le(out),
        (DType::F64, Literal::Int(s) | Literal::Float(s)) => s.parse::<f64>().ok()?.write_le(out),
        (_, Literal::Float(s)) if dtype.is_float() => {
            let value = s.parse::<f64>().ok()?;
            let zero = Tensor::from_le_bytes(dtype, Shape::scalar(), &vec![0; dtype.size()]).ok()?;
            for_each_type!(zero.data(), v => v.iter().for_each(|&z| like(z, value).write_le(out)), ());
        }
        (_, Literal::Float(_)) => return None,
        (_, Literal::Int(s)) => {
            // One range for signed and unsigned; floats of few bits are given by their pattern.
            let value: i128 = s.parse().ok()?;
            let bits = dtype.packed_bits().unwrap_or(8 * dtype.size());
            let (low, high) = match dtype {
                DType::Bool => (0, 1),
                _ if dtype.is_signed_int() => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
                _ => (0, (1i128 << bits) - 1),
            };
            if !(low..=high).contains(&value) {
                return None;
            }
            out.extend(value.to_le_bytes().iter().take(dtype.size()));
        }
    }
    Some(())
}

/// `value` in the type of `_zero`.
fn like<T: Element>(_zero: T, value: f64) -> T {
    T::from_f64(value)
}
