//! The producing handle of the byte ring and its claims.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::Peer;
use crate::Mapped;
use crate::error::{ClaimError, TryClaimError, TryError as _};
use crate::handle::{Participant, Side};
use crate::layout::FULL;
#[cfg(not(loom))]
use crate::protocol::byte_ring;
use crate::protocol::byte_ring::{Shape, Span, WriteRefusal, Writer};
use crate::protocol::{Attachment, Damage, Owner, Store, ZeroCopy, copy, switches};
use crate::sync::WriteLease;
use crate::wait::{self, Deadline, How, Wait};

/// Bytes that a producer waits for in a full ring, if they are not more than a quarter of it.
const MOST_ROOM: u64 = 128 << 10;
/// Bytes in a nanosecond that are more than a consumer reads. One that releases them unread may be
/// faster, and then waits for this producer for 8 µs at most.
const BYTES_A_NS: u64 = 16;
/// Looks for room in one wait, at most: each hopes to find a quarter less missing than the one
/// before, and an eighth of it all is little enough.
const LOOKS_FOR_ROOM: u64 = 8;
/// No sleep follows one.
const _: () = assert!(LOOKS_FOR_ROOM <= wait::LEAST_LOOKS);

/// Writes records into an SPSC byte ring.
///
/// # Examples
/// ```
/// use annulus::{Wait, spsc};
///
/// // 4 KiB in the memory of this process.
/// let (mut producer, mut consumer) = spsc::Options::new(4096).heap()?;
///
/// let mut claim = producer.claim(16, Wait::block())?; // 16 bytes at most
/// claim[..5].copy_from_slice(b"hello");
/// claim.commit_first(5, 7); // 5 bytes, tag 7
///
/// let record = consumer.read(Wait::block())?;
/// assert_eq!((record.tag(), &record[..]), (7, &b"hello"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Producer<A: Attachment = Mapped> {
    participant: Participant<A>,
    shape: Shape,
    writer: Writer,
}

impl<A: Attachment> Producer<A> {
    pub(super) fn new(attachment: A, shape: Shape, writer: Writer) -> Self {
        Self {
            participant: Participant::new(attachment),
            shape,
            writer,
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

    /// Bytes committed and not released, headers and padding included. The consumer may have
    /// released more meanwhile: at most this many are left.
    pub fn backlog(&self) -> u64 {
        if !self.participant.attachment().is_here() {
            return 0;
        }
        // relaxed: an upper bound as of some moment since the last commit.
        let head = self.head().load(crate::sync::Ordering::Relaxed);
        self.writer
            .tail()
            .wrapping_sub(head)
            .min(self.shape.capacity())
    }

    fn head(&self) -> &crate::sync::AtomicU64 {
        &self.participant.store().control().head.position
    }

    /// Records committed since the ring was created, by this producer and those before it.
    pub fn committed_records(&self) -> u64 {
        self.writer.records()
    }

    /// What the kernel knows of the consumer: exact as of some moment during the call. A consumer
    /// whose process has died is told as soon as the kernel has taken its memory apart.
    pub fn peer(&self) -> Peer {
        super::options::peer(self.participant.attachment(), Owner::CONSUMER)
    }

    /// A span at the committed end.
    #[inline(always)]
    fn try_span(&mut self, len: usize) -> Result<Span, TryClaimError> {
        self.drop_leaked();
        self.try_span_staged(len)
    }

    /// A span behind what is staged.
    #[inline(always)]
    fn try_span_staged(&mut self, len: usize) -> Result<Span, TryClaimError> {
        try_span(&self.participant, &self.shape, &mut self.writer, len)
    }

    #[inline(always)]
    fn span(&mut self, len: usize, wait: Wait) -> Result<Span, ClaimError> {
        let error = match self.try_span(len) {
            Ok(span) => return Ok(span),
            Err(error) => error,
        };
        let (how, deadline) = wait.parts();
        self.wait_for_span(len, how, deadline, error)?;
        self.try_span(len)
            .map_err(|error| match error.into_final() {
                Some(error) => error,
                None => ClaimError::Damaged(gone_again()),
            })
    }

    /// Waits until a span can be claimed, and leaves it to the straight line, whose mark is the
    /// same: what a call returns goes through memory.
    ///
    /// A full ring has records enough to read, so a consumer is not kept waiting by a producer that
    /// waits for more than one record's room. One that takes each as it comes free follows the
    /// consumer from line to line. And each look at the head takes its line from the consumer, who
    /// stores there with every release: so there is a look when the room may have come, not before.
    #[cold]
    #[inline(never)]
    fn wait_for_span(
        &mut self,
        len: usize,
        how: How,
        deadline: Deadline,
        error: TryClaimError,
    ) -> Result<(), ClaimError> {
        let wait = Wait::of_parts(how, deadline);
        let Self {
            participant,
            shape,
            writer,
        } = self;
        let room = MOST_ROOM.min(shape.capacity() / 4);
        // Looks for room end when most of it is there or the consumer has read too little since the
        // last one: after `LOOKS_FOR_ROOM` at most. They end at once if more is missing than all of
        // it, which a head that is none can say.
        let enough = little(room);
        // Loom sleeps at once.
        let mut hoped_for = if cfg!(loom) { 0 } else { room };
        participant.wait_for(Side::Space, wait, error, || {
            if hoped_for > enough {
                let missing = writer.missing_room(shape, participant.store(), room);
                if missing > enough && missing <= hoped_for {
                    hoped_for = hope_after(missing);
                    wait::spin_for_ns(missing / BYTES_A_NS);
                    return Err(TryClaimError::Full);
                }
                hoped_for = 0;
            }
            try_span(participant, shape, writer, len).map(drop)
        })
    }

    /// Gives up records that a batch left staged because it was leaked.
    #[inline(always)]
    fn drop_leaked(&mut self) {
        if self.writer.has_staged() {
            self.drop_staged();
        }
    }

    #[cold]
    #[inline(never)]
    fn drop_staged(&mut self) {
        if self.participant.attachment().is_here() {
            self.writer.abandon(self.participant.store());
        }
    }

    #[inline(always)]
    fn stage(&mut self, span: Span, tag: u32, len: usize) {
        if !self.participant.attachment().is_here() {
            return;
        }
        let (shape, store) = (self.shape, self.participant.near());
        self.writer.stage(&shape, &store, span, tag, len as u64);
    }

    /// Makes a span that was claimed with nothing staged a record of its own.
    #[inline(always)]
    fn commit(&mut self, span: Span, tag: u32, len: usize) {
        if !self.participant.attachment().is_here() {
            return;
        }
        let Self {
            participant,
            shape,
            writer,
        } = self;
        let (near_shape, near) = (*shape, participant.near());
        if !writer.commit_ahead(&near_shape, &near, span, tag, len as u64) {
            commit_anywhere(participant, shape, writer, span, tag, len);
        }
        wait::wake(Side::Items.event(&near));
    }

    #[inline(always)]
    fn publish(&mut self) {
        if !self.participant.attachment().is_here() {
            return;
        }
        let (shape, store) = (self.shape, self.participant.near());
        self.writer.publish(&shape, &store);
        wait::wake(Side::Items.event(&store));
    }

    #[cfg(not(loom))]
    fn publish_from(&mut self, origin: &super::Origin) {
        if !self.participant.attachment().is_here() {
            return;
        }
        self.writer
            .publish_from(&self.shape, self.participant.store(), origin);
        self.participant.wake(Side::Items);
    }

    /// Where the newest records that were committed with [`Batch::commit_from`] came from.
    #[cfg(not(loom))]
    pub fn origin(&self) -> Option<super::Origin> {
        if !self.participant.attachment().is_here() {
            return None;
        }
        byte_ring::origin_at(self.participant.store(), self.writer.tail())
    }

    /// Takes the claim mark away; a consumer of a closed ring may wait for that.
    fn unclaim(&self) {
        if !self.participant.attachment().is_here() {
            return;
        }
        self.writer.unclaim(self.participant.store());
        self.participant.wake(Side::Items);
    }

    /// Copies `payload` into the ring and commits it.
    ///
    /// # Errors
    /// See [`TryClaimError`].
    #[inline(always)]
    pub fn try_push(&mut self, tag: u32, payload: &[u8]) -> Result<(), TryClaimError> {
        let span = self.try_span(payload.len())?;
        self.fill_and_commit(span, tag, payload);
        Ok(())
    }

    /// Waits for space, copies `payload` into it and commits it.
    ///
    /// # Errors
    /// See [`ClaimError`].
    #[inline(always)]
    pub fn push(&mut self, tag: u32, payload: &[u8], wait: Wait) -> Result<(), ClaimError> {
        let span = self.span(payload.len(), wait)?;
        self.fill_and_commit(span, tag, payload);
        Ok(())
    }

    #[inline(always)]
    fn fill_and_commit(&mut self, span: Span, tag: u32, payload: &[u8]) {
        let store = self.participant.store();
        copy::fill::<A>(store, span.payload_offset(store), payload);
        self.commit(span, tag, payload.len());
    }

    /// Ends the stream: further claims are refused, the consumer drains the ring and is then told
    /// that it is closed. It stays closed for whoever attaches later, until
    /// [`reopen`](Self::reopen).
    pub fn close(&mut self) {
        if self.participant.attachment().is_here() {
            switches::close_in_order(self.participant.store());
            self.participant.wake_everybody();
        }
    }

    /// Opens a closed ring for writing again.
    pub fn reopen(&mut self) {
        if self.participant.attachment().is_here() {
            switches::reopen(self.participant.store());
        }
    }

    /// Whether the ring is closed for writing.
    pub fn is_closed(&self) -> bool {
        self.participant.attachment().is_here() && switches::is_closed(self.participant.store())
    }
}

/// Of so much room, what may be missing in the end.
fn little(room: u64) -> u64 {
    room / 8
}

/// What may be missing at the next look for room.
fn hope_after(missing: u64) -> u64 {
    missing - missing / 4
}

#[inline(always)]
fn try_span<A: Attachment>(
    participant: &Participant<A>,
    shape: &Shape,
    writer: &mut Writer,
    len: usize,
) -> Result<Span, TryClaimError> {
    if !participant.attachment().is_here() {
        return Err(participant.gone());
    }
    let near = participant.near();
    match writer.claim_ahead(&near, len as u64) {
        Some(span) if participant.is_whole() => Ok(span),
        Some(_) => Err(participant.gone()),
        None => try_span_anywhere(participant, shape, writer, len),
    }
}

/// Where the straight line has ended. A refusal is counted; the consumer is looked after, and if
/// that has helped there is one attempt more.
#[inline(never)]
fn try_span_anywhere<A: Attachment>(
    participant: &Participant<A>,
    shape: &Shape,
    writer: &mut Writer,
    len: usize,
) -> Result<Span, TryClaimError> {
    if len as u64 > shape.max_record() {
        return Err(too_long(shape, len));
    }
    let store = participant.store();
    let mut claim = || writer.claim(shape, store, len as u64);
    let outcome = match claim() {
        Err(WriteRefusal::Full { head }) if participant.refused(FULL, head) => claim(),
        outcome => outcome,
    };
    if !participant.is_whole() {
        return Err(participant.gone());
    }
    outcome.map_err(|refusal| match refusal {
        WriteRefusal::Full { .. } => TryClaimError::Full,
        WriteRefusal::Closed => {
            // A consumer may sleep until the claim mark is gone.
            participant.wake(Side::Items);
            TryClaimError::Closed
        }
        WriteRefusal::Damaged(damage) => TryClaimError::Damaged(damage),
    })
}

/// A commit where the straight line has ended.
#[inline(never)]
fn commit_anywhere<A: Attachment>(
    participant: &Participant<A>,
    shape: &Shape,
    writer: &mut Writer,
    span: Span,
    tag: u32,
    len: usize,
) {
    writer.commit(shape, participant.store(), span, tag, len as u64);
}

/// Cannot be: the head that was seen last and the tail are the writer's own words, and a claim that
/// fitted between them fits again.
#[cold]
fn gone_again() -> Damage {
    Damage {
        what: "the space behind the tail",
        found: 0,
        expected: "expected it to stay until it is claimed",
    }
}

#[cold]
#[expect(clippy::cast_possible_truncation, reason = "the ring lies in memory")]
fn too_long(shape: &Shape, len: usize) -> TryClaimError {
    TryClaimError::TooLong {
        len,
        max: shape.max_record() as usize,
    }
}

impl<A: ZeroCopy> Producer<A> {
    /// Claims a contiguous span for a record of at most `len` bytes, to be written in place. Its
    /// bytes are those of older records.
    ///
    /// # Progress
    /// Wait-free.
    ///
    /// # Errors
    /// See [`TryClaimError`].
    #[inline(always)]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_, A>, TryClaimError> {
        let span = self.try_span(len)?;
        Ok(Claim {
            inner: Writing::new(self, span, len),
        })
    }

    /// Waits for space for a record of at most `len` bytes; for some microseconds, if the ring is
    /// full, for space for many.
    ///
    /// # Progress
    /// Blocks on the consumer. One that died is noticed, see [`peer`](Self::peer), but the ring
    /// stays full until another one attaches.
    ///
    /// # Errors
    /// See [`ClaimError`].
    #[inline(always)]
    pub fn claim(&mut self, len: usize, wait: Wait) -> Result<Claim<'_, A>, ClaimError> {
        let span = self.span(len, wait)?;
        Ok(Claim {
            inner: Writing::new(self, span, len),
        })
    }

    /// Begins a batch: records that become visible all at once, with one publication, also if the
    /// producer dies meanwhile: all or none.
    #[inline(always)]
    pub fn batch(&mut self) -> Batch<'_, A> {
        self.drop_leaked();
        Batch { producer: self }
    }
}

crate::handle::pollable!(Producer, Side::Space, "there may be space");

#[cfg(all(feature = "tokio", not(loom)))]
impl<A: ZeroCopy> Producer<A> {
    /// Waits for space for a record of at most `len` bytes, as a future.
    ///
    /// Cancel-safe: a future that is dropped has claimed nothing.
    ///
    /// # Errors
    /// See [`ClaimError`].
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled. All futures of a handle belong to the runtime in
    /// which its first one waited.
    pub async fn claim_async(&mut self, len: usize) -> Result<Claim<'_, A>, ClaimError> {
        self.drop_leaked();
        let span = crate::handle::wait_async(
            &mut *self,
            Side::Space,
            |this| &this.participant,
            |this| this.try_span(len),
        )
        .await?;
        Ok(Claim {
            inner: Writing::new(self, span, len),
        })
    }
}

impl<A: Attachment> Drop for Producer<A> {
    fn drop(&mut self) {
        if self.participant.attachment().is_here() {
            self.writer.abandon(self.participant.store());
            // The consumer of a closed ring may sleep until a claim that was leaked is gone.
            self.participant.wake(Side::Items);
        }
    }
}

/// A claimed span, until it is staged or given up.
#[derive(Debug)]
struct Writing<'p, A: ZeroCopy> {
    producer: &'p mut Producer<A>,
    /// `None` once staged.
    span: Option<Span>,
    start: *mut u8,
    len: usize,
    lease: Option<WriteLease>,
    bytes: PhantomData<&'p mut [u8]>,
}

impl<'p, A: ZeroCopy> Writing<'p, A> {
    #[inline(always)]
    fn new(producer: &'p mut Producer<A>, span: Span, len: usize) -> Self {
        let store = producer.participant.near();
        let offset = span.payload_offset(&store);
        // SAFETY: a claimed span lies inside the ring (byte_ring::writer INV-1), whose shape the
        // producer's writer and store have in common, and `len` bytes of it were claimed.
        let start = unsafe { store.bytes_inside(offset, len as u64) };
        let lease = Some(store.write_lease(offset, len as u64));
        Self {
            producer,
            span: Some(span),
            start,
            len,
            lease,
            bytes: PhantomData,
        }
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: as for `bytes_mut`; here they are only read.
        unsafe { core::slice::from_raw_parts(self.start, self.len) }
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY:
        // - `start` is valid for `len` bytes while the producer is borrowed: `Store`.
        // - Nobody else reads or writes them until this claim ends: they lie behind the committed
        //   end, where only the one producer writes (byte_ring INV-3 and INV-4); in a mapped file
        //   by the contract of the unsafe attach, on the heap because only our handles reach the
        //   memory (`ZeroCopy`).
        // - They are initialised: the memory began as zeroes.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// The span, of which `len` bytes are to count; nothing is given up any more.
    #[inline(always)]
    fn take(&mut self, len: usize) -> Option<Span> {
        assert!(len <= self.len, "a commit of more bytes than were claimed");
        self.lease = None;
        self.span.take()
    }
}

impl<A: ZeroCopy> Drop for Writing<'_, A> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lease = None;
        if self.span.take().is_some() {
            self.producer.unclaim();
        }
    }
}

/// A span that belongs to the producer until it is committed. Dropping it aborts: nothing of it is
/// seen, and the next claim begins at the same place.
#[derive(Debug)]
#[must_use = "a claim that is dropped is aborted"]
pub struct Claim<'p, A: ZeroCopy = Mapped> {
    inner: Writing<'p, A>,
}

impl<A: ZeroCopy> Claim<'_, A> {
    /// Makes the record visible with the user's own `tag`.
    #[inline(always)]
    pub fn commit(self, tag: u32) {
        let len = self.inner.len;
        self.commit_first(len, tag);
    }

    /// Makes a record of the first `len` bytes visible; the rest goes back.
    ///
    /// # Panics
    /// If fewer were claimed.
    #[inline(always)]
    pub fn commit_first(mut self, len: usize, tag: u32) {
        if let Some(span) = self.inner.take(len) {
            self.inner.producer.commit(span, tag, len);
        }
    }

    /// Gives the claim up, as dropping it does.
    pub fn abort(self) {}
}

impl<A: ZeroCopy> Deref for Claim<'_, A> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.inner.bytes()
    }
}

impl<A: ZeroCopy> DerefMut for Claim<'_, A> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.inner.bytes_mut()
    }
}

/// Records that become visible with one publication. Dropping the batch aborts all of it.
#[derive(Debug)]
#[must_use = "a batch that is dropped is aborted"]
pub struct Batch<'p, A: ZeroCopy = Mapped> {
    producer: &'p mut Producer<A>,
}

impl<A: ZeroCopy> Batch<'_, A> {
    /// Claims a span for the batch's next record.
    ///
    /// # Errors
    /// See [`TryClaimError`]; what is staged stays so. A batch that fills the ring waits in vain:
    /// commit it.
    #[inline(always)]
    pub fn try_claim(&mut self, len: usize) -> Result<BatchClaim<'_, A>, TryClaimError> {
        let span = self.producer.try_span_staged(len)?;
        Ok(BatchClaim {
            inner: Writing::new(self.producer, span, len),
        })
    }

    /// Copies `payload` into the batch's next record.
    ///
    /// # Errors
    /// See [`TryClaimError`]; what is staged stays so.
    #[inline(always)]
    pub fn try_push(&mut self, tag: u32, payload: &[u8]) -> Result<(), TryClaimError> {
        let mut claim = self.try_claim(payload.len())?;
        claim.copy_from_slice(payload);
        claim.stage(tag);
        Ok(())
    }

    /// Copies records that lie one behind the other as in a ring, such as those of
    /// [`Consumer::try_peek_run`](super::Consumer::try_peek_run), into the batch all at once: as
    /// many whole ones as go in one piece before the end of the ring. Returns their bytes and how
    /// many they are; 0 if the first one is none or does not fit so, and then
    /// [`try_push`](Self::try_push) of that one tells why or makes it fit.
    #[cfg(not(loom))]
    pub fn try_push_run(&mut self, run: &[u8]) -> (usize, u64) {
        let Producer {
            participant,
            shape,
            writer,
        } = &mut *self.producer;
        if !participant.attachment().is_here() {
            return (0, 0);
        }
        let most = writer.contiguous(shape, participant.store());
        let records = byte_ring::Records::of(run, most, shape);
        let Some((_, behind_header)) = run[..records.bytes].split_first_chunk::<8>() else {
            return (0, 0);
        };
        let Ok(span) = try_span(participant, shape, writer, behind_header.len()) else {
            return (0, 0);
        };
        let store = participant.store();
        copy::fill::<A>(store, span.payload_offset(store), behind_header);
        writer.stage_run(shape, store, span, &records);
        (records.bytes, records.count)
    }

    /// How many records are staged.
    pub fn len(&self) -> u64 {
        self.producer.writer.staged_records()
    }

    /// Whether nothing is staged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes all records visible at once and wakes the consumer.
    #[inline(always)]
    pub fn commit(self) {
        if !self.is_empty() {
            self.producer.publish();
        }
    }

    /// Makes all records visible at once, and with them how far they reach in the ring from which
    /// they were copied: [`Producer::origin`] tells either the old origin or this one, whenever the
    /// process dies. An empty batch says nothing.
    #[cfg(not(loom))]
    pub fn commit_from(self, origin: &super::Origin) {
        if !self.is_empty() {
            self.producer.publish_from(origin);
        }
    }
}

impl<A: ZeroCopy> Drop for Batch<'_, A> {
    fn drop(&mut self) {
        if !self.is_empty() && self.producer.participant.attachment().is_here() {
            self.producer
                .writer
                .abandon(self.producer.participant.store());
            self.producer.unclaim();
        }
    }
}

/// The span of a batch's next record. Dropping it aborts this record alone.
#[derive(Debug)]
#[must_use = "a claim that is dropped is aborted"]
pub struct BatchClaim<'b, A: ZeroCopy = Mapped> {
    inner: Writing<'b, A>,
}

impl<A: ZeroCopy> BatchClaim<'_, A> {
    /// Adds the record to the batch.
    #[inline(always)]
    pub fn stage(self, tag: u32) {
        let len = self.inner.len;
        self.stage_first(len, tag);
    }

    /// Adds a record of the first `len` bytes to the batch.
    ///
    /// # Panics
    /// If fewer were claimed.
    #[inline(always)]
    pub fn stage_first(mut self, len: usize, tag: u32) {
        if let Some(span) = self.inner.take(len) {
            self.inner.producer.stage(span, tag, len);
        }
    }
}

impl<A: ZeroCopy> Deref for BatchClaim<'_, A> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.inner.bytes()
    }
}

impl<A: ZeroCopy> DerefMut for BatchClaim<'_, A> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.inner.bytes_mut()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{ClaimError, LOOKS_FOR_ROOM, MOST_ROOM, TryClaimError, Wait, hope_after, little};
    use crate::sync::Ordering;

    #[test]
    fn looks_for_room_end_in_time() {
        for room in 1024..=MOST_ROOM {
            let hopes = core::iter::successors(Some(room), |missing| Some(hope_after(*missing)));
            let looks = hopes.take_while(|missing| *missing > little(room));
            assert!(looks.count() as u64 <= LOOKS_FOR_ROOM, "{room}");
        }
    }

    /// A hostile peer may store any head while a producer hopes for room.
    #[test]
    fn a_head_that_is_none_ends_the_hope_for_room() {
        let (mut producer, _consumer) = crate::spsc::Options::new(4096).heap().unwrap();
        while producer.try_push(0, &[0; 900]).is_ok() {}
        let none = producer.writer.tail().wrapping_add(8);
        // relaxed: one thread.
        producer.head().store(none, Ordering::Relaxed);
        let (how, deadline) = Wait::spin().parts();
        let ended = producer.wait_for_span(900, how, deadline, TryClaimError::Full);
        assert!(matches!(ended, Err(ClaimError::Damaged(_))), "{ended:?}");
    }
}
