//! The only file that names raw atomics: std's in a normal build, loom's under `--cfg loom`, and
//! shuttle's under `--cfg loom --cfg shuttle`.
//!
//! The rest of the crate uses the newtypes below, so that the same source runs between processes
//! and under loom. Outside loom each newtype is `repr(transparent)` and costs nothing, so a pointer
//! into a mapped file may be viewed as one.
//!
//! # Loom and shuttle
//! `cfg(loom)` takes the system away: no files, no clock, heap rings only, and a scheduler decides
//! who runs next. `cfg(shuttle)` besides exchanges the scheduler: loom tries all interleavings of a
//! small scenario and every value that a weak ordering allows; shuttle tries random ones of a large
//! scenario, and takes every access for SeqCst.
//!
//! # Barriers
//! - [`light_barrier`] and the heavy barrier (`wait::heavy_barrier`, a system call) form one
//!   asymmetric pair: the side that runs per record pays nothing, the side that is about to sleep
//!   pays for both. Under loom both are `fence(SeqCst)`.
//! - [`fence_after_rmw`] orders a read-modify-write before a later load. On x86-64 the `lock`
//!   prefix of the former has done so already (Intel SDM vol. 3A, 9.2.3.9: locked instructions are
//!   never reordered with loads and stores), so only the compiler needs to be told.
//!
//! # Leases
//! Payload bytes are plain memory. Under loom a [`Leases`] table stands beside them with one
//! tracked cell a word, and every claim holds a lease on its cells: an access that the protocol
//! failed to order is then reported by loom just as if it were the bytes themselves. Outside loom
//! a lease is a value of size zero.
#![cfg_attr(
    not(loom),
    expect(
        clippy::disallowed_types,
        clippy::disallowed_methods,
        reason = "this file wraps the raw atomics for all others"
    )
)]

pub use core::sync::atomic::Ordering;

#[cfg(shuttle)]
use ::shuttle::sync::atomic as raw;
#[cfg(not(loom))]
use core::sync::atomic as raw;
#[cfg(all(loom, not(shuttle)))]
use loom::sync::atomic as raw;

#[cfg(shuttle)]
pub mod shuttle;
#[cfg(all(test, not(loom)))]
pub mod watch;

macro_rules! atomic {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        #[cfg_attr(not(loom), repr(transparent))]
        pub struct $name(raw::$name);

        impl $name {
            #[cfg(not(loom))]
            #[inline]
            pub const fn new(value: $int) -> Self {
                Self(raw::$name::new(value))
            }

            #[cfg(loom)]
            pub fn new(value: $int) -> Self {
                Self(raw::$name::new(value))
            }

            /// The atomic, for one access to it. Under shuttle a participant may die before.
            #[inline]
            fn access(&self) -> &raw::$name {
                #[cfg(shuttle)]
                shuttle::step();
                &self.0
            }

            #[cfg(all(test, not(loom)))]
            #[allow(clippy::cast_possible_truncation, reason = "a watcher may say anything")]
            fn changed(&self, access: watch::Access) -> Option<$int> {
                let value = self.0.load(Ordering::Relaxed);
                let address = core::ptr::from_ref(self).addr();
                watch::look(access, address, value.into()).map(|changed| changed as $int)
            }

            #[cfg(all(test, not(loom)))]
            fn change(&self) {
                if let Some(changed) = self.changed(watch::Access::Exchange) {
                    self.0.store(changed, Ordering::Relaxed);
                }
            }

            #[inline]
            pub fn load(&self, order: Ordering) -> $int {
                #[cfg(all(test, not(loom)))]
                if let Some(changed) = self.changed(watch::Access::Load) {
                    return changed;
                }
                self.access().load(order)
            }

            #[inline]
            pub fn store(&self, value: $int, order: Ordering) {
                self.access().store(value, order);
            }

            #[inline]
            pub fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                #[cfg(all(test, not(loom)))]
                self.change();
                self.access().compare_exchange(current, new, success, failure)
            }

            #[inline]
            pub fn fetch_or(&self, bits: $int, order: Ordering) -> $int {
                #[cfg(all(test, not(loom)))]
                self.change();
                self.access().fetch_or(bits, order)
            }

            #[inline]
            pub fn fetch_and(&self, bits: $int, order: Ordering) -> $int {
                #[cfg(all(test, not(loom)))]
                self.change();
                self.access().fetch_and(bits, order)
            }

            #[inline]
            pub fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                #[cfg(all(test, not(loom)))]
                self.change();
                self.access().fetch_add(value, order)
            }
        }
    };
}

atomic!(
    /// A 32-bit word of the file.
    AtomicU32,
    u32
);
atomic!(
    /// A 64-bit word of the file.
    AtomicU64,
    u64
);

#[cfg(not(loom))]
impl AtomicU32 {
    /// The address that the futex system call takes.
    pub fn as_futex(&self) -> &raw::AtomicU32 {
        &self.0
    }
}

/// The light half of the asymmetric barrier: orders this thread's stores before its loads for
/// whoever issues the heavy half.
#[inline]
pub fn light_barrier() {
    if cfg!(loom) {
        // sync(sleep-wake): release half.
        full_fence();
    } else {
        compiler_fence();
    }
}

/// Orders everything before it ahead of everything after it.
#[inline]
pub fn full_fence() {
    raw::fence(Ordering::SeqCst);
}

/// Orders a preceding read-modify-write before the loads after it.
#[inline]
pub fn fence_after_rmw() {
    if cfg!(all(target_arch = "x86_64", not(loom))) {
        compiler_fence();
    } else {
        full_fence();
    }
}

#[inline]
fn compiler_fence() {
    #[cfg(not(loom))]
    raw::compiler_fence(Ordering::SeqCst);
}

/// Orders what this thread does around a signal handler of its own.
#[cfg(not(loom))]
#[inline]
pub fn signal_fence() {
    compiler_fence();
}

/// Asks the processor for the cache line of `word` and the one behind it, to be written to before
/// long. A hint: it changes nothing and waits for nothing.
///
/// [`core::arch`] has such a hint too, which asks for reading where the compiler does not know that
/// the processor has the other; every x86-64 one has it or takes it for nothing (Intel SDM vol. 2,
/// PREFETCHW).
#[inline(always)]
pub fn prefetch_to_write<T>(word: &T) {
    let line = core::ptr::from_ref(word);
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    // SAFETY: a prefetch reads and writes no memory, and faults at no address.
    unsafe {
        core::arch::asm!(
            "prefetchw [{line}]",
            "prefetchw [{line} + 64]",
            line = in(reg) line,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(all(target_arch = "aarch64", not(any(loom, miri))))]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "prfm pstl1keep, [{line}]",
            "prfm pstl1keep, [{line}, #64]",
            line = in(reg) line,
            options(nostack, preserves_flags, readonly)
        );
    }
    let _ = line;
}

/// A number that no other call in this process has returned, and never 0.
pub fn unique_number() -> u64 {
    // Not one of loom's: it orders nothing, and loom's cannot live in a static.
    static NEXT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Tells the processor that this is a spin loop; under loom lets another thread run.
#[inline]
pub fn spin_hint() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(all(loom, not(shuttle)))]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    ::shuttle::thread::yield_now();
}

/// Gives the rest of the time slice away.
#[inline]
pub fn yield_now() {
    #[cfg(not(loom))]
    std::thread::yield_now();
    #[cfg(all(loom, not(shuttle)))]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    ::shuttle::thread::yield_now();
}

#[cfg(any(not(loom), shuttle))]
pub use std::sync::Arc;

#[cfg(all(loom, not(shuttle)))]
pub use loom::sync::Arc;

pub use lease::{Leases, ReadLease, WriteLease};

#[cfg(shuttle)]
pub use shuttle::{ParkingLot, lease};

#[cfg(not(loom))]
mod lease {
    use core::ops::Range;

    /// Tracks who may touch which payload words; nothing outside loom.
    #[derive(Debug)]
    pub struct Leases;

    /// Exclusive access to a span of payload words.
    #[derive(Debug)]
    pub struct WriteLease;

    /// Shared access to a span of payload words.
    #[derive(Debug)]
    pub struct ReadLease;

    impl Leases {
        pub fn new(_words: usize) -> Self {
            Self
        }

        #[inline]
        pub fn write(&self, _words: Range<usize>) -> WriteLease {
            WriteLease
        }

        #[inline]
        pub fn read(&self, _words: Range<usize>) -> ReadLease {
            ReadLease
        }
    }
}

#[cfg(all(loom, not(shuttle)))]
mod lease {
    use core::ops::Range;
    use loom::cell::{ConstPtr, MutPtr, UnsafeCell};

    /// One tracked cell for each payload word.
    #[derive(Debug)]
    pub struct Leases(Vec<UnsafeCell<u64>>);

    // SAFETY: the cells are never read or written; loom tracks who would.
    unsafe impl Send for Leases {}
    // SAFETY: as above: reporting access from two threads at once is what they are for.
    unsafe impl Sync for Leases {}

    /// Exclusive access to a span of payload words, from the claim until the lease is dropped.
    #[derive(Debug)]
    pub struct WriteLease(#[expect(dead_code, reason = "held for its tracking")] Vec<MutPtr<u64>>);

    /// Shared access to a span of payload words, until the lease is dropped.
    #[derive(Debug)]
    pub struct ReadLease(#[expect(dead_code, reason = "held for its tracking")] Vec<ConstPtr<u64>>);

    impl Leases {
        pub fn new(words: usize) -> Self {
            Self((0..words).map(|_| UnsafeCell::new(0)).collect())
        }

        pub fn write(&self, words: Range<usize>) -> WriteLease {
            WriteLease(self.0[words].iter().map(UnsafeCell::get_mut).collect())
        }

        pub fn read(&self, words: Range<usize>) -> ReadLease {
            ReadLease(self.0[words].iter().map(UnsafeCell::get).collect())
        }
    }
}

/// A futex for loom: the compare and the sleep are one step with respect to a wake, as in the
/// kernel, and no wake is remembered.
#[cfg(all(loom, not(shuttle)))]
#[derive(Debug)]
pub struct ParkingLot {
    gate: loom::sync::Mutex<()>,
    sleepers: loom::sync::Condvar,
}

#[cfg(all(loom, not(shuttle)))]
impl ParkingLot {
    pub fn new() -> Self {
        Self {
            gate: loom::sync::Mutex::new(()),
            sleepers: loom::sync::Condvar::new(),
        }
    }

    pub fn sleep_while(&self, word: &AtomicU32, value: u32) {
        let gate = self.gate.lock().expect("no thread panics at the gate");
        // relaxed: the kernel's compare orders nothing either; the waiter looks again afterwards.
        if word.load(Ordering::Relaxed) == value {
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
}
