//! Nodes and values.

use super::{DType, Shape, Table, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Index of a value in its graph. Stable; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// Index of a node in its graph. Stable; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// One ONNX node that a node of the graph stands for, wholly or in part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Origin {
    /// Position in the file's node list.
    pub index: usize,
    /// Node name, or the name of its first output where it has none.
    pub name: String,
    /// Operator.
    pub op_type: String,
    /// Operator set's domain; empty for ONNX's own.
    pub domain: String,
    /// Version of the operator set that the model imports.
    pub opset: i64,
}

/// Something computed, given or known. Written once.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Name for people: ONNX's, or derived from it. Not unique, not an identity.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: Shape,
    /// The value itself, where it is known at compile time.
    pub constant: Option<Tensor>,
    /// The texts that its elements, `i64`, are positions of. Known while a file is read; ports keep theirs in
    /// [`Graph::tables`].
    pub texts: Option<Arc<[String]>>,
    /// The node and output position that write it; `None` for inputs and constants.
    pub producer: Option<(NodeId, usize)>,
}

/// An operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Node<O> {
    /// What it computes.
    pub op: O,
    /// Operands in ONNX order; `None` where an optional one is absent.
    pub inputs: Vec<Option<ValueId>>,
    /// Results; `None` where nobody asked for an optional one.
    pub outputs: Vec<Option<ValueId>>,
    /// ONNX nodes it came from, in file order.
    pub origins: Vec<Origin>,
}

/// An output whose extent along an axis is a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLength {
    /// Position of the output.
    pub output: usize,
    /// The axis.
    pub axis: usize,
    /// Position of the output, an `i64[1]`, that says the extent of a run.
    pub length: usize,
}

/// A graph in execution order, generic over the operators so that `ir` stays a leaf.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph<O> {
    /// The model's name.
    pub name: String,
    /// Inputs, in the model's order.
    pub inputs: Vec<ValueId>,
    /// Outputs, in the model's order; the same value may stand twice.
    pub outputs: Vec<(String, ValueId)>,
    /// What numbers or columns of inputs and outputs stand for, by name.
    pub tables: BTreeMap<String, Table>,
    /// Which outputs have extents that only a run knows. The outputs that say these stand behind the model's own.
    pub lengths: Vec<OutputLength>,
    pub(super) values: Vec<Value>,
    pub(super) nodes: Vec<Option<Node<O>>>,
    pub(super) order: Vec<NodeId>,
}

impl OutputLength {
    /// A run's outputs as the model has them: each cut to its length, those that say lengths left out.
    pub fn cut(lengths: &[OutputLength], mut outputs: Vec<Tensor>) -> Vec<Tensor> {
        let own = lengths.iter().map(|l| l.length).min().unwrap_or(outputs.len());
        for l in lengths {
            let length = outputs.get(l.length).and_then(Tensor::to_i64_vec).and_then(|v| v.first().copied());
            let length = length.and_then(|n| usize::try_from(n).ok());
            let cut = length.and_then(|n| outputs.get(l.output)?.truncated(l.axis, n));
            if let (Some(cut), Some(output)) = (cut, outputs.get_mut(l.output)) {
                *output = cut;
            }
        }
        outputs.truncate(own);
        outputs
    }
}

impl<O> Graph<O> {
    /// A graph of nothing.
    pub fn new(name: impl Into<String>) -> Self {
        Graph {
            name: name.into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            tables: BTreeMap::new(),
            lengths: Vec::new(),
            values: Vec::new(),
            nodes: Vec::new(),
            order: Vec::new(),
        }
    }

    /// Adds a value that is given from outside.
    pub fn add_input(&mut self, name: impl Into<String>, dtype: DType, shape: Shape) -> ValueId {
        let id = self.add_value(Value {
            name: name.into(),
            dtype,
            shape,
            constant: None,
            texts: None,
            producer: None,
        });
        self.inputs.push(id);
        id
    }

    /// Adds a value known at compile time.
    pub fn add_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        self.add_value(Value {
            name: name.into(),
            dtype: tensor.dtype(),
            shape: tensor.shape().clone(),
            constant: Some(tensor),
            texts: None,
            producer: None,
        })
    }

    fn add_value(&mut self, value: Value) -> ValueId {
        let id = ValueId(self.values.len() as u32);
        self.values.push(value);
        id
    }

    /// Appends a node at the end of the order; `outputs` gives name, type and shape of each result.
    pub fn add_node(
        &mut self,
        op: O,
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<(String, DType, Shape)>>,
        origins: Vec<Origin>,
    ) -> NodeId {
        let id = self.insert(op, inputs, outputs, origins);
        self.order.push(id);
        id
    }

    /// Creates a node without a place in the order.
    pub(super) fn insert(
        &mut self,
        op: O,
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<(String, DType, Shape)>>,
        origins: Vec<Origin>,
    ) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        let outputs = outputs
            .into_iter()
            .enumerate()
            .map(|(i, o)| {
                o.map(|(name, dtype, shape)| {
                    self.add_value(Value {
                        name,
                        dtype,
                        shape,
                        constant: None,
                        texts: None,
                        producer: Some((id, i)),
                    })
                })
            })
            .collect();
        self.nodes.push(Some(Node { op, inputs, outputs, origins }));
        id
    }

    /// A value. Ids come from this graph, so the lookup cannot fail.
    #[allow(clippy::indexing_slicing)]
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// A value, to rename it or refine what is known of it.
    #[allow(clippy::indexing_slicing)]
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.0 as usize]
    }

    /// Number of values ever made: ids are below it.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// A node that has not been removed.
    pub fn node(&self, id: NodeId) -> Option<&Node<O>> {
        self.nodes.get(id.0 as usize).and_then(Option::as_ref)
    }

    /// A node, to change its operator in place.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut Node<O>> {
        self.nodes.get_mut(id.0 as usize).and_then(Option::as_mut)
    }

    /// Nodes in execution order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node<O>)> {
        self.order.iter().filter_map(|&id| self.node(id).map(|n| (id, n)))
    }

    /// Node ids in execution order.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// Removes a node whose results nobody reads any more. Its id stays in the order, where it means
    /// nothing, until [`Graph::compact_order`]: removing many nodes takes time in proportion.
    pub fn remove_node(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(id.0 as usize).and_then(Option::take);
        for v in node.iter().flat_map(|n| n.outputs.iter().flatten()) {
            if let Some(value) = self.values.get_mut(v.0 as usize) {
                value.producer = None;
            }
        }
    }

    /// Drops the ids of removed nodes from the order.
    pub fn compact_order(&mut self) {
        let nodes = &self.nodes;
        self.order.retain(|id| nodes.get(id.0 as usize).is_some_and(Option::is_some));
    }

    /// Puts the nodes in another order; the caller keeps it topological (the verifier checks).
    pub fn set_order(&mut self, order: Vec<NodeId>) {
        self.order = order;
    }

    /// The tensor of a value, where it is known.
    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.value(id).constant.as_ref()
    }

    /// The node that writes a value.
    pub fn producer(&self, id: ValueId) -> Option<(NodeId, &Node<O>)> {
        let (node, _) = self.value(id).producer?;
        self.node(node).map(|n| (node, n))
    }

    /// For every value, the nodes that read it, in execution order, once per operand position.
    pub fn users(&self) -> Vec<Vec<NodeId>> {
        let mut users = vec![Vec::new(); self.values.len()];
        for (id, node) in self.nodes() {
            for input in node.inputs.iter().flatten() {
                if let Some(list) = users.get_mut(input.0 as usize) {
                    list.push(id);
                }
            }
        }
        users
    }

    /// The model's own outputs, without those that say lengths.
    pub fn own_outputs(&self) -> &[(String, ValueId)] {
        let own = self.lengths.iter().map(|l| l.length).min().unwrap_or(self.outputs.len());
        self.outputs.get(..own).unwrap_or(&self.outputs)
    }

    /// Whether a value is one of the graph's outputs.
    pub fn is_output(&self, id: ValueId) -> bool {
        self.outputs.iter().any(|&(_, v)| v == id)
    }

    /// Turns a computed value into a known one; its producer stays until dead code is removed.
    pub fn set_constant(&mut self, id: ValueId, tensor: Tensor) {
        let value = self.value_mut(id);
        value.constant = Some(tensor);
    }

    /// Removes nodes none of whose results is read, known values' producers included, and cuts
    /// known values from their producers. Returns how many went.
    pub fn remove_dead(&mut self) -> usize {
        let mut needed = vec![false; self.values.len()];
        for &(_, v) in &self.outputs {
            if let Some(n) = needed.get_mut(v.0 as usize) {
                *n = true;
            }
        }
        let mut keep = Vec::with_capacity(self.order.len());
        for &id in self.order.iter().rev() {
            let Some(node) = self.nodes.get(id.0 as usize).and_then(Option::as_ref) else { continue };
            let live = node
                .outputs
                .iter()
                .flatten()
                .any(|v| needed.get(v.0 as usize) == Some(&true) && self.value(*v).constant.is_none());
            if live {
                for v in node.inputs.iter().flatten() {
                    if let Some(n) = needed.get_mut(v.0 as usize) {
                        *n = true;
                    }
                }
                keep.push(id);
            }
        }
        keep.reverse();
        let removed = self.order.len() - keep.len();
        let live: std::collections::BTreeSet<NodeId> = keep.iter().copied().collect();
        for &id in &self.order {
            if !live.contains(&id)
                && let Some(slot) = self.nodes.get_mut(id.0 as usize)
            {
                *slot = None;
            }
        }
        for value in &mut self.values {
            let gone =
                value.producer.is_some_and(|(n, _)| self.nodes.get(n.0 as usize).is_none_or(Option::is_none));
            if gone || value.constant.is_some() {
                value.producer = None;
            }
        }
        self.order = keep;
        // An output that became known must not still be listed by a node that stays.
        for node in self.nodes.iter_mut().flatten() {
            for output in &mut node.outputs {
                if output.is_some_and(|v| self.values.get(v.0 as usize).is_some_and(|v| v.constant.is_some()))
                {
                    *output = None;
                }
            }
        }
        removed
    }
}
