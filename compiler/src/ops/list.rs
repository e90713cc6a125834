//! What the list of operators in [`super`] becomes.

use super::{Body, Inputs, OnnxName, OpError, OpKind};
use crate::onnx::{AttrReader, NodeView};

/// Reads the attributes of one ONNX operator.
#[derive(Debug, Clone, Copy)]
pub struct Importer {
    /// ONNX name and version.
    pub name: OnnxName,
    /// Whether operands of a body may be texts.
    pub texts: bool,
    /// The import function.
    pub import: Import,
}

/// What a node becomes.
#[derive(Debug, Clone, Copy)]
pub enum Import {
    /// One operator of the graph.
    Op(fn(&mut AttrReader<'_>, &NodeView<'_>) -> Result<OpKind, OpError>),
    /// Several, by a body.
    Body(fn(&mut AttrReader<'_>, &NodeView<'_>, &Inputs<'_>) -> Result<Body, OpError>),
}

impl Importer {
    /// The operator of a node; composites have none.
    pub fn op(&self, attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        match self.import {
            Import::Op(import) => import(attrs, node),
            Import::Body(_) => Err(OpError::internal("a composite is no operator of the graph")),
        }
    }
}

/// From one line per operator: the enum for passes to match on, the way to the trait, the importers.
/// `onnx` operators implement [`OnnxOp`]; `internal` ones exist only inside the compiler; `composite` ones
/// implement [`Composite`] and become other operators while the file is read.
macro_rules! define_ops {
    (onnx { $($variant:ident => $module:ident::$type:ident,)* } internal { $($ivariant:ident => $imodule:ident::$itype:ident,)* } composite { $($cmodule:ident::$ctype:ident,)* }) => {
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
                list.push(Importer { name, texts: false, import: Import::Op(<$module::$type as OnnxOp>::import) });
            })*
            $(for &name in <$cmodule::$ctype as Composite>::NAMES {
                let texts = <$cmodule::$ctype as Composite>::TEXTS;
                list.push(Importer { name, texts, import: Import::Body(<$cmodule::$ctype as Composite>::body) });
            })*
            list.sort_by_key(|i| (i.name.domain, i.name.op_type, i.name.since));
            list
        }
    };
}

pub(super) use define_ops;
