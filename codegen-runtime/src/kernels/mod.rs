//! Kernel families: a trait that an emitted layer implements with consts and operand types, and a
//! function that proves them against each other in `const` and runs the layer.

/// How a layer's output lies to its inputs in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The output's slot shares no byte with any input's.
    Disjoint,
    /// Slots may interleave in one wider buffer: every access of each operand falls into a window of
    /// its own of every `pitch` bytes.
    Strided {
        /// Bytes from one run of channels to the next.
        pitch: usize,
    },
    /// The output's slot may overlap an input's by as much as the family's `safe_lead` allows.
    Overlap,
}
