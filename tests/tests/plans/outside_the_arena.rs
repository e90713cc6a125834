// error: leaves the arena
// The last value ends behind the arena.
use edgec_runtime::plan::{Range, Step, check};

const PLAN: [Step; 1] = [Step { writes: &[Range::dense(200, 264)], reads: &[] }];
const _: () = check(&PLAN, 256);

fn main() {}
