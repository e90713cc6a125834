//! Operators of the user and bound inputs, through the macro and through a build script's file. The command line
//! has its own test, in the compiler.

use edgec::{Config, ModelConfig};
use edgec_runtime::Level;
use edgec_tests::{cargo, root, success, write};

#[path = "../models/my_ops.rs"]
mod my_ops;

edgec_macros::include_model!(
    "models/squash.onnxtxt",
    level = "scalar",
    custom_op("com.acme:Squash" = "crate::my_ops::squash"),
    custom_shape("com.acme:Squash" = "same;i64[2]")
);

edgec_macros::include_model!(
    "models/bound.onnxtxt",
    level = "scalar",
    bind("axes" = [1]),
    bind("k" = 3),
    bind("factor" = "0.5,2")
);

const X: squash::X = [[-1.0, 0.5, 2.0], [4.0, -3.0, 0.25]];
const B: squash::B = [0.5, -0.25, 1.0];

/// What the model says of `X` and `B`, computed by hand.
fn expected() -> (squash::Y, squash::Which) {
    let sum = |r: usize, c: usize| X[r][c] + B[c];
    let squashed = |v: f32| (2.5 * v / (1.0 + v.abs())).max(0.0);
    (std::array::from_fn(|r| std::array::from_fn(|c| squashed(sum(r, c)))), [2 + 6, 6])
}

#[test]
fn a_macro_s_model_calls_functions_of_its_crate() {
    let mut arena = squash::Arena::new();
    let mut model = squash::Model::new(&mut arena);
    let out = model.run(squash::Inputs { x: &X, b: &B });
    assert_eq!((*out.y, *out.which), expected());
}

#[test]
fn a_macro_binds_inputs() {
    let mut arena = bound::Arena::new();
    let mut model = bound::Model::new(&mut arena);
    let out = model.run(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    assert_eq!(*out.y, [6.0 * 3.0 * 0.5, 15.0 * 3.0 * 2.0]);
}

#[test]
fn a_build_script_s_model_calls_functions_of_its_crate() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    std::fs::create_dir(&made).unwrap();
    let model = ModelConfig::file(root().join("tests/models/squash.onnxtxt"));
    let model = model.custom_op("com.acme:Squash", "crate::my_ops::squash").unwrap();
    Config::new().levels([Level::Scalar]).model(model).out_dir(&made).compile().unwrap();
    let runtime = root().join("codegen-runtime").canonicalize().unwrap();
    let app = dir.path().join("app");
    write(
        &app.join("Cargo.toml"),
        &format!(
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n\
             [dependencies]\nedgec-runtime = {{ path = {runtime:?} }}\n"
        ),
    );
    let main = format!(
        "#![deny(warnings)]\nmod my_ops;\ninclude!({:?});\n\nfn main() {{\n    \
         let mut model = squash::Model::take().unwrap();\n    \
         let out = model.run(squash::Inputs {{ x: &{X:?}, b: &{B:?} }});\n    \
         println!(\"{{:?}}\", (*out.y, *out.which));\n}}\n",
        made.join("model.rs")
    );
    // The generated file finds its weights where build scripts put them.
    write(
        &app.join("build.rs"),
        &format!("fn main() {{\n    println!(\"cargo::rustc-env=OUT_DIR={}\");\n}}\n", made.display()),
    );
    write(&app.join("src/main.rs"), &main);
    std::fs::copy(root().join("tests/models/my_ops.rs"), app.join("src/my_ops.rs")).unwrap();
    let out = success("cargo run", &cargo(&app, &["run", "-q", "--offline"]));
    assert_eq!(out.trim(), format!("{:?}", expected()));
}
