edgec_macros::include_model!("no/such/model.onnx");

fn main() {}
