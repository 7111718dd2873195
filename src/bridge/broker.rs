//! Brokers: a network that takes single messages and tells of each what became of it.
//!
//! Here is what an adapter does for the two drivers. It knows a protocol and no ring: which records
//! are in flight, how far they are confirmed, which have come before, and when it was too long is
//! the drivers' matter.
//!
//! | file | for |
//! | --- | --- |
//! | `lots` | what was read of the ring and is not given back |
//! | `window` | which records are in flight, and how far all are confirmed |
//! | `seen` | which records have come before |
//! | `publish`, `consume` | the drivers from a ring, and into one |
//!
//! # Invariants
//! 1. The ring's head moves only to where every record is confirmed, and never back.
//! 2. A message is acknowledged after its record is committed.
//! 3. No driver waits inside an adapter: a session is begun, told things, and asked what came.
//!    What does not come within the settings' silence ends the session, unless the broker has said
//!    that it takes nothing for now.

pub(super) mod consume;
mod lots;
pub(super) mod publish;
mod seen;
mod window;

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::Settings;
use super::error::LinkError;
use super::frame::StreamId;
use super::gauges::Gauges;
use super::report::Event;
pub(super) use seen::Seen;

/// What both drivers have besides their ring.
pub(super) struct Course<'b> {
    pub(super) broker: Box<dyn Broker>,
    pub(super) settings: &'b Settings,
    pub(super) gauges: &'b Gauges,
    pub(super) stop: BorrowedFd<'b>,
    pub(super) report: &'b mut dyn FnMut(&Event<'_>),
    /// Told, since a session was last ready.
    unreachable: bool,
}

impl<'b> Course<'b> {
    pub(super) fn new(
        broker: Box<dyn Broker>,
        settings: &'b Settings,
        gauges: &'b Gauges,
        stop: BorrowedFd<'b>,
        report: &'b mut dyn FnMut(&Event<'_>),
    ) -> Self {
        Self {
            broker,
            settings,
            gauges,
            stop,
            report,
            unreachable: false,
        }
    }

    /// A session is ready. `next` is where it goes on.
    fn tell_ready(&mut self, name: &str, next: u64) {
        self.unreachable = false;
        let peer = &*self.broker.at();
        (self.report)(&Event::Connected { peer, name, next });
    }

    /// There is no session: told once until there is.
    fn tell_unreachable(&mut self, why: &io::Error) {
        if !core::mem::replace(&mut self.unreachable, true) {
            let at = &self.broker.at();
            (self.report)(&Event::Unreachable { at, why });
        }
    }

    /// A session has ended, which was ready or never got so far.
    fn tell_end(&mut self, was_ready: bool, why: &LinkError) {
        if was_ready {
            let (peer, name) = (&*self.broker.at(), "");
            (self.report)(&Event::Disconnected { peer, name, why });
        } else {
            self.tell_unreachable(&io::Error::other(why.to_string()));
        }
    }
}

/// Where sessions come from.
pub(super) trait Broker: Debug {
    /// Where that is, for people, without any secret.
    fn at(&self) -> String;

    /// Begins a session that publishes records of `stream`.
    fn publish(&mut self, stream: StreamId) -> io::Result<Box<dyn Outlet>>;

    /// Begins a session that takes messages, most `ahead` of them before they are acknowledged.
    fn consume(&mut self, ahead: u16) -> io::Result<Box<dyn Inlet>>;
}

/// A session that publishes. Dropping it ends it, without waiting for anything.
pub(super) trait Outlet {
    /// Publishes one record. Nothing is known of it before an outcome tells.
    fn publish(&mut self, record: Outgoing);

    /// Takes what has come, oldest first. An error ends the session: nothing more comes of it.
    fn take(&mut self, outcomes: &mut Vec<Outcome>) -> Result<(), LinkError>;

    /// What becomes readable when something has come.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Ends it in good order, if that takes no longer than `patience`.
    fn close(&mut self, patience: Duration);
}

/// A session that takes messages. Dropping it ends it, without waiting for anything.
pub(super) trait Inlet {
    /// Acknowledges everything up to a delivery.
    fn acknowledge(&mut self, delivery: u64);

    /// Takes what has come, oldest first. An error ends the session: nothing more comes of it.
    fn take(&mut self, notices: &mut Vec<Notice>) -> Result<(), LinkError>;

    /// What becomes readable when something has come.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Ends it in good order, if that takes no longer than `patience`.
    fn close(&mut self, patience: Duration);
}

/// A record on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    /// Its number in its stream.
    pub(super) position: u64,
    pub(super) tag: u32,
    pub(super) payload: Vec<u8>,
}

/// What a publishing session has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Records may be published.
    Ready,
    /// That record is the broker's now.
    Confirmed(u64),
    /// The broker does not take that record, at least not now, and this is why.
    Refused(u64, Refusal),
    /// It takes nothing for now.
    Blocked(String),
    /// It does again.
    Unblocked,
}

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The broker could not, or was not allowed to.
    Nacked,
    /// There is no queue for it.
    Returned(String),
}

/// What a session that takes messages has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Messages may come.
    Ready,
    Delivered(Delivery),
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// What acknowledges it, within its session.
    pub(super) delivery: u64,
    pub(super) tag: u32,
    pub(super) payload: Vec<u8>,
    /// Which record it was, if a bridge has published it.
    pub(super) source: Option<(StreamId, u64)>,
}
