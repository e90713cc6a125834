//! Operators of `ai.onnx.ml`, and counts of n-grams.

use super::{Draw, Values};
use edgec::ir::DType::{F32, F64, I32, I64};

/// Numbers as attributes are written.
fn list(d: &mut Draw, n: usize, values: Values) -> String {
    let numbers = d.tensor(F64, &[n], values).to_f64_vec().unwrap_or_default();
    format!("{numbers:?}")
}

pub(super) fn ml(d: &mut Draw) {
    for dtype in [F32, F64, I32, I64] {
        let (rows, width) = (d.random.range(1, 5), d.random.range(2, 20));
        let shape = [rows, width];
        let (offset, scale) = (list(d, width, Values::Any), list(d, width, Values::Positive));
        let x = d.data(dtype, &shape, Values::Any);
        d.node(&format!("ai.onnx.ml.Scaler <offset = {offset}, scale = {scale}>"), dtype, &[&x], 1);

        for norm in ["MAX", "L1", "L2"] {
            let x = d.data(dtype, &shape, Values::Positive);
            d.node(&format!("ai.onnx.ml.Normalizer <norm = \"{norm}\">"), dtype, &[&x], 1);
        }
        let x = d.data(dtype, &shape, Values::Any);
        d.node("ai.onnx.ml.Binarizer <threshold = 0.5>", dtype, &[&x], 1);

        let targets = d.random.range(1, 4);
        let (weights, bias) = (list(d, width * targets, Values::Unit), list(d, targets, Values::Any));
        let x = d.data(dtype, &shape, Values::Any);
        let op = format!(
            "ai.onnx.ml.LinearRegressor <coefficients = {weights}, intercepts = {bias}, targets = {targets}>"
        );
        d.node(&op, dtype, &[&x], 1);

        let classes = d.random.range(2, 4);
        let (weights, bias) = (list(d, width * classes, Values::Unit), list(d, classes, Values::Any));
        let labels: Vec<usize> = (0..classes).map(|c| 3 * c + 1).collect();
        let post = d.random.of(&["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]);
        let x = d.data(dtype, &shape, Values::Any);
        let op = format!(
            "ai.onnx.ml.LinearClassifier <coefficients = {weights}, intercepts = {bias}, classlabels_ints = {labels:?}, \
             post_transform = \"{post}\">"
        );
        d.node(&op, dtype, &[&x], 2);

        let vectors = d.random.range(1, 6);
        for kernel in ["LINEAR", "RBF", "POLY", "SIGMOID"] {
            let (support, weights) = (list(d, width * vectors, Values::Unit), list(d, vectors, Values::Unit));
            let x = d.data(dtype, &shape, Values::Unit);
            let op = format!(
                "ai.onnx.ml.SVMRegressor <kernel_type = \"{kernel}\", kernel_params = [0.125, 0.5, 2.0], n_supports = {vectors}, \
                 support_vectors = {support}, coefficients = {weights}, rho = [0.25]>"
            );
            d.node(&op, dtype, &[&x], 1);
        }
    }
    for dtype in [F32, I64] {
        let x = d.data(dtype, &[3, 4], Values::Any);
        let known = if dtype == F32 {
            "imputed_value_floats = [1.5], replaced_value_float = 0.5"
        } else {
            "imputed_value_int64s = [7], replaced_value_int64 = 3"
        };
        d.node(&format!("ai.onnx.ml.Imputer <{known}>"), dtype, &[&x], 1);
        let x = d.data(dtype, &[3, 6], Values::Any);
        let at = d.tensor(I64, &[4], Values::Whole(0, 5));
        let at = d.either(at);
        d.node("ai.onnx.ml.ArrayFeatureExtractor", dtype, &[&x, &at], 1);
        let x = d.data(dtype, &[5], Values::Whole(0, 4));
        d.node("ai.onnx.ml.OneHotEncoder <cats_int64s = [0, 2, 3], zeros = 1>", dtype, &[&x], 1);
    }
    for dtype in [I32, I64] {
        for mode in ["TF", "IDF", "TFIDF"] {
            let skip = d.random.below(3);
            let x = d.data(dtype, &[2, 12], Values::Whole(1, 5));
            let op = format!(
                "TfIdfVectorizer <mode = \"{mode}\", min_gram_length = 1, max_gram_length = 2, max_skip_count = {skip}, \
                 ngram_counts = [0, 3], ngram_indexes = [0, 2, 1, 3, 4], pool_int64s = [1, 2, 4, 1, 3, 2, 5], \
                 weights = [0.5, 2.0, 1.0, 3.0, 0.25]>"
            );
            d.node(&op, dtype, &[&x], 1);
        }
    }
}
