//! The consuming handle of the slot ring and its records.

use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::Deref;

use crate::Mapped;
use crate::error::{ReadError, TryReadError};
use crate::handle::{Participant, Side};
use crate::layout::{EMPTY, RELEASED};
use crate::protocol::slot_ring::{self, Consumption, Held, Look, Refusal, Shape};
use crate::protocol::{Attachment, Gone, Store, ZeroCopy, copy, recovery, switches};
use crate::sync::ReadLease;
use crate::wait::{Deadline, How, Wait};

/// Reads records from an MPMC slot ring.
///
/// # Examples
/// ```
/// use annulus::{Wait, mpmc};
///
/// let (producer, consumer) = mpmc::Options::new(8, 64).heap()?;
/// for number in 0..3_u32 {
///     producer.push(number, &number.to_le_bytes(), Wait::block())?;
/// }
/// producer.close();
///
/// let mut tags = Vec::new();
/// while let Ok(record) = consumer.read(Wait::block()) {
///     tags.push(record.tag()); // The record is released here, as it is dropped.
/// }
/// assert_eq!(tags, [0, 1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Consumer<A: Attachment = Mapped> {
    participant: Participant<A>,
    shape: Shape,
    consumption: Cell<Consumption>,
    /// Records neither released nor requeued; not 0 at the end only if a guard was leaked.
    held: Cell<u64>,
}

impl<A: Attachment> Consumer<A> {
    pub(super) fn new(attachment: A, shape: Shape) -> Self {
        Self {
            participant: Participant::new(attachment),
            shape,
            consumption: Cell::new(Consumption::new()),
            held: Cell::new(0),
        }
    }

    pub(crate) fn participant(&self) -> &Participant<A> {
        &self.participant
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The longest record in bytes: the size of a slot.
    #[expect(clippy::cast_possible_truncation, reason = "a slot lies in memory")]
    pub fn max_record(&self) -> usize {
        self.shape.slot_bytes() as usize
    }

    /// How many slots the ring has.
    pub fn slots(&self) -> u64 {
        self.shape.slots()
    }

    /// About how many records and claims lie between head and tail. Both are moving hints: the
    /// number may be stale in either direction, and it counts claims that are being written or
    /// read.
    pub fn backlog(&self) -> u64 {
        super::producer::backlog(&self.participant, &self.shape)
    }

    /// Claims a record and checks its length; a damaged one is released.
    #[inline(always)]
    fn try_hold(&self) -> Result<(Held, u32, u32), TryReadError> {
        let participant = &self.participant;
        if !participant.attachment().is_here() {
            return Err(participant.gone());
        }
        let (store, me) = (participant.store(), participant.me());
        match self.consumption.get().claim_ahead(&self.shape, store, me) {
            Ok(held) if participant.is_whole() => self.check(held),
            Ok(_) => Err(participant.gone()),
            Err(look) => self.try_hold_behind(look),
        }
    }

    /// The same where the straight line has ended.
    #[inline(never)]
    fn try_hold_behind(&self, look: Look) -> Result<(Held, u32, u32), TryReadError> {
        let participant = &self.participant;
        let lost = look.lost_at(&self.shape);
        if let Some(position) = lost {
            participant.keep_away(RELEASED, position);
        }
        let outcome = match self.claim_behind(lost.is_none().then_some(look)) {
            Err(Refusal::Blocked { mark }) if participant.refused(EMPTY, mark) => {
                self.claim_behind(None)
            }
            outcome => outcome,
        };
        if !participant.is_whole() {
            return Err(participant.gone());
        }
        match outcome {
            Ok(held) => self.check(held),
            Err(Refusal::Blocked { .. }) => Err(TryReadError::Empty),
            Err(Refusal::Closed) => Err(TryReadError::Closed),
            Err(Refusal::Damaged(damage)) => Err(TryReadError::Damaged(damage)),
        }
    }

    /// From a look on, or from a new one.
    fn claim_behind(&self, look: Option<Look>) -> Result<Held, Refusal> {
        let (shape, store, me) = (&self.shape, self.participant.store(), self.participant.me());
        let mut made_space = false;
        let mut consumption = self.consumption.get();
        let outcome = match look {
            Some(look) => consumption.claim_behind(shape, store, me, look, &mut made_space),
            None => consumption.claim(shape, store, me, &mut made_space),
        };
        self.consumption.set(consumption);
        if made_space {
            self.wake_after_release();
        }
        outcome
    }

    #[inline(always)]
    fn check(&self, held: Held) -> Result<(Held, u32, u32), TryReadError> {
        self.held.set(self.held.get() + 1);
        match slot_ring::tag_and_len(&self.shape, self.participant.store(), held) {
            Ok((tag, len)) => {
                let offset = held.payload_offset(&self.shape);
                if self.participant.is_whole_at(offset, len.into()) {
                    Ok((held, tag, len))
                } else {
                    Err(self.participant.gone())
                }
            }
            Err(damage) => {
                self.release(held);
                Err(TryReadError::Damaged(damage))
            }
        }
    }

    #[inline(always)]
    fn hold(&self, wait: Wait) -> Result<(Held, u32, u32), ReadError> {
        let error = match self.try_hold() {
            Ok(held) => return Ok(held),
            Err(error) => error,
        };
        let mut outcome = Ok((0, 0));
        let (how, deadline) = wait.parts();
        let held = self.wait_for_record(how, deadline, error, &mut outcome);
        outcome.map(|(tag, len)| (held, tag, len))
    }

    /// What it returns goes in registers, and counts only if the outcome is no error.
    #[cold]
    #[inline(never)]
    fn wait_for_record(
        &self,
        how: How,
        deadline: Deadline,
        error: TryReadError,
        outcome: &mut Result<(u32, u32), ReadError>,
    ) -> Held {
        let wait = Wait::of_parts(how, deadline);
        let waited = self
            .participant
            .wait_for(Side::Items, wait, error, || self.try_hold());
        let (held, checked) = match waited {
            Ok((held, tag, len)) => (held, Ok((tag, len))),
            Err(error) => (Held::NONE, Err(error)),
        };
        *outcome = checked;
        held
    }

    #[inline(always)]
    fn release_quietly(&self, held: Held) {
        slot_ring::release(&self.shape, self.participant.store(), held);
        self.held.set(self.held.get() - 1);
        self.participant.count(RELEASED, 1);
    }

    #[inline(always)]
    fn release(&self, held: Held) {
        if !self.participant.attachment().is_here() {
            return;
        }
        self.release_quietly(held);
        self.wake_after_release();
    }

    /// Wakes producers; in a closed ring also consumers, who may sleep until every slot is free.
    #[inline(always)]
    fn wake_after_release(&self) {
        self.participant.wake(Side::Space);
        if switches::is_closed(self.participant.store()) {
            self.participant.wake(Side::Items);
        }
    }

    fn requeue(&self, held: Held) {
        if !self.participant.attachment().is_here() {
            return;
        }
        slot_ring::requeue(self.participant.store(), self.participant.me(), held);
        self.held.set(self.held.get() - 1);
        self.participant.wake(Side::Items);
    }

    /// Copies the next record into `payload`, whose old content is dropped, releases it, and
    /// returns its tag.
    ///
    /// # Errors
    /// See [`TryReadError`]; `payload` is left as it was, or is empty after `CutShort`.
    #[inline(always)]
    pub fn try_pop(&self, payload: &mut Vec<u8>) -> Result<u32, TryReadError> {
        self.take(self.try_hold()?, payload)
    }

    /// Waits for a record and copies it as [`try_pop`](Self::try_pop) does.
    ///
    /// # Errors
    /// See [`ReadError`]; `payload` is left as it was, or is empty after `CutShort`.
    pub fn pop(&self, payload: &mut Vec<u8>, wait: Wait) -> Result<u32, ReadError> {
        self.take(self.hold(wait)?, payload)
    }

    #[inline(always)]
    fn take<E: From<Gone>>(
        &self,
        (held, tag, len): (Held, u32, u32),
        payload: &mut Vec<u8>,
    ) -> Result<u32, E> {
        let offset = held.payload_offset(&self.shape);
        payload.clear();
        payload.resize(len as usize, 0);
        copy::empty::<A>(self.participant.store(), offset, payload);
        if !self.participant.is_whole() {
            payload.clear();
            return Err(self.participant.gone());
        }
        self.release(held);
        Ok(tag)
    }

    /// Ends the stream, for everybody; see [`Producer::close`](super::Producer::close).
    pub fn close(&self) {
        if self.participant.attachment().is_here() {
            switches::close(self.participant.store());
            self.participant.wake_everybody();
        }
    }
}

impl<A: ZeroCopy> Consumer<A> {
    /// Claims the next record, to be read in place.
    ///
    /// # Progress
    /// Lock-free: it repeats only after another participant made progress, at most two laps. Who
    /// loses a race for a record keeps away for a moment, 256 looks at most, before it tries again.
    ///
    /// # Errors
    /// See [`TryReadError`].
    #[inline(always)]
    pub fn try_read(&self) -> Result<Record<'_, A>, TryReadError> {
        self.try_hold().map(|held| Record::new(self, held))
    }

    /// Waits for the next record.
    ///
    /// # Progress
    /// Blocks on producers, and on whoever holds an earlier claim to write.
    ///
    /// # Errors
    /// See [`ReadError`].
    #[inline(always)]
    pub fn read(&self, wait: Wait) -> Result<Record<'_, A>, ReadError> {
        self.hold(wait).map(|held| Record::new(self, held))
    }

    /// Claims up to `max` records that are there, to be released together with one wake-up.
    ///
    /// # Errors
    /// See [`TryReadError`]: if there is not even one.
    pub fn try_read_batch(&self, max: usize) -> Result<Batch<'_, A>, TryReadError> {
        let mut records = Vec::new();
        while records.len() < max {
            match self.try_hold() {
                Ok(held) => records.push(Record::new(self, held)),
                Err(error) if records.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(Batch {
            consumer: self,
            records,
        })
    }

    /// Waits for a record, then claims up to `max` that are there.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_batch(&self, max: usize, wait: Wait) -> Result<Batch<'_, A>, ReadError> {
        match self.try_read_batch(max) {
            Ok(batch) => Ok(batch),
            Err(error) => self
                .participant
                .wait_for(Side::Items, wait, error, || self.try_read_batch(max)),
        }
    }
}

crate::handle::pollable!(Consumer, Side::Items, "there may be a record");

#[cfg(all(feature = "tokio", not(loom)))]
impl<A: ZeroCopy> Consumer<A> {
    /// Waits for the next record, as a future.
    ///
    /// Cancel-safe: a future that is dropped has claimed nothing.
    ///
    /// # Errors
    /// See [`ReadError`].
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled. All futures of a handle belong to the runtime in
    /// which its first one waited.
    pub async fn read_async(&mut self) -> Result<Record<'_, A>, ReadError> {
        let held = crate::handle::wait_async(
            &mut *self,
            Side::Items,
            |this| &this.participant,
            |this| this.try_hold(),
        )
        .await?;
        Ok(Record::new(self, held))
    }
}

impl<A: Attachment> Drop for Consumer<A> {
    fn drop(&mut self) {
        if self.held.get() > 0 && self.participant.attachment().is_here() {
            recovery::relinquish(&self.shape, self.participant.store(), self.participant.me());
            self.participant.wake_everybody();
        }
    }
}

/// A record that belongs to its consumer until it is released.
///
/// Dropping it releases it. Dropping it while unwinding requeues it instead: whoever panicked has
/// probably not dealt with it.
#[derive(Debug)]
#[must_use = "a record that is dropped is released"]
pub struct Record<'c, A: ZeroCopy = Mapped> {
    consumer: &'c Consumer<A>,
    /// `None` once released or requeued.
    held: Option<Held>,
    tag: u32,
    /// Not a slice: it would outlive the release, after which the bytes are others'.
    start: *const u8,
    len: usize,
    lease: Option<ReadLease>,
    /// It was claimed while its thread unwound already: its drop releases all the same.
    unwinding: bool,
    bytes: PhantomData<&'c [u8]>,
}

impl<'c, A: ZeroCopy> Record<'c, A> {
    #[inline(always)]
    fn new(consumer: &'c Consumer<A>, (held, tag, len): (Held, u32, u32)) -> Self {
        let store = consumer.participant.store();
        let offset = held.payload_offset(&consumer.shape);
        let lease = store.read_lease(offset, len.into());
        let start = store.bytes(offset, len.into());
        Self {
            consumer,
            held: Some(held),
            tag,
            start,
            len: len as usize,
            lease: Some(lease),
            unwinding: std::thread::panicking(),
            bytes: PhantomData,
        }
    }

    /// The tag that its producer gave it.
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// Where it stands in the order of claims; 0 where the handle is of no use any more: in a
    /// forked child, or once a guarded one has lost part of the ring.
    pub fn position(&self) -> u64 {
        let participant = &self.consumer.participant;
        match self.held {
            Some(held) if participant.attachment().is_here() => {
                held.position(&self.consumer.shape, participant.store())
            }
            _ => 0,
        }
    }

    /// How often it was delivered and given back before; counted up to 3.
    pub fn attempts(&self) -> u8 {
        self.held.map_or(0, |held| held.attempts())
    }

    /// Gives the slot back to producers, also while unwinding.
    #[inline(always)]
    pub fn release(mut self) {
        self.give(Consumer::release);
    }

    /// Gives the record back, to be delivered again to this or another consumer.
    pub fn requeue(mut self) {
        self.give(Consumer::requeue);
    }

    #[inline(always)]
    fn give(&mut self, to: impl FnOnce(&Consumer<A>, Held)) {
        self.lease = None;
        if let Some(held) = self.held.take() {
            to(self.consumer, held);
        }
    }

    fn has_panicked(&self) -> bool {
        !self.unwinding && std::thread::panicking()
    }
}

impl<A: ZeroCopy> Drop for Record<'_, A> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.has_panicked() {
            self.give(Consumer::requeue);
        } else {
            self.give(Consumer::release);
        }
    }
}

impl<A: ZeroCopy> Deref for Record<'_, A> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY:
        // - `start` is valid for `len` bytes for as long as the consumer is borrowed: `Store`.
        // - Nobody writes them until this record ends: the slot's word says READING by this
        //   participant (slot_ring INV-1), which holds in a mapped file by the contract of the
        //   unsafe attach and on the heap because only our handles reach the memory (`ZeroCopy`).
        // - They are initialised: the memory began as zeroes.
        unsafe { core::slice::from_raw_parts(self.start, self.len) }
    }
}

/// Records that are released together. Dropping the batch releases all; while unwinding, requeues
/// all.
#[derive(Debug)]
#[must_use = "records that are dropped are released"]
pub struct Batch<'c, A: ZeroCopy = Mapped> {
    consumer: &'c Consumer<A>,
    records: Vec<Record<'c, A>>,
}

impl<'c, A: ZeroCopy> Batch<'c, A> {
    /// The records, oldest first.
    pub fn iter(&self) -> core::slice::Iter<'_, Record<'c, A>> {
        self.records.iter()
    }

    /// How many there are: at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Takes the records out, to be released one by one.
    pub fn into_records(mut self) -> Vec<Record<'c, A>> {
        core::mem::take(&mut self.records)
    }

    /// Gives all slots back to producers, also while unwinding.
    pub fn release(mut self) {
        self.release_all();
    }

    fn release_all(&mut self) {
        if !self.consumer.participant.attachment().is_here() {
            return;
        }
        for mut record in self.records.drain(..) {
            record.give(Consumer::release_quietly);
        }
        self.consumer.wake_after_release();
    }
}

impl<A: ZeroCopy> Drop for Batch<'_, A> {
    fn drop(&mut self) {
        // Each record requeues itself otherwise.
        if !self.records.iter().any(Record::has_panicked) {
            self.release_all();
        }
    }
}

impl<'b, 'c, A: ZeroCopy> IntoIterator for &'b Batch<'c, A> {
    type Item = &'b Record<'c, A>;
    type IntoIter = core::slice::Iter<'b, Record<'c, A>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
