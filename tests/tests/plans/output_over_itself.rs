// error: elements of the output share memory
// All pixels of the output are the same bytes, which threads would write at once.
#![forbid(unsafe_code)]
use edgec_runtime::kernels::{Form, layer::Shape, pool};
use edgec_runtime::spec::{Activation, PoolKind, PoolSpec, View};
use edgec_runtime::{Arena, Blob, Detected, Isa, Mem, Part, Scalar, Slot};
struct S;
impl Shape<PoolSpec> for S {
    const SPEC: PoolSpec = PoolSpec { kind: PoolKind::Max,
        x: View::channels_last(1, [1, 64, 64], 64),
        // every output pixel is the same memory
        y: View { offset: 0, batch: 1, extent: [1, 64, 64], channels: 64, n_stride: 0, strides: [0, 0, 0], c_stride: 1 },
        kernel: [1, 1, 1], stride: [1, 1, 1], dilation: [1, 1, 1], pads: [0; 3], pads_end: [0; 3], activation: Activation::None };
}
struct L;
impl pool::PoolLayer for L {
    type Shape = S;
    const FORM: Form = Form::Disjoint;
    type X = Slot<f32, 0, 262144>;
    type Y = Slot<f32, 1048576, 64>;
}
fn main() {
    let mut arena = Box::new(Arena::<1048832>::new());
    let blob = Blob::new([0u8; 0]);
    let mut mem = Mem::new(&mut arena);
    let isa = Scalar::of(Detected::SCALAR).unwrap();
    pool::run::<_, L, 1048832, 0>(isa, &mut mem, &blob, Part::ALL);
}
