//! `include_model!`: compiles an ONNX model at the place of the macro.
//!
//! Thin over the compiler: the same layer code as `edgec build` and `edgec::Config` write, over the
//! dependency `edgec-runtime`.

#![forbid(unsafe_code)]

use edgec::{Config, ModelConfig};
use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::{Ident, LitBool, LitInt, LitStr, Token, bracketed, parenthesized};

/// Expands to `pub mod NAME { … }` with the model's `Model`, `Arena` and constants.
///
/// ```ignore
/// edgec_macros::include_model!("models/person.onnx", name = "person", dim("batch" = 1), level = "scalar,v3");
/// ```
///
/// The path is relative to the package's folder. Options: `name`, `level`, `target`, `specialise`, `max_ram`, `max_rom`, `ranges`, `input_layout`, `io` as
/// `key = "text"`; `exact = true`; `require_integer = true`; `dim("NAME" = 1)`, `input_shape("NAME" = [1, 3, 96, 96])`, `rename("ONNX" = "rust")`,
/// `bind("INPUT" = "FILE or VALUES")` (also `= 3`, `= [0, 2]`), `custom_op("DOMAIN:TYPE" = "crate::path")`, `custom_shape("DOMAIN:TYPE" = "same")`,
/// `stateful("INPUT" = "OUTPUT")`.
/// Weights above 16 MB are refused: use a build script.
#[proc_macro]
pub fn include_model(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let args = match syn::parse::<Args>(input) {
        Ok(args) => args,
        Err(e) => return e.to_compile_error().into(),
    };
    let expanded = args.config().and_then(|config| {
        config.expand().map_err(|d| syn::Error::new(args.path.span(), d.to_string().trim_end()))
    });
    match expanded {
        Ok(tokens) => tokens.into(),
        Err(e) => e.to_compile_error().into(),
    }
}

struct Args {
    path: LitStr,
    options: Vec<(Ident, Value)>,
}

enum Value {
    Text(LitStr),
    Flag(bool),
    Number(String, usize),
    Shape(String, Vec<usize>),
    Name(String, String),
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let path = input.parse()?;
        let mut options = Vec::new();
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if input.is_empty() {
                break;
            }
            let key: Ident = input.parse()?;
            let value = if input.peek(Token![=]) {
                input.parse::<Token![=]>()?;
                if input.peek(LitBool) {
                    Value::Flag(input.parse::<LitBool>()?.value)
                } else {
                    Value::Text(input.parse()?)
                }
            } else {
                let inner;
                parenthesized!(inner in input);
                pair(&inner)?
            };
            options.push((key, value));
        }
        Ok(Args { path, options })
    }
}

fn pair(input: ParseStream<'_>) -> syn::Result<Value> {
    let name = input.parse::<LitStr>()?.value();
    input.parse::<Token![=]>()?;
    if input.peek(LitStr) {
        return Ok(Value::Name(name, input.parse::<LitStr>()?.value()));
    }
    if input.peek(LitInt) {
        return Ok(Value::Number(name, input.parse::<LitInt>()?.base10_parse()?));
    }
    let list;
    bracketed!(list in input);
    let dims = list.parse_terminated(LitInt::parse, Token![,])?;
    Ok(Value::Shape(name, dims.iter().map(LitInt::base10_parse).collect::<syn::Result<_>>()?))
}

/// An option's problem, at its place.
fn at<T>(key: &Ident, result: Result<T, edgec::diag::Diagnostic>) -> syn::Result<T> {
    result.map_err(|d| syn::Error::new(key.span(), d.to_string().trim_end()))
}

impl Args {
    fn config(&self) -> syn::Result<Config> {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR")
            .ok_or_else(|| syn::Error::new(Span::call_site(), "CARGO_MANIFEST_DIR is not set"))?;
        let mut model = ModelConfig::file(std::path::Path::new(&folder).join(self.path.value()));
        let mut config = Config::new();
        for (key, value) in &self.options {
            match (key.to_string().as_str(), value) {
                ("name", Value::Text(v)) => model = model.name(v.value()),
                ("target", Value::Text(v)) => config = config.target(v.value()),
                ("level", Value::Text(v)) => {
                    let levels = edgec::parse_levels(&v.value())
                        .map_err(|d| syn::Error::new(v.span(), d.to_string()))?;
                    config = config.levels(levels);
                }
                ("specialise", Value::Text(v)) => {
                    let which = v.value().parse().map_err(|e: String| syn::Error::new(v.span(), e))?;
                    config = config.specialise(which);
                }
                ("exact", Value::Flag(exact)) => config = config.exact(*exact),
                ("require_integer", Value::Flag(require)) => config = config.require_integer(*require),
                ("max_ram" | "max_rom", Value::Text(v)) => {
                    let bytes = edgec::config::parse_bytes(&v.value());
                    let bytes = bytes.map_err(|e| syn::Error::new(v.span(), e))?;
                    config = if key == "max_ram" { config.max_ram(bytes) } else { config.max_rom(bytes) };
                }
                ("ranges", Value::Text(v)) => {
                    model = model.ranges(std::path::Path::new(&folder).join(v.value()));
                }
                ("input_layout", Value::Text(v)) => match v.value().as_str() {
                    "nhwc" => model = model.input_nhwc(true),
                    "model" => model = model.input_nhwc(false),
                    _ => return Err(syn::Error::new(v.span(), "expected \"nhwc\" or \"model\"")),
                },
                ("io", Value::Text(v)) => {
                    let io = v.value().parse().map_err(|e: String| syn::Error::new(v.span(), e))?;
                    model = model.io(io);
                }
                ("dim", Value::Number(name, n)) => model = model.dim(name, *n),
                ("input_shape", Value::Shape(name, dims)) => model = model.input_shape(name, dims.clone()),
                ("rename", Value::Name(onnx, rust)) => model = model.rename(onnx, rust),
                ("bind", Value::Name(input, value)) => {
                    model = at(key, model.bind_text(input, value, std::path::Path::new(&folder)))?;
                }
                ("bind", Value::Number(input, n)) => {
                    let value = i64::try_from(*n).map_err(|e| syn::Error::new(key.span(), e))?;
                    model = model.bind(input, edgec::ir::Tensor::scalar(value));
                }
                ("bind", Value::Shape(input, values)) => {
                    let values: Result<Vec<i64>, _> = values.iter().map(|&v| i64::try_from(v)).collect();
                    let values = values.map_err(|e| syn::Error::new(key.span(), e))?;
                    model = model.bind(input, edgec::ir::Tensor::vector(&values));
                }
                ("custom_op", Value::Name(op, path)) => model = at(key, model.custom_op(op, path))?,
                ("custom_shape", Value::Name(op, rule)) => model = at(key, model.custom_shape(op, rule))?,
                ("stateful", Value::Name(input, output)) => model = model.stateful(input, output),
                _ => {
                    return Err(syn::Error::new(
                        key.span(),
                        "unknown option or value; known: name, level, target, specialise, max_ram, max_rom, ranges, input_layout = \"…\", io = \"native\", \
                         exact = true, require_integer = true, dim(\"NAME\" = 1), input_shape(\"NAME\" = [1, 3]), rename(\"ONNX\" = \"rust\"), \
                         bind(\"INPUT\" = \"VALUE\"), stateful(\"INPUT\" = \"OUTPUT\"), \
                         custom_op(\"DOMAIN:TYPE\" = \"crate::path\"), custom_shape(\"DOMAIN:TYPE\" = \"same\")",
                    ));
                }
            }
        }
        Ok(config.model(model))
    }
}
