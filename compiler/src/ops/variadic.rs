//! [Sum](https://onnx.ai/onnx/operators/onnx__Sum.html), Mean, Max and Min of any number of operands
//! with broadcasting. NaN wins in Max and Min.

use super::binary::{of_floats, of_ints};
use super::length::{self, Axes, Lengths};
use super::nest::scratch;
use super::typed::{
    expect, expect_loop_type, expect_same, floats, from_floats, from_ints, ints, is_arithmetic_float,
    is_number, literal,
};
use super::walk::{broadcast_shape, broadcast_strides, checked_type, positions};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::{BinaryFn, Expr};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// How the operands are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the ONNX operator of that name
pub enum VariadicFn {
    Sum,
    Mean,
    Max,
    Min,
}

/// An elementwise function of one or more operands that broadcast together.
#[derive(Debug, Clone, PartialEq)]
pub struct Variadic {
    /// Which.
    pub function: VariadicFn,
}

impl OnnxOp for Variadic {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("Sum", 1),
        OnnxName::onnx("Mean", 1),
        OnnxName::onnx("Max", 1),
        OnnxName::onnx("Min", 1),
    ];

    fn import(_attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let function = match node.op_type {
            "Sum" => VariadicFn::Sum,
            "Mean" => VariadicFn::Mean,
            "Max" => VariadicFn::Max,
            "Min" => VariadicFn::Min,
            other => return Err(OpError::internal(format!("`{other}` is not a variadic function"))),
        };
        Ok(Variadic { function }.into())
    }
}

impl Op for Variadic {
    fn name(&self) -> &'static str {
        match self.function {
            VariadicFn::Sum => "Sum",
            VariadicFn::Mean => "Mean",
            VariadicFn::Max => "Max",
            VariadicFn::Min => "Min",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let first = inputs.required(0)?;
        let only_floats = matches!(self.function, VariadicFn::Sum | VariadicFn::Mean);
        expect(
            if only_floats { is_arithmetic_float(first.dtype) } else { is_number(first.dtype) },
            first.dtype,
        )?;
        let mut shapes = Vec::new();
        for i in 0..inputs.len() {
            let x = inputs.required(i)?;
            expect_same(first.dtype, x.dtype)?;
            shapes.push(x.shape);
        }
        Ok(vec![checked_type(first.dtype, broadcast_shape(shapes)?)?])
    }

    fn lengths(&self, inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        length::broadcast(inputs, along)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let all: Vec<&Tensor> = inputs.iter().copied().flatten().collect();
        let first = all.first().ok_or_else(|| OpError::internal("no operands"))?;
        let shape = broadcast_shape(all.iter().map(|t| t.shape()))?;
        let f = self.combine();
        let y = if is_arithmetic_float(first.dtype()) {
            let mut total = fold(&all, &shape, floats, |x, y| of_floats(f, x, y))?;
            if self.function == VariadicFn::Mean {
                total.iter_mut().for_each(|t| *t /= all.len() as f64);
            }
            from_floats(first.dtype(), shape, total)?
        } else {
            let bits = 8 * first.dtype().size() as i128;
            from_ints(first.dtype(), shape.clone(), fold(&all, &shape, ints, |x, y| of_ints(f, x, y, bits))?)?
        };
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let count = cx.node().inputs.len();
        let mut reads = (0..count).map(|i| cx.read(i)).collect::<Result<Vec<_>, _>>()?;
        let y = cx.write(0)?;
        expect_loop_type(y.dtype)?;
        // Half floats are storage: what passes between steps stays wide.
        let wide = if matches!(y.dtype, DType::F16 | DType::Bf16) { DType::F32 } else { y.dtype };
        let mut part = 0;
        while reads.len() > STEP_OPERANDS {
            let total = scratch(cx, &format!("part{part}"), wide, &y.shape)?;
            part += 1;
            let rest = reads.split_off(STEP_OPERANDS);
            cx.elementwise(&total, &reads, self.total(reads.len())?)?;
            reads = std::iter::once(total).chain(rest).collect();
        }
        let value = self.finish(wide, count, self.total(reads.len())?);
        cx.elementwise(&y, &reads, value)
    }
}

/// Most operands of one step.
const STEP_OPERANDS: usize = 12;

impl Variadic {
    /// The function applied to expressions; `dtypes` are the operands' element types. `None` where they are too many
    /// for one expression.
    pub fn expr(&self, dtypes: &[DType], args: Vec<Expr>) -> Option<Expr> {
        if args.len() > STEP_OPERANDS {
            return None;
        }
        let (dtype, count) = (*dtypes.first()?, args.len());
        Some(self.finish(dtype, count, self.joined(args)?))
    }

    fn joined(&self, args: Vec<Expr>) -> Option<Expr> {
        let f = self.combine();
        args.into_iter().reduce(|x, y| Expr::Binary(f, Box::new(x), Box::new(y)))
    }

    /// The first `count` reads combined.
    fn total(&self, count: usize) -> Result<Expr, OpError> {
        self.joined((0..count).map(Expr::Read).collect()).ok_or_else(|| OpError::internal("no operands"))
    }

    /// The result from the combination of `count` operands.
    fn finish(&self, dtype: DType, count: usize, total: Expr) -> Expr {
        match self.function {
            VariadicFn::Mean if count > 1 => {
                Expr::Binary(BinaryFn::Div, Box::new(total), Box::new(literal(dtype, count as f64)))
            }
            _ => total,
        }
    }

    fn combine(&self) -> BinaryFn {
        match self.function {
            VariadicFn::Sum | VariadicFn::Mean => BinaryFn::Add,
            VariadicFn::Max => BinaryFn::Max,
            VariadicFn::Min => BinaryFn::Min,
        }
    }
}

/// Combines operand after operand into values of the broadcast shape.
fn fold<T: Copy>(
    all: &[&Tensor],
    shape: &Shape,
    load: fn(&Tensor) -> Result<Vec<T>, OpError>,
    combine: impl Fn(T, T) -> T,
) -> Result<Vec<T>, OpError> {
    let mut total: Option<Vec<T>> = None;
    for t in all {
        let values = load(t)?;
        let spread = positions(shape, &broadcast_strides(t.shape(), shape), 0);
        let spread = spread.filter_map(|i| values.get(i).copied());
        total = Some(match total {
            None => spread.collect(),
            Some(so_far) => so_far.into_iter().zip(spread).map(|(x, y)| combine(x, y)).collect(),
        });
    }
    total.ok_or_else(|| OpError::internal("no operands"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, import};
    use super::*;

    #[test]
    fn combine_and_broadcast() {
        let (a, b, c) = (f32s(&[3], &[3.0, 0.0, 2.0]), f32s(&[], &[1.0]), f32s(&[1, 3], &[2.0, 6.0, 6.0]));
        assert_eq!(apply("Sum", 13, &[], &[&a, &b, &c]).unwrap(), f32s(&[1, 3], &[6.0, 7.0, 9.0]));
        assert_eq!(apply("Mean", 13, &[], &[&a, &b, &c]).unwrap(), f32s(&[1, 3], &[2.0, 7.0 / 3.0, 3.0]));
        assert_eq!(apply("Max", 13, &[], &[&a, &b, &c]).unwrap(), f32s(&[1, 3], &[3.0, 6.0, 6.0]));
        assert_eq!(apply("Min", 13, &[], &[&a]).unwrap(), a);
    }

    #[test]
    fn nan_wins_and_integers_are_exact() {
        let (n, x) = (f32s(&[2], &[f32::NAN, 1.0]), f32s(&[2], &[1.0, f32::NAN]));
        let y = apply("Max", 13, &[], &[&n, &x]).unwrap();
        assert!(y.as_slice::<f32>().unwrap().iter().all(|v| v.is_nan()));
        let (a, b) = (Tensor::vector(&[u64::MAX]), Tensor::vector(&[u64::MAX - 1]));
        assert_eq!(apply("Min", 13, &[], &[&a, &b]).unwrap(), b);
        assert!(apply("Sum", 13, &[], &[&a, &b]).is_err(), "Sum is for floats");
        assert_eq!(import("Mean", 13, &[], 2, 1).unwrap().as_op().name(), "Mean");
    }
}
