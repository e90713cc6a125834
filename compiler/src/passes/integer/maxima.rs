//! Largest values of bytes by the kernels of convolutions.
//!
//! - Pattern: MaxPool or GlobalMaxPool of unsigned bytes, without positions.
//! - Result: [`ProductI8`] in the form of maxima, which passes bytes on as they are.
//! - Precondition: at most three spatial axes; no activation, no positions.
//! - Exactness: exact.
//!
//! ```text
//! MaxPool(%x)   →   ProductI8{maxima}(%x)
//! ```

use super::super::matching::{Editor, Outcome, Replacement, input, output, visit};
use super::super::{Pass, PassCx, PassError};
use super::averages::{MAX_ONES, spelled_out};
use crate::ir::{DType, NodeId, Tensor};
use crate::ops::fused::Activation;
use crate::ops::pool::Kind;
use crate::ops::product_i8::{Form, ProductI8};
use crate::ops::requant::Requant;
use crate::ops::{Graph, OpKind};

/// See the module.
pub(in crate::passes) struct IntegerMaxima;

impl Pass for IntegerMaxima {
    fn name(&self) -> &'static str {
        "integer_maxima"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let OpKind::Pool(pool) = &node.op else { return None };
    let x = input(node, 0)?;
    let value = graph.value(x);
    (matches!(pool.kind, Kind::Max { .. }) && value.dtype == DType::U8).then_some(())?;
    let y = output(node)?;
    if pool.activation != Activation::None || !(3..=5).contains(&value.shape.rank()) {
        return Some(Err("it is no plain pool of an image".to_owned()));
    }
    let taps = pool.taps(&value.shape).ok()?;
    let channels = value.shape.get(1).copied()?;
    let ones = taps.kernel.iter().fold(channels, |n, &k| n.saturating_mul(k));
    if graph.value(y).shape.contains(&0) || value.shape.contains(&0) || ones > MAX_ONES {
        return Some(Err("its windows are too large, or there are none".to_owned()));
    }
    // Trailing padding is what the last windows reach: none counts.
    let pads = taps.begin.iter().copied().chain(taps.overruns()).collect();
    let window = spelled_out(&taps, pads);
    let space = value.shape.get(2..).unwrap_or(&[]);
    if window.resolve(space, None, false).ok().map(|t| t.output) != Some(taps.output) {
        return Some(Err("its windows do not tile the padded image".to_owned()));
    }
    let requant = Requant { first: [0, 255], rescale: None, add: None, last: None, zero: 0, to: DType::U8 };
    let op = ProductI8 { form: Form::Maxima { window }, x_zero: 0, requant };
    let bias = graph.add_constant("bias", Tensor::full([channels], 0i32));
    let factors = graph.add_constant("factors", Tensor::full([channels], 1f32));
    let inputs = vec![Some(x), None, Some(bias), Some(factors)];
    Replacement { label: "integer_maxima", at: id, absorbed: &[], op: op.into(), inputs }.apply(graph).map(Ok)
}
