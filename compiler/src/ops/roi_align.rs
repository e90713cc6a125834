//! [RoiAlign](https://onnx.ai/onnx/operators/onnx__RoiAlign.html): regions of a feature map, each resampled to the same
//! extents. Coordinates and sums are computed in `f64`.
//!
//! Of the samples that `sampling_ratio` 0 asks for, at most [`most`] are taken along an axis of a bin: regions far larger
//! than the image must not hold up a run.

use super::length::{Axes, of, unknown_length};
use super::nest::{finish_as, read_as, write_as};
use super::number::{expect_float, expect_same};
use super::typed::{expect, floats, from_floats, ints};
use super::walk::{checked_type, operand};
use super::{Inputs, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Operands: `x: [batch, channels, height, width]`, `rois: [rois, 4]` (x1, y1, x2, y2), `batch_indices: i64[rois]`. The result is
/// `[rois, channels, output_height, output_width]`. Indices of images that do not exist are faults at run time.
#[derive(Debug, Clone, PartialEq)]
pub struct RoiAlign {
    /// Takes the largest of the weighted samples, instead of their mean.
    pub max: bool,
    /// Coordinates are those of pixels' centers (`half_pixel`), not of their corners.
    pub half_pixel: bool,
    /// Output height and width.
    pub output: [usize; 2],
    /// Samples along an axis of a bin; 0: as many as the bin spans pixels.
    pub sampling: usize,
    /// Pixels of `x` per unit of `rois`.
    pub scale: f32,
}

impl OnnxOp for RoiAlign {
    const NAMES: &'static [OnnxName] =
        &[OnnxName::onnx("RoiAlign", 10), OnnxName::onnx("RoiAlign", 16), OnnxName::onnx("RoiAlign", 22)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let max = match attrs.text("mode")? {
            None | Some("avg") => false,
            Some("max") => true,
            Some(other) => return Err(OpError::invalid(format!("attribute `mode` is `{other}`"))),
        };
        // The first definition had no choice.
        let mode = if node.opset < 16 { None } else { attrs.text("coordinate_transformation_mode")? };
        let half_pixel = match mode {
            None => node.opset >= 16,
            Some("half_pixel") => true,
            Some("output_half_pixel") => false,
            Some(other) => {
                return Err(OpError::invalid(format!(
                    "attribute `coordinate_transformation_mode` is `{other}`"
                )));
            }
        };
        let extent = |name: &str, value: i64, least: i64| match usize::try_from(value) {
            Ok(n) if value >= least && n <= MOST_SAMPLES => Ok(n),
            _ => Err(OpError::invalid(format!("attribute `{name}` is {value}"))),
        };
        let output = [
            extent("output_height", attrs.int_or("output_height", 1)?, 1)?,
            extent("output_width", attrs.int_or("output_width", 1)?, 1)?,
        ];
        let sampling = extent("sampling_ratio", attrs.int_or("sampling_ratio", 0)?, 0)?;
        Ok(RoiAlign { max, half_pixel, output, sampling, scale: attrs.float_or("spatial_scale", 1.0)? }
            .into())
    }
}

/// Largest attribute accepted.
const MOST_SAMPLES: usize = 1 << 16;

/// The most samples along an axis of a bin, where the region decides: four for each pixel of the image.
fn most(extent: usize) -> f64 {
    4.0 * extent as f64
}

impl RoiAlign {
    fn shape(&self, x: &[usize], rois: &[usize], indices: &[usize]) -> Result<Vec<usize>, OpError> {
        match (x, rois, indices) {
            (&[_, channels, h, w], &[n, 4], &[m]) if n == m && h > 0 && w > 0 => {
                Ok(vec![n, channels, self.output[0], self.output[1]])
            }
            _ => Err(OpError::invalid(format!(
                "data {x:?}, regions {rois:?}, indices {indices:?}; expected [N, C, H, W], [n, 4], [n]"
            ))),
        }
    }

    /// Positions of the samples along one axis of a region, bin by bin.
    fn samples(&self, start: f64, end: f64, bins: usize, extent: usize) -> Vec<Vec<f64>> {
        let shift = if self.half_pixel { 0.5 } else { 0.0 };
        let scale = f64::from(self.scale);
        let (start, end) = (start * scale - shift, end * scale - shift);
        // Without the shift a region has at least one pixel.
        let size = if self.half_pixel { end - start } else { (end - start).max(1.0) };
        let bin = size / bins as f64;
        let count = match self.sampling {
            0 if bin.is_nan() => 0,
            0 => bin.ceil().min(most(extent)) as usize,
            n => n,
        };
        let place = |b: usize, i: usize| start + b as f64 * bin + (i as f64 + 0.5) * bin / count as f64;
        (0..bins).map(|b| (0..count).map(|i| place(b, i)).collect()).collect()
    }
}

/// The two pixels around a position, with their weights; none where it lies a pixel or more outside.
fn neighbours(position: f64, extent: usize) -> Option<[(usize, f64); 2]> {
    if !(-1.0..=extent as f64).contains(&position) {
        return None;
    }
    let last = extent - 1;
    let low = position.max(0.0).floor();
    if low as usize >= last {
        return Some([(last, 1.0), (last, 0.0)]);
    }
    let part = position.max(0.0) - low;
    Some([(low as usize, 1.0 - part), (low as usize + 1, part)])
}

impl Op for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, rois, indices) = (inputs.required(0)?, inputs.required(1)?, inputs.required(2)?);
        expect_float(x.dtype)?;
        expect_same(x.dtype, rois.dtype, "rois")?;
        expect(indices.dtype == DType::I64, indices.dtype)?;
        Ok(vec![checked_type(x.dtype, self.shape(x.shape, rois.shape, indices.shape)?)?])
    }

    fn lengths(&self, _inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        match (of(along, 0), of(along, 1), of(along, 2)) {
            (None, None, None) => Ok(Lengths::default()),
            // Regions beyond the length belong to image 0, which exists.
            (None, Some(0), Some(0)) => Ok(Lengths::same(0).clearing(2)),
            _ => Err(unknown_length("one of the operands")),
        }
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, rois, indices) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
        let shape = self.shape(x.shape(), rois.shape(), indices.shape())?;
        let &[batch, channels, height, width] = x.shape().dims() else {
            return Err(OpError::internal("data of another rank"));
        };
        let values = floats(x)?;
        let mut y = Vec::new();
        for (roi, image) in floats(rois)?.chunks_exact(4).zip(ints(indices)?) {
            let image = usize::try_from(image)
                .ok()
                .filter(|&i| i < batch)
                .ok_or_else(|| OpError::invalid(format!("image {image} of {batch}")))?;
            let rows = self.samples(roi[1], roi[3], self.output[0], height);
            let columns = self.samples(roi[0], roi[2], self.output[1], width);
            for plane in values.chunks_exact(height * width).skip(image * channels).take(channels) {
                for row in &rows {
                    for column in &columns {
                        let points = row.iter().flat_map(|&v| column.iter().map(move |&u| (v, u)));
                        let corners = points.map(|(v, u)| corners(plane, v, u, height, width));
                        y.push(if self.max {
                            let largest = |c: [f64; 4]| c.into_iter().fold(f64::NEG_INFINITY, f64::max);
                            corners.map(largest).reduce(f64::max).unwrap_or(0.0)
                        } else {
                            let count = (row.len() * column.len()).max(1) as f64;
                            corners.map(|c| c.iter().sum::<f64>()).sum::<f64>() / count
                        });
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
        let count = cx.input_type(2).and_then(|(_, s)| s.first().copied()).unwrap_or(0);
        if batch * channels * count == 0 {
            return cx.write(0).map(|_| ());
        }
        let dtype = if own == DType::F64 { DType::F64 } else { DType::F32 };
        let (x, rois) = (read_as(cx, 0, dtype)?, read_as(cx, 1, dtype)?);
        let indices = read_as(cx, 2, DType::I64)?;
        let y = write_as(cx, 0, dtype)?;
        let extents = [batch, channels, height, width, self.output[0], self.output[1], self.sampling];
        let mut params = extents.map(Param::Usize).to_vec();
        params.extend([Param::F32(self.scale), Param::Bool(self.half_pixel), Param::Bool(self.max)]);
        cx.push(Kernel::Routine(Routine {
            function: "regions::roi_align",
            reads: vec![x.operand, rois.operand, indices.operand],
            writes: vec![y.operand],
            params,
            fallible: true,
        }));
        finish_as(cx, 0, y)
    }
}

/// The four pixels around a point, weighted.
fn corners(plane: &[f64], v: f64, u: f64, height: usize, width: usize) -> [f64; 4] {
    let (Some([top, bottom]), Some([left, right])) = (neighbours(v, height), neighbours(u, width)) else {
        return [0.0; 4];
    };
    let pixel =
        |(y, a): (usize, f64), (x, b): (usize, f64)| plane.get(y * width + x).map_or(0.0, |p| p * (a * b));
    [pixel(top, left), pixel(top, right), pixel(bottom, left), pixel(bottom, right)]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s};
    use crate::onnx::Attr;

    #[test]
    fn regions_of_a_ramp() {
        // Rows of 0, 1, 2, 3: a mean is the region's center.
        let x = f32s(&[1, 1, 4, 4], &[0., 1., 2., 3.].repeat(4));
        let (rois, of) = (f32s(&[2, 4], &[1., 1., 3., 3., 0., 0., 2., 4.]), i64s(&[2], &[0, 0]));
        let wide = ("output_width", Attr::Int(2));
        let y = apply("RoiAlign", 16, std::slice::from_ref(&wide), &[&x, &rois, &of]).unwrap();
        assert_eq!(y, f32s(&[2, 1, 1, 2], &[1., 2., 0., 1.]));
        // Without the shift everything lies half a pixel further.
        let y = apply("RoiAlign", 10, std::slice::from_ref(&wide), &[&x, &rois, &of]).unwrap();
        assert_eq!(y, f32s(&[2, 1, 1, 2], &[1.5, 2.5, 0.5, 1.5]));
        let max = [("mode", Attr::String(b"max".to_vec())), ("sampling_ratio", Attr::Int(1))];
        // The largest of the weighted corners: 2·¼ and 1·¼.
        let y = apply("RoiAlign", 16, &max, &[&x, &rois, &of]).unwrap();
        assert_eq!(y, f32s(&[2, 1, 1, 1], &[0.5, 0.25]));
        assert!(apply("RoiAlign", 16, &[], &[&x, &rois, &i64s(&[2], &[0, 1])]).is_err(), "no such image");
        let mode = [("coordinate_transformation_mode", Attr::String(b"half_pixel".to_vec()))];
        assert!(
            apply("RoiAlign", 10, &mode, &[&x, &rois, &of]).is_err(),
            "an attribute of a later definition"
        );
    }

    #[test]
    fn regions_beyond_the_image_take_bounded_time() {
        let x = f32s(&[1, 1, 2, 2], &[1.; 4]);
        let roi = f32s(&[2, 4], &[-1e30, -1e30, 1e30, 1e30, f32::NAN, 0., f32::INFINITY, 1.]);
        assert!(apply("RoiAlign", 16, &[], &[&x, &roi, &i64s(&[2], &[0, 0])]).is_ok());
    }
}
