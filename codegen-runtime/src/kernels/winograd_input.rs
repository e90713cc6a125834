//! First half of a convolution by Winograd's algorithm: from pixels to planes. See [`WinogradInputSpec`].
//!
//! Vectors run over channels; pixels outside the image are zeros.

use crate::blob::Blob;
use crate::isa::{Isa, LANES};
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::spatial::prove_apart;
use crate::kernels::winograd::{Four, MOST, Points, Two, lanes, prove_image, prove_planes};
use crate::kernels::{Form, hands, in_order, pointer, pointer_mut};
use crate::mem::{Mem, Part};
use crate::num::{quotient, remainder};
use crate::operand::{Operand, Space};
use crate::pack::padded;
use crate::spec::WinogradInputSpec;

/// A transform as an emitted layer states it.
pub trait WinogradInputLayer: 'static {
    /// Extents.
    type Shape: Shape<WinogradInputSpec>;
    /// How the output lies to the input.
    const FORM: Form;
    /// Input.
    type X: Operand<Elem = f32>;
    /// Planes.
    type Y: Operand<Elem = f32>;
}

const fn prove<L: WinogradInputLayer, const N: usize, const M: usize>() {
    let spec = &L::Shape::SPEC;
    prove_image(&spec.x);
    assert!(spec.x.end() <= L::X::LEN, "the input leaves its slot");
    assert!(spec.x.c_stride == 1, "channels are not innermost");
    assert!(!matches!(L::X::SPACE, Space::Absent), "the input is absent");
    prove_planes::<L::Y>(spec.tile, spec.plane, spec.rows(), spec.x.channels);
    if matches!(L::X::SPACE, Space::Arena) {
        prove_apart::<L::Y, L::X>(&spec.x);
    }
    L::X::SPAN.prove_inside(N, M);
    L::Y::SPAN.prove_inside(N, M);
}

#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) spec: &'a WinogradInputSpec,
    pub(crate) x: *const f32,
    pub(crate) y: *mut f32,
    pub(crate) part: Part,
}

/// Runs a part of the layer.
///
/// The build fails unless everything that the spec can touch lies in its slot, and the slots share no byte.
#[inline(always)]
pub fn run<I: Isa, L: WinogradInputLayer, const N: usize, const M: usize>(
    isa: I,
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) {
    const { prove::<L, N, M>() };
    let arena = mem.ptr();
    let job = Job {
        spec: const { &L::Shape::SPEC },
        x: pointer::<L::X>(arena, blob.bytes().as_ptr()),
        y: pointer_mut::<L::Y>(arena),
        part: in_order(part, L::FORM),
    };
    // SAFETY: proved above, with the shape's spec.
    unsafe { layer::run::<I, _, L::Shape>(isa, hands(mem, L::FORM), job) }
}

impl layer::Job for Job<'_> {
    type Spec = WinogradInputSpec;

    #[inline(always)]
    fn shaped<S: Shape<WinogradInputSpec>>(self) -> Self {
        Job { spec: const { &S::SPEC }, ..self }
    }

    fn part(self, part: Part) -> Self {
        Job { part, ..self }
    }

    fn work(spec: &WinogradInputSpec) -> usize {
        let values = (spec.tile + 2) * (spec.tile + 2);
        spec.rows().saturating_mul(values).saturating_mul(padded(spec.x.channels)).saturating_mul(4)
    }

    #[inline(always)]
    unsafe fn run<I: Isa, K: Known<WinogradInputSpec>>(&self, isa: I) {
        // SAFETY: passed on.
        unsafe {
            match self.spec.tile {
                2 => body::<I, Two>(isa, self),
                _ => body::<I, Four>(isa, self),
            }
        }
    }
}

/// # Safety
/// The job was proved, and its tile is that of `F`.
#[inline(always)]
unsafe fn body<I: Isa, F: Points>(isa: I, job: &Job) {
    let spec = job.spec;
    let [rows, columns] = spec.patches;
    let [_, height, width] = spec.x.extent;
    let (pitch, [_, by_row, by_column]) = (padded(spec.x.channels), spec.x.strides);
    let (first, last) = job.part.share(spec.rows());
    for patch in first..last {
        let (line, column) = (quotient(patch, columns), remainder(patch, columns));
        let (image, row) = (quotient(line, rows), remainder(line, rows));
        // Coordinates in front of the image wrap to numbers beyond its extents.
        let top = (spec.first + row * F::TILE).wrapping_sub(spec.pads[0]);
        let left = (column * F::TILE).wrapping_sub(spec.pads[1]);
        let corner = (spec.x.offset + image * spec.x.n_stride)
            .wrapping_add(top.wrapping_mul(by_row))
            .wrapping_add(left.wrapping_mul(by_column));
        let whole = top < height && top + F::SIDE <= height && left < width && left + F::SIDE <= width;
        let mut c = 0;
        while c < spec.x.channels {
            let n = lanes(spec.x.channels, c);
            let mut half = [[isa.zero(); MOST]; MOST];
            let at = job.x.wrapping_add(corner).wrapping_add(c);
            for a in 0..F::SIDE {
                let row = at.wrapping_add(a * by_row);
                let mut d = [isa.zero(); MOST];
                if whole && n == LANES {
                    for b in 0..F::SIDE {
                        // SAFETY: all pixels of the patch and 16 channels from c exist.
                        d[b] = unsafe { isa.load(row.wrapping_add(b * by_column)) };
                    }
                } else if whole || top.wrapping_add(a) < height {
                    for b in 0..F::SIDE {
                        if whole || left.wrapping_add(b) < width {
                            // SAFETY: a pixel of the image, of which n channels from c exist.
                            d[b] = unsafe { isa.load_n(row.wrapping_add(b * by_column), n) };
                        }
                    }
                }
                half[a] = F::input(isa, d);
            }
            let y = job.y.wrapping_add(patch * pitch + c);
            for b in 0..F::SIDE {
                let mut d = [isa.zero(); MOST];
                for a in 0..F::SIDE {
                    d[a] = half[a][b];
                }
                let done = F::input(isa, d);
                for a in 0..F::SIDE {
                    // SAFETY: a row of a plane has room for whole chunks of 16 channels.
                    unsafe { isa.store(y.wrapping_add((a * F::SIDE + b) * spec.plane), done[a]) };
                }
            }
            c += LANES;
        }
    }
}
