//! [Constant](https://onnx.ai/onnx/operators/onnx__Constant.html), in all its attribute forms. It
//! leaves no node: its tensor becomes a known value.

use crate::ir::Tensor;
use crate::onnx::AttrReader;
use crate::ops::OpError;

/// The tensor that a Constant node gives.
pub(super) fn constant(attrs: &mut AttrReader<'_>) -> Result<Tensor, OpError> {
    let strings = |texts: Vec<&str>| {
        let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
        (texts.len(), crate::ir::Data::String(texts.into()))
    };
    let mut forms: Vec<Tensor> = Vec::new();
    forms.extend(attrs.tensor("value")?.cloned());
    forms.extend(attrs.tensor("sparse_value")?.cloned());
    forms.extend(attrs.float("value_float")?.map(Tensor::scalar));
    forms.extend(attrs.floats("value_floats")?.map(|v| Tensor::vector(&v)));
    forms.extend(attrs.int("value_int")?.map(Tensor::scalar));
    forms.extend(attrs.ints("value_ints")?.map(|v| Tensor::vector(&v)));
    if let Some(text) = attrs.text("value_string")? {
        let (_, data) = strings(vec![text]);
        forms.push(Tensor::from_data(crate::ir::Shape::scalar(), data)?);
    }
    if let Some(texts) = attrs.texts("value_strings")? {
        let (n, data) = strings(texts);
        forms.push(Tensor::from_data([n].into(), data)?);
    }
    match (forms.pop(), forms.is_empty()) {
        (Some(tensor), true) => Ok(tensor),
        _ => Err(OpError::invalid("a Constant has exactly one value")),
    }
}
