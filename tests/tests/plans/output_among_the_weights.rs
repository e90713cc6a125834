// error: an output is not in the arena
// The hidden states would be written behind the arena, at the place that they have in the weights.
#![forbid(unsafe_code)]
use edgec_runtime::kernels::{Form, layer::Shape, recurrent};
use edgec_runtime::spec::{RecurrentKind, RecurrentSpec};
use edgec_runtime::{Absent, Arena, Blob, Const, Detected, Isa, Mem, Part, Scalar, Slot};
struct S;
impl Shape<RecurrentSpec> for S {
    const SPEC: RecurrentSpec = RecurrentSpec { kind: RecurrentKind::Lstm, steps: 1, batch: 1, hidden: 16, backwards: false,
      x_step: 64, x_batch: 64, y_offset: 0, y_step: 16, y_batch: 16, state_offset: 0, state_batch: 16 };
}
struct L;
impl recurrent::RecurrentLayer for L {
    type Shape = S;
    const FORM: Form = Form::Disjoint;
    type X = Const<f32, 0, 64>;
    type R = Const<f32, 0, 1024>;
    type Bias = Absent<f32>;
    type FirstH = Absent<f32>;
    type FirstC = Absent<f32>;
    type Y = Const<f32, 4352, 16>;
    type LastH = Absent<f32>;
    type LastC = Absent<f32>;
    type State = Slot<f32, 0, 48>;
}
static B: Blob<8192> = Blob::new([0u8; 8192]);
fn main() {
    let mut arena = Box::new(Arena::<192>::new());
    let mut mem = Mem::new(&mut arena);
    let isa = Scalar::of(Detected::SCALAR).unwrap();
    recurrent::run::<_, L, 192, 8192>(isa, &mut mem, &B, Part::ALL);
}
