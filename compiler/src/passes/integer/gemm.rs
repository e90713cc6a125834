//! Gemm over quantized weights is a MatMul over the weights transposed, with a bias.
//!
//! - Pattern: Gemm whose `B` DequantizeLinear makes of known integers, and whose `C`, if there is one, is a known value
//!   per column or DequantizeLinear of such.
//! - Result: MatMul with `alpha` as factor and `C` as bias, over DequantizeLinear of the integers `[k, n]`: what activations
//!   are fused into, and products of integers made of.
//! - Precondition: `A` is not transposed; scales do not lie by block; `beta` is one where `C` is quantized.
//! - Exactness: the same numbers are multiplied and added.
//!
//! ```text
//! Gemm{transB}(%a, DequantizeLinear(W, s), DequantizeLinear(C, t))   →   MatMul(%a, DequantizeLinear(Wᵀ, s), DequantizeLinear(C, t))
//! ```

use super::super::matching::{Editor, Outcome, Replacement, constant, float_tensor, input, origins, visit};
use super::super::{Pass, PassCx, PassError};
use crate::ir::{NodeId, Patch, ValueId};
use crate::ops::dequantize::Dequantize;
use crate::ops::fused::Fused;
use crate::ops::gemm::Gemm;
use crate::ops::matmul::MatMul;
use crate::ops::transpose::Transpose;
use crate::ops::{Graph, Node, Op, OpKind};

/// See the module.
pub(in crate::passes) struct QuantizedGemm;

impl Pass for QuantizedGemm {
    fn name(&self) -> &'static str {
        "quantized_gemm"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

/// DequantizeLinear of known integers, one scale for all or per index of an axis.
fn known(graph: &Graph, v: ValueId) -> Option<(&Node, &Dequantize)> {
    let (_, node) = graph.producer(v)?;
    let OpKind::Dequantize(op) = &node.op else { return None };
    let given = |i| input(node, i).is_none() || constant(graph, node, i).is_some();
    (op.block == 0 && constant(graph, node, 0).is_some() && given(1) && given(2)).then_some((node, op))
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let OpKind::Gemm(gemm) = &node.op else { return None };
    let gemm = gemm.clone();
    let (a, b, c) = (input(node, 0)?, input(node, 1)?, input(node, 2));
    known(graph, b)?;
    Some(replace(graph, id, &gemm, [a, b], c))
}

fn replace(
    graph: &mut Editor<'_>,
    id: NodeId,
    gemm: &Gemm,
    [a, b]: [ValueId; 2],
    c: Option<ValueId>,
) -> Result<&'static str, String> {
    if gemm.trans_a {
        return Err("its data would have to be transposed".to_owned());
    }
    let columns = graph.value(b).shape.get(usize::from(!gemm.trans_b)).copied().unwrap_or(0);
    let mut inputs = vec![Some(a), Some(b)];
    match c {
        None => {}
        Some(c) if known(graph, c).is_some() => {
            if gemm.beta != 1.0 || graph.value(c).shape.dims() != [columns] {
                return Err("its quantized `C` is no plain bias".to_owned());
            }
            inputs.push(Some(c));
        }
        Some(c) => {
            let row = graph.constant(c).and_then(|t| gemm.row(t, columns));
            let row = row.ok_or("its `C` is no bias, or not known")?;
            let (name, values) = (graph.value(c).name.clone(), row.iter().map(|v| f64::from(*v)));
            let bias = float_tensor(graph.value(a).dtype, [columns], &values.collect::<Vec<f64>>());
            inputs.push(Some(graph.add_constant(name, bias.ok_or("its data are no floats")?)));
        }
    }
    if gemm.trans_b {
        let turned = turned(graph, id, b).ok_or("its weights cannot be transposed")?;
        if let Some(slot) = inputs.get_mut(1) {
            *slot = Some(turned);
        }
    }
    let scale = (gemm.alpha != 1.0).then_some(gemm.alpha);
    let op = MatMul { fused: Fused { scale, ..Fused::default() } }.into();
    let new = Replacement { label: "quantized_gemm", at: id, absorbed: &[], op, inputs };
    new.apply(graph).ok_or_else(|| "it has no result".to_owned())
}

/// DequantizeLinear of the transposed integers behind `b`, in front of node `id`.
fn turned(graph: &mut Editor<'_>, id: NodeId, b: ValueId) -> Option<ValueId> {
    let (at, weights) = graph.producer(b)?;
    let OpKind::Dequantize(op) = &weights.op else { return None };
    let (mut op, integers) = (op.clone(), constant(graph, weights, 0)?);
    let turned = Transpose { perm: None }.eval(&[Some(integers)]).ok()?.into_iter().next()?;
    op.axis = 1 - op.axis.rem_euclid(2);
    let (scale, zero) = (input(weights, 1), input(weights, 2));
    let (dtype, shape) = (graph.value(b).dtype, turned.shape().clone());
    let name = format!("{}.transposed", graph.value(b).name);
    let from = origins(graph, [&at]);
    let mut patch = Patch::new(graph, "quantized_gemm", id);
    let values = patch.constant(format!("{name}.integers"), turned);
    let y = patch.node(op.into(), vec![Some(values), scale, zero], (name, dtype, shape), from);
    patch.apply();
    graph.refresh();
    Some(y)
}
