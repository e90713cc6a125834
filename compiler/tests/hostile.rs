//! Truncated, bit-flipped and absurd models: a diagnostic each, never a panic, never long.
//!
//! A few hundred by default; `EDGEC_HOSTILE=10000` for all. The slower suite runs it under a limit
//! on memory, so that a model that makes the compiler allocate without bound ends the process.

use edgec::onnx::text::parse_model;
use edgec::{Config, ModelConfig, pipeline};
use prost::Message;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest time for one model.
const LONGEST: Duration = Duration::from_secs(20);

/// Branches and loops, one within the other.
const CONTROL_FLOW: &str = "<ir_version: 9, opset_import: [\"\" : 17]>
    g (float[2, 3] x, bool c, int64 n) => (float[2, 3] y, float[4, 2] rows, float[3] sums) <int64 m = {4}> {
        y = If (c) <
            then_branch = t () => (u) { u = Loop (n, c, x) <
                body = b (int64 i, bool d, float[2, 3] a) => (e, f) { e = Not(d) f = Mul(a, x) }> },
            else_branch = e () => (u) { u = Relu(x) }>
        s = ReduceSum <keepdims = 0> (x)
        last, rows = Loop (m, , s) <
            body = b (int64 i, bool d, float a) => (d, f, row) {
                g = Cast <to = 1> (i) f = Add(a, g) h = Unsqueeze(f, z) row = Concat <axis = 0> (h, h)
                z = Constant <value_ints = [0]> () }>
        k = Neg(s)
        l, sums = Scan (k, x) <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1],
            body = b (float a, float[2] v) => (w, w) { r = ReduceSum <keepdims = 0> (v) w = Add(a, r) }>
    }";

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*: any fixed sequence will do.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Models to damage: our own, and the small ones of the shared collection where that is present.
fn seeds() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> = vec![root.join("fixtures")];
    let shared =
        std::env::var_os("EDGEC_MODELS").map_or_else(|| root.join("../shared/models"), PathBuf::from);
    if shared.is_dir() {
        folders.push(shared);
    } else {
        eprintln!("SKIPPED in part: no models at {}", shared.display());
    }
    let mut models: Vec<PathBuf> = folders
        .iter()
        .filter_map(|f| std::fs::read_dir(f).ok())
        .flat_map(|entries| entries.filter_map(Result::ok))
        .map(|e| e.path().join("model.onnx"))
        .filter(|p| p.metadata().is_ok_and(|m| m.len() < 120_000))
        .collect();
    models.sort();
    let mut seeds: Vec<Vec<u8>> = models.iter().map(|p| std::fs::read(p).unwrap()).collect();
    seeds.push(parse_model(CONTROL_FLOW).unwrap().encode_to_vec());
    assert!(!seeds.is_empty(), "fixtures are missing");
    seeds
}

/// One damaged model.
fn mutate(seed: &[u8], r: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    match r.below(6) {
        0 => bytes.truncate(r.below(bytes.len())),
        1 => {
            for _ in 0..=r.below(8) {
                let at = r.below(bytes.len());
                bytes[at] ^= 1 << r.below(8);
            }
        }
        2 => {
            // Structure lies at the ends of a file: names, attributes, shapes.
            let at = if r.below(2) == 0 {
                r.below(bytes.len().min(2000))
            } else {
                bytes.len() - 1 - r.below(bytes.len().min(2000))
            };
            bytes[at] = [0, 1, 0x7f, 0x80, 0xff][r.below(5)];
        }
        3 => {
            // A varint grows absurd.
            let at = r.below(bytes.len());
            bytes.splice(at..at, [0xff; 9]);
        }
        4 => {
            let (from, len) = (r.below(bytes.len()), r.below(200));
            let piece: Vec<u8> = bytes.iter().skip(from).take(len).copied().collect();
            let at = r.below(bytes.len());
            bytes.splice(at..at, piece);
        }
        _ => {
            let at = r.below(bytes.len());
            let end = (at + r.below(64)).min(bytes.len());
            bytes.drain(at..end);
        }
    }
    bytes
}

#[test]
fn damaged_models_give_diagnostics() {
    let count: usize = std::env::var("EDGEC_HOSTILE").ok().and_then(|v| v.parse().ok()).unwrap_or(300);
    let seeds = seeds();
    let mut r = Random(0x5eed);
    let (mut refused, mut slowest) = (0, Duration::ZERO);
    for i in 0..count {
        let bytes = mutate(&seeds[i % seeds.len()], &mut r);
        let start = Instant::now();
        // Some damage is harmless (a bit of a weight); what counts is that nothing panics.
        if let Err(diagnostics) =
            pipeline::compile(&ModelConfig::bytes("damaged.onnx", bytes), &Config::new())
        {
            assert!(diagnostics.has_errors(), "model {i}: refused without a reason");
            assert!(!diagnostics.to_string().contains("E0900"), "model {i}: {diagnostics}");
            refused += 1;
        }
        slowest = slowest.max(start.elapsed());
        assert!(start.elapsed() < LONGEST, "model {i} took {:?}", start.elapsed());
    }
    println!("{count} damaged models, {refused} refused, slowest {slowest:?}");
    assert!(refused > count / 4, "the damage does no harm: only {refused} of {count} refused");
}

/// The same through the command, a tenth as many: exit status 1 and a message, or 0 where the damage is
/// harmless.
#[test]
fn the_command_refuses_damaged_models() {
    let count: usize = std::env::var("EDGEC_HOSTILE").ok().and_then(|v| v.parse().ok()).unwrap_or(300) / 10;
    let seeds = seeds();
    let mut r = Random(0xbad);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.onnx");
    let mut refused = 0;
    for i in 0..count {
        std::fs::write(&path, mutate(&seeds[i % seeds.len()], &mut r)).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_edgec"))
            .args(["inspect", "--json", "damaged.onnx"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {}
            Some(1) => {
                assert!(message.contains("error[E"), "model {i}: {message}");
                refused += 1;
            }
            other => panic!("model {i}: exit status {other:?}: {message}"),
        }
    }
    assert!(refused > count / 4, "only {refused} of {count} refused");
}
