//! Limits that keep a damaged or hostile model from exhausting the machine.

/// Bytes of a model file. Devices that edgec writes for hold far less.
pub const MAX_FILE_BYTES: u64 = 512 << 20;

/// Bytes of all tensors of a model together. Several tensors may name the same external bytes, so
/// the size of files alone bounds nothing.
pub const MAX_CONSTANT_BYTES: usize = 512 << 20;

/// Nodes walked, those of inlined functions and branches counted at each use: functions that call
/// each other twice grow as a power of two. The largest models that fit a device have some 20,000.
pub const MAX_NODES: usize = 40_000;

/// Depth of inlined functions and branches. Exporters nest four or five deep; each level is a few
/// frames of the stack.
pub const MAX_DEPTH: usize = 32;

/// Iterations of a loop that becomes straight code because its body has no fixed shapes.
pub const MAX_UNROLLED: u64 = 1024;

/// Bytes of one value at run time.
pub const MAX_VALUE_BYTES: usize = 1 << 30;

/// Bytes of one folded result. Shapes, indices and masks are small; an expansion beyond this costs
/// more as weights than it saves as time.
pub const FOLD_RESULT_BYTES: usize = 16 << 20;

/// Bytes of all folded results: they stay in memory until dead code is removed.
pub const FOLD_TOTAL_BYTES: usize = 128 << 20;

/// Elements read, written and multiplied by folding in one model: about a second of the reference
/// evaluator, optimised.
pub const FOLD_TOTAL_WORK: u64 = 1 << 27;

/// Errors reported one by one; the rest is counted.
pub const MAX_ERRORS: usize = 100;

/// Warnings about shapes reported one by one; the rest is counted.
pub const MAX_WARNINGS: usize = 10;

/// Characters of a name from the file that are kept: a name may be used many thousand times.
pub const MAX_NAME: usize = 256;

/// `name` cut to [`MAX_NAME`] characters.
pub(super) fn short(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => name.get(..end).unwrap_or_default().to_owned(),
        None => name.to_owned(),
    }
}
