//! Activations become unsigned bytes, which products of bytes take.
//!
//! - Pattern: a value of signed bytes that QuantizeLinear, a requantization or a move makes, or that the caller gives, and
//!   that only DequantizeLinear, products of integers and moves read.
//! - Result: the same value as unsigned bytes, 128 higher, with zero points 128 higher; what the caller gives is
//!   converted once.
//! - Precondition: zero points are known, one for the whole tensor; the value is no model output.
//! - Exactness: exact; both types have as many steps on either side of the zero point.

use std::collections::BTreeSet;

use super::super::matching::{constant, input, origins, output};
use super::super::{Pass, PassCx, PassError};
use super::{Steps, moves, single};
use crate::ir::{DType, NodeId, Patch, Tensor, ValueId};
use crate::kernel::expr::BinaryFn;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::cast::{Cast, RoundMode};
use crate::ops::pad::PadMode;
use crate::ops::{Graph, OpKind};

/// See the module.
pub(in crate::passes) struct UnsignedBytes;

impl Pass for UnsignedBytes {
    fn name(&self) -> &'static str {
        "unsigned_bytes"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let chosen = chosen(graph);
        let given: Vec<ValueId> =
            chosen.iter().copied().filter(|&v| graph.value(v).producer.is_none()).collect();
        let ids: Vec<NodeId> = graph.order().to_vec();
        for id in ids {
            shift(graph, id, &chosen);
        }
        for &v in &chosen {
            if !given.contains(&v) {
                graph.value_mut(v).dtype = DType::U8;
            }
            cx.fired("unsigned_bytes");
        }
        for v in given {
            convert(graph, v);
        }
        graph.compact_order();
        Ok(())
    }
}

/// The values that can change: those whose producer and readers can, a move's operand and result together.
fn chosen(graph: &Graph) -> BTreeSet<ValueId> {
    let users = graph.users();
    let readers = |v: ValueId| users.get(v.0 as usize).map_or(&[][..], Vec::as_slice);
    let can_read = |v: ValueId, id: &NodeId| {
        graph.node(*id).is_some_and(|n| {
            input(n, 0) == Some(v)
                && n.inputs.iter().flatten().filter(|&&i| i == v).count() == 1
                && match &n.op {
                    OpKind::Dequantize(_) => Steps::of(graph, n).is_some(),
                    OpKind::ConvInteger(_) | OpKind::MatMulInteger(_) => {
                        input(n, 2).is_none() || constant(graph, n, 2).and_then(single).is_some()
                    }
                    op => can_move(graph, id, op),
                }
        })
    };
    let mut set: BTreeSet<ValueId> = BTreeSet::new();
    let made = graph.nodes().filter_map(|(id, n)| {
        let can = match &n.op {
            OpKind::Quantize(_) => Steps::of(graph, n).is_some() && input(n, 2).is_some(),
            OpKind::Requantize(_) => constant(graph, n, 2).and_then(single).is_some(),
            op => can_move(graph, &id, op),
        };
        output(n).filter(|_| can)
    });
    for v in made.chain(graph.inputs.iter().copied()) {
        let signed = graph.value(v).dtype == DType::I8 && graph.value(v).constant.is_none();
        let read = readers(v);
        if signed && !graph.is_output(v) && !read.is_empty() && read.iter().all(|id| can_read(v, id)) {
            set.insert(v);
        }
    }
    // A move changes both or none.
    loop {
        let torn: Vec<ValueId> = graph
            .nodes()
            .filter(|(_, n)| moves(&n.op))
            .filter_map(|(_, n)| input(n, 0).zip(output(n)))
            .filter(|(x, y)| set.contains(x) != set.contains(y))
            .flat_map(|(x, y)| [x, y])
            .filter(|v| set.contains(v))
            .collect();
        if torn.is_empty() {
            return set;
        }
        for v in torn {
            set.remove(&v);
        }
    }
}

/// Whether it is a move whose fill is known.
fn can_move(graph: &Graph, id: &NodeId, op: &OpKind) -> bool {
    let fill = graph.node(*id).and_then(|n| match (op, input(n, 2)) {
        (OpKind::Pad(pad), None) => Some(pad.value.unwrap_or(0.0) == 0.0),
        (OpKind::Pad(_), Some(_)) => constant(graph, n, 2).map(|t| single(t).is_some()),
        _ => Some(true),
    });
    moves(op) && fill == Some(true)
}

/// Moves the zero points of a node that reads or writes a chosen value, and the fill of one that pads.
fn shift(graph: &mut Graph, id: NodeId, chosen: &BTreeSet<ValueId>) {
    let Some(node) = graph.node(id) else { return };
    let touches = |v: Option<ValueId>| v.is_some_and(|v| chosen.contains(&v));
    let (moved, slot) = match &node.op {
        OpKind::Dequantize(_) | OpKind::ConvInteger(_) | OpKind::MatMulInteger(_) => {
            (touches(input(node, 0)), true)
        }
        OpKind::Quantize(_) | OpKind::Requantize(_) => (touches(output(node)), true),
        OpKind::Pad(pad) => (touches(output(node)), pad.mode == PadMode::Constant),
        _ => (false, false),
    };
    if !(moved && slot) {
        return;
    }
    let (old, shape) = match constant(graph, node, 2) {
        Some(t) => (single(t).unwrap_or(0), t.shape().clone()),
        None => (0, crate::ir::Shape::from([])),
    };
    let zero = Tensor::full(shape, (old + 128) as u8);
    let v = graph.add_constant("zero", zero);
    if let Some(node) = graph.node_mut(id) {
        if let OpKind::Quantize(op) = &mut node.op {
            op.to = None;
        }
        node.inputs.resize(node.inputs.len().max(3), None);
        if let Some(slot) = node.inputs.get_mut(2) {
            *slot = Some(v);
        }
    }
}

/// Readers of a model input read it as unsigned bytes.
fn convert(graph: &mut Graph, v: ValueId) {
    let readers: Vec<NodeId> = graph.users().get(v.0 as usize).cloned().unwrap_or_default();
    let Some(first) = graph.order().iter().copied().find(|id| readers.contains(id)) else { return };
    let (name, shape) = (graph.value(v).name.clone(), graph.value(v).shape.clone());
    let from = origins(graph, [&first]);
    let mut patch = Patch::new(graph, "unsigned_bytes", first);
    let cast = Cast { to: Some(DType::U8), saturate: true, round_mode: RoundMode::Up };
    let wrapped = patch.node(
        cast.into(),
        vec![Some(v)],
        (format!("{name}.wrapped"), DType::U8, shape.clone()),
        from.clone(),
    );
    let sign = patch.constant("sign", Tensor::scalar(128u8));
    let flip = Binary { function: BinaryKind::Arith(BinaryFn::BitwiseXor) };
    let y = patch.node(
        flip.into(),
        vec![Some(wrapped), Some(sign)],
        (format!("{name}.unsigned"), DType::U8, shape),
        from,
    );
    patch.apply();
    for id in readers {
        if let Some(first) = graph.node_mut(id).and_then(|n| n.inputs.first_mut()) {
            *first = Some(y);
        }
    }
}
