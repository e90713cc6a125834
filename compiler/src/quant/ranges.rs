//! The file that freezes what calibration found: small, diffable, the same on every machine.

use super::Options;
use super::scale::{Activations, Range};
use crate::diag::{Code, Diagnostic};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Version of the file's format.
const VERSION: u32 = 1;

/// Where the ranges are that a model is quantized with before it is compiled.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantization {
    /// In a file that `edgec quantize` wrote.
    File(PathBuf),
    /// Found by this process.
    Found(Box<Ranges>),
}

impl Quantization {
    /// The ranges.
    pub fn ranges(&self) -> Result<Ranges, Diagnostic> {
        match self {
            Quantization::File(path) => Ranges::read(path),
            Quantization::Found(ranges) => Ok((**ranges).clone()),
        }
    }
}

/// Ranges of activations by name, and where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranges {
    /// Version of this format.
    pub version: u32,
    /// SHA-256 of the float model that was calibrated.
    pub model: String,
    /// How ranges were chosen, such as `min-max` or `percentile 99.99`.
    pub method: String,
    /// Number of samples.
    pub samples: usize,
    /// Form of activations.
    #[serde(default)]
    pub activations: Activations,
    /// One scale for all channels of weights.
    #[serde(default)]
    pub per_tensor: bool,
    /// Biases are corrected, by `means`.
    #[serde(default)]
    pub bias_correction: bool,
    /// Nodes that stay in float.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keep_float: BTreeSet<String>,
    /// How images and sounds became inputs, as options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<String>,
    /// Lowest and highest value.
    pub values: BTreeMap<String, (f32, f32)>,
    /// Means per channel of what products read, for bias correction.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub means: BTreeMap<String, Vec<f32>>,
}

impl Ranges {
    /// Of a model with this hash, without values.
    pub fn new(model: &str, options: &Options, samples: usize) -> Ranges {
        Ranges {
            version: VERSION,
            model: model.to_owned(),
            method: options.method.to_string(),
            samples,
            activations: options.activations,
            per_tensor: options.per_tensor,
            bias_correction: options.bias_correction,
            keep_float: options.keep_float.clone(),
            preprocessing: None,
            values: BTreeMap::new(),
            means: BTreeMap::new(),
        }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Ranges, Diagnostic> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Diagnostic::error(Code::Io, format!("`{}`: {e}", path.display())))?;
        Ranges::parse(&text).map_err(|what| {
            Diagnostic::error(Code::BadOption, format!("`{}`: {what}", path.display()))
                .with_help("write it anew with `edgec quantize MODEL --calibrate DATA --ranges FILE`")
        })
    }

    fn parse(text: &str) -> Result<Ranges, String> {
        let ranges: Ranges = serde_json::from_str(text).map_err(|e| format!("not a file of ranges: {e}"))?;
        if ranges.version != VERSION {
            return Err(format!("format version {} is not {VERSION}", ranges.version));
        }
        match ranges.values.iter().find(|(_, (a, b))| !a.is_finite() || !b.is_finite() || a > b) {
            Some((name, (a, b))) => Err(format!("`{name}` has no range between {a} and {b}")),
            None => Ok(ranges),
        }
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        // One value a line, so that a diff shows which changed.
        let pretty = serde_json::to_string_pretty(self).unwrap_or_default();
        let mut out = String::with_capacity(pretty.len());
        let mut depth = 0;
        for line in pretty.lines() {
            let text = line.trim();
            let inside = depth > 0;
            if text.starts_with(']') {
                depth -= 1;
            }
            if inside {
                let space = if out.ends_with('[') || text.starts_with(']') { "" } else { " " };
                out.push_str(space);
                out.push_str(text);
            } else {
                out.push('\n');
                out.push_str(line);
            }
            if text.ends_with('[') {
                depth += 1;
            }
        }
        out.push('\n');
        out.trim_start().to_owned()
    }

    /// How the model is quantized: as when the ranges were found.
    pub fn options(&self) -> Options {
        Options {
            activations: self.activations,
            per_tensor: self.per_tensor,
            bias_correction: self.bias_correction,
            keep_float: self.keep_float.clone(),
            ..Options::default()
        }
    }

    /// Range of a value.
    pub fn get(&self, name: &str) -> Option<Range> {
        self.values.get(name).map(|&(min, max)| Range::new(min, max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_round_trip_with_a_line_for_each_value() {
        let mut ranges = Ranges::new("ab", &Options::default(), 3);
        ranges.values.insert("x".to_owned(), (-0.1, 2.5));
        ranges.values.insert("y[0]".to_owned(), (0.0, 1e-7));
        let text = ranges.to_json();
        assert!(text.contains("    \"x\": [-0.1, 2.5],\n"), "{text}");
        assert_eq!(Ranges::parse(&text), Ok(ranges));
    }

    #[test]
    fn broken_files_are_refused() {
        let whole = Ranges::new("ab", &Options::default(), 3).to_json();
        assert!(Ranges::parse(&whole.replace("\"version\": 1", "\"version\": 9")).is_err());
        assert!(Ranges::parse("{}").is_err());
        let mut wrong = Ranges::new("ab", &Options::default(), 3);
        wrong.values.insert("x".to_owned(), (1.0, -1.0));
        assert!(Ranges::parse(&wrong.to_json()).is_err());
    }
}
