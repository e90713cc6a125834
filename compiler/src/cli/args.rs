//! The command line as clap sees it, and its translation into a [`Config`].

use super::quantize::MethodArgs;
use crate::config::{Config, ModelConfig, parse_bytes, parse_levels};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::edges::Io;
use crate::emit::{Runtime, Specialise, WeightsAt};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

/// Ahead-of-time compiler from ONNX models to Rust crates.
#[derive(Debug, Parser)]
#[command(name = "edgec", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a crate that runs the model (or the models of edgec.toml)
    Build(BuildArgs),
    /// Show layers, shapes, MACs, memory plan and sizes
    Inspect(InspectArgs),
    /// Build, run the generated code, compare with recorded outputs
    Verify(VerifyArgs),
    /// Write a quantized model (QDQ ONNX) and say what it costs
    Quantize(super::quantize::QuantizeArgs),
    /// Build, run, time each layer
    Bench(BenchArgs),
    /// Outputs of the generated code as npy files
    Run(RunArgs),
    /// List the supported operators
    Ops(OpsArgs),
    /// Explain a diagnostic code
    Explain {
        /// Such as E0102; without it, all codes
        code: Option<String>,
        /// Print the book's page of all codes
        #[arg(long, conflicts_with = "code")]
        markdown: bool,
    },
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Options about models, common to most commands.
#[derive(Debug, Args, Clone, Default, PartialEq)]
pub struct ModelArgs {
    /// Value of a named dimension, as in `batch=1`
    #[arg(long = "dim", value_name = "NAME=VALUE")]
    pub dims: Vec<String>,
    /// Shape of an input, as in `image=1x3x224x224`
    #[arg(long = "input-shape", value_name = "NAME=SHAPE")]
    pub input_shapes: Vec<String>,
    /// Turn an input into a constant: a .npy or .pb file, or numbers such as `3` or `1,2,2`
    #[arg(long = "bind", value_name = "NAME=FILE|VALUE")]
    pub binds: Vec<String>,
    /// Rust name of an input or output, as in `input.1=image`
    #[arg(long = "rename", value_name = "ONNX=RUST")]
    pub renames: Vec<String>,
    /// Carry an output to an input of the next run, in the crate's `State`, as in `h=hn`
    #[arg(long = "stateful", value_name = "INPUT=OUTPUT")]
    pub stateful: Vec<String>,
    /// Quantize the model with these ranges first: a file that `edgec quantize --ranges FILE` wrote
    #[arg(long, value_name = "FILE")]
    pub ranges: Option<PathBuf>,
    /// Compute an operator by a function of your own, as in `com.acme:Squash=my_ops::squash`
    #[arg(long = "custom-op", value_name = "DOMAIN:TYPE=PATH")]
    pub custom_ops: Vec<String>,
    /// Types of a custom operator's results, as in `com.acme:Squash=same`, `=like:1`, `=f32[1,10]`; for several
    /// results separated by `;`
    #[arg(long = "custom-shape", value_name = "DOMAIN:TYPE=RULE")]
    pub custom_shapes: Vec<String>,
    /// Rust file with functions of custom operators; its name is the module's
    #[arg(long = "custom-source", value_name = "FILE.rs")]
    pub custom_sources: Vec<PathBuf>,
    /// Order in which images are handed over
    #[arg(long, value_enum, default_value_t = InputLayout::Model)]
    pub input_layout: InputLayout,
    /// Levels to generate code for, separated by commas; `auto` for the target's
    #[arg(long, value_name = "LEVELS", default_value = "auto")]
    pub level: String,
    /// Target triple; decides the default levels
    #[arg(long, value_name = "TRIPLE")]
    pub target: Option<String>,
    /// Layers that get code of their own, with constant extents: `auto` (the small ones), `never`, `always`
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    pub specialise: Specialise,
    /// Sum each convolution's products directly: no Winograd, less memory, no rounding of its own
    #[arg(long)]
    pub exact: bool,
    /// Refuse a quantized model of which anything but Q/DQ at its edges would run in float
    #[arg(long)]
    pub require_integer: bool,
    /// Most bytes of RAM that a model may need, as in `65536`, `64k`, `2M`; exit status 5 beyond
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub max_ram: Option<u64>,
    /// Most bytes of constants that a model may have; exit status 5 beyond
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub max_rom: Option<u64>,
    /// Run no optimising pass
    #[arg(long)]
    pub no_passes: bool,
    /// Say what each pass did, and why not
    #[arg(short, long)]
    pub verbose: bool,
}

/// Order of image data at the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum InputLayout {
    /// As the model has it
    #[default]
    Model,
    /// Channels last
    Nhwc,
}

/// `edgec build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// ONNX files; without any, edgec.toml of this folder is built
    pub models: Vec<PathBuf>,
    /// Folder of the generated crate
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Package name
    #[arg(long)]
    pub name: Option<String>,
    /// Where the runtime comes from: `vendored`, `path=DIR` or `version=X`
    #[arg(long, default_value = "vendored")]
    pub runtime: String,
    /// Where the weights are: `included` in the crate, or `external`, a file that the program loads
    #[arg(long, value_name = "WHERE", default_value = "included")]
    pub weights: WeightsAt,
    /// Write nothing; exit with 4 and list differences if the crate is not what would be written
    #[arg(long)]
    pub check: bool,
    /// Folder of recorded samples for the crate's own test (default: those beside the model)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Quantize the model first, with the ranges that `--calibrate` finds (and `--ranges` keeps)
    #[arg(long, value_name = "TYPE", value_enum)]
    pub quantize: Option<Narrow>,
    /// Samples to calibrate with, as for `edgec quantize`
    #[arg(long, value_name = "[INPUT=]DATA", requires = "quantize")]
    pub calibrate: Vec<String>,
    /// Element types of quantized inputs and outputs: `native`, the model's integers, or `float`
    #[arg(long, value_name = "TYPES", default_value = "float")]
    pub io: Io,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub how: MethodArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub model: ModelArgs,
}

/// `--quantize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Narrow {
    /// Activations and weights of 8 bits
    Int8,
}

/// `edgec inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// ONNX file
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Write an HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Element types of quantized inputs and outputs, as for `edgec build`
    #[arg(long, value_name = "TYPES", default_value = "float")]
    pub io: Io,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub model: ModelArgs,
}

/// `edgec verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// ONNX file
    #[arg(required_unless_present = "suite")]
    pub file: Option<PathBuf>,
    /// Recorded samples (default: beside the model)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder of cases, each with a model.onnx and samples
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    pub suite: Option<PathBuf>,
    /// Only cases of a suite whose name contains this; several are separated by commas
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Cases of a suite that are left out, by name, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Cases that are not supported are skipped instead of failing
    #[arg(long)]
    pub allow_unsupported: bool,
    /// Compare the compiler's interpreter instead of generated code
    #[arg(long)]
    pub interpret: bool,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Threads that large layers are split between
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads)]
    pub threads: usize,
    /// Keep generated crates and build here
    #[arg(long, value_name = "DIR")]
    pub build_dir: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub model: ModelArgs,
}

/// `edgec bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// ONNX file
    pub file: PathBuf,
    /// Seconds to measure for
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print `ready`, then for each line `SECONDS` on standard input answer `MIN MEDIAN COUNT` in microseconds
    #[arg(long)]
    pub serve: bool,
    /// Threads that large layers are split between
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads)]
    pub threads: usize,
    /// Keep generated crates and build here
    #[arg(long, value_name = "DIR")]
    pub build_dir: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub model: ModelArgs,
}

/// `edgec run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// ONNX file
    pub file: PathBuf,
    /// Inputs in the model's order, or `NAME=FILE.npy`
    #[arg(long = "input", value_name = "[NAME=]FILE", required = true)]
    pub inputs: Vec<String>,
    /// Folder for output_<i>.npy
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// Threads that large layers are split between
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads)]
    pub threads: usize,
    /// Keep generated crates and build here
    #[arg(long, value_name = "DIR")]
    pub build_dir: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub model: ModelArgs,
}

/// `edgec ops`.
#[derive(Debug, Args)]
pub struct OpsArgs {
    /// Print a Markdown table, as in the book
    #[arg(long)]
    pub markdown: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
}

/// A number of threads that a machine may have.
fn threads(text: &str) -> Result<usize, String> {
    let most = 256;
    text.parse()
        .ok()
        .filter(|n| (1..=most).contains(n))
        .ok_or_else(|| format!("expected 1 to {most} threads"))
}

fn bad(message: String) -> Diagnostic {
    Diagnostic::error(Code::BadOption, message)
}

/// `NAME=VALUE`; names may hold any character but `=`... the last `=` separates, since ONNX names may
/// hold one and values never do.
fn split<'a>(option: &str, text: &'a str) -> Result<(&'a str, &'a str), Diagnostic> {
    text.rsplit_once('=').ok_or_else(|| bad(format!("`--{option} {text}`: expected NAME=VALUE")))
}

/// `1x3x224x224` or `1,3,224,224`.
pub fn parse_shape(text: &str) -> Option<Vec<usize>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(['x', ',']).map(|d| d.trim().parse().ok()).collect()
}

/// `vendored`, `path=DIR`, `version=X`.
pub fn parse_runtime(text: &str) -> Result<Runtime, Diagnostic> {
    match text.split_once('=') {
        None if text == "vendored" => Ok(Runtime::Module),
        Some(("path", dir)) => Ok(Runtime::Path(dir.into())),
        Some(("version", v)) => Ok(Runtime::Version(v.to_owned())),
        _ => Err(bad(format!("`--runtime {text}`: expected `vendored`, `path=DIR` or `version=X`"))),
    }
}

/// Adds a file of custom operators; its name without extension is the module's.
pub fn custom_source(config: Config, path: &Path) -> Result<Config, Diagnostic> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Diagnostic::error(Code::Io, format!("`{}`: {e}", path.display())))?;
    let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(config.custom_source(name, text))
}

impl ModelArgs {
    /// As where nothing is given on the command line.
    pub fn unset() -> Self {
        ModelArgs { level: "auto".to_owned(), ..ModelArgs::default() }
    }

    /// Applies the options to a model.
    pub fn model(&self, mut model: ModelConfig) -> Result<ModelConfig, Diagnostics> {
        let mut problems = Diagnostics::new();
        for text in &self.dims {
            match split("dim", text).map(|(n, v)| (n, v.parse::<usize>())) {
                Ok((name, Ok(value))) if model.dims.get(name).is_some_and(|&v| v != value) => {
                    problems.push(bad(format!("`--dim {text}`: `{name}` has another value already")));
                }
                Ok((name, Ok(value))) => model = model.dim(name, value),
                Ok((_, Err(_))) => problems.push(bad(format!("`--dim {text}`: the value is not a number"))),
                Err(d) => problems.push(d),
            }
        }
        for text in &self.input_shapes {
            match split("input-shape", text).map(|(n, v)| (n, parse_shape(v))) {
                Ok((name, Some(shape))) => model = model.input_shape(name, shape),
                Ok((_, None)) => problems
                    .push(bad(format!("`--input-shape {text}`: expected a shape such as 1x3x224x224"))),
                Err(d) => problems.push(d),
            }
        }
        for text in &self.binds {
            match split("bind", text) {
                Ok((name, value)) => match model.clone().bind_text(name, value, Path::new("")) {
                    Ok(bound) => model = bound,
                    Err(d) => problems.push(bad(format!("`--bind {text}`: {}", d.message))),
                },
                Err(d) => problems.push(d),
            }
        }
        for text in &self.renames {
            match split("rename", text) {
                Ok((onnx, rust)) => model = model.rename(onnx, rust),
                Err(d) => problems.push(d),
            }
        }
        for text in &self.stateful {
            match split("stateful", text) {
                Ok((input, output)) => model = model.stateful(input, output),
                Err(d) => problems.push(d),
            }
        }
        if let Some(file) = &self.ranges {
            model = model.ranges(file);
        }
        for (option, list) in [("custom-op", &self.custom_ops), ("custom-shape", &self.custom_shapes)] {
            for text in list {
                // Names of operators hold no `=`.
                let Some((name, value)) = text.split_once('=') else {
                    problems.push(bad(format!("`--{option} {text}`: expected DOMAIN:TYPE=VALUE")));
                    continue;
                };
                let changed = match option {
                    "custom-op" => model.clone().custom_op(name, value),
                    _ => model.clone().custom_shape(name, value),
                };
                match changed {
                    Ok(changed) => model = changed,
                    Err(d) => problems.push(d),
                }
            }
        }
        model = model.input_nhwc(self.input_layout == InputLayout::Nhwc);
        if problems.has_errors() { Err(problems) } else { Ok(model) }
    }

    /// A configuration without models.
    pub fn config(&self) -> Result<Config, Diagnostics> {
        let mut config = Config::new().levels(parse_levels(&self.level)?);
        config.target = self.target.clone();
        config.specialise = self.specialise;
        config.exact = self.exact;
        config.require_integer = self.require_integer;
        (config.max_ram, config.max_rom) = (self.max_ram, self.max_rom);
        config.no_passes = self.no_passes;
        for path in &self.custom_sources {
            config = custom_source(config, path)?;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn names_may_hold_equals_signs() {
        assert_eq!(split("dim", "a=b=3").map_err(|d| d.message), Ok(("a=b", "3")));
        assert_eq!(parse_shape("1x3x8x8"), Some(vec![1, 3, 8, 8]));
        assert_eq!(parse_shape("1x-3"), None);
    }
}
