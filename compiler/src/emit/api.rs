//! A model's public interface: arena, inputs, outputs, `Model`.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::kernels::Layer;
use super::model_type::{
    Traits, alloc_impl, model_impl, model_struct, profile_impl, runner, tensors_impl, threads_impl,
};
use super::names::PortName;
use super::operands::{Operands, element};
use super::state::States;
use super::{Carried, EmitError, EmitOptions, Level, ModelUnit, VERSION, format, names};
use crate::ir::QuantParams;
use crate::kernel::Operand;
use crate::schedule::{Port, Schedule};

/// Element types of the runtime that ports may have.
const STORAGE_TYPES: [&str; 9] =
    ["Bf16", "Bool", "F16", "F4E2M1", "F8E4M3", "F8E4M3Uz", "F8E5M2", "F8E5M2Uz", "F8E8M0"];

/// Items of a model's module.
pub(super) struct Api {
    /// `pub use rt::…;`, without what is conditional.
    pub(super) exports: String,
    /// Items up to `Model`.
    pub(super) items: Vec<String>,
    /// Associated functions of `Model` that need feature `alloc`.
    pub(super) alloc: String,
    /// Associated functions of `Model` that need feature `threads`.
    pub(super) threads: String,
    /// Associated functions of `Model` that need feature `profile`.
    pub(super) profile: String,
    inputs: Vec<PortName>,
    outputs: Vec<PortName>,
    traits: Traits,
    states: States,
    /// The positions of inputs and outputs that are state.
    carried: Vec<Carried>,
}

/// A port with its names and types.
pub(super) struct PortCode<'a> {
    pub(super) port: &'a Port,
    pub(super) field: Ident,
    pub(super) alias: Ident,
    pub(super) info: Ident,
    /// Place as a type.
    pub(super) slot: TokenStream,
    /// Weights that it may lie in.
    pub(super) weights: TokenStream,
    /// Array type.
    pub(super) shape: TokenStream,
    /// Array type of the real numbers that a quantized port's integers stand for.
    pub(super) reals: TokenStream,
    /// How they do.
    pub(super) params: Option<&'a QuantParams>,
    /// Of an output whose extent along an axis the run says.
    pub(super) bounded: Option<BoundedCode>,
}

/// How the caller sees an output whose extent along an axis the run says.
pub(super) struct BoundedCode {
    /// Axis of the array type; `None` where it lies too deep for a type of its own.
    pub(super) form: BoundedForm,
    /// Place of the length, as a type, and the weights that it may lie in.
    pub(super) length: (TokenStream, TokenStream),
}

/// Types of the runtime.
pub(super) enum BoundedForm {
    /// `Bounded<T, MAX>`.
    Slice(TokenStream),
    /// `BoundedRows<T, MAX, ROWS>`.
    Rows(TokenStream),
    /// The whole array, and beside it a field with the length.
    Beside(Ident),
}

impl Api {
    pub(super) fn new(
        unit: &ModelUnit<'_>,
        operands: &Operands<'_>,
        module: &str,
        layers: &[Layer],
        options: &EmitOptions,
    ) -> Result<Self, EmitError> {
        let schedule = unit.schedule;
        let (inputs, outputs) =
            names::ports(schedule, module, &unit.meta.renames, !unit.meta.states.is_empty())?;
        let ins = ports(operands, &schedule.inputs, &inputs, &unit.meta.inputs)?;
        let mut outs = ports(operands, &schedule.outputs, &outputs, &unit.meta.outputs)?;
        bound(schedule, &mut outs)?;
        if outs.is_empty() {
            return Err(EmitError::Internal("a model without outputs".into()));
        }
        let states = States::new(&unit.meta.states, &ins, &outs)?;
        let traits = Traits {
            fallible: schedule.steps.iter().any(|s| s.kernel.fallible()),
            external: operands.external,
            stateful: states.any(),
        };
        let Traits { fallible, external, .. } = traits;
        let mut items = Vec::new();
        items.extend(facts(unit, operands, layers, options)?);
        items.extend(states.items()?);
        for (kind, port) in ins.iter().map(|p| ("Input", p)).chain(outs.iter().map(|p| ("Output", p))) {
            items.extend(port_items(kind, port)?);
            items.extend(super::quantized::helpers(kind, port)?);
        }
        items.extend(super::table::items(&ins.iter().chain(&outs).collect::<Vec<_>>())?);
        items.extend(structs(&states.given(&ins), &answered(&states, schedule, &outs))?);
        items.extend(runner(operands, layers, options, fallible)?);
        items.push(model_struct(traits)?);
        items.push(model_impl(&ins, &outs, &answered(&states, schedule, &outs), &states, traits)?);
        items.push(tensors_impl(&ins, &outs, &states, traits)?);
        let halves = STORAGE_TYPES.iter().copied().filter(|half| {
            let shapes = ins.iter().chain(&outs).map(|p| p.shape.to_string());
            shapes
                .flat_map(|s| s.split([' ', ';', ']']).map(str::to_owned).collect::<Vec<_>>())
                .any(|w| w == *half)
        });
        let mut exports =
            vec!["LayerInfo", "Level", "ModelInfo", "Probe", "RunError", "Shaped", "TensorInfo", "Tensors"];
        for (form, name) in [(true, "Bounded"), (false, "BoundedRows")] {
            let has = |b: &BoundedCode| match b.form {
                BoundedForm::Slice(_) => form,
                BoundedForm::Rows(_) => !form,
                BoundedForm::Beside(_) => false,
            };
            if outs.iter().filter_map(|p| p.bounded.as_ref()).any(has) {
                exports.push(name);
            }
        }
        if external {
            exports.extend(["Blob", "WeightsError"]);
        }
        if traits.stateful {
            exports.push("StateError");
        }
        exports.extend(halves);
        exports.sort_unstable();
        Ok(Api {
            exports: format!("pub use rt::{{{}}};", exports.join(", ")),
            items,
            alloc: alloc_impl(traits)?,
            threads: threads_impl()?,
            profile: profile_impl(traits)?,
            inputs,
            outputs,
            traits,
            states,
            carried: unit.meta.states.clone(),
        })
    }

    /// The module's documentation.
    pub(super) fn docs(&self, unit: &ModelUnit<'_>, operands: &Operands<'_>, module: &str) -> Vec<String> {
        let meta = unit.meta;
        let kib = |bytes: usize| format!("{} bytes", format::group(bytes as u128));
        let mut lines = vec![
            format!(
                "Model {}, compiled from {} by edgec {VERSION}.",
                format::code(&unit.schedule.name),
                format::code(&meta.file)
            ),
            String::new(),
        ];
        for (kind, names, ports) in [
            ("Input", &self.inputs, &unit.schedule.inputs),
            ("Output", &self.outputs, &unit.schedule.outputs),
        ] {
            let shown = if kind == "Input" { ports.len() } else { unit.schedule.own_outputs().len() };
            for (i, (name, port)) in names.iter().zip(ports).take(shown).enumerate() {
                let back = |c: &&Carried| if kind == "Input" { c.input == i } else { c.output == i };
                match self.carried.iter().find(back) {
                    None => lines.push(format!("- {kind} `{}`: {}", name.field, type_of(port))),
                    Some(c) if kind == "Input" => {
                        let from = unit.schedule.outputs.get(c.output).map(|p| format::code(&p.name));
                        let from = from.unwrap_or_default();
                        lines.push(format!(
                            "- State `{}`, from output {from}: {}",
                            name.field,
                            type_of(port)
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        let state = match self.traits.stateful {
            true => format!(", {} of state", kib(self.states.bytes())),
            false => String::new(),
        };
        lines.push(format!("- RAM: {} (arena){state}", kib(operands.plan.arena_bytes)));
        lines.push(format!("- Flash: {} of weights, and code", kib(operands.blobs.total())));
        lines.push(format!("- {} multiply-accumulates per inference", format::group(u128::from(meta.macs))));
        lines.extend([String::new(), "```ignore".to_owned()]);
        lines.extend(self.usage(module));
        lines.push("```".to_owned());
        lines
    }

    /// Lines that use the model.
    pub(super) fn usage(&self, module: &str) -> Vec<String> {
        let inputs = self.inputs.iter().enumerate();
        let inputs = inputs.filter(|(i, _)| self.states.of_input(*i).is_none()).map(|(_, n)| n);
        let arguments = match inputs.collect::<Vec<_>>().as_slice() {
            [] => String::new(),
            [one] => format!("&{}", one.field),
            several => {
                let fields: Vec<_> = several.iter().map(|n| format!("{0}: &{0}", n.field)).collect();
                format!("{module}::Inputs {{ {} }}", fields.join(", "))
            }
        };
        let end = if self.traits.fallible { "?" } else { "" };
        let weights = if self.traits.external { "weights" } else { "" };
        let state = if self.traits.stateful { ", &mut state" } else { "" };
        let mut outputs = self.outputs.iter().enumerate();
        let first = outputs.find(|(i, _)| self.states.of_output(*i).is_none());
        let first = first.map(|(_, o)| o.field.as_str()).unwrap_or_default();
        let loading = self.traits.external.then(|| {
            format!("let weights = {module}::Model::weights(bytes)?; // the contents of `weights.bin`, at a multiple of 64")
        });
        let lines = [
            format!(
                "let mut model = {module}::Model::boxed({weights}); // feature `alloc`; or `take()`, or `new(&mut arena{state})`"
            ),
            format!("let out = model.run({arguments}){end};"),
            format!("println!(\"{{:?}}\", out.{first});"),
        ];
        loading.into_iter().chain(lines).collect()
    }
}

/// `` `f32[1, 96, 96, 3]` (nhwc) ``.
fn type_of(port: &Port) -> String {
    let layout = if port.layout.is_empty() { String::new() } else { format!(" ({})", port.layout) };
    format!("`{}{:?}`{layout}", port.dtype, port.shape)
}

fn ports<'a>(
    operands: &Operands<'_>,
    ports: &'a [Port],
    port_names: &[PortName],
    params: &'a [Option<QuantParams>],
) -> Result<Vec<PortCode<'a>>, EmitError> {
    let mut code = Vec::new();
    for (i, (port, name)) in ports.iter().zip(port_names).enumerate() {
        let place = format::code(&port.name);
        let (dtype, offset, len) = operands.place(port.operand)?;
        let count = port.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        if dtype != port.dtype || count > len {
            return Err(EmitError::Internal(format!("{place} is larger than its slot")));
        }
        // A slot may go on behind the port's elements.
        let slot = if count == len {
            operands.name(port.operand)
        } else {
            let element = element(dtype, &place)?;
            let (offset, count) = (format::size(offset), format::size(count));
            match port.operand {
                Operand::Buffer(_) => quote!(rt::Slot<#element, #offset, #count>),
                Operand::Const(_) => quote!(rt::Const<#element, #offset, #count>),
            }
        };
        let shape = array(element(dtype, &place)?, extents(port));
        code.push(PortCode {
            port,
            field: names::ident(&name.field),
            alias: names::ident(&name.alias),
            info: names::ident(&name.info),
            slot,
            weights: match operands.external {
                true => quote!(self.weights),
                false => operands.weights(&[port.operand])?,
            },
            shape,
            reals: array(quote!(f32), extents(port)),
            params: params.get(i).and_then(Option::as_ref),
            bounded: None,
        });
    }
    Ok(code)
}

/// Extents of the array type: a leading batch of 1 says nothing; a vector of one element stays one.
fn extents(port: &Port) -> &[usize] {
    match port.shape.as_slice() {
        [1, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    }
}

/// Array type of these extents.
fn array(element: TokenStream, extents: &[usize]) -> TokenStream {
    extents.iter().rev().fold(element, |inner, &n| {
        let n = format::size(n);
        quote!([#inner; #n])
    })
}

/// Gives outputs with lengths their types.
fn bound(schedule: &Schedule, outs: &mut [PortCode<'_>]) -> Result<(), EmitError> {
    for l in &schedule.lengths {
        let lost = || EmitError::Internal("a length that is no output".into());
        let length = outs.get(l.length).map(|p| (p.slot.clone(), p.weights.clone())).ok_or_else(lost)?;
        let out = outs.get_mut(l.output).ok_or_else(lost)?;
        let element = element(out.port.dtype, &format::code(&out.port.name))?;
        // The axis itself is never left out, whatever its maximum.
        let all = match l.axis {
            0 => out.port.shape.as_slice(),
            _ => extents(out.port),
        };
        out.shape = array(element.clone(), all);
        let axis = l.axis - (out.port.shape.len() - all.len());
        let inner = array(element, all.get(axis + 1..).ok_or_else(lost)?);
        let most = format::size(all.get(axis).copied().ok_or_else(lost)?);
        let form = match (axis, all) {
            (0, _) => BoundedForm::Slice(quote!(#inner, #most)),
            (1, [rows, ..]) => {
                let rows = format::size(*rows);
                BoundedForm::Rows(quote!(#inner, #most, #rows))
            }
            _ => BoundedForm::Beside(names::ident(&format!("{}_len", out.field))),
        };
        out.bounded = Some(BoundedCode { form, length });
    }
    Ok(())
}

/// Constants about the model.
fn facts(
    unit: &ModelUnit<'_>,
    operands: &Operands<'_>,
    layers: &[Layer],
    options: &EmitOptions,
) -> Result<Vec<String>, EmitError> {
    let meta = unit.meta;
    let clean = |s: &str| s.chars().filter(|c| !c.is_control()).collect::<String>();
    let (name, file, sha256) = (clean(&unit.schedule.name), clean(&meta.file), &meta.sha256);
    let (opset, macs, params) = (
        format::signed(i128::from(meta.opset)),
        format::int(meta.macs.into()),
        format::int(meta.params.into()),
    );
    let (rom, count) = (format::size(operands.blobs.total()), format::size(layers.len()));
    let rows = layers.iter().zip(&unit.schedule.steps).map(|(layer, step)| {
        let (name, macs) = (layer.name.to_string(), format::int(step.macs.into()));
        quote!(rt::LayerInfo { name: #name, macs: #macs })
    });
    let levels = levels(options).into_iter().map(|l| {
        let l = variant(l);
        quote!(rt::Level::#l)
    });
    let bytes = format::size(operands.plan.arena_bytes);
    [
        quote!(
            #[doc = " Bytes of the arena."]
            pub const ARENA_BYTES: usize = #bytes;
        ),
        quote!(
            #[doc = " Memory for activations, inputs and outputs. Models that run in turns may share one of the same size."]
            pub type Arena = rt::Arena<ARENA_BYTES>;
        ),
        quote!(
            #[doc = " What is known about the model."]
            pub const INFO: rt::ModelInfo = rt::ModelInfo {
                name: #name,
                source: #file,
                sha256: #sha256,
                edgec: #VERSION,
                opset: #opset,
                macs: #macs,
                params: #params,
                rom_bytes: #rom,
                arena_bytes: ARENA_BYTES,
                layers: #count,
            };
        ),
        quote!(
            #[doc = " Instruction-set levels that the model is compiled for, best first."]
            pub const LEVELS: &[rt::Level] = &[#(#levels),*];
        ),
        quote!(
            #[doc = " Layers in order of execution."]
            pub static LAYERS: [rt::LayerInfo; #count] = [#(#rows),*];
        ),
    ]
    .into_iter()
    .map(format::item)
    .collect()
}

fn port_items(kind: &str, p: &PortCode<'_>) -> Result<Vec<String>, EmitError> {
    let (alias, info, shape) = (&p.alias, &p.info, &p.shape);
    let title = format!(" {kind} {}: {}.", format::code(&p.port.name), type_of(p.port));
    let about = match p.params {
        None => format!(" About {}.", format::code(&p.port.name)),
        Some(params) => {
            format!(" About {}: {}.", format::code(&p.port.name), super::quantized::words(params))
        }
    };
    let steps = super::quantized::fields(p);
    let name: String = p.port.name.chars().filter(|c| !c.is_control()).collect();
    let (dtype, layout) = (p.port.dtype.short_name(), p.port.layout);
    let extents = p.port.shape.iter().map(|&n| format::size(n));
    Ok(vec![
        format::item(quote!(#[doc = #title] pub type #alias = #shape;))?,
        format::item(quote!(
            #[doc = #about]
            pub const #info: rt::TensorInfo = rt::TensorInfo {
                name: #name,
                dtype: #dtype,
                shape: &[#(#extents),*],
                layout: #layout,
                #steps,
            };
        ))?,
    ])
}

/// Outputs that the caller sees: neither state nor lengths.
fn answered<'p, 'a>(states: &States, schedule: &Schedule, outs: &'p [PortCode<'a>]) -> Vec<&'p PortCode<'a>> {
    states.answered(outs.get(..schedule.own_outputs().len()).unwrap_or(outs))
}

fn structs(ins: &[&PortCode<'_>], outs: &[&PortCode<'_>]) -> Result<Vec<String>, EmitError> {
    let mut items = Vec::new();
    let fields = |ports: &[&PortCode<'_>], lifetime: TokenStream| -> Vec<TokenStream> {
        let field = |p: &&PortCode<'_>| {
            let (field, alias) = (&p.field, &p.alias);
            let doc = format!(" {}: {}.", format::code(&p.port.name), type_of(p.port));
            let plain = quote!(#[doc = #doc] pub #field: &#lifetime #alias);
            let Some(bounded) = &p.bounded else { return plain };
            let doc = format!(
                " {}: at most {}, of which the run says how many there are.",
                format::code(&p.port.name),
                type_of(p.port)
            );
            match &bounded.form {
                BoundedForm::Slice(of) => quote!(#[doc = #doc] pub #field: rt::Bounded<#lifetime, #of>),
                BoundedForm::Rows(of) => quote!(#[doc = #doc] pub #field: rt::BoundedRows<#lifetime, #of>),
                BoundedForm::Beside(len) => {
                    let about = format!(" How many of {} there are.", format::code(&p.port.name));
                    quote!(#[doc = #doc] pub #field: &#lifetime #alias, #[doc = #about] pub #len: usize)
                }
            }
        };
        ports.iter().map(field).collect()
    };
    if ins.len() > 1 {
        let fields = fields(ins, quote!('i));
        items.push(format::item(quote!(
            #[doc = " The model's inputs."]
            #[derive(Debug, Clone, Copy)]
            pub struct Inputs<'i> { #(#fields),* }
        ))?);
    }
    let fields = fields(outs, quote!('m));
    items.push(format::item(quote!(
        #[doc = " The model's outputs, in its arena."]
        #[derive(Debug, Clone, Copy)]
        pub struct Outputs<'m> { #(#fields),* }
    ))?);
    Ok(items)
}

/// Levels, best first, ending with the baseline.
pub(super) fn levels(options: &EmitOptions) -> Vec<Level> {
    let order =
        [Level::V4, Level::V3Vnni, Level::V3, Level::NeonDot, Level::Neon, Level::WasmSimd, Level::Armv7eM];
    let mut levels: Vec<Level> = order.into_iter().filter(|l| options.levels.contains(l)).collect();
    levels.push(Level::Scalar);
    levels
}

/// The variant's name.
fn variant(level: Level) -> Ident {
    names::ident(match level {
        Level::Scalar => "Scalar",
        Level::V3 => "V3",
        Level::V3Vnni => "V3Vnni",
        Level::V4 => "V4",
        Level::Neon => "Neon",
        Level::NeonDot => "NeonDot",
        Level::WasmSimd => "WasmSimd",
        Level::Armv7eM => "Armv7eM",
    })
}
