//! Cases of `edgec verify`: models with recorded samples, and what becomes of them.

use super::args::VerifyArgs;
use super::data::{CaseInfo, SampleSet, sample_sets};
use crate::config::{Config, ModelConfig};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::{DType, Data, OutputLength, Table, Tensor};
use crate::pipeline::{self, Compiled};
use std::path::{Path, PathBuf};

/// A model with its samples.
pub struct Case {
    /// Folder's or file's name.
    pub name: String,
    /// The file.
    pub model: PathBuf,
    /// What stands beside it.
    pub info: CaseInfo,
    /// Recorded runs.
    pub sets: Vec<SampleSet>,
}

/// The cases by name; one whose samples cannot be read is its diagnostics.
pub type Cases = Vec<(String, Result<Case, Diagnostics>)>;

/// Finds the cases that the command line names.
pub fn cases(args: &VerifyArgs) -> Result<Cases, Diagnostics> {
    let load = |name: String, model: PathBuf, data: &Path| -> Result<Case, Diagnostics> {
        Ok(Case {
            name,
            info: CaseInfo::beside(model.parent().unwrap_or(data))?,
            sets: sample_sets(data)?,
            model,
        })
    };
    if let Some(file) = &args.file {
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let data = args.data.as_deref().unwrap_or(folder);
        let case = load(ModelConfig::file(file).base_name(), file.clone(), data)?;
        if case.sets.is_empty() {
            return Err(Diagnostic::error(Code::Io, format!("no samples in `{}`", data.display()))
                .with_help("put them in set_0/input_0.npy, output_0.npy, or name a folder with `--data`")
                .into());
        }
        return Ok(vec![(case.name.clone(), Ok(case))]);
    }
    let Some(suite) = &args.suite else { return Ok(Vec::new()) };
    let mut folders: Vec<PathBuf> = std::fs::read_dir(suite)
        .map_err(|e| Diagnostic::error(Code::Io, format!("`{}`: {e}", suite.display())))?
        .filter_map(Result::ok)
        .map(|e| e.path())
        .filter(|p| p.join("model.onnx").is_file())
        .collect();
    folders.sort();
    let wanted: Option<Vec<&str>> = args.only.as_deref().map(|o| o.split(',').collect());
    let mut cases = Vec::new();
    for folder in folders {
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if args.exclude.contains(&name) {
            continue;
        }
        if wanted.as_ref().is_none_or(|w| w.iter().any(|t| name.contains(t))) {
            let case = load(name.clone(), folder.join("model.onnx"), &folder);
            cases.push((name, case));
        }
    }
    Ok(cases)
}

/// A case that compiled, without what only its build needs.
pub struct Ready<'a> {
    /// Where it comes from.
    pub case: &'a Case,
    /// Kernel calls.
    pub steps: usize,
    /// Types and shapes of the outputs.
    pub outputs: Vec<(DType, Vec<usize>)>,
    /// Their names.
    pub output_names: Vec<String>,
    /// Which of them have extents that the run says.
    lengths: Vec<OutputLength>,
    /// Positions of the file's inputs that are still inputs.
    inputs: Vec<usize>,
    /// Tables of the inputs that are left, and of the outputs, where these are texts.
    input_texts: Vec<Option<Vec<String>>>,
    output_texts: Vec<Option<Vec<String>>>,
}

/// Compiles a case: shapes from its first sample, and bound inputs where its description says so.
pub fn prepare<'a>(
    case: &'a Case,
    args: &VerifyArgs,
    base: &Config,
) -> Result<(Ready<'a>, Compiled), Diagnostics> {
    let mut model = ModelConfig::file(&case.model);
    for (name, value) in case.info.dims() {
        model = model.dim(name, value);
    }
    model = args.model.model(model)?;
    let names = pipeline::input_names(&model)?;
    let first = case.sets.first();
    for (i, name) in names.iter().enumerate() {
        let sample = first.and_then(|s| s.inputs.get(i)).and_then(Option::as_ref);
        if let Some(sample) = sample {
            if case.info.bind().contains(name) {
                model = model.bind(name, sample.clone());
            } else if !model.input_shapes.contains_key(name) {
                model = model.input_shape(name, sample.shape().to_vec());
            }
        }
    }
    let inputs =
        (0..names.len()).filter(|&i| names.get(i).is_some_and(|n| !model.binds.contains_key(n))).collect();
    let compiled = pipeline::compile(&model, base)?;
    let steps = compiled.schedule.steps.len();
    let graph = &compiled.graph;
    let texts = |name: &str| graph.tables.get(name).and_then(Table::texts).map(<[String]>::to_vec);
    let input_texts = graph.inputs.iter().map(|&v| texts(&graph.value(v).name)).collect();
    let output_texts = graph.outputs.iter().map(|(name, _)| texts(name)).collect();
    let outputs = outputs(&compiled);
    let output_names = graph.outputs.iter().map(|(name, _)| name.clone()).collect();
    let lengths = compiled.graph.lengths.clone();
    Ok((Ready { case, steps, outputs, output_names, lengths, inputs, input_texts, output_texts }, compiled))
}

impl Ready<'_> {
    /// A run's outputs as they are recorded.
    pub fn cut(&self, outputs: Vec<Tensor>) -> Vec<Tensor> {
        OutputLength::cut(&self.lengths, outputs)
    }

    /// The sample's tensors for the inputs that are left.
    pub fn inputs(&self, set: &SampleSet) -> Result<Vec<Tensor>, String> {
        self.inputs
            .iter()
            .map(|&i| {
                set.inputs
                    .get(i)
                    .cloned()
                    .flatten()
                    .ok_or_else(|| format!("sample `{}` lacks input {i}", set.name))
            })
            .zip(&self.input_texts)
            .map(|(tensor, texts)| Ok(positions(tensor?, texts.as_deref())))
            .collect()
    }

    /// An output as the record has it: positions as the texts they stand for.
    pub fn as_recorded(&self, output: usize, found: &Tensor) -> Tensor {
        let texts = self.output_texts.get(output).and_then(Option::as_deref);
        texts.and_then(|texts| words(found, texts)).unwrap_or_else(|| found.clone())
    }
}

/// Texts as positions in the table, -1 for one that is not there; other tensors as they are.
pub fn positions(tensor: Tensor, texts: Option<&[String]>) -> Tensor {
    let (Some(texts), Data::String(words)) = (texts, tensor.data()) else { return tensor };
    let place = |w: &String| texts.iter().position(|t| t == w).map_or(-1, |p| p as i64);
    let places: Vec<i64> = words.iter().map(place).collect();
    Tensor::new(tensor.shape().clone(), places).unwrap_or(tensor)
}

/// The texts that a tensor's elements are positions of; `None` where one is no position in the table.
pub fn words(tensor: &Tensor, texts: &[String]) -> Option<Tensor> {
    let word = |&p: &i64| usize::try_from(p).ok().and_then(|p| texts.get(p)).cloned();
    let words: Option<Vec<String>> = tensor.as_slice::<i64>()?.iter().map(word).collect();
    Tensor::from_data(tensor.shape().clone(), Data::String(words?.into())).ok()
}

/// Types and shapes of a model's outputs.
pub fn outputs(compiled: &Compiled) -> Vec<(DType, Vec<usize>)> {
    compiled
        .graph
        .outputs
        .iter()
        .map(|&(_, v)| {
            let value = compiled.graph.value(v);
            (value.dtype, value.shape.to_vec())
        })
        .collect()
}
