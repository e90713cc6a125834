//! What all families share of running a layer: its extents as a type, and which code it goes through.

use core::marker::PhantomData;

use crate::crew::Hands;
use crate::isa::{Isa, Level, Task};
use crate::mem::Part;

/// Extents and options of a layer, as a type: layers of one shape share the code that is made for it.
pub trait Shape<S>: 'static {
    /// The extents and options.
    const SPEC: S;
    /// Where the shape has code of its own.
    const OWN: Own = Own::Nowhere;
}

/// The levels at which a shape has code of its own, in which all extents are constants. Elsewhere its layers go
/// through the code that all layers of a family share.
///
/// Own code pays where loop control and addresses are a part of a layer's cost; it costs building and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// At none.
    Nowhere,
    /// At all but [`Level::Scalar`], which is there for machines without vectors.
    Vectors,
    /// At all.
    Everywhere,
}

impl Own {
    const fn at(self, level: Level) -> bool {
        match self {
            Own::Nowhere => false,
            Own::Vectors => !matches!(level, Level::Scalar),
            Own::Everywhere => true,
        }
    }
}

/// What is known of a spec when code is compiled for it: with it, what the spec excludes is not even compiled.
pub(crate) trait Known<S>: 'static {
    /// The spec, if it is known.
    const SPEC: Option<S>;
}

/// For the code that all layers of a family share.
pub(crate) struct Nothing;

impl<S> Known<S> for Nothing {
    const SPEC: Option<S> = None;
}

/// For a shape's own code.
pub(crate) struct All<S>(PhantomData<S>);

impl<T, S: Shape<T>> Known<T> for All<S> {
    const SPEC: Option<T> = Some(S::SPEC);
}

/// A layer with every address resolved.
pub(crate) trait Job: Copy {
    /// Extents and options.
    type Spec: 'static;

    /// The same job, with the shape's spec where the optimiser sees it.
    fn shaped<S: Shape<Self::Spec>>(self) -> Self;

    /// The same job, for a part of the output: jobs of different parts write different values, and read none
    /// that the others write.
    #[cfg_attr(not(feature = "threads"), allow(dead_code))]
    fn part(self, part: Part) -> Self;

    /// About how many multiply-adds a job of this spec costs.
    #[cfg_attr(not(feature = "threads"), allow(dead_code))]
    fn work(spec: &Self::Spec) -> usize;

    /// Does it; `K` tells what is known of the spec when it is compiled.
    ///
    /// # Safety
    /// The job was proved where it was made: all that its spec can touch lies in its operands.
    unsafe fn run<I: Isa, K: Known<Self::Spec>>(&self, isa: I);
}

/// Runs a job through the code that is meant for its shape, between several threads where that pays.
///
/// # Safety
/// The job was proved with the spec of `S`, and is for the whole of the output.
#[inline(always)]
pub(crate) unsafe fn run<I: Isa, J: Job, S: Shape<J::Spec>>(isa: I, _hands: Hands<'_>, job: J) {
    #[cfg(feature = "threads")]
    if let Some(crew) = _hands.crew().filter(|_| J::work(&S::SPEC) >= SPLIT_WORK) {
        // SAFETY: passed on.
        return unsafe { split::<I, J, S>(isa, crew, job) };
    }
    // SAFETY: passed on.
    unsafe { run_here::<I, J, S>(isa, job) }
}

/// Multiply-adds that are worth waking other threads for: some microseconds.
#[cfg(feature = "threads")]
const SPLIT_WORK: usize = 200_000;

/// A job that several threads take parts of.
#[cfg(feature = "threads")]
struct Shared<J>(J);

// SAFETY: the threads see the job by `Job::part` only, of different parts, which write different values and
// read none that others write; the memory outlives the call that lends it to them.
#[cfg(feature = "threads")]
unsafe impl<J: Job> Sync for Shared<J> {}

#[cfg(feature = "threads")]
impl<J: Job> Shared<J> {
    fn part(&self, part: Part) -> J {
        self.0.part(part)
    }
}

/// # Safety
/// As of [`run`].
#[cfg(feature = "threads")]
#[inline(never)]
unsafe fn split<I: Isa, J: Job, S: Shape<J::Spec>>(isa: I, crew: &dyn crate::crew::Crew, job: J) {
    let job = Shared(job);
    crate::crew::share(crew, crew.size(), &|part| {
        // SAFETY: the job was proved, and each part is taken once.
        unsafe { run_here::<I, J, S>(isa, job.part(part)) }
    });
}

/// # Safety
/// The job was proved with the spec of `S`.
#[inline(always)]
unsafe fn run_here<I: Isa, J: Job, S: Shape<J::Spec>>(isa: I, job: J) {
    if const { S::OWN.at(I::LEVEL) } {
        isa.call(OwnCode::<S, J>::new(job));
    } else {
        isa.call(SharedCode(job));
    }
}

/// Made by [`run`] only, and by tests.
pub(crate) struct SharedCode<J>(pub(crate) J);

impl<J: Job> Task for SharedCode<J> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // SAFETY: the job was proved, says the caller of `run`.
        unsafe { self.0.run::<I, Nothing>(isa) }
    }
}

/// Made by [`run`] only, and by tests.
pub(crate) struct OwnCode<S, J>(J, PhantomData<S>);

impl<S, J> OwnCode<S, J> {
    #[inline(always)]
    pub(crate) fn new(job: J) -> Self {
        OwnCode(job, PhantomData)
    }
}

impl<J: Job, S: Shape<J::Spec>> Task for OwnCode<S, J> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let job = self.0.shaped::<S>();
        // SAFETY: the job was proved with this spec, says the caller of `run`.
        unsafe { job.run::<I, All<S>>(isa) }
    }
}
