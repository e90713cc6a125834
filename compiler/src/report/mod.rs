//! Views of one compiled model: JSON (a contract: fields are added, never renamed), terminal, HTML.

mod html;
mod terminal;

pub use html::html;
pub use terminal::terminal;

use crate::diag::Diagnostics;
use crate::emit;
use crate::ir::{DType, Keys, Table};
use crate::kernel::{Kernel, Operand};
use crate::pipeline::Compiled;
use crate::schedule::{Port, Schedule, Step};
use serde::Serialize;

/// What `edgec inspect --json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Model name.
    pub name: String,
    /// Hash of the file.
    pub sha256: String,
    /// Version of ONNX's operator set.
    pub opset: i64,
    /// In the model's order.
    pub inputs: Vec<PortReport>,
    /// In the model's order.
    pub outputs: Vec<PortReport>,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// Elements of the model's constants.
    pub params: u64,
    /// Bytes of the weights blob.
    pub rom_bytes: usize,
    /// Activations, scratch, and the inputs and outputs that live among them.
    pub arena_bytes: usize,
    /// Largest sum of live, unpadded tensor bytes over the steps.
    pub arena_lower_bound_bytes: usize,
    /// Carried state.
    pub state_bytes: usize,
    /// Inputs and outputs that the caller holds.
    pub caller_bytes: usize,
    /// All of it.
    pub ram_bytes: usize,
    /// Share of the multiply-accumulates in `Loops` and `Routine` steps.
    pub long_tail_share: f64,
    /// Kernel calls in order.
    pub layers: Vec<LayerReport>,
    /// Outputs that come back as inputs, or might.
    pub states: Vec<StateReport>,
    /// What the passes did: name and count.
    pub passes: Vec<(String, usize)>,
    /// Remarks.
    pub diagnostics: Diagnostics,
}

/// An input or output.
#[derive(Debug, Clone, Serialize)]
pub struct PortReport {
    /// ONNX name.
    pub name: String,
    /// Element type.
    pub dtype: String,
    /// Extents in the order of the API.
    pub shape: Vec<usize>,
    /// `nhwc`, `nchw` or nothing.
    pub layout: String,
    /// Texts that elements are positions of; empty for numbers.
    pub labels: Vec<String>,
    /// What each column of the last axis stands for, where it was a dictionary.
    pub columns: Vec<String>,
    /// The axis whose extent is the largest that a run may give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<usize>,
}

/// An output that comes back as an input in the next run.
#[derive(Debug, Clone, Serialize)]
pub struct StateReport {
    /// ONNX name of the input.
    pub input: String,
    /// ONNX name of the output.
    pub output: String,
    /// Whether it is carried (`--stateful`); if not, names and types suggest it.
    pub carried: bool,
}

/// A kernel call.
#[derive(Debug, Clone, Serialize)]
pub struct LayerReport {
    /// Position.
    pub index: usize,
    /// Kernel family.
    pub kernel: String,
    /// ONNX nodes it stands for.
    pub nodes: Vec<String>,
    /// Element type written.
    pub dtype: String,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Extents written, in memory order.
    pub out_shape: Vec<usize>,
    /// Why a step exists that stands for no node; of a custom operator, what it calls.
    pub note: String,
}

fn output(schedule: &Schedule, index: usize, p: &Port) -> PortReport {
    let at_most = schedule.lengths.iter().find(|l| l.output == index).map(|l| l.axis);
    PortReport { at_most, ..port(p) }
}

fn port(p: &Port) -> PortReport {
    PortReport {
        name: p.name.clone(),
        dtype: p.dtype.short_name().to_owned(),
        shape: p.shape.clone(),
        layout: p.layout.to_owned(),
        labels: p.table.as_ref().and_then(Table::texts).unwrap_or_default().to_vec(),
        columns: match &p.table {
            Some(Table::Columns(Keys::Texts(keys))) => keys.clone(),
            Some(Table::Columns(Keys::Ints(keys))) => keys.iter().map(i64::to_string).collect(),
            Some(Table::Texts(_)) | None => Vec::new(),
        },
        at_most: None,
    }
}

fn dtype_of(compiled: &Compiled, operand: Operand) -> Option<DType> {
    match operand {
        Operand::Buffer(id) => compiled.schedule.buffers.get(id.0 as usize).map(|b| b.dtype),
        Operand::Const(id) => compiled.schedule.constants.get(id.0 as usize).map(|c| c.dtype),
    }
}

fn layer(compiled: &Compiled, index: usize, step: &Step) -> LayerReport {
    let dtype = step.kernel.writes().first().and_then(|&o| dtype_of(compiled, o));
    LayerReport {
        index,
        kernel: step.kernel.family().to_owned(),
        nodes: step.origins.iter().map(|o| o.name.clone()).collect(),
        dtype: dtype.map(|d| d.short_name().to_owned()).unwrap_or_default(),
        macs: step.macs,
        out_shape: step.out_shape.clone(),
        note: match &step.kernel {
            Kernel::Custom(custom) => format!("calls {}", custom.path.trim_start_matches("::")),
            _ => step.note.clone(),
        },
    }
}

/// Gathers the facts.
pub fn report(compiled: &Compiled) -> Report {
    let schedule = &compiled.schedule;
    let arena = compiled.plan.arena_bytes;
    let state = state_bytes(compiled);
    Report {
        name: compiled.name.clone(),
        sha256: compiled.source.sha256.clone(),
        opset: compiled.source.opset,
        inputs: schedule.inputs.iter().map(port).collect(),
        outputs: schedule.own_outputs().iter().enumerate().map(|(i, p)| output(schedule, i, p)).collect(),
        macs: schedule.macs(),
        params: compiled.meta.params,
        rom_bytes: schedule.constants.iter().map(|c| c.bytes.len()).sum(),
        arena_bytes: arena,
        arena_lower_bound_bytes: compiled.plan.lower_bound_bytes,
        state_bytes: state,
        caller_bytes: 0,
        ram_bytes: arena.saturating_add(state),
        long_tail_share: long_tail_share(&schedule.steps),
        layers: schedule.steps.iter().enumerate().map(|(i, s)| layer(compiled, i, s)).collect(),
        states: states(compiled),
        passes: compiled.log.counts().into_iter().map(|(n, c)| (n.to_owned(), c)).collect(),
        diagnostics: compiled.remarks.clone(),
    }
}

/// Bytes of what is carried.
fn state_bytes(compiled: &Compiled) -> usize {
    let inputs = compiled.meta.states.iter().filter_map(|s| compiled.schedule.inputs.get(s.input));
    emit::state_bytes(inputs.map(|p| p.shape.iter().fold(p.dtype.size(), |n, &d| n.saturating_mul(d))))
}

fn states(compiled: &Compiled) -> Vec<StateReport> {
    let name = |ports: &[Port], i: usize| ports.get(i).map(|p| p.name.clone()).unwrap_or_default();
    let schedule = &compiled.schedule;
    let carried = compiled.meta.states.iter().map(|s| StateReport {
        input: name(&schedule.inputs, s.input),
        output: name(&schedule.outputs, s.output),
        carried: true,
    });
    let proposed = compiled.proposed_state.iter().map(|(input, output)| StateReport {
        input: input.clone(),
        output: output.clone(),
        carried: false,
    });
    carried.chain(proposed).collect()
}

fn long_tail_share(steps: &[Step]) -> f64 {
    let total = steps.iter().map(|s| s.macs).fold(0, u64::saturating_add);
    let tail = steps
        .iter()
        .filter(|s| matches!(s.kernel, Kernel::Loops(_) | Kernel::Routine(_) | Kernel::Custom(_)))
        .map(|s| s.macs)
        .fold(0, u64::saturating_add);
    if total == 0 { 0.0 } else { tail as f64 / total as f64 }
}
