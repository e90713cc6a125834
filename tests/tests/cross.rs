//! Emitted crates compile for other targets (portable kernels). Needs a rustc whose sysroot has them:
//! `.ci/suites/20-cross.sh` sets it up and runs these.

use edgec_runtime::Level;
use edgec_tests::{cargo, generate};
use std::path::Path;
use std::process::Command;

const TARGETS: &[&str] = &["thumbv7em-none-eabihf", "wasm32-unknown-unknown", "aarch64-unknown-linux-gnu"];

#[test]
#[ignore = "needs cross sysroots; the slower suites run it"]
fn crates_compile_for_other_targets() {
    let home = std::env::var("HOME").unwrap_or_default();
    let sysroot = std::env::var("EDGE_SYSROOT").unwrap_or(format!("{home}/.cache/edge-sysroot"));
    let rustc = Path::new(&sysroot).join("bin/rustc");
    assert!(rustc.is_file(), "no cross compiler at {}", rustc.display());
    let dir = tempfile::tempdir().unwrap();
    generate(
        &dir.path().join("models"),
        "models",
        &["digits", "motion"],
        &[Level::Scalar, Level::V3, Level::V4],
    );
    for target in TARGETS {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build
            .args(["build", "--offline", "-q", "--release", "--target", target])
            .current_dir(dir.path().join("models"))
            .env("RUSTC", &rustc)
            .env_remove("RUSTFLAGS");
        let output = build.output().unwrap();
        assert!(output.status.success(), "{target}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // The same crate on the host, so that a failure above is the target's.
    assert!(cargo(&dir.path().join("models"), &["check", "--offline", "-q"]).status.success());
}
