//! What a row says of its participant, which bytes are locked, and which descriptors are kept.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::children::Peer;
use super::{bytes, created, join, join_bytes, join_slots, one_that_forks, place, slots};
use crate::geometry::{Geometry, Kind};
use crate::layout::{COMMITTED, LOCK_BASE};
use crate::protocol::{Attachment, Owner, Redelivery, Store, ledger, slot_ring, switches};
use crate::segment::create::{allocate, allocate_in_parts};
use crate::segment::fork::Private;
use crate::segment::inspect::MAX_CLAIMS_LISTED;
use crate::segment::liveness::{Bytes, Lock, is_free};
use crate::segment::{CreateError, Location, ParticipantInfo, Role, inspect};
use crate::sync::Ordering;

fn participants(path: &Path) -> Vec<ParticipantInfo> {
    inspect(&Location::from(path)).unwrap().participants
}

#[test]
fn a_row_names_its_process_and_counts_its_own_life_alone() {
    let (_directory, path) = created(&slots());
    let first = join(&path, Role::Consumer, Kind::MpmcSlots).unwrap();
    ledger::add(first.store().row(first.me()), COMMITTED, 5);
    drop(first);
    let second = join(&path, Role::Consumer, Kind::MpmcSlots).unwrap();
    let row = second.store().row(second.me());
    ledger::add(row, COMMITTED, 2);
    let producer = join_slots(&path).unwrap();

    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_command) = stat.rsplit_once(')').unwrap();
    // The command is field 2, the start is field 22.
    let start: u64 = after_command
        .split_whitespace()
        .nth(22 - 3)
        .unwrap()
        .parse()
        .unwrap();
    let command = fs::read_to_string("/proc/self/comm").unwrap();
    let [me, other] = &participants(&path)[..] else {
        panic!("two participants")
    };
    assert_eq!(
        (me.role, other.role),
        (Some(Role::Consumer), Some(Role::Producer))
    );
    assert_eq!(
        (me.pid, me.process_start_ticks),
        (std::process::id(), start)
    );
    assert_eq!(me.command, command.trim_end());
    assert_eq!((me.counters.committed, me.totals.committed), (2, 7));
    assert_eq!(other.counters.committed, 0);
    assert_eq!((me.lives, other.lives), (2, 1));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let since = now.abs_diff(Duration::from_nanos(me.since_unix_ns));
    assert!(
        since < Duration::from_secs(60),
        "attached {since:?} from now"
    );

    row.command[0].store(u64::from_le_bytes(*b"a\tb\x1b[m\0?"), Ordering::Relaxed);
    row.role.store(9, Ordering::Relaxed);
    let me = &participants(&path)[0];
    assert_eq!((me.command.as_str(), me.role), ("a?b?[m", None));
    drop(producer);
}

#[test]
fn a_look_tells_whether_fences_are_real() {
    let (_directory, path) = created(&slots());
    let mine = join_slots(&path).unwrap();
    let told = || inspect(&Location::from(&path)).unwrap().uses_real_fences;
    assert!(!told());
    switches::close(mine.store());
    assert!(!told());
    switches::fence_for_real(mine.store());
    assert!(told());
}

#[test]
fn a_look_lists_no_more_claims_than_it_says() {
    let many = MAX_CLAIMS_LISTED as u64 * 2;
    let (_directory, path) =
        created(&Geometry::mpmc(many, 8, 3, Redelivery::Unlimited, None).unwrap());
    let mine = join_slots(&path).unwrap();
    let shape = super::children::slots_of(&mine);
    for _ in 0..=MAX_CLAIMS_LISTED {
        slot_ring::claim_to_write(&shape, mine.store(), mine.me()).unwrap();
    }
    let seen = inspect(&Location::from(&path)).unwrap();
    assert_eq!(seen.claims.len(), MAX_CLAIMS_LISTED);
    assert_eq!(seen.claims_count, MAX_CLAIMS_LISTED as u64 + 1);
}

/// The numbers of docs/format.md: another build must lock the same bytes.
#[test]
fn the_locks_are_on_the_bytes_that_the_format_says() {
    let (_directory, path) = created(&slots());
    let open = || Private::open(|| File::options().read(true).write(true).open(&path)).unwrap();
    let (holder, prober) = (open(), open());
    let held_at = |byte: u64| {
        let mut lock = libc::flock {
            l_type: libc::c_short::try_from(libc::F_WRLCK).unwrap(),
            l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap(),
            l_start: byte.cast_signed(),
            l_len: 1,
            l_pid: 0,
        };
        // SAFETY: the descriptor is open and the structure is ours.
        let code = unsafe { libc::fcntl(prober.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
        assert_eq!(code, 0);
        libc::c_int::from(lock.l_type) != libc::F_UNLCK
    };
    let held = |bytes: Bytes, at: &[u64]| {
        let lock = Lock::take(&holder, bytes).unwrap().unwrap();
        for byte in (LOCK_BASE - 2..LOCK_BASE + 6).chain(LOCK_BASE + 4094..LOCK_BASE + 4102) {
            assert_eq!(
                held_at(byte),
                at.contains(&byte),
                "{bytes:?}, byte {byte:#x}"
            );
        }
        drop(lock);
        at.iter().for_each(|byte| assert!(!held_at(*byte)));
    };
    let base = 1 << 62;
    let third = Owner::new(3).unwrap();
    held(Bytes::CREATOR, &[base - 1]);
    held(Bytes::row(third), &[base + 3]);
    held(Bytes::mending(third), &[base + 4096 + 3]);
    held(Bytes::all_rows(3), &[base + 1, base + 2, base + 3]);
    let mending = [1, 2, 3].map(|row| base + 4096 + row);
    held(Bytes::mending_all(3), &mending);
    assert!(is_free(&prober, Bytes::row(third)).unwrap());
}

#[test]
fn a_free_row_is_taken_before_one_whose_participant_has_died() {
    let (_directory, path) = created(&slots());
    let mut peer = Peer::start("hold a slot", &path);
    peer.hear();
    peer.kill();
    let mine = join_slots(&path).unwrap();
    assert_eq!(mine.me().number(), 2);
    assert_eq!(
        participants(&path).len(),
        1,
        "and the dead one is recovered"
    );
}

fn descriptors_of(path: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let leads_there = |entry: &fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|to| to == path);
    links.filter_map(Result::ok).filter(leads_there).count()
}

/// Of the two descriptions of an attachment one is held by its mapping alone.
#[test]
fn an_attachment_keeps_one_descriptor_and_gives_it_back() {
    let (_directory, path) = created(&bytes());
    let mine = join_bytes(&path, Role::Producer).unwrap();
    assert_eq!(descriptors_of(&path), 1);
    drop(mine);
    assert_eq!(descriptors_of(&path), 0);
}

/// A handle that is gone takes its descriptor off the list: a child that closed that number would
/// close what the program has opened since.
#[test]
fn a_forked_child_closes_the_descriptors_of_handles_and_no_others() {
    let _alone = one_that_forks();
    let (_directory, path) = created(&slots());
    // Numbers so high that no other thread of the tests gets one of them.
    let open_high = || {
        let file = File::options().read(true).write(true).open(&path)?;
        // SAFETY: the descriptor is open; the copy is nobody's yet.
        let copy = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 700) };
        // SAFETY: as above.
        Ok(unsafe { File::from_raw_fd(copy) })
    };
    let [gone, kept] = [(); 2].map(|()| Private::open(open_high).unwrap());
    let number = gone.as_raw_fd();
    drop(gone);
    // SAFETY: the descriptor is open; the copy gets the lowest free number from `number` on.
    let copy = unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, number) };
    assert_eq!(copy, number);
    let is_open = |descriptor| {
        // SAFETY: asks for the flags of a number, open or not.
        unsafe { libc::fcntl(descriptor, libc::F_GETFD) != -1 }
    };
    // SAFETY: the child makes system calls only, then ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = i32::from(!is_open(copy)) + 2 * i32::from(is_open(kept.as_raw_fd()));
        // SAFETY: ends this process.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: our child, our status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    // SAFETY: ours, and used no more.
    unsafe { libc::close(copy) };
    assert_eq!(
        copy, number,
        "another thread took the number: nothing is shown"
    );
    assert_eq!(
        libc::WEXITSTATUS(status),
        0,
        "1: a stranger's is closed; 2: ours is open"
    );
}

#[test]
fn a_file_gets_exactly_its_size_and_its_errors_their_names() {
    let (_directory, path) = place();
    let file = File::create(&path).unwrap();
    let bytes = (16 << 20) + 4096;
    allocate_in_parts(&file, bytes).unwrap();
    assert_eq!(file.metadata().unwrap().len(), bytes);
    let refused = allocate(&File::open(&path).unwrap(), 4096);
    assert!(
        matches!(refused, Err(CreateError::Io { .. })),
        "{refused:?}"
    );
    assert_eq!(allocate(&file, 4096).unwrap(), 4096);
    assert_eq!(file.metadata().unwrap().len(), 4096);
}
