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

/// What a file of weights ends with, after the weights: this, the layout's hash, the weights' checksum, and their
/// length, each 8 bytes, little-endian.
const MAGIC: [u8; 8] = *b"edgecW01";

/// Bytes behind the weights in their file.
pub const TRAILER: usize = 32;

/// Why bytes are not the weights of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightsError {
    /// The bytes do not start at a multiple of 64.
    Misaligned,
    /// There are fewer or more bytes than the file has.
    Length {
        /// Bytes of the file.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The bytes do not end as a file of weights does.
    NotWeights,
    /// They are the weights of another model, or of another version of this one.
    Layout,
    /// They were damaged.
    Checksum,
}

impl core::fmt::Display for WeightsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            WeightsError::Misaligned => f.write_str("the weights do not start at a multiple of 64 bytes"),
            WeightsError::Length { expected, found } => {
                write!(f, "a file of weights of {expected} bytes was expected, not {found}")
            }
            WeightsError::NotWeights => f.write_str("the bytes are no weights that edgec wrote"),
            WeightsError::Layout => f.write_str("the weights are those of another model"),
            WeightsError::Checksum => f.write_str("the weights are damaged"),
        }
    }
}

impl core::error::Error for WeightsError {}

/// FNV-1a over little-endian words of 8 bytes, the last filled up with zeros, and the length.
pub const fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk() {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME);
        rest = tail;
    }
    let mut last = 0;
    let mut shift = 0;
    while let Some((&byte, tail)) = rest.split_first() {
        last |= (byte as u64) << shift;
        shift += 8;
        rest = tail;
    }
    hash = (hash ^ last).wrapping_mul(PRIME);
    (hash ^ bytes.len() as u64).wrapping_mul(PRIME)
}

/// What follows `weights` in their file; `layout` stands for their order and types.
pub fn trailer(weights: &[u8], layout: u64) -> [u8; TRAILER] {
    let mut out = [0; TRAILER];
    let words = [u64::from_le_bytes(MAGIC), layout, checksum(weights), weights.len() as u64];
    for (at, word) in out.chunks_exact_mut(8).zip(words) {
        at.copy_from_slice(&word.to_le_bytes());
    }
    out
}

impl<const M: usize> Blob<M> {
    /// The weights in the bytes of a file of weights, if they are whole and of this layout.
    pub fn checked(bytes: &[u8], layout: u64) -> Result<&Blob<M>, WeightsError> {
        // Its alignment would make the type longer than its bytes.
        const { assert!(M.is_multiple_of(64), "a blob's length is a multiple of 64") };
        let length = WeightsError::Length { expected: M + TRAILER, found: bytes.len() };
        let Some((weights, end)) = bytes.split_first_chunk::<M>() else { return Err(length) };
        let Some((words, [])) = end.split_first_chunk::<TRAILER>() else { return Err(length) };
        if !bytes.as_ptr().cast::<Blob<M>>().is_aligned() {
            return Err(WeightsError::Misaligned);
        }
        let expected = trailer(weights, layout);
        let same = |at: usize| words.iter().zip(&expected).skip(at).take(8).all(|(a, b)| a == b);
        if !same(0) || !same(24) {
            return Err(WeightsError::NotWeights);
        }
        if !same(8) {
            return Err(WeightsError::Layout);
        }
        if !same(16) {
            return Err(WeightsError::Checksum);
        }
        // SAFETY: `Blob<M>` is M bytes, a multiple of its alignment, which these have.
        Ok(unsafe { &*weights.as_ptr().cast::<Blob<M>>() })
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

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn a_file_of_weights_is_recognised() {
        let weights: [u8; 64] = core::array::from_fn(|i| i as u8);
        let mut file = [0; 64 + TRAILER + 1];
        file[..64].copy_from_slice(&weights);
        file[64..96].copy_from_slice(&trailer(&weights, 7));
        let mut file = Blob::new(file);
        let check =
            |file: &Blob<97>, layout| Blob::<64>::checked(&file.bytes()[..96], layout).map(|b| *b.bytes());
        assert_eq!(check(&file, 7), Ok(weights));
        assert_eq!(check(&file, 8), Err(WeightsError::Layout));
        let length = WeightsError::Length { expected: 96, found: 97 };
        assert_eq!(Blob::<64>::checked(file.bytes(), 7).err(), Some(length));
        let short = WeightsError::Length { expected: 96, found: 10 };
        assert_eq!(Blob::<64>::checked(&file.bytes()[..10], 7).err(), Some(short));
        assert_eq!(Blob::<64>::checked(&file.bytes()[1..97], 7).err(), Some(WeightsError::Misaligned));
        file.0[5] ^= 1;
        assert_eq!(check(&file, 7), Err(WeightsError::Checksum));
        file.0[5] ^= 1;
        file.0[64] = 0;
        assert_eq!(check(&file, 7), Err(WeightsError::NotWeights));
    }

    #[test]
    fn a_checksum_sees_length_and_order() {
        let all = [&[][..], &[0], &[0, 0], &[1, 0], &[0, 1], &[0; 8], &[0; 9], &[0, 0, 0, 0, 0, 0, 0, 0, 1]];
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                assert_ne!(checksum(a), checksum(b), "{a:?} {b:?}");
            }
        }
    }
}
