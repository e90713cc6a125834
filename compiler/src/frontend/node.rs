//! One node: import its operator, infer its results, fold them where their operands are known.

use super::attrs::{self, Decoded};
use super::bounded;
use super::constant::constant;
use super::inputs::{quoted, size_problem};
use super::limits::FOLD_RESULT_BYTES;
use super::scope::{Scope, Slot};
use super::texts::no_texts;
use super::walk::{Frame, Stop, Walker, plain_domain};
use crate::diag::{Code, Diagnostic, NodeRef};
use crate::ir::{DType, Origin, Tensor, ValueId};
use crate::onnx::proto::NodeProto;
use crate::onnx::{AttrReader, NodeView};
use crate::ops::{Body, Fact, Import, Importer, Inputs, Length, Lengths, OpError, OpKind, Type, eval_within};
use std::collections::BTreeSet;

/// Operands shown with a diagnostic.
const OPERANDS_SHOWN: usize = 12;

/// Operators of control flow that are refused.
const CONTROL_FLOW: &[&str] = &["SequenceMap"];

/// Operands as the walk finds them.
pub(super) struct Operands {
    /// Values by position; `None` where absent.
    pub values: Vec<Option<ValueId>>,
    /// Some operand could not be computed.
    pub unknown: bool,
}

impl<'m> Walker<'m> {
    /// Imports node `index`; its results are defined in `scope` whatever happens.
    pub fn node<'s>(
        &mut self,
        index: usize,
        node: &'m NodeProto,
        scope: &mut Scope<'s>,
        frame: &Frame<'m>,
    ) -> Result<(), Stop>
    where
        'm: 's,
    {
        let domain = plain_domain(&node.domain);
        let origin = frame.origin(index, node);
        let operands = self.operands(node, scope, frame, &origin);
        let key = (domain, node.op_type.as_str(), node.overload.as_str());
        // What the user names counts before all else, operators that are known included.
        let slots = if let Some(custom) = self.named_by_user(domain, node) {
            self.custom_node(custom, node, &operands, frame, &origin)
        } else if let Some(&function) = self.functions.get(&key) {
            self.call(node, function, key, scope, frame, &origin)?
        } else if frame.opset(domain).is_none() {
            let message = format!("the model imports no version of the operator set `{domain}`");
            let at = self.node_ref(node, &origin, &operands);
            self.problems.push_grouped(Diagnostic::error(Code::Opset, message).at(at));
            None
        } else if domain.is_empty() && node.op_type == "If" {
            self.branch(node, &operands, scope, frame, &origin)?
        } else if domain.is_empty() && matches!(node.op_type.as_str(), "Loop" | "Scan") {
            self.repeat(node, &operands, scope, frame, &origin)?
        } else {
            self.operator(node, &operands, scope, frame, origin)?
        };
        let slots = slots.unwrap_or_default();
        for (i, name) in node.output.iter().enumerate() {
            let slot = slots.get(i).copied().unwrap_or(Slot::Unknown);
            if let (Slot::Value(v), true) = (slot, frame.depth == 0) {
                let value = self.graph.value(v);
                // Texts are declared as such.
                let dtype = if value.texts.is_some() { DType::String } else { value.dtype };
                let shape = value.shape.clone();
                let open = self.bounds.get(&v).map(|b| b.axis);
                self.compare(name, dtype, &shape, open);
            }
            self.define(name, slot, scope);
        }
        Ok(())
    }

    fn operands(
        &mut self,
        node: &NodeProto,
        scope: &Scope<'_>,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Operands {
        let mut out = Operands { values: Vec::with_capacity(node.input.len()), unknown: false };
        let mut undefined = Vec::new();
        for name in &node.input {
            let slot = if name.is_empty() { Some(Slot::Absent) } else { scope.lookup(name) };
            out.values.push(match slot {
                Some(Slot::Value(v)) => Some(v),
                Some(Slot::Absent) => None,
                Some(Slot::Unknown) => {
                    out.unknown = true;
                    None
                }
                None => {
                    undefined.push(frame.value_name(name));
                    None
                }
            });
        }
        if let Some(first) = undefined.first() {
            out.unknown = true;
            let at = self.node_ref(node, origin, &out);
            let message = format!("`{first}` is read, but nothing defines it");
            self.problems.push(Diagnostic::error(Code::GraphStructure, message).at(at));
        }
        out
    }

    /// A node for diagnostics, with its operands' types.
    pub fn node_ref(&self, node: &NodeProto, origin: &Origin, operands: &Operands) -> NodeRef {
        let mut at = NodeRef::from(origin);
        let types = operands.values.iter().copied().chain(std::iter::repeat(None));
        at.inputs = node
            .input
            .iter()
            .zip(types)
            .take(OPERANDS_SHOWN)
            .map(|(name, v)| {
                let ty = v.map(|v| {
                    let value = self.graph.value(v);
                    format!("{}{}", value.dtype, value.shape)
                });
                (super::limits::short(name), ty)
            })
            .collect();
        at
    }

    /// The slots of an operator's results; `None` where a problem was reported or an operand is
    /// unknown.
    fn operator(
        &mut self,
        node: &'m NodeProto,
        operands: &Operands,
        scope: &Scope<'_>,
        frame: &Frame<'m>,
        origin: Origin,
    ) -> Result<Option<Vec<Slot>>, Stop> {
        let at = || self.node_ref(node, &origin, operands);
        let is_constant = origin.domain.is_empty() && node.op_type == "Constant";
        let importer = match self.importer(&origin, node) {
            Ok(importer) => Some(importer),
            Err(_) if is_constant => None,
            Err(problem) => {
                let problem = problem.at(at());
                self.problems.push_grouped(problem);
                return Ok(None);
            }
        };
        let decoded = match attrs::decode(&attrs::resolved(node, &frame.given), self.external) {
            Ok(decoded) => decoded,
            Err(problem) => {
                let problem = problem.at(at());
                self.problems.push(problem);
                return Ok(None);
            }
        };
        let texts_allowed = importer.is_some_and(|i| i.texts);
        let result = match importer.map(|i| i.import) {
            Some(Import::Op(import)) => imported(import, node, &origin, &decoded).and_then(|op| {
                if operands.unknown {
                    return Ok(None);
                }
                self.infer(op, &names(node), operands, frame, &origin).map(Some)
            }),
            // A body follows from the operands' types.
            Some(Import::Body(_)) if operands.unknown => Ok(None),
            Some(Import::Body(_))
                if !texts_allowed && self.texts_of(operands).iter().any(Option::is_some) =>
            {
                Err(no_texts().into())
            }
            Some(Import::Body(body)) => match self.body(body, node, operands, &origin, &decoded) {
                Ok(body) => return self.expand(node, &body, operands, scope, frame, &origin),
                Err(e) => Err(e),
            },
            None => import_constant(&decoded).map(|tensor| {
                let name = node.output.first().map_or("", String::as_str);
                Some(vec![Slot::Value(self.graph.add_constant(frame.value_name(name), tensor))])
            }),
        };
        Ok(result.unwrap_or_else(|problem| {
            let at = self.node_ref(node, &origin, operands);
            let problem = match problem {
                NodeError::Op(e) => self.explained(&e, operands, at),
                NodeError::Other(d) => d.at(at),
            };
            self.problems.push(problem);
            None
        }))
    }

    /// What a composite operator stands for.
    fn body(
        &self,
        body: fn(&mut AttrReader<'_>, &NodeView<'_>, &Inputs<'_>) -> Result<Body, OpError>,
        node: &NodeProto,
        operands: &Operands,
        origin: &Origin,
        decoded: &Decoded<'_>,
    ) -> Result<Body, NodeError> {
        let facts = self.facts(operands);
        let tables = self.texts_of(operands);
        let texts: Vec<Option<&[String]>> = tables.iter().map(Option::as_deref).collect();
        let inputs = Inputs::new(&facts, node.output.len()).with_texts(&texts);
        with_view(node, origin, decoded, |attrs, view| body(attrs, view, &inputs))
    }

    /// What is known of operands.
    fn facts(&self, operands: &Operands) -> Vec<Option<Fact<'_>>> {
        let fact = |v: ValueId| {
            let value = self.graph.value(v);
            Fact { dtype: value.dtype, shape: &value.shape, constant: value.constant.as_ref() }
        };
        operands.values.iter().map(|v| v.map(fact)).collect()
    }

    /// An operator's error; where an operand had to be known, with the inputs to bind.
    fn explained(&self, e: &OpError, operands: &Operands, at: NodeRef) -> Diagnostic {
        let d = Diagnostic::from_op(e, at);
        if !matches!(e, OpError::NotConstant(_)) || self.problems.is_full() {
            return d;
        }
        // What decides shapes is a number or a list; a list in front is the data, where more operands follow.
        let behind = usize::from(operands.values.len() > 1);
        let decides = |(i, v): (usize, &Option<ValueId>)| {
            let rank = v.map(|v| self.graph.value(v).shape.rank());
            v.filter(|_| rank.is_some_and(|rank| rank == 0 || (rank == 1 && i >= behind)))
        };
        let flags: Vec<String> = self
            .sources(operands.values.iter().enumerate().filter_map(decides))
            .into_iter()
            .take(3)
            .map(|v| format!("`--bind {}`", quoted(&format!("{}=VALUE", self.graph.value(v).name))))
            .collect();
        if flags.is_empty() {
            return d;
        }
        d.with_help(format!("give it as an initializer, or bind what it comes from: {}", flags.join(", ")))
    }

    /// The graph's inputs that the given values are computed from, in the model's order.
    fn sources(&self, from: impl Iterator<Item = ValueId>) -> Vec<ValueId> {
        let mut pending: Vec<ValueId> = from.collect();
        let mut seen: BTreeSet<ValueId> = pending.iter().copied().collect();
        while let Some(v) = pending.pop() {
            let producer = self.graph.producer(v).filter(|_| self.graph.constant(v).is_none());
            for &input in producer.iter().flat_map(|(_, n)| n.inputs.iter().flatten()) {
                if seen.insert(input) {
                    pending.push(input);
                }
            }
        }
        self.graph.inputs.iter().copied().filter(|v| seen.contains(v)).collect()
    }

    /// The importer with the largest version that the model's operator set has reached.
    fn importer(&self, origin: &Origin, node: &NodeProto) -> Result<Importer, Box<Diagnostic>> {
        // Sorted by domain, name and version: the versions of one operator lie together.
        let key = |i: &Importer| (i.name.domain, i.name.op_type, i.name.since);
        let first = self
            .importers
            .partition_point(|i| (i.name.domain, i.name.op_type) < (origin.domain.as_str(), &node.op_type));
        let last = self
            .importers
            .partition_point(|i| key(i) <= (origin.domain.as_str(), node.op_type.as_str(), origin.opset));
        let same = |i: &&Importer| i.name.domain == origin.domain && i.name.op_type == node.op_type;
        if let Some(found) = last.checked_sub(1).and_then(|i| self.importers.get(i)).filter(same) {
            return Ok(*found);
        }
        let full = match origin.domain.as_str() {
            "" => origin.op_type.clone(),
            domain => format!("{domain}.{}", origin.op_type),
        };
        let d = match self.importers.get(first).filter(same).map(|i| i.name.since) {
            Some(since) => Diagnostic::error(
                Code::UnsupportedOp,
                format!(
                    "operator `{full}` is supported from version {since} of its operator set on, the model \
                     imports {}",
                    origin.opset
                ),
            )
            .with_help("convert the model with `onnx.version_converter`, or export it again"),
            None if origin.domain.is_empty() && CONTROL_FLOW.contains(&node.op_type.as_str()) => {
                Diagnostic::error(
                    Code::UnsupportedOp,
                    format!("operator `{full}` is not supported: it runs a subgraph a number of times"),
                )
                .with_help("export the model with loops unrolled, or keep the loop outside the model")
            }
            None => {
                let own = super::custom::custom_name(&origin.domain, &origin.op_type);
                let flag = quoted(&format!("{own}=my_ops::function"));
                Diagnostic::error(Code::UnsupportedOp, format!("operator `{full}` is not supported"))
                    .with_help(format!(
                        "`edgec ops` lists the operators that are; or compute it by a function of your own: \
                         `--custom-op {flag} --custom-source my_ops.rs`"
                    ))
            }
        };
        Err(Box::new(d))
    }

    /// Adds an operator that the walk made itself, with results of these names; their slots, `None` where it was
    /// refused and that reported.
    pub fn add(
        &mut self,
        op: OpKind,
        node: &NodeProto,
        names: &[&str],
        operands: &Operands,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Option<Vec<Slot>> {
        match self.infer(op, names, operands, frame, origin) {
            Ok(slots) => Some(slots),
            Err(problem) => {
                let at = self.node_ref(node, origin, operands);
                let problem = match problem {
                    NodeError::Op(e) => self.explained(&e, operands, at),
                    NodeError::Other(d) => d.at(at),
                };
                self.problems.push(problem);
                None
            }
        }
    }

    /// Infers, adds the node, folds.
    fn infer(
        &mut self,
        op: OpKind,
        names: &[&str],
        operands: &Operands,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Vec<Slot>, NodeError> {
        let (op, texts) = self.on_texts(op, operands)?;
        let found = self.along(operands)?;
        if let (OpKind::Shape(asked), Some(of), Some(name)) =
            (&op, operands.values.first().copied().flatten(), names.first())
            && let Some(v) = self.asked(asked, of, &frame.value_name(name), origin)
        {
            return Ok(vec![Slot::Value(v)]);
        }
        let facts = self.facts(operands);
        let inputs = Inputs::new(&facts, names.len());
        let mut types = op.as_op().infer(&inputs)?;
        // Shape and Size: what they tell of such an operand here does not depend on its length.
        let lengths = match &op {
            OpKind::Shape(_) => Lengths::default(),
            op => op.as_op().lengths(&inputs, &found.along)?,
        };
        if names.iter().skip(types.len()).any(|o| !o.is_empty()) {
            return Err(OpError::invalid(format!(
                "{} results are named, but the operator has {}",
                names.len(),
                types.len()
            ))
            .into());
        }
        for ty in &types {
            if let Some(why) = size_problem(ty.dtype, &ty.shape) {
                return Err(OpError::Limit(why).into());
            }
        }
        let known = match op.as_op().known(&inputs) {
            Some(known) => Some(known),
            None => {
                let (known, bytes, work) =
                    fold(&op, &facts, &types, self.fold_bytes_left, self.fold_work_left)?;
                self.fold_bytes_left -= bytes;
                self.fold_work_left -= work;
                known
            }
        };
        let known = match known {
            None => None,
            Some(known) => {
                check_folded(&known, &types)?;
                let known = bounded::cut(known, &lengths)?;
                for (ty, tensor) in types.iter_mut().zip(&known) {
                    ty.shape = tensor.shape().clone();
                }
                Some(known)
            }
        };
        let inputs = self.cleared(operands, &lengths, origin);
        let names = with_lengths(names, &lengths);
        let outputs = names
            .iter()
            .zip(types)
            .map(|(name, ty)| (!name.is_empty()).then(|| (frame.value_name(name), ty.dtype, ty.shape)));
        let outputs = outputs.collect();
        let id = self.graph.add_node(op, inputs, outputs, vec![origin.clone()]);
        let results = self.graph.node(id).map(|n| n.outputs.clone()).unwrap_or_default();
        for v in results.iter().flatten() {
            self.graph.value_mut(*v).texts = texts.clone();
        }
        match known {
            Some(known) => {
                for (v, tensor) in results.iter().zip(known) {
                    if let Some(v) = v {
                        self.graph.set_constant(*v, tensor);
                    }
                }
            }
            None => self.bound_results(&results, &lengths, &found, origin)?,
        }
        Ok(results.iter().map(|v| v.map_or(Slot::Unknown, Slot::Value)).collect())
    }
}

/// Names of a node's results.
pub(super) fn names(node: &NodeProto) -> Vec<&str> {
    node.output.iter().map(String::as_str).collect()
}

/// Names of a node's results, and of the lengths that stand behind them.
fn with_lengths(names: &[&str], lengths: &Lengths) -> Vec<String> {
    let mut all: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
    for along in lengths.results.iter().flatten() {
        if let Length::Result(k) = along.length {
            all.resize(all.len().max(k + 1), String::new());
            if let Some(name) = all.get_mut(k).filter(|n| n.is_empty()) {
                *name = format!("length of {}", names.iter().find(|n| !n.is_empty()).unwrap_or(&""));
            }
        }
    }
    all
}

/// Why a node is refused.
enum NodeError {
    Op(OpError),
    Other(Box<Diagnostic>),
}

impl From<OpError> for NodeError {
    fn from(e: OpError) -> Self {
        NodeError::Op(e)
    }
}

fn imported(
    import: fn(&mut AttrReader<'_>, &NodeView<'_>) -> Result<OpKind, OpError>,
    node: &NodeProto,
    origin: &Origin,
    decoded: &Decoded<'_>,
) -> Result<OpKind, NodeError> {
    with_view(node, origin, decoded, import)
}

/// Calls an import function, which must read every attribute.
fn with_view<T>(
    node: &NodeProto,
    origin: &Origin,
    decoded: &Decoded<'_>,
    import: impl FnOnce(&mut AttrReader<'_>, &NodeView<'_>) -> Result<T, OpError>,
) -> Result<T, NodeError> {
    let inputs: Vec<bool> = node.input.iter().map(|n| !n.is_empty()).collect();
    let outputs: Vec<bool> = node.output.iter().map(|n| !n.is_empty()).collect();
    let view = NodeView {
        op_type: &node.op_type,
        domain: &origin.domain,
        opset: origin.opset,
        inputs: &inputs,
        outputs: &outputs,
    };
    let mut reader = AttrReader::new(&decoded.attrs);
    if origin.domain.is_empty() && origin.opset < 6 {
        // A hint about memory that any operator could have.
        reader.ignore("consumed_inputs");
    }
    let out = import(&mut reader, &view)?;
    all_read(&reader)?;
    Ok(out)
}

fn import_constant(decoded: &Decoded<'_>) -> Result<Tensor, NodeError> {
    let mut reader = AttrReader::new(&decoded.attrs);
    let tensor = constant(&mut reader)?;
    all_read(&reader)?;
    Ok(tensor)
}

fn all_read(reader: &AttrReader<'_>) -> Result<(), NodeError> {
    let unread = reader.unread();
    if unread.is_empty() {
        return Ok(());
    }
    let names: Vec<String> =
        unread.iter().take(10).map(|n| format!("`{}`", super::limits::short(n))).collect();
    let message = format!("the operator does not know the attribute {}", names.join(", "));
    Err(NodeError::Other(Box::new(Diagnostic::error(Code::UnknownAttribute, message))))
}

/// Results of an operator all of whose operands are known, with what they cost in bytes and work;
/// `None` where one is not, or where that would cost more than is left.
fn fold(
    op: &OpKind,
    facts: &[Option<Fact<'_>>],
    types: &[Type],
    bytes_left: usize,
    work_left: u64,
) -> Result<(Option<Vec<Tensor>>, usize, u64), OpError> {
    let nothing = Ok((None, 0, 0));
    if !op.as_op().folds() || facts.iter().flatten().any(|f| f.constant.is_none()) {
        return nothing;
    }
    let sizes = || types.iter().map(|t| t.shape.elements().saturating_mul(t.dtype.size().max(1)));
    let bytes = sizes().fold(0usize, usize::saturating_add);
    let input_types: Vec<Option<Type>> =
        facts.iter().map(|f| f.map(|f| Type::new(f.dtype, f.shape.clone()))).collect();
    let elements = types.iter().chain(input_types.iter().flatten()).map(|t| t.shape.elements() as u64);
    let work = elements.fold(op.as_op().macs(&input_types, types), u64::saturating_add);
    if sizes().any(|n| n > FOLD_RESULT_BYTES) || bytes > bytes_left || work > work_left {
        return nothing;
    }
    let constants: Vec<Option<&Tensor>> = facts.iter().map(|f| f.and_then(|f| f.constant)).collect();
    // What branches and loops do shows when it is done.
    let mut left = work_left;
    if let Some(results) = eval_within(op, &constants, &mut left) {
        let spent = (work_left - left.min(work_left)).max(work);
        return match results {
            Ok(results) => Ok((Some(results), bytes, spent)),
            Err(OpError::Unsupported { .. } | OpError::Limit(_)) => Ok((None, 0, spent)),
            Err(e) => Err(e),
        };
    }
    match op.as_op().eval(&constants) {
        Ok(results) => Ok((Some(results), bytes, work)),
        // What the reference evaluator does not do may still be generated.
        Err(OpError::Unsupported { .. }) => nothing,
        Err(e) => Err(e),
    }
}

/// Inference and evaluation must agree.
fn check_folded(results: &[Tensor], types: &[Type]) -> Result<(), OpError> {
    for (i, ty) in types.iter().enumerate() {
        let fits = results.get(i).is_some_and(|t| t.dtype() == ty.dtype && *t.shape() == ty.shape);
        if !fits {
            let found = results.get(i).map(|t| format!("{}{}", t.dtype(), t.shape()));
            return Err(OpError::internal(format!(
                "result {i} is inferred as {}{} but evaluates to {}",
                ty.dtype,
                ty.shape,
                found.as_deref().unwrap_or("nothing")
            )));
        }
    }
    Ok(())
}
