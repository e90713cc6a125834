//! Operators that are defined by others: ONNX's functions, and what runtimes fuse from them.
//!
//! A composite's file holds its names and a function from attributes and operand types to a [`Body`]: a
//! function in ONNX's textual syntax, whose operators the frontend walks in the node's place. Since shapes
//! are known, a body has no shape arithmetic and no branches; the usual passes and kernels do the rest.

use super::{Inputs, OnnxName, OpError};
use crate::ir::{DType, Keys, Shape, Tensor};
use crate::onnx::proto::FunctionProto;
use crate::onnx::text::parse_function;
use crate::onnx::{AttrReader, NodeView, code_of_dtype};
use std::sync::Arc;

/// An operator that becomes others while the file is read.
pub trait Composite {
    /// What imports as this.
    const NAMES: &'static [OnnxName];

    /// Whether operands may be texts ([`Inputs::texts`]); the body sees their positions.
    const TEXTS: bool = false;

    /// The operators that a node stands for. Attributes that are not read make the import fail; so does a
    /// result that the node wants and the body lacks.
    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError>;
}

/// What a composite stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// Formal operands and results by position, and the operators. These are of the newest operator sets;
    /// those of [`INTERNAL`] are available, too.
    pub function: FunctionProto,
    /// Constants by name, defined before the first operator.
    pub tensors: Vec<(String, Tensor)>,
    /// Texts that result 0's elements are positions of, where the body's own operators do not say.
    pub texts: Option<Arc<[String]>>,
    /// Keys of the dictionary that result 0 was: it has a column for each.
    pub keys: Option<Keys>,
}

/// Domain of operators that only bodies name.
pub const INTERNAL: &str = "edgec.internal";

/// Operator of [`INTERNAL`] that stands for a graph of the composite's node: that which its attribute `graph` names, of
/// one operand, and of one result of the same type.
pub const INLINE: &str = "Inline";

/// Writes a [`Body`] operator by operator.
#[derive(Debug)]
pub(super) struct Script {
    operands: Vec<String>,
    text: String,
    tensors: Vec<(String, Tensor)>,
    values: usize,
}

impl Script {
    /// With the names of the operands by position.
    pub(super) fn new(operands: &[&str]) -> Self {
        let operands = operands.iter().map(|&name| name.to_owned()).collect();
        Script { operands, text: String::new(), tensors: Vec::new(), values: 0 }
    }

    /// With `count` operands, named `x0`, `x1`, ….
    pub(super) fn numbered(count: usize) -> Self {
        Script { operands: (0..count).map(|i| format!("x{i}")).collect(), ..Script::new(&[]) }
    }

    /// Adds an operator, such as `Softmax <axis = -1>`; its first result.
    pub(super) fn op(&mut self, op: &str, operands: &[&str]) -> String {
        self.ops(op, operands, 1).swap_remove(0)
    }

    /// Adds an operator with several results, one at least.
    pub(super) fn ops(&mut self, op: &str, operands: &[&str], results: usize) -> Vec<String> {
        let names: Vec<String> = (0..results.max(1)).map(|_| self.fresh()).collect();
        let line = format!("{} = {op} ({})\n", names.join(", "), operands.join(", "));
        self.text.push_str(&line);
        names
    }

    fn fresh(&mut self) -> String {
        self.values += 1;
        format!("v{}", self.values)
    }

    /// Adds the node's own graph of this attribute, which gives a value of `x`'s type.
    pub(super) fn inline(&mut self, attribute: &str, x: &str) -> String {
        self.op(&format!("{INTERNAL}.{INLINE} <graph = {attribute:?}>"), &[x])
    }

    /// Adds a constant.
    pub(super) fn tensor(&mut self, tensor: Tensor) -> String {
        let name = self.fresh();
        self.tensors.push((name.clone(), tensor));
        name
    }

    /// Adds a vector of integers, such as a shape.
    pub(super) fn ints(&mut self, values: &[i64]) -> String {
        self.tensor(Tensor::vector(values))
    }

    /// Adds a scalar of a type.
    pub(super) fn scalar(&mut self, dtype: DType, value: f64) -> Result<String, OpError> {
        Ok(self.tensor(super::typed::from_floats(dtype, Shape::scalar(), [value])?))
    }

    /// `x` under another shape of as many elements.
    pub(super) fn reshape(&mut self, x: &str, shape: &[usize]) -> String {
        let shape = shape.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect::<Vec<_>>();
        let shape = self.ints(&shape);
        self.op("Reshape <allowzero = 1>", &[x, &shape])
    }

    /// `x` of shape `N space… C` as `N C space…`.
    pub(super) fn channels_first(&mut self, x: &str, rank: usize) -> String {
        let order = [0, rank.saturating_sub(1)].into_iter().chain(1..rank.saturating_sub(1));
        self.op(&format!("Transpose <perm = {:?}>", order.take(rank).collect::<Vec<_>>()), &[x])
    }

    /// The way back from [`Script::channels_first`].
    pub(super) fn channels_last(&mut self, x: &str, rank: usize) -> String {
        let order = [0].into_iter().chain(2..rank).chain([1]);
        self.op(&format!("Transpose <perm = {:?}>", order.take(rank).collect::<Vec<_>>()), &[x])
    }

    /// `x` converted to a type.
    pub(super) fn cast(&mut self, x: &str, to: DType) -> String {
        self.op(&format!("Cast <to = {}>", code_of_dtype(to)), &[x])
    }

    /// The body with these results; an empty name for one that the body does not compute.
    pub(super) fn finish(self, results: &[&str]) -> Result<Body, OpError> {
        let text = format!("body ({}) => () {{\n{}}}", self.operands.join(", "), self.text);
        let mut function = parse_function(&text)
            .map_err(|e| OpError::internal(format!("the body of a composite, {e}: {text}")))?;
        function.output = results.iter().map(|&r| r.to_owned()).collect();
        Ok(Body { function, tensors: self.tensors, texts: None, keys: None })
    }
}

/// How files of composites test themselves: by running a model of one node.
#[cfg(test)]
pub(super) mod testing {
    use crate::diag::Diagnostics;
    use crate::frontend::{Options, load_model};
    use crate::ir::Tensor;
    use crate::onnx::ExternalData;
    use crate::onnx::text::parse_model;

    /// Results of a node such as `com.microsoft.QuickGelu <alpha = 1.0>` for run-time operands, at these
    /// versions of ONNX's and the other operator sets.
    pub(in crate::ops) fn run(
        op: &str,
        inputs: &[Option<&Tensor>],
        outputs: usize,
    ) -> Result<Vec<Tensor>, Diagnostics> {
        run_at(24, op, inputs, outputs)
    }

    /// The same at another version of ONNX's operator set.
    pub(in crate::ops) fn run_at(
        opset: i64,
        op: &str,
        inputs: &[Option<&Tensor>],
        outputs: usize,
    ) -> Result<Vec<Tensor>, Diagnostics> {
        let names: Vec<String> =
            inputs.iter().enumerate().map(|(i, t)| t.map_or(String::new(), |_| format!("x{i}"))).collect();
        let formals: Vec<String> = inputs
            .iter()
            .zip(&names)
            .filter_map(|(t, name)| t.map(|t| (t, name)))
            .map(|(t, name)| {
                let dims: Vec<String> = t.shape().iter().map(usize::to_string).collect();
                let dims = if dims.is_empty() { String::new() } else { format!("[{}]", dims.join(", ")) };
                format!("{}{dims} {name}", t.dtype().onnx_name())
            })
            .collect();
        let results: Vec<String> = (0..outputs).map(|i| format!("y{i}")).collect();
        let model = format!(
            "<ir_version: 10, opset_import: [\"\": {opset}, \"com.microsoft\": 1, \"ai.onnx.ml\": 3, \"ai.onnx.preview\": 1]>\n\
             agraph ({}) => ({}) {{ {} = {op} ({}) }}",
            formals.join(", "),
            results.join(", "),
            results.join(", "),
            names.join(", ")
        );
        let model = parse_model(&model).unwrap_or_else(|e| panic!("{e}: {model}"));
        let graph = load_model(&model, &ExternalData::none(), &Options::default())?.graph;
        let inputs: Vec<Tensor> = inputs.iter().flatten().map(|&t| t.clone()).collect();
        let found = crate::interp::run(&graph, &inputs).expect("what imports runs");
        Ok(crate::ir::OutputLength::cut(&graph.lengths, found))
    }

    /// Results of a graph without inputs, in ONNX's textual syntax.
    pub(in crate::ops) fn run_text(graph: &str) -> Result<Vec<Tensor>, Diagnostics> {
        let model = format!("<ir_version: 10, opset_import: [\"\": 24, \"com.microsoft\": 1]> {graph}");
        let model = parse_model(&model).unwrap_or_else(|e| panic!("{e}: {model}"));
        let graph = load_model(&model, &ExternalData::none(), &Options::default())?.graph;
        Ok(crate::interp::run(&graph, &[]).expect("what imports runs"))
    }

    /// Asserts that floats agree within a few roundings.
    pub(in crate::ops) fn close(found: &Tensor, expected: &[f64]) {
        let found = found.to_f64_vec().expect("numbers");
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{found:?} instead of {expected:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::f32s;
    use super::testing::run;

    #[test]
    fn what_a_body_lacks_is_refused() {
        let x = f32s(&[1, 1, 2, 2], &[1., 2., 3., 4.]);
        let all = [Some(&x), Some(&x), Some(&x)];
        assert!(run("Attention", &all, 4).is_ok());
        let message = run("Attention", &all, 5).unwrap_err().to_string();
        assert!(message.contains("result 4"), "{message}");
        let unread = run("Attention <speed = 1>", &all, 1).unwrap_err().to_string();
        assert!(unread.contains("speed"), "{unread}");
    }

    #[test]
    fn internal_operators_are_not_for_models() {
        let x = f32s(&[1], &[1.]);
        assert!(run("edgec.internal.ClassScores", &[Some(&x)], 1).is_err());
    }
}
