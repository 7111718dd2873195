//! MPMC ring of slots: the slot's word is the truth, head and tail are hints.
//!
//! Derived from Vyukov's bounded queue (1024cores.net, "Bounded MPMC queue"), which bumps an index
//! first and so leaves an anonymous claim behind when a process dies in between. Here a claim is
//! one exchange on the slot's own word, which names the owner in the same instant:
//!
//! ```text
//! word: u64 = lap:48 | owner:11 | attempts:2 | state:3
//!
//! FREE(lap) --claim--> WRITING(lap, me) --commit--> COMMITTED(lap)
//!                                       --abort---> SKIP(lap) --passed--> FREE(lap + 1)
//! COMMITTED(lap) --claim--> READING(lap, me) --release--> FREE(lap + 1)
//!                                            --requeue--> COMMITTED(lap, attempts + 1)
//! ```
//!
//! # Invariants
//! 1. A word of WRITING or READING is changed only by its owner, or by the holder of the dead
//!    owner's lock. So a claim's bytes belong to its owner alone, and commit is a plain store.
//! 2. hint <= frontier: a hint only ever stores one past a position that its writer claimed. A
//!    stale hint costs a walk, never correctness.
//! 3. No holes: a claim succeeds only at the first position that is free to it, so all positions
//!    before the tail's frontier have been claimed.
//! 4. A slot whose word is of a later lap than a position has been through that position.
//! 5. Records given back lie behind the head hint and are marked by attempts > 0. A consumer takes
//!    a recovery epoch as seen only after a complete walk over all slots that claimed nothing.
//!
//! # Who may touch what
//! Word: by exchange anybody who may claim or pass; by store its owner. Tag and length beside it:
//! the writing owner; the reading owner loads them once. Tail hint: producers; head hint:
//! consumers.
//!
//! # Pairing
//! - `record-commit`: store in [`commit`] -> exchange in [`Consumption::claim`]; carries the
//!   payload.
//! - `slot-release`: store in [`release`] -> exchange in [`claim_to_write`]; carries "no borrow is
//!   left".
//! - `epoch-bump`: add in [`bump_epoch`] -> load in [`Consumption::claim`]; carries the words that
//!   were put back.
//! - `close`: store in [`close`], fence -> exchange, fence and load in [`claim_to_write`]. Either
//!   the producer sees the ring closed and aborts, or the closer's walk sees its claim.
//!
//! # After a crash
//! Dead in a claim: the word names the owner, and [`super::recovery`] makes it SKIP or COMMITTED.
//! Dead between claim and hint: the next one walks. Dead in an abort: [`super::ledger`]. Dead
//! between requeue and bump: the row is still in use, so the recoverer bumps.

use super::{Damage, Owner, Store, ledger};
use crate::sync::{AtomicU64, Ordering, fence_after_rmw, full_fence};

/// State of a slot: nobody has it.
pub const FREE: u64 = 0;
/// State of a slot: its owner writes a record.
pub const WRITING: u64 = 1;
/// State of a slot: it holds a record.
pub const COMMITTED: u64 = 2;
/// State of a slot: its owner reads the record.
pub const READING: u64 = 3;
/// State of a slot: a claim became nothing; the next consumer passes it.
pub const SKIP: u64 = 4;

const STATE_BITS: u32 = 3;
const OWNER_SHIFT: u32 = 5;
const LAP_SHIFT: u32 = 16;
/// The attempts field saturates here.
pub const MAX_ATTEMPTS: u8 = 3;
/// Bytes from a slot's word to its tag and length.
pub const META_OFFSET: u64 = 8;

/// A slot's word, taken apart on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    fn new(lap: u64, owner: u16, attempts: u8, state: u64) -> Self {
        let owner = u64::from(owner) << OWNER_SHIFT;
        Self(lap << LAP_SHIFT | owner | u64::from(attempts) << STATE_BITS | state)
    }

    /// The word of a free slot in `lap`.
    pub fn free(lap: u64) -> Self {
        Self::new(lap, 0, 0, FREE)
    }

    /// Which lap the slot is in, modulo the shape's lap mask.
    pub fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT
    }

    /// The owner's number; 0 for nobody.
    #[expect(clippy::cast_possible_truncation, reason = "masked to 11 bits")]
    pub fn owner(self) -> u16 {
        (self.0 >> OWNER_SHIFT) as u16 & 0x7ff
    }

    /// How often the record was given back, up to [`MAX_ATTEMPTS`].
    #[expect(clippy::cast_possible_truncation, reason = "masked to 2 bits")]
    pub fn attempts(self) -> u8 {
        (self.0 >> STATE_BITS) as u8 & MAX_ATTEMPTS
    }

    /// One of the five states, or a number above them that nobody wrote.
    pub fn state(self) -> u64 {
        self.0 & 7
    }

    fn taken(self, owner: Owner, state: u64) -> Self {
        Self::new(self.lap(), owner.number(), self.attempts(), state)
    }

    fn given_back(self) -> Self {
        let attempts = (self.attempts() + 1).min(MAX_ATTEMPTS);
        Self::new(self.lap(), 0, attempts, COMMITTED)
    }

    fn is_held_by(self, owner: Owner, state: u64) -> bool {
        self.state() == state && self.owner() == owner.number()
    }
}

/// The geometry of the slots, copied out of the header once and checked.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    slots: u64,
    stride: u64,
    payload_offset: u64,
    slot_bytes: u64,
    slot_bits: u32,
    lap_mask: u64,
    /// Bits of a word above the lap's.
    unused_bits: u32,
}

impl Shape {
    /// A ring of `slots` slots. The caller has checked that `slots` is a power of two from 2 on,
    /// that the stride holds the payload, and that the data area holds all slots.
    pub fn new(slots: u64, stride: u64, payload_offset: u64, slot_bytes: u64) -> Self {
        let slot_bits = slots.trailing_zeros();
        // A position has 64 bits; those above the slot number are its lap, of which 48 fit.
        let lap_bits = (64 - slot_bits).min(48);
        let unused_bits = 64 - lap_bits;
        let lap_mask = u64::MAX >> unused_bits;
        Self {
            slots,
            stride,
            payload_offset,
            slot_bytes,
            slot_bits,
            lap_mask,
            unused_bits,
        }
    }

    /// How many slots.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// The longest record in bytes.
    pub fn slot_bytes(&self) -> u64 {
        self.slot_bytes
    }

    /// The slot of a position.
    pub fn index(&self, position: u64) -> u64 {
        position & (self.slots - 1)
    }

    fn lap(&self, position: u64) -> u64 {
        (position >> self.slot_bits) & self.lap_mask
    }

    fn next_lap(&self, lap: u64) -> u64 {
        lap.wrapping_add(1) & self.lap_mask
    }

    /// How many laps the word is ahead of the position; negative if behind.
    fn laps_ahead(&self, word: Word, position: u64) -> i64 {
        let unused = self.unused_bits;
        let difference = word.lap().wrapping_sub(self.lap(position)) << unused;
        difference.cast_signed() >> unused
    }

    /// The word that slot `index` has in a new ring that begins at `origin`.
    pub fn first_word(&self, index: u64, origin: u64) -> Word {
        let lap = self.lap(origin);
        Word::free(if index < self.index(origin) {
            self.next_lap(lap)
        } else {
            lap
        })
    }

    /// Where the word of slot `index` lies in the data area.
    pub fn word_offset(&self, index: u64) -> u64 {
        index * self.stride
    }

    /// Where the payload of slot `index` lies in the data area.
    pub fn payload_offset(&self, index: u64) -> u64 {
        index * self.stride + self.payload_offset
    }

    /// The word of slot `index`, which is taken modulo the number of slots.
    pub fn word<'s, S: Store + ?Sized>(&self, store: &'s S, index: u64) -> &'s AtomicU64 {
        store.word(self.word_offset(self.index(index)))
    }

    fn meta<'s, S: Store + ?Sized>(&self, store: &'s S, index: u64) -> &'s AtomicU64 {
        store.word(self.word_offset(index) + META_OFFSET)
    }

    /// The position of the same slot, `laps` further.
    fn same_slot(&self, position: u64, laps: i64) -> u64 {
        position.wrapping_add(laps.cast_unsigned() << self.slot_bits)
    }

    /// Where a consumer goes on from `position` when the slot there is `ahead` laps further: behind
    /// the last position of this slot that was released (INV-4).
    fn after_released(&self, position: u64, ahead: i64) -> u64 {
        self.same_slot(position, ahead - 1).wrapping_add(1)
    }

    /// The same for a producer: behind the last position of this slot that was claimed.
    fn after_claimed(&self, position: u64, word: Word, ahead: i64) -> u64 {
        let laps = if word.state() == FREE {
            ahead - 1
        } else {
            ahead
        };
        self.same_slot(position, laps).wrapping_add(1)
    }

    /// Most steps of one walk. A correct ring needs one lap, and as much again for what others
    /// claim meanwhile; whoever needs more gives up and is told to try again.
    fn walk_limit(&self) -> u64 {
        2 * self.slots + 64
    }
}

/// A slot that its owner writes or reads.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Where in the order of claims it is.
    pub position: u64,
    word: Word,
}

impl Held {
    /// How often the record was given back before, up to 3.
    pub fn attempts(&self) -> u8 {
        self.word.attempts()
    }
}

/// Why there was no claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Full or empty: what stands in the way, as the word of the slot and its position.
    Blocked {
        /// Changes as soon as the ring moves on.
        mark: u64,
    },
    /// Closed, and for a consumer also drained.
    Closed,
    /// A word that nobody can have written.
    Damaged(Damage),
}

fn no_such_state(word: Word) -> Refusal {
    Refusal::Damaged(Damage {
        what: "a slot's word",
        found: word.0,
        expected: "expected one of five states",
    })
}

fn mark(position: u64, word: Word) -> u64 {
    word.0 ^ position.rotate_left(LAP_SHIFT)
}

/// Claims the next slot for writing.
///
/// # Errors
/// `Blocked` if the ring is full, `Closed` if nobody may write any more, `Damaged`.
#[inline]
pub fn claim_to_write<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    me: Owner,
) -> Result<Held, Refusal> {
    let control = store.control();
    // relaxed: a hint (INV-2).
    let mut position = control.tail.hint.load(Ordering::Relaxed);
    for _ in 0..shape.walk_limit() {
        let slot = shape.word(store, position);
        // relaxed: the exchange below acquires; a word that is only passed carries nothing.
        let word = Word(slot.load(Ordering::Relaxed));
        let ahead = shape.laps_ahead(word, position);
        if ahead == 0 && word.state() == FREE {
            let mine = word.taken(me, WRITING);
            // sync(slot-release): acquire half.
            // relaxed: a failure decides nothing.
            if slot
                .compare_exchange(word.0, mine.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
            {
                continue;
            }
            // relaxed: a hint (INV-2).
            control
                .tail
                .hint
                .store(position.wrapping_add(1), Ordering::Relaxed);
            let held = Held {
                position,
                word: mine,
            };
            return admit(shape, store, me, held);
        }
        if word.state() > SKIP {
            return Err(no_such_state(word));
        }
        if ahead < 0 {
            // Full, or closed: whoever wants to write is told the latter.
            return Err(if is_closed(store) {
                Refusal::Closed
            } else {
                Refusal::Blocked {
                    mark: mark(position, word),
                }
            });
        }
        position = shape.after_claimed(position, word, ahead);
    }
    Err(Refusal::Blocked { mark: position })
}

/// The look at `closed` after the claim: see Pairing.
#[inline]
fn admit<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    me: Owner,
    held: Held,
) -> Result<Held, Refusal> {
    // sync(close): acquire half.
    fence_after_rmw();
    if is_closed(store) {
        abort(shape, store, me, held);
        return Err(Refusal::Closed);
    }
    Ok(held)
}

/// Makes the record visible.
#[inline]
pub fn commit<S: Store + ?Sized>(shape: &Shape, store: &S, held: Held, tag: u32, len: u32) {
    let index = shape.index(held.position);
    let meta = u64::from(tag) << 32 | u64::from(len);
    // relaxed: the commit below publishes it.
    shape.meta(store, index).store(meta, Ordering::Relaxed);
    let committed = Word::new(held.word.lap(), 0, 0, COMMITTED);
    // sync(record-commit): release half.
    shape
        .word(store, index)
        .store(committed.0, Ordering::Release);
}

/// Turns a claim into nothing. The slot is passed by the next consumer, never freed here: a slot
/// that is free at a position before the tail hint would never be found.
#[cold]
pub fn abort<S: Store + ?Sized>(shape: &Shape, store: &S, me: Owner, held: Held) {
    let index = shape.index(held.position);
    let row = store.row(me);
    ledger::begin_skip(row, index);
    let skip = Word::new(held.word.lap(), 0, 0, SKIP);
    // sync(record-commit): release half.
    shape.word(store, index).store(skip.0, Ordering::Release);
    ledger::end_skip(row);
}

/// What a consumer remembers between claims.
#[derive(Debug, Default)]
pub struct Consumption {
    /// The recovery epoch whose given-back records were all looked for; `None` is never.
    seen: Option<u64>,
}

impl Consumption {
    /// A consumer that has seen no recovery epoch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Claims the next record for reading.
    ///
    /// Passing a SKIP makes space: `made_space` tells the caller to wake producers even if there
    /// was no record.
    ///
    /// # Errors
    /// `Blocked` if the ring is empty, `Closed` if it is closed and every slot is free, `Damaged`.
    #[inline]
    pub fn claim<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        me: Owner,
        made_space: &mut bool,
    ) -> Result<Held, Refusal> {
        // sync(epoch-bump): acquire half.
        let epoch = store.control().state.recovery_epoch.load(Ordering::Acquire);
        if self.seen != Some(epoch) {
            match claim_given_back(shape, store, me) {
                Some(held) => return Ok(held),
                None => self.seen = Some(epoch),
            }
        }
        match claim_in_order(shape, store, me, made_space) {
            Err(Refusal::Blocked { mark }) if is_closed(store) => {
                closed_or_blocked(shape, store, mark)
            }
            outcome => outcome,
        }
    }
}

/// INV-5: one walk over all slots for a record that was given back.
#[cold]
fn claim_given_back<S: Store + ?Sized>(shape: &Shape, store: &S, me: Owner) -> Option<Held> {
    // relaxed: a hint, and only of where the oldest record is.
    let start = store.control().head.position.load(Ordering::Relaxed);
    for step in 0..shape.slots {
        let index = shape.index(start.wrapping_add(step));
        let slot = shape.word(store, index);
        // sync(record-commit): acquire half.
        let word = Word(slot.load(Ordering::Acquire));
        if word.state() != COMMITTED || word.attempts() == 0 {
            continue;
        }
        let mine = word.taken(me, READING);
        // sync(record-commit): acquire half.
        // relaxed: a failure decides nothing.
        let claimed = slot.compare_exchange(word.0, mine.0, Ordering::AcqRel, Ordering::Relaxed);
        // A failure is another consumer's claim: if that one gives it back, the epoch moves on.
        if claimed.is_ok() {
            let position = position_of(shape, start, index, mine);
            return Some(Held {
                position,
                word: mine,
            });
        }
    }
    None
}

/// The position of slot `index` in the lap of its word, taken near `hint`.
pub fn position_of(shape: &Shape, hint: u64, index: u64, word: Word) -> u64 {
    let same_lap = (hint & !(shape.slots - 1)) | index;
    let ahead = shape.laps_ahead(word, same_lap);
    shape.same_slot(same_lap, ahead)
}

#[inline]
fn claim_in_order<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    me: Owner,
    made_space: &mut bool,
) -> Result<Held, Refusal> {
    let head = &store.control().head.position;
    // relaxed: a hint (INV-2).
    let mut position = head.load(Ordering::Relaxed);
    for _ in 0..shape.walk_limit() {
        let slot = shape.word(store, position);
        // relaxed: the exchange below acquires; a word that is only passed carries nothing.
        let word = Word(slot.load(Ordering::Relaxed));
        let ahead = shape.laps_ahead(word, position);
        let next = match (ahead, word.state()) {
            (0, COMMITTED) => {
                let mine = word.taken(me, READING);
                // sync(record-commit): acquire half.
                // relaxed: a failure decides nothing.
                match slot.compare_exchange(word.0, mine.0, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => {
                        // relaxed: a hint (INV-2).
                        head.store(position.wrapping_add(1), Ordering::Relaxed);
                        return Ok(Held {
                            position,
                            word: mine,
                        });
                    }
                    Err(_) => position,
                }
            }
            (0, SKIP) => {
                let free = Word::free(shape.next_lap(word.lap()));
                // sync(slot-release): release half.
                // sync(record-commit): acquire half.
                // relaxed: a failure decides nothing.
                let passed =
                    slot.compare_exchange(word.0, free.0, Ordering::AcqRel, Ordering::Relaxed);
                *made_space |= passed.is_ok();
                position.wrapping_add(1)
            }
            (0, READING) => position.wrapping_add(1),
            (_, FREE..=SKIP) if ahead > 0 => shape.after_released(position, ahead),
            // Nothing written yet at this position, or nobody can write it yet.
            (_, FREE..=SKIP) => {
                return Err(Refusal::Blocked {
                    mark: mark(position, word),
                });
            }
            _ => return Err(no_such_state(word)),
        };
        position = next;
    }
    Err(Refusal::Blocked { mark: position })
}

/// A consumer that found nothing in a closed ring: is there anything that may still come?
#[cold]
fn closed_or_blocked<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    mark: u64,
) -> Result<Held, Refusal> {
    // sync(close): release half.
    full_fence();
    for index in 0..shape.slots {
        // sync(record-commit): acquire half.
        let word = Word(shape.word(store, index).load(Ordering::Acquire));
        if word.state() != FREE {
            return Err(Refusal::Blocked {
                mark: mark ^ word.0,
            });
        }
    }
    Err(Refusal::Closed)
}

/// The tag and length of a record that the caller holds, loaded once.
///
/// # Errors
/// A length beyond the slot, which no correct producer commits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
pub fn tag_and_len<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    held: Held,
) -> Result<(u32, u32), Damage> {
    // relaxed: the claim acquired it.
    let meta = shape
        .meta(store, shape.index(held.position))
        .load(Ordering::Relaxed);
    let (tag, len) = ((meta >> 32) as u32, meta as u32);
    if u64::from(len) > shape.slot_bytes {
        let expected = "expected at most the slot's size";
        return Err(Damage {
            what: "a record's length",
            found: u64::from(len),
            expected,
        });
    }
    Ok((tag, len))
}

/// Gives the slot back to producers.
#[inline]
pub fn release<S: Store + ?Sized>(shape: &Shape, store: &S, held: Held) {
    let free = Word::free(shape.next_lap(held.word.lap()));
    // sync(slot-release): release half.
    shape
        .word(store, held.position)
        .store(free.0, Ordering::Release);
}

/// Gives the record back to be delivered again.
#[cold]
pub fn requeue<S: Store + ?Sized>(shape: &Shape, store: &S, me: Owner, held: Held) {
    // sync(record-commit): release half.
    shape
        .word(store, held.position)
        .store(held.word.given_back().0, Ordering::Release);
    bump_epoch(store);
    ledger::add(store.row(me), crate::layout::REDELIVERED, 1);
}

/// Tells consumers to look for records that were given back.
pub fn bump_epoch<S: Store + ?Sized>(store: &S) {
    // sync(epoch-bump): release half.
    store
        .control()
        .state
        .recovery_epoch
        .fetch_add(1, Ordering::AcqRel);
}

/// Ends the stream. Consumers drain the ring and are told `Closed` then.
pub fn close<S: Store + ?Sized>(store: &S) {
    // sync(close): release half.
    store.control().state.closed.store(1, Ordering::Release);
    full_fence();
}

/// Opens a closed ring for writing again.
pub fn reopen<S: Store + ?Sized>(store: &S) {
    // sync(close): release half.
    store.control().state.closed.store(0, Ordering::Release);
}

/// Whether the ring is closed for writing.
#[inline]
pub fn is_closed<S: Store + ?Sized>(store: &S) -> bool {
    // sync(close): acquire half.
    store.control().state.closed.load(Ordering::Acquire) != 0
}

/// Where the next claim to write would succeed: the tail, walked to from its hint.
pub fn frontier<S: Store + ?Sized>(shape: &Shape, store: &S) -> u64 {
    // relaxed: a hint (INV-2).
    let mut position = store.control().tail.hint.load(Ordering::Relaxed);
    for _ in 0..shape.walk_limit() {
        // relaxed: an observer orders nothing by it.
        let word = Word(shape.word(store, position).load(Ordering::Relaxed));
        let ahead = shape.laps_ahead(word, position);
        if ahead < 0 || ahead == 0 && word.state() == FREE {
            return position;
        }
        position = shape.after_claimed(position, word, ahead);
    }
    position
}

/// Sweeps slot `index` for a dead owner whose lock the caller holds.
///
/// Words are changed by exchange only, because others pass and claim all around. An exchange that
/// fails met a word that somebody else has changed, against INV-1: it is left as it is.
pub(super) fn sweep_slot<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    dead: Owner,
    index: u64,
    keep: impl FnOnce(u8) -> bool,
) -> Option<Swept> {
    let slot = shape.word(store, index);
    // sync(record-commit): acquire half.
    let word = Word(slot.load(Ordering::Acquire));
    let row = store.row(dead);
    if word.is_held_by(dead, WRITING) {
        ledger::begin_skip(row, index);
        let skip = Word::new(word.lap(), 0, 0, SKIP);
        // sync(record-commit): release half.
        // sync(record-commit): acquire half.
        let swapped = slot.compare_exchange(word.0, skip.0, Ordering::AcqRel, Ordering::Acquire);
        ledger::end_skip(row);
        return swapped.is_ok().then_some(Swept::Skipped);
    }
    if word.is_held_by(dead, READING) {
        let kept = keep(word.attempts());
        let next = if kept {
            word.given_back()
        } else {
            Word::free(shape.next_lap(word.lap()))
        };
        // sync(record-commit): release half.
        // sync(record-commit): acquire half.
        // sync(slot-release): release half.
        let swapped = slot.compare_exchange(word.0, next.0, Ordering::AcqRel, Ordering::Acquire);
        let swept = if kept {
            Swept::GivenBack
        } else {
            Swept::Dropped
        };
        return swapped.is_ok().then_some(swept);
    }
    None
}

/// What became of a dead owner's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// It was writing: nothing of it is seen.
    Skipped,
    /// It was reading: the record is delivered again.
    GivenBack,
    /// It was reading, and the ring's policy drops such records.
    Dropped,
}

/// Whether the word of slot `index` still says WRITING by `owner`.
pub fn still_writing<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    owner: Owner,
    index: u64,
) -> bool {
    // sync(record-commit): acquire half.
    Word(shape.word(store, index).load(Ordering::Acquire)).is_held_by(owner, WRITING)
}
