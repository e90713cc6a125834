//! Graph → steps: lowering, layouts, packing.

mod cx;

pub use cx::{LowerCx, Spatial, SpatialNeed, TensorView};

use crate::ir::Origin;
use crate::kernel::{Buffer, Constant, Kernel, Operand};

/// One kernel call, in order of execution; becomes one emitted layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The call.
    pub kernel: Kernel,
    /// ONNX nodes it stands for; empty for layout changes.
    pub origins: Vec<Origin>,
    /// Why it exists, for steps without origins (`layout change of \`x\``).
    pub note: String,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Type of the main result, for listings, such as `f32[1, 24, 24, 32]` in memory order.
    pub out_shape: Vec<usize>,
}

/// A model's input or output in the arena: dense, row-major in the API's layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// ONNX name.
    pub name: String,
    /// Element type.
    pub dtype: crate::ir::DType,
    /// Extents in memory order, as the API's array type shows them (before a leading 1 is dropped).
    pub shape: Vec<usize>,
    /// `"nchw"`, `"nhwc"` or empty where the distinction means nothing.
    pub layout: &'static str,
    /// Where; a constant output (everything folded) lies in the blob.
    pub operand: Operand,
}

/// Everything that emission needs but addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The model's name.
    pub name: String,
    /// In order of execution.
    pub steps: Vec<Step>,
    /// Indexed by `BufferId`.
    pub buffers: Vec<Buffer>,
    /// Indexed by `ConstId`.
    pub constants: Vec<Constant>,
    /// Model inputs, in the model's order.
    pub inputs: Vec<Port>,
    /// Model outputs, in the model's order.
    pub outputs: Vec<Port>,
}
