// error: a written operand overlaps one that is read
// Two slots that share bytes are borrowed at once.
use edgec_runtime::{Arena, Blob, Mem, Slot};

static WEIGHTS: Blob<4> = Blob::new([0; 4]);

fn main() {
    let mut arena = Arena::<256>::new();
    let mut mem = Mem::new(&mut arena);
    let ((x,), (y,)) = mem.borrow::<(Slot<f32, 0, 16>,), (Slot<f32, 32, 16>,)>(&WEIGHTS);
    y.copy_from_slice(x);
}
