//! annulus' byte ring.

use std::path::Path;
use std::time::Instant;

use annulus::{Location, Wait, spsc};

use super::ring::{Backing, MOMENT, wait_of};
use super::{cannot, one_and_one};
use crate::payload::Payload;
use crate::transport::{Cannot, Place, Receive, Send, Transport, pause};
use crate::work::{Waiting, Work};

/// annulus' byte ring, between processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spsc {
    /// Where it lies.
    pub backing: Backing,
}

/// Bytes of a record with its header.
fn record_bytes(payload: usize) -> u64 {
    payload.next_multiple_of(8) as u64 + 8
}

/// The producer's handle.
#[derive(Debug)]
pub struct Sender(spsc::Producer);

/// The consumer's handle.
#[derive(Debug)]
pub struct Receiver {
    ring: spsc::Consumer,
    /// Until when it sleeps at most.
    deadline: Instant,
}

impl<P: Payload> Transport<P> for Spsc {
    type Link = Location;
    type Sender<'l> = Sender;
    type Receiver<'l> = Receiver;

    fn name(&self) -> String {
        format!("annulus SPSC{}", self.backing.suffix())
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<Location, Cannot> {
        one_and_one(work)?;
        let record = record_bytes(work.payload);
        // The longest record is just under half of the capacity.
        let least = (work.capacity as u64 * record).max(4 * record).max(4096);
        let options = spsc::Options::new(least.next_power_of_two());
        self.backing.make(
            folder,
            name,
            |path, create| options.create_with(path, create),
            |create| options.memfd(name, create),
        )
    }

    fn sender<'l>(&'l self, link: &'l Location, _: &Work, _: usize) -> Result<Sender, Cannot> {
        let options = self.backing.attach_options();
        // SAFETY: the file is in a folder that only this user enters, or has no name: only the
        // players of this slice write to it, all of them through annulus.
        let ring = unsafe { spsc::Producer::attach_with(link, &options) };
        ring.map(Sender).map_err(cannot)
    }

    fn receiver<'l>(&'l self, link: &'l Location, _: &Work, _: usize) -> Result<Receiver, Cannot> {
        let options = self.backing.attach_options();
        // SAFETY: as above.
        let ring = unsafe { spsc::Consumer::attach_with(link, &options) };
        Ok(Receiver {
            ring: ring.map_err(cannot)?,
            deadline: Instant::now(),
        })
    }
}

impl<P: Payload> Send<P> for Sender {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        let Ok(mut claim) = self.0.try_claim(payload.bytes()) else {
            return false;
        };
        payload.fill(&mut claim, number);
        claim.commit(0);
        true
    }

    #[inline(always)]
    fn send(&mut self, payload: P, number: u64, waiting: Waiting) {
        let claim = self.0.claim(payload.bytes(), wait_of(waiting));
        let mut claim = claim.expect("nobody closes it");
        payload.fill(&mut claim, number);
        claim.commit(0);
    }

    #[inline(always)]
    fn try_send_batch(&mut self, payload: P, first: u64, count: usize) -> usize {
        let mut batch = self.0.batch();
        let mut sent = 0;
        while sent < count {
            let Ok(mut claim) = batch.try_claim(payload.bytes()) else {
                break;
            };
            payload.fill(&mut claim, first + sent as u64);
            claim.stage(0);
            sent += 1;
        }
        batch.commit();
        sent
    }
}

impl<P: Payload> Receive<P> for Receiver {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Ok(record) = self.ring.try_read() else {
            return false;
        };
        seen(payload.check(&record));
        true
    }

    #[inline(always)]
    fn receive(&mut self, payload: P, waiting: Waiting, mut seen: impl FnMut(Option<u64>)) -> bool {
        if waiting != Waiting::Block {
            let received = self.try_receive(payload, seen);
            if !received {
                pause(waiting);
            }
            return received;
        }
        match self.ring.read(Wait::block().until(self.deadline)) {
            Ok(record) => {
                seen(payload.check(&record));
                true
            }
            Err(_) => {
                self.deadline = Instant::now() + MOMENT;
                false
            }
        }
    }

    #[inline(always)]
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        let mut received = 0;
        while received < max {
            let Ok(record) = self.ring.try_peek() else {
                break;
            };
            seen(payload.check(&record));
            received += 1;
        }
        if received > 0 {
            self.ring.release_all();
        }
        received
    }
}
