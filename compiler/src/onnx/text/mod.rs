//! ONNX's textual syntax, as `onnx.parser` reads it, to [`ModelProto`].
//!
//! ```text
//! <ir_version: 8, opset_import: ["" : 17]>
//! agraph (float[1, 8] x, float[N] z) => (float[1, 8] y)
//! <float[8] w = {1.0, 2.0 ...}, float[1, 8] t>
//! {
//!     t = Add (x, w)                               # a comment
//!     [name] y, "a.b" = my.domain.Op <axis = 1, mode = "s", pads = [0, 1]> (t, , "c:0")
//! }
//! <domain: "my.domain", opset_import: ["" : 17]> Op <axis, alpha: float = 1.0> (a, b) => (c) { … }
//! ```
//!
//! Beyond ONNX's own parser: a list of tensor elements that ends in `...` is repeated until the
//! tensor is full (`float[16, 3] w = {0.5, -1.0 ...}`); elements of 16-, 8- and 4-bit float types
//! with a decimal point are values (`float16[2] h = {1.5, -2.0}`), where an integer is the bit
//! pattern; and of 4-bit integer types each element is written by itself.

mod lex;
mod tensor;

use super::proto::*;
use super::types::code_of_name;
use lex::{Lexer, Literal};
use std::fmt;

/// Depth of subgraphs and types.
const MAX_DEPTH: usize = 24;

/// Where and why a text is not a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError {
    /// Line, from 1.
    pub line: usize,
    /// Byte in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for TextError {}

type Result<T> = std::result::Result<T, TextError>;

/// The model that a text describes. Without a header, `ir_version` is 8 and the opset 17.
pub fn parse_model(text: &str) -> Result<ModelProto> {
    let mut parser = Parser { lex: Lexer::new(text), depth: 0 };
    let mut model = ModelProto { ir_version: 8, ..ModelProto::default() };
    if parser.lex.accept("<") {
        parser.model_header(&mut model)?;
    }
    if model.opset_import.is_empty() {
        model.opset_import.push(OperatorSetIdProto { domain: String::new(), version: 17 });
    }
    let name = parser.lex.name()?;
    model.graph = Some(parser.graph(name)?);
    while !parser.lex.at_end() {
        model.functions.push(parser.function()?);
    }
    Ok(model)
}

/// The function that a text describes: `Name (a, b) => (c) { … }`.
pub fn parse_function(text: &str) -> Result<FunctionProto> {
    let mut parser = Parser { lex: Lexer::new(text), depth: 0 };
    let function = parser.function()?;
    if parser.lex.at_end() { Ok(function) } else { Err(parser.lex.error("text behind the function")) }
}

struct Parser<'t> {
    lex: Lexer<'t>,
    depth: usize,
}

impl<'t> Parser<'t> {
    /// Items up to `close`, separated by commas.
    fn list(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if self.lex.accept(close) {
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.lex.accept(",") {
                return self.lex.expect(close);
            }
        }
    }

    fn model_header(&mut self, model: &mut ModelProto) -> Result<()> {
        self.list(">", |p| {
            let key = p.lex.identifier()?;
            p.lex.expect(":")?;
            match key {
                "ir_version" => model.ir_version = p.lex.int()?,
                "opset_import" => model.opset_import = p.opsets()?,
                "producer_name" => model.producer_name = p.lex.string()?,
                "producer_version" => model.producer_version = p.lex.string()?,
                "domain" => model.domain = p.lex.string()?,
                "model_version" => model.model_version = p.lex.int()?,
                "doc_string" => drop(p.lex.string()?),
                "metadata_props" => model.metadata_props = p.pairs()?,
                other => return Err(p.lex.error(format!("`{other}` is no key of a model's header"))),
            }
            Ok(())
        })
    }

    fn opsets(&mut self) -> Result<Vec<OperatorSetIdProto>> {
        let mut sets = Vec::new();
        self.lex.expect("[")?;
        self.list("]", |p| {
            let domain = p.lex.string()?;
            p.lex.expect(":")?;
            sets.push(OperatorSetIdProto { domain, version: p.lex.int()? });
            Ok(())
        })?;
        Ok(sets)
    }

    fn pairs(&mut self) -> Result<Vec<StringStringEntryProto>> {
        let mut pairs = Vec::new();
        self.lex.expect("[")?;
        self.list("]", |p| {
            let key = p.lex.string()?;
            p.lex.expect(":")?;
            pairs.push(StringStringEntryProto { key, value: p.lex.string()? });
            Ok(())
        })?;
        Ok(pairs)
    }

    /// A graph behind its name.
    fn graph(&mut self, name: String) -> Result<GraphProto> {
        self.nested(|p| {
            let mut graph = GraphProto { name, ..GraphProto::default() };
            if p.lex.accept("(") {
                p.list(")", |p| {
                    let info = p.value_info()?;
                    if p.lex.accept("=") {
                        let tensor = p.tensor_of(&info.name, info.r#type.as_ref())?;
                        graph.initializer.push(tensor);
                    }
                    graph.input.push(info);
                    Ok(())
                })?;
            }
            p.lex.expect("=>")?;
            p.lex.expect("(")?;
            p.list(")", |p| {
                graph.output.push(p.value_info()?);
                Ok(())
            })?;
            if p.lex.accept("<") {
                p.list(">", |p| {
                    let info = p.value_info()?;
                    if p.lex.accept("=") {
                        let tensor = p.tensor_of(&info.name, info.r#type.as_ref())?;
                        graph.initializer.push(tensor);
                    } else {
                        graph.value_info.push(info);
                    }
                    Ok(())
                })?;
            }
            graph.node = p.nodes()?;
            Ok(graph)
        })
    }

    fn nested<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(self.lex.error(format!("nested deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let out = body(self);
        self.depth -= 1;
        out
    }

    fn function(&mut self) -> Result<FunctionProto> {
        let mut function = FunctionProto::default();
        if self.lex.accept("<") {
            self.list(">", |p| {
                let key = p.lex.identifier()?;
                p.lex.expect(":")?;
                match key {
                    "opset_import" => function.opset_import = p.opsets()?,
                    "domain" => function.domain = p.lex.string()?,
                    "overload" => function.overload = p.lex.string()?,
                    "doc_string" => drop(p.lex.string()?),
                    other => return Err(p.lex.error(format!("`{other}` is no key of a function's header"))),
                }
                Ok(())
            })?;
        }
        function.name = self.lex.name()?;
        if self.lex.accept("<") {
            self.list(">", |p| {
                let name = p.lex.name()?;
                if p.lex.peek(":") || p.lex.peek("=") {
                    function.attribute_proto.push(p.attribute(name)?);
                } else {
                    function.attribute.push(name);
                }
                Ok(())
            })?;
        }
        function.input = self.formals()?;
        self.lex.expect("=>")?;
        function.output = self.formals()?;
        if self.lex.accept("<") {
            self.list(">", |p| {
                function.value_info.push(p.value_info()?);
                Ok(())
            })?;
        }
        function.node = self.nodes()?;
        Ok(function)
    }

    /// Names of a function's operands or results; types are skipped.
    fn formals(&mut self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.lex.expect("(")?;
        self.list(")", |p| {
            names.push(p.value_info()?.name);
            Ok(())
        })?;
        Ok(names)
    }

    fn nodes(&mut self) -> Result<Vec<NodeProto>> {
        self.lex.expect("{")?;
        let mut nodes = Vec::new();
        while !self.lex.accept("}") {
            nodes.push(self.node()?);
        }
        Ok(nodes)
    }

    fn node(&mut self) -> Result<NodeProto> {
        let mut node = NodeProto::default();
        if self.lex.accept("[") {
            if !self.lex.peek("]") {
                node.name = self.lex.name()?;
            }
            self.lex.expect("]")?;
        }
        node.output = self.names("=")?;
        self.lex.expect("=")?;
        let path = self.lex.path()?;
        let (domain, op_type) = path.rsplit_once('.').unwrap_or(("", &path));
        (node.domain, node.op_type) = (domain.to_owned(), op_type.to_owned());
        if self.lex.accept(":") {
            node.overload = self.lex.identifier()?.to_owned();
        }
        node.attribute = self.attributes()?;
        self.lex.expect("(")?;
        node.input = self.names(")")?;
        self.lex.expect(")")?;
        if node.attribute.is_empty() {
            node.attribute = self.attributes()?;
        }
        Ok(node)
    }

    /// Names up to `end`, which stays; between commas nothing stands for an absent one.
    fn names(&mut self, end: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        while !self.lex.peek(end) {
            names.push(if self.lex.peek(",") { String::new() } else { self.lex.name()? });
            if !self.lex.accept(",") {
                break;
            }
        }
        Ok(names)
    }

    fn attributes(&mut self) -> Result<Vec<AttributeProto>> {
        let mut attributes = Vec::new();
        if self.lex.accept("<") {
            self.list(">", |p| {
                let name = p.lex.identifier()?.to_owned();
                attributes.push(p.attribute(name)?);
                Ok(())
            })?;
        }
        Ok(attributes)
    }

    /// An attribute behind its name: `: type = value`, `= value`, `: type = @reference`.
    fn attribute(&mut self, name: String) -> Result<AttributeProto> {
        let mut out = AttributeProto { name, ..AttributeProto::default() };
        let mut expected = None;
        if self.lex.accept(":") {
            let word = self.lex.identifier()?;
            expected = Some(
                attribute_type(word)
                    .ok_or_else(|| self.lex.error(format!("`{word}` is no attribute type")))?,
            );
        }
        self.lex.expect("=")?;
        if self.lex.accept("@") {
            out.ref_attr_name = self.lex.name()?;
            out.r#type = expected.unwrap_or(AttributeType::Undefined) as i32;
            return Ok(out);
        }
        let found = if self.lex.accept("[") {
            self.attribute_list(&mut out, expected)?
        } else {
            self.single(&mut out, expected == Some(AttributeType::Float))?
        };
        if expected.is_some_and(|e| e != found) {
            return Err(self.lex.error(format!("attribute `{}` is {found:?}, not as declared", out.name)));
        }
        out.r#type = found as i32;
        Ok(out)
    }

    fn attribute_list(
        &mut self,
        out: &mut AttributeProto,
        expected: Option<AttributeType>,
    ) -> Result<AttributeType> {
        let floats = expected == Some(AttributeType::Floats);
        let mut found = expected;
        self.list("]", |p| {
            let mut one = AttributeProto::default();
            let kind = match p.single(&mut one, floats || found == Some(AttributeType::Floats))? {
                AttributeType::Float => AttributeType::Floats,
                AttributeType::Int => AttributeType::Ints,
                AttributeType::String => AttributeType::Strings,
                AttributeType::Tensor => AttributeType::Tensors,
                AttributeType::Graph => AttributeType::Graphs,
                other => other,
            };
            // `[1, 2.5]` is a list of floats.
            if found == Some(AttributeType::Ints) && kind == AttributeType::Floats && expected.is_none() {
                out.floats = out.ints.drain(..).map(|i| i as f32).collect();
                found = Some(kind);
            }
            if *found.get_or_insert(kind) != kind {
                return Err(p.lex.error("the elements of a list are of one type"));
            }
            out.floats.extend(one.f);
            out.ints.extend(one.i);
            out.strings.extend(one.s);
            out.tensors.extend(one.t.map(|t| *t));
            out.graphs.extend(one.g.map(|g| *g));
            Ok(())
        })?;
        found.ok_or_else(|| self.lex.error("an empty list needs its type: `name: ints = []`"))
    }

    fn single(&mut self, out: &mut AttributeProto, as_float: bool) -> Result<AttributeType> {
        let word = self.lex.peek_identifier();
        let is_number = ["inf", "infinity", "nan"].iter().any(|w| word.eq_ignore_ascii_case(w));
        if code_of_name(word).is_some() {
            let ty = self.type_proto()?;
            let name = self.lex.peek_identifier().to_owned();
            if !name.is_empty() {
                self.lex.identifier()?;
            }
            self.lex.accept("=");
            if !self.lex.peek("{") && !self.lex.peek("[") && name.is_empty() {
                out.tp = Some(Box::new(ty));
                return Ok(AttributeType::TypeProto);
            }
            out.t = Some(Box::new(self.tensor_of(&name, Some(&ty))?));
            return Ok(AttributeType::Tensor);
        }
        if !word.is_empty() && !is_number {
            let name = self.lex.name()?;
            out.g = Some(Box::new(self.graph(name)?));
            return Ok(AttributeType::Graph);
        }
        let start = self.lex.mark();
        let bad = |lex: &Lexer<'_>| lex.error_at(start, "the number is out of range");
        match self.lex.literal()? {
            Literal::Text(text) => {
                out.s = Some(text.into_bytes().into());
                Ok(AttributeType::String)
            }
            Literal::Int(text) if !as_float => {
                out.i = Some(text.parse().map_err(|_| bad(&self.lex))?);
                Ok(AttributeType::Int)
            }
            Literal::Int(text) | Literal::Float(text) => {
                out.f = Some(text.parse().map_err(|_| bad(&self.lex))?);
                Ok(AttributeType::Float)
            }
        }
    }

    fn value_info(&mut self) -> Result<ValueInfoProto> {
        let word = self.lex.peek_identifier();
        let containers = ["seq", "optional", "map", "sparse_tensor"];
        let r#type = if code_of_name(word).is_some() || containers.contains(&word) {
            Some(self.type_proto()?)
        } else {
            None
        };
        Ok(ValueInfoProto { name: self.lex.name()?, r#type })
    }

    fn type_proto(&mut self) -> Result<TypeProto> {
        self.nested(|p| {
            let word = p.lex.identifier()?;
            let value = if let Some(elem_type) = code_of_name(word) {
                TypeValue::Tensor(TensorType { elem_type, shape: p.shape()? })
            } else {
                p.lex.expect("(")?;
                let value = match word {
                    "seq" | "optional" => {
                        let inner = SequenceType { elem_type: Some(Box::new(p.type_proto()?)) };
                        if word == "seq" {
                            TypeValue::Sequence(Box::new(inner))
                        } else {
                            TypeValue::Optional(Box::new(inner))
                        }
                    }
                    "map" => {
                        let key = p.lex.identifier()?;
                        let key_type =
                            code_of_name(key).ok_or_else(|| p.lex.error("a key's type is expected"))?;
                        p.lex.expect(",")?;
                        let value_type = Some(Box::new(p.type_proto()?));
                        TypeValue::Map(Box::new(MapType { key_type, value_type }))
                    }
                    "sparse_tensor" => {
                        let name = p.lex.identifier()?;
                        let elem_type =
                            code_of_name(name).ok_or_else(|| p.lex.error("an element type is expected"))?;
                        TypeValue::SparseTensor(TensorType { elem_type, shape: p.shape()? })
                    }
                    other => return Err(p.lex.error(format!("`{other}` is no type"))),
                };
                p.lex.expect(")")?;
                value
            };
            Ok(TypeProto { value: Some(value) })
        })
    }

    /// `[1, N, ?]`; nothing is a scalar's shape, `[]` an unknown one.
    fn shape(&mut self) -> Result<Option<TensorShapeProto>> {
        if !self.lex.accept("[") {
            return Ok(Some(TensorShapeProto::default()));
        }
        if self.lex.accept("]") {
            return Ok(None);
        }
        let mut shape = TensorShapeProto::default();
        self.list("]", |p| {
            let value = if p.lex.accept("?") {
                None
            } else if p.lex.peek("\"") || !p.lex.peek_identifier().is_empty() {
                Some(DimensionValue::Param(p.lex.name()?))
            } else {
                Some(DimensionValue::Value(p.lex.int()?))
            };
            shape.dim.push(Dimension { value, ..Dimension::default() });
            Ok(())
        })?;
        Ok(Some(shape))
    }
}

fn attribute_type(word: &str) -> Option<AttributeType> {
    Some(match word {
        "float" => AttributeType::Float,
        "int" => AttributeType::Int,
        "string" => AttributeType::String,
        "tensor" => AttributeType::Tensor,
        "graph" => AttributeType::Graph,
        "floats" => AttributeType::Floats,
        "ints" => AttributeType::Ints,
        "strings" => AttributeType::Strings,
        "tensors" => AttributeType::Tensors,
        "graphs" => AttributeType::Graphs,
        "type_proto" => AttributeType::TypeProto,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
