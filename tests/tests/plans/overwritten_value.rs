// error: a live value was overwritten
// Step 1 writes into what step 0 made and step 2 still reads.
use edgec_runtime::kernels::Form;
use edgec_runtime::plan::{CALLER, Range, Read, Step, check};

const PLAN: [Step; 3] = [
    Step {
        writes: &[Range::dense(64, 128)],
        reads: &[Read { range: Range::dense(0, 64), writers: &[CALLER], form: Form::Disjoint }],
    },
    Step {
        writes: &[Range::dense(96, 160)],
        reads: &[Read { range: Range::dense(0, 64), writers: &[CALLER], form: Form::Disjoint }],
    },
    Step {
        writes: &[Range::dense(192, 256)],
        reads: &[Read { range: Range::dense(64, 128), writers: &[0], form: Form::Disjoint }],
    },
];
const _: () = check(&PLAN, 256);

fn main() {}
