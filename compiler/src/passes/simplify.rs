//! Arithmetic in a shorter form with the same results.
//!
//! - Pattern and result: `x²` as Pow → Mul; `x⁻¹` as Pow, `1 / x` → Reciprocal; `x · sigmoid(x)` → Swish;
//!   `x · hardsigmoid(x; 1/6, 1/2)` → HardSwish; Relu and Clip of a Relu or Clip → one Clip.
//! - Precondition: equal results for every operand, NaN, infinities and zeros included, up to rounding
//!   of the intermediate that vanishes. `x^½` stays: Sqrt differs at -∞ and -0.0.
//!   The intermediate must have no other reader, or the work would be done twice.
//!
//! ```text
//! %s = Sigmoid(%x); %y = Mul(%x, %s)   →   %y = Swish(%x)
//! ```

use super::matching::{Editor, Rewrite, Rule, apply_rules, constant, input, output, uniform};
use super::{Pass, PassCx, PassError};
use crate::ir::{NodeId, ValueId};
use crate::kernel::expr::{BinaryFn, UnaryFn};
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::clip::Clip;
use crate::ops::unary::Unary;
use crate::ops::{Graph, Node, OpKind};

/// See the module.
pub(super) struct Simplify;

impl Pass for Simplify {
    fn name(&self) -> &'static str {
        "simplify"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        apply_rules(graph, cx, RULES);
        Ok(())
    }
}

type Outcome = Option<Result<(&'static str, Rewrite), String>>;

const RULES: &[Rule] = &[power, reciprocal, swish, clamp];

fn arith(node: &Node) -> Option<(BinaryFn, ValueId, ValueId)> {
    let OpKind::Binary(Binary { function: BinaryKind::Arith(f) }) = &node.op else { return None };
    Some((*f, input(node, 0)?, input(node, 1)?))
}

fn unary(function: UnaryFn, x: ValueId) -> Rewrite {
    Rewrite::replace(Unary { function }, vec![x.into()])
}

/// Powers of 2 and -1.
fn power(graph: &Editor<'_>, node: &Node) -> Outcome {
    let (BinaryFn::Pow, x, _) = arith(node)? else { return None };
    let exponent = constant(graph, node, 1).and_then(uniform)?;
    let (base, y) = (graph.value(x), graph.value(output(node)?));
    // A longer exponent widens the result, one of another type may compute in another.
    if base.shape != y.shape || !base.dtype.is_float() {
        return None;
    }
    let mul = Binary { function: BinaryKind::Arith(BinaryFn::Mul) };
    if exponent == 2.0 {
        Some(Ok(("pow_to_mul", Rewrite::replace(mul, vec![x.into(), x.into()]))))
    } else if exponent == -1.0 {
        Some(Ok(("reciprocal", unary(UnaryFn::Reciprocal, x))))
    } else {
        None
    }
}

/// One divided by something.
fn reciprocal(graph: &Editor<'_>, node: &Node) -> Outcome {
    let (BinaryFn::Div, a, x) = arith(node)? else { return None };
    let one = graph.constant(a).and_then(uniform)? == 1.0;
    let (below, y) = (graph.value(x), graph.value(output(node)?));
    (one && below.shape == y.shape && below.dtype.is_float())
        .then(|| Ok(("reciprocal", unary(UnaryFn::Reciprocal, x))))
}

/// A value times its own sigmoid.
fn swish(graph: &Editor<'_>, node: &Node) -> Outcome {
    let (BinaryFn::Mul, a, b) = arith(node)? else { return None };
    let gate = |x: ValueId, s: ValueId| -> Option<(NodeId, UnaryFn)> {
        let (id, producer) = graph.producer(s)?;
        let OpKind::Unary(Unary { function }) = &producer.op else { return None };
        let whole = match *function {
            UnaryFn::Sigmoid => UnaryFn::Swish { alpha: 1.0 },
            UnaryFn::HardSigmoid { alpha, beta } if alpha == 1.0 / 6.0 && beta == 0.5 => UnaryFn::HardSwish,
            _ => return None,
        };
        (input(producer, 0)? == x).then_some((id, whole))
    };
    let (x, s, (id, function)) = gate(a, b).map(|g| (a, b, g)).or_else(|| gate(b, a).map(|g| (b, a, g)))?;
    if let Err(reason) = graph.only_reader(s) {
        return Some(Err(reason));
    }
    let op = Box::new(Unary { function }.into());
    Some(Ok(("swish", Rewrite::Replace { op, inputs: vec![x.into()], absorbed: vec![id] })))
}

/// Clips and Relus in a row.
fn clamp(graph: &Editor<'_>, node: &Node) -> Outcome {
    let (x, (low, high)) = bounds(node)?;
    let (id, before) = graph.producer(x)?;
    let (source, (first_low, first_high)) = bounds(before)?;
    if !graph.value(x).dtype.is_float() {
        return None;
    }
    if let Err(reason) = graph.only_reader(x) {
        return Some(Err(reason));
    }
    // Where the second clip puts the first one's bounds. Comparisons keep NaN out: bounds are none.
    let place = |v: f32| v.max(low).min(high);
    let (low, high) = (place(first_low), place(first_high));
    let min = (low > f32::NEG_INFINITY).then_some(low);
    let max = (high < f32::INFINITY).then_some(high);
    let op = Box::new(if (low, high) == (0.0, f32::INFINITY) {
        Unary { function: UnaryFn::Relu }.into()
    } else {
        Clip { min, max }.into()
    });
    Some(Ok(("one_clip", Rewrite::Replace { op, inputs: vec![source.into()], absorbed: vec![id] })))
}

/// Operand and bounds of a Relu or of a Clip whose bounds are attributes, in order and no NaN.
fn bounds(node: &Node) -> Option<(ValueId, (f32, f32))> {
    let x = input(node, 0)?;
    match &node.op {
        OpKind::Unary(Unary { function: UnaryFn::Relu }) => Some((x, (0.0, f32::INFINITY))),
        OpKind::Clip(clip) if node.inputs.len() == 1 => {
            let low = clip.min.unwrap_or(f32::NEG_INFINITY);
            let high = clip.max.unwrap_or(f32::INFINITY);
            (low <= high).then_some((x, (low, high)))
        }
        _ => None,
    }
}
