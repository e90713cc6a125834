//! A function of one byte as a table of its 256 values; inside the compiler only, as what passes make of elementwise
//! operators between DequantizeLinear and QuantizeLinear.

use super::typed::{cast, expect};
use super::walk::{checked_type, operand};
use super::{Inputs, LayoutRule, Op, OpError, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::Expr;
use crate::schedule::LowerCx;

/// Operands: `x` (`u8` or `i8`), and the known `table[256]` (`u8` or `i8`), whose entry `i` is the result for the byte
/// with the bits of `i`: for `i8` the 128 non-negative values come first.
#[derive(Debug, Clone, PartialEq)]
pub struct ByteTable;

/// Values of a byte.
pub const ENTRIES: usize = 256;

fn byte(dtype: DType) -> bool {
    matches!(dtype, DType::U8 | DType::I8)
}

impl Op for ByteTable {
    fn name(&self) -> &'static str {
        "ByteTable"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, table) = (inputs.required(0)?, inputs.required(1)?);
        expect(byte(x.dtype), x.dtype)?;
        expect(byte(table.dtype) && table.constant.is_some(), table.dtype)?;
        if table.shape.dims() != [ENTRIES] {
            return Err(OpError::invalid(format!("a table of shape {}", table.shape)));
        }
        Ok(vec![checked_type(table.dtype, x.shape.clone())?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, table) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let bytes = x.to_le_bytes();
        let picks = bytes.iter().map(|&b| usize::from(b));
        Ok(vec![super::walk::pick(table, x.shape().clone(), picks)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let table = cx.constant(1).ok_or_else(|| OpError::internal("a table that is not known"))?;
        let (dtype, bytes) = (table.dtype(), table.to_le_bytes());
        let operand = match dtype {
            DType::I8 => cx.blob("table", &bytes.iter().map(|&b| b as i8).collect::<Vec<i8>>()),
            _ => cx.blob("table", &bytes),
        };
        let x = cx.read(0)?;
        let y = cx.write(0)?;
        // The bits of a byte, whatever its sign.
        let index = cast(DType::U8, DType::I64, cast(x.dtype, DType::U8, Expr::Read(0)));
        cx.lookup(&y, &x, (operand, dtype, ENTRIES), index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use super::*;

    #[test]
    fn entries_are_found_by_bits() {
        let table = Tensor::from_fn([256], |i| 255 - i as u8);
        let y = run(&ByteTable.into(), &[Some(&Tensor::vector(&[0u8, 1, 255])), Some(&table)], 1).unwrap();
        assert_eq!(y[0], Tensor::vector(&[255u8, 254, 0]));
        let y = run(&ByteTable.into(), &[Some(&Tensor::vector(&[0i8, -1, -128])), Some(&table)], 1).unwrap();
        assert_eq!(y[0], Tensor::vector(&[255u8, 0, 127]));
    }

    #[test]
    fn other_types_and_lengths_are_refused() {
        let (x, short) = (Tensor::vector(&[0u8]), Tensor::vector(&[0u8; 255]));
        assert!(run(&ByteTable.into(), &[Some(&x), Some(&short)], 1).is_err());
        let (words, table) = (Tensor::vector(&[0i32]), Tensor::vector(&[0u8; 256]));
        assert!(run(&ByteTable.into(), &[Some(&words), Some(&table)], 1).is_err());
    }
}
