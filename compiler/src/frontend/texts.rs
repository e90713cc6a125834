//! Texts: known when the model is compiled, or positions in a table.
//!
//! A value of texts is an `i64` value that says which table its elements are positions of. Labels of classes start as
//! that; inputs of texts have one table together, the words that the model's encoders know. Operators that only move
//! elements pass it on, those of `ai.onnx.ml` look words up, all others refuse it.

use super::limits::short;
use super::node::Operands;
use super::scope::Slot;
use super::walk::{Walker, plain_domain};
use crate::diag::{Code, Diagnostic};
use crate::ir::{Data, Keys, Table, Tensor, Texts, ValueId};
use crate::onnx::proto::{GraphProto, NodeProto, ValueInfoProto};
use crate::onnx::{ExternalData, decode_tensor};
use crate::ops::{OpError, OpKind, identity};
use std::collections::BTreeMap;

/// Attributes of encoders that hold the words they know.
const WORDS: &[(&str, &str)] = &[
    ("LabelEncoder", "keys_strings"),
    ("LabelEncoder", "keys_tensor"),
    ("LabelEncoder", "classes_strings"),
    ("CategoryMapper", "cats_strings"),
    ("OneHotEncoder", "cats_strings"),
];

/// Words and keys shown in a note.
const SHOWN: usize = 8;

/// The words that encoders of `ai.onnx.ml` know, each once, in the model's order.
pub(super) fn known_words(graph: &GraphProto, external: &ExternalData) -> Texts {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut add = |word: &str| {
        let next = places.len();
        places.entry(word.to_owned()).or_insert(next);
    };
    for node in graph.node.iter().filter(|n| plain_domain(&n.domain) == "ai.onnx.ml") {
        for a in &node.attribute {
            if !WORDS.contains(&(node.op_type.as_str(), a.name.as_str())) {
                continue;
            }
            // What is no text here is reported where the node is imported.
            a.strings.iter().filter_map(|s| std::str::from_utf8(s).ok()).for_each(&mut add);
            let tensor = a.t.as_ref().and_then(|t| decode_tensor(t, external).ok());
            if let Some(Data::String(words)) = tensor.as_ref().map(Tensor::data) {
                words.iter().for_each(|w| add(w));
            }
        }
    }
    let mut words: Vec<(usize, String)> = places.into_iter().map(|(word, place)| (place, word)).collect();
    words.sort();
    words.into_iter().map(|(_, word)| word).collect()
}

impl Walker<'_> {
    /// The tables of operands that are texts.
    pub fn texts_of(&self, operands: &Operands) -> Vec<Option<Texts>> {
        operands.values.iter().map(|v| v.and_then(|v| self.graph.value(v).texts.clone())).collect()
    }

    /// The operator on positions, and the table of its results, where operands are texts.
    pub fn on_texts(&self, op: OpKind, operands: &Operands) -> Result<(OpKind, Option<Texts>), OpError> {
        let tables = self.texts_of(operands);
        if let Some(table) = tables.iter().flatten().next() {
            let texts: Vec<Option<&[String]>> = tables.iter().map(Option::as_deref).collect();
            let moved = op.as_op().on_texts(&texts).ok_or_else(no_texts)?;
            return Ok((moved, Some(table.clone())));
        }
        let words = match &op {
            OpKind::Pick(_) => operands.values.get(1).copied().flatten().and_then(|v| self.graph.constant(v)),
            _ => None,
        };
        let words = match words.map(Tensor::data) {
            Some(Data::String(words)) => Some(words.clone()),
            _ => None,
        };
        Ok((op, words))
    }

    /// The same value as plain numbers.
    pub fn without_texts(&mut self, v: ValueId) -> ValueId {
        let value = self.graph.value(v);
        if value.texts.is_none() {
            return v;
        }
        let result = (value.name.clone(), value.dtype, value.shape.clone());
        let id =
            self.graph.add_node(identity::Identity.into(), vec![Some(v)], vec![Some(result)], Vec::new());
        self.graph.node(id).and_then(|n| n.outputs.first().copied().flatten()).unwrap_or(v)
    }

    /// Says what became of a dictionary.
    pub fn dictionary(&mut self, node: &NodeProto, result: Slot, keys: Keys, depth: usize) {
        let (Some(name), Slot::Value(v)) = (node.output.first(), result) else { return };
        let value = self.graph.value(v);
        let list = match &keys {
            Keys::Ints(keys) => shown(keys.iter().map(|k| k.to_string())),
            Keys::Texts(keys) => shown(keys.iter().map(|k| format!("{k:?}"))),
        };
        self.problems.push(Diagnostic::note(
            Code::Texts,
            format!(
                "`{}` is a dictionary of each row's values, which `ZipMap` makes; instead it is {}{}, with a column \
                 for each of {list}",
                short(name),
                value.dtype,
                value.shape
            ),
        ));
        // Outputs of the model are made in its own graph.
        if depth == 0 {
            self.dictionaries.insert(v, keys);
        }
    }

    /// Notes what numbers and columns of an output stand for; the value to put out.
    pub fn output_table(&mut self, info: &ValueInfoProto, v: ValueId) -> ValueId {
        let name = short(&info.name);
        if let Some(keys) = self.dictionaries.get(&v) {
            self.graph.tables.insert(name, Table::Columns(keys.clone()));
            return v;
        }
        let v = self.positions(v);
        let value = self.graph.value(v);
        let Some(words) = value.texts.clone() else { return v };
        let list = shown(words.iter().map(|w| format!("{w:?}")));
        self.problems.push(Diagnostic::note(
            Code::Texts,
            format!(
                "output `{name}` is text; instead it is {}{}, positions in a table: {list}",
                value.dtype, value.shape
            ),
        ));
        self.graph.tables.insert(name, Table::Texts(words));
        v
    }

    /// Texts that are known, as positions of a table of their own.
    fn positions(&mut self, v: ValueId) -> ValueId {
        let value = self.graph.value(v);
        let Some(Data::String(texts)) = value.constant.as_ref().map(Tensor::data) else { return v };
        let mut places: BTreeMap<&str, i64> = BTreeMap::new();
        let mut words: Vec<String> = Vec::new();
        let mut list = Vec::with_capacity(texts.len());
        for text in texts.iter() {
            let next = words.len() as i64;
            let place = *places.entry(text).or_insert(next);
            if place == next {
                words.push(text.clone());
            }
            list.push(place);
        }
        let (name, shape) = (value.name.clone(), value.shape.clone());
        let Ok(tensor) = Tensor::new(shape, list) else { return v };
        let v = self.graph.add_constant(name, tensor);
        self.graph.value_mut(v).texts = Some(words.into());
        v
    }

    /// Defines an input of texts as positions among the words that the model knows.
    pub fn text_input(&mut self, info: &ValueInfoProto, v: ValueId, words: &Texts) {
        let name = short(&info.name);
        let value = self.graph.value_mut(v);
        value.texts = Some(words.clone());
        let list = shown(words.iter().map(|w| format!("{w:?}")));
        self.problems.push(Diagnostic::note(
            Code::Texts,
            format!(
                "input `{name}` is text; instead it is {}{}, positions in a table (-1 for a word that is not there): {list}",
                value.dtype, value.shape
            ),
        ));
        self.graph.tables.insert(name, Table::Texts(words.clone()));
    }
}

/// A refusal of texts as operands.
pub(super) fn no_texts() -> OpError {
    OpError::unsupported_help(
        "texts that are given or computed at run time as operands",
        "only operators that move elements take them, and encoders of `ai.onnx.ml`; give the model numbers otherwise",
    )
}

/// A list of words, cut.
fn shown(words: impl Iterator<Item = String>) -> String {
    let mut list: Vec<String> = words.take(SHOWN + 1).map(|w| short(&w)).collect();
    if list.len() > SHOWN {
        list.truncate(SHOWN);
        list.push("…".to_owned());
    }
    list.join(", ")
}
