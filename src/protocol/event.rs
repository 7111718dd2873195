//! The event word: how a waker learns, without a system call, whether anybody sleeps.
//!
//! A `u32`: bit 0 says that somebody sleeps or is about to, the rest counts wake-ups. It is a flag
//! and not a count of sleepers, so that one who is killed asleep costs a single spurious wake-up
//! and not one for each record for ever.
//!
//! # No wake-up is lost
//! - Sleeper: set bit 0 ([`arm`]); heavy barrier; look at the ring again; sleep while the word is
//!   what [`arm`] returned.
//! - Waker: publish; light barrier; load the word; if bit 0 is set, add 1 (which clears the bit and
//!   carries into the count) and wake everybody ([`take_sleepers`]).
//!
//! The two barriers order store before load on both sides. So either the waker's load sees the bit,
//! or the sleeper's second look sees what was published. In the first case the count has changed
//! before the kernel compares, and `FUTEX_WAIT` returns at once, or the sleeper is already queued
//! and is woken. If the exchange fails, another waker has just done both: a sleeper that armed
//! after that exchange also looked after this waker's publication.
//!
//! # Pairing
//! - `sleep-wake`: [`light_barrier`] after the publication -> the sleeper's heavy barrier before
//!   its second look. One side is a fence or, as membarrier allows, both sides are as good as one.
//!
//! # After a crash
//! A sleeper dead at any step leaves bit 0 set: one wake-up too many. A waker dead between its
//! publication and the system call leaves sleepers to their bound (100 ms), after which they look.

use crate::sync::{AtomicU32, Ordering, light_barrier};

/// Bit 0 of the event word.
const SLEEPING: u32 = 1;

/// Announces a sleeper. Returns the value to sleep on, after a heavy barrier and another look.
pub fn arm(word: &AtomicU32) -> u32 {
    // relaxed: the heavy barrier that follows orders it.
    word.fetch_or(SLEEPING, Ordering::Relaxed) | SLEEPING
}

/// The waker's side, called after each publication: whether the caller has to wake the sleepers.
///
/// `real_fence` is for rings that somebody has joined who cannot issue the heavy barrier.
#[inline]
#[must_use = "sleepers must be woken"]
pub fn take_sleepers(word: &AtomicU32, real_fence: bool) -> bool {
    light_barrier(real_fence);
    // relaxed: ordered after the publication by the barrier; nothing is read on its account.
    let seen = word.load(Ordering::Relaxed);
    seen & SLEEPING != 0 && take_sleepers_slow(word, seen)
}

#[cold]
#[inline(never)]
fn take_sleepers_slow(word: &AtomicU32, seen: u32) -> bool {
    // relaxed: only the value counts, which the kernel compares.
    word.compare_exchange(
        seen,
        seen.wrapping_add(1),
        Ordering::Relaxed,
        Ordering::Relaxed,
    )
    .is_ok()
}
