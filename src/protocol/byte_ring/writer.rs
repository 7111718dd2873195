//! The producer's side: claim, stage, publish.
//!
//! Almost every claim and commit is a straight line without a call: there is room for the record
//! behind what is staged, which one comparison tells. All other cases are functions of their own,
//! which the handles keep out of line, so that the straight line stays short.
//!
//! # Invariants
//! 1. What lies between the staged end and `limit` ends at or before the ring's end, and a header
//!    behind it at or before the head that was known when it was set, a ring's length further. So
//!    whatever the words of the ring say, a span that is claimed lies inside it.

#[cfg(not(loom))]
use super::Records;
use super::{
    Damage, HEADER, PADDING, Place, RECORD, Shape, check_used, committed_entry, header, offset_in,
    span_of, write_entry,
};
use crate::protocol::{Store, switches};
use crate::sync::Ordering;

/// A span that the producer writes.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Position of the record's header.
    record: u64,
}

impl Span {
    /// Where the payload lies in the data area.
    #[inline(always)]
    pub fn payload_offset<S: Store + ?Sized>(&self, store: &S) -> u64 {
        offset_in(store, self.record) + HEADER
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
    /// Bytes behind `tail` that are staged, padding included.
    staged: u64,
    staged_records: u64,
    /// The header at `tail` that publishes everything staged.
    first_header: u64,
    /// Which journal entry tells `tail`.
    entry: usize,
    /// Last head seen; may be stale, which only makes the ring look fuller.
    head: u64,
    /// Up to where records may be claimed without a look at anything (INV-1): a longest record's
    /// bytes behind the staged end at most, and less than there is if it was not looked for lately.
    limit: u64,
}

impl Writer {
    /// Resumes where the last producer's committed records end.
    ///
    /// # Errors
    /// If the words contradict each other.
    pub fn resume<S: Store + ?Sized>(shape: &Shape, store: &S) -> Result<Self, Damage> {
        let (
            Place {
                position: end,
                records,
            },
            entry,
        ) = committed_entry(shape, store);
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
        // relaxed: the header at the committed end is EMPTY already (byte_ring INV-2).
        shape.word(store, end).store(0, Ordering::Relaxed);
        #[cfg(not(loom))]
        super::origin::settle(store, end);
        Ok(Self {
            tail: end,
            records,
            staged: 0,
            staged_records: 0,
            first_header: 0,
            entry,
            head,
            limit: end,
        })
    }

    /// Claims `len` bytes, at most [`Shape::max_record`], behind what is staged.
    ///
    /// # Errors
    /// See [`WriteRefusal`].
    pub fn claim<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        len: u64,
    ) -> Result<Span, WriteRefusal> {
        match self.claim_ahead(store, len) {
            Some(span) => Ok(span),
            None => self.claim_anywhere(shape, store, len),
        }
    }

    /// Claims `len` bytes, however many, right behind what is staged, in an open ring that is known
    /// to have room for them: almost every claim, in a straight line.
    #[inline(always)]
    pub fn claim_ahead<S: Store + ?Sized>(&mut self, store: &S, len: u64) -> Option<Span> {
        // Of a length that is none: more than there ever is.
        let span = len.saturating_add(HEADER + 7) & !7;
        let claimed = Span {
            record: self.staged_end(),
        };
        if span > self.limit.wrapping_sub(claimed.record) {
            return None;
        }
        // One more header: the EMPTY one behind the record.
        let mark = self.staged.wrapping_add(span + HEADER);
        // sync(death-order): release half.
        store.control().tail.claim.store(mark, Ordering::Release);
        switches::admits(store).then_some(claimed)
    }

    /// Claims in every other case: after padding, after a look at the head, or not at all.
    /// A mark that [`claim_ahead`](Self::claim_ahead) has left is replaced or taken away.
    fn claim_anywhere<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        len: u64,
    ) -> Result<Span, WriteRefusal> {
        debug_assert!(len <= shape.max_record);
        let span = span_of(len);
        let staged_end = self.staged_end();
        let bytes_to_end = shape.bytes_to_end(staged_end);
        let padding = if span > bytes_to_end { bytes_to_end } else { 0 };
        let record = staged_end.wrapping_add(padding);
        // One more header: the EMPTY one behind the record.
        let end = record.wrapping_add(span + HEADER);
        let is_full = |head: u64| end.wrapping_sub(head) > shape.capacity();
        if is_full(self.head) {
            self.look_at_head(shape, store)?;
            if is_full(self.head) {
                let closed = switches::is_closed(store);
                let full = WriteRefusal::Full { head: self.head };
                return Err(if closed { WriteRefusal::Closed } else { full });
            }
        }
        let mark = end.wrapping_sub(self.tail);
        // sync(death-order): release half.
        store.control().tail.claim.store(mark, Ordering::Release);
        if !switches::admits(store) {
            self.unclaim(store);
            return Err(WriteRefusal::Closed);
        }
        if padding == 0 {
            self.limit = record.wrapping_add(self.room_at(shape, record));
        }
        Ok(Span { record })
    }

    /// Bytes that the consumer has yet to release until there are `room` free ones behind what is
    /// staged: a hint, and nothing is claimed. More than `room` if the head is none.
    pub fn missing_room<S: Store + ?Sized>(&self, shape: &Shape, store: &S, room: u64) -> u64 {
        // relaxed: a hint.
        let head = store.control().head.position.load(Ordering::Relaxed);
        let used = self.staged_end().wrapping_sub(head).saturating_add(HEADER);
        used.saturating_add(room).saturating_sub(shape.capacity())
    }

    /// Bytes between a staged end and the limit there (INV-1).
    fn room_at(&self, shape: &Shape, end: u64) -> u64 {
        let used = end.wrapping_sub(self.head).saturating_add(HEADER);
        let free = shape.capacity().saturating_sub(used);
        free.min(shape.bytes_to_end(end)).min(shape.max_span())
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
    #[inline(always)]
    pub fn stage<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        span: Span,
        tag: u32,
        len: u64,
    ) {
        self.stage_behind(
            shape,
            store,
            (span, header(tag, len, RECORD)),
            span_of(len),
            1,
        );
    }

    /// Adds a span that holds whole records, of which everything is there but the first header.
    #[cfg(not(loom))]
    pub fn stage_run<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        span: Span,
        records: &Records,
    ) {
        let (bytes, count) = (records.bytes as u64, records.count);
        self.stage_behind(shape, store, (span, records.first), bytes, count);
    }

    /// Adds `bytes` from the span's header on, which are `records` records.
    #[inline(always)]
    fn stage_behind<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        (span, first): (Span, u64),
        bytes: u64,
        records: u64,
    ) {
        let staged_end = self.staged_end();
        if span.record != staged_end {
            let padding = shape.bytes_to_end(staged_end) - HEADER;
            self.stage_header(shape, store, staged_end, header(0, padding, PADDING));
            // What is staged now ends behind the limit's lap.
            self.limit = span.record.wrapping_add(bytes);
        }
        self.stage_header(shape, store, span.record, first);
        let end = span.record.wrapping_add(bytes);
        debug_assert!(self.limit.wrapping_sub(end) <= shape.max_span(), "INV-1");
        self.staged = end.wrapping_sub(self.tail);
        self.staged_records += records;
    }

    /// How many bytes a claim can have, its header included, without padding and without waiting.
    #[cfg(not(loom))]
    pub fn contiguous<S: Store + ?Sized>(&mut self, shape: &Shape, store: &S) -> u64 {
        let end = self.staged_end();
        let most = shape.bytes_to_end(end).min(shape.max_span());
        if self.room_at(shape, end) < most && self.look_at_head(shape, store).is_err() {
            // The claim that follows tells of it.
            return 0;
        }
        self.room_at(shape, end)
    }

    /// Behind the last staged record.
    fn staged_end(&self) -> u64 {
        self.tail.wrapping_add(self.staged)
    }

    #[inline(always)]
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
            // relaxed: published by the first header (byte_ring INV-2).
            shape.word(store, position).store(header, Ordering::Relaxed);
        }
    }

    /// Makes the span, of which `len` bytes count, a record of its own, visible at once; the caller
    /// wakes the consumer. Nothing may be staged.
    pub fn commit<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        span: Span,
        tag: u32,
        len: u64,
    ) {
        if !self.commit_ahead(shape, store, span, tag, len) {
            self.stage(shape, store, span, tag, len);
            self.publish(shape, store);
        }
    }

    /// The same for a span right behind the committed end, as almost every one is. False, and
    /// nothing was done, if there is padding to be written.
    #[inline(always)]
    #[must_use = "it may be left to do"]
    pub fn commit_ahead<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        span: Span,
        tag: u32,
        len: u64,
    ) -> bool {
        debug_assert_eq!(self.staged, 0, "a batch is under way");
        if span.record != self.tail {
            return false;
        }
        let end = span.record.wrapping_add(span_of(len));
        debug_assert!(self.limit.wrapping_sub(end) <= shape.max_span(), "INV-1");
        self.publish_to(shape, store, header(tag, len, RECORD), end, 1);
        true
    }

    /// Makes everything staged visible at once; the caller wakes the consumer.
    #[inline(always)]
    pub fn publish<S: Store + ?Sized>(&mut self, shape: &Shape, store: &S) {
        if self.staged == 0 {
            return;
        }
        let (end, records) = (self.staged_end(), self.staged_records);
        self.publish_to(shape, store, self.first_header, end, records);
        self.staged = 0;
        self.staged_records = 0;
    }

    /// The same, of records that are another ring's up to `origin`: both come true at once.
    #[cfg(not(loom))]
    pub fn publish_from<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        origin: &super::Origin,
    ) {
        if self.staged > 0 {
            super::origin::announce(store, self.tail, self.staged_end(), origin);
            self.publish(shape, store);
        }
    }

    /// Makes `records` records before `end` visible by their first header, the one at the tail.
    #[inline(always)]
    fn publish_to<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        header: u64,
        end: u64,
        records: u64,
    ) {
        let first = self.tail;
        let records = self.records.wrapping_add(records);
        // relaxed: published by the first header (byte_ring INV-2).
        shape.word(store, end).store(0, Ordering::Relaxed);
        let line = &store.control().tail;
        self.entry ^= 1;
        write_entry(&line.journal[self.entry & 1], end, records);
        // sync(header-commit): release half.
        shape.word(store, first).store(header, Ordering::Release);
        // sync(death-order): release half.
        line.claim.store(0, Ordering::Release);
        self.tail = end;
        self.records = records;
    }

    /// Gives up everything claimed or staged and not published.
    pub fn abandon<S: Store + ?Sized>(&mut self, store: &S) {
        self.staged = 0;
        self.staged_records = 0;
        self.limit = self.tail;
        self.unclaim(store);
    }

    /// Gives up the claim; what is staged stays.
    pub fn unclaim<S: Store + ?Sized>(&self, store: &S) {
        // sync(death-order): release half.
        store
            .control()
            .tail
            .claim
            .store(self.staged, Ordering::Release);
    }

    /// Position of the committed end.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Records committed since the ring was created.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether anything is staged and not published.
    #[inline(always)]
    pub fn has_staged(&self) -> bool {
        self.staged != 0
    }

    /// Records staged and not published.
    pub fn staged_records(&self) -> u64 {
        self.staged_records
    }
}
