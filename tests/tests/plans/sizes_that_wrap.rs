// error: the input leaves its slot
// 2^33 rows of 2^31 values: their product is 0 in 64 bits, and must not pass for it.
#![forbid(unsafe_code)]
use edgec_runtime::kernels::{Form, layer::Shape, softmax};
use edgec_runtime::spec::SoftmaxSpec;
use edgec_runtime::{Arena, Blob, Detected, Isa, Mem, Part, Scalar, Slot};
struct S;
impl Shape<SoftmaxSpec> for S {
    const SPEC: SoftmaxSpec = SoftmaxSpec { outer: 1 << 33, len: 1 << 31, inner: 1, log: false };
}
struct L;
impl softmax::SoftmaxLayer for L {
    type Shape = S;
    const FORM: Form = Form::Disjoint;
    type X = Slot<f32, 0, 4>;
    type Y = Slot<f32, 64, 4>;
}
fn main() {
    let mut arena = Box::new(Arena::<128>::new());
    let blob = Blob::new([0u8; 0]);
    let mut mem = Mem::new(&mut arena);
    let isa = Scalar::of(Detected::SCALAR).unwrap();
    softmax::run::<_, L, 128, 0>(isa, &mut mem, &blob, Part::ALL);
}
