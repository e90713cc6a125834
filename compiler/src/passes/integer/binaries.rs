//! Two quantized values are added, multiplied or compared as integers.
//!
//! - Pattern: QuantizeLinear of Add, Sub, Mul, Max or Min of two DequantizeLinear, with or without a Relu or Clip behind it;
//!   what no product takes in (`integer_additions`).
//! - Result: [`BinaryI8`]; the clamp is its bounds.
//! - Precondition: 8 bits and one scale for each; nobody else reads what is between.
//! - Exactness: within one step of the float form: see [`BinaryI8`] for what is rounded where.
//!
//! ```text
//! QuantizeLinear(Mul(DequantizeLinear(%a), DequantizeLinear(%b)))   →   BinaryI8(%a, %b)
//! ```

use super::super::matching::{Editor, Outcome, Replacement, input, output, visit};
use super::super::{Pass, PassCx, PassError};
use super::{Steps, clamped, dequantized};
use crate::ir::{NodeId, ValueId};
use crate::kernel::expr::BinaryFn;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::binary_i8::{BinaryI8, Function};
use crate::ops::requant::Addend;
use crate::ops::variadic::{Variadic, VariadicFn};
use crate::ops::{Graph, OpKind};

/// See the module.
pub(in crate::passes) struct IntegerBinaries;

impl Pass for IntegerBinaries {
    fn name(&self) -> &'static str {
        "integer_binaries"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    matches!(node.op, OpKind::Quantize(_)).then_some(())?;
    let (mut at, mut between, mut clamp) = (input(node, 0)?, Vec::new(), None);
    let (producer, inner) = graph.producer(at)?;
    if let Some(bounds) = clamped(inner) {
        (clamp, at) = (Some(bounds), input(inner, 0)?);
        between.push(producer);
    }
    let (producer, inner) = graph.producer(at)?;
    let function = match &inner.op {
        OpKind::Binary(Binary { function: BinaryKind::Arith(f) }) => *f,
        OpKind::Variadic(Variadic { function: VariadicFn::Max }) => BinaryFn::Max,
        OpKind::Variadic(Variadic { function: VariadicFn::Min }) => BinaryFn::Min,
        _ => return None,
    };
    (inner.inputs.len() == 2).then_some(())?;
    between.push(producer);
    let (_, a, left) = dequantized(graph, input(inner, 0)?)?;
    let (_, b, right) = dequantized(graph, input(inner, 1)?)?;
    let y = Steps::of(graph, node)?;
    Some(fuse(graph, id, &between, function, [(a, left), (b, right)], (y, clamp)))
}

fn fuse(
    graph: &mut Editor<'_>,
    id: NodeId,
    between: &[NodeId],
    function: BinaryFn,
    [(a, left), (b, right)]: [(ValueId, Steps); 2],
    (y, clamp): (Steps, Option<[f32; 2]>),
) -> Result<&'static str, String> {
    let factors = [left.scale / y.scale, right.scale / y.scale];
    let product = left.scale * right.scale / y.scale;
    let function = match function {
        BinaryFn::Add | BinaryFn::Sub => {
            let factors = Addend::new(factors[0], factors[1], 0, [0, 0]);
            let factors = factors.ok_or("its scales are too far apart")?;
            Function::Sum { factors, minus: function == BinaryFn::Sub }
        }
        BinaryFn::Mul => Function::Product { factor: product },
        BinaryFn::Max => Function::Max { factors },
        BinaryFn::Min => Function::Min { factors },
        _ => return Err("there is no integer form of it for two tensors".to_owned()),
    };
    if !(factors.iter().chain([&product]).all(|f| f.is_finite())) {
        return Err("its scales are too far apart".to_owned());
    }
    for &node in between {
        graph.only_reader(graph.node(node).and_then(output).ok_or("it has several results")?)?;
    }
    let (zeros, bounds) = ([left.zero, right.zero], y.clamped(clamp));
    let op = BinaryI8 { function, zeros, bounds, zero: y.zero, to: y.dtype };
    let inputs = vec![Some(a), Some(b)];
    let new = Replacement { label: "integer_binaries", at: id, absorbed: between, op: op.into(), inputs };
    new.apply(graph).ok_or_else(|| "it has several results".to_owned())
}
