//! One layer per step: the items that state it, and the call that runs it. One file per family.

mod access;
mod affine;
mod bytes;
mod conv;
mod custom;
mod depthwise;
mod expr;
mod loops;
mod matmul;
mod nest;
mod norm;
mod pack;
mod pool;
mod recurrent;
mod routine;
mod shapes;
mod softmax;
mod spec;
mod winograd;

use proc_macro2::{Ident, TokenStream};
use quote::quote;

pub(super) use self::shapes::Shapes;
use super::operands::{Operands, range};
use super::{EmitError, format, names};
use crate::kernel::{Kernel, Operand};
use crate::schedule::Step;

/// An emitted layer.
pub(super) struct Layer {
    /// `Layer003Conv`.
    pub(super) name: Ident,
    /// Its items, formatted.
    pub(super) text: String,
    /// The expression that runs it, of `isa` and `mem`; its value is a `Fault` where it is fallible.
    pub(super) call: TokenStream,
}

/// What a family's file makes of a step.
struct Parts {
    /// What follows the type's declaration.
    items: TokenStream,
    /// See [`Layer::call`].
    call: TokenStream,
    /// Whether the type is a task that holds the memory.
    task: bool,
}

/// A step under emission.
struct StepCx<'a> {
    operands: &'a Operands<'a>,
    index: usize,
    name: Ident,
    /// Module that holds the layer.
    module: Ident,
    shapes: &'a Shapes,
}

impl StepCx<'_> {
    /// The call of a layer that is a task, and the line that its body starts with.
    fn task(&self) -> (TokenStream, Option<TokenStream>) {
        let (name, module) = (&self.name, &self.module);
        let external = self.operands.external;
        let blob = external.then(|| quote!(, blob));
        (quote!(isa.call(#module::#name(mem.reborrow() #blob))), external.then(|| quote!(let blob = self.1;)))
    }

    /// Parts of a layer that the runtime runs: `impl rt::kernels::<module>::<trait> for LayerXXX`.
    fn kernel(
        &self,
        kernel: &Kernel,
        family: &str,
        layer: &str,
        spec: &str,
        value: TokenStream,
        types: &[(&str, Option<Operand>)],
    ) -> Result<Parts, EmitError> {
        let [family, layer, spec] = [family, layer, spec].map(names::ident);
        let module = &self.module;
        let form = self.operands.form(self.index)?;
        let weights = self.operands.weights(&kernel.reads())?;
        let name = &self.name;
        let own = self.shapes.own(self.index);
        let items = quote!(const SPEC: rt::spec::#spec = #value; #own);
        let (stated, shape) = self.shapes.state(quote!(#spec), items, module, name);
        // Operands that may be absent are of the type that the kernel computes in.
        let element = match kernel {
            Kernel::ConvI8(_) | Kernel::DepthwiseI8(_) => quote!(u8),
            _ => quote!(f32),
        };
        let types = types.iter().map(|(role, operand)| {
            let role = names::ident(role);
            let operand = self.operands.name_or_absent(*operand, &element);
            quote!(type #role = #operand;)
        });
        Ok(Parts {
            items: quote!(
                #stated
                impl rt::kernels::#family::#layer for #name {
                    type Shape = #shape;
                    const FORM: rt::kernels::Form = #form;
                    #(#types)*
                }
            ),
            call: quote!(rt::kernels::#family::run::<I, #module::#name, _, _>(isa, mem, #weights, rt::Part::ALL)),
            task: false,
        })
    }
}

/// The layer of step `index`, to stand in `module`.
pub(super) fn layer(
    operands: &Operands<'_>,
    index: usize,
    step: &Step,
    module: &Ident,
    shapes: &Shapes,
) -> Result<Layer, EmitError> {
    let kernel = &step.kernel;
    let name = names::ident(&format!("Layer{index:03}{}", kernel.family()));
    let cx = StepCx { operands, index, name: name.clone(), module: module.clone(), shapes };
    let parts = match kernel {
        Kernel::Conv { spec, x, w, epilogue, y } => conv::parts(&cx, kernel, spec, [*x, *w, *y], epilogue)?,
        Kernel::Depthwise { spec, x, w, epilogue, y } => {
            depthwise::parts(&cx, kernel, spec, [*x, *w, *y], epilogue)?
        }
        Kernel::ConvI8(k) => bytes::parts(&cx, kernel, k, "conv_i8", "ConvI8Layer")?,
        Kernel::DepthwiseI8(k) if k.w.is_none() => {
            bytes::parts(&cx, kernel, k, "windows_i8", "WindowsI8Layer")?
        }
        Kernel::DepthwiseI8(k) => bytes::parts(&cx, kernel, k, "depthwise_i8", "DepthwiseI8Layer")?,
        Kernel::MatMul { spec, a, w, epilogue, y } => {
            matmul::parts(&cx, kernel, spec, [*a, *w, *y], epilogue)?
        }
        Kernel::Pool { spec, x, y } => pool::parts(&cx, kernel, spec, *x, *y)?,
        Kernel::Softmax { spec, x, y } => softmax::parts(&cx, kernel, spec, *x, *y)?,
        Kernel::Norm { spec, x, scale, bias, y } => norm::parts(&cx, kernel, spec, *x, [*scale, *bias], *y)?,
        Kernel::Recurrent(r) => recurrent::parts(&cx, kernel, r)?,
        Kernel::Pack { spec, x, y } => pack::parts(&cx, kernel, spec, *x, *y)?,
        Kernel::WinogradInput { spec, x, y } => winograd::input(&cx, kernel, spec, *x, *y)?,
        Kernel::WinogradOutput { spec, x, epilogue, y } => {
            winograd::output(&cx, kernel, spec, [*x, *y], epilogue)?
        }
        Kernel::Loops(loops) => loops::parts(&cx, loops)?,
        Kernel::Routine(routine) => routine::parts(&cx, routine)?,
        Kernel::Custom(custom) => custom::parts(&cx, custom)?,
    };
    let doc = format::doc(&doc(operands, index, step)?);
    let declaration = if parts.task {
        let blob = operands.external.then(|| quote!(, pub(super) &'m weights::Blob));
        quote!(#doc pub(super) struct #name<'m>(pub(super) plan::Mem<'m> #blob);)
    } else {
        quote!(#doc pub(super) struct #name;)
    };
    let mut items = vec![format::item(declaration)?];
    // Items of a layer are formatted one by one, so that blank lines stand between them.
    let parsed: syn::File = syn::parse2(parts.items)
        .map_err(|e| EmitError::Internal(format!("items of `{name}` do not parse: {e}")))?;
    for item in parsed.items {
        items.push(format::item(quote!(#item))?);
    }
    Ok(Layer { name, text: items.join("\n\n"), call: parts.call })
}

/// Lines above a layer: where it comes from, what it does, what it touches.
fn doc(operands: &Operands<'_>, index: usize, step: &Step) -> Result<Vec<String>, EmitError> {
    const SHOWN: usize = 6;
    let mut origins: Vec<String> = step
        .origins
        .iter()
        .take(SHOWN)
        .map(|o| format!("{} {}", format::code(&o.op_type), format::code(&o.name)))
        .collect();
    if step.origins.len() > SHOWN {
        origins.push(format!("and {} more", step.origins.len() - SHOWN));
    }
    if origins.is_empty() {
        // Notes are the compiler's own words around names of the model.
        origins.push(step.note.replace(|c: char| c.is_control(), " "));
    }
    let mut first =
        Operands::place(operands, step.kernel.writes().first().copied().ok_or_else(nothing_written)?)
            .map(|(dtype, ..)| format!("{dtype}{:?}", step.out_shape))?;
    let inputs = inputs(&step.kernel);
    if !inputs.is_empty() {
        first = format!("{inputs}` -> `{first}");
    }
    let mut facts = format!("`{first}`");
    if step.macs > 0 {
        facts.push_str(&format!(", {} MACs", format::group(u128::from(step.macs))));
    }
    facts.push('.');
    let reads = places(operands, &step.kernel.reads())?;
    let writes = places(operands, &step.kernel.writes())?;
    let traffic = match reads.is_empty() {
        true => format!("Writes {writes}."),
        false => format!("Reads {reads}; writes {writes}."),
    };
    Ok(vec![format!("Layer {index}: {}", origins.join(", ")), String::new(), facts, traffic])
}

fn nothing_written() -> EmitError {
    EmitError::Internal("a step writes nothing".into())
}

/// Types of the operands that decide a layer's work, in memory order.
fn inputs(kernel: &Kernel) -> String {
    let of = |dtype: &str, v: &crate::kernel::spec::View| {
        let [d, h, w] = v.extent;
        format!("{dtype}[{}, {d}, {h}, {w}, {}]", v.batch, v.channels)
    };
    let image = |v: &crate::kernel::spec::View| of("f32", v);
    match kernel {
        Kernel::Conv { spec, .. } => {
            let [d, h, w] = spec.kernel;
            let ic = spec.x.channels.checked_div(spec.groups).unwrap_or(0);
            format!("{}` * `f32[{}, {d}, {h}, {w}, {ic}]", image(&spec.x), spec.y.channels)
        }
        Kernel::Depthwise { spec, .. } => {
            let [d, h, w] = spec.kernel;
            format!("{}` * `f32[{}, {d}, {h}, {w}]", image(&spec.x), spec.y.channels)
        }
        Kernel::ConvI8(k) | Kernel::DepthwiseI8(k) => {
            let [d, h, w] = k.spec.kernel;
            let ic = k.spec.x.channels.checked_div(k.spec.groups).unwrap_or(0);
            format!("{}` * `i8[{}, {d}, {h}, {w}, {ic}]", of("u8", &k.spec.x), k.spec.y.channels)
        }
        Kernel::MatMul { spec, .. } => {
            let (b, m, n, k) = (spec.batch, spec.m, spec.n, spec.k);
            format!("f32[{b}, {m}, {k}]` * `f32[{b}, {k}, {n}]")
        }
        Kernel::Pool { spec, .. } => image(&spec.x),
        Kernel::Softmax { spec, .. } => format!("f32[{}, {}, {}]", spec.outer, spec.len, spec.inner),
        Kernel::Norm { spec, .. } => format!("f32[{}, {}]", spec.rows, spec.len),
        Kernel::Recurrent(r) => {
            let s = &r.spec;
            format!("f32[{}, {}, {}, {}]", s.steps, s.batch, s.kind.gates(), s.hidden)
        }
        Kernel::Pack { spec, .. } => format!("f32[{}, {}, {}]", spec.batch, spec.k, spec.n),
        Kernel::WinogradInput { spec, .. } => image(&spec.x),
        Kernel::WinogradOutput { spec, .. } => {
            format!("f32[{}, {}, {}]", (spec.tile + 2) * (spec.tile + 2), spec.rows(), spec.y.channels)
        }
        Kernel::Loops(_) | Kernel::Routine(_) | Kernel::Custom(_) => String::new(),
    }
}

/// `arena 0..64, weights 128..256`.
fn places(operands: &Operands<'_>, list: &[Operand]) -> Result<String, EmitError> {
    const SHOWN: usize = 8;
    let mut text = Vec::new();
    for (kind, buffers) in [("arena", true), ("weights", false)] {
        let mut ranges = Vec::new();
        for &operand in list.iter().filter(|o| matches!(o, Operand::Buffer(_)) == buffers) {
            let (dtype, offset, len) = operands.place(operand)?;
            ranges.push(range(offset, len * dtype.size()));
        }
        let more = ranges.len().saturating_sub(SHOWN);
        ranges.truncate(SHOWN);
        if more > 0 {
            ranges.push(format!("{more} more"));
        }
        if !ranges.is_empty() {
            text.push(format!("{kind} {}", ranges.join(", ")));
        }
    }
    Ok(text.join(", "))
}
