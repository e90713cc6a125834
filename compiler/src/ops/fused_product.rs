//! `FusedConv`, `FusedMatMul` and `FusedGemm` of
//! [`com.microsoft`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md): what ONNX
//! Runtime's optimiser makes of products and what stands around them.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::{Body, Fact, Inputs, OnnxName, OpError};
use crate::ir::DType;
use crate::onnx::{AttrReader, NodeView};

/// Operands as those of Conv (and what is added to the result), MatMul and Gemm.
pub struct FusedProduct;

const fn ms(op_type: &'static str) -> OnnxName {
    OnnxName { domain: "com.microsoft", op_type, since: 1 }
}

impl Composite for FusedProduct {
    const NAMES: &'static [OnnxName] =
        &[ms("FusedConv"), ms("FusedMatMul"), ms("TransposeMatMul"), ms("FusedGemm")];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let dtype = inputs.required(0)?.dtype;
        expect_float(dtype)?;
        match node.op_type {
            "FusedConv" => conv(attrs, inputs, dtype),
            "FusedGemm" => gemm(attrs, inputs, dtype),
            _ => matmul(attrs, inputs, dtype),
        }
    }
}

/// `activation(Conv(x, w, b) + z)`.
fn conv(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>, dtype: DType) -> Result<Body, OpError> {
    let mut list = Vec::new();
    for name in ["dilations", "kernel_shape", "pads", "strides"] {
        if let Some(values) = attrs.ints(name)? {
            list.push(format!("{name} = {values:?}"));
        }
    }
    list.push(format!("group = {}", attrs.int_or("group", 1)?));
    match attrs.text("auto_pad")? {
        None => {}
        Some(pad @ ("NOTSET" | "SAME_UPPER" | "SAME_LOWER" | "VALID")) => {
            list.push(format!("auto_pad = \"{pad}\""));
        }
        Some(pad) => return Err(OpError::invalid(format!("attribute `auto_pad` is `{pad}`"))),
    }
    let mut s = Script::new(&["x", "w", "b", "z"]);
    let bias = if inputs.get(2).is_some() { "b" } else { "" };
    let mut y = s.op(&format!("Conv <{}>", list.join(", ")), &["x", "w", bias]);
    if inputs.get(3).is_some() {
        y = s.op("Add", &[&y, "z"]);
    }
    let name = attrs.text("activation")?.unwrap_or("");
    let params = attrs.floats("activation_params")?.unwrap_or_default();
    let y = activate(&mut s, &y, dtype, name, &params)?;
    s.finish(&[&y])
}

/// `alpha·A·B`, operands transposed as asked for.
fn matmul(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>, dtype: DType) -> Result<Body, OpError> {
    let mut s = Script::new(&["a", "b"]);
    let alpha = attrs.float_or("alpha", 1.0)?;
    let mut sides = Vec::new();
    for (i, (name, side)) in [("a", "A"), ("b", "B")].into_iter().enumerate() {
        let matrix = attrs.int_or(&format!("trans{side}"), 0)? != 0;
        let batch = attrs.int_or(&format!("transBatch{side}"), 0)? != 0;
        sides.push(turned(&mut s, name, &inputs.required(i)?, matrix, batch)?);
    }
    let operands: Vec<&str> = sides.iter().map(String::as_str).collect();
    let mut y = s.op("MatMul", &operands);
    if alpha != 1.0 {
        let alpha = s.scalar(dtype, alpha.into())?;
        y = s.op("Mul", &[&y, &alpha]);
    }
    s.finish(&[&y])
}

/// A matrix transposed in its last two axes, after its first axis went before the last one with `batch`.
/// Vectors stay as they are.
fn turned(s: &mut Script, name: &str, x: &Fact<'_>, matrix: bool, batch: bool) -> Result<String, OpError> {
    let rank = x.shape.rank();
    if rank < 2 || !(matrix || batch) {
        return Ok(name.to_owned());
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    if batch {
        if rank < 3 {
            return Err(OpError::invalid(format!("{} has no axis of batches", x.shape)));
        }
        if let Some(front) = perm.get_mut(..rank - 1) {
            front.rotate_left(1);
        }
    }
    if matrix {
        perm.swap(rank - 2, rank - 1);
    }
    Ok(s.op(&format!("Transpose <perm = {perm:?}>"), &[name]))
}

/// `activation(alpha·A·B + beta·C)`.
fn gemm(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>, dtype: DType) -> Result<Body, OpError> {
    let mut list = Vec::new();
    for name in ["alpha", "beta"] {
        list.push(format!("{name} = {:?}", attrs.float_or(name, 1.0)?));
    }
    for name in ["transA", "transB"] {
        list.push(format!("{name} = {}", attrs.int_or(name, 0)?));
    }
    let mut s = Script::new(&["a", "b", "c"]);
    let c = if inputs.get(2).is_some() { "c" } else { "" };
    let y = s.op(&format!("Gemm <{}>", list.join(", ")), &["a", "b", c]);
    let name = attrs.text("activation")?.unwrap_or("");
    let mut params = Vec::new();
    for param in ["activation_alpha", "activation_beta", "activation_gamma"] {
        // They are given from the first on.
        params.extend(attrs.float(param)?);
    }
    let y = activate(&mut s, &y, dtype, name, &params)?;
    s.finish(&[&y])
}

/// An activation by its name, with its parameters; ONNX's defaults for those that are missing.
fn activate(s: &mut Script, x: &str, dtype: DType, name: &str, params: &[f32]) -> Result<String, OpError> {
    let with = |names: &[&str]| {
        let list: Vec<String> = names.iter().zip(params).map(|(n, v)| format!("{n} = {v:?}")).collect();
        if list.is_empty() { name.to_owned() } else { format!("{name} <{}>", list.join(", ")) }
    };
    Ok(match name {
        "" => x.to_owned(),
        "Relu" | "Tanh" | "Sigmoid" | "Softplus" | "Softsign" | "HardSwish" => s.op(name, &[x]),
        "LeakyRelu" | "Elu" | "ThresholdedRelu" => s.op(&with(&["alpha"]), &[x]),
        "HardSigmoid" => s.op(&with(&["alpha", "beta"]), &[x]),
        "Clip" => {
            let &[low, high] = params else {
                return Err(OpError::invalid(format!("{} parameters of a Clip", params.len())));
            };
            let [low, high] = [s.scalar(dtype, low.into())?, s.scalar(dtype, high.into())?];
            s.op("Clip", &[x, &low, &high])
        }
        _ => return Err(OpError::unsupported(format!("the activation `{name}`"))),
    })
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use crate::ir::Tensor;

    /// Numbers that the generator of the expectations (ONNX Runtime's results) makes, too.
    fn data(shape: &[usize], step: usize) -> Tensor {
        Tensor::from_fn::<f32>(shape, |i| (i * step % 11) as f32 * 0.25 - 1.0)
    }

    #[test]
    fn convolutions_add_and_activate() {
        let (x, w) = (data(&[1, 1, 3, 3], 7), data(&[2, 1, 2, 2], 3));
        let (b, z) = (Tensor::vector(&[0.5f32, -0.5]), data(&[1, 2, 2, 2], 5));
        let y = |op: &str, b, z| {
            let op = format!("com.microsoft.FusedConv <{op}>");
            run(&op, &[Some(&x), Some(&w), b, z], 1).map(|mut y| y.swap_remove(0))
        };
        let relu = y("activation = \"Relu\"", Some(&b), None).unwrap();
        close(&relu, &[2.6875, 0.0, 0.0, 0.0, 2.125, 0.0, 0.0, 0.0]);
        let leaky = "activation = \"LeakyRelu\", activation_params = [0.1]";
        let leaky = y(leaky, Some(&b), Some(&z)).unwrap();
        close(&leaky, &[1.6875, -0.031_25, 1.3125, -0.068_75, 3.375, -0.168_75, 0.6875, -0.231_25]);
        let clip = y("activation = \"Clip\", activation_params = [-0.5, 0.5]", None, None).unwrap();
        close(&clip, &[0.5, -0.5, -0.5, -0.5, 0.5, -0.5, 0.1875, -0.5]);
        let hard = "activation = \"HardSigmoid\", activation_params = [0.2, 0.5]";
        let hard = y(hard, None, None).unwrap();
        close(&hard, &[0.9375, 0.2875, 0.3625, 0.2625, 1.0, 0.3125, 0.5375, 0.2375]);
        assert!(y("activation = \"Clip\"", None, None).is_err());
        assert!(y("activation = \"Mystery\"", None, None).is_err());
    }

    #[test]
    fn matrices_turn_before_they_are_multiplied() {
        let y = |op: &str, a: &[usize], b: &[usize]| {
            let (a, b) = (data(a, 7), data(b, 5));
            let y = run(&format!("com.microsoft.FusedMatMul <{op}>"), &[Some(&a), Some(&b)], 1);
            y.map(|mut y| y.swap_remove(0))
        };
        close(
            &y("alpha = 0.5, transA = 1, transB = 1", &[2, 4, 3], &[2, 2, 4]).unwrap(),
            &[
                1.625, -0.4375, -0.125, 0.531_25, -0.5, -0.218_75, 0.156_25, 0.468_75, 0.406_25, -1.031_25,
                -0.031_25, 1.593_75,
            ],
        );
        close(
            &y("transBatchA = 1", &[3, 2, 4], &[2, 4, 2]).unwrap(),
            &[3.3125, -0.9375, 1.25, 0.3125, 1.9375, 0.1875, 0.4375, 2.3125, 0.8125, 2.5625, 0.5, -1.3125],
        );
        close(
            &y("transBatchA = 1, transA = 1", &[4, 2, 3], &[2, 4, 2]).unwrap(),
            &[4.0625, -0.5625, -1.4375, 0.625, 2.0, -0.9375, 1.75, -1.375, 0.25, -2.375, -0.5625, 4.1875],
        );
        close(
            &y("transBatchB = 1", &[2, 3, 4], &[4, 2, 2]).unwrap(),
            &[2.125, 2.0, -0.125, -0.3125, 1.75, -1.9375, 1.625, -0.75, 0.625, -1.8125, 1.0, 1.9375],
        );
        assert!(y("transBatchA = 1", &[3, 4], &[4, 2]).is_err());
    }

    #[test]
    fn products_activate() {
        let (a, b, c) = (data(&[2, 3], 7), data(&[3, 2], 5), Tensor::vector(&[1.0f32, -1.0]));
        let y = |op: &str| {
            let op = format!("com.microsoft.FusedGemm <{op}>");
            run(&op, &[Some(&a), Some(&b), Some(&c)], 1).unwrap().swap_remove(0)
        };
        close(&y("activation = \"Relu\", alpha = 0.5, beta = 2.0"), &[2.906_25, 0.0, 1.3125, 0.0]);
        let leaky = "activation = \"LeakyRelu\", activation_alpha = 0.1";
        close(&y(leaky), &[2.8125, -0.118_75, -0.0375, -0.05]);
    }
}
