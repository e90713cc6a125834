//! What happens between a kernel's accumulators and its output: factor, bias, residual, activation.
//!
//! Kernels keep what takes a few instructions in registers: clamps, gates, slopes. Everything else (curves,
//! partial panels, channels that are not neighbours) goes through [`Finish`]: the tile's
//! accumulators are put on the stack, and one function that all kernels of a level share does the
//! rest while they are in L1, with a loop of its own for each activation.

use crate::isa::{Isa, LANES, Task};
use crate::math::formula::{self, Lanes};
use crate::operand::{Operand, Space};
use crate::spec::{Activation, Epilogue, Residual, Scale};

mod activation;

pub(crate) use activation::{ActivationOf, Cheap, KnownActivation, activate, gate, known_curve, sloped};
use activation::{AnyActivation, Clamp, for_activation};

/// Addresses of an epilogue's vectors, each padded to whole panels; dangling where absent.
#[derive(Clone, Copy)]
pub(crate) struct Vectors {
    pub(crate) bias: *const f32,
    pub(crate) scale: *const f32,
    pub(crate) slope: *const f32,
}

impl Vectors {
    /// The same for channels from `c`; each vector has at least that many.
    #[inline(always)]
    pub(crate) fn starting_at(self, c: usize) -> Self {
        Vectors {
            bias: self.bias.wrapping_add(c),
            scale: self.scale.wrapping_add(c),
            slope: self.slope.wrapping_add(c),
        }
    }

    /// Factors of 16 channels from `c`.
    ///
    /// # Safety
    /// If the epilogue has factors per channel, `scale` is readable for `c + 16` values.
    #[inline(always)]
    pub(crate) unsafe fn scale_at<I: Isa>(self, isa: I, epilogue: &Epilogue, c: usize) -> I::P {
        match epilogue.scale {
            Scale::One => isa.splat(1.0),
            Scale::Uniform(factor) => isa.splat(factor),
            // SAFETY: the caller's promise.
            Scale::PerChannel => unsafe { isa.load(self.scale.add(c)) },
        }
    }

    /// Biases of 16 channels from `c`.
    ///
    /// # Safety
    /// If the epilogue has a bias, `bias` is readable for `c + 16` values.
    #[inline(always)]
    pub(crate) unsafe fn bias_at<I: Isa>(self, isa: I, epilogue: &Epilogue, c: usize) -> I::P {
        // SAFETY: the caller's promise.
        if epilogue.bias { unsafe { isa.load(self.bias.add(c)) } } else { isa.zero() }
    }
}

/// Fails the build unless the vectors that `epilogue` wants are there with `padded` values each.
pub(crate) const fn prove_vectors<Bias, Factor, Slope>(epilogue: &Epilogue, padded: usize)
where
    Bias: Operand<Elem = f32>,
    Factor: Operand<Elem = f32>,
    Slope: Operand<Elem = f32>,
{
    if epilogue.bias {
        assert!(Bias::LEN >= padded && !matches!(Bias::SPACE, Space::Absent), "bias is too short");
    }
    if matches!(epilogue.scale, Scale::PerChannel) {
        assert!(Factor::LEN >= padded && !matches!(Factor::SPACE, Space::Absent), "scale is too short");
    }
    if matches!(epilogue.activation, Activation::PRelu) {
        assert!(Slope::LEN >= padded && !matches!(Slope::SPACE, Space::Absent), "slope is too short");
    }
}

/// Where a register tile goes: some channels of some pixels.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) epilogue: &'a Epilogue,
    /// Of the tile's first channel.
    pub(crate) vectors: Vectors,
    /// Channels of the tile that exist.
    pub(crate) channels: usize,
    /// The tile's first channel of pixel 0, and the distance to the next channel.
    pub(crate) y: *mut f32,
    pub(crate) y_step: usize,
    /// The same of the residual.
    pub(crate) residual: *const f32,
    pub(crate) r_step: usize,
}

impl Rows<'_> {
    /// Stores the first `count` pixels of `P`, each of `Q` panels, of which `L` lanes (8 or 16) are used:
    /// in registers if it can, otherwise through [`Finish`].
    ///
    /// # Safety
    /// These channels of pixels `i < count` are writable from `y + y_rows[i]` and, with a residual,
    /// readable from `residual + r_rows[i]`; the vectors that the epilogue wants are readable for
    /// `Q·16` values. `count ≤ P`.
    #[inline(always)]
    pub(crate) unsafe fn store<I: Isa, const P: usize, const Q: usize, const L: usize>(
        self,
        isa: I,
        acc: &[[I::P; Q]; P],
        count: usize,
        y_rows: &[usize; P],
        r_rows: &[usize; P],
    ) {
        // SAFETY: passed on.
        unsafe { self.store_known::<I, P, Q, L, AnyActivation>(isa, acc, count, y_rows, r_rows) }
    }

    /// The same for an activation that may be known: SiLU and GELU are then applied in registers too.
    ///
    /// # Safety
    /// As for [`Rows::store`].
    #[inline(always)]
    pub(crate) unsafe fn store_known<
        I: Isa,
        const P: usize,
        const Q: usize,
        const L: usize,
        A: KnownActivation,
    >(
        self,
        isa: I,
        acc: &[[I::P; Q]; P],
        count: usize,
        y_rows: &[usize; P],
        r_rows: &[usize; P],
    ) {
        // A copy, so that the caller's accumulators stay in registers: loops over this one are not always
        // unrolled, and an array that is indexed by a variable lives in memory all its life.
        let mut copy = *acc;
        for p in 0..P {
            for q in 0..Q {
                copy[p][q] = acc[p][q];
            }
        }
        let acc = copy;
        let epilogue = self.epilogue;
        let before = matches!(epilogue.residual, Residual::Before);
        let plain = self.channels == (Q - 1) * LANES + L
            && self.y_step == 1
            && (!before || self.r_step == 1)
            && !matches!(epilogue.residual, Residual::After);
        if let (true, Some(cheap)) = (plain, Cheap::of_known::<A>(epilogue.activation)) {
            // SAFETY: the tile is a plain one; the rest is the caller's promise.
            unsafe { self.in_registers::<I, P, Q, L, A>(isa, &acc, count, y_rows, r_rows, cheap) }
            return;
        }
        // SAFETY: passed on.
        unsafe { self.store_from_stack::<I, P, Q>(isa, &acc, count, y_rows, r_rows) }
    }

    /// Stores any tile, through [`Finish`].
    ///
    /// # Safety
    /// As for [`Rows::store`].
    #[inline(always)]
    pub(crate) unsafe fn store_from_stack<I: Isa, const P: usize, const Q: usize>(
        self,
        isa: I,
        acc: &[[I::P; Q]; P],
        count: usize,
        y_rows: &[usize; P],
        r_rows: &[usize; P],
    ) {
        let mut tile = [[core::mem::MaybeUninit::<[f32; LANES]>::uninit(); Q]; P];
        for p in 0..P {
            for q in 0..Q {
                // SAFETY: each element of the tile holds 16 values.
                unsafe { isa.store(tile[p][q].as_mut_ptr().cast(), acc[p][q]) };
            }
        }
        // SAFETY: the copy has P rows of Q·16 accumulators; the rest is the caller's promise.
        unsafe {
            let finish = Finish {
                epilogue: self.epilogue,
                vectors: self.vectors,
                acc: tile.as_ptr().cast(),
                acc_pitch: Q * LANES,
                channels: self.channels,
                y: self.y,
                y_rows: y_rows.get_unchecked(..count),
                y_step: self.y_step,
                residual: self.residual,
                r_rows,
                r_step: self.r_step,
            };
            isa.call(Shared(finish))
        }
    }

    /// Stores a tile all of whose channels exist and are neighbours, without an addend behind the activation.
    ///
    /// # Safety
    /// As for [`Rows::store`].
    #[inline(always)]
    unsafe fn in_registers<I: Isa, const P: usize, const Q: usize, const L: usize, A: KnownActivation>(
        self,
        isa: I,
        acc: &[[I::P; Q]; P],
        count: usize,
        y_rows: &[usize; P],
        r_rows: &[usize; P],
        cheap: Cheap,
    ) {
        // A loop for each, with the accumulators in registers: no closures, which would take their address.
        macro_rules! each {
            ($c:ident, $v:ident, $curve:expr, $($let:tt)*) => {
                for q in 0..Q {
                    let $c = q * LANES;
                    // SAFETY: q < Q, and the vectors are readable for Q·16 values.
                    let (scale, bias) = unsafe {
                        (
                            self.vectors.scale_at(isa, self.epilogue, $c),
                            self.vectors.bias_at(isa, self.epilogue, $c),
                        )
                    };
                    $($let)*
                    for p in 0..P {
                        if p < count {
                            // SAFETY: pixel p exists, and all of its Q·L channels do.
                            unsafe {
                                let mut $v = isa.fmadd_first::<L>(acc[p][q], scale, bias);
                                if matches!(self.epilogue.residual, Residual::Before) {
                                    let addend = isa.load_first::<L>(self.residual.add(r_rows[p] + $c));
                                    $v = isa.add($v, addend);
                                }
                                isa.store_first::<L>(self.y.add(y_rows[p] + $c), $curve);
                            }
                        }
                    }
                }
            };
        }
        match cheap {
            Cheap::Clamp(clamp) if const { A::CLAMPS } => each!(c, v, clamp.apply(isa, v),),
            Cheap::Gate { alpha, beta, times } if const { A::GATES } => {
                each!(c, v, gate(isa, alpha, beta, times, v),)
            }
            Cheap::Curve if const { A::CURVES } => each!(c, v, known_curve::<I, A>(isa, v),),
            Cheap::Slope { of_all } if const { A::SLOPES } => each!(
                c,
                v,
                sloped(isa, slope, v),
                let slope = match of_all {
                    Some(slope) => isa.splat(slope),
                    // SAFETY: slopes per channel are readable for Q·16 values.
                    None => unsafe { isa.load(self.vectors.slope.add(c)) },
                };
            ),
            // What the known activation is not.
            _ => {}
        }
    }
}

/// Takes a tile of accumulators from the stack through an epilogue into the output.
///
/// Row `i` has `channels` accumulators from `acc + i·acc_pitch` (readable up to the next multiple of
/// 16); its channel `c` goes to `y + y_rows[i] + c·y_step`, and its addend comes from
/// `residual + r_rows[i] + c·r_step`. Each addend is read before the value that it goes into is
/// written, and before any later one, so the residual may be the output's own memory.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    pub(crate) epilogue: &'a Epilogue,
    /// Of the tile's first channel.
    pub(crate) vectors: Vectors,
    pub(crate) acc: *const f32,
    pub(crate) acc_pitch: usize,
    pub(crate) channels: usize,
    pub(crate) y: *mut f32,
    pub(crate) y_rows: &'a [usize],
    pub(crate) y_step: usize,
    pub(crate) residual: *const f32,
    pub(crate) r_rows: &'a [usize],
    pub(crate) r_step: usize,
}

impl Finish<'_> {
    /// Does it, inlined into the caller.
    ///
    /// # Safety
    /// The addresses above are valid, and the vectors that the epilogue wants are readable for
    /// `channels` values rounded up to 16. `r_rows` is as long as `y_rows` if there is a residual.
    #[inline(always)]
    pub(crate) unsafe fn finish<I: Isa>(self, isa: I) {
        let mut c = 0;
        while c < self.channels {
            let n = if self.channels - c < LANES { self.channels - c } else { LANES };
            // SAFETY: c < channels, and the vectors are readable up to the next multiple of 16; the rest
            // is the caller's promise.
            unsafe {
                let slope = match self.epilogue.activation {
                    Activation::PRelu => isa.load(self.vectors.slope.add(c)),
                    _ => isa.zero(),
                };
                macro_rules! panel {
                    ($v:ident, $slope:ident, $curve:expr) => {{
                        let $slope = slope;
                        self.panel(
                            isa,
                            c,
                            n,
                            #[inline(always)]
                            |$v| $curve,
                        )
                    }};
                }
                for_activation!(isa, self.epilogue.activation, panel);
            }
            c += LANES;
        }
    }

    /// Finishes `n ≤ 16` channels from `c`, of every row.
    ///
    /// # Safety
    /// As for [`Finish::finish`].
    #[inline(always)]
    unsafe fn panel<I: Isa>(self, isa: I, c: usize, n: usize, curve: impl Fn(I::P) -> I::P) {
        let residual = self.epilogue.residual;
        // SAFETY: c < channels, and the vectors are readable up to the next multiple of 16.
        let (scale, bias) = unsafe {
            (self.vectors.scale_at(isa, self.epilogue, c), self.vectors.bias_at(isa, self.epilogue, c))
        };
        for (row, &y_row) in self.y_rows.iter().enumerate() {
            // SAFETY: the accumulators of a row are readable up to the next multiple of 16, its
            // n addends and outputs are valid by the caller's promise.
            unsafe {
                let acc = isa.load(self.acc.add(row * self.acc_pitch + c));
                let mut v = isa.fmadd(acc, scale, bias);
                let to = self.y.add(y_row + c * self.y_step);
                let addend = if matches!(residual, Residual::None) {
                    isa.zero()
                } else {
                    // As many as output rows; the default is never taken.
                    let start = match self.r_rows.get(row) {
                        Some(&start) => start,
                        None => 0,
                    };
                    load_strided(isa, self.residual.add(start + c * self.r_step), self.r_step, n)
                };
                if matches!(residual, Residual::Before) {
                    v = isa.add(v, addend);
                }
                v = curve(v);
                if matches!(residual, Residual::After) {
                    v = isa.add(v, addend);
                }
                store_strided(isa, to, self.y_step, v, n);
            }
        }
    }
}

/// The same as a function of its own, shared by all kernels of a level.
///
/// Made by kernels only, which uphold what [`Finish::finish`] asks for.
pub(crate) struct Shared<'a>(pub(crate) Finish<'a>);

impl Task for Shared<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // SAFETY: kernels make a `Shared` only of addresses that `finish` may use.
        unsafe { self.0.finish(isa) }
    }
}

/// Reads `n ≤ 16` values, `step` apart; the other lanes are zero.
///
/// # Safety
/// The values are readable.
#[inline(always)]
pub(crate) unsafe fn load_strided<I: Isa>(isa: I, p: *const f32, step: usize, n: usize) -> I::P {
    if step == 1 {
        // SAFETY: the caller's promise.
        return unsafe { if n == LANES { isa.load(p) } else { isa.load_n(p, n) } };
    }
    let mut lanes = [0.0; LANES];
    for (i, lane) in lanes.iter_mut().enumerate().take(n) {
        // SAFETY: i < n, and the caller promises n values.
        *lane = unsafe { p.add(i * step).read() };
    }
    isa.from_array(lanes)
}

/// Writes the first `n ≤ 16` lanes, `step` apart.
///
/// # Safety
/// The values are writable.
#[inline(always)]
pub(crate) unsafe fn store_strided<I: Isa>(isa: I, p: *mut f32, step: usize, v: I::P, n: usize) {
    if step == 1 {
        // SAFETY: the caller's promise.
        return unsafe { if n == LANES { isa.store(p, v) } else { isa.store_n(p, v, n) } };
    }
    let lanes = isa.to_array(v);
    for (i, lane) in lanes.iter().enumerate().take(n) {
        // SAFETY: i < n, and the caller promises n values.
        unsafe { p.add(i * step).write(*lane) }
    }
}
