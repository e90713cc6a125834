//! One loop nest → one function.
//!
//! The innermost loop runs over *rows*: arrays cut out of the operands before it, so that LLVM sees constant
//! lengths and unit strides and vectorises. Reductions go one of three ways:
//!
//! - *across outputs*, where neighbours in memory belong to neighbouring outputs: a row of accumulators;
//! - *in lanes*, along contiguous memory: [`LANES`] accumulators that are folded at the end, the same at
//!   every level;
//! - one accumulator otherwise.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::access::{Phase, Scope};
use super::affine::Affine;
use super::expr::{self, Code};
use super::loops::Region;
use crate::emit::{EmitError, format, names};
use crate::ir::DType;
use crate::kernel::Nest;
use crate::kernel::expr::ReduceOp;
use crate::kernel::loops::Reduction;

/// Accumulators that a contiguous reduction is split into; `rt::loops::LANES`.
const LANES: usize = edgec_runtime::loops::LANES;
/// Most accumulators of a row: as many as a few vector registers hold.
const BLOCK: usize = 64;

/// Where an access lies: its region, and the elements from the region's start to the operand's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding {
    pub(super) region: usize,
    pub(super) shift: isize,
}

/// A nest with what it borrows.
pub(super) struct NestCx<'a> {
    pub(super) nest: &'a Nest,
    pub(super) regions: &'a [Region],
    pub(super) reads: &'a [Binding],
    pub(super) stores: &'a [Binding],
}

/// The function of a nest: its arguments are the regions, immutable ones first, then `fault`.
pub(super) fn function(
    name: &Ident,
    nest: &Nest,
    regions: &[Region],
    bindings: &[Vec<Binding>; 2],
    faults: bool,
) -> Result<TokenStream, EmitError> {
    let [reads, stores] = bindings;
    let cx = NestCx { nest, regions, reads, stores };
    let mut arguments = Vec::new();
    for mutable in [false, true] {
        for region in regions.iter().filter(|r| r.mutable == mutable) {
            let (name, len) = (&region.name, format::size(region.len));
            let element = crate::emit::operands::element(region.dtype, "a loop nest")?;
            let reference = if mutable { quote!(&mut) } else { quote!(&) };
            arguments.push(quote!(#name: #reference [#element; #len]));
        }
    }
    if faults {
        arguments.push(quote!(fault: &mut rt::Fault));
    }
    let body = if nest.reduce == 0 { cx.map()? } else { cx.reduction()? };
    Ok(quote!(
        #[inline(always)]
        fn #name(#(#arguments),*) {
            #body
        }
    ))
}

/// A loop around `body`; none where it runs once.
fn repeat(variable: &str, extent: usize, body: TokenStream) -> TokenStream {
    if extent == 1 {
        return body;
    }
    let (variable, extent) = (names::ident(variable), format::size(extent));
    quote!(for #variable in 0..#extent { #body })
}

/// The innermost loop: a name for its variable, and its extent.
pub(super) type Lane<'a> = Option<(&'a str, usize)>;

impl NestCx<'_> {
    fn variable(i: usize) -> String {
        format!("i{i}")
    }

    /// Each loop's variable, or 0 for loops that run once.
    fn indices(&self) -> Vec<Affine> {
        let index = |(i, &extent): (usize, &usize)| match extent {
            1 => Affine::default(),
            _ => Affine::variable(&Self::variable(i)),
        };
        self.nest.extents.iter().enumerate().map(index).collect()
    }

    fn extent(&self, i: usize) -> usize {
        self.nest.extents.get(i).copied().unwrap_or(1)
    }

    /// Loops `from..to` around `body`.
    fn around(&self, from: usize, to: usize, body: TokenStream) -> TokenStream {
        (from..to).rev().fold(body, |body, i| repeat(&Self::variable(i), self.extent(i), body))
    }

    /// The innermost of loops `from..to` that runs more than once.
    fn innermost(&self, from: usize, to: usize) -> Option<usize> {
        (from..to).rev().find(|&i| self.extent(i) > 1)
    }

    /// A nest without reductions.
    fn map(&self) -> Result<TokenStream, EmitError> {
        let indices = self.indices();
        let last = self.innermost(0, indices.len());
        let variable = last.map(Self::variable);
        let lane = variable.as_deref().zip(last.map(|l| self.extent(l)));
        let body = self.store(&indices, lane, &[])?;
        Ok(self.around(0, last.unwrap_or(0), body))
    }

    /// The stores, over a lane.
    fn store(&self, indices: &[Affine], lane: Lane<'_>, accs: &[Code]) -> Result<TokenStream, EmitError> {
        let values: Vec<_> = self.nest.stores.iter().map(|s| &s.value).collect();
        let phase = Phase::new(self, &values, Scope { indices, lane }, true)?;
        let inside = phase.stores(accs)?;
        Ok(phase.around(inside))
    }

    fn reduction(&self) -> Result<TokenStream, EmitError> {
        let outer = self.nest.extents.len().saturating_sub(self.nest.reduce);
        let inner = self.innermost(outer, self.nest.extents.len());
        let reads = self.reduced_reads();
        let unit = |loop_: usize| {
            let stride =
                |r: &usize| self.nest.reads.get(*r).and_then(|r| r.access.strides.get(loop_)).copied();
            let strides: Vec<isize> = reads.iter().filter_map(stride).collect();
            strides.contains(&1) && strides.iter().all(|s| matches!(s, 0 | 1))
        };
        let gathers = reads.iter().any(|&r| self.nest.reads.get(r).is_some_and(|r| !r.gather.is_empty()));
        let positions = |r: &Reduction| is_position(r.op);
        let across = self.innermost(0, outer).filter(|&l| unit(l) && !gathers);
        let empty = self.nest.extents.iter().skip(outer).any(|&e| e == 0);
        match (across, inner) {
            _ if empty => self.one_by_one(inner, outer),
            (Some(l), inner) if !inner.is_some_and(unit) => self.across(l, outer),
            (_, Some(inner))
                if self.extent(inner) >= LANES && !self.nest.reductions.iter().any(positions) =>
            {
                self.in_lanes(inner, outer)
            }
            _ => self.one_by_one(inner, outer),
        }
    }

    /// Reads that reductions use.
    fn reduced_reads(&self) -> Vec<usize> {
        let values: Vec<_> = self.nest.reductions.iter().map(|r| &r.value).collect();
        super::access::needed(self.nest, &values)
    }

    /// Accumulators for a row of outputs, along outer loop `l`.
    fn across(&self, l: usize, outer: usize) -> Result<TokenStream, EmitError> {
        let extent = self.extent(l);
        let width = if extent <= BLOCK { extent } else { BLOCK / 2 };
        let (blocks, rest) = (extent / width, extent % width);
        let block = |lanes: usize, start: Affine| -> Result<TokenStream, EmitError> {
            let mut indices = self.indices();
            if let Some(index) = indices.get_mut(l) {
                *index = start.plus(&Affine::variable("lane"), 1);
            }
            let lane = Some(("lane", lanes));
            let declare = self.declare(Some(lanes))?;
            let body = self.accumulate(&indices, lane)?;
            let reduce = self.around(outer, indices.len(), body);
            let store = self.store(&indices, lane, &self.results(true)?)?;
            Ok(quote!(#declare #reduce #store))
        };
        let start = if blocks == 1 {
            Affine::default()
        } else {
            Affine::default().plus(&Affine::variable("block"), width as isize)
        };
        let mut body = repeat("block", blocks, block(width, start)?);
        if rest > 0 {
            body.extend(block(rest, Affine::constant((blocks * width) as isize))?);
        }
        Ok(self.around(0, l, body))
    }

    /// [`LANES`] accumulators along reduced loop `l`.
    fn in_lanes(&self, l: usize, outer: usize) -> Result<TokenStream, EmitError> {
        let (blocks, rest) = (self.extent(l) / LANES, self.extent(l) % LANES);
        let block = |lanes: usize, start: Affine| {
            let mut indices = self.indices();
            if let Some(index) = indices.get_mut(l) {
                *index = start.plus(&Affine::variable("lane"), 1);
            }
            self.accumulate(&indices, Some(("lane", lanes)))
        };
        let start = if blocks == 1 {
            Affine::default()
        } else {
            Affine::default().plus(&Affine::variable("block"), LANES as isize)
        };
        let mut body = repeat("block", blocks, block(LANES, start)?);
        if rest > 0 {
            body.extend(block(rest, Affine::constant((blocks * LANES) as isize))?);
        }
        let reduce = self.around(outer, l, body);
        let declare = self.declare(Some(LANES))?;
        let mut fold = TokenStream::new();
        for (i, r) in self.nest.reductions.iter().enumerate() {
            let acc = names::ident(&format!("acc{i}"));
            let join = join(r.op, r.dtype)?;
            fold.extend(quote!(let #acc = rt::loops::fold(#acc, #join);));
        }
        let store = self.store_after(outer)?;
        Ok(self.around(0, outer, quote!(#declare #reduce #fold #store)))
    }

    /// One accumulator.
    fn one_by_one(&self, inner: Option<usize>, outer: usize) -> Result<TokenStream, EmitError> {
        let indices = self.indices();
        let variable = inner.map(Self::variable);
        let lane = variable.as_deref().zip(inner.map(|l| self.extent(l)));
        let declare = self.declare(None)?;
        let empty = self.nest.extents.iter().skip(outer).any(|&e| e == 0);
        let reduce = match empty {
            true => TokenStream::new(),
            false => self.around(outer, inner.unwrap_or(outer), self.accumulate(&indices, lane)?),
        };
        let store = self.store_after(outer)?;
        Ok(self.around(0, outer, quote!(#declare #reduce #store)))
    }

    /// The stores of one outer iteration, accumulators being scalars.
    fn store_after(&self, outer: usize) -> Result<TokenStream, EmitError> {
        let mut indices = self.indices();
        indices.iter_mut().skip(outer).for_each(|i| *i = Affine::default());
        self.store(&indices, None, &self.results(false)?)
    }

    /// Declares the accumulators, as arrays of `lanes` or alone.
    fn declare(&self, lanes: Option<usize>) -> Result<TokenStream, EmitError> {
        let mut text = TokenStream::new();
        for (i, r) in self.nest.reductions.iter().enumerate() {
            let acc = names::ident(&format!("acc{i}"));
            let dtype = expr::arithmetic(r.dtype);
            let (ty, first) = (expr::rust_type(dtype)?, identity(r.op, dtype)?);
            let empty =
                lanes.is_none() && self.nest.extents.iter().rev().take(self.nest.reduce).any(|&e| e == 0);
            let mutable = (!empty).then(|| quote!(mut));
            text.extend(match lanes.map(format::size) {
                Some(n) => quote!(let #mutable #acc: [#ty; #n] = [#first; #n];),
                None => quote!(let #mutable #acc: #ty = #first;),
            });
            if is_position(r.op) {
                let at = names::ident(&format!("at{i}"));
                text.extend(match lanes.map(format::size) {
                    Some(n) => quote!(let #mutable #at: [i64; #n] = [0; #n];),
                    None => quote!(let #mutable #at: i64 = 0;),
                });
            }
        }
        Ok(text)
    }

    /// What stores see of the accumulators.
    fn results(&self, lanes: bool) -> Result<Vec<Code>, EmitError> {
        let result = |(i, r): (usize, &Reduction)| {
            let (name, dtype) = accumulator(i, r);
            Ok(Code::atom(if lanes { quote!(#name[lane]) } else { quote!(#name) }, dtype))
        };
        self.nest.reductions.iter().enumerate().map(result).collect()
    }

    /// Combines values into the accumulators, over a lane. `lane` as the variable's name says that there is
    /// one accumulator per lane.
    fn accumulate(&self, indices: &[Affine], lane: Lane<'_>) -> Result<TokenStream, EmitError> {
        let values: Vec<_> = self.nest.reductions.iter().map(|r| &r.value).collect();
        let phase = Phase::new(self, &values, Scope { indices, lane }, false)?;
        let each = lane.is_some_and(|(name, _)| name == "lane");
        let mut inside = TokenStream::new();
        for (i, r) in self.nest.reductions.iter().enumerate() {
            let value = phase.value(&r.value, &[])?;
            if value.dtype != expr::arithmetic(r.dtype) {
                let (found, wanted) = (value.dtype, r.dtype);
                return Err(EmitError::Internal(format!(
                    "a reduction of type {wanted} combines values of type {found}"
                )));
            }
            let part = |letters: &str| {
                let name = names::ident(&format!("{letters}{i}"));
                if each { quote!(#name[lane]) } else { quote!(#name) }
            };
            inside.extend(self.combine(r.op, &part("acc"), &part("at"), &value, indices));
        }
        Ok(phase.around_loop(inside))
    }

    fn combine(
        &self,
        op: ReduceOp,
        acc: &TokenStream,
        at: &TokenStream,
        value: &Code,
        indices: &[Affine],
    ) -> TokenStream {
        let v = &value.text;
        let float = value.dtype.is_float();
        match op {
            ReduceOp::Sum if float => quote!(#acc += #v;),
            ReduceOp::Prod if float => quote!(#acc *= #v;),
            ReduceOp::Sum => quote!(#acc = rt::num::add(#acc, #v);),
            ReduceOp::Prod => quote!(#acc = rt::num::mul(#acc, #v);),
            ReduceOp::Max => quote!(#acc = rt::num::max(#acc, #v);),
            ReduceOp::Min => quote!(#acc = rt::num::min(#acc, #v);),
            ReduceOp::Any => quote!(#acc |= #v;),
            ReduceOp::All => quote!(#acc &= #v;),
            ReduceOp::ArgMax { last } | ReduceOp::ArgMin { last } => {
                let compare = match op {
                    ReduceOp::ArgMax { .. } => quote!(rt::num::above),
                    _ => quote!(rt::num::below),
                };
                let better = match last {
                    false => quote!(#compare(value, #acc)),
                    true => quote!(!#compare(#acc, value)),
                };
                let position = self.position(indices);
                let text = position.tokens();
                let position = if position.is_single() { text } else { quote!((#text)) };
                quote!(
                    let value = #v;
                    if #better {
                        #acc = value;
                        #at = #position as i64;
                    }
                )
            }
        }
    }

    /// Position within the reduced loops, row-major.
    fn position(&self, indices: &[Affine]) -> Affine {
        let outer = self.nest.extents.len().saturating_sub(self.nest.reduce);
        let mut stride = 1;
        let mut sum = Affine::default();
        for i in (outer..indices.len()).rev() {
            if let Some(index) = indices.get(i) {
                sum = sum.plus(index, stride);
            }
            stride *= self.extent(i) as isize;
        }
        sum
    }
}

/// What holds a reduction's result, and its type.
pub(super) fn accumulator(i: usize, r: &Reduction) -> (Ident, DType) {
    match is_position(r.op) {
        true => (names::ident(&format!("at{i}")), DType::I64),
        false => (names::ident(&format!("acc{i}")), expr::arithmetic(r.dtype)),
    }
}

fn is_position(op: ReduceOp) -> bool {
    matches!(op, ReduceOp::ArgMax { .. } | ReduceOp::ArgMin { .. })
}

/// The value that a reduction starts with.
fn identity(op: ReduceOp, dtype: DType) -> Result<TokenStream, EmitError> {
    let ty = expr::rust_type(dtype)?;
    let float = dtype.is_float();
    Ok(match op {
        ReduceOp::Sum if float => quote!(0.0),
        ReduceOp::Prod if float => quote!(1.0),
        ReduceOp::Sum => quote!(0),
        ReduceOp::Prod => quote!(1),
        ReduceOp::Max | ReduceOp::ArgMax { .. } if float => quote!(#ty::NEG_INFINITY),
        ReduceOp::Min | ReduceOp::ArgMin { .. } if float => quote!(#ty::INFINITY),
        ReduceOp::Max | ReduceOp::ArgMax { .. } => quote!(#ty::MIN),
        ReduceOp::Min | ReduceOp::ArgMin { .. } => quote!(#ty::MAX),
        ReduceOp::Any => quote!(false),
        ReduceOp::All => quote!(true),
    })
}

/// The function that joins two accumulators.
fn join(op: ReduceOp, dtype: DType) -> Result<TokenStream, EmitError> {
    let float = expr::arithmetic(dtype).is_float();
    Ok(match op {
        ReduceOp::Sum if float => quote!(|a, b| a + b),
        ReduceOp::Prod if float => quote!(|a, b| a * b),
        ReduceOp::Sum => quote!(rt::num::add),
        ReduceOp::Prod => quote!(rt::num::mul),
        ReduceOp::Max => quote!(rt::num::max),
        ReduceOp::Min => quote!(rt::num::min),
        ReduceOp::Any => quote!(|a, b| a | b),
        ReduceOp::All => quote!(|a, b| a & b),
        ReduceOp::ArgMax { .. } | ReduceOp::ArgMin { .. } => {
            return Err(EmitError::Internal("positions are not folded".into()));
        }
    })
}
