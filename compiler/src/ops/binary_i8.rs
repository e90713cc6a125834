//! Sums, products, maxima and minima of two quantized values, requantized; inside the compiler only, as what passes make
//! of elementwise operators between two DequantizeLinear and a QuantizeLinear.
//!
//! With `a` and `b` the integers without their zero points, `s`, `t` their scales and `u` that of the result:
//!
//! - a *sum* or *difference* is that of a residual addition ([`Addend`]): `RNE((a·own ± b·other) · 2^-shift)`, the multipliers
//!   close to `s/u` and `t/u`, each in two parts, all partial sums exact;
//! - a *product* is `RNE(f32(a·b) · factor)` with `factor = s·t/u` in `f32`, the product of both rounded once;
//! - a *maximum* or *minimum* is that of `RNE(a·s/u)` and `RNE(b·t/u)`, the quotients in `f32`, each product rounded once.
//!
//! Then come a clamp, the zero point, and the type's range. Ties go to even.

use super::nest::{add, binary, mul};
use super::requant::Addend;
use super::typed::{cast, expect};
use super::walk::{broadcast_shape, broadcast_strides, operand, positions};
use super::{Inputs, LayoutRule, Op, OpError, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::{BinaryFn, Expr};
use crate::schedule::{LowerCx, TensorView};

/// What is computed.
#[derive(Debug, Clone, PartialEq)]
pub enum Function {
    /// A sum, or a difference. The addend's own zero point and bounds are not used.
    Sum {
        /// The multipliers.
        factors: Addend,
        /// Whether the second operand is taken away.
        minus: bool,
    },
    /// A product.
    Product {
        /// Both scales by the result's.
        factor: f32,
    },
    /// The larger of the two.
    Max {
        /// Each scale by the result's.
        factors: [f32; 2],
    },
    /// The smaller of the two.
    Min {
        /// Each scale by the result's.
        factors: [f32; 2],
    },
}

/// Operands: `a` and `b` (`u8` or `i8`), which broadcast together.
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryI8 {
    /// What is computed.
    pub function: Function,
    /// Zero points of the operands.
    pub zeros: [i32; 2],
    /// Bounds of the result without its zero point.
    pub bounds: [i32; 2],
    /// Zero point of the result.
    pub zero: i32,
    /// Its type: `u8` or `i8`.
    pub to: DType,
}

/// `RNE(v · factor)`, the product exact.
fn scaled(v: f32, factor: f32) -> f64 {
    libm::rint(f64::from(v) * f64::from(factor))
}

impl BinaryI8 {
    /// The four multipliers as a kernel reads them: high parts, low parts.
    fn factors(&self) -> [f32; 4] {
        match &self.function {
            Function::Sum { factors, minus } => {
                let sign = if *minus { -1.0 } else { 1.0 };
                let [[a, b], [a_low, b_low]] = factors.factors();
                [a, b * sign, a_low, b_low * sign]
            }
            Function::Product { factor } => [*factor, 0.0, 0.0, 0.0],
            Function::Max { factors: [a, b] } | Function::Min { factors: [a, b] } => [*a, *b, 0.0, 0.0],
        }
    }

    fn result(&self, a: i64, b: i64) -> i64 {
        let (a, b) = ((a - i64::from(self.zeros[0])) as f32, (b - i64::from(self.zeros[1])) as f32);
        let [f, g, f_low, g_low] = self.factors();
        let y = match self.function {
            // Products and both sums are exact.
            Function::Sum { .. } => scaled((a * f + b * g) + (a * f_low + b * g_low), 1.0),
            Function::Product { .. } => scaled(a * b, f),
            Function::Max { .. } => scaled(a, f).max(scaled(b, g)),
            Function::Min { .. } => scaled(a, f).min(scaled(b, g)),
        };
        let [low, high] = self.bounds.map(f64::from);
        y.clamp(low, high.max(low)) as i64 + i64::from(self.zero)
    }

    /// All numbers that training decides: zero points, multipliers, bounds, the result's zero point.
    fn numbers(&self) -> [f32; 9] {
        let ([a, b], [f, g, f_low, g_low]) = (self.zeros.map(|z| z as f32), self.factors());
        let [low, high] = self.bounds.map(|v| v as f32);
        [a, b, f, g, f_low, g_low, low, high, self.zero as f32]
    }

    /// Whether the bounds are those of the type, which storing keeps anyway.
    fn unbounded(&self) -> bool {
        let [low, high] = if self.to == DType::U8 { [0, 255] } else { [-128, 127] };
        self.bounds[0] + self.zero <= low && self.bounds[1] + self.zero >= high
    }
}

impl Op for BinaryI8 {
    fn name(&self) -> &'static str {
        match self.function {
            Function::Sum { minus: false, .. } => "QLinearAdd",
            Function::Sum { minus: true, .. } => "QLinearSub",
            Function::Product { .. } => "QLinearMul",
            Function::Max { .. } => "QLinearMax",
            Function::Min { .. } => "QLinearMin",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (a, b) = (inputs.required(0)?, inputs.required(1)?);
        for dtype in [a.dtype, b.dtype, self.to] {
            expect(matches!(dtype, DType::U8 | DType::I8), dtype)?;
        }
        Ok(vec![Type::new(self.to, broadcast_shape([a.shape, b.shape])?)])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let shape = broadcast_shape([a.shape(), b.shape()])?;
        let load = |t: &Tensor| t.to_i64_vec().ok_or_else(|| OpError::internal("operands of other types"));
        let at = |t: &Tensor| positions(&shape, &broadcast_strides(t.shape(), &shape), 0);
        let (left, right) = (load(a)?, load(b)?);
        let results = at(a).zip(at(b)).map(|(i, k)| {
            let (a, b) = (left.get(i).copied().unwrap_or(0), right.get(k).copied().unwrap_or(0));
            i128::from(self.result(a, b))
        });
        Ok(vec![super::typed::from_ints(self.to, shape.clone(), results)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (a, b) = (cx.read(0)?, cx.read(1)?);
        let y = cx.write(0)?;
        let numbers = cx.blob("numbers", &self.numbers());
        let scalar = |i: usize| TensorView {
            operand: numbers,
            dtype: DType::F32,
            shape: Vec::new(),
            offset: i,
            strides: Vec::new(),
        };
        let number = |i: usize| Expr::Read(2 + i);
        let centred =
            |i: usize, dtype: DType| binary(BinaryFn::Sub, cast(dtype, DType::F32, Expr::Read(i)), number(i));
        let (p, q) = (centred(0, a.dtype), centred(1, b.dtype));
        let wide = |v: Expr| cast(DType::F32, DType::F64, v);
        let exact = |v: Expr, factor: usize| mul(wide(v), wide(number(factor)));
        let (value, dtype) = match self.function {
            Function::Sum { .. } => {
                let part = |i: usize| add(mul(p.clone(), number(i)), mul(q.clone(), number(i + 1)));
                (add(part(2), part(4)), DType::F32)
            }
            Function::Product { .. } => (exact(mul(p, q), 2), DType::F64),
            Function::Max { .. } => (binary(BinaryFn::Max, exact(p, 2), exact(q, 3)), DType::F64),
            Function::Min { .. } => (binary(BinaryFn::Min, exact(p, 2), exact(q, 3)), DType::F64),
        };
        let value = if self.unbounded() {
            value
        } else {
            // Rounding keeps the order, and bounds are integers.
            let bound = |i: usize| cast(DType::F32, dtype, number(i));
            binary(BinaryFn::Min, binary(BinaryFn::Max, value, bound(6)), bound(7))
        };
        let zero = Box::new(cast(DType::F32, DType::I32, number(8)));
        let value = Expr::Quantize { to: self.to, value: Box::new(value), zero };
        let reads: Vec<TensorView> = [a, b].into_iter().chain((0..9).map(scalar)).collect();
        cx.elementwise(&y, &reads, value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use super::*;

    fn of(function: Function) -> BinaryI8 {
        BinaryI8 { function, zeros: [10, 0], bounds: [-50, 60], zero: 100, to: DType::U8 }
    }

    fn results(function: Function) -> Vec<u8> {
        let (a, b) = (Tensor::vector(&[10u8, 12, 13, 0, 255]), Tensor::scalar(3i8));
        let y = run(&of(function).into(), &[Some(&a), Some(&b)], 1).unwrap();
        y[0].as_slice::<u8>().unwrap().to_vec()
    }

    #[test]
    fn sums_and_differences() {
        let factors = Addend::new(0.5, 1.0, 0, [0, 0]).unwrap();
        // a: 0, 2, 3, -10, 245; halves go to the even neighbour.
        assert_eq!(results(Function::Sum { factors, minus: false }), [103, 104, 104, 98, 160]);
        assert_eq!(results(Function::Sum { factors, minus: true }), [97, 98, 98, 92, 160]);
    }

    #[test]
    fn products_and_bounds() {
        assert_eq!(results(Function::Product { factor: 0.5 }), [100, 103, 104, 85, 160]);
        assert_eq!(results(Function::Max { factors: [0.5, 1.0] }), [103, 103, 103, 103, 160]);
        assert_eq!(results(Function::Min { factors: [0.5, 1.0] }), [100, 101, 102, 95, 103]);
    }
}
