//! Normalisations that exporters spell out become the operator they mean.
//!
//! - Pattern and result, with `m = mean(x)` and `v = mean((x - m)²)` over the trailing axes:
//!   `(x - m) / √(v + ε)` → LayerNormalization; `x·s + (b - m·s)` with `s = g / √(v + ε)` → the same with scale and
//!   bias; `x / √(mean(x²) + ε)` → RMSNormalization; a known factor, then a known addend behind a
//!   normalisation that has none → its scale and bias. The mean may be a ReduceMean or a GlobalAveragePool,
//!   the inverse a division, a Reciprocal or a power.
//! - Precondition: `f32`; scale and bias of one row's shape. What else reads the statistics keeps them.
//! - Exactness: other rounding of the intermediates.
//!
//! ```text
//! %m = ReduceMean(%x); %d = Sub(%x, %m); %q = Mul(%d, %d); %v = ReduceMean(%q); %a = Add(%v, ε);
//! %s = Sqrt(%a); %y = Div(%d, %s)   →   %y = LayerNormalization(%x, 1)
//! ```

use super::matching::{Editor, Operand, Rewrite, apply_rules, input, output, uniform};
use super::{Pass, PassCx, PassError};
use crate::ir::{DType, Shape, Tensor, ValueId};
use crate::kernel::expr::{BinaryFn, UnaryFn};
use crate::kernel::spec::NormKind;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::layer_norm::LayerNorm;
use crate::ops::pool::Kind;
use crate::ops::reduce::ReduceFn;
use crate::ops::unary::Unary;
use crate::ops::{Graph, Node, OpKind};

/// See the module.
pub(super) struct RecognizeNorm;

impl Pass for RecognizeNorm {
    fn name(&self) -> &'static str {
        "recognize_norm"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        apply_rules(graph, cx, &[affine_form, quotient, scale, bias]);
        Ok(())
    }
}

type Outcome = Option<Result<(&'static str, Rewrite), String>>;

/// What a normalisation is about.
struct Statistics {
    kind: NormKind,
    x: ValueId,
    /// The mean; the operand itself has none.
    mean: Option<ValueId>,
    /// First normalised axis.
    first: usize,
    epsilon: f32,
}

impl Statistics {
    /// Of `√(v + ε)`'s operand.
    fn of(graph: &Editor<'_>, variance: ValueId) -> Option<Self> {
        let (BinaryFn::Add, a, b) = arith(graph, variance)? else { return None };
        let known = |v| graph.constant(v).and_then(uniform);
        let (v, epsilon) = known(b).map(|e| (a, e)).or_else(|| known(a).map(|e| (b, e)))?;
        let (square, first) = mean(graph, v)?;
        let (BinaryFn::Mul, d, also) = arith(graph, square)? else { return None };
        if d != also || graph.value(d).dtype != DType::F32 {
            return None;
        }
        let epsilon = epsilon as f32;
        let layer = arith(graph, d).and_then(|(f, x, m)| {
            let of = mean(graph, m)?;
            (f == BinaryFn::Sub && of == (x, first)).then_some((x, m))
        });
        Some(match layer {
            Some((x, m)) => Statistics { kind: NormKind::Layer, x, mean: Some(m), first, epsilon },
            None => Statistics { kind: NormKind::Rms, x: d, mean: None, first, epsilon },
        })
    }

    /// What is divided by the deviation: `x - m`, or `x`.
    fn is_centred(&self, graph: &Editor<'_>, v: ValueId) -> bool {
        match self.mean {
            None => v == self.x,
            Some(m) => arith(graph, v) == Some((BinaryFn::Sub, self.x, m)),
        }
    }

    /// Extents of one row.
    fn row(&self, graph: &Graph) -> Shape {
        graph.value(self.x).shape.iter().skip(self.first).copied().collect()
    }

    fn rewrite(&self, graph: &Graph, scale: Operand, bias: Option<ValueId>) -> Rewrite {
        let rank = graph.value(self.x).shape.rank();
        let op = LayerNorm {
            kind: self.kind,
            axis: self.first as i64 - rank as i64,
            epsilon: self.epsilon,
            stash: DType::F32,
        };
        let mut inputs = vec![self.x.into(), scale];
        inputs.extend(bias.map(Operand::from));
        Rewrite::replace(op, inputs)
    }
}

/// `x·s + (b - m·s)`, as Keras has it.
fn affine_form(graph: &Editor<'_>, node: &Node) -> Outcome {
    let (BinaryFn::Add, a, b) = of_node(node)? else { return None };
    let (scaled, rest) = match arith(graph, b) {
        Some((BinaryFn::Sub, _, _)) => (a, b),
        _ => (b, a),
    };
    let (BinaryFn::Sub, bias, shift) = arith(graph, rest)? else { return None };
    let (BinaryFn::Mul, p, q) = arith(graph, scaled)? else { return None };
    let (BinaryFn::Mul, r, s) = arith(graph, shift)? else { return None };
    // The factor stands in both products, in any order.
    let orders = [(p, q, r, s), (p, q, s, r), (q, p, r, s), (q, p, s, r)];
    let (x, m, factor) = orders.into_iter().find_map(|(x, f, m, g)| {
        (f == g && mean(graph, m).is_some_and(|(of, _)| of == x)).then_some((x, m, f))
    })?;
    let (inverse, scale) = match arith(graph, factor) {
        Some((BinaryFn::Mul, a, b)) if deviation(graph, a).is_some() => (a, Some(b)),
        Some((BinaryFn::Mul, a, b)) if deviation(graph, b).is_some() => (b, Some(a)),
        _ => (factor, None),
    };
    let found = Statistics::of(graph, deviation(graph, inverse)?)?;
    if found.kind != NormKind::Layer || (found.x, found.mean) != (x, Some(m)) {
        return None;
    }
    let row = found.row(graph);
    let fits = |v: ValueId| is_row(&graph.value(v).shape, &row);
    if !fits(bias) || !scale.is_none_or(fits) {
        return Some(Err("scale or bias have not the shape of a row".to_owned()));
    }
    let scale = scale.map_or_else(|| ones(graph, x, &row), Operand::from);
    Some(Ok(("layer_norm", found.rewrite(graph, scale, Some(bias)))))
}

/// What is centred, divided by the deviation.
fn quotient(graph: &Editor<'_>, node: &Node) -> Outcome {
    let (function, a, b) = of_node(node)?;
    let (centred, variance) = match function {
        BinaryFn::Div => (a, root(graph, b)?),
        BinaryFn::Mul => match (deviation(graph, b), deviation(graph, a)) {
            (Some(v), _) => (a, v),
            (None, Some(v)) => (b, v),
            (None, None) => return None,
        },
        _ => return None,
    };
    let found = Statistics::of(graph, variance)?;
    if !found.is_centred(graph, centred) {
        return None;
    }
    let scale = ones(graph, found.x, &found.row(graph));
    let label = if found.kind == NormKind::Layer { "layer_norm" } else { "rms_norm" };
    Some(Ok((label, found.rewrite(graph, scale, None))))
}

/// A known factor behind a normalisation without one.
fn scale(graph: &Editor<'_>, node: &Node) -> Outcome {
    let (BinaryFn::Mul, a, b) = of_node(node)? else { return None };
    let (y, norm, factor) = norm_and_other(graph, a, b)?;
    let plain = norm.inputs.len() == 2 && graph.constant(input(norm, 1)?).and_then(uniform) == Some(1.0);
    if !plain {
        return None;
    }
    absorb(graph, y, norm, factor, "scale", |x, factor| vec![x.into(), factor.into()])
}

/// A known addend behind a normalisation without one.
fn bias(graph: &Editor<'_>, node: &Node) -> Outcome {
    let (BinaryFn::Add, a, b) = of_node(node)? else { return None };
    let (y, norm, addend) = norm_and_other(graph, a, b)?;
    let OpKind::LayerNorm(op) = &norm.op else { return None };
    if op.kind != NormKind::Layer || norm.inputs.len() != 2 {
        return None;
    }
    let scale = input(norm, 1)?;
    absorb(graph, y, norm, addend, "bias", |x, addend| vec![x.into(), scale.into(), addend.into()])
}

fn absorb(
    graph: &Editor<'_>,
    y: ValueId,
    norm: &Node,
    other: ValueId,
    label: &'static str,
    inputs: impl Fn(ValueId, ValueId) -> Vec<Operand>,
) -> Outcome {
    let OpKind::LayerNorm(op) = &norm.op else { return None };
    let x = input(norm, 0)?;
    let shape = &graph.value(x).shape;
    let first = crate::ir::normalize_axis(op.axis, shape.rank())?;
    let row: Shape = shape.iter().skip(first).copied().collect();
    graph.constant(other)?;
    if graph.value(y).dtype != DType::F32 {
        return None;
    }
    if !is_row(&graph.value(other).shape, &row) {
        return Some(Err(format!("the {label} has not the shape of a row")));
    }
    if let Err(reason) = graph.only_reader(y) {
        return Some(Err(reason));
    }
    let (id, _) = graph.producer(y)?;
    let op = Box::new(norm.op.clone());
    Some(Ok((label, Rewrite::Replace { op, inputs: inputs(x, other), absorbed: vec![id] })))
}

/// The operand that a normalisation computes, its node, and the other operand.
fn norm_and_other<'g>(graph: &'g Editor<'_>, a: ValueId, b: ValueId) -> Option<(ValueId, &'g Node, ValueId)> {
    let norm = |v: ValueId| {
        let (_, node) = graph.producer(v)?;
        matches!(node.op, OpKind::LayerNorm(_)).then_some(node)
    };
    norm(a).map(|n| (a, n, b)).or_else(|| norm(b).map(|n| (b, n, a)))
}

/// The variance whose inverse deviation a value is.
fn deviation(graph: &Editor<'_>, v: ValueId) -> Option<ValueId> {
    let (_, node) = graph.producer(v)?;
    match &node.op {
        OpKind::Unary(Unary { function: UnaryFn::Reciprocal }) => root(graph, input(node, 0)?),
        OpKind::Binary(_) => {
            let (BinaryFn::Pow, x, _) = of_node(node)? else { return None };
            (graph.constant(input(node, 1)?).and_then(uniform) == Some(-0.5)).then_some(x)
        }
        _ => None,
    }
}

/// The operand of a square root.
fn root(graph: &Editor<'_>, v: ValueId) -> Option<ValueId> {
    let (_, node) = graph.producer(v)?;
    matches!(node.op, OpKind::Unary(Unary { function: UnaryFn::Sqrt })).then(|| input(node, 0)).flatten()
}

/// What a value is the mean of, over all axes from which one on; extents of 1 stay.
fn mean(graph: &Editor<'_>, v: ValueId) -> Option<(ValueId, usize)> {
    let (_, node) = graph.producer(v)?;
    let x = input(node, 0)?;
    let rank = graph.value(x).shape.rank();
    let first = match &node.op {
        OpKind::Reduce(op) if op.function == ReduceFn::Mean && op.keepdims => {
            let given = input(node, 1).map(|v| graph.constant(v)?.to_i64_vec());
            let given = match given {
                Some(known) => Some(known?),
                None => None,
            };
            let axes = op.reduced(rank, given).ok()?;
            let first = *axes.first()?;
            (axes.len() == rank - first).then_some(first)?
        }
        OpKind::Pool(op) if matches!(op.kind, Kind::Average { .. }) && op.window.is_none() && rank > 2 => 2,
        _ => return None,
    };
    Some((x, first))
}

/// Whether a shape is that of one row, leading ones aside.
fn is_row(shape: &Shape, row: &Shape) -> bool {
    let lead = shape.rank().checked_sub(row.rank());
    lead.is_some_and(|n| shape.iter().take(n).all(|&d| d == 1) && shape.iter().skip(n).eq(row.iter()))
}

fn ones(graph: &Graph, x: ValueId, row: &Shape) -> Operand {
    let name = format!("{}.one", graph.value(x).name);
    Operand::New(name, Tensor::from_fn(row.clone(), |_| 1.0f32))
}

fn of_node(node: &Node) -> Option<(BinaryFn, ValueId, ValueId)> {
    let OpKind::Binary(Binary { function: BinaryKind::Arith(f) }) = &node.op else { return None };
    output(node)?;
    Some((*f, input(node, 0)?, input(node, 1)?))
}

fn arith(graph: &Editor<'_>, v: ValueId) -> Option<(BinaryFn, ValueId, ValueId)> {
    of_node(graph.producer(v)?.1)
}
