//! [TreeEnsembleClassifier](https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html),
//! [TreeEnsembleRegressor](https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html) and
//! [TreeEnsemble](https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html): sums over trees, then what
//! ONNX Runtime makes of them, its cases of binary classification included.

use super::composite::{Composite, Script};
use super::ml_post::{Labels, Post, both, pick, rows};
use super::trees::{Forest, Reached, numbers};
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::{DType, Tensor};
use crate::onnx::{AttrReader, NodeView};

/// Operand: rows of features. Results: scores, behind labels for classifiers.
pub struct TreeEnsemble;

const fn ml(op_type: &'static str, since: i64) -> OnnxName {
    OnnxName { domain: "ai.onnx.ml", op_type, since }
}

impl Composite for TreeEnsemble {
    const NAMES: &'static [OnnxName] = &[
        ml("TreeEnsembleClassifier", 1),
        ml("TreeEnsembleClassifier", 3),
        ml("TreeEnsembleRegressor", 1),
        ml("TreeEnsembleRegressor", 3),
        ml("TreeEnsemble", 5),
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let mut s = Script::new(&["x"]);
        let fact = inputs.required(0)?;
        let (x, _, width, dtype) = rows(&mut s, &fact, "x", true)?;
        match node.op_type {
            "TreeEnsembleClassifier" => {
                let forest = Forest::read(attrs, "class")?;
                let labels = Labels::read(attrs, "classlabels_int64s", "classlabels_strings")?;
                let base = numbers(attrs, "base_values")?;
                let post = Post::read(attrs)?;
                forest.check(width, labels.len())?;
                let (scores, reached) = forest.sums(&mut s, &x, dtype, labels.len(), 0)?;
                let sums = Sums { forest: &forest, scores, reached, dtype, base };
                let (label, scores) = sums.classes(&mut s, &labels, post)?;
                let scores = if dtype == DType::F32 { scores } else { s.cast(&scores, DType::F32) };
                s.finish(&[&label, &scores])
            }
            "TreeEnsembleRegressor" => {
                let forest = Forest::read(attrs, "target")?;
                let targets = super::walk::extent(attrs.int_or("n_targets", 1)?)?;
                let base = numbers(attrs, "base_values")?;
                let names = ["AVERAGE", "SUM", "MIN", "MAX"];
                let name = attrs.text("aggregate_function")?.unwrap_or("SUM");
                let aggregate = names.iter().position(|n| *n == name);
                let aggregate =
                    aggregate.ok_or_else(|| OpError::invalid(format!("`aggregate_function` is `{name}`")))?;
                let post = Post::read(attrs)?;
                forest.check(width, targets)?;
                let y = values(&mut s, &forest, &x, dtype, targets, aggregate, base, post)?;
                let y = if dtype == DType::F32 { y } else { s.cast(&y, DType::F32) };
                s.finish(&[&y])
            }
            _ => {
                let forest = Forest::read_v5(attrs)?;
                let targets = super::walk::extent(attrs.int_or("n_targets", 1)?)?;
                let aggregate = usize::try_from(attrs.int_or("aggregate_function", 1)?).unwrap_or(4);
                let post = Post::of_code(attrs.int_or("post_transform", 0)?)?;
                if aggregate > 3 || !matches!(fact.dtype, DType::F32 | DType::F64) {
                    return Err(OpError::unsupported("this `aggregate_function` or operand type"));
                }
                forest.check(width, targets)?;
                let y = values(&mut s, &forest, &x, dtype, targets, aggregate, Vec::new(), post)?;
                s.finish(&[&y])
            }
        }
    }
}

/// Values of a regression; `aggregate` is 0 average, 1 sum, 2 minimum, 3 maximum.
#[allow(clippy::too_many_arguments)]
fn values(
    s: &mut Script,
    forest: &Forest,
    x: &str,
    dtype: DType,
    targets: usize,
    aggregate: usize,
    base: Vec<f64>,
    post: Post,
) -> Result<String, OpError> {
    let (mut y, reached) = forest.sums(s, x, dtype, targets, aggregate.saturating_sub(1))?;
    if aggregate == 0 {
        let count = s.scalar(dtype, forest.roots.len() as f64)?;
        y = s.op("Div", &[&y, &count]);
    }
    if base.len() == targets {
        let base = s.tensor(super::typed::from_floats(dtype, [targets], base)?);
        y = s.op("Add", &[&y, &base]);
    } else if !base.is_empty() {
        return Err(OpError::invalid(format!("{} base values for {targets} targets", base.len())));
    }
    if targets == 1 {
        return post.single(s, &y, dtype);
    }
    // A target that no tree weighs is zero, whatever its base value.
    if (0..targets).any(|t| forest.reached(t) != Reached::Always) {
        let zero = s.scalar(dtype, 0.0)?;
        y = s.op("Where", &[&reached, &y, &zero]);
    }
    post.rows(s, &y, dtype)
}

/// Sums of a classifier.
struct Sums<'f> {
    forest: &'f Forest,
    scores: String,
    reached: String,
    dtype: DType,
    base: Vec<f64>,
}

impl Sums<'_> {
    /// Labels and scores.
    fn classes(&self, s: &mut Script, labels: &Labels, post: Post) -> Result<(String, String), OpError> {
        let n = labels.len();
        let fits = match n {
            1 | 2 => self.base.len() <= n,
            _ => self.base.is_empty() || self.base.len() == n,
        };
        if !fits {
            return Err(OpError::invalid(format!("{} base values for {n} classes", self.base.len())));
        }
        match n {
            1 => {
                let base = self.base.first().copied().unwrap_or(0.0);
                let score = self.plus(s, &self.scores.clone(), base)?;
                let label = decide(s, &score, self.dtype, 0.0, &zero_one(labels)?)?;
                Ok((label, post.single(s, &score, self.dtype)?))
            }
            2 => self.binary(s, labels, post),
            _ => {
                let mut best = self.scores.clone();
                if !self.base.is_empty() {
                    let base = super::typed::from_floats(self.dtype, [n], self.base.iter().copied())?;
                    let base = s.tensor(base);
                    best = s.op("Add", &[&best, &base]);
                }
                let scores = best.clone();
                if self.base.is_empty() && (0..n).any(|c| self.forest.reached(c) != Reached::Always) {
                    let never = s.scalar(self.dtype, f64::NEG_INFINITY)?;
                    best = s.op("Where", &[&self.reached, &best, &never]);
                }
                let at = s.op("ArgMax <axis = 1, keepdims = 0>", &[&best]);
                Ok((labels.pick(s, &at)?, post.rows(s, &scores, self.dtype)?))
            }
        }
    }

    fn plus(&self, s: &mut Script, x: &str, by: f64) -> Result<String, OpError> {
        if by == 0.0 {
            return Ok(x.to_owned());
        }
        let by = s.scalar(self.dtype, by)?;
        Ok(s.op("Add", &[x, &by]))
    }

    /// Column `c` of a matrix of two.
    fn column(s: &mut Script, x: &str, c: i64) -> String {
        let [from, to, axis] = [s.ints(&[c]), s.ints(&[c + 1]), s.ints(&[1])];
        s.op("Slice", &[x, &from, &to, &axis])
    }

    /// Two classes. Whether the second is reached decides how base values apply and how many scores there
    /// are; where rows differ in it, both ways are computed.
    fn binary(&self, s: &mut Script, labels: &Labels, post: Post) -> Result<(String, String), OpError> {
        let mut ids = self.forest.leaves.iter().flatten().map(|(t, _)| *t);
        let first = ids.next();
        let one_id = ids.all(|t| Some(t) == first);
        let positive = self.forest.leaves.iter().flatten().all(|(_, w)| *w >= 0.0);
        let raw = [Self::column(s, &self.scores, 0), Self::column(s, &self.scores, 1)];
        let with = |s: &mut Script, second: bool| self.way(s, &raw, second, one_id, positive, post);
        let (weight, scores) = match self.forest.reached(1) {
            Reached::Always => with(s, true)?,
            Reached::Never => with(s, false)?,
            Reached::Sometimes => {
                let (yes, no) = (with(s, true)?, with(s, false)?);
                let reached = Self::column(s, &self.reached, 1);
                let weight = s.op("Where", &[&reached, &yes.0, &no.0]);
                (weight, s.op("Where", &[&reached, &yes.1, &no.1]))
            }
        };
        let label = if one_id {
            decide(s, &weight, self.dtype, if positive { 0.5 } else { 0.0 }, labels)?
        } else {
            decide(s, &weight, self.dtype, 0.0, &zero_one(labels)?)?
        };
        Ok((label, scores))
    }

    /// What decides, and both scores, where the second class is reached or not.
    fn way(
        &self,
        s: &mut Script,
        [first, second]: &[String; 2],
        reached: bool,
        one_id: bool,
        positive: bool,
        post: Post,
    ) -> Result<(String, String), OpError> {
        let zero = s.scalar(self.dtype, 0.0)?;
        // The first class's score counts only where it is reached.
        let kept = |s: &mut Script, x: &str| match self.forest.reached(0) {
            Reached::Always => x.to_owned(),
            Reached::Never => s.op("Mul", &[first, &zero]),
            Reached::Sometimes => {
                let reached = Self::column(s, &self.reached, 0);
                s.op("Where", &[&reached, x, &zero])
            }
        };
        let (a, b) = match (self.base.as_slice(), reached) {
            (&[_, base], true) => {
                let second = self.plus(s, first, base)?;
                let opposite = s.op("Neg", &[&second]);
                (opposite, Some(second))
            }
            (&[base, _], false) => {
                let nothing = s.op("Mul", &[first, &zero]);
                (self.plus(s, first, base)?, Some(nothing))
            }
            (base, _) => {
                let a = self.plus(s, first, base.first().copied().unwrap_or(0.0))?;
                (a, reached.then(|| second.clone()))
            }
        };
        let a = kept(s, &a);
        let weight = if reached { b.clone().unwrap_or_else(|| a.clone()) } else { a.clone() };
        let scores = match b {
            Some(b) => {
                let pair = s.op("Concat <axis = 1>", &[&a, &b]);
                post.rows(s, &pair, self.dtype)?
            }
            // One class id with positive weights is a probability; without base values the rest is a margin.
            None if one_id || self.base.is_empty() => both(s, &a, self.dtype, post, one_id && positive)?,
            // ONNX Runtime leaves the second score unwritten.
            None => {
                let nothing = s.op("Mul", &[&a, &zero]);
                s.op("Concat <axis = 1>", &[&a, &nothing])
            }
        };
        Ok((weight, scores))
    }
}

/// The labels 0 and 1, or the first two texts.
fn zero_one(labels: &Labels) -> Result<Labels, OpError> {
    match labels {
        Labels::Ints(_) => Ok(Labels::Ints(vec![0, 1])),
        Labels::Texts(t) if t.len() >= 2 => Ok(labels.clone()),
        Labels::Texts(_) => Err(OpError::unsupported("a single class with a text as label")),
    }
}

/// The second label where a column exceeds a threshold, else the first; one per row.
pub(super) fn decide(
    s: &mut Script,
    column: &str,
    dtype: DType,
    threshold: f64,
    labels: &Labels,
) -> Result<String, OpError> {
    let threshold = s.scalar(dtype, threshold)?;
    let above = s.op("Greater", &[column, &threshold]);
    let above = s.cast(&above, DType::I64);
    let axis = s.ints(&[1]);
    let at = s.op("Squeeze", &[&above, &axis]);
    match labels {
        Labels::Ints(v) if v.len() == 2 => {
            let table = s.tensor(Tensor::vector(v));
            Ok(pick(s, &at, &table))
        }
        labels => labels.pick(s, &at),
    }
}
