//! SIGINT and SIGTERM end a command in order: it detaches, then dies of the signal after all.
//!
//! The first signal is a wish, seen by [`Stop::requested`] and by whoever polls; system calls are
//! interrupted, not restarted. The second one kills at once, which is safe too: that is what the
//! rings are for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

use crate::report::{Answer, Failure};

/// The signal that came, 0 for none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Where the handler writes to wake whoever polls.
static WAKER: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_signal(signal: libc::c_int) {
    SIGNAL.store(signal, Ordering::Relaxed);
    let byte = 0_u8;
    // SAFETY: `write` is async-signal-safe, the buffer is one readable byte, and the descriptor was
    // leaked open by `Stop::new` before the handler was set.
    unsafe { libc::write(WAKER.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
}

/// Tells whether the user wants the command to end.
#[derive(Debug)]
pub struct Stop {
    woken: OwnedFd,
}

/// What a descriptor is polled for.
#[derive(Clone, Copy, Debug)]
pub enum For {
    Reading,
    Writing,
}

impl Stop {
    /// Catches SIGINT and SIGTERM from here on. Once in a process.
    pub fn new() -> Result<Self, Failure> {
        let failed = |error: Errno| Failure::because("cannot catch signals", &error);
        let (woken, waker) = nix::unistd::pipe().map_err(failed)?;
        WAKER.store(waker.into_raw_fd(), Ordering::Relaxed);
        // No SA_RESTART: a blocked write returns. SA_RESETHAND: the second signal kills.
        let handler = SigHandler::Handler(on_signal);
        let action = SigAction::new(handler, SaFlags::SA_RESETHAND, SigSet::empty());
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            // SAFETY: the handler only stores an atomic and calls `write`.
            unsafe { sigaction(signal, &action) }.map_err(failed)?;
        }
        Ok(Self { woken })
    }

    pub fn requested(&self) -> bool {
        SIGNAL.load(Ordering::Relaxed) != 0
    }

    /// Becomes readable with the first signal, and stays so.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// Waits until `fd` can be read or written without waiting; false if it is time to stop.
    pub fn wait_for(&self, fd: BorrowedFd<'_>, what: For) -> io::Result<bool> {
        let flags = match what {
            For::Reading => PollFlags::POLLIN,
            For::Writing => PollFlags::POLLOUT,
        };
        while !self.requested() {
            let mut fds = [
                PollFd::new(fd, flags),
                PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) if fds[0].any() != Some(false) => return Ok(true),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(false)
    }

    /// After everything was put in order: dies of the signal, if there was one.
    pub fn finish(&self, answer: Answer) -> Answer {
        let signal = SIGNAL.load(Ordering::Relaxed);
        if let Ok(signal) = Signal::try_from(signal) {
            // Its handler was reset when it came. Should it be blocked, the answer stands.
            let _ = raise(signal);
        }
        answer
    }
}
