//! Products of bytes → `Kernel::ConvI8` and `Kernel::DepthwiseI8`.

use super::OpError;
use super::conv::Geometry;
use super::product_i8::{ADDEND, Extents, Form, ProductI8};
use super::window::Taps;
use crate::kernel::spec::{ConvI8Spec, View};
use crate::kernel::{Bytes, Kernel, Operand};
use crate::schedule::{LowerCx, SpatialNeed};
use edgec_runtime::pack;

/// Emits the step of a product.
pub(super) fn lower(op: &ProductI8, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
    let missing = || OpError::internal("a product without operands");
    let (_, x) = cx.input_type(0).ok_or_else(missing)?;
    let w = op.weights(x, cx.input_type(1).map(|(_, w)| w))?;
    let (empty, extents) = (x.contains(&0) || w.contains(&0), op.extents(x, &w)?);
    if empty {
        return Err(OpError::unsupported("a quantized product without elements"));
    }
    match extents {
        Extents::Window(g) => window(op, cx, &g),
        Extents::Rows(lead, k, outputs) => rows(op, cx, lead.iter().product(), k, outputs),
    }
}

/// The same view, where a step between channels means something only if there are several.
fn innermost(view: View) -> View {
    View { c_stride: if view.channels == 1 { 1 } else { view.c_stride }, ..view }
}

fn window(op: &ProductI8, cx: &mut LowerCx<'_>, g: &Geometry) -> Result<(), OpError> {
    let axes = |values: &[usize], fill| {
        Taps::spatial(values, fill).ok_or_else(|| OpError::unsupported("more than three spatial axes"))
    };
    // Padding is the zero point, which rims do not hold.
    let need = SpatialNeed {
        pads: axes(&g.taps.begin, 0)?,
        pads_end: axes(&g.taps.overruns(), 0)?,
        fill: None,
        planar: false,
    };
    let input = cx.read_spatial(0, need)?;
    let kernel = axes(&g.taps.kernel, 1)?;
    let depthwise = !op.form.weighted() || g.groups > 1 && g.group_in == 1 && g.group_out == 1;
    let residual = op.requant.add.map(|_| {
        cx.read_spatial(ADDEND, SpatialNeed { pads: [0; 3], pads_end: [0; 3], fill: None, planar: false })
    });
    let residual = residual.transpose()?;
    let (weights, layout) = if depthwise {
        let layout = pack::DepthwiseI8 { kernel, channels: g.outputs() };
        let requant = pack::Requant { channels: g.outputs(), groups: 1 };
        let mut packed = Vec::new();
        if op.form.weighted() {
            packed = vec![0; layout.packed_len()];
            layout.pack(weights(cx)?, &mut packed)?;
        }
        (packed, requant)
    } else {
        let layout =
            pack::ConvI8 { kernel, in_channels: g.group_in, out_channels: g.group_out, groups: g.groups };
        let mut packed = vec![0; layout.packed_len()];
        layout.pack(weights(cx)?, &mut packed)?;
        (packed, pack::Requant { channels: g.group_out, groups: g.groups })
    };
    let numbers = numbers(op, cx, layout, kernel.iter().product())?;
    let w = op.form.weighted().then(|| cx.blob("weights", &weights));
    let (y, view) = cx.write_spatial(0)?;
    let y_view = innermost(view);
    let spec = ConvI8Spec {
        x: innermost(input.view),
        y: y_view,
        residual: residual.map_or(y_view, |r| innermost(r.view)),
        kernel,
        stride: axes(&g.taps.strides, 1)?,
        dilation: axes(&g.taps.dilations, 1)?,
        pads: input.pads,
        groups: g.groups,
        steps: op.requant.steps(),
        largest: matches!(op.form, Form::Maxima { .. }),
    };
    let bytes = Bytes { spec, x: input.operand, w, numbers, residual: residual.map(|r| r.operand), y };
    cx.push(if depthwise { Kernel::DepthwiseI8(bytes) } else { Kernel::ConvI8(bytes) });
    Ok(())
}

/// One pixel per row, one tap.
fn rows(op: &ProductI8, cx: &mut LowerCx<'_>, m: usize, k: usize, n: usize) -> Result<(), OpError> {
    let x = cx.read_dense(0)?;
    let residual = op.requant.add.map(|_| cx.read_dense(ADDEND)).transpose()?;
    let layout = pack::ConvI8 { kernel: [1; 3], in_channels: k, out_channels: n, groups: 1 };
    let mut packed = vec![0; layout.packed_len()];
    layout.pack(weights(cx)?, &mut packed)?;
    let numbers = numbers(op, cx, pack::Requant { channels: n, groups: 1 }, k)?;
    let w = cx.blob("weights", &packed);
    let y = cx.write_dense(0)?;
    let y_view = View::channels_last(1, [1, 1, m], n);
    let spec = ConvI8Spec {
        x: View::channels_last(1, [1, 1, m], k),
        y: y_view,
        residual: y_view,
        kernel: [1; 3],
        stride: [1; 3],
        dilation: [1; 3],
        pads: [0; 3],
        groups: 1,
        steps: op.requant.steps(),
        largest: false,
    };
    let residual = residual.map(|r| r.operand);
    let w = Some(w);
    cx.push(Kernel::ConvI8(Bytes { spec, x: x.operand, w, numbers, residual, y: y.operand }));
    Ok(())
}

fn weights<'a>(cx: &LowerCx<'a>) -> Result<&'a [i8], OpError> {
    cx.constant(1)
        .and_then(|w| w.as_slice::<i8>())
        .ok_or_else(|| OpError::internal("weights that are not known"))
}

/// The numbers of the requantization: the input's zero point goes into the biases. Sums are of this many `taps`.
fn numbers(
    op: &ProductI8,
    cx: &mut LowerCx<'_>,
    layout: pack::Requant,
    taps: usize,
) -> Result<Operand, OpError> {
    let unknown = || OpError::internal("biases or factors that are not known");
    let bias = cx.constant(2).and_then(|t| t.as_slice::<i32>()).ok_or_else(unknown)?;
    let factors = cx.constant(3).and_then(|t| t.as_slice::<f32>()).ok_or_else(unknown)?;
    let zero = i32::from(op.x_zero);
    // Bytes are never below those of padding that holds the least.
    let largest = matches!(op.form, Form::Maxima { .. });
    let (fill, taps) = if largest { (0, 1) } else { (op.x_zero, taps) };
    let moved: Vec<i32> = if !op.form.weighted() {
        bias.iter().map(|b| b.wrapping_sub((taps as i32).wrapping_mul(zero))).collect()
    } else {
        let weights = weights(cx)?;
        let per_output = weights.len() / bias.len().max(1);
        let moved = bias.iter().zip(weights.chunks(per_output.max(1))).map(|(&b, row)| {
            let sum = row.iter().fold(0i32, |sum, &w| sum.wrapping_add(i32::from(w)));
            b.wrapping_sub(sum.wrapping_mul(zero))
        });
        moved.collect()
    };
    let mut packed = vec![0; layout.packed_len()];
    layout.pack(&moved, factors, &op.requant.tail(fill), &mut packed)?;
    Ok(cx.blob("requantization", &packed))
}
