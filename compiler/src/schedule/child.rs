//! Graphs inside operators: lowered in place, as regions of the one list of steps.

use super::builder::{Builder, Decisions};
use super::region::{Control, Region};
use super::{LowerCx, Run, TensorView, home, layout, order};
use crate::ir::ValueId;
use crate::kernel::Operand;
use crate::ops::{Graph, OpError};
use std::collections::BTreeMap;

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
        if let Some(region) = self.builder.regions.get_mut(region.0) {
            region.end = now;
        }
    }

    /// Lowers a child whose inputs lie at `inputs`, row-major without gaps, and copies its outputs to where
    /// `results` say.
    pub fn inline(
        &mut self,
        graph: &Graph,
        inputs: &[TensorView],
        results: &[Option<TensorView>],
    ) -> Result<(), OpError> {
        let graph = &order::best(graph);
        let mut child = self.open(graph, inputs);
        let run = child.nodes(results);
        self.close(child);
        run
    }

    /// A child's lowering, which takes the list of steps with it.
    fn open<'g>(&mut self, graph: &'g Graph, inputs: &[TensorView]) -> Child<'g> {
        let orders: BTreeMap<ValueId, _> =
            graph.inputs.iter().map(|&v| (v, super::view::row_major(graph.value(v).shape.rank()))).collect();
        let mut decisions = Decisions { orders: layout::choose(graph, &orders), ..Decisions::default() };
        home::choose(graph, &mut decisions);
        let mut builder = Builder::new(graph, decisions);
        self.builder.lend(&mut builder);
        for (&v, view) in graph.inputs.iter().zip(inputs) {
            builder.set_place(v, view.clone());
        }
        Child { run: Run { graph, builder, errors: Vec::new(), outputs: BTreeMap::new() } }
    }

    fn close(&mut self, mut child: Child<'_>) {
        child.run.builder.lend(self.builder);
    }
}

struct Child<'g> {
    run: Run<'g>,
}

impl Child<'_> {
    fn nodes(&mut self, results: &[Option<TensorView>]) -> Result<(), OpError> {
        let graph = self.run.graph;
        for (id, node) in graph.nodes() {
            self.run.lower_node(id, node);
        }
        if let Some(first) = self.run.errors.first() {
            return Err(first.error.clone());
        }
        for ((name, v), to) in graph.outputs.iter().zip(results) {
            let Some(to) = to else { continue };
            let from = self.run.builder.place(graph, *v, None)?;
            self.run.builder.push_copy(&from, to, format!("result `{name}`"))?;
        }
        Ok(())
    }
}
