//! x86-64 with AVX2 and FMA: two registers are one panel.

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::v3_bytes::{Dpbusd, Maddwd, Products};
use super::{Detected, Isa, LANES, Level, ROUND_BASE, Task, sealed};

/// Proof that the CPU has AVX2, FMA and F16C.
pub type V3 = Avx2<Maddwd>;

/// Proof that the CPU has AVX-VNNI, and all that [`V3`] has.
pub type V3Vnni = Avx2<Dpbusd>;

/// Proof that the CPU has AVX2, FMA and F16C, and the instructions of `D` for products of bytes.
#[derive(Debug, Clone, Copy)]
pub struct Avx2<D>(PhantomData<D>);

impl<D: Products> Avx2<D> {
    /// The token, if the CPU has the level. Asks the CPU.
    pub fn new() -> Option<Self> {
        Self::of(Detected::of(D::LEVEL)?)
    }

    /// The token.
    ///
    /// # Safety
    /// The CPU has the instructions.
    pub(super) const unsafe fn promised() -> Self {
        Avx2(PhantomData)
    }
}

impl<D> sealed::Sealed for Avx2<D> {}

/// Calls an intrinsic that touches no memory.
macro_rules! op {
    ($($call:tt)*) => {
        // SAFETY: a token exists, so the CPU has the instructions; no memory is touched.
        unsafe { $($call)* }
    };
}

/// Two halves of a vector through the same operation.
macro_rules! both {
    ($f:path, $a:expr) => {
        [op!($f($a[0])), op!($f($a[1]))]
    };
    ($f:path, $a:expr, $b:expr) => {
        [op!($f($a[0], $b[0])), op!($f($a[1], $b[1]))]
    };
    ($f:path, $a:expr, $b:expr, $c:expr) => {
        [op!($f($a[0], $b[0], $c[0])), op!($f($a[1], $b[1], $c[1]))]
    };
}

/// Masks of the first `n ≤ 8` lanes are windows of this.
static ONES_THEN_ZEROS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// Mask of the first `min(n, 8)` lanes.
#[inline(always)]
fn first<D>(_isa: Avx2<D>, n: usize) -> __m256i {
    let skip = 8 - n.min(8);
    // SAFETY: skip ≤ 8, so 8 of the 16 values are left behind it; the token proves AVX.
    unsafe { _mm256_loadu_si256(ONES_THEN_ZEROS.as_ptr().add(skip).cast()) }
}

/// Sum of eight lanes, halves folded.
///
/// # Safety
/// The CPU has AVX.
#[inline(always)]
pub(super) unsafe fn sum_8(a: __m256) -> f32 {
    // SAFETY: the caller promises AVX; no memory is touched.
    unsafe {
        let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
    }
}

/// Largest of eight lanes, halves folded.
///
/// # Safety
/// The CPU has AVX.
#[inline(always)]
pub(super) unsafe fn max_8(a: __m256) -> f32 {
    // SAFETY: the caller promises AVX; no memory is touched.
    unsafe {
        let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps::<1>(a, a)))
    }
}

impl<D: Products> Isa for Avx2<D> {
    const LEVEL: Level = D::LEVEL;
    type P = [__m256; 2];
    type N = [__m256i; 2];
    /// All bits of a true lane are set.
    type M = [__m256; 2];
    type Four = D::Four;
    type Rows = D::Rows;

    #[inline(always)]
    fn of(detected: Detected) -> Option<Self> {
        // SAFETY: detection has found the level.
        if detected.has(D::LEVEL) { Some(unsafe { Self::promised() }) } else { None }
    }

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Output {
        D::call(self, task)
    }

    #[inline(always)]
    fn splat(self, v: f32) -> Self::P {
        [op!(_mm256_set1_ps(v)); 2]
    }
    #[inline(always)]
    fn from_array(self, v: [f32; LANES]) -> Self::P {
        // SAFETY: the array holds 16 values.
        unsafe { self.load(v.as_ptr()) }
    }
    #[inline(always)]
    fn to_array(self, v: Self::P) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        // SAFETY: the array holds 16 values.
        unsafe { self.store(out.as_mut_ptr(), v) };
        out
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a hint, which touches no memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    fn prefetch_far(self, p: *const f32) {
        // SAFETY: a hint, which touches no memory.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::P {
        // SAFETY: the caller promises 16 readable values; the token, the instructions.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::P {
        let (low, high) = (first(self, n), first(self, n.saturating_sub(8)));
        // SAFETY: the caller promises n readable values, and masked lanes are not touched.
        unsafe { [_mm256_maskload_ps(p, low), _mm256_maskload_ps(p.wrapping_add(8), high)] }
    }
    #[inline(always)]
    unsafe fn load_first<const L: usize>(self, p: *const f32) -> Self::P {
        // SAFETY: the caller promises L readable values.
        unsafe { if L <= 8 { [_mm256_loadu_ps(p), _mm256_setzero_ps()] } else { self.load(p) } }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::P) {
        // SAFETY: the caller promises 16 writable values; the token, the instructions.
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, v: Self::P, n: usize) {
        let (low, high) = (first(self, n), first(self, n.saturating_sub(8)));
        // SAFETY: the caller promises n writable values, and masked lanes are not touched.
        unsafe {
            _mm256_maskstore_ps(p, low, v[0]);
            _mm256_maskstore_ps(p.wrapping_add(8), high, v[1]);
        }
    }
    #[inline(always)]
    unsafe fn store_first<const L: usize>(self, p: *mut f32, v: Self::P) {
        // SAFETY: the caller promises L writable values.
        unsafe { if L <= 8 { _mm256_storeu_ps(p, v[0]) } else { self.store(p, v) } }
    }

    #[inline(always)]
    fn add(self, a: Self::P, b: Self::P) -> Self::P {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::P, b: Self::P) -> Self::P {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::P, b: Self::P) -> Self::P {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::P, b: Self::P) -> Self::P {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn fmadd(self, a: Self::P, b: Self::P, c: Self::P) -> Self::P {
        both!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn fmadd_first<const L: usize>(self, a: Self::P, b: Self::P, c: Self::P) -> Self::P {
        if L <= 8 { [op!(_mm256_fmadd_ps(a[0], b[0], c[0])), c[1]] } else { self.fmadd(a, b, c) }
    }
    #[inline(always)]
    fn neg(self, a: Self::P) -> Self::P {
        self.from_bits(self.xor_i32(self.bits(a), self.splat_i32(i32::MIN)))
    }
    #[inline(always)]
    fn abs(self, a: Self::P) -> Self::P {
        self.from_bits(self.and_i32(self.bits(a), self.splat_i32(i32::MAX)))
    }
    #[inline(always)]
    fn max(self, a: Self::P, b: Self::P) -> Self::P {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::P, b: Self::P) -> Self::P {
        both!(_mm256_min_ps, a, b)
    }

    #[inline(always)]
    fn lt(self, a: Self::P, b: Self::P) -> Self::M {
        both!(_mm256_cmp_ps::<_CMP_LT_OQ>, a, b)
    }
    #[inline(always)]
    fn le(self, a: Self::P, b: Self::P) -> Self::M {
        both!(_mm256_cmp_ps::<_CMP_LE_OQ>, a, b)
    }
    #[inline(always)]
    fn eq(self, a: Self::P, b: Self::P) -> Self::M {
        both!(_mm256_cmp_ps::<_CMP_EQ_OQ>, a, b)
    }
    #[inline(always)]
    fn and(self, a: Self::M, b: Self::M) -> Self::M {
        both!(_mm256_and_ps, a, b)
    }
    #[inline(always)]
    fn or(self, a: Self::M, b: Self::M) -> Self::M {
        both!(_mm256_or_ps, a, b)
    }
    #[inline(always)]
    fn not(self, a: Self::M) -> Self::M {
        self.from_bits(self.xor_i32(self.bits(a), self.splat_i32(-1)))
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::P, b: Self::P) -> Self::P {
        both!(_mm256_blendv_ps, b, a, m)
    }

    #[inline(always)]
    fn sum(self, a: Self::P) -> f32 {
        op!(sum_8(_mm256_add_ps(a[0], a[1])))
    }
    #[inline(always)]
    fn max_lane(self, a: Self::P) -> f32 {
        op!(max_8(_mm256_max_ps(a[0], a[1])))
    }

    #[inline(always)]
    fn splat_i32(self, v: i32) -> Self::N {
        [op!(_mm256_set1_epi32(v)); 2]
    }
    #[inline(always)]
    fn to_i32(self, a: Self::P) -> Self::N {
        both!(_mm256_cvtps_epi32, a)
    }
    #[inline(always)]
    fn to_f32(self, a: Self::N) -> Self::P {
        both!(_mm256_cvtepi32_ps, a)
    }
    #[inline(always)]
    fn bits(self, a: Self::P) -> Self::N {
        both!(_mm256_castps_si256, a)
    }
    #[inline(always)]
    fn from_bits(self, a: Self::N) -> Self::P {
        both!(_mm256_castsi256_ps, a)
    }
    #[inline(always)]
    fn add_i32(self, a: Self::N, b: Self::N) -> Self::N {
        both!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    fn sub_i32(self, a: Self::N, b: Self::N) -> Self::N {
        both!(_mm256_sub_epi32, a, b)
    }
    #[inline(always)]
    fn and_i32(self, a: Self::N, b: Self::N) -> Self::N {
        both!(_mm256_and_si256, a, b)
    }
    #[inline(always)]
    fn or_i32(self, a: Self::N, b: Self::N) -> Self::N {
        both!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn xor_i32(self, a: Self::N, b: Self::N) -> Self::N {
        both!(_mm256_xor_si256, a, b)
    }
    #[inline(always)]
    fn shl<const K: u32>(self, a: Self::N) -> Self::N {
        a.map(
            #[inline(always)]
            |a| op!(_mm256_sll_epi32(a, _mm_cvtsi32_si128(K as i32))),
        )
    }
    #[inline(always)]
    fn shr<const K: u32>(self, a: Self::N) -> Self::N {
        a.map(
            #[inline(always)]
            |a| op!(_mm256_srl_epi32(a, _mm_cvtsi32_si128(K as i32))),
        )
    }
    #[inline(always)]
    fn sra<const K: u32>(self, a: Self::N) -> Self::N {
        a.map(
            #[inline(always)]
            |a| op!(_mm256_sra_epi32(a, _mm_cvtsi32_si128(K as i32))),
        )
    }
    #[inline(always)]
    fn gt_i32(self, a: Self::N, b: Self::N) -> Self::M {
        self.from_bits(both!(_mm256_cmpgt_epi32, a, b))
    }

    #[inline(always)]
    fn four(self, v: u32) -> Self::Four {
        D::four(self, v)
    }
    #[inline(always)]
    unsafe fn load_rows(self, p: *const i8) -> Self::Rows {
        // SAFETY: passed on.
        unsafe { D::load_rows(self, p) }
    }
    #[inline(always)]
    fn dot(self, x: Self::Four, w: Self::Rows, acc: Self::N) -> Self::N {
        D::dot(self, x, w, acc)
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> Self::N {
        // SAFETY: the caller promises 16 readable values.
        let all = unsafe { _mm_loadu_si128(p.cast()) };
        [op!(_mm256_cvtepu8_epi32(all)), op!(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(all)))]
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Self::N {
        // SAFETY: the caller promises 16 readable values.
        let all = unsafe { _mm_loadu_si128(p.cast()) };
        [op!(_mm256_cvtepi8_epi32(all)), op!(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(all)))]
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: Self::N, n: usize) {
        let low = op!(_mm256_set1_epi32(0xff));
        // 0..8 and 8..16 as words, in the order 0..4, 8..12, 4..8, 12..16.
        let words = op!(_mm256_packus_epi32(_mm256_and_si256(v[0], low), _mm256_and_si256(v[1], low)));
        let words = op!(_mm256_permute4x64_epi64::<0b11_01_10_00>(words));
        let halves = op!((_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words)));
        let bytes = op!(_mm_packus_epi16(halves.0, halves.1));
        if n >= LANES {
            // SAFETY: the caller promises 16 writable values.
            unsafe { _mm_storeu_si128(p.cast(), bytes) }
        } else {
            let mut all = [0u8; LANES];
            // SAFETY: the array holds 16 values.
            unsafe { _mm_storeu_si128(all.as_mut_ptr().cast(), bytes) };
            for (i, &byte) in all.iter().enumerate().take(n) {
                // SAFETY: i < n, and the caller promises n writable values.
                unsafe { p.add(i).write(byte) }
            }
        }
    }
    #[inline(always)]
    fn mul_add_i16(self, a: Self::N, b: Self::N, acc: Self::N) -> Self::N {
        // The upper half of each lane of `a` is zero, so that its product is nothing.
        core::array::from_fn(
            #[inline(always)]
            |i| op!(_mm256_add_epi32(acc[i], _mm256_madd_epi16(a[i], b[i]))),
        )
    }
    #[inline(always)]
    fn round_product(self, a: Self::P, b: Self::P) -> Self::P {
        self.fmadd(a, b, self.splat(ROUND_BASE))
    }
}
