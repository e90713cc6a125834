//! Sums over the trees of an ensemble, for `ai.onnx.ml` operators: see [`super::trees`]. Named by bodies only.
//!
//! Trees are tables in the blob that a routine walks: a node takes 8 to 13 bytes there, and 16 and more (load, compare,
//! branch) as code. Few nodes become nested branches all the same, where they take less than the routine does:
//! see [`super::tree_branches`].

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
        let tables = Tables::read(self, inputs)?;
        let nodes = tables.nodes();
        // The operator adds in the type of `x`.
        let round = |v: f64| if x.dtype() == DType::F32 { f64::from(v as f32) } else { v };
        let mut sums = vec![0.0; rows * self.targets];
        let mut reached = vec![false; sums.len()];
        for row in 0..rows {
            for &root in &tables.root {
                let mut at = root;
                for _ in 0..nodes {
                    if at >= nodes {
                        break;
                    }
                    let node = tables.node(at)?;
                    let v = *values.get(row * width + node.feature).ok_or_else(outside)?;
                    at = if node.first(v) { node.holds } else { node.fails };
                }
                for (t, i) in tables.leaf(at)? {
                    let w = tables.weight(i)?;
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
        if super::tree_branches::lower(self, cx)? {
            return Ok(());
        }
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

/// The tables of an ensemble, decoded.
#[derive(Debug)]
pub(super) struct Tables {
    per_leaf: usize,
    feature: Vec<usize>,
    split: Vec<f64>,
    kind: Vec<usize>,
    child: Vec<usize>,
    /// Where each tree starts.
    pub root: Vec<usize>,
    start: Vec<usize>,
    target: Vec<usize>,
    weight: Vec<f64>,
}

/// A comparison of an ensemble.
#[derive(Debug, Clone, Copy)]
pub(super) struct Comparison {
    /// Column that is read.
    pub feature: usize,
    split: f64,
    /// 0 ≤, 1 <, 2 ≥, 3 >, 4 =, 5 ≠.
    pub kind: usize,
    /// NaN goes where the comparison holds.
    pub nan_first: bool,
    /// Number of the node, or behind all nodes of the leaf, that follows where it holds.
    pub holds: usize,
    /// Likewise where not.
    pub fails: usize,
}

impl Comparison {
    fn first(&self, v: f64) -> bool {
        let holds = match self.kind {
            0 => v <= self.split,
            1 => v < self.split,
            2 => v >= self.split,
            3 => v > self.split,
            4 => v == self.split,
            _ => v != self.split,
        };
        holds || v.is_nan() && self.nan_first
    }
}

fn outside() -> OpError {
    OpError::internal("a tree leaves its tables")
}

impl Tables {
    /// From the operands of a [`TreeSum`].
    pub(super) fn read(op: &TreeSum, inputs: &[Option<&Tensor>]) -> Result<Self, OpError> {
        let table = |i: usize| -> Result<Vec<usize>, OpError> {
            let list = ints(operand(inputs, i)?)?;
            list.into_iter().map(|v| usize::try_from(v).map_err(|_| outside())).collect()
        };
        Ok(Tables {
            per_leaf: op.per_leaf,
            feature: table(1)?,
            split: floats(operand(inputs, 2)?)?,
            kind: table(3)?,
            child: table(4)?,
            root: table(5)?,
            start: table(6)?,
            target: table(7)?,
            weight: floats(operand(inputs, 8)?)?,
        })
    }

    /// How many comparisons there are.
    pub(super) fn nodes(&self) -> usize {
        self.child.len() / 2
    }

    /// Comparison `i`, which is below [`Tables::nodes`].
    pub(super) fn node(&self, i: usize) -> Result<Comparison, OpError> {
        let get = |table: &[usize], i: usize| table.get(i).copied().ok_or_else(outside);
        let kind = get(&self.kind, if self.kind.len() == 1 { 0 } else { i })?;
        Ok(Comparison {
            feature: get(&self.feature, i)?,
            split: *self.split.get(i).ok_or_else(outside)?,
            kind: kind & 7,
            nan_first: kind & 8 != 0,
            holds: get(&self.child, 2 * i)?,
            fails: get(&self.child, 2 * i + 1)?,
        })
    }

    /// Targets of a leaf and the positions of their weights; `at` counts from the first node on.
    pub(super) fn leaf(&self, at: usize) -> Result<Vec<(usize, usize)>, OpError> {
        let get = |table: &[usize], i: usize| table.get(i).copied().ok_or_else(outside);
        let leaf = at.checked_sub(self.nodes()).ok_or_else(outside)?;
        let range = match self.per_leaf {
            0 => get(&self.start, leaf)?..get(&self.start, leaf + 1)?,
            n => leaf * n..(leaf + 1) * n,
        };
        let target = |(k, i)| match self.target.as_slice() {
            [first] => Ok((first + k, i)),
            all => Ok((get(all, i)?, i)),
        };
        range.enumerate().map(target).collect()
    }

    /// Weight `i` of all leaves.
    pub(super) fn weight(&self, i: usize) -> Result<f64, OpError> {
        self.weight.get(i).copied().ok_or_else(outside)
    }
}
