//! Rare operators as scalar functions over slices, called from emitted code.
//!
//! Arguments come in the order reads, writes, parameters. Slices shorter than the extents say leave the
//! rest of the output as it was; nothing panics.

pub mod bits;
pub mod boxes;
pub mod deform;
pub mod det;
pub mod grid_sample;
pub mod labels;
pub mod linear_attention;
pub mod mel;
pub mod ngrams;
pub mod places;
pub mod real;
pub mod recurrent;
pub mod regions;
pub mod resize;
pub mod rows;
pub mod scatter;
pub mod svm;
pub mod topk;
pub mod trees;
