//! [MelWeightMatrix](https://onnx.ai/onnx/operators/onnx__MelWeightMatrix.html): triangles that gather the bins of a spectrum into
//! bands, evenly spaced on the mel scale. Computed in `f64`.
//!
//! The numbers of bands and of the transform's elements are the result's shape and must be known at compile time; with all
//! operands known the matrix is a constant.

use super::cast::dtype_of;
use super::nest::{read_as, scratch};
use super::typed::{cast, compute_dtype, expect, floats, from_floats, is_number};
use super::walk::{checked_type, extent, operand};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::Expr;
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;
use edgec_runtime::math::double;

/// Operands, all scalars: bands, elements of the transform, samples per second (integers); lower and upper edge in hertz
/// (floats). The result is `[elements / 2 + 1, bands]`. Parts of triangles beyond the spectrum are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct MelWeights {
    /// Type of the result.
    pub dtype: DType,
}

impl OnnxOp for MelWeights {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("MelWeightMatrix", 17)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let code = attrs.int_or("output_datatype", 1)?;
        let dtype = dtype_of(code).ok_or_else(|| OpError::invalid(format!("`output_datatype` is {code}")))?;
        expect(is_number(dtype), dtype)?;
        Ok(MelWeights { dtype }.into())
    }
}

/// Elements of the transform, and bins and bands of the matrix.
fn extents(bands: Option<i64>, length: Option<i64>) -> Result<[usize; 3], OpError> {
    let missing = || OpError::invalid("`num_mel_bins` or `dft_length` is no scalar");
    let (bands, length) = (extent(bands.ok_or_else(missing)?)?, extent(length.ok_or_else(missing)?)?);
    Ok([length, length / 2 + 1, bands])
}

impl Op for MelWeights {
    fn name(&self) -> &'static str {
        "MelWeightMatrix"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        for i in 0..5 {
            let x = inputs.required(i)?;
            expect(if i < 3 { x.dtype.is_int() } else { x.dtype.is_float() }, x.dtype)?;
            if x.shape.elements() != 1 {
                return Err(OpError::invalid(format!("operand {i} of shape {} is no scalar", x.shape)));
            }
        }
        let known = |i, what| inputs.known_ints(i, what).map(|v| v.and_then(|v| v.first().copied()));
        let [_, bins, bands] = extents(known(0, "num_mel_bins")?, known(1, "dft_length")?)?;
        Ok(vec![checked_type(self.dtype, [bins, bands])?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let int = |i| Ok::<_, OpError>(operand(inputs, i)?.to_i64_vec().and_then(|v| v.first().copied()));
        let float = |i| Ok::<_, OpError>(floats(operand(inputs, i)?)?.first().copied().unwrap_or(0.0));
        let [length, bins, bands] = extents(int(0)?, int(1)?)?;
        let shape = checked_type(self.dtype, [bins, bands])?.shape;
        let rate = int(2)?.unwrap_or(1) as f64;
        let mel = |hertz: f64| double::ln1p(hertz / 700.0);
        let (low, high) = (mel(float(3)?), mel(float(4)?));
        let step = (high - low) / (bands as f64 + 2.0);
        // The bin in which a triangle's corner lies.
        let corner = |i: usize| {
            let hertz = 700.0 * double::expm1(low + i as f64 * step);
            ((length as f64 + 1.0) * hertz / rate).floor() as i64 as f64
        };
        let mut y = vec![0.0; bins * bands];
        for band in 0..bands {
            let (left, center, right) = (corner(band), corner(band + 1), corner(band + 2));
            for bin in 0..bins {
                let place = bin as f64;
                y[bin * bands + band] = if place >= center && place < right {
                    (right - place) / (right - center)
                } else if place == center {
                    1.0
                } else if place >= left && place < center {
                    (place - left) / (center - left)
                } else {
                    0.0
                };
            }
        }
        Ok(vec![from_floats(self.dtype, shape, y)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let known = |cx: &LowerCx<'_>, i| {
            cx.constant(i).and_then(|t| t.to_i64_vec()).and_then(|v| v.first().copied())
        };
        let [length, bins, bands] = extents(known(cx, 0), known(cx, 1))?;
        let y = scratch(cx, "triangles", DType::F64, &[bins, bands])?;
        let mut reads = Vec::new();
        for i in 2..5 {
            reads.push(read_as(cx, i, DType::F64)?.operand);
        }
        cx.push(Kernel::Routine(Routine {
            function: "mel::weights",
            reads,
            writes: vec![y.operand],
            params: [length, bins, bands].map(Param::Usize).to_vec(),
            fallible: false,
        }));
        let out = cx.write(0)?;
        cx.elementwise(&out, &[y], cast(DType::F64, compute_dtype(self.dtype), Expr::Read(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};
    use crate::ir::Tensor;
    use crate::onnx::Attr;

    #[test]
    fn triangles() {
        let run = |bands: i64, length: i64, attrs: &[(&str, Attr)]| {
            let [bands, length, rate] = [bands, length, 8192].map(Tensor::scalar);
            let (low, high) = (Tensor::scalar(0f32), Tensor::scalar(4096f32));
            apply("MelWeightMatrix", 17, attrs, &[&bands, &length, &rate, &low, &high])
        };
        // As numpy computes ONNX's formula.
        let y = run(2, 8, &[]).unwrap();
        assert_eq!(y, f32s(&[5, 2], &[1., 0., 0., 1., 0., 0., 0., 0., 0., 0.]));
        let mut expected = vec![0f32; 51];
        for (bin, band, weight) in [
            (1, 0, 1.),
            (2, 0, 0.5),
            (2, 1, 0.5),
            (3, 1, 1.),
            (4, 1, 2. / 3.),
            (4, 2, 1. / 3.),
            (5, 1, 1. / 3.),
            (5, 2, 2. / 3.),
            (6, 2, 1.),
            (7, 2, 0.75),
            (8, 2, 0.5),
            (9, 2, 0.25),
        ] {
            expected[bin * 3 + band] = weight;
        }
        assert_eq!(run(3, 32, &[]).unwrap(), f32s(&[17, 3], &expected));
        assert_eq!(run(2, 8, &[("output_datatype", Attr::Int(7))]).unwrap().dtype(), crate::ir::DType::I64);
        assert!(run(-1, 8, &[]).is_err());
        assert!(run(1 << 40, 1 << 40, &[]).is_err(), "too large");
    }
}
