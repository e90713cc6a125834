//! How often a classifier is right before and after quantization, on samples with labels.

use super::calibrate::{Samples, in_lanes};
use super::measure::largest;
use super::watch::Watched;
use super::{Quantized, Subject};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::Tensor;
use serde::Serialize;
use std::collections::BTreeSet;

/// Shares of samples that get their label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// Number of samples.
    pub samples: usize,
    /// Of the float model.
    pub float: f64,
    /// Of the quantized model.
    pub quantized: f64,
    /// Share of samples for which both say the same.
    pub agreement: f64,
}

/// The class that a model's first output names: the position of its largest number, or an integer as it is.
fn class(results: &[Tensor]) -> Option<i64> {
    let first = results.first()?;
    if first.dtype().is_int() {
        return first.to_i64_vec()?.first().copied();
    }
    let scores: Vec<f32> = first.to_f64_vec()?.into_iter().map(|v| v as f32).collect();
    i64::try_from(largest(&scores)?).ok()
}

impl Subject {
    /// Compares what both models say with labels, one per sample; positions count from 0. `tick` is called after each sample,
    /// from any thread.
    pub fn accuracy(
        &self,
        quantized: &Quantized,
        samples: &dyn Samples,
        labels: &[i64],
        tick: &(dyn Fn() + Sync),
    ) -> Result<Accuracy, Diagnostics> {
        if labels.len() != samples.count() {
            let message = format!("{} labels for {} samples", labels.len(), samples.count());
            return Err(Diagnostic::error(Code::BadOption, message)
                .with_help("give as many labels as there are samples, in their order")
                .into());
        }
        let none = BTreeSet::new();
        let before = Watched::new(&self.draft.to_model(), &none, &self.import)?;
        let after = Watched::new(&quantized.model, &none, &self.import)?;
        let lanes = in_lanes(samples, <[usize; 3]>::default, |right: &mut [usize; 3], i, inputs| {
            let said = [&before, &after].map(|m| m.run(&inputs, &mut |_, _| {}).map(|r| class(&r)));
            let [float, narrow] = said;
            let (float, narrow, label) = (float?, narrow?, labels.get(i).copied());
            right[0] += usize::from(float == label);
            right[1] += usize::from(narrow == label);
            right[2] += usize::from(float == narrow);
            tick();
            Ok(())
        })?;
        let share = |k: usize| {
            let right: usize = lanes.iter().map(|l| l[k]).sum();
            right as f64 / labels.len().max(1) as f64
        };
        let samples = labels.len();
        Ok(Accuracy { samples, float: share(0), quantized: share(1), agreement: share(2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_the_largest_score_or_the_integer() {
        assert_eq!(class(&[Tensor::vector(&[0.5f32, 2.0, 2.0])]), Some(1));
        assert_eq!(class(&[Tensor::vector(&[7i64])]), Some(7));
        assert_eq!(class(&[]), None);
    }
}
