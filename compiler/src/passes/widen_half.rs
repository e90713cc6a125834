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

use super::{Pass, PassCx, PassError};
use crate::ir::{DType, NodeId, Tensor, ValueId};
use crate::ops::cast::{Cast, RoundMode};
use crate::ops::{Fact, Graph, Inputs, Node, OpKind};
use std::collections::BTreeMap;

/// See the module.
pub(super) struct WidenHalf;

impl Pass for WidenHalf {
    fn name(&self) -> &'static str {
        "widen_half"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let mut state = State::default();
        for id in graph.order().to_vec() {
            let Some(node) = graph.node(id) else { continue };
            let widen = !matches!(node.op, OpKind::Cast(_)) && state.touches_half(graph, node);
            if widen && state.is_defined_wide(graph, node) {
                state.widen(graph, id);
                cx.fired("widen_half");
            } else {
                if widen {
                    let reason = format!("{} is not defined over f32 operands alike", node.op.as_op().name());
                    cx.missed(graph, id, reason);
                }
                state.keep(graph, id);
            }
            state.order.push(id);
        }
        if !(state.wide.is_empty() && state.up.is_empty()) {
            state.finish(graph);
        }
        Ok(())
    }
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::Bf16)
}

/// Values change their type where they are; conversions stand where a reader wants the other one.
#[derive(Default)]
struct State {
    /// The half type that a widened value had.
    wide: BTreeMap<ValueId, DType>,
    /// The f32 form of values that stay half.
    up: BTreeMap<ValueId, ValueId>,
    /// The half form of widened values.
    down: BTreeMap<ValueId, ValueId>,
    /// Nodes so far, conversions included.
    order: Vec<NodeId>,
}

impl State {
    fn touches_half(&self, graph: &Graph, node: &Node) -> bool {
        let mut values = node.inputs.iter().chain(&node.outputs).flatten();
        values.any(|v| is_half(graph.value(*v).dtype) || self.wide.contains_key(v))
    }

    /// Whether the node infers over f32 as it does over the half type.
    fn is_defined_wide(&self, graph: &Graph, node: &Node) -> bool {
        let tensors: Vec<Option<Tensor>> = node
            .inputs
            .iter()
            .map(|v| v.and_then(|v| graph.constant(v)).filter(|t| is_half(t.dtype())).and_then(widened))
            .collect();
        let facts: Vec<Option<Fact<'_>>> = node
            .inputs
            .iter()
            .zip(&tensors)
            .map(|(v, tensor)| {
                let value = graph.value((*v)?);
                Some(match is_half(value.dtype) {
                    true => Fact { dtype: DType::F32, shape: &value.shape, constant: tensor.as_ref() },
                    false => {
                        Fact { dtype: value.dtype, shape: &value.shape, constant: value.constant.as_ref() }
                    }
                })
            })
            .collect();
        let Ok(types) = node.op.as_op().infer(&Inputs::new(&facts, node.outputs.len())) else { return false };
        node.outputs.iter().enumerate().all(|(i, v)| {
            v.is_none_or(|v| {
                let value = graph.value(v);
                let dtype = if is_half(value.dtype) { DType::F32 } else { value.dtype };
                types.get(i).is_some_and(|t| t.dtype == dtype && t.shape == value.shape)
            })
        })
    }

    /// Puts a node over f32.
    fn widen(&mut self, graph: &mut Graph, id: NodeId) {
        let Some(node) = graph.node(id) else { return };
        let (inputs, outputs) = (node.inputs.clone(), node.outputs.clone());
        let inputs = inputs
            .into_iter()
            .map(|v| v.map(|v| if is_half(graph.value(v).dtype) { self.up(graph, id, v) } else { v }))
            .collect();
        if let Some(node) = graph.node_mut(id) {
            node.inputs = inputs;
        }
        for v in outputs.into_iter().flatten() {
            let dtype = graph.value(v).dtype;
            // A result that is known already stays as it is; its node is dead.
            if is_half(dtype) && graph.constant(v).is_none() {
                self.wide.insert(v, dtype);
                graph.value_mut(v).dtype = DType::F32;
            }
        }
    }

    /// Gives a node that stays the operands it was written for.
    fn keep(&mut self, graph: &mut Graph, id: NodeId) {
        let Some(node) = graph.node(id) else { return };
        if !node.inputs.iter().flatten().any(|v| self.wide.contains_key(v)) {
            return;
        }
        let inputs = node.inputs.clone();
        let inputs = inputs.into_iter().map(|v| v.map(|v| self.down(graph, id, v))).collect();
        if let Some(node) = graph.node_mut(id) {
            node.inputs = inputs;
        }
    }

    /// Conversions for the model's outputs, and the order.
    fn finish(mut self, graph: &mut Graph) {
        for i in 0..graph.outputs.len() {
            let Some(&(_, v)) = graph.outputs.get(i) else { continue };
            let Some((producer, _)) = graph.producer(v) else { continue };
            let half = self.down(graph, producer, v);
            if let Some((_, output)) = graph.outputs.get_mut(i) {
                *output = half;
            }
        }
        graph.set_order(self.order);
    }

    /// The f32 form of a value that stays half.
    fn up(&mut self, graph: &mut Graph, reader: NodeId, v: ValueId) -> ValueId {
        if let Some(&w) = self.up.get(&v) {
            return w;
        }
        let w = match graph.constant(v).and_then(widened) {
            Some(tensor) => {
                let name = graph.value(v).name.clone();
                graph.add_constant(name, tensor)
            }
            None => self.convert(graph, reader, v, DType::F32),
        };
        self.up.insert(v, w);
        w
    }

    /// The half form of a value, if it was widened.
    fn down(&mut self, graph: &mut Graph, near: NodeId, v: ValueId) -> ValueId {
        let Some(&dtype) = self.wide.get(&v) else { return v };
        if let Some(&h) = self.down.get(&v) {
            return h;
        }
        let h = self.convert(graph, near, v, dtype);
        self.down.insert(v, h);
        h
    }

    /// A conversion that runs next; it comes from the same ONNX nodes as `near`.
    fn convert(&mut self, graph: &mut Graph, near: NodeId, v: ValueId, to: DType) -> ValueId {
        let origins = graph.node(near).map(|n| n.origins.clone()).unwrap_or_default();
        let value = graph.value(v);
        let output = (format!("{}.{to}", value.name), to, value.shape.clone());
        let cast = Cast { to: Some(to), saturate: true, round_mode: RoundMode::Up };
        let id = graph.add_node(cast.into(), vec![Some(v)], vec![Some(output)], origins);
        self.order.push(id);
        graph.node(id).and_then(super::matching::output).unwrap_or(v)
    }
}

fn widened(tensor: &Tensor) -> Option<Tensor> {
    let values: Vec<f32> = tensor.to_f64_vec()?.into_iter().map(|v| v as f32).collect();
    Tensor::new::<f32>(tensor.shape().clone(), values).ok()
}
