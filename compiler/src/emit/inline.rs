//! Models as one file, for a build script's `include!`, and as tokens, for a macro.
//!
//! Items are those of the packaged crate, with the runtime as the dependency `edgec-runtime`. Since the
//! features of the including crate are not ours, what needs the runtime's `alloc` goes through its macro
//! `when_alloc`, and profiling is always there.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use std::str::FromStr;

use super::model::{self, Module, Source};
use super::{EmitError, EmitOptions, File, ModelUnit, format, names};

/// Largest weights that a macro holds as a literal; more costs rustc too much memory.
const LITERAL_LIMIT: usize = 16 << 20;

/// Models as one source file with the files that it includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    /// What to `include!`.
    pub source: String,
    /// Weights, to be written beside it.
    pub files: Vec<File>,
}

/// The models as modules of one file. Weights are included from `folder`, an expression that gives the
/// folder's path at compile time, such as `env!("OUT_DIR")`.
pub fn inline(models: &[ModelUnit<'_>], options: &EmitOptions, folder: &str) -> Result<Inline, EmitError> {
    let mut source = String::new();
    let mut files = Vec::new();
    for module in model::modules(models, options)? {
        let mut statics = vec!["use super::rt;".to_owned()];
        let place = |i: usize| format!("{}_{}", module.name, module.weights_file(i));
        for (i, (name, bytes)) in module.weights.iter().enumerate() {
            let (len, path) = (format::group(bytes.len() as u128), place(i));
            files.push(File { path: path.clone(), bytes: bytes.clone() });
            if module.external {
                continue;
            }
            statics.push(format!(
                "/// Weights.\npub(super) static {name}: rt::Blob<{len}> = rt::Blob::new(*include_bytes!(concat!({folder}, \"/{path}\")));"
            ));
        }
        statics.extend(module.const_items.iter().cloned());
        let weights = Source { name: "weights".into(), items: statics, allow: &[] };
        source.push_str(&text(&module, &weights)?);
    }
    Ok(Inline { source, files })
}

/// The models as tokens with their weights inside. `tracked` are files on which the result depends:
/// rustc is told of them, so that a change expands the macro anew.
pub fn tokens(
    models: &[ModelUnit<'_>],
    options: &EmitOptions,
    tracked: &[String],
) -> Result<TokenStream, EmitError> {
    let mut all = TokenStream::new();
    for module in model::modules(models, options)? {
        if module.external {
            return Err(EmitError::ExternalInMacro);
        }
        let bytes: usize = module.weights.iter().map(|(_, b)| b.len()).sum();
        if bytes > LITERAL_LIMIT {
            return Err(EmitError::TooLarge { bytes, limit: LITERAL_LIMIT });
        }
        let statics = module.weights.iter().map(|(name, bytes)| {
            let (len, literal) = (format::size(bytes.len()), Literal::byte_string(bytes));
            quote!(
                #[doc = " Weights."]
                pub(super) static #name: rt::Blob<#len> = rt::Blob::new(*#literal);
            )
        });
        let aliases = parse(&format::join(&module.const_items))?;
        let sources = module.sources.iter().map(|source| {
            let (allow, name) = (allow(source)?, names::ident(&source.name));
            let items = parse(&format::join(&source.items))?;
            Ok(quote!(#allow mod #name { #items }))
        });
        let sources = sources.collect::<Result<Vec<_>, EmitError>>()?;
        let docs = format::doc(&module.docs);
        let name = names::ident(&module.name);
        let api = parse(&api_text(&module))?;
        all.extend(quote!(
            #docs
            #[allow(dead_code, unused_imports)]
            #[forbid(unsafe_code)]
            pub mod #name {
                use ::edgec_runtime as rt;
                #api
                #(#sources)*
                mod weights {
                    use super::rt;
                    #(#statics)*
                    #aliases
                }
                #(const _: &[u8] = include_bytes!(#tracked);)*
            }
        ));
    }
    Ok(all)
}

fn parse(text: &str) -> Result<TokenStream, EmitError> {
    TokenStream::from_str(text).map_err(|e| EmitError::Internal(format!("emitted text does not lex: {e}")))
}

fn allow(source: &Source) -> Result<TokenStream, EmitError> {
    if source.allow.is_empty() {
        return Ok(TokenStream::new());
    }
    let lints = source.allow.iter().map(|l| format!("clippy::{l}")).collect::<Vec<_>>().join(", ");
    parse(&format!("#[allow({lints})]"))
}

/// The public items, features resolved.
fn api_text(module: &Module) -> String {
    let api = &module.api;
    let mut items = vec![api.exports.clone()];
    items.extend(api.items.iter().cloned());
    items.push(format!("rt::when_alloc! {{\n{}\n}}", api.alloc));
    items.push(format!("rt::when_threads! {{\npub use rt::Crew;\n\n{}\n}}", api.threads));
    items.push(api.profile.clone());
    format::join(&items)
}

/// One model as a module. Items are not indented, so that they are the text that the packaged crate has.
fn text(module: &Module, weights: &Source) -> Result<String, EmitError> {
    let mut out = format!("{}\n", module.header);
    for line in &module.docs {
        out.push_str(format!("/// {line}").trim_end());
        out.push('\n');
    }
    out.push_str("#[allow(dead_code, unused_imports)]\n#[forbid(unsafe_code)]\n#[rustfmt::skip]\n");
    out.push_str(&format!(
        "pub mod {} {{\n\nuse ::edgec_runtime as rt;\n\n{}",
        module.name,
        api_text(module)
    ));
    for source in module.sources.iter().chain([weights]) {
        let allow = match source.allow {
            [] => String::new(),
            lints => {
                let lints: Vec<_> = lints.iter().map(|l| format!("clippy::{l}")).collect();
                format!("#[allow({})]\n", lints.join(", "))
            }
        };
        let body = format::join(&source.items);
        out.push_str(&format!("\n{allow}mod {} {{\n\n{body}\n}}\n", source.name));
    }
    out.push_str("\n}\n");
    Ok(out)
}
