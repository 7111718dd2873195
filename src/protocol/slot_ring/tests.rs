//! Hints that lag, as one leaves them who was interrupted before he stored his: every walk from
//! there ends at the same place.

use super::{Consumption, Held, Shape, abort, claim_to_write, commit};
use crate::protocol::recovery;
use crate::protocol::{Attachment, Owner, Store};
use crate::sync::Ordering::Relaxed;
use crate::{Heap, mpmc};

const WRITER: Owner = Owner::PRODUCER;
const READER: Owner = Owner::CONSUMER;

/// A ring of four slots.
struct Ring {
    producer: mpmc::Producer<Heap>,
    _consumer: mpmc::Consumer<Heap>,
}

impl Ring {
    fn new() -> Self {
        let (producer, _consumer) = mpmc::Options::new(4, 8).heap().expect("memory");
        Self {
            producer,
            _consumer,
        }
    }

    fn store(&self) -> &impl Store {
        self.producer.participant().store()
    }

    fn shape(&self) -> &Shape {
        match self.producer.participant().attachment().shape() {
            recovery::Shape::Slots(slots, _) => slots,
            recovery::Shape::Bytes(_) => unreachable!("a ring of slots"),
        }
    }

    fn claim(&self) -> Held {
        claim_to_write(self.shape(), self.store(), WRITER).expect("a free slot")
    }

    fn push(&self) {
        commit(self.store(), self.claim(), 0, 0);
    }

    /// The position of the record read, and whether space was made on the way.
    fn read(&self) -> (Option<u64>, bool) {
        let mut made_space = false;
        let read = Consumption::new().claim(self.shape(), self.store(), READER, &mut made_space);
        (read.ok().map(|held| held.position), made_space)
    }

    fn set_hints(&self, tail: u64, head: u64) {
        self.store().control().tail.hint.store(tail, Relaxed);
        self.store().control().head.position.store(head, Relaxed);
    }
}

#[test]
fn claims_pass_what_others_write_and_read() {
    let ring = Ring::new();
    ring.push();
    assert_eq!(ring.read(), (Some(0), false));
    ring.push();
    assert_eq!(ring.claim().position, 2);
    ring.set_hints(0, 0);
    assert_eq!(
        ring.claim().position,
        3,
        "behind READING, COMMITTED, WRITING"
    );
    ring.set_hints(0, 0);
    assert!(claim_to_write(ring.shape(), ring.store(), WRITER).is_err());
    assert_eq!(ring.read(), (Some(1), false), "behind READING");
    ring.set_hints(0, 0);
    assert_eq!(ring.read(), (None, false), "before WRITING");
}

#[test]
fn who_passes_a_skipped_slot_says_that_there_is_space() {
    let ring = Ring::new();
    let [skipped, other] = [ring.claim(), ring.claim()];
    abort(ring.shape(), ring.store(), WRITER, skipped);
    assert_eq!(ring.read(), (None, true));
    ring.set_hints(0, 0);
    assert_eq!(ring.read(), (None, false), "it was passed before");
    commit(ring.store(), other, 0, 0);
    assert_eq!(ring.read(), (Some(1), false));
}
