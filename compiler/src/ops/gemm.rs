//! [Gemm](https://onnx.ai/onnx/operators/onnx__Gemm.html): `alpha·A'·B' + beta·C`.

use super::fused::{Activation, Fused, Residual};
use super::matmul::{Geometry, MatMul, picks};
use super::matmul_lower::{Product, Rhs, nests};
use super::nest::{mul, read_optional, scratch, single};
use super::number::{Class, Number, by_class, class, expect_same};
use super::panel::known_vector;
use super::product::product;
use super::typed::literal;
use super::walk::{checked_type, operand, optional};
use super::{Inputs, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{Shape, Tensor, broadcast};
use crate::kernel::EpilogueOperands;
use crate::kernel::expr::Expr;
use crate::kernel::spec::{Epilogue, Scale};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};
use edgec_runtime::pack;

/// General matrix product. Operands: `A`, `B`, `C` (optional; broadcasts to the result).
#[derive(Debug, Clone, PartialEq)]
pub struct Gemm {
    /// `transA`: `A` is `[k, m]`.
    pub trans_a: bool,
    /// `transB`: `B` is `[n, k]`.
    pub trans_b: bool,
    /// Factor on the product.
    pub alpha: f32,
    /// Factor on `C`.
    pub beta: f32,
}

/// A Gemm as a MatMul over the same `A`; see [`Gemm::to_matmul`].
#[derive(Debug, Clone, PartialEq)]
pub struct AsMatMul {
    /// The operator, with `alpha` as its scale.
    pub op: MatMul,
    /// The right-hand side where it differs from `B` (transposed); otherwise `B` stays.
    pub b: Option<Tensor>,
    /// `beta·C` as a bias per column.
    pub bias: Option<Tensor>,
}

impl OnnxOp for Gemm {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("Gemm", 1),
        OnnxName::onnx("Gemm", 7),
        OnnxName::onnx("Gemm", 9),
        OnnxName::onnx("Gemm", 11),
        OnnxName::onnx("Gemm", 13),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        if node.opset < 7 {
            // `C` broadcasts wherever its shape asks for it; before, that had to be allowed.
            attrs.ignore("broadcast");
        }
        Ok(Gemm {
            trans_a: attrs.int_or("transA", 0)? != 0,
            trans_b: attrs.int_or("transB", 0)? != 0,
            alpha: attrs.float_or("alpha", 1.0)?,
            beta: attrs.float_or("beta", 1.0)?,
        }
        .into())
    }
}

impl Gemm {
    fn geometry(&self, a: &[usize], b: &[usize]) -> Result<Geometry, OpError> {
        let (&[a0, a1], &[b0, b1]) = (a, b) else {
            return Err(OpError::invalid("`A` and `B` must have two axes"));
        };
        let (m, k) = if self.trans_a { (a1, a0) } else { (a0, a1) };
        let (inner, n) = if self.trans_b { (b1, b0) } else { (b0, b1) };
        if k != inner {
            return Err(OpError::invalid(format!("the product sums over {k} and {inner} elements")));
        }
        Geometry::new(&[m, k], &[k, n])
    }

    /// The same as a MatMul, where that needs no run-time work: `A` not transposed, `B` known or not
    /// transposed, `C` absent, or known and one value per column. For float types that compute in `f32`.
    pub fn to_matmul(&self, inputs: &Inputs<'_>) -> Option<AsMatMul> {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        if self.trans_a || !single(a.dtype) {
            return None;
        }
        let g = self.geometry(a.shape, b.shape).ok()?;
        let transposed = match (self.trans_b, b.constant) {
            (false, _) => None,
            (true, None) => return None,
            (true, Some(t)) => {
                let values = transpose(&f32::load(t).ok()?, g.n, g.k);
                Some(f32::store(values, b.dtype, Shape::from([g.k, g.n])).ok()?)
            }
        };
        let bias = match inputs.get(2) {
            None => None,
            Some(c) => {
                let values = self.row(c.constant?, g.n)?;
                Some(f32::store(values, c.dtype, Shape::from([g.n])).ok()?)
            }
        };
        let scale = (self.alpha != 1.0).then_some(self.alpha);
        Some(AsMatMul { op: MatMul { fused: Fused { scale, ..Fused::default() } }, b: transposed, bias })
    }

    /// `beta·C` as one value per column, where `C` is such.
    pub fn row(&self, c: &Tensor, n: usize) -> Option<Vec<f32>> {
        let values = f32::load(c).ok()?;
        let scaled = |v: &f32| if self.beta == 1.0 { *v } else { v * self.beta };
        match c.shape().dims() {
            [d] | [1, d] if *d == n => Some(values.iter().map(scaled).collect()),
            [] | [1] | [1, 1] => Some(vec![scaled(values.first()?); n]),
            _ => None,
        }
    }
}

impl Op for Gemm {
    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (a, b) = (inputs.required(0)?, inputs.required(1)?);
        expect_same(a.dtype, b.dtype, "B")?;
        if class(a.dtype)? == Class::Integer && (self.alpha.fract() != 0.0 || self.beta.fract() != 0.0) {
            return Err(OpError::unsupported("fractional `alpha` or `beta` with integer operands"));
        }
        let g = self.geometry(a.shape, b.shape)?;
        let shape = Shape::from([g.m, g.n]);
        if let Some(c) = inputs.get(2) {
            expect_same(a.dtype, c.dtype, "C")?;
            if broadcast([c.shape.dims(), shape.dims()]).as_ref() != Some(&shape) {
                return Err(OpError::invalid(format!(
                    "`C` is {}, which does not broadcast to {shape}",
                    c.shape
                )));
            }
        }
        Ok(vec![checked_type(a.dtype, shape)?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let g = self.geometry(a.shape(), b.shape())?;
        let y = by_class!(a.dtype(), N => {
            let (mut lhs, mut rhs) = (N::load(a)?, N::load(b)?);
            if self.trans_a {
                lhs = transpose(&lhs, g.k, g.m).into();
            }
            if self.trans_b {
                rhs = transpose(&rhs, g.n, g.k).into();
            }
            let mut y = vec![N::ZERO; g.m * g.n];
            product(&lhs, &rhs, &mut y, (g.m, g.k, g.n), g.n);
            let (alpha, beta) = (N::of(self.alpha.into()), N::of(self.beta.into()));
            let addend = optional(inputs, 2).map(N::load).transpose()?;
            let picked = optional(inputs, 2).map(|c| picks(&[g.m, g.n], c.shape())).unwrap_or_default();
            for (i, v) in y.iter_mut().enumerate() {
                *v = v.mul(alpha);
                if let (Some(c), Some(&p)) = (&addend, picked.get(i)) {
                    *v = v.add(c.get(p).copied().unwrap_or(N::ZERO).mul(beta));
                }
            }
            N::store(y, a.dtype(), Shape::from([g.m, g.n]))?
        });
        Ok(vec![y])
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let missing = || OpError::internal("Gemm without operands");
        let (dtype, a) = cx.input_type(0).ok_or_else(missing)?;
        let (_, b) = cx.input_type(1).ok_or_else(missing)?;
        let g = self.geometry(a, b)?;
        if g.full().contains(&0) {
            return cx.write(0).map(|_| ());
        }
        let a = transposed(cx.read(0)?, self.trans_a);
        if !single(dtype) || g.k == 0 {
            return self.lower_nests(cx, &g, &a);
        }
        let b = match cx.constant(1) {
            Some(b) if self.trans_b => Rhs::Known(transpose(&f32::load(b)?, g.n, g.k)),
            Some(b) => Rhs::Known(f32::load(b)?.into_owned()),
            None => Rhs::Given(transposed(cx.read(1)?, self.trans_b)),
        };
        let mut operands = EpilogueOperands::default();
        let mut residual = None;
        if cx.input_type(2).is_some() {
            match cx.constant(2).and_then(|c| self.row(c, g.n)) {
                Some(row) => {
                    let layout = pack::Vector { channels: g.n, groups: 1 };
                    operands.bias = Some(known_vector(cx, &row, layout)?);
                }
                None => residual = Some(self.addend(cx)?),
            }
        }
        let epilogue = Epilogue {
            bias: operands.bias.is_some(),
            scale: if self.alpha == 1.0 { Scale::One } else { Scale::Uniform(self.alpha) },
            residual: if residual.is_some() { Residual::Before } else { Residual::None },
            activation: Activation::None,
        };
        Product { g: &g, a, b, residual, epilogue, operands }.emit(cx)
    }

    fn macs(&self, inputs: &[Option<Type>], outputs: &[Type]) -> u64 {
        let k = match inputs.first() {
            Some(Some(a)) => a.shape.get(usize::from(!self.trans_a)).copied().unwrap_or(0) as u64,
            _ => 0,
        };
        outputs.first().map_or(0, |y| k.saturating_mul(y.shape.elements() as u64))
    }
}

impl Gemm {
    /// `beta·C`, of `C`'s own shape.
    fn addend(&self, cx: &mut LowerCx<'_>) -> Result<TensorView, OpError> {
        let c = cx.read(2)?;
        if self.beta == 1.0 {
            return Ok(c);
        }
        let scaled = scratch(cx, "addend", c.dtype, &c.shape)?;
        let value = mul(Expr::Read(0), literal(c.dtype, self.beta.into()));
        cx.elementwise(&scaled, &[c], value)?;
        Ok(scaled)
    }

    /// Types without a kernel: a product, `alpha` applied to its left-hand side where it is not one.
    fn lower_nests(&self, cx: &mut LowerCx<'_>, g: &Geometry, a: &TensorView) -> Result<(), OpError> {
        let b = transposed(cx.read(1)?, self.trans_b);
        let addend = match read_optional(cx, 2)? {
            Some(_) => Some(self.addend(cx)?),
            None => None,
        };
        let y = cx.write(0)?;
        if self.alpha == 1.0 {
            return nests(cx, &Fused::default(), g, a, &b, &y, [addend, None, None]);
        }
        // The factor comes behind the sum, as in the definition.
        let sum = scratch(cx, "product", y.dtype, &y.shape)?;
        nests(cx, &Fused::default(), g, a, &b, &sum, [None, None, None])?;
        let scaled = mul(Expr::Read(0), literal(y.dtype, self.alpha.into()));
        match addend {
            None => cx.elementwise(&y, &[sum], scaled),
            Some(c) => cx.elementwise(&y, &[sum, c], super::nest::add(scaled, Expr::Read(1))),
        }
    }
}

/// A view with its two axes exchanged.
fn transposed(mut view: TensorView, swap: bool) -> TensorView {
    if swap {
        view.shape.reverse();
        view.strides.reverse();
    }
    view
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(values.len());
    for c in 0..columns {
        out.extend((0..rows).filter_map(|r| values.get(r * columns + c).copied()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Fact;

    fn run(op: &Gemm, inputs: &[&Tensor]) -> Vec<f64> {
        let facts: Vec<_> = inputs
            .iter()
            .map(|t| Some(Fact { dtype: t.dtype(), shape: t.shape(), constant: None }))
            .collect();
        let types = op.infer(&Inputs::new(&facts, 1)).unwrap();
        let tensors: Vec<_> = inputs.iter().map(|t| Some(*t)).collect();
        let y = op.eval(&tensors).unwrap().remove(0);
        assert_eq!(y.shape(), &types[0].shape);
        y.to_f64_vec().unwrap()
    }

    fn matrix(shape: [usize; 2], values: &[f32]) -> Tensor {
        Tensor::new::<f32>(shape, values.to_vec()).unwrap()
    }

    #[test]
    fn transposes_and_factors() {
        // A' = [[1, 2, 3]], B' = [[1, 4], [2, 5], [3, 6]]
        let (a, b) = (matrix([3, 1], &[1., 2., 3.]), matrix([2, 3], &[1., 2., 3., 4., 5., 6.]));
        let op = Gemm { trans_a: true, trans_b: true, alpha: 0.5, beta: 2.0 };
        assert_eq!(run(&op, &[&a, &b]), [7., 16.]);
        assert_eq!(run(&op, &[&a, &b, &Tensor::scalar(1f32)]), [9., 18.]);
    }

    #[test]
    fn addends_broadcast_along_either_axis() {
        let eye = matrix([2, 2], &[1., 0., 0., 1.]);
        let op = Gemm { trans_a: false, trans_b: false, alpha: 1.0, beta: 1.0 };
        assert_eq!(run(&op, &[&eye, &eye, &Tensor::vector(&[10f32, 20.])]), [11., 20., 10., 21.]);
        assert_eq!(run(&op, &[&eye, &eye, &matrix([2, 1], &[10., 20.])]), [11., 10., 20., 21.]);
    }

    #[test]
    fn becomes_a_matmul_with_the_transposed_constant() {
        let op = Gemm { trans_a: false, trans_b: true, alpha: 3.0, beta: 2.0 };
        let (a, b) = (matrix([1, 2], &[1., 2.]), matrix([3, 2], &[1., 2., 3., 4., 5., 6.]));
        let c = Tensor::scalar(5f32);
        let fact =
            |t, constant| Some(Fact { dtype: crate::ir::DType::F32, shape: Tensor::shape(t), constant });
        let facts = [fact(&a, None), fact(&b, Some(&b)), fact(&c, Some(&c))];
        let m = op.to_matmul(&Inputs::new(&facts, 1)).unwrap();
        assert_eq!(m.b, Some(matrix([2, 3], &[1., 3., 5., 2., 4., 6.])));
        assert_eq!(m.bias, Some(Tensor::vector(&[10f32, 10., 10.])));
        let direct = run(&op, &[&a, &b, &c]);
        let b = m.b.unwrap();
        let y = m.op.eval(&[Some(&a), Some(&b), m.bias.as_ref()]).unwrap().remove(0);
        assert_eq!(y.to_f64_vec().unwrap(), direct);
        let unknown = [fact(&a, None), fact(&b, None)];
        assert!(op.to_matmul(&Inputs::new(&unknown, 1)).is_none());
    }
}
