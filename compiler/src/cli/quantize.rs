//! `edgec quantize`: a float model and data become a QDQ model.

use super::args::ModelArgs;
use super::progress::Progress;
use super::remark;
use super::samples::{Data, PrepareArgs};
use crate::config::{ModelConfig, Source};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::frontend;
use crate::pipeline;
use crate::quant::accuracy::Accuracy;
use crate::quant::measure::{Cost, LayerCost};
use crate::quant::sensitivity::Sensitivity;
use crate::quant::{self, Activations, Method, Quantization, Quantized, Ranges, Samples, Subject};
use clap::{Args, ValueEnum};
use prost::Message;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Share of values inside the range, in percent.
const DEFAULT_PERCENTILE: f64 = 99.99;

/// `edgec quantize`.
#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// ONNX file with `float` weights
    pub file: PathBuf,
    /// The quantized model
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Samples to calibrate with: a .npy of stacked samples, a .npz, or a folder of .npy, JPEG, PNG or WAV files or of
    /// set_<i>/input_<k>.npy
    #[arg(long, value_name = "[INPUT=]DATA")]
    pub calibrate: Vec<String>,
    /// Samples to measure with instead of those of `--calibrate`
    #[arg(long, value_name = "[INPUT=]DATA")]
    pub evaluate: Vec<String>,
    /// A .npy of integers, the class of each sample that is measured with: says how often both models are right
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Rank layers by what each costs when it alone is quantized
    #[arg(long)]
    pub sensitivity: bool,
    /// File of ranges: written when calibrating, else read
    #[arg(long, value_name = "FILE")]
    pub ranges: Option<PathBuf>,
    /// Say what it cost as JSON, with all layers
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub how: MethodArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shapes: ShapeArgs,
}

/// How ranges and scales are chosen.
#[derive(Debug, Args, Clone, PartialEq)]
pub struct MethodArgs {
    /// How ranges follow from samples
    #[arg(long, value_enum, default_value_t = MethodName::Auto)]
    pub method: MethodName,
    /// Share of values inside the range, for `--method percentile`
    #[arg(long, value_name = "PERCENT", default_value_t = DEFAULT_PERCENTILE)]
    pub percentile: f64,
    /// Form of activations: uint8 with a zero point, or int8 around zero
    #[arg(long, value_enum, default_value_t = ActivationForm::Asymmetric)]
    pub activations: ActivationForm,
    /// One scale for all channels of weights
    #[arg(long)]
    pub per_tensor: bool,
    /// Take what rounding of weights shifts on average off the biases
    #[arg(long)]
    pub bias_correction: bool,
    /// Node that stays in float, by its name or that of its result
    #[arg(long, value_name = "NODE")]
    pub keep_float: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub prepare: PrepareArgs,
}

/// Shapes and settings to calibrate with; the quantized model keeps its open dimensions.
#[derive(Debug, Args, Clone, Default)]
pub struct ShapeArgs {
    /// Value of a named dimension, as in `batch=1`
    #[arg(long = "dim", value_name = "NAME=VALUE")]
    pub dims: Vec<String>,
    /// Shape of an input, as in `image=1x3x224x224`
    #[arg(long = "input-shape", value_name = "NAME=SHAPE")]
    pub input_shapes: Vec<String>,
    /// Value of an input for all samples: a .npy or .pb file, or numbers
    #[arg(long = "bind", value_name = "NAME=FILE|VALUE")]
    pub binds: Vec<String>,
}

/// `--method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum MethodName {
    /// Whichever of the others, with biases corrected or not, loses least on a part of the samples
    #[default]
    Auto,
    /// Smallest to largest value
    MinMax,
    /// Without the outermost values
    Percentile,
    /// The least mean squared error
    Mse,
}

/// `--activations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum ActivationForm {
    /// uint8 with a zero point
    #[default]
    Asymmetric,
    /// int8 around zero
    Symmetric,
}

impl Default for MethodArgs {
    fn default() -> Self {
        MethodArgs {
            method: MethodName::default(),
            percentile: DEFAULT_PERCENTILE,
            activations: ActivationForm::default(),
            per_tensor: false,
            bias_correction: false,
            keep_float: Vec::new(),
            prepare: PrepareArgs::default(),
        }
    }
}

impl MethodArgs {
    /// As the quantizer takes it.
    pub fn options(&self) -> Result<quant::Options, Diagnostic> {
        if !(50.0..=100.0).contains(&self.percentile) {
            return Err(Diagnostic::error(
                Code::BadOption,
                format!("`--percentile {}`: expected a number from 50 to 100", self.percentile),
            ));
        }
        Ok(quant::Options {
            method: match self.method {
                MethodName::Auto => Method::Auto,
                MethodName::MinMax => Method::MinMax,
                MethodName::Percentile => Method::Percentile(self.percentile),
                MethodName::Mse => Method::Mse,
            },
            activations: match self.activations {
                ActivationForm::Asymmetric => Activations::Asymmetric,
                ActivationForm::Symmetric => Activations::Symmetric,
            },
            per_tensor: self.per_tensor,
            bias_correction: self.bias_correction,
            keep_float: self.keep_float.iter().cloned().collect(),
        })
    }
}

impl ShapeArgs {
    fn config(&self, file: &Path) -> Result<ModelConfig, Diagnostics> {
        let args = ModelArgs {
            dims: self.dims.clone(),
            input_shapes: self.input_shapes.clone(),
            binds: self.binds.clone(),
            ..ModelArgs::default()
        };
        args.model(ModelConfig::file(file))
    }
}

/// The command.
pub fn quantize(args: &QuantizeArgs) -> Result<(), Diagnostics> {
    let model = args.shapes.config(&args.file)?;
    let file = frontend::read_model(&args.file)?;
    let (subject, ranges, data) = match (args.calibrate.as_slice(), &args.ranges) {
        ([], Some(path)) => {
            let ranges = frozen(path, &args.how)?;
            (subject(file, &model, ranges.options())?, ranges, None)
        }
        (data, keep) => {
            let subject = subject(file, &model, args.how.options()?)?;
            let (ranges, data) = calibrated(&subject, &model, data, &args.how.prepare, keep.as_deref())?;
            (subject, ranges, Some(data))
        }
    };
    let (quantized, remarks) = subject.quantize(&ranges)?;
    remark(&remarks);
    let bytes = quantized.model.encode_to_vec();
    write(&args.output, &bytes)?;
    let data = match args.evaluate.as_slice() {
        [] => data,
        other => {
            let names = pipeline::input_names(&model)?;
            Some(Data::open(other, &args.how.prepare, subject.inputs(), &names)?)
        }
    };
    let accuracy = match (&args.labels, &data) {
        (None, _) => None,
        (Some(path), Some(data)) => Some(accuracy(&subject, &quantized, data, path)?),
        (Some(_), None) => {
            return Err(Diagnostic::error(Code::BadOption, "`--labels` belongs to samples")
                .with_help("name them with `--evaluate DATA`")
                .into());
        }
    };
    let sensitivity = match (args.sensitivity, &data) {
        (false, _) => None,
        (true, Some(data)) => {
            let progress = Progress::count("ranking layers", subject.layer_count());
            Some(subject.sensitivity(&ranges, data, &|| progress.step())?)
        }
        (true, None) => {
            return Err(Diagnostic::error(Code::BadOption, "`--sensitivity` is measured on samples")
                .with_help("name them with `--evaluate DATA`")
                .into());
        }
    };
    let cost = data.map(|data| cost(&subject, &quantized, &data)).transpose()?;
    let summary = Summary {
        method: &ranges.method,
        bias_correction: ranges.bias_correction,
        calibrated: ranges.samples,
        bytes_before: std::fs::metadata(&args.file).map_or(0, |m| m.len()),
        bytes_after: bytes.len() as u64,
        quantized_layers: quantized.layers.len(),
        accuracy,
        sensitivity,
        cost,
    };
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&summary).unwrap_or_default()));
    } else {
        super::print(&summary.text(&args.output));
    }
    Ok(())
}

/// What `--json` prints; the fields of the cost stand beside the others.
#[derive(Serialize)]
struct Summary<'a> {
    method: &'a str,
    bias_correction: bool,
    calibrated: usize,
    bytes_before: u64,
    bytes_after: u64,
    quantized_layers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<Accuracy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensitivity: Option<Vec<Sensitivity>>,
    #[serde(flatten)]
    cost: Option<Cost>,
}

/// Layers that the terminal shows.
const SHOWN: usize = 8;

impl Summary<'_> {
    fn text(&self, output: &Path) -> String {
        let mut out = format!(
            "wrote {}: {} quantized layers, {} bytes instead of {}\n",
            output.display(),
            self.quantized_layers,
            self.bytes_after,
            self.bytes_before
        );
        let biases = if self.bias_correction { ", biases corrected" } else { "" };
        out.push_str(&format!("ranges: {}{biases}, from {} samples\n", self.method, self.calibrated));
        if let Some(a) = &self.accuracy {
            out.push_str(&format!(
                "accuracy: {:.2} % instead of {:.2} %, on {} samples; both say the same for {:.2} %\n",
                a.quantized * 100.0,
                a.float * 100.0,
                a.samples,
                a.agreement * 100.0
            ));
        }
        if let Some(ranked) = &self.sensitivity {
            out.push_str("layers by what each costs alone:\n");
            for l in ranked.iter().take(SHOWN) {
                out.push_str(&format!("  {:6.1} dB  {} `{}`\n", l.sqnr_db, l.op_type, l.name));
            }
        }
        let Some(cost) = &self.cost else { return out };
        out.push_str(&format!("against the float model, on {} samples:\n", cost.samples));
        for o in &cost.outputs {
            let db = o.sqnr_db.map_or(String::new(), |db| format!("{db:.1} dB SQNR, "));
            out.push_str(&format!("  output `{}`: {db}{:.2} % agree\n", o.name, o.agreement * 100.0));
        }
        let mut layers: Vec<(f64, &LayerCost)> =
            cost.layers.iter().filter_map(|l| Some((l.sqnr_db?, l))).collect();
        // Equal ones stay in the order of the model.
        layers.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (db, l) in layers.iter().take(SHOWN) {
            out.push_str(&format!("  {db:6.1} dB  {} `{}`\n", l.op_type, l.name));
        }
        if layers.len() > SHOWN {
            out.push_str(&format!(
                "  {} more layers have less noise; `--json` names all\n",
                layers.len() - SHOWN
            ));
        }
        out
    }
}

/// How often both models name the classes that a file holds.
fn accuracy(
    subject: &Subject,
    quantized: &Quantized,
    data: &Data,
    path: &Path,
) -> Result<Accuracy, Diagnostics> {
    let tensor = super::data::read_tensor(path)?;
    let labels = tensor.to_i64_vec().filter(|_| tensor.dtype().is_int()).ok_or_else(|| {
        let message =
            format!("`{}`: {}{}, labels are integers", path.display(), tensor.dtype(), tensor.shape());
        Diagnostic::error(Code::TensorData, message)
    })?;
    let progress = Progress::count("comparing with labels", data.count());
    subject.accuracy(quantized, data, &labels, &|| progress.step())
}

/// Measures on a part of the samples.
fn cost(subject: &Subject, quantized: &Quantized, data: &Data) -> Result<Cost, Diagnostics> {
    let progress = Progress::count("measuring", data.count().min(quant::measure::MEASURED));
    subject.cost(quantized, data, &|| progress.step())
}

/// How `build --quantize` quantizes a model: with ranges found now, and kept where a file is named, or with those of
/// that file.
pub fn settle(
    model: &ModelConfig,
    how: &MethodArgs,
    calibrate: &[String],
) -> Result<Quantization, Diagnostics> {
    let keep = match &model.quantization {
        Some(Quantization::File(path)) => Some(path.as_path()),
        _ => None,
    };
    if let ([], Some(path)) = (calibrate, keep) {
        frozen(path, how)?;
        return Ok(Quantization::File(path.to_owned()));
    }
    let file = match &model.source {
        Source::File(path) => frontend::read_model(path)?,
        Source::Bytes { bytes, .. } => frontend::ModelFile::from_bytes(bytes)?,
    };
    let subject = subject(file, model, how.options()?)?;
    let (ranges, _) = calibrated(&subject, model, calibrate, &how.prepare, keep)?;
    Ok(match keep {
        Some(path) => Quantization::File(path.to_owned()),
        None => Quantization::Found(Box::new(ranges)),
    })
}

fn subject(
    file: frontend::ModelFile,
    model: &ModelConfig,
    options: quant::Options,
) -> Result<Subject, Diagnostics> {
    let import = frontend::Options {
        dims: model.dims.clone(),
        input_shapes: model.input_shapes.clone(),
        binds: model.binds.clone(),
        ..frontend::Options::default()
    };
    let subject = Subject::new(file.model, &file.external, &file.sha256, import, options)?;
    remark(&subject.remarks);
    Ok(subject)
}

/// Ranges of a file, which also says how they were found.
fn frozen(path: &Path, how: &MethodArgs) -> Result<Ranges, Diagnostic> {
    if *how != MethodArgs::default() {
        let message = format!("`{}` says itself how the model is quantized", path.display());
        return Err(Diagnostic::error(Code::BadOption, message)
            .with_help("to quantize otherwise, find ranges anew with `--calibrate DATA`"));
    }
    Ranges::read(path)
}

/// Ranges from data, frozen where a file is named.
fn calibrated(
    subject: &Subject,
    model: &ModelConfig,
    data: &[String],
    prepare: &PrepareArgs,
    keep: Option<&Path>,
) -> Result<(Ranges, Data), Diagnostics> {
    if data.is_empty() {
        return Err(Diagnostic::error(Code::BadOption, "there is nothing to find ranges with")
            .with_help("give samples with `--calibrate DATA`, or ranges found before with `--ranges FILE`")
            .into());
    }
    let data = Data::open(data, prepare, subject.inputs(), &pipeline::input_names(model)?)?;
    let progress = Progress::count("calibrating", data.count());
    let (mut ranges, remarks) = subject.calibrate(&data, &|| progress.step())?;
    ranges.preprocessing = prepare.text();
    drop(progress);
    remark(&remarks);
    if let Some(path) = keep {
        write(path, ranges.to_json().as_bytes())?;
    }
    Ok((ranges, data))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Diagnostics> {
    std::fs::write(path, bytes).map_err(|e| super::environment(format!("`{}`: {e}", path.display())))
}
