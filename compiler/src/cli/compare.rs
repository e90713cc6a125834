//! Comparison of outputs with recorded ones.

use crate::ir::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// How far an output may lie from its reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// `|Δ| ≤ rtol·|y| + atol`.
    Float {
        /// Relative part.
        rtol: f64,
        /// Absolute part.
        atol: f64,
    },
    /// At most this many quantization steps (units of an integer output).
    Steps(f64),
    /// Equal.
    Exact,
}

/// A tolerance as `info.json` or `case.json` writes it.
#[derive(Debug, Clone, Deserialize)]
pub struct ToleranceJson {
    rtol: Option<f64>,
    atol: Option<f64>,
    steps: Option<f64>,
    exact: Option<bool>,
}

impl Tolerance {
    /// What holds where nothing is said: DESIGN's defaults, integers exact.
    pub fn default_for(dtype: DType) -> Self {
        if dtype.is_float() { Tolerance::Float { rtol: 1e-3, atol: 1e-5 } } else { Tolerance::Exact }
    }

    /// From a file's entry.
    pub fn from_json(json: &ToleranceJson, dtype: DType) -> Self {
        match json {
            ToleranceJson { exact: Some(true), .. } => Tolerance::Exact,
            ToleranceJson { steps: Some(n), .. } => Tolerance::Steps(*n),
            ToleranceJson { rtol: None, atol: None, .. } => Self::default_for(dtype),
            ToleranceJson { rtol, atol, .. } => {
                Tolerance::Float { rtol: rtol.unwrap_or(0.0), atol: atol.unwrap_or(0.0) }
            }
        }
    }
}

impl Tolerance {
    /// As `|Δ| ≤ rtol·|y| + atol`.
    pub fn parts(self) -> (f64, f64) {
        match self {
            Tolerance::Float { rtol, atol } => (rtol, atol),
            Tolerance::Steps(n) => (0.0, n),
            Tolerance::Exact => (0.0, 0.0),
        }
    }
}

/// How an output compares.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Largest absolute difference.
    pub max_abs_err: f64,
    /// Largest difference relative to the reference's magnitude.
    pub max_rel_err: f64,
    /// Elements out of tolerance.
    pub wrong: usize,
    /// First of them, row-major, with the two values.
    pub first: Option<(usize, f64, f64)>,
    /// Shape or type differ.
    pub mismatch: Option<String>,
    /// Name of the first output that is out of tolerance.
    #[serde(skip)]
    pub output: Option<String>,
}

impl Difference {
    /// Whether all is within tolerance.
    pub fn ok(&self) -> bool {
        self.wrong == 0 && self.mismatch.is_none()
    }

    /// Joins two outputs' differences.
    pub fn merge(&mut self, other: Difference) {
        self.max_abs_err = self.max_abs_err.max(other.max_abs_err);
        self.max_rel_err = self.max_rel_err.max(other.max_rel_err);
        self.wrong += other.wrong;
        self.first = self.first.or(other.first);
        self.mismatch = self.mismatch.take().or(other.mismatch);
        self.output = self.output.take().or(other.output);
    }
}

/// Compares a result with its reference.
pub fn compare(found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Difference {
    let mut out = Difference::default();
    if found.dtype() != expected.dtype() || found.shape() != expected.shape() {
        out.mismatch = Some(format!(
            "{}{} instead of {}{}",
            found.dtype(),
            found.shape(),
            expected.dtype(),
            expected.shape()
        ));
        return out;
    }
    // 64-bit integers above 2^53 would compare equal as f64 although they differ.
    if let (Some(a), Some(b)) = (found.to_i64_vec(), expected.to_i64_vec()) {
        for (i, (&a, &b)) in a.iter().zip(&b).enumerate() {
            let d = a.abs_diff(b) as f64;
            let allowed = match tolerance {
                Tolerance::Exact => 0.0,
                Tolerance::Steps(n) => n,
                Tolerance::Float { rtol, atol } => rtol * (b as f64).abs() + atol,
            };
            out.record(i, a as f64, b as f64, d, d <= allowed);
        }
        return out;
    }
    let (Some(a), Some(b)) = (found.to_f64_vec(), expected.to_f64_vec()) else {
        if found != expected {
            out.mismatch = Some("texts differ".to_owned());
        }
        return out;
    };
    for (i, (&a, &b)) in a.iter().zip(&b).enumerate() {
        if (a.is_nan() && b.is_nan()) || a == b {
            continue;
        }
        let d = (a - b).abs();
        let fine = match tolerance {
            Tolerance::Exact => false,
            Tolerance::Steps(n) => d <= n,
            Tolerance::Float { rtol, atol } => d <= rtol * b.abs() + atol,
        };
        // Comparisons with NaN are false, so a lone NaN or infinity is wrong.
        out.record(i, a, b, d, fine && d.is_finite());
    }
    out
}

impl Difference {
    fn record(&mut self, i: usize, a: f64, b: f64, d: f64, fine: bool) {
        let d = if d.is_nan() { f64::INFINITY } else { d };
        self.max_abs_err = self.max_abs_err.max(d);
        if b != 0.0 {
            self.max_rel_err = self.max_rel_err.max(d / b.abs());
        }
        if !fine {
            self.wrong += 1;
            self.first.get_or_insert((i, a, b));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_nan_is_wrong_and_a_pair_is_not() {
        let t = Tolerance::Float { rtol: 1.0, atol: 1e9 };
        let nan = Tensor::vector(&[f32::NAN]);
        let one = Tensor::vector(&[1.0f32]);
        assert!(!compare(&nan, &one, t).ok());
        assert!(!compare(&one, &nan, t).ok());
        assert!(compare(&nan, &nan, t).ok());
        assert!(!compare(&Tensor::vector(&[f32::INFINITY]), &one, t).ok());
    }

    #[test]
    fn large_integers_compare_exactly() {
        let a = Tensor::vector(&[i64::MAX]);
        let b = Tensor::vector(&[i64::MAX - 1]);
        assert!(!compare(&a, &b, Tolerance::Exact).ok());
    }

    #[test]
    fn relative_and_absolute_parts_add() {
        let t = Tolerance::Float { rtol: 0.1, atol: 0.5 };
        let y = Tensor::vector(&[10.0f32]);
        assert!(compare(&Tensor::vector(&[11.4f32]), &y, t).ok());
        assert!(!compare(&Tensor::vector(&[11.6f32]), &y, t).ok());
    }
}
