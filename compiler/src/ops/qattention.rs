//! [`QAttention`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QAttention):
//! attention whose projection is a product of 8-bit integers with exact sums.

use super::composite::{Composite, Script};
use super::qlinear_matmul::scalar_or;
use super::{Body, Fact, Inputs, OnnxName, OpError};
use crate::ir::{DType, Tensor};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `x[batch, length, input]`, `w[input, 3·hidden]` (queries, keys, values), bias, `x_scale`, `w_scale`,
/// mask (optional), `x_zero`, `w_zero`, past `[2, batch, heads, past, head]` (optional). Those of `w` may be per
/// column. Results: `[batch, length, hidden]`, and keys and values with those of the past in front.
pub struct QAttention;

/// Extents of one node.
struct Sizes {
    batch: usize,
    len: usize,
    keys: usize,
    heads: usize,
    head: usize,
}

impl Sizes {
    fn of(inputs: &Inputs<'_>, heads: i64) -> Result<Self, OpError> {
        let (x, w) = (inputs.required(0)?, inputs.required(1)?);
        let bad = || OpError::invalid(format!("{heads} heads over {} and {}", x.shape, w.shape));
        let ([batch, len, _], [_, columns]) = (x.shape.dims(), w.shape.dims()) else { return Err(bad()) };
        let heads = usize::try_from(heads).ok().filter(|h| *h > 0).ok_or_else(bad)?;
        let parts = heads.checked_mul(3).filter(|p| columns.is_multiple_of(*p)).ok_or_else(bad)?;
        let past = match inputs.get(8).map(|p| p.shape.dims()) {
            None => 0,
            Some(&[2, _, _, past, _]) => past,
            Some(_) => return Err(OpError::invalid("the past has not the axes `2 batch heads length head`")),
        };
        let keys = past.saturating_add(*len);
        Ok(Sizes { batch: *batch, len: *len, keys, heads, head: columns / parts })
    }
}

impl Composite for QAttention {
    const NAMES: &'static [OnnxName] =
        &[OnnxName { domain: "com.microsoft", op_type: "QAttention", since: 1 }];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let heads = AttrReader::required("num_heads", attrs.int("num_heads")?)?;
        let sizes = Sizes::of(inputs, heads)?;
        let causal = attrs.int_or("unidirectional", 0)? != 0;
        let filter = f64::from(attrs.float_or("mask_filter_value", -10_000.0)?);
        let scale = attrs.float_or("scale", 0.0)?;
        if attrs.int_or("do_rotary", 0)? != 0 || attrs.int_or("past_present_share_buffer", 0)? != 0 {
            return Err(OpError::unsupported("rotation, or a shared past"));
        }
        let mut s =
            Script::new(&["x", "w", "bias", "x_scale", "w_scale", "mask", "x_zero", "w_zero", "past"]);
        let present = |i: usize, name: &'static str| if inputs.get(i).is_some() { name } else { "" };

        let [x_zero, w_zero] = [present(6, "x_zero"), present(7, "w_zero")];
        let sums = s.op("MatMulInteger", &["x", "w", x_zero, w_zero]);
        let floats = s.cast(&sums, inputs.required(3)?.dtype);
        let x_scale = s.reshape("x_scale", &[]);
        let w_scale = scalar_or(&mut s, inputs.required(4)?, "w_scale");
        let step = s.op("Mul", &[&x_scale, &w_scale]);
        let projected = s.op("Mul", &[&floats, &step]);
        let projected = s.op("Add", &[&projected, "bias"]);
        let [q, k, v] = <[String; 3]>::try_from(s.ops("Split <axis = 2, num_outputs = 3>", &[&projected], 3))
            .map_err(|_| OpError::internal("three parts"))?;

        let mask = match inputs.get(5) {
            Some(mask) => additive(&mut s, mask, &sizes, filter)?,
            None => String::new(),
        };
        let mut earlier = [String::new(), String::new()];
        if inputs.get(8).is_some() {
            for (i, part) in earlier.iter_mut().enumerate() {
                let at = s.tensor(Tensor::scalar(i as i64));
                *part = s.op("Gather <axis = 0>", &["past", &at]);
            }
        }
        let scale = if scale == 0.0 { 1.0 / (sizes.head as f64).sqrt() } else { scale.into() };
        let heads = sizes.heads;
        let op = format!(
            "Attention <q_num_heads = {heads}, kv_num_heads = {heads}, is_causal = {}, scale = {:?}>",
            u8::from(causal),
            scale as f32
        );
        let results = s.ops(&op, &[&q, &k, &v, &mask, &earlier[0], &earlier[1]], 3);
        let [y, keys, values] =
            <[String; 3]>::try_from(results).map_err(|_| OpError::internal("three results"))?;
        let shape = [1, sizes.batch, heads, sizes.keys, sizes.head];
        let [keys, values] = [keys, values].map(|each| s.reshape(&each, &shape));
        let present = s.op("Concat <axis = 0>", &[&keys, &values]);
        s.finish(&[&y, &present])
    }
}

/// What is added to the scores, of a shape that broadcasts to `[batch, heads, length, keys]`: 0 where a key is
/// seen, `filter` elsewhere.
fn additive(s: &mut Script, mask: Fact<'_>, sizes: &Sizes, filter: f64) -> Result<String, OpError> {
    let Sizes { batch, len, keys, .. } = *sizes;
    let per_key = |s: &mut Script, name: &str| s.reshape(name, &[batch, 1, 1, 1]);
    let seen = match *mask.shape.dims() {
        // The number of keys, or where they end and then where they start.
        [n] if n == batch || n == batch.saturating_mul(2) => {
            let order = s.tensor(Tensor::from_fn::<i32>([1, 1, 1, keys], |i| i as i32));
            let bounds = s.cast("mask", DType::I32);
            let ends = if n == batch {
                vec![bounds]
            } else {
                s.ops("Split <axis = 0, num_outputs = 2>", &[&bounds], 2)
            };
            let mut seen = String::new();
            for (i, end) in ends.iter().enumerate() {
                let end = per_key(s, end);
                let before = s.op("Less", &[&order, &end]);
                seen = match i {
                    0 => before,
                    _ => {
                        let behind = s.op("Not", &[&before]);
                        s.op("And", &[&seen, &behind])
                    }
                };
            }
            seen
        }
        [b, t] if (b, t) == (batch, keys) => {
            let flags = s.cast("mask", DType::Bool);
            s.reshape(&flags, &[batch, 1, 1, keys])
        }
        [b, l, t] if (b, l, t) == (batch, len, keys) => {
            let flags = s.cast("mask", DType::Bool);
            s.reshape(&flags, &[batch, 1, len, keys])
        }
        _ => {
            let what = format!("a mask of shape {} for {len} queries and {keys} keys", mask.shape);
            return Err(OpError::unsupported(what));
        }
    };
    let [none, filter] = [s.scalar(DType::F32, 0.0)?, s.scalar(DType::F32, filter)?];
    Ok(s.op("Where", &[&seen, &none, &filter]))
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::f32s;
    use crate::ir::Tensor;

    #[test]
    fn keys_that_are_masked_do_not_count() {
        // One head of one feature; the value is the input itself, queries and keys are zero.
        let x = Tensor::new([1, 3, 1], vec![3u8, 5, 11]).unwrap();
        let w = Tensor::new([1, 3], vec![0i8, 0, 2]).unwrap();
        let (bias, half, one) = (f32s(&[3], &[0.0; 3]), Tensor::scalar(0.5f32), Tensor::scalar(1.0f32));
        let (zero, none) = (Tensor::scalar(1u8), Tensor::scalar(0i8));
        let y = |op: &str, mask: Option<&Tensor>| {
            let all =
                [Some(&x), Some(&w), Some(&bias), Some(&half), Some(&one), mask, Some(&zero), Some(&none)];
            run(op, &all, 2).unwrap()
        };
        let op = "com.microsoft.QAttention <num_heads = 1>";
        // Values 2, 4, 10.
        let all = y(op, None);
        close(&all[0], &[16.0 / 3.0; 3]);
        close(&all[1], &[0.0, 0.0, 0.0, 2.0, 4.0, 10.0]);
        close(&y(op, Some(&Tensor::vector(&[2i32])))[0], &[3.0; 3]);
        close(&y(op, Some(&Tensor::vector(&[3i32, 1])))[0], &[7.0; 3]);
        close(&y(op, Some(&Tensor::new([1, 3], vec![1i32, 0, 1]).unwrap()))[0], &[6.0; 3]);
        close(
            &y("com.microsoft.QAttention <num_heads = 1, unidirectional = 1>", None)[0],
            &[2.0, 3.0, 16.0 / 3.0],
        );
        let odd = run("com.microsoft.QAttention <num_heads = 2>", &[&x, &w, &bias, &half, &one].map(Some), 1);
        assert!(odd.is_err());
    }
}
