//! Bridges: a ring's records to another machine, and into a ring there.
//!
//! A bridge has two ends, of which one is a ring; `docs/bridge-protocol.md` says what two bridges
//! say to each other. Everything that is hard is here and the same for every network:
//!
//! | file | for |
//! | --- | --- |
//! | `url` | the ends, as one writes them |
//! | `attach` | which ends make a bridge, and its ring |
//! | `frame` | what goes over the wire |
//! | `link` | one connection |
//! | `adapter` | where connections come from: TCP, UNIX sockets; a broker that speaks AMQP |
//! | `feed`, `intake` | the ring that is read, the ring that is written to |
//! | `send`, `receive` | the drivers of both directions |
//! | `secret` | what both ends know and prove, if they are told to |
//! | `stranger` | who is connected and has not said who it is, at either driver |
//! | `around`, `clock`, `poller` | what both drivers have in common |
//! | `report`, `figures`, `gauges` | what it tells: changes of state, and figures |
//! | `subscriber`, `roster` | one who is served; their names, in the ring's file |
//! | `plain` | peers that are no bridges |
//! | `broker` | brokers, which take single messages: the drivers of both directions |
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
mod attach;
#[cfg(feature = "bridge-amqp")]
mod broker;
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
mod secret;
mod send;
mod stranger;
mod subscriber;
mod url;

pub use adapter::Mode;
pub use error::{BridgeError, LinkError};
pub use figures::{Figures, LatencyFigures, NotReady, SubscriberFigures};
pub use gauges::Gauges;
pub use report::{Event, Summary};
pub use url::{
    Address, AmqpEnd, Credentials, End, EndError, ExchangeType, Framing, Password, RingEnd, Slow,
    SocketEnd,
};

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::segment::AttachOptions;
use crate::{mpmc, spsc};
use adapter::Port;
use around::Around;
use attach::Ends;
use intake::Writing;
use secret::Secret;

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

impl Settings {
    /// How long a peer that has lost its connection may need to come back: it waits between two
    /// attempts, and one of them takes its time.
    fn absence(&self) -> Duration {
        self.backoff_longest.saturating_add(self.dial_patience)
    }
}

/// A bridge whose ring is attached.
#[derive(Debug)]
pub struct Bridge {
    ring: Ring,
    far: Far,
    /// Goes on behind another ring's records.
    accept: bool,
    settings: Settings,
    gauges: Arc<Gauges>,
}

/// The end that is no ring.
#[derive(Debug)]
enum Far {
    /// With what both ends know, if they prove it.
    Socket(SocketEnd, Box<dyn Port>, Option<Secret>),
    #[cfg(feature = "bridge-amqp")]
    Amqp(adapter::amqp::Amqp),
}

#[derive(Debug)]
enum Ring {
    FromBytes(spsc::Consumer),
    FromSlots(mpmc::Consumer),
    Into(Box<Writing>),
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
        let ends = Ends::new(source, destination)?;
        // Before the ring is touched: its credentials may be none.
        let far = Far::new(ends.far.clone(), &settings)?;
        let gauges = Arc::new(Gauges::new(ends.sends));
        let ring = if ends.sends {
            // SAFETY: the caller's contract is the same.
            unsafe { attach::source(&ends, options) }
        } else {
            // SAFETY: the caller's contract is the same.
            unsafe { attach::destination(&ends, options) }
        }?;
        let accept = ends.ring.accept_other_source == Some(true);
        Ok(Self {
            ring,
            far,
            accept,
            settings,
            gauges,
        })
    }

    /// Whether two ends make a bridge, as far as can be told without attaching. Of a ring that is
    /// not there yet nothing is known, so an option that its kind does not have passes.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub fn check(source: &End, destination: &End) -> Result<(), BridgeError> {
        let ends = Ends::new(source.clone(), destination.clone())?;
        match ends.inspect() {
            Ok(seen) if ends.sends => ends.check_source(&seen),
            _ => Ok(()),
        }
    }

    /// The figures of this bridge, which its driver keeps up to date as long as it
    /// [runs](Self::run).
    pub fn gauges(&self) -> Arc<Gauges> {
        Arc::clone(&self.gauges)
    }

    /// What may be relied upon, whoever is killed: a sentence for people.
    pub fn guarantee(&self) -> &'static str {
        let socket = match &self.far {
            Far::Socket(socket, _, _) => socket,
            #[cfg(feature = "bridge-amqp")]
            Far::Amqp(_) => return adapter::amqp::guarantee(&self.ring),
        };
        match (&self.ring, socket.framing) {
            (Ring::Into(_), Framing::Annulus) => {
                "each record once and in order, whoever is killed, if the source is an SPSC ring, \
                 but for counted gaps if the sender's policy is slow=drop or slow=disconnect; from \
                 an MPMC ring at least once: what was not confirmed when the sending bridge died \
                 comes again"
            }
            (Ring::FromBytes(_), Framing::Annulus) => match socket.slow {
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
            (Ring::Into(_), _) => {
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
            far,
            accept,
            settings,
            gauges,
        } = self;
        let (socket, port, secret) = match far {
            Far::Socket(socket, port, secret) => (socket, port, secret),
            #[cfg(feature = "bridge-amqp")]
            Far::Amqp(broker) => {
                let ahead = broker.ahead();
                let course =
                    broker::Course::new(Box::new(broker), &settings, &gauges, stop, report);
                return match ring {
                    Ring::FromBytes(consumer) => {
                        broker::publish::run(feed::Bytes::new(consumer), course)
                    }
                    Ring::FromSlots(consumer) => {
                        broker::publish::run(feed::Slots::new(&consumer), course)
                    }
                    Ring::Into(writing) => {
                        broker::consume::run(intake::Intake::new(*writing), ahead, course)
                    }
                };
            }
        };
        let plain = socket.framing != Framing::Annulus;
        let around = Around::new(port, (&socket, &settings), &gauges, stop, report).knows(secret);
        match ring {
            Ring::FromBytes(consumer) if plain => plain::send(feed::Bytes::new(consumer), around),
            Ring::FromBytes(consumer) => send::run(feed::Bytes::new(consumer), around),
            Ring::FromSlots(consumer) if plain => plain::send(feed::Slots::new(&consumer), around),
            Ring::FromSlots(consumer) => send::run(feed::Slots::new(&consumer), around),
            Ring::Into(writing) if plain => plain::receive(intake::Intake::new(*writing), around),
            Ring::Into(writing) => receive::run(intake::Intake::new(*writing), accept, around),
        }
    }
}

impl Far {
    fn new(end: End, settings: &Settings) -> Result<Self, BridgeError> {
        match end {
            End::Socket(socket) => {
                let port = adapter::port(&socket, settings)?;
                let secret = socket.secret.as_deref().map(Secret::read).transpose()?;
                Ok(Self::Socket(socket, port, secret))
            }
            #[cfg(feature = "bridge-amqp")]
            End::Amqp(end) => Ok(Self::Amqp(adapter::amqp::Amqp::new(*end, settings)?)),
            _ => Err(BridgeError::Ends(
                "this was built without AMQP: build it with the feature `bridge-amqp`",
            )),
        }
    }
}
