//! What passes ask about a graph, and the few ways they change it.

use super::PassCx;
use crate::ir::{DType, Element, Node as IrNode, NodeId, Origin, Shape, Tensor, ValueId, bf16, f16};
use crate::ops::{Fact, Graph, Inputs, Node, OpError, OpKind, Patch, Type};

/// Types of the results of `op` over these operands.
pub fn infer(
    graph: &Graph,
    op: &OpKind,
    inputs: &[Option<ValueId>],
    outputs: usize,
) -> Result<Vec<Type>, OpError> {
    let facts = facts(graph, inputs);
    op.as_op().infer(&Inputs::new(&facts, outputs))
}

/// What is known of these operands.
pub fn facts<'g>(graph: &'g Graph, inputs: &[Option<ValueId>]) -> Vec<Option<Fact<'g>>> {
    let fact = |v: ValueId| {
        let value = graph.value(v);
        Fact { dtype: value.dtype, shape: &value.shape, constant: value.constant.as_ref() }
    };
    inputs.iter().map(|v| v.map(fact)).collect()
}

/// The tensor of operand `i`, where it is known.
pub fn constant<'g>(graph: &'g Graph, node: &Node, i: usize) -> Option<&'g Tensor> {
    graph.constant(input(node, i)?)
}

/// Operand `i`.
pub fn input<O>(node: &IrNode<O>, i: usize) -> Option<ValueId> {
    node.inputs.get(i).copied().flatten()
}

/// The only result of a node.
pub fn output<O>(node: &IrNode<O>) -> Option<ValueId> {
    match node.outputs.as_slice() {
        [Some(v)] => Some(*v),
        [Some(v), rest @ ..] if rest.iter().all(Option::is_none) => Some(*v),
        _ => None,
    }
}

/// Who reads each value; stale once the graph has changed.
pub struct Uses {
    users: Vec<Vec<NodeId>>,
    outputs: Vec<ValueId>,
}

impl Uses {
    /// As of now.
    pub fn of(graph: &Graph) -> Self {
        Uses { users: graph.users(), outputs: graph.outputs.iter().map(|&(_, v)| v).collect() }
    }

    /// Nodes that read a value, once per operand position.
    pub fn readers(&self, v: ValueId) -> &[NodeId] {
        self.users.get(v.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether it is a model output.
    pub fn is_output(&self, v: ValueId) -> bool {
        self.outputs.contains(&v)
    }

    /// The only reader of a value, or why it has none that could absorb it.
    pub fn only_reader(&self, graph: &Graph, v: ValueId) -> Result<NodeId, String> {
        let name = &graph.value(v).name;
        match self.readers(v) {
            _ if self.is_output(v) => Err(format!("`{name}` is a model output")),
            [one] => Ok(*one),
            readers => Err(format!("`{name}` has {} readers", readers.len())),
        }
    }
}

/// A node that replaces others.
pub struct Replacement<'a> {
    /// Label of the patch.
    pub label: &'static str,
    /// The last of the replaced nodes: the new one stands in its place and gives its result.
    pub at: NodeId,
    /// Further nodes it stands for, removed once nobody reads them.
    pub absorbed: &'a [NodeId],
    /// What it computes.
    pub op: OpKind,
    /// Its operands.
    pub inputs: Vec<Option<ValueId>>,
}

impl Replacement<'_> {
    /// Carries it out; `at` must have one result. Absorbed nodes must have no other readers.
    pub fn apply(self, graph: &mut Graph) -> Option<&'static str> {
        let node = graph.node(self.at)?;
        let old = output(node)?;
        let value = graph.value(old);
        let result = (value.name.clone(), value.dtype, value.shape.clone());
        let origins = origins(graph, self.absorbed.iter().chain([&self.at]));
        let mut patch = Patch::new(graph, self.label, self.at);
        let new = patch.node(self.op, self.inputs, result, origins);
        patch.redirect(old, new);
        patch.remove(self.at);
        for &node in self.absorbed {
            patch.remove(node);
        }
        Some(patch.apply())
    }
}

/// The ONNX nodes behind these nodes, in file order.
pub fn origins<'n>(graph: &Graph, nodes: impl IntoIterator<Item = &'n NodeId>) -> Vec<Origin> {
    let nodes = nodes.into_iter().filter_map(|&n| graph.node(n));
    let mut all: Vec<Origin> = nodes.flat_map(|n| n.origins.iter().cloned()).collect();
    all.sort();
    all.dedup();
    all
}

/// Removes a node whose result equals `value`: its readers read that instead. Where that would make a
/// model output of a model input, the node stays, so that outputs are always written.
pub fn bypass(graph: &mut Graph, label: &'static str, node: NodeId, value: ValueId) -> Option<&'static str> {
    let old = output(graph.node(node)?)?;
    if graph.is_output(old) && graph.inputs.contains(&value) {
        return None;
    }
    let mut patch = Patch::new(graph, label, node);
    patch.redirect(old, value);
    patch.remove(node);
    Some(patch.apply())
}

/// Floating-point types whose products the kernels compute in `f32`.
pub fn is_single(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::Bf16)
}

/// A tensor of a floating-point type with these values, each rounded once.
pub fn float_tensor(dtype: DType, shape: impl Into<Shape>, values: &[f64]) -> Option<Tensor> {
    fn make<T: Element>(shape: Shape, values: &[f64]) -> Option<Tensor> {
        Tensor::new::<T>(shape, values.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>()).ok()
    }
    match dtype {
        DType::F32 => make::<f32>(shape.into(), values),
        DType::F64 => make::<f64>(shape.into(), values),
        DType::F16 => make::<f16>(shape.into(), values),
        DType::Bf16 => make::<bf16>(shape.into(), values),
        _ => None,
    }
}

/// A known operand that broadcasts to `shape` as one value per index of `axis` (or one for all, where
/// `axis` is `None`): those values. `None` where it varies along another axis or widens the shape.
pub fn per_axis(tensor: &Tensor, shape: &Shape, axis: Option<usize>) -> Option<Vec<f64>> {
    let skip = shape.rank().checked_sub(tensor.shape().rank())?;
    let extent = match axis {
        Some(a) => *shape.get(a)?,
        None => 1,
    };
    for (i, &d) in tensor.shape().iter().enumerate() {
        let along = axis == Some(i + skip) && d == extent;
        if d != 1 && !along {
            return None;
        }
    }
    let values = tensor.to_f64_vec()?;
    match values.as_slice() {
        [one] => Some(vec![*one; extent]),
        all if all.len() == extent => Some(values),
        _ => None,
    }
}

/// The single value of a known operand whose elements are all alike, whatever its shape.
pub fn uniform(tensor: &Tensor) -> Option<f64> {
    if !tensor.is_uniform() {
        return None;
    }
    let values = tensor.to_f64_vec()?;
    let first = values.first().copied()?;
    // Zeros of both signs compare equal, but are not alike.
    values.iter().all(|v| v.to_bits() == first.to_bits()).then_some(first)
}

/// An operand of a rewritten node.
pub enum Operand {
    /// A value of the graph, or none.
    Value(Option<ValueId>),
    /// A new constant of this name.
    New(String, Tensor),
}

impl From<ValueId> for Operand {
    fn from(v: ValueId) -> Self {
        Operand::Value(Some(v))
    }
}

/// What becomes of one node.
#[allow(clippy::large_enum_variant)] // made and taken apart at once, never stored
pub enum Rewrite {
    /// Its readers read this value instead.
    Bypass(ValueId),
    /// Another operator in its place.
    Replace {
        /// The operator.
        op: OpKind,
        /// Its operands.
        inputs: Vec<Operand>,
        /// Nodes it took the only reader of.
        absorbed: Vec<NodeId>,
    },
}

impl Rewrite {
    /// Another operator over these operands.
    pub fn replace(op: impl Into<OpKind>, inputs: Vec<Operand>) -> Self {
        Rewrite::Replace { op: op.into(), inputs, absorbed: Vec::new() }
    }
}

/// A rule for one node: `None` where it does not match, `Err` with the reason where it matched and was
/// declined, otherwise a label and the rewrite.
pub type Rule = fn(&Graph, &Node) -> Option<Result<(&'static str, Rewrite), String>>;

/// What came of one node: `None` where nothing matched, `Err` with the reason where a match was
/// declined, otherwise the label of the change.
pub type Outcome = Option<Result<&'static str, String>>;

/// Changes that may start at one place before the walk goes on.
const MAX_REPEATS: usize = 64;

/// Tries a rewrite at each node, in execution order; where it fired, again at the node it made.
pub fn visit(graph: &mut Graph, cx: &mut PassCx<'_>, mut rewrite: impl FnMut(&mut Graph, NodeId) -> Outcome) {
    let order: Vec<NodeId> = graph.order().to_vec();
    for mut id in order {
        for _ in 0..MAX_REPEATS {
            if graph.node(id).is_none() {
                break;
            }
            match rewrite(graph, id) {
                None => break,
                Some(Err(reason)) => {
                    cx.missed(graph, id, reason);
                    break;
                }
                Some(Ok(label)) => cx.fired(label),
            }
            // Ids count up, and a replacement is the last node that its patch makes.
            id = graph.order().iter().copied().max().unwrap_or(id);
        }
    }
}

/// Applies the first rule that matches to each node.
pub fn apply_rules(graph: &mut Graph, cx: &mut PassCx<'_>, rules: &[Rule]) {
    visit(graph, cx, |graph, id| {
        let node = graph.node(id)?;
        let (label, rewrite) = match rules.iter().find_map(|rule| rule(graph, node))? {
            Ok(found) => found,
            Err(reason) => return Some(Err(reason)),
        };
        match rewrite {
            Rewrite::Bypass(value) => bypass(graph, label, id, value).map(Ok),
            Rewrite::Replace { op, inputs, absorbed } => {
                let inputs = inputs
                    .into_iter()
                    .map(|operand| match operand {
                        Operand::Value(v) => v,
                        Operand::New(name, tensor) => Some(graph.add_constant(name, tensor)),
                    })
                    .collect();
                Replacement { label, at: id, absorbed: &absorbed, op, inputs }.apply(graph).map(Ok)
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_along_one_axis() {
        let shape = Shape::from([1, 3, 4, 4]);
        let t = |s: &[usize]| Tensor::from_fn(s, |i| i as f32);
        assert_eq!(per_axis(&t(&[3, 1, 1]), &shape, Some(1)), Some(vec![0.0, 1.0, 2.0]));
        assert_eq!(per_axis(&t(&[1, 3, 1, 1]), &shape, Some(1)), Some(vec![0.0, 1.0, 2.0]));
        assert_eq!(per_axis(&t(&[]), &shape, Some(1)), Some(vec![0.0; 3]));
        assert_eq!(per_axis(&t(&[4]), &shape, Some(1)), None, "along the width");
        assert_eq!(per_axis(&t(&[3]), &Shape::from([1, 3, 3]), Some(1)), None, "along the last axis");
        assert_eq!(per_axis(&t(&[1, 1, 3, 1, 1]), &shape, Some(1)), None, "widens");
        assert_eq!(per_axis(&t(&[3]), &Shape::from([3]), None), None);
        assert_eq!(per_axis(&t(&[1]), &Shape::from([3]), None), Some(vec![0.0]));
    }

    #[test]
    fn zeros_of_both_signs_are_not_uniform() {
        assert_eq!(uniform(&Tensor::vector(&[0.0f32, -0.0])), None);
        assert_eq!(uniform(&Tensor::vector(&[2i8, 2])), Some(2.0));
        assert_eq!(uniform(&Tensor::vector::<f32>(&[])), None);
    }
}
