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
//! - `close`: store in [`close`](super::switches::close), fence -> exchange, fence and load in
//!   [`claim_to_write`]. Either the producer sees the ring closed and aborts, or the closer's walk
//!   sees its claim.
//!
//! # After a crash
//! Dead in a claim: the word names the owner, and [`super::recovery`] makes it SKIP or COMMITTED.
//! Dead between claim and hint: the next one walks. Dead in an abort: [`super::ledger`]. Dead
//! between requeue and bump: the row is still in use, so the recoverer bumps.

#[cfg(not(loom))]
mod origin;
#[cfg(all(test, not(loom)))]
mod tests;
mod word;

use word::LAP_SHIFT;

#[cfg(not(loom))]
pub use origin::{has_seat, newest_origin, settle_origins, take_seat};

pub use word::{COMMITTED, FREE, MAX_ATTEMPTS, META_OFFSET, READING, SKIP, Shape, WRITING, Word};

use super::switches::is_closed;
use super::{Damage, Owner, Store, ledger};
use crate::sync::{AtomicU64, Ordering, fence_after_rmw, full_fence, prefetch_to_write};

/// A slot that its owner writes or reads: two words, so that it is handed on in registers.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Where the slot lies in the data area.
    offset: u64,
    word: Word,
}

impl Held {
    fn new(shape: &Shape, position: u64, word: Word) -> Self {
        let offset = shape.word_offset(shape.index(position));
        Self { offset, word }
    }

    /// How often the record was given back before, up to 3.
    pub fn attempts(&self) -> u8 {
        self.word.attempts()
    }

    /// Stands where there is no claim: no slot lies there, nor anything behind.
    pub const NONE: Self = Self {
        offset: 1 << 63,
        word: Word(0),
    };

    /// Which slot it is.
    pub fn index(&self, shape: &Shape) -> u64 {
        shape.index_at(self.offset)
    }

    /// Where in the order of claims it is.
    pub fn position<S: Store + ?Sized>(&self, shape: &Shape, store: &S) -> u64 {
        // relaxed: any position within 2^46 laps of it tells what the word's lap leaves out.
        let near = store.control().head.position.load(Ordering::Relaxed);
        position_of(shape, near, self.index(shape), self.word)
    }

    /// Where the payload lies in the data area.
    #[inline(always)]
    pub fn payload_offset(&self, shape: &Shape) -> u64 {
        self.offset + shape.payload_offset
    }

    #[inline(always)]
    fn slot<'s, S: Store + ?Sized>(&self, store: &'s S) -> &'s AtomicU64 {
        store.word(self.offset)
    }

    #[inline(always)]
    fn meta<'s, S: Store + ?Sized>(&self, store: &'s S) -> &'s AtomicU64 {
        store.word(self.offset + META_OFFSET)
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

/// How many slots ahead of a claim their lines are asked for. An exchange waits until every store
/// before it is made and until it has the line itself, so that lines are moved one by one by those
/// who ask for none; see docs/performance.md.
const AHEAD: u64 = 8;

fn prefetch_ahead<S: Store + ?Sized>(shape: &Shape, store: &S, position: u64) {
    prefetch_to_write(shape.word(store, position.wrapping_add(AHEAD)));
}

/// Claims the next slot for writing.
///
/// # Errors
/// `Blocked` if the ring is full, `Closed` if nobody may write any more, `Damaged`.
#[inline(always)]
pub fn claim_to_write<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    me: Owner,
) -> Result<Held, Refusal> {
    match claim_to_write_ahead(shape, store, me) {
        Ok(held) => admit(shape, store, me, held),
        Err((position, word)) => claim_to_write_behind(shape, store, me, position, word),
    }
}

/// Claims the slot at the tail's hint, in a straight line: mostly the hint is right. Who claims so
/// has to ask [`is_admitted`] before it writes.
///
/// # Errors
/// The hint and what was found there, for [`claim_to_write_behind`].
#[inline(always)]
pub fn claim_to_write_ahead<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    me: Owner,
) -> Result<Held, (u64, Word)> {
    let hint = &store.control().tail.hint;
    // relaxed: a hint (INV-2).
    let position = hint.load(Ordering::Relaxed);
    let free = Word::free(shape.lap(position));
    let held = Held::new(shape, position, free.taken(me, WRITING));
    let slot = held.slot(store);
    // relaxed: the exchange acquires; a word that is only passed carries nothing.
    let word = Word(slot.load(Ordering::Relaxed));
    if word != free {
        return Err((position, word));
    }
    prefetch_ahead(shape, store, position);
    // sync(slot-release): acquire half.
    // relaxed: a failure decides nothing.
    match slot.compare_exchange(free.0, held.word.0, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) => {
            // relaxed: a hint (INV-2).
            hint.store(position.wrapping_add(1), Ordering::Relaxed);
            Ok(held)
        }
        Err(found) => Err((position, Word(found))),
    }
}

/// Claims the next slot from a position on whose word was found to be `word`.
///
/// # Errors
/// As for [`claim_to_write`].
#[inline(never)]
pub fn claim_to_write_behind<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    me: Owner,
    mut position: u64,
    mut word: Word,
) -> Result<Held, Refusal> {
    let control = store.control();
    for _ in 0..shape.walk_limit() {
        let ahead = shape.laps_ahead(word, position);
        if ahead == 0 && word.state() == FREE {
            let mine = word.taken(me, WRITING);
            let slot = shape.word(store, position);
            // sync(slot-release): acquire half.
            // relaxed: a failure decides nothing.
            let claimed =
                slot.compare_exchange(word.0, mine.0, Ordering::AcqRel, Ordering::Relaxed);
            if let Err(found) = claimed {
                word = Word(found);
                continue;
            }
            // relaxed: a hint (INV-2).
            control
                .tail
                .hint
                .store(position.wrapping_add(1), Ordering::Relaxed);
            return admit(shape, store, me, Held::new(shape, position, mine));
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
        // relaxed: the exchange above acquires; a word that is only passed carries nothing.
        word = Word(shape.word(store, position).load(Ordering::Relaxed));
    }
    Err(Refusal::Blocked { mark: position })
}

/// Whether a producer has claimed the position already, in whose slot `word` was found.
pub fn was_claimed(shape: &Shape, position: u64, word: Word) -> bool {
    let ahead = shape.laps_ahead(word, position);
    ahead > 0 || ahead == 0 && word.state() != FREE
}

/// Whether the slot so far behind the next one is free, or was: a hint, as the tail's.
pub fn has_room<S: Store + ?Sized>(shape: &Shape, store: &S, room: u64) -> bool {
    // relaxed: a hint (INV-2).
    let tail = store.control().tail.hint.load(Ordering::Relaxed);
    let position = tail.wrapping_add(room);
    // relaxed: nothing is taken.
    let word = Word(shape.word(store, position).load(Ordering::Relaxed));
    shape.laps_ahead(word, position) >= 0
}

/// The look at `closed` after the claim: see Pairing. A claim in a closed ring becomes nothing.
///
/// # Errors
/// `Closed`.
#[inline(always)]
pub fn admit<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    me: Owner,
    held: Held,
) -> Result<Held, Refusal> {
    if is_admitted(store) {
        return Ok(held);
    }
    abort(shape, store, me, held);
    Err(Refusal::Closed)
}

/// The look itself: whether a claim that was made just now may be kept.
#[inline(always)]
pub fn is_admitted<S: Store + ?Sized>(store: &S) -> bool {
    // sync(close): acquire half.
    fence_after_rmw();
    !is_closed(store)
}

/// Makes the record visible.
#[inline(always)]
pub fn commit<S: Store + ?Sized>(store: &S, held: Held, tag: u32, len: u32) {
    let meta = u64::from(tag) << 32 | u64::from(len);
    // relaxed: the commit below publishes it.
    held.meta(store).store(meta, Ordering::Relaxed);
    let committed = Word::new(held.word.lap(), 0, 0, COMMITTED);
    // sync(record-commit): release half.
    held.slot(store).store(committed.0, Ordering::Release);
}

/// The same, of a record that is another ring's up to `origin`. The caller has the seat.
#[cfg(not(loom))]
pub fn commit_from<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    me: Owner,
    held: Held,
    (tag, len): (u32, u32),
    origin: &super::byte_ring::Origin,
) {
    origin::announce(store, me, held.position(shape, store), origin);
    commit(store, held, tag, len);
}

/// Turns a claim into nothing. The slot is passed by the next consumer, never freed here: a slot
/// that is free at a position before the tail hint would never be found.
#[cold]
pub fn abort<S: Store + ?Sized>(shape: &Shape, store: &S, me: Owner, held: Held) {
    let index = held.index(shape);
    let row = store.row(me);
    ledger::begin_skip(row, index);
    let skip = Word::new(held.word.lap(), 0, 0, SKIP);
    // sync(record-commit): release half.
    held.slot(store).store(skip.0, Ordering::Release);
    ledger::end_skip(row);
}

/// What a consumer remembers between claims.
#[derive(Clone, Copy, Debug, Default)]
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
    #[inline(always)]
    pub fn claim<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        me: Owner,
        made_space: &mut bool,
    ) -> Result<Held, Refusal> {
        match self.claim_ahead(shape, store, me) {
            Ok(held) => Ok(held),
            Err(look) => self.claim_behind(shape, store, me, look, made_space),
        }
    }

    /// Claims the record at the head's hint, in a straight line: mostly the hint is right, the
    /// record is there, and it comes for the first time.
    ///
    /// # Errors
    /// How far it came, for [`claim_behind`](Self::claim_behind).
    #[inline(always)]
    pub fn claim_ahead<S: Store + ?Sized>(
        &self,
        shape: &Shape,
        store: &S,
        me: Owner,
    ) -> Result<Held, Look> {
        let control = store.control();
        // sync(epoch-bump): acquire half.
        let epoch = control.state.recovery_epoch.load(Ordering::Acquire);
        if self.seen != Some(epoch) {
            return Err(Look::Recovery { epoch });
        }
        // relaxed: a hint (INV-2).
        let position = control.head.position.load(Ordering::Relaxed);
        let committed = Word::new(shape.lap(position), 0, 0, COMMITTED);
        let held = Held::new(shape, position, committed.taken(me, READING));
        let slot = held.slot(store);
        // relaxed: the exchange acquires; a word that is only passed carries nothing.
        let word = Word(slot.load(Ordering::Relaxed));
        if word != committed {
            return Err(Look::Word { position, word });
        }
        prefetch_ahead(shape, store, position);
        let mine = held.word.0;
        // sync(record-commit): acquire half.
        // relaxed: a failure decides nothing.
        match slot.compare_exchange(word.0, mine, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => {
                // relaxed: a hint (INV-2).
                control
                    .head
                    .position
                    .store(position.wrapping_add(1), Ordering::Relaxed);
                Ok(held)
            }
            Err(found) => Err(Look::Word {
                position,
                word: Word(found),
            }),
        }
    }

    /// Goes on from where the straight line has ended.
    ///
    /// # Errors
    /// As for [`claim`](Self::claim).
    #[inline(never)]
    pub fn claim_behind<S: Store + ?Sized>(
        &mut self,
        shape: &Shape,
        store: &S,
        me: Owner,
        look: Look,
        made_space: &mut bool,
    ) -> Result<Held, Refusal> {
        let (position, word) = match look {
            Look::Word { position, word } => (position, word),
            Look::Recovery { epoch } => {
                if let Some(held) = claim_given_back(shape, store, me) {
                    return Ok(held);
                }
                self.seen = Some(epoch);
                // relaxed: a hint (INV-2).
                let position = store.control().head.position.load(Ordering::Relaxed);
                // relaxed: the exchange acquires; a word that is only passed carries nothing.
                let word = Word(shape.word(store, position).load(Ordering::Relaxed));
                (position, word)
            }
        };
        match claim_in_order(shape, store, me, made_space, position, word) {
            Err(Refusal::Blocked { mark }) if is_closed(store) => {
                closed_or_blocked(shape, store, mark)
            }
            outcome => outcome,
        }
    }
}

/// Where a consumer's straight line has ended.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// Something was given back, which has to be looked for.
    Recovery {
        /// The new epoch.
        epoch: u64,
    },
    /// The word at the hint is none of a record that comes for the first time.
    Word {
        /// The hint.
        position: u64,
        /// What was found there.
        word: Word,
    },
}

impl Look {
    /// The position, if another consumer was quicker there.
    pub fn lost_at(&self, shape: &Shape) -> Option<u64> {
        let Self::Word { position, word } = *self else {
            return None;
        };
        let ahead = shape.laps_ahead(word, position);
        (ahead > 0 || ahead == 0 && word.state() == READING).then_some(position)
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
            return Some(Held::new(shape, position, mine));
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

/// Claims the next record from `position` on, where `word` was found.
fn claim_in_order<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    me: Owner,
    made_space: &mut bool,
    mut position: u64,
    mut word: Word,
) -> Result<Held, Refusal> {
    let head = &store.control().head.position;
    for _ in 0..shape.walk_limit() {
        let slot = shape.word(store, position);
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
                        return Ok(Held::new(shape, position, mine));
                    }
                    Err(found) => {
                        word = Word(found);
                        continue;
                    }
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
        // relaxed: the exchange above acquires; a word that is only passed carries nothing.
        word = Word(shape.word(store, position).load(Ordering::Relaxed));
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
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
pub fn tag_and_len<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    held: Held,
) -> Result<(u32, u32), Damage> {
    // relaxed: the claim acquired it.
    let meta = held.meta(store).load(Ordering::Relaxed);
    let (tag, len) = ((meta >> 32) as u32, meta as u32);
    if u64::from(len) > shape.slot_bytes {
        return Err(damaged_length(len));
    }
    Ok((tag, len))
}

#[cold]
fn damaged_length(len: u32) -> Damage {
    Damage {
        what: "a record's length",
        found: u64::from(len),
        expected: "expected at most the slot's size",
    }
}

/// Gives the slot back to producers.
#[inline(always)]
pub fn release<S: Store + ?Sized>(shape: &Shape, store: &S, held: Held) {
    let free = Word::free(shape.next_lap(held.word.lap()));
    // sync(slot-release): release half.
    held.slot(store).store(free.0, Ordering::Release);
}

/// Gives the record back to be delivered again.
#[cold]
pub fn requeue<S: Store + ?Sized>(store: &S, me: Owner, held: Held) {
    // sync(record-commit): release half.
    held.slot(store)
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

/// Whether a consumer that looks now finds something to do: a record at the head, walked to from
/// its hint, or a claim that became nothing and is to be passed. It changes nothing.
#[cfg(not(loom))]
pub fn has_record<S: Store + ?Sized>(shape: &Shape, store: &S) -> bool {
    // relaxed: a hint (INV-2).
    let mut position = store.control().head.position.load(Ordering::Relaxed);
    for _ in 0..shape.walk_limit() {
        // relaxed: whoever claims it looks again.
        let word = Word(shape.word(store, position).load(Ordering::Relaxed));
        position = match (shape.laps_ahead(word, position), word.state()) {
            (0, READING) => position.wrapping_add(1),
            (ahead, FREE..=SKIP) if ahead > 0 => shape.after_released(position, ahead),
            // Damage is to be told, too.
            (ahead, state) => return ahead == 0 && state != FREE && state != WRITING,
        };
    }
    false
}

/// Whether a claim to write that is made now may succeed. It changes nothing.
#[cfg(not(loom))]
pub fn has_space<S: Store + ?Sized>(shape: &Shape, store: &S) -> bool {
    let position = frontier(shape, store);
    // relaxed: whoever claims it looks again.
    let word = Word(shape.word(store, position).load(Ordering::Relaxed));
    word == Word::free(shape.lap(position))
}

/// Whether every slot is free: what a closed ring has to come to.
#[cfg(not(loom))]
pub fn is_drained<S: Store + ?Sized>(shape: &Shape, store: &S) -> bool {
    (0..shape.slots).all(|index| {
        // relaxed: whoever is told that the ring is closed looks again.
        Word(shape.word(store, index).load(Ordering::Relaxed)).state() == FREE
    })
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
