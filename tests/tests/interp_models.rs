//! The interpreter against recorded outputs, on graphs as imported and as the passes leave them.
//!
//! Models: `fixtures/`, and the folder that `EDGEC_MODELS` names (default `../shared/models` beside the
//! workspace). Of the latter those under 30 million MACs, first sample set; `EDGEC_ALL_MODELS=1` takes
//! everything (use `--release`), `EDGEC_MODEL=name` one model. Tolerances are those of each `info.json`.

use edgec::diag::Code;
use edgec::frontend::{Options, load};
use edgec::ir::Tensor;
use edgec::onnx::read_npy;
use edgec::ops::Graph;
use edgec::{interp, passes};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Multiply-accumulates of a model that an unoptimised build runs in a few seconds.
const QUICK_MACS: u64 = 30_000_000;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn shared_models() -> PathBuf {
    match std::env::var_os("EDGEC_MODELS") {
        Some(folder) => folder.into(),
        None => workspace().join("../shared/models"),
    }
}

/// Folders with a model, by name.
fn models(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|e| e.path()).filter(|p| p.join("model.onnx").is_file()).collect();
    if let Ok(only) = std::env::var("EDGEC_MODEL") {
        found.retain(|p| p.file_name().is_some_and(|n| n == only.as_str()));
    }
    found.sort();
    found
}

/// Shapes as `info.json` says the samples have them.
fn options(info: &Value) -> Options {
    let mut options = Options::default();
    for input in info["inputs"].as_array().into_iter().flatten() {
        let dims = input["sample_shape"].as_array();
        let shape: Option<Vec<usize>> =
            dims.map(|d| d.iter().filter_map(Value::as_u64).map(|d| d as usize).collect());
        if let (Some(name), Some(shape)) = (input["name"].as_str(), shape) {
            options.input_shapes.insert(name.to_owned(), shape);
        }
    }
    options
}

/// Tensors `<kind>_0.npy`, `<kind>_1.npy`, …
fn samples(set: &Path, kind: &str, count: usize) -> Vec<Tensor> {
    (0..count)
        .map(|i| {
            let file = set.join(format!("{kind}_{i}.npy"));
            let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            read_npy(&bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
        })
        .collect()
}

/// How far an output may be off.
struct Tolerance {
    rtol: f64,
    atol: f64,
}

impl Tolerance {
    fn of(info: &Value, output: usize) -> Self {
        let t = &info["tolerance"][output];
        if t["exact"].as_bool() == Some(true) {
            return Tolerance { rtol: 0.0, atol: 0.0 };
        }
        let steps = t["steps"].as_f64();
        Tolerance {
            rtol: t["rtol"].as_f64().unwrap_or(if steps.is_some() { 0.0 } else { 1e-3 }),
            atol: t["atol"].as_f64().or(steps).unwrap_or(1e-5),
        }
    }

    fn check(&self, wanted: &Tensor, found: &Tensor) -> Result<(), String> {
        if (wanted.dtype(), wanted.shape()) != (found.dtype(), found.shape()) {
            return Err(format!("{found:?} instead of {wanted:?}"));
        }
        let (Some(w), Some(f)) = (wanted.to_f64_vec(), found.to_f64_vec()) else {
            return if wanted == found { Ok(()) } else { Err("texts differ".to_owned()) };
        };
        let off = |(_, (w, f)): &(usize, (&f64, &f64))| {
            !(w == f || w.is_nan() && f.is_nan() || (*w - *f).abs() <= self.rtol * w.abs() + self.atol)
        };
        let mut wrong = w.iter().zip(&f).enumerate().filter(off);
        match wrong.next() {
            None => Ok(()),
            Some((i, (w, f))) => {
                Err(format!("element {i} is {f:e} instead of {w:e}, and {} more", wrong.count()))
            }
        }
    }
}

/// Runs one model; `Ok(None)` where it needs an operator that is not there.
fn check_model(folder: &Path, all_sets: bool) -> Result<Option<()>, String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let info = std::fs::read_to_string(folder.join("info.json")).unwrap_or_default();
    let info: Value = serde_json::from_str(&info).unwrap_or_default();
    let imported = match load(&folder.join("model.onnx"), &options(&info)) {
        Ok(imported) => imported,
        Err(diagnostics) => {
            let lacking = |code| matches!(code, Code::UnsupportedOp | Code::UnsupportedForm);
            if diagnostics.iter().any(|d| lacking(d.code)) {
                println!("{name}: not supported");
                return Ok(None);
            }
            return Err(format!("{diagnostics}"));
        }
    };
    let plain = imported.graph;
    let mut optimized = plain.clone();
    let start = Instant::now();
    let log = passes::optimize(&mut optimized).map_err(|e| e.to_string())?;
    println!(
        "{name}: {} nodes, {} after {} changes in {} ms",
        plain.nodes().count(),
        optimized.nodes().count(),
        log.changes(),
        start.elapsed().as_millis()
    );
    println!("{log}");
    let mut sets: Vec<PathBuf> =
        (0..).map(|i| folder.join(format!("set_{i}"))).take_while(|p| p.is_dir()).collect();
    if !all_sets {
        sets.truncate(1);
    }
    if sets.is_empty() {
        return Err("no samples".to_owned());
    }
    for set in sets {
        let inputs = samples(&set, "input", plain.inputs.len());
        let wanted = samples(&set, "output", plain.outputs.len());
        for (what, graph) in [("as imported", &plain), ("optimised", &optimized)] {
            check_run(graph, &inputs, &wanted, &info)
                .map_err(|e| format!("{}, {what}: {e}", set.display()))?;
        }
    }
    Ok(Some(()))
}

fn check_run(graph: &Graph, inputs: &[Tensor], wanted: &[Tensor], info: &Value) -> Result<(), String> {
    let found = interp::run(graph, inputs).map_err(|e| e.to_string())?;
    for (i, ((name, _), (w, f))) in graph.outputs.iter().zip(wanted.iter().zip(&found)).enumerate() {
        Tolerance::of(info, i).check(w, f).map_err(|e| format!("output `{name}`: {e}"))?;
    }
    Ok(())
}

fn check_all(folders: &[PathBuf], all_sets: bool) -> usize {
    let mut failures = Vec::new();
    let mut passed = 0;
    for folder in folders {
        let start = Instant::now();
        match check_model(folder, all_sets) {
            Ok(None) => {}
            Ok(Some(())) => {
                passed += 1;
                println!("    passed in {} ms\n", start.elapsed().as_millis());
            }
            Err(e) => failures.push(format!("{}: {e}", folder.display())),
        }
    }
    assert!(failures.is_empty(), "{passed} passed, {} failed\n{}", failures.len(), failures.join("\n"));
    passed
}

#[test]
fn fixtures() {
    let folders = models(&workspace().join("fixtures"));
    let passed = check_all(&folders, true);
    assert!(passed > 0 || std::env::var_os("EDGEC_MODEL").is_some(), "no fixture ran");
}

#[test]
fn shared() {
    let root = shared_models();
    if !root.is_dir() {
        // Past the test harness, which swallows what passing tests print.
        let _ = writeln!(
            std::io::stderr(),
            "\n*** NOT TESTED: no models in {} (set EDGEC_MODELS) ***\n",
            root.display()
        );
        return;
    }
    let all = std::env::var_os("EDGEC_ALL_MODELS").is_some();
    let mut folders = models(&root);
    if !all && std::env::var_os("EDGEC_MODEL").is_none() {
        folders.retain(|f| macs(f).is_none_or(|m| m < QUICK_MACS));
    }
    let passed = check_all(&folders, all);
    println!("{passed} of {} models ran", folders.len());
}

/// The estimate in `info.json`.
fn macs(folder: &Path) -> Option<u64> {
    let info: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("info.json")).ok()?).ok()?;
    info["macs_estimate"].as_u64()
}
