use super::*;
use crate::diag::Severity;
use crate::ir::DType;
use crate::onnx::text::parse_model;
use prost::Message;

fn import_with(text: &str, options: &Options) -> Result<Imported, Diagnostics> {
    let model = parse_model(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    load_model(&model, &ExternalData::none(), options)
}

fn import_text(text: &str) -> Result<Imported, Diagnostics> {
    import_with(text, &Options::default())
}

fn codes(result: Result<Imported, Diagnostics>) -> Vec<Code> {
    let diagnostics = match result {
        Ok(imported) => imported.diagnostics,
        Err(diagnostics) => diagnostics,
    };
    diagnostics.iter().map(|d| d.code).collect()
}

fn op_names(imported: &Imported) -> Vec<&'static str> {
    imported.graph.nodes().map(|(_, n)| n.op.as_op().name()).collect()
}

#[test]
fn nodes_are_sorted_and_typed() {
    let imported =
        import_text("g (float[2, 3] x) => (float[2, 3] z) { z = Identity(y) y = Identity(x) }").unwrap();
    assert_eq!(op_names(&imported), ["Identity", "Identity"]);
    let (name, z) = &imported.graph.outputs[0];
    assert_eq!((name.as_str(), imported.graph.value(*z).shape.dims()), ("z", &[2, 3][..]));
    assert!(crate::ir::verify::verify(&imported.graph).is_empty());
    let (_, node) = imported.graph.nodes().next().unwrap();
    assert_eq!((node.origins[0].index, node.origins[0].opset), (1, 17));
}

#[test]
fn constants_are_folded_in_every_form() {
    for (form, shape, dtype) in [
        ("value = float[2] {1, 2}", &[2][..], DType::F32),
        ("value_float = 1.5", &[], DType::F32),
        ("value_floats = [1.5]", &[1], DType::F32),
        ("value_int = 3", &[], DType::I64),
        ("value_ints = [3, 4, 5]", &[3], DType::I64),
    ] {
        let text = format!("g () => (y) {{ c = Constant <{form}> () y = Identity(c) }}");
        let imported = import_text(&text).unwrap();
        let (_, y) = imported.graph.outputs[0];
        let tensor = imported.graph.constant(y).unwrap();
        assert_eq!((tensor.shape().dims(), tensor.dtype()), (shape, dtype), "{form}");
    }
    let twice = "g () => (y) { y = Constant <value_int = 3, value_float = 1.0> () }";
    assert_eq!(codes(import_text(twice)), [Code::InvalidNode]);
}

#[test]
fn what_also_stands_elsewhere_in_an_input_is_no_batch() {
    let square = "g (float[N, N] x) => (y) { y = Identity(x) }";
    assert_eq!(codes(import_text(square)), [Code::OpenDim]);
    let state = "g (float[N, 4] x, float[2, N] h) => (y) { y = Identity(x) }";
    assert_eq!(codes(import_text(state)), [Code::DimDefault]);
}

#[test]
fn open_dimensions() {
    let text = "g (float[batch, N] x, float[?, 4] z) => (y) { y = Identity(x) }";
    let open = import_text(text).unwrap_err();
    let error = open.iter().find(|d| d.severity == Severity::Error).unwrap();
    assert_eq!((error.code, error.help.as_deref()), (Code::OpenDim, Some("give it one: `--dim N=16`")));

    let mut options = Options::default();
    options.dims.insert("N".into(), 5);
    let imported = import_with(text, &options).unwrap();
    assert_eq!(imported.graph.value(imported.graph.inputs[0]).shape.dims(), [1, 5]);
    assert_eq!(imported.graph.value(imported.graph.inputs[1]).shape.dims(), [1, 4]);
    let notes: Vec<Severity> = imported.diagnostics.iter().map(|d| d.severity).collect();
    assert_eq!(notes, [Severity::Note, Severity::Note]);

    // One without a name goes by its place.
    options.dims.insert("z[0]".into(), 3);
    let imported = import_with(text, &options).unwrap();
    assert_eq!(imported.graph.value(imported.graph.inputs[1]).shape.dims(), [3, 4]);
    let inner = import_text("g (float[2, ?] x) => (y) { y = Identity(x) }").unwrap_err();
    assert_eq!(inner.iter().next().unwrap().help.as_deref(), Some("give it one: `--dim 'x[1]=16'`"));

    // A shape given for one input tells the named dimensions of others.
    let shared = "g (float[B, N] x, float[2, N, B] z) => (y) { y = Identity(z) }";
    let mut options = Options::default();
    options.input_shapes.insert("x".into(), vec![3, 7]);
    let imported = import_with(shared, &options).unwrap();
    assert_eq!(imported.graph.value(imported.graph.inputs[1]).shape.dims(), [2, 7, 3]);
    options.dims.insert("B".into(), 4);
    assert_eq!(codes(import_with(shared, &options)), [Code::BadOption]);

    let mut options = Options::default();
    options.dims.insert("no such".into(), 4);
    options.input_shapes.insert("nor this".into(), vec![]);
    let fixed = "g (float[1] x) => (y) { y = Identity(x) }";
    assert_eq!(codes(import_with(fixed, &options)), [Code::BadOption, Code::BadOption]);
}

#[test]
fn bound_inputs_become_constants() {
    let text = "g (float[N] x, int64[N] k) => (y) { y = Identity(k) }";
    let mut options = Options::default();
    options.binds.insert("k".into(), Tensor::vector(&[4i64, 5]));
    let imported = import_with(text, &options).unwrap();
    assert_eq!(imported.graph.inputs.len(), 1);
    assert_eq!(imported.graph.value(imported.graph.inputs[0]).shape.dims(), [2]);
    assert!(imported.graph.constant(imported.graph.outputs[0].1).is_some());
    options.binds.insert("k".into(), Tensor::vector(&[4f32, 5.0]));
    assert_eq!(codes(import_with(text, &options)), [Code::BadOption]);
}

#[test]
fn problems_are_collected_and_followers_are_silent() {
    let text = "<ir_version: 8, opset_import: [\"\" : 17]>
        g (float[2] x) => (c, f) {
            a = Nonsense(x)  b = Identity(a)  c = Nonsense(b)
            d = Identity <axis = 1> (x)
            e = Identity(nowhere)
            f = other.Op(x)
        }";
    let diagnostics = import_text(text).unwrap_err();
    let found: Vec<(Code, &str)> = diagnostics.iter().map(|d| (d.code, d.message.as_str())).collect();
    assert_eq!(
        found,
        [
            (Code::UnsupportedOp, "operator `Nonsense` is not supported"),
            (Code::Opset, "the model imports no version of the operator set `other`"),
            (Code::UnknownAttribute, "the operator does not know the attribute `axis`"),
            (Code::GraphStructure, "`nowhere` is read, but nothing defines it"),
        ]
    );
    let first = diagnostics.iter().next().unwrap();
    assert_eq!(first.notes, ["2 nodes: `a`, `c`"]);
    assert_eq!(first.node.as_ref().unwrap().inputs, [("x".to_owned(), Some("f32[2]".to_owned()))]);
}

#[test]
fn malformed_graphs_are_refused() {
    for text in [
        "g (float x) => (a) { a = Identity(x) a = Identity(x) }",
        "g (float x) => (x) <float x = {1}, float x = {2}> {}",
        "g (float x, float x) => (x) {}",
        "g (float x) => (y) {}",
        "g (float x) => (x, x) {}",
        "g (float x) => () {}",
        "g (float x) => (a) { a = Identity(b) b = Identity(a) }",
    ] {
        let codes = codes(import_text(text));
        assert!(codes.contains(&Code::GraphStructure), "{text}: {codes:?}");
    }
    for text in ["<opset_import: [\"\" : 0]> g () => () {}", "<ir_version: 99> g () => () {}"] {
        assert_eq!(codes(import_text(text)), [Code::Opset]);
    }
}

#[test]
fn functions_are_inlined() {
    let header = "<ir_version: 9, opset_import: [\"\" : 17, \"f\" : 1]>";
    let functions = "
        <domain: \"f\", opset_import: [\"\" : 17, \"f\" : 1]>
        Outer <k> (a, b) => (r) { t = f.Inner <v = @k> (a) r = Identity(t) }
        <domain: \"f\", opset_import: [\"\" : 17]>
        Inner <v, w: float = 2.0> (a) => (r, c, d) {
            r = Identity(a)  c = Constant <value_int: int = @v> ()  d = Constant <value_float: float = @w> ()
        }";
    let text = format!(
        "{header} g (float[2] x) => (y, c, d) {{ y = f.Outer <k = 7> (x, ) q, c, d = f.Inner <v = 3> (x) }} {functions}"
    );
    let imported = import_text(&text).unwrap();
    assert_eq!(op_names(&imported), ["Identity"; 3]);
    let constant = |i: usize| imported.graph.constant(imported.graph.outputs[i].1).unwrap();
    assert_eq!(constant(1).to_i64_vec().unwrap(), [3]);
    assert_eq!(constant(2).to_f64_vec().unwrap(), [2.0]);
    assert!(crate::ir::verify::verify(&imported.graph).is_empty());

    let recursive = "g (float x) => (y) { y = f.A(x) }
        <domain: \"f\"> A (a) => (r) { r = f.B(a) } <domain: \"f\"> B (a) => (r) { r = f.A(a) }";
    assert_eq!(codes(import_text(recursive)), [Code::GraphStructure]);
}

#[test]
fn functions_that_double_hit_the_limit() {
    let mut text = String::from("g (float x) => (y) { y = f.F0(x) }\n");
    for i in 0..30 {
        text += &format!("<domain: \"f\"> F{i} (a) => (r) {{ b = f.F{0}(a) r = f.F{0}(b) }}\n", i + 1);
    }
    text += "<domain: \"f\"> F30 (a) => (r) { r = Identity(a) }";
    assert_eq!(codes(import_text(&text)), [Code::Limit]);
}

#[test]
fn decided_branches_are_taken_and_others_kept() {
    let body = "z = If (c) <
            then_branch = t () => (u) { u = Identity(x) },
            else_branch = e () => (v) <int64[1] v = {5}> {}>";
    let taken = |c: u8| format!("g (float[2] x) => (z) <bool c = {{{c}}}> {{ {body} }}");
    let imported = import_text(&taken(1)).unwrap();
    assert_eq!(op_names(&imported), ["Identity"]);
    let imported = import_text(&taken(0)).unwrap();
    assert_eq!(imported.graph.constant(imported.graph.outputs[0].1).unwrap().to_i64_vec().unwrap(), [5]);
    let open = format!("g (float[2] x, bool c) => (z) {{ {body} }}");
    assert_eq!(codes(import_text(&open)), [Code::InvalidNode]);
    let same = open.replace("int64[1] v = {5}", "float[2] v = {5, 6}");
    assert_eq!(op_names(&import_text(&same).unwrap()), ["If"]);
}

#[test]
fn declared_shapes_are_compared() {
    let text = "g (float[2, N] x) => (float[3, M] y) { y = Identity(x) }";
    let mut options = Options::default();
    options.dims.insert("N".into(), 4);
    assert_eq!(codes(import_with(text, &options)), [Code::ShapeMismatch]);
}

#[test]
fn inputs_beyond_the_limits_are_refused() {
    for shape in ["9999999999, 9999999999", "0, 9223372036854775807, 9223372036854775807"] {
        let text = format!("g (float[{shape}] x) => (y) {{ y = Identity(x) }}");
        assert_eq!(codes(import_text(&text)), [Code::Limit]);
    }
}

/// Truncations and bit flips of a model with a bit of everything: any answer but a panic.
#[test]
fn damaged_files_do_not_panic() {
    let text = "<ir_version: 9, opset_import: [\"\" : 17, \"f\" : 1]>
        g (float[N, 2] x, bool c) => (z, y) <float[2] w = {1.0, 2.0}, int4[3] q = {1, 2, 3}> {
            k = Constant <value = int64[2] {1, 2}> ()
            z = If (c) <then_branch = t () => (u) { u = Identity(x) }, else_branch = e () => (v) {}>
            y = f.F <a = 1, b = [1.0, 2.0], s = \"text\"> (w)
        }
        <domain: \"f\", opset_import: [\"\" : 17]> F <a, b, s> (i) => (o) { o = Identity <r = @a> (i) }";
    let bytes = parse_model(text).unwrap().encode_to_vec();
    let mut options = Options::default();
    options.binds.insert("c".into(), Tensor::scalar(true));
    let mut refused = 0;
    for cut in 0..bytes.len() {
        refused += usize::from(load_bytes(&bytes[..cut], &options).is_err());
    }
    assert_eq!(refused, bytes.len());
    for i in (0..bytes.len() * 8).step_by(7) {
        let mut bad = bytes.clone();
        bad[i / 8] ^= 1 << (i % 8);
        // Opset and dimension numbers may still make a model.
        let _ = load_bytes(&bad, &options);
    }
    for i in (0..text.len()).step_by(5).filter(|&i| text.is_char_boundary(i)) {
        let _ = parse_model(&text[..i]);
        let _ = parse_model(&text[i..]);
    }
}

#[test]
fn operands_to_bind_are_named() {
    let text = "g (float[2, 3] x, int64[2] \"the shape\") => (y) {
        s = Identity(\"the shape\") y = Reshape(x, s)
    }";
    let diagnostics = import_text(text).unwrap_err();
    let found: Vec<(Code, Option<&str>)> = diagnostics.iter().map(|d| (d.code, d.help.as_deref())).collect();
    let help = "give it as an initializer, or bind what it comes from: `--bind 'the shape=VALUE'`";
    assert_eq!(found, [(Code::NotConstant, Some(help))]);
    let mut options = Options::default();
    options.binds.insert("the shape".into(), Tensor::vector(&[3i64, -1]));
    let imported = import_with(text, &options).unwrap();
    assert_eq!(imported.graph.value(imported.graph.outputs[0].1).shape.dims(), [3, 2]);
}

#[test]
fn functions_of_the_user_stand_for_any_operator() {
    let custom = |name: &str, shapes: Option<&str>| {
        let op =
            CustomOp { path: Some("crate::ops::f".into()), shapes: shapes.map(|rule| rule.parse().unwrap()) };
        Options { custom: [(parse_custom_name(name).unwrap(), op)].into(), ..Options::default() }
    };
    let with = |name: &str, shapes: Option<&str>, text: &str| {
        let mut options = custom(name, shapes);
        options.dims.insert("n".into(), 4);
        import_with(&format!("<ir_version: 9, opset_import: [\"\" : 17, \"a.b\" : 1]> g {text}"), &options)
    };
    // Named dimensions of declared types take the inputs' values.
    let imported =
        with("a.b:F", None, "(float[n, 3] x) => (int64[3, n] y) { y = a.b.F <k = 1> (x, , x) }").unwrap();
    let (_, y) = &imported.graph.outputs[0];
    let value = imported.graph.value(*y);
    assert_eq!((value.dtype, value.shape.dims()), (DType::I64, &[3, 4][..]));
    assert_eq!(op_names(&imported), ["Custom"]);
    // One that no node is.
    for (name, help) in [("a.b:G", "it has `a.b:F`"), ("Exp", "it has `a.b:F`"), ("F", "it has `a.b:F`")] {
        let problems = with(name, Some("same"), "(float[n] x) => (y) { y = a.b.F (x) }").unwrap_err();
        let of = problems.iter().find(|d| d.code == Code::BadOption).and_then(|d| d.help.as_deref());
        assert_eq!(of, Some(help), "{name}");
    }
    // Before operators that are known; never folded.
    let known = "(float[n] x) => (float[n] y) <float[4] w = {1.0 ...}> { v = Exp(w) y = Add(x, v) }";
    assert_eq!(op_names(&with("Exp", Some("same"), known).unwrap()), ["Custom", "Add"]);
    for (rule, text) in [
        (None, "(float[n] x) => (y) { y = a.b.F (x) }"),
        (None, "(float[n] x) => (float[m] y) { y = a.b.F (x) }"),
        (Some("like:1"), "(float[n] x) => (y) { y = a.b.F (x) }"),
        (Some("same"), "(float[n] x) => (y) { y = a.b.F <t = float[1] {1.0}> (x) }"),
    ] {
        assert_eq!(codes(with("a.b:F", rule, text)), [Code::CustomOp], "{text}");
    }
    assert_eq!(
        codes(with("a.b:F", Some("string[1]"), "(float[n] x) => (y) { y = a.b.F (x) }")),
        [Code::UnsupportedForm]
    );
}
