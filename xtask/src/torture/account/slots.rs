//! The MPMC ring's words: `lap:48 | owner:11 | attempts:2 | state:3`, one of them a slot.
//!
//! With the ring at rest, every slot has one position that is the next to be claimed there: its own
//! if it is free, the same slot one lap later otherwise. The lowest of them is the frontier, and
//! they are the next `slots` positions without a gap.
//!
//! A word tells 48 bits of a lap, so positions are taken as distances from the ring's origin,
//! modulo 2^48 laps.

use anyhow::{Context as _, Result, ensure};

use super::super::image::{Image, at, row};
use super::{Account, Left, check_payload, check_rows, common_states, origin_words};

const FREE: u64 = 0;
const WRITING: u64 = 1;
const COMMITTED: u64 = 2;
const READING: u64 = 3;
const SKIP: u64 = 4;

/// Laps that a word can tell apart.
const LAPS: u64 = 1 << 48;

/// A slot, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Slot {
    pub(in super::super) index: u64,
    pub(in super::super) word: u64,
    meta: u64,
}

impl Slot {
    pub(in super::super) fn state(self) -> u64 {
        self.word & 7
    }

    fn attempts(self) -> u8 {
        (self.word >> 3 & 3) as u8
    }

    pub(in super::super) fn owner(self) -> u16 {
        (self.word >> 5 & 0x7ff) as u16
    }

    pub(in super::super) fn lap(self) -> u64 {
        self.word >> 16
    }

    /// Whether its owner writes or reads it.
    pub(in super::super) fn is_held(self) -> bool {
        matches!(self.state(), WRITING | READING)
    }

    fn tag(self) -> u32 {
        (self.meta >> 32) as u32
    }

    fn len(self) -> usize {
        (self.meta & 0xffff_ffff) as usize
    }
}

/// All slots by index.
pub(in super::super) fn slots(image: &Image) -> Vec<Slot> {
    let stride = image.size(at::STRIDE);
    let slot = |index: u64| {
        let offset = usize::try_from(index).unwrap_or(0) * stride;
        Slot {
            index,
            word: image.data_word(offset),
            meta: image.data_word(offset + 8),
        }
    };
    (0..image.word(at::CAPACITY)).map(slot).collect()
}

/// Whether one lap comes before another: by less than half of all laps that a word can tell.
pub(in super::super) fn is_before(lap: u64, other: u64) -> bool {
    other.wrapping_sub(lap).wrapping_sub(1) % LAPS < LAPS / 2
}

/// A ring's positions.
#[derive(Clone, Copy)]
struct Positions {
    slots: u64,
    origin: u64,
}

impl Positions {
    fn of(image: &Image) -> Self {
        Self {
            slots: image.word(at::CAPACITY),
            origin: image.word(at::ORIGIN),
        }
    }

    /// How far from the origin a position is.
    fn distance(self, position: u64) -> u64 {
        position.wrapping_sub(self.origin) % (LAPS * self.slots)
    }

    /// The distance of a slot's position.
    fn of_slot(self, slot: Slot) -> u64 {
        self.distance(slot.lap() * self.slots + slot.index)
    }

    /// The distance of the next position to be claimed in a slot.
    fn next_of(self, slot: Slot) -> u64 {
        let is_used = slot.state() != FREE;
        self.distance((slot.lap() + u64::from(is_used)) * self.slots + slot.index)
    }
}

/// Draws up the account; refuses words that no death may leave.
pub(in super::super) fn account(image: &Image) -> Result<Account> {
    check_rows(image)?;
    let slots = slots(image);
    let positions = Positions::of(image);
    for slot in &slots {
        check_word(image, *slot)
            .with_context(|| format!("slot {} {:#x}", slot.index, slot.word))?;
    }
    let frontier = frontier(&slots, positions)?;
    let hints = [at::TAIL_HINT, at::HEAD].map(|hint| positions.distance(image.word(hint)));
    let beyond = hints.iter().any(|hint| *hint > frontier);
    ensure!(
        !beyond,
        "a hint of {hints:?} is beyond the frontier {frontier}"
    );
    let mut unreleased: Vec<Slot> = slots
        .iter()
        .copied()
        .filter(|slot| matches!(slot.state(), COMMITTED | READING))
        .collect();
    unreleased.sort_by_key(|slot| positions.of_slot(*slot));
    let left: Vec<Left> = unreleased
        .iter()
        .map(|slot| Left {
            id: slot.tag(),
            attempts: slot.attempts(),
            is_held: slot.state() == READING,
        })
        .collect();
    let writing = slots.iter().filter(|slot| slot.state() == WRITING).count() as u64;
    let skipped = skipped(image, &slots);
    let committed = frontier
        .checked_sub(writing + skipped)
        .with_context(|| format!("{skipped} skipped of {frontier} positions"))?;
    let released = committed
        .checked_sub(left.len() as u64)
        .with_context(|| format!("{committed} committed, but {} left", left.len()))?;
    Ok(Account {
        committed,
        released,
        left,
        origin: origin(image, &slots)?,
    })
}

/// How far the other ring's records have come: the newer of the two origins, unless the record that
/// it was written for is not committed. Refuses one of which a part is another one's.
fn origin(image: &Image, slots: &[Slot]) -> Result<Option<u64>> {
    let words = |entry: usize| -> [u64; 8] {
        std::array::from_fn(|word| image.word(at::ORIGINS + entry * at::ORIGIN_BYTES + 8 * word))
    };
    let is_pending = |position: u64, owner: u64| {
        let count = slots.len() as u64;
        slots.iter().any(|slot| {
            slot.state() == WRITING
                && u64::from(slot.owner()) == owner
                && slot.index == position % count
                && slot.lap() == position / count % LAPS
        })
    };
    let entries = [words(0), words(1)].into_iter();
    let told = entries
        .filter(|[number, .., position, owner]| number & 1 == 1 && !is_pending(*position, *owner));
    let Some([_, found @ .., _, _]) = told.max_by_key(|words| words[0]) else {
        return Ok(None);
    };
    ensure!(
        found == origin_words(found[0]),
        "an origin is torn: {found:x?}"
    );
    Ok(Some(found[0]))
}

fn check_word(image: &Image, slot: Slot) -> Result<()> {
    ensure!(slot.state() <= SKIP, "no such state");
    ensure!(
        slot.is_held() == (slot.owner() != 0),
        "an owner if and only if it is held"
    );
    if slot.is_held() {
        ensure!(slot.owner() <= image.participants(), "no such owner");
        let state = image.row_state(slot.owner());
        ensure!(state != row::FREE, "its owner's row is free");
    }
    if matches!(slot.state(), COMMITTED | READING) {
        let offset = usize::try_from(slot.index)? * image.size(at::STRIDE);
        ensure!(
            slot.len() <= image.size(at::STRIDE) - 16,
            "a record longer than its slot"
        );
        check_payload(slot.tag(), image.data(offset + 16, slot.len()))?;
    } else {
        ensure!(slot.attempts() == 0, "attempts of what is no record");
    }
    Ok(())
}

/// The next position to be claimed.
fn frontier(slots: &[Slot], positions: Positions) -> Result<u64> {
    let next = slots.iter().map(|slot| positions.next_of(*slot));
    let mut next: Vec<u64> = next.collect();
    next.sort_unstable();
    let contiguous = next.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    ensure!(
        contiguous,
        "a hole among the positions to be claimed: {next:?}"
    );
    Ok(next[0])
}

/// Positions that became nothing, by the rows' counts and announcements.
fn skipped(image: &Image, slots: &[Slot]) -> u64 {
    let of_row = |number: u16| {
        let announced = image.word(at::row(number, row::ABORT_SLOT));
        let Some(index) = announced.checked_sub(1) else {
            return image.word(at::counter(number, row::SKIPPED));
        };
        let still = slots
            .iter()
            .any(|slot| slot.index == index && slot.state() == WRITING && slot.owner() == number);
        image.word(at::row(number, row::SKIPPED_BASE)) + u64::from(!still)
    };
    (1..=image.participants()).map(of_row).sum()
}

/// The names of the states that the words are in, for the report.
pub(in super::super) fn states(image: &Image) -> Vec<&'static str> {
    let slots = slots(image);
    let mut states = common_states(image);
    states.extend(
        slots
            .iter()
            .map(|slot| match (slot.state(), slot.attempts()) {
                (FREE, _) => "FREE",
                (WRITING, _) => "WRITING",
                (COMMITTED, 0) => "COMMITTED",
                (COMMITTED, _) => "COMMITTED-again",
                (READING, 0) => "READING",
                (READING, _) => "READING-again",
                _ => "SKIP",
            }),
    );
    for number in 1..=image.participants() {
        let announced = image.word(at::row(number, row::ABORT_SLOT));
        if let Some(slot) = slots.iter().find(|slot| slot.index + 1 == announced) {
            states.push(if slot.state() == WRITING {
                "skip-announced"
            } else {
                "skip-made"
            });
        }
    }
    let positions = Positions::of(image);
    let [tail, head] = [at::TAIL_HINT, at::HEAD].map(|hint| positions.distance(image.word(hint)));
    if frontier(&slots, positions).is_ok_and(|frontier| tail < frontier) {
        states.push("tail-hint-behind");
    }
    if head < first_unread(&slots, positions) {
        states.push("head-hint-behind");
    }
    states
}

/// Behind the last position that a consumer has claimed.
fn first_unread(slots: &[Slot], positions: Positions) -> u64 {
    let behind = |slot: &Slot| match slot.state() {
        READING => Some(positions.of_slot(*slot) + 1),
        FREE => (positions.of_slot(*slot) + 1).checked_sub(positions.slots),
        _ => None,
    };
    slots.iter().filter_map(behind).max().unwrap_or(0)
}
