//! [GroupQueryAttention](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md) of
//! `com.microsoft`: causal attention of groups of query heads to a cache of keys and values, into which the new ones
//! are written first.
//!
//! `total_sequence_length` decides the cache's length, so it must be known; the sequences' own lengths (`seqlens_k`)
//! may come at run time. What the cache holds behind a sequence's end is what it held before. Refused: quantized or
//! windowed caches, padded chunks (`query_seqlens`), norms within the operator, `qk_output`.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::{DType, Tensor};
use crate::onnx::{AttrReader, NodeView};

/// Operands: queries `[batch, length, heads·size]` (keys and values behind them where these are absent), keys, values,
/// past keys and values, lengths less one, the longest length, the tables of cosines and sines, positions, a bias of
/// the scores, and a sink per head.
pub struct GroupQueryAttention;

/// Extents of a node.
struct Sizes {
    batch: usize,
    len: usize,
    heads: usize,
    kv_heads: usize,
    size: usize,
    /// Past keys that are given.
    past: usize,
    /// Keys of the cache after this call.
    keys: usize,
    /// The whole sequence comes at once, so nothing is behind it.
    first: bool,
    packed: bool,
}

fn count(attrs: &mut AttrReader<'_>, name: &str) -> Result<usize, OpError> {
    let n = AttrReader::required(name, attrs.int(name)?)?;
    usize::try_from(n).ok().filter(|&n| n > 0).ok_or_else(|| OpError::invalid(format!("`{name}` is {n}")))
}

impl Sizes {
    fn of(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>) -> Result<Self, OpError> {
        let (heads, kv_heads) = (count(attrs, "num_heads")?, count(attrs, "kv_num_heads")?);
        let q = inputs.required(0)?;
        expect_float(q.dtype)?;
        let &[batch, len, hidden] = q.shape.dims() else {
            return Err(OpError::invalid(format!("queries of shape {}", q.shape)));
        };
        let packed = inputs.get(1).is_none();
        let of = if packed { kv_heads.saturating_mul(2).saturating_add(heads) } else { heads };
        let size = hidden / of;
        let fits = |i: usize| {
            inputs
                .get(i)
                .is_some_and(|x| x.shape.dims() == [batch, len, kv_heads * size] && x.dtype == q.dtype)
        };
        let whole = packed || fits(1) && fits(2);
        if size == 0 || hidden % of != 0 || heads % kv_heads != 0 || !whole {
            return Err(OpError::invalid(format!("queries of shape {} for {heads} heads", q.shape)));
        }
        let past = match (inputs.get(3), inputs.get(4)) {
            (None, None) => 0,
            (Some(k), Some(v)) if k.shape == v.shape => match *k.shape.dims() {
                [b, h, past, s] if (b, h, s) == (batch, kv_heads, size) && k.dtype == q.dtype => past,
                _ => return Err(OpError::invalid(format!("a past of shape {}", k.shape))),
            },
            _ => return Err(OpError::invalid("past keys and values of different shapes")),
        };
        let total = inputs.known_ints(6, "total_sequence_length")?.unwrap_or_default();
        let total = match *total {
            [total] => usize::try_from(total).unwrap_or(0),
            _ => 0,
        };
        if total < len {
            return Err(OpError::invalid(format!("a `total_sequence_length` of {total} for {len} queries")));
        }
        let keys = past.max(total);
        Ok(Sizes { batch, len, heads, kv_heads, size, past, keys, first: total == len, packed })
    }
}

impl Composite for GroupQueryAttention {
    const NAMES: &'static [OnnxName] =
        &[OnnxName { domain: "com.microsoft", op_type: "GroupQueryAttention", since: 1 }];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        refuse(attrs, inputs)?;
        let z = Sizes::of(attrs, inputs)?;
        let dtype = inputs.required(0)?.dtype;
        let mut s = Script::new(&[
            "q",
            "k",
            "v",
            "past_k",
            "past_v",
            "lengths",
            "total",
            "cos",
            "sin",
            "positions",
            "bias",
            "sink",
        ]);
        let [mut q, mut k, v] = projections(&mut s, &z);
        // Where each sequence's new elements begin.
        let start = match z.first {
            true => s.ints(&vec![0; z.batch]),
            false => {
                let wide = s.cast("lengths", DType::I64);
                let wide = s.reshape(&wide, &[z.batch]);
                let back = s.ints(&[1 - z.len as i64]);
                s.op("Add", &[&wide, &back])
            }
        };
        let at = queries_at(&mut s, &z, &start);
        let interleaved = attrs.int_or("rotary_interleaved", 0)?;
        if attrs.int_or("do_rotary", 0)? != 0 {
            let cos = inputs.required(7)?;
            inputs.required(8)?;
            let half = cos.shape.dims().last().copied().unwrap_or(0);
            let dim = if half * 2 == z.size { 0 } else { half * 2 };
            let places = match inputs.get(9).filter(|_| !z.first) {
                Some(_) => "positions".to_owned(),
                None => s.reshape(&at, &[z.batch, z.len]),
            };
            let op = format!("RotaryEmbedding <interleaved = {interleaved}, rotary_embedding_dim = {dim}>");
            for x in [&mut q, &mut k] {
                *x = s.op(&op, &[x, "cos", "sin", &places]);
            }
        }
        let present_k = cache(&mut s, &z, dtype, &k, "past_k", &start)?;
        let present_v = cache(&mut s, &z, dtype, &v, "past_v", &start)?;

        let allowed = allowed(&mut s, &z, attrs, &at, &start)?;
        let smooth = attrs.int_or("smooth_softmax", 0)? == 1;
        let (mut keys, mut values) = (present_k.clone(), present_v.clone());
        let mask = if inputs.get(10).is_none() && inputs.get(11).is_none() && !smooth {
            allowed
        } else {
            let mut mask = bias(&mut s, &z, inputs, dtype, &allowed)?;
            if inputs.get(11).is_some() || smooth {
                // A key of zeros with the value zero, whose score is the sink.
                let zeros =
                    |n| super::typed::from_floats(dtype, [z.batch, z.kv_heads, 1, z.size], vec![0.0; n]);
                let zeros = s.tensor(zeros(z.batch * z.kv_heads * z.size)?);
                keys = s.op("Concat <axis = 2>", &[&keys, &zeros]);
                values = s.op("Concat <axis = 2>", &[&values, &zeros]);
                let sink = match inputs.get(11) {
                    Some(_) => s.reshape("sink", &[1, z.heads, 1, 1]),
                    None => s.scalar(dtype, 0.0)?,
                };
                let shape = |last: usize| [z.batch, z.heads, z.len, last].map(|d| d as i64);
                let [wide, narrow] = [s.ints(&shape(z.keys)), s.ints(&shape(1))];
                mask = s.op("Expand", &[&mask, &wide]);
                let sink = s.op("Expand", &[&sink, &narrow]);
                mask = s.op("Concat <axis = 3>", &[&mask, &sink]);
            }
            mask
        };
        let scale = attrs.float_or("scale", 0.0)?;
        let scale = if scale == 0.0 { 1.0 / (z.size as f32).sqrt() } else { scale };
        let softcap = attrs.float_or("softcap", 0.0)?;
        let op = format!("Attention <scale = {scale:?}, softcap = {softcap:?}>");
        let y = s.op(&op, &[&q, &keys, &values, &mask]);
        let y = s.op("Transpose <perm = [0, 2, 1, 3]>", &[&y]);
        let y = s.reshape(&y, &[z.batch, z.len, z.heads * z.size]);
        s.finish(&[&y, &present_k, &present_v])
    }
}

/// What is not done.
fn refuse(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>) -> Result<(), OpError> {
    for name in ["k_quant_type", "v_quant_type"] {
        if attrs.text(name)?.is_some_and(|t| t != "NONE") {
            return Err(OpError::unsupported("a quantized cache of keys and values"));
        }
    }
    attrs.ignore("kv_cache_bit_width");
    if attrs.int_or("sliding_window_cache", 0)? != 0 {
        return Err(OpError::unsupported("a cache that holds a window"));
    }
    if attrs.int_or("qk_output", 0)? != 0 {
        return Err(OpError::unsupported("scores as a result"));
    }
    if inputs.get(16).is_some() {
        return Err(OpError::unsupported("padded chunks, `query_seqlens`"));
    }
    if inputs.get(14).is_some() || inputs.get(15).is_some() {
        return Err(OpError::unsupported("norms of queries and keys within the operator"));
    }
    for name in ["qk_norm_epsilon", "q_norm_epsilon", "k_norm_epsilon"] {
        attrs.ignore(name);
    }
    inputs.required(5).map(drop)
}

/// Queries, keys and values, `[batch, heads, length, size]`.
fn projections(s: &mut Script, z: &Sizes) -> [String; 3] {
    let names = if z.packed {
        let sizes = [z.heads, z.kv_heads, z.kv_heads].map(|h| (h * z.size) as i64);
        let sizes = s.ints(&sizes);
        s.ops("Split <axis = -1>", &["q", &sizes], 3)
    } else {
        ["q", "k", "v"].map(str::to_owned).to_vec()
    };
    let heads = [z.heads, z.kv_heads, z.kv_heads];
    let mut out = [const { String::new() }; 3];
    for ((out, name), heads) in out.iter_mut().zip(&names).zip(heads) {
        let split = s.reshape(name, &[z.batch, z.len, heads, z.size]);
        *out = s.op("Transpose <perm = [0, 2, 1, 3]>", &[&split]);
    }
    out
}

/// Positions of the queries, `[batch, 1, length, 1]`.
fn queries_at(s: &mut Script, z: &Sizes, start: &str) -> String {
    let start = s.reshape(start, &[z.batch, 1, 1, 1]);
    let steps = s.tensor(Tensor::from_fn([1, 1, z.len, 1], |i| i as i64));
    s.op("Add", &[&start, &steps])
}

/// The cache with the new elements in it.
fn cache(
    s: &mut Script,
    z: &Sizes,
    dtype: DType,
    new: &str,
    past: &str,
    start: &str,
) -> Result<String, OpError> {
    if z.first && z.len == z.keys {
        return Ok(new.to_owned());
    }
    let more = z.keys - z.past;
    let mut old = past.to_owned();
    if more > 0 {
        let shape = [z.batch, z.kv_heads, more, z.size];
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= 1 << 26);
        let elements = elements.ok_or_else(|| OpError::Limit(format!("a cache of {} keys", z.keys)))?;
        let zeros = s.tensor(super::typed::from_floats(dtype, shape, vec![0.0; elements])?);
        old = if z.past == 0 { zeros } else { s.op("Concat <axis = 2>", &[past, &zeros]) };
    }
    Ok(s.op("TensorScatter <axis = -2>", &[&old, new, start]))
}

/// Which keys each query sees, `bool[batch, 1, length, keys]`.
fn allowed(
    s: &mut Script,
    z: &Sizes,
    attrs: &mut AttrReader<'_>,
    at: &str,
    start: &str,
) -> Result<String, OpError> {
    let window = attrs.int_or("local_window_size", -1)?;
    let keys = s.tensor(Tensor::from_fn([1, 1, 1, z.keys], |i| i as i64));
    if attrs.int_or("causal", 1)? == 0 {
        if window > 0 {
            return Err(OpError::invalid("a window without causality"));
        }
        let lengths = if z.first { "lengths".to_owned() } else { start.to_owned() };
        let end = s.cast(&lengths, DType::I64);
        let end = s.reshape(&end, &[z.batch, 1, 1, 1]);
        let more = s.ints(&[if z.first { 1 } else { z.len as i64 }]);
        let end = s.op("Add", &[&end, &more]);
        let seen = s.op("Less", &[&keys, &end]);
        let shape = s.ints(&[z.batch, 1, z.len, z.keys].map(|d| d as i64));
        return Ok(s.op("Expand", &[&seen, &shape]));
    }
    let seen = s.op("LessOrEqual", &[&keys, at]);
    if window <= 0 {
        return Ok(seen);
    }
    let width = s.ints(&[window]);
    let from = s.op("Sub", &[at, &width]);
    let near = s.op("Greater", &[&keys, &from]);
    Ok(s.op("And", &[&seen, &near]))
}

/// What is added to the scores: the given bias where a query sees the key.
fn bias(
    s: &mut Script,
    z: &Sizes,
    inputs: &Inputs<'_>,
    dtype: DType,
    allowed: &str,
) -> Result<String, OpError> {
    let below = s.scalar(dtype, f64::NEG_INFINITY)?;
    let given = match inputs.get(10) {
        None => s.scalar(dtype, 0.0)?,
        Some(bias) => match *bias.shape.dims() {
            [_, _, len, keys] if len == z.len && keys == z.keys => "bias".to_owned(),
            [_, _, len, keys] if len == z.len && keys < z.keys => {
                let pads = s.ints(&[0, 0, 0, 0, 0, 0, 0, (z.keys - keys) as i64]);
                s.op("Pad", &["bias", &pads])
            }
            _ => return Err(OpError::invalid(format!("a bias of shape {}", bias.shape))),
        },
    };
    Ok(s.op("Where", &[allowed, &given, &below]))
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run_text};
    use crate::ir::{DType, Tensor};

    // Expectations are ONNX Runtime's.

    /// `(i·step mod 11)/8 − ½`, as a constant of the textual syntax.
    fn numbers(name: &str, step: usize, shape: &[usize]) -> String {
        let count: usize = shape.iter().product();
        let list: Vec<String> =
            (0..count).map(|i| format!("{}", ((i * step) % 11) as f64 / 8.0 - 0.5)).collect();
        format!("float{shape:?} {name} = {{{}}}", list.join(", "))
    }

    fn graph(constants: &[String], op: &str, operands: &str) -> Vec<Tensor> {
        let all = constants.join(", ");
        let graph = format!(
            "g () => (y, k2, v2) <{all}> {{ y, k2, v2 = com.microsoft.GroupQueryAttention <{op}> ({operands}) }}"
        );
        run_text(&graph).unwrap()
    }

    #[test]
    fn a_token_sees_the_cache_a_bias_and_a_sink() {
        let y = graph(
            &[
                numbers("q", 7, &[1, 1, 16]),
                numbers("k", 5, &[1, 1, 8]),
                numbers("v", 3, &[1, 1, 8]),
                numbers("pk", 4, &[1, 1, 2, 8]),
                numbers("pv", 6, &[1, 1, 2, 8]),
                numbers("bias", 2, &[1, 2, 1, 3]),
                "int32[1] lengths = {2}, int32[1] total = {3}, float[2] sink = {0.25, -1.0}".to_owned(),
            ],
            "num_heads = 2, kv_num_heads = 1, softcap = 1.5",
            "q, k, v, pk, pv, lengths, total, , , , bias, sink",
        );
        let expected = [
            -0.250112, 0.101009, 0.049829, 0.203616, -0.133072, 0.020715, 0.16687, 0.320656, -0.350169,
            0.177948, 0.060267, 0.260718, -0.17413, 0.02632, 0.236307, 0.436757,
        ];
        close(&y[0], &expected);
        let cache = [
            -0.5, 0.0, 0.5, -0.375, 0.125, 0.625, -0.25, 0.25, 0.75, -0.125, 0.375, -0.5, 0.0, 0.5, -0.375,
            0.125, -0.5, 0.125, 0.75, 0.0, 0.625, -0.125, 0.5, -0.25,
        ];
        assert_eq!((y[1].dtype(), y[1].to_f64_vec().unwrap().as_slice()), (DType::F32, &cache[..]));
    }

    #[test]
    fn a_prompt_is_rotated_and_sees_a_window() {
        let y = graph(
            &[
                numbers("q", 7, &[1, 3, 16]),
                numbers("k", 5, &[1, 3, 16]),
                numbers("v", 3, &[1, 3, 16]),
                numbers("cos", 9, &[4, 8]),
                numbers("sin", 2, &[4, 8]),
                "int32[1] lengths = {2}, int32[1] total = {3}".to_owned(),
            ],
            "num_heads = 1, kv_num_heads = 1, do_rotary = 1, local_window_size = 2",
            "q, k, v, , , lengths, total, cos, sin",
        );
        let expected = [
            -0.5, -0.125, 0.25, 0.625, -0.375, 0.0, 0.375, 0.75, -0.25, 0.125, 0.5, -0.5, -0.125, 0.25,
            0.625, -0.375, -0.246453, 0.128547, 0.503547, 0.181292, -0.121453, 0.253547, -0.068708, 0.306292,
            0.003547, 0.378547, 0.056292, -0.246453, 0.128547, 0.503547, 0.181292, -0.121453, 0.257132,
            -0.07498, 0.30002, 0.007132, 0.382132, 0.05002, -0.242868, 0.132132, 0.507132, 0.17502,
            -0.117868, 0.257132, -0.07498, 0.30002, 0.007132, 0.382132,
        ];
        close(&y[0], &expected);
        let rotated = y[1].to_f64_vec().unwrap();
        assert_eq!(rotated[..8], [0.4375, -0.015625, 0.28125, 0.125, -0.140625, -0.515625, 0.375, -0.046875]);
    }
}
