//! What passes ask about a graph, and the few ways they change it.

use super::PassCx;
use crate::ir::{DType, Element, Node as IrNode, NodeId, Origin, Shape, Tensor, ValueId, bf16, f16};
use crate::ops::{Fact, Graph, Inputs, Node, OpError, OpKind, Type};
use std::ops::{Deref, DerefMut};

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

/// A graph with an index of who reads what, kept up to date by the changes below: each takes time in
/// proportion to what it touches, not to the graph.
///
/// Reading goes through to the graph. Whoever changes nodes by other means calls [`Editor::refresh`].
pub struct Editor<'g> {
    graph: &'g mut Graph,
    /// By value: nodes that read it, once per operand position.
    readers: Vec<Vec<NodeId>>,
    /// By value: whether it is a model output.
    outputs: Vec<bool>,
    /// By node: its place in the order.
    places: Vec<usize>,
}

impl Deref for Editor<'_> {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        self.graph
    }
}

impl DerefMut for Editor<'_> {
    fn deref_mut(&mut self) -> &mut Graph {
        self.graph
    }
}

impl<'g> Editor<'g> {
    /// An editor of a graph.
    pub fn new(graph: &'g mut Graph) -> Self {
        let mut editor = Editor { graph, readers: Vec::new(), outputs: Vec::new(), places: Vec::new() };
        editor.refresh();
        editor
    }

    /// Makes the index anew.
    pub fn refresh(&mut self) {
        self.graph.compact_order();
        self.readers = self.graph.users();
        self.outputs = vec![false; self.graph.value_count()];
        for &(_, v) in &self.graph.outputs {
            if let Some(o) = self.outputs.get_mut(v.0 as usize) {
                *o = true;
            }
        }
        let order = self.graph.order();
        self.places = vec![usize::MAX; order.iter().map(|n| n.0 as usize + 1).max().unwrap_or(0)];
        for (place, id) in order.iter().enumerate() {
            if let Some(p) = self.places.get_mut(id.0 as usize) {
                *p = place;
            }
        }
    }

    /// Where a node stands in the order.
    pub fn place(&self, id: NodeId) -> usize {
        self.places.get(id.0 as usize).copied().unwrap_or(usize::MAX)
    }

    /// Nodes that read a value, once per operand position.
    pub fn readers(&self, v: ValueId) -> &[NodeId] {
        self.readers.get(v.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether a value is a model output.
    pub fn is_model_output(&self, v: ValueId) -> bool {
        self.outputs.get(v.0 as usize) == Some(&true)
    }

    /// The only reader of a value, or why it has none that could absorb it.
    pub fn only_reader(&self, v: ValueId) -> Result<NodeId, String> {
        let name = &self.value(v).name;
        match self.readers(v) {
            _ if self.is_model_output(v) => Err(format!("`{name}` is a model output")),
            [one] => Ok(*one),
            readers => Err(format!("`{name}` has {} readers", readers.len())),
        }
    }

    fn reads(&mut self, node: NodeId, v: ValueId) {
        if self.readers.len() <= v.0 as usize {
            self.readers.resize(v.0 as usize + 1, Vec::new());
        }
        if let Some(list) = self.readers.get_mut(v.0 as usize) {
            list.push(node);
        }
    }

    fn reads_no_more(&mut self, node: NodeId, v: ValueId) {
        let list = self.readers.get_mut(v.0 as usize);
        if let Some((list, at)) = list.and_then(|l| l.iter().position(|&n| n == node).map(|at| (l, at))) {
            list.remove(at);
        }
    }

    /// Gives a node other operands.
    pub fn set_inputs(&mut self, id: NodeId, inputs: Vec<Option<ValueId>>) {
        let Some(node) = self.graph.node_mut(id) else { return };
        let old = std::mem::replace(&mut node.inputs, inputs.clone());
        for v in old.into_iter().flatten() {
            self.reads_no_more(id, v);
        }
        for v in inputs.into_iter().flatten() {
            self.reads(id, v);
        }
    }

    /// Removes a node that nobody reads.
    pub fn remove(&mut self, id: NodeId) {
        self.set_inputs(id, Vec::new());
        self.graph.remove_node(id);
    }

    /// Readers of `old`, and the model's outputs, read `new` from now on.
    pub fn redirect(&mut self, old: ValueId, new: ValueId) {
        let Some(readers) = self.readers.get_mut(old.0 as usize).map(std::mem::take) else { return };
        for id in readers {
            let inputs = self.graph.node_mut(id).map(|n| n.inputs.iter_mut().flatten());
            if let Some(input) = inputs.and_then(|mut i| i.find(|v| **v == old)) {
                *input = new;
            }
            self.reads(id, new);
        }
        if self.is_model_output(old) {
            for (_, v) in &mut self.graph.outputs {
                if *v == old {
                    *v = new;
                }
            }
            self.outputs.resize(self.outputs.len().max(new.0 as usize + 1), false);
            for (v, is) in [(old, false), (new, true)] {
                if let Some(o) = self.outputs.get_mut(v.0 as usize) {
                    *o = is;
                }
            }
        }
    }

    /// Removes a node whose result equals `value`: its readers read that instead. Where that would make
    /// a model output of a model input, the node stays, so that outputs are always written.
    pub fn bypass(&mut self, node: NodeId, value: ValueId) -> Option<()> {
        let old = output(self.node(node)?)?;
        let given = self.value(value).producer.is_none() && self.constant(value).is_none();
        if self.is_model_output(old) && given {
            return None;
        }
        self.redirect(old, value);
        self.remove(node);
        Some(())
    }
}

/// Another operator in the place of one or several nodes.
pub struct Replacement<'a> {
    /// What reports count.
    pub label: &'static str,
    /// The last of the replaced nodes: the new operator stands in its place and gives its result.
    pub at: NodeId,
    /// Further nodes it stands for; nobody else reads them.
    pub absorbed: &'a [NodeId],
    /// What it computes.
    pub op: OpKind,
    /// Its operands.
    pub inputs: Vec<Option<ValueId>>,
}

impl Replacement<'_> {
    /// Carries it out and returns the label; `at` must have one result.
    pub fn apply(self, graph: &mut Editor<'_>) -> Option<&'static str> {
        output(graph.node(self.at)?)?;
        let origins = origins(graph, self.absorbed.iter().chain([&self.at]));
        graph.set_inputs(self.at, self.inputs);
        let node = graph.node_mut(self.at)?;
        node.op = self.op;
        node.origins = origins;
        node.outputs.truncate(1);
        for &id in self.absorbed {
            graph.remove(id);
        }
        Some(self.label)
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
        op: Box<OpKind>,
        /// Its operands.
        inputs: Vec<Operand>,
        /// Nodes it took the only reader of.
        absorbed: Vec<NodeId>,
    },
}

impl Rewrite {
    /// Another operator over these operands.
    pub fn replace(op: impl Into<OpKind>, inputs: Vec<Operand>) -> Self {
        Rewrite::Replace { op: Box::new(op.into()), inputs, absorbed: Vec::new() }
    }
}

/// A rule for one node: `None` where it does not match, `Err` with the reason where it matched and was
/// declined, otherwise a label and the rewrite.
pub type Rule = fn(&Editor<'_>, &Node) -> Option<Result<(&'static str, Rewrite), String>>;

/// What came of one node: `None` where nothing matched, `Err` with the reason where a match was
/// declined, otherwise the label of the change.
pub type Outcome = Option<Result<&'static str, String>>;

/// Changes that may start at one place before the walk goes on.
const MAX_REPEATS: usize = 64;

/// Tries a rewrite at each node that computes something, in execution order, until it no longer fires
/// there.
pub fn visit(
    graph: &mut Graph,
    cx: &mut PassCx<'_>,
    mut rewrite: impl FnMut(&mut Editor<'_>, NodeId) -> Outcome,
) {
    let order: Vec<NodeId> = graph.order().to_vec();
    let mut editor = Editor::new(graph);
    for id in order {
        for _ in 0..MAX_REPEATS {
            // Results that were folded keep their producer until dead code is removed.
            let computes = |n: &Node| n.outputs.iter().flatten().any(|&v| editor.constant(v).is_none());
            if !editor.node(id).is_some_and(computes) {
                break;
            }
            match rewrite(&mut editor, id) {
                None => break,
                Some(Err(reason)) => {
                    cx.missed(&editor, id, reason);
                    break;
                }
                Some(Ok(label)) => cx.fired(label),
            }
        }
    }
    graph.compact_order();
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
            Rewrite::Bypass(value) => graph.bypass(id, value).map(|()| Ok(label)),
            Rewrite::Replace { op, inputs, absorbed } => {
                let inputs = inputs
                    .into_iter()
                    .map(|operand| match operand {
                        Operand::Value(v) => v,
                        Operand::New(name, tensor) => Some(graph.add_constant(name, tensor)),
                    })
                    .collect();
                Replacement { label, at: id, absorbed: &absorbed, op: *op, inputs }.apply(graph).map(Ok)
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
