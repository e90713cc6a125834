//! Threads that share a layer's work. Without feature `threads` nothing of it is compiled.

#[cfg(not(feature = "threads"))]
use core::marker::PhantomData;

#[cfg(feature = "threads")]
use crate::mem::Part;

/// Threads to split layers between: [`Threads`], or a caller's own (two cores of a microcontroller, a pool that
/// the program has anyway).
///
/// Results do not depend on it: each output value is computed by one thread, in the order in which one thread
/// alone computes it.
#[cfg(feature = "threads")]
pub trait Crew: Sync {
    /// Threads that work, that of the caller included: layers are cut into as many parts.
    fn size(&self) -> usize;

    /// Calls `help` on the calling thread and, at the same time, on the others, once or more often on each;
    /// returns when no thread is in it any more. A call finds parts to do until there is none left.
    fn call(&self, help: &(dyn Fn() + Sync));
}

/// Threads that a model may use; none, unless it was given some.
#[derive(Clone, Copy)]
pub struct Hands<'a> {
    #[cfg(feature = "threads")]
    crew: Option<&'a dyn Crew>,
    #[cfg(not(feature = "threads"))]
    none: PhantomData<&'a ()>,
}

impl<'a> Hands<'a> {
    /// The caller's thread alone.
    pub const ALONE: Self = Hands {
        #[cfg(feature = "threads")]
        crew: None,
        #[cfg(not(feature = "threads"))]
        none: PhantomData,
    };

    /// The crew's threads.
    #[cfg(feature = "threads")]
    pub fn of(crew: &'a dyn Crew) -> Self {
        Hands { crew: Some(crew) }
    }

    /// The crew, where there is one of several threads.
    #[cfg(feature = "threads")]
    #[inline(always)]
    pub(crate) fn crew(self) -> Option<&'a dyn Crew> {
        self.crew
    }
}

/// Runs `work` once for each of `count` parts, between the crew's threads.
#[cfg(feature = "threads")]
pub(crate) fn share(crew: &dyn Crew, count: usize, work: &(dyn Fn(Part) + Sync)) {
    use core::sync::atomic::{AtomicUsize, Ordering};
    // Whoever comes takes the next part, so that none is done twice, whatever a crew's `call` does.
    let next = AtomicUsize::new(0);
    let help = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                // Calls without end must not wrap around to parts that are done.
                next.store(count, Ordering::Relaxed);
                return;
            }
            work(Part { index, count });
        }
    };
    crew.call(&help);
    help();
}

#[cfg(all(feature = "threads", feature = "std"))]
mod pool {
    use super::Crew;
    use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread::JoinHandle;
    use std::vec::Vec;

    /// How often a thread looks for work before it sleeps, and the caller for an end before it yields.
    const SPINS: u32 = 20_000;

    type Help<'a> = &'a (dyn Fn() + Sync);

    struct Shared {
        /// Counts calls.
        round: AtomicUsize,
        /// A `Help` on the stack of the thread that called, while `busy` is not zero.
        help: AtomicPtr<()>,
        /// Threads that have not finished this round.
        busy: AtomicUsize,
        /// Set when the pool is dropped.
        stop: AtomicBool,
    }

    /// A pool of threads that wait for work, first spinning, then asleep.
    pub struct Threads {
        shared: Arc<Shared>,
        workers: Vec<JoinHandle<()>>,
        /// Held for a round.
        turn: Mutex<()>,
    }

    impl Threads {
        /// A pool with `count` threads, the caller's included; fewer if the system gives no more.
        pub fn new(count: usize) -> Self {
            let shared = Arc::new(Shared {
                round: AtomicUsize::new(0),
                help: AtomicPtr::new(core::ptr::null_mut()),
                busy: AtomicUsize::new(0),
                stop: AtomicBool::new(false),
            });
            let workers = (1..count).map_while(|_| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name("edgec".into()).spawn(move || work(&shared)).ok()
            });
            Threads { workers: workers.collect(), shared, turn: Mutex::new(()) }
        }
    }

    /// Counts a thread as ready, also when its work panicked.
    struct Ready<'a>(&'a Shared);

    impl Drop for Ready<'_> {
        fn drop(&mut self) {
            self.0.busy.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for all threads, also when the caller's own work panicked: what they work on is on its stack.
    struct Wait<'a>(&'a Shared);

    impl Drop for Wait<'_> {
        fn drop(&mut self) {
            let mut spins = 0;
            while self.0.busy.load(Ordering::Acquire) != 0 {
                if spins < SPINS {
                    spins += 1;
                    core::hint::spin_loop();
                } else {
                    std::thread::yield_now();
                }
            }
        }
    }

    fn work(shared: &Shared) {
        let mut done = 0;
        loop {
            let mut spins = 0;
            while shared.round.load(Ordering::Acquire) == done {
                if spins < SPINS {
                    spins += 1;
                    core::hint::spin_loop();
                } else {
                    // Who starts a round unparks after it has counted it, so none is missed.
                    std::thread::park();
                }
            }
            if shared.stop.load(Ordering::Acquire) {
                return;
            }
            done = done.wrapping_add(1);
            let ready = Ready(shared);
            let help: *const Help<'_> = shared.help.load(Ordering::Acquire).cast_const().cast();
            // SAFETY: the round began after `help` was set to a `Help` on the stack of `call`, which does not
            // return before this thread is counted as ready.
            let help = unsafe { *help };
            help();
            drop(ready);
        }
    }

    impl Crew for Threads {
        fn size(&self) -> usize {
            self.workers.len() + 1
        }

        fn call(&self, help: &(dyn Fn() + Sync)) {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let help: Help<'_> = help;
            self.shared.help.store((&raw const help).cast_mut().cast(), Ordering::Release);
            self.shared.busy.store(self.workers.len(), Ordering::Release);
            let wait = Wait(&self.shared);
            self.shared.round.fetch_add(1, Ordering::Release);
            for worker in &self.workers {
                worker.thread().unpark();
            }
            help();
            drop(wait);
        }
    }

    impl Drop for Threads {
        fn drop(&mut self) {
            self.shared.stop.store(true, Ordering::Release);
            self.shared.round.fetch_add(1, Ordering::Release);
            for worker in self.workers.drain(..) {
                worker.thread().unpark();
                // A thread that panicked has nothing left to say.
                let _ = worker.join();
            }
        }
    }
}

#[cfg(all(feature = "threads", feature = "std"))]
pub use pool::Threads;

#[cfg(all(test, feature = "threads", feature = "std"))]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};
    use std::vec::Vec;

    fn each_part_once(crew: &dyn Crew) {
        for count in [1, 2, 7, 100] {
            let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            share(crew, count, &|part| {
                assert_eq!(part.count, count);
                done[part.index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|d| d.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn every_part_is_run_once_on_any_number_of_threads() {
        for count in [0, 1, 2, 5] {
            let threads = Threads::new(count);
            assert_eq!(threads.size(), count.max(1));
            for _ in 0..200 {
                each_part_once(&threads);
            }
        }
    }

    #[test]
    fn threads_that_sleep_are_woken() {
        let threads = Threads::new(3);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(30));
            each_part_once(&threads);
        }
    }

    #[test]
    fn a_pool_serves_several_callers() {
        let threads = Threads::new(2);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..50).for_each(|_| each_part_once(&threads)));
            }
        });
    }

    /// Does the work more than once, or never.
    struct Odd(usize);

    impl Crew for Odd {
        fn size(&self) -> usize {
            3
        }

        fn call(&self, help: &(dyn Fn() + Sync)) {
            (0..self.0).for_each(|_| help());
        }
    }

    #[test]
    fn a_crew_that_does_nothing_or_too_much_does_no_harm() {
        each_part_once(&Odd(0));
        each_part_once(&Odd(4));
    }
}
