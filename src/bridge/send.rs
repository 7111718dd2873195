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
//! 1. Lots are released oldest first, each only when `floor` is beyond it; of one of an MPMC ring
//!    the records before `floor`, so that what comes again after a death is at most a window.
//! 2. As long as fewer subscribers are known than are asked for, nothing is released.
//! 3. Bytes of a lot that are being written belong to a lot that is not released: a part is of
//!    records that its subscriber has not confirmed.

mod admission;
mod ending;
mod figures;
mod lag;
mod serving;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::around::{Around, Driver, drive};
use super::clock::now;
use super::error::{BridgeError, LinkError};
use super::feed::Feed;
use super::frame::{Code, Frame};
use super::poller::{For, Poller};
use super::report::{Event, Summary};
use super::stranger::{Host, Strangers};
use super::subscriber::Subscriber;

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
    /// Who have not said who they are.
    strangers: Strangers<admission::Stage>,
    closed: bool,
    /// Everything before it is to be confirmed before this ends, once it is to.
    target: Option<u64>,
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
    let excused = now() + around.settings.absence();
    let known = |name| Subscriber::new(name, released, excused);
    let required = around.socket.subscribers.unwrap_or(1).max(1) as usize;
    let mut sending = Sending {
        feed,
        around,
        lots: VecDeque::new(),
        released,
        bytes_read: 0,
        required: required.max(names.len()),
        subscribers: names.into_iter().map(known).collect(),
        strangers: Strangers::default(),
        closed: false,
        target: None,
        farewell: None,
        hungry: true,
        summary: Summary::default(),
        first: released,
        looked: None,
    };
    sending.around.listen()?;
    drive(sending)
}

impl<F: Feed> Driver for Sending<'_, F> {
    fn turn(&mut self, timeout: Duration) -> Result<bool, BridgeError> {
        let heard = self.wait(timeout)?;
        // Before more is sent: what is confirmed and still held would come again beside a window.
        self.release();
        let moved = heard | self.serve()?;
        self.release();
        self.tell_figures(!moved);
        Ok(moved)
    }

    fn is_done(&mut self) -> Result<Option<Summary>, BridgeError> {
        Ok(self.end())
    }

    fn arm(&mut self) -> Result<(), BridgeError> {
        self.feed.arm()
    }

    fn until_next(&self) -> Duration {
        let sessions = self
            .subscribers
            .iter()
            .filter_map(|one| one.session.as_ref());
        let silent = sessions.filter(|session| !session.link.has_more());
        let beats = silent.map(|session| session.link.said() + session.beat);
        self.around.until_next(self.is_alone(), beats)
    }
}

impl<F: Feed> Sending<'_, F> {
    /// Waits for any descriptor, then deals with the network. Returns whether anything moved.
    fn wait(&mut self, timeout: Duration) -> Result<bool, BridgeError> {
        let mut poller = Poller::default();
        let watched = self.around.watch(&mut poller, true);
        if self.hungry {
            poller.add(self.feed.descriptor()?, For::Reading);
        }
        let strangers = self.strangers.watch(&mut poller);
        let sessions = self.subscribers.iter().map(|one| {
            let session = one.session.as_ref()?;
            Some(poller.add_link(&session.link))
        });
        let sessions: Vec<Option<usize>> = sessions.collect();
        let ready = poller.wait(timeout)?;

        let now = now();
        if self.around.woke(&watched, &ready, now) {
            self.begin_to_end();
        }
        let mut moved = false;
        for (number, place) in sessions.into_iter().enumerate() {
            if place.is_some_and(|place| ready[place]) || self.is_over(number) {
                moved |= self.hear(number, now);
            }
        }
        self.strangers.woke(&strangers, &ready);
        moved |= self.hear_strangers(now)?;
        moved |= self.connect(now);
        self.mind_the_silent(now);
        Ok(moved)
    }

    /// Whether a subscriber has taken its leave, though its socket may not tell.
    fn is_over(&self, number: usize) -> bool {
        let session = self.subscribers[number].session.as_ref();
        session.is_some_and(|session| session.link.is_over())
    }

    /// Hangs up where nothing is heard, and says something where nothing was said.
    fn mind_the_silent(&mut self, now: Instant) {
        let limit = self.around.settings.silence;
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
        let absence = self.around.settings.absence();
        one.left(&session, self.feed.committed(), now(), absence);
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
        self.around.backoff.failed(now());
        let (peer, name) = (session.link.peer(), &*one.name);
        (self.around.report)(&Event::Disconnected { peer, name, why });
    }

    /// Number of the first record that not every subscriber has confirmed.
    fn floor(&self) -> u64 {
        if self.subscribers.len() < self.required {
            return self.released;
        }
        let floor = self.subscribers.iter().map(Subscriber::held).min();
        floor.unwrap_or(self.released).max(self.released)
    }

    fn release(&mut self) {
        let floor = self.floor();
        while self.lots.front().is_some_and(|lot| lot.end() <= floor) {
            if let Some(lot) = self.lots.pop_front() {
                self.released = lot.end();
                self.feed.release(lot.lot);
            }
        }
        // What is held in vain of an MPMC ring comes again if this bridge dies.
        if let Some(lot) = self.lots.front_mut()
            && floor > self.released
            && self.feed.release_some(&mut lot.lot, floor - self.released)
        {
            self.released = floor;
        }
    }
}
