//! Layer and root-mean-square normalisation of contiguous rows in `f32`: ONNX LayerNormalization and
//! RMSNormalization. The variance is taken around the mean, in a second pass. The same bits at every level.

use crate::blob::Blob;
use crate::epilogue::load_strided;
use crate::isa::{Isa, LANES};
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::rows::{self, prove_row_operand, prove_rows};
use crate::kernels::{Form, hands, in_order, pointer, pointer_mut};
use crate::math::single;
use crate::mem::{Mem, Part};
use crate::operand::{Operand, Space};
use crate::spec::{NormKind, NormSpec};

/// A normalisation as an emitted layer states it.
pub trait NormLayer: 'static {
    /// Extents and options.
    type Shape: Shape<NormSpec>;
    /// How the output lies to the input.
    const FORM: Form;
    /// Input, `[rows, len]`.
    type X: Operand<Elem = f32>;
    /// Factors of one row.
    type Scale: Operand<Elem = f32>;
    /// Addends of one row.
    type Bias: Operand<Elem = f32>;
    /// Output, `[rows, len]`.
    type Y: Operand<Elem = f32>;
}

/// For [`Form::Overlap`]: the least distance in bytes from the start of `Y`'s slot to the start of `X`'s.
pub const fn safe_lead(_spec: &NormSpec) -> isize {
    0
}

const fn prove<L: NormLayer, const N: usize, const M: usize>() {
    let spec = &L::Shape::SPEC;
    prove_rows::<L::X, L::Y>(L::FORM, spec.rows, spec.len, safe_lead(spec));
    assert!(!spec.scale || !matches!(L::Scale::SPACE, Space::Absent), "the scale is absent");
    assert!(!spec.bias || !matches!(L::Bias::SPACE, Space::Absent), "the bias is absent");
    prove_row_operand::<L::Scale, L::Y>(spec.scale, spec.len, spec.rows);
    prove_row_operand::<L::Bias, L::Y>(spec.bias, spec.len, spec.rows);
    L::X::SPAN.prove_inside(N, M);
    L::Scale::SPAN.prove_inside(N, M);
    L::Bias::SPAN.prove_inside(N, M);
    L::Y::SPAN.prove_inside(N, M);
}

#[derive(Clone, Copy)]
struct Job<'a> {
    spec: &'a NormSpec,
    x: *const f32,
    scale: *const f32,
    bias: *const f32,
    y: *mut f32,
    part: Part,
}

#[inline(always)]
fn job<L: NormLayer, const N: usize, const M: usize>(
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) -> Job<'static> {
    const { prove::<L, N, M>() };
    let (arena, weights) = (mem.ptr(), blob.bytes().as_ptr());
    Job {
        spec: const { &L::Shape::SPEC },
        x: pointer::<L::X>(arena, weights),
        scale: pointer::<L::Scale>(arena, weights),
        bias: pointer::<L::Bias>(arena, weights),
        y: pointer_mut::<L::Y>(arena),
        part: in_order(part, L::FORM),
    }
}

/// Runs a part of the layer.
///
/// The build fails unless the extents fit the operands, and these lie to each other as the form says.
#[inline(always)]
pub fn run<I: Isa, L: NormLayer, const N: usize, const M: usize>(
    isa: I,
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) {
    // SAFETY: the job was proved with the shape's spec where it was made.
    unsafe { layer::run::<I, _, L::Shape>(isa, hands(mem, L::FORM), job::<L, N, M>(mem, blob, part)) }
}

impl layer::Job for Job<'_> {
    type Spec = NormSpec;

    #[inline(always)]
    fn shaped<S: Shape<NormSpec>>(self) -> Self {
        Job { spec: const { &S::SPEC }, ..self }
    }

    fn part(self, part: Part) -> Self {
        Job { part, ..self }
    }

    fn work(spec: &NormSpec) -> usize {
        spec.rows.saturating_mul(spec.len).saturating_mul(4)
    }

    #[inline(always)]
    unsafe fn run<I: Isa, K: Known<NormSpec>>(&self, isa: I) {
        // SAFETY: passed on.
        unsafe { body(isa, self) }
    }
}

/// # Safety
/// The job was proved.
#[inline(always)]
unsafe fn body<I: Isa>(isa: I, job: &Job) {
    let NormSpec { kind, rows, len, epsilon, scale, bias } = *job.spec;
    if len == 0 {
        return;
    }
    let count = len as f32;
    let (first, last) = job.part.share(rows);
    for row in first..last {
        let (x, y) = (job.x.wrapping_add(row * len), job.y.wrapping_add(row * len));
        // Closures are `#[inline(always)]` like all below `Isa::call`, or they would lack its instructions.
        // SAFETY: the row lies within both slots, of which the output's does not run ahead; scale and
        // bias have `len` values where they exist, and no lane beyond is read.
        unsafe {
            let mean = match kind {
                NormKind::Layer => {
                    sum(
                        isa,
                        x,
                        len,
                        #[inline(always)]
                        |v| v,
                    ) / count
                }
                NormKind::Rms => 0.0,
            };
            let mean = isa.splat(mean);
            let squares = sum(
                isa,
                x,
                len,
                #[inline(always)]
                |v| {
                    let v = isa.sub(v, mean);
                    isa.mul(v, v)
                },
            );
            let factor = isa.splat(1.0 / single::sqrt(squares / count + epsilon));
            rows::map(
                isa,
                x,
                y,
                len,
                0.0,
                #[inline(always)]
                |v, i| {
                    let n = if len - i < LANES { len - i } else { LANES };
                    let mut v = isa.mul(isa.sub(v, mean), factor);
                    if scale {
                        v = isa.mul(v, load_strided(isa, job.scale.add(i), 1, n));
                    }
                    if bias {
                        v = isa.add(v, load_strided(isa, job.bias.add(i), 1, n));
                    }
                    v
                },
            );
        }
    }
}

/// The sum of `map` of a row's values.
///
/// # Safety
/// `len` values from `x` are readable.
#[inline(always)]
unsafe fn sum<I: Isa>(isa: I, x: *const f32, len: usize, map: impl Fn(I::P) -> I::P) -> f32 {
    // SAFETY: the caller's promise.
    let lanes = unsafe {
        rows::reduce(
            isa,
            x,
            len,
            0.0,
            map,
            #[inline(always)]
            |a, b| isa.add(a, b),
        )
    };
    isa.sum(lanes)
}

#[cfg(test)]
#[path = "norm_tests.rs"]
mod tests;
