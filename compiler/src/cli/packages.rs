//! Puts the models of a suite into few packages and builds them; one that rustc refuses costs the
//! others nothing.

use super::harness::{Harness, Place, Runner};
use super::progress::Progress;
use crate::config::Config;
use crate::diag::Diagnostics;
use crate::ir::{DType, Tensor};
use crate::pipeline::Compiled;
use edgec_runtime::Level;
use std::collections::BTreeMap;
use std::path::Path;

/// Kernel calls of a package: enough to share a build of the runtime, few enough that both cores have
/// work to the end.
const STEPS_PER_PACKAGE: usize = 150;

/// Models on their way into packages. Each is known by a number of the caller's.
pub struct Packages {
    harness: Harness,
    config: Config,
    open: Vec<(usize, Compiled)>,
    steps: usize,
    /// Where each went, or why it is nowhere.
    places: BTreeMap<usize, Result<Place, String>>,
    runner: Option<(String, Runner)>,
}

impl Packages {
    /// None yet; they are written to `dir`, or to a temporary folder, and run on `threads` threads.
    pub fn new(dir: Option<&Path>, config: Config, threads: usize) -> Result<Self, Diagnostics> {
        let harness = Harness::new(dir, threads)?;
        Ok(Packages { harness, config, open: Vec::new(), steps: 0, places: BTreeMap::new(), runner: None })
    }

    /// Adds a model; it is written out when its package is full.
    pub fn add(&mut self, number: usize, model: Compiled) {
        let own = model.schedule.steps.len();
        if self.steps + own > STEPS_PER_PACKAGE {
            self.close();
        }
        self.steps += own;
        self.open.push((number, model));
    }

    /// Writes the open package.
    fn close(&mut self) {
        let models = std::mem::take(&mut self.open);
        self.steps = 0;
        let all: Vec<&Compiled> = models.iter().map(|(_, m)| m).collect();
        if let Ok(places) = if all.is_empty() { Ok(Vec::new()) } else { self.harness.add(&all, &self.config) }
        {
            self.places.extend(models.iter().map(|(n, _)| *n).zip(places.into_iter().map(Ok)));
            return;
        }
        for (number, model) in &models {
            let place = self.alone(model);
            self.places.insert(*number, place);
        }
    }

    fn alone(&mut self, model: &Compiled) -> Result<Place, String> {
        let places = self.harness.add(&[model], &self.config).map_err(|d| d.to_string())?;
        places.into_iter().next().ok_or_else(|| "nothing was generated".to_owned())
    }

    /// Builds all. Models of a package that does not build are compiled again by `again` and built one
    /// by one, so that rustc's message reaches the right one.
    pub fn build(&mut self, again: impl Fn(usize) -> Option<Compiled>) -> Result<(), Diagnostics> {
        self.close();
        let count = self.places.values().filter(|p| p.is_ok()).count();
        if count == 0 {
            return Ok(());
        }
        let progress = Progress::wait(&format!("building {count} models"));
        let Err(first) = self.harness.build() else { return Ok(()) };
        drop(progress);
        let broken: Vec<usize> = self
            .places
            .iter()
            .filter(|(_, p)| p.as_ref().is_ok_and(|p| !self.harness.built(&p.package)))
            .map(|(&n, _)| n)
            .collect();
        if broken.is_empty() || count == 1 {
            return Err(first);
        }
        super::say(&format!("{first}\n"));
        let progress = Progress::count("building models of broken packages one by one", broken.len());
        self.harness.forget(&broken.iter().filter_map(|n| self.package(*n)).collect::<Vec<_>>());
        for number in broken {
            progress.step();
            let Some(model) = again(number) else { continue };
            let place = self.alone(&model);
            let place = match place {
                Ok(place) => match self.harness.build_one(&place.package) {
                    Ok(()) => Ok(place),
                    Err(d) => {
                        self.harness.forget(&[place.package]);
                        Err(d.to_string())
                    }
                },
                Err(e) => Err(e),
            };
            self.places.insert(number, place);
        }
        Ok(())
    }

    fn package(&self, number: usize) -> Option<String> {
        self.places.get(&number).and_then(|p| p.as_ref().ok()).map(|p| p.package.clone())
    }

    /// Levels to run: those generated that this machine has.
    pub fn runnable(&self) -> Vec<Level> {
        self.config.effective_levels().into_iter().filter(|l| l.available()).collect()
    }

    /// Runs one inference of a model. A message stands for whatever went wrong, a fault included.
    pub fn infer(
        &mut self,
        number: usize,
        level: Level,
        inputs: &[Tensor],
        outputs: &[(DType, Vec<usize>)],
    ) -> Result<Vec<Tensor>, String> {
        use super::harness::Answer;
        let place = match self.places.get(&number) {
            Some(place) => place.clone()?,
            None => return Err("nothing was generated".to_owned()),
        };
        if self.runner.as_ref().is_none_or(|(p, _)| *p != place.package) {
            let runner = self.harness.start(&place.package).map_err(|d| d.to_string())?;
            self.runner = Some((place.package.clone(), runner));
        }
        let Some((_, process)) = self.runner.as_mut() else { return Err("no runner".to_owned()) };
        let answer = process.infer(&place.module, level, &self.harness.scratch(), inputs, outputs);
        if answer.is_err() {
            // It may have ended; the next one starts anew.
            self.runner = None;
        }
        match answer? {
            (Answer::Ok, tensors) => Ok(tensors),
            (Answer::Fault(text), _) => Err(text),
        }
    }
}

/// Applies `work` to each item on all cores; results in the items' order.
pub fn in_parallel<'t, T: Sync, R: Send>(items: &'t [T], work: impl Fn(&'t T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len().max(1));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let take = || {
        let mut own = Vec::new();
        loop {
            let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(item) = items.get(i) else { return own };
            own.push((i, work(item)));
        }
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        workers
            .into_iter()
            .flat_map(|w| match w.join() {
                Ok(own) => own,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, r)| r).collect()
}
