//! annulus' byte ring.

use std::path::Path;
use std::time::{Duration, Instant};

use annulus::segment::{AttachOptions, CreateOptions};
use annulus::{Location, Wait, spsc};

use super::Backing;
use crate::payload::Payload;
use crate::transport::{Cannot, Place, Receive, Send, Transport, pause};
use crate::work::{Waiting, Work};

/// annulus' byte ring, between processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spsc {
    /// Where it lies.
    pub backing: Backing,
}

/// Looks whether the slice is over at least this often.
const MOMENT: Duration = Duration::from_millis(50);

/// Bytes of a record with its header.
fn record_bytes(payload: usize) -> u64 {
    payload.next_multiple_of(8) as u64 + 8
}

fn cannot(error: impl core::fmt::Display) -> Cannot {
    Cannot(error.to_string())
}

fn attach_options(backing: Backing) -> AttachOptions {
    AttachOptions {
        prefault: true,
        huge_pages: backing == Backing::Huge,
        ..AttachOptions::default()
    }
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
        "annulus SPSC".to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<Location, Cannot> {
        if work.producers + work.consumers != 2 {
            return Err(Cannot("one producer and one consumer".to_owned()));
        }
        let record = record_bytes(work.payload);
        // The longest record is just under half of the capacity.
        let least = (work.capacity as u64 * record).max(4 * record).max(4096);
        let options = spsc::Options::new(least.next_power_of_two());
        let create = CreateOptions {
            huge_pages: self.backing == Backing::Huge,
            ..CreateOptions::default()
        };
        match self.backing {
            Backing::File => {
                let path = folder.join(name);
                options.create_with(&path, &create).map_err(cannot)?;
                Ok(Location::from(path))
            }
            Backing::Memfd | Backing::Huge => {
                let file = options.memfd(name, &create).map_err(cannot)?;
                Ok(Location::fd(file))
            }
        }
    }

    fn sender<'l>(&'l self, link: &'l Location, _: &Work, _: usize) -> Result<Sender, Cannot> {
        let options = attach_options(self.backing);
        // SAFETY: the file is in a folder that only this user enters, or has no name: only the
        // players of this slice write to it, all of them through annulus.
        let ring = unsafe { spsc::Producer::attach_with(link, &options) };
        ring.map(Sender).map_err(cannot)
    }

    fn receiver<'l>(&'l self, link: &'l Location, _: &Work, _: usize) -> Result<Receiver, Cannot> {
        let options = attach_options(self.backing);
        // SAFETY: as above.
        let ring = unsafe { spsc::Consumer::attach_with(link, &options) };
        Ok(Receiver {
            ring: ring.map_err(cannot)?,
            deadline: Instant::now(),
        })
    }
}

impl<P: Payload> Send<P> for Sender {
    #[inline]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        let Ok(mut claim) = self.0.try_claim(payload.bytes()) else {
            return false;
        };
        payload.fill(&mut claim, number);
        claim.commit(0);
        true
    }

    #[inline]
    fn send(&mut self, payload: P, number: u64, waiting: Waiting) {
        let claim = self.0.claim(payload.bytes(), wait_of(waiting));
        let mut claim = claim.expect("nobody closes it");
        payload.fill(&mut claim, number);
        claim.commit(0);
    }

    #[inline]
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
    #[inline]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Ok(record) = self.ring.try_read() else {
            return false;
        };
        seen(payload.check(&record));
        true
    }

    #[inline]
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

    #[inline]
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

fn wait_of(waiting: Waiting) -> Wait {
    match waiting {
        Waiting::Spin => Wait::spin(),
        Waiting::Yield => Wait::yielding(),
        Waiting::Block => Wait::block(),
    }
}
