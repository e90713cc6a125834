//! What of a quantized model still computes in floats, and why: nothing may do so silently.
//!
//! A model is quantized where a QuantizeLinear, a DequantizeLinear or a product of integers stands in it. Each of its
//! steps that reads computed floats, or makes some, is named; not so
//!
//! - QuantizeLinear at the graph's inputs and DequantizeLinear at its outputs, with or without mere movement of data
//!   (Reshape, Transpose and the like) between them and the edge;
//! - QuantizeLinear and DequantizeLinear about a step that is named itself: they are that step's price.
//!
//! Changes nothing. Stands behind the passes that make integers, before elementwise steps become one.

use super::super::matching::{input, output};
use super::super::{FloatStep, Pass, PassCx, PassError, describe};
use crate::ir::{DType, NodeId, ValueId};
use crate::ops::{Graph, Node, OpKind, children};
use std::collections::BTreeSet;

/// See the module.
pub(in crate::passes) struct FloatSteps;

impl Pass for FloatSteps {
    fn name(&self) -> &'static str {
        "float_steps"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        if graph.nodes().any(|(_, n)| quantized(&n.op)) {
            let edges = Edges::of(graph);
            for id in graph.order().to_vec() {
                if let Some(why) = graph.node(id).and_then(|n| edges.beyond(graph, n)) {
                    let step = step(graph, cx, id, why);
                    cx.stays_float(step);
                }
            }
        }
        Ok(())
    }
}

/// Operators that only quantized models hold.
fn quantized(op: &OpKind) -> bool {
    matches!(
        op,
        OpKind::Quantize(_)
            | OpKind::Dequantize(_)
            | OpKind::Requantize(_)
            | OpKind::ProductI8(_)
            | OpKind::ConvInteger(_)
            | OpKind::MatMulInteger(_)
    )
}

/// Mere movement: no arithmetic on the elements.
fn carries(op: &OpKind) -> bool {
    matches!(
        op,
        OpKind::Reshape(_)
            | OpKind::Transpose(_)
            | OpKind::Identity(_)
            | OpKind::Slice(_)
            | OpKind::Split(_)
            | OpKind::Concat(_)
            | OpKind::Gather(_)
            | OpKind::Pad(_)
            | OpKind::Expand(_)
    )
}

/// Floats that the caller gives or takes, moved or not.
struct Edges {
    given: BTreeSet<ValueId>,
    taken: BTreeSet<ValueId>,
}

impl Edges {
    fn of(graph: &Graph) -> Edges {
        let users = graph.users();
        let readers = |v: ValueId| users.get(v.0 as usize).map_or(&[][..], Vec::as_slice);
        let reads = |id: &NodeId, test: &dyn Fn(&Node) -> bool| graph.node(*id).is_some_and(test);
        let constant = |v: &ValueId| graph.constant(*v).is_some();
        let mut given: BTreeSet<ValueId> = graph.inputs.iter().copied().collect();
        for (_, node) in graph.nodes().filter(|(_, n)| carries(&n.op)) {
            if node.inputs.iter().flatten().all(|v| given.contains(v) || constant(v)) {
                given.extend(node.outputs.iter().flatten());
            }
        }
        let mut taken = BTreeSet::new();
        for &id in graph.order().iter().rev() {
            let Some(node) = graph.node(id) else { continue };
            for &v in node.outputs.iter().flatten() {
                let moved =
                    |n: &Node| carries(&n.op) && n.outputs.iter().flatten().all(|y| taken.contains(y));
                if readers(v).iter().all(|id| reads(id, &moved)) {
                    taken.insert(v);
                }
            }
        }
        Edges { given, taken }
    }

    /// Why a node is no part of an edge though it computes in floats; `None` where it does not.
    fn beyond(&self, graph: &Graph, node: &Node) -> Option<String> {
        let float = |v: &&ValueId| graph.value(**v).dtype.is_float() && graph.constant(**v).is_none();
        let mut values = node.inputs.iter().chain(&node.outputs).flatten().filter(float).peekable();
        values.peek()?;
        if !children(&node.op).is_empty() {
            // Its steps are named, not itself.
            return None;
        }
        let on_edge = |v: &ValueId| self.given.contains(v) || self.taken.contains(v);
        if carries(&node.op) && values.all(on_edge) {
            return None;
        }
        match &node.op {
            // Known weights in integers: the product that reads them is named.
            OpKind::Dequantize(_) => None,
            OpKind::Quantize(_) => {
                let x = input(node, 0)?;
                let (_, producer) = graph.producer(x)?;
                let same = matches!(producer.op, OpKind::Dequantize(_));
                same.then(|| "a tensor with one scale gets another by way of floats".to_owned())
            }
            _ => Some(reason(graph, node)),
        }
    }
}

/// What keeps a node in floats, where no pass has said it.
fn reason(graph: &Graph, node: &Node) -> String {
    let plain = |v: &ValueId| {
        let by = graph.producer(*v).map(|(_, n)| &n.op);
        let float = graph.value(*v).dtype.is_float() && graph.constant(*v).is_none();
        float && !matches!(by, Some(OpKind::Dequantize(_)))
    };
    let users = graph.users();
    let requantized = |v: &ValueId| {
        let readers = users.get(v.0 as usize).map_or(&[][..], Vec::as_slice);
        let quantizes = |id: &NodeId| graph.node(*id).is_some_and(|n| matches!(n.op, OpKind::Quantize(_)));
        !readers.is_empty() && readers.iter().all(quantizes)
    };
    // Behind a DequantizeLinear: what kernels of integers do not take.
    let integers = |v: &ValueId| {
        let (_, producer) = graph.producer(*v)?;
        let x = matches!(producer.op, OpKind::Dequantize(_)).then(|| input(producer, 0))??;
        let computed = graph.constant(x).is_none();
        let dtype = graph.value(x).dtype;
        (computed && !matches!(dtype, DType::U8 | DType::I8)).then(|| (graph.value(x).name.clone(), dtype))
    };
    if let Some((name, dtype)) = node.inputs.iter().flatten().find_map(integers) {
        return format!("its operand `{name}` is {dtype}, integer kernels take 8 bits");
    }
    if let Some(v) = node.inputs.iter().flatten().find(|v| plain(v)) {
        return format!("its operand `{}` is not quantized in the model", graph.value(*v).name);
    }
    if let Some(v) = node.outputs.iter().flatten().find(|v| !requantized(v)) {
        return format!("its result `{}` is not quantized in the model", graph.value(*v).name);
    }
    "there is no integer form of it".to_owned()
}

/// The entry of a node: what passes said of it goes before what is found here.
fn step(graph: &Graph, cx: &PassCx<'_>, id: NodeId, otherwise: String) -> FloatStep {
    let users = graph.users();
    let behind =
        graph.node(id).and_then(output).map(|y| users.get(y.0 as usize).cloned().unwrap_or_default());
    let places: Vec<String> =
        std::iter::once(id).chain(behind.into_iter().flatten()).map(|id| describe(graph, id)).collect();
    let said = places.iter().find_map(|place| cx.declined("integer_", place));
    let origin = graph.node(id).and_then(|n| n.origins.first()).cloned();
    FloatStep { node: describe(graph, id), origin, reason: said.unwrap_or(otherwise) }
}
