//! MatMul and Gemm → kernel steps: packing of the right-hand side, `Kernel::MatMul`; loop nests for
//! element types that have no kernel.

use super::OpError;
use super::conv_lower::epilogue;
use super::fused::{Fused, Residual};
use super::matmul::{Geometry, MatMul, OWN_OPERANDS, picks};
use super::nest::{access, dense_copy, mul, push, read, read_optional, signed, single, write_fitting};
use super::number::Number;
use super::typed::compute_dtype;
use super::views::broadcast as expanded;
use crate::ir::DType;
use crate::kernel::expr::{Expr, ReduceOp};
use crate::kernel::loops::{Reduction, Store};
use crate::kernel::spec::{Epilogue, MatMulSpec, PackSpec};
use crate::kernel::{EpilogueOperands, Kernel, Nest, Operand};
use crate::schedule::{LowerCx, TensorView};
use edgec_runtime::pack;

/// Emits the steps of a matrix product.
pub(super) fn lower(op: &MatMul, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
    let missing = || OpError::internal("MatMul without operands");
    let (dtype, a) = cx.input_type(0).ok_or_else(missing)?;
    let (_, b) = cx.input_type(1).ok_or_else(missing)?;
    let g = Geometry::new(a, b)?;
    if g.full().contains(&0) {
        return cx.write(0).map(|_| ());
    }
    let a = as_matrix(cx.read(0)?, g.row, false);
    let residual = match op.fused.residual {
        Residual::None => None,
        Residual::Before | Residual::After => Some(as_result(cx.read(OWN_OPERANDS)?, &g)),
    };
    if !single(dtype) || g.k == 0 {
        let b = as_matrix(cx.read(1)?, false, g.column);
        let bias = read_optional(cx, 2)?;
        let slope = read_optional(cx, OWN_OPERANDS + 1)?;
        let y = as_result(cx.write(0)?, &g);
        return nests(cx, &op.fused, &g, &a, &b, &y, [bias, residual, slope]);
    }
    let b = match cx.constant(1) {
        Some(b) => Rhs::Known(f32::load(b)?.into_owned()),
        None => Rhs::Given(as_matrix(cx.read(1)?, false, g.column)),
    };
    let vectors = pack::Vector { channels: g.n, groups: 1 };
    let (epilogue, operands) = epilogue(cx, &op.fused, vectors, 2, OWN_OPERANDS)?;
    Product { g: &g, a, b, residual, epilogue, operands }.emit(cx)
}

/// A right-hand side.
pub(super) enum Rhs {
    /// Known elements, `[b_batch…, k, n]` row-major.
    Known(Vec<f32>),
    /// Run-time elements, `[b_batch…, k, n]` wherever they lie.
    Given(TensorView),
}

/// A product of `f32` (or half-precision) operands by `Kernel::MatMul`, into result 0.
pub(super) struct Product<'g> {
    /// Extents; none is zero.
    pub g: &'g Geometry,
    /// `[a_batch…, m, k]`.
    pub a: TensorView,
    /// Right-hand side.
    pub b: Rhs,
    /// Broadcasts to `[batch…, m, n]`.
    pub residual: Option<TensorView>,
    /// Epilogue.
    pub epilogue: Epilogue,
    /// Its vectors; the residual is filled in here.
    pub operands: EpilogueOperands,
}

impl Product<'_> {
    /// Emits packing, product and what moves are needed.
    pub(super) fn emit(self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let Product { g, a, b, residual, epilogue, mut operands } = self;
        let full = g.full();
        let batch_rank = g.batch.len();
        let a_shape: Vec<usize> = g.batch.iter().copied().chain([g.m, g.k]).collect();
        let mut a = expanded(&if rows_fit(&a) { a } else { dense_copy(cx, &a)? }, &a_shape)?;
        let mut residual = residual.map(|r| expanded(&r, &full)).transpose()?;
        if let Some(r) = residual.as_ref().filter(|r| !rows_fit(r)) {
            residual = Some(dense_copy(cx, r)?);
        }
        let y = write_fitting(cx, 0, |y| {
            let y = as_result(y.clone(), g);
            rows_fit(&y) && merged(&[&y.strides[..batch_rank]], &g.batch).is_some()
        })?;
        let to = as_result(y.view.clone(), g);

        // Strides of the packed batches; a partly broadcast right-hand side is packed in full.
        let packed_len = pack::Gemm { k: g.k, n: g.n }.packed_len();
        let partly = !g.b_batch.iter().all(|&d| d == 1) && !same_batches(&g.b_batch, &g.batch);
        let repeated = g.b_batch.iter().all(|&d| d == 1);
        let mut w_strides = vec![0isize; batch_rank];
        if !repeated {
            let mut stride = signed(packed_len)?;
            for (s, &d) in w_strides.iter_mut().zip(&g.batch).rev() {
                *s = stride;
                stride = stride.saturating_mul(signed(d)?);
            }
        }

        // Batches and rows of one right-hand side are rows of one product, where memory allows.
        let levels = |a: &TensorView, r: &Option<TensorView>, rank: usize| {
            let r = r.as_ref().map_or(&to.strides, |r| &r.strides)[..rank].to_vec();
            (a.strides[..rank].to_vec(), to.strides[..rank].to_vec(), r)
        };
        let rows = |a: &TensorView, r: &Option<TensorView>| {
            let (sa, sy, sr) = levels(a, r, batch_rank + 1);
            if repeated { merged(&[&sa, &sy, &sr], &full[..=batch_rank]) } else { None }
        };
        let batches = |a: &TensorView, r: &Option<TensorView>| {
            let (sa, sy, sr) = levels(a, r, batch_rank);
            merged(&[&sa, &sy, &sr, &w_strides], &g.batch)
        };
        if rows(&a, &residual).is_none() && batches(&a, &residual).is_none() {
            a = dense_copy(cx, &a)?;
            residual = residual.map(|r| dense_copy(cx, &r)).transpose()?;
        }
        let (batch, m, by_batch, by_row) = match rows(&a, &residual) {
            Some((m, strides)) => (1, m, vec![0; 4], strides),
            None => {
                let (batch, strides) = batches(&a, &residual)
                    .ok_or_else(|| OpError::internal("the batches of a dense product do not merge"))?;
                let r = residual.as_ref().unwrap_or(&to);
                (
                    batch,
                    g.m,
                    strides,
                    vec![a.strides[batch_rank], to.strides[batch_rank], r.strides[batch_rank]],
                )
            }
        };
        let w = right_hand_side(cx, g, b, partly)?;
        operands.residual = residual.as_ref().map(|r| r.operand);
        let at = |v: &[isize], i: usize| v.get(i).map_or(Ok(0), |&s| unsigned(s));
        cx.push(Kernel::MatMul {
            spec: MatMulSpec {
                batch,
                m,
                n: g.n,
                k: g.k,
                a_offset: a.offset,
                a_stride: at(&by_row, 0)?,
                a_batch: at(&by_batch, 0)?,
                w_batch: at(&by_batch, 3)?,
                y_offset: to.offset,
                y_stride: at(&by_row, 1)?,
                y_batch: at(&by_batch, 1)?,
                r_offset: residual.as_ref().map_or(0, |r| r.offset),
                r_stride: if residual.is_some() { at(&by_row, 2)? } else { 0 },
                r_batch: if residual.is_some() { at(&by_batch, 2)? } else { 0 },
                epilogue,
            },
            a: a.operand,
            w,
            epilogue: operands,
            y: y.operand,
        });
        y.finish(cx)
    }
}

fn same_batches(own: &[usize], batch: &[usize]) -> bool {
    let skip = batch.len() - own.len().min(batch.len());
    batch[..skip].iter().all(|&d| d == 1) && &batch[skip..] == own
}

fn unsigned(stride: isize) -> Result<usize, OpError> {
    usize::try_from(stride).map_err(|_| OpError::internal("a kernel's stride is negative"))
}

/// Whether rows are contiguous and no stride is negative, as kernels want of matrices in `f32`.
fn rows_fit(view: &TensorView) -> bool {
    let contiguous = match (view.shape.last(), view.strides.last()) {
        (Some(&d), Some(&s)) => d == 1 || s == 1,
        _ => false,
    };
    contiguous && view.dtype == DType::F32 && view.strides.iter().all(|&s| s >= 0)
}

/// Several loops over `extents` as one: its extent and a stride for each of the views whose strides
/// are given. `None` where some view's strides don't allow it.
fn merged(views: &[&[isize]], extents: &[usize]) -> Option<(usize, Vec<isize>)> {
    let mut extent = 1usize;
    let mut strides: Option<Vec<isize>> = None;
    for (axis, &d) in extents.iter().enumerate().rev().filter(|(_, d)| **d != 1) {
        let outer: Option<Vec<isize>> = views.iter().map(|v| v.get(axis).copied()).collect();
        let outer = outer?;
        match &strides {
            None => strides = Some(outer),
            Some(inner) => {
                let span = isize::try_from(extent).ok()?;
                if !outer.iter().zip(inner).all(|(&o, &i)| i.checked_mul(span) == Some(o)) {
                    return None;
                }
            }
        }
        extent = extent.checked_mul(d)?;
    }
    Some((extent, strides.unwrap_or_else(|| vec![0; views.len()])))
}

/// The packed right-hand side: in the blob, or packed at run time into scratch.
fn right_hand_side(cx: &mut LowerCx<'_>, g: &Geometry, b: Rhs, partly: bool) -> Result<Operand, OpError> {
    let layout = pack::Gemm { k: g.k, n: g.n };
    let own = if partly { &g.batch } else { &g.b_batch };
    match b {
        Rhs::Known(values) => {
            let mut packed = Vec::new();
            for matrix in picks(own, &g.b_batch) {
                let plain = values
                    .get(matrix * layout.plain_len()..(matrix + 1) * layout.plain_len())
                    .ok_or_else(|| OpError::internal("a matrix is too short to pack"))?;
                let start = packed.len();
                packed.resize(start + layout.packed_len(), 0f32);
                layout.pack(plain, &mut packed[start..])?;
            }
            Ok(cx.blob("weights", &packed))
        }
        Rhs::Given(view) => {
            let shape: Vec<usize> = own.iter().copied().chain([g.k, g.n]).collect();
            let mut view = expanded(&view, &shape)?;
            let fits = |v: &TensorView| v.dtype == DType::F32 && v.strides.iter().all(|&s| s >= 0);
            let batch_of = |v: &TensorView| merged(&[&v.strides[..own.len()]], own);
            if !fits(&view) || batch_of(&view).is_none() {
                view = dense_copy(cx, &view)?;
            }
            let (batch, strides) =
                batch_of(&view).ok_or_else(|| OpError::internal("a dense matrix does not pack"))?;
            let len = batch
                .checked_mul(layout.packed_len())
                .ok_or_else(|| OpError::Limit("a packed matrix is too large".to_owned()))?;
            let packed = cx.scratch("packed", DType::F32, len);
            cx.push(Kernel::Pack {
                spec: PackSpec {
                    batch,
                    k: g.k,
                    n: g.n,
                    offset: view.offset,
                    batch_stride: unsigned(strides.first().copied().unwrap_or(0))?,
                    k_stride: unsigned(view.strides[own.len()])?,
                    n_stride: unsigned(view.strides[own.len() + 1])?,
                },
                x: view.operand,
                y: packed,
            });
            Ok(packed)
        }
    }
}

/// A vector operand as a matrix: a row, or a column.
fn as_matrix(mut view: TensorView, row: bool, column: bool) -> TensorView {
    if row {
        view.shape.insert(0, 1);
        view.strides.insert(0, 0);
    }
    if column {
        view.shape.push(1);
        view.strides.push(0);
    }
    view
}

/// A view of the result's shape (or one that broadcasts to it) with the rows and columns that vanished.
fn as_result(mut view: TensorView, g: &Geometry) -> TensorView {
    if g.column {
        view.shape.push(1);
        view.strides.push(0);
    }
    if g.row {
        let at = view.shape.len().saturating_sub(1);
        view.shape.insert(at, 1);
        view.strides.insert(at, 0);
    }
    view
}

/// One nest over everything, in any element type. `vectors`: bias, residual, slopes.
pub(super) fn nests(
    cx: &mut LowerCx<'_>,
    fused: &Fused,
    g: &Geometry,
    a: &TensorView,
    b: &TensorView,
    y: &TensorView,
    vectors: [Option<TensorView>; 3],
) -> Result<(), OpError> {
    let rank = g.batch.len();
    let full = g.full();
    let wide = |inner: [usize; 2]| g.batch.iter().copied().chain(inner).collect::<Vec<_>>();
    let (a, b) = (expanded(a, &wide([g.m, g.k]))?, expanded(b, &wide([g.k, g.n]))?);
    let over = |v: &TensorView, m: isize, n: isize, k: isize| {
        v.strides[..rank].iter().copied().chain([m, n, k]).collect::<Vec<_>>()
    };
    let mut reads = vec![
        read(&a, 0, over(&a, a.strides[rank], 0, a.strides[rank + 1]))?,
        read(&b, 0, over(&b, 0, b.strides[rank + 1], b.strides[rank]))?,
    ];
    let mut operands = [None, None, None];
    for (to, view) in operands.iter_mut().zip(vectors) {
        let Some(view) = view else { continue };
        let view = expanded(&view, &full)?;
        reads.push(read(&view, 0, over(&view, view.strides[rank], view.strides[rank + 1], 0))?);
        *to = Some(Expr::Read(reads.len() - 1));
    }
    let [bias, residual, slope] = operands;
    let dtype = compute_dtype(y.dtype);
    push(
        cx,
        Nest {
            extents: full.iter().copied().chain([g.k]).collect(),
            reduce: 1,
            reads,
            reductions: vec![Reduction {
                op: ReduceOp::Sum,
                dtype,
                value: mul(Expr::Read(0), Expr::Read(1)),
            }],
            stores: vec![Store {
                access: access(y, 0, over(y, y.strides[rank], y.strides[rank + 1], 0))?,
                value: fused.expr(Expr::Acc(0), bias, residual, slope),
            }],
        },
    );
    Ok(())
}
