//! [NegativeLogLikelihoodLoss](https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html) and
//! [SoftmaxCrossEntropyLoss](https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html): the score of
//! each target's class, weighted and reduced.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::typed::{expect, from_ints};
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::{DType, Shape};
use crate::onnx::{AttrReader, NodeView};

/// Operands: scores `[n, classes, …]`, targets `[n, …]`, weights of the classes (optional). Results: the
/// loss; of SoftmaxCrossEntropyLoss also the logarithms of the probabilities.
pub struct Loss;

impl Composite for Loss {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("NegativeLogLikelihoodLoss", 12),
        OnnxName::onnx("NegativeLogLikelihoodLoss", 13),
        OnnxName::onnx("NegativeLogLikelihoodLoss", 22),
        OnnxName::onnx("SoftmaxCrossEntropyLoss", 12),
        OnnxName::onnx("SoftmaxCrossEntropyLoss", 13),
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let ignored = attrs.int("ignore_index")?;
        let reduction = attrs.text("reduction")?.unwrap_or("mean");
        let (x, t) = (inputs.required(0)?, inputs.required(1)?);
        expect_float(x.dtype)?;
        expect(matches!(t.dtype, DType::I32 | DType::I64), t.dtype)?;
        let fits = match (x.shape.dims(), t.shape.dims()) {
            ([n, classes, rest @ ..], [batch, space @ ..]) => {
                let weights = inputs.get(2).is_none_or(|w| w.shape.dims() == [*classes]);
                n == batch && rest == space && weights
            }
            _ => false,
        };
        if !fits {
            return Err(OpError::invalid(format!("scores {} for targets {}", x.shape, t.shape)));
        }
        let mut s = Script::new(&["x", "target", "weight"]);
        let softmax = node.op_type == "SoftmaxCrossEntropyLoss";
        let scores = if softmax { s.op("LogSoftmax <axis = 1>", &["x"]) } else { "x".to_owned() };
        // Ignored targets may be no class at all: they take class 0, whose loss then does not count.
        let zero = s.scalar(x.dtype, 0.0)?;
        let skip = match ignored {
            Some(index) => {
                let index = s.tensor(from_ints(t.dtype, Shape::scalar(), [index.into()])?);
                Some(s.op("Equal", &["target", &index]))
            }
            None => None,
        };
        let class = match &skip {
            Some(skip) => {
                let first = s.scalar(t.dtype, 0.0)?;
                s.op("Where", &[skip, &first, "target"])
            }
            None => "target".to_owned(),
        };
        let axis = s.ints(&[1]);
        let column = s.op("Unsqueeze", &[&class, &axis]);
        let picked = s.op("GatherElements <axis = 1>", &[&scores, &column]);
        let picked = s.op("Squeeze", &[&picked, &axis]);
        let mut loss = s.op("Neg", &[&picked]);
        let mut weight = inputs.get(2).map(|_| s.op("Gather <axis = 0>", &["weight", &class]));
        if let Some(skip) = &skip {
            loss = s.op("Where", &[skip, &zero, &loss]);
            let one = s.scalar(x.dtype, 1.0)?;
            weight = Some(s.op("Where", &[skip, &zero, &weight.unwrap_or(one)]));
        }
        if let (Some(weight), Some(_)) = (&weight, inputs.get(2)) {
            loss = s.op("Mul", &[&loss, weight]);
        }
        let loss = match reduction {
            "none" => loss,
            "sum" => s.op("ReduceSum <keepdims = 0>", &[&loss]),
            "mean" => match weight {
                Some(weight) => {
                    let [loss, weight] = [loss, weight].map(|v| s.op("ReduceSum <keepdims = 0>", &[&v]));
                    s.op("Div", &[&loss, &weight])
                }
                None => s.op("ReduceMean <keepdims = 0>", &[&loss]),
            },
            other => return Err(OpError::invalid(format!("attribute `reduction` is `{other}`"))),
        };
        if softmax { s.finish(&[&loss, &scores]) } else { s.finish(&[&loss]) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::{f32s, i64s};

    #[test]
    fn ignored_targets_do_not_count() {
        let x = f32s(&[3, 2], &[-1., -2., -3., -4., -5., -6.]);
        let w = f32s(&[2], &[0.5, 2.]);
        let t = i64s(&[3], &[1, -7, 0]);
        let run = |attrs: &str, w| {
            run(&format!("NegativeLogLikelihoodLoss <ignore_index = -7{attrs}>"), &[Some(&x), Some(&t), w], 1)
        };
        close(&run(", reduction = \"none\"", None).unwrap()[0], &[2., 0., 5.]);
        close(&run("", None).unwrap()[0], &[3.5]);
        close(&run(", reduction = \"sum\"", Some(&w)).unwrap()[0], &[4. + 2.5]);
        close(&run("", Some(&w)).unwrap()[0], &[6.5 / 2.5]);
        assert!(run(", reduction = \"max\"", None).is_err());
    }

    #[test]
    fn probabilities_come_from_scores() {
        // Equal scores: each class has half the probability.
        let x = f32s(&[1, 2, 2], &[3., 1., 3., 1.]);
        let t = i64s(&[1, 2], &[0, 1]);
        let y = run("SoftmaxCrossEntropyLoss", &[Some(&x), Some(&t)], 2).unwrap();
        close(&y[0], &[std::f64::consts::LN_2]);
        close(&y[1], &[-std::f64::consts::LN_2; 4]);
        assert!(run("SoftmaxCrossEntropyLoss", &[Some(&x), Some(&i64s(&[2], &[0, 1]))], 1).is_err());
    }
}
