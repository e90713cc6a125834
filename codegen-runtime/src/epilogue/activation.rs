//! Activations as tiles apply them: clamps and the like in registers, curves by their formulas.

use core::marker::PhantomData;

use crate::isa::Isa;
use crate::kernels::layer::Known;
use crate::math::formula::{self, Lanes};
use crate::spec::{Activation, ConvSpec, DepthwiseSpec, MatMulSpec};

/// An activation that is two comparisons at most: `min(max(x, lo), hi)`, NaN kept.
#[derive(Clone, Copy)]
pub(crate) struct Clamp {
    pub(super) lo: f32,
    pub(super) hi: f32,
}

impl Clamp {
    /// The activation as a clamp, if it is one.
    #[inline(always)]
    pub(crate) const fn of(activation: Activation) -> Option<Clamp> {
        match activation {
            Activation::None => Some(Clamp { lo: f32::NEG_INFINITY, hi: f32::INFINITY }),
            Activation::Relu => Some(Clamp { lo: 0.0, hi: f32::INFINITY }),
            Activation::Clip { lo, hi } => Some(Clamp { lo, hi }),
            _ => None,
        }
    }

    /// Clamps 16 values.
    #[inline(always)]
    pub(crate) fn apply<I: Isa>(self, isa: I, v: I::P) -> I::P {
        // The second argument comes back where either is NaN.
        isa.min(isa.splat(self.hi), isa.max(isa.splat(self.lo), v))
    }
}

/// An activation of a few instructions, which tiles apply in registers.
#[derive(Clone, Copy)]
pub(crate) enum Cheap {
    Clamp(Clamp),
    /// `clip(alpha·x + beta, 0, 1)`, times `x` if so.
    Gate {
        alpha: f32,
        beta: f32,
        times: bool,
    },
    /// `x < 0 ? slope·x : x`, with one slope or one per channel.
    Slope {
        of_all: Option<f32>,
    },
    /// SiLU or GELU, where it is known to be that.
    Curve,
}

impl Cheap {
    /// The activation as one of these, if it is.
    #[inline(always)]
    pub(crate) const fn of(activation: Activation) -> Option<Cheap> {
        if let Some(clamp) = Clamp::of(activation) {
            return Some(Cheap::Clamp(clamp));
        }
        match activation {
            Activation::HardSigmoid { alpha, beta } => Some(Cheap::Gate { alpha, beta, times: false }),
            Activation::HardSwish => Some(Cheap::Gate { alpha: 1.0 / 6.0, beta: 0.5, times: true }),
            Activation::LeakyRelu { alpha } => Some(Cheap::Slope { of_all: Some(alpha) }),
            Activation::PRelu => Some(Cheap::Slope { of_all: None }),
            _ => None,
        }
    }

    /// The same; what takes more instructions too where it is known to be that.
    #[inline(always)]
    pub(crate) const fn of_known<A: KnownActivation>(activation: Activation) -> Option<Cheap> {
        if A::CURVES { Some(Cheap::Curve) } else { Cheap::of(activation) }
    }
}

/// The curve of [`Cheap::Curve`].
#[inline(always)]
pub(crate) fn known_curve<I: Isa, A: KnownActivation>(isa: I, v: I::P) -> I::P {
    let v = Lanes::new(isa, v);
    if const { matches!(A::ACTIVATION, Some(Activation::Gelu)) } {
        return formula::gelu(v).v;
    }
    match A::ACTIVATION {
        Some(Activation::Swish { alpha }) => formula::swish(v, alpha).v,
        _ => v.v,
    }
}

/// `clip(alpha·v + beta, 0, 1)`, times `v` if so.
#[inline(always)]
pub(crate) fn gate<I: Isa>(isa: I, alpha: f32, beta: f32, times: bool, v: I::P) -> I::P {
    let gate = Clamp { lo: 0.0, hi: 1.0 }.apply(isa, isa.fmadd(isa.splat(alpha), v, isa.splat(beta)));
    if times { isa.mul(v, gate) } else { gate }
}

/// `v < 0 ? slope·v : v`.
#[inline(always)]
pub(crate) fn sloped<I: Isa>(isa: I, slope: I::P, v: I::P) -> I::P {
    isa.select(isa.lt(v, isa.zero()), isa.mul(slope, v), v)
}

/// Calls `$with!(|v, slope| …)` with the curve of an activation: an expression for each, so that what calls it
/// has a loop for each.
macro_rules! for_activation {
    ($isa:ident, $activation:expr, $with:ident) => {
        match $activation {
            Activation::None => $with!(v, _slope, v),
            Activation::Relu => $with!(v, _slope, Clamp { lo: 0.0, hi: f32::INFINITY }.apply($isa, v)),
            Activation::Clip { lo, hi } => $with!(v, _slope, Clamp { lo, hi }.apply($isa, v)),
            Activation::LeakyRelu { alpha } => $with!(v, _slope, sloped($isa, $isa.splat(alpha), v)),
            Activation::PRelu => $with!(v, slope, sloped($isa, slope, v)),
            Activation::HardSigmoid { alpha, beta } => {
                $with!(v, _slope, gate($isa, alpha, beta, false, v))
            }
            Activation::HardSwish => $with!(v, _slope, gate($isa, 1.0 / 6.0, 0.5, true, v)),
            Activation::Sigmoid => $with!(v, _slope, formula::sigmoid(Lanes::new($isa, v)).v),
            Activation::Swish { alpha } => $with!(v, _slope, formula::swish(Lanes::new($isa, v), alpha).v),
            Activation::Tanh => $with!(v, _slope, formula::tanh(Lanes::new($isa, v)).v),
            Activation::Gelu => $with!(v, _slope, formula::gelu(Lanes::new($isa, v)).v),
            Activation::GeluTanh => $with!(v, _slope, formula::gelu_tanh(Lanes::new($isa, v)).v),
            Activation::Elu { alpha } => $with!(v, _slope, formula::elu(Lanes::new($isa, v), alpha).v),
            Activation::Softplus => $with!(v, _slope, formula::softplus(Lanes::new($isa, v)).v),
        }
    };
}
pub(super) use for_activation;

/// Applies an activation to 16 values; `slope` is for [`Activation::PRelu`].
#[inline(always)]
pub(crate) fn activate<I: Isa>(isa: I, activation: Activation, v: I::P, slope: I::P) -> I::P {
    macro_rules! value {
        ($v:ident, $slope:ident, $curve:expr) => {{
            let ($v, $slope) = (v, slope);
            $curve
        }};
    }
    for_activation!(isa, activation, value)
}

/// What is known of an activation when code is compiled: with it, tiles apply its curve in registers too.
pub(crate) trait KnownActivation {
    /// The activation, if it is known.
    const ACTIVATION: Option<Activation>;

    /// Which kinds of [`Cheap`] there can be: code for the others is not compiled.
    const CLAMPS: bool = match Self::ACTIVATION {
        Some(known) => matches!(Cheap::of(known), Some(Cheap::Clamp(_))),
        None => true,
    };
    /// Likewise.
    const GATES: bool = match Self::ACTIVATION {
        Some(known) => matches!(Cheap::of(known), Some(Cheap::Gate { .. })),
        None => true,
    };
    /// Likewise.
    const SLOPES: bool = match Self::ACTIVATION {
        Some(known) => matches!(Cheap::of(known), Some(Cheap::Slope { .. })),
        None => true,
    };
    /// Likewise; a curve has to be known.
    const CURVES: bool = matches!(Self::ACTIVATION, Some(Activation::Swish { .. } | Activation::Gelu));
}

/// That of a spec, if `K` knows it.
pub(crate) struct ActivationOf<S, K>(PhantomData<(S, K)>);

impl<K: Known<ConvSpec>> KnownActivation for ActivationOf<ConvSpec, K> {
    const ACTIVATION: Option<Activation> = match &K::SPEC {
        Some(spec) => Some(spec.epilogue.activation),
        None => None,
    };
}

impl<K: Known<DepthwiseSpec>> KnownActivation for ActivationOf<DepthwiseSpec, K> {
    const ACTIVATION: Option<Activation> = match &K::SPEC {
        Some(spec) => Some(spec.epilogue.activation),
        None => None,
    };
}

impl<K: Known<MatMulSpec>> KnownActivation for ActivationOf<MatMulSpec, K> {
    const ACTIVATION: Option<Activation> = match &K::SPEC {
        Some(spec) => Some(spec.epilogue.activation),
        None => None,
    };
}

/// Nothing is known of it.
pub(crate) struct AnyActivation;

impl KnownActivation for AnyActivation {
    const ACTIVATION: Option<Activation> = None;
}
