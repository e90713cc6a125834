//! Zeros beyond a length that only a run knows, where an operator must not see what lies there. Made by the
//! frontend; see [`super::length`].

use super::typed::{expect_loop_type, literal};
use super::walk::operand;
use super::{Inputs, LayoutRule, Op, OpError, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::{CompareFn, Expr};
use crate::schedule::LowerCx;

/// Operands: `x`, and a length, an `i64[1]`. Elements of `x` from that position of the axis on become zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Clear {
    /// The axis.
    pub axis: usize,
}

impl Op for Clear {
    fn name(&self) -> &'static str {
        "Clear"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, length) = (inputs.required(0)?, inputs.required(1)?);
        expect_loop_type(x.dtype)?;
        if self.axis >= x.shape.rank() || length.dtype != DType::I64 || length.shape.dims() != [1] {
            return Err(OpError::internal("a length of another kind"));
        }
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, length) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let length = length.to_i64_vec().and_then(|v| v.first().copied()).unwrap_or(0);
        let (extent, size) = (x.shape().get(self.axis).copied().unwrap_or(0), x.dtype().size());
        let row = x.shape().iter().skip(self.axis + 1).product::<usize>() * size;
        let mut bytes = x.to_le_bytes();
        for (i, row) in bytes.chunks_mut(row.max(1)).enumerate() {
            let at = i.checked_rem(extent).unwrap_or(0);
            if i64::try_from(at).is_ok_and(|at| at >= length) {
                row.fill(0);
            }
        }
        Ok(vec![Tensor::from_le_bytes(x.dtype(), x.shape().clone(), &bytes)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let (x, mut length) = (cx.read(0)?, cx.read(1)?);
        let y = cx.write(0)?;
        // The same length for every element.
        length.shape = Vec::new();
        length.strides = Vec::new();
        let counts =
            Expr::Compare(CompareFn::Less, Box::new(Expr::Index(self.axis)), Box::new(Expr::Read(1)));
        let zero = literal(x.dtype, 0.0);
        cx.elementwise(
            &y,
            &[x, length],
            Expr::Select(Box::new(counts), Box::new(Expr::Read(0)), Box::new(zero)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{f32s, i64s, run};
    use super::*;

    #[test]
    fn elements_beyond_the_length_become_zero() {
        let x = f32s(&[2, 3, 2], &[1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12.]);
        let of = |axis, n: i64| run(&Clear { axis }.into(), &[Some(&x), Some(&i64s(&[1], &[n]))], 1).unwrap();
        assert_eq!(of(1, 1)[0], f32s(&[2, 3, 2], &[1., 2., 0., 0., 0., 0., 7., 8., 0., 0., 0., 0.]));
        assert_eq!(of(0, 1)[0], f32s(&[2, 3, 2], &[1., 2., 3., 4., 5., 6., 0., 0., 0., 0., 0., 0.]));
        assert_eq!(of(2, 2)[0], x);
    }
}
