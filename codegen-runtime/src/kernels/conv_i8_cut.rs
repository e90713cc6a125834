//! How convolutions of bytes are cut: blocks of channels, tiles of pixels, and which of both there are.

use crate::isa::LANES;
use crate::kernels::conv_i8_bands;
use crate::num::{quotient, remainder};
use crate::spec::ConvI8Spec;

/// Weights above this go through memory once, tile after tile for each block of panels; below it the
/// input does, block after block for each tile. It is a part of the usual second-level cache.
pub(crate) const LARGE_WEIGHTS: usize = 256 << 10;

/// One block of output channels: panels that a tile computes together.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) group: usize,
    /// First channel within the group.
    pub(crate) channel: usize,
    /// `Q` panels, or one.
    pub(crate) several: bool,
}

/// How the output channels of each group divide into blocks of `q` panels.
pub(crate) struct Blocks {
    pub(crate) several: usize,
    pub(crate) per_group: usize,
    q: usize,
}

impl Blocks {
    #[inline(always)]
    pub(crate) fn of(channels: usize, q: usize) -> Blocks {
        let panels = channels.div_ceil(LANES);
        let several = if q > 1 { quotient(panels, q) } else { 0 };
        Blocks { several, per_group: several + (panels - several * q), q }
    }

    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> Block {
        let (group, i) = (quotient(index, self.per_group), remainder(index, self.per_group));
        if i < self.several {
            return Block { group, channel: i * self.q * LANES, several: true };
        }
        let panel = self.several * self.q + (i - self.several);
        Block { group, channel: panel * LANES, several: false }
    }
}

/// Whether there are blocks of `q` panels, of one; all that is not excluded by a known spec.
pub(crate) const fn several(spec: &Option<ConvI8Spec>, q: usize) -> bool {
    match spec {
        Some(spec) => q > 1 && panels(spec) >= q,
        None => q > 1,
    }
}

pub(crate) const fn one(spec: &Option<ConvI8Spec>, q: usize) -> bool {
    match spec {
        Some(spec) => q == 1 || !panels(spec).is_multiple_of(q),
        None => true,
    }
}

pub(crate) const fn panels(spec: &ConvI8Spec) -> usize {
    quotient(spec.y.channels, spec.groups).div_ceil(LANES)
}

/// Whether there are tiles of `p` pixels, and of `s` at the end; likewise.
pub(crate) const fn wide_tiles(spec: &Option<ConvI8Spec>, p: usize, s: usize) -> bool {
    match spec {
        Some(spec) => spec.y.pixels() >= p || spec.y.pixels() % p > 2 * s,
        None => true,
    }
}

pub(crate) const fn end_tiles(spec: &Option<ConvI8Spec>, p: usize, s: usize) -> bool {
    match spec {
        Some(spec) => spec.y.pixels() % p > 0 && spec.y.pixels() % p <= 2 * s,
        None => true,
    }
}

/// Whether every row of the output is made of whole tiles of `p` pixels.
pub(crate) const fn rows_of_tiles(spec: &Option<ConvI8Spec>, p: usize) -> bool {
    match spec {
        Some(spec) => spec.y.extent[2].is_multiple_of(p),
        None => false,
    }
}

/// Whether there is only one pixel, if that is known.
pub(crate) const fn single(spec: &Option<ConvI8Spec>) -> Option<bool> {
    match spec {
        Some(spec) => Some(spec.y.pixels() == 1),
        None => None,
    }
}

/// Pixels of a tile with as many registers as there are.
pub(crate) enum Wide {
    /// By two panels.
    Fourteen,
    /// By one panel.
    Sixteen,
    /// By two panels.
    Eight,
}

/// The tiles of which most end with a row: those that do not are placed pixel by pixel.
pub(crate) const fn wide(spec: &Option<ConvI8Spec>) -> Wide {
    let Some(spec) = spec else { return Wide::Fourteen };
    let width = spec.y.extent[2];
    let pointwise = spec.kernel[1] == 1 && spec.kernel[2] == 1;
    if pointwise || width.is_multiple_of(14) {
        return Wide::Fourteen;
    }
    if panels(spec) == 1 && width.is_multiple_of(16) {
        return Wide::Sixteen;
    }
    if width.is_multiple_of(8) { Wide::Eight } else { Wide::Fourteen }
}

/// Whether it goes through bands, if that is known.
pub(crate) const fn pays(spec: &Option<ConvI8Spec>) -> Option<bool> {
    match spec {
        Some(spec) => Some(conv_i8_bands::pays(spec)),
        None => None,
    }
}
