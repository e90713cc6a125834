//! Convolutions of bytes, plain and depthwise, at every level against plain loops, bit for bit.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::kernels::testing::{EachLevel, Random, coordinates, each_level, element};
use crate::kernels::{depthwise_i8, windows_i8};
use crate::pack::Tail;
use crate::spec::{RequantSteps, View};

/// Unit of the low parts of an addition's factors.
const TINY: f32 = 536_870_912.0;

struct Case {
    spec: ConvI8Spec,
    depthwise: bool,
    weightless: bool,
    x: Vec<u8>,
    packed: Vec<i8>,
    numbers: Vec<i32>,
    residual: Vec<u8>,
    want: Vec<u8>,
}

/// `RNE(a · b)` within bounds.
fn rounded(a: f32, b: f32, low: f32, high: f32) -> f32 {
    (f64::from(a) * f64::from(b)).round_ties_even().clamp(f64::from(low), f64::from(high)) as f32
}

impl Case {
    fn new(spec: ConvI8Spec, random: &mut Random) -> Case {
        let depthwise = spec.groups == spec.x.channels && spec.groups == spec.y.channels && spec.groups > 1;
        let layout = weights(&spec);
        let weightless = depthwise && random.below(3) == 0;
        let w = |_| if weightless { 1 } else { random.below(256) as u8 as i8 };
        let w: Vec<i8> = (0..layout.plain_len()).map(w).collect();
        let mut packed = vec![0; layout.packed_len()];
        layout.pack(&w, &mut packed).unwrap();
        let mut words = numbers(&spec);
        if depthwise {
            packed = vec![0; depthwise_i8::weights(&spec).packed_len()];
            depthwise_i8::weights(&spec).pack(&w, &mut packed).unwrap();
            words = depthwise_i8::vectors(&spec);
        }
        let bias: Vec<i32> = (0..spec.y.channels).map(|_| random.below(20_001) as i32 - 10_000).collect();
        let scale: Vec<f32> = (0..spec.y.channels).map(|_| (random.below(999) + 1) as f32 / 5e4).collect();
        let tail = Tail {
            fill: if weightless && spec.largest { 0 } else { random.below(256) as u8 },
            first: [-100.0, 127.0],
            rescale: [0.73, -60.0, 90.0],
            add: [
                20_000.0 / 16384.0,
                9_000.0 / 16384.0,
                -9_000.0 * 7.0 / 16384.0,
                -11_111.0 / TINY,
                7_777.0 / TINY,
                -7_777.0 * 7.0 / TINY,
                -70.0,
                127.0,
            ],
            last: [1.31, -50.0, 77.0],
            zero: 50,
        };
        let mut numbers = vec![0; words.packed_len()];
        words.pack(&bias, &scale, &tail, &mut numbers).unwrap();
        let mut bytes = |n: usize| -> Vec<u8> { (0..n).map(|_| random.below(256) as u8).collect() };
        let (x, residual) = (bytes(spec.x.end()), bytes(spec.residual.end()));
        let mut case = Case { spec, depthwise, weightless, x, packed, numbers, residual, want: Vec::new() };
        case.want = case.reference(&w, &bias, &scale, &tail);
        case
    }

    fn reference(&self, w: &[i8], bias: &[i32], scale: &[f32], tail: &Tail) -> Vec<u8> {
        let spec = &self.spec;
        let (icg, ocg) = (spec.x.channels / spec.groups, spec.y.channels / spec.groups);
        let [kd, kh, kw] = spec.kernel;
        let mut y = vec![7; spec.y.end()];
        for (n, at) in coordinates(&spec.y) {
            for m in 0..spec.y.channels {
                let mut acc = bias[m];
                let mut largest = 0;
                for i in 0..icg {
                    for t in 0..kd * kh * kw {
                        let k = [t / kw / kh, t / kw % kh, t % kw];
                        let from: [isize; 3] = core::array::from_fn(|a| {
                            (at[a] * spec.stride[a] + k[a] * spec.dilation[a]) as isize
                                - spec.pads[a] as isize
                        });
                        let inside = (0..3).all(|a| from[a] >= 0 && from[a] < spec.x.extent[a] as isize);
                        let x = if inside {
                            self.x[element(&spec.x, n, from.map(|v| v as usize), m / ocg * icg + i)]
                        } else {
                            tail.fill
                        };
                        acc += i32::from(x) * i32::from(w[(m * icg + i) * kd * kh * kw + t]);
                        largest = largest.max(i32::from(x));
                    }
                }
                if self.weightless && spec.largest {
                    acc = bias[m] + largest;
                }
                let mut v = rounded(acc as f32, scale[m], tail.first[0], tail.first[1]);
                if spec.steps.rescale {
                    v = rounded(v, tail.rescale[0], tail.rescale[1], tail.rescale[2]);
                }
                if spec.steps.add {
                    let r = f32::from(self.residual[element(&spec.residual, n, at, m)]);
                    let [own, other, zero, own_low, other_low, zero_low, low, high] = tail.add;
                    let sum = (v * own + (r * other + zero)) + (v * own_low + (r * other_low + zero_low));
                    v = rounded(sum, 1.0, low, high);
                }
                if spec.steps.last {
                    v = rounded(v, tail.last[0], tail.last[1], tail.last[2]);
                }
                y[element(&spec.y, n, at, m)] = (v as i32 + tail.zero) as u8;
            }
        }
        y
    }

    fn job(&self, y: &mut [u8], part: Part) -> Job<'_> {
        Job {
            spec: &self.spec,
            x: self.x.as_ptr(),
            x_len: self.x.len(),
            w: self.packed.as_ptr(),
            numbers: self.numbers.as_ptr(),
            residual: self.residual.as_ptr(),
            y: y.as_mut_ptr(),
            part,
        }
    }

    fn run<I: Isa>(&self, isa: I, y: &mut [u8], part: Part) {
        let job = self.job(y, part);
        if self.weightless {
            isa.call(layer::SharedCode(windows_i8::Job(job)));
        } else if self.depthwise {
            isa.call(layer::SharedCode(depthwise_i8::Job(job)));
        } else {
            isa.call(layer::SharedCode(job));
        }
    }
}

impl EachLevel for Case {
    fn at<I: Isa>(&mut self, isa: I) {
        let mut whole = vec![7; self.want.len()];
        self.run(isa, &mut whole, Part::ALL);
        assert!(whole == self.want, "{}: {:?}", I::LEVEL.name(), self.spec);
        let mut parts = vec![7; self.want.len()];
        for index in 0..3 {
            self.run(isa, &mut parts, Part { index, count: 3 });
        }
        assert!(whole == parts, "{}: parts differ: {:?}", I::LEVEL.name(), self.spec);
    }
}

fn output(input: usize, kernel: usize, stride: usize, dilation: usize, pads: usize) -> Option<usize> {
    (input + pads).checked_sub((kernel - 1) * dilation + 1).map(|last| last / stride + 1)
}

fn view(random: &mut Random, batch: usize, extent: [usize; 3], channels: usize) -> View {
    loop {
        let view = random.view(batch, extent, channels);
        if view.c_stride == 1 {
            return view;
        }
    }
}

fn random_spec(random: &mut Random) -> ConvI8Spec {
    loop {
        let dims = random.pick(&[1, 2, 2, 2, 3]);
        let mut one = |from: &[usize]| -> [usize; 3] {
            core::array::from_fn(|axis| if axis + dims < 3 { 1 } else { random.pick(from) })
        };
        let kernel = one(&[1, 1, 2, 3, 3, 5]);
        let stride = one(&[1, 1, 2, 3]);
        let dilation = one(&[1, 1, 1, 2]);
        let extent = one(&[1, 3, 5, 7, 9, 12, 17]);
        let pointwise = random.below(4) == 0;
        let (kernel, stride) = if pointwise { ([1; 3], [1; 3]) } else { (kernel, stride) };
        let pads: [usize; 3] = core::array::from_fn(|a| random.below(kernel[a]));
        let pads_end: [usize; 3] = core::array::from_fn(|a| random.below(kernel[a]));
        let outputs: [Option<usize>; 3] = core::array::from_fn(|a| {
            output(extent[a], kernel[a], stride[a], dilation[a], pads[a] + pads_end[a])
        });
        let [Some(d), Some(h), Some(w)] = outputs else { continue };
        let depthwise = random.below(4) == 0;
        let groups = if depthwise { random.pick(&[2, 7, 16, 24, 35]) } else { random.pick(&[1, 1, 1, 2, 3]) };
        let icg = if depthwise { 1 } else { random.pick(&[1, 2, 3, 4, 5, 16, 17, 140]) };
        let ocg = if depthwise { 1 } else { random.pick(&[1, 3, 5, 8, 11, 16, 17, 24, 32, 33, 48, 80]) };
        let batch = random.pick(&[1, 1, 2]);
        let steps = RequantSteps {
            rescale: random.below(3) == 0,
            add: random.below(3) == 0,
            last: random.below(3) == 0,
        };
        return ConvI8Spec {
            x: view(random, batch, extent, icg * groups),
            y: view(random, batch, [d, h, w], ocg * groups),
            residual: view(random, batch, [d, h, w], ocg * groups),
            kernel,
            stride,
            dilation,
            pads,
            groups,
            steps,
            largest: depthwise && random.below(2) == 0,
        };
    }
}

#[test]
fn random_convolutions_of_bytes_are_exact() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..120 {
        let spec = random_spec(&mut random);
        each_level(&mut Case::new(spec, &mut random));
    }
}

/// A square image with edges on both sides, and an addend where the output's channels are even.
struct Fixed<
    const SIZE: usize,
    const IC: usize,
    const OC: usize,
    const GROUPS: usize,
    const KERNEL: usize,
    const STRIDE: usize,
>;

impl<
    const SIZE: usize,
    const IC: usize,
    const OC: usize,
    const GROUPS: usize,
    const KERNEL: usize,
    const STRIDE: usize,
> Shape<ConvI8Spec> for Fixed<SIZE, IC, OC, GROUPS, KERNEL, STRIDE>
{
    const SPEC: ConvI8Spec = {
        let pad = KERNEL / 2;
        let out = (SIZE + 2 * pad - KERNEL) / STRIDE + 1;
        let y = View::channels_last(2, [1, out, out], OC);
        ConvI8Spec {
            x: View::channels_last(2, [1, SIZE, SIZE], IC),
            y,
            residual: y,
            kernel: [1, KERNEL, KERNEL],
            stride: [1, STRIDE, STRIDE],
            dilation: [1; 3],
            pads: [0, pad, pad],
            groups: GROUPS,
            steps: RequantSteps { rescale: false, add: OC.is_multiple_of(2), last: false },
            largest: false,
        }
    };
}

/// A case that goes through its shape's own code.
struct Own<S>(Case, core::marker::PhantomData<S>);

impl<S: Shape<ConvI8Spec>> EachLevel for Own<S> {
    fn at<I: Isa>(&mut self, isa: I) {
        let mut y = vec![7; self.0.want.len()];
        for index in 0..2 {
            let job = self.0.job(&mut y, Part { index, count: 2 });
            if self.0.weightless {
                isa.call(layer::OwnCode::<S, _>::new(windows_i8::Job(job)));
            } else if self.0.depthwise {
                isa.call(layer::OwnCode::<S, _>::new(depthwise_i8::Job(job)));
            } else {
                isa.call(layer::OwnCode::<S, _>::new(job));
            }
        }
        assert!(y == self.0.want, "{}: {:?}", I::LEVEL.name(), self.0.spec);
    }
}

#[test]
fn own_code_is_exact() {
    fn check<S: Shape<ConvI8Spec>>() {
        let case = Case::new(S::SPEC, &mut Random(0x9e37_79b9_7f4a_7c15));
        each_level(&mut Own::<S>(case, core::marker::PhantomData));
    }
    // Rows of whole tiles of 14, 16 and 8 pixels, with a rest, of fewer; one channel, three, fours, groups.
    check::<Fixed<14, 8, 32, 1, 3, 1>>();
    check::<Fixed<32, 3, 16, 1, 3, 2>>();
    check::<Fixed<16, 4, 16, 1, 3, 1>>();
    check::<Fixed<8, 16, 49, 1, 3, 1>>();
    check::<Fixed<9, 1, 64, 1, 5, 2>>();
    check::<Fixed<5, 3, 17, 1, 1, 1>>();
    check::<Fixed<7, 12, 20, 2, 3, 1>>();
    check::<Fixed<1, 20, 70, 1, 3, 1>>();
    // Rows of which several bands are made, and blocks of large weights.
    check::<Fixed<20, 160, 16, 1, 3, 1>>();
    check::<Fixed<4, 512, 64, 1, 3, 1>>();
    // Depthwise, of few channels and of many, and sums.
    check::<Fixed<13, 16, 16, 16, 3, 1>>();
    check::<Fixed<16, 8, 8, 8, 3, 1>>();
    check::<Fixed<5, 32, 32, 32, 3, 1>>();
    check::<Fixed<11, 130, 130, 130, 3, 3>>();
    check::<Fixed<9, 24, 24, 24, 3, 1>>();
    check::<Fixed<8, 64, 64, 64, 3, 2>>();
    check::<Fixed<6, 85, 85, 85, 5, 1>>();
}
