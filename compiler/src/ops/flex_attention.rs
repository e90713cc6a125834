//! [FlexAttention](https://onnx.ai/onnx/operators/onnx_aionnxpreview_FlexAttention.html) of `ai.onnx.preview`.
//! The graphs that change scores and probabilities (`score_mod`, `prob_mod`) become part of the expansion.

use super::cast::dtype_of;
use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::DType;
use crate::onnx::{AttrReader, NodeView};

/// Operands: query `[n, heads, length, size]`, key `[n, kv, elements, size]`, value `[n, kv, elements, …]`.
pub struct FlexAttention;

impl Composite for FlexAttention {
    const NAMES: &'static [OnnxName] =
        &[OnnxName { domain: "ai.onnx.preview", op_type: "FlexAttention", since: 1 }];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let [score_mod, prob_mod] =
            ["score_mod", "prob_mod"].map(|name| attrs.is_given(name).then_some(name));
        let scale = attrs.float("scale")?;
        let (q, k, v) = (inputs.required(0)?, inputs.required(1)?, inputs.required(2)?);
        expect_float(q.dtype)?;
        let wide = match attrs.int("softmax_precision")? {
            Some(code) => {
                dtype_of(code).ok_or_else(|| OpError::unsupported(format!("scores of type {code}")))?
            }
            None if q.dtype == DType::F64 => DType::F64,
            None => DType::F32,
        };
        expect_float(wide)?;
        let bad = || OpError::invalid(format!("operands of shapes {}, {}, {}", q.shape, k.shape, v.shape));
        let (&[n, heads, length, size], &[_, kv, elements, _], &[_, _, _, value]) =
            (q.shape.dims(), k.shape.dims(), v.shape.dims())
        else {
            return Err(bad());
        };
        let fits = k.shape.dims() == [n, kv, elements, size] && v.shape.dims() == [n, kv, elements, value];
        if !fits || kv == 0 || heads % kv != 0 {
            return Err(bad());
        }
        let scale = scale.unwrap_or((1.0 / (size as f64).sqrt()) as f32);
        let mut s = Script::new(&["q", "k", "v"]);
        let root = s.scalar(q.dtype, f64::from(scale.sqrt()))?;
        let [query, key] = ["q", "k"].map(|x| s.op("Mul", &[x, &root]));
        // Heads that share a key lie behind one another: as more rows of one head.
        let shared = s.reshape(&query, &[n, kv, heads / kv * length, size]);
        let key = s.op("Transpose <perm = [0, 1, 3, 2]>", &[&key]);
        let scores = s.op("MatMul", &[&shared, &key]);
        let mut scores = s.cast(&scores, wide);
        let (apart, together) = ([n, heads, length, elements], [n, kv, heads / kv * length, elements]);
        let modified = |s: &mut Script, x: &str, graph: &str| {
            let x = s.reshape(x, &apart);
            let x = s.inline(graph, &x);
            s.reshape(&x, &together)
        };
        if let Some(graph) = score_mod {
            scores = modified(&mut s, &scores, graph);
        }
        let mut shares = s.op("Softmax <axis = -1>", &[&scores]);
        if let Some(graph) = prob_mod {
            shares = modified(&mut s, &shares, graph);
        }
        let values = s.cast("v", wide);
        let y = s.op("MatMul", &[&shares, &values]);
        let y = s.cast(&y, v.dtype);
        let y = s.reshape(&y, &[n, heads, length, value]);
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::f32s;

    #[test]
    fn heads_share_keys() {
        // Scores of 0 and ln 3: shares of a quarter and three quarters.
        let q = f32s(&[1, 2, 1, 1], &[1., 0.]);
        let k = f32s(&[1, 1, 2, 1], &[0., 3f32.ln()]);
        let v = f32s(&[1, 1, 2, 1], &[0., 8.]);
        let run = |q| run("ai.onnx.preview.FlexAttention <scale = 1.0>", &[Some(q), Some(&k), Some(&v)], 1);
        close(&run(&q).unwrap()[0], &[6., 4.]);
        assert!(run(&f32s(&[1, 2, 1, 2], &[1., 0., 0., 0.])).is_err());
    }

    #[test]
    fn graphs_change_scores_and_shares() {
        let (q, k) = (f32s(&[1, 2, 1, 1], &[1., 0.]), f32s(&[1, 1, 2, 1], &[0., 3f32.ln()]));
        let v = f32s(&[1, 1, 2, 1], &[0., 8.]);
        let run = |attrs: &str| {
            let node = format!("ai.onnx.preview.FlexAttention <scale = 1.0, {attrs}>");
            run(&node, &[Some(&q), Some(&k), Some(&v)], 1)
        };
        // Scores of ln 3 more for the second element; then half of each share.
        let scores =
            "score_mod = m (float[1, 2, 1, 2] s) => (t) <float[2] b = {0.0, 1.0986123}> { t = Add(s, b) }";
        let shares = "prob_mod = m (float[1, 2, 1, 2] s) => (t) <float b = {0.5}> { t = Mul(s, b) }";
        close(&run(scores).unwrap()[0], &[7.2, 6.]);
        close(&run(&format!("{scores}, {shares}")).unwrap()[0], &[3.6, 3.]);
        let wrong = "score_mod = m (float[1, 2, 1, 2] s) => (t) { t = ReduceSum(s) }";
        assert!(run(wrong).unwrap_err().to_string().contains("f32[1, 1, 1, 1] of f32[1, 2, 1, 2]"));
        let two = "score_mod = m (float[1, 2, 1, 2] s, float z) => (t) { t = Add(s, z) }";
        assert!(run(two).unwrap_err().to_string().contains("one input"));
    }
}
