//! Bridges: a ring's records to another machine, and into a ring there.
//!
//! A bridge has two ends, of which one is a ring; `docs/bridge-protocol.md` says what two bridges
//! say to each other. Everything that is hard is here and the same for every network:
//!
//! | file | for |
//! | --- | --- |
//! | `url` | the ends, as one writes them |
//! | `frame` | what goes over the wire |
//! | `link` | one connection |
//! | `adapter` | where connections come from: TCP, UNIX sockets |
//! | `feed`, `intake` | the ring that is read, the ring that is written to |
//! | `send`, `receive` | the drivers of both directions |
//! | `around`, `clock`, `poller` | what both drivers have in common |
//! | `report`, `figures`, `gauges` | what it tells: changes of state, and figures |
//! | `subscriber`, `roster` | one who is served; their names, in the ring's file |
//! | `plain` | peers that are no bridges |
//!
//! # Invariants
//! 1. The ring's head moves only to where every subscriber has confirmed, and never back.
//! 2. The receiving end is the authority on where to go on: what it says at the beginning of each
//!    connection is what its ring holds.
//! 3. A record is confirmed after it is committed.
//! 4. Every wait has a bound. Silence ends a connection, and takes nothing from anybody.
//!
//! # After a crash
//! Of the sending end: the head is where it was confirmed, the rest is sent again from where the
//! receiving end says. Of the receiving end: the records that its ring holds, and how far they
//! reach, were committed by one store, so it says exactly where to go on. Of both: the same.

pub(crate) mod adapter;
mod around;
mod clock;
mod error;
mod feed;
mod figures;
pub mod frame;
mod gauges;
mod intake;
mod link;
mod plain;
mod poller;
mod receive;
mod report;
mod roster;
mod send;
mod subscriber;
mod url;

pub use adapter::Mode;
pub use error::{BridgeError, LinkError};
pub use figures::{Figures, LatencyFigures, NotReady, SubscriberFigures};
pub use gauges::Gauges;
pub use report::{Event, Summary};
pub use url::{Address, End, EndError, Framing, RingEnd, Slow, SocketEnd};

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::segment::{AttachError, AttachOptions, inspect};
use crate::{Kind, Location, mpmc, spsc};
use adapter::Port;
use around::Around;
use intake::Writing;

/// How a bridge goes about it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A peer that is silent for so long is gone; told to the peer, so that it says something.
    pub silence: Duration,
    /// How long one attempt to connect may take.
    pub dial_patience: Duration,
    /// The wait after a first failure to connect; it doubles with each further one.
    pub backoff_first: Duration,
    /// The longest such wait.
    pub backoff_longest: Duration,
    /// How long a bridge that is to stop waits for confirmations.
    pub drain_timeout: Duration,
    /// Most records that are sent and not confirmed, to one subscriber.
    pub window_records: u64,
    /// Most bytes of them, but always one record.
    pub window_bytes: u64,
    /// Most bytes of one frame, but always one record.
    pub batch_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(10),
            dial_patience: Duration::from_secs(2),
            backoff_first: Duration::from_millis(20),
            backoff_longest: Duration::from_secs(3),
            drain_timeout: Duration::from_secs(10),
            window_records: 1 << 18,
            window_bytes: 8 << 20,
            batch_bytes: 256 << 10,
        }
    }
}

/// A bridge whose ring is attached.
#[derive(Debug)]
pub struct Bridge {
    ring: Ring,
    socket: SocketEnd,
    settings: Settings,
    gauges: Arc<Gauges>,
}

#[derive(Debug)]
enum Ring {
    FromBytes(spsc::Consumer),
    FromSlots(mpmc::Consumer),
    Into(Box<Writing>, RingEnd),
}

impl Bridge {
    /// Attaches to the ring of a bridge. The network is not touched before [`run`](Self::run).
    ///
    /// # Errors
    /// See [`BridgeError`]: two ends that make no bridge, or a ring that cannot be attached to.
    ///
    /// # Safety
    /// As for the rings' `attach`: every process that can write to the ring's file uses it through
    /// this library, and stores only to spans that it has claimed.
    pub unsafe fn attach(
        source: End,
        destination: End,
        settings: Settings,
        options: &AttachOptions,
    ) -> Result<Self, BridgeError> {
        match (source, destination) {
            (End::Ring(ring), End::Socket(socket)) => {
                socket.check_sending()?;
                // SAFETY: the caller's contract is the same.
                let ring = unsafe { attach_source(&ring, &socket, options) }?;
                Ok(Self {
                    ring,
                    socket,
                    settings,
                    gauges: Arc::new(Gauges::new(true)),
                })
            }
            (End::Socket(socket), End::Ring(ring)) => {
                socket.check_receiving()?;
                // SAFETY: the caller's contract is the same.
                let ring = unsafe { attach_destination(ring, options) }?;
                Ok(Self {
                    ring,
                    socket,
                    settings,
                    gauges: Arc::new(Gauges::new(false)),
                })
            }
            (End::Ring(_), End::Ring(_)) => Err(BridgeError::Ends(
                "two rings of one machine need no bridge: let the consumer of the first commit \
                 into the second",
            )),
            (End::Socket(_), End::Socket(_)) => {
                Err(BridgeError::Ends("one end of a bridge must be a ring"))
            }
        }
    }

    /// The figures of this bridge, which its driver keeps up to date as long as it
    /// [runs](Self::run).
    pub fn gauges(&self) -> Arc<Gauges> {
        Arc::clone(&self.gauges)
    }

    /// What may be relied upon, whoever is killed: a sentence for people.
    pub fn guarantee(&self) -> &'static str {
        match (&self.ring, self.socket.framing) {
            (Ring::Into(..), Framing::Annulus) => {
                "each record once and in order, whoever is killed, if the source is an SPSC ring; \
                 from an MPMC ring at least once: what was not confirmed when the sending bridge \
                 died comes again"
            }
            (Ring::FromBytes(_), Framing::Annulus) => match self.socket.slow {
                Some(Slow::Disconnect | Slow::Drop) => {
                    "each record once and in order into each destination ring, whoever is killed, \
                     but for counted gaps where a subscriber is too slow"
                }
                _ => {
                    "each record once and in order into each destination ring, whoever is killed; \
                     a record is released when every subscriber has committed it"
                }
            },
            (Ring::FromSlots(_), Framing::Annulus) => {
                "each record at least once, in the order in which this bridge claims them; what \
                 was not confirmed when this bridge dies is sent again"
            }
            (Ring::Into(..), _) => {
                "what a plain sender sends is committed once, but for what was under way when the \
                 connection or this bridge ended: the sender is told nothing, and cannot know \
                 where to go on"
            }
            (_, _) => {
                "none: a plain receiver confirms nothing, and a record is released when the kernel \
                 has taken all of it; one may be lost on its way from there when the connection \
                 ends, and sent twice when this bridge is killed"
            }
        }
    }

    /// Moves records until `stop` becomes readable, the stream ends, or nothing helps any more.
    /// What happens meanwhile is told to `report`.
    ///
    /// # Errors
    /// See [`BridgeError`]. A peer that is not there, hangs up or is silent is none: it is called,
    /// or waited for, again and again.
    pub fn run(
        self,
        stop: BorrowedFd<'_>,
        report: &mut dyn FnMut(&Event<'_>),
    ) -> Result<Summary, BridgeError> {
        let Self {
            ring,
            socket,
            settings,
            gauges,
        } = self;
        let plain = socket.framing != Framing::Annulus;
        let port: Box<dyn Port> = match &socket.address {
            Address::Tcp { host, port } => {
                // A bridge says that it is there; of others only the kernel can ask.
                let asks = plain.then_some(settings.silence);
                Box::new(adapter::tcp::TcpPort::new((host, *port), socket.mode, asks))
            }
            Address::Unix { path } => Box::new(adapter::unix::UnixPort::new(path, socket.mode)),
        };
        let around = Around::new(port, (&socket, &settings), &gauges, stop, report);
        match ring {
            Ring::FromBytes(consumer) if plain => plain::send(feed::Bytes::new(consumer), around),
            Ring::FromBytes(consumer) => send::run(feed::Bytes::new(consumer), around),
            Ring::FromSlots(consumer) if plain => plain::send(feed::Slots::new(&consumer), around),
            Ring::FromSlots(consumer) => send::run(feed::Slots::new(&consumer), around),
            Ring::Into(writing, _) if plain => {
                plain::receive(intake::Intake::new(*writing), around)
            }
            Ring::Into(writing, end) => {
                let accept = end.accept_other_source == Some(true);
                receive::run(intake::Intake::new(*writing), accept, around)
            }
        }
    }
}

/// # Safety
/// As for [`Bridge::attach`].
unsafe fn attach_source(
    end: &RingEnd,
    socket: &SocketEnd,
    options: &AttachOptions,
) -> Result<Ring, BridgeError> {
    let asks = end.accept_other_source.map(|_| "accept-other-source");
    if let Some(key) = asks.or(end.reopen.map(|_| "reopen")) {
        let why = "it is for a ring that is written to";
        return Err(BridgeError::Option { key, why });
    }
    match kind(end)? {
        Kind::SpscBytes => {
            // SAFETY: the caller's contract is the same.
            let consumer = unsafe { spsc::Consumer::attach_with(&end.path, options) }?;
            Ok(Ring::FromBytes(consumer))
        }
        Kind::MpmcSlots => {
            if !matches!(socket.slow, None | Some(Slow::Block)) {
                return Err(BridgeError::Option {
                    key: "slow",
                    why: "of an MPMC ring there is only slow=block",
                });
            }
            // SAFETY: the caller's contract is the same.
            let consumer = unsafe { mpmc::Consumer::attach_with(&end.path, options) }?;
            Ok(Ring::FromSlots(consumer))
        }
    }
}

/// # Safety
/// As for [`Bridge::attach`].
unsafe fn attach_destination(end: RingEnd, options: &AttachOptions) -> Result<Ring, BridgeError> {
    // Left closed it refuses records; but perhaps none is to come, and the sender is still to be
    // told that its end has been heard.
    let reopens = end.reopen == Some(true);
    let writing = match kind(&end)? {
        Kind::SpscBytes => {
            // SAFETY: the caller's contract is the same.
            let mut producer = unsafe { spsc::Producer::attach_with(&end.path, options) }?;
            if reopens {
                producer.reopen();
            }
            Writing::Bytes(producer)
        }
        Kind::MpmcSlots => {
            // SAFETY: the caller's contract is the same.
            let producer = unsafe { mpmc::Producer::attach_with(&end.path, options) }?;
            if !producer.begin_copying() {
                return Err(BridgeError::Ends(
                    "another bridge writes to the destination, and an MPMC ring remembers for one \
                     of them how far it has come",
                ));
            }
            if reopens {
                producer.reopen();
            }
            Writing::Slots(producer)
        }
    };
    Ok(Ring::Into(Box::new(writing), end))
}

fn kind(end: &RingEnd) -> Result<Kind, BridgeError> {
    let ring = inspect(&Location::from(&end.path)).map_err(|error| match error {
        crate::segment::InspectError::Open(error) => AttachError::Open(error),
        // Attaching will find the same.
        _ => AttachError::Replaced,
    })?;
    Ok(ring.kind)
}
