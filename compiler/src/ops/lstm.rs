//! [LSTM](https://onnx.ai/onnx/operators/onnx__LSTM.html), from version 7: gates in the order i, o, f, c.
//!
//! `i = f(Xi + Hi + Pi⊙C)`, `f = f(Xf + Hf + Pf⊙C)` (or `1 - i` with `input_forget`), `c = g(Xc + Hc)`,
//! `C ← f⊙C + i⊙c`, `o = f(Xo + Ho + Po⊙C)`, `H ← o⊙h(C)`. See [`recurrent`](super::recurrent) for the rest.

use super::recurrent::{Cell, Kind, Recurrent, State};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type, recurrent_lower};
use crate::ir::Tensor;
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// The operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Lstm(pub Recurrent);

impl OnnxOp for Lstm {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("LSTM", 7)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let input_forget = attrs.int_or("input_forget", 0)? != 0;
        Ok(Lstm(Recurrent::import(attrs, node, Kind::Lstm { input_forget })?).into())
    }
}

/// One sample, one step.
fn step(input_forget: bool, cell: &Cell<'_>, now: &mut State) {
    let n = cell.hidden;
    let (mut h, mut c) = (now.h.clone(), now.c.clone());
    for j in 0..n {
        let gate = |g: usize| now.input[g * n + j] + cell.recurrent(g, j, &now.h);
        let peep = |p: usize, c: f64| cell.peepholes[p * n + j] * c;
        let i = cell.activate(0, gate(0) + peep(0, now.c[j]));
        let f = match input_forget {
            true => 1.0 - i,
            false => cell.activate(0, gate(2) + peep(2, now.c[j])),
        };
        c[j] = f * now.c[j] + i * cell.activate(1, gate(3));
        let o = cell.activate(0, gate(1) + peep(1, c[j]));
        h[j] = o * cell.curves[2].eval(c[j]);
    }
    (now.h, now.c) = (h, c);
}

impl Op for Lstm {
    fn name(&self) -> &'static str {
        "LSTM"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        self.0.infer(inputs)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let input_forget = matches!(self.0.kind, Kind::Lstm { input_forget: true });
        self.0.eval(inputs, |cell, now| step(input_forget, cell, now))
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        recurrent_lower::lower(&self.0, cx)
    }

    fn macs(&self, inputs: &[Option<Type>], _outputs: &[Type]) -> u64 {
        self.0.macs(inputs)
    }
}
