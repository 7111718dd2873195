//! One wait for everything: sockets, the ring, the wish to stop.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::BridgeError;
use super::link::Link;

/// What a descriptor is looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Reading,
    /// Reading too: whoever writes must see that its peer has gone.
    Writing,
    /// Nothing is to be read now, and a peer that has gone shows in the writing.
    WritingAlone,
}

/// Descriptors, and whether each may go on.
#[derive(Debug, Default)]
pub(super) struct Poller<'fd> {
    fds: Vec<PollFd<'fd>>,
}

impl<'fd> Poller<'fd> {
    /// Adds one, and returns its place among the answers.
    pub(super) fn add(&mut self, fd: BorrowedFd<'fd>, what: For) -> usize {
        let flags = match what {
            For::Reading => PollFlags::POLLIN,
            For::Writing => PollFlags::POLLIN | PollFlags::POLLOUT,
            For::WritingAlone => PollFlags::POLLOUT,
        };
        self.fds.push(PollFd::new(fd, flags));
        self.fds.len() - 1
    }

    /// Adds a connection that is read, and written to if there is something to be written.
    pub(super) fn add_link(&mut self, link: &'fd Link) -> usize {
        let what = if link.has_more() {
            For::Writing
        } else {
            For::Reading
        };
        self.add(link.as_fd(), what)
    }

    /// Waits until one of them may go on, no longer than `timeout`. Returns for each of them
    /// whether it may be read, or has ended.
    pub(super) fn wait(mut self, timeout: Duration) -> Result<Vec<bool>, BridgeError> {
        // Rounded up, or the last millisecond would be spent looking.
        let timeout = PollTimeout::try_from(timeout.as_micros().div_ceil(1000));
        match poll(&mut self.fds, timeout.unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(BridgeError::system("wait")(errno.into())),
        }
        let reading = |fd: &PollFd<'_>| {
            let found = fd.revents().unwrap_or(PollFlags::empty());
            !(found - PollFlags::POLLOUT).is_empty()
        };
        Ok(self.fds.iter().map(reading).collect())
    }
}
