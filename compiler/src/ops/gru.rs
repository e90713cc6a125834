//! [GRU](https://onnx.ai/onnx/operators/onnx__GRU.html), from version 7: gates in the order z, r, h.
//!
//! `z = f(Xz + Hz)`, `r = f(Xr + Hr)`, `h = g(Xh + (r⊙H)·Rhᵀ + Rbh)`, or with `linear_before_reset`
//! `h = g(Xh + r⊙(H·Rhᵀ + Rbh))`; `H ← (1 - z)⊙h + z⊙H`. See [`recurrent`](super::recurrent) for the rest.

use super::recurrent::{Cell, Kind, Recurrent, State};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type, recurrent_lower};
use crate::ir::Tensor;
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// The operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Gru(pub Recurrent);

impl OnnxOp for Gru {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("GRU", 7)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let linear_before_reset = attrs.int_or("linear_before_reset", 0)? != 0;
        Ok(Gru(Recurrent::import(attrs, node, Kind::Gru { linear_before_reset })?).into())
    }
}

/// One sample, one step.
fn step(linear_before_reset: bool, cell: &Cell<'_>, now: &mut State) {
    let n = cell.hidden;
    let gate = |g: usize, j: usize| cell.activate(0, now.input[g * n + j] + cell.recurrent(g, j, &now.h));
    let z: Vec<f64> = (0..n).map(|j| gate(0, j)).collect();
    let r: Vec<f64> = (0..n).map(|j| gate(1, j)).collect();
    let reset: Vec<f64> = r.iter().zip(&now.h).map(|(r, h)| r * h).collect();
    let next = (0..n).map(|j| {
        let state = match linear_before_reset {
            true => r[j] * cell.recurrent(2, j, &now.h),
            false => cell.recurrent(2, j, &reset),
        };
        (1.0 - z[j]) * cell.activate(1, now.input[2 * n + j] + state) + z[j] * now.h[j]
    });
    now.h = next.collect();
}

impl Op for Gru {
    fn name(&self) -> &'static str {
        "GRU"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        self.0.infer(inputs)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let linear = matches!(self.0.kind, Kind::Gru { linear_before_reset: true });
        self.0.eval(inputs, |cell, now| step(linear, cell, now))
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        recurrent_lower::lower(&self.0, cx)
    }

    fn macs(&self, inputs: &[Option<Type>], _outputs: &[Type]) -> u64 {
        self.0.macs(inputs)
    }
}
