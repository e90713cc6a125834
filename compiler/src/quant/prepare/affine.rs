//! Factors and offsets per channel go into weights and biases. Computed in `f64`, rounded once.

use super::super::draft::{self, Draft, Uses, attribute, float, is_op, label, node, set_int};
use super::{Types, channels, constant_operand, floats, is_any, scale_slices};
use crate::ir::{Shape, Tensor};
use std::collections::BTreeSet;

/// `y = factor·x + offset`, one pair per channel.
struct Affine {
    factor: Vec<f64>,
    offset: Vec<f64>,
}

/// Takes one step behind a product into its weights; `false` where none is left.
pub fn into_weights_in_front(draft: &mut Draft, types: &Types) -> bool {
    let uses = draft.uses();
    for i in 0..draft.nodes.len() {
        let found = step_behind(draft, &uses, types, i);
        if let Some((next, affine)) = found
            && apply(draft, i, next, &affine)
        {
            draft.remove_nodes(&BTreeSet::from([next]));
            return true;
        }
    }
    false
}

/// The only reader of a product node's result, where it is an affine step per output channel.
fn step_behind(draft: &Draft, uses: &Uses, types: &Types, i: usize) -> Option<(usize, Affine)> {
    let n = draft.nodes.get(i)?;
    let weights = constant_operand(draft, i, 1)?.1.shape();
    let (_, count) = channels(n, weights)?;
    let y = n.output.first()?;
    let (next, operand) = uses.only(y)?;
    let rank = types.floats(y)?.rank();
    // The axis of channels in the result, counted from its end.
    let behind = if is_any(n, &["Conv", "ConvTranspose"]) { rank.checked_sub(2)? } else { 0 };
    let step = draft.nodes.get(next)?;
    // A bias that is no constant, or for each row its own, cannot take anything up.
    let bias = n.input.get(2).filter(|b| !b.is_empty());
    if is_op(n, "MatMul")
        || bias.is_some_and(|b| floats(draft, b).is_none_or(|v| v.len() != count && v.len() != 1))
    {
        return None;
    }
    if is_op(step, "BatchNormalization") && operand == 0 {
        return Some((next, batch_norm(draft, next)?)).filter(|(_, a)| a.factor.len() == count);
    }
    if !is_any(step, &["Add", "Mul", "Sub"]) || is_op(step, "Sub") && operand == 1 {
        return None;
    }
    let (_, constant) = constant_operand(draft, next, 1 - operand.min(1))?;
    let values = per_channel(constant, behind, count, rank)?;
    Some((
        next,
        match step.op_type.as_str() {
            "Mul" => Affine { factor: values, offset: vec![0.0; count] },
            "Sub" => Affine { factor: vec![1.0; count], offset: values.iter().map(|v| -v).collect() },
            _ => Affine { factor: vec![1.0; count], offset: values },
        },
    ))
}

/// A constant that broadcasts along all axes but one; `behind` axes follow that.
fn per_channel(t: &Tensor, behind: usize, count: usize, rank: usize) -> Option<Vec<f64>> {
    let values = t.to_f64_vec()?;
    if t.shape().rank() > rank {
        return None;
    }
    if values.len() == 1 {
        return Some(vec![*values.first()?; count]);
    }
    let axis = t.shape().rank().checked_sub(behind + 1)?;
    (values.len() == count && t.shape().dims().get(axis) == Some(&count)).then_some(values)
}

/// A batch norm's factor and offset, where all of it is constant.
fn batch_norm(draft: &Draft, i: usize) -> Option<Affine> {
    let n = draft.nodes.get(i)?;
    let training = draft::int(n, "training_mode", 0) != 0;
    if training || n.output.iter().skip(1).any(|o| !o.is_empty()) {
        return None;
    }
    let operand = |k: usize| floats(draft, n.input.get(k)?);
    let (scale, shift, mean, var) = (operand(1)?, operand(2)?, operand(3)?, operand(4)?);
    let epsilon = f64::from(float(n, "epsilon", 1e-5));
    let factor: Vec<f64> = scale.iter().zip(&var).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let offset = shift.iter().zip(&mean).zip(&factor).map(|((b, m), f)| b - m * f).collect();
    factor.iter().all(|f| f.is_finite()).then_some(Affine { factor, offset })
}

/// Rewrites weights and bias of node `i` and lets it write what the step `next` wrote.
fn apply(draft: &mut Draft, i: usize, next: usize, affine: &Affine) -> bool {
    let rewritten = (|| {
        let n = draft.nodes.get(i)?;
        let (name, weights) = constant_operand(draft, i, 1)?;
        let (axis, count) = channels(n, weights.shape())?;
        let scaled = scale_slices(weights, axis, &affine.factor)?;
        let old = match n.input.get(2).filter(|b| !b.is_empty()) {
            Some(b) => floats(draft, b)?,
            None => vec![0.0],
        };
        let at = |v: &[f64], c: usize| v.get(if v.len() == 1 { 0 } else { c }).copied().unwrap_or(0.0);
        let bias: Vec<f32> = (0..count)
            .map(|c| (at(&old, c) * at(&affine.factor, c) + at(&affine.offset, c)) as f32)
            .collect();
        let y = draft.nodes.get(next)?.output.first()?.clone();
        Some((name.to_owned(), scaled, Tensor::new([count], bias).ok()?, y))
    })();
    let Some((name, weights, bias, y)) = rewritten else { return false };
    let weights = draft.add_constant(&format!("{name}_folded"), weights);
    let bias = draft.add_constant(&format!("{name}_bias"), bias);
    if let Some(n) = draft.nodes.get_mut(i) {
        n.input.resize(3, String::new());
        if let [_, w, b] = n.input.as_mut_slice() {
            (*w, *b) = (weights, bias);
        }
        n.output = vec![y];
    }
    true
}

/// `Scaler` in front of a product goes into its weights: what comes in is quantized as it is.
pub fn scaler_into_weights(draft: &mut Draft, types: &Types) {
    let uses = draft.uses();
    let mut gone = BTreeSet::new();
    for i in 0..draft.nodes.len() {
        let Some(scaler) = draft.nodes.get(i).filter(|n| n.domain == "ai.onnx.ml" && n.op_type == "Scaler")
        else {
            continue;
        };
        let list = |name: &str, default: f64, width: usize| {
            let given = attribute(scaler, name).map(|a| a.floats.as_slice()).unwrap_or_default();
            match given {
                [] => Some(vec![default; width]),
                [one] => Some(vec![f64::from(*one); width]),
                all if all.len() == width => Some(all.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>()),
                _ => None,
            }
        };
        let rewritten = (|| {
            let (x, y) = (scaler.input.first()?, scaler.output.first()?);
            types.floats(x)?;
            let (next, 0) = uses.only(y)? else { return None };
            let n = draft.nodes.get(next).filter(|n| is_op(n, "Gemm") && draft::int(n, "transB", 0) == 0)?;
            let (name, w) = constant_operand(draft, next, 1)?;
            let [depth, columns] = *w.shape().dims() else { return None };
            let (scale, offset) = (list("scale", 1.0, depth)?, list("offset", 0.0, depth)?);
            let scaled = scale_slices(w, 0, &scale)?;
            let old = match n.input.get(2).filter(|b| !b.is_empty()) {
                Some(b) => floats(draft, b).filter(|v| v.len() == columns)?,
                None => vec![0.0; columns],
            };
            let weights = w.to_f64_vec()?;
            let bias: Vec<f32> = (0..columns)
                .map(|c| {
                    let shift: f64 = (0..depth)
                        .map(|k| {
                            let at = |v: &[f64], i: usize| v.get(i).copied().unwrap_or(0.0);
                            at(&weights, k * columns + c) * at(&scale, k) * at(&offset, k)
                        })
                        .sum();
                    (old.get(c).copied().unwrap_or(0.0) - shift) as f32
                })
                .collect();
            Some((next, x.clone(), name.to_owned(), scaled, Tensor::new([columns], bias).ok()?))
        })();
        let Some((next, x, name, weights, bias)) = rewritten else { continue };
        let weights = draft.add_constant(&format!("{name}_scaled"), weights);
        let bias = draft.add_constant(&format!("{name}_bias"), bias);
        if let Some(n) = draft.nodes.get_mut(next) {
            n.input = vec![x, weights, bias];
        }
        gone.insert(i);
    }
    draft.remove_nodes(&gone);
}

/// A batch norm with no weights to go into is a depthwise convolution of one tap.
pub fn batch_norm_alone(draft: &mut Draft, types: &Types) {
    for i in 0..draft.nodes.len() {
        let made = (|| {
            let n = draft.nodes.get(i).filter(|n| is_op(n, "BatchNormalization"))?;
            let (x, y) = (n.input.first()?.clone(), n.output.first()?.clone());
            let rank = types.floats(&x)?.rank();
            if !(3..=5).contains(&rank) {
                return None;
            }
            let affine = batch_norm(draft, i)?;
            let count = affine.factor.len();
            let mut dims = vec![1; rank];
            *dims.first_mut()? = count;
            let round = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<f32>>();
            let weights = Tensor::new(Shape::new(dims), round(&affine.factor)).ok()?;
            let bias = Tensor::new([count], round(&affine.offset)).ok()?;
            Some((x, y, label(n).to_owned(), weights, bias))
        })();
        let Some((x, y, name, weights, bias)) = made else { continue };
        let count = bias.len() as i64;
        let weights = draft.add_constant(&format!("{name}_weights"), weights);
        let bias = draft.add_constant(&format!("{name}_bias"), bias);
        let mut conv = node("Conv", &name, &[&x, &weights, &bias], &[&y]);
        set_int(&mut conv, "group", count);
        if let Some(n) = draft.nodes.get_mut(i) {
            *n = conv;
        }
    }
}
