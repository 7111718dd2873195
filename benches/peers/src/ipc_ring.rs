//! ipc_ring: a ring of bytes in a mapped file, one producer, one consumer, records of any length.
//!
//! Records are copied in and out (`push` of a slice, `pop` into a `Vec`). Each send and each
//! receive wakes the other side with a system call, whether it sleeps or not. `Block` is its `push`
//! and `pop` with a time-out: they sleep on a futex in the file.
//!
//! A reader that opens the file while the writer creates it, as its own example does, may die of
//! SIGBUS, read torn records or see none: the file's length and the ring's capacity are there later
//! than its name. Here the file gets its name when all is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use annulus_lab::transport::{Cannot, pause};
use annulus_lab::{Payload, Place, Receive, Send, Transport, Waiting, Work};
use ipc_ring::{RingReader, RingWriter};

use crate::ends::{attach, cannot, expect_one_each};

pub(crate) struct IpcRing;

pub(crate) struct Sender {
    ring: RingWriter,
    record: Vec<u8>,
}

pub(crate) struct Receiver {
    ring: RingReader,
    record: Vec<u8>,
}

/// After this a receiver looks whether the slice is over.
const MOMENT: Duration = Duration::from_millis(50);

impl<P: Payload> Transport<P> for IpcRing {
    type Link = PathBuf;
    type Sender<'l> = Sender;
    type Receiver<'l> = Receiver;

    fn name(&self) -> String {
        "ipc_ring".into()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<PathBuf, Cannot> {
        expect_one_each(work)?;
        Ok(folder.join(name))
    }

    fn sender<'l>(&'l self, link: &'l PathBuf, work: &Work, _: usize) -> Result<Sender, Cannot> {
        const HEADER: usize = 4;
        let bytes = work.capacity * (work.payload.next_multiple_of(4) + HEADER);
        let unready = link.with_extension("unready");
        let ring = RingWriter::create(&unready, bytes.next_power_of_two()).map_err(cannot)?;
        fs::rename(unready, link).map_err(cannot)?;
        let record = vec![0; work.payload];
        Ok(Sender { ring, record })
    }

    fn receiver<'l>(
        &'l self,
        link: &'l PathBuf,
        work: &Work,
        _: usize,
    ) -> Result<Receiver, Cannot> {
        let ring = attach(|| RingReader::open(link))?;
        let record = Vec::with_capacity(work.payload);
        Ok(Receiver { ring, record })
    }
}

impl<P: Payload> Send<P> for Sender {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        payload.fill(&mut self.record, number);
        self.ring.try_push(&self.record).is_ok()
    }

    #[inline(always)]
    fn send(&mut self, payload: P, number: u64, waiting: Waiting) {
        payload.fill(&mut self.record, number);
        if waiting == Waiting::Block {
            while self.ring.push(&self.record, Some(MOMENT)).is_err() {}
            return;
        }
        while self.ring.try_push(&self.record).is_err() {
            pause(waiting);
        }
    }
}

impl<P: Payload> Receive<P> for Receiver {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        let Ok(Some(_)) = self.ring.try_pop(&mut self.record) else {
            return false;
        };
        seen(payload.check(&self.record));
        true
    }

    #[inline(always)]
    fn receive(&mut self, payload: P, waiting: Waiting, mut seen: impl FnMut(Option<u64>)) -> bool {
        if waiting == Waiting::Block {
            if self.ring.pop(&mut self.record, Some(MOMENT)).is_err() {
                return false;
            }
            seen(payload.check(&self.record));
            return true;
        }
        let received = self.try_receive(payload, seen);
        if !received {
            pause(waiting);
        }
        received
    }
}
