//! Quantized parts are joined as integers, and split as integers.
//!
//! - Pattern: QuantizeLinear of a Concat of which DequantizeLinear makes a part; a Split of DequantizeLinear.
//! - Result: Concat of each part's QuantizeLinear, which goes away, becomes part of a product, or a table, depending on its
//!   scale; a known part's integers; DequantizeLinear of each part of a Split of the integers.
//! - Precondition: one scale for the whole tensor; nobody else reads the Concat.
//! - Exactness: exact, both treat each element alone.
//!
//! ```text
//! QuantizeLinear(Concat(%a, %b))    →   Concat(QuantizeLinear(%a), QuantizeLinear(%b))
//! Split(DequantizeLinear(%x))       →   DequantizeLinear(Split(%x)#0), DequantizeLinear(Split(%x)#1)
//! ```

use super::super::matching::{Editor, Outcome, Replacement, input, origins, output, visit};
use super::super::{Pass, PassCx, PassError};
use super::{Steps, dequantized};
use crate::ir::{NodeId, Patch, Tensor, ValueId};
use crate::ops::{Graph, Node, OpKind};

/// See the module.
pub(in crate::passes) struct IntegerConcats;

impl Pass for IntegerConcats {
    fn name(&self) -> &'static str {
        "integer_concats"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    match graph.node(id)?.op {
        OpKind::Quantize(_) => known(graph, id).or_else(|| joined(graph, id)),
        OpKind::Split(_) => split(graph, id),
        _ => None,
    }
}

/// QuantizeLinear of a part that is known: its integers.
fn known(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let (_, before) = graph.producer(input(node, 0)?)?;
    matches!(before.op, OpKind::Dequantize(_)).then_some(())?;
    let all = |node: &Node, from: usize| -> Option<Vec<Tensor>> {
        node.inputs.iter().skip(from).flatten().map(|&v| graph.constant(v).cloned()).collect()
    };
    let (integers, numbers) = (all(before, 0)?, all(node, 1)?);
    let operands: Vec<Option<&Tensor>> = integers.iter().map(Some).collect();
    let real = before.op.as_op().eval(&operands).ok()?.into_iter().next()?;
    let operands: Vec<Option<&Tensor>> = std::iter::once(&real).chain(&numbers).map(Some).collect();
    let bytes = node.op.as_op().eval(&operands).ok()?.into_iter().next()?;
    let y = output(node)?;
    if graph.is_model_output(y) {
        return None;
    }
    let name = format!("{}.integers", graph.value(y).name);
    let v = graph.add_constant(name, bytes);
    graph.redirect(y, v);
    graph.remove(id);
    Some(Ok("integer_concats"))
}

fn joined(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let y = Steps::of(graph, node)?;
    let whole = input(node, 0)?;
    let (at, concat) = graph.producer(whole)?;
    let OpKind::Concat(_) = &concat.op else { return None };
    let parts: Vec<ValueId> = concat.inputs.iter().copied().collect::<Option<_>>()?;
    parts.iter().any(|&v| dequantized(graph, v).is_some()).then_some(())?;
    if let Err(reason) = graph.only_reader(whole) {
        return Some(Err(reason));
    }
    let (join, quantize) = (concat.op.clone(), node.op.clone());
    let numbers: Vec<Option<ValueId>> = node.inputs.iter().skip(1).copied().collect();
    let from = origins(graph, [&id]);
    let named: Vec<_> =
        parts.iter().map(|&v| (v, graph.value(v).name.clone(), graph.value(v).shape.clone())).collect();
    let mut patch = Patch::new(graph, "integer_concats", id);
    let mut inputs = Vec::with_capacity(named.len());
    for (v, name, shape) in named {
        let operands = [Some(v)].into_iter().chain(numbers.iter().copied()).collect();
        let to = (format!("{name}.quantized"), y.dtype, shape);
        inputs.push(Some(patch.node(quantize.clone(), operands, to, from.clone())));
    }
    patch.apply();
    graph.refresh();
    Replacement { label: "integer_concats", at: id, absorbed: &[at], op: join, inputs }.apply(graph).map(Ok)
}

fn split(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let (dequantizer, x, steps) = dequantized(graph, input(node, 0)?)?;
    if graph.constant(x).is_some() {
        return None;
    }
    let parts: Vec<ValueId> = node.outputs.iter().copied().collect::<Option<_>>()?;
    let (op, mut inputs) = (node.op.clone(), node.inputs.clone());
    if let Some(first) = inputs.first_mut() {
        *first = Some(x);
    }
    let last = graph.node(dequantizer)?;
    let (after, numbers) = (last.op.clone(), [input(last, 1), input(last, 2)]);
    let of =
        |v: &ValueId| (graph.value(*v).name.clone(), graph.value(*v).dtype, graph.value(*v).shape.clone());
    let named: Vec<_> = parts.iter().map(of).collect();
    let from = origins(graph, [&id]);
    let mut patch = Patch::new(graph, "integer_concats", id);
    let bytes = named.iter().map(|(name, _, shape)| (format!("{name}.integers"), steps.dtype, shape.clone()));
    let bytes = bytes.map(Some).collect();
    let integers = patch.node_multi(op, inputs, bytes, from.clone());
    for ((&old, part), to) in parts.iter().zip(integers).zip(named) {
        let operands = [part].into_iter().chain(numbers).collect();
        let new = patch.node(after.clone(), operands, to, from.clone());
        patch.redirect(old, new);
    }
    patch.remove(id);
    let label = patch.apply();
    graph.refresh();
    Some(Ok(label))
}
