//! Inspection, removal, and rings of another boot.

use std::fs;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::children::{Peer, slots_of};
use super::lives::commit_one;
use super::{bytes, created, join_bytes, join_slots, slots};
use crate::geometry::Kind;
use crate::layout::{CONTROL_OFFSET, Control, Header};
use crate::protocol::{Attachment, slot_ring};
use crate::segment::location::Access;
use crate::segment::open::Opened;
use crate::segment::remove::unlink_unless_renamed;
use crate::segment::{
    AttachError, AttachOptions, ClaimKind, InspectError, Location, OpenError, RecoverError,
    RecoverOptions, RemoveError, Role, RowState, attach, inspect, recover, remove,
};
use crate::spsc;

fn look(path: &PathBuf) -> crate::segment::Snapshot {
    inspect(&Location::from(path)).unwrap()
}

#[test]
fn a_look_at_a_ring_counts_exactly_and_writes_nothing() {
    let (_directory, path) = created(&slots());
    let mine = join_slots(&path).unwrap();
    let shape = slots_of(&mine);
    for _ in 0..3 {
        commit_one(&mine);
    }
    let held = slot_ring::claim_to_write(&shape, mine.store(), mine.me()).unwrap();
    slot_ring::abort(&shape, mine.store(), mine.me(), held);
    let mut reading = slot_ring::Consumption::new();
    let mut read = || {
        reading
            .claim(&shape, mine.store(), mine.me(), &mut false)
            .unwrap()
    };
    let first = read();
    slot_ring::release(&shape, mine.store(), first);
    read();
    let mut peer = Peer::start("hold a slot", &path);
    peer.hear();
    let pid = peer.pid();
    peer.kill();

    let before = fs::read(&path).unwrap();
    let seen = look(&path);
    assert_eq!(before, fs::read(&path).unwrap());
    assert_eq!(
        (seen.kind, seen.capacity, seen.participants_max),
        (Kind::MpmcSlots, 8, 3)
    );
    assert_eq!((seen.head, seen.tail), (2, 6));
    // Three of ours and one of the peer's; one aborted, one still claimed.
    assert_eq!((seen.committed_records, seen.released_records), (4, 1));
    assert_eq!((seen.backlog_records, seen.totals.skipped), (3, 1));
    assert!(!seen.is_of_other_boot && !seen.is_closed && !seen.is_anonymous);
    let claims: Vec<_> = seen
        .claims
        .iter()
        .map(|claim| (claim.owner, claim.kind, claim.position))
        .collect();
    assert_eq!(
        claims,
        [(1, ClaimKind::Reading, 1), (2, ClaimKind::Writing, 5)]
    );
    let [me, dead] = &seen.participants[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (me.number, me.is_alive, me.pid),
        (1, true, std::process::id())
    );
    assert_eq!((dead.number, dead.is_alive, dead.pid), (2, false, pid));
    assert_eq!(
        (dead.state, dead.role),
        (RowState::Attached, Some(Role::Producer))
    );

    assert_eq!(mine.mend().participants, 1);
    let after = look(&path);
    assert_eq!((after.committed_records, after.totals.skipped), (4, 2));
    assert_eq!(after.participants.len(), 1);
}

#[test]
fn a_look_at_a_byte_ring_after_a_kill() {
    let (_directory, path) = created(&bytes());
    let mut peer = Peer::start("hold a producer", &path);
    peer.hear();
    peer.kill();
    let seen = look(&path);
    assert_eq!((seen.committed_records, seen.released_records), (1, 0));
    assert_eq!((seen.head, seen.tail), (0, 24));
    assert_eq!(
        (seen.claims_count, seen.claims[0].kind),
        (1, ClaimKind::Writing)
    );
    assert_eq!((seen.claims[0].owner, seen.claims[0].position), (1, 24));
}

#[test]
fn a_look_needs_no_permission_to_write() {
    let (_directory, path) = created(&bytes());
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    look(&path);
    assert!(matches!(
        inspect(&Location::from("/dev/shm/annulus/none")),
        Err(InspectError::Open(OpenError::NotFound))
    ));
}

#[test]
fn a_ring_is_removed_only_when_nobody_lives() {
    let (_directory, path) = created(&slots());
    let location = Location::from(&path);
    let mine = join_slots(&path).unwrap();
    let mut peer = Peer::start("hold a slot", &path);
    peer.hear();
    assert!(matches!(
        remove(&location, false),
        Err(RemoveError::InUse { attached: 2, .. })
    ));
    peer.kill();
    match remove(&location, false) {
        Err(RemoveError::InUse {
            attached: 1, pid, ..
        }) => assert_eq!(pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    drop(mine);
    remove(&location, false).unwrap();
    assert!(matches!(
        remove(&location, false),
        Err(RemoveError::Open(OpenError::NotFound))
    ));
    fs::write(&path, b"no ring").unwrap();
    assert!(matches!(
        remove(&location, false),
        Err(RemoveError::Open(OpenError::Header(_)))
    ));
    remove(&location, true).unwrap();
}

/// What lies between the look at the participants and the removal.
#[test]
fn a_ring_that_took_the_name_meanwhile_keeps_it() {
    let (_directory, path) = created(&slots());
    let opened = Opened::new(&Location::from(&path), Access::ReadWrite, false).unwrap();
    let (_other_directory, other) = created(&slots());
    fs::rename(&other, &path).unwrap();
    assert!(matches!(
        unlink_unless_renamed(&opened, &path),
        Err(RemoveError::Replaced)
    ));
    let successor = Opened::new(&Location::from(&path), Access::ReadWrite, false).unwrap();
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    assert!(matches!(
        unlink_unless_renamed(&successor, &path),
        Err(RemoveError::Open(OpenError::NotFound))
    ));
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    assert!(matches!(
        unlink_unless_renamed(&successor, &path),
        Err(RemoveError::Replaced)
    ));
    unlink_unless_renamed(&successor, &aside).unwrap();
    assert!(!aside.exists());
}

fn reboot(path: &PathBuf) {
    let offset = offset_of!(Header, boot_id) as u64;
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(&[7; 16], offset)
        .unwrap();
}

#[test]
fn a_ring_carries_the_name_of_the_boot_that_made_it() {
    let (_directory, path) = created(&slots());
    let name = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let offset = offset_of!(Header, boot_id);
    let in_file: String = fs::read(&path).unwrap()[offset..offset + 16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(in_file, name.trim_end().replace('-', ""));
}

#[test]
fn a_ring_of_another_boot_is_adopted_only_on_request() {
    let (_directory, path) = created(&slots());
    let location = Location::from(&path);
    let mut peer = Peer::start("hold a slot", &path);
    peer.hear();
    peer.kill();
    reboot(&path);
    assert!(look(&path).is_of_other_boot);
    assert!(matches!(join_slots(&path), Err(AttachError::OtherBoot)));
    let plain = RecoverOptions::default();
    assert!(matches!(
        recover(&location, &plain),
        Err(RecoverError::OtherBoot)
    ));
    let accept = RecoverOptions {
        accept_other_boot: true,
        ..plain
    };
    let done = recover(&location, &accept).unwrap();
    assert_eq!((done.participants, done.skipped), (1, 1));
    assert!(!look(&path).is_of_other_boot);
    assert_eq!(look(&path).backlog_records, 1);
    let mine = join_slots(&path).unwrap();
    commit_one(&mine);
    assert_eq!(look(&path).tail, 3);
}

#[test]
fn a_ring_of_another_boot_is_adopted_by_the_first_to_attach() {
    let (_directory, path) = created(&bytes());
    let location = Location::from(&path);
    let mut peer = Peer::start("hold a producer", &path);
    peer.hear();
    peer.kill();
    reboot(&path);
    let options = AttachOptions {
        accept_other_boot: true,
        ..AttachOptions::default()
    };
    let mine = attach(&location, Role::Consumer, Kind::SpscBytes, &options).unwrap();
    assert!(!look(&path).is_of_other_boot);
    // Somebody holds it who, by the header, cannot have adopted it.
    reboot(&path);
    let other = attach(&location, Role::Producer, Kind::SpscBytes, &options);
    assert!(matches!(other, Err(AttachError::OtherBootInUse)));
    drop(mine);
}

#[test]
fn a_torn_ring_is_not_adopted() {
    let accept = RecoverOptions {
        accept_other_boot: true,
        ..RecoverOptions::default()
    };
    let damaged = |path: &PathBuf| {
        reboot(path);
        matches!(
            recover(&path.into(), &accept),
            Err(RecoverError::Damaged(_))
        )
    };
    let write = |path: &PathBuf, offset: u64, word: u64| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&word.to_le_bytes(), offset).unwrap();
    };
    let word_of = |index: u64| slots().data_offset + index * slots().stride;
    // A word without a state, a lap that no neighbour has, an owner without a row.
    for torn in [
        7,
        slot_ring::Word::free(5).0,
        2047 << 5 | slot_ring::WRITING,
    ] {
        let (_directory, path) = created(&slots());
        write(&path, word_of(3), torn);
        assert!(damaged(&path), "{torn:#x}");
    }
    // A hint of the future only: the words tell better.
    let (_directory, path) = created(&slots());
    write(&path, CONTROL_OFFSET + offset_of!(Control, tail) as u64, 5);
    assert!(!damaged(&path));
    assert_eq!(look(&path).tail, 0);
    // A record that the journal does not know.
    let (_directory, path) = created(&bytes());
    write(&path, bytes().data_offset, 16 << 2 | 1);
    assert!(damaged(&path));
    drop(join_bytes(&path, Role::Producer).unwrap_err());
}

/// The journals count them, for each participant from where it attached.
#[test]
fn who_wrote_and_read_how_many_records_of_a_byte_ring_is_told() {
    let (_directory, path) = created(&bytes());
    let options = AttachOptions::default();
    let mut last = [0; 2];
    for (life, written) in [(1, 3), (2, 2)] {
        // SAFETY: everybody who has the file is in this test, and keeps to the protocol.
        let producer = unsafe { spsc::Producer::attach_with(&path, &options) };
        // SAFETY: as above.
        let consumer = unsafe { spsc::Consumer::attach_with(&path, &options) };
        let (mut producer, mut consumer) = (producer.unwrap(), consumer.unwrap());
        assert_eq!(look(&path).totals.committed, last[0]);
        let [wrote, read] = [0, 1].map(|row| look(&path).participants.swap_remove(row));
        assert_eq!((wrote.counters.committed, read.counters.released), (0, 0));
        for _ in 0..written {
            producer.try_push(0, b"counted").unwrap();
        }
        consumer.try_read().unwrap().release();
        let seen = look(&path);
        let [wrote, read] = &seen.participants[..] else {
            panic!("two participants")
        };
        assert_eq!((wrote.lives, wrote.counters.committed), (life, written));
        assert_eq!((read.lives, read.counters.released), (life, 1));
        last = [last[0] + written, last[1] + 1];
        assert_eq!([wrote.totals.committed, read.totals.released], last);
        assert_eq!([seen.totals.committed, seen.totals.released], last);
    }
    // One that has a row and no handle has done nothing, whoever was there before.
    let (_wrote, _read) = (
        join_bytes(&path, Role::Producer).unwrap(),
        join_bytes(&path, Role::Consumer).unwrap(),
    );
    let [wrote, read] = [0, 1].map(|row| look(&path).participants.swap_remove(row));
    assert_eq!((wrote.counters.committed, read.counters.released), (0, 0));
}
