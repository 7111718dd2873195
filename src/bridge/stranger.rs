//! Those who are connected and have not said who they are.
//!
//! Nobody is served for being there: a place is for whom its handshake, its first words and its
//! proof, if one is asked for, have made known. Until then it is a stranger, beside others, and
//! keeps nobody out. Both drivers are their host; each says what it has to hear.
//!
//! # Invariants
//! 1. All of an introduction has one deadline: what a stranger says does not make it younger.
//! 2. There are so many at most: another one makes the oldest go.
//! 3. A stranger's frame is no longer than one without records.

use std::mem;
use std::time::Instant;

use super::around::Around;
use super::clock::now;
use super::error::{BridgeError, Fault, LinkError};
use super::frame::{CONTROL_LIMIT, Code, Frame};
use super::link::Link;
use super::poller::Poller;
use super::report::Event;

/// Most strangers.
const STRANGERS: usize = 64;

/// One of them.
struct Stranger<S> {
    link: Link,
    /// When it called, or was called.
    since: Instant,
    stage: S,
    /// It may have said something.
    is_ready: bool,
}

/// All of them, the oldest first: of two with one name the newer one stays.
pub(super) struct Strangers<S>(Vec<Stranger<S>>);

/// What has become of a stranger.
pub(super) enum Met<K> {
    /// There is more to be said.
    Stays,
    /// It is known, and is to be served or told why not.
    Known(K),
    /// It was told all there is to tell.
    Leaves,
}

impl<S> Default for Strangers<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S> Strangers<S> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds them to what is waited for. Returns their places.
    pub(super) fn watch<'fd>(&'fd self, poller: &mut Poller<'fd>) -> Vec<usize> {
        let all = self.0.iter();
        all.map(|one| poller.add_link(&one.link)).collect()
    }

    /// Takes in what the wait has found.
    pub(super) fn woke(&mut self, places: &[usize], ready: &[bool]) {
        for (one, place) in self.0.iter_mut().zip(places) {
            one.is_ready |= ready[*place];
        }
    }
}

/// A driver, to whom strangers come.
pub(super) trait Host<'b> {
    /// How far one has come.
    type Stage: Default;
    /// What is known of one in the end.
    type Known;

    fn around(&mut self) -> &mut Around<'b>;

    fn strangers(&mut self) -> &mut Strangers<Self::Stage>;

    /// Whether nobody is there, and nobody has begun to be.
    fn is_alone(&self) -> bool;

    /// Hears what a stranger has said, and answers.
    fn meet(&mut self, link: &mut Link, stage: &mut Self::Stage)
    -> Result<Met<Self::Known>, Fault>;

    /// Begins to serve one that is known, or tells it why not.
    fn admit(&mut self, link: Link, known: Self::Known, now: Instant) -> Result<(), BridgeError>;

    /// Calls, or answers those who have called. Returns whether anybody is new.
    fn connect(&mut self, now: Instant) -> bool {
        let calls = self.around().dials();
        if calls && !self.is_alone() {
            return false;
        }
        let mut any = false;
        while let Some(connected) = self.around().connected(now) {
            any = true;
            if self.strangers().0.len() == STRANGERS {
                let oldest = self.strangers().0.remove(0);
                self.dismiss(oldest.link, &LinkError::Crowded);
            }
            self.strangers().0.push(Stranger {
                link: Link::new(connected, CONTROL_LIMIT, now),
                since: now,
                stage: Self::Stage::default(),
                is_ready: true,
            });
            if calls {
                break;
            }
        }
        any
    }

    /// Hears all of them. Returns whether anything moved.
    fn hear_strangers(&mut self, now: Instant) -> Result<bool, BridgeError> {
        let patience = self.around().settings.silence;
        let mut moved = false;
        for mut one in mem::take(&mut self.strangers().0) {
            let met = hear(self, &mut one, now);
            moved |= !matches!(met, Ok(Met::Stays));
            match met {
                Ok(Met::Stays) if now.saturating_duration_since(one.since) < patience => {
                    self.strangers().0.push(one);
                }
                Ok(Met::Stays) => self.dismiss(one.link, &LinkError::Unintroduced(patience)),
                Ok(Met::Known(known)) => self.admit(one.link, known, now)?,
                Ok(Met::Leaves) => {}
                Err(Fault::Link(why)) => self.dismiss(one.link, &why),
                Err(Fault::Bridge(error)) => return Err(error),
            }
        }
        Ok(moved)
    }

    /// Hangs up on one of whom no name is known.
    fn dismiss(&mut self, mut link: Link, why: &LinkError) {
        let said = match why {
            LinkError::Nonsense(text) => Some((Code::Protocol, text)),
            LinkError::Unproved(text) => Some((Code::Secret, text)),
            _ => None,
        };
        if let Some((code, text)) = said {
            link.part(&Frame::Refusal { code, text });
        }
        let (peer, name) = (link.peer(), "");
        (self.around().report)(&Event::Disconnected { peer, name, why });
        self.around().backoff.failed(now());
    }
}

fn hear<'b, H: Host<'b> + ?Sized>(
    host: &mut H,
    one: &mut Stranger<H::Stage>,
    now: Instant,
) -> Result<Met<H::Known>, Fault> {
    if mem::take(&mut one.is_ready) || one.link.is_over() {
        one.link.read(now)?;
    } else if !one.link.has_more() {
        return Ok(Met::Stays);
    }
    let met = host.meet(&mut one.link, &mut one.stage)?;
    one.link.write(&[], now)?;
    Ok(met)
}
