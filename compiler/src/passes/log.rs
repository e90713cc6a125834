//! What passes did, and what they declined to do.

use crate::ir::{NodeId, Origin};
use crate::ops::Graph;
use std::fmt;
use std::time::Duration;

/// Reasons that are kept: nobody reads more, and absurd models could give hundreds of thousands.
const MAX_MISSED: usize = 1000;

/// What the passes did to one graph.
#[derive(Debug, Clone, Default)]
pub struct PassLog {
    /// One entry per pass, in order of first running.
    pub passes: Vec<PassStat>,
    /// Rewrites that matched and were declined, as of each pass's last run.
    pub missed: Vec<Missed>,
    /// Steps of a quantized model that are left in floats beyond its edges, those of children included.
    pub float_steps: Vec<FloatStep>,
}

/// A step of a quantized model that computes in floats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloatStep {
    /// The node, for people.
    pub node: String,
    /// The model's node that it comes from.
    pub origin: Option<Origin>,
    /// Why; fits behind "runs in float:".
    pub reason: String,
}

/// One pass.
#[derive(Debug, Clone)]
pub struct PassStat {
    /// The pass.
    pub pass: &'static str,
    /// How often it ran.
    pub runs: usize,
    /// Labels of its changes with their numbers, in order of first use.
    pub fired: Vec<(&'static str, usize)>,
    /// Time spent, checks included. Never part of reproducible output.
    pub elapsed: Duration,
}

/// A rewrite that matched but was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// The pass.
    pub pass: &'static str,
    /// The node it stood at, for people.
    pub node: String,
    /// Why not.
    pub reason: String,
}

impl PassLog {
    /// How often anything fired, as `("fuse_activation", 9)`: labels over all passes, in order.
    pub fn counts(&self) -> Vec<(&'static str, usize)> {
        let mut all: Vec<(&'static str, usize)> = Vec::new();
        for &(label, n) in self.passes.iter().flat_map(|p| &p.fired) {
            match all.iter_mut().find(|(l, _)| *l == label) {
                Some((_, count)) => *count += n,
                None => all.push((label, n)),
            }
        }
        all
    }

    /// Adds what happened in a child of the graph: a branch, a loop's body.
    pub fn absorb(&mut self, child: PassLog) {
        for theirs in child.passes {
            let Some(ours) = self.stat(theirs.pass) else { continue };
            ours.runs += theirs.runs;
            ours.elapsed += theirs.elapsed;
            for (label, n) in theirs.fired {
                match ours.fired.iter_mut().find(|(l, _)| *l == label) {
                    Some((_, count)) => *count += n,
                    None => ours.fired.push((label, n)),
                }
            }
        }
        self.missed.extend(child.missed);
        self.float_steps.extend(child.float_steps);
    }

    /// Number of changes in total.
    pub fn changes(&self) -> usize {
        self.passes.iter().flat_map(|p| &p.fired).map(|(_, n)| n).sum()
    }

    fn stat(&mut self, pass: &'static str) -> Option<&mut PassStat> {
        if !self.passes.iter().any(|p| p.pass == pass) {
            self.passes.push(PassStat { pass, runs: 0, fired: Vec::new(), elapsed: Duration::ZERO });
        }
        self.passes.iter_mut().find(|p| p.pass == pass)
    }

    pub(super) fn begin(&mut self, pass: &'static str) {
        self.missed.retain(|m| m.pass != pass);
        if let Some(stat) = self.stat(pass) {
            stat.runs += 1;
        }
    }

    pub(super) fn spent(&mut self, pass: &'static str, time: Duration) {
        if let Some(stat) = self.stat(pass) {
            stat.elapsed += time;
        }
    }
}

/// As `-v` prints it: `fuse_activation × 9`, then one line per rewrite that was declined.
impl fmt::Display for PassLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, n) in self.counts() {
            writeln!(f, "{label} × {n}")?;
        }
        for m in &self.missed {
            writeln!(f, "not {} at {}: {}", m.pass, m.node, m.reason)?;
        }
        for step in &self.float_steps {
            writeln!(f, "in float: {}: {}", step.node, step.reason)?;
        }
        Ok(())
    }
}

/// What a pass reports to.
#[derive(Debug)]
pub struct PassCx<'l> {
    log: &'l mut PassLog,
    pass: &'static str,
    changes: usize,
}

impl<'l> PassCx<'l> {
    /// A context for one run of `pass`, reporting into `log`.
    pub fn new(log: &'l mut PassLog, pass: &'static str) -> Self {
        log.begin(pass);
        PassCx { log, pass, changes: 0 }
    }

    /// Counts a change under its label; takes what `Patch::apply` returns.
    pub fn fired(&mut self, label: &'static str) {
        self.fired_times(label, 1);
    }

    /// Counts several changes at once.
    pub fn fired_times(&mut self, label: &'static str, n: usize) {
        if n == 0 {
            return;
        }
        self.changes += n;
        let Some(stat) = self.log.stat(self.pass) else { return };
        match stat.fired.iter_mut().find(|(l, _)| *l == label) {
            Some((_, count)) => *count += n,
            None => stat.fired.push((label, n)),
        }
    }

    /// A rewrite matched at `node` but was declined. A reason fits behind "not fused:".
    pub fn missed(&mut self, graph: &Graph, node: NodeId, reason: impl Into<String>) {
        let missed = Missed { pass: self.pass, node: describe(graph, node), reason: reason.into() };
        if self.log.missed.len() < MAX_MISSED && !self.log.missed.contains(&missed) {
            self.log.missed.push(missed);
        }
    }

    /// Why a pass whose name starts with `passes` did nothing at a node, as [`describe`] names it.
    pub fn declined(&self, passes: &str, node: &str) -> Option<String> {
        let found = self.log.missed.iter().find(|m| m.node == node && m.pass.starts_with(passes));
        found.map(|m| m.reason.clone())
    }

    /// Records a step that is left in floats; the first of each of the model's nodes, some of which become many.
    pub fn stays_float(&mut self, step: FloatStep) {
        let index = |s: &FloatStep| s.origin.as_ref().map(|o| o.index);
        let known = self.log.float_steps.iter().any(|s| index(s).is_some() && index(s) == index(&step));
        if !known && self.log.float_steps.len() < MAX_MISSED {
            self.log.float_steps.push(step);
        }
    }

    /// Changes made in this run.
    pub fn changes(&self) -> usize {
        self.changes
    }
}

/// A node for people: its ONNX name (or that of its first output) and operator.
pub fn describe(graph: &Graph, node: NodeId) -> String {
    let Some(n) = graph.node(node) else { return format!("node {}", node.0) };
    let op = n.op.as_op().name();
    match (n.origins.last(), n.outputs.iter().flatten().next()) {
        (Some(origin), _) => format!("`{}` ({op})", origin.name),
        (None, Some(&v)) => format!("`{}` ({op})", graph.value(v).name),
        (None, None) => format!("node {} ({op})", node.0),
    }
}
