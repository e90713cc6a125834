//! [Reshape](https://onnx.ai/onnx/operators/onnx__Reshape.html), Flatten, Squeeze and Unsqueeze: the
//! same elements in the same order under another shape.
//!
//! Shapes and axes given as operands must be known at compile time.

use super::length::{Axes, none, of, regrouped_axis, unknown_length};
use super::typed::expect;
use super::views::regrouped;
use super::walk::{axes, checked_type, extent, operand};
use super::{Inputs, LayoutRule, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// What the new shape follows from.
#[derive(Debug, Clone, PartialEq)]
pub enum Reshape {
    /// Operand 1: extents, 0 to copy one (unless `allowzero`), -1 to infer one.
    Shape {
        /// Whether 0 means 0.
        allowzero: bool,
    },
    /// Two axes, the second starting at `axis`.
    Flatten {
        /// May count from the end.
        axis: i64,
    },
    /// Drops axes of extent 1: these, or operand 1's, or all.
    Squeeze {
        /// May count from the end.
        axes: Option<Vec<i64>>,
    },
    /// Adds axes of extent 1 at these places of the result, or at operand 1's.
    Unsqueeze {
        /// May count from the end.
        axes: Option<Vec<i64>>,
    },
}

impl OnnxOp for Reshape {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("Reshape", 5),
        OnnxName::onnx("Flatten", 1),
        OnnxName::onnx("Squeeze", 1),
        OnnxName::onnx("Unsqueeze", 1),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let old_axes =
            |attrs: &mut AttrReader<'_>| if node.opset < 13 { attrs.ints("axes") } else { Ok(None) };
        let op = match node.op_type {
            "Reshape" => Reshape::Shape { allowzero: node.opset >= 14 && attrs.int_or("allowzero", 0)? != 0 },
            "Flatten" => Reshape::Flatten { axis: attrs.int_or("axis", 1)? },
            "Squeeze" => Reshape::Squeeze { axes: old_axes(attrs)? },
            "Unsqueeze" => Reshape::Unsqueeze { axes: old_axes(attrs)? },
            other => return Err(OpError::internal(format!("`{other}` is not a reshape"))),
        };
        Ok(op.into())
    }
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        match self {
            Reshape::Shape { .. } => "Reshape",
            Reshape::Flatten { .. } => "Flatten",
            Reshape::Squeeze { .. } => "Squeeze",
            Reshape::Unsqueeze { .. } => "Unsqueeze",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        let spec = match self {
            Reshape::Flatten { .. } => None,
            Reshape::Squeeze { axes: Some(_) } | Reshape::Unsqueeze { axes: Some(_) } => None,
            _ => {
                if let Some(list) = inputs.get(1) {
                    expect(list.dtype == DType::I64, list.dtype)?;
                }
                inputs.known_ints(1, if matches!(self, Reshape::Shape { .. }) { "shape" } else { "axes" })?
            }
        };
        let shape = self.target(x.shape, spec.as_deref())?;
        if shape.checked_len() != x.shape.checked_len() {
            return Err(OpError::invalid(format!(
                "{} elements cannot take shape {shape}",
                x.shape.elements()
            )));
        }
        Ok(vec![checked_type(x.dtype, shape)?])
    }

    fn lengths(&self, inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        let Some(axis) = of(along, 0) else { return none(along) };
        let x = inputs.required(0)?.shape;
        let shape = self.target(x, inputs.known_ints(1, "shape")?.as_deref())?;
        // The axis itself where it is still there, else one that it is the front of.
        let all = |to| regrouped_axis(x, axis, &shape, to);
        let mut same = (0..shape.rank()).filter_map(|to| Some((to, all(to).ok()?)));
        match same.clone().find(|(to, _)| shape.get(*to) == x.get(axis)).or_else(|| same.next_back()) {
            Some((_, lengths)) => Ok(lengths),
            None => Err(unknown_length("an axis that is joined to others in front of it")),
        }
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let spec = inputs.get(1).copied().flatten().and_then(Tensor::to_i64_vec);
        Ok(vec![x.reshaped(self.target(x.shape(), spec.as_deref())?)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::View
    }

    fn on_texts(&self, operands: &[Option<&[String]>]) -> Option<OpKind> {
        super::facts::only_first(operands).then(|| self.clone().into())
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (_, shape) = cx.output_type(0).ok_or_else(|| OpError::internal("a reshape without result"))?;
        let x = cx.read(0)?;
        if let Some(view) = regrouped(&x, shape) {
            return cx.alias(0, view);
        }
        let y = cx.write(0)?;
        if let Some(same) = regrouped(&y, &x.shape) {
            return cx.copy(&x, &same);
        }
        let dense = cx.read_dense(0)?;
        let dense = regrouped(&dense, shape).ok_or_else(|| OpError::internal("a dense view has gaps"))?;
        cx.copy(&dense, &y)
    }
}

impl Reshape {
    /// The new shape; `spec` is operand 1.
    fn target(&self, x: &Shape, spec: Option<&[i64]>) -> Result<Shape, OpError> {
        match self {
            Reshape::Shape { allowzero } => {
                let spec = spec.ok_or_else(|| OpError::invalid("operand 1 is missing"))?;
                resolve(x, spec, *allowzero)
            }
            Reshape::Flatten { axis } => {
                let rank = x.rank() as i64;
                let at = if *axis < 0 { axis.saturating_add(rank) } else { *axis };
                let at = usize::try_from(at).ok().filter(|&a| a <= x.rank());
                let at =
                    at.ok_or_else(|| OpError::invalid(format!("axis {axis} is outside a rank of {rank}")))?;
                let (outer, inner) = x.split_at(at);
                Ok(Shape::from([Shape::from(outer).elements(), Shape::from(inner).elements()]))
            }
            Reshape::Squeeze { axes: attribute } => {
                let drop = match attribute.as_deref().or(spec) {
                    Some(list) => axes(list, x.rank())?,
                    None => (0..x.rank()).filter(|&a| x.get(a) == Some(&1)).collect(),
                };
                if let Some(a) = drop.iter().find(|&&a| x.get(a) != Some(&1)) {
                    return Err(OpError::invalid(format!("axis {a} of {x} is not of extent 1")));
                }
                Ok(x.iter().enumerate().filter(|(a, _)| !drop.contains(a)).map(|(_, &d)| d).collect())
            }
            Reshape::Unsqueeze { axes: attribute } => {
                let list = attribute.as_deref().or(spec);
                let list = list.ok_or_else(|| OpError::invalid("`axes` is missing"))?;
                let rank = x.rank() + list.len();
                let new = axes(list, rank)?;
                let mut old = x.iter();
                Ok((0..rank)
                    .map(|a| if new.contains(&a) { 1 } else { old.next().copied().unwrap_or(1) })
                    .collect())
            }
        }
    }
}

/// Reshape's rules: 0 copies an extent unless `allowzero`, one -1 takes what is left.
fn resolve(x: &Shape, spec: &[i64], allowzero: bool) -> Result<Shape, OpError> {
    let mut shape = Vec::with_capacity(spec.len());
    let mut open = None;
    for (i, &d) in spec.iter().enumerate() {
        shape.push(match d {
            0 if !allowzero => *x.get(i).ok_or_else(|| {
                OpError::invalid(format!("extent {i} copies an axis that {x} does not have"))
            })?,
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            -1 => return Err(OpError::invalid("`shape` leaves two extents open")),
            d => extent(d)?,
        });
    }
    if let Some(i) = open {
        let known = Shape::from(shape.as_slice()).checked_len();
        let left = known.filter(|&n| n > 0 && x.elements().is_multiple_of(n)).map(|n| x.elements() / n);
        let left = left.ok_or_else(|| OpError::invalid(format!("{x} does not fill shape {spec:?}")))?;
        if let Some(d) = shape.get_mut(i) {
            *d = left;
        }
    }
    Ok(Shape::from(shape))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s, import};
    use super::super::{Fact, Op};
    use super::*;
    use crate::onnx::Attr;

    fn shape_of(op: &str, opset: i64, attrs: &[(&str, Attr)], inputs: &[&Tensor]) -> Option<Vec<usize>> {
        apply(op, opset, attrs, inputs).ok().map(|t| t.shape().to_vec())
    }

    fn zeros(shape: &[usize]) -> Tensor {
        Tensor::full::<f32>(shape, 0.0)
    }

    #[test]
    fn reshape_copies_infers_and_refuses() {
        let x = zeros(&[2, 3, 4]);
        let to = |spec: &[i64]| shape_of("Reshape", 13, &[], &[&x, &Tensor::vector(spec)]);
        assert_eq!(to(&[4, 2, 3]), Some(vec![4, 2, 3]));
        assert_eq!(to(&[0, -1]), Some(vec![2, 12]));
        assert_eq!(to(&[-1, 0, 2]), Some(vec![4, 3, 2]));
        for bad in [&[5, -1][..], &[-1, -1], &[2, 3, 4, 0], &[-2, 12], &[i64::MAX, 2], &[25], &[0, 0, 0, 0]] {
            assert_eq!(to(bad), None, "{bad:?}");
        }
        let empty = zeros(&[0, 3, 4]);
        let allow = [("allowzero", Attr::Int(1))];
        let spec = Tensor::vector(&[3i64, 4, 0]);
        assert_eq!(shape_of("Reshape", 14, &allow, &[&empty, &spec]), Some(vec![3, 4, 0]));
        assert_eq!(shape_of("Reshape", 14, &[], &[&empty, &Tensor::vector(&[0i64, -1])]), None);
        assert!(import("Reshape", 13, &allow, 2, 1).is_err(), "allowzero came with opset 14");
    }

    #[test]
    fn flatten_squeeze_unsqueeze() {
        let x = zeros(&[2, 3, 4]);
        let flat = |axis| shape_of("Flatten", 13, &[("axis", Attr::Int(axis))], &[&x]);
        assert_eq!(flat(0), Some(vec![1, 24]));
        assert_eq!(flat(3), Some(vec![24, 1]));
        assert_eq!(flat(-1), Some(vec![6, 4]));
        assert_eq!(flat(4), None);
        assert_eq!(flat(i64::MIN), None);
        let y = zeros(&[1, 3, 1]);
        assert_eq!(shape_of("Squeeze", 13, &[], &[&y]), Some(vec![3]));
        assert_eq!(shape_of("Squeeze", 13, &[], &[&y, &Tensor::vector(&[-1i64])]), Some(vec![1, 3]));
        assert_eq!(shape_of("Squeeze", 11, &[("axes", Attr::Ints(vec![0]))], &[&y]), Some(vec![3, 1]));
        assert_eq!(shape_of("Squeeze", 13, &[], &[&y, &Tensor::vector(&[1i64])]), None);
        assert_eq!(
            shape_of("Unsqueeze", 13, &[], &[&y, &Tensor::vector(&[-1i64, 0])]),
            Some(vec![1, 1, 3, 1, 1])
        );
        assert_eq!(shape_of("Unsqueeze", 13, &[], &[&y, &Tensor::vector(&[0i64, 0])]), None);
        assert_eq!(
            shape_of("Unsqueeze", 11, &[("axes", Attr::Ints(vec![1]))], &[&x]),
            Some(vec![2, 1, 3, 4])
        );
    }

    #[test]
    fn elements_keep_their_order_and_shapes_must_be_known() {
        let x = f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let spec = i64s(&[1], &[4]);
        assert_eq!(apply("Reshape", 13, &[], &[&x, &spec]).unwrap(), f32s(&[4], &[1.0, 2.0, 3.0, 4.0]));
        let facts = [
            Some(Fact { dtype: DType::F32, shape: x.shape(), constant: None }),
            Some(Fact { dtype: DType::I64, shape: spec.shape(), constant: None }),
        ];
        let error = Reshape::Shape { allowzero: false }.infer(&Inputs::new(&facts, 1));
        assert_eq!(error, Err(OpError::NotConstant("shape".to_owned())));
    }
}
