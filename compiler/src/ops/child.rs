//! Graphs that operators hold: the branches of an `If`, the bodies of loops.
//!
//! A child sees nothing of the graph around it but what its operator hands over: its inputs are the operator's
//! operands, so that captured values need no rule of their own anywhere.

use super::{Graph, OpError, OpKind, Type};
use crate::ir::{NodeId, Tensor, ValueId};

/// Elements and multiply-accumulates that one evaluation of an operator with children may take: minutes of the
/// reference evaluator. A loop that a hostile model lets run for ever ends here.
pub(super) const EVAL_WORK: u64 = 1 << 34;

/// What evaluating a node costs however small it is, in elements.
pub(super) const NODE_WORK: u64 = 128;

/// The graphs that an operator holds, in a fixed order.
pub fn children(op: &OpKind) -> Vec<&Graph> {
    match op {
        OpKind::Branch(branch) => vec![&*branch.then, &*branch.otherwise],
        OpKind::Loop(l) => vec![&*l.body],
        _ => Vec::new(),
    }
}

/// [`children`], to change them. Their inputs' and outputs' types must stay.
pub fn children_mut(op: &mut OpKind) -> Vec<&mut Graph> {
    match op {
        OpKind::Branch(branch) => vec![&mut *branch.then, &mut *branch.otherwise],
        OpKind::Loop(l) => vec![&mut *l.body],
        _ => Vec::new(),
    }
}

/// Moves what is known of the values that an operator's graphs take from around them into these graphs; `inputs` are
/// the operator's operands.
pub fn absorb_known(
    op: &mut OpKind,
    inputs: &mut Vec<Option<ValueId>>,
    known: impl Fn(ValueId) -> Option<Tensor>,
) {
    // The first operand that is taken so, and the graphs' input for it.
    let (first, base) = match op {
        OpKind::Branch(_) => (1, 0),
        OpKind::Loop(l) => (l.layout().captured, usize::from(l.numbered) + l.states + l.slices.len()),
        _ => return,
    };
    for k in (first..inputs.len()).rev() {
        let Some(tensor) = inputs.get(k).copied().flatten().and_then(&known) else { continue };
        let at = base + k - first;
        if children(op).iter().any(|graph| graph.inputs.len() <= at) {
            continue;
        }
        for graph in children_mut(op) {
            let v = graph.inputs.remove(at);
            graph.set_constant(v, tensor.clone());
        }
        inputs.remove(k);
    }
}

/// Types of a graph's inputs or outputs.
pub(super) fn types(graph: &Graph, values: impl Iterator<Item = ValueId>) -> Vec<Type> {
    values.map(|v| Type::new(graph.value(v).dtype, graph.value(v).shape.clone())).collect()
}

/// Types of a graph's outputs.
pub(super) fn output_types(graph: &Graph) -> Vec<Type> {
    types(graph, graph.outputs.iter().map(|&(_, v)| v))
}

/// Types of a graph's inputs.
pub(super) fn input_types(graph: &Graph) -> Vec<Type> {
    types(graph, graph.inputs.iter().copied())
}

/// At most so many multiply-accumulates and elements for one run; the largest number where that is not bounded.
pub(super) fn work(graph: &Graph) -> u64 {
    graph.nodes().map(|(id, _)| node_work(graph, id)).fold(1, u64::saturating_add)
}

/// Multiply-accumulates of one run.
pub(super) fn macs(graph: &Graph) -> u64 {
    graph.nodes().map(|(id, _)| node_macs(graph, id)).fold(0, u64::saturating_add)
}

fn node_macs(graph: &Graph, id: NodeId) -> u64 {
    let Some(node) = graph.node(id) else { return 0 };
    let of = |v: ValueId| Type::new(graph.value(v).dtype, graph.value(v).shape.clone());
    let inputs: Vec<Option<Type>> = node.inputs.iter().map(|v| v.map(of)).collect();
    let outputs: Vec<Type> = node.outputs.iter().flatten().map(|&v| of(v)).collect();
    node.op.as_op().macs(&inputs, &outputs)
}

fn node_work(graph: &Graph, id: NodeId) -> u64 {
    let Some(node) = graph.node(id) else { return 0 };
    let elements = node.outputs.iter().chain(&node.inputs).flatten();
    let elements = elements.map(|&v| graph.value(v).shape.elements() as u64).fold(0, u64::saturating_add);
    let own = match &node.op {
        OpKind::Branch(branch) => branch.work(),
        OpKind::Loop(l) => l.work(),
        _ => node_macs(graph, id),
    };
    own.saturating_add(elements).saturating_add(NODE_WORK)
}

/// Evaluates an operator that holds graphs, taking what that does off `budget`; `None` for all others.
pub fn eval_within(
    op: &OpKind,
    inputs: &[Option<&Tensor>],
    budget: &mut u64,
) -> Option<Result<Vec<Tensor>, OpError>> {
    match op {
        OpKind::Branch(branch) => Some(branch.eval_within(inputs, budget)),
        OpKind::Loop(l) => Some(l.eval_within(inputs, budget)),
        _ => None,
    }
}

/// What ends an evaluation.
pub(super) fn too_long() -> OpError {
    OpError::Limit("evaluating a loop takes too long".to_owned())
}

/// Whether anything reads an input.
pub(super) fn reads_input(graph: &Graph, i: usize) -> bool {
    let Some(&v) = graph.inputs.get(i) else { return false };
    graph.outputs.iter().any(|&(_, o)| o == v) || graph.nodes().any(|(_, n)| n.inputs.contains(&Some(v)))
}

/// Runs a graph through the reference evaluation, taking what it does off `budget`.
pub(super) fn run(graph: &Graph, inputs: &[&Tensor], budget: &mut u64) -> Result<Vec<Tensor>, OpError> {
    if inputs.len() != graph.inputs.len() {
        return Err(OpError::internal(format!("{} operands for `{}`", inputs.len(), graph.name)));
    }
    let mut values: Vec<Option<Tensor>> = vec![None; graph.value_count()];
    let set = |values: &mut Vec<Option<Tensor>>, v: ValueId, t: Tensor| {
        if let Some(slot) = values.get_mut(v.0 as usize) {
            *slot = Some(t);
        }
    };
    for (&v, &t) in graph.inputs.iter().zip(inputs) {
        set(&mut values, v, t.clone());
    }
    fn get<'t>(graph: &'t Graph, values: &'t [Option<Tensor>], v: ValueId) -> Result<&'t Tensor, OpError> {
        let known = graph.constant(v).or_else(|| values.get(v.0 as usize).and_then(Option::as_ref));
        known
            .ok_or_else(|| OpError::internal(format!("`{}` is read before it is there", graph.value(v).name)))
    }
    for (id, node) in graph.nodes() {
        let operands: Vec<Option<&Tensor>> = node
            .inputs
            .iter()
            .map(|v| v.map(|v| get(graph, &values, v)).transpose())
            .collect::<Result<_, _>>()?;
        let results = match eval_within(&node.op, &operands, budget) {
            Some(results) => results?,
            None => {
                *budget = budget.checked_sub(node_work(graph, id)).ok_or_else(too_long)?;
                node.op.as_op().eval(&operands)?
            }
        };
        for (&v, t) in node.outputs.iter().zip(results) {
            if let Some(v) = v {
                set(&mut values, v, t);
            }
        }
    }
    graph.outputs.iter().map(|&(_, v)| get(graph, &values, v).cloned()).collect()
}
