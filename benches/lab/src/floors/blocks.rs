//! The floor of a stream: records written into blocks of 32 KiB, with a flag for each block.
//!
//! What is left when nothing is done for a record but writing its bytes on one side and reading
//! them on the other. A record longer than that has a block of its own: the floor is `memcpy`.
//!
//! # Invariants
//! 1. A block is the sender's while its flag is 0, and the receiver's otherwise; the flag is the
//!    number of its records. Each stores only when it gives the block away.
//! 2. One sender and one receiver go through the blocks in turn.

use core::sync::atomic::Ordering;
use std::path::Path;

use crate::memory::Memory;
use crate::payload::{LAST, Payload};
use crate::transport::{Cannot, Place, Receive, Send, Transport};
use crate::work::Work;

const BLOCK_BYTES: usize = 32 * 1024;
/// A mebibyte in all, as the rings have: with less both wait more often for each other.
const BLOCKS: usize = 32;
/// From flag to flag: two lines each, as neighbours are fetched together.
const FLAG_STRIDE: usize = 128;
const FLAGS: usize = 4096;

/// How many records of a length go into a block.
#[must_use]
pub fn records_in_block(payload: usize) -> usize {
    (BLOCK_BYTES / payload).max(1)
}

/// Blocks of records.
#[derive(Clone, Copy, Debug)]
pub struct Blocks;

/// One end of them.
#[derive(Debug)]
pub struct End<'l> {
    memory: &'l Memory,
    /// Which block is in use.
    block: usize,
    /// Records of it that are written, or read.
    used: usize,
}

impl<'l> End<'l> {
    fn new(memory: &'l Memory) -> Self {
        Self {
            memory,
            block: 0,
            used: 0,
        }
    }

    #[inline]
    fn flag(&self) -> u64 {
        self.memory
            .word(self.block * FLAG_STRIDE)
            .load(Ordering::Acquire)
    }

    #[inline]
    fn give_away(&mut self, flag: u64) {
        let word = self.memory.word(self.block * FLAG_STRIDE);
        word.store(flag, Ordering::Release);
        self.block = (self.block + 1) % BLOCKS;
        self.used = 0;
    }

    /// Where `count` records of the block begin.
    #[inline]
    fn start(&self, payload: usize, count: usize) -> *mut u8 {
        let block = FLAGS + self.block * block_bytes(payload);
        self.memory.at(block + self.used * payload, count * payload)
    }
}

fn block_bytes(payload: usize) -> usize {
    (records_in_block(payload) * payload).next_multiple_of(64)
}

impl<P: Payload> Transport<P> for Blocks {
    type Link = Memory;
    type Sender<'l> = End<'l>;
    type Receiver<'l> = End<'l>;

    fn name(&self) -> String {
        "block copy".to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Memory, Cannot> {
        if work.producers + work.consumers != 2 {
            return Err(Cannot(
                "blocks are for one sender and one receiver".to_owned(),
            ));
        }
        let bytes = FLAGS + BLOCKS * block_bytes(work.payload);
        Memory::new(bytes).map_err(|error| Cannot(error.to_string()))
    }

    fn sender<'l>(&'l self, memory: &'l Memory, _: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End::new(memory))
    }

    fn receiver<'l>(&'l self, memory: &'l Memory, _: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End::new(memory))
    }
}

impl<P: Payload> Send<P> for End<'_> {
    #[inline]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        self.try_send_batch(payload, number, 1) == 1
    }

    /// Writes records into what is left of the block, which is given away when it is full, or when
    /// a last record is in it.
    #[inline]
    fn try_send_batch(&mut self, payload: P, first: u64, count: usize) -> usize {
        if self.used == 0 && self.flag() != 0 {
            return 0;
        }
        let (bytes, room) = (payload.bytes(), records_in_block(payload.bytes()));
        let count = count.min(room - self.used);
        let start = self.start(bytes, count);
        // SAFETY: inside the mapping, initialised; the block is ours as its flag is 0 (INV-1).
        let records = unsafe { core::slice::from_raw_parts_mut(start, count * bytes) };
        for (nth, record) in records.chunks_exact_mut(bytes).enumerate() {
            payload.fill(record, first + nth as u64);
        }
        self.used += count;
        if self.used == room || first >= LAST - 1 {
            self.give_away(self.used as u64);
        }
        count
    }
}

impl<P: Payload> Receive<P> for End<'_> {
    #[inline]
    fn try_receive(&mut self, payload: P, seen: impl FnMut(Option<u64>)) -> bool {
        self.try_receive_batch(payload, 1, seen) == 1
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "records of a block")]
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        let there = self.flag() as usize;
        let count = max.min(there - self.used);
        if count == 0 {
            return 0;
        }
        let bytes = payload.bytes();
        let start = self.start(bytes, count);
        // SAFETY: inside the mapping, initialised; the block is ours as its flag says (INV-1).
        let records = unsafe { core::slice::from_raw_parts(start, count * bytes) };
        for record in records.chunks_exact(bytes) {
            seen(payload.check(record));
        }
        self.used += count;
        if self.used == there {
            self.give_away(0);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Fixed;

    #[test]
    fn a_block_goes_away_when_it_is_full_or_the_last_record_is_in_it() {
        let memory = Memory::new(FLAGS + BLOCKS * block_bytes(64)).expect("room");
        let (mut tx, mut rx) = (End::new(&memory), End::new(&memory));
        let payload = Fixed::<8>;
        let room = records_in_block(64);
        let mut count = || rx.try_receive_batch(payload, 10 * room, |_| {});
        assert_eq!(tx.try_send_batch(payload, 0, room - 1), room - 1);
        assert_eq!(count(), 0, "half a block");
        assert_eq!(tx.try_send_batch(payload, 7, 10), 1);
        assert_eq!(count(), room);
        assert!(tx.try_send(payload, 8) && tx.try_send(payload, LAST));
        assert_eq!(count(), 2);
        let sent = (0..=BLOCKS).map(|_| tx.try_send_batch(payload, 0, room));
        assert_eq!(
            sent.sum::<usize>(),
            BLOCKS * room,
            "then all of them are full"
        );
    }
}
