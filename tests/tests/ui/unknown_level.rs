edgec_macros::include_model!("model.onnx", level = "sse9");

fn main() {}
