//! What lowering builds: steps, buffers, constants, and where each value lies so far.

use super::halo::{self, Halo};
use super::home::Home;
use super::view::{Order, TensorView, channels_last, dense_strides, row_major, same_layout, signed, spatial};
use super::{Region, SpatialNeed, Step, nests};
use crate::ir::{DType, Origin, Tensor, ValueId};
use crate::kernel::spec::View;
use crate::kernel::{Buffer, BufferId, ConstId, Constant, Kernel, Loops, Nest, Operand};
use crate::ops::{Graph, OpError};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hasher};

/// What was decided before lowering starts.
#[derive(Debug, Clone, Default)]
pub(super) struct Decisions {
    /// Memory order of each value that gets memory of its own, by `ValueId`.
    pub orders: Vec<Order>,
    /// Values produced into a part of another value's memory.
    pub homes: BTreeMap<ValueId, Home>,
    /// Values stored with a rim of zeros.
    pub halos: BTreeMap<ValueId, Halo>,
    /// Whether a small image whose memory has no rim may be copied into one that has.
    pub rimmed_copies: bool,
    /// Whether convolutions may be computed by other sums than the direct ones.
    pub reorder_sums: bool,
}

/// What a trial run records.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// Spatial operands asked for.
    pub needs: Vec<(usize, SpatialNeed)>,
    /// Give up at the first of them: packing weights twice would be a waste.
    pub stop_at_need: bool,
}

/// The schedule in the making.
#[derive(Debug, Default)]
pub(super) struct Builder {
    pub decisions: Decisions,
    pub steps: Vec<Step>,
    pub regions: Vec<Region>,
    pub buffers: Vec<Buffer>,
    pub constants: Vec<Constant>,
    pub probe: Option<Probe>,
    /// Buffers that the caller sees: model inputs and outputs. No second output may live there.
    claimed: BTreeSet<BufferId>,
    known_constants: HashMap<u64, Vec<ConstId>>,
    places: Vec<Option<TensorView>>,
    /// Copies of values in other layouts, made once for all readers; `None` for dense.
    converted: BTreeMap<(ValueId, Option<Order>), TensorView>,
    /// Values whose memory has a rim.
    rims: BTreeMap<ValueId, Halo>,
}

impl Builder {
    pub(super) fn new(graph: &Graph, decisions: Decisions) -> Self {
        Builder { decisions, places: vec![None; graph.value_count()], ..Builder::default() }
    }

    /// Hands what becomes the schedule to a builder of a child's values, or back.
    pub(super) fn lend(&mut self, to: &mut Builder) {
        std::mem::swap(&mut self.steps, &mut to.steps);
        std::mem::swap(&mut self.regions, &mut to.regions);
        std::mem::swap(&mut self.buffers, &mut to.buffers);
        std::mem::swap(&mut self.constants, &mut to.constants);
        std::mem::swap(&mut self.known_constants, &mut to.known_constants);
    }

    pub(super) fn buffer(&mut self, name: &str, dtype: DType, len: usize, live_len: usize) -> Operand {
        let id = BufferId(self.buffers.len() as u32);
        self.buffers.push(Buffer { dtype, len, name: name.to_owned(), live_len });
        Operand::Buffer(id)
    }

    /// Puts bytes into the blob, once for equal ones.
    pub(super) fn constant(&mut self, name: &str, dtype: DType, len: usize, bytes: Vec<u8>) -> Operand {
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let same = self.known_constants.entry(hasher.finish()).or_default();
        for &id in same.iter() {
            if self.constants.get(id.0 as usize).is_some_and(|c| c.dtype == dtype && c.bytes == bytes) {
                return Operand::Const(id);
            }
        }
        let id = ConstId(self.constants.len() as u32);
        same.push(id);
        self.constants.push(Constant { dtype, len, bytes, name: name.to_owned() });
        Operand::Const(id)
    }

    /// The order decided for a value; row-major unless decided otherwise.
    pub(super) fn order(&self, graph: &Graph, v: ValueId) -> Order {
        let rank = graph.value(v).shape.rank();
        self.decisions
            .orders
            .get(v.0 as usize)
            .filter(|o| o.len() == rank)
            .cloned()
            .unwrap_or(row_major(rank))
    }

    pub(super) fn set_place(&mut self, v: ValueId, view: TensorView) {
        if let Some(p) = self.places.get_mut(v.0 as usize) {
            *p = Some(view);
        }
    }

    pub(super) fn placed(&self, v: ValueId) -> Option<&TensorView> {
        self.places.get(v.0 as usize).and_then(Option::as_ref)
    }

    /// Where a value lies; known ones go to the blob in the given order, or row-major.
    pub(super) fn place(
        &mut self,
        graph: &Graph,
        v: ValueId,
        order: Option<&Order>,
    ) -> Result<TensorView, OpError> {
        if let Some(view) = self.placed(v) {
            return Ok(view.clone());
        }
        let value = graph.value(v);
        let tensor = value
            .constant
            .as_ref()
            .ok_or_else(|| OpError::internal(format!("`{}` is read before it has a place", value.name)))?;
        if tensor.dtype() == DType::String {
            return Err(OpError::unsupported("strings at run time"));
        }
        let shape = tensor.shape().to_vec();
        let order = order.filter(|o| o.len() == shape.len()).cloned().unwrap_or(row_major(shape.len()));
        let bytes = ordered_bytes(tensor, &order);
        let operand = self.constant(&value.name, tensor.dtype(), tensor.len(), bytes);
        let strides = dense_strides(&shape, &order);
        Ok(TensorView { operand, dtype: tensor.dtype(), shape, offset: 0, strides })
    }

    /// Memory of its own for a value, without gaps, in an order.
    fn fresh(&mut self, graph: &Graph, v: ValueId, order: &Order, live: bool) -> TensorView {
        let value = graph.value(v);
        let len = value.shape.elements();
        let operand = self.buffer(&value.name, value.dtype, len, if live { len } else { 0 });
        let shape = value.shape.to_vec();
        let strides = dense_strides(&shape, order);
        TensorView { operand, dtype: value.dtype, shape, offset: 0, strides }
    }

    /// Storage for a result: what it has, its part of another value, with a rim, or fresh.
    pub(super) fn store(&mut self, graph: &Graph, v: ValueId) -> Result<TensorView, OpError> {
        if let Some(view) = self.placed(v) {
            return Ok(view.clone());
        }
        let order = self.order(graph, v);
        let view = if let Some(home) = self.decisions.homes.get(&v).cloned() {
            let target = self.store(graph, home.target)?;
            home.part(&target, &graph.value(v).shape, &order)?
        } else if let Some(halo) = self.decisions.halos.get(&v).copied() {
            self.store_with_rim(graph, v, &order, halo)?
        } else {
            self.fresh(graph, v, &order, true)
        };
        self.set_place(v, view.clone());
        Ok(view)
    }

    fn store_with_rim(
        &mut self,
        graph: &Graph,
        v: ValueId,
        order: &Order,
        halo: Halo,
    ) -> Result<TensorView, OpError> {
        let value = graph.value(v);
        let outer = halo.enlarged(&value.shape);
        let len: usize = outer.iter().product();
        let operand = self.buffer(&value.name, value.dtype, len, value.shape.elements());
        let strides = dense_strides(&outer, order);
        let whole = TensorView { operand, dtype: value.dtype, shape: outer, offset: 0, strides };
        let nests = halo::rim(&whole, halo)?;
        self.push_note(nests, format!("zeros around `{}`", value.name), whole.memory_shape());
        self.rims.insert(v, halo);
        let offset = halo.interior(&whole);
        Ok(TensorView { shape: value.shape.to_vec(), offset, ..whole })
    }

    /// Storage for a result, row-major, at the start of a buffer of exactly its length. Another home
    /// that was meant for the value is given up: its reader copies.
    pub(super) fn store_dense(&mut self, graph: &Graph, v: ValueId) -> Result<TensorView, OpError> {
        self.store_own(graph, v, &row_major(graph.value(v).shape.rank()))
    }

    fn store_own(&mut self, graph: &Graph, v: ValueId, order: &Order) -> Result<TensorView, OpError> {
        if let Some(view) = self.placed(v) {
            let fits = self.is_whole(view) && same_layout(&view.shape, &view.order(), order);
            let name = &graph.value(v).name;
            return if fits {
                Ok(view.clone())
            } else {
                Err(OpError::internal(format!("storage of `{name}` was asked for in two layouts")))
            };
        }
        let view = self.fresh(graph, v, order, true);
        self.set_place(v, view.clone());
        Ok(view)
    }

    /// Storage for a result with channels innermost.
    pub(super) fn store_spatial(&mut self, graph: &Graph, v: ValueId) -> Result<(Operand, View), OpError> {
        let shape = &graph.value(v).shape;
        let order = channels_last(shape.rank());
        let view = if same_layout(shape, &self.order(graph, v), &order) {
            self.store(graph, v)?
        } else {
            self.store_own(graph, v, &order)?
        };
        match spatial(&view) {
            Some(s) if s.c_stride == 1 => Ok((view.operand, s)),
            _ => Err(OpError::internal(format!("a spatial result of shape {shape}"))),
        }
    }

    /// Memory for a model input.
    pub(super) fn input(&mut self, graph: &Graph, v: ValueId, order: &Order) -> Result<TensorView, OpError> {
        let view = self.store_own(graph, v, order)?;
        self.claim(view.operand);
        Ok(view)
    }

    /// Memory of a model output: where its value lies, if that is row-major, whole, and nobody else's;
    /// else a copy.
    pub(super) fn output(&mut self, graph: &Graph, v: ValueId, name: &str) -> Result<Operand, OpError> {
        let view = self.place(graph, v, None)?;
        let free = match view.operand {
            Operand::Buffer(b) => !self.claimed.contains(&b),
            Operand::Const(_) => true,
        };
        let operand = if free && view.is_dense() && self.is_whole(&view) {
            view.operand
        } else {
            let to = self.fresh(graph, v, &row_major(view.shape.len()), true);
            self.push_copy(&view, &to, format!("output `{name}`"))?;
            to.operand
        };
        self.claim(operand);
        Ok(operand)
    }

    fn claim(&mut self, operand: Operand) {
        if let Operand::Buffer(b) = operand {
            self.claimed.insert(b);
        }
    }

    /// Whether a view is all of its buffer or constant, without gaps.
    pub(super) fn is_whole(&self, view: &TensorView) -> bool {
        let len = match view.operand {
            Operand::Buffer(b) => self.buffers.get(b.0 as usize).map(|b| b.len),
            Operand::Const(c) => self.constants.get(c.0 as usize).map(|c| c.len),
        };
        let dense = dense_strides(&view.shape, &view.order());
        let same =
            view.shape.iter().zip(view.strides.iter().zip(&dense)).all(|(&d, (a, b))| d == 1 || a == b);
        view.offset == 0 && len == Some(view.elements()) && same
    }

    /// A value row-major at the start of an operand of its length; copied once where it is not.
    pub(super) fn dense(&mut self, graph: &Graph, v: ValueId, why: &str) -> Result<TensorView, OpError> {
        let view = self.place(graph, v, None)?;
        if view.is_dense() && self.is_whole(&view) {
            return Ok(view);
        }
        self.convert(graph, v, view, None, why)
    }

    fn convert(
        &mut self,
        graph: &Graph,
        v: ValueId,
        from: TensorView,
        order: Option<Order>,
        why: &str,
    ) -> Result<TensorView, OpError> {
        let rank = from.shape.len();
        let plain = order.as_ref().is_none_or(|o| same_layout(&from.shape, o, &row_major(rank)));
        let key = (v, order.filter(|_| !plain));
        if let Some(view) = self.converted.get(&key) {
            return Ok(view.clone());
        }
        let to = self.fresh(graph, v, key.1.as_ref().unwrap_or(&row_major(rank)), false);
        let wanted = key.1.clone().unwrap_or(row_major(rank));
        let what = match same_layout(&from.shape, &from.order(), &wanted) {
            true => "without gaps",
            false if plain => "row-major",
            false => "channels last",
        };
        let note = format!("layout change of `{}`: {what} for {why}", graph.value(v).name);
        self.push_copy(&from, &to, note)?;
        self.converted.insert(key, to.clone());
        Ok(to)
    }

    /// A spatial operand as a kernel may read it: in the rim of its buffer, channels innermost, or planar
    /// where that is fine; copied once where it lies otherwise.
    pub(super) fn spatial(
        &mut self,
        graph: &Graph,
        v: ValueId,
        need: SpatialNeed,
        why: &str,
    ) -> Result<super::Spatial, OpError> {
        let wrong = || OpError::internal(format!("a spatial operand of shape {}", graph.value(v).shape));
        let order = channels_last(graph.value(v).shape.rank());
        let place = self.place(graph, v, Some(&order))?;
        if let Some(s) = spatial(&place) {
            if let (Some(halo), true, 1) = (self.rims.get(&v), need.fill == Some(0.0), s.c_stride)
                && let Some(view) = halo.within(s, need)
            {
                return Ok(super::Spatial { operand: place.operand, view, pads: [0; 3] });
            }
            if s.c_stride == 1 || (need.planar && (s.strides[2] == 1 || s.extent[2] == 1)) {
                if self.decisions.rimmed_copies && halo::pays_to_copy(&place, &s, &need) {
                    return self.copy_with_rim(graph, v, &place, need, why);
                }
                return Ok(super::Spatial { operand: place.operand, view: s, pads: need.pads });
            }
        }
        let view = self.convert(graph, v, place, Some(order), why)?;
        let s = spatial(&view).filter(|s| s.c_stride == 1).ok_or_else(wrong)?;
        Ok(super::Spatial { operand: view.operand, view: s, pads: need.pads })
    }

    /// Copies an image into memory that has the rim which a reader needs.
    fn copy_with_rim(
        &mut self,
        graph: &Graph,
        v: ValueId,
        from: &TensorView,
        need: SpatialNeed,
        why: &str,
    ) -> Result<super::Spatial, OpError> {
        let name = &graph.value(v).name;
        let halo = Halo { before: need.pads, after: need.pads_end };
        let shape = halo.enlarged(&from.shape);
        let strides = dense_strides(&shape, &from.order());
        let operand = self.buffer(name, from.dtype, shape.iter().product(), 0);
        let whole = TensorView { operand, dtype: from.dtype, shape, offset: 0, strides };
        let interior =
            TensorView { shape: from.shape.clone(), offset: halo.interior(&whole), ..whole.clone() };
        let mut nests = halo::rim(&whole, halo)?;
        nests.extend(nests::copy(from, &interior)?);
        self.push_note(nests, format!("`{name}` with zeros around for {why}"), whole.memory_shape());
        let view = spatial(&whole).ok_or_else(|| {
            OpError::internal(format!("a spatial operand of shape {}", graph.value(v).shape))
        })?;
        Ok(super::Spatial { operand, view, pads: [0; 3] })
    }

    /// Adds a step that stands for ONNX nodes.
    pub(super) fn push(&mut self, kernel: Kernel, origins: Vec<Origin>, out_shape: Vec<usize>) {
        self.steps.push(Step { kernel, origins, note: String::new(), macs: 0, out_shape });
    }

    /// Adds a step of the compiler's own.
    fn push_note(&mut self, nests: Vec<Nest>, note: String, out_shape: Vec<usize>) {
        if !nests.is_empty() {
            let kernel = Kernel::Loops(Loops { nests });
            self.steps.push(Step { kernel, origins: Vec::new(), note, macs: 0, out_shape });
        }
    }

    /// Adds a copy of the compiler's own.
    pub(super) fn push_copy(
        &mut self,
        from: &TensorView,
        to: &TensorView,
        note: String,
    ) -> Result<(), OpError> {
        let nest = nests::copy(from, to)?;
        self.push_note(nest.into_iter().collect(), note, to.memory_shape());
        Ok(())
    }
}

/// A tensor's bytes with its axes in an order.
fn ordered_bytes(tensor: &Tensor, order: &[usize]) -> Vec<u8> {
    let bytes = tensor.to_le_bytes();
    let shape = tensor.shape();
    let size = tensor.dtype().size();
    if same_layout(shape, order, &row_major(shape.rank())) || tensor.is_empty() {
        return bytes;
    }
    // Walk the target in memory order; `from` is the element's row-major position.
    let source = shape.strides();
    let walk: Vec<(usize, usize)> =
        order.iter().filter_map(|&a| Some((*shape.get(a)?, *source.get(a)?))).collect();
    let mut index = vec![0usize; walk.len()];
    let mut out = Vec::with_capacity(bytes.len());
    let mut from = 0usize;
    for _ in 0..tensor.len() {
        out.extend_from_slice(bytes.get(from * size..(from + 1) * size).unwrap_or(&[]));
        for (i, &(extent, stride)) in index.iter_mut().zip(&walk).rev() {
            *i += 1;
            from += stride;
            if *i < extent {
                break;
            }
            from -= stride * extent;
            *i = 0;
        }
    }
    out
}

/// Offset of a position in a view, given per axis.
pub(super) fn shifted(offset: usize, by: impl Iterator<Item = (usize, isize)>) -> Option<usize> {
    let shift = by.fold(0isize, |sum, (n, s)| sum.saturating_add(signed(n).saturating_mul(s)));
    offset.checked_add_signed(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_constants_are_stored_once() {
        let mut b = Builder::default();
        let a = b.constant("a", DType::F32, 1, vec![0, 0, 128, 63]);
        assert_eq!(b.constant("b", DType::F32, 1, vec![0, 0, 128, 63]), a);
        assert_ne!(b.constant("c", DType::I32, 1, vec![0, 0, 128, 63]), a);
        assert_eq!(b.constants.len(), 2);
    }

    #[test]
    fn constants_are_laid_in_order() {
        let t = Tensor::from_fn::<u8>([1, 2, 2, 2], |i| i as u8);
        assert_eq!(ordered_bytes(&t, &channels_last(4)), [0, 4, 1, 5, 2, 6, 3, 7]);
        assert_eq!(ordered_bytes(&t, &row_major(4)), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
