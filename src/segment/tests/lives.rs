//! Who lives, who is dead, and what becomes of what the dead held.

use std::io::{Read, Write};
use std::mem::ManuallyDrop;

use super::children::{Peer, slots_of};
use super::{bytes, created, join_bytes, join_slots, one_that_forks, slots};
use crate::layout::{RECOVERED, ROW_ATTACHED, ROW_FREE, ROW_RECOVERING};
use crate::protocol::{Attachment, Loss, Owner, Store, recovery, slot_ring};
use crate::segment::fork::Private;
use crate::segment::liveness::{Bytes, Lock, try_lock};
use crate::segment::location::Access;
use crate::segment::open::Opened;
use crate::segment::recover::take_over;
use crate::segment::{AttachError, Location, Mapped, RecoverOptions, Role, recover};
use crate::sync::Ordering;

/// Commits a record of 8 bytes.
pub(super) fn commit_one(mapped: &Mapped) {
    let shape = slots_of(mapped);
    let held = slot_ring::claim_to_write(&shape, mapped.store(), mapped.me()).unwrap();
    slot_ring::commit(mapped.store(), held, 0, 8);
}

/// Claims the next record; how often it was given back.
fn claim_one(mapped: &Mapped) -> Option<u8> {
    let shape = slots_of(mapped);
    slot_ring::Consumption::new()
        .claim(&shape, mapped.store(), mapped.me(), &mut false)
        .ok()
        .map(|held| held.attempts())
}

#[test]
fn a_row_is_in_use_from_attach_to_detach() {
    let (_directory, path) = created(&slots());
    let first = join_slots(&path).unwrap();
    let second = join_slots(&path).unwrap();
    assert_eq!((first.me().number(), second.me().number()), (1, 2));
    assert!(first.is_here() && first.is_alive(first.me()) && first.is_alive(second.me()));
    let number = second.me();
    drop(second);
    assert!(!first.is_alive(number));
    assert!(!recovery::in_use(first.store(), number));
    assert_eq!(first.mend().participants, 0);
    assert_eq!(first.store().row(number).lives.load(Ordering::Relaxed), 1);
}

#[test]
fn participants_beyond_the_last_row_are_refused() {
    let (_directory, path) = created(&slots());
    let first = join_slots(&path).unwrap();
    let second = first.another(Role::Consumer).unwrap();
    let third = second.another(Role::Consumer).unwrap();
    assert!(matches!(
        first.another(Role::Consumer),
        Err(AttachError::NoRow { participants: 3 })
    ));
    assert!(matches!(
        join_slots(&path),
        Err(AttachError::NoRow { participants: 3 })
    ));
    drop(second);
    assert_eq!(first.another(Role::Consumer).unwrap().me().number(), 2);
    drop(third);
}

#[test]
fn a_second_producer_is_refused_and_told_who_is_there() {
    let (_directory, path) = created(&bytes());
    let mut peer = Peer::start("hold a producer", &path);
    peer.hear();
    match join_bytes(&path, Role::Producer) {
        Err(AttachError::RoleTaken { role, pid, command }) => {
            assert_eq!((role, pid), (Role::Producer, peer.pid()));
            assert!(!command.is_empty());
        }
        other => panic!("{other:?}"),
    }
    join_bytes(&path, Role::Consumer).unwrap();
    peer.nudge();
    assert_eq!(peer.hear(), "detached");
    join_bytes(&path, Role::Producer).unwrap();
}

#[test]
fn a_dead_producer_is_recovered_by_the_next_one() {
    let (_directory, path) = created(&bytes());
    let mut peer = Peer::start("hold a producer", &path);
    peer.hear();
    peer.kill();
    let next = join_bytes(&path, Role::Producer).unwrap();
    assert_eq!(next.store().control().tail.claim.load(Ordering::Relaxed), 0);
    assert_eq!(
        next.store().row(next.me()).counters[crate::layout::RECOVERED].load(Ordering::Relaxed),
        1
    );
}

#[test]
fn what_the_dead_wrote_is_skipped_and_what_they_read_is_delivered_again() {
    let (_directory, path) = created(&slots());
    let alive = join_slots(&path).unwrap();
    let mut writer = Peer::start("hold a slot", &path);
    writer.hear();
    assert_eq!(alive.mend().participants, 0);
    writer.kill();
    let done = alive.mend();
    assert_eq!(
        (done.participants, done.skipped, done.redelivered),
        (1, 1, 0)
    );
    assert_eq!(alive.mend().participants, 0);
    assert_eq!(claim_one(&alive), Some(0));

    let mut reader = Peer::start("hold a record", &path);
    reader.hear();
    reader.kill();
    let done = recover(&Location::from(&path), &RecoverOptions::default()).unwrap();
    assert_eq!(
        (done.participants, done.skipped, done.redelivered),
        (1, 0, 1)
    );
    assert_eq!(claim_one(&alive), Some(1));
}

/// The probe comes before the locks: meanwhile an attacher may have taken the dead one's row, or
/// another mender be at it, or have done it.
#[test]
fn a_row_that_was_taken_since_the_probe_is_not_taken_over() {
    let (_directory, path) = created(&slots());
    let mender = join_slots(&path).unwrap();
    let newcomer = join_slots(&path).unwrap();
    let (shape, row) = (slots_of(&newcomer), newcomer.me());
    let held = slot_ring::claim_to_write(&shape, newcomer.store(), row).unwrap();
    let opened = || Opened::new(&Location::from(&path), Access::ReadWrite, false).unwrap();
    let file = opened().file;
    let take_over = || take_over(mender.store(), &file, mender.shape(), row);
    assert_eq!(take_over(), None);
    let index = held.index(&shape);
    assert!(slot_ring::still_writing(&shape, mender.store(), row, index));
    let state = || mender.store().row(row).state.load(Ordering::Relaxed);
    assert_eq!(state(), ROW_ATTACHED);

    slot_ring::commit(newcomer.store(), held, 0, 8);
    drop(newcomer);
    assert_eq!(take_over(), None, "nobody uses the row");

    mender
        .store()
        .row(row)
        .state
        .store(ROW_ATTACHED, Ordering::Relaxed);
    let other = opened().file;
    let mending = Lock::take(&other, Bytes::mending(row)).unwrap().unwrap();
    assert_eq!(take_over(), None, "another one mends it");
    drop(mending);
    // What another test's `Command` has begun to run may have the newcomer's descriptor until it
    // executes its program.
    let mended = (0..100_000).find_map(|_attempt| {
        std::thread::yield_now();
        take_over()
    });
    assert_eq!(mended.map(|done| done.participants), Some(1));
    assert_eq!(state(), ROW_FREE);
    let count = &mender.store().row(row).counters[RECOVERED];
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[test]
fn a_stopped_participant_keeps_what_it_holds() {
    let (_directory, path) = created(&slots());
    let alive = join_slots(&path).unwrap();
    let mut peer = Peer::start("hold a slot", &path);
    peer.hear();
    peer.stop();
    let owner = Owner::new(2).unwrap();
    assert!(alive.is_alive(owner));
    assert_eq!(alive.mend().participants, 0);
    assert!(recovery::in_use(alive.store(), owner));
    peer.kill();
    assert!(!alive.is_alive(owner));
    assert_eq!(alive.mend().participants, 1);
}

#[test]
fn what_a_dead_mender_left_is_mended_again() {
    let (_directory, path) = created(&slots());
    let alive = join_slots(&path).unwrap();
    let dead = Owner::new(3).unwrap();
    for left in [ROW_ATTACHED, ROW_RECOVERING, u32::MAX] {
        alive.store().row(dead).state.store(left, Ordering::Relaxed);
        assert_eq!(alive.mend().participants, 1, "{left}");
    }
}

#[test]
fn a_row_is_not_recovered_by_two() {
    let (_directory, path) = created(&slots());
    let alive = join_slots(&path).unwrap();
    let dead = Owner::new(3).unwrap();
    alive
        .store()
        .row(dead)
        .state
        .store(ROW_ATTACHED, Ordering::Relaxed);
    let other = Opened::new(&Location::from(&path), Access::ReadWrite, false).unwrap();
    let lock = Lock::take(&other.file, Bytes::mending(dead))
        .unwrap()
        .unwrap();
    assert_eq!(alive.mend().participants, 0);
    drop(lock);
    assert_eq!(alive.mend().participants, 1);
}

/// One that came too late, found somebody alive, and is about to let go.
#[test]
fn a_participant_is_alive_though_a_mender_has_come() {
    let (_directory, path) = created(&slots());
    let mine = join_slots(&path).unwrap();
    let other = Private::open(|| Location::from(&path).open(Access::ReadWrite)).unwrap();
    let mending = Lock::take(&other, Bytes::mending(mine.me()))
        .unwrap()
        .unwrap();
    let is_alive = || {
        let snapshot = crate::segment::inspect(&Location::from(&path)).unwrap();
        snapshot.participants[0].is_alive
    };
    assert!(is_alive());
    // So is one whose row says that it is being recovered not, but its mender.
    let state = &mine.store().row(mine.me()).state;
    state.store(ROW_RECOVERING, Ordering::Relaxed);
    assert!(!is_alive());
    state.store(ROW_ATTACHED, Ordering::Relaxed);
    drop(mending);
    assert!(is_alive());
}

#[test]
fn a_mender_is_never_taken_for_a_participant() {
    const ROUNDS: u32 = 300;
    let (_directory, path) = created(&bytes());
    let other = Opened::new(&Location::from(&path), Access::ReadWrite, false).unwrap();
    let map = join_bytes(&path, Role::Consumer).unwrap();
    let (round, done) = (
        crate::sync::AtomicU32::new(0),
        crate::sync::AtomicU32::new(0),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut mended = 0;
            while done.load(Ordering::Relaxed) == 0 {
                // Once a round: a mender leaves the row free, so that no other one follows.
                if round.load(Ordering::Relaxed) == mended {
                    std::thread::yield_now();
                    continue;
                }
                let row = map.store().row(Owner::PRODUCER);
                let Some(_mending) =
                    Lock::take(&other.file, Bytes::mending(Owner::PRODUCER)).unwrap()
                else {
                    continue;
                };
                let Some(_row) = Lock::take(&other.file, Bytes::row(Owner::PRODUCER)).unwrap()
                else {
                    continue;
                };
                // As of one that died attached.
                row.state.store(ROW_ATTACHED, Ordering::Relaxed);
                std::thread::yield_now();
                recovery::recover(map.shape(), map.store(), Owner::PRODUCER, || {});
                mended = round.load(Ordering::Relaxed);
            }
        });
        for _ in 0..ROUNDS {
            round.fetch_add(1, Ordering::Relaxed);
            let joined = join_bytes(&path, Role::Producer);
            if joined.is_err() {
                done.store(1, Ordering::Relaxed);
            }
            drop(joined.unwrap());
        }
        done.store(1, Ordering::Relaxed);
    });
}

#[test]
fn a_forked_child_has_no_handle_and_keeps_no_lock() {
    let _alone = one_that_forks();
    let (_directory, path) = created(&bytes());
    let producer = ManuallyDrop::new(join_bytes(&path, Role::Producer).unwrap());
    let mut consumer = ManuallyDrop::new(join_bytes(&path, Role::Consumer).unwrap());
    let (mut from_child, mut to_parent) = std::io::pipe().unwrap();
    let (mut from_parent, to_child) = std::io::pipe().unwrap();
    // SAFETY: the child calls nothing that a lock of another thread could hold up, then ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(to_child);
        let left = consumer.is_here() || consumer.mend().participants != 0;
        // SAFETY: dropped here and nowhere else in this process.
        unsafe { ManuallyDrop::drop(&mut consumer) };
        let _ = to_parent.write_all(&[u8::from(left)]);
        let _ = from_parent.read(&mut [0]);
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    assert!(pid > 0);
    drop((from_parent, to_parent));
    let mut left = [9];
    from_child.read_exact(&mut left).unwrap();
    assert_eq!(left, [0], "the child's handle is not there");
    assert!(producer.is_here() && producer.is_alive(Owner::PRODUCER));
    assert!(
        producer.is_alive(Owner::CONSUMER),
        "the child's drop detached nobody"
    );
    assert!(matches!(
        join_bytes(&path, Role::Producer),
        Err(AttachError::RoleTaken { .. })
    ));
    // The child lives on, and holds neither role.
    drop(ManuallyDrop::into_inner(producer));
    drop(ManuallyDrop::into_inner(consumer));
    join_bytes(&path, Role::Producer).unwrap();
    drop(to_child);
    let mut status = 0;
    // SAFETY: our child, our status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
}

#[test]
fn a_description_that_a_fork_has_copied_is_never_locked() {
    let _alone = one_that_forks();
    let (_directory, path) = created(&bytes());
    let (mut from_parent, to_child) = std::io::pipe().unwrap();
    let child = std::cell::Cell::new(0);
    let open_amid_a_fork = || {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)?;
        if child.get() == 0 {
            // SAFETY: the child waits for its parent and ends.
            child.set(unsafe { libc::fork() });
            if child.get() == 0 {
                // SAFETY: open in the child, and used by nobody else there.
                unsafe { libc::close(std::os::fd::AsRawFd::as_raw_fd(&to_child)) };
                let _ = from_parent
                    .try_clone()
                    .and_then(|mut pipe| pipe.read(&mut [0]));
                // SAFETY: ends this process.
                unsafe { libc::_exit(0) };
            }
        }
        Ok(file)
    };
    let private = Private::open(open_amid_a_fork).unwrap();
    assert!(try_lock(&private, Bytes::row(Owner::PRODUCER)).unwrap());
    drop(private);
    join_bytes(&path, Role::Producer).unwrap();
    drop(to_child);
    assert_eq!(from_parent.read(&mut [0]).unwrap(), 0);
    // SAFETY: our child; its status is of no interest.
    unsafe { libc::waitpid(child.get(), std::ptr::null_mut(), 0) };
}

#[test]
fn forks_amid_attaching_keep_no_lock() {
    let _alone = one_that_forks();
    let (_directory, path) = created(&bytes());
    let (reader, writer) = std::io::pipe().unwrap();
    let done = crate::sync::AtomicU32::new(0);
    let children = std::thread::scope(|scope| {
        let attaching = scope.spawn(|| {
            while done.load(Ordering::Relaxed) == 0 {
                drop(join_bytes(&path, Role::Producer).unwrap());
            }
        });
        let children: Vec<_> = (0..50)
            .map(|_| {
                // SAFETY: the child only waits and ends.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    // SAFETY: open descriptors of this child, and a buffer of one byte.
                    unsafe { libc::close(std::os::fd::AsRawFd::as_raw_fd(&writer)) };
                    let mut byte = 0_u8;
                    let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
                    // SAFETY: as above.
                    unsafe { libc::read(fd, (&raw mut byte).cast(), 1) };
                    // SAFETY: ends this process.
                    unsafe { libc::_exit(0) };
                }
                pid
            })
            .collect();
        done.store(1, Ordering::Relaxed);
        // Joined here: a lock that a child keeps makes this panic.
        let joined = attaching.join();
        (children, joined)
    });
    drop(writer);
    for pid in children.0 {
        // SAFETY: our child; its status is of no interest.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    }
    children.1.unwrap();
}

#[test]
fn a_handle_notices_that_its_name_has_gone_to_another_ring() {
    let (_directory, path) = created(&bytes());
    let producer = join_bytes(&path, Role::Producer).unwrap();
    let consumer = join_bytes(&path, Role::Consumer).unwrap();
    assert_eq!(producer.loss(), None);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        producer.loss(),
        None,
        "nobody has the name, somebody is left"
    );
    drop(consumer);
    assert_eq!(producer.loss(), Some(Loss::Removed), "nobody is left");
    crate::segment::create(&Location::from(&path), &bytes(), &Default::default()).unwrap();
    assert_eq!(producer.loss(), Some(Loss::Replaced));
    assert!(
        producer.another(Role::Producer).is_err(),
        "one of the old file"
    );
    join_bytes(&path, Role::Producer).unwrap();
}
