//! Outputs of which only a run knows how many elements they have, through a generated crate.

use edgec::onnx::text;
use edgec::{Config, ModelConfig};
use edgec_runtime::Level;
use edgec_tests::{cargo, success, write};
use prost::Message;

edgec_macros::include_model!("models/doubling.onnxtxt", level = "scalar");

/// A detector's end: boxes of two classes, those that stay, and what follows from them.
const MODEL: &str = "<ir_version: 10, opset_import: [\"\" : 18]>
    g (float[1, 6, 4] boxes, float[1, 2, 6] scores, float[2, 5] map, bool[5] marks)
      => (int64[n, 3] picked, float[n, 4] doubled, float[4] total, int64[2, k] places, int64[2] extents, float[2, m] marked)
    <int64[1] most = {3}, float[1] iou = {0.5}, float[1] least = {0.2}, int64 two = {2}, int64[1] zero = {0}, float factor = {2.0}>
    {
        picked = NonMaxSuppression(boxes, scores, most, iou, least)
        index = Gather <axis = 1> (picked, two)
        flat = Squeeze(boxes, zero)
        kept = Gather(flat, index)
        doubled = Mul(kept, factor)
        total = ReduceSum <keepdims = 0> (doubled, zero)
        places = NonZero(map)
        turned = Transpose(places)
        extents = Shape(turned)
        marked = Compress <axis = 1> (map, marks)
    }";

/// A test of the generated crate.
const GIVEN: &str = r#"
use detect::{Inputs, Model};

#[test]
fn as_many_as_the_run_finds() {
    let boxes = [
        [0.0, 0.0, 1.0, 1.0], [0.0, 0.1, 1.0, 1.1], [0.0, 0.9, 1.0, 1.9],
        [5.0, 5.0, 6.0, 6.0], [6.1, 6.1, 5.1, 5.1], [9.0, 9.0, 10.0, 10.0],
    ];
    let map = [[0.0, 1.0, 0.0, -2.0, 0.0], [3.0, 0.0, 0.0, 0.0, f32::NAN]];
    let mut model = Model::take().unwrap();
    for (scores, rows) in [
        ([[0.9, 0.8, 0.7, 0.1, 0.95, 0.3], [0.0; 6]], vec![[0, 0, 4], [0, 0, 0], [0, 0, 2]]),
        ([[0.0; 6], [0.0; 6]], vec![]),
        ([[0.9; 6], [0.1, 0.2, 0.3, 0.1, 0.1, 0.1]], vec![[0, 0, 0], [0, 0, 2], [0, 0, 3], [0, 1, 2]]),
    ] {
        let marks = [true, false, false, true, true].map(detect::Bool::from);
        let out = model.run(Inputs { boxes: &boxes, scores: &scores, map: &map, marks: &marks }).unwrap();
        assert_eq!(*out.picked, rows[..]);
        assert_eq!(detect::Bounded::<[i64; 3], 6>::MAX, out.picked.places().len());
        let doubled: Vec<[f32; 4]> = rows.iter().map(|r| boxes[r[2] as usize].map(|v| 2.0 * v)).collect();
        assert_eq!(*out.doubled, doubled[..]);
        for (k, total) in out.total.iter().enumerate() {
            let sum: f32 = doubled.iter().map(|d| d[k]).sum();
            assert!((sum - total).abs() < 1e-4, "{sum} {total}");
        }
        assert_eq!((out.places.row(0), out.places.row(1)), (Some(&[0, 0, 1, 1][..]), Some(&[1, 3, 0, 4][..])));
        assert_eq!(*out.extents, [4, 2]);
        assert_eq!(out.marked.len(), 3);
        assert_eq!(out.marked.row(0), Some(&[0.0, -2.0, 0.0][..]));
    }
}
"#;

fn config(text: &str) -> Config {
    let model = text::parse_model(text).expect("it parses").encode_to_vec();
    Config::new().package("detect").levels([Level::Scalar]).model(ModelConfig::bytes("detect.onnx", model))
}

#[test]
fn outputs_have_the_length_that_the_run_gives_them() {
    let dir = tempfile::tempdir().unwrap();
    let package = dir.path().join("detect");
    edgec::emit::write(&package, &config(MODEL).package_files().expect("it compiles")).unwrap();
    write(&package.join("tests/given.rs"), GIVEN);
    let manifest = package.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}\n[workspace]\n")).unwrap();
    success("cargo test", &cargo(&package, &["test", "--offline", "-q", "--test", "given"]));
}

/// What would mix elements with those beyond the length.
#[test]
fn operators_that_need_a_fixed_extent_are_refused() {
    for (end, why) in [
        ("six = Add(index, fixed)", "beside one of fixed extents"),
        ("most = ReduceMax(index)", "the axis that is reduced"),
        ("turned = Reshape(picked, by)", "joined to others in front of it"),
        ("sorted, at = TopK(index, one)", "an operand has a number of elements"),
        ("both = Add(index, rest)", "and not the same"),
        ("last = Slice(index, back, many)", "cut from its end"),
    ] {
        let result = end.split([',', ' ']).next().unwrap();
        let model = format!(
            "<ir_version: 10, opset_import: [\"\" : 18]>
            g (float[6] x, float[6] y) => ({result})
            <int64[6] fixed = {{1 ...}}, int64[2] by = {{3, 2}}, int64[1] one = {{1}}, int64[1] zero = {{0}}, int64[1] back = {{-2}}, int64[1] many = {{9}}>
            {{
                picked = NonZero(x)
                index = Squeeze(picked, zero)
                others = NonZero(y)
                rest = Squeeze(others, zero)
                {end}
            }}"
        );
        let refused = config(&model).compile_models().err().map(|d| d.to_string());
        let said = refused.unwrap_or_else(|| panic!("`{end}` is not refused"));
        assert!(said.contains(why) && said.contains("help"), "{end}: {said}");
    }
}

/// A loop that its condition ends gives at most a row for each of its iterations. Expected values are ONNX Runtime's.
#[test]
fn a_loop_gives_as_many_rows_as_it_ran() {
    let mut arena = doubling::Arena::new();
    let mut model = doubling::Model::new(&mut arena);
    for (x, limit, expected) in [
        ([1.0, 0.5], 6.0, &[[-2.0, -1.0], [-4.0, -2.0], [-8.0, -4.0]][..]),
        ([9.0, 1.0], 0.0, &[[-18.0, -2.0]]),
        ([1.0, 2.0], 100.0, &[[-2.0, -4.0], [-4.0, -8.0], [-8.0, -16.0], [-16.0, -32.0], [-32.0, -64.0]]),
    ] {
        let marks = [0.0, 0.0, 0.0, 0.0, 0.0, 3.0];
        let out = model.run(doubling::Inputs { x: &x, limit: &[limit], marks: &marks });
        // Indices beyond the length are no fault.
        let out = out.expect("every index of the run is there");
        assert_eq!(*out.found, [0.25]);
        assert_eq!(*out.rows, *expected);
        assert_eq!(*out.extents, [expected.len() as i64, 2]);
        assert_eq!(Some(out.last.map(|v| -v)), expected.last().copied());
    }
}
