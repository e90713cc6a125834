//! What the end-to-end tests share: a folder of generated crates that is built once.

pub mod conformance;
pub mod random_ops;

use edgec::onnx::text::parse_model;
use edgec::{Config, ModelConfig};
use prost::Message;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// One of the project's own models.
pub fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(name).join("model.onnx")
}

/// Branches chosen and loops ended at run time, one within the other.
///
/// Where `deep` holds, `y` is `n` products of `w` with `x`, fewer where one has an element of 100 or more, else `x`
/// without what is below zero; `times` is the number of products. `sums` are those of `x`'s columns from the right.
const CONTROL_FLOW: &str = "<ir_version: 9, opset_import: [\"\" : 17]>
    control_flow (float[2, 3] x, bool deep, int64 n) => (float[2, 3] y, int64 times, float[2, 3] sums)
    <float[2, 2] w = {2.0, 0.0, 0.0, 3.0}, float limit = {100.0}, int64 zero = {0}, int64 one = {1}, float[2] none = {0.0, 0.0}>
    {
        y, times = If (deep) <
            then_branch = products () => (last, count) {
                last, count = Loop (n, , x, zero) <
                    body = product (int64 i, bool go, float[2, 3] a, int64 k) => (more, b, k2) {
                        b = MatMul(w, a)
                        k2 = Add(i, one)
                        size = Abs(b)
                        largest = ReduceMax <keepdims = 0> (size)
                        more = Less(largest, limit)
                    }>
            },
            else_branch = plain () => (last, count) { last = Relu(x) count = Identity(zero) }>
        s, sums = Scan (none, x) <
            num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1],
            scan_output_axes = [1], scan_output_directions = [1],
            body = add (float[2] a, float[2] v) => (b, b) { b = Add(a, v) }>
    }";

/// A model with branches and loops that only the run decides on.
pub fn control_flow() -> ModelConfig {
    let model = parse_model(CONTROL_FLOW).expect("the text is a model");
    ModelConfig::bytes("control_flow.onnx", model.encode_to_vec())
}

/// Runs cargo in a folder, apart from the build of this test.
pub fn cargo(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(dir);
    for key in [
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MANIFEST_DIR",
    ] {
        command.env_remove(key);
    }
    command.output().expect("cargo starts")
}

/// Standard output of a run that must succeed.
pub fn success(what: &str, output: &Output) -> String {
    assert!(
        output.status.success(),
        "{what}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes a generated crate with these fixtures as modules (one alone is the crate).
pub fn generate(dir: &Path, package: &str, models: &[&str], levels: &[edgec_runtime::Level]) {
    let mut config = Config::new().package(package).levels(levels.iter().copied());
    for name in models {
        config = config.model(ModelConfig::file(fixture(name)));
    }
    let files = config.package_files().expect("fixtures compile");
    edgec::emit::write(dir, &files).expect("the crate is written");
}

/// A file, with folders made as needed.
pub fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders are made");
    std::fs::write(path, text).expect("the file is written");
}

/// The compiler in release: the one that `EDGEC` names, or built now.
pub fn compiler() -> Result<PathBuf, Box<dyn std::error::Error>> {
    if let Some(given) = std::env::var_os("EDGEC") {
        return Ok(given.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", "edgec"])
        .current_dir(root())
        .status()?;
    if !status.success() {
        return Err("building edgec failed".into());
    }
    // Beside this program, wherever the target folder lies.
    let own = std::env::current_exe()?;
    let release = own.parent().and_then(Path::parent).map(|target| target.join("release"));
    let binary = release.unwrap_or_default().join(format!("edgec{}", std::env::consts::EXE_SUFFIX));
    if binary.is_file() { Ok(binary) } else { Err(format!("{} is missing", binary.display()).into()) }
}
