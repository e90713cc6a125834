//! The forward walk: names to values, nodes in execution order, subgraphs and functions in place.

use super::attrs::Given;
use super::bounded::Bounds;
use super::custom::CustomOps;
use super::inputs::{Declared, Dim, declared};
use super::limits::{MAX_CONSTANT_BYTES, MAX_NODES, short};
use super::order::execution_order;
use super::problems::{Problems, data_problem};
use super::scope::{Scope, Slot};
use crate::diag::{Code, Diagnostic};
use crate::ir::{DType, Keys, Origin, Shape, Tensor, ValueId};
use crate::onnx::proto::{FunctionProto, GraphProto, NodeProto, TensorProto};
use crate::onnx::{DataError, ExternalData, decode_sparse, decode_tensor, tensor_type};
use crate::ops::{Graph, Importer, importers};
use std::collections::{BTreeMap, HashMap};

/// Versions of operator sets by domain, `ai.onnx` under the empty name.
pub(super) type Opsets<'m> = BTreeMap<&'m str, i64>;

/// Domain, name and overload of a model-local function.
pub(super) type FunctionKey<'m> = (&'m str, &'m str, &'m str);

/// Where nodes stand: the model's graph, a branch, the body of a function.
#[derive(Clone)]
pub(super) struct Frame<'m> {
    /// Operator sets in force.
    pub opsets: Opsets<'m>,
    /// Attributes that the function was called with.
    pub given: Given<'m>,
    /// Put before names of values, for people to tell calls apart.
    pub prefix: String,
    /// The node of the file's own graph that this belongs to; `None` in that graph.
    pub top: Option<usize>,
    /// Functions being inlined, outermost first.
    pub calls: Vec<FunctionKey<'m>>,
    /// Depth of branches and calls.
    pub depth: usize,
}

/// State of the walk.
pub(super) struct Walker<'m> {
    pub graph: Graph,
    pub importers: Vec<Importer>,
    pub functions: BTreeMap<FunctionKey<'m>, &'m FunctionProto>,
    pub external: &'m ExternalData,
    /// Operators that functions of the user compute.
    pub custom: &'m CustomOps,
    /// Values of the inputs' named dimensions.
    pub dims: BTreeMap<String, usize>,
    /// Dictionaries that became tensors, and their keys.
    pub dictionaries: BTreeMap<ValueId, Keys>,
    pub problems: Problems,
    /// Values of the graph whose extent along an axis is a maximum.
    pub bounds: Bounds,
    /// Types that the main graph declares, by name.
    pub declared: HashMap<&'m str, Declared<'m>>,
    /// Nodes left of [`MAX_NODES`].
    nodes_left: usize,
    /// Bytes left of [`MAX_CONSTANT_BYTES`].
    bytes_left: usize,
    pub fold_bytes_left: usize,
    pub fold_work_left: u64,
}

/// State that a walk over a body hands back.
pub(super) struct Lent {
    graph: Graph,
    importers: Vec<Importer>,
    problems: Problems,
    bounds: Bounds,
    left: (usize, usize, usize, u64),
}

/// The walk ends early: a limit was hit and reported.
pub(super) struct Stop;

impl<'m> Walker<'m> {
    pub fn new(name: &str, external: &'m ExternalData, custom: &'m CustomOps, problems: Problems) -> Self {
        Walker {
            graph: Graph::new(name),
            importers: importers(),
            functions: BTreeMap::new(),
            external,
            custom,
            dims: BTreeMap::new(),
            dictionaries: BTreeMap::new(),
            problems,
            bounds: Bounds::new(),
            declared: HashMap::new(),
            nodes_left: MAX_NODES,
            bytes_left: MAX_CONSTANT_BYTES,
            fold_bytes_left: super::limits::FOLD_TOTAL_BYTES,
            fold_work_left: super::limits::FOLD_TOTAL_WORK,
        }
    }

    /// A walker that goes on in this one's place over nodes of another lifetime, until
    /// [`Walker::take_back`]. It knows neither the model's functions nor its declarations.
    pub fn lend<'b>(&mut self) -> Walker<'b>
    where
        'm: 'b,
    {
        Walker {
            graph: std::mem::replace(&mut self.graph, Graph::new("")),
            importers: std::mem::take(&mut self.importers),
            functions: BTreeMap::new(),
            external: self.external,
            custom: self.custom,
            dims: BTreeMap::new(),
            dictionaries: BTreeMap::new(),
            problems: std::mem::take(&mut self.problems),
            bounds: std::mem::take(&mut self.bounds),
            declared: HashMap::new(),
            nodes_left: self.nodes_left,
            bytes_left: self.bytes_left,
            fold_bytes_left: self.fold_bytes_left,
            fold_work_left: self.fold_work_left,
        }
    }

    /// What [`Walker::take_back`] wants of a lent walker.
    pub fn into_lent(self) -> Lent {
        Lent {
            graph: self.graph,
            importers: self.importers,
            problems: self.problems,
            bounds: self.bounds,
            left: (self.nodes_left, self.bytes_left, self.fold_bytes_left, self.fold_work_left),
        }
    }

    /// Goes on where a lent walker stopped.
    pub fn take_back(&mut self, lent: Lent) {
        (self.graph, self.importers, self.problems) = (lent.graph, lent.importers, lent.problems);
        self.bounds = lent.bounds;
        (self.nodes_left, self.bytes_left, self.fold_bytes_left, self.fold_work_left) = lent.left;
    }

    /// Notes the types that the main graph declares for its values.
    pub fn declare(&mut self, graph: &'m GraphProto) {
        for info in graph.value_info.iter().chain(&graph.output) {
            if let Ok(ty) = declared(info) {
                self.declared.insert(&info.name, ty);
            }
        }
    }

    /// Defines the initializers of a graph.
    pub fn initializers<'s>(
        &mut self,
        graph: &'s GraphProto,
        scope: &mut Scope<'s>,
        frame: &Frame<'m>,
    ) -> Result<(), Stop> {
        let external = self.external;
        for proto in &graph.initializer {
            let tensor = self.charge(proto).and_then(|()| decode_tensor(proto, external));
            self.initializer(&proto.name, tensor, scope, frame)?;
        }
        for sparse in &graph.sparse_initializer {
            let Some(values) = &sparse.values else { continue };
            let dense =
                TensorProto { dims: sparse.dims.clone(), data_type: values.data_type, ..Default::default() };
            let tensor = self.charge(&dense).and_then(|()| decode_sparse(sparse, external));
            self.initializer(&values.name, tensor, scope, frame)?;
        }
        Ok(())
    }

    fn initializer<'s>(
        &mut self,
        name: &'s str,
        tensor: Result<Tensor, DataError>,
        scope: &mut Scope<'s>,
        frame: &Frame<'m>,
    ) -> Result<(), Stop> {
        let stop = self.bytes_left == 0;
        let slot = match tensor {
            Ok(tensor) => Slot::Value(self.graph.add_constant(frame.value_name(name), tensor)),
            Err(e) => {
                let what = format!("initializer `{}`", short(name));
                self.problems.push(data_problem(&what, &e, None));
                Slot::Unknown
            }
        };
        if name.is_empty() {
            self.structure("an initializer has no name".into());
        } else if !scope.define(name, slot) {
            self.structure(format!("`{}` is defined twice", short(name)));
        }
        if stop { Err(Stop) } else { Ok(()) }
    }

    /// Takes a tensor's bytes off what all tensors together may have, before its data is read.
    fn charge(&mut self, proto: &TensorProto) -> Result<(), DataError> {
        let (dtype, shape) = tensor_type(proto)?;
        let bytes = shape.elements().saturating_mul(dtype.size().max(1));
        match self.bytes_left.checked_sub(bytes) {
            Some(left) if left > 0 => {
                self.bytes_left = left;
                Ok(())
            }
            _ => {
                self.bytes_left = 0;
                Err(DataError::Limit(format!("the tensors together exceed {MAX_CONSTANT_BYTES} bytes")))
            }
        }
    }

    /// Walks nodes in execution order.
    pub fn nodes<'s>(
        &mut self,
        nodes: &'m [NodeProto],
        scope: &mut Scope<'s>,
        frame: &Frame<'m>,
    ) -> Result<(), Stop>
    where
        'm: 's,
    {
        let order = match execution_order(nodes) {
            Ok(order) => order,
            Err(cycle) => {
                let names: Vec<String> = cycle
                    .iter()
                    .take(5)
                    .filter_map(|&i| nodes.get(i))
                    .map(|n| format!("`{}`", node_name(n)))
                    .collect();
                let more = if cycle.len() > names.len() { ", …" } else { "" };
                self.structure(format!("nodes wait for each other's results: {}{more}", names.join(", ")));
                (0..nodes.len()).collect()
            }
        };
        for i in order {
            let Some(node) = nodes.get(i) else { continue };
            self.nodes_left = match self.nodes_left.checked_sub(1) {
                Some(left) => left,
                None => {
                    self.problems.push(Diagnostic::error(
                        Code::Limit,
                        format!(
                            "more than {MAX_NODES} nodes, those of functions and branches counted at each use"
                        ),
                    ));
                    return Err(Stop);
                }
            };
            self.node(i, node, scope, frame)?;
        }
        Ok(())
    }

    /// Defines a node's result.
    pub fn define<'s>(&mut self, name: &'s str, slot: Slot, scope: &mut Scope<'s>) {
        if !name.is_empty() && !scope.define(name, slot) {
            self.structure(format!("`{}` is defined twice", short(name)));
        }
    }

    /// Reports that the graph is malformed.
    pub fn structure(&mut self, message: String) {
        self.problems.push(Diagnostic::error(Code::GraphStructure, message));
    }

    /// Compares a computed type with what the main graph declares; an axis of which only a run knows the extent may
    /// be of any that is not larger.
    pub fn compare(&mut self, name: &str, dtype: DType, shape: &Shape, open: Option<usize>) {
        let Some(declared) = self.declared.get(name) else { return };
        let fits = |dims: &[Dim<'_>]| {
            let agrees = |(a, (d, &e)): (usize, (&Dim<'_>, &usize))| match d {
                Dim::Value(v) => *v == e || open == Some(a) && *v < e,
                Dim::Open(_) => true,
            };
            dims.len() == shape.rank() && dims.iter().zip(shape.iter()).enumerate().all(agrees)
        };
        if declared.dtype == dtype && declared.dims.as_deref().is_none_or(fits) {
            return;
        }
        let dims: Vec<String> = declared
            .dims
            .iter()
            .flatten()
            .map(|d| match d {
                Dim::Value(v) => v.to_string(),
                Dim::Open(name) => short(name),
            })
            .collect();
        let message = format!(
            "`{}` is declared {}[{}] but computed as {dtype}{shape}",
            short(name),
            declared.dtype,
            dims.join(", ")
        );
        self.problems.push(Diagnostic::warning(Code::ShapeMismatch, message));
    }
}

impl<'m> Frame<'m> {
    /// A value's name for people.
    pub fn value_name(&self, name: &str) -> String {
        if self.prefix.is_empty() { short(name) } else { short(&format!("{}/{}", self.prefix, short(name))) }
    }

    /// Version of the operator set of `domain` in force.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        self.opsets.get(domain).copied()
    }

    /// What an ONNX node is to people.
    pub fn origin(&self, index: usize, node: &NodeProto) -> Origin {
        let domain = plain_domain(&node.domain);
        Origin {
            index: self.top.unwrap_or(index),
            name: self.value_name(&node_name(node)),
            op_type: short(&node.op_type),
            domain: short(domain),
            opset: self.opset(domain).unwrap_or(0),
        }
    }
}

/// Name of a node, or of its first result.
pub(super) fn node_name(node: &NodeProto) -> String {
    if !node.name.is_empty() {
        return short(&node.name);
    }
    short(node.output.iter().find(|o| !o.is_empty()).map_or("", String::as_str))
}

/// ONNX's own domain has two spellings.
pub(super) fn plain_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}
