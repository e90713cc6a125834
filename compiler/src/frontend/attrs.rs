//! Attributes from the file to [`Attr`].

use super::problems::data_problem;
use crate::diag::{Code, Diagnostic};
use crate::onnx::proto::{AttributeProto, AttributeType, GraphProto, NodeProto};
use crate::onnx::{Attr, DataError, ExternalData, decode_sparse, decode_tensor};
use std::collections::BTreeMap;

/// The attributes a function was called with, defaults included.
pub(super) type Given<'m> = BTreeMap<&'m str, &'m AttributeProto>;

/// A node's attributes, those that refer to the function's looked up in `given`; a reference to one
/// that was not given is left out, as ONNX says.
pub(super) fn resolved<'m>(node: &'m NodeProto, given: &Given<'m>) -> Vec<(&'m str, &'m AttributeProto)> {
    node.attribute
        .iter()
        .filter_map(|a| {
            if a.ref_attr_name.is_empty() {
                return Some((a.name.as_str(), a));
            }
            given.get(a.ref_attr_name.as_str()).map(|source| (a.name.as_str(), *source))
        })
        .collect()
}

/// Decoded attributes and the subgraphs that [`Attr::Graph`] indexes.
#[derive(Default)]
pub(super) struct Decoded<'m> {
    pub attrs: Vec<(String, Attr)>,
    pub graphs: Vec<&'m GraphProto>,
}

/// Decodes a node's attributes.
pub(super) fn decode<'m>(
    attributes: &[(&'m str, &'m AttributeProto)],
    external: &ExternalData,
) -> Result<Decoded<'m>, Box<Diagnostic>> {
    let mut out = Decoded::default();
    for &(name, proto) in attributes {
        if out.attrs.iter().any(|(n, _)| n == name) {
            let d = Diagnostic::error(Code::InvalidNode, format!("attribute `{name}` stands twice"));
            return Err(Box::new(d));
        }
        let attr = value(name, proto, external, &mut out.graphs)?;
        out.attrs.push((name.to_owned(), attr));
    }
    Ok(out)
}

fn value<'m>(
    name: &str,
    p: &'m AttributeProto,
    external: &ExternalData,
    graphs: &mut Vec<&'m GraphProto>,
) -> Result<Attr, Box<Diagnostic>> {
    let tensor_error = |e: DataError| Box::new(data_problem(&format!("attribute `{name}`"), &e, None));
    let empty = || {
        let message = format!("attribute `{name}` lacks the value its type names");
        Box::new(Diagnostic::error(Code::InvalidNode, message))
    };
    let mut subgraph = |g: &'m GraphProto| {
        graphs.push(g);
        graphs.len() - 1
    };
    Ok(match kind(p) {
        AttributeType::Float => Attr::Float(p.f.unwrap_or(0.0)),
        AttributeType::Int => Attr::Int(p.i.unwrap_or(0)),
        AttributeType::String => Attr::String(p.s.clone().unwrap_or_default().to_vec()),
        AttributeType::Tensor => {
            Attr::Tensor(decode_tensor(p.t.as_ref().ok_or_else(empty)?, external).map_err(tensor_error)?)
        }
        AttributeType::SparseTensor => Attr::Tensor(
            decode_sparse(p.sparse_tensor.as_ref().ok_or_else(empty)?, external).map_err(tensor_error)?,
        ),
        AttributeType::Graph => Attr::Graph(subgraph(p.g.as_ref().ok_or_else(empty)?)),
        AttributeType::Floats => Attr::Floats(p.floats.clone()),
        AttributeType::Ints => Attr::Ints(p.ints.clone()),
        AttributeType::Strings => Attr::Strings(p.strings.iter().map(|s| s.to_vec()).collect()),
        AttributeType::Tensors => Attr::Tensors(
            p.tensors
                .iter()
                .map(|t| decode_tensor(t, external))
                .collect::<Result<_, _>>()
                .map_err(tensor_error)?,
        ),
        AttributeType::Graphs => Attr::Graphs(p.graphs.iter().map(subgraph).collect()),
        other @ (AttributeType::SparseTensors
        | AttributeType::TypeProto
        | AttributeType::TypeProtos
        | AttributeType::Undefined) => {
            let message = format!("attribute `{name}` is of type {other:?}, which is not supported");
            return Err(Box::new(Diagnostic::error(Code::UnsupportedForm, message)));
        }
    })
}

/// The attribute's type. Files before IR version 2 don't name it; there the field in use tells.
fn kind(p: &AttributeProto) -> AttributeType {
    match AttributeType::try_from(p.r#type) {
        Ok(AttributeType::Undefined) | Err(_) => {}
        Ok(kind) => return kind,
    }
    let candidates = [
        (p.f.is_some(), AttributeType::Float),
        (p.i.is_some(), AttributeType::Int),
        (p.s.is_some(), AttributeType::String),
        (p.t.is_some(), AttributeType::Tensor),
        (p.g.is_some(), AttributeType::Graph),
        (p.sparse_tensor.is_some(), AttributeType::SparseTensor),
        (p.tp.is_some(), AttributeType::TypeProto),
        (!p.floats.is_empty(), AttributeType::Floats),
        (!p.ints.is_empty(), AttributeType::Ints),
        (!p.strings.is_empty(), AttributeType::Strings),
        (!p.tensors.is_empty(), AttributeType::Tensors),
        (!p.graphs.is_empty(), AttributeType::Graphs),
    ];
    candidates.iter().find(|(used, _)| *used).map_or(AttributeType::Undefined, |(_, kind)| *kind)
}
