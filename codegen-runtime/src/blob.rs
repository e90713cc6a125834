//! The weights of a generated crate: one aligned constant that training fills.

#[cfg(target_endian = "big")]
compile_error!("the weights of generated crates are little-endian: big-endian targets are not supported");

/// `M` bytes of little-endian weights, aligned for every vector width.
///
/// Emitted as `static WEIGHTS: rt::Blob<M> = rt::Blob::new(*include_bytes!("weights.bin"));`.
/// Operands of type [`Const`](crate::operand::Const) name ranges of it.
#[repr(C, align(64))]
pub struct Blob<const M: usize>([u8; M]);

impl<const M: usize> Blob<M> {
    /// Aligns `bytes`.
    pub const fn new(bytes: [u8; M]) -> Self {
        Blob(bytes)
    }

    /// The weights as bytes.
    pub const fn bytes(&self) -> &[u8; M] {
        &self.0
    }
}

mod sealed {
    pub trait Sealed {}
    impl<const M: usize> Sealed for super::Blob<M> {}
}

/// A [`Blob`] of any length, for functions whose callers name other type arguments.
pub trait AnyBlob: sealed::Sealed {
    /// Length in bytes.
    const LEN: usize;

    /// First byte, aligned to 64.
    fn ptr(&self) -> *const u8;
}

impl<const M: usize> AnyBlob for Blob<M> {
    const LEN: usize = M;

    #[inline(always)]
    fn ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }
}
