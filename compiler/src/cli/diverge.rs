//! Where the generated code of a model leaves the reference evaluation.

use super::cases::outputs;
use super::compare::{Tolerance, compare};
use super::packages::Packages;
use crate::config::Config;
use crate::interp;
use crate::ir::{Tensor, ValueId};
use crate::pipeline::Compiled;
use edgec_runtime::Level;

/// Most bytes of intermediate values that are looked at; the first ones in order of execution.
const MOST_BYTES: usize = 256 << 20;

/// A model that shows its intermediate values, and what they should be.
pub struct Probe {
    /// The model with these values as outputs.
    pub shown: Compiled,
    /// In order of execution: the node that computes it, and the value.
    expected: Vec<(String, Tensor)>,
}

impl Probe {
    /// Evaluates the model by the reference for these inputs.
    pub fn new(compiled: &Compiled, inputs: &[Tensor], levels: &[Level]) -> Result<Probe, String> {
        let graph = &compiled.graph;
        let mut values: Vec<(ValueId, Tensor)> = Vec::new();
        let mut bytes = 0;
        let mut keep = |id: ValueId, tensor: &Tensor| {
            bytes += tensor.len() * tensor.dtype().size();
            if bytes <= MOST_BYTES && graph.producer(id).is_some() {
                values.push((id, tensor.clone()));
            }
        };
        interp::run_observed(graph, inputs, &mut keep).map_err(|e| e.to_string())?;
        let ids: Vec<ValueId> = values.iter().map(|(id, _)| *id).collect();
        let shown = compiled.showing(&ids, levels).map_err(|d| d.to_string())?;
        let expected = values.into_iter().map(|(id, tensor)| (name(compiled, id), tensor)).collect();
        Ok(Probe { shown, expected })
    }

    /// Builds the model, runs it at `level` and names the first node whose values differ, if any does.
    pub fn first(&self, inputs: &[Tensor], level: Level, config: &Config) -> Result<Option<String>, String> {
        let mut packages = Packages::new(None, config.clone(), 1).map_err(|d| d.to_string())?;
        packages.add(0, self.shown.clone());
        packages.build(|_| None).map_err(|d| d.to_string())?;
        let found = packages.infer(0, level, inputs, &outputs(&self.shown))?;
        let differs = |(found, (_, expected)): &(&Tensor, &(String, Tensor))| {
            !compare(found, expected, Tolerance::default_for(expected.dtype())).ok()
        };
        Ok(found.iter().zip(&self.expected).find(differs).map(|(_, (name, _))| name.clone()))
    }
}

/// The ONNX nodes behind a value.
fn name(compiled: &Compiled, id: ValueId) -> String {
    let Some((_, node)) = compiled.graph.producer(id) else { return String::new() };
    let origins: Vec<String> = node.origins.iter().map(|o| format!("{} `{}`", o.op_type, o.name)).collect();
    if origins.is_empty() { node.op.as_op().name().to_owned() } else { origins.join(" + ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::pipeline;

    #[test]
    fn the_first_wrong_node_is_named() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/digits/model.onnx");
        let config = Config::new().levels([Level::Scalar]);
        let compiled = pipeline::compile(&ModelConfig::file(file), &config).unwrap();
        let value = compiled.graph.value(compiled.graph.inputs[0]);
        let inputs = [Tensor::from_fn(value.shape.clone(), |i| (i % 17) as f32 / 16.0)];
        let mut probe = Probe::new(&compiled, &inputs, &[Level::Scalar]).unwrap();
        assert_eq!(probe.first(&inputs, Level::Scalar, &config).unwrap(), None);
        // What generated code would do that computed the fourth value wrongly.
        probe.expected[3].1 = Tensor::full(probe.expected[3].1.shape().clone(), 77.0f32);
        let named = probe.first(&inputs, Level::Scalar, &config).unwrap();
        assert_eq!(named.as_ref(), Some(&probe.expected[3].0));
        assert!(probe.expected[3].0.contains("`/"), "{named:?}");
    }
}
