//! [MaxUnpool](https://onnx.ai/onnx/operators/onnx__MaxUnpool.html): values put back where MaxPool found them,
//! zeros elsewhere.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::typed::expect;
use super::walk::{checked_type, extent};
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::DType;
use crate::onnx::{AttrReader, NodeView};

/// Operands: the values; their positions in the flattened result; the result's shape (optional, known at
/// compile time), where it is larger than what the window's attributes give.
pub struct MaxUnpool;

impl Composite for MaxUnpool {
    const NAMES: &'static [OnnxName] =
        &[OnnxName::onnx("MaxUnpool", 9), OnnxName::onnx("MaxUnpool", 11), OnnxName::onnx("MaxUnpool", 22)];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let (x, at) = (inputs.required(0)?, inputs.required(1)?);
        expect_float(x.dtype)?;
        expect(at.dtype == DType::I64, at.dtype)?;
        let kernel = AttrReader::required("kernel_shape", attrs.ints("kernel_shape")?)?;
        let spatial = kernel.len();
        let strides = attrs.ints("strides")?.unwrap_or_else(|| vec![1; spatial]);
        let pads = attrs.ints("pads")?.unwrap_or_else(|| vec![0; 2 * spatial]);
        let fits = x.shape == at.shape && x.shape.rank() == spatial + 2;
        if !fits || strides.len() != spatial || pads.len() != 2 * spatial {
            return Err(OpError::invalid(format!("values {}, positions {}", x.shape, at.shape)));
        }
        let mut shape: Vec<usize> = x.shape.iter().take(2).copied().collect();
        for (i, &d) in x.shape.iter().skip(2).enumerate() {
            let span = (d as i128 - 1) * i128::from(strides[i]) + i128::from(kernel[i])
                - i128::from(pads[i])
                - i128::from(pads[spatial + i]);
            shape.push(
                i64::try_from(span)
                    .map_err(|_| OpError::invalid("an extent out of range"))
                    .and_then(extent)?,
            );
        }
        let whole = checked_type(x.dtype, shape.clone())?.shape;
        let mut s = Script::new(&["x", "positions", "shape"]);
        let count = s.ints(&[whole.elements() as i64]);
        let zero = s.scalar(x.dtype, 0.0)?;
        let empty = s.op("Expand", &[&zero, &count]);
        let [values, places] = ["x", "positions"].map(|v| s.reshape(v, &[x.shape.elements()]));
        let flat = s.op("ScatterElements <axis = 0>", &[&empty, &places, &values]);
        let mut y = s.reshape(&flat, &shape);
        if let Some(wanted) = inputs.known_ints(2, "output_shape")? {
            let wanted = wanted.into_iter().map(extent).collect::<Result<Vec<_>, _>>()?;
            if wanted.len() != shape.len() || wanted.iter().zip(&shape).any(|(w, d)| w < d) {
                return Err(OpError::invalid(format!("a result {wanted:?} smaller than {shape:?}")));
            }
            let mut pads = vec![0i64; shape.len()];
            pads.extend(wanted.iter().zip(&shape).map(|(w, d)| (w - d) as i64));
            let pads = s.ints(&pads);
            y = s.op("Pad", &[&y, &pads]);
        }
        s.finish(&[&y])
    }
}
