//! A peer that punches holes into the ring. `F_SEAL_FUTURE_WRITE` forbids it, but a ring whose
//! participants are yet to come cannot have that seal.
//!
//! What was there is zeroes when it is touched next: hostile bytes like any others. That the touch
//! finds memory is up to the machine: where there is none left (a full control group, strict
//! overcommitment), it ends in SIGBUS or in the hands of the OOM killer.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use annulus::segment::{
    AttachError, AttachOptions, CreateOptions, RecoverOptions, inspect, recover,
};
use annulus::{Location, Untrusted, mpmc, spsc};
use nix::fcntl::{FallocateFlags, fallocate};

use super::peer::Peer;

const FILE_BYTES: i64 = 64 * 1024 + 4096;
const PAGE: i64 = 4096;

/// The peer: takes pages away, one after the other, until it is killed.
pub(crate) fn punch(ring: OwnedFd) {
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    loop {
        for page in 0..FILE_BYTES / PAGE {
            fallocate(ring.as_fd(), hole, page * PAGE, PAGE).expect("no seal forbids it");
            std::thread::yield_now();
        }
    }
}

/// What an untrusting participant has met.
#[derive(Debug, Default)]
struct Met {
    attached: u32,
    refused: u32,
    operations: u32,
}

impl Met {
    fn attach<H>(&mut self, attached: Result<H, AttachError>) -> Option<H> {
        match attached {
            Ok(handle) => {
                self.attached += 1;
                Some(handle)
            }
            Err(_typed) => {
                self.refused += 1;
                None
            }
        }
    }
}

fn suffer(ring: &OwnedFd, mut operate: impl FnMut(&Location, &mut Met)) {
    let at = Location::fd(ring.try_clone().unwrap());
    let mut met = Met::default();
    // Before there are holes: whoever is attached stays so.
    operate(&at, &mut met);
    assert!(met.attached == 2 && met.refused == 0, "{met:?}");
    let peer = Peer::start("puncher", ring);
    let end = Instant::now() + Duration::from_millis(700);
    while Instant::now() < end || met.refused < 10 {
        operate(&at, &mut met);
        let _ = recover(&at, &RecoverOptions::default());
        let _ = inspect(&at);
        assert!(
            end.elapsed() < Duration::from_secs(60),
            "no hole was met: {met:?}"
        );
    }
    assert!(met.operations > 100, "{met:?}");
    // It has punched up to now, or it would have ended by itself.
    peer.kill();
}

#[test]
fn holes_in_a_byte_ring_are_errors_or_bytes() {
    let ring = spsc::Options::new(4096);
    let ring = ring.memfd("test", &CreateOptions::default()).unwrap();
    let mut kept: Option<(spsc::Producer<Untrusted>, spsc::Consumer<Untrusted>)> = None;
    suffer(&ring, |at, met| {
        let options = AttachOptions::default();
        if kept.is_none() {
            let producer = met.attach(spsc::Producer::attach_untrusting(at, &options));
            let consumer = met.attach(spsc::Consumer::attach_untrusting(at, &options));
            kept = producer.zip(consumer);
        }
        let mut payload = Vec::new();
        let Some((producer, consumer)) = &mut kept else {
            return;
        };
        for len in 0..100 {
            let _ = producer.try_push(1, &vec![1; len]);
            if consumer.try_pop(&mut payload).is_ok() {
                assert!(payload.len() <= consumer.max_record());
            }
            met.operations += 1;
        }
        // For others to be refused at the door.
        if met.operations % 1000 == 0 {
            kept = None;
        }
    });
}

#[test]
fn holes_in_a_slot_ring_are_errors_or_bytes() {
    let ring = mpmc::Options::new(8, 40).participants(4);
    let ring = ring.memfd("test", &CreateOptions::default()).unwrap();
    suffer(&ring, |at, met| {
        let options = AttachOptions::default();
        let producer = met.attach(mpmc::Producer::attach_untrusting(at, &options));
        let consumer = met.attach(mpmc::Consumer::attach_untrusting(at, &options));
        let mut payload = Vec::new();
        for len in 0..40 {
            let _ = producer
                .as_ref()
                .map(|producer| producer.try_push(1, &vec![1; len]));
            let popped = consumer
                .as_ref()
                .map(|consumer| consumer.try_pop(&mut payload));
            if popped.is_some_and(|popped| popped.is_ok()) {
                assert!(payload.len() <= 40);
            }
            met.operations += 1;
        }
    });
}
