//! What every driver has besides its ring, whichever way records go: how it turns, where its peers
//! come from, and when it is to stop.
//!
//! # Invariants
//! 1. A turn ends: it waits no longer than until something is due, and answers so many callers.
//! 2. What would end a wait at once is not waited for: a wish to stop that is known, callers who
//!    are not answered.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::Settings;
use super::adapter::{Connected, Port};
use super::clock::{Backoff, now};
use super::error::{BridgeError, LinkError};
use super::gauges::Gauges;
use super::poller::{For, Poller};
use super::report::{Event, Summary};
use super::secret::Secret;
use super::url::SocketEnd;

/// Longest wait: whether the ring still has a name is looked at as often.
const BOUND: Duration = Duration::from_millis(250);
/// How long a place to listen at may still be another's, who is dying.
const BIND_PATIENCE: Duration = Duration::from_secs(5);
const BIND_NAP: Duration = Duration::from_millis(20);
/// Most callers that are answered in one turn.
const CALLERS: u32 = 16;
/// Callers wait for so long when one could not be answered, most likely because no descriptor is
/// left: others may give some back.
const DEAF: Duration = Duration::from_millis(100);
/// Most users of whom it is told that they were refused.
const FORBIDDEN: usize = 256;

/// What turns: a ring at one side, peers at the other.
pub(super) trait Driver {
    /// Waits for no longer than `timeout`, and does what there is to do. Whether anything moved.
    fn turn(&mut self, timeout: Duration) -> Result<bool, BridgeError>;

    /// Whether that was the last turn.
    fn is_done(&mut self) -> Result<Option<Summary>, BridgeError>;

    /// From here on the ring tells of what changes. Fails if it is not there any more.
    fn arm(&mut self) -> Result<(), BridgeError>;

    /// How long nothing is to be done but what a descriptor tells of.
    fn until_next(&self) -> Duration;
}

/// What was done since something moved last.
enum Rest {
    None,
    Yielded,
    Armed,
}

/// Turns until it is done.
pub(super) fn drive(mut driver: impl Driver) -> Result<Summary, BridgeError> {
    let (mut timeout, mut rest) = (Duration::ZERO, Rest::None);
    loop {
        // Ends by the end of the stream, or by a stop and its deadline.
        let moved = driver.turn(timeout)?;
        if let Some(summary) = driver.is_done()? {
            return Ok(summary);
        }
        (timeout, rest) = match rest {
            _ if moved => (Duration::ZERO, Rest::None),
            Rest::None => {
                // To arm costs ten times as much, and whoever is to go on may need this processor.
                std::thread::yield_now();
                (Duration::ZERO, Rest::Yielded)
            }
            Rest::Yielded => {
                // Looked at once more behind this, before anybody sleeps.
                driver.arm()?;
                (Duration::ZERO, Rest::Armed)
            }
            Rest::Armed => (driver.until_next(), Rest::None),
        };
    }
}

/// How long nothing of that is due.
pub(super) fn until(dues: impl Iterator<Item = Instant>) -> Duration {
    let due = dues.min();
    due.map_or(BOUND, |due| due.saturating_duration_since(now()).min(BOUND))
}

/// What was told of the calls since somebody answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    Connecting,
    Unreachable,
}

/// Everything that a driver has besides its ring.
pub(crate) struct Around<'b> {
    port: Box<dyn Port>,
    pub(super) socket: &'b SocketEnd,
    pub(super) settings: &'b Settings,
    /// What is to be proved, if anything is.
    pub(super) secret: Option<Secret>,
    pub(super) gauges: &'b Gauges,
    pub(super) report: &'b mut dyn FnMut(&Event<'_>),
    stop: BorrowedFd<'b>,
    /// Until when it may go on, once it is to stop.
    pub(super) ending: Option<Instant>,
    /// When to call.
    pub(super) backoff: Backoff,
    told: Told,
    /// Callers that may still be answered in this turn.
    callers: u32,
    /// Until when nobody is answered.
    deaf: Option<Instant>,
    /// Users who were refused, and of whom that was told.
    forbidden: Vec<u32>,
}

/// What a driver waits for besides its ring and its peers, as places in a poller.
pub(super) struct Watched {
    stop: Option<usize>,
    callers: Option<usize>,
}

impl<'b> Around<'b> {
    pub(super) fn new(
        port: Box<dyn Port>,
        (socket, settings): (&'b SocketEnd, &'b Settings),
        gauges: &'b Gauges,
        stop: BorrowedFd<'b>,
        report: &'b mut dyn FnMut(&Event<'_>),
    ) -> Self {
        Self {
            port,
            socket,
            settings,
            secret: None,
            gauges,
            report,
            stop,
            ending: None,
            backoff: Backoff::new(settings.backoff_first, settings.backoff_longest),
            told: Told::Nothing,
            callers: 0,
            deaf: None,
            forbidden: Vec::new(),
        }
    }

    /// Whoever comes has to prove this, if it is something.
    pub(super) fn knows(self, secret: Option<Secret>) -> Self {
        Self { secret, ..self }
    }

    /// Adds what is always waited for; callers only if one would be answered.
    pub(super) fn watch<'fd>(&'fd self, poller: &mut Poller<'fd>, answers: bool) -> Watched {
        let is_new = self.ending.is_none();
        let listener = self.port.descriptor();
        let listener = listener.filter(|_| answers && self.deaf.is_none());
        Watched {
            stop: is_new.then(|| poller.add(self.stop, For::Reading)),
            callers: listener.map(|listener| poller.add(listener, For::Reading)),
        }
    }

    /// Takes in what the wait has found. Whether it is to stop from now on.
    pub(super) fn woke(&mut self, watched: &Watched, ready: &[bool], now: Instant) -> bool {
        let is_ready = |place: Option<usize>| place.is_some_and(|place| ready[place]);
        self.callers = if is_ready(watched.callers) {
            CALLERS
        } else {
            0
        };
        self.deaf = self.deaf.filter(|until| *until > now);
        let stops = is_ready(watched.stop);
        if stops {
            self.ending = Some(now + self.settings.drain_timeout);
        }
        stops
    }

    /// How long nothing is due, of this or of `dues`. `calls` if there is somebody to call.
    pub(super) fn until_next(&self, calls: bool, dues: impl Iterator<Item = Instant>) -> Duration {
        let call = (calls && self.dials()).then(|| self.backoff.due());
        until(dues.chain(self.ending).chain(self.deaf).chain(call))
    }

    /// Whether this end calls; else it is called.
    pub(super) fn dials(&self) -> bool {
        self.port.dials()
    }

    /// Who has called and may, or who answers a call that is due.
    pub(super) fn connected(&mut self, now: Instant) -> Option<Connected> {
        if !self.dials() {
            return self.accept();
        }
        if now < self.backoff.due() {
            return None;
        }
        let connected = self.dial();
        if connected.is_none() {
            self.backoff.failed(super::clock::now());
        }
        connected
    }

    /// Calls once. That, and that nobody answers, is told once until somebody does.
    fn dial(&mut self) -> Option<Connected> {
        if self.told == Told::Nothing {
            self.told = Told::Connecting;
            let at = &self.port.at();
            (self.report)(&Event::Connecting { at });
        }
        match self.port.dial(self.settings.dial_patience) {
            Ok(connected) => {
                let admitted = self.admitted(connected);
                if admitted.is_some() {
                    self.told = Told::Nothing;
                }
                admitted
            }
            Err(why) => {
                if core::mem::replace(&mut self.told, Told::Unreachable) != Told::Unreachable {
                    let (at, why) = (&self.port.at(), &why);
                    (self.report)(&Event::Unreachable { at, why });
                }
                None
            }
        }
    }

    fn accept(&mut self) -> Option<Connected> {
        while self.callers > 0 {
            self.callers -= 1;
            match self.port.accept() {
                Ok(Some(connected)) => {
                    if let Some(connected) = self.admitted(connected) {
                        return Some(connected);
                    }
                }
                Ok(None) => self.callers = 0,
                Err(_) => (self.callers, self.deaf) = (0, Some(now() + DEAF)),
            }
        }
        None
    }

    /// Hangs up on who may not be there, before a byte is read: whoever can open a UNIX
    /// socket's file need not be meant. Each user is told of once: he may come back at will.
    fn admitted(&mut self, connected: Connected) -> Option<Connected> {
        let allowed = &self.socket.allow_uid;
        let stranger = connected.uid.filter(|uid| !allowed.contains(uid));
        let Some(uid) = stranger.filter(|_| !allowed.is_empty()) else {
            return Some(connected);
        };
        self.gauges.forbidden.add(1);
        if self.forbidden.len() < FORBIDDEN && !self.forbidden.contains(&uid) {
            self.forbidden.push(uid);
            let (peer, name) = (&*connected.peer, "");
            let why = &LinkError::Forbidden { uid };
            (self.report)(&Event::Disconnected { peer, name, why });
        }
        None
    }

    /// Begins to listen, if this end is called.
    pub(super) fn listen(&mut self) -> Result<(), BridgeError> {
        if self.dials() {
            return Ok(());
        }
        let deadline = now() + BIND_PATIENCE;
        while let Err(source) = self.port.listen() {
            if source.kind() != std::io::ErrorKind::AddrInUse || now() > deadline {
                let at = self.port.at();
                return Err(BridgeError::Listen { at, source });
            }
            std::thread::sleep(BIND_NAP);
        }
        let at = self.port.at();
        (self.report)(&Event::Listening { at: &at });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
