//! The floors of round trips: a word and the record behind it, written and read in place.
//!
//! Up to 56 bytes that is one cache line, with 64 bytes it is two. The word is stored last and
//! looked at first. [`Lines`] looks all the time; with [`Futex`] the word is a futex that both
//! processes share, the one wakes and the other sleeps, each time.
//!
//! # Invariants
//! 1. One record is under way at a time: a sender writes only after its last record was answered.
//!    So only round trips are possible, and no word says that there is room.

use core::sync::atomic::Ordering;
use std::path::Path;

use rustix::thread::futex;

use crate::memory::Memory;
use crate::payload::Payload;
use crate::transport::{Cannot, Place, Receive, Send, Transport};
use crate::work::{Pattern, Work};

/// A line, or as many as a record takes, written by one and read by the other.
pub type Lines = Word<false>;

/// The same, asleep in between.
pub type Futex = Word<true>;

/// A word that one stores and the other looks at, or sleeps on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Word<const SLEEPS: bool>;

/// One end of it.
#[derive(Debug)]
pub struct End<'l, const SLEEPS: bool> {
    memory: &'l Memory,
    count: u32,
}

/// Looks whether the slice is over at least this often.
const MOMENT: futex::Timespec = futex::Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

impl<P: Payload, const SLEEPS: bool> Transport<P> for Word<SLEEPS> {
    type Link = Memory;
    type Sender<'l> = End<'l, SLEEPS>;
    type Receiver<'l> = End<'l, SLEEPS>;

    fn name(&self) -> String {
        let name = if SLEEPS { "futex" } else { "cache line" };
        name.to_owned()
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

    fn sender<'l>(
        &'l self,
        memory: &'l Memory,
        _: &Work,
        _: usize,
    ) -> Result<End<'l, SLEEPS>, Cannot> {
        Ok(End { memory, count: 0 })
    }

    fn receiver<'l>(
        &'l self,
        memory: &'l Memory,
        _: &Work,
        _: usize,
    ) -> Result<End<'l, SLEEPS>, Cannot> {
        Ok(End { memory, count: 0 })
    }
}

impl<P: Payload, const SLEEPS: bool> Send<P> for End<'_, SLEEPS> {
    #[inline]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        let bytes = payload.bytes();
        let start = self.memory.at(8, bytes);
        // SAFETY: inside the mapping, initialised as zeroes; the other end does not look at it
        // before the word below is stored, and has answered what it found there before (INV-1).
        let record = unsafe { core::slice::from_raw_parts_mut(start, bytes) };
        payload.fill(record, number);
        self.count = self.count.wrapping_add(1);
        let word = self.memory.half(0);
        word.store(self.count, Ordering::Release);
        if SLEEPS {
            let _woken = futex::wake(word, futex::Flags::empty(), 1);
        }
        true
    }
}

impl<P: Payload, const SLEEPS: bool> Receive<P> for End<'_, SLEEPS> {
    #[inline]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let word = self.memory.half(0);
        if SLEEPS && word.load(Ordering::Acquire) == self.count {
            // Woken, too late to sleep, or a moment is over: the look below tells.
            let _why = futex::wait(word, futex::Flags::empty(), self.count, Some(&MOMENT));
        }
        if word.load(Ordering::Acquire) == self.count {
            return false;
        }
        self.count = self.count.wrapping_add(1);
        let bytes = payload.bytes();
        let start = self.memory.at(8, bytes);
        // SAFETY: inside the mapping, initialised as zeroes; the other end wrote it before the word
        // that was loaded, and does not write again before it is answered (INV-1).
        let record = unsafe { core::slice::from_raw_parts(start, bytes) };
        seen(payload.check(record));
        true
    }
}
