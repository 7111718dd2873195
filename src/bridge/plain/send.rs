//! The driver from a ring to a plain peer.
//!
//! # Invariants
//! 1. A record is released when the kernel has taken its last byte, and not before: what a
//!    connection leaves of a lot begins the next one.

use std::collections::VecDeque;
use std::time::Duration;

use super::Plain;
use crate::bridge::around::{Around, Driver, drive};
use crate::bridge::clock::now;
use crate::bridge::error::BridgeError;
use crate::bridge::feed::{Feed, Read};
use crate::bridge::frame::first_record;
use crate::bridge::report::{Event, Summary};
use crate::bridge::url::Framing;

struct Sending<'b, F: Feed> {
    plain: Plain<'b>,
    feed: F,
    pending: Option<Pending<F::Lot>>,
    /// There was nothing more to read.
    hungry: bool,
    closed: bool,
    /// Everything before it is to be sent before this ends, once it is to.
    target: Option<u64>,
}

/// A lot that is being sent.
struct Pending<L> {
    lot: L,
    /// Its records in the peer's framing.
    bytes: Vec<u8>,
    /// Where each record that is not released ends there, and in the lot as it was read.
    ends: VecDeque<(usize, usize)>,
    /// Where the first of them begins there, and in the lot.
    start: (usize, usize),
}

/// Sends a ring's records as plain ones.
pub(in crate::bridge) fn run<F: Feed>(feed: F, around: Around<'_>) -> Result<Summary, BridgeError> {
    drive(Sending {
        plain: Plain::new(around)?,
        feed,
        pending: None,
        hungry: true,
        closed: false,
        target: None,
    })
}

impl<F: Feed> Driver for Sending<'_, F> {
    fn turn(&mut self, timeout: Duration) -> Result<bool, BridgeError> {
        let ring = if self.hungry {
            Some(self.feed.descriptor()?)
        } else {
            None
        };
        let woken = self.plain.wait(ring, true, timeout)?;
        if woken.stops {
            let target = self.feed.committed().max(self.feed.next());
            let unconfirmed = target - self.position();
            self.target = Some(target);
            (self.plain.around.report)(&Event::Draining { unconfirmed });
        }
        if woken.readable
            && let Some(link) = &mut self.plain.link
        {
            // What it says is of no interest, but that it is still there.
            let heard = link.read(woken.at);
            link.take(usize::MAX);
            if let Err(why) = heard {
                self.plain.hang_up(&why);
            }
        }
        let moved = self.send()? || self.plain.miss(woken.at);
        self.tell_figures();
        Ok(moved)
    }

    fn is_done(&mut self) -> Result<Option<Summary>, BridgeError> {
        let is_enough = self.target.is_some_and(|target| self.position() >= target);
        let is_over = self.closed && self.pending.is_none();
        if !is_enough && !is_over && !self.plain.is_late() {
            return Ok(None);
        }
        self.plain.summary.all_confirmed = is_enough || is_over;
        self.plain.summary.ended = is_over;
        Ok(Some(self.plain.summary))
    }

    fn arm(&mut self) -> Result<(), BridgeError> {
        self.feed.arm()
    }

    fn until_next(&self) -> Duration {
        self.plain.until_next()
    }
}

impl<F: Feed> Sending<'_, F> {
    /// Number of the first record that is not released.
    fn position(&self) -> u64 {
        let pending = self.pending.as_ref();
        self.feed.next() - pending.map_or(0, |pending| pending.ends.len() as u64)
    }

    /// Sends what there is, of one lot at most, and releases what the kernel has taken of it.
    fn send(&mut self) -> Result<bool, BridgeError> {
        self.hungry = false;
        if self.plain.link.is_none() || !self.read()? {
            return Ok(false);
        }
        let (Some(link), Some(pending)) = (&mut self.plain.link, &mut self.pending) else {
            return Ok(false);
        };
        if !link.is_lent() {
            // Behind the records that another connection has taken.
            link.begin_plain(pending.bytes.len() - pending.start.0);
        }
        let written = link.write(&pending.bytes, now());
        let taken = pending.bytes.len() - link.lent();
        let records = pending.release(taken, &mut self.feed);
        self.plain.summary.confirmed += records;
        if pending.ends.is_empty()
            && let Some(pending) = self.pending.take()
        {
            self.feed.release(pending.lot);
        }
        match written {
            Ok(any) => Ok(any),
            Err(why) => {
                self.plain.hang_up(&why);
                Ok(true)
            }
        }
    }

    /// Reads a lot unless there is one. False if there is none.
    fn read(&mut self) -> Result<bool, BridgeError> {
        let is_enough = self.target.is_some_and(|target| self.feed.next() >= target);
        if self.pending.is_some() || is_enough {
            return Ok(self.pending.is_some());
        }
        match self.feed.read(self.plain.around.settings.batch_bytes)? {
            Read::Lot { lot, .. } => {
                let framing = self.plain.around.socket.framing;
                self.pending = Some(Pending::new(lot, framing, &self.feed)?);
                Ok(true)
            }
            Read::Empty => {
                self.hungry = true;
                Ok(false)
            }
            Read::Closed => {
                (self.hungry, self.closed) = (true, true);
                Ok(false)
            }
        }
    }

    fn tell_figures(&self) {
        let position = self.position();
        let gauges = self.plain.around.gauges;
        let in_flight = self.feed.next() - position;
        let (records, bytes) = self.feed.lag(position);
        gauges.lag_bytes.set(bytes);
        gauges.lag_records.set(records);
        gauges.read.set(self.feed.next());
        gauges.in_flight.set(in_flight);
        gauges
            .published
            .set(self.plain.summary.confirmed + in_flight);
        self.plain.tell_figures(position, records == 0);
    }
}

impl<L> Pending<L> {
    fn new<F: Feed<Lot = L>>(lot: L, framing: Framing, feed: &F) -> Result<Self, BridgeError> {
        let (mut bytes, mut ends) = (Vec::new(), VecDeque::new());
        let records = feed.bytes(&lot);
        let mut at = 0;
        while at < records.len() {
            let Ok(record) = first_record(&records[at..]) else {
                return Err(BridgeError::Ends("the ring's records do not add up"));
            };
            if framing == Framing::Len32 {
                let len = u32::try_from(record.payload.len()).unwrap_or(u32::MAX);
                bytes.extend(len.to_le_bytes());
            }
            bytes.extend(record.payload);
            if framing == Framing::Lines {
                bytes.push(b'\n');
            }
            at += record.span;
            ends.push_back((bytes.len(), at));
        }
        Ok(Self {
            lot,
            bytes,
            ends,
            start: (0, 0),
        })
    }

    /// Releases the records of which all bytes before `taken` are. Returns how many these were.
    fn release<F: Feed<Lot = L>>(&mut self, taken: usize, feed: &mut F) -> u64 {
        let (_, before) = self.start;
        let whole = self.ends.partition_point(|(end, _)| *end <= taken);
        let Some(last) = self.ends.drain(..whole).next_back() else {
            return 0;
        };
        self.start = last;
        let bytes = last.1 - before;
        feed.release_first(&mut self.lot, bytes, whole as u64);
        whole as u64
    }
}
