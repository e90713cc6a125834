//! Every model of the shared folder goes through the frontend.
//!
//! `EDGEC_MODELS` names the folder; the default is `../shared/models` beside the workspace.

use edgec::diag::{Code, Severity};
use edgec::frontend::{Options, load};
use edgec::ir::verify::verify;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn models_folder() -> PathBuf {
    match std::env::var_os("EDGEC_MODELS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models"),
    }
}

/// Dimensions and shapes as `info.json` says the samples have them.
fn options(info: &Value) -> Options {
    let mut options = Options::default();
    for input in info["inputs"].as_array().into_iter().flatten() {
        let shape: Option<Vec<usize>> = input["sample_shape"]
            .as_array()
            .map(|dims| dims.iter().filter_map(|d| d.as_u64()).map(|d| d as usize).collect());
        if let (Some(name), Some(shape)) = (input["name"].as_str(), shape) {
            options.input_shapes.insert(name.to_owned(), shape);
        }
    }
    options
}

#[test]
fn every_model_imports_or_lacks_an_operator() {
    let folder = models_folder();
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("\n*** NOT TESTED: no models in {} (set EDGEC_MODELS) ***\n", folder.display());
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path().join("model.onnx")).collect();
    paths.sort();
    let mut wrong = Vec::new();
    let mut imported = 0;
    for path in paths.iter().filter(|p| p.is_file()) {
        let info = std::fs::read_to_string(path.with_file_name("info.json")).unwrap_or_default();
        let info: Value = serde_json::from_str(&info).unwrap_or_default();
        let start = std::time::Instant::now();
        let result = load(path, &options(&info));
        let took = start.elapsed().as_millis();
        let name = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let diagnostics = match result {
            Ok(model) => {
                imported += 1;
                println!("{name}: {} nodes, {took} ms", model.graph.order().len());
                let violations = verify(&model.graph);
                if !violations.is_empty() {
                    wrong.push(format!("{name}: {violations:?}"));
                }
                model.diagnostics
            }
            Err(diagnostics) => diagnostics,
        };
        for d in diagnostics.iter().filter(|d| d.severity != Severity::Note) {
            println!("{name}: {took} ms: {}: {}", d.code, d.message);
            // Operators still to come, and control flow, are told as such; anything else is a fault.
            let expected = d.code == Code::UnsupportedOp
                || (d.code == Code::UnsupportedForm && d.message.contains("`If`"));
            if !expected {
                wrong.push(format!("{name}: {d}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(imported > 0, "no model of {} was imported", folder.display());
}
