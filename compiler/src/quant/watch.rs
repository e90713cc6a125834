//! A model's values by ONNX name: their types, and the graph that the interpreter runs to show them.

use crate::diag::{Diagnostic, Diagnostics};
use crate::frontend::{self, Options};
use crate::interp;
use crate::ir::{DType, Shape, Tensor, ValueId};
use crate::onnx::ExternalData;
use crate::onnx::proto::{ModelProto, ValueInfoProto};
use crate::ops::Graph;
use std::collections::{BTreeMap, BTreeSet};

/// A model as the interpreter runs it, with values of the file to look at.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The graph, its outputs those of the model.
    pub graph: Graph,
    /// What the frontend remarked.
    pub remarks: Diagnostics,
    names: BTreeMap<String, ValueId>,
    by_value: BTreeMap<ValueId, Vec<String>>,
}

impl Watched {
    /// Imports a model so that `names`, values of its main graph, can be looked at.
    pub fn new(
        model: &ModelProto,
        names: &BTreeSet<String>,
        options: &Options,
    ) -> Result<Watched, Diagnostics> {
        let mut model = model.clone();
        let own = model.graph.as_ref().map_or(0, |g| g.output.len());
        if let Some(graph) = &mut model.graph {
            let outputs: BTreeSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
            let more = names.difference(&outputs);
            graph.output.extend(more.map(|n| ValueInfoProto { name: n.clone(), r#type: None }));
        }
        let imported = frontend::load_model(&model, &ExternalData::none(), options)?;
        let mut graph = imported.graph;
        graph.remove_dead();
        let all = graph.outputs.clone();
        graph.outputs.truncate(own);
        // Calibration looks at all places.
        graph.lengths.clear();
        let ids = model.graph.iter().flat_map(|g| &g.output).zip(&all);
        let names: BTreeMap<String, ValueId> = ids.map(|(o, &(_, v))| (o.name.clone(), v)).collect();
        let mut by_value: BTreeMap<ValueId, Vec<String>> = BTreeMap::new();
        for (name, &v) in &names {
            by_value.entry(v).or_default().push(name.clone());
        }
        Ok(Watched { graph, remarks: imported.diagnostics, names, by_value })
    }

    /// Element type and shape of a watched value.
    pub fn ty(&self, name: &str) -> Option<(DType, &Shape)> {
        let value = self.graph.value(*self.names.get(name)?);
        Some((value.dtype, &value.shape))
    }

    /// A watched value that is known at compile time.
    pub fn known(&self, name: &str) -> Option<&Tensor> {
        self.graph.constant(*self.names.get(name)?)
    }

    /// Types of the inputs that a caller gives, with their names.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, DType, &Shape)> {
        self.graph.inputs.iter().map(|&v| {
            let value = self.graph.value(v);
            (value.name.as_str(), value.dtype, &value.shape)
        })
    }

    /// Runs one sample and shows every watched value under each of its names.
    pub fn run(
        &self,
        inputs: &[Tensor],
        see: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Vec<Tensor>, Diagnostics> {
        for (name, &v) in &self.names {
            if let Some(tensor) = self.graph.constant(v) {
                see(name, tensor);
            }
        }
        interp::run_observed(&self.graph, inputs, &mut |v, tensor| {
            for name in self.by_value.get(&v).into_iter().flatten() {
                see(name, tensor);
            }
        })
        .map_err(|e| Diagnostic::from(&e).into())
    }
}
