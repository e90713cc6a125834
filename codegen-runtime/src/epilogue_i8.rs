//! From sums of integer products to bytes: what integer kernels do before they store.
//!
//! `q = clamp(RNE(f32(acc) · factor))`, the product rounded once, then the further steps of
//! [`RequantSteps`], then the zero point. All of it in `f32` lanes: integers lie on
//! [`ROUND_BASE`], where neighbouring numbers differ by one.

use crate::isa::{Isa, LANES, ROUND_BASE};
use crate::pack::{Requant, Tail};
use crate::spec::RequantSteps;

/// Where a [`Requant`] lies, and what is done with it.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    bias: *const i32,
    factors: *const f32,
    tail: *const i32,
    steps: RequantSteps,
}

/// The rows of a tile's result in memory.
pub(crate) struct Bytes {
    /// Channels of the tile.
    pub(crate) channels: usize,
    /// First channel of the output.
    pub(crate) y: *mut u8,
    /// First channel of the addend.
    pub(crate) residual: *const u8,
}

/// The clamp of the last step, and the zero point: bytes of what is above `low`, at most `most`, plus `zero`.
pub(crate) struct Last {
    pub(crate) low: f32,
    pub(crate) most: u8,
    pub(crate) zero: u8,
}

impl Numbers {
    /// Those at `at`, which holds all of the layout.
    #[inline(always)]
    pub(crate) fn new(at: *const i32, layout: Requant, steps: RequantSteps) -> Self {
        let len = layout.vector_len();
        Numbers { bias: at, factors: at.wrapping_add(len).cast(), tail: at.wrapping_add(2 * len), steps }
    }

    /// The input's zero point, four times.
    ///
    /// # Safety
    /// The numbers are readable.
    #[inline(always)]
    pub(crate) unsafe fn fill(&self) -> u32 {
        const { assert!(Tail::LEN > 17) };
        // SAFETY: the caller's promise.
        unsafe { self.tail.read() as u32 }
    }

    /// Number `i` of the tail's `f32`, in every lane.
    ///
    /// # Safety
    /// The numbers are readable, and `i` below 16.
    #[inline(always)]
    unsafe fn float<I: Isa>(&self, isa: I, i: usize) -> I::P {
        // SAFETY: the caller's promise.
        isa.splat(f32::from_bits(unsafe { self.tail.add(2 + i).read() } as u32))
    }

    /// The biases of 16 channels.
    ///
    /// # Safety
    /// The numbers are readable, and the channels within the padded vector.
    #[inline(always)]
    pub(crate) unsafe fn biases<I: Isa>(&self, isa: I, channel: usize) -> I::N {
        // SAFETY: the caller's promise.
        unsafe { isa.load_i32(self.bias.add(channel)) }
    }

    /// The biases from `channel` on, and the factors' bits.
    #[inline(always)]
    pub(crate) fn from(&self, channel: usize) -> [*const i32; 2] {
        [self.bias.wrapping_add(channel), self.factors.wrapping_add(channel).cast()]
    }

    /// The factors of 16 channels.
    ///
    /// # Safety
    /// The numbers are readable, and the channels within the padded vector.
    #[inline(always)]
    unsafe fn factors<I: Isa>(&self, isa: I, channel: usize) -> I::P {
        // SAFETY: the caller's promise.
        unsafe { isa.load(self.factors.add(channel)) }
    }

    /// Requantizes a tile of `P` pixels by `Q` panels (1, 2 or 4), from `channel` of the padded vectors on, and stores
    /// its first `count` pixels.
    ///
    /// # Safety
    /// The numbers are readable, the channels within the padded vectors; for the pixels below `count`,
    /// `bytes.channels` elements at their places of the output are writable; of the addend, all pixels' are readable.
    #[inline(always)]
    pub(crate) unsafe fn store<I: Isa, const P: usize, const Q: usize>(
        &self,
        isa: I,
        acc: &[[I::N; Q]; P],
        channel: usize,
        bytes: &Bytes,
        count: usize,
        y_at: &[usize; P],
        r_at: &[usize; P],
    ) {
        const { assert!(Q == 1 || Q == 2 || Q == 4) };
        // SAFETY: the vectors are padded to whole panels, and the tail has its length.
        let (factors, last) = unsafe {
            let factors: [I::P; Q] = core::array::from_fn(
                #[inline(always)]
                |q| self.factors(isa, channel + q * LANES),
            );
            (factors, self.last_bounds())
        };
        let least = isa.add(isa.splat(last.low), isa.splat(ROUND_BASE));
        let rows = 4 / Q;
        for group in 0..P.div_ceil(rows) {
            // No closures here: what is inlined into one would lack the level's instructions.
            let (mut v, mut to) = ([isa.splat_i32(0); 4], [bytes.y; 4]);
            for i in 0..4 {
                let (p, q) = (group * rows + i / Q, i % Q);
                if p >= P {
                    break;
                }
                let rounded = isa.round_product(isa.to_f32(acc[p][q]), factors[q]);
                let left = bytes.channels.saturating_sub(q * LANES);
                // SAFETY: the addend of the tile's pixels is readable.
                let exact =
                    unsafe { self.further(isa, rounded, bytes.residual.add(r_at[p] + q * LANES), left) };
                v[i] = isa.sub_i32(isa.bits(isa.max(exact, least)), isa.bits(least));
                if q == 0 {
                    to[i / Q] = bytes.y.wrapping_add(y_at[p]);
                }
            }
            let existing = count.saturating_sub(group * rows);
            // SAFETY: the pixels below `count` are writable.
            unsafe { isa.store_four::<Q>(v, [last.most, last.zero], to, existing, bytes.channels) }
        }
    }

    /// What follows a sum's first rounding, but for the last clamp.
    ///
    /// # Safety
    /// The tail has its length; `left` values of the addend are readable, if there is one.
    #[inline(always)]
    unsafe fn further<I: Isa>(&self, isa: I, mut v: I::P, addend: *const u8, left: usize) -> I::P {
        let RequantSteps { rescale, add, last } = self.steps;
        let base = isa.splat(ROUND_BASE);
        // SAFETY: the caller's promises.
        unsafe {
            if rescale || add || last {
                v = clamp(isa, v, self.bounds(isa, 0));
            }
            if rescale {
                v = isa.round_product(isa.sub(v, base), self.float(isa, 2));
                if add || last {
                    v = clamp(isa, v, self.bounds(isa, 3));
                }
            }
            if add {
                let r = if left >= LANES { isa.load_u8(addend) } else { isa.load_u8_n(addend, left) };
                // High and low parts are exact, each; rounded are their sum and the integer.
                let (r, own) = (isa.to_f32(r), isa.sub(v, base));
                let high = isa.fmadd(r, self.float(isa, 6), self.float(isa, 7));
                let high = isa.fmadd(own, self.float(isa, 5), high);
                let low = isa.fmadd(r, self.float(isa, 9), self.float(isa, 10));
                let low = isa.fmadd(own, self.float(isa, 8), low);
                v = isa.add(isa.add(high, low), base);
                if last {
                    v = clamp(isa, v, self.bounds(isa, 11));
                }
            }
            if last {
                v = isa.round_product(isa.sub(v, base), self.float(isa, 13));
            }
        }
        v
    }

    /// The bounds of the last step.
    ///
    /// # Safety
    /// The numbers are readable.
    #[inline(always)]
    pub(crate) unsafe fn last_bounds(&self) -> Last {
        let at = match self.steps {
            RequantSteps { last: true, .. } => 14,
            RequantSteps { add: true, .. } => 11,
            RequantSteps { rescale: true, .. } => 3,
            _ => 0,
        };
        // SAFETY: the tail has its length.
        let (low, high, zero) =
            unsafe { (self.tail.add(2 + at).read(), self.tail.add(3 + at).read(), self.tail.add(1).read()) };
        let (low, high) = (f32::from_bits(low as u32), f32::from_bits(high as u32));
        let low = if low < high { low } else { high };
        Last { low, most: (high - low) as u8, zero: (low as i32).wrapping_add(zero) as u8 }
    }

    /// Bounds at `i` of the tail's `f32`, on the base.
    ///
    /// # Safety
    /// The numbers are readable, and `i` below 15.
    #[inline(always)]
    unsafe fn bounds<I: Isa>(&self, isa: I, i: usize) -> [I::P; 2] {
        let base = isa.splat(ROUND_BASE);
        // SAFETY: the caller's promise.
        unsafe { [isa.add(self.float(isa, i), base), isa.add(self.float(isa, i + 1), base)] }
    }
}

#[inline(always)]
fn clamp<I: Isa>(isa: I, v: I::P, [low, high]: [I::P; 2]) -> I::P {
    isa.min(isa.max(v, low), high)
}
