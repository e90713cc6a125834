//! Floats that routines compute with in double precision.

use crate::operand::Element;

/// `f32` and `f64`.
pub trait Real: Element + PartialOrd {
    /// Exact.
    fn wide(self) -> f64;
    /// Rounded once.
    fn narrow(value: f64) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn narrow(value: f64) -> Self {
        value as f32
    }
}

impl Real for f64 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    fn narrow(value: f64) -> Self {
        value
    }
}
