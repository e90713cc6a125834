//! What the end-to-end tests share: a folder of generated crates that is built once.

pub mod conformance;

use edgec::{Config, ModelConfig};
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
