//! What a ring's words say about its records, found without the library.
//!
//! The checker reads an [`Image`], refuses words that no death may leave, and draws up an account:
//! how many records were ever committed and released, and which ones are still to be delivered. It
//! shares no code with the protocol, and computes its sums in its own way.
//!
//! # Invariants
//! 1. An account is drawn up only of a ring in which nobody is at work.
//! 2. A record's id is its tag, and its payload follows from its id, so that a torn record shows.

use anyhow::{Result, ensure};

use super::image::{Image, at, row};

/// The MPMC ring.
pub(super) mod slots;

/// The SPSC ring.
pub(super) mod bytes;

/// What a ring holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Records committed since the ring was made.
    pub(super) committed: u64,
    /// Records released since the ring was made.
    pub(super) released: u64,
    /// Records to be delivered, oldest first.
    pub(super) left: Vec<Left>,
    /// How far the committed ones reach in the ring that they were copied from.
    pub(super) origin: Option<u64>,
}

/// A record that must be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) id: u32,
    /// How often it was given back, up to 3; SPSC: 0.
    pub(super) attempts: u8,
    /// A consumer holds it; if that one is dead, it is delivered again.
    pub(super) is_held: bool,
}

/// Whether the ring is closed for writing.
pub(super) fn is_closed(image: &Image) -> bool {
    image.half(at::FLAGS) & 1 != 0
}

/// The first record that a victim commits; the next ones count on.
pub(super) const FIRST_OF_VICTIM: u32 = 101;

/// Ids with this bit have long payloads, for byte rings only.
pub(super) const LONG: u32 = 1 << 16;

/// The payload of record `id`.
#[expect(clippy::cast_possible_truncation, reason = "a pattern of bytes")]
pub(super) fn payload(id: u32) -> Vec<u8> {
    let len = if id & LONG == 0 {
        16 + id % 5 * 8 - id % 3
    } else {
        1000
    };
    let byte = |at: u32| (id.wrapping_mul(37) ^ at.wrapping_mul(11)) as u8;
    (0..len).map(byte).collect()
}

/// The words of an origin of `records` records, as they lie in the file: all follow from the
/// first, so that a torn origin shows.
pub(super) fn origin_words(records: u64) -> [u64; 5] {
    let word = |factor: u64| records.wrapping_mul(factor) ^ factor;
    [records, word(0x1d), word(0x3b), word(0x61), word(0x97)]
}

/// Refuses a record whose bytes are not those of its id.
fn check_payload(id: u32, found: &[u8]) -> Result<()> {
    ensure!(found == payload(id), "record {id} is torn: {found:02x?}");
    Ok(())
}

/// The names of the states that rows and shared words are in, for the report.
pub(super) fn common_states(image: &Image) -> Vec<&'static str> {
    let mut states = Vec::new();
    for number in 1..=image.participants() {
        states.push(match image.row_state(number) {
            row::FREE => "row-free",
            row::ATTACHED => "row-attached",
            _ => "row-recovering",
        });
        if image.row_state(number) == row::FREE && image.half(at::row(number, row::PID)) == 0 {
            let lives = image.word(at::row(number, row::LIVES));
            states.push(if lives == 0 {
                "row-unused"
            } else {
                "row-begun"
            });
        }
    }
    if [at::ITEMS, at::SPACE]
        .iter()
        .any(|event| image.half(*event) & 1 != 0)
    {
        states.push("event-armed");
    }
    if is_closed(image) {
        states.push("closed");
    }
    states
}

/// Refuses rows in a state that does not exist.
fn check_rows(image: &Image) -> Result<()> {
    for number in 1..=image.participants() {
        let state = image.row_state(number);
        ensure!(state <= row::RECOVERING, "row {number} is in state {state}");
    }
    Ok(())
}

/// The account of a new ring.
pub(super) const EMPTY: Account = Account {
    committed: 0,
    released: 0,
    left: Vec::new(),
    origin: None,
};
