//! Generated crates as a user's cargo sees them: built, linted, tested, packaged, linked.

use edgec_runtime::Level;
use edgec_tests::{cargo, generate, success, write};
use std::path::Path;

const X86: &[Level] = &[Level::Scalar, Level::V3, Level::V4];

/// A workspace with two generated crates and a program that uses both.
fn workspace(dir: &Path) {
    generate(&dir.join("digits"), "digits", &["digits"], X86);
    generate(&dir.join("motion"), "motion", &["motion"], &[Level::Scalar]);
    write(
        &dir.join("Cargo.toml"),
        "[workspace]\nresolver = \"2\"\nmembers = [\"digits\", \"motion\", \"app\"]\n\
         [profile.release]\npanic = \"abort\"\n",
    );
    write(
        &dir.join("app/Cargo.toml"),
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n\
         digits = { path = \"../digits\" }\nmotion = { path = \"../motion\" }\n",
    );
    write(
        &dir.join("app/src/main.rs"),
        "fn main() {\n    let mut digits = digits::Model::take().unwrap();\n    let mut motion = motion::Model::take().unwrap();\n    \
         assert!(digits::Model::take().is_none());\n    \
         let a: f32 = digits.run(&[[[0.5; 8]; 8]]).probabilities.iter().sum();\n    \
         let b: f32 = motion.run(&[[0.1; 96]; 6]).probabilities.iter().sum();\n    \
         println!(\"{a:.3} {b:.3}\");\n}\n",
    );
}

#[test]
fn crates_build_test_lint_and_link_together() {
    let dir = tempfile::tempdir().unwrap();
    workspace(dir.path());
    success(
        "cargo test",
        &cargo(dir.path(), &["test", "--offline", "-q", "--release", "-p", "digits", "-p", "motion"]),
    );
    let clippy = ["clippy", "--offline", "-q", "--all-targets", "--", "-D", "warnings", "-D", "clippy::all"];
    success("cargo clippy", &cargo(dir.path(), &clippy));
    let out = success("cargo run", &cargo(dir.path(), &["run", "--offline", "-q", "--release", "-p", "app"]));
    assert_eq!(out.trim(), "1.000 1.000");
    arena_lies_in_bss(&dir.path().join("target/release/app"));
}

/// No workspace, no lockfile, two crates with a runtime each.
#[test]
fn two_crates_link_outside_a_workspace() {
    let dir = tempfile::tempdir().unwrap();
    workspace(dir.path());
    std::fs::remove_file(dir.path().join("Cargo.toml")).unwrap();
    let out = success("cargo run", &cargo(&dir.path().join("app"), &["run", "--offline", "-q", "--release"]));
    assert_eq!(out.trim(), "1.000 1.000");
}

/// The static arenas take no bytes of the file.
fn arena_lies_in_bss(binary: &Path) {
    let Ok(output) = std::process::Command::new("nm").arg("-C").arg(binary).output() else {
        eprintln!("SKIPPED: no `nm`");
        return;
    };
    let symbols = String::from_utf8_lossy(&output.stdout).into_owned();
    let arenas: Vec<&str> = symbols.lines().filter(|l| l.contains("digits") && l.contains("ARENA")).collect();
    assert!(!arenas.is_empty(), "no arena among the symbols");
    for line in arenas {
        let kind = line.split_whitespace().nth(1).unwrap_or_default();
        assert!(kind.eq_ignore_ascii_case("b"), "not in .bss: {line}");
    }
}

#[test]
fn a_crate_stands_alone_and_packages() {
    let dir = tempfile::tempdir().unwrap();
    generate(&dir.path().join("digits"), "digits", &["digits"], X86);
    let package = ["package", "--offline", "-q", "--allow-dirty", "--no-metadata"];
    success("cargo package", &cargo(&dir.path().join("digits"), &package));
}
