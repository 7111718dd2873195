//! What a racer does: create the ring or find it there, attach, leave a record or take one.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

use annulus::segment::{AttachError, AttachOptions, CreateError, OpenError};
use annulus::{mpmc, spsc};

use super::arena::{Arena, DONE, EXISTED, NO_RING, ROLE_TAKEN, SEATS, Seat, UNEXPECTED, VICTIMS};
use super::points::Phase;

/// Room for every racer, also if the rows of the dead are not freed yet.
pub(crate) const PARTICIPANTS: u16 = 128;
const _: () = assert!(PARTICIPANTS as usize >= 2 * SEATS);
pub(crate) const SLOTS: u64 = 128;
pub(crate) const SLOT_BYTES: u64 = 16;
pub(crate) const CAPACITY: u64 = 4096;

/// Runs every race from seat `number` until there is none any more.
pub(crate) fn run(arena: &Arena, number: usize, path: &Path) {
    let descriptors = count_of("/proc/self/fd");
    let mut race = 0;
    while let Some(next) = arena.wait_for_race(race) {
        race = next;
        enter(arena, number, path);
        arena.finish();
    }
    assert_eq!(count_of("/proc/self/fd"), descriptors, "a descriptor leaks");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("our own mappings");
    let name = path.file_name().expect("a name").to_string_lossy();
    assert!(!maps.contains(&*name), "a mapping leaks: {maps}");
}

fn count_of(directory: &str) -> usize {
    std::fs::read_dir(directory).expect("a directory").count()
}

/// One race.
pub(crate) fn enter(arena: &Arena, number: usize, path: &Path) {
    let seat = &arena.seats[number];
    let is_spsc = arena.is_spsc.load(SeqCst) == 1;
    if seat.creates.load(SeqCst) == 1 {
        seat.creation.store(creation(seat, is_spsc, path), SeqCst);
        arena.spread_news();
    }
    let opening = loop {
        // Asked before the attempt: a ring that comes after it makes news.
        let (news, hopeless) = (arena.news(), arena.is_hopeless());
        match attempt(seat, is_spsc, number, path) {
            NO_RING if !hopeless => arena.wait_for_news(news),
            outcome => break outcome,
        }
    };
    seat.opening.store(opening, SeqCst);
}

fn creation(seat: &Seat, is_spsc: bool, path: &Path) -> u32 {
    let outcome = Phase::Creating.within(seat, || create(is_spsc, path));
    match outcome {
        Ok(()) => DONE,
        Err(CreateError::AlreadyExists { .. }) => EXISTED,
        Err(error) => {
            seat.complain(&format!("create: {error:?}"));
            UNEXPECTED
        }
    }
}

pub(crate) fn create(is_spsc: bool, path: &Path) -> Result<(), CreateError> {
    if is_spsc {
        spsc::Options::new(CAPACITY).create(path)
    } else {
        let options = mpmc::Options::new(SLOTS, SLOT_BYTES);
        options.participants(PARTICIPANTS).create(path)
    }
}

/// One attempt to attach, and if it succeeds the work.
fn attempt(seat: &Seat, is_spsc: bool, number: usize, path: &Path) -> u32 {
    let options = AttachOptions {
        accept_other_boot: true,
        ..AttachOptions::default()
    };
    let produces = seat.produces.load(SeqCst) == 1;
    let record = u32::try_from(number).expect("a small number");
    let mut taken = Vec::new();
    /// Attaches as `$handle` in the sight of the tracer.
    macro_rules! attached {
        ($handle:ty) => {{
            // SAFETY: only racers have the ring, and all of them use it through the library.
            let attach = || unsafe { <$handle>::attach_with(path, &options) };
            match Phase::Attaching.within(seat, attach) {
                Ok(handle) => handle,
                Err(error) => return refusal(seat, is_spsc, &error),
            }
        }};
    }
    // In the ring of bytes each role is for one at a time, so nobody holds it for long.
    let outcome = match (is_spsc, produces) {
        (true, true) => {
            let mut producer = attached!(spsc::Producer);
            seat.ring.store(ring_at(path), SeqCst);
            push(seat, || producer.try_push(record, &record.to_le_bytes()))
        }
        (true, false) => {
            let mut consumer = attached!(spsc::Consumer);
            seat.ring.store(ring_at(path), SeqCst);
            pop(seat, &consumer.try_pop(&mut taken))
        }
        (false, true) => {
            let producer = attached!(mpmc::Producer);
            seat.ring.store(ring_at(path), SeqCst);
            push(seat, || producer.try_push(record, &record.to_le_bytes()))
        }
        (false, false) => {
            let consumer = attached!(mpmc::Consumer);
            seat.ring.store(ring_at(path), SeqCst);
            pop(seat, &consumer.try_pop(&mut taken))
        }
    };
    if taken.len() == 4 || taken.is_empty() {
        outcome
    } else {
        seat.complain(&format!("a record of {} bytes", taken.len()));
        UNEXPECTED
    }
}

fn push(seat: &Seat, push: impl FnOnce() -> Result<(), annulus::TryClaimError>) -> u32 {
    match push() {
        Ok(()) => {
            seat.pushed.store(1, SeqCst);
            DONE
        }
        Err(error) => {
            seat.complain(&format!("push: {error:?}"));
            UNEXPECTED
        }
    }
}

fn pop(seat: &Seat, popped: &Result<u32, annulus::TryReadError>) -> u32 {
    match popped {
        Ok(tag) => {
            seat.popped.store(tag + 1, SeqCst);
            DONE
        }
        Err(annulus::TryReadError::Empty) => DONE,
        Err(error) => {
            seat.complain(&format!("pop: {error:?}"));
            UNEXPECTED
        }
    }
}

fn refusal(seat: &Seat, is_spsc: bool, error: &AttachError) -> u32 {
    match error {
        AttachError::Open(OpenError::NotFound) => NO_RING,
        AttachError::RoleTaken { .. } if is_spsc => ROLE_TAKEN,
        _ => {
            seat.complain(&format!("attach: {error:?}"));
            UNEXPECTED
        }
    }
}

/// The first half of the id of the ring under the name, read without the library.
pub(crate) fn ring_at(path: &Path) -> u64 {
    const RING_ID: u64 = 104;
    let file = std::fs::File::open(path).expect("the ring to which we are attached");
    let mut id = [0; 8];
    file.read_exact_at(&mut id, RING_ID).expect("its header");
    u64::from_le_bytes(id)
}

/// Seats of those that run from the first race to the last.
pub(crate) const STEADY: usize = SEATS - VICTIMS;
