//! The MPMC ring's words: `lap:48 | owner:11 | attempts:2 | state:3`, one of them a slot.
//!
//! With the ring at rest, every slot has one position that is the next to be claimed there: its own
//! if it is free, the same slot one lap later otherwise. The lowest of them is the frontier, and
//! they are the next `slots` positions without a gap.

use anyhow::{Context as _, Result, ensure};

use super::super::image::{Image, at, row};
use super::{Account, Left, check_payload, check_rows, common_states};

const FREE: u64 = 0;
const WRITING: u64 = 1;
const COMMITTED: u64 = 2;
const READING: u64 = 3;
const SKIP: u64 = 4;

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

/// Draws up the account; refuses words that no death may leave.
pub(in super::super) fn account(image: &Image) -> Result<Account> {
    check_rows(image)?;
    let slots = slots(image);
    let count = slots.len() as u64;
    for slot in &slots {
        check_word(image, *slot)
            .with_context(|| format!("slot {} {:#x}", slot.index, slot.word))?;
    }
    let frontier = frontier(&slots)?;
    let hints = [image.word(at::TAIL_HINT), image.word(at::HEAD)];
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
    unreleased.sort_by_key(|slot| slot.lap() * count + slot.index);
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
    })
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
fn frontier(slots: &[Slot]) -> Result<u64> {
    let count = slots.len() as u64;
    let mut next: Vec<u64> = slots
        .iter()
        .map(|slot| (slot.lap() + u64::from(slot.state() != FREE)) * count + slot.index)
        .collect();
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
    if frontier(&slots).is_ok_and(|frontier| image.word(at::TAIL_HINT) < frontier) {
        states.push("tail-hint-behind");
    }
    if image.word(at::HEAD) < first_unread(&slots) {
        states.push("head-hint-behind");
    }
    states
}

/// Behind the last position that a consumer has claimed.
fn first_unread(slots: &[Slot]) -> u64 {
    let count = slots.len() as u64;
    let behind = |slot: &Slot| match slot.state() {
        READING => Some(slot.lap() * count + slot.index + 1),
        FREE => (slot.lap() * count + slot.index + 1).checked_sub(count),
        _ => None,
    };
    slots.iter().filter_map(behind).max().unwrap_or(0)
}
