//! The body of convolutions of bytes: order of tiles, and the register tile itself.

use core::marker::PhantomData;

use crate::epilogue_i8::Bytes;
use crate::isa::{Isa, LANES, Task, by_level};
use crate::kernels::conv_i8::{Job, residual, weights, window};
use crate::kernels::conv_i8_bands::{self, Each};
use crate::kernels::conv_i8_cut::{
    Block, Blocks, LARGE_WEIGHTS, Wide, end_tiles, one, pays, rows_of_tiles, several, single, wide,
    wide_tiles,
};
use crate::kernels::layer::Known;
use crate::kernels::pixels::{Geometry, Pixels};
use crate::mem::Part;
use crate::num::{quotient, remainder};
use crate::spec::ConvI8Spec;

/// Bytes of a pixel that are gathered at a time.
const GATHERED: usize = 128;

/// Runs the job's part; a `K` that knows the spec inlines the tiles.
///
/// # Safety
/// The job was proved: all that its spec can touch is valid, and outputs overlap no input.
#[inline(always)]
pub(crate) unsafe fn run<I: Isa, K: Known<ConvI8Spec>>(isa: I, job: &Job) {
    // SAFETY: passed on.
    unsafe {
        by_level! { I;
            Level::V4 => {
                if const { !matches!(single(&K::SPEC), Some(false)) } && job.spec.y.pixels() == 1 {
                    tiles::<I, 1, 1, 4, K, false>(isa, job);
                } else if const { matches!(single(&K::SPEC), Some(true)) } {
                    // Another is not compiled.
                } else if const { matches!(wide(&K::SPEC), Wide::Sixteen) } {
                    banded::<I, 16, 4, 1, K>(isa, job);
                } else if const { matches!(wide(&K::SPEC), Wide::Eight) } {
                    banded::<I, 8, 4, 2, K>(isa, job);
                } else {
                    banded::<I, 14, 7, 2, K>(isa, job);
                }
            },
            Level::V3 => banded::<I, 4, 1, 1, K>(isa, job),
            Level::V3Vnni => banded::<I, 6, 2, 1, K>(isa, job),
            Level::Scalar | Level::Neon | Level::NeonDot | Level::WasmSimd | Level::Armv7eM => {
                tiles::<I, 2, 1, 1, K, false>(isa, job)
            },
        }
    }
}

/// In bands where that pays.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn banded<I: Isa, const P: usize, const S: usize, const Q: usize, K: Known<ConvI8Spec>>(
    isa: I,
    job: &Job,
) {
    // SAFETY: passed on.
    unsafe {
        if const { !matches!(pays(&K::SPEC), Some(false)) } && conv_i8_bands::pays(job.spec) {
            let blocks = Blocks::of(quotient(job.spec.y.channels, job.spec.groups), Q);
            let all = blocks.per_group * job.spec.groups;
            conv_i8_bands::run(isa, job, all, &Bands::<P, S, Q, K>(PhantomData));
        } else if const { !matches!(pays(&K::SPEC), Some(true)) } {
            tiles::<I, P, S, Q, K, false>(isa, job);
        }
    }
}

/// The tiles of a band.
struct Bands<const P: usize, const S: usize, const Q: usize, K>(PhantomData<K>);

impl<const P: usize, const S: usize, const Q: usize, K: Known<ConvI8Spec>> Each for Bands<P, S, Q, K> {
    #[inline(always)]
    unsafe fn band<I: Isa>(&self, isa: I, job: &Job) {
        // SAFETY: passed on.
        unsafe { tiles::<I, P, S, Q, K, true>(isa, job) }
    }
}

/// Goes through the part's tiles and blocks: `P` pixels by `Q` panels, `S` pixels at the end.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn tiles<
    I: Isa,
    const P: usize,
    const S: usize,
    const Q: usize,
    K: Known<ConvI8Spec>,
    const BAND: bool,
>(
    isa: I,
    job: &Job,
) {
    const { assert!(S <= P) };
    let spec = job.spec;
    let geometry = Geometry::new(&window(spec), &spec.x, &spec.y, &spec.residual, residual(spec));
    let pixels = geometry.pixels();
    let blocks = Blocks::of(quotient(spec.y.channels, spec.groups), Q);
    let all_blocks = blocks.per_group * spec.groups;
    if pixels == 0 || all_blocks == 0 {
        return;
    }
    // A short remainder goes in tiles of S, a long one in one more tile of P.
    let (full, rest) = (pixels / P, pixels % P);
    let wide = full + (rest > 2 * S) as usize;
    let all_tiles = wide + if rest > 2 * S { 0 } else { rest.div_ceil(S) };

    let large = weights(spec).packed_len() > LARGE_WEIGHTS;
    let ((tile_0, tile_1), (block_0, block_1)) = if large && all_blocks >= job.part.count {
        ((0, all_tiles), job.part.share(all_blocks))
    } else {
        (job.part.share(all_tiles), (0, all_blocks))
    };
    let (mut at, mut at_end) = (Pixels::<P>::EMPTY, Pixels::<S>::EMPTY);
    // Block after block goes through all tiles, or all blocks through tile after tile. No closure here:
    // what is inlined into one would lack the level's instructions.
    let passes = if large { block_1 - block_0 } else { 1 };
    for pass in 0..passes {
        let (first, last) = if large { (block_0 + pass, block_0 + pass + 1) } else { (block_0, block_1) };
        for tile in tile_0..tile_1 {
            if large && first + 1 < block_1 {
                fetch(isa, spec, job.w, blocks.at(first + 1), Q, (tile - tile_0, tile_1 - tile_0));
            }
            // SAFETY: tile and blocks are below their numbers; the job was proved.
            unsafe {
                if const { BAND || wide_tiles(&K::SPEC, P, S) } && tile < wide {
                    geometry.place(tile * P, P, &mut at);
                    for block in first..last {
                        one_block::<I, P, Q, K, BAND>(isa, job, &at, blocks.at(block));
                    }
                } else if const { if BAND { !rows_of_tiles(&K::SPEC, P) } else { end_tiles(&K::SPEC, P, S) } }
                {
                    geometry.place(full * P + (tile - wide) * S, S, &mut at_end);
                    for block in first..last {
                        one_block::<I, S, Q, K, BAND>(isa, job, &at_end, blocks.at(block));
                    }
                }
            }
        }
    }
}

/// Blocks of more weights than that come by themselves: fetching them at once would hold up what is needed first.
const FETCHED: usize = 24 << 10;

/// Brings one of so many parts of a block's weights closer.
#[inline(always)]
fn fetch<I: Isa>(isa: I, spec: &ConvI8Spec, w: *const i8, block: Block, q: usize, part: (usize, usize)) {
    const LINE: usize = 64;
    let layout = weights(spec);
    let panel = layout.panel_len();
    if panel * q > FETCHED {
        return;
    }
    let from = w.wrapping_add(block.group * layout.group_len() + block.channel / LANES * panel);
    let (start, end) = Part { index: part.0, count: part.1 }.share(quotient(panel * q, LINE));
    for line in start..end {
        isa.prefetch_far(from.wrapping_add(line * LINE).cast());
    }
}

/// # Safety
/// As for [`run`]; `at` was placed by the spec's geometry, and `block` is one of the spec's.
#[inline(always)]
unsafe fn one_block<I: Isa, const P: usize, const Q: usize, K: Known<ConvI8Spec>, const BAND: bool>(
    isa: I,
    job: &Job,
    at: &Pixels<P>,
    block: Block,
) {
    if const { several(&K::SPEC, Q) } && block.several {
        call::<I, P, Q, K, BAND>(isa, Tile { job, at, block, known: PhantomData });
    } else if const { one(&K::SPEC, Q) } {
        call::<I, P, 1, K, BAND>(isa, Tile { job, at, block, known: PhantomData });
    }
}

#[inline(always)]
fn call<I: Isa, const P: usize, const Q: usize, K: Known<ConvI8Spec>, const BAND: bool>(
    isa: I,
    tile: Tile<P, Q, K, BAND>,
) {
    if const { K::SPEC.is_some() } { tile.run(isa) } else { isa.call(tile) }
}

/// The microkernel: `P` pixels by `Q` panels, a function of its own at each level.
///
/// Made by [`one_block`] only, of proved jobs.
struct Tile<'a, const P: usize, const Q: usize, K: Known<ConvI8Spec>, const BAND: bool> {
    job: &'a Job<'a>,
    at: &'a Pixels<P>,
    block: Block,
    known: PhantomData<K>,
}

impl<const P: usize, const Q: usize, K: Known<ConvI8Spec>, const BAND: bool> Task
    for Tile<'_, P, Q, K, BAND>
{
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let spec = self.job.spec;
        let numbers = self.job.numbers();
        let outputs = quotient(spec.y.channels, spec.groups);
        let channel = self.block.group * crate::pack::padded(outputs) + self.block.channel;
        // SAFETY: the job was proved and the tile placed, see `one_block`; the vectors are padded.
        unsafe {
            let bias: [I::N; Q] = core::array::from_fn(
                #[inline(always)]
                |q| numbers.biases(isa, channel + q * LANES),
            );
            let mut acc = [bias; P];
            if BAND || self.in_place(spec) {
                self.direct(isa, spec, &mut acc);
            } else if remainder(self.inputs(), 4) == 0 {
                self.by_tap(isa, spec, numbers.fill(), &mut acc);
            } else {
                self.gathered(isa, spec, numbers.fill(), &mut acc);
            }
            let first = self.block.group * outputs + self.block.channel;
            let bytes = Bytes {
                channels: (outputs - self.block.channel).min(Q * LANES),
                y: self.job.y.wrapping_add(first),
                residual: self.job.residual.wrapping_add(first),
            };
            numbers.store(isa, &acc, channel, &bytes, self.at.count, &self.at.y, &self.at.residual);
        }
    }
}

impl<const P: usize, const Q: usize, K: Known<ConvI8Spec>, const BAND: bool> Tile<'_, P, Q, K, BAND> {
    /// Input channels of a group.
    #[inline(always)]
    fn inputs(&self) -> usize {
        quotient(self.job.spec.x.channels, self.job.spec.groups)
    }

    /// First weight of the block, and the distance between its panels.
    #[inline(always)]
    fn weights(&self, spec: &ConvI8Spec) -> (*const i8, usize) {
        let layout = weights(spec);
        let panel = layout.panel_len();
        let first = self.block.group * layout.group_len() + self.block.channel / LANES * panel;
        (self.job.w.wrapping_add(first), panel)
    }

    /// First input channel of the block's group, of which the pixel positions count.
    #[inline(always)]
    fn input(&self) -> *const u8 {
        self.job.x.wrapping_add(self.block.group * self.inputs())
    }

    /// Whether the taps of a row and their channels lie behind one another.
    #[inline(always)]
    fn joined(&self, spec: &ConvI8Spec) -> bool {
        spec.kernel[2] == 1 || spec.dilation[2] * spec.x.strides[2] == self.inputs()
    }

    /// Whether all taps of all pixels can be read where they lie, in fours.
    #[inline(always)]
    fn in_place(&self, spec: &ConvI8Spec) -> bool {
        if !self.at.whole {
            return false;
        }
        if remainder(self.inputs(), 4) == 0 {
            return true;
        }
        // The last four of a row reaches up to 3 bytes beyond it, whose weights are zero. Where something else
        // lies between the pixels, another thread may be writing there.
        if spec.x.strides[2] != spec.x.channels {
            return false;
        }
        let layout = weights(spec);
        let reach: usize = (0..2).map(|a| (spec.kernel[a] - 1) * spec.dilation[a] * spec.x.strides[a]).sum();
        let first = self.block.group * self.inputs() + reach + 4 * layout.fours();
        let last = self.at.x.iter().fold(0, |a, &b| a.max(b)) as usize;
        self.joined(spec) && last + first <= self.job.x_len
    }

    /// Accumulates from the input in place.
    ///
    /// # Safety
    /// As for [`run`]; [`Tile::in_place`] holds.
    #[inline(always)]
    unsafe fn direct<I: Isa>(&self, isa: I, spec: &ConvI8Spec, acc: &mut [[I::N; Q]; P]) {
        let (inputs, x) = (self.inputs(), self.input());
        let (mut w, panel) = self.weights(spec);
        let at: [*const u8; P] = core::array::from_fn(
            #[inline(always)]
            |p| x.wrapping_offset(self.at.x[p]),
        );
        let step = spec.dilation[2] * spec.x.strides[2];
        let (runs, fours) =
            if self.joined(spec) { (1, weights(spec).fours()) } else { (spec.kernel[2], inputs / 4) };
        for kd in 0..spec.kernel[0] {
            for ky in 0..spec.kernel[1] {
                let mut offset =
                    kd * spec.dilation[0] * spec.x.strides[0] + ky * spec.dilation[1] * spec.x.strides[1];
                for _ in 0..runs {
                    // SAFETY: these taps of every pixel lie inside the image, or less than 4 bytes
                    // beyond it, in its operand and with nothing of others between; the weights have rows for each four.
                    unsafe { self.accumulate(isa, acc, &at, offset, w, panel, fours) };
                    w = w.wrapping_add(fours * 4 * LANES);
                    offset += step;
                }
            }
        }
    }

    /// Whether a tap of each pixel lies inside the image.
    #[inline(always)]
    fn inside(&self, spec: &ConvI8Spec, k: [usize; 3]) -> [bool; P] {
        let mut inside = [true; P];
        if self.at.whole {
            return inside;
        }
        for p in 0..P {
            for a in 0..3 {
                // Coordinates left of the image wrap to numbers beyond its extent.
                inside[p] &= self.at.corner[p][a].wrapping_add(k[a] * spec.dilation[a]) < spec.x.extent[a];
            }
        }
        inside
    }

    /// Accumulates tap by tap; those outside the image read the zero point.
    ///
    /// # Safety
    /// As for [`run`]; the channels of a group are a multiple of four.
    #[inline(always)]
    unsafe fn by_tap<I: Isa>(&self, isa: I, spec: &ConvI8Spec, fill: u32, acc: &mut [[I::N; Q]; P]) {
        let (inputs, x) = (self.inputs(), self.input());
        let (mut w, panel) = self.weights(spec);
        let outside = [fill; GATHERED / 4];
        for kd in 0..spec.kernel[0] {
            for ky in 0..spec.kernel[1] {
                for kx in 0..spec.kernel[2] {
                    let k = [kd, ky, kx];
                    let offset: usize = (0..3).map(|a| k[a] * spec.dilation[a] * spec.x.strides[a]).sum();
                    let inside = self.inside(spec, k);
                    let mut channel = 0;
                    while channel < inputs {
                        let at: [*const u8; P] = core::array::from_fn(
                            #[inline(always)]
                            |p| {
                                let here = x.wrapping_offset(self.at.x[p]).wrapping_add(offset + channel);
                                if inside[p] { here } else { outside.as_ptr().cast() }
                            },
                        );
                        let length = GATHERED.min(inputs - channel);
                        // SAFETY: each pixel's tap lies inside the image, or reads at most as many bytes as
                        // there are outside of it.
                        unsafe { self.accumulate(isa, acc, &at, 0, w, panel, length / 4) };
                        w = w.wrapping_add(length * LANES);
                        channel += length;
                    }
                }
            }
        }
    }

    /// Accumulates from rows of taps that are gathered first.
    ///
    /// # Safety
    /// As for [`run`].
    #[inline(always)]
    unsafe fn gathered<I: Isa>(&self, isa: I, spec: &ConvI8Spec, fill: u32, acc: &mut [[I::N; Q]; P]) {
        let (inputs, x) = (self.inputs(), self.input());
        let (mut w, panel) = self.weights(spec);
        let run = weights(spec).run();
        let mut rows = [[fill as u8; GATHERED]; P];
        for kd in 0..spec.kernel[0] {
            for ky in 0..spec.kernel[1] {
                let mut start = 0;
                while start < run {
                    let length = GATHERED.min(run - start);
                    let (mut kx, mut channel) = (quotient(start, inputs), remainder(start, inputs));
                    let mut done = 0;
                    while done < length {
                        let part = (inputs - channel).min(length - done);
                        let k = [kd, ky, kx];
                        let offset: usize = (0..3).map(|a| k[a] * spec.dilation[a] * spec.x.strides[a]).sum();
                        let inside = self.inside(spec, k);
                        for p in 0..P {
                            let from = x.wrapping_offset(self.at.x[p]).wrapping_add(offset + channel);
                            for i in 0..part.min(GATHERED - done) {
                                // SAFETY: the pixel's tap lies inside the image, and the channel in its group.
                                let value =
                                    if inside[p] { unsafe { from.add(i).read() } } else { fill as u8 };
                                rows[p][(done + i) % GATHERED] = value;
                            }
                        }
                        (kx, channel, done) = (kx + 1, 0, done + part);
                    }
                    let at: [*const u8; P] = core::array::from_fn(
                        #[inline(always)]
                        |p| rows[p].as_ptr(),
                    );
                    let fours = length.div_ceil(4);
                    // SAFETY: the rows hold as many bytes; the weights have rows for each four.
                    unsafe { self.accumulate(isa, acc, &at, 0, w, panel, fours) };
                    w = w.wrapping_add(fours * 4 * LANES);
                    start += length;
                }
            }
        }
    }

    /// The inner loop: `fours` times four bytes per pixel, times as many rows of each panel.
    ///
    /// # Safety
    /// `at[p] + offset + i` is readable for `i < 4·fours`, and as many rows of 64 values at
    /// `w + q·panel`, for all pixels and panels.
    #[inline(always)]
    unsafe fn accumulate<I: Isa>(
        &self,
        isa: I,
        acc: &mut [[I::N; Q]; P],
        at: &[*const u8; P],
        offset: usize,
        w: *const i8,
        panel: usize,
        fours: usize,
    ) {
        let (mut sum, at) = (*acc, *at);
        let (mut w, mut offset) = (w, offset);
        for _ in 0..fours {
            // SAFETY: the caller's promise.
            unsafe {
                let rows: [I::Rows; Q] = core::array::from_fn(
                    #[inline(always)]
                    |q| isa.load_rows(w.add(q * panel)),
                );
                for p in 0..P {
                    let four = at[p].wrapping_add(offset).cast::<u32>().read_unaligned();
                    let four = isa.four(four.to_le());
                    for q in 0..Q {
                        sum[p][q] = isa.dot(four, rows[q], sum[p][q]);
                    }
                }
            }
            w = w.wrapping_add(4 * LANES);
            offset += 4;
        }
        *acc = sum;
    }
}
