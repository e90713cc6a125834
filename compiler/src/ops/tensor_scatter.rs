//! [TensorScatter](https://onnx.ai/onnx/operators/onnx__TensorScatter.html): new elements written into a cache
//! at a position per sample. On the device each element of the result looks up where it comes from.

use super::nest::{binary, push};
use super::typed::{cast, expect, expect_loop_type, expect_same, ints, literal};
use super::views::access;
use super::walk::{axis, operand, optional, pick_from, positions, strides};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::{BinaryFn, CompareFn, Expr};
use crate::kernel::loops::{Gather, Read, Store};
use crate::kernel::{Access, Nest};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Operands: the cache, `[batch, …, capacity, …]`; the update, alike but for the axis, where it is no longer;
/// and where it starts per sample (`i64[batch]`, optional, 0). What would lie beyond the cache is dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorScatter {
    /// The axis of capacity; may count from the end, never the first.
    pub axis: i64,
    /// Positions beyond the capacity start over.
    pub circular: bool,
}

impl OnnxOp for TensorScatter {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("TensorScatter", 24)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let circular = match attrs.text("mode")? {
            None | Some("linear") => false,
            Some("circular") => true,
            Some(other) => return Err(OpError::invalid(format!("attribute `mode` is `{other}`"))),
        };
        Ok(TensorScatter { axis: attrs.int_or("axis", -2)?, circular }.into())
    }
}

impl TensorScatter {
    fn at(&self, cache: &[usize], update: &[usize]) -> Result<usize, OpError> {
        let at = axis(self.axis, cache.len())?;
        let fits = update.len() == cache.len()
            && update.iter().zip(cache).enumerate().all(|(i, (u, c))| u == c || i == at && u < c);
        if at == 0 || !fits {
            return Err(OpError::invalid(format!(
                "an update {update:?} of a cache {cache:?} along axis {at}"
            )));
        }
        Ok(at)
    }
}

impl Op for TensorScatter {
    fn name(&self) -> &'static str {
        "TensorScatter"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (cache, update) = (inputs.required(0)?, inputs.required(1)?);
        expect_same(cache.dtype, update.dtype)?;
        self.at(cache.shape, update.shape)?;
        if let Some(start) = inputs.get(2) {
            expect(start.dtype == DType::I64, start.dtype)?;
            if start.shape.dims() != [cache.shape.first().copied().unwrap_or(0)] {
                return Err(OpError::invalid(format!(
                    "positions {} for a cache {}",
                    start.shape, cache.shape
                )));
            }
        }
        Ok(vec![Type::new(cache.dtype, cache.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (cache, update) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let at = self.at(cache.shape(), update.shape())?;
        let starts = optional(inputs, 2).map(ints).transpose()?;
        let (shape, steps) = (cache.shape(), strides(cache.shape()));
        let (capacity, length) = (shape[at] as i128, update.shape()[at] as i128);
        let inner = steps[at] as usize;
        let sample = steps[0] as usize;
        let picks = positions(shape, &steps, 0).map(|p| {
            let start = starts.as_ref().map_or(0, |s| s[p / sample]);
            let mut from = (p / inner) as i128 % capacity - start;
            if self.circular {
                from = from.rem_euclid(capacity);
            }
            if (0..length).contains(&from) {
                (1, (p / inner / shape[at] * length as usize + from as usize) * inner + p % inner)
            } else {
                (0, p)
            }
        });
        Ok(vec![pick_from(&[cache, update], Shape::clone(shape), picks)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (cache, update) = (cx.read(0)?, cx.read(1)?);
        expect_loop_type(cache.dtype)?;
        let at = self.at(&cache.shape, &update.shape)?;
        let start = match cx.input_type(2) {
            Some(_) => Some(cx.read(2)?),
            None => None,
        };
        if update.shape.contains(&0) {
            return cx.alias(0, cache);
        }
        let y = cx.write(0)?;
        let rank = cache.shape.len();
        let int = |v: usize| literal(DType::I64, v as f64);
        let mut reads = vec![Read { access: access(&cache), gather: Vec::new() }];
        let mut from = Expr::Index(at);
        if let Some(start) = start {
            let mut place = Access { strides: vec![0; rank], ..access(&start) };
            place.strides[0] = start.strides.first().copied().unwrap_or(0);
            reads.push(Read { access: place, gather: Vec::new() });
            from = binary(BinaryFn::Sub, from, cast(start.dtype, DType::I64, Expr::Read(1)));
        }
        if self.circular {
            from = binary(BinaryFn::Mod, from, int(cache.shape[at]));
        }
        let compare = |f, a: &Expr, b: Expr| Expr::Compare(f, Box::new(a.clone()), Box::new(b));
        let inside = binary(
            BinaryFn::And,
            compare(CompareFn::GreaterOrEqual, &from, int(0)),
            compare(CompareFn::Less, &from, int(update.shape[at])),
        );
        let clamped = binary(BinaryFn::Min, binary(BinaryFn::Max, from, int(0)), int(update.shape[at] - 1));
        let mut new = access(&update);
        new.strides[at] = 0;
        let stride = update.strides[at];
        let gather = vec![Gather { index: clamped, extent: update.shape[at], stride, proven: true }];
        reads.push(Read { access: new, gather });
        let new = Expr::Read(reads.len() - 1);
        let value = Expr::Select(Box::new(inside), Box::new(new), Box::new(Expr::Read(0)));
        let nest = Nest {
            extents: cache.shape.clone(),
            reduce: 0,
            reads,
            reductions: Vec::new(),
            stores: vec![Store { access: access(&y), value }],
        };
        push(cx, nest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s};
    use crate::ir::Tensor;
    use crate::onnx::Attr;

    #[test]
    fn updates_start_where_each_sample_says() {
        let cache = f32s(&[2, 3, 1], &[1., 2., 3., 4., 5., 6.]);
        let update = f32s(&[2, 2, 1], &[10., 20., 30., 40.]);
        let run = |attrs: &[(&str, Attr)], start: &Tensor| {
            apply("TensorScatter", 24, attrs, &[&cache, &update, start])
        };
        let y = run(&[], &i64s(&[2], &[0, 1])).unwrap();
        assert_eq!(y, f32s(&[2, 3, 1], &[10., 20., 3., 4., 30., 40.]));
        let around = [("mode", Attr::String(b"circular".to_vec()))];
        let y = run(&around, &i64s(&[2], &[2, 1])).unwrap();
        assert_eq!(y, f32s(&[2, 3, 1], &[20., 2., 10., 4., 30., 40.]));
        let y = apply("TensorScatter", 24, &[], &[&cache, &update]).unwrap();
        assert_eq!(y, f32s(&[2, 3, 1], &[10., 20., 3., 30., 40., 6.]));
        assert!(apply("TensorScatter", 24, &[("axis", Attr::Int(0))], &[&cache, &update]).is_err());
    }
}
