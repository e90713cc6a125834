//! Ahead-of-time compiler from ONNX models to Rust crates.
