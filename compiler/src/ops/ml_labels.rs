//! Categories: [LabelEncoder](https://onnx.ai/onnx/operators/onnx_aionnxml_LabelEncoder.html),
//! [CategoryMapper](https://onnx.ai/onnx/operators/onnx_aionnxml_CategoryMapper.html),
//! [OneHotEncoder](https://onnx.ai/onnx/operators/onnx_aionnxml_OneHotEncoder.html) and
//! [ZipMap](https://onnx.ai/onnx/operators/onnx_aionnxml_ZipMap.html).
//!
//! Texts exist as tables of the generated crate only: a result of texts is the position in its table, and
//! operands of texts are refused. ZipMap disappears: its result is the tensor of probabilities.

use super::composite::{Composite, INTERNAL, Script};
use super::ml_post::{Labels, pick, texts};
use super::typed::{floats, is_number};
use super::walk::pick as picked;
use super::{Body, Fact, Inputs, OnnxName, OpError};
use crate::ir::{DType, Tensor};
use crate::onnx::{AttrReader, NodeView};

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

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let x = inputs.required(0)?;
        match node.op_type {
            "LabelEncoder" if node.opset >= 2 => encoder(attrs, &x),
            // Positions to words, and back.
            "LabelEncoder" => {
                let words = attrs.texts("classes_strings")?.unwrap_or_default();
                let keys: Vec<i64> = (0..words.len() as i64).collect();
                mapper(attrs, &x, &keys, words)
            }
            "CategoryMapper" => {
                let keys = attrs.ints("cats_int64s")?.unwrap_or_default();
                let words = attrs.texts("cats_strings")?.unwrap_or_default();
                mapper(attrs, &x, &keys, words)
            }
            "OneHotEncoder" => one_hot(attrs, &x),
            _ => {
                Labels::read(attrs, "classlabels_int64s", "classlabels_strings")?;
                let mut s = Script::new(&["x"]);
                let y = s.op("Identity", &["x"]);
                s.finish(&[&y])
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

/// Numbers to the words at their places, or to a default.
fn mapper(attrs: &mut AttrReader<'_>, x: &Fact<'_>, keys: &[i64], words: Vec<&str>) -> Result<Body, OpError> {
    let default = attrs.text("default_string")?.unwrap_or("_Unused");
    attrs.ignore("default_int64");
    if keys.len() != words.len() {
        return Err(OpError::invalid(format!("{} numbers for {} words", keys.len(), words.len())));
    }
    let values = texts(words.into_iter().map(str::to_owned))?;
    let default = texts(std::iter::once(default.to_owned()))?;
    look_up(x, &Tensor::vector(keys), &values, &default)
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

fn encoder(attrs: &mut AttrReader<'_>, x: &Fact<'_>) -> Result<Body, OpError> {
    let (Some(keys), Some(values)) = (list(attrs, "keys")?, list(attrs, "values")?) else {
        return Err(OpError::invalid("keys or values are missing"));
    };
    let given = attrs.tensor("default_tensor")?;
    let (float, int) = (attrs.float_or("default_float", -0.0)?, attrs.int_or("default_int64", -1)?);
    let text = attrs.text("default_string")?.unwrap_or("_Unused");
    let default = match (given, values.dtype()) {
        (Some(t), _) => t.reshaped([t.len()])?,
        (None, DType::String) => texts(std::iter::once(text.to_owned()))?,
        (None, dtype) if dtype.is_int() => super::typed::from_ints(dtype, [1], [int.into()])?,
        (None, dtype) => super::typed::from_floats(dtype, [1], [float.into()])?,
    };
    look_up(x, &keys, &values, &default)
}

/// Values at the place of their key, or a default.
fn look_up(x: &Fact<'_>, keys: &Tensor, values: &Tensor, default: &Tensor) -> Result<Body, OpError> {
    if x.dtype == DType::String || keys.dtype() == DType::String {
        return Err(no_texts());
    }
    if keys.len() != values.len()
        || keys.is_empty()
        || default.len() != 1
        || default.dtype() != values.dtype()
    {
        return Err(OpError::invalid(format!("{} keys for {} values", keys.len(), values.len())));
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
    let [sorted, table] = [s.tensor(sorted), s.tensor(table)];
    let at = s.op(&format!("{INTERNAL}.FindKey"), &["x", &sorted]);
    let y = pick(&mut s, &at, &table);
    s.finish(&[&y])
}

/// A row of zeros with a one at the value's category; values of no category get zeros, whatever `zeros` says.
fn one_hot(attrs: &mut AttrReader<'_>, x: &Fact<'_>) -> Result<Body, OpError> {
    attrs.ignore("zeros");
    if attrs.has("cats_strings") && attrs.texts("cats_strings")?.is_some_and(|v| !v.is_empty()) {
        return Err(no_texts());
    }
    let categories = attrs.ints("cats_int64s")?.filter(|v| !v.is_empty());
    let categories = AttrReader::required("cats_int64s", categories)?;
    if !is_number(x.dtype) {
        return Err(OpError::invalid(format!("operand type {} is not allowed here", x.dtype)));
    }
    let mut s = Script::new(&["x"]);
    let wide = s.cast("x", DType::I64);
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
