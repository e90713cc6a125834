//! Loop nests → a task whose nests are functions over borrowed slots.
//!
//! Each nest borrows what it touches. Slots that share bytes with one that is written (in-place work,
//! parts of one buffer) are borrowed as one mutable region, in which reads and writes are positions.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::nest::{Binding, function};
use super::{Parts, StepCx};
use crate::emit::operands::element;
use crate::emit::{EmitError, format, names};
use crate::ir::DType;
use crate::kernel::{Access, Loops, Nest, Operand};

/// A slot or several that a nest borrows as one array.
pub(super) struct Region {
    /// Argument name.
    pub(super) name: Ident,
    /// Type of the elements.
    pub(super) dtype: DType,
    /// Elements.
    pub(super) len: usize,
    /// Whether it is borrowed to write.
    pub(super) mutable: bool,
    /// Its place as a type.
    operand: TokenStream,
}

pub(super) fn parts(cx: &StepCx<'_>, loops: &Loops) -> Result<Parts, EmitError> {
    let name = &cx.name;
    let (call, blob) = cx.task();
    let weights = cx.operands.weights(&loops.reads())?;
    let fallible = loops.fallible();
    let mut functions = TokenStream::new();
    let mut calls = TokenStream::new();
    for (i, nest) in loops.nests.iter().enumerate() {
        if is_empty(nest) {
            continue;
        }
        let function_name =
            names::ident(&if loops.nests.len() == 1 { "nest".to_owned() } else { format!("nest_{i}") });
        let (regions, bindings) = regions(cx, nest)?;
        let faults = nest.reads.iter().any(|r| r.gather.iter().any(|g| !g.proven));
        functions.extend(function(&function_name, nest, &regions, &bindings, faults)?);
        let side = |mutable: bool| -> (Vec<&Ident>, Vec<&TokenStream>) {
            regions.iter().filter(|r| r.mutable == mutable).map(|r| (&r.name, &r.operand)).unzip()
        };
        let ((reads, read_types), (writes, write_types)) = (side(false), side(true));
        let fault = faults.then(|| quote!(&mut fault,));
        calls.extend(quote!(
            let ((#(#reads,)*), (#(#writes,)*)) =
                self.0.borrow::<(#(#read_types,)*), (#(#write_types,)*)>(#weights);
            Self::#function_name(#(#reads,)* #(#writes,)* #fault);
        ));
    }
    let blob = blob.filter(|_| !calls.is_empty());
    let receiver = if calls.is_empty() { quote!(self) } else { quote!(mut self) };
    let body = match (fallible, calls.is_empty()) {
        (true, true) => quote!(rt::Fault::None),
        (true, false) => quote!(let mut fault = rt::Fault::None; #calls fault),
        (false, _) => calls,
    };
    let output = if fallible { quote!(rt::Fault) } else { quote!(()) };
    let functions = (!functions.is_empty()).then(|| quote!(impl #name<'_> { #functions }));
    Ok(Parts {
        items: quote!(
            impl rt::Task for #name<'_> {
                type Output = #output;

                #[inline(always)]
                fn run<I: rt::Isa>(#receiver, _isa: I) -> Self::Output {
                    #blob
                    #body
                }
            }
            #functions
        ),
        call,
        task: true,
    })
}

/// Whether a nest stores nothing.
fn is_empty(nest: &Nest) -> bool {
    let outer = nest.extents.len().saturating_sub(nest.reduce);
    nest.extents.iter().take(outer).any(|&e| e == 0) || nest.stores.is_empty()
}

/// An operand in one role, and the bytes it is borrowed as.
struct Part {
    operand: Operand,
    write: bool,
    dtype: DType,
    /// Bytes of the whole operand.
    whole: [usize; 2],
    /// Bytes that the nest touches.
    touched: [usize; 2],
    /// Whether only what is touched is borrowed.
    narrow: bool,
    /// Region that it becomes part of; the smallest index of the parts that share it.
    leader: usize,
}

impl Part {
    fn bytes(&self) -> [usize; 2] {
        if self.narrow { self.touched } else { self.whole }
    }

    fn conflicts(&self, other: &Part) -> bool {
        let ([a, b], [c, d]) = (self.bytes(), other.bytes());
        let memory = |p: &Part| matches!(p.operand, Operand::Buffer(_));
        (self.write || other.write) && memory(self) && memory(other) && a < d && c < b
    }
}

/// What a nest borrows, and where in it each access lies: first the reads, then the stores.
fn regions(cx: &StepCx<'_>, nest: &Nest) -> Result<(Vec<Region>, [Vec<Binding>; 2]), EmitError> {
    let internal = |what: &str| EmitError::Internal(format!("`{}`: {what}", cx.name));
    let mut parts: Vec<Part> = Vec::new();
    let mut members = Vec::new();
    let reads = nest.reads.iter().map(|r| (&r.access, false, !r.gather.is_empty()));
    let stores = nest.stores.iter().map(|s| (&s.access, true, false));
    for (access, write, gathers) in reads.chain(stores) {
        let (dtype, start, len) = cx.operands.place(access.operand)?;
        if dtype != access.dtype {
            return Err(internal("an access has another element type than its operand"));
        }
        let touched = match gathers {
            true => [0, len],
            false => {
                touched(nest, access, write).ok_or_else(|| internal("an access starts before its operand"))?
            }
        };
        if touched[1] > len {
            return Err(internal("an access leaves its operand"));
        }
        let size = dtype.size();
        let touched = touched.map(|i| start + i * size);
        let known = parts.iter().position(|p| p.operand == access.operand && p.write == write);
        let index = known.unwrap_or(parts.len());
        match parts.get_mut(index) {
            Some(p) => p.touched = [p.touched[0].min(touched[0]), p.touched[1].max(touched[1])],
            None => parts.push(Part {
                operand: access.operand,
                write,
                dtype,
                whole: [start, start + len * size],
                touched,
                narrow: false,
                leader: index,
            }),
        }
        members.push(index);
    }
    // First only what is touched is borrowed where whole operands meet, then what still meets is joined.
    let meets =
        |parts: &[Part], i: usize, p: &Part| parts.iter().enumerate().any(|(j, q)| i != j && p.conflicts(q));
    let narrow: Vec<bool> = parts.iter().enumerate().map(|(i, p)| meets(&parts, i, p)).collect();
    for (part, narrow) in parts.iter_mut().zip(narrow) {
        part.narrow = narrow;
    }
    loop {
        let mut joined = None;
        for (i, p) in parts.iter().enumerate() {
            for q in parts.iter().skip(i + 1) {
                if p.leader != q.leader && p.conflicts(q) {
                    joined = Some((p.leader.min(q.leader), p.leader.max(q.leader)));
                }
            }
        }
        let Some((to, from)) = joined else { break };
        parts.iter_mut().filter(|p| p.leader == from).for_each(|p| p.leader = to);
    }
    build(cx, nest, &parts, &members)
}

/// First and one past the last element that an access touches.
fn touched(nest: &Nest, access: &Access, store: bool) -> Option<[usize; 2]> {
    let outer = nest.extents.len().saturating_sub(nest.reduce);
    let loops = if store { outer } else { nest.extents.len() };
    let mut low = isize::try_from(access.offset).ok()?;
    let mut high = low;
    for (&extent, &stride) in nest.extents.iter().zip(&access.strides).take(loops) {
        let Some(last) = extent.checked_sub(1) else { return Some([0, 0]) };
        let reach = stride.checked_mul(isize::try_from(last).ok()?)?;
        low = low.checked_add(reach.min(0))?;
        high = high.checked_add(reach.max(0))?;
    }
    Some([usize::try_from(low).ok()?, usize::try_from(high).ok()?.checked_add(1)?])
}

fn build(
    cx: &StepCx<'_>,
    nest: &Nest,
    parts: &[Part],
    members: &[usize],
) -> Result<(Vec<Region>, [Vec<Binding>; 2]), EmitError> {
    let mut regions: Vec<Region> = Vec::new();
    // For each part: its region, and elements from the region's start to the operand's.
    let mut places: Vec<Option<(usize, isize)>> = vec![None; parts.len()];
    let (mut reads, mut writes) = (0, 0);
    for leader in 0..parts.len() {
        let group: Vec<(usize, &Part)> =
            parts.iter().enumerate().filter(|(_, p)| p.leader == leader).collect();
        let Some((_, first)) = group.first() else { continue };
        let size = first.dtype.size();
        let start = group.iter().map(|(_, p)| p.bytes()[0]).min().unwrap_or(0);
        let end = group.iter().map(|(_, p)| p.bytes()[1]).max().unwrap_or(0);
        let uneven = |p: &Part| p.dtype != first.dtype || !p.bytes()[0].abs_diff(start).is_multiple_of(size);
        if group.iter().any(|(_, p)| uneven(p)) {
            let what = format!("`{}`: buffers of different element types share bytes", cx.name);
            return Err(EmitError::Internal(what));
        }
        let mutable = group.iter().any(|(_, p)| p.write);
        let len = (end - start).checked_div(size).unwrap_or(0);
        let operand = if let Some((_, whole)) = group.iter().find(|(_, p)| p.whole == [start, end]) {
            cx.operands.name(whole.operand)
        } else {
            let element = element(first.dtype, "a loop nest")?;
            let (start, len) = (format::size(start), format::size(len));
            quote!(rt::Slot<#element, #start, #len>)
        };
        let (letter, count) = match (group.len() > 1, mutable) {
            (true, _) => ("m", &mut writes),
            (false, true) => ("y", &mut writes),
            (false, false) => ("x", &mut reads),
        };
        let name = names::ident(&format!("{letter}{count}"));
        *count += 1;
        for (i, part) in &group {
            let shift = (part.whole[0] as isize - start as isize) / (size.max(1) as isize);
            if let Some(place) = places.get_mut(*i) {
                *place = Some((regions.len(), shift));
            }
        }
        regions.push(Region { name, dtype: first.dtype, len, mutable, operand });
    }
    let mut bindings = members.iter().map(|&m| {
        let (region, shift) = places
            .get(m)
            .copied()
            .flatten()
            .ok_or_else(|| EmitError::Internal(format!("`{}`: an operand has no region", cx.name)))?;
        Ok(Binding { region, shift })
    });
    let reads = bindings.by_ref().take(nest.reads.len()).collect::<Result<_, EmitError>>()?;
    let stores = bindings.collect::<Result<_, EmitError>>()?;
    Ok((regions, [reads, stores]))
}
