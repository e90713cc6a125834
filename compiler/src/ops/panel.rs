//! Weights and per-channel vectors in the panels that kernels read: packed at compile time where
//! they are known, by loop nests or [`Kernel::Pack`] into scratch where they are not.

use super::OpError;
use super::nest::{access, push_nests, read, signed, vector_stride};
use super::number::Number;
use crate::ir::DType;
use crate::kernel::expr::{Expr, Scalar};
use crate::kernel::loops::Store;
use crate::kernel::{Nest, Operand};
use crate::schedule::{LowerCx, TensorView};
use edgec_runtime::isa::LANES;
use edgec_runtime::pack::{self, WrongLength};

impl From<WrongLength> for OpError {
    fn from(e: WrongLength) -> Self {
        OpError::internal(format!("packing weights: {e}"))
    }
}

/// Packed weights of a convolution: operand `i`, `[M, C/groups, kernel…]`.
pub(super) fn conv(cx: &mut LowerCx<'_>, i: usize, layout: pack::Conv) -> Result<Operand, OpError> {
    if let Some(w) = cx.constant(i) {
        let mut packed = vec![0f32; layout.packed_len()];
        layout.pack(&f32::load(w)?, &mut packed)?;
        return Ok(cx.blob("weights", &packed));
    }
    let w = cx.read(i)?;
    let (&[so, si], kernel) = (
        w.strides.first_chunk::<2>().ok_or_else(|| OpError::internal("weights of rank below 2"))?,
        w.strides.iter().skip(2).copied().zip(w.shape.iter().skip(2).copied()).collect::<Vec<_>>(),
    );
    conv_at_run_time(cx, &w, [so * signed(layout.out_channels)?, so, si], &kernel, layout)
}

/// Weights packed by loop nests. `strides`: from group to group, output channel to output channel,
/// input channel to input channel; `kernel`: stride and extent of each axis of the kernel.
pub(super) fn conv_at_run_time(
    cx: &mut LowerCx<'_>,
    w: &TensorView,
    [sg, so, si]: [isize; 3],
    kernel: &[(isize, usize)],
    layout: pack::Conv,
) -> Result<Operand, OpError> {
    let operand = cx.scratch("packed weights", DType::F32, layout.packed_len());
    let packed = vector_view(operand, layout.packed_len());
    let rest = layout.out_channels % LANES;
    let full = layout.out_channels / LANES;
    let rows = layout.rows();
    let mut nests = Vec::new();
    if rest > 0 {
        nests.push(zeros(&packed)?);
    }
    for (panels, lanes, width) in [
        (full, LANES, LANES),
        (usize::from(rest > 0), rest, if rest > pack::NARROW { LANES } else { pack::NARROW }),
    ] {
        if panels == 0 {
            continue;
        }
        let first = if width == LANES && lanes == LANES { 0 } else { full * LANES };
        let mut extents = vec![layout.groups, panels];
        let mut from = vec![sg, so * signed(LANES)?];
        let mut to = vec![signed(layout.group_len())?, signed(LANES * rows)?];
        for (axis, &(s, k)) in kernel.iter().enumerate() {
            let inner: usize = kernel.iter().skip(axis + 1).map(|k| k.1).product();
            extents.push(k);
            from.push(s);
            to.push(signed(inner * layout.in_channels * width)?);
        }
        extents.extend([layout.in_channels, lanes]);
        from.extend([si, so]);
        to.extend([signed(width)?, 1]);
        nests.push(Nest {
            extents,
            reduce: 0,
            reads: vec![read(w, so * signed(first)?, from)?],
            reductions: Vec::new(),
            stores: vec![Store { access: access(&packed, signed(first * rows)?, to)?, value: Expr::Read(0) }],
        });
    }
    push_nests(cx, nests);
    Ok(operand)
}

/// A vector of one value per output channel, operand `i`, filled to whole panels for each group.
pub(super) fn vector(cx: &mut LowerCx<'_>, i: usize, layout: pack::Vector) -> Result<Operand, OpError> {
    if let Some(v) = cx.constant(i) {
        return known_vector(cx, &f32::load(v)?, layout);
    }
    let v = cx.read(i)?;
    let stride = vector_stride(&v);
    let operand = cx.scratch("padded vector", DType::F32, layout.packed_len());
    let packed = vector_view(operand, layout.packed_len());
    let copy = Nest {
        extents: vec![layout.groups, layout.channels],
        reduce: 0,
        reads: vec![read(&v, 0, vec![stride * signed(layout.channels)?, stride])?],
        reductions: Vec::new(),
        stores: vec![Store {
            access: access(&packed, 0, vec![signed(pack::padded(layout.channels))?, 1])?,
            value: Expr::Read(0),
        }],
    };
    push_nests(cx, vec![zeros(&packed)?, copy]);
    Ok(operand)
}

/// A known vector of one value per output channel.
pub(super) fn known_vector(
    cx: &mut LowerCx<'_>,
    values: &[f32],
    layout: pack::Vector,
) -> Result<Operand, OpError> {
    let mut packed = vec![0f32; layout.packed_len()];
    layout.pack(values, &mut packed)?;
    Ok(cx.blob("vector", &packed))
}

/// A one-dimensional dense `f32` view.
fn vector_view(operand: Operand, len: usize) -> TensorView {
    TensorView { operand, dtype: DType::F32, shape: vec![len], offset: 0, strides: vec![1] }
}

fn zeros(view: &TensorView) -> Result<Nest, OpError> {
    Ok(Nest {
        extents: view.shape.clone(),
        reduce: 0,
        reads: Vec::new(),
        reductions: Vec::new(),
        stores: vec![Store { access: access(view, 0, vec![1])?, value: Expr::Const(Scalar::F32(0.0)) }],
    })
}
