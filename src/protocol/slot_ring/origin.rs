//! How far another ring's records have come, when a bridge writes them into this one.
//!
//! A commit is one store of a slot's word, which has no room for more. So the bridge writes down
//! before each of them what is about to come true: the position, and how far the other ring's
//! records will have come. If it dies, whoever sweeps it looks whether the commit came first.
//!
//! # Invariants
//! 1. At most one participant announces: the one that has the seat. It is taken from nobody, or
//!    from one whose row is free or another's since, so not before that one was swept.
//! 2. An announcement overwrites the entry that is not the true one, its number last. Of two
//!    entries the one with the higher number is true.
//! 3. What was announced and not committed is made void by the sweep of its owner before it changes
//!    the word by which that is known. Of a row that is free no such entry is left.
//!
//! # Pairing
//! - `copier`: the stores of an entry and of the seat -> loads by the next one in the seat.
//!
//! # After a crash
//! Dead before the number is stored: the entry has its old number, and the other one is true. Dead
//! before the commit: the word says WRITING by the dead one at the entry's position, so the sweep
//! makes the entry void; a sweeper that dies leaves a word that says the same. Dead after the
//! commit: the word says something else, or names another lap, and the entry stands.

use super::{Shape, WRITING, Word};
use crate::layout::OriginEntry;
use crate::protocol::byte_ring::Origin;
use crate::protocol::byte_ring::origin::{SET, fill, load};
use crate::protocol::{Owner, Store, owners, recovery};
use crate::sync::Ordering;

/// Bits of a seat's word below the life of the row.
const OWNER_BITS: u32 = 16;

/// What is known. The caller has the seat, so that nobody is announcing.
pub fn newest_origin<S: Store + ?Sized>(store: &S) -> Option<Origin> {
    let entries = &store.control().origins.entries;
    true_entry(store).map(|(entry, _)| load(&entries[entry]))
}

/// The entry of INV-2, and its number.
fn true_entry<S: Store + ?Sized>(store: &S) -> Option<(usize, u64)> {
    let entries = store.control().origins.entries.iter().enumerate();
    entries
        // sync(copier): acquire half.
        .map(|(place, entry)| (place, entry.end.load(Ordering::Acquire)))
        .filter(|(_, number)| number & SET != 0)
        .max_by_key(|(_, number)| *number)
}

/// Says that the commit of `position` by `me`, which is to follow, reaches up to `origin`.
pub(super) fn announce<S: Store + ?Sized>(store: &S, me: Owner, position: u64, origin: &Origin) {
    let (other, number) = match true_entry(store) {
        Some((entry, number)) => (entry ^ 1, number.wrapping_add(2)),
        None => (0, SET),
    };
    let entry = &store.control().origins.entries[other];
    fill(entry, origin);
    for (word, value) in [
        (&entry.position, position),
        (&entry.owner, me.number().into()),
        // The number is the last one (INV-2).
        (&entry.end, number),
    ] {
        // sync(copier): release half.
        word.store(value, Ordering::Release);
    }
}

/// Makes void what `dead` announced and did not commit. Its claims are still as it left them.
pub fn settle_origins<S: Store + ?Sized>(shape: &Shape, store: &S, dead: Owner) {
    for entry in &store.control().origins.entries {
        if is_unfulfilled(shape, store, dead, entry) {
            // sync(copier): release half.
            entry.end.store(0, Ordering::Release);
        }
    }
}

fn is_unfulfilled<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    dead: Owner,
    entry: &OriginEntry,
) -> bool {
    // sync(copier): acquire half.
    let owner = entry.owner.load(Ordering::Acquire);
    // sync(copier): acquire half.
    let position = entry.position.load(Ordering::Acquire);
    // sync(record-commit): acquire half.
    let word = Word(
        shape
            .word(store, shape.index(position))
            .load(Ordering::Acquire),
    );
    owner == u64::from(dead.number())
        && word.is_held_by(dead, WRITING)
        && word.lap() == shape.lap(position)
}

/// Takes the seat. False if somebody has it who was not swept, alive or not.
pub fn take_seat<S: Store + ?Sized>(store: &S, me: Owner) -> bool {
    let seat = &store.control().seat.copier;
    // sync(copier): acquire half.
    let taken = seat.load(Ordering::Acquire);
    let mine = seat_of(store, me);
    if taken == mine {
        return true;
    }
    if is_kept(store, taken) {
        return false;
    }
    // sync(copier): release half.
    // relaxed: a failure decides nothing.
    let exchange = seat.compare_exchange(taken, mine, Ordering::Release, Ordering::Relaxed);
    exchange.is_ok()
}

/// Whether `me` has it.
pub fn has_seat<S: Store + ?Sized>(store: &S, me: Owner) -> bool {
    // relaxed: only its owner stores this value.
    store.control().seat.copier.load(Ordering::Relaxed) == seat_of(store, me)
}

/// Whether the row still has the life that took the seat.
fn is_kept<S: Store + ?Sized>(store: &S, taken: u64) -> bool {
    let number = taken & ((1 << OWNER_BITS) - 1);
    let owner = owners(store).find(|owner| u64::from(owner.number()) == number);
    owner.is_some_and(|owner| recovery::in_use(store, owner) && seat_of(store, owner) == taken)
}

fn seat_of<S: Store + ?Sized>(store: &S, owner: Owner) -> u64 {
    // relaxed: stored before the row is in use, which was looked at, or is our own.
    let life = store.row(owner).lives.load(Ordering::Relaxed);
    life << OWNER_BITS | u64::from(owner.number())
}
