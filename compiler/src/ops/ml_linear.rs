//! [LinearClassifier](https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html) and
//! [LinearRegressor](https://onnx.ai/onnx/operators/onnx_aionnxml_LinearRegressor.html): a matrix product and what
//! ONNX Runtime makes of its scores.

use super::composite::{Composite, Script};
use super::ml_post::{Labels, Post, both, rows};
use super::tree_ensemble::decide;
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::{DType, Tensor};
use crate::onnx::{AttrReader, NodeView};

/// Operand: rows of features, computed in `f32`. Results: scores, behind labels for the classifier.
pub struct Linear;

impl Composite for Linear {
    const NAMES: &'static [OnnxName] = &[
        OnnxName { domain: "ai.onnx.ml", op_type: "LinearClassifier", since: 1 },
        OnnxName { domain: "ai.onnx.ml", op_type: "LinearRegressor", since: 1 },
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let mut s = Script::new(&["x"]);
        let (x, _, width, dtype) = rows(&mut s, &inputs.required(0)?, "x", false)?;
        let post = Post::read(attrs)?;
        let coefficients = AttrReader::required("coefficients", attrs.floats("coefficients")?)?;
        let intercepts = attrs.floats("intercepts")?.unwrap_or_default();
        let classifier = node.op_type == "LinearClassifier";
        let targets = match (classifier, intercepts.len()) {
            (true, 0) => coefficients.len().checked_div(width).unwrap_or(0),
            (true, n) => n,
            (false, _) => super::walk::extent(attrs.int_or("targets", 1)?)?,
        };
        if targets == 0
            || coefficients.len() != targets.saturating_mul(width)
            || !(intercepts.is_empty() || intercepts.len() == targets)
        {
            return Err(OpError::invalid(format!(
                "{} coefficients and {} intercepts for {targets} scores of {width} features",
                coefficients.len(),
                intercepts.len()
            )));
        }
        let matrix = s.tensor(Tensor::new::<f32>([targets, width], coefficients)?);
        let intercepts = if intercepts.is_empty() { vec![0.0; targets] } else { intercepts };
        let offset = s.tensor(Tensor::vector(&intercepts));
        let scores = s.op("Gemm <transB = 1>", &[&x, &matrix, &offset]);
        if !classifier {
            let y = if targets == 1 {
                post.single(&mut s, &scores, dtype)?
            } else {
                post.rows(&mut s, &scores, dtype)?
            };
            return s.finish(&[&y]);
        }
        // One label set or the other; the table of texts goes into the generated crate.
        let labels = Labels::read(attrs, "classlabels_ints", "classlabels_strings")?;
        attrs.ignore("multi_class");
        if targets > labels.len().max(1) && targets > 1 {
            return Err(OpError::invalid(format!("{targets} scores for {} labels", labels.len())));
        }
        if targets > 1 {
            let at = s.op("ArgMax <axis = 1, keepdims = 0>", &[&scores]);
            let label = labels.pick(&mut s, &at)?;
            let y = post.rows(&mut s, &scores, dtype)?;
            return s.finish(&[&label, &y]);
        }
        if labels.len() != 2 || post == Post::Probit {
            return Err(OpError::unsupported("one score for other than two labels, or its probit"));
        }
        let label = decide(&mut s, &scores, DType::F32, 0.0, &labels)?;
        let y = both(&mut s, &scores, dtype, post, true)?;
        s.finish(&[&label, &y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::{f32s, i64s};

    // Expectations are ONNX Runtime's.

    #[test]
    fn classes_of_one_and_of_several_scores() {
        let x = f32s(&[2, 1], &[0.3, -1.0]);
        let one = "ai.onnx.ml.LinearClassifier <classlabels_ints = [7, 9], coefficients = [0.5], \
                   intercepts = [0.1], post_transform = \"LOGISTIC\">";
        let y = run(one, &[Some(&x)], 2).unwrap();
        assert_eq!(y[0], i64s(&[2], &[9, 7]));
        close(&y[1], &[0.437_823, 0.562_177, 0.598_688, 0.401_312]);
        let three = "ai.onnx.ml.LinearClassifier <classlabels_ints = [7, 8, 9], coefficients = [0.5, -0.4, 0.3], \
                     intercepts = [0.1, 0.2, 0.3], post_transform = \"SOFTMAX_ZERO\">";
        let y = run(three, &[Some(&x)], 2).unwrap();
        assert_eq!(y[0], i64s(&[2], &[9, 8]));
        close(&run(three, &[Some(&f32s(&[1, 1], &[-1.0]))], 2).unwrap()[1], &[0.268_941, 0.731_059, 0.0]);
    }

    #[test]
    fn regression_knows_the_probit_of_a_single_score_only() {
        let x = f32s(&[1, 1], &[0.3]);
        let probit = "ai.onnx.ml.LinearRegressor <coefficients = [0.5], intercepts = [0.1], post_transform = \"PROBIT\">";
        close(&run(probit, &[Some(&x)], 1).unwrap()[0], &[-0.674_574]);
        let logistic = "ai.onnx.ml.LinearRegressor <coefficients = [0.5], post_transform = \"LOGISTIC\">";
        close(&run(logistic, &[Some(&x)], 1).unwrap()[0], &[0.15]);
        assert!(run("ai.onnx.ml.LinearRegressor <coefficients = [0.5, 1.0, 2.0]>", &[Some(&x)], 1).is_err());
    }
}
