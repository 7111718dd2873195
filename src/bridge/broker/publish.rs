//! The driver from a ring to a broker.
//!
//! It reads the ring ahead in lots, publishes each record as a message of its own, and gives a lot
//! back when all of it is confirmed. A record that is refused is published again after a while;
//! meanwhile nothing newer is, since whoever refuses one will hardly take the next. When a session
//! ends, all that was in flight is published again by the next one.
//!
//! # Invariants
//! 1. A record is released when an outcome has confirmed it, and all before it.
//! 2. Records that were published and not released are never more than `most_records`: so many come
//!    twice at most when this process dies.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::lots::Lots;
use super::window::Window;
use super::{Course, Outcome, Outlet, Refusal};
use crate::bridge::around::{Driver, drive, until};
use crate::bridge::clock::{Backoff, now};
use crate::bridge::error::{BridgeError, LinkError};
use crate::bridge::feed::{Feed, Read};
use crate::bridge::poller::{For, Poller};
use crate::bridge::report::{Event, Summary};

/// Most records in flight; a broker confirms many at once, and gains nothing by more.
const MOST_RECORDS: u64 = 4096;
/// A window holds many lots: the oldest is given back as a whole, and until then its records count.
const LOTS: u64 = 16;
/// A lot is read as soon as this part of the window is free; what lies idle serves nobody.
const SHARES: u64 = 64;
/// How much there is in the ring is looked at so often while records flow, and before each sleep.
const LOOK: Duration = Duration::from_millis(20);
/// The least that a record takes in a lot.
const LEAST_BYTES: u64 = 8;

struct Session {
    outlet: Box<dyn Outlet>,
    ready: bool,
    blocked: bool,
    /// When anything was last heard, or began to be waited for.
    heard: Instant,
}

struct Publishing<'b, F: Feed> {
    feed: F,
    course: Course<'b>,
    lots: Lots<F>,
    window: Window,
    /// When those that are in flight were published.
    sent: BTreeMap<u64, Instant>,
    most_records: u64,
    session: Option<Session>,
    backoff: Backoff,
    /// When something is published again that was refused.
    again: Backoff,
    /// A refusal that was told, until records are confirmed again.
    refused: bool,
    closed: bool,
    hungry: bool,
    ending: Option<(u64, Instant)>,
    /// When the lag was looked at.
    looked: Option<Instant>,
    first: u64,
    summary: Summary,
}

/// Publishes a ring's records until told to stop, or until it is closed and all is confirmed.
pub(in crate::bridge) fn run<F: Feed>(feed: F, course: Course<'_>) -> Result<Summary, BridgeError> {
    let first = feed.next();
    let settings = course.settings;
    let backoff = || Backoff::new(settings.backoff_first, settings.backoff_longest);
    let publishing = Publishing {
        lots: Lots::default(),
        window: Window::new(first),
        sent: BTreeMap::new(),
        most_records: settings.window_records.clamp(1, MOST_RECORDS),
        session: None,
        backoff: backoff(),
        again: backoff(),
        refused: false,
        closed: false,
        hungry: true,
        ending: None,
        looked: None,
        first,
        summary: Summary::default(),
        feed,
        course,
    };
    drive(publishing)
}

impl<F: Feed> Driver for Publishing<'_, F> {
    fn turn(&mut self, timeout: Duration) -> Result<bool, BridgeError> {
        self.wait(timeout)?;
        let now = now();
        let moved = self.hear(now) | self.connect(now) | self.publish(now)?;
        self.lots.release_before(self.window.head(), &mut self.feed);
        self.tell_figures(!moved, now);
        Ok(moved)
    }

    fn is_done(&mut self) -> Result<Option<Summary>, BridgeError> {
        let now = now();
        let end = self.end(now);
        if end.is_some() {
            self.tell_figures(true, now);
            if let Some(session) = &mut self.session {
                session.outlet.close(self.course.settings.dial_patience);
            }
        }
        Ok(end)
    }

    fn arm(&mut self) -> Result<(), BridgeError> {
        self.feed.arm()
    }

    fn until_next(&self) -> Duration {
        let silence = self.course.settings.silence;
        let session = self.session.as_ref();
        let silent = session.filter(|session| self.waits(session));
        let publishes = session.is_some_and(|session| session.ready && !session.blocked);
        let again = publishes && self.window.first_waiting().is_some();
        let dues = [
            self.ending.map(|(_, deadline)| deadline),
            silent.map(|session| session.heard + silence),
            again.then(|| self.again.due()),
            session.is_none().then(|| self.backoff.due()),
        ];
        until(dues.into_iter().flatten())
    }
}

impl<F: Feed> Publishing<'_, F> {
    fn wait(&mut self, timeout: Duration) -> Result<(), BridgeError> {
        let mut poller = Poller::default();
        // Seen once, it would end every later wait at once.
        let is_new = self.ending.is_none();
        let stop = is_new.then(|| poller.add(self.course.stop, For::Reading));
        if self.hungry {
            poller.add(self.feed.descriptor()?, For::Reading);
        }
        if let Some(session) = &self.session {
            poller.add(session.outlet.descriptor(), For::Reading);
        }
        let ready = poller.wait(timeout)?;
        if stop.is_some_and(|stop| ready[stop]) {
            let target = self.feed.committed().max(self.feed.next());
            self.ending = Some((target, now() + self.course.settings.drain_timeout));
            let unconfirmed = target.saturating_sub(self.window.head());
            (self.course.report)(&Event::Draining { unconfirmed });
        }
        Ok(())
    }

    /// Begins a session if there is none, and ends one of which too little is heard.
    fn connect(&mut self, now: Instant) -> bool {
        if let Some(session) = &self.session {
            let silence = now.saturating_duration_since(session.heard);
            if self.waits(session) && silence >= self.course.settings.silence {
                self.hang_up(&LinkError::Silent(silence));
                return true;
            }
            return false;
        }
        if now < self.backoff.due() {
            return false;
        }
        match self.course.broker.publish(self.feed.stream()) {
            Ok(outlet) => {
                self.session = Some(Session {
                    outlet,
                    ready: false,
                    blocked: false,
                    heard: now,
                });
                true
            }
            Err(why) => {
                self.backoff.failed(now);
                self.course.tell_unreachable(&why);
                false
            }
        }
    }

    /// Whether something is to be heard. A broker that says that it takes nothing may be silent.
    fn waits(&self, session: &Session) -> bool {
        !session.ready || self.window.in_flight() > 0 && !session.blocked
    }

    fn hang_up(&mut self, why: &LinkError) {
        let Some(session) = self.session.take() else {
            return;
        };
        self.backoff.failed(now());
        self.summary.republished += self.window.lose_sight();
        self.sent.clear();
        self.course.tell_end(session.ready, why);
    }

    /// Takes in what has come. Returns whether anything has.
    fn hear(&mut self, now: Instant) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let mut outcomes = Vec::new();
        let ended = session.outlet.take(&mut outcomes);
        let moved = !outcomes.is_empty() || ended.is_err();
        if moved {
            session.heard = now;
        }
        for outcome in outcomes {
            self.take_in(outcome, now);
        }
        if let Err(why) = ended {
            self.hang_up(&why);
        }
        moved
    }

    fn take_in(&mut self, outcome: Outcome, now: Instant) {
        let at = || self.course.broker.at();
        let Some(session) = &mut self.session else {
            return;
        };
        match outcome {
            Outcome::Ready => {
                session.ready = true;
                self.summary.connections += 1;
                self.course.tell_ready("a publisher", self.window.head());
            }
            Outcome::Confirmed(position) => {
                let sent = self.sent.remove(&position);
                if self.window.confirm(position) {
                    if let Some(sent) = sent {
                        let latency = now.saturating_duration_since(sent);
                        self.course.gauges.confirmed_after(latency, 1);
                    }
                    // It works, whatever was before.
                    self.backoff.succeeded();
                    self.again.succeeded();
                    self.refused = false;
                }
            }
            Outcome::Refused(position, refusal) => {
                if !self.window.refuse(position) {
                    return;
                }
                self.summary.republished += 1;
                let why = match &refusal {
                    Refusal::Nacked => {
                        self.summary.nacked += 1;
                        "the broker says no"
                    }
                    Refusal::Returned(why) => {
                        self.summary.returned += 1;
                        why
                    }
                };
                if now >= self.again.due() {
                    self.again.failed(now);
                }
                if !core::mem::replace(&mut self.refused, true) {
                    let at = &*at();
                    (self.course.report)(&Event::NotTaken { at, position, why });
                }
            }
            Outcome::Blocked(why) => {
                session.blocked = true;
                let (at, why) = (&*at(), &*why);
                (self.course.report)(&Event::Blocked { at, why });
            }
            Outcome::Unblocked => {
                session.blocked = false;
                (self.course.report)(&Event::Unblocked { at: &at() });
            }
        }
    }

    /// Publishes what may be published. Returns whether anything was.
    fn publish(&mut self, now: Instant) -> Result<bool, BridgeError> {
        self.hungry = false;
        let ready = |session: &Session| session.ready && !session.blocked;
        if !self.session.as_ref().is_some_and(ready) {
            if self.lots.is_empty() {
                // Nobody asks, but whether the ring is closed must be known.
                return self.read_lot();
            }
            return Ok(false);
        }
        let mut moved = false;
        while now >= self.again.due() {
            let Some(position) = self.window.first_waiting() else {
                if self.is_enough() || !self.may_read() || !self.read_lot()? {
                    break;
                }
                continue;
            };
            let record = self.lots.record(&self.feed, position);
            let (Some(record), Some(session)) = (record, &mut self.session) else {
                break;
            };
            if self.window.in_flight() == 0 {
                session.heard = now;
            }
            session.outlet.publish(record);
            self.window.published(position);
            self.sent.insert(position, now);
            self.summary.published += 1;
            moved = true;
        }
        Ok(moved)
    }

    /// Records that still fit into the window.
    fn room(&self) -> u64 {
        let read = self.window.end() - self.lots.first().unwrap_or(self.window.end());
        self.most_records - read.min(self.most_records)
    }

    /// Whether another lot fits into the window.
    fn may_read(&self) -> bool {
        self.lots.is_empty()
            || self.room() >= (self.most_records / SHARES).max(1)
                && self.lots.bytes() < self.course.settings.window_bytes
    }

    fn read_lot(&mut self) -> Result<bool, BridgeError> {
        let first = self.feed.next();
        let settings = self.course.settings;
        let most = (self.feed.capacity_bytes() / 8).min(settings.batch_bytes);
        // However short its records are, a lot takes no more than its share, and what is free.
        let records = (self.most_records / LOTS).min(self.room());
        let most = most.min(records * LEAST_BYTES).max(1);
        match self.feed.read(most)? {
            Read::Lot { count, lot } => {
                self.lots.push(&self.feed, first, count, lot)?;
                self.window.extend(count);
                self.closed = false;
                Ok(true)
            }
            Read::Empty => {
                self.hungry = true;
                Ok(false)
            }
            Read::Closed => {
                (self.closed, self.hungry) = (true, true);
                Ok(false)
            }
        }
    }

    /// Whether all that is to be published before the end was read.
    fn is_enough(&self) -> bool {
        self.ending
            .is_some_and(|(target, _)| self.feed.next() >= target)
    }

    /// How it has ended, if it has.
    fn end(&mut self, now: Instant) -> Option<Summary> {
        let head = self.window.head();
        self.summary.confirmed = head - self.first;
        if let Some((target, deadline)) = self.ending {
            self.summary.all_confirmed = head >= target;
            return (head >= target || now >= deadline).then_some(self.summary);
        }
        if !self.closed || head < self.feed.next() {
            return None;
        }
        (self.summary.all_confirmed, self.summary.ended) = (true, true);
        (self.course.report)(&Event::Ended { records: head });
        Some(self.summary)
    }

    /// Stores the figures of this turn. `rests` if nothing moved in it.
    fn tell_figures(&mut self, rests: bool, now: Instant) {
        let (gauges, head) = (self.course.gauges, self.window.head());
        let session = self.session.as_ref();
        gauges
            .connected
            .set(session.is_some_and(|one| one.ready).into());
        gauges
            .blocked
            .set(session.is_some_and(|one| one.blocked).into());
        gauges.read.set(self.feed.next());
        gauges.in_flight.set(self.window.in_flight());
        gauges.count_at_broker(&self.summary);
        if self.ending.is_some() {
            gauges.drains();
        }
        let is_due = |looked| now.saturating_duration_since(looked) >= LOOK;
        let mut is_idle = false;
        if rests || self.looked.is_none_or(is_due) {
            self.looked = Some(now);
            let (records, bytes) = self.feed.lag(head);
            gauges.lag_bytes.set(bytes);
            gauges.lag_records.set(records);
            is_idle = records == 0;
        }
        // The position last of all: whoever sees that it has moved sees what moved with it.
        gauges.turn(now, head, is_idle);
    }
}

#[cfg(test)]
mod tests;
