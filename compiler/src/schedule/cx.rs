//! What an operator's `lower` sees.

use super::builder::{Builder, shifted};
use super::nests;
use super::view::{Order, TensorView};
use crate::ir::{DType, Element, Shape, Tensor, ValueId};
use crate::kernel::expr::Expr;
use crate::kernel::loops::{Access, Gather, Read};
use crate::kernel::{Kernel, Loops, Operand, spec::View};
use crate::memory::footprint;
use crate::ops::{Graph, LayoutRule, Node, OpError};

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
    graph: &'a Graph,
    node: &'a Node,
    pub(super) builder: &'a mut Builder,
}

impl<'a> LowerCx<'a> {
    pub(super) fn new(graph: &'a Graph, node: &'a Node, builder: &'a mut Builder) -> Self {
        LowerCx { graph, node, builder }
    }

    /// The node itself.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Element type and shape of operand `i`; `None` where absent.
    pub fn input_type(&self, i: usize) -> Option<(DType, &'a Shape)> {
        self.node.inputs.get(i).copied().flatten().map(|v| self.type_of(v))
    }

    /// Element type and shape of result `i`; `None` where nobody wants it.
    pub fn output_type(&self, i: usize) -> Option<(DType, &'a Shape)> {
        self.node.outputs.get(i).copied().flatten().map(|v| self.type_of(v))
    }

    fn type_of(&self, v: ValueId) -> (DType, &'a Shape) {
        let value = self.graph.value(v);
        (value.dtype, &value.shape)
    }

    /// Operand `i` where it is known at compile time (weights to pack, axes, shapes).
    pub fn constant(&self, i: usize) -> Option<&'a Tensor> {
        self.node.inputs.get(i).copied().flatten().and_then(|v| self.graph.constant(v))
    }

    fn input(&self, i: usize) -> Result<ValueId, OpError> {
        let v = self.node.inputs.get(i).copied().flatten();
        v.ok_or_else(|| OpError::internal(format!("operand {i} is read but absent")))
    }

    fn output(&self, i: usize) -> Result<ValueId, OpError> {
        let v = self.node.outputs.get(i).copied().flatten();
        v.ok_or_else(|| OpError::internal(format!("result {i} is written but nobody wants it")))
    }

    /// Why a copy was made: for whom.
    fn why(&self) -> String {
        let name = self.node.origins.first().map(|o| o.name.as_str()).filter(|n| !n.is_empty());
        format!("`{}`", name.unwrap_or_else(|| self.node.op.as_op().name()))
    }

    /// Operand `i` wherever and however it lies; constants are put into the blob row-major, or for
    /// operators that follow layouts in that of result 0.
    pub fn read(&mut self, i: usize) -> Result<TensorView, OpError> {
        let v = self.input(i)?;
        let order = self.order_of_result();
        self.builder.place(self.graph, v, order.as_ref())
    }

    /// For operators that follow layouts, the order of result 0.
    fn order_of_result(&self) -> Option<Order> {
        let follows = matches!(self.node.op.as_op().layout(), LayoutRule::Follow | LayoutRule::Join { .. });
        let first = self.node.outputs.first().copied().flatten().filter(|_| follows)?;
        Some(self.builder.order(self.graph, first))
    }

    /// Operand `i` row-major without gaps, from the first element of a buffer or constant of exactly
    /// its length (what `Routine`, `Softmax` and `Norm` need); copied where it is not.
    pub fn read_dense(&mut self, i: usize) -> Result<TensorView, OpError> {
        let (v, why) = (self.input(i)?, self.why());
        self.builder.dense(self.graph, v, &why)
    }

    /// Operand `i` of rank 3 to 5 (`N C [D] [H] W`) as a spatial view, channels innermost unless planar
    /// is fine; with a halo or with pads left to the kernel.
    pub fn read_spatial(&mut self, i: usize, need: SpatialNeed) -> Result<Spatial, OpError> {
        if let Some(probe) = &mut self.builder.probe {
            probe.needs.push((i, need));
            if probe.stop_at_need {
                return Err(OpError::internal("the end of a trial run"));
            }
        }
        let (v, why) = (self.input(i)?, self.why());
        self.builder.spatial(self.graph, v, need, &why)
    }

    /// Storage of result `i` in the layout chosen for it (any strides: a part of a concat, a haloed
    /// buffer, channels last).
    pub fn write(&mut self, i: usize) -> Result<TensorView, OpError> {
        self.builder.store(self.graph, self.output(i)?)
    }

    /// Storage of result `i`, row-major without gaps, from the first element of a buffer of exactly
    /// its length; moved afterwards where its readers need other.
    pub fn write_dense(&mut self, i: usize) -> Result<TensorView, OpError> {
        self.builder.store_dense(self.graph, self.output(i)?)
    }

    /// Storage of result `i` of rank 3 to 5 as a channels-last spatial view.
    pub fn write_spatial(&mut self, i: usize) -> Result<(Operand, View), OpError> {
        self.builder.store_spatial(self.graph, self.output(i)?)
    }

    /// Operand `i`, of exactly result 0's type and shape, as a spatial view with channels innermost
    /// (the residual of an epilogue).
    pub fn read_residual(&mut self, i: usize) -> Result<(Operand, View), OpError> {
        if self.input_type(i) != self.output_type(0) {
            return Err(OpError::internal("a residual of another type than the result"));
        }
        let need = SpatialNeed { pads: [0; 3], pads_end: [0; 3], fill: None, planar: false };
        let (v, why) = (self.input(i)?, self.why());
        let spatial = self.builder.spatial(self.graph, v, need, &why)?;
        Ok((spatial.operand, spatial.view))
    }

    /// Result `i` is that view of memory that already exists: no code. Where the result must not share
    /// that memory (model outputs that are views of inputs or of other outputs), it is copied.
    pub fn alias(&mut self, i: usize, view: TensorView) -> Result<(), OpError> {
        let v = self.output(i)?;
        let (dtype, shape) = self.type_of(v);
        if view.dtype != dtype || view.shape != shape.dims() || view.strides.len() != view.shape.len() {
            return Err(OpError::internal(format!(
                "`{}` is {dtype}{shape} but its view {}{:?}",
                self.graph.value(v).name,
                view.dtype,
                view.shape
            )));
        }
        self.builder.set_place(v, view);
        Ok(())
    }

    /// Puts a constant into the blob.
    pub fn blob<T: Element>(&mut self, name: &str, values: &[T]) -> Operand {
        let mut bytes = Vec::with_capacity(values.len() * T::DTYPE.size());
        for v in values {
            v.write_le(&mut bytes);
        }
        self.builder.constant(name, T::DTYPE, values.len(), bytes)
    }

    /// Whether a convolution may be computed by other sums than the direct ones, where that is faster.
    pub fn reorders_sums(&self) -> bool {
        self.builder.decisions.reorder_sums
    }

    /// Memory for this node alone.
    pub fn scratch(&mut self, name: &str, dtype: DType, len: usize) -> Operand {
        self.builder.buffer(name, dtype, len, 0)
    }

    /// Emits a step for this node.
    pub fn push(&mut self, kernel: Kernel) {
        let written = kernel.writes().first().copied();
        let result = self.node.outputs.iter().flatten().find_map(|&v| {
            self.builder.placed(v).filter(|p| Some(p.operand) == written).map(TensorView::memory_shape)
        });
        let shape = result.unwrap_or_else(|| match written {
            Some(Operand::Buffer(b)) => {
                self.builder.buffers.get(b.0 as usize).map(|b| vec![b.len]).unwrap_or_default()
            }
            _ => Vec::new(),
        });
        self.builder.push(kernel, self.node.origins.clone(), shape);
    }

    /// Emits one loop nest computing `value` for every element of `out`, whose shape the reads
    /// broadcast to; loops are ordered by the output's memory order and merged where strides allow.
    /// `Expr::Read(i)` is `reads[i]`. A `value` with `Expr::Index(k)` keeps loop `k` for axis `k`.
    pub fn elementwise(
        &mut self,
        out: &TensorView,
        reads: &[TensorView],
        value: Expr,
    ) -> Result<(), OpError> {
        if let Some(nest) = nests::elementwise(out, reads, value)? {
            self.push(Kernel::Loops(Loops { nests: vec![nest] }));
        }
        Ok(())
    }

    /// Emits `out = table[index]`, with `index` an integer below the table's length made of the element of `x`, which is
    /// `Expr::Read(0)`; the table is its operand, type and length.
    pub fn lookup(
        &mut self,
        out: &TensorView,
        x: &TensorView,
        (table, dtype, extent): (Operand, DType, usize),
        index: Expr,
    ) -> Result<(), OpError> {
        let nest = nests::elementwise(out, std::slice::from_ref(x), Expr::Read(1))?;
        if let Some(mut nest) = nest {
            let access = Access { operand: table, dtype, offset: 0, strides: vec![0; nest.extents.len()] };
            let gather = vec![Gather { index, extent, stride: 1, proven: true }];
            nest.reads.push(Read { access, gather });
            self.push(Kernel::Loops(Loops { nests: vec![nest] }));
        }
        Ok(())
    }

    /// Emits a copy between views of equal shapes; nothing where both are the same memory, as for an
    /// operand that was produced in its part of a concatenation.
    pub fn copy(&mut self, from: &TensorView, to: &TensorView) -> Result<(), OpError> {
        if from.same_place(to) {
            return Ok(());
        }
        if from.operand == to.operand && footprint::of_view(from).meets(&footprint::of_view(to)) {
            return Err(OpError::internal("a copy onto part of itself"));
        }
        if let Some(nest) = nests::copy(from, to)? {
            self.push(Kernel::Loops(Loops { nests: vec![nest] }));
        }
        Ok(())
    }

    /// A part of a view: `len` elements along `axis` from `start`.
    pub fn part(
        &self,
        of: &TensorView,
        axis: usize,
        start: usize,
        len: usize,
    ) -> Result<TensorView, OpError> {
        let mut part = of.clone();
        let stride = of.strides.get(axis).copied().unwrap_or(0);
        match part.shape.get_mut(axis) {
            Some(d) if start.checked_add(len).is_some_and(|end| end <= *d) => *d = len,
            _ => return Err(OpError::internal("a part outside its view")),
        }
        part.offset = shifted(of.offset, std::iter::once((start, stride)))
            .ok_or_else(|| OpError::internal("a part in front of its operand"))?;
        Ok(part)
    }
}
