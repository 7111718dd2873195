//! Which ends make a bridge, and the ring of it.

use super::Ring;
use super::error::BridgeError;
use super::intake::Writing;
use super::url::{End, RingEnd, Slow};
use crate::segment::{AttachError, AttachOptions, InspectError, Snapshot, inspect};
use crate::{Kind, Location, Redelivery, mpmc, spsc};

/// The two ends of a bridge, with options that mean something where they stand.
pub(super) struct Ends {
    pub(super) ring: RingEnd,
    /// The one that is no ring.
    pub(super) far: End,
    /// The ring is the source.
    pub(super) sends: bool,
}

impl Ends {
    pub(super) fn new(source: End, destination: End) -> Result<Self, BridgeError> {
        let (ring, far, sends) = match (source, destination) {
            (End::Ring(_), End::Ring(_)) => {
                return Err(BridgeError::Ends(
                    "two rings of one machine need no bridge: let the consumer of the first \
                     commit into the second",
                ));
            }
            (End::Ring(ring), far) => (ring, far, true),
            (far, End::Ring(ring)) => (ring, far, false),
            _ => return Err(BridgeError::Ends("one end of a bridge must be a ring")),
        };
        match &far {
            End::Socket(socket) if sends => socket.check_sending()?,
            End::Socket(socket) => socket.check_receiving()?,
            End::Amqp(end) if sends => end.check_sending()?,
            End::Amqp(end) => end.check_receiving()?,
            End::Ring(_) => {}
        }
        let asks = ring.accept_other_source.map(|_| "accept-other-source");
        if sends && let Some(key) = asks.or(ring.reopen.map(|_| "reopen")) {
            let why = "it is for a ring that is written to";
            return Err(BridgeError::Option { key, why });
        }
        if let (Some(key), End::Amqp(_)) = (asks, &far) {
            let why = "messages of any ring, and of none, pass";
            return Err(BridgeError::Option { key, why });
        }
        Ok(Self { ring, far, sends })
    }

    /// What the ring is like.
    pub(super) fn inspect(&self) -> Result<Snapshot, BridgeError> {
        let seen = inspect(&Location::from(&self.ring.path));
        seen.map_err(|error| match error {
            InspectError::Open(error) => AttachError::Open(error).into(),
            // Attaching will find the same.
            _ => AttachError::Replaced.into(),
        })
    }

    /// Refuses what cannot be had of that ring.
    pub(super) fn check_source(&self, seen: &Snapshot) -> Result<(), BridgeError> {
        if seen.kind == Kind::SpscBytes {
            return self.check_lag(seen.capacity);
        }
        if let End::Socket(socket) = &self.far {
            if !matches!(socket.slow, None | Some(Slow::Block)) {
                let (key, why) = ("slow", "of an MPMC ring there is only slow=block");
                return Err(BridgeError::Option { key, why });
            }
            if !socket.forget.is_empty() {
                let (key, why) = ("forget", "an MPMC ring remembers nobody");
                return Err(BridgeError::Option { key, why });
            }
        }
        if seen.redelivery != Redelivery::Unlimited {
            return Err(BridgeError::Ends(
                "the source drops records after some deliveries (`redelivery`): each end of a \
                 bridge that holds them counts as one, and loses them sooner or later; create it \
                 with `--redelivery unlimited`",
            ));
        }
        Ok(())
    }

    /// Refuses a lag that a byte ring need not reach before its producer waits. A record of `span`
    /// bytes may need as many again before the ring's end, so a ring is full for it with less than
    /// two spans free: a quarter serves records of up to an eighth.
    fn check_lag(&self, capacity: u64) -> Result<(), BridgeError> {
        let End::Socket(socket) = &self.far else {
            return Ok(());
        };
        if socket.lag_bytes.is_some_and(|lag| lag > capacity / 4 * 3) {
            let key = "lag";
            let why = "a ring may be full before it holds so much, so that nobody would ever be \
                       too slow; at most three quarters of its capacity";
            return Err(BridgeError::Option { key, why });
        }
        Ok(())
    }
}

/// # Safety
/// As for [`Bridge::attach`](super::Bridge::attach).
pub(super) unsafe fn source(ends: &Ends, options: &AttachOptions) -> Result<Ring, BridgeError> {
    let seen = ends.inspect()?;
    ends.check_source(&seen)?;
    let path = &ends.ring.path;
    match seen.kind {
        Kind::SpscBytes => {
            // SAFETY: the caller's contract is the same.
            let consumer = unsafe { spsc::Consumer::attach_with(path, options) }?;
            Ok(Ring::FromBytes(consumer))
        }
        Kind::MpmcSlots => {
            // SAFETY: the caller's contract is the same.
            let consumer = unsafe { mpmc::Consumer::attach_with(path, options) }?;
            Ok(Ring::FromSlots(consumer))
        }
    }
}

/// # Safety
/// As for [`Bridge::attach`](super::Bridge::attach).
pub(super) unsafe fn destination(
    ends: &Ends,
    options: &AttachOptions,
) -> Result<Ring, BridgeError> {
    let path = &ends.ring.path;
    // Left closed it refuses records; but perhaps none is to come, and the sender is still to be
    // told that its end has been heard.
    let reopens = ends.ring.reopen == Some(true);
    let writing = match ends.inspect()?.kind {
        Kind::SpscBytes => {
            // SAFETY: the caller's contract is the same.
            let mut producer = unsafe { spsc::Producer::attach_with(path, options) }?;
            if reopens {
                producer.reopen();
            }
            Writing::Bytes(producer)
        }
        Kind::MpmcSlots => {
            // SAFETY: the caller's contract is the same.
            let producer = unsafe { mpmc::Producer::attach_with(path, options) }?;
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
    Ok(Ring::Into(Box::new(writing)))
}
