//! [Split](https://onnx.ai/onnx/operators/onnx__Split.html): consecutive parts along an axis, as views.
//!
//! Extents come from an attribute (2), operand 1 (13), or the number of results (18: the last may be smaller).

use super::typed::expect;
use super::views::sliced;
use super::walk::{axis, extent, operand, optional, pick, positions, strides};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Cuts its operand along `axis`.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// May count from the end.
    pub axis: i64,
    /// Extents of the parts, where an attribute gives them.
    pub split: Option<Vec<i64>>,
    /// Number of results.
    pub parts: usize,
    /// Whether equal parts may leave a smaller last one.
    pub uneven: bool,
}

impl OnnxOp for Split {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Split", 1)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let parts = node.outputs.len();
        let uneven = node.opset >= 18;
        if let Some(n) = if uneven { attrs.int("num_outputs")? } else { None }
            && usize::try_from(n).ok() != Some(parts)
        {
            return Err(OpError::invalid(format!("`num_outputs` is {n}, but there are {parts} results")));
        }
        let split = if node.opset < 13 { attrs.ints("split")? } else { None };
        Ok(Split { axis: attrs.int_or("axis", 0)?, split, parts, uneven }.into())
    }
}

impl Op for Split {
    fn name(&self) -> &'static str {
        "Split"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        if let Some(list) = inputs.get(1) {
            expect(list.dtype == DType::I64, list.dtype)?;
        }
        let given = inputs.known_ints(1, "split")?;
        let (at, extents) = self.extents(x.shape, given)?;
        Ok(extents.into_iter().map(|d| Type::new(x.dtype, with_extent(x.shape, at, d))).collect())
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let given = optional(inputs, 1).and_then(Tensor::to_i64_vec);
        let (at, extents) = self.extents(x.shape(), given)?;
        let steps = strides(x.shape());
        let along = steps.get(at).copied().unwrap_or(0);
        let mut start = 0;
        let mut parts = Vec::with_capacity(extents.len());
        for d in extents {
            let shape = with_extent(x.shape(), at, d);
            parts.push(pick(x, shape.clone(), positions(&shape, &steps, start))?);
            start += d as isize * along;
        }
        Ok(parts)
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::View
    }

    fn on_texts(&self, operands: &[Option<&[String]>]) -> Option<OpKind> {
        super::facts::only_first(operands).then(|| self.clone().into())
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read(0)?;
        let given = cx.constant(1).and_then(Tensor::to_i64_vec);
        let (at, extents) = self.extents(&Shape::from(x.shape.as_slice()), given)?;
        let mut start = 0;
        for (i, d) in extents.into_iter().enumerate() {
            if cx.output_type(i).is_some() {
                let part = sliced(&x, at, start, d, 1)?;
                cx.alias(i, part)?;
            }
            start += d;
        }
        Ok(())
    }
}

impl Split {
    /// The axis, and the extent of each part along it; `given` is operand 1.
    pub fn extents(&self, x: &Shape, given: Option<Vec<i64>>) -> Result<(usize, Vec<usize>), OpError> {
        let at = axis(self.axis, x.rank())?;
        let whole = x.get(at).copied().unwrap_or(0);
        let extents = match given.as_ref().or(self.split.as_ref()) {
            Some(list) => list.iter().map(|&d| extent(d)).collect::<Result<Vec<_>, _>>()?,
            None if self.parts == 0 => return Err(OpError::invalid("no results")),
            None => {
                if whole % self.parts != 0 && !self.uneven {
                    return Err(OpError::invalid(format!(
                        "{whole} does not divide into {} parts",
                        self.parts
                    )));
                }
                let each = whole.div_ceil(self.parts);
                (0..self.parts).map(|i| each.min(whole.saturating_sub(i.saturating_mul(each)))).collect()
            }
        };
        let sum = extents.iter().try_fold(0usize, |n, &d| n.checked_add(d));
        if sum != Some(whole) || extents.len() != self.parts {
            return Err(OpError::invalid(format!(
                "extents {extents:?} for {} parts of an axis of {whole}",
                self.parts
            )));
        }
        Ok((at, extents))
    }
}

fn with_extent(shape: &Shape, axis: usize, extent: usize) -> Shape {
    shape.iter().enumerate().map(|(a, &d)| if a == axis { extent } else { d }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{i64s, import, run};
    use super::*;
    use crate::onnx::Attr;

    #[test]
    fn parts_from_all_sources() {
        let x = i64s(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        let last = ("axis", Attr::Int(-1));
        let expected = [i64s(&[2, 2], &[1, 2, 4, 5]), i64s(&[2, 1], &[3, 6])];
        let by_attr = import("Split", 11, &[last.clone(), ("split", Attr::Ints(vec![2, 1]))], 1, 2).unwrap();
        assert_eq!(run(&by_attr, &[Some(&x)], 2).unwrap(), expected);
        let by_operand = import("Split", 13, std::slice::from_ref(&last), 2, 2).unwrap();
        assert_eq!(run(&by_operand, &[Some(&x), Some(&i64s(&[2], &[2, 1]))], 2).unwrap(), expected);
        let by_count = import("Split", 18, &[last.clone(), ("num_outputs", Attr::Int(2))], 1, 2).unwrap();
        assert_eq!(run(&by_count, &[Some(&x)], 2).unwrap(), expected);
        let equal = import("Split", 13, &[], 1, 2).unwrap();
        assert_eq!(run(&equal, &[Some(&x)], 2).unwrap()[1], i64s(&[1, 3], &[4, 5, 6]));
    }

    #[test]
    fn what_is_refused() {
        let x = i64s(&[3], &[1, 2, 3]);
        let equal = import("Split", 13, &[], 1, 2).unwrap();
        assert!(run(&equal, &[Some(&x)], 2).is_err());
        for bad in [&[1i64, 1][..], &[4, -1], &[i64::MAX, i64::MAX], &[1, 1, 1]] {
            assert!(run(&equal, &[Some(&x), Some(&Tensor::vector(bad))], 2).is_err(), "{bad:?}");
        }
        assert!(import("Split", 18, &[("num_outputs", Attr::Int(3))], 1, 2).is_err());
    }
}
