//! `Attention` and `MultiHeadAttention` of
//! [`com.microsoft`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md): a
//! projection or biases, and a mask in one of several forms, before ONNX's Attention.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Fact, Inputs, OnnxName, OpError};
use crate::ir::{DType, Tensor};
use crate::onnx::{AttrReader, NodeView};

/// Operands of Attention: `x[batch, length, input]`, weights `[input, q + k + v]`, bias, mask, past
/// `[2, batch, heads, past, head]`, what is added to the scores; all but the first two optional. Of
/// MultiHeadAttention: query, key, value, bias, mask of keys, what is added to the scores, past keys, past
/// values. Results: `[batch, length, hidden]`, and keys and values with those of the past in front.
pub struct ContribAttention;

/// Extents of one node.
struct Sizes {
    batch: usize,
    len: usize,
    keys: usize,
    heads: usize,
}

/// Attributes of both operators.
struct Settings {
    heads: i64,
    causal: bool,
    filter: f64,
    scale: Option<f32>,
}

impl Settings {
    fn read(attrs: &mut AttrReader<'_>) -> Result<Self, OpError> {
        Ok(Settings {
            heads: AttrReader::required("num_heads", attrs.int("num_heads")?)?,
            causal: attrs.int_or("unidirectional", 0)? != 0,
            filter: f64::from(attrs.float_or("mask_filter_value", -10_000.0)?),
            // Zero stands for the usual scale, as if it were missing.
            scale: attrs.float("scale")?.filter(|s| *s != 0.0),
        })
    }

    /// ONNX's Attention; `y`, keys and values.
    fn attend(&self, s: &mut Script, operands: &[&str]) -> Result<[String; 3], OpError> {
        let scale = self.scale.map(|v| format!(", scale = {v:?}")).unwrap_or_default();
        let op = format!(
            "Attention <q_num_heads = {0}, kv_num_heads = {0}, is_causal = {1}{scale}>",
            self.heads,
            u8::from(self.causal)
        );
        <[String; 3]>::try_from(s.ops(&op, operands, 3)).map_err(|_| OpError::internal("three results"))
    }
}

impl Composite for ContribAttention {
    const NAMES: &'static [OnnxName] = &[
        OnnxName { domain: "com.microsoft", op_type: "Attention", since: 1 },
        OnnxName { domain: "com.microsoft", op_type: "MultiHeadAttention", since: 1 },
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        expect_float(inputs.required(0)?.dtype)?;
        let settings = Settings::read(attrs)?;
        if node.op_type == "Attention" {
            projected(attrs, inputs, &settings)
        } else {
            several(inputs, &settings)
        }
    }
}

fn heads(settings: &Settings) -> Result<usize, OpError> {
    let heads = usize::try_from(settings.heads).ok().filter(|h| *h > 0);
    heads.ok_or_else(|| OpError::invalid(format!("{} heads", settings.heads)))
}

/// One operand that is projected to queries, keys and values.
fn projected(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>, settings: &Settings) -> Result<Body, OpError> {
    let shared = attrs.int_or("past_present_share_buffer", 0)? != 0 || inputs.get(6).is_some();
    if attrs.int_or("do_rotary", 0)? != 0 || shared {
        return Err(OpError::unsupported("rotation, or a shared past"));
    }
    let parts = attrs.ints("qkv_hidden_sizes")?.unwrap_or_default();
    let (x, w) = (inputs.required(0)?, inputs.required(1)?);
    let (&[batch, len, _], &[_, columns]) = (x.shape.dims(), w.shape.dims()) else {
        return Err(OpError::invalid(format!("operands of shapes {} and {}", x.shape, w.shape)));
    };
    let parts = match parts.as_slice() {
        [] => [columns / 3; 3].map(|n| n as i64).to_vec(),
        parts => parts.to_vec(),
    };
    if parts.len() != 3
        || parts.iter().try_fold(0i64, |a, &b| a.checked_add(b)) != i64::try_from(columns).ok()
    {
        return Err(OpError::invalid(format!("{columns} columns are not parts of {parts:?}")));
    }
    let past = match inputs.get(4).map(|p| p.shape.dims()) {
        None => 0,
        Some(&[2, _, _, past, _]) => past,
        Some(_) => return Err(OpError::invalid("the past has not the axes `2 batch heads length head`")),
    };
    let sizes = Sizes { batch, len, keys: past.saturating_add(len), heads: heads(settings)? };
    let mut s = Script::new(&["x", "w", "bias", "mask", "past", "added"]);
    let mut all = s.op("MatMul", &["x", "w"]);
    if inputs.get(2).is_some() {
        all = s.op("Add", &[&all, "bias"]);
    }
    let lengths = s.ints(&parts);
    let each = s.ops("Split <axis = 2>", &[&all, &lengths], 3);
    let mask = bias(&mut s, &sizes, settings.filter, x.dtype, inputs.get(3), inputs.get(5))?;
    let mut earlier = [String::new(), String::new()];
    if inputs.get(4).is_some() {
        for (i, part) in earlier.iter_mut().enumerate() {
            let at = s.tensor(Tensor::scalar(i as i64));
            *part = s.op("Gather <axis = 0>", &["past", &at]);
        }
    }
    let [q, k, v] = <[String; 3]>::try_from(each).map_err(|_| OpError::internal("three parts"))?;
    let [y, keys, values] = settings.attend(&mut s, &[&q, &k, &v, &mask, &earlier[0], &earlier[1]])?;
    // Keys and values lie behind one another where their heads are of one size.
    if parts.get(1) != parts.get(2) || inputs.outputs() < 2 {
        return s.finish(&[&y]);
    }
    let head = usize::try_from(parts.get(1).copied().unwrap_or(0)).unwrap_or(0) / sizes.heads;
    let shape = [1, batch, sizes.heads, sizes.keys, head];
    let [keys, values] = [keys, values].map(|each| s.reshape(&each, &shape));
    let present = s.op("Concat <axis = 0>", &[&keys, &values]);
    s.finish(&[&y, &present])
}

/// Queries, keys and values that are projected already.
fn several(inputs: &Inputs<'_>, settings: &Settings) -> Result<Body, OpError> {
    if inputs.get(8).is_some() || inputs.get(9).is_some() {
        return Err(OpError::unsupported("a shared past"));
    }
    let q = inputs.required(0)?;
    let (Some(key), Some(value)) = (inputs.get(1), inputs.get(2)) else {
        return Err(OpError::unsupported("packed queries, keys and values"));
    };
    let &[batch, len, hidden] = q.shape.dims() else {
        return Err(OpError::unsupported(format!("a query of shape {}", q.shape)));
    };
    let heads = heads(settings)?;
    let past = match inputs.get(6).map(|p| p.shape.dims()) {
        None => 0,
        Some(&[_, _, past, _]) => past,
        Some(_) => return Err(OpError::invalid("past keys have not the axes `batch heads length head`")),
    };
    let mut s = Script::new(&["q", "k", "v", "bias", "mask", "added", "past_key", "past_value"]);
    let (fresh, wide) = match *key.shape.dims() {
        [_, fresh, _] => (fresh, false),
        [_, _, fresh, _] => (fresh, true),
        _ => return Err(OpError::unsupported(format!("a key of shape {}", key.shape))),
    };
    let sizes = Sizes { batch, len, keys: past.saturating_add(fresh), heads };
    let mut operands = ["q", "k", "v"].map(str::to_owned);
    if let Some(bias) = inputs.get(3) {
        if wide || value.shape.rank() != 3 {
            return Err(OpError::unsupported("biases of keys by head"));
        }
        let v_hidden = value.shape.dims().last().copied().unwrap_or(0);
        let parts = [hidden, hidden, v_hidden].map(|n| n as i64);
        if bias.shape.elements() != hidden.saturating_mul(2).saturating_add(v_hidden) {
            return Err(OpError::invalid(format!("a bias of shape {}", bias.shape)));
        }
        let lengths = s.ints(&parts);
        let each = s.ops("Split <axis = 0>", &["bias", &lengths], 3);
        for (operand, bias) in operands.iter_mut().zip(&each) {
            *operand = s.op("Add", &[operand, bias]);
        }
    }
    let [mut query, k, v] = operands;
    if wide {
        // ONNX's Attention takes all three by head, or none.
        let head = hidden.checked_div(heads).unwrap_or(0);
        let split = s.reshape(&query, &[batch, len, heads, head]);
        query = s.op("Transpose <perm = [0, 2, 1, 3]>", &[&split]);
    }
    let mask = bias(&mut s, &sizes, settings.filter, q.dtype, inputs.get(4), inputs.get(5))?;
    let given = |i: usize, name: &'static str| if inputs.get(i).is_some() { name } else { "" };
    let earlier = [given(6, "past_key"), given(7, "past_value")];
    let [mut y, keys, values] = settings.attend(&mut s, &[&query, &k, &v, &mask, earlier[0], earlier[1]])?;
    if wide {
        let &[.., v_head] = value.shape.dims() else { return Err(OpError::invalid("a scalar value")) };
        let rows = s.op("Transpose <perm = [0, 2, 1, 3]>", &[&y]);
        y = s.reshape(&rows, &[batch, len, heads.saturating_mul(v_head)]);
    }
    s.finish(&[&y, &keys, &values])
}

/// The mask and what is added to the scores, as one operand that broadcasts to `[batch, heads, length, keys]`.
fn bias(
    s: &mut Script,
    sizes: &Sizes,
    filter: f64,
    dtype: DType,
    mask: Option<Fact<'_>>,
    added: Option<Fact<'_>>,
) -> Result<String, OpError> {
    let mut sum = match mask {
        Some(mask) => additive(s, mask, sizes, filter, dtype)?,
        None => String::new(),
    };
    if added.is_some() {
        sum = if sum.is_empty() { "added".to_owned() } else { s.op("Add", &[&sum, "added"]) };
    }
    Ok(sum)
}

/// 0 where a key is seen, `filter` elsewhere. The mask holds the number of keys of each batch, or where they
/// end and then where they start; or a flag for each key, or each query and key.
fn additive(
    s: &mut Script,
    mask: Fact<'_>,
    sizes: &Sizes,
    filter: f64,
    dtype: DType,
) -> Result<String, OpError> {
    let Sizes { batch, len, keys, .. } = *sizes;
    let seen = match *mask.shape.dims() {
        [n] if n == batch || n == batch.saturating_mul(2) => {
            let order = s.tensor(Tensor::from_fn::<i32>([1, 1, 1, keys], |i| i as i32));
            let bounds = s.cast("mask", DType::I32);
            let bounds = s.reshape(&bounds, &[n / batch.max(1), batch, 1, 1, 1]);
            let row = |s: &mut Script, i: i64| {
                let at = s.tensor(Tensor::scalar(i));
                let row = s.op("Gather <axis = 0>", &[&bounds, &at]);
                s.op("Less", &[&order, &row])
            };
            let before_end = row(s, 0);
            if n == batch {
                before_end
            } else {
                let before = row(s, 1);
                let behind = s.op("Not", &[&before]);
                s.op("And", &[&before_end, &behind])
            }
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
    let [none, filter] = [s.scalar(dtype, 0.0)?, s.scalar(dtype, filter)?];
    Ok(s.op("Where", &[&seen, &none, &filter]))
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use crate::ir::Tensor;

    // Expectations are ONNX Runtime's, for numbers that its script makes, too.

    fn data(shape: &[usize], step: usize) -> Tensor {
        Tensor::from_fn::<f32>(shape, |i| (i * step % 11) as f32 * 0.25 - 1.0)
    }

    fn bias(count: usize) -> Tensor {
        Tensor::from_fn::<f32>([count], |i| (i * 3 % 11) as f32 * 0.1 - 1.0)
    }

    fn attention(op: &str, more: &[Option<&Tensor>], outputs: usize) -> Vec<Tensor> {
        let (x, w, b) = (data(&[1, 2, 4], 7), data(&[4, 12], 5), bias(12));
        let mut all = vec![Some(&x), Some(&w), Some(&b)];
        all.extend(more);
        run(&format!("com.microsoft.Attention <num_heads = 2{op}>"), &all, outputs).unwrap()
    }

    #[test]
    fn projections_and_masks() {
        let first = [-3.7375, 1.25, 0.7375, -0.1875];
        let second = [0.155_473_5, -2.163_838_1, 1.237_192, 0.249_730_6];
        let free = [-3.718_744_8, 1.233_553_2, 0.737_500_7, -0.187_499_4];
        let both = |a: [f64; 4], b: [f64; 4]| [a, b].concat();
        close(&attention("", &[], 1)[0], &both(free, second));
        close(&attention(", unidirectional = 1", &[], 1)[0], &both(first, second));
        let ints = |shape: &[usize], v: &[i32]| Tensor::new::<i32>(shape, v).unwrap();
        for mask in [ints(&[1], &[1]), ints(&[1, 2], &[1, 0])] {
            close(&attention("", &[Some(&mask)], 1)[0], &both(first, first));
        }
        let mask = ints(&[1, 2, 2], &[1, 0, 1, 1]);
        let y = attention(", scale = 1.0", &[Some(&mask)], 1);
        close(&y[0], &both(first, [0.277_263_2, -2.270_638_5, 1.237_485_5, 0.249_987_4]));
        let last = [0.325, -2.3125, 1.2375, 0.25];
        close(&attention("", &[Some(&ints(&[2], &[2, 1]))], 1)[0], &both(last, last));
        let added = data(&[1, 2, 2, 2], 3);
        close(
            &attention("", &[None, None, Some(&added)], 1)[0],
            &[
                -3.697_999,
                1.215_360_8,
                0.737_501_6,
                -0.187_498_7,
                0.243_118_5,
                -2.240_696_2,
                1.237_354_5,
                0.249_872_7,
            ],
        );
    }

    #[test]
    fn the_past_comes_first_and_parts_differ() {
        let past = data(&[2, 1, 2, 1, 2], 3);
        let y = attention(", unidirectional = 1", &[None, Some(&past)], 2);
        close(
            &y[0],
            &[
                -3.604_218_7,
                1.194_233_8,
                0.737_505_9,
                -0.186_7,
                -0.023_208_4,
                -1.736_836_6,
                1.197_145_6,
                0.352_500_8,
            ],
        );
        assert_eq!(y[1].shape().dims(), [2, 1, 2, 3, 2]);
        close(
            &y[1],
            &[
                -1.0, -0.25, -3.3375, 1.65, 0.975, -1.6625, 0.5, 1.25, -2.9875, 2.0, 1.2, -1.4375, -0.75,
                0.0, -3.7375, 1.25, 0.325, -2.3125, 0.75, 1.5, 0.7375, -0.1875, 1.2375, 0.25,
            ],
        );
        let (x, w, b) = (data(&[1, 2, 4], 7), data(&[4, 10], 5), bias(10));
        let op = "com.microsoft.Attention <num_heads = 2, qkv_hidden_sizes = [4, 4, 2]>";
        let y = run(op, &[Some(&x), Some(&w), Some(&b)], 1).unwrap();
        close(&y[0], &[1.012_486_8, 0.769_242_4, -2.548_414_5, 0.562_476_2]);
        assert!(run("com.microsoft.Attention <num_heads = 0>", &[Some(&x), Some(&w), Some(&b)], 1).is_err());
    }

    #[test]
    fn several_operands() {
        let (q, k, v, b) = (data(&[1, 2, 4], 7), data(&[1, 3, 4], 5), data(&[1, 3, 4], 3), bias(12));
        let y = |op: &str, more: &[Option<&Tensor>], outputs| {
            let mut all = vec![Some(&q), Some(&k), Some(&v)];
            all.extend(more);
            run(&format!("com.microsoft.MultiHeadAttention <num_heads = 2{op}>"), &all, outputs).unwrap()
        };
        close(
            &y("", &[], 1)[0],
            &[
                -0.906_234_9,
                -0.156_234_9,
                0.678_643_5,
                0.875_991_5,
                -0.684_638_4,
                0.065_361_5,
                0.665_517_4,
                0.923_371_3,
            ],
        );
        close(
            &y("", &[Some(&b)], 1)[0],
            &[
                -1.754_707_9,
                -0.704_708,
                0.506_315_9,
                -0.230_644_9,
                -1.528_091_9,
                -0.478_092,
                0.492_269_7,
                -0.175_397_7,
            ],
        );
        let masked =
            [-0.966_212, -0.216_212, 0.597_819_6, 1.347_819_6, -0.818_607, -0.068_607, 0.592_61, 1.342_609_9];
        let flags = Tensor::new::<i32>([1, 3], vec![1, 1, 0]).unwrap();
        close(&y("", &[None, Some(&flags)], 1)[0], &masked);
        close(&y("", &[None, Some(&Tensor::vector(&[2i32]))], 1)[0], &masked);
        let added = data(&[1, 1, 2, 3], 3);
        close(
            &y(", scale = 1.0", &[None, None, Some(&added)], 1)[0],
            &[
                -0.853_882_8,
                -0.103_882_8,
                0.770_779_3,
                0.487_448_8,
                -0.737_525_5,
                0.012_474_5,
                0.542_510_6,
                1.136_638_2,
            ],
        );
        let past = [data(&[1, 2, 1, 2], 7), data(&[1, 2, 1, 2], 5)];
        let found = y("", &[None, None, None, Some(&past[0]), Some(&past[1])], 3);
        close(
            &found[0],
            &[
                -0.952_701_5,
                0.045_080_4,
                1.306_88,
                0.205_965_9,
                -0.721_723_5,
                0.087_074_1,
                0.770_226_2,
                0.807_508_8,
            ],
        );
        close(
            &found[1],
            &[-1.0, 0.75, -1.0, 0.25, 1.25, -0.25, 0.75, -0.75, -0.25, 1.5, 1.5, 0.0, 1.0, -0.5, 0.5, -1.0],
        );
    }

    #[test]
    fn keys_by_head() {
        let (q, k, v) = (data(&[1, 2, 4], 7), data(&[1, 2, 3, 2], 7), data(&[1, 2, 3, 2], 5));
        let y = run("com.microsoft.MultiHeadAttention <num_heads = 2>", &[Some(&q), Some(&k), Some(&v)], 1);
        close(
            &y.unwrap()[0],
            &[
                0.261_301_3,
                0.099_984_1,
                0.787_264_5,
                -0.712_735_5,
                0.819_331_6,
                -0.088_499_3,
                0.875_713_1,
                -0.624_286_8,
            ],
        );
        assert!(run("com.microsoft.MultiHeadAttention <num_heads = 2>", &[Some(&q)], 1).is_err());
    }
}
