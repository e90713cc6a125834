//! Loads and stores of a loop nest's innermost loop.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::quote;

use super::affine::Affine;
use super::expr::{self, Code};
use super::nest::{Binding, Lane, NestCx};
use crate::emit::{EmitError, format, names};
use crate::ir::DType;
use crate::kernel::expr::Expr;
use crate::kernel::{Access, Nest};

/// What loop variables stand for, and the innermost loop.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) indices: &'a [Affine],
    pub(super) lane: Lane<'a>,
}

/// An innermost loop: what is fetched before it and what is loaded in it.
pub(super) struct Phase<'a> {
    cx: &'a NestCx<'a>,
    scope: Scope<'a>,
    indices: Vec<TokenStream>,
    /// Statements before the loop.
    before: TokenStream,
    /// Statements at the start of each iteration.
    first: TokenStream,
    /// Values of the reads.
    values: Vec<Option<Code>>,
    /// Places of the reads, as elements.
    elements: Vec<Option<TokenStream>>,
    /// Rows that reads were cut into: name and whether neighbours follow one another.
    rows: Vec<Option<(TokenStream, bool)>>,
    /// The same for stores; `None` for those that are written element by element.
    store_rows: Vec<Option<Row>>,
}

/// A row cut out of a region.
#[derive(Clone)]
struct Row {
    /// `r0`, or the region itself.
    name: TokenStream,
    /// Elements from one lane to the next.
    factor: isize,
    /// Lanes.
    lanes: usize,
}

impl Row {
    /// Index of the current lane.
    fn index(&self, lane: &str) -> TokenStream {
        let lane = Affine::variable(lane);
        match self.factor {
            0.. => Affine::default().plus(&lane, self.factor).tokens(),
            _ => {
                let last = self.factor.unsigned_abs() * self.lanes.saturating_sub(1);
                Affine::constant(last as isize).plus(&lane, self.factor).tokens()
            }
        }
    }

    fn element(&self, lane: &str) -> TokenStream {
        let (name, index) = (&self.name, self.index(lane));
        if self.factor == 1 { quote!(#name[#index]) } else { quote!(rt::loops::at(#name, #index)) }
    }

    fn put(&self, lane: &str, value: &TokenStream) -> TokenStream {
        let (name, index) = (&self.name, self.index(lane));
        if self.factor == 1 {
            quote!(#name[#index] = #value;)
        } else {
            quote!(rt::loops::put(#name, #index, #value);)
        }
    }
}

/// Whether a name stands in an expression.
fn mentions(tokens: &TokenStream, name: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Group(group) => mentions(&group.stream(), name),
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// Reads that expressions need, those of gather indices included, in order.
pub(super) fn needed(nest: &Nest, values: &[&Expr]) -> Vec<usize> {
    let mut wanted = vec![false; nest.reads.len()];
    for value in values {
        mark(value, &mut wanted);
    }
    // Indices are made of earlier reads only.
    for i in (0..nest.reads.len()).rev() {
        if wanted.get(i) == Some(&true) {
            for gather in nest.reads.get(i).map(|r| r.gather.as_slice()).unwrap_or_default() {
                mark(&gather.index, &mut wanted);
            }
        }
    }
    wanted.iter().enumerate().filter(|(_, w)| **w).map(|(i, _)| i).collect()
}

/// Whether the position of read `r` is computed from one of these reads.
fn gathers_by(nest: &Nest, r: usize, reads: &[bool]) -> bool {
    let mut found = false;
    for gather in nest.reads.get(r).map(|r| r.gather.as_slice()).unwrap_or_default() {
        visit(&gather.index, &mut |e| found |= matches!(e, Expr::Read(i) if reads.get(*i) == Some(&true)));
    }
    found
}

fn mark(e: &Expr, wanted: &mut [bool]) {
    visit(e, &mut |e| {
        if let Expr::Read(i) = e
            && let Some(w) = wanted.get_mut(*i)
        {
            *w = true;
        }
    });
}

/// Every node of an expression.
fn visit(e: &Expr, f: &mut impl FnMut(&Expr)) {
    f(e);
    match e {
        Expr::Read(_) | Expr::Acc(_) | Expr::Index(_) | Expr::Const(_) => {}
        Expr::Unary(_, a) | Expr::Cast { value: a, .. } => visit(a, f),
        Expr::Binary(_, a, b) | Expr::Compare(_, a, b) | Expr::Quantize { value: a, zero: b, .. } => {
            visit(a, f);
            visit(b, f);
        }
        Expr::Select(c, a, b) => {
            visit(c, f);
            visit(a, f);
            visit(b, f);
        }
    }
}

impl<'a> Phase<'a> {
    /// Loads what `values` need; with `stores`, prepares the nest's stores as well.
    pub(super) fn new(
        cx: &'a NestCx<'a>,
        values: &[&Expr],
        scope: Scope<'a>,
        stores: bool,
    ) -> Result<Self, EmitError> {
        let count = cx.nest.reads.len();
        let mut phase = Phase {
            cx,
            scope,
            indices: scope.indices.iter().map(Affine::tokens).collect(),
            before: TokenStream::new(),
            first: TokenStream::new(),
            values: vec![None; count],
            elements: vec![None; count],
            rows: vec![None; count],
            store_rows: vec![None; if stores { cx.nest.stores.len() } else { 0 }],
        };
        let reads = needed(cx.nest, values);
        let mut uses = vec![0usize; count];
        let gathers =
            reads.iter().filter_map(|&r| cx.nest.reads.get(r)).flat_map(|r| &r.gather).map(|g| &g.index);
        for e in values.iter().copied().chain(gathers) {
            visit(e, &mut |e| {
                if let Expr::Read(i) = e
                    && let Some(n) = uses.get_mut(*i)
                {
                    *n += 1;
                }
            });
        }
        // Rows that are read and written in place are cut once, as the store's; they come after the reads
        // of other regions, which may be scalars out of the same one.
        let in_place: Vec<Option<usize>> = (0..count)
            .map(|r| if stores && reads.contains(&r) { phase.in_place(r, &reads) } else { None })
            .collect();
        // A position gathered from such a row waits with it.
        let mut late = vec![false; count];
        for &r in &reads {
            let waits = in_place.get(r).copied().flatten().is_some() || gathers_by(cx.nest, r, &late);
            if let Some(slot) = late.get_mut(r) {
                *slot = waits;
            }
            if !waits {
                phase.load(r, uses.get(r).copied().unwrap_or(0), stores)?;
            }
        }
        if stores {
            for s in 0..cx.nest.stores.len() {
                phase.prepare_store(s, &reads)?;
            }
        }
        for &r in reads.iter().filter(|&&r| late.get(r) == Some(&true)) {
            let uses = uses.get(r).copied().unwrap_or(0);
            match in_place.get(r).copied().flatten() {
                Some(s) => phase.load_in_place(r, s, uses)?,
                None => phase.load(r, uses, stores)?,
            }
        }
        Ok(phase)
    }

    fn access(&self, access: &Access, binding: Binding) -> Affine {
        let start = Affine::constant(access.offset as isize + binding.shift);
        access.strides.iter().zip(self.scope.indices).fold(start, |sum, (&s, index)| sum.plus(index, s))
    }

    fn read_position(&self, r: usize) -> Option<(Affine, Binding, DType)> {
        let (read, &binding) = (self.cx.nest.reads.get(r)?, self.cx.reads.get(r)?);
        Some((self.access(&read.access, binding), binding, read.access.dtype))
    }

    fn store_position(&self, s: usize) -> Option<(Affine, Binding, DType)> {
        let (store, &binding) = (self.cx.nest.stores.get(s)?, self.cx.stores.get(s)?);
        Some((self.access(&store.access, binding), binding, store.access.dtype))
    }

    fn region(&self, binding: Binding) -> Result<(&'a Ident, usize), EmitError> {
        let region = self.cx.regions.get(binding.region);
        region.map(|r| (&r.name, r.len)).ok_or_else(|| EmitError::Internal("an access has no region".into()))
    }

    /// The store that read `r` has the same place as, if that store can be a row: the only store of its
    /// region, whose reads all have its place.
    fn in_place(&self, r: usize, reads: &[usize]) -> Option<usize> {
        let (position, binding, _) = self.read_position(r)?;
        let plain = self.cx.nest.reads.get(r)?.gather.is_empty();
        let s = self.cx.stores.iter().position(|b| b.region == binding.region)?;
        (plain && self.store_position(s)?.0 == position && self.row_store(s, reads)).then_some(s)
    }

    /// Whether store `s` can be a row.
    fn row_store(&self, s: usize, reads: &[usize]) -> bool {
        let (Some((lane, _)), Some((position, binding, _))) = (self.scope.lane, self.store_position(s))
        else {
            return false;
        };
        let alone = self.cx.stores.iter().filter(|b| b.region == binding.region).count() == 1;
        let varies = |p: &Affine| p.factor(lane) != 0;
        let same = reads.iter().all(|&r| match self.read_position(r) {
            Some((p, b, _)) if b.region == binding.region => {
                p == position && self.cx.nest.reads.get(r).is_some_and(|r| r.gather.is_empty())
            }
            _ => true,
        });
        alone && varies(&position) && same
    }

    /// Cuts a row out of a region: `(row, statement)`.
    fn cut(
        &self,
        name: &str,
        position: &Affine,
        binding: Binding,
        write: bool,
    ) -> Result<Option<(Row, TokenStream)>, EmitError> {
        let Some((lane, lanes)) = self.scope.lane else { return Ok(None) };
        let factor = position.factor(lane);
        if factor == 0 {
            return Ok(None);
        }
        let (region, len) = self.region(binding)?;
        let reach = factor.unsigned_abs() * lanes.saturating_sub(1);
        let mut start = position.without(lane);
        if factor < 0 {
            start = start.plus(&Affine::constant(reach as isize), -1);
        }
        if start.is_zero() && reach + 1 == len {
            return Ok(Some((Row { name: quote!(#region), factor, lanes }, TokenStream::new())));
        }
        let (name, start, length) = (names::ident(name), start.tokens(), format::size(reach + 1));
        let function = names::ident(if write { "row_mut" } else { "row" });
        let statement =
            quote!(let Some(#name) = rt::loops::#function::<#length, _>(#region, #start) else { return; };);
        Ok(Some((Row { name: quote!(#name), factor, lanes }, statement)))
    }

    fn set(&mut self, r: usize, value: Code, element: TokenStream) {
        if let (Some(v), Some(e)) = (self.values.get_mut(r), self.elements.get_mut(r)) {
            *v = Some(value);
            *e = Some(element);
        }
    }

    /// Loads read `r`: before the loop where it does not vary in it, else out of a row, else by position.
    fn load(&mut self, r: usize, uses: usize, stores: bool) -> Result<(), EmitError> {
        let internal = || EmitError::Internal("a read is nowhere".into());
        let read = self.cx.nest.reads.get(r).ok_or_else(internal)?;
        let (position, binding, dtype) = self.read_position(r).ok_or_else(internal)?;
        let (region, _) = self.region(binding)?;
        let mut place = position.tokens();
        let mut varies = self.varies(&position);
        let mut index_varies = false;
        let mut indices = TokenStream::new();
        for (g, gather) in read.gather.iter().enumerate() {
            let index = self.value(&gather.index, &[])?;
            index_varies |= self.expr_varies(&gather.index);
            let (text, operand, extent) = (&index.text, index.operand(), format::size(gather.extent));
            let as_i64 = if index.dtype == DType::I64 { quote!(#text) } else { quote!(#operand as i64) };
            let name = names::ident(&format!("g{r}_{g}"));
            indices.extend(match gather.proven {
                true => quote!(let #name = rt::loops::proven_index(#as_i64, #extent);),
                false => quote!(let #name = rt::loops::index(#as_i64, #extent, fault);),
            });
            let step = format::size(gather.stride.unsigned_abs());
            let term = if gather.stride.unsigned_abs() == 1 { quote!(#name) } else { quote!(#name * #step) };
            place = if gather.stride < 0 {
                quote!(#place - #term)
            } else if position.is_zero() && g == 0 {
                term
            } else {
                quote!(#place + #term)
            };
        }
        varies |= index_varies;
        if index_varies {
            self.first.extend(indices)
        } else {
            self.before.extend(indices)
        }
        // A region that this phase also writes cannot be cut into rows for reading.
        let written = stores && self.cx.stores.iter().any(|b| b.region == binding.region);
        if varies && !index_varies && !written && read.gather.iter().all(|g| g.stride >= 0) {
            let cut = if read.gather.is_empty() {
                self.cut(&format!("r{r}"), &position, binding, false)?
            } else {
                self.cut_gathered(r, &position, &place, binding)?
            };
            if let (Some((row, statement)), Some((lane, _))) = (cut, self.scope.lane) {
                self.before.extend(statement);
                let element = row.element(lane);
                if let Some(slot) = self.rows.get_mut(r) {
                    *slot = Some((row.name.clone(), row.factor == 1));
                }
                return self.bind(r, element, dtype, uses, true);
            }
        }
        let element = quote!(rt::loops::at(#region, #place));
        self.bind(r, element, dtype, uses, varies)
    }

    /// A row behind a gathered index, which does not vary in the loop.
    fn cut_gathered(
        &self,
        r: usize,
        position: &Affine,
        place: &TokenStream,
        binding: Binding,
    ) -> Result<Option<(Row, TokenStream)>, EmitError> {
        let Some((lane, lanes)) = self.scope.lane else { return Ok(None) };
        let factor = position.factor(lane);
        // The place holds the lane's variable unless it is left out; only plain rows are worth it.
        if factor != 1 {
            return Ok(None);
        }
        let rest = position.without(lane);
        let mut start = rest.tokens();
        let read = self.cx.nest.reads.get(r);
        for (g, gather) in read.map(|r| r.gather.as_slice()).unwrap_or_default().iter().enumerate() {
            let name = names::ident(&format!("g{r}_{g}"));
            let step = format::size(gather.stride.unsigned_abs());
            let term = if gather.stride == 1 { quote!(#name) } else { quote!(#name * #step) };
            start = if rest.is_zero() && g == 0 { term } else { quote!(#start + #term) };
        }
        debug_assert!(!place.is_empty());
        let (region, _) = self.region(binding)?;
        let (name, length) = (names::ident(&format!("r{r}")), format::size(lanes));
        let statement =
            quote!(let Some(#name) = rt::loops::row::<#length, _>(#region, #start) else { return; };);
        Ok(Some((Row { name: quote!(#name), factor, lanes }, statement)))
    }

    /// Loads read `r` out of the row that store `s` writes.
    fn load_in_place(&mut self, r: usize, s: usize, uses: usize) -> Result<(), EmitError> {
        let dtype = self.cx.nest.reads.get(r).map(|r| r.access.dtype);
        let row = self.store_rows.get(s).cloned().flatten();
        let (Some(dtype), Some(row), Some((lane, _))) = (dtype, row, self.scope.lane) else {
            return Err(EmitError::Internal("an in-place read has no row".into()));
        };
        self.bind(r, row.element(lane), dtype, uses, true)
    }

    /// Names a loaded element where it is used more than once, or outside of the loop.
    fn bind(
        &mut self,
        r: usize,
        element: TokenStream,
        dtype: DType,
        uses: usize,
        varies: bool,
    ) -> Result<(), EmitError> {
        if varies && uses < 2 {
            let value = expr::load(element.clone(), dtype);
            self.set(r, value, element);
            return Ok(());
        }
        let name = names::ident(&format!("v{r}"));
        let statement = quote!(let #name = #element;);
        if varies {
            self.first.extend(statement)
        } else {
            self.before.extend(statement)
        }
        self.set(r, expr::load(quote!(#name), dtype), quote!(#name));
        Ok(())
    }

    fn prepare_store(&mut self, s: usize, reads: &[usize]) -> Result<(), EmitError> {
        if !self.row_store(s, reads) {
            return Ok(());
        }
        let Some((position, binding, _)) = self.store_position(s) else { return Ok(()) };
        if let Some((row, statement)) = self.cut(&format!("s{s}"), &position, binding, true)? {
            self.before.extend(statement);
            if let Some(slot) = self.store_rows.get_mut(s) {
                *slot = Some(row);
            }
        }
        Ok(())
    }

    fn varies(&self, position: &Affine) -> bool {
        self.scope.lane.is_some_and(|(lane, _)| position.factor(lane) != 0)
    }

    fn expr_varies(&self, e: &Expr) -> bool {
        let mut varies = false;
        visit(e, &mut |e| match e {
            Expr::Index(i) => varies |= self.scope.indices.get(*i).is_some_and(|p| self.varies(p)),
            Expr::Read(r) => {
                varies |= self.read_position(*r).is_some_and(|(p, ..)| self.varies(&p))
                    || self
                        .cx
                        .nest
                        .reads
                        .get(*r)
                        .is_some_and(|r| r.gather.iter().any(|g| self.expr_varies(&g.index)));
            }
            Expr::Acc(_) => varies |= self.scope.lane.is_some(),
            _ => {}
        });
        varies
    }

    /// The value of an expression.
    pub(super) fn value(&self, e: &Expr, accs: &[Code]) -> Result<Code, EmitError> {
        expr::expr(e, &expr::Scope { reads: &self.values, accs, indices: &self.indices })
    }

    /// The stores: `(before the loop, in the loop)`.
    pub(super) fn stores(&self, accs: &[Code]) -> Result<(TokenStream, TokenStream), EmitError> {
        let (mut at_once, mut inside) = (TokenStream::new(), TokenStream::new());
        for (s, store) in self.cx.nest.stores.iter().enumerate() {
            let (position, binding, dtype) =
                self.store_position(s).ok_or_else(|| EmitError::Internal("a store is nowhere".into()))?;
            let copied = match store.value {
                Expr::Read(r) => {
                    self.cx.nest.reads.get(r).filter(|read| read.access.dtype == dtype).map(|_| r)
                }
                _ => None,
            };
            let value = match copied.and_then(|r| self.elements.get(r).cloned().flatten()) {
                // Moved as it is, without going through a wider type.
                Some(element) => element,
                None => expr::store(&self.value(&store.value, accs)?, dtype)?,
            };
            let row = self.store_rows.get(s).and_then(Option::as_ref);
            match (row, self.scope.lane) {
                (Some(row), Some(_)) if row.factor == 1 && !self.expr_varies(&store.value) => {
                    let name = &row.name;
                    at_once.extend(quote!(#name.fill(#value);));
                }
                (Some(row), Some((lane, _))) => {
                    let from =
                        copied.and_then(|r| self.rows.get(r).cloned().flatten()).filter(|(_, unit)| *unit);
                    let from = from
                        .map(|(from, _)| quote!(*#from))
                        .or_else(|| self.accumulators(&store.value, dtype));
                    match from {
                        Some(from) if row.factor == 1 => {
                            let name = &row.name;
                            at_once.extend(quote!(*#name = #from;));
                        }
                        _ => inside.extend(row.put(lane, &value)),
                    }
                }
                _ => {
                    let ((region, _), place) = (self.region(binding)?, position.tokens());
                    inside.extend(match mentions(&value, &region.to_string()) {
                        // Read before the region is borrowed to be written.
                        true => quote!(let stored = #value; rt::loops::put(#region, #place, stored);),
                        false => quote!(rt::loops::put(#region, #place, #value);),
                    });
                }
            }
        }
        Ok((at_once, inside))
    }

    /// The array of accumulators that a store takes as it is, one per lane.
    fn accumulators(&self, value: &Expr, dtype: DType) -> Option<TokenStream> {
        let Expr::Acc(i) = value else { return None };
        let reduction = self.cx.nest.reductions.get(*i)?;
        let (name, found) = super::nest::accumulator(*i, reduction);
        (found == dtype && dtype != DType::Bool).then(|| quote!(#name))
    }

    /// The loop with its preparation.
    pub(super) fn around(&self, (at_once, inside): (TokenStream, TokenStream)) -> TokenStream {
        if inside.is_empty() {
            let before = &self.before;
            return quote!(#before #at_once);
        }
        let body = self.around_loop(inside);
        quote!(#body #at_once)
    }

    /// The loop around `inside`, with its preparation.
    pub(super) fn around_loop(&self, inside: TokenStream) -> TokenStream {
        let (before, first) = (&self.before, &self.first);
        match self.scope.lane {
            Some((lane, lanes)) => {
                let (lane, lanes) = (names::ident(lane), format::size(lanes));
                quote!(#before for #lane in 0..#lanes { #first #inside })
            }
            None => quote!(#before #first #inside),
        }
    }
}
