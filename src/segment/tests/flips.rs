//! Each shared word is loaded once before it is checked and used.
//!
//! Handles that trust nobody do everything that they can, while every word of the ring may change
//! just before any access to it: see [`watch`](crate::sync::watch). What was checked is then never
//! what a second load would find. Users see errors or bytes, nothing panics (to leave the data area
//! is a panic: `Store`), and each operation ends after a number of accesses that the ring's size
//! bounds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::super::fork::Private;
use crate::protocol::recovery::Shape;
use crate::protocol::{Attachment, Store, ledger, slot_ring};
use crate::segment::location::Access;
use crate::segment::{AttachOptions, CreateOptions, Location, RecoverOptions, inspect, recover};
use crate::sync::{Ordering, watch};
use crate::{ReadError, TryClaimError, TryReadError, Untrusted, Wait, mpmc, spsc};

/// Slots of the one ring.
const SLOTS: u64 = 8;
/// Bytes of the other one.
const CAPACITY: u64 = 4096;
/// More accesses than any operation on these rings needs: a recovery of all rows looks at all slots
/// for each.
const MAX_ACCESSES: u32 = 4000;

/// Numbers that look like noise and are the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Something else for a word that holds `old`: near it, near what it could be, or anything.
    fn instead_of(&mut self, old: u64) -> u64 {
        match self.below(10) {
            0 => self.below(64),
            1 => self.next(),
            2 => u64::MAX - self.below(9),
            3 => old ^ 1 << self.below(64),
            4 => old.wrapping_add(8 << self.below(12)),
            5 => old.wrapping_sub(8 << self.below(12)),
            // A slot's word: lap, owner, attempts, state.
            6 => self.below(4) << 16 | self.below(6) << 5 | self.below(32),
            7 => old ^ self.below(32),
            // A record's header: tag, length, kind.
            8 => self.below(4) << 32 | self.below(CAPACITY) << 2 | self.below(4),
            _ => old.wrapping_add(1 << 16),
        }
    }
}

/// A ring in a sealed memfd.
fn ring(slots: bool) -> Location {
    let options = CreateOptions::default();
    let memfd = if slots {
        let ring = mpmc::Options::new(SLOTS, 40).participants(4);
        ring.memfd("flips", &options)
    } else {
        spsc::Options::new(CAPACITY).memfd("flips", &options)
    };
    Location::fd(memfd.unwrap())
}

/// The address of the one word that this crate looks at and that lies in no ring.
fn mark_address(at: &Location) -> usize {
    Private::open(|| at.open(Access::Read))
        .unwrap()
        .mark_address()
}

/// Has words change while `body` runs: one access in `odds` finds another value.
fn flipping<T>(at: &Location, seed: u64, odds: u64, body: impl FnOnce(&dyn Fn()) -> T) -> T {
    let mark = mark_address(at);
    let accesses = Rc::new(Cell::new(0));
    let count = Rc::clone(&accesses);
    let mut noise = Noise(seed);
    let watcher = move |_: watch::Access, address: usize, value: u64| {
        count.set(count.get() + 1);
        assert!(count.get() < MAX_ACCESSES, "an operation has no end");
        let flips = address != mark && noise.below(odds) == 0;
        flips.then(|| noise.instead_of(value))
    };
    watch::watched(watcher, || body(&|| accesses.set(0)))
}

fn waiting() -> Wait {
    // Few looks: a waiter's number of accesses is its deadline's affair.
    Wait::block().for_at_most(Duration::from_micros(1))
}

type Bytes = (spsc::Producer<Untrusted>, spsc::Consumer<Untrusted>);
type Slots = (mpmc::Producer<Untrusted>, mpmc::Consumer<Untrusted>);

fn byte_handles(at: &Location) -> Option<Bytes> {
    let options = AttachOptions::default();
    let producer = spsc::Producer::attach_untrusting(at, &options).ok()?;
    let consumer = spsc::Consumer::attach_untrusting(at, &options).ok()?;
    Some((producer, consumer))
}

fn slot_handles(at: &Location) -> Option<Slots> {
    let options = AttachOptions::default();
    let producer = mpmc::Producer::attach_untrusting(at, &options).ok()?;
    let consumer = mpmc::Consumer::attach_untrusting(at, &options).ok()?;
    Some((producer, consumer))
}

fn use_bytes((producer, consumer): &mut Bytes, noise: &mut Noise, at: &Location) {
    let mut payload = Vec::new();
    match noise.below(16) {
        0..5 => {
            let len = noise.below(CAPACITY / 2);
            let pushed = producer.try_push(7, &vec![7; usize::try_from(len).unwrap()]);
            assert_ne!(pushed, Err(TryClaimError::Forked));
        }
        5..10 => {
            let popped = consumer.try_pop(&mut payload);
            assert_ne!(popped, Err(TryReadError::Forked));
            assert!(payload.len() <= consumer.max_record());
        }
        10 => drop(producer.push(7, b"waited for", waiting())),
        11 => drop(consumer.pop(&mut payload, waiting())),
        12 => {
            consumer.rewind();
            consumer.release_all();
            let _ = (producer.peer(), consumer.peer());
            assert!(producer.backlog() <= CAPACITY && consumer.backlog() <= CAPACITY);
        }
        13 => producer.close(),
        14 => producer.reopen(),
        _ => look_and_mend(at),
    }
}

fn use_slots((producer, consumer): &mut Slots, noise: &mut Noise, at: &Location) {
    let mut payload = Vec::new();
    match noise.below(16) {
        0..5 => {
            let len = noise.below(41);
            let pushed = producer.try_push(7, &vec![7; usize::try_from(len).unwrap()]);
            assert_ne!(pushed, Err(TryClaimError::Forked));
        }
        5..11 => {
            let popped = consumer.try_pop(&mut payload);
            assert_ne!(popped, Err(TryReadError::Forked));
            assert!(payload.len() <= consumer.max_record());
        }
        11 => drop(producer.push(7, b"waited for", waiting())),
        12 => drop(consumer.pop(&mut payload, waiting())),
        13 => producer.close(),
        14 => {
            producer.reopen();
            assert!(producer.backlog() <= SLOTS);
        }
        _ => look_and_mend(at),
    }
}

fn look_and_mend(at: &Location) {
    let _ = inspect(at);
    let _ = recover(at, &RecoverOptions::default());
}

/// Attaches, uses and detaches, again and again, with words changing all the while.
fn suffer<H>(
    slots: bool,
    attach: fn(&Location) -> Option<H>,
    perform: fn(&mut H, &mut Noise, &Location),
) {
    let mut done = 0;
    for seed in 1..400 {
        let at = ring(slots);
        let mut noise = Noise(seed * 31);
        // From every access to one in 64, so that what is deep is reached as well.
        flipping(&at, seed, 1 << (seed % 7), |begin| {
            for _ in 0..4 {
                begin();
                let Some(mut handles) = attach(&at) else {
                    continue;
                };
                for _ in 0..16 {
                    begin();
                    perform(&mut handles, &mut noise, &at);
                    done += 1;
                }
                begin();
            }
        });
    }
    assert!(done > 3000, "only {done} operations: nobody could attach");
}

#[test]
fn words_of_a_byte_ring_may_change_between_any_two_loads() {
    suffer(false, byte_handles, use_bytes);
}

#[test]
fn words_of_a_slot_ring_may_change_between_any_two_loads() {
    suffer(true, slot_handles, use_slots);
}

/// Chance never keeps a walk going for long: here every slot turns out to be two laps further than
/// the one before.
#[test]
fn a_walk_after_words_that_run_ahead_of_it_ends() {
    let at = ring(true);
    let (producer, consumer) = slot_handles(&at).unwrap();
    let participants = [producer.participant(), consumer.participant()];
    let slots = participants.map(|participant| {
        let first = std::ptr::from_ref(participant.store().word(0)).addr();
        first..first + usize::try_from(SLOTS * 64).unwrap()
    });
    let mut lap = 0;
    let mut accesses = 0;
    let running_ahead = move |_: watch::Access, address: usize, _: u64| {
        accesses += 1;
        assert!(accesses < 3 * MAX_ACCESSES, "a walk has no end");
        slots.iter().any(|slots| slots.contains(&address)).then(|| {
            lap += 2;
            lap << 16 | slot_ring::WRITING
        })
    };
    let [shape, _] = participants.map(|participant| {
        let Shape::Slots(shape, _) = *participant.attachment().shape() else {
            unreachable!()
        };
        shape
    });
    watch::watched(running_ahead, || {
        assert_eq!(producer.try_push(1, b""), Err(TryClaimError::Full));
        assert_eq!(consumer.try_pop(&mut Vec::new()), Err(TryReadError::Empty));
        slot_ring::frontier(&shape, producer.participant().store());
    });
}

/// How often each word was loaded, by its offset in the ring.
fn loads_of(at: &Location, operation: impl FnOnce()) -> BTreeMap<usize, u32> {
    let mark = mark_address(at);
    let loads = Rc::new(RefCell::new(BTreeMap::new()));
    let told = Rc::clone(&loads);
    let watcher = move |access: watch::Access, address: usize, _: u64| {
        if access == watch::Access::Load && address != mark {
            *told.borrow_mut().entry(address).or_insert(0) += 1;
        }
        None
    };
    watch::watched(watcher, operation);
    Rc::try_unwrap(loads).unwrap().into_inner()
}

#[track_caller]
fn assert_once(what: &str, loads: BTreeMap<usize, u32>) {
    assert!(!loads.is_empty(), "{what}: nothing was watched");
    for (address, count) in loads {
        assert_eq!(count, 1, "{what}: loads of the word at {address:#x}");
    }
}

#[test]
fn an_operation_on_bytes_that_nobody_disturbs_loads_a_word_once() {
    let at = ring(false);
    let (mut producer, mut consumer) = byte_handles(&at).unwrap();
    let mut payload = Vec::new();
    for _ in 0..3 {
        let loads = loads_of(&at, || producer.try_push(1, b"once").unwrap());
        assert_once("push", loads);
        let loads = loads_of(&at, || assert_eq!(consumer.try_pop(&mut payload), Ok(1)));
        assert_once("pop", loads);
        let loads = loads_of(&at, || {
            assert_eq!(consumer.try_pop(&mut payload), Err(TryReadError::Empty));
        });
        assert_once("pop of nothing", loads);
    }
}

#[test]
fn an_operation_on_slots_that_nobody_disturbs_loads_a_word_once() {
    let at = ring(true);
    let (producer, consumer) = slot_handles(&at).unwrap();
    let mut payload = Vec::new();
    // The first look of a consumer walks over all slots for what was given back.
    assert_eq!(consumer.try_pop(&mut payload), Err(TryReadError::Empty));
    for _ in 0..3 {
        let loads = loads_of(&at, || producer.try_push(1, b"once").unwrap());
        assert_once("push", loads);
        let loads = loads_of(&at, || assert_eq!(consumer.try_pop(&mut payload), Ok(1)));
        assert_once("pop", loads);
        let loads = loads_of(&at, || {
            assert_eq!(consumer.try_pop(&mut payload), Err(TryReadError::Empty));
        });
        assert_once("pop of nothing", loads);
    }
}

#[test]
fn a_row_whose_abort_is_pending_is_resolved_by_one_load_of_each_word() {
    let at = ring(true);
    let (producer, _consumer) = slot_handles(&at).unwrap();
    let participant = producer.participant();
    let row = participant.store().row(participant.me());
    row.abort_slot.store(4, Ordering::Relaxed);
    let loads = loads_of(&at, || ledger::resolve(row, |_| true));
    assert_eq!(loads.len(), 2, "{loads:x?}");
    assert!(loads.values().all(|count| *count == 1), "{loads:x?}");
}

/// Whoever waits looks, and then reads: a header that only the look has found is no record, and no
/// reason to wait for longer than was asked.
#[test]
fn a_header_that_is_taken_back_before_it_is_read_is_damage() {
    let at = ring(false);
    let (_producer, mut consumer) = byte_handles(&at).unwrap();
    let first = std::ptr::from_ref(consumer.participant().store().word(0)).addr();
    let mut loads = 0;
    let for_one_look = move |_: watch::Access, address: usize, value: u64| {
        if address != first {
            return None;
        }
        loads += 1;
        assert!(loads < MAX_ACCESSES, "a wait has no end");
        // The first one is the straight line's, the second one the look's.
        (loads == 2).then_some(value | 8 << 2 | 1)
    };
    let wait = Wait::block().for_at_most(Duration::from_secs(60));
    let outcome = watch::watched(for_one_look, || consumer.pop(&mut Vec::new(), wait));
    assert!(matches!(outcome, Err(ReadError::Damaged(_))), "{outcome:?}");
}
