//! The three doors make the same layers, and what they make runs.

use edgec::{Config, ModelConfig};
use edgec_runtime::Level;
use edgec_tests::{cargo, fixture, root, success, write};
use std::path::Path;

edgec_macros::include_model!("../fixtures/digits/model.onnx", name = "digits", level = "scalar,v3,v4");

/// An image that no training sample is, and what the macro's model says of it.
fn expected() -> [f32; 10] {
    let mut arena = Box::new(digits::Arena::new());
    let mut model = digits::Model::new(&mut arena).with_level(Level::Scalar).unwrap();
    *model.run(&image()).probabilities
}

fn image() -> digits::Image {
    let mut image = [[[0.0; 8]; 8]; 1];
    for (y, row) in image[0].iter_mut().enumerate() {
        for (x, v) in row.iter_mut().enumerate() {
            *v = if x == 3 || x == y { 0.9 } else { 0.1 };
        }
    }
    image
}

fn config() -> Config {
    Config::new()
        .package("digits")
        .levels([Level::Scalar, Level::V3, Level::V4])
        .model(ModelConfig::file(fixture("digits")).name("digits"))
}

#[test]
fn the_macro_and_the_package_have_the_same_layers() {
    let squeeze = |text: &str| text.replace([' ', '\n', ','], "");
    let files = config().package_files().unwrap();
    let tokens = config().expand().unwrap();
    let layers = files.iter().find(|f| f.path == "src/digits/layers.rs").unwrap();
    let layers: proc_macro2::TokenStream = std::str::from_utf8(&layers.bytes).unwrap().parse().unwrap();
    assert!(squeeze(&tokens.to_string()).contains(&squeeze(&layers.to_string())));
    assert!((expected().iter().sum::<f32>() - 1.0).abs() < 1e-4);
}

/// A build script that only copies what the compiler wrote stands for one that calls it.
#[test]
fn the_build_script_s_file_runs_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    std::fs::create_dir(&made).unwrap();
    config().out_dir(&made).compile().unwrap();
    let runtime = root().join("codegen-runtime").canonicalize().unwrap();
    for (name, features, tail) in [
        ("plain", "", "println!(\"{:?}\", digits::INFO.name);"),
        ("heap", "features = [\"alloc\"]", "let _ = digits::Model::boxed();"),
    ] {
        crate_with_build_script(&dir.path().join(name), &made, &runtime, features, tail);
        let out = success("cargo run", &cargo(&dir.path().join(name), &["run", "-q", "--offline"]));
        let first = out.lines().next().unwrap();
        assert_eq!(first, format!("{:?}", expected()), "{name}");
    }
}

fn crate_with_build_script(folder: &Path, made: &Path, runtime: &Path, features: &str, tail: &str) {
    let comma = if features.is_empty() { "" } else { ", " };
    write(
        &folder.join("Cargo.toml"),
        &format!(
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n\
             [profile.dev]\nopt-level = 1\n[dependencies]\n\
             edgec-runtime = {{ path = {runtime:?}{comma}{features} }}\n"
        ),
    );
    write(
        &folder.join("build.rs"),
        &format!(
            "fn main() {{\n    for f in std::fs::read_dir({made:?}).unwrap() {{\n        let f = f.unwrap();\n        \
             std::fs::copy(f.path(), std::path::Path::new(&std::env::var(\"OUT_DIR\").unwrap()).join(f.file_name())).unwrap();\n    }}\n}}\n"
        ),
    );
    let image = image();
    write(
        &folder.join("src/main.rs"),
        &format!(
            "#![deny(warnings)]\ninclude!(concat!(env!(\"OUT_DIR\"), \"/model.rs\"));\n\nfn main() {{\n    \
             let mut model = digits::Model::take().unwrap().with_level(digits::Level::Scalar).unwrap();\n    \
             println!(\"{{:?}}\", model.run(&{image:?}).probabilities);\n    {tail}\n}}\n"
        ),
    );
}
