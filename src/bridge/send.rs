//! The driver from a ring to its subscribers.
//!
//! One thread, one wait. It reads the ring ahead in lots, of which each subscriber is sent what it
//! has not confirmed, at its own pace, from where the records lie; the oldest lot goes back to the
//! producer when every subscriber has confirmed all of it. A lot is read when somebody is ready to
//! be sent it, so that it holds whatever is there by then: nothing waits to fill a batch.
//!
//! Here is the one wait, and what is released after it. `admission` decides about callers,
//! `serving` what each subscriber is sent next, `lag` who is too slow, `ending` when it is over,
//! `figures` what is told meanwhile.
//!
//! # Invariants
//! 1. Lots are released oldest first, each only when `floor` is beyond it.
//! 2. As long as fewer subscribers are known than are asked for, nothing is released.
//! 3. Bytes of a lot that are being written belong to a lot that is not released: a part is of
//!    records that its subscriber has not confirmed.

mod admission;
mod ending;
mod figures;
mod lag;
mod serving;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::around::{Around, Told};
use super::clock::{Backoff, now};
use super::error::{BridgeError, LinkError};
use super::feed::Feed;
use super::frame::{Code, Frame};
use super::link::Link;
use super::poller::{For, Poller};
use super::report::{Event, Summary};
use super::subscriber::Subscriber;

/// Callers that have not said who they are; more are not answered.
const STRANGERS: usize = 64;
/// Longest wait: whether the ring still has a name is looked at as often.
const BOUND: Duration = Duration::from_millis(250);

/// Records that were read together.
struct Numbered<L> {
    first: u64,
    count: u64,
    /// Bytes of all lots before it.
    before: u64,
    lot: L,
}

impl<L> Numbered<L> {
    fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// What the driver is about to end for.
struct Ending {
    /// Everything before it is to be confirmed.
    target: u64,
    deadline: Instant,
}

struct Sending<'b, F: Feed> {
    feed: F,
    around: Around<'b>,
    lots: VecDeque<Numbered<F::Lot>>,
    /// Number of the first record that is not released.
    released: u64,
    bytes_read: u64,
    /// How many subscribers are to have each record.
    required: usize,
    subscribers: Vec<Subscriber>,
    strangers: Vec<Link>,
    backoff: Backoff,
    told: Told,
    closed: bool,
    ending: Option<Ending>,
    /// Until when those who have not heard of the end of the stream are waited for.
    farewell: Option<Instant>,
    /// Somebody was ready for more than there was.
    hungry: bool,
    summary: Summary,
    first: u64,
    /// When the ring was last asked how much there is.
    looked: Option<Instant>,
}

/// Sends a ring's records until told to stop, or until it is closed and all is confirmed.
pub(super) fn run<F: Feed>(feed: F, around: Around<'_>) -> Result<Summary, BridgeError> {
    let released = feed.next();
    for name in &around.socket.forget {
        feed.forget(name);
    }
    let names = feed.names();
    let known = |name| Subscriber::new(name, released);
    let required = around.socket.subscribers.unwrap_or(1).max(1) as usize;
    let mut sending = Sending {
        backoff: Backoff::new(
            around.settings.backoff_first,
            around.settings.backoff_longest,
        ),
        feed,
        around,
        lots: VecDeque::new(),
        released,
        bytes_read: 0,
        required: required.max(names.len()),
        subscribers: names.into_iter().map(known).collect(),
        strangers: Vec::new(),
        told: Told::Nothing,
        closed: false,
        ending: None,
        farewell: None,
        hungry: true,
        summary: Summary::default(),
        first: released,
        looked: None,
    };
    sending.around.listen()?;
    sending.turn_until_done()
}

impl<F: Feed> Sending<'_, F> {
    fn turn_until_done(mut self) -> Result<Summary, BridgeError> {
        let mut timeout = Duration::ZERO;
        let mut armed = false;
        loop {
            // Ends by the end of the stream, or by a stop and its deadline.
            let moved = self.wait(timeout)?;
            let moved = moved | self.serve()?;
            self.release();
            self.tell_figures(!moved);
            if let Some(summary) = self.is_done()? {
                return Ok(summary);
            }
            if moved {
                (timeout, armed) = (Duration::ZERO, false);
            } else if armed {
                (timeout, armed) = (self.until_next(), false);
            } else {
                // Looked at once more behind this, before anybody sleeps.
                self.feed
                    .arm()
                    .map_err(BridgeError::system("watch the ring"))?;
                (timeout, armed) = (Duration::ZERO, true);
                self.feed.check()?;
            }
        }
    }

    /// Waits for any descriptor, then deals with the network. Returns whether anything moved.
    fn wait(&mut self, timeout: Duration) -> Result<bool, BridgeError> {
        let mut poller = Poller::default();
        // Seen once, it would end every later wait at once.
        let is_new = self.ending.is_none();
        let stop = is_new.then(|| poller.add(self.around.stop, For::Reading));
        if let Some(listener) = self.around.port.descriptor() {
            poller.add(listener, For::Reading);
        }
        if self.hungry {
            let ring = self.feed.descriptor();
            let ring = ring.map_err(BridgeError::system("watch the ring"))?;
            poller.add(ring, For::Reading);
        }
        let strangers = self.strangers.iter();
        let strangers: Vec<usize> = strangers
            .map(|link| poller.add(link.as_fd(), For::Reading))
            .collect();
        let sessions = self.subscribers.iter().map(|one| {
            let session = one.session.as_ref()?;
            let what = if session.link.has_more() {
                For::Writing
            } else {
                For::Reading
            };
            Some(poller.add(session.link.as_fd(), what))
        });
        let sessions: Vec<Option<usize>> = sessions.collect();
        let ready = poller.wait(timeout)?;

        let now = now();
        if stop.is_some_and(|stop| ready[stop]) {
            self.begin_to_end(now);
        }
        let mut moved = false;
        for (number, place) in sessions.into_iter().enumerate() {
            if place.is_some_and(|place| ready[place]) {
                moved |= self.hear(number, now);
            }
        }
        // The last ones first, so that those who leave do not move the others.
        for (number, place) in strangers.into_iter().enumerate().rev() {
            if ready[place] {
                moved |= self.hear_stranger(number, now)?;
            }
        }
        self.connect(now)?;
        self.mind_the_silent(now);
        Ok(moved)
    }

    /// Calls, or answers those who have called.
    fn connect(&mut self, now: Instant) -> Result<(), BridgeError> {
        let limit = super::frame::CONTROL_LIMIT;
        if self.around.port.dials() {
            let busy = !self.strangers.is_empty()
                || self.subscribers.iter().any(|one| one.session.is_some());
            if busy || now < self.backoff.due() {
                return Ok(());
            }
            match self.around.dial(&mut self.told) {
                Some(connected) => self.strangers.push(Link::new(connected, limit, now)),
                None => self.backoff.failed(now),
            }
            return Ok(());
        }
        while self.strangers.len() < STRANGERS {
            let Some(connected) = self.around.accept() else {
                break;
            };
            self.strangers.push(Link::new(connected, limit, now));
        }
        Ok(())
    }

    /// Hangs up where nothing is heard, and says something where nothing was said.
    fn mind_the_silent(&mut self, now: Instant) {
        let limit = self.around.settings.silence;
        self.strangers
            .retain(|link| link.silence(now, limit).is_none());
        for number in 0..self.subscribers.len() {
            let Some(session) = &mut self.subscribers[number].session else {
                continue;
            };
            if let Some(silence) = session.link.silence(now, limit) {
                self.hang_up(number, &LinkError::Silent(silence));
            } else if now.saturating_duration_since(session.link.said()) >= session.beat
                && !session.link.has_more()
            {
                session.link.say(&Frame::Heartbeat);
            }
        }
    }

    fn hear(&mut self, number: usize, now: Instant) -> bool {
        match self.subscribers[number].hear(now, self.around.gauges) {
            Ok(any) => any,
            Err(why) => {
                self.hang_up(number, &why);
                true
            }
        }
    }

    fn hang_up(&mut self, number: usize, why: &LinkError) {
        let one = &mut self.subscribers[number];
        let Some(mut session) = one.session.take() else {
            return;
        };
        one.progress = now();
        match why {
            LinkError::Nonsense(text) => session.link.part(&Frame::Refusal {
                code: Code::Protocol,
                text,
            }),
            LinkError::Refused {
                code: code @ Code::RecordTooLong,
                text,
            } => session.link.part(&Frame::Refusal { code: *code, text }),
            _ => {}
        }
        self.backoff.failed(now());
        let (peer, name) = (session.link.peer(), &*one.name);
        (self.around.report)(&Event::Disconnected { peer, name, why });
    }

    /// Number of the first record that not every subscriber has confirmed.
    fn floor(&self) -> u64 {
        if self.subscribers.len() < self.required {
            return self.released;
        }
        let held = self.subscribers.iter().filter(|one| !one.lapsed);
        let floor = held.map(|one| one.confirmed).min();
        floor.unwrap_or(self.feed.next()).max(self.released)
    }

    fn release(&mut self) {
        let floor = self.floor();
        while self.lots.front().is_some_and(|lot| lot.end() <= floor) {
            if let Some(lot) = self.lots.pop_front() {
                self.released = lot.end();
                self.feed.release(lot.lot);
            }
        }
    }

    /// How long nothing has to be done but by whom a descriptor tells of.
    fn until_next(&self) -> Duration {
        let now = now();
        let mut until = BOUND;
        let mut by = |due: Instant| until = until.min(due.saturating_duration_since(now));
        if let Some(ending) = &self.ending {
            by(ending.deadline);
        }
        let mut sessions = self
            .subscribers
            .iter()
            .filter_map(|one| one.session.as_ref());
        if self.around.port.dials() && sessions.next().is_none() && self.strangers.is_empty() {
            by(self.backoff.due().max(now + Duration::from_millis(1)));
        }
        for session in self
            .subscribers
            .iter()
            .filter_map(|one| one.session.as_ref())
        {
            if !session.link.has_more() {
                by(session.link.said() + session.beat);
            }
        }
        until
    }
}
