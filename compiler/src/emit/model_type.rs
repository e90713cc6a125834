//! The generated `Model`: the list of layers, the choice of a level, and its methods.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::api::{BoundedForm, PortCode, levels};
use super::control::Lists;
use super::kernels::Layer;
use super::operands::Operands;
use super::state::States;
use super::{EmitError, EmitOptions, Level, WeightsAt, format, names};

/// The token type that runs a level, and the architecture it exists on.
fn token(level: Level) -> Option<(Ident, &'static str)> {
    let (token, arch) = match level {
        Level::Scalar => return None,
        Level::V3 => ("V3", "x86_64"),
        Level::V3Vnni => ("V3Vnni", "x86_64"),
        Level::V4 => ("V4", "x86_64"),
        Level::Neon | Level::NeonDot => ("Neon", "aarch64"),
        Level::WasmSimd => ("WasmSimd", "wasm32"),
        Level::Armv7eM => ("Armv7eM", "arm"),
    };
    Some((names::ident(token), arch))
}

/// The list of layers, and the choice of a level.
pub(super) fn runner(
    operands: &Operands<'_>,
    layers: &[Layer],
    options: &EmitOptions,
    fallible: bool,
) -> Result<Vec<String>, EmitError> {
    let external = options.weights == WeightsAt::Caller;
    let faults = fallible.then(|| quote!(, faults: &mut rt::Faults));
    let blob = external.then(|| quote!(, blob: &weights::Blob));
    let faults = quote!(#faults #blob);
    let pass = fallible.then(|| quote!(, faults));
    let blob = external.then(|| quote!(, blob));
    let pass = quote!(#pass #blob);
    let mut lists = Lists {
        operands,
        layers,
        parameters: faults.clone(),
        pass: pass.clone(),
        items: Vec::new(),
        parts: 0,
    };
    lists.all()?;
    let mut items = lists.items;
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
        fn run_layers(_level: rt::Detected, mem: &mut plan::Mem<'_>, probe: &mut rt::Watch<'_> #faults) {
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

/// What sets models apart from each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traits {
    /// It can meet invalid data.
    pub(super) fallible: bool,
    /// The caller hands over its weights.
    pub(super) external: bool,
    /// It carries state from run to run.
    pub(super) stateful: bool,
}

pub(super) fn model_struct(traits: Traits) -> Result<String, EmitError> {
    let weights = traits.external.then(|| quote!(weights: &'a weights::Blob,));
    let state = traits.stateful.then(|| quote!(state: rt::Storage<'a, STATE_BYTES>,));
    let doc = match traits.stateful {
        true => " The model: an arena to work in, the state that it carries, and the level it runs at.",
        false => " The model: an arena to work in, and the level it runs at.",
    };
    format::item(quote!(
        #[doc = #doc]
        pub struct Model<'a> {
            arena: rt::Storage<'a, ARENA_BYTES>,
            #state
            level: rt::Detected,
            hands: rt::Hands<'a>,
            #weights
        }
    ))
}

fn result_type(fallible: bool) -> TokenStream {
    match fallible {
        true => quote!(::core::result::Result<Outputs<'_>, rt::RunError>),
        false => quote!(Outputs<'_>),
    }
}

/// Runs the layers and returns early on a fault, which leaves the state as it was.
fn run_layers(traits: Traits, probe: TokenStream) -> TokenStream {
    let blob = traits.external.then(|| quote!(, self.weights));
    let recall = traits.stateful.then(|| quote!(self.recall();));
    let keep = traits.stateful.then(|| quote!(self.keep();));
    match traits.fallible {
        true => quote!(
            #recall
            let mut faults = rt::Faults::new();
            run_layers(self.level, &mut rt::Mem::new(self.arena.arena_mut()).with_hands(self.hands), #probe, &mut faults #blob);
            faults.result()?;
            #keep
        ),
        false => quote!(
            #recall
            run_layers(self.level, &mut rt::Mem::new(self.arena.arena_mut()).with_hands(self.hands), #probe #blob);
            #keep
        ),
    }
}

pub(super) fn model_impl(
    ins: &[PortCode<'_>],
    outs: &[PortCode<'_>],
    answered: &[&PortCode<'_>],
    states: &States,
    traits: Traits,
) -> Result<String, EmitError> {
    let Traits { fallible, external, stateful } = traits;
    let result = result_type(fallible);
    let layers = run_layers(traits, quote!(&mut rt::Watch::nobody()));
    let methods = states.methods(ins, outs, external);
    let ins = states.given(ins);
    let end = if fallible { quote!(Ok(self.outputs())) } else { quote!(self.outputs()) };
    let run = {
        let (arguments, copies) = match ins.as_slice() {
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
    let fields = answered.iter().map(|p| {
        let (field, slot, weights) = (&p.field, &p.slot, &p.weights);
        let all = quote!(rt::api::shape(arena.read::<#slot, _>(#weights)));
        let Some(bounded) = &p.bounded else { return quote!(#field: #all) };
        let (slot, weights) = &bounded.length;
        let length = quote!(rt::bounded::length(arena.read::<#slot, _>(#weights)));
        match &bounded.form {
            BoundedForm::Slice(_) => quote!(#field: rt::Bounded::new(#all, #length)),
            BoundedForm::Rows(_) => quote!(#field: rt::BoundedRows::new(#all, #length)),
            BoundedForm::Beside(len) => quote!(#field: #all, #len: #length),
        }
    });
    let given = |lifetime: TokenStream| external.then(|| quote!(weights: &#lifetime weights::Blob));
    let (new, taken) = (given(quote!('a)), given(quote!('static)));
    let (new, field) = (new.map(|w| quote!(, #w)), external.then(|| quote!(, weights)));
    let take = match (stateful, external) {
        (false, true) => quote!(ARENA.take().map(|arena| Model::new(arena, weights))),
        (false, false) => quote!(ARENA.take().map(Model::new)),
        (true, true) => {
            quote!(Some(Model::new(ARENA.take()?, rt::State::of_mut(STATE.take()?), weights)))
        }
        (true, false) => quote!(Some(Model::new(ARENA.take()?, rt::State::of_mut(STATE.take()?)))),
    };
    let new = stateful.then(|| quote!(, state: &'a mut State)).into_iter().chain(new);
    let new: TokenStream = new.collect();
    let kept = stateful.then(|| quote!(state: rt::Storage::Lent(state.memory()),));
    let works = match stateful {
        true => " A model that works in `arena` and goes on from `state`, at the best level of this CPU.",
        false => " A model that works in `arena`, at the best level of this CPU.",
    };
    let check = external.then(super::external::check_method);
    format::item(quote!(
        impl<'a> Model<'a> {
            #check

            #[doc = #works]
            pub fn new(arena: &'a mut Arena #new) -> Self {
                Model { arena: rt::Storage::Lent(arena), #kept level: best_level(), hands: rt::Hands::ALONE #field }
            }

            #[doc = " A model that works in the crate's one static arena; `None` once that is taken."]
            pub fn take(#taken) -> Option<Model<'static>> {
                #take
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

            #methods

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

/// The method that gives an input's place.
pub(super) fn accessor(p: &PortCode<'_>) -> Ident {
    names::ident(&format!("{}_mut", p.field))
}

pub(super) fn alloc_impl(Traits { external, stateful, .. }: Traits) -> Result<String, EmitError> {
    let state = stateful.then(|| quote!(state: rt::Storage::Owned(rt::Arena::boxed()),));
    let given = external.then(|| quote!(weights: &'static weights::Blob));
    let field = external.then(|| quote!(, weights));
    format::item(quote!(
        impl Model<'static> {
            #[doc = " A model with an arena of its own on the heap, never on the stack."]
            pub fn boxed(#given) -> Self {
                Model { arena: rt::Storage::Owned(Arena::boxed()), #state level: best_level(), hands: rt::Hands::ALONE #field }
            }
        }
    ))
}

pub(super) fn threads_impl() -> Result<String, EmitError> {
    format::item(quote!(
        impl<'a> Model<'a> {
            #[doc = " The same model, its larger layers split between the crew's threads. Results stay the same, bit for bit."]
            pub fn with_crew(self, crew: &'a dyn rt::Crew) -> Self {
                Model { hands: rt::Hands::of(crew), ..self }
            }
        }
    ))
}

pub(super) fn profile_impl(traits: Traits) -> Result<String, EmitError> {
    let result = result_type(traits.fallible);
    let layers = run_layers(traits, quote!(&mut rt::Watch::by(&mut probe)));
    let end = if traits.fallible { quote!(Ok(self.outputs())) } else { quote!(self.outputs()) };
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

pub(super) fn tensors_impl(
    ins: &[PortCode<'_>],
    outs: &[PortCode<'_>],
    states: &States,
    traits: Traits,
) -> Result<String, EmitError> {
    let infos = |ports: &[PortCode<'_>]| {
        let infos = ports.iter().map(|p| &p.info);
        quote!(&[#(#infos),*])
    };
    let (in_infos, out_infos) = (infos(ins), infos(outs));
    let writes = ins.iter().enumerate().map(|(i, p)| {
        let (at, slot) = match states.of_input(i) {
            Some(slot) => (quote!(state), slot),
            None => (quote!(arena), &p.slot),
        };
        let i = format::size(i);
        quote!(#i => Some(rt::api::bytes_mut(self.#at.arena_mut().write::<#slot>())))
    });
    let reads = outs.iter().enumerate().map(|(i, p)| {
        let (at, slot) = match states.of_output(i) {
            Some(slot) => (quote!(state), slot),
            None => (quote!(arena), &p.slot),
        };
        let (i, weights) = (format::size(i), &p.weights);
        quote!(#i => Some(rt::api::bytes(self.#at.arena().read::<#slot, _>(#weights))))
    });
    let layers = run_layers(traits, quote!(&mut rt::Watch::by(probe)));
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
