//! A look at the ring that changes nothing: may somebody who waits go on?
//!
//! Whoever sleeps in a call looks again at each bound, by trying. A helper that sleeps for an epoll
//! loop cannot try. So it takes a glance when the loop arms, and at each bound it looks whether
//! what is there now lets the loop go on, and whether the words that end waits have changed since.
//! A waker that is stopped between its publication and its wake-up delays the loop by one bound.
//!
//! # Invariants
//! 1. What a try after the glance would have found is seen by the next look, or was found by that
//!    try: records, skipped slots and space show by themselves, all else by a word of the glance.
//! 2. A look that is wrong costs one wake-up too many.

use super::recovery::Shape;
use super::{Store, byte_ring, slot_ring, switches};
use crate::sync::Ordering;

/// The words that end waits and show nothing at the hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    is_closed: bool,
    /// Another one tells of records that were given back.
    recovery_epoch: u64,
    /// SPSC: another one tells of space.
    head: u64,
    /// SPSC: a closed ring is drained only once the mark is gone.
    is_claimed: bool,
}

impl Glance {
    /// Before the waiter's last try.
    pub fn new<S: Store + ?Sized>(shape: &Shape, store: &S) -> Self {
        let control = store.control();
        // relaxed: whoever goes on looks again, here and below.
        let recovery_epoch = control.state.recovery_epoch.load(Ordering::Relaxed);
        let (head, is_claimed) = match shape {
            Shape::Slots(..) => (0, false),
            Shape::Bytes(_) => (
                // relaxed: as above.
                control.head.position.load(Ordering::Relaxed),
                // relaxed: as above.
                control.tail.claim.load(Ordering::Relaxed) != 0,
            ),
        };
        Self {
            is_closed: switches::is_closed(store),
            recovery_epoch,
            head,
            is_claimed,
        }
    }

    /// Whether whoever waits for a record may go on.
    pub fn has_record<S: Store + ?Sized>(&self, shape: &Shape, store: &S) -> bool {
        let now = Self::new(shape, store);
        // Space is not what it waits for, and a claim is no record yet.
        let same = Self {
            head: self.head,
            is_claimed: self.is_claimed && now.is_claimed,
            ..now
        };
        same != *self
            || match shape {
                Shape::Bytes(bytes) => byte_ring::has_record(bytes, store),
                Shape::Slots(slots, _) => {
                    slot_ring::has_record(slots, store)
                        || now.is_closed && slot_ring::is_drained(slots, store)
                }
            }
    }

    /// Whether whoever waits for space may go on.
    pub fn has_space<S: Store + ?Sized>(&self, shape: &Shape, store: &S) -> bool {
        let now = Self::new(shape, store);
        (now.is_closed, now.head) != (self.is_closed, self.head)
            || matches!(shape, Shape::Slots(slots, _) if slot_ring::has_space(slots, store))
    }
}

#[cfg(test)]
mod tests {
    use super::Glance;
    use crate::protocol::byte_ring::{Reader, Writer};
    use crate::protocol::recovery::Shape;
    use crate::protocol::slot_ring::{self, Consumption, Held};
    use crate::protocol::{Attachment, Owner, Store, switches};
    use crate::sync::Ordering::Relaxed;
    use crate::{Heap, mpmc, spsc};

    /// A ring of two slots, whose words change and nobody is woken.
    struct Slots {
        producer: mpmc::Producer<Heap>,
        _consumer: mpmc::Consumer<Heap>,
    }

    const WRITER: Owner = Owner::PRODUCER;
    const READER: Owner = Owner::CONSUMER;

    impl Slots {
        fn new() -> Self {
            let (producer, _consumer) = mpmc::Options::new(2, 8).heap().unwrap();
            Self {
                producer,
                _consumer,
            }
        }

        fn shape(&self) -> &Shape {
            self.producer.participant().attachment().shape()
        }

        fn slots(&self) -> &slot_ring::Shape {
            match self.shape() {
                Shape::Slots(slots, _) => slots,
                Shape::Bytes(_) => unreachable!("a ring of slots"),
            }
        }

        fn store(&self) -> &impl Store {
            self.producer.participant().store()
        }

        fn glance(&self) -> Glance {
            Glance::new(self.shape(), self.store())
        }

        fn claim(&self) -> Held {
            slot_ring::claim_to_write(self.slots(), self.store(), WRITER).unwrap()
        }

        fn read(&self) -> Held {
            let mut consumption = Consumption::new();
            let read = consumption.claim(self.slots(), self.store(), READER, &mut false);
            read.unwrap()
        }

        fn has_record(&self, glance: Glance) -> bool {
            glance.has_record(self.shape(), self.store())
        }

        fn has_space(&self, glance: Glance) -> bool {
            glance.has_space(self.shape(), self.store())
        }
    }

    #[test]
    fn what_lets_a_consumer_of_slots_go_on_shows() {
        let ring = Slots::new();
        let glance = ring.glance();
        assert!(!ring.has_record(glance), "an empty ring");
        let [first, second] = [ring.claim(), ring.claim()];
        slot_ring::commit(ring.store(), second, 0, 0);
        assert!(!ring.has_record(glance), "behind a claim");
        slot_ring::commit(ring.store(), first, 0, 0);
        assert!(ring.has_record(glance), "a record");
        let (one, other) = (ring.read(), ring.read());
        assert!(!ring.has_record(glance), "both are being read");
        // The hint of one who died before it stored that.
        ring.store().control().head.position.store(0, Relaxed);
        assert!(!ring.has_record(glance), "both are being read");
        slot_ring::requeue(ring.store(), READER, one);
        ring.store().control().head.position.store(2, Relaxed);
        assert!(ring.has_record(glance), "one was given back");
        assert!(!ring.has_record(ring.glance()), "which that glance knew");
        let one = ring.read();
        slot_ring::release(ring.slots(), ring.store(), one);
        slot_ring::release(ring.slots(), ring.store(), other);
        let skipped = ring.claim();
        let glance = ring.glance();
        ring.store().control().head.position.store(0, Relaxed);
        assert!(!ring.has_record(glance), "a claim");
        slot_ring::abort(ring.slots(), ring.store(), WRITER, skipped);
        assert!(ring.has_record(glance), "a slot to pass");
    }

    #[test]
    fn the_end_of_a_ring_of_slots_shows() {
        let ring = Slots::new();
        let held = ring.claim();
        let (empty, waiting) = (ring.glance(), ring.glance());
        switches::close(ring.store());
        assert!(ring.has_record(empty), "closed");
        assert!(ring.has_space(waiting), "closed");
        let closed = ring.glance();
        assert!(!ring.has_record(closed), "somebody writes");
        slot_ring::commit(ring.store(), held, 0, 0);
        let last = ring.read();
        let closed = ring.glance();
        assert!(!ring.has_record(closed), "somebody reads");
        slot_ring::release(ring.slots(), ring.store(), last);
        assert!(ring.has_record(closed), "drained");
    }

    #[test]
    fn what_lets_a_producer_of_slots_go_on_shows() {
        let ring = Slots::new();
        let glance = ring.glance();
        assert!(ring.has_space(glance), "an empty ring");
        for held in [ring.claim(), ring.claim()] {
            slot_ring::commit(ring.store(), held, 0, 0);
        }
        assert!(!ring.has_space(glance), "a full one");
        let (one, other) = (ring.read(), ring.read());
        assert!(!ring.has_space(glance), "both are being read");
        slot_ring::release(ring.slots(), ring.store(), other);
        assert!(!ring.has_space(glance), "behind one that is being read");
        slot_ring::release(ring.slots(), ring.store(), one);
        assert!(ring.has_space(glance), "a free slot");
    }

    #[test]
    fn what_lets_either_side_of_a_byte_ring_go_on_shows() {
        let (producer, _consumer) = spsc::Options::new(4096).heap().unwrap();
        let attachment = producer.participant().attachment();
        let (shape, store) = (attachment.shape(), attachment.store());
        let Shape::Bytes(bytes) = shape else {
            unreachable!("a ring of bytes")
        };
        let mut writer = Writer::resume(bytes, store).unwrap();
        let mut reader = Reader::resume(bytes, store).unwrap();
        let glance = Glance::new(shape, store);
        let span = writer.claim(bytes, store, 8).unwrap();
        assert!(!glance.has_record(shape, store), "a claim");
        writer.commit(bytes, store, span, 0, 8);
        assert!(glance.has_record(shape, store), "a record");
        reader.read(bytes, store).unwrap();
        assert!(!glance.has_record(shape, store), "it is read");
        assert!(!glance.has_space(shape, store), "and not released");
        reader.release_all(store);
        assert!(!glance.has_record(shape, store), "space is no record");
        assert!(glance.has_space(shape, store), "it is released");

        writer.claim(bytes, store, 8).unwrap();
        switches::close(store);
        assert!(glance.has_record(shape, store), "closed");
        let closed = Glance::new(shape, store);
        assert!(!closed.has_record(shape, store), "somebody writes");
        assert!(!closed.has_space(shape, store), "it was closed before");
        writer.unclaim(store);
        assert!(closed.has_record(shape, store), "and has given that up");
    }
}
