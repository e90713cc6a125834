//! [DFT](https://onnx.ai/onnx/operators/onnx__DFT.html) and
//! [STFT](https://onnx.ai/onnx/operators/onnx__STFT.html), as products with a constant matrix of cosines and
//! sines: the kernels of MatMul and Conv run them. Lengths and the axis must be known at compile time.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::typed::{expect, from_floats};
use super::walk::{axis, checked_type, extent};
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::{DType, Tensor};
use crate::onnx::{AttrReader, NodeView};
use libm::{cos, sin};
use std::f64::consts::PI;

/// Largest matrix, in elements: a transform of 8192 points, both ways complex.
const MAX_MATRIX: usize = 1 << 28;

/// Operands: the signal `[…, n, 1 or 2]`; its length (optional); the axis (from version 20).
pub struct Dft;

/// Operands: the signal `[batch, n, 1 or 2]`; the distance of frames; the window; the frame's length.
pub struct Stft;

/// A transform of `from` values into `to`, as frequencies and samples of a period of `n`.
struct Transform {
    n: usize,
    from: usize,
    to: usize,
    /// Values per sample: 1 (real) or 2.
    from_parts: usize,
    to_parts: usize,
    inverse: bool,
    /// The operand holds the first half of a spectrum whose other half mirrors it.
    mirrored: bool,
}

impl Transform {
    /// What the sample `(i, part)` adds to the result `(j, part)`.
    fn weight(&self, i: usize, part: usize, j: usize, to_part: usize) -> f64 {
        let one = |i: usize, imaginary: f64| {
            // Whole turns drop out exactly.
            let turn = (i as u128 * j as u128 % self.n.max(1) as u128) as f64 / self.n.max(1) as f64;
            let angle = if self.inverse { 2.0 * PI * turn } else { -2.0 * PI * turn };
            match (part, to_part) {
                (0, 0) => cos(angle),
                (0, _) => sin(angle),
                (_, 0) => -imaginary * sin(angle),
                _ => imaginary * cos(angle),
            }
        };
        let mirror = if self.mirrored { self.n.saturating_sub(i) } else { i };
        let sum =
            one(i, 1.0) + if mirror != i && i > 0 && mirror >= self.from { one(mirror, -1.0) } else { 0.0 };
        if self.inverse { sum / self.n.max(1) as f64 } else { sum }
    }

    /// `[from · parts, to · parts]`, row-major.
    fn matrix(&self, dtype: DType) -> Result<Tensor, OpError> {
        let (rows, columns) = (self.from * self.from_parts, self.to * self.to_parts);
        if rows.checked_mul(columns).is_none_or(|n| n > MAX_MATRIX) {
            return Err(OpError::Limit(format!("a Fourier transform of {} points", self.n)));
        }
        let values = (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))).map(|(r, c)| {
            let (i, part) = (r / self.from_parts.max(1), r % self.from_parts.max(1));
            self.weight(i, part, c / self.to_parts.max(1), c % self.to_parts.max(1))
        });
        from_floats(dtype, [rows, columns], values)
    }
}

fn known_one(inputs: &Inputs<'_>, i: usize, what: &str) -> Result<Option<i64>, OpError> {
    match inputs.known_ints(i, what)?.as_deref() {
        None => Ok(None),
        Some(&[n]) => Ok(Some(n)),
        Some(_) => Err(OpError::invalid(format!("`{what}` must hold one value"))),
    }
}

impl Composite for Dft {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("DFT", 17), OnnxName::onnx("DFT", 20)];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        let inverse = attrs.int_or("inverse", 0)? != 0;
        let onesided = attrs.int_or("onesided", 0)? != 0;
        let at = if node.opset < 20 {
            attrs.int_or("axis", 1)?
        } else {
            known_one(inputs, 2, "axis")?.unwrap_or(-2)
        };
        let rank = x.shape.rank();
        let at = axis(at, rank)?;
        let parts = x.shape.last().copied().unwrap_or(0);
        if rank < 2 || at + 1 == rank || !(1..=2).contains(&parts) {
            return Err(OpError::invalid(format!("a signal {} along axis {at}", x.shape)));
        }
        let have = x.shape.get(at).copied().unwrap_or(0);
        let given = known_one(inputs, 1, "dft_length")?.map(extent).transpose()?;
        let mirrored = inverse && onesided;
        let n = given.unwrap_or(if mirrored { 2 * have.saturating_sub(1) } else { have });
        if n == 0 {
            return Err(OpError::invalid("a transform of no points"));
        }
        if onesided && !inverse && parts != 1 {
            return Err(OpError::invalid("a complex signal has no one-sided spectrum"));
        }
        let half = n / 2 + 1;
        let wanted = if mirrored { half } else { n };
        let transform = Transform {
            n,
            from: have.min(wanted),
            to: if onesided && !inverse { half } else { n },
            from_parts: parts,
            to_parts: if mirrored { 1 } else { 2 },
            inverse,
            mirrored,
        };
        // The axis goes next to the parts, and both become one row.
        let mut s = Script::new(&["x", "length", "axis"]);
        let mut order: Vec<usize> = (0..rank).filter(|&a| a != at && a + 1 != rank).collect();
        let outer: Vec<usize> = order.iter().filter_map(|&a| x.shape.get(a).copied()).collect();
        order.extend([at, rank - 1]);
        let mut back = vec![0; rank];
        order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
        let mut y = s.op(&format!("Transpose <perm = {order:?}>"), &["x"]);
        if transform.from < have {
            let (zero, end, last) =
                (s.ints(&[0]), s.ints(&[transform.from as i64]), s.ints(&[rank as i64 - 2]));
            y = s.op("Slice", &[&y, &zero, &end, &last]);
        }
        let rows = outer.iter().product();
        y = s.reshape(&y, &[rows, transform.from * parts]);
        let matrix = s.tensor(transform.matrix(x.dtype)?);
        y = s.op("MatMul", &[&y, &matrix]);
        let shape = [outer, vec![transform.to, transform.to_parts]].concat();
        checked_type(x.dtype, shape.clone())?;
        y = s.reshape(&y, &shape);
        y = s.op(&format!("Transpose <perm = {back:?}>"), &[&y]);
        s.finish(&[&y])
    }
}

impl Composite for Stft {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("STFT", 17)];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        let (batch, len, parts) = match *x.shape.dims() {
            [batch, len] => (batch, len, 1),
            [batch, len, parts @ 1..=2] => (batch, len, parts),
            _ => return Err(OpError::invalid(format!("a signal {}", x.shape))),
        };
        let onesided = attrs.int_or("onesided", 1)? != 0;
        let step = known_one(inputs, 1, "frame_step")?
            .filter(|&s| s > 0)
            .ok_or_else(|| OpError::invalid("`frame_step` must be positive"))?;
        let window = inputs.get(2);
        let n = match (known_one(inputs, 3, "frame_length")?, window) {
            (Some(n), _) => extent(n)?,
            (None, Some(window)) => window.shape.elements(),
            (None, None) => len,
        };
        if let Some(window) = window {
            expect(window.dtype == x.dtype, window.dtype)?;
            if window.shape.dims() != [n] {
                return Err(OpError::invalid(format!("a window {} for frames of {n}", window.shape)));
            }
        }
        if n == 0 || n > len || onesided && parts == 2 {
            return Err(OpError::invalid(format!("frames of {n} in a signal {}", x.shape)));
        }
        let bins = if onesided { n / 2 + 1 } else { n };
        let frames = (len - n) / usize::try_from(step).unwrap_or(usize::MAX).max(1) + 1;
        let transform = Transform {
            n,
            from: n,
            to: bins,
            from_parts: parts,
            to_parts: 2,
            inverse: false,
            mirrored: false,
        };
        // A frame's spectrum is a convolution: its bins are the channels, the window scales the taps.
        let mut s = Script::new(&["x", "step", "window", "length"]);
        let matrix = s.tensor(transform.matrix(x.dtype)?);
        let matrix = s.reshape(&matrix, &[n, parts, 2 * bins]);
        let mut taps = s.op("Transpose <perm = [2, 1, 0]>", &[&matrix]);
        if window.is_some() {
            taps = s.op("Mul", &[&taps, "window"]);
        }
        let signal = s.reshape("x", &[batch, len, parts]);
        let signal = s.op("Transpose <perm = [0, 2, 1]>", &[&signal]);
        let y = s.op(&format!("Conv <strides = [{step}], kernel_shape = [{n}]>"), &[&signal, &taps]);
        let y = s.op("Transpose <perm = [0, 2, 1]>", &[&y]);
        let y = s.reshape(&y, &[batch, frames, bins, 2]);
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run_text;

    fn run(shape: &str, values: &str, node: &str) -> Result<Vec<f64>, String> {
        let text = format!(
            "g () => (y) <double{shape} x = {{{values}}}, int64 three = {{3}}, int64 two = {{2}}> {{ {node} }}"
        );
        let y = run_text(&text).map_err(|e| e.to_string())?.swap_remove(0);
        Ok(y.to_f64_vec().unwrap())
    }

    fn near(found: Vec<f64>, expected: &[f64]) {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn spectra_and_back() {
        let half = 3f64.sqrt() / 2.0;
        let all = [6., 0., -1.5, half, -1.5, -half];
        near(run("[1, 3, 1]", "1, 2, 3", "y = DFT (x)").unwrap(), &all);
        near(run("[1, 3, 1]", "1, 2, 3", "y = DFT <onesided = 1> (x)").unwrap(), &all[..4]);
        near(run("[1, 4, 1]", "1, 2, 3, 9", "y = DFT (x, three)").unwrap(), &all);
        let there = "z = DFT (x) y = DFT <inverse = 1> (z)";
        near(run("[1, 3, 1]", "1, 2, 3", there).unwrap(), &[1., 0., 2., 0., 3., 0.]);
        let there = "z = DFT <onesided = 1> (x) y = DFT <inverse = 1, onesided = 1> (z)";
        near(run("[1, 4, 1]", "1, 2, 3, 5", there).unwrap(), &[1., 2., 3., 5.]);
        let there = "z = DFT <onesided = 1> (x) y = DFT <inverse = 1, onesided = 1> (z, three)";
        near(run("[1, 3, 1]", "1, 2, 3", there).unwrap(), &[1., 2., 3.]);
        assert!(run("[1, 1, 3]", "1, 2, 3", "y = DFT (x)").is_err());
    }

    #[test]
    fn frames_are_transforms() {
        let y = run("[1, 4, 1]", "1, 2, 3, 5", "y = STFT (x, two, , two)").unwrap();
        near(y, &[3., 0., -1., 0., 8., 0., -2., 0.]);
        assert!(run("[1, 4, 1]", "1, 2, 3, 5", "z = Neg (two) y = STFT (x, z, , two)").is_err());
    }
}
