//! Softmax at every level against `f64`.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::kernels::testing::{EachLevel, Random, each_level};
use crate::mem::Arena;
use crate::operand::Slot;

fn reference(spec: &SoftmaxSpec, x: &[f32]) -> Vec<f64> {
    let SoftmaxSpec { outer, len, inner, log } = *spec;
    let mut y = vec![0.0; x.len()];
    for (o, i) in (0..outer * inner).map(|at| (at / inner, at % inner)) {
        let at = |l: usize| (o * len + l) * inner + i;
        let top = (0..len).map(|l| x[at(l)]).fold(f32::NEG_INFINITY, f32::max) as f64;
        let sum: f64 = (0..len).map(|l| (x[at(l)] as f64 - top).exp()).sum();
        for l in 0..len {
            let v = x[at(l)] as f64 - top;
            y[at(l)] = if log { v - sum.ln() } else { v.exp() / sum };
        }
    }
    y
}

struct Check {
    spec: SoftmaxSpec,
    x: Vec<f32>,
}

impl EachLevel for Check {
    fn at<I: Isa>(&mut self, isa: I) {
        let want = reference(&self.spec, &self.x);
        // Neither parts nor places change a level's results.
        let mut bits = Vec::new();
        for (parts, in_place) in [(1, false), (3, false), (1, true)] {
            let mut y = if in_place { self.x.clone() } else { vec![7.5; want.len()] };
            let out = y.as_mut_ptr();
            let x = if in_place { out.cast_const() } else { self.x.as_ptr() };
            for index in 0..parts {
                let part = Part { index, count: parts };
                isa.call(layer::SharedCode(Job { spec: &self.spec, x, y: out, part }));
            }
            for (got, want) in y.iter().zip(&want) {
                let least = if self.spec.log { 1.0 } else { 1e-3 };
                let close = (*got as f64 - want).abs() <= 2e-6 * want.abs().max(least);
                assert!(close, "{got}, not {want}, at {} for {:?}", I::LEVEL.name(), self.spec);
            }
            let these: Vec<u32> = y.iter().map(|v| v.to_bits()).collect();
            if bits.is_empty() {
                bits = these;
            } else {
                assert!(bits == these, "{parts} parts differ at {} for {:?}", I::LEVEL.name(), self.spec);
            }
        }
    }
}

#[test]
fn softmax_agrees_with_doubles() {
    let mut random = Random(11);
    for _ in 0..200 {
        let (outer, len) = (1 + random.below(5), 1 + random.below(150));
        let inner = random.pick(&[1, 1, 2, 7, 16, 40]);
        let spec = SoftmaxSpec { outer, len, inner, log: random.below(2) == 0 };
        let x = random.values(outer * len * inner).iter().map(|v| v * 30.0).collect();
        each_level(&mut Check { spec, x });
    }
}

struct InPlace<const OWN: bool>;

impl<const OWN: bool> Shape<SoftmaxSpec> for InPlace<OWN> {
    const SPEC: SoftmaxSpec = SoftmaxSpec { outer: 2, len: 3, inner: 1, log: false };
    const OWN: layer::Own = if OWN { layer::Own::Everywhere } else { layer::Own::Nowhere };
}

impl<const OWN: bool> SoftmaxLayer for InPlace<OWN> {
    type Shape = Self;
    const FORM: Form = Form::Overlap;
    type X = Slot<f32, 64, 6>;
    type Y = Slot<f32, 60, 6>;
}

#[test]
fn a_layer_overlaps_its_input_and_nan_takes_its_row() {
    let blob = Blob::new([]);
    for own in [false, true] {
        let mut arena = Arena::<128>::new();
        let mut mem = Mem::new(&mut arena);
        let (_, (x,)) = mem.borrow::<(), (Slot<f32, 64, 6>,)>(&blob);
        *x = [1.0, 1.0, f32::NAN, 5.0, 5.0, f32::NEG_INFINITY];
        let isa = crate::isa::Scalar::TOKEN;
        if own {
            run::<_, InPlace<true>, 128, 0>(isa, &mut mem, &blob, Part::ALL);
        } else {
            run::<_, InPlace<false>, 128, 0>(isa, &mut mem, &blob, Part::ALL);
        }
        let ((y,), _) = mem.borrow::<(Slot<f32, 60, 6>,), (Slot<f32, 0, 1>,)>(&blob);
        assert!(y[..3].iter().all(|v| v.is_nan()));
        assert_eq!(y[3..], [0.5, 0.5, 0.0]);
    }
}
