//! [Pad](https://onnx.ai/onnx/operators/onnx__Pad.html): constant, reflected, repeated or wrapped rims;
//! negative pads crop.
//!
//! Pads are an attribute (2) or operand 1 (11), axes operand 3 (18); both must be known at compile
//! time. The fill (operand 2) may be computed at run time.

use super::typed::{expect, expect_loop_type, expect_same, from_floats, literal, literal_of};
use super::views::{access, elementwise, sliced};
use super::walk::{axes, checked_type, operand, optional, pick_from, strides};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::Expr;
use crate::kernel::loops::{Gather, Read, Store};
use crate::kernel::{Access, Kernel, Loops, Nest};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};

/// Nests that one step may have; beyond, positions come from tables.
const MAX_NESTS: usize = 64;

/// What stands outside the operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PadMode {
    /// One value.
    Constant,
    /// The operand mirrored at its first and last element.
    Reflect,
    /// The nearest element.
    Edge,
    /// The operand again.
    Wrap,
}

/// Adds a rim, or crops.
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// What stands outside.
    pub mode: PadMode,
    /// Pads given as attribute, all leading ones first; otherwise operand 1 holds them.
    pub pads: Option<Vec<i64>>,
    /// The fill given as attribute; otherwise operand 2 holds it, or it is 0.
    pub value: Option<f32>,
}

impl OnnxOp for Pad {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Pad", 1)];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let mode = match attrs.text("mode")? {
            None | Some("constant") => PadMode::Constant,
            Some("reflect") => PadMode::Reflect,
            Some("edge") => PadMode::Edge,
            Some("wrap") if node.opset >= 19 => PadMode::Wrap,
            Some(other) => return Err(OpError::invalid(format!("attribute `mode` is `{other}`"))),
        };
        if node.opset >= 11 {
            return Ok(Pad { mode, pads: None, value: None }.into());
        }
        let pads = Some({
            let name = if node.opset < 2 { "paddings" } else { "pads" };
            AttrReader::required(name, attrs.ints(name)?)?
        });
        Ok(Pad { mode, pads, value: Some(attrs.float_or("value", 0.0)?) }.into())
    }
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect(x.dtype != DType::String, x.dtype)?;
        if let Some(fill) = inputs.get(2) {
            expect_same(x.dtype, fill.dtype)?;
            if fill.shape.elements() != 1 {
                return Err(OpError::invalid(format!(
                    "the fill is of shape {}, expected a scalar",
                    fill.shape
                )));
            }
        }
        let given = if self.pads.is_some() { None } else { inputs.known_ints(1, "pads")? };
        let pads = self.rims(x.shape.rank(), given, inputs.known_ints(3, "axes")?)?;
        Ok(vec![checked_type(x.dtype, self.padded(x.shape, &pads)?)?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let pads = self.known_rims(x.shape().rank(), optional(inputs, 1), optional(inputs, 3))?;
        let shape = self.padded(x.shape(), &pads)?;
        let fill = match optional(inputs, 2) {
            Some(fill) => fill.clone(),
            None => from_floats(x.dtype(), Shape::scalar(), [self.value.unwrap_or(0.0).into()])?,
        };
        let steps = strides(x.shape());
        // Positions so far, extended axis by axis; `None` lies outside.
        let mut at: Vec<Option<usize>> = vec![Some(0)];
        for (((&d, &n), &(before, _)), &step) in x.shape().iter().zip(shape.iter()).zip(&pads).zip(&steps) {
            let along = self.sources(d, n, before);
            let extend = |p: Option<usize>| along.iter().map(move |s| Some(p? + (*s)? * step as usize));
            at = at.into_iter().flat_map(extend).collect();
        }
        let picks = at.into_iter().map(|p| p.map_or((1, 0), |p| (0, p)));
        Ok(vec![pick_from(&[x, &fill], shape, picks)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read(0)?;
        expect_loop_type(x.dtype)?;
        let pads = self.known_rims(x.shape.len(), cx.constant(1), cx.constant(3))?;
        let (fill, reads) = match (cx.constant(2), cx.input_type(2).is_some()) {
            (Some(t), _) => {
                (literal_of(t).ok_or_else(|| OpError::internal("the fill is not a scalar"))?, Vec::new())
            }
            (None, true) => (Expr::Read(0), vec![cx.read(2)?]),
            (None, false) => (literal(x.dtype, self.value.unwrap_or(0.0).into()), Vec::new()),
        };
        let y = cx.write(0)?;
        if y.shape.contains(&0) {
            return Ok(());
        }
        let extents = x.shape.iter().zip(&y.shape).zip(&pads);
        let maps: Vec<Vec<Option<usize>>> =
            extents.map(|((&d, &n), &(before, _))| self.sources(d, n, before)).collect();
        let axes: Vec<Vec<Run>> = maps.iter().map(|m| runs(m)).collect();
        let count = axes.iter().try_fold(1usize, |n, runs| n.checked_mul(runs.len()));
        let nests = if self.mode == PadMode::Constant || count.is_some_and(|n| n <= MAX_NESTS) {
            let mut nests = Vec::new();
            regions(&x, &y, &axes, 0, &(fill, reads), &mut nests)?;
            nests
        } else {
            vec![by_table(cx, &x, &y, &maps)]
        };
        cx.push(Kernel::Loops(Loops { nests }));
        Ok(())
    }
}

impl Pad {
    /// Leading and trailing pad of each axis, from operands 1 and 3 where the attribute does not tell.
    pub fn known_rims(
        &self,
        rank: usize,
        pads: Option<&Tensor>,
        axes: Option<&Tensor>,
    ) -> Result<Vec<(i64, i64)>, OpError> {
        self.rims(rank, pads.and_then(Tensor::to_i64_vec), axes.and_then(Tensor::to_i64_vec))
    }

    fn rims(
        &self,
        rank: usize,
        given: Option<Vec<i64>>,
        listed: Option<Vec<i64>>,
    ) -> Result<Vec<(i64, i64)>, OpError> {
        let pads = self.pads.clone().or(given).ok_or_else(|| OpError::invalid("`pads` is missing"))?;
        let list = match listed {
            Some(list) => axes(&list, rank)?,
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * list.len() {
            return Err(OpError::invalid(format!("{} pads for {} axes", pads.len(), list.len())));
        }
        let (begin, end) = pads.split_at(list.len());
        let mut rims = vec![(0, 0); rank];
        for ((&a, &b), &e) in list.iter().zip(begin).zip(end) {
            if let Some(rim) = rims.get_mut(a) {
                *rim = (b, e);
            }
        }
        Ok(rims)
    }

    fn padded(&self, x: &Shape, rims: &[(i64, i64)]) -> Result<Shape, OpError> {
        let extent = |(&d, &(before, after)): (&usize, &(i64, i64))| {
            let n = d as i128 + i128::from(before) + i128::from(after);
            if n > 0 && d == 0 && self.mode != PadMode::Constant {
                return Err(OpError::invalid(format!("{x} has nothing to repeat")));
            }
            usize::try_from(n).map_err(|_| OpError::invalid(format!("pads make an extent {n}")))
        };
        x.iter().zip(rims).map(extent).collect()
    }

    /// For each of `n` positions of the result, the position among `d` that it shows; `before` is the
    /// leading pad. Negative pads crop; what wraps around is the rest, as in ONNX Runtime.
    fn sources(&self, d: usize, n: usize, before: i64) -> Vec<Option<usize>> {
        let (d, before) = (d as i128, i128::from(before));
        let after = n as i128 - d - before;
        let (cropped, kept) = ((-before).max(0), (d + before.min(0) + after.min(0)).max(0));
        let last = d - 1;
        let source = |i: usize| {
            let p = i as i128 - before;
            let p = match self.mode {
                _ if (0..d).contains(&p) => p,
                PadMode::Constant => return None,
                PadMode::Edge => p.clamp(0, last.max(0)),
                PadMode::Wrap => cropped + (p - cropped).checked_rem_euclid(kept)?,
                PadMode::Reflect if last == 0 => 0,
                // A mirror at each end: the pattern repeats every 2·last positions.
                PadMode::Reflect => {
                    let q = p.checked_rem_euclid(2 * last)?;
                    q.min(2 * last - q)
                }
            };
            usize::try_from(p).ok()
        };
        (0..n).map(source).collect()
    }
}

/// Positions `at..at + len` of the result: outside, or from `start` in steps.
struct Run {
    at: usize,
    len: usize,
    source: Option<(usize, isize)>,
}

/// Cuts a map into the longest runs of equal steps, from the front.
fn runs(map: &[Option<usize>]) -> Vec<Run> {
    let mut out: Vec<Run> = Vec::new();
    for (i, &p) in map.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| map.get(i).copied().flatten());
        if let Some(run) = out.last_mut() {
            let goes_on = match (&mut run.source, before, p) {
                (None, _, None) => true,
                (Some((start, step)), Some(b), Some(p)) => {
                    let here = p as isize - b as isize;
                    if run.len == 1 && *start == b {
                        *step = here;
                    }
                    *step == here
                }
                _ => false,
            };
            if goes_on {
                run.len += 1;
                continue;
            }
        }
        out.push(Run { at: i, len: 1, source: p.map(|p| (p, 1)) });
    }
    out
}

/// A nest per box of the result, axis by axis: fills span the axes behind theirs.
fn regions(
    x: &TensorView,
    y: &TensorView,
    axes: &[Vec<Run>],
    axis: usize,
    fill: &(Expr, Vec<TensorView>),
    nests: &mut Vec<Nest>,
) -> Result<(), OpError> {
    let Some(runs) = axes.get(axis) else {
        nests.push(elementwise(y, std::slice::from_ref(x), Expr::Read(0)));
        return Ok(());
    };
    for run in runs {
        let part = sliced(y, axis, run.at, run.len, 1)?;
        match run.source {
            Some((start, step)) => {
                regions(&sliced(x, axis, start, run.len, step)?, &part, axes, axis + 1, fill, nests)?;
            }
            None => {
                let (value, scalars) = fill;
                let one = |v: &TensorView| TensorView {
                    shape: vec![1; part.shape.len()],
                    strides: vec![0; part.shape.len()],
                    ..v.clone()
                };
                let reads: Vec<TensorView> = scalars.iter().map(one).collect();
                nests.push(elementwise(&part, &reads, value.clone()));
            }
        }
    }
    Ok(())
}

/// One nest that looks the position along each axis up in a table.
fn by_table(cx: &mut LowerCx<'_>, x: &TensorView, y: &TensorView, maps: &[Vec<Option<usize>>]) -> Nest {
    let (mut reads, mut gather) = (Vec::new(), Vec::new());
    for (axis, map) in maps.iter().enumerate() {
        let table: Vec<i32> =
            map.iter().map(|p| p.and_then(|p| i32::try_from(p).ok()).unwrap_or(0)).collect();
        let mut along = vec![0; maps.len()];
        if let Some(s) = along.get_mut(axis) {
            *s = 1;
        }
        let index = Expr::Cast { from: DType::I32, to: DType::I64, value: Box::new(Expr::Read(axis)) };
        let operand = cx.blob("positions", &table);
        reads.push(Read {
            access: Access { operand, dtype: DType::I32, offset: 0, strides: along },
            gather: Vec::new(),
        });
        let (extent, stride) = x.shape.get(axis).zip(x.strides.get(axis)).map_or((1, 0), |(&d, &s)| (d, s));
        gather.push(Gather { index, extent, stride, proven: true });
    }
    let value = Expr::Read(reads.len());
    reads.push(Read { access: Access { strides: vec![0; maps.len()], ..access(x) }, gather });
    Nest {
        extents: y.shape.clone(),
        reduce: 0,
        reads,
        reductions: Vec::new(),
        stores: vec![Store { access: access(y), value }],
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s, import, run};
    use super::*;
    use crate::kernel::{BufferId, Operand};
    use crate::onnx::Attr;

    fn pad(mode: &str, x: &[i64], pads: [i64; 2]) -> Option<Vec<i64>> {
        let mode = [("mode", Attr::String(mode.as_bytes().to_vec()))];
        let y = apply("Pad", 19, &mode, &[&Tensor::vector(x), &Tensor::vector(&pads)]).ok()?;
        y.to_i64_vec()
    }

    #[test]
    fn every_mode() {
        let x = [1, 2, 3];
        assert_eq!(pad("constant", &x, [1, 2]).unwrap(), [0, 1, 2, 3, 0, 0]);
        assert_eq!(pad("reflect", &x, [2, 2]).unwrap(), [3, 2, 1, 2, 3, 2, 1]);
        assert_eq!(pad("reflect", &x, [3, 0]).unwrap(), [2, 3, 2, 1, 2, 3], "more than once");
        assert_eq!(pad("edge", &x, [2, 1]).unwrap(), [1, 1, 1, 2, 3, 3]);
        assert_eq!(pad("wrap", &x, [2, 4]).unwrap(), [2, 3, 1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(pad("constant", &x, [-1, 1]).unwrap(), [2, 3, 0]);
        assert_eq!(pad("reflect", &[7], [1, 1]).unwrap(), [7, 7, 7]);
        assert_eq!(pad("constant", &x, [-2, -2]), None);
        assert_eq!(pad("edge", &[], [1, 0]), None);
        assert_eq!(pad("constant", &x, [i64::MAX, i64::MAX]), None);
    }

    #[test]
    fn attributes_axes_and_fills() {
        let x = f32s(&[1, 2], &[1.0, 2.0]);
        let attrs = [("pads", Attr::Ints(vec![0, 1, 1, 0])), ("value", Attr::Float(9.0))];
        let expected = f32s(&[2, 3], &[9.0, 1.0, 2.0, 9.0, 9.0, 9.0]);
        assert_eq!(apply("Pad", 2, &attrs, &[&x]).unwrap(), expected);
        assert!(import("Pad", 13, &attrs, 2, 1).is_err(), "attributes ended with opset 11");
        let op = import("Pad", 18, &[], 4, 1).unwrap();
        let (pads, fill, last) = (i64s(&[2], &[1, 0]), f32s(&[], &[9.0]), i64s(&[1], &[-1]));
        let y = run(&op, &[Some(&x), Some(&pads), Some(&fill), Some(&last)], 1).unwrap();
        assert_eq!(y[0], f32s(&[1, 3], &[9.0, 1.0, 2.0]));
        assert!(apply("Pad", 18, &[], &[&x, &pads]).is_err(), "two pads for two axes");
    }

    #[test]
    fn maps_fall_into_few_runs() {
        let reflect = Pad { mode: PadMode::Reflect, pads: None, value: None };
        let found: Vec<_> = runs(&reflect.sources(4, 8, 2)).iter().map(|r| (r.at, r.len, r.source)).collect();
        assert_eq!(found, [(0, 3, Some((2, -1))), (3, 3, Some((1, 1))), (6, 2, Some((2, -1)))]);
        let constant = Pad { mode: PadMode::Constant, ..reflect };
        let found: Vec<_> =
            runs(&constant.sources(2, 4, 1)).iter().map(|r| (r.at, r.len, r.source)).collect();
        assert_eq!(found, [(0, 1, None), (1, 2, Some((0, 1))), (3, 1, None)]);
    }

    /// What is left after cropping repeats, as in ONNX Runtime.
    #[test]
    fn wrapping_crops_first() {
        let wrap = Pad { mode: PadMode::Wrap, pads: None, value: None };
        let of =
            |d, n, before| wrap.sources(d, n, before).into_iter().map(Option::unwrap).collect::<Vec<_>>();
        assert_eq!(of(4, 7, 2), [2, 3, 0, 1, 2, 3, 0]);
        assert_eq!(of(4, 5, -2), [2, 3, 2, 3, 2]);
        assert_eq!(of(4, 5, 3), [1, 0, 1, 0, 1]);
    }

    #[test]
    fn a_constant_rim_is_filled_once_everywhere() {
        let view = |id, shape: &[usize]| TensorView {
            operand: Operand::Buffer(BufferId(id)),
            dtype: DType::F32,
            shape: shape.to_vec(),
            offset: 0,
            strides: strides(shape),
        };
        let (x, y) = (view(0, &[2, 3]), view(1, &[4, 5]));
        let op = Pad { mode: PadMode::Constant, pads: None, value: None };
        let axes = [runs(&op.sources(2, 4, 1)), runs(&op.sources(3, 5, 1))];
        let mut nests = Vec::new();
        regions(&x, &y, &axes, 0, &(literal(DType::F32, 0.0), Vec::new()), &mut nests).unwrap();
        let written: usize = nests.iter().map(|n| n.extents.iter().product::<usize>()).sum();
        assert_eq!((nests.len(), written), (5, 20));
    }
}
