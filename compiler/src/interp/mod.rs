//! Runs a graph through the operators' reference evaluation.
//!
//! In: a verified graph and one tensor per graph input. Out: one tensor per graph output, and on
//! demand every value on the way ([`run_observed`], for calibration and for finding the first node
//! that diverges). A value is freed behind its last reader. Same graph and inputs, same bytes, on any
//! host. Refused: inputs of another type or number than the graph declares.

use crate::diag::{Code, Diagnostic, NodeRef};
use crate::ir::{DType, NodeId, Origin, Shape, Tensor, ValueId};
use crate::ops::{Graph, OpError};
use std::fmt;

/// Why a graph could not be run.
#[derive(Debug, Clone, PartialEq)]
pub enum InterpError {
    /// Another number of inputs than the graph has.
    InputCount {
        /// What the graph has.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// An input of another element type or shape.
    InputType {
        /// The input's name.
        name: String,
        /// What the graph declares.
        expected: (DType, Shape),
        /// What was given.
        found: (DType, Shape),
    },
    /// A node refused its operands.
    Op {
        /// The ONNX nodes it stands for.
        origins: Vec<Origin>,
        /// Operator.
        op: &'static str,
        /// Its reason.
        error: OpError,
    },
    /// A node's result is not what the graph declares, or a value is read before it is written: a bug
    /// of the compiler.
    Internal(String),
}

impl fmt::Display for InterpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InterpError::InputCount { expected, found } => {
                write!(f, "the model has {expected} inputs, {found} were given")
            }
            InterpError::InputType { name, expected, found } => write!(
                f,
                "input `{name}` is {}{}, but {}{} was given",
                expected.0, expected.1, found.0, found.1
            ),
            InterpError::Op { origins, op, error } => match origins.first() {
                Some(o) => write!(f, "node `{}` ({op}): {error}", o.name),
                None => write!(f, "{op}: {error}"),
            },
            InterpError::Internal(what) => write!(f, "internal error: {what}"),
        }
    }
}

impl std::error::Error for InterpError {}

impl From<&InterpError> for Diagnostic {
    fn from(e: &InterpError) -> Self {
        match e {
            InterpError::InputCount { .. } | InterpError::InputType { .. } => {
                Diagnostic::error(Code::BadOption, e.to_string())
            }
            InterpError::Op { origins, error, .. } => {
                let node = origins.first().map(NodeRef::from).unwrap_or_default();
                Diagnostic::from_op(error, node)
            }
            InterpError::Internal(what) => Diagnostic::error(Code::Internal, what.clone()),
        }
    }
}

/// Runs the graph; `inputs` and the result are in the graph's order.
pub fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, InterpError> {
    run_observed(graph, inputs, &mut |_, _| {})
}

/// Runs the graph and shows every value to `observe` as soon as it is there: inputs first, then each
/// node's results in execution order. Values known at compile time are not shown.
pub fn run_observed(
    graph: &Graph,
    inputs: &[Tensor],
    observe: &mut dyn FnMut(ValueId, &Tensor),
) -> Result<Vec<Tensor>, InterpError> {
    if inputs.len() != graph.inputs.len() {
        return Err(InterpError::InputCount { expected: graph.inputs.len(), found: inputs.len() });
    }
    let mut live = Live::new(graph);
    for (&id, tensor) in graph.inputs.iter().zip(inputs) {
        let value = graph.value(id);
        if (tensor.dtype(), tensor.shape()) != (value.dtype, &value.shape) {
            return Err(InterpError::InputType {
                name: value.name.clone(),
                expected: (value.dtype, value.shape.clone()),
                found: (tensor.dtype(), tensor.shape().clone()),
            });
        }
        observe(id, tensor);
        live.write(id, tensor.clone());
    }
    for (id, node) in graph.nodes() {
        // What the import knows may be cut to fewer elements than the operator's own results have.
        if node.outputs.iter().flatten().all(|&v| graph.constant(v).is_some()) {
            live.free_after(id);
            continue;
        }
        let operands: Vec<Option<&Tensor>> = node
            .inputs
            .iter()
            .map(|v| v.map(|v| live.read(graph, v)).transpose())
            .collect::<Result<_, _>>()?;
        let results = node.op.as_op().eval(&operands).map_err(|error| InterpError::Op {
            origins: node.origins.clone(),
            op: node.op.as_op().name(),
            error,
        })?;
        let mut results = results.into_iter();
        for output in &node.outputs {
            let result = results.next();
            let Some(v) = *output else { continue };
            let value = graph.value(v);
            let result = result.filter(|r| (r.dtype(), r.shape()) == (value.dtype, &value.shape));
            let result = result.ok_or_else(|| {
                InterpError::Internal(format!(
                    "{} does not evaluate to the {}{} declared for `{}`",
                    node.op.as_op().name(),
                    value.dtype,
                    value.shape,
                    value.name
                ))
            })?;
            observe(v, &result);
            live.write(v, result);
        }
        live.free_after(id);
    }
    graph.outputs.iter().map(|&(_, v)| live.read(graph, v).cloned()).collect()
}

/// Values that somebody still reads.
struct Live {
    tensors: Vec<Option<Tensor>>,
    /// By node: values that nobody reads behind it.
    last: Vec<Vec<ValueId>>,
}

impl Live {
    fn new(graph: &Graph) -> Self {
        let mut seen = vec![false; graph.value_count()];
        let mut mark = |v: ValueId| seen.get_mut(v.0 as usize).is_some_and(|s| !std::mem::replace(s, true));
        // Outputs are read at the end: they count as seen.
        for &(_, v) in &graph.outputs {
            mark(v);
        }
        let nodes = graph.order().iter().map(|n| n.0 as usize + 1).max().unwrap_or(0);
        let mut last = vec![Vec::new(); nodes];
        for (id, node) in graph.nodes().rev() {
            let read_or_written = node.inputs.iter().chain(&node.outputs).flatten();
            let dying: Vec<ValueId> = read_or_written.copied().filter(|&v| mark(v)).collect();
            if let Some(list) = last.get_mut(id.0 as usize) {
                *list = dying;
            }
        }
        Live { tensors: vec![None; graph.value_count()], last }
    }

    fn write(&mut self, v: ValueId, tensor: Tensor) {
        if let Some(slot) = self.tensors.get_mut(v.0 as usize) {
            *slot = Some(tensor);
        }
    }

    fn read<'t>(&'t self, graph: &'t Graph, v: ValueId) -> Result<&'t Tensor, InterpError> {
        let computed = || self.tensors.get(v.0 as usize).and_then(Option::as_ref);
        graph.constant(v).or_else(computed).ok_or_else(|| {
            InterpError::Internal(format!("`{}` is read before it is written", graph.value(v).name))
        })
    }

    fn free_after(&mut self, node: NodeId) {
        for v in self.last.get(node.0 as usize).into_iter().flatten() {
            if let Some(slot) = self.tensors.get_mut(v.0 as usize) {
                *slot = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::expr::{BinaryFn, UnaryFn};
    use crate::ops::binary::{Binary, BinaryKind};
    use crate::ops::unary::Unary;

    /// `y = -(x + 1)`, `z = y + y`, outputs `z` and `x`.
    fn example() -> Graph {
        let mut g = Graph::new("g");
        let shape = Shape::from([2]);
        let x = g.add_input("x", DType::F32, shape.clone());
        let one = g.add_constant("one", Tensor::scalar(1f32));
        let mut add = |op: crate::ops::OpKind, inputs: &[ValueId], name: &str| {
            let inputs = inputs.iter().map(|&v| Some(v)).collect();
            let id = g.add_node(op, inputs, vec![Some((name.to_owned(), DType::F32, shape.clone()))], vec![]);
            g.node(id).unwrap().outputs[0].unwrap()
        };
        let plus = || Binary { function: BinaryKind::Arith(BinaryFn::Add) }.into();
        let sum = add(plus(), &[x, one], "sum");
        let y = add(Unary { function: UnaryFn::Neg }.into(), &[sum], "y");
        let z = add(plus(), &[y, y], "z");
        g.outputs = vec![("z".to_owned(), z), ("same".to_owned(), x)];
        g
    }

    #[test]
    fn runs_in_order_and_shows_every_value() {
        let g = example();
        let x = Tensor::vector(&[1f32, 2.0]);
        let mut names = Vec::new();
        let out = run_observed(&g, std::slice::from_ref(&x), &mut |v, _| names.push(g.value(v).name.clone()));
        assert_eq!(out.unwrap(), [Tensor::vector(&[-4f32, -6.0]), x]);
        assert_eq!(names, ["x", "sum", "y", "z"]);
    }

    #[test]
    fn values_are_freed_behind_their_last_reader() {
        let g = example();
        let live = Live::new(&g);
        let dying: Vec<Vec<&str>> =
            live.last.iter().map(|l| l.iter().map(|&v| g.value(v).name.as_str()).collect()).collect();
        assert_eq!(dying, [vec!["one"], vec!["sum"], vec!["y"]]);
    }

    #[test]
    fn wrong_inputs_are_refused() {
        let g = example();
        assert_eq!(run(&g, &[]), Err(InterpError::InputCount { expected: 1, found: 0 }));
        let error = run(&g, &[Tensor::vector(&[1i32, 2])]).unwrap_err();
        assert_eq!(error.to_string(), "input `x` is f32[2], but i32[2] was given");
    }
}
