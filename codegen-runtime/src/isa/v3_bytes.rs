//! Products of bytes on x86-64 with AVX2: by 16-bit products, or by AVX-VNNI.

use core::arch::x86_64::*;
use core::fmt::Debug;

use super::v3::Avx2;
use super::{Level, Task};

/// How a level with AVX2 multiplies bytes; a token of it is an [`Avx2`].
// The token is an argument throughout: it proves that the instructions exist.
pub trait Products: Debug + Copy + Send + Sync + Sized + 'static {
    /// The level.
    const LEVEL: Level;
    /// Four unsigned bytes in every lane.
    type Four: Copy;
    /// 16 lanes of four signed bytes each.
    type Rows: Copy;

    /// As [`Isa::call`](super::Isa::call).
    fn call<T: Task>(isa: Avx2<Self>, task: T) -> T::Output;
    /// As [`Isa::four`](super::Isa::four).
    fn four(isa: Avx2<Self>, v: u32) -> Self::Four;
    /// As [`Isa::load_rows`](super::Isa::load_rows).
    ///
    /// # Safety
    /// `p` is valid for reading 64 values.
    unsafe fn load_rows(isa: Avx2<Self>, p: *const i8) -> Self::Rows;
    /// As [`Isa::dot`](super::Isa::dot).
    fn dot(isa: Avx2<Self>, x: Self::Four, w: Self::Rows, acc: [__m256i; 2]) -> [__m256i; 2];
}

/// Calls an intrinsic that touches no memory.
macro_rules! op {
    ($($call:tt)*) => {
        // SAFETY: a token exists, so the CPU has the instructions; no memory is touched.
        unsafe { $($call)* }
    };
}

/// Bytes widened to 16 bits, as products of bytes would saturate those: AVX2 alone.
#[derive(Debug, Clone, Copy)]
pub struct Maddwd;

impl Products for Maddwd {
    const LEVEL: Level = Level::V3;
    /// Bytes 0 and 2, bytes 1 and 3, each widened to 16 bits.
    type Four = [__m256i; 2];
    /// The same for lanes 0 to 7 and 8 to 15.
    type Rows = [[__m256i; 2]; 2];

    #[inline(always)]
    fn call<T: Task>(isa: Avx2<Self>, task: T) -> T::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
        fn v3<T: Task>(isa: Avx2<Maddwd>, task: T) -> T::Output {
            task.run(isa)
        }
        // SAFETY: a token exists, so detection has found every feature named above.
        unsafe { v3(isa, task) }
    }
    #[inline(always)]
    fn four(_: Avx2<Self>, v: u32) -> Self::Four {
        let all = op!(_mm256_set1_epi32(v as i32));
        [op!(_mm256_and_si256(all, _mm256_set1_epi16(0xff))), op!(_mm256_srli_epi16::<8>(all))]
    }
    #[inline(always)]
    unsafe fn load_rows(_: Avx2<Self>, p: *const i8) -> Self::Rows {
        // SAFETY: the caller promises 64 readable values.
        let halves = unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())] };
        halves.map(
            #[inline(always)]
            |v| [op!(_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(v))), op!(_mm256_srai_epi16::<8>(v))],
        )
    }
    #[inline(always)]
    fn dot(_: Avx2<Self>, x: Self::Four, w: Self::Rows, acc: [__m256i; 2]) -> [__m256i; 2] {
        core::array::from_fn(
            #[inline(always)]
            |i| {
                let even = op!(_mm256_madd_epi16(x[0], w[i][0]));
                let odd = op!(_mm256_madd_epi16(x[1], w[i][1]));
                op!(_mm256_add_epi32(acc[i], _mm256_add_epi32(even, odd)))
            },
        )
    }
}

/// Products of bytes by an instruction of their own, of these features and this name.
macro_rules! vnni {
    ($(#[$doc:meta])* $name:ident, $features:literal, $dpbusd:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Products for $name {
            const LEVEL: Level = Level::V3Vnni;
            type Four = __m256i;
            type Rows = [__m256i; 2];

            #[inline(always)]
            fn call<T: Task>(isa: Avx2<Self>, task: T) -> T::Output {
                #[inline(never)]
                #[target_feature(enable = $features)]
                fn v3_vnni<T: Task>(isa: Avx2<$name>, task: T) -> T::Output {
                    task.run(isa)
                }
                // SAFETY: a token exists, so detection has found every feature named above.
                unsafe { v3_vnni(isa, task) }
            }
            #[inline(always)]
            fn four(_: Avx2<Self>, v: u32) -> Self::Four {
                op!(_mm256_set1_epi32(v as i32))
            }
            #[inline(always)]
            unsafe fn load_rows(_: Avx2<Self>, p: *const i8) -> Self::Rows {
                // SAFETY: the caller promises 64 readable values.
                unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())] }
            }
            #[inline(always)]
            fn dot(_: Avx2<Self>, x: Self::Four, w: Self::Rows, acc: [__m256i; 2]) -> [__m256i; 2] {
                [op!($dpbusd(acc[0], x, w[0])), op!($dpbusd(acc[1], x, w[1]))]
            }
        }
    };
}

vnni! {
    /// AVX-VNNI's products, which do not saturate.
    Dpbusd, "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt,avxvnni", _mm256_dpbusd_avx_epi32
}

#[cfg(test)]
vnni! {
    /// [`Dpbusd`] by the same instruction in AVX-512's encoding, for tests on CPUs that have no other.
    Evex, "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512vl,avx512vnni", _mm256_dpbusd_epi32
}

#[cfg(test)]
pub(crate) fn v3_vnni_by_v4(_: super::V4) -> Avx2<Evex> {
    // SAFETY: a `V4` proves all the features of `Evex`.
    unsafe { Avx2::promised() }
}
