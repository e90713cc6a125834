//! Rare operators → calls of `rt::routines`.

use proc_macro2::TokenStream;
use quote::quote;

use super::{Parts, StepCx};
use crate::emit::{EmitError, format, names};
use crate::kernel::{Param, Routine};

pub(super) fn parts(cx: &StepCx<'_>, routine: &Routine) -> Result<Parts, EmitError> {
    let name = &cx.name;
    let (call, blob) = cx.task();
    let weights = cx.operands.weights(&routine.reads)?;
    let path = routine.function.split("::").map(names::ident);
    let path = quote!(rt::routines #(::#path)*);
    let reads: Vec<_> = (0..routine.reads.len()).map(|i| names::ident(&format!("x{i}"))).collect();
    let writes: Vec<_> = (0..routine.writes.len()).map(|i| names::ident(&format!("y{i}"))).collect();
    let read_types = routine.reads.iter().map(|&o| cx.operands.name(o));
    let write_types = routine.writes.iter().map(|&o| cx.operands.name(o));
    let params = routine.params.iter().map(param);
    let arguments = reads.iter().chain(&writes).map(|i| quote!(#i)).chain(params);
    let (output, end) =
        if routine.fallible { (quote!(rt::Fault), quote!()) } else { (quote!(()), quote!(;)) };
    Ok(Parts {
        items: quote!(
            impl rt::Task for #name<'_> {
                type Output = #output;

                #[inline(always)]
                fn run<I: rt::Isa>(mut self, _isa: I) -> Self::Output {
                    #blob
                    let ((#(#reads,)*), (#(#writes,)*)) =
                        self.0.borrow::<(#(#read_types,)*), (#(#write_types,)*)>(#weights);
                    #path(#(#arguments),*) #end
                }
            }
        ),
        call,
        task: true,
    })
}

fn param(p: &Param) -> TokenStream {
    match p {
        Param::Usize(n) => {
            let n = format::size(*n);
            quote!(#n)
        }
        Param::I64(n) => format::signed(i128::from(*n)),
        Param::F32(x) => format::float32(*x),
        Param::F64(x) => format::float64(*x),
        Param::Bool(b) => quote!(#b),
    }
}
