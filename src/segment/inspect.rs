//! Looking at a ring without joining it: opened and mapped for reading, not a byte written.
//!
//! # What the numbers mean
//! On a ring whose participants are dead or idle they are exact, whatever a kill has cut off: all
//! of them follow from the words that recovery goes by. On a busy one each word is looked at once,
//! at different times, so that sums can be off by what happened meanwhile.

use std::time::Duration;

use crate::geometry::{Geometry, Kind};
use crate::layout::{self, COUNTERS, ROW_ATTACHED, ROW_FREE, Row};
use crate::protocol::recovery::Shape;
use crate::protocol::slot_ring::{self, Word};
use crate::protocol::{
    Damage, ElementType, Owner, Redelivery, Store, byte_ring, ledger, owners, switches,
};
use crate::sync::Ordering;

use super::Role;
use super::error::{InspectError, OpenError};
use super::liveness::{Bytes, Identity, is_free};
use super::location::{Access, Location};
use super::map::Map;
use super::open::Opened;

/// Most claims that a [`Snapshot`] lists; it counts all.
pub const MAX_CLAIMS_LISTED: usize = 4096;

/// What a ring looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Which ring.
    pub kind: Kind,
    /// SPSC: bytes. MPMC: slots.
    pub capacity: u64,
    /// Longest record in bytes.
    pub max_record_bytes: u64,
    /// MPMC: bytes from slot to slot.
    pub stride_bytes: u64,
    /// MPMC: what becomes of records that a dead consumer held.
    pub redelivery: Redelivery,
    /// Most participants at a time.
    pub participants_max: u16,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The element type of a typed ring.
    pub element: Option<ElementType>,
    /// The ring's random name, 32 hexadecimal digits.
    pub ring_id: String,
    /// Which life of the ring's content.
    pub generation: u64,
    /// When it was created, in nanoseconds since 1970.
    pub created_unix_ns: u64,
    /// Whether it is from before the last boot.
    pub is_of_other_boot: bool,
    /// Whether the file has no name.
    pub is_anonymous: bool,
    /// Whether it is closed for writing.
    pub is_closed: bool,
    /// Whether somebody joined who cannot use the asymmetric barrier, so that all fence for real.
    pub uses_real_fences: bool,
    /// How often something was given back or somebody recovered.
    pub recovery_epoch: u64,
    /// Next position to read. MPMC: a hint, at most the true one.
    pub head: u64,
    /// Next position to write.
    pub tail: u64,
    /// Records committed since the ring was created.
    pub committed_records: u64,
    /// Records released, or dropped by the ring's policy, since the ring was created.
    pub released_records: u64,
    /// Records committed and not released.
    pub backlog_records: u64,
    /// Claims that are held, all of them.
    pub claims_count: u64,
    /// Claims that are held, the first [`MAX_CLAIMS_LISTED`] of them.
    pub claims: Vec<ClaimInfo>,
    /// Rows in use.
    pub participants: Vec<ParticipantInfo>,
    /// Counters of all rows, over all of their lives.
    pub totals: Counters,
}

/// A row in use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParticipantInfo {
    /// Its number, from 1 on.
    pub number: u16,
    /// What it does, if it says so.
    pub role: Option<Role>,
    /// Its process, in that one's own PID namespace.
    pub pid: u32,
    /// Clock ticks after boot at which that process started.
    pub process_start_ticks: u64,
    /// The name of its program.
    pub command: String,
    /// Whether its lock is held by itself: the only thing here that decides anything. Always true
    /// to an observer, who sees no locks: see [`Observable`](super::Observable).
    pub is_alive: bool,
    /// What its row is used for.
    pub state: RowState,
    /// When it attached, in nanoseconds since 1970.
    pub since_unix_ns: u64,
    /// How many participants this row has had.
    pub lives: u64,
    /// Counters since it attached.
    pub counters: Counters,
    /// Counters of the row over all of its lives.
    pub totals: Counters,
}

/// What a row is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowState {
    /// A participant has it.
    Attached,
    /// Its participant died, and somebody is, or was, mending what it left.
    Recovering,
}

/// A claim that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimInfo {
    /// Number of the participant.
    pub owner: u16,
    /// Which side it is of.
    pub kind: ClaimKind,
    /// Where it begins.
    pub position: u64,
    /// SPSC: how long it is. MPMC: 0, it is a slot.
    pub bytes: u64,
    /// MPMC: how often the record was given back before, up to 3.
    pub attempts: u8,
}

/// Which side a claim is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// A producer writes a record.
    Writing,
    /// A consumer reads one.
    Reading,
}

/// What participants count about themselves. May lack the last operation of one that was killed.
///
/// Of a byte ring, `committed` and `released` are what its positions tell: exact if nobody is at
/// work, and otherwise maybe one publication ahead, so that a later look may say less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Records committed.
    pub committed: u64,
    /// Records released.
    pub released: u64,
    /// Claims refused because the ring was full.
    pub full: u64,
    /// Reads refused because the ring was empty.
    pub empty: u64,
    /// Times gone to sleep.
    pub waits: u64,
    /// Participants that died and were recovered.
    pub recovered: u64,
    /// Records given back to be delivered again.
    pub redelivered: u64,
    /// Claims that became nothing. Exact.
    pub skipped: u64,
    /// Records dropped by the ring's policy after their consumer died.
    pub dropped: u64,
}

/// Looks at a ring. Needs only permission to read it.
///
/// # Errors
/// `Open` if the file is no ring, `Damaged` if its positions contradict each other.
pub fn inspect(location: &Location) -> Result<Snapshot, InspectError> {
    let opened = Opened::new(location, Access::Read, true)?;
    let map = Map::new(
        &opened.file,
        &opened.geometry,
        opened.map_bytes(),
        Access::Read,
    )
    .map_err(OpenError::io("map the file"))?;
    let mut snapshot = blank(&opened, &map)?;
    match opened.geometry.shape() {
        Shape::Slots(slots, _) => look_at_slots(&slots, &map, &opened.geometry, &mut snapshot),
        Shape::Bytes(bytes) => look_at_bytes(&bytes, &map, &mut snapshot)?,
    }
    snapshot.backlog_records = snapshot
        .committed_records
        .saturating_sub(snapshot.released_records);
    for owner in owners(&map) {
        look_at_row(&opened, &map, owner, &mut snapshot);
    }
    Ok(snapshot)
}

/// Everything but positions and participants.
fn blank(opened: &Opened, map: &Map) -> Result<Snapshot, OpenError> {
    let Opened {
        header, geometry, ..
    } = opened;
    let state = &map.control().state;
    Ok(Snapshot {
        kind: geometry.kind,
        capacity: geometry.capacity,
        max_record_bytes: geometry.max_record,
        stride_bytes: geometry.stride,
        redelivery: geometry.redelivery,
        participants_max: geometry.participants,
        file_bytes: geometry.file_bytes,
        element: geometry.element.clone(),
        ring_id: header
            .ring_id
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        generation: header.generation,
        created_unix_ns: header.created_unix_ns,
        is_of_other_boot: !opened.is_of_this_boot()?,
        is_anonymous: header.anonymous != 0,
        is_closed: switches::is_closed(map),
        uses_real_fences: switches::has_real_fences(map),
        // relaxed: display only.
        recovery_epoch: state.recovery_epoch.load(Ordering::Relaxed),
        head: 0,
        tail: 0,
        committed_records: 0,
        released_records: 0,
        backlog_records: 0,
        claims_count: 0,
        claims: Vec::new(),
        participants: Vec::new(),
        totals: Counters::default(),
    })
}

/// Every position before the frontier was claimed; what became of it, the words and rows tell.
fn look_at_slots(
    shape: &slot_ring::Shape,
    map: &Map,
    geometry: &Geometry,
    snapshot: &mut Snapshot,
) {
    snapshot.tail = slot_ring::frontier(shape, map);
    // relaxed: display only.
    snapshot.head = map.control().head.position.load(Ordering::Relaxed);
    let (mut writing, mut unreleased) = (0, 0);
    for index in 0..shape.slots() {
        // relaxed: display only.
        let word = Word(shape.word(map, index).load(Ordering::Relaxed));
        let kind = match word.state() {
            slot_ring::WRITING => ClaimKind::Writing,
            slot_ring::READING => ClaimKind::Reading,
            other => {
                unreleased += u64::from(other == slot_ring::COMMITTED);
                continue;
            }
        };
        match kind {
            ClaimKind::Writing => writing += 1,
            ClaimKind::Reading => unreleased += 1,
        }
        let position = slot_ring::position_of(shape, snapshot.tail, index, word);
        let (owner, attempts) = (word.owner(), word.attempts());
        snapshot.list(ClaimInfo {
            owner,
            kind,
            position,
            bytes: 0,
            attempts,
        });
    }
    let skipped = owners(map).fold(0, |sum: u64, owner| {
        let still_writing = |index| slot_ring::still_writing(shape, map, owner, index);
        sum.wrapping_add(ledger::skipped(map.row(owner), still_writing))
    });
    let claimed = snapshot.tail.wrapping_sub(geometry.origin);
    snapshot.committed_records = claimed.saturating_sub(writing).saturating_sub(skipped);
    snapshot.released_records = snapshot.committed_records.saturating_sub(unreleased);
}

fn look_at_bytes(
    shape: &byte_ring::Shape,
    map: &Map,
    snapshot: &mut Snapshot,
) -> Result<(), Damage> {
    let released = released_end(map)?;
    let end = byte_ring::committed_end(shape, map);
    snapshot.head = released.position;
    snapshot.tail = end.position;
    snapshot.committed_records = end.records;
    snapshot.released_records = released.records;
    let control = map.control();
    // relaxed: display only.
    let writing = control.tail.claim.load(Ordering::Relaxed);
    // relaxed: display only.
    let reading = control
        .consumer
        .claim
        .load(Ordering::Relaxed)
        .wrapping_sub(snapshot.head);
    let claims = [
        (Owner::PRODUCER, ClaimKind::Writing, snapshot.tail, writing),
        (Owner::CONSUMER, ClaimKind::Reading, snapshot.head, reading),
    ];
    for (owner, kind, position, bytes) in claims {
        // A mark behind the head is one that the consumer has just released past.
        if (1..=shape.capacity()).contains(&bytes) {
            let owner = owner.number();
            snapshot.list(ClaimInfo {
                owner,
                kind,
                position,
                bytes,
                attempts: 0,
            });
        }
    }
    Ok(())
}

/// A busy consumer may move on twice between two loads, and then no entry tells the head.
fn released_end(map: &Map) -> Result<byte_ring::Place, Damage> {
    const LOOKS: u32 = 64;
    let mut found = byte_ring::released_end(map);
    for _ in 0..LOOKS {
        if found.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_micros(50));
        found = byte_ring::released_end(map);
    }
    found
}

fn look_at_row(opened: &Opened, map: &Map, owner: Owner, snapshot: &mut Snapshot) {
    let row = map.row(owner);
    let mut totals = Counters::of(&row.counters);
    match (snapshot.kind, owner) {
        (Kind::SpscBytes, Owner::PRODUCER) => totals.committed = snapshot.committed_records,
        (Kind::SpscBytes, Owner::CONSUMER) => totals.released = snapshot.released_records,
        _ => {}
    }
    snapshot.totals.add(&totals);
    // sync(row-state): acquire half.
    let state = match row.state.load(Ordering::Acquire) {
        ROW_FREE => return,
        ROW_ATTACHED => RowState::Attached,
        _ => RowState::Recovering,
    };
    let Identity {
        pid,
        process_start,
        command,
    } = Identity::in_row(row);
    snapshot.participants.push(ParticipantInfo {
        number: owner.number(),
        role: role_of(row),
        pid,
        process_start_ticks: process_start,
        command,
        // Who sees no locks can call nobody dead.
        is_alive: !opened.sees_locks() || is_alive(opened, row, owner),
        state,
        // relaxed: display only.
        since_unix_ns: row.attached_unix_ns.load(Ordering::Relaxed),
        // relaxed: display only.
        lives: row.lives.load(Ordering::Relaxed),
        counters: totals.since(&Counters::of(&row.baseline)),
        totals,
    });
}

/// Whether the lock of a row in use is its participant's.
///
/// A mender takes the mending byte first. If it came too late, and a new participant has the row,
/// it lets go at once; if it has the row as well, it says so in the row's state. So while both are
/// held and the state is a participant's, it will soon be told; if the mender is kept from going
/// on, the state is believed.
fn is_alive(opened: &Opened, row: &Row, owner: Owner) -> bool {
    const LOOKS: u32 = 16;
    let is_held = |bytes| !is_free(opened.lock_file(), bytes).unwrap_or(true);
    for _ in 0..LOOKS {
        if !is_held(Bytes::row(owner)) {
            return false;
        }
        if !is_held(Bytes::mending(owner)) {
            return true;
        }
        // sync(row-state): acquire half.
        if row.state.load(Ordering::Acquire) != ROW_ATTACHED {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

fn role_of(row: &Row) -> Option<Role> {
    // relaxed: display only.
    Role::from_number(row.role.load(Ordering::Relaxed))
}

impl Snapshot {
    fn list(&mut self, claim: ClaimInfo) {
        self.claims_count += 1;
        if self.claims.len() < MAX_CLAIMS_LISTED {
            self.claims.push(claim);
        }
    }
}

impl Counters {
    fn of(words: &[crate::sync::AtomicU64; COUNTERS]) -> Self {
        // relaxed: display only.
        let load = |counter: usize| words[counter].load(Ordering::Relaxed);
        Self {
            committed: load(layout::COMMITTED),
            released: load(layout::RELEASED),
            full: load(layout::FULL),
            empty: load(layout::EMPTY),
            waits: load(layout::WAITS),
            recovered: load(layout::RECOVERED),
            redelivered: load(layout::REDELIVERED),
            skipped: load(layout::SKIPPED),
            dropped: load(layout::DROPPED),
        }
    }

    fn zip(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            committed: combine(self.committed, other.committed),
            released: combine(self.released, other.released),
            full: combine(self.full, other.full),
            empty: combine(self.empty, other.empty),
            waits: combine(self.waits, other.waits),
            recovered: combine(self.recovered, other.recovered),
            redelivered: combine(self.redelivered, other.redelivered),
            skipped: combine(self.skipped, other.skipped),
            dropped: combine(self.dropped, other.dropped),
        }
    }

    fn add(&mut self, other: &Self) {
        *self = self.zip(other, u64::wrapping_add);
    }

    fn since(&self, base: &Self) -> Self {
        Self {
            // Of a byte ring these were looked at before the row: one that attaches meanwhile may
            // have begun beyond them.
            committed: self.committed.saturating_sub(base.committed),
            released: self.released.saturating_sub(base.released),
            ..self.zip(base, u64::wrapping_sub)
        }
    }
}
