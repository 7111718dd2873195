//! The ring's switches, in one word, so that a claim asks after all of them with one load.
//!
//! ```text
//! flags: u32 = CLOSED 1 | FENCES 2 | IN_ORDER 4
//! ```
//!
//! CLOSED: nobody writes any more. IN_ORDER: the only producer has closed it, so that all of its
//! commits came before. FENCES: somebody is in the ring who cannot issue the heavy
//! barrier, so that whoever relies on it fences for real; the event words say so as well, for
//! wakers look at those alone. It is never taken back.
//!
//! # Invariants
//! 1. Each switch is changed by a read-modify-write of its own bit. IN_ORDER goes with CLOSED.
//! 2. Who has seen FENCES in a word fences, and loads that word again before it decides by it.
//!
//! # Pairing
//! - `close`: a claim's mark, barrier, load in [`admits`] -> store in [`close`], a barrier that
//!   passes over nobody, load of the claim's mark. A producer that closes the ring itself needs
//!   none of it ([`close_in_order`]); and for slots see [`slot_ring`](super::slot_ring).
//!
//! # After a crash
//! Each change is one exchange: it was made or it was not.

use super::{Store, event};
use crate::sync::{AtomicU32, Ordering, full_fence, light_barrier};

const CLOSED: u32 = 1;
const FENCES: u32 = 2;
const IN_ORDER: u32 = 4;

fn flags<S: Store + ?Sized>(store: &S) -> &AtomicU32 {
    &store.control().state.flags
}

/// Ends the stream. Consumers drain the ring and are told `Closed` then.
pub fn close<S: Store + ?Sized>(store: &S) {
    // sync(close): release half.
    flags(store).fetch_or(CLOSED, Ordering::Release);
    full_fence();
}

/// The same by the only producer, behind all of its commits.
pub fn close_in_order<S: Store + ?Sized>(store: &S) {
    // sync(close): release half.
    flags(store).fetch_or(CLOSED | IN_ORDER, Ordering::Release);
    full_fence();
}

/// Opens a closed ring for writing again.
pub fn reopen<S: Store + ?Sized>(store: &S) {
    // sync(close): release half.
    flags(store).fetch_and(!(CLOSED | IN_ORDER), Ordering::Release);
}

/// Whether the only producer has closed the ring, and so commits nothing any more.
pub fn is_closed_in_order<S: Store + ?Sized>(store: &S) -> bool {
    // sync(close): acquire half.
    flags(store).load(Ordering::Acquire) & IN_ORDER != 0
}

/// Whether the ring is closed for writing.
#[inline(always)]
pub fn is_closed<S: Store + ?Sized>(store: &S) -> bool {
    // sync(close): acquire half.
    flags(store).load(Ordering::Acquire) & CLOSED != 0
}

/// The look at the switches after a claim's mark was stored: whether the claim may be kept.
#[inline(always)]
pub fn admits<S: Store + ?Sized>(store: &S) -> bool {
    light_barrier();
    let flags = flags(store);
    // sync(close): acquire half.
    flags.load(Ordering::Acquire) == 0 || admits_behind_a_fence(flags)
}

/// One switch or both are on. It takes the word and not the store, which would have to live in
/// memory for that.
#[cold]
#[inline(never)]
fn admits_behind_a_fence(flags: &AtomicU32) -> bool {
    full_fence();
    // sync(close): acquire half.
    flags.load(Ordering::Acquire) & CLOSED == 0
}

/// Whether somebody has joined who cannot issue the heavy barrier.
pub fn has_real_fences<S: Store + ?Sized>(store: &S) -> bool {
    // relaxed: a switch that is thrown once; who has not seen it yet delays a sleeper once.
    flags(store).load(Ordering::Relaxed) & FENCES != 0
}

/// Has everybody fence for real from here on.
pub fn fence_for_real<S: Store + ?Sized>(store: &S) {
    // relaxed: as above.
    flags(store).fetch_or(FENCES, Ordering::Relaxed);
    event::fence_for_real(&store.control().items.word);
    event::fence_for_real(&store.control().space.word);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::layout::EventLine;
    use crate::protocol::{Store, event, switches};
    use crate::sync::Ordering::Relaxed;
    use crate::{TryClaimError, TryReadError, spsc, wait};

    fn sleepers_are_taken_once(event: &EventLine, fenced: bool) {
        assert_eq!(event.word.load(Relaxed) & 2 != 0, fenced);
        assert!(!event::take_sleepers(&event.word), "nobody sleeps");
        let armed = event::arm(&event.word);
        assert_eq!(event.word.load(Relaxed), armed);
        assert!(event::take_sleepers(&event.word));
        assert_ne!(event.word.load(Relaxed), armed, "a sleeper would sleep on");
        assert!(!event::take_sleepers(&event.word));
        let armed = event::arm(&event.word);
        wait::wake_all(event);
        assert_ne!(event.word.load(Relaxed), armed, "a sleeper would sleep on");
        assert!(event::take_sleepers(&event.word), "one wake-up too many");
        assert_eq!(event.word.load(Relaxed) & 2 != 0, fenced);
    }

    #[test]
    fn a_ring_whose_fences_are_real_moves_closes_and_opens_as_every_other() {
        let (mut producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
        let attachment = producer.participant().attachment().ring().clone();
        let control = attachment.control();
        let mut payload = Vec::new();
        for fenced in [false, true] {
            assert_eq!(switches::has_real_fences(&*attachment), fenced);
            for tag in 0..1000 {
                producer.try_push(tag, &[7; 100]).unwrap();
                assert_eq!(consumer.try_pop(&mut payload), Ok(tag));
            }
            sleepers_are_taken_once(&control.items, fenced);
            producer.close();
            assert_eq!(producer.try_push(0, b""), Err(TryClaimError::Closed));
            assert_eq!(consumer.try_pop(&mut payload), Err(TryReadError::Closed));
            assert_eq!(switches::has_real_fences(&*attachment), fenced);
            producer.reopen();
            producer.try_push(3, b"").unwrap();
            assert_eq!(consumer.try_pop(&mut payload), Ok(3));
            sleepers_are_taken_once(&control.items, fenced);
            sleepers_are_taken_once(&control.space, fenced);
            switches::fence_for_real(&*attachment);
        }
    }

    /// A count that runs over leaves both other bits alone.
    #[test]
    fn wake_ups_are_counted_round_and_round() {
        let (producer, _consumer) = spsc::Options::new(4096).heap().unwrap();
        let word = &producer.participant().store().control().items.word;
        for fences in [0, 2] {
            word.store(!3 | fences, Relaxed);
            assert!(!event::take_sleepers(word));
            event::arm(word);
            assert!(event::take_sleepers(word));
            assert_eq!(word.load(Relaxed), fences);
            word.store(!2 | fences, Relaxed);
            event::count_wake_up(word);
            assert_eq!(word.load(Relaxed), fences | 1);
        }
    }
}
