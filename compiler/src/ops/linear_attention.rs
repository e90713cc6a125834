//! [LinearAttention](https://onnx.ai/onnx/operators/onnx__LinearAttention.html): a state per head, `S: [key,
//! value]`, that each element of the sequence decays, writes to and is read from.
//!
//! Per element: `S ← exp(g)·S`; `v ← β·(v - Sᵀk)` where the rule corrects; `S ← S + k⊗v`; the result is
//! `scale·Sᵀq`. Computed in `f32`, one element after the other, by a routine.

use super::composite::{Composite, INTERNAL, Script};
use super::number::expect_float;
use super::typed::{expect, floats, from_floats};
use super::walk::{checked_type, operand};
use super::{Body, Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// The ONNX operator. Operands: query `[n, t, heads·key]`, key `[n, t, kv·key]`, value `[n, t, kv·value]`, past
/// state, decay, β (the last three by the rule). Results: `[n, t, heads·value]`, and the state.
pub struct LinearAttention;

impl Composite for LinearAttention {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("LinearAttention", 27)];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        // A hint for other ways to compute the same.
        attrs.ignore("chunk_size");
        let heads = AttrReader::required("q_num_heads", attrs.int("q_num_heads")?)?;
        let kv = AttrReader::required("kv_num_heads", attrs.int("kv_num_heads")?)?;
        let (decays, corrects) = match attrs.text("update_rule")?.unwrap_or("gated_delta") {
            "linear" => (false, false),
            "gated" => (true, false),
            "delta" => (false, true),
            "gated_delta" => (true, true),
            other => return Err(OpError::invalid(format!("attribute `update_rule` is `{other}`"))),
        };
        let (q, v) = (inputs.required(0)?, inputs.required(2)?);
        expect_float(q.dtype)?;
        if (inputs.get(4).is_some(), inputs.get(5).is_some()) != (decays, corrects) {
            return Err(OpError::invalid("decay and beta are not those of the update rule"));
        }
        let &[n, t, features] = q.shape.dims() else {
            return Err(OpError::invalid(format!("a query of shape {}", q.shape)));
        };
        let per = |total: usize, heads: i64| {
            let heads = usize::try_from(heads).ok().filter(|&h| h > 0 && total.is_multiple_of(h));
            heads
                .map(|h| total / h)
                .ok_or_else(|| OpError::invalid(format!("{total} features in {heads:?} heads")))
        };
        let key = per(features, heads)?;
        let value = per(v.shape.dims().last().copied().unwrap_or(0), kv)?;
        let scale = match attrs.float_or("scale", 0.0)? {
            0.0 => (1.0 / (key as f64).sqrt()) as f32,
            given => given,
        };
        let mut s = Script::new(&["q", "k", "v", "past", "decay", "beta"]);
        let mut operands: Vec<String> = ["q", "k", "v"].iter().map(|x| s.cast(x, DType::F32)).collect();
        let state = match inputs.get(3) {
            Some(past) => {
                operands.push(s.cast("past", DType::F32));
                past.dtype
            }
            None => {
                let shape = checked_type(DType::F32, [n, kv as usize, key, value])?.shape;
                operands.push(s.tensor(Tensor::new::<f32>(shape.clone(), vec![0.0; shape.elements()])?));
                q.dtype
            }
        };
        operands.push(if decays {
            s.cast("decay", DType::F32)
        } else {
            let shape = checked_type(DType::F32, [n, t, kv as usize])?.shape;
            s.tensor(Tensor::new::<f32>(shape.clone(), vec![0.0; shape.elements()])?)
        });
        if corrects {
            operands.push(s.cast("beta", DType::F32));
        }
        let op = format!("{INTERNAL}.LinearAttention <heads = {heads}, kv = {kv}, scale = {scale:?}>");
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        let results = s.ops(&op, &operands, 2);
        let [y, present] = [(0, q.dtype), (1, state)].map(|(i, d)| match results.get(i) {
            Some(r) => s.cast(r, d),
            None => String::new(),
        });
        s.finish(&[&y, &present])
    }
}

/// The recurrence over `f32`. Operands as above, all but β present.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrence {
    /// Heads of the query, a multiple of those of key and value.
    pub heads: usize,
    /// Heads of key and value.
    pub kv: usize,
    /// Factor on the result.
    pub scale: f32,
}

/// Extents of a recurrence.
struct Extents {
    n: usize,
    t: usize,
    key: usize,
    value: usize,
    /// Decays per head: 1, or one per feature of a key.
    decays: usize,
    /// Heads of β: all, or one for all; 0 without.
    betas: usize,
}

impl OnnxOp for Recurrence {
    const NAMES: &'static [OnnxName] = &[OnnxName { domain: INTERNAL, op_type: "LinearAttention", since: 1 }];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let mut count = |name: &str| {
            let n = AttrReader::required(name, attrs.int(name)?)?;
            usize::try_from(n)
                .ok()
                .filter(|&n| n > 0)
                .ok_or_else(|| OpError::invalid(format!("`{name}` is {n}")))
        };
        let (heads, kv) = (count("heads")?, count("kv")?);
        if heads % kv != 0 {
            return Err(OpError::invalid(format!("{heads} heads share {kv} states")));
        }
        Ok(Recurrence { heads, kv, scale: AttrReader::required("scale", attrs.float("scale")?)? }.into())
    }
}

impl Recurrence {
    fn extents(&self, shapes: &[Option<&Shape>]) -> Result<Extents, OpError> {
        let dims = |i: usize| shapes.get(i).copied().flatten().map(|s| s.dims()).unwrap_or_default();
        let bad = || OpError::invalid(format!("operands of shapes {shapes:?}"));
        let &[n, t, features] = dims(0) else { return Err(bad()) };
        let &[_, _, values] = dims(2) else { return Err(bad()) };
        let (key, value) = (features / self.heads, values / self.kv);
        let (mut decays, mut betas) = (1, 0);
        if let [.., last] = dims(4)
            && *last != self.kv
        {
            decays = key;
        }
        if let [.., last] = dims(5) {
            betas = *last;
        }
        let good = key * self.heads == features
            && value * self.kv == values
            && dims(1) == [n, t, self.kv * key]
            && dims(2) == [n, t, values]
            && dims(3) == [n, self.kv, key, value]
            && dims(4) == [n, t, self.kv * decays]
            && (betas == 0 || dims(5) == [n, t, betas] && (betas == 1 || betas == self.kv));
        if good { Ok(Extents { n, t, key, value, decays, betas }) } else { Err(bad()) }
    }
}

impl Op for Recurrence {
    fn name(&self) -> &'static str {
        "LinearAttention"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        inputs.present().try_for_each(|f| expect(f.dtype == DType::F32, f.dtype))?;
        let shapes: Vec<Option<&Shape>> = (0..6).map(|i| inputs.get(i).map(|f| f.shape)).collect();
        let e = self.extents(&shapes)?;
        Ok(vec![
            checked_type(DType::F32, [e.n, e.t, self.heads * e.value])?,
            Type::new(DType::F32, [e.n, self.kv, e.key, e.value]),
        ])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let shapes: Vec<Option<&Shape>> =
            (0..6).map(|i| inputs.get(i).copied().flatten().map(Tensor::shape)).collect();
        let e = self.extents(&shapes)?;
        let all = (0..5).map(|i| floats(operand(inputs, i)?)).collect::<Result<Vec<_>, _>>()?;
        let [q, k, v, past, decay] = all.as_slice() else { return Err(OpError::internal("five operands")) };
        let beta = inputs.get(5).copied().flatten().map(floats).transpose()?;
        let mut state = past.clone();
        let mut y = vec![0.0; e.n * e.t * self.heads * e.value];
        for n in 0..e.n {
            for t in 0..e.t {
                let row = n * e.t + t;
                for h in 0..self.kv {
                    let s = &mut state[(n * self.kv + h) * e.key * e.value..][..e.key * e.value];
                    let key = &k[(row * self.kv + h) * e.key..][..e.key];
                    for (i, line) in s.chunks_mut(e.value.max(1)).enumerate() {
                        let at = (row * self.kv + h) * e.decays + i % e.decays;
                        let factor = libm::exp(decay[at]);
                        line.iter_mut().for_each(|x| *x *= factor);
                    }
                    for m in 0..e.value {
                        let mut new = v[(row * self.kv + h) * e.value + m];
                        if let Some(beta) = &beta {
                            let held: f64 = (0..e.key).map(|i| s[i * e.value + m] * key[i]).sum();
                            new = beta[row * e.betas + h % e.betas] * (new - held);
                        }
                        (0..e.key).for_each(|i| s[i * e.value + m] += key[i] * new);
                    }
                }
                for h in 0..self.heads {
                    let s = &state[(n * self.kv + h / (self.heads / self.kv)) * e.key * e.value..];
                    let query = &q[(row * self.heads + h) * e.key..][..e.key];
                    for m in 0..e.value {
                        let read: f64 = (0..e.key).map(|i| query[i] * s[i * e.value + m]).sum();
                        y[(row * self.heads + h) * e.value + m] = f64::from(self.scale) * read;
                    }
                }
            }
        }
        Ok(vec![
            from_floats(DType::F32, [e.n, e.t, self.heads * e.value], y)?,
            from_floats(DType::F32, [e.n, self.kv, e.key, e.value], state)?,
        ])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let shapes: Vec<Option<&Shape>> = (0..6).map(|i| cx.input_type(i).map(|(_, s)| s)).collect();
        let e = self.extents(&shapes)?;
        let count = if e.betas > 0 { 6 } else { 5 };
        let mut reads =
            (0..count).map(|i| Ok(cx.read_dense(i)?.operand)).collect::<Result<Vec<_>, OpError>>()?;
        if e.betas == 0 {
            // Not looked at.
            reads.extend(reads.last().copied());
        }
        let y = match cx.output_type(0) {
            Some(_) => cx.write_dense(0)?.operand,
            None => cx.scratch("read", DType::F32, e.n * e.t * self.heads * e.value),
        };
        let state = match cx.output_type(1) {
            Some(_) => cx.write_dense(1)?.operand,
            None => cx.scratch("state", DType::F32, e.n * self.kv * e.key * e.value),
        };
        let extents = [e.n, e.t, self.heads, self.kv, e.key, e.value, e.decays, e.betas];
        cx.push(Kernel::Routine(Routine {
            function: "linear_attention::linear_attention",
            reads,
            writes: vec![y, state],
            params: extents.map(Param::Usize).into_iter().chain([Param::F32(self.scale)]).collect(),
            fallible: false,
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run_at};
    use super::super::testing::f32s;

    #[test]
    fn a_state_of_one_element() {
        let [q, k, v] = [[1., 2.], [1., 1.], [3., 5.]].map(|x| f32s(&[1, 2, 1], &x));
        let decay = f32s(&[1, 2, 1], &[0., -std::f32::consts::LN_2]);
        let beta = f32s(&[1, 2, 1], &[1., 0.5]);
        let past = f32s(&[1, 1, 1, 1], &[1.]);
        let run = |rule: &str, decay, beta| {
            let op = format!("LinearAttention <q_num_heads = 1, kv_num_heads = 1, update_rule = \"{rule}\">");
            run_at(27, &op, &[Some(&q), Some(&k), Some(&v), Some(&past), decay, beta], 2)
        };
        let y = run("linear", None, None).unwrap();
        close(&y[0], &[4., 18.]);
        close(&y[1], &[9.]);
        close(&run("gated", Some(&decay), None).unwrap()[0], &[4., 14.]);
        // 1 + (3 - 1) = 3; half of that is 1.5; 1.5 + (5 - 1.5)/2 = 3.25.
        close(&run("gated_delta", Some(&decay), Some(&beta)).unwrap()[0], &[3., 6.5]);
        assert!(run("linear", Some(&decay), None).is_err());
        assert!(run("delta", None, None).is_err());
    }
}
