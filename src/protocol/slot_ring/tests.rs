//! Hints that lag, as one leaves them who was interrupted before he stored his: every walk from
//! there ends at the same place.

use super::origin::announce;
use super::{
    Consumption, Held, Shape, abort, claim_to_write, commit, commit_from, frontier, has_room,
    newest_origin, release, settle_origins, still_writing, take_seat,
};
use crate::layout::{FULL, OriginEntry, ROW_ATTACHED};
use crate::protocol::byte_ring::Origin;
use crate::protocol::recovery;
use crate::protocol::{Attachment, Owner, Store};
use crate::sync::Ordering::Relaxed;
use crate::{Heap, Wait, mpmc};
use std::time::Duration;

const WRITER: Owner = Owner::PRODUCER;
const READER: Owner = Owner::CONSUMER;

/// A ring, of four slots unless said otherwise.
struct Ring {
    producer: mpmc::Producer<Heap>,
    _consumer: mpmc::Consumer<Heap>,
}

impl Ring {
    fn new() -> Self {
        Self::of(4)
    }

    fn of(slots: u64) -> Self {
        let (producer, _consumer) = mpmc::Options::new(slots, 8).heap().expect("memory");
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

    fn position(&self, held: Held) -> u64 {
        held.position(self.shape(), self.store())
    }

    fn push(&self) {
        commit(self.store(), self.claim(), 0, 0);
    }

    /// The position of the record read, and whether space was made on the way.
    fn read(&self) -> (Option<u64>, bool) {
        let mut made_space = false;
        let read = Consumption::new().claim(self.shape(), self.store(), READER, &mut made_space);
        let position = read.ok().map(|held| self.position(held));
        (position, made_space)
    }

    /// Reads and releases `records` records.
    fn drain(&self, records: u64) {
        for _ in 0..records {
            let (shape, store) = (self.shape(), self.store());
            let read = Consumption::new().claim(shape, store, READER, &mut false);
            release(shape, store, read.expect("a record"));
        }
    }

    fn frontier(&self) -> u64 {
        frontier(self.shape(), self.store())
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
    assert_eq!(ring.position(ring.claim()), 2);
    ring.set_hints(0, 0);
    assert_eq!(
        ring.position(ring.claim()),
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

#[test]
fn the_frontier_is_found_from_any_hint_before_it() {
    let ring = Ring::new();
    for position in 0..4 {
        ring.set_hints(0, 0);
        assert_eq!(ring.frontier(), position);
        if position == 2 {
            let _written_for_ever = ring.claim();
        } else {
            ring.push();
        }
    }
    ring.set_hints(0, 0);
    assert_eq!(ring.frontier(), 4, "where the ring is full");
    ring.drain(2);
    ring.set_hints(0, 0);
    assert_eq!(ring.frontier(), 4, "behind slots that are free a lap later");
    ring.push();
    ring.set_hints(0, 0);
    assert_eq!(
        ring.frontier(),
        5,
        "behind a slot that was claimed a lap later"
    );
}

#[test]
fn a_hint_may_lag_by_a_lap_of_a_ring_of_any_size() {
    const SLOTS: u64 = 256;
    let ring = Ring::of(SLOTS);
    for _ in 0..SLOTS {
        ring.push();
    }
    ring.set_hints(0, 0);
    assert_eq!(ring.frontier(), SLOTS);
    ring.drain(SLOTS);
    ring.set_hints(0, 0);
    assert_eq!(ring.position(ring.claim()), SLOTS);
}

#[test]
fn room_is_where_a_slot_is_free_or_was() {
    let ring = Ring::of(8);
    let is_room = || [0, 1, 2].map(|room| has_room(ring.shape(), ring.store(), room));
    (0..8).for_each(|_| ring.push());
    assert_eq!(is_room(), [false; 3], "full");
    ring.drain(2);
    assert_eq!(is_room(), [true, true, false]);
    let _written = ring.claim();
    assert_eq!(is_room(), [true, false, false]);
    ring.set_hints(8, 0);
    assert_eq!(is_room(), [true, true, false], "others were faster");
}

/// The slot that it would like to see free is read for ever; the one before it is not.
#[test]
fn a_producer_that_waits_for_room_takes_the_one_slot_there_is() {
    for wait in [Wait::spin(), Wait::yielding(), Wait::block()] {
        let (producer, consumer) = mpmc::Options::new(16, 8).heap().expect("memory");
        for _ in 0..16 {
            producer.try_push(0, b"").expect("a free slot");
        }
        let first = consumer.try_read().expect("the first");
        let read_for_ever = consumer.try_read().expect("the second");
        let refused = &consumer.participant().store().row(WRITER).counters[FULL];
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                let claim = producer.claim(8, wait.for_at_most(Duration::from_secs(20)));
                claim.map(mpmc::Claim::abort)
            });
            while refused.load(Relaxed) == 0 {
                std::hint::spin_loop();
            }
            first.release();
            waiting.join().expect("no panic").expect("the first slot");
        });
        read_for_ever.release();
    }
}

#[test]
fn a_slot_is_still_written_until_its_own_claim_ends() {
    let ring = Ring::new();
    let held = ring.claim();
    let is_written_by =
        |owner| still_writing(ring.shape(), ring.store(), owner, held.index(ring.shape()));
    assert!(is_written_by(WRITER));
    assert!(!is_written_by(READER));
    commit(ring.store(), held, 0, 0);
    assert!(!is_written_by(WRITER));
}

fn from(records: u64) -> Origin {
    Origin {
        ring_id: [7; 16],
        generation: 8,
        life: records ^ 9,
        records,
    }
}

/// In the order in which they are stored.
fn words(entry: &OriginEntry) -> [&crate::sync::AtomicU64; 8] {
    let [low, high] = &entry.ring_id;
    let OriginEntry {
        records,
        generation,
        life,
        position,
        owner,
        end,
        ..
    } = entry;
    [records, low, high, generation, life, position, owner, end]
}

/// The bridge dies after each store that says where its next record comes from, after the commit,
/// and when it has claimed that very slot once more.
#[test]
fn an_origin_comes_true_with_its_record_whoever_sweeps() {
    const STORES: usize = 8;
    const COMMITTED: usize = STORES + 1;
    const CLAIMED_AGAIN: usize = STORES + 2;
    for (published, death) in (0..4_u64).flat_map(|n| (0..=CLAIMED_AGAIN).map(move |d| (n, d))) {
        let options = mpmc::Options::new(2, 8).participants(3);
        let (producer, consumer) = options.heap().expect("memory");
        let attachment = consumer.participant().attachment();
        let store = attachment.store();
        let recovery::Shape::Slots(slots, _) = attachment.shape() else {
            unreachable!("a ring of slots")
        };
        let read = || consumer.try_read().expect("a record").release();
        let dead = Owner::new(3).expect("a row");
        store.row(dead).state.store(ROW_ATTACHED, Relaxed);
        store.row(dead).lives.store(7, Relaxed);
        assert!(take_seat(store, dead));
        for number in 1..=published {
            let held = claim_to_write(slots, store, dead).expect("a free slot");
            commit_from(slots, store, dead, held, (1, 0), &from(100 * number));
            read();
        }
        let held = claim_to_write(slots, store, dead).expect("a free slot");
        let entries = &store.control().origins.entries;
        let before = entries
            .each_ref()
            .map(|entry| words(entry).map(|word| word.load(Relaxed)));
        announce(store, dead, held.position(slots, store), &from(900));
        for (entry, old) in entries.iter().zip(before) {
            for (word, old) in words(entry).iter().zip(old).skip(death) {
                word.store(old, Relaxed);
            }
        }
        let mut expected = (published > 0).then(|| from(100 * published));
        if death >= COMMITTED {
            commit(store, held, 1, 0);
            expected = Some(from(900));
        }
        if death == CLAIMED_AGAIN {
            read();
            for _ in 0..2 {
                claim_to_write(slots, store, dead).expect("a free slot");
            }
        }
        let me = producer.participant().me();
        let state = format!("{published} published, death {death}");
        assert!(!take_seat(store, me), "it is not swept: {state}");
        // A sweeper that dies here leaves the rest to the next one.
        settle_origins(slots, store, dead);
        recovery::recover(attachment.shape(), store, dead, || {});
        assert!(producer.begin_copying(), "{state}");
        assert_eq!(producer.origin(), expected, "{state}");
        assert_eq!(newest_origin(store), expected);
        if death == COMMITTED {
            read();
        }
        // Passes what was skipped.
        assert!(consumer.try_read().is_err());
        let claim = producer.try_claim(0).expect("a free slot");
        claim.commit_from(1, &from(901));
        assert_eq!(producer.origin(), Some(from(901)), "{state}");
    }
}

#[test]
fn the_seat_is_one_life_of_one_row() {
    let options = mpmc::Options::new(2, 8).participants(4);
    let (producer, consumer) = options.heap().expect("memory");
    let store = consumer.participant().store();
    let other = Owner::new(3).expect("a row");
    let row = store.row(other);
    row.state.store(ROW_ATTACHED, Relaxed);
    row.lives.store(7, Relaxed);
    assert!(take_seat(store, other) && take_seat(store, other));
    assert!(!producer.begin_copying() && producer.origin().is_none());
    row.lives.store(8, Relaxed);
    assert!(producer.begin_copying(), "the row is another's now");
    assert!(!take_seat(store, other));
    store.control().seat.copier.store(u64::MAX, Relaxed);
    assert!(producer.begin_copying(), "there is no such row");
}
