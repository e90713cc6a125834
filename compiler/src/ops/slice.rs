//! [Slice](https://onnx.ai/onnx/operators/onnx__Slice.html): every `step`-th element of a range, per axis.
//!
//! Bounds are attributes (1) or operands (10); these must be known at compile time.

use super::length::{Axes, Length, none, of, unknown_length};
use super::typed::expect;
use super::views::sliced;
use super::walk::{axes, operand, optional, pick, positions, strides};
use super::{Inputs, LayoutRule, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Takes ranges out of its operand.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// Bounds given as attributes; otherwise operands 1 to 4 hold them.
    pub bounds: Option<Bounds>,
}

/// Ranges as the model gives them: negative positions count from the end, all are clamped.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// First positions.
    pub starts: Vec<i64>,
    /// Positions behind the last.
    pub ends: Vec<i64>,
    /// Which axes; the first ones where absent.
    pub axes: Option<Vec<i64>>,
    /// 1 where absent.
    pub steps: Option<Vec<i64>>,
}

/// What is taken along one axis: `len` elements from `start`, every `step`-th.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // said above
pub struct Range {
    pub start: usize,
    pub len: usize,
    pub step: isize,
}

impl OnnxOp for Slice {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Slice", 1)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        if node.opset >= 10 {
            return Ok(Slice { bounds: None }.into());
        }
        let bounds = Bounds {
            starts: AttrReader::required("starts", attrs.ints("starts")?)?,
            ends: AttrReader::required("ends", attrs.ints("ends")?)?,
            axes: attrs.ints("axes")?,
            steps: None,
        };
        Ok(Slice { bounds: Some(bounds) }.into())
    }
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        let ranges = self.given(inputs)?.ranges(x.shape)?;
        Ok(vec![Type::new(x.dtype, ranges.iter().map(|r| r.len).collect::<Shape>())])
    }

    fn lengths(&self, inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        let Some(axis) = of(along, 0) else { return none(along) };
        let rank = inputs.required(0)?.shape.rank();
        let bounds = self.given(inputs)?;
        let listed = match &bounds.axes {
            Some(list) => axes(list, rank)?,
            None => (0..bounds.starts.len()).collect(),
        };
        let Some(k) = listed.iter().position(|&a| a == axis) else { return Ok(Lengths::same(axis).moved()) };
        let step = bounds.steps.as_ref().and_then(|s| s.get(k).copied()).unwrap_or(1);
        let place = |list: &[i64]| list.get(k).and_then(|&p| usize::try_from(p).ok());
        match (place(&bounds.starts), place(&bounds.ends), step) {
            (Some(from), Some(to), 1) => Ok(Lengths::one(axis, Length::Window { from, to })),
            _ => Err(unknown_length("an axis that is cut from its end or in steps")),
        }
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let ranges = self.ranges(x.shape(), [1, 2, 3, 4].map(|i| optional(inputs, i)))?;
        let along = strides(x.shape());
        let start = ranges.iter().zip(&along).map(|(r, s)| r.start as isize * s).sum();
        let steps: Vec<isize> = ranges.iter().zip(&along).map(|(r, s)| r.step.saturating_mul(*s)).collect();
        let shape: Shape = ranges.iter().map(|r| r.len).collect();
        Ok(vec![pick(x, shape.clone(), positions(&shape, &steps, start))?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::View
    }

    fn on_texts(&self, operands: &[Option<&[String]>]) -> Option<OpKind> {
        super::facts::only_first(operands).then(|| self.clone().into())
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let mut view = cx.read(0)?;
        let ranges =
            self.ranges(&Shape::from(view.shape.as_slice()), [1, 2, 3, 4].map(|i| cx.constant(i)))?;
        for (axis, r) in ranges.into_iter().enumerate() {
            view = sliced(&view, axis, r.start, r.len, r.step)?;
        }
        cx.alias(0, view)
    }
}

impl Slice {
    /// The bounds, from wherever they are given.
    fn given(&self, inputs: &Inputs<'_>) -> Result<Bounds, OpError> {
        if let Some(bounds) = &self.bounds {
            return Ok(bounds.clone());
        }
        let given = |i, what| {
            if let Some(list) = inputs.get(i) {
                expect(matches!(list.dtype, DType::I32 | DType::I64), list.dtype)?;
            }
            inputs.known_ints(i, what)
        };
        let missing = |what| move || OpError::invalid(format!("`{what}` is missing"));
        Ok(Bounds {
            starts: given(1, "starts")?.ok_or_else(missing("starts"))?,
            ends: given(2, "ends")?.ok_or_else(missing("ends"))?,
            axes: given(3, "axes")?,
            steps: given(4, "steps")?,
        })
    }

    /// What is taken along each axis of an operand of shape `x`; `operands` are 1 to 4, where known.
    pub fn ranges(&self, x: &Shape, operands: [Option<&Tensor>; 4]) -> Result<Vec<Range>, OpError> {
        if let Some(bounds) = &self.bounds {
            return bounds.ranges(x);
        }
        let [starts, ends, axes, steps] = operands.map(|t| t.and_then(Tensor::to_i64_vec));
        let (Some(starts), Some(ends)) = (starts, ends) else {
            return Err(OpError::internal("bounds that are not known"));
        };
        Bounds { starts, ends, axes, steps }.ranges(x)
    }
}

impl Bounds {
    fn ranges(&self, x: &Shape) -> Result<Vec<Range>, OpError> {
        let mut ranges: Vec<Range> = x.iter().map(|&len| Range { start: 0, len, step: 1 }).collect();
        let count = self.starts.len();
        let list = match &self.axes {
            Some(list) => axes(list, x.rank())?,
            None => (0..count).collect(),
        };
        let steps = self.steps.clone().unwrap_or_else(|| vec![1; count]);
        if self.ends.len() != count || list.len() != count || steps.len() != count {
            return Err(OpError::invalid("`starts`, `ends`, `axes` and `steps` differ in length"));
        }
        for (((&start, &end), &axis), &step) in self.starts.iter().zip(&self.ends).zip(&list).zip(&steps) {
            let range = ranges
                .get_mut(axis)
                .ok_or_else(|| OpError::invalid(format!("more bounds than the axes of {x}")))?;
            *range = clamped(range.len, start, end, step)?;
        }
        Ok(ranges)
    }
}

fn clamped(extent: usize, start: i64, end: i64, step: i64) -> Result<Range, OpError> {
    if step == 0 {
        return Err(OpError::invalid("a step of 0"));
    }
    let d = extent as i128;
    let (start, end, step) = (i128::from(start), i128::from(end), i128::from(step));
    let (low, high) = if step > 0 { (0, d) } else { (-1, d - 1) };
    let from_start = |p: i128| if p < 0 { p + d } else { p };
    // A first position before the front starts at the front in either direction.
    let first = from_start(start).clamp(0, high.max(0));
    let last = from_start(end).clamp(low, high);
    let span = if step > 0 { last - first } else { first - last };
    let len = if d > 0 && span > 0 { (span + step.abs() - 1) / step.abs() } else { 0 };
    // A step beyond the extent is never taken, and need not fit a stride.
    let step = step.clamp(-d.max(1), d.max(1));
    let fits =
        || Some((usize::try_from(first).ok()?, usize::try_from(len).ok()?, isize::try_from(step).ok()?));
    let (start, len, step) = fits().ok_or_else(|| OpError::Limit("a slice is too large".to_owned()))?;
    Ok(Range { start: if len == 0 { 0 } else { start }, len, step })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, i64s, import, run};
    use super::*;
    use crate::onnx::Attr;

    fn line(start: i64, end: i64, step: i64) -> Vec<i64> {
        let x = i64s(&[5], &[0, 1, 2, 3, 4]);
        let v = |n| Tensor::vector(&[n]);
        let y = apply("Slice", 13, &[], &[&x, &v(start), &v(end), &v(0), &v(step)]).unwrap();
        y.to_i64_vec().unwrap()
    }

    #[test]
    fn ranges_clamp_as_pythons_do() {
        assert_eq!(line(1, 4, 1), [1, 2, 3]);
        assert_eq!(line(-3, i64::MAX, 2), [2, 4]);
        assert_eq!(line(i64::MAX, i64::MIN, -1), [4, 3, 2, 1, 0]);
        assert_eq!(line(-1, -4, -2), [4, 2]);
        assert_eq!(line(i64::MIN, 2, 1), [0, 1]);
        assert_eq!(line(3, 1, 1), [0i64; 0]);
        assert_eq!(line(9, 20, 1), [0i64; 0]);
        assert_eq!(line(0, 5, i64::MAX), [0]);
        assert_eq!(line(i64::MIN, i64::MIN, -1), [0]);
        assert_eq!(line(4, 0, i64::MIN), [4]);
    }

    #[test]
    fn several_axes_and_attributes() {
        let x = i64s(&[2, 4], &[1, 2, 3, 4, 5, 6, 7, 8]);
        let ints = |v: &[i64]| Attr::Ints(v.to_vec());
        let attrs = [("starts", ints(&[1, 0])), ("ends", ints(&[2, 3])), ("axes", ints(&[0, 1]))];
        assert_eq!(apply("Slice", 1, &attrs, &[&x]).unwrap(), i64s(&[1, 3], &[5, 6, 7]));
        assert!(import("Slice", 10, &attrs, 3, 1).is_err(), "attributes ended with opset 10");
        let v = |n: i64| Tensor::vector(&[n]);
        let op = import("Slice", 13, &[], 5, 1).unwrap();
        let (one, last, minus) = (v(1), v(-1), v(-1));
        let y = run(&op, &[Some(&x), Some(&one), Some(&v(i64::MIN)), Some(&last), Some(&minus)], 1).unwrap();
        assert_eq!(y[0], i64s(&[2, 2], &[2, 1, 6, 5]));
        assert!(run(&op, &[Some(&x), Some(&one), Some(&one), Some(&one), Some(&v(0))], 1).is_err());
        assert!(run(&op, &[Some(&x), Some(&one), Some(&one), Some(&v(2)), None], 1).is_err());
        assert!(run(&op, &[Some(&x), Some(&one), Some(&i64s(&[2], &[1, 1])), None, None], 1).is_err());
    }
}
