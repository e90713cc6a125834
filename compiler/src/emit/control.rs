//! The layers in order: straight on, in branches and in loops.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::kernels::Layer;
use super::operands::Operands;
use super::{EmitError, format, names};
use crate::schedule::{Control, Region};

/// Most layers and regions that one function lists: rustc's time grows with the square of straight-line code.
const MAX_STRAIGHT_LINE: usize = 1_000;

/// Functions that run a model's layers, under construction.
pub(super) struct Lists<'a> {
    pub(super) operands: &'a Operands<'a>,
    pub(super) layers: &'a [Layer],
    /// Further parameters of each function, and what is passed for them.
    pub(super) parameters: TokenStream,
    pub(super) pass: TokenStream,
    /// Functions so far.
    pub(super) items: Vec<String>,
    /// How many of them hold a part of a list.
    pub(super) parts: usize,
}

impl Lists<'_> {
    /// The function that runs all layers.
    pub(super) fn all(&mut self) -> Result<(), EmitError> {
        let (end, regions) = (self.layers.len(), self.operands.schedule.regions.clone());
        let lines = self.range(0, end, &regions)?;
        self.function(&names::ident("run_level"), " The layers in order, compiled for one level.", &lines)
    }

    /// Statements that run the steps of a range, in which `regions` lie: no more than one function should list.
    fn range(&mut self, first: usize, end: usize, regions: &[Region]) -> Result<Vec<TokenStream>, EmitError> {
        let mut lines = Vec::new();
        let mut at = first;
        let mut rest = regions;
        while at < end {
            let Some((region, more)) = rest.split_first().filter(|(r, _)| r.first == at) else {
                lines.push(self.step(at)?);
                at += 1;
                continue;
            };
            // Those within stand behind it.
            let within = more.iter().take_while(|r| r.first < region.end).count();
            let (inner, behind) = more.split_at_checked(within).unwrap_or((more, &[]));
            rest = behind;
            if region.first < region.end {
                lines.push(self.region(region, inner)?);
                at = region.end;
            }
        }
        if lines.len() <= MAX_STRAIGHT_LINE {
            return Ok(lines);
        }
        let mut calls = Vec::new();
        for part in lines.chunks(MAX_STRAIGHT_LINE) {
            let name = names::ident(&format!("run_part_{}", self.parts));
            self.parts += 1;
            self.function(&name, " Some of the layers in order.", part)?;
            let pass = &self.pass;
            calls.push(quote!(#name(isa, mem, probe #pass);));
        }
        Ok(calls)
    }

    fn step(&self, index: usize) -> Result<TokenStream, EmitError> {
        let (Some(layer), Some(step)) = (self.layers.get(index), self.operands.schedule.steps.get(index))
        else {
            return Err(EmitError::Internal(format!("no layer {index}")));
        };
        let (i, call) = (format::size(index), &layer.call);
        let call = if step.kernel.fallible() { quote!(faults.note(#i, #call);) } else { quote!(#call;) };
        Ok(quote!(#call probe.done(#i);))
    }

    fn region(&mut self, region: &Region, inner: &[Region]) -> Result<TokenStream, EmitError> {
        let condition = match region.control.condition() {
            Some(operand) => {
                let (name, weights) = (self.operands.name(operand), self.operands.weights(&[operand])?);
                quote!(mem.truth::<#name>(#weights))
            }
            None => quote!(true),
        };
        Ok(match region.control {
            Control::If { otherwise, .. } => {
                let split = inner.partition_point(|r| r.first < otherwise);
                // A region of the first branch that is empty may stand at the other's first step.
                let (a, b) = inner.split_at_checked(split).unwrap_or((inner, &[]));
                let then = self.range(region.first, otherwise, a)?;
                let other = self.range(otherwise, region.end, b)?;
                match (then.is_empty(), other.is_empty()) {
                    (false, false) => quote!(if #condition { #(#then)* } else { #(#other)* }),
                    (_, true) => quote!(if #condition { #(#then)* }),
                    (true, false) => quote!(if !#condition { #(#other)* }),
                }
            }
            Control::Repeat { times } => {
                let body = self.range(region.first, region.end, inner)?;
                let times = format::count(times);
                quote!(for _ in 0..#times { #(#body)* })
            }
            Control::While { .. } => {
                let body = self.range(region.first, region.end, inner)?;
                quote!(while #condition { #(#body)* })
            }
        })
    }

    fn function(&mut self, name: &Ident, doc: &str, lines: &[TokenStream]) -> Result<(), EmitError> {
        let used = !lines.is_empty();
        let [isa, mem, probe] =
            ["isa", "mem", "probe"].map(|n| names::ident(&if used { n.to_owned() } else { format!("_{n}") }));
        let parameters = &self.parameters;
        self.items.push(format::item(quote!(
            #[doc = #doc]
            fn #name<I: rt::Isa>(#isa: I, #mem: &mut plan::Mem<'_>, #probe: &mut rt::Watch<'_> #parameters) {
                #(#lines)*
            }
        ))?);
        Ok(())
    }
}
