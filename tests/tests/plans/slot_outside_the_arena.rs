// error: operand leaves the arena
// A slot is longer than the arena.
use edgec_runtime::{Arena, Blob, Mem, Slot};

static WEIGHTS: Blob<4> = Blob::new([0; 4]);

fn main() {
    let mut arena = Arena::<64>::new();
    let mut mem = Mem::new(&mut arena);
    let ((), (y,)) = mem.borrow::<(), (Slot<f32, 0, 17>,)>(&WEIGHTS);
    y[16] = 1.0;
}
