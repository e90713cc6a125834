//! Graphs inside operators: lowered in place, as regions of the one list of steps.

use super::builder::{Builder, Decisions};
use super::region::{Control, Region};
use super::view::row_major;
use super::{LowerCx, Run, TensorView, home, layout, nests, order};
use crate::ir::ValueId;
use crate::kernel::{Kernel, Loops, Nest, Operand};
use crate::ops::{Graph, OpError};
use std::collections::BTreeMap;

/// Copies that share a step: as many operands as one layer borrows, at most.
const MAX_COPIES: usize = 8;

/// An open region; see [`LowerCx::begin_if`].
#[derive(Debug, Clone, Copy)]
pub struct RegionId(usize);

impl LowerCx<'_> {
    /// Opens a region whose steps run where `condition`, a buffer or constant that starts with a bool, holds.
    /// Whatever the children read must have been asked for (`read_dense`) before: copies that are made later
    /// would be made in one branch only.
    pub fn begin_if(&mut self, condition: Operand) -> RegionId {
        self.begin(Control::If { condition, otherwise: 0 })
    }

    /// Opens a region whose steps run so often. Its steps' multiply-accumulates count as often.
    pub fn begin_repeat(&mut self, times: u64) -> RegionId {
        self.begin(Control::Repeat { times })
    }

    /// Opens a region whose steps run again and again as long as `condition`, a buffer or constant that starts with
    /// a bool, holds.
    pub fn begin_while(&mut self, condition: Operand) -> RegionId {
        self.begin(Control::While { condition })
    }

    fn begin(&mut self, control: Control) -> RegionId {
        let first = self.builder.steps.len();
        self.builder.regions.push(Region { first, end: first, control });
        RegionId(self.builder.regions.len() - 1)
    }

    /// What follows runs where the condition of a region does not hold.
    pub fn otherwise(&mut self, region: RegionId) {
        let now = self.builder.steps.len();
        if let Some(Region { control: Control::If { otherwise, .. }, .. }) =
            self.builder.regions.get_mut(region.0)
        {
            *otherwise = now;
        }
    }

    /// Closes the region that was opened last.
    pub fn end(&mut self, region: RegionId) {
        let now = self.builder.steps.len();
        let Some(region) = self.builder.regions.get_mut(region.0) else { return };
        region.end = now;
        if let Control::Repeat { times } = region.control {
            for step in self.builder.steps.iter_mut().skip(region.first) {
                step.macs = step.macs.saturating_mul(times);
            }
        }
    }

    /// Copies between views of equal shapes, few steps for all. None may read what another writes.
    pub fn copy_all(&mut self, pairs: &[(TensorView, TensorView)]) -> Result<(), OpError> {
        let moves: Vec<_> = pairs.iter().filter(|(from, to)| !from.same_place(to)).collect();
        for group in moves.chunks(MAX_COPIES) {
            let nests = group.iter().filter_map(|(from, to)| nests::copy(from, to).transpose());
            let nests: Vec<Nest> = nests.collect::<Result<_, _>>()?;
            if !nests.is_empty() {
                self.push(Kernel::Loops(Loops { nests }));
            }
        }
        Ok(())
    }

    /// Lowers a child whose inputs lie at `inputs`, row-major without gaps; where its outputs lie, those that
    /// `dense` names row-major in memory of exactly their length. Outputs may lie in the memory of inputs or of one
    /// another.
    pub fn inline(
        &mut self,
        graph: &Graph,
        inputs: &[TensorView],
        dense: impl Fn(usize) -> bool,
    ) -> Result<Vec<TensorView>, OpError> {
        let graph = &order::best(graph);
        let orders: BTreeMap<ValueId, _> =
            graph.inputs.iter().map(|&v| (v, row_major(graph.value(v).shape.rank()))).collect();
        let mut decisions = Decisions { orders: layout::choose(graph, &orders), ..Decisions::default() };
        home::choose(graph, &mut decisions);
        let mut builder = Builder::new(graph, decisions);
        // The list of steps is one.
        self.builder.lend(&mut builder);
        for (&v, view) in graph.inputs.iter().zip(inputs) {
            builder.set_place(v, view.clone());
        }
        let mut run = Run { graph, builder, errors: Vec::new(), outputs: BTreeMap::new() };
        let outputs = run.child(dense);
        run.builder.lend(self.builder);
        outputs
    }
}

impl Run<'_> {
    /// Lowers all nodes; where the outputs lie.
    fn child(&mut self, dense: impl Fn(usize) -> bool) -> Result<Vec<TensorView>, OpError> {
        let graph = self.graph;
        for (id, node) in graph.nodes() {
            self.lower_node(id, node);
        }
        if let Some(first) = self.errors.first() {
            return Err(first.error.clone());
        }
        let place = |(i, (name, v)): (usize, &(String, ValueId))| match dense(i) {
            true => self.builder.dense(graph, *v, &format!("`{name}`")),
            false => self.builder.place(graph, *v, None),
        };
        graph.outputs.iter().enumerate().map(place).collect()
    }
}
