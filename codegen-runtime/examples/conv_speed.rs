//! Speed of convolutions at every level of this CPU, in GFLOP/s: `cargo run --release --example conv_speed`.
//! Arguments: part of a layer's name, part of a level's name.

use std::time::{Duration, Instant};

use edgec_runtime::kernels::Form;
use edgec_runtime::kernels::conv::{self, ConvLayer};
use edgec_runtime::kernels::depthwise::{self, DepthwiseLayer};
use edgec_runtime::kernels::layer::Shape;
use edgec_runtime::spec::{Activation, ConvSpec, DepthwiseSpec, Epilogue, Residual, Scale, View};
use edgec_runtime::{Absent, Blob, Const, Isa, Mem, Part, Scalar, Slot, StaticArena};

const ARENA: usize = 16 << 20;
const WEIGHTS: usize = 12 << 20;
const HALF: usize = ARENA / 2;
const ELEMENTS: usize = HALF / 4;

static MEMORY: StaticArena<ARENA> = StaticArena::new();
static BLOB: Blob<WEIGHTS> = Blob::new([0; WEIGHTS]);

const EPILOGUE: Epilogue =
    Epilogue { bias: true, scale: Scale::One, residual: Residual::None, activation: Activation::Relu };

/// A square convolution: image, input channels, output channels, kernel, stride, halo and planar input.
struct Square<
    const SIZE: usize,
    const IC: usize,
    const OC: usize,
    const KERNEL: usize,
    const STRIDE: usize,
    const FLAGS: usize,
>;

const HALO: usize = 1;
const PLANAR: usize = 2;

impl<
    const SIZE: usize,
    const IC: usize,
    const OC: usize,
    const KERNEL: usize,
    const STRIDE: usize,
    const FLAGS: usize,
> Shape<ConvSpec> for Square<SIZE, IC, OC, KERNEL, STRIDE, FLAGS>
{
    const SPEC: ConvSpec = {
        let halo = if FLAGS & HALO != 0 { KERNEL / 2 } else { 0 };
        let size = SIZE + 2 * halo;
        let mut x = View::channels_last(1, [1, size, size], IC);
        if FLAGS & PLANAR != 0 {
            x.strides = [0, SIZE, 1];
            x.c_stride = SIZE * SIZE;
        }
        let pads = KERNEL / 2 - halo;
        let out = SIZE.div_ceil(STRIDE);
        ConvSpec {
            x,
            y: View::channels_last(1, [1, out, out], OC),
            residual: View::channels_last(1, [1, out, out], OC),
            kernel: [1, KERNEL, KERNEL],
            stride: [1, STRIDE, STRIDE],
            dilation: [1; 3],
            pads: [0, pads, pads],
            groups: 1,
            epilogue: EPILOGUE,
        }
    };
}

impl<
    const SIZE: usize,
    const IC: usize,
    const OC: usize,
    const KERNEL: usize,
    const STRIDE: usize,
    const FLAGS: usize,
> ConvLayer for Square<SIZE, IC, OC, KERNEL, STRIDE, FLAGS>
{
    type Shape = Self;
    const FORM: Form = Form::Disjoint;
    type X = Slot<f32, 0, ELEMENTS>;
    type W = Const<f32, 65536, { WEIGHTS / 4 - 16384 }>;
    type Bias = Const<f32, 0, 16384>;
    type Scale = Absent<f32>;
    type Slope = Absent<f32>;
    type Residual = Absent<f32>;
    type Y = Slot<f32, HALF, ELEMENTS>;
}

/// A square depthwise convolution: image, channels, kernel, stride.
struct Depth<const SIZE: usize, const C: usize, const KERNEL: usize, const STRIDE: usize>;

impl<const SIZE: usize, const C: usize, const KERNEL: usize, const STRIDE: usize> Shape<DepthwiseSpec>
    for Depth<SIZE, C, KERNEL, STRIDE>
{
    const SPEC: DepthwiseSpec = {
        let out = SIZE.div_ceil(STRIDE);
        DepthwiseSpec {
            x: View::channels_last(1, [1, SIZE, SIZE], C),
            y: View::channels_last(1, [1, out, out], C),
            residual: View::channels_last(1, [1, out, out], C),
            kernel: [1, KERNEL, KERNEL],
            stride: [1, STRIDE, STRIDE],
            dilation: [1; 3],
            pads: [0, KERNEL / 2, KERNEL / 2],
            multiplier: 1,
            epilogue: EPILOGUE,
        }
    };
}

impl<const SIZE: usize, const C: usize, const KERNEL: usize, const STRIDE: usize> DepthwiseLayer
    for Depth<SIZE, C, KERNEL, STRIDE>
{
    type Shape = Self;
    const FORM: Form = Form::Disjoint;
    type X = Slot<f32, 0, ELEMENTS>;
    type W = Const<f32, 65536, { WEIGHTS / 4 - 16384 }>;
    type Bias = Const<f32, 0, 16384>;
    type Scale = Absent<f32>;
    type Slope = Absent<f32>;
    type Residual = Absent<f32>;
    type Y = Slot<f32, HALF, ELEMENTS>;
}

/// Runs `f` for a while and prints the best rate.
fn time(what: &str, level: &str, flops: usize, mut f: impl FnMut()) {
    let mut arguments = std::env::args().skip(1);
    let wanted = |filter: Option<String>, text: &str| filter.is_none_or(|f| text.contains(&f));
    if !wanted(arguments.next(), what) || !wanted(arguments.next(), level) {
        return;
    }
    f();
    let mut best = Duration::MAX;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(200) {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed());
    }
    let rate = flops as f64 / best.as_nanos() as f64;
    println!("{level:8} {what:28} {:9.1} us {rate:7.1} GFLOP/s", best.as_nanos() as f64 / 1e3);
}

fn conv<I: Isa, L: ConvLayer>(isa: I, mem: &mut Mem<ARENA>, name: &str) {
    let s = L::Shape::SPEC;
    let [_, h, w] = s.y.extent;
    let flops = 2 * h * w * s.y.channels * s.x.channels * s.kernel[1] * s.kernel[2];
    time(name, I::LEVEL.name(), flops, || conv::run::<I, L, ARENA, WEIGHTS>(isa, mem, &BLOB, Part::ALL));
}

fn depth<I: Isa, L: DepthwiseLayer>(isa: I, mem: &mut Mem<ARENA>, name: &str) {
    let s = L::Shape::SPEC;
    let [_, h, w] = s.y.extent;
    let flops = 2 * h * w * s.y.channels * s.kernel[1] * s.kernel[2];
    time(name, I::LEVEL.name(), flops, || depthwise::run::<I, L, ARENA, WEIGHTS>(isa, mem, &BLOB, Part::ALL));
}

fn all<I: Isa>(isa: I, mem: &mut Mem<ARENA>) {
    conv::<I, Square<56, 64, 64, 3, 1, 0>>(isa, mem, "3x3 56x56x64-64");
    conv::<I, Square<56, 64, 64, 3, 1, HALO>>(isa, mem, "3x3 56x56x64-64 halo");
    conv::<I, Square<28, 128, 128, 3, 1, 0>>(isa, mem, "3x3 28x28x128-128");
    conv::<I, Square<14, 256, 256, 3, 1, 0>>(isa, mem, "3x3 14x14x256-256");
    conv::<I, Square<7, 512, 512, 3, 1, 0>>(isa, mem, "3x3 7x7x512-512");
    conv::<I, Square<56, 64, 128, 3, 2, 0>>(isa, mem, "3x3/2 56x56x64-128");
    conv::<I, Square<56, 64, 64, 1, 1, 0>>(isa, mem, "1x1 56x56x64-64");
    conv::<I, Square<28, 64, 64, 1, 1, 0>>(isa, mem, "1x1 28x28x64-64");
    conv::<I, Square<14, 64, 64, 1, 1, 0>>(isa, mem, "1x1 14x14x64-64");
    conv::<I, Square<14, 256, 64, 1, 1, 0>>(isa, mem, "1x1 14x14x256-64");
    conv::<I, Square<56, 64, 256, 1, 1, 0>>(isa, mem, "1x1 56x56x64-256");
    conv::<I, Square<56, 256, 64, 1, 1, 0>>(isa, mem, "1x1 56x56x256-64");
    conv::<I, Square<14, 96, 576, 1, 1, 0>>(isa, mem, "1x1 14x14x96-576");
    conv::<I, Square<7, 960, 160, 1, 1, 0>>(isa, mem, "1x1 7x7x960-160");
    conv::<I, Square<112, 16, 24, 1, 1, 0>>(isa, mem, "1x1 112x112x16-24");
    conv::<I, Square<224, 3, 64, 7, 2, 0>>(isa, mem, "7x7/2 224x224x3-64");
    conv::<I, Square<224, 3, 64, 7, 2, PLANAR>>(isa, mem, "7x7/2 224x224x3-64 planar");
    conv::<I, Square<224, 3, 32, 3, 2, PLANAR>>(isa, mem, "3x3/2 224x224x3-32 planar");
    depth::<I, Depth<112, 32, 3, 1>>(isa, mem, "dw3x3 112x112x32");
    depth::<I, Depth<56, 144, 3, 1>>(isa, mem, "dw3x3 56x56x144");
    depth::<I, Depth<56, 144, 3, 2>>(isa, mem, "dw3x3/2 56x56x144");
    depth::<I, Depth<14, 576, 3, 1>>(isa, mem, "dw3x3 14x14x576");
    depth::<I, Depth<7, 960, 5, 1>>(isa, mem, "dw5x5 7x7x960");
}

fn main() {
    let Some(arena) = MEMORY.take() else { return };
    let mut mem = Mem::new(arena);
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(isa) = edgec_runtime::V4::new() {
            all(isa, &mut mem);
        }
        if let Some(isa) = edgec_runtime::V3::new() {
            all(isa, &mut mem);
        }
    }
    all(Scalar::TOKEN, &mut mem);
}
