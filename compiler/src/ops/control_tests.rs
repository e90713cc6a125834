//! Branches and loops, from the text of a model to lowered steps: these against the evaluation, the evaluation
//! against what is written here, and the plan of the arena against the runtime's check.

use super::lowered_tests::run_lowered;
use super::testing::f32s;
use crate::diag::Diagnostics;
use crate::frontend::{Options, load_model};
use crate::ir::Tensor;
use crate::memory::{self, PlanOptions, SCALAR_ALIGN};
use crate::onnx::ExternalData;
use crate::onnx::text::parse_model;
use crate::ops::Graph;
use crate::schedule::{Schedule, ScheduleOptions, lower};
use edgec_runtime::plan;

fn import(graph: &str) -> Result<Graph, Diagnostics> {
    import_at(17, graph)
}

fn import_at(opset: i64, graph: &str) -> Result<Graph, Diagnostics> {
    let text = format!("<ir_version: 9, opset_import: [\"\": {opset}]> {graph}");
    let model = parse_model(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    load_model(&model, &ExternalData::none(), &Options::default()).map(|i| i.graph)
}

/// Evaluates and runs the lowered steps, with and without passes; the results.
fn run(graph: &Graph, inputs: &[Tensor]) -> Vec<Vec<f64>> {
    let wanted: Vec<Vec<f64>> =
        crate::interp::run(graph, inputs).unwrap().iter().map(|t| t.to_f64_vec().unwrap()).collect();
    let mut optimized = graph.clone();
    crate::passes::optimize(&mut optimized).unwrap();
    for graph in [graph, &optimized] {
        let schedule = lower(graph, &ScheduleOptions::default()).unwrap();
        check_plan(&schedule);
        assert_eq!(run_lowered(&schedule, inputs), wanted);
    }
    wanted
}

/// The runtime's check of a schedule's plan.
fn check_plan(schedule: &Schedule) {
    let plan = memory::plan(schedule, &PlanOptions { align: SCALAR_ALIGN });
    let table = memory::table(schedule, &plan);
    let steps: Vec<plan::Step> = table
        .steps
        .into_iter()
        .map(|s| plan::Step {
            writes: s.writes.leak(),
            reads: s
                .reads
                .into_iter()
                .map(|r| plan::Read { range: r.range, writers: r.writers.leak(), form: r.form })
                .collect::<Vec<_>>()
                .leak(),
        })
        .collect();
    plan::check_regions(&steps, &table.regions, plan.arena_bytes);
}

fn bool(truth: bool) -> Tensor {
    Tensor::scalar(truth)
}

fn messages(result: Result<Graph, Diagnostics>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn branches_read_what_is_around_them() {
    let graph = import(
        "g (float[2] x, bool c) => (z, w) <float[2] k = {10.0, 20.0}> {
            y = Neg(x)
            a, b = If (c) <
                then_branch = t () => (u, v) { u = Add(y, k) v = Mul(u, y) },
                else_branch = e () => (u, v) { v = Identity(x) u = Identity(k) }>
            z = Add(a, x)
            w = Identity(b)
        }",
    )
    .unwrap();
    let x = f32s(&[2], &[1., 2.]);
    assert_eq!(run(&graph, &[x.clone(), bool(true)]), [[10., 20.], [-9., -36.]]);
    assert_eq!(run(&graph, &[x, bool(false)]), [[11., 22.], [1., 2.]]);
}

#[test]
fn branches_nest() {
    let graph = import(
        "g (float[2] x, bool c, bool d) => (z) {
            z = If (c) <
                then_branch = t () => (u) {
                    n = Neg(x)
                    u = If (d) <
                        then_branch = tt () => (uu) { uu = Add(n, n) },
                        else_branch = te () => (uu) { uu = Mul(n, x) }>
                },
                else_branch = e () => (u) { u = Abs(x) }>
        }",
    )
    .unwrap();
    for (c, d, z) in [(true, true, [-2., -6.]), (true, false, [-1., -9.]), (false, true, [1., 3.])] {
        assert_eq!(run(&graph, &[f32s(&[2], &[1., 3.]), bool(c), bool(d)]), [z]);
    }
}

#[test]
fn branches_must_agree() {
    let of = |then: &str, other: &str| {
        import(&format!(
            "g (float[2] x, bool c) => (z) {{ z = If (c) <
                then_branch = t () => (u) {{ {then} }}, else_branch = e () => (u) {{ {other} }}> }}"
        ))
    };
    assert!(of("u = Neg(x)", "u = Abs(x)").is_ok());
    let shapes = messages(of("u = Neg(x)", "u = Concat <axis = 0> (x, x)"));
    assert!(shapes.contains("[2] or [4]") && shapes.contains("--bind"), "{shapes}");
    let types = messages(of("u = Neg(x)", "u = Cast <to = 7> (x)"));
    assert!(types.contains("f32 in one branch and i64"), "{types}");
    // A fault within a branch is told once, and nothing else.
    let inner = messages(of("u = Nonsense(x)", "u = Abs(x)"));
    assert_eq!(inner.matches("error").count(), 1, "{inner}");
}

#[test]
fn branches_nest_no_deeper_than_the_limit() {
    let text = "<ir_version: 9, opset_import: [\"\": 17]> g (float[2] x, bool c) => (u) {
        u = If (c) <then_branch = t () => (u) { u = Neg(x) }, else_branch = e () => (u) { u = Abs(x) }> }";
    let deep = |levels: usize| {
        let mut model = parse_model(text).unwrap();
        let whole = &mut model.graph.as_mut().unwrap().node[0];
        for _ in 0..levels {
            let inner = whole.clone();
            let then = whole.attribute.iter_mut().find(|a| a.name == "then_branch").unwrap();
            then.g.as_mut().unwrap().node = vec![inner];
        }
        load_model(&model, &ExternalData::none(), &Options::default()).map(|i| i.graph)
    };
    let graph = deep(25).unwrap();
    assert_eq!(run(&graph, &[f32s(&[2], &[1., -3.]), bool(true)]), [[-1., 3.]]);
    assert!(messages(deep(60)).contains("deeper"));
}

#[test]
fn loops_carry_states_and_give_rows() {
    let graph = import(
        "g (float[2] x) => (s, t, rows, same) <int64 m = {4}, float[2] k = {1.0, 2.0}> {
            y = Neg(x)
            s, t, same, rows = Loop (m, , x, y, k) <body = b (int64 i, bool c, float[2] a, float[2] b, float[2] z) => (c2, b, a2, z2, row) {
                c2 = Identity(c)
                z2 = Identity(z)
                f = Cast <to = 1> (i)
                a2 = Add(a, z)
                row = Mul(b, f)
            }>
        }",
    )
    .unwrap();
    let ops: Vec<&str> = graph.nodes().map(|(_, n)| n.op.as_op().name()).collect();
    assert_eq!(ops, ["Neg", "Loop"]);
    // (a, b) → (b, a + z), from (x, -x).
    let found = run(&graph, &[f32s(&[2], &[1., 10.])]);
    let (mut a, mut b, z) = ([1., 10.], [-1., -10.], [1., 2.]);
    let mut rows = Vec::new();
    for i in 0..4 {
        rows.extend(b.map(|v: f64| v * f64::from(i)));
        (a, b) = (b, [a[0] + z[0], a[1] + z[1]]);
    }
    assert_eq!(found, [a.to_vec(), b.to_vec(), rows, z.to_vec()]);
}

#[test]
fn loops_end_by_condition() {
    // Doubles until the sum is 100 or more, ten times at most.
    let text = |count: &str, condition: &str| {
        format!(
            "g (float[2] x, int64 n, bool go) => (y, times) <int64 m = {{10}}, float limit = {{100.0}}, int64 zero = {{0}}> {{
                y, times = Loop ({count}, {condition}, x, zero) <body = b (int64 i, bool c, float[2] a, int64 k) => (more, a2, i2) {{
                    a2 = Add(a, a)
                    sum = ReduceSum <keepdims = 0> (a2)
                    more = Less(sum, limit)
                    one = Constant <value_int = 1> ()
                    i2 = Add(i, one)
                }}>
            }}"
        )
    };
    let x = f32s(&[2], &[1., 2.]);
    for (count, condition) in [("m", ""), ("n", ""), ("", "go"), ("n", "go"), ("m", "go")] {
        let graph = import(&text(count, condition)).unwrap();
        for n in [0, 3, 20] {
            for go in [true, false] {
                let limit = match count {
                    "m" => 10,
                    "n" => n,
                    _ => i64::MAX,
                };
                let (mut sum, mut times, mut goes) = (3.0, 0, go || condition.is_empty());
                while goes && times < limit {
                    (sum, times) = (2.0 * sum, times + 1);
                    goes = sum < 100.0;
                }
                let found = run(&graph, &[x.clone(), Tensor::scalar(n), bool(go)]);
                assert_eq!(
                    found,
                    [vec![sum / 3.0, sum / 1.5], vec![times as f64]],
                    "{count} {condition} {n} {go}"
                );
            }
        }
    }
}

#[test]
fn loops_nest() {
    // Sum over i < 3, j < 4 of (i · x + j), rows of rows.
    let graph = import(
        "g (float x, bool flag) => (s, rows) <int64 m = {3}, int64 n = {4}, float zero = {0.0}> {
            s, rows = Loop (m, , zero) <body = outer (int64 i, bool c, float acc) => (c, s2, row) {
                fi = Cast <to = 1> (i)
                ix = Mul(fi, x)
                s2, row = Loop (n, , acc) <body = inner (int64 j, bool d, float acc2) => (d, s3, term) {
                    fj = Cast <to = 1> (j)
                    term = If (flag) <
                        then_branch = t () => (u) { u = Add(ix, fj) },
                        else_branch = e () => (u) { u = Sub(ix, fj) }>
                    s3 = Add(acc2, term)
                }>
            }>
        }",
    )
    .unwrap();
    for (flag, sign) in [(true, 1.0), (false, -1.0)] {
        let found = run(&graph, &[f32s(&[], &[5.]), bool(flag)]);
        let terms: Vec<f64> = (0..12).map(|k| f64::from(k / 4) * 5.0 + sign * f64::from(k % 4)).collect();
        assert_eq!(found, [vec![terms.iter().sum()], terms]);
    }
}

#[test]
fn loops_without_fixed_shapes_are_unrolled() {
    let graph = import(
        "g (float[1] x) => (y, rows) <int64 m = {3}> {
            y, rows = Loop (m, , x) <body = b (int64 i, bool c, float[n] a) => (c, a2, row) {
                a2 = Concat <axis = 0> (a, x)
                row = Identity(i)
            }>
        }",
    )
    .unwrap();
    assert_eq!(run(&graph, &[f32s(&[1], &[2.])]), [vec![2.; 4], vec![0., 1., 2.]]);
    let of = |head: &str, count: &str| {
        messages(import(&format!(
            "g ({head}float[1] x) => (y) {{ y = Loop ({count}, , x) <body = b (int64 i, bool c, float[n] a) => (c, a2) {{
                a2 = Concat <axis = 0> (a, x) }}> }}"
        )))
    };
    let open = of("int64 m, ", "m");
    assert!(
        open.contains("[1] before an iteration and [2] behind it") && open.contains("ScatterND"),
        "{open}"
    );
    assert!(of("", "").contains("nothing ends"));
}

#[test]
fn rows_need_a_known_number() {
    let of = |count: &str, condition: &str, wanted: &str| {
        import(&format!(
            "g (float[2] x, int64 n, float limit) => (y) <int64 m = {{3}}> {{
                y{wanted} = Loop ({count}, , x) <body = b (int64 i, bool c, float[2] a) => ({condition}, a2, a) {{
                    a2 = Add(a, x)
                    sum = ReduceSum <keepdims = 0> (a2)
                    more = Less(sum, limit)
                }}>
            }}"
        ))
    };
    assert!(of("m", "c", ", rows").is_ok());
    // As many at most, and a length.
    assert_eq!(of("m", "more", ", rows").unwrap().lengths.len(), 0, "rows are no output of the graph");
    for (count, condition) in [("n", "c"), ("", "more")] {
        let why = messages(of(count, condition, ", rows"));
        assert!(why.contains("row for each iteration") && why.contains("--bind"), "{why}");
        assert!(of(count, condition, "").is_ok());
    }
}

#[test]
fn known_loops_fold_within_limits() {
    let text = |m: i64| {
        format!(
            "g () => (y) <int64 m = {{{m}}}, int64 zero = {{0}}> {{
                y = Loop (m, , zero) <body = b (int64 i, bool c, int64 a) => (c, a2) {{ a2 = Add(a, i) }}> }}"
        )
    };
    let graph = import(&text(10)).unwrap();
    assert_eq!(graph.constant(graph.outputs[0].1).unwrap().to_i64_vec().unwrap(), [45]);
    // For ever: neither folded nor unrolled, but a loop.
    let graph = import(&text(i64::MAX)).unwrap();
    assert!(graph.constant(graph.outputs[0].1).is_none());
    assert!(lower(&graph, &ScheduleOptions::default()).is_ok());
    // What a condition ends is tried, and given up.
    let endless = "g () => (y) <bool t = {1}, int64 zero = {0}> {
        y = Loop (, t, zero) <body = b (int64 i, bool c, int64 a) => (more, a2) {
            a2 = Add(a, i) b = Abs(a2) more = Equal(a2, b) }> }";
    let mut graph = import(endless).unwrap();
    crate::passes::optimize(&mut graph).unwrap();
    assert!(graph.constant(graph.outputs[0].1).is_none());
}

#[test]
fn work_of_loops_saturates() {
    let text = "g (float[2, 2] x) => (y) <int64 m = {9223372036854775807}> {
        y = Loop (m, , x) <body = b (int64 i, bool c, float[2, 2] a) => (c, d) { e = MatMul(a, x) d = MatMul(e, x) }> }";
    let graph = import(text).unwrap();
    assert_eq!(lower(&graph, &ScheduleOptions::default()).unwrap().macs(), u64::MAX);
}

#[test]
fn scans_run_along_axes_both_ways() {
    let graph = import(
        "g (float[2] s, float[2, 3] x, float[3] w) => (last, rows, columns) {
            last, rows, columns = Scan (s, x, w) <
                num_scan_inputs = 2, scan_input_axes = [-1, 0], scan_input_directions = [1, 0],
                scan_output_axes = [0, 1], scan_output_directions = [0, 1],
                body = b (float[2] a, float[2] column, float weight) => (a2, a2, scaled) {
                    scaled = Mul(column, weight)
                    a2 = Add(a, scaled)
                }>
        }",
    )
    .unwrap();
    let x = f32s(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
    let found = run(&graph, &[f32s(&[2], &[0.5, -0.5]), x, f32s(&[3], &[1., 10., 100.])]);
    assert_eq!(
        found,
        [
            vec![123.5, 455.5],
            vec![3.5, 5.5, 23.5, 55.5, 123.5, 455.5],
            // Columns in reverse.
            vec![100., 20., 3., 400., 50., 6.],
        ]
    );
    let bad = "g (float[2] s, float[3] x) => (l) { l = Scan (s, x) <num_scan_inputs = 2, \
               body = b (float a, float c) => (a) {}> }";
    assert!(messages(import(bad)).contains("3 iterations") || messages(import(bad)).contains("2 iterations"));
}

#[test]
fn scans_of_batches() {
    let of = |lengths: &str| {
        import_at(
            8,
            &format!(
                "g (int64[2] n, float[2] s, float[2, 3] x) => (last, rows) {{
                    last, rows = Scan ({lengths}, s, x) <num_scan_inputs = 1, directions = [1],
                        body = b (float a, float v) => (a2, a2) {{ a2 = Add(a, v) }}> }}"
            ),
        )
        .unwrap()
    };
    let inputs =
        |n: [i64; 2]| [Tensor::vector(&n), f32s(&[2], &[0., 100.]), f32s(&[2, 3], &[1., 2., 3., 4., 5., 6.])];
    let all = [vec![6., 115.], vec![3., 5., 6., 106., 111., 115.]];
    assert_eq!(run(&of(""), &inputs([0, 0])), all);
    assert_eq!(run(&of("n"), &inputs([3, 9])), all);
    let some = [vec![0., 111.], vec![0., 0., 0., 106., 111., 0.]];
    assert_eq!(run(&of("n"), &inputs([-1, 2])), some);
}

#[test]
fn states_may_be_each_other_or_the_number() {
    let graph = import(
        "g (float[2] x, float[2] y, int64 n) => (a, b, at, row) <int64 zero = {0}, int64 m = {3}> {
            a, b, at = Loop (n, , x, y, zero) <body = l (int64 i, bool c, float[2] p, float[2] q, int64 k) => (c, q, p, i) {}>
            last, row = Loop (m, , x) <body = l (int64 i, bool c, float[2] p) => (c, p2, p) { p2 = Add(p, y) }>
        }",
    )
    .unwrap();
    let (x, y) = (f32s(&[2], &[1., 2.]), f32s(&[2], &[3., 4.]));
    let row = vec![1., 2., 4., 6., 7., 10.];
    for n in [0, 1, 2, 5] {
        let (a, b) = if n % 2 == 0 { (vec![1., 2.], vec![3., 4.]) } else { (vec![3., 4.], vec![1., 2.]) };
        let at = vec![f64::from((n - 1).max(0))];
        let found = run(&graph, &[x.clone(), y.clone(), Tensor::scalar(i64::from(n))]);
        assert_eq!(found, [a, b, at, row.clone()]);
    }
}

#[test]
fn passes_hand_on_what_they_find() {
    let mut graph = import(
        "g (float[2] x, float[2] v, bool c) => (y, z) <int64 m = {2}> {
            k = Neg(v)
            y = If (c) <then_branch = t () => (u) { u = Mul(x, k) }, else_branch = e () => (u) { u = Add(k, x) }>
            z = Loop (m, , x) <body = b (int64 i, bool go, float[2] a) => (go, b) { d = Sub(a, k) b = Mul(d, x) }>
        }",
    )
    .unwrap();
    // As if a pass had found it.
    let k = graph.nodes().next().and_then(|(_, n)| n.outputs[0]).unwrap();
    graph.set_constant(k, f32s(&[2], &[-1., -2.]));
    let inputs = [f32s(&[2], &[3., 4.]), f32s(&[2], &[1., 2.]), bool(true)];
    assert_eq!(run(&graph, &inputs), [vec![-3., -8.], vec![39., 104.]]);
    crate::passes::optimize(&mut graph).unwrap();
    let operands: Vec<usize> = graph.nodes().map(|(_, n)| n.inputs.len()).collect();
    assert_eq!(operands, [2, 2], "the condition and `x`; `x` as the first state and as what the body takes");
    let branch = graph.producer(graph.outputs[0].1).unwrap().1;
    let condition = branch.inputs[0].unwrap();
    graph.set_constant(condition, bool(false));
    let schedule = lower(&graph, &ScheduleOptions::default()).unwrap();
    assert!(schedule.regions.iter().all(|r| r.control.repeats()));
    assert_eq!(run_lowered(&schedule, &inputs)[0], [2., 2.]);
}
