//! [Attention](https://onnx.ai/onnx/operators/onnx__Attention.html): `softmax(Q·Kᵀ + bias)·V`, as products and a
//! softmax. Grouped queries of one key head lie together, so that keys and values are never repeated.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Fact, Inputs, OnnxName, OpError};
use crate::ir::DType;
use crate::onnx::{AttrReader, NodeView, dtype_from_code};

/// Operands: `Q`, `K`, `V`, `attn_mask`, `past_key`, `past_value`, `nonpad_kv_seqlen`, the last four optional.
/// Results: `Y`, `present_key`, `present_value`, `qk_matmul_output`.
pub struct Attention;

/// Extents of one node.
struct Sizes {
    batch: usize,
    q_heads: usize,
    kv_heads: usize,
    q_len: usize,
    /// Keys that come in this call, and those before them.
    kv_len: usize,
    past: usize,
    head: usize,
    v_head: usize,
}

impl Sizes {
    fn of(inputs: &Inputs<'_>, q_heads: i64, kv_heads: i64) -> Result<Self, OpError> {
        let [q, k, v] = [inputs.required(0)?, inputs.required(1)?, inputs.required(2)?];
        let split = |x: &Fact<'_>, heads: i64| match *x.shape.dims() {
            [b, h, s, d] => Ok((b, h, s, d)),
            [b, s, hidden] => {
                let heads = usize::try_from(heads).ok().filter(|&h| h > 0 && hidden % h == 0);
                let heads = heads.ok_or_else(|| {
                    OpError::invalid(format!("a hidden size of {hidden} does not divide into the heads"))
                })?;
                Ok((b, heads, s, hidden / heads))
            }
            _ => Err(OpError::invalid(format!("an operand of shape {}", x.shape))),
        };
        let (batch, q_heads, q_len, head) = split(&q, q_heads)?;
        let (_, kv_heads_k, kv_len, k_head) = split(&k, kv_heads)?;
        let (_, kv_heads_v, v_len, v_head) = split(&v, kv_heads)?;
        let past = match inputs.get(4) {
            None => 0,
            Some(past) => match *past.shape.dims() {
                [_, _, past, _] => past,
                _ => return Err(OpError::invalid(format!("a past of shape {}", past.shape))),
            },
        };
        let fits = kv_heads_k == kv_heads_v && k_head == head && v_len == kv_len;
        if !fits || kv_heads_k == 0 || q_heads % kv_heads_k != 0 || head == 0 {
            let message = format!("operands of shapes {}, {}, {} do not fit", q.shape, k.shape, v.shape);
            return Err(OpError::invalid(message));
        }
        Ok(Sizes { batch, q_heads, kv_heads: kv_heads_k, q_len, kv_len, past, head, v_head })
    }

    fn keys(&self) -> usize {
        self.past.saturating_add(self.kv_len)
    }
}

/// Window of keys that a query sees around its own position; negative sides are open.
#[derive(Clone, Copy)]
struct Window {
    left: i64,
    right: i64,
}

impl Window {
    fn sees(self, key_behind_query: i64) -> bool {
        (self.left < 0 || -key_behind_query <= self.left)
            && (self.right < 0 || key_behind_query <= self.right)
    }

    fn open(self) -> bool {
        self.left < 0 && self.right < 0
    }
}

/// Largest number of elements of a mask that is made at compile time.
const MAX_MASK: usize = 1 << 26;

/// `[q, keys]` of `value(key position − query position)`.
fn table(sizes: &Sizes, value: impl Fn(i64) -> f64) -> Result<Vec<f64>, OpError> {
    let (q, keys) = (sizes.q_len, sizes.keys());
    match q.checked_mul(keys) {
        Some(n) if n <= MAX_MASK => {
            Ok((0..n).map(|i| value((i % keys) as i64 - (i / keys) as i64)).collect())
        }
        _ => Err(OpError::Limit(format!("attention of {q} queries to {keys} keys is too large"))),
    }
}

impl Composite for Attention {
    const NAMES: &'static [OnnxName] =
        &[OnnxName::onnx("Attention", 23), OnnxName::onnx("Attention", 24), OnnxName::onnx("Attention", 25)];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let sizes = Sizes::of(inputs, attrs.int_or("q_num_heads", 0)?, attrs.int_or("kv_num_heads", 0)?)?;
        let causal = attrs.int_or("is_causal", 0)? != 0;
        let scale = attrs.float("scale")?.map_or(1.0 / (sizes.head as f64).sqrt(), f64::from);
        let softcap = f64::from(attrs.float_or("softcap", 0.0)?);
        let precision = attrs.int_or("softmax_precision", 0)?;
        let mode = attrs.int_or("qk_matmul_output_mode", 0)?;
        let mut window = Window { left: -1, right: -1 };
        if node.opset >= 25 {
            window.left = attrs.int_or("left_window_size", -1)?;
            window.right = attrs.int_or("right_window_size", -1)?;
        }
        let [q, v] = [inputs.required(0)?, inputs.required(2)?];
        expect_float(q.dtype)?;
        let planar = q.shape.rank() == 3;
        let mut s = Script::new(&["q", "k", "v", "mask", "past_key", "past_value", "nonpad"]);

        let heads = |s: &mut Script, x: &str, n: usize, len: usize, head: usize| {
            if !planar {
                return x.to_owned();
            }
            let split = s.reshape(x, &[sizes.batch, len, n, head]);
            s.op("Transpose <perm = [0, 2, 1, 3]>", &[&split])
        };
        let query = heads(&mut s, "q", sizes.q_heads, sizes.q_len, sizes.head);
        let mut key = heads(&mut s, "k", sizes.kv_heads, sizes.kv_len, sizes.head);
        let mut value = heads(&mut s, "v", sizes.kv_heads, sizes.kv_len, sizes.v_head);
        if inputs.get(4).is_some() {
            key = s.op("Concat <axis = 2>", &["past_key", &key]);
        }
        if inputs.get(5).is_some() {
            value = s.op("Concat <axis = 2>", &["past_value", &value]);
        }

        let raw = scores(&mut s, &sizes, q.dtype, &query, &key, scale)?;
        let capped = if softcap > 0.0 {
            let cap = s.scalar(q.dtype, softcap)?;
            let small = s.op("Div", &[&raw, &cap]);
            let bent = s.op("Tanh", &[&small]);
            s.op("Mul", &[&bent, &cap])
        } else {
            raw.clone()
        };
        let (bias, guard) = bias(&mut s, &sizes, inputs, q.dtype, causal, window)?;
        let biased = match &bias {
            Some(bias) => s.op("Add", &[&capped, bias]),
            None => capped.clone(),
        };
        let inner = match precision {
            0 => q.dtype,
            code => i32::try_from(code).ok().and_then(|c| dtype_from_code(c).ok()).unwrap_or(q.dtype),
        };
        expect_float(inner)?;
        let wide = if inner == q.dtype { biased.clone() } else { s.cast(&biased, inner) };
        let mut weights = s.op("Softmax <axis = -1>", &[&wide]);
        if let (true, Some(bias)) = (guard, &bias) {
            // A query that may see no key at all attends to nothing.
            let axis = s.ints(&[-1]);
            let best = s.op("ReduceMax", &[bias, &axis]);
            let best = s.cast(&best, DType::F32);
            let none = s.op("IsInf <detect_positive = 0>", &[&best]);
            let zero = s.scalar(inner, 0.0)?;
            weights = s.op("Where", &[&none, &zero, &weights]);
        }
        if inner != q.dtype {
            weights = s.cast(&weights, q.dtype);
        }
        let shown = match mode {
            0 => raw,
            1 => capped,
            2 => biased,
            3 => weights.clone(),
            _ => return Err(OpError::invalid(format!("attribute `qk_matmul_output_mode` is {mode}"))),
        };
        let weights = if v.dtype == q.dtype { weights } else { s.cast(&weights, v.dtype) };
        let mut y = weighted(&mut s, &sizes, &weights, &value);
        if planar {
            let rows = s.op("Transpose <perm = [0, 2, 1, 3]>", &[&y]);
            y = s.reshape(&rows, &[sizes.batch, sizes.q_len, sizes.q_heads * sizes.v_head]);
        }
        s.finish(&[&y, &key, &value, &shown])
    }
}

/// `scale·Q·Kᵀ`, of shape `[batch, heads, q, keys]`.
fn scores(
    s: &mut Script,
    sizes: &Sizes,
    dtype: DType,
    query: &str,
    key: &str,
    scale: f64,
) -> Result<String, OpError> {
    let turned = s.op("Transpose <perm = [0, 1, 3, 2]>", &[key]);
    // Half types round after each operator: there the definition scales both sides by the root.
    let half = matches!(dtype, DType::F16 | DType::Bf16);
    let factor = s.scalar(dtype, if half { scale.sqrt() } else { scale })?;
    let scaled = s.op("Mul", &[query, &factor]);
    let turned = if half { s.op("Mul", &[&turned, &factor]) } else { turned };
    if sizes.q_heads == sizes.kv_heads {
        return Ok(s.op("MatMul", &[&scaled, &turned]));
    }
    let group = sizes.q_heads / sizes.kv_heads * sizes.q_len;
    let grouped = s.reshape(&scaled, &[sizes.batch, sizes.kv_heads, group, sizes.head]);
    let product = s.op("MatMul", &[&grouped, &turned]);
    Ok(s.reshape(&product, &[sizes.batch, sizes.q_heads, sizes.q_len, sizes.keys()]))
}

/// The weighted sum of values, of shape `[batch, heads, q, v_head]`.
fn weighted(s: &mut Script, sizes: &Sizes, weights: &str, value: &str) -> String {
    if sizes.q_heads == sizes.kv_heads {
        return s.op("MatMul", &[weights, value]);
    }
    let group = sizes.q_heads / sizes.kv_heads * sizes.q_len;
    let grouped = s.reshape(weights, &[sizes.batch, sizes.kv_heads, group, sizes.keys()]);
    let product = s.op("MatMul", &[&grouped, value]);
    s.reshape(&product, &[sizes.batch, sizes.q_heads, sizes.q_len, sizes.v_head])
}

/// What is added to the scores, and whether it may forbid a query all keys.
fn bias(
    s: &mut Script,
    sizes: &Sizes,
    inputs: &Inputs<'_>,
    dtype: DType,
    causal: bool,
    window: Window,
) -> Result<(Option<String>, bool), OpError> {
    let mut terms = Vec::new();
    let mut guard = false;
    let zero = s.scalar(dtype, 0.0)?;
    let never = s.scalar(dtype, f64::NEG_INFINITY)?;
    if let Some(mask) = inputs.get(3) {
        guard = true;
        let mut term = "mask".to_owned();
        if mask.dtype == DType::Bool {
            term = s.op("Where", &["mask", &zero, &never]);
        }
        let have = mask.shape.dims().last().copied().unwrap_or(1);
        // A mask of one key is padded, too: only leading axes repeat.
        if have < sizes.keys() {
            let mut pads = vec![0i64; 2 * mask.shape.rank()];
            if let Some(end) = pads.last_mut() {
                *end = (sizes.keys() - have) as i64;
            }
            let pads = s.ints(&pads);
            term = s.op("Pad", &[&term, &pads, &never]);
        }
        terms.push(term);
    }
    let q_shape = [sizes.q_len, sizes.keys()];
    if inputs.get(6).is_some() {
        guard = true;
        let count = s.reshape("nonpad", &[sizes.batch, 1, 1, 1]);
        let places: Vec<i64> = (0..sizes.keys() as i64).collect();
        let places = s.ints(&places);
        let mut allowed = s.op("Less", &[&places, &count]);
        if causal || !window.open() {
            // The last query stands at the last key that counts: key − query − (count − q) of each pair.
            let shifted = table(sizes, |d| (d + sizes.q_len as i64) as f64)?;
            let shifted = s.tensor(super::typed::from_floats(DType::I64, q_shape, shifted)?);
            let distance = s.op("Sub", &[&shifted, &count]);
            let right = if causal { 0 } else { window.right };
            let sides = [(right, "LessOrEqual", 1), (window.left, "GreaterOrEqual", -1)];
            let right_too = [(window.right, "LessOrEqual", 1)];
            for (side, op, sign) in sides.into_iter().chain(right_too).filter(|(side, ..)| *side >= 0) {
                let limit = s.scalar(DType::I64, (side.saturating_mul(sign)) as f64)?;
                let inside = s.op(op, &[&distance, &limit]);
                allowed = s.op("And", &[&allowed, &inside]);
            }
        }
        terms.push(s.op("Where", &[&allowed, &zero, &never]));
    } else if causal || !window.open() {
        let sees = |d: i64| {
            let behind = d - sizes.past as i64;
            (!causal || behind <= 0) && window.sees(behind)
        };
        let values = table(sizes, |d| if sees(d) { 0.0 } else { f64::NEG_INFINITY })?;
        let rows = values.chunks(sizes.keys().max(1));
        guard |= rows.into_iter().any(|row| row.iter().all(|v| *v != 0.0));
        terms.push(s.tensor(super::typed::from_floats(dtype, q_shape, values)?));
    }
    let mut terms = terms.into_iter();
    let Some(mut sum) = terms.next() else { return Ok((None, false)) };
    for term in terms {
        sum = s.op("Add", &[&sum, &term]);
    }
    Ok((Some(sum), guard))
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::f32s;
    use crate::ir::Tensor;

    #[test]
    fn weights_follow_the_scores_and_the_causal_mask() {
        // One head of one feature: scores are q·k.
        let q = f32s(&[1, 1, 2, 1], &[0.0, 1.0]);
        let k = f32s(&[1, 1, 2, 1], &[0.0, 2f32.ln()]);
        let v = f32s(&[1, 1, 2, 1], &[3.0, 9.0]);
        let all = [Some(&q), Some(&k), Some(&v)];
        // Row 0 weighs equally, row 1 as 1 to 2.
        close(&run("Attention", &all, 1).unwrap()[0], &[6.0, 7.0]);
        close(&run("Attention <is_causal = 1>", &all, 1).unwrap()[0], &[3.0, 7.0]);
        let shown = run("Attention <qk_matmul_output_mode = 3>", &all, 4).unwrap();
        close(&shown[3], &[0.5, 0.5, 1.0 / 3.0, 2.0 / 3.0]);
    }

    #[test]
    fn queries_share_heads_and_masked_rows_are_zero() {
        // Two query heads over one key head; the mask forbids row 0 everything.
        let q = f32s(&[1, 2, 2], &[0.0, 1.0, 0.0, 1.0]);
        let k = f32s(&[1, 2, 1], &[0.0, 2f32.ln()]);
        let v = f32s(&[1, 2, 1], &[3.0, 9.0]);
        let mask = Tensor::new::<bool>([2, 2], vec![false, false, true, true]).unwrap();
        let op = "Attention <q_num_heads = 2, kv_num_heads = 1, scale = 1.0>";
        let y = run(op, &[Some(&q), Some(&k), Some(&v), Some(&mask)], 1).unwrap();
        close(&y[0], &[0.0, 0.0, 6.0, 7.0]);
    }

    #[test]
    fn sizes_that_do_not_divide_are_refused() {
        let x = f32s(&[1, 2, 3], &[0.0; 6]);
        assert!(run("Attention <q_num_heads = 2, kv_num_heads = 2>", &[Some(&x); 3], 1).is_err());
        assert!(run("Attention", &[Some(&x); 3], 1).is_err());
    }
}
