//! What operators of `ai.onnx.ml` share: transformations of scores, and labels of classes.

use super::OpError;
use super::composite::{INTERNAL, Script};
use crate::ir::{DType, Data, Tensor};
use crate::onnx::AttrReader;
use std::collections::BTreeMap;

/// `post_transform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Post {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

/// In the order of the numbers that `TreeEnsemble` uses.
const POSTS: [(&str, Post); 5] = [
    ("NONE", Post::None),
    ("SOFTMAX", Post::Softmax),
    ("LOGISTIC", Post::Logistic),
    ("SOFTMAX_ZERO", Post::SoftmaxZero),
    ("PROBIT", Post::Probit),
];

impl Post {
    /// From the attribute's text.
    pub(super) fn read(attrs: &mut AttrReader<'_>) -> Result<Self, OpError> {
        let text = attrs.text("post_transform")?.unwrap_or("NONE");
        let found = POSTS.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, p)| *p)
            .ok_or_else(|| OpError::invalid(format!("attribute `post_transform` is `{text}`")))
    }

    /// From `TreeEnsemble`'s number.
    pub(super) fn of_code(code: i64) -> Result<Self, OpError> {
        let found = usize::try_from(code).ok().and_then(|i| POSTS.get(i));
        found
            .map(|(_, p)| *p)
            .ok_or_else(|| OpError::invalid(format!("attribute `post_transform` is {code}")))
    }

    /// Transforms rows of two or more scores. A single score knows only [`probit`].
    pub(super) fn rows(self, s: &mut Script, x: &str, dtype: DType) -> Result<String, OpError> {
        Ok(match self {
            Post::None => x.to_owned(),
            Post::Softmax => s.op("Softmax <axis = 1>", &[x]),
            Post::Logistic => s.op("Sigmoid", &[x]),
            Post::SoftmaxZero => softmax_zero(s, x, dtype)?,
            Post::Probit => probit(s, x, dtype)?,
        })
    }

    /// Transforms a column of single scores.
    pub(super) fn single(self, s: &mut Script, x: &str, dtype: DType) -> Result<String, OpError> {
        if self == Post::Probit { probit(s, x, dtype) } else { Ok(x.to_owned()) }
    }
}

/// Softmax where scores of zero stay zero, and count for nothing.
fn softmax_zero(s: &mut Script, x: &str, dtype: DType) -> Result<String, OpError> {
    let axis = s.ints(&[1]);
    let most = s.op("ReduceMax", &[x, &axis]);
    let size = s.op("Abs", &[x]);
    let least = s.scalar(dtype, 1e-7)?;
    let counts = s.op("Greater", &[&size, &least]);
    let distance = s.op("Sub", &[x, &most]);
    let power = s.op("Exp", &[&distance]);
    let zero = s.scalar(dtype, 0.0)?;
    let counted = s.op("Where", &[&counts, &power, &zero]);
    let sum = s.op("ReduceSum", &[&counted, &axis]);
    let below = s.op("Neg", &[&most]);
    let below = s.op("Exp", &[&below]);
    let small = s.op("Mul", &[x, &below]);
    let top = s.op("Where", &[&counts, &power, &small]);
    Ok(s.op("Div", &[&top, &sum]))
}

/// `√2·erf⁻¹(2x − 1)` by Winitzki's formula, with the constants that ONNX Runtime uses.
fn probit(s: &mut Script, x: &str, dtype: DType) -> Result<String, OpError> {
    const A: f64 = 0.147;
    // 2/(π·A), with π as 3.14159.
    const FIRST: f64 = 4.330750408828252;
    let mut constant = |v: f64| s.scalar(dtype, v);
    let [one, two, zero, half] = [constant(1.0)?, constant(2.0)?, constant(0.0)?, constant(0.5)?];
    let [a, first, root2, minus] =
        [constant(A)?, constant(FIRST)?, constant(std::f64::consts::SQRT_2)?, constant(-1.0)?];
    let v = s.op("Mul", &[x, &two]);
    let v = s.op("Sub", &[&v, &one]);
    let [under, over] = [s.op("Sub", &[&one, &v]), s.op("Add", &[&one, &v])];
    let product = s.op("Mul", &[&under, &over]);
    let log = s.op("Log", &[&product]);
    let halved = s.op("Mul", &[&log, &half]);
    let center = s.op("Add", &[&first, &halved]);
    let square = s.op("Mul", &[&center, &center]);
    let scaled = s.op("Div", &[&log, &a]);
    let inner = s.op("Sub", &[&square, &scaled]);
    let root = s.op("Sqrt", &[&inner]);
    let size = s.op("Sub", &[&root, &center]);
    let size = s.op("Sqrt", &[&size]);
    let negative = s.op("Less", &[&v, &zero]);
    let sign = s.op("Where", &[&negative, &minus, &one]);
    let signed = s.op("Mul", &[&sign, &size]);
    Ok(s.op("Mul", &[&signed, &root2]))
}

/// Both columns of a binary decision that has one score: logistic where asked for, or `complement`.
pub(super) fn both(
    s: &mut Script,
    score: &str,
    dtype: DType,
    post: Post,
    complement: bool,
) -> Result<String, OpError> {
    let pair = |s: &mut Script, a: &str, b: &str| s.op("Concat <axis = 1>", &[a, b]);
    let opposite = s.op("Neg", &[score]);
    Ok(match post {
        Post::Logistic => {
            let scores = pair(s, &opposite, score);
            s.op("Sigmoid", &[&scores])
        }
        Post::Probit => {
            let first = probit(s, score, dtype)?;
            pair(s, &first, score)
        }
        _ if complement => {
            let one = s.scalar(dtype, 1.0)?;
            let rest = s.op("Sub", &[&one, score]);
            pair(s, &rest, score)
        }
        _ => pair(s, &opposite, score),
    })
}

/// Labels of classes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Labels {
    /// Numbers.
    Ints(Vec<i64>),
    /// Texts: the generated crate gives the position, and holds the table.
    Texts(Vec<String>),
}

impl Labels {
    /// From whichever attribute is there.
    pub(super) fn read(attrs: &mut AttrReader<'_>, ints: &str, texts: &str) -> Result<Self, OpError> {
        let numbers = attrs.ints(ints)?.filter(|v| !v.is_empty());
        let words = attrs.texts(texts)?.filter(|v| !v.is_empty());
        match (numbers, words) {
            (Some(v), None) => Ok(Labels::Ints(v)),
            (None, Some(v)) => Ok(Labels::Texts(v.into_iter().map(str::to_owned).collect())),
            (None, None) => Err(OpError::invalid(format!("attributes `{ints}` and `{texts}` are missing"))),
            (Some(_), Some(_)) => Err(OpError::invalid(format!("both `{ints}` and `{texts}` are given"))),
        }
    }

    /// Number of classes.
    pub(super) fn len(&self) -> usize {
        match self {
            Labels::Ints(v) => v.len(),
            Labels::Texts(v) => v.len(),
        }
    }

    /// Labels of positions.
    pub(super) fn pick(&self, s: &mut Script, at: &str) -> Result<String, OpError> {
        let table = match self {
            Labels::Ints(v) => Tensor::vector(v),
            Labels::Texts(v) => texts(v.iter().cloned())?,
        };
        entries(s, at, table)
    }
}

/// A vector of texts.
pub(super) fn texts(texts: impl Iterator<Item = String>) -> Result<Tensor, OpError> {
    let list: std::sync::Arc<[String]> = texts.collect();
    Ok(Tensor::from_data([list.len()].into(), Data::String(list))?)
}

/// Entries of a table by positions that cannot miss; each text stands once in what the generated crate holds.
pub(super) fn entries(s: &mut Script, at: &str, table: Tensor) -> Result<String, OpError> {
    let Data::String(all) = table.data() else {
        let table = s.tensor(table);
        return Ok(pick(s, at, &table));
    };
    let mut places = BTreeMap::new();
    let mut unique = Vec::new();
    let mut list = Vec::new();
    for text in all.iter() {
        let next = unique.len();
        let place = *places.entry(text).or_insert(next);
        if place == next {
            unique.push(text.clone());
        }
        list.push(place as i64);
    }
    if unique.len() == all.len() {
        let table = s.tensor(table);
        return Ok(pick(s, at, &table));
    }
    let list = s.ints(&list);
    let at = pick(s, at, &list);
    let table = s.tensor(texts(unique.into_iter())?);
    Ok(pick(s, &at, &table))
}

/// Entries of a table by positions that cannot miss.
pub(super) fn pick(s: &mut Script, at: &str, table: &str) -> String {
    s.op(&format!("{INTERNAL}.Pick"), &[at, table])
}

/// `x` as rows of features in the type that scores are computed in: `f64` stays, all else becomes `f32`.
/// Gives the rows, their number and width, and the type.
pub(super) fn rows(
    s: &mut Script,
    x: &super::Fact<'_>,
    name: &str,
    keep_double: bool,
) -> Result<(String, usize, usize, DType), OpError> {
    let dtype = if keep_double && x.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    if !super::typed::is_number(x.dtype) {
        return Err(OpError::invalid(format!("operand type {} is not allowed here", x.dtype)));
    }
    let (rows, width) = match *x.shape.dims() {
        [width] => (1, width),
        [rows, width] => (rows, width),
        _ => return Err(OpError::invalid(format!("features of shape {}", x.shape))),
    };
    let mut value = name.to_owned();
    if x.shape.rank() == 1 {
        value = s.reshape(&value, &[rows, width]);
    }
    if x.dtype != dtype {
        value = s.cast(&value, dtype);
    }
    Ok((value, rows, width, dtype))
}
