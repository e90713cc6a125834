//! From quantized models to integers: what lies between DequantizeLinear and QuantizeLinear is computed on the
//! integers themselves.

pub(super) mod additions;
pub(super) mod averages;
pub(super) mod binaries;
pub(super) mod concats;
pub(super) mod gemm;
pub(super) mod maxima;
pub(super) mod moves;
pub(super) mod products;
pub(super) mod remains;
pub(super) mod requantized;
pub(super) mod rescales;
pub(super) mod softmax;
pub(super) mod tables;
pub(super) mod unsigned;

use super::matching::{constant, input};
use crate::ir::{DType, NodeId, Tensor, ValueId};
use crate::kernel::expr::UnaryFn;
use crate::ops::pool::Kind;
use crate::ops::resize::{Coordinates, Mode};
use crate::ops::unary::Unary;
use crate::ops::{Graph, Node, OpKind};

/// One scale and one zero point for a whole tensor of bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Steps {
    scale: f32,
    zero: i32,
    dtype: DType,
}

impl Steps {
    /// Of a DequantizeLinear or QuantizeLinear in `f32`, where both are known and the same for all elements.
    fn of(graph: &Graph, node: &Node) -> Option<Steps> {
        let dtype = match &node.op {
            OpKind::Dequantize(op) if op.to.is_none_or(|to| to == DType::F32) => {
                graph.value(input(node, 0)?).dtype
            }
            OpKind::Quantize(op) if op.precision.is_none_or(|p| p == DType::F32) => {
                graph.value(super::matching::output(node)?).dtype
            }
            _ => return None,
        };
        let scale = constant(graph, node, 1).filter(|t| t.dtype() == DType::F32 && t.len() == 1)?;
        let scale = scale.as_slice::<f32>()?.first().copied().filter(|s| *s > 0.0 && s.is_finite())?;
        let zero = match input(node, 2) {
            None => 0,
            Some(_) => single(constant(graph, node, 2)?)?,
        };
        matches!(dtype, DType::U8 | DType::I8).then_some(Steps { scale, zero, dtype })
    }

    /// Least and largest integer without the zero point.
    fn bounds(self) -> [i32; 2] {
        let [low, high] = if self.dtype == DType::U8 { [0, 255] } else { [-128, 127] };
        [low - self.zero, high - self.zero]
    }

    /// Bounds of the integers behind a clamp of real numbers: QuantizeLinear is monotone, so that it may clamp in the
    /// place of the activation.
    fn clamped(self, clamp: Option<[f32; 2]>) -> [i32; 2] {
        let [low, high] = self.bounds();
        let quantized =
            |v: f32| libm::rint(f64::from(v / self.scale)).clamp(f64::from(low), f64::from(high)) as i32;
        clamp.map_or([low, high], |real| real.map(quantized))
    }
}

/// The bounds of a clamp in canonical form.
fn clamped(node: &Node) -> Option<[f32; 2]> {
    match &node.op {
        OpKind::Unary(Unary { function: UnaryFn::Relu }) => Some([0.0, f32::INFINITY]),
        OpKind::Clip(clip) if node.inputs.len() == 1 => {
            let bounds = [clip.min.unwrap_or(f32::NEG_INFINITY), clip.max.unwrap_or(f32::INFINITY)];
            let [low, high] = bounds;
            (low <= high).then_some(bounds)
        }
        _ => None,
    }
}

/// The only element of a tensor of integers.
fn single(tensor: &Tensor) -> Option<i32> {
    match tensor.to_i64_vec()?.as_slice() {
        [v] => i32::try_from(*v).ok(),
        _ => None,
    }
}

/// The quantized tensor behind a value that DequantizeLinear makes of it.
fn dequantized(graph: &Graph, v: ValueId) -> Option<(NodeId, ValueId, Steps)> {
    let (id, node) = graph.producer(v)?;
    matches!(node.op, OpKind::Dequantize(_)).then_some(())?;
    Some((id, input(node, 0)?, Steps::of(graph, node)?))
}

/// Whether an operator hands on elements of operand 0 as they are (or zeros, or the largest of some).
fn moves(op: &OpKind) -> bool {
    match op {
        OpKind::Reshape(_) | OpKind::Transpose(_) | OpKind::Pad(_) | OpKind::Identity(_) => true,
        OpKind::Slice(_) | OpKind::Gather(_) | OpKind::Expand(_) | OpKind::Tile(_) => true,
        OpKind::BlockMove(_) => true,
        OpKind::Resize(resize) => {
            matches!(resize.mode, Mode::Nearest(_)) && resize.coordinates != Coordinates::TfCropAndResize
        }
        OpKind::Pool(pool) => {
            matches!(pool.kind, Kind::Max { .. }) && pool.activation == crate::ops::fused::Activation::None
        }
        _ => false,
    }
}
