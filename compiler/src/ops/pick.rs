//! Entries of a table by positions that cannot miss, for `ai.onnx.ml` operators. Named by bodies only.

use super::composite::INTERNAL;
use super::nest::{access, push};
use super::typed::{expect_loop_type, ints};
use super::walk::{operand, pick};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::Nest;
use crate::kernel::expr::Expr;
use crate::kernel::loops::{Gather, Read, Store};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Operands: positions (`i64`) that lie inside the table, and the table, a vector known at compile time. Of a
/// table of texts the result is the position itself, and the generated crate holds the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Pick;

impl OnnxOp for Pick {
    const NAMES: &'static [OnnxName] = &[OnnxName { domain: INTERNAL, op_type: "Pick", since: 1 }];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(Pick.into())
    }
}

impl Op for Pick {
    fn name(&self) -> &'static str {
        "Pick"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (at, table) = (inputs.required(0)?, inputs.required(1)?);
        if at.dtype != DType::I64 || table.shape.rank() != 1 || table.shape.elements() == 0 {
            return Err(OpError::internal("positions or a table of another kind"));
        }
        if table.constant.is_none() {
            return Err(OpError::NotConstant("the table".to_owned()));
        }
        let dtype = if table.dtype == DType::String { DType::I64 } else { table.dtype };
        Ok(vec![Type::new(dtype, at.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (at, table) = (operand(inputs, 0)?, operand(inputs, 1)?);
        if table.dtype() == DType::String {
            return Ok(vec![at.clone()]);
        }
        let places = ints(at)?.into_iter().map(|p| usize::try_from(p).unwrap_or(usize::MAX));
        Ok(vec![pick(table, at.shape().clone(), places)?])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let at = cx.read(0)?;
        if cx.input_type(1).is_some_and(|(dtype, _)| dtype == DType::String) {
            // The positions themselves: no code.
            return cx.alias(0, at);
        }
        let table = cx.read_dense(1)?;
        expect_loop_type(table.dtype)?;
        let y = cx.write(0)?;
        if y.shape.contains(&0) {
            return Ok(());
        }
        let extent = table.shape.iter().product();
        let position = Gather { index: Expr::Read(0), extent, stride: 1, proven: true };
        let zeros = vec![0; at.shape.len()];
        push(
            cx,
            Nest {
                extents: y.shape.clone(),
                reduce: 0,
                reads: vec![
                    Read { access: access(&at, 0, at.strides.clone())?, gather: Vec::new() },
                    Read { access: access(&table, 0, zeros)?, gather: vec![position] },
                ],
                reductions: Vec::new(),
                stores: vec![Store { access: access(&y, 0, y.strides.clone())?, value: Expr::Read(1) }],
            },
        );
        Ok(())
    }
}
