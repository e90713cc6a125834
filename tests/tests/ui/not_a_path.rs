edgec_macros::include_model!(42);

fn main() {}
