//! The whole compiler at a glance.

use crate::config::{Config, ModelConfig, Source};
use crate::diag::{Code, Diagnostic, Diagnostics, NodeRef};
use crate::edges::{self, Edges};
use crate::emit::{self, ModelUnit, Sample};
use crate::frontend::{self, Imported};
use crate::ir::{Tensor, ValueId};
use crate::memory::{self, Plan, PlanOptions, PlanTable};
use crate::ops::{Graph, children};
use crate::passes::{self, PassLog};
use crate::quant;
use crate::schedule::{self, InputLayout, LowerError, Schedule, ScheduleOptions};
use crate::state;
use edgec_runtime::Level;

/// A model on its way out: everything that emission and reports need.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Name before it is made an identifier.
    pub name: String,
    /// What the file said of itself.
    pub source: frontend::Source,
    /// After all passes.
    pub graph: Graph,
    /// Kernel calls.
    pub schedule: Schedule,
    /// Addresses.
    pub plan: Plan,
    /// Who writes and reads what, for rustc to check.
    pub table: PlanTable,
    /// Facts that generated code states.
    pub meta: emit::Meta,
    /// What the passes did.
    pub log: PassLog,
    /// Remarks and warnings.
    pub remarks: Diagnostics,
    /// Whether convolutions are direct sums.
    pub exact: bool,
    /// Inputs and outputs that look like recurrent state and are not carried.
    pub proposed_state: Vec<(String, String)>,
}

/// From a model to kernel calls with addresses. All problems come at once; of several models, with the file's name.
pub fn compile(model: &ModelConfig, config: &Config) -> Result<Compiled, Diagnostics> {
    let named = |d: Diagnostics| match config.models.len() {
        0 | 1 => d,
        _ => {
            Diagnostics(d.0.into_iter().map(|d| d.with_note(format!("in `{}`", model.file_name()))).collect())
        }
    };
    compile_one(model, config).map(|c| Compiled { remarks: named(c.remarks.clone()), ..c }).map_err(named)
}

fn compile_one(model: &ModelConfig, config: &Config) -> Result<Compiled, Diagnostics> {
    // Bytes → graph with facts: shapes, types, known values.
    let Imported { mut graph, diagnostics: mut remarks, source } = import(model, config)?;
    let name = model.base_name();
    // Exporters name graphs after themselves; the file's name means more to its user.
    graph.name = name.clone();
    graph.remove_dead();
    let params = parameters(&graph);
    let states = state::resolve_or_say(&graph, &model.stateful)?;
    let mut proposed_state = state::propose(&graph);
    proposed_state.retain(|(from, to)| !model.stateful.iter().any(|(a, b)| a == from || b == to));
    let levels = config.effective_levels();
    check_options(&graph, model, config)?;
    // Before the passes, which choose element types of their own.
    let Edges { inputs, outputs } = edges::settle(&mut graph, model.io, &states);
    // Graph → graph: folded, canonical, fused; verified after each pass.
    let log = if config.no_passes {
        PassLog::default()
    } else {
        passes::optimize(&mut graph).map_err(Diagnostic::from)?
    };
    in_integers(&log, config.require_integer, &mut remarks)?;
    // Graph → kernel calls: layouts, packed weights.
    let options = schedule_options(&graph, model.input_nhwc, &states, &levels, config.exact);
    let schedule = lower(&graph, &options)?;
    // Kernel calls → addresses.
    let (plan, table) = place(&schedule, &levels);
    let meta = emit::Meta {
        file: model.file_name(),
        sha256: source.sha256.clone(),
        opset: source.opset,
        macs: schedule.macs(),
        params,
        module: None,
        renames: model.renames.iter().map(|(a, b)| (a.clone(), b.clone())).collect(),
        options: model.options(),
        samples: Vec::new(),
        states,
        inputs,
        outputs,
    };
    let compiled = Compiled {
        name,
        source,
        graph,
        schedule,
        plan,
        table,
        meta,
        log,
        remarks,
        exact: config.exact,
        proposed_state,
    };
    within_budget(&compiled, config)?;
    Ok(compiled)
}

/// Refuses options that name nothing.
fn check_options(graph: &Graph, model: &ModelConfig, config: &Config) -> Result<(), Diagnostics> {
    let mut problems = Diagnostics::new();
    let inputs = graph.inputs.iter().map(|&v| graph.value(v).name.as_str());
    let names: Vec<&str> = inputs.chain(graph.own_outputs().iter().map(|(n, _)| n.as_str())).collect();
    for name in model.renames.keys().filter(|n| !names.contains(&n.as_str())) {
        let message = format!("`--rename {name}=…`: the model has no input or output of this name");
        problems.push(
            Diagnostic::error(Code::BadOption, message).with_help(format!("it has: {}", names.join(", "))),
        );
    }
    if let Some(target) = config.target.as_deref().filter(|t| !is_target(t)) {
        problems.push(
            Diagnostic::error(Code::BadOption, format!("`{target}` is no target triple"))
                .with_help("`rustc --print target-list` lists them, such as `thumbv7em-none-eabihf`"),
        );
    }
    if problems.has_errors() { Err(problems) } else { Ok(()) }
}

/// Whether a triple begins with an architecture that rustc knows.
fn is_target(triple: &str) -> bool {
    const ARCHITECTURES: &[&str] = &[
        "aarch64",
        "amdgcn",
        "arm",
        "avr",
        "bpfeb",
        "bpfel",
        "csky",
        "hexagon",
        "i386",
        "i486",
        "i586",
        "i686",
        "loongarch",
        "m68k",
        "mips",
        "msp430",
        "nvptx64",
        "powerpc",
        "riscv32",
        "riscv64",
        "s390x",
        "sparc",
        "thumb",
        "wasm32",
        "wasm64",
        "x86_64",
        "xtensa",
    ];
    triple.split_once('-').is_some_and(|(arch, _)| ARCHITECTURES.iter().any(|a| arch.starts_with(a)))
}

/// Refuses a model that needs more memory than it may.
fn within_budget(compiled: &Compiled, config: &Config) -> Result<(), Diagnostics> {
    let needs = crate::report::report(compiled);
    let mut problems = Diagnostics::new();
    for (what, bytes, most, flag) in [
        ("RAM", needs.ram_bytes as u64, config.max_ram, "--max-ram"),
        ("constants", needs.rom_bytes as u64, config.max_rom, "--max-rom"),
    ] {
        if let Some(most) = most.filter(|&most| bytes > most) {
            let message = format!(
                "`{}` needs {bytes} bytes of {what}, {} more than `{flag} {most}` allows",
                compiled.name,
                bytes - most
            );
            problems.push(
                Diagnostic::error(Code::Budget, message)
                    .with_help("`edgec inspect` lists what each layer needs"),
            );
        }
    }
    if problems.has_errors() { Err(problems) } else { Ok(()) }
}

/// Says which steps of a quantized model run in float, or refuses them.
fn in_integers(log: &PassLog, required: bool, remarks: &mut Diagnostics) -> Result<(), Diagnostics> {
    let mut problems = Diagnostics::new();
    for step in &log.float_steps {
        let message = format!("{} runs in float: {}", step.node, step.reason);
        let problem = match required {
            true => Diagnostic::error(Code::NotInteger, message),
            false => Diagnostic::warning(Code::RunsInFloat, message),
        };
        problems.push(match &step.origin {
            Some(origin) => problem.at(NodeRef::from(origin)),
            None => problem,
        });
    }
    if problems.has_errors() {
        return Err(problems);
    }
    remarks.append(problems);
    Ok(())
}

fn lower(graph: &Graph, options: &ScheduleOptions) -> Result<Schedule, Diagnostics> {
    schedule::lower(graph, options).map_err(|e| at_nodes(graph, e))
}

fn place(schedule: &Schedule, levels: &[Level]) -> (Plan, PlanTable) {
    let align = if levels.iter().any(is_wide) { memory::VECTOR_ALIGN } else { memory::SCALAR_ALIGN };
    let plan = memory::plan(schedule, &PlanOptions { align });
    let table = memory::table(schedule, &plan);
    (plan, table)
}

impl Compiled {
    /// The same model with `values` as its only outputs, so that they can be looked at; inputs come in the
    /// model's own layout. Kernels and fusions are the same, addresses are not.
    pub fn showing(&self, values: &[ValueId], levels: &[Level]) -> Result<Compiled, Diagnostics> {
        let mut shown = self.clone();
        shown.graph.lengths.clear();
        shown.graph.outputs = values.iter().enumerate().map(|(i, &v)| (format!("value_{i:04}"), v)).collect();
        let options = schedule_options(&shown.graph, false, &[], levels, self.exact);
        shown.schedule = lower(&shown.graph, &options)?;
        (shown.plan, shown.table) = place(&shown.schedule, levels);
        shown.meta.renames.clear();
        shown.meta.samples.clear();
        shown.meta.states.clear();
        shown.meta.outputs.clear();
        shown.graph.tables.clear();
        Ok(shown)
    }

    /// As emission takes it.
    pub fn unit(&self) -> ModelUnit<'_> {
        ModelUnit { schedule: &self.schedule, plan: &self.plan, table: &self.table, meta: &self.meta }
    }

    /// Adds a sample for the generated crate's own test; tensors are in the graph's order.
    pub fn add_sample(&mut self, inputs: &[Tensor], outputs: &[Tensor], rtol: f64, atol: f64) {
        let nhwc = |i: usize, t: &Tensor| match self.schedule.inputs.get(i) {
            Some(port) if port.layout == "nhwc" => t.to_le_bytes_channels_last(),
            _ => t.to_le_bytes(),
        };
        let inputs = inputs.iter().enumerate().map(|(i, t)| nhwc(i, t)).collect();
        let outputs = outputs.iter().map(Tensor::to_le_bytes).collect();
        self.meta.samples.push(Sample { inputs, outputs, rtol, atol });
    }
}

/// The first stage, and quantization where it is asked for.
fn import(model: &ModelConfig, config: &Config) -> Result<Imported, Diagnostics> {
    let mut custom = model.custom.clone();
    for op in custom.values_mut() {
        op.path = op.path.as_deref().map(|path| config.absolute(path));
    }
    let options = frontend::Options {
        dims: model.dims.clone(),
        input_shapes: model.input_shapes.clone(),
        binds: model.binds.clone(),
        custom,
    };
    let mut file = match &model.source {
        Source::File(path) => frontend::read_model(path)?,
        Source::Bytes { bytes, .. } => frontend::ModelFile::from_bytes(bytes)?,
    };
    let Some(quantization) = &model.quantization else { return file.import(&options) };
    let ranges = quantization.ranges()?;
    let (quantized, remarks) =
        quant::apply(file.model, &file.external, &file.sha256, options.clone(), &ranges)?;
    file.model = quantized;
    let mut imported = file.import(&options)?;
    imported.diagnostics.append(remarks);
    Ok(imported)
}

/// Names of the inputs that a caller gives, before any is bound.
pub fn input_names(model: &ModelConfig) -> Result<Vec<String>, Diagnostics> {
    match &model.source {
        Source::File(path) => frontend::input_names(path),
        Source::Bytes { bytes, .. } => frontend::input_names_of_bytes(bytes),
    }
}

/// Halos and Winograd's algorithm pay on levels with wide vectors; microcontrollers have no memory for them. State
/// lies as the output that comes back.
fn schedule_options(
    graph: &Graph,
    nhwc: bool,
    states: &[emit::Carried],
    levels: &[Level],
    exact: bool,
) -> ScheduleOptions {
    let given = graph.inputs.iter().enumerate().filter(|(i, _)| states.iter().all(|s| s.input != *i));
    let nhwc = given.map(|(_, v)| v).filter(|_| nhwc);
    ScheduleOptions {
        halo: levels.iter().any(is_wide),
        winograd: !exact && levels.iter().any(is_wide),
        input_layouts: nhwc.map(|&v| (graph.value(v).name.clone(), InputLayout::Nhwc)).collect(),
    }
}

fn is_wide(level: &Level) -> bool {
    matches!(level, Level::V3 | Level::V3Vnni | Level::V4)
}

/// Elements of the constants that nodes read and training makes: floats, and integers of at most 8 bits.
fn parameters(graph: &Graph) -> u64 {
    let mut seen = std::collections::BTreeSet::new();
    let children = graph.nodes().flat_map(|(_, n)| children(&n.op)).map(parameters);
    let within = children.fold(0, u64::saturating_add);
    let own: u64 = graph
        .nodes()
        .flat_map(|(_, n)| n.inputs.iter().flatten())
        .filter(|&&v| seen.insert(v))
        .filter_map(|&v| graph.constant(v))
        .filter(|t| t.dtype().is_float() || (t.dtype().is_int() && t.dtype().size() == 1))
        .map(|t| t.len() as u64)
        .sum();
    own.saturating_add(within)
}

fn at_nodes(graph: &Graph, errors: Vec<LowerError>) -> Diagnostics {
    let one = |e: LowerError| {
        let origin = e.node.and_then(|n| graph.node(n)).and_then(|n| n.origins.first());
        match origin {
            Some(origin) => Diagnostic::from_op(&e.error, NodeRef::from(origin)),
            None => Diagnostic::error(Code::UnsupportedForm, e.error.to_string()),
        }
    };
    Diagnostics(errors.into_iter().map(one).collect())
}
