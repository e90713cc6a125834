//! Reshapes move behind products and what is fused into them.
//!
//! - Pattern: Reshape of `x[…, K]` to `[…, K]` with other leading axes, then MatMul with known weights `[K, N]`,
//!   as exporters write a linear layer through Gemm; or a product, Reshape, then a unary operator, or a binary
//!   one with a single value, a vector along the last axis or an operand of the result's shape.
//! - Result: MatMul of `x` itself, or the elementwise operator on the product itself; the Reshape behind it,
//!   where it meets the one that undoes it.
//! - Precondition: for a MatMul nothing in the epilogue whose shape follows the result (a residual), and the
//!   reshaped value may have other readers, a reshape costs nothing; for elementwise operators no other
//!   reader on the way, or nothing could be fused.
//! - Exactness: the same operations in the same order.
//!
//! ```text
//! %r = Reshape(%x[1, 8, 16], [8, 16]); %y = MatMul(%r, W)
//!   →   %m = MatMul(%x, W); %y = Reshape(%m, [8, N])
//! ```

use super::matching::{Editor, Outcome, input, origins, output, visit};
use super::product::{Product, WEIGHTS};
use super::{Pass, PassCx, PassError};
use crate::ir::{NodeId, Shape, Tensor, ValueId};
use crate::ops::fused::Residual;
use crate::ops::reshape::Reshape;
use crate::ops::{Graph, OpKind, Patch};

/// See the module.
pub(super) struct SinkReshape;

impl Pass for SinkReshape {
    fn name(&self) -> &'static str {
        "sink_reshape"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, |graph, id| behind_product(graph, id).or_else(|| behind_elementwise(graph, id)));
        Ok(())
    }
}

fn behind_product(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let OpKind::MatMul(_) = &graph.node(id)?.op else { return None };
    let product = Product::of(graph, id)?;
    let flat = product.input(0)?;
    let (_, before) = graph.producer(flat)?;
    let OpKind::Reshape(_) = &before.op else { return None };
    let x = input(before, 0)?;
    let weights = product.input(WEIGHTS)?;
    graph.constant(weights)?;
    let [k, n] = *graph.value(weights).shape.dims() else { return None };
    let (from, to) = (&graph.value(x).shape, &graph.value(flat).shape);
    let [lead @ .., last] = from.dims() else { return None };
    // A product of fewer than two axes has a row that vanishes.
    if *last != k || lead.is_empty() || to.rank() < 2 || from == to {
        return None;
    }
    if product.fused.residual != Residual::None {
        return Some(Err("the product has a residual of its own shape already".to_owned()));
    }
    let mut shape = lead.to_vec();
    shape.push(n);
    let mut inputs = product.inputs.clone();
    if let Some(a) = inputs.first_mut() {
        *a = Some(x);
    }
    reshape_behind(graph, id, inputs, Shape::from(shape))
}

fn behind_elementwise(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let y = output(node)?;
    let shape = graph.value(y).shape.clone();
    // The reshaped product among the operands, and before its reshape.
    let product = |v: ValueId| {
        let (_, reshape) = graph.producer(v)?;
        let OpKind::Reshape(_) = &reshape.op else { return None };
        let x = input(reshape, 0)?;
        let private = graph.only_reader(v).is_ok() && graph.value(v).shape == shape;
        (private && from_product(graph, x, MAX_CHAIN)).then_some(x)
    };
    match (&node.op, node.inputs.as_slice()) {
        (OpKind::Unary(_) | OpKind::Clip(_), &[Some(v)]) => {
            let x = product(v)?;
            let shape = graph.value(x).shape.clone();
            reshape_behind(graph, id, vec![Some(x)], shape)
        }
        (OpKind::Binary(_), &[Some(a), Some(b)]) => {
            let (at, other, x) = match (product(a), product(b)) {
                (Some(x), _) => (0, b, x),
                (None, Some(x)) => (1, a, x),
                (None, None) => return None,
            };
            let (one, inner) = (&graph.value(other).shape, graph.value(x).shape.clone());
            // A vector along the last axis is one before and behind, where that axis stays.
            let spreads = one.rank() <= 1 && (one.elements() == 1 || inner.last() == shape.last());
            let other = if spreads {
                other
            } else if *one == shape {
                reshaped_before(graph, id, other, &inner)?
            } else {
                return None;
            };
            let inputs = if at == 0 { vec![Some(x), Some(other)] } else { vec![Some(other), Some(x)] };
            reshape_behind(graph, id, inputs, inner)
        }
        _ => None,
    }
}

/// Elementwise operators that may stand between a product and a reshape.
const MAX_CHAIN: usize = 8;

/// Whether a value that nobody else reads is a product, or elementwise operators on one.
fn from_product(graph: &Editor<'_>, v: ValueId, chain: usize) -> bool {
    let Some((_, node)) = graph.producer(v) else { return false };
    if graph.only_reader(v).is_err() || chain == 0 {
        return false;
    }
    Product::producing(graph, v).is_some()
        || matches!(node.op, OpKind::Unary(_) | OpKind::Binary(_) | OpKind::Clip(_))
            && node
                .inputs
                .iter()
                .flatten()
                .any(|&x| graph.value(x).shape == graph.value(v).shape && from_product(graph, x, chain - 1))
}

/// `v` in another shape of as many elements, before the node.
fn reshaped_before(graph: &mut Editor<'_>, id: NodeId, v: ValueId, shape: &Shape) -> Option<ValueId> {
    let (name, dtype) = (graph.value(v).name.clone(), graph.value(v).dtype);
    let nodes = origins(graph, [&id]);
    let mut patch = Patch::new(graph, "sink_reshape", id);
    let extents = patch.constant(format!("{name}.shape"), extents(shape)?);
    let op = Reshape::Shape { allowzero: true }.into();
    let to = (format!("{name}.reshaped"), dtype, shape.clone());
    let out = patch.node(op, vec![Some(v), Some(extents)], to, nodes);
    patch.apply();
    graph.refresh();
    Some(out)
}

/// The node's operator over other operands, giving `shape`, and behind it a Reshape to what it gave.
fn reshape_behind(graph: &mut Editor<'_>, id: NodeId, inputs: Vec<Option<ValueId>>, shape: Shape) -> Outcome {
    let node = graph.node(id)?;
    let (op, y) = (node.op.clone(), output(node)?);
    let value = graph.value(y);
    let (name, dtype, old) = (value.name.clone(), value.dtype, value.shape.clone());
    let tensor = extents(&old)?;
    let nodes = origins(graph, [&id]);
    let mut patch = Patch::new(graph, "sink_reshape", id);
    let moved = patch.node(op, inputs, (format!("{name}.unshaped"), dtype, shape), nodes.clone());
    let extents = patch.constant(format!("{name}.shape"), tensor);
    let reshape = Reshape::Shape { allowzero: true }.into();
    let reshaped = patch.node(reshape, vec![Some(moved), Some(extents)], (name, dtype, old), nodes);
    patch.redirect(y, reshaped);
    patch.remove(id);
    let label = patch.apply();
    graph.refresh();
    Some(Ok(label))
}

fn extents(shape: &Shape) -> Option<Tensor> {
    let list: Option<Vec<i64>> = shape.iter().map(|&d| i64::try_from(d).ok()).collect();
    list.map(|l| Tensor::vector(&l))
}
