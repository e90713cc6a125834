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
