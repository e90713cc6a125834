//! [ScatterElements](https://onnx.ai/onnx/operators/onnx__ScatterElements.html) (formerly Scatter) and
//! [ScatterND](https://onnx.ai/onnx/operators/onnx__ScatterND.html): updates written over a copy of the data.
//!
//! Updates take effect in order, so of several for one element the last wins. Indices unknown at compile
//! time are checked at run time: clamped, and the fault reported.

use super::nest::{read_as, scratch};
use super::typed::{
    cast, compute_dtype, expect, expect_loop_type, expect_same, floats, from_floats, from_ints, ints,
    is_arithmetic_float, is_number,
};
use super::walk::{axis, operand, pick_from, positions, strides};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::Expr;
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Operands: the data, the indices, the updates (of the data's type).
#[derive(Debug, Clone, PartialEq)]
pub struct Scatter {
    /// What an index names.
    pub place: Place,
    /// How an update meets what is there; `None` replaces it.
    pub reduction: Option<Reduction>,
}

/// What an index names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One element; its other coordinates are those of the index itself.
    Elements {
        /// May count from the end.
        axis: i64,
    },
    /// The slice whose leading coordinates are the last axis of the indices.
    Tuples,
}

/// How an update meets what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // ONNX's words
pub enum Reduction {
    Add,
    Mul,
    Max,
    Min,
}

impl OnnxOp for Scatter {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("Scatter", 9),
        OnnxName::onnx("Scatter", 11),
        OnnxName::onnx("ScatterElements", 11),
        OnnxName::onnx("ScatterElements", 13),
        OnnxName::onnx("ScatterElements", 16),
        OnnxName::onnx("ScatterElements", 18),
        OnnxName::onnx("ScatterND", 11),
        OnnxName::onnx("ScatterND", 13),
        OnnxName::onnx("ScatterND", 16),
        OnnxName::onnx("ScatterND", 18),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let place = match node.op_type {
            "ScatterND" => Place::Tuples,
            _ => Place::Elements { axis: attrs.int_or("axis", 0)? },
        };
        let named = if node.opset >= 16 { attrs.text("reduction")? } else { None };
        let reduction = match named {
            None | Some("none") => None,
            Some("add") => Some(Reduction::Add),
            Some("mul") => Some(Reduction::Mul),
            Some("max") if node.opset >= 18 => Some(Reduction::Max),
            Some("min") if node.opset >= 18 => Some(Reduction::Min),
            Some(other) => return Err(OpError::invalid(format!("attribute `reduction` is `{other}`"))),
        };
        Ok(Scatter { place, reduction }.into())
    }
}

/// Where an update goes, from its position and the indices.
struct Layout {
    /// Extents of an update that belongs to one index: one element, or a slice.
    slice: usize,
    /// Indices that name one place.
    tuple: usize,
    /// Per index of a tuple: extent and stride of its axis.
    named: Vec<(usize, usize)>,
    /// Strides of the data per axis of the indices, 0 on named axes.
    strides: Vec<usize>,
}

impl Scatter {
    fn layout(&self, data: &[usize], indices: &[usize], updates: &[usize]) -> Result<Layout, OpError> {
        let bad = || OpError::invalid(format!("data {data:?}, indices {indices:?}, updates {updates:?}"));
        let mut steps: Vec<usize> = strides(data).into_iter().map(|s| s.unsigned_abs()).collect();
        match self.place {
            Place::Elements { axis: at } => {
                let at = axis(at, data.len())?;
                let fits = indices == updates
                    && indices.len() == data.len()
                    && indices.iter().zip(data).enumerate().all(|(i, (n, d))| i == at || n <= d);
                if !fits {
                    return Err(bad());
                }
                let (Some(&extent), Some(step)) = (data.get(at), steps.get_mut(at)) else {
                    return Err(bad());
                };
                let named = vec![(extent, std::mem::take(step))];
                Ok(Layout { slice: 1, tuple: 1, named, strides: steps })
            }
            Place::Tuples => {
                let (&tuple, outer) = indices.split_last().ok_or_else(bad)?;
                let rest = data.get(tuple..).ok_or_else(bad)?;
                if !outer.iter().chain(rest).eq(updates) {
                    return Err(bad());
                }
                let named = data.iter().copied().zip(steps).take(tuple).collect();
                Ok(Layout { slice: rest.iter().product(), tuple, named, strides: Vec::new() })
            }
        }
    }

    /// Positions in the data per element of the updates.
    fn places(&self, data: &[usize], indices: &Tensor, updates: &[usize]) -> Result<Vec<usize>, OpError> {
        let layout = self.layout(data, indices.shape(), updates)?;
        let signed: Vec<isize> = layout.strides.iter().map(|&s| s as isize).collect();
        let count: usize = updates.iter().product();
        let mut own = match self.place {
            Place::Elements { .. } => positions(updates, &signed, 0).collect(),
            Place::Tuples => vec![0; count],
        };
        let indices = ints(indices)?;
        for (n, place) in own.iter_mut().enumerate() {
            let (tuple, inside) = (n / layout.slice.max(1), n % layout.slice.max(1));
            *place += inside;
            for (k, &(extent, stride)) in layout.named.iter().enumerate() {
                let i = indices.get(tuple * layout.tuple + k).copied().unwrap_or(0);
                let n = extent as i128;
                if i < -n || i >= n {
                    return Err(OpError::invalid(format!("index {i} on an axis of {extent}")));
                }
                *place += i.rem_euclid(n) as usize * stride;
            }
        }
        Ok(own)
    }

    fn routine(&self) -> &'static str {
        match (self.place, self.reduction) {
            (Place::Elements { .. }, None) => "scatter::elements",
            (Place::Elements { .. }, Some(_)) => "scatter::elements_with",
            (Place::Tuples, None) => "scatter::slices",
            (Place::Tuples, Some(_)) => "scatter::slices_with",
        }
    }
}

impl Op for Scatter {
    fn name(&self) -> &'static str {
        match self.place {
            Place::Elements { .. } => "ScatterElements",
            Place::Tuples => "ScatterND",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (data, at, new) = (inputs.required(0)?, inputs.required(1)?, inputs.required(2)?);
        expect_same(data.dtype, new.dtype)?;
        expect_loop_type(data.dtype)?;
        expect(matches!(at.dtype, DType::I32 | DType::I64), at.dtype)?;
        if self.reduction.is_some() {
            expect(is_number(data.dtype) || data.dtype == DType::Bool, data.dtype)?;
        }
        self.layout(data.shape, at.shape, new.shape)?;
        if let Some(known) = at.constant {
            self.places(data.shape, known, new.shape)?;
        }
        Ok(vec![Type::new(data.dtype, data.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (data, new) = (operand(inputs, 0)?, operand(inputs, 2)?);
        let places = self.places(data.shape(), operand(inputs, 1)?, new.shape())?;
        let (dtype, shape) = (data.dtype(), Shape::clone(data.shape()));
        let Some(how) = self.reduction else {
            let mut picks: Vec<(usize, usize)> = (0..shape.elements()).map(|p| (0, p)).collect();
            for (n, &place) in places.iter().enumerate() {
                picks[place] = (1, n);
            }
            return Ok(vec![pick_from(&[data, new], shape, picks.into_iter())?]);
        };
        if is_arithmetic_float(dtype) {
            let (mut y, new) = (floats(data)?, floats(new)?);
            for (&place, new) in places.iter().zip(new) {
                let old = &mut y[place];
                // Each step rounds to the type that is computed in.
                let wide = |v: f64| if dtype == DType::F64 { v } else { f64::from(v as f32) };
                *old = match how {
                    Reduction::Add => wide(*old + new),
                    Reduction::Mul => wide(*old * new),
                    _ if old.is_nan() || new.is_nan() => f64::NAN,
                    Reduction::Max => old.max(new),
                    Reduction::Min => old.min(new),
                };
            }
            return Ok(vec![from_floats(dtype, shape, y)?]);
        }
        let (mut y, new) = (ints(data)?, ints(new)?);
        let truth = dtype == DType::Bool;
        for (&place, new) in places.iter().zip(new) {
            let old = &mut y[place];
            *old = match how {
                Reduction::Add if !truth => old.wrapping_add(new),
                Reduction::Mul => old.wrapping_mul(new),
                Reduction::Add | Reduction::Max => (*old).max(new),
                Reduction::Min => (*old).min(new),
            };
        }
        Ok(vec![from_ints(dtype, shape, y)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let data = cx.read(0)?;
        let (Some((_, at)), Some((_, new))) = (cx.input_type(1), cx.input_type(2)) else {
            return Err(OpError::internal("no operand"));
        };
        if new.dims().contains(&0) {
            return cx.alias(0, data);
        }
        let layout = self.layout(&data.shape, at, new)?;
        // Truth values combine as bytes, half types in `f32`.
        let dtype = match (self.reduction, data.dtype) {
            (None, own) => own,
            (_, DType::Bool) => DType::U8,
            (_, own) => compute_dtype(own),
        };
        let fallible = cx.constant(1).is_none();
        let indices = read_as(cx, 1, DType::I64)?;
        let updates = read_as(cx, 2, dtype)?;
        let y = if dtype == data.dtype {
            cx.write_dense(0)?
        } else {
            scratch(cx, "scattered", dtype, &data.shape)?
        };
        let from = data.dtype;
        cx.elementwise(&y, &[data], cast(compute_dtype(from), dtype, Expr::Read(0)))?;
        let pairs: Vec<i64> = match self.place {
            Place::Elements { .. } => {
                at.iter().zip(&layout.strides).flat_map(|(&n, &s)| [n as i64, s as i64]).collect()
            }
            Place::Tuples => layout.named.iter().flat_map(|&(n, s)| [n as i64, s as i64]).collect(),
        };
        let table = cx.blob("places", &pairs);
        let mut params = match self.place {
            Place::Elements { .. } => {
                layout.named.first().map_or(Vec::new(), |&(n, s)| vec![Param::Usize(n), Param::Usize(s)])
            }
            Place::Tuples => vec![Param::Usize(layout.slice)],
        };
        if let Some(how) = self.reduction {
            params.push(Param::Usize(match how {
                Reduction::Add if from == DType::Bool => 2,
                Reduction::Add => 0,
                Reduction::Mul => 1,
                Reduction::Max => 2,
                Reduction::Min => 3,
            }));
        }
        cx.push(Kernel::Routine(Routine {
            function: self.routine(),
            reads: vec![indices.operand, updates.operand, table],
            writes: vec![y.operand],
            params,
            fallible,
        }));
        if dtype != from {
            let out = cx.write(0)?;
            cx.elementwise(&out, &[y], cast(dtype, compute_dtype(from), Expr::Read(0)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s};
    use crate::ir::Tensor;
    use crate::onnx::Attr;

    fn text(name: &'static str, value: &str) -> (&'static str, Attr) {
        (name, Attr::String(value.into()))
    }

    #[test]
    fn elements_keep_their_other_coordinates() {
        let data = f32s(&[2, 3], &[0.; 6]);
        let (at, new) = (i64s(&[2, 2], &[0, -1, 1, 1]), f32s(&[2, 2], &[1., 2., 3., 4.]));
        let y = apply("ScatterElements", 18, &[("axis", Attr::Int(1))], &[&data, &at, &new]).unwrap();
        assert_eq!(y, f32s(&[2, 3], &[1., 0., 2., 0., 4., 0.]));
        let attrs = [("axis", Attr::Int(1)), text("reduction", "add")];
        let y = apply("ScatterElements", 18, &attrs, &[&data, &at, &new]).unwrap();
        assert_eq!(y, f32s(&[2, 3], &[1., 0., 2., 0., 7., 0.]));
        let y = apply("Scatter", 9, &[], &[&data, &i64s(&[1, 2], &[1, 0]), &f32s(&[1, 2], &[1., 2.])]);
        assert_eq!(y.unwrap(), f32s(&[2, 3], &[0., 2., 0., 1., 0., 0.]));
        let outside = i64s(&[1, 1], &[2]);
        assert!(apply("ScatterElements", 11, &[], &[&data, &outside, &f32s(&[1, 1], &[0.])]).is_err());
    }

    #[test]
    fn tuples_name_slices() {
        let data = f32s(&[2, 2, 2], &[1.; 8]);
        let (at, new) = (i64s(&[2, 2], &[1, 0, 0, 1]), f32s(&[2, 2], &[2., 3., 4., 5.]));
        let y = apply("ScatterND", 11, &[], &[&data, &at, &new]).unwrap();
        assert_eq!(y, f32s(&[2, 2, 2], &[1., 1., 4., 5., 2., 3., 1., 1.]));
        let bools = Tensor::new::<bool>([2], vec![true, false]).unwrap();
        let on = Tensor::new::<bool>([1], vec![true]).unwrap();
        let y = apply("ScatterND", 18, &[text("reduction", "add")], &[&bools, &i64s(&[1, 1], &[1]), &on]);
        assert_eq!(y.unwrap(), Tensor::new::<bool>([2], vec![true, true]).unwrap());
        assert!(apply("ScatterND", 16, &[text("reduction", "max")], &[&data, &at, &new]).is_err());
        assert!(apply("ScatterND", 16, &[], &[&data, &at, &f32s(&[2, 3], &[0.; 6])]).is_err());
    }
}
