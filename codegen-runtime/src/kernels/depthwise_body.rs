//! The body of depthwise convolutions: tiles of neighbouring pixels of one row by one panel of channels.
//!
//! Where the kernel's width and stride are known, a tile goes along the columns of the input that it meets: each is
//! loaded once for all the outputs that it is under, and whether it lies inside the image is asked once.

use crate::epilogue::{ActivationOf, Rows};
use crate::isa::{Isa, LANES, by_level};
use crate::kernels::depthwise::{Job, weights, window};
use crate::kernels::layer::Known;
use crate::num::{ceiling, quotient, remainder};
use crate::pack::{NARROW, Panels};
use crate::spec::DepthwiseSpec;

/// The most pixels of a tile at any level.
pub(crate) const MOST_PIXELS: usize = 8;

/// Runs the job's part; a `K` that knows the spec inlines the tiles.
///
/// Tiles go outermost and panels innermost, as [`safe_lead`](crate::kernels::depthwise::safe_lead)
/// supposes.
///
/// # Safety
/// The job was proved: all that its spec can touch is valid, and outputs overlap inputs only as far
/// as `safe_lead` allows.
#[inline(always)]
pub(crate) unsafe fn run<I: Isa, K: Known<DepthwiseSpec>>(isa: I, job: &Job) {
    // SAFETY: passed on.
    unsafe {
        by_level! { I;
            Level::V4 => up_to::<I, 8, K>(isa, job),
            Level::V3 | Level::V3Vnni => up_to::<I, 4, K>(isa, job),
            Level::Scalar | Level::Neon | Level::NeonDot | Level::WasmSimd | Level::Armv7eM => {
                up_to::<I, 2, K>(isa, job)
            },
        }
    }
}

/// Pixels of a tile, `most` at most: where the width is known, so many that a row's tiles are about the same.
const fn tile_width(spec: &Option<DepthwiseSpec>, most: usize) -> usize {
    match spec {
        Some(spec) => {
            let width = spec.y.extent[2];
            let tiles = ceiling(width, most);
            if tiles == 0 { 1 } else { ceiling(width, tiles) }
        }
        None => most,
    }
}

/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn up_to<I: Isa, const MOST: usize, K: Known<DepthwiseSpec>>(isa: I, job: &Job) {
    macro_rules! widths {
        ($($p:literal)+) => {
            // SAFETY: passed on.
            unsafe { $(if const { tile_width(&K::SPEC, MOST) == $p } { tiles::<I, $p, K>(isa, job) })else+ }
        };
    }
    widths!(1 2 3 4 5 6 7 8);
}

/// Whether there is a narrow panel; where the spec is not known, the last panel is another matter.
const fn narrow(spec: &Option<DepthwiseSpec>) -> bool {
    match spec {
        Some(spec) => Panels::of(spec.y.channels).narrow,
        None => false,
    }
}

/// Whether every panel is known to be one of neighbouring input channels.
const fn all_direct(spec: &Option<DepthwiseSpec>) -> bool {
    match spec {
        Some(spec) => {
            let full = spec.y.channels == Panels::of(spec.y.channels).lanes();
            full && spec.multiplier == 1 && spec.x.c_stride == 1
        }
        None => false,
    }
}

/// Whether rows of the window are `kernel` taps side by side, moving by `stride`.
const fn moves(spec: &DepthwiseSpec, kernel: usize, stride: usize) -> bool {
    spec.kernel[2] == kernel && spec.stride[2] == stride && spec.dilation[2] == 1
}

/// The same where it may be so, for all that is known.
const fn may_move(spec: &Option<DepthwiseSpec>, kernel: usize, stride: usize) -> bool {
    match spec {
        Some(spec) => moves(spec, kernel, stride),
        None => true,
    }
}

/// Whether it moves in none of the ways that have code, for all that is known.
const fn may_move_otherwise(spec: &Option<DepthwiseSpec>) -> bool {
    match spec {
        Some(spec) => !(moves(spec, 3, 1) || moves(spec, 3, 2) || moves(spec, 5, 1) || moves(spec, 5, 2)),
        None => true,
    }
}

/// Pixels of one row of the output.
struct Tile {
    /// Pixels of the tile that exist.
    count: usize,
    /// Taps along depth and height that lie inside the image, `first..last`.
    taps: [(usize, usize); 2],
    /// Elements from the input's first to the first pixel's tap 0, which may lie in front of it.
    x: isize,
    /// The column of that tap, wrapping below 0.
    column: usize,
    /// Elements from the output's and the residual's first to the first pixel.
    y: usize,
    residual: usize,
}

impl Tile {
    /// The start of a row, with as many pixels as it has.
    #[inline(always)]
    fn row(spec: &DepthwiseSpec, row: usize) -> Tile {
        let [depth, height, width] = spec.y.extent;
        let (plane, h) = (quotient(row, height), remainder(row, height));
        let (n, d) = (quotient(plane, depth), remainder(plane, depth));
        let window = window(spec);
        let from = |axis: usize, at: usize| (at * spec.stride[axis]).wrapping_sub(spec.pads[axis]);
        let (x, y, r) = (&spec.x, &spec.y, &spec.residual);
        let (top, column) = ([from(0, d), from(1, h)], from(2, 0));
        Tile {
            count: width,
            taps: [window.taps(0, d, x.extent[0]), window.taps(1, h, x.extent[1])],
            x: (x.offset + n * x.n_stride) as isize
                + top[0] as isize * x.strides[0] as isize
                + top[1] as isize * x.strides[1] as isize
                + column as isize * x.strides[2] as isize,
            column,
            y: y.offset + n * y.n_stride + d * y.strides[0] + h * y.strides[1],
            residual: r.offset + n * r.n_stride + d * r.strides[0] + h * r.strides[1],
        }
    }

    /// At most `most` pixels from the row's pixel `w`, which exists.
    #[inline(always)]
    fn part(&self, spec: &DepthwiseSpec, w: usize, most: usize) -> Tile {
        let step = w * spec.stride[2];
        Tile {
            count: (self.count - w).min(most),
            taps: self.taps,
            x: self.x + (step * spec.x.strides[2]) as isize,
            column: self.column.wrapping_add(step),
            y: self.y + w * spec.y.strides[2],
            residual: self.residual + w * spec.residual.strides[2],
        }
    }
}

/// Goes through the part's tiles of `P` pixels, fewer at the ends of rows, and for each through all panels.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn tiles<I: Isa, const P: usize, K: Known<DepthwiseSpec>>(isa: I, job: &Job) {
    const { assert!(P <= MOST_PIXELS) };
    let spec = job.spec;
    let width = spec.y.extent[2];
    let rows = spec.y.batch * spec.y.extent[0] * spec.y.extent[1];
    if rows == 0 || width == 0 || spec.y.channels == 0 {
        return;
    }
    let each = ceiling(width, P);
    let (first, last) = job.part.share(rows * each);
    let (mut row, mut w) = (quotient(first, each), remainder(first, each) * P);
    let mut left = last - first;
    while left > 0 {
        let whole = Tile::row(spec, row);
        while w < width && left > 0 {
            // SAFETY: the row is below their number, and its pixel w exists; the job was proved.
            unsafe { panels::<I, P, K>(isa, job, &whole.part(spec, w, P)) };
            (w, left) = (w + P, left - 1);
        }
        (row, w) = (row + 1, 0);
    }
}

/// # Safety
/// As for [`run`]; `at` is a tile of the output, of `P` pixels at most.
#[inline(always)]
unsafe fn panels<I: Isa, const P: usize, K: Known<DepthwiseSpec>>(isa: I, job: &Job, at: &Tile) {
    let spec = job.spec;
    let channels = spec.y.channels;
    // SAFETY: passed on; these are the panels of the weights' layout.
    unsafe {
        if const { K::SPEC.is_none() } {
            // Whole panels of neighbours are worth code for each movement; all others share one.
            let neighbours = spec.multiplier == 1 && spec.x.c_stride == 1;
            let direct = if neighbours { quotient(channels, LANES) } else { 0 };
            for panel in 0..direct {
                one_panel::<I, P, LANES, K>(isa, job, at, panel * LANES);
            }
            let mut channel = direct * LANES;
            while channel < channels {
                any_panel::<I, P>(isa, job, at, channel);
                channel += LANES;
            }
            return;
        }
        let panels = Panels::of(channels);
        for panel in 0..panels.wide {
            one_panel::<I, P, LANES, K>(isa, job, at, panel * LANES);
        }
        if const { narrow(&K::SPEC) } {
            one_panel::<I, P, NARROW, K>(isa, job, at, panels.wide * LANES);
        }
    }
}

/// Where a tile's pixels go.
#[inline(always)]
fn starts<const P: usize>(first: usize, step: usize) -> [usize; P] {
    let mut starts = [first; P];
    for p in 1..P {
        starts[p] = first + p * step;
    }
    starts
}

/// # Safety
/// As for [`panels`]; a panel of `L` lanes starts at `channel`, and is one of neighbouring channels unless `K` knows
/// the spec.
#[inline(always)]
unsafe fn one_panel<I: Isa, const P: usize, const L: usize, K: Known<DepthwiseSpec>>(
    isa: I,
    job: &Job,
    at: &Tile,
    channel: usize,
) {
    let spec = job.spec;
    let channels = (spec.y.channels - channel).min(L);
    // SAFETY: `Direct` for neighbouring channels that fill the panel, `Gathered` for all others.
    unsafe {
        let direct = spec.multiplier == 1 && spec.x.c_stride == 1 && channels == L;
        let acc = if const { K::SPEC.is_none() || all_direct(&K::SPEC) } || direct {
            let lanes = Direct { x: job.x.wrapping_add(channel) };
            accumulate::<I, P, L, K>(isa, job, at, channel, &lanes)
        } else {
            let lanes = Gathered { x: job.x, spec, channel, channels };
            accumulate::<I, P, L, K>(isa, job, at, channel, &lanes)
        };
        rows(job, channel, channels).store_known::<I, P, 1, L, ActivationOf<DepthwiseSpec, K>>(
            isa,
            &acc,
            at.count,
            &starts(at.y, spec.y.strides[2]),
            &starts(at.residual, spec.residual.strides[2]),
        );
    }
}

/// Does `$row` for each row of taps that lies inside the image: `$x` is the place of its first tap for the tile's first
/// pixel, in elements from the input's first, `$w` its weights, of a panel of `$width` lanes from `$channel`.
///
/// Not a function of a closure: where LLVM leaves a closure out of line, it has none of the level's features, and
/// each intrinsic in it becomes a call.
macro_rules! each_row {
    ($job:expr, $channel:expr, $width:expr, $at:expr, |$x:ident, $w:ident| $row:block) => {{
        let (spec, at) = ($job.spec, $at);
        let weights = $job.w.wrapping_add(weights(spec).index($channel, 0));
        for kd in at.taps[0].0..at.taps[0].1 {
            for ky in at.taps[1].0..at.taps[1].1 {
                let (d, h) = (kd * spec.dilation[0], ky * spec.dilation[1]);
                let $x = at.x + (d * spec.x.strides[0] + h * spec.x.strides[1]) as isize;
                let $w = weights.wrapping_add((kd * spec.kernel[1] + ky) * spec.kernel[2] * $width);
                $row
            }
        }
    }};
}

/// A panel of any channels, by any window.
///
/// # Safety
/// As for [`panels`]; a panel starts at `channel`.
#[inline(always)]
unsafe fn any_panel<I: Isa, const P: usize>(isa: I, job: &Job, at: &Tile, channel: usize) {
    let spec = job.spec;
    let left = spec.y.channels - channel;
    let lanes = Gathered { x: job.x, spec, channel, channels: left.min(LANES) };
    let width = if left <= NARROW { NARROW } else { LANES };
    // SAFETY: passed on; a last panel of 8 channels at most is a narrow one.
    unsafe {
        let mut acc = [[isa.zero(); 1]; P];
        each_row!(job, channel, width, at, |x, w| {
            taps::<I, P, LANES>(isa, spec, at, &lanes, x, w, width, &mut acc);
        });
        rows(job, channel, lanes.channels).store_from_stack::<I, P, 1>(
            isa,
            &acc,
            at.count,
            &starts(at.y, spec.y.strides[2]),
            &starts(at.residual, spec.residual.strides[2]),
        );
    }
}

/// Where the values of `channels` channels from `channel` go.
#[inline(always)]
fn rows<'a>(job: &Job<'a>, channel: usize, channels: usize) -> Rows<'a> {
    let spec = job.spec;
    Rows {
        epilogue: &spec.epilogue,
        vectors: job.vectors.starting_at(channel),
        channels,
        y: job.y.wrapping_add(channel * spec.y.c_stride),
        y_step: spec.y.c_stride,
        residual: job.residual.wrapping_add(channel * spec.residual.c_stride),
        r_step: spec.residual.c_stride,
    }
}

/// How a panel's input values are read.
trait Lanes {
    /// The panel's input at a position, in elements from the input's first.
    ///
    /// # Safety
    /// The position is that of a pixel's tap inside the image.
    unsafe fn load<I: Isa, const L: usize>(&self, isa: I, at: isize) -> I::P;
}

/// `L` neighbouring channels.
struct Direct {
    x: *const f32,
}

impl Lanes for Direct {
    #[inline(always)]
    unsafe fn load<I: Isa, const L: usize>(&self, isa: I, at: isize) -> I::P {
        // SAFETY: the panel's channels of a pixel inside the image.
        unsafe { isa.load_first::<L>(self.x.wrapping_offset(at)) }
    }
}

/// Channels that are repeated, apart from one another, or fewer than lanes.
struct Gathered<'a> {
    x: *const f32,
    spec: &'a DepthwiseSpec,
    channel: usize,
    channels: usize,
}

impl Lanes for Gathered<'_> {
    #[inline(always)]
    unsafe fn load<I: Isa, const L: usize>(&self, isa: I, at: isize) -> I::P {
        let x = self.x.wrapping_offset(at);
        if self.spec.multiplier == 1 && self.spec.x.c_stride == 1 {
            // SAFETY: these channels of a pixel inside the image.
            return unsafe { isa.load_n(x.wrapping_add(self.channel), self.channels) };
        }
        let mut lanes = [0.0; LANES];
        for (i, lane) in lanes.iter_mut().enumerate().take(self.channels) {
            let input = quotient(self.channel + i, self.spec.multiplier);
            // SAFETY: an input channel of a pixel inside the image.
            *lane = unsafe { x.wrapping_add(input * self.spec.x.c_stride).read() };
        }
        isa.from_array(lanes)
    }
}

/// Accumulates over the taps inside the image.
///
/// # Safety
/// As for [`one_panel`]; `lanes` reads its channels.
#[inline(always)]
unsafe fn accumulate<I: Isa, const P: usize, const L: usize, K: Known<DepthwiseSpec>>(
    isa: I,
    job: &Job,
    at: &Tile,
    channel: usize,
    lanes: &impl Lanes,
) -> [[I::P; 1]; P] {
    let spec = job.spec;
    let mut acc = [[isa.zero(); 1]; P];
    macro_rules! moving {
        ($($kernel:literal by $stride:literal,)+) => {
            $(if const { may_move(&K::SPEC, $kernel, $stride) } && moves(spec, $kernel, $stride) {
                each_row!(job, channel, L, at, |x, w| {
                    // SAFETY: a row of taps inside the image, and its weights.
                    unsafe { columns::<I, P, L, $kernel, $stride>(isa, spec, at, lanes, x, w, &mut acc) }
                });
                return acc;
            })+
        };
    }
    moving! { 3 by 1, 3 by 2, 5 by 1, 5 by 2, }
    if const { may_move_otherwise(&K::SPEC) } {
        each_row!(job, channel, L, at, |x, w| {
            // SAFETY: a row of taps inside the image, and its weights.
            unsafe { taps::<I, P, L>(isa, spec, at, lanes, x, w, L, &mut acc) }
        });
    }
    acc
}

/// Accumulates a row of `KERNEL` taps side by side that moves by `STRIDE`, column by column of the input.
///
/// # Safety
/// As for [`accumulate`]; the row lies inside the image, its first tap of the first pixel at `x`, its weights at `w`.
#[inline(always)]
unsafe fn columns<I: Isa, const P: usize, const L: usize, const KERNEL: usize, const STRIDE: usize>(
    isa: I,
    spec: &DepthwiseSpec,
    at: &Tile,
    lanes: &impl Lanes,
    x: isize,
    w: *const f32,
    acc: &mut [[I::P; 1]; P],
) {
    const { assert!(KERNEL <= 5 && STRIDE <= 2 && P <= MOST_PIXELS) };
    let mut sum = *acc;
    let mut weights = [isa.zero(); KERNEL];
    for kx in 0..KERNEL {
        // SAFETY: the layout has L weights for each tap of the row.
        weights[kx] = unsafe { isa.load_first::<L>(w.wrapping_add(kx * L)) };
    }
    // Written out: the tile's sums stay in registers only where nothing indexes them by a variable.
    macro_rules! column {
        ($($c:literal)+) => {
            $(if const { $c < (P - 1) * STRIDE + KERNEL } {
                // Columns left of the image wrap to numbers beyond its extent.
                if at.column.wrapping_add($c) < spec.x.extent[2] {
                    // SAFETY: this column of the row lies inside the image.
                    let value = unsafe { lanes.load::<I, L>(isa, x + ($c * spec.x.strides[2]) as isize) };
                    tap!($c, value, 0 1 2 3 4);
                }
            })+
        };
    }
    macro_rules! tap {
        ($c:literal, $value:ident, $($kx:literal)+) => {
            $(if const { under($c, $kx, P, KERNEL, STRIDE) } {
                let p = const { if $c < $kx { 0 } else { ($c - $kx) / STRIDE } };
                sum[p][0] = isa.fmadd_first::<L>($value, weights[$kx], sum[p][0]);
            })+
        };
    }
    column!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18);
    *acc = sum;
}

/// Whether column `c` is under tap `kx` of one of `pixels` pixels.
const fn under(c: usize, kx: usize, pixels: usize, kernel: usize, stride: usize) -> bool {
    kx < kernel && c >= kx && (c - kx).is_multiple_of(stride) && (c - kx) / stride < pixels
}

/// Accumulates a row of any taps, whose weights are `width` apart, tap by tap.
///
/// # Safety
/// As for [`columns`].
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "what a row is, and what differs between those that call it")]
unsafe fn taps<I: Isa, const P: usize, const L: usize>(
    isa: I,
    spec: &DepthwiseSpec,
    at: &Tile,
    lanes: &impl Lanes,
    x: isize,
    w: *const f32,
    width: usize,
    acc: &mut [[I::P; 1]; P],
) {
    let mut sum = *acc;
    for kx in 0..spec.kernel[2] {
        let from = w.wrapping_add(kx * width);
        // SAFETY: the layout has `width` weights for each tap of the row.
        let row = unsafe { if L == width { isa.load_first::<L>(from) } else { isa.load_n(from, width) } };
        for p in 0..P {
            let column = kx * spec.dilation[2] + p * spec.stride[2];
            // Columns left of the image wrap to numbers beyond its extent.
            if at.column.wrapping_add(column) < spec.x.extent[2] {
                // SAFETY: this tap of the pixel lies inside the image.
                let value = unsafe { lanes.load::<I, L>(isa, x + (column * spec.x.strides[2]) as isize) };
                sum[p][0] = isa.fmadd_first::<L>(value, row, sum[p][0]);
            }
        }
    }
    *acc = sum;
}
