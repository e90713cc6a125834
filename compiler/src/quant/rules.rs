//! What quantization makes of each operator.
//!
//! One table says how a node takes part: with which operands, and whether its result shares the scale of
//! its operand. Operators that are not listed stay in float, between a `DequantizeLinear` and a
//! `QuantizeLinear`.

use super::draft::{attribute, int, is_own, text};
use crate::onnx::proto::NodeProto;

/// How a node is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A sum of products: operand 0 is data, operand 1 weights (or data), operand 2 a bias.
    Product {
        /// Axis of the weights along which scales may differ: that of output channels.
        weight_axis: usize,
        /// Whether there can be a bias.
        bias: bool,
        /// Axis of the data that is summed over, from the end where negative.
        depth_axis: i64,
    },
    /// Elements move, or the largest is taken: the result has the operand's scale.
    Same,
    /// Operands stand side by side in the result.
    Join,
    /// Arithmetic of two operands; a clamp behind it is part of it.
    Pair,
    /// A clamp: part of the node in front, where that has no other reader.
    Clamp,
    /// A function of one operand with a scale of its own for the result.
    Curve,
    /// Several elements become one, or each depends on its row: a scale of its own for the result.
    Reduce,
}

impl Role {
    /// Whether a clamp right behind is computed along with the node.
    pub fn takes_clamp(self) -> bool {
        matches!(self, Role::Product { .. } | Role::Pair)
    }

    /// Positions of the operands that are activations or, for two-operand arithmetic, constants.
    pub fn operands(self, node: &NodeProto) -> std::ops::Range<usize> {
        match self {
            Role::Product { .. } | Role::Pair => 0..node.input.len().min(2),
            Role::Join => 0..node.input.len(),
            Role::Same | Role::Clamp | Role::Curve | Role::Reduce => 0..node.input.len().min(1),
        }
    }
}

/// The role of a node; `rank` is that of its operand 0, where it is known.
pub fn role(node: &NodeProto, rank: Option<usize>) -> Option<Role> {
    if !is_own(node) {
        return None;
    }
    Some(match node.op_type.as_str() {
        "Conv" => Role::Product { weight_axis: 0, bias: true, depth_axis: 1 },
        // Weights are `[in, out / groups, …]`: an axis for scales only where there is one group.
        "ConvTranspose" => Role::Product { weight_axis: 1, bias: true, depth_axis: 1 },
        "Gemm" if int(node, "transA", 0) == 0 => Role::Product {
            weight_axis: usize::from(int(node, "transB", 0) == 0),
            bias: true,
            depth_axis: -1,
        },
        "MatMul" => Role::Product { weight_axis: 1, bias: false, depth_axis: -1 },
        "Add" | "Sub" | "Mul" => Role::Pair,
        "Relu" => Role::Clamp,
        "Clip" => Role::Clamp,
        "Concat" => Role::Join,
        "Reshape" | "Transpose" | "Flatten" | "Squeeze" | "Unsqueeze" | "Slice" | "Split" | "Gather"
        | "Identity" | "DepthToSpace" | "SpaceToDepth" | "Tile" | "Expand" | "GlobalMaxPool"
        | "ReduceMax" | "ReduceMin" => Role::Same,
        "MaxPool" if node.output.len() == 1 => Role::Same,
        // Other fills would have to be on the scale.
        "Pad" if node.input.get(2).is_none_or(String::is_empty) => Role::Same,
        "Pad" if text(node, "mode").is_some_and(|m| m != "constant") => Role::Same,
        "Resize"
            if text(node, "mode") != Some("cubic")
                && text(node, "coordinate_transformation_mode") != Some("tf_crop_and_resize") =>
        {
            Role::Same
        }
        "LeakyRelu" | "Sigmoid" | "Tanh" | "HardSwish" | "HardSigmoid" | "Elu" | "Selu" | "Celu"
        | "Softplus" | "Softsign" | "Gelu" | "Mish" | "Erf" | "Abs" | "Neg" | "PRelu" => Role::Curve,
        "AveragePool" | "GlobalAveragePool" | "ReduceMean" => Role::Reduce,
        // Over other axes than the last it is run once per element of the rest.
        "Softmax" if last_axis(node, rank) => Role::Reduce,
        _ => return None,
    })
}

fn last_axis(node: &NodeProto, rank: Option<usize>) -> bool {
    let axis = attribute(node, "axis").and_then(|a| a.i).unwrap_or(-1);
    axis == -1 || rank.is_some_and(|r| axis + 1 == r as i64)
}
