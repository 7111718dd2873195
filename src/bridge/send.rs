//! The driver from a ring to its subscribers.
//!
//! One thread, one wait. It reads the ring ahead in lots, of which each subscriber is sent what it
//! has not confirmed, at its own pace, from where the records lie; the oldest lot goes back to the
//! producer when every subscriber has confirmed all of it. A lot is read when somebody is ready to
//! be sent it, so that it holds whatever is there by then: nothing waits to fill a batch.
//!
//! # Invariants
//! 1. Lots are released oldest first, each only when `floor` is beyond it.
//! 2. As long as fewer subscribers are known than are asked for, nothing is released.
//! 3. Bytes of a lot that are being written belong to a lot that is not released: a part is of
//!    records that its subscriber has not confirmed.

mod admission;
mod lag;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Around;
use super::clock::{Backoff, now};
use super::error::{BridgeError, LinkError};
use super::feed::{Feed, Read};
use super::frame::{Code, DATA_BYTES, Frame, first_record};
use super::link::Link;
use super::poller::{For, Poller};
use super::report::{Event, Summary};
use super::subscriber::{Drain, Part, Session, Subscriber};
use super::url::Slow;

/// Callers that have not said who they are; more are not answered.
const STRANGERS: usize = 64;
/// How long a place to listen at may still be another's, who is dying.
const BIND_PATIENCE: Duration = Duration::from_secs(5);
const BIND_NAP: Duration = Duration::from_millis(20);
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
    unreachable: bool,
    closed: bool,
    ending: Option<Ending>,
    /// Until when those who have not heard of the end of the stream are waited for.
    farewell: Option<Instant>,
    /// Somebody was ready for more than there was.
    hungry: bool,
    summary: Summary,
    first: u64,
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
        unreachable: false,
        closed: false,
        ending: None,
        farewell: None,
        hungry: true,
        summary: Summary::default(),
        first: released,
    };
    listen(&mut sending.around)?;
    sending.turn_until_done()
}

/// Begins to listen, if this end is called.
pub(super) fn listen(around: &mut Around<'_>) -> Result<(), BridgeError> {
    if around.port.dials() {
        return Ok(());
    }
    let deadline = now() + BIND_PATIENCE;
    while let Err(source) = around.port.listen() {
        if source.kind() != std::io::ErrorKind::AddrInUse || now() > deadline {
            let at = around.port.at();
            return Err(BridgeError::Listen { at, source });
        }
        std::thread::sleep(BIND_NAP);
    }
    let at = around.port.at();
    (around.report)(&Event::Listening { at: &at });
    Ok(())
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

    fn begin_to_end(&mut self, now: Instant) {
        let target = self.feed.committed().max(self.feed.next());
        self.ending = Some(Ending {
            target,
            deadline: now + self.around.settings.drain_timeout,
        });
        let unconfirmed = target.saturating_sub(self.floor());
        (self.around.report)(&Event::Draining { unconfirmed });
    }

    /// Calls, or answers those who have called.
    fn connect(&mut self, now: Instant) -> Result<(), BridgeError> {
        let limit = super::frame::CONTROL_LIMIT;
        let port = &mut self.around.port;
        if port.dials() {
            let busy = !self.strangers.is_empty()
                || self.subscribers.iter().any(|one| one.session.is_some());
            if busy || now < self.backoff.due() {
                return Ok(());
            }
            match port.dial(self.around.settings.dial_patience) {
                Ok(connected) => {
                    self.unreachable = false;
                    self.strangers.push(Link::new(connected, limit, now));
                }
                Err(why) => {
                    self.backoff.failed(now);
                    if !core::mem::replace(&mut self.unreachable, true) {
                        let (at, why) = (&self.around.port.at(), &why);
                        (self.around.report)(&Event::Unreachable { at, why });
                    }
                }
            }
            return Ok(());
        }
        while self.strangers.len() < STRANGERS {
            match port.accept() {
                Ok(Some(connected)) => self.strangers.push(Link::new(connected, limit, now)),
                Ok(None) => break,
                // No descriptor left, most likely: others may give some back.
                Err(_) => break,
            }
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
        match self.subscribers[number].hear(now) {
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

    /// Reads one lot more. False if there is none.
    fn read_lot(&mut self) -> Result<bool, BridgeError> {
        let first = self.feed.next();
        // A small ring in one lot would be released all at once, and stand still before.
        let most = (self.feed.capacity_bytes() / 8).max(1);
        match self.feed.read(self.around.settings.batch_bytes.min(most))? {
            Read::Lot { count, lot } => {
                let bytes = self.feed.bytes(&lot).len() as u64;
                self.lots.push_back(Numbered {
                    first,
                    count,
                    before: self.bytes_read,
                    lot,
                });
                self.bytes_read += bytes;
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

    /// Sends everybody what there is to send. Returns whether anything moved.
    fn serve(&mut self) -> Result<bool, BridgeError> {
        self.hungry = self
            .around
            .socket
            .slow
            .is_some_and(|slow| slow != Slow::Block);
        let mut moved = self.enforce_lag()?;
        let now = now();
        for number in 0..self.subscribers.len() {
            // A subscriber's turn ends when its socket takes no more, when nothing is left, or
            // with its window, which only another turn opens.
            loop {
                match self.step(number, now) {
                    Ok(Step::Moved) => moved = true,
                    Ok(Step::Rest) => break,
                    Err(Fault::Link(why)) => {
                        self.hang_up(number, &why);
                        moved = true;
                        break;
                    }
                    Err(Fault::Bridge(error)) => return Err(error),
                }
            }
        }
        if self.subscribers.iter().all(|one| one.session.is_none()) && self.lots.is_empty() {
            // Nobody asks, but whether the ring is closed must be known.
            moved |= self.read_lot()?;
        }
        Ok(moved)
    }

    fn step(&mut self, number: usize, now: Instant) -> Result<Step, Fault> {
        let Some(session) = &mut self.subscribers[number].session else {
            return Ok(Step::Rest);
        };
        let lent = match session.part {
            Some(part) => {
                let lot = find(&self.lots, part.lot);
                lot.map_or(&[][..], |lot| {
                    &self.feed.bytes(&lot.lot)[part.from..part.to]
                })
            }
            None => &[],
        };
        session.link.write(lent, now)?;
        if session.link.is_lent() {
            return Ok(Step::Rest);
        }
        session.part = None;
        if session.drain != Drain::Untold {
            return Ok(Step::Rest);
        }
        self.begin_part(number)
    }

    /// Begins to send the next records, as many as there are and as may be sent.
    fn begin_part(&mut self, number: usize) -> Result<Step, Fault> {
        let Some(session) = &self.subscribers[number].session else {
            return Ok(Step::Rest);
        };
        let (next, credit) = (session.next, session.credit);
        let confirmed = self.subscribers[number].confirmed;
        let settings = self.around.settings;
        let sent = self
            .bytes_before(next)
            .wrapping_sub(self.bytes_before(confirmed));
        let in_flight = next - confirmed;
        if next >= credit
            || in_flight >= settings.window_records
            || in_flight > 0 && sent >= settings.window_bytes
        {
            return Ok(Step::Rest);
        }
        if next >= self.feed.next() && (self.is_enough() || !self.read_lot()?) {
            return Ok(Step::Rest);
        }
        let Some(lot) = find(&self.lots, next) else {
            return Ok(Step::Rest);
        };
        let bytes = self.feed.bytes(&lot.lot);
        let from = skip(bytes, next - lot.first)?;
        let Some(session) = &mut self.subscribers[number].session else {
            return Ok(Step::Rest);
        };
        let most = (credit - next).min(settings.window_records - in_flight);
        let whole = lot.end() - next <= most
            && (bytes.len() - from) as u64 <= session.largest_records
            && self.feed.largest_record() <= session.largest_record;
        let (to, count) = if whole {
            (bytes.len(), lot.end() - next)
        } else {
            match cut(bytes, from, most, session) {
                // What went before it can still be confirmed.
                Err(LinkError::Refused { .. }) if in_flight > 0 => return Ok(Step::Rest),
                outcome => outcome?,
            }
        };
        if count == 0 {
            return Ok(Step::Rest);
        }
        session.part = Some(Part {
            lot: lot.first,
            from,
            to,
        });
        let count32 = u32::try_from(count).unwrap_or(u32::MAX);
        session.link.begin(next, count32, &bytes[from..to]);
        session.next = next + count;
        if in_flight == 0 {
            // It owed nothing before.
            self.subscribers[number].progress = now();
        }
        Ok(Step::Moved)
    }

    /// Whether all that is to be sent before the end was read.
    fn is_enough(&self) -> bool {
        let target = self.ending.as_ref().map(|ending| ending.target);
        target.is_some_and(|target| self.feed.next() >= target)
    }

    /// Bytes of all records before that one, to the lot.
    fn bytes_before(&self, number: u64) -> u64 {
        find(&self.lots, number).map_or(self.bytes_read, |lot| lot.before)
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

    /// Tells everybody that nothing comes any more, and whether that is all.
    fn is_done(&mut self) -> Result<Option<Summary>, BridgeError> {
        let now = now();
        let floor = self.floor();
        self.summary.confirmed = floor - self.first;
        let all = self.subscribers.len() >= self.required && floor >= self.feed.next();
        if let Some(ending) = &self.ending {
            let confirmed = floor >= ending.target;
            if !confirmed && now < ending.deadline {
                return Ok(None);
            }
            self.summary.all_confirmed = confirmed;
            let end = self.feed.next();
            for one in &mut self.subscribers {
                if let Some(session) = &mut one.session {
                    let closed = false;
                    session.link.part(&Frame::Drain { end, closed });
                }
            }
            return Ok(Some(self.summary));
        }
        if !self.closed || !all {
            return Ok(None);
        }
        let end = self.feed.next();
        for one in &mut self.subscribers {
            let Some(session) = &mut one.session else {
                continue;
            };
            if session.drain == Drain::Untold {
                session.drain = Drain::Told;
                session.link.say(&Frame::Drain { end, closed: true });
                // Whatever comes of it is found by the next turn.
                let _written = session.link.write(&[], now);
            }
        }
        let told = |one: &Subscriber| {
            let session = one.session.as_ref();
            session.is_some_and(|session| session.drain == Drain::Done)
        };
        // Those who are away are told when they come, if they come in time.
        if self.farewell(now) || self.subscribers.iter().all(told) {
            self.summary.all_confirmed = true;
            self.summary.ended = true;
            (self.around.report)(&Event::Ended { records: end });
            return Ok(Some(self.summary));
        }
        Ok(None)
    }

    /// Whether those who have not heard of the end were waited for long enough.
    fn farewell(&mut self, now: Instant) -> bool {
        let patience = self.around.settings.drain_timeout;
        now >= *self.farewell.get_or_insert(now + patience)
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

enum Step {
    Moved,
    Rest,
}

enum Fault {
    Link(LinkError),
    Bridge(BridgeError),
}

impl From<LinkError> for Fault {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<BridgeError> for Fault {
    fn from(error: BridgeError) -> Self {
        Self::Bridge(error)
    }
}

/// The lot that has that record.
fn find<L>(lots: &VecDeque<Numbered<L>>, number: u64) -> Option<&Numbered<L>> {
    let place = lots.partition_point(|lot| lot.end() <= number);
    lots.get(place).filter(|lot| lot.first <= number)
}

/// Where the record behind `count` others begins.
fn skip(bytes: &[u8], count: u64) -> Result<usize, LinkError> {
    let mut at = 0;
    for _ in 0..count {
        at += first_record(&bytes[at..])?.span;
    }
    Ok(at)
}

/// As many records from `from` on as the receiver takes in one frame, one at least: where they end
/// and how many they are.
fn cut(bytes: &[u8], from: usize, most: u64, session: &Session) -> Result<(usize, u64), LinkError> {
    let (mut to, mut count) = (from, 0);
    while to < bytes.len() && count < most {
        let record = first_record(&bytes[to..])?;
        if record.payload.len() as u64 > session.largest_record
            || record.span as u64 > session.largest_records
        {
            if count > 0 {
                break;
            }
            return Err(LinkError::Refused {
                code: Code::RecordTooLong,
                text: format!(
                    "a record of {} bytes, the receiver takes at most {}",
                    record.payload.len(),
                    session.largest_record
                ),
            });
        }
        if (to - from + record.span) as u64 > session.largest_records {
            break;
        }
        to += record.span;
        count += 1;
    }
    Ok((to, count))
}

pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Longest frame that can be asked for.
pub(super) fn largest_frame(largest_record: u64, batch_bytes: u64) -> u32 {
    let one = crate::protocol::byte_ring::span_of(largest_record);
    u32::try_from(one.max(batch_bytes) + DATA_BYTES as u64).unwrap_or(u32::MAX)
}
