//! The floor of many senders and many receivers: slots with words, an exchange and a store a side.
//!
//! As many bytes in as many lines as the slot ring's. Whoever wants a slot exchanges its word, so
//! that nobody else has it, and stores the word again when done: that is the least for a ring whose
//! claims say that they are taken. Each asks for the lines some slots further on, as the ring's
//! ends do, by the same hint. What the ring adds is left out: whose the claim is, what becomes of
//! it when that one dies, a record's length and tag, whether somebody sleeps.
//!
//! # Invariants
//! 1. A slot goes through FREE, WRITING, FULL and READING of each lap, and then to FREE of the next
//!    lap. Between two of these whoever exchanged the word has it.
//! 2. All ends take slots in order of position; one that finds a slot taken goes on to the next.
//! 3. All slots are inside the memory, whose first page has the hints.

use core::sync::atomic::{AtomicU64, Ordering};
use std::path::Path;

use annulus::prefetch_to_write;

use crate::memory::Memory;
use crate::payload::Payload;
use crate::transport::{Cannot, Place, Receive, Send, Transport};
use crate::work::Work;

const FREE: u64 = 0;
const FULL: u64 = 2;
/// A taken word is this much more than the one that was there.
const TAKEN: u64 = 1;
/// States of a lap.
const STATES: u64 = 4;

/// The word, and a second one for what a record says of itself.
const WORDS: usize = 16;
/// The hints have a page; two lines each, as neighbours are fetched together.
const SLOTS: usize = 4096;
const HINT_STRIDE: usize = 128;
/// Slots between one that is taken and one whose lines are asked for.
const AHEAD: u64 = 8;
/// An end tells the others every so often how far it is.
const TELLS: u64 = 16;

/// Slots with words, between many.
#[derive(Clone, Copy, Debug)]
pub struct Slots;

/// One end: a sender's waits for FREE slots, a receiver's for FULL ones.
#[derive(Debug)]
pub struct End<'l> {
    memory: &'l Memory,
    wants: u64,
    hint: usize,
    /// The next slot to be looked at, counted from the beginning.
    position: u64,
    /// A power of two.
    slots: u64,
    stride: usize,
}

fn slots_of(work: &Work) -> usize {
    work.capacity.next_power_of_two()
}

/// A slot begins with a line.
fn stride_of(payload: usize) -> usize {
    (WORDS + payload).next_multiple_of(64)
}

impl<'l> End<'l> {
    fn new(memory: &'l Memory, work: &Work, wants: u64) -> Self {
        let bytes = SLOTS + slots_of(work) * stride_of(work.payload);
        assert!(bytes <= memory.bytes(), "another work's");
        Self {
            memory,
            wants,
            hint: usize::from(wants == FULL) * HINT_STRIDE,
            position: 0,
            slots: slots_of(work) as u64,
            stride: stride_of(work.payload),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "below the number of slots")]
    #[inline(always)]
    fn offset(&self, position: u64) -> usize {
        SLOTS + (position & (self.slots - 1)) as usize * self.stride
    }

    /// Takes the next slot that is ready, if there is one: where it lies, and its word.
    #[inline(always)]
    fn take(&mut self) -> Option<(usize, u64)> {
        loop {
            let shift = self.slots.ilog2();
            let ready = (self.position >> shift) * STATES + self.wants;
            let offset = self.offset(self.position);
            let word = self.word(offset);
            let found = word.load(Ordering::Acquire);
            if found < ready {
                return None;
            }
            prefetch_to_write(self.word(self.offset(self.position + AHEAD)));
            let taken = ready + TAKEN;
            let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
            self.position += 1;
            let is_mine = found == ready
                && word
                    .compare_exchange(ready, taken, success, failure)
                    .is_ok();
            if is_mine {
                if self.position.is_multiple_of(TELLS) {
                    let hint = self.word(self.hint);
                    hint.store(self.position, Ordering::Relaxed);
                }
                return Some((offset, taken));
            }
            let hint = self.word(self.hint).load(Ordering::Relaxed);
            // Whoever told it has found everything before it taken.
            self.position = self.position.max(hint);
        }
    }

    #[inline(always)]
    fn give(&self, offset: usize, taken: u64) {
        self.word(offset).store(taken + 1, Ordering::Release);
    }

    /// The word of a slot, or a hint.
    #[inline(always)]
    fn word(&self, offset: usize) -> &'l AtomicU64 {
        // SAFETY: INV-3; a slot begins at a multiple of 64, a hint at one of 128.
        unsafe { self.memory.word_unchecked(offset) }
    }

    /// Where the payload of the slot at `offset` lies.
    #[inline(always)]
    fn payload(&self, offset: usize, bytes: usize) -> *mut u8 {
        assert!(bytes <= self.stride - WORDS, "another work's");
        // SAFETY: INV-3.
        unsafe { self.memory.at_unchecked(offset + WORDS) }
    }
}

impl<P: Payload> Transport<P> for Slots {
    type Link = Memory;
    type Sender<'l> = End<'l>;
    type Receiver<'l> = End<'l>;

    fn name(&self) -> String {
        "bare slots".to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Memory, Cannot> {
        let bytes = SLOTS + slots_of(work) * stride_of(work.payload);
        Memory::new(bytes).map_err(|error| Cannot(error.to_string()))
    }

    fn sender<'l>(&'l self, memory: &'l Memory, work: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End::new(memory, work, FREE))
    }

    fn receiver<'l>(
        &'l self,
        memory: &'l Memory,
        work: &Work,
        _: usize,
    ) -> Result<End<'l>, Cannot> {
        Ok(End::new(memory, work, FULL))
    }
}

impl<P: Payload> Send<P> for End<'_> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        let Some((offset, taken)) = self.take() else {
            return false;
        };
        let bytes = payload.bytes();
        let start = self.payload(offset, bytes);
        // SAFETY: inside the mapping, initialised; the slot is ours by the exchange (INV-1).
        let record = unsafe { core::slice::from_raw_parts_mut(start, bytes) };
        payload.fill(record, number);
        self.give(offset, taken);
        true
    }
}

impl<P: Payload> Receive<P> for End<'_> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Some((offset, taken)) = self.take() else {
            return false;
        };
        let bytes = payload.bytes();
        let start = self.payload(offset, bytes);
        // SAFETY: as above.
        let record = unsafe { core::slice::from_raw_parts(start, bytes) };
        seen(payload.check(record));
        self.give(offset, taken);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Fixed;
    use crate::work::{Pattern, Waiting};

    #[test]
    fn each_record_is_received_once_whoever_sends_and_receives() {
        const SLOTS: usize = 8;
        let work = Work {
            pattern: Pattern::Stream,
            payload: 64,
            batch: 1,
            capacity: SLOTS,
            waiting: Waiting::Spin,
            producers: 2,
            consumers: 2,
        };
        let transport = super::Slots;
        let link = |work| Transport::<Fixed<8>>::link(&transport, work, Path::new(""), "");
        let memory = link(&work).expect("room");
        let end = |wants| {
            [
                End::new(&memory, &work, wants),
                End::new(&memory, &work, wants),
            ]
        };
        let (mut senders, mut receivers) = (end(FREE), end(FULL));
        let (mut sent, mut seen) = (0, Vec::new());
        for turn in 0..100 {
            for burst in [1, 5, 2] {
                for _ in 0..burst {
                    sent += u64::from(senders[turn % 2].try_send(Fixed::<8>, sent));
                }
            }
            let receiver = &mut receivers[turn / 2 % 2];
            while receiver.try_receive(Fixed::<8>, |number| seen.push(number)) {}
        }
        assert_eq!(sent, 800, "there was always room");
        let expected: Vec<Option<u64>> = (0..sent).map(Some).collect();
        assert_eq!(seen, expected);
        let overflow = (0..20)
            .filter(|_| senders[0].try_send(Fixed::<8>, 0))
            .count();
        assert_eq!(overflow, SLOTS, "then it is full");
    }
}
