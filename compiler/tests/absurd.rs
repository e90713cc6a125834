//! Models that ask for what nobody has: each is refused by the command with a diagnostic and exit status 1, below
//! a gigabyte of address space and 20 seconds.

use edgec::onnx::text;
use prost::Message;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A gigabyte, in the kilobytes of `ulimit`.
const MEMORY: &str = "976562";
/// Longest time for one model.
const LONGEST: Duration = Duration::from_secs(20);

fn model(graph: &str) -> String {
    format!("<ir_version: 8, opset_import: [\"\" : 17]>\n{graph}")
}

/// `n` lines, each of its number.
fn lines(n: usize, line: impl Fn(usize) -> String) -> String {
    (0..n).map(line).collect::<Vec<_>>().join("\n")
}

/// Name, and the model as text.
fn absurd() -> Vec<(&'static str, String)> {
    let huge = 1i64 << 40;
    let one = |body: &str| model(&format!("g (float[1,3,8,8] x) => (float y) {{ {body} }}"));
    vec![
        ("expand", one(&format!("s = Constant <value = int64[2] {{{huge}, {huge}}}> () y = Expand(x, s)"))),
        ("tile", one("s = Constant <value = int64[4] {99999999, 99999999, 99999999, 1}> () y = Tile(x, s)")),
        ("fill", one(&format!("s = Constant <value = int64[1] {{{huge}}}> () y = ConstantOfShape(s)"))),
        (
            "fill_in_memory",
            one("s = Constant <value = int64[1] {2000000000}> () c = ConstantOfShape(s) y = Add(c, c)"),
        ),
        (
            "range",
            one(&format!(
                "a = Constant <value = int64 {{0}}> () b = Constant <value = int64 {{{huge}}}> () \
                 d = Constant <value = int64 {{1}}> () y = Range(a, b, d)"
            )),
        ),
        (
            "pad",
            one(&format!(
                "p = Constant <value = int64[8] {{0,0,{huge},{huge},0,0,{huge},{huge}}}> () y = Pad(x, p)"
            )),
        ),
        (
            "resize",
            one("e = Constant <value = float[0] {}> () \
                 s = Constant <value = float[4] {1, 1, 1000000000, 1000000000}> () y = Resize(x, e, s)"),
        ),
        (
            "one_hot",
            one(&format!(
                "i = Cast <to = 7> (x) d = Constant <value = int64 {{{huge}}}> () \
                 v = Constant <value = float[2] {{0, 1}}> () y = OneHot(i, d, v)"
            )),
        ),
        (
            "window",
            model("g () => (float y) { n = Constant <value = int64 {4000000000}> () y = HannWindow(n) }"),
        ),
        ("many_operands", one(&format!("y = Sum({}) z = Missing(y)", vec!["x"; 20_000].join(", ")))),
        (
            "many_nodes",
            one(&format!(
                "a0 = Exp(x)\n{}\ny = Missing(a60000)",
                lines(60_000, |i| format!("a{} = Add(a{i}, a{})", i + 1, i / 2))
            )),
        ),
        ("transpose", one("y = Transpose <perm = [0, 0, 0, 0]> (x)")),
        ("negative_kernel", one("y = MaxPool <kernel_shape = [-1, 9223372036854775807]> (x)")),
        (
            "overflowing_window",
            one("y = MaxPool <kernel_shape = [2, 2], strides = [9223372036854775807, 1], \
                 pads = [9223372036854775807, 0, 9223372036854775807, 0]> (x)"),
        ),
        ("zero_stride", one("y = MaxPool <kernel_shape = [2, 2], strides = [0, 0]> (x)")),
        ("axis", one("y = Softmax <axis = -9223372036854775808> (x)")),
        ("concat_itself", one("y = Concat <axis = 4> (x, x)")),
        ("cycle", one("a = Relu(b) b = Relu(a) y = Add(a, x)")),
        ("defined_twice", one("y = Relu(x) y = Neg(x)")),
        ("undefined", one("y = Relu(nothing)")),
        ("no_such_operator", one("y = Frobnicate(x)")),
        ("huge_input", model(&format!("g (float[{huge},{huge},{huge}] x) => (float y) {{ y = Relu(x) }}"))),
        (
            // 2^24 values after eight doublings of a doubled function.
            "doubling_functions",
            format!(
                "{}\n{}",
                model("g (float[4] x) => (float[4] y) { y = f.F0(x) }")
                    .replace("[\"\" : 17]", "[\"\" : 17, \"f\" : 1]"),
                lines(30, |i| {
                    let next = if i == 29 { "Relu".to_owned() } else { format!("f.F{}", i + 1) };
                    format!(
                        "<domain: \"f\", opset_import: [\"\" : 17, \"f\" : 1]>\nF{i} (x) => (y) \
                         {{ a = {next}(x) b = {next}(a) y = Add(a, b) }}"
                    )
                })
            ),
        ),
        (
            "function_of_itself",
            format!(
                "{}\n<domain: \"f\", opset_import: [\"\" : 17, \"f\" : 1]>\nA (x) => (y) {{ y = f.A(x) }}",
                model("g (float[4] x) => (float[4] y) { y = f.A(x) }")
                    .replace("[\"\" : 17]", "[\"\" : 17, \"f\" : 1]")
            ),
        ),
        (
            "doubling_concat",
            one(&format!(
                "a0 = Flatten(x) {} y = Identity(a40)",
                lines(40, |i| format!("a{} = Concat <axis = 1> (a{i}, a{i})", i + 1))
            )),
        ),
        (
            "doubling_constants",
            model(&format!(
                "g (float[1] x) => (float y) {{ a0 = Constant <value = float[1] {{1}}> () {} y = Add(a40, x) }}",
                lines(40, |i| format!("a{} = Concat <axis = 0> (a{i}, a{i})", i + 1))
            )),
        ),
    ]
}

/// Loops: name, and the model as text.
fn loops() -> Vec<(&'static str, String)> {
    // `levels` loops, each around the next.
    let nested = |levels: usize, inner: &str| {
        (0..levels).fold(inner.to_owned(), |body, _| {
            format!("b = Loop (m, , a) <body = l (int64 i, bool c, float[n] a) => (c, b) {{ {body} }}>")
        })
    };
    let open = |m: i64, body: &str| {
        model(&format!("g (float[1] a) => (float[n] b) <int64 m = {{{m}}}, float[1] k = {{1}}> {{ {body} }}"))
    };
    let known = |m: i64, body: &str| {
        model(&format!(
            "g () => (float[n] b) <int64 m = {{{m}}}, float[1] a = {{1}}, float[1] k = {{1}}> {{ {body} }}"
        ))
    };
    let twice = "b = Concat <axis = 0> (a, a)";
    vec![
        ("loop_that_doubles", open(1000, &nested(1, twice))),
        ("loop_that_doubles_constants", known(1000, &nested(1, twice))),
        ("loop_that_grows_for_ever", open(i64::MAX, &nested(1, twice))),
        ("loops_that_multiply", open(3, &nested(12, "b = Concat <axis = 0> (a, k)"))),
        ("constant_loops_that_multiply", known(1000, &nested(12, "b = Concat <axis = 0> (a, k)"))),
        (
            "rows_without_number",
            open(
                1 << 40,
                "s, b = Loop (m, , a) <body = l (int64 i, bool c, float[1] a) => (c, a2, a) { a2 = Neg(a) }>",
            ),
        ),
        (
            "loop_without_end",
            open(1, "b = Loop (, , a) <body = l (int64 i, bool c, float[1] a) => (c, a2) { a2 = Neg(a) }>"),
        ),
        (
            "scan_of_nothing",
            open(1, "b = Scan (a) <num_scan_inputs = 9223372036854775807, body = l (float a) => (a) {}>"),
        ),
        (
            "scan_along_no_axis",
            open(
                1,
                "b = Scan (a) <num_scan_inputs = 1, scan_input_axes = [-9223372036854775808], \
                     body = l (float a) => (a) {}>",
            ),
        ),
    ]
}

#[test]
fn absurd_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in absurd().into_iter().chain(loops()) {
        let path = dir.path().join(format!("{name}.onnx"));
        let model = text::parse_model(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        let (status, message, time) = build(&path, dir.path());
        assert_eq!(status, Some(1), "{name}: {message}");
        assert!(message.contains("error[E") && !message.contains("E0900"), "{name}: {message}");
        assert!(!message.contains("panicked"), "{name}: {message}");
        assert!(time < LONGEST, "{name} took {time:?}");
        assert!(!dir.path().join("out").exists(), "{name} left a crate");
    }
}

/// Exit status, messages and time of `edgec build` under the limit on memory.
fn build(model: &Path, dir: &Path) -> (Option<i32>, String, Duration) {
    let start = Instant::now();
    let limited = format!("ulimit -v {MEMORY}; exec \"$0\" build \"$1\" -o out");
    let output = Command::new("sh")
        .args(["-c", &limited, env!("CARGO_BIN_EXE_edgec")])
        .arg(model)
        .current_dir(dir)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), start.elapsed())
}
