//! Peers that are no bridges: lines, or records behind their lengths.
//!
//! A plain peer has no name, confirms nothing, and cannot say where to go on. So nobody can promise
//! for it: a record counts as delivered when the kernel has taken all of it, and what a connection
//! had received of a record when it ended is dropped.
//!
//! # After a crash
//! Of a sending end: what the kernel took and nobody released is sent again, at most what one write
//! took. Of a receiving end: what it had read and not committed is gone.

mod receive;
mod send;

pub(super) use receive::run as receive;
pub(super) use send::run as send;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::around::Around;
use super::clock::now;
use super::error::{BridgeError, LinkError};
use super::link::Link;
use super::poller::{For, Poller};
use super::report::{Event, Summary};

/// Connections to plain peers, one at a time.
struct Plain<'b> {
    around: Around<'b>,
    link: Option<Link>,
    summary: Summary,
}

/// What a wait has found.
struct Woken {
    at: Instant,
    /// It is to stop from now on.
    stops: bool,
    /// The link may be read.
    readable: bool,
}

impl<'b> Plain<'b> {
    fn new(mut around: Around<'b>) -> Result<Self, BridgeError> {
        around.listen()?;
        Ok(Self {
            around,
            link: None,
            summary: Summary::default(),
        })
    }

    /// Waits for the ring, if it is given, the network, or the wish to stop; then sees to a
    /// connection.
    fn wait(
        &mut self,
        ring: Option<BorrowedFd<'_>>,
        reads: bool,
        timeout: Duration,
    ) -> Result<Woken, BridgeError> {
        let mut poller = Poller::default();
        let watched = self.around.watch(&mut poller, self.link.is_none());
        if let Some(ring) = ring {
            poller.add(ring, For::Reading);
        }
        let link = self.link.as_ref().and_then(|link| {
            let writes = link.has_more();
            let what = if writes { For::Writing } else { For::Reading };
            (writes || reads).then(|| poller.add(link.as_fd(), what))
        });
        let ready = poller.wait(timeout)?;
        let at = now();
        let stops = self.around.woke(&watched, &ready, at);
        if self.link.is_none() {
            self.connect(at);
        }
        Ok(Woken {
            at,
            stops,
            readable: link.is_some_and(|link| ready[link]),
        })
    }

    fn connect(&mut self, now: Instant) {
        let Some(connected) = self.around.connected(now) else {
            return;
        };
        (self.around.report)(&Event::Connected {
            peer: &connected.peer,
            name: "a plain peer",
            next: self.summary.confirmed,
        });
        self.summary.connections += 1;
        self.around.backoff.succeeded();
        self.link = Some(Link::new(connected, 0, now));
    }

    fn hang_up(&mut self, why: &LinkError) {
        self.around.backoff.failed(now());
        if let Some(link) = self.link.take() {
            let (peer, name) = (link.peer(), "");
            (self.around.report)(&Event::Disconnected { peer, name, why });
        }
    }

    /// Hangs up on a peer whose machine is gone with bytes under way to it. Whether it did.
    fn miss(&mut self, now: Instant) -> bool {
        let limit = self.around.settings.silence;
        let link = self.link.as_mut();
        let Some(absence) = link.and_then(|link| link.absence(now, limit)) else {
            return false;
        };
        self.hang_up(&LinkError::Silent(absence));
        true
    }

    /// Stores the figures of this turn. `is_idle` if nothing is to be moved.
    fn tell_figures(&self, position: u64, is_idle: bool) {
        let gauges = self.around.gauges;
        gauges.connected.set(self.link.is_some().into());
        gauges.wanted.set(1);
        let again = self.summary.connections.saturating_sub(1);
        gauges.reconnects.set(again);
        gauges.count(&self.summary);
        if self.around.ending.is_some() {
            gauges.drains();
        }
        gauges.turn(now(), position, is_idle && self.link.is_some());
    }

    /// Whether it was to stop by now.
    fn is_late(&self) -> bool {
        let deadline = self.around.ending;
        deadline.is_some_and(|deadline| now() >= deadline)
    }

    fn until_next(&self) -> Duration {
        let none = core::iter::empty();
        self.around.until_next(self.link.is_none(), none)
    }
}
