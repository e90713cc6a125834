//! Probabilities of classes from those of pairs, for [`super::ml_svm`]. Named by bodies only.

use super::composite::INTERNAL;
use super::nest::scratch;
use super::typed::{floats, from_floats};
use super::walk::operand;
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::{Kernel, Param, Routine};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Largest number of classes; the pairs grow as its square.
const MAX_CLASSES: usize = 1 << 12;

/// Operand: for each row the probability of the first class of each pair (0 1, 0 2, …, 1 2, …). Result: for each
/// row the probabilities of the classes, by libsvm's iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct Couple {
    /// Number of classes, at least two.
    pub classes: usize,
}

impl OnnxOp for Couple {
    const NAMES: &'static [OnnxName] = &[OnnxName { domain: INTERNAL, op_type: "Couple", since: 1 }];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let classes = super::walk::extent(attrs.int_or("classes", 0)?)?;
        if !(2..=MAX_CLASSES).contains(&classes) {
            return Err(OpError::Limit(format!("{classes} classes")));
        }
        Ok(Couple { classes }.into())
    }
}

impl Op for Couple {
    fn name(&self) -> &'static str {
        "Couple"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let pairs = inputs.required(0)?;
        match *pairs.shape.dims() {
            [rows, n] if n == self.classes * (self.classes - 1) / 2 && pairs.dtype == DType::F32 => {
                Ok(vec![Type::new(DType::F32, [rows, self.classes])])
            }
            _ => Err(OpError::invalid(format!("pairs of shape {}", pairs.shape))),
        }
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let (classes, values) = (self.classes, floats(x)?);
        let mut out = Vec::new();
        for row in values.chunks(classes * (classes - 1) / 2) {
            // r[i][j]: probability of i against j.
            let mut r = vec![vec![0.0; classes]; classes];
            let mut next = row.iter();
            for i in 0..classes {
                for j in i + 1..classes {
                    let p = next.next().copied().unwrap_or(0.0);
                    (r[i][j], r[j][i]) = (p, 1.0 - p);
                }
            }
            out.extend(coupled(&r));
        }
        let rows = x.shape().dims().first().copied().unwrap_or(0);
        Ok(vec![from_floats(DType::F32, [rows, classes], out)?])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let x = cx.read_dense(0)?;
        let y = cx.write_dense(0)?;
        let q = scratch(cx, "q", DType::F32, &[self.classes, self.classes])?;
        let qp = scratch(cx, "qp", DType::F32, &[self.classes])?;
        cx.push(Kernel::Routine(Routine {
            function: "svm::couple",
            reads: vec![x.operand],
            writes: vec![y.operand, q.operand, qp.operand],
            params: vec![Param::Usize(self.classes)],
            fallible: false,
        }));
        Ok(())
    }
}

/// Minimises `Σ (r[j][i]·p[i] − r[i][j]·p[j])²` as libsvm's `multiclass_probability` does.
fn coupled(r: &[Vec<f64>]) -> Vec<f64> {
    let n = r.len();
    let q = |i: usize, j: usize| {
        if i == j { (0..n).filter(|&k| k != i).map(|k| r[k][i] * r[k][i]).sum() } else { -r[j][i] * r[i][j] }
    };
    let mut p = vec![1.0 / n as f64; n];
    for _ in 0..100 {
        let mut qp: Vec<f64> = (0..n).map(|i| (0..n).map(|j| q(i, j) * p[j]).sum()).collect();
        let mut pqp: f64 = qp.iter().zip(&p).map(|(a, b)| a * b).sum();
        if qp.iter().all(|v| (v - pqp).abs() < 0.005 / n as f64) {
            break;
        }
        for i in 0..n {
            let own: f64 = q(i, i);
            let by = (pqp - qp[i]) / own;
            p[i] += by;
            pqp = (pqp + by * (by * own + 2.0 * qp[i])) / (1.0 + by) / (1.0 + by);
            for j in 0..n {
                qp[j] = (qp[j] + by * q(i, j)) / (1.0 + by);
                p[j] /= 1.0 + by;
            }
        }
    }
    p
}
