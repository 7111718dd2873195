//! A slot's word, and where the slots of a position lie.

use crate::protocol::{Owner, Store};
use crate::sync::AtomicU64;

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
pub(super) const LAP_SHIFT: u32 = 16;
/// The attempts field saturates here.
pub const MAX_ATTEMPTS: u8 = 3;
/// Bytes from a slot's word to its tag and length.
pub const META_OFFSET: u64 = 8;

/// A slot's word, taken apart on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    pub(super) fn new(lap: u64, owner: u16, attempts: u8, state: u64) -> Self {
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

    pub(super) fn taken(self, owner: Owner, state: u64) -> Self {
        Self::new(self.lap(), owner.number(), self.attempts(), state)
    }

    pub(super) fn given_back(self) -> Self {
        let attempts = (self.attempts() + 1).min(MAX_ATTEMPTS);
        Self::new(self.lap(), 0, attempts, COMMITTED)
    }

    pub(super) fn is_held_by(self, owner: Owner, state: u64) -> bool {
        self.state() == state && self.owner() == owner.number()
    }
}

/// The geometry of the slots, copied out of the header once and checked.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub(super) slots: u64,
    stride: u64,
    pub(super) payload_offset: u64,
    pub(super) slot_bytes: u64,
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

    pub(super) fn lap(&self, position: u64) -> u64 {
        (position >> self.slot_bits) & self.lap_mask
    }

    pub(super) fn next_lap(&self, lap: u64) -> u64 {
        lap.wrapping_add(1) & self.lap_mask
    }

    /// How many laps the word is ahead of the position; negative if behind.
    pub(super) fn laps_ahead(&self, word: Word, position: u64) -> i64 {
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

    /// Which slot's word lies at `offset`.
    pub(super) fn index_at(&self, offset: u64) -> u64 {
        offset / self.stride
    }

    /// The word of slot `index`, which is taken modulo the number of slots.
    pub fn word<'s, S: Store + ?Sized>(&self, store: &'s S, index: u64) -> &'s AtomicU64 {
        store.word(self.word_offset(self.index(index)))
    }

    /// The position of the same slot, `laps` further.
    pub(super) fn same_slot(&self, position: u64, laps: i64) -> u64 {
        position.wrapping_add(laps.cast_unsigned() << self.slot_bits)
    }

    /// Where a consumer goes on from `position` when the slot there is `ahead` laps further: behind
    /// the last position of this slot that was released (INV-4).
    pub(super) fn after_released(&self, position: u64, ahead: i64) -> u64 {
        self.same_slot(position, ahead - 1).wrapping_add(1)
    }

    /// The same for a producer: behind the last position of this slot that was claimed.
    pub(super) fn after_claimed(&self, position: u64, word: Word, ahead: i64) -> u64 {
        let laps = if word.state() == FREE {
            ahead - 1
        } else {
            ahead
        };
        self.same_slot(position, laps).wrapping_add(1)
    }

    /// Most steps of one walk. A correct ring needs one lap, and as much again for what others
    /// claim meanwhile; whoever needs more gives up and is told to try again.
    pub(super) fn walk_limit(&self) -> u64 {
        2 * self.slots + 64
    }
}
