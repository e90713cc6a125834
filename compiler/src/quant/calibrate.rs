//! Runs samples through the float model and keeps what observers need, on several threads with one result.

use super::observe::Observed;
use super::watch::Watched;
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::{DType, Shape, Tensor};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An input that samples must have.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// ONNX name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Shape,
}

/// Data to calibrate or measure with. Samples are made when they are asked for, on any thread.
pub trait Samples: Sync {
    /// Their number.
    fn count(&self) -> usize;

    /// The inputs of sample `i`, in the model's order.
    fn sample(&self, i: usize) -> Result<Vec<Tensor>, Diagnostic>;
}

/// Samples in memory.
impl Samples for Vec<Vec<Tensor>> {
    fn count(&self) -> usize {
        self.len()
    }

    fn sample(&self, i: usize) -> Result<Vec<Tensor>, Diagnostic> {
        self.get(i).cloned().ok_or_else(|| Diagnostic::error(Code::Internal, format!("no sample {i}")))
    }
}

/// Samples are dealt to this many lanes, whatever the number of threads: each lane is worked through in
/// order and lanes are merged in order, so that sums round alike on every machine.
const LANES: usize = 8;

/// Runs `work` over all samples, a lane at a time on each thread; lanes' results in order.
pub fn in_lanes<R: Send>(
    samples: &dyn Samples,
    start: impl Fn() -> R + Sync,
    work: impl Fn(&mut R, usize, Vec<Tensor>) -> Result<(), Diagnostics> + Sync,
) -> Result<Vec<R>, Diagnostics> {
    let count = samples.count();
    let next = AtomicUsize::new(0);
    let lane = |lane: usize| -> Result<R, Diagnostics> {
        let mut result = start();
        for i in (lane..count).step_by(LANES) {
            work(&mut result, i, samples.sample(i)?)?;
        }
        Ok(result)
    };
    let worker = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= LANES.min(count) {
                return done;
            }
            done.push((i, lane(i)));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(LANES);
    let mut all: Vec<(usize, Result<R, Diagnostics>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|w| match w.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, r)| r).collect()
}

/// Observes values of a model over all samples. `fresh` makes an observer for a value's name; `tick` is
/// called after each sample.
pub fn observe(
    model: &Watched,
    samples: &dyn Samples,
    fresh: &(dyn Fn(&str) -> Option<Observed> + Sync),
    tick: &(dyn Fn() + Sync),
) -> Result<BTreeMap<String, Observed>, Diagnostics> {
    let lanes = in_lanes(samples, BTreeMap::new, |seen: &mut BTreeMap<String, Observed>, _, inputs| {
        model.run(&inputs, &mut |name, tensor| {
            if !seen.contains_key(name)
                && let Some(observer) = fresh(name)
            {
                seen.insert(name.to_owned(), observer);
            }
            if let Some(observer) = seen.get_mut(name) {
                observer.see(tensor);
            }
        })?;
        tick();
        Ok(())
    })?;
    let mut all: BTreeMap<String, Observed> = BTreeMap::new();
    for (name, observed) in lanes.into_iter().flatten() {
        match all.get_mut(&name) {
            Some(seen) => seen.merge(&observed),
            None => drop(all.insert(name, observed)),
        }
    }
    Ok(all)
}
