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

    /// Requantizes a tile of `P` pixels by `Q` panels, from `channel` of the padded vectors on, and stores its
    /// first `count` pixels.
    ///
    /// # Safety
    /// The numbers are readable, the channels within the padded vectors; for the pixels below `count`,
    /// `bytes.channels` elements at their places of output and addend are writable and readable.
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
        let base = isa.splat(ROUND_BASE);
        for q in 0..Q {
            let left = bytes.channels.saturating_sub(q * LANES);
            // SAFETY: the vectors are padded to whole panels, and the tail has its length.
            let (factors, zero, first) = unsafe {
                let factors = isa.load(self.factors.add(channel + q * LANES));
                let zero = isa.splat_i32((ROUND_BASE.to_bits() as i32).wrapping_sub(self.tail.add(1).read()));
                (factors, zero, self.bounds(isa, 0))
            };
            for p in 0..P {
                if p >= count {
                    break;
                }
                let mut v = clamp(isa, isa.round_product(isa.to_f32(acc[p][q]), factors), first);
                // SAFETY: the tail has its length; the caller promises the addend.
                unsafe {
                    if self.steps.rescale {
                        v = isa.round_product(isa.sub(v, base), self.float(isa, 2));
                        v = clamp(isa, v, self.bounds(isa, 3));
                    }
                    if self.steps.add {
                        let at = bytes.residual.add(r_at[p] + q * LANES);
                        let r = if left >= LANES { isa.load_u8(at) } else { isa.load_u8_n(at, left) };
                        // High and low parts are exact, each; rounded are their sum and the integer.
                        let (r, own) = (isa.to_f32(r), isa.sub(v, base));
                        let high = isa.fmadd(r, self.float(isa, 6), self.float(isa, 7));
                        let high = isa.fmadd(own, self.float(isa, 5), high);
                        let low = isa.fmadd(r, self.float(isa, 9), self.float(isa, 10));
                        let low = isa.fmadd(own, self.float(isa, 8), low);
                        let sum = isa.add(high, low);
                        v = clamp(isa, isa.add(sum, base), self.bounds(isa, 11));
                    }
                    if self.steps.last {
                        v = isa.round_product(isa.sub(v, base), self.float(isa, 13));
                        v = clamp(isa, v, self.bounds(isa, 14));
                    }
                    let to = bytes.y.add(y_at[p] + q * LANES);
                    isa.store_bytes(to, isa.sub_i32(isa.bits(v), zero), left);
                }
            }
        }
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
