//! Sums over the trees of an ensemble, for `ai.onnx.ml` operators: see [`super::trees`]. Named by bodies only.
//!
//! Trees are tables in the blob, never nested branches: a node of a table takes 8 to 13 bytes, one in code
//! (load, compare with a literal, branch) 16 and more on every target, and a retrained model changes no line.

use super::composite::INTERNAL;
use super::typed::{floats, from_bools, from_floats, ints};
use super::walk::{checked_type, operand};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Operands: `x: [rows, width]`, and the tables `feature`, `split`, `kind`, `child`, `root`, `start`, `target`,
/// `weight` as `rt::routines::trees::join` describes them, known at compile time. Results: the sums
/// `[rows, targets]` in `x`'s type, and whether any weight reached each.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeSum {
    /// Number of targets.
    pub targets: usize,
    /// Weights of every leaf, or 0 where `start` says.
    pub per_leaf: usize,
    /// 0 sum, 1 minimum, 2 maximum.
    pub combine: usize,
}

/// Position of each operand.
const TABLES: [&str; 9] = ["x", "feature", "split", "kind", "child", "root", "start", "target", "weight"];

impl OnnxOp for TreeSum {
    const NAMES: &'static [OnnxName] = &[OnnxName { domain: INTERNAL, op_type: "TreeSum", since: 1 }];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let mut size = |name: &str| -> Result<usize, OpError> { super::walk::extent(attrs.int_or(name, 0)?) };
        Ok(TreeSum { targets: size("targets")?, per_leaf: size("per_leaf")?, combine: size("combine")? }
            .into())
    }
}

impl Op for TreeSum {
    fn name(&self) -> &'static str {
        "TreeSum"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        for (i, name) in TABLES.iter().enumerate().skip(1) {
            if inputs.required(i)?.constant.is_none() {
                return Err(OpError::NotConstant((*name).to_owned()));
            }
        }
        match *x.shape.dims() {
            [rows, _] => {
                let sums = checked_type(x.dtype, [rows, self.targets])?;
                let reached = Type::new(DType::Bool, sums.shape.clone());
                Ok(vec![sums, reached])
            }
            _ => Err(OpError::invalid(format!("rows of shape {}", x.shape))),
        }
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let &[rows, width] = x.shape().dims() else { return Err(OpError::internal("rows of another rank")) };
        let values = floats(x)?;
        let table = |i: usize| ints(operand(inputs, i)?);
        let [feature, kind, child, root] = [table(1)?, table(3)?, table(4)?, table(5)?];
        let [start, target] = [table(6)?, table(7)?];
        let (split, weight) = (floats(operand(inputs, 2)?)?, floats(operand(inputs, 8)?)?);
        let nodes = child.len() / 2;
        let outside = || OpError::internal("a tree leaves its tables");
        let get = |table: &[i128], i: usize| -> Result<usize, OpError> {
            table.get(i).and_then(|&v| usize::try_from(v).ok()).ok_or_else(outside)
        };
        // The operator adds in the type of `x`.
        let round = |v: f64| if x.dtype() == DType::F32 { f64::from(v as f32) } else { v };
        let mut sums = vec![0.0; rows * self.targets];
        let mut reached = vec![false; sums.len()];
        for row in 0..rows {
            for tree in 0..root.len() {
                let mut at = get(&root, tree)?;
                for _ in 0..nodes {
                    if at >= nodes {
                        break;
                    }
                    let v = *values.get(row * width + get(&feature, at)?).ok_or_else(outside)?;
                    let s = *split.get(at).ok_or_else(outside)?;
                    let kind = if kind.len() == 1 { get(&kind, 0)? } else { get(&kind, at)? };
                    let first = match kind & 7 {
                        0 => v <= s,
                        1 => v < s,
                        2 => v >= s,
                        3 => v > s,
                        4 => v == s,
                        _ => v != s,
                    } || v.is_nan() && kind & 8 != 0;
                    at = get(&child, 2 * at + usize::from(!first))?;
                }
                let leaf = at.checked_sub(nodes).ok_or_else(outside)?;
                let range = match self.per_leaf {
                    0 => get(&start, leaf)?..get(&start, leaf + 1)?,
                    n => leaf * n..(leaf + 1) * n,
                };
                for (k, i) in range.enumerate() {
                    let t = if target.len() == 1 { get(&target, 0)? + k } else { get(&target, i)? };
                    let w = *weight.get(i).ok_or_else(outside)?;
                    let to = row * self.targets + t;
                    let (sum, was) = sums.get_mut(to).zip(reached.get_mut(to)).ok_or_else(outside)?;
                    *sum = match (*was, self.combine) {
                        (false, _) => w,
                        (true, 1) => sum.min(w),
                        (true, 2) => sum.max(w),
                        (true, _) => round(*sum + w),
                    };
                    *was = true;
                }
            }
        }
        let shape = [rows, self.targets];
        Ok(vec![from_floats(x.dtype(), shape, sums)?, from_bools(shape, reached)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let width = match cx.input_type(0).map(|(_, s)| s.dims().to_vec()).as_deref() {
            Some(&[_, width]) => width,
            _ => return Err(OpError::internal("rows of another rank")),
        };
        let reads =
            (0..TABLES.len()).map(|i| cx.read_dense(i).map(|v| v.operand)).collect::<Result<Vec<_>, _>>()?;
        let y = cx.write_dense(0)?;
        let reached = match cx.output_type(1) {
            Some(_) => cx.write_dense(1)?,
            None => super::nest::scratch(cx, "reached", DType::Bool, &y.shape)?,
        };
        let params = [width, self.targets, self.per_leaf, self.combine].map(Param::Usize);
        cx.push(Kernel::Routine(Routine {
            function: "trees::join",
            reads,
            writes: vec![y.operand, reached.operand],
            params: params.to_vec(),
            fallible: false,
        }));
        Ok(())
    }
}
