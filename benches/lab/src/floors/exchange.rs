//! What an exchange takes that nobody else wants the line of.
//!
//! A claim of the slot ring is one exchange, which cannot begin before the stores ahead of it are
//! made: whatever else a record needs, each side waits for one of these.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::contender::{Conditions, Contender, Fault, Found};
use crate::players;
use crate::transport::Place;
use crate::work::Work;

/// A store of 64 bytes and an exchange of the word beside them, in one process, again and again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchange;

/// A word and a payload, as a slot has them.
#[derive(Default)]
#[repr(align(128))]
struct Slot {
    word: AtomicU64,
    payload: [AtomicU64; 8],
}

impl Contender for Exchange {
    fn name(&self) -> String {
        "64 B written, and an exchange".to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn run(&self, _: &Work, conditions: &Conditions) -> Result<Found, Fault> {
        let slot = Slot::default();
        players::play_alone(conditions, || {
            let seen = slot.word.load(Ordering::Relaxed);
            for word in &slot.payload {
                word.store(seen, Ordering::Relaxed);
            }
            let next = seen.wrapping_add(1);
            let made = slot
                .word
                .compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed);
            assert!(made.is_ok(), "somebody else has the word");
        })
    }
}
