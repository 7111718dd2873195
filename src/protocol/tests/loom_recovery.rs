//! The slot ring: a participant dies before any of its steps and is recovered while others live.
//!
//! A death is a thread that stops; whoever joins it has what the holder of the dead one's lock has
//! in a mapped file: every store of the dead one, and nobody else's.

use loom::thread;

use super::ops::byte_of;
use super::ops::slots::{drain, drain_to_the_end, pop, push, try_push};
use super::{Bare, Mortal, Steps, check, check_every_death, slot_ring_for, turn};
use crate::layout::{REDELIVERED, SKIPPED};
use crate::protocol::slot_ring::{self, Consumption, Held};
use crate::protocol::{Owner, Store, ledger, recovery};
use crate::sync::Ordering;
use crate::{Wait, mpmc};

/// The row of the one who dies; the ring's own handles have rows 1 and 2.
const DEAD: u16 = 3;

fn dead() -> Owner {
    Owner::new(DEAD).expect("a row's number")
}

/// What a producer does with a record, step by step.
fn push_and_die(bare: &Bare, ring: &Mortal, tag: u32) {
    let shape = bare.slots();
    let Ok(held) = slot_ring::claim_to_write(&shape, ring, dead()) else {
        return;
    };
    ring.write(held.payload_offset(&shape), &[byte_of(tag)]);
    slot_ring::commit(ring, held, tag, 1);
}

/// What a consumer does with a record, step by step. Returns the tag that it claimed.
fn claim_and_read(bare: &Bare, ring: &Mortal) -> Option<Held> {
    let shape = bare.slots();
    let held = Consumption::new()
        .claim(&shape, ring, dead(), &mut false)
        .ok()?;
    let (tag, len) = slot_ring::tag_and_len(&shape, ring, held).expect("a sound record");
    let offset = held.payload_offset(&shape);
    assert_eq!(ring.read(offset, len as usize), [byte_of(tag)]);
    Some(held)
}

/// Dies in a thread of its own, and is recovered by whoever joins it.
fn dying(
    bare: &Bare,
    steps: &Steps,
    life: impl FnOnce(&Bare, &Mortal) + 'static,
) -> thread::JoinHandle<bool> {
    let (bare, steps) = (bare.clone(), steps.clone());
    thread::spawn(move || bare.live(&steps, |ring| life(&bare, ring)))
}

#[test]
fn a_producer_dead_at_any_step_holds_nobody_up() {
    check_every_death(Some(2), |steps| {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        bare.occupy(dead());
        let death = dying(&bare, &steps, |bare, ring| push_and_die(bare, ring, 1));
        let writing = thread::spawn(move || push(&producer, 2));
        let mut seen = drain(&consumer);
        let survived = death.join().unwrap();
        let skipped = bare.recover(dead()).skipped;
        while !seen.contains(&2) {
            seen.push(pop(&consumer));
        }
        writing.join().unwrap();
        seen.extend(drain(&consumer));
        assert!(bare.is_free(dead()));
        assert_eq!(bare.counter(dead(), SKIPPED), skipped);
        assert!(!survived || skipped == 0);
        // 1 is there if it was committed, in either place.
        seen.retain(|tag| *tag != 1);
        assert_eq!(seen, [2]);
    });
}

#[test]
fn a_slot_written_by_a_dead_producer_is_written_again() {
    // The bytes were touched by the dead; only the recoverer's exchange orders them.
    check(Some(2), || {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        bare.occupy(dead());
        let shape = bare.slots();
        let recovering = thread::spawn({
            let bare = bare.clone();
            move || {
                turn();
                let claimed = slot_ring::claim_to_write(&shape, &*bare.ring, dead());
                let Ok(held) = claimed else { return };
                drop(bare.ring.write_lease(held.payload_offset(&shape), 1));
                bare.recover(dead());
            }
        });
        let taken = (1..=2).filter(|tag| try_push(&producer, *tag)).count();
        let mut seen = drain(&consumer).len();
        let more = (3..=4).filter(|tag| try_push(&producer, *tag)).count();
        recovering.join().unwrap();
        seen += drain(&consumer).len();
        assert_eq!(seen, taken + more);
    });
}

#[test]
fn a_consumer_dead_at_any_step_gives_its_record_to_another() {
    check_every_death(Some(3), |steps| {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        bare.occupy(dead());
        push(&producer, 1);
        push(&producer, 2);
        let death = dying(&bare, &steps, |bare, ring| {
            if let Some(held) = claim_and_read(bare, ring) {
                slot_ring::release(&bare.slots(), ring, held);
            }
        });
        let mut seen = drain(&consumer);
        let survived = death.join().unwrap();
        let redelivered = bare.recover(dead()).redelivered;
        assert_eq!(bare.counter(dead(), REDELIVERED), redelivered);
        seen.extend(drain(&consumer));
        seen.sort_unstable();
        seen.dedup();
        // Nothing was released but by the one who lived on.
        assert!(seen == [1, 2] || survived && seen.len() == 1, "{seen:?}");
        assert!(try_push(&producer, 3) && try_push(&producer, 4));
        assert_eq!(drain(&consumer), [3, 4]);
    });
}

#[test]
fn the_bytes_read_by_a_dead_consumer_wait_for_its_recovery() {
    for policy in [mpmc::Redelivery::Unlimited, mpmc::Redelivery::Never] {
        check(Some(2), move || {
            let options = mpmc::Options::new(2, 8).participants(3).redelivery(policy);
            let (producer, consumer) = options.heap().expect("a possible ring");
            let bare = Bare::of(producer.participant().attachment());
            bare.occupy(dead());
            push(&producer, 1);
            let recovering = thread::spawn({
                let bare = bare.clone();
                move || {
                    turn();
                    let ring = &*bare.ring;
                    let shape = bare.slots();
                    let claimed = Consumption::new().claim(&shape, ring, dead(), &mut false);
                    if let Ok(held) = claimed {
                        drop(ring.read_lease(held.payload_offset(&shape), 1));
                    }
                    bare.recover(dead());
                }
            });
            let mut seen = drain(&consumer);
            let more = (2..=4).filter(|tag| try_push(&producer, *tag));
            let taken = more.collect::<Vec<_>>();
            recovering.join().unwrap();
            seen.extend(drain(&consumer));
            seen.retain(|tag| *tag != 1);
            seen.sort_unstable();
            assert!(policy == mpmc::Redelivery::Never || seen == taken);
        });
    }
}

#[test]
fn a_producer_dead_between_claim_and_hint_costs_a_walk() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        bare.occupy(dead());
        let shape = bare.slots();
        slot_ring::claim_to_write(&shape, &*bare.ring, dead()).unwrap();
        bare.ring.control().tail.hint.store(0, Ordering::Relaxed); // As if never stored.
        let recovering = thread::spawn(move || assert_eq!(bare.recover(dead()).skipped, 1));
        push(&producer, 2);
        assert_eq!(pop(&consumer), 2);
        recovering.join().unwrap();
    });
}

#[test]
fn a_consumer_dead_between_claim_and_hint_costs_a_walk() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        bare.occupy(dead());
        push(&producer, 1);
        push(&producer, 2);
        let shape = bare.slots();
        Consumption::new()
            .claim(&shape, &*bare.ring, dead(), &mut false)
            .unwrap();
        bare.ring
            .control()
            .head
            .position
            .store(0, Ordering::Relaxed); // As if never stored.
        let recovering = thread::spawn(move || assert_eq!(bare.recover(dead()).redelivered, 1));
        let mut seen = [pop(&consumer), pop(&consumer), 3];
        push(&producer, 3);
        assert_eq!(pop(&consumer), 3);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
        recovering.join().unwrap();
    });
}

#[test]
fn an_abort_cut_off_at_any_step_is_counted_once() {
    check_every_death(Some(2), |steps| {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        bare.occupy(dead());
        let death = dying(&bare, &steps, |bare, ring| {
            let shape = bare.slots();
            let Ok(held) = slot_ring::claim_to_write(&shape, ring, dead()) else {
                return;
            };
            slot_ring::abort(&shape, ring, dead(), held);
        });
        let writing = thread::spawn(move || push(&producer, 2));
        death.join().unwrap();
        bare.recover(dead());
        assert_eq!(pop(&consumer), 2);
        writing.join().unwrap();
        assert_eq!(drain(&consumer), []);
        let claims = bare.slots();
        let passed = slot_ring::frontier(&claims, &*bare.ring) - 1;
        assert_eq!(
            bare.counter(dead(), SKIPPED),
            passed,
            "every position but the record's"
        );
        assert_eq!(ledger::pending_skip(bare.ring.row(dead())), None);
    });
}

#[test]
fn an_abort_cut_off_between_the_stores_of_its_row_is_counted_once() {
    for stored in 0..=4 {
        check(Some(2), move || {
            let (producer, consumer) = slot_ring_for(3);
            let bare = Bare::of(producer.participant().attachment());
            bare.occupy(dead());
            let (shape, row) = (bare.slots(), bare.ring.row(dead()));
            let held = slot_ring::claim_to_write(&shape, &*bare.ring, dead()).unwrap();
            match stored {
                0 => {}
                1 => row.skipped_base.store(0, Ordering::Release),
                2 => row.abort_slot.store(1, Ordering::Release),
                3 => ledger::begin_skip(row, 0),
                _ => {
                    slot_ring::abort(&shape, &*bare.ring, dead(), held);
                    row.abort_slot.store(1, Ordering::Release); // As if never taken back.
                }
            }
            let recovering = thread::spawn({
                let bare = bare.clone();
                move || bare.recover(dead())
            });
            push(&producer, 2);
            assert_eq!(pop(&consumer), 2);
            recovering.join().unwrap();
            assert_eq!(bare.counter(dead(), SKIPPED), 1);
        });
    }
}

#[test]
fn a_recoverer_dead_at_any_step_is_followed_by_one_that_ends_the_work() {
    check_every_death(Some(2), |steps| {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        bare.occupy(dead());
        push(&producer, 1);
        let shape = bare.slots();
        // Dead with a record in slot 0 and a claim in slot 1.
        Consumption::new()
            .claim(&shape, &*bare.ring, dead(), &mut false)
            .unwrap();
        slot_ring::claim_to_write(&shape, &*bare.ring, dead()).unwrap();
        let death = dying(&bare, &steps, |bare, ring| {
            recovery::recover(&bare.shape, ring, dead(), || {});
        });
        let mut seen = drain(&consumer);
        let mut second = None;
        if death.join().unwrap() {
            bare.wake_everybody();
        } else {
            let bare = bare.clone();
            second = Some(thread::spawn(move || bare.recover(dead())));
        }
        if seen.is_empty() {
            seen.push(pop(&consumer));
        }
        push(&producer, 2);
        assert_eq!((seen, pop(&consumer)), (vec![1], 2));
        if let Some(second) = second {
            second.join().unwrap();
        }
        assert_eq!(bare.counter(dead(), SKIPPED), 1);
        assert!(bare.is_free(dead()));
    });
}

#[test]
fn a_requeue_cut_off_before_its_bump_is_found_after_recovery() {
    check_every_death(Some(3), |steps| {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        bare.occupy(dead());
        push(&producer, 1);
        let shape = bare.slots();
        let held = Consumption::new()
            .claim(&shape, &*bare.ring, dead(), &mut false)
            .unwrap();
        let death = dying(&bare, &steps, move |_, ring| {
            slot_ring::requeue(ring, dead(), held);
        });
        let mut seen = drain(&consumer);
        death.join().unwrap();
        bare.recover(dead());
        seen.extend(drain(&consumer));
        assert_eq!(seen, [1]);
    });
}

#[test]
fn two_recoverers_of_two_dead_ones_do_not_disturb_each_other() {
    check(Some(2), || {
        let (producer, consumer) = slot_ring_for(4);
        let bare = Bare::of(producer.participant().attachment());
        let other = Owner::new(4).unwrap();
        bare.occupy(dead());
        bare.occupy(other);
        push(&producer, 1);
        let shape = bare.slots();
        Consumption::new()
            .claim(&shape, &*bare.ring, dead(), &mut false)
            .unwrap();
        slot_ring::claim_to_write(&shape, &*bare.ring, other).unwrap();
        let recovering = [dead(), other].map(|owner| {
            let bare = bare.clone();
            thread::spawn(move || bare.recover(owner))
        });
        turn();
        let record = consumer.read(Wait::block()).unwrap();
        assert_eq!((record.tag(), record.attempts()), (1, 1));
        drop(record);
        let [first, second] = recovering.map(|thread| thread.join().unwrap());
        assert_eq!((first.redelivered, second.skipped), (1, 1));
        assert_eq!(drain(&consumer), []);
        push(&producer, 2);
        push(&producer, 3);
        assert_eq!(drain(&consumer), [2, 3]);
    });
}

#[test]
fn a_producer_dead_in_a_batch_leaves_its_first_records() {
    check_every_death(Some(2), |steps| {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        bare.occupy(dead());
        let death = dying(&bare, &steps, |bare, ring| {
            let shape = bare.slots();
            let held = [1, 2].map(|tag: u32| {
                let held = slot_ring::claim_to_write(&shape, ring, dead()).expect("a free slot");
                ring.write(held.payload_offset(&shape), &[byte_of(tag)]);
                (held, tag)
            });
            for (held, tag) in held {
                slot_ring::commit(ring, held, tag, 1);
            }
        });
        let mut seen = drain(&consumer);
        death.join().unwrap();
        bare.recover(dead());
        seen.extend(drain(&consumer));
        assert!([1, 2].starts_with(&seen), "{seen:?}");
        push(&producer, 3);
        assert_eq!(drain(&consumer), [3]);
    });
}

#[test]
fn a_consumer_dead_in_a_closed_ring_is_waited_for() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        bare.occupy(dead());
        push(&producer, 1);
        let shape = bare.slots();
        Consumption::new()
            .claim(&shape, &*bare.ring, dead(), &mut false)
            .unwrap();
        producer.close();
        let recovering = thread::spawn(move || bare.recover(dead()));
        assert_eq!(pop(&consumer), 1);
        assert_eq!(drain_to_the_end(&consumer), []);
        recovering.join().unwrap();
    });
}
