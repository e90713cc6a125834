//! Cases of `edgec verify`: models with recorded samples, and what becomes of them.

use super::args::VerifyArgs;
use super::data::{CaseInfo, SampleSet, sample_sets};
use crate::config::{Config, ModelConfig};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::{DType, Tensor};
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
    /// Positions of the file's inputs that are still inputs.
    inputs: Vec<usize>,
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
    Ok((Ready { case, steps, outputs: outputs(&compiled), inputs }, compiled))
}

impl Ready<'_> {
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
            .collect()
    }
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
