//! Operators: everything known about each in one file, and one list of them.
//!
//! An op file holds, in this order: module doc with the ONNX link and limits, the struct with its
//! typed attributes, `impl OnnxOp` (import), `impl Op` (infer, eval, lower, …), helpers, tests.

pub mod affine_grid;
pub mod arg;
pub mod attention;
pub mod axis_norm;
pub mod batch_norm;
pub mod binary;
pub mod binary_i8;
pub mod bit_cast;
pub mod branch;
pub mod byte_table;
pub mod cast;
pub mod causal_conv;
mod cdist;
pub mod center_crop_pad;
mod child;
pub mod clear;
pub mod clip;
pub mod col2im;
mod composite;
mod compress;
pub mod concat;
mod contrib_attention;
mod contrib_gelu;
mod contrib_moves;
#[cfg(test)]
mod control_tests;
pub mod conv;
pub mod conv_integer;
mod conv_lower;
pub mod conv_transpose;
mod couple;
pub mod cum_sum;
pub mod custom;
pub mod deform_conv;
pub mod dequantize;
pub mod det;
pub mod dropout;
pub mod dynamic_quantize;
pub mod dynamic_quantize_matmul;
pub mod einsum;
pub mod elementwise;
mod error;
pub mod expand;
mod facts;
pub mod fill;
mod find_key;
pub mod flex_attention;
pub mod fourier;
pub mod fused;
mod fused_product;
mod gated;
pub mod gather;
mod gather_block_quantized;
pub mod gemm;
mod grid;
pub mod grid_sample;
pub mod group_norm;
mod group_query_attention;
pub mod gru;
pub mod identity;
pub mod layer_norm;
mod length;
pub mod linear_attention;
mod list;
pub mod loop_;
mod loop_lower;
pub mod loss;
#[cfg(test)]
mod lowered_tests;
pub mod lrn;
pub mod lstm;
pub mod matmul;
mod matmul_bnb4;
pub mod matmul_integer;
mod matmul_lower;
pub mod matmul_nbits;
pub mod max_roi_pool;
pub mod max_unpool;
pub mod mel_weights;
mod ml_features;
mod ml_labels;
mod ml_linear;
mod ml_post;
mod ml_svm;
mod nest;
pub mod non_max_suppression;
pub mod non_zero;
mod number;
pub mod old_broadcast;
pub mod one_hot;
pub mod pad;
mod panel;
mod pick;
pub mod pool;
mod pool_lower;
mod product;
pub mod product_i8;
mod product_i8_lower;
pub mod qattention;
mod qembed_norm;
pub mod qgemm;
mod qlinear;
pub mod qlinear_concat;
pub mod qlinear_conv;
pub mod qlinear_elementwise;
pub mod qlinear_matmul;
pub mod qlinear_pool;
pub mod qlinear_softmax;
pub mod quantize;
pub mod random;
pub mod recurrent;
pub mod recurrent_curve;
mod recurrent_lower;
#[cfg(test)]
mod recurrent_tests;
pub mod reduce;
pub mod requant;
pub mod requantize;
pub mod reshape;
pub mod resize;
mod resize_lower;
mod resize_table;
pub mod reverse_sequence;
pub mod rnn;
pub mod roi_align;
pub mod rotary_embedding;
#[cfg(test)]
mod routine_tests;
pub mod scatter;
pub mod shape;
mod skip_norm;
pub mod slice;
pub mod softmax;
pub mod softmax_i8;
pub mod space;
pub mod split;
mod squared_distance;
pub mod swiglu;
pub mod tensor_scatter;
#[cfg(test)]
mod testing;
pub mod tf_idf;
pub mod topk;
pub mod transpose;
mod tree_branches;
mod tree_ensemble;
mod tree_sum;
mod trees;
pub mod trilu;
mod typed;
pub mod unary;
pub mod unique;
pub mod variadic;
mod views;
mod walk;
pub mod where_;
pub mod window;
pub mod window_function;
mod winograd;

pub use child::{absorb_known, children, children_mut, eval_within};
pub use composite::{Body, Composite, INLINE, INTERNAL};
pub use error::OpError;
pub use facts::{Fact, Inputs, Type};
pub use length::{Along, Axes, Length, Lengths, unknown_length};
pub use list::{Import, Importer};

use crate::ir::Tensor;
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;
use list::define_ops;
use std::fmt::Debug;

// The one list of operators. A new one is a line here, a `mod` line above, and its file.
define_ops! {
    onnx {
        Arg => arg::Arg,
        AxisNorm => axis_norm::AxisNorm,
        BatchNorm => batch_norm::BatchNorm,
        Binary => binary::Binary,
        BitCast => bit_cast::BitCast,
        BlockMove => space::BlockMove,
        Cast => cast::Cast,
        Clip => clip::Clip,
        Concat => concat::Concat,
        ConstantOfShape => fill::ConstantOfShape,
        Conv => conv::Conv,
        ConvInteger => conv_integer::ConvInteger,
        ConvTranspose => conv_transpose::ConvTranspose,
        Couple => couple::Couple,
        Cumulate => cum_sum::Cumulate,
        DeformConv => deform_conv::DeformConv,
        Dequantize => dequantize::Dequantize,
        Det => det::Det,
        Dropout => dropout::Dropout,
        Einsum => einsum::Einsum,
        Expand => expand::Expand,
        EyeLike => fill::EyeLike,
        FindKey => find_key::FindKey,
        FirstPlaces => unique::FirstPlaces,
        Gather => gather::Gather,
        Gemm => gemm::Gemm,
        GridSample => grid_sample::GridSample,
        GroupNorm => group_norm::GroupNorm,
        Gru => gru::Gru,
        Identity => identity::Identity,
        LayerNorm => layer_norm::LayerNorm,
        Lrn => lrn::Lrn,
        Lstm => lstm::Lstm,
        MatMul => matmul::MatMul,
        MatMulInteger => matmul_integer::MatMulInteger,
        MaxRoiPool => max_roi_pool::MaxRoiPool,
        MelWeights => mel_weights::MelWeights,
        NonMaxSuppression => non_max_suppression::NonMaxSuppression,
        NonZero => non_zero::NonZero,
        OneHot => one_hot::OneHot,
        Pad => pad::Pad,
        Pick => pick::Pick,
        Pool => pool::Pool,
        Quantize => quantize::Quantize,
        Range => fill::Range,
        Recurrence => linear_attention::Recurrence,
        Reduce => reduce::Reduce,
        Requantize => requantize::Requantize,
        Reshape => reshape::Reshape,
        Resize => resize::Resize,
        ReverseSequence => reverse_sequence::ReverseSequence,
        Rnn => rnn::Rnn,
        RoiAlign => roi_align::RoiAlign,
        Scatter => scatter::Scatter,
        Shape => shape::Shape,
        Slice => slice::Slice,
        Softmax => softmax::Softmax,
        Split => split::Split,
        SquaredDistance => squared_distance::SquaredDistance,
        TensorScatter => tensor_scatter::TensorScatter,
        TfIdf => tf_idf::TfIdf,
        Tile => expand::Tile,
        TopK => topk::TopK,
        Transpose => transpose::Transpose,
        TreeSum => tree_sum::TreeSum,
        Trilu => trilu::Trilu,
        Unary => unary::Unary,
        Variadic => variadic::Variadic,
        Where => where_::Where,
    }
    internal {
        BinaryI8 => binary_i8::BinaryI8,
        Branch => branch::Branch,
        ByteTable => byte_table::ByteTable,
        Clear => clear::Clear,
        Custom => custom::Custom,
        Elementwise => elementwise::Elementwise,
        Loop => loop_::Loop,
        ProductI8 => product_i8::ProductI8,
        SoftmaxI8 => softmax_i8::SoftmaxI8,
    }
    composite {
        contrib_attention::ContribAttention,
        contrib_gelu::ContribGelu,
        contrib_moves::ContribMoves,
        gated::Gated,
        gather_block_quantized::GatherBlockQuantized,
        matmul_bnb4::MatMulBnb4,
        flex_attention::FlexAttention,
        affine_grid::AffineGrid,
        attention::Attention,
        causal_conv::CausalConv,
        center_crop_pad::CenterCropPad,
        col2im::Col2Im,
        cum_sum::Cumulative,
        compress::Compress,
        fourier::Dft,
        fourier::Stft,
        fused_product::FusedProduct,
        group_query_attention::GroupQueryAttention,
        linear_attention::LinearAttention,
        loss::Loss,
        max_unpool::MaxUnpool,
        ml_features::Features,
        ml_labels::Categories,
        ml_linear::Linear,
        ml_svm::Svm,
        non_max_suppression::Suppression,
        old_broadcast::OldBroadcast,
        dynamic_quantize::DynamicQuantizeLinear,
        dynamic_quantize_matmul::DynamicQuantizeMatMul,
        matmul_nbits::MatMulNBits,
        qattention::QAttention,
        cdist::CDist,
        qembed_norm::QEmbedNorm,
        qgemm::QGemm,
        qlinear_concat::QLinearConcat,
        qlinear_conv::QLinearConv,
        qlinear_elementwise::QLinearElementwise,
        qlinear_matmul::QLinearMatMul,
        qlinear_pool::QLinearPool,
        qlinear_softmax::QLinearSoftmax,
        random::Random,
        rotary_embedding::RotaryEmbedding,
        skip_norm::SkipNorm,
        swiglu::SwiGlu,
        tree_ensemble::TreeEnsemble,
        unique::Unique,
        window_function::WindowFunction,
    }
}

/// The compiler's graph.
pub type Graph = crate::ir::Graph<OpKind>;
/// A node of it.
pub type Node = crate::ir::Node<OpKind>;
/// A change of it.
pub type Patch<'g> = crate::ir::Patch<'g, OpKind>;

/// Everything edgec knows about one operator.
pub trait Op: Debug {
    /// Name for listings; the ONNX operator's where there is one.
    fn name(&self) -> &'static str;

    /// Types of the results from facts about the operands. Called in order, must not look at
    /// neighbours. Checks everything that `eval` and `lower` rely on.
    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError>;

    /// Results that follow from the operands' types alone, whatever their values (Shape, Size).
    fn known(&self, inputs: &Inputs<'_>) -> Option<Vec<Tensor>> {
        let _ = inputs;
        None
    }

    /// Which results have extents that only a run knows, where operands have (`along`, see [`Axes`]) or where
    /// the operator itself decides them. Called after `infer`. Operators that say nothing refuse such operands.
    fn lengths(&self, inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        let _ = inputs;
        length::none(along)
    }

    /// Reference semantics: plain loops, fixed order of summation, pure-Rust math; never fast, always
    /// right. Operands are of the types that `infer` accepted.
    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError>;

    /// Whether known operands should become known results. Not where the operands are much smaller, or
    /// where passes look for the operator itself.
    fn folds(&self) -> bool {
        true
    }

    /// The operator that does to positions in a table what this one does to texts, where it only moves elements and so
    /// the results' texts are the operands'; `None` where it looks at them. `operands` says which are texts.
    fn on_texts(&self, operands: &[Option<&[String]>]) -> Option<OpKind> {
        let _ = operands;
        None
    }

    /// Kernel steps for this operator.
    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError>;

    /// Which layouts its operands and results want.
    fn layout(&self) -> LayoutRule {
        LayoutRule::RowMajor
    }

    /// Multiply-accumulates of one execution.
    fn macs(&self, inputs: &[Option<Type>], outputs: &[Type]) -> u64 {
        let _ = (inputs, outputs);
        0
    }
}

/// How an operator takes part in the choice of layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutRule {
    /// Reads and writes row-major data.
    RowMajor,
    /// Spatial: operand 0 and result 0 want their axis 1 innermost (channels last).
    ChannelsLast,
    /// Works in any layout; the result takes that of its largest operand, or of its readers.
    Follow,
    /// Renames or regroups axes and may cost nothing (Transpose, Reshape, Slice, Split).
    View,
    /// Lays its operands one behind another along an axis of result 0 (Concat). Follows layouts;
    /// operands are produced in their part of the result where they can be, and `LowerCx::copy`
    /// between an operand and its part is then no code.
    Join {
        /// Axis; negative counts from the end.
        axis: i64,
    },
}

/// The ONNX names that import as an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnnxName {
    /// Operator set's domain; empty for ONNX's own.
    pub domain: &'static str,
    /// Operator type.
    pub op_type: &'static str,
    /// First version of the operator set (`since_version`) whose definition is implemented.
    pub since: i64,
}

impl OnnxName {
    /// An operator of ONNX's own domain.
    pub const fn onnx(op_type: &'static str, since: i64) -> Self {
        OnnxName { domain: "", op_type, since }
    }
}

/// The ONNX side; operators that exist only inside the compiler do not implement it.
pub trait OnnxOp: Sized {
    /// What imports as this.
    const NAMES: &'static [OnnxName];

    /// From a node's attributes. `node` tells operator type, opset and operand counts. Attributes
    /// that are not read make the import fail.
    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError>;
}
