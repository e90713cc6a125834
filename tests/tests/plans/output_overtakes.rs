// error: the output overtakes the input that it overlaps
// Sixteen channels are written over one: from the second pixel on, what is read is gone.
use edgec_runtime::kernels::{Form, conv};
use edgec_runtime::spec::{ConvSpec, Epilogue, View};
use edgec_runtime::{Absent, Arena, Blob, Const, Detected, Isa, Mem, Part, Scalar, Slot};

static WEIGHTS: Blob<64> = Blob::new([0; 64]);

struct Layer;

impl edgec_runtime::kernels::layer::Shape<ConvSpec> for Layer {
    const SPEC: ConvSpec = ConvSpec {
        x: View::channels_last(1, [1, 8, 8], 1),
        y: View::channels_last(1, [1, 8, 8], 16),
        residual: View::channels_last(1, [1, 8, 8], 16),
        kernel: [1, 1, 1],
        stride: [1, 1, 1],
        dilation: [1, 1, 1],
        pads: [0, 0, 0],
        groups: 1,
        epilogue: Epilogue::NONE,
    };
}

impl conv::ConvLayer for Layer {
    type Shape = Self;
    const FORM: Form = Form::Overlap;
    type X = Slot<f32, 0, 64>;
    type W = Const<f32, 0, 16>;
    type Bias = Absent<f32>;
    type Scale = Absent<f32>;
    type Slope = Absent<f32>;
    type Residual = Absent<f32>;
    type Y = Slot<f32, 64, 1024>;
}

fn main() {
    let mut arena = Box::new(Arena::<8192>::new());
    let mut mem = Mem::new(&mut arena);
    if let Some(isa) = Scalar::of(Detected::SCALAR) {
        conv::run::<_, Layer, 8192, 64>(isa, &mut mem, &WEIGHTS, Part::ALL);
    }
}
