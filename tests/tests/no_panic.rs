//! Release builds of generated code hold no path that panics, no call of an allocator and no vector
//! instruction behind a call (an intrinsic that was not inlined into its level's function).
//!
//! A `no_std` library calls the model; linked with nothing but the four memory functions and with unused
//! sections dropped, what is left is what the model needs. Its symbols are judged.

use edgec::{Config, ModelConfig};
use edgec_runtime::Level;
use edgec_tests::{cargo, control_flow, fixture, root, success, write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What must not be linked.
const FORBIDDEN: [&str; 7] = [
    "core::panicking",
    "rust_begin_unwind",
    "slice_index_fail",
    "expect_failed",
    "__rust_alloc",
    "malloc",
    "core::core_arch",
];

const MEMORY: &str = "
typedef unsigned long n; typedef unsigned char b;
void *memcpy(void *d, const void *s, n k) { for (n i = 0; i < k; i++) ((volatile b *)d)[i] = ((const b *)s)[i]; return d; }
void *memset(void *d, int c, n k) { for (n i = 0; i < k; i++) ((volatile b *)d)[i] = (b)c; return d; }
void *memmove(void *d, const void *s, n k) {
    if ((n)d < (n)s) return memcpy(d, s, k);
    for (n i = k; i > 0; i--) ((volatile b *)d)[i - 1] = ((const b *)s)[i - 1];
    return d;
}
int memcmp(const void *x, const void *y, n k) {
    for (n i = 0; i < k; i++) { int e = ((const b *)x)[i] - ((const b *)y)[i]; if (e) return e; }
    return 0;
}
";

/// A library that calls every model of the package at every level.
fn firmware(dir: &Path, modules: &[String], extra: &str) {
    write(
        &dir.join("Cargo.toml"),
        "[workspace]\nresolver = \"2\"\nmembers = [\"models\", \"firmware\"]\n\
         [profile.release]\npanic = \"abort\"\nlto = true\ncodegen-units = 1\n",
    );
    write(
        &dir.join("firmware/Cargo.toml"),
        "[package]\nname = \"firmware\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [lib]\ncrate-type = [\"staticlib\"]\n[dependencies]\nmodels = { path = \"../models\" }\n",
    );
    let first = modules.first().expect("a model");
    let mut text = format!(
        "#![no_std]\nuse models::{first}::{{Level, Tensors}};\n#[panic_handler]\n\
         fn panic(_: &core::panic::PanicInfo) -> ! {{\n    loop {{}}\n}}\n"
    );
    text.push_str(extra);
    text.push_str("#[no_mangle]\npub extern \"C\" fn infer(which: usize, level: usize) -> usize {\n");
    text.push_str("    let Some(&level) = Level::ALL.get(level) else { return 1 };\n    match which {\n");
    for (i, module) in modules.iter().enumerate() {
        text.push_str(&format!(
            "        {i} => {{\n            let model = models::{module}::Model::take();\n            \
             let Some(mut model) = model.and_then(|m| m.with_level(level)) else {{ return 2 }};\n            \
             model.invoke_probed(&mut ()).is_ok() as usize\n        }}\n"
        ));
    }
    text.push_str("        _ => 3,\n    }\n}\n");
    write(&dir.join("firmware/src/lib.rs"), &text);
    write(&dir.join("memory.c"), MEMORY);
}

/// Demangled names of all that the linked library holds; `None` where there are no tools.
fn symbols(dir: &Path) -> Option<String> {
    success("cargo build", &cargo(dir, &["build", "--offline", "-q", "--release", "-p", "firmware"]));
    let tool = |name: &str, args: &[&str]| Command::new(name).args(args).current_dir(dir).output();
    let (Ok(compiled), Ok(_)) = (
        tool("cc", &["-O1", "-fno-builtin", "-c", "memory.c", "-o", "memory.o"]),
        tool("nm", &["--version"]),
    ) else {
        eprintln!("\n*** NOT TESTED: no `cc` or no `nm` ***\n");
        return None;
    };
    success("cc memory.c", &compiled);
    let link = ["-nostdlib", "-static", "-Wl,--gc-sections", "-Wl,-e,infer", "-o", "infer"];
    let files = ["target/release/libfirmware.a", "memory.o"];
    success("link", &tool("cc", &[&link[..], &files[..]].concat()).ok()?);
    Some(success("nm", &tool("nm", &["-C", "infer"]).ok()?))
}

fn forbidden(symbols: &str) -> Vec<&str> {
    // Reading the control register that tells what the system saves is once, before any level is chosen.
    let lines = symbols.lines().filter(|line| !line.ends_with("xsave::_xgetbv"));
    lines.filter(|line| FORBIDDEN.iter().any(|bad| line.contains(bad))).collect()
}

/// Fails if a crate of these models holds what is forbidden; the paths of its files.
fn check(models: Vec<(String, ModelConfig)>) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new().package("models").levels([Level::Scalar, Level::V3, Level::V4]);
    let mut modules = Vec::new();
    for (name, model) in models {
        modules.push(name.clone());
        config = config.model(model.name(&name));
    }
    let files = config.package_files().expect("the models compile");
    edgec::emit::write(&dir.path().join("models"), &files).unwrap();
    firmware(dir.path(), &modules, "");
    let paths = files.iter().map(|file| file.path.clone()).collect();
    let Some(symbols) = symbols(dir.path()) else { return paths };
    assert!(symbols.contains(" T infer") && symbols.contains("::call::v4"), "the kernels are not there");
    assert_eq!(forbidden(&symbols), Vec::<&str>::new(), "in {modules:?}");
    paths
}

#[test]
fn own_models() {
    let fixtures = ["digits", "motion"].map(|name| (name.to_owned(), ModelConfig::file(fixture(name))));
    check(fixtures.into_iter().chain([("control_flow".to_owned(), control_flow())]).collect());
}

/// Routines that write as many elements as the data says.
#[test]
fn lengths_of_a_run() {
    let text = "<ir_version: 10, opset_import: [\"\" : 18]>
        g (float[2, 9, 4] boxes, float[2, 3, 9] scores, int64[1] most, float[4, 5] map, bool[5] marks)
          => (int64[n, 3] picked, int64[2, k] places, float[4, m] marked, float[u] values, int64[u] first, int64[20] back, int64[u] counts, float[4, v] columns)
        <float[1] iou = {0.5}, float[1] least = {0.2}>
        {
            picked = NonMaxSuppression <center_point_box = 1> (boxes, scores, most, iou, least)
            places = NonZero(map)
            marked = Compress <axis = 1> (map, marks)
            values, first, back, counts = Unique <sorted = 0> (map)
            columns = Unique <axis = 1> (map)
        }";
    let model = edgec::onnx::text::parse_model(text).expect("it parses");
    let model = ModelConfig::bytes("lengths.onnx", prost::Message::encode_to_vec(&model));
    check(vec![("lengths".to_owned(), model), ("control_flow".to_owned(), control_flow())]);
}

/// Integer kernels: images with edges, three channels and many, depthwise, sums over windows, tables.
#[test]
fn quantized() {
    let weights = |name: &str, shape: [usize; 4]| {
        let values: Vec<String> = (0..shape.iter().product()).map(|i| (i % 7).to_string()).collect();
        let [o, i, h, w] = shape;
        format!("int8[{o}, {i}, {h}, {w}] {name} = {{{}}}", values.join(", "))
    };
    let constants = [
        "float s = {0.05}".to_owned(),
        "uint8 z = {128}".to_owned(),
        "float t = {0.02}".to_owned(),
        "int8 o = {0}".to_owned(),
        weights("first", [24, 3, 3, 3]),
        weights("deep", [24, 1, 3, 3]),
        weights("point", [40, 24, 1, 1]),
        weights("wide", [40, 40, 3, 3]),
    ];
    let mut nodes = vec!["q0 = QuantizeLinear(x, s, z)".to_owned()];
    let layers = [
        ("first", "strides = [2, 2], pads = [1, 1, 1, 1]", "Relu"),
        ("deep", "group = 24, pads = [1, 1, 1, 1]", "Relu"),
        ("point", "group = 1", "Relu"),
        ("wide", "pads = [1, 1, 1, 1]", "Sigmoid"),
    ];
    for (i, (weights, attributes, activation)) in layers.iter().enumerate() {
        let k = i + 1;
        nodes.push(format!("d{i} = DequantizeLinear(q{i}, s, z)"));
        nodes.push(format!("w{k} = DequantizeLinear({weights}, t, o)"));
        nodes.push(format!("c{k} = Conv <{attributes}> (d{i}, w{k})"));
        nodes.push(format!("r{k} = {activation}(c{k})"));
        nodes.push(format!("q{k} = QuantizeLinear(r{k}, s, z)"));
    }
    nodes.push("d4 = DequantizeLinear(q4, s, z)".to_owned());
    nodes.push("sum = Add(d4, d3)".to_owned());
    nodes.push("q5 = QuantizeLinear(sum, s, z)".to_owned());
    nodes.push("d5 = DequantizeLinear(q5, s, z)".to_owned());
    nodes.push("mean = GlobalAveragePool(d5)".to_owned());
    nodes.push("q6 = QuantizeLinear(mean, s, z)".to_owned());
    nodes.push("y = DequantizeLinear(q6, s, z)".to_owned());
    let text = format!(
        "<ir_version: 8, opset_import: [\"\" : 17]>\n\
         g (float[1, 3, 19, 19] x) => (float[1, 40, 1, 1] y)\n<{}>\n{{\n{}\n}}",
        constants.join(", "),
        nodes.join("\n"),
    );
    let model = edgec::onnx::text::parse_model(&text).expect("it parses");
    let model = ModelConfig::bytes("quantized.onnx", prost::Message::encode_to_vec(&model));
    let other = ModelConfig::file(fixture("motion"));
    let paths = check(vec![("quantized".to_owned(), model), ("motion".to_owned(), other)]);
    for kernel in ["conv_i8", "depthwise_i8", "windows_i8"] {
        let file = format!("src/rt/kernels/{kernel}.rs");
        assert!(paths.contains(&file), "{kernel} is not among {paths:?}");
    }
}

/// What the check would see if a kernel indexed unchecked by the compiler.
#[test]
fn the_check_sees_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    edgec_tests::generate(&dir.path().join("models"), "models", &["digits", "motion"], &[Level::Scalar]);
    let extra = "#[no_mangle]\npub extern \"C\" fn pick(at: usize) -> u8 {\n    \
                 b\"abc\"[core::hint::black_box(at)]\n}\n";
    firmware(dir.path(), &["digits".to_owned()], extra);
    let source = dir.path().join("firmware/src/lib.rs");
    let text = std::fs::read_to_string(&source).unwrap().replace("_ => 3", "_ => pick(which) as usize");
    std::fs::write(&source, text).unwrap();
    let Some(symbols) = symbols(dir.path()) else { return };
    assert!(!forbidden(&symbols).is_empty(), "the control's panic was not seen");
}

/// Real models that together use every kernel family.
#[test]
#[ignore = "builds large models with link-time optimisation; the slower suites run it"]
fn real_models() {
    let models =
        std::env::var_os("EDGEC_MODELS").map_or_else(|| root().join("../shared/models"), PathBuf::from);
    if !models.is_dir() {
        eprintln!("\n*** NOT TESTED: no models in {} (set EDGEC_MODELS) ***\n", models.display());
        return;
    }
    let names = [
        "kwt1",
        "sinet_portrait",
        "fastestdet",
        "squeezenet_fp16",
        "magika_v3_3",
        "lgbm_tensor",
        "micro_kws_qoperator",
    ];
    check(
        names.map(|name| (name.to_owned(), ModelConfig::file(models.join(name).join("model.onnx")))).into(),
    );
}
