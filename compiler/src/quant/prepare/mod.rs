//! Brings a model into the form that is quantized, with the same results: what can be computed once is
//! computed, steps that would cost a rounding of their own go into weights.
//!
//! - nodes of constants become constants; `Identity` and `Dropout` go
//! - `MatMul` and `Add` of matrices become `Gemm`; `Gemm` without `alpha`, `beta`, `transA`
//! - `BatchNormalization`, and products and sums per channel, go into the weights in front, `Scaler` into those
//!   behind; a `BatchNormalization` without such weights becomes a depthwise convolution
//! - a division by a constant becomes a product

mod affine;
mod constants;
mod gemm;

use super::draft::{Draft, int, is_op, is_own};
use super::watch::Watched;
use crate::diag::Diagnostics;
use crate::frontend::Options;
use crate::ir::{DType, Shape, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// Element types and shapes of values, by name, where they are known.
#[derive(Debug, Clone, Default)]
pub struct Types(BTreeMap<String, (DType, Shape)>);

impl Types {
    /// Types of all results of nodes that have a type, inputs and constants.
    pub fn of(draft: &Draft, options: &Options) -> Result<Types, Diagnostics> {
        let watched = Watched::new(&draft.to_model(), &values(draft), options)?;
        let mut types = BTreeMap::new();
        for name in values(draft) {
            if let Some((dtype, shape)) = watched.ty(&name) {
                types.insert(name, (dtype, shape.clone()));
            }
        }
        for (name, tensor) in &draft.constants {
            types.insert(name.clone(), (tensor.dtype(), tensor.shape().clone()));
        }
        Ok(Types(types))
    }

    /// Shape of a value, where it is an `f32` tensor.
    pub fn floats(&self, name: &str) -> Option<&Shape> {
        self.0.get(name).filter(|(d, _)| *d == DType::F32).map(|(_, s)| s)
    }
}

/// Inputs, and results of nodes that are tensors for sure.
pub fn values(draft: &Draft) -> BTreeSet<String> {
    let tensors =
        |op: &str| !op.starts_with("Sequence") && !op.starts_with("Optional") && op != "SplitToSequence";
    let mut out: BTreeSet<String> = draft.inputs().iter().map(|i| i.name.clone()).collect();
    for node in draft
        .nodes
        .iter()
        .filter(|n| is_own(n) && tensors(&n.op_type) && !["If", "Loop", "Scan"].contains(&n.op_type.as_str()))
    {
        out.extend(node.output.iter().filter(|o| !o.is_empty()).cloned());
    }
    // What other domains compute has a type where one of our operators reads it.
    for node in draft.nodes.iter().filter(|n| n.domain == "ai.onnx.ml" && n.op_type == "Scaler") {
        out.extend(node.output.iter().cloned());
    }
    out
}

/// All of it.
pub fn prepare(draft: &mut Draft, options: &Options) -> Result<(), Diagnostics> {
    constants::drop_aliases(draft);
    constants::fold(draft, options)?;
    constants::divisions(draft);
    let types = Types::of(draft, options)?;
    gemm::from_matmul(draft, &types);
    gemm::plain(draft);
    affine::scaler_into_weights(draft, &types);
    // Into weights in front as long as something goes: a batch norm may stand behind a bias.
    while affine::into_weights_in_front(draft, &types) {}
    affine::batch_norm_alone(draft, &types);
    Ok(())
}

/// Vectors of `f64` from a constant.
fn floats(draft: &Draft, name: &str) -> Option<Vec<f64>> {
    draft.constants.get(name).filter(|t| t.dtype() == DType::F32).and_then(Tensor::to_f64_vec)
}

/// An `f32` tensor of rounded values; none where the number does not fit the shape.
fn tensor(shape: &Shape, values: &[f64]) -> Option<Tensor> {
    Tensor::new(shape.clone(), values.iter().map(|&v| v as f32).collect::<Vec<f32>>()).ok()
}

/// Output channels of a product node: its weights' axis and their number.
fn channels(node: &crate::onnx::proto::NodeProto, weights: &Shape) -> Option<(usize, usize)> {
    let axis = match node.op_type.as_str() {
        "Conv" => 0,
        "ConvTranspose" if int(node, "group", 1) == 1 => 1,
        "Gemm" if weights.rank() == 2 => usize::from(int(node, "transB", 0) == 0),
        "MatMul" if weights.rank() == 2 => 1,
        _ => return None,
    };
    weights.dims().get(axis).map(|&n| (axis, n))
}

/// Multiplies a tensor's slices along `axis` by `factors`, which has one for each.
fn scale_slices(tensor_: &Tensor, axis: usize, factors: &[f64]) -> Option<Tensor> {
    let dims = tensor_.shape().dims();
    let inner: usize = dims.get(axis + 1..)?.iter().product();
    let count = *dims.get(axis)?;
    let values: Vec<f64> = tensor_
        .to_f64_vec()?
        .iter()
        .enumerate()
        .map(|(i, v)| v * factors.get(i / inner.max(1) % count.max(1)).copied().unwrap_or(1.0))
        .collect();
    tensor(tensor_.shape(), &values)
}

/// Whether a node's operand is a constant that may be rewritten for it.
fn constant_operand(draft: &Draft, node: usize, operand: usize) -> Option<(&str, &Tensor)> {
    let name = draft.nodes.get(node)?.input.get(operand)?;
    draft.constants.get_key_value(name).map(|(n, t)| (n.as_str(), t))
}

fn is_any(node: &crate::onnx::proto::NodeProto, ops: &[&str]) -> bool {
    ops.iter().any(|op| is_op(node, op))
}

/// Number of a product node's output channels.
pub fn output_channels(node: &crate::onnx::proto::NodeProto, weights: &Shape) -> Option<usize> {
    if is_op(node, "ConvTranspose") {
        let groups = usize::try_from(int(node, "group", 1)).ok()?;
        return weights.dims().get(1).map(|n| n * groups);
    }
    channels(node, weights).map(|(_, n)| n)
}
