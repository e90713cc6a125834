//! [NonMaxSuppression](https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html): of overlapping boxes that with the
//! highest score, for each batch and class. How many are left only a run knows: at most as many per class as there are
//! boxes, or as `max_output_boxes_per_class` says where it is known at compile time.
//!
//! Of equal scores the lower position comes first. A score that is NaN counts as the lowest.

use super::composite::{Composite, INTERNAL, Script};
use super::length::{Axes, none};
use super::nest::{read_as, scratch};
use super::typed::{expect, floats};
use super::walk::{checked_type, operand, optional};
use super::{Along, Body, Inputs, Length, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;
use std::cmp::Ordering;

/// The operator as a model has it, whose setting `max_output_boxes_per_class` bounds the result where it is known.
pub struct Suppression;

impl Composite for Suppression {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("NonMaxSuppression", 10)];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let centers = attrs.int_or("center_point_box", 0)?;
        let most = match inputs.get(2) {
            None => Some(0),
            Some(most) => most.constant.and_then(|t| t.to_i64_vec()?.first().copied()),
        };
        // Without a number at compile time all boxes may stay.
        let most = most.unwrap_or(i64::MAX).max(0);
        let names: Vec<String> = (0..5).map(|i| format!("x{i}")).collect();
        let given = |i: usize| node.inputs.get(i).copied().unwrap_or(false);
        let operands: Vec<&str> =
            names.iter().enumerate().map(|(i, n)| if given(i) { n.as_str() } else { "" }).collect();
        let mut s = Script::numbered(5);
        let y = s.op(&format!("{INTERNAL}.SelectBoxes <centers = {centers}, most = {most}>"), &operands);
        s.finish(&[&y])
    }
}

/// Operands: boxes `[N, boxes, 4]`, scores `[N, C, boxes]`, and, each optional, `max_output_boxes_per_class` (0: no boxes),
/// `iou_threshold`, `score_threshold`. Results: rows of batch, class and position, `i64`, zeros behind the last; and their
/// number, `i64[1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct NonMaxSuppression {
    /// Boxes are centers and sizes (`x, y, w, h`) instead of corners (`y1, x1, y2, x2`, in either order).
    pub centers: bool,
    /// How many boxes of a class there can be.
    pub most: usize,
}

impl OnnxOp for NonMaxSuppression {
    const NAMES: &'static [OnnxName] = &[OnnxName { domain: INTERNAL, op_type: "SelectBoxes", since: 1 }];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let centers = attrs.int_or("centers", 0)? != 0;
        let most = usize::try_from(attrs.int_or("most", 0)?).unwrap_or(usize::MAX);
        Ok(NonMaxSuppression { centers, most }.into())
    }
}

/// Extents: batches, classes, boxes, and the most boxes of a class.
#[derive(Debug, Clone, Copy)]
struct Extents {
    batches: usize,
    classes: usize,
    boxes: usize,
    most: usize,
}

impl Extents {
    fn of(boxes: &[usize], scores: &[usize], most: usize) -> Result<Extents, OpError> {
        match (boxes, scores) {
            (&[batches, count, 4], &[b, classes, n]) if b == batches && n == count => {
                let most = most.min(count);
                Ok(Extents { batches, classes, boxes: count, most })
            }
            _ => Err(OpError::invalid(format!(
                "boxes of shape {boxes:?} and scores of shape {scores:?}, expected [N, n, 4] and [N, C, n]"
            ))),
        }
    }

    fn rows(self) -> Result<usize, OpError> {
        let all = self.batches.checked_mul(self.classes).and_then(|n| n.checked_mul(self.most));
        all.ok_or_else(|| OpError::Limit("more boxes than can be counted".to_owned()))
    }
}

impl Op for NonMaxSuppression {
    fn name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (boxes, scores) = (inputs.required(0)?, inputs.required(1)?);
        expect(boxes.dtype == DType::F32, boxes.dtype)?;
        expect(scores.dtype == DType::F32, scores.dtype)?;
        for (i, dtype) in [(2, DType::I64), (3, DType::F32), (4, DType::F32)] {
            let Some(setting) = inputs.get(i) else { continue };
            expect(setting.dtype == dtype, setting.dtype)?;
            if setting.shape.elements() != 1 {
                return Err(OpError::invalid(format!("a setting of shape {}", setting.shape)));
            }
        }
        let rows = Extents::of(boxes.shape, scores.shape, self.most)?.rows()?;
        Ok(vec![checked_type(DType::I64, [rows, 3])?, Type::new(DType::I64, [1])])
    }

    fn lengths(&self, _inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        none(along)?;
        Ok(Lengths {
            results: vec![Some(Along { axis: 0, length: Length::Result(1) })],
            ..Lengths::default()
        })
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (boxes, scores) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let e = Extents::of(boxes.shape(), scores.shape(), self.most)?;
        let most = optional(inputs, 2).and_then(|t| t.to_i64_vec()?.first().copied()).unwrap_or(0);
        let most = usize::try_from(most).unwrap_or(0).min(e.most);
        let setting = |i: usize| match optional(inputs, i) {
            Some(t) => floats(t).map(|v| v.first().copied()),
            None => Ok(None),
        };
        let (overlap, least) = (setting(3)?.unwrap_or(0.0) as f32, setting(4)?);
        let (boxes, scores) = (floats(boxes)?, floats(scores)?);
        let mut rows: Vec<i64> = Vec::new();
        for (class, scores) in scores.chunks(e.boxes.max(1)).enumerate().take(e.batches * e.classes) {
            let (batch, class) = (class / e.classes, class % e.classes);
            let own = &boxes[batch * e.boxes * 4..][..e.boxes * 4];
            let corners = |i: usize| self.corners(&own[i * 4..][..4]);
            let mut order: Vec<usize> =
                (0..e.boxes).filter(|&i| least.is_none_or(|l| scores[i] > l)).collect();
            order.sort_by(|&a, &b| match scores[b].partial_cmp(&scores[a]) {
                Some(by) => by,
                None => scores[a].is_nan().cmp(&scores[b].is_nan()),
            });
            let mut kept: Vec<usize> = Vec::new();
            for i in order {
                if kept.len() < most && kept.iter().all(|&k| !suppresses(corners(k), corners(i), overlap)) {
                    kept.push(i);
                }
            }
            rows.extend(kept.iter().flat_map(|&i| [batch as i64, class as i64, i as i64]));
        }
        let count = rows.len() / 3;
        rows.resize(e.rows()? * 3, 0);
        Ok(vec![Tensor::new::<i64>([rows.len() / 3, 3], rows)?, Tensor::vector(&[count as i64])])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let shape_of = |cx: &LowerCx<'_>, i| cx.input_type(i).map(|(_, s)| s.to_vec());
        let missing = || OpError::internal("no operand");
        let (boxes, scores) = (shape_of(cx, 0).ok_or_else(missing)?, shape_of(cx, 1).ok_or_else(missing)?);
        let (given, scored) = (cx.input_type(2).is_some(), cx.input_type(4).is_some());
        let e = Extents::of(&boxes, &scores, self.most)?;
        let mut reads = vec![read_as(cx, 0, DType::F32)?.operand, read_as(cx, 1, DType::F32)?.operand];
        reads.push(match given {
            true => read_as(cx, 2, DType::I64)?.operand,
            false => cx.blob("max_output_boxes_per_class", &[0i64]),
        });
        for (i, name) in [(3, "iou_threshold"), (4, "score_threshold")] {
            reads.push(match cx.input_type(i) {
                Some(_) => read_as(cx, i, DType::F32)?.operand,
                None => cx.blob(name, &[0f32]),
            });
        }
        let rows = match cx.output_type(0) {
            Some(_) => cx.write_dense(0)?,
            None => scratch(cx, "boxes", DType::I64, &[e.rows()?, 3])?,
        };
        let count = match cx.output_type(1) {
            Some(_) => cx.write_dense(1)?,
            None => scratch(cx, "count", DType::I64, &[1])?,
        };
        let order = scratch(cx, "order", DType::I64, &[e.boxes])?;
        let params = [e.batches, e.classes, e.boxes, e.most].map(Param::Usize);
        cx.push(Kernel::Routine(Routine {
            function: "boxes::non_max_suppression",
            reads,
            writes: vec![rows.operand, count.operand, order.operand],
            params: params.into_iter().chain([Param::Bool(self.centers), Param::Bool(scored)]).collect(),
            fallible: false,
        }));
        Ok(())
    }
}

impl NonMaxSuppression {
    /// Lower and upper corner, in `f32` as the operator is defined.
    fn corners(&self, b: &[f64]) -> [[f32; 2]; 2] {
        let [p, q, r, s] = [b[0] as f32, b[1] as f32, b[2] as f32, b[3] as f32];
        match self.centers {
            true => [[p - r / 2.0, q - s / 2.0], [p + r / 2.0, q + s / 2.0]],
            false => [[q.min(s), p.min(r)], [q.max(s), p.max(r)]],
        }
    }
}

/// Whether intersection over union is above the threshold.
fn suppresses(a: [[f32; 2]; 2], b: [[f32; 2]; 2], threshold: f32) -> bool {
    let side = |k: usize| a[1][k].min(b[1][k]) - a[0][k].max(b[0][k]);
    let area = |c: [[f32; 2]; 2]| (c[1][0] - c[0][0]) * (c[1][1] - c[0][1]);
    if side(0).partial_cmp(&0.0) != Some(Ordering::Greater)
        || side(1).partial_cmp(&0.0) != Some(Ordering::Greater)
    {
        return false;
    }
    let (common, first, second) = (side(0) * side(1), area(a), area(b));
    let union = first + second - common;
    first > 0.0 && second > 0.0 && union > 0.0 && common / union > threshold
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run_at;
    use super::super::testing::{f32s, i64s};

    #[test]
    fn overlapping_boxes_of_lower_score_go() {
        let boxes = f32s(&[1, 3, 4], &[0., 0., 1., 1., 1., 1.1, 0., 0.1, 0., 10., 1., 11.]);
        let scores = f32s(&[1, 1, 3], &[0.9, 0.95, 0.1]);
        let of = |most: i64, overlap: f32, least: Option<f32>| {
            let (most, overlap) = (i64s(&[1], &[most]), f32s(&[1], &[overlap]));
            let least = least.map(|l| f32s(&[1], &[l]));
            let all = [Some(&boxes), Some(&scores), Some(&most), Some(&overlap), least.as_ref()];
            let y = run_at(11, "NonMaxSuppression", &all, 1).unwrap().swap_remove(0);
            assert_eq!(y.shape().dims()[1], 3);
            y.to_i64_vec().unwrap().iter().skip(2).step_by(3).copied().collect::<Vec<_>>()
        };
        assert_eq!(of(3, 0.5, None), [1, 2]);
        assert_eq!(of(3, 0.9, None), [1, 0, 2]);
        assert_eq!(of(3, 0.5, Some(0.2)), [1]);
        assert_eq!(of(1, 0.9, None), [1]);
        assert_eq!(of(-1, 0.9, None), [0i64; 0]);
    }
}
