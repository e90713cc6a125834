//! Operators of the user from the command line: what it says, and that what it builds runs.

use std::path::Path;
use std::process::{Command, Output};

const OP: [&str; 2] = ["--custom-op", "com.acme:Squash=my_ops::squash"];
const SOURCE: [&str; 2] = ["--custom-source", "my_ops.rs"];

fn edgec(dir: &Path, args: &[&[&str]]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgec")).args(args.concat()).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with the model, its functions and a sample.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models");
    for file in ["squash.onnxtxt", "my_ops.rs"] {
        std::fs::copy(models.join(file), dir.path().join(file)).unwrap();
    }
    dir
}

/// A `.npy` file of version 1.
fn npy(path: &Path, descr: &str, shape: &str, bytes: &[u8]) {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    let all = [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), bytes].concat();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, all).unwrap();
}

#[test]
fn what_is_missing_is_said_with_the_flag_to_type() {
    let dir = folder();
    let dir = dir.path();
    let unknown = text(&edgec(dir, &[&["inspect", "squash.onnxtxt"]]).stderr);
    assert!(unknown.contains("E0101") && unknown.contains("--custom-op com.acme:Squash="), "{unknown}");

    let no_types =
        std::fs::read_to_string(dir.join("squash.onnxtxt")).unwrap().replace("<float[2, 3] s>", "");
    std::fs::write(dir.join("untyped.onnxtxt"), no_types).unwrap();
    let untyped = text(&edgec(dir, &[&["inspect", "untyped.onnxtxt"], &OP]).stderr);
    assert!(untyped.contains("E0108") && untyped.contains("--custom-shape"), "{untyped}");
    assert!(untyped.contains("com.acme:Squash=same;same"), "{untyped}");
    let typed = ["--custom-shape", "com.acme:Squash=same;i64[2]"];
    assert!(edgec(dir, &[&["inspect", "untyped.onnxtxt"], &OP, &typed]).status.success());
    let rules = ["--custom-shape", "com.acme:Squash=same;same;same"];
    let rules = text(&edgec(dir, &[&["inspect", "untyped.onnxtxt"], &OP, &rules]).stderr);
    assert!(rules.contains("3 shape rules for 2 results"), "{rules}");

    let lost = text(&edgec(dir, &[&["build", "squash.onnxtxt", "-o", "out"], &OP]).stderr);
    assert!(lost.contains("E0108") && lost.contains("--custom-source my_ops.rs"), "{lost}");
    let no_path = edgec(dir, &[&["inspect", "squash.onnxtxt", "--custom-op", "com.acme:Squash=squash"]]);
    assert_eq!(no_path.status.code(), Some(2));
}

#[test]
fn inspect_names_the_function() {
    let dir = folder();
    let run = edgec(dir.path(), &[&["inspect", "squash.onnxtxt", "--json"], &OP]);
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let layer = json["layers"].as_array().unwrap().iter().find(|l| l["kernel"] == "Custom").unwrap();
    assert_eq!(
        (&layer["note"], &layer["nodes"]),
        (&"calls my_ops::squash".into(), &serde_json::json!(["s"]))
    );
}

#[test]
fn verify_compares_what_the_function_computes() {
    let dir = folder();
    let dir = dir.path();
    let (x, b) = ([-1.0f32, 0.5, 2.0, 4.0, -3.0, 0.25], [0.5f32, -0.25, 1.0]);
    let squashed = |i: usize| {
        let v = x[i] + b[i % 3];
        (2.5 * v / (1.0 + v.abs())).max(0.0)
    };
    let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    npy(&dir.join("set_0/input_0.npy"), "<f4", "(2, 3)", &bytes(&x));
    npy(&dir.join("set_0/input_1.npy"), "<f4", "(3,)", &bytes(&b));
    let y: Vec<f32> = (0..6).map(squashed).collect();
    npy(&dir.join("set_0/output_0.npy"), "<f4", "(2, 3)", &bytes(&y));
    let which: Vec<u8> = [8i64, 6].iter().flat_map(|v| v.to_le_bytes()).collect();
    npy(&dir.join("set_0/output_1.npy"), "<i8", "(2,)", &which);
    let build = ["--level", "scalar", "--build-dir", "build"];
    let run = edgec(dir, &[&["verify", "squash.onnxtxt"], &OP, &SOURCE, &build]);
    assert!(run.status.success(), "{}\n{}", text(&run.stdout), text(&run.stderr));
    let inputs = ["--input", "set_0/input_0.npy", "--input", "set_0/input_1.npy", "-o", "found"];
    let run = edgec(dir, &[&["run", "squash.onnxtxt"], &inputs, &OP, &SOURCE, &build]);
    assert!(run.status.success(), "{}\n{}", text(&run.stdout), text(&run.stderr));
    let found = std::fs::read(dir.join("found/output_1.npy")).unwrap();
    assert!(found.ends_with(&which));

    // The same by `edgec.toml`; the crate's own test runs the recorded sample.
    let manifest = "[package]\nname = \"squash\"\noutput = \"out\"\nlevel = \"scalar\"\ncustom-source = [\"my_ops.rs\"]\n\
                    [[model]]\npath = \"squash.onnxtxt\"\ncustom-op = { \"com.acme:Squash\" = \"my_ops::squash\" }\n\
                    custom-shape = { \"com.acme:Squash\" = \"same;i64[2]\" }\n";
    std::fs::write(dir.join("edgec.toml"), manifest).unwrap();
    let run = edgec(dir, &[&["build"]]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let layers = std::fs::read_to_string(dir.join("out/src/squash/layers.rs")).unwrap();
    assert!(layers.contains("crate::my_ops::squash(&OP, x0, &[], x1, y0, y1);"), "{layers}");
    let provenance = std::fs::read_to_string(dir.join("out/PROVENANCE.json")).unwrap();
    assert!(provenance.contains("--custom-op com.acme:Squash=my_ops::squash"), "{provenance}");
    assert!(provenance.contains("src/my_ops.rs"), "{provenance}");
    assert!(dir.join("out/tests/golden.rs").is_file());
}
