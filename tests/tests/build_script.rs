//! The build-script door with `edgec` as the build dependency that it is for users.
//!
//! Compiles the compiler a second time, unoptimised as cargo does for build scripts, so it is left
//! out by default: `cargo test -p edgec-tests --test build_script -- --ignored`.

use edgec::{Config, ModelConfig};
use edgec_runtime::Level;
use edgec_tests::{cargo, fixture, root, success, write};
use std::path::Path;

fn app(folder: &Path) {
    let [compiler, runtime] = ["compiler", "codegen-runtime"].map(|p| root().join(p).canonicalize().unwrap());
    write(
        &folder.join("Cargo.toml"),
        &format!(
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n\
             [dependencies]\nedgec-runtime = {{ path = {runtime:?} }}\n\
             [build-dependencies]\nedgec = {{ path = {compiler:?}, default-features = false }}\n"
        ),
    );
    write(
        &folder.join("build.rs"),
        "fn main() -> Result<(), Box<dyn std::error::Error>> {\n    \
         use edgec::{Config, Level, ModelConfig};\n    \
         let model = ModelConfig::file(\"models/digits.onnx\").name(\"digits\");\n    \
         Config::new().levels([Level::Scalar, Level::V3, Level::V4]).model(model).compile()?;\n    Ok(())\n}\n",
    );
    write(
        &folder.join("src/main.rs"),
        "#![deny(warnings)]\ninclude!(concat!(env!(\"OUT_DIR\"), \"/model.rs\"));\n\nfn main() {\n    \
         let mut model = digits::Model::take().unwrap();\n    \
         println!(\"{:?}\", model.run(&[[[0.5; 8]; 8]; 1]).probabilities);\n}\n",
    );
    std::fs::create_dir_all(folder.join("models")).unwrap();
    std::fs::copy(fixture("digits"), folder.join("models/digits.onnx")).unwrap();
    // The same versions as here: no look at a registry.
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
}

fn emitted(folder: &Path) -> String {
    let build = folder.join("target/debug/build");
    let file = std::fs::read_dir(build)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("out/model.rs"))
        .find(|path| path.is_file())
        .expect("the build script wrote model.rs");
    std::fs::read_to_string(file).unwrap()
}

#[test]
#[ignore = "compiles the compiler again as a build dependency; the slower suites run it"]
fn a_build_script_makes_the_layers_of_the_package_and_reruns_only_for_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    app(folder);
    let first = success("cargo run", &cargo(folder, &["run", "-q", "--offline"]));
    let sum: f32 = first.trim().trim_matches(['[', ']']).split(", ").map(|v| v.parse::<f32>().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{first}");

    let squeeze = |text: &str| {
        let tokens: proc_macro2::TokenStream = text.parse().unwrap();
        tokens.to_string().replace([' ', '\n', ','], "")
    };
    let files = Config::new()
        .package("digits")
        .levels([Level::Scalar, Level::V3, Level::V4])
        .model(ModelConfig::file(fixture("digits")).name("digits"))
        .package_files()
        .unwrap();
    let layers = files.iter().find(|f| f.path == "src/digits/layers.rs").unwrap();
    let layers = std::str::from_utf8(&layers.bytes).unwrap();
    assert!(squeeze(&emitted(folder)).contains(&squeeze(layers)), "another text than the package's");

    let rebuild = |what: &str| {
        let output = cargo(folder, &["build", "-v", "--offline"]);
        success(what, &output);
        String::from_utf8_lossy(&output.stderr).contains("build-script-build`")
    };
    assert!(!rebuild("unchanged"), "an unchanged tree must not run the build script");
    write(&folder.join("src/other.rs"), "");
    assert!(!rebuild("another file"), "a file that is no input must not run the build script");

    // A damaged model must fail the build and say why.
    let model = folder.join("models/digits.onnx");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    let output = cargo(folder, &["build", "--offline"]);
    assert!(!output.status.success(), "a truncated model must not build");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("digits.onnx") && !said.contains("panicked"), "{said}");
    std::fs::write(&model, bytes).unwrap();
    assert!(rebuild("mended"), "a changed model must run the build script");
}
