//! The producing handle of the slot ring and its claims.

use core::cell::{Cell, RefCell};
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::Mapped;
use crate::error::{ClaimError, TryClaimError};
use crate::handle::{Participant, Side};
use crate::layout::{COMMITTED, FULL};
use crate::protocol::slot_ring::{self, Held, Refusal, Shape, Word};
use crate::protocol::{Attachment, Store, ZeroCopy, copy, recovery, switches};
use crate::sync::WriteLease;
use crate::wait::{Deadline, How, Wait};

/// Writes records into an MPMC slot ring.
///
/// # Examples
/// ```
/// use annulus::{Wait, mpmc};
///
/// // 8 slots of 64 bytes, in the memory of this process.
/// let (producer, consumer) = mpmc::Options::new(8, 64).heap()?;
///
/// let mut claim = producer.claim(5, Wait::block())?;
/// claim.copy_from_slice(b"hello");
/// claim.commit(7);
///
/// let record = consumer.read(Wait::block())?;
/// assert_eq!((record.tag(), &record[..]), (7, &b"hello"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Producer<A: Attachment = Mapped> {
    participant: Participant<A>,
    shape: Shape,
    /// Claims neither committed nor aborted; not 0 at the end only if a guard was leaked.
    held: Cell<u64>,
    /// Room for a batch's claims, kept from batch to batch.
    staged: RefCell<Vec<Staged>>,
}

/// Slots that a waiting producer would like to see free, in a ring that has many.
const MOST_ROOM: u64 = 512;

#[derive(Debug)]
struct Staged {
    held: Held,
    tag: u32,
    len: u32,
}

impl<A: Attachment> Producer<A> {
    pub(super) fn new(attachment: A, shape: Shape) -> Self {
        Self {
            participant: Participant::new(attachment),
            shape,
            held: Cell::new(0),
            staged: RefCell::default(),
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
        backlog(&self.participant, &self.shape)
    }

    #[inline(always)]
    fn try_hold(&self, len: usize) -> Result<Held, TryClaimError> {
        let max = self.max_record();
        if len > max {
            return Err(TryClaimError::TooLong { len, max });
        }
        let participant = &self.participant;
        if !participant.attachment().is_here() {
            return Err(participant.gone());
        }
        let (store, me) = (participant.store(), participant.me());
        match slot_ring::claim_to_write_ahead(&self.shape, store, me) {
            Ok(held) if slot_ring::is_admitted(store) && participant.is_whole() => {
                self.held.set(self.held.get() + 1);
                Ok(held)
            }
            looked => self.try_hold_behind(looked),
        }
    }

    /// The same where the straight line has ended: in a claim that may not be kept, or without one.
    #[inline(never)]
    fn try_hold_behind(&self, looked: Result<Held, (u64, Word)>) -> Result<Held, TryClaimError> {
        let participant = &self.participant;
        let (shape, store, me) = (&self.shape, participant.store(), participant.me());
        let outcome = match looked {
            Ok(held) => slot_ring::admit(shape, store, me, held),
            Err((position, word)) if slot_ring::was_claimed(shape, position, word) => {
                participant.keep_away(COMMITTED, position);
                slot_ring::claim_to_write(shape, store, me)
            }
            Err((position, word)) => {
                slot_ring::claim_to_write_behind(shape, store, me, position, word)
            }
        };
        let outcome = match outcome {
            Err(Refusal::Blocked { mark }) if participant.refused(FULL, mark) => {
                slot_ring::claim_to_write(shape, store, me)
            }
            outcome => outcome,
        };
        if !participant.is_whole() {
            return Err(participant.gone());
        }
        match outcome {
            Ok(held) => {
                self.held.set(self.held.get() + 1);
                Ok(held)
            }
            Err(Refusal::Blocked { .. }) => Err(TryClaimError::Full),
            Err(Refusal::Closed) => {
                // The claim was made and aborted: somebody may sleep until it is resolved.
                participant.wake(Side::Items);
                Err(TryClaimError::Closed)
            }
            Err(Refusal::Damaged(damage)) => Err(TryClaimError::Damaged(damage)),
        }
    }

    #[inline(always)]
    fn hold(&self, len: usize, wait: Wait) -> Result<Held, ClaimError> {
        let error = match self.try_hold(len) {
            Ok(held) => return Ok(held),
            Err(error) => error,
        };
        let mut outcome = Ok(());
        let (how, deadline) = wait.parts();
        let held = self.wait_for_slot(len, how, deadline, error, &mut outcome);
        outcome.map(|()| held)
    }

    /// What it returns goes in registers, and counts only if the outcome is left as it was.
    ///
    /// A full ring has records enough to read, so nobody is kept waiting by a producer that waits
    /// for more than a slot. One that takes each slot as it comes free follows a consumer from line
    /// to line, and both wait for every one of them.
    #[cold]
    #[inline(never)]
    fn wait_for_slot(
        &self,
        len: usize,
        how: How,
        deadline: Deadline,
        error: TryClaimError,
        outcome: &mut Result<(), ClaimError>,
    ) -> Held {
        let wait = Wait::of_parts(how, deadline);
        let room = MOST_ROOM.min(self.slots() / 4);
        let mut looks = self.participant.looks_for_room(wait);
        let waited = self.participant.wait_for(Side::Space, wait, error, || {
            let store = self.participant.store();
            if looks > 0 && !slot_ring::has_room(&self.shape, store, room) {
                looks -= 1;
                return Err(TryClaimError::Full);
            }
            self.try_hold(len)
        });
        waited.unwrap_or_else(|error| {
            *outcome = Err(error);
            Held::NONE
        })
    }

    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most the slot size, below 2^31"
    )]
    fn commit_quietly(&self, held: Held, tag: u32, len: usize) {
        slot_ring::commit(self.participant.store(), held, tag, len as u32);
        self.held.set(self.held.get() - 1);
        self.participant.count(COMMITTED, 1);
    }

    #[inline(always)]
    fn commit(&self, held: Held, tag: u32, len: usize) {
        if self.participant.attachment().is_here() {
            self.commit_quietly(held, tag, len);
            self.participant.wake(Side::Items);
        }
    }

    /// Becomes the one producer of this ring that says where its records come from, which a bridge
    /// does; until it is gone. False if another one is, or has died and is not recovered yet.
    #[cfg(not(loom))]
    pub fn begin_copying(&self) -> bool {
        if !self.participant.attachment().is_here() {
            return false;
        }
        self.participant.attachment().mend();
        slot_ring::take_seat(self.participant.store(), self.participant.me())
    }

    /// Where the newest record that was committed with [`Claim::commit_from`] came from. `None` too
    /// before [`begin_copying`](Self::begin_copying).
    #[cfg(not(loom))]
    pub fn origin(&self) -> Option<crate::spsc::Origin> {
        let participant = &self.participant;
        let is_copier = participant.attachment().is_here()
            && slot_ring::has_seat(participant.store(), participant.me());
        is_copier
            .then(|| slot_ring::newest_origin(participant.store()))
            .flatten()
    }

    #[cfg(not(loom))]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most the slot size, below 2^31"
    )]
    fn commit_from(&self, held: Held, tag: u32, len: usize, origin: &crate::spsc::Origin) {
        let (store, me) = (self.participant.store(), self.participant.me());
        slot_ring::commit_from(&self.shape, store, me, held, (tag, len as u32), origin);
        self.held.set(self.held.get() - 1);
        self.participant.count(COMMITTED, 1);
        self.participant.wake(Side::Items);
    }

    fn abort(&self, held: Held) {
        if !self.participant.attachment().is_here() {
            return;
        }
        slot_ring::abort(
            &self.shape,
            self.participant.store(),
            self.participant.me(),
            held,
        );
        self.held.set(self.held.get() - 1);
        self.participant.wake(Side::Items);
    }

    /// Copies `payload` into a slot of its own and commits it.
    ///
    /// # Errors
    /// See [`TryClaimError`].
    #[inline(always)]
    pub fn try_push(&self, tag: u32, payload: &[u8]) -> Result<(), TryClaimError> {
        let held = self.try_hold(payload.len())?;
        self.fill_and_commit(held, tag, payload);
        Ok(())
    }

    /// Waits for a slot, copies `payload` into it and commits it.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn push(&self, tag: u32, payload: &[u8], wait: Wait) -> Result<(), ClaimError> {
        let held = self.hold(payload.len(), wait)?;
        self.fill_and_commit(held, tag, payload);
        Ok(())
    }

    #[inline(always)]
    fn fill_and_commit(&self, held: Held, tag: u32, payload: &[u8]) {
        let offset = held.payload_offset(&self.shape);
        copy::fill::<A>(self.participant.store(), offset, payload);
        self.commit(held, tag, payload.len());
    }

    /// Ends the stream, for everybody: producers are refused from now on, consumers drain the ring
    /// and are then told that it is closed. Claims already held may still be committed.
    pub fn close(&self) {
        if self.participant.attachment().is_here() {
            switches::close(self.participant.store());
            self.participant.wake_everybody();
        }
    }

    /// Opens a closed ring for writing again.
    pub fn reopen(&self) {
        if self.participant.attachment().is_here() {
            switches::reopen(self.participant.store());
        }
    }

    /// Whether the ring is closed for writing.
    pub fn is_closed(&self) -> bool {
        self.participant.attachment().is_here() && switches::is_closed(self.participant.store())
    }
}

pub(super) fn backlog<A: Attachment>(participant: &Participant<A>, shape: &Shape) -> u64 {
    if !participant.attachment().is_here() {
        return 0;
    }
    let control = participant.store().control();
    // relaxed: an estimate.
    let head = control.head.position.load(crate::sync::Ordering::Relaxed);
    // relaxed: an estimate.
    let tail = control.tail.hint.load(crate::sync::Ordering::Relaxed);
    let ahead = tail.wrapping_sub(head);
    if ahead.cast_signed() < 0 {
        0
    } else {
        ahead.min(shape.slots())
    }
}

impl<A: ZeroCopy> Producer<A> {
    /// Claims a slot for a record of `len` bytes, to be written in place. Its bytes are those of
    /// some older record.
    ///
    /// # Progress
    /// Lock-free: it repeats only after another participant made progress, at most two laps. Who
    /// loses a race for a slot keeps away for a moment, 256 looks at most, before it tries again.
    ///
    /// # Errors
    /// See [`TryClaimError`].
    #[inline(always)]
    pub fn try_claim(&self, len: usize) -> Result<Claim<'_, A>, TryClaimError> {
        self.try_hold(len).map(|held| Claim::new(self, held, len))
    }

    /// Waits for a slot for a record of `len` bytes.
    ///
    /// # Progress
    /// Blocks on consumers, and on whoever holds the slot one lap behind. In a full ring it waits
    /// for a quarter of it, or for 512 slots, for a bounded number of looks, before it takes a
    /// single one.
    ///
    /// # Errors
    /// See [`ClaimError`].
    #[inline(always)]
    pub fn claim(&self, len: usize, wait: Wait) -> Result<Claim<'_, A>, ClaimError> {
        self.hold(len, wait).map(|held| Claim::new(self, held, len))
    }

    /// Begins a batch: records that are committed together, in their order, with one wake-up.
    ///
    /// # Panics
    /// If the last batch of this handle is still there.
    #[inline(always)]
    pub fn batch(&self) -> Batch<'_, A> {
        Batch {
            producer: self,
            staged: self.staged.borrow_mut(),
        }
    }
}

crate::handle::pollable!(Producer, Side::Space, "there may be space");

#[cfg(all(feature = "tokio", not(loom)))]
impl<A: ZeroCopy> Producer<A> {
    /// Waits for a slot for a record of `len` bytes, as a future.
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
        let held = crate::handle::wait_async(
            &mut *self,
            Side::Space,
            |this| &this.participant,
            |this| this.try_hold(len),
        )
        .await?;
        Ok(Claim::new(self, held, len))
    }
}

impl<A: Attachment> Drop for Producer<A> {
    fn drop(&mut self) {
        if self.held.get() > 0 && self.participant.attachment().is_here() {
            recovery::relinquish(&self.shape, self.participant.store(), self.participant.me());
            self.participant.wake_everybody();
        }
    }
}

/// A slot that belongs to its producer until it is committed. Dropping it aborts: consumers pass
/// the slot and nothing of it is seen.
#[derive(Debug)]
#[must_use = "a claim that is dropped is aborted"]
pub struct Claim<'p, A: ZeroCopy = Mapped> {
    producer: &'p Producer<A>,
    /// `None` once committed.
    held: Option<Held>,
    /// Not a slice: it would outlive the commit, after which the bytes are others'.
    start: *mut u8,
    len: usize,
    lease: Option<WriteLease>,
    bytes: PhantomData<&'p mut [u8]>,
}

impl<'p, A: ZeroCopy> Claim<'p, A> {
    #[inline(always)]
    fn new(producer: &'p Producer<A>, held: Held, len: usize) -> Self {
        let store = producer.participant.store();
        let offset = held.payload_offset(&producer.shape);
        let lease = store.write_lease(offset, len as u64);
        let start = store.bytes(offset, len as u64);
        Self {
            producer,
            held: Some(held),
            start,
            len,
            lease: Some(lease),
            bytes: PhantomData,
        }
    }

    /// Makes the record visible with the user's own `tag`.
    #[inline(always)]
    pub fn commit(self, tag: u32) {
        let len = self.len;
        self.commit_first(len, tag);
    }

    /// Makes a record of the first `len` bytes visible.
    ///
    /// # Panics
    /// If fewer were claimed.
    #[inline(always)]
    pub fn commit_first(mut self, len: usize, tag: u32) {
        assert!(len <= self.len, "a commit of more bytes than were claimed");
        self.lease = None;
        if let Some(held) = self.held.take() {
            self.producer.commit(held, tag, len);
        }
    }

    /// Makes the record visible, and with it how far the ring has come from which it was copied:
    /// [`Producer::origin`] tells either the old origin or this one, whenever the process dies.
    ///
    /// # Panics
    /// Unless [`Producer::begin_copying`] has said true.
    #[cfg(not(loom))]
    pub fn commit_from(mut self, tag: u32, origin: &crate::spsc::Origin) {
        let participant = &self.producer.participant;
        if !participant.attachment().is_here() {
            return;
        }
        let is_copier = slot_ring::has_seat(participant.store(), participant.me());
        assert!(is_copier, "only the one that copies says where from");
        self.lease = None;
        if let Some(held) = self.held.take() {
            self.producer.commit_from(held, tag, self.len, origin);
        }
    }

    /// Gives the claim up, as dropping it does.
    pub fn abort(self) {}
}

impl<A: ZeroCopy> Drop for Claim<'_, A> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lease = None;
        if let Some(held) = self.held.take() {
            self.producer.abort(held);
        }
    }
}

impl<A: ZeroCopy> Deref for Claim<'_, A> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: as for `deref_mut`; here they are only read.
        unsafe { core::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<A: ZeroCopy> DerefMut for Claim<'_, A> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY:
        // - `start` is valid for `len` bytes for as long as the producer is borrowed: `Store`.
        // - Nobody else reads or writes them until this claim ends: the slot's word says WRITING by
        //   this participant (slot_ring INV-1), which holds in a mapped file by the contract of the
        //   unsafe attach and on the heap because only our handles reach the memory (`ZeroCopy`).
        // - They are initialised: the memory began as zeroes.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

/// Records that are committed together. Dropping the batch aborts all of it.
///
/// Consumers see the records in order and never one without those before it, also if the producer
/// dies while committing: then they see the first ones.
#[derive(Debug)]
#[must_use = "a batch that is dropped is aborted"]
pub struct Batch<'p, A: ZeroCopy = Mapped> {
    producer: &'p Producer<A>,
    staged: core::cell::RefMut<'p, Vec<Staged>>,
}

impl<'p, A: ZeroCopy> Batch<'p, A> {
    /// Claims a slot for the batch's next record.
    ///
    /// # Errors
    /// See [`TryClaimError`]; what is staged stays so.
    #[inline(always)]
    pub fn try_claim(&mut self, len: usize) -> Result<BatchClaim<'_, 'p, A>, TryClaimError> {
        let claim = self.producer.try_claim(len)?;
        Ok(BatchClaim {
            claim,
            staged: &mut self.staged,
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

    /// How many records are staged.
    pub fn len(&self) -> usize {
        self.staged.len()
    }

    /// Whether nothing is staged.
    pub fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }

    /// Makes all records visible and wakes consumers once.
    #[inline(always)]
    pub fn commit(mut self) {
        if !self.producer.participant.attachment().is_here() {
            return;
        }
        for Staged { held, tag, len } in self.staged.drain(..) {
            self.producer.commit_quietly(held, tag, len as usize);
        }
        self.producer.participant.wake(Side::Items);
    }
}

impl<A: ZeroCopy> Drop for Batch<'_, A> {
    fn drop(&mut self) {
        for staged in self.staged.drain(..) {
            self.producer.abort(staged.held);
        }
    }
}

/// The slot of a batch's next record. Dropping it aborts this record alone.
#[derive(Debug)]
#[must_use = "a claim that is dropped is aborted"]
pub struct BatchClaim<'b, 'p, A: ZeroCopy = Mapped> {
    claim: Claim<'p, A>,
    staged: &'b mut Vec<Staged>,
}

impl<A: ZeroCopy> BatchClaim<'_, '_, A> {
    /// Adds the record to the batch.
    #[inline(always)]
    pub fn stage(self, tag: u32) {
        let len = self.claim.len();
        self.stage_first(len, tag);
    }

    /// Adds a record of the first `len` bytes to the batch.
    ///
    /// # Panics
    /// If fewer were claimed.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most the slot size, below 2^31"
    )]
    pub fn stage_first(mut self, len: usize, tag: u32) {
        assert!(
            len <= self.claim.len(),
            "a commit of more bytes than were claimed"
        );
        if let Some(held) = self.claim.held.take() {
            self.staged.push(Staged {
                held,
                tag,
                len: len as u32,
            });
        }
    }
}

impl<A: ZeroCopy> Deref for BatchClaim<'_, '_, A> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.claim
    }
}

impl<A: ZeroCopy> DerefMut for BatchClaim<'_, '_, A> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.claim
    }
}
