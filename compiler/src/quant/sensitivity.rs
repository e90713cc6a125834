//! How much each layer costs by itself: the noise at the model's ends when it alone is quantized.

use super::calibrate::Samples;
use super::measure::Part;
use super::{Ranges, Subject, draft};
use crate::diag::Diagnostics;
use serde::Serialize;

/// At most so many samples, evenly spread, are measured with: every layer takes a run of the model on each.
pub const SAMPLES: usize = 8;

/// What quantizing one layer costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sensitivity {
    /// Name of the node.
    pub name: String,
    /// Operator.
    pub op_type: String,
    /// Signal to noise in decibels at the model's ends (the least of its float outputs) with all other layers in float.
    pub sqnr_db: f64,
}

impl Subject {
    /// How many layers [`Subject::sensitivity`] looks at.
    pub fn layer_count(&self) -> usize {
        self.plan.members.len()
    }

    /// Layers by what each costs alone, the costliest first. `tick` is called after each.
    pub fn sensitivity(
        &self,
        ranges: &Ranges,
        samples: &dyn Samples,
        tick: &dyn Fn(),
    ) -> Result<Vec<Sensitivity>, Diagnostics> {
        let part = Part::of(samples, SAMPLES);
        let mut all = Vec::with_capacity(self.plan.members.len());
        for &i in self.plan.members.keys() {
            let Some(n) = self.draft.nodes.get(i) else { continue };
            let alone = self.planned(self.plan.only(&self.draft, i), ranges);
            let sqnr_db = self.ends(&alone, &part)?;
            all.push(Sensitivity { name: draft::label(n).to_owned(), op_type: n.op_type.clone(), sqnr_db });
            tick();
        }
        // Equal ones stay in the order of the model.
        all.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
        Ok(all)
    }
}
