//! Categories: [LabelEncoder](https://onnx.ai/onnx/operators/onnx_aionnxml_LabelEncoder.html),
//! [CategoryMapper](https://onnx.ai/onnx/operators/onnx_aionnxml_CategoryMapper.html),
//! [OneHotEncoder](https://onnx.ai/onnx/operators/onnx_aionnxml_OneHotEncoder.html) and
//! [ZipMap](https://onnx.ai/onnx/operators/onnx_aionnxml_ZipMap.html).
//!
//! Texts exist as tables of the generated crate only: values of texts, operands and results, are positions in one.
//! ZipMap disappears: its result is the tensor of probabilities, and its keys a table beside it.

use super::composite::{Composite, INTERNAL, Script};
use super::ml_post::{Labels, entries, pick, texts};
use super::typed::{floats, is_number};
use super::walk::pick as picked;
use super::{Body, Fact, Inputs, OnnxName, OpError};
use crate::ir::{DType, Data, Keys, Tensor};
use crate::onnx::{AttrReader, NodeView};
use std::collections::BTreeMap;

/// One operand each.
pub struct Categories;

const fn ml(op_type: &'static str, since: i64) -> OnnxName {
    OnnxName { domain: "ai.onnx.ml", op_type, since }
}

impl Composite for Categories {
    const NAMES: &'static [OnnxName] = &[
        ml("LabelEncoder", 1),
        ml("LabelEncoder", 2),
        ml("LabelEncoder", 4),
        ml("CategoryMapper", 1),
        ml("OneHotEncoder", 1),
        ml("ZipMap", 1),
    ];

    const TEXTS: bool = true;

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let x = inputs.required(0)?;
        let words = inputs.texts(0);
        match node.op_type {
            "LabelEncoder" if node.opset >= 2 => encoder(attrs, &x, words),
            // Positions to words, and back.
            "LabelEncoder" => {
                let classes = attrs.texts("classes_strings")?.unwrap_or_default();
                let keys: Vec<i64> = (0..classes.len() as i64).collect();
                mapper(attrs, &x, words, &keys, classes)
            }
            "CategoryMapper" => {
                let keys = attrs.ints("cats_int64s")?.unwrap_or_default();
                let categories = attrs.texts("cats_strings")?.unwrap_or_default();
                mapper(attrs, &x, words, &keys, categories)
            }
            "OneHotEncoder" => one_hot(attrs, &x, words),
            _ => {
                let labels = Labels::read(attrs, "classlabels_int64s", "classlabels_strings")?;
                if x.shape.dims().last() != Some(&labels.len()) {
                    return Err(OpError::invalid(format!("{} keys for values of {}", labels.len(), x.shape)));
                }
                let mut s = Script::new(&["x"]);
                let y = s.op("Identity", &["x"]);
                let mut body = s.finish(&[&y])?;
                body.keys = Some(match labels {
                    Labels::Ints(keys) => Keys::Ints(keys),
                    Labels::Texts(keys) => Keys::Texts(keys),
                });
                Ok(body)
            }
        }
    }
}

fn no_texts() -> OpError {
    OpError::unsupported_help(
        "texts that are given or computed at run time",
        "give the model numbers: the position of each text in its table",
    )
}

/// Numbers to the words at their places, or words to numbers, or to a default.
fn mapper(
    attrs: &mut AttrReader<'_>,
    x: &Fact<'_>,
    given: Option<&[String]>,
    keys: &[i64],
    words: Vec<&str>,
) -> Result<Body, OpError> {
    let text = attrs.text("default_string")?.unwrap_or("_Unused");
    let number = attrs.int_or("default_int64", -1)?;
    if keys.len() != words.len() {
        return Err(OpError::invalid(format!("{} numbers for {} words", keys.len(), words.len())));
    }
    let (numbers, words) = (Tensor::vector(keys), texts(words.into_iter().map(str::to_owned))?);
    match given {
        Some(_) => look_up(x, given, &words, &numbers, &Tensor::vector(&[number])),
        None => look_up(x, None, &numbers, &words, &texts(std::iter::once(text.to_owned()))?),
    }
}

/// The list that an attribute gives under one of the names of its types.
fn list(attrs: &mut AttrReader<'_>, prefix: &str) -> Result<Option<Tensor>, OpError> {
    if let Some(tensor) = attrs.tensor(&format!("{prefix}_tensor"))? {
        return Ok(Some(tensor.reshaped([tensor.len()])?));
    }
    if let Some(v) = attrs.ints(&format!("{prefix}_int64s"))?.filter(|v| !v.is_empty()) {
        return Ok(Some(Tensor::vector(&v)));
    }
    if let Some(v) = attrs.floats(&format!("{prefix}_floats"))?.filter(|v| !v.is_empty()) {
        return Ok(Some(Tensor::vector(&v)));
    }
    match attrs.texts(&format!("{prefix}_strings"))?.filter(|v| !v.is_empty()) {
        Some(v) => Ok(Some(texts(v.into_iter().map(str::to_owned))?)),
        None => Ok(None),
    }
}

fn encoder(attrs: &mut AttrReader<'_>, x: &Fact<'_>, given: Option<&[String]>) -> Result<Body, OpError> {
    let (Some(keys), Some(values)) = (list(attrs, "keys")?, list(attrs, "values")?) else {
        return Err(OpError::invalid("keys or values are missing"));
    };
    let stated = attrs.tensor("default_tensor")?;
    let (float, int) = (attrs.float_or("default_float", -0.0)?, attrs.int_or("default_int64", -1)?);
    let text = attrs.text("default_string")?.unwrap_or("_Unused");
    let default = match (stated, values.dtype()) {
        (Some(t), _) => t.reshaped([t.len()])?,
        (None, DType::String) => texts(std::iter::once(text.to_owned()))?,
        (None, dtype) if dtype.is_int() => super::typed::from_ints(dtype, [1], [int.into()])?,
        (None, dtype) => super::typed::from_floats(dtype, [1], [float.into()])?,
    };
    look_up(x, given, &keys, &values, &default)
}

/// Values at the place of their key, or a default.
fn look_up(
    x: &Fact<'_>,
    given: Option<&[String]>,
    keys: &Tensor,
    values: &Tensor,
    default: &Tensor,
) -> Result<Body, OpError> {
    if keys.len() != values.len()
        || keys.is_empty()
        || default.len() != 1
        || default.dtype() != values.dtype()
    {
        return Err(OpError::invalid(format!("{} keys for {} values", keys.len(), values.len())));
    }
    if let (Some(given), Data::String(keys)) = (given, keys.data()) {
        return by_word(given, keys, values, default);
    }
    if x.dtype == DType::String || given.is_some() && keys.dtype() != DType::String {
        return Err(no_texts());
    }
    if keys.dtype() != x.dtype || !is_number(x.dtype) {
        return Err(OpError::invalid(format!("keys of {} for values of {}", keys.dtype(), x.dtype)));
    }
    // In increasing order, NaN last; of equal keys the first counts.
    let (exact, wide) = (keys.to_i64_vec(), floats(keys)?);
    let mut order: Vec<usize> = (0..keys.len()).collect();
    let compare = |&a: &usize, &b: &usize| match &exact {
        Some(v) => v[a].cmp(&v[b]),
        None => {
            let (a, b) = (wide[a], wide[b]);
            a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }
    };
    order.sort_by(compare);
    order.dedup_by(|b, a| compare(b, a).is_eq());
    let sorted = picked(keys, [order.len()], order.iter().copied())?;
    let of_keys = order.iter().map(|&p| (0, p));
    let table = super::walk::pick_from(&[values, default], [order.len() + 1], of_keys.chain([(1, 0)]))?;
    let mut s = Script::new(&["x"]);
    let sorted = s.tensor(sorted);
    let at = s.op(&format!("{INTERNAL}.FindKey"), &["x", &sorted]);
    let y = entries(&mut s, &at, table)?;
    s.finish(&[&y])
}

/// Values of the words that a table holds, by positions in it; a default for others, and where there is no word.
fn by_word(given: &[String], keys: &[String], values: &Tensor, default: &Tensor) -> Result<Body, OpError> {
    let mut s = Script::new(&["x"]);
    let at = entry(&mut s, given.len());
    let places = first_places(keys);
    let of = |word: &String| places.get(word.as_str()).map_or((1, 0), |&p| (0, p));
    let places = [(1, 0)].into_iter().chain(given.iter().map(of)).chain([(1, 0)]);
    let table = super::walk::pick_from(&[values, default], [given.len() + 2], places)?;
    let y = entries(&mut s, &at, table)?;
    s.finish(&[&y])
}

/// Where each word stands first.
fn first_places(words: &[String]) -> BTreeMap<&str, usize> {
    // Later ones are put in first, and replaced.
    words.iter().enumerate().rev().map(|(p, word)| (word.as_str(), p)).collect()
}

/// Positions among `count` words as entries of a table that begins and ends with what counts for no word.
fn entry(s: &mut Script, count: usize) -> String {
    let mut bound = |v: i64| s.tensor(Tensor::scalar(v));
    let [none, end, one] = [bound(-1), bound(i64::try_from(count).unwrap_or(i64::MAX)), bound(1)];
    let near = s.op("Clip", &["x", &none, &end]);
    s.op("Add", &[&near, &one])
}

/// A row of zeros with a one at the value's category; values of no category get zeros, whatever `zeros` says.
fn one_hot(attrs: &mut AttrReader<'_>, x: &Fact<'_>, given: Option<&[String]>) -> Result<Body, OpError> {
    attrs.ignore("zeros");
    let words = attrs.texts("cats_strings")?.filter(|v| !v.is_empty());
    let numbers = attrs.ints("cats_int64s")?.filter(|v| !v.is_empty());
    let mut s = Script::new(&["x"]);
    let (wide, categories) = match (given, words) {
        (Some(given), Some(words)) => {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            let places = first_places(&words);
            let place = |word: &String| places.get(word.as_str()).map_or(-1, |&p| p as i64);
            let table: Vec<i64> = [-1].into_iter().chain(given.iter().map(place)).chain([-1]).collect();
            let at = entry(&mut s, given.len());
            let table = s.ints(&table);
            (pick(&mut s, &at, &table), (0..words.len() as i64).collect())
        }
        (Some(_), None) | (None, Some(_)) => return Err(no_texts()),
        (None, None) if !is_number(x.dtype) => {
            return Err(OpError::invalid(format!("operand type {} is not allowed here", x.dtype)));
        }
        (None, None) => (s.cast("x", DType::I64), AttrReader::required("cats_int64s", numbers)?),
    };
    let mut shape = x.shape.dims().to_vec();
    shape.push(1);
    let wide = s.reshape(&wide, &shape);
    let categories = s.ints(&categories);
    let same = s.op("Equal", &[&wide, &categories]);
    let y = s.cast(&same, DType::F32);
    s.finish(&[&y])
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run;
    use super::super::testing::{f32s, i64s};

    #[test]
    fn keys_map_to_values_and_words_to_places() {
        let x = i64s(&[4], &[7, 3, 5, 7]);
        let op =
            "ai.onnx.ml.LabelEncoder <keys_int64s = [7, 3], values_floats = [0.5, 1.5], default_float = 9.0>";
        assert_eq!(run(op, &[Some(&x)], 1).unwrap()[0], f32s(&[4], &[0.5, 1.5, 9.0, 0.5]));
        let op = "ai.onnx.ml.LabelEncoder <keys_int64s = [7, 3], values_strings = [\"a\", \"b\"]>";
        // The table is in order of the keys, the default last.
        assert_eq!(run(op, &[Some(&x)], 1).unwrap()[0], i64s(&[4], &[1, 0, 2, 1]));
        let op = "ai.onnx.ml.LabelEncoder <keys_strings = [\"a\"], values_int64s = [1]>";
        assert!(run(op, &[Some(&x)], 1).is_err());
    }

    #[test]
    fn categories_become_rows() {
        let x = f32s(&[1, 3], &[2.0, 4.0, 8.0]);
        let y = run("ai.onnx.ml.OneHotEncoder <cats_int64s = [8, 2]>", &[Some(&x)], 1).unwrap();
        assert_eq!(y[0], f32s(&[1, 3, 2], &[0., 1., 0., 0., 1., 0.]));
    }
}
