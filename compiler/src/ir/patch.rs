//! Labelled changes of a graph: the only way passes rewrite.

use super::graph::{Graph, NodeId, Origin, ValueId};
use super::{DType, Shape, Tensor};

/// New nodes that stand before an anchor, values redirected, nodes removed; applied as a whole.
///
/// Values and nodes are created in the graph at once, so that their ids can be used while the patch
/// is being built; nothing is read from them until [`Patch::apply`].
pub struct Patch<'g, O> {
    graph: &'g mut Graph<O>,
    label: &'static str,
    anchor: NodeId,
    added: Vec<NodeId>,
    redirected: Vec<(ValueId, ValueId)>,
    removed: Vec<NodeId>,
}

impl<'g, O> Patch<'g, O> {
    /// A change named `label` whose new nodes run just before `anchor`.
    pub fn new(graph: &'g mut Graph<O>, label: &'static str, anchor: NodeId) -> Self {
        Patch { graph, label, anchor, added: Vec::new(), redirected: Vec::new(), removed: Vec::new() }
    }

    /// The graph as it is before the change.
    pub fn graph(&self) -> &Graph<O> {
        self.graph
    }

    /// Adds a known value.
    pub fn constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        self.graph.add_constant(name, tensor)
    }

    /// Adds a node with one result and returns that.
    pub fn node(
        &mut self,
        op: O,
        inputs: Vec<Option<ValueId>>,
        output: (String, DType, Shape),
        origins: Vec<Origin>,
    ) -> ValueId {
        let id = self.graph.insert(op, inputs, vec![Some(output)], origins);
        self.added.push(id);
        // A node made with one output has it.
        self.graph.node(id).and_then(|n| n.outputs.first().copied().flatten()).unwrap_or(ValueId(0))
    }

    /// Adds a node with several results.
    pub fn node_multi(
        &mut self,
        op: O,
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<(String, DType, Shape)>>,
        origins: Vec<Origin>,
    ) -> Vec<Option<ValueId>> {
        let id = self.graph.insert(op, inputs, outputs, origins);
        self.added.push(id);
        self.graph.node(id).map(|n| n.outputs.clone()).unwrap_or_default()
    }

    /// Readers of `old`, and the graph's outputs, read `new` from now on.
    pub fn redirect(&mut self, old: ValueId, new: ValueId) {
        self.redirected.push((old, new));
    }

    /// Removes a node; its results must have been redirected or be unused.
    pub fn remove(&mut self, node: NodeId) {
        self.removed.push(node);
    }

    /// Carries the change out and returns its label.
    pub fn apply(self) -> &'static str {
        let Patch { graph, label, anchor, added, redirected, removed } = self;
        let at = graph.order.iter().position(|&n| n == anchor).unwrap_or(graph.order.len());
        graph.order.splice(at..at, added.iter().copied());
        for (old, new) in redirected {
            for node in graph.nodes.iter_mut().flatten() {
                for input in node.inputs.iter_mut().flatten() {
                    if *input == old {
                        *input = new;
                    }
                }
            }
            for (_, output) in &mut graph.outputs {
                if *output == old {
                    *output = new;
                }
            }
        }
        for id in removed {
            graph.order.retain(|&n| n != id);
            if let Some(slot) = graph.nodes.get_mut(id.0 as usize) {
                *slot = None;
            }
            for value in &mut graph.values {
                if value.producer.is_some_and(|(n, _)| n == id) {
                    value.producer = None;
                }
            }
        }
        label
    }
}
