//! What each subscriber is sent next, and from where in the ring.

use std::collections::VecDeque;
use std::time::Instant;

use crate::bridge::clock::now;
use crate::bridge::error::{BridgeError, Fault, LinkError};
use crate::bridge::feed::{Feed, Read};
use crate::bridge::frame::{Code, first_record};
use crate::bridge::subscriber::{Drain, Part, Session, Subscriber};
use crate::bridge::url::Slow;

use super::{Numbered, Sending};

impl<F: Feed> Sending<'_, F> {
    /// Reads one lot more. False if there is none.
    pub(super) fn read_lot(&mut self) -> Result<bool, BridgeError> {
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
    pub(super) fn serve(&mut self) -> Result<bool, BridgeError> {
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
        let is_alone = self.subscribers.iter().all(|one| one.session.is_none());
        let reads = self.lots.is_empty() || self.subscribers.iter().any(Subscriber::has_lapsed);
        if is_alone && reads && !self.is_enough() {
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
        session.sent.push_back((next + count, now()));
        let one = &mut self.subscribers[number];
        if in_flight == 0 {
            // It owed nothing before.
            one.progress = now();
        }
        let gauges = self.around.gauges;
        gauges.published.add(count);
        gauges
            .republished
            .add(count.min(one.reached.saturating_sub(next)));
        one.reached = one.reached.max(next + count);
        Ok(Step::Moved)
    }

    /// Whether all that is to be sent before the end was read.
    fn is_enough(&self) -> bool {
        self.target.is_some_and(|target| self.feed.next() >= target)
    }

    /// Bytes of all records before that one, to the lot.
    pub(super) fn bytes_before(&self, number: u64) -> u64 {
        find(&self.lots, number).map_or(self.bytes_read, |lot| lot.before)
    }
}

enum Step {
    Moved,
    Rest,
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
