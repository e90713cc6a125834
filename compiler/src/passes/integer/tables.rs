//! A function of one quantized value is a table of 256 bytes.
//!
//! - Pattern: QuantizeLinear of elementwise operators over one value of bytes (by DequantizeLinear or Cast) and known
//!   numbers, one for all elements: curves, clamps, sums and products with constants, another scale, in any combination.
//! - Result: [`ByteTable`] over the integers, filled by evaluating the operators themselves.
//! - Precondition: 8 bits on both sides; one scale for the whole tensor. A table that changes nothing goes away.
//! - Exactness: exact, but for functions whose generated code rounds otherwise than the evaluation.
//!
//! ```text
//! QuantizeLinear(Sigmoid(DequantizeLinear(%x, s, z)), t, u)   →   ByteTable(%x, table)
//! ```

use super::super::matching::{Editor, Outcome, Replacement, output, visit};
use super::super::{Pass, PassCx, PassError};
use crate::ir::{DType, NodeId, Shape, Tensor, ValueId};
use crate::ops::byte_table::{ByteTable, ENTRIES};
use crate::ops::elementwise::scalar;
use crate::ops::{Graph, Node, OpKind};
use std::collections::BTreeMap;

/// See the module.
pub(in crate::passes) struct IntegerTables;

impl Pass for IntegerTables {
    fn name(&self) -> &'static str {
        "integer_tables"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

/// Operators that one table takes.
const MAX_STEPS: usize = 64;

/// What a table would stand for.
struct Function {
    /// In order of execution; the QuantizeLinear is the last.
    nodes: Vec<NodeId>,
    /// The integers.
    x: ValueId,
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    matches!(node.op, OpKind::Quantize(_)).then_some(())?;
    let y = graph.value(output(node)?);
    is_byte(y.dtype).then_some(())?;
    let function = function(graph, id)?;
    (graph.value(function.x).shape == y.shape).then_some(())?;
    let table = match tabulated(graph, &function) {
        Ok(table) => table,
        Err(reason) => return Some(Err(reason)),
    };
    let x = graph.value(function.x);
    if x.dtype == table.dtype() && table.to_le_bytes().iter().zip(0..=u8::MAX).all(|(b, i)| *b == i) {
        return graph.bypass(id, function.x).map(|()| Ok("same_integers"));
    }
    let entries = graph.add_constant("table", table);
    // What nobody else reads is part of the table; the rest stays for its readers.
    let mut absorbed: Vec<NodeId> = Vec::new();
    for &at in function.nodes.iter().rev().skip(1) {
        let Some(v) = graph.node(at).and_then(output) else { continue };
        let inside = |reader: &NodeId| *reader == id || absorbed.contains(reader);
        if !graph.is_model_output(v) && graph.readers(v).iter().all(inside) {
            absorbed.push(at);
        }
    }
    let inputs = vec![Some(function.x), Some(entries)];
    let new =
        Replacement { label: "integer_tables", at: id, absorbed: &absorbed, op: ByteTable.into(), inputs };
    new.apply(graph).map(Ok)
}

/// The operators between `last` and the one value of bytes that they depend on.
fn function(graph: &Editor<'_>, last: NodeId) -> Option<Function> {
    let (mut nodes, mut open, mut leaf) = (Vec::new(), vec![last], None);
    while let Some(id) = open.pop() {
        if nodes.contains(&id) {
            continue;
        }
        let node = graph.node(id)?;
        (nodes.len() < MAX_STEPS && output(node).is_some() && elementwise(graph, node)).then_some(())?;
        nodes.push(id);
        for v in node.inputs.iter().flatten() {
            if let Some(t) = graph.constant(*v) {
                t.is_uniform().then_some(())?;
            } else if is_byte(graph.value(*v).dtype) {
                leaf.is_none_or(|l| l == *v).then_some(())?;
                leaf = Some(*v);
            } else {
                open.push(graph.producer(*v)?.0);
            }
        }
    }
    nodes.sort_by_key(|id| graph.place(*id));
    Some(Function { nodes, x: leaf? })
}

fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::U8 | DType::I8)
}

/// Whether an operator treats each element alone.
fn elementwise(graph: &Graph, node: &Node) -> bool {
    let dtypes: Option<Vec<DType>> = node.inputs.iter().map(|v| v.map(|v| graph.value(v).dtype)).collect();
    let Some(dtypes) = dtypes else { return false };
    let args = (0..dtypes.len()).map(crate::kernel::expr::Expr::Read).collect();
    let scaled = matches!(node.op, OpKind::Quantize(_) | OpKind::Dequantize(_));
    let one = |v: &ValueId| graph.value(*v).shape.elements() == 1;
    // With several scales the operator depends on the position.
    let alike = !scaled || node.inputs.iter().skip(1).flatten().all(one);
    alike && scalar(&node.op, &dtypes, args).is_some()
}

/// The function's values for all bytes.
fn tabulated(graph: &Graph, function: &Function) -> Result<Tensor, String> {
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let x = match graph.value(function.x).dtype {
        DType::I8 => Tensor::vector(&bytes.iter().map(|&b| b as i8).collect::<Vec<i8>>()),
        _ => Tensor::vector(&bytes),
    };
    let mut known: BTreeMap<ValueId, Tensor> = BTreeMap::from([(function.x, x)]);
    let mut last = None;
    for &id in &function.nodes {
        let node = graph.node(id).ok_or("a step is gone")?;
        for v in node.inputs.iter().flatten() {
            if let Some(t) = graph.constant(*v) {
                known.insert(*v, first(t).ok_or("an operand has no elements")?);
            }
        }
        let operands: Vec<Option<&Tensor>> =
            node.inputs.iter().map(|v| v.and_then(|v| known.get(&v))).collect();
        let results = node.op.as_op().eval(&operands).map_err(|e| e.to_string())?;
        let y = output(node).ok_or("a step has several results")?;
        last = results.into_iter().next();
        known.insert(y, last.clone().ok_or("a step has no result")?);
    }
    last.filter(|t| t.shape() == &Shape::from([ENTRIES])).ok_or_else(|| "it has another shape".to_owned())
}

/// The first element of a tensor of numbers.
fn first(t: &Tensor) -> Option<Tensor> {
    let size = t.to_le_bytes().len().checked_div(t.len())?;
    Tensor::from_le_bytes(t.dtype(), Shape::from([]), t.to_le_bytes().get(..size)?).ok()
}
