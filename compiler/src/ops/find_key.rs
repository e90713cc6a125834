//! Positions of values in a table of keys, for [`super::ml_labels`]. Named by bodies only.

use super::composite::INTERNAL;
use super::typed::is_number;
use super::walk::operand;
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Operands: `x`, and the keys in increasing order with NaN last, of the same type and known at compile time.
/// The result is each value's position among the keys, or their number where it is none of them.
#[derive(Debug, Clone, PartialEq)]
pub struct FindKey;

impl OnnxOp for FindKey {
    const NAMES: &'static [OnnxName] = &[OnnxName { domain: INTERNAL, op_type: "FindKey", since: 1 }];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(FindKey.into())
    }
}

impl Op for FindKey {
    fn name(&self) -> &'static str {
        "FindKey"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, keys) = (inputs.required(0)?, inputs.required(1)?);
        if !is_number(x.dtype) || keys.dtype != x.dtype || keys.constant.is_none() {
            return Err(OpError::unsupported(format!(
                "a look-up of {} among keys of {}",
                x.dtype, keys.dtype
            )));
        }
        Ok(vec![Type::new(DType::I64, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, keys) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let places: Vec<i64> = if x.dtype().is_int() {
            let keys = super::typed::ints(keys)?;
            let place = |v: &i128| keys.iter().position(|k| k == v).unwrap_or(keys.len()) as i64;
            super::typed::ints(x)?.iter().map(place).collect()
        } else {
            let keys = super::typed::floats(keys)?;
            let same = |k: f64, v: f64| k == v || k.is_nan() && v.is_nan();
            let place = |v: &f64| keys.iter().position(|&k| same(k, *v)).unwrap_or(keys.len()) as i64;
            super::typed::floats(x)?.iter().map(place).collect()
        };
        Ok(vec![Tensor::new::<i64>(x.shape().clone(), places)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let count = cx.constant(1).map_or(0, Tensor::len);
        let reads = vec![cx.read_dense(0)?.operand, cx.read_dense(1)?.operand];
        let y = cx.write_dense(0)?;
        cx.push(Kernel::Routine(Routine {
            function: "labels::find",
            reads,
            writes: vec![y.operand],
            params: vec![Param::Usize(count)],
            fallible: false,
        }));
        Ok(())
    }
}
