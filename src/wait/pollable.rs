//! A descriptor that becomes readable when a handle may go on: for epoll loops and executors.
//!
//! A futex cannot be polled, so an attachment that wants a descriptor gets one helper thread, which
//! sleeps on the event word in the handle's place and writes to an eventfd when the word changes.
//! The thread starts with the first use and ends with the handle; while nothing is armed it sleeps
//! on a condition variable.
//!
//! # Why nothing is missed
//! The handle arms (event word, heavy barrier), then looks at the ring again, then polls. Whatever
//! is published after that look changes the word, and the helper signals; what comes from a
//! processor that the barrier passed over it finds soon after, by a look of its own (INV-3 of
//! [`wait`](super)). A waker that died between
//! its publication and its wake-up is recovered at the helper's bound, which wakes everybody; one
//! that is stopped there is alive, so at each bound the helper glances at the ring as well
//! ([`Glance`]). Where somebody cannot use the asymmetric barrier, and in a closed ring, whose end
//! may hang on the leaving of a producer, which moves nothing, it signals at each bound, unasked.

use core::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{BOUND, FIRST_BOUND, arm, sleep, wake_all};
use crate::handle::Side;
use crate::layout::EventLine;
use crate::protocol::glance::Glance;
use crate::protocol::{Attachment, Gone, Loss, switches};

/// An eventfd and the thread that feeds it.
pub(crate) struct Helper<A: Attachment> {
    shared: Arc<Shared<A>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<A> {
    attachment: Arc<A>,
    side: Side,
    readable: EventFd,
    orders: Mutex<Orders>,
    changed: Condvar,
}

#[derive(Default)]
struct Orders {
    /// The event word to sleep on, and what the ring was like before it.
    armed: Option<(u32, Glance)>,
    /// Whether nobody has slept on it yet.
    is_new: bool,
    stop: bool,
}

/// What the helper is to sleep on, and for how long at most.
struct Order {
    armed: u32,
    glance: Glance,
    is_first: bool,
}

impl<A: Attachment> Shared<A> {
    fn event(&self) -> &EventLine {
        self.side.event(self.attachment.store())
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        // Nothing panics while it holds the lock, and the orders are whole at every step.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Attachment> Helper<A> {
    /// Starts the helper of one side of an attachment.
    ///
    /// # Errors
    /// If the process has no descriptor or no thread left.
    pub(crate) fn start(attachment: Arc<A>, side: Side) -> std::io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let readable = EventFd::from_value_and_flags(0, flags)?;
        let (orders, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared {
            attachment,
            side,
            readable,
            orders,
            changed,
        });
        let mine = Arc::clone(&shared);
        let builder = std::thread::Builder::new().name("annulus-helper".to_owned());
        let thread = builder.spawn(move || watch(&mine))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Makes the descriptor unreadable until the ring moves; the caller looks again after this.
    pub(crate) fn arm(&self) {
        // An empty eventfd answers EAGAIN, which is what we want.
        let _count = self.shared.readable.read();
        let (shape, store) = (
            self.shared.attachment.shape(),
            self.shared.attachment.store(),
        );
        let glance = Glance::new(shape, store);
        let armed = arm(store, self.shared.event());
        let mut orders = self.shared.orders();
        // A word that stands since before was slept on, or is about to be.
        orders.is_new |= orders.armed.is_none_or(|(word, _)| word != armed);
        orders.armed = Some((armed, glance));
        drop(orders);
        self.shared.changed.notify_one();
    }
}

impl<A: Attachment> AsFd for Helper<A> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.readable.as_fd()
    }
}

impl<A: Attachment> fmt::Debug for Helper<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper")
            .field("side", &self.shared.side)
            .finish_non_exhaustive()
    }
}

impl<A: Attachment> Drop for Helper<A> {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let attachment = &self.shared.attachment;
        if !attachment.is_here() && attachment.gone() == Gone::Forked {
            return; // A forked child has no such thread.
        }
        self.shared.orders().stop = true;
        self.shared.changed.notify_one();
        // It may be asleep on the futex: one wake-up too many for the others.
        wake_all(self.shared.event());
        // A helper that panicked has nothing left to tell.
        let _ended = thread.join();
    }
}

/// The helper thread.
fn watch<A: Attachment>(shared: &Shared<A>) {
    while let Some(order) = next_order(shared) {
        let Order {
            armed,
            glance,
            is_first,
        } = order;
        let bound = if is_first { FIRST_BOUND } else { BOUND };
        if sleep(shared.event(), armed, bound) {
            signal(shared, armed);
            continue;
        }
        let attachment = &shared.attachment;
        match attachment.loss() {
            // Before the ring is looked at: what was cut must not be touched.
            Some(Loss::CutShort(_)) => {
                signal(shared, armed);
                continue;
            }
            // Those in a ring that is replaced or removed may go on, and are told it now and then.
            Some(_) if !is_first => signal(shared, armed),
            _ => {}
        }
        let (shape, store) = (attachment.shape(), attachment.store());
        if !is_first {
            attachment.mend();
        }
        let may_go_on = match shared.side {
            Side::Items => glance.has_record(shape, store),
            Side::Space => glance.has_space(shape, store),
        };
        // In a closed ring what is waited for may be the producer's leaving, which moves nothing.
        let must_look = || switches::has_real_fences(store) || switches::is_closed(store);
        if may_go_on || (!is_first && must_look()) {
            signal(shared, armed);
        }
    }
}

/// Waits until something is armed; `None` once the handle is gone.
fn next_order<A: Attachment>(shared: &Shared<A>) -> Option<Order> {
    let mut orders = shared.orders();
    loop {
        if orders.stop {
            return None;
        }
        if let Some((armed, glance)) = orders.armed {
            return Some(Order {
                armed,
                glance,
                is_first: core::mem::take(&mut orders.is_new),
            });
        }
        orders = shared
            .changed
            .wait(orders)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

fn signal<A: Attachment>(shared: &Shared<A>, armed: u32) {
    let mut orders = shared.orders();
    if orders.armed.is_some_and(|(word, _)| word == armed) {
        orders.armed = None;
    }
    // It fails only if 2^64 - 2 signals were never read.
    let _written = shared.readable.write(1);
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::BOUND;
    use crate::protocol::byte_ring::{Reader, Writer};
    use crate::protocol::recovery::Shape;
    use crate::protocol::{Attachment, Store};
    use crate::sync::Ordering::Relaxed;
    use crate::{Heap, spsc};

    fn is_readable(descriptor: BorrowedFd<'_>, within: Duration) -> bool {
        let mut looked = [PollFd::new(descriptor, PollFlags::POLLIN)];
        let within = PollTimeout::try_from(within).expect("a short time");
        poll(&mut looked, within).expect("an open descriptor") == 1
    }

    /// A waker on a processor that the heavy barrier passed over.
    #[test]
    fn an_epoll_loop_that_was_missed_is_told_before_long() {
        const TURNS: usize = 11;
        let (producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
        let attachment = producer.participant().attachment();
        let store = attachment.store();
        let Shape::Bytes(shape) = attachment.shape() else {
            unreachable!("a ring of bytes")
        };
        let mut writer = Writer::resume(shape, store).unwrap();
        let late = (0..TURNS).filter(|_| {
            consumer.arm().unwrap();
            let span = writer.claim(shape, store, 8).unwrap();
            writer.commit(shape, store, span, 0, 8);
            let items = consumer.descriptor().unwrap();
            let is_early = is_readable(items, BOUND / 2);
            assert!(is_readable(items, 10 * BOUND), "a record");
            drop(consumer.try_read().unwrap());
            !is_early
        });
        let late = late.count();
        assert!(late <= TURNS / 2, "{late} of {TURNS}");
    }

    /// The last thing that it waits for may be that the producer leaves, after its wake-up.
    #[test]
    fn an_epoll_loop_of_a_closed_ring_looks_again_at_each_bound() {
        let (_producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
        // Nobody is woken by it: there is no helper yet.
        consumer.close();
        consumer.arm().unwrap();
        let items = consumer.descriptor().unwrap();
        assert!(is_readable(items, 10 * BOUND), "it sleeps on");
    }

    /// A waker that is stopped before its wake-up: the ring moves on and the event word does not.
    #[test]
    fn an_epoll_loop_goes_on_without_a_wake_up_after_one_bound() {
        let (producer, consumer): (spsc::Producer<Heap>, spsc::Consumer<Heap>) =
            spsc::Options::new(4096).heap().unwrap();
        let attachment = producer.participant().attachment();
        let store = attachment.store();
        let Shape::Bytes(shape) = attachment.shape() else {
            unreachable!("a ring of bytes")
        };
        let mut writer = Writer::resume(shape, store).unwrap();
        let mut reader = Reader::resume(shape, store).unwrap();
        let words = || {
            let control = store.control();
            [&control.items, &control.space].map(|event| event.word.load(Relaxed))
        };

        consumer.arm().unwrap();
        producer.arm().unwrap();
        let armed = words();
        let [items, space] = [consumer.descriptor(), producer.descriptor()].map(Result::unwrap);
        assert!(!is_readable(items, 3 * BOUND), "nothing came");
        let span = writer.claim(shape, store, 8).unwrap();
        writer.commit(shape, store, span, 0, 8);
        assert!(is_readable(items, 10 * BOUND), "a record");
        assert!(!is_readable(space, Duration::ZERO), "no space yet");
        reader.read(shape, store).unwrap();
        reader.release_all(store);
        assert!(is_readable(space, 10 * BOUND), "space");
        assert_eq!(words(), armed, "nobody was woken");
    }
}
