//! [MaxRoiPool](https://onnx.ai/onnx/operators/onnx__MaxRoiPool.html): regions of a feature map, the largest element of each bin.
//!
//! A region's corners are rounded to pixels, halves away from zero, and both count; its bins overlap where its extents are no
//! multiples of theirs. A bin without pixels is zero.

use super::nest::{finish_as, read_as, write_as};
use super::number::{expect_float, expect_same};
use super::typed::{floats, from_floats};
use super::walk::{checked_type, operand};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;
use std::ops::Range;

/// Operands: `x: [batch, channels, height, width]`, `rois: [rois, 5]` (image, x1, y1, x2, y2). The result is
/// `[rois, channels, rows, columns]`. Indices of images that do not exist are faults at run time.
#[derive(Debug, Clone, PartialEq)]
pub struct MaxRoiPool {
    /// Rows and columns of the result.
    pub output: [usize; 2],
    /// Pixels of `x` per unit of `rois`.
    pub scale: f32,
}

impl OnnxOp for MaxRoiPool {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("MaxRoiPool", 1), OnnxName::onnx("MaxRoiPool", 22)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let extents = AttrReader::required("pooled_shape", attrs.ints("pooled_shape")?)?;
        let extent = |&n: &i64| usize::try_from(n).ok().filter(|n| (1..=1 << 16).contains(n));
        let output = match extents.iter().map(extent).collect::<Option<Vec<usize>>>().as_deref() {
            Some(&[rows, columns]) => [rows, columns],
            _ => return Err(OpError::invalid(format!("attribute `pooled_shape` is {extents:?}"))),
        };
        Ok(MaxRoiPool { output, scale: attrs.float_or("spatial_scale", 1.0)? }.into())
    }
}

impl MaxRoiPool {
    fn shape(&self, x: &[usize], rois: &[usize]) -> Result<Vec<usize>, OpError> {
        match (x, rois) {
            (&[_, channels, h, w], &[n, 5]) if h > 0 && w > 0 => {
                Ok(vec![n, channels, self.output[0], self.output[1]])
            }
            _ => Err(OpError::invalid(format!(
                "data {x:?} and regions {rois:?}, expected [N, C, H, W] and [n, 5]"
            ))),
        }
    }

    /// The pixels of each bin along an axis of a region from one corner to the other.
    fn bins(&self, from: f64, to: f64, bins: usize, extent: usize) -> Vec<Range<usize>> {
        let pixel = |v: f64| i128::from((v * f64::from(self.scale)).round() as i64);
        let (from, to) = (pixel(from), pixel(to));
        let (size, bins) = ((to - from + 1).clamp(1, 1 << 40), bins as i128);
        let inside = |place: i128| (from + place).clamp(0, extent as i128) as usize;
        (0..bins).map(|b| inside(b * size / bins)..inside(((b + 1) * size + bins - 1) / bins)).collect()
    }
}

impl Op for MaxRoiPool {
    fn name(&self) -> &'static str {
        "MaxRoiPool"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, rois) = (inputs.required(0)?, inputs.required(1)?);
        expect_float(x.dtype)?;
        expect_same(x.dtype, rois.dtype, "rois")?;
        Ok(vec![checked_type(x.dtype, self.shape(x.shape, rois.shape)?)?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, rois) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let shape = self.shape(x.shape(), rois.shape())?;
        let &[batch, channels, height, width] = x.shape().dims() else {
            return Err(OpError::internal("data of another rank"));
        };
        let values = floats(x)?;
        let mut y = Vec::new();
        for roi in floats(rois)?.chunks_exact(5) {
            if !(0.0..batch as f64).contains(&roi[0]) {
                return Err(OpError::invalid(format!("image {} of {batch}", roi[0])));
            }
            let rows = self.bins(roi[2], roi[4], self.output[0], height);
            let columns = self.bins(roi[1], roi[3], self.output[1], width);
            for plane in values.chunks_exact(height * width).skip(roi[0] as usize * channels).take(channels) {
                for row in &rows {
                    for column in &columns {
                        let line = |v: usize| plane.get(v * width..(v + 1) * width)?.get(column.clone());
                        let pixels = row.clone().filter_map(line).flatten().copied();
                        y.push(pixels.reduce(|a, b| if a > b { a } else { b }).unwrap_or(0.0));
                    }
                }
            }
        }
        Ok(vec![from_floats(x.dtype(), shape, y)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let Some((own, &[batch, channels, height, width])) = cx.input_type(0).map(|(t, s)| (t, s.dims()))
        else {
            return Err(OpError::internal("data of another rank"));
        };
        let count = cx.input_type(1).and_then(|(_, s)| s.first().copied()).unwrap_or(0);
        if batch * channels * count == 0 {
            return cx.write(0).map(|_| ());
        }
        let dtype = if own == DType::F64 { DType::F64 } else { DType::F32 };
        let (x, rois) = (read_as(cx, 0, dtype)?, read_as(cx, 1, dtype)?);
        let y = write_as(cx, 0, dtype)?;
        let extents = [batch, channels, height, width, self.output[0], self.output[1]];
        cx.push(Kernel::Routine(Routine {
            function: "regions::max_roi_pool",
            reads: vec![x.operand, rois.operand],
            writes: vec![y.operand],
            params: extents.map(Param::Usize).into_iter().chain([Param::F32(self.scale)]).collect(),
            fallible: true,
        }));
        finish_as(cx, 0, y)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};
    use crate::onnx::Attr;

    #[test]
    fn bins_of_regions() {
        let x = f32s(&[1, 1, 4, 4], &std::array::from_fn::<f32, 16, _>(|i| i as f32));
        let two = [("pooled_shape", Attr::Ints(vec![2, 2]))];
        let run = |rois: &[f32]| apply("MaxRoiPool", 7, &two, &[&x, &f32s(&[1, 5], rois)]);
        assert_eq!(run(&[0., 0., 0., 3., 3.]).unwrap(), f32s(&[1, 1, 2, 2], &[5., 7., 13., 15.]));
        assert_eq!(run(&[0., 2., 2., 9., 9.]).unwrap(), f32s(&[1, 1, 2, 2], &[15., 0., 0., 0.]));
        assert!(run(&[0., f32::NAN, -1e30, f32::INFINITY, 1e30]).is_ok());
        assert!(run(&[1., 0., 0., 1., 1.]).is_err(), "no such image");
        let none = [("pooled_shape", Attr::Ints(vec![0, 2]))];
        assert!(apply("MaxRoiPool", 7, &none, &[&x, &f32s(&[1, 5], &[0.; 5])]).is_err());
    }
}
