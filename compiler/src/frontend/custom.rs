//! Operators of the user: named by options, with a rule for the types of their results.

use super::attrs;
use super::inputs::{Dim, quoted};
use super::limits::short;
use super::node::{Operands, names};
use super::problems::Problems;
use super::scope::Slot;
use super::walk::{Frame, Walker};
use crate::diag::{Code, Diagnostic};
use crate::ir::{DType, Origin};
use crate::onnx::Attr;
use crate::onnx::proto::{ModelProto, NodeProto};
use crate::ops::Type;
use crate::ops::custom::{Custom, CustomAttribute};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Operators of the user by domain and operator type; ONNX's own domain is the empty one.
pub type CustomOps = BTreeMap<(String, String), CustomOp>;

/// What the user says of an operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomOp {
    /// Absolute path of the function; none where only a rule was given, which is an error.
    pub path: Option<String>,
    /// Types of the results: one rule for each, or one for all; otherwise the model's own declarations count.
    pub shapes: Option<CustomShapes>,
}

/// Types of all results, as in `same`, `like:1` or `f32[1,10];i64[1]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomShapes(pub Vec<CustomShape>);

/// Type of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomShape {
    /// That of an operand.
    Like(usize),
    /// This one.
    Fixed(DType, Vec<usize>),
}

impl FromStr for CustomShapes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(';').map(|t| t.trim().parse()).collect::<Result<_, _>>().map(CustomShapes)
    }
}

impl FromStr for CustomShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: expected `same`, `like:OPERAND` or a type such as `f32[1,10]`");
        if text == "same" {
            return Ok(CustomShape::Like(0));
        }
        if let Some(operand) = text.strip_prefix("like:") {
            return operand.parse().map(CustomShape::Like).map_err(|_| wrong());
        }
        let (dtype, dims) = text.strip_suffix(']').and_then(|t| t.split_once('[')).ok_or_else(wrong)?;
        let dtype = DType::ALL.iter().copied().find(|d| d.short_name() == dtype).ok_or_else(wrong)?;
        let dims = match dims.trim() {
            "" => Vec::new(),
            dims => {
                dims.split(',').map(|d| d.trim().parse().map_err(|_| wrong())).collect::<Result<_, _>>()?
            }
        };
        Ok(CustomShape::Fixed(dtype, dims))
    }
}

impl fmt::Display for CustomShapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, shape) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ";" };
            match shape {
                CustomShape::Like(0) => write!(f, "{separator}same")?,
                CustomShape::Like(operand) => write!(f, "{separator}like:{operand}")?,
                CustomShape::Fixed(dtype, dims) => {
                    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
                    write!(f, "{separator}{dtype}[{}]", dims.join(","))?;
                }
            }
        }
        Ok(())
    }
}

/// Domain and type of an operator from `com.acme:Squash`; without a colon, an operator of ONNX's own domain.
pub fn parse_custom_name(text: &str) -> Result<(String, String), String> {
    let (domain, op_type) = text.rsplit_once(':').unwrap_or(("", text));
    if op_type.is_empty() || domain.ends_with(':') {
        return Err(format!("`{text}`: expected DOMAIN:TYPE, such as `com.acme:Squash`"));
    }
    Ok((super::walk::plain_domain(domain).to_owned(), op_type.to_owned()))
}

/// A path of a function, of two identifiers at least: `my_ops::squash`, `crate::my_ops::squash`.
pub fn parse_custom_path(text: &str) -> Result<String, String> {
    let identifier = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let parts: Vec<&str> = text.strip_prefix("::").unwrap_or(text).split("::").collect();
    if parts.len() < 2
        || !parts.iter().all(|p| identifier(p))
        || matches!(parts.first(), Some(&("self" | "super")))
    {
        return Err(format!("`{text}`: expected the path of a function, such as `my_ops::squash`"));
    }
    Ok(text.to_owned())
}

/// `com.acme:Squash`, or the type alone for ONNX's own domain.
pub fn custom_name(domain: &str, op_type: &str) -> String {
    if domain.is_empty() { op_type.to_owned() } else { format!("{domain}:{op_type}") }
}

/// Reports operators of the user's that no node of the model is.
pub(super) fn check_used(model: &ModelProto, custom: &CustomOps, problems: &mut Problems) {
    if custom.is_empty() {
        return;
    }
    let mut found: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut pending: Vec<&NodeProto> = model.functions.iter().flat_map(|f| &f.node).collect();
    pending.extend(model.graph.iter().flat_map(|g| &g.node));
    while let Some(node) = pending.pop() {
        let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
        found.insert((domain, &node.op_type));
        let graphs = node.attribute.iter().flat_map(|a| a.g.as_deref().into_iter().chain(&a.graphs));
        pending.extend(graphs.flat_map(|g| &g.node));
    }
    for (domain, op_type) in custom.keys() {
        if found.contains(&(domain.as_str(), op_type.as_str())) {
            continue;
        }
        let message = format!("no node of the model is a `{}`", short(&custom_name(domain, op_type)));
        let problem = Diagnostic::error(Code::BadOption, message);
        // Operators of the same name, or else those outside of ONNX.
        let near = |same: bool| {
            let fits = move |(d, o): &&(&str, &str)| if same { o == op_type } else { !d.is_empty() };
            let names = found.iter().filter(fits).take(5);
            names.map(|(d, o)| format!("`{}`", short(&custom_name(d, o)))).collect::<Vec<_>>().join(", ")
        };
        let (same, others) = (near(true), near(false));
        let names = if same.is_empty() { others } else { same };
        problems.push(if names.is_empty() { problem } else { problem.with_help(format!("it has {names}")) });
    }
}

impl<'m> Walker<'m> {
    /// What the user says of the node's operator.
    pub fn named_by_user(&self, domain: &str, node: &NodeProto) -> Option<&'m CustomOp> {
        let custom = Some(self.custom).filter(|c| !c.is_empty())?;
        custom.get(&(domain.to_owned(), node.op_type.clone()))
    }

    /// The slots of a node that a function of the user computes; `None` where an operand is unknown or a problem
    /// was reported.
    pub fn custom_node(
        &mut self,
        custom: &CustomOp,
        node: &'m NodeProto,
        operands: &Operands,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Option<Vec<Slot>> {
        let own = self.custom_op(custom, node, operands, frame, origin);
        match own {
            Ok(None) => None,
            Ok(Some(op)) => self.add(op.into(), node, &names(node), operands, frame, origin),
            Err(problem) => {
                let at = self.node_ref(node, origin, operands);
                self.problems.push(problem.at(at));
                None
            }
        }
    }

    fn custom_op(
        &mut self,
        custom: &CustomOp,
        node: &'m NodeProto,
        operands: &Operands,
        frame: &Frame<'m>,
        origin: &Origin,
    ) -> Result<Option<Custom>, Box<Diagnostic>> {
        let full = custom_name(&origin.domain, &origin.op_type);
        let path = custom.path.clone().ok_or_else(|| {
            let flag = quoted(&format!("{full}=my_ops::function"));
            Diagnostic::error(
                Code::CustomOp,
                format!("no function is named for the custom operator `{full}`"),
            )
            .with_help(format!("name one: `--custom-op {flag}`"))
        })?;
        let attributes = attrs::decode(&attrs::resolved(node, &frame.given), self.external)?.attrs;
        let attributes = attributes
            .into_iter()
            .map(|(name, value)| match attribute(value) {
                Ok(value) => Ok((name, value)),
                Err(what) => Err(Diagnostic::error(
                    Code::CustomOp,
                    format!("attribute `{}` is {what}, which a custom operator cannot have", short(&name)),
                )
                .with_help("hand it over as an operand")),
            })
            .collect::<Result<_, _>>()?;
        if operands.unknown {
            return Ok(None);
        }
        let results = self.custom_types(custom.shapes.as_ref(), &full, node, operands, frame)?;
        Ok(Some(Custom { name: (origin.domain.clone(), origin.op_type.clone()), path, attributes, results }))
    }

    /// Types of the results: by the user's rule, or as the model declares them.
    fn custom_types(
        &self,
        rule: Option<&CustomShapes>,
        full: &str,
        node: &NodeProto,
        operands: &Operands,
        frame: &Frame<'m>,
    ) -> Result<Vec<Type>, Box<Diagnostic>> {
        let results = node.output.len();
        let wrong = |message: String, results: usize| {
            let rules = vec!["same"; results.max(1)].join(";");
            let flag = quoted(&format!("{full}={rules}"));
            Box::new(Diagnostic::error(Code::CustomOp, message).with_help(format!(
                "say what the results are: `--custom-shape {flag}`; a rule is `same` (as operand 0), `like:OPERAND` \
                 or a type such as `f32[1,10]`"
            )))
        };
        if let Some(CustomShapes(rules)) = rule {
            if rules.len() != 1 && rules.len() != results {
                let message = format!("{} shape rules for {results} results of `{full}`", rules.len());
                return Err(wrong(message, results));
            }
            let rules = rules.iter().cycle().take(results);
            return rules
                .map(|rule| match rule {
                    CustomShape::Fixed(dtype, dims) => Ok(Type::new(*dtype, dims.clone())),
                    CustomShape::Like(i) => {
                        let v = operands.values.get(*i).copied().flatten().ok_or_else(|| {
                            wrong(format!("`{full}` has no operand {i} for `like:{i}`"), results)
                        })?;
                        let value = self.graph.value(v);
                        Ok(Type::new(value.dtype, value.shape.clone()))
                    }
                })
                .collect();
        }
        let mut types = Vec::with_capacity(results);
        for (i, name) in node.output.iter().enumerate() {
            let declared = self.declared.get(name.as_str()).filter(|_| frame.depth == 0 && !name.is_empty());
            let Some((declared, dims)) = declared.and_then(|d| Some((d, d.dims.as_ref()?))) else {
                let what = if name.is_empty() { String::new() } else { format!(" (`{}`)", short(name)) };
                let message = format!(
                    "the model does not say what type result {i}{what} of the custom operator `{full}` is"
                );
                return Err(wrong(message, results));
            };
            let mut shape = Vec::with_capacity(dims.len());
            for dim in dims {
                shape.push(match dim {
                    Dim::Value(v) => *v,
                    Dim::Open(dim) => *self.dims.get(dim.as_ref()).ok_or_else(|| {
                        let message = format!(
                            "result {i} (`{}`) of the custom operator `{full}` has a dimension `{}` of no known value",
                            short(name),
                            short(dim)
                        );
                        wrong(message, results)
                    })?,
                });
            }
            types.push(Type::new(declared.dtype, shape));
        }
        Ok(types)
    }
}

/// An attribute as the function sees it; the error says what it is instead.
fn attribute(value: Attr) -> Result<CustomAttribute, &'static str> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "not UTF-8 text");
    Ok(match value {
        Attr::Int(v) => CustomAttribute::Int(v),
        Attr::Float(v) => CustomAttribute::Float(v),
        Attr::String(v) => CustomAttribute::Text(text(v)?),
        Attr::Ints(v) => CustomAttribute::Ints(v),
        Attr::Floats(v) => CustomAttribute::Floats(v),
        Attr::Strings(v) => CustomAttribute::Texts(v.into_iter().map(text).collect::<Result<_, _>>()?),
        Attr::Tensor(_) | Attr::Tensors(_) => return Err("a tensor"),
        Attr::Graph(_) | Attr::Graphs(_) => return Err("a graph"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_parse_and_print() {
        let name = |d: &str, t: &str| Ok((d.to_owned(), t.to_owned()));
        assert_eq!(parse_custom_name("com.acme:Squash"), name("com.acme", "Squash"));
        assert_eq!(parse_custom_name("Softmax"), name("", "Softmax"));
        assert!(parse_custom_name("com.acme::Squash").is_err() && parse_custom_name("a:").is_err());
        for (text, good) in
            [("my_ops::squash", true), ("crate::a::b", true), ("squash", false), ("a::b<T>", false)]
        {
            assert_eq!(parse_custom_path(text).is_ok(), good, "{text}");
        }
        let shapes: CustomShapes = "same;like:2;f32[1,10];i64[]".parse().unwrap();
        assert_eq!(shapes.to_string(), "same;like:2;f32[1,10];i64[]");
        assert!("f32".parse::<CustomShapes>().is_err() && "f33[1]".parse::<CustomShapes>().is_err());
    }
}
