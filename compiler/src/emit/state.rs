//! Carried state in generated code: `State`, its place beside the arena, and the copies around the layers.

use proc_macro2::TokenStream;
use quote::quote;

use super::api::PortCode;
use super::operands::element;
use super::{EmitError, format};

/// An output that comes back as an input in the next run: positions among the schedule's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Position of the input.
    pub input: usize,
    /// Position of the output; of the input's type and shape.
    pub output: usize,
}

/// Parts of the state begin at multiples of it: the largest element.
const ALIGN: usize = 8;

/// Bytes of a state that holds these inputs, given by their sizes in bytes.
pub(crate) fn bytes(sizes: impl IntoIterator<Item = usize>) -> usize {
    sizes.into_iter().map(|n| n.next_multiple_of(ALIGN)).fold(0, usize::saturating_add)
}

/// A part of the state.
struct PartCode {
    carried: Carried,
    /// Place in the state, as a type.
    slot: TokenStream,
}

/// What a model carries.
pub(super) struct States {
    parts: Vec<PartCode>,
    bytes: usize,
}

impl States {
    pub(super) fn new(
        carried: &[Carried],
        ins: &[PortCode<'_>],
        outs: &[PortCode<'_>],
    ) -> Result<States, EmitError> {
        let mut parts = Vec::new();
        let mut sizes = Vec::new();
        for &carried in carried {
            let (Some(input), Some(output)) = (ins.get(carried.input), outs.get(carried.output)) else {
                return Err(EmitError::Internal("a state that is no port".into()));
            };
            let (input, output) = (input.port, output.port);
            if input.dtype != output.dtype || input.shape != output.shape {
                return Err(EmitError::Internal(format!(
                    "state `{}` comes back as another type",
                    input.name
                )));
            }
            let count = input.shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
            let (element, offset, len) = (
                element(input.dtype, &format::code(&input.name))?,
                format::size(bytes(sizes.iter().copied())),
                format::size(count),
            );
            parts.push(PartCode { carried, slot: quote!(rt::Slot<#element, #offset, #len>) });
            sizes.push(count.saturating_mul(input.dtype.size()));
        }
        Ok(States { parts, bytes: bytes(sizes) })
    }

    /// Whether the model carries anything.
    pub(super) fn any(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Bytes of all parts.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Place in the state of the part that input `index` is.
    pub(super) fn of_input(&self, index: usize) -> Option<&TokenStream> {
        self.parts.iter().find(|p| p.carried.input == index).map(|p| &p.slot)
    }

    /// Place in the state of the part that output `index` becomes.
    pub(super) fn of_output(&self, index: usize) -> Option<&TokenStream> {
        self.parts.iter().find(|p| p.carried.output == index).map(|p| &p.slot)
    }

    /// Those ports that the caller sees, being no state.
    pub(super) fn given<'p, 'a>(&self, ins: &'p [PortCode<'a>]) -> Vec<&'p PortCode<'a>> {
        ins.iter().enumerate().filter(|(i, _)| self.of_input(*i).is_none()).map(|(_, p)| p).collect()
    }

    /// [`States::given`], of outputs.
    pub(super) fn answered<'p, 'a>(&self, outs: &'p [PortCode<'a>]) -> Vec<&'p PortCode<'a>> {
        outs.iter().enumerate().filter(|(i, _)| self.of_output(*i).is_none()).map(|(_, p)| p).collect()
    }

    /// `STATE_BYTES`, `State`.
    pub(super) fn items(&self) -> Result<Vec<String>, EmitError> {
        if !self.any() {
            return Ok(Vec::new());
        }
        let bytes = format::size(self.bytes);
        [
            quote!(
                #[doc = " Bytes of the carried state."]
                pub const STATE_BYTES: usize = #bytes;
            ),
            quote!(
                #[doc = " What the model carries from one run to the next. All zero at first, hence in `.bss`."]
                pub type State = rt::State<STATE_BYTES>;
            ),
            quote!(
                #[doc = " What [`Model::take`] keeps its state in."]
                static STATE: rt::StaticArena<STATE_BYTES> = rt::StaticArena::new();
            ),
        ]
        .into_iter()
        .map(format::item)
        .collect()
    }

    /// Methods of `Model`: the state, each of its parts, and the copies before and after the layers.
    pub(super) fn methods(&self, ins: &[PortCode<'_>], outs: &[PortCode<'_>], external: bool) -> TokenStream {
        if !self.any() {
            return TokenStream::new();
        }
        let mut code = quote!(
            #[doc = " What the next run starts from."]
            pub fn state(&self) -> &State {
                rt::State::of(self.state.arena())
            }

            #[doc = " What the next run starts from: to reset, for a new sequence, or to load."]
            pub fn state_mut(&mut self) -> &mut State {
                rt::State::of_mut(self.state.arena_mut())
            }
        );
        let (mut recalls, mut keeps) = (TokenStream::new(), TokenStream::new());
        for part in &self.parts {
            let (Some(input), Some(output)) = (ins.get(part.carried.input), outs.get(part.carried.output))
            else {
                continue;
            };
            let (slot, alias, into, from) = (&part.slot, &input.alias, &input.slot, &output.slot);
            let name = super::model_type::accessor(input);
            let doc = format!(
                " The part of the state that is input {}; each run leaves output {} there.",
                format::code(&input.port.name),
                format::code(&output.port.name)
            );
            code.extend(quote!(
                #[doc = #doc]
                pub fn #name(&mut self) -> &mut #alias {
                    rt::api::shape_mut(self.state.arena_mut().write::<#slot>())
                }
            ));
            recalls.extend(quote!(
                self.arena.arena_mut().write::<#into>().copy_from_slice(self.state.arena_mut().write::<#slot>());
            ));
            let weights = match external {
                true => quote!(self.weights),
                false => output.weights.clone(),
            };
            keeps.extend(quote!(
                self.state.arena_mut().write::<#slot>().copy_from_slice(self.arena.arena().read::<#from, _>(#weights));
            ));
        }
        code.extend(quote!(
            #[doc = " Copies the state to where the layers read it."]
            fn recall(&mut self) {
                #recalls
            }

            #[doc = " Copies what the layers made of the state to where it is kept."]
            fn keep(&mut self) {
                #keeps
            }
        ));
        code
    }
}
