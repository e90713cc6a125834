//! `edgec.toml`: several models and their options, one crate.
//!
//! ```toml
//! [package]
//! name = "models"            # package name of the generated crate
//! output = "crates/models"   # its folder, relative to this file
//! level = "scalar,v3"        # optional, as on the command line
//! target = "thumbv7em-none-eabihf"
//! runtime = "vendored"
//! weights = "included"       # or "external": a file that the program loads
//! max-ram = "64k"            # of each model; also max-rom
//! specialise = "auto"        # which layers get code of their own: auto, never, always
//! exact = true               # convolutions without Winograd's algorithm
//! require-integer = true     # of quantized models: no step in float but Q/DQ at their edges
//! custom-source = ["my_ops.rs"]  # functions of custom operators; a file's name is its module's
//!
//! [[model]]
//! path = "models/person.onnx"
//! name = "person"            # optional module name
//! dim = { batch = 1 }
//! input-shape = { image = [1, 3, 96, 96] }
//! bind = { axes = "0,2" }
//! rename = { "input.1" = "image" }
//! stateful = { h = "hn" }     # output `hn` comes back as input `h`
//! custom-op = { "com.acme:Squash" = "my_ops::squash" }
//! custom-shape = { "com.acme:Squash" = "same" }
//! input-layout = "nhwc"
//! io = "native"             # quantized inputs and outputs as integers; default: "float"
//! ranges = "models/person.ranges.json"   # quantize with these first
//! data = "models/person"     # recorded samples for the crate's test
//! ```

use super::args::{custom_source, parse_runtime};
use crate::config::{Config, ModelConfig, parse_bytes, parse_levels};
use crate::diag::{Code, Diagnostic, Diagnostics};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    package: Package,
    #[serde(default)]
    model: Vec<Model>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Package {
    name: Option<String>,
    output: PathBuf,
    level: Option<String>,
    target: Option<String>,
    runtime: Option<String>,
    specialise: Option<String>,
    weights: Option<String>,
    #[serde(default)]
    exact: bool,
    #[serde(default)]
    require_integer: bool,
    max_ram: Option<String>,
    max_rom: Option<String>,
    #[serde(default)]
    custom_source: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Model {
    path: PathBuf,
    name: Option<String>,
    #[serde(default)]
    dim: BTreeMap<String, usize>,
    #[serde(default)]
    input_shape: BTreeMap<String, Vec<usize>>,
    #[serde(default)]
    bind: BTreeMap<String, String>,
    #[serde(default)]
    rename: BTreeMap<String, String>,
    #[serde(default)]
    stateful: BTreeMap<String, String>,
    #[serde(default)]
    custom_op: BTreeMap<String, String>,
    #[serde(default)]
    custom_shape: BTreeMap<String, String>,
    input_layout: Option<String>,
    io: Option<String>,
    ranges: Option<PathBuf>,
    data: Option<PathBuf>,
}

/// What a manifest asks for.
#[derive(Debug)]
pub struct Manifest {
    /// Models and options.
    pub config: Config,
    /// Folder of the generated crate.
    pub output: PathBuf,
    /// Folder of recorded samples for each model.
    pub data: Vec<Option<PathBuf>>,
}

fn bad(path: &Path, message: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(Code::BadOption, format!("`{}`: {message}", path.display()))
}

/// Reads a manifest; paths in it are relative to its folder.
pub fn read(path: &Path) -> Result<Manifest, Diagnostics> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        bad(path, e).with_help("name a model: `edgec build model.onnx -o DIR`, or write an edgec.toml")
    })?;
    let file: File = toml::from_str(&text).map_err(|e| bad(path, e.message()).with_note(e.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut problems = Diagnostics::new();
    let mut config = Config::new();
    if file.model.is_empty() {
        problems.push(bad(path, "no [[model]]"));
    }
    config.package = file.package.name;
    config.target = file.package.target;
    config.exact = file.package.exact;
    config.require_integer = file.package.require_integer;
    match parse_levels(file.package.level.as_deref().unwrap_or("auto")) {
        Ok(levels) => config.levels = levels,
        Err(d) => problems.push(d),
    }
    match parse_runtime(file.package.runtime.as_deref().unwrap_or("vendored")) {
        Ok(runtime) => config.runtime = runtime,
        Err(d) => problems.push(d),
    }
    match file.package.specialise.as_deref().unwrap_or("auto").parse() {
        Ok(specialise) => config.specialise = specialise,
        Err(e) => problems.push(bad(path, format!("specialise {e}"))),
    }
    match file.package.weights.as_deref().unwrap_or("included").parse() {
        Ok(weights) => config.weights = weights,
        Err(e) => problems.push(bad(path, format!("weights {e}"))),
    }
    for (text, most) in
        [(&file.package.max_ram, &mut config.max_ram), (&file.package.max_rom, &mut config.max_rom)]
    {
        match text.as_deref().map(parse_bytes).transpose() {
            Ok(bytes) => *most = bytes,
            Err(e) => problems.push(bad(path, e)),
        }
    }
    for source in &file.package.custom_source {
        match custom_source(config.clone(), &folder.join(source)) {
            Ok(with) => config = with,
            Err(d) => problems.push(d),
        }
    }
    let mut data = Vec::new();
    for entry in file.model {
        let mut model = ModelConfig::file(folder.join(&entry.path));
        model.name = entry.name;
        model.dims = entry.dim;
        model.input_shapes = entry.input_shape;
        model.renames = entry.rename;
        model.stateful = entry.stateful.into_iter().collect();
        if let Some(ranges) = entry.ranges {
            model = model.ranges(folder.join(ranges));
        }
        for (name, value) in &entry.bind {
            match model.clone().bind_text(name, value, folder) {
                Ok(bound) => model = bound,
                Err(d) => problems.push(bad(path, format!("bind of `{name}`: {}", d.message))),
            }
        }
        let ops = entry.custom_op.iter().map(|(name, path)| (name, path, true));
        for (name, value, op) in ops.chain(entry.custom_shape.iter().map(|(name, rule)| (name, rule, false)))
        {
            let own = model.clone();
            match if op { own.custom_op(name, value) } else { own.custom_shape(name, value) } {
                Ok(changed) => model = changed,
                Err(d) => problems.push(d),
            }
        }
        match entry.input_layout.as_deref() {
            None | Some("model") => {}
            Some("nhwc") => model = model.input_nhwc(true),
            Some(other) => {
                problems.push(bad(path, format!("input-layout `{other}`: expected `model` or `nhwc`")))
            }
        }
        match entry.io.as_deref().unwrap_or("float").parse() {
            Ok(io) => model = model.io(io),
            Err(e) => problems.push(bad(path, format!("io {e}"))),
        }
        data.push(entry.data.map(|d| folder.join(d)));
        config = config.model(model);
    }
    if problems.has_errors() {
        return Err(problems);
    }
    Ok(Manifest { config, output: folder.join(file.package.output), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_manifest_and_unknown_keys_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edgec.toml");
        std::fs::write(
            &path,
            "[package]\noutput = \"out\"\nlevel = \"scalar\"\n[[model]]\npath = \"a.onnx\"\ndim = { n = 2 }\nbind = { k = \"3\" }\nstateful = { h = \"hn\" }\n",
        )
        .unwrap();
        let manifest = read(&path).unwrap();
        assert_eq!(manifest.output, dir.path().join("out"));
        assert_eq!(manifest.config.models[0].dims["n"], 2);
        assert_eq!(manifest.config.models[0].binds["k"].to_i64_vec(), Some(vec![3]));
        assert_eq!(manifest.config.models[0].stateful, [("h".to_owned(), "hn".to_owned())]);
        std::fs::write(&path, "[package]\noutput = \"out\"\nlevels = \"v3\"\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("unknown field"));
    }
}
