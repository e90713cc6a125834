//! [Loop](https://onnx.ai/onnx/operators/onnx__Loop.html) and [Scan](https://onnx.ai/onnx/operators/onnx__Scan.html):
//! a graph that runs again and again, on states that it hands from one iteration to the next.
//!
//! Both become one operator while the file is read. What a loop may do that has no fixed size is refused there:
//! states that change their shape, rows whose number only the run knows.

use super::child;
use super::length;
use super::loop_lower;
use super::walk::{pick, pick_from, positions, strides};
use super::{Graph, Inputs, Length, Lengths, Op, OpError, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::schedule::LowerCx;

/// A body and how it is fed.
///
/// Operands: the number of iterations where it is [`Count::Given`] (an integer of 64 bits), the first condition
/// where `checked` (a bool), the first states, what is read slice by slice, then what the body takes from around it.
///
/// Inputs of the body: the number of the iteration where `numbered` (a scalar of 64 bits), the states, one slice of
/// each, the rest. Its outputs: whether to go on where `checked`, the next states, one row of each of `rows`.
///
/// Results: the last states, then the rows joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Loop {
    /// What runs.
    pub body: Box<Graph>,
    /// How often at most.
    pub count: Count,
    /// Whether a condition may end it before.
    pub checked: bool,
    /// Whether the body takes the number of the iteration.
    pub numbered: bool,
    /// Number of states.
    pub states: usize,
    /// Whether the last state, an `i64[1]`, counts the iterations: the rows are so many in a run, and the extent of
    /// their axis is the most that they can be.
    pub counted: bool,
    /// What is read slice by slice.
    pub slices: Vec<Along>,
    /// What is made row by row.
    pub rows: Vec<Along>,
    /// What ONNX calls it.
    pub name: &'static str,
}

/// How often a loop runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// So often.
    Known(u64),
    /// As often as an operand says; where that goes beyond `most`, only so often. Rows that are not made are zero.
    Given {
        /// The most, where there is one.
        most: Option<u64>,
    },
    /// As long as the condition holds.
    Unbounded,
}

/// An axis along which a value is taken apart or put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Along {
    /// The axis of the whole.
    pub axis: usize,
    /// Whether the first iteration has the last slice.
    pub backwards: bool,
}

/// The operands of a loop by what they are: the first of each kind, and one past the last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Where there is one.
    pub count: Option<usize>,
    /// Where there is one.
    pub condition: Option<usize>,
    /// The first state.
    pub states: usize,
    /// The first of what is read slice by slice.
    pub slices: usize,
    /// The first of the rest.
    pub captured: usize,
}

impl Loop {
    pub(super) fn layout(&self) -> Layout {
        let count = matches!(self.count, Count::Given { .. }).then_some(0);
        let condition = self.checked.then_some(usize::from(count.is_some()));
        let states = usize::from(count.is_some()) + usize::from(self.checked);
        let slices = states + self.states;
        Layout { count, condition, states, slices, captured: slices + self.slices.len() }
    }

    /// Extent of the axis of rows, where that is known: of all runs, or at most.
    pub(super) fn extent(&self) -> Option<usize> {
        let most = match self.count {
            Count::Known(n) if !self.checked || self.counted => n,
            Count::Given { most: Some(most) } if !self.checked => most,
            _ => return None,
        };
        usize::try_from(most).ok()
    }

    /// At most so much work; the largest number where nothing bounds it.
    pub(super) fn work(&self) -> u64 {
        match self.count {
            Count::Known(n) | Count::Given { most: Some(n) } => child::work(&self.body).saturating_mul(n),
            Count::Given { most: None } | Count::Unbounded => u64::MAX,
        }
    }

    /// The types of the results, from those of the body's outputs.
    fn results(&self) -> Result<Vec<Type>, OpError> {
        let outputs = child::output_types(&self.body);
        let outputs = outputs.get(usize::from(self.checked)..).unwrap_or(&[]);
        if outputs.len() != self.states + self.rows.len() {
            return Err(OpError::internal("a loop's body has other outputs than the loop"));
        }
        let (states, rows) = outputs.split_at(self.states);
        let mut types = states.to_vec();
        if rows.is_empty() {
            return Ok(types);
        }
        let extent = self.extent().ok_or_else(|| {
            let how = "a loop that gives a row for each iteration, where only the run knows how many there are";
            let help = "give the number of iterations a value with `--bind` or as an initializer and let the body's \
                        condition stay true, or give it as a constant of no more than a million, which then bounds \
                        the rows, or write them into a state of fixed size (`ScatterND`)";
            OpError::unsupported_help(how, help)
        })?;
        for (row, along) in rows.iter().zip(&self.rows) {
            let mut shape = row.shape.to_vec();
            if along.axis > shape.len() {
                return Err(OpError::invalid(format!(
                    "rows of shape {} joined on axis {}",
                    row.shape, along.axis
                )));
            }
            shape.insert(along.axis, extent);
            types.push(super::walk::checked_type(row.dtype, shape)?);
        }
        Ok(types)
    }

    pub(super) fn eval_within(
        &self,
        inputs: &[Option<&Tensor>],
        budget: &mut u64,
    ) -> Result<Vec<Tensor>, OpError> {
        let missing = || OpError::internal("an operand of a loop is missing");
        let operands: Vec<&Tensor> = inputs.iter().copied().collect::<Option<_>>().ok_or_else(missing)?;
        let at = self.layout();
        let get = |i: usize| operands.get(i).copied().ok_or_else(missing);
        let given = |most: Option<u64>| -> Result<u64, OpError> {
            let n = match get(0)?.as_slice::<i64>() {
                Some([n]) => u64::try_from(*n).unwrap_or(0),
                _ => return Err(OpError::invalid("the number of iterations is not a single integer")),
            };
            Ok(most.map_or(n, |most| n.min(most)))
        };
        let count = match self.count {
            Count::Known(n) => n,
            Count::Given { most } => given(most)?,
            Count::Unbounded => u64::MAX,
        };
        if !self.checked && self.work() > *budget && matches!(self.count, Count::Known(_)) {
            return Err(child::too_long());
        }
        let mut goes_on = at.condition.map_or(Ok(true), |i| super::branch::truth(get(i)?))?;
        let part = |from: usize, to: usize| operands.get(from..to).unwrap_or(&[]);
        let mut states: Vec<Tensor> = part(at.states, at.slices).iter().map(|&t| t.clone()).collect();
        let whole = part(at.slices, at.captured);
        let captured = part(at.captured, operands.len());
        let mut rows: Vec<Vec<Tensor>> = vec![Vec::new(); self.rows.len()];
        let mut done = 0;
        while goes_on && done < count {
            let moved: usize = states.iter().map(Tensor::len).sum();
            *budget = budget.checked_sub(child::NODE_WORK + moved as u64).ok_or_else(child::too_long)?;
            let number = self.numbered.then(|| Tensor::scalar(done as i64));
            let slices: Vec<Tensor> = whole
                .iter()
                .zip(&self.slices)
                .map(|(&t, &along)| slice(t, along, done))
                .collect::<Result<_, _>>()?;
            let given: Vec<&Tensor> =
                number.iter().chain(&states).chain(&slices).chain(captured.iter().copied()).collect();
            let mut outputs = child::run(&self.body, &given, budget)?.into_iter();
            if self.checked {
                goes_on = super::branch::truth(&outputs.next().ok_or_else(missing)?)?;
            }
            states = outputs.by_ref().take(self.states).collect();
            rows.iter_mut().zip(outputs).for_each(|(rows, row)| rows.push(row));
            done += 1;
        }
        let types = self.results()?;
        let joined = rows.iter().zip(&self.rows).zip(types.iter().skip(self.states));
        let joined: Vec<Tensor> =
            joined.map(|((rows, &a), ty)| join(rows, a, ty)).collect::<Result<_, _>>()?;
        states.extend(joined);
        Ok(states)
    }

    /// That operands are what the body takes.
    fn check(&self, inputs: &Inputs<'_>) -> Result<(), OpError> {
        let at = self.layout();
        if let Some(i) = at.count {
            let count = inputs.required(i)?;
            if count.dtype != DType::I64 || count.shape.elements() != 1 {
                return Err(OpError::invalid("the number of iterations is not a single integer of 64 bits"));
            }
        }
        if let Some(i) = at.condition {
            let condition = inputs.required(i)?;
            if condition.dtype != DType::Bool || condition.shape.elements() != 1 {
                return Err(OpError::invalid("the condition is not a single bool"));
            }
        }
        let wanted = child::input_types(&self.body);
        let mut wanted = wanted.iter().skip(usize::from(self.numbered));
        for i in at.states..inputs.len() {
            let found = inputs.required(i)?;
            let along = i.checked_sub(at.slices).and_then(|k| self.slices.get(k));
            let shape = match along {
                Some(along) => self.sliced(found.shape, *along)?,
                None => found.shape.clone(),
            };
            if wanted.next().is_none_or(|w| w.dtype != found.dtype || w.shape != shape) {
                return Err(OpError::internal("a loop's body takes other inputs than it is given"));
            }
        }
        match wanted.next() {
            Some(_) => Err(OpError::internal("a loop's body takes more inputs than it is given")),
            None => Ok(()),
        }
    }

    /// Shape of one slice; there must be one for each iteration.
    fn sliced(&self, whole: &Shape, along: Along) -> Result<Shape, OpError> {
        let extent = whole.get(along.axis).copied();
        if extent.is_none() || extent != self.extent() {
            return Err(OpError::invalid(format!(
                "{} iterations over axis {} of an operand of shape {whole}",
                self.extent().map_or("an unknown number of".to_owned(), |n| n.to_string()),
                along.axis
            )));
        }
        Ok(whole.iter().enumerate().filter(|(a, _)| *a != along.axis).map(|(_, &d)| d).collect())
    }
}

/// The slice of an iteration.
fn slice(whole: &Tensor, along: Along, number: u64) -> Result<Tensor, OpError> {
    let shape = whole.shape();
    let steps = strides(shape);
    let (Some(&extent), Some(&step)) = (shape.get(along.axis), steps.get(along.axis)) else {
        return Err(OpError::internal("a slice along no axis"));
    };
    let number = usize::try_from(number).ok().filter(|&n| n < extent);
    let number = number.ok_or_else(|| OpError::internal("more iterations than slices"))?;
    let place = if along.backwards { extent - 1 - number } else { number };
    let without = |list: &mut dyn Iterator<Item = isize>| -> Vec<isize> {
        list.enumerate().filter(|(a, _)| *a != along.axis).map(|(_, d)| d).collect()
    };
    let inner: Vec<usize> =
        without(&mut shape.iter().map(|&d| d as isize)).iter().map(|&d| d as usize).collect();
    let steps = without(&mut steps.iter().copied());
    pick(whole, inner.as_slice(), positions(&inner, &steps, place as isize * step))
}

/// Rows side by side; zeros for those that are missing.
fn join(rows: &[Tensor], along: Along, ty: &Type) -> Result<Tensor, OpError> {
    let zero = Tensor::from_le_bytes(ty.dtype, Shape::scalar(), &vec![0; ty.dtype.size().max(1)]);
    let zero = zero.map_err(|_| OpError::unsupported(format!("rows of type {}", ty.dtype)))?;
    let extent = ty.shape.get(along.axis).copied().unwrap_or(0);
    let inner: usize = ty.shape.iter().skip(along.axis + 1).product();
    let outer: usize = ty.shape.iter().take(along.axis).product();
    let sources: Vec<&Tensor> = rows.iter().chain([&zero]).collect();
    let made = rows.len();
    let picks = (0..outer).flat_map(move |o| {
        (0..extent).flat_map(move |place| {
            let row = if along.backwards { extent - 1 - place } else { place };
            (0..inner).map(move |i| if row < made { (row, o * inner + i) } else { (made, 0) })
        })
    });
    pick_from(&sources, ty.shape.clone(), picks)
}

impl Op for Loop {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        self.check(inputs)?;
        let types = self.results()?;
        if self.checked {
            let goes_on = child::output_types(&self.body).into_iter().next();
            if goes_on.is_none_or(|t| t.dtype != DType::Bool || t.shape.elements() != 1) {
                return Err(OpError::invalid("the body's condition is not a single bool"));
            }
        }
        let first = self.layout().states;
        for (k, next) in types.iter().take(self.states).enumerate() {
            let state = inputs.required(first + k)?;
            if state.dtype != next.dtype {
                return Err(OpError::invalid(format!(
                    "state {k} is {} before an iteration and {} behind it",
                    state.dtype, next.dtype
                )));
            }
            if *state.shape != next.shape {
                return Err(OpError::unsupported_help(
                    format!(
                        "a loop whose state {k} has shape {} before an iteration and {} behind it",
                        state.shape, next.shape
                    ),
                    "give states a fixed shape (preallocate, and write with `ScatterND`), or give the number of \
                     iterations a value with `--bind`, so that the loop is unrolled",
                ));
            }
        }
        Ok(types)
    }

    fn lengths(&self, _inputs: &Inputs<'_>, along: length::Axes<'_>) -> Result<Lengths, OpError> {
        length::none(along)?;
        let Some(counter) = self.states.checked_sub(1).filter(|_| self.counted) else {
            return Ok(Lengths::default());
        };
        let rows = self
            .rows
            .iter()
            .map(|row| Some(super::Along { axis: row.axis, length: Length::Result(counter) }));
        Ok(Lengths {
            results: vec![None; self.states].into_iter().chain(rows).collect(),
            ..Lengths::default()
        })
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        self.eval_within(inputs, &mut { child::EVAL_WORK })
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        loop_lower::lower(self, cx)
    }

    fn macs(&self, _inputs: &[Option<Type>], _outputs: &[Type]) -> u64 {
        let once = child::macs(&self.body);
        match self.count {
            Count::Known(n) | Count::Given { most: Some(n) } => once.saturating_mul(n),
            Count::Given { most: None } | Count::Unbounded => once,
        }
    }
}
