//! The compiler's graph: SSA values with static shapes, nodes in execution order.
//!
//! Leaf module: knows nothing of files, kernels or passes. Everything is static once a model is
//! imported; a value that is known at compile time carries its tensor.

mod dtype;
mod element;
mod graph;
mod patch;
mod print;
mod quantized;
mod shape;
mod table;
mod tensor;
pub mod verify;

pub use dtype::DType;
pub use element::{Element, F4E2M1, F8E4M3, F8E4M3Uz, F8E5M2, F8E5M2Uz, F8E8M0, I2, I4, U2, U4};
pub use graph::{Graph, Node, NodeId, Origin, OutputLength, Value, ValueId};
pub use half::{bf16, f16};
pub use patch::Patch;
pub use quantized::QuantParams;
pub use shape::{Shape, broadcast, normalize_axis};
pub use table::{Keys, Table, Texts};
pub(crate) use tensor::for_each_type;
pub use tensor::{Data, Tensor, TensorError};
