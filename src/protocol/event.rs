//! The event word: how a waker learns, without a system call, whether anybody sleeps.
//!
//! A `u32`: bit 0 says that somebody sleeps or is about to, bit 1 that wakers have to fence for
//! real (see [`switches`](super::switches)), the rest counts wake-ups. Bit 0 is a flag and not a
//! count of sleepers, so that one who is killed asleep costs a single spurious wake-up and not one
//! for each record for ever.
//!
//! # No wake-up is lost
//! - Sleeper: set bit 0 ([`arm`]); heavy barrier; look at the ring again; sleep while the word is
//!   what [`arm`] returned.
//! - Waker: publish; light barrier; load the word; if bit 0 is set, clear it, count and wake
//!   everybody ([`take_sleepers`]).
//!
//! The two barriers order store before load on both sides, where the heavy one reaches the waker's
//! processor; for one that it passes over, the sleeper looks once more a millisecond later (INV-3
//! of [`wait`](crate::wait)). So either the waker's load sees the bit,
//! or the sleeper's second look sees what was published. In the first case the count has changed
//! before the kernel compares, and `FUTEX_WAIT` returns at once, or the sleeper is already queued
//! and is woken. If the exchange fails, another waker has just done both: a sleeper that armed
//! after that exchange also looked after this waker's publication. Or bit 1 was set meanwhile,
//! which is never taken back: then the exchange is tried once more.
//!
//! # Pairing
//! - `sleep-wake`: [`light_barrier`] after the publication -> the sleeper's heavy barrier before
//!   its second look. One side is a fence or, as membarrier allows, both sides are as good as one.
//!
//! # After a crash
//! A sleeper dead at any step leaves bit 0 set: one wake-up too many. A waker dead between its
//! publication and the system call leaves sleepers to their bound (100 ms), after which they look.

use crate::sync::{AtomicU32, Ordering, full_fence, light_barrier};

const SLEEPING: u32 = 1;
const FENCES: u32 = 2;
/// The lowest bit of the count.
const WAKE_UP: u32 = 4;

/// Announces a sleeper. Returns the value to sleep on, after a heavy barrier and another look.
pub fn arm(word: &AtomicU32) -> u32 {
    // relaxed: the heavy barrier that follows orders it.
    word.fetch_or(SLEEPING, Ordering::Relaxed) | SLEEPING
}

/// Has wakers fence for real from here on.
pub fn fence_for_real(word: &AtomicU32) {
    // relaxed: who has not seen it yet delays a sleeper by one bound.
    word.fetch_or(FENCES, Ordering::Relaxed);
}

/// Counts a wake-up, whoever sleeps; the caller wakes them.
pub fn count_wake_up(word: &AtomicU32) {
    // sync(sleep-wake): release half. Whoever arms after this and looks again sees what came
    // before it.
    word.fetch_add(WAKE_UP, Ordering::Release);
}

/// The waker's side, called after each publication: whether the caller has to wake the sleepers.
#[inline(always)]
#[must_use = "sleepers must be woken"]
pub fn take_sleepers(word: &AtomicU32) -> bool {
    light_barrier();
    // relaxed: ordered after the publication by the barrier; nothing is read on its account.
    let seen = word.load(Ordering::Relaxed);
    seen & (SLEEPING | FENCES) != 0 && take_sleepers_slow(word, seen)
}

#[cold]
#[inline(never)]
fn take_sleepers_slow(word: &AtomicU32, mut seen: u32) -> bool {
    if seen & FENCES != 0 {
        // sync(sleep-wake): release half.
        full_fence();
        // relaxed: as in the straight line, behind a fence of its own.
        seen = word.load(Ordering::Relaxed);
    }
    if seen & SLEEPING == 0 {
        return false;
    }
    let take = |seen: u32| {
        let taken = (seen & !SLEEPING).wrapping_add(WAKE_UP);
        // relaxed: only the value counts, which the kernel compares.
        word.compare_exchange(seen, taken, Ordering::Relaxed, Ordering::Relaxed)
    };
    match take(seen) {
        // Switched on just now, by somebody who wakes nobody; it is never switched off.
        Err(now) if now == seen | FENCES => take(now).is_ok(),
        taken => taken.is_ok(),
    }
}
