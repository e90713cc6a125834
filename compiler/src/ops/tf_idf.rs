//! [TfIdfVectorizer](https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html) over integers: how often each
//! n-gram of a pool occurs in a row. Strings are refused.
//!
//! Weights go by column of the result, as ONNX's reference has them.

use super::nest::scratch;
use super::typed::{cast, expect, from_floats, ints};
use super::walk::{checked_type, operand};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::Expr;
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;
use std::collections::BTreeMap;

/// Counts n-grams whose items lie equally far apart.
#[derive(Debug, Clone, PartialEq)]
pub struct TfIdf {
    /// The n-grams with their columns; each once.
    pub grams: BTreeMap<Vec<i64>, usize>,
    /// Columns of the result.
    pub columns: usize,
    /// Factor of each column.
    pub weights: Vec<f32>,
    /// How many items may lie between neighbours at most.
    pub skips: usize,
    /// Whether a column says only that something was found.
    pub once: bool,
}

/// Skips beyond this find nothing in any row that fits into memory.
const MOST_SKIPS: usize = 1 << 24;

impl OnnxOp for TfIdf {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("TfIdfVectorizer", 9)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        if attrs.texts("pool_strings")?.is_some_and(|pool| !pool.is_empty()) {
            return Err(OpError::unsupported("n-grams of strings"));
        }
        let pool = AttrReader::required("pool_int64s", attrs.ints("pool_int64s")?)?;
        let starts = AttrReader::required("ngram_counts", attrs.ints("ngram_counts")?)?;
        let places = AttrReader::required("ngram_indexes", attrs.ints("ngram_indexes")?)?;
        let mut count = |name: &str| {
            let n = AttrReader::required(name, attrs.int(name)?)?;
            usize::try_from(n).map_err(|_| OpError::invalid(format!("attribute `{name}` is {n}")))
        };
        let (least, most) = (count("min_gram_length")?, count("max_gram_length")?);
        let skips = count("max_skip_count")?.min(MOST_SKIPS);
        let (once, weighted) = match AttrReader::required("mode", attrs.text("mode")?)? {
            "TF" => (false, false),
            "IDF" => (true, true),
            "TFIDF" => (false, true),
            other => return Err(OpError::invalid(format!("attribute `mode` is `{other}`"))),
        };
        let places = places
            .into_iter()
            .map(|p| usize::try_from(p).ok().filter(|&p| p < usize::MAX))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| OpError::invalid("a negative index in `ngram_indexes`"))?;
        let columns = places.iter().max().map_or(0, |m| m + 1);
        let mut grams = BTreeMap::new();
        let mut places = places.into_iter();
        let bad = || OpError::invalid("`ngram_counts` does not fit the pool");
        for (i, &start) in starts.iter().enumerate() {
            let start = usize::try_from(start).map_err(|_| bad())?;
            let end = match starts.get(i + 1) {
                Some(&next) => usize::try_from(next).map_err(|_| bad())?,
                None => pool.len(),
            };
            let size = i + 1;
            for gram in pool.get(start..end).ok_or_else(bad)?.chunks_exact(size) {
                let place = places.next().ok_or_else(|| OpError::invalid("`ngram_indexes` is too short"))?;
                if (least..=most).contains(&size) {
                    grams.insert(gram.to_vec(), place);
                }
            }
        }
        let weights = match attrs.floats("weights")?.filter(|w| weighted && !w.is_empty()) {
            Some(weights) if weights.len() >= columns => weights,
            Some(weights) => {
                return Err(OpError::invalid(format!("{} weights for {columns} columns", weights.len())));
            }
            None => Vec::new(),
        };
        Ok(TfIdf { grams, columns, weights, skips, once }.into())
    }
}

impl TfIdf {
    /// Rows, and items of each.
    fn split(&self, x: &[usize]) -> Result<(usize, usize), OpError> {
        match *x {
            [] => Ok((1, 1)),
            [len] => Ok((1, len)),
            [rows, len] => Ok((rows, len)),
            _ => Err(OpError::invalid(format!("items of shape {x:?}"))),
        }
    }

    fn shape(&self, x: &[usize]) -> Vec<usize> {
        if x.len() == 2 { vec![x[0], self.columns] } else { vec![self.columns] }
    }

    fn weight(&self, column: usize) -> f32 {
        self.weights.get(column).copied().unwrap_or(1.0)
    }
}

impl Op for TfIdf {
    fn name(&self) -> &'static str {
        "TfIdfVectorizer"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect(matches!(x.dtype, DType::I32 | DType::I64), x.dtype)?;
        self.split(x.shape)?;
        Ok(vec![checked_type(DType::F32, self.shape(x.shape))?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let (rows, len) = self.split(x.shape())?;
        let items = ints(x)?;
        let mut y = vec![0.0; rows * self.columns];
        for row in 0..rows {
            let items = items.get(row * len..(row + 1) * len).unwrap_or_default();
            let counts = y.get_mut(row * self.columns..).unwrap_or_default();
            for (gram, &column) in &self.grams {
                // An item alone has no neighbours to be apart from.
                let distances = if gram.len() == 1 { 1 } else { self.skips + 1 };
                for distance in 1..=distances.min(len) {
                    let found = (0..len).filter(|&start| {
                        let at = |i: usize| items.get(start + i * distance);
                        gram.iter().enumerate().all(|(i, &g)| at(i) == Some(&i128::from(g)))
                    });
                    let found = found.count() as f64;
                    if let Some(count) = counts.get_mut(column) {
                        *count += found;
                    }
                }
            }
            for (column, count) in counts.iter_mut().take(self.columns).enumerate() {
                let found = if self.once { count.min(1.0) } else { *count };
                *count = found * f64::from(self.weight(column));
            }
        }
        Ok(vec![from_floats(DType::F32, self.shape(x.shape()), y)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (dtype, shape) = cx.input_type(0).ok_or_else(|| OpError::internal("no operand"))?;
        let (rows, len) = self.split(shape)?;
        let items = if dtype == DType::I64 {
            cx.read_dense(0)?
        } else {
            let x = cx.read(0)?;
            let wide = scratch(cx, "items", DType::I64, shape)?;
            cx.elementwise(&wide, &[x], cast(dtype, DType::I64, Expr::Read(0)))?;
            wide
        };
        let y = cx.write_dense(0)?;
        if y.shape.contains(&0) {
            return Ok(());
        }
        let mut table: Vec<i64> = Vec::new();
        for (gram, &column) in &self.grams {
            table.extend([gram.len() as i64, column as i64]);
            table.extend(gram);
        }
        if table.is_empty() {
            // A pair that no column stands for: tables are never empty.
            table.extend([0, self.columns as i64]);
        }
        let weights: Vec<f32> = (0..self.columns).map(|c| self.weight(c)).collect();
        let (table, weights) = (cx.blob("n-grams", &table), cx.blob("weights", &weights));
        let extents = [rows, len, self.columns, self.skips.min(len)].map(Param::Usize);
        cx.push(Kernel::Routine(Routine {
            function: "ngrams::count",
            reads: vec![items.operand, table, weights],
            writes: vec![y.operand],
            params: extents.into_iter().chain([Param::Bool(self.once)]).collect(),
            fallible: false,
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s};
    use crate::ir::Tensor;
    use crate::onnx::Attr;

    fn run(mode: &str, least: i64, most: i64, skips: i64, x: &Tensor) -> Option<Tensor> {
        let attrs = [
            ("pool_int64s", Attr::Ints(vec![7, 9, 7, 8])),
            ("ngram_counts", Attr::Ints(vec![0, 2])),
            ("ngram_indexes", Attr::Ints(vec![1, 2, 0])),
            ("weights", Attr::Floats(vec![2.0, 3.0, 4.0])),
            ("min_gram_length", Attr::Int(least)),
            ("max_gram_length", Attr::Int(most)),
            ("max_skip_count", Attr::Int(skips)),
            ("mode", Attr::String(mode.into())),
        ];
        apply("TfIdfVectorizer", 9, &attrs, &[x]).ok()
    }

    #[test]
    fn single_items_and_pairs() {
        let x = i64s(&[6], &[7, 7, 8, 8, 8, 7]);
        assert_eq!(run("TF", 1, 2, 0, &x).unwrap(), f32s(&[3], &[1., 3., 0.]));
        assert_eq!(run("TF", 2, 2, 1, &x).unwrap(), f32s(&[3], &[3., 0., 0.]));
        assert_eq!(run("TFIDF", 1, 2, 1, &x).unwrap(), f32s(&[3], &[6., 9., 0.]));
        assert_eq!(run("IDF", 1, 1, i64::MAX, &x).unwrap(), f32s(&[3], &[0., 3., 0.]));
        let rows = Tensor::new::<i32>([2, 3], vec![7, 7, 8, 9, 8, 7]).unwrap();
        assert_eq!(run("TF", 1, 2, 0, &rows).unwrap(), f32s(&[2, 3], &[1., 2., 0., 0., 1., 1.]));
        assert!(run("TF", -1, 2, 0, &x).is_none());
        assert!(run("tf", 1, 2, 0, &x).is_none());
    }
}
