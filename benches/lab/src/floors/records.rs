//! The floor of records handed over one by one: a header and a payload, and nothing but the loop.
//!
//! As many bytes in as many lines as the byte ring's, written in place, published by a header that
//! is stored last, looked for at the header, made free by a head. What the ring adds is left out:
//! that a death at any step leaves whole records, that whoever sleeps is woken, that records have
//! lengths and tags, and that the other side may be broken.
//!
//! # Invariants
//! 1. The space from head to the end of the written is the receiver's, the rest is the sender's.
//! 2. The header behind what is written is 0 before the header in front of it is stored.
//! 3. All records are of one length, and the space is a multiple of it.
//! 4. The space is inside the memory, and an offset is that of a record in it.

use core::sync::atomic::{AtomicU64, Ordering};
use std::path::Path;

use crate::memory::Memory;
use crate::payload::Payload;
use crate::transport::{Cannot, Place, Receive, Send, Transport};
use crate::work::Work;

/// The head has the first page to itself.
const SPACE: usize = 4096;
const HEADER: usize = 8;
/// What a header says that is not 0.
const RECORD: u64 = 1;

/// Records with headers, between two.
#[derive(Clone, Copy, Debug)]
pub struct Records;

/// One end of them.
#[derive(Debug)]
pub struct End<'l> {
    memory: &'l Memory,
    /// Bytes written, or read, since the beginning.
    position: u64,
    /// Where that is in the space.
    offset: usize,
    /// The sender's: what the head was at its last look.
    head: u64,
    span: usize,
    space: usize,
}

fn span_of(payload: usize) -> usize {
    payload.next_multiple_of(8) + HEADER
}

/// As much as a ring of that many records takes, which is a power of two, but whole records; and
/// one more than fit, for the header behind the last one.
fn space_of(work: &Work) -> usize {
    let span = span_of(work.payload);
    let ring = (work.capacity * span).next_power_of_two();
    ring.max((work.capacity + 1) * span) / span * span
}

impl<'l> End<'l> {
    fn new(memory: &'l Memory, work: &Work) -> Self {
        let span = span_of(work.payload);
        assert!(SPACE + space_of(work) <= memory.bytes(), "another work's");
        Self {
            memory,
            position: 0,
            offset: 0,
            head: 0,
            span,
            space: space_of(work),
        }
    }

    /// Where the record behind the one at `offset` lies.
    #[inline(always)]
    fn behind(&self, offset: usize) -> usize {
        let next = offset + self.span;
        if next == self.space { 0 } else { next }
    }

    #[inline(always)]
    fn store_header(&self, offset: usize, header: u64, order: Ordering) {
        self.header(offset).store(header, order);
    }

    #[inline(always)]
    fn header(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: INV-4; records begin at multiples of 8.
        unsafe { self.memory.word_unchecked(SPACE + offset) }
    }

    #[inline(always)]
    fn released(&self) -> &AtomicU64 {
        // SAFETY: the first word of the memory, which has more than a page.
        unsafe { self.memory.word_unchecked(0) }
    }

    /// Where the payload of the record at the offset lies.
    #[inline(always)]
    fn payload(&self, bytes: usize) -> *mut u8 {
        assert!(bytes <= self.span - HEADER, "another work's");
        // SAFETY: INV-4.
        unsafe { self.memory.at_unchecked(SPACE + self.offset + HEADER) }
    }

    /// Whether `records` more fit, and the header behind them.
    #[inline(always)]
    fn has_room(&mut self, records: usize) -> bool {
        let end = self.position + (records as u64 + 1) * self.span as u64;
        if end - self.head > self.space as u64 {
            self.head = self.released().load(Ordering::Acquire);
        }
        end - self.head <= self.space as u64
    }

    #[inline(always)]
    fn write(&mut self, payload: impl Payload, number: u64) {
        let bytes = payload.bytes();
        let start = self.payload(bytes);
        // SAFETY: inside the mapping, initialised; the space is ours, for there was room (INV-1).
        let record = unsafe { core::slice::from_raw_parts_mut(start, bytes) };
        payload.fill(record, number);
        self.offset = self.behind(self.offset);
        self.position += self.span as u64;
    }

    #[inline(always)]
    fn read<P: Payload>(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        if self.header(self.offset).load(Ordering::Acquire) == 0 {
            return false;
        }
        let bytes = payload.bytes();
        let start = self.payload(bytes);
        // SAFETY: inside the mapping, initialised; the space is ours as its header says (INV-1).
        let record = unsafe { core::slice::from_raw_parts(start, bytes) };
        seen(payload.check(record));
        self.offset = self.behind(self.offset);
        self.position += self.span as u64;
        true
    }

    #[inline(always)]
    fn release(&self) {
        self.released().store(self.position, Ordering::Release);
    }
}

impl<P: Payload> Transport<P> for Records {
    type Link = Memory;
    type Sender<'l> = End<'l>;
    type Receiver<'l> = End<'l>;

    fn name(&self) -> String {
        "bare records".to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Memory, Cannot> {
        if work.producers + work.consumers != 2 {
            return Err(Cannot("it is for one sender and one receiver".to_owned()));
        }
        let bytes = SPACE + space_of(work);
        Memory::new(bytes).map_err(|error| Cannot(error.to_string()))
    }

    fn sender<'l>(&'l self, memory: &'l Memory, work: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End::new(memory, work))
    }

    fn receiver<'l>(
        &'l self,
        memory: &'l Memory,
        work: &Work,
        _: usize,
    ) -> Result<End<'l>, Cannot> {
        Ok(End::new(memory, work))
    }
}

impl<P: Payload> Send<P> for End<'_> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        if !self.has_room(1) {
            return false;
        }
        let first = self.offset;
        self.write(payload, number);
        self.store_header(self.offset, 0, Ordering::Relaxed);
        self.store_header(first, RECORD, Ordering::Release);
        true
    }

    /// The first header is stored last.
    #[inline(always)]
    fn try_send_batch(&mut self, payload: P, number: u64, count: usize) -> usize {
        if count == 0 || !self.has_room(1) {
            return 0;
        }
        let first = self.offset;
        let mut sent = 0;
        while sent < count && self.has_room(1) {
            if sent > 0 {
                self.store_header(self.offset, RECORD, Ordering::Relaxed);
            }
            self.write(payload, number + sent as u64);
            sent += 1;
        }
        self.store_header(self.offset, 0, Ordering::Relaxed);
        self.store_header(first, RECORD, Ordering::Release);
        sent
    }
}

impl<P: Payload> Receive<P> for End<'_> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, seen: impl FnMut(Option<u64>)) -> bool {
        let was_there = self.read(payload, seen);
        if was_there {
            self.release();
        }
        was_there
    }

    #[inline(always)]
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        let mut count = 0;
        while count < max && self.read(payload, &mut seen) {
            count += 1;
        }
        if count > 0 {
            self.release();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Fixed;
    use crate::work::{Pattern, Waiting};

    #[test]
    fn records_come_in_order_and_never_more_than_there_is_room_for() {
        const RECORDS: usize = 7;
        let work = Work {
            pattern: Pattern::Stream,
            payload: 64,
            batch: 1,
            capacity: RECORDS,
            waiting: Waiting::Spin,
            producers: 1,
            consumers: 1,
        };
        let memory = Memory::new(SPACE + space_of(&work)).expect("room");
        let held = space_of(&work) / span_of(64) - 1;
        assert!(held >= RECORDS);
        let (mut tx, mut rx) = (End::new(&memory, &work), End::new(&memory, &work));
        let payload = Fixed::<8>;
        let (mut sent, mut read) = (0, 0);
        for batch in [1, 3, 9, 2, 9, 9, 1] {
            sent += match batch {
                1 => usize::from(tx.try_send(payload, sent as u64)),
                batch => tx.try_send_batch(payload, sent as u64, batch),
            };
            assert!(sent - read <= held, "the header behind needs room too");
            let most = (sent - read).div_ceil(2);
            let count = rx.try_receive_batch(payload, most, |number| {
                assert_eq!(number, Some(read as u64));
                read += 1;
            });
            assert_eq!(count, most);
        }
        while rx.try_receive(payload, |number| assert_eq!(number, Some(read as u64))) {
            read += 1;
        }
        assert_eq!(read, sent);
        assert_eq!(tx.try_send_batch(payload, 0, 2 * held), held);
        assert!(!tx.try_send(payload, 0), "full");
    }
}
