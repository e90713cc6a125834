//! Softmax and LogSoftmax in `f32`, with the maximum subtracted.
//!
//! Contiguous rows are taken 16 values at a time; with elements behind the axis, 16 of these neighbours
//! are done together. A row with NaN becomes NaN.

use crate::blob::Blob;
use crate::epilogue::{load_strided, store_strided};
use crate::isa::{Isa, LANES};
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::rows::{self, prove_rows};
use crate::kernels::{Form, hands, in_order, pointer, pointer_mut};
use crate::math::formula::{self, Lanes};
use crate::math::single;
use crate::mem::{Mem, Part};
use crate::num::{quotient, remainder};
use crate::operand::Operand;
use crate::spec::SoftmaxSpec;

/// A softmax as an emitted layer states it.
pub trait SoftmaxLayer: 'static {
    /// Extents and options.
    type Shape: Shape<SoftmaxSpec>;
    /// How the output lies to the input.
    const FORM: Form;
    /// Input, `[outer, len, inner]`.
    type X: Operand<Elem = f32>;
    /// Output, likewise.
    type Y: Operand<Elem = f32>;
}

/// For [`Form::Overlap`]: the least distance in bytes from the start of `Y`'s slot to the start of
/// `X`'s. Exactly over the input is always allowed.
pub const fn safe_lead(spec: &SoftmaxSpec) -> isize {
    // Rows advance from the front; columns do so from slice to slice only.
    if spec.inner == 1 { 0 } else { (spec.len * spec.inner * size_of::<f32>()) as isize }
}

const fn prove<L: SoftmaxLayer, const N: usize, const M: usize>() {
    let spec = &L::Shape::SPEC;
    prove_rows::<L::X, L::Y>(L::FORM, spec.outer, spec.len.saturating_mul(spec.inner), safe_lead(spec));
    L::X::SPAN.prove_inside(N, M);
    L::Y::SPAN.prove_inside(N, M);
}

#[derive(Clone, Copy)]
struct Job<'a> {
    spec: &'a SoftmaxSpec,
    x: *const f32,
    y: *mut f32,
    part: Part,
}

#[inline(always)]
fn job<L: SoftmaxLayer, const N: usize, const M: usize>(
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) -> Job<'static> {
    const { prove::<L, N, M>() };
    let arena = mem.ptr();
    Job {
        spec: const { &L::Shape::SPEC },
        x: pointer::<L::X>(arena, blob.bytes().as_ptr()),
        y: pointer_mut::<L::Y>(arena),
        part: in_order(part, L::FORM),
    }
}

/// Runs a part of the layer.
///
/// The build fails unless the extents fit the slots, and these lie to each other as the form says.
#[inline(always)]
pub fn run<I: Isa, L: SoftmaxLayer, const N: usize, const M: usize>(
    isa: I,
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) {
    // SAFETY: the job was proved with the shape's spec where it was made.
    unsafe { layer::run::<I, _, L::Shape>(isa, hands(mem, L::FORM), job::<L, N, M>(mem, blob, part)) }
}

impl layer::Job for Job<'_> {
    type Spec = SoftmaxSpec;

    #[inline(always)]
    fn shaped<S: Shape<SoftmaxSpec>>(self) -> Self {
        Job { spec: const { &S::SPEC }, ..self }
    }

    fn part(self, part: Part) -> Self {
        Job { part, ..self }
    }

    fn work(spec: &SoftmaxSpec) -> usize {
        spec.outer.saturating_mul(spec.len).saturating_mul(spec.inner).saturating_mul(16)
    }

    #[inline(always)]
    unsafe fn run<I: Isa, K: Known<SoftmaxSpec>>(&self, isa: I) {
        // SAFETY: passed on.
        unsafe { body(isa, self) }
    }
}

/// # Safety
/// The job was proved.
#[inline(always)]
unsafe fn body<I: Isa>(isa: I, job: &Job) {
    let SoftmaxSpec { outer, len, inner, log } = *job.spec;
    if len == 0 || inner == 0 {
        return;
    }
    if inner == 1 {
        let (first, last) = job.part.share(outer);
        for row in first..last {
            let at = row * len;
            // SAFETY: the row lies within both slots, of which the output's does not run ahead.
            unsafe { one_row(isa, job.x.wrapping_add(at), job.y.wrapping_add(at), len, log) };
        }
        return;
    }
    let blocks = inner.div_ceil(LANES);
    let (first, last) = job.part.share(outer * blocks);
    for at in first..last {
        let column = remainder(at, blocks) * LANES;
        let start = quotient(at, blocks) * len * inner + column;
        let n = if inner - column < LANES { inner - column } else { LANES };
        // SAFETY: n columns from here lie within both slots.
        unsafe { columns(isa, job.x.wrapping_add(start), job.y.wrapping_add(start), len, inner, n, log) };
    }
}

// Closures are `#[inline(always)]` like all below `Isa::call`, or they would lack its instructions.

#[inline(always)]
fn exp<I: Isa>(isa: I, v: I::P) -> I::P {
    formula::exp(Lanes::new(isa, v)).v
}

/// # Safety
/// `len` values from `x` are readable and from `y` writable; `y` is not ahead of `x` within it.
#[inline(always)]
unsafe fn one_row<I: Isa>(isa: I, x: *const f32, y: *mut f32, len: usize, log: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        // NaN may hide from the maximum, but not from the sum.
        let largest = rows::reduce(
            isa,
            x,
            len,
            f32::NEG_INFINITY,
            #[inline(always)]
            |v| v,
            #[inline(always)]
            |a, b| isa.max(a, b),
        );
        let largest = isa.splat(isa.max_lane(largest));
        if log {
            let sum = rows::reduce(
                isa,
                x,
                len,
                0.0,
                #[inline(always)]
                |v| exp(isa, isa.sub(v, largest)),
                #[inline(always)]
                |a, b| isa.add(a, b),
            );
            let total = isa.splat(single::ln(isa.sum(sum)));
            rows::map(
                isa,
                x,
                y,
                len,
                0.0,
                #[inline(always)]
                |v, _| isa.sub(isa.sub(v, largest), total),
            );
            return;
        }
        let mut sum = isa.zero();
        rows::map(
            isa,
            x,
            y,
            len,
            f32::NEG_INFINITY,
            #[inline(always)]
            |v, _| {
                let e = exp(isa, isa.sub(v, largest));
                sum = isa.add(sum, e);
                e
            },
        );
        let factor = isa.splat(1.0 / isa.sum(sum));
        rows::map(
            isa,
            y,
            y,
            len,
            0.0,
            #[inline(always)]
            |e, _| isa.mul(e, factor),
        );
    }
}

/// # Safety
/// For each `i < len`, `n ≤ 16` values from `x + i·step` are readable and from `y + i·step` writable; `y`
/// is `x`, or writes nothing that is still to be read.
#[inline(always)]
unsafe fn columns<I: Isa>(isa: I, x: *const f32, y: *mut f32, len: usize, step: usize, n: usize, log: bool) {
    // SAFETY: i < len, so n values from i·step on are valid.
    unsafe {
        let mut largest = isa.splat(f32::NEG_INFINITY);
        for i in 0..len {
            largest = isa.max(largest, load_strided(isa, x.add(i * step), 1, n));
        }
        let mut sum = isa.zero();
        for i in 0..len {
            let e = exp(isa, isa.sub(load_strided(isa, x.add(i * step), 1, n), largest));
            sum = isa.add(sum, e);
            if !log {
                store_strided(isa, y.add(i * step), 1, e, n);
            }
        }
        let total = formula::ln(Lanes::new(isa, sum)).v;
        let factor = isa.div(isa.splat(1.0), sum);
        for i in 0..len {
            let v = if log {
                let v = load_strided(isa, x.add(i * step), 1, n);
                isa.sub(isa.sub(v, largest), total)
            } else {
                isa.mul(load_strided(isa, y.add(i * step).cast_const(), 1, n), factor)
            };
            store_strided(isa, y.add(i * step), 1, v, n);
        }
    }
}

#[cfg(test)]
#[path = "softmax_tests.rs"]
mod tests;
