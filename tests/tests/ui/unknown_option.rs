edgec_macros::include_model!("model.onnx", levels = "scalar");

fn main() {}
