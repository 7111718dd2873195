//! SPSC ring of variable-length records: the record's own header is the flag.
//!
//! ```text
//! header: u64 = tag:32 | len:30 | kind:2        EMPTY 0 | RECORD 1 | PADDING 2
//! record: header | payload of len bytes | to the next multiple of 8
//! ```
//!
//! A record is contiguous: one that does not fit before the end of the ring is preceded by a
//! PADDING to the end. A consumer polls the header at which the next record will stand, so a
//! hand-off moves one cache line. The first header after the committed end is always EMPTY, which
//! costs 8 bytes of space and one store a publication.
//!
//! # Invariants
//! 1. head <= committed end <= head + capacity - 8, in every state that a death can leave.
//! 2. The header at the committed end is EMPTY until the store that publishes what follows it. All
//!    other stores of a publication come before that one, and it is the first header of a batch.
//! 3. Bytes of head..end are only read; all others only written, by the claim that begins at end.
//! 4. At most one producer and one consumer live: each holds its role's lock.
//! 5. Of a role's two journal entries, one is whole and tells its position exactly; see below.
//!
//! # The journal
//! Before each publication the producer overwrites the entry that is not the true one: records
//! first, then end, both as they will be afterwards. Let L and H be the entries' ends, L <= H.
//! - If head is beyond L, the end is H, for head never passes the end.
//! - Otherwise the header at L has not been handed back as space, and nobody but a publication at L
//!   can have made it other than EMPTY. If it is EMPTY the end is L, else H.
//!
//! An entry torn by a death has its old end. If that lies below, it is L, its successor H was
//! published long ago, and the rule finds H. If it lies above, it was never published, and the rule
//! finds L. Only before the second publication can both ends be equal; then the smaller count is
//! the whole one. The consumer writes its entry before its single store of the head, so the entry
//! whose end equals the head is the true one, found the same way.
//!
//! # Origins
//! A producer that publishes another ring's records may say how far they reach: see `origin`.
//!
//! # Who may touch what
//! Headers, tail line: the producer stores, the consumer loads headers. Head and consumer line: the
//! consumer stores, the producer loads the head. The lock's holder in place of a dead one.
//!
//! # Pairing
//! - `header-commit`: store in [`Writer::publish`] -> load in [`Reader::read`]; carries the
//!   payload.
//! - `head-release`: store in [`Reader::release_to`] -> load in [`Writer::claim`]; carries "no
//!   borrow is left".
//! - `death-order`: stores that must not be exchanged although no living party looks: claim mark,
//!   origin, journal, header, claim mark -> loads by a successor or an observer.
//! - `close`: claim mark in [`Writer::claim`], barrier, load in [`admits`](super::switches::admits)
//!   -> exchange in [`close`](super::switches::close), a barrier that passes over nobody, load of
//!   the claim mark in [`Reader::drained`].
//!
//! # After a crash
//! Producer dead before the publishing store: no trace but its claim mark. After it: whole records.
//! Consumer dead before the store of the head: everything from the head on is delivered again.

#[cfg(not(loom))]
pub(in crate::protocol) mod origin;
mod reader;
#[cfg(not(loom))]
mod run;
#[cfg(all(test, not(loom)))]
mod tests;
mod writer;

#[cfg(not(loom))]
pub use origin::{Origin, origin_at};
pub use reader::{Found, Mark, ReadRefusal, Reader};
#[cfg(not(loom))]
pub use run::Records;
pub use writer::{Span, WriteRefusal, Writer};

use super::{Damage, Owner, Recovered, Store};
use crate::layout::{COMMITTED, JournalEntry, RELEASED};
use crate::sync::{AtomicU64, Ordering};

const RECORD: u64 = 1;
const PADDING: u64 = 2;
/// Bytes of a header, and the alignment of records.
pub const HEADER: u64 = 8;
/// Smallest capacity in bytes.
pub const MIN_CAPACITY: u64 = if cfg!(loom) { 16 } else { 4096 };
/// A length has 30 bits; the padding before a record is shorter than the record.
const LONGEST: u64 = (1 << 30) - HEADER;

/// The geometry of the bytes, copied out of the header once and checked.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The bits of a position that are its offset.
    mask: u64,
    max_record: u64,
}

impl Shape {
    /// A ring of `capacity` bytes, a power of two.
    pub fn new(capacity: u64) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self {
            mask: capacity - 1,
            max_record: Self::max_record_of(capacity),
        }
    }

    /// The longest record that can be claimed in an empty ring wherever its head stands: its
    /// padding and its span may together not exceed the ring.
    pub fn max_record_of(capacity: u64) -> u64 {
        (capacity / 2 - HEADER).min(LONGEST)
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// Longest record in bytes.
    pub fn max_record(&self) -> u64 {
        self.max_record
    }

    /// Where a position lies in the data area.
    pub fn offset(&self, position: u64) -> u64 {
        position & self.mask
    }

    fn bytes_to_end(&self, position: u64) -> u64 {
        self.capacity() - self.offset(position)
    }

    #[inline(always)]
    fn word<'s, S: Store + ?Sized>(&self, store: &'s S, position: u64) -> &'s AtomicU64 {
        debug_assert_eq!(
            store.bytes_around(),
            self.capacity(),
            "another ring's store"
        );
        store.word_around(position)
    }

    /// Bytes of the longest record with its header.
    fn max_span(&self) -> u64 {
        span_of(self.max_record)
    }
}

/// Where a record's header lies in the data area: what the store masks to find its word.
#[inline(always)]
fn offset_in<S: Store + ?Sized>(store: &S, record: u64) -> u64 {
    record & (store.bytes_around() - HEADER)
}

/// Bytes that a record takes in the ring.
pub fn span_of(len: u64) -> u64 {
    HEADER + len.next_multiple_of(8)
}

fn header(tag: u32, len: u64, kind: u64) -> u64 {
    u64::from(tag) << 32 | len << 2 | kind
}

/// A position of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Behind the last byte of some record.
    pub position: u64,
    /// Records before it since the ring was created.
    pub records: u64,
}

/// Overwrites an entry that is not the true one.
#[inline]
fn write_entry(entry: &JournalEntry, end: u64, records: u64) {
    // sync(death-order): release half.
    entry.records.store(records, Ordering::Release);
    // sync(death-order): release half.
    entry.end.store(end, Ordering::Release);
}

fn load_entry(entry: &JournalEntry) -> Place {
    // sync(death-order): acquire half.
    let position = entry.end.load(Ordering::Acquire);
    // sync(death-order): acquire half.
    Place {
        position,
        records: entry.records.load(Ordering::Acquire),
    }
}

/// The committed end, exact if no producer is at work; see 'The journal'.
pub fn committed_end<S: Store + ?Sized>(shape: &Shape, store: &S) -> Place {
    committed_entry(shape, store).0
}

/// The committed end and which journal entry tells it.
fn committed_entry<S: Store + ?Sized>(shape: &Shape, store: &S) -> (Place, usize) {
    let control = store.control();
    let [first, second] = [0, 1].map(|entry| (load_entry(&control.tail.journal[entry]), entry));
    let difference = second
        .0
        .position
        .wrapping_sub(first.0.position)
        .cast_signed();
    let (low, high) = match difference.cmp(&0) {
        core::cmp::Ordering::Equal => {
            return if first.0.records <= second.0.records {
                first
            } else {
                second
            };
        }
        core::cmp::Ordering::Less => (second, first),
        core::cmp::Ordering::Greater => (first, second),
    };
    // sync(head-release): acquire half.
    let head = control.head.position.load(Ordering::Acquire);
    if head.wrapping_sub(low.0.position).cast_signed() > 0 {
        return high;
    }
    // sync(header-commit): acquire half.
    let published = shape
        .word(store, low.0.position & !7)
        .load(Ordering::Acquire)
        != 0;
    if published { high } else { low }
}

fn check_used(shape: &Shape, tail: u64, head: u64) -> Result<(), Damage> {
    // The last header before the head is EMPTY (INV-1).
    if tail.wrapping_sub(head) > shape.capacity() - HEADER {
        let expected = "expected at most the tail, and less than a capacity behind it";
        return Err(Damage {
            what: "the head",
            found: head,
            expected,
        });
    }
    Ok(())
}

/// Whether the consumer, who has read up to its mark, finds something behind it. Changes nothing.
#[cfg(not(loom))]
pub fn has_record<S: Store + ?Sized>(shape: &Shape, store: &S) -> bool {
    // relaxed: whoever reads it looks again, here and below.
    let read_to = store.control().consumer.claim.load(Ordering::Relaxed);
    let header = shape.word(store, read_to & !7);
    // relaxed: as above.
    header.load(Ordering::Relaxed) != 0
}

/// Where the consumer is, exact if none is at work.
///
/// # Errors
/// If the head is no position of a record, or no journal entry belongs to it.
pub fn released_end<S: Store + ?Sized>(store: &S) -> Result<Place, Damage> {
    released_entry(store).map(|(place, _)| place)
}

fn released_entry<S: Store + ?Sized>(store: &S) -> Result<(Place, usize), Damage> {
    let control = store.control();
    // sync(head-release): acquire half.
    let head = control.head.position.load(Ordering::Acquire);
    if !head.is_multiple_of(8) {
        return Err(Damage {
            what: "the head",
            found: head,
            expected: "expected 8 to divide it",
        });
    }
    [0, 1]
        .map(|entry| (load_entry(&control.consumer.journal[entry]), entry))
        .into_iter()
        .filter(|(told, _)| told.position == head)
        .min_by_key(|(told, _)| told.records)
        .ok_or(Damage {
            what: "the head",
            found: head,
            expected: "expected it in the journal",
        })
}

/// Brings up to date what the row says of records, which the journals count and nobody else. By
/// whoever has the row's lock, before a new life begins.
pub fn bring_up_to_date<S: Store + ?Sized>(shape: &Shape, store: &S, me: Owner) {
    let (counter, records) = if me == Owner::PRODUCER {
        (COMMITTED, Some(committed_end(shape, store).records))
    } else {
        let released = released_end(store).ok();
        (RELEASED, released.map(|released| released.records))
    };
    if let Some(records) = records {
        // relaxed: only the lock's holder writes the row.
        store.row(me).counters[counter].store(records, Ordering::Relaxed);
    }
}

/// What the lock's holder does for a dead role.
pub(super) fn sweep<S: Store + ?Sized>(shape: &Shape, store: &S, dead: Owner) -> Recovered {
    let mut done = Recovered {
        participants: 1,
        ..Recovered::default()
    };
    let control = store.control();
    if dead == Owner::PRODUCER {
        // sync(death-order): acquire half.
        done.skipped = u64::from(control.tail.claim.load(Ordering::Acquire) != 0);
        // sync(death-order): release half.
        control.tail.claim.store(0, Ordering::Release);
    } else if let Ok(released) = released_end(store) {
        // sync(death-order): acquire half.
        let read_to = control.consumer.claim.load(Ordering::Acquire);
        done.redelivered = records_between(shape, store, released, read_to);
        // sync(death-order): release half.
        control
            .consumer
            .claim
            .store(released.position, Ordering::Release);
    }
    done
}

/// Counts the records that a dead consumer had read and not released.
fn records_between<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    released: Place,
    read_to: u64,
) -> u64 {
    let mut reader = Reader::at(released, 0);
    // Each step moves on by 8 bytes at least, and none passes a whole capacity.
    let mut records = 0;
    while read_to.wrapping_sub(reader.next.position).cast_signed() > 0 {
        // sync(header-commit): acquire half.
        let word = shape
            .word(store, reader.next.position)
            .load(Ordering::Acquire);
        let Ok((_, end)) = reader.find(shape, store, word) else {
            break;
        };
        reader.next.position = end;
        records += 1;
    }
    records
}
