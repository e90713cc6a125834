//! Vectors of 64 bytes on AVX-512, for kernels that exist at this level only.
//!
//! Sums of 64 neighbouring bytes are four vectors of 16 lanes in *block order*: lane `4·i + k` of vector `j` is of
//! byte `16·i + 4·j + k`. That is how bytes come apart, and go together again, without crossing 128 bits.

use core::arch::x86_64::*;

use super::V4;

/// Calls an intrinsic that touches no memory.
macro_rules! op {
    ($($call:tt)*) => {
        // SAFETY: a `V4` exists, so the CPU has the instructions; no memory is touched.
        unsafe { $($call)* }
    };
}

/// Bytes of a vector.
pub(crate) const BYTES: usize = 64;

/// The first `n` bytes.
#[inline(always)]
const fn first(n: usize) -> __mmask64 {
    if n >= BYTES { u64::MAX } else { (1 << n) - 1 }
}

/// Repeats the first `n`, if they go into all without a rest.
#[inline(always)]
fn repeat<T: Copy>(all: &mut [T; BYTES], n: usize) {
    if n < BYTES && BYTES.is_multiple_of(n) {
        for i in n..BYTES {
            all[i] = all[(i - n) % BYTES];
        }
    }
}

impl V4 {
    /// Reads `n ≤ 64` bytes; the others are zero.
    ///
    /// # Safety
    /// `p` is valid for reading `n` values.
    #[inline(always)]
    pub(crate) unsafe fn load_bytes(self, p: *const u8, n: usize) -> __m512i {
        // SAFETY: the caller promises n readable values, and masked ones are not touched.
        unsafe {
            if n >= BYTES {
                _mm512_loadu_si512(p.cast())
            } else {
                _mm512_maskz_loadu_epi8(first(n), p.cast())
            }
        }
    }

    /// `v` in every byte.
    #[inline(always)]
    pub(crate) fn splat_bytes(self, v: u8) -> __m512i {
        op!(_mm512_set1_epi8(v as i8))
    }

    /// Reads 16 bytes each at `p`, `p + step`, …, of `count ≤ 4`, of which the first `n` are repeated, if they go
    /// into 64 without a rest.
    ///
    /// # Safety
    /// `p + i·step` is valid for reading 16 values for `i < count`.
    #[inline(always)]
    pub(crate) unsafe fn load_sixteens(self, p: *const i8, step: usize, count: usize, n: usize) -> __m512i {
        let mut all = [0i8; BYTES];
        for (i, to) in all.chunks_exact_mut(16).enumerate().take(count) {
            // SAFETY: the caller promises 16 readable values, and there are as many in a chunk.
            unsafe { to.as_mut_ptr().copy_from_nonoverlapping(p.add(i * step), 16) };
        }
        repeat(&mut all, n);
        // SAFETY: the array holds 64 values.
        unsafe { _mm512_loadu_si512(all.as_ptr().cast()) }
    }

    /// Reads `n ≤ 64` values, and repeats them as [`V4::load_sixteens`] does.
    ///
    /// # Safety
    /// `p` is valid for reading `n` values.
    #[inline(always)]
    pub(crate) unsafe fn load_repeated(self, p: *const i32, n: usize) -> [__m512i; 4] {
        let mut all = [0i32; BYTES];
        // SAFETY: the caller promises n readable values; the array holds 64.
        unsafe { all.as_mut_ptr().copy_from_nonoverlapping(p, n.min(BYTES)) };
        repeat(&mut all, n);
        // SAFETY: the array holds four times 16 values.
        unsafe {
            [0, 16, 32, 48].map(
                #[inline(always)]
                |i| _mm512_loadu_si512(all.as_ptr().add(i).cast()),
            )
        }
    }

    /// Byte `b` of each of four vectors into one lane, in block order.
    #[inline(always)]
    pub(crate) fn interleave(self, r: [__m512i; 4]) -> [__m512i; 4] {
        op!({
            let (low, high) = (_mm512_unpacklo_epi8(r[0], r[1]), _mm512_unpackhi_epi8(r[0], r[1]));
            let (low_2, high_2) = (_mm512_unpacklo_epi8(r[2], r[3]), _mm512_unpackhi_epi8(r[2], r[3]));
            [
                _mm512_unpacklo_epi16(low, low_2),
                _mm512_unpackhi_epi16(low, low_2),
                _mm512_unpacklo_epi16(high, high_2),
                _mm512_unpackhi_epi16(high, high_2),
            ]
        })
    }

    /// Four vectors of 16 lanes in a row, into block order.
    #[inline(always)]
    pub(crate) fn block_order(self, v: [__m512i; 4]) -> [__m512i; 4] {
        op!({
            let (a, b) = (_mm512_shuffle_i32x4::<0x44>(v[0], v[1]), _mm512_shuffle_i32x4::<0xee>(v[0], v[1]));
            let (c, d) = (_mm512_shuffle_i32x4::<0x44>(v[2], v[3]), _mm512_shuffle_i32x4::<0xee>(v[2], v[3]));
            [
                _mm512_shuffle_i32x4::<0x88>(a, c),
                _mm512_shuffle_i32x4::<0xdd>(a, c),
                _mm512_shuffle_i32x4::<0x88>(b, d),
                _mm512_shuffle_i32x4::<0xdd>(b, d),
            ]
        })
    }

    /// Writes `n ≤ 64` lanes in block order as bytes: of each, which is not negative, the lesser of it and `most`,
    /// plus `zero`, wrapping.
    ///
    /// # Safety
    /// `p` is valid for writing `n` values.
    #[inline(always)]
    pub(crate) unsafe fn store_block(self, p: *mut u8, v: [__m512i; 4], [most, zero]: [u8; 2], n: usize) {
        let bytes = op!({
            let words = (_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
            let bytes = _mm512_packus_epi16(words.0, words.1);
            _mm512_add_epi8(_mm512_min_epu8(bytes, self.splat_bytes(most)), self.splat_bytes(zero))
        });
        // SAFETY: the caller promises n writable values, and masked ones are not touched.
        unsafe {
            if n >= BYTES {
                _mm512_storeu_si512(p.cast(), bytes)
            } else {
                _mm512_mask_storeu_epi8(p.cast(), first(n), bytes)
            }
        }
    }
}
