//! Graph → graph: smaller, and in the form that kernels want.
//!
//! A pass is one unit struct in one file; its header gives the pattern, the result, the precondition
//! and a small before and after. [`CANONICAL`] and [`FUSION`] are the pipeline, as literal lists with
//! the reason beside each constraint on the order; [`PassManager`] runs them.
//!
//! # Rules for passes
//!
//! - **Every change has a label** that [`PassCx::fired`] counts: the pass's name, or a part of its job where
//!   it has several. New nodes come in through a [`Patch`](crate::ops::Patch); one operator for others is a
//!   replacement in place, in time that does not grow with the graph.
//! - **Anchor at the consumer.** A fused node stands where the last of the nodes it replaces stood;
//!   every operand of any of them is there by then, so the order stays topological by itself.
//! - **Matched but declined says why**, with [`PassCx::missed`], in words that fit behind "not fused:".
//!   Something that does not match at all says nothing.
//! - **Rounding may change, meaning may not.** Folding weights moves a rounding; it must not turn NaN,
//!   infinities or -0.0 into something else where the unfused form kept them, for finite weights.
//!   Weights are folded in `f64` and rounded once.
//! - **Bounded.** Nothing that the model's numbers can blow up: what a pass materialises is limited.
//! - **Idempotent.** A second run right behind the first changes nothing; a group that does not come to
//!   rest within [`MAX_ROUNDS`] is a bug and stops the compiler.
//! - **Deterministic.** Walk nodes in execution order; no hash map whose order reaches the graph.
//! - **Leave the dead behind.** Producers that nobody reads any more are `dead_code`'s, unless the
//!   patch knows that it took their last reader.
//!
//! After each pass that changed something, [`violations`] must be empty: the structural rules, and every
//! node still infers to the types its results are declared with.
//!
//! Tests are text files under `tests/passes/<pass>/`: the model in ONNX's textual syntax and the
//! expected graph; the runner also compares the interpreter's outputs before and after.

mod cancel_transposes;
mod canonicalize;
mod check;
mod common_subexpressions;
mod dead_code;
mod error;
mod fold;
mod fold_batch_norm;
mod fuse_activation;
mod fuse_bias;
mod fuse_elementwise;
mod fuse_pad;
mod fuse_residual;
mod fuse_scale;
mod gate_weights;
mod integer;
mod log;
mod matching;
mod product;
mod recognize_curves;
mod recognize_norm;
mod reshape_before_weights;
mod simplify;
mod sink_reshape;
mod widen_half;

pub use check::violations;
pub use error::PassError;
pub use log::{FloatStep, Missed, PassCx, PassLog, PassStat, describe};

use crate::ops::{Graph, absorb_known, children, children_mut};
use std::fmt;
use std::time::Instant;

/// A rewrite of the whole graph.
pub trait Pass: Sync {
    /// Name for listings, dumps and tests: the file's.
    fn name(&self) -> &'static str;

    /// Rewrites wherever the pattern holds; reports through `cx`.
    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError>;
}

/// A step of the pipeline.
#[derive(Clone, Copy)]
pub enum Stage {
    /// Runs once.
    Once(&'static dyn Pass),
    /// Runs in turns until none of them changes anything.
    Fixpoint(&'static str, &'static [&'static dyn Pass]),
}

/// What every later stage wants, quantization included: no aliases of ops, no dead or double work,
/// affine steps inside weights.
pub const CANONICAL: &[Stage] = &[
    // First: the frontend leaves nodes behind whose results it knows.
    Stage::Once(&dead_code::DeadCode),
    // Before the rest: later passes look at element types, and fold in the wider one.
    Stage::Once(&widen_half::WidenHalf),
    Stage::Fixpoint(
        "canonical",
        &[
            // Before everything else: other patterns know one spelling only.
            &canonicalize::Canonicalize,
            &simplify::Simplify,
            &recognize_curves::RecognizeCurves,
            &recognize_norm::RecognizeNorm,
            // Behind the rewrites that make operands known.
            &fold::Fold,
            // Behind folding: folded constants can be equal.
            &common_subexpressions::CommonSubexpressions,
            // Last: the others leave dead nodes behind, which count as readers.
            &dead_code::DeadCode,
        ],
    ),
    Stage::Fixpoint(
        "affine",
        &[
            // Before the patterns of neighbours: a transpose or a reshape in between hides them.
            &cancel_transposes::CancelTransposes,
            &sink_reshape::SinkReshape,
            // Before the bias: both bring one along.
            &integer::gemm::QuantizedGemm,
            &fold_batch_norm::FoldBatchNorm,
            &fuse_bias::FuseBias,
            // Behind the batch norm, which cannot move in front of a convolution that pads.
            &fuse_pad::FusePad,
            &canonicalize::Canonicalize,
            &fold::Fold,
            &dead_code::DeadCode,
        ],
    ),
];

/// What kernels do on the side: epilogues, and weights in the order of the data.
pub const FUSION: &[Stage] = &[
    Stage::Fixpoint(
        "epilogue",
        &[
            // In the order of the epilogue itself, acc·scale + bias: what is fused later can no longer
            // move in front.
            &fuse_scale::FuseScale,
            &fuse_bias::FuseBias,
            // Before the activation, which may follow the residual.
            &fuse_residual::FuseResidual,
            &fuse_activation::FuseActivation,
            &dead_code::DeadCode,
        ],
    ),
    Stage::Fixpoint(
        "integer",
        &[
            // Before the products, which take the padding of integers along.
            &integer::moves::IntegerMoves,
            // Before the products, too, which read unsigned bytes.
            &integer::unsigned::UnsignedBytes,
            // Behind both, which know nothing of operators with several operands.
            &integer::concats::IntegerConcats,
            // Behind both: of unsigned bytes only.
            &integer::maxima::IntegerMaxima,
            // Behind the epilogues: bias and clamp stand in them.
            &integer::products::IntegerProducts,
            &integer::requantized::IntegerRequantized,
            &integer::averages::IntegerAverages,
            &integer::softmax::IntegerSoftmax,
            // Into the products.
            &integer::additions::IntegerAdditions,
            // Behind what products add, before the tables, which are steps of their own.
            &integer::rescales::IntegerRescales,
            &integer::binaries::IntegerBinaries,
            &integer::tables::IntegerTables,
            &dead_code::DeadCode,
        ],
    ),
    // Behind all that makes integers; elementwise steps are still apart.
    Stage::Once(&integer::remains::FloatSteps),
    // Behind the epilogues, which give a gate its sigmoid, and behind the integers, which want known weights.
    Stage::Once(&gate_weights::GateWeights),
    // Behind the fusions, whose patterns do not look through the transpose it inserts.
    Stage::Once(&reshape_before_weights::ReshapeBeforeWeights),
    // Cancelled transposes and weights permuted twice.
    Stage::Once(&common_subexpressions::CommonSubexpressions),
    Stage::Once(&dead_code::DeadCode),
    // Last: no pattern looks inside.
    Stage::Once(&fuse_elementwise::FuseElementwise),
];

/// Every pass, in order of first running.
pub fn all() -> Vec<&'static dyn Pass> {
    let mut passes: Vec<&'static dyn Pass> = Vec::new();
    for stage in CANONICAL.iter().chain(FUSION) {
        let group = match stage {
            Stage::Once(pass) => std::slice::from_ref(pass),
            Stage::Fixpoint(_, group) => group,
        };
        for &pass in group {
            if !passes.iter().any(|p| p.name() == pass.name()) {
                passes.push(pass);
            }
        }
    }
    passes
}

/// Turns of a fixpoint group before it counts as a bug. Each pass is exhaustive for itself, so that two
/// or three turns are usual; chains through several passes need more.
pub const MAX_ROUNDS: usize = 100;

/// One finished run of a pass, as hooks see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassRun {
    /// Counts all runs, from 1: what [`PassManager::stop_after`] takes.
    pub number: usize,
    /// The pass.
    pub pass: &'static str,
    /// Changes made.
    pub changes: usize,
}

/// Called after each pass, for dumps.
pub type Hook<'h> = dyn FnMut(PassRun, &Graph) + 'h;

/// Runs passes, checks the graph after each, and keeps the log.
#[derive(Default)]
pub struct PassManager<'h> {
    /// What happened so far.
    pub log: PassLog,
    /// Do nothing any more after this many runs, to find by bisection the pass that breaks a model.
    pub stop_after: Option<usize>,
    hook: Option<&'h mut Hook<'h>>,
    runs: usize,
}

impl fmt::Debug for PassManager<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassManager")
            .field("log", &self.log)
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}

impl<'h> PassManager<'h> {
    /// A manager that nobody watches.
    pub fn new() -> Self {
        Self::default()
    }

    /// A manager that shows the graph to `hook` after each pass.
    pub fn with_hook(hook: &'h mut Hook<'h>) -> Self {
        PassManager { hook: Some(hook), ..Self::default() }
    }

    /// Runs a list of stages.
    pub fn run(&mut self, graph: &mut Graph, stages: &[Stage]) -> Result<(), PassError> {
        if self.runs == 0 {
            check(graph, "import")?;
        }
        for stage in stages {
            match stage {
                Stage::Once(pass) => {
                    self.run_pass(graph, *pass)?;
                }
                Stage::Fixpoint(group, passes) => self.fixpoint(graph, group, passes)?,
            }
        }
        Ok(())
    }

    /// Runs one pass and checks the graph; returns how many changes it made.
    pub fn run_pass(&mut self, graph: &mut Graph, pass: &dyn Pass) -> Result<usize, PassError> {
        if self.stop_after.is_some_and(|n| self.runs >= n) {
            return Ok(0);
        }
        self.runs += 1;
        let name = pass.name();
        let start = Instant::now();
        let mut cx = PassCx::new(&mut self.log, name);
        pass.run(graph, &mut cx)?;
        let changes = cx.changes();
        // A pass that edits must say so; where it costs nobody's time, that is not believed.
        if changes > 0 || cfg!(debug_assertions) {
            check(graph, name)?;
        }
        self.log.spent(name, start.elapsed());
        if let Some(hook) = &mut self.hook {
            hook(PassRun { number: self.runs, pass: name, changes }, graph);
        }
        Ok(changes)
    }

    fn fixpoint(
        &mut self,
        graph: &mut Graph,
        group: &'static str,
        passes: &[&'static dyn Pass],
    ) -> Result<(), PassError> {
        let mut restless = Vec::new();
        for _ in 0..MAX_ROUNDS {
            restless.clear();
            for &pass in passes {
                if self.run_pass(graph, pass)? > 0 {
                    restless.push(pass.name());
                }
            }
            if restless.is_empty() {
                return Ok(());
            }
        }
        Err(PassError::NoFixpoint { group, rounds: MAX_ROUNDS, restless })
    }
}

fn check(graph: &Graph, pass: &'static str) -> Result<(), PassError> {
    let violations = violations(graph);
    if violations.is_empty() { Ok(()) } else { Err(PassError::Verify { pass, violations }) }
}

/// Runs the whole pipeline.
///
/// Children of operators follow, each as a graph of its own, with what is known by then of the values they take from
/// around them.
pub fn optimize(graph: &mut Graph) -> Result<PassLog, PassError> {
    let mut manager = PassManager::new();
    manager.run(graph, CANONICAL)?;
    manager.run(graph, FUSION)?;
    for id in graph.order().to_vec() {
        let Some(node) = graph.node(id).filter(|n| !children(&n.op).is_empty()) else { continue };
        let (mut op, mut inputs) = (node.op.clone(), node.inputs.clone());
        absorb_known(&mut op, &mut inputs, |v| graph.constant(v).cloned());
        for child in children_mut(&mut op) {
            manager.log.absorb(optimize(child)?);
        }
        if let Some(node) = graph.node_mut(id) {
            (node.op, node.inputs) = (op, inputs);
        }
    }
    Ok(manager.log)
}

#[cfg(test)]
mod tests;
