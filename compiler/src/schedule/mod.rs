//! Graph → steps: lowering, layouts, packing.
//!
//! [`lower`] decides, in this order: the order of execution ([`order`]); how each value's axes lie
//! ([`layout`]); which values are produced in their part of a concatenation ([`home`]); which are stored
//! with a rim of zeros ([`halo`]). Then every node's `lower` runs once, in order, and says what the device
//! does; the decisions reach it only through the views that [`LowerCx`] hands out.

mod builder;
mod child;
mod cx;
mod halo;
mod home;
mod layout;
mod nests;
mod order;
mod probe;
mod region;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod view;

pub use child::RegionId;
pub use cx::{LowerCx, Spatial, SpatialNeed};
pub use region::{Control, Region};
pub use view::TensorView;

use crate::ir::{DType, NodeId, Origin, OutputLength, Table, ValueId};
use crate::kernel::{Buffer, Constant, Kernel, Operand};
use crate::memory::{self, PlanOptions, SCALAR_ALIGN, VECTOR_ALIGN};
use crate::ops::{Graph, Node, OpError, Type, children};
use builder::{Builder, Decisions};
use std::collections::BTreeMap;
use view::{Order, channels_last, row_major};

/// One kernel call, in order of execution; becomes one emitted layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The call.
    pub kernel: Kernel,
    /// ONNX nodes it stands for; empty for layout changes.
    pub origins: Vec<Origin>,
    /// Why it exists, for steps without origins (`layout change of \`x\``).
    pub note: String,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Extents of the main result in memory order, for listings.
    pub out_shape: Vec<usize>,
}

/// A model's input or output in the arena: dense, row-major in the API's layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// ONNX name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents in memory order, as the API's array type shows them (before a leading 1 is dropped).
    pub shape: Vec<usize>,
    /// `"nchw"`, `"nhwc"` or empty where the distinction means nothing.
    pub layout: &'static str,
    /// Where; a constant output (everything folded) lies in the blob.
    pub operand: Operand,
    /// What its numbers or columns stand for.
    pub table: Option<Table>,
}

/// Everything that emission needs but addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The model's name.
    pub name: String,
    /// In order of execution.
    pub steps: Vec<Step>,
    /// Steps that do not run exactly once.
    pub regions: Vec<Region>,
    /// Indexed by `BufferId`.
    pub buffers: Vec<Buffer>,
    /// Indexed by `ConstId`.
    pub constants: Vec<Constant>,
    /// Model inputs, in the model's order.
    pub inputs: Vec<Port>,
    /// Model outputs, in the model's order, and behind them those that say lengths.
    pub outputs: Vec<Port>,
    /// Which outputs have extents that only a run knows.
    pub lengths: Vec<OutputLength>,
}

impl Schedule {
    /// Multiply-accumulates of one inference: those of both branches, and of one iteration where their number is
    /// not known.
    pub fn macs(&self) -> u64 {
        self.steps.iter().map(|s| s.macs).fold(0, u64::saturating_add)
    }

    /// The model's own outputs, without those that say lengths.
    pub fn own_outputs(&self) -> &[Port] {
        let own = self.lengths.iter().map(|l| l.length).min().unwrap_or(self.outputs.len());
        self.outputs.get(..own).unwrap_or(&self.outputs)
    }

    /// Number of elements of an operand.
    pub fn len_of(&self, operand: Operand) -> usize {
        match operand {
            Operand::Buffer(b) => self.buffers.get(b.0 as usize).map_or(0, |b| b.len),
            Operand::Const(c) => self.constants.get(c.0 as usize).map_or(0, |c| c.len),
        }
    }
}

/// Layout in which the caller hands over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputLayout {
    /// As the model says (`N C [D] [H] W`).
    #[default]
    Nchw,
    /// Channels last, as cameras do; for inputs of rank 3 to 5.
    Nhwc,
}

/// What the schedule may do.
#[derive(Debug, Clone, Default)]
pub struct ScheduleOptions {
    /// Whether values may be stored with a rim of zeros, so that convolutions need not peel their edges.
    /// For levels with vectors; microcontrollers peel.
    pub halo: bool,
    /// Whether convolutions may be computed by Winograd's algorithm, which rounds differently and takes scratch
    /// memory; likewise for levels with vectors.
    pub winograd: bool,
    /// Layout of inputs, by name; those not named are as the model says.
    pub input_layouts: BTreeMap<String, InputLayout>,
}

impl ScheduleOptions {
    /// What goes with it in the memory plan: vector levels want whole cache lines.
    pub fn memory(&self) -> PlanOptions {
        PlanOptions { align: if self.halo { VECTOR_ALIGN } else { SCALAR_ALIGN } }
    }
}

/// Why a node could not be lowered.
#[derive(Debug, Clone, PartialEq)]
pub struct LowerError {
    /// The node; `None` where a model input or output is at fault.
    pub node: Option<NodeId>,
    /// What went wrong.
    pub error: OpError,
}

/// Lowers a graph. Every node that cannot be lowered is reported, not only the first.
pub fn lower(graph: &Graph, options: &ScheduleOptions) -> Result<Schedule, Vec<LowerError>> {
    let graph = &order::best(graph);
    let input_orders: BTreeMap<ValueId, Order> =
        graph.inputs.iter().map(|&v| (v, input_order(graph, v, options))).collect();
    let mut decisions = Decisions {
        orders: layout::choose(graph, &input_orders),
        reorder_sums: options.winograd,
        ..Decisions::default()
    };
    home::choose(graph, &mut decisions);
    let plain = decisions.clone();
    if !options.halo {
        return lower_as(graph, &input_orders, decisions);
    }
    halo::choose(graph, &mut decisions);
    decisions.rimmed_copies = true;
    let schedule = lower_as(graph, &input_orders, decisions)?;
    let without = lower_as(graph, &input_orders, plain)?;
    let (with, less) =
        (memory::plan(&schedule, &options.memory()), memory::plan(&without, &options.memory()));
    let least = less.arena_bytes.max(less.lower_bound_bytes);
    Ok(if with.arena_bytes > least.saturating_add(least / halo::WORTH) { without } else { schedule })
}

/// Lowers every node with everything decided.
fn lower_as(
    graph: &Graph,
    input_orders: &BTreeMap<ValueId, Order>,
    decisions: Decisions,
) -> Result<Schedule, Vec<LowerError>> {
    let mut run =
        Run { graph, builder: Builder::new(graph, decisions), errors: Vec::new(), outputs: BTreeMap::new() };
    let inputs = run.inputs(input_orders);
    run.emit_outputs(|v| graph.producer(v).is_none());
    for (id, node) in graph.nodes() {
        run.node(id, node);
    }
    run.finish(inputs)
}

/// One lowering under way.
struct Run<'g> {
    graph: &'g Graph,
    builder: Builder,
    errors: Vec<LowerError>,
    /// Ports of the outputs that are ready, by position.
    outputs: BTreeMap<usize, Port>,
}

impl Run<'_> {
    fn inputs(&mut self, orders: &BTreeMap<ValueId, Order>) -> Vec<Port> {
        let mut ports = Vec::new();
        for &v in &self.graph.inputs {
            let value = self.graph.value(v);
            if value.dtype == DType::String {
                let error = OpError::unsupported(format!("strings at run time, in input `{}`", value.name));
                self.errors.push(LowerError { node: None, error });
            }
            let order = orders.get(&v).cloned().unwrap_or_else(|| row_major(value.shape.rank()));
            match self.builder.input(self.graph, v, &order) {
                Ok(view) => {
                    let layout = layout_name(&value.shape, &order);
                    let shape = order.iter().filter_map(|&a| value.shape.get(a).copied()).collect();
                    ports.push(Port {
                        name: value.name.clone(),
                        dtype: value.dtype,
                        shape,
                        layout,
                        operand: view.operand,
                        table: self.graph.tables.get(&value.name).cloned(),
                    });
                }
                Err(error) => self.errors.push(LowerError { node: None, error }),
            }
        }
        ports
    }

    fn node(&mut self, id: NodeId, node: &Node) {
        self.lower_node(id, node);
        let results: Vec<ValueId> = node.outputs.iter().flatten().copied().collect();
        self.emit_outputs(|v| results.contains(&v));
    }

    fn lower_node(&mut self, id: NodeId, node: &Node) {
        let first = self.builder.steps.len();
        let lowered = node.op.as_op().lower(&mut LowerCx::new(self.graph, node, &mut self.builder));
        let results: Vec<ValueId> = node.outputs.iter().flatten().copied().collect();
        if let Err(error) = lowered {
            self.errors.push(LowerError { node: Some(id), error });
        } else if let Some(&v) = results.iter().find(|&&v| self.builder.placed(v).is_none()) {
            let error = OpError::internal(format!("nothing was written to `{}`", self.graph.value(v).name));
            self.errors.push(LowerError { node: Some(id), error });
        }
        // Readers of what failed are lowered all the same, to find their own faults.
        for &v in &results {
            if self.builder.placed(v).is_none() {
                let _ = self.builder.store_dense(self.graph, v);
            }
        }
        // A child's steps were counted with the child's nodes.
        if children(&node.op).is_empty() {
            self.count_macs(node, first);
        }
    }

    /// Spreads a node's multiply-accumulates over its steps: what kernels of products do is known from
    /// their specs, the rest goes to the node's last other step.
    fn count_macs(&mut self, node: &Node, first: usize) {
        let types = |list: &[Option<ValueId>]| -> Vec<Option<Type>> {
            let of = |v: ValueId| {
                let value = self.graph.value(v);
                Type { dtype: value.dtype, shape: value.shape.clone() }
            };
            list.iter().map(|v| v.map(of)).collect()
        };
        let outputs: Vec<Type> = types(&node.outputs).into_iter().flatten().collect();
        let total = node.op.as_op().macs(&types(&node.inputs), &outputs);
        let mut counted = 0u64;
        let mut rest = None;
        for (i, step) in self.builder.steps.iter_mut().enumerate().skip(first) {
            match kernel_macs(&step.kernel) {
                Some(n) => {
                    step.macs = n;
                    counted = counted.saturating_add(n);
                }
                None if step.note.is_empty() => rest = Some(i),
                None => {}
            }
        }
        if self.builder.steps.iter().skip(first).any(|s| matches!(s.kernel, Kernel::WinogradOutput { .. })) {
            // By the convolution's definition: its products do fewer.
            for step in self.builder.steps.iter_mut().skip(first) {
                let of_all = u128::from(step.macs) * u128::from(total) / u128::from(counted.max(1));
                step.macs = u64::try_from(of_all).unwrap_or(u64::MAX);
            }
            return;
        }
        if let Some(step) = rest.and_then(|i| self.builder.steps.get_mut(i)) {
            step.macs = total.saturating_sub(counted);
        }
    }

    /// Makes the ports of those outputs whose values are in `ready`.
    fn emit_outputs(&mut self, ready: impl Fn(ValueId) -> bool) {
        for (i, (name, v)) in self.graph.outputs.iter().enumerate() {
            if !ready(*v) {
                continue;
            }
            match self.builder.output(self.graph, *v, name) {
                Ok(operand) => {
                    let value = self.graph.value(*v);
                    let (shape, rank) = (value.shape.to_vec(), value.shape.rank());
                    let layout = layout_name(&shape, &row_major(rank));
                    let (name, table) = (name.clone(), self.graph.tables.get(name).cloned());
                    let port = Port { name, dtype: value.dtype, shape, layout, operand, table };
                    self.outputs.insert(i, port);
                }
                Err(error) => self.errors.push(LowerError { node: None, error }),
            }
        }
    }

    fn finish(mut self, inputs: Vec<Port>) -> Result<Schedule, Vec<LowerError>> {
        if self.errors.is_empty() && self.outputs.len() != self.graph.outputs.len() {
            let error = OpError::internal("an output was never written");
            self.errors.push(LowerError { node: None, error });
        }
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        Ok(Schedule {
            name: self.graph.name.clone(),
            steps: self.builder.steps,
            regions: self.builder.regions,
            buffers: self.builder.buffers,
            constants: self.builder.constants,
            inputs,
            outputs: self.outputs.into_values().collect(),
            lengths: self.graph.lengths.clone(),
        })
    }
}

/// The caller's order of an input.
fn input_order(graph: &Graph, v: ValueId, options: &ScheduleOptions) -> Order {
    let value = graph.value(v);
    let rank = value.shape.rank();
    match options.input_layouts.get(&value.name) {
        Some(InputLayout::Nhwc) if (3..=5).contains(&rank) => channels_last(rank),
        _ => row_major(rank),
    }
}

fn layout_name(shape: &[usize], order: &Order) -> &'static str {
    match shape.len() {
        3..=5 if *order == channels_last(shape.len()) => "nhwc",
        3..=5 => "nchw",
        _ => "",
    }
}

/// Multiply-accumulates of the families that are made of them.
fn kernel_macs(kernel: &Kernel) -> Option<u64> {
    let product = |list: &[usize]| list.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
    let points = |v: &crate::kernel::spec::View| {
        product(&[v.batch, v.extent[0], v.extent[1], v.extent[2], v.channels])
    };
    match kernel {
        Kernel::Conv { spec, .. } => {
            let taps = product(&spec.kernel).saturating_mul((spec.x.channels / spec.groups.max(1)) as u64);
            Some(points(&spec.y).saturating_mul(taps))
        }
        Kernel::Depthwise { spec, .. } => Some(points(&spec.y).saturating_mul(product(&spec.kernel))),
        // Sums and maxima multiply nothing.
        Kernel::DepthwiseI8(k) if k.w.is_none() => None,
        Kernel::ConvI8(k) | Kernel::DepthwiseI8(k) => {
            let spec = &k.spec;
            let taps = product(&spec.kernel).saturating_mul((spec.x.channels / spec.groups.max(1)) as u64);
            Some(points(&spec.y).saturating_mul(taps))
        }
        Kernel::MatMul { spec, .. } => Some(product(&[spec.batch, spec.m, spec.n, spec.k])),
        Kernel::Recurrent(r) => {
            let s = &r.spec;
            Some(product(&[s.steps, s.batch, s.kind.gates(), s.hidden, s.hidden]))
        }
        Kernel::Pool { .. }
        | Kernel::Softmax { .. }
        | Kernel::Norm { .. }
        | Kernel::Pack { .. }
        | Kernel::WinogradInput { .. }
        | Kernel::WinogradOutput { .. }
        | Kernel::Loops(_)
        | Kernel::Routine(_)
        | Kernel::Custom(_) => None,
    }
}
