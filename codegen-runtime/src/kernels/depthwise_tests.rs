//! Depthwise convolutions at every level against plain loops.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::kernels::testing::{EachLevel, Random, coordinates, each_level, element, epilogue, plain};
use crate::spec::{Activation, Residual, View};

struct Case {
    spec: DepthwiseSpec,
    x: Vec<f32>,
    w: Vec<f32>,
    packed: Vec<f32>,
    bias: Vec<f32>,
    scale: Vec<f32>,
    slope: Vec<f32>,
    residual: Vec<f32>,
    want: Vec<f32>,
}

impl Case {
    fn new(spec: DepthwiseSpec, random: &mut Random) -> Case {
        let layout = weights(&spec);
        let vector = vectors(&spec);
        let w = random.values(layout.plain_len());
        let mut packed = vec![0.0; layout.packed_len()];
        layout.pack(&w, &mut packed).unwrap();
        let mut case = Case {
            x: random.values(spec.x.end()),
            w,
            packed,
            bias: random.values(vector.packed_len()),
            scale: random.values(vector.packed_len()),
            slope: random.values(vector.packed_len()),
            residual: random.values(spec.residual.end()),
            want: Vec::new(),
            spec,
        };
        case.want = case.reference();
        case
    }

    fn reference(&self) -> Vec<f32> {
        let spec = &self.spec;
        let [kd, kh, kw] = spec.kernel;
        let mut y = vec![7.5; spec.y.end()];
        for (n, at) in coordinates(&spec.y) {
            for m in 0..spec.y.channels {
                let mut acc = 0.0f64;
                for t in 0..kd * kh * kw {
                    let k = [t / kw / kh, t / kw % kh, t % kw];
                    let from: [isize; 3] = core::array::from_fn(|a| {
                        (at[a] * spec.stride[a] + k[a] * spec.dilation[a]) as isize - spec.pads[a] as isize
                    });
                    if (0..3).all(|a| from[a] >= 0 && from[a] < spec.x.extent[a] as isize) {
                        let x = self.x[element(&spec.x, n, from.map(|v| v as usize), m / spec.multiplier)];
                        acc += x as f64 * self.w[m * kd * kh * kw + t] as f64;
                    }
                }
                let addend = if spec.epilogue.residual == Residual::None {
                    0.0
                } else {
                    self.residual[element(&spec.residual, n, at, m)]
                };
                let v = plain(&spec.epilogue, acc, self.bias[m], self.scale[m], self.slope[m], addend);
                y[element(&spec.y, n, at, m)] = v as f32;
            }
        }
        y
    }

    fn job(&self, y: &mut [f32], part: Part) -> Job<'_> {
        Job {
            spec: &self.spec,
            x: self.x.as_ptr(),
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
}

impl EachLevel for Case {
    fn at<I: Isa>(&mut self, isa: I) {
        let mut whole = vec![7.5; self.want.len()];
        isa.call(layer::SharedCode(self.job(&mut whole, Part::ALL)));
        for i in 0..whole.len() {
            let (got, want) = (whole[i], self.want[i]);
            let close = (got - want).abs() <= 1e-4 + 1e-4 * want.abs();
            assert!(close, "{}: element {i} is {got}, not {want}: {:?}", I::LEVEL.name(), self.spec);
        }
        let mut parts = vec![7.5; self.want.len()];
        for index in 0..3 {
            isa.call(layer::SharedCode(self.job(&mut parts, Part { index, count: 3 })));
        }
        assert!(whole == parts, "{}: parts differ: {:?}", I::LEVEL.name(), self.spec);
    }
}

fn output(input: usize, kernel: usize, stride: usize, dilation: usize, pads: usize) -> Option<usize> {
    (input + pads).checked_sub((kernel - 1) * dilation + 1).map(|last| last / stride + 1)
}

fn random_spec(random: &mut Random) -> DepthwiseSpec {
    loop {
        let dims = random.pick(&[1, 2, 2, 2, 3]);
        let mut one = |from: &[usize]| -> [usize; 3] {
            core::array::from_fn(|axis| if axis + dims < 3 { 1 } else { random.pick(from) })
        };
        let kernel = one(&[1, 1, 2, 3, 3, 5]);
        let stride = one(&[1, 1, 2, 3]);
        let dilation = one(&[1, 1, 1, 2]);
        let extent = one(&[1, 3, 5, 7, 9, 12, 17]);
        let pads: [usize; 3] = core::array::from_fn(|a| random.below(kernel[a]));
        let pads_end: [usize; 3] = core::array::from_fn(|a| random.below(kernel[a]));
        let outputs: [Option<usize>; 3] = core::array::from_fn(|a| {
            output(extent[a], kernel[a], stride[a], dilation[a], pads[a] + pads_end[a])
        });
        let [Some(d), Some(h), Some(w)] = outputs else { continue };
        let multiplier = random.pick(&[1, 1, 1, 2, 3]);
        let channels = random.pick(&[1, 3, 5, 8, 11, 16, 17, 24, 32, 33]);
        let batch = random.pick(&[1, 1, 2]);
        return DepthwiseSpec {
            x: random.view(batch, extent, channels),
            y: random.view(batch, [d, h, w], channels * multiplier),
            residual: random.view(batch, [d, h, w], channels * multiplier),
            kernel,
            stride,
            dilation,
            pads,
            multiplier,
            epilogue: epilogue(random),
        };
    }
}

#[test]
fn random_depthwise_convolutions_agree_with_plain_loops() {
    let mut random = Random(0x8765_4321_0fed_cba9);
    for _ in 0..70 {
        let spec = random_spec(&mut random);
        each_level(&mut Case::new(spec, &mut random));
    }
}

/// Code of a shape's own, at every level, against the shared code.
struct Own<S>(core::marker::PhantomData<S>);

impl<S: Shape<DepthwiseSpec>> EachLevel for Own<S> {
    fn at<I: Isa>(&mut self, isa: I) {
        let case = Case::new(S::SPEC, &mut Random(43));
        let (mut shared, mut own) = (vec![7.5; case.want.len()], vec![7.5; case.want.len()]);
        isa.call(layer::SharedCode(case.job(&mut shared, Part::ALL)));
        for index in 0..2 {
            isa.call(layer::OwnCode::<S, _>::new(case.job(&mut own, Part { index, count: 2 })));
        }
        assert!(shared == own, "{}: {:?}", I::LEVEL.name(), case.spec);
    }
}

/// A square image, channels, multiplier, kernel, stride; pads that keep the size.
struct Fixed<
    const SIZE: usize,
    const C: usize,
    const MULTIPLIER: usize,
    const KERNEL: usize,
    const STRIDE: usize,
>;

impl<const SIZE: usize, const C: usize, const MULTIPLIER: usize, const KERNEL: usize, const STRIDE: usize>
    Shape<DepthwiseSpec> for Fixed<SIZE, C, MULTIPLIER, KERNEL, STRIDE>
{
    const SPEC: DepthwiseSpec = {
        let out = (SIZE + KERNEL / 2 * 2 - KERNEL) / STRIDE + 1;
        let y = View::channels_last(1, [1, out, out], C * MULTIPLIER);
        DepthwiseSpec {
            x: View::channels_last(1, [1, SIZE, SIZE], C),
            y,
            residual: y,
            kernel: [1, KERNEL, KERNEL],
            stride: [1, STRIDE, STRIDE],
            dilation: [1; 3],
            pads: [0, KERNEL / 2, KERNEL / 2],
            multiplier: MULTIPLIER,
            epilogue: crate::spec::Epilogue { bias: true, ..crate::spec::Epilogue::NONE },
        }
    };
}

/// Another shape with SiLU or GELU, which own code applies in registers.
struct Curved<S, const GELU: bool>(core::marker::PhantomData<S>);

impl<S: Shape<DepthwiseSpec>, const GELU: bool> Shape<DepthwiseSpec> for Curved<S, GELU> {
    const SPEC: DepthwiseSpec = {
        let mut spec = S::SPEC;
        spec.epilogue.activation = if GELU { Activation::Gelu } else { Activation::Swish { alpha: 1.5 } };
        spec
    };
}

#[test]
fn own_code_computes_the_same() {
    fn check<S: Shape<DepthwiseSpec>>() {
        each_level(&mut Own::<S>(core::marker::PhantomData));
    }
    check::<Fixed<8, 16, 1, 3, 1>>();
    check::<Fixed<9, 24, 1, 3, 2>>();
    check::<Fixed<5, 33, 1, 5, 1>>();
    check::<Fixed<2, 5, 1, 3, 1>>();
    check::<Fixed<6, 8, 3, 3, 1>>();
    check::<Fixed<4, 40, 1, 1, 1>>();
    check::<Curved<Fixed<9, 24, 1, 3, 2>, false>>();
    check::<Curved<Fixed<9, 24, 1, 3, 2>, true>>();
    check::<Curved<Fixed<5, 33, 1, 5, 1>, false>>();
    check::<Curved<Fixed<5, 33, 1, 5, 1>, true>>();
}

#[test]
fn overlap_within_the_lead_gives_the_same_result() {
    let mut random = Random(3);
    for (size, channels, stride, padding) in [(9, 8, 1, 1), (9, 40, 1, 1), (12, 33, 2, 0)] {
        let outputs = (size + 2 * padding - 3) / stride + 1;
        let y = View::channels_last(1, [1, outputs, outputs], channels);
        let spec = DepthwiseSpec {
            x: View::channels_last(1, [1, size, size], channels),
            y,
            residual: y,
            kernel: [1, 3, 3],
            stride: [1, stride, stride],
            dilation: [1; 3],
            pads: [0, padding, padding],
            multiplier: 1,
            epilogue: crate::spec::Epilogue::NONE,
        };
        let case = Case::new(spec, &mut random);
        // The input's last rows may lie beyond the output's end.
        let lead = safe_lead(&spec).unwrap() / 4;
        assert!(lead > 0);
        struct Over<'a>(&'a Case, usize);
        impl EachLevel for Over<'_> {
            fn at<I: Isa>(&mut self, isa: I) {
                let Over(case, x_at) = *self;
                let mut memory = vec![0.0f32; (x_at + case.x.len()).max(case.want.len())];
                memory[x_at..][..case.x.len()].copy_from_slice(&case.x);
                let y = memory.as_mut_ptr();
                isa.call(layer::SharedCode(Job {
                    x: y.wrapping_add(x_at),
                    y,
                    ..case.job(&mut [], Part::ALL)
                }));
                for i in 0..case.want.len() {
                    let (got, want) = (memory[i], case.want[i]);
                    let close = (got - want).abs() <= 1e-4 + 1e-4 * want.abs();
                    assert!(close, "{}: element {i} is {got}, not {want}", I::LEVEL.name());
                }
            }
        }
        each_level(&mut Over(&case, lead as usize));
    }
}
