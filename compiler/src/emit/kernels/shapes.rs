//! Shapes of layers: which stand already, and which get code of their own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem::discriminant;

use edgec_runtime::Level;
use edgec_runtime::isa::LANES;
use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::emit::{EmitOptions, Specialise, names};
use crate::kernel::Kernel;
use crate::kernel::spec::View;
use crate::schedule::Step;

/// A kernel family with no more shapes than this has code for each of them, and none that they share: on
/// MobileNets that is faster and smaller, and takes no longer to build.
const WHOLE_FAMILY: usize = 24;

/// Most shapes of the larger families with code of their own: each costs a tenth of a second or two of building per
/// level.
const MOST_SHAPES: usize = 16;

/// The shapes of one model.
pub(in crate::emit) struct Shapes {
    /// Whether each step's shape has code of its own.
    own: Vec<bool>,
    /// Whether the crate has a level with vectors; then its scalar level is there for other machines.
    vectors: bool,
    /// What states a shape → the layer that does.
    stated: RefCell<BTreeMap<String, TokenStream>>,
}

impl Shapes {
    pub(in crate::emit) fn new(steps: &[Step], options: &EmitOptions) -> Self {
        let vectors = options.levels.iter().any(|l| !matches!(l, Level::Scalar));
        let own = match options.specialise {
            Specialise::Never => vec![false; steps.len()],
            Specialise::Always => vec![true; steps.len()],
            Specialise::Auto => chosen(steps),
        };
        Shapes { own, vectors, stated: RefCell::default() }
    }

    /// Code of the shape's own, if the step gets it.
    pub(super) fn own(&self, index: usize) -> Option<TokenStream> {
        let own = self.own.get(index).copied().unwrap_or(false);
        let levels = names::ident(if self.vectors { "Vectors" } else { "Everywhere" });
        own.then(|| quote!(const OWN: rt::kernels::layer::Own = rt::kernels::layer::Own::#levels;))
    }

    /// The implementation of `Shape` that `layer` of `module` needs, if it is the first of its shape, and the
    /// layer that states it.
    pub(super) fn state(
        &self,
        spec: TokenStream,
        items: TokenStream,
        module: &Ident,
        layer: &Ident,
    ) -> (Option<TokenStream>, TokenStream) {
        let mut stated = self.stated.borrow_mut();
        let key = items.to_string();
        if let Some(first) = stated.get(&key) {
            return (None, first.clone());
        }
        stated.insert(key, quote!(super::#module::#layer));
        (Some(quote!(impl rt::kernels::layer::Shape<rt::spec::#spec> for #layer { #items })), quote!(Self))
    }
}

/// The steps of small families, and of the others those whose shapes gain most, all layers of a shape together.
fn chosen(steps: &[Step]) -> Vec<bool> {
    let mut shapes: Vec<(&Kernel, u64, Vec<usize>)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let Some(gain) = gain(&step.kernel) else { continue };
        match shapes.iter_mut().find(|(kernel, ..)| same_spec(kernel, &step.kernel)) {
            Some((_, sum, layers)) => {
                *sum = sum.saturating_add(gain);
                layers.push(index);
            }
            None => shapes.push((&step.kernel, gain, vec![index])),
        }
    }
    let in_family = |kernel: &Kernel| {
        let family = discriminant(kernel);
        shapes.iter().filter(|(other, ..)| discriminant(*other) == family).count()
    };
    let (whole, mut others): (Vec<_>, Vec<_>) =
        shapes.iter().partition(|(kernel, ..)| in_family(kernel) <= WHOLE_FAMILY);
    others.sort_by_key(|(_, gain, _)| std::cmp::Reverse(*gain));
    others.truncate(MOST_SHAPES);
    let mut own = vec![false; steps.len()];
    for &index in whole.iter().chain(&others).flat_map(|(.., layers)| layers) {
        if let Some(own) = own.get_mut(index) {
            *own = true;
        }
    }
    own
}

fn same_spec(a: &Kernel, b: &Kernel) -> bool {
    match (a, b) {
        (Kernel::Conv { spec: a, .. }, Kernel::Conv { spec: b, .. }) => a == b,
        (Kernel::Depthwise { spec: a, .. }, Kernel::Depthwise { spec: b, .. }) => a == b,
        (Kernel::ConvI8(a), Kernel::ConvI8(b)) | (Kernel::DepthwiseI8(a), Kernel::DepthwiseI8(b)) => {
            a.spec == b.spec
        }
        (Kernel::MatMul { spec: a, .. }, Kernel::MatMul { spec: b, .. }) => a == b,
        (Kernel::Pool { spec: a, .. }, Kernel::Pool { spec: b, .. }) => a == b,
        _ => false,
    }
}

/// Cycles that constant extents save, roughly, as measured on MobileNets: some two hundred for each register tile,
/// and five for each vector of a depthwise convolution or pooling. `None` where they save nothing.
fn gain(kernel: &Kernel) -> Option<u64> {
    const TILE: u64 = 200;
    const VECTOR: u64 = 5;
    let product = |factors: &[usize]| factors.iter().fold(1u64, |a, &b| a.saturating_mul(b as u64));
    let pixels = |v: &View| product(&[v.batch, v.extent[0], v.extent[1], v.extent[2]]);
    let panels = |channels: usize| channels.div_ceil(LANES) as u64;
    let tiles =
        |rows: u64, panels: u64| rows.div_ceil(14).saturating_mul(panels.div_ceil(2)).saturating_mul(TILE);
    match kernel {
        Kernel::Conv { spec, .. } => {
            let group = spec.y.channels.checked_div(spec.groups).unwrap_or(0);
            let panels = panels(group).saturating_mul(spec.groups as u64);
            Some(tiles(pixels(&spec.y), panels))
        }
        Kernel::Depthwise { spec, .. } => {
            Some(pixels(&spec.y).saturating_mul(panels(spec.y.channels)).saturating_mul(VECTOR))
        }
        Kernel::ConvI8(k) => {
            let group = k.spec.y.channels.checked_div(k.spec.groups).unwrap_or(0);
            let panels = panels(group).saturating_mul(k.spec.groups as u64);
            Some(tiles(pixels(&k.spec.y), panels))
        }
        Kernel::DepthwiseI8(k) => {
            Some(pixels(&k.spec.y).saturating_mul(panels(k.spec.y.channels)).saturating_mul(VECTOR))
        }
        // A single row waits for the weights.
        Kernel::MatMul { spec, .. } if spec.m > 1 => {
            Some(tiles(product(&[spec.batch, spec.m]), panels(spec.n)))
        }
        Kernel::Pool { spec, .. } => {
            Some(pixels(&spec.y).saturating_mul(panels(spec.y.channels)).saturating_mul(VECTOR))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::spec::{Epilogue, MatMulSpec};
    use crate::kernel::{ConstId, Operand};

    fn product(m: usize, n: usize) -> Step {
        let spec = MatMulSpec {
            batch: 1,
            m,
            n,
            k: 8,
            a_offset: 0,
            a_stride: 8,
            a_batch: 0,
            w_batch: 0,
            y_offset: 0,
            y_stride: n,
            y_batch: 0,
            r_offset: 0,
            r_stride: n,
            r_batch: 0,
            epilogue: Epilogue::NONE,
        };
        let kernel = Kernel::MatMul {
            spec,
            a: Operand::Const(ConstId(0)),
            w: Operand::Const(ConstId(1)),
            epilogue: Default::default(),
            y: Operand::Const(ConstId(2)),
        };
        Step { kernel, origins: Vec::new(), note: String::new(), macs: 0, out_shape: Vec::new() }
    }

    #[test]
    fn the_shapes_that_gain_most_get_code_of_their_own() {
        // Shape `i` has `i` tiles; the first comes so often that it gains most of all. One row gains nothing.
        let mut steps: Vec<Step> = (1..=40).map(|i| product(14 * i, 16)).collect();
        steps.extend((0..100).map(|_| product(14, 16)));
        steps.push(product(1, 4096));
        let own = chosen(&steps);
        assert!(own[0] && own[40..140].iter().all(|&own| own));
        assert_eq!(own[1..40].iter().filter(|&&own| own).count(), MOST_SHAPES - 1);
        assert!(own[39] && !own[1] && !own[140]);
        // As few as these all get their own.
        assert!(chosen(&steps[..WHOLE_FAMILY]).iter().all(|&own| own));
    }
}
