//! Rims of stored zeros, so that a convolution reads its padding instead of peeling edges.
//!
//! A value gets a rim when
//! - the options allow it (SIMD levels; microcontrollers peel);
//! - it is not seen by the caller, not a part of another value, and has memory of its own;
//! - every reader is a spatial operator, and those that pad at all pad with zeros;
//! - the rim costs at most a quarter of the value ([`WORTH`]): a rim of 1 around 5×5 doubles the bytes, and
//!   there peeling is as cheap.
//!
//! And all rims together must not make the arena more than a quarter larger than it would be without, or
//! than the bytes that are alive at once: a value with a rim cannot be written over another.
//!
//! A small image of few channels that cannot have a rim, being the model's input, is copied into one
//! ([`pays_to_copy`]).
//!
//! The rim is as wide as its widest reader needs; readers that need less start further inside. Zeros are
//! written right before the value's producer, once per inference, since other values use the same memory
//! at other times. Producers write through strides, so every kernel can write into the interior.

use super::builder::{Decisions, shifted};
use super::probe;
use super::view::{TensorView, channels_last, same_layout};
use super::{SpatialNeed, nests};
use crate::ir::{DType, ValueId};
use crate::kernel::Nest;
use crate::kernel::spec::View;
use crate::ops::{Graph, LayoutRule, OpError};

/// A rim may cost one part in so many of the value's bytes.
pub(super) const WORTH: usize = 4;

/// Elements of an image up to which a copy with a rim costs less than edges: then its rows are short, and most
/// tiles of a convolution would meet an edge.
const SMALL_IMAGE: usize = 32 << 10;

/// Channels up to which an image is small in relation to the work on it.
const FEW_CHANNELS: usize = 4;

/// Whether a reader that pads gains from a copy of the image with zeros around it.
pub(super) fn pays_to_copy(image: &TensorView, view: &View, need: &SpatialNeed) -> bool {
    need.planar
        && need.fill == Some(0.0)
        && (need.pads != [0; 3] || need.pads_end != [0; 3])
        && image.dtype == DType::F32
        && view.channels <= FEW_CHANNELS
        && image.elements() <= SMALL_IMAGE
}

/// Widths of a rim along depth, height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Halo {
    /// In front.
    pub before: [usize; 3],
    /// Behind.
    pub after: [usize; 3],
}

impl Halo {
    /// Widths along the spatial axes of a value of that rank, as `(axis, before, after)`.
    fn axes(self, rank: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let lead = 5usize.saturating_sub(rank);
        (lead..3).map(move |k| {
            let width = |w: [usize; 3]| w.get(k).copied().unwrap_or(0);
            (k - lead + 2, width(self.before), width(self.after))
        })
    }

    /// Extents with the rim.
    pub(super) fn enlarged(self, shape: &[usize]) -> Vec<usize> {
        let mut out = shape.to_vec();
        for (axis, before, after) in self.axes(shape.len()) {
            if let Some(d) = out.get_mut(axis) {
                *d = d.saturating_add(before).saturating_add(after);
            }
        }
        out
    }

    /// First element inside the rim.
    pub(super) fn interior(self, whole: &TensorView) -> usize {
        let steps = self
            .axes(whole.shape.len())
            .map(|(axis, before, _)| (before, whole.strides.get(axis).copied().unwrap_or(0)));
        shifted(whole.offset, steps).unwrap_or(whole.offset)
    }

    /// The view of a reader that takes its pads from the rim; `None` where the rim is too narrow.
    pub(super) fn within(self, interior: View, need: SpatialNeed) -> Option<View> {
        let mut view = interior;
        for k in 0..3 {
            if need.pads[k] > self.before[k] || need.pads_end[k] > self.after[k] {
                return None;
            }
            view.offset = view.offset.checked_sub(need.pads[k] * view.strides[k])?;
            view.extent[k] += need.pads[k] + need.pads_end[k];
        }
        Some(view)
    }

    fn widen(&mut self, need: &SpatialNeed) {
        for k in 0..3 {
            self.before[k] = self.before[k].max(need.pads[k]);
            self.after[k] = self.after[k].max(need.pads_end[k]);
        }
    }
}

/// Nests that write zeros to the rim of `whole`: slabs in front and behind along each axis, between those
/// of the axes before it.
pub(super) fn rim(whole: &TensorView, halo: Halo) -> Result<Vec<Nest>, OpError> {
    let mut nests = Vec::new();
    let mut rest = whole.clone();
    for (axis, before, after) in halo.axes(whole.shape.len()) {
        let (Some(&extent), Some(&stride)) = (rest.shape.get(axis), rest.strides.get(axis)) else { continue };
        let slab = |start: usize, len: usize| -> Result<TensorView, OpError> {
            let mut part = rest.clone();
            part.offset = shifted(rest.offset, std::iter::once((start, stride)))
                .ok_or_else(|| OpError::internal("a rim in front of its buffer"))?;
            if let Some(d) = part.shape.get_mut(axis) {
                *d = len;
            }
            Ok(part)
        };
        let inner = slab(before, extent.saturating_sub(before + after))?;
        for part in [slab(0, before)?, slab(extent.saturating_sub(after), after)?] {
            nests.extend(nests::zero(&part)?);
        }
        rest = inner;
    }
    Ok(nests)
}

/// Decides which values get rims.
pub(super) fn choose(graph: &Graph, decisions: &mut Decisions) {
    let users = graph.users();
    for (_, node) in graph.nodes() {
        if !matches!(node.op.as_op().layout(), LayoutRule::ChannelsLast) {
            continue;
        }
        for v in node.inputs.first().into_iter().flatten() {
            if decisions.halos.contains_key(v) || !eligible(graph, decisions, *v) {
                continue;
            }
            let readers = users.get(v.0 as usize).map_or(&[][..], Vec::as_slice);
            if let Some(halo) = widest(graph, decisions.reorder_sums, *v, readers) {
                let shape = &graph.value(*v).shape;
                let whole = halo.enlarged(shape).iter().fold(1usize, |n, &d| n.saturating_mul(d));
                if (whole - shape.elements()).saturating_mul(WORTH) <= shape.elements() {
                    decisions.halos.insert(*v, halo);
                }
            }
        }
    }
}

fn eligible(graph: &Graph, decisions: &Decisions, v: ValueId) -> bool {
    let shape = &graph.value(v).shape;
    let Some((_, producer)) = graph.producer(v) else { return false };
    let order = decisions.orders.get(v.0 as usize);
    !graph.is_output(v)
        && !decisions.homes.contains_key(&v)
        && (3..=5).contains(&shape.rank())
        && order.is_some_and(|o| same_layout(shape, o, &channels_last(shape.rank())))
        && matches!(
            producer.op.as_op().layout(),
            LayoutRule::ChannelsLast | LayoutRule::Follow | LayoutRule::Join { .. }
        )
}

/// The widest pads of all readers; `None` where one of them is not spatial, or none pads with zeros.
fn widest(graph: &Graph, sums: bool, v: ValueId, readers: &[crate::ir::NodeId]) -> Option<Halo> {
    let mut halo = Halo::default();
    for &reader in readers {
        let node = graph.node(reader)?;
        if !matches!(node.op.as_op().layout(), LayoutRule::ChannelsLast) {
            return None;
        }
        for (i, need) in probe::needs(graph, reader, sums) {
            if node.inputs.get(i) == Some(&Some(v)) && need.fill == Some(0.0) {
                halo.widen(&need);
            }
        }
    }
    (halo != Halo::default()).then_some(halo)
}

#[cfg(test)]
mod tests {
    use super::super::view::{dense_strides, spatial};
    use super::*;
    use crate::kernel::{BufferId, Operand};

    fn whole(shape: &[usize]) -> TensorView {
        let strides = dense_strides(shape, &channels_last(shape.len()));
        let operand = Operand::Buffer(BufferId(0));
        TensorView { operand, dtype: DType::F32, shape: shape.to_vec(), offset: 0, strides }
    }

    /// Marks what the nests of a rim write.
    fn written(nests: &[Nest], len: usize) -> Vec<u32> {
        let mut marks = vec![0; len];
        for nest in nests {
            let store = &nest.stores[0].access;
            for flat in 0..nest.extents.iter().product::<usize>() {
                let mut rest = flat;
                let mut at = store.offset as isize;
                for (&d, &s) in nest.extents.iter().zip(&store.strides).rev() {
                    at += (rest % d) as isize * s;
                    rest /= d;
                }
                marks[at as usize] += 1;
            }
        }
        marks
    }

    #[test]
    fn a_rim_is_written_once_and_nothing_else() {
        for (shape, halo) in [
            (vec![2, 3, 4, 5], Halo { before: [0, 1, 2], after: [0, 2, 1] }),
            (vec![1, 2, 4, 3, 5], Halo { before: [1, 0, 2], after: [0, 1, 1] }),
            (vec![1, 4, 7], Halo { before: [0, 0, 3], after: [0, 0, 0] }),
        ] {
            let view = whole(&halo.enlarged(&shape));
            let marks = written(&rim(&view, halo).unwrap(), view.elements());
            let inside = TensorView { offset: halo.interior(&view), shape: shape.clone(), ..view.clone() };
            let mut interior = vec![1; view.elements()];
            let zero = nests::zero(&inside).unwrap().unwrap();
            for (m, w) in interior.iter_mut().zip(written(&[zero], view.elements())) {
                *m -= w;
            }
            assert_eq!(marks, interior, "{shape:?}");
        }
    }

    #[test]
    fn readers_take_as_much_as_they_need() {
        let halo = Halo { before: [0, 2, 2], after: [0, 2, 2] };
        let view = whole(&halo.enlarged(&[1, 3, 4, 5]));
        let inside = TensorView { offset: halo.interior(&view), shape: vec![1, 3, 4, 5], ..view };
        let inside = spatial(&inside).unwrap();
        let need = SpatialNeed { pads: [0, 1, 0], pads_end: [0, 1, 2], fill: Some(0.0), planar: false };
        let read = halo.within(inside, need).unwrap();
        assert_eq!((read.offset, read.extent), (9 * 3 + 2 * 3, [1, 6, 7]));
        assert_eq!(halo.within(inside, SpatialNeed { pads: [0, 3, 0], ..need }), None);
    }
}
