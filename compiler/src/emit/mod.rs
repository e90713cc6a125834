//! Steps + plan → files of a crate.
//!
//! [`package`] makes them in memory, [`write()`] puts them into a folder at once or not at all, and
//! [`compare`] says how a folder differs from them. [`inline`] and [`tokens`] make the same modules
//! for a build script's `include!` and for a macro. Layers are the same text from all of them.
//!
//! Never looks at ONNX: names, versions and hashes come with [`ModelUnit`].

mod api;
mod blob;
mod control;
mod custom;
mod error;
mod external;
mod files;
mod format;
mod inline;
mod kernels;
mod model;
mod model_type;
mod names;
mod operands;
mod plan;
mod quantized;
mod state;
mod table;
mod vendor;
mod write;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use error::EmitError;
pub use inline::{Inline, inline, tokens};
pub use names::sanitise;
pub use state::Carried;
pub(crate) use state::bytes as state_bytes;
pub use write::{Difference, compare, write};

use crate::ir::QuantParams;
use crate::memory::{Plan, PlanTable};
use crate::schedule::Schedule;
pub use edgec_runtime::Level;

/// A scheduled model and all that emission says about it.
#[derive(Debug, Clone, Copy)]
pub struct ModelUnit<'a> {
    /// Steps, buffers, constants.
    pub schedule: &'a Schedule,
    /// Offsets.
    pub plan: &'a Plan,
    /// Who writes and reads what, for rustc's check.
    pub table: &'a PlanTable,
    /// Facts about the model.
    pub meta: &'a Meta,
}

/// Facts about a model that generated code and `PROVENANCE.json` state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meta {
    /// Name of the model's file, without folders.
    pub file: String,
    /// SHA-256 of that file (and of its external data), 64 hexadecimal digits.
    pub sha256: String,
    /// ONNX operator set that it imports.
    pub opset: i64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// Elements of the model's constants.
    pub params: u64,
    /// Module name given by the user; out of the model's name where there is none.
    pub module: Option<String>,
    /// ONNX names of inputs and outputs, and the identifiers given for them.
    pub renames: Vec<(String, String)>,
    /// Options that shaped the result, as the user would type them, in a fixed order.
    pub options: Vec<String>,
    /// Inputs with the outputs that the reference evaluation gives, for `tests/golden.rs`.
    pub samples: Vec<Sample>,
    /// What is carried from run to run, in the order of the inputs.
    pub states: Vec<Carried>,
    /// What the integers of inputs stand for, by position; those beyond its end are not quantized.
    pub inputs: Vec<Option<QuantParams>>,
    /// What the integers of outputs stand for, likewise.
    pub outputs: Vec<Option<QuantParams>>,
}

/// Inputs and expected outputs: little-endian bytes in the ports' order and layout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// One per input.
    pub inputs: Vec<Vec<u8>>,
    /// One per output.
    pub outputs: Vec<Vec<u8>>,
    /// Tolerated difference of floats, relative to the expected value.
    pub rtol: f64,
    /// Tolerated difference of floats.
    pub atol: f64,
}

/// How the crate is made.
#[derive(Debug, Clone, PartialEq)]
pub struct EmitOptions {
    /// Package name.
    pub package: String,
    /// Levels besides [`Level::Scalar`], which is always there.
    pub levels: Vec<Level>,
    /// Where the runtime comes from.
    pub runtime: Runtime,
    /// Which layers get code of their own.
    pub specialise: Specialise,
    /// Whether convolutions are direct sums; for the record.
    pub exact: bool,
    /// Where the weights are.
    pub weights: WeightsAt,
    /// Modules of the user that a package holds.
    pub custom_sources: Vec<CustomSource>,
}

/// A Rust file of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomSource {
    /// Module name.
    pub name: String,
    /// Contents.
    pub text: String,
}

/// Where a generated crate's weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightsAt {
    /// In the crate (`include_bytes!`).
    #[default]
    Crate,
    /// In a file beside the code that the program loads and hands over, whose length, layout and checksum are
    /// verified.
    Caller,
}

impl WeightsAt {
    /// As in options: `included`, `external`.
    pub fn name(self) -> &'static str {
        match self {
            WeightsAt::Crate => "included",
            WeightsAt::Caller => "external",
        }
    }
}

impl std::str::FromStr for WeightsAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "included" => Ok(WeightsAt::Crate),
            "external" => Ok(WeightsAt::Caller),
            _ => Err(format!("`{text}`: expected `included` or `external`")),
        }
    }
}

/// Which layers of the kernel families get code of their own, in which every extent is a constant, in place of the
/// microkernels that a crate's layers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Specialise {
    /// Those so small that loop control and addresses are their cost.
    #[default]
    Auto,
    /// None: the least code.
    Never,
    /// All: for comparisons; large layers gain nothing and cost their build.
    Always,
}

impl Specialise {
    /// As in options: `auto`, `never`, `always`.
    pub fn name(self) -> &'static str {
        match self {
            Specialise::Auto => "auto",
            Specialise::Never => "never",
            Specialise::Always => "always",
        }
    }
}

impl std::str::FromStr for Specialise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Specialise::Auto),
            "never" => Ok(Specialise::Never),
            "always" => Ok(Specialise::Always),
            _ => Err(format!("`{text}`: expected `auto`, `never` or `always`")),
        }
    }
}

/// Where a generated crate's runtime comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Runtime {
    /// A copy in module `rt`.
    #[default]
    Module,
    /// A dependency on a published version of `edgec-runtime`.
    Version(String),
    /// A dependency on `edgec-runtime` in a folder.
    Path(PathBuf),
}

/// A file of the crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Below the crate's folder, with `/`.
    pub path: String,
    /// Contents.
    pub bytes: Vec<u8>,
}

impl File {
    fn text(path: impl Into<String>, text: impl Into<String>) -> Self {
        File { path: path.into(), bytes: text.into().into_bytes() }
    }
}

/// Version of the compiler, as generated files state it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The files of one crate that holds `models`, sorted by path.
pub fn package(models: &[ModelUnit<'_>], options: &EmitOptions) -> Result<Vec<File>, EmitError> {
    let modules = model::modules(models, options)?;
    custom::check(&modules, models, options)?;
    let mut files = files::all(&modules, models, options)?;
    files.extend(custom::files(options));
    if options.runtime == Runtime::Module {
        files.extend(vendor::files(&files));
    }
    files.push(files::provenance(&files, models, options)?);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
