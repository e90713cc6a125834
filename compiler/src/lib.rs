//! Ahead-of-time compiler from ONNX models to Rust crates.
//!
//! ```text
//! model.onnx ─frontend─▶ Graph ─passes─▶ Graph ─schedule─▶ Steps ─memory─▶ Plan ─emit─▶ crate
//! ```

#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod diag;
pub mod edges;
pub mod emit;
pub mod frontend;
pub mod interp;
pub mod ir;
pub mod kernel;
pub mod memory;
pub mod onnx;
pub mod ops;
pub mod passes;
pub mod pipeline;
pub mod quant;
pub mod report;
pub mod schedule;
pub mod state;

pub use config::{Config, ModelConfig, parse_levels};
pub use edgec_runtime::Level;
pub use edges::Io;
