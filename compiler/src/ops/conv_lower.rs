//! Conv → kernel steps: `Kernel::Conv`, `Kernel::Depthwise`, `Kernel::MatMul` for a single pixel, or loop nests where the element type or
//! the number of axes is none of theirs.

use super::OpError;
use super::conv::{Conv, Geometry, OWN_OPERANDS};
use super::fused::{Activation, Fused, Residual};
use super::nest::{
    Staged, access, mul, pad, push, read, read_optional, read_residual, read_spatial, signed, single,
    vector_stride, window_strides, write_spatial,
};
use super::number::Number;
use super::typed::{compute_dtype, literal};
use super::winograd;

use super::panel;
use super::window::Taps;
use crate::ir::DType;
use crate::kernel::expr::{Expr, ReduceOp};
use crate::kernel::loops::{Reduction, Store};
use crate::kernel::spec::{ConvSpec, DepthwiseSpec, Epilogue, MatMulSpec, Scale, View};
use crate::kernel::{EpilogueOperands, Kernel, Nest, Operand};
use crate::schedule::{LowerCx, Spatial, SpatialNeed, TensorView};
use edgec_runtime::pack;

/// A first convolution of at most this many channels reads planar input directly: widening a colour
/// image to channels last would cost more than its strided loads.
const PLANAR_CHANNELS: usize = 4;

/// Emits the steps of a convolution.
pub(super) fn lower(op: &Conv, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
    let missing = || OpError::internal("Conv without operands");
    let (dtype, x) = cx.input_type(0).ok_or_else(missing)?;
    let (_, w) = cx.input_type(1).ok_or_else(missing)?;
    let g = op.geometry(x, w)?;
    if g.output().contains(&0) {
        return cx.write(0).map(|_| ());
    }
    let (Some(kernel), true, false) =
        (Taps::spatial(&g.taps.kernel, 1), single(dtype), x.contains(&0) || w.contains(&0))
    else {
        return nests(op, cx, dtype, &g);
    };
    if let Some(tile) = winograd::choose(cx, dtype, &g)? {
        return winograd::lower(op, cx, &g, tile);
    }
    let axes = |values: &[usize], fill| {
        Taps::spatial(values, fill).ok_or_else(|| OpError::internal("more than three spatial axes"))
    };
    let depthwise = g.groups > 1 && g.group_in == 1;
    let need = SpatialNeed {
        pads: axes(&g.taps.begin, 0)?,
        pads_end: axes(&g.taps.overruns(), 0)?,
        fill: Some(0.0),
        planar: g.groups == 1 && g.group_in <= PLANAR_CHANNELS,
    };
    let input = read_spatial(cx, 0, need)?;
    let residual = match op.fused.residual {
        Residual::None => None,
        Residual::Before | Residual::After => Some(read_residual(cx, OWN_OPERANDS)?),
    };
    let output = write_spatial(cx, 0)?;
    let views = [Some(&input.view), Some(&output.view), residual.as_ref().map(|r| &r.1)];
    if cx.constant(1).is_some() && single_pixel(&g, kernel, &views) {
        return rows(op, cx, &g, &input, residual, output);
    }
    let weights = panel::conv(
        cx,
        1,
        if depthwise {
            pack::Conv { kernel, in_channels: 1, out_channels: g.outputs(), groups: 1 }
        } else {
            pack::Conv { kernel, in_channels: g.group_in, out_channels: g.group_out, groups: g.groups }
        },
    )?;
    let vectors = if depthwise {
        pack::Vector { channels: g.outputs(), groups: 1 }
    } else {
        pack::Vector { channels: g.group_out, groups: g.groups }
    };
    let (epilogue, mut operands) = epilogue(cx, &op.fused, vectors, 2, OWN_OPERANDS)?;
    operands.residual = residual.map(|(operand, _)| operand);
    let residual = residual.map_or(output.view, |(_, view)| view);
    let (stride, dilation) = (axes(&g.taps.strides, 1)?, axes(&g.taps.dilations, 1)?);
    let (x, y, pads) = (input.view, output.view, input.pads);
    cx.push(if depthwise {
        let multiplier = g.group_out;
        Kernel::Depthwise {
            spec: DepthwiseSpec { x, y, residual, kernel, stride, dilation, pads, multiplier, epilogue },
            x: input.operand,
            w: weights,
            epilogue: operands,
            y: output.operand,
        }
    } else {
        let groups = g.groups;
        Kernel::Conv {
            spec: ConvSpec { x, y, residual, kernel, stride, dilation, pads, groups, epilogue },
            x: input.operand,
            w: weights,
            epilogue: operands,
            y: output.operand,
        }
    });
    output.finish(cx)
}

/// Whether a convolution is the product of one row of channels for each image with its weights.
fn single_pixel(g: &Geometry, kernel: [usize; 3], views: &[Option<&View>]) -> bool {
    let row = |view: &View| view.extent == [1; 3] && (view.c_stride == 1 || view.channels == 1);
    g.groups == 1 && kernel == [1; 3] && views.iter().flatten().all(|view| row(view))
}

/// A convolution of one pixel with known weights, as in squeeze-and-excite: a matrix product, which streams its weights.
fn rows(
    op: &Conv,
    cx: &mut LowerCx<'_>,
    g: &Geometry,
    x: &Spatial,
    residual: Option<(Operand, View)>,
    y: Staged<View>,
) -> Result<(), OpError> {
    let layout = pack::Gemm { k: g.group_in, n: g.group_out };
    let known = cx.constant(1).ok_or_else(|| OpError::internal("weights of one pixel are not known"))?;
    let plain = f32::load(known)?;
    let turned: Vec<f32> =
        (0..layout.k).flat_map(|k| plain.iter().skip(k).step_by(layout.k).copied()).collect();
    let mut packed = vec![0f32; layout.packed_len()];
    layout.pack(&turned, &mut packed)?;
    let w = cx.blob("weights", &packed);
    let vectors = pack::Vector { channels: g.group_out, groups: 1 };
    let (epilogue, mut operands) = epilogue(cx, &op.fused, vectors, 2, OWN_OPERANDS)?;
    operands.residual = residual.map(|(operand, _)| operand);
    let addend = residual.map(|(_, view)| view);
    cx.push(Kernel::MatMul {
        spec: MatMulSpec {
            batch: 1,
            m: g.batch,
            n: layout.n,
            k: layout.k,
            a_offset: x.view.offset,
            a_stride: x.view.n_stride,
            a_batch: 0,
            w_batch: 0,
            y_offset: y.view.offset,
            y_stride: y.view.n_stride,
            y_batch: 0,
            r_offset: addend.map_or(0, |r| r.offset),
            r_stride: addend.map_or(0, |r| r.n_stride),
            r_batch: 0,
            epilogue,
        },
        a: x.operand,
        w,
        epilogue: operands,
        y: y.operand,
    });
    y.finish(cx)
}

/// The epilogue of a fused operator and its vectors: bias at operand `bias`, slopes behind the
/// residual at `own`. The residual is the caller's.
pub(super) fn epilogue(
    cx: &mut LowerCx<'_>,
    fused: &Fused,
    layout: pack::Vector,
    bias: usize,
    own: usize,
) -> Result<(Epilogue, EpilogueOperands), OpError> {
    let bias = match cx.input_type(bias) {
        Some(_) => Some(panel::vector(cx, bias, layout)?),
        None => None,
    };
    let slope = match fused.activation {
        Activation::PRelu => Some(panel::vector(cx, own + 1, layout)?),
        _ => None,
    };
    let epilogue = Epilogue {
        bias: bias.is_some(),
        scale: fused.scale.map_or(Scale::One, Scale::Uniform),
        residual: fused.residual,
        activation: fused.activation,
    };
    Ok((epilogue, EpilogueOperands { bias, slope, ..EpilogueOperands::default() }))
}

/// The general form: padding stored in scratch, one nest over everything.
fn nests(op: &Conv, cx: &mut LowerCx<'_>, dtype: DType, g: &Geometry) -> Result<(), OpError> {
    let x = cx.read(0)?;
    let padded = pad(cx, &x, &g.taps, literal(dtype, 0.0), dtype)?;
    let w = cx.read(1)?;
    let bias = read_optional(cx, 2)?;
    let residual = read_optional(cx, OWN_OPERANDS)?;
    let slope = read_optional(cx, OWN_OPERANDS + 1)?;
    let y = cx.write(0)?;
    let (steps, taps) = window_strides(&padded, &g.taps);
    let (group_in, group_out) = (signed(g.group_in)?, signed(g.group_out)?);
    let outer = |batch, group, channel, space: &[isize]| {
        [batch, group, channel].into_iter().chain(space.iter().copied()).collect::<Vec<_>>()
    };
    let still = vec![0; g.taps.rank()];
    let mut from_x = outer(padded.strides[0], padded.strides[1] * group_in, 0, &steps);
    from_x.push(padded.strides[1]);
    from_x.extend(taps);
    let mut from_w = outer(0, w.strides[0] * group_out, w.strides[0], &still);
    from_w.extend(w.strides.iter().skip(1));
    let mut to = outer(y.strides[0], y.strides[1] * group_out, y.strides[1], &y.strides[2..]);
    to.extend(vec![0; g.taps.rank() + 1]);
    let mut reads = vec![read(&padded, 0, from_x)?, read(&w, 0, from_w)?];
    let mut per_channel = |view: &TensorView| {
        let stride = vector_stride(view);
        let mut strides = outer(0, stride * group_out, stride, &still);
        strides.extend(vec![0; g.taps.rank() + 1]);
        reads.push(read(view, 0, strides)?);
        Ok::<_, OpError>(Some(Expr::Read(reads.len() - 1)))
    };
    let bias = bias.map_or(Ok(None), |b| per_channel(&b))?;
    let slope = slope.map_or(Ok(None), |s| per_channel(&s))?;
    let residual = match residual {
        None => None,
        Some(r) => {
            let mut strides = outer(r.strides[0], r.strides[1] * group_out, r.strides[1], &r.strides[2..]);
            strides.extend(vec![0; g.taps.rank() + 1]);
            reads.push(read(&r, 0, strides)?);
            Some(Expr::Read(reads.len() - 1))
        }
    };
    let value = op.fused.expr(Expr::Acc(0), bias, residual, slope);
    let extents = [g.batch, g.groups, g.group_out]
        .into_iter()
        .chain(g.taps.output.iter().copied())
        .chain([g.group_in])
        .chain(g.taps.kernel.iter().copied())
        .collect();
    push(
        cx,
        Nest {
            extents,
            reduce: g.taps.rank() + 1,
            reads,
            reductions: vec![Reduction {
                op: ReduceOp::Sum,
                dtype: compute_dtype(dtype),
                value: mul(Expr::Read(0), Expr::Read(1)),
            }],
            stores: vec![Store { access: access(&y, 0, to)?, value }],
        },
    );
    Ok(())
}
