//! Extents, strides and options of kernels: plain data that the compiler fills in and emits as
//! `const` items, and that kernels take as arguments. All strides and offsets are in elements.

/// A spatial tensor in memory: batch, depth, height, width, channels, with any strides.
///
/// A 2-D image has `extent[0] == 1`, a 1-D signal also `extent[1] == 1`. Channels-last data has
/// `c_stride == 1`; a planar first-layer input has `strides[2] == 1`. Grouped or concatenated
/// parts of wider buffers have strides larger than their extents. Element `(n, d, h, w, c)` is at
/// `offset + n·n_stride + d·strides[0] + h·strides[1] + w·strides[2] + c·c_stride` of its slot;
/// a halo lies in front of `offset` and between rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Elements before the first interior element, from the slot's start.
    pub offset: usize,
    /// Number of images.
    pub batch: usize,
    /// Depth, height, width.
    pub extent: [usize; 3],
    /// Channels.
    pub channels: usize,
    /// Distance between images.
    pub n_stride: usize,
    /// Distance between neighbours along depth, height, width.
    pub strides: [usize; 3],
    /// Distance between channels.
    pub c_stride: usize,
}

impl View {
    /// Dense channels-last view at offset 0.
    pub const fn channels_last(batch: usize, extent: [usize; 3], channels: usize) -> Self {
        let w = channels;
        let h = w.saturating_mul(extent[2]);
        let d = h.saturating_mul(extent[1]);
        let n_stride = d.saturating_mul(extent[0]);
        View { offset: 0, batch, extent, channels, n_stride, strides: [d, h, w], c_stride: 1 }
    }

    /// Pixels of all images.
    #[inline(always)]
    pub const fn pixels(&self) -> usize {
        self.batch * self.extent[0] * self.extent[1] * self.extent[2]
    }

    /// One past the largest element index inside the interior (0 when empty). What no slot can hold is the largest
    /// number, so that a proof against a slot's length fails.
    pub const fn end(&self) -> usize {
        if self.batch == 0
            || self.extent[0] == 0
            || self.extent[1] == 0
            || self.extent[2] == 0
            || self.channels == 0
        {
            return 0;
        }
        self.offset
            .saturating_add((self.batch - 1).saturating_mul(self.n_stride))
            .saturating_add((self.extent[0] - 1).saturating_mul(self.strides[0]))
            .saturating_add((self.extent[1] - 1).saturating_mul(self.strides[1]))
            .saturating_add((self.extent[2] - 1).saturating_mul(self.strides[2]))
            .saturating_add((self.channels - 1).saturating_mul(self.c_stride))
            .saturating_add(1)
    }

    /// Whether no two elements share memory: sorted by stride, each axis steps over all that lies within it. What is
    /// written must be so, or parts of a layer on several threads would write the same bytes.
    pub const fn is_injective(&self) -> bool {
        let extents = [self.batch, self.extent[0], self.extent[1], self.extent[2], self.channels];
        let strides = [self.n_stride, self.strides[0], self.strides[1], self.strides[2], self.c_stride];
        let mut done = [false; 5];
        let mut reach = 1usize;
        let mut round = 0;
        while round < 5 {
            let mut least = 5;
            let mut i = 0;
            while i < 5 {
                if !done[i] && (least == 5 || strides[i] < strides[least]) {
                    least = i;
                }
                i += 1;
            }
            done[least] = true;
            if extents[least] == 0 {
                return true;
            }
            if extents[least] > 1 {
                if strides[least] < reach {
                    return false;
                }
                reach = reach.saturating_add((extents[least] - 1).saturating_mul(strides[least]));
            }
            round += 1;
        }
        true
    }
}

/// What happens to an accumulator before it is stored, in this order:
/// `acc·scale + bias`, residual if [`Residual::Before`], activation, residual if [`Residual::After`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epilogue {
    /// One bias per output channel, in the blob, padded to the panel width.
    pub bias: bool,
    /// Factor on the accumulator.
    pub scale: Scale,
    /// Addend read from a slot of the output's shape.
    pub residual: Residual,
    /// Activation function.
    pub activation: Activation,
}

impl Epilogue {
    /// Stores the accumulator as it is.
    pub const NONE: Epilogue =
        Epilogue { bias: false, scale: Scale::One, residual: Residual::None, activation: Activation::None };
}

/// Factor applied to accumulators.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// No factor.
    One,
    /// One factor for all.
    Uniform(f32),
    /// One factor per output channel, in the blob, padded to the panel width.
    PerChannel,
}

/// Where a residual is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// No residual.
    None,
    /// Before the activation.
    Before,
    /// After the activation.
    After,
}

/// Activation functions that kernels apply to `f32` accumulators.
#[derive(Debug, Clone, Copy, PartialEq)]
// The formulas above the variants say what their fields are.
#[allow(missing_docs)]
pub enum Activation {
    /// Identity.
    None,
    /// `max(x, 0)`, NaN kept.
    Relu,
    /// `min(max(x, lo), hi)`, NaN kept.
    Clip { lo: f32, hi: f32 },
    /// `x < 0 ? alpha·x : x`.
    LeakyRelu { alpha: f32 },
    /// `x < 0 ? slope[c]·x : x`, slopes in the blob, padded to the panel width.
    PRelu,
    /// `clip(alpha·x + beta, 0, 1)`.
    HardSigmoid { alpha: f32, beta: f32 },
    /// `x · clip(x/6 + 1/2, 0, 1)`.
    HardSwish,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x · sigmoid(alpha·x)`; SiLU for `alpha == 1`.
    Swish { alpha: f32 },
    /// `tanh(x)`.
    Tanh,
    /// `x/2 · (1 + erf(x/√2))`.
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
    GeluTanh,
    /// `x < 0 ? alpha·(exp(x) - 1) : x`.
    Elu { alpha: f32 },
    /// `ln(1 + exp(x))`.
    Softplus,
}

/// Convolution, `f32`. ONNX Conv with every stride, dilation, padding and group count.
///
/// `y[n, o, m] = epilogue(Σ x[n, o·stride + k·dilation - pads, g·icg + i] · w[m, i, k])`.
/// Taps outside `x.extent` are skipped (edge tiles peeled); with a halo the compiler shifts
/// `x.offset`, enlarges `x.extent` and sets `pads` to 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvSpec {
    /// Input; `channels` counts all groups.
    pub x: View,
    /// Output; `channels` counts all groups.
    pub y: View,
    /// Residual addend's view, of the output's extents; ignored without residual.
    pub residual: View,
    /// Kernel extents.
    pub kernel: [usize; 3],
    /// Strides.
    pub stride: [usize; 3],
    /// Dilations.
    pub dilation: [usize; 3],
    /// Leading pads (trailing pads follow from the output's extent).
    pub pads: [usize; 3],
    /// Groups; input channels of a group are `x.channels / groups`.
    pub groups: usize,
    /// What happens before the store.
    pub epilogue: Epilogue,
}

/// Depthwise convolution, `f32`: `groups == x.channels`, `y.channels == x.channels · multiplier`.
/// With `multiplier > 1` output channel `c·multiplier + j` reads input channel `c`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DepthwiseSpec {
    /// Input.
    pub x: View,
    /// Output.
    pub y: View,
    /// Residual addend's view.
    pub residual: View,
    /// Kernel extents.
    pub kernel: [usize; 3],
    /// Strides.
    pub stride: [usize; 3],
    /// Dilations.
    pub dilation: [usize; 3],
    /// Leading pads.
    pub pads: [usize; 3],
    /// Output channels per input channel.
    pub multiplier: usize,
    /// What happens before the store.
    pub epilogue: Epilogue,
}

/// Convolution of unsigned by signed bytes with exact sums of 32 bits, requantized to bytes; also depthwise ones
/// (`groups == x.channels == y.channels`) and, with one tap, matrix products.
///
/// `y = steps(bias[m] + Σ x[n, o·stride + k·dilation - pads, g·icg + i] · w[m, i, k])`, where taps outside
/// `x.extent` read the input's zero point. Channels are innermost in all views (`c_stride == 1`). Numbers come from
/// a constant in the layout of [`pack::Requant`](crate::pack::Requant).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvI8Spec {
    /// Input; `channels` counts all groups.
    pub x: View,
    /// Output; `channels` counts all groups.
    pub y: View,
    /// Addend's view, of the output's extents; ignored without [`RequantSteps::add`].
    pub residual: View,
    /// Kernel extents.
    pub kernel: [usize; 3],
    /// Strides.
    pub stride: [usize; 3],
    /// Dilations.
    pub dilation: [usize; 3],
    /// Leading pads.
    pub pads: [usize; 3],
    /// Groups.
    pub groups: usize,
    /// What follows the first rounding.
    pub steps: RequantSteps,
    /// Of windows without weights: the largest byte instead of the sum.
    pub largest: bool,
}

/// What happens to a sum on its way to a byte, in this order; each step ends with rounding to the nearest integer,
/// ties to even, and a clamp, and the last adds the zero point:
/// the channel's factor, always; a factor; an addend; a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequantSteps {
    /// Another factor behind the first: two quantized steps of a model in one kernel.
    pub rescale: bool,
    /// `q·f + (r - zero)·g` with a residual of unsigned bytes; both factors are such that the sum is exact.
    pub add: bool,
    /// Another factor behind that.
    pub last: bool,
}

/// Matrix product, `f32`: `y[b, m, n] = epilogue(Σ_k a[b, m, k] · w[b, k, n])`.
///
/// `w` is in panels of 16 columns (`pack::gemm`), constant in the blob or packed at run time into
/// a slot. `m == 1` streams the panels (GEMV). `k` runs contiguously in `a`, `n` in `y`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatMulSpec {
    /// Batches.
    pub batch: usize,
    /// Rows of `a` and `y`.
    pub m: usize,
    /// Columns of `y`.
    pub n: usize,
    /// Inner extent.
    pub k: usize,
    /// First element of `a` in its slot.
    pub a_offset: usize,
    /// Distance between rows of `a`.
    pub a_stride: usize,
    /// Distance between batches of `a` (0 repeats).
    pub a_batch: usize,
    /// Distance between batches of packed `w` (0 repeats).
    pub w_batch: usize,
    /// First element of `y` in its slot.
    pub y_offset: usize,
    /// Distance between rows of `y`.
    pub y_stride: usize,
    /// Distance between batches of `y`.
    pub y_batch: usize,
    /// First element of the residual in its slot.
    pub r_offset: usize,
    /// Distance between rows of the residual (0 repeats one row).
    pub r_stride: usize,
    /// Distance between batches of the residual.
    pub r_batch: usize,
    /// What happens before the store.
    pub epilogue: Epilogue,
}

/// Kinds of pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// Largest value of the window; NaN wins; an empty window gives the lowest value.
    Max,
    /// Mean over the taps inside the image.
    AverageExcludePad,
    /// Mean over the taps inside the padded image (`count_include_pad = 1`).
    AverageIncludePad,
}

/// Pooling, `f32`. Global pooling has `kernel == x.extent`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoolSpec {
    /// Max or average.
    pub kind: PoolKind,
    /// Input.
    pub x: View,
    /// Output.
    pub y: View,
    /// Window.
    pub kernel: [usize; 3],
    /// Strides.
    pub stride: [usize; 3],
    /// Dilations.
    pub dilation: [usize; 3],
    /// Leading pads.
    pub pads: [usize; 3],
    /// Trailing pads as given by the model; taps beyond them are not counted even when padding is
    /// (windows that `ceil_mode` lets run over).
    pub pads_end: [usize; 3],
    /// Activation on the result.
    pub activation: Activation,
}

/// Softmax over `len` of `[outer, len, inner]`, `f32`, with the maximum subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoftmaxSpec {
    /// Slices.
    pub outer: usize,
    /// Extent of the axis.
    pub len: usize,
    /// Contiguous elements behind the axis.
    pub inner: usize,
    /// LogSoftmax instead.
    pub log: bool,
}

/// Kinds of row normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `(x - mean) / sqrt(var + epsilon)`, variance of the population.
    Layer,
    /// `x / sqrt(mean(x²) + epsilon)`.
    Rms,
}

/// Normalisation of rows of `len` contiguous values, `f32`:
/// `y = normalised · scale[i] + bias[i]`, scale and bias of `len` values in the blob when present.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormSpec {
    /// Which statistics.
    pub kind: NormKind,
    /// Rows.
    pub rows: usize,
    /// Values in a row.
    pub len: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether a scale follows.
    pub scale: bool,
    /// Whether a bias follows.
    pub bias: bool,
}

/// Recurrent cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecurrentKind {
    /// Gates i, o, f, c; logistic, and hyperbolic tangents.
    Lstm,
    /// Gates z, r, h; the reset gate is applied to the product (`linear_before_reset`).
    Gru,
}

impl RecurrentKind {
    /// Gates of a unit.
    pub const fn gates(self) -> usize {
        match self {
            RecurrentKind::Lstm => 4,
            RecurrentKind::Gru => 3,
        }
    }
}

/// One direction of a recurrent operator, `f32`. Units go in panels of 16.
///
/// The projection of step `t` of sample `n` begins at `t·x_step + n·x_batch`: for each panel of units, 16 values of
/// each gate in turn, zeros where there is no unit. Its hidden state goes to `y_offset + t·y_step + n·y_batch`.
/// First and last states of sample `n` lie at `state_offset + n·state_batch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecurrentSpec {
    /// Which cell.
    pub kind: RecurrentKind,
    /// Elements of the sequence.
    pub steps: usize,
    /// Samples.
    pub batch: usize,
    /// Units.
    pub hidden: usize,
    /// From the last element to the first.
    pub backwards: bool,
    /// Distance between steps of the projections.
    pub x_step: usize,
    /// Distance between samples of the projections.
    pub x_batch: usize,
    /// First of the hidden states in its slot.
    pub y_offset: usize,
    /// Distance between steps of the hidden states.
    pub y_step: usize,
    /// Distance between samples of the hidden states.
    pub y_batch: usize,
    /// First element of first and last states in their slots.
    pub state_offset: usize,
    /// Distance between samples of states.
    pub state_batch: usize,
}

impl RecurrentSpec {
    /// Values of a step's projections.
    pub const fn x_run(&self) -> usize {
        crate::pack::padded_len(self.hidden).saturating_mul(self.kind.gates())
    }

    /// Values up to the end of the projections.
    pub const fn x_end(&self) -> usize {
        end(0, [(self.steps, self.x_step), (self.batch, self.x_batch)], self.x_run())
    }

    /// Values up to the end of the hidden states.
    pub const fn y_end(&self) -> usize {
        end(self.y_offset, [(self.steps, self.y_step), (self.batch, self.y_batch)], self.hidden)
    }

    /// Values up to the end of a state.
    pub const fn state_end(&self) -> usize {
        end(self.state_offset, [(1, 0), (self.batch, self.state_batch)], self.hidden)
    }

    /// Values of scratch: two hidden states that take turns, and a cell state.
    pub const fn scratch_len(&self) -> usize {
        crate::pack::padded_len(self.hidden).saturating_mul(3)
    }
}

/// Values up to the last one of runs that two loops reach; 0 where there are none.
const fn end(offset: usize, loops: [(usize, usize); 2], run: usize) -> usize {
    if loops[0].0 == 0 || loops[1].0 == 0 || run == 0 {
        return 0;
    }
    offset
        .saturating_add((loops[0].0 - 1).saturating_mul(loops[0].1))
        .saturating_add((loops[1].0 - 1).saturating_mul(loops[1].1))
        .saturating_add(run)
}

/// Packs a run-time matrix into panels of 16 columns: element `(k, n)` of batch `b` is at
/// `offset + b·batch_stride + k·k_stride + n·n_stride`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackSpec {
    /// Batches.
    pub batch: usize,
    /// Rows.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// First element in the slot.
    pub offset: usize,
    /// Distance between batches.
    pub batch_stride: usize,
    /// Distance between rows.
    pub k_stride: usize,
    /// Distance between columns.
    pub n_stride: usize,
}

/// First half of a 3×3 convolution of stride 1 by Winograd's algorithm: patches of `tile + 2` by `tile + 2`
/// pixels, transformed, `f32`.
///
/// The result has a plane for each of the `(tile + 2)²` values of a patch, row-major; a plane has a row for each
/// patch (image, patch row, patch column), whose channels are filled with zeros to multiples of 16. One matrix
/// product per plane follows, then [`WinogradOutputSpec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WinogradInputSpec {
    /// Input: images of depth 1, channels innermost.
    pub x: View,
    /// Leading pads of height and width.
    pub pads: [usize; 2],
    /// Output pixels of a patch along each side: 2 or 4.
    pub tile: usize,
    /// Output row that the first patch row starts with.
    pub first: usize,
    /// Patch rows and columns.
    pub patches: [usize; 2],
    /// Elements from plane to plane.
    pub plane: usize,
}

impl WinogradInputSpec {
    /// Patches of all images.
    #[inline(always)]
    pub const fn rows(&self) -> usize {
        self.x.batch.saturating_mul(self.patches[0]).saturating_mul(self.patches[1])
    }
}

/// Second half of a 3×3 convolution by Winograd's algorithm: products back to pixels, `f32`.
///
/// The planes lie as [`WinogradInputSpec`] says, with the output's channels and patches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WinogradOutputSpec {
    /// Output: images of depth 1, or rows of them.
    pub y: View,
    /// Addend, of the output's extents.
    pub residual: View,
    /// Output pixels of a patch along each side: 2 or 4.
    pub tile: usize,
    /// Elements from plane to plane.
    pub plane: usize,
    /// What happens before the store.
    pub epilogue: Epilogue,
}

impl WinogradOutputSpec {
    /// Patch rows and columns.
    #[inline(always)]
    pub const fn patches(&self) -> [usize; 2] {
        let [_, height, width] = self.y.extent;
        [crate::num::ceiling(height, self.tile), crate::num::ceiling(width, self.tile)]
    }

    /// Patches of all images.
    #[inline(always)]
    pub const fn rows(&self) -> usize {
        self.y.batch.saturating_mul(self.patches()[0]).saturating_mul(self.patches()[1])
    }
}
