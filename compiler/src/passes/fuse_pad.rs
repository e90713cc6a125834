//! A constant rim becomes the padding of the window that reads it.
//!
//! - Pattern: Pad with a known constant, then Conv, AveragePool or MaxPool.
//! - Result: the window's own pads, larger by as much.
//! - Precondition: no other reader of the padded value; only spatial axes, none cropped; the output keeps its
//!   extents (with `ceil_mode` a window may not start in its own padding). And
//!   - Conv: zeros;
//!   - AveragePool: zeros that count — it counts its padding, or has none of its own and will count;
//!   - MaxPool: -∞, or at most the least value that the operand can have (zeros behind a Relu), every
//!     window with a value of its own, and nobody reads the positions.
//! - Exactness: the same values, for finite weights (an infinite one times a zero of the rim is NaN).
//!
//! ```text
//! %p = Pad(%x, [0, 0, 0, 0, 0, 0, 1, 1]); %y = Conv{pads: none}(%p, W)   →   %y = Conv{pads: [0, 0, 1, 1]}(%x, W)
//! ```

use super::matching::{Editor, Replacement, constant, input, output, visit};
use super::{Pass, PassCx, PassError};
use crate::ir::{NodeId, Tensor, ValueId};
use crate::kernel::expr::UnaryFn;
use crate::ops::fused::{Activation, Residual};
use crate::ops::pad::PadMode;
use crate::ops::pool::Kind;
use crate::ops::unary::Unary;
use crate::ops::window::{AutoPad, Taps, Window};
use crate::ops::{Graph, Node, OpKind};

/// See the module.
pub(super) struct FusePad;

impl Pass for FusePad {
    fn name(&self) -> &'static str {
        "fuse_pad"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        visit(graph, cx, |graph, id| {
            let node = graph.node(id)?;
            if !matches!(node.op, OpKind::Conv(_) | OpKind::Pool(_)) {
                return None;
            }
            let (at, pad) = graph.producer(input(node, 0)?)?;
            let OpKind::Pad(_) = &pad.op else { return None };
            Some(fuse(graph, id, at))
        });
        Ok(())
    }
}

/// What a Pad adds.
pub(super) struct Rim {
    /// What it reads.
    pub(super) x: ValueId,
    /// Leading and trailing pads of the spatial axes.
    pads: Vec<(usize, usize)>,
    /// The value.
    pub(super) fill: f64,
}

fn fuse(graph: &mut Editor<'_>, id: NodeId, at: NodeId) -> Result<&'static str, String> {
    let missing = || "an operand is missing".to_owned();
    let node = graph.node(id).ok_or_else(missing)?.clone();
    let padded = input(&node, 0).ok_or_else(missing)?;
    graph.only_reader(padded)?;
    let rim = rim(graph, graph.node(at).ok_or_else(missing)?)?;
    let op = match &node.op {
        OpKind::Conv(conv) => {
            if rim.fill != 0.0 {
                return Err(format!("it pads with {}, a convolution with zeros", rim.fill));
            }
            let kernel = input(&node, 1).and_then(|w| graph.value(w).shape.get(2..)).ok_or_else(missing)?;
            let (window, _) = widened(graph, &conv.window, &rim, padded, Some(kernel), false)?;
            let mut conv = conv.clone();
            conv.window = window;
            OpKind::Conv(conv)
        }
        OpKind::Pool(pool) => {
            let Some(window) = &pool.window else {
                return Err("a global pool has no padding".to_owned());
            };
            let (window, [old, new]) = widened(graph, window, &rim, padded, None, pool.ceil)?;
            let mut pool = pool.clone();
            pool.window = Some(window);
            pool.kind = match pool.kind {
                Kind::Average { include_pad } if rim.fill == 0.0 => {
                    if !include_pad && old.padded() {
                        return Err("the pool does not count its own padding, but would this".to_owned());
                    }
                    Kind::Average { include_pad: true }
                }
                Kind::Average { .. } => {
                    return Err(format!("it pads with {}, an average with zeros", rim.fill));
                }
                Kind::Max { .. } => {
                    check_max(graph, &node, &rim, &new)?;
                    pool.kind
                }
                Kind::Lp { .. } => return Err("norms are not padded".to_owned()),
            };
            OpKind::Pool(pool)
        }
        _ => return Err(missing()),
    };
    let mut inputs = node.inputs.clone();
    if let Some(first) = inputs.first_mut() {
        *first = Some(rim.x);
    }
    let new = Replacement { label: "fuse_pad", at: id, absorbed: &[at], op, inputs };
    new.apply(graph).ok_or_else(|| "it has several results".to_owned())
}

/// What a Pad adds, or why that is no padding of a window.
pub(super) fn rim(graph: &Graph, node: &Node) -> Result<Rim, String> {
    let OpKind::Pad(pad) = &node.op else { return Err("it is no Pad".to_owned()) };
    if pad.mode != PadMode::Constant {
        return Err("it repeats values of the operand".to_owned());
    }
    let x = input(node, 0).ok_or("it has no operand")?;
    let fill = match (input(node, 2), constant(graph, node, 2)) {
        (None, _) => f64::from(pad.value.unwrap_or(0.0)),
        (Some(_), known) => known.and_then(Tensor::to_scalar_f64).ok_or("its value is not known")?,
    };
    let rank = graph.value(x).shape.rank();
    let rims = pad.known_rims(rank, constant(graph, node, 1), constant(graph, node, 3));
    let rims = rims.map_err(|e| e.to_string())?;
    let (outer, space) = rims.split_at_checked(2).ok_or("it has no spatial axes")?;
    if outer.iter().any(|&r| r != (0, 0)) {
        return Err("it pads the batch or the channels".to_owned());
    }
    let pads = space.iter().map(|&(b, e)| usize::try_from(b).ok().zip(usize::try_from(e).ok()));
    let pads = pads.collect::<Option<Vec<_>>>().ok_or("it crops")?;
    Ok(Rim { x, pads, fill })
}

/// The window with the rim in its pads, and its taps over the padded and over the plain operand.
pub(super) fn widened(
    graph: &Graph,
    window: &Window,
    rim: &Rim,
    padded: ValueId,
    kernel: Option<&[usize]>,
    ceil: bool,
) -> Result<(Window, [Taps; 2]), String> {
    let space = |v: ValueId| graph.value(v).shape.get(2..).unwrap_or(&[]);
    let old = window.resolve(space(padded), kernel, ceil).map_err(|e| e.to_string())?;
    let begin = old.begin.iter().zip(&rim.pads).map(|(own, (b, _))| own + b);
    let end = old.end.iter().zip(&rim.pads).map(|(own, (_, e))| own + e);
    let pads = Some(begin.chain(end).collect());
    let wide = Window { pads, auto_pad: AutoPad::NotSet, ..window.clone() };
    let new = wide.resolve(space(rim.x), kernel, ceil).map_err(|e| e.to_string())?;
    if new.output != old.output {
        return Err("the output's extents would change".to_owned());
    }
    Ok((wide, [old, new]))
}

/// Whether the largest value of each window stays the same without the rim.
fn check_max(graph: &Graph, node: &Node, rim: &Rim, new: &Taps) -> Result<(), String> {
    if output(node).is_none() {
        return Err("the pool's positions are read, and count the padding".to_owned());
    }
    if !graph.value(rim.x).dtype.is_float() {
        return Err("integers have no -inf to pad with".to_owned());
    }
    let least = least(graph, rim.x);
    if rim.fill > least || rim.fill.is_nan() {
        return Err(format!("it pads with {}, and the operand may be less", rim.fill));
    }
    let lonely = (0..new.rank()).any(|axis| {
        let outputs = new.output.get(axis).copied().unwrap_or(0);
        (0..outputs).any(|o| new.inside(axis, o).is_empty())
    });
    if lonely { Err("a window lies in the padding alone".to_owned()) } else { Ok(()) }
}

/// A bound below which a value cannot be, but for NaN.
fn least(graph: &Graph, v: ValueId) -> f64 {
    let Some((_, node)) = graph.producer(v) else { return f64::NEG_INFINITY };
    let of_activation = |a: Activation| match a {
        Activation::Relu | Activation::Sigmoid | Activation::HardSigmoid { .. } | Activation::Softplus => 0.0,
        Activation::Clip { lo, hi } => f64::from(lo.min(hi)),
        _ => f64::NEG_INFINITY,
    };
    match &node.op {
        OpKind::Unary(Unary {
            function: UnaryFn::Relu | UnaryFn::Sigmoid | UnaryFn::HardSigmoid { .. } | UnaryFn::Softplus,
        }) => 0.0,
        OpKind::Clip(clip) if node.inputs.len() == 1 => {
            let (lo, hi) = (clip.min.unwrap_or(f32::NEG_INFINITY), clip.max.unwrap_or(f32::INFINITY));
            f64::from(lo.min(hi))
        }
        OpKind::Conv(conv) if conv.fused.residual != Residual::After => of_activation(conv.fused.activation),
        OpKind::Pool(pool) if pool.activation == Activation::None => match (pool.kind, input(node, 0)) {
            (Kind::Max { .. } | Kind::Average { .. }, Some(x)) => least(graph, x).min(0.0),
            _ => f64::NEG_INFINITY,
        },
        OpKind::Pool(pool) => of_activation(pool.activation),
        _ => f64::NEG_INFINITY,
    }
}
