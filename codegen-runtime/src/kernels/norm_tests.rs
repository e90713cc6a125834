//! Normalisation at every level against `f64`.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::kernels::testing::{EachLevel, Random, each_level};
use crate::mem::Arena;
use crate::operand::{Absent, Const, Slot};

struct Check {
    spec: NormSpec,
    x: Vec<f32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    bits: Vec<u32>,
}

impl Check {
    fn reference(&self) -> Vec<f64> {
        let NormSpec { kind, len, epsilon, scale, bias, .. } = self.spec;
        let mut y = Vec::new();
        for row in self.x.chunks(len) {
            let row: Vec<f64> = row.iter().map(|v| *v as f64).collect();
            let mean = if kind == NormKind::Layer { row.iter().sum::<f64>() / len as f64 } else { 0.0 };
            let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / len as f64;
            for (i, v) in row.iter().enumerate() {
                let v = (v - mean) / (variance + epsilon as f64).sqrt();
                let v = if scale { v * self.scale[i] as f64 } else { v };
                y.push(if bias { v + self.bias[i] as f64 } else { v });
            }
        }
        y
    }
}

impl EachLevel for Check {
    fn at<I: Isa>(&mut self, isa: I) {
        let want = self.reference();
        for (parts, in_place) in [(1, false), (3, false), (1, true)] {
            let mut y = if in_place { self.x.clone() } else { vec![7.5; want.len()] };
            let out = y.as_mut_ptr();
            for index in 0..parts {
                isa.call(layer::SharedCode(Job {
                    spec: &self.spec,
                    x: if in_place { out.cast_const() } else { self.x.as_ptr() },
                    scale: self.scale.as_ptr(),
                    bias: self.bias.as_ptr(),
                    y: out,
                    part: Part { index, count: parts },
                }));
            }
            for (got, want) in y.iter().zip(&want) {
                let close = (*got as f64 - want).abs() <= 2e-5 * want.abs().max(1.0);
                assert!(close, "{got}, not {want}, at {} for {:?}", I::LEVEL.name(), self.spec);
            }
            let bits: Vec<u32> = y.iter().map(|v| v.to_bits()).collect();
            if self.bits.is_empty() {
                self.bits = bits;
            } else {
                assert_eq!(self.bits, bits, "{} differs for {:?}", I::LEVEL.name(), self.spec);
            }
        }
    }
}

#[test]
fn rows_agree_with_doubles_and_between_levels() {
    let mut random = Random(5);
    for _ in 0..200 {
        let (rows, len) = (1 + random.below(4), 1 + random.below(200));
        let spec = NormSpec {
            kind: random.pick(&[NormKind::Layer, NormKind::Rms]),
            rows,
            len,
            epsilon: 1e-3,
            scale: random.below(2) == 0,
            bias: random.below(2) == 0,
        };
        // A mean far from zero: a variance from squares would be lost.
        let x = random.values(rows * len).iter().map(|v| v + 30.0).collect();
        let (scale, bias) = (random.values(len), random.values(len));
        each_level(&mut Check { spec, x, scale, bias, bits: Vec::new() });
    }
}

struct Small<const OWN: bool>;

impl<const OWN: bool> Shape<NormSpec> for Small<OWN> {
    const SPEC: NormSpec =
        NormSpec { kind: NormKind::Rms, rows: 2, len: 2, epsilon: 0.0, scale: true, bias: false };
    const OWN: layer::Own = if OWN { layer::Own::Everywhere } else { layer::Own::Nowhere };
}

impl<const OWN: bool> NormLayer for Small<OWN> {
    type Shape = Self;
    const FORM: Form = Form::Overlap;
    type X = Slot<f32, 0, 4>;
    type Scale = Const<f32, 0, 2>;
    type Bias = Absent<f32>;
    type Y = Slot<f32, 0, 4>;
}

#[test]
fn a_layer_runs_in_place() {
    let blob = Blob::new([0, 0, 128, 63, 0, 0, 0, 64]);
    for own in [false, true] {
        let mut arena = Arena::<64>::new();
        let mut mem = Mem::new(&mut arena);
        let (_, (x,)) = mem.borrow::<(), (Slot<f32, 0, 4>,)>(&blob);
        *x = [3.0, 3.0, -0.5, 0.5];
        let isa = crate::isa::Scalar::TOKEN;
        if own {
            run::<_, Small<true>, 64, 8>(isa, &mut mem, &blob, Part::ALL);
        } else {
            run::<_, Small<false>, 64, 8>(isa, &mut mem, &blob, Part::ALL);
        }
        let ((y,), _) = mem.borrow::<(Slot<f32, 0, 4>,), (Slot<f32, 32, 1>,)>(&blob);
        assert_eq!(*y, [1.0, 2.0, -1.0, 2.0]);
    }
}
