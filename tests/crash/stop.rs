//! SIGSTOP: whoever is stopped holding something is alive, keeps it, and loses nothing.
//!
//! Each test stops a holder for `ANNULUS_STOP_SECONDS` (3 by default). All the while others go on
//! as far as the order allows, wait in vain, attach, detach and recover, which are the occasions on
//! which the dead are found; and the ring shows who holds what.

use std::path::Path;
use std::time::{Duration, Instant};

use annulus::segment::{
    AttachError, ClaimInfo, ClaimKind, Location, RecoverOptions, Snapshot, inspect, recover,
};
use annulus::spsc::Peer;
use annulus::{ClaimError, ReadError, Recovered, Wait, mpmc, spsc};

use super::child::{Child, Task, directory};
use super::log::{Step, Word};
use super::system::number_from;

const SLOTS: u64 = 8;
const COMMIT_OR_RELEASE: u64 = 1;

/// What a holder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    SlotToWrite,
    SlotToRead,
    BytesToWrite,
    BytesToRead,
}

/// The child: takes what it is told to take, and lets go of it by order.
pub(crate) fn hold(task: &Task) {
    let log = &task.log;
    let held = || {
        log.enter(Step::Holding);
        task.wait_for_order(COMMIT_OR_RELEASE);
        log.enter(Step::Publishing);
    };
    log.enter(Step::Attaching);
    let wait = Wait::block();
    match task.number {
        n if n == Holds::SlotToWrite as u64 => {
            let producer = slot_producer(&task.ring);
            producer.push(1, b"first", wait).expect("space");
            producer.push(2, b"second", wait).expect("space");
            let mut claim = producer.try_claim(5).expect("space");
            held();
            claim.copy_from_slice(b"third");
            claim.commit(3);
        }
        n if n == Holds::SlotToRead as u64 => {
            let consumer = slot_consumer(&task.ring);
            let record = consumer.read(wait).expect("a record");
            held();
            assert_eq!((record.tag(), &record[..]), (1, &b"first"[..]));
            record.release();
        }
        n if n == Holds::BytesToWrite as u64 => {
            let mut producer = byte_producer(&task.ring).expect("attach");
            producer.push(1, b"first", wait).expect("space");
            producer.push(2, b"second", wait).expect("space");
            let mut claim = producer.try_claim(5).expect("space");
            held();
            claim.copy_from_slice(b"third");
            claim.commit(3);
        }
        _ => {
            let mut consumer = byte_consumer(&task.ring).expect("attach");
            let record = consumer.read(wait).expect("a record");
            held();
            assert_eq!((record.tag(), &record[..]), (1, &b"first"[..]));
            record.release();
        }
    }
    log.enter(Step::Finished);
}

fn slot_producer(ring: &Path) -> mpmc::Producer {
    // SAFETY: only this test's processes have the ring, and all of them use it through the library.
    unsafe { mpmc::Producer::attach(ring) }.expect("attach")
}

fn slot_consumer(ring: &Path) -> mpmc::Consumer {
    // SAFETY: as above.
    unsafe { mpmc::Consumer::attach(ring) }.expect("attach")
}

fn byte_producer(ring: &Path) -> Result<spsc::Producer, AttachError> {
    // SAFETY: as above.
    unsafe { spsc::Producer::attach(ring) }
}

fn byte_consumer(ring: &Path) -> Result<spsc::Consumer, AttachError> {
    // SAFETY: as above.
    unsafe { spsc::Consumer::attach(ring) }
}

/// A wait in vain, long enough for every probe and every sleeper's bound.
fn a_while() -> Wait {
    Wait::block().for_at_most(Duration::from_millis(250))
}

/// A child that holds something and is stopped.
struct Stopped<'r> {
    ring: &'r Path,
    child: Child,
    since: Instant,
    recovery_epoch: u64,
}

impl<'r> Stopped<'r> {
    fn holding(ring: &'r Path, holds: Holds) -> Self {
        let mut child = Child::start("holder", ring, holds as u64, 0);
        child.wait_for(Step::Holding);
        let recovery_epoch = inspect(&Location::from(ring))
            .expect("inspect")
            .recovery_epoch;
        assert!(child.stop(), "it is alive");
        Self {
            ring,
            child,
            since: Instant::now(),
            recovery_epoch,
        }
    }

    /// Checks again and again, for as long as it is to be stopped, that nothing is taken from it.
    fn keeps(&self, claim: impl Fn(&ClaimInfo) -> bool, mut meanwhile: impl FnMut()) -> u32 {
        let length = Duration::from_secs(number_from("ANNULUS_STOP_SECONDS").unwrap_or(3));
        let mut looks = 0;
        while self.since.elapsed() < length {
            meanwhile();
            let recovered = recover(&Location::from(self.ring), &RecoverOptions::default());
            assert_eq!(recovered.expect("recover"), Recovered::default());
            self.is_shown(&claim);
            looks += 1;
        }
        looks
    }

    fn is_shown(&self, claim: impl Fn(&ClaimInfo) -> bool) {
        let snapshot = inspect(&Location::from(self.ring)).expect("inspect");
        let row = snapshot
            .participants
            .iter()
            .find(|row| row.pid == self.child.pid());
        let row = row.expect("its row is in use");
        assert!(row.is_alive);
        assert_eq!(row.command, command_of(self.child.pid()));
        let held: Vec<&ClaimInfo> = snapshot
            .claims
            .iter()
            .filter(|claim| claim.owner == row.number)
            .collect();
        assert!(held.len() == 1 && claim(held[0]), "{held:?}");
        assert_eq!(snapshot.totals.recovered, 0);
        assert_eq!(snapshot.recovery_epoch, self.recovery_epoch);
    }

    /// Lets it go on and finish, and returns what the ring looks like then.
    fn goes_on(mut self, looks: u32) -> Snapshot {
        println!(
            "stopped for {:?}, looked at {looks} times",
            self.since.elapsed()
        );
        self.child.go_on();
        self.child.log.set(Word::Order, COMMIT_OR_RELEASE);
        self.child.finish();
        inspect(&Location::from(self.ring)).expect("inspect")
    }
}

fn command_of(pid: u32) -> String {
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it lives");
    command.trim_end().to_owned()
}

#[test]
fn a_stopped_sender_keeps_the_slot_that_it_writes() {
    let directory = directory();
    let ring = directory.path().join("stop.ring");
    mpmc::Options::new(SLOTS, 16).create(&ring).expect("create");
    let stopped = Stopped::holding(&ring, Holds::SlotToWrite);
    let (producer, consumer) = (slot_producer(&ring), slot_consumer(&ring));
    assert_eq!(consumer.read(a_while()).expect("a record").tag(), 1);
    assert_eq!(consumer.read(a_while()).expect("a record").tag(), 2);
    // Everything but the slot that it holds, for the two that were released are free again.
    for tag in 4..11 {
        producer.push(tag, b"behind it", a_while()).expect("space");
    }
    let claim = |claim: &ClaimInfo| claim.kind == ClaimKind::Writing && claim.position == 2;
    let looks = stopped.keeps(claim, || {
        assert_eq!(producer.push(0, b"", a_while()), Err(ClaimError::TimedOut));
        assert_eq!(consumer.read(a_while()).err(), Some(ReadError::TimedOut));
        drop((slot_producer(&ring), slot_consumer(&ring)));
    });
    let snapshot = stopped.goes_on(looks);
    assert_eq!(
        (snapshot.committed_records, snapshot.released_records),
        (10, 2)
    );
    for tag in 3..11 {
        assert_eq!(consumer.read(a_while()).expect("a record").tag(), tag);
    }
    assert_eq!(
        consumer.try_read().err(),
        Some(annulus::TryReadError::Empty)
    );
}

#[test]
fn a_stopped_receiver_keeps_the_slot_that_it_reads() {
    let directory = directory();
    let ring = directory.path().join("stop.ring");
    mpmc::Options::new(SLOTS, 16).create(&ring).expect("create");
    let (producer, consumer) = (slot_producer(&ring), slot_consumer(&ring));
    producer.push(1, b"first", a_while()).expect("space");
    let stopped = Stopped::holding(&ring, Holds::SlotToRead);
    // The others pass it, until its slot's turn comes again.
    for tag in 2..9 {
        producer.push(tag, b"behind it", a_while()).expect("space");
        assert_eq!(consumer.read(a_while()).expect("a record").tag(), tag);
    }
    let claim = |claim: &ClaimInfo| {
        (claim.kind, claim.position, claim.attempts) == (ClaimKind::Reading, 0, 0)
    };
    let looks = stopped.keeps(claim, || {
        assert_eq!(producer.push(0, b"", a_while()), Err(ClaimError::TimedOut));
        assert_eq!(consumer.read(a_while()).err(), Some(ReadError::TimedOut));
        drop((slot_producer(&ring), slot_consumer(&ring)));
    });
    let snapshot = stopped.goes_on(looks);
    assert_eq!(
        (snapshot.committed_records, snapshot.released_records),
        (8, 8)
    );
    assert_eq!(snapshot.totals.redelivered, 0);
    for tag in 9..17 {
        producer
            .push(tag, b"a lap later", a_while())
            .expect("space");
    }
    for tag in 9..17 {
        assert_eq!(consumer.read(a_while()).expect("a record").tag(), tag);
    }
}

#[test]
fn a_stopped_producer_keeps_its_role_and_its_claim() {
    let directory = directory();
    let ring = directory.path().join("stop.ring");
    spsc::Options::new(4096).create(&ring).expect("create");
    let stopped = Stopped::holding(&ring, Holds::BytesToWrite);
    let mut consumer = byte_consumer(&ring).expect("attach");
    assert_eq!(consumer.read(a_while()).expect("a record").tag(), 1);
    assert_eq!(consumer.read(a_while()).expect("a record").tag(), 2);
    let claim = |claim: &ClaimInfo| (claim.kind, claim.position) == (ClaimKind::Writing, 32);
    let looks = stopped.keeps(claim, || {
        assert_eq!(consumer.read(a_while()).err(), Some(ReadError::TimedOut));
        assert_eq!(consumer.peer(), Peer::Alive);
        is_refused(byte_producer(&ring).err(), &stopped.child);
    });
    let snapshot = stopped.goes_on(looks);
    assert_eq!(
        (snapshot.committed_records, snapshot.released_records),
        (3, 2)
    );
    let record = consumer.read(a_while()).expect("a record");
    assert_eq!((record.tag(), &record[..]), (3, &b"third"[..]));
    drop(record);
    assert_eq!(consumer.peer(), Peer::Absent);
}

#[test]
fn a_stopped_consumer_keeps_its_role_and_its_record() {
    let directory = directory();
    let ring = directory.path().join("stop.ring");
    spsc::Options::new(4096).create(&ring).expect("create");
    let mut producer = byte_producer(&ring).expect("attach");
    producer.push(1, b"first", a_while()).expect("space");
    let stopped = Stopped::holding(&ring, Holds::BytesToRead);
    let mut tags = 1;
    while producer.try_push(tags + 1, &[0; 100]).is_ok() {
        tags += 1;
    }
    let claim = |claim: &ClaimInfo| {
        (claim.kind, claim.position, claim.bytes) == (ClaimKind::Reading, 0, 16)
    };
    let looks = stopped.keeps(claim, || {
        assert_eq!(
            producer.push(0, &[0; 100], a_while()),
            Err(ClaimError::TimedOut)
        );
        assert_eq!(producer.peer(), Peer::Alive);
        is_refused(byte_consumer(&ring).err(), &stopped.child);
    });
    let snapshot = stopped.goes_on(looks);
    assert_eq!(
        (snapshot.committed_records, snapshot.released_records),
        (tags.into(), 1)
    );
    let mut consumer = byte_consumer(&ring).expect("attach");
    for tag in 2..=tags {
        assert_eq!(consumer.read(a_while()).expect("a record").tag(), tag);
    }
}

/// The refusal names the process that has the role.
#[track_caller]
pub(crate) fn is_refused(error: Option<AttachError>, holder: &Child) {
    match error {
        Some(AttachError::RoleTaken { pid, command, .. }) => {
            assert_eq!((pid, command), (holder.pid(), command_of(holder.pid())));
        }
        other => panic!("expected the role to be taken, found {other:?}"),
    }
}
