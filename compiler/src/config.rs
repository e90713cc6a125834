//! One builder behind the command line, `edgec.toml`, build scripts and the macro.
//!
//! ```no_run
//! // build.rs
//! edgec::Config::new().model(edgec::ModelConfig::file("models/person.onnx").dim("batch", 1)).compile()?;
//! # Ok::<(), edgec::diag::Diagnostics>(())
//! ```

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::edges::Io;
use crate::emit::{self, CustomSource, EmitOptions, Runtime, Specialise, WeightsAt};
use crate::frontend::{CustomOps, custom_name, parse_custom_name, parse_custom_path};
use crate::ir::Tensor;
use crate::onnx::{read_npy, read_tensor_pb};
use crate::pipeline::{self, Compiled};
use crate::quant::Quantization;
use edgec_runtime::Level;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a model's bytes come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file; external data is looked for beside it.
    File(PathBuf),
    /// Bytes in memory, with a name for messages; external data is refused.
    Bytes {
        /// Shown instead of a file name.
        name: String,
        /// An encoded `ModelProto`.
        bytes: Vec<u8>,
    },
}

/// A model and what is to be done to it.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The model.
    pub source: Source,
    /// Module (and, alone, crate) name; from the file name by default.
    pub name: Option<String>,
    /// Values of named dimensions.
    pub dims: BTreeMap<String, usize>,
    /// Whole shapes of inputs.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// Inputs that become compile-time constants.
    pub binds: BTreeMap<String, Tensor>,
    /// Files that bound inputs were read from.
    pub bound_files: Vec<PathBuf>,
    /// ONNX name to Rust identifier, for inputs and outputs.
    pub renames: BTreeMap<String, String>,
    /// Images are handed over channels last (`--input-layout nhwc`).
    pub input_nhwc: bool,
    /// Inputs, each with the output that comes back as it in the next run.
    pub stateful: Vec<(String, String)>,
    /// Ranges to quantize the model with before it is compiled.
    pub quantization: Option<Quantization>,
    /// Operators that functions of the user compute.
    pub custom: CustomOps,
    /// Element types of quantized inputs and outputs (`--io`).
    pub io: Io,
}

impl ModelConfig {
    /// A model file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(Source::File(path.into()))
    }

    /// A model in memory; `name` stands for the file name.
    pub fn bytes(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Source::Bytes { name: name.into(), bytes: bytes.into() })
    }

    fn new(source: Source) -> Self {
        ModelConfig {
            source,
            name: None,
            dims: BTreeMap::new(),
            input_shapes: BTreeMap::new(),
            binds: BTreeMap::new(),
            bound_files: Vec::new(),
            renames: BTreeMap::new(),
            input_nhwc: false,
            stateful: Vec::new(),
            quantization: None,
            custom: CustomOps::new(),
            io: Io::default(),
        }
    }

    /// Module name instead of the file's.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Value of a named dimension.
    pub fn dim(mut self, name: impl Into<String>, value: usize) -> Self {
        self.dims.insert(name.into(), value);
        self
    }

    /// Shape of an input, whatever the file says of its open dimensions.
    pub fn input_shape(mut self, input: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        self.input_shapes.insert(input.into(), shape.into());
        self
    }

    /// Turns an input into a constant.
    pub fn bind(mut self, input: impl Into<String>, value: Tensor) -> Self {
        self.binds.insert(input.into(), value);
        self
    }

    /// Turns an input into a constant that options write: a `.npy` or `.pb` file (relative to `folder`), or numbers.
    /// Whole numbers (and `true`, `false`) become what the input is declared as, others float32; one is a scalar, or a
    /// vector of one where that is declared, several separated by commas are a vector.
    pub fn bind_text(
        mut self,
        input: impl Into<String>,
        text: &str,
        folder: &Path,
    ) -> Result<Self, Diagnostic> {
        let path = folder.join(text);
        let value = match path.extension().and_then(|e| e.to_str()) {
            Some("npy" | "pb") => {
                let value = read_tensor(&path)?;
                self.bound_files.push(path);
                value
            }
            _ => numbers(text).map_err(|message| Diagnostic::error(Code::BadOption, message))?,
        };
        Ok(self.bind(input, value))
    }

    /// Rust identifier of an input or output.
    pub fn rename(mut self, onnx: impl Into<String>, rust: impl Into<String>) -> Self {
        self.renames.insert(onnx.into(), rust.into());
        self
    }

    /// Images come channels last.
    pub fn input_nhwc(mut self, yes: bool) -> Self {
        self.input_nhwc = yes;
        self
    }

    /// Whether quantized inputs and outputs are the model's integers, where an edge is a QuantizeLinear or
    /// DequantizeLinear, or real numbers. What the integers stand for is in each one's `TensorInfo`.
    pub fn io(mut self, io: Io) -> Self {
        self.io = io;
        self
    }

    /// Carries what `output` gives to the next run's `input`, in the crate's `State`: neither is handed over any
    /// more. Both have one type and shape; the first run sees zeros.
    pub fn stateful(mut self, input: impl Into<String>, output: impl Into<String>) -> Self {
        self.stateful.push((input.into(), output.into()));
        self
    }

    /// Quantizes the model to 8-bit integers with the ranges in this file, which `edgec quantize MODEL --calibrate DATA
    /// --ranges FILE` writes.
    pub fn ranges(mut self, file: impl Into<PathBuf>) -> Self {
        self.quantization = Some(Quantization::File(file.into()));
        self
    }

    /// Lets a function compute an operator: `op` is `com.acme:Squash` (or the type alone for ONNX's own domain), the
    /// path is that of a module beside the model's (`crate::my_ops::squash`) or in a dependency (`my_ops::squash`).
    /// [`edgec_runtime::custom`] says what function that is.
    pub fn custom_op(mut self, op: &str, path: &str) -> Result<Self, Diagnostic> {
        let name = parse_custom_name(op).map_err(bad_custom)?;
        self.custom.entry(name).or_default().path = Some(parse_custom_path(path).map_err(bad_custom)?);
        Ok(self)
    }

    /// Types of a custom operator's results, where the model does not declare them: `same` (as operand 0),
    /// `like:OPERAND` or a type such as `f32[1,10]`; for several results one for each, separated by `;`.
    pub fn custom_shape(mut self, op: &str, rule: &str) -> Result<Self, Diagnostic> {
        let name = parse_custom_name(op).map_err(bad_custom)?;
        self.custom.entry(name).or_default().shapes = Some(rule.parse().map_err(bad_custom)?);
        Ok(self)
    }

    /// The name that generated code goes by, before it is made an identifier.
    pub fn base_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let stem = |p: &Path| p.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        match &self.source {
            Source::File(path) => {
                // `person/model.onnx` is `person`: a folder per model is how suites and hubs lay them out.
                let own = stem(path);
                match path.parent().and_then(Path::file_name) {
                    Some(folder) if own == "model" => folder.to_string_lossy().into_owned(),
                    _ => own,
                }
            }
            Source::Bytes { name, .. } => stem(Path::new(name)),
        }
    }

    /// The options that shape what is generated, as the user would type them, in a fixed order.
    pub fn options(&self) -> Vec<String> {
        let mut out = Vec::new();
        out.extend(self.dims.iter().map(|(n, v)| format!("--dim {n}={v}")));
        for (n, shape) in &self.input_shapes {
            let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
            out.push(format!("--input-shape {n}={}", dims.join("x")));
        }
        out.extend(self.binds.iter().map(|(n, t)| format!("--bind {n}={}{}", t.dtype(), t.shape())));
        out.extend(self.renames.iter().map(|(a, b)| format!("--rename {a}={b}")));
        out.extend(self.stateful.iter().map(|(a, b)| format!("--stateful {a}={b}")));
        for ((domain, op_type), custom) in &self.custom {
            let name = custom_name(domain, op_type);
            out.extend(custom.path.iter().map(|path| format!("--custom-op {name}={path}")));
            out.extend(custom.shapes.iter().map(|rule| format!("--custom-shape '{name}={rule}'")));
        }
        if self.input_nhwc {
            out.push("--input-layout nhwc".to_owned());
        }
        if self.io == Io::Native {
            out.push("--io native".to_owned());
        }
        match &self.quantization {
            None => {}
            Some(Quantization::File(path)) => {
                let file = path.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
                out.push(format!("--ranges {file}"));
            }
            Some(Quantization::Found(r)) => {
                out.push(format!("--quantize int8 ({}, {} samples)", r.method, r.samples));
            }
        }
        out
    }

    /// File name without folders, for headers of generated files.
    pub fn file_name(&self) -> String {
        let path = match &self.source {
            Source::File(path) => path.as_path(),
            Source::Bytes { name, .. } => Path::new(name),
        };
        path.file_name().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// A tensor from a `.npy` or `.pb` file.
pub fn read_tensor(path: &Path) -> Result<Tensor, Diagnostic> {
    let bytes =
        std::fs::read(path).map_err(|e| Diagnostic::error(Code::Io, format!("`{}`: {e}", path.display())))?;
    let parsed = match path.extension().and_then(|e| e.to_str()) {
        Some("npy") => read_npy(&bytes).map_err(|e| e.to_string()),
        Some("pb") => read_tensor_pb(&bytes).map_err(|e| e.to_string()),
        _ => Err("expected a .npy or .pb file".to_owned()),
    };
    parsed.map_err(|e| Diagnostic::error(Code::TensorData, format!("`{}`: {e}", path.display())))
}

/// Numbers separated by commas.
fn numbers(text: &str) -> Result<Tensor, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let whole = |p: &&str| match *p {
        "true" => Ok(1),
        "false" => Ok(0),
        p => p.parse::<i64>(),
    };
    let ints: Result<Vec<i64>, _> = parts.iter().map(whole).collect();
    let tensor = match ints {
        Ok(v) => Tensor::vector(&v),
        Err(_) => {
            let floats: Result<Vec<f32>, _> = parts.iter().map(|p| p.parse()).collect();
            Tensor::vector(&floats.map_err(|_| format!("`{text}` is neither a file nor numbers"))?)
        }
    };
    if parts.len() == 1 { tensor.reshaped(Vec::new()).map_err(|e| e.to_string()) } else { Ok(tensor) }
}

fn bad_custom(message: String) -> Diagnostic {
    Diagnostic::error(Code::BadOption, message)
}

/// Everything that decides what is generated.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The models, each a module of the crate.
    pub models: Vec<ModelConfig>,
    /// Package name; from the only model by default.
    pub package: Option<String>,
    /// Levels, empty for the target's default.
    pub levels: Vec<Level>,
    /// Target triple that decides the default levels; none means x86-64.
    pub target: Option<String>,
    /// Where the runtime comes from.
    pub runtime: Runtime,
    /// Which layers get code of their own.
    pub specialise: Specialise,
    /// Compute each convolution by its direct sums, without Winograd's algorithm.
    pub exact: bool,
    /// Whether a step of a quantized model that would run in float is an error.
    pub require_integer: bool,
    /// Where the weights are.
    pub weights: WeightsAt,
    /// Where [`Config::compile`] writes; `$OUT_DIR` by default.
    pub out_dir: Option<PathBuf>,
    /// Run no optimising pass (for comparisons and bug reports).
    pub no_passes: bool,
    /// Most bytes of RAM that a model may need.
    pub max_ram: Option<u64>,
    /// Most bytes of constants that a model may have.
    pub max_rom: Option<u64>,
    /// Modules of the user that the generated package holds.
    pub custom_sources: Vec<CustomSource>,
}

impl Config {
    /// No model, default options.
    pub fn new() -> Self {
        Config::default()
    }

    /// Adds a model.
    pub fn model(mut self, model: ModelConfig) -> Self {
        self.models.push(model);
        self
    }

    /// Package name.
    pub fn package(mut self, name: impl Into<String>) -> Self {
        self.package = Some(name.into());
        self
    }

    /// Exactly these levels; `scalar` is always among them.
    pub fn levels(mut self, levels: impl IntoIterator<Item = Level>) -> Self {
        self.levels = levels.into_iter().collect();
        self
    }

    /// Levels by target triple.
    pub fn target(mut self, triple: impl Into<String>) -> Self {
        self.target = Some(triple.into());
        self
    }

    /// Where the runtime comes from.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Which layers get code of their own.
    pub fn specialise(mut self, specialise: Specialise) -> Self {
        self.specialise = specialise;
        self
    }

    /// Whether each convolution's products are summed directly. Otherwise, for levels with vectors, 3×3 convolutions
    /// of stride 1 use Winograd's algorithm where it is faster; it rounds differently and takes scratch memory.
    pub fn exact(mut self, exact: bool) -> Self {
        self.exact = exact;
        self
    }

    /// Whether every step of a quantized model must run in integers; what else it holds than QuantizeLinear and
    /// DequantizeLinear at its edges is an error then. Otherwise each step that runs in float is a warning.
    pub fn require_integer(mut self, require: bool) -> Self {
        self.require_integer = require;
        self
    }

    /// Where the weights are.
    pub fn weights(mut self, weights: WeightsAt) -> Self {
        self.weights = weights;
        self
    }

    /// Most bytes of RAM that each model may need; more is an error.
    pub fn max_ram(mut self, bytes: u64) -> Self {
        self.max_ram = Some(bytes);
        self
    }

    /// Most bytes of constants that each model may have; more is an error.
    pub fn max_rom(mut self, bytes: u64) -> Self {
        self.max_rom = Some(bytes);
        self
    }

    /// A Rust file that becomes a module of the generated package, for functions of custom operators: module `name`
    /// is `crate::name` there. Build scripts and macros need none: their crate has modules of its own.
    pub fn custom_source(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.custom_sources.push(CustomSource { name: name.into(), text: text.into() });
        self
    }

    /// The path of a function as any module can name it.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let first = path.split("::").next().unwrap_or_default();
        match first {
            "" | "crate" => path.to_owned(),
            _ if self.custom_sources.iter().any(|s| s.name == first) => format!("crate::{path}"),
            _ => format!("::{path}"),
        }
    }

    /// Where [`Config::compile`] writes.
    pub fn out_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(dir.into());
        self
    }

    /// How the crate is made; its name is the first model's unless another was given.
    pub fn emit_options(&self, first: Option<&Compiled>) -> EmitOptions {
        let name = self.package.clone().or_else(|| first.map(|c| emit::sanitise(&c.name, "model")));
        EmitOptions {
            package: name.unwrap_or_else(|| "model".to_owned()),
            levels: self.effective_levels(),
            runtime: self.runtime.clone(),
            specialise: self.specialise,
            exact: self.exact,
            weights: self.weights,
            custom_sources: self.custom_sources.clone(),
        }
    }

    /// Compiles all models; problems of all come together.
    pub fn compile_models(&self) -> Result<Vec<Compiled>, Diagnostics> {
        let mut problems = Diagnostics::new();
        let mut compiled = Vec::new();
        for model in &self.models {
            match pipeline::compile(model, self) {
                Ok(c) => compiled.push(c),
                Err(d) => problems.append(d),
            }
        }
        if problems.has_errors() { Err(problems) } else { Ok(compiled) }
    }

    /// In a build script: writes `model.rs` and the weights into `$OUT_DIR` (or [`Config::out_dir`]) and tells
    /// cargo which files to watch. Include it with `include!(concat!(env!("OUT_DIR"), "/model.rs"));`; the
    /// package depends on `edgec-runtime`.
    pub fn compile(&self) -> Result<(), Diagnostics> {
        let dir = match (&self.out_dir, std::env::var_os("OUT_DIR")) {
            (Some(dir), _) => dir.clone(),
            (None, Some(dir)) => PathBuf::from(dir),
            (None, None) => {
                return Err(Diagnostic::error(Code::BadOption, "no output folder")
                    .with_help("call it from a build script, or name a folder with `Config::out_dir`")
                    .into());
            }
        };
        for path in self.watched() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        let compiled = self.compile_models()?;
        for c in &compiled {
            c.source.data_files.iter().for_each(|p| println!("cargo::rerun-if-changed={}", p.display()));
            for d in c.remarks.iter() {
                println!("cargo::warning={}", d.to_string().replace('\n', " "));
            }
        }
        let units: Vec<_> = compiled.iter().map(Compiled::unit).collect();
        let inline = emit::inline(&units, &self.emit_options(compiled.first()), "env!(\"OUT_DIR\")")
            .map_err(Diagnostic::from)?;
        let source = ("model.rs", inline.source.as_bytes());
        for (name, bytes) in
            inline.files.iter().map(|f| (f.path.as_str(), f.bytes.as_slice())).chain([source])
        {
            let path = dir.join(name);
            // An unchanged file keeps its time, so that rustc does not run again.
            if std::fs::read(&path).is_ok_and(|old| old == bytes) {
                continue;
            }
            std::fs::write(&path, bytes)
                .map_err(|e| Diagnostic::error(Code::Environment, format!("`{}`: {e}", path.display())))?;
        }
        Ok(())
    }

    /// In a macro: the models' modules as tokens, over the dependency `edgec-runtime`, with the weights
    /// inside and the files read tracked.
    pub fn expand(&self) -> Result<proc_macro2::TokenStream, Diagnostics> {
        let compiled = self.compile_models()?;
        let mut files = self.watched();
        files.extend(compiled.iter().flat_map(|c| c.source.data_files.iter().cloned()));
        let units: Vec<_> = compiled.iter().map(Compiled::unit).collect();
        let files: Vec<String> = files.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        Ok(emit::tokens(&units, &self.emit_options(compiled.first()), &files).map_err(Diagnostic::from)?)
    }

    /// Model files, those of bound inputs, and ranges, absolute where that can be found out.
    fn watched(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for m in &self.models {
            if let Source::File(path) = &m.source {
                files.push(path);
            }
            files.extend(&m.bound_files);
            if let Some(Quantization::File(path)) = &m.quantization {
                files.push(path);
            }
        }
        files.into_iter().map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone())).collect()
    }

    /// The files of the crate, in memory.
    pub fn package_files(&self) -> Result<Vec<emit::File>, Diagnostics> {
        let compiled = self.compile_models()?;
        let units: Vec<_> = compiled.iter().map(Compiled::unit).collect();
        Ok(emit::package(&units, &self.emit_options(compiled.first())).map_err(Diagnostic::from)?)
    }

    /// The levels that code is generated for, `scalar` first, in ascending order.
    ///
    /// They never depend on the machine that compiles: the same input gives the same bytes anywhere.
    pub fn effective_levels(&self) -> Vec<Level> {
        let mut levels = if self.levels.is_empty() {
            match self.target.as_deref().map(|t| t.split('-').next().unwrap_or(t)) {
                None | Some("x86_64") => vec![Level::V3, Level::V4],
                Some("aarch64") => vec![Level::Neon],
                Some(arch) if arch.starts_with("wasm") => vec![Level::WasmSimd],
                Some("thumbv7em") => vec![Level::Armv7eM],
                Some(_) => Vec::new(),
            }
        } else {
            self.levels.clone()
        };
        levels.push(Level::Scalar);
        Level::ALL.into_iter().filter(|l| levels.contains(l)).collect()
    }
}

/// A number of bytes such as `65536`, `64k` or `2M` (of 1,024 and 1,048,576 bytes).
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        _ => (text, 1),
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|n| n.checked_mul(factor))
        .ok_or_else(|| format!("`{text}`: expected a number of bytes, such as `65536`, `64k` or `2M`"))
}

/// Level names separated by commas; empty for `auto`.
pub fn parse_levels(text: &str) -> Result<Vec<Level>, Diagnostic> {
    if text == "auto" {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|name| {
            Level::ALL.iter().copied().find(|l| l.name() == name.trim()).ok_or_else(|| {
                let known: Vec<&str> = Level::ALL.iter().map(|l| l.name()).collect();
                Diagnostic::error(Code::BadOption, format!("unknown level `{name}`"))
                    .with_help(format!("one of: {}", known.join(", ")))
            })
        })
        .collect()
}
