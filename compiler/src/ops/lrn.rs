//! [LRN](https://onnx.ai/onnx/operators/onnx__LRN.html): local response normalisation across channels.

use super::nest::{access, add, binary, mul, push, push_nests, read, scratch, signed};
use super::number::expect_float;
use super::typed::{compute_dtype, from_floats, literal};
use super::walk::operand;
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::Tensor;
use crate::kernel::Nest;
use crate::kernel::expr::{BinaryFn, Expr, ReduceOp};
use crate::kernel::loops::{Reduction, Store};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// `x / (bias + alpha/size · Σ x²)^beta`, the sum over `size` channels around each one.
#[derive(Debug, Clone, PartialEq)]
pub struct Lrn {
    /// Channels summed over.
    pub size: usize,
    /// Factor on the sum.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Added to the scaled sum.
    pub bias: f32,
}

impl OnnxOp for Lrn {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("LRN", 1), OnnxName::onnx("LRN", 13)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let size = AttrReader::required("size", attrs.int("size")?)?;
        Ok(Lrn {
            size: usize::try_from(size)
                .ok()
                .filter(|&s| s > 0)
                .ok_or_else(|| OpError::invalid(format!("`size` is {size}")))?,
            alpha: attrs.float_or("alpha", 1e-4)?,
            beta: attrs.float_or("beta", 0.75)?,
            bias: attrs.float_or("bias", 1.0)?,
        }
        .into())
    }
}

impl Lrn {
    /// Channels in front of and behind each one that can matter.
    fn reach(&self, channels: usize) -> (usize, usize) {
        let most = channels.saturating_sub(1);
        (((self.size - 1) / 2).min(most), (self.size / 2).min(most))
    }
}

impl Op for Lrn {
    fn name(&self) -> &'static str {
        "LRN"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        if x.shape.rank() < 2 {
            return Err(OpError::invalid("`X` needs a batch and a channel axis"));
        }
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let values = x.to_f64_vec().ok_or_else(|| OpError::internal("not numbers"))?;
        let channels = x.shape().get(1).copied().unwrap_or(0);
        let space: usize = x.shape().iter().skip(2).product();
        let (before, after) = self.reach(channels);
        let mut y = Vec::with_capacity(values.len());
        for image in values.chunks((channels * space).max(1)) {
            for c in 0..channels {
                let window = c.saturating_sub(before)..(c + after + 1).min(channels);
                for s in 0..space {
                    let sum: f64 = window.clone().map(|k| image[k * space + s] * image[k * space + s]).sum();
                    let base = f64::from(self.bias) + f64::from(self.alpha) / self.size as f64 * sum;
                    y.push(image[c * space + s] / libm::pow(base, self.beta.into()));
                }
            }
        }
        Ok(vec![from_floats(x.dtype(), x.shape().clone(), y)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read(0)?;
        let y = cx.write(0)?;
        if x.shape.contains(&0) {
            return Ok(());
        }
        // Squares with as many zero channels around them as a window reaches.
        let compute = compute_dtype(x.dtype);
        let (before, after) = self.reach(x.shape[1]);
        let mut shape = x.shape.clone();
        shape[1] += before + after;
        let squares = scratch(cx, "squares", compute, &shape)?;
        let nest = |extents: Vec<usize>, reads, store| Nest {
            extents,
            reduce: 0,
            reads,
            reductions: Vec::new(),
            stores: vec![store],
        };
        let zeros = Store { access: access(&squares, 0, vec![1])?, value: literal(compute, 0.0) };
        let shift = squares.strides[1] * signed(before)?;
        let square = Store {
            access: access(&squares, shift, squares.strides.clone())?,
            value: mul(Expr::Read(0), Expr::Read(0)),
        };
        let reads = vec![read(&x, 0, x.strides.clone())?];
        push_nests(
            cx,
            vec![nest(vec![shape.iter().product()], Vec::new(), zeros), nest(x.shape.clone(), reads, square)],
        );
        let with =
            |strides: &[isize], inner: isize| strides.iter().copied().chain([inner]).collect::<Vec<_>>();
        let scaled = mul(Expr::Acc(0), literal(compute, f64::from(self.alpha) / self.size as f64));
        let base = add(scaled, literal(compute, self.bias.into()));
        let divisor = binary(BinaryFn::Pow, base, literal(compute, self.beta.into()));
        push(
            cx,
            Nest {
                extents: x.shape.iter().copied().chain([before + after + 1]).collect(),
                reduce: 1,
                reads: vec![
                    read(&squares, 0, with(&squares.strides, squares.strides[1]))?,
                    read(&x, 0, with(&x.strides, 0))?,
                ],
                reductions: vec![Reduction { op: ReduceOp::Sum, dtype: compute, value: Expr::Read(0) }],
                stores: vec![Store {
                    access: access(&y, 0, with(&y.strides, 0))?,
                    value: binary(BinaryFn::Div, Expr::Read(1), divisor),
                }],
            },
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};
    use crate::onnx::Attr;

    #[test]
    fn windows_are_cut_at_the_first_and_last_channel() {
        let x = f32s(&[1, 3, 1], &[1., 2., 3.]);
        let attrs = |size| {
            [
                ("size", Attr::Int(size)),
                ("alpha", Attr::Float(size as f32)),
                ("beta", Attr::Float(1.0)),
                ("bias", Attr::Float(0.0)),
            ]
        };
        // Sums of squares over 3 channels: 5, 14, 13; over 2 (itself and the next): 5, 13, 9.
        let y = apply("LRN", 13, &attrs(3), &[&x]).unwrap();
        assert_eq!(y, f32s(&[1, 3, 1], &[1. / 5., 2. / 14., 3. / 13.]));
        let y = apply("LRN", 13, &attrs(2), &[&x]).unwrap();
        assert_eq!(y, f32s(&[1, 3, 1], &[1. / 5., 2. / 13., 3. / 9.]));
        assert!(apply("LRN", 13, &attrs(0), &[&x]).is_err());
    }
}
