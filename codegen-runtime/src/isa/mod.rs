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
mod v4;

pub use level::{Detected, Level};
pub use portable::{Armv7eM, Neon, Scalar, WasmSimd};
#[cfg(target_arch = "x86_64")]
pub use v3::V3;
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

    /// The token, if the CPU has the level. Compares two bytes.
    fn of(detected: Detected) -> Option<Self>;

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
}

#[cfg(test)]
mod tests;
