//! Operators that lower to routines, held against their evaluation on random data of several shapes and types. The
//! routines are those of the runtime, called as emitted code calls them.

use super::lowered_tests::Case;
use super::testing::{f32s, i64s};
use super::typed::from_floats;
use crate::ir::{DType, Tensor};
use crate::kernel::{Param, Routine};
use crate::onnx::Attr;
use edgec_runtime::num::Number;
use edgec_runtime::operand::{Bool, Element};
use edgec_runtime::routines::real::Real;
use edgec_runtime::routines::{deform, det, grid_sample, mel, regions, scatter, trees};

/// A routine over values of a type: what it leaves in the operands that it writes.
pub(super) fn call(r: &Routine, dtype: DType, reads: &[Vec<f64>], writes: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let scatters = r.function.starts_with("scatter::");
    let call = Call { r, reads, writes };
    match dtype {
        DType::F32 if scatters => call.numbers(|v| v as f32, f64::from),
        DType::F64 if scatters => call.numbers(|v| v, |v| v),
        DType::I32 => call.numbers(|v| v as i32, f64::from),
        DType::I64 => call.numbers(|v| v as i64, |v| v as f64),
        DType::F32 => call.reals::<f32>(),
        DType::F64 => call.reals::<f64>(),
        other => panic!("routines are not run in {other}"),
    }
}

struct Call<'a> {
    r: &'a Routine,
    reads: &'a [Vec<f64>],
    writes: &'a [Vec<f64>],
}

impl Call<'_> {
    fn u(&self, i: usize) -> usize {
        match self.r.params[i] {
            Param::Usize(n) => n,
            ref other => panic!("{other:?} at {i}"),
        }
    }

    fn b(&self, i: usize) -> bool {
        matches!(self.r.params[i], Param::Bool(true))
    }

    fn f(&self, i: usize) -> f32 {
        match self.r.params[i] {
            Param::F32(v) => v,
            ref other => panic!("{other:?} at {i}"),
        }
    }

    fn ints(&self, i: usize) -> Vec<i64> {
        self.reads[i].iter().map(|&v| v as i64).collect()
    }

    fn numbers<T: Number + Element>(&self, make: fn(f64) -> T, back: fn(T) -> f64) -> Vec<Vec<f64>> {
        let (at, table, u) = (self.ints(0), self.ints(2), |i| self.u(i));
        let new: Vec<T> = self.reads[1].iter().map(|&v| make(v)).collect();
        let mut y: Vec<T> = self.writes[0].iter().map(|&v| make(v)).collect();
        match self.r.function {
            "scatter::elements" => scatter::elements(&at, &new, &table, &mut y, u(0), u(1)),
            "scatter::elements_with" => scatter::elements_with(&at, &new, &table, &mut y, u(0), u(1), u(2)),
            "scatter::slices" => scatter::slices(&at, &new, &table, &mut y, u(0)),
            "scatter::slices_with" => scatter::slices_with(&at, &new, &table, &mut y, u(0), u(1)),
            other => panic!("routine `{other}` is not run here"),
        };
        vec![y.into_iter().map(back).collect()]
    }

    fn reals<T: Real + Number>(&self) -> Vec<Vec<f64>> {
        let (u, b, f) = (|i| self.u(i), |i| self.b(i), |i| self.f(i));
        let x = |i: usize| self.reads[i].iter().map(|&v| T::narrow(v)).collect::<Vec<T>>();
        let mut y: Vec<Vec<T>> =
            self.writes.iter().map(|w| w.iter().map(|&v| T::narrow(v)).collect()).collect();
        let (first, rest) = y.split_first_mut().unwrap();
        let mut none = Vec::new();
        let work = rest.first_mut().unwrap_or(&mut none);
        match self.r.function {
            "mel::weights" => {
                let mut y = self.writes[0].clone();
                mel::weights(&self.reads[0], &self.reads[1], &self.reads[2], &mut y, u(0), u(1), u(2));
                return vec![y];
            }
            "trees::join" => {
                let table = |i: usize| self.ints(i).into_iter().map(|v| v as u32).collect::<Vec<u32>>();
                let kinds: Vec<u8> = table(3).into_iter().map(|k| k as u8).collect();
                let mut reached = vec![Bool(0); self.writes[1].len()];
                trees::join(
                    &x(0),
                    &table(1),
                    &x(2),
                    &kinds,
                    &table(4),
                    &table(5),
                    &table(6),
                    &table(7),
                    &x(8),
                    first,
                    &mut reached,
                    u(0),
                    u(1),
                    u(2),
                    u(3),
                );
                if let Some(out) = rest.first_mut() {
                    *out = reached.iter().map(|b| T::narrow(f64::from(b.0))).collect();
                }
            }
            "det::det" => det::det(&x(0), first, work, u(0), u(1)),
            "grid_sample::grid_sample" => grid_sample::grid_sample(
                &x(0),
                &x(1),
                first,
                u(0),
                u(1),
                u(2),
                u(3),
                u(4),
                u(5),
                b(6),
                u(7),
                u(8),
                b(9),
            ),
            "regions::roi_align" => {
                regions::roi_align(
                    &x(0),
                    &x(1),
                    &self.ints(2),
                    first,
                    u(0),
                    u(1),
                    u(2),
                    u(3),
                    u(4),
                    u(5),
                    u(6),
                    f(7),
                    b(8),
                    b(9),
                );
            }
            "regions::max_roi_pool" => {
                regions::max_roi_pool(&x(0), &x(1), first, u(0), u(1), u(2), u(3), u(4), u(5), f(6));
            }
            "deform::deform_conv" => deform::deform_conv(
                &x(0),
                &x(1),
                &x(2),
                &x(3),
                &x(4),
                &self.ints(5),
                first,
                work,
                u(0),
                u(1),
                u(2),
                u(3),
                u(4),
                u(5),
                b(6),
                b(7),
            ),
            other => panic!("routine `{other}` is not run here"),
        }
        y.into_iter().map(|w| w.into_iter().map(T::wide).collect()).collect()
    }
}

/// Numbers in -`size` to `size`.
fn random(dtype: DType, shape: &[usize], size: f64, seed: usize) -> Tensor {
    let number = |i: usize| {
        let z = (i + 1 + seed * 7919).wrapping_mul(2_654_435_761) % 100_003;
        (z as f64 / 50_001.5 - 1.0) * size
    };
    from_floats(dtype, shape, (0..shape.iter().product()).map(number)).unwrap()
}

fn check(op: &str, opset: i64, attrs: &[(&str, Attr)], operands: &[(&Tensor, bool)]) {
    Case { op, opset, attrs, operands, results: 1 }.check();
}

const FLOATS: [DType; 3] = [DType::F32, DType::F64, DType::F16];

#[test]
fn determinants() {
    for (seed, n) in [1usize, 2, 3, 5].into_iter().enumerate() {
        for dtype in FLOATS {
            check("Det", 22, &[], &[(&random(dtype, &[2, n, n], 2.0, seed), false)]);
        }
    }
}

#[test]
fn samples() {
    let text = |name: &'static str, v: &str| (name, Attr::String(v.into()));
    for (seed, mode) in ["nearest", "linear", "cubic"].into_iter().enumerate() {
        for padding in ["zeros", "border", "reflection"] {
            for (align, dtype) in (0..2).flat_map(|a| [(a, DType::F32), (a, DType::F64)]) {
                let attrs =
                    [text("mode", mode), text("padding_mode", padding), ("align_corners", Attr::Int(align))];
                let (x, at) =
                    (random(dtype, &[2, 2, 4, 5], 3.0, seed), random(dtype, &[2, 3, 2, 2], 1.7, seed));
                check("GridSample", 22, &attrs, &[(&x, false), (&at, false)]);
                if mode != "cubic" {
                    let (x, at) = (
                        random(dtype, &[1, 2, 2, 3, 4], 3.0, seed),
                        random(dtype, &[1, 2, 3, 2, 3], 1.7, seed),
                    );
                    check("GridSample", 22, &attrs, &[(&x, false), (&at, false)]);
                }
            }
        }
    }
}

#[test]
fn regions_of_images() {
    let images = i64s(&[4], &[0, 1, 1, 0]);
    for (seed, dtype) in FLOATS.into_iter().enumerate() {
        let (x, rois) = (random(dtype, &[2, 3, 6, 5], 3.0, seed), random(dtype, &[4, 4], 9.0, seed));
        for (opset, mode, samples) in [(10, "avg", 0), (10, "max", 2), (22, "avg", 3), (22, "max", 0)] {
            let attrs = [
                ("mode", Attr::String(mode.into())),
                ("sampling_ratio", Attr::Int(samples)),
                ("output_height", Attr::Int(2)),
                ("output_width", Attr::Int(3)),
                ("spatial_scale", Attr::Float(0.5)),
            ];
            check("RoiAlign", opset, &attrs, &[(&x, false), (&rois, false), (&images, false)]);
        }
        let pooled = [("pooled_shape", Attr::Ints(vec![2, 3]))];
        let rois = [0., -1., 0., 3., 4., 1., 2., 1., 9., 2.5, 1., 4., 5., 0., 0.];
        let rois = from_floats(dtype, [3, 5], rois).unwrap();
        check("MaxRoiPool", 22, &pooled, &[(&x, false), (&rois, false)]);
    }
}

#[test]
fn deformed_windows() {
    for (seed, dtype) in FLOATS.into_iter().enumerate() {
        for (space, kernel, out) in [
            (&[6usize][..], &[3usize][..], &[4usize][..]),
            (&[5, 6], &[2, 3], &[4, 4]),
            (&[3, 4, 5], &[1, 2, 2], &[3, 3, 4]),
        ] {
            let shape = |lead: [usize; 2], rest: &[usize]| [&lead[..], rest].concat();
            let taps: usize = kernel.iter().product();
            let make = |shape: Vec<usize>| random(dtype, &shape, 1.5, seed);
            let (x, w) = (make(shape([2, 4], space)), make(shape([6, 2], kernel)));
            let (offset, bias) = (make(shape([2, 2 * taps * kernel.len()], out)), make(vec![6]));
            let mask = make(shape([2, 2 * taps], out));
            let attrs = [("group", Attr::Int(2)), ("offset_group", Attr::Int(2))];
            let all = [(&x, false), (&w, true), (&offset, false), (&bias, true), (&mask, false)];
            check("DeformConv", 22, &attrs, &all);
            check("DeformConv", 22, &attrs, &all[..3]);
        }
    }
}

#[test]
fn triangles_at_run_time() {
    let (bands, length) = (Tensor::scalar(8i64), Tensor::scalar(64i64));
    let (rate, low, high) = (Tensor::scalar(8192i64), Tensor::scalar(20f32), Tensor::scalar(4000f32));
    for code in [1, 11, 6] {
        let operands = [(&bands, true), (&length, true), (&rate, false), (&low, false), (&high, false)];
        check("MelWeightMatrix", 17, &[("output_datatype", Attr::Int(code))], &operands);
    }
}

#[test]
fn scattered() {
    let at = i64s(&[2, 3], &[0, -1, 2, 1, 1, 0]);
    let tuples = i64s(&[2, 1], &[2, -2]);
    for dtype in [DType::F32, DType::F64, DType::I32, DType::I64] {
        for how in ["none", "add", "mul", "max", "min"] {
            let reduction = ("reduction", Attr::String(how.into()));
            let (data, new) = (random(dtype, &[3, 4], 9.0, 1), random(dtype, &[2, 3], 9.0, 2));
            let rows = random(dtype, &[2, 4], 9.0, 3);
            for axis in 0..2 {
                let attrs = [("axis", Attr::Int(axis)), reduction.clone()];
                check("ScatterElements", 18, &attrs, &[(&data, false), (&at, false), (&new, false)]);
            }
            check("ScatterND", 18, &[reduction], &[(&data, false), (&tuples, false), (&rows, false)]);
        }
    }
    check(
        "Scatter",
        9,
        &[],
        &[
            (&f32s(&[3, 4], &[0.0; 12]), false),
            (&at, false),
            (&f32s(&[2, 3], &[1., 2., 3., 4., 5., 6.]), false),
        ],
    );
}
