//! What stands in for the system under shuttle: death, payloads that are watched, and a futex.
//!
//! # Death
//! A participant that [`live`]s for a number of steps dies before the next one: its stack unwinds,
//! and no code of it touches the ring any more ([`is_dead`] is what its attachment's `is_here`
//! must ask). A step is one access to an atomic of the crate, so a death falls between any two
//! accesses of the shipped code.
//!
//! # Invariants
//! 1. Between the death and the end of the unwinding there is no access, so no other thread runs
//!    and sees this one's panic.

use core::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use shuttle::sync::{Condvar, Mutex};

use super::{AtomicU32, Ordering};

#[derive(Clone, Copy)]
enum Fate {
    Immortal,
    DiesAfter(u32),
    Dead,
}

shuttle::thread_local! {
    static FATE: Cell<Fate> = Cell::new(Fate::Immortal);
}

struct Death;

/// One access is about to happen.
pub(super) fn step() {
    FATE.with(|fate| match fate.get() {
        Fate::Immortal => {}
        Fate::DiesAfter(0) => {
            fate.set(Fate::Dead);
            resume_unwind(Box::new(Death));
        }
        Fate::DiesAfter(left) => fate.set(Fate::DiesAfter(left - 1)),
        Fate::Dead => panic!("the dead touch nothing"),
    });
}

/// Whether this thread's participant has died and its stack is still being unwound.
pub fn is_dead() -> bool {
    FATE.with(|fate| matches!(fate.get(), Fate::Dead))
}

/// Runs a participant that dies after `steps`, or never. Returns `None` if it died.
pub fn live<T>(steps: Option<u32>, life: impl FnOnce() -> T) -> Option<T> {
    let fate = steps.map_or(Fate::Immortal, Fate::DiesAfter);
    FATE.with(|mine| mine.set(fate));
    let lived = catch_unwind(AssertUnwindSafe(life));
    FATE.with(|mine| mine.set(Fate::Immortal));
    match lived {
        Ok(value) => Some(value),
        Err(cause) if cause.is::<Death>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

/// A futex: the compare and the sleep are one step with respect to a wake, as in the kernel, and no
/// wake is remembered. A sleep has no bound; see [`pass_a_bound`](Self::pass_a_bound).
#[derive(Debug)]
pub struct ParkingLot {
    gate: Mutex<()>,
    sleepers: Condvar,
}

impl ParkingLot {
    pub fn new() -> Self {
        Self {
            gate: Mutex::new(()),
            sleepers: Condvar::new(),
        }
    }

    pub fn sleep_while(&self, word: &AtomicU32, value: u32) {
        let gate = self.gate.lock().expect("no thread panics at the gate");
        // relaxed: the kernel's compare orders nothing either; the waiter looks again afterwards.
        // It is the kernel's access, so nobody dies before it.
        if word.0.load(Ordering::Relaxed) == value {
            drop(
                self.sleepers
                    .wait(gate)
                    .expect("no thread panics at the gate"),
            );
        }
    }

    pub fn wake_all(&self) {
        let _gate = self.gate.lock().expect("no thread panics at the gate");
        self.sleepers.notify_all();
    }

    /// Everybody asleep reaches the bound of that sleep and looks again.
    pub fn pass_a_bound(&self) {
        self.wake_all();
    }
}

/// Payload words, and who claims them: two claims of the same word, of which one is for writing,
/// are a panic. That is less than loom reports: claims that follow each other without an order are
/// not seen, for under shuttle all accesses are ordered.
pub mod lease {
    use core::ops::Range;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    /// Of a word: nobody has it (0), that many read it, or one writes it (-1).
    type Claims = Arc<Mutex<Vec<i32>>>;

    /// The claims of each payload word.
    #[derive(Debug)]
    pub struct Leases(Claims);

    /// Exclusive access to a span of payload words, until it is dropped.
    #[derive(Debug)]
    pub struct WriteLease(Claims, Range<usize>);

    /// Shared access to a span of payload words, until it is dropped.
    #[derive(Debug)]
    pub struct ReadLease(Claims, Range<usize>);

    impl Leases {
        pub fn new(words: usize) -> Self {
            Self(Arc::new(Mutex::new(vec![0; words])))
        }

        pub fn write(&self, words: Range<usize>) -> WriteLease {
            for claims in &mut locked(&self.0)[words.clone()] {
                assert!(*claims == 0, "bytes are written that somebody else holds");
                *claims = -1;
            }
            WriteLease(Arc::clone(&self.0), words)
        }

        pub fn read(&self, words: Range<usize>) -> ReadLease {
            for claims in &mut locked(&self.0)[words.clone()] {
                assert!(*claims >= 0, "bytes are read that somebody writes");
                *claims += 1;
            }
            ReadLease(Arc::clone(&self.0), words)
        }
    }

    impl Drop for WriteLease {
        fn drop(&mut self) {
            locked(&self.0)[self.1.clone()].fill(0);
        }
    }

    impl Drop for ReadLease {
        fn drop(&mut self) {
            for claims in &mut locked(&self.0)[self.1.clone()] {
                *claims -= 1;
            }
        }
    }

    fn locked(claims: &Claims) -> MutexGuard<'_, Vec<i32>> {
        claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
