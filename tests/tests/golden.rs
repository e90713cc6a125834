//! Emitted text of few chosen models, reviewed as code. `INSTA_UPDATE=always` renews it.
//!
//! Weights stand by their hash; the vendored runtime, which is the runtime's own source, is left out.

use edgec::{Config, ModelConfig};
use edgec_runtime::Level;
use edgec_tests::fixture;

/// Every emitted text file of a model, one behind the other.
fn emitted(name: &str, levels: &[Level]) -> String {
    let config =
        Config::new().model(ModelConfig::file(fixture(name)).name(name)).levels(levels.iter().copied());
    let files = config.package_files().expect("fixtures compile");
    let mut out = String::new();
    for file in &files {
        let path = file.path.as_str();
        if path.starts_with("src/rt/") || path.starts_with("LICENSE") {
            continue;
        }
        out.push_str(&format!("==== {path}\n"));
        match std::str::from_utf8(&file.bytes) {
            // What the runtime's files hash to says nothing that their own diff does not.
            Ok(text) if path.ends_with(".json") => {
                let lines = text.split_inclusive('\n').filter(|line| !line.contains("\"src/rt/"));
                out.extend(lines);
            }
            Ok(text) if !path.ends_with(".bin") => out.push_str(text),
            _ => out.push_str(&format!("{} bytes, hash {:016x}\n", file.bytes.len(), fnv(&file.bytes))),
        }
        out.push('\n');
    }
    out
}

/// FNV-1a: tells a change, needs no dependency.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn digits_for_microcontrollers() {
    insta::assert_snapshot!("digits_scalar", emitted("digits", &[Level::Scalar]));
}

#[test]
fn motion_for_x86() {
    insta::assert_snapshot!("motion_x86", emitted("motion", &[Level::Scalar, Level::V3, Level::V4]));
}
