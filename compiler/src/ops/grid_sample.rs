//! [GridSample](https://onnx.ai/onnx/operators/onnx__GridSample.html): an image or a volume read at
//! coordinates between its elements. Coordinates and sums are computed in `f64`.

use super::nest::{finish_as, read_as, write_as};
use super::number::expect_float;
use super::typed::{floats, from_floats};
use super::walk::{checked_type, operand};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// How a value between elements is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // ONNX's words
pub enum Order {
    Nearest,
    Linear,
    Cubic,
}

/// What lies beyond the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // ONNX's words
pub enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// Operands: `x: [batch, channels, (depth,) height, width]`, and `grid: [batch, …, 2 or 3]` of coordinates in
/// -1 to 1, the innermost axis of `x` first. The result has `x`'s channels and the grid's extents.
#[derive(Debug, Clone, PartialEq)]
pub struct GridSample {
    /// Between elements.
    pub order: Order,
    /// Beyond the edge.
    pub padding: Padding,
    /// Whether -1 and 1 are centers of the outermost elements instead of their edges.
    pub align_corners: bool,
}

impl OnnxOp for GridSample {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("GridSample", 16),
        OnnxName::onnx("GridSample", 20),
        OnnxName::onnx("GridSample", 22),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let old = node.opset < 20;
        let order = match attrs.text("mode")? {
            None => Order::Linear,
            Some("bilinear") if old => Order::Linear,
            Some("bicubic") if old => Order::Cubic,
            Some("linear") if !old => Order::Linear,
            Some("cubic") if !old => Order::Cubic,
            Some("nearest") => Order::Nearest,
            Some(other) => return Err(OpError::invalid(format!("attribute `mode` is `{other}`"))),
        };
        let padding = match attrs.text("padding_mode")? {
            None | Some("zeros") => Padding::Zeros,
            Some("border") => Padding::Border,
            Some("reflection") => Padding::Reflection,
            Some(other) => return Err(OpError::invalid(format!("attribute `padding_mode` is `{other}`"))),
        };
        Ok(GridSample { order, padding, align_corners: attrs.int_or("align_corners", 0)? != 0 }.into())
    }
}

impl GridSample {
    fn shape(&self, x: &[usize], grid: &[usize]) -> Result<Vec<usize>, OpError> {
        let bad = || OpError::invalid(format!("coordinates {grid:?} in data {x:?}"));
        let ([batch, channels, space @ ..], Some((&axes, points))) = (x, grid.split_last()) else {
            return Err(bad());
        };
        let [grids, extents @ ..] = points else { return Err(bad()) };
        let fits = grids == batch && axes == space.len() && extents.len() == axes && (2..=3).contains(&axes);
        if !fits || space.contains(&0) {
            return Err(bad());
        }
        if self.order == Order::Cubic && axes != 2 {
            return Err(OpError::unsupported("cubic sampling of volumes"));
        }
        Ok([&[*batch, *channels], extents].concat())
    }

    /// Where the line of pixels holds pixel `i`, which may lie beyond the edge.
    fn pixel(&self, i: f64, n: usize) -> Option<usize> {
        let last = n as f64 - 1.0;
        let v = match self.padding {
            Padding::Zeros => i,
            Padding::Border => i.clamp(0.0, last),
            Padding::Reflection => self.reflected(i, n).clamp(0.0, last),
        };
        (v >= 0.0 && v <= last).then_some(v as usize)
    }

    /// Mirrored at the outermost centers, or the outermost edges, as often as it takes.
    fn reflected(&self, v: f64, n: usize) -> f64 {
        let (low, high) = if self.align_corners { (0.0, n as f64 - 1.0) } else { (-0.5, n as f64 - 0.5) };
        let span = high - low;
        if span <= 0.0 || !v.is_finite() {
            return 0.0;
        }
        let over = if v < low { low - v } else { v - low };
        let (turns, rest) = ((over / span).floor(), over % span);
        if turns % 2.0 == 0.0 { low + rest } else { high - rest }
    }

    /// Pixels of an axis and their weights for a coordinate.
    fn taps(&self, coordinate: f64, n: usize) -> Vec<(usize, f64)> {
        let size = n as f64;
        let mut v = if self.align_corners {
            (coordinate + 1.0) / 2.0 * (size - 1.0)
        } else {
            ((coordinate + 1.0) * size - 1.0) / 2.0
        };
        if self.order != Order::Cubic {
            v = match self.padding {
                Padding::Zeros => v,
                Padding::Border => v.clamp(0.0, size - 1.0),
                Padding::Reflection => self.reflected(v, n).clamp(0.0, size - 1.0),
            };
        }
        let base = v.floor();
        let t = v - base;
        let list: Vec<(f64, f64)> = match self.order {
            Order::Nearest => vec![(v.round_ties_even(), 1.0)],
            Order::Linear => vec![(base, 1.0 - t), (base + 1.0, t)],
            Order::Cubic => (-1..=2).map(|k| (base + f64::from(k), keys((t - f64::from(k)).abs()))).collect(),
        };
        list.into_iter().filter_map(|(i, w)| self.pixel(i, n).map(|p| (p, w))).collect()
    }
}

/// Keys' cubic at a distance below 2, with a = -0.75.
fn keys(x: f64) -> f64 {
    let a = -0.75;
    if x <= 1.0 {
        (a + 2.0) * x * x * x - (a + 3.0) * x * x + 1.0
    } else {
        a * (x * x * x - 5.0 * x * x + 8.0 * x - 4.0)
    }
}

impl Op for GridSample {
    fn name(&self) -> &'static str {
        "GridSample"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, grid) = (inputs.required(0)?, inputs.required(1)?);
        expect_float(x.dtype)?;
        expect_float(grid.dtype)?;
        Ok(vec![checked_type(x.dtype, self.shape(x.shape, grid.shape)?)?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, grid) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let shape = self.shape(x.shape(), grid.shape())?;
        let (values, places) = (floats(x)?, floats(grid)?);
        let space = x.shape().get(2..).unwrap_or_default();
        let (channels, size): (usize, usize) = (x.shape()[1], space.iter().product());
        let points: usize = shape.iter().skip(2).product();
        let mut y = vec![0.0; shape.iter().product()];
        for (n, place) in places.chunks_exact(space.len().max(1)).enumerate() {
            let (sample, point) = (n / points, n % points);
            // Positions and weights of the pixels that meet here, axis by axis, the outermost first.
            let mut pixels = vec![(0usize, 1.0f64)];
            for (&extent, &coordinate) in space.iter().zip(place.iter().rev()) {
                let taps = self.taps(coordinate, extent);
                pixels = pixels
                    .iter()
                    .flat_map(|&(at, w)| taps.iter().map(move |&(i, v)| (at * extent + i, w * v)))
                    .collect();
            }
            for c in 0..channels {
                let plane = values.get((sample * channels + c) * size..).unwrap_or_default();
                let sum = pixels.iter().map(|&(at, w)| plane.get(at).copied().unwrap_or(0.0) * w).sum();
                y[(sample * channels + c) * points + point] = sum;
            }
        }
        Ok(vec![from_floats(x.dtype(), shape, y)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (Some((own, x)), Some((grid_type, grid))) = (cx.input_type(0), cx.input_type(1)) else {
            return Err(OpError::internal("no operand"));
        };
        let shape = self.shape(x, grid)?;
        let (volume, depth, height, width) = match *x.dims() {
            [_, _, h, w] => (false, 1, h, w),
            [_, _, d, h, w] => (true, d, h, w),
            _ => return Err(OpError::internal("an image of another rank")),
        };
        if shape.contains(&0) {
            return cx.write(0).map(|_| ());
        }
        let dtype = if [own, grid_type].contains(&DType::F64) { DType::F64 } else { DType::F32 };
        let (x, grid) = (read_as(cx, 0, dtype)?, read_as(cx, 1, dtype)?);
        let y = write_as(cx, 0, dtype)?;
        let points = shape.iter().skip(2).product();
        let order = match self.order {
            Order::Nearest => 0,
            Order::Linear => 1,
            Order::Cubic => 3,
        };
        let mut params: Vec<Param> =
            [shape[0], shape[1], depth, height, width, points].map(Param::Usize).to_vec();
        params.extend([
            Param::Bool(volume),
            Param::Usize(order),
            Param::Usize(self.padding as usize),
            Param::Bool(self.align_corners),
        ]);
        cx.push(Kernel::Routine(Routine {
            function: "grid_sample::grid_sample",
            reads: vec![x.operand, grid.operand],
            writes: vec![y.operand],
            params,
            fallible: false,
        }));
        finish_as(cx, 0, y)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};
    use crate::onnx::Attr;

    #[test]
    fn centers_and_beyond() {
        let x = f32s(&[1, 1, 2, 2], &[1., 2., 3., 4.]);
        let grid = f32s(&[1, 1, 3, 2], &[-1., -1., 0., 0., 3., 1.]);
        let run = |mode: &str, padding: &str| {
            let attrs = [
                ("mode", Attr::String(mode.into())),
                ("padding_mode", Attr::String(padding.into())),
                ("align_corners", Attr::Int(1)),
            ];
            apply("GridSample", 20, &attrs, &[&x, &grid])
        };
        for (mode, padding, expected) in [
            ("linear", "zeros", [1., 2.5, 0.]),
            ("linear", "border", [1., 2.5, 4.]),
            ("linear", "reflection", [1., 2.5, 3.]),
            ("nearest", "zeros", [1., 1., 0.]),
            ("cubic", "border", [1., 2.5, 4.]),
        ] {
            assert_eq!(run(mode, padding).unwrap(), f32s(&[1, 1, 1, 3], &expected), "{mode} {padding}");
        }
        assert!(run("bilinear", "zeros").is_err(), "a mode of the older definition");
        assert!(apply("GridSample", 16, &[], &[&x, &f32s(&[1, 1, 1, 3], &[0.; 3])]).is_err());
    }
}
