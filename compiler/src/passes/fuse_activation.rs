//! An activation is applied before the result is stored.
//!
//! - Pattern: Conv, MatMul or a pool, then Relu, Clip with known bounds, LeakyRelu, PRelu with known slopes
//!   per channel, HardSigmoid, HardSwish, Sigmoid, Swish, Tanh, Gelu, Elu, Celu with α = 1 or Softplus.
//! - Result: the activation is part of the epilogue; PRelu with equal slopes becomes LeakyRelu. Pools take
//!   all but PRelu.
//! - Precondition: f32, f16 or bf16; the result has no other reader (a second reader would need the
//!   value from before); no activation yet, and no residual that was added behind one.
//! - Exactness: f32 throughout, as before; in f16 and bf16 one rounding less.
//!
//! ```text
//! %c = Conv(%x, W); %y = Relu(%c)   →   %y = Conv{activation: Relu}(%x, W)
//! ```

use super::matching::{
    Editor, Outcome, Replacement, constant, float_tensor, input, is_single, output, per_axis, visit,
};
use super::product::{Product, SLOPES};
use super::{Pass, PassCx, PassError};
use crate::ir::{NodeId, ValueId};
use crate::kernel::expr::{BinaryFn, UnaryFn};
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::fused::{Activation, Fused, Residual};
use crate::ops::unary::Unary;
use crate::ops::{Graph, Node, OpKind};

/// See the module.
pub(super) struct FuseActivation;

impl Pass for FuseActivation {
    fn name(&self) -> &'static str {
        "fuse_activation"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, |graph, id| into_product(graph, id).or_else(|| into_pool(graph, id)));
        Ok(())
    }
}

/// A node as an activation without operands of its own.
fn plain(node: &Node) -> Option<Activation> {
    Some(match &node.op {
        OpKind::Unary(Unary { function }) => match *function {
            UnaryFn::Relu => Activation::Relu,
            UnaryFn::LeakyRelu { alpha } => Activation::LeakyRelu { alpha },
            UnaryFn::HardSigmoid { alpha, beta } => Activation::HardSigmoid { alpha, beta },
            UnaryFn::HardSwish => Activation::HardSwish,
            UnaryFn::Sigmoid => Activation::Sigmoid,
            UnaryFn::Swish { alpha } => Activation::Swish { alpha },
            UnaryFn::Tanh => Activation::Tanh,
            UnaryFn::Gelu => Activation::Gelu,
            UnaryFn::GeluTanh => Activation::GeluTanh,
            UnaryFn::Elu { alpha } => Activation::Elu { alpha },
            UnaryFn::Celu { alpha: 1.0 } => Activation::Elu { alpha: 1.0 },
            UnaryFn::Softplus => Activation::Softplus,
            _ => return None,
        },
        // Bounds as attributes: canonical form.
        OpKind::Clip(clip) if node.inputs.len() == 1 => {
            let (lo, hi) = (clip.min.unwrap_or(f32::NEG_INFINITY), clip.max.unwrap_or(f32::INFINITY));
            match (lo, hi) {
                (0.0, f32::INFINITY) => Activation::Relu,
                // A NaN bound makes every result NaN, which the epilogue's comparisons do not.
                _ if lo.is_nan() || hi.is_nan() => return None,
                _ => Activation::Clip { lo, hi },
            }
        }
        _ => return None,
    })
}

/// The slopes of a PRelu over a product's result, one per channel.
fn slopes(graph: &Graph, node: &Node, product: &Product) -> Option<Result<Vec<f64>, String>> {
    let OpKind::Binary(Binary { function: BinaryKind::Arith(BinaryFn::PRelu) }) = &node.op else {
        return None;
    };
    let Some(tensor) = constant(graph, node, 1) else {
        return Some(Err("its slopes are not known".to_owned()));
    };
    let values = per_axis(tensor, &product.shape, product.axis);
    Some(values.ok_or_else(|| "its slopes vary along other axes than the channels".to_owned()))
}

fn into_product(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let x = input(node, 0)?;
    let product = Product::producing(graph, x)?;
    let (activation, slopes) = match plain(node) {
        Some(activation) => (activation, None),
        None => match slopes(graph, node, &product)? {
            Err(reason) => return Some(Err(reason)),
            Ok(values) => match values.first() {
                // The runtime multiplies by the f32 in either case.
                Some(&first) if values.iter().all(|v| v.to_bits() == first.to_bits()) => {
                    (Activation::LeakyRelu { alpha: first as f32 }, None)
                }
                _ => (Activation::PRelu, Some(values)),
            },
        },
    };
    Some(fuse(graph, id, &product, activation, slopes))
}

fn fuse(
    graph: &mut Editor<'_>,
    id: NodeId,
    product: &Product,
    activation: Activation,
    slopes: Option<Vec<f64>>,
) -> Result<&'static str, String> {
    if !is_single(product.dtype) {
        return Err(format!("epilogues do not compute in {}", product.dtype));
    }
    graph.only_reader(product.y)?;
    if product.fused.activation != Activation::None {
        return Err("the product has an activation already".to_owned());
    }
    if product.fused.residual == Residual::After {
        return Err("a residual was added behind another activation".to_owned());
    }
    let inputs = match slopes {
        None => product.inputs.clone(),
        Some(values) => {
            let tensor = float_tensor(product.dtype, [values.len()], &values).ok_or("slopes are floats")?;
            let name = slope_name(graph, id).ok_or("slopes are an operand")?;
            let v = graph.add_constant(name, tensor);
            product.inputs_with(SLOPES, v)
        }
    };
    let op = product.with(Fused { activation, ..product.fused });
    let new = Replacement { label: "fuse_activation", at: id, absorbed: &[product.node], op, inputs };
    new.apply(graph).ok_or_else(|| "it has no result".to_owned())
}

fn slope_name(graph: &Graph, id: NodeId) -> Option<String> {
    Some(graph.value(input(graph.node(id)?, 1)?).name.clone())
}

fn into_pool(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let activation = plain(node)?;
    let x: ValueId = input(node, 0)?;
    let (at, before) = graph.producer(x)?;
    let OpKind::Pool(pool) = &before.op else { return None };
    let (mut pool, inputs) = (pool.clone(), before.inputs.clone());
    if !is_single(graph.value(x).dtype) {
        return None;
    }
    if output(before) != Some(x) {
        return Some(Err("the pool's positions are read".to_owned()));
    }
    if let Err(reason) = graph.only_reader(x) {
        return Some(Err(reason));
    }
    if pool.activation != Activation::None {
        return Some(Err("the pool has an activation already".to_owned()));
    }
    pool.activation = activation;
    let op = OpKind::Pool(pool);
    let new = Replacement { label: "fuse_activation", at: id, absorbed: &[at], op, inputs };
    new.apply(graph).map(Ok)
}
