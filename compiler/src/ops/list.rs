//! The one list of operators.

use super::{OnnxName, OnnxOp, Op, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Reads the attributes of one ONNX operator.
#[derive(Debug, Clone, Copy)]
pub struct Importer {
    /// ONNX name and version.
    pub name: OnnxName,
    /// The import function.
    pub import: fn(&mut AttrReader<'_>, &NodeView<'_>) -> Result<OpKind, OpError>,
}

/// From one line per operator: the enum for passes to match on, the way to the trait, the importers.
/// `onnx` operators implement [`OnnxOp`]; `internal` ones exist only inside the compiler.
macro_rules! define_ops {
    (onnx { $($variant:ident => $module:ident::$type:ident,)* } internal { $($ivariant:ident => $imodule:ident::$itype:ident,)* }) => {
        /// Any operator.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)] // documented at each operator's struct
        pub enum OpKind {
            $($variant(super::$module::$type),)*
            $($ivariant(super::$imodule::$itype),)*
        }

        impl OpKind {
            /// The operator behind the enum.
            pub fn as_op(&self) -> &dyn Op {
                match self {
                    $(OpKind::$variant(op) => op,)*
                    $(OpKind::$ivariant(op) => op,)*
                }
            }
        }

        $(impl From<super::$module::$type> for OpKind {
            fn from(op: super::$module::$type) -> Self {
                OpKind::$variant(op)
            }
        })*
        $(impl From<super::$imodule::$itype> for OpKind {
            fn from(op: super::$imodule::$itype) -> Self {
                OpKind::$ivariant(op)
            }
        })*

        /// Every importable ONNX operator, sorted by domain, name and version.
        pub fn importers() -> Vec<Importer> {
            let mut list = Vec::new();
            $(for &name in <super::$module::$type as OnnxOp>::NAMES {
                list.push(Importer { name, import: <super::$module::$type as OnnxOp>::import });
            })*
            list.sort_by_key(|i| (i.name.domain, i.name.op_type, i.name.since));
            list
        }
    };
}

define_ops! {
    onnx {
        Arg => arg::Arg,
        AxisNorm => axis_norm::AxisNorm,
        BatchNorm => batch_norm::BatchNorm,
        Binary => binary::Binary,
        BlockMove => space::BlockMove,
        Cast => cast::Cast,
        Clip => clip::Clip,
        Concat => concat::Concat,
        ConstantOfShape => fill::ConstantOfShape,
        Conv => conv::Conv,
        ConvTranspose => conv_transpose::ConvTranspose,
        CumSum => cum_sum::CumSum,
        Dropout => dropout::Dropout,
        Einsum => einsum::Einsum,
        Expand => expand::Expand,
        EyeLike => fill::EyeLike,
        Gather => gather::Gather,
        Gemm => gemm::Gemm,
        GroupNorm => group_norm::GroupNorm,
        Identity => identity::Identity,
        LayerNorm => layer_norm::LayerNorm,
        Lrn => lrn::Lrn,
        MatMul => matmul::MatMul,
        OneHot => one_hot::OneHot,
        Pad => pad::Pad,
        Pool => pool::Pool,
        Range => fill::Range,
        Reduce => reduce::Reduce,
        Reshape => reshape::Reshape,
        Resize => resize::Resize,
        Shape => shape::Shape,
        Slice => slice::Slice,
        Softmax => softmax::Softmax,
        Split => split::Split,
        Tile => expand::Tile,
        TopK => topk::TopK,
        Transpose => transpose::Transpose,
        Trilu => trilu::Trilu,
        Unary => unary::Unary,
        Variadic => variadic::Variadic,
        Where => where_::Where,
    }
    internal {
    }
}
