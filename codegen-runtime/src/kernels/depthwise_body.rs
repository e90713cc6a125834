//! The body of depthwise convolutions: tiles of pixels by one panel of channels.

use crate::epilogue::{ActivationOf, Rows};
use crate::isa::{Isa, LANES, Level};
use crate::kernels::depthwise::{Job, weights, window};
use crate::kernels::layer::Known;
use crate::kernels::pixels::{Geometry, Pixels};
use crate::num::quotient;
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
        match I::LEVEL {
            Level::V4 => tiles::<I, 8, 2, K>(isa, job),
            Level::V3 | Level::V3Vnni => tiles::<I, 4, 2, K>(isa, job),
            Level::Scalar | Level::Neon | Level::NeonDot | Level::WasmSimd | Level::Armv7eM => {
                tiles::<I, 2, 1, K>(isa, job)
            }
        }
    }
}

/// Whether there are tiles of `p` pixels, and others at the end; all that is not excluded by a known spec.
const fn wide_tiles(spec: &Option<DepthwiseSpec>, p: usize) -> bool {
    match spec {
        Some(spec) => spec.y.pixels() >= p,
        None => true,
    }
}

const fn end_tiles(spec: &Option<DepthwiseSpec>, p: usize) -> bool {
    match spec {
        Some(spec) => !spec.y.pixels().is_multiple_of(p),
        None => true,
    }
}

/// Whether there is a narrow panel; likewise.
const fn narrow(spec: &Option<DepthwiseSpec>) -> bool {
    match spec {
        Some(spec) => Panels::of(spec.y.channels).narrow,
        None => true,
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

/// Goes through the part's tiles of `P` pixels, `S` at the end, and for each through all panels.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn tiles<I: Isa, const P: usize, const S: usize, K: Known<DepthwiseSpec>>(isa: I, job: &Job) {
    const { assert!(P <= MOST_PIXELS && S <= P) };
    let spec = job.spec;
    let geometry = Geometry::new(&window(spec), &spec.x, &spec.y, &spec.residual, spec.epilogue.residual);
    let pixels = geometry.pixels();
    if pixels == 0 || spec.y.channels == 0 {
        return;
    }
    let (full, rest) = (pixels / P, pixels % P);
    let (first, last) = job.part.share(full + rest.div_ceil(S));
    for tile in first..last {
        // SAFETY: the tile is below their number; the job was proved.
        unsafe {
            if const { wide_tiles(&K::SPEC, P) } && tile < full {
                let mut at = Pixels::<P>::EMPTY;
                geometry.place(tile * P, P, &mut at);
                panels::<I, P, K>(isa, job, &at);
            } else if const { end_tiles(&K::SPEC, P) } {
                let mut at = Pixels::<S>::EMPTY;
                geometry.place(full * P + (tile - full) * S, S, &mut at);
                panels::<I, S, K>(isa, job, &at);
            }
        }
    }
}

/// # Safety
/// As for [`run`]; `at` was placed by the spec's geometry.
#[inline(always)]
unsafe fn panels<I: Isa, const P: usize, K: Known<DepthwiseSpec>>(isa: I, job: &Job, at: &Pixels<P>) {
    let panels = Panels::of(job.spec.y.channels);
    // SAFETY: passed on; these are the panels of the weights' layout.
    unsafe {
        for panel in 0..panels.wide {
            one_panel::<I, P, LANES, K>(isa, job, at, panel * LANES);
        }
        if const { narrow(&K::SPEC) } && panels.narrow {
            one_panel::<I, P, NARROW, K>(isa, job, at, panels.wide * LANES);
        }
    }
}

/// # Safety
/// As for [`panels`]; a panel of `L` lanes starts at `channel`.
#[inline(always)]
unsafe fn one_panel<I: Isa, const P: usize, const L: usize, K: Known<DepthwiseSpec>>(
    isa: I,
    job: &Job,
    at: &Pixels<P>,
    channel: usize,
) {
    let spec = job.spec;
    let channels = (spec.y.channels - channel).min(L);
    let mut acc = [[isa.zero(); 1]; P];
    // SAFETY: `Direct` for neighbouring channels that fill the panel, `Gathered` for all others.
    unsafe {
        let direct = spec.multiplier == 1 && spec.x.c_stride == 1 && channels == L;
        if const { all_direct(&K::SPEC) } || direct {
            let lanes = Direct { x: job.x.wrapping_add(channel) };
            accumulate::<I, P, L>(isa, job, at, channel, &lanes, &mut acc);
        } else {
            let lanes = Gathered { x: job.x, spec, channel, channels };
            accumulate::<I, P, L>(isa, job, at, channel, &lanes, &mut acc);
        }
        let rows = Rows {
            epilogue: &spec.epilogue,
            vectors: job.vectors.starting_at(channel),
            channels,
            y: job.y.wrapping_add(channel * spec.y.c_stride),
            y_step: spec.y.c_stride,
            residual: job.residual.wrapping_add(channel * spec.residual.c_stride),
            r_step: spec.residual.c_stride,
        };
        rows.store_known::<I, P, 1, L, ActivationOf<DepthwiseSpec, K>>(
            isa,
            &acc,
            at.count,
            &at.y,
            &at.residual,
        );
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
/// As for [`one_panel`].
#[inline(always)]
unsafe fn accumulate<I: Isa, const P: usize, const L: usize>(
    isa: I,
    job: &Job,
    at: &Pixels<P>,
    channel: usize,
    lanes: &impl Lanes,
    acc: &mut [[I::P; 1]; P],
) {
    let spec = job.spec;
    let w = job.w.wrapping_add(weights(spec).index(channel, 0));
    let [extent_d, extent_h, extent_w] = spec.x.extent;
    let uniform = P == 1 || at.uniform;
    let all = [(0, spec.kernel[0]), (0, spec.kernel[1]), (0, spec.kernel[2])];
    let taps = if uniform { at.taps } else { all };
    let mut sum = *acc;
    for kd in taps[0].0..taps[0].1 {
        for ky in taps[1].0..taps[1].1 {
            for kx in taps[2].0..taps[2].1 {
                let tap = (kd * spec.kernel[1] + ky) * spec.kernel[2] + kx;
                let (d, h, v) = (kd * spec.dilation[0], ky * spec.dilation[1], kx * spec.dilation[2]);
                let offset = d * spec.x.strides[0] + h * spec.x.strides[1] + v * spec.x.strides[2];
                // SAFETY: the layout has L weights for each tap of the panel.
                let row = unsafe { isa.load_first::<L>(w.wrapping_add(tap * L)) };
                for p in 0..P {
                    let here = at.x[p] + offset as isize;
                    let value = if uniform || {
                        // Coordinates left of the image wrap to numbers beyond its extent.
                        let [pd, ph, pw] = at.corner[p];
                        (pd.wrapping_add(d) < extent_d)
                            & (ph.wrapping_add(h) < extent_h)
                            & (pw.wrapping_add(v) < extent_w)
                    } {
                        // SAFETY: this tap of the pixel lies inside the image.
                        unsafe { lanes.load::<I, L>(isa, here) }
                    } else {
                        isa.zero()
                    };
                    sum[p][0] = isa.fmadd_first::<L>(value, row, sum[p][0]);
                }
            }
        }
    }
    *acc = sum;
}
