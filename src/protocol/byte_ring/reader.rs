//! The consumer's side: read ahead, release.
//!
//! A record as long as the one before it is read in a straight line. A header is loaded once for
//! each decision, and checked before it is a length: what the straight line has loaded and not
//! taken goes on to the function that takes everything else. Whoever waits looks first, and leaves
//! what it has found to the straight line.
//!
//! # Invariants
//! 1. What lies between the next record and `limit` ends at or before the ring's end, and a header
//!    before what is not released begins again. So whatever the words of the ring say, a record
//!    that is found lies inside it.

use super::{
    Damage, HEADER, PADDING, Place, RECORD, Shape, check_used, committed_end, offset_in,
    released_entry, span_of, write_entry,
};
use crate::protocol::{Store, switches};
use crate::sync::{Ordering, unique_number};

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
    pub(super) place: Place,
    /// Whose mark it is: another reader's may lie amid a record of this one.
    pub(super) reader: u64,
}

impl Mark {
    /// Position behind the record.
    pub fn position(self) -> u64 {
        self.place.position
    }

    /// Records up to and with this one since the ring was created.
    pub fn records(self) -> u64 {
        self.place.records
    }

    /// The mark that so many records further on lies so many bytes further on. One that is none can
    /// make its reader meet what is no record, and nothing worse: each header is checked.
    #[cfg(all(feature = "bridge", not(loom)))]
    pub(crate) fn further(self, bytes: u64, records: u64) -> Self {
        let place = Place {
            position: self.place.position.wrapping_add(bytes),
            records: self.place.records.wrapping_add(records),
        };
        Self { place, ..self }
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
    released: Place,
    /// Behind the last record read.
    pub(super) next: Place,
    /// The lower half of the last record's header, and what it says.
    form: u32,
    len: u64,
    span: u64,
    /// Up to where records may lie that were not looked for yet (INV-1): less far than they may if
    /// what was released lately is not counted.
    limit: u64,
    /// Which journal entry tells `released`.
    entry: usize,
    /// Its marks' `reader`.
    number: u64,
    /// Where the last padding that was passed begins and ends.
    padding: (u64, u64),
}

/// The half of a header that tells kind and length.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn form_of(header: u64) -> u32 {
    header as u32
}

/// The span of a record that fits nowhere, whatever header a hostile peer makes up for it.
const NO_SPAN: u64 = 1 << 63;

impl Reader {
    /// Resumes where the last consumer released.
    ///
    /// # Errors
    /// If the words contradict each other.
    pub fn resume<S: Store + ?Sized>(shape: &Shape, store: &S) -> Result<Self, Damage> {
        let (released, entry) = released_entry(store)?;
        check_used(
            shape,
            committed_end(shape, store).position,
            released.position,
        )?;
        Ok(Self::at(released, entry))
    }

    pub(super) fn at(released: Place, entry: usize) -> Self {
        Self {
            released,
            next: released,
            padding: (0, 1), // No record begins there.
            form: 0,
            len: 0,
            span: NO_SPAN,
            limit: released.position,
            entry,
            number: unique_number(),
        }
    }

    /// Reads the next record behind those already read, without releasing any.
    ///
    /// # Errors
    /// See [`ReadRefusal`].
    #[inline(always)]
    pub fn read<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
    ) -> Result<Found, ReadRefusal> {
        match self.read_alike(shape, store) {
            Ok(found) => Ok(found),
            Err(word) => self.read_unlike(shape, store, word),
        }
    }

    /// Reads the next record if it is as long as the one before it, as almost every record is. Then
    /// its end is known before its header has been loaded, and records that lie one behind the
    /// other are loaded side by side.
    ///
    /// # Errors
    /// The header, for [`read_unlike`](Self::read_unlike), if it is another.
    #[inline(always)]
    pub fn read_alike<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
    ) -> Result<Found, u64> {
        let position = self.next.position;
        // sync(header-commit): acquire half.
        let word = shape.word(store, position).load(Ordering::Acquire);
        if form_of(word) != self.form || self.span > self.limit.wrapping_sub(position) {
            return Err(word);
        }
        self.go_behind(store, position.wrapping_add(self.span));
        Ok(Found {
            tag: (word >> 32) as u32,
            len: self.len,
            payload_offset: offset_in(store, position) + HEADER,
        })
    }

    /// Goes on from the next header, `word`, whatever it is.
    ///
    /// # Errors
    /// See [`ReadRefusal`].
    #[inline(never)]
    pub fn read_unlike<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        word: u64,
    ) -> Result<Found, ReadRefusal> {
        let (found, end) = self.find(shape, store, word)?;
        let start = end.wrapping_sub(self.span);
        if start != self.next.position {
            self.padding = (self.next.position, start);
        }
        self.go_behind(store, end);
        self.limit = end.wrapping_add(self.room_at(shape, end));
        Ok(found)
    }

    /// Goes behind one record more, and says so.
    #[inline(always)]
    fn go_behind<S: Store + ?Sized>(&mut self, store: &S, end: u64) {
        self.next = Place {
            position: end,
            records: self.next.records.wrapping_add(1),
        };
        // sync(death-order): release half.
        store.control().consumer.claim.store(end, Ordering::Release);
    }

    /// Bytes that records may have there: before the end of the ring, and not over what is not
    /// released. One more header is EMPTY (byte_ring INV-1).
    fn room_at(&self, shape: &Shape, position: u64) -> u64 {
        // No more than two capacities, by this very look at the record before.
        let ahead = position.wrapping_sub(self.released.position);
        let held = (shape.capacity() - HEADER).saturating_sub(ahead);
        held.min(shape.bytes_to_end(position))
    }

    /// Whether there is a record behind those already read; with its length, so that the straight
    /// line takes it next.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn look<S: Store + ?Sized>(&mut self, shape: &Shape, store: &S) -> Result<(), ReadRefusal> {
        let header = shape.word(store, self.next.position);
        // sync(header-commit): acquire half.
        let word = header.load(Ordering::Acquire);
        self.find(shape, store, word).map(drop)
    }

    /// The next record, whose header or padding is `word`, and its end; without going there.
    pub(super) fn find<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        mut word: u64,
    ) -> Result<(Found, u64), ReadRefusal> {
        let mut position = self.next.position;
        if word & 3 == PADDING {
            position = position.wrapping_add(shape.bytes_to_end(position));
            // sync(header-commit): acquire half.
            word = shape.word(store, position).load(Ordering::Acquire);
        }
        if word == 0 {
            return Err(ReadRefusal::Empty);
        }
        let len = (word >> 2) & ((1 << 30) - 1);
        let span = span_of(len);
        let room = self.room_at(shape, position);
        if word & 3 != RECORD || len > shape.max_record || span > room {
            return Err(damaged_header(word));
        }
        (self.form, self.len, self.span) = (form_of(word), len, span);
        let found = Found {
            tag: (word >> 32) as u32,
            len,
            payload_offset: shape.offset(position) + HEADER,
        };
        Ok((found, position.wrapping_add(span)))
    }

    /// Gives everything up to `mark` back to the producer, which the caller wakes if that was
    /// anything. Returns how many records; 0 if `mark` is another reader's, or not between head and
    /// the last record read.
    #[inline(always)]
    pub fn release_to<S: Store + ?Sized>(&mut self, store: &S, mark: Mark) -> u64 {
        if self.may_go_to(mark) && mark.position() != self.released.position {
            self.release_until(store, mark.place)
        } else {
            0
        }
    }

    /// The same with everything read, of which there is something.
    #[inline(always)]
    pub fn release_all<S: Store + ?Sized>(&mut self, store: &S) -> u64 {
        debug_assert!(self.has_read());
        self.release_until(store, self.next)
    }

    /// Whether anything was read and not released.
    #[inline(always)]
    pub fn has_read(&self) -> bool {
        self.next.position != self.released.position
    }

    #[inline(always)]
    fn release_until<S: Store + ?Sized>(&mut self, store: &S, place: Place) -> u64 {
        let records = place.records.wrapping_sub(self.released.records);
        let control = store.control();
        self.entry ^= 1;
        write_entry(
            &control.consumer.journal[self.entry & 1],
            place.position,
            place.records,
        );
        // sync(head-release): release half.
        control
            .head
            .position
            .store(place.position, Ordering::Release);
        self.released = place;
        records
    }

    /// Reads on for as long as records lie one behind the other: at least one, and `max_bytes` with
    /// their headers at most, unless the first one is longer. Returns where the first header stands
    /// and the end of the last record, releasing none.
    ///
    /// # Errors
    /// See [`ReadRefusal`]; only of the first record.
    #[cfg(not(loom))]
    pub fn read_run<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        max_bytes: u64,
    ) -> Result<(Mark, Mark), ReadRefusal> {
        let before = self.next.records;
        let found = self.read(shape, store)?;
        let start = self.mark(Place {
            position: self.next.position.wrapping_sub(span_of(found.len)),
            records: before,
        });
        let mut end = self.next;
        // Each step goes on by a record, and all of them end at the end of the ring.
        while let Ok(found) = self.read(shape, store) {
            let follows = self.next.position.wrapping_sub(span_of(found.len)) == end.position;
            let bytes = self.next.position.wrapping_sub(start.position());
            if !follows || shape.offset(end.position) == 0 || bytes > max_bytes {
                self.unread(store);
                break;
            }
            end = self.next;
        }
        Ok((start, self.mark(end)))
    }

    /// Whether everything from `start` to `end` was read by this reader and is not released.
    #[cfg(not(loom))]
    pub fn holds(&self, start: Mark, end: Mark) -> bool {
        let from = start.position().wrapping_sub(self.released.position);
        let to = end.position().wrapping_sub(self.released.position);
        from <= to && self.may_go_to(start) && self.may_go_to(end)
    }

    /// Whether the mark is this reader's, and of what it has read and not released.
    fn may_go_to(&self, mark: Mark) -> bool {
        let held = self.next.position.wrapping_sub(self.released.position);
        let given = mark.position().wrapping_sub(self.released.position);
        given <= held && mark.reader == self.number
    }

    /// Goes back to the head: what was read and not released is read again.
    pub fn rewind<S: Store + ?Sized>(&mut self, store: &S) -> u64 {
        let records = self.next.records.wrapping_sub(self.released.records);
        self.go_back(store, self.released);
        records
    }

    /// Goes back before the last record that was read, once; directly after it was, before a
    /// [`look`](Self::look) at the next one.
    pub fn unread<S: Store + ?Sized>(&mut self, store: &S) {
        if self.span == NO_SPAN {
            return; // Nothing was read since it went back.
        }
        let start = self.next.position.wrapping_sub(self.span);
        let (before_padding, behind_padding) = self.padding;
        let position = if start == behind_padding {
            before_padding
        } else {
            start
        };
        let records = self.next.records.wrapping_sub(1);
        self.go_back(store, Place { position, records });
    }

    /// Has the next record read the long way, whatever its length.
    pub fn take_the_long_way(&mut self) {
        self.limit = self.next.position;
    }

    fn go_back<S: Store + ?Sized>(&mut self, store: &S, place: Place) {
        self.next = place;
        self.span = NO_SPAN;
        self.limit = place.position;
        // sync(death-order): release half.
        store
            .control()
            .consumer
            .claim
            .store(place.position, Ordering::Release);
    }

    /// Whether a closed ring is drained. `idle` tells that no producer lives.
    ///
    /// The caller has seen the ring closed, then looked for a living producer, and if there is one
    /// it has closed the ring itself, or a barrier has reached it since: a producer that has not
    /// shown its claim mark by now will see the ring closed. The mark is looked at before the
    /// header, for the reverse would miss a record committed in between; and so is the switch,
    /// which may have been opened and closed again.
    pub fn drained<S: Store + ?Sized>(&mut self, shape: &Shape, store: &S, idle: bool) -> bool {
        // sync(close): release half.
        // sync(death-order): acquire half.
        let claimed = store.control().tail.claim.load(Ordering::Acquire) != 0;
        let closed = switches::is_closed(store);
        // sync(header-commit): acquire half.
        let empty = shape
            .word(store, self.next.position)
            .load(Ordering::Acquire)
            == 0;
        closed && empty && (!claimed || idle)
    }

    /// Behind the last record read.
    #[inline(always)]
    pub fn next(&self) -> Mark {
        self.mark(self.next)
    }

    /// Behind the last record released.
    pub fn released(&self) -> Mark {
        self.mark(self.released)
    }

    #[inline(always)]
    fn mark(&self, place: Place) -> Mark {
        Mark {
            place,
            reader: self.number,
        }
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
