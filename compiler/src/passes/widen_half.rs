//! `f16` and `bf16` are storage: arithmetic runs in `f32`.
//!
//! - Pattern: a node with operands or results of type f16 or bf16 that is also defined over f32.
//! - Result: the node over f32; constants become f32; conversions stand at model inputs and outputs of the
//!   half type, and where a node stays as it is.
//! - Precondition: inference over f32 operands gives f32 where the half type was, and equal shapes.
//!   Casts stay: one that the model spells out rounds where the model says so.
//! - Exactness: a result is rounded to the half type once, where it leaves the widened part, instead of
//!   once per node. The widened nodes count as fused.
//!
//! ```text
//! in %x: f16; %y: f16 = Conv(%x, W: f16); out %y
//!   →   in %x: f16; %a: f32 = Cast(%x); %b: f32 = Conv(%a, W: f32); %y: f16 = Cast(%b); out %y
//! ```

use super::matching::infer;
use super::{Pass, PassCx, PassError};
use crate::ir::{DType, NodeId, Tensor, ValueId};
use crate::ops::cast::{Cast, RoundMode};
use crate::ops::{Fact, Graph, Inputs, Node, OpKind, Patch, Type};
use std::collections::BTreeMap;

/// See the module.
pub(super) struct WidenHalf;

impl Pass for WidenHalf {
    fn name(&self) -> &'static str {
        "widen_half"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let order: Vec<NodeId> = graph.order().to_vec();
        let mut wide: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        let mut changed = false;
        for id in order {
            let Some(node) = graph.node(id) else { continue };
            if matches!(node.op, OpKind::Cast(_)) || !touches_half(graph, node) {
                continue;
            }
            if !is_defined_wide(graph, node) {
                let reason = format!("{} is not defined over f32 operands alike", node.op.as_op().name());
                cx.missed(graph, id, reason);
                continue;
            }
            if widen(graph, id, &mut wide).is_some() {
                cx.fired("widen_half");
                changed = true;
            }
        }
        if changed {
            // Conversions back that nobody reads.
            graph.remove_dead();
        }
        Ok(())
    }
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::Bf16)
}

fn touches_half(graph: &Graph, node: &Node) -> bool {
    let mut values = node.inputs.iter().chain(&node.outputs).flatten();
    values.any(|&v| is_half(graph.value(v).dtype))
}

fn widened_tensor(tensor: &Tensor) -> Option<Tensor> {
    let values: Vec<f32> = tensor.to_f64_vec()?.into_iter().map(|v| v as f32).collect();
    Tensor::new::<f32>(tensor.shape().clone(), values).ok()
}

/// Whether the node infers over f32 as it does over the half type.
fn is_defined_wide(graph: &Graph, node: &Node) -> bool {
    let Ok(now) = infer(graph, &node.op, &node.inputs, node.outputs.len()) else { return false };
    let tensors: Vec<Option<Tensor>> = node
        .inputs
        .iter()
        .map(|v| v.and_then(|v| graph.constant(v)).filter(|t| is_half(t.dtype())).and_then(widened_tensor))
        .collect();
    let facts: Vec<Option<Fact<'_>>> = node
        .inputs
        .iter()
        .zip(&tensors)
        .map(|(v, tensor)| {
            let value = graph.value((*v)?);
            Some(match is_half(value.dtype) {
                true => Fact { dtype: DType::F32, shape: &value.shape, constant: tensor.as_ref() },
                false => Fact { dtype: value.dtype, shape: &value.shape, constant: value.constant.as_ref() },
            })
        })
        .collect();
    let Ok(then) = node.op.as_op().infer(&Inputs::new(&facts, node.outputs.len())) else { return false };
    let wanted: Vec<Type> = now
        .into_iter()
        .map(|t| Type { dtype: if is_half(t.dtype) { DType::F32 } else { t.dtype }, shape: t.shape })
        .collect();
    then == wanted
}

fn cast(to: DType) -> OpKind {
    Cast { to: Some(to), saturate: true, round_mode: RoundMode::Up }.into()
}

/// Replaces a node by one over f32; `wide` holds the f32 form of half values.
fn widen(graph: &mut Graph, id: NodeId, wide: &mut BTreeMap<ValueId, ValueId>) -> Option<()> {
    let node = graph.node(id)?.clone();
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for v in &node.inputs {
        let Some(v) = *v else {
            inputs.push(None);
            continue;
        };
        if !is_half(graph.value(v).dtype) {
            inputs.push(Some(v));
            continue;
        }
        let form = match wide.get(&v) {
            Some(&w) => w,
            None => {
                let w = convert_up(graph, id, v)?;
                wide.insert(v, w);
                w
            }
        };
        inputs.push(Some(form));
    }
    let outputs: Vec<_> = node
        .outputs
        .iter()
        .map(|v| {
            v.map(|v| {
                let value = graph.value(v);
                let dtype = if is_half(value.dtype) { DType::F32 } else { value.dtype };
                (value.name.clone(), dtype, value.shape.clone())
            })
        })
        .collect();
    let narrow: Vec<_> = node
        .outputs
        .iter()
        .map(|v| {
            v.map(|v| {
                let value = graph.value(v);
                (v, value.name.clone(), value.dtype, value.shape.clone())
            })
        })
        .collect();
    let mut patch = Patch::new(graph, "widen_half", id);
    let results = patch.node_multi(node.op, inputs, outputs, node.origins.clone());
    for (result, old) in results.into_iter().zip(narrow) {
        let (Some(result), Some((old, name, dtype, shape))) = (result, old) else { continue };
        if is_half(dtype) {
            let name = format!("{name}.{dtype}");
            let back =
                patch.node(cast(dtype), vec![Some(result)], (name, dtype, shape), node.origins.clone());
            patch.redirect(old, back);
            wide.insert(back, result);
        } else {
            patch.redirect(old, result);
        }
    }
    patch.remove(id);
    patch.apply();
    Some(())
}

/// The f32 form of a half value that no widened node computes.
fn convert_up(graph: &mut Graph, before: NodeId, v: ValueId) -> Option<ValueId> {
    let value = graph.value(v);
    let (name, shape) = (value.name.clone(), value.shape.clone());
    if let Some(tensor) = &value.constant {
        let tensor = widened_tensor(tensor)?;
        return Some(graph.add_constant(name, tensor));
    }
    let origins = graph.node(before)?.origins.clone();
    let mut patch = Patch::new(graph, "widen_half", before);
    let name = format!("{name}.f32");
    let w = patch.node(cast(DType::F32), vec![Some(v)], (name, DType::F32, shape), origins);
    patch.apply();
    Some(w)
}
