//! The body of matrix products: order of tiles, the register tile, and the stream for single rows.

use core::marker::PhantomData;

use crate::epilogue::{ActivationOf, Cheap, Finish, KnownActivation, Shared, gate, known_curve, sloped};
use crate::isa::{Isa, LANES, Task, by_level};
use crate::kernels::layer::Known;
use crate::kernels::matmul::{Job, weights};
use crate::num::{quotient, remainder};
use crate::spec::{MatMulSpec, Residual};

/// A right-hand side up to this stays in the first-level cache while all rows go past it.
const SMALL_WEIGHTS: usize = 24 << 10;
/// A left-hand side above this leaves the second-level cache between two blocks of panels.
const LARGE_INPUT: usize = 1 << 20;
/// A right-hand side up to this stays there between two tiles.
const MEDIUM_WEIGHTS: usize = 512 << 10;

/// How far in front of its use a panel's row is asked for: panels stream from the second-level cache.
const AHEAD: usize = 32 * LANES;

/// Runs the job's part; a `K` that knows the spec inlines the tiles.
///
/// # Safety
/// The job was proved: all that its spec can touch is valid, and outputs overlap inputs only as far
/// as [`safe_lead`](crate::kernels::matmul::safe_lead) allows.
#[inline(always)]
pub(crate) unsafe fn run<I: Isa, K: Known<MatMulSpec>>(isa: I, job: &Job) {
    // SAFETY: passed on.
    unsafe {
        if const { one_row(&K::SPEC, true) } && job.spec.m == 1 {
            // The panels of a stream are as many as hide the latency of one multiplication and addition.
            by_level! { I;
                Level::V4 => streams::<I, 8, K>(isa, job),
                Level::V3 | Level::V3Vnni | Level::Neon | Level::NeonDot => streams::<I, 4, K>(isa, job),
                Level::Scalar | Level::WasmSimd => streams::<I, 2, K>(isa, job),
                Level::Armv7eM => streams::<I, 1, K>(isa, job),
            }
        } else if const { one_row(&K::SPEC, false) } {
            by_level! { I;
                Level::V4 => tiles::<I, 14, 4, 2, K>(isa, job),
                Level::V3 | Level::V3Vnni => tiles::<I, 6, 3, 1, K>(isa, job),
                Level::Neon | Level::NeonDot => tiles::<I, 4, 2, 1, K>(isa, job),
                Level::Scalar | Level::WasmSimd => tiles::<I, 2, 1, 1, K>(isa, job),
                Level::Armv7eM => tiles::<I, 1, 1, 1, K>(isa, job),
            }
        }
    }
}

/// Whether the product can have one row, or another number; all that is not excluded by a known spec.
const fn one_row(spec: &Option<MatMulSpec>, one: bool) -> bool {
    match spec {
        Some(spec) => (spec.m == 1) == one,
        None => true,
    }
}

/// Whether there are tiles of `r` rows, and of `s` at the end; all that is not excluded by a known spec.
const fn wide_tiles(spec: &Option<MatMulSpec>, r: usize, s: usize) -> bool {
    match spec {
        Some(spec) => spec.m >= r || spec.m % r > 2 * s,
        None => true,
    }
}

const fn end_tiles(spec: &Option<MatMulSpec>, r: usize, s: usize) -> bool {
    match spec {
        Some(spec) => spec.m % r > 0 && spec.m % r <= 2 * s,
        None => true,
    }
}

/// Whether there are blocks of `q` panels, and of one at the end; likewise.
const fn several(spec: &Option<MatMulSpec>, q: usize) -> bool {
    match spec {
        Some(spec) => spec.n.div_ceil(LANES) >= q,
        None => true,
    }
}

const fn single(spec: &Option<MatMulSpec>, q: usize) -> bool {
    match spec {
        Some(spec) => !spec.n.div_ceil(LANES).is_multiple_of(q),
        None => true,
    }
}

/// Where a tile lies in its operands.
#[derive(Clone, Copy)]
struct Place {
    /// First row.
    row: usize,
    /// First panel.
    panel: usize,
    /// Panels from there to the one that a tile asks the memory for.
    far: usize,
    /// First elements of the batch.
    a: *const f32,
    w: *const f32,
    residual: *const f32,
    y: *mut f32,
}

impl Place {
    #[inline(always)]
    fn of_batch(job: &Job, batch: usize) -> Place {
        let spec = job.spec;
        Place {
            row: 0,
            panel: 0,
            far: 0,
            a: job.a.wrapping_add(spec.a_offset + batch * spec.a_batch),
            w: job.w.wrapping_add(batch * spec.w_batch),
            residual: job.residual.wrapping_add(spec.r_offset + batch * spec.r_batch),
            y: job.y.wrapping_add(spec.y_offset + batch * spec.y_batch),
        }
    }
}

/// Goes through the part's tiles: `R` rows by `Q` panels, `S` rows at the end.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn tiles<I: Isa, const R: usize, const S: usize, const Q: usize, K: Known<MatMulSpec>>(
    isa: I,
    job: &Job,
) {
    let spec = job.spec;
    let panels = spec.n.div_ceil(LANES);
    if spec.m == 0 || panels == 0 {
        return;
    }
    let blocks = panels.div_ceil(Q);
    // A short remainder goes in tiles of S rows, a long one in one more tile of R.
    let (full, rest) = (spec.m / R, spec.m % R);
    let wide = full + (rest > 2 * S) as usize;
    let tiles = wide + if rest > 2 * S { 0 } else { rest.div_ceil(S) };

    let (input, packed) = (spec.m * spec.k * 4, weights(spec).packed_len() * 4);
    let by_block = packed > SMALL_WEIGHTS && (input <= LARGE_INPUT || packed > MEDIUM_WEIGHTS);
    let (outer, inner) = if by_block { (blocks, tiles) } else { (tiles, blocks) };
    let (first, last) = job.part.share(spec.batch * outer);
    for at in first..last {
        let place = Place::of_batch(job, quotient(at, outer));
        for i in 0..inner {
            let (tile, block) = if by_block { (i, remainder(at, outer)) } else { (remainder(at, outer), i) };
            let panel = block * Q;
            // The next block is on its way while the first tiles use this one.
            let far = if tile < Q { Q + tile } else { 0 };
            // SAFETY: tile and block are below their numbers, so their rows and panels exist.
            unsafe {
                if const { wide_tiles(&K::SPEC, R, S) } && tile < wide {
                    let place = Place { row: tile * R, panel, far, ..place };
                    one_block::<I, R, Q, K>(isa, job, place, panels);
                } else if const { end_tiles(&K::SPEC, R, S) } {
                    let place = Place { row: full * R + (tile - wide) * S, panel, far, ..place };
                    one_block::<I, S, Q, K>(isa, job, place, panels);
                }
            }
        }
    }
}

/// # Safety
/// As for [`run`]; the place's row and panel exist.
#[inline(always)]
unsafe fn one_block<I: Isa, const R: usize, const Q: usize, K: Known<MatMulSpec>>(
    isa: I,
    job: &Job,
    place: Place,
    panels: usize,
) {
    if const { several(&K::SPEC, Q) } && place.panel + Q <= panels {
        call::<I, _, K>(isa, Tile::<R, Q, K> { job, place, known: PhantomData });
    } else if const { single(&K::SPEC, Q) } {
        // Q is 1 or 2, so one panel is left.
        call::<I, _, K>(isa, Tile::<R, 1, K> { job, place, known: PhantomData });
    }
}

#[inline(always)]
fn call<I: Isa, T: Task<Output = ()>, K: Known<MatMulSpec>>(isa: I, task: T) {
    if const { K::SPEC.is_some() } { task.run(isa) } else { isa.call(task) }
}

/// The microkernel: `R` rows by `Q` panels, a function of its own at each level. Rows beyond the
/// last repeat it and are not stored.
///
/// Made by [`one_block`] only, of proved jobs.
struct Tile<'a, const R: usize, const Q: usize, K: Known<MatMulSpec>> {
    job: &'a Job<'a>,
    place: Place,
    known: PhantomData<K>,
}

impl<const R: usize, const Q: usize, K: Known<MatMulSpec>> Task for Tile<'_, R, Q, K> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (spec, place) = (self.job.spec, &self.place);
        let count = if spec.m - place.row < R { spec.m - place.row } else { R };
        let panel = spec.k * LANES;
        let mut rows = [place.a; R];
        for r in 0..R {
            let row = place.row + if r < count { r } else { count - 1 };
            rows[r] = place.a.wrapping_add(row * spec.a_stride);
        }
        let mut w = place.w.wrapping_add(place.panel * panel);
        let far = place.far * panel;
        let mut sum = [[isa.zero(); Q]; R];
        for k in 0..spec.k {
            isa.prefetch_far(w.wrapping_add(far));
            // SAFETY: every row has k values, every panel k times 16, by the job's proof.
            unsafe {
                let mut columns = [isa.zero(); Q];
                for q in 0..Q {
                    isa.prefetch(w.wrapping_add(q * panel + AHEAD));
                    columns[q] = isa.load(w.add(q * panel));
                }
                for r in 0..R {
                    let value = isa.splat(rows[r].add(k).read());
                    for q in 0..Q {
                        sum[r][q] = isa.fmadd(value, columns[q], sum[r][q]);
                    }
                }
            }
            w = w.wrapping_add(LANES);
        }
        // SAFETY: `count` rows and the columns of these panels exist.
        unsafe { store::<I, R, Q, K>(isa, self.job, place, count, &sum) }
    }
}

/// Goes through the part's panels of a product with one row, `T` panels at a time.
///
/// All panels of a product take the same number of chains, so that equal columns give equal sums: what is
/// left behind the last whole block is shared out with it, and only a product of fewer than `T` panels has
/// more chains than one.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn streams<I: Isa, const T: usize, K: Known<MatMulSpec>>(isa: I, job: &Job) {
    let panels = job.spec.n.div_ceil(LANES);
    if panels == 0 {
        return;
    }
    let blocks = if panels < T { 1 } else { panels / T };
    let (first, last) = job.part.share(job.spec.batch * blocks);
    for at in first..last {
        let block = remainder(at, blocks);
        let place = Place { panel: block * T, ..Place::of_batch(job, quotient(at, blocks)) };
        if panels < T {
            few::<I, T, K>(isa, job, place, panels);
        } else if block + 1 < blocks || panels == blocks * T {
            block_of::<I, T, K>(isa, job, place, T);
        } else {
            // More than T panels, fewer than twice as many.
            let left = panels - place.panel;
            block_of::<I, T, K>(isa, job, place, left - left / 2);
            let place = Place { panel: place.panel + left - left / 2, ..place };
            block_of::<I, T, K>(isa, job, place, left / 2);
        }
    }
}

/// `count` panels with one chain each; from half of `T` to `T`.
#[inline(always)]
fn block_of<I: Isa, const T: usize, K: Known<MatMulSpec>>(isa: I, job: &Job, place: Place, count: usize) {
    if const { T == 8 } && count == 8 {
        stream::<I, 8, 1, K>(isa, job, place);
    } else if const { T == 8 } && count == 7 {
        stream::<I, 7, 1, K>(isa, job, place);
    } else if const { T == 8 } && count == 6 {
        stream::<I, 6, 1, K>(isa, job, place);
    } else if const { T == 8 } && count == 5 {
        stream::<I, 5, 1, K>(isa, job, place);
    } else if const { T == 8 } || const { T == 4 } && count == 4 {
        stream::<I, 4, 1, K>(isa, job, place);
    } else if const { T == 4 } && count == 3 {
        stream::<I, 3, 1, K>(isa, job, place);
    } else if const { T == 4 } || const { T == 2 } && count == 2 {
        stream::<I, 2, 1, K>(isa, job, place);
    } else {
        stream::<I, 1, 1, K>(isa, job, place);
    }
}

/// All `panels` of a product with fewer than `T`: as many more chains of sums hide the latency.
#[inline(always)]
fn few<I: Isa, const T: usize, K: Known<MatMulSpec>>(isa: I, job: &Job, place: Place, panels: usize) {
    if const { T == 8 } && panels >= 5 {
        block_of::<I, T, K>(isa, job, place, panels);
    } else if const { T == 8 } && panels == 4 {
        stream::<I, 4, 2, K>(isa, job, place);
    } else if const { T == 8 } && panels == 3 {
        stream::<I, 3, 2, K>(isa, job, place);
    } else if const { T == 8 } && panels == 2 {
        stream::<I, 2, 4, K>(isa, job, place);
    } else if const { T == 8 } {
        stream::<I, 1, 8, K>(isa, job, place);
    } else if const { T == 4 } && panels == 3 {
        stream::<I, 3, 1, K>(isa, job, place);
    } else if const { T == 4 } && panels == 2 {
        stream::<I, 2, 2, K>(isa, job, place);
    } else if const { T == 4 } {
        stream::<I, 1, 4, K>(isa, job, place);
    } else {
        stream::<I, 1, 1, K>(isa, job, place);
    }
}

#[inline(always)]
fn stream<I: Isa, const Q: usize, const C: usize, K: Known<MatMulSpec>>(isa: I, job: &Job, place: Place) {
    call::<I, _, K>(isa, Stream::<Q, C, K> { job, place, known: PhantomData });
}

/// One row by `Q` panels; step `k` of the inner extent goes to chain `k % C`, and the chains are
/// joined at the end.
///
/// Made by [`streams`] only, of proved jobs.
struct Stream<'a, const Q: usize, const C: usize, K: Known<MatMulSpec>> {
    job: &'a Job<'a>,
    place: Place,
    known: PhantomData<K>,
}

impl<const Q: usize, const C: usize, K: Known<MatMulSpec>> Task for Stream<'_, Q, C, K> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (spec, place) = (self.job.spec, &self.place);
        let panel = spec.k * LANES;
        let (mut a, mut w) = (place.a, place.w.wrapping_add(place.panel * panel));
        let mut sum = [[isa.zero(); Q]; C];
        for _ in 0..spec.k / C {
            for c in 0..C {
                // SAFETY: the row has k values, every panel k times 16, by the job's proof.
                unsafe {
                    let value = isa.splat(a.add(c).read());
                    for q in 0..Q {
                        sum[c][q] = isa.fmadd(value, isa.load(w.add(q * panel + c * LANES)), sum[c][q]);
                    }
                }
            }
            a = a.wrapping_add(C);
            w = w.wrapping_add(C * LANES);
        }
        for c in 0..C {
            if c < spec.k % C {
                // SAFETY: as above.
                unsafe {
                    let value = isa.splat(a.add(c).read());
                    for q in 0..Q {
                        sum[c][q] = isa.fmadd(value, isa.load(w.add(q * panel + c * LANES)), sum[c][q]);
                    }
                }
            }
        }
        let mut half = C / 2;
        while half > 0 {
            for c in 0..half {
                for q in 0..Q {
                    sum[c][q] = isa.add(sum[c][q], sum[c + half][q]);
                }
            }
            half /= 2;
        }
        // SAFETY: the row and the columns of these panels exist.
        unsafe { store::<I, 1, Q, K>(isa, self.job, place, 1, &[sum[0]]) }
    }
}

/// Takes accumulators through the epilogue into the output.
///
/// # Safety
/// As for [`run`]; `count ≤ R` rows from the place's, and its panels, exist.
#[inline(always)]
unsafe fn store<I: Isa, const R: usize, const Q: usize, K: Known<MatMulSpec>>(
    isa: I,
    job: &Job,
    place: &Place,
    count: usize,
    sum: &[[I::P; Q]; R],
) {
    let MatMulSpec { n, y_stride, r_stride, ref epilogue, .. } = *job.spec;
    let column = place.panel * LANES;
    let columns = if n - column < Q * LANES { n - column } else { Q * LANES };
    let vectors = job.vectors.starting_at(column);
    let y = place.y.wrapping_add(place.row * y_stride + column);
    let residual = place.residual.wrapping_add(place.row * r_stride + column);
    // SAFETY: rows below `count` and these columns lie inside the output, and inside the residual
    // if there is one; the vectors are padded to 16; the accumulators' copy has R rows of Q·16.
    unsafe {
        type Known<K> = ActivationOf<MatMulSpec, K>;
        if let Some(cheap) = Cheap::of_known::<Known<K>>(epilogue.activation) {
            // A loop for each, with the accumulators in registers: no closures, which would take their address.
            macro_rules! each {
                ($v:ident, $q:ident, $curve:expr, $($let:tt)*) => {
                    for $q in 0..Q {
                        let scale = vectors.scale_at(isa, epilogue, $q * LANES);
                        let bias = vectors.bias_at(isa, epilogue, $q * LANES);
                        // Only the last panel can be partial.
                        let width = if $q + 1 < Q { LANES } else { columns - (Q - 1) * LANES };
                        $($let)*
                        for r in 0..R {
                            if r < count {
                                let mut $v = isa.fmadd(sum[r][$q], scale, bias);
                                let from = residual.wrapping_add(r * r_stride + $q * LANES);
                                if matches!(epilogue.residual, Residual::Before) {
                                    $v = isa.add($v, load(isa, from, width));
                                }
                                let mut $v = $curve;
                                if matches!(epilogue.residual, Residual::After) {
                                    $v = isa.add($v, load(isa, from, width));
                                }
                                let to = y.add(r * y_stride + $q * LANES);
                                if width == LANES { isa.store(to, $v) } else { isa.store_n(to, $v, width) }
                            }
                        }
                    }
                };
            }
            match cheap {
                Cheap::Clamp(clamp) if const { Known::<K>::CLAMPS } => each!(v, q, clamp.apply(isa, v),),
                Cheap::Gate { alpha, beta, times } if const { Known::<K>::GATES } => {
                    each!(v, q, gate(isa, alpha, beta, times, v),)
                }
                Cheap::Curve if const { Known::<K>::CURVES } => {
                    each!(v, q, known_curve::<I, Known<K>>(isa, v),)
                }
                Cheap::Slope { of_all } if const { Known::<K>::SLOPES } => each!(
                    v,
                    q,
                    sloped(isa, slope, v),
                    let slope = match of_all {
                        Some(slope) => isa.splat(slope),
                        None => isa.load(vectors.slope.add(q * LANES)),
                    };
                ),
                // What the known activation is not.
                _ => {}
            }
            return;
        }
        let mut tile = [[[0.0f32; LANES]; Q]; R];
        for r in 0..R {
            for q in 0..Q {
                isa.store(tile[r][q].as_mut_ptr(), sum[r][q]);
            }
        }
        let (mut y_rows, mut r_rows) = ([0; R], [0; R]);
        for r in 0..R {
            (y_rows[r], r_rows[r]) = (r * y_stride, r * r_stride);
        }
        let finish = Finish {
            epilogue,
            vectors,
            acc: tile.as_ptr().cast(),
            acc_pitch: Q * LANES,
            channels: columns,
            y,
            y_rows: y_rows.get_unchecked(..count),
            y_step: 1,
            residual,
            r_rows: &r_rows,
            r_step: 1,
        };
        isa.call(Shared(finish))
    }
}

/// # Safety
/// `width ≤ 16` values from `from` are readable.
#[inline(always)]
unsafe fn load<I: Isa>(isa: I, from: *const f32, width: usize) -> I::P {
    // SAFETY: the caller's promise.
    unsafe { if width == LANES { isa.load(from) } else { isa.load_n(from, width) } }
}
