//! What an operator's `lower` sees.

use crate::ir::{DType, Element, Shape, Tensor};
use crate::kernel::expr::Expr;
use crate::kernel::{Kernel, Operand, spec::View};
use crate::ops::{Node, OpError};

/// Where the elements of a value lie: element `(i0, i1, …)` in the value's own (ONNX) axes is at
/// `offset + Σ strides[k]·ik` of the operand.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorView {
    /// Buffer or constant.
    pub operand: Operand,
    /// Element type.
    pub dtype: DType,
    /// Extents in ONNX order.
    pub shape: Vec<usize>,
    /// Elements before the first.
    pub offset: usize,
    /// In elements, one per axis; any order of magnitude (channels last, transposed, sliced).
    pub strides: Vec<isize>,
}

/// What a spatial kernel wants of its input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpatialNeed {
    /// Leading pads of depth, height, width.
    pub pads: [usize; 3],
    /// Trailing pads.
    pub pads_end: [usize; 3],
    /// Value of the padding; `None` where padding cannot be replaced by stored values (pooling that
    /// does not count it).
    pub fill: Option<f32>,
    /// Whether planar input (channels not innermost) is fine, as for a first layer of few channels.
    pub planar: bool,
}

/// A spatial operand, ready for a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spatial {
    /// Buffer or constant.
    pub operand: Operand,
    /// Extents and strides; enlarged by the halo where there is one.
    pub view: View,
    /// Pads that the kernel must still peel: those asked for, or zeros with a halo.
    pub pads: [usize; 3],
}

/// A node's surroundings while it is lowered.
pub struct LowerCx<'a> {
    _marker: std::marker::PhantomData<&'a ()>,
}

#[allow(unused_variables, clippy::unused_self)]
impl<'a> LowerCx<'a> {
    /// The node itself.
    pub fn node(&self) -> &'a Node {
        todo!()
    }
    /// Element type and shape of operand `i`; `None` where absent.
    pub fn input_type(&self, i: usize) -> Option<(DType, &'a Shape)> {
        todo!()
    }
    /// Element type and shape of result `i`; `None` where nobody wants it.
    pub fn output_type(&self, i: usize) -> Option<(DType, &'a Shape)> {
        todo!()
    }
    /// Operand `i` where it is known at compile time (weights to pack, axes, shapes).
    pub fn constant(&self, i: usize) -> Option<&'a Tensor> {
        todo!()
    }
    /// Operand `i` wherever and however it lies; constants are put into the blob row-major.
    pub fn read(&mut self, i: usize) -> Result<TensorView, OpError> {
        todo!()
    }
    /// Operand `i` row-major without gaps; copied where it is not.
    pub fn read_dense(&mut self, i: usize) -> Result<TensorView, OpError> {
        todo!()
    }
    /// Operand `i` of rank 3 to 5 (`N C [D] [H] W`) as a spatial view, channels innermost unless planar
    /// is fine; with a halo or with pads left to the kernel.
    pub fn read_spatial(&mut self, i: usize, need: SpatialNeed) -> Result<Spatial, OpError> {
        todo!()
    }
    /// Storage of result `i` in the layout chosen for it (any strides: a part of a concat, a haloed
    /// buffer, channels last).
    pub fn write(&mut self, i: usize) -> Result<TensorView, OpError> {
        todo!()
    }
    /// Storage of result `i`, row-major without gaps; moved afterwards where its readers need other.
    pub fn write_dense(&mut self, i: usize) -> Result<TensorView, OpError> {
        todo!()
    }
    /// Storage of result `i` of rank 3 to 5 as a channels-last spatial view.
    pub fn write_spatial(&mut self, i: usize) -> Result<(Operand, View), OpError> {
        todo!()
    }
    /// Operand `i`, of exactly result 0's type and shape, as a spatial view with channels innermost
    /// (the residual of an epilogue).
    pub fn read_residual(&mut self, i: usize) -> Result<(Operand, View), OpError> {
        todo!()
    }
    /// Result `i` is that view of memory that already exists: no code. Copied where it must not be
    /// (graph outputs, views of inputs that are graph outputs).
    pub fn alias(&mut self, i: usize, view: TensorView) -> Result<(), OpError> {
        todo!()
    }
    /// Puts a constant into the blob.
    pub fn blob<T: Element>(&mut self, name: &str, values: &[T]) -> Operand {
        todo!()
    }
    /// Memory for this node alone.
    pub fn scratch(&mut self, name: &str, dtype: DType, len: usize) -> Operand {
        todo!()
    }
    /// Emits a step for this node.
    pub fn push(&mut self, kernel: Kernel) {
        todo!()
    }
    /// Emits one loop nest computing `value` for every element of `out`, whose shape the reads
    /// broadcast to; loops are ordered by the output's memory order and merged where strides allow.
    /// `Expr::Read(i)` is `reads[i]`.
    pub fn elementwise(
        &mut self,
        out: &TensorView,
        reads: &[TensorView],
        value: Expr,
    ) -> Result<(), OpError> {
        todo!()
    }
    /// Emits a copy between views of equal shapes.
    pub fn copy(&mut self, from: &TensorView, to: &TensorView) -> Result<(), OpError> {
        todo!()
    }
}

impl TensorView {
    /// Whether the elements lie row-major without gaps.
    pub fn is_dense(&self) -> bool {
        let mut expected = 1isize;
        for (&d, &s) in self.shape.iter().zip(&self.strides).rev() {
            if d != 1 && s != expected {
                return false;
            }
            expected = expected.saturating_mul(isize::try_from(d).unwrap_or(isize::MAX));
        }
        true
    }
}
