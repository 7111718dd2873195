//! The driver from a sender into a ring.
//!
//! It says what its ring holds, and commits what comes. A frame stays where it was received until
//! all of it is in the ring: a full ring stops the reading, and TCP the sender.
//!
//! Here is the one wait and the connection; `admission` decides which sender has it, `taking` is
//! what its frames lead to.
//!
//! # Invariants
//! 1. A record is committed only if it is the next one of its stream.
//! 2. An ack is said after the commit that it is about.
//! 3. What is kept of a connection is bounded: what one read brings behind a frame that does not
//!    fit into the ring, and one ack that the socket does not take.
//! 4. The place is a sender's whose welcome has come. Nobody else keeps another one from it.

mod admission;
mod taking;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::around::{Around, Driver, drive};
use super::clock::now;
use super::error::{BridgeError, Fault, LinkError};
use super::frame::{Code, Frame};
use super::intake::Intake;
use super::link::Link;
use super::poller::{For, Poller};
use super::report::{Event, Summary};
use super::stranger::{Host, Strangers};
use taking::Turn;

/// Full reads that one ack may say, of a megabyte together.
const READS_PER_ACK: u32 = 4;

struct Receiving<'b> {
    intake: Intake,
    around: Around<'b>,
    name: String,
    /// Goes on behind another ring's records: one change, made by the first record that is
    /// committed behind them. Two senders in turn would double all that they have.
    accept: bool,
    /// Who have not said their welcome.
    strangers: Strangers<admission::Stage>,
    session: Option<Session>,
    summary: Summary,
}

/// One connection, from its welcome on.
struct Session {
    link: Link,
    /// Its sender has another ring than the one whose records are held.
    changes: bool,
    /// How far the frame at hand is committed: bytes of its records, and records.
    done: (usize, u64),
    /// Everything before it was acknowledged.
    acked: u64,
    /// Reads since then that have left more in the socket than they took.
    behind: u32,
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
    drive(Receiving {
        name: name.unwrap_or_else(|| intake.name()),
        intake,
        around,
        accept,
        strangers: Strangers::default(),
        session: None,
        summary: Summary::default(),
    })
}

impl Driver for Receiving<'_> {
    fn turn(&mut self, timeout: Duration) -> Result<bool, BridgeError> {
        let moved = self.wait(timeout)?;
        self.tell_figures();
        Ok(moved)
    }

    fn is_done(&mut self) -> Result<Option<Summary>, BridgeError> {
        Ok(self.end())
    }

    fn arm(&mut self) -> Result<(), BridgeError> {
        self.intake.arm()
    }

    fn until_next(&self) -> Duration {
        let session = self.session.iter();
        let silent = session.filter(|session| !session.link.has_more());
        let beats = silent.map(|session| session.link.said() + session.beat);
        self.around.until_next(self.is_alone(), beats)
    }
}

impl Receiving<'_> {
    /// Waits for any descriptor, then deals with the network. Returns whether anything moved.
    fn wait(&mut self, timeout: Duration) -> Result<bool, BridgeError> {
        let mut poller = Poller::default();
        let watched = self.around.watch(&mut poller, true);
        let strangers = self.strangers.watch(&mut poller);
        let mut socket = None;
        if let Some(session) = &self.session {
            if session.is_full {
                poller.add(self.intake.descriptor()?, For::Reading);
            }
            // What is not to be read is not waited for.
            let reads = !session.is_full && self.around.ending.is_none();
            let what = match (session.link.has_more(), !reads) {
                (true, true) => Some(For::WritingAlone),
                (true, false) => Some(For::Writing),
                (false, true) => None,
                (false, false) => Some(For::Reading),
            };
            socket = what.map(|what| poller.add(session.link.as_fd(), what));
        }
        let ready = poller.wait(timeout)?;
        let now = now();
        if self.around.woke(&watched, &ready, now) {
            (self.around.report)(&Event::Draining { unconfirmed: 0 });
        }
        let over = self.session.as_ref().is_some_and(|one| one.link.is_over());
        let readable = over || socket.is_some_and(|socket| ready[socket]);
        let mut moved = self.go_on_or_hang_up(readable, now)?;
        self.strangers.woke(&strangers, &ready);
        moved |= self.hear_strangers(now)?;
        moved |= self.connect(now);
        Ok(moved)
    }

    /// Whether nobody else is served at the moment.
    fn is_taken(&self) -> bool {
        self.session.is_some() || self.around.ending.is_some()
    }

    /// Goes on with the session, if there is one, for as long as it lasts.
    fn go_on_or_hang_up(&mut self, readable: bool, now: Instant) -> Result<bool, BridgeError> {
        match self.go_on(readable, now) {
            Ok(any) => Ok(any),
            Err(Fault::Link(why)) => {
                self.hang_up(&why);
                Ok(true)
            }
            Err(Fault::Bridge(error)) => {
                if let Some(session) = &mut self.session {
                    tell_why(&mut session.link, &error);
                }
                Err(error)
            }
        }
    }

    /// Reads, commits, acknowledges, writes. Returns whether anything moved.
    fn go_on(&mut self, readable: bool, now: Instant) -> Result<bool, Fault> {
        let Some(session) = &mut self.session else {
            return Ok(false);
        };
        // What does not fit into the ring waits where it is, and what comes behind it in the
        // socket. While this end is to stop, what has come is committed, and nothing more is read.
        let reads = readable && !session.is_full && self.around.ending.is_none();
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
        // One at a time: when it is out, the newest one says all of them. An ack costs both ends
        // about as much as a tenth of a full read, so some of those share one.
        let is_behind = reads && session.link.is_behind();
        session.behind += u32::from(is_behind);
        let waits = is_behind && session.behind < READS_PER_ACK;
        if session.acked != next && !session.link.has_more() && !waits {
            (session.acked, session.behind) = (next, 0);
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
        if let Some(silence) = session.link.silence(now, silence) {
            return Err(LinkError::Silent(silence).into());
        }
        Ok(moved)
    }

    fn hang_up(&mut self, why: &LinkError) {
        self.around.backoff.failed(now());
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

    fn end(&mut self) -> Option<Summary> {
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
        let deadline = self.around.ending?;
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
        let session = self.session.as_ref();
        let is_idle = session.is_some_and(|session| !session.is_full);
        gauges.read.set(next);
        gauges.connected.set(session.is_some().into());
        gauges.wanted.set(1);
        let again = self.summary.connections.saturating_sub(1);
        gauges.reconnects.set(again);
        gauges.count(&self.summary);
        if self.around.ending.is_some() {
            gauges.drains();
        }
        gauges.turn(now(), next, is_idle);
    }
}

/// Tells the sender why this end is no more.
fn tell_why(link: &mut Link, error: &BridgeError) {
    let code = match error {
        BridgeError::RecordTooLong { .. } => Code::RecordTooLong,
        BridgeError::OtherStream { .. } => Code::OtherStream,
        _ => return,
    };
    let text = &error.to_string();
    link.part(&Frame::Refusal { code, text });
}
