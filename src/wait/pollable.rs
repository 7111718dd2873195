//! A descriptor that becomes readable when a handle may go on: for epoll loops and executors.
//!
//! A futex cannot be polled, so an attachment that wants a descriptor gets one helper thread, which
//! sleeps on the event word in the handle's place and writes to an eventfd when the word changes.
//! The thread starts with the first use and ends with the handle; while nothing is armed it sleeps
//! on a condition variable.
//!
//! # Why nothing is missed
//! The handle arms (event word, heavy barrier), then looks at the ring again, then polls. Whatever
//! is published after that look changes the word, and the helper signals. A waker that died between
//! its publication and its wake-up is recovered at the helper's bound, which wakes everybody. Only
//! where somebody cannot use the asymmetric barrier does the helper signal at each bound, unasked.

use core::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{BOUND, arm, real_fences, sleep, wake_all};
use crate::handle::Side;
use crate::layout::EventLine;
use crate::protocol::{Attachment, Gone};

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
    /// The event word to sleep on.
    armed: Option<u32>,
    stop: bool,
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
        let armed = arm(self.shared.attachment.store(), self.shared.event());
        self.shared.orders().armed = Some(armed);
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
    while let Some(armed) = next_order(shared) {
        if sleep(shared.event(), armed, BOUND) {
            signal(shared, armed);
            continue;
        }
        shared.attachment.mend();
        if real_fences(shared.attachment.store()) || shared.attachment.loss().is_some() {
            signal(shared, armed);
        }
    }
}

/// Waits until something is armed; `None` once the handle is gone.
fn next_order<A: Attachment>(shared: &Shared<A>) -> Option<u32> {
    let mut orders = shared.orders();
    loop {
        if orders.stop {
            return None;
        }
        if let Some(armed) = orders.armed {
            return Some(armed);
        }
        orders = shared
            .changed
            .wait(orders)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

fn signal<A: Attachment>(shared: &Shared<A>, armed: u32) {
    let mut orders = shared.orders();
    if orders.armed == Some(armed) {
        orders.armed = None;
    }
    // It fails only if 2^64 - 2 signals were never read.
    let _written = shared.readable.write(1);
}
