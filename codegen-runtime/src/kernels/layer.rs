//! What all families share of running a layer: its extents as a type, and which code it goes through.

use core::marker::PhantomData;

use crate::isa::{Isa, Level, Task};

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

    /// Does it; `K` tells what is known of the spec when it is compiled.
    ///
    /// # Safety
    /// The job was proved where it was made: all that its spec can touch lies in its operands.
    unsafe fn run<I: Isa, K: Known<Self::Spec>>(&self, isa: I);
}

/// Runs a job through the code that is meant for its shape.
///
/// # Safety
/// The job was proved with the spec of `S`.
#[inline(always)]
pub(crate) unsafe fn run<I: Isa, J: Job, S: Shape<J::Spec>>(isa: I, job: J) {
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
