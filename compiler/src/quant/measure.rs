//! What quantization costs: the quantized model beside the float one, value by value, on the same samples.

use super::calibrate::{Samples, in_lanes};
use super::watch::Watched;
use super::{Quantized, Subject};
use crate::diag::{Diagnostic, Diagnostics};
use crate::ir::{DType, Tensor};
use crate::onnx::proto::ModelProto;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Ratios above this are written as this: there is no noise to speak of.
const MOST_DB: f64 = 200.0;

/// At most so many samples, evenly spread, are measured with.
pub const MEASURED: usize = 64;

/// What quantization costs, over the samples that were measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// Number of samples.
    pub samples: usize,
    /// Outputs, in the model's order.
    pub outputs: Vec<OutputCost>,
    /// Quantized nodes, in the file's order.
    pub layers: Vec<LayerCost>,
}

/// An output of the quantized model against that of the float one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputCost {
    /// ONNX name.
    pub name: String,
    /// Signal to noise in decibels; nothing for integers.
    pub sqnr_db: Option<f64>,
    /// Share of rows (along the last axis) whose largest element is the same; of equal elements for integers.
    pub agreement: f64,
}

/// What a quantized node writes against the same value of the float model, with the noise of all nodes in front.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerCost {
    /// Name of the node.
    pub name: String,
    /// Operator.
    pub op_type: String,
    /// The value.
    pub value: String,
    /// Signal to noise in decibels; nothing for what only a softmax reads, whose small elements are cut off on purpose.
    pub sqnr_db: Option<f64>,
}

/// Some of the samples, evenly spread.
pub(super) struct Part<'s> {
    all: &'s dyn Samples,
    picks: Vec<usize>,
}

impl<'s> Part<'s> {
    /// At most `most` of them.
    pub(super) fn of(all: &'s dyn Samples, most: usize) -> Self {
        let (count, most) = (all.count(), most.max(1));
        let step = count.div_ceil(most).max(1);
        Part { all, picks: (0..count).step_by(step).collect() }
    }
}

impl Samples for Part<'_> {
    fn count(&self) -> usize {
        self.picks.len()
    }

    fn sample(&self, i: usize) -> Result<Vec<Tensor>, Diagnostic> {
        self.all.sample(self.picks.get(i).copied().unwrap_or(0))
    }
}

/// Energies of a value and of its error, and how often it says the same.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Tally {
    signal: f64,
    noise: f64,
    rows: u64,
    same: u64,
}

impl Tally {
    fn add(&mut self, float: &Tensor, quantized: &Tensor) {
        let (Some(f), Some(q)) = (float.as_slice::<f32>(), quantized.as_slice::<f32>()) else {
            self.rows += 1;
            self.same += u64::from(float == quantized);
            return;
        };
        // What is no number in the float model has no error, either.
        for (&f, &q) in f.iter().zip(q).filter(|(f, _)| f.is_finite()) {
            let (f, q) = (f64::from(f), f64::from(q));
            self.signal += f * f;
            self.noise += (f - q) * (f - q);
        }
        let row = float.shape().dims().last().copied().unwrap_or(1).max(1);
        for (f, q) in f.chunks(row).zip(q.chunks(row)) {
            self.rows += 1;
            self.same += u64::from(largest(f) == largest(q));
        }
    }

    fn merge(&mut self, other: &Tally) {
        self.signal += other.signal;
        self.noise += other.noise;
        self.rows += other.rows;
        self.same += other.same;
    }

    fn db(&self) -> f64 {
        match (self.signal > 0.0, self.noise > 0.0) {
            (_, false) => MOST_DB,
            (false, true) => -MOST_DB,
            (true, true) => (10.0 * libm::log10(self.signal / self.noise)).clamp(-MOST_DB, MOST_DB),
        }
    }

    fn agreement(&self) -> f64 {
        if self.rows == 0 { 1.0 } else { self.same as f64 / self.rows as f64 }
    }
}

/// Position of the first of the largest elements.
pub(super) fn largest(row: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for (i, &v) in row.iter().enumerate() {
        if best.is_none_or(|(_, b)| v > b) {
            best = Some((i, v));
        }
    }
    best.map(|(i, _)| i)
}

/// Runs both models over the samples and compares values: names in the float model, and in the quantized one.
fn tally(
    float: &Watched,
    quantized: &Watched,
    names: &BTreeMap<String, String>,
    samples: &dyn Samples,
    tick: &(dyn Fn() + Sync),
) -> Result<BTreeMap<String, Tally>, Diagnostics> {
    let mut readers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (f, q) in names {
        readers.entry(q).or_default().push(f);
    }
    let lanes = in_lanes(samples, BTreeMap::new, |sums: &mut BTreeMap<String, Tally>, _, inputs| {
        let mut values: BTreeMap<String, Tensor> = BTreeMap::new();
        float.run(&inputs, &mut |name, tensor| {
            if names.contains_key(name) {
                values.insert(name.to_owned(), tensor.clone());
            }
        })?;
        quantized.run(&inputs, &mut |name, tensor| {
            for &f in readers.get(name).into_iter().flatten() {
                if let Some(value) = values.get(f) {
                    sums.entry(f.to_owned()).or_default().add(value, tensor);
                }
            }
        })?;
        tick();
        Ok(())
    })?;
    let mut all: BTreeMap<String, Tally> = BTreeMap::new();
    for (name, sums) in lanes.iter().flatten() {
        all.entry(name.clone()).or_default().merge(sums);
    }
    Ok(all)
}

impl Subject {
    /// Compares values of the float and of the quantized model.
    fn compare(
        &self,
        model: &ModelProto,
        names: &BTreeMap<String, String>,
        samples: &dyn Samples,
        tick: &(dyn Fn() + Sync),
    ) -> Result<BTreeMap<String, Tally>, Diagnostics> {
        let floats: BTreeSet<String> = names.keys().cloned().collect();
        let narrow: BTreeSet<String> = names.values().cloned().collect();
        let float = Watched::new(&self.draft.to_model(), &floats, &self.import)?;
        let quantized = Watched::new(model, &narrow, &self.import)?;
        tally(&float, &quantized, names, samples, tick)
    }

    fn outputs(&self) -> Vec<String> {
        self.draft.outputs().map(str::to_owned).collect()
    }

    /// Values at the model's ends: its outputs, and the last ones in front of them that are quantized.
    fn end_values(&self, quantized: &Quantized) -> Vec<String> {
        let uses = self.draft.uses();
        let inner = |v: &str| {
            let readers = uses.readers(v);
            readers.iter().any(|(i, _)| self.plan.members.contains_key(i) || self.plan.fused.contains(i))
        };
        let last = quantized.layers.iter().map(|l| l.result.clone()).filter(|v| !inner(v));
        last.chain(self.outputs()).collect()
    }

    /// The least signal-to-noise ratio in decibels at the model's ends: of its float outputs, or where it has none, of
    /// the last values in front of them that are quantized.
    pub(super) fn ends(&self, quantized: &Quantized, samples: &dyn Samples) -> Result<f64, Diagnostics> {
        let outputs = self.outputs();
        let names: BTreeMap<String, String> = self
            .end_values(quantized)
            .into_iter()
            .map(|v| {
                let narrow = quantized.values.get(&v).filter(|_| !outputs.contains(&v));
                (v.clone(), narrow.cloned().unwrap_or(v))
            })
            .collect();
        let sums = self.compare(&quantized.model, &names, samples, &|| ())?;
        let least = |of: &mut dyn Iterator<Item = &Tally>| of.map(Tally::db).reduce(f64::min);
        let floats = &mut outputs.iter().filter_map(|o| sums.get(o)).filter(|t| t.signal > 0.0);
        Ok(least(floats).or_else(|| least(&mut sums.values())).unwrap_or(MOST_DB))
    }

    /// What the quantized model loses against the float one, on [`MEASURED`] of these samples. `tick` is called after
    /// each, from any thread.
    pub fn cost(
        &self,
        quantized: &Quantized,
        samples: &dyn Samples,
        tick: &(dyn Fn() + Sync),
    ) -> Result<Cost, Diagnostics> {
        let results = quantized.layers.iter().map(|l| &l.result);
        let mut names: BTreeMap<String, String> =
            results.filter_map(|v| Some((v.clone(), quantized.values.get(v)?.clone()))).collect();
        let outputs = self.outputs();
        names.extend(outputs.iter().map(|o| (o.clone(), o.clone())));
        let part = Part::of(samples, MEASURED);
        let sums = self.compare(&quantized.model, &names, &part, tick)?;
        let float = Watched::new(&self.draft.to_model(), &BTreeSet::new(), &self.import)?;
        let output = |name: &String| {
            let sums = sums.get(name)?;
            let floats = float.ty(name).is_some_and(|(dtype, _)| dtype == DType::F32);
            let sqnr_db = floats.then(|| sums.db());
            Some(OutputCost { name: name.clone(), sqnr_db, agreement: sums.agreement() })
        };
        let cut = self.softmax_operands();
        let layer = |l: &super::Layer| LayerCost {
            name: l.name.clone(),
            op_type: l.op_type.clone(),
            value: l.result.clone(),
            sqnr_db: sums.get(&l.result).filter(|_| !cut.contains(&l.result)).map(Tally::db),
        };
        Ok(Cost {
            samples: part.count(),
            outputs: outputs.iter().filter_map(output).collect(),
            layers: quantized.layers.iter().map(layer).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_measured_in_decibels() {
        let mut t = Tally::default();
        t.add(&Tensor::vector(&[3f32, 4.0]), &Tensor::vector(&[3f32, 4.5]));
        assert!((t.db() - 20.0).abs() < 1e-9 && t.agreement() == 1.0, "{t:?}");
        t.add(&Tensor::vector(&[1f32, 0.9]), &Tensor::vector(&[0.9f32, 1.0]));
        assert_eq!(t.agreement(), 0.5);
        assert_eq!(Tally::default().db(), MOST_DB);
    }

    #[test]
    fn integers_agree_or_not() {
        let mut t = Tally::default();
        t.add(&Tensor::vector(&[3i64]), &Tensor::vector(&[3i64]));
        t.add(&Tensor::vector(&[3i64]), &Tensor::vector(&[4i64]));
        assert_eq!((t.agreement(), t.signal), (0.5, 0.0));
    }

    #[test]
    fn parts_are_spread_over_all_samples() {
        let all: Vec<Vec<Tensor>> = (0..10).map(|i| vec![Tensor::scalar(i as f32)]).collect();
        assert_eq!(Part::of(&all, 4).picks, [0, 3, 6, 9]);
        assert_eq!(Part::of(&all, 100).count(), 10);
        assert_eq!(Part::of(&all, 4).sample(1).unwrap(), [Tensor::scalar(3f32)]);
    }
}
