//! One spelling for each thing, and nothing that does nothing.
//!
//! - Pattern and result, node by node:
//!   - Squeeze, Unsqueeze, Flatten, Reshape, and a Transpose that moves only extents of 1 → Reshape to a
//!     known shape; Reshape of a Reshape → one Reshape;
//!   - Gemm → MatMul with bias and scale, where nothing is left to do at run time;
//!   - Sum of two → Add; CastLike → Cast; Max or Min with one known bound → Clip with attributes;
//!   - Cast of a Cast that lost nothing → one Cast;
//!   - gone: Identity, Dropout, Pad of nothing, Reshape to the same shape, Transpose that keeps the order, Cast to the same type,
//!     Expand, Tile, Slice, Split that take all, Concat of one, Add of -0.0, Sub of 0.0, Mul and Div by 1,
//!     Sum, Mean, Max, Min of one.
//! - Precondition: bit-exact results. `x + 0.0` stays, since it turns -0.0 into 0.0 (integers have no
//!   such zero). A node between a model input and a model output stays too.
//!
//! ```text
//! %a = Flatten(%x); %b = Identity(%a); %y = Gemm(%b, W, C)   →   %a = Reshape(%x, [1, 64]); %y = MatMul(%a, Wᵀ, C)
//! ```

use super::matching::{
    Editor, Operand, Rewrite, Rule, apply_rules, constant, facts, input, is_single, output, uniform,
};
use super::{Pass, PassCx, PassError};
use crate::ir::{DType, Shape, Tensor, ValueId};
use crate::kernel::expr::BinaryFn;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::cast::Cast;
use crate::ops::clip::Clip;
use crate::ops::reshape::Reshape;
use crate::ops::variadic::{Variadic, VariadicFn};
use crate::ops::{Graph, Inputs, Node, OpKind};

/// See the module.
pub(super) struct Canonicalize;

impl Pass for Canonicalize {
    fn name(&self) -> &'static str {
        "canonicalize"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        apply_rules(graph, cx, RULES);
        Ok(())
    }
}

type Outcome = Option<Result<(&'static str, Rewrite), String>>;

const RULES: &[Rule] = &[no_op, reshape, gemm, variadic, casts, clip_bounds];

/// Nodes whose result is their operand.
fn no_op(graph: &Editor<'_>, node: &Node) -> Outcome {
    let x = input(node, 0)?;
    let y = output(node)?;
    let same_type = |v: ValueId| {
        let (a, b) = (graph.value(v), graph.value(y));
        a.dtype == b.dtype && a.shape == b.shape
    };
    let keep = match &node.op {
        // Inference form; a mask that somebody reads makes it two results.
        OpKind::Identity(_) | OpKind::Dropout(_) => Some(x),
        OpKind::Reshape(_) | OpKind::Cast(_) => same_type(x).then_some(x),
        OpKind::Expand(_) | OpKind::Tile(_) | OpKind::Split(_) | OpKind::BlockMove(_) => {
            same_type(x).then_some(x)
        }
        // As many elements as there are, all forwards.
        OpKind::Slice(_) => (same_type(x) && forwards(graph, node)).then_some(x),
        OpKind::Pad(pad) => {
            let rank = graph.value(x).shape.rank();
            let rims = pad.known_rims(rank, constant(graph, node, 1), constant(graph, node, 3)).ok()?;
            rims.iter().all(|&r| r == (0, 0)).then_some(x)
        }
        OpKind::Transpose(t) => {
            let perm = t.order(graph.value(x).shape.rank()).ok()?;
            perm.iter().copied().eq(0..perm.len()).then_some(x)
        }
        OpKind::Concat(_) => {
            let full: Vec<ValueId> = node
                .inputs
                .iter()
                .flatten()
                .copied()
                .filter(|&v| !graph.value(v).shape.contains(&0))
                .collect();
            match full.as_slice() {
                &[one] if same_type(one) => Some(one),
                _ => None,
            }
        }
        OpKind::Variadic(_) => (node.inputs.len() == 1).then_some(x),
        OpKind::Binary(b) => {
            return match neutral(graph, node, b)? {
                Ok(v) => same_type(v).then_some(Ok(("remove_no_op", Rewrite::Bypass(v)))),
                Err(reason) => Some(Err(reason)),
            };
        }
        _ => None,
    };
    keep.map(|v| Ok(("remove_no_op", Rewrite::Bypass(v))))
}

/// Whether a slice has no negative step.
fn forwards(graph: &Graph, node: &Node) -> bool {
    // Steps are operand 4 where there are any: the attribute form has none.
    match input(node, 4) {
        None => true,
        Some(_) => {
            constant(graph, node, 4).and_then(Tensor::to_i64_vec).is_some_and(|s| s.iter().all(|&s| s > 0))
        }
    }
}

/// The operand that a binary function with a neutral other one returns.
fn neutral(graph: &Graph, node: &Node, op: &Binary) -> Option<Result<ValueId, String>> {
    let BinaryKind::Arith(f) = op.function else { return None };
    let (a, b) = (input(node, 0)?, input(node, 1)?);
    let value = |v| graph.constant(v).and_then(uniform);
    let float = graph.value(a).dtype.is_float();
    let is = |v: ValueId, wanted: f64| value(v).is_some_and(|c: f64| c.to_bits() == wanted.to_bits());
    match f {
        BinaryFn::Mul if is(b, 1.0) => Some(Ok(a)),
        BinaryFn::Mul if is(a, 1.0) => Some(Ok(b)),
        BinaryFn::Div | BinaryFn::Pow if is(b, 1.0) => Some(Ok(a)),
        BinaryFn::Sub if is(b, 0.0) => Some(Ok(a)),
        BinaryFn::Add if is(b, -0.0) || !float && is(b, 0.0) => Some(Ok(a)),
        BinaryFn::Add if is(a, -0.0) || !float && is(a, 0.0) => Some(Ok(b)),
        BinaryFn::Add if is(a, 0.0) || is(b, 0.0) => Some(Err("adding 0.0 turns -0.0 into 0.0".to_owned())),
        _ => None,
    }
}

/// Everything that only renames axes becomes a Reshape with every extent spelled out.
fn reshape(graph: &Editor<'_>, node: &Node) -> Outcome {
    let (mut x, y) = (input(node, 0)?, output(node)?);
    let shape = &graph.value(y).shape;
    let label = match &node.op {
        OpKind::Reshape(_) => "one_reshape",
        OpKind::Transpose(t) => {
            let from = &graph.value(x).shape;
            let moved = t.order(from.rank()).ok()?.into_iter().filter(|&p| from.get(p) != Some(&1));
            if !moved.is_sorted() {
                return None;
            }
            "transpose_to_reshape"
        }
        _ => return None,
    };
    // Through whatever reshapes stand before: they matter to their other readers only.
    let mut skipped = false;
    while let Some((_, before)) = graph.producer(x) {
        let OpKind::Reshape(_) = before.op else { break };
        x = input(before, 0)?;
        skipped = true;
    }
    let extents = extents(shape)?;
    let spelled_out = matches!(node.op, OpKind::Reshape(Reshape::Shape { allowzero: true }))
        && constant(graph, node, 1).and_then(Tensor::as_slice::<i64>) == Some(extents.as_slice());
    if spelled_out && !skipped {
        return None;
    }
    let name = format!("{}.shape", graph.value(y).name);
    let inputs = vec![x.into(), Operand::New(name, Tensor::vector(&extents))];
    Some(Ok((label, Rewrite::replace(Reshape::Shape { allowzero: true }, inputs))))
}

fn extents(shape: &Shape) -> Option<Vec<i64>> {
    shape.iter().map(|&d| i64::try_from(d).ok()).collect()
}

/// Gemm with nothing left to do at run time.
fn gemm(graph: &Editor<'_>, node: &Node) -> Outcome {
    let OpKind::Gemm(gemm) = &node.op else { return None };
    let (a, b) = (input(node, 0)?, input(node, 1)?);
    let known = facts(graph, &node.inputs);
    if !is_single(graph.value(a).dtype) {
        return None;
    }
    let Some(form) = gemm.to_matmul(&Inputs::new(&known, node.outputs.len())) else {
        return Some(Err("an operand would have to be transposed or scaled at run time".to_owned()));
    };
    let new = |v: ValueId, t: Tensor| Operand::New(graph.value(v).name.clone(), t);
    let mut inputs = vec![a.into(), form.b.map_or(b.into(), |t| new(b, t))];
    if let (Some(c), Some(t)) = (input(node, 2), form.bias) {
        inputs.push(new(c, t));
    }
    Some(Ok(("gemm_to_matmul", Rewrite::replace(form.op, inputs))))
}

/// Sum of two operands.
fn variadic(_: &Editor<'_>, node: &Node) -> Outcome {
    let OpKind::Variadic(Variadic { function: VariadicFn::Sum }) = &node.op else { return None };
    let [Some(a), Some(b)] = node.inputs.as_slice() else { return None };
    let add = Binary { function: BinaryKind::Arith(BinaryFn::Add) };
    Some(Ok(("sum_to_add", Rewrite::replace(add, vec![(*a).into(), (*b).into()]))))
}

/// CastLike, and conversions in two steps.
fn casts(graph: &Editor<'_>, node: &Node) -> Outcome {
    let OpKind::Cast(cast) = &node.op else { return None };
    let (x, y) = (input(node, 0)?, output(node)?);
    let to = graph.value(y).dtype;
    if cast.to.is_none() {
        let cast = Cast { to: Some(to), ..cast.clone() };
        return Some(Ok(("one_cast", Rewrite::replace(cast, vec![x.into()]))));
    }
    let (_, before) = graph.producer(x)?;
    let OpKind::Cast(_) = &before.op else { return None };
    let source = input(before, 0)?;
    let (from, via) = (graph.value(source).dtype, graph.value(x).dtype);
    // Floats saturate when they become integers, integers wrap.
    if !holds(via, from) || from.is_int() && via.is_float() && to.is_int() {
        return None;
    }
    Some(Ok(("one_cast", Rewrite::replace(cast.clone(), vec![source.into()]))))
}

/// Whether every value of `narrow` is one of `wide`, and converts on as itself.
fn holds(wide: DType, narrow: DType) -> bool {
    use DType::*;
    match wide {
        F64 => matches!(narrow, F32 | F16 | Bf16 | I32 | U32 | I16 | U16 | I8 | U8),
        F32 => matches!(narrow, F16 | Bf16 | I16 | U16 | I8 | U8),
        I64 => matches!(narrow, I32 | U32 | I16 | U16 | I8 | U8 | Bool),
        I32 => matches!(narrow, I16 | U16 | I8 | U8 | Bool),
        _ => false,
    }
}

/// Clip with known scalar bounds, and Max or Min with one: bounds become attributes.
fn clip_bounds(graph: &Editor<'_>, node: &Node) -> Outcome {
    let y = output(node)?;
    let value = graph.value(y);
    if value.dtype != DType::F32 {
        return None;
    }
    match &node.op {
        OpKind::Clip(clip) if node.inputs.len() > 1 => {
            let known = |i| input(node, i).is_none() || constant(graph, node, i).is_some();
            if !known(1) || !known(2) {
                return None;
            }
            let (min, max) = clip.bounds(constant(graph, node, 1), constant(graph, node, 2)).ok()?;
            let clip = Clip { min: min.map(|v| v as f32), max: max.map(|v| v as f32) };
            Some(Ok(("clip_bounds", Rewrite::replace(clip, vec![input(node, 0)?.into()]))))
        }
        OpKind::Variadic(Variadic { function: f @ (VariadicFn::Max | VariadicFn::Min) }) => {
            let [Some(a), Some(b)] = node.inputs.as_slice() else { return None };
            let (x, bound) = match (graph.constant(*a), graph.constant(*b)) {
                (None, Some(t)) => (*a, t),
                (Some(t), None) => (*b, t),
                _ => return None,
            };
            // NaN as a bound makes everything NaN, but absent bounds are written as infinities.
            let bound = uniform(bound).filter(|v| !v.is_nan())? as f32;
            if graph.value(x).shape != value.shape {
                return None;
            }
            let clip = match f {
                VariadicFn::Max => Clip { min: Some(bound), max: None },
                _ => Clip { min: None, max: Some(bound) },
            };
            Some(Ok(("clip_bounds", Rewrite::replace(clip, vec![x.into()]))))
        }
        _ => None,
    }
}
