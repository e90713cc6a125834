//! Kernel specifications → `rt::spec` constants.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use crate::emit::format::{float32, size};
use crate::kernel::spec::{
    Activation, ConvI8Spec, ConvSpec, DepthwiseSpec, Epilogue, MatMulSpec, NormKind, NormSpec, PackSpec,
    PoolKind, PoolSpec, RecurrentKind, RecurrentSpec, Residual, Scale, SoftmaxSpec, View, WinogradInputSpec,
    WinogradOutputSpec,
};

fn triple(v: [usize; 3]) -> TokenStream {
    let [a, b, c] = v.map(size);
    quote!([#a, #b, #c])
}

fn view(v: &View) -> TokenStream {
    if *v == View::channels_last(v.batch, v.extent, v.channels) {
        let (batch, extent, channels) = (size(v.batch), triple(v.extent), size(v.channels));
        return quote!(rt::spec::View::channels_last(#batch, #extent, #channels));
    }
    let [offset, batch, channels, n_stride, c_stride] =
        [v.offset, v.batch, v.channels, v.n_stride, v.c_stride].map(size);
    let (extent, strides) = (triple(v.extent), triple(v.strides));
    quote!(rt::spec::View {
        offset: #offset, batch: #batch, extent: #extent, channels: #channels,
        n_stride: #n_stride, strides: #strides, c_stride: #c_stride,
    })
}

fn activation(a: &Activation) -> TokenStream {
    let kind = match a {
        Activation::None => quote!(None),
        Activation::Relu => quote!(Relu),
        Activation::Clip { lo, hi } => {
            let (lo, hi) = (float32(*lo), float32(*hi));
            quote!(Clip { lo: #lo, hi: #hi })
        }
        Activation::LeakyRelu { alpha } => {
            let alpha = float32(*alpha);
            quote!(LeakyRelu { alpha: #alpha })
        }
        Activation::PRelu => quote!(PRelu),
        Activation::HardSigmoid { alpha, beta } => {
            let (alpha, beta) = (float32(*alpha), float32(*beta));
            quote!(HardSigmoid { alpha: #alpha, beta: #beta })
        }
        Activation::HardSwish => quote!(HardSwish),
        Activation::Sigmoid => quote!(Sigmoid),
        Activation::Swish { alpha } => {
            let alpha = float32(*alpha);
            quote!(Swish { alpha: #alpha })
        }
        Activation::Tanh => quote!(Tanh),
        Activation::Gelu => quote!(Gelu),
        Activation::GeluTanh => quote!(GeluTanh),
        Activation::Elu { alpha } => {
            let alpha = float32(*alpha);
            quote!(Elu { alpha: #alpha })
        }
        Activation::Softplus => quote!(Softplus),
    };
    quote!(rt::spec::Activation::#kind)
}

fn epilogue(e: &Epilogue) -> TokenStream {
    if *e == Epilogue::NONE {
        return quote!(rt::spec::Epilogue::NONE);
    }
    let bias = e.bias;
    let scale = match e.scale {
        Scale::One => quote!(One),
        Scale::Uniform(factor) => {
            let factor = float32(factor);
            quote!(Uniform(#factor))
        }
        Scale::PerChannel => quote!(PerChannel),
    };
    let residual = match e.residual {
        Residual::None => quote!(None),
        Residual::Before => quote!(Before),
        Residual::After => quote!(After),
    };
    let activation = activation(&e.activation);
    quote!(rt::spec::Epilogue {
        bias: #bias,
        scale: rt::spec::Scale::#scale,
        residual: rt::spec::Residual::#residual,
        activation: #activation,
    })
}

pub(super) fn conv(s: &ConvSpec) -> TokenStream {
    let (x, y, residual, epilogue) = (view(&s.x), view(&s.y), view(&s.residual), epilogue(&s.epilogue));
    let [kernel, stride, dilation, pads] = [s.kernel, s.stride, s.dilation, s.pads].map(triple);
    let groups = size(s.groups);
    quote!(rt::spec::ConvSpec {
        x: #x, y: #y, residual: #residual,
        kernel: #kernel, stride: #stride, dilation: #dilation, pads: #pads, groups: #groups,
        epilogue: #epilogue,
    })
}

pub(super) fn depthwise(s: &DepthwiseSpec) -> TokenStream {
    let (x, y, residual, epilogue) = (view(&s.x), view(&s.y), view(&s.residual), epilogue(&s.epilogue));
    let [kernel, stride, dilation, pads] = [s.kernel, s.stride, s.dilation, s.pads].map(triple);
    let multiplier = size(s.multiplier);
    quote!(rt::spec::DepthwiseSpec {
        x: #x, y: #y, residual: #residual,
        kernel: #kernel, stride: #stride, dilation: #dilation, pads: #pads, multiplier: #multiplier,
        epilogue: #epilogue,
    })
}

pub(super) fn bytes(s: &ConvI8Spec) -> TokenStream {
    let (x, y, residual) = (view(&s.x), view(&s.y), view(&s.residual));
    let [kernel, stride, dilation, pads] = [s.kernel, s.stride, s.dilation, s.pads].map(triple);
    let groups = size(s.groups);
    let (rescale, add, last, largest) = (s.steps.rescale, s.steps.add, s.steps.last, s.largest);
    quote!(rt::spec::ConvI8Spec {
        x: #x, y: #y, residual: #residual,
        kernel: #kernel, stride: #stride, dilation: #dilation, pads: #pads, groups: #groups,
        steps: rt::spec::RequantSteps { rescale: #rescale, add: #add, last: #last }, largest: #largest,
    })
}

/// `name: value` for each field of these names.
macro_rules! fields {
    ($s:ident: $($field:ident)*) => {{
        $(let $field: Literal = size($s.$field);)*
        quote!($($field: #$field,)*)
    }};
}

pub(super) fn matmul(s: &MatMulSpec) -> TokenStream {
    let fields = fields!(s: batch m n k a_offset a_stride a_batch w_batch y_offset y_stride y_batch
        r_offset r_stride r_batch);
    let epilogue = epilogue(&s.epilogue);
    quote!(rt::spec::MatMulSpec { #fields epilogue: #epilogue })
}

pub(super) fn pool(s: &PoolSpec) -> TokenStream {
    let kind = match s.kind {
        PoolKind::Max => quote!(Max),
        PoolKind::AverageExcludePad => quote!(AverageExcludePad),
        PoolKind::AverageIncludePad => quote!(AverageIncludePad),
    };
    let (x, y, activation) = (view(&s.x), view(&s.y), activation(&s.activation));
    let [kernel, stride, dilation, pads, pads_end] =
        [s.kernel, s.stride, s.dilation, s.pads, s.pads_end].map(triple);
    quote!(rt::spec::PoolSpec {
        kind: rt::spec::PoolKind::#kind, x: #x, y: #y,
        kernel: #kernel, stride: #stride, dilation: #dilation, pads: #pads, pads_end: #pads_end,
        activation: #activation,
    })
}

pub(super) fn softmax(s: &SoftmaxSpec) -> TokenStream {
    let fields = fields!(s: outer len inner);
    let log = s.log;
    quote!(rt::spec::SoftmaxSpec { #fields log: #log })
}

pub(super) fn norm(s: &NormSpec) -> TokenStream {
    let kind = match s.kind {
        NormKind::Layer => quote!(Layer),
        NormKind::Rms => quote!(Rms),
    };
    let fields = fields!(s: rows len);
    let epsilon = float32(s.epsilon);
    let (scale, bias) = (s.scale, s.bias);
    quote!(rt::spec::NormSpec {
        kind: rt::spec::NormKind::#kind, #fields epsilon: #epsilon, scale: #scale, bias: #bias,
    })
}

pub(super) fn recurrent(s: &RecurrentSpec) -> TokenStream {
    let kind = match s.kind {
        RecurrentKind::Lstm => quote!(Lstm),
        RecurrentKind::Gru => quote!(Gru),
    };
    let (extents, backwards) = (fields!(s: steps batch hidden), s.backwards);
    let strides = fields!(s: x_step x_batch y_offset y_step y_batch state_offset state_batch);
    quote!(rt::spec::RecurrentSpec {
        kind: rt::spec::RecurrentKind::#kind, #extents backwards: #backwards, #strides
    })
}

pub(super) fn pack(s: &PackSpec) -> TokenStream {
    let fields = fields!(s: batch k n offset batch_stride k_stride n_stride);
    quote!(rt::spec::PackSpec { #fields })
}

fn pair(v: [usize; 2]) -> TokenStream {
    let [a, b] = v.map(size);
    quote!([#a, #b])
}

pub(super) fn winograd_input(s: &WinogradInputSpec) -> TokenStream {
    let (x, pads, patches) = (view(&s.x), pair(s.pads), pair(s.patches));
    let [tile, first, plane] = [s.tile, s.first, s.plane].map(size);
    quote!(rt::spec::WinogradInputSpec {
        x: #x, pads: #pads, tile: #tile, first: #first, patches: #patches, plane: #plane,
    })
}

pub(super) fn winograd_output(s: &WinogradOutputSpec) -> TokenStream {
    let (y, residual, epilogue) = (view(&s.y), view(&s.residual), epilogue(&s.epilogue));
    let [tile, plane] = [s.tile, s.plane].map(size);
    quote!(rt::spec::WinogradOutputSpec {
        y: #y, residual: #residual, tile: #tile, plane: #plane, epilogue: #epilogue,
    })
}
