//! From a file to the compiler's graph, in one forward walk.
//!
//! In: an ONNX model (binary, or the textual syntax), values for open dimensions, tensors to bind.
//! Out: a [`Graph`] whose every value has a static type, and whose values carry their tensors where
//! these follow from constants. Functions and decided branches are inlined. A folded value keeps its
//! producer until [`Graph::remove_dead`](crate::ir::Graph::remove_dead), so that quantization can
//! look through.
//!
//! All problems of a model are collected; what depends on a refused node is skipped in silence.
//! Refused: operators without an entry in [`crate::ops`], bodies of branches and loops without fixed shapes,
//! sequences, maps and optional values, and what exceeds [`limits`]. Texts become positions in tables
//! (`texts.rs`); what `ZipMap` makes stays a tensor.

mod attrs;
mod binds;
mod bounded;
mod constant;
mod control;
mod custom;
mod inputs;
pub mod limits;
mod node;
mod order;
mod problems;
mod repeat;
mod scan;
mod scope;
mod subgraph;
#[cfg(test)]
mod tests;
mod texts;
mod walk;

pub use custom::{
    CustomOp, CustomOps, CustomShape, CustomShapes, custom_name, parse_custom_name, parse_custom_path,
};

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::{DType, Tensor};
use crate::onnx::proto::{FunctionProto, GraphProto, ModelProto, ValueInfoProto};
use crate::onnx::text::parse_model;
use crate::onnx::{DecodeError, ExternalData, decode_model};
use crate::ops::Graph;
use inputs::Input;
use limits::{MAX_FILE_BYTES, short};
use problems::Problems;
use prost::bytes::Bytes;
use scope::{Scope, Slot};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use walk::{Frame, Opsets, Walker, plain_domain};

/// Operator set versions of ONNX's own domain that are read.
pub const OPSETS: std::ops::RangeInclusive<i64> = 1..=28;

/// Versions of the file format that are read.
pub const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=14;

/// Operators of ONNX's own domain that the walk itself resolves, so that no entry of
/// [`crate::ops::importers`] names them, and the versions of their definitions.
pub const RESOLVED_OPS: &[(&str, &[i64])] =
    &[("Constant", &[1]), ("If", &[1]), ("Loop", &[1]), ("Scan", &[8, 9])];

/// What the user says about a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Values of named dimensions (`--dim`).
    pub dims: BTreeMap<String, usize>,
    /// Whole shapes of inputs (`--input-shape`).
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// Inputs that become constants (`--bind`).
    pub binds: BTreeMap<String, Tensor>,
    /// Operators that functions of the user compute (`--custom-op`).
    pub custom: CustomOps,
}

/// A model, imported.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The graph.
    pub graph: Graph,
    /// Notes and warnings.
    pub diagnostics: Diagnostics,
    /// Where it came from.
    pub source: Source,
}

/// Facts about the file, for reports and provenance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// SHA-256 of the model file, in hexadecimal.
    pub sha256: String,
    /// Version of the file format.
    pub ir_version: i64,
    /// Version of ONNX's own operator set; 0 where none is imported.
    pub opset: i64,
    /// Versions of all operator sets, by domain.
    pub opsets: Vec<(String, i64)>,
    /// Tool that wrote the file, and its version.
    pub producer: String,
    /// Key and value pairs of the file.
    pub metadata: Vec<(String, String)>,
    /// External data files that were read, the model file not included.
    pub data_files: Vec<PathBuf>,
}

/// Imports a model file. Names ending in `.onnxtxt` are read as textual syntax.
pub fn load(path: &Path, options: &Options) -> Result<Imported, Diagnostics> {
    read_model(path)?.import(options)
}

/// A model file, decoded.
#[derive(Debug)]
pub struct ModelFile {
    /// Its message.
    pub model: ModelProto,
    /// Where its external data may lie.
    pub external: ExternalData,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

impl ModelFile {
    /// A model in memory; external data cannot be read.
    pub fn from_bytes(bytes: &[u8]) -> Result<ModelFile, Diagnostics> {
        let bytes = Bytes::copy_from_slice(bytes);
        let model = decode(&bytes)?;
        Ok(ModelFile { model, external: ExternalData::none(), sha256: hash(&bytes) })
    }

    /// Imports the model.
    pub fn import(&self, options: &Options) -> Result<Imported, Diagnostics> {
        let mut imported = import_graph(&self.model, &self.external, options)?;
        imported.source.sha256 = self.sha256.clone();
        Ok(imported)
    }
}

/// SHA-256 in hexadecimal.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Decodes a model file without importing it.
pub fn read_model(path: &Path) -> Result<ModelFile, Diagnostics> {
    let bytes = read_file(path)?;
    let sha256 = hash(&bytes);
    let model = if path.extension().is_some_and(|e| e == "onnxtxt") {
        let not_onnx = |e: &dyn std::fmt::Display| {
            Diagnostic::error(Code::NotOnnx, format!("`{}`: {e}", path.display()))
        };
        let text = std::str::from_utf8(&bytes).map_err(|e| not_onnx(&e))?;
        parse_model(text).map_err(|e| not_onnx(&e))?
    } else {
        decode(&bytes)?
    };
    Ok(ModelFile { model, external: ExternalData::in_folder(folder_of(path)), sha256 })
}

/// Names of the inputs of a model file that a caller gives, in the model's order: initializers that old
/// files list among the inputs are not counted.
pub fn input_names(path: &Path) -> Result<Vec<String>, Diagnostics> {
    let bytes = read_file(path)?;
    let model = if path.extension().is_some_and(|e| e == "onnxtxt") {
        let text = String::from_utf8_lossy(&bytes);
        parse_model(&text)
            .map_err(|e| Diagnostic::error(Code::NotOnnx, format!("`{}`: {e}", path.display())))?
    } else {
        decode(&bytes)?
    };
    Ok(given_inputs(&model))
}

/// [`input_names`] of a model in memory.
pub fn input_names_of_bytes(bytes: &[u8]) -> Result<Vec<String>, Diagnostics> {
    Ok(given_inputs(&decode(&Bytes::copy_from_slice(bytes))?))
}

fn given_inputs(model: &ModelProto) -> Vec<String> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let known: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    graph.input.iter().map(|i| i.name.as_str()).filter(|n| !known.contains(n)).map(str::to_owned).collect()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Imports a model from memory; external data cannot be read.
pub fn load_bytes(bytes: &[u8], options: &Options) -> Result<Imported, Diagnostics> {
    ModelFile::from_bytes(bytes)?.import(options)
}

/// Imports a decoded model; `external` says where its external data may lie.
pub fn load_model(
    model: &ModelProto,
    external: &ExternalData,
    options: &Options,
) -> Result<Imported, Diagnostics> {
    import_graph(model, external, options)
}

fn read_file(path: &Path) -> Result<Bytes, Diagnostics> {
    let io = |e: std::io::Error| Diagnostic::error(Code::Io, format!("`{}`: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut bytes = Vec::new();
    // A file may grow, and a device has no length: the reading itself is bounded, too.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if length.max(bytes.len() as u64) > MAX_FILE_BYTES {
        return Err(Diagnostic::error(
            Code::Limit,
            format!("`{}` exceeds {MAX_FILE_BYTES} bytes", path.display()),
        )
        .into());
    }
    Ok(bytes.into())
}

fn decode(bytes: &Bytes) -> Result<ModelProto, Diagnostics> {
    decode_model(bytes.clone()).map_err(|e| {
        let code = match e {
            DecodeError::Scan(crate::onnx::ScanError::Limit(_)) => Code::Limit,
            _ => Code::NotOnnx,
        };
        let mut d = Diagnostic::error(code, format!("the file is not an ONNX model: {e}"));
        if bytes.starts_with(b"version https://git-lfs") {
            d = d.with_help("this is a Git LFS pointer: fetch the file with `git lfs pull`");
        }
        d.into()
    })
}

fn import_graph(
    model: &ModelProto,
    external: &ExternalData,
    options: &Options,
) -> Result<Imported, Diagnostics> {
    let opsets = control::opsets(&model.opset_import);
    let graph = check_model(model, &opsets)?;
    let mut walker = Walker::new(&short(&graph.name), external, &options.custom, Problems::default());
    custom::check_used(model, &options.custom, &mut walker.problems);
    define_functions(&mut walker, &model.functions);
    walker.declare(graph);
    let mut scope = Scope::new();
    let frame = Frame {
        opsets: opsets.clone(),
        given: attrs::Given::new(),
        prefix: String::new(),
        top: None,
        calls: Vec::new(),
        depth: 0,
    };
    define_inputs(&mut walker, graph, options, &mut scope);
    // A limit that stops the walk is reported; what was found before it is, too.
    let whole = walker
        .initializers(graph, &mut scope, &frame)
        .and_then(|()| walker.nodes(&graph.node, &mut scope, &frame))
        .is_ok();
    if whole {
        define_outputs(&mut walker, &graph.output, &scope);
    }
    if walker.problems.has_errors() {
        return Err(walker.problems.finish());
    }
    let source = Source {
        sha256: String::new(),
        ir_version: model.ir_version,
        opset: opsets.get("").copied().unwrap_or(0),
        opsets: opsets.iter().map(|(d, &v)| (short(d), v)).collect(),
        producer: short(format!("{} {}", model.producer_name, model.producer_version).trim()),
        metadata: model.metadata_props.iter().map(|p| (p.key.clone(), p.value.clone())).collect(),
        data_files: external.files(),
    };
    Ok(Imported { graph: walker.graph, diagnostics: walker.problems.finish(), source })
}

/// Format and operator set versions; the graph.
fn check_model<'m>(model: &'m ModelProto, opsets: &Opsets<'m>) -> Result<&'m GraphProto, Diagnostics> {
    let not_onnx =
        |what: &str| Diagnostic::error(Code::NotOnnx, format!("the file is not an ONNX model: {what}"));
    let graph = model.graph.as_ref().ok_or_else(|| not_onnx("it has no graph"))?;
    if model.ir_version <= 0 {
        return Err(not_onnx("it has no `ir_version`").into());
    }
    if !IR_VERSIONS.contains(&model.ir_version) {
        return Err(Diagnostic::error(
            Code::Opset,
            format!(
                "version {} of the file format is not supported, only {} to {}",
                model.ir_version,
                IR_VERSIONS.start(),
                IR_VERSIONS.end()
            ),
        )
        .with_help("export the model again, with a release of `onnx` that writes such a version")
        .into());
    }
    let functions = model.functions.iter().map(|f| control::opsets(&f.opset_import));
    for set in functions.chain([opsets.clone()]) {
        match set.get("") {
            Some(version) if !OPSETS.contains(version) => {
                return Err(Diagnostic::error(
                    Code::Opset,
                    format!(
                        "version {version} of ONNX's operator set is not supported, only {} to {}",
                        OPSETS.start(),
                        OPSETS.end()
                    ),
                )
                .with_help("convert the model with `onnx.version_converter`, or export it again")
                .into());
            }
            _ => {}
        }
    }
    Ok(graph)
}

fn define_functions<'m>(walker: &mut Walker<'m>, functions: &'m [FunctionProto]) {
    for f in functions {
        let key = (plain_domain(&f.domain), f.name.as_str(), f.overload.as_str());
        if walker.functions.insert(key, f).is_some() {
            walker.structure(format!("function `{}` is defined twice", short(&f.name)));
        }
    }
}

/// Inputs of the graph; those with an initializer are constants, unless bound to another tensor.
fn define_inputs<'s>(
    walker: &mut Walker<'_>,
    graph: &'s GraphProto,
    options: &Options,
    scope: &mut Scope<'s>,
) {
    let initialized: BTreeSet<&str> = graph
        .initializer
        .iter()
        .map(|t| t.name.as_str())
        .chain(graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).map(|v| v.name.as_str()))
        .collect();
    let open: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|i| !initialized.contains(i.name.as_str())).collect();
    let (resolved, dims) = inputs::resolve(&open, options, &mut walker.problems);
    walker.dims = dims;
    let words = texts::known_words(graph, walker.external);
    for (info, input) in open.iter().zip(resolved) {
        let name = short(&info.name);
        let slot = match input {
            Input::Open(dtype, shape) => Slot::Value(walker.graph.add_input(name, dtype, shape)),
            Input::Texts(shape) => {
                let v = walker.graph.add_input(name, DType::I64, shape);
                walker.text_input(info, v, &words);
                Slot::Value(v)
            }
            Input::Bound(tensor) => Slot::Value(walker.graph.add_constant(name, tensor)),
            Input::Unknown => Slot::Unknown,
        };
        if info.name.is_empty() {
            walker.structure("an input has no name".into());
        }
        walker.define(&info.name, slot, scope);
    }
}

fn define_outputs(walker: &mut Walker<'_>, outputs: &[ValueInfoProto], scope: &Scope<'_>) {
    if outputs.is_empty() {
        walker.structure("the graph has no outputs".into());
    }
    let mut names = BTreeSet::new();
    for info in outputs {
        if !names.insert(&info.name) {
            walker.structure(format!("output `{}` is listed twice", short(&info.name)));
        }
        match scope.lookup(&info.name) {
            Some(Slot::Value(v)) => {
                let v = walker.output_table(info, v);
                walker.graph.outputs.push((short(&info.name), v));
            }
            Some(Slot::Unknown) => {}
            Some(Slot::Absent) | None => {
                walker.structure(format!("output `{}` is defined by no node", short(&info.name)));
            }
        }
    }
    walker.output_lengths();
}
