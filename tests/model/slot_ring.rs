//! The MPMC slot ring: what is shared, what each party holds, and what must be true of it.
//!
//! The steps themselves are in [`steps`](super::slot_ring_steps).
//!
//! # What is modelled
//! Two or three slots; producers, consumers, and for each dead participant a recoverer that holds
//! its lock, several of them at once. Each access to a word, a hint, the recovery epoch, `closed`
//! or a row's ledger is a step of its own, in sequentially consistent order. Any party may die
//! before any of its steps, a recoverer too, within a budget. New participants may attach in rows
//! that were freed. Budgets also bound claims, aborts and requeues.
//!
//! # What is not
//! Weak memory (loom's job), the wrap of laps at 48 bits, payload bytes (a holder checks that the
//! word still names it instead), event words (see [`sleeper`](super::sleeper)), orderly detach.
//!
//! # How it maps to `src/protocol/`
//! | here | there |
//! | --- | --- |
//! | [`Word`], `tail`, `head` | the slot's word, the hints; a position stands for its lap |
//! | `Party::seen_is_current` | `Consumption::seen` equals the recovery epoch; no more matters |
//! | `abort_slot`, `skipped_base`, `skipped` | the ledger in the row |
//! | [`At`] | the step that the party takes next, by the name of the function |
//! | one step | a load and the exchange that follows: if that fails, nothing changed |
//!
//! # Invariants
//! Checked in every state, so also in every state that a kill can leave:
//! 1. A hint is at most the frontier, and nothing before the head hint is still to be claimed.
//! 2. Every record committed and not settled stands in its slot.
//! 3. frontier - words of WRITING - skipped (resolved) is the number of records committed.
//! 4. No word names a row that is free.
//!
//! Checked by steps: a holder's word still names it; claims are in order and without holes; a
//! record is delivered again only if a dead or requeueing consumer held it; nothing comes after
//! `Closed`.

use super::explorer::{Model, Steps};

pub(crate) const MOST_SLOTS: usize = 3;
pub(crate) const MOST_PARTIES: usize = 4;
const MOST_ATTEMPTS: u8 = 3;

/// A slot's state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub(crate) enum SlotState {
    Free,
    Writing,
    Committed,
    Reading,
    Skip,
}

/// A slot's word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    /// Its lap, as the position that it makes with the slot.
    pub(crate) position: u8,
    pub(crate) state: SlotState,
    /// The row of its owner; [`NOBODY`] unless WRITING or READING.
    pub(crate) owner: u8,
    pub(crate) attempts: u8,
}

pub(crate) const NOBODY: u8 = u8::MAX;

impl Word {
    pub(crate) fn new(position: u8, state: SlotState) -> Self {
        Self {
            position,
            state,
            owner: NOBODY,
            attempts: 0,
        }
    }

    pub(crate) fn taken(self, owner: u8, state: SlotState) -> Self {
        Self {
            owner,
            state,
            ..self
        }
    }

    pub(crate) fn given_back(self) -> Self {
        let attempts = (self.attempts + 1).min(MOST_ATTEMPTS);
        Self {
            state: SlotState::Committed,
            owner: NOBODY,
            attempts,
            ..self
        }
    }

    pub(crate) fn is_held_by(self, owner: u8, state: SlotState) -> bool {
        self.state == state && self.owner == owner
    }

    fn is_given_back(self) -> bool {
        self.state == SlotState::Committed && self.attempts > 0
    }
}

/// The step that a party takes next, or that the recoverer of its row takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum At {
    /// Attached, and holds nothing.
    Idle,
    // A producer.
    Claim,
    TailHint,
    Admit,
    Write,
    Abort,
    // A consumer.
    LoadHead,
    Rescan,
    ClaimInOrder,
    HeadHint,
    Read,
    RequeueBump,
    LookAtClosed,
    ClosedWalk,
    /// It has told its user that the ring is closed and drained.
    Closed,
    /// Its lock is free and its row in use.
    Dead,
    // A recoverer, who holds the lock.
    Resolve,
    ResolveEnd,
    Sweep,
    SweepAbort,
    Bump,
    FreeRow,
    /// The row is free.
    Unused,
}

/// A participant: its row, and what it holds in locals (or what its recoverer does).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Party {
    pub(crate) at: At,
    pub(crate) position: u8,
    /// The slot of a walk.
    pub(crate) index: u8,
    /// The next store of an abort, as a place in [`SlotRing::skip_order`].
    pub(crate) store: u8,
    /// A consumer's `seen` is the present recovery epoch.
    pub(crate) seen_is_current: bool,
    /// What the consumer read of the recovery epoch before its walk still is it.
    pub(crate) read_is_current: bool,
    /// The recoverer has swept something. Only a mutant asks.
    pub(crate) swept: bool,
    // The row's ledger.
    pub(crate) abort_slot: u8,
    pub(crate) skipped_base: u8,
    pub(crate) skipped: u8,
}

impl Party {
    /// The same row, with whatever its holder had in locals forgotten.
    pub(crate) fn reset(self, at: At) -> Self {
        let Self {
            abort_slot,
            skipped_base,
            skipped,
            ..
        } = self;
        Self {
            at,
            abort_slot,
            skipped_base,
            skipped,
            ..Self::idle()
        }
    }

    fn idle() -> Self {
        Self {
            at: At::Idle,
            position: 0,
            index: 0,
            store: 0,
            seen_is_current: false,
            read_is_current: false,
            swept: false,
            abort_slot: 0,
            skipped_base: 0,
            skipped: 0,
        }
    }

    pub(crate) fn is_alive(self) -> bool {
        self.at <= At::Closed
    }
}

/// How often something may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Budgets {
    pub(crate) claims: u8,
    pub(crate) aborts: u8,
    pub(crate) requeues: u8,
    pub(crate) attaches: u8,
    pub(crate) producer_deaths: u8,
    pub(crate) consumer_deaths: u8,
    pub(crate) recoverer_deaths: u8,
}

/// Shared memory, all parties, and what the checks remember (`committed` to `reported`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) words: [Word; MOST_SLOTS],
    pub(crate) parties: [Party; MOST_PARTIES],
    pub(crate) tail: u8,
    pub(crate) head: u8,
    pub(crate) closed: bool,
    pub(crate) left: Budgets,
    /// Positions whose record was committed, a bit each.
    pub(crate) committed: u8,
    /// Positions whose record was released (or dropped, if that is the ring's policy).
    pub(crate) settled: u8,
    /// Positions that may be delivered: committed or given back, and not delivered since.
    pub(crate) deliverable: u8,
    /// Some consumer has reported `Closed`.
    pub(crate) reported: bool,
}

/// The five stores of an abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SkipStore {
    /// `skipped_base = n`
    Base,
    /// `abort_slot = i + 1`
    Slot,
    /// `skipped = n + 1`
    Count,
    /// `word of i = SKIP`
    Word,
    /// `abort_slot = 0`
    End,
}

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    Nothing,
    NeverRescans,
    ReclaimsTheLiving,
    RecoversOnlyWhomAWordNames,
    AbortFrees,
    TakesEpochOfItsBirthAsSeen,
    TakesEpochAsSeenBeforeTheWalk,
    TakesEpochAsSeenAfterAClaim,
    ReadsEpochAfterTheWalk,
    LooksAtClosedOnlyBeforeTheClaim,
    ReportsClosedWithoutRescan,
    BumpsOnlyIfItSwept,
    FreesRowBeforeBump,
    KeepsNoBase,
    ResolvesByEndBeforeCount,
    RequeuesWithoutBump,
    ConsumerJumpsLikeAProducer,
}

/// A slot ring, its parties, and their budgets.
#[derive(Clone, Copy)]
pub(crate) struct SlotRing {
    pub(crate) slots: u8,
    pub(crate) producers: u8,
    pub(crate) consumers: u8,
    pub(crate) budgets: Budgets,
    /// Somebody closes the ring at some time.
    pub(crate) closes: bool,
    /// The ring's policy drops what a dead consumer held, instead of delivering it again.
    pub(crate) drops: bool,
    pub(crate) skip_order: [SkipStore; 5],
    pub(crate) mutant: Mutant,
}

impl Model for SlotRing {
    type State = State;

    fn initial(&self) -> State {
        let mut words = [Word::new(0, SlotState::Free); MOST_SLOTS];
        for slot in 0..self.slots {
            words[usize::from(slot)].position = slot;
        }
        let mut parties = [Party::idle().reset(At::Unused); MOST_PARTIES];
        for row in 0..self.producers + self.consumers {
            parties[usize::from(row)].at = At::Idle;
        }
        State {
            words,
            parties,
            tail: 0,
            head: 0,
            closed: false,
            left: self.budgets,
            committed: 0,
            settled: 0,
            deliverable: 0,
            reported: false,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        self.push_steps(state, steps);
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        let frontier = self.frontier(state);
        if state.tail > frontier || state.head > frontier {
            return Some("a hint ran past the frontier");
        }
        let words = self.words(state);
        if words
            .iter()
            .any(|word| word.position < state.head && to_be_claimed(*word))
        {
            return Some("the head hint passed what is still to be claimed");
        }
        let unsettled = state.committed & !state.settled;
        let standing = words.iter().filter(|word| holds_record(**word));
        if unsettled != standing.fold(0, |bits, word| bits | bit(word.position)) {
            return Some("a committed record is not in its slot");
        }
        if self.committed_total(state) != Some(state.committed.count_ones()) {
            return Some("the ledger miscounts");
        }
        let is_unused = |row: u8| state.parties[usize::from(row)].at == At::Unused;
        if words
            .iter()
            .any(|word| word.owner != NOBODY && is_unused(word.owner))
        {
            return Some("a word names a free row");
        }
        None
    }

    /// All work is done, the ring is empty, and every dead participant is recovered.
    ///
    /// Once a consumer has reported `Closed`, the claims of producers who come late stay as SKIP.
    fn is_good(&self, state: &State) -> bool {
        let is_empty = |word: &Word| {
            word.state == SlotState::Free || state.reported && word.state == SlotState::Skip
        };
        let all_free = self.words(state).iter().all(is_empty);
        let closed = state.closed == self.closes;
        let done = state.left.claims == 0 || state.closed;
        let rests = |row: u8| match state.parties[usize::from(row)].at {
            At::Idle if self.is_producer(row) => done,
            At::Idle => !self.closes,
            At::Closed | At::Unused => true,
            At::Dead => !self.triggers_recovery(state, row),
            _ => false,
        };
        all_free && closed && self.rows().all(rests)
    }

    fn is_excused(&self, state: &State) -> bool {
        let consumers = &state.parties[usize::from(self.producers)..];
        state.left.attaches == 0 && consumers.iter().all(|party| !party.is_alive())
    }
}

impl SlotRing {
    /// Two slots, two producers, two consumers, and no budget for anything.
    pub(crate) const fn idle() -> Self {
        use SkipStore::{Base, Count, End, Slot, Word};
        Self {
            slots: 2,
            producers: 2,
            consumers: 2,
            budgets: Budgets {
                claims: 0,
                aborts: 0,
                requeues: 0,
                attaches: 0,
                producer_deaths: 0,
                consumer_deaths: 0,
                recoverer_deaths: 0,
            },
            closes: false,
            drops: false,
            skip_order: [Base, Slot, Count, Word, End],
            mutant: Mutant::Nothing,
        }
    }

    pub(crate) fn is_producer(&self, row: u8) -> bool {
        row < self.producers
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = u8> + use<> {
        0..self.producers + self.consumers
    }

    pub(crate) fn words<'s>(&self, state: &'s State) -> &'s [Word] {
        &state.words[..usize::from(self.slots)]
    }

    pub(crate) fn slot(&self, position: u8) -> usize {
        usize::from(position % self.slots)
    }

    /// The first position that was never claimed.
    pub(crate) fn frontier(&self, state: &State) -> u8 {
        let after_claimed = |word: &Word| match word.state {
            SlotState::Free => (word.position + 1).saturating_sub(self.slots),
            _ => word.position + 1,
        };
        self.words(state)
            .iter()
            .map(after_claimed)
            .max()
            .unwrap_or(0)
    }

    /// A recoverable participant: its lock is free and its row in use. Rows decide, not words.
    pub(crate) fn triggers_recovery(&self, state: &State, row: u8) -> bool {
        let named = || self.words(state).iter().any(|word| word.owner == row);
        state.parties[usize::from(row)].at == At::Dead
            && (self.mutant != Mutant::RecoversOnlyWhomAWordNames || named())
    }

    /// The count of skipped positions in a row, read only (`ledger::skipped`).
    pub(crate) fn skipped(&self, state: &State, row: u8) -> u8 {
        let ledger = state.parties[usize::from(row)];
        let Some(slot) = ledger.abort_slot.checked_sub(1) else {
            return ledger.skipped;
        };
        let word = state.words[usize::from(slot)];
        let still_writing = word.is_held_by(row, SlotState::Writing);
        match (self.mutant == Mutant::KeepsNoBase, still_writing) {
            (false, true) => ledger.skipped_base,
            (false, false) => ledger.skipped_base + 1,
            (true, true) => ledger.skipped.saturating_sub(1),
            (true, false) => ledger.skipped,
        }
    }

    /// What an inspector computes from words and rows; it should be the number of commits.
    fn committed_total(&self, state: &State) -> Option<u32> {
        let is_writing = |word: &&Word| word.state == SlotState::Writing;
        let writing = self.words(state).iter().filter(is_writing).count();
        let skipped: u32 = self
            .rows()
            .map(|row| u32::from(self.skipped(state, row)))
            .sum();
        let claimed = u32::from(self.frontier(state));
        claimed
            .checked_sub(u32::try_from(writing).ok()?)?
            .checked_sub(skipped)
    }
}

/// The bit of a position in `committed` and its like.
pub(crate) fn bit(position: u8) -> u8 {
    1 << position
}

fn to_be_claimed(word: Word) -> bool {
    word.state != SlotState::Reading && !word.is_given_back()
}

fn holds_record(word: Word) -> bool {
    matches!(word.state, SlotState::Committed | SlotState::Reading)
}

mod display {
    //! How a state reads in a trace, and how it is hashed.

    use super::{Party, State, Word};
    use std::fmt::{Debug, Formatter, Result};
    use std::hash::{Hash, Hasher};

    impl Debug for Word {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            write!(f, "{:?}({})", self.state, self.position)?;
            if self.owner != super::NOBODY {
                write!(f, "by{}", self.owner)?;
            }
            if self.attempts > 0 {
                write!(f, "again{}", self.attempts)
            } else {
                Ok(())
            }
        }
    }

    impl Debug for Party {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            write!(f, "{:?}({}+{})", self.at, self.position, self.index)?;
            let ledger = (self.abort_slot, self.skipped_base, self.skipped);
            if ledger == (0, 0, 0) {
                Ok(())
            } else {
                write!(f, "ledger{ledger:?}")
            }
        }
    }

    impl Debug for State {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            let Self {
                words,
                parties,
                tail,
                head,
                closed,
                ..
            } = self;
            write!(
                f,
                "{words:?} tail {tail} head {head} closed {closed} {parties:?}"
            )
        }
    }

    impl Hash for Word {
        fn hash<H: Hasher>(&self, hasher: &mut H) {
            let Self {
                position,
                state,
                owner,
                attempts,
            } = *self;
            hasher.write(&[position, state as u8, owner, attempts]);
        }
    }

    impl Hash for Party {
        fn hash<H: Hasher>(&self, hasher: &mut H) {
            let flags = [self.seen_is_current, self.read_is_current, self.swept];
            let flags = flags
                .iter()
                .fold(0, |bits, flag| bits << 1 | u8::from(*flag));
            let Self {
                at,
                position,
                index,
                store,
                ..
            } = *self;
            let Self {
                abort_slot,
                skipped_base,
                skipped,
                ..
            } = *self;
            let row = abort_slot << 6 | skipped_base << 3 | skipped;
            hasher.write(&[at as u8, position, index, store, flags, row, 0, 0]);
        }
    }
}
