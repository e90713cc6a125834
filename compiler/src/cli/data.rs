//! Recorded samples beside models, and tensors from the command line.

use super::compare::ToleranceJson;
pub use crate::config::read_tensor;
use crate::diag::{Code, Diagnostic};
use crate::ir::Tensor;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What `case.json` or `info.json` says about a model; other fields are for people.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CaseInfo {
    /// One per output, or one for all.
    tolerance: Vec<ToleranceJson>,
    rtol: Option<f64>,
    atol: Option<f64>,
    /// Values of open dimensions.
    dynamic_dims: BTreeMap<String, usize>,
    dims: BTreeMap<String, usize>,
    /// Inputs to bind as constants.
    bind: Vec<String>,
}

impl CaseInfo {
    /// Reads the file beside a model; absent is empty, broken is an error.
    pub fn beside(folder: &Path) -> Result<CaseInfo, Diagnostic> {
        for name in ["case.json", "info.json"] {
            let path = folder.join(name);
            if !path.is_file() {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|e| io(&path, &e))?;
            return serde_json::from_str(&text)
                .map_err(|e| Diagnostic::error(Code::Io, format!("`{}`: {e}", path.display())));
        }
        Ok(CaseInfo::default())
    }

    /// Tolerance of output `i`.
    pub fn tolerance(&self, i: usize, dtype: crate::ir::DType) -> super::compare::Tolerance {
        use super::compare::Tolerance;
        if let Some(json) = self.tolerance.get(i).or(self.tolerance.first()) {
            return Tolerance::from_json(json, dtype);
        }
        match (self.rtol, self.atol) {
            (None, None) => Tolerance::default_for(dtype),
            (rtol, atol) => Tolerance::Float { rtol: rtol.unwrap_or(1e-3), atol: atol.unwrap_or(1e-5) },
        }
    }

    /// Values of dimensions.
    pub fn dims(&self) -> impl Iterator<Item = (&String, usize)> {
        self.dynamic_dims.iter().chain(&self.dims).map(|(n, &v)| (n, v))
    }

    /// Inputs that the suite lets become constants.
    pub fn bind(&self) -> &[String] {
        &self.bind
    }
}

/// One recorded run; positions are those of the graph's inputs and outputs.
#[derive(Debug, Clone, Default)]
pub struct SampleSet {
    /// Folder name.
    pub name: String,
    /// By position; absent optional inputs are `None`.
    pub inputs: Vec<Option<Tensor>>,
    /// By position.
    pub outputs: Vec<Option<Tensor>>,
}

fn io(path: &Path, e: &std::io::Error) -> Diagnostic {
    Diagnostic::error(Code::Io, format!("`{}`: {e}", path.display()))
}

/// Folders `set_<i>` and `test_data_set_<i>` of a folder, in order; or the folder itself, when it
/// holds samples directly.
pub fn sample_sets(folder: &Path) -> Result<Vec<SampleSet>, Diagnostic> {
    let mut found: Vec<(usize, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| io(folder, &e))? {
        let path = entry.map_err(|e| io(folder, &e))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let number = name.strip_prefix("set_").or_else(|| name.strip_prefix("test_data_set_"));
        if let Some(Ok(i)) = number.map(str::parse::<usize>)
            && path.is_dir()
        {
            found.push((i, path));
        }
    }
    found.sort();
    let sets: Vec<SampleSet> = found.iter().map(|(_, p)| sample_set(p)).collect::<Result<_, _>>()?;
    if sets.is_empty() {
        let own = sample_set(folder)?;
        return Ok(if own.inputs.is_empty() && own.outputs.is_empty() { Vec::new() } else { vec![own] });
    }
    Ok(sets)
}

fn sample_set(folder: &Path) -> Result<SampleSet, Diagnostic> {
    let mut set = SampleSet {
        name: folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        ..SampleSet::default()
    };
    for entry in std::fs::read_dir(folder).map_err(|e| io(folder, &e))? {
        let path = entry.map_err(|e| io(folder, &e))?.path();
        let ext = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let stem = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
        if ext != "npy" && ext != "pb" {
            continue;
        }
        let (list, number) = match (stem.strip_prefix("input_"), stem.strip_prefix("output_")) {
            (Some(n), _) => (&mut set.inputs, n),
            (_, Some(n)) => (&mut set.outputs, n),
            _ => continue,
        };
        // No model has thousands of inputs; a file name must not make us allocate for one.
        const MOST: usize = 4096;
        let Some(i) = number.parse::<usize>().ok().filter(|&i| i < MOST) else { continue };
        if list.len() <= i {
            list.resize(i + 1, None);
        }
        if let Some(slot) = list.get_mut(i) {
            *slot = Some(read_tensor(&path)?);
        }
    }
    Ok(set)
}
