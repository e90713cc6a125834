//! Chains of elementwise operators become one loop.
//!
//! - Pattern: an elementwise operator whose operand is another one's result.
//! - Result: one operator that computes both per element.
//! - Precondition: the value in between has no other reader and the result's shape (or it would be computed
//!   several times); no half types, which are rounded at each ONNX node; one scale for all where values are
//!   quantized; bounded numbers of operators and operands, as the expression is one line of generated code.
//! - Exactness: the same operations on the same values.
//!
//! ```text
//! %d = Sub(%x, %m); %q = Mul(%d, %s); %y = Add(%q, %b)   →   %y = Elementwise(%x, %m, %s, %b)
//! ```

use super::matching::{Editor, Outcome, Replacement, input, output, visit};
use super::{Pass, PassCx, PassError};
use crate::ir::{DType, NodeId, ValueId};
use crate::kernel::expr::Expr;
use crate::ops::elementwise::{Arg, Elementwise, Step, scalar};
use crate::ops::{Graph, Node, OpKind};

/// See the module.
pub(super) struct FuseElementwise;

impl Pass for FuseElementwise {
    fn name(&self) -> &'static str {
        "fuse_elementwise"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

/// Operators in one expression.
const MAX_STEPS: usize = 12;
/// Operands of one expression, each a pointer that the loop advances; literals are none.
const MAX_OPERANDS: usize = 6;

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    let whole = steps(graph, node)?;
    let shape = &graph.value(output(node)?).shape;
    let mut declined = None;
    for at in 0..node.inputs.len() {
        let Some(v) = input(node, at) else { continue };
        let Some((first, producer)) = graph.producer(v) else { continue };
        let Some(inner) = steps(graph, producer) else { continue };
        if graph.constant(v).is_some() || graph.value(v).shape != *shape {
            continue;
        }
        if let Err(reason) = graph.only_reader(v) {
            declined = Some(Err(reason));
            continue;
        }
        let literal = |v: ValueId| graph.constant(v).is_some_and(|t| t.len() == 1);
        let Some((op, inputs)) = join(node, at, &whole, producer, &inner, literal) else { continue };
        let label = "fuse_elementwise";
        return Replacement { label, at: id, absorbed: &[first], op: op.into(), inputs }.apply(graph).map(Ok);
    }
    declined
}

/// A node as steps over its operands, where it is elementwise.
fn steps(graph: &Graph, node: &Node) -> Option<Vec<Step>> {
    let y = graph.value(output(node)?);
    let dtypes: Vec<DType> =
        node.inputs.iter().map(|v| v.map(|v| graph.value(v).dtype)).collect::<Option<_>>()?;
    if !dtypes.iter().chain([&y.dtype]).all(|&d| is_plain(d)) {
        return None;
    }
    if let OpKind::Elementwise(op) = &node.op {
        return Some(op.steps.clone());
    }
    if matches!(node.op, OpKind::Quantize(_) | OpKind::Dequantize(_)) {
        let single = |v: ValueId| graph.value(v).shape.elements() == 1 && graph.value(v).shape.rank() <= 1;
        let one = |v: &Option<ValueId>| v.is_some_and(single);
        let x = graph.value(input(node, 0)?);
        if x.shape != y.shape || !node.inputs.iter().skip(1).all(one) {
            return None;
        }
    }
    scalar(&node.op, &dtypes, (0..dtypes.len()).map(Expr::Read).collect())?;
    let args = (0..dtypes.len()).map(Arg::Operand).collect();
    Some(vec![Step { op: node.op.clone(), args }])
}

/// Types whose values are stored as they are computed.
fn is_plain(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, F32 | F64 | Bool | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// Both nodes as one, with `producer`'s steps in the place of operand `at`; `None` where that is too much.
fn join(
    node: &Node,
    at: usize,
    whole: &[Step],
    producer: &Node,
    inner: &[Step],
    literal: impl Fn(ValueId) -> bool,
) -> Option<(Elementwise, Vec<Option<ValueId>>)> {
    if whole.len() + inner.len() > MAX_STEPS {
        return None;
    }
    let mut inputs: Vec<Option<ValueId>> = Vec::new();
    let mut place = |v: Option<ValueId>| {
        inputs.iter().position(|&i| i == v).unwrap_or_else(|| {
            inputs.push(v);
            inputs.len() - 1
        })
    };
    let inner_places: Vec<usize> = producer.inputs.iter().map(|&v| place(v)).collect();
    let places: Vec<Option<usize>> =
        node.inputs.iter().enumerate().map(|(i, &v)| (i != at).then(|| place(v))).collect();
    let first = inner.len();
    let mut uses = 0;
    let mut steps = Vec::with_capacity(whole.len() + first);
    for step in inner {
        let args = step.args.iter().map(|arg| match *arg {
            Arg::Operand(i) => inner_places.get(i).copied().map(Arg::Operand),
            step => Some(step),
        });
        steps.push(Step { op: step.op.clone(), args: args.collect::<Option<_>>()? });
    }
    for step in whole {
        let args = step.args.iter().map(|arg| match *arg {
            Arg::Operand(i) => match places.get(i)? {
                Some(p) => Some(Arg::Operand(*p)),
                None => {
                    uses += 1;
                    Some(Arg::Step(first - 1))
                }
            },
            Arg::Step(i) => Some(Arg::Step(first + i)),
        });
        steps.push(Step { op: step.op.clone(), args: args.collect::<Option<_>>()? });
    }
    // An expression is a tree: what it names twice it computes twice.
    let pointers = inputs.iter().flatten().filter(|&&v| !literal(v)).count();
    (uses == 1 && pointers <= MAX_OPERANDS).then_some((Elementwise { steps }, inputs))
}
