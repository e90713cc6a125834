//! Means of quantized values are sums of bytes.
//!
//! - Pattern: QuantizeLinear of an AveragePool, GlobalAveragePool, ReduceMean or ReduceSum, with or without a clamp, of a
//!   DequantizeLinear.
//! - Result: [`ProductI8`] in the form of sums, with `x / (y·count)` as factor of all channels. Axes that are no image's are made
//!   such by Transpose and Reshape.
//! - Precondition: one scale on both sides; every window has equally many taps (padding counts, or there is none); the
//!   sums cannot leave 32 bits.
//! - Exactness: the sum is exact and rounded once, where the float form rounds it several times.
//!
//! ```text
//! QuantizeLinear(GlobalAveragePool(DequantizeLinear(%x)))   →   ProductI8{sums}(%x, factors)
//! ```

use super::super::matching::{Editor, Outcome, Replacement, constant, input, origins, output, visit};
use super::super::{Pass, PassCx, PassError};
use super::{Steps, clamped, dequantized};
use crate::ir::{DType, NodeId, Patch, Shape, Tensor, ValueId};
use crate::ops::fused::Activation;
use crate::ops::pool::{Kind, Pool};
use crate::ops::product_i8::{Form, ProductI8};
use crate::ops::reduce::{Reduce, ReduceFn};
use crate::ops::requant::Requant;
use crate::ops::reshape::Reshape;
use crate::ops::transpose::Transpose;
use crate::ops::window::{AutoPad, Taps, Window};
use crate::ops::{Graph, OpKind};

/// See the module.
pub(in crate::passes) struct IntegerAverages;

impl Pass for IntegerAverages {
    fn name(&self) -> &'static str {
        "integer_averages"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, rewrite);
        Ok(())
    }
}

/// Elements of all channels' windows together: their evaluation holds a one for each. Keeps sums below 2³¹, too.
pub(super) const MAX_ONES: usize = 1 << 22;

/// Sums over windows of `[N, C, space…]`.
struct Sums {
    window: Window,
    /// By what a sum is divided.
    count: f64,
    /// What becomes of the operand first: a permutation and extents.
    moved: Option<(Vec<usize>, Shape)>,
    /// The result's extents.
    shape: Shape,
}

fn rewrite(graph: &mut Editor<'_>, id: NodeId) -> Outcome {
    let node = graph.node(id)?;
    matches!(node.op, OpKind::Quantize(_)).then_some(())?;
    let (mut at, mut between, mut clamp) = (input(node, 0)?, Vec::new(), None);
    let (producer, inner) = graph.producer(at)?;
    if let Some(bounds) = clamped(inner) {
        (clamp, at) = (Some(bounds), input(inner, 0)?);
        between.push(producer);
    }
    let (producer, mean) = graph.producer(at)?;
    between.push(producer);
    let (_, x, data) = dequantized(graph, input(mean, 0)?)?;
    let shape = graph.value(x).shape.clone();
    let sums = match &mean.op {
        OpKind::Pool(pool) if matches!(pool.kind, Kind::Average { .. }) => {
            match pool.activation {
                Activation::None => {}
                Activation::Relu if clamp.is_none() => clamp = Some([0.0, f32::INFINITY]),
                Activation::Clip { lo, hi } if clamp.is_none() => clamp = Some([lo, hi]),
                _ => return Some(Err("its activation is no clamp".to_owned())),
            }
            of_pool(pool, &shape)
        }
        OpKind::Reduce(reduce) if matches!(reduce.function, ReduceFn::Mean | ReduceFn::Sum) => {
            let axes = match input(mean, 1) {
                None => None,
                Some(_) => Some(constant(graph, mean, 1)?.to_i64_vec()?),
            };
            of_axes(reduce, &shape, axes)
        }
        _ => return None,
    };
    let y = Steps::of(graph, node)?;
    Some(sums.and_then(|sums| fuse(graph, id, &between, (x, data, y), y.clamped(clamp), sums)))
}

fn of_pool(pool: &Pool, x: &Shape) -> Result<Sums, String> {
    let taps = pool.taps(x).map_err(|e| e.to_string())?;
    let count: usize = taps.kernel.iter().product();
    let pads = taps.begin.iter().chain(&taps.end).copied().collect();
    let counted = matches!(pool.kind, Kind::Average { include_pad: true });
    let cut = (0..taps.rank()).any(|a| taps.overrun(a) > taps.end.get(a).copied().unwrap_or(0));
    if cut || taps.padded() && !counted {
        return Err("its windows have different numbers of elements".to_owned());
    }
    let window = spelled_out(&taps, pads);
    let shape: Shape = x.iter().take(2).chain(&taps.output).copied().collect();
    Ok(Sums { window, count: count as f64, moved: None, shape })
}

/// A window with every attribute.
pub(super) fn spelled_out(taps: &Taps, pads: Vec<usize>) -> Window {
    Window {
        kernel_shape: Some(taps.kernel.clone()),
        strides: Some(taps.strides.clone()),
        dilations: Some(taps.dilations.clone()),
        pads: Some(pads),
        auto_pad: AutoPad::NotSet,
    }
}

fn of_axes(reduce: &Reduce, x: &Shape, axes: Option<Vec<i64>>) -> Result<Sums, String> {
    let reduced = reduce.reduced(x.rank(), axes).map_err(|e| e.to_string())?;
    if reduced.is_empty() {
        return Err("it reduces nothing".to_owned());
    }
    let extent = |axes: &[usize]| axes.iter().filter_map(|&a| x.get(a)).product::<usize>();
    let kept: Vec<usize> = (0..x.rank()).filter(|a| !reduced.contains(a)).collect();
    let (count, mean) = (extent(&reduced), reduce.function == ReduceFn::Mean);
    let image = kept == [0, 1] && (3..=5).contains(&x.rank());
    let (kernel, moved, shape) = if image {
        let space: Vec<usize> = x.iter().skip(2).copied().collect();
        let shape: Shape = x.iter().take(2).copied().chain(space.iter().map(|_| 1)).collect();
        (space, None, shape)
    } else {
        let order: Vec<usize> = kept.iter().chain(&reduced).copied().collect();
        let shape = Shape::from([1, extent(&kept), count]);
        (vec![count], Some((order, shape)), Shape::from([1, extent(&kept), 1]))
    };
    Ok(Sums { window: Window::of(&kernel), count: if mean { count as f64 } else { 1.0 }, moved, shape })
}

fn fuse(
    graph: &mut Editor<'_>,
    id: NodeId,
    between: &[NodeId],
    (mut x, data, y): (ValueId, Steps, Steps),
    bounds: [i32; 2],
    sums: Sums,
) -> Result<&'static str, String> {
    for &node in between {
        graph.only_reader(graph.node(node).and_then(output).ok_or("it has several results")?)?;
    }
    let zero = u8::try_from(data.zero).ok().filter(|_| data.dtype == DType::U8);
    let x_zero = zero.ok_or("its data are signed bytes that something else reads, too")?;
    let taps: usize = sums.window.kernel_shape.iter().flatten().product();
    let channels = sums.shape.get(1).copied().unwrap_or(1);
    if taps == 0 || sums.shape.contains(&0) {
        return Err("its sums have no elements".to_owned());
    }
    if taps.saturating_mul(channels) > MAX_ONES {
        return Err("its windows are too large".to_owned());
    }
    let factor = (f64::from(data.scale) / (f64::from(y.scale) * sums.count)) as f32;
    if !(factor > 0.0 && factor.is_finite()) {
        return Err("its scales are too far apart".to_owned());
    }
    let bias = graph.add_constant("bias", Tensor::full([channels], 0i32));
    let factors = graph.add_constant("factors", Tensor::full([channels], factor));
    let result = graph.node(id).and_then(output).map(|v| graph.value(v)).ok_or("it has several results")?;
    let (wanted, name) = (result.shape.clone(), result.name.clone());
    let from = origins(graph, between);
    let requant = Requant { first: bounds, rescale: None, add: None, last: None, zero: y.zero, to: y.dtype };
    let op = ProductI8 { form: Form::Sums { window: sums.window }, x_zero, requant };
    if let Some((perm, extents)) = sums.moved {
        let source = graph.value(x);
        let (bytes, turned) =
            (source.dtype, perm.iter().filter_map(|&a| source.shape.get(a)).copied().collect());
        let mut patch = Patch::new(graph, "integer_averages", id);
        let perm = Transpose { perm: Some(perm) }.into();
        let turned = patch.node(perm, vec![Some(x)], (format!("{name}.turned"), bytes, turned), from.clone());
        let to = patch.constant(format!("{name}.rows"), numbers(&extents));
        let inputs = vec![Some(turned), Some(to)];
        let flat = Reshape::Shape { allowzero: true }.into();
        x = patch.node(flat, inputs, (format!("{name}.flat"), bytes, extents), from.clone());
        patch.apply();
        graph.refresh();
    }
    let inputs = vec![Some(x), None, Some(bias), Some(factors)];
    let (op, inputs) = if sums.shape == wanted {
        (op.into(), inputs)
    } else {
        let mut patch = Patch::new(graph, "integer_averages", id);
        let to = patch.constant(format!("{name}.shape"), numbers(&wanted));
        let means = patch.node(op.into(), inputs, (format!("{name}.means"), y.dtype, sums.shape), from);
        patch.apply();
        graph.refresh();
        (OpKind::from(Reshape::Shape { allowzero: true }), vec![Some(means), Some(to)])
    };
    let new = Replacement { label: "integer_averages", at: id, absorbed: between, op, inputs };
    new.apply(graph).ok_or_else(|| "it has several results".to_owned())
}

/// Extents as a constant.
fn numbers(shape: &Shape) -> Tensor {
    Tensor::vector(&shape.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect::<Vec<i64>>())
}
