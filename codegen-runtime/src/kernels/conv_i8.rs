//! Convolution of bytes: unsigned by signed, with exact sums, requantized. One tap over one row of
//! pixels is a matrix product.
//!
//! Four neighbouring values of a row of taps go into each lane at once. Where a row's values lie behind one another
//! in memory they are read in place; else they are gathered, with the zero point outside of the image.

use crate::blob::Blob;
use crate::epilogue_i8::Numbers;
use crate::isa::Isa;
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::spatial::{Window, prove_apart, prove_form, prove_residual, prove_views};
use crate::kernels::{Form, conv_i8_body, hands, in_order, pointer, pointer_mut};
use crate::mem::{Mem, Part};
use crate::num::quotient;
use crate::operand::{Operand, Space};
use crate::pack;
use crate::spec::{ConvI8Spec, Residual};

/// A convolution of bytes as an emitted layer states it.
pub trait ConvI8Layer: 'static {
    /// Extents and options.
    type Shape: Shape<ConvI8Spec>;
    /// How the output lies to the inputs.
    const FORM: Form;
    /// Input.
    type X: Operand<Elem = u8>;
    /// Weights, in the layout of [`pack::ConvI8`].
    type W: Operand<Elem = i8>;
    /// Biases, factors and bounds, in the layout of [`pack::Requant`].
    type Numbers: Operand<Elem = i32>;
    /// Addend of the output's shape.
    type Residual: Operand<Elem = u8>;
    /// Output, of either sign.
    type Y: Operand;
}

/// The layout of a convolution's weights.
#[inline(always)]
pub const fn weights(spec: &ConvI8Spec) -> pack::ConvI8 {
    pack::ConvI8 {
        kernel: spec.kernel,
        in_channels: quotient(spec.x.channels, spec.groups),
        out_channels: quotient(spec.y.channels, spec.groups),
        groups: spec.groups,
    }
}

/// The layout of a convolution's numbers.
#[inline(always)]
pub const fn numbers(spec: &ConvI8Spec) -> pack::Requant {
    pack::Requant { channels: quotient(spec.y.channels, spec.groups), groups: spec.groups }
}

#[inline(always)]
pub(crate) const fn window(spec: &ConvI8Spec) -> Window {
    Window { kernel: spec.kernel, stride: spec.stride, dilation: spec.dilation, pads: spec.pads }
}

#[inline(always)]
pub(crate) const fn residual(spec: &ConvI8Spec) -> Residual {
    if spec.steps.add { Residual::Before } else { Residual::None }
}

/// What convolutions of bytes have in common, whatever their weights' layout.
pub(crate) const fn prove<X: Operand, W: Operand, K: Operand, R: Operand, Y: Operand>(
    spec: &ConvI8Spec,
    form: Form,
    weights: usize,
    numbers: usize,
    memory: [usize; 2],
) {
    assert!(size_of::<Y::Elem>() == 1, "the output is not of bytes");
    prove_views::<X, Y>(&window(spec), &spec.x, &spec.y);
    assert!(spec.x.c_stride == 1 && spec.y.c_stride == 1, "channels are not innermost");
    assert!(!spec.steps.add || spec.residual.c_stride == 1, "channels are not innermost");
    assert!(W::LEN >= weights, "the weights are too short");
    assert!(K::LEN >= numbers, "the numbers are too short");
    assert!(!matches!(W::SPACE, Space::Absent), "the weights are absent");
    assert!(!matches!(K::SPACE, Space::Absent), "the numbers are absent");
    prove_residual::<R, Y>(form, residual(spec), &spec.residual, &spec.y);
    prove_form::<X, Y>(form, &spec.x, &spec.y, None);
    prove_apart::<W, Y>(&spec.y);
    prove_apart::<K, Y>(&spec.y);
    let [n, m] = memory;
    X::SPAN.prove_inside(n, m);
    W::SPAN.prove_inside(n, m);
    K::SPAN.prove_inside(n, m);
    R::SPAN.prove_inside(n, m);
    Y::SPAN.prove_inside(n, m);
}

/// A convolution with every address resolved. Made by [`job`] only, of layers that [`prove`] passed.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) spec: &'a ConvI8Spec,
    pub(crate) x: *const u8,
    /// Readable bytes from `x` on.
    pub(crate) x_len: usize,
    pub(crate) w: *const i8,
    pub(crate) numbers: *const i32,
    pub(crate) residual: *const u8,
    pub(crate) y: *mut u8,
    pub(crate) part: Part,
}

impl Job<'_> {
    #[inline(always)]
    pub(crate) fn numbers(&self) -> Numbers {
        Numbers::new(self.numbers, numbers(self.spec), self.spec.steps)
    }
}

#[inline(always)]
fn job<L: ConvI8Layer, const N: usize, const M: usize>(
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) -> Job<'static> {
    const {
        let spec = &L::Shape::SPEC;
        assert!(
            spec.groups > 0 && spec.x.channels.is_multiple_of(spec.groups),
            "groups do not divide the input"
        );
        assert!(spec.y.channels.is_multiple_of(spec.groups), "groups do not divide the output");
        let lens = [weights(spec).packed_len(), numbers(spec).packed_len()];
        prove::<L::X, L::W, L::Numbers, L::Residual, L::Y>(spec, L::FORM, lens[0], lens[1], [N, M]);
    };
    let (arena, weights) = (mem.ptr(), blob.bytes().as_ptr());
    Job {
        spec: const { &L::Shape::SPEC },
        x: pointer::<L::X>(arena, weights),
        x_len: L::X::LEN,
        w: pointer::<L::W>(arena, weights),
        numbers: pointer::<L::Numbers>(arena, weights),
        residual: pointer::<L::Residual>(arena, weights),
        y: pointer_mut::<L::Y>(arena).cast(),
        part: in_order(part, L::FORM),
    }
}

/// Runs a part of the layer.
///
/// The build fails unless everything that the spec can touch lies in its operand, and the operands lie to
/// each other as the form says.
#[inline(always)]
pub fn run<I: Isa, L: ConvI8Layer, const N: usize, const M: usize>(
    isa: I,
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) {
    // SAFETY: the job was proved with the shape's spec where it was made.
    unsafe { layer::run::<I, _, L::Shape>(isa, hands(mem, L::FORM), job::<L, N, M>(mem, blob, part)) }
}

impl layer::Job for Job<'_> {
    type Spec = ConvI8Spec;

    #[inline(always)]
    fn shaped<S: Shape<ConvI8Spec>>(self) -> Self {
        Job { spec: const { &S::SPEC }, ..self }
    }

    fn part(self, part: Part) -> Self {
        Job { part, ..self }
    }

    fn work(spec: &ConvI8Spec) -> usize {
        crate::kernels::spatial::work(&spec.y, spec.kernel)
            .saturating_mul(quotient(spec.x.channels, spec.groups))
    }

    #[inline(always)]
    unsafe fn run<I: Isa, K: Known<ConvI8Spec>>(&self, isa: I) {
        // SAFETY: passed on.
        unsafe { conv_i8_body::run::<I, K>(isa, self) }
    }
}

#[cfg(test)]
#[path = "conv_i8_tests.rs"]
mod tests;
