//! A model while it is edited: the file's messages, with constants in one place and helpers for names.
//!
//! In: a decoded model of any form. Out: a [`ModelProto`] again. `Constant` nodes become initializers,
//! external data comes inside, and inputs that have an initializer are constants. What is not touched
//! (attributes, subgraphs, functions, other domains) goes through as it came; documentation strings are lost.

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::Tensor;
use crate::onnx::proto::{
    AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, ValueInfoProto,
};
use crate::onnx::{ExternalData, decode_tensor, encode_tensor};
use prost::bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A model being edited.
#[derive(Debug, Clone)]
pub struct Draft {
    model: ModelProto,
    graph: GraphProto,
    /// Nodes, each behind what it reads as far as the file had them so.
    pub nodes: Vec<NodeProto>,
    /// Initializers.
    pub constants: BTreeMap<String, Tensor>,
    names: BTreeSet<String>,
}

/// Who reads what.
#[derive(Debug, Clone, Default)]
pub struct Uses {
    /// By value: nodes of the graph itself and the operand's position.
    readers: BTreeMap<String, Vec<(usize, usize)>>,
    /// Graph outputs, and values that subgraphs read.
    kept: BTreeSet<String>,
}

impl Uses {
    /// Nodes that read a value, with the operand's position.
    pub fn readers(&self, name: &str) -> &[(usize, usize)] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether the value must stay under its name: an output of the graph, or read in a subgraph.
    pub fn kept(&self, name: &str) -> bool {
        self.kept.contains(name)
    }

    /// The one node that reads the value, where there is nobody else.
    pub fn only(&self, name: &str) -> Option<(usize, usize)> {
        match self.readers(name) {
            [one] if !self.kept(name) => Some(*one),
            _ => None,
        }
    }
}

impl Draft {
    /// Opens a model; `external` says where its external data may lie.
    pub fn new(mut model: ModelProto, external: &ExternalData) -> Result<Draft, Diagnostics> {
        let mut graph = model.graph.take().ok_or_else(|| {
            Diagnostic::error(Code::NotOnnx, "the file is not an ONNX model: it has no graph")
        })?;
        let mut constants = BTreeMap::new();
        for proto in std::mem::take(&mut graph.initializer) {
            let tensor = decode_tensor(&proto, external).map_err(|e| {
                Diagnostic::error(Code::TensorData, format!("initializer `{}`: {e}", proto.name))
            })?;
            constants.insert(proto.name, tensor);
        }
        let mut nodes = Vec::new();
        for node in std::mem::take(&mut graph.node) {
            match constant_of(&node, external)? {
                Some((name, tensor)) => drop(constants.insert(name, tensor)),
                None => nodes.push(node),
            }
        }
        graph.input.retain(|i| !constants.contains_key(&i.name));
        let mut names: BTreeSet<String> = constants.keys().cloned().collect();
        names.extend(graph.input.iter().map(|i| i.name.clone()));
        names.extend(nodes.iter().flat_map(|n| n.output.iter().cloned()));
        // Names of subgraphs live in the same space.
        for node in &nodes {
            visit_subgraphs(node, &mut |g| {
                names.extend(g.node.iter().flat_map(|n| n.output.iter().cloned()))
            });
        }
        Ok(Draft { model, graph, nodes, constants, names })
    }

    /// The model as a message, without constants that nobody reads.
    pub fn finish(mut self) -> ModelProto {
        let uses = self.uses();
        self.constants.retain(|n, _| uses.kept(n) || !uses.readers(n).is_empty());
        // Declared types stay where the value still exists.
        let written: BTreeSet<&String> = self.nodes.iter().flat_map(|n| &n.output).collect();
        self.graph.value_info.retain(|v| written.contains(&v.name));
        self.graph.initializer = self.constants.into_iter().map(|(n, t)| encode_tensor(n, &t)).collect();
        self.graph.node = self.nodes;
        self.model.graph = Some(self.graph);
        self.model
    }

    /// The model as a message; the draft goes on.
    pub fn to_model(&self) -> ModelProto {
        self.clone().finish()
    }

    /// Inputs that a caller gives.
    pub fn inputs(&self) -> &[ValueInfoProto] {
        &self.graph.input
    }

    /// Names of the graph's outputs, in order.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.graph.output.iter().map(|o| o.name.as_str())
    }

    /// Whether a value is an output of the graph.
    pub fn is_output(&self, name: &str) -> bool {
        self.graph.output.iter().any(|o| o.name == name)
    }

    /// Version of ONNX's own operator set; 0 where the model imports none.
    pub fn opset(&self) -> i64 {
        let own = |o: &&OperatorSetIdProto| o.domain.is_empty() || o.domain == "ai.onnx";
        self.model.opset_import.iter().find(own).map_or(0, |o| o.version)
    }

    /// States another version of ONNX's own operator set, and a file format that knows it.
    pub fn set_opset(&mut self, version: i64) {
        let own = |o: &OperatorSetIdProto| o.domain.is_empty() || o.domain == "ai.onnx";
        match self.model.opset_import.iter_mut().find(|o| own(o)) {
            Some(o) => o.version = version,
            None => self.model.opset_import.push(OperatorSetIdProto { domain: String::new(), version }),
        }
        // The first file format whose release had the operator set.
        let format = if version >= 21 { 10 } else { 7 };
        self.model.ir_version = self.model.ir_version.max(format);
    }

    /// Whether functions of the model itself define operators.
    pub fn has_functions(&self) -> bool {
        !self.model.functions.is_empty()
    }

    /// Sets a key of the file's metadata.
    pub fn set_metadata(&mut self, key: &str, value: &str) {
        self.model.metadata_props.retain(|p| p.key != key);
        self.model
            .metadata_props
            .push(StringStringEntryProto { key: key.to_owned(), value: value.to_owned() });
    }

    /// Names the tool that wrote the file.
    pub fn set_producer(&mut self, name: &str, version: &str) {
        self.model.producer_name = name.to_owned();
        self.model.producer_version = version.to_owned();
    }

    /// A name that nothing has, like `wish`.
    pub fn fresh(&mut self, wish: &str) -> String {
        let mut name = wish.to_owned();
        let mut i = 1;
        while !self.names.insert(name.clone()) {
            i += 1;
            name = format!("{wish}_{i}");
        }
        name
    }

    /// A new constant; returns its name.
    pub fn add_constant(&mut self, wish: &str, tensor: Tensor) -> String {
        let name = self.fresh(wish);
        self.constants.insert(name.clone(), tensor);
        name
    }

    /// Who reads what, now.
    pub fn uses(&self) -> Uses {
        let mut uses = Uses::default();
        uses.kept.extend(self.graph.output.iter().map(|o| o.name.clone()));
        for (i, node) in self.nodes.iter().enumerate() {
            for (k, name) in node.input.iter().enumerate().filter(|(_, n)| !n.is_empty()) {
                uses.readers.entry(name.clone()).or_default().push((i, k));
            }
            visit_subgraphs(node, &mut |g| {
                uses.kept.extend(g.node.iter().flat_map(|n| n.input.iter().cloned()));
                uses.kept.extend(g.output.iter().map(|o| o.name.clone()));
            });
        }
        uses
    }

    /// Lets every reader of `from` in the graph itself read `to`.
    pub fn redirect(&mut self, from: &str, to: &str) {
        for name in self.nodes.iter_mut().flat_map(|n| &mut n.input).filter(|n| *n == from) {
            to.clone_into(name);
        }
    }

    /// Drops nodes by position.
    pub fn remove_nodes(&mut self, gone: &BTreeSet<usize>) {
        let mut i = 0;
        self.nodes.retain(|_| {
            i += 1;
            !gone.contains(&(i - 1))
        });
    }
}

/// A `Constant` node's output and tensor; sparse and string forms stay nodes.
fn constant_of(node: &NodeProto, external: &ExternalData) -> Result<Option<(String, Tensor)>, Diagnostics> {
    if node.op_type != "Constant" || !is_own(node) {
        return Ok(None);
    }
    let Some(output) = node.output.first() else { return Ok(None) };
    let Some(a) = node.attribute.first() else { return Ok(None) };
    let tensor = match a.name.as_str() {
        "value" => {
            a.t.as_ref()
                .map(|t| decode_tensor(t, external))
                .transpose()
                .map_err(|e| Diagnostic::error(Code::TensorData, format!("constant `{output}`: {e}")))?
        }
        "value_float" => a.f.map(Tensor::scalar),
        "value_int" => a.i.map(Tensor::scalar),
        "value_floats" => Some(Tensor::vector(&a.floats)),
        "value_ints" => Some(Tensor::vector(&a.ints)),
        _ => None,
    };
    Ok(tensor.map(|t| (output.clone(), t)))
}

/// Shows every graph that a node holds, at any depth.
pub fn visit_subgraphs<'g>(node: &'g NodeProto, see: &mut dyn FnMut(&'g GraphProto)) {
    for attribute in &node.attribute {
        for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
            see(graph);
            graph.node.iter().for_each(|n| visit_subgraphs(n, see));
        }
    }
}

/// Whether a node is of ONNX's own domain.
pub fn is_own(node: &NodeProto) -> bool {
    node.domain.is_empty() || node.domain == "ai.onnx"
}

/// Whether a node is an operator of ONNX's own domain.
pub fn is_op(node: &NodeProto, op_type: &str) -> bool {
    is_own(node) && node.op_type == op_type
}

/// A node of ONNX's own domain.
pub fn node(op_type: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op_type.to_owned(),
        name: name.to_owned(),
        input: inputs.iter().map(|&s| s.to_owned()).collect(),
        output: outputs.iter().map(|&s| s.to_owned()).collect(),
        ..NodeProto::default()
    }
}

/// An attribute by name.
pub fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// An integer attribute, or its default.
pub fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).and_then(|a| a.i).unwrap_or(default)
}

/// A float attribute, or its default.
pub fn float(node: &NodeProto, name: &str, default: f32) -> f32 {
    attribute(node, name).and_then(|a| a.f).unwrap_or(default)
}

/// A text attribute.
pub fn text<'n>(node: &'n NodeProto, name: &str) -> Option<&'n str> {
    attribute(node, name).and_then(|a| a.s.as_ref()).and_then(|s| std::str::from_utf8(s).ok())
}

/// Takes an attribute off a node.
pub fn take(node: &mut NodeProto, name: &str) -> Option<AttributeProto> {
    let at = node.attribute.iter().position(|a| a.name == name)?;
    Some(node.attribute.remove(at))
}

/// Sets an integer attribute.
pub fn set_int(node: &mut NodeProto, name: &str, value: i64) {
    take(node, name);
    node.attribute.push(AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i: Some(value),
        ..AttributeProto::default()
    });
}

/// Sets a text attribute.
pub fn set_text(node: &mut NodeProto, name: &str, value: &str) {
    take(node, name);
    node.attribute.push(AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::String as i32,
        s: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..AttributeProto::default()
    });
}

/// Name of a node for people: its own, or that of its first result.
pub fn label(node: &NodeProto) -> &str {
    if !node.name.is_empty() {
        return &node.name;
    }
    node.output.iter().find(|o| !o.is_empty()).map_or("", String::as_str)
}
