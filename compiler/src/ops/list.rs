//! What the list of operators in [`super`] becomes.

use super::{OnnxName, OpError, OpKind};
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
            $($variant($module::$type),)*
            $($ivariant($imodule::$itype),)*
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

        $(impl From<$module::$type> for OpKind {
            fn from(op: $module::$type) -> Self {
                OpKind::$variant(op)
            }
        })*
        $(impl From<$imodule::$itype> for OpKind {
            fn from(op: $imodule::$itype) -> Self {
                OpKind::$ivariant(op)
            }
        })*

        /// Every importable ONNX operator, sorted by domain, name and version.
        pub fn importers() -> Vec<Importer> {
            let mut list = Vec::new();
            $(for &name in <$module::$type as OnnxOp>::NAMES {
                list.push(Importer { name, import: <$module::$type as OnnxOp>::import });
            })*
            list.sort_by_key(|i| (i.name.domain, i.name.op_type, i.name.since));
            list
        }
    };
}

pub(super) use define_ops;
