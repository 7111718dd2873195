//! One who is served: what it has confirmed, what it was sent, and its connection if there is one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::error::LinkError;
use super::frame::{Frame, Hello};
use super::gauges::Gauges;
use super::link::Link;

/// A subscriber that is too far behind for so long, or confirms nothing for so long, is slow, if
/// there is a policy for the slow. A moment without a processor is no slowness.
const STALL: Duration = Duration::from_secs(1);

/// Someone for whom records are held.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) name: String,
    /// Everything before it is in its ring.
    pub(super) confirmed: u64,
    /// Everything before it was given up for it because it is slow. As long as that is beyond what
    /// it has confirmed, it lacks records and has not been told.
    pub(super) given_up: u64,
    /// Until then it may be about to call again, and is not slow for being away.
    excused: Instant,
    /// What it had confirmed when that was granted: it is granted again for more than that.
    excused_at: u64,
    /// When it last confirmed something, or began to owe that, or came.
    pub(super) progress: Instant,
    /// How long it had owed something and confirmed nothing in connections that have ended: who
    /// comes again and again is no quicker for that.
    pub(super) spent: Duration,
    /// Since when it is further behind the fastest than is allowed.
    pub(super) behind: Option<Instant>,
    pub(super) session: Option<Session>,
    /// It has been connected before.
    pub(super) is_known: bool,
    /// Number behind the last record that it was ever sent.
    pub(super) reached: u64,
}

/// One connection of a subscriber, from its hello on.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) link: Link,
    /// Number of the next record that is sent.
    pub(super) next: u64,
    /// Records before this number may be sent.
    pub(super) credit: u64,
    pub(super) largest_record: u64,
    /// Most bytes of records in a frame.
    pub(super) largest_records: u64,
    /// The records that are being written.
    pub(super) part: Option<Part>,
    /// How often something must be said.
    pub(super) beat: Duration,
    pub(super) drain: Drain,
    /// Frames that are not confirmed: behind which record each ends, and when it was begun.
    pub(super) sent: VecDeque<(u64, Instant)>,
}

/// Some records of a lot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Number of the lot's first record.
    pub(super) lot: u64,
    /// Where they begin and end in the lot's bytes.
    pub(super) from: usize,
    pub(super) to: usize,
}

/// How far the end of the stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    Untold,
    Told,
    Done,
}

impl Subscriber {
    pub(super) fn new(name: String, confirmed: u64, excused: Instant) -> Self {
        Self {
            name,
            confirmed,
            given_up: confirmed,
            excused,
            excused_at: confirmed,
            progress: excused,
            spent: Duration::ZERO,
            behind: None,
            session: None,
            is_known: false,
            reached: confirmed,
        }
    }

    /// Whether its place was given up, and it does not know yet.
    pub(super) fn has_lapsed(&self) -> bool {
        self.given_up > self.confirmed
    }

    /// Number of the first record that is held for it.
    pub(super) fn held(&self) -> u64 {
        self.confirmed.max(self.given_up)
    }

    /// It is there, and goes on at `next`.
    pub(super) fn came(&mut self, next: u64, now: Instant) {
        if next > self.confirmed {
            self.spent = Duration::ZERO;
        }
        (self.confirmed, self.given_up, self.progress) = (next, next, now);
        self.excused_at = self.excused_at.min(next);
    }

    /// It is there no more. For `absence` it may be about to come back, if it has confirmed
    /// something since it last was away, or has all that there is.
    pub(super) fn left(&mut self, session: &Session, all: u64, now: Instant, absence: Duration) {
        if session.next > self.confirmed {
            self.spent += now.saturating_duration_since(self.progress);
        }
        if self.confirmed > self.excused_at || self.confirmed >= all {
            (self.excused, self.excused_at) = (now + absence, self.confirmed);
        }
    }

    /// Whether it has had something to confirm for a while and has not, or has been away as long.
    pub(super) fn stalls(&self, now: Instant) -> bool {
        let (since, spent) = match &self.session {
            Some(session) if session.next <= self.confirmed => return false,
            Some(_) => (self.progress, self.spent),
            None => (self.excused, Duration::ZERO),
        };
        now.saturating_duration_since(since) + spent >= STALL
    }

    /// Whether it has been too far behind for a while, now that it `is_behind` or not.
    pub(super) fn is_behind(&mut self, is_behind: bool, now: Instant) -> bool {
        if !is_behind || self.session.is_none() && now < self.excused {
            self.behind = None;
            return false;
        }
        now.saturating_duration_since(*self.behind.get_or_insert(now)) >= STALL
    }

    /// Reads what has come and takes it in. Returns whether anything came.
    pub(super) fn hear(&mut self, now: Instant, gauges: &Gauges) -> Result<bool, LinkError> {
        let Some(session) = &mut self.session else {
            return Ok(false);
        };
        // Who hangs up may have said something before.
        let read = session.link.read(now);
        while let Some(frame) = session.link.frame()? {
            match frame {
                Frame::Ack { confirmed, credit } => {
                    if confirmed > session.next {
                        return Err(LinkError::Nonsense("confirms what it was not sent"));
                    }
                    // Behind a gap it may say less than is known of it.
                    if confirmed > self.confirmed {
                        (self.progress, self.spent) = (now, Duration::ZERO);
                        count_latency(&mut session.sent, (self.confirmed, confirmed), now, gauges);
                    }
                    self.confirmed = self.confirmed.max(confirmed);
                    session.credit = session.credit.max(credit);
                }
                Frame::Heartbeat => {}
                Frame::Drained if session.drain == Drain::Told => session.drain = Drain::Done,
                Frame::Drain { .. } => return Err(LinkError::HungUp),
                Frame::Refusal { code, text } => {
                    let text = text.to_owned();
                    return Err(LinkError::Refused { code, text });
                }
                _ => return Err(LinkError::Nonsense("says what only a sender says")),
            }
            session.link.pass();
        }
        read
    }
}

impl Session {
    pub(super) fn new(link: Link, hello: &Hello<'_>, next: u64, silence: Duration) -> Self {
        let theirs = Duration::from_millis(hello.silence_ms.into());
        let head = super::frame::DATA_BYTES as u64;
        Self {
            link,
            next,
            credit: hello.credit,
            largest_record: hello.largest_record,
            largest_records: u64::from(hello.largest_frame).saturating_sub(head),
            part: None,
            beat: beat(silence, theirs),
            drain: Drain::Untold,
            sent: VecDeque::new(),
        }
    }
}

/// Counts how long the records `from..to` took, which are confirmed at `now`.
fn count_latency(
    sent: &mut VecDeque<(u64, Instant)>,
    (mut from, to): (u64, u64),
    now: Instant,
    gauges: &Gauges,
) {
    while let Some((end, at)) = sent.front().copied() {
        let until = end.min(to);
        let latency = now.saturating_duration_since(at);
        // Nothing of a frame that a gap has made void.
        gauges.confirmed_after(latency, until.saturating_sub(from));
        from = from.max(until);
        if end > to {
            return;
        }
        sent.pop_front();
    }
}

/// How often to say something to a peer that gives up after `theirs`.
pub(super) fn beat(ours: Duration, theirs: Duration) -> Duration {
    (ours.min(theirs) / 4).max(Duration::from_millis(1))
}
