//! [RotaryEmbedding](https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html) of ONNX and of
//! [`com.microsoft`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.RotaryEmbedding):
//! pairs of features turned by an angle that depends on the position.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::Tensor;
use crate::onnx::{AttrReader, NodeView};

/// Operands in ONNX: `X`, `cos_cache`, `sin_cache`, `position_ids` (optional); in `com.microsoft`: `input`,
/// `position_ids`, `cos_cache`, `sin_cache`, and an offset may stand for the positions. `X` is
/// `[batch, heads, length, head]` or `[batch, length, heads·head]`.
pub struct RotaryEmbedding;

impl Composite for RotaryEmbedding {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("RotaryEmbedding", 23),
        OnnxName { domain: "com.microsoft", op_type: "RotaryEmbedding", since: 1 },
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let microsoft = !node.domain.is_empty();
        let rotation = Rotation {
            heads: attrs.int_or("num_heads", 0)?,
            dim: attrs.int_or("rotary_embedding_dim", 0)?,
            interleaved: attrs.int_or("interleaved", 0)? != 0,
        };
        let positions = if microsoft { inputs.get(1) } else { inputs.get(3) };
        let [cos, sin] = if microsoft {
            [inputs.required(2)?, inputs.required(3)?]
        } else {
            [inputs.required(1)?, inputs.required(2)?]
        };
        let mut s = if microsoft {
            if attrs.int_or("is_packed_batching", 0)? != 0 {
                return Err(OpError::unsupported("packed batches"));
            }
            // Read by training only: the caches hold what it would scale.
            attrs.ignore("scale");
            Script::new(&["x", "positions", "cos", "sin"])
        } else {
            Script::new(&["x", "cos", "sin", "positions"])
        };
        if cos.shape != sin.shape {
            return Err(OpError::invalid(format!("caches of shapes {} and {}", cos.shape, sin.shape)));
        }
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        let (batch, len) = match *x.shape.dims() {
            [b, l, _] | [b, _, l, _] => (b, l),
            _ => return Err(OpError::invalid(format!("an operand of shape {}", x.shape))),
        };
        let angles = cos.shape.dims().last().copied().unwrap_or(0);
        let mut at = None;
        if let Some(positions) = positions {
            at = Some("positions".to_owned());
            if positions.shape.elements() == 1 && (batch, len) != (1, 1) {
                // One number is the position of the first element.
                let first = s.reshape("positions", &[1, 1]);
                let steps: Vec<i64> = (0..len as i64).collect();
                let steps = s.tensor(Tensor::new::<i64>([1, len], steps)?);
                at = Some(s.op("Add", &[&first, &steps]));
            } else if positions.shape.dims() != [batch, len] {
                at = Some(s.reshape("positions", &[batch, len]));
            }
        }
        let mut caches = Vec::new();
        for cache in ["cos", "sin"] {
            let rows = match &at {
                Some(at) => s.op("Gather <axis = 0>", &[cache, at]),
                None => cache.to_owned(),
            };
            // `[batch, 1, length, angles]`; all heads turn alike.
            let rows_batch = match positions {
                Some(p) if p.shape.elements() == 1 => 1,
                _ => batch,
            };
            caches.push(s.reshape(&rows, &[rows_batch, 1, len, angles]));
        }
        let y = rotate(&mut s, "x", x.shape.dims(), &rotation, &caches, angles)?;
        s.finish(&[&y])
    }
}

/// How features are paired.
pub(super) struct Rotation {
    /// Heads of an operand of rank 3; zero where the caches tell.
    pub heads: i64,
    /// Features that turn; zero for all.
    pub dim: i64,
    /// Pairs are neighbours, instead of the halves.
    pub interleaved: bool,
}

/// `x` turned; `caches` are the cosines and sines, `[batch or 1, 1, length, angles]`.
pub(super) fn rotate(
    s: &mut Script,
    x: &str,
    shape: &[usize],
    rotation: &Rotation,
    caches: &[String],
    angles: usize,
) -> Result<String, OpError> {
    let [cos, sin] = caches else { return Err(OpError::internal("two caches")) };
    let bad = || OpError::invalid(format!("an operand of shape {shape:?} with caches of {angles} angles"));
    let dim = usize::try_from(rotation.dim).map_err(|_| bad())?;
    let (batch, heads, len, head, planar) = match *shape {
        [b, h, l, d] => (b, h, l, d, false),
        [b, l, hidden] => {
            let heads = usize::try_from(rotation.heads).map_err(|_| bad())?;
            // Without a number of heads a full rotation tells the size of one.
            let heads = if heads == 0 { hidden.checked_div(2 * angles).unwrap_or(0) } else { heads };
            (b, heads, l, hidden.checked_div(heads).filter(|d| d * heads == hidden).ok_or_else(bad)?, true)
        }
        _ => return Err(bad()),
    };
    let dim = if dim == 0 { head } else { dim };
    if dim > head || dim != 2 * angles || dim == 0 {
        return Err(bad());
    }
    let mut x = x.to_owned();
    if planar {
        let split = s.reshape(&x, &[batch, len, heads, head]);
        x = s.op("Transpose <perm = [0, 2, 1, 3]>", &[&split]);
    }
    let axis = s.ints(&[3]);
    let slice = |s: &mut Script, x: &str, from: usize, to: usize, step: i64| {
        let [from, to, step] = [from as i64, to as i64, step].map(|v| s.ints(&[v]));
        s.op("Slice", &[x, &from, &to, &axis, &step])
    };
    let (a, b) = if rotation.interleaved {
        (slice(s, &x, 0, dim, 2), slice(s, &x, 1, dim, 2))
    } else {
        (slice(s, &x, 0, angles, 1), slice(s, &x, angles, dim, 1))
    };
    let mut turned = |first: &str, second: &str, op: &str| {
        let first = s.op("Mul", &[cos, first]);
        let second = s.op("Mul", &[sin, second]);
        s.op(op, &[&first, &second])
    };
    let (real, imaginary) = (turned(&a, &b, "Sub"), turned(&b, &a, "Add"));
    let mut y = if rotation.interleaved {
        let [real, imaginary] = [real, imaginary].map(|v| s.reshape(&v, &[batch, heads, len, angles, 1]));
        let pairs = s.op("Concat <axis = 4>", &[&real, &imaginary]);
        s.reshape(&pairs, &[batch, heads, len, dim])
    } else {
        s.op("Concat <axis = 3>", &[&real, &imaginary])
    };
    if dim < head {
        let axis = s.ints(&[3]);
        let [from, to] = [dim as i64, head as i64].map(|v| s.ints(&[v]));
        let rest = s.op("Slice", &[&x, &from, &to, &axis]);
        y = s.op("Concat <axis = 3>", &[&y, &rest]);
    }
    if planar {
        let rows = s.op("Transpose <perm = [0, 2, 1, 3]>", &[&y]);
        y = s.reshape(&rows, shape);
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::{f32s, i64s};

    #[test]
    fn pairs_turn_by_the_angle_of_their_position() {
        let x = f32s(&[1, 1, 2, 4], &[1., 2., 3., 4., 1., 2., 3., 4.]);
        // Position 0 keeps, position 1 turns by a right angle.
        let cos = f32s(&[2, 2], &[1., 1., 0., 0.]);
        let sin = f32s(&[2, 2], &[0., 0., 1., 1.]);
        let at = i64s(&[1, 2], &[1, 0]);
        let y = run("RotaryEmbedding", &[Some(&x), Some(&cos), Some(&sin), Some(&at)], 1).unwrap();
        close(&y[0], &[-3., -4., 1., 2., 1., 2., 3., 4.]);
        let op = "com.microsoft.RotaryEmbedding <interleaved = 1>";
        let y = run(op, &[Some(&x), Some(&i64s(&[1], &[0])), Some(&cos), Some(&sin)], 1).unwrap();
        close(&y[0], &[1., 2., 3., 4., -2., 1., -4., 3.]);
    }
}
