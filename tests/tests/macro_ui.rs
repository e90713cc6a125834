//! What `include_model!` says when it cannot, and that it works where it can.

mod digits_by_macro {
    edgec_macros::include_model!("../fixtures/digits/model.onnx", name = "digits", level = "scalar");
}

/// The expansions are compared with rustc's messages of one toolchain; `TRYBUILD=overwrite` renews them.
#[test]
fn errors_are_readable() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

#[test]
fn a_model_runs_where_the_macro_stands() {
    let mut arena = Box::new(digits_by_macro::digits::Arena::new());
    let mut model = digits_by_macro::digits::Model::new(&mut arena);
    let out = model.run(&[[[0.5; 8]; 8]; 1]);
    let sum: f32 = out.probabilities.iter().sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
}
