//! A contender as the slices see it: something that does a work for a while.

use core::time::Duration;
use std::path::PathBuf;

use hdrhistogram::Histogram;

use crate::payload::Payload;
use crate::players;
use crate::transport::{Place, Transport};
use crate::work::Work;

/// How a slice is run.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Processors to which players are pinned, in turns: with two, what sends first has the first.
    pub cpus: Vec<usize>,
    /// Time before the part that counts.
    pub warm_up: Duration,
    /// Time of the part that counts.
    pub time: Duration,
    /// Where folders for links are made: on a tmpfs.
    pub folder: PathBuf,
}

impl Conditions {
    /// After this long whoever is not done is killed. Long enough for those whose processors are
    /// mostly others': a slice that is slow is not wedged.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        (self.warm_up + self.time) * 4 + Duration::from_secs(10)
    }
}

/// What a contender did in a slice.
#[derive(Clone, Debug)]
pub struct Found {
    /// Nanoseconds a record or a round trip, see [`Slice::ns`](crate::result::Slice::ns).
    pub ns: f64,
    /// Records received.
    pub records: u64,
    /// Records sent and never received.
    pub lost: u64,
    /// Records received once more.
    pub repeated: u64,
    /// Of round trips and of records at a fixed rate.
    pub latency: Option<Histogram<u64>>,
}

/// Why a slice does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The work is not for this contender.
    #[error("cannot: {0}")]
    Cannot(String),
    /// Players were not done by the deadline, and were killed.
    #[error("wedged: {0}")]
    Wedged(String),
    /// A record was torn, a player crashed, an order was lost.
    #[error("{0}")]
    Broken(String),
}

/// Something that does a work for a while, in processes of its own.
pub trait Contender {
    /// As the report names it.
    fn name(&self) -> String;

    /// Where its players live.
    fn place(&self) -> Place;

    /// Runs one slice.
    ///
    /// # Errors
    /// See [`Fault`].
    fn run(&self, work: &Work, conditions: &Conditions) -> Result<Found, Fault>;
}

/// A transport with its payload: what makes one of many types a [`Contender`].
#[derive(Clone, Copy, Debug)]
pub struct Of<P, T> {
    /// What its records are like; as long as the work says.
    pub payload: P,
    /// How they are handed over.
    pub transport: T,
}

impl<P: Payload, T: Transport<P>> Contender for Of<P, T> {
    fn name(&self) -> String {
        self.transport.name()
    }

    fn place(&self) -> Place {
        self.transport.place()
    }

    fn run(&self, work: &Work, conditions: &Conditions) -> Result<Found, Fault> {
        assert_eq!(self.payload.bytes(), work.payload, "a payload of the work");
        players::play(self.payload, &self.transport, work, conditions)
    }
}

/// A boxed [`Contender`] of a transport for records of so many bytes. Usual lengths are known to
/// the compiler, others are not.
#[macro_export]
macro_rules! contender {
    ($bytes:expr, $transport:expr) => {{
        use $crate::contender::{Contender, Of};
        let transport = $transport;
        match $bytes {
            8 => {
                let payload = $crate::Fixed::<1>;
                Box::new(Of { payload, transport }) as Box<dyn Contender>
            }
            56 => {
                let payload = $crate::Fixed::<7>;
                Box::new(Of { payload, transport })
            }
            64 => {
                let payload = $crate::Fixed::<8>;
                Box::new(Of { payload, transport })
            }
            256 => {
                let payload = $crate::Fixed::<32>;
                Box::new(Of { payload, transport })
            }
            bytes => {
                let payload = $crate::Sized(bytes);
                Box::new(Of { payload, transport })
            }
        }
    }};
}
