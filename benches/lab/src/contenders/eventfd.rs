//! Records in shared memory, and two counting semaphores of the kernel's that say how many there
//! are and how much room there is.
//!
//! What a careful user of eventfd does: a read takes the whole count at once, and a batch is told
//! with one write.
//!
//! # Invariants
//! 1. Records whose number was read from `items` are the receiver's until it writes to `room`; all
//!    others are the sender's. The kernel's lock on a counter orders what was written before a
//!    write to it before what follows the read.

use core::sync::atomic::{Ordering, fence};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd as Counter};

use super::{cannot, looks_again, one_and_one};
use crate::memory::Memory;
use crate::payload::Payload;
use crate::transport::{Cannot, Place, Receive, Send, Transport};
use crate::work::Work;

/// Shared memory with eventfd.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFd;

/// Both ends' memory and counters.
#[derive(Debug)]
pub struct Link {
    memory: Memory,
    items: Counter,
    room: Counter,
}

/// One end.
#[derive(Debug)]
pub struct End<'l> {
    link: &'l Link,
    mine: &'l Counter,
    others: &'l Counter,
    capacity: usize,
    /// Which record is next.
    at: usize,
    /// How many are known to be this end's.
    credit: u64,
}

impl<P: Payload> Transport<P> for EventFd {
    type Link = Link;
    type Sender<'l> = End<'l>;
    type Receiver<'l> = End<'l>;

    fn name(&self) -> String {
        "eventfd, shared memory".to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, _: &Path, _: &str) -> Result<Link, Cannot> {
        one_and_one(work)?;
        let mut flags = EfdFlags::EFD_CLOEXEC;
        if looks_again(work) {
            flags |= EfdFlags::EFD_NONBLOCK;
        }
        let counter = |start| Counter::from_value_and_flags(start, flags).map_err(cannot);
        Ok(Link {
            memory: Memory::new(work.capacity * work.payload).map_err(cannot)?,
            items: counter(0)?,
            room: counter(u32::try_from(work.capacity).map_err(cannot)?)?,
        })
    }

    fn sender<'l>(&'l self, link: &'l Link, work: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End::new(link, [&link.room, &link.items], work))
    }

    fn receiver<'l>(&'l self, link: &'l Link, work: &Work, _: usize) -> Result<End<'l>, Cannot> {
        Ok(End::new(link, [&link.items, &link.room], work))
    }
}

impl<'l> End<'l> {
    fn new(link: &'l Link, [mine, others]: [&'l Counter; 2], work: &Work) -> Self {
        Self {
            link,
            mine,
            others,
            capacity: work.capacity,
            at: 0,
            credit: 0,
        }
    }

    /// How many records this end may take, at most `max`.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "at most `max`")]
    fn take(&mut self, max: usize) -> usize {
        if self.credit == 0 {
            match self.mine.read() {
                Ok(count) => self.credit = count,
                Err(Errno::EAGAIN | Errno::EINTR) => return 0,
                Err(error) => panic!("the kernel refuses: {error}"),
            }
            fence(Ordering::Acquire);
        }
        self.credit.min(max as u64) as usize
    }

    #[inline(always)]
    fn record(&mut self, bytes: usize) -> *mut u8 {
        let record = self.link.memory.at(self.at * bytes, bytes);
        self.at += 1;
        if self.at == self.capacity {
            self.at = 0;
        }
        record
    }

    #[inline(always)]
    fn give(&mut self, count: usize) {
        self.credit -= count as u64;
        fence(Ordering::Release);
        let written = self.others.write(count as u64);
        written.expect("a count far below the greatest");
    }
}

impl<P: Payload> Send<P> for End<'_> {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        self.try_send_batch(payload, number, 1) == 1
    }

    #[inline(always)]
    fn try_send_batch(&mut self, payload: P, first: u64, count: usize) -> usize {
        let (bytes, count) = (payload.bytes(), self.take(count));
        if count == 0 {
            return 0;
        }
        for nth in 0..count {
            let start = self.record(bytes);
            // SAFETY: inside the mapping, initialised, and the sender's (INV-1).
            let record = unsafe { core::slice::from_raw_parts_mut(start, bytes) };
            payload.fill(record, first + nth as u64);
        }
        self.give(count);
        count
    }
}

impl<P: Payload> Receive<P> for End<'_> {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, seen: impl FnMut(Option<u64>)) -> bool {
        self.try_receive_batch(payload, 1, seen) == 1
    }

    #[inline(always)]
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        let (bytes, count) = (payload.bytes(), self.take(max));
        if count == 0 {
            return 0;
        }
        for _ in 0..count {
            let start = self.record(bytes);
            // SAFETY: inside the mapping, initialised, and the receiver's (INV-1).
            let record = unsafe { core::slice::from_raw_parts(start, bytes) };
            seen(payload.check(record));
        }
        self.give(count);
        count
    }
}
