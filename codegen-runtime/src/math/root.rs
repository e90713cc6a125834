//! Square roots, which `core` has not: the target's instruction, or integer arithmetic.

/// `√x`, correctly rounded; NaN below zero.
#[inline(always)]
pub fn sqrt_f32(x: f32) -> f32 {
    chosen::sqrt_f32(x)
}

/// `√x`, correctly rounded; NaN below zero.
#[inline(always)]
pub fn sqrt_f64(x: f64) -> f64 {
    chosen::sqrt_f64(x)
}

#[cfg(feature = "std")]
mod chosen {
    #[inline(always)]
    pub(super) fn sqrt_f32(x: f32) -> f32 {
        x.sqrt()
    }
    #[inline(always)]
    pub(super) fn sqrt_f64(x: f64) -> f64 {
        x.sqrt()
    }
}

#[cfg(all(not(feature = "std"), target_arch = "x86_64", target_feature = "sse2"))]
mod chosen {
    use core::arch::x86_64::*;

    #[inline(always)]
    pub(super) fn sqrt_f32(x: f32) -> f32 {
        // SAFETY: the target has SSE2; no memory is touched.
        unsafe { _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))) }
    }
    #[inline(always)]
    pub(super) fn sqrt_f64(x: f64) -> f64 {
        // SAFETY: the target has SSE2; no memory is touched.
        unsafe {
            let v = _mm_set_sd(x);
            _mm_cvtsd_f64(_mm_sqrt_sd(v, v))
        }
    }
}

#[cfg(all(not(feature = "std"), target_arch = "aarch64", target_feature = "neon"))]
mod chosen {
    use core::arch::aarch64::*;

    #[inline(always)]
    pub(super) fn sqrt_f32(x: f32) -> f32 {
        // SAFETY: the target has NEON; no memory is touched.
        unsafe { vget_lane_f32::<0>(vsqrt_f32(vdup_n_f32(x))) }
    }
    #[inline(always)]
    pub(super) fn sqrt_f64(x: f64) -> f64 {
        // SAFETY: the target has NEON; no memory is touched.
        unsafe { vget_lane_f64::<0>(vsqrt_f64(vdup_n_f64(x))) }
    }
}

#[cfg(all(not(feature = "std"), target_arch = "wasm32", target_feature = "simd128"))]
mod chosen {
    use core::arch::wasm32::*;

    #[inline(always)]
    pub(super) fn sqrt_f32(x: f32) -> f32 {
        f32x4_extract_lane::<0>(f32x4_sqrt(f32x4_splat(x)))
    }
    #[inline(always)]
    pub(super) fn sqrt_f64(x: f64) -> f64 {
        f64x2_extract_lane::<0>(f64x2_sqrt(f64x2_splat(x)))
    }
}

#[cfg(all(not(feature = "std"), target_arch = "arm", target_abi = "eabihf"))]
mod chosen {
    pub(super) use super::soft::sqrt_f64;

    #[inline(always)]
    pub(super) fn sqrt_f32(x: f32) -> f32 {
        let y: u32;
        // The class `sreg` needs a feature that stable rustc does not see on these targets, so `s0` is
        // borrowed and given back.
        // SAFETY: every hard-float Arm target has `vsqrt.f32`; `s0` is as before, no memory is touched.
        unsafe {
            core::arch::asm!(
                "vmov {kept}, s0",
                "vmov s0, {x}",
                "vsqrt.f32 s0, s0",
                "vmov {y}, s0",
                "vmov s0, {kept}",
                x = in(reg) x.to_bits(), kept = out(reg) _, y = lateout(reg) y,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        f32::from_bits(y)
    }
}

#[cfg(not(any(
    feature = "std",
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "wasm32", target_feature = "simd128"),
    all(target_arch = "arm", target_abi = "eabihf")
)))]
mod chosen {
    pub(super) use super::soft::{sqrt_f32, sqrt_f64};
}

/// Through the integer square root of the mantissa.
#[cfg_attr(
    any(
        feature = "std",
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon"),
        all(target_arch = "wasm32", target_feature = "simd128"),
        target_arch = "arm"
    ),
    allow(dead_code)
)]
pub(super) mod soft {
    pub(in crate::math) fn sqrt_f32(x: f32) -> f32 {
        if x == 0.0 || x.is_nan() || x == f32::INFINITY {
            return x;
        }
        if x < 0.0 {
            return f32::NAN;
        }
        let bits = x.to_bits();
        let (mut exponent, mut mantissa) = ((bits >> 23) as i32, bits & 0x007f_ffff);
        if exponent == 0 {
            let shift = mantissa.leading_zeros() - 8;
            mantissa <<= shift;
            exponent = 1 - shift as i32;
        } else {
            mantissa |= 0x0080_0000;
        }
        // x = mantissa·2^(exponent - 150). With an even exponent, the root has 25 bits.
        let odd = (exponent + 1) & 1;
        let root = (u64::from(mantissa) << (25 + odd)).isqrt() as u32;
        // 25 bits are never halfway between two numbers of 24: their square would need 49.
        let rounded = (root + 1) >> 1;
        let exponent = (exponent - 175 - odd) / 2 + 1;
        rounded as f32 * f32::from_bits(((exponent + 127) as u32) << 23)
    }

    pub(in crate::math) fn sqrt_f64(x: f64) -> f64 {
        if x == 0.0 || x.is_nan() || x == f64::INFINITY {
            return x;
        }
        if x < 0.0 {
            return f64::NAN;
        }
        let bits = x.to_bits();
        let (mut exponent, mut mantissa) = ((bits >> 52) as i64, bits & 0x000f_ffff_ffff_ffff);
        if exponent == 0 {
            let shift = mantissa.leading_zeros() - 11;
            mantissa <<= shift;
            exponent = 1 - i64::from(shift);
        } else {
            mantissa |= 0x0010_0000_0000_0000;
        }
        // x = mantissa·2^(exponent - 1075). With an even exponent, the root has 54 bits.
        let odd = (exponent - 1075) & 1;
        let root = (u128::from(mantissa) << (54 + odd)).isqrt() as u64;
        // 54 bits are never halfway between two numbers of 53: their square would need 107.
        let rounded = (root + 1) >> 1;
        let exponent = (exponent - 1075 - odd) / 2 - 26;
        rounded as f64 * f64::from_bits(((exponent + 1023) as u64) << 52)
    }
}
