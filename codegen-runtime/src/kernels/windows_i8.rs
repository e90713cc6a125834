//! Sums of bytes over windows, and their maxima, of each channel, requantized: what means and pools are made of.

use crate::blob::Blob;
use crate::epilogue_i8::{Bytes, Numbers};
use crate::isa::{Isa, LANES};
use crate::kernels::conv_i8::{Job as ConvJob, prove, residual, window};
use crate::kernels::depthwise_i8::vectors;
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::pixels::{Geometry, Pixels};
use crate::kernels::{Form, hands, in_order, pointer, pointer_mut};
use crate::mem::{Mem, Part};
use crate::operand::Operand;
use crate::spec::ConvI8Spec;

/// Sums or maxima over windows as an emitted layer states them.
pub trait WindowsI8Layer: 'static {
    /// Extents and options; as many groups as channels. The numbers are those of one group.
    type Shape: Shape<ConvI8Spec>;
    /// How the output lies to the inputs.
    const FORM: Form;
    /// Input.
    type X: Operand<Elem = u8>;
    /// Biases, factors and bounds, in the layout of [`pack::Requant`](crate::pack::Requant).
    type Numbers: Operand<Elem = i32>;
    /// Addend of the output's shape.
    type Residual: Operand<Elem = u8>;
    /// Output, of either sign.
    type Y: Operand;
}

/// A layer with every address resolved. Made by [`job`] only, of layers that were proved.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a>(pub(crate) ConvJob<'a>);

#[inline(always)]
fn job<L: WindowsI8Layer, const N: usize, const M: usize>(
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) -> Job<'static> {
    const {
        let spec = &L::Shape::SPEC;
        let channels = spec.y.channels;
        assert!(spec.groups == channels && spec.x.channels == channels, "not one group for each channel");
        // Numbers stand in the place of weights, of which there are none.
        let len = vectors(spec).packed_len();
        prove::<L::X, L::Numbers, L::Numbers, L::Residual, L::Y>(spec, L::FORM, 0, len, [N, M]);
    };
    let (arena, numbers) = (mem.ptr(), blob.bytes().as_ptr());
    Job(ConvJob {
        spec: const { &L::Shape::SPEC },
        x: pointer::<L::X>(arena, numbers),
        x_len: L::X::LEN,
        w: core::ptr::null(),
        numbers: pointer::<L::Numbers>(arena, numbers),
        residual: pointer::<L::Residual>(arena, numbers),
        y: pointer_mut::<L::Y>(arena).cast(),
        part: in_order(part, L::FORM),
    })
}

/// Runs a part of the layer.
///
/// The build fails unless everything that the spec can touch lies in its operand, and the operands lie to
/// each other as the form says.
#[inline(always)]
pub fn run<I: Isa, L: WindowsI8Layer, const N: usize, const M: usize>(
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
        let y = &self.0.spec.y;
        let single = y.batch * y.extent[0] * y.extent[1] * y.extent[2] == 1;
        // SAFETY: passed on.
        unsafe {
            match (self.0.spec.largest, single) {
                (true, _) => self.tiles::<I, 2, true>(isa),
                (false, true) => self.tiles::<I, 1, false>(isa),
                (false, false) => self.tiles::<I, 2, false>(isa),
            }
        }
    }
}

impl Job<'_> {
    /// Goes through the part's tiles of `P` pixels, and for each through all panels of channels.
    ///
    /// # Safety
    /// The job was proved.
    #[inline(always)]
    unsafe fn tiles<I: Isa, const P: usize, const LARGEST: bool>(&self, isa: I) {
        let spec = self.0.spec;
        let geometry = Geometry::new(&window(spec), &spec.x, &spec.y, &spec.residual, residual(spec));
        let (first, last) = self.0.part.share(geometry.pixels().div_ceil(P));
        let mut at = Pixels::<P>::EMPTY;
        for tile in first..last {
            geometry.place(tile * P, P, &mut at);
            for panel in 0..spec.y.channels.div_ceil(LANES) {
                // SAFETY: the tile was placed, and the panel is one of the output's.
                unsafe { self.panel::<I, P, LARGEST>(isa, &at, panel * LANES) }
            }
        }
    }

    /// # Safety
    /// The job was proved, the tile placed by its geometry, and `channel` the first of a panel.
    #[inline(always)]
    unsafe fn panel<I: Isa, const P: usize, const LARGEST: bool>(
        &self,
        isa: I,
        at: &Pixels<P>,
        channel: usize,
    ) {
        let spec = self.0.spec;
        let numbers = Numbers::new(self.0.numbers, vectors(spec), spec.steps);
        let channels = (spec.y.channels - channel).min(LANES);
        let x = self.0.x.wrapping_add(channel);
        // SAFETY: the numbers were proved readable, and their vectors are padded.
        let (fill, bias) = unsafe { (numbers.fill() & 0xff, numbers.biases(isa, channel)) };
        let fill = isa.splat_i32(fill as i32);
        let mut sums = [[if LARGEST { isa.splat_i32(0) } else { bias }]; P];
        let mut largest = [isa.splat(0.0); P];
        for kd in 0..spec.kernel[0] {
            for ky in 0..spec.kernel[1] {
                for kx in 0..spec.kernel[2] {
                    let k = [kd, ky, kx];
                    let offset: usize = (0..3).map(|a| k[a] * spec.dilation[a] * spec.x.strides[a]).sum();
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
                        if LARGEST {
                            largest[p] = isa.max(isa.to_f32(value), largest[p]);
                        } else {
                            sums[p][0] = isa.add_i32(sums[p][0], value);
                        }
                    }
                }
            }
        }
        if LARGEST {
            for p in 0..P {
                sums[p][0] = isa.add_i32(isa.to_i32(largest[p]), bias);
            }
        }
        let bytes = Bytes {
            channels,
            y: self.0.y.wrapping_add(channel),
            residual: self.0.residual.wrapping_add(channel),
        };
        // SAFETY: pixels below `count` and these channels lie inside the views; the vectors are padded.
        unsafe { numbers.store(isa, &sums, channel, &bytes, at.count, &at.y, &at.residual) }
    }
}
