//! The consuming handle of the byte ring: records one by one, or read ahead of what is released.

use core::ops::Deref;

use super::{Mark, Peer};
use crate::Mapped;
use crate::error::{ReadError, TryError as _, TryReadError};
use crate::handle::{Participant, Side};
use crate::layout::{EMPTY, REDELIVERED};
use crate::protocol::byte_ring::{self, Found, ReadRefusal, Reader, Shape};
use crate::protocol::{Attachment, Damage, Gone, Owner, Store, ZeroCopy, copy, switches};
use crate::sync::ReadLease;
use crate::wait::{self, Deadline, How, Wait};

/// Reads records from an SPSC byte ring.
///
/// Reading and releasing are two things. [`try_read`](Self::try_read) lends a record that is
/// released when it is dropped. [`try_peek`](Self::try_peek) reads on without releasing anything,
/// and [`release_to`](Self::release_to) gives back everything up to a record at once: one
/// publication for as many as one likes.
///
/// # Examples
/// ```
/// use annulus::{Wait, spsc};
///
/// let (mut producer, mut consumer) = spsc::Options::new(4096).heap()?;
/// for number in 0..3_u32 {
///     producer.push(number, b"x", Wait::block())?;
/// }
/// let first = consumer.try_peek()?.mark();
/// assert_eq!(consumer.try_peek()?.tag(), 1);
/// consumer.release_to(first); // Record 0 is gone, record 1 was only looked at.
/// consumer.rewind();
/// assert_eq!(consumer.try_read()?.tag(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Consumer<A: Attachment = Mapped> {
    participant: Participant<A>,
    shape: Shape,
    reader: Reader,
    /// Whether the last record was read while its thread unwound, as far as is known; see
    /// [`drop_in_panic`](Self::drop_in_panic).
    unwinding: bool,
    /// Whether every processor was asked since this consumer closed the ring, or found it closed by
    /// another one than the producer.
    has_asked_all: bool,
}

impl<A: Attachment> Consumer<A> {
    pub(super) fn new(attachment: A, shape: Shape, reader: Reader) -> Self {
        Self {
            participant: Participant::new(attachment),
            shape,
            reader,
            unwinding: false,
            has_asked_all: false,
        }
    }

    pub(crate) fn participant(&self) -> &Participant<A> {
        &self.participant
    }

    /// The longest record in bytes: just under half of the capacity, and under 1 GiB.
    #[expect(clippy::cast_possible_truncation, reason = "the ring lies in memory")]
    pub fn max_record(&self) -> usize {
        self.shape.max_record() as usize
    }

    /// The capacity in bytes, headers and padding included.
    pub fn capacity(&self) -> u64 {
        self.shape.capacity()
    }

    /// Bytes committed and not released, headers and padding included. The producer may have
    /// committed more meanwhile: at least about this many are left.
    pub fn backlog(&self) -> u64 {
        if !self.participant.attachment().is_here() {
            return 0;
        }
        let tail = byte_ring::committed_end(&self.shape, self.participant.store()).position;
        let released = self.reader.released().position();
        let backlog = tail.wrapping_sub(released);
        // While the producer is at work its journal may be read half-way.
        if backlog > self.shape.capacity() {
            0
        } else {
            backlog
        }
    }

    /// Records released since the ring was created, by this consumer and those before it.
    pub fn released_records(&self) -> u64 {
        self.reader.released().records()
    }

    /// What the kernel knows of the producer: exact as of some moment during the call. A producer
    /// whose process has died is told as soon as the kernel has taken its memory apart.
    pub fn peer(&self) -> Peer {
        super::options::peer(self.participant.attachment(), Owner::PRODUCER)
    }

    #[inline(always)]
    fn try_find(&mut self) -> Result<Found, TryReadError> {
        let participant = &self.participant;
        if !participant.attachment().is_here() {
            return Err(participant.gone());
        }
        let near = participant.near();
        match self.reader.read_alike(&self.shape, &near) {
            Ok(found) if participant.is_whole_at(found.payload_offset, found.len) => Ok(found),
            Ok(_) => Err(participant.gone()),
            Err(word) => self.try_find_unlike(word),
        }
    }

    /// The same where the straight line has ended at a header.
    #[inline(never)]
    fn try_find_unlike(&mut self, header: u64) -> Result<Found, TryReadError> {
        let store = self.participant.store();
        let read = self.reader.read_unlike(&self.shape, store, header);
        self.ask_whether_it_unwinds();
        let (participant, shape) = (&self.participant, &self.shape);
        match read {
            Ok(found) if participant.is_whole_at(found.payload_offset, found.len) => Ok(found),
            Err(refusal) if participant.is_whole() => {
                let asked = &mut self.has_asked_all;
                Err(refused(
                    participant,
                    shape,
                    &mut self.reader,
                    asked,
                    refusal,
                ))
            }
            _ => Err(participant.gone()),
        }
    }

    /// After each read that takes the long way; see [`drop_in_panic`](Self::drop_in_panic).
    fn ask_whether_it_unwinds(&mut self) {
        self.unwinding = std::thread::panicking();
        if self.unwinding {
            self.reader.take_the_long_way();
        }
    }

    #[inline(always)]
    fn find(&mut self, wait: Wait) -> Result<Found, ReadError> {
        let error = match self.try_find() {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let (how, deadline) = wait.parts();
        self.wait_for_record(how, deadline, error)?;
        self.try_find().map_err(|error| match error.into_final() {
            Some(error) => error,
            None => ReadError::Damaged(gone_again()),
        })
    }

    /// Waits until there is a record, and leaves it to the straight line: what a call returns goes
    /// through memory.
    #[cold]
    #[inline(never)]
    fn wait_for_record(
        &mut self,
        how: How,
        deadline: Deadline,
        error: TryReadError,
    ) -> Result<(), ReadError> {
        let wait = Wait::of_parts(how, deadline);
        let Self {
            participant,
            shape,
            reader,
            has_asked_all,
            ..
        } = self;
        participant.wait_for(Side::Items, wait, error, || {
            look_for_one(participant, shape, reader, has_asked_all)
        })
    }

    /// Gives every record up to and with the one of `mark` back to the producer. Returns how many
    /// that were: 0 if they were given back before.
    #[inline(always)]
    pub fn release_to(&mut self, mark: Mark) -> u64 {
        if !self.participant.attachment().is_here() {
            return 0;
        }
        let store = self.participant.near();
        let records = self.reader.release_to(&store, mark);
        if records > 0 {
            wait::wake(Side::Space.event(&store));
        }
        records
    }

    /// Gives back every record that was read.
    #[inline(always)]
    pub fn release_all(&mut self) -> u64 {
        if !self.reader.has_read() {
            return 0;
        }
        self.release_read()
    }

    /// The same where it is known that there is any.
    #[inline(always)]
    fn release_read(&mut self) -> u64 {
        if !self.participant.attachment().is_here() {
            return 0;
        }
        let store = self.participant.near();
        let records = self.reader.release_all(&store);
        wait::wake(Side::Space.event(&store));
        records
    }

    /// Goes back before the last record that was read.
    fn unread(&mut self) {
        if self.participant.attachment().is_here() {
            self.reader.unread(self.participant.store());
            self.participant.count(REDELIVERED, 1);
        }
    }

    /// The drop of a record while its thread unwinds. One that was read before is read again; one
    /// that a destructor has read meanwhile is released, or the destructor would never end.
    ///
    /// Whether the thread unwinds is not asked for each record that is read, but on the long way,
    /// which a read takes after this, and after each read of a thread that unwinds. So a destructor
    /// that reads before any record was given back gets its first one twice.
    #[cold]
    #[inline(never)]
    fn drop_in_panic(&mut self) {
        if self.unwinding {
            self.release_all();
        } else {
            self.unread();
        }
    }

    /// Goes back to the oldest record that is not released: it is read next, again.
    pub fn rewind(&mut self) {
        if self.participant.attachment().is_here() {
            let records = self.reader.rewind(self.participant.store());
            self.participant.count(REDELIVERED, records);
        }
    }

    /// Copies the next record into `payload`, whose old content is dropped, releases it and
    /// everything before it, and returns its tag.
    ///
    /// # Errors
    /// See [`TryReadError`]; `payload` is left as it was, or is empty after `CutShort`.
    #[inline(always)]
    pub fn try_pop(&mut self, payload: &mut Vec<u8>) -> Result<u32, TryReadError> {
        let found = self.try_find()?;
        self.take(found, payload)
    }

    /// Waits for a record and copies it as [`try_pop`](Self::try_pop) does.
    ///
    /// # Errors
    /// See [`ReadError`]; `payload` is left as it was, or is empty after `CutShort`.
    #[inline(always)]
    pub fn pop(&mut self, payload: &mut Vec<u8>, wait: Wait) -> Result<u32, ReadError> {
        let found = self.find(wait)?;
        self.take(found, payload)
    }

    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked against the longest record"
    )]
    fn take<E: From<Gone>>(&mut self, found: Found, payload: &mut Vec<u8>) -> Result<u32, E> {
        payload.clear();
        payload.resize(found.len as usize, 0);
        copy::empty::<A>(self.participant.store(), found.payload_offset, payload);
        if !self.participant.is_whole() {
            payload.clear();
            return Err(self.participant.gone());
        }
        self.release_all();
        Ok(found.tag)
    }

    /// Ends the stream: the producer's further claims are refused. What is committed can still be
    /// read, and whatever the producer is about to commit. If it lives, whoever reads on sits in
    /// the kernel once, for some milliseconds and past its deadline, until every processor was
    /// asked, and is told `Closed` then; where the kernel refuses to ask (`nohz_full`), once the
    /// producer closes the ring too or has gone.
    pub fn close(&mut self) {
        if self.participant.attachment().is_here() {
            self.has_asked_all = false;
            switches::close(self.participant.store());
            self.participant.wake_everybody();
        }
    }
}

/// Looks for a record without going there.
#[inline(always)]
fn look_for_one<A: Attachment>(
    participant: &Participant<A>,
    shape: &Shape,
    reader: &mut Reader,
    has_asked_all: &mut bool,
) -> Result<(), TryReadError> {
    let looked = reader.look(shape, participant.store());
    if !participant.is_whole() {
        return Err(participant.gone());
    }
    looked.map_err(|refusal| refused(participant, shape, reader, has_asked_all, refusal))
}

/// No correct producer takes a header back.
#[cold]
fn gone_again() -> Damage {
    Damage {
        what: "a record's header",
        found: 0,
        expected: "expected it to stay until it is read",
    }
}

fn refused<A: Attachment>(
    participant: &Participant<A>,
    shape: &Shape,
    reader: &mut Reader,
    has_asked_all: &mut bool,
    refusal: ReadRefusal,
) -> TryReadError {
    match refusal {
        ReadRefusal::Damaged(damage) => TryReadError::Damaged(damage),
        ReadRefusal::Empty => empty_or_closed(participant, shape, reader, has_asked_all),
    }
}

/// An empty read: counts it, looks after the producer, and tells a closed ring from an empty one.
fn empty_or_closed<A: Attachment>(
    participant: &Participant<A>,
    shape: &Shape,
    reader: &mut Reader,
    has_asked_all: &mut bool,
) -> TryReadError {
    let store = participant.store();
    participant.refused(EMPTY, reader.next().position());
    if !switches::is_closed(store) {
        return TryReadError::Empty;
    }
    let in_order = switches::is_closed_in_order(store);
    // sync(close): release half.
    let mut ordered = in_order || wait::heavy_barrier();
    let attachment = participant.attachment();
    // Without the barrier only the absence of a producer tells that nothing is on its way.
    let idle = !attachment.is_alive(Owner::PRODUCER);
    if !(in_order || idle || A::IN_ONE_PROCESS || *has_asked_all) {
        // A processor that the heavy barrier passed over may be about to commit. Once is enough:
        // from here on it sees the ring closed.
        ordered = wait::global_barrier();
        *has_asked_all = ordered;
    }
    if (ordered || idle) && reader.drained(shape, store, idle) {
        TryReadError::Closed
    } else {
        TryReadError::Empty
    }
}

impl<A: ZeroCopy> Consumer<A> {
    /// Reads the next record; it is released, with everything before it, when it is dropped.
    ///
    /// # Progress
    /// Wait-free, but for the end of a ring that a consumer has [closed](Self::close).
    ///
    /// # Errors
    /// See [`TryReadError`].
    #[inline(always)]
    pub fn try_read(&mut self) -> Result<Record<'_, A>, TryReadError> {
        let found = self.try_find()?;
        Ok(Record::new(self, found))
    }

    /// Waits for the next record.
    ///
    /// # Progress
    /// Blocks on the producer. One that died is noticed, see [`peer`](Self::peer), but the ring
    /// stays empty until another one attaches.
    ///
    /// # Errors
    /// See [`ReadError`].
    #[inline(always)]
    pub fn read(&mut self, wait: Wait) -> Result<Record<'_, A>, ReadError> {
        let found = self.find(wait)?;
        Ok(Record::new(self, found))
    }

    /// Reads the next record without ever releasing it.
    ///
    /// # Errors
    /// See [`TryReadError`].
    #[inline(always)]
    pub fn try_peek(&mut self) -> Result<Peeked<'_>, TryReadError> {
        let found = self.try_find()?;
        Ok(self.lend(found))
    }

    /// Waits for the next record and reads it without ever releasing it.
    ///
    /// # Errors
    /// See [`ReadError`].
    #[inline(always)]
    pub fn peek(&mut self, wait: Wait) -> Result<Peeked<'_>, ReadError> {
        let found = self.find(wait)?;
        Ok(self.lend(found))
    }

    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked against the longest record"
    )]
    fn lend(&self, found: Found) -> Peeked<'_> {
        let store = self.participant.near();
        let lease = store.read_lease(found.payload_offset, found.len);
        // SAFETY: a record that was found lies inside the ring (byte_ring::reader INV-1), whose
        // shape the consumer's reader and store have in common.
        let start = unsafe { store.bytes_inside(found.payload_offset, found.len) };
        // SAFETY:
        // - `start` is valid for `len` bytes while the consumer is borrowed: `Store`.
        // - Nobody writes them until they are released, which takes `&mut self`: they lie between
        //   head and committed end (byte_ring INV-3), in a mapped file by the contract of the
        //   unsafe attach, on the heap because only our handles reach the memory (`ZeroCopy`).
        // - They are initialised: the memory began as zeroes.
        let bytes = unsafe { core::slice::from_raw_parts(start, found.len as usize) };
        Peeked {
            tag: found.tag,
            bytes,
            mark: self.reader.next(),
            _lease: lease,
        }
    }
}

#[cfg(not(loom))]
impl<A: ZeroCopy> Consumer<A> {
    /// Reads on for as long as committed records lie one behind the other, without releasing any:
    /// at least one, of `max_bytes` with their headers at most unless the first alone is longer.
    ///
    /// # Errors
    /// See [`TryReadError`].
    pub fn try_peek_run(&mut self, max_bytes: u64) -> Result<Run, TryReadError> {
        if !self.participant.attachment().is_here() {
            return Err(self.participant.gone());
        }
        let store = self.participant.store();
        let read = self.reader.read_run(&self.shape, store, max_bytes);
        self.ask_whether_it_unwinds();
        let run = match read {
            Ok((start, end)) => Run { start, end },
            Err(_) if !self.participant.is_whole() => return Err(self.participant.gone()),
            Err(ReadRefusal::Damaged(damage)) => return Err(TryReadError::Damaged(damage)),
            Err(ReadRefusal::Empty) => {
                return Err(empty_or_closed(
                    &self.participant,
                    &self.shape,
                    &mut self.reader,
                    &mut self.has_asked_all,
                ));
            }
        };
        let offset = self.shape.offset(run.start.position());
        if !self.participant.is_whole_at(offset, run.bytes()) {
            return Err(self.participant.gone());
        }
        Ok(run)
    }

    /// The bytes of a run as they lie in the ring, headers and padding included; none if it was
    /// released meanwhile, or read again after [`rewind`](Self::rewind), or is another consumer's.
    #[expect(clippy::cast_possible_truncation, reason = "the ring lies in memory")]
    pub fn run_bytes(&self, run: &Run) -> &[u8] {
        let here = self.participant.attachment().is_here();
        if !here || !self.reader.holds(run.start, run.end) {
            return &[];
        }
        let offset = self.shape.offset(run.start.position());
        let bytes = run.bytes();
        let start = self.participant.store().bytes(offset, bytes);
        // SAFETY:
        // - `start` is valid for `bytes` bytes while the consumer is borrowed: `Store`. A run does
        //   not wrap: `read_run`.
        // - Nobody writes them until they are released, which takes `&mut self`: headers and
        //   payloads lie between head and committed end (byte_ring INV-3), in a mapped file by the
        //   contract of the unsafe attach, on the heap because only our handles reach the memory
        //   (`ZeroCopy`).
        // - They are initialised: the memory began as zeroes.
        unsafe { core::slice::from_raw_parts(start, bytes as usize) }
    }
}

/// Records that lie one behind the other, read and not released.
#[cfg(not(loom))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    start: Mark,
    end: Mark,
}

#[cfg(not(loom))]
impl Run {
    /// Before its first record.
    pub fn start(&self) -> Mark {
        self.start
    }

    /// Behind its last record.
    pub fn end(&self) -> Mark {
        self.end
    }

    /// What follows its first `records`, which have so many `bytes`.
    #[cfg(feature = "bridge")]
    pub(crate) fn behind(self, bytes: u64, records: u64) -> Self {
        Self {
            start: self.start.further(bytes, records),
            ..self
        }
    }

    /// Bytes in the ring, headers and padding included.
    pub fn bytes(&self) -> u64 {
        self.end.position().wrapping_sub(self.start.position())
    }
}

crate::handle::pollable!(Consumer, Side::Items, "there may be a record");

#[cfg(all(feature = "tokio", not(loom)))]
impl<A: ZeroCopy> Consumer<A> {
    /// Waits for the next record, as a future; it is released when it is dropped.
    ///
    /// Cancel-safe: a future that is dropped has read nothing.
    ///
    /// # Errors
    /// See [`ReadError`].
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled. All futures of a handle belong to the runtime in
    /// which its first one waited.
    pub async fn read_async(&mut self) -> Result<Record<'_, A>, ReadError> {
        let found = crate::handle::wait_async(
            &mut *self,
            Side::Items,
            |this| &this.participant,
            Self::try_find,
        )
        .await?;
        Ok(Record::new(self, found))
    }
}

impl<A: Attachment> Drop for Consumer<A> {
    fn drop(&mut self) {
        if self.participant.attachment().is_here() {
            self.reader.rewind(self.participant.store());
        }
    }
}

/// A record that was read and is not released by dropping it.
#[derive(Debug)]
pub struct Peeked<'c> {
    tag: u32,
    bytes: &'c [u8],
    mark: Mark,
    _lease: ReadLease,
}

impl Peeked<'_> {
    /// The tag that its producer gave it.
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// What [`Consumer::release_to`] takes to release this record and those before it.
    pub fn mark(&self) -> Mark {
        self.mark
    }
}

impl Deref for Peeked<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

/// A record that is released, with everything before it, when it is dropped. Dropping it while
/// unwinding does not: it is read again. A destructor that reads while its thread unwinds may get
/// the first record twice; [`release`](Self::release) releases in any case.
#[derive(Debug)]
#[must_use = "a record that is dropped is released"]
pub struct Record<'c, A: ZeroCopy = Mapped> {
    consumer: &'c mut Consumer<A>,
    tag: u32,
    start: *const u8,
    len: usize,
    lease: Option<ReadLease>,
}

impl<'c, A: ZeroCopy> Record<'c, A> {
    #[inline(always)]
    fn new(consumer: &'c mut Consumer<A>, found: Found) -> Self {
        let Peeked {
            tag,
            bytes,
            _lease: lease,
            ..
        } = consumer.lend(found);
        let (start, len) = (bytes.as_ptr(), bytes.len());
        Self {
            consumer,
            tag,
            start,
            len,
            lease: Some(lease),
        }
    }

    /// The tag that its producer gave it.
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// Gives the record back to the producer, also while unwinding.
    #[inline(always)]
    pub fn release(mut self) {
        self.lease = None;
        self.consumer.release_all();
    }

    /// Leaves the record where it is: it is read again.
    pub fn requeue(mut self) {
        self.give_back();
        // Nothing is left for the drop: the record is no longer among those read.
        self.len = 0;
    }

    fn give_back(&mut self) {
        self.lease = None;
        self.consumer.unread();
    }
}

impl<A: ZeroCopy> Drop for Record<'_, A> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.lease.is_none() {
            return; // Given back.
        }
        self.lease = None;
        if std::thread::panicking() {
            return self.consumer.drop_in_panic();
        }
        self.consumer.release_read();
    }
}

impl<A: ZeroCopy> Deref for Record<'_, A> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the slice that `lend` made of the same start and length; it is valid until the
        // record is released, which only this guard's drop does while it borrows the consumer.
        unsafe { core::slice::from_raw_parts(self.start, self.len) }
    }
}
