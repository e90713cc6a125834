//! Positions as sums of loop variables.

use proc_macro2::TokenStream;
use quote::quote;
use std::collections::BTreeMap;

use crate::emit::{format, names};

/// `constant + Σ factor · variable`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Affine {
    constant: isize,
    terms: BTreeMap<String, isize>,
}

impl Affine {
    pub(super) fn constant(constant: isize) -> Self {
        Affine { constant, terms: BTreeMap::new() }
    }

    pub(super) fn variable(name: &str) -> Self {
        Affine { constant: 0, terms: BTreeMap::from([(name.to_owned(), 1)]) }
    }

    /// `self + factor · other`.
    pub(super) fn plus(&self, other: &Affine, factor: isize) -> Self {
        let mut sum = self.clone();
        sum.constant += factor * other.constant;
        for (name, f) in &other.terms {
            *sum.terms.entry(name.clone()).or_insert(0) += factor * f;
        }
        sum.terms.retain(|_, f| *f != 0);
        sum
    }

    /// What one step of a variable adds.
    pub(super) fn factor(&self, name: &str) -> isize {
        self.terms.get(name).copied().unwrap_or(0)
    }

    /// Without a variable.
    pub(super) fn without(&self, name: &str) -> Self {
        let mut rest = self.clone();
        rest.terms.remove(name);
        rest
    }

    pub(super) fn is_zero(&self) -> bool {
        self.constant == 0 && self.terms.is_empty()
    }

    /// Whether its expression is one token.
    pub(super) fn is_single(&self) -> bool {
        match self.terms.len() {
            0 => true,
            1 => self.constant == 0 && self.terms.values().all(|f| *f == 1),
            _ => false,
        }
    }

    /// As a `usize` expression; what is subtracted comes last, so that nothing is ever negative.
    pub(super) fn tokens(&self) -> TokenStream {
        let mut text = TokenStream::new();
        let add = |text: &mut TokenStream, term: TokenStream| match text.is_empty() {
            true => text.extend(term),
            false => text.extend(quote!(+ #term)),
        };
        for (name, &factor) in self.terms.iter().filter(|(_, f)| **f > 0) {
            add(&mut text, product(name, factor));
        }
        if self.constant > 0 || text.is_empty() {
            let constant = format::size(self.constant.unsigned_abs());
            add(&mut text, quote!(#constant));
        }
        for (name, &factor) in self.terms.iter().filter(|(_, f)| **f < 0) {
            let term = product(name, factor);
            text.extend(quote!(- #term));
        }
        if self.constant < 0 {
            let constant = format::size(self.constant.unsigned_abs());
            text.extend(quote!(- #constant));
        }
        text
    }
}

fn product(name: &str, factor: isize) -> TokenStream {
    let name = names::ident(name);
    match factor.unsigned_abs() {
        1 => quote!(#name),
        n => {
            let n = format::size(n);
            quote!(#name * #n)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtraction_comes_last() {
        let p = Affine::constant(95).plus(&Affine::variable("i0"), -3).plus(&Affine::variable("i1"), 12_345);
        assert_eq!(p.tokens().to_string(), "i1 * 12_345 + 95 - i0 * 3");
        assert_eq!(p.factor("i0"), -3);
        assert_eq!(Affine::default().tokens().to_string(), "0");
        assert_eq!(Affine::variable("b").plus(&Affine::variable("b"), -1), Affine::default());
    }
}
