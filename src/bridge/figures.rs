//! The figures of a bridge at one moment, and whether they are those of one that is well.

use core::fmt;
use std::time::Duration;

/// What a bridge is doing, in numbers. Counters begin at 0 when it is attached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Figures {
    /// Its ring is the source. Otherwise the ring is the destination; lag, in flight, published,
    /// republished, the latency and the subscribers are then unknown, and 0.
    pub sends: bool,
    /// Number of the first record that was not read from the ring, or not received.
    pub read: u64,
    /// Number of the first record that not all have confirmed, or that is not committed here.
    pub confirmed: u64,
    /// Records in the ring that not all have confirmed. Of an MPMC ring about so many, since other
    /// consumers may take some.
    pub lag_records: u64,
    /// Bytes of the ring that are not released. Of an MPMC ring the bytes of those slots.
    pub lag_bytes: u64,
    /// Records that were sent and not confirmed, those of all subscribers together.
    pub in_flight: u64,
    /// Records that were sent, to all subscribers together, those sent again included.
    pub published: u64,
    /// Records that were confirmed, by all of them; or that were committed here.
    pub confirmations: u64,
    /// Records that were sent once more to the same subscriber.
    pub republished: u64,
    /// Records that came once more and were dropped. Between bridges there are none, because the
    /// receiver says where to go on.
    pub duplicates: u64,
    /// Messages that a broker did not take.
    pub nacked: u64,
    /// Messages for which a broker had no queue.
    pub returned: u64,
    /// A broker takes nothing for now.
    pub is_blocked: bool,
    /// Gaps that were told.
    pub gaps: u64,
    /// Records in them, one subscriber's counted apart from another's.
    pub gap_records: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Those of them whose peer had been connected before.
    pub reconnects: u64,
    /// How many peers are connected.
    pub connected: u64,
    /// How many should be.
    pub wanted: u64,
    /// Connections of users who are not allowed to be there.
    pub forbidden: u64,
    /// It is to end.
    pub draining: bool,
    /// For how long something is owed and nothing was confirmed: about 0 if nothing is owed. What a
    /// connected sender owes a receiver cannot know, so that one owes something as long as it is
    /// not connected, or its ring is full.
    pub progress_age: Duration,
    /// How long ago the driver last turned; it does at least four times a second, unless it waits
    /// for the system to connect or to look up a name.
    pub turn_age: Duration,
    /// How long records took from being sent to being confirmed.
    pub confirm_latency: LatencyFigures,
    /// Those who are served, in the order in which they came.
    pub subscribers: Vec<SubscriberFigures>,
}

/// Records by the time that they took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LatencyFigures {
    /// Upper bounds, the last of which is [`Duration::MAX`], each with the number of records that
    /// took no longer, but longer than the bound before.
    pub buckets: Vec<(Duration, u64)>,
    /// The time of all of them together.
    pub sum: Duration,
}

/// One who is served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriberFigures {
    /// Its name.
    pub name: String,
    /// Number of the first record that it has not confirmed.
    pub confirmed: u64,
    /// Records that it was sent and has not confirmed.
    pub in_flight: u64,
    /// Whether it is connected.
    pub is_connected: bool,
}

/// Why a bridge is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReady {
    /// It is to end.
    Draining,
    /// Somebody is not connected.
    Unconnected {
        /// How many are.
        connected: u64,
        /// How many should be.
        wanted: u64,
    },
    /// Something is owed, and nothing was confirmed for so long.
    Stalled(Duration),
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => write!(f, "it is to end"),
            Self::Unconnected { connected, wanted } => {
                write!(f, "{connected} of {wanted} peers are connected")
            }
            Self::Stalled(age) => {
                write!(f, "nothing was confirmed for {} ms", age.as_millis())
            }
        }
    }
}

impl Figures {
    /// Whether everybody is connected, and something was confirmed within `patience` or there is
    /// nothing to confirm.
    ///
    /// # Errors
    /// See [`NotReady`].
    pub fn check_ready(&self, patience: Duration) -> Result<(), NotReady> {
        let (connected, wanted) = (self.connected, self.wanted);
        if self.draining {
            return Err(NotReady::Draining);
        }
        // 0 of 0 is a driver that has not turned yet.
        if connected < wanted.max(1) {
            return Err(NotReady::Unconnected { connected, wanted });
        }
        if self.progress_age > patience {
            return Err(NotReady::Stalled(self.progress_age));
        }
        Ok(())
    }
}
