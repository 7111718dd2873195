//! What a driver has besides its ring, whichever way records go.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::Settings;
use super::adapter::{Connected, Port};
use super::clock::now;
use super::error::{BridgeError, LinkError};
use super::gauges::Gauges;
use super::report::Event;
use super::url::SocketEnd;

/// How long a place to listen at may still be another's, who is dying.
const BIND_PATIENCE: Duration = Duration::from_secs(5);
/// Most users of whom it is told that they were refused.
const FORBIDDEN: usize = 256;
const BIND_NAP: Duration = Duration::from_millis(20);

/// What was told of the calls since somebody answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    #[default]
    Nothing,
    Connecting,
    Unreachable,
}

/// Everything that a driver has besides its ring.
pub(crate) struct Around<'b> {
    pub(super) port: Box<dyn Port>,
    pub(super) socket: &'b SocketEnd,
    pub(super) settings: &'b Settings,
    pub(super) gauges: &'b Gauges,
    pub(super) stop: BorrowedFd<'b>,
    /// Users who were refused, and of whom that was told.
    pub(super) forbidden: Vec<u32>,
    pub(super) report: &'b mut dyn FnMut(&Event<'_>),
}

impl Around<'_> {
    /// Calls once. That, and that nobody answers, is told once until somebody does.
    pub(super) fn dial(&mut self, told: &mut Told) -> Option<Connected> {
        if *told == Told::Nothing {
            *told = Told::Connecting;
            let at = &self.port.at();
            (self.report)(&Event::Connecting { at });
        }
        match self.port.dial(self.settings.dial_patience) {
            Ok(connected) => self.admitted(connected).inspect(|_| *told = Told::Nothing),
            Err(why) => {
                if core::mem::replace(told, Told::Unreachable) != Told::Unreachable {
                    let (at, why) = (&self.port.at(), &why);
                    (self.report)(&Event::Unreachable { at, why });
                }
                None
            }
        }
    }

    /// Whoever has called, and may.
    pub(super) fn accept(&mut self) -> Option<Connected> {
        // Ends with those who wait. An error is most likely that no descriptor is left: others may
        // give some back.
        while let Ok(Some(connected)) = self.port.accept() {
            if let Some(connected) = self.admitted(connected) {
                return Some(connected);
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
        if self.port.dials() {
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
