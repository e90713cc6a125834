//! Depthwise convolution in `f32`: ONNX Conv with as many groups as input channels.
//!
//! Lanes are channels: a tile holds some output pixels of one panel, and takes one vector per pixel and
//! tap from memory. With a multiplier, or channels that are not neighbours, the lanes are gathered.

use crate::blob::Blob;
use crate::epilogue::{Vectors, prove_vectors};
use crate::isa::{Isa, LANES};
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::spatial::{
    Window, prove_apart, prove_form, prove_residual, prove_views, safe_lead as spatial_lead,
};
use crate::kernels::{Form, depthwise_body, hands, pointer, pointer_mut};
use crate::mem::{Mem, Part};
use crate::operand::{Operand, Space};
use crate::pack;
use crate::spec::DepthwiseSpec;

/// A depthwise convolution as an emitted layer states it.
pub trait DepthwiseLayer: 'static {
    /// Extents and options.
    type Shape: Shape<DepthwiseSpec>;
    /// How the output lies to the inputs.
    const FORM: Form;
    /// Input.
    type X: Operand<Elem = f32>;
    /// Weights, in the layout of [`pack::Depthwise`].
    type W: Operand<Elem = f32>;
    /// Biases, in the layout of [`pack::Vector`].
    type Bias: Operand<Elem = f32>;
    /// Factors, likewise.
    type Scale: Operand<Elem = f32>;
    /// PRelu slopes, likewise.
    type Slope: Operand<Elem = f32>;
    /// Addend of the output's shape.
    type Residual: Operand<Elem = f32>;
    /// Output.
    type Y: Operand<Elem = f32>;
}

/// The layout of a depthwise convolution's weights.
#[inline(always)]
pub const fn weights(spec: &DepthwiseSpec) -> pack::Depthwise {
    pack::Depthwise { kernel: spec.kernel, channels: spec.y.channels }
}

/// The layout of a depthwise convolution's biases, factors and slopes.
#[inline(always)]
pub const fn vectors(spec: &DepthwiseSpec) -> pack::Vector {
    pack::Vector { channels: spec.y.channels, groups: 1 }
}

#[inline(always)]
pub(crate) const fn window(spec: &DepthwiseSpec) -> Window {
    Window { kernel: spec.kernel, stride: spec.stride, dilation: spec.dilation, pads: spec.pads }
}

/// For [`Form::Overlap`]: the least distance in bytes from the start of `Y`'s slot to the start of
/// `X`'s (signed), so that no input is overwritten before it was read, at any level. `None` if
/// the output may not overlap the input at all.
pub const fn safe_lead(spec: &DepthwiseSpec) -> Option<isize> {
    // With one panel, a tile's input is read once, before the tile is written.
    let tile = if spec.y.channels <= LANES { 0 } else { depthwise_body::MOST_PIXELS };
    spatial_lead(&window(spec), &spec.x, &spec.y, tile, size_of::<f32>())
}

const fn prove<L: DepthwiseLayer, const N: usize, const M: usize>() {
    let spec = &L::Shape::SPEC;
    assert!(
        spec.y.channels == spec.x.channels.saturating_mul(spec.multiplier),
        "the output's channels are not x·multiplier"
    );
    assert!(spec.multiplier > 0, "a multiplier of zero");
    prove_views::<L::X, L::Y>(&window(spec), &spec.x, &spec.y);
    assert!(L::W::LEN >= weights(spec).packed_len(), "the weights are too short");
    assert!(!matches!(L::W::SPACE, Space::Absent), "the weights are absent");
    prove_vectors::<L::Bias, L::Scale, L::Slope>(&spec.epilogue, vectors(spec).packed_len());
    prove_residual::<L::Residual, L::Y>(L::FORM, spec.epilogue.residual, &spec.residual, &spec.y);
    let lead = if matches!(L::FORM, Form::Overlap) { safe_lead(spec) } else { None };
    prove_form::<L::X, L::Y>(L::FORM, &spec.x, &spec.y, lead);
    prove_apart::<L::W, L::Y>(&spec.y);
    prove_apart::<L::Bias, L::Y>(&spec.y);
    prove_apart::<L::Scale, L::Y>(&spec.y);
    prove_apart::<L::Slope, L::Y>(&spec.y);
    L::X::SPAN.prove_inside(N, M);
    L::W::SPAN.prove_inside(N, M);
    L::Bias::SPAN.prove_inside(N, M);
    L::Scale::SPAN.prove_inside(N, M);
    L::Slope::SPAN.prove_inside(N, M);
    L::Residual::SPAN.prove_inside(N, M);
    L::Y::SPAN.prove_inside(N, M);
}

/// A depthwise convolution with every address resolved. Made by [`job`] only, of layers that
/// [`prove`] passed.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) spec: &'a DepthwiseSpec,
    pub(crate) x: *const f32,
    pub(crate) w: *const f32,
    pub(crate) vectors: Vectors,
    pub(crate) residual: *const f32,
    pub(crate) y: *mut f32,
    pub(crate) part: Part,
}

#[inline(always)]
fn job<L: DepthwiseLayer, const N: usize, const M: usize>(
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) -> Job<'static> {
    const { prove::<L, N, M>() };
    let (arena, weights) = (mem.ptr(), blob.bytes().as_ptr());
    Job {
        spec: const { &L::Shape::SPEC },
        x: pointer::<L::X>(arena, weights),
        w: pointer::<L::W>(arena, weights),
        vectors: Vectors {
            bias: pointer::<L::Bias>(arena, weights),
            scale: pointer::<L::Scale>(arena, weights),
            slope: pointer::<L::Slope>(arena, weights),
        },
        residual: pointer::<L::Residual>(arena, weights),
        y: pointer_mut::<L::Y>(arena),
        part: part.ordered(matches!(L::FORM, Form::Overlap)),
    }
}

/// Runs a part of the layer.
///
/// The build fails unless everything that the spec can touch lies in its operand, and the operands lie to
/// each other as the form says.
#[inline(always)]
pub fn run<I: Isa, L: DepthwiseLayer, const N: usize, const M: usize>(
    isa: I,
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) {
    // SAFETY: the job was proved with the shape's spec where it was made.
    unsafe { layer::run::<I, _, L::Shape>(isa, hands(mem, L::FORM), job::<L, N, M>(mem, blob, part)) }
}

impl layer::Job for Job<'_> {
    type Spec = DepthwiseSpec;

    #[inline(always)]
    fn shaped<S: Shape<DepthwiseSpec>>(self) -> Self {
        Job { spec: const { &S::SPEC }, ..self }
    }

    fn part(self, part: Part) -> Self {
        Job { part, ..self }
    }

    fn work(spec: &DepthwiseSpec) -> usize {
        crate::kernels::spatial::work(&spec.y, spec.kernel)
    }

    #[inline(always)]
    unsafe fn run<I: Isa, K: Known<DepthwiseSpec>>(&self, isa: I) {
        // SAFETY: passed on.
        unsafe { depthwise_body::run::<I, K>(isa, self) }
    }
}

#[cfg(test)]
#[path = "depthwise_tests.rs"]
mod tests;
