//! [If](https://onnx.ai/onnx/operators/onnx__If.html) with a condition computed at run time. One that is known is
//! inlined while the file is read.

use super::child;
use super::{Graph, Inputs, Op, OpError, Type};
use crate::ir::{DType, Tensor};
use crate::schedule::{LowerCx, TensorView};

/// One of two graphs, by operand 0, a bool of one element. The other operands are the inputs of both graphs; the
/// results are the outputs of the one that ran. Both give the same types.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// What runs when the condition holds.
    pub then: Box<Graph>,
    /// What runs otherwise.
    pub otherwise: Box<Graph>,
}

impl Branch {
    pub(super) fn work(&self) -> u64 {
        child::work(&self.then).max(child::work(&self.otherwise))
    }

    pub(super) fn eval_within(
        &self,
        inputs: &[Option<&Tensor>],
        budget: &mut u64,
    ) -> Result<Vec<Tensor>, OpError> {
        let (condition, captured) = operands(inputs)?;
        let graph = if truth(condition)? { &self.then } else { &self.otherwise };
        child::run(graph, &captured, budget)
    }
}

/// Runs a branch and copies what is wanted of its outputs.
fn place(
    cx: &mut LowerCx<'_>,
    graph: &Graph,
    captured: &[TensorView],
    results: &[Option<TensorView>],
) -> Result<(), OpError> {
    let outputs = cx.inline(graph, captured, |_| false)?;
    outputs.iter().zip(results).try_for_each(|(from, to)| match to {
        Some(to) => cx.copy(from, to),
        None => Ok(()),
    })
}

fn operands<'t>(inputs: &[Option<&'t Tensor>]) -> Result<(&'t Tensor, Vec<&'t Tensor>), OpError> {
    let missing = || OpError::internal("an operand of an `If` is missing");
    let (first, rest) = inputs.split_first().ok_or_else(missing)?;
    let rest: Option<Vec<&Tensor>> = rest.iter().copied().collect();
    Ok((first.ok_or_else(missing)?, rest.ok_or_else(missing)?))
}

/// The truth of a bool of one element.
pub(super) fn truth(condition: &Tensor) -> Result<bool, OpError> {
    match condition.as_slice::<bool>() {
        Some([truth]) => Ok(*truth),
        _ => Err(OpError::invalid("the condition is not a single bool")),
    }
}

impl Op for Branch {
    fn name(&self) -> &'static str {
        "If"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let condition = inputs.required(0)?;
        if condition.dtype != DType::Bool || condition.shape.elements() != 1 {
            return Err(OpError::invalid("the condition is not a single bool"));
        }
        for graph in [&self.then, &self.otherwise] {
            let wanted = child::input_types(graph);
            let fits = |(i, t): (usize, &Type)| {
                inputs.get(i + 1).is_some_and(|f| f.dtype == t.dtype && *f.shape == t.shape)
            };
            if wanted.len() + 1 != inputs.len() || !wanted.iter().enumerate().all(fits) {
                return Err(OpError::internal("a branch is given other operands than it takes"));
            }
        }
        let (types, others) = (child::output_types(&self.then), child::output_types(&self.otherwise));
        for (i, (a, b)) in types.iter().zip(&others).enumerate() {
            if a.dtype != b.dtype {
                let message = format!("result {i} is {} in one branch and {} in the other", a.dtype, b.dtype);
                return Err(OpError::invalid(message));
            }
            if a.shape != b.shape {
                return Err(OpError::unsupported_help(
                    format!(
                        "an `If` whose result {i} has shape {} or {}, by a run-time condition",
                        a.shape, b.shape
                    ),
                    "give the condition's input a value with `--bind`, so that one branch remains",
                ));
            }
        }
        if types.len() != others.len() {
            return Err(OpError::invalid(format!(
                "branches of {} and {} results",
                types.len(),
                others.len()
            )));
        }
        Ok(types)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        self.eval_within(inputs, &mut { child::EVAL_WORK })
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let captured: Vec<TensorView> =
            (0..self.then.inputs.len()).map(|i| cx.read_dense(i + 1)).collect::<Result<_, _>>()?;
        let results: Vec<Option<TensorView>> = (0..self.then.outputs.len())
            .map(|i| cx.output_type(i).map(|_| cx.write_dense(i)).transpose())
            .collect::<Result<_, _>>()?;
        // Passes may have found the condition.
        if let Some(condition) = cx.constant(0) {
            let chosen = if truth(condition)? { &self.then } else { &self.otherwise };
            return place(cx, chosen, &captured, &results);
        }
        let condition = cx.read_dense(0)?;
        let region = cx.begin_if(condition.operand);
        place(cx, &self.then, &captured, &results)?;
        cx.otherwise(region);
        place(cx, &self.otherwise, &captured, &results)?;
        cx.end(region);
        Ok(())
    }

    fn macs(&self, _inputs: &[Option<Type>], _outputs: &[Type]) -> u64 {
        child::macs(&self.then).max(child::macs(&self.otherwise))
    }
}
