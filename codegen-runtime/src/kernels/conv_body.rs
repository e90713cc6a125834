//! The body of convolutions: order of tiles, and the register tile itself.

use core::marker::PhantomData;

use crate::epilogue::{ActivationOf, Rows};
use crate::isa::{Isa, LANES, Task, by_level};
use crate::kernels::conv::{Job, weights, window};
use crate::kernels::layer::Known;
use crate::kernels::pixels::{Geometry, Pixels};
use crate::num::{quotient, remainder};
use crate::pack::{NARROW, Panels};
use crate::spec::ConvSpec;

/// The most pixels of a tile at any level.
pub(crate) const MOST_PIXELS: usize = 14;

/// Weights above this go through memory once, tile after tile for each block of panels; below it the
/// input does, block after block for each tile. It is a part of the usual second-level cache.
const LARGE_WEIGHTS: usize = 256 << 10;

/// Rows of a panel between its use and the one that is asked for then: panels stream from the second-level cache.
const AHEAD: usize = 32;

/// What taps outside the image read.
static ZEROS: [f32; 256] = [0.0; 256];

/// Runs the job's part; a `K` that knows the spec inlines the tiles.
///
/// # Safety
/// The job was proved: all that its spec can touch is valid, and outputs overlap inputs only as far
/// as [`safe_lead`](crate::kernels::conv::safe_lead) allows and then with `ordered`.
#[inline(always)]
pub(crate) unsafe fn run<I: Isa, K: Known<ConvSpec>>(isa: I, job: &Job) {
    // SAFETY: passed on.
    unsafe {
        by_level! { I;
            Level::V4 => tiles::<I, 14, 7, 2, K>(isa, job),
            Level::V3 | Level::V3Vnni => tiles::<I, 6, 2, 1, K>(isa, job),
            Level::Scalar | Level::Neon | Level::NeonDot | Level::WasmSimd | Level::Armv7eM => {
                tiles::<I, 2, 1, 1, K>(isa, job)
            },
        }
    }
}

/// One block of output channels: panels that a tile computes together.
#[derive(Clone, Copy)]
struct Block {
    group: usize,
    /// First channel within the group.
    channel: usize,
    /// Panels: `Q`, one, or one narrow.
    shape: Shape,
}

#[derive(Clone, Copy)]
enum Shape {
    Several,
    One,
    Narrow,
}

/// How the output channels of each group divide into blocks of `q` panels.
struct Blocks {
    panels: Panels,
    several: usize,
    per_group: usize,
    q: usize,
}

impl Blocks {
    #[inline(always)]
    fn of(channels: usize, q: usize) -> Blocks {
        let panels = Panels::of(channels);
        let several = if q > 1 { quotient(panels.wide, q) } else { 0 };
        let per_group = several + (panels.wide - several * q) + panels.narrow as usize;
        Blocks { panels, several, per_group, q }
    }

    #[inline(always)]
    fn at(&self, index: usize) -> Block {
        // Most convolutions have one group, and divisions take their time.
        let (group, i) = if index < self.per_group {
            (0, index)
        } else {
            (quotient(index, self.per_group), remainder(index, self.per_group))
        };
        if i < self.several {
            return Block { group, channel: i * self.q * LANES, shape: Shape::Several };
        }
        let panel = self.several * self.q + (i - self.several);
        let shape = if panel < self.panels.wide { Shape::One } else { Shape::Narrow };
        Block { group, channel: panel * LANES, shape }
    }
}

/// What all groups of a convolution share, worked out once for all tiles.
struct Group {
    /// Input channels.
    inputs: usize,
    /// Output channels.
    outputs: usize,
    /// Weights of an output channel.
    rows: usize,
    /// Packed weights.
    len: usize,
    /// Channels that can be read from the zeros at the input's step.
    chunk: usize,
}

impl Group {
    #[inline(always)]
    fn of(spec: &ConvSpec) -> Group {
        let layout = weights(spec);
        let inputs = layout.in_channels;
        let chunk = quotient(ZEROS.len() - 1, spec.x.c_stride) + 1;
        Group {
            inputs,
            outputs: layout.out_channels,
            rows: layout.rows(),
            len: layout.group_len(),
            chunk: if chunk < inputs { chunk } else { inputs },
        }
    }
}

/// The most pixels at the end that tiles of `s` take: as many more go in a tile of `p`.
const fn short(p: usize, s: usize) -> usize {
    if 2 * s < p { 2 * s } else { s }
}

/// Whether there are tiles of `p` pixels, and of `s` at the end; all that is not excluded by a known spec.
const fn wide_tiles(spec: &Option<ConvSpec>, p: usize, s: usize) -> bool {
    match spec {
        Some(spec) => spec.y.pixels() >= p || spec.y.pixels() % p > short(p, s),
        None => true,
    }
}

const fn end_tiles(spec: &Option<ConvSpec>, p: usize, s: usize) -> bool {
    match spec {
        Some(spec) => spec.y.pixels() % p > 0 && spec.y.pixels() % p <= short(p, s),
        None => true,
    }
}

/// Whether there are blocks of `q` panels, of one, of one narrow; likewise.
const fn several(spec: &Option<ConvSpec>, q: usize) -> bool {
    match spec {
        Some(spec) => q > 1 && panels(spec).wide >= q,
        None => q > 1,
    }
}

const fn one(spec: &Option<ConvSpec>, q: usize) -> bool {
    match spec {
        Some(spec) => q == 1 || !panels(spec).wide.is_multiple_of(q),
        None => true,
    }
}

const fn narrow(spec: &Option<ConvSpec>) -> bool {
    match spec {
        Some(spec) => panels(spec).narrow,
        None => true,
    }
}

const fn panels(spec: &ConvSpec) -> Panels {
    Panels::of(quotient(spec.y.channels, spec.groups))
}

/// Whether all taps of all pixels are known to lie inside the image.
const fn no_edges(spec: &Option<ConvSpec>) -> bool {
    match spec {
        Some(spec) => window(spec).stays_inside(&spec.x, &spec.y),
        None => false,
    }
}

/// Goes through the part's tiles and blocks: `P` pixels by `Q` panels, `S` pixels at the end.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn tiles<I: Isa, const P: usize, const S: usize, const Q: usize, K: Known<ConvSpec>>(
    isa: I,
    job: &Job,
) {
    const { assert!(P <= MOST_PIXELS && S <= P) };
    let spec = job.spec;
    let geometry = Geometry::new(&window(spec), &spec.x, &spec.y, &spec.residual, spec.epilogue.residual);
    let pixels = geometry.pixels();
    let of_all = Group::of(spec);
    let blocks = Blocks::of(of_all.outputs, Q);
    let all_blocks = blocks.per_group * spec.groups;
    if pixels == 0 || all_blocks == 0 {
        return;
    }
    // A short remainder goes in tiles of S, a long one in one more tile of P.
    let (full, rest) = (pixels / P, pixels % P);
    let long = rest > const { short(P, S) };
    let wide = full + long as usize;
    let all_tiles = wide + if long { 0 } else { rest.div_ceil(S) };

    let large = of_all.len * spec.groups * size_of::<f32>() > LARGE_WEIGHTS;
    let by_block = large && !job.ordered;
    let ((tile_0, tile_1), (block_0, block_1)) = if by_block && all_blocks >= job.part.count {
        ((0, all_tiles), job.part.share(all_blocks))
    } else {
        (job.part.share(all_tiles), (0, all_blocks))
    };
    let (mut at, mut at_end) = (Pixels::<P>::EMPTY, Pixels::<S>::EMPTY);
    // Block after block goes through all tiles, or all blocks through tile after tile. No closure here:
    // what is inlined into one would lack the level's instructions.
    let passes = if by_block { block_1 - block_0 } else { 1 };
    for pass in 0..passes {
        let (first, last) = if by_block { (block_0 + pass, block_0 + pass + 1) } else { (block_0, block_1) };
        for tile in tile_0..tile_1 {
            // The next block's weights are on their way while the first tiles use this one's.
            let far = if tile - tile_0 < Q { Q + (tile - tile_0) } else { 0 };
            // SAFETY: tile and blocks are below their numbers; the job was proved.
            unsafe {
                if const { wide_tiles(&K::SPEC, P, S) } && tile < wide {
                    geometry.place(tile * P, P, &mut at);
                    for block in first..last {
                        one_block::<I, P, Q, K>(isa, job, &of_all, &at, blocks.at(block), far);
                    }
                } else if const { end_tiles(&K::SPEC, P, S) } {
                    geometry.place(full * P + (tile - wide) * S, S, &mut at_end);
                    for block in first..last {
                        one_block::<I, S, Q, K>(isa, job, &of_all, &at_end, blocks.at(block), far);
                    }
                }
            }
        }
    }
}

/// # Safety
/// As for [`run`]; `at` was placed by the spec's geometry, and `block` is one of the spec's.
#[inline(always)]
unsafe fn one_block<I: Isa, const P: usize, const Q: usize, K: Known<ConvSpec>>(
    isa: I,
    job: &Job,
    of_all: &Group,
    at: &Pixels<P>,
    block: Block,
    far: usize,
) {
    match block.shape {
        Shape::Several if const { several(&K::SPEC, Q) } => {
            call::<I, P, Q, LANES, K>(isa, Tile { job, of_all, at, block, far, known: PhantomData })
        }
        Shape::One if const { one(&K::SPEC, Q) } => {
            call::<I, P, 1, LANES, K>(isa, Tile { job, of_all, at, block, far, known: PhantomData })
        }
        Shape::Narrow if const { narrow(&K::SPEC) } => {
            call::<I, P, 1, NARROW, K>(isa, Tile { job, of_all, at, block, far, known: PhantomData })
        }
        _ => {}
    }
}

#[inline(always)]
fn call<I: Isa, const P: usize, const Q: usize, const L: usize, K: Known<ConvSpec>>(
    isa: I,
    tile: Tile<P, Q, L, K>,
) {
    if const { K::SPEC.is_some() } { tile.run(isa) } else { isa.call(tile) }
}

/// The microkernel: `P` pixels by `Q` panels of `L` lanes, a function of its own at each level.
///
/// Made by [`one_block`] only, of proved jobs.
struct Tile<'a, const P: usize, const Q: usize, const L: usize, K: Known<ConvSpec>> {
    job: &'a Job<'a>,
    of_all: &'a Group,
    at: &'a Pixels<P>,
    block: Block,
    /// Panels from the block's first to the one that the tile asks the memory for.
    far: usize,
    known: PhantomData<K>,
}

impl<const P: usize, const Q: usize, const L: usize, K: Known<ConvSpec>> Task for Tile<'_, P, Q, L, K> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let spec = self.job.spec;
        let mut acc = [[isa.zero(); Q]; P];
        // SAFETY: the job was proved and the tile placed, see `one_block`.
        unsafe {
            if const { P == 1 || no_edges(&K::SPEC) } || self.at.uniform {
                self.uniform(isa, spec, &mut acc);
            } else {
                self.mixed(isa, spec, &mut acc);
            }
            self.store(isa, spec, &acc);
        }
    }
}

impl<const P: usize, const Q: usize, const L: usize, K: Known<ConvSpec>> Tile<'_, P, Q, L, K> {
    /// First weight of the block, and the distance between its panels.
    #[inline(always)]
    fn weights(&self) -> (*const f32, usize) {
        let &Group { len, rows, .. } = self.of_all;
        let first = self.block.group * len + self.block.channel * rows;
        (self.job.w.wrapping_add(first), rows * LANES)
    }

    /// First input channel of the block's group, of which the pixel positions count.
    #[inline(always)]
    fn input(&self, spec: &ConvSpec) -> *const f32 {
        self.job.x.wrapping_add(self.block.group * self.of_all.inputs * spec.x.c_stride)
    }

    /// Accumulates over the taps that all pixels have inside the image.
    ///
    /// # Safety
    /// As for [`run`].
    #[inline(always)]
    unsafe fn uniform<I: Isa>(&self, isa: I, spec: &ConvSpec, acc: &mut [[I::P; Q]; P]) {
        let (inputs, x) = (self.of_all.inputs, self.input(spec));
        let all = [(0, spec.kernel[0]), (0, spec.kernel[1]), (0, spec.kernel[2])];
        // Constants where the spec is known.
        let taps = if const { no_edges(&K::SPEC) } { &all } else { &self.at.taps };
        let (w, panel) = self.weights();
        let mut at = [x; P];
        for p in 0..P {
            at[p] = x.wrapping_offset(self.at.x[p]);
        }
        // Neighbouring taps of a row whose channels lie behind one another are one run.
        let step = spec.dilation[2] * spec.x.strides[2];
        let c_stride = if inputs == 1 { 1 } else { spec.x.c_stride };
        let joined = c_stride == 1 && step == inputs;
        let width = taps[2].1 - taps[2].0;
        let (runs, length) = if joined { (1, width * inputs) } else { (width, inputs) };
        for kd in taps[0].0..taps[0].1 {
            for ky in taps[1].0..taps[1].1 {
                let tap = (kd * spec.kernel[1] + ky) * spec.kernel[2] + taps[2].0;
                let mut w = w.wrapping_add(tap * inputs * L);
                let mut offset = kd * spec.dilation[0] * spec.x.strides[0]
                    + ky * spec.dilation[1] * spec.x.strides[1]
                    + taps[2].0 * step;
                for _ in 0..runs {
                    // SAFETY: these taps of every pixel lie inside the image, whose elements are valid,
                    // and the weights have a row of L for each tap and channel.
                    unsafe { self.accumulate(isa, acc, &at, offset, c_stride, w, panel, length) };
                    w = w.wrapping_add(inputs * L);
                    offset += step;
                }
            }
        }
    }

    /// Accumulates over all taps that any pixel has inside the image; the others read zeros.
    ///
    /// # Safety
    /// As for [`run`].
    #[inline(always)]
    unsafe fn mixed<I: Isa>(&self, isa: I, spec: &ConvSpec, acc: &mut [[I::P; Q]; P]) {
        let (inputs, x, c_stride) = (self.of_all.inputs, self.input(spec), spec.x.c_stride);
        let (w, panel) = self.weights();
        let zeros = ZEROS.as_ptr();
        let [extent_d, extent_h, extent_w] = spec.x.extent;
        for kd in 0..spec.kernel[0] {
            for ky in 0..spec.kernel[1] {
                for kx in 0..spec.kernel[2] {
                    let (d, h, v) = (kd * spec.dilation[0], ky * spec.dilation[1], kx * spec.dilation[2]);
                    let offset = d * spec.x.strides[0] + h * spec.x.strides[1] + v * spec.x.strides[2];
                    let mut inside = [false; P];
                    let mut any = false;
                    for p in 0..P {
                        // Coordinates left of the image wrap to numbers beyond its extent.
                        let [pd, ph, pw] = self.at.corner[p];
                        inside[p] = (pd.wrapping_add(d) < extent_d)
                            & (ph.wrapping_add(h) < extent_h)
                            & (pw.wrapping_add(v) < extent_w);
                        any |= inside[p];
                    }
                    if !any {
                        continue;
                    }
                    let tap = (kd * spec.kernel[1] + ky) * spec.kernel[2] + kx;
                    let w = w.wrapping_add(tap * inputs * L);
                    let mut channel = 0;
                    while channel < inputs {
                        let mut at = [zeros; P];
                        for p in 0..P {
                            let here = x.wrapping_offset(self.at.x[p]).wrapping_add(offset);
                            at[p] = if inside[p] { here.wrapping_add(channel * c_stride) } else { zeros };
                        }
                        let length = self.of_all.chunk.min(inputs - channel);
                        let w = w.wrapping_add(channel * L);
                        // SAFETY: each pixel's tap lies inside the image, or reads `length` channels,
                        // which is at most (255 / c_stride) + 1, from 256 zeros.
                        unsafe { self.accumulate(isa, acc, &at, 0, c_stride, w, panel, length) };
                        channel += length;
                    }
                }
            }
        }
    }

    /// The inner loop: `length` values per pixel, `step` apart, times as many rows of each panel.
    ///
    /// # Safety
    /// `at[p] + offset + k·step` is readable for `k < length`, and `L` values at
    /// `w + q·panel + k·L`, for all pixels and panels.
    #[inline(always)]
    unsafe fn accumulate<I: Isa>(
        &self,
        isa: I,
        acc: &mut [[I::P; Q]; P],
        at: &[*const f32; P],
        offset: usize,
        step: usize,
        w: *const f32,
        panel: usize,
        length: usize,
    ) {
        let (mut sum, at) = (*acc, *at);
        let (mut w, mut offset) = (w, offset);
        let far = self.far * panel;
        for _ in 0..length {
            isa.prefetch_far(w.wrapping_add(far));
            // SAFETY: the caller's promise.
            unsafe {
                let mut rows = [isa.zero(); Q];
                for q in 0..Q {
                    isa.prefetch(w.wrapping_add(q * panel + AHEAD * L));
                    rows[q] = isa.load_first::<L>(w.add(q * panel));
                }
                for p in 0..P {
                    let value = isa.splat(at[p].wrapping_add(offset).read());
                    for q in 0..Q {
                        sum[p][q] = isa.fmadd_first::<L>(value, rows[q], sum[p][q]);
                    }
                }
            }
            w = w.wrapping_add(L);
            offset += step;
        }
        *acc = sum;
    }

    /// Takes the accumulators through the epilogue into the output.
    ///
    /// # Safety
    /// As for [`run`].
    #[inline(always)]
    unsafe fn store<I: Isa>(&self, isa: I, spec: &ConvSpec, acc: &[[I::P; Q]; P]) {
        let epilogue = &spec.epilogue;
        let outputs = self.of_all.outputs;
        let channel = self.block.group * outputs + self.block.channel;
        let vectors = self
            .job
            .vectors
            .starting_at(self.block.group * crate::pack::padded(outputs) + self.block.channel);
        let channels = (outputs - self.block.channel).min(Q * L);
        let y = self.job.y.wrapping_add(channel * spec.y.c_stride);
        let residual = self.job.residual.wrapping_add(channel * spec.residual.c_stride);
        let rows = Rows {
            epilogue,
            vectors,
            channels,
            y,
            y_step: spec.y.c_stride,
            residual,
            r_step: spec.residual.c_stride,
        };
        // SAFETY: pixels below `count` and these channels lie inside the views; the vectors are
        // padded to 16.
        unsafe {
            type Activation<K> = ActivationOf<ConvSpec, K>;
            let at = self.at;
            rows.store_known::<I, P, Q, L, Activation<K>>(isa, acc, at.count, &at.y, &at.residual)
        }
    }
}
