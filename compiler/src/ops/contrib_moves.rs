//! Forms of ONNX's operators that [`com.microsoft`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md)
//! had first: `ExpandDims`, `GatherND`, `GridSample`, `MatMulInteger16`, `NhwcMaxPool`, `Pad`, `Range`, and `UnfoldTensor`.

use super::composite::{Composite, Script};
use super::qlinear_conv::window;
use super::typed::from_ints;
use super::walk::axis;
use super::{Body, Fact, Inputs, OnnxName, OpError};
use crate::ir::{DType, Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};

/// Operands are those of ONNX's operator of that name, but for `ExpandDims` (`x`, and the axis of the new extent),
/// `NhwcMaxPool` (`x`, channels last) and `UnfoldTensor` (`x`).
pub struct ContribMoves;

const fn ms(op_type: &'static str) -> OnnxName {
    OnnxName { domain: "com.microsoft", op_type, since: 1 }
}

impl Composite for ContribMoves {
    const NAMES: &'static [OnnxName] = &[
        ms("ExpandDims"),
        ms("GatherND"),
        ms("GridSample"),
        ms("MatMulInteger16"),
        ms("NhwcMaxPool"),
        ms("Pad"),
        ms("Range"),
        ms("UnfoldTensor"),
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let x = inputs.required(0)?;
        let mut s = Script::new(&["x", "a", "b"]);
        let y = match node.op_type {
            "ExpandDims" => {
                let at = inputs.known_ints(1, "axis")?.unwrap_or_default();
                let at = s.ints(&at);
                s.op("Unsqueeze", &["x", &at])
            }
            "GatherND" => {
                let at = s.cast("a", DType::I64);
                s.op("GatherND", &["x", &at])
            }
            "GridSample" => {
                let mode = match attrs.text("mode")?.unwrap_or("bilinear") {
                    "bilinear" => "linear",
                    "bicubic" => "cubic",
                    "nearest" => "nearest",
                    other => return Err(OpError::invalid(format!("attribute `mode` is `{other}`"))),
                };
                let pad = match attrs.text("padding_mode")?.unwrap_or("zeros") {
                    pad @ ("zeros" | "border" | "reflection") => pad,
                    other => return Err(OpError::invalid(format!("attribute `padding_mode` is `{other}`"))),
                };
                let corners = attrs.int_or("align_corners", 0)?;
                let op = format!(
                    "GridSample <align_corners = {corners}, mode = {mode:?}, padding_mode = {pad:?}>"
                );
                s.op(&op, &["x", "a"])
            }
            "MatMulInteger16" => {
                let signed = |x: &Fact<'_>| match x.dtype {
                    DType::I16 => Ok(true),
                    DType::U16 => Ok(false),
                    other => Err(OpError::invalid(format!("operand type {other} is not allowed here"))),
                };
                let wide = match signed(&x)? || signed(&inputs.required(1)?)? {
                    true => DType::I32,
                    false => DType::U32,
                };
                let [a, b] = ["x", "a"].map(|name| s.cast(name, wide));
                s.op("MatMul", &[&a, &b])
            }
            "NhwcMaxPool" => {
                let rank = x.shape.rank();
                let op =
                    format!("MaxPool <{}, ceil_mode = {}>", window(attrs)?, attrs.int_or("ceil_mode", 0)?);
                let planar = s.channels_first("x", rank);
                let y = s.op(&op, &[&planar]);
                s.channels_last(&y, rank)
            }
            "Pad" => {
                let mode = match attrs.text("mode")?.unwrap_or("constant") {
                    mode @ ("constant" | "reflect" | "edge") => mode,
                    other => return Err(OpError::invalid(format!("attribute `mode` is `{other}`"))),
                };
                let pads = inputs.known_ints(1, "pads")?.unwrap_or_default();
                let pads = s.ints(&pads);
                let value = match inputs.get(2) {
                    Some(_) => s.reshape("b", &[]),
                    None => String::new(),
                };
                s.op(&format!("Pad <mode = {mode:?}>"), &["x", &pads, &value])
            }
            "Range" => {
                let [from, to] = ["x", "a"].map(|name| s.reshape(name, &[]));
                let step = match inputs.get(2) {
                    Some(_) => s.reshape("b", &[]),
                    None => {
                        let one = s.tensor(Tensor::scalar(1i64));
                        s.cast(&one, x.dtype)
                    }
                };
                s.op("Range", &[&from, &to, &step])
            }
            _ => unfold(&mut s, attrs, &x)?,
        };
        s.finish(&[&y])
    }
}

/// All slices of a length along an axis, each as a last axis.
fn unfold(s: &mut Script, attrs: &mut AttrReader<'_>, x: &Fact<'_>) -> Result<String, OpError> {
    let positive = |name: &str, value: Option<i64>| {
        let value = AttrReader::required(name, value)?;
        let n = usize::try_from(value).ok().filter(|&n| n > 0);
        n.ok_or_else(|| OpError::invalid(format!("attribute `{name}` is {value}")))
    };
    let size = positive("size", attrs.int("size")?)?;
    let step = positive("step", Some(attrs.int_or("step", 1)?))?;
    let rank = x.shape.rank();
    let at = axis(attrs.int_or("dim", -1)?, rank)?;
    let extent = x.shape.get(at).copied().unwrap_or(0);
    let count = extent.checked_sub(size).map(|rest| rest / step + 1);
    let count = count.ok_or_else(|| OpError::invalid(format!("slices of {size} of {extent} elements")))?;
    if count.checked_mul(size).is_none_or(|n| n > 1 << 24) {
        return Err(OpError::Limit(format!("{count} slices of {size} elements")));
    }
    let places = (0..count).flat_map(|i| (0..size).map(move |j| (i * step + j) as i128));
    let places = s.tensor(from_ints(DType::I64, Shape::from([count, size]), places)?);
    let y = s.op(&format!("Gather <axis = {at}>"), &["x", &places]);
    let order: Vec<usize> = (0..=rank).filter(|&a| a != at + 1).chain([at + 1]).collect();
    Ok(s.op(&format!("Transpose <perm = {order:?}>"), &[&y]))
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{run, run_text};
    use super::super::testing::{f32s, i64s};
    use crate::ir::Tensor;

    // Expectations are ONNX Runtime's.

    #[test]
    fn shapes_and_indices() {
        let x = f32s(&[2, 2], &[1., 2., 3., 4.]);
        let at = Tensor::new([2, 1], vec![1i32, 0]).unwrap();
        assert_eq!(
            run("com.microsoft.GatherND", &[Some(&x), Some(&at)], 1).unwrap()[0],
            f32s(&[2, 2], &[3., 4., 1., 2.])
        );
        let y = run_text(
            "g () => (y) <float[2] x = {1.0, 2.0}, int32 a = {-1}> { y = com.microsoft.ExpandDims (x, a) }",
        );
        assert_eq!(y.unwrap()[0], f32s(&[2, 1], &[1., 2.]));
        let y =
            run_text("g () => (y) <float[1] a = {1.0}, float b = {4.0}> { y = com.microsoft.Range (a, b) }");
        assert_eq!(y.unwrap()[0], f32s(&[3], &[1., 2., 3.]));
        let y = run_text(
            "g () => (y) <float[2] x = {1.0, 2.0}, int64[2] p = {1, 0}, float[1] v = {7.0}> { y = com.microsoft.Pad (x, p, v) }",
        );
        assert_eq!(y.unwrap()[0], f32s(&[3], &[7., 1., 2.]));
    }

    #[test]
    fn slices_side_by_side() {
        let x = i64s(&[2, 4], &[0, 1, 2, 3, 4, 5, 6, 7]);
        let y = run("com.microsoft.UnfoldTensor <size = 2, step = 2>", &[Some(&x)], 1).unwrap();
        assert_eq!(y[0], i64s(&[2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]));
        let y = run("com.microsoft.UnfoldTensor <size = 2, dim = 0>", &[Some(&x)], 1).unwrap();
        assert_eq!(y[0], i64s(&[1, 4, 2], &[0, 4, 1, 5, 2, 6, 3, 7]));
        assert!(run("com.microsoft.UnfoldTensor <size = 5>", &[Some(&x)], 1).is_err());
    }

    #[test]
    fn products_pools_and_grids() {
        let a = Tensor::new([1, 2], vec![-300i16, 200]).unwrap();
        let b = Tensor::new([2, 1], vec![400i16, -500]).unwrap();
        let y = run("com.microsoft.MatMulInteger16", &[Some(&a), Some(&b)], 1).unwrap();
        assert_eq!(y[0], Tensor::new([1, 1], vec![-220_000i32]).unwrap());
        let x = Tensor::new([1, 2, 2, 2], vec![1u8, 2, 3, 4, 5, 6, 7, 1]).unwrap();
        let y = run("com.microsoft.NhwcMaxPool <kernel_shape = [2, 2]>", &[Some(&x)], 1).unwrap();
        assert_eq!(y[0], Tensor::new([1, 1, 1, 2], vec![7u8, 6]).unwrap());
        let x = f32s(&[1, 1, 2, 2], &[1., 2., 3., 4.]);
        let grid = f32s(&[1, 1, 2, 2], &[0., 0., -0.5, -0.5]);
        let y = run("com.microsoft.GridSample <align_corners = 1>", &[Some(&x), Some(&grid)], 1).unwrap();
        assert_eq!(y[0], f32s(&[1, 1, 1, 2], &[2.5, 1.75]));
    }
}
