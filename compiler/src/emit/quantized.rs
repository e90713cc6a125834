//! What the integers of inputs and outputs stand for, in generated code.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::api::PortCode;
use super::{EmitError, format};
use crate::ir::QuantParams;

/// The fields of a port's `TensorInfo` that say it.
pub(super) fn fields(p: &PortCode<'_>) -> TokenStream {
    let numbers = |params: &QuantParams| -> (Vec<TokenStream>, Vec<TokenStream>) {
        let scales = params.scales.iter().map(|&s| format::float32(s)).collect();
        let zeros = params.zeros.iter().map(|&z| format::signed(i128::from(z))).collect();
        (scales, zeros)
    };
    match p.params.map(|params| (params, numbers(params))) {
        None => quote!(scale: None, zero_point: 0, per_axis: None),
        Some((params, (scales, zeros))) => match params.axis {
            None => quote!(scale: Some(#(#scales),*), zero_point: #(#zeros),*, per_axis: None),
            Some(axis) => {
                let axis = format::size(in_memory(axis, p));
                quote!(
                    scale: None,
                    zero_point: 0,
                    per_axis: Some(rt::PerAxis {
                        axis: #axis,
                        scales: &[#(#scales),*],
                        zero_points: &[#(#zeros),*],
                    })
                )
            }
        },
    }
}

/// An axis of the model's as the port has it.
fn in_memory(axis: usize, p: &PortCode<'_>) -> usize {
    match (p.port.layout, axis) {
        ("nhwc", 1) => p.port.shape.len().saturating_sub(1),
        ("nhwc", axis) if axis > 1 => axis - 1,
        (_, axis) => axis,
    }
}

/// In words: `` `0.5 · (q − 3)` ``.
pub(super) fn words(params: &QuantParams) -> String {
    match (params.axis, params.scales.as_slice(), params.zeros.as_slice()) {
        (None, [scale], [0]) => format!("`q` stands for `{scale:?} · q`"),
        (None, [scale], [zero]) if *zero < 0 => {
            format!("`q` stands for `{scale:?} · (q + {})`", zero.unsigned_abs())
        }
        (None, [scale], [zero]) => format!("`q` stands for `{scale:?} · (q - {zero})`"),
        _ => "each index of an axis has its own scale".to_owned(),
    }
}

/// Functions that take a quantized port's array to real numbers and back.
pub(super) fn helpers(kind: &str, p: &PortCode<'_>) -> Result<Vec<String>, EmitError> {
    // An output of which a run says how much there is has a type of its own.
    if p.params.is_none() || p.bounded.is_some() {
        return Ok(Vec::new());
    }
    let (alias, info, field) = (&p.alias, &p.info, &p.field);
    let reals = &p.reals;
    let name = format::code(&p.port.name);
    let item = if kind == "Input" {
        let function = format_ident!("quantize_{field}");
        let doc = format!(
            " Input {name} out of real numbers: `clamp(zero + round(x / scale))`, ties to even, the lowest for NaN."
        );
        quote!(
            #[doc = #doc]
            pub fn #function(reals: &#reals, steps: &mut #alias) {
                #info.quantize(rt::Shaped::as_flattened(reals), rt::Shaped::as_flattened_mut(steps));
            }
        )
    } else {
        let function = format_ident!("dequantize_{field}");
        let doc = format!(" Output {name} as real numbers: `(q - zero) * scale`.");
        quote!(
            #[doc = #doc]
            pub fn #function(steps: &#alias, reals: &mut #reals) {
                #info.dequantize(rt::Shaped::as_flattened(steps), rt::Shaped::as_flattened_mut(reals));
            }
        )
    };
    Ok(vec![format::item(item)?])
}
