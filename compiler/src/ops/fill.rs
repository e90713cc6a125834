//! [ConstantOfShape](https://onnx.ai/onnx/operators/onnx__ConstantOfShape.html),
//! [Range](https://onnx.ai/onnx/operators/onnx__Range.html) and
//! [EyeLike](https://onnx.ai/onnx/operators/onnx__EyeLike.html): values that follow from positions.
//!
//! Shapes and limits must be known at compile time.

use super::cast::dtype_of;
use super::typed::{
    cast, compute_dtype, expect, expect_loop_type, expect_same, floats, from_floats, from_ints, ints,
    is_arithmetic_float, is_number, literal, literal_of,
};
use super::walk::{checked_type, extent, operand, pick};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::{BinaryFn, CompareFn, Expr, Scalar};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Equal elements in the shape that operand 0 holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ConstantOfShape {
    /// One element.
    pub value: Tensor,
}

/// `start + i·delta` up to but without `limit`: operands 0, 2 and 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Range;

/// Ones on a diagonal, zeros elsewhere, in the operand's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct EyeLike {
    /// The operand's type where absent.
    pub dtype: Option<DType>,
    /// The diagonal; above the main one where positive.
    pub k: i64,
}

impl OnnxOp for ConstantOfShape {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("ConstantOfShape", 9)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let value = match attrs.tensor("value")? {
            None => Tensor::scalar(0f32),
            Some(t) if t.len() == 1 => t.reshaped(Shape::scalar())?,
            Some(t) => return Err(OpError::invalid(format!("attribute `value` has {} elements", t.len()))),
        };
        Ok(ConstantOfShape { value }.into())
    }
}

impl Op for ConstantOfShape {
    fn name(&self) -> &'static str {
        "ConstantOfShape"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let shape = inputs.required(0)?;
        expect(shape.dtype == DType::I64, shape.dtype)?;
        let extents = inputs.known_ints(0, "shape")?.unwrap_or_default();
        Ok(vec![checked_type(self.value.dtype(), shape_of(extents)?)?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let extents = operand(inputs, 0)?.to_i64_vec().unwrap_or_default();
        let shape = checked_type(self.value.dtype(), shape_of(extents)?)?.shape;
        let count = shape.elements();
        Ok(vec![pick(&self.value, shape, std::iter::repeat_n(0, count))?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let y = cx.write(0)?;
        expect_loop_type(y.dtype)?;
        let value =
            literal_of(&self.value).ok_or_else(|| OpError::internal("a fill that is not a scalar"))?;
        cx.elementwise(&y, &[], value)
    }
}

fn shape_of(extents: Vec<i64>) -> Result<Shape, OpError> {
    extents.into_iter().map(extent).collect()
}

impl OnnxOp for Range {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Range", 11)];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Range.into())
    }
}

impl Op for Range {
    fn name(&self) -> &'static str {
        "Range"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let dtype = inputs.required(0)?.dtype;
        expect(is_number(dtype), dtype)?;
        let mut known = Vec::new();
        for (i, what) in ["start", "limit", "delta"].into_iter().enumerate() {
            let fact = inputs.required(i)?;
            expect_same(dtype, fact.dtype)?;
            known.push(fact.constant.ok_or_else(|| OpError::NotConstant(what.to_owned()))?);
        }
        Ok(vec![checked_type(dtype, [count(&known)?])?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let known: Vec<&Tensor> = inputs.iter().copied().flatten().collect();
        let first = operand(inputs, 0)?;
        let dtype = first.dtype();
        let shape = checked_type(dtype, [count(&known)?])?.shape;
        let n = shape.elements();
        let y = if is_arithmetic_float(dtype) {
            let (start, delta) = (scalar(&floats(first)?)?, scalar(&floats(operand(inputs, 2)?)?)?);
            from_floats(dtype, shape, (0..n).map(|i| start + i as f64 * delta))?
        } else {
            let (start, delta) = (scalar(&ints(first)?)?, scalar(&ints(operand(inputs, 2)?)?)?);
            from_ints(dtype, shape, (0..n).map(|i| start + i as i128 * delta))?
        };
        Ok(vec![y])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let y = cx.write(0)?;
        let known = |i| cx.constant(i).and_then(literal_of);
        let (Some(start), Some(delta)) = (known(0), known(2)) else {
            return Err(OpError::internal("a range that is not known"));
        };
        let index = cast(DType::I64, compute_dtype(y.dtype), Expr::Index(0));
        let step = Expr::Binary(BinaryFn::Mul, Box::new(index), Box::new(delta));
        cx.elementwise(&y, &[], Expr::Binary(BinaryFn::Add, Box::new(start), Box::new(step)))
    }
}

fn scalar<T: Copy>(values: &[T]) -> Result<T, OpError> {
    match values {
        [one] => Ok(*one),
        _ => Err(OpError::invalid("a limit of a range is not a scalar")),
    }
}

/// `max(ceil((limit - start) / delta), 0)`.
fn count(operands: &[&Tensor]) -> Result<usize, OpError> {
    let [start, limit, delta] = operands else { return Err(OpError::internal("a range has three operands")) };
    let too_long = || OpError::Limit("a range is too long".to_owned());
    if is_arithmetic_float(start.dtype()) {
        let (start, limit, delta) =
            (scalar(&floats(start)?)?, scalar(&floats(limit)?)?, scalar(&floats(delta)?)?);
        let n = libm::ceil((limit - start) / delta);
        if n.is_nan() {
            return Err(OpError::invalid("a range has no length"));
        }
        return if n < 1e15 { Ok(n as usize) } else { Err(too_long()) };
    }
    let (start, limit, delta) = (scalar(&ints(start)?)?, scalar(&ints(limit)?)?, scalar(&ints(delta)?)?);
    if delta == 0 {
        return Err(OpError::invalid("a range has step 0"));
    }
    let (span, step) = if delta > 0 { (limit - start, delta) } else { (start - limit, -delta) };
    usize::try_from((span.max(0) + step - 1) / step).map_err(|_| too_long())
}

impl OnnxOp for EyeLike {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("EyeLike", 9)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let dtype = match attrs.int("dtype")? {
            None => None,
            Some(code) => {
                Some(dtype_of(code).ok_or_else(|| OpError::unsupported(format!("elements of type {code}")))?)
            }
        };
        Ok(EyeLike { dtype, k: attrs.int_or("k", 0)? }.into())
    }
}

impl Op for EyeLike {
    fn name(&self) -> &'static str {
        "EyeLike"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        let dtype = self.dtype.unwrap_or(x.dtype);
        expect(is_number(dtype) || dtype == DType::Bool, dtype)?;
        if x.shape.rank() != 2 {
            return Err(OpError::invalid(format!("{} is not of rank 2", x.shape)));
        }
        Ok(vec![Type::new(dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let (&[rows, columns], k) = (x.shape().dims(), i128::from(self.k)) else {
            return Err(OpError::internal("an operand of another rank than 2"));
        };
        let cells = (0..rows).flat_map(|r| (0..columns).map(move |c| i128::from(c as i128 - r as i128 == k)));
        Ok(vec![from_ints(self.dtype.unwrap_or(x.dtype()), [rows, columns], cells)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let y = cx.write(0)?;
        let offset = Expr::Binary(BinaryFn::Sub, Box::new(Expr::Index(1)), Box::new(Expr::Index(0)));
        let k = Expr::Const(Scalar::Int(DType::I64, self.k));
        let on = Expr::Compare(CompareFn::Equal, Box::new(offset), Box::new(k));
        let (one, zero) = (literal(y.dtype, 1.0), literal(y.dtype, 0.0));
        cx.elementwise(&y, &[], Expr::Select(Box::new(on), Box::new(one), Box::new(zero)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s, import};
    use super::*;
    use crate::onnx::Attr;

    #[test]
    fn constants_of_a_shape() {
        let value = [("value", Attr::Tensor(Tensor::vector(&[7i8])))];
        let y = apply("ConstantOfShape", 9, &value, &[&Tensor::vector(&[2i64, 1])]).unwrap();
        assert_eq!(y, Tensor::full::<i8>([2, 1], 7));
        assert_eq!(apply("ConstantOfShape", 9, &[], &[&i64s(&[0], &[])]).unwrap(), Tensor::scalar(0f32));
        for bad in [&[-1][..], &[i64::MAX, i64::MAX]] {
            assert!(apply("ConstantOfShape", 9, &[], &[&Tensor::vector(bad)]).is_err());
        }
        let two = [("value", Attr::Tensor(Tensor::vector(&[1f32, 2.0])))];
        assert!(import("ConstantOfShape", 9, &two, 1, 1).is_err());
    }

    #[test]
    fn ranges() {
        let i = |v: i64| i64s(&[], &[v]);
        let range =
            |a, b, c| apply("Range", 11, &[], &[&i(a), &i(b), &i(c)]).map(|t| t.to_i64_vec().unwrap());
        assert_eq!(range(1, 6, 2).unwrap(), [1, 3, 5]);
        assert_eq!(range(10, 4, -2).unwrap(), [10, 8, 6]);
        assert_eq!(range(0, -3, 1).unwrap(), [0i64; 0]);
        assert!(range(0, 1, 0).is_err());
        assert!(range(i64::MIN, i64::MAX, 1).is_err());
        let f = |v: f32| f32s(&[], &[v]);
        let y = apply("Range", 11, &[], &[&f(0.0), &f(1.0), &f(0.4)]).unwrap();
        assert_eq!(y, f32s(&[3], &[0.0, 0.4, 0.8]));
        assert!(apply("Range", 11, &[], &[&f(0.0), &f(f32::NAN), &f(1.0)]).is_err());
    }

    #[test]
    fn eyes() {
        let x = f32s(&[2, 3], &[0.0; 6]);
        let above = [("k", Attr::Int(1)), ("dtype", Attr::Int(7))];
        assert_eq!(apply("EyeLike", 9, &above, &[&x]).unwrap(), i64s(&[2, 3], &[0, 1, 0, 0, 0, 1]));
        assert_eq!(apply("EyeLike", 9, &[("k", Attr::Int(i64::MIN))], &[&x]).unwrap(), x);
        assert!(apply("EyeLike", 9, &[], &[&f32s(&[1], &[0.0])]).is_err());
    }
}
