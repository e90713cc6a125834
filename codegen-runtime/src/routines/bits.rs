//! ONNX BitCast.

use crate::operand::{Bf16, Bool, Element, F8E4M3, F8E4M3Uz, F8E5M2, F8E5M2Uz, F8E8M0, F16};

/// Elements with a bit pattern.
pub trait Pattern: Element {
    /// The bits, lowest first.
    fn bits(self) -> u64;
    /// The element of these bits; higher ones are ignored.
    fn of_bits(bits: u64) -> Self;
}

macro_rules! patterns {
    ($($t:ty: $x:ident => $bits:expr, $b:ident => $of:expr;)*) => {$(
        impl Pattern for $t {
            #[inline(always)]
            fn bits(self) -> u64 {
                let $x = self;
                $bits
            }
            #[inline(always)]
            fn of_bits($b: u64) -> Self {
                $of
            }
        }
    )*};
}

patterns! {
    f32: x => x.to_bits().into(), b => f32::from_bits(b as u32);
    f64: x => x.to_bits(), b => f64::from_bits(b);
    i8: x => (x as u8).into(), b => b as i8;
    i16: x => (x as u16).into(), b => b as i16;
    i32: x => (x as u32).into(), b => b as i32;
    i64: x => x as u64, b => b as i64;
    u8: x => x.into(), b => b as u8;
    u16: x => x.into(), b => b as u16;
    u32: x => x.into(), b => b as u32;
    u64: x => x, b => b;
    Bool: x => x.get().into(), b => Bool(b as u8);
    F16: x => x.0.into(), b => F16(b as u16);
    Bf16: x => x.0.into(), b => Bf16(b as u16);
    F8E4M3: x => x.0.into(), b => F8E4M3(b as u8);
    F8E4M3Uz: x => x.0.into(), b => F8E4M3Uz(b as u8);
    F8E5M2: x => x.0.into(), b => F8E5M2(b as u8);
    F8E5M2Uz: x => x.0.into(), b => F8E5M2Uz(b as u8);
    F8E8M0: x => x.0.into(), b => F8E8M0(b as u8);
}

/// The elements' bits as another type of the same width.
pub fn cast<T: Pattern, U: Pattern>(x: &[T], y: &mut [U]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = U::of_bits(x.bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_stay() {
        let mut y = [0u32; 2];
        cast(&[1.0f32, -0.0], &mut y);
        assert_eq!(y, [0x3f80_0000, 0x8000_0000]);
        let mut y = [0i8; 1];
        cast(&[0x80u8, 1], &mut y);
        assert_eq!(y, [-128]);
        let mut y = [0.0f64; 1];
        cast(&[i64::MIN], &mut y);
        assert!(y[0] == 0.0 && y[0].is_sign_negative());
    }
}
