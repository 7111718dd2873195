//! A participant's counters, and the count of skipped positions that stays exact through any death.
//!
//! The ring's totals follow from positions: what was committed is every position before the
//! frontier that is neither being written nor skipped. So the number of skipped positions has to be
//! right after any kill, and it is kept like this, by whoever holds the row's lock:
//!
//! ```text
//! 1. skipped_base   = n          what the count is now
//! 2. abort_slot     = i + 1      the claim of slot i is about to become nothing
//! 3. skipped        = n + 1
//! 4. word of i      = SKIP       (the caller's step)
//! 5. abort_slot     = 0
//! ```
//!
//! # Invariants
//! 1. With `abort_slot` 0, `skipped` is right. With i + 1 it is `skipped_base` while the word of
//!    slot i still says WRITING by this participant, and `skipped_base + 1` in every other case:
//!    no other value can stand there unless step 4 was done, and nobody else can write that owner.
//! 2. All other counters are the participant's word about itself and may lack its last operation.
//!
//! # Pairing
//! - `death-order`: the stores above are Release, so that the compiler keeps them in the order in
//!   which a death can cut them off -> the reader's Acquire loads. A recoverer has the lock
//!   besides.
//!
//! # After a crash
//! The recoverer calls [`resolve`] first, which brings the row to a state with `abort_slot` 0;
//! dying within it leaves either the old state or a resolved one.

use crate::layout::{COUNTERS, RECOVERED, Row, SKIPPED};
use crate::sync::Ordering;

/// Steps 1 to 3: announces that the claim of slot `index` becomes nothing.
pub fn begin_skip(row: &Row, index: u64) {
    // relaxed: only the lock's holder writes the row.
    let count = row.counters[SKIPPED].load(Ordering::Relaxed);
    // sync(death-order): release half.
    row.skipped_base.store(count, Ordering::Release);
    // sync(death-order): release half.
    row.abort_slot.store(index + 1, Ordering::Release);
    // sync(death-order): release half.
    row.counters[SKIPPED].store(count.wrapping_add(1), Ordering::Release);
}

/// Step 5: the claim is gone.
pub fn end_skip(row: &Row) {
    // sync(death-order): release half.
    row.abort_slot.store(0, Ordering::Release);
}

/// The slot whose abort was begun and not ended.
pub fn pending_skip(row: &Row) -> Option<u64> {
    // sync(death-order): acquire half.
    match row.abort_slot.load(Ordering::Acquire) {
        0 => None,
        number => Some(number - 1),
    }
}

/// The exact number of positions that this row's participants skipped; `still_writing` tells
/// whether the word of a slot still says WRITING by the row's owner.
pub fn skipped(row: &Row, still_writing: impl FnOnce(u64) -> bool) -> u64 {
    match pending_skip(row) {
        Some(index) => skipped_with(row, index, still_writing),
        // sync(death-order): acquire half.
        None => row.counters[SKIPPED].load(Ordering::Acquire),
    }
}

/// The same, of a row whose abort of slot `index` was begun and not ended.
fn skipped_with(row: &Row, index: u64, still_writing: impl FnOnce(u64) -> bool) -> u64 {
    // sync(death-order): acquire half.
    let base = row.skipped_base.load(Ordering::Acquire);
    if still_writing(index) {
        base
    } else {
        base.wrapping_add(1)
    }
}

/// Brings a dead participant's count into order. Only for the holder of its lock.
pub fn resolve(row: &Row, still_writing: impl FnOnce(u64) -> bool) {
    if let Some(index) = pending_skip(row) {
        let count = skipped_with(row, index, still_writing);
        // sync(death-order): release half.
        row.counters[SKIPPED].store(count, Ordering::Release);
        end_skip(row);
    }
}

/// Adds to a counter of a row whose lock the caller holds.
#[inline]
pub fn add(row: &Row, counter: usize, count: u64) {
    // relaxed: only the lock's holder writes the row, and readers take any value for a recent one.
    let old = row.counters[counter].load(Ordering::Relaxed);
    // relaxed: as above.
    row.counters[counter].store(old.wrapping_add(count), Ordering::Relaxed);
}

/// Whether the last participant of a row that nobody uses was recovered rather than detached.
pub fn ended_in_death(row: &Row) -> bool {
    // relaxed: both stand still while nobody uses the row.
    let recovered = row.counters[RECOVERED].load(Ordering::Relaxed);
    // relaxed: as above.
    recovered != row.baseline[RECOVERED].load(Ordering::Relaxed)
}

/// Begins a new life of a row: from here on its counters are counted for the new participant.
pub fn begin_life(row: &Row) {
    for counter in 0..COUNTERS {
        // relaxed: only the lock's holder writes the row.
        let total = row.counters[counter].load(Ordering::Relaxed);
        // relaxed: as above.
        row.baseline[counter].store(total, Ordering::Relaxed);
    }
    // relaxed: as above.
    let lives = row.lives.load(Ordering::Relaxed);
    // relaxed: as above.
    row.lives.store(lives.wrapping_add(1), Ordering::Relaxed);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{add, begin_life, begin_skip, end_skip, ended_in_death, pending_skip, skipped};
    use crate::layout::RECOVERED;
    use crate::mpmc;
    use crate::protocol::Attachment;

    #[test]
    fn a_skip_that_was_begun_names_its_slot() {
        let (producer, _consumer) = mpmc::Options::new(8, 8).heap().unwrap();
        let row = producer.participant().attachment().row();
        for (index, count) in [(0, 0), (1, 1), (5, 2)] {
            begin_skip(row, index);
            assert_eq!(pending_skip(row), Some(index));
            assert_eq!(skipped(row, |slot| slot == index), count);
            assert_eq!(skipped(row, |slot| slot != index), count + 1);
            end_skip(row);
            assert_eq!(pending_skip(row), None);
            assert_eq!(skipped(row, |_| unreachable!("it has ended")), count + 1);
        }
    }

    #[test]
    fn a_life_ends_in_death_once_it_was_recovered() {
        let (producer, _consumer) = mpmc::Options::new(8, 8).heap().unwrap();
        let row = producer.participant().attachment().row();
        assert!(!ended_in_death(row));
        add(row, RECOVERED, 1);
        assert!(ended_in_death(row));
        begin_life(row);
        assert!(!ended_in_death(row));
    }
}
