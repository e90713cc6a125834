//! [ConvTranspose](https://onnx.ai/onnx/operators/onnx__ConvTranspose.html), with any number of spatial
//! axes.
//!
//! Lowered as a convolution: the input is spread out by the strides in zero-filled scratch, and the
//! weights are turned around.

use super::nest::{
    access, channels_last_order, mul, push, push_nests, read, read_optional, scratch_in, signed, single,
    vector_stride, window_strides, write_spatial,
};
use super::number::{Number, by_class, expect_float, expect_same};
use super::panel;
use super::typed::{cast, compute_dtype, literal};
use super::walk::{checked_type, operand, optional};
use super::window::{AutoPad, Taps, Window, advance};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::{Expr, ReduceOp};
use crate::kernel::loops::{Reduction, Store};
use crate::kernel::spec::{ConvSpec, Epilogue, View};
use crate::kernel::{EpilogueOperands, Kernel, Nest, Operand};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::{LowerCx, TensorView};
use edgec_runtime::pack;

/// The transpose of a convolution of `x[N, C, space…]` with `w[C, M/groups, kernel…]` and an optional
/// `bias[M]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvTranspose {
    /// Kernel extents (from the weights where absent), strides, dilations, pads.
    pub window: Window,
    /// `group`.
    pub groups: usize,
    /// `output_padding`: added behind each axis.
    pub output_padding: Option<Vec<usize>>,
    /// `output_shape`: extents of the result's space, which decide the pads.
    pub output_shape: Option<Vec<usize>>,
}

/// Everything resolved.
struct Geometry {
    batch: usize,
    groups: usize,
    group_in: usize,
    group_out: usize,
    input: Vec<usize>,
    output: Vec<usize>,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// Leading pads.
    begin: Vec<usize>,
}

impl OnnxOp for ConvTranspose {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("ConvTranspose", 1),
        OnnxName::onnx("ConvTranspose", 11),
        OnnxName::onnx("ConvTranspose", 22),
    ];

    fn import(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let window = Window::import(attrs)?;
        let groups = attrs.int_or("group", 1)?;
        let groups = usize::try_from(groups)
            .ok()
            .filter(|&g| g > 0)
            .ok_or_else(|| OpError::invalid(format!("`group` is {groups}")))?;
        let output_padding = super::window::extents(attrs, "output_padding", 0)?;
        let output_shape = super::window::extents(attrs, "output_shape", 0)?;
        Ok(ConvTranspose { window, groups, output_padding, output_shape }.into())
    }
}

impl ConvTranspose {
    fn geometry(&self, x: &[usize], w: &[usize]) -> Result<Geometry, OpError> {
        let ([batch, channels, input @ ..], [inputs, group_out, kernel @ ..]) = (x, w) else {
            return Err(OpError::invalid("`X` and `W` need a batch and a channel axis"));
        };
        let rank = input.len();
        if rank == 0 || x.len() != w.len() || channels != inputs || !channels.is_multiple_of(self.groups) {
            return Err(OpError::invalid(format!(
                "`X` {x:?} and `W` {w:?} do not fit each other in {} groups",
                self.groups
            )));
        }
        if self.window.kernel_shape.as_ref().is_some_and(|k| k != kernel) {
            return Err(OpError::invalid(format!("`kernel_shape` is not that of `W`, {kernel:?}")));
        }
        let list = |name: &str, values: &Option<Vec<usize>>, fill: usize, len: usize| match values {
            None => Ok(vec![fill; len]),
            Some(v) if v.len() == len => Ok(v.clone()),
            Some(v) => Err(OpError::invalid(format!("`{name}` has {} entries, expected {len}", v.len()))),
        };
        let strides = list("strides", &self.window.strides, 1, rank)?;
        let dilations = list("dilations", &self.window.dilations, 1, rank)?;
        let pads = list("pads", &self.window.pads, 0, 2 * rank)?;
        let behind = list("output_padding", &self.output_padding, 0, rank)?;
        // The batch and channel extents may stand in front.
        let shape = self.output_shape.as_ref().map(|s| match s.len() {
            n if n == rank + 2 => s[2..].to_vec(),
            _ => s.clone(),
        });
        let shape = shape.map(|s| list("output_shape", &Some(s), 0, rank)).transpose()?;
        let too_large = || OpError::Limit("the window's extents are too large".to_owned());
        let (mut output, mut begin) = (Vec::new(), Vec::new());
        for a in 0..rank {
            let (n, k, s) = (input[a], kernel[a], strides[a]);
            if n == 0 || k == 0 {
                return Err(OpError::invalid("an empty input or kernel cannot be transposed"));
            }
            let reach = (k - 1).checked_mul(dilations[a]).and_then(|r| r.checked_add(1 + behind[a]));
            let full = (n - 1).checked_mul(s).zip(reach).and_then(|(a, b)| a.checked_add(b));
            let full = full.ok_or_else(too_large)?;
            let same = matches!(self.window.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
            let wanted = match (&shape, same) {
                (Some(shape), _) => Some(shape[a]),
                (None, true) => Some(n.checked_mul(s).ok_or_else(too_large)?),
                (None, false) => None,
            };
            match wanted {
                Some(out) => {
                    // More than there is comes as zeros behind.
                    let total = full.saturating_sub(out);
                    let half = total / 2;
                    begin.push(if self.window.auto_pad == AutoPad::SameUpper { half } else { total - half });
                    output.push(out);
                }
                None => {
                    let valid = self.window.auto_pad == AutoPad::Valid;
                    let (front, back) = if valid { (0, 0) } else { (pads[a], pads[rank + a]) };
                    let out = full.checked_sub(front).and_then(|n| n.checked_sub(back));
                    output.push(out.ok_or_else(|| OpError::invalid("the pads exceed the result"))?);
                    begin.push(front);
                }
            }
        }
        Ok(Geometry {
            batch: *batch,
            groups: self.groups,
            group_in: channels / self.groups,
            group_out: *group_out,
            input: input.to_vec(),
            output,
            kernel: kernel.to_vec(),
            strides,
            dilations,
            begin,
        })
    }
}

impl Geometry {
    fn outputs(&self) -> usize {
        self.groups * self.group_out
    }

    fn shape(&self) -> Vec<usize> {
        [self.batch, self.outputs()].into_iter().chain(self.output.iter().copied()).collect()
    }

    /// Elements that the kernel spans along an axis.
    fn reach(&self, a: usize) -> usize {
        (self.kernel[a] - 1) * self.dilations[a] + 1
    }

    /// The convolution over the spread-out input.
    fn taps(&self) -> Taps {
        let rank = self.input.len();
        Taps {
            input: (0..rank).map(|a| self.output[a] + self.reach(a) - 1).collect(),
            output: self.output.clone(),
            kernel: self.kernel.clone(),
            strides: vec![1; rank],
            dilations: self.dilations.clone(),
            begin: vec![0; rank],
            end: vec![0; rank],
        }
    }
}

impl Op for ConvTranspose {
    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let (x, w) = (inputs.required(0)?, inputs.required(1)?);
        expect_float(x.dtype)?;
        expect_same(x.dtype, w.dtype, "W")?;
        let g = self.geometry(x.shape, w.shape)?;
        if let Some(b) = inputs.get(2) {
            expect_same(x.dtype, b.dtype, "B")?;
            if b.shape.dims() != [g.outputs()] {
                return Err(OpError::invalid(format!("`B` is {}, expected [{}]", b.shape, g.outputs())));
            }
        }
        Ok(vec![checked_type(x.dtype, g.shape())?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, w) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let g = self.geometry(x.shape(), w.shape())?;
        let y = by_class!(x.dtype(), N => {
            let mut y = scatter(&N::load(x)?, &N::load(w)?, &g);
            if let Some(b) = optional(inputs, 2) {
                let bias = N::load(b)?;
                let space: usize = g.output.iter().product();
                for (plane, values) in y.chunks_mut(space.max(1)).enumerate() {
                    let b = bias.get(plane % bias.len().max(1)).copied().unwrap_or(N::ZERO);
                    values.iter_mut().for_each(|v| *v = v.add(b));
                }
            }
            N::store(y, x.dtype(), g.shape().into())?
        });
        Ok(vec![y])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::ChannelsLast
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let missing = || OpError::internal("ConvTranspose without operands");
        let (dtype, x) = cx.input_type(0).ok_or_else(missing)?;
        let (_, w) = cx.input_type(1).ok_or_else(missing)?;
        let g = self.geometry(x, w)?;
        if g.shape().contains(&0) {
            return cx.write(0).map(|_| ());
        }
        let kernel = Taps::spatial(&g.kernel, 1).filter(|_| single(dtype) && !x.contains(&0));
        let spread = spread(cx, &g, if kernel.is_some() { DType::F32 } else { compute_dtype(dtype) })?;
        match kernel {
            Some(kernel) => by_kernel(cx, &g, &spread, kernel),
            None => by_nests(cx, &g, &spread, dtype),
        }
    }

    fn macs(&self, inputs: &[Option<Type>], _outputs: &[Type]) -> u64 {
        let elements = |i: usize| match inputs.get(i) {
            Some(Some(t)) => t.shape.elements() as u64,
            _ => 0,
        };
        let channels = match inputs.first() {
            Some(Some(x)) => x.shape.get(1).copied().unwrap_or(1).max(1) as u64,
            _ => 1,
        };
        elements(0).saturating_mul(elements(1) / channels)
    }
}

/// The definition: every input element adds the kernel to the output.
fn scatter<N: Number>(x: &[N], w: &[N], g: &Geometry) -> Vec<N> {
    let (size, out_size): (usize, usize) = (g.input.iter().product(), g.output.iter().product());
    let taps: usize = g.kernel.iter().product();
    let mut y = vec![N::ZERO; g.batch * g.outputs() * out_size];
    if y.is_empty() {
        return y;
    }
    let rank = g.input.len();
    // Where each pair of element and tap lands.
    let mut targets = Vec::with_capacity(size * taps);
    let mut at = vec![0; rank];
    for _ in 0..size {
        let mut tap = vec![0; rank];
        for _ in 0..taps {
            targets.push((0..rank).try_fold(0usize, |to, a| {
                let o = (at[a] * g.strides[a] + tap[a] * g.dilations[a]).checked_sub(g.begin[a])?;
                (o < g.output[a]).then_some(to * g.output[a] + o)
            }));
            advance(&mut tap, &g.kernel);
        }
        advance(&mut at, &g.input);
    }
    for n in 0..g.batch {
        for group in 0..g.groups {
            for c in 0..g.group_in {
                let channel = group * g.group_in + c;
                let from = &x[(n * g.groups * g.group_in + channel) * size..][..size];
                for m in 0..g.group_out {
                    let kernel = &w[(channel * g.group_out + m) * taps..][..taps];
                    let to = &mut y[((n * g.groups + group) * g.group_out + m) * out_size..][..out_size];
                    for (v, targets) in from.iter().zip(targets.chunks(taps)) {
                        for (k, target) in kernel.iter().zip(targets) {
                            if let Some(t) = target {
                                to[*t] = to[*t].add(v.mul(*k));
                            }
                        }
                    }
                }
            }
        }
    }
    y
}

/// The input with `stride - 1` zeros between its elements and enough around them that the result is an
/// unpadded convolution; channels last.
fn spread(cx: &mut LowerCx<'_>, g: &Geometry, dtype: DType) -> Result<TensorView, OpError> {
    let x = cx.read(0)?;
    let shape: Vec<usize> = x.shape.iter().take(2).copied().chain(g.taps().input).collect();
    let to = scratch_in(cx, "spread", dtype, &shape, &channels_last_order(shape.len()))?;
    let (mut extents, mut from, mut into) =
        (x.shape[..2].to_vec(), x.strides[..2].to_vec(), to.strides[..2].to_vec());
    let (mut skip, mut start) = (0isize, 0isize);
    for a in 0..g.input.len() {
        // Element `i` stands at `i·stride + reach - 1 - begin`; those outside take no part.
        let lead = signed(g.reach(a) - 1)? - signed(g.begin[a])?;
        let (stride, extent) = (signed(g.strides[a])?, signed(shape[a + 2])?);
        let first = if lead < 0 { (-lead).unsigned_abs().div_ceil(g.strides[a]) } else { 0 };
        let last = if extent > lead { ((extent - lead) as usize).div_ceil(g.strides[a]) } else { 0 };
        let last = last.min(g.input[a]);
        extents.push(last.saturating_sub(first));
        from.push(x.strides[a + 2]);
        into.push(to.strides[a + 2] * stride);
        skip += x.strides[a + 2] * signed(first)?;
        start += to.strides[a + 2] * (lead + signed(first)? * stride);
    }
    let nest = |extents: Vec<usize>, reads, store| Nest {
        extents,
        reduce: 0,
        reads,
        reductions: Vec::new(),
        stores: vec![store],
    };
    let zero = Store { access: access(&to, 0, vec![1])?, value: literal(dtype, 0.0) };
    let mut nests = vec![nest(vec![shape.iter().product()], Vec::new(), zero)];
    if !extents.contains(&0) {
        let value = cast(x.dtype, dtype, Expr::Read(0));
        let store = Store { access: access(&to, start, into)?, value };
        nests.push(nest(extents, vec![read(&x, skip, from)?], store));
    }
    push_nests(cx, nests);
    Ok(to)
}

fn by_kernel(cx: &mut LowerCx<'_>, g: &Geometry, x: &TensorView, kernel: [usize; 3]) -> Result<(), OpError> {
    let axes = |values: &[usize]| {
        Taps::spatial(values, 1).ok_or_else(|| OpError::internal("more than three spatial axes"))
    };
    let layout = pack::Conv { kernel, in_channels: g.group_in, out_channels: g.group_out, groups: g.groups };
    let w = weights(cx, g, layout)?;
    let bias = match cx.input_type(2) {
        Some(_) => Some(panel::vector(cx, 2, pack::Vector { channels: g.group_out, groups: g.groups })?),
        None => None,
    };
    let y = write_spatial(cx, 0)?;
    let view = View::channels_last(g.batch, axes(&g.taps().input)?, g.groups * g.group_in);
    cx.push(Kernel::Conv {
        spec: ConvSpec {
            x: view,
            y: y.view,
            residual: y.view,
            kernel,
            stride: [1; 3],
            dilation: axes(&g.dilations)?,
            pads: [0; 3],
            groups: g.groups,
            epilogue: Epilogue { bias: bias.is_some(), ..Epilogue::NONE },
        },
        x: x.operand,
        w,
        epilogue: EpilogueOperands { bias, ..EpilogueOperands::default() },
        y: y.operand,
    });
    y.finish(cx)
}

/// The weights as those of the convolution: channels exchanged within groups, taps turned around.
fn weights(cx: &mut LowerCx<'_>, g: &Geometry, layout: pack::Conv) -> Result<Operand, OpError> {
    if let Some(w) = cx.constant(1) {
        let plain = f32::load(w)?;
        let taps: usize = g.kernel.iter().product();
        let mut turned = Vec::with_capacity(plain.len());
        for group in 0..g.groups {
            for m in 0..g.group_out {
                for c in 0..g.group_in {
                    let start = ((group * g.group_in + c) * g.group_out + m) * taps;
                    turned.extend(plain[start..start + taps].iter().rev());
                }
            }
        }
        let mut packed = vec![0f32; layout.packed_len()];
        layout.pack(&turned, &mut packed)?;
        return Ok(cx.blob("weights", &packed));
    }
    let (w, ([sg, so, si], kernel)) = turned(cx, g)?;
    panel::conv_at_run_time(cx, &w, [sg, so, si], &kernel, layout)
}

/// Strides between groups, output and input channels; stride and extent of each kernel axis.
type WeightSteps = ([isize; 3], Vec<(isize, usize)>);

/// A view of run-time weights from their last tap, walked backwards along the kernel.
fn turned(cx: &mut LowerCx<'_>, g: &Geometry) -> Result<(TensorView, WeightSteps), OpError> {
    let mut w = cx.read(1)?;
    let mut kernel = Vec::new();
    for (&s, &k) in w.strides.iter().skip(2).zip(&g.kernel) {
        w.offset = w
            .offset
            .checked_add_signed(s * signed(k - 1)?)
            .ok_or_else(|| OpError::internal("weights start before their operand"))?;
        kernel.push((-s, k));
    }
    let (sc, sm) = (w.strides[0], w.strides[1]);
    Ok((w, ([sc * signed(g.group_in)?, sm, sc], kernel)))
}

fn by_nests(cx: &mut LowerCx<'_>, g: &Geometry, x: &TensorView, dtype: DType) -> Result<(), OpError> {
    let (w, ([sg, so, si], kernel)) = turned(cx, g)?;
    let bias = read_optional(cx, 2)?;
    let y = cx.write(0)?;
    let rank = g.input.len();
    let (group_in, group_out) = (signed(g.group_in)?, signed(g.group_out)?);
    let strides = |outer: [isize; 3], space: &[isize], inner: isize, taps: &[isize]| -> Vec<isize> {
        outer.iter().chain(space).chain([&inner]).chain(taps).copied().collect()
    };
    let still = vec![0; rank];
    let (steps, tap_steps) = window_strides(x, &g.taps());
    let turned: Vec<isize> = kernel.iter().map(|k| k.0).collect();
    let mut reads = vec![
        read(x, 0, strides([x.strides[0], x.strides[1] * group_in, 0], &steps, x.strides[1], &tap_steps))?,
        read(&w, 0, strides([0, sg, so], &still, si, &turned))?,
    ];
    let mut value = Expr::Acc(0);
    if let Some(b) = bias {
        let s = vector_stride(&b);
        reads.push(read(&b, 0, strides([0, s * group_out, s], &still, 0, &still))?);
        value = super::nest::add(value, Expr::Read(2));
    }
    let to = strides([y.strides[0], y.strides[1] * group_out, y.strides[1]], &y.strides[2..], 0, &still);
    let extents = [g.batch, g.groups, g.group_out]
        .into_iter()
        .chain(g.output.iter().copied())
        .chain([g.group_in])
        .chain(g.kernel.iter().copied())
        .collect();
    let product = mul(Expr::Read(0), Expr::Read(1));
    push(
        cx,
        Nest {
            extents,
            reduce: rank + 1,
            reads,
            reductions: vec![Reduction { op: ReduceOp::Sum, dtype: compute_dtype(dtype), value: product }],
            stores: vec![Store { access: access(&y, 0, to)?, value }],
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, f32s};
    use crate::onnx::Attr;

    fn one(attrs: &[(&str, Attr)], x: &[f32], w: &[f32]) -> Vec<f64> {
        let (x, w) = (f32s(&[1, 1, x.len()], x), f32s(&[1, 1, w.len()], w));
        apply("ConvTranspose", 11, attrs, &[&x, &w]).unwrap().to_f64_vec().unwrap()
    }

    #[test]
    fn strides_pads_and_output_padding() {
        let (x, w) = ([1., 10.], [1., 2., 3.]);
        assert_eq!(one(&[], &x, &w), [1., 12., 23., 30.]);
        let stride = ("strides", Attr::Ints(vec![2]));
        assert_eq!(one(std::slice::from_ref(&stride), &x, &w), [1., 2., 13., 20., 30.]);
        let pads = ("pads", Attr::Ints(vec![1, 1]));
        let behind = ("output_padding", Attr::Ints(vec![1]));
        assert_eq!(one(&[stride.clone(), pads.clone()], &x, &w), [2., 13., 20.]);
        assert_eq!(one(&[stride.clone(), pads, behind], &x, &w), [2., 13., 20., 30.]);
        let dilated = ("dilations", Attr::Ints(vec![2]));
        assert_eq!(one(&[dilated], &x, &w), [1., 10., 2., 20., 3., 30.]);
        let upper = ("auto_pad", Attr::String(b"SAME_UPPER".to_vec()));
        assert_eq!(one(&[stride.clone(), upper], &x, &w), [1., 2., 13., 20.]);
        let lower = ("auto_pad", Attr::String(b"SAME_LOWER".to_vec()));
        assert_eq!(one(&[stride.clone(), lower], &x, &w), [2., 13., 20., 30.]);
        assert_eq!(
            one(&[stride, ("output_shape", Attr::Ints(vec![6]))], &x, &w),
            [1., 2., 13., 20., 30., 0.]
        );
    }

    #[test]
    fn groups_and_bias() {
        let x = f32s(&[1, 2, 1], &[1., 10.]);
        let w = f32s(&[2, 2, 1], &[1., 2., 3., 4.]);
        let b = f32s(&[4], &[0., 0., 0., 5.]);
        let y = apply("ConvTranspose", 22, &[("group", Attr::Int(2))], &[&x, &w, &b]).unwrap();
        assert_eq!(y, f32s(&[1, 4, 1], &[1., 2., 30., 45.]));
        assert!(apply("ConvTranspose", 22, &[("group", Attr::Int(3))], &[&x, &w, &b]).is_err());
        assert!(apply("ConvTranspose", 22, &[("pads", Attr::Ints(vec![9, 9]))], &[&x, &w]).is_err());
    }
}
