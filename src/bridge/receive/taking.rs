//! One frame after the other: what it says, and what of it is committed.

use std::time::Duration;

use crate::bridge::error::{BridgeError, Fault, LinkError};
use crate::bridge::frame::{Code, Frame, Welcome};
use crate::bridge::intake::check_records;
use crate::bridge::report::Event;
use crate::bridge::subscriber::beat;

use super::Receiving;

/// What a frame leads to.
pub(super) enum Turn {
    Next,
    /// The ring is full.
    Full,
    Nothing,
}

impl Receiving<'_> {
    /// Deals with the frame at hand.
    pub(super) fn take_frame(&mut self) -> Result<Turn, Fault> {
        let Some(session) = &mut self.session else {
            return Ok(Turn::Nothing);
        };
        let welcomed = session.welcomed;
        let Some(frame) = session.link.frame()? else {
            return Ok(Turn::Nothing);
        };
        match frame {
            Frame::Welcome(welcome) if !welcomed => {
                session.link.pass();
                self.welcome(&welcome)?;
                return Ok(Turn::Next);
            }
            Frame::Refusal { code, text } => {
                let text = text.to_owned();
                return Err(self.refused(code, text));
            }
            _ if !welcomed => {
                return Err(LinkError::Nonsense("does not begin with a welcome").into());
            }
            Frame::Heartbeat => {}
            Frame::Gap { from, to } => {
                if from != self.intake.next() || to < from {
                    return Err(LinkError::Nonsense("tells of a gap elsewhere").into());
                }
                self.intake.skip_to(to);
                self.summary.gaps += 1;
                self.summary.gap_records += to - from;
                let name = &self.name;
                (self.around.report)(&Event::Gap { name, from, to });
            }
            Frame::Data {
                first,
                count,
                records,
            } => {
                let (bytes, done) = session.done;
                if bytes == 0 {
                    check_records(records, count)?;
                }
                if first.wrapping_add(done) != self.intake.next() {
                    return Err(LinkError::Nonsense("sends other records than the next").into());
                }
                if first.saturating_add(count.into()) > session.credit {
                    return Err(LinkError::Nonsense("sends more than it may").into());
                }
                let taken = self.intake.commit(&records[bytes..])?;
                self.summary.confirmed += taken.records;
                if taken.records > 0 && core::mem::take(&mut session.changes) {
                    self.accept = false;
                }
                let bytes = bytes + taken.bytes;
                session.is_full = taken.is_full;
                if bytes < records.len() {
                    session.done = (bytes, done + taken.records);
                    return Ok(Turn::Full);
                }
                session.done = (0, 0);
            }
            Frame::Drain { end, closed } => {
                if !closed {
                    return Err(LinkError::HungUp.into());
                }
                if end != self.intake.next() {
                    return Err(LinkError::Nonsense("ends before its records do").into());
                }
                self.intake.close();
                session.over = true;
            }
            _ => return Err(LinkError::Nonsense("says what only a receiver says").into()),
        }
        let Some(session) = &mut self.session else {
            return Ok(Turn::Nothing);
        };
        session.link.pass();
        if session.over {
            session.link.say(&Frame::Drained);
        }
        Ok(Turn::Next)
    }

    fn welcome(&mut self, welcome: &Welcome) -> Result<(), Fault> {
        let held = self.intake.stream();
        let mut changes = false;
        if held != Some(welcome.stream) {
            let is_same_ring = held.is_some_and(|held| {
                (held.ring_id, held.generation)
                    == (welcome.stream.ring_id, welcome.stream.generation)
            });
            if let Some(held) = held.filter(|_| !is_same_ring && !self.accept) {
                let peer = self.peer();
                let sent = welcome.stream;
                return Err(Fault::Bridge(BridgeError::OtherStream { peer, held, sent }));
            }
            changes = held.is_some() && !is_same_ring;
            self.intake.begin(welcome.stream, welcome.next);
        } else if self.intake.next() > welcome.next {
            return Err(LinkError::Nonsense("goes on before what is held").into());
        }
        let next = self.intake.next();
        self.summary.connections += 1;
        self.around.backoff.succeeded();
        let silence = self.around.settings.silence;
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        (session.welcomed, session.changes) = (true, changes);
        let theirs = Duration::from_millis(welcome.silence_ms.into());
        session.beat = beat(silence, theirs);
        // With the first ack the sender knows our window, wherever it began.
        session.acked = next.wrapping_sub(1);
        let (peer, name) = (session.link.peer(), &*self.name);
        (self.around.report)(&Event::Connected { peer, name, next });
        Ok(())
    }

    fn refused(&self, code: Code, text: String) -> Fault {
        if code.is_final() {
            let peer = self.peer();
            return Fault::Bridge(BridgeError::Refused { peer, code, text });
        }
        LinkError::Refused { code, text }.into()
    }
}
