//! A uniform factor around a product becomes its epilogue's scale.
//!
//! - Pattern: MatMul or Conv, then Mul or Div with a known scalar; or such a Mul or Div on either operand
//!   of a MatMul or Conv. Also a product that has a scale and known weights.
//! - Result: `scale` of the epilogue, the bias scaled along; where weights are known, they are scaled and
//!   the epilogue has nothing to do.
//! - Precondition: f32, f16 or bf16 (the epilogue computes in f32); the value in between has no other
//!   reader; behind the product nothing between bias and factor, and the bias known; the factor finite.
//! - Exactness: factors are multiplied in `f64` and rounded once. A factor moves from before the sum to
//!   behind it.
//!
//! ```text
//! %p = MatMul(%q, %k); %y = Div(%p, 8)   →   %y = MatMul{scale: 0.125}(%q, %k)
//! ```

use super::fuse_bias::Step;
use super::matching::{Editor, Outcome, Replacement, float_tensor, is_single, uniform, visit};
use super::product::{Affine, BIAS, Product, WEIGHTS};
use super::{Pass, PassCx, PassError};
use crate::ir::{DType, NodeId};
use crate::kernel::expr::BinaryFn;
use crate::ops::Graph;
use crate::ops::fused::Fused;

/// See the module.
pub(super) struct FuseScale;

impl Pass for FuseScale {
    fn name(&self) -> &'static str {
        "fuse_scale"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, |graph, id| {
            after(graph, id)
                .or_else(|| before(graph, id, 0))
                .or_else(|| before(graph, id, WEIGHTS))
                .or_else(|| into_weights(graph, id))
        });
        Ok(())
    }
}

/// The factor of a Mul or Div with a known scalar.
fn factor(graph: &Graph, step: &Step) -> Option<f64> {
    let tensor = graph.constant(step.constant)?;
    let value = uniform(tensor)?;
    match (step.function, step.left) {
        (BinaryFn::Mul, _) => Some(value),
        (BinaryFn::Div, false) => Some(1.0 / value),
        _ => None,
    }
}

/// The scale of `fused` times a factor, rounded once; or why not.
fn scaled(fused: &Fused, factor: f64) -> Result<Fused, String> {
    let scale = (f64::from(fused.scale.unwrap_or(1.0)) * factor) as f32;
    if !scale.is_finite() || (scale == 0.0) != (factor == 0.0) {
        return Err(format!("the factor {factor:e} is no number of type f32"));
    }
    Ok(Fused { scale: (scale != 1.0).then_some(scale), ..*fused })
}

/// The factor `id` behind a product.
fn after(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let step = Step::of(graph, id)?;
    let factor = factor(graph, &step)?;
    let product = Product::producing(graph, step.x)?;
    Some(fuse_after(graph, id, factor, &product))
}

fn fuse_after(
    graph: &mut Editor<'_>,
    id: NodeId,
    factor: f64,
    product: &Product,
) -> Result<&'static str, String> {
    if !is_single(product.dtype) {
        return Err(format!("epilogues do not compute in {}", product.dtype));
    }
    if !product.is_affine() {
        return Err("an activation or residual stands in between".to_owned());
    }
    graph.only_reader(product.y)?;
    let fused = scaled(&product.fused, factor)?;
    let mut inputs = product.inputs.clone();
    if let Some(v) = product.input(BIAS) {
        let bias = graph.constant(v).and_then(|t| t.to_f64_vec()).ok_or("the bias is not known")?;
        let bias: Vec<f64> = bias.iter().map(|b| b * factor).collect();
        let tensor = float_tensor(product.dtype, [bias.len()], &bias).ok_or("the bias is not a float")?;
        let name = graph.value(v).name.clone();
        let new = graph.add_constant(name, tensor);
        inputs = product.inputs_with(BIAS, new);
    }
    let op = product.with(fused);
    let new = Replacement { label: "fuse_scale", at: id, absorbed: &[product.node], op, inputs };
    new.apply(graph).ok_or_else(|| "it has no result".to_owned())
}

/// A factor in front of operand `i` of the product `id`.
fn before(graph: &mut Editor<'_>, id: NodeId, i: usize) -> Outcome {
    let product = Product::of(graph, id)?;
    let v = product.input(i)?;
    let (at, _) = graph.producer(v)?;
    let step = Step::of(graph, at)?;
    let factor = factor(graph, &step)?;
    if !is_single(product.dtype) {
        return None;
    }
    let fuse = |graph: &mut Editor<'_>| {
        graph.only_reader(v)?;
        let op = product.with(scaled(&product.fused, factor)?);
        let inputs = product.inputs_with(i, step.x);
        let new = Replacement { label: "fuse_scale", at: product.node, absorbed: &[at], op, inputs };
        new.apply(graph).ok_or_else(|| "it has no result".to_owned())
    };
    Some(fuse(graph))
}

/// A scale goes into known weights.
fn into_weights(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let product = Product::of(graph, id)?;
    let scale = product.fused.scale?;
    let weights = product.input(WEIGHTS)?;
    graph.constant(weights)?;
    if product.dtype != DType::F32 {
        return None;
    }
    let readers = graph.readers(weights).len();
    if readers > 1 {
        return Some(Err(format!("the weights have {readers} readers, and a second copy would be stored")));
    }
    // The bias is added behind the scale, so that only the weights change.
    let bare = Product { inputs: product.inputs.iter().take(BIAS).copied().collect(), ..product.clone() };
    let step = Affine { factor: Some(vec![f64::from(scale); product.channels]), offset: None };
    let scaled = match bare.absorb_after(graph, &step) {
        Ok(inputs) => inputs,
        Err(reason) => return Some(Err(reason)),
    };
    let inputs = product.inputs_with(WEIGHTS, scaled.get(WEIGHTS).copied().flatten()?);
    let op = product.with(Fused { scale: None, ..product.fused });
    let new = Replacement { label: "scale_into_weights", at: id, absorbed: &[], op, inputs };
    new.apply(graph).map(Ok)
}
