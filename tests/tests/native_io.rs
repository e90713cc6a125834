//! A crate that takes and gives a quantized model's integers says what the one with real numbers says.

use edgec::onnx::text;
use edgec::{Config, Io, ModelConfig};
use edgec_runtime::Level;
use edgec_tests::{cargo, success, write};
use prost::Message;

/// Signed bytes that are transposed behind the input, 16 bits at another, a product of bytes; outputs with one scale behind
/// a reshape, with a scale for each channel, and real numbers.
const MODEL: &str = "<ir_version: 10, opset_import: [\"\" : 21]>
    g (float[1, 4, 4, 3] image, float[1, 8] extra) => (float[32] flat, float[1, 2, 4, 4] rows, float[1, 8] plain)
    <float sx = {0.05}, int8 zx = {-3}, float sw = {0.02}, int8 zw = {0}, float sy = {0.07}, uint8 zy = {11},
     float se = {0.001}, uint16 ze = {1000}, float[2] sr = {0.06, 0.11}, uint8[2] zr = {90, 130},
     int8[2, 3, 1, 1] w = {7, -20, 33, -9, 50, 4}, int64[1] all = {-1}>
    {
        moved = Transpose <perm = [0, 3, 1, 2]> (image)
        xq = QuantizeLinear(moved, sx, zx)
        x = DequantizeLinear(xq, sx, zx)
        wd = DequantizeLinear(w, sw, zw)
        c = Conv(x, wd)
        cq = QuantizeLinear(c, sy, zy)
        cd = DequantizeLinear(cq, sy, zy)
        flat = Reshape(cd, all)
        r = Relu(c)
        rq = QuantizeLinear <axis = 1> (r, sr, zr)
        rows = DequantizeLinear <axis = 1> (rq, sr, zr)
        eq = QuantizeLinear(extra, se, ze)
        ed = DequantizeLinear(eq, se, ze)
        plain = Neg(ed)
    }";

/// A test of the generated crate.
const GIVEN: &str = r#"
use edges::{native, real};

#[test]
fn integers_stand_for_the_same_numbers() {
    let value = |i: usize| ((i * 37 + 11) % 101) as f32 * 0.11 - 5.0;
    let image: real::Image = core::array::from_fn(|y| core::array::from_fn(|x| core::array::from_fn(|c| value(y * 12 + x * 3 + c))));
    let extra: real::Extra = core::array::from_fn(|i| value(i * 5) * 4.0);
    let mut model = real::Model::boxed();
    let expected = model.run(real::Inputs { image: &image, extra: &extra });

    let (mut image_q, mut extra_q) = ([[[0i8; 3]; 4]; 4], [0u16; 8]);
    native::quantize_image(&image, &mut image_q);
    native::quantize_extra(&extra, &mut extra_q);
    let mut other = native::Model::boxed();
    let out = other.run(native::Inputs { image: &image_q, extra: &extra_q });
    let mut flat = [0.0; 32];
    native::dequantize_flat(out.flat, &mut flat);
    assert_eq!(flat, *expected.flat);
    let mut rows = [[[0.0; 4]; 4]; 2];
    native::dequantize_rows(out.rows, &mut rows);
    assert_eq!(rows, *expected.rows);
    assert_eq!(out.plain, expected.plain);
}

#[test]
fn facts_name_types_scales_and_zero_points() {
    assert_eq!((native::IMAGE.dtype, native::IMAGE.scale, native::IMAGE.zero_point), ("i8", Some(0.05), -3));
    assert_eq!((native::EXTRA.dtype, native::EXTRA.scale, native::EXTRA.zero_point), ("u16", Some(0.001), 1000));
    assert_eq!((native::FLAT.dtype, native::FLAT.scale, native::FLAT.zero_point), ("u8", Some(0.07), 11));
    let by = native::ROWS.per_axis.unwrap();
    assert_eq!((native::ROWS.dtype, by.axis, by.scales, by.zero_points), ("u8", 1, &[0.06, 0.11][..], &[90, 130][..]));
    assert_eq!((native::PLAIN.dtype, native::PLAIN.scale), ("f32", None));
    assert_eq!((real::IMAGE.dtype, real::IMAGE.scale), ("f32", None));
}
"#;

fn model(name: &str) -> ModelConfig {
    let bytes = text::parse_model(MODEL).expect("it parses").encode_to_vec();
    ModelConfig::bytes(format!("{name}.onnx"), bytes)
}

#[test]
fn integers_at_the_edges_stand_for_the_same_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new()
        .package("edges")
        .levels([Level::Scalar, Level::V3, Level::V3Vnni])
        .model(model("native").io(Io::Native))
        .model(model("real"));
    let package = dir.path().join("edges");
    edgec::emit::write(&package, &config.package_files().expect("it compiles")).unwrap();
    write(&package.join("tests/given.rs"), GIVEN);
    let manifest = package.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}\n[workspace]\n")).unwrap();
    let run = cargo(&package, &["test", "--offline", "-q", "--features", "alloc", "--test", "given"]);
    success("cargo test", &run);
}
