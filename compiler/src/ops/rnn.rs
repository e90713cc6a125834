//! [RNN](https://onnx.ai/onnx/operators/onnx__RNN.html), from version 7: `H ← f(X·Wᵀ + H·Rᵀ + biases)`. See
//! [`recurrent`](super::recurrent) for the rest.

use super::recurrent::{Cell, Kind, Recurrent, State};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type, recurrent_lower};
use crate::ir::Tensor;
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// The operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Rnn(pub Recurrent);

impl OnnxOp for Rnn {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("RNN", 7)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Rnn(Recurrent::import(attrs, node, Kind::Rnn)?).into())
    }
}

/// One sample, one step.
fn step(cell: &Cell<'_>, now: &mut State) {
    let next = (0..cell.hidden).map(|j| cell.activate(0, now.input[j] + cell.recurrent(0, j, &now.h)));
    now.h = next.collect();
}

impl Op for Rnn {
    fn name(&self) -> &'static str {
        "RNN"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        self.0.infer(inputs)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        self.0.eval(inputs, step)
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        recurrent_lower::lower(&self.0, cx)
    }

    fn macs(&self, inputs: &[Option<Type>], _outputs: &[Type]) -> u64 {
        self.0.macs(inputs)
    }
}
