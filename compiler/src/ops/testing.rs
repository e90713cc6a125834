//! How op files test themselves: import by ONNX name, infer, evaluate, compare.

use super::{Fact, Inputs, OpError, OpKind, importers};
use crate::ir::Tensor;
use crate::onnx::{Attr, AttrReader, NodeView};

/// Imports an operator (of ONNX's own domain, where `op_type` names no other) as the frontend does: by the newest definition that the
/// opset knows, refusing attributes that nobody read.
pub(super) fn import(
    op_type: &str,
    opset: i64,
    attrs: &[(&str, Attr)],
    inputs: usize,
    outputs: usize,
) -> Result<OpKind, OpError> {
    let list = importers();
    let (domain, op_type) = op_type.rsplit_once('.').unwrap_or(("", op_type));
    let importer = list
        .iter()
        .filter(|i| i.name.domain == domain && i.name.op_type == op_type && i.name.since <= opset)
        .max_by_key(|i| i.name.since)
        .ok_or_else(|| OpError::unsupported(op_type))?;
    let attrs: Vec<(String, Attr)> = attrs.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
    let mut reader = AttrReader::new(&attrs);
    let (inputs, outputs) = (vec![true; inputs], vec![true; outputs]);
    let node = NodeView { op_type, domain, opset, inputs: &inputs, outputs: &outputs };
    let op = importer.op(&mut reader, &node)?;
    match reader.unread().first() {
        Some(name) => Err(OpError::invalid(format!("attribute `{name}` was not read"))),
        None => Ok(op),
    }
}

/// Infers with every operand known, evaluates, and checks that both agree on the results' types.
pub(super) fn run(op: &OpKind, inputs: &[Option<&Tensor>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
    let facts: Vec<Option<Fact<'_>>> = inputs
        .iter()
        .map(|t| t.map(|t| Fact { dtype: t.dtype(), shape: t.shape(), constant: Some(t) }))
        .collect();
    let types = op.as_op().infer(&Inputs::new(&facts, outputs))?;
    let results = op.as_op().eval(inputs)?;
    assert_eq!(types.len(), results.len(), "infer and eval disagree on the number of results");
    for (ty, result) in types.iter().zip(&results) {
        assert_eq!((ty.dtype, &ty.shape), (result.dtype(), result.shape()), "infer and eval disagree");
    }
    Ok(results)
}

/// Imports, infers and evaluates an operator whose operands are all present, giving its first result.
pub(super) fn apply(
    op_type: &str,
    opset: i64,
    attrs: &[(&str, Attr)],
    inputs: &[&Tensor],
) -> Result<Tensor, OpError> {
    let op = import(op_type, opset, attrs, inputs.len(), 1)?;
    let inputs: Vec<Option<&Tensor>> = inputs.iter().map(|t| Some(*t)).collect();
    let results = run(&op, &inputs, 1)?;
    results.into_iter().next().ok_or_else(|| OpError::internal("no result"))
}

/// A tensor of floats.
pub(super) fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new::<f32>(shape, values).expect("as many values as the shape says")
}

/// A tensor of integers.
pub(super) fn i64s(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::new::<i64>(shape, values).expect("as many values as the shape says")
}
