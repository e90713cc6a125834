//! [Conv](https://onnx.ai/onnx/operators/onnx__Conv.html), with any number of spatial axes.

use super::conv_lower;
use super::fused::Fused;
use super::number::{Number, by_class, expect_float, expect_same};
use super::product::product;
use super::walk::{checked_type, operand, optional};
use super::window::{Taps, Window, advance};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::Tensor;
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// Position of the residual; the slopes follow.
pub(super) const OWN_OPERANDS: usize = 3;

/// Convolution of `x[N, C, space…]` with `w[M, C/groups, kernel…]` and an optional `bias[M]`.
///
/// Operands: `x`, `w`, bias (optional), then those of [`Fused`].
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Kernel extents (from the weights where absent), strides, dilations, pads.
    pub window: Window,
    /// `group`.
    pub groups: usize,
    /// Epilogue folded in by passes.
    pub fused: Fused,
}

/// A convolution over certain operands, resolved and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Images.
    pub batch: usize,
    /// Groups.
    pub groups: usize,
    /// Input channels of a group.
    pub group_in: usize,
    /// Output channels of a group.
    pub group_out: usize,
    /// The window.
    pub taps: Taps,
}

impl OnnxOp for Conv {
    const NAMES: &'static [OnnxName] =
        &[OnnxName::onnx("Conv", 1), OnnxName::onnx("Conv", 11), OnnxName::onnx("Conv", 22)];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let window = Window::import(attrs)?;
        Ok(Conv { window, groups: groups(attrs)?, fused: Fused::default() }.into())
    }
}

/// Attribute `group`.
pub(super) fn groups(attrs: &mut AttrReader<'_>) -> Result<usize, OpError> {
    let groups = attrs.int_or("group", 1)?;
    usize::try_from(groups)
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| OpError::invalid(format!("`group` is {groups}")))
}

impl Conv {
    /// Extents from the shapes of `x` and `w`.
    pub(super) fn geometry(&self, x: &[usize], w: &[usize]) -> Result<Geometry, OpError> {
        Geometry::new(&self.window, self.groups, x, w)
    }
}

impl Geometry {
    /// Extents from the shapes of `x` and `w`.
    pub(super) fn new(window: &Window, groups: usize, x: &[usize], w: &[usize]) -> Result<Self, OpError> {
        let ([batch, channels, space @ ..], [outputs, group_in, kernel @ ..]) = (x, w) else {
            return Err(OpError::invalid("`X` and `W` need a batch and a channel axis"));
        };
        if space.is_empty() || x.len() != w.len() {
            return Err(OpError::invalid(format!(
                "`X` has {} axes and `W` has {}, expected as many and at least 3",
                x.len(),
                w.len()
            )));
        }
        if groups.checked_mul(*group_in) != Some(*channels) {
            return Err(OpError::invalid(format!(
                "`X` has {channels} channels, but `W` takes {group_in} in each of {groups} groups"
            )));
        }
        if !outputs.is_multiple_of(groups) {
            return Err(OpError::invalid(format!("`W` has {outputs} output channels for {groups} groups")));
        }
        Ok(Geometry {
            batch: *batch,
            groups,
            group_in: *group_in,
            group_out: outputs / groups,
            taps: window.resolve(space, Some(kernel), false)?,
        })
    }
    /// Extents of the result.
    pub(super) fn output(&self) -> Vec<usize> {
        [self.batch, self.outputs()].into_iter().chain(self.taps.output.iter().copied()).collect()
    }

    /// Output channels.
    pub(super) fn outputs(&self) -> usize {
        self.groups * self.group_out
    }
}

impl Op for Conv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, w) = (inputs.required(0)?, inputs.required(1)?);
        expect_float(x.dtype)?;
        expect_same(x.dtype, w.dtype, "W")?;
        let geometry = self.geometry(x.shape, w.shape)?;
        let outputs = geometry.outputs();
        if let Some(b) = inputs.get(2) {
            expect_same(x.dtype, b.dtype, "B")?;
            if b.shape.dims() != [outputs] {
                return Err(OpError::invalid(format!("`B` is {}, expected [{outputs}]", b.shape)));
            }
        }
        let shape = geometry.output();
        self.fused.check(inputs, OWN_OPERANDS, x.dtype, outputs, |r| r.shape.dims() == shape.as_slice())?;
        Ok(vec![checked_type(x.dtype, shape)?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, w) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let geometry = self.geometry(x.shape(), w.shape())?;
        let y = by_class!(x.dtype(), N => {
            let load = |i| optional(inputs, i).map(N::load).transpose();
            let (bias, residual, slope) = (load(2)?, load(OWN_OPERANDS)?, load(OWN_OPERANDS + 1)?);
            let mut y = convolve(&N::load(x)?, &N::load(w)?, &geometry);
            let space: usize = geometry.taps.output.iter().product();
            let at = |v: &Option<std::borrow::Cow<'_, [N]>>, i: usize| {
                v.as_ref().and_then(|v| v.get(i)).copied().unwrap_or(N::ZERO)
            };
            for (plane, values) in y.chunks_mut(space.max(1)).enumerate() {
                let channel = plane % geometry.outputs().max(1);
                let (b, s) = (at(&bias, channel), at(&slope, channel));
                for (i, v) in values.iter_mut().enumerate() {
                    *v = v.fuse(&self.fused, b, at(&residual, plane * space + i), s);
                }
            }
            N::store(y, x.dtype(), geometry.output().into())?
        });
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::ChannelsLast
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        conv_lower::lower(self, cx)
    }

    fn macs(&self, inputs: &[Option<Type>], outputs: &[Type]) -> u64 {
        let per_output = match inputs.get(1) {
            Some(Some(w)) => w.shape.iter().skip(1).fold(1u64, |n, &d| n.saturating_mul(d as u64)),
            _ => 0,
        };
        outputs.first().map_or(0, |y| per_output.saturating_mul(y.shape.elements() as u64))
    }
}

/// Elements of the unfolded input that are made at a time: about the second-level cache.
const UNFOLD_ELEMENTS: usize = 1 << 17;

/// The accumulators, row-major `N M space…`: per group, unfolded windows times weights. Sums run over
/// input channel, then taps, in increasing order.
pub(super) fn convolve<N: Number>(x: &[N], w: &[N], g: &Geometry) -> Vec<N> {
    let taps = &g.taps;
    let (in_space, out_space): (usize, usize) = (taps.input.iter().product(), taps.output.iter().product());
    let kernel: usize = taps.kernel.iter().product();
    let depth = g.group_in * kernel;
    let mut y = vec![N::ZERO; g.batch * g.outputs() * out_space];
    if y.is_empty() || depth == 0 {
        return y;
    }
    let block = (UNFOLD_ELEMENTS / depth).clamp(16, out_space.max(16));
    let mut columns = vec![N::ZERO; depth * block.min(out_space)];
    let mut start = 0;
    let mut window = vec![0; taps.rank()];
    while start < out_space {
        let n = block.min(out_space - start);
        let sources = sources(taps, &mut window, n);
        for image in 0..g.batch {
            for group in 0..g.groups {
                for c in 0..g.group_in {
                    let from = ((image * g.groups + group) * g.group_in + c) * in_space;
                    let plane = &x[from..from + in_space];
                    let rows = &mut columns[c * kernel * n..(c + 1) * kernel * n];
                    for (to, &at) in rows.iter_mut().zip(&sources) {
                        *to = plane.get(at).copied().unwrap_or(N::ZERO);
                    }
                }
                let weights = &w[group * g.group_out * depth..(group + 1) * g.group_out * depth];
                let at = (image * g.groups + group) * g.group_out * out_space + start;
                product(weights, &columns, &mut y[at..], (g.group_out, depth, n), out_space);
            }
        }
        start += n;
    }
    y
}

/// For each tap and each of the `n` windows from `window` on, the input element it reads;
/// `usize::MAX` in the padding. Leaves `window` behind the last.
fn sources(taps: &Taps, window: &mut [usize], n: usize) -> Vec<usize> {
    let kernel: usize = taps.kernel.iter().product();
    let mut out = vec![usize::MAX; kernel * n];
    for p in 0..n {
        let mut tap = vec![0; taps.rank()];
        for t in 0..kernel {
            let at = (0..taps.rank()).try_fold(0usize, |at, axis| {
                Some(at * taps.input[axis] + taps.source(axis, window[axis], tap[axis])?)
            });
            if let Some(at) = at {
                out[t * n + p] = at;
            }
            advance(&mut tap, &taps.kernel);
        }
        advance(window, &taps.output);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fused::{Activation, Residual};
    use super::super::window::AutoPad;
    use super::*;
    use crate::ir::DType;
    use crate::ops::Fact;

    fn conv(kernel: &[usize]) -> Conv {
        Conv { window: Window::of(kernel), groups: 1, fused: Fused::default() }
    }

    fn iota(shape: &[usize]) -> Tensor {
        Tensor::from_fn(shape, |i| i as f32)
    }

    fn run(op: &Conv, inputs: &[&Tensor]) -> (Vec<usize>, Vec<f32>) {
        let facts: Vec<_> = inputs
            .iter()
            .map(|t| Some(Fact { dtype: t.dtype(), shape: t.shape(), constant: None }))
            .collect();
        let types = op.infer(&Inputs::new(&facts, 1)).unwrap();
        let tensors: Vec<_> = inputs.iter().map(|t| Some(*t)).collect();
        let y = op.eval(&tensors).unwrap().remove(0);
        assert_eq!(y.shape(), &types[0].shape);
        (y.shape().to_vec(), y.to_f64_vec().unwrap().iter().map(|&v| v as f32).collect())
    }

    #[test]
    fn padded_box_filter() {
        // 3x3 of ones over 0..9 with pads 1: the sums of neighbours.
        let mut op = conv(&[3, 3]);
        op.window.pads = Some(vec![1; 4]);
        let (shape, y) = run(&op, &[&iota(&[1, 1, 3, 3]), &Tensor::full([1, 1, 3, 3], 1f32)]);
        assert_eq!(shape, [1, 1, 3, 3]);
        assert_eq!(y, [8., 15., 12., 21., 36., 27., 20., 33., 24.]);
    }

    #[test]
    fn strides_dilations_and_bias_in_one_dimension() {
        let mut op = conv(&[2]);
        op.window.strides = Some(vec![2]);
        op.window.dilations = Some(vec![3]);
        let w = Tensor::new::<f32>([1, 1, 2], vec![1., 10.]).unwrap();
        let (_, y) = run(&op, &[&iota(&[1, 1, 8]), &w, &Tensor::vector(&[0.5f32])]);
        // x[0]+10x[3], x[2]+10x[5], x[4]+10x[7]
        assert_eq!(y, [30.5, 52.5, 74.5]);
    }

    #[test]
    fn groups_read_their_own_channels() {
        let mut op = conv(&[1]);
        op.groups = 2;
        let w = Tensor::new::<f32>([4, 1, 1], vec![1., 2., 3., 4.]).unwrap();
        let x = Tensor::new::<f32>([1, 2, 2], vec![1., 2., 10., 20.]).unwrap();
        assert_eq!(run(&op, &[&x, &w]).1, [1., 2., 2., 4., 30., 60., 40., 80.]);
    }

    #[test]
    fn three_dimensions_and_batches() {
        let op = conv(&[2, 1, 2]);
        let (shape, y) = run(&op, &[&iota(&[2, 1, 2, 1, 2]), &Tensor::full([1, 1, 2, 1, 2], 1f32)]);
        assert_eq!((shape, y), (vec![2, 1, 1, 1, 1], vec![6., 22.]));
    }

    #[test]
    fn same_upper() {
        let mut op = conv(&[2]);
        op.window.auto_pad = AutoPad::SameUpper;
        let w = Tensor::full([1, 1, 2], 1f32);
        assert_eq!(run(&op, &[&iota(&[1, 1, 3]), &w]).1, [1., 3., 2.]);
        op.window.auto_pad = AutoPad::SameLower;
        assert_eq!(run(&op, &[&iota(&[1, 1, 3]), &w]).1, [0., 1., 3.]);
    }

    #[test]
    fn fused_epilogue() {
        let mut op = conv(&[1]);
        op.fused = Fused { scale: Some(2.0), residual: Residual::Before, activation: Activation::PRelu };
        let x = Tensor::new::<f32>([1, 1, 2], vec![1., -3.]).unwrap();
        let one = Tensor::full([1, 1, 1], 1f32);
        let inputs =
            [&x, &one, &Tensor::vector(&[1f32]), &Tensor::full([1, 1, 2], 1f32), &Tensor::vector(&[0.5f32])];
        assert_eq!(run(&op, &inputs).1, [4., -2.]);
    }

    #[test]
    fn half_precision_accumulates_in_f32() {
        use crate::ir::f16;
        let x = Tensor::full([1, 4096, 1], f16::from_f32(1.0));
        let w = Tensor::full([1, 4096, 1], f16::from_f32(1.0));
        // In f16 the sum would stop at 2048.
        assert_eq!(run(&conv(&[1]), &[&x, &w]).1, [4096.]);
    }

    #[test]
    fn blocks_of_windows_agree() {
        // More windows than one block holds.
        let n = 3 * UNFOLD_ELEMENTS / 64;
        let x = Tensor::from_fn([1, 64, n], |i| (i % 17) as f32);
        let w = Tensor::full([1, 64, 1], 1f32);
        let (_, y) = run(&conv(&[1]), &[&x, &w]);
        let want = |p: usize| (0..64).map(|c| ((c * n + p) % 17) as f32).sum::<f32>();
        assert!((0..n).all(|p| y[p] == want(p)));
    }

    #[test]
    fn refusals() {
        let x = (DType::F32, crate::ir::Shape::from([1, 3, 4]));
        for (groups, w) in [(1, vec![2, 2, 1]), (2, vec![2, 1, 1]), (3, vec![2, 1, 1]), (1, vec![2, 3])] {
            let w = crate::ir::Shape::from(w);
            let facts = [
                Some(Fact { dtype: x.0, shape: &x.1, constant: None }),
                Some(Fact { dtype: x.0, shape: &w, constant: None }),
            ];
            let op = Conv {
                window: Window { kernel_shape: None, ..Window::of(&[]) },
                groups,
                fused: Fused::default(),
            };
            assert!(op.infer(&Inputs::new(&facts, 1)).is_err(), "{groups} {w}");
        }
    }
}
