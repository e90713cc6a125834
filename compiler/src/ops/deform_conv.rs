//! [DeformConv](https://onnx.ai/onnx/operators/onnx__DeformConv.html) over one to three spatial axes: a convolution whose taps are
//! moved by run-time offsets and read between elements. Beyond the data lie zeros. Sums are computed in `f64`.

use super::conv::{Geometry, groups};
use super::nest::{finish_as, read_as, write_as};
use super::number::{expect_float, expect_same};
use super::typed::{floats, from_floats};
use super::walk::{checked_type, operand, optional};
use super::window::{Taps, Window, advance};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Operands: `x: [N, C, space…]`, `w: [M, C/groups, kernel…]`, offsets `[N, offset groups · taps · axes, output space…]` (for each
/// tap the outermost axis first), and, each optional, `bias: [M]` and a mask `[N, offset groups · taps, output space…]`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeformConv {
    /// Kernel extents (from the weights where absent), strides, dilations, pads.
    pub window: Window,
    /// `group`.
    pub groups: usize,
    /// Parts of the channels, each with offsets of its own.
    pub offset_groups: usize,
}

impl OnnxOp for DeformConv {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("DeformConv", 19), OnnxName::onnx("DeformConv", 22)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let window = Window::import(attrs)?;
        let offsets = attrs.int_or("offset_group", 1)?;
        let offset_groups = usize::try_from(offsets)
            .ok()
            .filter(|&g| g > 0)
            .ok_or_else(|| OpError::invalid(format!("`offset_group` is {offsets}")))?;
        Ok(DeformConv { window, groups: groups(attrs)?, offset_groups }.into())
    }
}

impl DeformConv {
    /// Extents, with those of the operands checked against each other.
    fn geometry<'a>(&self, shape: impl Fn(usize) -> Option<&'a Shape>) -> Result<Geometry, OpError> {
        let (Some(x), Some(w), Some(offset)) = (shape(0), shape(1), shape(2)) else {
            return Err(OpError::internal("no operand"));
        };
        let geometry = Geometry::new(&self.window, self.groups, x, w)?;
        let (taps, axes) = (geometry.taps.kernel.iter().product::<usize>(), geometry.taps.rank());
        if axes > 3 {
            return Err(OpError::unsupported(format!("deformable convolution over {axes} axes")));
        }
        let channels = geometry.groups * geometry.group_in;
        if !channels.is_multiple_of(self.offset_groups) {
            return Err(OpError::invalid(format!(
                "{channels} channels in {} groups of offsets",
                self.offset_groups
            )));
        }
        let expected = |count: usize| [&[geometry.batch, count], geometry.taps.output.as_slice()].concat();
        let count = taps.saturating_mul(self.offset_groups);
        let mut wanted = vec![("offset", offset, expected(count.saturating_mul(axes)))];
        wanted.extend(shape(3).map(|b| ("B", b, vec![geometry.outputs()])));
        wanted.extend(shape(4).map(|m| ("mask", m, expected(count))));
        for (name, found, wanted) in wanted {
            if found.dims() != wanted.as_slice() {
                return Err(OpError::invalid(format!("`{name}` is {found}, expected {wanted:?}")));
            }
        }
        Ok(geometry)
    }
}

/// `plane` at a position between its elements; zeros lie beyond.
fn sample(plane: &[f64], extents: &[usize], position: &[f64]) -> f64 {
    let Some((&extent, inner)) = extents.split_first() else { return plane.first().copied().unwrap_or(0.0) };
    let Some((&p, rest)) = position.split_first() else { return 0.0 };
    let size: usize = inner.iter().product();
    [(p.floor(), 1.0 - (p - p.floor())), (p.floor() + 1.0, p - p.floor())]
        .into_iter()
        .filter(|&(at, _)| at >= 0.0 && at < extent as f64)
        .map(|(at, weight)| weight * sample(plane.get(at as usize * size..).unwrap_or_default(), inner, rest))
        .sum()
}

impl Op for DeformConv {
    fn name(&self) -> &'static str {
        "DeformConv"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        for (i, name) in [(1, "W"), (2, "offset"), (3, "B"), (4, "mask")] {
            match inputs.get(i) {
                Some(other) => expect_same(x.dtype, other.dtype, name)?,
                None if i < 3 => return inputs.required(i).map(|_| Vec::new()),
                None => {}
            }
        }
        let geometry = self.geometry(|i| inputs.get(i).map(|f| f.shape))?;
        Ok(vec![checked_type(x.dtype, geometry.output())?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let g = self.geometry(|i| optional(inputs, i).map(Tensor::shape))?;
        let load = |i| optional(inputs, i).map(floats).transpose();
        let (values, w, offsets) = (floats(x)?, floats(operand(inputs, 1)?)?, floats(operand(inputs, 2)?)?);
        let (bias, mask) = (load(3)?, load(4)?);
        let Taps { input, output, kernel, strides, dilations, begin, .. } = &g.taps;
        let (space, points): (usize, usize) = (input.iter().product(), output.iter().product());
        let taps: usize = kernel.iter().product();
        let channels = g.groups * g.group_in;
        let by_offset = channels / self.offset_groups;
        let mut y = vec![0.0; g.output().iter().product()];
        for (at, y) in y.iter_mut().enumerate() {
            let (point, m, n) = (at % points, at / points % g.outputs(), at / points / g.outputs());
            let mut out = vec![0; output.len()];
            (0..point).for_each(|_| {
                advance(&mut out, output);
            });
            *y = bias.as_ref().map_or(0.0, |b| b[m]);
            for i in 0..g.group_in {
                let c = m / g.group_out * g.group_in + i;
                let plane = values.get((n * channels + c) * space..).unwrap_or_default();
                let mut tap = vec![0; kernel.len()];
                for k in 0..taps {
                    let part = (n * self.offset_groups + c / by_offset) * taps + k;
                    let position: Vec<f64> = (0..tap.len())
                        .map(|a| {
                            let fixed =
                                (out[a] * strides[a] + tap[a] * dilations[a]) as f64 - begin[a] as f64;
                            fixed + offsets[(part * tap.len() + a) * points + point]
                        })
                        .collect();
                    let scale = mask.as_ref().map_or(1.0, |m| m[part * points + point]);
                    *y += w[(m * g.group_in + i) * taps + k] * scale * sample(plane, input, &position);
                    advance(&mut tap, kernel);
                }
            }
        }
        Ok(vec![from_floats(x.dtype(), g.output(), y)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let own = cx.input_type(0).map(|(t, _)| t).ok_or_else(|| OpError::internal("no operand"))?;
        let g = self.geometry(|i| cx.input_type(i).map(|(_, s)| s))?;
        if g.output().contains(&0) {
            return cx.write(0).map(|_| ());
        }
        let dtype = if own == DType::F64 { DType::F64 } else { DType::F32 };
        let mut reads = Vec::new();
        for i in 0..3 {
            reads.push(read_as(cx, i, dtype)?.operand);
        }
        // What is absent is a zero that nobody reads.
        for (i, name) in [(3, "bias"), (4, "mask")] {
            reads.push(match cx.input_type(i) {
                Some(_) => read_as(cx, i, dtype)?.operand,
                None if dtype == DType::F64 => cx.blob(name, &[0f64]),
                None => cx.blob(name, &[0f32]),
            });
        }
        let axes = g.taps.rank();
        let table: Vec<i64> = (0..3usize)
            .flat_map(|axis| {
                let t = &g.taps;
                let of = |list: &[usize], absent| match (axis + axes).checked_sub(3) {
                    Some(a) => list.get(a).map_or(absent, |&n| n as i64),
                    None => absent,
                };
                let [input, output, kernel] = [&t.input, &t.output, &t.kernel].map(|list| of(list, 1));
                [input, output, kernel, of(&t.strides, 1), of(&t.dilations, 1), of(&t.begin, 0)]
            })
            .collect();
        reads.push(cx.blob("window", &table));
        let y = write_as(cx, 0, dtype)?;
        let taps = g.taps.kernel.iter().product::<usize>();
        let channels = g.groups * g.group_in;
        let column = cx.scratch("column", dtype, channels * taps);
        let extents = [g.batch, g.groups, g.group_in, g.group_out, self.offset_groups, axes];
        let mut params = extents.map(Param::Usize).to_vec();
        params.extend([cx.input_type(3), cx.input_type(4)].map(|t| Param::Bool(t.is_some())));
        cx.push(Kernel::Routine(Routine {
            function: "deform::deform_conv",
            reads,
            writes: vec![y.operand, column],
            params,
            fallible: false,
        }));
        finish_as(cx, 0, y)
    }

    fn macs(&self, inputs: &[Option<Type>], outputs: &[Type]) -> u64 {
        let (Some(Some(w)), Some(y)) = (inputs.get(1), outputs.first()) else { return 0 };
        let per_output: usize = w.shape.iter().skip(1).product();
        (y.shape.elements() as u64).saturating_mul(per_output as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};
    use crate::onnx::Attr;

    #[test]
    fn moved_taps() {
        let x = f32s(&[1, 1, 3], &[1., 2., 4.]);
        let w = f32s(&[1, 1, 2], &[1., 10.]);
        // Of two windows: the first tap moves by ½ and 0, the second by 0 and 1 (out of the data).
        let offset = f32s(&[1, 2, 2], &[0.5, 0., 0., 1.]);
        let y = apply("DeformConv", 19, &[], &[&x, &w, &offset]).unwrap();
        assert_eq!(y, f32s(&[1, 1, 2], &[21.5, 2.]));
        let (bias, mask) = (f32s(&[1], &[100.]), f32s(&[1, 2, 2], &[2., 1., 0., 1.]));
        let y = apply("DeformConv", 19, &[], &[&x, &w, &offset, &bias, &mask]).unwrap();
        assert_eq!(y, f32s(&[1, 1, 2], &[103., 102.]));
        let far = f32s(&[1, 2, 2], &[f32::NAN, 1e30, -1e30, f32::INFINITY]);
        assert_eq!(apply("DeformConv", 19, &[], &[&x, &w, &far]).unwrap(), f32s(&[1, 1, 2], &[0., 0.]));
        let groups = [("offset_group", Attr::Int(2))];
        assert!(apply("DeformConv", 19, &groups, &[&x, &w, &offset]).is_err());
        assert!(apply("DeformConv", 19, &[], &[&x, &w, &mask, &mask]).is_err(), "a bias of another shape");
    }
}
