//! Instruction-set levels, and the tokens through which kernels use them.
//!
//! A value of a token type ([`Scalar`], [`V3`], [`V4`], …) proves that the CPU has the level's
//! instructions: it comes from [`Detected`] only. [`Isa::call`] is the one way into code compiled for
//! a level; everything below it is generic over [`Isa`] and must be `#[inline(always)]`, since a
//! function that is not inlined there would be compiled without the level's instructions.

mod level;
mod portable;
#[cfg(target_arch = "x86_64")]
mod v3;
#[cfg(target_arch = "x86_64")]
mod v3_bytes;
#[cfg(target_arch = "x86_64")]
mod v4;
#[cfg(target_arch = "x86_64")]
mod v4_bytes;

pub(crate) use level::by_level;
pub use level::{Detected, Level};
pub use portable::{Armv7eM, Neon, Scalar, WasmSimd};
#[cfg(target_arch = "x86_64")]
pub use v3::{V3, V3Vnni};
#[cfg(test)]
#[cfg(target_arch = "x86_64")]
pub(crate) use v3_bytes::v3_vnni_by_v4;
#[cfg(target_arch = "x86_64")]
pub use v4::V4;

mod sealed {
    pub trait Sealed {}
}

/// Work to be compiled for one instruction set: the body of [`Isa::call`].
pub trait Task {
    /// What it returns.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// Lanes of a vector at every level: a panel of packed weights.
pub const LANES: usize = 16;

/// Proof that the CPU has a level's instructions, and vectors of 16 lanes made of them.
///
/// Lane `i` of every operation depends on lane `i` of its arguments only, unless stated.
// The token is `self` throughout: it proves that the instructions exist.
#[allow(clippy::wrong_self_convention)]
pub trait Isa: sealed::Sealed + Copy + Send + Sync + 'static {
    /// The level whose instructions this proves.
    const LEVEL: Level;
    /// 16 lanes of `f32`.
    type P: Copy;
    /// 16 lanes of `i32`.
    type N: Copy;
    /// 16 lanes of true or false.
    type M: Copy;
    /// Four unsigned bytes in every lane, as [`Isa::dot`] wants them.
    type Four: Copy;
    /// 16 lanes of four signed bytes each, as [`Isa::dot`] wants them.
    type Rows: Copy;

    /// The token, if the CPU has the level. Compares two bytes.
    fn of(detected: Detected) -> Option<Self>;

    /// The token itself at that level, for kernels that exist there only.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn v4(self) -> Option<V4> {
        None
    }

    /// Runs `task` compiled for this level: a function of its own in the binary, one for each task
    /// type, with everything below inlined into it.
    fn call<T: Task>(self, task: T) -> T::Output;

    /// `v` in every lane.
    fn splat(self, v: f32) -> Self::P;
    /// Zero in every lane.
    #[inline(always)]
    fn zero(self) -> Self::P {
        self.splat(0.0)
    }
    /// Lane `i` is `v[i]`.
    fn from_array(self, v: [f32; LANES]) -> Self::P;
    /// `[i]` is lane `i`.
    fn to_array(self, v: Self::P) -> [f32; LANES];
    /// Reads 16 values.
    ///
    /// # Safety
    /// `p` is valid for reading 16 values; aligned to 4 bytes.
    unsafe fn load(self, p: *const f32) -> Self::P;
    /// Reads `n ≤ 16` values; the other lanes are zero.
    ///
    /// # Safety
    /// `p` is valid for reading `n` values; aligned to 4 bytes.
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::P;
    /// Reads `L` values, 8 or 16; the other lanes are zero.
    ///
    /// # Safety
    /// `p` is valid for reading `L` values; aligned to 4 bytes.
    unsafe fn load_first<const L: usize>(self, p: *const f32) -> Self::P;
    /// Brings the cache line of an address, valid or not, closer; a hint only.
    #[inline(always)]
    fn prefetch(self, _p: *const f32) {}
    /// The same, into the second-level cache only.
    #[inline(always)]
    fn prefetch_far(self, _p: *const f32) {}
    /// Writes 16 values.
    ///
    /// # Safety
    /// `p` is valid for writing 16 values; aligned to 4 bytes.
    unsafe fn store(self, p: *mut f32, v: Self::P);
    /// Writes the first `n ≤ 16` lanes.
    ///
    /// # Safety
    /// `p` is valid for writing `n` values; aligned to 4 bytes.
    unsafe fn store_n(self, p: *mut f32, v: Self::P, n: usize);
    /// Writes the first `L` lanes, 8 or 16.
    ///
    /// # Safety
    /// `p` is valid for writing `L` values; aligned to 4 bytes.
    unsafe fn store_first<const L: usize>(self, p: *mut f32, v: Self::P);

    /// `a + b`.
    fn add(self, a: Self::P, b: Self::P) -> Self::P;
    /// `a - b`.
    fn sub(self, a: Self::P, b: Self::P) -> Self::P;
    /// `a · b`.
    fn mul(self, a: Self::P, b: Self::P) -> Self::P;
    /// `a / b`.
    fn div(self, a: Self::P, b: Self::P) -> Self::P;
    /// `a · b + c`: rounded once where the level has FMA, twice where it has not.
    fn fmadd(self, a: Self::P, b: Self::P, c: Self::P) -> Self::P;
    /// `a · b + c` in the first `L` lanes, 8 or 16; the others are unspecified.
    fn fmadd_first<const L: usize>(self, a: Self::P, b: Self::P, c: Self::P) -> Self::P;
    /// `a · 2ⁿ`, rounded once, for `½ ≤ |a| < 2` and integers `-160 ≤ n ≤ 140`; NaN where `a` is.
    #[inline(always)]
    fn times_power_of_two(self, a: Self::P, n: Self::P) -> Self::P {
        // In two factors, since 2ⁿ itself may be too large or denormal; the first product is exact.
        let rounder = self.splat(ROUND_BASE);
        let upper = self.fmadd(n, self.splat(0.5), rounder);
        let lower = self.add(self.sub(n, self.sub(upper, rounder)), rounder);
        // The integers are in the low bits.
        let bias = self.splat_i32(127);
        let upper = self.from_bits(self.shl::<23>(self.add_i32(self.bits(upper), bias)));
        let lower = self.from_bits(self.shl::<23>(self.add_i32(self.bits(lower), bias)));
        self.mul(self.mul(a, upper), lower)
    }
    /// `-a`.
    fn neg(self, a: Self::P) -> Self::P;
    /// `|a|`.
    fn abs(self, a: Self::P) -> Self::P;
    /// `a > b ? a : b`: `b` where either is NaN.
    fn max(self, a: Self::P, b: Self::P) -> Self::P;
    /// `a < b ? a : b`: `b` where either is NaN.
    fn min(self, a: Self::P, b: Self::P) -> Self::P;

    /// `a < b`, false for NaN.
    fn lt(self, a: Self::P, b: Self::P) -> Self::M;
    /// `a ≤ b`, false for NaN.
    fn le(self, a: Self::P, b: Self::P) -> Self::M;
    /// `a == b`, false for NaN.
    fn eq(self, a: Self::P, b: Self::P) -> Self::M;
    /// Both.
    fn and(self, a: Self::M, b: Self::M) -> Self::M;
    /// Either.
    fn or(self, a: Self::M, b: Self::M) -> Self::M;
    /// Neither true nor both: the opposite.
    fn not(self, a: Self::M) -> Self::M;
    /// `m ? a : b`.
    fn select(self, m: Self::M, a: Self::P, b: Self::P) -> Self::P;

    /// Sum of the lanes: halves folded onto each other, 16 → 8 → 4 → 2 → 1, at every level.
    fn sum(self, a: Self::P) -> f32;
    /// Largest lane; unspecified if one is NaN.
    fn max_lane(self, a: Self::P) -> f32;

    /// `v` in every lane.
    fn splat_i32(self, v: i32) -> Self::N;
    /// Nearest integer, ties to even. Unspecified for NaN and outside `i32`.
    fn to_i32(self, a: Self::P) -> Self::N;
    /// Nearest `f32`.
    fn to_f32(self, a: Self::N) -> Self::P;
    /// The bits of each lane.
    fn bits(self, a: Self::P) -> Self::N;
    /// The lane with these bits.
    fn from_bits(self, a: Self::N) -> Self::P;
    /// `a + b`, wrapping.
    fn add_i32(self, a: Self::N, b: Self::N) -> Self::N;
    /// `a - b`, wrapping.
    fn sub_i32(self, a: Self::N, b: Self::N) -> Self::N;
    /// `a & b`.
    fn and_i32(self, a: Self::N, b: Self::N) -> Self::N;
    /// `a | b`.
    fn or_i32(self, a: Self::N, b: Self::N) -> Self::N;
    /// `a ^ b`.
    fn xor_i32(self, a: Self::N, b: Self::N) -> Self::N;
    /// `a << K`, `K < 32`.
    fn shl<const K: u32>(self, a: Self::N) -> Self::N;
    /// `a >> K` with zeros shifted in, `K < 32`.
    fn shr<const K: u32>(self, a: Self::N) -> Self::N;
    /// `a >> K` with the sign shifted in, `K < 32`.
    fn sra<const K: u32>(self, a: Self::N) -> Self::N;
    /// `a > b`, signed.
    fn gt_i32(self, a: Self::N, b: Self::N) -> Self::M;

    /// The bytes of `v`, the first in its lowest bits, in every lane.
    fn four(self, v: u32) -> Self::Four;
    /// Reads four signed bytes for each of 16 lanes.
    ///
    /// # Safety
    /// `p` is valid for reading 64 values.
    unsafe fn load_rows(self, p: *const i8) -> Self::Rows;
    /// `acc` and the products of four bytes each, exact but for wrapping of the sum: no step saturates.
    fn dot(self, x: Self::Four, w: Self::Rows, acc: Self::N) -> Self::N;
    /// Reads 16 values.
    ///
    /// # Safety
    /// `p` is valid for reading 16 values; aligned to 4 bytes.
    #[inline(always)]
    unsafe fn load_i32(self, p: *const i32) -> Self::N {
        // SAFETY: passed on; every bit pattern is an `f32`.
        self.bits(unsafe { self.load(p.cast()) })
    }
    /// Reads 16 unsigned bytes as numbers.
    ///
    /// # Safety
    /// `p` is valid for reading 16 values.
    unsafe fn load_u8(self, p: *const u8) -> Self::N;
    /// Reads `n ≤ 16` unsigned bytes as numbers; the other lanes are zero.
    ///
    /// # Safety
    /// `p` is valid for reading `n` values.
    #[inline(always)]
    unsafe fn load_u8_n(self, p: *const u8, n: usize) -> Self::N {
        let mut all = [0u8; LANES];
        for (i, to) in all.iter_mut().enumerate().take(n) {
            // SAFETY: i < n, and the caller promises n readable values.
            *to = unsafe { p.add(i).read() };
        }
        // SAFETY: the array holds 16 values.
        unsafe { self.load_u8(all.as_ptr()) }
    }
    /// Reads 16 signed bytes as numbers.
    ///
    /// # Safety
    /// `p` is valid for reading 16 values.
    unsafe fn load_i8(self, p: *const i8) -> Self::N;
    /// Writes the low bytes of the first `n ≤ 16` lanes.
    ///
    /// # Safety
    /// `p` is valid for writing `n` values.
    unsafe fn store_bytes(self, p: *mut u8, v: Self::N, n: usize);
    /// Writes four vectors as bytes: of each lane, which is not negative, the lesser of it and `most`, plus `zero`,
    /// wrapping. A row in memory are `Q` of the vectors, 1, 2 or 4, of which the first `n ≤ 16·Q` lanes are written;
    /// of rows, the first `rows` at `to`.
    ///
    /// # Safety
    /// `to[i]` is valid for writing `n` values for `i < rows`.
    #[inline(always)]
    unsafe fn store_four<const Q: usize>(
        self,
        v: [Self::N; 4],
        [most, zero]: [u8; 2],
        to: [*mut u8; 4],
        rows: usize,
        n: usize,
    ) {
        let (most, zero) = (self.splat_i32(i32::from(most)), self.splat_i32(i32::from(zero)));
        for (i, &v) in v.iter().enumerate() {
            let (row, q) = (i / Q, i % Q);
            if row >= rows || n <= q * LANES {
                continue;
            }
            let less = self.select(self.gt_i32(v, most), self.from_bits(most), self.from_bits(v));
            let byte = self.add_i32(self.bits(less), zero);
            // SAFETY: the row is below their number, and its length above `q` vectors.
            unsafe { self.store_bytes(to[row].add(q * LANES), byte, (n - q * LANES).min(LANES)) }
        }
    }
    /// `a · b + acc`, wrapping, of `a` in `0..2¹⁵` and `b` that fits `i16`.
    fn mul_add_i16(self, a: Self::N, b: Self::N, acc: Self::N) -> Self::N;
    /// `1.5·2²³` and the nearest integer of the exact product `a · b`, ties to even, where that integer is
    /// smaller than 2²². Larger products give something beyond every such result on the same side; NaN
    /// gives NaN or something below.
    fn round_product(self, a: Self::P, b: Self::P) -> Self::P;
}

/// What [`Isa::round_product`] gives for zero: from here on, neighbouring `f32` are neighbouring integers.
pub const ROUND_BASE: f32 = 12_582_912.0;

#[cfg(test)]
mod tests;
