//! What LSTM, GRU and RNN share: attributes, operands, shapes, and the walk through time of their reference.
//!
//! Operands: X, W `[directions, gates·hidden, input]`, R `[directions, gates·hidden, hidden]`, B `[directions,
//! 2·gates·hidden]` (of W, then of R), sequence lengths (`int32`, one per sample), and initial states. Results:
//! the hidden state of every step, the last hidden state, and for LSTM the last cell state. All but the first three
//! operands are optional, and every result is.
//!
//! With lengths, what lies behind the end of a sample is zero in the first result, the last state is that at the
//! sample's end, and the reverse direction starts there. A length of zero leaves the initial state.
//!
//! `clip` bounds what goes into the activations of gates and candidates, not into LSTM's last one (`h`): so do all
//! runtimes that have it.

use super::recurrent_curve::{Curve, curves};
use super::typed::{expect, expect_same, floats, from_floats, is_arithmetic_float};
use super::walk::{checked_type, operand, optional};
use super::{Inputs, OpError, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};

/// Operand positions.
pub(super) const X: usize = 0;
/// Weights of the input.
pub(super) const W: usize = 1;
/// Weights of the state.
pub(super) const R: usize = 2;
/// Biases.
pub(super) const B: usize = 3;
/// Lengths of the samples.
pub(super) const LENGTHS: usize = 4;
/// First hidden state.
pub(super) const FIRST_H: usize = 5;
/// First cell state.
pub(super) const FIRST_C: usize = 6;
/// Peepholes.
pub(super) const PEEPHOLES: usize = 7;

/// Which of the three it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Gates i, o, f, c.
    Lstm {
        /// The forget gate is one minus the input gate.
        input_forget: bool,
    },
    /// Gates z, r, h.
    Gru {
        /// The reset gate is applied to the product, not to the state before it.
        linear_before_reset: bool,
    },
    /// One gate.
    Rnn,
}

impl Kind {
    /// Gates.
    pub(super) fn gates(self) -> usize {
        match self {
            Kind::Lstm { .. } => 4,
            Kind::Gru { .. } => 3,
            Kind::Rnn => 1,
        }
    }

    /// Activations of one direction.
    pub(super) fn activations(self) -> &'static [&'static str] {
        match self {
            Kind::Lstm { .. } => &["Sigmoid", "Tanh", "Tanh"],
            Kind::Gru { .. } => &["Sigmoid", "Tanh"],
            Kind::Rnn => &["Tanh"],
        }
    }
}

/// One direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// From the last element to the first.
    pub backwards: bool,
    /// Activations, as many as [`Kind::activations`].
    pub curves: Vec<Curve>,
}

/// Attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    /// Which operator.
    pub kind: Kind,
    /// Directions, one or two.
    pub ways: Vec<Way>,
    /// Units of the hidden state, where the model says so.
    pub hidden: Option<usize>,
    /// Bound of what goes into activations.
    pub clip: Option<f32>,
    /// Whether the batch comes before time (`layout = 1`).
    pub batch_first: bool,
}

/// Extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extents {
    /// Elements of a sequence.
    pub steps: usize,
    /// Samples.
    pub batch: usize,
    /// Features of an element.
    pub input: usize,
    /// Units of the hidden state.
    pub hidden: usize,
    /// Directions.
    pub directions: usize,
}

impl Extents {
    /// Shape of the hidden states of all steps.
    pub(super) fn all(&self, batch_first: bool) -> [usize; 4] {
        match batch_first {
            false => [self.steps, self.directions, self.batch, self.hidden],
            true => [self.batch, self.steps, self.directions, self.hidden],
        }
    }

    /// Shape of one state.
    pub(super) fn one(&self, batch_first: bool) -> [usize; 3] {
        match batch_first {
            false => [self.directions, self.batch, self.hidden],
            true => [self.batch, self.directions, self.hidden],
        }
    }
}

impl Recurrent {
    /// Reads the attributes that all three have.
    pub(super) fn import(
        attrs: &mut AttrReader<'_>,
        node: &NodeView<'_>,
        kind: Kind,
    ) -> Result<Recurrent, OpError> {
        let backwards: &[bool] = match attrs.text("direction")?.unwrap_or("forward") {
            "forward" => &[false],
            "reverse" => &[true],
            "bidirectional" => &[false, true],
            other => return Err(OpError::invalid(format!("attribute `direction` is `{other}`"))),
        };
        let hidden = attrs.int("hidden_size")?.map(super::walk::extent).transpose()?;
        let clip = attrs.float("clip")?;
        if clip.is_some_and(|c| c.is_nan() || c < 0.0) {
            return Err(OpError::invalid("attribute `clip` is negative or not a number"));
        }
        let batch_first = match attrs.int_or("layout", 0)? {
            0 => false,
            1 if node.opset >= 14 => true,
            other => return Err(OpError::invalid(format!("attribute `layout` is {other}"))),
        };
        let own = kind.activations();
        let all = curves(attrs, own, backwards.len())?;
        let ways = backwards.iter().zip(all.chunks(own.len()));
        let ways = ways.map(|(&backwards, curves)| Way { backwards, curves: curves.to_vec() }).collect();
        Ok(Recurrent { kind, ways, hidden, clip, batch_first })
    }

    /// Extents from the shapes of X and R.
    pub(super) fn extents(&self, x: &Shape, r: &Shape) -> Result<Extents, OpError> {
        let bad = |what: &str, shape: &Shape| OpError::invalid(format!("{what} has shape {shape}"));
        let &[first, second, input] = x.dims() else { return Err(bad("the sequence", x)) };
        let &[directions, _, hidden] = r.dims() else { return Err(bad("the recurrent weight", r)) };
        let (steps, batch) = if self.batch_first { (second, first) } else { (first, second) };
        Ok(Extents { steps, batch, input, hidden, directions })
    }

    /// Types of the results; checks all operands.
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, r) = (inputs.required(X)?, inputs.required(R)?);
        expect(is_arithmetic_float(x.dtype), x.dtype)?;
        let e = self.extents(x.shape, r.shape)?;
        if self.hidden.is_some_and(|h| h != e.hidden) {
            return Err(OpError::invalid(format!(
                "attribute `hidden_size` is not {}, as the recurrent weight says",
                e.hidden
            )));
        }
        let lstm = matches!(self.kind, Kind::Lstm { .. });
        let rows = e
            .hidden
            .checked_mul(2 * self.kind.gates())
            .ok_or_else(|| OpError::Limit("a hidden state is too large".to_owned()))?;
        let one = e.one(self.batch_first);
        let d = self.ways.len();
        let expected: [(usize, &str, &[usize]); 7] = [
            (W, "the input's weight", &[d, rows / 2, e.input]),
            (R, "the recurrent weight", &[d, rows / 2, e.hidden]),
            (B, "the bias", &[d, rows]),
            (LENGTHS, "`sequence_lens`", &[e.batch]),
            (FIRST_H, "`initial_h`", &one),
            (FIRST_C, "`initial_c`", &one),
            (PEEPHOLES, "the peephole weight", &[d, rows / 8 * 3]),
        ];
        inputs.required(W)?;
        for (i, what, shape) in expected {
            let Some(fact) = inputs.get(i) else { continue };
            if i > FIRST_H && !lstm {
                return Err(OpError::invalid(format!("there is no operand {i}")));
            }
            match i {
                LENGTHS => expect(fact.dtype == DType::I32, fact.dtype)?,
                _ => expect_same(x.dtype, fact.dtype)?,
            }
            if fact.shape.dims() != shape {
                return Err(OpError::invalid(format!("{what} has shape {}, not {shape:?}", fact.shape)));
            }
        }
        if inputs.len() > PEEPHOLES + 1 {
            return Err(OpError::invalid(format!("{} operands", inputs.len())));
        }
        let mut types = vec![checked_type(x.dtype, e.all(self.batch_first))?, checked_type(x.dtype, one)?];
        if lstm {
            types.push(checked_type(x.dtype, one)?);
        }
        // The projection of the input is held for the whole sequence.
        checked_type(x.dtype, [e.steps, e.batch, d, rows])?;
        Ok(types)
    }

    /// Multiply-accumulates: of the input, and of the state.
    pub(super) fn macs(&self, inputs: &[Option<Type>]) -> u64 {
        let shape = |i: usize| inputs.get(i).and_then(|t| t.as_ref()).map(|t| &t.shape);
        let (Some(x), Some(r)) = (shape(X), shape(R)) else { return 0 };
        let Ok(e) = self.extents(x, r) else { return 0 };
        let factors = [e.steps, e.batch, e.directions, self.kind.gates(), e.hidden, e.input + e.hidden];
        factors.iter().fold(1, |n: u64, &d| n.saturating_mul(d as u64))
    }

    /// Reference semantics: `cell` takes each sample through one step.
    pub(super) fn eval(
        &self,
        inputs: &[Option<&Tensor>],
        cell: impl Fn(&Cell<'_>, &mut State),
    ) -> Result<Vec<Tensor>, OpError> {
        let (x, r) = (operand(inputs, X)?, operand(inputs, R)?);
        let e = self.extents(x.shape(), r.shape())?;
        let dtype = x.dtype();
        let gates = self.kind.gates();
        let known = |i: usize| optional(inputs, i).map(floats).transpose();
        let (x, w, r) = (floats(x)?, floats(operand(inputs, W)?)?, floats(r)?);
        let (bias, peepholes) = (known(B)?, known(PEEPHOLES)?);
        let (first_h, first_c, lengths) = (known(FIRST_H)?, known(FIRST_C)?, known(LENGTHS)?);
        let (rows, h) = (gates * e.hidden, e.hidden);
        let all = e.all(self.batch_first);
        let one = e.one(self.batch_first);
        let mut y = vec![0.0; all.iter().product()];
        let mut last = [vec![0.0; one.iter().product()], vec![0.0; one.iter().product()]];
        for (d, way) in self.ways.iter().enumerate() {
            let of = |all: &Option<Vec<f64>>, per: usize| match all {
                Some(values) => values[d * per..(d + 1) * per].to_vec(),
                None => vec![0.0; per],
            };
            let biases = of(&bias, 2 * rows);
            let cell_of = Cell {
                hidden: h,
                r: &r[d * rows * h..(d + 1) * rows * h],
                bias: &biases[rows..],
                peepholes: &of(&peepholes, 3 * h),
                curves: &way.curves,
                clip: self.clip,
            };
            for n in 0..e.batch {
                let at = if self.batch_first { n * e.directions + d } else { d * e.batch + n };
                let state = |all: &Option<Vec<f64>>| match all {
                    Some(values) => values[at * h..(at + 1) * h].to_vec(),
                    None => vec![0.0; h],
                };
                let length = lengths.as_ref().map_or(e.steps, |l| (l[n].max(0.0) as usize).min(e.steps));
                let mut now = State { input: vec![0.0; rows], h: state(&first_h), c: state(&first_c) };
                for i in 0..length {
                    let t = if way.backwards { length - 1 - i } else { i };
                    let from = if self.batch_first { n * e.steps + t } else { t * e.batch + n };
                    let features = &x[from * e.input..(from + 1) * e.input];
                    for row in 0..rows {
                        let weights = &w[(d * rows + row) * e.input..][..e.input];
                        now.input[row] = biases[row] + dot(weights, features);
                    }
                    cell(&cell_of, &mut now);
                    let to = match self.batch_first {
                        false => (t * e.directions + d) * e.batch + n,
                        true => (n * e.steps + t) * e.directions + d,
                    };
                    y[to * h..(to + 1) * h].copy_from_slice(&now.h);
                }
                last[0][at * h..(at + 1) * h].copy_from_slice(&now.h);
                last[1][at * h..(at + 1) * h].copy_from_slice(&now.c);
            }
        }
        let [last_h, last_c] = last;
        let mut results = vec![from_floats(dtype, all, y)?, from_floats(dtype, one, last_h)?];
        if matches!(self.kind, Kind::Lstm { .. }) {
            results.push(from_floats(dtype, one, last_c)?);
        }
        Ok(results)
    }
}

/// What one direction of a reference evaluation holds.
pub(super) struct Cell<'a> {
    /// Units.
    pub hidden: usize,
    /// Recurrent weights, `[gates·hidden, hidden]`.
    pub r: &'a [f64],
    /// Recurrent biases, `[gates·hidden]`.
    pub bias: &'a [f64],
    /// Peepholes, `[3·hidden]`; zeros where there are none.
    pub peepholes: &'a [f64],
    /// Activations.
    pub curves: &'a [Curve],
    /// Bound.
    pub clip: Option<f32>,
}

impl Cell<'_> {
    /// The state's share in gate `g` of unit `j`, with its bias.
    pub(super) fn recurrent(&self, g: usize, j: usize, h: &[f64]) -> f64 {
        let row = g * self.hidden + j;
        self.bias[row] + dot(&self.r[row * self.hidden..][..self.hidden], h)
    }

    /// Activation `i` of a value, clipped first.
    pub(super) fn activate(&self, i: usize, value: f64) -> f64 {
        let bounded = match self.clip {
            Some(c) => value.clamp(-f64::from(c), f64::from(c)),
            None => value,
        };
        self.curves[i].eval(bounded)
    }
}

/// A sample on its way through time.
pub(super) struct State {
    /// The input's share in the gates, with its bias: `[gates·hidden]`.
    pub input: Vec<f64>,
    /// Hidden state.
    pub h: Vec<f64>,
    /// Cell state.
    pub c: Vec<f64>,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
