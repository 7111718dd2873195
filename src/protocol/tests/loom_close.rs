//! The end of a stream: what was committed is read before anybody is told that the ring is closed.

use loom::thread;

use super::{Bare, byte_ring_at, check, slot_ring_for};
use crate::protocol::slot_ring;
use crate::{ReadError, TryClaimError, TryReadError, Wait, mpmc, spsc};

/// Pops until the ring is closed and drained.
fn drain(consumer: &mpmc::Consumer) -> Vec<u32> {
    let (mut tags, mut payload) = (Vec::new(), Vec::new());
    loop {
        match consumer.pop(&mut payload, Wait::block()) {
            Ok(tag) => tags.push(tag),
            Err(error) => {
                assert_eq!(error, ReadError::Closed);
                return tags;
            }
        }
    }
}

fn drain_bytes(consumer: &mut spsc::Consumer) -> Vec<u32> {
    let (mut tags, mut payload) = (Vec::new(), Vec::new());
    loop {
        match consumer.pop(&mut payload, Wait::block()) {
            Ok(tag) => tags.push(tag),
            Err(error) => {
                assert_eq!(error, ReadError::Closed);
                return tags;
            }
        }
    }
}

/// The tags of `wanted` that the ring took.
fn offer(producer: &mpmc::Producer, wanted: &[u32]) -> Vec<u32> {
    let takes = |tag: &&u32| match producer.try_push(**tag, &[1]) {
        Ok(()) => true,
        Err(error) => {
            assert!(matches!(error, TryClaimError::Closed | TryClaimError::Full));
            false
        }
    };
    wanted.iter().filter(takes).copied().collect()
}

fn offer_bytes(producer: &mut spsc::Producer, wanted: &[u32]) -> Vec<u32> {
    let takes = |tag: &&u32| match producer.try_push(**tag, &[1]) {
        Ok(()) => true,
        Err(error) => {
            assert!(matches!(error, TryClaimError::Closed | TryClaimError::Full));
            false
        }
    };
    wanted.iter().filter(takes).copied().collect()
}

#[test]
fn slots_closed_by_a_third_party_lose_no_committed_record() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(3);
        let closer = producer.try_clone().unwrap();
        let writing = thread::spawn(move || offer(&producer, &[1]));
        let closing = thread::spawn(move || closer.close());
        assert_eq!(drain(&consumer), writing.join().unwrap());
        closing.join().unwrap();
    });
}

#[test]
fn slots_closed_by_their_producer_lose_no_committed_record() {
    check(None, || {
        let (producer, consumer) = slot_ring_for(2);
        let writing = thread::spawn(move || {
            let taken = offer(&producer, &[1, 2]);
            producer.close();
            assert_eq!(producer.try_push(3, &[]), Err(TryClaimError::Closed));
            taken
        });
        assert_eq!(drain(&consumer), writing.join().unwrap());
    });
}

#[test]
fn slots_closed_by_their_consumer_lose_no_committed_record() {
    check(None, || {
        let (producer, consumer) = slot_ring_for(2);
        let writing = thread::spawn(move || offer(&producer, &[1, 2]));
        consumer.close();
        assert_eq!(drain(&consumer), writing.join().unwrap());
    });
}

#[test]
fn a_consumer_that_is_refused_only_once_has_missed_no_committed_record() {
    // No sleep and so no barrier of the handshake helps here.
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(3);
        let closer = producer.try_clone().unwrap();
        let writing = thread::spawn(move || offer(&producer, &[1]));
        let closing = thread::spawn(move || closer.close());
        let refused = consumer.try_read().map(|record| record.tag());
        let taken = writing.join().unwrap();
        closing.join().unwrap();
        match refused {
            Ok(tag) => assert_eq!(taken, [tag]),
            Err(TryReadError::Closed) => assert_eq!(taken, []),
            Err(error) => assert_eq!((error, drain(&consumer)), (TryReadError::Empty, taken)),
        }
    });
}

#[test]
fn a_producer_that_commits_and_closes_is_read_before_a_single_closed() {
    check(None, || {
        let (producer, consumer) = slot_ring_for(3);
        let bare = Bare::of(producer.participant().attachment());
        let writing = thread::spawn(move || {
            producer.try_push(1, &[1]).unwrap();
            slot_ring::close(&*bare.ring);
        });
        let refused = consumer.try_read().map(|record| record.tag());
        assert_ne!(
            refused,
            Err(TryReadError::Closed),
            "the record was committed before"
        );
        writing.join().unwrap();
    });
}

#[test]
fn a_claim_that_was_held_as_the_slots_were_closed_is_still_delivered() {
    check(Some(3), || {
        let (producer, consumer) = slot_ring_for(3);
        let closer = consumer.try_clone().unwrap();
        let writing = thread::spawn(move || match producer.try_claim(1) {
            Ok(claim) => {
                claim.commit(1);
                vec![1]
            }
            Err(error) => {
                assert_eq!(error, TryClaimError::Closed);
                vec![]
            }
        });
        let closing = thread::spawn(move || closer.close());
        assert_eq!(drain(&consumer), writing.join().unwrap());
        closing.join().unwrap();
    });
}

#[test]
fn two_consumers_of_closed_slots_are_both_told_and_share_the_rest() {
    check(Some(2), || {
        let (producer, one) = slot_ring_for(3);
        let two = one.try_clone().unwrap();
        producer.try_push(1, &[1]).unwrap();
        let first = thread::spawn(move || drain(&one));
        let second = thread::spawn(move || drain(&two));
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
        producer.try_push(1, &[1]).unwrap();
        producer.close();
        let requeueing = thread::spawn(move || {
            if let Ok(record) = one.try_read() {
                record.requeue();
            }
        });
        assert_eq!(drain(&two), [1]);
        requeueing.join().unwrap();
    });
}

#[test]
fn bytes_closed_by_a_third_party_lose_no_committed_record() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let bare = Bare::of(producer.participant().attachment());
        let writing = thread::spawn(move || (offer_bytes(&mut producer, &[1]), producer));
        let closing = thread::spawn(move || {
            slot_ring::close(&*bare.ring);
            bare.wake_everybody();
        });
        let seen = drain_bytes(&mut consumer);
        assert_eq!(seen, writing.join().unwrap().0);
        closing.join().unwrap();
    });
}

#[test]
fn bytes_closed_by_their_producer_lose_no_committed_record() {
    check(None, || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let writing = thread::spawn(move || {
            let taken = offer_bytes(&mut producer, &[1, 2]);
            producer.close();
            assert_eq!(producer.try_push(3, &[]), Err(TryClaimError::Closed));
            taken
        });
        assert_eq!(drain_bytes(&mut consumer), writing.join().unwrap());
    });
}

#[test]
fn bytes_closed_by_their_consumer_lose_no_committed_record() {
    check(None, || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let writing = thread::spawn(move || (offer_bytes(&mut producer, &[1, 2]), producer));
        consumer.close();
        let seen = drain_bytes(&mut consumer);
        assert_eq!(seen, writing.join().unwrap().0);
    });
}

#[test]
fn a_byte_consumer_that_is_refused_only_once_has_missed_no_committed_record() {
    check(None, || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let writing = thread::spawn(move || (offer_bytes(&mut producer, &[1]), producer));
        slot_ring::close(consumer.participant().store());
        let refused = consumer.try_read().map(|record| record.tag());
        let (taken, _producer) = writing.join().unwrap();
        match refused {
            Ok(tag) => assert_eq!(taken, [tag]),
            Err(TryReadError::Closed) => assert_eq!(taken, []),
            Err(error) => assert_eq!(
                (error, drain_bytes(&mut consumer)),
                (TryReadError::Empty, taken)
            ),
        }
    });
}

#[test]
fn a_byte_producer_that_commits_and_closes_is_read_before_a_single_closed() {
    check(None, || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let writing = thread::spawn(move || {
            producer.try_push(1, &[1]).unwrap();
            slot_ring::close(producer.participant().store());
            producer
        });
        let refused = consumer.try_read().map(|record| record.tag());
        assert_ne!(
            refused,
            Err(TryReadError::Closed),
            "the record was committed before"
        );
        writing.join().unwrap();
    });
}

#[test]
fn a_claim_of_bytes_that_is_given_up_in_a_closed_ring_ends_the_wait_for_it() {
    check(None, || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let writing = thread::spawn(move || {
            if let Ok(claim) = producer.try_claim(8) {
                claim.abort();
            }
            producer
        });
        consumer.close();
        assert_eq!(drain_bytes(&mut consumer), []);
        writing.join().unwrap();
    });
}
