//! What quantized operators that become float ones share: the way into floats and back.

use super::composite::Script;
use super::quantize::is_quantized;
use super::typed::expect;
use super::{Fact, Inputs, OpError};
use crate::ir::DType;

/// Formal names of a quantized operand by position: its value, its scale, and its zero point, which may be
/// absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantized<'n> {
    /// Names.
    pub names: [&'n str; 3],
    /// Position of the zero point.
    pub zero: usize,
}

/// The operand as floats.
pub(super) fn dequantized(
    s: &mut Script,
    inputs: &Inputs<'_>,
    operand: Quantized<'_>,
) -> Result<String, OpError> {
    let [x, scale, zero] = operand.names;
    let zero = match inputs.get(operand.zero) {
        Some(fact) => {
            per_tensor(fact)?;
            s.reshape(zero, &[])
        }
        None => String::new(),
    };
    let scale = s.reshape(scale, &[]);
    Ok(s.op("DequantizeLinear", &[x, &scale, &zero]))
}

/// Floats quantized; where there is no zero point, it is 0 of the type `like`.
pub(super) fn quantized(
    s: &mut Script,
    inputs: &Inputs<'_>,
    operand: Quantized<'_>,
    like: DType,
) -> Result<String, OpError> {
    expect(is_quantized(like), like)?;
    let [x, scale, zero] = operand.names;
    let zero = match inputs.get(operand.zero) {
        Some(fact) => {
            per_tensor(fact)?;
            s.reshape(zero, &[])
        }
        None => s.scalar(like, 0.0)?,
    };
    let scale = s.reshape(scale, &[]);
    Ok(s.op("QuantizeLinear", &[x, &scale, &zero]))
}

/// Refuses a parameter of several elements.
fn per_tensor(fact: Fact<'_>) -> Result<(), OpError> {
    if fact.shape.elements() == 1 {
        Ok(())
    } else {
        Err(OpError::invalid(format!("a parameter of shape {} where one holds for all", fact.shape)))
    }
}
