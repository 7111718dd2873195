//! The end of a stream: what was committed is read before anybody is told that the ring is closed.

use loom::thread;

use super::ops::{bytes, slots};
use super::{Bare, byte_ring_at, check, slot_ring_for, turn};
use crate::protocol::switches;
use crate::{TryClaimError, TryReadError, mpmc, spsc};

/// The tags of `wanted` that the slots took.
fn offer(producer: &mpmc::Producer, wanted: &[u32]) -> Vec<u32> {
    wanted
        .iter()
        .filter(|tag| slots::try_push(producer, **tag))
        .copied()
        .collect()
}

/// The tags of `wanted` that the byte ring took.
fn offer_bytes(producer: &mut spsc::Producer, wanted: &[u32]) -> Vec<u32> {
    wanted
        .iter()
        .filter(|tag| bytes::try_push(producer, **tag))
        .copied()
        .collect()
}

#[test]
fn slots_closed_by_a_third_party_lose_no_record() {
    check(Some(2), || {
        let (producer, consumer) = slot_ring_for(3);
        let closer = producer.try_clone().unwrap();
        let writing = thread::spawn(move || offer(&producer, &[1]));
        let closing = thread::spawn(move || {
            turn();
            closer.close();
        });
        assert_eq!(slots::drain_to_the_end(&consumer), writing.join().unwrap());
        closing.join().unwrap();
    });
}

#[test]
fn slots_closed_by_their_producer_lose_no_committed_record() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(2);
        let writing = thread::spawn(move || {
            let taken = offer(&producer, &[1, 2]);
            turn();
            producer.close();
            assert_eq!(producer.try_push(3, &[]), Err(TryClaimError::Closed));
            taken
        });
        assert_eq!(slots::drain_to_the_end(&consumer), writing.join().unwrap());
    });
}

#[test]
fn slots_closed_by_their_consumer_lose_no_committed_record() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(2);
        let writing = thread::spawn(move || offer(&producer, &[1, 2]));
        turn();
        consumer.close();
        assert_eq!(slots::drain_to_the_end(&consumer), writing.join().unwrap());
    });
}

#[test]
fn a_single_closed_misses_no_committed_record() {
    // No sleep and so no barrier of the handshake helps here.
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(3);
        let closer = producer.try_clone().unwrap();
        let writing = thread::spawn(move || offer(&producer, &[1]));
        let closing = thread::spawn(move || {
            turn();
            closer.close();
        });
        turn();
        let refused = consumer.try_read().map(|record| record.tag());
        let taken = writing.join().unwrap();
        closing.join().unwrap();
        match refused {
            Ok(tag) => assert_eq!(taken, [tag]),
            Err(TryReadError::Closed) => assert_eq!(taken, []),
            Err(error) => assert_eq!(
                (error, slots::drain_to_the_end(&consumer)),
                (TryReadError::Empty, taken)
            ),
        }
    });
}

#[test]
fn a_claim_that_was_held_as_the_slots_were_closed_is_still_delivered() {
    check(Some(2), || {
        let (producer, consumer) = slot_ring_for(3);
        let closer = consumer.try_clone().unwrap();
        let writing = thread::spawn(move || {
            turn();
            let Ok(mut claim) = producer.try_claim(1) else {
                return vec![];
            };
            turn();
            claim[0] = 1;
            claim.commit(1);
            vec![1]
        });
        let closing = thread::spawn(move || {
            turn();
            closer.close();
        });
        assert_eq!(slots::drain_to_the_end(&consumer), writing.join().unwrap());
        closing.join().unwrap();
    });
}

#[test]
fn two_consumers_of_closed_slots_are_both_told_and_share_the_rest() {
    check(Some(2), || {
        let (producer, one) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        slots::push(&producer, 1);
        let first = thread::spawn(move || slots::drain_to_the_end(&one));
        let second = thread::spawn(move || slots::drain_to_the_end(&two));
        turn();
        producer.close();
        assert_eq!(
            [first.join().unwrap(), second.join().unwrap()].concat(),
            [1]
        );
    });
}

#[test]
fn a_record_that_is_requeued_in_a_closed_ring_is_delivered_before_closed() {
    check(Some(2), || {
        let (producer, one) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        slots::push(&producer, 1);
        turn();
        producer.close();
        let requeueing = thread::spawn(move || {
            turn();
            if let Ok(record) = one.try_read() {
                record.requeue();
            }
        });
        assert_eq!(slots::drain_to_the_end(&two), [1]);
        requeueing.join().unwrap();
    });
}

#[test]
fn bytes_closed_by_a_third_party_lose_no_record() {
    check(Some(2), || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let bare = Bare::of(producer.participant().attachment());
        let writing = thread::spawn(move || (offer_bytes(&mut producer, &[1]), producer));
        let closing = thread::spawn(move || {
            turn();
            switches::close(&*bare.ring);
            bare.wake_everybody();
        });
        let seen = bytes::drain_to_the_end(&mut consumer);
        assert_eq!(seen, writing.join().unwrap().0);
        closing.join().unwrap();
    });
}

#[test]
fn bytes_closed_by_their_producer_lose_no_committed_record() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let writing = thread::spawn(move || {
            let taken = offer_bytes(&mut producer, &[1, 2]);
            turn();
            producer.close();
            assert_eq!(producer.try_push(3, &[]), Err(TryClaimError::Closed));
            taken
        });
        assert_eq!(
            bytes::drain_to_the_end(&mut consumer),
            writing.join().unwrap()
        );
    });
}

#[test]
fn bytes_closed_by_their_consumer_lose_no_committed_record() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let writing = thread::spawn(move || (offer_bytes(&mut producer, &[1, 2]), producer));
        turn();
        consumer.close();
        let seen = bytes::drain_to_the_end(&mut consumer);
        assert_eq!(seen, writing.join().unwrap().0);
    });
}

#[test]
fn a_single_closed_of_bytes_misses_no_committed_record() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let writing = thread::spawn(move || (offer_bytes(&mut producer, &[1]), producer));
        turn();
        switches::close(consumer.participant().store());
        turn();
        let refused = consumer.try_read().map(|record| record.tag());
        let (taken, _producer) = writing.join().unwrap();
        match refused {
            Ok(tag) => assert_eq!(taken, [tag]),
            Err(TryReadError::Closed) => assert_eq!(taken, []),
            Err(error) => assert_eq!(
                (error, bytes::drain_to_the_end(&mut consumer)),
                (TryReadError::Empty, taken)
            ),
        }
    });
}

#[test]
fn a_claim_given_up_in_closed_bytes_ends_the_wait_for_it() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let writing = thread::spawn(move || {
            turn();
            if let Ok(claim) = producer.try_claim(8) {
                claim.abort();
            }
            producer
        });
        turn();
        consumer.close();
        assert_eq!(bytes::drain_to_the_end(&mut consumer), []);
        writing.join().unwrap();
    });
}
