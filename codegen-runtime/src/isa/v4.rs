//! x86-64 with AVX-512: one register is one panel.

use core::arch::x86_64::*;

use super::{Detected, Isa, LANES, Level, ROUND_BASE, Task, sealed};

/// Proof that the CPU has AVX-512 F, BW, DQ, VL and VNNI, and all that [`V3`](super::V3) has.
#[derive(Debug, Clone, Copy)]
pub struct V4(());

impl V4 {
    /// The token, if the CPU has the level. Asks the CPU.
    pub fn new() -> Option<Self> {
        Self::of(Detected::of(Level::V4)?)
    }
}

impl sealed::Sealed for V4 {}

/// The first `n` lanes.
#[inline(always)]
const fn first(n: usize) -> __mmask16 {
    if n >= LANES { 0xffff } else { ((1u32 << n) - 1) as __mmask16 }
}

/// Calls an intrinsic that touches no memory.
macro_rules! op {
    ($($call:tt)*) => {
        // SAFETY: a `V4` exists, so the CPU has the instructions; no memory is touched.
        unsafe { $($call)* }
    };
}

impl Isa for V4 {
    const LEVEL: Level = Level::V4;
    type P = __m512;
    type N = __m512i;
    type M = __mmask16;
    type Four = __m512i;
    type Rows = __m512i;

    #[inline(always)]
    fn of(detected: Detected) -> Option<Self> {
        if detected.has(Level::V4) { Some(V4(())) } else { None }
    }

    #[inline(always)]
    fn v4(self) -> Option<V4> {
        Some(self)
    }

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Output {
        #[inline(never)]
        #[target_feature(
            enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"
        )]
        fn v4<T: Task>(isa: V4, task: T) -> T::Output {
            task.run(isa)
        }
        // SAFETY: a `V4` exists, so detection has found every feature named above.
        unsafe { v4(self, task) }
    }

    #[inline(always)]
    fn splat(self, v: f32) -> __m512 {
        op!(_mm512_set1_ps(v))
    }
    #[inline(always)]
    fn zero(self) -> __m512 {
        op!(_mm512_setzero_ps())
    }
    #[inline(always)]
    fn from_array(self, v: [f32; LANES]) -> __m512 {
        // SAFETY: the array holds 16 values.
        unsafe { self.load(v.as_ptr()) }
    }
    #[inline(always)]
    fn to_array(self, v: __m512) -> [f32; LANES] {
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
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the caller promises 16 readable values; the token, the instructions.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> __m512 {
        // SAFETY: the caller promises n readable values, and masked lanes are not touched.
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }
    #[inline(always)]
    unsafe fn load_first<const L: usize>(self, p: *const f32) -> __m512 {
        // SAFETY: the caller promises L readable values, and masked lanes are not touched.
        unsafe { self.load_n(p, L) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: the caller promises 16 writable values; the token, the instructions.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, v: __m512, n: usize) {
        // SAFETY: the caller promises n writable values, and masked lanes are not touched.
        unsafe { _mm512_mask_storeu_ps(p, first(n), v) }
    }
    #[inline(always)]
    unsafe fn store_first<const L: usize>(self, p: *mut f32, v: __m512) {
        // SAFETY: the caller promises L writable values, and masked lanes are not touched.
        unsafe { self.store_n(p, v, L) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fmadd(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        op!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn fmadd_first<const L: usize>(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.fmadd(a, b, c)
    }
    #[inline(always)]
    fn times_power_of_two(self, a: __m512, n: __m512) -> __m512 {
        op!(_mm512_scalef_ps(a, n))
    }
    #[inline(always)]
    fn neg(self, a: __m512) -> __m512 {
        self.from_bits(self.xor_i32(self.bits(a), self.splat_i32(i32::MIN)))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        self.from_bits(self.and_i32(self.bits(a), self.splat_i32(i32::MAX)))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn lt(self, a: __m512, b: __m512) -> __mmask16 {
        op!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b))
    }
    #[inline(always)]
    fn le(self, a: __m512, b: __m512) -> __mmask16 {
        op!(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b))
    }
    #[inline(always)]
    fn eq(self, a: __m512, b: __m512) -> __mmask16 {
        op!(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b))
    }
    #[inline(always)]
    fn and(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    fn or(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a | b
    }
    #[inline(always)]
    fn not(self, a: __mmask16) -> __mmask16 {
        !a
    }
    #[inline(always)]
    fn select(self, m: __mmask16, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mask_blend_ps(m, b, a))
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        op!({
            let low = _mm512_castps512_ps256(a);
            let high = _mm512_extractf32x8_ps::<1>(a);
            super::v3::sum_8(_mm256_add_ps(low, high))
        })
    }
    #[inline(always)]
    fn max_lane(self, a: __m512) -> f32 {
        op!({
            let low = _mm512_castps512_ps256(a);
            let high = _mm512_extractf32x8_ps::<1>(a);
            super::v3::max_8(_mm256_max_ps(low, high))
        })
    }

    #[inline(always)]
    fn splat_i32(self, v: i32) -> __m512i {
        op!(_mm512_set1_epi32(v))
    }
    #[inline(always)]
    fn to_i32(self, a: __m512) -> __m512i {
        op!(_mm512_cvtps_epi32(a))
    }
    #[inline(always)]
    fn to_f32(self, a: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn bits(self, a: __m512) -> __m512i {
        op!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn from_bits(self, a: __m512i) -> __m512 {
        op!(_mm512_castsi512_ps(a))
    }
    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i32(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn and_i32(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or_i32(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn xor_i32(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_xor_si512(a, b))
    }
    #[inline(always)]
    fn shl<const K: u32>(self, a: __m512i) -> __m512i {
        op!(_mm512_slli_epi32::<K>(a))
    }
    #[inline(always)]
    fn shr<const K: u32>(self, a: __m512i) -> __m512i {
        op!(_mm512_srli_epi32::<K>(a))
    }
    #[inline(always)]
    fn sra<const K: u32>(self, a: __m512i) -> __m512i {
        op!(_mm512_srai_epi32::<K>(a))
    }
    #[inline(always)]
    fn gt_i32(self, a: __m512i, b: __m512i) -> __mmask16 {
        op!(_mm512_cmpgt_epi32_mask(a, b))
    }

    #[inline(always)]
    fn four(self, v: u32) -> __m512i {
        op!(_mm512_set1_epi32(v as i32))
    }
    #[inline(always)]
    unsafe fn load_rows(self, p: *const i8) -> __m512i {
        // SAFETY: the caller promises 64 readable values.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    fn dot(self, x: __m512i, w: __m512i, acc: __m512i) -> __m512i {
        op!(_mm512_dpbusd_epi32(acc, x, w))
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> __m512i {
        // SAFETY: the caller promises 16 readable values.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_u8_n(self, p: *const u8, n: usize) -> __m512i {
        // SAFETY: the caller promises n readable values, and masked lanes are not touched.
        unsafe { _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first(n), p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m512i {
        // SAFETY: the caller promises 16 readable values.
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: __m512i, n: usize) {
        let bytes = op!(_mm512_cvtepi32_epi8(v));
        // SAFETY: the caller promises n writable values, and masked lanes are not touched.
        unsafe {
            if n >= LANES {
                _mm_storeu_si128(p.cast(), bytes);
            } else {
                _mm_mask_storeu_epi8(p.cast(), first(n), bytes);
            }
        }
    }
    #[inline(always)]
    unsafe fn store_four<const Q: usize>(
        self,
        v: [__m512i; 4],
        [most, zero]: [u8; 2],
        to: [*mut u8; 4],
        rows: usize,
        n: usize,
    ) {
        let bytes = op!({
            // Saturated to words and bytes; in each 128 bits, four bytes of each vector.
            let words = (_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
            let mixed = _mm512_packus_epi16(words.0, words.1);
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let bytes = _mm512_permutexvar_epi32(order, mixed);
            _mm512_add_epi8(
                _mm512_min_epu8(bytes, _mm512_set1_epi8(most as i8)),
                _mm512_set1_epi8(zero as i8),
            )
        });
        // SAFETY: the caller promises n writable values in each of the rows, and masked lanes are not touched.
        unsafe {
            match Q {
                1 => {
                    let parts = [
                        _mm512_castsi512_si128(bytes),
                        _mm512_extracti32x4_epi32::<1>(bytes),
                        _mm512_extracti32x4_epi32::<2>(bytes),
                        _mm512_extracti32x4_epi32::<3>(bytes),
                    ];
                    for (i, part) in parts.into_iter().enumerate() {
                        if i >= rows {
                        } else if n >= LANES {
                            _mm_storeu_si128(to[i].cast(), part);
                        } else {
                            _mm_mask_storeu_epi8(to[i].cast(), first(n), part);
                        }
                    }
                }
                2 => {
                    let parts = [_mm512_castsi512_si256(bytes), _mm512_extracti64x4_epi64::<1>(bytes)];
                    for (i, part) in parts.into_iter().enumerate() {
                        if i >= rows {
                        } else if n >= 2 * LANES {
                            _mm256_storeu_si256(to[i].cast(), part);
                        } else {
                            _mm256_mask_storeu_epi8(to[i].cast(), (1u32 << n) - 1, part);
                        }
                    }
                }
                _ if rows == 0 => {}
                _ if n >= 4 * LANES => _mm512_storeu_si512(to[0].cast(), bytes),
                _ => _mm512_mask_storeu_epi8(to[0].cast(), (1u64 << n) - 1, bytes),
            }
        }
    }
    #[inline(always)]
    fn mul_add_i16(self, a: __m512i, b: __m512i, acc: __m512i) -> __m512i {
        // The upper half of each lane of `a` is zero, so that its product is nothing.
        op!(_mm512_dpwssd_epi32(acc, a, b))
    }
    #[inline(always)]
    fn round_product(self, a: __m512, b: __m512) -> __m512 {
        self.fmadd(a, b, self.splat(ROUND_BASE))
    }
}
