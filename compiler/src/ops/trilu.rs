//! [Trilu](https://onnx.ai/onnx/operators/onnx__Trilu.html): the upper or lower triangle of each matrix.

use super::typed::{cast, expect, expect_loop_type, from_ints, literal};
use super::walk::{operand, optional, pick_from};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::kernel::expr::{BinaryFn, CompareFn, Expr, Scalar};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};

/// Keeps a triangle, zeros elsewhere. Operand 1 shifts the diagonal upwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Trilu {
    /// The upper triangle instead of the lower.
    pub upper: bool,
}

impl OnnxOp for Trilu {
    const NAMES: &'static [OnnxName] =
        &[OnnxName::onnx("Trilu", 14), OnnxName { domain: "com.microsoft", op_type: "Trilu", since: 1 }];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Trilu { upper: attrs.int_or("upper", 1)? != 0 }.into())
    }
}

impl Op for Trilu {
    fn name(&self) -> &'static str {
        "Trilu"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect(x.dtype != DType::String, x.dtype)?;
        if x.shape.rank() < 2 {
            return Err(OpError::invalid(format!("{} holds no matrices", x.shape)));
        }
        if let Some(k) = inputs.get(1) {
            expect(k.dtype == DType::I64, k.dtype)?;
            if k.shape.elements() != 1 {
                return Err(OpError::invalid(format!(
                    "the diagonal is of shape {}, expected a scalar",
                    k.shape
                )));
            }
        }
        Ok(vec![Type::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let k =
            optional(inputs, 1).and_then(Tensor::to_i64_vec).and_then(|v| v.first().copied()).unwrap_or(0);
        let &[.., rows, columns] = x.shape().dims() else {
            return Err(OpError::internal("an operand of a rank below 2"));
        };
        let zero = from_ints(x.dtype(), Shape::scalar(), [0])?;
        let picks = (0..x.len()).map(|p| {
            let (r, c) = (p / columns % rows, p % columns);
            let above = c as i128 - r as i128 - i128::from(k);
            let kept = if self.upper { above >= 0 } else { above <= 0 };
            if kept { (0, p) } else { (1, 0) }
        });
        Ok(vec![pick_from(&[x, &zero], x.shape().clone(), picks)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let mut reads = vec![cx.read(0)?];
        expect_loop_type(reads[0].dtype)?;
        let k = match (cx.constant(1), cx.input_type(1).is_some()) {
            (Some(t), _) => Expr::Const(Scalar::Int(
                DType::I64,
                t.to_i64_vec().and_then(|v| v.first().copied()).unwrap_or(0),
            )),
            (None, true) => {
                let k = cx.read(1)?;
                reads.push(TensorView { shape: Vec::new(), strides: Vec::new(), ..k });
                cast(DType::I64, DType::I64, Expr::Read(1))
            }
            (None, false) => literal(DType::I64, 0.0),
        };
        let y = cx.write(0)?;
        let rank = y.shape.len();
        let [row, column] = [2, 1].map(|back| Expr::Index(rank.saturating_sub(back)));
        let offset = Expr::Binary(BinaryFn::Sub, Box::new(column), Box::new(row));
        let side = if self.upper { CompareFn::GreaterOrEqual } else { CompareFn::LessOrEqual };
        let kept = Expr::Compare(side, Box::new(offset), Box::new(k));
        let zero = literal(y.dtype, 0.0);
        let value = Expr::Select(Box::new(kept), Box::new(Expr::Read(0)), Box::new(zero));
        cx.elementwise(&y, &reads, value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, i64s};
    use crate::onnx::Attr;

    #[test]
    fn triangles() {
        let x = i64s(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(apply("Trilu", 14, &[], &[&x]).unwrap(), i64s(&[2, 3], &[1, 2, 3, 0, 5, 6]));
        let lower = [("upper", Attr::Int(0))];
        assert_eq!(
            apply("Trilu", 14, &lower, &[&x, &i64s(&[], &[1])]).unwrap(),
            i64s(&[2, 3], &[1, 2, 0, 4, 5, 6])
        );
        assert_eq!(
            apply("Trilu", 14, &lower, &[&x, &i64s(&[], &[i64::MIN])]).unwrap(),
            i64s(&[2, 3], &[0; 6])
        );
        assert_eq!(apply("Trilu", 14, &[], &[&i64s(&[0, 3], &[])]).unwrap(), i64s(&[0, 3], &[]));
        assert!(apply("Trilu", 14, &[], &[&i64s(&[1], &[1])]).is_err());
    }
}
