//! What the public interface of generated models is made of.

use crate::Bool;
use crate::fault::{Fault, RunError};
use crate::mem::Arena;
use crate::operand::{Bf16, Element, F4E2M1, F8E4M3, F8E4M3Uz, F8E5M2, F8E5M2Uz, F8E8M0, F16};
use crate::quantized::PerAxis;

/// Facts about a model, known when it was compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelInfo {
    /// The model's name.
    pub name: &'static str,
    /// File it was compiled from, without folders.
    pub source: &'static str,
    /// SHA-256 of that file, in hexadecimal.
    pub sha256: &'static str,
    /// Version of edgec that compiled it.
    pub edgec: &'static str,
    /// ONNX operator set it imports.
    pub opset: i64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// Parameters: elements of the model's constants.
    pub params: u64,
    /// Bytes of weights.
    pub rom_bytes: usize,
    /// Bytes of the arena: activations, scratch, inputs and outputs.
    pub arena_bytes: usize,
    /// Number of layers.
    pub layers: usize,
}

/// An input or output of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorInfo {
    /// ONNX name.
    pub name: &'static str,
    /// Element type: `f32`, `i8`, `bool`, ….
    pub dtype: &'static str,
    /// Extents in memory order.
    pub shape: &'static [usize],
    /// `nchw`, `nhwc`, or empty where the distinction means nothing.
    pub layout: &'static str,
    /// Real value of one step, for quantized tensors that have one for all elements.
    pub scale: Option<f32>,
    /// The step that stands for zero.
    pub zero_point: i32,
    /// Scales and zero points of quantized tensors that have several.
    pub per_axis: Option<PerAxis>,
}

impl TensorInfo {
    /// Number of elements.
    pub const fn len(&self) -> usize {
        let mut n = 1;
        let mut i = 0;
        while i < self.shape.len() {
            n *= self.shape[i];
            i += 1;
        }
        n
    }

    /// Whether it has no elements.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A layer, for listings beside its measured time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerInfo {
    /// Type name in the generated source, such as `Layer003Conv`.
    pub name: &'static str,
    /// Multiply-accumulates.
    pub macs: u64,
}

/// The arena of a model: lent by the caller, or its own on the heap.
pub enum Storage<'a, const N: usize> {
    /// The caller's.
    Lent(&'a mut Arena<N>),
    /// The model's.
    #[cfg(feature = "alloc")]
    Owned(alloc::boxed::Box<Arena<N>>),
}

impl<const N: usize> Storage<'_, N> {
    /// The arena.
    #[inline(always)]
    pub fn arena(&self) -> &Arena<N> {
        match self {
            Storage::Lent(arena) => arena,
            #[cfg(feature = "alloc")]
            Storage::Owned(arena) => arena,
        }
    }

    /// The arena, to write.
    #[inline(always)]
    pub fn arena_mut(&mut self) -> &mut Arena<N> {
        match self {
            Storage::Lent(arena) => arena,
            #[cfg(feature = "alloc")]
            Storage::Owned(arena) => arena,
        }
    }
}

/// What happens between layers: nothing (`()`), or a clock is read.
pub trait Probe {
    /// Layer `index` has just run.
    fn done(&mut self, index: usize);
}

impl Probe for () {
    #[inline(always)]
    fn done(&mut self, _index: usize) {}
}

/// Who watches an inference, if anyone does. One code for both: a test per layer costs less than all layers' calls
/// compiled twice.
pub struct Watch<'a>(Option<&'a mut dyn Probe>);

impl<'a> Watch<'a> {
    /// Nobody does.
    pub const fn nobody() -> Self {
        Watch(None)
    }

    /// That probe does.
    pub fn by(probe: &'a mut dyn Probe) -> Self {
        Watch(Some(probe))
    }

    /// Layer `index` has just run.
    #[inline(always)]
    pub fn done(&mut self, index: usize) {
        if let Some(probe) = &mut self.0 {
            probe.done(index);
        }
    }
}

/// Adds up the time of each layer.
pub struct Stopwatch<'a> {
    clock: &'a mut dyn FnMut() -> u64,
    times: &'a mut [u64],
    last: u64,
}

impl<'a> Stopwatch<'a> {
    /// Starts at once. `clock` gives the time in any unit; `times` has one element per layer.
    pub fn start(clock: &'a mut dyn FnMut() -> u64, times: &'a mut [u64]) -> Self {
        let last = clock();
        Stopwatch { clock, times, last }
    }
}

impl Probe for Stopwatch<'_> {
    fn done(&mut self, index: usize) {
        let now = (self.clock)();
        if let Some(time) = self.times.get_mut(index) {
            *time = time.wrapping_add(now.wrapping_sub(self.last));
        }
        self.last = now;
    }
}

/// The first fault of an inference.
#[derive(Debug, Default)]
pub struct Faults(Option<RunError>);

impl Faults {
    /// None so far.
    #[inline(always)]
    pub const fn new() -> Self {
        Faults(None)
    }

    /// Notes what layer `layer` reported.
    #[inline(always)]
    pub fn note(&mut self, layer: usize, fault: Fault) {
        if self.0.is_none() && fault != Fault::None {
            self.0 = Some(RunError { layer, fault });
        }
    }

    /// The first one, as an error.
    #[inline(always)]
    pub fn result(self) -> Result<(), RunError> {
        match self.0 {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Nested arrays of elements, `[[[f32; 96]; 96]; 3]`, and an element alone.
///
/// # Safety
/// An implementor consists of exactly `LEN` consecutive elements of `Elem`. Sealed.
pub unsafe trait Shaped: sealed::Sealed + Sized {
    /// Element type.
    type Elem: Element;
    /// Number of elements.
    const LEN: usize;

    /// All elements, in memory order.
    #[inline(always)]
    fn as_flattened(&self) -> &[Self::Elem] {
        // SAFETY: `Self` is `LEN` consecutive elements.
        unsafe { core::slice::from_raw_parts((&raw const *self).cast(), Self::LEN) }
    }

    /// All elements, in memory order, to write.
    #[inline(always)]
    fn as_flattened_mut(&mut self) -> &mut [Self::Elem] {
        // SAFETY: `Self` is `LEN` consecutive elements, borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut((&raw mut *self).cast(), Self::LEN) }
    }

    /// Elements as this shape; `None` unless there are `LEN` of them.
    #[inline(always)]
    fn from_flat(flat: &[Self::Elem]) -> Option<&Self> {
        if flat.len() != Self::LEN {
            return None;
        }
        // SAFETY: `Self` is `LEN` consecutive elements, and so is `flat`.
        Some(unsafe { &*flat.as_ptr().cast() })
    }

    /// Elements as this shape, to write; `None` unless there are `LEN` of them.
    #[inline(always)]
    fn from_flat_mut(flat: &mut [Self::Elem]) -> Option<&mut Self> {
        if flat.len() != Self::LEN {
            return None;
        }
        // SAFETY: `Self` is `LEN` consecutive elements, and so is `flat`, borrowed exclusively.
        Some(unsafe { &mut *flat.as_mut_ptr().cast() })
    }
}

macro_rules! shaped {
    ($($t:ty)*) => {$(
        impl sealed::Sealed for $t {}
        // SAFETY: one element.
        unsafe impl Shaped for $t {
            type Elem = $t;
            const LEN: usize = 1;
        }
    )*};
}

shaped!(f32 f64 i8 i16 i32 i64 u8 u16 u32 u64 Bool F16 Bf16);
shaped!(F8E4M3 F8E4M3Uz F8E5M2 F8E5M2Uz F8E8M0 F4E2M1);

impl<S: Shaped, const N: usize> sealed::Sealed for [S; N] {}
// SAFETY: `N` consecutive runs of `S::LEN` consecutive elements.
unsafe impl<S: Shaped, const N: usize> Shaped for [S; N] {
    type Elem = S::Elem;
    const LEN: usize = N * S::LEN;
}

/// A slot's elements in the shape that the API shows. Fails the build if the lengths differ.
#[inline(always)]
pub fn shape<S: Shaped, const N: usize>(flat: &[S::Elem; N]) -> &S {
    const { assert!(S::LEN == N, "the port's shape differs from its slot's length") };
    // SAFETY: `S` is `S::LEN == N` consecutive elements.
    unsafe { &*(&raw const *flat).cast() }
}

/// [`shape`], to write.
#[inline(always)]
pub fn shape_mut<S: Shaped, const N: usize>(flat: &mut [S::Elem; N]) -> &mut S {
    const { assert!(S::LEN == N, "the port's shape differs from its slot's length") };
    // SAFETY: `S` is `S::LEN == N` consecutive elements, borrowed exclusively.
    unsafe { &mut *(&raw mut *flat).cast() }
}

/// The bytes of elements, little-endian (big-endian targets are not supported).
#[inline(always)]
pub fn bytes<T: Element>(flat: &[T]) -> &[u8] {
    // SAFETY: elements are plain numbers without padding.
    unsafe { core::slice::from_raw_parts(flat.as_ptr().cast(), size_of_val(flat)) }
}

/// [`bytes`], to write: every bit pattern is an element.
#[inline(always)]
pub fn bytes_mut<T: Element>(flat: &mut [T]) -> &mut [u8] {
    // SAFETY: elements are plain numbers without padding, every bit pattern is one of them, and
    // they are borrowed exclusively.
    unsafe { core::slice::from_raw_parts_mut(flat.as_mut_ptr().cast(), size_of_val(flat)) }
}

/// A model without its types: inputs and outputs as bytes, by position. For tools and tests that
/// treat many models alike.
pub trait Tensors {
    /// Inputs, in the model's order.
    fn inputs(&self) -> &'static [TensorInfo];
    /// Outputs, in the model's order.
    fn outputs(&self) -> &'static [TensorInfo];
    /// Layers, in order of execution.
    fn layers(&self) -> &'static [LayerInfo];
    /// Little-endian bytes of an input, to write before [`Tensors::invoke_probed`].
    /// An inference may overwrite them.
    fn input_bytes(&mut self, index: usize) -> Option<&mut [u8]>;
    /// Little-endian bytes of an output, valid after an inference until an input is written.
    fn output_bytes(&self, index: usize) -> Option<&[u8]>;
    /// Runs the model on what is in the inputs, and tells `probe` of each layer.
    fn invoke_probed(&mut self, probe: &mut dyn Probe) -> Result<(), RunError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_view_flat_elements() {
        let flat = [0i32, 1, 2, 3, 4, 5];
        let shaped: &[[i32; 3]; 2] = shape(&flat);
        assert_eq!(shaped[1][0], 3);
        assert_eq!(Shaped::as_flattened(shaped), &flat);
        assert_eq!(<[[i32; 2]; 3]>::from_flat(&flat).map(|s| s[2]), Some([4, 5]));
        assert!(<[[i32; 2]; 2]>::from_flat(&flat).is_none());
        let mut flat = flat;
        shape_mut::<[[i32; 3]; 2], 6>(&mut flat)[0][2] = 9;
        assert_eq!(flat[2], 9);
    }

    #[test]
    fn bytes_are_little_endian() {
        let mut x = [1u16, 0x0203];
        assert_eq!(bytes(&x), &[1, 0, 3, 2]);
        bytes_mut(&mut x)[1] = 1;
        assert_eq!(x[0], 0x0101);
    }

    #[test]
    fn the_first_fault_wins() {
        let mut faults = Faults::new();
        faults.note(1, Fault::None);
        faults.note(2, Fault::IndexOutOfRange);
        faults.note(3, Fault::IndexOutOfRange);
        assert_eq!(faults.result().map_err(|e| e.layer), Err(2));
    }

    #[test]
    fn a_stopwatch_adds_up() {
        let mut now = 0;
        let mut clock = || {
            now += 5;
            now
        };
        let mut times = [0; 2];
        let mut watch = Stopwatch::start(&mut clock, &mut times);
        watch.done(0);
        watch.done(1);
        watch.done(1);
        watch.done(7);
        assert_eq!(times, [5, 10]);
    }
}
