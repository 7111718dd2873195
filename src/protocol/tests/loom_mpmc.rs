//! The slot ring: producers and consumers that all live.

use loom::thread;

use super::ops::byte_of;
use super::ops::slots::{drain, pop, push, try_push};
use super::{Bare, check, slot_ring_for, turn};
use crate::layout::SKIPPED;
use crate::protocol::Owner;
use crate::{Wait, mpmc};

#[test]
fn one_producer_and_one_consumer_go_several_laps_in_order() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(2);
        let writing = thread::spawn(move || (1..=4).for_each(|tag| push(&producer, tag)));
        for tag in 1..=4 {
            assert_eq!(pop(&consumer), tag);
        }
        writing.join().unwrap();
    });
}

#[test]
fn two_producers_fill_a_ring_that_one_consumer_drains() {
    check(Some(1), || {
        let (one, consumer) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        let first = thread::spawn(move || [1, 2].map(|tag| push(&one, tag)));
        let second = thread::spawn(move || push(&two, 10));
        let seen = [(); 3].map(|()| pop(&consumer));
        let of_one = seen
            .iter()
            .copied()
            .filter(|tag| *tag < 10)
            .collect::<Vec<_>>();
        assert_eq!(of_one, [1, 2], "each producer's records stay in order");
        assert!(seen.contains(&10));
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn two_consumers_share_what_one_producer_writes() {
    check(Some(2), || {
        let (producer, one) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        (1..=2).for_each(|tag| push(&producer, tag));
        let first = thread::spawn(move || (try_pop(&one), one));
        let second = thread::spawn(move || try_pop(&two));
        let taken = (3..=4).filter(|tag| try_push(&producer, *tag)).count();
        let (first, one) = first.join().unwrap();
        let mut seen = [first, second.join().unwrap()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        seen.extend(drain(&one));
        seen.sort_unstable();
        assert_eq!(
            seen.len(),
            2 + taken,
            "each record goes to one consumer: {seen:?}"
        );
        seen.dedup();
        assert_eq!(seen.len(), 2 + taken);
    });
}

/// Takes the next record if there is one.
fn try_pop(consumer: &mpmc::Consumer) -> Option<u32> {
    turn();
    consumer.try_read().ok().map(|record| record.tag())
}

#[test]
fn a_full_ring_refuses_and_loses_nothing_that_it_took() {
    check(Some(2), || {
        let (one, consumer) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        push(&one, 1);
        let first = thread::spawn(move || try_push(&one, 2));
        let second = thread::spawn(move || try_push(&two, 3));
        turn();
        assert_eq!(consumer.try_read().unwrap().tag(), 1);
        let taken = [(2, first.join().unwrap()), (3, second.join().unwrap())];
        let mut taken = taken
            .into_iter()
            .filter(|of| of.1)
            .map(|of| of.0)
            .collect::<Vec<_>>();
        assert!(!taken.is_empty(), "there was room for one");
        let mut seen = drain(&consumer);
        seen.sort_unstable();
        taken.sort_unstable();
        assert_eq!(seen, taken);
    });
}

#[test]
fn a_position_that_wraps_the_lap_is_found_all_the_same() {
    check(Some(3), || {
        let options = mpmc::Options::new(2, 8)
            .participants(2)
            .starting_at(u64::MAX);
        let (producer, consumer) = options.heap().unwrap();
        let writing = thread::spawn(move || (1..=3).for_each(|tag| push(&producer, tag)));
        for tag in 1..=3 {
            assert_eq!(pop(&consumer), tag);
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_payload_is_written_in_place_and_read_in_place() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(2);
        let writing = thread::spawn(move || {
            for tag in 1..=3 {
                turn();
                let mut claim = producer.claim(8, Wait::block()).unwrap();
                claim.fill(byte_of(tag));
                claim.commit(tag);
            }
        });
        for tag in 1..=3 {
            turn();
            let record = consumer.read(Wait::block()).unwrap();
            assert_eq!((record.tag(), &record[..]), (tag, &[byte_of(tag); 8][..]));
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_batch_is_seen_in_order_and_with_the_bytes_of_each_record() {
    check(None, || {
        let (producer, consumer) = slot_ring_for(2);
        let writing = thread::spawn(move || {
            turn();
            let mut batch = producer.batch();
            batch.try_push(1, &[1]).unwrap();
            batch.try_push(2, &[2]).unwrap();
            batch.commit();
        });
        let mut seen = drain(&consumer);
        writing.join().unwrap();
        seen.extend(drain(&consumer));
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn an_aborted_claim_is_passed_and_its_slot_written_again() {
    check(Some(2), || {
        let (one, consumer) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        let bare = Bare::of(one.participant().attachment());
        let aborting = thread::spawn(move || {
            turn();
            let mut claim = one.claim(1, Wait::block()).unwrap();
            claim[0] = 9;
            claim.abort();
            drop(one);
        });
        let writing = thread::spawn(move || push(&two, 1));
        assert_eq!(pop(&consumer), 1);
        aborting.join().unwrap();
        writing.join().unwrap();
        assert_eq!(drain(&consumer), []);
        assert_eq!(bare.counter(Owner::new(1).unwrap(), SKIPPED), 1);
    });
}

/// Gives the next record back, if there is one.
fn requeue(consumer: &mpmc::Consumer) -> bool {
    turn();
    let Ok(record) = consumer.try_read() else {
        return false;
    };
    assert_eq!(record[..], [byte_of(record.tag())]);
    record.requeue();
    true
}

#[test]
fn a_requeued_record_is_delivered_again_with_its_bytes() {
    check(Some(2), || {
        let (producer, one) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        let writing = thread::spawn(move || push(&producer, 1));
        let requeueing = thread::spawn(move || requeue(&one));
        turn();
        let record = two.read(Wait::block()).unwrap();
        let attempts = record.attempts();
        assert_eq!((record.tag(), &record[..]), (1, &[1][..]));
        drop(record);
        assert_eq!(attempts > 0, requeueing.join().unwrap());
        writing.join().unwrap();
        assert_eq!(drain(&two), []);
    });
}

#[test]
fn whoever_has_seen_the_epoch_has_seen_what_was_given_back() {
    // The record lies behind the head hint: only the walk for given-back records finds it.
    check(None, || {
        let (producer, one) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        push(&producer, 1);
        let requeueing = thread::spawn(move || requeue(&one));
        let early = drain(&two);
        requeueing.join().unwrap();
        assert_eq!([early, drain(&two)].concat(), [1]);
    });
}

#[test]
fn a_slot_is_not_written_while_the_last_reader_of_it_reads() {
    check(Some(2), || {
        let (producer, one) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        push(&producer, 1);
        push(&producer, 2);
        let reading = thread::spawn(move || pop(&one));
        let writing = thread::spawn(move || push(&producer, 3));
        assert_eq!(pop(&two) + reading.join().unwrap(), 3);
        writing.join().unwrap();
    });
}
