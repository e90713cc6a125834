//! [DepthToSpace](https://onnx.ai/onnx/operators/onnx__DepthToSpace.html) and
//! [SpaceToDepth](https://onnx.ai/onnx/operators/onnx__SpaceToDepth.html) of `[N, C, H, W]`.
//!
//! One copy between two six-dimensional views, whatever the layouts on either side.

use super::views::{permuted, split};
use super::walk::{extent, operand, pick, positions, strides};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Which way, and how the block's offsets lie in the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Channels are `[b, b, C]` (ONNX's mode DCR).
    DepthFirst,
    /// Channels are `[C, b, b]` (ONNX's mode CRD).
    ColumnFirst,
    /// SpaceToDepth in mode DCR: the inverse of `DepthFirst`.
    ToDepth,
    /// SpaceToDepth in mode CRD: the inverse of `ColumnFirst`.
    ToColumns,
}

impl Direction {
    /// Whether channels grow.
    fn deepens(self) -> bool {
        matches!(self, Direction::ToDepth | Direction::ToColumns)
    }
}

/// Moves blocks of `blocksize × blocksize` pixels between space and channels.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockMove {
    /// Extent of a block.
    pub blocksize: usize,
    /// Which way.
    pub direction: Direction,
}

impl OnnxOp for BlockMove {
    const NAMES: &'static [OnnxName] =
        &[OnnxName::onnx("DepthToSpace", 1), OnnxName::onnx("SpaceToDepth", 1)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let blocksize = extent(AttrReader::required("blocksize", attrs.int("blocksize")?)?)?;
        if blocksize == 0 {
            return Err(OpError::invalid("`blocksize` is 0"));
        }
        let to_space = node.op_type == "DepthToSpace";
        // SpaceToDepth got its mode with opset 28.
        let mode = if node.opset >= if to_space { 11 } else { 28 } { attrs.text("mode")? } else { None };
        let direction = match mode {
            None | Some("DCR") if !to_space => Direction::ToDepth,
            Some("CRD") if !to_space => Direction::ToColumns,
            None | Some("DCR") => Direction::DepthFirst,
            Some("CRD") => Direction::ColumnFirst,
            Some(other) => return Err(OpError::invalid(format!("attribute `mode` is `{other}`"))),
        };
        Ok(BlockMove { blocksize, direction }.into())
    }
}

impl Op for BlockMove {
    fn name(&self) -> &'static str {
        match self.direction {
            Direction::ToDepth | Direction::ToColumns => "SpaceToDepth",
            Direction::DepthFirst | Direction::ColumnFirst => "DepthToSpace",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        Ok(vec![Type::new(x.dtype, self.moved(x.shape)?)])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let [n, c, h, w] = extents(x.shape())?;
        let b = self.blocksize;
        let (inner, perm) = match self.direction {
            Direction::DepthFirst => ([n, b, b, c / (b * b), h, w], [0, 3, 4, 1, 5, 2]),
            Direction::ColumnFirst => ([n, c / (b * b), b, b, h, w], [0, 1, 4, 2, 5, 3]),
            Direction::ToDepth => ([n, c, h / b, b, w / b, b], [0, 3, 5, 1, 2, 4]),
            Direction::ToColumns => ([n, c, h / b, b, w / b, b], [0, 1, 3, 5, 2, 4]),
        };
        let steps = strides(&inner);
        let loops: Vec<usize> = perm.iter().map(|&p: &usize| inner[p]).collect();
        let steps: Vec<isize> = perm.iter().map(|&p| steps[p]).collect();
        Ok(vec![pick(x, self.moved(x.shape())?, positions(&loops, &steps, 0))?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (x, y) = (cx.read(0)?, cx.write(0)?);
        if x.shape.contains(&0) {
            return Ok(());
        }
        let b = self.blocksize;
        // `deep` has the block in its channels, `wide` in its space.
        let (deep, wide) = if self.direction.deepens() { (&y, &x) } else { (&x, &y) };
        let channels = wide.shape.get(1).copied().unwrap_or(1);
        let deep_parts = match self.direction {
            Direction::ColumnFirst | Direction::ToColumns => split(deep, 1, &[channels, b, b])?,
            Direction::DepthFirst | Direction::ToDepth => {
                permuted(&split(deep, 1, &[b, b, channels])?, &[0, 3, 1, 2, 4, 5])?
            }
        };
        // Both as [N, C, H, b, W, b].
        let deep_parts = permuted(&deep_parts, &[0, 1, 4, 2, 5, 3])?;
        let (rows, columns) = (deep_parts.shape[2], deep_parts.shape[4]);
        let wide_parts = split(&split(wide, 3, &[columns, b])?, 2, &[rows, b])?;
        if self.direction.deepens() {
            cx.copy(&wide_parts, &deep_parts)
        } else {
            cx.copy(&deep_parts, &wide_parts)
        }
    }
}

impl BlockMove {
    fn moved(&self, x: &Shape) -> Result<Shape, OpError> {
        let [n, c, h, w] = extents(x)?;
        let b = self.blocksize;
        let misfit = || OpError::invalid(format!("{x} does not divide into blocks of {b}"));
        let area = b.checked_mul(b).ok_or_else(misfit)?;
        match self.direction {
            Direction::ToDepth | Direction::ToColumns if h % b == 0 && w % b == 0 => {
                Ok(Shape::from([n, c.checked_mul(area).ok_or_else(misfit)?, h / b, w / b]))
            }
            Direction::DepthFirst | Direction::ColumnFirst if c % area == 0 => Ok(Shape::from([
                n,
                c / area,
                h.checked_mul(b).ok_or_else(misfit)?,
                w.checked_mul(b).ok_or_else(misfit)?,
            ])),
            _ => Err(misfit()),
        }
    }
}

fn extents(x: &Shape) -> Result<[usize; 4], OpError> {
    <[usize; 4]>::try_from(x.dims()).map_err(|_| OpError::invalid(format!("{x} is not of rank 4")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, i64s, import};
    use crate::onnx::Attr;

    #[test]
    fn both_modes_and_back() {
        let x = i64s(&[1, 8, 1, 1], &[0, 1, 2, 3, 4, 5, 6, 7]);
        let b = ("blocksize", Attr::Int(2));
        let dcr = apply("DepthToSpace", 13, std::slice::from_ref(&b), &[&x]).unwrap();
        assert_eq!(dcr, i64s(&[1, 2, 2, 2], &[0, 2, 4, 6, 1, 3, 5, 7]));
        let crd =
            apply("DepthToSpace", 13, &[b.clone(), ("mode", Attr::String(b"CRD".to_vec()))], &[&x]).unwrap();
        assert_eq!(crd, i64s(&[1, 2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(apply("SpaceToDepth", 13, std::slice::from_ref(&b), &[&dcr]).unwrap(), x);
        let mode = ("mode", Attr::String(b"CRD".to_vec()));
        assert_eq!(apply("SpaceToDepth", 28, &[b, mode], &[&crd]).unwrap(), x);
    }

    #[test]
    fn what_is_refused() {
        let x = i64s(&[1, 6, 1, 1], &[0; 6]);
        assert!(apply("DepthToSpace", 13, &[("blocksize", Attr::Int(2))], &[&x]).is_err());
        assert!(apply("SpaceToDepth", 13, &[("blocksize", Attr::Int(2))], &[&x]).is_err());
        assert!(apply("DepthToSpace", 13, &[("blocksize", Attr::Int(i64::MAX))], &[&x]).is_err());
        assert!(import("DepthToSpace", 13, &[("blocksize", Attr::Int(0))], 1, 1).is_err());
    }
}
