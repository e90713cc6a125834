//! Memory plans that must not build. Built, not only checked: some proofs run when a layer's code is
//! generated; and as in release builds, where sums that overflow wrap. Each file under `plans/` says in its first line what rustc must complain of.

use edgec_tests::{cargo, root, success, write};
use std::path::Path;

#[test]
fn wrong_plans_do_not_build_and_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = root().join("codegen-runtime").canonicalize().unwrap();
    write(
        &dir.path().join("Cargo.toml"),
        &format!(
            "[package]\nname = \"plans\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n\
             [profile.dev]\noverflow-checks = false\n[dependencies]\n\
             edgec-runtime = {{ path = {runtime:?} }}\n"
        ),
    );
    write(&dir.path().join("src/bin/fine.rs"), "fn main() {}\n");
    success("a program without a plan", &cargo(dir.path(), &["build", "--offline", "-q", "--bin", "fine"]));
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut count = 0;
    for entry in std::fs::read_dir(cases).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let source = std::fs::read_to_string(&path).unwrap();
        let wanted =
            source.lines().next().unwrap().strip_prefix("// error: ").expect("first line says the error");
        write(&dir.path().join(format!("src/bin/{name}.rs")), &source);
        let output = cargo(dir.path(), &["build", "--offline", "-q", "--bin", &name]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name} builds");
        assert!(errors.contains(wanted), "{name} fails otherwise:\n{errors}");
        // A test of proofs must not pass because of a typing error.
        assert!(errors.contains("E0080"), "{name} is not refused by a constant's evaluation:\n{errors}");
        count += 1;
    }
    assert!(count >= 9, "cases are missing");
}
