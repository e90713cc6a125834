//! Convolutions at every level against plain loops.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::kernels::testing::{EachLevel, Random, coordinates, each_level, element, epilogue, plain};
use crate::mem::Arena;
use crate::operand::{Absent, Const, Slot};
use crate::spec::{Activation, Epilogue, Residual, View};

struct Case {
    spec: ConvSpec,
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
    fn new(spec: ConvSpec, random: &mut Random) -> Case {
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
        let (icg, ocg) = (spec.x.channels / spec.groups, spec.y.channels / spec.groups);
        let [kd, kh, kw] = spec.kernel;
        let mut y = vec![7.5; spec.y.end()];
        for (n, at) in coordinates(&spec.y) {
            for m in 0..spec.y.channels {
                let (g, mut acc) = (m / ocg, 0.0f64);
                for i in 0..icg {
                    for t in 0..kd * kh * kw {
                        let k = [t / kw / kh, t / kw % kh, t % kw];
                        let from: [isize; 3] = core::array::from_fn(|a| {
                            (at[a] * spec.stride[a] + k[a] * spec.dilation[a]) as isize
                                - spec.pads[a] as isize
                        });
                        if (0..3).all(|a| from[a] >= 0 && from[a] < spec.x.extent[a] as isize) {
                            let from = from.map(|v| v as usize);
                            let x = self.x[element(&spec.x, n, from, g * icg + i)];
                            acc += x as f64 * self.w[(m * icg + i) * kd * kh * kw + t] as f64;
                        }
                    }
                }
                let c = vectors(spec).index(g, m % ocg);
                let addend = if spec.epilogue.residual == Residual::None {
                    0.0
                } else {
                    self.residual[element(&spec.residual, n, at, m)]
                };
                let v = plain(&spec.epilogue, acc, self.bias[c], self.scale[c], self.slope[c], addend);
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
            ordered: false,
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

fn random_spec(random: &mut Random) -> ConvSpec {
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
        let groups = random.pick(&[1, 1, 1, 2, 3]);
        let icg = random.pick(&[1, 2, 3, 4, 5, 16, 17]);
        let ocg = random.pick(&[1, 3, 5, 8, 11, 16, 17, 24, 32, 33, 48]);
        let batch = random.pick(&[1, 1, 2]);
        return ConvSpec {
            x: random.view(batch, extent, icg * groups),
            y: random.view(batch, [d, h, w], ocg * groups),
            residual: random.view(batch, [d, h, w], ocg * groups),
            kernel,
            stride,
            dilation,
            pads,
            groups,
            epilogue: epilogue(random),
        };
    }
}

#[test]
fn random_convolutions_agree_with_plain_loops() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..70 {
        let spec = random_spec(&mut random);
        each_level(&mut Case::new(spec, &mut random));
    }
}

const fn square(size: usize, ic: usize, oc: usize, kernel: usize) -> ConvSpec {
    let extent = [1, size, size];
    ConvSpec {
        x: View::channels_last(1, extent, ic),
        y: View::channels_last(1, extent, oc),
        residual: View::channels_last(1, extent, oc),
        kernel: [1, kernel, kernel],
        stride: [1; 3],
        dilation: [1; 3],
        pads: [0, kernel / 2, kernel / 2],
        groups: 1,
        epilogue: Epilogue::NONE,
    }
}

/// Code of a shape's own, at every level, against the shared code.
struct Own<S>(core::marker::PhantomData<S>);

impl<S: Shape<ConvSpec>> EachLevel for Own<S> {
    fn at<I: Isa>(&mut self, isa: I) {
        let case = Case::new(S::SPEC, &mut Random(41));
        let (mut shared, mut own) = (vec![7.5; case.want.len()], vec![7.5; case.want.len()]);
        isa.call(layer::SharedCode(case.job(&mut shared, Part::ALL)));
        for index in 0..2 {
            isa.call(layer::OwnCode::<S, _>::new(case.job(&mut own, Part { index, count: 2 })));
        }
        assert!(shared == own, "{}: {:?}", I::LEVEL.name(), case.spec);
    }
}

/// A square image, input and output channels, kernel, stride; pads so that `PADDED`, the output keeps its size.
struct Fixed<
    const SIZE: usize,
    const IC: usize,
    const OC: usize,
    const KERNEL: usize,
    const STRIDE: usize,
    const PADDED: bool,
>;

impl<
    const SIZE: usize,
    const IC: usize,
    const OC: usize,
    const KERNEL: usize,
    const STRIDE: usize,
    const PADDED: bool,
> Shape<ConvSpec> for Fixed<SIZE, IC, OC, KERNEL, STRIDE, PADDED>
{
    const SPEC: ConvSpec = {
        let pad = if PADDED { KERNEL / 2 } else { 0 };
        let out = (SIZE + 2 * pad - KERNEL) / STRIDE + 1;
        let y = View::channels_last(1, [1, out, out], OC);
        let mut epilogue = Epilogue { bias: true, ..Epilogue::NONE };
        if OC.is_multiple_of(2) {
            epilogue.residual = Residual::Before;
        }
        ConvSpec {
            x: View::channels_last(1, [1, SIZE, SIZE], IC),
            y,
            residual: y,
            stride: [1, STRIDE, STRIDE],
            pads: [0, pad, pad],
            epilogue,
            ..square(SIZE, IC, OC, KERNEL)
        }
    };
}

/// Another shape with SiLU or GELU, which own code applies in registers.
struct Curved<S, const GELU: bool>(core::marker::PhantomData<S>);

impl<S: Shape<ConvSpec>, const GELU: bool> Shape<ConvSpec> for Curved<S, GELU> {
    const SPEC: ConvSpec = {
        let mut spec = S::SPEC;
        spec.epilogue.activation = if GELU { Activation::Gelu } else { Activation::Swish { alpha: 1.5 } };
        spec
    };
}

#[test]
fn own_code_computes_the_same() {
    fn check<S: Shape<ConvSpec>>() {
        each_level(&mut Own::<S>(core::marker::PhantomData));
    }
    // Pixels that fill tiles exactly, leave a short or a long rest, are fewer than a tile; channels of several
    // panels, one, one narrow, with a rest; with and without edges.
    check::<Fixed<14, 5, 32, 1, 1, false>>();
    check::<Fixed<7, 3, 40, 1, 1, false>>();
    check::<Fixed<3, 4, 17, 1, 1, false>>();
    check::<Fixed<6, 2, 48, 3, 1, true>>();
    check::<Fixed<9, 3, 5, 3, 2, true>>();
    check::<Fixed<5, 17, 16, 3, 1, false>>();
    check::<Fixed<1, 20, 33, 1, 1, false>>();
    check::<Fixed<8, 1, 8, 5, 1, true>>();
    check::<Curved<Fixed<14, 5, 32, 1, 1, false>, false>>();
    check::<Curved<Fixed<14, 5, 32, 1, 1, false>, true>>();
    check::<Curved<Fixed<7, 3, 40, 1, 1, false>, false>>();
    check::<Curved<Fixed<7, 3, 40, 1, 1, false>, true>>();
    check::<Curved<Fixed<6, 2, 17, 3, 1, true>, false>>();
    check::<Curved<Fixed<6, 2, 17, 3, 1, true>, true>>();
}

#[test]
fn large_weights_go_block_by_block() {
    let mut random = Random(77);
    // 3·3·100·80 weights are above the limit; 300 input channels read zeros in several pieces.
    each_level(&mut Case::new(square(5, 100, 80, 3), &mut random));
    each_level(&mut Case::new(square(3, 300, 32, 3), &mut random));
}

#[test]
fn overlap_within_the_lead_gives_the_same_result() {
    let mut random = Random(99);
    for (size, ic, oc, kernel) in
        [(9, 8, 16, 1), (9, 16, 16, 3), (5, 16, 40, 3), (4, 3, 8, 5), (17, 33, 17, 1)]
    {
        let spec = square(size, ic, oc, kernel);
        let case = Case::new(spec, &mut random);
        let lead = safe_lead(&spec).unwrap() / 4;
        let (x_at, y_at) = if lead >= 0 { (lead as usize, 0) } else { (0, lead.unsigned_abs()) };
        struct Over<'a>(&'a Case, usize, usize);
        impl EachLevel for Over<'_> {
            fn at<I: Isa>(&mut self, isa: I) {
                let Over(case, x_at, y_at) = *self;
                let mut memory = vec![0.0f32; (x_at + case.x.len()).max(y_at + case.want.len())];
                memory[x_at..][..case.x.len()].copy_from_slice(&case.x);
                let base = memory.as_mut_ptr();
                let job = Job { x: base.wrapping_add(x_at), ordered: true, ..case.job(&mut [], Part::ALL) };
                isa.call(layer::SharedCode(Job { y: base.wrapping_add(y_at), ..job }));
                for i in 0..case.want.len() {
                    let (got, want) = (memory[y_at + i], case.want[i]);
                    let close = (got - want).abs() <= 1e-4 + 1e-4 * want.abs();
                    assert!(close, "{}: element {i} is {got}, not {want}", I::LEVEL.name());
                }
            }
        }
        each_level(&mut Over(&case, x_at, y_at));
    }
}

#[test]
fn lead_of_a_pointwise_convolution_is_what_the_last_pixel_needs() {
    // 48×48×8 → 16 channels: the output's end meets the input's end.
    let lead = safe_lead(&square(48, 8, 16, 1)).unwrap();
    assert_eq!(lead, (48 * 48 - 1) * (16 - 8) * 4);
    // As many channels: the output may lie exactly over the input.
    assert_eq!(safe_lead(&square(48, 16, 16, 1)), Some(0));
    // A planar output is not in the order of its pixels.
    let mut spec = square(4, 8, 16, 1);
    spec.y.c_stride = 16;
    spec.y.strides[2] = 1;
    assert_eq!(safe_lead(&spec), None);
}

#[test]
fn leads_are_bounds_of_every_pixel() {
    let mut random = Random(5);
    for _ in 0..200 {
        let spec = random_spec(&mut random);
        let tile = random.pick(&[0, 2, 14]);
        let Some(lead) = spatial_lead(&window(&spec), &spec.x, &spec.y, tile, 1) else { continue };
        // For each pixel: where its reads begin, and where its writes end.
        let pixels: Vec<(isize, isize)> = coordinates(&spec.y)
            .map(|(n, at)| {
                let from = core::array::from_fn(|a| (at[a] * spec.stride[a]).saturating_sub(spec.pads[a]));
                let ends = element(&spec.y, n, at, spec.y.channels - 1) + 1;
                (element(&spec.x, n, from, 0) as isize, ends as isize)
            })
            .collect();
        for p in 0..pixels.len() {
            if p + tile == 0 {
                continue;
            }
            let ends = pixels[..(p + tile).min(pixels.len())].iter().map(|v| v.1).max().unwrap();
            let first = pixels[p..].iter().map(|v| v.0).min().unwrap();
            assert!(ends - first <= lead, "pixel {p}, tile {tile}: {spec:?}");
        }
    }
}

struct Small<const OWN: bool>;

impl<const OWN: bool> Shape<ConvSpec> for Small<OWN> {
    const SPEC: ConvSpec = square(3, 2, 3, 1);
    const OWN: layer::Own = if OWN { layer::Own::Everywhere } else { layer::Own::Nowhere };
}

impl<const OWN: bool> ConvLayer for Small<OWN> {
    type Shape = Self;
    const FORM: Form = Form::Disjoint;
    type X = Slot<f32, 0, 18>;
    type W = Const<f32, 0, 16>;
    type Bias = Absent<f32>;
    type Scale = Absent<f32>;
    type Slope = Absent<f32>;
    type Residual = Absent<f32>;
    type Y = Slot<f32, 128, 27>;
}

#[test]
fn layers_run_from_an_arena() {
    let mut weights = [0; 64];
    // Output channels 0 and 1 copy input channels 0 and 1.
    weights[..4].copy_from_slice(&1f32.to_le_bytes());
    weights[9 * 4..10 * 4].copy_from_slice(&1f32.to_le_bytes());
    let blob = Blob::new(weights);
    for own in [false, true] {
        let mut arena = Arena::<256>::new();
        let mut mem = Mem::new(&mut arena);
        let (_, (x,)) = mem.borrow::<(), (Slot<f32, 0, 18>,)>(&blob);
        *x = core::array::from_fn(|i| i as f32);
        if own {
            run::<_, Small<true>, 256, 64>(crate::isa::Scalar::TOKEN, &mut mem, &blob, Part::ALL);
        } else {
            run::<_, Small<false>, 256, 64>(crate::isa::Scalar::TOKEN, &mut mem, &blob, Part::ALL);
        }
        let ((y,), _) = mem.borrow::<(Slot<f32, 128, 27>,), (Slot<f32, 0, 1>,)>(&blob);
        assert_eq!(y[..6], [0.0, 1.0, 0.0, 2.0, 3.0, 0.0]);
        assert_eq!(y[24..], [16.0, 17.0, 0.0]);
    }
}

/// The same layer with other places and forms.
struct Placed<const X: usize, const Y: usize, const FORM: usize>;

impl<const X: usize, const Y: usize, const FORM: usize> Shape<ConvSpec> for Placed<X, Y, FORM> {
    const SPEC: ConvSpec = square(4, 8, 8, 1);
}

impl<const X: usize, const Y: usize, const FORM: usize> ConvLayer for Placed<X, Y, FORM> {
    type Shape = Self;
    const FORM: Form = if FORM == 0 { Form::Disjoint } else { Form::Overlap };
    type X = Slot<f32, X, 128>;
    type W = Const<f32, 0, 64>;
    type Bias = Absent<f32>;
    type Scale = Absent<f32>;
    type Slope = Absent<f32>;
    type Residual = Absent<f32>;
    type Y = Slot<f32, Y, 128>;
}

#[test]
fn placements_that_are_proved() {
    prove::<Placed<0, 512, 0>, 1024, 256>();
    prove::<Placed<0, 0, 1>, 512, 256>();
    prove::<Placed<64, 0, 1>, 1024, 256>();
}

#[test]
#[should_panic = "overlaps its input"]
fn undeclared_overlap_is_refused() {
    prove::<Placed<0, 0, 0>, 512, 256>();
}

#[test]
#[should_panic = "overtakes the input"]
fn overtaking_is_refused() {
    prove::<Placed<0, 64, 1>, 1024, 256>();
}

#[test]
#[should_panic = "leaves the arena"]
fn leaving_the_arena_is_refused() {
    prove::<Placed<0, 512, 0>, 1020, 256>();
}

#[test]
#[should_panic = "leaves the weights"]
fn leaving_the_weights_is_refused() {
    prove::<Placed<0, 512, 0>, 1024, 252>();
}

/// Both ends of one buffer with 24 channels: reads `FROM..FROM+8`, writes `16..24`.
struct Interleaved<const FROM: usize>;

impl<const FROM: usize> Shape<ConvSpec> for Interleaved<FROM> {
    const SPEC: ConvSpec = {
        let mut spec = square(4, 8, 8, 1);
        let wide = View::channels_last(1, [1, 4, 4], 24);
        spec.x = View { channels: 8, offset: FROM, ..wide };
        spec.y = View { channels: 8, offset: 16, ..wide };
        spec
    };
}

impl<const FROM: usize> ConvLayer for Interleaved<FROM> {
    type Shape = Self;
    const FORM: Form = Form::Strided { pitch: 96 };
    type X = Slot<f32, 0, 384>;
    type W = Const<f32, 0, 64>;
    type Bias = Absent<f32>;
    type Scale = Absent<f32>;
    type Slope = Absent<f32>;
    type Residual = Absent<f32>;
    type Y = Slot<f32, 0, 384>;
}

#[test]
fn interleaving_is_proved() {
    prove::<Interleaved<0>, 1536, 256>();
    prove::<Interleaved<8>, 1536, 256>();
}

#[test]
#[should_panic = "overlaps its input"]
fn interleaving_that_meets_is_refused() {
    prove::<Interleaved<9>, 1536, 256>();
}
