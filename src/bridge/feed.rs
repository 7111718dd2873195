//! A ring as the source of a bridge: records in lots, numbered, held until they are released.
//!
//! # Invariants
//! 1. A lot's bytes stay as they are until it is given to [`Feed::release`], or the feed is gone:
//!    then all of it is delivered again.
//! 2. Records are numbered without gaps in the order in which they are read.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use super::error::BridgeError;
use super::frame::{StreamId, put_record};
use super::roster;
use crate::protocol::{Attachment, byte_ring};
use crate::{TryReadError, mpmc, spsc};

/// What a look for records finds.
pub(super) enum Read<L> {
    /// So many, which are this.
    Lot { count: u64, lot: L },
    /// None at the moment.
    Empty,
    /// None ever.
    Closed,
}

/// A ring that is read.
pub(super) trait Feed {
    /// Records that were read together.
    type Lot;

    fn stream(&self) -> StreamId;
    fn largest_record(&self) -> u64;
    /// Number of the record that is read next.
    fn next(&self) -> u64;
    /// Number of the first record that is not there yet, as far as can be told.
    fn committed(&self) -> u64;
    /// Records and bytes that are not released, read or not, as far as can be told.
    fn lag(&self, released: u64) -> (u64, u64);
    /// Bytes that are not released, read or not.
    fn backlog_bytes(&self) -> u64;
    fn capacity_bytes(&self) -> u64;
    /// Reads what is there, up to `max_bytes` unless one record is longer.
    fn read(&mut self, max_bytes: u64) -> Result<Read<Self::Lot>, BridgeError>;
    /// A lot's records as they go over the wire.
    fn bytes<'f>(&'f self, lot: &'f Self::Lot) -> &'f [u8];
    /// Gives back the oldest lot.
    fn release(&mut self, lot: Self::Lot);
    /// Gives back the first `records` of the oldest lot that are left, if that can be without
    /// moving the others' bytes; else they go with the lot. Whether it has.
    fn release_some(&mut self, lot: &mut Self::Lot, records: u64) -> bool;
    /// Gives back the first `records` of the oldest lot, which have `bytes`: it is what is left.
    fn release_first(&mut self, lot: &mut Self::Lot, bytes: usize, records: u64);
    /// Subscribers that somebody wrote down earlier.
    fn names(&self) -> Vec<String>;
    /// Writes one down, once; false if there is no room.
    fn remember(&self, name: &str) -> bool;
    fn forget(&self, name: &str);
    /// What becomes readable when there may be a record, after [`arm`](Self::arm).
    fn descriptor(&self) -> Result<BorrowedFd<'_>, BridgeError>;
    /// Fails if the ring is not there any more.
    fn arm(&self) -> Result<(), BridgeError>;
}

fn failed<L>(error: TryReadError) -> Result<Read<L>, BridgeError> {
    Err(match error {
        TryReadError::Empty => return Ok(Read::Empty),
        TryReadError::Closed => return Ok(Read::Closed),
        TryReadError::Forked => BridgeError::Forked,
        TryReadError::CutShort(cut) => BridgeError::Lost(crate::Loss::CutShort(cut)),
        TryReadError::Damaged(damage) => BridgeError::Damaged(damage),
    })
}

/// A byte ring: its records lie in it as they go over the wire.
#[derive(Debug)]
pub(super) struct Bytes {
    consumer: spsc::Consumer,
    next: u64,
}

impl Bytes {
    pub(super) fn new(mut consumer: spsc::Consumer) -> Self {
        consumer.rewind();
        let next = consumer.released_records();
        Self { consumer, next }
    }
}

impl Feed for Bytes {
    type Lot = spsc::Run;

    fn stream(&self) -> StreamId {
        let mapped = self.consumer.participant().attachment();
        StreamId {
            ring_id: mapped.ring_id(),
            generation: mapped.generation(),
            life: 0,
        }
    }

    fn largest_record(&self) -> u64 {
        self.consumer.max_record() as u64
    }

    fn next(&self) -> u64 {
        self.next
    }

    fn committed(&self) -> u64 {
        let participant = self.consumer.participant();
        let crate::protocol::recovery::Shape::Bytes(shape) = participant.attachment().shape()
        else {
            return self.next;
        };
        byte_ring::committed_end(shape, participant.store()).records
    }

    fn lag(&self, released: u64) -> (u64, u64) {
        // The two may be read at different moments, while a producer is at work.
        let records = self.committed().saturating_sub(released);
        (records, self.consumer.backlog())
    }

    fn backlog_bytes(&self) -> u64 {
        self.consumer.backlog()
    }

    fn capacity_bytes(&self) -> u64 {
        self.consumer.capacity()
    }

    fn read(&mut self, max_bytes: u64) -> Result<Read<spsc::Run>, BridgeError> {
        match self.consumer.try_peek_run(max_bytes) {
            Ok(lot) => {
                self.next = lot.end().records();
                let count = self.next.wrapping_sub(lot.start().records());
                Ok(Read::Lot { count, lot })
            }
            Err(error) => failed(error),
        }
    }

    fn bytes<'f>(&'f self, lot: &'f spsc::Run) -> &'f [u8] {
        self.consumer.run_bytes(lot)
    }

    fn release(&mut self, lot: spsc::Run) {
        self.consumer.release_to(lot.end());
    }

    fn release_some(&mut self, _lot: &mut spsc::Run, _records: u64) -> bool {
        false
    }

    fn release_first(&mut self, lot: &mut spsc::Run, bytes: usize, records: u64) {
        *lot = lot.behind(bytes as u64, records);
        self.consumer.release_to(lot.start());
    }

    fn names(&self) -> Vec<String> {
        roster::names(self.consumer.participant().store())
    }

    fn remember(&self, name: &str) -> bool {
        roster::add(self.consumer.participant().store(), name)
    }

    fn forget(&self, name: &str) {
        roster::remove(self.consumer.participant().store(), name);
    }

    fn descriptor(&self) -> Result<BorrowedFd<'_>, BridgeError> {
        self.consumer.descriptor().map_err(BridgeError::unwatched)
    }

    fn arm(&self) -> Result<(), BridgeError> {
        BridgeError::armed(self.consumer.arm(), self.consumer.loss())
    }
}

/// A slot ring: its records are copied, and their slots are held.
#[derive(Debug)]
pub(super) struct Slots<'c> {
    consumer: &'c mpmc::Consumer,
    next: u64,
    /// Who numbers these records: this very feed.
    life: u64,
    held: u64,
}

/// Records and the slots in which they lie.
#[derive(Debug)]
pub(super) struct Held<'c> {
    bytes: Vec<u8>,
    records: VecDeque<mpmc::Record<'c>>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for record in self.records.drain(..) {
            record.requeue();
        }
    }
}

impl<'c> Slots<'c> {
    pub(super) fn new(consumer: &'c mpmc::Consumer) -> Self {
        Self {
            consumer,
            next: 0,
            life: fastrand::u64(1..),
            held: 0,
        }
    }

    /// Others want some too, and producers the space.
    fn fair(&self) -> u64 {
        (self.consumer.slots() / 2).max(1)
    }
}

impl<'c> Feed for Slots<'c> {
    type Lot = Held<'c>;

    fn stream(&self) -> StreamId {
        let mapped = self.consumer.participant().attachment();
        StreamId {
            ring_id: mapped.ring_id(),
            generation: mapped.generation(),
            life: self.life,
        }
    }

    fn largest_record(&self) -> u64 {
        self.consumer.max_record() as u64
    }

    fn next(&self) -> u64 {
        self.next
    }

    fn committed(&self) -> u64 {
        // What it has not taken may as well be another consumer's.
        self.next
    }

    fn lag(&self, released: u64) -> (u64, u64) {
        // The ring's head is behind what is claimed, though it is not released yet.
        let records = self.consumer.backlog() + self.next.saturating_sub(released);
        (records, records * self.largest_record())
    }

    fn backlog_bytes(&self) -> u64 {
        self.consumer.backlog() * self.largest_record()
    }

    fn capacity_bytes(&self) -> u64 {
        self.consumer.slots() * self.largest_record()
    }

    fn read(&mut self, max_bytes: u64) -> Result<Read<Held<'c>>, BridgeError> {
        let mut lot = Held {
            bytes: Vec::new(),
            records: VecDeque::new(),
        };
        while self.held < self.fair() && (lot.bytes.len() as u64) < max_bytes {
            match self.consumer.try_read() {
                Ok(record) => {
                    put_record(&mut lot.bytes, record.tag(), &record);
                    lot.records.push_back(record);
                    self.held += 1;
                }
                Err(error) if lot.records.is_empty() => return failed(error),
                Err(_) => break,
            }
        }
        let count = lot.records.len() as u64;
        if count == 0 {
            return Ok(Read::Empty);
        }
        self.next += count;
        Ok(Read::Lot { count, lot })
    }

    fn bytes<'f>(&'f self, lot: &'f Held<'c>) -> &'f [u8] {
        &lot.bytes
    }

    fn release(&mut self, mut lot: Held<'c>) {
        let rest = lot.records.len() as u64;
        self.release_first(&mut lot, 0, rest);
    }

    fn release_some(&mut self, lot: &mut Held<'c>, records: u64) -> bool {
        // Its bytes are a copy.
        self.release_first(lot, 0, records);
        true
    }

    fn release_first(&mut self, lot: &mut Held<'c>, _bytes: usize, records: u64) {
        self.held -= records;
        for _ in 0..records {
            if let Some(record) = lot.records.pop_front() {
                record.release();
            }
        }
    }

    fn names(&self) -> Vec<String> {
        // Several bridges may share such a ring: none of them speaks for the file.
        Vec::new()
    }

    fn remember(&self, _name: &str) -> bool {
        true
    }

    fn forget(&self, _name: &str) {}

    fn descriptor(&self) -> Result<BorrowedFd<'_>, BridgeError> {
        self.consumer.descriptor().map_err(BridgeError::unwatched)
    }

    fn arm(&self) -> Result<(), BridgeError> {
        BridgeError::armed(self.consumer.arm(), self.consumer.loss())
    }
}
