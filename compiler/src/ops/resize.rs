//! [Resize](https://onnx.ai/onnx/operators/onnx__Resize.html) and
//! [Upsample](https://onnx.ai/onnx/operators/onnx__Upsample.html). Scales, sizes and the region of
//! interest must be known at compile time. Integers are interpolated in floats and truncated.

use super::number::class;
use super::resize_lower;
use super::resize_table::{Axis, Table};
pub use super::resize_table::{Coordinates, Mode, Rounding};
use super::typed::from_floats;
use super::walk::{axes, checked_type, extent, operand, optional, pick, positions, strides};
use super::{Fact, Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// ONNX `keep_aspect_ratio_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// The sizes as given.
    Stretch,
    /// The largest extents of the input's aspect that exceed none of the sizes.
    NotLarger,
    /// The smallest extents of the input's aspect that fall below none of the sizes.
    NotSmaller,
}

/// Where the scales are found.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// An attribute (Upsample of opset 7).
    Scales(Vec<f32>),
    /// Operand 1 (Upsample of opset 9, Resize of opset 10).
    One,
    /// Operands 1 to 3: region of interest, scales, sizes.
    Three,
}

/// Interpolation along axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// Interpolation.
    pub mode: Mode,
    /// Output to input positions.
    pub coordinates: Coordinates,
    /// Neighbours beyond the edge weigh nothing.
    pub exclude_outside: bool,
    /// Value outside the region of interest's image.
    pub extrapolation: f32,
    /// Axes resized; all where absent.
    pub axes: Option<Vec<i64>>,
    /// What sizes mean.
    pub aspect: Aspect,
    /// Where the scales are found.
    pub form: Form,
}

impl OnnxOp for Resize {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("Resize", 10),
        OnnxName::onnx("Resize", 11),
        OnnxName::onnx("Resize", 13),
        OnnxName::onnx("Resize", 18),
        OnnxName::onnx("Resize", 19),
        OnnxName::onnx("Upsample", 7),
        OnnxName::onnx("Upsample", 9),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let mode = attrs.text("mode")?.unwrap_or("nearest");
        let unknown = |name: &str, value: &str| OpError::invalid(format!("`{name}` is `{value}`"));
        if node.op_type == "Upsample" || node.opset < 11 {
            let form = if node.opset < 9 {
                Form::Scales(AttrReader::required("scales", attrs.floats("scales")?)?)
            } else {
                Form::One
            };
            let mode = match mode {
                "nearest" => Mode::Nearest(Rounding::ByScale),
                "linear" | "bilinear" => Mode::Linear { antialias: false },
                other => return Err(unknown("mode", other)),
            };
            let (coordinates, aspect) = (Coordinates::Asymmetric, Aspect::Stretch);
            let (exclude_outside, extrapolation, axes) = (false, 0.0, None);
            return Ok(
                Resize { mode, coordinates, exclude_outside, extrapolation, axes, aspect, form }.into()
            );
        }
        let rounding = match attrs.text("nearest_mode")?.unwrap_or("round_prefer_floor") {
            "round_prefer_floor" => Rounding::RoundPreferFloor,
            "round_prefer_ceil" => Rounding::RoundPreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            other => return Err(unknown("nearest_mode", other)),
        };
        let antialias = attrs.int_or("antialias", 0)? != 0;
        let a = attrs.float_or("cubic_coeff_a", -0.75)?;
        let mode = match mode {
            "nearest" => Mode::Nearest(rounding),
            "linear" => Mode::Linear { antialias },
            "cubic" => Mode::Cubic { antialias, a },
            other => return Err(unknown("mode", other)),
        };
        let coordinates = match attrs.text("coordinate_transformation_mode")?.unwrap_or("half_pixel") {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            "tf_half_pixel_for_nn" => Coordinates::TfHalfPixelForNn,
            "tf_crop_and_resize" => Coordinates::TfCropAndResize,
            other => return Err(unknown("coordinate_transformation_mode", other)),
        };
        let aspect = match attrs.text("keep_aspect_ratio_policy")?.unwrap_or("stretch") {
            "stretch" => Aspect::Stretch,
            "not_larger" => Aspect::NotLarger,
            "not_smaller" => Aspect::NotSmaller,
            other => return Err(unknown("keep_aspect_ratio_policy", other)),
        };
        Ok(Resize {
            mode,
            coordinates,
            exclude_outside: attrs.int_or("exclude_outside", 0)? != 0,
            extrapolation: attrs.float_or("extrapolation_value", 0.0)?,
            axes: attrs.ints("axes")?,
            aspect,
            form: Form::Three,
        }
        .into())
    }
}

impl Resize {
    /// Every axis of a value of shape `x`, from the operands as they are known.
    pub(super) fn plan(&self, x: &[usize], inputs: &Inputs<'_>) -> Result<Vec<Axis>, OpError> {
        let axes = match &self.axes {
            Some(list) => axes(list, x.len())?,
            None => (0..x.len()).collect(),
        };
        let floats = |i, what| {
            let values = inputs.known_floats(i, what)?.filter(|v| !v.is_empty());
            Ok::<_, OpError>(values.map(|v| v.into_iter().map(|v| v as f32).collect::<Vec<f32>>()))
        };
        let (roi, scales, sizes) = match &self.form {
            Form::Scales(list) => (None, Some(list.clone()), None),
            Form::One => (None, floats(1, "scales")?, None),
            Form::Three => {
                let roi = match self.coordinates {
                    Coordinates::TfCropAndResize => floats(1, "roi")?,
                    // No other mode looks at it.
                    _ => None,
                };
                let sizes = inputs.known_ints(3, "sizes")?.filter(|v| !v.is_empty());
                (roi, floats(2, "scales")?, sizes)
            }
        };
        let mut plan: Vec<Axis> = x
            .iter()
            .map(|&d| Axis { input: d, output: d, scale: 1.0, sized: false, roi: (0.0, 1.0) })
            .collect();
        let count = |what: &str, have: usize, want: usize| {
            let message = || OpError::invalid(format!("`{what}` has {have} entries, expected {want}"));
            if have == want { Ok(()) } else { Err(message()) }
        };
        match (scales, sizes) {
            (Some(scales), None) => {
                count("scales", scales.len(), axes.len())?;
                for (&a, &scale) in axes.iter().zip(&scales) {
                    if !(scale > 0.0 && scale.is_finite()) {
                        return Err(OpError::invalid(format!("a scale is {scale}")));
                    }
                    plan[a].scale = scale;
                    plan[a].output = (x[a] as f32 * scale).floor() as usize;
                }
            }
            (None, Some(sizes)) => {
                count("sizes", sizes.len(), axes.len())?;
                let sizes = sizes.into_iter().map(extent).collect::<Result<Vec<_>, _>>()?;
                self.fit(&mut plan, &axes, &sizes);
            }
            _ => return Err(OpError::invalid("either `scales` or `sizes` must be given")),
        }
        if self.coordinates == Coordinates::TfCropAndResize {
            let roi =
                roi.ok_or_else(|| OpError::invalid("`tf_crop_and_resize` needs a region of interest"))?;
            count("roi", roi.len(), 2 * axes.len())?;
            let (starts, ends) = roi.split_at(axes.len());
            for ((&a, &start), &end) in axes.iter().zip(starts).zip(ends) {
                plan[a].roi = (start, end);
            }
        }
        if plan.iter().any(|a| a.input == 0 && a.output > 0) {
            return Err(OpError::invalid("an empty axis cannot be enlarged"));
        }
        Ok(plan)
    }

    /// Extents and scales from sizes.
    fn fit(&self, plan: &mut [Axis], axes: &[usize], sizes: &[usize]) {
        let ratios = axes.iter().zip(sizes).map(|(&a, &size)| size as f32 / plan[a].input.max(1) as f32);
        let common = match self.aspect {
            Aspect::Stretch => None,
            Aspect::NotLarger => ratios.reduce(f32::min),
            Aspect::NotSmaller => ratios.reduce(f32::max),
        };
        for (&a, &size) in axes.iter().zip(sizes) {
            let axis = &mut plan[a];
            match common {
                None => {
                    axis.output = size;
                    axis.scale = size as f32 / axis.input.max(1) as f32;
                    axis.sized = axis.input > 0;
                }
                Some(scale) => {
                    // Half rounds up.
                    axis.output = (scale * axis.input as f32 + 0.5).floor() as usize;
                    axis.scale = scale;
                }
            }
        }
    }

    /// The table of an axis.
    pub(super) fn table(&self, axis: &Axis) -> Result<Table, OpError> {
        axis.table(self.mode, self.coordinates, self.exclude_outside, self.extrapolation)
    }

    /// [`Resize::plan`] from tensors.
    pub(super) fn plan_of(&self, x: &[usize], operands: [Option<&Tensor>; 3]) -> Result<Vec<Axis>, OpError> {
        let known = |t: Option<&'_ Tensor>| t.map(|t| (t.dtype(), t.shape().clone(), t.clone()));
        let held = operands.map(known);
        let facts: Vec<Option<Fact<'_>>> = std::iter::once(None)
            .chain(held.iter().map(|k| {
                k.as_ref().map(|(dtype, shape, t)| Fact { dtype: *dtype, shape, constant: Some(t) })
            }))
            .collect();
        self.plan(x, &Inputs::new(&facts, 1))
    }
}

impl Op for Resize {
    fn name(&self) -> &'static str {
        match self.form {
            Form::Scales(_) => "Upsample",
            Form::One | Form::Three => "Resize",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        if !matches!(self.mode, Mode::Nearest(_)) {
            class(x.dtype)?;
        }
        let plan = self.plan(x.shape, inputs)?;
        Ok(vec![checked_type(x.dtype, plan.iter().map(|a| a.output).collect::<Shape>())?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let plan = self.plan_of(x.shape(), [1, 2, 3].map(|i| optional(inputs, i)))?;
        let shape: Shape = plan.iter().map(|a| a.output).collect();
        if shape.contains(&0) {
            return Ok(vec![pick(x, shape, std::iter::empty())?]);
        }
        let tables = plan.iter().map(|a| self.table(a)).collect::<Result<Vec<_>, _>>()?;
        let moves = matches!(self.mode, Mode::Nearest(_)) && tables.iter().all(|t| t.outside.is_empty());
        if moves {
            return Ok(vec![pick(x, shape.clone(), nearest(x.shape(), &shape, &tables))?]);
        }
        let mut values = x.to_f64_vec().ok_or_else(|| OpError::internal("not numbers"))?;
        let mut extents = x.shape().to_vec();
        // Truncation to integers shows the last bit: they take the steps of generated code, in `f32`.
        let round: fn(f64) -> f64 = if x.dtype().is_int() { |v| f64::from(v as f32) } else { |v| v };
        for axis in order(&plan, &tables) {
            let output = plan[axis].output;
            values = along(&values, &extents, axis, &tables[axis], output, round);
            extents[axis] = output;
        }
        Ok(vec![from_floats(x.dtype(), shape, values)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        resize_lower::lower(self, cx)
    }
}

/// The element that each output of a nearest resize takes, row-major.
fn nearest<'t>(x: &[usize], out: &'t [usize], tables: &'t [Table]) -> impl Iterator<Item = usize> + 't {
    let steps = strides(x);
    let mut index = vec![0; out.len()];
    positions(out, &vec![0; out.len()], 0).map(move |_| {
        let at: i64 = index
            .iter()
            .zip(tables)
            .zip(&steps)
            .map(|((&i, t), &s)| t.index.get(i).copied().unwrap_or(0) * s as i64)
            .sum();
        super::window::advance(&mut index, out);
        at as usize
    })
}

/// The axes that change, those that shrink most first: later ones then have less to do.
pub(super) fn order(plan: &[Axis], tables: &[Table]) -> Vec<usize> {
    let mut order: Vec<usize> =
        (0..plan.len()).filter(|&a| plan[a].input != plan[a].output || !tables[a].is_identity()).collect();
    order.sort_by(|&a, &b| plan[a].scale.total_cmp(&plan[b].scale).then(a.cmp(&b)));
    order
}

/// Interpolation along one axis, every operation rounded by `round`.
fn along(
    values: &[f64],
    extents: &[usize],
    axis: usize,
    table: &Table,
    output: usize,
    round: fn(f64) -> f64,
) -> Vec<f64> {
    let inner: usize = extents.iter().skip(axis + 1).product();
    let input = extents.get(axis).copied().unwrap_or(1);
    let mut out = Vec::new();
    for block in values.chunks((input * inner).max(1)) {
        for o in 0..output {
            let taps = o * table.taps..(o + 1) * table.taps;
            let base = table.outside.get(o).copied().unwrap_or(0.0);
            for i in 0..inner {
                let at = |index: &i64| block.get(*index as usize * inner + i).copied().unwrap_or(0.0);
                // A weight of nothing takes nothing, not even NaN.
                let sum = table.index[taps.clone()]
                    .iter()
                    .zip(&table.weight[taps.clone()])
                    .filter(|(_, w)| **w != 0.0)
                    .fold(0.0, |sum, (index, w)| round(sum + round(at(index) * round(*w))));
                out.push(base + sum);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{f32s, i64s, import, run};
    use super::*;
    use crate::onnx::Attr;

    fn text(s: &str) -> Attr {
        Attr::String(s.as_bytes().to_vec())
    }

    fn resize(
        attrs: &[(&str, Attr)],
        opset: i64,
        x: &Tensor,
        rest: &[Option<&Tensor>],
    ) -> Result<Tensor, OpError> {
        let op = import("Resize", opset, attrs, 1 + rest.len(), 1)?;
        let inputs: Vec<_> = std::iter::once(Some(x)).chain(rest.iter().copied()).collect();
        Ok(run(&op, &inputs, 1)?.remove(0))
    }

    #[test]
    fn nearest_by_scales_in_old_and_new_opsets() {
        let x = f32s(&[1, 1, 1, 2], &[1., 2.]);
        let scales = f32s(&[4], &[1., 1., 2., 3.]);
        let want = f32s(&[1, 1, 2, 6], &[1., 1., 1., 2., 2., 2., 1., 1., 1., 2., 2., 2.]);
        assert_eq!(resize(&[], 10, &x, &[Some(&scales)]).unwrap(), want);
        assert_eq!(resize(&[], 13, &x, &[None, Some(&scales)]).unwrap(), want);
        let op = import("Upsample", 7, &[("scales", Attr::Floats(vec![1., 1., 2., 3.]))], 1, 1).unwrap();
        assert_eq!(run(&op, &[Some(&x)], 1).unwrap(), [want]);
    }

    #[test]
    fn before_opset_11_the_nearest_is_behind_where_an_axis_shrinks() {
        // Of ONNX 1.5's own test.
        let x = f32s(&[1, 1, 2, 4], &[1., 2., 3., 4., 5., 6., 7., 8.]);
        let scales = f32s(&[4], &[1., 1., 0.6, 0.6]);
        assert_eq!(resize(&[], 10, &x, &[Some(&scales)]).unwrap(), f32s(&[1, 1, 1, 2], &[1., 3.]));
    }

    #[test]
    fn half_a_pixel_moves_only_axes_that_are_resized() {
        let x = f32s(&[2, 1, 1, 2], &[1., 2., 5., 6.]);
        let attrs =
            [("mode", text("linear")), ("coordinate_transformation_mode", text("tf_half_pixel_for_nn"))];
        let y = resize(&attrs, 11, &x, &[None, Some(&f32s(&[4], &[1., 1., 1., 2.]))]).unwrap();
        assert_eq!(y, f32s(&[2, 1, 1, 4], &[1.25, 1.75, 2., 2., 5.25, 5.75, 6., 6.]));
    }

    #[test]
    fn an_axis_may_shrink_to_its_first_element() {
        let x = f32s(&[1, 1, 2, 4], &[1., 2., 3., 4., 5., 6., 7., 8.]);
        let attrs = [("mode", text("linear")), ("coordinate_transformation_mode", text("align_corners"))];
        let y = resize(&attrs, 13, &x, &[None, Some(&f32s(&[4], &[1., 1., 0.6, 0.6]))]).unwrap();
        // The scale counts, not the result's extent: 3 / (4·0.6 - 1) elements per step.
        assert_eq!(y, f32s(&[1, 1, 1, 2], &[1., 1. + 3. / 1.4]));
    }

    #[test]
    fn linear_by_sizes() {
        let x = f32s(&[1, 1, 1, 2], &[1., 3.]);
        let (mode, sizes) = (("mode", text("linear")), i64s(&[4], &[1, 1, 1, 4]));
        let empty = f32s(&[0], &[]);
        let y =
            resize(std::slice::from_ref(&mode), 11, &x, &[Some(&empty), Some(&empty), Some(&sizes)]).unwrap();
        assert_eq!(y, f32s(&[1, 1, 1, 4], &[1., 1.5, 2.5, 3.]));
        let corners = ("coordinate_transformation_mode", text("align_corners"));
        let y = resize(&[mode, corners], 19, &x, &[None, None, Some(&i64s(&[4], &[1, 1, 1, 3]))]).unwrap();
        assert_eq!(y, f32s(&[1, 1, 1, 3], &[1., 2., 3.]));
    }

    #[test]
    fn axes_and_aspect() {
        let x = f32s(&[2, 4], &[0.; 8]);
        let attrs = |policy| [("axes", Attr::Ints(vec![-1, 0])), ("keep_aspect_ratio_policy", text(policy))];
        let shape = |policy| {
            let sizes = i64s(&[2], &[6, 4]);
            resize(&attrs(policy), 18, &x, &[None, None, Some(&sizes)]).unwrap().shape().to_vec()
        };
        assert_eq!(shape("stretch"), [4, 6]);
        assert_eq!(shape("not_larger"), [3, 6]);
        assert_eq!(shape("not_smaller"), [4, 8]);
    }

    #[test]
    fn integers_move_and_interpolate() {
        let x = Tensor::new::<u8>([1, 2], vec![10, 13]).unwrap();
        let sizes = i64s(&[2], &[1, 4]);
        let y = resize(&[], 13, &x, &[None, None, Some(&sizes)]).unwrap();
        assert_eq!(y.to_i64_vec().unwrap(), [10, 10, 13, 13]);
        let y = resize(&[("mode", text("linear"))], 13, &x, &[None, None, Some(&sizes)]).unwrap();
        assert_eq!(y.to_i64_vec().unwrap(), [10, 10, 12, 13]);
    }

    #[test]
    fn refusals() {
        let x = f32s(&[1, 2], &[1., 2.]);
        let bad = |scales: &[f32]| resize(&[], 10, &x, &[Some(&f32s(&[scales.len()], scales))]);
        assert!(bad(&[1., 0.]).is_err() && bad(&[1., -2.]).is_err() && bad(&[1.]).is_err());
        assert!(bad(&[1., f32::NAN]).is_err() && bad(&[1e30, 1e30]).is_err());
        assert!(resize(&[], 13, &x, &[None, None]).is_err());
        let huge = i64s(&[2], &[i64::MAX, i64::MAX]);
        assert!(resize(&[], 13, &x, &[None, None, Some(&huge)]).is_err());
    }
}
