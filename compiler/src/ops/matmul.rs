//! [MatMul](https://onnx.ai/onnx/operators/onnx__MatMul.html) with numpy's semantics: batches
//! broadcast, one-dimensional operands are a row and a column that vanish from the result.

use super::fused::Fused;
use super::matmul_lower;
use super::number::{Number, by_class, class, expect_same};
use super::product::product;
use super::walk::{broadcast_strides, checked_type, operand, optional, positions};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{Shape, Tensor, broadcast};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Position of the residual; the slopes follow.
pub(super) const OWN_OPERANDS: usize = 3;

/// Matrix product of floats or integers (which wrap).
///
/// Operands: `a`, `b`, bias of one value per column (optional, put there by passes), then those of
/// [`Fused`]. A residual has a shape that broadcasts to the result's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MatMul {
    /// Epilogue folded in by passes.
    pub fused: Fused,
}

/// Extents of a product, with one-dimensional operands made matrices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Broadcast batch extents.
    pub batch: Vec<usize>,
    /// Batch extents of `a`.
    pub a_batch: Vec<usize>,
    /// Batch extents of `b`.
    pub b_batch: Vec<usize>,
    /// Rows.
    pub m: usize,
    /// Summed extent.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// `a` has one dimension: the result has no rows.
    pub row: bool,
    /// `b` has one dimension: the result has no columns.
    pub column: bool,
}

impl Geometry {
    /// From the operands' shapes.
    pub(super) fn new(a: &[usize], b: &[usize]) -> Result<Self, OpError> {
        let (a_batch, m, k) = match a {
            [] => return Err(OpError::invalid("the first operand is a scalar")),
            [k] => (&[][..], 1, *k),
            [batch @ .., m, k] => (batch, *m, *k),
        };
        let (b_batch, inner, n) = match b {
            [] => return Err(OpError::invalid("the second operand is a scalar")),
            [k] => (&[][..], *k, 1),
            [batch @ .., k, n] => (batch, *k, *n),
        };
        let batch = broadcast([a_batch, b_batch]);
        let (true, Some(batch)) = (k == inner, batch) else {
            return Err(OpError::invalid(format!(
                "{} and {} cannot be multiplied",
                Shape::from(a),
                Shape::from(b)
            )));
        };
        Ok(Geometry {
            batch: batch.to_vec(),
            a_batch: a_batch.to_vec(),
            b_batch: b_batch.to_vec(),
            m,
            k,
            n,
            row: a.len() == 1,
            column: b.len() == 1,
        })
    }

    /// Extents of the result.
    pub(super) fn output(&self) -> Vec<usize> {
        let mut shape = self.batch.clone();
        shape.extend((!self.row).then_some(self.m));
        shape.extend((!self.column).then_some(self.n));
        shape
    }

    /// `[batch…, m, n]`.
    pub(super) fn full(&self) -> Vec<usize> {
        self.batch.iter().copied().chain([self.m, self.n]).collect()
    }

    /// Which matrix of an operand of batch extents `own` belongs to each matrix of the result.
    fn matrices(&self, own: &[usize]) -> Vec<usize> {
        picks(&self.batch, own)
    }
}

/// For each row-major position of `shape`, the position in an array of extents `own` that broadcasts
/// to it.
pub(super) fn picks(shape: &[usize], own: &[usize]) -> Vec<usize> {
    positions(shape, &broadcast_strides(own, shape), 0).collect()
}

impl OnnxOp for MatMul {
    const NAMES: &'static [OnnxName] =
        &[OnnxName::onnx("MatMul", 1), OnnxName::onnx("MatMul", 9), OnnxName::onnx("MatMul", 13)];

    fn import(_attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        Ok(MatMul::default().into())
    }
}

impl Op for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (a, b) = (inputs.required(0)?, inputs.required(1)?);
        class(a.dtype)?;
        expect_same(a.dtype, b.dtype, "B")?;
        let g = Geometry::new(a.shape, b.shape)?;
        if let Some(bias) = inputs.get(2) {
            expect_same(a.dtype, bias.dtype, "bias")?;
            if bias.shape.dims() != [g.n] {
                return Err(OpError::invalid(format!("the bias is {}, expected [{}]", bias.shape, g.n)));
            }
        }
        let shape = g.output();
        let fits = |r: &[usize]| broadcast([r, shape.as_slice()]).is_some_and(|s| s.dims() == shape);
        self.fused.check(inputs, OWN_OPERANDS, a.dtype, g.n, |r| fits(r.shape))?;
        Ok(vec![checked_type(a.dtype, shape)?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let g = Geometry::new(a.shape(), b.shape())?;
        let y = by_class!(a.dtype(), N => {
            let load = |i| optional(inputs, i).map(N::load).transpose();
            let (bias, residual, slope) = (load(2)?, load(OWN_OPERANDS)?, load(OWN_OPERANDS + 1)?);
            let mut y = multiply(&N::load(a)?, &N::load(b)?, &g);
            let addends = optional(inputs, OWN_OPERANDS).map(|r| picks(&g.output(), r.shape()));
            let at = |v: &Option<std::borrow::Cow<'_, [N]>>, i: usize| {
                v.as_ref().and_then(|v| v.get(i)).copied().unwrap_or(N::ZERO)
            };
            for (i, v) in y.iter_mut().enumerate() {
                let column = i % g.n;
                let addend = addends.as_ref().and_then(|p| p.get(i)).map_or(N::ZERO, |&p| at(&residual, p));
                *v = v.fuse(&self.fused, at(&bias, column), addend, at(&slope, column));
            }
            N::store(y, a.dtype(), g.output().into())?
        });
        Ok(vec![y])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        matmul_lower::lower(self, cx)
    }

    fn macs(&self, inputs: &[Option<Type>], outputs: &[Type]) -> u64 {
        let k = match inputs.first() {
            Some(Some(a)) => a.shape.last().copied().unwrap_or(0) as u64,
            _ => 0,
        };
        outputs.first().map_or(0, |y| k.saturating_mul(y.shape.elements() as u64))
    }
}

/// The product of every batch, row-major.
pub(super) fn multiply<N: Number>(a: &[N], b: &[N], g: &Geometry) -> Vec<N> {
    let (per_a, per_b, per_y) = (g.m * g.k, g.k * g.n, g.m * g.n);
    let (from_a, from_b) = (g.matrices(&g.a_batch), g.matrices(&g.b_batch));
    let mut y = vec![N::ZERO; from_a.len() * per_y];
    if per_y == 0 {
        return y;
    }
    for ((y, i), j) in y.chunks_mut(per_y).zip(from_a).zip(from_b) {
        product(&a[i * per_a..(i + 1) * per_a], &b[j * per_b..(j + 1) * per_b], y, (g.m, g.k, g.n), g.n);
    }
    y
}

#[cfg(test)]
mod tests {
    use super::super::fused::{Activation, Residual};
    use super::*;
    use crate::ops::Fact;

    fn run(op: &MatMul, inputs: &[&Tensor]) -> (Vec<usize>, Vec<f64>) {
        let facts: Vec<_> = inputs
            .iter()
            .map(|t| Some(Fact { dtype: t.dtype(), shape: t.shape(), constant: None }))
            .collect();
        let types = op.infer(&Inputs::new(&facts, 1)).unwrap();
        let tensors: Vec<_> = inputs.iter().map(|t| Some(*t)).collect();
        let y = op.eval(&tensors).unwrap().remove(0);
        assert_eq!((y.dtype(), y.shape()), (types[0].dtype, &types[0].shape));
        (y.shape().to_vec(), y.to_f64_vec().unwrap())
    }

    fn iota(shape: &[usize]) -> Tensor {
        Tensor::from_fn(shape, |i| i as f32)
    }

    #[test]
    fn matrices_and_vectors() {
        let op = MatMul::default();
        assert_eq!(run(&op, &[&iota(&[2, 2]), &iota(&[2, 2])]), (vec![2, 2], vec![2., 3., 6., 11.]));
        assert_eq!(run(&op, &[&iota(&[2]), &iota(&[2, 3])]), (vec![3], vec![3., 4., 5.]));
        assert_eq!(run(&op, &[&iota(&[2, 3]), &iota(&[3])]), (vec![2], vec![5., 14.]));
        assert_eq!(run(&op, &[&iota(&[3]), &iota(&[3])]), (vec![], vec![5.]));
    }

    #[test]
    fn batches_broadcast_both_ways() {
        let op = MatMul::default();
        let (shape, y) = run(&op, &[&iota(&[2, 1, 1, 2]), &iota(&[3, 2, 1])]);
        // a: [0,1], [2,3]; b: [0,1], [2,3], [4,5]
        assert_eq!((shape, y), (vec![2, 3, 1, 1], vec![1., 3., 5., 3., 13., 23.]));
    }

    #[test]
    fn integers_wrap() {
        let a = Tensor::new::<i32>([1, 2], vec![i32::MAX, 1]).unwrap();
        let b = Tensor::new::<i32>([2, 1], vec![2, 5]).unwrap();
        assert_eq!(run(&MatMul::default(), &[&a, &b]).1, [3.]);
    }

    #[test]
    fn fused_bias_and_broadcast_residual() {
        let op =
            MatMul { fused: Fused { scale: None, residual: Residual::Before, activation: Activation::Relu } };
        let residual = Tensor::new::<f32>([2, 1], vec![0., -100.]).unwrap();
        let bias = Tensor::vector(&[10f32, 20.]);
        assert_eq!(run(&op, &[&iota(&[2, 2]), &iota(&[2, 2]), &bias, &residual]).1, [12., 23., 0., 0.]);
    }

    #[test]
    fn mismatches_are_errors() {
        assert!(Geometry::new(&[2, 3], &[2, 3]).is_err());
        assert!(Geometry::new(&[2, 1, 1], &[3, 1, 1]).is_err());
        assert!(Geometry::new(&[], &[1]).is_err());
    }
}
