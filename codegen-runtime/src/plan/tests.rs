//! Plans that pass and plans that must not.

use super::*;

macro_rules! plan {
    ($($step:tt)*) => {{
        const PLAN: &[Step] = &[$($step)*];
        PLAN
    }};
}

const fn read(range: Range, writers: &'static [usize]) -> Read {
    Read { range, writers, form: Form::Disjoint }
}

const A: Range = Range::dense(0, 64);
const B: Range = Range::dense(64, 128);
/// Two parts of a concatenation: 8 rows of 16 bytes, 4 and 12 bytes of each.
const LEFT: Range = Range::strided(0, 4, 16, 8);
const RIGHT: Range = Range::strided(4, 12, 16, 8);
const BOTH: Range = Range::dense(0, 128);

#[test]
fn chains_pass_at_compile_time() {
    const PLAN: [Step; 3] = [
        Step { writes: &[B], reads: &[read(A, &[CALLER])] },
        Step { writes: &[A], reads: &[read(B, &[0])] },
        Step { writes: &[], reads: &[read(A, &[1])] },
    ];
    const _: () = check(&PLAN, 128);
}

#[test]
fn concatenations_pass() {
    const PLAN: [Step; 5] = [
        Step { writes: &[LEFT], reads: &[] },
        Step { writes: &[RIGHT], reads: &[read(LEFT, &[0])] },
        Step { writes: &[], reads: &[read(BOTH, &[0, 1])] },
        Step { writes: &[], reads: &[read(Range::strided(0, 16, 16, 4), &[0, 1])] },
        Step { writes: &[], reads: &[read(Range::strided(20, 8, 16, 7), &[1])] },
    ];
    const _: () = check(&PLAN, 128);
    check(
        plan![
            Step { writes: &[A], reads: &[] },
            Step { writes: &[B], reads: &[] },
            Step { writes: &[], reads: &[read(BOTH, &[0, 1])] },
        ],
        128,
    );
}

#[test]
fn fills_under_an_interior_pass() {
    let plan = plan![
        Step { writes: &[BOTH], reads: &[] },
        Step { writes: &[Range::strided(4, 8, 16, 8)], reads: &[] },
        Step { writes: &[], reads: &[read(BOTH, &[0, 1])] },
    ];
    check(plan, 128);
}

#[test]
#[should_panic = "overlaps a read, undeclared, in step 0"]
fn undeclared_overlap_is_refused() {
    check(plan![Step { writes: &[A], reads: &[read(Range::dense(60, 80), &[CALLER])] }], 128);
}

#[test]
fn declared_overlap_passes() {
    const OVER: Read = Read { range: A, writers: &[CALLER], form: Form::Overlap };
    check(plan![Step { writes: &[A], reads: &[OVER] }], 128);
}

#[test]
#[should_panic = "overwritten before it was read in step 2"]
fn overwriting_a_live_value_is_refused() {
    let plan = plan![
        Step { writes: &[A], reads: &[] },
        Step { writes: &[Range::dense(32, 96)], reads: &[] },
        Step { writes: &[], reads: &[read(A, &[0])] },
    ];
    check(plan, 128);
}

#[test]
#[should_panic = "overwritten before it was read in step 1"]
fn overwriting_an_input_is_refused() {
    let plan = plan![Step { writes: &[A], reads: &[] }, Step { writes: &[], reads: &[read(A, &[CALLER])] }];
    check(plan, 128);
}

#[test]
#[should_panic = "not covered by its writers in step 1"]
fn a_missing_part_is_refused() {
    check(
        plan![Step { writes: &[RIGHT], reads: &[] }, Step { writes: &[], reads: &[read(BOTH, &[0])] }],
        128,
    );
}

#[test]
#[should_panic = "not covered by its writers in step 2"]
fn a_missing_row_is_refused() {
    let plan = plan![
        Step { writes: &[LEFT], reads: &[] },
        Step { writes: &[Range::strided(4, 12, 16, 7)], reads: &[] },
        Step { writes: &[], reads: &[read(BOTH, &[0, 1])] },
    ];
    check(plan, 128);
}

#[test]
#[should_panic = "not covered by its writers in step 1"]
fn a_value_without_writer_is_refused() {
    check(plan![Step { writes: &[B], reads: &[] }, Step { writes: &[], reads: &[read(A, &[0])] }], 128);
}

#[test]
#[should_panic = "before it is written in step 0"]
fn reading_the_future_is_refused() {
    check(plan![Step { writes: &[B], reads: &[read(A, &[1])] }, Step { writes: &[A], reads: &[] }], 128);
}

#[test]
#[should_panic = "leaves the arena or is malformed in step 12"]
fn leaving_the_arena_is_refused() {
    let mut plan = [Step { writes: &[A], reads: &[] }; 13];
    plan[12] = Step { writes: &[BOTH], reads: &[] };
    check(&plan, 127);
}

#[test]
fn meeting_is_exact() {
    // Every pair of small ranges of one pitch, against their bytes.
    let bytes = |r: &Range| -> u64 {
        (0..r.rows())
            .fold(0, |bits, row| bits | (((1u64 << r.run) - 1) << (r.start + row as usize * r.pitch)))
    };
    let mut ranges = std::vec::Vec::new();
    for start in 0..12 {
        for run in 1..5 {
            for rows in 1..4 {
                ranges.push(Range::strided(start, run, 5, rows));
            }
        }
        ranges.push(Range::dense(start, start + 7));
    }
    for a in &ranges {
        for b in &ranges {
            assert_eq!(a.meets(b), bytes(a) & bytes(b) != 0, "{a:?} {b:?}");
        }
    }
}

#[test]
fn coverage_is_never_claimed_falsely() {
    let mut ranges = std::vec::Vec::new();
    for start in [0, 1, 3, 5, 6] {
        for run in [1, 2, 3, 4] {
            for rows in [1, 2, 3] {
                ranges.push(Range::strided(start, run, 5, rows));
            }
        }
        ranges.push(Range::dense(start, start + 9));
    }
    let bytes = |r: &Range| -> u64 {
        (0..r.rows())
            .fold(0, |bits, row| bits | (((1u64 << r.run) - 1) << (r.start + row as usize * r.pitch)))
    };
    for a in &ranges {
        for b in &ranges {
            let writes: &'static [Range] = std::boxed::Box::leak(std::boxed::Box::new([*a]));
            let more: &'static [Range] = std::boxed::Box::leak(std::boxed::Box::new([*b]));
            let plan = [Step { writes, reads: &[] }, Step { writes: more, reads: &[] }];
            for r in &ranges {
                let all = bytes(a) | bytes(b);
                if covered(&plan, &[], &read(*r, &[0, 1]), 0, 2, At::Step(2)) {
                    assert_eq!(bytes(r) & !all, 0, "{a:?} {b:?} {r:?}");
                }
            }
            assert!(covered(&plan, &[], &read(*a, &[0, 1]), 0, 2, At::Step(2)));
        }
    }
}

/// A loop of steps 1 and 2 that carries `A`; step 0 makes its first value.
const LOOP: &[Region] = &[Region { first: 1, end: 3, control: Control::Loop }];

#[test]
fn a_loop_carries_what_it_writes() {
    let plan = plan![
        Step { writes: &[A], reads: &[] },
        Step { writes: &[B], reads: &[read(A, &[0, 2])] },
        Step { writes: &[A], reads: &[read(B, &[1])] },
        Step { writes: &[], reads: &[read(A, &[0, 2])] },
    ];
    check_regions(plan, LOOP, 128);
}

#[test]
#[should_panic = "overwritten before it was read in step 1"]
fn a_loop_keeps_what_it_reads_from_outside() {
    let plan = plan![
        Step { writes: &[A], reads: &[] },
        Step { writes: &[B], reads: &[read(A, &[0])] },
        Step { writes: &[A], reads: &[read(B, &[1])] },
    ];
    check_regions(plan, LOOP, 128);
}

#[test]
#[should_panic = "not covered by its writers in step 1"]
fn a_first_iteration_finds_its_state() {
    let plan = plan![
        Step { writes: &[B], reads: &[] },
        Step { writes: &[B], reads: &[read(A, &[2])] },
        Step { writes: &[A], reads: &[] },
    ];
    check_regions(plan, LOOP, 128);
}

#[test]
#[should_panic = "not covered by its writers in step 3"]
fn a_loop_may_end_at_once() {
    let plan = plan![
        Step { writes: &[B], reads: &[] },
        Step { writes: &[A], reads: &[] },
        Step { writes: &[B], reads: &[] },
        Step { writes: &[], reads: &[read(A, &[1])] },
    ];
    check_regions(plan, LOOP, 128);
}

/// Step 1 in one branch, step 2 in the other.
const BRANCH: &[Region] = &[Region { first: 1, end: 3, control: Control::Branch { otherwise: 2 } }];

#[test]
fn both_branches_make_a_value() {
    let plan = plan![
        Step { writes: &[B], reads: &[] },
        Step { writes: &[A], reads: &[read(B, &[0])] },
        Step { writes: &[A], reads: &[read(B, &[0])] },
        Step { writes: &[], reads: &[read(A, &[1, 2])] },
    ];
    check_regions(plan, BRANCH, 128);
}

#[test]
#[should_panic = "not covered by its writers in step 3"]
fn one_branch_is_not_enough() {
    let plan = plan![
        Step { writes: &[B], reads: &[] },
        Step { writes: &[A], reads: &[] },
        Step { writes: &[B], reads: &[] },
        Step { writes: &[], reads: &[read(A, &[1])] },
    ];
    check_regions(plan, BRANCH, 128);
}

#[test]
#[should_panic = "not covered by its writers in step 2"]
fn a_branch_does_not_see_the_other() {
    let plan = plan![
        Step { writes: &[B], reads: &[] },
        Step { writes: &[A], reads: &[] },
        Step { writes: &[B], reads: &[read(A, &[1])] },
    ];
    check_regions(plan, BRANCH, 128);
}

#[test]
fn branches_nest() {
    // Steps 1 and 2 are the branches of an `If` in the first branch of another, step 3 is the second.
    const NESTED: &[Region] = &[
        Region { first: 1, end: 4, control: Control::Branch { otherwise: 3 } },
        Region { first: 1, end: 3, control: Control::Branch { otherwise: 2 } },
    ];
    let plan = plan![
        Step { writes: &[B], reads: &[] },
        Step { writes: &[A], reads: &[] },
        Step { writes: &[A], reads: &[] },
        Step { writes: &[A], reads: &[] },
        Step { writes: &[], reads: &[read(A, &[1, 2, 3])] },
    ];
    check_regions(plan, NESTED, 128);
}

/// A loop of steps 0 to 3 around one of steps 2 and 3.
const LOOPS: &[Region] = &[
    Region { first: 0, end: 4, control: Control::Loop },
    Region { first: 2, end: 4, control: Control::Loop },
];

#[test]
fn a_loop_in_a_loop_starts_anew() {
    // Step 1 makes what steps 2 and 3 carry, so that step 0 may use the place.
    let plan = plan![
        Step { writes: &[A], reads: &[] },
        Step { writes: &[A], reads: &[] },
        Step { writes: &[B], reads: &[read(A, &[1, 3])] },
        Step { writes: &[A], reads: &[read(B, &[2])] },
    ];
    check_regions(plan, LOOPS, 128);
}

#[test]
#[should_panic = "overwritten before it was read in step 3"]
fn a_loop_in_a_loop_keeps_what_comes_from_around_both() {
    let plan = plan![
        Step { writes: &[A], reads: &[] },
        Step { writes: &[B], reads: &[] },
        Step { writes: &[], reads: &[] },
        Step { writes: &[B], reads: &[read(A, &[0])] },
        Step { writes: &[A], reads: &[] },
    ];
    const OUTER: &[Region] = &[
        Region { first: 1, end: 5, control: Control::Loop },
        Region { first: 2, end: 4, control: Control::Loop },
    ];
    check_regions(plan, OUTER, 128);
}
