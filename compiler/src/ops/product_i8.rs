//! Convolutions and matrix products of bytes, requantized; inside the compiler only, as what passes make of
//! quantized operators, in either of ONNX's forms (`QLinearConv`, or a Conv between DequantizeLinear and
//! QuantizeLinear).
//!
//! `y = requant(bias[m] + Σ (x - x_zero)·w, factor[m])`, with exact sums of 32 bits; padding is `x_zero`. See
//! [`Requant`] for the definition.

use super::conv::{Geometry, convolve};
use super::number::Number;
use super::product_i8_lower;
use super::requant::Requant;
use super::typed::expect;
use super::walk::{checked_type, operand, optional};
use super::window::{Window, advance};
use super::{Inputs, LayoutRule, Op, OpError, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::schedule::LowerCx;

/// Which product.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Convolution of `x[N, C, space…]` with `w[M, C/groups, kernel…]`.
    Window {
        /// Strides, dilations, pads.
        window: Window,
        /// Groups.
        groups: usize,
    },
    /// Sums over windows of each channel, as means are made of: a depthwise convolution with ones, which are no operand.
    Sums {
        /// Kernel extents, strides, dilations, pads.
        window: Window,
    },
    /// The largest of each window of each channel; padding takes no part.
    Maxima {
        /// Kernel extents, strides, dilations, pads.
        window: Window,
    },
    /// Products of the rows of `x[…, K]` with those of `w[M, K]`.
    Rows,
}

/// Operands: `x` (`u8`), `w` (`i8`; none for sums), `bias[M]` (`i32`), `factor[M]` (`f32`), and where something is added the addend
/// (`u8`, of the result's shape). All but `x` and the addend are known.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductI8 {
    /// Which product.
    pub form: Form,
    /// Zero point of `x`.
    pub x_zero: u8,
    /// What happens to the sums.
    pub requant: Requant,
}

impl Form {
    /// Whether there are weights.
    pub(super) fn weighted(&self) -> bool {
        !matches!(self, Form::Sums { .. } | Form::Maxima { .. })
    }
}

/// The largest elements of windows; `least` where one lies in padding only.
fn maxima(x: &[i64], g: &Geometry, least: i64) -> Vec<i64> {
    let plane: usize = g.taps.input.iter().product();
    let mut out = Vec::new();
    for plane in x.chunks(plane.max(1)) {
        let mut window = vec![0; g.taps.rank()];
        loop {
            let mut largest = least;
            let mut tap = vec![0; g.taps.rank()];
            loop {
                let at = (0..g.taps.rank()).try_fold(0usize, |at, axis| {
                    let (o, k) = (window.get(axis).copied()?, tap.get(axis).copied()?);
                    Some(at * g.taps.input.get(axis).copied()? + g.taps.source(axis, o, k)?)
                });
                largest = at.and_then(|at| plane.get(at)).copied().unwrap_or(least).max(largest);
                if !advance(&mut tap, &g.taps.kernel) {
                    break;
                }
            }
            out.push(largest);
            if !advance(&mut window, &g.taps.output) {
                break;
            }
        }
    }
    out
}

/// Position of the addend.
pub(super) const ADDEND: usize = 4;

/// Extents of either form.
pub(super) enum Extents {
    /// Of a convolution.
    Window(Geometry),
    /// Leading extents, inner extent, outputs.
    Rows(Vec<usize>, usize, usize),
}

impl Extents {
    /// Output channels.
    pub(super) fn outputs(&self) -> usize {
        match self {
            Extents::Window(g) => g.outputs(),
            Extents::Rows(_, _, outputs) => *outputs,
        }
    }

    fn shape(&self) -> Vec<usize> {
        match self {
            Extents::Window(g) => g.output(),
            Extents::Rows(lead, _, outputs) => lead.iter().copied().chain([*outputs]).collect(),
        }
    }
}

impl ProductI8 {
    pub(super) fn extents(&self, x: &[usize], w: &[usize]) -> Result<Extents, OpError> {
        match (&self.form, x, w) {
            (Form::Window { window, groups }, ..) => {
                Ok(Extents::Window(Geometry::new(window, *groups, x, w)?))
            }
            (Form::Sums { window } | Form::Maxima { window }, ..) => {
                Ok(Extents::Window(Geometry::new(window, x.get(1).copied().unwrap_or(1), x, w)?))
            }
            (Form::Rows, [lead @ .., k], [outputs, inner]) if k == inner => {
                Ok(Extents::Rows(lead.to_vec(), *k, *outputs))
            }
            (Form::Rows, ..) => Err(OpError::invalid("rows of other lengths than those of the weights")),
        }
    }
}

impl ProductI8 {
    /// The shape of the weights over `x`: the operand's, or that of the ones in its place.
    pub(super) fn weights(&self, x: &[usize], operand: Option<&Shape>) -> Result<Shape, OpError> {
        let lacks = || OpError::internal("a product without weights");
        match (&self.form, operand) {
            (Form::Sums { window } | Form::Maxima { window }, _) => {
                let kernel = window.kernel_shape.as_ref().ok_or_else(lacks)?;
                let channels = x.get(1).copied().ok_or_else(lacks)?;
                let shape: Shape = [channels, 1].iter().chain(kernel).copied().collect();
                checked_type(DType::I8, shape.clone())?;
                Ok(shape)
            }
            (_, Some(shape)) => Ok(shape.clone()),
            (_, None) => Err(lacks()),
        }
    }
}

impl Op for ProductI8 {
    fn name(&self) -> &'static str {
        match self.form {
            Form::Window { .. } => "QLinearConv",
            Form::Sums { .. } => "QLinearAveragePool",
            Form::Maxima { .. } => "MaxPool",
            Form::Rows => "QLinearMatMul",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        expect(x.dtype == DType::U8, x.dtype)?;
        let w = inputs.get(1);
        if let Some(w) = w {
            expect(w.dtype == DType::I8 && w.constant.is_some(), w.dtype)?;
        }
        let extents = self.extents(x.shape, &self.weights(x.shape, w.map(|w| w.shape))?)?;
        for (i, dtype) in [(2, DType::I32), (3, DType::F32)] {
            let vector = inputs.required(i)?;
            expect(vector.dtype == dtype && vector.constant.is_some(), vector.dtype)?;
            if vector.shape.dims() != [extents.outputs()] {
                return Err(OpError::invalid(format!("a vector of shape {}", vector.shape)));
            }
        }
        let y = checked_type(self.requant.to, extents.shape())?;
        if self.requant.add.is_some() {
            let addend = inputs.required(ADDEND)?;
            expect(addend.dtype == DType::U8, addend.dtype)?;
            if *addend.shape != y.shape {
                return Err(OpError::invalid(format!("an addend of shape {}", addend.shape)));
            }
        }
        Ok(vec![y])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let (x, w) = (operand(inputs, 0)?, optional(inputs, 1));
        let shape = self.weights(x.shape(), w.map(Tensor::shape))?;
        let extents = self.extents(x.shape(), &shape)?;
        let wrong = || OpError::internal("operands of other types than inferred");
        let bias = operand(inputs, 2)?.as_slice::<i32>().ok_or_else(wrong)?;
        let factors = operand(inputs, 3)?.as_slice::<f32>().ok_or_else(wrong)?;
        let addend = optional(inputs, ADDEND).map(|t| t.to_i64_vec().ok_or_else(wrong)).transpose()?;
        let zero = i64::from(self.x_zero);
        let x: Vec<i64> = i64::load(x)?.iter().map(|v| v - zero).collect();
        let w = w.map_or_else(|| Ok(vec![1; shape.elements()].into()), i64::load)?;
        let outputs = extents.outputs().max(1);
        let (sums, inner) = match &extents {
            Extents::Window(g) => {
                let sums = match self.form {
                    Form::Maxima { .. } => maxima(&x, g, -zero),
                    _ => convolve(&x, &w, g),
                };
                (sums, g.taps.output.iter().product::<usize>().max(1))
            }
            Extents::Rows(_, k, _) => {
                let rows = x.chunks(*k.max(&1));
                let weights = || w.chunks(*k.max(&1));
                let dot = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
                (rows.flat_map(|row| weights().map(move |w| dot(row, w))).collect(), 1)
            }
        };
        let results = sums.into_iter().enumerate().map(|(i, sum): (usize, i64)| {
            let channel = i / inner % outputs;
            let (b, f) = (bias.get(channel).copied(), factors.get(channel).copied());
            let r = addend.as_ref().and_then(|a| a.get(i)).copied().unwrap_or(0);
            let sum = (sum as i32).wrapping_add(b.unwrap_or(0));
            i64::from(self.requant.apply(sum, f.unwrap_or(0.0), r as i32))
        });
        let results: Vec<i64> = results.collect();
        Ok(vec![i64::store(results, self.requant.to, extents.shape().into())?])
    }

    fn layout(&self) -> LayoutRule {
        match self.form {
            Form::Window { .. } | Form::Sums { .. } | Form::Maxima { .. } => LayoutRule::ChannelsLast,
            Form::Rows => LayoutRule::RowMajor,
        }
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        product_i8_lower::lower(self, cx)
    }

    fn macs(&self, inputs: &[Option<Type>], outputs: &[Type]) -> u64 {
        let per_output = match inputs.get(1) {
            Some(Some(w)) => w.shape.iter().skip(1).fold(1u64, |n, &d| n.saturating_mul(d as u64)),
            _ => 0,
        };
        outputs.first().map_or(0, |y| per_output.saturating_mul(y.shape.elements() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use super::*;

    fn requant(zero: i32) -> Requant {
        Requant { first: [-zero, 255 - zero], rescale: None, add: None, last: None, zero, to: DType::U8 }
    }

    #[test]
    fn padding_is_the_zero_point() {
        let mut window = Window::of(&[2]);
        window.pads = Some(vec![1, 0]);
        let op = ProductI8 { form: Form::Window { window, groups: 1 }, x_zero: 10, requant: requant(100) };
        let x = Tensor::new([1, 1, 3], vec![12u8, 8, 255]).unwrap();
        let w = Tensor::new([2, 1, 2], vec![5i8, 1, -1, -2]).unwrap();
        let (bias, factors) = (Tensor::vector(&[0i32, 7]), Tensor::vector(&[1.0f32, 0.5]));
        let y = run(&op.into(), &[Some(&x), Some(&w), Some(&bias), Some(&factors)], 1).unwrap();
        // Sums [2, 8, 235] and [3, 9, -481].
        assert_eq!(y[0], Tensor::new([1, 2, 3], vec![102u8, 108, 255, 102, 104, 0]).unwrap());
    }

    #[test]
    fn sums_have_no_weights() {
        let op = ProductI8 { form: Form::Sums { window: Window::of(&[2]) }, x_zero: 10, requant: requant(3) };
        let x = Tensor::new([1, 2, 3], vec![12u8, 8, 255, 0, 20, 11]).unwrap();
        let (bias, factors) = (Tensor::vector(&[0i32, 0]), Tensor::vector(&[0.5f32, 0.5]));
        let y = run(&op.into(), &[Some(&x), None, Some(&bias), Some(&factors)], 1).unwrap();
        // Sums [0, 243] and [0, 11]; ties go to the even neighbour.
        assert_eq!(y[0], Tensor::new([1, 2, 2], vec![3u8, 125, 3, 9]).unwrap());
    }

    #[test]
    fn padding_is_never_the_largest() {
        let mut window = Window::of(&[2]);
        window.pads = Some(vec![1, 1]);
        let op = ProductI8 { form: Form::Maxima { window }, x_zero: 10, requant: requant(10) };
        let x = Tensor::new([1, 2, 3], vec![2u8, 8, 255, 0, 20, 11]).unwrap();
        let (bias, factors) = (Tensor::vector(&[0i32, 0]), Tensor::vector(&[1.0f32, 1.0]));
        let y = run(&op.into(), &[Some(&x), None, Some(&bias), Some(&factors)], 1).unwrap();
        assert_eq!(y[0], Tensor::new([1, 2, 4], vec![2u8, 8, 255, 255, 0, 20, 20, 11]).unwrap());
    }

    #[test]
    fn rows_times_rows() {
        let op = ProductI8 { form: Form::Rows, x_zero: 1, requant: requant(0) };
        let x = Tensor::new([2, 1, 2], vec![1u8, 3, 5, 1]).unwrap();
        let w = Tensor::new([3, 2], vec![1i8, 2, 3, 4, -5, 6]).unwrap();
        let (bias, factors) = (Tensor::vector(&[1i32, 0, 0]), Tensor::vector(&[1.0f32; 3]));
        let y = run(&op.into(), &[Some(&x), Some(&w), Some(&bias), Some(&factors)], 1).unwrap();
        assert_eq!(y[0], Tensor::new([2, 1, 3], vec![5u8, 8, 12, 5, 12, 0]).unwrap());
    }
}
