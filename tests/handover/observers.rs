//! Observers: who may look at a ring, and do no harm to it.
//!
//! The observer is a process of another user, with a descriptor from `Observable::observe`. It
//! tries whatever there is to try, and then takes every lock that it can get, while a participant
//! dies.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use annulus::segment::{
    AttachError, AttachOptions, CreateOptions, Observable, OpenError, RecoverOptions, Role,
    inspect, recover, share,
};
use annulus::{Location, ReadError, Wait, mpmc, spsc};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{ForkResult, Gid, Uid, fork, ftruncate, setgid, setgroups, setuid, write};

use super::peer::{PATIENCE, Peer, trusting};

const NOBODY: u32 = 65534;
/// From a death to the takeover.
const LIMIT: Duration = Duration::from_secs(1);

fn file_lock(kind: libc::c_int) -> libc::flock {
    // SAFETY: plain numbers, all of which may be 0: from the first byte to the last one there is.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::c_short::try_from(kind).unwrap();
    lock
}

/// Maps the first page, shared, and gives it back.
fn map(file: impl AsFd, protection: libc::c_int) -> Result<(), Errno> {
    let (nowhere, fd) = (std::ptr::null_mut(), file.as_fd().as_raw_fd());
    // SAFETY: a new mapping, which nobody uses.
    let mapped = unsafe { libc::mmap(nowhere, 4096, protection, libc::MAP_SHARED, fd, 0) };
    if mapped == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: the mapping is our own.
    let opened_up = unsafe { libc::mprotect(mapped, 4096, libc::PROT_READ | libc::PROT_WRITE) };
    let opened_up = Errno::result(opened_up);
    // SAFETY: as above.
    unsafe { libc::munmap(mapped, 4096) };
    opened_up.map(drop)
}

fn open_anew(file: impl AsFd, writing: bool) -> Result<File, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let opened = OpenOptions::new().read(true).write(writing).open(path);
    opened.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap()))
}

const HOLE: FallocateFlags =
    FallocateFlags::FALLOC_FL_PUNCH_HOLE.union(FallocateFlags::FALLOC_FL_KEEP_SIZE);

/// The observer.
pub(crate) fn look_and_try(ring: OwnedFd, socket: &mut UnixStream) {
    if Uid::effective().is_root() {
        setgroups(&[]).unwrap();
        setgid(Gid::from_raw(NOBODY)).unwrap();
        setuid(Uid::from_raw(NOBODY)).unwrap();
    }
    assert_eq!(write(&ring, b"x"), Err(Errno::EBADF), "write");
    assert_eq!(ftruncate(&ring, 0), Err(Errno::EINVAL), "truncate");
    assert_eq!(
        fallocate(&ring, HOLE, 0, 4096),
        Err(Errno::EBADF),
        "punch a hole"
    );
    let write_map = map(&ring, libc::PROT_READ | libc::PROT_WRITE);
    assert_eq!(write_map, Err(Errno::EACCES), "map for writing");
    assert_eq!(
        map(&ring, libc::PROT_READ),
        Err(Errno::EACCES),
        "open a map up"
    );
    let seals = FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE);
    assert_eq!(fcntl(&ring, seals), Err(Errno::EPERM), "seal it for others");
    let write_lock = FcntlArg::F_OFD_SETLK(&file_lock(libc::F_WRLCK));
    assert_eq!(
        fcntl(&ring, write_lock),
        Err(Errno::EBADF),
        "lock for writing"
    );
    if Uid::effective() == Uid::from_raw(NOBODY) {
        assert_eq!(
            fchmod(&ring, Mode::S_IRWXO),
            Err(Errno::EPERM),
            "change the mode"
        );
        let anew = open_anew(&ring, true).map(drop);
        assert_eq!(anew, Err(Errno::EACCES), "open anew for writing");
        let test = format!("/proc/{}/fd", std::os::unix::process::parent_id());
        assert!(std::fs::read_dir(test).is_err(), "the test's descriptors");
    }
    // This is what it can: look, and keep every byte of the file from being locked by others.
    fcntl(&ring, FcntlArg::F_OFD_SETLK(&file_lock(libc::F_RDLCK))).expect("lock for reading");
    let snapshot = inspect(&Location::fd(ring.try_clone().unwrap())).unwrap();
    assert!(snapshot.participants.iter().all(|row| row.is_alive));
    let count = u8::try_from(snapshot.participants.len()).unwrap();
    socket.write_all(&[count]).unwrap();
    // Ends with the other end of the line.
    let _end = socket.read_exact(&mut [0]);
}

/// A participant that dies: holds a slot, and forks a child that outlives it.
pub(crate) fn hold_a_slot(at: Location, socket: &mut UnixStream) {
    let producer = trusting!(mpmc::Producer, &at).unwrap();
    let claim = producer.try_claim(4).unwrap();
    // SAFETY: the only other thread of this process is the harness's, which waits for this one.
    if let ForkResult::Child = unsafe { fork() }.unwrap() {
        let _end = socket.read_exact(&mut [0]);
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) }
    }
    socket.write_all(&[1]).unwrap();
    let _end = socket.read_exact(&mut [0]);
    drop(claim);
}

fn observable() -> Observable {
    let ring = mpmc::Options::new(8, 16);
    ring.observable("test", &CreateOptions::default()).unwrap()
}

/// Starts an observer; how many participants it sees.
fn observed(descriptor: OwnedFd) -> (Peer, u8) {
    let mut peer = Peer::start_with("observer", &[descriptor]);
    let mut count = [0];
    let told = peer.socket.read_exact(&mut count);
    told.expect("the observer could do what it should not");
    (peer, count[0])
}

#[test]
fn an_observer_of_another_user_can_neither_write_nor_keep_a_dead_participant_alive() {
    if !Uid::effective().is_root() {
        eprintln!("NOT RUN in full: to be another user needs root");
    }
    let ring = observable();
    let at = ring.location().unwrap();
    let producer = trusting!(mpmc::Producer, &at).unwrap();
    let consumer = trusting!(mpmc::Consumer, &at).unwrap();
    let both = ring.share().unwrap();
    let mut holder = Peer::start_with("slot holder", &[both.ring, both.locks]);
    holder.until_ready();
    producer.try_push(1, b"behind").unwrap();
    let (observer, seen) = observed(ring.observe().unwrap());
    assert_eq!(seen, 3);

    // Nothing is taken from one who lives.
    let nothing = consumer.read(Wait::block().for_at_most(Duration::from_millis(300)));
    assert_eq!(nothing.map(|record| record.tag()), Err(ReadError::TimedOut));
    assert!(
        inspect(&at)
            .unwrap()
            .participants
            .iter()
            .all(|row| row.is_alive)
    );

    let died = Instant::now();
    let Peer { child, socket } = &mut holder;
    child.kill().unwrap();
    child.wait().unwrap();
    let record = consumer.read(Wait::block().for_at_most(PATIENCE));
    let took = died.elapsed();
    assert_eq!(
        record.unwrap().tag(),
        1,
        "the record behind the dead one's slot"
    );
    assert!(took < LIMIT, "{took:?}");
    // Both outlived it: the observer with its locks, and the dead one's child.
    socket.write_all(&[1]).unwrap();
    let mut observer = observer;
    observer.go_on();
    observer.succeeds();
}

/// Why the locks lie apart. Were they on the ring's own file, a read lock would be all it takes.
#[test]
fn on_the_ring_itself_a_read_lock_would_keep_a_dead_participant_alive() {
    let ring = mpmc::Options::new(8, 16);
    let ring = ring.memfd("test", &CreateOptions::default()).unwrap();
    let dead = trusting!(mpmc::Producer, share(&ring).unwrap()).unwrap();
    let row = inspect(&Location::fd(share(&ring).unwrap())).unwrap();
    assert_eq!(row.participants.len(), 1);
    // As if its process had died: the row in use, the lock free.
    let used = File::from(share(&ring).unwrap());
    drop(dead);
    used.write_all_at(&1_u32.to_le_bytes(), 4096).unwrap();

    let observer = open_anew(&ring, false).unwrap();
    // It waits: until it executes its program, a child that another test has just made keeps what
    // it was born with, the dead one's descriptor and lock too.
    fcntl(&observer, FcntlArg::F_OFD_SETLKW(&file_lock(libc::F_RDLCK))).unwrap();
    let at = Location::fd(ring.try_clone().unwrap());
    let done = recover(&at, &RecoverOptions::default()).unwrap();
    assert_eq!(done.participants, 0);
    // By name, for the same reason.
    fcntl(&observer, FcntlArg::F_OFD_SETLK(&file_lock(libc::F_UNLCK))).unwrap();
    let done = recover(&at, &RecoverOptions::default()).unwrap();
    assert_eq!(done.participants, 1);

    let ring = Observable {
        locks: share(&ring).unwrap(),
        ring,
    };
    let refused = ring.observe().map(drop).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}

/// Root may open anything anew; the seal holds for root too.
#[test]
fn nobody_can_write_to_what_is_observed_but_those_who_are_attached() {
    let ring = observable();
    let at = ring.location().unwrap();
    let producer = trusting!(mpmc::Producer, &at).unwrap();
    let consumer = trusting!(mpmc::Consumer, &at).unwrap();
    let descriptor = ring.observe().unwrap();
    let anew = open_anew(&descriptor, true).unwrap();
    assert_eq!(write(&anew, b"x"), Err(Errno::EPERM));
    assert_eq!(fallocate(&anew, HOLE, 0, 4096), Err(Errno::EPERM));
    assert_eq!(ftruncate(&anew, 0), Err(Errno::EPERM));
    let writing = libc::PROT_READ | libc::PROT_WRITE;
    assert_eq!(map(&anew, writing), Err(Errno::EPERM));

    producer.try_push(5, b"go on").unwrap();
    assert_eq!(consumer.try_read().map(|record| record.tag()), Ok(5));
    let late = trusting!(mpmc::Producer, &at).map(drop);
    assert!(
        matches!(late, Err(AttachError::Open(OpenError::Io { .. }))),
        "{late:?}"
    );
    // Again and again.
    ring.observe().unwrap();
}

#[test]
fn a_ring_with_its_locks_apart_is_joined_with_both_files_only() {
    let (ring, other) = (observable(), observable());
    let options = AttachOptions::default();
    let refusal = |at: Location| {
        let trusting = trusting!(mpmc::Producer, &at).map(drop);
        let untrusting = mpmc::Producer::attach_untrusting(&at, &options).map(drop);
        let recovered = recover(&at, &RecoverOptions::default()).map(drop);
        assert!(recovered.is_err(), "{recovered:?}");
        match (trusting, untrusting) {
            (Err(AttachError::Open(one)), Err(AttachError::Open(other))) => {
                assert_eq!(one.to_string(), other.to_string());
                one
            }
            other => panic!("{other:?}"),
        }
    };
    let [mine, others] = [&ring, &other].map(|ring| ring.share().unwrap());
    assert!(matches!(
        refusal(Location::fd(mine.ring)),
        OpenError::NoLocks
    ));
    let at = Location::fd_with_locks(others.ring, mine.locks);
    assert!(matches!(refusal(at), OpenError::OtherLocks));
    let plain = mpmc::Options::new(8, 16);
    let plain = plain.memfd("test", &CreateOptions::default()).unwrap();
    let at = Location::fd_with_locks(plain, others.locks);
    assert!(matches!(refusal(at), OpenError::OtherLocks));
    let locks = File::from(ring.share().unwrap().locks);
    let refused = locks.write_all_at(b"another ring's", 0).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "sealed");
}

/// The same promises as on any other ring.
#[test]
fn roles_are_held_on_locks_that_lie_apart() {
    let ring = spsc::Options::new(4096);
    let ring = ring.observable("test", &CreateOptions::default()).unwrap();
    let at = ring.location().unwrap();
    let mut first = trusting!(spsc::Producer, &at).unwrap();
    let second = trusting!(spsc::Producer, &at).map(drop);
    assert!(
        matches!(
            second,
            Err(AttachError::RoleTaken {
                role: Role::Producer,
                ..
            })
        ),
        "{second:?}"
    );
    assert!(inspect(&at).unwrap().participants[0].is_alive);
    first.try_push(1, b"kept").unwrap();
    drop(first);
    let _third = trusting!(spsc::Producer, &at).unwrap();
    let options = AttachOptions::default();
    let mut consumer = spsc::Consumer::attach_untrusting(&at, &options).unwrap();
    let mut payload = Vec::new();
    assert_eq!(consumer.try_pop(&mut payload), Ok(1));
    assert_eq!(payload, b"kept");
}
