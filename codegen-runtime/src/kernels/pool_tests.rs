//! Pooling at every level against plain loops.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::kernels::testing::{EachLevel, Random, coordinates, each_level, element};
use crate::mem::Arena;
use crate::operand::Slot;
use crate::spec::View;

struct Check {
    spec: PoolSpec,
    x: Vec<f32>,
}

impl Check {
    fn reference(&self) -> Vec<f32> {
        let spec = &self.spec;
        let [kd, kh, kw] = spec.kernel;
        let mut y = vec![7.5; spec.y.end()];
        for (n, at) in coordinates(&spec.y) {
            for c in 0..spec.y.channels {
                let (mut max, mut sum, mut inside, mut padded) = (f32::NEG_INFINITY, 0.0f64, 0, 0);
                for t in 0..kd * kh * kw {
                    let k = [t / kw / kh, t / kw % kh, t % kw];
                    let from: [isize; 3] = core::array::from_fn(|a| {
                        (at[a] * spec.stride[a] + k[a] * spec.dilation[a]) as isize - spec.pads[a] as isize
                    });
                    let end = |a: usize| spec.x.extent[a] as isize;
                    if (0..3).all(|a| from[a] < end(a) + spec.pads_end[a] as isize) {
                        padded += 1;
                    }
                    if (0..3).all(|a| from[a] >= 0 && from[a] < end(a)) {
                        let v = self.x[element(&spec.x, n, from.map(|v| v as usize), c)];
                        max = if v > max || v.is_nan() { v } else { max };
                        sum += v as f64;
                        inside += 1;
                    }
                }
                let v = match spec.kind {
                    PoolKind::Max => max,
                    PoolKind::AverageExcludePad => (sum / inside.max(1) as f64) as f32,
                    PoolKind::AverageIncludePad => (sum / padded.max(1) as f64) as f32,
                };
                let v = if spec.activation == Activation::Relu && v < 0.0 { 0.0 } else { v };
                y[element(&spec.y, n, at, c)] = v;
            }
        }
        y
    }
}

impl EachLevel for Check {
    fn at<I: Isa>(&mut self, isa: I) {
        let want = self.reference();
        for count in [1, 4] {
            let mut y = vec![7.5; want.len()];
            let out = y.as_mut_ptr();
            for index in 0..count {
                let part = Part { index, count };
                isa.call(layer::SharedCode(Job { spec: &self.spec, x: self.x.as_ptr(), y: out, part }));
            }
            for (got, want) in y.iter().zip(&want) {
                let same = got == want || (got.is_nan() && want.is_nan());
                let close = same || (got - want).abs() <= 1e-5;
                assert!(close, "{got}, not {want}, at {} for {:?}", I::LEVEL.name(), self.spec);
            }
        }
    }
}

#[test]
fn pooling_agrees_with_plain_loops() {
    let mut random = Random(99);
    for round in 0..300 {
        let dims = random.pick(&[1, 2, 2, 3]);
        let mut one = |from: &[usize]| -> [usize; 3] {
            core::array::from_fn(|axis| if axis + dims < 3 { 1 } else { random.pick(from) })
        };
        let extent = one(&[1, 2, 5, 8, 11]);
        let kernel = if round % 10 == 0 { extent } else { one(&[1, 2, 3]) };
        let (stride, dilation) = (one(&[1, 2, 3]), one(&[1, 1, 2]));
        let pads: [usize; 3] = core::array::from_fn(|a| random.below(kernel[a]));
        let pads_end: [usize; 3] = core::array::from_fn(|a| random.below(kernel[a]));
        // One output more than fits, as `ceil_mode` may ask for.
        let outputs: [usize; 3] = core::array::from_fn(|a| {
            let room = (extent[a] + pads[a] + pads_end[a]).saturating_sub((kernel[a] - 1) * dilation[a] + 1);
            room / stride[a] + 1 + if a == 2 { random.below(2) } else { 0 }
        });
        let (batch, channels) = (1 + random.below(2), random.pick(&[1, 3, 8, 16, 21, 64, 81]));
        let x = random.view(batch, extent, channels);
        let spec = PoolSpec {
            kind: random.pick(&[PoolKind::Max, PoolKind::AverageExcludePad, PoolKind::AverageIncludePad]),
            x,
            y: random.view(batch, outputs, channels),
            kernel,
            stride,
            dilation,
            pads,
            pads_end,
            activation: random.pick(&[Activation::None, Activation::Relu]),
        };
        let mut values = random.values(x.end());
        if round % 3 == 0 {
            let at = random.below(values.len());
            values[at] = f32::NAN;
        }
        each_level(&mut Check { spec, x: values });
    }
}

/// Maxima of pairs, written over the front of the input.
struct Pairs<const OWN: bool>;

const PAIRS: PoolSpec = PoolSpec {
    kind: PoolKind::Max,
    x: View::channels_last(1, [1, 1, 6], 1),
    y: View::channels_last(1, [1, 1, 3], 1),
    kernel: [1, 1, 2],
    stride: [1, 1, 2],
    dilation: [1; 3],
    pads: [0; 3],
    pads_end: [0; 3],
    activation: Activation::None,
};

impl<const OWN: bool> Shape<PoolSpec> for Pairs<OWN> {
    const SPEC: PoolSpec = PAIRS;
    const OWN: layer::Own = if OWN { layer::Own::Everywhere } else { layer::Own::Nowhere };
}

impl<const OWN: bool> PoolLayer for Pairs<OWN> {
    type Shape = Self;
    const FORM: Form = Form::Overlap;
    type X = Slot<f32, 0, 6>;
    type Y = Slot<f32, 0, 3>;
}

#[test]
fn a_layer_runs_over_its_input() {
    assert!(safe_lead(&PAIRS).is_some_and(|lead| lead <= 0));
    let blob = Blob::new([]);
    for own in [false, true] {
        let mut arena = Arena::<64>::new();
        let mut mem = Mem::new(&mut arena);
        let (_, (x,)) = mem.borrow::<(), (Slot<f32, 0, 6>,)>(&blob);
        *x = [1.0, 2.0, 4.0, 3.0, -5.0, f32::NAN];
        let isa = crate::isa::Scalar::TOKEN;
        if own {
            run::<_, Pairs<true>, 64, 0>(isa, &mut mem, &blob, Part::ALL);
        } else {
            run::<_, Pairs<false>, 64, 0>(isa, &mut mem, &blob, Part::ALL);
        }
        let ((y,), _) = mem.borrow::<(Slot<f32, 0, 3>,), (Slot<f32, 32, 1>,)>(&blob);
        assert_eq!(y[..2], [2.0, 4.0]);
        assert!(y[2].is_nan());
    }
}
