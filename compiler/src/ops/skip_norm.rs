//! `SkipLayerNormalization`, `SkipSimplifiedLayerNormalization` and `EmbedLayerNormalization` of
//! [`com.microsoft`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md), and
//! `SimplifiedLayerNormalization`, which ONNX Runtime keeps in ONNX's own domain: sums, and the
//! normalisation of their rows.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::{DType, Tensor};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `x`, `skip`, `gamma`, `beta` (not of the simplified forms), `bias`; `x`, `scale`; or word,
/// segment and position tables with their indices, `gamma`, `beta` and a mask.
pub struct SkipNorm;

const fn ms(op_type: &'static str) -> OnnxName {
    OnnxName { domain: "com.microsoft", op_type, since: 1 }
}

/// ONNX Runtime's default for the forms that add.
const EPSILON: f32 = 1e-12;

impl Composite for SkipNorm {
    const NAMES: &'static [OnnxName] = &[
        ms("SkipLayerNormalization"),
        ms("SkipSimplifiedLayerNormalization"),
        ms("EmbedLayerNormalization"),
        OnnxName::onnx("SimplifiedLayerNormalization", 1),
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        match node.op_type {
            "SkipLayerNormalization" => skip(attrs, inputs, true),
            "SkipSimplifiedLayerNormalization" => skip(attrs, inputs, false),
            "EmbedLayerNormalization" => embed(attrs, inputs),
            _ => simplified(attrs, inputs),
        }
    }
}

/// Results: the normalised sum, its mean and inverse deviation, and the sum.
fn skip(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>, full: bool) -> Result<Body, OpError> {
    let epsilon = attrs.float_or("epsilon", EPSILON)?;
    expect_float(inputs.required(0)?.dtype)?;
    let names: &[&str] =
        if full { &["x", "skip", "gamma", "beta", "bias"] } else { &["x", "skip", "gamma", "bias"] };
    let mut s = Script::new(names);
    let mut sum = s.op("Add", &["x", "skip"]);
    if inputs.get(names.len() - 1).is_some() {
        sum = s.op("Add", &[&sum, "bias"]);
    }
    if !full {
        // The statistics are of ONNX Runtime's making and mean nothing here.
        let y = s.op(&format!("RMSNormalization <axis = -1, epsilon = {epsilon:?}>"), &[&sum, "gamma"]);
        return s.finish(&[&y, "", "", &sum]);
    }
    let beta = if inputs.get(3).is_some() { "beta" } else { "" };
    let op = format!("LayerNormalization <axis = -1, epsilon = {epsilon:?}>");
    let results = s.ops(&op, &[&sum, "gamma", beta], 3);
    let mut results: Vec<&str> = results.iter().map(String::as_str).collect();
    results.push(&sum);
    s.finish(&results)
}

/// RMSNormalization under its older name.
fn simplified(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
    let (axis, epsilon) = (attrs.int_or("axis", -1)?, attrs.float_or("epsilon", 1e-5)?);
    let stash = attrs.int_or("stash_type", 1)?;
    expect_float(inputs.required(0)?.dtype)?;
    let mut s = Script::new(&["x", "scale"]);
    let op = format!("RMSNormalization <axis = {axis}, epsilon = {epsilon:?}, stash_type = {stash}>");
    let y = s.op(&op, &["x", "scale"]);
    s.finish(&[&y])
}

/// Results: the normalised sum of embeddings, the number of ones in each row of the mask, and the sum.
fn embed(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
    let epsilon = attrs.float_or("epsilon", EPSILON)?;
    attrs.ignore("mask_index_type");
    let ids = inputs.required(0)?;
    let &[batch, len] = ids.shape.dims() else {
        return Err(OpError::invalid(format!("ids of shape {}", ids.shape)));
    };
    let mut s = Script::new(&[
        "ids",
        "segment_ids",
        "word",
        "position",
        "segment",
        "gamma",
        "beta",
        "mask",
        "position_ids",
    ]);
    let mut sum = s.op("Gather <axis = 0>", &["word", "ids"]);
    let places = if inputs.get(8).is_some() {
        s.op("Gather <axis = 0>", &["position", "position_ids"])
    } else {
        let end = i64::try_from(len).map_err(|_| OpError::Limit(format!("{len} positions")))?;
        let [from, to, axis] = [s.ints(&[0]), s.ints(&[end]), s.ints(&[0])];
        s.op("Slice", &["position", &from, &to, &axis])
    };
    sum = s.op("Add", &[&sum, &places]);
    match (inputs.get(1), inputs.get(4)) {
        (Some(_), Some(_)) => {
            let kinds = s.op("Gather <axis = 0>", &["segment", "segment_ids"]);
            sum = s.op("Add", &[&sum, &kinds]);
        }
        (None, None) => {}
        _ => return Err(OpError::invalid("segments come with their table")),
    }
    let op = format!("LayerNormalization <axis = -1, epsilon = {epsilon:?}>");
    let y = s.op(&op, &[&sum, "gamma", "beta"]);
    let counts = match inputs.get(7) {
        None => s.tensor(Tensor::from_fn::<i32>([batch], |_| 0)),
        Some(mask) => {
            let one = s.tensor(super::typed::from_ints(mask.dtype, crate::ir::Shape::scalar(), [1])?);
            let ones = s.op("Equal", &["mask", &one]);
            let ones = s.cast(&ones, DType::I32);
            let axis = s.ints(&[1]);
            s.op("ReduceSum <keepdims = 0>", &[&ones, &axis])
        }
    };
    s.finish(&[&y, &counts, &sum])
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::f32s;
    use crate::ir::Tensor;

    // Expectations are ONNX Runtime's, for numbers that its script makes, too.

    fn data(shape: &[usize], step: usize) -> Tensor {
        Tensor::from_fn::<f32>(shape, |i| (i * step % 11) as f32 * 0.25 - 1.0)
    }

    fn scales() -> [Tensor; 3] {
        [[1., 2., 3., 4.], [0.1, 0.2, 0.3, 0.4], [1., 0., -1., 0.]].map(|v| f32s(&[4], &v))
    }

    #[test]
    fn sums_are_normalised() {
        let (x, skip, [gamma, beta, bias]) = (data(&[1, 2, 4], 7), data(&[1, 2, 4], 5), scales());
        let all = [&x, &skip, &gamma, &beta, &bias].map(Some);
        let y = run("com.microsoft.SkipLayerNormalization <epsilon = 0.01>", &all, 4).unwrap();
        close(
            &y[0],
            &[
                -1.418_027_8,
                1.388_021_8,
                -0.294_010_9,
                4.888_082_5,
                1.556_714_1,
                -1.985_070_9,
                1.392_535_4,
                -2.513_428,
            ],
        );
        close(&y[1], &[0.4375, 0.75]);
        close(&y[2], &[1.056_019_3, 0.728_357]);
        let sum = [-1.0, 1.0, 0.25, 1.5, 2.75, -0.75, 1.25, -0.25];
        close(&y[3], &sum);
        let y = run("com.microsoft.SkipLayerNormalization", &all[..3], 1).unwrap();
        close(
            &y[0],
            &[
                -1.718_545_3,
                0.793_174_8,
                1.718_545_3,
                2.996_438,
                0.784_464_5,
                -2.353_393_6,
                3.530_090_3,
                -3.137_858,
            ],
        );
        let all = [Some(&x), Some(&skip), Some(&gamma), Some(&bias)];
        let op = "com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 0.01>";
        let y = run(op, &all, 1).unwrap();
        let simple = [
            -0.958_651_2,
            1.917_302_4,
            0.718_988_4,
            5.751_906_9,
            1.757_807_6,
            -0.958_804_1,
            2.397_010_3,
            -0.639_202_8,
        ];
        close(&y[0], &simple);
        let y = run(
            "SimplifiedLayerNormalization <epsilon = 0.01>",
            &[Some(&f32s(&[2, 4], &sum.map(|v| v as f32))), Some(&gamma)],
            1,
        );
        close(&y.unwrap()[0], &simple);
        assert!(run(op, &all, 2).is_err(), "the mean of the simplified form");
    }

    #[test]
    fn embeddings_are_added() {
        let i32s = |v: &[i32]| Tensor::new::<i32>([1, 2], v).unwrap();
        let (ids, segments, mask, at) = (i32s(&[1, 0]), i32s(&[0, 1]), i32s(&[1, 0]), i32s(&[2, 1]));
        let (word, position, segment) = (data(&[3, 4], 7), data(&[3, 4], 5), data(&[2, 4], 3));
        let [gamma, beta, _] = scales();
        let all = [&ids, &segments, &word, &position, &segment, &gamma, &beta, &mask].map(Some);
        let y = run("com.microsoft.EmbedLayerNormalization <epsilon = 0.01>", &all, 3).unwrap();
        close(
            &y[0],
            &[
                -1.092_409,
                -1.094_615_6,
                4.490_466_6,
                2.171_579_4,
                -1.236_306_2,
                -0.690_870_8,
                1.636_306_3,
                5.745_225,
            ],
        );
        assert_eq!(y[1], Tensor::vector(&[1i32]));
        close(&y[2], &[-1.5, -0.5, 3.25, 1.5, -0.5, 0.5, 1.5, 2.5]);
        let some = [
            Some(&ids),
            None,
            Some(&word),
            Some(&position),
            None,
            Some(&gamma),
            Some(&beta),
            None,
            Some(&at),
        ];
        let y = run("com.microsoft.EmbedLayerNormalization", &some, 2).unwrap();
        close(
            &y[0],
            &[
                0.884_464_6,
                -2.153_393_5,
                3.830_090_3,
                -2.737_858,
                -1.241_640_7,
                -0.694_427_2,
                1.641_640_7,
                5.766_562_9,
            ],
        );
        assert_eq!(y[1], Tensor::vector(&[0i32]));
    }
}
