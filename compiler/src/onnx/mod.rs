//! ONNX files: messages, attributes, node views, textual syntax. Leaf module.

mod attr;

pub use attr::{Attr, AttrError, AttrReader, NodeView};
