//! A model's public interface: arena, inputs, outputs, `Model`.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::kernels::Layer;
use super::names::PortName;
use super::operands::{Operands, element};
use super::{EmitError, EmitOptions, Level, ModelUnit, VERSION, format, names};
use crate::kernel::Operand;
use crate::schedule::Port;

/// Most layers that one function lists: rustc's time grows with the square of straight-line code.
const MAX_STRAIGHT_LINE: usize = 1_000;

/// Items of a model's module.
pub(super) struct Api {
    /// `pub use rt::…;`, without what is conditional.
    pub(super) exports: String,
    /// Items up to `Model`.
    pub(super) items: Vec<String>,
    /// Associated functions of `Model` that need feature `alloc`.
    pub(super) alloc: String,
    /// Associated functions of `Model` that need feature `profile`.
    pub(super) profile: String,
    inputs: Vec<PortName>,
    outputs: Vec<PortName>,
    fallible: bool,
}

/// A port with its names and types.
struct PortCode<'a> {
    port: &'a Port,
    field: Ident,
    alias: Ident,
    info: Ident,
    /// Place as a type.
    slot: TokenStream,
    /// Weights that it may lie in.
    weights: TokenStream,
    /// Array type.
    shape: TokenStream,
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
        let (inputs, outputs) = names::ports(schedule, module, &unit.meta.renames)?;
        let ins = ports(operands, &schedule.inputs, &inputs)?;
        let outs = ports(operands, &schedule.outputs, &outputs)?;
        if outs.is_empty() {
            return Err(EmitError::Internal("a model without outputs".into()));
        }
        let fallible = schedule.steps.iter().any(|s| s.kernel.fallible());
        let mut items = Vec::new();
        items.extend(facts(unit, operands, layers, options)?);
        for (kind, port) in ins.iter().map(|p| ("Input", p)).chain(outs.iter().map(|p| ("Output", p))) {
            items.extend(port_items(kind, port)?);
        }
        items.extend(structs(&ins, &outs)?);
        items.extend(runner(unit, layers, options, fallible)?);
        items.push(model_struct()?);
        items.push(model_impl(&ins, &outs, fallible)?);
        items.push(tensors_impl(&ins, &outs, fallible)?);
        let halves = ["F16", "Bf16", "Bool"].into_iter().filter(|half| {
            let path = format!("rt :: {half}");
            ins.iter().chain(&outs).any(|p| p.shape.to_string().contains(&path))
        });
        let mut exports =
            vec!["LayerInfo", "Level", "ModelInfo", "Probe", "RunError", "Shaped", "TensorInfo", "Tensors"];
        exports.extend(halves);
        exports.sort_unstable();
        Ok(Api {
            exports: format!("pub use rt::{{{}}};", exports.join(", ")),
            items,
            alloc: alloc_impl()?,
            profile: profile_impl(fallible)?,
            inputs,
            outputs,
            fallible,
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
            for (name, port) in names.iter().zip(ports) {
                lines.push(format!("- {kind} `{}`: {}", name.field, type_of(port)));
            }
        }
        lines.push(format!("- RAM: {} (arena)", kib(operands.plan.arena_bytes)));
        lines.push(format!("- Flash: {} of weights, and code", kib(operands.blobs.total())));
        lines.push(format!("- {} multiply-accumulates per inference", format::group(u128::from(meta.macs))));
        lines.extend([String::new(), "```ignore".to_owned()]);
        lines.extend(self.usage(module));
        lines.push("```".to_owned());
        lines
    }

    /// Lines that use the model.
    pub(super) fn usage(&self, module: &str) -> Vec<String> {
        let arguments = match self.inputs.as_slice() {
            [] => String::new(),
            [one] => format!("&{}", one.field),
            several => {
                let fields: Vec<_> = several.iter().map(|n| format!("{0}: &{0}", n.field)).collect();
                format!("{module}::Inputs {{ {} }}", fields.join(", "))
            }
        };
        let end = if self.fallible { "?" } else { "" };
        let first = self.outputs.first().map(|o| o.field.as_str()).unwrap_or_default();
        vec![
            format!(
                "let mut model = {module}::Model::boxed(); // feature `alloc`; or `take()`, or `new(&mut arena)`"
            ),
            format!("let out = model.run({arguments}){end};"),
            format!("println!(\"{{:?}}\", out.{first});"),
        ]
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
) -> Result<Vec<PortCode<'a>>, EmitError> {
    let mut code = Vec::new();
    for (port, name) in ports.iter().zip(port_names) {
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
        let extents = match port.shape.as_slice() {
            // A leading batch of 1 says nothing; a vector of one element stays one.
            [1, rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        let shape = extents.iter().rev().fold(element(dtype, &place)?, |inner, &n| {
            let n = format::size(n);
            quote!([#inner; #n])
        });
        code.push(PortCode {
            port,
            field: names::ident(&name.field),
            alias: names::ident(&name.alias),
            info: names::ident(&name.info),
            slot,
            weights: operands.weights(&[port.operand])?,
            shape,
        });
    }
    Ok(code)
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
    let about = format!(" About {}.", format::code(&p.port.name));
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
                scale: None,
                zero_point: 0,
            };
        ))?,
    ])
}

fn structs(ins: &[PortCode<'_>], outs: &[PortCode<'_>]) -> Result<Vec<String>, EmitError> {
    let mut items = Vec::new();
    let fields = |ports: &[PortCode<'_>], lifetime: TokenStream| -> Vec<TokenStream> {
        let field = |p: &PortCode<'_>| {
            let (field, alias) = (&p.field, &p.alias);
            let doc = format!(" {}: {}.", format::code(&p.port.name), type_of(p.port));
            quote!(#[doc = #doc] pub #field: &#lifetime #alias)
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
fn levels(options: &EmitOptions) -> Vec<Level> {
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

/// The token type that runs a level, and the architecture it exists on.
fn token(level: Level) -> Option<(Ident, &'static str)> {
    let (token, arch) = match level {
        Level::Scalar => return None,
        Level::V3 | Level::V3Vnni => ("V3", "x86_64"),
        Level::V4 => ("V4", "x86_64"),
        Level::Neon | Level::NeonDot => ("Neon", "aarch64"),
        Level::WasmSimd => ("WasmSimd", "wasm32"),
        Level::Armv7eM => ("Armv7eM", "arm"),
    };
    Some((names::ident(token), arch))
}

/// The list of layers, and the choice of a level.
fn runner(
    unit: &ModelUnit<'_>,
    layers: &[Layer],
    options: &EmitOptions,
    fallible: bool,
) -> Result<Vec<String>, EmitError> {
    let lines: Vec<TokenStream> = layers
        .iter()
        .zip(&unit.schedule.steps)
        .enumerate()
        .map(|(i, (layer, step))| {
            let (i, call) = (format::size(i), &layer.call);
            let call = if step.kernel.fallible() { quote!(faults.note(#i, #call);) } else { quote!(#call;) };
            quote!(#call probe.done(#i);)
        })
        .collect();
    let faults = fallible.then(|| quote!(, faults: &mut rt::Faults));
    let pass = fallible.then(|| quote!(, faults));
    let mut items = Vec::new();
    let list = |name: &Ident, doc: &str, lines: &[TokenStream]| {
        let used = !lines.is_empty();
        let [isa, mem, probe] =
            ["isa", "mem", "probe"].map(|n| names::ident(&if used { n.to_owned() } else { format!("_{n}") }));
        format::item(quote!(
            #[doc = #doc]
            fn #name<I: rt::Isa, P: rt::Probe + ?Sized>(#isa: I, #mem: &mut plan::Mem<'_>, #probe: &mut P #faults) {
                #(#lines)*
            }
        ))
    };
    let run = names::ident("run_level");
    if lines.len() <= MAX_STRAIGHT_LINE {
        items.push(list(&run, " The layers in order, compiled for one level.", &lines)?);
    } else {
        let mut calls = Vec::new();
        for (i, part) in lines.chunks(MAX_STRAIGHT_LINE).enumerate() {
            let name = names::ident(&format!("run_part_{i}"));
            items.push(list(&name, " Some of the layers in order.", part)?);
            calls.push(quote!(#name(isa, mem, probe #pass);));
        }
        items.push(list(&run, " The layers in order, compiled for one level.", &calls)?);
    }
    let mut arms = TokenStream::new();
    let mut seen = Vec::new();
    for (token, arch) in levels(options).into_iter().filter_map(token) {
        if !seen.contains(&token) {
            arms.extend(quote!(
                #[cfg(target_arch = #arch)]
                if let Some(isa) = <rt::#token as rt::Isa>::of(_level) {
                    return run_level(isa, mem, probe #pass);
                }
            ));
            seen.push(token);
        }
    }
    items.push(format::item(quote!(
        #[doc = " Runs the layers at the best level that `_level` allows."]
        fn run_layers<P: rt::Probe + ?Sized>(_level: rt::Detected, mem: &mut plan::Mem<'_>, probe: &mut P #faults) {
            #arms
            run_level(rt::Scalar::TOKEN, mem, probe #pass)
        }
    ))?);
    items.push(format::item(quote!(
        #[doc = " The best of the model's levels that this CPU has."]
        fn best_level() -> rt::Detected {
            LEVELS.iter().find_map(|&level| rt::Detected::of(level)).unwrap_or(rt::Detected::SCALAR)
        }
    ))?);
    items.push(format::item(quote!(
        #[doc = " What [`Model::take`] hands out. All zero, hence in `.bss`."]
        static ARENA: rt::StaticArena<ARENA_BYTES> = rt::StaticArena::new();
    ))?);
    Ok(items)
}

fn model_struct() -> Result<String, EmitError> {
    format::item(quote!(
        #[doc = " The model: an arena to work in, and the level it runs at."]
        pub struct Model<'a> {
            arena: rt::Storage<'a, ARENA_BYTES>,
            level: rt::Detected,
        }
    ))
}

fn result_type(fallible: bool) -> TokenStream {
    match fallible {
        true => quote!(::core::result::Result<Outputs<'_>, rt::RunError>),
        false => quote!(Outputs<'_>),
    }
}

/// Runs the layers and returns early on a fault.
fn run_layers(fallible: bool, probe: TokenStream) -> TokenStream {
    match fallible {
        true => quote!(
            let mut faults = rt::Faults::new();
            run_layers(self.level, &mut rt::Mem::new(self.arena.arena_mut()), #probe, &mut faults);
            faults.result()?;
        ),
        false => quote!(run_layers(self.level, &mut rt::Mem::new(self.arena.arena_mut()), #probe);),
    }
}

fn model_impl(ins: &[PortCode<'_>], outs: &[PortCode<'_>], fallible: bool) -> Result<String, EmitError> {
    let result = result_type(fallible);
    let layers = run_layers(fallible, quote!(&mut ()));
    let end = if fallible { quote!(Ok(self.outputs())) } else { quote!(self.outputs()) };
    let run = {
        let (arguments, copies) = match ins {
            [one] => {
                let (field, alias, fill) = (&one.field, &one.alias, accessor(one));
                (quote!(, #field: &#alias), quote!(*self.#fill() = *#field;))
            }
            [] => (quote!(), quote!()),
            several => {
                let copies = several.iter().map(|p| {
                    let (field, fill) = (&p.field, accessor(p));
                    quote!(*self.#fill() = *inputs.#field;)
                });
                (quote!(, inputs: Inputs<'_>), quote!(#(#copies)*))
            }
        };
        quote!(
            #[doc = " Copies the inputs into the arena and runs the model."]
            pub fn run(&mut self #arguments) -> #result {
                #copies
                self.invoke()
            }
        )
    };
    let accessors = ins.iter().map(|p| {
        let (name, alias, slot) = (accessor(p), &p.alias, &p.slot);
        let doc = format!(
            " The arena's place of {}, to fill before [`Model::invoke`], which may overwrite it.",
            format::code(&p.port.name)
        );
        quote!(
            #[doc = #doc]
            pub fn #name(&mut self) -> &mut #alias {
                rt::api::shape_mut(self.arena.arena_mut().write::<#slot>())
            }
        )
    });
    let fields = outs.iter().map(|p| {
        let (field, slot, weights) = (&p.field, &p.slot, &p.weights);
        quote!(#field: rt::api::shape(arena.read::<#slot, _>(&#weights)))
    });
    format::item(quote!(
        impl<'a> Model<'a> {
            #[doc = " A model that works in `arena`, at the best level of this CPU."]
            pub fn new(arena: &'a mut Arena) -> Self {
                Model { arena: rt::Storage::Lent(arena), level: best_level() }
            }

            #[doc = " A model that works in the crate's one static arena; `None` once that is taken."]
            pub fn take() -> Option<Model<'static>> {
                ARENA.take().map(Model::new)
            }

            #[doc = " The same model at another level; `None` if it is not among [`LEVELS`] or this CPU lacks it."]
            pub fn with_level(self, level: rt::Level) -> Option<Self> {
                let level = rt::Detected::of(level).filter(|_| LEVELS.contains(&level))?;
                Some(Model { level, ..self })
            }

            #[doc = " The level that the model runs at."]
            pub fn level(&self) -> rt::Level {
                self.level.level()
            }

            #run

            #(#accessors)*

            #[doc = " Runs the model on what is in the arena's inputs."]
            pub fn invoke(&mut self) -> #result {
                #layers
                #end
            }

            fn outputs(&self) -> Outputs<'_> {
                let arena = self.arena.arena();
                Outputs { #(#fields),* }
            }
        }
    ))
}

fn accessor(p: &PortCode<'_>) -> Ident {
    names::ident(&format!("{}_mut", p.field))
}

fn alloc_impl() -> Result<String, EmitError> {
    format::item(quote!(
        impl Model<'static> {
            #[doc = " A model with an arena of its own on the heap, never on the stack."]
            pub fn boxed() -> Self {
                Model { arena: rt::Storage::Owned(Arena::boxed()), level: best_level() }
            }
        }
    ))
}

fn profile_impl(fallible: bool) -> Result<String, EmitError> {
    let result = result_type(fallible);
    let layers = run_layers(fallible, quote!(&mut probe));
    let end = if fallible { quote!(Ok(self.outputs())) } else { quote!(self.outputs()) };
    format::item(quote!(
        impl Model<'_> {
            #[doc = " Like [`Model::invoke`], and adds to `times` what each layer took by `clock`, in its unit."]
            pub fn invoke_timed(
                &mut self,
                clock: &mut dyn FnMut() -> u64,
                times: &mut [u64; INFO.layers],
            ) -> #result {
                let mut probe = rt::Stopwatch::start(clock, times);
                #layers
                #end
            }
        }
    ))
}

fn tensors_impl(ins: &[PortCode<'_>], outs: &[PortCode<'_>], fallible: bool) -> Result<String, EmitError> {
    let infos = |ports: &[PortCode<'_>]| {
        let infos = ports.iter().map(|p| &p.info);
        quote!(&[#(#infos),*])
    };
    let (in_infos, out_infos) = (infos(ins), infos(outs));
    let writes = ins.iter().enumerate().map(|(i, p)| {
        let (i, slot) = (format::size(i), &p.slot);
        quote!(#i => Some(rt::api::bytes_mut(self.arena.arena_mut().write::<#slot>())))
    });
    let reads = outs.iter().enumerate().map(|(i, p)| {
        let (i, slot, weights) = (format::size(i), &p.slot, &p.weights);
        quote!(#i => Some(rt::api::bytes(self.arena.arena().read::<#slot, _>(&#weights))))
    });
    let layers = run_layers(fallible, quote!(probe));
    let input = if ins.is_empty() { quote!(_index) } else { quote!(index) };
    let input_body = match ins.is_empty() {
        true => quote!(None),
        false => quote!(match index { #(#writes,)* _ => None }),
    };
    format::item(quote!(
        impl rt::Tensors for Model<'_> {
            fn inputs(&self) -> &'static [rt::TensorInfo] {
                #in_infos
            }

            fn outputs(&self) -> &'static [rt::TensorInfo] {
                #out_infos
            }

            fn layers(&self) -> &'static [rt::LayerInfo] {
                &LAYERS
            }

            fn input_bytes(&mut self, #input: usize) -> Option<&mut [u8]> {
                #input_body
            }

            fn output_bytes(&self, index: usize) -> Option<&[u8]> {
                match index { #(#reads,)* _ => None }
            }

            fn invoke_probed(&mut self, probe: &mut dyn rt::Probe) -> ::core::result::Result<(), rt::RunError> {
                #layers
                Ok(())
            }
        }
    ))
}
