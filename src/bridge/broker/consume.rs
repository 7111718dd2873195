//! The driver from a broker into a ring.
//!
//! What comes is committed in the order in which it comes, without what has come before, and then
//! acknowledged. A full ring stops the acknowledgements, and so the broker.
//!
//! # After a crash
//! What was not acknowledged comes again. What of it was committed is known by the mark in the
//! ring's file, as far as that reaches; see `seen`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Course, Delivery, Inlet, Notice, Seen};
use crate::bridge::around::{Driver, drive, until};
use crate::bridge::clock::{Backoff, now};
use crate::bridge::error::{BridgeError, LinkError};
use crate::bridge::intake::Intake;
use crate::bridge::poller::{For, Poller};
use crate::bridge::report::{Event, Summary};

struct Session {
    inlet: Box<dyn Inlet>,
    ready: bool,
    begun: Instant,
}

struct Consuming<'b> {
    intake: Intake,
    course: Course<'b>,
    ahead: u16,
    seen: Seen,
    /// What has come and is not committed.
    pending: VecDeque<Delivery>,
    is_full: bool,
    session: Option<Session>,
    backoff: Backoff,
    stopping: bool,
    summary: Summary,
}

/// Commits what a broker has until told to stop.
pub(in crate::bridge) fn run(
    intake: Intake,
    ahead: u16,
    course: Course<'_>,
) -> Result<Summary, BridgeError> {
    let settings = course.settings;
    drive(Consuming {
        seen: Seen::new(intake.origin()),
        intake,
        ahead,
        pending: VecDeque::new(),
        is_full: false,
        session: None,
        backoff: Backoff::new(settings.backoff_first, settings.backoff_longest),
        stopping: false,
        summary: Summary::default(),
        course,
    })
}

impl Driver for Consuming<'_> {
    fn turn(&mut self, timeout: Duration) -> Result<bool, BridgeError> {
        self.wait(timeout)?;
        let now = now();
        let moved = self.hear() | self.connect(now) | self.commit()?;
        self.tell_figures(now);
        Ok(moved)
    }

    fn is_done(&mut self) -> Result<Option<Summary>, BridgeError> {
        if !self.stopping {
            return Ok(None);
        }
        if let Some(session) = &mut self.session {
            // What was committed is acknowledged; the rest goes back to its queue.
            session.inlet.close(self.course.settings.dial_patience);
        }
        self.summary.all_confirmed = true;
        Ok(Some(self.summary))
    }

    fn arm(&mut self) -> Result<(), BridgeError> {
        self.intake.arm()
    }

    fn until_next(&self) -> Duration {
        let silence = self.course.settings.silence;
        until(
            match &self.session {
                Some(session) => (!session.ready).then(|| session.begun + silence),
                None => Some(self.backoff.due()),
            }
            .into_iter(),
        )
    }
}

impl Consuming<'_> {
    fn wait(&mut self, timeout: Duration) -> Result<(), BridgeError> {
        let mut poller = Poller::default();
        let stop = poller.add(self.course.stop, For::Reading);
        if self.is_full {
            poller.add(self.intake.descriptor()?, For::Reading);
        }
        if let Some(session) = &self.session {
            poller.add(session.inlet.descriptor(), For::Reading);
        }
        let ready = poller.wait(timeout)?;
        if ready[stop] {
            self.stopping = true;
            (self.course.report)(&Event::Draining { unconfirmed: 0 });
        }
        Ok(())
    }

    fn connect(&mut self, now: Instant) -> bool {
        if let Some(session) = &self.session {
            let silence = now.saturating_duration_since(session.begun);
            // Once it is ready, silence means that there is nothing; the adapter's heartbeats tell
            // whether there is anybody.
            if !session.ready && silence >= self.course.settings.silence {
                self.hang_up(&LinkError::Silent(silence));
                return true;
            }
            return false;
        }
        if now < self.backoff.due() {
            return false;
        }
        match self.course.broker.consume(self.ahead) {
            Ok(inlet) => {
                let (ready, begun) = (false, now);
                self.session = Some(Session {
                    inlet,
                    ready,
                    begun,
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

    fn hang_up(&mut self, why: &LinkError) {
        let Some(session) = self.session.take() else {
            return;
        };
        self.backoff.failed(now());
        // They belong to the session, and come again.
        self.pending.clear();
        self.is_full = false;
        self.course.tell_end(session.ready, why);
    }

    fn hear(&mut self) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let mut notices = Vec::new();
        let ended = session.inlet.take(&mut notices);
        let moved = !notices.is_empty() || ended.is_err();
        for notice in notices {
            match notice {
                Notice::Delivered(delivery) => self.pending.push_back(delivery),
                Notice::Ready => {
                    session.ready = true;
                    self.backoff.succeeded();
                    self.summary.connections += 1;
                    self.course.tell_ready("a consumer", self.summary.confirmed);
                }
            }
        }
        if let Err(why) = ended {
            self.hang_up(&why);
        }
        moved
    }

    fn commit(&mut self) -> Result<bool, BridgeError> {
        if self.pending.is_empty() {
            return Ok(false);
        }
        let taken = self
            .intake
            .commit_deliveries(&mut self.pending, &mut self.seen)?;
        self.is_full = taken.is_full;
        self.summary.confirmed += taken.records;
        self.summary.duplicates += taken.duplicates;
        let Some(delivery) = taken.through else {
            return Ok(false);
        };
        if let Some(session) = &mut self.session {
            session.inlet.acknowledge(delivery);
        }
        Ok(true)
    }

    /// Stores the figures of this turn.
    fn tell_figures(&self, now: Instant) {
        let (gauges, committed) = (self.course.gauges, self.summary.confirmed);
        let is_ready = self.session.as_ref().is_some_and(|one| one.ready);
        gauges.connected.set(is_ready.into());
        gauges.read.set(committed + self.pending.len() as u64);
        gauges.count_at_broker(&self.summary);
        if self.stopping {
            gauges.drains();
        }
        gauges.turn(now, committed, is_ready && self.pending.is_empty());
    }
}
