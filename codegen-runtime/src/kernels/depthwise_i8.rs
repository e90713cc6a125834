//! Depthwise convolution of bytes, one output channel per input channel, with exact sums, requantized.

use crate::blob::Blob;
use crate::epilogue_i8::Bytes;
use crate::isa::{Isa, LANES, by_level};
use crate::kernels::conv_i8::{Job as ConvJob, prove, residual, window};
#[cfg(target_arch = "x86_64")]
use crate::kernels::depthwise_i8_columns;
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::pixels::{Geometry, Pixels};
use crate::kernels::{Form, hands, in_order, pointer, pointer_mut};
use crate::mem::{Mem, Part};
use crate::operand::Operand;
use crate::pack;
use crate::spec::ConvI8Spec;

/// A depthwise convolution of bytes as an emitted layer states it.
pub trait DepthwiseI8Layer: 'static {
    /// Extents and options; as many groups as channels. The numbers are those of one group.
    type Shape: Shape<ConvI8Spec>;
    /// How the output lies to the inputs.
    const FORM: Form;
    /// Input.
    type X: Operand<Elem = u8>;
    /// Weights, in the layout of [`pack::DepthwiseI8`].
    type W: Operand<Elem = i8>;
    /// Biases, factors and bounds, in the layout of [`pack::Requant`].
    type Numbers: Operand<Elem = i32>;
    /// Addend of the output's shape.
    type Residual: Operand<Elem = u8>;
    /// Output, of either sign.
    type Y: Operand;
}

/// The layout of a depthwise convolution's weights.
#[inline(always)]
pub const fn weights(spec: &ConvI8Spec) -> pack::DepthwiseI8 {
    pack::DepthwiseI8 { kernel: spec.kernel, channels: spec.y.channels }
}

/// The layout of its numbers.
#[inline(always)]
pub const fn vectors(spec: &ConvI8Spec) -> pack::Requant {
    pack::Requant { channels: spec.y.channels, groups: 1 }
}

/// A depthwise convolution with every address resolved. Made by [`job`] only, of layers that were proved.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a>(pub(crate) ConvJob<'a>);

#[inline(always)]
fn job<L: DepthwiseI8Layer, const N: usize, const M: usize>(
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) -> Job<'static> {
    const {
        let spec = &L::Shape::SPEC;
        let channels = spec.y.channels;
        assert!(spec.groups == channels && spec.x.channels == channels, "not one group for each channel");
        let lens = [weights(spec).packed_len(), vectors(spec).packed_len()];
        prove::<L::X, L::W, L::Numbers, L::Residual, L::Y>(spec, L::FORM, lens[0], lens[1], [N, M]);
    };
    let (arena, weights) = (mem.ptr(), blob.bytes().as_ptr());
    Job(ConvJob {
        spec: const { &L::Shape::SPEC },
        x: pointer::<L::X>(arena, weights),
        x_len: L::X::LEN,
        w: pointer::<L::W>(arena, weights),
        numbers: pointer::<L::Numbers>(arena, weights),
        residual: pointer::<L::Residual>(arena, weights),
        y: pointer_mut::<L::Y>(arena).cast(),
        part: in_order(part, L::FORM),
    })
}

/// Runs a part of the layer.
///
/// The build fails unless everything that the spec can touch lies in its operand, and the operands lie to
/// each other as the form says.
#[inline(always)]
pub fn run<I: Isa, L: DepthwiseI8Layer, const N: usize, const M: usize>(
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
        Job(ConvJob { spec: const { &S::SPEC }, ..self.0 })
    }

    fn part(self, part: Part) -> Self {
        Job(ConvJob { part, ..self.0 })
    }

    fn work(spec: &ConvI8Spec) -> usize {
        crate::kernels::spatial::work(&spec.y, spec.kernel)
    }

    #[inline(always)]
    unsafe fn run<I: Isa, K: Known<ConvI8Spec>>(&self, isa: I) {
        #[cfg(target_arch = "x86_64")]
        if let Some(isa) = isa.v4()
            && depthwise_i8_columns::fits(self.0.spec)
        {
            // SAFETY: passed on.
            return unsafe { depthwise_i8_columns::run(isa, &self.0) };
        }
        // SAFETY: passed on.
        unsafe {
            by_level! { I;
                Level::V4 => self.tiles::<I, 8>(isa),
                Level::V3 | Level::V3Vnni => self.tiles::<I, 4>(isa),
                Level::Scalar | Level::Neon | Level::NeonDot | Level::WasmSimd | Level::Armv7eM => {
                    self.tiles::<I, 2>(isa)
                },
            }
        }
    }
}

impl Job<'_> {
    /// Goes through the part's tiles of `P` pixels, and for each through all panels.
    ///
    /// # Safety
    /// The job was proved.
    #[inline(always)]
    unsafe fn tiles<I: Isa, const P: usize>(&self, isa: I) {
        let spec = self.0.spec;
        let geometry = Geometry::new(&window(spec), &spec.x, &spec.y, &spec.residual, residual(spec));
        let (first, last) = self.0.part.share(geometry.pixels().div_ceil(P));
        let mut at = Pixels::<P>::EMPTY;
        for tile in first..last {
            geometry.place(tile * P, P, &mut at);
            for panel in 0..spec.y.channels.div_ceil(LANES) {
                // SAFETY: the tile was placed, and the panel is one of the output's.
                unsafe { self.panel(isa, &at, panel * LANES) }
            }
        }
    }

    /// # Safety
    /// The job was proved, the tile placed by its geometry, and `channel` the first of a panel.
    #[inline(always)]
    unsafe fn panel<I: Isa, const P: usize>(&self, isa: I, at: &Pixels<P>, channel: usize) {
        let spec = self.0.spec;
        let numbers = crate::epilogue_i8::Numbers::new(self.0.numbers, vectors(spec), spec.steps);
        let channels = (spec.y.channels - channel).min(LANES);
        let layout = weights(spec);
        let mut w = self.0.w.wrapping_add(channel * layout.taps());
        let x = self.0.x.wrapping_add(channel);
        // SAFETY: the numbers were proved readable, and their vectors are padded.
        let (fill, bias) = unsafe { (numbers.fill() & 0xff, numbers.biases(isa, channel)) };
        let fill = isa.splat_i32(fill as i32);
        let mut acc = [[bias]; P];
        for kd in 0..spec.kernel[0] {
            for ky in 0..spec.kernel[1] {
                for kx in 0..spec.kernel[2] {
                    let k = [kd, ky, kx];
                    let offset: usize = (0..3).map(|a| k[a] * spec.dilation[a] * spec.x.strides[a]).sum();
                    // SAFETY: the weights have a row of 16 for each tap of a panel.
                    let row = unsafe { isa.load_i8(w) };
                    w = w.wrapping_add(LANES);
                    for p in 0..P {
                        let inside = at.whole
                            || (0..3).all(|a| {
                                // Coordinates left of the image wrap to numbers beyond its extent.
                                at.corner[p][a].wrapping_add(k[a] * spec.dilation[a]) < spec.x.extent[a]
                            });
                        let from = x.wrapping_offset(at.x[p]).wrapping_add(offset);
                        // SAFETY: the pixel's tap lies inside the image, which has these channels.
                        let value = unsafe {
                            match (inside, channels == LANES) {
                                (true, true) => isa.load_u8(from),
                                (true, false) => isa.load_u8_n(from, channels),
                                (false, _) => fill,
                            }
                        };
                        acc[p][0] = isa.mul_add_i16(value, row, acc[p][0]);
                    }
                }
            }
        }
        let bytes = Bytes {
            channels,
            y: self.0.y.wrapping_add(channel),
            residual: self.0.residual.wrapping_add(channel),
        };
        // SAFETY: pixels below `count` and these channels lie inside the views; the vectors are padded.
        unsafe { numbers.store(isa, &acc, channel, &bytes, at.count, &at.y, &at.residual) }
    }
}
