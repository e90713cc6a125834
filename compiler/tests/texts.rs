//! Texts at the command line: recorded words are compared through the table, and what is refused.

use edgec::diag::Code;
use edgec::frontend::{Imported, Options, load_model};
use edgec::interp;
use edgec::ir::Tensor;
use edgec::onnx::ExternalData;
use edgec::onnx::text::parse_model;
use std::process::Command;

fn import(body: &str) -> Result<Imported, edgec::diag::Diagnostics> {
    let text = format!("<ir_version: 8, opset_import: [\"\" : 15, \"ai.onnx.ml\" : 2]> g {body}");
    let model = parse_model(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    load_model(&model, &ExternalData::none(), &Options::default())
}

/// The texts of the first output for these inputs.
fn words(imported: &Imported, inputs: &[Tensor]) -> Vec<String> {
    let graph = &imported.graph;
    let texts = graph.tables.get(&graph.outputs[0].0).and_then(|t| t.texts()).expect("texts");
    let found = interp::run(graph, inputs).unwrap();
    found[0].as_slice::<i64>().unwrap().iter().map(|&p| texts[p as usize].clone()).collect()
}

#[test]
fn moves_keep_the_table() {
    // As converters write classifiers that are no operator of their own.
    let imported = import(
        "(float[2, 3] x) => (string[2] y) <string[3] c = {\"no\", \"maybe\", \"yes\"}, int64[1] s = {-1}> {
            best = ArgMax <axis = 1> (x)
            picked = ai.onnx.ml.ArrayFeatureExtractor (c, best)
            text = Cast <to = 8> (picked)
            twice = Concat <axis = 1> (text, text)
            flat = Reshape (twice, s)
            first, second = Split <axis = 0> (flat)
            y = Identity (second)
        }",
    )
    .unwrap();
    let x = Tensor::new([2, 3], vec![0.0f32, 1.0, 2.0, 5.0, 4.0, 3.0]).unwrap();
    assert_eq!(words(&imported, &[x]), ["yes", "no"]);
    assert_eq!(imported.diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::Texts]);
    // Known texts have a table of their own, each word once.
    let known = import("() => (y) <string[3] c = {\"b\", \"a\", \"b\"}> { y = Identity (c) }").unwrap();
    assert_eq!(words(&known, &[]), ["b", "a", "b"]);
    assert_eq!(known.graph.tables["y"].texts().unwrap(), ["b", "a"]);
}

#[test]
fn labels_become_numbers_again() {
    let imported = import(
        "(int64[4] x) => (int64[4] y) {
            label = ai.onnx.ml.LabelEncoder <keys_int64s = [1, 2, 3], values_strings = [\"a\", \"b\", \"a\"], default_string = \"c\"> (x)
            y = ai.onnx.ml.LabelEncoder <keys_strings = [\"b\", \"c\"], values_int64s = [20, 30], default_int64 = 0> (label)
        }",
    )
    .unwrap();
    let x = Tensor::vector(&[3i64, 2, 7, 1]);
    assert_eq!(interp::run(&imported.graph, &[x]).unwrap()[0].to_i64_vec().unwrap(), [0, 20, 30, 0]);
    assert!(imported.diagnostics.iter().next().is_none());
}

#[test]
fn operators_that_look_at_texts_are_refused() {
    for body in [
        "(string[2] x) => (y) { y = Unique (x) }",
        "(string[2] x) => (int64[2] y) { y = Cast <to = 7> (x) }",
        "(string[2] x) => (float[2] y) { y = ai.onnx.ml.Scaler <offset = [1.0], scale = [1.0]> (x) }",
        "(string[2] x, int64[2] k) => (y) { y = ai.onnx.ml.LabelEncoder <keys_int64s = [1], values_int64s = [2]> (x) }",
    ] {
        let message = import(body).unwrap_err().to_string();
        assert!(message.contains("texts") || message.contains("Unique"), "{body}: {message}");
    }
}

#[test]
fn verify_and_run_speak_words() {
    let dir = tempfile::tempdir().unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/models/iris.onnxtxt");
    std::fs::copy(model, dir.path().join("iris.onnxtxt")).unwrap();
    let set = dir.path().join("set_0");
    std::fs::create_dir(&set).unwrap();
    let x = Tensor::new(
        [2, 4],
        vec![
            1.764_052_3f32,
            0.400_157_2,
            0.978_738,
            2.240_893_1,
            1.867_558,
            -0.977_277_9,
            0.950_088_4,
            -0.151_357_2,
        ],
    );
    std::fs::write(set.join("input_0.npy"), edgec::onnx::write_npy(&x.unwrap()).unwrap()).unwrap();
    let record = |labels: [&str; 2]| {
        let mut header = "{'descr': '<U10', 'fortran_order': False, 'shape': (2,), }".to_owned();
        header.push('\n');
        let mut file =
            [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        for word in labels {
            file.extend(
                word.chars().chain(std::iter::repeat('\0')).take(10).flat_map(|c| u32::from(c).to_le_bytes()),
            );
        }
        std::fs::write(set.join("output_0.npy"), file).unwrap();
    };
    let edgec = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_edgec")).args(args).current_dir(dir.path()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let common = ["iris.onnxtxt", "--level", "scalar", "--build-dir", "build"];
    record(["versicolor", "setosa"]);
    let (passed, out) = edgec(&[&["verify"][..], &common].concat());
    assert!(passed, "{out}");
    record(["versicolor", "virginica"]);
    let (passed, out) = edgec(&[&["verify"][..], &common].concat());
    assert!(!passed && out.contains("texts differ"), "{out}");
    let (passed, out) =
        edgec(&[&["run"][..], &common, &["--input", "set_0/input_0.npy", "-o", "out"]].concat());
    assert!(passed && out.contains("versicolor, setosa"), "{out}");
}
