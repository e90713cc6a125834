//! Matrix products at every level against plain loops.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::kernels::testing::{EachLevel, Random, each_level, epilogue, plain};
use crate::mem::Arena;
use crate::operand::{Absent, Const, Slot};
use crate::spec::{Activation, Epilogue, Residual};

struct Case {
    spec: MatMulSpec,
    a: Vec<f32>,
    packed: Vec<f32>,
    bias: Vec<f32>,
    scale: Vec<f32>,
    slope: Vec<f32>,
    residual: Vec<f32>,
    want: Vec<f32>,
}

impl Case {
    fn new(spec: MatMulSpec, random: &mut Random) -> Case {
        let layout = weights(&spec);
        let mut packed = vec![f32::NAN; (spec.batch - 1) * spec.w_batch + layout.packed_len()];
        let mut plain_w = Vec::new();
        for b in 0..spec.batch {
            if b == 0 || spec.w_batch > 0 {
                plain_w.push(random.values(layout.plain_len()));
                let to = &mut packed[b * spec.w_batch..][..layout.packed_len()];
                layout.pack(&plain_w[b], to).unwrap();
            }
        }
        let residual = rows(&spec, spec.r_offset, spec.n, spec.r_stride, spec.r_batch);
        let padded = vectors(&spec).packed_len();
        let mut case = Case {
            a: random.values(left(&spec).end()),
            packed,
            bias: random.values(padded),
            scale: random.values(padded),
            slope: random.values(padded),
            residual: random.values(residual.end()),
            want: vec![7.5; output(&spec).end()],
            spec,
        };
        let MatMulSpec { m, n, k, .. } = spec;
        for (b, i, j) in (0..spec.batch * m * n).map(|at| (at / n / m, at / n % m, at % n)) {
            let w = &plain_w[if spec.w_batch > 0 { b } else { 0 }];
            let a = spec.a_offset + b * spec.a_batch + i * spec.a_stride;
            let acc = (0..k).map(|t| case.a[a + t] as f64 * w[t * n + j] as f64).sum();
            let at = spec.r_offset + b * spec.r_batch + i * spec.r_stride + j;
            let addend = if spec.epilogue.residual == Residual::None { 0.0 } else { case.residual[at] };
            let v = plain(&spec.epilogue, acc, case.bias[j], case.scale[j], case.slope[j], addend);
            case.want[spec.y_offset + b * spec.y_batch + i * spec.y_stride + j] = v as f32;
        }
        case
    }

    fn job<'a>(&'a self, y: &mut [f32], part: Part) -> Job<'a> {
        Job {
            spec: &self.spec,
            a: self.a.as_ptr(),
            w: self.packed.as_ptr(),
            vectors: Vectors {
                bias: self.bias.as_ptr(),
                scale: self.scale.as_ptr(),
                slope: self.slope.as_ptr(),
            },
            residual: self.residual.as_ptr(),
            y: y.as_mut_ptr(),
            part,
        }
    }

    fn run<I: Isa>(&self, isa: I, parts: usize) -> Vec<f32> {
        let mut y = vec![7.5; self.want.len()];
        for index in 0..parts {
            isa.call(layer::SharedCode(self.job(&mut y, Part { index, count: parts })));
        }
        y
    }
}

impl EachLevel for &Case {
    fn at<I: Isa>(&mut self, isa: I) {
        let got = self.run(isa, 1);
        for (i, (got, want)) in got.iter().zip(&self.want).enumerate() {
            let close = (got - want).abs() <= 2e-4 * want.abs().max(1.0);
            assert!(close, "element {i} is {got}, not {want}, at {} for {:?}", I::LEVEL.name(), self.spec);
        }
        for parts in [2, 5] {
            assert!(self.run(isa, parts) == got, "{parts} parts differ for {:?}", self.spec);
        }
    }
}

/// Strides and offsets with gaps around a product of these extents.
fn spec(random: &mut Random, batch: usize, m: usize, n: usize, k: usize) -> MatMulSpec {
    let a_stride = k + random.pick(&[0, 0, 3]);
    let y_stride = n + random.pick(&[0, 0, 5]);
    let r_stride = random.pick(&[n, n + 2, 0]);
    let layout = pack::Gemm { k, n };
    MatMulSpec {
        batch,
        m,
        n,
        k,
        a_offset: random.below(3),
        a_stride,
        a_batch: random.pick(&[m * a_stride, 0, m * a_stride + 1]),
        w_batch: random.pick(&[layout.packed_len(), 0, layout.packed_len() + 16]),
        y_offset: random.below(3),
        y_stride,
        y_batch: m * y_stride + random.below(2),
        r_offset: random.below(3),
        r_stride,
        r_batch: random.pick(&[m * r_stride, 0]),
        epilogue: epilogue(random),
    }
}

#[test]
fn products_agree_with_plain_loops() {
    let mut random = Random(0x9e37_79b9);
    for round in 0..400 {
        let m = if round % 3 == 0 { 1 } else { 1 + random.below(40) };
        let (n, k) = (1 + random.below(70), random.below(40));
        let n = if m == 1 { n * 3 } else { n };
        let batch = 1 + random.below(3);
        let spec = spec(&mut random, batch, m, n, k);
        each_level(&mut &Case::new(spec, &mut random));
    }
}

/// A product of rows with the same column over and over, without an epilogue.
struct EqualColumns<'a>(&'a Case);

impl EachLevel for EqualColumns<'_> {
    fn at<I: Isa>(&mut self, isa: I) {
        let n = self.0.spec.n;
        for row in self.0.run(isa, 1).chunks(n) {
            // To the bit: a Softmax over large sums would show a difference in the last place.
            assert!(row.iter().all(|v| v.to_bits() == row[0].to_bits()), "{n} at {}", I::LEVEL.name());
        }
    }
}

#[test]
fn equal_columns_give_equal_sums() {
    let mut random = Random(11);
    let (m, k) = (2, 45);
    for (m, n) in (1..20).map(|panels| (1, panels * 16 - 5)).chain([(m, 70)]) {
        let spec = MatMulSpec { m, n, k, a_stride: k, y_stride: n, epilogue: Epilogue::NONE, ..DENSE };
        let mut case = Case::new(spec, &mut random);
        let column = random.values(k);
        let w: Vec<f32> = column.iter().flat_map(|&v| std::iter::repeat_n(v, n)).collect();
        weights(&case.spec).pack(&w, &mut case.packed).unwrap();
        each_level(&mut EqualColumns(&case));
    }
}

/// Code of a shape's own, at every level, against the shared code.
struct Own<S>(core::marker::PhantomData<S>);

impl<S: Shape<MatMulSpec>> EachLevel for Own<S> {
    fn at<I: Isa>(&mut self, isa: I) {
        let case = Case::new(S::SPEC, &mut Random(47));
        let (shared, mut own) = (case.run(isa, 1), vec![7.5; case.want.len()]);
        for index in 0..2 {
            isa.call(layer::OwnCode::<S, _>::new(case.job(&mut own, Part { index, count: 2 })));
        }
        assert!(shared == own, "{}: {:?}", I::LEVEL.name(), case.spec);
    }
}

/// Two dense products of these extents.
struct Fixed<const M: usize, const N: usize, const K: usize>;

impl<const M: usize, const N: usize, const K: usize> Shape<MatMulSpec> for Fixed<M, N, K> {
    const SPEC: MatMulSpec = MatMulSpec {
        batch: 2,
        m: M,
        n: N,
        k: K,
        a_stride: K,
        a_batch: M * K,
        w_batch: 0,
        y_stride: N,
        y_batch: M * N,
        r_stride: N,
        r_batch: M * N,
        ..DENSE
    };
}

/// Another shape with SiLU or GELU, which own code applies in registers.
struct Curved<S, const GELU: bool>(core::marker::PhantomData<S>);

impl<S: Shape<MatMulSpec>, const GELU: bool> Shape<MatMulSpec> for Curved<S, GELU> {
    const SPEC: MatMulSpec = {
        let mut spec = S::SPEC;
        spec.epilogue.activation = if GELU { Activation::Gelu } else { Activation::Swish { alpha: 1.5 } };
        spec
    };
}

#[test]
fn own_code_computes_the_same() {
    fn check<S: Shape<MatMulSpec>>() {
        each_level(&mut Own::<S>(core::marker::PhantomData));
    }
    // Rows that fill tiles, leave a short or a long rest, are one; panels of both parities.
    check::<Fixed<28, 32, 5>>();
    check::<Fixed<15, 40, 7>>();
    check::<Fixed<26, 3, 1>>();
    check::<Fixed<3, 17, 9>>();
    check::<Fixed<1, 150, 20>>();
    check::<Fixed<1, 10, 33>>();
    check::<Curved<Fixed<15, 40, 7>, false>>();
    check::<Curved<Fixed<15, 40, 7>, true>>();
    check::<Curved<Fixed<26, 32, 3>, false>>();
    check::<Curved<Fixed<26, 32, 3>, true>>();
    check::<Curved<Fixed<1, 150, 20>, false>>();
    check::<Curved<Fixed<1, 150, 20>, true>>();
}

#[test]
fn large_products_agree_with_plain_loops() {
    // Both orders of tiles and blocks.
    let mut random = Random(7);
    for (m, n, k) in [(30, 100, 100), (17, 40, 20), (2000, 40, 160)] {
        let mut spec = spec(&mut random, 1, m, n, k);
        spec.epilogue = Epilogue { activation: Activation::Relu, ..Epilogue::NONE };
        each_level(&mut &Case::new(spec, &mut random));
    }
}

const DENSE: MatMulSpec = MatMulSpec {
    batch: 1,
    m: 3,
    n: 2,
    k: 2,
    a_offset: 0,
    a_stride: 2,
    a_batch: 0,
    w_batch: 0,
    y_offset: 0,
    y_stride: 2,
    y_batch: 0,
    r_offset: 0,
    r_stride: 2,
    r_batch: 0,
    epilogue: Epilogue { bias: true, residual: Residual::Before, ..Epilogue::NONE },
};

/// `[1, 2] → [10, 200]` and its like, with bias, over its own input and added to itself.
struct InPlace<const OWN: bool>;

impl<const OWN: bool> Shape<MatMulSpec> for InPlace<OWN> {
    const SPEC: MatMulSpec = DENSE;
    const OWN: layer::Own = if OWN { layer::Own::Everywhere } else { layer::Own::Nowhere };
}

impl<const OWN: bool> MatMulLayer for InPlace<OWN> {
    type Shape = Self;
    const FORM: Form = Form::Overlap;
    type A = Slot<f32, 64, 6>;
    type W = Const<f32, 64, 32>;
    type Bias = Const<f32, 0, 16>;
    type Scale = Absent<f32>;
    type Slope = Absent<f32>;
    type Residual = Slot<f32, 64, 6>;
    type Y = Slot<f32, 64, 6>;
}

#[test]
fn a_layer_runs_in_place() {
    let mut bytes = [0; 192];
    // Biases 1 and 2; the matrix [[10, 0], [0, 100]].
    for (at, value) in [(0, 1.0f32), (4, 2.0), (64, 10.0), (64 + 64 + 4, 100.0)] {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let blob = Blob::new(bytes);
    struct Run<'a>(&'a Blob<192>);
    impl EachLevel for Run<'_> {
        fn at<I: Isa>(&mut self, isa: I) {
            for own in [false, true] {
                let mut arena = Arena::<128>::new();
                let mut mem = Mem::new(&mut arena);
                let ((), (y,)) = mem.borrow::<(), (Slot<f32, 64, 6>,)>(self.0);
                *y = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
                for part in [Part { index: 0, count: 2 }, Part { index: 1, count: 2 }] {
                    if own {
                        run::<I, InPlace<true>, 128, 192>(isa, &mut mem, self.0, part);
                    } else {
                        run::<I, InPlace<false>, 128, 192>(isa, &mut mem, self.0, part);
                    }
                }
                let ((y,), _) = mem.borrow::<(Slot<f32, 64, 6>,), (Slot<f32, 0, 1>,)>(self.0);
                assert_eq!(*y, [12.0, 204.0, 34.0, 406.0, 56.0, 608.0]);
            }
        }
    }
    each_level(&mut Run(&blob));
}

#[test]
fn overlap_needs_one_panel_and_rows_in_step() {
    assert_eq!(safe_lead(&DENSE), Some(0));
    // Three columns from two: the last but one row ends a row's growth ahead of the last one's input.
    assert_eq!(safe_lead(&MatMulSpec { n: 3, y_stride: 3, ..DENSE }), Some(8));
    assert_eq!(safe_lead(&MatMulSpec { n: 17, y_stride: 17, ..DENSE }), None);
}

/// `cargo test --release -p edgec-runtime matmul_speed -- --ignored --nocapture`
#[test]
#[ignore = "prints speeds"]
fn matmul_speed() {
    struct Run(Case);
    impl EachLevel for Run {
        fn at<I: Isa>(&mut self, isa: I) {
            let mut y = vec![0.0; self.0.want.len()];
            let mut best = f64::INFINITY;
            for _ in 0..400 {
                let start = std::time::Instant::now();
                for _ in 0..4 {
                    isa.call(layer::SharedCode(self.0.job(&mut y, Part::ALL)));
                }
                best = best.min(start.elapsed().as_secs_f64() / 4.0);
            }
            let MatMulSpec { batch, m, n, k, .. } = self.0.spec;
            let flops = (2 * batch * m * n * k) as f64;
            std::println!(
                "{:>7} {batch}x{m}x{k}x{n}: {:8.2} us {:6.1} GFLOP/s",
                I::LEVEL.name(),
                best * 1e6,
                flops / best * 1e-9
            );
        }
    }
    let mut random = Random(3);
    for (batch, m, k, n) in [
        (1, 128, 384, 384),
        (1, 128, 384, 1536),
        (1, 128, 1536, 384),
        (12, 128, 32, 128),
        (1, 64, 64, 64),
        (1, 8, 128, 256),
        (1, 1, 640, 128),
        (1, 1, 128, 128),
        (1, 1, 64, 10),
        (1, 1, 1024, 1000),
    ] {
        let mut spec = spec(&mut random, batch, m, n, k);
        (spec.a_offset, spec.a_stride, spec.a_batch, spec.w_batch) = (0, k, m * k, 0);
        (spec.y_offset, spec.y_stride, spec.y_batch) = (0, n, m * n);
        spec.epilogue = Epilogue { bias: true, activation: Activation::Relu, ..Epilogue::NONE };
        each_level(&mut Run(Case::new(spec, &mut random)));
    }
}
