//! What is done to the claims of a dead participant.
//!
//! The caller holds the dead one's lock, which only the kernel's end of its mapping has set free:
//! no store of it is still to come. Recovery makes nothing of what it was writing, gives back what
//! it was reading, tells the others, and frees the row.
//!
//! # Invariants
//! 1. Every step may be the recoverer's last: the row is freed at the very end, so the next holder
//!    of the lock finds the row in use and does all of it again, which changes no word twice.
//! 2. Sleepers are woken before the row is freed, for a waiter that has no bound of its own
//!    depends on it, and nobody would be found dead who could be recovered once more.
//! 3. The epoch is bumped always, even if no claim was found: a recoverer that died before its own
//!    bump leaves no word that names the dead one.
//!
//! # Pairing
//! - `row-state`: the stores of `state` -> loads by attachers and observers. The lock orders all
//!   that matters; the pairing serves observers, who hold none.
//!
//! # After a crash
//! See invariant 1. Positions, claims and the count of skipped ones are exact whoever dies; the
//! counts of recoveries and redeliveries are not: a recoverer that dies among those stores leaves
//! them short, or counts twice, by what it was at.

use super::{Owner, Store, byte_ring, ledger, slot_ring};
use crate::layout::{DROPPED, RECOVERED, REDELIVERED, ROW_FREE, ROW_RECOVERING};
use crate::sync::Ordering;

/// The ring's choice for records that a dead consumer held, from the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Redelivery {
    /// They are delivered again, however often.
    #[default]
    Unlimited,
    /// They are dropped and counted.
    Never,
    /// They are delivered again this often at most (1..=3), then dropped and counted.
    AtMost(u8),
}

impl Redelivery {
    fn keeps(self, attempts: u8) -> bool {
        match self {
            Self::Unlimited => true,
            Self::Never => false,
            Self::AtMost(limit) => attempts < limit,
        }
    }
}

/// The geometry of either ring.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// SPSC.
    Bytes(byte_ring::Shape),
    /// MPMC.
    Slots(slot_ring::Shape, Redelivery),
}

/// What a recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Dead participants whose rows were freed.
    pub participants: u64,
    /// Claims that were being written and became nothing.
    pub skipped: u64,
    /// Records that were being read and are delivered again.
    pub redelivered: u64,
    /// Records that were being read and were dropped by the ring's policy.
    pub dropped: u64,
}

impl core::ops::AddAssign for Recovered {
    fn add_assign(&mut self, other: Self) {
        self.participants += other.participants;
        self.skipped += other.skipped;
        self.redelivered += other.redelivered;
        self.dropped += other.dropped;
    }
}

/// Recovers `dead`, whose lock the caller holds and whose row is in use. `wake` wakes everybody who
/// sleeps on either event.
pub fn recover<S: Store + ?Sized>(
    shape: &Shape,
    store: &S,
    dead: Owner,
    wake: impl FnOnce(),
) -> Recovered {
    let row = store.row(dead);
    // sync(row-state): release half.
    row.state.store(ROW_RECOVERING, Ordering::Release);
    let done = match shape {
        Shape::Bytes(bytes) => {
            let done = byte_ring::sweep(bytes, store, dead);
            ledger::add(row, REDELIVERED, done.redelivered);
            done
        }
        Shape::Slots(slots, policy) => sweep_slots(slots, *policy, store, dead),
    };
    slot_ring::bump_epoch(store);
    wake();
    ledger::add(row, RECOVERED, 1);
    // sync(row-state): release half.
    row.state.store(ROW_FREE, Ordering::Release);
    done
}

/// Gives up whatever a living participant still holds as it detaches: claims whose guards were
/// leaked. The caller is that participant.
pub fn relinquish<S: Store + ?Sized>(shape: &slot_ring::Shape, store: &S, me: Owner) {
    sweep_slots(shape, Redelivery::Unlimited, store, me);
    slot_ring::bump_epoch(store);
}

fn sweep_slots<S: Store + ?Sized>(
    shape: &slot_ring::Shape,
    policy: Redelivery,
    store: &S,
    dead: Owner,
) -> Recovered {
    let row = store.row(dead);
    ledger::resolve(row, |index| {
        slot_ring::still_writing(shape, store, dead, index)
    });
    #[cfg(not(loom))]
    slot_ring::settle_origins(shape, store, dead);
    let mut done = Recovered {
        participants: 1,
        ..Recovered::default()
    };
    for index in 0..shape.slots() {
        let keep = |attempts| policy.keeps(attempts);
        match slot_ring::sweep_slot(shape, store, dead, index, keep) {
            Some(slot_ring::Swept::Skipped) => done.skipped += 1,
            Some(slot_ring::Swept::GivenBack) => {
                ledger::add(row, REDELIVERED, 1);
                done.redelivered += 1;
            }
            Some(slot_ring::Swept::Dropped) => {
                ledger::add(row, DROPPED, 1);
                done.dropped += 1;
            }
            None => {}
        }
    }
    done
}

/// Whether a participant is, or was, attached in this row.
pub fn in_use<S: Store + ?Sized>(store: &S, owner: Owner) -> bool {
    // sync(row-state): acquire half.
    store.row(owner).state.load(Ordering::Acquire) != ROW_FREE
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::cell::Cell;

    use super::{Owner, Recovered, Redelivery, Shape, Store, recover};
    use crate::layout::{ROW_ATTACHED, ROW_FREE, ROW_RECOVERING};
    use crate::mpmc;
    use crate::protocol::Attachment;
    use crate::protocol::slot_ring::{self, COMMITTED, Consumption, Word};
    use crate::sync::Ordering::Relaxed;

    /// Whoever waits without a bound of its own relies on the wake-up, and a row that is free draws
    /// nobody who would repeat it.
    #[test]
    fn everybody_is_woken_after_the_sweep_and_before_the_row_is_free() {
        let options = mpmc::Options::new(2, 8).participants(3);
        let (producer, consumer) = options.heap().unwrap();
        producer.try_push(1, b"x").unwrap();
        let attachment = consumer.participant().attachment();
        let store = attachment.store();
        let Shape::Slots(slots, _) = attachment.shape() else {
            unreachable!("a ring of slots")
        };
        let dead = Owner::new(3).unwrap();
        let state = &store.row(dead).state;
        state.store(ROW_ATTACHED, Relaxed);
        let mut consumption = Consumption::new();
        consumption.claim(slots, store, dead, &mut false).unwrap();

        let epoch = || store.control().state.recovery_epoch.load(Relaxed);
        let before = epoch();
        let woken = Cell::new(false);
        recover(attachment.shape(), store, dead, || {
            assert_eq!(state.load(Relaxed), ROW_RECOVERING);
            assert_eq!(epoch(), before + 1);
            let word = Word(slots.word(store, 0).load(Relaxed));
            assert_eq!((word.state(), word.attempts()), (COMMITTED, 1));
            woken.set(true);
        });
        assert!(woken.get());
        assert_eq!(state.load(Relaxed), ROW_FREE);
    }

    #[test]
    fn a_policy_keeps_a_record_as_often_as_it_says() {
        let kept = |policy: Redelivery| [0, 1, 2, 3].map(|attempts| policy.keeps(attempts));
        assert_eq!(kept(Redelivery::Unlimited), [true; 4]);
        assert_eq!(kept(Redelivery::Never), [false; 4]);
        assert_eq!(kept(Redelivery::AtMost(2)), [true, true, false, false]);
    }

    #[test]
    fn recoveries_add_up_number_by_number() {
        let of = |n| Recovered {
            participants: n,
            skipped: 2 * n,
            redelivered: 3 * n,
            dropped: 5 * n,
        };
        let mut all = of(1);
        all += of(10);
        assert_eq!(all, of(11));
    }

    /// What a dead one held twice over counts twice, whatever becomes of it.
    #[test]
    fn every_claim_of_the_dead_is_counted() {
        for (policy, told) in [(Redelivery::Unlimited, [2, 0]), (Redelivery::Never, [0, 2])] {
            let options = mpmc::Options::new(4, 8).participants(3).redelivery(policy);
            let (producer, consumer) = options.heap().unwrap();
            let attachment = consumer.participant().attachment();
            let store = attachment.store();
            let Shape::Slots(slots, _) = attachment.shape() else {
                unreachable!("a ring of slots")
            };
            let dead = Owner::new(3).unwrap();
            store.row(dead).state.store(ROW_ATTACHED, Relaxed);
            let mut consumption = Consumption::new();
            for _ in 0..2 {
                producer.try_push(1, b"x").unwrap();
                consumption.claim(slots, store, dead, &mut false).unwrap();
            }
            for _ in 0..2 {
                slot_ring::claim_to_write(slots, store, dead).unwrap();
            }
            let done = recover(attachment.shape(), store, dead, || {});
            assert_eq!((done.participants, done.skipped), (1, 2));
            assert_eq!([done.redelivered, done.dropped], told);
        }
    }
}
