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
//!   journal, header, claim mark -> loads by a successor or an observer.
//! - `close`: claim mark, barrier, load of `closed` in [`Writer::claim`] -> store of `closed`,
//!   barrier, load of the claim mark in [`Reader::drained`].
//!
//! # After a crash
//! Producer dead before the publishing store: no trace but its claim mark. After it: whole records.
//! Consumer dead before the store of the head: everything from the head on is delivered again.

#[cfg(all(test, not(loom)))]
mod tests;

use super::{Damage, Owner, Recovered, Store, slot_ring};
use crate::layout::JournalEntry;
use crate::sync::{AtomicU64, Ordering, light_barrier, unique_number};

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
    capacity: u64,
    max_record: u64,
}

impl Shape {
    /// A ring of `capacity` bytes, a power of two.
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
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
        self.capacity
    }

    /// Longest record in bytes.
    pub fn max_record(&self) -> u64 {
        self.max_record
    }

    /// Where a position lies in the data area.
    pub fn offset(&self, position: u64) -> u64 {
        position & (self.capacity - 1)
    }

    fn bytes_to_end(&self, position: u64) -> u64 {
        self.capacity - self.offset(position)
    }

    fn word<'s, S: Store + ?Sized>(&self, store: &'s S, position: u64) -> &'s AtomicU64 {
        store.word(self.offset(position))
    }
}

/// Bytes that a record takes in the ring.
pub fn span_of(len: u64) -> u64 {
    HEADER + len.next_multiple_of(8)
}

fn header(tag: u32, len: u64, kind: u64) -> u64 {
    u64::from(tag) << 32 | len << 2 | kind
}

/// A span that the producer writes.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Position of the record's header.
    record: u64,
    /// Bytes that the caller asked for.
    pub len: u64,
}

impl Span {
    /// Where the payload lies in the data area.
    pub fn payload_offset(&self, shape: &Shape) -> u64 {
        shape.offset(self.record) + HEADER
    }
}

/// Why the producer got no claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteRefusal {
    /// Too little space between tail and head.
    Full {
        /// The head that stands in the way.
        head: u64,
    },
    /// Closed for writing.
    Closed,
    /// The head is where no correct consumer can have put it.
    Damaged(Damage),
}

/// The producer's own view of the ring.
#[derive(Debug)]
pub struct Writer {
    /// The committed end.
    tail: u64,
    /// Records before it.
    records: u64,
    /// Behind the last staged record; equal to `tail` if nothing is staged.
    staged_end: u64,
    staged_records: u64,
    /// The header at `tail` that publishes everything staged.
    first_header: u64,
    /// Which journal entry tells `tail`.
    entry: usize,
    /// Last head seen; may be stale, which only makes the ring look fuller.
    head: u64,
}

impl Writer {
    /// Resumes where the last producer's committed records end.
    ///
    /// # Errors
    /// If the words contradict each other.
    pub fn resume<S: Store + ?Sized>(shape: &Shape, store: &S) -> Result<Self, Damage> {
        let (Tail { end, records }, entry) = committed_entry(shape, store);
        // sync(head-release): acquire half.
        let head = store.control().head.position.load(Ordering::Acquire);
        check_used(shape, end, head)?;
        if !end.is_multiple_of(8) {
            return Err(Damage {
                what: "the tail",
                found: end,
                expected: "expected 8 to divide it",
            });
        }
        // relaxed: the header at the committed end is EMPTY already (INV-2).
        shape.word(store, end).store(0, Ordering::Relaxed);
        Ok(Self {
            tail: end,
            records,
            staged_end: end,
            staged_records: 0,
            first_header: 0,
            entry,
            head,
        })
    }

    /// Claims `len` bytes, at most [`Shape::max_record`], behind what is staged.
    ///
    /// # Errors
    /// See [`WriteRefusal`].
    #[inline]
    pub fn claim<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        len: u64,
        real_fences: bool,
    ) -> Result<Span, WriteRefusal> {
        debug_assert!(len <= shape.max_record);
        let span = span_of(len);
        let bytes_to_end = shape.bytes_to_end(self.staged_end);
        let padding = if span > bytes_to_end { bytes_to_end } else { 0 };
        let record = self.staged_end.wrapping_add(padding);
        // One more header: the EMPTY one behind the record.
        let end = record.wrapping_add(span + HEADER);
        let is_full = |head: u64| end.wrapping_sub(head) > shape.capacity;
        if is_full(self.head) {
            self.look_at_head(shape, store)?;
            if is_full(self.head) {
                let closed = slot_ring::is_closed(store);
                let full = WriteRefusal::Full { head: self.head };
                return Err(if closed { WriteRefusal::Closed } else { full });
            }
        }
        let mark = end.wrapping_sub(self.tail);
        // sync(death-order): release half.
        store.control().tail.claim.store(mark, Ordering::Release);
        // sync(close): acquire half.
        light_barrier(real_fences);
        if slot_ring::is_closed(store) {
            self.unclaim(store);
            return Err(WriteRefusal::Closed);
        }
        Ok(Span { record, len })
    }

    fn look_at_head<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
    ) -> Result<(), WriteRefusal> {
        // sync(head-release): acquire half.
        let head = store.control().head.position.load(Ordering::Acquire);
        check_used(shape, self.tail, head).map_err(WriteRefusal::Damaged)?;
        self.head = head;
        Ok(())
    }

    /// Adds the span, of which `len` bytes count, to what the next publication makes visible.
    #[inline]
    pub fn stage<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        span: Span,
        tag: u32,
        len: u64,
    ) {
        debug_assert!(len <= span.len);
        if span.record != self.staged_end {
            let padding = shape.bytes_to_end(self.staged_end) - HEADER;
            self.stage_header(shape, store, self.staged_end, header(0, padding, PADDING));
        }
        self.stage_header(shape, store, span.record, header(tag, len, RECORD));
        self.staged_end = span.record.wrapping_add(span_of(len));
        self.staged_records += 1;
    }

    #[inline]
    fn stage_header<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        position: u64,
        header: u64,
    ) {
        if position == self.tail {
            self.first_header = header;
        } else {
            // relaxed: published by the first header (INV-2).
            shape.word(store, position).store(header, Ordering::Relaxed);
        }
    }

    /// Makes everything staged visible at once; the caller wakes the consumer.
    #[inline]
    pub fn publish<S: Store + ?Sized>(&mut self, shape: &Shape, store: &S) {
        if self.staged_end == self.tail {
            return;
        }
        let records = self.records.wrapping_add(self.staged_records);
        // relaxed: published by the first header (INV-2).
        shape
            .word(store, self.staged_end)
            .store(0, Ordering::Relaxed);
        let line = &store.control().tail;
        self.entry ^= 1;
        write_entry(&line.journal[self.entry & 1], self.staged_end, records);
        // sync(header-commit): release half.
        shape
            .word(store, self.tail)
            .store(self.first_header, Ordering::Release);
        // sync(death-order): release half.
        line.claim.store(0, Ordering::Release);
        self.tail = self.staged_end;
        self.records = records;
        self.staged_records = 0;
    }

    /// Gives up everything claimed or staged and not published.
    pub fn abandon<S: Store + ?Sized>(&mut self, store: &S) {
        self.staged_end = self.tail;
        self.staged_records = 0;
        self.unclaim(store);
    }

    /// Gives up the claim; what is staged stays.
    pub fn unclaim<S: Store + ?Sized>(&self, store: &S) {
        let mark = self.staged_end.wrapping_sub(self.tail);
        // sync(death-order): release half.
        store.control().tail.claim.store(mark, Ordering::Release);
    }

    /// Position of the committed end.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Records committed since the ring was created.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Records staged and not published.
    pub fn staged_records(&self) -> u64 {
        self.staged_records
    }
}

/// Overwrites an entry that is not the true one.
#[inline]
fn write_entry(entry: &JournalEntry, end: u64, records: u64) {
    // sync(death-order): release half.
    entry.records.store(records, Ordering::Release);
    // sync(death-order): release half.
    entry.end.store(end, Ordering::Release);
}

/// The end of what is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Position behind the last committed record.
    pub end: u64,
    /// Records committed since the ring was created.
    pub records: u64,
}

fn load_entry(entry: &JournalEntry) -> Tail {
    // sync(death-order): acquire half.
    let end = entry.end.load(Ordering::Acquire);
    // sync(death-order): acquire half.
    Tail {
        end,
        records: entry.records.load(Ordering::Acquire),
    }
}

/// The committed end, exact if no producer is at work; see 'The journal'.
pub fn committed_end<S: Store + ?Sized>(shape: &Shape, store: &S) -> Tail {
    committed_entry(shape, store).0
}

/// The committed end and which journal entry tells it.
fn committed_entry<S: Store + ?Sized>(shape: &Shape, store: &S) -> (Tail, usize) {
    let control = store.control();
    let [first, second] = [0, 1].map(|entry| (load_entry(&control.tail.journal[entry]), entry));
    let difference = second.0.end.wrapping_sub(first.0.end).cast_signed();
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
    if head.wrapping_sub(low.0.end).cast_signed() > 0 {
        return high;
    }
    // sync(header-commit): acquire half.
    let published = shape.word(store, low.0.end & !7).load(Ordering::Acquire) != 0;
    if published { high } else { low }
}

fn check_used(shape: &Shape, tail: u64, head: u64) -> Result<(), Damage> {
    // The last header before the head is EMPTY (INV-1).
    if tail.wrapping_sub(head) > shape.capacity - HEADER {
        let expected = "expected at most the tail, and less than a capacity behind it";
        return Err(Damage {
            what: "the head",
            found: head,
            expected,
        });
    }
    Ok(())
}

/// A committed record.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The user's tag.
    pub tag: u32,
    /// Bytes of payload.
    pub len: u64,
    /// Where the payload lies in the data area.
    pub payload_offset: u64,
}

/// A place in the stream up to which a consumer releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    position: u64,
    records: u64,
    /// Whose mark it is: another reader's may lie amid a record of this one.
    reader: u64,
}

impl Mark {
    /// Position behind the record.
    pub fn position(self) -> u64 {
        self.position
    }

    /// Records up to and with this one since the ring was created.
    pub fn records(self) -> u64 {
        self.records
    }
}

/// Why the consumer got no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadRefusal {
    /// Nothing committed beyond what was read.
    Empty,
    /// A header that no correct producer can have written.
    Damaged(Damage),
}

/// The consumer's own view of the ring.
#[derive(Debug)]
pub struct Reader {
    released: Mark,
    /// Behind the last record read.
    next: Mark,
    /// Which journal entry tells `released`.
    entry: usize,
}

impl Reader {
    /// Resumes where the last consumer released.
    ///
    /// # Errors
    /// If the words contradict each other.
    pub fn resume<S: Store + ?Sized>(shape: &Shape, store: &S) -> Result<Self, Damage> {
        let (mut released, entry) = released_entry(store)?;
        released.reader = unique_number();
        check_used(shape, committed_end(shape, store).end, released.position)?;
        Ok(Self {
            released,
            next: released,
            entry,
        })
    }

    /// Reads the next record behind those already read, without releasing any.
    ///
    /// # Errors
    /// See [`ReadRefusal`].
    #[inline]
    pub fn read<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
    ) -> Result<Found, ReadRefusal> {
        let (found, next) = self.find(shape, store)?;
        self.next = next;
        // sync(death-order): release half.
        store
            .control()
            .consumer
            .claim
            .store(next.position, Ordering::Release);
        Ok(found)
    }

    /// The next record, and the mark behind it.
    #[inline]
    fn find<S: Store + ?Sized>(
        &self,
        shape: &Shape,
        store: &S,
    ) -> Result<(Found, Mark), ReadRefusal> {
        let mut position = self.next.position;
        // sync(header-commit): acquire half.
        let mut word = shape.word(store, position).load(Ordering::Acquire);
        if word & 3 == PADDING {
            position = position.wrapping_add(shape.bytes_to_end(position));
            // sync(header-commit): acquire half.
            word = shape.word(store, position).load(Ordering::Acquire);
        }
        if word == 0 {
            return Err(ReadRefusal::Empty);
        }
        let found = Self::check(shape, position, word)?;
        let end = position.wrapping_add(span_of(found.len));
        // One more is EMPTY (INV-1).
        if end.wrapping_sub(self.released.position) > shape.capacity - HEADER {
            return Err(damaged_header(word));
        }
        let next = Mark {
            position: end,
            records: self.next.records.wrapping_add(1),
            reader: self.next.reader,
        };
        Ok((found, next))
    }

    #[inline]
    fn check(shape: &Shape, position: u64, word: u64) -> Result<Found, ReadRefusal> {
        let len = (word >> 2) & ((1 << 30) - 1);
        let fits = len <= shape.max_record && span_of(len) <= shape.bytes_to_end(position);
        if word & 3 != RECORD || !fits {
            return Err(damaged_header(word));
        }
        let payload_offset = shape.offset(position) + HEADER;
        Ok(Found {
            tag: (word >> 32) as u32,
            len,
            payload_offset,
        })
    }

    /// Gives everything up to `mark` back to the producer, which the caller wakes. Returns how many
    /// records that were; 0 if `mark` is another reader's, or not between head and the last record
    /// read.
    #[inline]
    pub fn release_to<S: Store + ?Sized>(&mut self, store: &S, mark: Mark) -> u64 {
        let held = self.next.position.wrapping_sub(self.released.position);
        let given = mark.position.wrapping_sub(self.released.position);
        if given == 0 || given > held || mark.reader != self.released.reader {
            return 0;
        }
        let records = mark.records.wrapping_sub(self.released.records);
        let control = store.control();
        self.entry ^= 1;
        write_entry(
            &control.consumer.journal[self.entry & 1],
            mark.position,
            mark.records,
        );
        // sync(head-release): release half.
        control
            .head
            .position
            .store(mark.position, Ordering::Release);
        self.released = mark;
        records
    }

    /// Goes back to the head: what was read and not released is read again.
    pub fn rewind<S: Store + ?Sized>(&mut self, store: &S) -> u64 {
        let records = self.next.records.wrapping_sub(self.released.records);
        self.next = self.released;
        // sync(death-order): release half.
        store
            .control()
            .consumer
            .claim
            .store(self.next.position, Ordering::Release);
        records
    }

    /// Goes back behind `mark`, one that [`next`](Self::next) returned since the last release.
    pub fn rewind_to<S: Store + ?Sized>(&mut self, store: &S, mark: Mark) {
        let held = self.next.position.wrapping_sub(self.released.position);
        let given = mark.position.wrapping_sub(self.released.position);
        if given <= held && mark.reader == self.released.reader {
            self.next = mark;
            // sync(death-order): release half.
            store
                .control()
                .consumer
                .claim
                .store(mark.position, Ordering::Release);
        }
    }

    /// Whether a closed ring is drained. `idle` tells that no producer lives.
    ///
    /// The caller has seen the ring closed, issued a heavy barrier, and looked for a living
    /// producer, in this order and before this call: any producer that has not shown its claim mark
    /// by now will see the ring closed. The mark is looked at before the header, for the reverse
    /// would miss a record committed in between.
    pub fn drained<S: Store + ?Sized>(&mut self, shape: &Shape, store: &S, idle: bool) -> bool {
        // sync(close): release half.
        // sync(death-order): acquire half.
        let claimed = store.control().tail.claim.load(Ordering::Acquire) != 0;
        // sync(header-commit): acquire half.
        let empty = shape
            .word(store, self.next.position)
            .load(Ordering::Acquire)
            == 0;
        slot_ring::is_closed(store) && empty && (!claimed || idle)
    }

    /// Behind the last record read.
    pub fn next(&self) -> Mark {
        self.next
    }

    /// Behind the last record released.
    pub fn released(&self) -> Mark {
        self.released
    }
}

#[cold]
fn damaged_header(word: u64) -> ReadRefusal {
    let expected = "expected a record that fits before the end of the ring";
    ReadRefusal::Damaged(Damage {
        what: "a record's header",
        found: word,
        expected,
    })
}

/// Where the consumer is, exact if none is at work.
///
/// # Errors
/// If the head is no position of a record, or no journal entry belongs to it.
pub fn released_end<S: Store + ?Sized>(store: &S) -> Result<Mark, Damage> {
    released_entry(store).map(|(mark, _)| mark)
}

fn released_entry<S: Store + ?Sized>(store: &S) -> Result<(Mark, usize), Damage> {
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
        .filter(|(told, _)| told.end == head)
        .min_by_key(|(told, _)| told.records)
        .map(|(told, entry)| {
            (
                Mark {
                    position: head,
                    records: told.records,
                    reader: 0,
                },
                entry,
            )
        })
        .ok_or(Damage {
            what: "the head",
            found: head,
            expected: "expected it in the journal",
        })
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
    released: Mark,
    read_to: u64,
) -> u64 {
    let mut reader = Reader {
        released,
        next: released,
        entry: 0,
    };
    let mut records = 0;
    // Each step moves on by 8 bytes at least, and `read` refuses to pass a whole capacity.
    while read_to.wrapping_sub(reader.next.position).cast_signed() > 0
        && let Ok((_, next)) = reader.find(shape, store)
    {
        reader.next = next;
        records += 1;
    }
    records
}
