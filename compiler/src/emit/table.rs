//! Tables of texts and keys beside inputs and outputs: what positions and columns stand for.

use proc_macro2::TokenStream;
use quote::quote;

use super::api::PortCode;
use super::{EmitError, format, names};
use crate::ir::{Keys, Table};

/// `LABELS` and `COLUMNS`, after the port where several have one.
pub(super) fn items(ports: &[&PortCode<'_>]) -> Result<Vec<String>, EmitError> {
    let kind = |table: &Table| match table {
        Table::Texts(_) => "LABELS",
        Table::Columns(_) => "COLUMNS",
    };
    let mut taken: Vec<String> = ports.iter().map(|p| p.info.to_string()).collect();
    let count = |name: &str| ports.iter().filter(|p| p.port.table.as_ref().map(kind) == Some(name)).count();
    let mut items = Vec::new();
    for p in ports {
        let Some(table) = &p.port.table else { continue };
        let short = kind(table);
        let alone = count(short) == 1 && !taken.iter().any(|t| t == short);
        let mut name = if alone { short.to_owned() } else { format!("{}_{short}", p.info) };
        while taken.contains(&name) {
            name.push('_');
        }
        taken.push(name.clone());
        items.push(item(&name, p, table)?);
    }
    Ok(items)
}

fn item(name: &str, p: &PortCode<'_>, table: &Table) -> Result<String, EmitError> {
    let port = format::code(&p.port.name);
    let doc = match table {
        Table::Texts(_) => format!(" The texts that elements of {port} are positions of."),
        Table::Columns(_) => format!(" What each column of {port} stands for."),
    };
    let name = names::ident(name);
    let (count, ty, list) = match table {
        Table::Texts(texts) => (texts.len(), quote!(&str), strings(texts)),
        Table::Columns(Keys::Texts(texts)) => (texts.len(), quote!(&str), strings(texts)),
        Table::Columns(Keys::Ints(keys)) => {
            let keys = keys.iter().map(|&k| format::signed(i128::from(k)));
            (keys.len(), quote!(i64), quote!(#(#keys),*))
        }
    };
    let count = format::size(count);
    format::item(quote!(#[doc = #doc] pub const #name: [#ty; #count] = [#list];))
}

fn strings(texts: &[String]) -> TokenStream {
    quote!(#(#texts),*)
}
