//! A forked child has nothing of its parent's: no handle, no claim, no lock.
//!
//! The process that forks is a child of the test, and stays alive beside its own child until the
//! test kills it. What it forked, or executed, outlives it: it waits for the end of its standard
//! input, which is a pipe of the test's.

use std::io::{PipeWriter, Read, pipe};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use annulus::segment::{ClaimKind, Location, RecoverOptions, inspect, recover};
use annulus::{ReadError, TryClaimError, TryReadError, Wait, mpmc, spsc};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::ForkResult;

use super::child::{Child, Task, directory};
use super::log::{Step, Word};

/// What the forking process holds as it forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    SlotToWrite,
    SlotToRead,
    BytesToWrite,
    BytesToRead,
}

const GO_ON: u64 = 1;
const WENT_ON: u64 = 1;

/// The child of the test: attaches, takes something, forks and executes.
pub(crate) fn fork(task: &Task) {
    let wait = Wait::block();
    task.log.enter(Step::Attaching);
    match task.number {
        n if n == Holds::SlotToWrite as u64 => {
            // SAFETY: only this test's processes have the ring, and only through the library.
            let producer = unsafe { mpmc::Producer::attach(&task.ring) }.expect("attach");
            let claim = producer.claim(4, wait).expect("space");
            let Some(mut claim) = in_both(task, claim) else {
                assert_eq!(producer.try_push(0, b""), Err(TryClaimError::Forked));
                assert!(producer.try_clone().is_err());
                drop(producer);
                linger(task);
            };
            claim.copy_from_slice(b"mine");
            claim.commit(7);
            let _claim = producer.claim(4, wait).expect("space");
            stay(task);
        }
        n if n == Holds::SlotToRead as u64 => {
            // SAFETY: as above.
            let consumer = unsafe { mpmc::Consumer::attach(&task.ring) }.expect("attach");
            let record = consumer.read(wait).expect("a record");
            let Some(record) = in_both(task, record) else {
                assert_eq!(consumer.try_read().err(), Some(TryReadError::Forked));
                drop(consumer);
                linger(task);
            };
            assert_eq!(&record[..], b"once");
            record.release();
            let _record = consumer.read(wait).expect("a record");
            stay(task);
        }
        n if n == Holds::BytesToWrite as u64 => {
            // SAFETY: as above.
            let mut producer = unsafe { spsc::Producer::attach(&task.ring) }.expect("attach");
            let claim = producer.claim(4, wait).expect("space");
            let Some(mut claim) = in_both(task, claim) else {
                assert_eq!(producer.try_push(0, b""), Err(TryClaimError::Forked));
                drop(producer);
                linger(task);
            };
            claim.copy_from_slice(b"mine");
            claim.commit(7);
            let _claim = producer.claim(4, wait).expect("space");
            stay(task);
        }
        _ => {
            // SAFETY: as above.
            let mut consumer = unsafe { spsc::Consumer::attach(&task.ring) }.expect("attach");
            let record = consumer.read(wait).expect("a record");
            let Some(record) = in_both(task, record) else {
                assert_eq!(consumer.try_read().err(), Some(TryReadError::Forked));
                drop(consumer);
                linger(task);
            };
            assert_eq!(&record[..], b"once");
            record.release();
            let _record = consumer.read(wait).expect("a record");
            stay(task);
        }
    }
}

/// Forks. In the forked child the guard is dropped and `None` returned; the parent executes another
/// program, waits for its order, and gets the guard back.
fn in_both<G>(task: &Task, guard: G) -> Option<G> {
    // SAFETY: the only other thread of this process waits for the role to come to its end, so that
    // the child finds nothing half done.
    match unsafe { nix::unistd::fork() }.expect("fork") {
        ForkResult::Child => {
            drop(guard);
            None
        }
        ForkResult::Parent { child } => {
            let cat = Command::new("cat")
                .stdin(Stdio::inherit())
                .stdout(Stdio::null())
                .spawn();
            task.log.set(
                Word::SecondAnswer,
                u64::from(cat.expect("execute cat").id()),
            );
            task.log.enter(Step::Holding);
            while task.log.get(Word::Order) != GO_ON {
                let status = waitpid(child, Some(WaitPidFlag::WNOHANG)).expect("it is our child");
                assert_eq!(
                    status,
                    WaitStatus::StillAlive,
                    "the forked child did not survive"
                );
                std::thread::yield_now();
            }
            Some(guard)
        }
    }
}

/// The forked child: tells that it has come so far, and lives on until the test lets it go.
fn linger(task: &Task) -> ! {
    task.log.set(Word::Answer, u64::from(std::process::id()));
    let _bytes = std::io::stdin().read_to_end(&mut Vec::new());
    // SAFETY: ends the process at once; what it inherited is not its own to clean up.
    unsafe { libc::_exit(0) }
}

/// The parent, holding something again, until it is killed.
fn stay(task: &Task) -> ! {
    task.log.set(Word::Rounds, WENT_ON);
    loop {
        std::thread::park();
    }
}

fn is_running(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

/// The processes that outlive the one that forked.
struct Others {
    pids: [u64; 2],
    /// As long as it is open they live.
    input: Option<PipeWriter>,
}

impl Drop for Others {
    fn drop(&mut self) {
        drop(self.input.take());
        let began = Instant::now();
        while self.pids.into_iter().any(is_running) && began.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
    }
}

fn scenario(ring: &Path, holds: Holds) {
    let location = Location::from(ring);
    let (reader, writer) = pipe().expect("a pipe");
    let mut parent = Child::start_with_input("forker", ring, holds as u64, 0, reader.into());
    parent.wait_until(|log| log.step() == Step::Holding && log.get(Word::Answer) > 0);
    let pids = [
        parent.log.get(Word::Answer),
        parent.log.get(Word::SecondAnswer),
    ];
    let others = Others {
        pids,
        input: Some(writer),
    };

    // The forked child has dropped everything, and nothing has changed.
    let kind = match holds {
        Holds::SlotToWrite | Holds::BytesToWrite => ClaimKind::Writing,
        Holds::SlotToRead | Holds::BytesToRead => ClaimKind::Reading,
    };
    is_held_by(&location, &parent, kind);
    parent.log.set(Word::Order, GO_ON);
    parent.wait_until(|log| log.get(Word::Rounds) == WENT_ON);
    is_held_by(&location, &parent, kind);

    // Neither the forked child nor the executed one keeps the dead parent's lock.
    parent.kill();
    assert!(
        others.pids.into_iter().all(is_running),
        "they should outlive it"
    );
    let recovered = recover(&location, &RecoverOptions::default()).expect("recover");
    assert_eq!(
        recovered.participants, 1,
        "somebody keeps the lock of a dead process"
    );
    let snapshot = inspect(&location).expect("inspect");
    assert!(snapshot.participants.is_empty() && snapshot.claims.is_empty());
    assert!(
        others.pids.into_iter().all(is_running),
        "they should outlive it"
    );
}

#[track_caller]
fn is_held_by(location: &Location, parent: &Child, kind: ClaimKind) {
    let snapshot = inspect(location).expect("inspect");
    let [row] = &snapshot.participants[..] else {
        panic!("{:?}", snapshot.participants)
    };
    assert_eq!((row.pid, row.is_alive), (parent.pid(), true));
    let [claim] = &snapshot.claims[..] else {
        panic!("{:?}", snapshot.claims)
    };
    assert_eq!((claim.owner, claim.kind), (row.number, kind));
    let recovered = recover(location, &RecoverOptions::default()).expect("recover");
    assert_eq!(recovered.participants, 0);
}

#[test]
fn a_forked_child_has_no_slot_to_write() {
    let directory = directory();
    let ring = directory.path().join("fork.ring");
    mpmc::Options::new(8, 16).create(&ring).expect("create");
    scenario(&ring, Holds::SlotToWrite);
    // SAFETY: only this test's processes have the ring, and all of them use it through the library.
    let consumer = unsafe { mpmc::Consumer::attach(&ring) }.expect("attach");
    assert_eq!(
        &consumer.try_read().expect("what the parent committed")[..],
        b"mine"
    );
    assert_eq!(consumer.try_read().err(), Some(TryReadError::Empty));
}

#[test]
fn a_forked_child_has_no_slot_to_read() {
    let directory = directory();
    let ring = directory.path().join("fork.ring");
    mpmc::Options::new(8, 16).create(&ring).expect("create");
    // SAFETY: as above.
    let producer = unsafe { mpmc::Producer::attach(&ring) }.expect("attach");
    producer.push(0, b"once", Wait::block()).expect("space");
    producer.push(0, b"more", Wait::block()).expect("space");
    drop(producer);
    scenario(&ring, Holds::SlotToRead);
    // SAFETY: as above.
    let consumer = unsafe { mpmc::Consumer::attach(&ring) }.expect("attach");
    let record = consumer
        .try_read()
        .expect("what the parent had not released");
    assert_eq!((&record[..], record.attempts()), (&b"more"[..], 1));
    drop(record);
    assert_eq!(consumer.try_read().err(), Some(TryReadError::Empty));
}

#[test]
fn a_forked_child_has_no_bytes_to_write() {
    let directory = directory();
    let ring = directory.path().join("fork.ring");
    spsc::Options::new(4096).create(&ring).expect("create");
    scenario(&ring, Holds::BytesToWrite);
    // SAFETY: as above.
    let mut consumer = unsafe { spsc::Consumer::attach(&ring) }.expect("attach");
    assert_eq!(
        &consumer.try_read().expect("what the parent committed")[..],
        b"mine"
    );
    assert_eq!(consumer.try_read().err(), Some(TryReadError::Empty));
}

#[test]
fn a_forked_child_has_no_bytes_to_read() {
    let directory = directory();
    let ring = directory.path().join("fork.ring");
    spsc::Options::new(4096).create(&ring).expect("create");
    // SAFETY: as above.
    let mut producer = unsafe { spsc::Producer::attach(&ring) }.expect("attach");
    producer.push(0, b"once", Wait::block()).expect("space");
    producer.push(0, b"more", Wait::block()).expect("space");
    drop(producer);
    scenario(&ring, Holds::BytesToRead);
    // SAFETY: as above.
    let mut consumer = unsafe { spsc::Consumer::attach(&ring) }.expect("attach");
    assert_eq!(
        &consumer
            .try_read()
            .expect("what the parent had not released")[..],
        b"more"
    );
    let nothing = consumer.read(Wait::block().for_at_most(Duration::from_millis(1)));
    assert_eq!(nothing.err(), Some(ReadError::TimedOut));
}
