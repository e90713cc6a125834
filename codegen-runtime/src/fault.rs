//! Run-time faults: invalid data met while a model ran.

/// Set by a layer that met an index outside its axis (clamped) or a count above its maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing to report.
    None,
    /// An index lay outside its axis and was clamped.
    IndexOutOfRange,
}

impl Fault {
    /// The first of two faults.
    #[inline(always)]
    pub const fn or(self, other: Fault) -> Fault {
        match self {
            Fault::None => other,
            _ => self,
        }
    }
}

/// Why an inference's outputs are not what ONNX defines; the outputs are still defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunError {
    /// Index of the first layer that met invalid data.
    pub layer: usize,
    /// What it met.
    pub fault: Fault,
}

impl core::fmt::Display for RunError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.fault {
            Fault::None => write!(f, "layer {} reported nothing", self.layer),
            Fault::IndexOutOfRange => write!(f, "layer {} met an index outside its axis", self.layer),
        }
    }
}

impl core::error::Error for RunError {}
