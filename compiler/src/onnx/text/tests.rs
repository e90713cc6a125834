use super::super::external::ExternalData;
use super::super::tensor::decode_tensor;
use super::*;

fn initializer(text: &str) -> crate::ir::Tensor {
    let model = parse_model(&format!("g () => () <{text}> {{}}")).unwrap();
    decode_tensor(&model.graph.unwrap().initializer[0], &ExternalData::none()).unwrap()
}

#[test]
fn a_whole_model_is_read() {
    let model = parse_model(
        r#"
        <ir_version: 9, opset_import: ["" : 18, "my.ops" : 1], producer_name: "hand",
         metadata_props: ["k": "v"]>
        agraph (float[N, 8] x, float[1, ?, "a b"] y, float[1] d = {1.0}, seq(float[]) s) => (float[] z)
        <float[2] w = {1.0, -2e3}, int64 k, float[4] e = ["location": "w.bin", "offset": "8"]>
        {
            # a comment
            [first] a, , "b:0" = my.ops.Op:v2 <axis = -1, f = 1.5, s = "q\"x", is = [1, 2], fs = [1, 2.5],
                t = float[2] {3, 4}, empty: ints = []> (x, , "odd name")
            z = If (a) <then_branch = g () => (float u) { u = Neg (a) }, else_branch = h () => (v) {}>
        }
        <domain: "my.ops", opset_import: ["" : 18], overload: "v2">
        Op <axis, alpha: float = 1> (p, q, r) => (o1, o2, o3) { o1 = Elu <alpha: float = @alpha> (p) }
        "#,
    )
    .unwrap();
    let graph = model.graph.as_ref().unwrap();
    assert_eq!((model.ir_version, model.opset_import.len(), &*model.producer_name), (9, 2, "hand"));
    assert_eq!((graph.input.len(), graph.initializer.len(), graph.value_info.len()), (4, 3, 1));
    let node = &graph.node[0];
    assert_eq!(
        (&*node.name, &*node.domain, &*node.op_type, &*node.overload),
        ("first", "my.ops", "Op", "v2")
    );
    assert_eq!(node.output, ["a", "", "b:0"]);
    assert_eq!(node.input, ["x", "", "odd name"]);
    assert_eq!(node.attribute[0].i, Some(-1));
    assert_eq!(node.attribute[2].s.as_deref(), Some(&b"q\"x"[..]));
    assert_eq!(node.attribute[4].floats, [1.0, 2.5]);
    assert_eq!(node.attribute[6].r#type, AttributeType::Ints as i32);
    assert_eq!(graph.node[1].attribute[0].g.as_ref().unwrap().node[0].op_type, "Neg");
    let function = &model.functions[0];
    assert_eq!(function.attribute, ["axis"]);
    assert_eq!(function.attribute_proto[0].f, Some(1.0));
    assert_eq!(function.node[0].attribute[0].ref_attr_name, "alpha");
}

#[test]
fn tensors_of_every_type_are_read() {
    assert_eq!(initializer("float[2, 2] w = {1, 2.5, -inf, 1e-3}").len(), 4);
    assert_eq!(initializer("float[5] w = {1.0, 2.0 ...}").as_slice::<f32>().unwrap(), [1., 2., 1., 2., 1.]);
    assert_eq!(initializer("int64[3] w = {7...}").to_i64_vec().unwrap(), [7, 7, 7]);
    assert_eq!(initializer("float16[2] w = {1.5, 15360}").to_f64_vec().unwrap(), [1.5, 1.0]);
    assert_eq!(initializer("int4[3] w = {-8, 7, 1}").to_i64_vec().unwrap(), [-8, 7, 1]);
    assert_eq!(initializer("uint64[1] w = {18446744073709551615}").as_slice::<u64>().unwrap(), [u64::MAX]);
    assert_eq!(initializer("bool[2] w = {1, 0}").to_i64_vec().unwrap(), [1, 0]);
    assert_eq!(initializer("float w = {3}").shape().rank(), 0);
    assert_eq!(initializer("float[0] w = {}").len(), 0);
    assert!(matches!(initializer(r#"string[1] w = {"a"}"#).data(), crate::ir::Data::String(_)));
}

#[test]
fn errors_say_where() {
    let error = |text: &str| parse_model(text).unwrap_err();
    assert_eq!((error("g () =>\n  x").line, error("g () =>\n  x").column), (2, 3));
    for text in [
        "",
        "g () => () { y = Op(x }",
        "g () => () <float[2] w = {1.0}> {}",
        "g () => () <int8[1] w = {128}> {}",
        "g () => () <int8[1] w = {1.0}> {}",
        "g () => () <float[99999999999, 9] w = {0 ...}> {}",
        "<colour: 1> g () => () {}",
        "g () => () { y = Op <a = []> (x) }",
        "g () => () { y = Op <a = \"x> (x) }",
    ] {
        assert!(parse_model(text).is_err(), "{text}");
    }
    let deep = "seq(".repeat(10_000);
    assert!(parse_model(&format!("g ({deep}")).is_err());
}
