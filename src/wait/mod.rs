//! How a participant waits: spinning, yielding, or asleep on a futex that all processes share.
//!
//! This file makes the system calls of the handshake that [`crate::protocol::event`] describes, and
//! decides when to stop spinning. It knows nothing of rings: an attempt is a closure.
//!
//! # Invariants
//! 1. Nobody sleeps longer than [`BOUND`]: a waker that died between its publication and its system
//!    call delays the others by that much and no more.
//! 2. A time-out makes somebody look again. It never takes anything from anybody.
//! 3. Whoever has armed sleeps for [`FIRST_BOUND`] at most and looks, before it sleeps for longer:
//!    the heavy barrier may have passed over a processor (see there), whose stores can be seen by
//!    then.
//!
//! # Pairing
//! - `sleep-wake`: [`heavy_barrier`] after [`arm`](crate::protocol::event::arm) -> the waker's
//!   `light_barrier`. membarrier(2), GLOBAL_EXPEDITED, makes each processor that is known to run a
//!   registered process execute a full barrier, so that the waker needs none of its own. Threads of
//!   this process are reached by PRIVATE_EXPEDITED as well; see `heavy_barrier` for why, and INV-3
//!   for those of others.
//!
//! # After a crash
//! Nothing of this lives in the file but the event word; see its module.

mod contention;
mod futex;
mod habit;
mod patience;

#[cfg(not(loom))]
mod pause;
#[cfg(not(loom))]
mod pollable;
#[cfg(all(feature = "tokio", not(loom)))]
mod reactor;

pub(crate) use contention::Contention;
use habit::Looks;
pub(crate) use habit::{Habit, LEAST_LOOKS};
pub(crate) use patience::Patience;
#[cfg(not(loom))]
pub(crate) use pause::spin_for_ns;
#[cfg(not(loom))]
pub(crate) use pollable::Helper;
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) use reactor::Reactor;

pub(crate) use futex::{global_barrier, heavy_barrier, sleep, wake_all};

use crate::error::WaitEnd;
use crate::layout::EventLine;
use crate::protocol::{Attachment, Store, event, switches};
use crate::sync::{spin_hint, yield_now};

#[cfg(not(loom))]
use crate::protocol::Loss;
#[cfg(not(loom))]
use std::time::{Duration, Instant};

/// Longest sleep.
#[cfg(not(loom))]
pub(crate) const BOUND: Duration = Duration::from_millis(100);
/// Longest sleep between arming and another look. Stores that the heavy barrier did not reach have
/// become visible by then; one that has not costs the sleeper its next bound, and nothing else.
#[cfg(not(loom))]
pub(crate) const FIRST_BOUND: Duration = Duration::from_millis(1);

/// Looks of an MPMC producer that spins, for room enough to go on for a while.
const SPINS_FOR_ROOM: u64 = 128;
/// A spinner that has a deadline reads the clock once in this many looks.
#[cfg(not(loom))]
const LOOKS_PER_CLOCK: u64 = 32;

/// How to wait, and until when.
///
/// # Examples
/// ```
/// use annulus::Wait;
/// use std::time::Duration;
///
/// let patient = Wait::block();
/// let careful = Wait::block().for_at_most(Duration::from_millis(250));
/// let latency_first = Wait::spin();
/// # let _ = (patient, careful, latency_first);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    how: How,
    deadline: Deadline,
}

/// Until when, if that is limited.
#[cfg(not(loom))]
pub(crate) type Deadline = Option<Instant>;
/// There is no time under loom.
#[cfg(loom)]
pub(crate) type Deadline = Option<core::convert::Infallible>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Spin,
    Yield,
    Block,
}

impl Wait {
    /// Looks all the time. The lowest latency, for a processor of its own.
    pub fn spin() -> Self {
        Self::of(How::Spin)
    }

    /// Looks, then gives the rest of its time slice away between looks. No system call on the
    /// waker's side, and polite to others on the same processor.
    pub fn yielding() -> Self {
        Self::of(How::Yield)
    }

    /// Looks for a microsecond or so, yields, then sleeps until woken. A handle whose looks come to
    /// nothing, as those for a peer on the same processor do, yields at once.
    pub fn block() -> Self {
        Self::of(How::Block)
    }

    fn of(how: How) -> Self {
        Self {
            how,
            deadline: None,
        }
    }

    /// Gives up at `deadline`.
    #[cfg(not(loom))]
    #[must_use]
    pub fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Gives up after `timeout`, counted from now.
    #[cfg(not(loom))]
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file may read the clock")]
    pub fn for_at_most(self, timeout: Duration) -> Self {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.until(deadline),
            None => self,
        }
    }
}

impl Wait {
    /// As arguments that go in registers. The whole would go through memory, where a call's
    /// straight line puts it for a wait that almost never comes.
    #[inline(always)]
    pub(crate) fn parts(self) -> (How, Deadline) {
        (self.how, self.deadline)
    }

    pub(crate) fn of_parts(how: How, deadline: Deadline) -> Self {
        Self { how, deadline }
    }

    /// How many looks of an MPMC producer may be for more room than a record needs: none that a
    /// sleep follows. Loom sleeps at once.
    pub(crate) fn looks_for_room(self, habit: Habit) -> u64 {
        match self.how {
            _ if cfg!(loom) => 0,
            How::Spin => SPINS_FOR_ROOM,
            How::Yield | How::Block => habit.looks().spins.max(LEAST_LOOKS),
        }
    }
}

/// One wait in progress; [`pause`](Self::pause) is called after each attempt that failed.
pub(crate) struct Waiter<'w> {
    wait: Wait,
    event: &'w EventLine,
    looks: u64,
    /// How many of them before it yields, and before it arms.
    limits: Looks,
    /// The event word to sleep on, once armed.
    armed: Option<u32>,
    /// Whether the first sleep on that word has timed out.
    #[cfg(not(loom))]
    has_settled: bool,
}

impl<'w> Waiter<'w> {
    pub(crate) fn new(wait: Wait, event: &'w EventLine, habit: Habit) -> Self {
        Self {
            wait,
            event,
            looks: 0,
            limits: habit.looks(),
            armed: None,
            #[cfg(not(loom))]
            has_settled: false,
        }
    }

    /// What is to be learnt of a wait that has ended well. Who spins by choice learns nothing.
    pub(crate) fn teach(&self, habit: Habit) -> Habit {
        match self.wait.how {
            How::Spin => habit,
            How::Yield | How::Block => habit.learn(self.looks <= self.limits.spins),
        }
    }

    /// Lets time pass until another attempt makes sense. Returns whether it slept.
    pub(crate) fn pause<A: Attachment>(&mut self, attachment: &A) -> Result<bool, WaitEnd> {
        self.looks = self.looks.wrapping_add(1);
        match self.wait.how {
            How::Spin => spin_hint(),
            // Loom would explore every spin.
            How::Block if cfg!(loom) => return self.arm_or_sleep(attachment),
            _ if self.looks <= self.limits.spins => spin_hint(),
            How::Yield => yield_now(),
            How::Block if self.looks <= self.limits.spins + self.limits.yields => yield_now(),
            How::Block => return self.arm_or_sleep(attachment),
        }
        self.check_deadline(attachment)?;
        Ok(false)
    }

    /// Spinners never sleep, so every so often they read the clock, and look after their name.
    #[cfg(not(loom))]
    fn check_deadline<A: Attachment>(&self, attachment: &A) -> Result<(), WaitEnd> {
        if !self.looks.is_multiple_of(LOOKS_PER_CLOCK) {
            return Ok(());
        }
        // Some tens of milliseconds, as a look or a yield takes.
        let looks_per_name = match self.wait.how {
            How::Spin => 1 << 20,
            How::Yield | How::Block => 1 << 14,
        };
        if self.looks.is_multiple_of(looks_per_name)
            && let Some(loss) = attachment.loss()
        {
            return Err(WaitEnd::Lost(loss));
        }
        match self.remaining() {
            Some(Duration::ZERO) => Err(attachment.loss().map_or(WaitEnd::TimedOut, WaitEnd::Lost)),
            _ => Ok(()),
        }
    }

    #[cfg(loom)]
    fn check_deadline<A: Attachment>(&self, _attachment: &A) -> Result<(), WaitEnd> {
        Ok(())
    }

    fn arm_or_sleep<A: Attachment>(&mut self, attachment: &A) -> Result<bool, WaitEnd> {
        let Some(armed) = self.armed.take() else {
            self.armed = Some(arm(attachment.store(), self.event));
            return Ok(false);
        };
        self.sleep_bounded(attachment, armed)
    }

    /// Returns whether this sleep counts: one that goes on with the first one does not.
    #[cfg(not(loom))]
    fn sleep_bounded<A: Attachment>(
        &mut self,
        attachment: &A,
        armed: u32,
    ) -> Result<bool, WaitEnd> {
        let is_first = !core::mem::replace(&mut self.has_settled, false);
        let bound = if is_first { FIRST_BOUND } else { BOUND };
        let timeout = self
            .remaining()
            .map_or(bound, |remaining| remaining.min(bound));
        if !timeout.is_zero() && sleep(self.event, armed, timeout) {
            return Ok(is_first);
        }
        let is_brief = is_first && !timeout.is_zero();
        match attachment.loss() {
            // Before the next look, for it must not touch what was cut.
            Some(loss @ Loss::CutShort(_)) => return Err(WaitEnd::Lost(loss)),
            // Those in a ring that is replaced or removed may go on, and are told it now and then.
            Some(loss) if !is_brief => return Err(WaitEnd::Lost(loss)),
            _ => {}
        }
        if timeout.is_zero() {
            return Err(WaitEnd::TimedOut);
        }
        if is_first {
            self.has_settled = true;
            self.armed = Some(armed);
        }
        Ok(is_first)
    }

    #[cfg(loom)]
    fn sleep_bounded<A: Attachment>(
        &mut self,
        _attachment: &A,
        armed: u32,
    ) -> Result<bool, WaitEnd> {
        sleep(self.event, armed);
        Ok(true)
    }

    #[cfg(not(loom))]
    #[expect(clippy::disallowed_methods, reason = "this file may read the clock")]
    fn remaining(&self) -> Option<Duration> {
        self.wait
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// There is no time under loom.
#[cfg(loom)]
pub(crate) fn spin_for_ns(_time: u64) {}

/// Announces a sleeper and makes sure that every waker sees it. The caller looks again before it
/// sleeps on the value returned.
pub(crate) fn arm<S: Store + ?Sized>(store: &S, event: &EventLine) -> u32 {
    let armed = event::arm(&event.word);
    // sync(sleep-wake): acquire half.
    if heavy_barrier() {
        return armed;
    }
    // Whoever has not seen it yet delays this sleeper by one bound (INV-1).
    switches::fence_for_real(store);
    let armed = event::arm(&event.word);
    // sync(sleep-wake): acquire half.
    crate::sync::full_fence();
    armed
}

/// Lets this process take part in the heavy barriers of the others in a ring, or, where the kernel
/// does not offer that, has all of them fence for real. Before the first operation on the ring.
#[cfg(not(loom))]
pub(crate) fn join_barriers<S: Store + ?Sized>(store: &S) {
    if !futex::register_barrier() {
        switches::fence_for_real(store);
    }
}

/// Under loom both barriers are fences.
#[cfg(loom)]
pub(crate) fn join_barriers<S: Store + ?Sized>(_store: &S) {}

/// Wakes those who sleep on `event`, if anybody does; called after each publication.
#[inline(always)]
pub(crate) fn wake(event: &EventLine) {
    if event::take_sleepers(&event.word) {
        futex::wake_sleepers(event);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{BOUND, Habit, Wait, WaitEnd, Waiter};
    use crate::protocol::byte_ring::Writer;
    use crate::protocol::recovery::Shape;
    use crate::protocol::{Attachment as _, Store as _, event};
    use crate::spsc;
    use crate::sync::Ordering::Relaxed;
    use std::time::{Duration, Instant};

    /// A barrier that passed over the producer's processor: the record comes behind the last look,
    /// and nobody is woken.
    #[test]
    fn a_sleeper_that_was_missed_looks_again_before_long() {
        const TURNS: usize = 11;
        let (producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
        let attachment = producer.participant().attachment();
        let store = attachment.store();
        let Shape::Bytes(shape) = attachment.shape() else {
            unreachable!("a ring of bytes")
        };
        let mut writer = Writer::resume(shape, store).unwrap();
        let word = &store.control().items.word;
        let late = (0..TURNS).filter(|_| {
            let began = Instant::now();
            std::thread::scope(|scope| {
                let reading = scope.spawn(|| consumer.read(Wait::block()).map(drop));
                while word.load(Relaxed) & 1 == 0 {
                    assert!(began.elapsed() < 100 * BOUND, "nobody falls asleep");
                }
                let armed = Instant::now();
                while armed.elapsed() < Duration::from_micros(300) {
                    std::hint::spin_loop();
                }
                let span = writer.claim(shape, store, 8).unwrap();
                writer.commit(shape, store, span, 0, 8);
                reading.join().unwrap().unwrap();
            });
            assert!(event::take_sleepers(word), "somebody was woken");
            began.elapsed() > BOUND / 2
        });
        // A publisher that is held up comes behind the first sleep.
        let late = late.count();
        assert!(late <= TURNS / 2, "{late} of {TURNS}");
    }

    /// A look for more room than is needed fails where an attempt would not: a sleep behind it
    /// would be one that nobody ends.
    #[test]
    fn no_sleep_follows_a_look_for_room() {
        let mut habit = Habit::default();
        for _ in 0..100 {
            let looks = habit.looks();
            let for_room = Wait::block().looks_for_room(habit);
            assert!(for_room <= looks.spins + looks.yields, "{habit:?}");
            habit = habit.learn(false);
        }
    }

    /// A counter that stopped at the last number of 32 bits, an odd one, made the clock unread.
    #[test]
    fn a_spinner_still_times_out_after_its_looks_have_passed_32_bits() {
        let (producer, _consumer) = spsc::Options::new(4096).heap().unwrap();
        let attachment = producer.participant().attachment();
        let control =
            crate::protocol::Store::control(crate::protocol::Attachment::store(attachment));
        let wait = Wait::spin().for_at_most(Duration::from_millis(1));
        let mut waiter = Waiter::new(wait, &control.space, Habit::default());
        waiter.looks = u32::MAX.into();
        let ended = (0..100_000_000).find_map(|_| waiter.pause(attachment).err());
        assert_eq!(ended, Some(WaitEnd::TimedOut));
    }
}
