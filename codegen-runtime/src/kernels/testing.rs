//! What the tests of spatial kernels share: random numbers, levels, and a plain epilogue.

use std::vec::Vec;

use crate::isa::{Isa, Scalar};
use crate::spec::{Activation, Epilogue, Residual, Scale, View};

/// A small random generator (xorshift), the same on every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.below(2001) as f32 / 1000.0 - 1.0).collect()
    }

    /// A view of the given extents: dense, in a halo, a part of wider pixels, or planar.
    pub(crate) fn view(&mut self, batch: usize, extent: [usize; 3], channels: usize) -> View {
        let dense = View::channels_last(batch, extent, channels);
        match self.below(4) {
            0 => {
                let wide = View::channels_last(batch, extent.map(|e| e + 2), channels);
                let offset = wide.strides[0] + wide.strides[1] + wide.strides[2];
                View { offset, extent, ..wide }
            }
            1 => {
                let wide = View::channels_last(batch, extent, channels + 5);
                View { offset: 3, channels, ..wide }
            }
            2 => {
                let [d, h, w] = extent;
                View { strides: [h * w, w, 1], c_stride: d * h * w, n_stride: channels * d * h * w, ..dense }
            }
            _ => dense,
        }
    }
}

/// Element `(n, d, h, w, c)` of a view.
pub(crate) fn element(view: &View, n: usize, at: [usize; 3], c: usize) -> usize {
    view.offset
        + n * view.n_stride
        + (0..3).map(|i| at[i] * view.strides[i]).sum::<usize>()
        + c * view.c_stride
}

/// Every coordinate of a view, images outermost.
pub(crate) fn coordinates(view: &View) -> impl Iterator<Item = (usize, [usize; 3])> + use<> {
    let ([depth, height, width], batch) = (view.extent, view.batch);
    (0..batch * depth * height * width).map(move |i| {
        (i / width / height / depth, [i / width / height % depth, i / width % height, i % width])
    })
}

pub(crate) const ACTIVATIONS: [Activation; 14] = [
    Activation::None,
    Activation::Relu,
    Activation::Clip { lo: -0.5, hi: 0.75 },
    Activation::LeakyRelu { alpha: 0.1 },
    Activation::PRelu,
    Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Activation::HardSwish,
    Activation::Sigmoid,
    Activation::Swish { alpha: 1.5 },
    Activation::Tanh,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Elu { alpha: 0.7 },
    Activation::Softplus,
];

pub(crate) fn epilogue(random: &mut Random) -> Epilogue {
    Epilogue {
        bias: random.below(2) == 1,
        scale: random.pick(&[Scale::One, Scale::One, Scale::Uniform(0.5), Scale::PerChannel]),
        residual: random.pick(&[Residual::None, Residual::Before, Residual::After]),
        activation: if random.below(2) == 0 { Activation::Relu } else { random.pick(&ACTIVATIONS) },
    }
}

/// The epilogue in `f64`, one value.
pub(crate) fn plain(e: &Epilogue, acc: f64, bias: f32, scale: f32, slope: f32, addend: f32) -> f64 {
    let factor = match e.scale {
        Scale::One => 1.0,
        Scale::Uniform(f) => f as f64,
        Scale::PerChannel => scale as f64,
    };
    let mut v = acc * factor + if e.bias { bias as f64 } else { 0.0 };
    if e.residual == Residual::Before {
        v += addend as f64;
    }
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    v = match e.activation {
        Activation::None => v,
        Activation::Relu => v.max(0.0),
        Activation::Clip { lo, hi } => v.clamp(lo as f64, hi as f64),
        Activation::LeakyRelu { alpha } => {
            if v < 0.0 {
                alpha as f64 * v
            } else {
                v
            }
        }
        Activation::PRelu => {
            if v < 0.0 {
                slope as f64 * v
            } else {
                v
            }
        }
        Activation::HardSigmoid { alpha, beta } => (alpha as f64 * v + beta as f64).clamp(0.0, 1.0),
        Activation::HardSwish => v * (v / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::Sigmoid => sigmoid(v),
        Activation::Swish { alpha } => v * sigmoid(alpha as f64 * v),
        Activation::Tanh => v.tanh(),
        Activation::Gelu => v / 2.0 * (1.0 + erf(v / 2f64.sqrt())),
        Activation::GeluTanh => {
            v / 2.0 * (1.0 + ((2.0 / core::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v)).tanh())
        }
        Activation::Elu { alpha } => {
            if v < 0.0 {
                alpha as f64 * (v.exp() - 1.0)
            } else {
                v
            }
        }
        Activation::Softplus => v.exp().ln_1p(),
    };
    if e.residual == Residual::After { v + addend as f64 } else { v }
}

/// Error function, by its Taylor series: for the small arguments of tests.
fn erf(x: f64) -> f64 {
    let (mut sum, mut term) = (x, x);
    for n in 1..200 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    if x.abs() > 5.0 { x.signum() } else { sum * 2.0 / core::f64::consts::PI.sqrt() }
}

/// Something to do at every level of this CPU.
pub(crate) trait EachLevel {
    fn at<I: Isa>(&mut self, isa: I);
}

pub(crate) fn each_level(f: &mut impl EachLevel) {
    f.at(Scalar::TOKEN);
    #[cfg(target_arch = "x86_64")]
    {
        match crate::isa::V3::new() {
            Some(isa) => f.at(isa),
            None => absent("v3"),
        }
        match (crate::isa::V3Vnni::new(), crate::isa::V4::new()) {
            (Some(isa), _) => f.at(isa),
            (None, Some(v4)) => f.at(crate::isa::v3_vnni_by_v4(v4)),
            (None, None) => absent("v3-vnni"),
        }
        match crate::isa::V4::new() {
            Some(isa) => f.at(isa),
            None => absent("v4"),
        }
    }
}

/// A level that is not tested here; where it must be, `EDGEC_REQUIRE_LEVELS` names it.
fn absent(level: &str) {
    let required = std::env::var("EDGEC_REQUIRE_LEVELS").unwrap_or_default();
    assert!(!required.split(',').any(|l| l == level), "this machine lacks {level}");
    std::eprintln!("SKIPPED: this machine lacks {level}");
}
