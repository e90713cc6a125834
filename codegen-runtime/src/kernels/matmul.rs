//! Matrix product in `f32`: ONNX MatMul and Gemm, with the right-hand side in panels of 16 columns.
//!
//! A register tile holds some rows of one or two panels and goes once through the whole inner extent.
//! A single row streams several panels at a time instead. Constant and run-time right-hand sides (packed by
//! [`pack_rt`](crate::kernels::pack_rt)) are the same to it.

use crate::blob::Blob;
use crate::epilogue::{Vectors, prove_vectors};
use crate::isa::{Isa, LANES};
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::spatial::{
    Window, prove_apart, prove_form, prove_residual, prove_views, safe_lead as spatial_lead,
};
use crate::kernels::{Form, hands, in_order, matmul_body, pointer, pointer_mut};
use crate::mem::{Mem, Part};
use crate::operand::{Operand, Space};
use crate::pack;
use crate::spec::{MatMulSpec, View};

/// A matrix product as an emitted layer states it.
pub trait MatMulLayer: 'static {
    /// Extents and options.
    type Shape: Shape<MatMulSpec>;
    /// How the output lies to the inputs.
    const FORM: Form;
    /// Left-hand side.
    type A: Operand<Elem = f32>;
    /// Right-hand side, each batch in the layout of [`pack::Gemm`].
    type W: Operand<Elem = f32>;
    /// Biases of the columns, padded to 16 ([`pack::Vector`]).
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

/// The layout of one batch of the right-hand side.
pub const fn weights(spec: &MatMulSpec) -> pack::Gemm {
    pack::Gemm { k: spec.k, n: spec.n }
}

/// The layout of biases, factors and slopes.
pub const fn vectors(spec: &MatMulSpec) -> pack::Vector {
    pack::Vector { channels: spec.n, groups: 1 }
}

/// Rows as pixels of one image row, columns as channels.
const fn rows(spec: &MatMulSpec, offset: usize, columns: usize, stride: usize, batch: usize) -> View {
    View {
        offset,
        batch: spec.batch,
        extent: [1, 1, spec.m],
        channels: columns,
        n_stride: batch,
        strides: [0, 0, stride],
        c_stride: 1,
    }
}

const fn left(spec: &MatMulSpec) -> View {
    rows(spec, spec.a_offset, spec.k, spec.a_stride, spec.a_batch)
}

const fn output(spec: &MatMulSpec) -> View {
    rows(spec, spec.y_offset, spec.n, spec.y_stride, spec.y_batch)
}

const POINT: Window = Window { kernel: [1; 3], stride: [1; 3], dilation: [1; 3], pads: [0; 3] };

/// For [`Form::Overlap`]: the least distance in bytes from the start of `Y`'s slot to the start of `A`'s
/// (signed), so that no input is overwritten before it was read, at any level. `None` if the output
/// may not overlap the input at all.
pub const fn safe_lead(spec: &MatMulSpec) -> Option<isize> {
    // With one panel, rows are read once, before they are written; with more, again for each.
    if spec.n > LANES {
        return None;
    }
    spatial_lead(&POINT, &left(spec), &output(spec), 0, size_of::<f32>())
}

const fn prove<L: MatMulLayer, const N: usize, const M: usize>() {
    let spec = &L::Shape::SPEC;
    let (a, y) = (left(spec), output(spec));
    prove_views::<L::A, L::Y>(&POINT, &a, &y);
    if spec.batch > 0 {
        let needed = (spec.batch - 1).saturating_mul(spec.w_batch).saturating_add(weights(spec).packed_len());
        assert!(L::W::LEN >= needed, "the right-hand side is too short");
    }
    assert!(!matches!(L::W::SPACE, Space::Absent), "the right-hand side is absent");
    prove_vectors::<L::Bias, L::Scale, L::Slope>(&spec.epilogue, vectors(spec).packed_len());
    let residual = rows(spec, spec.r_offset, spec.n, spec.r_stride, spec.r_batch);
    prove_residual::<L::Residual, L::Y>(L::FORM, spec.epilogue.residual, &residual, &y);
    let lead = if matches!(L::FORM, Form::Overlap) { safe_lead(spec) } else { None };
    prove_form::<L::A, L::Y>(L::FORM, &a, &y, lead);
    prove_apart::<L::W, L::Y>(&y);
    prove_apart::<L::Bias, L::Y>(&y);
    prove_apart::<L::Scale, L::Y>(&y);
    prove_apart::<L::Slope, L::Y>(&y);
    L::A::SPAN.prove_inside(N, M);
    L::W::SPAN.prove_inside(N, M);
    L::Bias::SPAN.prove_inside(N, M);
    L::Scale::SPAN.prove_inside(N, M);
    L::Slope::SPAN.prove_inside(N, M);
    L::Residual::SPAN.prove_inside(N, M);
    L::Y::SPAN.prove_inside(N, M);
}

/// A matrix product with every address resolved. Made by [`job`] only, of layers that [`prove`] passed.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) spec: &'a MatMulSpec,
    pub(crate) a: *const f32,
    pub(crate) w: *const f32,
    pub(crate) vectors: Vectors,
    pub(crate) residual: *const f32,
    pub(crate) y: *mut f32,
    pub(crate) part: Part,
}

#[inline(always)]
fn job<L: MatMulLayer, const N: usize, const M: usize>(
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) -> Job<'static> {
    const { prove::<L, N, M>() };
    let (arena, weights) = (mem.ptr(), blob.bytes().as_ptr());
    Job {
        spec: const { &L::Shape::SPEC },
        a: pointer::<L::A>(arena, weights),
        w: pointer::<L::W>(arena, weights),
        vectors: Vectors {
            bias: pointer::<L::Bias>(arena, weights),
            scale: pointer::<L::Scale>(arena, weights),
            slope: pointer::<L::Slope>(arena, weights),
        },
        residual: pointer::<L::Residual>(arena, weights),
        y: pointer_mut::<L::Y>(arena),
        part: in_order(part, L::FORM),
    }
}

/// Runs a part of the layer.
///
/// The build fails unless everything that the spec can touch lies in its operand, and the operands lie to
/// each other as the form says.
#[inline(always)]
pub fn run<I: Isa, L: MatMulLayer, const N: usize, const M: usize>(
    isa: I,
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) {
    // SAFETY: the job was proved with the shape's spec where it was made.
    unsafe { layer::run::<I, _, L::Shape>(isa, hands(mem, L::FORM), job::<L, N, M>(mem, blob, part)) }
}

impl layer::Job for Job<'_> {
    type Spec = MatMulSpec;

    #[inline(always)]
    fn shaped<S: Shape<MatMulSpec>>(self) -> Self {
        Job { spec: const { &S::SPEC }, ..self }
    }

    fn part(self, part: Part) -> Self {
        Job { part, ..self }
    }

    fn work(spec: &MatMulSpec) -> usize {
        spec.batch.saturating_mul(spec.m).saturating_mul(spec.n).saturating_mul(spec.k)
    }

    #[inline(always)]
    unsafe fn run<I: Isa, K: Known<MatMulSpec>>(&self, isa: I) {
        // SAFETY: passed on.
        unsafe { matmul_body::run::<I, K>(isa, self) }
    }
}

#[cfg(test)]
#[path = "matmul_tests.rs"]
mod tests;
