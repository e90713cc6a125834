//! Operators of the user → calls of their functions.

use proc_macro2::TokenStream;
use quote::quote;
use std::str::FromStr;

use super::{Parts, StepCx};
use crate::emit::{EmitError, format, names};
use crate::kernel::{Custom, CustomAttribute, CustomTensor};

pub(super) fn parts(cx: &StepCx<'_>, custom: &Custom) -> Result<Parts, EmitError> {
    let name = &cx.name;
    let (call, blob) = cx.task();
    let weights = cx.operands.weights(&custom.reads)?;
    let path = TokenStream::from_str(&custom.path)
        .map_err(|_| EmitError::Internal(format!("`{}` is no path", custom.path)))?;
    let named = |prefix: &str, n: usize| -> Vec<_> {
        (0..n).map(|i| names::ident(&format!("{prefix}{i}"))).collect()
    };
    let (reads, writes) = (named("x", custom.reads.len()), named("y", custom.writes.len()));
    let read_types = custom.reads.iter().map(|&o| cx.operands.name(o));
    let write_types = custom.writes.iter().map(|&o| cx.operands.name(o));
    let mut present = reads.iter();
    let operands =
        custom.operands.iter().map(|operand| match operand.as_ref().and_then(|_| present.next()) {
            Some(x) => quote!(#x),
            None => quote!(&[]),
        });
    let arguments: Vec<_> = operands.chain(writes.iter().map(|y| quote!(#y))).collect();
    let op = constant(custom);
    Ok(Parts {
        items: quote!(
            impl rt::Task for #name<'_> {
                type Output = ();

                #[inline(always)]
                fn run<I: rt::Isa>(mut self, _isa: I) {
                    const OP: rt::CustomOp = #op;
                    #blob
                    let ((#(#reads,)*), (#(#writes,)*)) =
                        self.0.borrow::<(#(#read_types,)*), (#(#write_types,)*)>(#weights);
                    #path(&OP, #(#arguments),*);
                }
            }
        ),
        call,
        task: true,
    })
}

/// The node, as its function is told of it.
fn constant(custom: &Custom) -> TokenStream {
    let Custom { name, domain, op_type, .. } = custom;
    let inputs = custom.operands.iter().map(|operand| match operand {
        Some(t) => {
            let t = tensor(t);
            quote!(Some(#t))
        }
        None => quote!(None),
    });
    let outputs = custom.results.iter().map(tensor);
    let attributes = custom.attributes.iter().map(|(name, value)| {
        let value = attribute(value);
        quote!((#name, rt::Attribute::#value))
    });
    quote!(rt::CustomOp {
        name: #name,
        domain: #domain,
        op_type: #op_type,
        inputs: &[#(#inputs),*],
        outputs: &[#(#outputs),*],
        attributes: &[#(#attributes),*],
    })
}

fn tensor(t: &CustomTensor) -> TokenStream {
    let dtype = t.dtype.short_name();
    let shape = t.shape.iter().map(|&n| format::size(n));
    quote!(rt::CustomTensor { dtype: #dtype, shape: &[#(#shape),*] })
}

fn attribute(value: &CustomAttribute) -> TokenStream {
    let int = |v: &i64| format::signed(i128::from(*v));
    match value {
        CustomAttribute::Int(v) => {
            let v = int(v);
            quote!(Int(#v))
        }
        CustomAttribute::Float(v) => {
            let v = format::float32(*v);
            quote!(Float(#v))
        }
        CustomAttribute::Text(v) => quote!(Text(#v)),
        CustomAttribute::Ints(v) => {
            let v = v.iter().map(int);
            quote!(Ints(&[#(#v),*]))
        }
        CustomAttribute::Floats(v) => {
            let v = v.iter().map(|v| format::float32(*v));
            quote!(Floats(&[#(#v),*]))
        }
        CustomAttribute::Texts(v) => quote!(Texts(&[#(#v),*])),
    }
}
