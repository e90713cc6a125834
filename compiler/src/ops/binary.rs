//! Functions of two values with broadcasting: [Add](https://onnx.ai/onnx/operators/onnx__Add.html),
//! [Pow](https://onnx.ai/onnx/operators/onnx__Pow.html),
//! [Less](https://onnx.ai/onnx/operators/onnx__Less.html) and their kind, one struct for all.
//!
//! Integers wrap; `x / 0` and `x % 0` are 0; division truncates; a shift by the width or more, or by a
//! negative count, leaves copies of the sign where it is to the right, and 0 otherwise; a negative integer power truncates towards zero, and `0` to a negative power is 0.

use super::length::{Axes, broadcast};
use super::typed::{
    bools, cast, compute_dtype, expect, expect_loop_type, expect_same, floats, from_bools, from_floats,
    from_ints, ints, is_arithmetic_float, is_arithmetic_int, is_number,
};
use super::walk::{broadcast_shape, broadcast_strides, checked_type, operand, positions};
use super::{Inputs, LayoutRule, Lengths, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Data, Shape, Tensor};
pub use crate::kernel::expr::BinaryFn;
use crate::kernel::expr::{CompareFn, Expr};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// What is computed of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryKind {
    /// A value of the operands' type.
    Arith(BinaryFn),
    /// A truth value.
    Compare(CompareFn),
}

/// An elementwise function of two operands that broadcast together.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Which.
    pub function: BinaryKind,
}

const LIST: &[(OnnxName, BinaryKind)] = &[
    (OnnxName::onnx("Add", 7), BinaryKind::Arith(BinaryFn::Add)),
    (OnnxName::onnx("Sub", 7), BinaryKind::Arith(BinaryFn::Sub)),
    (OnnxName::onnx("Mul", 7), BinaryKind::Arith(BinaryFn::Mul)),
    (OnnxName::onnx("Div", 7), BinaryKind::Arith(BinaryFn::Div)),
    (OnnxName::onnx("Pow", 7), BinaryKind::Arith(BinaryFn::Pow)),
    (OnnxName::onnx("Mod", 10), BinaryKind::Arith(BinaryFn::Mod)),
    (OnnxName::onnx("And", 7), BinaryKind::Arith(BinaryFn::And)),
    (OnnxName::onnx("Or", 7), BinaryKind::Arith(BinaryFn::Or)),
    (OnnxName::onnx("Xor", 7), BinaryKind::Arith(BinaryFn::Xor)),
    (OnnxName::onnx("BitwiseAnd", 18), BinaryKind::Arith(BinaryFn::BitwiseAnd)),
    (OnnxName::onnx("BitwiseOr", 18), BinaryKind::Arith(BinaryFn::BitwiseOr)),
    (OnnxName::onnx("BitwiseXor", 18), BinaryKind::Arith(BinaryFn::BitwiseXor)),
    (OnnxName::onnx("BitShift", 11), BinaryKind::Arith(BinaryFn::ShiftLeft)),
    (OnnxName::onnx("PRelu", 7), BinaryKind::Arith(BinaryFn::PRelu)),
    (OnnxName::onnx("Equal", 7), BinaryKind::Compare(CompareFn::Equal)),
    (OnnxName::onnx("Less", 7), BinaryKind::Compare(CompareFn::Less)),
    (OnnxName::onnx("LessOrEqual", 12), BinaryKind::Compare(CompareFn::LessOrEqual)),
    (OnnxName::onnx("Greater", 7), BinaryKind::Compare(CompareFn::Greater)),
    (OnnxName::onnx("GreaterOrEqual", 12), BinaryKind::Compare(CompareFn::GreaterOrEqual)),
];

const fn names() -> [OnnxName; LIST.len()] {
    let mut names = [OnnxName::onnx("", 0); LIST.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = LIST[i].0;
        i += 1;
    }
    names
}

impl OnnxOp for Binary {
    const NAMES: &'static [OnnxName] = &names();

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let listed = LIST.iter().find(|(name, _)| name.op_type == node.op_type);
        let (_, listed) = listed
            .ok_or_else(|| OpError::internal(format!("`{}` is not a binary function", node.op_type)))?;
        let function = match listed {
            BinaryKind::Arith(BinaryFn::Mod) => match attrs.int_or("fmod", 0)? {
                0 => BinaryKind::Arith(BinaryFn::Mod),
                1 => BinaryKind::Arith(BinaryFn::Fmod),
                other => return Err(OpError::invalid(format!("attribute `fmod` is {other}"))),
            },
            BinaryKind::Arith(BinaryFn::ShiftLeft) => {
                match AttrReader::required("direction", attrs.text("direction")?)? {
                    "LEFT" => BinaryKind::Arith(BinaryFn::ShiftLeft),
                    "RIGHT" => BinaryKind::Arith(BinaryFn::ShiftRight),
                    other => return Err(OpError::invalid(format!("attribute `direction` is `{other}`"))),
                }
            }
            other => *other,
        };
        Ok(Binary { function }.into())
    }
}

impl Op for Binary {
    fn name(&self) -> &'static str {
        let function = match self.function {
            BinaryKind::Arith(BinaryFn::Fmod) => BinaryKind::Arith(BinaryFn::Mod),
            BinaryKind::Arith(BinaryFn::ShiftRight) => BinaryKind::Arith(BinaryFn::ShiftLeft),
            other => other,
        };
        LIST.iter().find(|(_, f)| *f == function).map_or("Binary", |(name, _)| name.op_type)
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (a, b) = (inputs.required(0)?, inputs.required(1)?);
        let d = a.dtype;
        let allowed = match self.function {
            BinaryKind::Arith(f) => match f {
                BinaryFn::And | BinaryFn::Or | BinaryFn::Xor => d == DType::Bool,
                BinaryFn::BitwiseAnd | BinaryFn::BitwiseOr | BinaryFn::BitwiseXor => is_arithmetic_int(d),
                BinaryFn::ShiftLeft | BinaryFn::ShiftRight => is_arithmetic_int(d),
                _ => is_number(d),
            },
            BinaryKind::Compare(CompareFn::Equal) => is_number(d) || matches!(d, DType::Bool | DType::String),
            BinaryKind::Compare(_) => is_number(d),
        };
        expect(allowed, d)?;
        match self.function {
            BinaryKind::Arith(BinaryFn::Pow) => expect(is_number(b.dtype), b.dtype)?,
            _ => expect_same(d, b.dtype)?,
        }
        let shape = broadcast_shape([a.shape, b.shape])?;
        if self.function == BinaryKind::Arith(BinaryFn::PRelu) && &shape != a.shape {
            return Err(OpError::invalid(format!("slopes {} do not broadcast to {}", b.shape, a.shape)));
        }
        Ok(vec![checked_type(self.result(d), shape)?])
    }

    fn lengths(&self, inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
        broadcast(inputs, along)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let shape = broadcast_shape([a.shape(), b.shape()])?;
        let y = match self.function {
            BinaryKind::Compare(f) => compare(f, a, b, &shape)?,
            BinaryKind::Arith(f) => arith(f, a, b, &shape)?,
        };
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let reads = [cx.read(0)?, cx.read(1)?];
        let dtypes = [reads[0].dtype, reads[1].dtype];
        expect_loop_type(dtypes[0])?;
        let value = self
            .expr(&dtypes, vec![Expr::Read(0), Expr::Read(1)])
            .ok_or_else(|| OpError::internal("a function of two operands"))?;
        let y = cx.write(0)?;
        cx.elementwise(&y, &reads, value)
    }
}

impl Binary {
    /// The function applied to two expressions; `dtypes` are the operands' element types.
    pub fn expr(&self, dtypes: &[DType], args: Vec<Expr>) -> Option<Expr> {
        let [a, b] = <[Expr; 2]>::try_from(args).ok()?;
        let (&da, &db) = (dtypes.first()?, dtypes.get(1)?);
        Some(match self.function {
            BinaryKind::Compare(f) => Expr::Compare(f, Box::new(a), Box::new(b)),
            // The exponent may be of another type: meet in one that holds both.
            BinaryKind::Arith(BinaryFn::Pow) if compute_dtype(da) != compute_dtype(db) => {
                let meet = match (da.is_int(), db.is_int()) {
                    (true, true) if da == DType::U64 || db == DType::U64 => DType::U64,
                    (true, true) => DType::I64,
                    (true, false) => DType::F64,
                    (false, _) => compute_dtype(da),
                };
                let power =
                    Expr::Binary(BinaryFn::Pow, Box::new(cast(da, meet, a)), Box::new(cast(db, meet, b)));
                cast(meet, compute_dtype(da), power)
            }
            BinaryKind::Arith(f) => Expr::Binary(f, Box::new(a), Box::new(b)),
        })
    }

    fn result(&self, dtype: DType) -> DType {
        match self.function {
            BinaryKind::Arith(_) => dtype,
            BinaryKind::Compare(_) => DType::Bool,
        }
    }
}

/// Pairs of elements, broadcast, in row-major order of `shape`.
fn pairs<'v, T: Copy>(
    (a, a_shape): (&'v [T], &Shape),
    (b, b_shape): (&'v [T], &Shape),
    shape: &Shape,
) -> impl Iterator<Item = (T, T)> + use<'v, T> {
    let at = positions(shape, &broadcast_strides(a_shape, shape), 0);
    let bt = positions(shape, &broadcast_strides(b_shape, shape), 0);
    at.zip(bt).filter_map(move |(i, j)| Some((*a.get(i)?, *b.get(j)?)))
}

fn compare(f: CompareFn, a: &Tensor, b: &Tensor, shape: &Shape) -> Result<Tensor, OpError> {
    if let (Data::String(x), Data::String(y)) = (a.data(), b.data()) {
        let refs = |v: &std::sync::Arc<[String]>| (0..v.len()).collect::<Vec<usize>>();
        let (ix, iy) = (refs(x), refs(y));
        return from_bools(
            shape.clone(),
            pairs((&ix, a.shape()), (&iy, b.shape()), shape).map(|(i, j)| x.get(i) == y.get(j)),
        );
    }
    if is_arithmetic_float(a.dtype()) {
        let (x, y) = (floats(a)?, floats(b)?);
        let all = pairs((&x, a.shape()), (&y, b.shape()), shape);
        return from_bools(shape.clone(), all.map(|(x, y)| holds(f, &x, &y)));
    }
    let (x, y) = (ints(a)?, ints(b)?);
    let all = pairs((&x, a.shape()), (&y, b.shape()), shape);
    from_bools(shape.clone(), all.map(|(x, y)| holds(f, &x, &y)))
}

fn holds<T: PartialOrd>(f: CompareFn, x: &T, y: &T) -> bool {
    match f {
        CompareFn::Equal => x == y,
        CompareFn::Less => x < y,
        CompareFn::LessOrEqual => x <= y,
        CompareFn::Greater => x > y,
        CompareFn::GreaterOrEqual => x >= y,
    }
}

fn arith(f: BinaryFn, a: &Tensor, b: &Tensor, shape: &Shape) -> Result<Tensor, OpError> {
    let dtype = a.dtype();
    if dtype == DType::Bool {
        let all = pairs((bools(a)?, a.shape()), (bools(b)?, b.shape()), shape);
        return from_bools(
            shape.clone(),
            all.map(|(x, y)| match f {
                BinaryFn::And => x & y,
                BinaryFn::Or => x | y,
                _ => x ^ y,
            }),
        );
    }
    if is_arithmetic_float(dtype) || is_arithmetic_float(b.dtype()) {
        let (x, y) = (floats(a)?, floats(b)?);
        let all = pairs((&x, a.shape()), (&y, b.shape()), shape);
        return from_floats(dtype, shape.clone(), all.map(|(x, y)| of_floats(f, x, y)));
    }
    let bits = 8 * dtype.size() as i128;
    let (x, y) = (ints(a)?, ints(b)?);
    let all = pairs((&x, a.shape()), (&y, b.shape()), shape);
    from_ints(dtype, shape.clone(), all.map(|(x, y)| of_ints(f, x, y, bits)))
}

/// The function in `f64`, by libm's pure-Rust code on every host.
pub(super) fn of_floats(f: BinaryFn, x: f64, y: f64) -> f64 {
    match f {
        BinaryFn::Add => x + y,
        BinaryFn::Sub => x - y,
        BinaryFn::Mul => x * y,
        BinaryFn::Div => x / y,
        BinaryFn::Pow => libm::pow(x, y),
        BinaryFn::Fmod => libm::fmod(x, y),
        BinaryFn::Mod => match libm::fmod(x, y) {
            0.0 => libm::copysign(0.0, y),
            r if (r < 0.0) != (y < 0.0) => r + y,
            r => r,
        },
        BinaryFn::Max if x.is_nan() || y.is_nan() => f64::NAN,
        BinaryFn::Min if x.is_nan() || y.is_nan() => f64::NAN,
        BinaryFn::Max => x.max(y),
        BinaryFn::Min => x.min(y),
        BinaryFn::PRelu if x < 0.0 => x * y,
        BinaryFn::PRelu => x,
        // Not functions of floats; inference refuses them.
        BinaryFn::And
        | BinaryFn::Or
        | BinaryFn::Xor
        | BinaryFn::BitwiseAnd
        | BinaryFn::BitwiseOr
        | BinaryFn::BitwiseXor
        | BinaryFn::ShiftLeft
        | BinaryFn::ShiftRight => f64::NAN,
    }
}

/// The function of integers of `bits` bits; the caller wraps the result to that width.
pub(super) fn of_ints(f: BinaryFn, x: i128, y: i128, bits: i128) -> i128 {
    match f {
        BinaryFn::Add => x + y,
        BinaryFn::Sub => x - y,
        BinaryFn::Mul => x.wrapping_mul(y),
        BinaryFn::Div => x.checked_div(y).unwrap_or(0),
        BinaryFn::Mod => x.checked_rem(y).map_or(0, |r| if r != 0 && (r < 0) != (y < 0) { r + y } else { r }),
        BinaryFn::Fmod => x.checked_rem(y).unwrap_or(0),
        BinaryFn::Pow => power(x, y),
        BinaryFn::Max => x.max(y),
        BinaryFn::Min => x.min(y),
        BinaryFn::And | BinaryFn::BitwiseAnd => x & y,
        BinaryFn::Or | BinaryFn::BitwiseOr => x | y,
        BinaryFn::Xor | BinaryFn::BitwiseXor => x ^ y,
        BinaryFn::ShiftLeft if (0..bits).contains(&y) => x << y,
        BinaryFn::ShiftRight if (0..bits).contains(&y) => x >> y,
        BinaryFn::ShiftRight if x < 0 => -1,
        BinaryFn::ShiftLeft | BinaryFn::ShiftRight => 0,
        BinaryFn::PRelu if x < 0 => x.wrapping_mul(y),
        BinaryFn::PRelu => x,
    }
}

/// `x` to the power of `y`, modulo 2¹²⁸.
fn power(x: i128, y: i128) -> i128 {
    if y < 0 {
        return match x {
            1 => 1,
            -1 if y % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut result, mut base, mut left) = (1i128, x, y);
    while left > 0 {
        if left & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        left >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s, i64s, import};
    use super::*;
    use crate::ir::{bf16, f16};
    use crate::kernel::expr::Scalar;
    use crate::onnx::Attr;

    #[test]
    fn every_listed_name_imports_under_that_name() {
        for name in Binary::NAMES {
            let attrs: &[(&str, Attr)] = match name.op_type {
                "BitShift" => &[("direction", Attr::String(b"LEFT".to_vec()))],
                _ => &[],
            };
            assert_eq!(import(name.op_type, 22, attrs, 2, 1).unwrap().as_op().name(), name.op_type);
        }
    }

    #[test]
    fn broadcasts_both_ways() {
        let a = f32s(&[2, 1], &[10.0, 20.0]);
        let b = f32s(&[3], &[1.0, 2.0, 3.0]);
        let expected = f32s(&[2, 3], &[9.0, 8.0, 7.0, 19.0, 18.0, 17.0]);
        assert_eq!(apply("Sub", 13, &[], &[&a, &b]).unwrap(), expected);
        assert!(apply("Add", 13, &[], &[&f32s(&[2], &[1.0, 2.0]), &b]).is_err());
        let empty = f32s(&[0, 1], &[]);
        assert_eq!(apply("Mul", 13, &[], &[&empty, &b]).unwrap(), f32s(&[0, 3], &[]));
    }

    #[test]
    fn integers_wrap_truncate_and_survive_zero() {
        let a = Tensor::vector(&[i32::MIN, -7, 5, 7]);
        let b = Tensor::vector(&[-1i32, 2, 0, -3]);
        assert_eq!(apply("Div", 14, &[], &[&a, &b]).unwrap(), Tensor::vector(&[i32::MIN, -3, 0, -2]));
        assert_eq!(apply("Mod", 10, &[], &[&a, &b]).unwrap(), Tensor::vector(&[0i32, 1, 0, -2]));
        let fmod = [("fmod", Attr::Int(1))];
        assert_eq!(apply("Mod", 10, &fmod, &[&a, &b]).unwrap(), Tensor::vector(&[0i32, -1, 0, 1]));
        let (x, y) = (f32s(&[4], &[-7.5, 7.5, 1.0, -0.0]), f32s(&[4], &[2.0, -2.0, f32::NEG_INFINITY, 3.0]));
        let rest = apply("Mod", 28, &[], &[&x, &y]).unwrap();
        assert_eq!(rest, f32s(&[4], &[0.5, -0.5, f32::NEG_INFINITY, 0.0]));
        let (x, y) = (Tensor::vector(&[200u8]), Tensor::vector(&[100u8]));
        assert_eq!(apply("Add", 14, &[], &[&x, &y]).unwrap(), Tensor::vector(&[44u8]));
        let (x, y) = (Tensor::vector(&[u64::MAX]), Tensor::vector(&[u64::MAX]));
        assert_eq!(apply("Mul", 14, &[], &[&x, &y]).unwrap(), Tensor::vector(&[1u64]));
    }

    #[test]
    fn powers_of_mixed_types() {
        let x = f32s(&[3], &[1.0, 2.0, 3.0]);
        let y = i64s(&[3], &[4, 5, 6]);
        assert_eq!(apply("Pow", 15, &[], &[&x, &y]).unwrap(), f32s(&[3], &[1.0, 32.0, 729.0]));
        assert_eq!(apply("Pow", 15, &[], &[&y, &f32s(&[], &[0.5])]).unwrap(), i64s(&[3], &[2, 2, 2]));
        assert_eq!(
            apply("Pow", 15, &[], &[&i64s(&[2], &[-1, 2]), &i64s(&[], &[-3])]).unwrap(),
            i64s(&[2], &[-1, 0])
        );
    }

    #[test]
    fn shifts_and_comparisons() {
        let right = [("direction", Attr::String(b"RIGHT".to_vec()))];
        let (x, y) = (Tensor::vector(&[16u8, 4, 1]), Tensor::vector(&[1u8, 2, 9]));
        assert_eq!(apply("BitShift", 11, &right, &[&x, &y]).unwrap(), Tensor::vector(&[8u8, 1, 0]));
        let nan = f32s(&[2], &[f32::NAN, 1.0]);
        assert_eq!(apply("Equal", 13, &[], &[&nan, &nan]).unwrap(), Tensor::vector(&[false, true]));
        assert_eq!(apply("GreaterOrEqual", 16, &[], &[&nan, &nan]).unwrap(), Tensor::vector(&[false, true]));
        let (t, f) = (Tensor::scalar(true), Tensor::vector(&[true, false]));
        assert_eq!(apply("Xor", 7, &[], &[&t, &f]).unwrap(), Tensor::vector(&[false, true]));
    }

    #[test]
    fn half_precision_rounds_once() {
        let h = |v: f32| Tensor::scalar(f16::from_f32(v));
        assert_eq!(apply("Add", 14, &[], &[&h(2048.0), &h(1.0)]).unwrap(), h(2048.0));
        let b = |v: f32| Tensor::scalar(bf16::from_f32(v));
        assert_eq!(apply("Mul", 14, &[], &[&b(3.0), &b(0.5)]).unwrap(), b(1.5));
    }

    #[test]
    fn what_is_refused() {
        let (x, s) = (f32s(&[2], &[-1.0, 1.0]), f32s(&[2, 2], &[0.1; 4]));
        assert!(apply("PRelu", 16, &[], &[&x, &s]).is_err(), "slopes may not widen the operand");
        assert!(apply("Add", 14, &[], &[&x, &i64s(&[2], &[1, 2])]).is_err());
        assert!(import("BitShift", 11, &[], 2, 1).is_err());
    }

    #[test]
    fn expressions_convert_the_exponent() {
        let pow = Binary { function: BinaryKind::Arith(BinaryFn::Pow) };
        let two = Expr::Const(Scalar::Int(DType::I64, 2));
        let value = pow.expr(&[DType::F16, DType::I64], vec![Expr::Read(0), two.clone()]);
        let two = Expr::Cast { from: DType::I64, to: DType::F32, value: Box::new(two) };
        assert_eq!(value, Some(Expr::Binary(BinaryFn::Pow, Box::new(Expr::Read(0)), Box::new(two))));
    }
}
