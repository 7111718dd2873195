//! What every handle does besides its ring's protocol: count, wake, wait, and notice the dead.
//!
//! # Invariants
//! 1. Counters of the participant are stored by its handle alone; the handle keeps the running
//!    values, so that counting is one store to a line that nobody else writes.
//! 2. A refusal is reported to [`Participant::refused`] with what stood in the way, which probes and
//!    recovers when that has stood for long enough. A time-out alone never recovers anybody.

use core::cell::Cell;

use crate::error::{TryError, WaitEnd};
use crate::layout::{COUNTERS, EventLine, WAITS};
use crate::protocol::{Attachment, Owner, Store};
use crate::sync::Ordering;
use crate::wait::{self, Patience, Wait, Waiter};

/// Which event a participant waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A record to read.
    Items,
    /// Space to write.
    Space,
}

/// One attached handle's attachment, counters and patience.
#[derive(Debug)]
pub struct Participant<A: Attachment> {
    attachment: A,
    counters: [Cell<u64>; COUNTERS],
    patience: Cell<Patience>,
}

impl<A: Attachment> Participant<A> {
    pub(crate) fn new(attachment: A) -> Self {
        let row = attachment.store().row(attachment.me());
        // relaxed: the row is this participant's (INV-1).
        let counters = core::array::from_fn(|counter| {
            Cell::new(row.counters[counter].load(Ordering::Relaxed))
        });
        Self { attachment, counters, patience: Cell::default() }
    }

    #[inline]
    pub(crate) fn attachment(&self) -> &A {
        &self.attachment
    }

    #[inline]
    pub(crate) fn store(&self) -> &A::Store {
        self.attachment.store()
    }

    #[inline]
    pub(crate) fn me(&self) -> Owner {
        self.attachment.me()
    }

    /// Adds to one of this participant's counters.
    #[inline]
    pub(crate) fn count(&self, counter: usize, count: u64) {
        let total = self.counters[counter].get().wrapping_add(count);
        self.counters[counter].set(total);
        let row = self.store().row(self.me());
        // relaxed: only this handle stores it (INV-1), and readers take any value for a recent one.
        row.counters[counter].store(total, Ordering::Relaxed);
    }

    /// Counts a refusal. Returns true if it turned out that somebody had died and was recovered, so
    /// that another attempt may go better.
    #[inline(never)]
    pub(crate) fn refused(&self, counter: usize, mark: u64) -> bool {
        self.count(counter, 1);
        let mut patience = self.patience.get();
        let exhausted = patience.is_exhausted(mark);
        self.patience.set(patience);
        exhausted && self.attachment.mend().participants > 0
    }

    fn event(&self, side: Side) -> &EventLine {
        let control = self.store().control();
        match side {
            Side::Items => &control.items,
            Side::Space => &control.space,
        }
    }

    /// Wakes those who sleep on a side, if anybody does; called after each publication.
    #[inline]
    pub(crate) fn wake(&self, side: Side) {
        wait::wake(self.store(), self.event(side));
    }

    /// Wakes both sides whether or not anybody sleeps: after a close.
    pub(crate) fn wake_everybody(&self) {
        wait::wake_all(self.event(Side::Items));
        wait::wake_all(self.event(Side::Space));
    }

    /// Repeats `attempt` until it succeeds or fails for good.
    #[inline]
    pub(crate) fn wait_for<T, E: TryError>(
        &self,
        side: Side,
        wait: Wait,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E::Final> {
        match attempt() {
            Ok(value) => Ok(value),
            Err(error) => match error.into_final() {
                Some(error) => Err(error),
                None => self.wait_for_slow(side, wait, attempt),
            },
        }
    }

    #[cold]
    fn wait_for_slow<T, E: TryError>(
        &self,
        side: Side,
        wait: Wait,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E::Final> {
        let mut waiter = Waiter::new(wait, self.event(side));
        loop {
            // Ends by the peer's progress, by a deadline, or by the recovery of a dead peer.
            let slept = waiter.pause(&self.attachment).map_err(|end: WaitEnd| E::Final::from(end))?;
            if slept {
                self.count(WAITS, 1);
            }
            match attempt() {
                Ok(value) => return Ok(value),
                Err(error) => {
                    if let Some(error) = error.into_final() {
                        return Err(error);
                    }
                }
            }
        }
    }
}
