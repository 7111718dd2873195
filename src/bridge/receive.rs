//! The driver from a sender into a ring.
//!
//! It says what its ring holds, and commits what comes. A frame stays where it was received until
//! all of it is in the ring: a full ring stops the reading, and TCP the sender.
//!
//! Here is the one wait and the connection; `taking` is what frames lead to.
//!
//! # Invariants
//! 1. A record is committed only if it is the next one of its stream.
//! 2. An ack is said after the commit that it is about.
//! 3. What is kept of a connection is bounded: what one read brings behind a frame that does not fit
//!    into the ring, and one ack that the socket does not take.

mod taking;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::around::{Around, Told};
use super::clock::{Backoff, millis, now};
use super::error::{BridgeError, Fault, LinkError};
use super::frame::{Code, Frame, Hello, VERSION, largest_frame};
use super::intake::Intake;
use super::link::Link;
use super::poller::{For, Poller};
use super::report::{Event, Summary};
use taking::Turn;

/// Longest wait: whether the ring still has a name is looked at as often.
const BOUND: Duration = Duration::from_millis(250);

struct Receiving<'b> {
    intake: Intake,
    around: Around<'b>,
    name: String,
    /// Goes on behind another ring's records.
    accept: bool,
    session: Option<Session>,
    backoff: Backoff,
    told: Told,
    /// Until when what has come is to be committed.
    ending: Option<Instant>,
    summary: Summary,
}

/// One connection.
struct Session {
    link: Link,
    welcomed: bool,
    /// How far the frame at hand is committed: bytes of its records, and records.
    done: (usize, u64),
    /// Everything before it was acknowledged.
    acked: u64,
    /// Records before this number may come.
    credit: u64,
    is_full: bool,
    beat: Duration,
    /// The stream has ended, which is to be told yet.
    over: bool,
}

/// Commits what a sender sends until told to stop, or until its ring is closed.
pub(super) fn run(
    intake: Intake,
    accept: bool,
    mut around: Around<'_>,
) -> Result<Summary, BridgeError> {
    around.listen()?;
    let name = around.socket.name.clone();
    let mut receiving = Receiving {
        name: name.unwrap_or_else(|| intake.name()),
        backoff: Backoff::new(
            around.settings.backoff_first,
            around.settings.backoff_longest,
        ),
        intake,
        around,
        accept,
        session: None,
        told: Told::Nothing,
        ending: None,
        summary: Summary::default(),
    };
    let mut timeout = Duration::ZERO;
    let mut armed = false;
    loop {
        // Ends by the end of the stream, or by a stop and its deadline.
        let moved = receiving.turn(timeout)?;
        receiving.tell_figures();
        if let Some(summary) = receiving.is_done() {
            return Ok(summary);
        }
        if moved {
            (timeout, armed) = (Duration::ZERO, false);
        } else if armed {
            (timeout, armed) = (receiving.until_next(), false);
        } else {
            let arm = receiving.intake.arm();
            arm.map_err(BridgeError::system("watch the ring"))?;
            (timeout, armed) = (Duration::ZERO, true);
            receiving.intake.check()?;
        }
    }
}

impl Receiving<'_> {
    fn turn(&mut self, timeout: Duration) -> Result<bool, BridgeError> {
        let mut poller = Poller::default();
        let is_new = self.ending.is_none();
        let stop = is_new.then(|| poller.add(self.around.stop, For::Reading));
        if let Some(listener) = self.around.port.descriptor() {
            poller.add(listener, For::Reading);
        }
        let mut socket = None;
        if let Some(session) = &self.session {
            if session.is_full {
                let ring = self.intake.descriptor();
                let ring = ring.map_err(BridgeError::system("watch the ring"))?;
                poller.add(ring, For::Reading);
            }
            let what = match (session.link.has_more(), session.is_full) {
                (true, true) => Some(For::WritingAlone),
                (true, false) => Some(For::Writing),
                (false, true) => None,
                (false, false) => Some(For::Reading),
            };
            socket = what.map(|what| poller.add(session.link.as_fd(), what));
        }
        let ready = poller.wait(timeout)?;
        let now = now();
        if stop.is_some_and(|stop| ready[stop]) {
            self.ending = Some(now + self.around.settings.drain_timeout);
            (self.around.report)(&Event::Draining { unconfirmed: 0 });
        }
        let mut moved = self.connect(now)?;
        let readable = socket.is_some_and(|socket| ready[socket]);
        match self.go_on(readable, now) {
            Ok(any) => moved |= any,
            Err(Fault::Link(why)) => {
                self.hang_up(&why);
                moved = true;
            }
            Err(Fault::Bridge(error)) => return Err(self.give_up(error)),
        }
        Ok(moved)
    }

    /// Calls, or answers who has called.
    fn connect(&mut self, now: Instant) -> Result<bool, BridgeError> {
        let record = self.intake.largest_record();
        let limit = largest_frame(record, self.around.settings.batch_bytes);
        if !self.around.port.dials() {
            while let Some(connected) = self.around.accept() {
                let mut link = Link::new(connected, limit, now);
                if self.session.is_some() || self.ending.is_some() {
                    let text = "another sender is being served";
                    let code = Code::Busy;
                    link.part(&Frame::Refusal { code, text });
                } else {
                    self.session = Some(Session::new(link));
                    return self.greet().map(|()| true);
                }
            }
            return Ok(false);
        }
        if self.session.is_some() || self.ending.is_some() || now < self.backoff.due() {
            return Ok(false);
        }
        let Some(connected) = self.around.dial(&mut self.told) else {
            self.backoff.failed(now);
            return Ok(false);
        };
        self.session = Some(Session::new(Link::new(connected, limit, now)));
        self.greet().map(|()| true)
    }

    /// Says who we are, what we hold, and what we take.
    fn greet(&mut self) -> Result<(), BridgeError> {
        let settings = self.around.settings;
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let largest_record = self.intake.largest_record();
        session.credit = self.intake.next().wrapping_add(settings.window_records);
        session.link.say(&Frame::Hello(Hello {
            version: VERSION,
            stream: self.intake.stream(),
            accepts_other: self.accept,
            next: self.intake.next(),
            largest_record,
            largest_frame: largest_frame(largest_record, settings.batch_bytes),
            credit: session.credit,
            silence_ms: millis(settings.silence),
            name: &self.name,
        }));
        Ok(())
    }

    /// Reads, commits, acknowledges, writes. Returns whether anything moved.
    fn go_on(&mut self, readable: bool, now: Instant) -> Result<bool, Fault> {
        let Some(session) = &mut self.session else {
            return Ok(false);
        };
        // What does not fit into the ring waits where it is, and what comes behind it in the
        // socket. While this end is to stop, what has come is committed, and nothing more is read.
        let reads = readable && !session.is_full && self.ending.is_none();
        let mut moved = reads && session.link.read(now)?;
        while let Turn::Next = self.take_frame()? {
            moved = true;
        }
        let window = self.around.settings.window_records;
        let silence = self.around.settings.silence;
        let next = self.intake.next();
        let Some(session) = &mut self.session else {
            return Ok(moved);
        };
        session.link.write(&[], now)?;
        // One at a time: when it is out, the newest one says all of them.
        if session.welcomed && session.acked != next && !session.link.has_more() {
            session.acked = next;
            session.credit = session.credit.max(next.wrapping_add(window));
            session.link.say(&Frame::Ack {
                confirmed: next,
                credit: session.credit,
            });
            moved = true;
        }
        if now.saturating_duration_since(session.link.said()) >= session.beat
            && !session.link.has_more()
        {
            session.link.say(&Frame::Heartbeat);
        }
        session.link.write(&[], now)?;
        if session.is_full {
            // Nothing is read, so nothing is heard either: no silence of the peer's, now or when
            // there is room again.
            session.link.excuse(now);
        }
        match session.link.silence(now, silence) {
            Some(silence) => Err(LinkError::Silent(silence).into()),
            None => Ok(moved),
        }
    }

    fn peer(&self) -> String {
        let session = self.session.as_ref();
        session.map_or_else(String::new, |session| session.link.peer().to_owned())
    }

    fn hang_up(&mut self, why: &LinkError) {
        self.backoff.failed(now());
        let Some(mut session) = self.session.take() else {
            return;
        };
        if let LinkError::Nonsense(text) = why {
            let code = Code::Protocol;
            session.link.part(&Frame::Refusal { code, text });
        }
        if session.over {
            // It was told, or has found out: there is nothing more to say.
            (self.summary.ended, self.summary.all_confirmed) = (true, true);
            return;
        }
        let (peer, name) = (session.link.peer(), &*self.name);
        (self.around.report)(&Event::Disconnected { peer, name, why });
    }

    /// Tells the sender why this end is no more.
    fn give_up(&mut self, error: BridgeError) -> BridgeError {
        let code = match &error {
            BridgeError::RecordTooLong { .. } => Some(Code::RecordTooLong),
            BridgeError::OtherStream { .. } => Some(Code::OtherStream),
            _ => None,
        };
        if let (Some(session), Some(code)) = (&mut self.session, code) {
            let text = &error.to_string();
            session.link.part(&Frame::Refusal { code, text });
        }
        error
    }

    fn is_done(&mut self) -> Option<Summary> {
        let over = self
            .session
            .as_ref()
            .is_some_and(|session| session.over && !session.link.has_more());
        if over || self.summary.ended {
            let records = self.intake.next();
            (self.around.report)(&Event::Ended { records });
            (self.summary.ended, self.summary.all_confirmed) = (true, true);
            return Some(self.summary);
        }
        let deadline = self.ending?;
        let now = now();
        let pending = self
            .session
            .as_ref()
            .is_some_and(|session| session.is_full || session.link.has_more());
        if pending && now < deadline {
            return None;
        }
        self.summary.all_confirmed = !pending;
        if let Some(session) = &mut self.session {
            let end = self.intake.next();
            session.link.part(&Frame::Drain { end, closed: false });
        }
        Some(self.summary)
    }

    /// Stores the figures of this turn.
    fn tell_figures(&self) {
        let gauges = self.around.gauges;
        let next = self.intake.next();
        let session = self.session.as_ref().filter(|session| session.welcomed);
        let is_idle = session.is_some_and(|session| !session.is_full);
        gauges.read.set(next);
        gauges.connected.set(session.is_some().into());
        gauges.wanted.set(1);
        let again = self.summary.connections.saturating_sub(1);
        gauges.reconnects.set(again);
        gauges.count(&self.summary);
        if self.ending.is_some() {
            gauges.drains();
        }
        gauges.turn(now(), next, is_idle);
    }

    fn until_next(&self) -> Duration {
        let now = now();
        let mut until = BOUND;
        let mut by = |due: Instant| until = until.min(due.saturating_duration_since(now));
        if let Some(deadline) = self.ending {
            by(deadline);
        }
        match &self.session {
            Some(session) if !session.link.has_more() => by(session.link.said() + session.beat),
            Some(_) => {}
            None if self.around.port.dials() => {
                by(self.backoff.due().max(now + Duration::from_millis(1)));
            }
            None => {}
        }
        until
    }
}

impl Session {
    fn new(link: Link) -> Self {
        Self {
            link,
            welcomed: false,
            done: (0, 0),
            acked: 0,
            credit: 0,
            is_full: false,
            beat: Duration::from_secs(1),
            over: false,
        }
    }
}
