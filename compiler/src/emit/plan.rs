//! The memory plan → `plan.rs`: slots, and the table that rustc checks.

use proc_macro2::TokenStream;
use quote::quote;

use super::operands::Operands;
use super::{EmitError, format};
use crate::memory::{PlanTable, TableRead};
use edgec_runtime::kernels::Form;
use edgec_runtime::plan::{CALLER, Control, Range, Region};

/// Items of a model's `plan.rs`. Called last, when every slot has been named.
pub(super) fn items(operands: &Operands<'_>, table: &PlanTable) -> Result<Vec<String>, EmitError> {
    let bytes = format::size(operands.plan.arena_bytes);
    let steps = format::size(table.steps.len());
    let rows = table.steps.iter().map(|step| {
        let writes = step.writes.iter().map(range);
        let reads = step.reads.iter().map(read);
        quote!(rt::plan::Step { writes: &[#(#writes),*], reads: &[#(#reads),*] })
    });
    let mut items = vec![
        format::item(quote!(
            #[doc = " Bytes of the arena."]
            pub(super) const ARENA_BYTES: usize = #bytes;
        ))?,
        format::item(quote!(
            #[doc = " The arena in use."]
            pub(super) type Mem<'m> = rt::Mem<'m, ARENA_BYTES>;
        ))?,
    ];
    items.extend(operands.slot_items()?);
    items.push(format::item(quote!(
        #[doc = " What each layer reads and writes, and at the end what the caller reads."]
        #[doc = " Only the check below reads it, so that its size is no matter."]
        #[allow(clippy::large_const_arrays)]
        const PLAN: [rt::plan::Step; #steps] = [#(#rows),*];
    ))?);
    let regions = table.regions.iter().map(region);
    let check = match table.regions.is_empty() {
        true => quote!(rt::plan::check(&PLAN, ARENA_BYTES)),
        false => quote!(rt::plan::check_regions(&PLAN, &[#(#regions),*], ARENA_BYTES)),
    };
    items.push(format::item(quote!(
        // The check of a large plan takes more steps than constants are expected to.
        #[allow(long_running_const_eval)]
        const _: () = #check;
    ))?);
    Ok(items)
}

fn region(r: &Region) -> TokenStream {
    let (first, end) = (format::size(r.first), format::size(r.end));
    let control = match r.control {
        Control::Loop => quote!(Loop),
        Control::Branch { otherwise } => {
            let otherwise = format::size(otherwise);
            quote!(Branch { otherwise: #otherwise })
        }
    };
    quote!(rt::plan::Region { first: #first, end: #end, control: rt::plan::Control::#control })
}

fn range(r: &Range) -> TokenStream {
    let (start, end) = (format::size(r.start), format::size(r.end));
    if *r == Range::dense(r.start, r.end) {
        return quote!(rt::plan::Range::dense(#start, #end));
    }
    let (run, pitch) = (format::size(r.run), format::size(r.pitch));
    quote!(rt::plan::Range { start: #start, end: #end, run: #run, pitch: #pitch })
}

fn read(r: &TableRead) -> TokenStream {
    let range = range(&r.range);
    let writers = r.writers.iter().map(|&w| {
        let index = format::size(w);
        if w == CALLER { quote!(rt::plan::CALLER) } else { quote!(#index) }
    });
    let form = match r.form {
        Form::Disjoint => quote!(Disjoint),
        Form::Overlap => quote!(Overlap),
        Form::Strided { pitch } => {
            let pitch = format::size(pitch);
            quote!(Strided { pitch: #pitch })
        }
    };
    quote!(rt::plan::Read { range: #range, writers: &[#(#writers),*], form: rt::kernels::Form::#form })
}
