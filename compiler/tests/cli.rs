//! The command as a user meets it: exit status, messages, files.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name).join("model.onnx")
}

fn edgec(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgec")).args(args).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every file below a folder with its bytes, by relative path.
fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    fn walk(base: &Path, dir: &Path, out: &mut Vec<(PathBuf, Vec<u8>)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(base, &path, out);
            } else {
                out.push((path.strip_prefix(base).unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    walk(dir, dir, &mut out);
    out.sort();
    out
}

#[test]
fn two_builds_are_the_same_bytes_and_check_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("digits");
    let model = model.to_str().unwrap();
    for out in ["a", "b"] {
        let run = edgec(&["build", model, "--name", "digits", "-o", out], dir.path());
        assert!(run.status.success(), "{}", text(&run.stderr));
    }
    let a = tree(&dir.path().join("a"));
    assert!(a.len() > 10);
    assert!(a == tree(&dir.path().join("b")), "two builds differ");
    let host_facts = a.iter().filter(|(_, bytes)| text(bytes).contains(dir.path().to_str().unwrap()));
    assert_eq!(host_facts.count(), 0, "a path of this machine is in the output");

    let check = ["build", model, "--name", "digits", "-o", "a", "--check"];
    assert!(edgec(&check, dir.path()).status.success());
    let layers = dir.path().join("a/src/lib.rs");
    let mut source = std::fs::read_to_string(&layers).unwrap();
    source.push_str("// edited\n");
    std::fs::write(&layers, source).unwrap();
    let stale = edgec(&check, dir.path());
    assert_eq!(stale.status.code(), Some(4));
    assert!(text(&stale.stderr).contains("src/lib.rs"), "{}", text(&stale.stderr));
    assert!(edgec(&["build", model, "--name", "digits", "-o", "a"], dir.path()).status.success());
    assert!(edgec(&check, dir.path()).status.success());
}

#[test]
fn a_failed_build_leaves_the_old_crate() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("digits");
    assert!(edgec(&["build", model.to_str().unwrap(), "-o", "out"], dir.path()).status.success());
    let before = tree(&dir.path().join("out"));
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(dir.path().join("broken.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    let run = edgec(&["build", "broken.onnx", "-o", "out"], dir.path());
    assert_eq!(run.status.code(), Some(1));
    assert!(text(&run.stderr).contains("error[E"), "{}", text(&run.stderr));
    assert!(before == tree(&dir.path().join("out")), "the old crate was touched");
    let entries: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(entries.len(), 2, "something was left behind: {entries:?}");
}

#[test]
fn a_folder_of_others_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("src")).unwrap();
    std::fs::write(dir.path().join("src/precious.rs"), "mine").unwrap();
    let run = edgec(&["build", fixture("digits").to_str().unwrap(), "-o", "src"], dir.path());
    assert!(!run.status.success());
    assert_eq!(tree(&dir.path().join("src")).len(), 1);
}

#[test]
fn exit_status_tells_who_is_at_fault() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(edgec(&["build"], dir.path()).status.code(), Some(2), "no model and no edgec.toml");
    assert_eq!(edgec(&["frobnicate"], dir.path()).status.code(), Some(2));
    assert_eq!(edgec(&["inspect", "missing.onnx"], dir.path()).status.code(), Some(1));
    let bad = edgec(&["inspect", fixture("digits").to_str().unwrap(), "--dim", "nonsense"], dir.path());
    assert_eq!(bad.status.code(), Some(2));
    assert_eq!(edgec(&["explain", "E0101"], dir.path()).status.code(), Some(0));
    assert_eq!(edgec(&["explain", "E9999"], dir.path()).status.code(), Some(2));
}

#[test]
fn a_budget_that_is_exceeded_is_status_5() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("digits");
    let model = model.to_str().unwrap();
    let tight = edgec(&["build", model, "-o", "out", "--max-ram", "1k", "--max-rom", "100"], dir.path());
    assert_eq!(tight.status.code(), Some(5));
    let said = text(&tight.stderr);
    assert!(said.contains("`--max-ram 1024`") && said.contains("`--max-rom 100`"), "{said}");
    assert!(!dir.path().join("out").exists());
    assert!(edgec(&["build", model, "-o", "out", "--max-ram", "1M"], dir.path()).status.success());
    assert_eq!(edgec(&["build", model, "-o", "out", "--max-ram", "big"], dir.path()).status.code(), Some(2));
}

/// Float steps of a quantized model are named, and refused where that is asked for.
#[test]
fn float_steps_are_named_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes/float_steps");
    for (name, flags, status) in
        [("edges", &["--require-integer"][..], 0), ("named", &[], 0), ("named", &["--require-integer"], 1)]
    {
        let model = std::fs::read_to_string(cases.join(name).with_extension("onnxtxt")).unwrap();
        let model: String = model
            .lines()
            .take_while(|l| *l != "// ---")
            .filter(|l| !l.starts_with("//"))
            .flat_map(|l| [l, "\n"])
            .collect();
        let bytes = prost::Message::encode_to_vec(&edgec::onnx::text::parse_model(&model).unwrap());
        std::fs::write(dir.path().join("model.onnx"), bytes).unwrap();
        let run = edgec(&[&["inspect", "model.onnx"], flags].concat(), dir.path());
        let said = text(&run.stderr);
        assert_eq!(run.status.code(), Some(status), "{said}");
        let code = if status == 0 { "W0708" } else { "E0305" };
        assert_eq!(said.contains(code), name == "named", "{said}");
        assert_eq!(said.contains("(Exp) runs in float"), name == "named", "{said}");
    }
}

#[test]
fn inspect_prints_the_fields_of_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let run = edgec(&["inspect", fixture("motion").to_str().unwrap(), "--json"], dir.path());
    assert!(run.status.success(), "{}", text(&run.stderr));
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    for field in [
        "name",
        "sha256",
        "opset",
        "inputs",
        "outputs",
        "macs",
        "params",
        "rom_bytes",
        "arena_bytes",
        "arena_lower_bound_bytes",
        "state_bytes",
        "caller_bytes",
        "ram_bytes",
        "layers",
        "diagnostics",
    ] {
        assert!(json.get(field).is_some(), "{field} is missing");
    }
    for field in ["index", "kernel", "nodes", "dtype", "macs", "out_shape"] {
        assert!(json["layers"][0].get(field).is_some(), "layers[].{field} is missing");
    }
    assert_eq!(json["inputs"][0]["shape"], serde_json::json!([1, 6, 96]));
    assert!(json["macs"].as_u64().unwrap() > 100_000);
}

#[test]
fn manifests_build_several_models() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = format!(
        "[package]\nname = \"both\"\noutput = \"out\"\nlevel = \"scalar\"\n\
         [[model]]\npath = {:?}\nname = \"digits\"\n[[model]]\npath = {:?}\nname = \"motion\"\n",
        fixture("digits"),
        fixture("motion")
    );
    std::fs::write(dir.path().join("edgec.toml"), manifest).unwrap();
    let run = edgec(&["build"], dir.path());
    assert!(run.status.success(), "{}", text(&run.stderr));
    let lib = std::fs::read_to_string(dir.path().join("out/src/lib.rs")).unwrap();
    assert!(lib.contains("pub mod digits") && lib.contains("pub mod motion"), "{lib}");
}

/// The book's tables are what the command prints; `EDGEC_BLESS=1` rewrites them.
#[test]
fn the_books_tables_are_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    for (page, args) in [("operators.md", ["ops", "--markdown"]), ("codes.md", ["explain", "--markdown"])] {
        let printed = text(&edgec(&args, dir.path()).stdout);
        let path = reference.join(page);
        if std::env::var_os("EDGEC_BLESS").is_some() {
            std::fs::write(&path, &printed).unwrap();
        }
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(page == printed, "{} is stale: run the test with EDGEC_BLESS=1", path.display());
    }
}

/// The environment is at fault: exit status 3, and never a panic for want of a place to complain.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_the_environments_fault() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("motion");
    let model = model.to_str().unwrap();
    let run = edgec(&["build", model, "-o", "/proc/edgec-test/out"], dir.path());
    assert_eq!(run.status.code(), Some(3), "{}", text(&run.stderr));
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let command = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edgec"));
        command.args(args).current_dir(dir.path());
        command
    };
    let lost = command(&["inspect", model, "--json"]).stdout(full()).output().unwrap();
    assert_eq!(lost.status.code(), Some(3));
    let mute = command(&["inspect", "absent.onnx"]).stderr(full()).status().unwrap();
    assert_eq!(mute.code(), Some(1));
}

/// Models whose names are words of Rust.
#[test]
fn any_file_name_makes_a_crate() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["fn", "self", "rt", "7 up"] {
        let file = format!("{name}.onnx");
        std::fs::copy(fixture("motion"), dir.path().join(&file)).unwrap();
        let run = edgec(&["build", &file, "-o", name], dir.path());
        assert!(run.status.success(), "{name}: {}", text(&run.stderr));
    }
}

/// A sample without outputs is no test.
#[test]
fn what_is_compared_with_nothing_has_not_passed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("case/set_0")).unwrap();
    std::fs::copy(fixture("motion"), dir.path().join("case/model.onnx")).unwrap();
    let run = edgec(&["verify", "--suite", ".", "--interpret"], dir.path());
    assert_eq!(run.status.code(), Some(1), "{}", text(&run.stdout));
    assert!(!text(&run.stdout).contains("1 passed"), "{}", text(&run.stdout));
}

/// What tools read: fields are added, never renamed.
#[test]
fn bench_and_verify_print_the_fields_of_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("motion");
    let model = model.to_str().unwrap();
    let run = edgec(&["bench", model, "--json", "--seconds", "0.01", "--level", "scalar"], dir.path());
    assert!(run.status.success(), "{}", text(&run.stderr));
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    for key in
        ["level", "threads", "median_us", "min_us", "build_seconds", "text_bytes", "binary_bytes", "layers"]
    {
        assert!(!json[key].is_null(), "bench lacks `{key}`");
    }
    for key in ["index", "kernel", "median_us", "macs", "gops", "share_of_peak"] {
        assert!(!json["layers"][0][key].is_null(), "a layer lacks `{key}`");
    }
    let run = edgec(&["verify", model, "--json", "out.json", "--level", "scalar"], dir.path());
    assert!(run.status.success(), "{}", text(&run.stderr));
    assert_eq!(text(&run.stdout).lines().last(), Some("1 passed, 0 failed, 0 skipped"));
    let json = std::fs::read(dir.path().join("out.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    for key in ["passed", "failed", "unsupported", "cases"] {
        assert!(!json[key].is_null(), "verify lacks `{key}`");
    }
    let case = json["cases"][0].as_object().unwrap();
    for key in
        ["name", "status", "folded", "max_abs_err", "max_rel_err", "steps", "message", "first_diverging_node"]
    {
        assert!(case.contains_key(key), "a case lacks `{key}`");
    }
    assert_eq!(case["status"], "passed");
}
