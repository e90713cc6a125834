//! How integers stand for real numbers.

use super::{DType, Tensor};

/// Integers `q` that stand for `(q − zero) · scale`, with one scale for a whole tensor or one per index of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantParams {
    /// Axis that the scales lie along; `None` where one holds for all elements.
    pub axis: Option<usize>,
    /// Real value of one step, finite and above zero: one, or one per index of the axis.
    pub scales: Vec<f32>,
    /// The integers that stand for zero, as many as there are scales.
    pub zeros: Vec<i32>,
}

impl QuantParams {
    /// Least and largest integer of a type that quantized inputs and outputs may have.
    pub fn bounds(dtype: DType) -> Option<[i32; 2]> {
        Some(match dtype {
            DType::I8 => [-128, 127],
            DType::U8 => [0, 255],
            DType::I16 => [-32_768, 32_767],
            DType::U16 => [0, 65_535],
            _ => return None,
        })
    }

    /// Real numbers (`f32`) as integers of `dtype`: `clamp(zero + RNE(x / scale))`, the lowest for NaN, as QuantizeLinear has
    /// it. `None` for other types and for a tensor without the axis.
    pub fn quantized(&self, reals: &Tensor, dtype: DType) -> Option<Tensor> {
        let [low, high] = Self::bounds(dtype)?.map(f64::from);
        let steps = reals.as_slice::<f32>()?.iter().zip(self.each(reals)?).map(|(&x, (scale, zero))| {
            let step = libm::rint(f64::from(x / scale)) + f64::from(zero);
            if step.is_nan() { low } else { step.clamp(low, high) }
        });
        let shape = reals.shape().clone();
        match dtype {
            DType::I8 => Tensor::new(shape, steps.map(|v| v as i8).collect::<Vec<_>>()).ok(),
            DType::U8 => Tensor::new(shape, steps.map(|v| v as u8).collect::<Vec<_>>()).ok(),
            DType::I16 => Tensor::new(shape, steps.map(|v| v as i16).collect::<Vec<_>>()).ok(),
            DType::U16 => Tensor::new(shape, steps.map(|v| v as u16).collect::<Vec<_>>()).ok(),
            _ => None,
        }
    }

    /// Integers as real numbers (`f32`): `(q − zero) · scale`.
    pub fn dequantized(&self, steps: &Tensor) -> Option<Tensor> {
        let steps_of = steps.to_i64_vec()?;
        let reals = steps_of.iter().zip(self.each(steps)?);
        let reals: Vec<f32> =
            reals.map(|(&q, (scale, zero))| q.saturating_sub(i64::from(zero)) as f32 * scale).collect();
        Tensor::new(steps.shape().clone(), reals).ok()
    }

    /// Scale and zero point of each element.
    fn each<'a>(&'a self, tensor: &Tensor) -> Option<impl Iterator<Item = (f32, i32)> + 'a> {
        let dims = tensor.shape().dims();
        let inner: usize = match self.axis {
            None => 1,
            Some(axis) => {
                (dims.get(axis) == Some(&self.scales.len())).then_some(())?;
                dims.iter().skip(axis + 1).product()
            }
        };
        let pairs = self.scales.iter().copied().zip(self.zeros.iter().copied());
        Some(pairs.flat_map(move |pair| std::iter::repeat_n(pair, inner)).cycle())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_ties_to_even_and_saturates() {
        let params = QuantParams { axis: None, scales: vec![0.5], zeros: vec![3] };
        let reals = Tensor::vector(&[0.25f32, 0.75, -0.25, 1e9, -1e9, f32::NAN]);
        let steps = params.quantized(&reals, DType::U8).unwrap();
        assert_eq!(steps.to_i64_vec().unwrap(), [3, 5, 3, 255, 0, 0]);
        assert_eq!(params.quantized(&reals, DType::F32), None);
        let back = params.dequantized(&Tensor::vector(&[3i8, 5, -1])).unwrap();
        assert_eq!(back.as_slice::<f32>().unwrap(), [0.0, 1.0, -2.0]);
    }

    #[test]
    fn scales_lie_along_an_axis() {
        let params = QuantParams { axis: Some(1), scales: vec![1.0, 2.0], zeros: vec![0, 1] };
        let reals = Tensor::new([2, 2, 2], vec![4.0f32; 8]).unwrap();
        let steps = params.quantized(&reals, DType::I16).unwrap();
        assert_eq!(steps.to_i64_vec().unwrap(), [4, 4, 3, 3, 4, 4, 3, 3]);
        assert_eq!(params.dequantized(&steps).unwrap(), reals);
        assert_eq!(params.quantized(&Tensor::vector(&[1.0f32]), DType::I8), None);
    }
}
