//! [Gather](https://onnx.ai/onnx/operators/onnx__Gather.html), GatherElements and GatherND: elements
//! at positions that other operands name.
//!
//! Known indices are checked here; where they walk an axis in equal steps Gather is a view. Others are
//! checked at run time: clamped, and the fault reported.

use super::composite::INTERNAL;
use super::length::{Axes, none, of, unknown_length};
use super::typed::{cast, expect, ints};
use super::views::{access, regrouped, sliced};
use super::walk::{axis, checked_type, operand, pick, strides};
use super::{Fact, Inputs, LayoutRule, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::Expr;
use crate::kernel::loops::{Gather as Index, Read, Store};
use crate::kernel::{Access, Kernel, Loops, Nest};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};
use std::cmp::Ordering;

/// Gather by indices that cannot miss, in bodies.
const TAKE: &str = "Take";

/// What an index names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gather {
    /// A slice across `axis`: the result has the indices' axes in place of it.
    Slices {
        /// May count from the end.
        axis: i64,
        /// Whether the operator that made the indices never misses.
        proven: bool,
    },
    /// One element; the other coordinates are those of the index itself.
    Elements {
        /// May count from the end.
        axis: i64,
    },
    /// The slice whose leading coordinates are the last axis of the indices.
    Tuples {
        /// Leading axes that both operands share.
        batch_dims: i64,
    },
}

impl OnnxOp for Gather {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("Gather", 1),
        OnnxName::onnx("GatherElements", 11),
        OnnxName::onnx("GatherND", 11),
        OnnxName { domain: INTERNAL, op_type: TAKE, since: 1 },
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let op = match node.op_type {
            "Gather" => Gather::Slices { axis: attrs.int_or("axis", 0)?, proven: false },
            TAKE => Gather::Slices { axis: attrs.int_or("axis", 0)?, proven: true },
            "GatherElements" => Gather::Elements { axis: attrs.int_or("axis", 0)? },
            _ => {
                let batch_dims = if node.opset < 12 { 0 } else { attrs.int_or("batch_dims", 0)? };
                Gather::Tuples { batch_dims }
            }
        };
        Ok(op.into())
    }
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        match self {
            Gather::Slices { .. } => "Gather",
            Gather::Elements { .. } => "GatherElements",
            Gather::Tuples { .. } => "GatherND",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, i) = (inputs.required(0)?, inputs.required(1)?);
        expect(matches!(i.dtype, DType::I32 | DType::I64), i.dtype)?;
        let plan = self.plan(x.shape, i.shape)?;
        let ty = checked_type(x.dtype, plan.shape.clone())?;
        if let Fact { constant: Some(indices), .. } = i {
            plan.check(&ints(indices)?)?;
        } else if ty.shape.elements() > 0 && plan.indexed.iter().any(|a| a.extent == 0) {
            return Err(OpError::invalid(format!("an index into {} can name nothing", x.shape)));
        }
        Ok(vec![ty])
    }

    fn lengths(&self, inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        let (x, i) = (inputs.required(0)?.shape, inputs.required(1)?.shape);
        match (self, of(along, 0), of(along, 1)) {
            (_, None, None) => Ok(Lengths::default()),
            (Gather::Slices { axis: at, proven }, None, Some(k)) => {
                let lengths = Lengths::same(axis(*at, x.rank())? + k);
                // Indices beyond the length name nothing: they must not be found outside. The first is there.
                Ok(if *proven { lengths } else { lengths.clearing(1) })
            }
            (Gather::Slices { axis: at, .. }, Some(a), None) => {
                let at = axis(*at, x.rank())?;
                match a.cmp(&at) {
                    Ordering::Less => Ok(Lengths::same(a).moved()),
                    Ordering::Equal => Err(unknown_length("the axis that indices name")),
                    Ordering::Greater => Ok(Lengths::same((a + i.rank()).saturating_sub(1)).moved()),
                }
            }
            (Gather::Tuples { batch_dims: 0 }, None, Some(k)) if k + 1 < i.rank() => {
                Ok(Lengths::same(k).clearing(1))
            }
            _ => none(along),
        }
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, i) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let plan = self.plan(x.shape(), i.shape())?;
        let indices = ints(i)?;
        plan.check(&indices)?;
        let data = super::walk::positions(&plan.shape, &plan.data_strides(&strides(x.shape())), 0);
        let first = super::walk::positions(&plan.shape, &plan.index_strides(&strides(i.shape())), 0);
        let steps = strides(x.shape());
        let picks = data.zip(first).map(|(base, first)| {
            plan.indexed.iter().enumerate().fold(base, |at, (k, a)| {
                let index = indices.get(first + k).copied().unwrap_or(0);
                let index = if index < 0 { index + a.extent as i128 } else { index };
                let step = steps.get(a.axis).copied().unwrap_or(0);
                at.wrapping_add(usize::try_from(index * step as i128).unwrap_or(usize::MAX))
            })
        });
        Ok(vec![pick(x, plan.shape.clone(), picks)?])
    }

    fn layout(&self) -> LayoutRule {
        match self {
            Gather::Elements { .. } => LayoutRule::Follow,
            Gather::Slices { .. } | Gather::Tuples { .. } => LayoutRule::View,
        }
    }

    fn on_texts(&self, operands: &[Option<&[String]>]) -> Option<OpKind> {
        super::facts::only_first(operands).then(|| (*self).into())
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read(0)?;
        if let (Gather::Slices { axis: at, .. }, Some(indices)) = (self, cx.constant(1))
            && let Some(view) = strided(&x, axis(*at, x.shape.len())?, indices)?
        {
            return cx.alias(0, view);
        }
        let proven = cx.constant(1).is_some() || matches!(self, Gather::Slices { proven: true, .. });
        let indices = cx.read(1)?;
        let y = cx.write(0)?;
        if y.shape.contains(&0) {
            return Ok(());
        }
        let plan = self.plan(&Shape::from(x.shape.as_slice()), &Shape::from(indices.shape.as_slice()))?;
        cx.push(Kernel::Loops(Loops { nests: vec![plan.nest(&x, &indices, &y, proven)] }));
        Ok(())
    }
}

/// Which axis of the data an index moves along.
struct Indexed {
    axis: usize,
    extent: usize,
}

/// How one result element finds its place, the same for inference, evaluation and lowering.
struct Plan {
    /// The result.
    shape: Shape,
    /// Per axis of the result, the axis of the data that it walks, if any.
    data: Vec<Option<usize>>,
    /// Per axis of the result, the axis of the indices that it walks, if any.
    index: Vec<Option<usize>>,
    /// Axes that indices name; the k-th index lies k elements along the indices' last axis (GatherND).
    indexed: Vec<Indexed>,
}

impl Gather {
    fn plan(&self, x: &Shape, i: &Shape) -> Result<Plan, OpError> {
        let extent = |a: usize| x.get(a).copied().unwrap_or(1);
        match self {
            Gather::Slices { axis: at, .. } => {
                let at = axis(*at, x.rank())?;
                let (front, back) = (0..at, at + 1..x.rank());
                let none = |n: usize| std::iter::repeat_n(None, n);
                Ok(Plan {
                    shape: x.iter().take(at).chain(i.iter()).chain(x.iter().skip(at + 1)).copied().collect(),
                    data: front
                        .clone()
                        .map(Some)
                        .chain(none(i.rank()))
                        .chain(back.clone().map(Some))
                        .collect(),
                    index: none(front.len()).chain((0..i.rank()).map(Some)).chain(none(back.len())).collect(),
                    indexed: vec![Indexed { axis: at, extent: extent(at) }],
                })
            }
            Gather::Elements { axis: at } => {
                let at = axis(*at, x.rank())?;
                let fits = i.rank() == x.rank()
                    && i.iter().zip(x.iter()).enumerate().all(|(a, (n, d))| a == at || n <= d);
                if !fits {
                    return Err(OpError::invalid(format!("indices of shape {i} for elements of {x}")));
                }
                Ok(Plan {
                    shape: i.clone(),
                    data: (0..x.rank()).map(|a| (a != at).then_some(a)).collect(),
                    index: (0..i.rank()).map(Some).collect(),
                    indexed: vec![Indexed { axis: at, extent: extent(at) }],
                })
            }
            Gather::Tuples { batch_dims } => {
                let misfit = || OpError::invalid(format!("index tuples of shape {i} into {x}"));
                let (outer, width) = match i.split_last() {
                    Some((&width, outer)) => (outer, width),
                    None => return Err(misfit()),
                };
                let batch =
                    usize::try_from(*batch_dims).ok().filter(|&b| b <= outer.len()).ok_or_else(misfit)?;
                let used = batch.checked_add(width).filter(|&n| n <= x.rank()).ok_or_else(misfit)?;
                if width == 0 || outer.iter().zip(x.iter()).take(batch).any(|(a, b)| a != b) {
                    return Err(misfit());
                }
                let slice = used..x.rank();
                Ok(Plan {
                    shape: outer.iter().chain(x.iter().skip(used)).copied().collect(),
                    data: (0..outer.len())
                        .map(|a| (a < batch).then_some(a))
                        .chain(slice.clone().map(Some))
                        .collect(),
                    index: (0..outer.len()).map(Some).chain(slice.map(|_| None)).collect(),
                    indexed: (batch..used).map(|a| Indexed { axis: a, extent: extent(a) }).collect(),
                })
            }
        }
    }
}

impl Plan {
    fn data_strides(&self, strides: &[isize]) -> Vec<isize> {
        self.data.iter().map(|a| a.and_then(|a| strides.get(a).copied()).unwrap_or(0)).collect()
    }

    fn index_strides(&self, strides: &[isize]) -> Vec<isize> {
        self.index.iter().map(|a| a.and_then(|a| strides.get(a).copied()).unwrap_or(0)).collect()
    }

    /// Every index lies on its axis. Indices of a tuple stand side by side.
    fn check(&self, indices: &[i128]) -> Result<(), OpError> {
        for tuple in indices.chunks(self.indexed.len().max(1)) {
            for (&index, a) in tuple.iter().zip(&self.indexed) {
                let d = a.extent as i128;
                if index < -d || index >= d {
                    return Err(OpError::invalid(format!(
                        "index {index} is outside an axis of {d} elements"
                    )));
                }
            }
        }
        Ok(())
    }

    fn nest(&self, x: &TensorView, indices: &TensorView, y: &TensorView, proven: bool) -> Nest {
        let i = access(indices);
        let along_tuple = indices.strides.last().copied().unwrap_or(0);
        let tuples = self.indexed.len() > 1 || self.index.iter().flatten().count() < indices.shape.len();
        let mut reads: Vec<Read> = Vec::new();
        let mut gather = Vec::new();
        for (k, a) in self.indexed.iter().enumerate() {
            let shift = if tuples { along_tuple.saturating_mul(k as isize) } else { 0 };
            reads.push(Read {
                access: Access {
                    offset: i.offset.saturating_add_signed(shift),
                    strides: self.index_strides(&indices.strides),
                    ..i.clone()
                },
                gather: Vec::new(),
            });
            gather.push(Index {
                index: cast(indices.dtype, DType::I64, Expr::Read(k)),
                extent: a.extent,
                stride: x.strides.get(a.axis).copied().unwrap_or(0),
                proven,
            });
        }
        let value = Expr::Read(reads.len());
        reads.push(Read { access: Access { strides: self.data_strides(&x.strides), ..access(x) }, gather });
        Nest {
            extents: y.shape.clone(),
            reduce: 0,
            reads,
            reductions: Vec::new(),
            stores: vec![Store { access: access(y), value }],
        }
    }
}

/// The gathered slices as a view, where the indices walk the axis in equal steps.
fn strided(x: &TensorView, at: usize, indices: &Tensor) -> Result<Option<TensorView>, OpError> {
    let extent = x.shape.get(at).copied().unwrap_or(1) as i128;
    let list: Vec<i128> = ints(indices)?.into_iter().map(|i| if i < 0 { i + extent } else { i }).collect();
    let Some(&first) = list.first() else { return Ok(None) };
    let step = list.get(1).map_or(1, |second| second - first);
    if !list.windows(2).all(|w| matches!(w, [a, b] if b - a == step)) {
        return Ok(None);
    }
    let (Ok(start), Ok(step)) = (usize::try_from(first), isize::try_from(step)) else { return Ok(None) };
    let line = sliced(x, at, start, list.len(), step)?;
    let mut shape = x.shape.clone();
    shape.splice(at..=at, indices.shape().iter().copied());
    // Splitting or dropping one axis is always possible; the others are left as they lie.
    let mut part = line.clone();
    (part.shape, part.strides) = (vec![list.len()], line.strides.get(at).copied().into_iter().collect());
    let Some(part) = regrouped(&part, indices.shape()) else { return Ok(None) };
    let mut strides = line.strides.clone();
    strides.splice(at..=at, part.strides);
    Ok(Some(TensorView { shape, strides, ..line }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s};
    use super::*;
    use crate::kernel::{BufferId, Operand};
    use crate::onnx::Attr;

    #[test]
    fn slices() {
        let x = f32s(&[3, 2], &[1.0, 1.2, 2.3, 3.4, 4.5, 5.7]);
        let i = i64s(&[2, 2], &[0, 1, 1, -1]);
        let y = apply("Gather", 13, &[], &[&x, &i]).unwrap();
        assert_eq!(y, f32s(&[2, 2, 2], &[1.0, 1.2, 2.3, 3.4, 2.3, 3.4, 4.5, 5.7]));
        let last = [("axis", Attr::Int(-1))];
        assert_eq!(
            apply("Gather", 13, &last, &[&x, &i64s(&[], &[1])]).unwrap(),
            f32s(&[3], &[1.2, 3.4, 5.7])
        );
        for bad in [3, -4, i64::MIN] {
            assert!(apply("Gather", 13, &[], &[&x, &i64s(&[1], &[bad])]).is_err());
        }
        assert!(
            Gather::Slices { axis: 0, proven: false }.eval(&[Some(&x), Some(&i64s(&[1], &[9]))]).is_err(),
            "no panic"
        );
    }

    #[test]
    fn elements_and_tuples() {
        let x = i64s(&[2, 2], &[1, 2, 3, 4]);
        let one = [("axis", Attr::Int(1))];
        let y = apply("GatherElements", 13, &one, &[&x, &i64s(&[2, 2], &[0, 0, 1, 0])]).unwrap();
        assert_eq!(y, i64s(&[2, 2], &[1, 1, 4, 3]));
        assert_eq!(
            apply("GatherND", 13, &[], &[&x, &i64s(&[2, 2], &[0, 0, 1, 1])]).unwrap(),
            i64s(&[2], &[1, 4])
        );
        assert_eq!(
            apply("GatherND", 13, &[], &[&x, &i64s(&[2, 1], &[1, 0])]).unwrap(),
            i64s(&[2, 2], &[3, 4, 1, 2])
        );
        let cube = i64s(&[2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]);
        let batch = [("batch_dims", Attr::Int(1))];
        let y = apply("GatherND", 13, &batch, &[&cube, &i64s(&[2, 1], &[1, 0])]).unwrap();
        assert_eq!(y, i64s(&[2, 2], &[2, 3, 4, 5]));
        assert!(apply("GatherND", 13, &[], &[&x, &i64s(&[1, 3], &[0, 0, 0])]).is_err());
        assert!(apply("GatherElements", 13, &one, &[&x, &i64s(&[2], &[0, 0])]).is_err());
    }

    #[test]
    fn equal_steps_are_views() {
        let operand = Operand::Buffer(BufferId(0));
        let x = TensorView { operand, dtype: DType::F32, shape: vec![2, 6], offset: 0, strides: vec![6, 1] };
        let view = strided(&x, 1, &i64s(&[2, 2], &[-1, 4, 3, 2])).unwrap().unwrap();
        assert_eq!((view.offset, view.shape, view.strides), (5, vec![2, 2, 2], vec![6, -2, -1]));
        let view = strided(&x, 1, &i64s(&[3], &[-1, 3, 1])).unwrap().unwrap();
        assert_eq!((view.offset, view.shape, view.strides), (5, vec![2, 3], vec![6, -2]));
        let view = strided(&x, 0, &i64s(&[], &[1])).unwrap().unwrap();
        assert_eq!((view.offset, view.shape, view.strides), (6, vec![6], vec![1]));
        assert_eq!(strided(&x, 1, &i64s(&[3], &[0, 1, 3])).unwrap(), None);
    }

    #[test]
    fn run_time_indices_become_a_gather() {
        let view = |id, dtype, shape: &[usize]| TensorView {
            operand: Operand::Buffer(BufferId(id)),
            dtype,
            shape: shape.to_vec(),
            offset: 0,
            strides: strides(shape),
        };
        let (x, i, y) =
            (view(0, DType::F32, &[4, 3]), view(1, DType::I32, &[2]), view(2, DType::F32, &[2, 3]));
        let plan =
            Gather::Slices { axis: 0, proven: false }.plan(&Shape::from([4, 3]), &Shape::from([2])).unwrap();
        let nest = plan.nest(&x, &i, &y, false);
        assert_eq!(nest.reads[0].access.strides, [1, 0]);
        assert_eq!(nest.reads[1].access.strides, [0, 1]);
        let index = &nest.reads[1].gather[0];
        assert_eq!((index.extent, index.stride, index.proven), (4, 3, false));
    }
}
