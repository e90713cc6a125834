//! Weights that the program hands over: the file's end, by which it is recognised, and the code that checks it.

use edgec_runtime::blob;
use proc_macro2::TokenStream;
use quote::quote;

use super::blob::Blobs;
use super::operands::Operands;
use super::{EmitError, format};
use crate::schedule::Schedule;

/// `pub type Blob`, `LAYOUT`: what the file must hold.
pub(super) fn blob_item(operands: &Operands<'_>) -> Result<String, EmitError> {
    let (bytes, layout) = (
        format::size(operands.blobs.total()),
        format::int(layout(&operands.blobs, operands.schedule).into()),
    );
    let blob = format::item(quote!(
        #[doc = " The weights, wherever they are."]
        pub type Blob = rt::Blob<#bytes>;
    ))?;
    let layout = format::item(quote!(
        #[doc = " Stands for the layout of the weights, at the end of their file."]
        pub(super) const LAYOUT: u64 = #layout;
    ))?;
    Ok(format!("{blob}\n\n{layout}"))
}

/// `Model::weights`.
pub(super) fn check_method() -> TokenStream {
    quote!(
        #[doc = " The weights in the bytes of `weights.bin`, which start at a multiple of 64."]
        #[doc = ""]
        #[doc = " # Errors"]
        #[doc = " They are cut off, damaged, misaligned, or another model's."]
        pub fn weights(bytes: &[u8]) -> ::core::result::Result<&weights::Blob, rt::WeightsError> {
            rt::Blob::checked(bytes, weights::LAYOUT)
        }
    )
}

/// Puts the end behind the only file.
pub(super) fn close(blobs: &mut Blobs, schedule: &Schedule) {
    let layout = layout(blobs, schedule);
    if let Some(file) = blobs.files.first_mut() {
        let end = blob::trailer(file, layout);
        file.extend_from_slice(&end);
    }
}

/// A hash of every constant's type, length and place: equal for two trainings of one graph.
fn layout(blobs: &Blobs, schedule: &Schedule) -> u64 {
    let mut text = String::new();
    for (constant, (_, offset)) in schedule.constants.iter().zip(&blobs.places) {
        text.push_str(&format!("{} {} {offset};", constant.dtype, constant.len));
    }
    blob::checksum(text.as_bytes())
}
