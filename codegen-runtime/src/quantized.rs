//! Between real numbers and the integers that stand for them at a model's edges.

use crate::api::TensorInfo;
use crate::num;

/// Scales and zero points of a quantized tensor that has one of each per index of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerAxis {
    /// The axis, counted in [`TensorInfo::shape`].
    pub axis: usize,
    /// Real value of one step, by index.
    pub scales: &'static [f32],
    /// The step that stands for zero, by index.
    pub zero_points: &'static [i32],
}

mod sealed {
    pub trait Sealed {}
}

/// Element types of quantized inputs and outputs: `i8`, `u8`, `i16`, `u16`.
pub trait Quantized: Copy + sealed::Sealed {
    /// `clamp(zero_point + round(real / scale))`, ties to even, the lowest for NaN: ONNX's QuantizeLinear.
    fn quantize(real: f32, scale: f32, zero_point: i32) -> Self;

    /// `(self − zero_point) · scale`: ONNX's DequantizeLinear.
    fn dequantize(self, scale: f32, zero_point: i32) -> f32;
}

macro_rules! quantized {
    ($($t:ident $quantize:ident),*) => {$(
        impl sealed::Sealed for $t {}
        impl Quantized for $t {
            #[inline(always)]
            fn quantize(real: f32, scale: f32, zero_point: i32) -> Self {
                num::$quantize(real / scale, zero_point)
            }

            #[inline(always)]
            fn dequantize(self, scale: f32, zero_point: i32) -> f32 {
                i32::from(self).wrapping_sub(zero_point) as f32 * scale
            }
        }
    )*};
}

quantized!(i8 quantize_i8, u8 quantize_u8, i16 quantize_i16, u16 quantize_u16);

impl TensorInfo {
    /// Calls `f` with each pair of elements and their scale and zero point: one for all where the tensor has no others, and
    /// of 1 and 0 where it is not quantized.
    #[inline(always)]
    fn pairs<A, B>(&self, a: &[A], b: &mut [B], mut f: impl FnMut(&A, &mut B, f32, i32)) {
        match &self.per_axis {
            None => {
                let scale = self.scale.unwrap_or(1.0);
                a.iter().zip(b).for_each(|(a, b)| f(a, b, scale, self.zero_point));
            }
            Some(by) => {
                let inner = self.shape.iter().skip(by.axis.saturating_add(1)).product::<usize>().max(1);
                let steps = by.scales.iter().zip(by.zero_points).cycle();
                for ((a, b), (&scale, &zero)) in a.chunks(inner).zip(b.chunks_mut(inner)).zip(steps) {
                    a.iter().zip(b).for_each(|(a, b)| f(a, b, scale, zero));
                }
            }
        }
    }

    /// Real numbers as the integers that the model takes or gives: `clamp(zero_point + round(real / scale))`, ties to even,
    /// the lowest for NaN. As many as the shorter slice holds; both are in memory order.
    #[inline]
    pub fn quantize<T: Quantized>(&self, reals: &[f32], steps: &mut [T]) {
        self.pairs(reals, steps, |&real, step, scale, zero| *step = T::quantize(real, scale, zero));
    }

    /// Integers that the model takes or gives as real numbers: `(step − zero_point) · scale`. As many as the shorter slice
    /// holds; both are in memory order.
    #[inline]
    pub fn dequantize<T: Quantized>(&self, steps: &[T], reals: &mut [f32]) {
        self.pairs(steps, reals, |&step, real, scale, zero| *real = step.dequantize(scale, zero));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: TensorInfo = TensorInfo {
        name: "x",
        dtype: "u8",
        shape: &[1, 2, 2],
        layout: "",
        scale: Some(0.5),
        zero_point: 3,
        per_axis: None,
    };

    #[test]
    fn one_scale_holds_for_all() {
        let mut steps = [9u8; 6];
        PLAIN.quantize(&[0.25, 0.75, -0.25, 1e9, f32::NAN], &mut steps);
        assert_eq!(steps, [3, 5, 3, 255, 0, 9]);
        let mut reals = [0.0; 3];
        PLAIN.dequantize(&steps, &mut reals);
        assert_eq!(reals, [0.0, 1.0, 0.0]);
    }

    #[test]
    fn scales_lie_along_an_axis() {
        let by = PerAxis { axis: 1, scales: &[1.0, 2.0], zero_points: &[0, 1] };
        let info = TensorInfo { scale: None, zero_point: 0, per_axis: Some(by), ..PLAIN };
        let mut steps = [0i16; 4];
        info.quantize(&[4.0; 4], &mut steps);
        assert_eq!(steps, [4, 4, 3, 3]);
        let mut reals = [0.0; 4];
        info.dequantize(&steps, &mut reals);
        assert_eq!(reals, [4.0; 4]);
    }
}
