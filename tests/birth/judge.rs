//! What must be true after a race, found out without the library where that is possible.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

use annulus::segment::{Location, inspect, remove};
use annulus::{TryReadError, mpmc, spsc};
use nix::sys::wait::{WaitStatus, waitpid};

use super::arena::{Arena, DONE, EXISTED, NO_RING, NOTHING_YET, ROLE_TAKEN, UNEXPECTED};
use super::points::Operation;
use super::race::{Campaign, Deaths};
use super::racer;
use super::zygote::{Way, fork_child};

/// Judges a race that is over, and clears the place for the next one. True if there was a ring.
pub(crate) fn judge(campaign: &Campaign, operation: Operation, deaths: &Deaths) -> bool {
    let (arena, path) = (campaign.arena, campaign.path());
    let exists = path.exists();
    let created = count(arena, |seat| seat.creation.load(SeqCst) == DONE) + deaths.linked;
    if operation == Operation::Create {
        assert_eq!(
            created,
            usize::from(exists),
            "rings made, and whether there is one"
        );
    } else {
        assert!(
            exists && created == 0,
            "the ring that was there: {exists}, {created} more"
        );
    }
    check_answers(arena, exists.then(|| racer::ring_at(&path)), deaths);
    check_names(campaign, exists, deaths);
    if exists {
        let is_spsc = arena.is_spsc.load(SeqCst) == 1;
        check_file(&path, is_spsc, deaths);
        check_records(arena, is_spsc, &path);
        check_mended(operation, &path);
    }
    clear(campaign, deaths);
    exists
}

fn count(arena: &Arena, what: impl Fn(&super::arena::Seat) -> bool) -> usize {
    arena.seats.iter().filter(|seat| what(seat)).count()
}

/// Everybody was told the truth; only the dead were told nothing.
fn check_answers(arena: &Arena, ring: Option<u64>, deaths: &Deaths) {
    let exists = ring.is_some();
    for (number, seat) in arena.seats.iter().enumerate() {
        let (creation, opening) = (seat.creation.load(SeqCst), seat.opening.load(SeqCst));
        let complained = creation == UNEXPECTED || opening == UNEXPECTED;
        assert!(!complained, "racer {number}: {}", seat.words());
        assert!(
            creation != EXISTED || exists,
            "racer {number} saw a ring where there is none"
        );
        match opening {
            DONE => assert_eq!(Some(seat.ring.load(SeqCst)), ring, "racer {number}'s ring"),
            ROLE_TAKEN => assert!(exists, "racer {number} saw a ring where there is none"),
            NO_RING => assert!(!exists, "racer {number} did not find the ring"),
            NOTHING_YET => {}
            other => panic!("racer {number} answers {other}"),
        }
    }
    let silent = count(arena, |seat| seat.opening.load(SeqCst) == NOTHING_YET);
    let dead = deaths.unborn + deaths.linked + deaths.attaching;
    assert_eq!(silent, dead, "racers that gave no answer, and dead ones");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect()
}

/// Nothing but the ring has a name, except what creators left who died under a private one.
fn check_names(campaign: &Campaign, exists: bool, deaths: &Deaths) {
    let mut names = names(campaign.directory());
    names.retain(|name| name != "race.ring");
    let may_be_left = match campaign.way {
        Way::Unnamed => 0,
        Way::PrivateName => deaths.unborn + deaths.linked,
    };
    let are_private = names
        .iter()
        .all(|name| name.starts_with(".race.ring.annulus-"));
    let fine = are_private && names.len() <= may_be_left;
    assert!(
        fine,
        "left behind beside a ring ({exists}): {names:?}, {deaths:?}"
    );
}

/// Removes the ring, which nobody holds any more, and sees that the next creation leaves one file.
pub(crate) fn clear(campaign: &Campaign, deaths: &Deaths) {
    let path = campaign.path();
    let location = Location::from(&path);
    if path.exists() {
        remove(&location, false).expect("nobody is left in the ring");
    }
    // Only creators sweep: whom nobody left anything has nothing to show here.
    if deaths.unborn + deaths.linked > 0 {
        racer::create(false, &path).expect("the name is free");
        assert_eq!(
            names(campaign.directory()),
            ["race.ring"],
            "after the next creation"
        );
        remove(&location, false).expect("nobody is in the ring");
    }
    assert_eq!(names(campaign.directory()), [""; 0], "an empty place");
}

/// A number of the header.
fn field(bytes: &[u8], offset: u64, len: usize) -> u64 {
    let offset = usize::try_from(offset).expect("inside the file");
    let mut word = [0; 8];
    word[..len].copy_from_slice(&bytes[offset..offset + len]);
    u64::from_le_bytes(word)
}

/// Reads the file as `docs/format.md` draws it.
fn check_file(path: &Path, is_spsc: bool, deaths: &Deaths) {
    let bytes = std::fs::read(path).expect("the ring's bytes");
    let metadata = std::fs::metadata(path).expect("the ring");
    let len = bytes.len() as u64;
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    assert!(metadata.blocks() * 512 >= len, "not all of it has blocks");
    assert_eq!(&bytes[..8], b"annulus\x01", "the magic");
    let participants = if is_spsc {
        2
    } else {
        racer::PARTICIPANTS.into()
    };
    let (capacity, stride) = if is_spsc {
        (racer::CAPACITY, 8)
    } else {
        (racer::SLOTS, 64)
    };
    let data_bytes = if is_spsc { capacity } else { capacity * stride };
    let data_offset = if is_spsc { 1 << 16 } else { 2 << 16 };
    for (what, offset, size, expected) in [
        ("version", 8, 4, 1),
        ("byte order", 12, 4, 0x0102_0304),
        ("incompatible features", 16, 8, 0),
        ("kind", 32, 4, if is_spsc { 1 } else { 2 }),
        ("participants", 36, 4, participants),
        ("capacity", 40, 8, capacity),
        ("stride", 48, 8, stride),
        ("rows", 72, 8, 4096),
        ("data offset", 80, 8, data_offset),
        ("data bytes", 88, 8, data_bytes),
        ("file bytes", 96, 8, len),
        ("generation", 120, 8, 1),
        ("anonymous", 188, 4, 0),
    ] {
        assert_eq!(field(&bytes, offset, size), expected, "{what}");
    }
    assert_eq!(
        len,
        (data_offset + data_bytes).next_multiple_of(4096),
        "its size"
    );
    assert_ne!(bytes[104..120], [0; 16], "the ring's id");
    assert_eq!(bytes[BOOT_ID..BOOT_ID + 16], boot_id(), "the boot's id");
    let rows = (0..participants).map(|row| field(&bytes, 4096 + 512 * row, 4));
    let in_use = rows.filter(|state| *state != 0).count();
    // One more for the dead that the race found there, if nobody came to mend it.
    assert!(
        in_use <= deaths.attaching + 1,
        "{in_use} rows are in use, {deaths:?}"
    );
    if !is_spsc {
        let words = (0..capacity).map(|slot| field(&bytes, data_offset + slot * stride, 8));
        for word in words {
            assert!(word & 7 <= 4, "a slot's word is {word:#x}");
        }
    }
}

const BOOT_ID: usize = 136;

fn boot_id() -> Vec<u8> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let digits: String = text.trim().split('-').collect();
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// Makes the ring one from before the last boot.
pub(crate) fn date_back(path: &Path) {
    let file = std::fs::File::options()
        .write(true)
        .open(path)
        .expect("the ring");
    file.write_all_at(&[0x5a; 16], BOOT_ID as u64)
        .expect("its header");
}

/// Every committed record came to one reader, or is still there; and the ring works.
fn check_records(arena: &Arena, is_spsc: bool, path: &Path) {
    let mut came: BTreeMap<u32, u32> = BTreeMap::new();
    for seat in &arena.seats {
        if let Some(tag) = seat.popped.load(SeqCst).checked_sub(1) {
            *came.entry(tag).or_default() += 1;
        }
    }
    const OURS: u32 = 1000;
    let mut payload = Vec::new();
    let mut take = |popped: Result<u32, TryReadError>, payload: &[u8]| match popped {
        Ok(tag) => {
            assert_eq!(payload, tag.to_le_bytes(), "what record {tag} holds");
            *came.entry(tag).or_default() += 1;
            true
        }
        Err(TryReadError::Empty) => false,
        Err(error) => panic!("{error}"),
    };
    if is_spsc {
        // SAFETY: only this test's processes have the ring, and all use it through the library.
        let mut producer = unsafe { spsc::Producer::attach(path) }.expect("its producer is gone");
        // SAFETY: as above.
        let mut consumer = unsafe { spsc::Consumer::attach(path) }.expect("its consumer is gone");
        producer.try_push(OURS, &OURS.to_le_bytes()).expect("space");
        while take(consumer.try_pop(&mut payload), &payload) {}
    } else {
        // SAFETY: as above.
        let producer = unsafe { mpmc::Producer::attach(path) }.expect("a free row");
        // SAFETY: as above.
        let consumer = unsafe { mpmc::Consumer::attach(path) }.expect("a free row");
        producer.try_push(OURS, &OURS.to_le_bytes()).expect("space");
        while take(consumer.try_pop(&mut payload), &payload) {}
    }
    let pushed = |(number, seat): (usize, &super::arena::Seat)| {
        let is_there = seat.pushed.load(SeqCst) == 1;
        is_there.then(|| (u32::try_from(number).expect("a small number"), 1))
    };
    let mut expected: BTreeMap<u32, u32> =
        arena.seats.iter().enumerate().filter_map(pushed).collect();
    expected.insert(OURS, 1);
    assert_eq!(
        came, expected,
        "how often each record came, and should have"
    );
}

/// Nobody and nothing of anybody is left in the ring, and the dead were counted.
fn check_mended(operation: Operation, path: &Path) {
    let seen = inspect(&Location::from(path)).expect("a whole ring");
    assert!(
        seen.participants.is_empty(),
        "rows in use: {:?}",
        seen.participants
    );
    assert!(
        seen.claims.is_empty(),
        "claims of nobody: {:?}",
        seen.claims
    );
    let had_a_dead = matches!(operation, Operation::Attach | Operation::Replace);
    assert!(
        !had_a_dead || seen.totals.recovered > 0,
        "the dead one was not recovered"
    );
}

/// A producer that dies with a claim in its hands.
pub(crate) fn leave_a_dead_producer(is_spsc: bool, path: &Path) {
    let dead = fork_child(|| {
        if is_spsc {
            // SAFETY: only this test's processes have the ring, and all use it through the library.
            let mut producer = unsafe { spsc::Producer::attach(path) }.expect("a new ring");
            let _claim = producer.try_claim(8).expect("an empty ring");
            die();
        } else {
            // SAFETY: as above.
            let producer = unsafe { mpmc::Producer::attach(path) }.expect("a new ring");
            let _claim = producer.try_claim(8).expect("an empty ring");
            die();
        }
    });
    let status = waitpid(dead, None).expect("it is our child");
    assert!(matches!(status, WaitStatus::Signaled(..)), "{status:?}");
}

fn die() {
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("a signal to ourselves");
}
