//! `include_model!`: compiles an ONNX model at the place of the macro.
