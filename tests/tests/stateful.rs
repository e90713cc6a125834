//! A crate that carries its state says what repeated calls without state say.

use edgec::onnx::text;
use edgec::{Config, ModelConfig};
use edgec_runtime::Level;
use edgec_tests::{cargo, success, write};
use prost::Message;

/// A recurrent layer whose states go in and out, and a counter; which may fail, by an index.
const MODEL: &str = "<ir_version: 10, opset_import: [\"\" : 17]>
    g (float[2, 1, 3] x, float[1, 1, 4] h, float[1, 1, 4] c, int64[2] count, int64[1] at)
      => (float[1, 1, 4] hn, float[2, 1, 1, 4] y, float[1, 1, 4] cn, int64[2] next_count)
    <float[1, 16, 3] w = {0.5, -0.25, 0.75, 0.125, -0.5, 0.3, 0.9 ...},
     float[1, 16, 4] r = {0.25, -0.5, 0.1, 0.4, -0.3 ...}, int64[3] table = {1, 2, 3}>
    {
        y, hn, cn = LSTM <hidden_size = 4> (x, w, r, , , h, c)
        step = Gather(table, at)
        next_count = Add(count, step)
    }";

/// A test of the generated crate.
const GIVEN: &str = r#"
use lstm::{carries, plain};

fn x(step: usize) -> carries::X {
    let value = |i: usize| ((step * 7 + i * 5) % 11) as f32 * 0.2 - 1.0;
    [[[value(0), value(1), value(2)]], [[value(3), value(4), value(5)]]]
}

#[test]
fn carried_state_is_what_a_caller_would_carry() {
    let mut model = carries::Model::take().unwrap();
    let mut other = plain::Model::boxed();
    let (mut h, mut c, mut count) = ([[0.0; 4]; 1], [[0.0; 4]; 1], [0i64; 2]);
    let mut third = None;
    for step in 0..6 {
        let at = [(step % 3) as i64];
        let expected = other.run(plain::Inputs { x: &x(step), h: &h, c: &c, count: &count, at: &at }).unwrap();
        (h, c, count) = (*expected.hn, *expected.cn, *expected.next_count);
        let y = *expected.y;
        assert_eq!(*model.run(carries::Inputs { x: &x(step), at: &at }).unwrap().y, y, "step {step}");
        assert_eq!((*model.h_mut(), *model.c_mut(), *model.count_mut()), (h, c, count));
        if step == 2 {
            third = Some(*model.state().save());
        }
    }
    let last = *model.state().save();
    assert_eq!(last.len(), carries::STATE_BYTES);
    // An invalid index is reported and leaves the state as it was.
    assert!(model.run(carries::Inputs { x: &x(0), at: &[7] }).is_err());
    assert_eq!(*model.state().save(), last);
    // From the third step on again; and from the start.
    model.state_mut().load(&third.unwrap()).unwrap();
    for step in 3..6 {
        model.run(carries::Inputs { x: &x(step), at: &[(step % 3) as i64] }).unwrap();
    }
    assert_eq!(*model.state().save(), last);
    assert!(model.state_mut().load(&last[1..]).is_err());
    model.state_mut().reset();
    for step in 0..6 {
        model.run(carries::Inputs { x: &x(step), at: &[(step % 3) as i64] }).unwrap();
    }
    assert_eq!(*model.state().save(), last);
}

#[test]
fn one_arena_serves_two_sequences() {
    let mut arena = carries::Arena::new();
    let mut states = [carries::State::new(), carries::State::new()];
    for step in 0..3 {
        for (i, state) in states.iter_mut().enumerate() {
            let mut model = carries::Model::new(&mut arena, state);
            model.run(carries::Inputs { x: &x(step + i), at: &[i as i64] }).unwrap();
            assert_eq!(*model.count_mut(), [(step as i64 + 1) * (i as i64 + 1); 2]);
        }
    }
}
"#;

fn model() -> Vec<u8> {
    text::parse_model(MODEL).expect("it parses").encode_to_vec()
}

fn carrying() -> ModelConfig {
    ModelConfig::bytes("carries.onnx", model())
        .stateful("h", "hn")
        .stateful("c", "cn")
        .stateful("count", "next_count")
}

#[test]
fn state_goes_on_from_run_to_run() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new()
        .package("lstm")
        .levels([Level::Scalar])
        .model(carrying())
        .model(ModelConfig::bytes("plain.onnx", model()));
    let package = dir.path().join("lstm");
    edgec::emit::write(&package, &config.package_files().expect("it compiles")).unwrap();
    write(&package.join("tests/given.rs"), GIVEN);
    let manifest = package.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}\n[workspace]\n")).unwrap();
    let run = cargo(&package, &["test", "--offline", "-q", "--features", "alloc,profile", "--test", "given"]);
    success("cargo test", &run);
}

#[test]
fn a_program_that_loads_its_weights_carries_state_too() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        Config::new().levels([Level::Scalar]).weights(edgec::emit::WeightsAt::Caller).model(carrying());
    let package = dir.path().join("carries");
    edgec::emit::write(&package, &config.package_files().expect("it compiles")).unwrap();
    let manifest = package.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}\n[workspace]\n")).unwrap();
    success("cargo check", &cargo(&package, &["check", "--offline", "-q", "--features", "alloc,profile"]));
}

#[test]
fn what_cannot_be_carried_is_refused() {
    let refused = |input: &str, output: &str| {
        let model = ModelConfig::bytes("lstm.onnx", model()).stateful(input, output);
        Config::new().levels([Level::Scalar]).model(model).compile_models().err().map(|d| d.to_string())
    };
    for (input, output, why) in [
        ("h", "nothing", "the model has no output `nothing`"),
        ("w", "hn", "the model has no input `w`"),
        ("count", "hn", "input `count` is i64[2], output `hn` is f32[1, 1, 4]"),
    ] {
        let said = refused(input, output).expect("it is refused");
        assert!(said.contains(why), "{said}");
    }
    let plain = ModelConfig::bytes("lstm.onnx", model());
    let compiled = Config::new().levels([Level::Scalar]).model(plain).compile_models().unwrap();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(compiled[0].proposed_state, [pair("h", "hn"), pair("c", "cn")]);
}
