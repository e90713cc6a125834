//! ONNX files: messages, attributes, node views, textual syntax. Leaf module.

mod attr;
mod external;
mod npy;
pub mod proto;
mod scan;
mod tensor;
pub mod text;
mod types;

pub use attr::{Attr, AttrError, AttrReader, NodeView};
pub use external::ExternalData;
pub use npy::{read_npy, write_npy};
pub use scan::ScanError;
pub use tensor::{
    DataError, MAX_RANK, MAX_TENSOR_BYTES, decode_sparse, decode_tensor, encode_tensor, read_tensor_pb,
    tensor_type,
};
pub use types::{code_of_dtype, dtype_from_code};

use prost::Message;
use prost::bytes::Bytes;
use std::fmt;

/// Why a file is no model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// Refused before decoding.
    Scan(ScanError),
    /// Not a `ModelProto`.
    Message(String),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Scan(e) => e.fmt(f),
            DecodeError::Message(e) => f.write_str(e),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The model in a file's bytes; payloads share them.
pub fn decode_model(bytes: Bytes) -> Result<proto::ModelProto, DecodeError> {
    scan::scan_model(&bytes).map_err(DecodeError::Scan)?;
    proto::ModelProto::decode(bytes).map_err(|e| DecodeError::Message(e.to_string()))
}
