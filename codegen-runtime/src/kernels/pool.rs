//! Pooling in `f32`: ONNX MaxPool, AveragePool, GlobalMaxPool and GlobalAveragePool in one to three
//! dimensions. Vectors run over channels; taps outside the image are never read.

use crate::blob::Blob;
use crate::epilogue::{activate, load_strided, store_strided};
use crate::isa::{Isa, LANES, Task};
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::spatial::{Window, prove_form, prove_views, safe_lead as spatial_lead};
use crate::kernels::{Form, hands, in_order, pointer, pointer_mut};
use crate::mem::{Mem, Part};
use crate::num::{quotient, remainder};
use crate::operand::Operand;
use crate::spec::{Activation, PoolKind, PoolSpec};

/// A pooling as an emitted layer states it.
pub trait PoolLayer: 'static {
    /// Extents and options.
    type Shape: Shape<PoolSpec>;
    /// How the output lies to the input.
    const FORM: Form;
    /// Input.
    type X: Operand<Elem = f32>;
    /// Output.
    type Y: Operand<Elem = f32>;
}

const fn window(spec: &PoolSpec) -> Window {
    Window { kernel: spec.kernel, stride: spec.stride, dilation: spec.dilation, pads: spec.pads }
}

/// For [`Form::Overlap`]: the least distance in bytes from the start of `Y`'s slot to the start of
/// `X`'s (signed), so that no input is overwritten before it was read, at any level. `None` if
/// the output may not overlap the input at all.
pub const fn safe_lead(spec: &PoolSpec) -> Option<isize> {
    // A window is read once for every 16 channels, each time before these are written.
    let tile = (spec.y.channels > LANES) as usize;
    spatial_lead(&window(spec), &spec.x, &spec.y, tile, size_of::<f32>())
}

const fn prove<L: PoolLayer, const N: usize, const M: usize>() {
    let spec = &L::Shape::SPEC;
    prove_views::<L::X, L::Y>(&window(spec), &spec.x, &spec.y);
    assert!(spec.x.channels == spec.y.channels, "input and output differ in channels");
    assert!(!matches!(spec.activation, Activation::PRelu), "pooling has no slopes");
    let lead = if matches!(L::FORM, Form::Overlap) { safe_lead(spec) } else { None };
    prove_form::<L::X, L::Y>(L::FORM, &spec.x, &spec.y, lead);
    L::X::SPAN.prove_inside(N, M);
    L::Y::SPAN.prove_inside(N, M);
}

#[derive(Clone, Copy)]
struct Job<'a> {
    spec: &'a PoolSpec,
    x: *const f32,
    y: *mut f32,
    part: Part,
}

#[inline(always)]
fn job<L: PoolLayer, const N: usize, const M: usize>(
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
/// The build fails unless everything that the spec can touch lies in its slot, and the slots lie to
/// each other as the form says.
#[inline(always)]
pub fn run<I: Isa, L: PoolLayer, const N: usize, const M: usize>(
    isa: I,
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) {
    // SAFETY: the job was proved with the shape's spec where it was made.
    unsafe { layer::run::<I, _, L::Shape>(isa, hands(mem, L::FORM), job::<L, N, M>(mem, blob, part)) }
}

impl layer::Job for Job<'_> {
    type Spec = PoolSpec;

    #[inline(always)]
    fn shaped<S: Shape<PoolSpec>>(self) -> Self {
        Job { spec: const { &S::SPEC }, ..self }
    }

    fn part(self, part: Part) -> Self {
        Job { part, ..self }
    }

    fn work(spec: &PoolSpec) -> usize {
        crate::kernels::spatial::work(&spec.y, spec.kernel)
    }

    #[inline(always)]
    unsafe fn run<I: Isa, K: Known<PoolSpec>>(&self, isa: I) {
        // SAFETY: passed on.
        unsafe { body(isa, self) }
    }
}

/// The taps of one output pixel that lie inside the image.
#[derive(Clone, Copy)]
struct Taps {
    /// First tap's first channel.
    start: *const f32,
    /// Number of taps along depth, height, width.
    count: [usize; 3],
    /// Elements from tap to tap along each.
    step: [usize; 3],
    /// Taps that an average divides by.
    divisor: f32,
}

/// # Safety
/// The job was proved.
#[inline(always)]
unsafe fn body<I: Isa>(isa: I, job: &Job) {
    let spec = job.spec;
    let [depth, height, width] = spec.y.extent;
    let step: [usize; 3] = core::array::from_fn(|axis| spec.dilation[axis] * spec.x.strides[axis]);
    // Pixels are the parts' units, or channel blocks where there are few pixels (global pooling).
    let pixels = spec.y.batch * depth * height * width;
    let blocks = spec.y.channels.div_ceil(LANES);
    let by_pixel = pixels >= job.part.count || pixels > blocks;
    let ((first, last), (block_0, block_1)) =
        if by_pixel { (job.part.share(pixels), (0, blocks)) } else { ((0, pixels), job.part.share(blocks)) };
    for pixel in first..last {
        let row = quotient(pixel, width);
        let plane = quotient(row, height);
        let at = [remainder(plane, depth), remainder(row, height), remainder(pixel, width)];
        let n = quotient(plane, depth);
        let mut taps = Taps { start: job.x, count: [0; 3], step, divisor: 1.0 };
        let mut offset = spec.x.offset + n * spec.x.n_stride;
        let mut divisor = 1;
        for axis in 0..3 {
            let (from, to) = window(spec).taps(axis, at[axis], spec.x.extent[axis]);
            taps.count[axis] = to - from;
            let start = at[axis] * spec.stride[axis] + from * spec.dilation[axis];
            // Where no tap is inside, nothing is read.
            offset =
                offset.wrapping_add(start.wrapping_sub(spec.pads[axis]).wrapping_mul(spec.x.strides[axis]));
            divisor *= match spec.kind {
                PoolKind::AverageIncludePad => {
                    let padded = spec.x.extent[axis] + spec.pads_end[axis];
                    let (_, end) = window(spec).taps(axis, at[axis], padded);
                    end
                }
                PoolKind::Max | PoolKind::AverageExcludePad => to - from,
            };
        }
        taps.start = job.x.wrapping_add(offset);
        taps.divisor = if divisor == 0 { 1.0 } else { divisor as f32 };
        let y = spec.y.offset
            + n * spec.y.n_stride
            + at[0] * spec.y.strides[0]
            + at[1] * spec.y.strides[1]
            + at[2] * spec.y.strides[2];
        let y = job.y.wrapping_add(y);
        let dense = spec.x.c_stride == 1 && spec.y.c_stride == 1;
        let mut block = block_0;
        while block < block_1 {
            let full = if block_1 == blocks { spec.y.channels / LANES } else { block_1 };
            // SAFETY: the taps lie inside the image and the pixel inside the output; the channels of
            // these blocks exist.
            unsafe {
                if dense && block + WIDE <= full {
                    several::<I, WIDE>(isa, spec, &taps, y, block * LANES);
                    block += WIDE;
                } else if dense && block < full {
                    several::<I, 1>(isa, spec, &taps, y, block * LANES);
                    block += 1;
                } else {
                    strided(isa, spec, &taps, y, block * LANES);
                    block += 1;
                }
            }
        }
    }
}

/// Blocks of channels done together, so that their additions overlap in time.
const WIDE: usize = 4;

/// Combines the taps of one vector after another: `(sum or maximum, lanes without NaN)`.
#[inline(always)]
fn combine<I: Isa>(isa: I, max: bool, (acc, numbers): (I::P, I::M), v: I::P) -> (I::P, I::M) {
    if max { (isa.max(acc, v), isa.and(numbers, isa.eq(v, v))) } else { (isa.add(acc, v), numbers) }
}

/// The start of [`combine`].
#[inline(always)]
fn start<I: Isa>(isa: I, max: bool) -> (I::P, I::M) {
    let zero = isa.zero();
    (if max { isa.splat(f32::NEG_INFINITY) } else { zero }, isa.eq(zero, zero))
}

/// The result of [`combine`].
#[inline(always)]
fn finish<I: Isa>(isa: I, spec: &PoolSpec, taps: &Taps, (acc, numbers): (I::P, I::M)) -> I::P {
    let v = match spec.kind {
        PoolKind::Max => isa.select(numbers, acc, isa.splat(f32::NAN)),
        PoolKind::AverageExcludePad | PoolKind::AverageIncludePad => isa.div(acc, isa.splat(taps.divisor)),
    };
    if matches!(spec.activation, Activation::None) {
        return v;
    }
    isa.from_array(isa.call(Activate { activation: spec.activation, v: isa.to_array(v) }))
}

/// An activation as a function of its own: few pools have one, and all curves in each of the loops above would
/// be most of what a crate takes to build.
struct Activate {
    activation: Activation,
    v: [f32; LANES],
}

impl Task for Activate {
    type Output = [f32; LANES];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> [f32; LANES] {
        isa.to_array(activate(isa, self.activation, isa.from_array(self.v), isa.zero()))
    }
}

/// `B` whole blocks of neighbouring channels.
///
/// # Safety
/// The taps and the output pixel have channels from `channel` to `channel + B·16`.
#[inline(always)]
unsafe fn several<I: Isa, const B: usize>(isa: I, spec: &PoolSpec, taps: &Taps, y: *mut f32, channel: usize) {
    let max = matches!(spec.kind, PoolKind::Max);
    let mut sums = [start(isa, max); B];
    for d in 0..taps.count[0] {
        for h in 0..taps.count[1] {
            let mut at = taps.start.wrapping_add(channel + d * taps.step[0] + h * taps.step[1]);
            for _ in 0..taps.count[2] {
                for b in 0..B {
                    // SAFETY: a tap inside the image, and channels that exist.
                    let v = unsafe { isa.load(at.add(b * LANES)) };
                    sums[b] = combine(isa, max, sums[b], v);
                }
                at = at.wrapping_add(taps.step[2]);
            }
        }
    }
    for b in 0..B {
        // SAFETY: channels of the output pixel.
        unsafe { isa.store(y.add(channel + b * LANES), finish(isa, spec, taps, sums[b])) };
    }
}

/// Up to 16 channels, any distance apart.
///
/// # Safety
/// The taps and the output pixel have the channel.
#[inline(always)]
unsafe fn strided<I: Isa>(isa: I, spec: &PoolSpec, taps: &Taps, y: *mut f32, channel: usize) {
    let max = matches!(spec.kind, PoolKind::Max);
    let left = spec.y.channels - channel;
    let n = if left < LANES { left } else { LANES };
    let mut sum = start(isa, max);
    for d in 0..taps.count[0] {
        for h in 0..taps.count[1] {
            let row = channel * spec.x.c_stride + d * taps.step[0] + h * taps.step[1];
            let mut at = taps.start.wrapping_add(row);
            for _ in 0..taps.count[2] {
                // SAFETY: a tap inside the image, and n channels that exist.
                let v = unsafe { load_strided(isa, at, spec.x.c_stride, n) };
                sum = combine(isa, max, sum, v);
                at = at.wrapping_add(taps.step[2]);
            }
        }
    }
    let to = y.wrapping_add(channel * spec.y.c_stride);
    // SAFETY: n channels of the output pixel.
    unsafe { store_strided(isa, to, spec.y.c_stride, finish(isa, spec, taps, sum), n) };
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
