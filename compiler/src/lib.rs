//! Ahead-of-time compiler from ONNX models to Rust crates.
//!
//! ```text
//! model.onnx ─frontend─▶ Graph ─passes─▶ Graph ─schedule─▶ Steps ─memory─▶ Plan ─emit─▶ crate
//! ```

pub mod diag;
pub mod emit;
pub mod frontend;
pub mod ir;
pub mod kernel;
pub mod memory;
pub mod onnx;
pub mod ops;
pub mod schedule;
