//! Packs a run-time matrix into the panels that [`matmul`](crate::kernels::matmul) reads, in the layout of
//! [`pack::Gemm`], one batch behind the other.

use crate::blob::Blob;
use crate::isa::{Isa, LANES};
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::spatial::prove_apart;
use crate::kernels::{Form, pointer, pointer_mut};
use crate::mem::{Mem, Part};
use crate::num::{quotient, remainder};
use crate::operand::{Operand, Space};
use crate::pack;
use crate::spec::{PackSpec, View};

/// A packing as an emitted layer states it.
pub trait PackLayer: 'static {
    /// Extents and strides.
    type Shape: Shape<PackSpec>;
    /// How the output lies to the input: never over it.
    const FORM: Form;
    /// Plain matrices.
    type X: Operand<Elem = f32>;
    /// Panels of every batch, [`packed_len`] elements.
    type Y: Operand<Elem = f32>;
}

/// Elements of the output.
pub const fn packed_len(spec: &PackSpec) -> usize {
    spec.batch.saturating_mul(layout(spec).packed_len())
}

const fn layout(spec: &PackSpec) -> pack::Gemm {
    pack::Gemm { k: spec.k, n: spec.n }
}

const fn prove<L: PackLayer, const N: usize, const M: usize>() {
    let spec = &L::Shape::SPEC;
    let x = View {
        offset: spec.offset,
        batch: spec.batch,
        extent: [1, 1, spec.k],
        channels: spec.n,
        n_stride: spec.batch_stride,
        strides: [0, 0, spec.k_stride],
        c_stride: spec.n_stride,
    };
    assert!(x.end() <= L::X::LEN, "the input leaves its slot");
    assert!(packed_len(spec) <= L::Y::LEN, "the output leaves its slot");
    assert!(!matches!(L::X::SPACE, Space::Absent), "the input is absent");
    assert!(matches!(L::Y::SPACE, Space::Arena), "the output is not in the arena");
    assert!(!matches!(L::FORM, Form::Overlap), "a packing may not overlap its input");
    if packed_len(spec) > 0 {
        prove_apart::<L::X, L::Y>(&View::channels_last(1, [1, 1, 1], packed_len(spec)));
    }
    L::X::SPAN.prove_inside(N, M);
    L::Y::SPAN.prove_inside(N, M);
}

/// Packs a part of the panels.
///
/// The build fails unless the extents fit the slots, and these share no byte.
#[inline(always)]
pub fn run<I: Isa, L: PackLayer, const N: usize, const M: usize>(
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
        part,
    };
    // SAFETY: the layer was proved with the shape's spec.
    unsafe { layer::run::<I, _, L::Shape>(isa, mem.hands(), job) }
}

/// A packing with every address resolved. Made by [`run`] only, of layers that [`prove`] passed.
#[derive(Clone, Copy)]
struct Job<'a> {
    spec: &'a PackSpec,
    x: *const f32,
    y: *mut f32,
    part: Part,
}

impl layer::Job for Job<'_> {
    type Spec = PackSpec;

    #[inline(always)]
    fn shaped<S: Shape<PackSpec>>(self) -> Self {
        Job { spec: const { &S::SPEC }, ..self }
    }

    fn part(self, part: Part) -> Self {
        Job { part, ..self }
    }

    fn work(spec: &PackSpec) -> usize {
        spec.batch.saturating_mul(spec.k).saturating_mul(spec.n)
    }

    #[inline(always)]
    unsafe fn run<I: Isa, K: Known<PackSpec>>(&self, isa: I) {
        let PackSpec { batch, k, n, offset, batch_stride, k_stride, n_stride } = *self.spec;
        let panels = n.div_ceil(LANES);
        let (first, last) = self.part.share(batch * panels);
        for at in first..last {
            let column = remainder(at, panels) * LANES;
            let width = if n - column < LANES { n - column } else { LANES };
            let from = offset + quotient(at, panels) * batch_stride + column * n_stride;
            let x = self.x.wrapping_add(from);
            let y = self.y.wrapping_add(at * k * LANES);
            // SAFETY: the layer was proved: `width` columns of k values from x exist, and this panel's
            // k rows of 16 at y, which lie apart from them.
            unsafe {
                if n_stride == 1 {
                    rows(isa, x, y, k, k_stride, width);
                } else {
                    columns(isa, x, y, k, k_stride, n_stride, width);
                }
            }
        }
    }
}

/// Copies `k` rows of `width` neighbours.
///
/// # Safety
/// The rows are readable, `k·16` values from `y` writable.
#[inline(always)]
unsafe fn rows<I: Isa>(isa: I, x: *const f32, y: *mut f32, k: usize, k_stride: usize, width: usize) {
    for i in 0..k {
        // SAFETY: i < k.
        unsafe {
            let row = x.add(i * k_stride);
            let v = if width == LANES { isa.load(row) } else { isa.load_n(row, width) };
            isa.store(y.add(i * LANES), v);
        }
    }
}

/// Transposes columns in blocks of 16 rows, which stay in registers or the first-level cache.
///
/// # Safety
/// As for [`rows`], with columns `n_stride` apart.
#[inline(always)]
unsafe fn columns<I: Isa>(
    isa: I,
    x: *const f32,
    y: *mut f32,
    k: usize,
    k_stride: usize,
    n_stride: usize,
    width: usize,
) {
    let mut start = 0;
    while start < k {
        let height = if k - start < LANES { k - start } else { LANES };
        let mut block = [[0.0; LANES]; LANES];
        for column in 0..width {
            // SAFETY: column < width and start + i < k.
            let from = unsafe { x.add(column * n_stride + start * k_stride) };
            for (i, row) in block.iter_mut().enumerate().take(height) {
                // A panel is no wider than 16: the remainder only keeps a panic out.
                // SAFETY: as above.
                row[column % LANES] = unsafe { from.add(i * k_stride).read() };
            }
        }
        for (i, row) in block.iter().enumerate().take(height) {
            // SAFETY: start + i < k.
            unsafe { isa.store(y.add((start + i) * LANES), isa.from_array(*row)) };
        }
        start += LANES;
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::kernels::testing::{EachLevel, Random, each_level};
    use crate::mem::Arena;
    use crate::operand::Slot;

    struct Check {
        spec: PackSpec,
        x: Vec<f32>,
        want: Vec<f32>,
    }

    impl EachLevel for Check {
        fn at<I: Isa>(&mut self, isa: I) {
            for count in [1, 3] {
                let mut y = vec![7.5; self.want.len()];
                let out = y.as_mut_ptr();
                for index in 0..count {
                    let part = Part { index, count };
                    isa.call(layer::SharedCode(Job { spec: &self.spec, x: self.x.as_ptr(), y: out, part }));
                }
                assert_eq!(y, self.want, "{} for {:?}", I::LEVEL.name(), self.spec);
            }
        }
    }

    #[test]
    fn packing_agrees_with_the_layout() {
        let mut random = Random(21);
        for _ in 0..100 {
            let (batch, k, n) = (1 + random.below(3), random.below(40), 1 + random.below(40));
            let gap = random.below(3);
            // Plain, transposed, or with gaps between columns.
            let (k_stride, n_stride) = random.pick(&[(n + gap, 1), (1, k + gap), (2 * n, 2)]);
            let batch_stride = random.pick(&[0, k * n * 2 + 5]);
            let spec = PackSpec { batch, k, n, offset: 2, batch_stride, k_stride, n_stride };
            let end = 2 + (batch - 1) * batch_stride + k * k_stride + n * n_stride;
            let x = random.values(end);
            let layout = pack::Gemm { k, n };
            let mut want = vec![0.0; packed_len(&spec)];
            for b in 0..batch {
                let plain: Vec<f32> = (0..k * n)
                    .map(|at| x[2 + b * batch_stride + at / n * k_stride + at % n * n_stride])
                    .collect();
                let len = layout.packed_len();
                layout.pack(&plain, &mut want[b * len..][..len]).unwrap();
            }
            each_level(&mut Check { spec, x, want });
        }
    }

    struct Turned;

    impl Shape<PackSpec> for Turned {
        const SPEC: PackSpec =
            PackSpec { batch: 1, k: 2, n: 3, offset: 0, batch_stride: 0, k_stride: 1, n_stride: 2 };
    }

    impl PackLayer for Turned {
        type Shape = Self;
        const FORM: Form = Form::Disjoint;
        type X = Slot<f32, 128, 6>;
        type Y = Slot<f32, 0, 32>;
    }

    #[test]
    fn a_layer_packs_its_slots() {
        let blob = Blob::new([]);
        let mut arena = Arena::<192>::new();
        let mut mem = Mem::new(&mut arena);
        let (_, (x,)) = mem.borrow::<(), (Slot<f32, 128, 6>,)>(&blob);
        *x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        run::<_, Turned, 192, 0>(crate::isa::Scalar::TOKEN, &mut mem, &blob, Part::ALL);
        let ((y,), _) = mem.borrow::<(Slot<f32, 0, 32>,), (Slot<f32, 128, 1>,)>(&blob);
        assert_eq!(
            (y[..4].to_vec(), y[16..20].to_vec()),
            (vec![1.0, 3.0, 5.0, 0.0], vec![2.0, 4.0, 6.0, 0.0])
        );
    }
}
