//! The memory plan as data, and its check, run by rustc on every emitted crate.

/// Bytes `start..end` of the arena that hold a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}
