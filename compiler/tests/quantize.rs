//! `edgec quantize` as a user meets it, on the fixtures: what it writes means almost the same, in integers.

use edgec::frontend::{Options, load};
use edgec::interp;
use edgec::ir::{DType, Tensor};
use edgec::onnx::read_npy;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn edgec(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgec")).args(args).current_dir(dir).output().unwrap()
}

fn succeed(dir: &Path, args: &[&str]) -> String {
    let run = edgec(dir, args);
    assert!(run.status.success(), "{args:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
}

fn npy(path: &Path) -> Tensor {
    read_npy(&std::fs::read(path).unwrap()).unwrap()
}

/// Share of the first `most` labelled test samples that a model file names rightly.
fn accuracy(model: &Path, fixture: &Path, most: usize) -> f64 {
    let (x, y) = (npy(&fixture.join("samples/test_x.npy")), npy(&fixture.join("samples/test_y.npy")));
    let graph = load(model, &Options::default()).unwrap().graph;
    let input = graph.value(graph.inputs[0]);
    let size = input.shape.elements();
    let right = |i: usize| {
        let row = x.as_slice::<f32>().unwrap()[i * size..][..size].to_vec();
        let out = interp::run(&graph, &[Tensor::new(input.shape.clone(), row).unwrap()]).unwrap();
        let scores = out[0].to_f64_vec().unwrap();
        let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
        best == Some(y.to_f64_vec().unwrap()[i] as usize)
    };
    let count = most.min(y.len());
    (0..count).filter(|&i| right(i)).count() as f64 / count as f64
}

#[test]
fn fixtures_keep_their_accuracy_in_integers() {
    for name in ["digits", "motion"] {
        let (dir, fixture) = (tempfile::tempdir().unwrap(), fixture(name));
        let (model, data) = (fixture.join("model.onnx"), fixture.join("samples/calib_x.npy"));
        let (model, data) = (model.to_str().unwrap(), data.to_str().unwrap());
        succeed(
            dir.path(),
            &["quantize", model, "--calibrate", data, "--ranges", "ranges.json", "-o", "int8.onnx"],
        );
        let made = dir.path().join("int8.onnx");
        let (float, int8) = (accuracy(Path::new(model), &fixture, 150), accuracy(&made, &fixture, 150));
        assert!(int8 >= float - 0.0101, "{name}: {int8} of {float}");
        // Every product reads integers.
        let graph = load(&made, &Options::default()).unwrap().graph;
        let narrow = graph.nodes().filter(|(_, n)| n.op.as_op().name() == "QuantizeLinear").count();
        assert!(narrow > 5, "{name}: {narrow} values are quantized");
        let integers = graph.nodes().flat_map(|(_, n)| n.inputs.iter().flatten());
        assert!(integers.filter_map(|&v| graph.constant(v)).any(|t| t.dtype() == DType::I8));
        // Frozen ranges give the same file without data.
        succeed(dir.path(), &["quantize", model, "--ranges", "ranges.json", "-o", "again.onnx"]);
        let bytes = |file: &str| std::fs::read(dir.path().join(file)).unwrap();
        assert!(bytes("int8.onnx") == bytes("again.onnx"), "{name}: ranges do not freeze the result");
    }
}

#[test]
fn wrong_data_is_named() {
    let (dir, model) = (tempfile::tempdir().unwrap(), fixture("digits").join("model.onnx"));
    let model = model.to_str().unwrap();
    let labels = fixture("digits").join("samples/calib_y.npy");
    let refused = |args: &[&str], says: &str| {
        let run = edgec(dir.path(), &[&["quantize", model, "-o", "out.onnx"], args].concat());
        let err = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success() && err.contains(says), "{args:?}: {err}");
    };
    refused(&[], "--calibrate");
    refused(&["--calibrate", labels.to_str().unwrap()], "does not fit input");
    refused(&["--ranges", "absent.json"], "absent.json");
    let set = fixture("digits");
    refused(&["--calibrate", set.to_str().unwrap(), "--keep-float", "nobody"], "there is no such node");
    assert!(!dir.path().join("out.onnx").exists());
}

/// One command, a file of ranges, and the quantized file: three ways to one crate.
#[test]
fn a_build_quantizes_by_data_or_by_ranges() {
    let (dir, fixture) = (tempfile::tempdir().unwrap(), fixture("digits"));
    let (model, data) = (fixture.join("model.onnx"), fixture.join("samples/calib_x.npy"));
    let (model, data) = (model.to_str().unwrap(), data.to_str().unwrap());
    let of = |crate_dir: &str, file: &str| std::fs::read(dir.path().join(crate_dir).join(file)).unwrap();
    let build = |out: &str, more: &[&str]| {
        succeed(dir.path(), &[&["build", model, "--name", "digits", "-o", out], more].concat())
    };
    build("found", &["--quantize", "int8", "--calibrate", data, "--ranges", "r.json", "--bias-correction"]);
    build("frozen", &["--ranges", "r.json"]);
    for file in ["src/digits/layers.rs", "src/digits/weights.bin", "PROVENANCE.json"] {
        assert!(of("found", file) == of("frozen", file), "{file}");
    }
    assert!(String::from_utf8(of("found", "PROVENANCE.json")).unwrap().contains("--ranges r.json"));
    // Without a file of ranges the same numbers come out.
    build("unkept", &["--quantize", "int8", "--calibrate", data, "--bias-correction"]);
    assert!(of("found", "src/digits/weights.bin") == of("unkept", "src/digits/weights.bin"));
    // And they are those of the quantized file.
    succeed(dir.path(), &["quantize", model, "--ranges", "r.json", "-o", "q.onnx"]);
    succeed(dir.path(), &["build", "q.onnx", "--name", "digits", "-o", "file"]);
    assert!(of("found", "src/digits/weights.bin") == of("file", "src/digits/weights.bin"));
    let refused = |more: &[&str], says: &str| {
        let run = edgec(dir.path(), &[&["build", model, "-o", "no"], more].concat());
        let err = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.code() == Some(2) && err.contains(says), "{more:?}: {err}");
    };
    refused(&["--quantize", "int8"], "--calibrate");
    refused(&["--per-tensor"], "--quantize int8");
    refused(&["--quantize", "int8", "--ranges", "r.json", "--method", "mse"], "says itself");
    assert!(!dir.path().join("no").exists());
}

/// The digits of the fixture as image files, and what the float input is made of them with.
#[test]
fn images_calibrate_like_the_arrays_they_show() {
    let (dir, fixture) = (tempfile::tempdir().unwrap(), fixture("digits"));
    let model = fixture.join("model.onnx");
    let model = model.to_str().unwrap();
    let x = npy(&fixture.join("samples/calib_x.npy"));
    let graph = load(Path::new(model), &Options::default()).unwrap().graph;
    let shape = graph.value(graph.inputs[0]).shape.to_vec();
    let (h, w) = (shape[shape.len() - 2] as u32, shape[shape.len() - 1] as u32);
    let values = x.as_slice::<f32>().unwrap();
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let photos = dir.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    for (i, image) in values.chunks_exact((h * w) as usize).take(60).enumerate() {
        let bytes = image.iter().map(|v| ((v - low) / (high - low) * 255.0).round() as u8).collect();
        let image = image::GrayImage::from_raw(w, h, bytes).unwrap();
        image.save(photos.join(format!("{i:03}.png"))).unwrap();
    }
    let (white, mean) = ((high - low).to_string(), (-low).to_string());
    let arguments = ["quantize", model, "--calibrate", "photos", "--ranges", "r.json", "-o", "int8.onnx"];
    let how = ["--method", "min-max", "--color", "gray", "--white", &white, "--mean", &mean];
    succeed(dir.path(), &[&arguments[..], &how].concat());
    let ranges: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("r.json")).unwrap()).unwrap();
    assert!(ranges["preprocessing"].as_str().unwrap().starts_with("--color gray --white"));
    assert_eq!(ranges["samples"], 60);
    let accuracy = [Path::new(model), &dir.path().join("int8.onnx")].map(|m| accuracy(m, &fixture, 150));
    assert!(accuracy[1] >= accuracy[0] - 0.0201, "{accuracy:?}");
    let bytes = std::fs::read(dir.path().join("int8.onnx")).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("edgec.preprocessing"));
}

#[test]
fn labels_say_how_often_both_models_are_right() {
    let (dir, fixture) = (tempfile::tempdir().unwrap(), fixture("motion"));
    let path = |name: &str| fixture.join(name).to_str().unwrap().to_owned();
    let (model, calibrate) = (path("model.onnx"), path("samples/calib_x.npy"));
    let (x, y) = (path("samples/test_x.npy"), path("samples/test_y.npy"));
    let arguments = ["quantize", &model, "--calibrate", &calibrate, "-o", "int8.onnx"];
    let text = succeed(dir.path(), &[&arguments[..], &["--evaluate", &x, "--labels", &y, "--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&text[..=text.rfind('}').unwrap()]).unwrap();
    let said = &json["accuracy"];
    let samples = said["samples"].as_u64().unwrap() as usize;
    let expected = accuracy(Path::new(&model), &fixture, samples);
    assert_eq!(said["float"].as_f64().unwrap(), expected);
    assert_eq!(
        said["quantized"].as_f64().unwrap(),
        accuracy(&dir.path().join("int8.onnx"), &fixture, samples)
    );
    let wrong = edgec(dir.path(), &[&arguments[..], &["--labels", &y]].concat());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("labels for"), "{wrong:?}");
}

#[test]
fn layers_are_ranked_by_what_each_costs_alone() {
    let (dir, fixture) = (tempfile::tempdir().unwrap(), fixture("motion"));
    let path = |name: &str| fixture.join(name).to_str().unwrap().to_owned();
    let (model, calibrate) = (path("model.onnx"), path("samples/calib_x.npy"));
    let arguments =
        ["quantize", &model, "--calibrate", &calibrate, "-o", "int8.onnx", "--sensitivity", "--json"];
    let text = succeed(dir.path(), &arguments);
    let json: serde_json::Value = serde_json::from_str(&text[..=text.rfind('}').unwrap()]).unwrap();
    let ranked = json["sensitivity"].as_array().unwrap();
    assert_eq!(ranked.len() as u64, json["quantized_layers"].as_u64().unwrap());
    let db: Vec<f64> = ranked.iter().map(|l| l["sqnr_db"].as_f64().unwrap()).collect();
    assert!(db.is_sorted(), "{db:?}");
    // All layers together are noisier than the noisiest one, and no layer is free of noise that is not a copy.
    let all = json["outputs"][0]["sqnr_db"].as_f64().unwrap();
    assert!(db[0] > all - 3.0 && db[0] < 100.0, "{} against {all} together", db[0]);
}
