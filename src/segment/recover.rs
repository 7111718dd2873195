//! Mending what the dead left, and adopting a ring that a reboot has orphaned.
//!
//! # Invariants
//! 1. Whoever recovers a row holds its lock, and sees after that that the row is in use.
//! 2. A bystander takes the mending byte first, and lets go of it last: see [`super::liveness`].
//! 3. Whoever adopts a ring holds every row's lock, so nobody is attached while it is checked.
//!
//! # After a crash
//! The locks are gone with the mender, the row is still in use: the next one does all of it again.
//! A mender that died before waking others delays them by one bound.
//!
//! # After a power loss
//! A ring on ext4 or xfs comes back with any mixture of old and new pages. [`adopt`] checks all
//! words against each other, and refuses a ring in which they do not fit. What it cannot check is
//! payload, and whether records that fit are the newest: a ring is no journal. Counts may be off.

use std::time::Duration;

use crate::layout::Header;
use crate::protocol::recovery::{self, Shape};
use crate::protocol::slot_ring::{self, Word};
use crate::protocol::{Damage, Owner, Recovered, Store, byte_ring, owners};
use crate::sync::{AtomicU64, Ordering};

use super::error::{AttachError, OpenError, RecoverError};
use super::fork::Private;
use super::liveness::{Bytes, Lock, is_free};
use super::location::{Access, Location};
use super::map::Map;
use super::open::{Opened, boot_id, read_header};

/// How a ring is recovered.
#[derive(Clone, Debug, Default)]
pub struct RecoverOptions {
    /// Also on file systems on which locks, blocks or mappings are not known to behave.
    pub force_file_system: bool,
    /// Checks and adopts a ring from before the last boot, if nobody is attached to it.
    pub accept_other_boot: bool,
}

/// Recovers every dead participant of a ring, without joining it.
///
/// # Errors
/// `OtherBoot` if the ring is from before the last boot and that was not accepted; see
/// [`RecoverError`].
pub fn recover(location: &Location, options: &RecoverOptions) -> Result<Recovered, RecoverError> {
    let opened = Opened::new(location, Access::ReadWrite, options.force_file_system)?;
    let map = Map::new(
        &opened.file,
        &opened.geometry,
        opened.map_bytes(),
        Access::ReadWrite,
    )
    .map_err(OpenError::io("map the file"))?;
    if opened.is_of_this_boot()? {
        return Ok(mend_others(
            &map,
            opened.lock_file(),
            &opened.geometry.shape(),
            None,
        ));
    }
    if !options.accept_other_boot {
        return Err(RecoverError::OtherBoot);
    }
    Ok(adopt(&opened, &map)?)
}

/// Recovers every dead participant but `me`. The caller lets no other thread use `file` meanwhile.
pub(super) fn mend_others(
    map: &Map,
    file: &Private,
    shape: &Shape,
    me: Option<Owner>,
) -> Recovered {
    let mut done = Recovered::default();
    for owner in owners(map).filter(|owner| Some(*owner) != me) {
        if recovery::in_use(map, owner) && is_free(file, Bytes::row(owner)).unwrap_or(false) {
            done += take_over(map, file, shape, owner).unwrap_or_default();
        }
    }
    done
}

/// `None` if somebody else is at it, or has done it.
pub(super) fn take_over(
    map: &Map,
    file: &Private,
    shape: &Shape,
    dead: Owner,
) -> Option<Recovered> {
    // Dropped in the opposite order: the row's lock first (INV-2).
    let _mending = Lock::take(file, Bytes::mending(dead)).ok()??;
    let _row = Lock::take(file, Bytes::row(dead)).ok()??;
    recovery::in_use(map, dead).then(|| mend_row(map, shape, dead))
}

/// Recovers a row in use whose lock the caller holds, and wakes everybody.
pub(super) fn mend_row(map: &Map, shape: &Shape, dead: Owner) -> Recovered {
    recovery::recover(shape, map, dead, || {
        crate::wait::wake_all(&map.control().items);
        crate::wait::wake_all(&map.control().space);
    })
}

/// Tells the log. Not while locks are held: whoever listens may use rings itself.
pub(super) fn report(done: &Recovered) {
    if done.participants > 0 {
        tracing::warn!(
            participants = done.participants,
            skipped = done.skipped,
            redelivered = done.redelivered,
            dropped = done.dropped,
            "recovered what dead participants left"
        );
    }
}

/// Why a ring of another boot was not adopted.
#[derive(Debug)]
pub(super) enum AdoptError {
    Open(OpenError),
    InUse,
    Damaged(Damage),
}

impl From<AdoptError> for AttachError {
    fn from(error: AdoptError) -> Self {
        match error {
            AdoptError::Open(error) => Self::Open(error),
            AdoptError::InUse => Self::OtherBootInUse,
            AdoptError::Damaged(damage) => Self::Damaged(damage),
        }
    }
}

impl From<AdoptError> for RecoverError {
    fn from(error: AdoptError) -> Self {
        match error {
            AdoptError::Open(error) => Self::Open(error),
            AdoptError::InUse => Self::OtherBootInUse,
            AdoptError::Damaged(damage) => Self::Damaged(damage),
        }
    }
}

/// Makes a ring of another boot one of this boot: checks it, recovers everybody, and writes the new
/// boot into the header. Done already if somebody else was quicker.
pub(super) fn adopt(opened: &Opened, map: &Map) -> Result<Recovered, AdoptError> {
    const NAPS: u32 = 250;
    const NAP: Duration = Duration::from_millis(1);
    let participants = opened.geometry.participants;
    let boot = boot_id().map_err(AdoptError::Open)?;
    let lock = |bytes| {
        Lock::take(&opened.file, bytes)
            .map_err(|error| AdoptError::Open(OpenError::io("lock the rows")(error)))
    };
    for _ in 0..NAPS {
        let mending = lock(Bytes::mending_all(participants))?;
        let rows = lock(Bytes::all_rows(participants))?;
        let header = read_header(&opened.file, opened.geometry.file_bytes);
        if header.map_err(AdoptError::Open)?.boot_id == boot {
            return Ok(Recovered::default());
        }
        if mending.is_some() && rows.is_some() {
            return adopt_locked(opened, map, boot).map_err(AdoptError::Damaged);
        }
        drop((rows, mending));
        std::thread::sleep(NAP);
    }
    Err(AdoptError::InUse)
}

fn adopt_locked(opened: &Opened, map: &Map, boot: [u8; 16]) -> Result<Recovered, Damage> {
    let shape = opened.geometry.shape();
    let mut orphans = vec![false; usize::from(opened.geometry.participants) + 1];
    match &shape {
        Shape::Slots(slots, _) => mend_positions(slots, map, &mut orphans)?,
        Shape::Bytes(bytes) => check_bytes(bytes, map)?,
    }
    let mut done = Recovered::default();
    for owner in owners(map) {
        if orphans[usize::from(owner.number())] || recovery::in_use(map, owner) {
            done += mend_row(map, &shape, owner);
        }
    }
    let [low, high] = boot_words(map);
    let boot: [u64; 2] = bytemuck::cast(boot);
    // relaxed: whoever opens the ring reads it through the kernel, and again under these locks.
    low.store(boot[0], Ordering::Relaxed);
    // relaxed: as above; half of it is another boot as well.
    high.store(boot[1], Ordering::Relaxed);
    Ok(done)
}

fn boot_words(map: &Map) -> [&AtomicU64; 2] {
    const FIRST: usize = core::mem::offset_of!(Header, boot_id) / 8;
    const _: () = assert!(core::mem::offset_of!(Header, boot_id).is_multiple_of(8));
    let words = map.header_words();
    [&words[FIRST], &words[FIRST + 1]]
}

/// Puts both hints where the slots say that they belong, if the slots agree with each other, and
/// marks the owners of claims.
///
/// The words alone tell the frontier: behind the latest position that was claimed. All claimed ones
/// must lie in the lap before it, all free ones in the lap from it on.
fn mend_positions(shape: &slot_ring::Shape, map: &Map, orphans: &mut [bool]) -> Result<(), Damage> {
    // relaxed: nobody else is attached, here and below (INV-3).
    let near = map.control().tail.hint.load(Ordering::Relaxed);
    let slots = shape.slots();
    let mut ahead = i64::MIN;
    for index in 0..slots {
        let word = load(shape, map, index);
        let position = slot_ring::position_of(shape, near, index, word);
        let claimed = if word.state() == slot_ring::FREE {
            position.wrapping_sub(slots)
        } else {
            position
        };
        ahead = ahead.max(claimed.wrapping_add(1).wrapping_sub(near).cast_signed());
    }
    let frontier = near.wrapping_add_signed(ahead);
    for index in 0..slots {
        let word = load(shape, map, index);
        let position = slot_ring::position_of(shape, frontier, index, word);
        check_slot(slots, frontier, position, word)?;
        if word.state() == slot_ring::WRITING || word.state() == slot_ring::READING {
            let orphan = orphans
                .get_mut(usize::from(word.owner()))
                .filter(|_| word.owner() != 0);
            *orphan.ok_or(damaged(word, "expected one of the ring's participants"))? = true;
        }
    }
    // relaxed: as above.
    map.control().tail.hint.store(frontier, Ordering::Relaxed);
    // relaxed: as above. A hint that is too low costs a walk.
    map.control()
        .head
        .position
        .store(frontier.wrapping_sub(slots), Ordering::Relaxed);
    Ok(())
}

fn load(shape: &slot_ring::Shape, map: &Map, index: u64) -> Word {
    // relaxed: nobody else is attached (INV-3).
    Word(shape.word(map, index).load(Ordering::Relaxed))
}

fn check_slot(slots: u64, frontier: u64, position: u64, word: Word) -> Result<(), Damage> {
    let in_order = match word.state() {
        slot_ring::FREE => position.wrapping_sub(frontier) < slots,
        state if state <= slot_ring::SKIP => {
            frontier.wrapping_sub(position).wrapping_sub(1) < slots
        }
        _ => return Err(damaged(word, "expected one of five states")),
    };
    if in_order {
        Ok(())
    } else {
        Err(damaged(word, "expected the lap of its neighbours"))
    }
}

fn damaged(word: Word, expected: &'static str) -> Damage {
    Damage {
        what: "a slot's word",
        found: word.0,
        expected,
    }
}

/// Reads from the head to the end: every header must be sound, and their number the journals'.
fn check_bytes(shape: &byte_ring::Shape, map: &Map) -> Result<(), Damage> {
    let end = byte_ring::committed_end(shape, map);
    let mut reader = byte_ring::Reader::resume(shape, map)?;
    let refusal = loop {
        // Ends: each step moves on by 8 bytes at least, and none passes a whole capacity.
        match reader.read(shape, map) {
            Ok(_) => {}
            Err(refusal) => break refusal,
        }
    };
    let next = reader.next();
    reader.rewind(map);
    match refusal {
        byte_ring::ReadRefusal::Damaged(damage) => Err(damage),
        byte_ring::ReadRefusal::Empty if next.position() == end.position => {
            if next.records() == end.records {
                return Ok(());
            }
            let expected = "expected the producer's count";
            Err(Damage {
                what: "the number of records",
                found: next.records(),
                expected,
            })
        }
        byte_ring::ReadRefusal::Empty => {
            let expected = "expected the producer's journal to say so";
            Err(Damage {
                what: "the end of the records",
                found: next.position(),
                expected,
            })
        }
    }
}
