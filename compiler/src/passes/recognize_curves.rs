//! Activations that exporters spell out become the operator they mean.
//!
//! - Pattern and result: `x·½·(1 + erf(x/√2))` → Gelu; `x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³)))` → Gelu of the
//!   tanh form; `x·clip(x + 3, 0, 6)/6` → HardSwish; `clip(x + 3, 0, 6)/6` → HardSigmoid; `x·tanh(softplus(x))`
//!   → Mish. Factors in any order, divisions by known values as factors.
//! - Precondition: one value throughout, no other reader of what lies between; constants within 10⁻⁵ of
//!   what they mean.
//! - Exactness: up to the rounding of the intermediates that vanish.
//!
//! ```text
//! %d = Div(%x, 1.4142135); %e = Erf(%d); %a = Add(%e, 1); %m = Mul(%x, %a); %y = Mul(%m, 0.5)
//!   →   %y = Gelu(%x)
//! ```

use super::matching::{Editor, Outcome, Replacement, input, output, uniform, visit};
use super::{Pass, PassCx, PassError};
use crate::ir::{NodeId, ValueId};
use crate::kernel::expr::{BinaryFn, UnaryFn};
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::unary::Unary;
use crate::ops::{Graph, Node, OpKind};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// See the module.
pub(super) struct RecognizeCurves;

impl Pass for RecognizeCurves {
    fn name(&self) -> &'static str {
        "recognize_curves"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

/// More factors than any of the patterns has.
const MAX_FACTORS: usize = 6;

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let y = graph.value(output(node)?);
    let (BinaryFn::Mul | BinaryFn::Div, _, _) = arith(node)? else { return None };
    if !y.dtype.is_float() {
        return None;
    }
    let shape = y.shape.clone();
    let product = Factors::of(graph, id)?;
    let (x, function, mut absorbed) = curve(graph, &product)?;
    if graph.value(x).shape != shape {
        return None;
    }
    absorbed.extend(product.nodes.iter().filter(|&&n| n != id));
    absorbed.sort_by_key(|n| std::cmp::Reverse(graph.place(*n)));
    absorbed.dedup();
    let label = match function {
        UnaryFn::Gelu | UnaryFn::GeluTanh => "gelu",
        UnaryFn::HardSwish => "hard_swish",
        UnaryFn::Mish => "mish",
        _ => "hard_sigmoid",
    };
    let op = Unary { function }.into();
    Replacement { label, at: id, absorbed: &absorbed, op, inputs: vec![Some(x)] }.apply(graph).map(Ok)
}

/// The curve that a product of factors is, its operand, and the nodes in between.
fn curve(graph: &Editor<'_>, product: &Factors) -> Option<(ValueId, UnaryFn, Vec<NodeId>)> {
    match *product.values.as_slice() {
        [gate] => {
            let (x, nodes) = clipped_ramp(graph, gate).filter(|_| near(product.constant, 1.0 / 6.0))?;
            Some((x, UnaryFn::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, nodes))
        }
        [a, b] => gated(graph, product.constant, a, b).or_else(|| gated(graph, product.constant, b, a)),
        _ => None,
    }
}

/// `constant · x · gate(x)`.
fn gated(
    graph: &Editor<'_>,
    constant: f64,
    x: ValueId,
    gate: ValueId,
) -> Option<(ValueId, UnaryFn, Vec<NodeId>)> {
    if near(constant, 1.0 / 6.0) {
        let (of, nodes) = clipped_ramp(graph, gate)?;
        return (of == x).then_some((x, UnaryFn::HardSwish, nodes));
    }
    if near(constant, 1.0) {
        let (tanh, inner) = curve_of(graph, gate, UnaryFn::Tanh)?;
        let (softplus, of) = curve_of(graph, inner, UnaryFn::Softplus)?;
        return (of == x).then_some((x, UnaryFn::Mish, vec![tanh, softplus]));
    }
    if !near(constant, 0.5) {
        return None;
    }
    let (sum, inner) = plus(graph, gate, 1.0)?;
    if let Some((erf, of)) = curve_of(graph, inner, UnaryFn::Erf) {
        let linear = Factors::at(graph, of)?;
        let fits = linear.values == [x] && near(linear.constant, FRAC_1_SQRT_2);
        let nodes = linear.nodes.into_iter().chain([sum, erf]).collect();
        return fits.then_some((x, UnaryFn::Gelu, nodes));
    }
    let (tanh, of) = curve_of(graph, inner, UnaryFn::Tanh)?;
    let mut nodes = cubic(graph, of, x)?;
    nodes.extend([sum, tanh]);
    Some((x, UnaryFn::GeluTanh, nodes))
}

/// The nodes of `√(2/π)·(x + 0.044715·x³)`, also as `√(2/π)·x·(1 + 0.044715·x²)`.
fn cubic(graph: &Editor<'_>, v: ValueId, x: ValueId) -> Option<Vec<NodeId>> {
    let outer = Factors::at(graph, v)?;
    if !near(outer.constant, FRAC_2_SQRT_PI * FRAC_1_SQRT_2) {
        return None;
    }
    let powers = |v: ValueId, n: usize| {
        let inner = Factors::at(graph, v)?;
        let fits = inner.values.len() == n && inner.values.iter().all(|&f| f == x);
        (fits && near(inner.constant, 0.044_715)).then_some(inner.nodes)
    };
    let mut nodes = outer.nodes;
    match *outer.values.as_slice() {
        [sum] => {
            let (id, a, b) = sum_of(graph, sum)?;
            let cube = if a == x { powers(b, 3)? } else { powers(a, 3).filter(|_| b == x)? };
            nodes.extend(cube);
            nodes.push(id);
        }
        [a, b] if a == x || b == x => {
            let (id, square) = plus(graph, if a == x { b } else { a }, 1.0)?;
            nodes.extend(powers(square, 2)?);
            nodes.push(id);
        }
        _ => return None,
    }
    Some(nodes)
}

/// The operand of `clip(x + 3, 0, 6)` and its nodes.
fn clipped_ramp(graph: &Editor<'_>, v: ValueId) -> Option<(ValueId, Vec<NodeId>)> {
    let (id, node) = private(graph, v)?;
    let OpKind::Clip(clip) = &node.op else { return None };
    if node.inputs.len() != 1 || (clip.min, clip.max) != (Some(0.0), Some(6.0)) {
        return None;
    }
    let (sum, x) = plus(graph, input(node, 0)?, 3.0)?;
    Some((x, vec![id, sum]))
}

/// A product of values and one constant.
struct Factors {
    constant: f64,
    values: Vec<ValueId>,
    nodes: Vec<NodeId>,
}

impl Factors {
    /// The product that a node computes.
    fn of(graph: &Editor<'_>, id: NodeId) -> Option<Self> {
        let mut all = Factors { constant: 1.0, values: Vec::new(), nodes: Vec::new() };
        all.take(graph, id).then_some(all)
    }

    /// The product that a value is; the value itself where none computes it for this reader alone.
    fn at(graph: &Editor<'_>, v: ValueId) -> Option<Self> {
        let mut all = Factors { constant: 1.0, values: Vec::new(), nodes: Vec::new() };
        all.add(graph, v);
        (all.values.len() <= MAX_FACTORS).then_some(all)
    }

    fn add(&mut self, graph: &Editor<'_>, v: ValueId) {
        if let Some(c) = graph.constant(v).and_then(uniform) {
            self.constant *= c;
            return;
        }
        let taken = match private(graph, v) {
            Some((id, _)) if self.values.len() + self.nodes.len() < 2 * MAX_FACTORS => self.take(graph, id),
            _ => false,
        };
        if !taken {
            self.values.push(v);
        }
    }

    /// Multiplies with a node's result, where it is a product.
    fn take(&mut self, graph: &Editor<'_>, id: NodeId) -> bool {
        let Some((function, a, b)) = graph.node(id).and_then(arith) else { return false };
        let known = |v| graph.constant(v).and_then(uniform);
        match function {
            BinaryFn::Mul => {
                self.nodes.push(id);
                self.add(graph, a);
                self.add(graph, b);
            }
            BinaryFn::Div => {
                let Some(c) = known(b) else { return false };
                self.nodes.push(id);
                self.constant /= c;
                self.add(graph, a);
            }
            BinaryFn::Pow => {
                let times = match known(b) {
                    Some(2.0) => 2,
                    Some(3.0) => 3,
                    _ => return false,
                };
                self.nodes.push(id);
                self.values.extend(std::iter::repeat_n(a, times));
            }
            _ => return false,
        }
        true
    }
}

fn arith(node: &Node) -> Option<(BinaryFn, ValueId, ValueId)> {
    let OpKind::Binary(Binary { function: BinaryKind::Arith(f) }) = &node.op else { return None };
    Some((*f, input(node, 0)?, input(node, 1)?))
}

/// The node that computes a value for one place only: one reader, or one node that reads it twice.
fn private<'g>(graph: &'g Editor<'_>, v: ValueId) -> Option<(NodeId, &'g Node)> {
    let one = matches!(graph.readers(v), [first, rest @ ..] if rest.iter().all(|r| r == first));
    if !one || graph.is_model_output(v) {
        return None;
    }
    graph.producer(v)
}

fn curve_of(graph: &Editor<'_>, v: ValueId, wanted: UnaryFn) -> Option<(NodeId, ValueId)> {
    let (id, node) = private(graph, v)?;
    let OpKind::Unary(Unary { function }) = &node.op else { return None };
    (*function == wanted).then_some((id, input(node, 0)?))
}

fn sum_of(graph: &Editor<'_>, v: ValueId) -> Option<(NodeId, ValueId, ValueId)> {
    let (id, node) = private(graph, v)?;
    let (BinaryFn::Add, a, b) = arith(node)? else { return None };
    Some((id, a, b))
}

/// The node and the other operand of a sum with a known value.
fn plus(graph: &Editor<'_>, v: ValueId, wanted: f64) -> Option<(NodeId, ValueId)> {
    let (id, a, b) = sum_of(graph, v)?;
    let is = |v| graph.constant(v).and_then(uniform).is_some_and(|c| near(c, wanted));
    if is(b) { Some((id, a)) } else { is(a).then_some((id, b)) }
}

/// Equal up to the digits that exporters leave out.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * b.abs()
}
