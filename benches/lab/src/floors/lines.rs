//! The floor of a round trip: a word and the record behind it, written and read in place.
//!
//! Up to 56 bytes that is one cache line, with 64 bytes it is two. The word is stored last and
//! looked at first.
//!
//! # Invariants
//! 1. One record is under way at a time: a sender writes only after its last record was answered.
//!    So only round trips are possible, and no word says that there is room.

use core::sync::atomic::Ordering;
use std::path::Path;

use crate::memory::Memory;
use crate::payload::Payload;
use crate::transport::{Cannot, Place, Receive, Send, Transport};
use crate::work::{Pattern, Work};

/// A line, or as many as a record takes, written by one and read by the other.
#[derive(Clone, Copy, Debug)]
pub struct Lines;

/// One end of them.
#[derive(Debug)]
pub struct End<'l> {
    memory: &'l Memory,
    count: u64,
}

impl<P: Payload> Transport<P> for Lines {
    type Link = Memory;
    type Sender<'l> = End<'l>;
    type Receiver<'l> = End<'l>;

    fn name(&self) -> String {
        "cache line".to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Memory, Cannot> {
        if work.pattern != Pattern::RoundTrip {
            return Err(Cannot("one record is under way at a time".to_owned()));
        }
        Memory::new(8 + work.payload).map_err(|error| Cannot(error.to_string()))
    }

    fn sender<'l>(&'l self, memory: &'l Memory, _: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End { memory, count: 0 })
    }

    fn receiver<'l>(&'l self, memory: &'l Memory, _: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End { memory, count: 0 })
    }
}

impl<P: Payload> Send<P> for End<'_> {
    #[inline]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        let bytes = payload.bytes();
        let start = self.memory.at(8, bytes);
        // SAFETY: inside the mapping, initialised as zeroes; the other end does not look at it
        // before the word below is stored, and has answered what it found there before (INV-1).
        let record = unsafe { core::slice::from_raw_parts_mut(start, bytes) };
        payload.fill(record, number);
        self.count += 1;
        self.memory.word(0).store(self.count, Ordering::Release);
        true
    }
}

impl<P: Payload> Receive<P> for End<'_> {
    #[inline]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        if self.memory.word(0).load(Ordering::Acquire) == self.count {
            return false;
        }
        self.count += 1;
        let bytes = payload.bytes();
        let start = self.memory.at(8, bytes);
        // SAFETY: inside the mapping, initialised as zeroes; the other end wrote it before the word
        // that was loaded, and does not write again before it is answered (INV-1).
        let record = unsafe { core::slice::from_raw_parts(start, bytes) };
        seen(payload.check(record));
        true
    }
}
