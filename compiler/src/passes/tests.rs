//! The manager's own rules. What each pass does is tested with text files.

use super::*;
use crate::ir::{DType, Shape, Tensor, ValueId};
use crate::kernel::expr::{BinaryFn, UnaryFn};
use crate::ops::OpKind;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::expand::Expand;
use crate::ops::unary::Unary;

fn node(g: &mut Graph, op: impl Into<OpKind>, inputs: &[ValueId], name: &str, shape: &[usize]) -> ValueId {
    let inputs = inputs.iter().map(|&v| Some(v)).collect();
    let outputs = vec![Some((name.to_owned(), DType::F32, Shape::from(shape)))];
    let id = g.add_node(op.into(), inputs, outputs, vec![]);
    g.node(id).unwrap().outputs[0].unwrap()
}

fn relu() -> Unary {
    Unary { function: UnaryFn::Relu }
}

fn relu_of_input() -> Graph {
    let mut g = Graph::new("g");
    let x = g.add_input("x", DType::F32, Shape::from([2]));
    let y = node(&mut g, relu(), &[x], "y", &[2]);
    g.outputs.push(("y".to_owned(), y));
    g
}

struct Broken;
impl Pass for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let y = graph.outputs[0].1;
        graph.value_mut(y).shape = Shape::from([3]);
        cx.fired("broken");
        Ok(())
    }
}

struct Restless;
impl Pass for Restless {
    fn name(&self) -> &'static str {
        "restless"
    }
    fn run(&self, _: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        cx.fired("restless");
        Ok(())
    }
}

#[test]
fn a_pass_that_breaks_the_graph_is_named() {
    let error = PassManager::new().run(&mut relu_of_input(), &[Stage::Once(&Broken)]).unwrap_err();
    let PassError::Verify { pass: "broken", violations } = &error else { panic!("{error}") };
    assert_eq!(violations.len(), 1);
    assert!(error.to_string().starts_with("internal error in pass `broken`: "), "{error}");
}

#[test]
fn a_group_without_rest_is_an_error() {
    let stages = [Stage::Fixpoint("group", &[&Restless, &dead_code::DeadCode])];
    let error = PassManager::new().run(&mut relu_of_input(), &stages).unwrap_err();
    assert_eq!(
        error,
        PassError::NoFixpoint { group: "group", rounds: MAX_ROUNDS, restless: vec!["restless"] }
    );
}

#[test]
fn hooks_see_every_run_and_stop_after_ends_them() {
    let mut seen = Vec::new();
    let mut hook = |run: PassRun, _: &Graph| seen.push((run.number, run.pass));
    let mut manager = PassManager::with_hook(&mut hook);
    manager.stop_after = Some(2);
    manager.run(&mut relu_of_input(), CANONICAL).unwrap();
    assert_eq!(seen, [(1, "dead_code"), (2, "widen_half")]);
}

#[test]
fn the_log_counts_and_keeps_the_last_reasons() {
    let g = relu_of_input();
    let mut log = PassLog::default();
    for reason in ["first", "second"] {
        let mut cx = PassCx::new(&mut log, "p");
        cx.fired("fuse");
        cx.missed(&g, g.order()[0], reason);
        cx.missed(&g, g.order()[0], reason);
    }
    assert_eq!(log.counts(), [("fuse", 2)]);
    assert_eq!(log.to_string(), "fuse × 2\nnot p at `y` (Relu): second\n");
}

/// `y = x + (2 · 3)`, with nothing folded yet.
fn unfolded() -> Graph {
    let mut g = Graph::new("g");
    let x = g.add_input("x", DType::F32, Shape::from([2]));
    let a = g.add_constant("a", Tensor::scalar(2f32));
    let b = g.add_constant("b", Tensor::scalar(3f32));
    let mul = Binary { function: BinaryKind::Arith(BinaryFn::Mul) };
    let c = node(&mut g, mul, &[a, b], "c", &[]);
    let y = node(&mut g, Binary { function: BinaryKind::Arith(BinaryFn::Add) }, &[x, c], "y", &[2]);
    g.outputs.push(("y".to_owned(), y));
    g
}

#[test]
fn folding_leaves_the_result_only() {
    let mut g = unfolded();
    let log = optimize(&mut g).unwrap();
    assert_eq!(log.counts(), [("dead_code", 1), ("fold", 1)]);
    assert_eq!(g.nodes().count(), 1);
}

#[test]
fn folding_refuses_to_fill_the_blob() {
    let mut g = Graph::new("g");
    let zero = g.add_constant("zero", Tensor::scalar(0f32));
    let small = g.add_constant("small", Tensor::vector(&[64i64, 64]));
    let large = g.add_constant("large", Tensor::vector(&[1024i64, 1024]));
    let huge = g.add_constant("huge", Tensor::vector(&[4096i64, 4096]));
    for (name, shape, n) in [("s", small, 64), ("l", large, 1024), ("h", huge, 4096)] {
        let y = node(&mut g, Expand, &[zero, shape], name, &[n, n]);
        g.outputs.push((name.to_owned(), y));
    }
    let log = optimize(&mut g).unwrap();
    assert_eq!(log.counts(), [("dead_code", 1), ("fold", 1)]);
    let reasons: Vec<&str> = log.missed.iter().map(|m| m.reason.as_str()).collect();
    assert_eq!(reasons, ["20 bytes would become 4194304", "the result would have 67108864 bytes"]);
}
