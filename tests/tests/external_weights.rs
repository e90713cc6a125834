//! Weights that the program loads: the same numbers, and nothing else is taken for them.

use edgec::emit::WeightsAt;
use edgec::onnx::read_npy;
use edgec::{Config, ModelConfig};
use edgec_runtime::Level;
use edgec_tests::{cargo, fixture, root, success, write};

/// A test of the generated crate.
const GIVEN: &str = r#"
use digits::{Blob, Model, WeightsError};

const LEN: usize = include_bytes!("../src/digits/weights.bin").len();
static FILE: Blob<LEN> = Blob::new(*include_bytes!("../src/digits/weights.bin"));

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn whole_weights_give_the_recorded_numbers() {
    let mut model = Model::boxed(Model::weights(FILE.bytes()).unwrap());
    let pixels = floats(include_bytes!("input.bin"));
    for (to, from) in model.image_mut().as_flattened_mut().as_flattened_mut().iter_mut().zip(&pixels) {
        *to = *from;
    }
    let found = model.invoke().probabilities;
    for (a, b) in found.iter().zip(floats(include_bytes!("output.bin"))) {
        assert!((a - b).abs() <= 1e-3 * b.abs() + 1e-5, "{a} instead of {b}");
    }
}

#[test]
fn other_bytes_are_refused() {
    let error = |damage: fn(&mut [u8; LEN])| {
        let mut bytes = *FILE.bytes();
        damage(&mut bytes);
        Model::weights(Blob::new(bytes).bytes()).err()
    };
    assert_eq!(error(|_| ()), None);
    assert_eq!(error(|b| b[100] ^= 4), Some(WeightsError::Checksum));
    assert_eq!(error(|b| b[LEN - 20] ^= 4), Some(WeightsError::Layout));
    assert_eq!(error(|b| b[LEN - 32] = 0), Some(WeightsError::NotWeights));
    let short = &FILE.bytes()[..64];
    assert_eq!(Model::weights(short).err(), Some(WeightsError::Length { expected: LEN, found: 64 }));
    assert_eq!(Model::weights(&[]).err(), Some(WeightsError::Length { expected: LEN, found: 0 }));
}
"#;

#[test]
fn a_program_loads_its_weights() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new()
        .model(ModelConfig::file(fixture("digits")).name("digits"))
        .levels([Level::Scalar])
        .weights(WeightsAt::Caller);
    edgec::emit::write(&dir.path().join("digits"), &config.package_files().expect("it compiles")).unwrap();
    let tests = dir.path().join("digits/tests");
    write(&tests.join("given.rs"), GIVEN);
    for (file, name) in [("input_0.npy", "input.bin"), ("output_0.npy", "output.bin")] {
        let bytes = std::fs::read(root().join("fixtures/digits/set_0").join(file)).unwrap();
        std::fs::write(tests.join(name), read_npy(&bytes).unwrap().to_le_bytes()).unwrap();
    }
    let manifest = dir.path().join("digits/Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}\n[workspace]\n")).unwrap();
    let run = cargo(
        &dir.path().join("digits"),
        &["test", "--offline", "-q", "--features", "alloc", "--test", "given"],
    );
    success("cargo test", &run);
}
