//! Two quantized values are added where the second product of them is requantized.
//!
//! - Pattern: QuantizeLinear of an Add of two DequantizeLinear, with or without a Relu or Clip behind it; a
//!   [`ProductI8`](crate::ops::product_i8::ProductI8) makes one operand, nobody else reads it.
//! - Result: the product adds the other operand; see [`Requant`](crate::ops::requant::Requant) for how it rounds. Of
//!   two products the later one takes the other's result.
//! - Precondition: scales are known, one for each tensor; the other operand is of unsigned bytes and of the result's
//!   shape; the product adds nothing yet.
//! - Exactness: the first result is still rounded to its own steps and clamped, as in the model. The sum is exact in
//!   multiples of a power of two of the result's steps, and rounded once; factors are off by one part in 2¹⁵. Within one
//!   step of the float form.
//!
//! ```text
//! %p = ProductI8(…); QuantizeLinear(Relu(Add(DequantizeLinear(%p), DequantizeLinear(%b))))   →   ProductI8{add}(…, %b)
//! ```

use super::super::matching::{Editor, Outcome, Replacement, input, output, visit};
use super::super::{Pass, PassCx, PassError};
use super::{Steps, clamped, dequantized};
use crate::ir::{DType, NodeId, ValueId};
use crate::kernel::expr::BinaryFn;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::requant::Addend;
use crate::ops::{Node, OpKind};

/// See the module.
pub(in crate::passes) struct IntegerAdditions;

impl Pass for IntegerAdditions {
    fn name(&self) -> &'static str {
        "integer_additions"
    }

    fn run(&self, graph: &mut crate::ops::Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

/// A quantized operand of the addition.
struct Side {
    /// The DequantizeLinear.
    node: NodeId,
    /// Its result.
    real: ValueId,
    /// What it reads.
    bytes: ValueId,
    steps: Steps,
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    matches!(node.op, OpKind::Quantize(_)).then_some(())?;
    let (mut at, mut between) = (input(node, 0)?, Vec::new());
    let mut clamp = None;
    let (producer, inner) = graph.producer(at)?;
    if let Some(bounds) = clamped(inner) {
        (clamp, at) = (Some(bounds), input(inner, 0)?);
        between.push(producer);
    }
    let (producer, add) = graph.producer(at)?;
    let OpKind::Binary(Binary { function: BinaryKind::Arith(BinaryFn::Add) }) = &add.op else { return None };
    between.push(producer);
    let side = |i: usize| {
        let real = input(add, i)?;
        let (node, bytes, steps) = dequantized(graph, real)?;
        Some(Side { node, real, bytes, steps })
    };
    let sides = [side(0)?, side(1)?];
    Some(fuse(graph, id, sides, between, clamp))
}

fn fuse(
    graph: &mut Editor<'_>,
    id: NodeId,
    mut sides: [Side; 2],
    mut between: Vec<NodeId>,
    clamp: Option<[f32; 2]>,
) -> Result<&'static str, String> {
    let quantizer = graph.node(id).ok_or("it is gone")?;
    let y = Steps::of(graph, quantizer).ok_or("the result's scale is not known, or there are several")?;
    let shape = output(quantizer).map(|v| graph.value(v).shape.clone()).ok_or("it has no result")?;
    for &node in &between {
        graph.only_reader(graph.node(node).and_then(output).ok_or("it has several results")?)?;
    }
    let bounds = y.clamped(clamp);
    // The later product first: the other's result then waits the shortest.
    let place = |side: &Side| graph.producer(side.bytes).map(|(n, _)| graph.place(n));
    if place(&sides[0]) < place(&sides[1]) {
        sides.swap(0, 1);
    }
    let mut reasons = Vec::new();
    for [own, other] in [[0, 1], [1, 0]].map(|order| order.map(|i: usize| &sides[i])) {
        let product = match takes(graph, own, other, &shape) {
            Ok(product) => product,
            Err(reason) => {
                reasons.push(reason);
                continue;
            }
        };
        let (mut op, mut inputs) = match graph.node(product) {
            Some(Node { op: OpKind::ProductI8(op), inputs, .. }) => (op.clone(), inputs.clone()),
            _ => continue,
        };
        let factors = [own, other].map(|side| side.steps.scale / y.scale);
        let addend = Addend::new(factors[0], factors[1], other.steps.zero, bounds);
        op.requant.add = Some(addend.ok_or("its scales are too far apart")?);
        (op.requant.zero, op.requant.to) = (y.zero, y.dtype);
        inputs.push(Some(other.bytes));
        between.extend([own.node, product]);
        let new =
            Replacement { label: "integer_additions", at: id, absorbed: &between, op: op.into(), inputs };
        return new.apply(graph).ok_or_else(|| "it has several results".to_owned());
    }
    Err(reasons.into_iter().next().unwrap_or_default())
}

/// The product that makes `own` and can add `other`, or why there is none.
fn takes(graph: &Editor<'_>, own: &Side, other: &Side, shape: &crate::ir::Shape) -> Result<NodeId, String> {
    let name = |v: ValueId| graph.value(v).name.clone();
    let (product, node) =
        graph.producer(own.bytes).ok_or_else(|| format!("no product makes `{}`", name(own.bytes)))?;
    let OpKind::ProductI8(op) = &node.op else {
        return Err(format!("no product of integers makes `{}`", name(own.bytes)));
    };
    if own.real == other.real || own.bytes == other.bytes {
        return Err("a value is added to itself".to_owned());
    }
    graph.only_reader(own.real)?;
    graph.only_reader(own.bytes)?;
    if op.requant.add.is_some() {
        return Err(format!("the product that makes `{}` adds something already", name(own.bytes)));
    }
    if op.requant.zero != own.steps.zero {
        return Err("its zero point is not that of the product".to_owned());
    }
    let addend = graph.value(other.bytes);
    if addend.dtype != DType::U8 || addend.constant.is_some() {
        return Err(format!("`{}` is not of computed unsigned bytes", addend.name));
    }
    if addend.shape != *shape || graph.value(own.bytes).shape != *shape {
        return Err("one operand is smaller than the sum".to_owned());
    }
    Ok(product)
}
