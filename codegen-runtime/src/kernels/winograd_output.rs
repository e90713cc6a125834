//! Second half of a convolution by Winograd's algorithm: from planes to pixels. See [`WinogradOutputSpec`].
//!
//! Vectors run over channels. Of patches that reach over the output's edge, the pixels inside are stored.

use crate::blob::Blob;
use crate::epilogue::{Rows, Vectors, prove_vectors};
use crate::isa::{Isa, LANES};
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::spatial::{prove_apart, prove_residual};
use crate::kernels::winograd::{Four, MOST, Points, Two, lanes, prove_image, prove_planes};
use crate::kernels::{Form, hands, in_order, pointer, pointer_mut};
use crate::mem::{Mem, Part};
use crate::num::{quotient, remainder};
use crate::operand::{Operand, Space};
use crate::pack::padded;
use crate::spec::WinogradOutputSpec;

/// A transform as an emitted layer states it.
pub trait WinogradOutputLayer: 'static {
    /// Extents and options.
    type Shape: Shape<WinogradOutputSpec>;
    /// How the output lies to the inputs.
    const FORM: Form;
    /// Planes.
    type X: Operand<Elem = f32>;
    /// Biases, in the layout of [`crate::pack::Vector`].
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

const fn prove<L: WinogradOutputLayer, const N: usize, const M: usize>() {
    let spec = &L::Shape::SPEC;
    prove_image(&spec.y);
    assert!(spec.y.end() <= L::Y::LEN, "the output leaves its slot");
    assert!(matches!(L::Y::SPACE, Space::Arena), "the output is not in the arena");
    prove_planes::<L::X>(spec.tile, spec.plane, spec.rows(), spec.y.channels);
    prove_vectors::<L::Bias, L::Scale, L::Slope>(&spec.epilogue, padded(spec.y.channels));
    prove_residual::<L::Residual, L::Y>(L::FORM, spec.epilogue.residual, &spec.residual, &spec.y);
    prove_apart::<L::X, L::Y>(&spec.y);
    prove_apart::<L::Bias, L::Y>(&spec.y);
    prove_apart::<L::Scale, L::Y>(&spec.y);
    prove_apart::<L::Slope, L::Y>(&spec.y);
    L::X::SPAN.prove_inside(N, M);
    L::Bias::SPAN.prove_inside(N, M);
    L::Scale::SPAN.prove_inside(N, M);
    L::Slope::SPAN.prove_inside(N, M);
    L::Residual::SPAN.prove_inside(N, M);
    L::Y::SPAN.prove_inside(N, M);
}

#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) spec: &'a WinogradOutputSpec,
    pub(crate) x: *const f32,
    pub(crate) vectors: Vectors,
    pub(crate) residual: *const f32,
    pub(crate) y: *mut f32,
    pub(crate) part: Part,
}

/// Runs a part of the layer.
///
/// The build fails unless everything that the spec can touch lies in its operand, and the output keeps away
/// from what is read, but for a residual in its very place.
#[inline(always)]
pub fn run<I: Isa, L: WinogradOutputLayer, const N: usize, const M: usize>(
    isa: I,
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) {
    const { prove::<L, N, M>() };
    let (arena, weights) = (mem.ptr(), blob.bytes().as_ptr());
    let job = Job {
        spec: const { &L::Shape::SPEC },
        x: pointer::<L::X>(arena, weights),
        vectors: Vectors {
            bias: pointer::<L::Bias>(arena, weights),
            scale: pointer::<L::Scale>(arena, weights),
            slope: pointer::<L::Slope>(arena, weights),
        },
        residual: pointer::<L::Residual>(arena, weights),
        y: pointer_mut::<L::Y>(arena),
        part: in_order(part, L::FORM),
    };
    // SAFETY: proved above, with the shape's spec.
    unsafe { layer::run::<I, _, L::Shape>(isa, hands(mem, L::FORM), job) }
}

impl layer::Job for Job<'_> {
    type Spec = WinogradOutputSpec;

    #[inline(always)]
    fn shaped<S: Shape<WinogradOutputSpec>>(self) -> Self {
        Job { spec: const { &S::SPEC }, ..self }
    }

    fn part(self, part: Part) -> Self {
        Job { part, ..self }
    }

    fn work(spec: &WinogradOutputSpec) -> usize {
        let values = (spec.tile + 2) * (spec.tile + 2);
        spec.rows().saturating_mul(values).saturating_mul(padded(spec.y.channels)).saturating_mul(4)
    }

    #[inline(always)]
    unsafe fn run<I: Isa, K: Known<WinogradOutputSpec>>(&self, isa: I) {
        // SAFETY: passed on.
        unsafe {
            match self.spec.tile {
                2 => body::<I, Two, 4>(isa, self),
                _ => body::<I, Four, 16>(isa, self),
            }
        }
    }
}

/// # Safety
/// The job was proved; its tile is that of `F`, which has `P` pixels.
#[inline(always)]
unsafe fn body<I: Isa, F: Points, const P: usize>(isa: I, job: &Job) {
    const { assert!(P == F::TILE * F::TILE) };
    let spec = job.spec;
    let [rows, columns] = spec.patches();
    let [_, height, width] = spec.y.extent;
    let (y, residual, pitch) = (&spec.y, &spec.residual, padded(spec.y.channels));
    let (first, last) = job.part.share(spec.rows());
    for patch in first..last {
        let (line, column) = (quotient(patch, columns), remainder(patch, columns));
        let (image, row) = (quotient(line, rows), remainder(line, rows));
        let (top, left) = (row * F::TILE, column * F::TILE);
        let mut y_rows = [0; P];
        let mut r_rows = [0; P];
        let mut inside = [false; P];
        for p in 0..P {
            let (h, w) = (top + p / F::TILE, left + p % F::TILE);
            inside[p] = h < height && w < width;
            y_rows[p] = y.offset + image * y.n_stride + h * y.strides[1] + w * y.strides[2];
            r_rows[p] = residual.offset
                + image * residual.n_stride
                + h * residual.strides[1]
                + w * residual.strides[2];
        }
        let whole = top + F::TILE <= height && left + F::TILE <= width;
        let mut c = 0;
        while c < y.channels {
            let channels = lanes(y.channels, c);
            let x = job.x.wrapping_add(patch * pitch + c);
            let mut half = [[isa.zero(); MOST]; MOST];
            for b in 0..F::SIDE {
                let mut m = [isa.zero(); MOST];
                for a in 0..F::SIDE {
                    let at = x.wrapping_add((a * F::SIDE + b) * spec.plane);
                    // SAFETY: a row of a plane has room for whole chunks of 16 channels.
                    m[a] = unsafe { isa.load(at) };
                }
                let done = F::output(isa, m);
                for a in 0..F::TILE {
                    half[a][b] = done[a];
                }
            }
            let mut acc = [[isa.zero(); 1]; P];
            for a in 0..F::TILE {
                let done = F::output(isa, half[a]);
                for b in 0..F::TILE {
                    acc[a * F::TILE + b][0] = done[b];
                }
            }
            let out = Rows {
                epilogue: &spec.epilogue,
                vectors: job.vectors.starting_at(c),
                channels,
                y: job.y.wrapping_add(c * y.c_stride),
                y_step: y.c_stride,
                residual: job.residual.wrapping_add(c * residual.c_stride),
                r_step: residual.c_stride,
            };
            // SAFETY: pixels inside the output, of which these channels exist; vectors are padded to 16.
            unsafe {
                if whole {
                    out.store::<I, P, 1, LANES>(isa, &acc, P, &y_rows, &r_rows);
                } else {
                    for p in 0..P {
                        if inside[p] {
                            out.store::<I, 1, 1, LANES>(isa, &[acc[p]], 1, &[y_rows[p]], &[r_rows[p]]);
                        }
                    }
                }
            }
            c += LANES;
        }
    }
}
