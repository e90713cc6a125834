//! `--method auto`: ways to choose ranges are tried, and the one that loses least is taken.
//!
//! Which way is best depends on the model: long tails want to be cut, logits do not. So each way quantizes the model
//! with what was observed once, and runs on some of the samples; the least signal-to-noise ratio among the outputs
//! decides. The first of equals is taken, so the choice is the same on every machine.

use super::measure::Part;
use super::observe::Observed;
use super::{Method, Options, Samples, Subject};
use crate::diag::Diagnostics;
use std::collections::BTreeMap;

/// Ways to choose ranges, the plainest first.
const METHODS: [Method; 4] =
    [Method::MinMax, Method::Mse, Method::Percentile(99.99), Method::Percentile(99.9)];

/// Samples that each way is tried on.
const TRIED: usize = 32;

impl Subject {
    /// Options of the way that loses least.
    pub(super) fn least_loss(
        &self,
        seen: &BTreeMap<String, Observed>,
        samples: &dyn Samples,
    ) -> Result<Options, Diagnostics> {
        let part = Part::of(samples, TRIED);
        let mut best: Option<(f64, Options)> = None;
        for method in METHODS {
            for bias_correction in [false, true] {
                if self.options.bias_correction && !bias_correction {
                    continue;
                }
                let options = Options { method, bias_correction, ..self.options.clone() };
                let ranges = self.choose(seen, samples.count(), &options);
                // What is wrong with ranges is said once, about those that are taken.
                let (quantized, _) = self.quantize(&ranges)?;
                let score = self.ends(&quantized, &part)?;
                if best.as_ref().is_none_or(|(b, _)| score > *b) {
                    best = Some((score, options));
                }
            }
        }
        let plain = Options { method: Method::MinMax, ..self.options.clone() };
        Ok(best.map_or(plain, |(_, options)| options))
    }
}
