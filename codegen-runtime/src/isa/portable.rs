//! Levels whose vectors are arrays: the baseline, and levels that have no bodies of their own yet.
//!
//! Loops over 16 lanes, written so that LLVM vectorises them with whatever the target has.

use core::marker::PhantomData;

use super::{Detected, Isa, LANES, Level, ROUND_BASE, Task, sealed};

/// `1.5·2⁵²`: neighbouring `f64` from here on are neighbouring integers.
const ROUND_LONG: f64 = 6_755_399_441_055_744.0;

/// Names the level of a [`Portable`] token.
pub trait Tag: sealed::Sealed + Copy + Send + Sync + 'static {
    /// The level.
    const LEVEL: Level;
}

/// A token for a level whose vectors are arrays.
#[derive(Debug, Clone, Copy)]
pub struct Portable<T>(PhantomData<T>);

/// Tags of the levels.
pub mod tags {
    use super::{Level, Tag, sealed};

    macro_rules! tags {
        ($($name:ident)*) => {$(
            #[doc = concat!("Names the level `", stringify!($name), "`.")]
            #[derive(Debug, Clone, Copy)]
            pub struct $name;
            impl sealed::Sealed for $name {}
            impl Tag for $name {
                const LEVEL: Level = Level::$name;
            }
        )*};
    }

    tags!(Scalar Neon WasmSimd Armv7eM);
}

/// The baseline of the target, which every CPU has.
pub type Scalar = Portable<tags::Scalar>;
/// Armv8-A with NEON.
pub type Neon = Portable<tags::Neon>;
/// WebAssembly with `simd128`.
pub type WasmSimd = Portable<tags::WasmSimd>;
/// Cortex-M with DSP instructions and an FPU.
pub type Armv7eM = Portable<tags::Armv7eM>;

impl Scalar {
    /// The token: every CPU has its baseline.
    pub const TOKEN: Scalar = Portable(PhantomData);
}

impl<T: Tag> Portable<T> {
    /// The token, if the CPU has the level. Asks the CPU.
    pub fn new() -> Option<Self> {
        Self::of(Detected::of(T::LEVEL)?)
    }
}

impl<T: Tag> sealed::Sealed for Portable<T> {}

#[inline(always)]
fn map<A: Copy, B: Copy>(a: [A; LANES], f: impl Fn(A) -> B) -> [B; LANES] {
    core::array::from_fn(
        #[inline(always)]
        |i| f(a[i]),
    )
}

#[inline(always)]
fn zip<A: Copy, B: Copy, C: Copy>(a: [A; LANES], b: [B; LANES], f: impl Fn(A, B) -> C) -> [C; LANES] {
    core::array::from_fn(
        #[inline(always)]
        |i| f(a[i], b[i]),
    )
}

/// 1.5·2²³: adding it to a smaller number leaves no bits behind the point.
const ROUNDER: f32 = 12_582_912.0;

impl<T: Tag> Isa for Portable<T> {
    const LEVEL: Level = T::LEVEL;
    type P = [f32; LANES];
    type N = [i32; LANES];
    type M = [bool; LANES];
    type Four = [u8; 4];
    type Rows = [[i8; 4]; LANES];

    #[inline(always)]
    fn of(detected: Detected) -> Option<Self> {
        if detected.has(T::LEVEL) { Some(Portable(PhantomData)) } else { None }
    }

    #[inline(always)]
    fn call<K: Task>(self, task: K) -> K::Output {
        #[inline(never)]
        fn baseline<T: Tag, K: Task>(isa: Portable<T>, task: K) -> K::Output {
            task.run(isa)
        }
        baseline(self, task)
    }

    #[inline(always)]
    fn splat(self, v: f32) -> Self::P {
        [v; LANES]
    }
    #[inline(always)]
    fn from_array(self, v: [f32; LANES]) -> Self::P {
        v
    }
    #[inline(always)]
    fn to_array(self, v: Self::P) -> [f32; LANES] {
        v
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::P {
        // SAFETY: the caller promises 16 readable values.
        unsafe { p.cast::<[f32; LANES]>().read() }
    }
    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::P {
        let mut v = [0.0; LANES];
        for i in 0..n.min(LANES) {
            // SAFETY: i < n, and the caller promises n readable values.
            v[i] = unsafe { p.add(i).read() };
        }
        v
    }
    #[inline(always)]
    unsafe fn load_first<const L: usize>(self, p: *const f32) -> Self::P {
        let mut v = [0.0; LANES];
        for i in 0..L {
            // SAFETY: i < L, and the caller promises L readable values.
            v[i] = unsafe { p.add(i).read() };
        }
        v
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::P) {
        // SAFETY: the caller promises 16 writable values.
        unsafe { p.cast::<[f32; LANES]>().write(v) }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, v: Self::P, n: usize) {
        for i in 0..n.min(LANES) {
            // SAFETY: i < n, and the caller promises n writable values.
            unsafe { p.add(i).write(v[i]) }
        }
    }
    #[inline(always)]
    unsafe fn store_first<const L: usize>(self, p: *mut f32, v: Self::P) {
        for i in 0..L {
            // SAFETY: i < L, and the caller promises L writable values.
            unsafe { p.add(i).write(v[i]) }
        }
    }

    #[inline(always)]
    fn add(self, a: Self::P, b: Self::P) -> Self::P {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::P, b: Self::P) -> Self::P {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::P, b: Self::P) -> Self::P {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::P, b: Self::P) -> Self::P {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fmadd(self, a: Self::P, b: Self::P, c: Self::P) -> Self::P {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn fmadd_first<const L: usize>(self, a: Self::P, b: Self::P, mut c: Self::P) -> Self::P {
        for i in 0..L {
            c[i] += a[i] * b[i];
        }
        c
    }
    #[inline(always)]
    fn neg(self, a: Self::P) -> Self::P {
        map(a, |a| -a)
    }
    #[inline(always)]
    fn abs(self, a: Self::P) -> Self::P {
        map(a, |a| f32::from_bits(a.to_bits() & 0x7fff_ffff))
    }
    #[inline(always)]
    fn max(self, a: Self::P, b: Self::P) -> Self::P {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::P, b: Self::P) -> Self::P {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn lt(self, a: Self::P, b: Self::P) -> Self::M {
        zip(a, b, |a, b| a < b)
    }
    #[inline(always)]
    fn le(self, a: Self::P, b: Self::P) -> Self::M {
        zip(a, b, |a, b| a <= b)
    }
    #[inline(always)]
    fn eq(self, a: Self::P, b: Self::P) -> Self::M {
        zip(a, b, |a, b| a == b)
    }
    #[inline(always)]
    fn and(self, a: Self::M, b: Self::M) -> Self::M {
        zip(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or(self, a: Self::M, b: Self::M) -> Self::M {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn not(self, a: Self::M) -> Self::M {
        map(a, |a| !a)
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::P, b: Self::P) -> Self::P {
        core::array::from_fn(
            #[inline(always)]
            |i| if m[i] { a[i] } else { b[i] },
        )
    }

    #[inline(always)]
    fn sum(self, mut a: Self::P) -> f32 {
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                a[i] += a[i + half];
            }
            half /= 2;
        }
        a[0]
    }
    #[inline(always)]
    fn max_lane(self, mut a: Self::P) -> f32 {
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                a[i] = if a[i] > a[i + half] { a[i] } else { a[i + half] };
            }
            half /= 2;
        }
        a[0]
    }

    #[inline(always)]
    fn splat_i32(self, v: i32) -> Self::N {
        [v; LANES]
    }
    #[inline(always)]
    fn to_i32(self, a: Self::P) -> Self::N {
        map(a, |a| {
            let small = f32::from_bits(a.to_bits() & 0x7fff_ffff) < 4_194_304.0;
            // Larger numbers have at most half units; 2²² and above are rounded by hand.
            if small { ((a + ROUNDER) - ROUNDER) as i32 } else { round_large(a) }
        })
    }
    #[inline(always)]
    fn to_f32(self, a: Self::N) -> Self::P {
        map(a, |a| a as f32)
    }
    #[inline(always)]
    fn bits(self, a: Self::P) -> Self::N {
        map(a, |a| a.to_bits() as i32)
    }
    #[inline(always)]
    fn from_bits(self, a: Self::N) -> Self::P {
        map(a, |a| f32::from_bits(a as u32))
    }
    #[inline(always)]
    fn add_i32(self, a: Self::N, b: Self::N) -> Self::N {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn sub_i32(self, a: Self::N, b: Self::N) -> Self::N {
        zip(a, b, i32::wrapping_sub)
    }
    #[inline(always)]
    fn and_i32(self, a: Self::N, b: Self::N) -> Self::N {
        zip(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or_i32(self, a: Self::N, b: Self::N) -> Self::N {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn xor_i32(self, a: Self::N, b: Self::N) -> Self::N {
        zip(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    fn shl<const K: u32>(self, a: Self::N) -> Self::N {
        map(a, |a| a << K)
    }
    #[inline(always)]
    fn shr<const K: u32>(self, a: Self::N) -> Self::N {
        map(a, |a| ((a as u32) >> K) as i32)
    }
    #[inline(always)]
    fn sra<const K: u32>(self, a: Self::N) -> Self::N {
        map(a, |a| a >> K)
    }
    #[inline(always)]
    fn gt_i32(self, a: Self::N, b: Self::N) -> Self::M {
        zip(a, b, |a, b| a > b)
    }

    #[inline(always)]
    fn four(self, v: u32) -> Self::Four {
        v.to_le_bytes()
    }
    #[inline(always)]
    unsafe fn load_rows(self, p: *const i8) -> Self::Rows {
        // SAFETY: the caller promises 64 readable values.
        unsafe { p.cast::<[[i8; 4]; LANES]>().read() }
    }
    #[inline(always)]
    fn dot(self, x: Self::Four, w: Self::Rows, acc: Self::N) -> Self::N {
        core::array::from_fn(
            #[inline(always)]
            |i| {
                let mut sum = 0;
                for k in 0..4 {
                    sum += i32::from(x[k]) * i32::from(w[i][k]);
                }
                acc[i].wrapping_add(sum)
            },
        )
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> Self::N {
        // SAFETY: the caller promises 16 readable values.
        map(unsafe { p.cast::<[u8; LANES]>().read() }, i32::from)
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Self::N {
        // SAFETY: the caller promises 16 readable values.
        map(unsafe { p.cast::<[i8; LANES]>().read() }, i32::from)
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: Self::N, n: usize) {
        for i in 0..n.min(LANES) {
            // SAFETY: i < n, and the caller promises n writable values.
            unsafe { p.add(i).write(v[i] as u8) }
        }
    }
    #[inline(always)]
    fn mul_add_i16(self, a: Self::N, b: Self::N, acc: Self::N) -> Self::N {
        self.add_i32(acc, zip(a, b, i32::wrapping_mul))
    }
    #[inline(always)]
    fn round_product(self, a: Self::P, b: Self::P) -> Self::P {
        zip(a, b, |a, b| {
            // Exact; at most 2²², so that adding rounds to integers.
            let product = f64::from(a) * f64::from(b);
            let most = if product > -4_194_304.0 { product } else { -4_194_304.0 };
            let product = if most < 4_194_303.0 { most } else { 4_194_303.0 };
            ((product + ROUND_LONG) - ROUND_LONG) as f32 + ROUND_BASE
        })
    }
}

/// Nearest integer, ties to even, of a number with `|a| ≥ 2²²`: at most one bit behind the point.
#[inline(always)]
fn round_large(a: f32) -> i32 {
    let down = a as i32;
    let rest = a - down as f32;
    // The rest is 0 or ±1/2, and a half goes to the even neighbour.
    if rest == 0.0 || down & 1 == 0 { down } else { down + if rest > 0.0 { 1 } else { -1 } }
}
