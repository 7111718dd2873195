//! One frame after the other: what it says, and what of it is committed.

use crate::bridge::error::{Fault, LinkError};
use crate::bridge::frame::Frame;
use crate::bridge::intake::check_records;
use crate::bridge::report::Event;

use super::Receiving;
use super::admission::refused;

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
        let Some(frame) = session.link.frame()? else {
            return Ok(Turn::Nothing);
        };
        match frame {
            Frame::Refusal { code, text } => {
                let text = text.to_owned();
                return Err(refused(session.link.peer(), code, text));
            }
            Frame::Heartbeat => {}
            Frame::Gap { from, to } => {
                if from != self.intake.next() || to < from {
                    return Err(LinkError::Nonsense("tells of a gap elsewhere").into());
                }
                self.intake.skip_to(to);
                self.summary.gaps += 1;
                self.summary.gap_records = self.summary.gap_records.saturating_add(to - from);
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
}
