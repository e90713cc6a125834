//! What the device can do: the closed set of kernel families, as data.
//!
//! Leaf module. A [`Kernel`] names its operands by [`Operand`]; offsets come later, from the memory
//! plan. `schedule` makes kernels, `memory` places their buffers, `emit` writes them out. There is
//! no wildcard arm over [`Kernel`] anywhere: a new family must break the build at each such place.

mod custom;
pub mod expr;
pub mod loops;

use crate::ir::DType;
pub use custom::{Custom, CustomAttribute, CustomTensor};
pub use edgec_runtime::spec;
use edgec_runtime::spec::{
    ConvI8Spec, ConvSpec, DepthwiseSpec, MatMulSpec, NormSpec, PackSpec, PoolSpec, RecurrentSpec,
    SoftmaxSpec, WinogradInputSpec, WinogradOutputSpec,
};
pub use loops::{Access, Loops, Nest};

/// A storage area of the arena: one or several values that share memory by design (views, concat
/// parts). The planner gives it an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// A constant in the weights blob, already in the layout its kernel reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConstId(pub u32);

/// What a kernel reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operand {
    /// Arena memory.
    Buffer(BufferId),
    /// Blob memory; read only.
    Const(ConstId),
}

/// A buffer to be placed in the arena.
#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    /// Element type.
    pub dtype: DType,
    /// Elements, halo and stride gaps included.
    pub len: usize,
    /// Name of the value it was made for.
    pub name: String,
    /// Elements without halo, for the lower bound.
    pub live_len: usize,
}

/// A constant of the blob.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Element type.
    pub dtype: DType,
    /// Elements.
    pub len: usize,
    /// Little-endian bytes, `len · dtype.size()` of them.
    pub bytes: Vec<u8>,
    /// Name of the value it was made from.
    pub name: String,
}

/// Operands that a fused epilogue reads; which of them exist is in the spec's `Epilogue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EpilogueOperands {
    /// One bias per output channel, padded to the panel.
    pub bias: Option<Operand>,
    /// One factor per output channel, padded to the panel.
    pub scale: Option<Operand>,
    /// PRelu slopes, padded to the panel.
    pub slope: Option<Operand>,
    /// Addend of the output's shape.
    pub residual: Option<Operand>,
}

/// One kernel call with everything but addresses decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Kernel {
    /// Convolution over channels-last or planar input.
    Conv {
        /// Extents and options.
        spec: ConvSpec,
        /// Input.
        x: Operand,
        /// Weights in panels of 16 output channels (`pack::conv`).
        w: Operand,
        /// Bias and the like.
        epilogue: EpilogueOperands,
        /// Output.
        y: Operand,
    },
    /// Depthwise convolution.
    Depthwise {
        /// Extents and options.
        spec: DepthwiseSpec,
        /// Input.
        x: Operand,
        /// Weights, `[c/16][tap][16]` (`pack::depthwise`).
        w: Operand,
        /// Bias and the like.
        epilogue: EpilogueOperands,
        /// Output.
        y: Operand,
    },
    /// Convolution of bytes, requantized; with one tap also matrix products.
    ConvI8(Bytes),
    /// Depthwise convolution of bytes, requantized.
    DepthwiseI8(Bytes),
    /// Matrix product with packed right-hand side.
    MatMul {
        /// Extents and options.
        spec: MatMulSpec,
        /// Left-hand side.
        a: Operand,
        /// Right-hand side in panels of 16 columns (`pack::gemm`).
        w: Operand,
        /// Bias and the like.
        epilogue: EpilogueOperands,
        /// Output.
        y: Operand,
    },
    /// Pooling.
    Pool {
        /// Extents and options.
        spec: PoolSpec,
        /// Input.
        x: Operand,
        /// Output.
        y: Operand,
    },
    /// Softmax or LogSoftmax.
    Softmax {
        /// Extents and options.
        spec: SoftmaxSpec,
        /// Input.
        x: Operand,
        /// Output; may be the input.
        y: Operand,
    },
    /// Layer or RMS normalisation of rows.
    Norm {
        /// Extents and options.
        spec: NormSpec,
        /// Input.
        x: Operand,
        /// Scale of one row.
        scale: Option<Operand>,
        /// Bias of one row.
        bias: Option<Operand>,
        /// Output; may be the input.
        y: Operand,
    },
    /// One direction of an LSTM or GRU, its input's product done.
    Recurrent(Recurrent),
    /// Packs a run-time operand into the panels that MatMul reads.
    Pack {
        /// Extents.
        spec: PackSpec,
        /// Plain matrix.
        x: Operand,
        /// Panels.
        y: Operand,
    },
    /// Patches of an image, transformed for Winograd's algorithm; a `MatMul` per plane follows.
    WinogradInput {
        /// Extents.
        spec: WinogradInputSpec,
        /// Image.
        x: Operand,
        /// Planes.
        y: Operand,
    },
    /// Products of Winograd's algorithm, transformed back.
    WinogradOutput {
        /// Extents and options.
        spec: WinogradOutputSpec,
        /// Planes.
        x: Operand,
        /// Bias and the like.
        epilogue: EpilogueOperands,
        /// Image, or rows of it.
        y: Operand,
    },
    /// Affine loop nests that emission writes out as Rust loops.
    Loops(Loops),
    /// A rare operator as one scalar function of the runtime.
    Routine(Routine),
    /// A function of the user.
    Custom(Custom),
}

/// A convolution of bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bytes {
    /// Extents and options.
    pub spec: ConvI8Spec,
    /// Input, unsigned.
    pub x: Operand,
    /// Weights, signed (`pack::ConvI8` or `pack::DepthwiseI8`); none where a depthwise convolution sums its windows, or
    /// takes their maxima.
    pub w: Option<Operand>,
    /// Biases, factors and bounds (`pack::Requant`).
    pub numbers: Operand,
    /// Addend of the output's shape, unsigned.
    pub residual: Option<Operand>,
    /// Output, of either sign.
    pub y: Operand,
}

/// See `edgec_runtime::kernels::recurrent`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recurrent {
    /// Extents and options.
    pub spec: RecurrentSpec,
    /// Projections of the input.
    pub x: Operand,
    /// Packed recurrent weights (`pack::Recurrent`).
    pub r: Operand,
    /// GRU: bias of the candidate's recurrent product, padded to panels.
    pub bias: Option<Operand>,
    /// Hidden state to start from.
    pub first_h: Option<Operand>,
    /// LSTM: cell state to start from.
    pub first_c: Option<Operand>,
    /// Hidden states of all steps, where wanted.
    pub y: Option<Operand>,
    /// Last hidden state, where wanted.
    pub last_h: Option<Operand>,
    /// LSTM: last cell state, where wanted.
    pub last_c: Option<Operand>,
    /// Scratch.
    pub state: Operand,
}

/// Call of `rt::routines::<module>::<function>(reads…, writes…, params…)`.
///
/// Reads come as `&[T; LEN]`, writes as `&mut [T; LEN]`, parameters as literals.
#[derive(Debug, Clone, PartialEq)]
pub struct Routine {
    /// Path below `rt::routines`, such as `resize::resize_axis`.
    pub function: &'static str,
    /// What it reads, dense.
    pub reads: Vec<Operand>,
    /// What it writes, dense.
    pub writes: Vec<Operand>,
    /// Further arguments.
    pub params: Vec<Param>,
    /// Whether it returns a `Fault`.
    pub fallible: bool,
}

/// A literal argument of a routine.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the variants are their types
pub enum Param {
    Usize(usize),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
}

impl Kernel {
    /// Family name, as in `inspect` and in layer names.
    pub fn family(&self) -> &'static str {
        match self {
            Kernel::Conv { .. } => "Conv",
            Kernel::Depthwise { .. } => "Depthwise",
            Kernel::ConvI8(_) => "ConvI8",
            Kernel::DepthwiseI8(k) if k.w.is_none() => "PoolI8",
            Kernel::DepthwiseI8(_) => "DepthwiseI8",
            Kernel::MatMul { .. } => "MatMul",
            Kernel::Pool { .. } => "Pool",
            Kernel::Softmax { .. } => "Softmax",
            Kernel::Norm { .. } => "Norm",
            Kernel::Recurrent(_) => "Recurrent",
            Kernel::Pack { .. } => "Pack",
            Kernel::WinogradInput { .. } => "WinogradInput",
            Kernel::WinogradOutput { .. } => "WinogradOutput",
            Kernel::Loops(_) => "Loops",
            Kernel::Routine(_) => "Routine",
            Kernel::Custom(_) => "Custom",
        }
    }

    /// Operands read, in a fixed order.
    pub fn reads(&self) -> Vec<Operand> {
        let with_epilogue = |first: &[Operand], e: &EpilogueOperands| {
            let rest = [e.bias, e.scale, e.slope, e.residual];
            first.iter().copied().chain(rest.into_iter().flatten()).collect()
        };
        match self {
            Kernel::Conv { x, w, epilogue, .. } | Kernel::Depthwise { x, w, epilogue, .. } => {
                with_epilogue(&[*x, *w], epilogue)
            }
            Kernel::ConvI8(k) | Kernel::DepthwiseI8(k) => {
                [k.x].into_iter().chain(k.w).chain([k.numbers]).chain(k.residual).collect()
            }
            Kernel::MatMul { a, w, epilogue, .. } => with_epilogue(&[*a, *w], epilogue),
            Kernel::WinogradOutput { x, epilogue, .. } => with_epilogue(&[*x], epilogue),
            Kernel::Pool { x, .. }
            | Kernel::Softmax { x, .. }
            | Kernel::Pack { x, .. }
            | Kernel::WinogradInput { x, .. } => vec![*x],
            Kernel::Norm { x, scale, bias, .. } => [Some(*x), *scale, *bias].into_iter().flatten().collect(),
            Kernel::Recurrent(r) => {
                [Some(r.x), Some(r.r), r.bias, r.first_h, r.first_c].into_iter().flatten().collect()
            }
            Kernel::Loops(loops) => loops.reads(),
            Kernel::Routine(r) => r.reads.clone(),
            Kernel::Custom(c) => c.reads.clone(),
        }
    }

    /// Operands written.
    pub fn writes(&self) -> Vec<Operand> {
        match self {
            Kernel::Conv { y, .. }
            | Kernel::Depthwise { y, .. }
            | Kernel::MatMul { y, .. }
            | Kernel::Pool { y, .. }
            | Kernel::Softmax { y, .. }
            | Kernel::Norm { y, .. }
            | Kernel::Pack { y, .. }
            | Kernel::WinogradInput { y, .. }
            | Kernel::WinogradOutput { y, .. } => vec![*y],
            Kernel::ConvI8(k) | Kernel::DepthwiseI8(k) => vec![k.y],
            Kernel::Recurrent(r) => [r.y, r.last_h, r.last_c, Some(r.state)].into_iter().flatten().collect(),
            Kernel::Loops(loops) => loops.writes(),
            Kernel::Routine(r) => r.writes.clone(),
            Kernel::Custom(c) => c.writes.clone(),
        }
    }

    /// Whether it can meet invalid run-time data.
    pub fn fallible(&self) -> bool {
        match self {
            Kernel::Loops(loops) => loops.fallible(),
            Kernel::Routine(r) => r.fallible,
            Kernel::Conv { .. }
            | Kernel::Depthwise { .. }
            | Kernel::ConvI8(_)
            | Kernel::DepthwiseI8(_)
            | Kernel::MatMul { .. }
            | Kernel::Pool { .. }
            | Kernel::Softmax { .. }
            | Kernel::Norm { .. }
            | Kernel::Pack { .. }
            | Kernel::Recurrent(_)
            | Kernel::WinogradInput { .. }
            | Kernel::WinogradOutput { .. }
            | Kernel::Custom(_) => false,
        }
    }
}
