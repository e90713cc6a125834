//! The arena that holds every activation of a model, and the proofs that let safe code borrow it.

use core::cell::UnsafeCell;
use core::marker::PhantomData;

use crate::blob::AnyBlob;
use crate::crew::Hands;
use crate::operand::{Bool, Readable, Reads, Space, Span, Writable, Writes};

/// `N` bytes of activations and scratch, aligned for every vector width.
///
/// All zero when new, so that a `static` arena lies in `.bss`.
#[repr(C, align(64))]
pub struct Arena<const N: usize>([u8; N]);

impl<const N: usize> Arena<N> {
    /// An arena of zeros. Large ones belong in a `static` or in [`Arena::boxed`], not on the stack.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Arena([0; N])
    }

    /// The elements of a slot, or of the weights: a model's output.
    #[inline(always)]
    pub fn read<'b, R: Readable, B: AnyBlob>(&'b self, blob: &'b B) -> R::Ref<'b> {
        const { R::SPAN.prove_inside(N, B::LEN) };
        // SAFETY: the span lies aligned within `N` or `B::LEN` bytes, and `&'b self` keeps writers away.
        unsafe { R::borrow(self.0.as_ptr(), blob.ptr()) }
    }

    /// The elements of a slot, to write: a model's input.
    #[inline(always)]
    pub fn write<W: Writable>(&mut self) -> W::Mut<'_> {
        const { W::SPAN.prove_inside(N, 0) };
        // SAFETY: the span lies aligned within `N` bytes, and `&mut self` keeps everyone else away.
        unsafe { W::borrow_mut(self.0.as_mut_ptr()) }
    }

    /// All bytes.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8; N] {
        &self.0
    }

    /// All bytes, to write.
    #[inline(always)]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }

    /// A zeroed arena on the heap; nothing of it touches the stack.
    #[cfg(feature = "alloc")]
    pub fn boxed() -> alloc::boxed::Box<Self> {
        let layout = core::alloc::Layout::new::<Self>();
        if layout.size() == 0 {
            return alloc::boxed::Box::new(Self::new());
        }
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc::alloc::alloc_zeroed(layout) };
        if memory.is_null() {
            alloc::alloc::handle_alloc_error(layout);
        }
        // SAFETY: allocated with this type's layout by the allocator that `Box` frees with, and
        // zero bytes are an arena.
        unsafe { alloc::boxed::Box::from_raw(memory.cast::<Self>()) }
    }
}

/// A piece of a layer's output, for callers that split layers between threads.
///
/// Results do not depend on the number of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which piece, below `count`.
    pub index: usize,
    /// Number of pieces, at least 1.
    pub count: usize,
}

impl Part {
    /// The whole output.
    pub const ALL: Part = Part { index: 0, count: 1 };

    /// The part to run if work must keep its order: parts that run at the same time cannot, so the first
    /// takes everything and the others nothing.
    #[inline(always)]
    pub(crate) const fn ordered(self, ordered: bool) -> Part {
        match (ordered, self.index) {
            (false, _) => self,
            (true, 0) => Part::ALL,
            (true, _) => Part { index: 1, count: 1 },
        }
    }

    /// This part's share of `units`: a range of whole units, empty where `index` is not below
    /// `count`. The shares of all parts cover `units` once.
    #[inline(always)]
    pub const fn share(self, units: usize) -> (usize, usize) {
        if self.count <= 1 {
            return if self.index == 0 { (0, units) } else { (units, units) };
        }
        if self.index >= self.count {
            return (units, units);
        }
        let each = units / self.count;
        let rest = units % self.count;
        let smaller = if self.index < rest { self.index } else { rest };
        let start = each * self.index + smaller;
        (start, start + each + (self.index < rest) as usize)
    }
}

/// Exclusive use of an [`Arena`], handed from layer to layer.
pub struct Mem<'a, const N: usize> {
    arena: *mut u8,
    hands: Hands<'a>,
    arena_life: PhantomData<&'a mut Arena<N>>,
}

// SAFETY: stands for the `&mut Arena<N>` it was made from, which is `Send`.
unsafe impl<const N: usize> Send for Mem<'_, N> {}

impl<'a, const N: usize> Mem<'a, N> {
    /// Takes the arena for as long as the handle lives.
    #[inline(always)]
    pub fn new(arena: &'a mut Arena<N>) -> Self {
        Mem { arena: arena.0.as_mut_ptr(), hands: Hands::ALONE, arena_life: PhantomData }
    }

    /// Lets layers be split between these threads.
    #[inline(always)]
    pub fn with_hands(self, hands: Hands<'a>) -> Self {
        Mem { hands, ..self }
    }

    /// Threads that a layer may be split between.
    #[inline(always)]
    pub(crate) fn hands(&self) -> Hands<'a> {
        self.hands
    }

    /// A shorter-lived handle on the same arena.
    #[inline(always)]
    pub fn reborrow(&mut self) -> Mem<'_, N> {
        Mem { arena: self.arena, hands: self.hands, arena_life: PhantomData }
    }

    /// First byte, aligned to 64, valid for `N` bytes.
    #[allow(dead_code)]
    #[inline(always)]
    pub(crate) fn ptr(&mut self) -> *mut u8 {
        self.arena
    }

    /// Borrows arena slots and weights as arrays: the operands of `R` to read, those of `W` to write.
    ///
    /// `mem.borrow::<(A, B), (Y,)>(blob)` gives `((&[_; A::LEN], &[_; B::LEN]), (&mut [_; Y::LEN],))`.
    /// The build fails unless every operand lies aligned within its space and every written one is
    /// disjoint from all others. In-place and interleaved sharing borrow one slot that covers both.
    #[inline(always)]
    pub fn borrow<'b, R: Reads, W: Writes>(
        &'b mut self,
        blob: &'b impl AnyBlob,
    ) -> (R::Refs<'b>, W::Muts<'b>) {
        self.borrow_proved::<R, W, _>(blob)
    }

    /// Whether a bool holds: what decides which layers run, and how often.
    #[inline(always)]
    pub fn truth<R>(&mut self, blob: &impl AnyBlob) -> bool
    where
        R: for<'x> Readable<Ref<'x> = &'x [Bool; 1]>,
    {
        let ((&[truth],), ()) = self.borrow::<(R,), ()>(blob);
        truth.get()
    }

    #[inline(always)]
    fn borrow_proved<'b, R: Reads, W: Writes, B: AnyBlob>(
        &'b mut self,
        blob: &'b B,
    ) -> (R::Refs<'b>, W::Muts<'b>) {
        const { prove_borrow(R::SPANS, W::SPANS, N, B::LEN) };
        // SAFETY: `prove_borrow` holds: each span lies aligned within `N` or `B::LEN` bytes, and the
        // written spans are disjoint from one another and from those read; `&'b mut self` keeps
        // everyone else away from the arena for `'b`.
        unsafe { (R::borrow(self.arena, blob.ptr()), W::borrow_mut(self.arena)) }
    }
}

/// Fails the build unless the borrow is sound: see [`Mem::borrow`].
const fn prove_borrow(reads: &[Span], writes: &[Span], arena: usize, blob: usize) {
    let mut i = 0;
    while i < reads.len() {
        reads[i].prove_inside(arena, blob);
        i += 1;
    }
    let mut i = 0;
    while i < writes.len() {
        writes[i].prove_inside(arena, blob);
        assert!(matches!(writes[i].space, Space::Arena), "only arena slots can be written");
        let mut j = 0;
        while j < reads.len() {
            assert!(!writes[i].meets(&reads[j]), "a written operand overlaps one that is read");
            j += 1;
        }
        let mut j = 0;
        while j < i {
            assert!(!writes[i].meets(&writes[j]), "two written operands overlap");
            j += 1;
        }
        i += 1;
    }
}

/// An arena that firmware hands out once.
pub struct StaticArena<const N: usize> {
    arena: UnsafeCell<Arena<N>>,
    taken: Once,
}

// SAFETY: the arena is reached only through `take`, which succeeds at most once.
unsafe impl<const N: usize> Sync for StaticArena<N> {}

impl<const N: usize> StaticArena<N> {
    /// An arena of zeros that nobody has taken: it lies in `.bss`.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        StaticArena { arena: UnsafeCell::new(Arena::new()), taken: Once::new() }
    }

    /// The arena, the first time; `None` ever after.
    ///
    /// On targets without compare-and-swap, calls that run at the same moment on several cores or
    /// interrupt levels may all get `None`.
    // One caller only gets the reference.
    #[allow(clippy::mut_from_ref)]
    pub fn take(&'static self) -> Option<&'static mut Arena<N>> {
        if !self.taken.win() {
            return None;
        }
        // SAFETY: `win` is true for one caller in the life of the program, so this is the only
        // reference to the arena, and `self` is `'static`.
        Some(unsafe { &mut *self.arena.get() })
    }
}

#[cfg(target_has_atomic = "8")]
use swap::Once;

#[cfg(not(target_has_atomic = "8"))]
use splitter::Once;

/// One winner, through an atomic swap.
#[cfg(target_has_atomic = "8")]
mod swap {
    use core::sync::atomic::{AtomicBool, Ordering};

    pub(super) struct Once(AtomicBool);

    impl Once {
        pub(super) const fn new() -> Self {
            Once(AtomicBool::new(false))
        }

        /// True for the first caller only.
        pub(super) fn win(&self) -> bool {
            !self.0.swap(true, Ordering::AcqRel)
        }
    }
}

/// At most one winner, with loads and stores only (Armv6-M, RISC-V without the A extension):
/// Lamport's splitter. Callers are told apart by an address on their stacks, which differs between
/// calls that overlap in time, be it through interrupts or on other cores.
///
/// Two winners are impossible: each would have read `closed` as false before either set it, so both
/// wrote `last` before either read it back, and only one of two different ids can be there. A
/// caller that nobody disturbs wins.
// In a generated crate's tests, nothing uses it.
#[cfg(any(test, not(target_has_atomic = "8")))]
#[cfg_attr(test, allow(dead_code))]
mod splitter {
    use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    pub(super) struct Once {
        last: AtomicUsize,
        closed: AtomicBool,
    }

    impl Once {
        pub(super) const fn new() -> Self {
            Once { last: AtomicUsize::new(0), closed: AtomicBool::new(false) }
        }

        /// True for at most one caller.
        pub(super) fn win(&self) -> bool {
            let mark = 0u8;
            let me = core::hint::black_box(&raw const mark) as usize;
            self.last.store(me, Ordering::SeqCst);
            if self.closed.load(Ordering::SeqCst) {
                return false;
            }
            self.closed.store(true, Ordering::SeqCst);
            self.last.load(Ordering::SeqCst) == me
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Blob;
    use crate::operand::{Const, Slot};

    const fn arena(start: usize, end: usize) -> Span {
        Span { space: Space::Arena, start, end, align: 4 }
    }

    #[test]
    fn borrows_reach_their_ranges() {
        let mut arena = Arena::<64>::new();
        let blob = Blob::new([1, 0, 0, 0, 2, 0, 0, 0]);
        let mut mem = Mem::new(&mut arena);
        let ((a, w), (y,)) = mem.borrow::<(Slot<i32, 0, 2>, Const<i32, 0, 2>), (Slot<i32, 8, 2>,)>(&blob);
        y[0] = a[0] + w[0];
        y[1] = a[1] + w[1];
        let ((y,), _) = mem.borrow::<(Slot<i32, 8, 2>,), (Slot<i64, 16, 1>,)>(&blob);
        assert_eq!(y, &[1, 2]);
    }

    #[test]
    fn an_arena_is_read_and_written_outside_of_layers() {
        let mut arena = Arena::<16>::new();
        let blob = Blob::new([7, 0]);
        arena.write::<Slot<i32, 4, 2>>()[1] = 3;
        assert_eq!(arena.read::<Slot<i32, 8, 1>, _>(&blob), &[3]);
        assert_eq!(arena.read::<Const<i16, 0, 1>, _>(&blob), &[7]);
    }

    #[test]
    fn sharing_reads_is_fine() {
        prove_borrow(&[arena(0, 8), arena(4, 12)], &[arena(12, 16)], 16, 0);
    }

    #[test]
    #[should_panic = "overlaps one that is read"]
    fn write_over_read_is_refused() {
        prove_borrow(&[arena(0, 8)], &[arena(4, 12)], 16, 0);
    }

    #[test]
    #[should_panic = "two written operands overlap"]
    fn write_over_write_is_refused() {
        prove_borrow(&[], &[arena(0, 8), arena(4, 12)], 16, 0);
    }

    #[test]
    #[should_panic = "leaves the arena"]
    fn leaving_the_arena_is_refused() {
        prove_borrow(&[], &[arena(8, 20)], 16, 0);
    }

    #[test]
    #[should_panic = "not aligned"]
    fn misalignment_is_refused() {
        prove_borrow(&[], &[arena(2, 6)], 16, 0);
    }

    #[test]
    #[should_panic = "leaves the weights"]
    fn leaving_the_weights_is_refused() {
        prove_borrow(&[Span { space: Space::Blob, start: 0, end: 8, align: 4 }], &[arena(0, 4)], 16, 4);
    }

    #[test]
    fn a_static_arena_is_taken_once() {
        static ARENA: StaticArena<16> = StaticArena::new();
        assert!(ARENA.take().is_some());
        assert!(ARENA.take().is_none());
    }

    #[test]
    fn a_splitter_lets_one_through() {
        let once = splitter::Once::new();
        let winners = std::thread::scope(|scope| {
            let threads: std::vec::Vec<_> = (0..4).map(|_| scope.spawn(|| once.win() as usize)).collect();
            threads.into_iter().map(|t| t.join().unwrap_or(9)).sum::<usize>()
        });
        assert!(winners <= 1);
        assert!(splitter::Once::new().win());
        assert!(!once.win());
    }

    #[test]
    fn shares_cover_all_units_once() {
        for units in [0, 1, 5, 16, 17] {
            for count in 1..6 {
                let mut next = 0;
                for index in 0..count {
                    let (start, end) = Part { index, count }.share(units);
                    assert_eq!(start, next);
                    next = end;
                }
                assert_eq!(next, units);
            }
        }
    }
}
