//! [Expand](https://onnx.ai/onnx/operators/onnx__Expand.html) and
//! [Tile](https://onnx.ai/onnx/operators/onnx__Tile.html): repetition along axes.
//!
//! The shape or the repeats must be known at compile time. Expand is a view with strides of 0.

use super::typed::expect;
use super::views::{broadcast, split};
use super::walk::{
    broadcast_shape, broadcast_strides, checked_type, extent, operand, optional, pick, positions, strides,
};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Broadcasts operand 0 with the shape in operand 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Expand;

/// Repeats operand 0 as often along each axis as operand 1 says.
#[derive(Debug, Clone, PartialEq)]
pub struct Tile;

impl OnnxOp for Expand {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Expand", 8)];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Expand.into())
    }
}

impl Op for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        Ok(vec![checked_type(x.dtype, expanded(x.shape, &extents(inputs, "shape")?)?)?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let shape = expanded(x.shape(), &known_extents(optional(inputs, 1))?)?;
        Ok(vec![pick(x, shape.clone(), positions(&shape, &broadcast_strides(x.shape(), &shape), 0))?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::View
    }

    fn on_texts(&self, operands: &[Option<&[String]>]) -> Option<OpKind> {
        super::facts::only_first(operands).then(|| self.clone().into())
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (_, shape) = cx.output_type(0).ok_or_else(|| OpError::internal("an expansion without result"))?;
        let x = cx.read(0)?;
        cx.alias(0, broadcast(&x, shape)?)
    }
}

impl OnnxOp for Tile {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Tile", 6)];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Tile.into())
    }
}

impl Op for Tile {
    fn name(&self) -> &'static str {
        "Tile"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        Ok(vec![checked_type(x.dtype, tiled(x.shape, &extents(inputs, "repeats")?)?)?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let repeats = known_extents(optional(inputs, 1))?;
        let shape = tiled(x.shape(), &repeats)?;
        // Two loops per axis: the repeats, which don't move, and the elements.
        let loops: Vec<usize> = repeats.iter().zip(x.shape().iter()).flat_map(|(&r, &d)| [r, d]).collect();
        let steps: Vec<isize> = strides(x.shape()).into_iter().flat_map(|s| [0, s]).collect();
        Ok(vec![pick(x, shape, positions(&loops, &steps, 0))?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn on_texts(&self, operands: &[Option<&[String]>]) -> Option<OpKind> {
        super::facts::only_first(operands).then(|| self.clone().into())
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let mut x = cx.read(0)?;
        let mut y = cx.write(0)?;
        // From the last axis on, so that the axes in front keep their numbers.
        for axis in (0..x.shape.len()).rev() {
            let d = x.shape.get(axis).copied().unwrap_or(1);
            let repeats = y.shape.get(axis).map_or(0, |n| n.checked_div(d).unwrap_or(0));
            y = split(&y, axis, &[repeats, d])?;
            x = split(&x, axis, &[1, d])?;
        }
        let x = broadcast(&x, &y.shape)?;
        if y.shape.contains(&0) { Ok(()) } else { cx.copy(&x, &y) }
    }
}

fn extents(inputs: &Inputs<'_>, what: &str) -> Result<Vec<usize>, OpError> {
    let list = inputs.required(1)?;
    expect(list.dtype == DType::I64 && list.shape.rank() == 1, list.dtype)?;
    let list = inputs.known_ints(1, what)?.unwrap_or_default();
    list.into_iter().map(extent).collect()
}

fn known_extents(list: Option<&Tensor>) -> Result<Vec<usize>, OpError> {
    let list =
        list.and_then(Tensor::to_i64_vec).ok_or_else(|| OpError::internal("extents that are not known"))?;
    list.into_iter().map(extent).collect()
}

fn expanded(x: &Shape, shape: &[usize]) -> Result<Shape, OpError> {
    broadcast_shape([x, &Shape::from(shape)])
}

fn tiled(x: &Shape, repeats: &[usize]) -> Result<Shape, OpError> {
    if repeats.len() != x.rank() {
        return Err(OpError::invalid(format!("{} repeats for the axes of {x}", repeats.len())));
    }
    Ok(x.iter().zip(repeats).map(|(&d, &r)| d.saturating_mul(r)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, i64s};
    use super::*;

    #[test]
    fn expands_both_ways() {
        let x = i64s(&[2, 1], &[1, 2]);
        let y = apply("Expand", 13, &[], &[&x, &Tensor::vector(&[2i64, 1, 2])]).unwrap();
        assert_eq!(y, i64s(&[2, 2, 2], &[1, 1, 2, 2, 1, 1, 2, 2]));
        assert_eq!(apply("Expand", 13, &[], &[&x, &Tensor::vector(&[1i64])]).unwrap(), x);
        assert!(apply("Expand", 13, &[], &[&x, &Tensor::vector(&[3i64, 1])]).is_err());
        assert!(apply("Expand", 13, &[], &[&x, &Tensor::vector(&[i64::MAX, i64::MAX, 2, 1])]).is_err());
        assert!(apply("Expand", 13, &[], &[&x, &Tensor::vector(&[-1i64])]).is_err());
    }

    #[test]
    fn tiles() {
        let x = i64s(&[2, 2], &[1, 2, 3, 4]);
        let y = apply("Tile", 13, &[], &[&x, &Tensor::vector(&[1i64, 2])]).unwrap();
        assert_eq!(y, i64s(&[2, 4], &[1, 2, 1, 2, 3, 4, 3, 4]));
        let y = apply("Tile", 13, &[], &[&x, &Tensor::vector(&[2i64, 0])]).unwrap();
        assert_eq!(y, i64s(&[4, 0], &[]));
        assert!(apply("Tile", 13, &[], &[&x, &Tensor::vector(&[2i64])]).is_err());
    }
}
