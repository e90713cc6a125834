//! Kernel families: a trait that an emitted layer implements with consts and operand types, and a
//! function that proves them against each other in `const` and runs the layer.

pub mod conv;
mod conv_body;
pub mod conv_i8;
mod conv_i8_bands;
mod conv_i8_body;
mod conv_i8_cut;
pub mod depthwise;
mod depthwise_body;
pub mod depthwise_i8;
#[cfg(target_arch = "x86_64")]
mod depthwise_i8_columns;
pub mod layer;
pub mod matmul;
mod matmul_body;
pub mod norm;
pub mod pack_rt;
mod pixels;
pub mod pool;
pub mod recurrent;
mod rows;
pub mod softmax;
pub mod spatial;
#[cfg(test)]
mod testing;
pub mod windows_i8;
mod winograd;
pub mod winograd_input;
pub mod winograd_output;
#[cfg(test)]
mod winograd_tests;

use crate::crew::Hands;
use crate::mem::{Mem, Part};
use crate::operand::{Operand, Space};

/// Address of an operand that is read; dangling if it is absent.
#[inline(always)]
pub(crate) fn pointer<T: Operand>(arena: *const u8, blob: *const u8) -> *const T::Elem {
    match T::SPACE {
        Space::Arena => arena.wrapping_add(T::OFFSET).cast(),
        Space::Blob => blob.wrapping_add(T::OFFSET).cast(),
        Space::Absent => core::ptr::dangling(),
    }
}

/// Address of an operand that is written, which lies in the arena.
#[inline(always)]
pub(crate) fn pointer_mut<T: Operand>(arena: *mut u8) -> *mut T::Elem {
    arena.wrapping_add(T::OFFSET).cast()
}

/// The part to run of a layer of this form: one that overlaps its input must go through its output in
/// order, so its first part does all.
#[inline(always)]
pub(crate) const fn in_order(part: Part, form: Form) -> Part {
    match (form, part.index) {
        (Form::Overlap, 0) => Part::ALL,
        (Form::Overlap, _) => Part { index: 1, count: 1 },
        _ => part,
    }
}

/// The threads that a layer of this form may be split between.
#[inline(always)]
pub(crate) fn hands<'a, const N: usize>(mem: &Mem<'a, N>, form: Form) -> Hands<'a> {
    match form {
        Form::Overlap => Hands::ALONE,
        Form::Disjoint | Form::Strided { .. } => mem.hands(),
    }
}

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
