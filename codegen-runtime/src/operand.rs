//! Operands of layers as types: an element type, a place and a length, known to `const` checks.

use core::marker::PhantomData;

mod sealed {
    pub trait Sealed {}
}

/// A boolean as ONNX stores it: one byte, 0 or 1.
///
/// Arena bytes may hold anything, so this is a byte, not a `bool`; every non-zero byte is true.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Bool(pub u8);

impl Bool {
    /// Whether the byte is not zero.
    #[inline(always)]
    pub const fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    #[inline(always)]
    fn from(value: bool) -> Self {
        Bool(value as u8)
    }
}

impl PartialEq for Bool {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Bool {}

/// An IEEE binary16 value as its bits: storage only, arithmetic is in `f32`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, Default)]
pub struct F16(pub u16);

/// A bfloat16 value as its bits: storage only, arithmetic is in `f32`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Bf16(pub u16);

macro_rules! small_floats {
    ($($(#[$doc:meta])* $t:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Debug, Clone, Copy, Default)]
        pub struct $t(pub u8);
    )*};
}

small_floats! {
    /// An 8-bit float, 4 exponent and 3 mantissa bits, no infinities, as its bits.
    F8E4M3,
    /// An 8-bit float, 4 exponent and 3 mantissa bits, no infinities, one NaN in place of the negative zero.
    F8E4M3Uz,
    /// An 8-bit float, 5 exponent and 2 mantissa bits, with infinities.
    F8E5M2,
    /// An 8-bit float, 5 exponent and 2 mantissa bits, no infinities, one NaN in place of the negative zero.
    F8E5M2Uz,
    /// An 8-bit power of two without sign.
    F8E8M0,
    /// A 4-bit float, 2 exponent bits and 1 mantissa bit, in the low half of a byte.
    F4E2M1,
}

/// Types that slots hold: plain numbers of which every bit pattern is valid.
///
/// Sealed: that, and an alignment equal to the size, is what the unchecked accesses rest on.
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// All bits zero.
    const ZERO: Self;
}

macro_rules! elements {
    ($($t:ty = $zero:expr),* $(,)?) => {$(
        impl sealed::Sealed for $t {}
        impl Element for $t {
            const ZERO: Self = $zero;
        }
    )*};
}

elements!(f32 = 0.0, f64 = 0.0, i8 = 0, i16 = 0, i32 = 0, i64 = 0, u8 = 0, u16 = 0, u32 = 0, u64 = 0);
elements!(Bool = Bool(0), F16 = F16(0), Bf16 = Bf16(0), F8E4M3 = F8E4M3(0), F8E4M3Uz = F8E4M3Uz(0));
elements!(F8E5M2 = F8E5M2(0), F8E5M2Uz = F8E5M2Uz(0), F8E8M0 = F8E8M0(0), F4E2M1 = F4E2M1(0));

/// Where an operand lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// The arena, read and written.
    Arena,
    /// The weights, read only.
    Blob,
    /// Nowhere: the layer has no such operand.
    Absent,
}

/// A place known to the compiler. Implemented by [`Slot`], [`Const`] and [`Absent`] only.
pub trait Operand: sealed::Sealed + 'static {
    /// Element type.
    type Elem: Element;
    /// Where it lies.
    const SPACE: Space;
    /// First byte within its space.
    const OFFSET: usize;
    /// Elements from the first to the last that may be touched, gaps included.
    const LEN: usize;
    /// The same as data.
    const SPAN: Span = Span {
        space: Self::SPACE,
        start: Self::OFFSET,
        // What no memory can hold is behind every arena.
        end: Self::OFFSET.saturating_add(Self::LEN.saturating_mul(size_of::<Self::Elem>())),
        align: size_of::<Self::Elem>(),
    };
}

/// An operand's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where it lies.
    pub space: Space,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Alignment that `start` must have.
    pub align: usize,
}

impl Span {
    /// Fails the build unless the span lies aligned in an arena of `arena` or a blob of `blob` bytes.
    pub(crate) const fn prove_inside(&self, arena: usize, blob: usize) {
        match self.space {
            Space::Arena => assert!(self.end <= arena, "operand leaves the arena"),
            Space::Blob => assert!(self.end <= blob, "operand leaves the weights"),
            Space::Absent => return,
        }
        assert!(self.start <= self.end, "operand's length overflows");
        assert!(self.start.is_multiple_of(self.align), "operand is not aligned to its element type");
    }

    /// Whether the two share a byte of the arena.
    pub(crate) const fn meets(&self, other: &Span) -> bool {
        matches!(self.space, Space::Arena)
            && matches!(other.space, Space::Arena)
            && self.start < other.end
            && other.start < self.end
    }
}

/// `LEN` elements of `T` from byte `OFFSET` of the arena.
pub struct Slot<T, const OFFSET: usize, const LEN: usize>(PhantomData<T>);

/// `LEN` elements of `T` from byte `OFFSET` of the weights.
pub struct Const<T, const OFFSET: usize, const LEN: usize>(PhantomData<T>);

/// No operand, where a layer could have one of element type `T`.
pub struct Absent<T>(PhantomData<T>);

impl<T: Element, const OFFSET: usize, const LEN: usize> sealed::Sealed for Slot<T, OFFSET, LEN> {}
impl<T: Element, const OFFSET: usize, const LEN: usize> sealed::Sealed for Const<T, OFFSET, LEN> {}
impl<T: Element> sealed::Sealed for Absent<T> {}

impl<T: Element, const OFFSET: usize, const LEN: usize> Operand for Slot<T, OFFSET, LEN> {
    type Elem = T;
    const SPACE: Space = Space::Arena;
    const OFFSET: usize = OFFSET;
    const LEN: usize = LEN;
}

impl<T: Element, const OFFSET: usize, const LEN: usize> Operand for Const<T, OFFSET, LEN> {
    type Elem = T;
    const SPACE: Space = Space::Blob;
    const OFFSET: usize = OFFSET;
    const LEN: usize = LEN;
}

impl<T: Element> Operand for Absent<T> {
    type Elem = T;
    const SPACE: Space = Space::Absent;
    const OFFSET: usize = 0;
    const LEN: usize = 0;
}

/// An operand that emitted loops may read as an array. Implemented by [`Slot`] and [`Const`] only.
pub trait Readable: Operand {
    /// `&[T; LEN]`.
    type Ref<'a>;

    /// Borrows the elements.
    ///
    /// # Safety
    /// `SPAN` lies within `arena` or `blob` (64-aligned, live and initialised for `'a`), and nobody
    /// writes its bytes during `'a`.
    #[doc(hidden)]
    unsafe fn borrow<'a>(arena: *const u8, blob: *const u8) -> Self::Ref<'a>;
}

/// An operand that emitted loops may write. Implemented by [`Slot`] only.
pub trait Writable: Operand {
    /// `&mut [T; LEN]`.
    type Mut<'a>;

    /// Borrows the elements.
    ///
    /// # Safety
    /// `SPAN` lies within `arena` (64-aligned, live and initialised for `'a`), and nobody else
    /// touches its bytes during `'a`.
    #[doc(hidden)]
    unsafe fn borrow_mut<'a>(arena: *mut u8) -> Self::Mut<'a>;
}

impl<T: Element, const OFFSET: usize, const LEN: usize> Readable for Slot<T, OFFSET, LEN> {
    type Ref<'a> = &'a [T; LEN];

    #[inline(always)]
    unsafe fn borrow<'a>(arena: *const u8, _blob: *const u8) -> Self::Ref<'a> {
        // SAFETY: the caller promises OFFSET + LEN·size ≤ the arena's length, that OFFSET is a
        // multiple of T's size (the base of 64), and exclusion; every bit pattern is a T.
        unsafe { &*arena.add(OFFSET).cast::<[T; LEN]>() }
    }
}

impl<T: Element, const OFFSET: usize, const LEN: usize> Writable for Slot<T, OFFSET, LEN> {
    type Mut<'a> = &'a mut [T; LEN];

    #[inline(always)]
    unsafe fn borrow_mut<'a>(arena: *mut u8) -> Self::Mut<'a> {
        // SAFETY: as in `borrow`, and the caller promises that nobody else touches the bytes.
        unsafe { &mut *arena.add(OFFSET).cast::<[T; LEN]>() }
    }
}

impl<T: Element, const OFFSET: usize, const LEN: usize> Readable for Const<T, OFFSET, LEN> {
    type Ref<'a> = &'a [T; LEN];

    #[inline(always)]
    unsafe fn borrow<'a>(_arena: *const u8, blob: *const u8) -> Self::Ref<'a> {
        // SAFETY: the caller promises OFFSET + LEN·size ≤ the blob's length and that OFFSET is a
        // multiple of T's size (the base of 64); the blob is immutable.
        unsafe { &*blob.add(OFFSET).cast::<[T; LEN]>() }
    }
}

/// A tuple of up to sixteen [`Readable`] operands.
pub trait Reads {
    /// Tuple of references.
    type Refs<'a>;
    /// The operands' bytes.
    const SPANS: &'static [Span];

    /// Borrows every operand.
    ///
    /// # Safety
    /// As [`Readable::borrow`], for each.
    #[doc(hidden)]
    unsafe fn borrow<'a>(arena: *const u8, blob: *const u8) -> Self::Refs<'a>;
}

/// A tuple of one to eight [`Writable`] operands.
pub trait Writes {
    /// Tuple of mutable references.
    type Muts<'a>;
    /// The operands' bytes.
    const SPANS: &'static [Span];

    /// Borrows every operand.
    ///
    /// # Safety
    /// As [`Writable::borrow_mut`], for each; in particular the spans are disjoint.
    #[doc(hidden)]
    unsafe fn borrow_mut<'a>(arena: *mut u8) -> Self::Muts<'a>;
}

macro_rules! reads {
    ($($name:ident)*) => {
        impl<$($name: Readable),*> Reads for ($($name,)*) {
            type Refs<'a> = ($($name::Ref<'a>,)*);
            const SPANS: &'static [Span] = &[$($name::SPAN),*];

            #[inline(always)]
            #[allow(clippy::unused_unit)]
            unsafe fn borrow<'a>(_arena: *const u8, _blob: *const u8) -> Self::Refs<'a> {
                // SAFETY: the caller's promise holds for each operand.
                ($(unsafe { $name::borrow(_arena, _blob) },)*)
            }
        }
    };
}

macro_rules! writes {
    ($($name:ident)*) => {
        impl<$($name: Writable),*> Writes for ($($name,)*) {
            type Muts<'a> = ($($name::Mut<'a>,)*);
            const SPANS: &'static [Span] = &[$($name::SPAN),*];

            #[inline(always)]
            #[allow(clippy::unused_unit)]
            unsafe fn borrow_mut<'a>(_arena: *mut u8) -> Self::Muts<'a> {
                // SAFETY: the caller's promise holds for each operand, and the spans are disjoint.
                ($(unsafe { $name::borrow_mut(_arena) },)*)
            }
        }
    };
}

reads!();
reads!(A);
reads!(A B);
reads!(A B C);
reads!(A B C D);
reads!(A B C D E);
reads!(A B C D E F);
reads!(A B C D E F G);
reads!(A B C D E F G H);
reads!(A B C D E F G H J);
reads!(A B C D E F G H J K);
reads!(A B C D E F G H J K L);
reads!(A B C D E F G H J K L M);
reads!(A B C D E F G H J K L M N);
reads!(A B C D E F G H J K L M N O);
reads!(A B C D E F G H J K L M N O P);
reads!(A B C D E F G H J K L M N O P Q);
writes!();
writes!(A);
writes!(A B);
writes!(A B C);
writes!(A B C D);
writes!(A B C D E);
writes!(A B C D E F);
writes!(A B C D E F G);
writes!(A B C D E F G H);
