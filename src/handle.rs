//! What every handle does besides its ring's protocol: count, wake, wait, and notice the dead.
//!
//! # Invariants
//! 1. Counters of the participant are stored by its handle alone; the handle keeps the running
//!    values, so that counting is one store to a line that nobody else writes. What the byte ring's
//!    journals count already is not counted again.
//! 2. A refusal is reported to [`Participant::refused`] with what stood in the way, which probes
//!    and recovers when that has stood for long enough. A time-out alone never recovers anybody.
//!
//! # Why the straight line is forced inline
//! Here, in the handles and in both protocols `#[inline(always)]` marks what almost every hand-off
//! runs through. A claim that a call returns is stored in its fields and loaded as a whole, which a
//! processor cannot forward from its store buffer: the load waits until every store before it has
//! reached the cache, those to lines that the other side still has among them. That makes one
//! hand-off wait for the last one's cache lines, which in a stream overlap otherwise; see
//! docs/performance.md. What is not the straight line is `#[cold]` or `#[inline(never)]`.

use core::cell::Cell;
#[cfg(not(loom))]
use core::cell::OnceCell;
use std::sync::Arc;

use crate::error::TryError;
#[cfg(not(loom))]
use crate::error::TryReadError;
#[cfg(all(feature = "tokio", not(loom)))]
use crate::error::WaitEnd;
use crate::layout::{COUNTERS, EventLine, WAITS};
use crate::protocol::{Attachment, Gone, Owner, Store, copy};
use crate::sync::{Ordering, spin_hint};
use crate::wait::{self, Contention, Habit, Patience, Wait, Waiter};

/// Which event a participant waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A record to read.
    Items,
    /// Space to write.
    Space,
}

impl Side {
    /// The side's event.
    pub(crate) fn event<S: Store + ?Sized>(self, store: &S) -> &EventLine {
        let control = store.control();
        match self {
            Self::Items => &control.items,
            Self::Space => &control.space,
        }
    }
}

/// One attached handle's attachment, counters and patience.
#[derive(Debug)]
pub struct Participant<A: Attachment> {
    attachment: Arc<A>,
    counters: [Cell<u64>; COUNTERS],
    patience: Cell<Patience>,
    contention: Cell<Contention>,
    habit: Cell<Habit>,
    #[cfg(all(feature = "tokio", not(loom)))]
    reactor: OnceCell<wait::Reactor>,
    #[cfg(not(loom))]
    helper: OnceCell<wait::Helper<A>>,
}

impl<A: Attachment> Participant<A> {
    pub(crate) fn new(attachment: A) -> Self {
        let row = attachment.row();
        // relaxed: the row is this participant's (INV-1).
        let counters = core::array::from_fn(|counter| {
            Cell::new(row.counters[counter].load(Ordering::Relaxed))
        });
        Self {
            attachment: Arc::new(attachment),
            counters,
            patience: Cell::default(),
            contention: Cell::default(),
            habit: Cell::default(),
            #[cfg(all(feature = "tokio", not(loom)))]
            reactor: OnceCell::new(),
            #[cfg(not(loom))]
            helper: OnceCell::new(),
        }
    }

    #[inline(always)]
    pub(crate) fn attachment(&self) -> &A {
        &self.attachment
    }

    #[inline(always)]
    pub(crate) fn store(&self) -> &A::Store {
        self.attachment.store()
    }

    /// The store for a straight line; see [`Attachment::near`].
    #[inline(always)]
    pub(crate) fn near(&self) -> A::Near<'_> {
        self.attachment.near()
    }

    #[inline(always)]
    pub(crate) fn me(&self) -> Owner {
        self.attachment.me()
    }

    /// Adds to one of this participant's counters.
    #[inline(always)]
    pub(crate) fn count(&self, counter: usize, count: u64) {
        let total = self.counters[counter].get().wrapping_add(count);
        self.counters[counter].set(total);
        let row = self.attachment.row();
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

    /// Keeps away for a moment after a race for a slot was lost at `position`. `counter` counts
    /// what the claims of this handle become.
    #[inline(never)]
    pub(crate) fn keep_away(&self, counter: usize, position: u64) {
        let mut contention = self.contention.get();
        let looks = contention.lost(self.counters[counter].get(), position);
        self.contention.set(contention);
        // Under loom every order of steps is tried anyway.
        for _ in (0..looks).filter(|_| cfg!(not(loom))) {
            spin_hint();
        }
    }

    /// Whether an operation that has run went over the whole ring, and not over zeroes that a guard
    /// put there. Folds to true where there is no guard.
    #[inline(always)]
    pub(crate) fn is_whole(&self) -> bool {
        !A::GUARDED || self.attachment.is_here()
    }

    /// The same, and all of a record that is about to be lent is there.
    #[inline(always)]
    pub(crate) fn is_whole_at(&self, offset: u64, len: u64) -> bool {
        if A::GUARDED {
            copy::touch(self.store(), offset, len);
        }
        self.is_whole()
    }

    /// The error of an operation on a handle that cannot be used.
    #[inline(always)]
    pub(crate) fn gone<E: From<Gone>>(&self) -> E {
        // Known without a look where there is no guard, so that nothing is kept for it.
        if A::GUARDED {
            self.gone_slow().into()
        } else {
            Gone::Forked.into()
        }
    }

    #[cold]
    #[inline(never)]
    fn gone_slow(&self) -> Gone {
        self.attachment.gone()
    }

    fn event(&self, side: Side) -> &EventLine {
        side.event(self.store())
    }

    /// Wakes those who sleep on a side, if anybody does; called after each publication.
    #[inline(always)]
    pub(crate) fn wake(&self, side: Side) {
        wait::wake(side.event(&self.near()));
    }

    /// Wakes both sides whether or not anybody sleeps: after a close.
    pub(crate) fn wake_everybody(&self) {
        wait::wake_all(self.event(Side::Items));
        wait::wake_all(self.event(Side::Space));
    }

    /// See [`Wait::looks_for_room`].
    pub(crate) fn looks_for_room(&self, wait: Wait) -> u64 {
        wait.looks_for_room(self.habit.get())
    }

    /// Repeats `attempt`, whose first outcome was `error`, until it succeeds or fails for good.
    #[cold]
    pub(crate) fn wait_for<T, E: TryError>(
        &self,
        side: Side,
        wait: Wait,
        error: E,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E::Final> {
        if let Some(error) = error.into_final() {
            return Err(error);
        }
        let mut waiter = Waiter::new(wait, self.event(side), self.habit.get());
        loop {
            // Ends by the peer's progress, by a deadline, or by the recovery of a dead peer.
            if waiter.pause(&*self.attachment).map_err(E::Final::from)? {
                self.count(WAITS, 1);
            }
            match attempt() {
                Ok(value) => {
                    self.habit.set(waiter.teach(self.habit.get()));
                    return Ok(value);
                }
                Err(error) => {
                    if let Some(error) = error.into_final() {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// The two public methods with which each handle joins an epoll loop.
macro_rules! pollable {
    ($handle:ident, $side:expr, $what:literal) => {
        #[cfg(not(loom))]
        impl<A: Attachment> $handle<A> {
            #[doc = concat!(
                "A descriptor that becomes readable when ", $what, ", for epoll and its like."
            )]
            ///
            /// The first call starts this attachment's one helper thread. Use it in this order:
            /// [`arm`](Self::arm); try until refused; poll for `EPOLLIN`; begin again.
            /// Never read from it.
            ///
            /// # Errors
            /// If the process has no descriptor or no thread left.
            pub fn descriptor(&self) -> std::io::Result<std::os::fd::BorrowedFd<'_>> {
                Ok(std::os::fd::AsFd::as_fd(self.participant.helper($side)?))
            }

            /// Makes [`descriptor`](Self::descriptor) unreadable until the ring moves. Try once
            /// more after this and before polling: what came earlier is not signalled.
            ///
            /// # Errors
            /// As for [`descriptor`](Self::descriptor).
            pub fn arm(&self) -> std::io::Result<()> {
                self.participant.helper($side)?.arm();
                Ok(())
            }

            /// Whether waiting is in vain: the ring's file was removed, replaced or cut short.
            /// Waiting operations find that out for themselves; an epoll loop that finds nothing
            /// behind a readable descriptor asks.
            pub fn loss(&self) -> Option<crate::Loss> {
                self.participant.attachment().loss()
            }
        }
    };
}
pub(crate) use pollable;

/// Waiting elsewhere than in a call: a descriptor to poll, and futures.
#[cfg(not(loom))]
impl<A: Attachment> Participant<A> {
    /// The helper, started at the first call.
    pub(crate) fn helper(&self, side: Side) -> std::io::Result<&wait::Helper<A>> {
        if !self.attachment.is_here() {
            return Err(std::io::Error::other(self.gone::<TryReadError>()));
        }
        if let Some(helper) = self.helper.get() {
            return Ok(helper);
        }
        let helper = wait::Helper::start(Arc::clone(&self.attachment), side)?;
        Ok(self.helper.get_or_init(|| helper))
    }
}

#[cfg(all(feature = "tokio", not(loom)))]
impl<A: Attachment> Participant<A> {
    fn reactor(&self, side: Side) -> std::io::Result<&wait::Reactor> {
        if let Some(reactor) = self.reactor.get() {
            return Ok(reactor);
        }
        let reactor = wait::Reactor::register(self.helper(side)?)?;
        Ok(self.reactor.get_or_init(|| reactor))
    }
}

/// Repeats `attempt` on `handle` until it succeeds or fails for good, as a future. `participant`
/// finds the participant in the handle; it is `&mut` so that the future may move between threads
/// although no handle is `Sync`.
///
/// Cancel-safe: an attempt that succeeds ends the future at once, so nothing is held across its
/// only await point.
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) async fn wait_async<H, A: Attachment, T, E: TryError>(
    handle: &mut H,
    side: Side,
    participant: impl Fn(&H) -> &Participant<A>,
    mut attempt: impl FnMut(&mut H) -> Result<T, E>,
) -> Result<T, E::Final> {
    loop {
        // Ends by the peer's progress or the recovery of a dead peer.
        if let Some(outcome) = settled(attempt(handle)) {
            return outcome;
        }
        if let Err(error) = participant(handle).helper(side).map(wait::Helper::arm) {
            return Err(system(&error).into());
        }
        if let Some(outcome) = settled(attempt(handle)) {
            return outcome;
        }
        let reactor = participant(handle).reactor(side);
        let signalled = match reactor {
            Ok(reactor) => reactor.signalled().await,
            Err(error) => Err(error),
        };
        if let Err(error) = signalled {
            return Err(system(&error).into());
        }
        if let Some(loss) = participant(handle).attachment().loss() {
            return Err(WaitEnd::Lost(loss).into());
        }
    }
}

/// What an attempt decides: `None` if waiting may help.
#[cfg(all(feature = "tokio", not(loom)))]
fn settled<T, E: TryError>(attempt: Result<T, E>) -> Option<Result<T, E::Final>> {
    match attempt {
        Ok(value) => Some(Ok(value)),
        Err(error) => error.into_final().map(Err),
    }
}

#[cfg(all(feature = "tokio", not(loom)))]
fn system(error: &std::io::Error) -> WaitEnd {
    WaitEnd::System(error.raw_os_error().unwrap_or(0))
}
