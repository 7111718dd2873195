//! Asleep and woken: under loom a sleep has no time-out, so a lost wake-up is a deadlock.

use loom::thread;

use super::ops::slots::{drain_to_the_end, pop, push};
use super::{Bare, byte_ring_at, check, slot_ring_for, turn};
use crate::protocol::Owner;
use crate::protocol::slot_ring::{self, Consumption};
use crate::{ClaimError, ReadError, Wait, mpmc};

#[test]
fn a_byte_consumer_sleeps_until_a_record_is_committed() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let writing = thread::spawn(move || {
            turn();
            producer.try_push(1, &[]).unwrap();
            producer
        });
        turn();
        assert_eq!(consumer.read(Wait::block()).unwrap().tag(), 1);
        writing.join().unwrap();
    });
}

#[test]
fn a_byte_producer_sleeps_until_a_record_is_released() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(16, 0);
        producer.try_push(1, &[]).unwrap();
        let reading = thread::spawn(move || {
            turn();
            drop(consumer.try_read().unwrap());
            consumer
        });
        turn();
        producer.push(2, &[], Wait::block()).unwrap();
        reading.join().unwrap();
    });
}

#[test]
fn close_wakes_a_byte_consumer() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let closing = thread::spawn(move || {
            turn();
            producer.close();
            producer
        });
        turn();
        assert_eq!(consumer.peek(Wait::block()).err(), Some(ReadError::Closed));
        closing.join().unwrap();
    });
}

#[test]
fn close_wakes_a_byte_producer() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(16, 0);
        producer.try_push(1, &[]).unwrap();
        let closing = thread::spawn(move || {
            turn();
            consumer.close();
            consumer
        });
        assert_eq!(
            producer.push(2, &[], Wait::block()),
            Err(ClaimError::Closed)
        );
        closing.join().unwrap();
    });
}

#[test]
fn a_consumer_sleeps_until_a_record_is_committed() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(2);
        let writing = thread::spawn(move || push(&producer, 1));
        assert_eq!(pop(&consumer), 1);
        writing.join().unwrap();
    });
}

#[test]
fn two_consumers_sleep_until_two_records_are_committed() {
    check(Some(1), || {
        let (producer, one) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        let first = thread::spawn(move || pop(&one));
        let second = thread::spawn(move || pop(&two));
        push(&producer, 1);
        push(&producer, 2);
        assert_eq!(first.join().unwrap() + second.join().unwrap(), 3);
    });
}

#[test]
fn a_consumer_sleeps_while_two_producers_commit() {
    check(Some(2), || {
        let (one, consumer) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        let first = thread::spawn(move || push(&one, 1));
        let second = thread::spawn(move || push(&two, 2));
        assert_eq!(pop(&consumer) + pop(&consumer), 3);
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn a_producer_sleeps_until_a_record_is_released() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(2);
        push(&producer, 1);
        push(&producer, 2);
        let reading = thread::spawn(move || pop(&consumer));
        push(&producer, 3);
        reading.join().unwrap();
    });
}

#[test]
fn two_producers_sleep_until_two_records_are_released() {
    check(Some(2), || {
        let (one, consumer) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        push(&one, 1);
        push(&one, 2);
        let first = thread::spawn(move || push(&one, 3));
        let second = thread::spawn(move || push(&two, 4));
        pop(&consumer);
        pop(&consumer);
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn a_batch_released_at_once_wakes_a_producer() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(2);
        push(&producer, 1);
        push(&producer, 2);
        let reading = thread::spawn(move || {
            turn();
            drop(consumer.try_read_batch(2).unwrap());
        });
        push(&producer, 3);
        reading.join().unwrap();
    });
}

#[test]
fn a_consumer_asleep_behind_a_claim_is_woken_by_its_abort() {
    check(Some(3), || {
        let (one, consumer) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        let aborting = thread::spawn(move || {
            turn();
            let claim = one.try_claim(1).unwrap();
            push(&two, 2); // The next slot, which waits for the one before it.
            turn();
            claim.abort();
        });
        assert_eq!(pop(&consumer), 2);
        aborting.join().unwrap();
    });
}

#[test]
fn a_consumer_that_passes_an_aborted_slot_wakes_a_producer() {
    check(Some(3), || {
        let (one, consumer) = slot_ring_for(3);
        one.try_claim(1).unwrap().abort();
        push(&one, 2);
        let reading = thread::spawn(move || {
            turn();
            let record = consumer.try_read().unwrap();
            assert_eq!(record.tag(), 2);
            record.requeue(); // It releases nothing: the space is that of the aborted slot.
            consumer
        });
        push(&one, 3);
        reading.join().unwrap();
    });
}

#[test]
fn a_requeued_record_wakes_a_consumer() {
    check(Some(3), || {
        let (producer, one) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        push(&producer, 1);
        let held = thread::spawn(move || {
            turn();
            if let Ok(record) = one.try_read() {
                record.requeue();
            }
        });
        assert_eq!(pop(&two), 1);
        held.join().unwrap();
    });
}

#[test]
fn close_wakes_consumers_and_producers() {
    check(Some(3), || {
        let (one, consumer) = slot_ring_for(3);
        let closer = one.try_clone().unwrap();
        let closing = thread::spawn(move || {
            turn();
            closer.close();
        });
        let reading = thread::spawn(move || {
            assert_eq!(
                consumer.pop(&mut Vec::new(), Wait::block()),
                Err(ReadError::Closed)
            );
        });
        closing.join().unwrap();
        reading.join().unwrap();
        drop(one);
    });
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(2);
        push(&producer, 1);
        push(&producer, 2);
        let closing = thread::spawn(move || {
            turn();
            consumer.close();
        });
        assert_eq!(
            producer.push(3, &[], Wait::block()),
            Err(ClaimError::Closed)
        );
        closing.join().unwrap();
    });
}

#[test]
fn the_last_release_in_closed_slots_wakes_consumers() {
    check(Some(3), || {
        let (producer, one) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        push(&producer, 1);
        producer.close();
        let reading = thread::spawn(move || {
            turn();
            drop(one.try_read());
        });
        assert!(drain_to_the_end(&two).len() <= 1);
        reading.join().unwrap();
    });
}

#[test]
fn the_last_batch_released_in_closed_slots_wakes_consumers() {
    check(Some(3), || {
        let (producer, one) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        push(&producer, 1);
        producer.close();
        let reading = thread::spawn(move || {
            turn();
            drop(one.try_read_batch(2));
        });
        assert!(drain_to_the_end(&two).len() <= 1);
        reading.join().unwrap();
    });
}

#[test]
fn recovery_wakes_a_consumer_for_what_a_dead_one_held() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        push(&producer, 1);
        let dying = thread::spawn(move || {
            let dead = Owner::new(3).unwrap();
            bare.occupy(dead);
            turn();
            let mut consumption = Consumption::new();
            let held = consumption.claim(&bare.slots(), &*bare.ring, dead, &mut false);
            let recovered = bare.recover(dead);
            assert_eq!(recovered.redelivered, u64::from(held.is_ok()));
        });
        assert_eq!(pop(&consumer), 1);
        dying.join().unwrap();
    });
}

#[test]
fn recovery_wakes_a_consumer_that_sleeps_behind_a_dead_producer() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        let dying = thread::spawn(move || {
            let dead = Owner::new(3).unwrap();
            bare.occupy(dead);
            turn();
            slot_ring::claim_to_write(&bare.slots(), &*bare.ring, dead).unwrap();
            push(&producer, 2);
            assert_eq!(bare.recover(dead).skipped, 1);
        });
        assert_eq!(pop(&consumer), 2);
        dying.join().unwrap();
    });
}

#[test]
fn recovery_wakes_a_producer_for_the_slot_of_a_dead_consumer() {
    check(Some(3), || {
        let options = mpmc::Options::new(2, 8).participants(3);
        let (producer, _consumer) = options
            .redelivery(mpmc::Redelivery::Never)
            .heap()
            .expect("a possible ring");
        let bare = Bare::of(producer.participant().attachment());
        push(&producer, 1);
        push(&producer, 2);
        let dying = thread::spawn(move || {
            let dead = Owner::new(3).unwrap();
            bare.occupy(dead);
            turn();
            let mut consumption = Consumption::new();
            consumption
                .claim(&bare.slots(), &*bare.ring, dead, &mut false)
                .unwrap();
            assert_eq!(bare.recover(dead).dropped, 1);
        });
        push(&producer, 3);
        dying.join().unwrap();
    });
}
