//! Layers that several threads share give the bits that one thread gives.

use edgec::onnx::text;
use edgec::{Config, ModelConfig};
use edgec_runtime::Level;
use edgec_tests::{cargo, success, write};
use prost::Message;

/// A layer of every family that can be split, each large enough that it is.
fn model() -> Vec<u8> {
    let values = |n: usize, seed: usize| {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 2003.0 - 0.5;
        (0..n).map(|i| format!("{:?}", value(i) * 0.3)).collect::<Vec<_>>().join(", ")
    };
    let text = format!(
        "<ir_version: 10, opset_import: [\"\" : 17]>
        g (float[1, 32, 24, 24] x, float[576, 400] b) => (float[144, 400] y)
        <float[12, 32, 1, 1] w0 = {{{}}}, float[48, 12, 3, 3] w1 = {{{}}}, float[48, 1, 3, 3] w2 = {{{}}}, float[144, 48, 1, 1] w3 = {{{}}},
         int64[2] flat = {{144, 576}}, float[400] scale = {{{}}}>
        {{
            c0 = Conv(x, w0)
            c1 = Conv <pads = [1, 1, 1, 1]> (c0, w1)
            r1 = Relu(c1)
            c2 = Conv <pads = [1, 1, 1, 1], group = 48> (r1, w2)
            p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c2)
            c3 = Conv(p, w3)
            a = Reshape(c3, flat)
            m = MatMul(a, b)
            s = Softmax(m)
            y = LayerNormalization(s, scale)
        }}",
        values(12 * 32, 0),
        values(48 * 12 * 9, 1),
        values(48 * 9, 2),
        values(144 * 48, 3),
        values(400, 4),
    );
    text::parse_model(&text).expect("it parses").encode_to_vec()
}

/// A test of the generated crate: a pool, and crews as users write them, of which one takes parts from the last
/// to the first and one gives each thread several turns.
const GIVEN: &str = r#"
use std::sync::atomic::{AtomicUsize, Ordering};

use split::{Crew, LEVELS, Level, Model, Tensors, Threads};

struct Scoped(usize);

impl Crew for Scoped {
    fn size(&self) -> usize {
        self.0
    }

    fn call(&self, help: &(dyn Fn() + Sync)) {
        std::thread::scope(|scope| {
            for _ in 1..self.0 {
                scope.spawn(help);
            }
        });
    }
}

/// Many parts, on one thread, and how often they were offered.
struct Pieces(usize, AtomicUsize);

impl Crew for Pieces {
    fn size(&self) -> usize {
        self.0
    }

    fn call(&self, _help: &(dyn Fn() + Sync)) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

fn run(level: Level, crew: Option<&dyn Crew>) -> Option<Vec<u8>> {
    let mut model = Model::boxed().with_level(level)?;
    if let Some(crew) = crew {
        model = model.with_crew(crew);
    }
    for index in 0..2 {
        let bytes = model.input_bytes(index).unwrap();
        for (i, chunk) in bytes.chunks_mut(4).enumerate() {
            chunk.copy_from_slice(&((i * 31 % 97) as f32 / 97.0 - 0.4).to_le_bytes());
        }
    }
    model.invoke_probed(&mut ()).unwrap();
    model.output_bytes(0).map(<[u8]>::to_vec)
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let pieces = Pieces(3, AtomicUsize::new(0));
    let crews: Vec<(&str, Box<dyn Crew>)> = vec![
        ("pool of 1", Box::new(Threads::new(1))),
        ("pool of 2", Box::new(Threads::new(2))),
        ("pool of 5", Box::new(Threads::new(5))),
        ("scoped", Box::new(Scoped(3))),
        ("7 pieces", Box::new(Pieces(7, AtomicUsize::new(0)))),
        ("1000 pieces", Box::new(Pieces(1000, AtomicUsize::new(0)))),
    ];
    for &level in LEVELS {
        let Some(alone) = run(level, None) else { continue };
        assert!(alone.iter().any(|&b| b != 0));
        for (name, crew) in &crews {
            assert!(run(level, Some(&**crew)).unwrap() == alone, "{name} at {level:?}");
        }
        let before = pieces.1.load(Ordering::Relaxed);
        assert!(run(level, Some(&pieces)).unwrap() == alone, "3 pieces at {level:?}");
        let split = pieces.1.load(Ordering::Relaxed) - before;
        assert!(split >= if level == Level::Scalar { 1 } else { 5 }, "{split} layers were split at {level:?}");
    }
}
"#;

#[test]
fn threads_share_layers_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new().package("split").model(ModelConfig::bytes("split", model())).levels([
        Level::Scalar,
        Level::V3,
        Level::V4,
    ]);
    let folder = dir.path().join("split");
    edgec::emit::write(&folder, &config.package_files().expect("it compiles")).unwrap();
    write(&folder.join("tests/given.rs"), GIVEN);
    let manifest = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}\n[workspace]\n[profile.dev]\nopt-level = 2\n")).unwrap();
    let features = "alloc,std,threads";
    let run = cargo(&folder, &["test", "--offline", "-q", "--features", features, "--test", "given"]);
    success("cargo test", &run);
    // A crew of the caller's needs no `std`.
    success("cargo check", &cargo(&folder, &["check", "--offline", "-q", "--features", "threads"]));
}
