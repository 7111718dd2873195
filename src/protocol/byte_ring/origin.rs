//! How far another ring's records have come, in the same file and in the same instant as they.
//!
//! A bridge that copies records from one ring into another must know after a restart which of them
//! it has committed. So it writes here, before the one store that publishes a batch, where the
//! batch will end in this ring and where it ends in the other one.
//!
//! # Invariants
//! 1. Of the entries whose end is not beyond the committed end, the one with the highest is true.
//! 2. An entry is overwritten only while it is not the true one, and its end is stored last.
//! 3. A producer that attaches makes void every entry beyond the committed end: what it publishes
//!    may end just there.
//!
//! Records that are published without an origin lie behind the true entry and change nothing of it.
//!
//! # After a crash
//! An entry torn by a death has its old end, which is void or below that of the true one. One that
//! is whole and was not published ends beyond the committed end. Neither is chosen (INV-1).

use crate::layout::OriginEntry;
use crate::protocol::Store;
use crate::sync::Ordering;

/// Marks an end: positions are multiples of 8, and a void entry is 0.
pub(in crate::protocol) const SET: u64 = 1;

/// Where records came from, and how far they reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The other ring.
    pub ring_id: [u8; 16],
    /// Which life of its content.
    pub generation: u64,
    /// 0 if the records have numbers of their own; else whoever numbered them.
    pub life: u64,
    /// Records of that ring up to and with the last one committed here, since it was created.
    pub records: u64,
}

/// What is known at a committed end.
pub fn origin_at<S: Store + ?Sized>(store: &S, committed_end: u64) -> Option<Origin> {
    let entry = true_entry(store, committed_end)?;
    Some(load(&store.control().origins.entries[entry]))
}

/// The entry of INV-1.
fn true_entry<S: Store + ?Sized>(store: &S, committed_end: u64) -> Option<usize> {
    let entries = store.control().origins.entries.iter().enumerate();
    entries
        .filter_map(|(place, entry)| {
            // sync(death-order): acquire half.
            let end = entry.end.load(Ordering::Acquire);
            let behind = committed_end.wrapping_sub(end & !SET);
            (end & SET != 0 && behind.cast_signed() >= 0).then_some((behind, place))
        })
        .min()
        .map(|(_, place)| place)
}

/// Says that what is about to be published up to `end` reaches up to `origin`.
pub(super) fn announce<S: Store + ?Sized>(
    store: &S,
    committed_end: u64,
    end: u64,
    origin: &Origin,
) {
    let other = true_entry(store, committed_end).map_or(0, |entry| entry ^ 1);
    let entry = &store.control().origins.entries[other];
    fill(entry, origin);
    // The end is the last one (INV-2).
    // sync(death-order): release half.
    entry.end.store(end | SET, Ordering::Release);
}

/// Stores everything but the end.
pub(in crate::protocol) fn fill(entry: &OriginEntry, origin: &Origin) {
    let (low, high) = origin.ring_id.split_at(8);
    let words = [
        (&entry.records, origin.records),
        (&entry.ring_id[0], word(low)),
        (&entry.ring_id[1], word(high)),
        (&entry.generation, origin.generation),
        (&entry.life, origin.life),
    ];
    for (word, value) in words {
        // sync(death-order): release half.
        word.store(value, Ordering::Release);
    }
}

/// Makes void what was announced and never published.
pub(super) fn settle<S: Store + ?Sized>(store: &S, committed_end: u64) {
    let kept = true_entry(store, committed_end);
    for (number, entry) in store.control().origins.entries.iter().enumerate() {
        if kept != Some(number) {
            // sync(death-order): release half.
            entry.end.store(0, Ordering::Release);
        }
    }
}

/// All but the end.
pub(in crate::protocol) fn load(entry: &OriginEntry) -> Origin {
    // sync(death-order): acquire half.
    let load = |word: &crate::sync::AtomicU64| word.load(Ordering::Acquire);
    let mut ring_id = [0; 16];
    ring_id[..8].copy_from_slice(&load(&entry.ring_id[0]).to_le_bytes());
    ring_id[8..].copy_from_slice(&load(&entry.ring_id[1]).to_le_bytes());
    Origin {
        ring_id,
        generation: load(&entry.generation),
        life: load(&entry.life),
        records: load(&entry.records),
    }
}

fn word(half: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..half.len()].copy_from_slice(half);
    u64::from_le_bytes(bytes)
}
