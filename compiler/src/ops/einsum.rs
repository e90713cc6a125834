//! [Einsum](https://onnx.ai/onnx/operators/onnx__Einsum.html): products of any number of operands, summed
//! over the labels that the result does not have. Lowered as one loop nest.

use super::nest::{access, mul, push, read};
use super::number::{Number, by_class, class, expect_same};
use super::typed::compute_dtype;
use super::walk::{checked_type, optional, positions, strides};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{Shape, Tensor};
use crate::kernel::Nest;
use crate::kernel::expr::{Expr, ReduceOp};
use crate::kernel::loops::{Reduction, Store};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;
use std::collections::BTreeMap;

/// A sum of products under Einstein's convention.
#[derive(Debug, Clone, PartialEq)]
pub struct Einsum {
    /// The equation, without spaces: `ij,jk->ik`; `...` stands for any further axes.
    pub equation: String,
}

/// A label: a letter, or an axis of the ellipsis counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// The equation over certain shapes.
struct Plan {
    /// Labels of each operand's axes.
    terms: Vec<Vec<Label>>,
    /// Labels of the result, then those summed over.
    labels: Vec<Label>,
    /// Extents of `labels`.
    extents: Vec<usize>,
    /// How many of them the result has.
    kept: usize,
}

impl OnnxOp for Einsum {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Einsum", 12)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let equation = AttrReader::required("equation", attrs.text("equation")?)?;
        Ok(Einsum { equation: equation.split_whitespace().collect() }.into())
    }
}

impl Einsum {
    fn plan(&self, shapes: &[&[usize]]) -> Result<Plan, OpError> {
        let bad = |what: &str| OpError::invalid(format!("{what} in the equation `{}`", self.equation));
        let (left, right) = match self.equation.split_once("->") {
            Some((l, r)) => (l, Some(r)),
            None => (self.equation.as_str(), None),
        };
        let texts: Vec<&str> = left.split(',').collect();
        if texts.len() != shapes.len() {
            return Err(bad(&format!("{} terms for {} operands", texts.len(), shapes.len())));
        }
        let mut terms = Vec::new();
        let mut extents: BTreeMap<Label, usize> = BTreeMap::new();
        let mut uses: BTreeMap<char, usize> = BTreeMap::new();
        let mut widest = 0;
        for (text, shape) in texts.iter().zip(shapes) {
            let letters = text.chars().filter(|c| *c != '.').count();
            let rest = shape.len().checked_sub(letters);
            let rest = rest.filter(|&n| n == 0 || text.contains('.')).ok_or_else(|| {
                bad(&format!("term `{text}` does not fit an operand of {} axes", shape.len()))
            })?;
            let labels = parse(text, rest).ok_or_else(|| bad(&format!("term `{text}`")))?;
            widest = widest.max(rest);
            for (&label, &d) in labels.iter().zip(*shape) {
                if let Label::Letter(c) = label {
                    *uses.entry(c).or_default() += 1;
                }
                let known = extents.entry(label).or_insert(d);
                match (*known, d) {
                    (a, b) if a == b => {}
                    (1, b) => *known = b,
                    (_, 1) => {}
                    (a, b) => return Err(OpError::invalid(format!("a label has extents {a} and {b}"))),
                }
            }
            terms.push(labels);
        }
        let result = match right {
            Some(text) => {
                let rest = if text.contains('.') { widest } else { 0 };
                parse(text, rest).ok_or_else(|| bad(&format!("result `{text}`")))?
            }
            // Labels that occur once, in alphabetical order, behind the ellipsis.
            None => {
                let once = uses.iter().filter(|(_, n)| **n == 1).map(|(c, _)| Label::Letter(*c));
                (0..widest).rev().map(Label::Ellipsis).chain(once).collect()
            }
        };
        let mut labels: Vec<Label> = Vec::new();
        for &l in &result {
            if labels.contains(&l) || !extents.contains_key(&l) {
                return Err(bad("a label of the result is repeated or unknown"));
            }
            labels.push(l);
        }
        let kept = labels.len();
        labels.extend(extents.keys().filter(|l| !result.contains(l)));
        let extents = labels.iter().filter_map(|l| extents.get(l).copied()).collect();
        Ok(Plan { terms, labels, extents, kept })
    }
}

/// A term's labels, the ellipsis standing for `rest` axes; `None` where it is not one.
fn parse(text: &str, rest: usize) -> Option<Vec<Label>> {
    let (before, after) = match text.split_once("...") {
        Some((b, a)) => (b, Some(a)),
        None => (text, None),
    };
    let letter = |c: char| c.is_ascii_alphabetic().then_some(Label::Letter(c));
    let mut labels = before.chars().map(letter).collect::<Option<Vec<_>>>()?;
    if let Some(after) = after {
        labels.extend((0..rest).rev().map(Label::Ellipsis));
        labels.extend(after.chars().map(letter).collect::<Option<Vec<_>>>()?);
    }
    Some(labels)
}

impl Plan {
    /// Strides along `labels` of an operand with these strides and extents: repeated labels walk a
    /// diagonal, missing and repeated extents stand still.
    fn along(&self, term: usize, steps: &[isize], shape: &[usize]) -> Vec<isize> {
        let mut out = vec![0; self.labels.len()];
        let axes = self.terms.get(term).into_iter().flatten().zip(steps.iter().zip(shape));
        for (label, (&s, &d)) in axes {
            if let Some(at) = self.labels.iter().position(|l| l == label)
                && d != 1
            {
                out[at] += s;
            }
        }
        out
    }

    fn shape(&self) -> Shape {
        Shape::from(&self.extents[..self.kept])
    }
}

impl Op for Einsum {
    fn name(&self) -> &'static str {
        "Einsum"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let first = inputs.required(0)?;
        class(first.dtype)?;
        let mut shapes = Vec::new();
        for i in 0..inputs.len() {
            let x = inputs.required(i)?;
            expect_same(first.dtype, x.dtype, "Inputs")?;
            shapes.push(x.shape.dims());
        }
        let plan = self.plan(&shapes)?;
        // The loop nest as a whole must be countable too.
        checked_type(first.dtype, plan.extents.clone())?;
        Ok(vec![checked_type(first.dtype, plan.shape())?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let operands: Vec<&Tensor> = (0..inputs.len()).filter_map(|i| optional(inputs, i)).collect();
        let shapes: Vec<&[usize]> = operands.iter().map(|t| t.shape().dims()).collect();
        let plan = self.plan(&shapes)?;
        let dtype = operands.first().ok_or_else(|| OpError::internal("no operand"))?.dtype();
        let y = by_class!(dtype, N => {
            let values = operands.iter().map(|t| N::load(t)).collect::<Result<Vec<_>, _>>()?;
            let steps: Vec<Vec<isize>> =
                shapes.iter().enumerate().map(|(i, s)| plan.along(i, &strides(s), s)).collect();
            let (outer, inner) = plan.extents.split_at(plan.kept);
            let inside: Vec<Vec<usize>> =
                steps.iter().map(|s| positions(inner, &s[plan.kept..], 0).collect()).collect();
            let mut starts: Vec<_> = steps.iter().map(|s| positions(outer, &s[..plan.kept], 0)).collect();
            let count: usize = inner.iter().product();
            let mut y = Vec::with_capacity(plan.shape().elements());
            for _ in 0..plan.shape().elements() {
                let at: Vec<usize> = starts.iter_mut().filter_map(Iterator::next).collect();
                let mut sum = N::ZERO;
                for j in 0..count {
                    let factors = values.iter().zip(&at).zip(&inside).filter_map(|((v, a), i)| {
                        v.get(a + i.get(j)?).copied()
                    });
                    if let Some(product) = factors.reduce(N::mul) {
                        sum = sum.add(product);
                    }
                }
                y.push(sum);
            }
            N::store(y, dtype, plan.shape())?
        });
        Ok(vec![y])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let views = (0..cx.node().inputs.len()).map(|i| cx.read(i)).collect::<Result<Vec<_>, _>>()?;
        let shapes: Vec<&[usize]> = views.iter().map(|v| v.shape.as_slice()).collect();
        let plan = self.plan(&shapes)?;
        let y = cx.write(0)?;
        if y.shape.contains(&0) {
            return Ok(());
        }
        let mut reads = Vec::new();
        let mut product = None;
        for (i, view) in views.iter().enumerate() {
            reads.push(read(view, 0, plan.along(i, &view.strides, &view.shape))?);
            product = Some(match product {
                None => Expr::Read(i),
                Some(p) => mul(p, Expr::Read(i)),
            });
        }
        let product = product.ok_or_else(|| OpError::internal("no operand"))?;
        let reduce = plan.extents.len() - plan.kept;
        let to = y.strides.iter().copied().chain(vec![0; reduce]).collect();
        let dtype = compute_dtype(y.dtype);
        let (reductions, value) = match reduce {
            0 => (Vec::new(), product),
            _ => (vec![Reduction { op: ReduceOp::Sum, dtype, value: product }], Expr::Acc(0)),
        };
        let stores = vec![Store { access: access(&y, 0, to)?, value }];
        push(cx, Nest { extents: plan.extents, reduce, reads, reductions, stores });
        Ok(())
    }

    fn macs(&self, inputs: &[Option<Type>], _outputs: &[Type]) -> u64 {
        let shapes: Vec<&[usize]> = inputs.iter().flatten().map(|t| t.shape.dims()).collect();
        self.plan(&shapes).map_or(0, |p| p.extents.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};
    use super::*;
    use crate::onnx::Attr;

    fn einsum(equation: &str, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        apply("Einsum", 12, &[("equation", Attr::String(equation.as_bytes().to_vec()))], inputs)
    }

    #[test]
    fn products_sums_transposes_and_diagonals() {
        let a = f32s(&[2, 2], &[1., 2., 3., 4.]);
        let b = f32s(&[2, 2], &[0., 1., 1., 0.]);
        assert_eq!(einsum("ij, jk -> ik", &[&a, &b]).unwrap(), f32s(&[2, 2], &[2., 1., 4., 3.]));
        assert_eq!(einsum("ij,jk", &[&a, &b]).unwrap(), f32s(&[2, 2], &[2., 1., 4., 3.]));
        assert_eq!(einsum("ij->ji", &[&a]).unwrap(), f32s(&[2, 2], &[1., 3., 2., 4.]));
        assert_eq!(einsum("ij->i", &[&a]).unwrap(), f32s(&[2], &[3., 7.]));
        assert_eq!(einsum("ii->i", &[&a]).unwrap(), f32s(&[2], &[1., 4.]));
        assert_eq!(einsum("ii", &[&a]).unwrap(), f32s(&[], &[5.]));
    }

    #[test]
    fn ellipses_broadcast() {
        let a = f32s(&[2, 1, 2], &[1., 2., 3., 4.]);
        let v = f32s(&[2], &[10., 1.]);
        assert_eq!(einsum("...i,i->...", &[&a, &v]).unwrap(), f32s(&[2, 1], &[12., 34.]));
        let w = f32s(&[2, 2], &[1., 0., 0., 1.]);
        assert_eq!(einsum("...i,...i", &[&a, &w]).unwrap(), f32s(&[2, 2], &[1., 2., 3., 4.]));
    }

    #[test]
    fn bad_equations() {
        let a = f32s(&[2, 3], &[0.; 6]);
        for equation in ["ijk->i", "ij,jk->ik", "ij->k", "ij->ii", "i1->i", "i..j->i", "ii->i", "ij->...,"] {
            assert!(einsum(equation, &[&a]).is_err(), "{equation}");
        }
    }
}
