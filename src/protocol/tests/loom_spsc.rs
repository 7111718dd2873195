//! The byte ring: full, empty, wrapped, in batches, read ahead, and restarted after a death.

use loom::thread;

use super::ops::byte_of;
use super::ops::bytes::{drain, pop, push, try_push};
use super::{Bare, Steps, byte_ring_at, check, check_every_death, turn};
use crate::protocol::byte_ring::{ReadRefusal, Reader, Writer};
use crate::protocol::{Owner, Store, copy};
use crate::sync::Ordering;
use crate::{Heap, TryReadError, Wait};

#[test]
fn records_arrive_whole_and_in_order_through_a_ring_that_holds_one() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(32, 0);
        let writing = thread::spawn(move || (1..=3).for_each(|tag| push(&mut producer, tag)));
        for tag in 1..=3 {
            assert_eq!(pop(&mut consumer), tag);
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_full_ring_refuses_and_loses_nothing_that_it_took() {
    check(None, || {
        let (mut producer, mut consumer) = byte_ring_at(32, 0);
        let writing = thread::spawn(move || {
            (1..=3)
                .filter(|tag| try_push(&mut producer, *tag))
                .collect::<Vec<_>>()
        });
        let mut seen = drain(&mut consumer);
        let taken = writing.join().unwrap();
        seen.extend(drain(&mut consumer));
        assert_eq!(seen, taken);
    });
}

#[test]
fn an_empty_ring_refuses_until_something_is_committed() {
    check(None, || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        let reading = thread::spawn(move || {
            turn();
            let first = consumer.try_read().map(|record| record.tag());
            assert!(matches!(first, Ok(1) | Err(TryReadError::Empty)));
            turn();
            let second = consumer.try_read().map(|record| record.tag());
            assert!(matches!(second, Ok(1 | 2) | Err(TryReadError::Empty)));
            (
                consumer,
                u32::from(first.is_ok()) + u32::from(second.is_ok()),
            )
        });
        assert!(try_push(&mut producer, 1));
        assert!(try_push(&mut producer, 2));
        let (mut consumer, read) = reading.join().unwrap();
        assert_eq!(drain(&mut consumer), (read + 1..=2).collect::<Vec<_>>());
    });
}

#[test]
fn a_record_that_does_not_fit_before_the_end_goes_behind_padding() {
    // 8 bytes are left before the end of 32, and the record takes 16.
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(32, 24);
        let writing = thread::spawn(move || (1..=2).for_each(|tag| push(&mut producer, tag)));
        assert_eq!([pop(&mut consumer), pop(&mut consumer)], [1, 2]);
        writing.join().unwrap();
    });
}

#[test]
fn positions_wrap_around_zero() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(32, 16_u64.wrapping_neg());
        let writing = thread::spawn(move || (1..=2).for_each(|tag| push(&mut producer, tag)));
        assert_eq!([pop(&mut consumer), pop(&mut consumer)], [1, 2]);
        writing.join().unwrap();
    });
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    // From 40 on the second record of the batch lies behind padding.
    for origin in [0, 40] {
        check(None, move || {
            let (mut producer, mut consumer) = byte_ring_at(64, origin);
            let writing = thread::spawn(move || {
                turn();
                let mut batch = producer.batch();
                batch.try_push(1, &[1; 8]).unwrap();
                batch.try_push(2, &[2; 8]).unwrap();
                batch.commit();
            });
            turn();
            let first = consumer.try_peek().map(|record| record.tag());
            if first.is_ok() {
                let second = consumer.try_peek().expect("the batch was visible");
                assert_eq!((second.tag(), &second[..]), (2, &[2; 8][..]));
            }
            writing.join().unwrap();
            consumer.rewind();
            assert_eq!(drain(&mut consumer), [1, 2]);
        });
    }
}

#[test]
fn records_read_ahead_are_not_overwritten_before_they_are_released() {
    check(Some(3), || {
        let (mut producer, mut consumer) = byte_ring_at(64, 0);
        producer.try_push(1, &[1; 24]).unwrap(); // 0..32
        producer.try_push(2, &[2; 8]).unwrap(); // 32..48
        let writing = thread::spawn(move || {
            turn();
            producer.push(3, &[3; 24], Wait::block()).unwrap(); // 64..96, behind padding
        });
        let first = consumer.try_peek().unwrap().mark();
        let second = consumer.try_peek().unwrap().mark();
        turn();
        assert_eq!(consumer.release_to(first), 1);
        consumer.rewind();
        assert_eq!(consumer.try_peek().unwrap()[..], [2; 8]);
        turn();
        assert_eq!(consumer.release_to(second), 1);
        assert_eq!(consumer.release_to(first), 0, "it was given back before");
        assert_eq!(pop(&mut consumer), 3);
        writing.join().unwrap();
    });
}

/// Attaches a producer anew and lets it write one record, if there is space.
fn write(bare: &Bare, tag: u32) -> bool {
    let shape = bare.bytes();
    let mut writer = Writer::resume(&shape, &*bare.ring).expect("sound words");
    let Ok(span) = writer.claim(&shape, &*bare.ring, 8) else {
        return false;
    };
    let payload = [byte_of(tag); 8];
    copy::fill::<Heap>(&bare.ring, span.payload_offset(&*bare.ring), &payload);
    writer.stage(&shape, &*bare.ring, span, tag, 8);
    writer.publish(&shape, &*bare.ring);
    true
}

#[test]
fn a_producer_dead_at_any_step_leaves_whole_records_only() {
    // The second record lies behind padding.
    check_every_death(Some(3), |steps| {
        a_producer_dies_in_its_second_record(40, &steps)
    });
    check_every_death(Some(3), |steps| {
        a_producer_dies_in_its_second_record(0, &steps)
    });
}

fn a_producer_dies_in_its_second_record(origin: u64, steps: &Steps) {
    let (producer, mut consumer) = byte_ring_at(64, origin);
    let bare = Bare::of(producer.participant().attachment());
    drop(producer);
    let dying = thread::spawn({
        let (bare, steps) = (bare.clone(), steps.clone());
        move || {
            bare.occupy(Owner::PRODUCER);
            assert!(write(&bare, 1));
            let shape = bare.bytes();
            let mut writer = Writer::resume(&shape, &*bare.ring).expect("sound words");
            bare.live(&steps, |ring| {
                let span = writer.claim(&shape, ring, 8).expect("there is space");
                ring.write(span.payload_offset(ring), &[2; 8]);
                writer.stage(&shape, ring, span, 2, 8);
                writer.publish(&shape, ring);
            });
            bare.recover(Owner::PRODUCER);
            assert_eq!(bare.ring.control().tail.claim.load(Ordering::Relaxed), 0);
            write(&bare, 3)
        }
    });
    let mut seen = drain(&mut consumer);
    let third = dying.join().expect("no thread panics");
    seen.extend(drain(&mut consumer));
    seen.retain(|tag| *tag != 2); // It may or may not be there.
    assert_eq!(seen, if third { vec![1, 3] } else { vec![1] });
}

#[test]
fn a_producer_dead_in_a_batch_leaves_all_of_it_or_nothing() {
    check_every_death(Some(3), |steps| {
        let (producer, mut consumer) = byte_ring_at(64, 0);
        let bare = Bare::of(producer.participant().attachment());
        drop(producer);
        let dying = thread::spawn({
            let bare = bare.clone();
            move || {
                bare.occupy(Owner::PRODUCER);
                let shape = bare.bytes();
                let mut writer = Writer::resume(&shape, &*bare.ring).expect("sound words");
                bare.live(&steps, |ring| {
                    for tag in 1..=2 {
                        let span = writer.claim(&shape, ring, 8).expect("there is space");
                        ring.write(span.payload_offset(ring), &[byte_of(tag); 8]);
                        writer.stage(&shape, ring, span, tag, 8);
                    }
                    writer.publish(&shape, ring);
                });
                bare.recover(Owner::PRODUCER);
                assert!(write(&bare, 3));
            }
        });
        let mut seen = drain(&mut consumer);
        assert_ne!(seen, [1], "half of a batch");
        dying.join().unwrap();
        seen.extend(drain(&mut consumer));
        assert!(seen == [1, 2, 3] || seen == [3], "{seen:?}");
    });
}

#[test]
fn a_journal_entry_torn_by_a_death_is_not_believed() {
    // Dead after the store of `records`, before that of `end`: no call lies between them.
    check(Some(3), || {
        let (producer, mut consumer) = byte_ring_at(64, 0);
        let bare = Bare::of(producer.participant().attachment());
        drop(producer);
        assert!(write(&bare, 1));
        assert!(write(&bare, 2));
        let dying = thread::spawn({
            let bare = bare.clone();
            move || {
                turn();
                let [first, second] = &bare.ring.control().tail.journal;
                let older = if first.end.load(Ordering::Acquire) < 32 {
                    first
                } else {
                    second
                };
                older.records.store(3, Ordering::Release);
                bare.recover(Owner::PRODUCER);
                let writer = Writer::resume(&bare.bytes(), &*bare.ring).expect("sound words");
                assert_eq!((writer.tail(), writer.records()), (32, 2));
            }
        });
        assert_eq!(drain(&mut consumer), [1, 2]);
        dying.join().unwrap();
    });
}

#[test]
fn a_consumer_dead_at_any_step_leaves_the_rest_to_its_successor() {
    check_every_death(Some(3), |steps| {
        let (mut producer, consumer) = byte_ring_at(32, 0);
        let bare = Bare::of(producer.participant().attachment());
        drop(consumer);
        assert!(try_push(&mut producer, 1));
        let writing = thread::spawn(move || {
            let written = try_push(&mut producer, 2);
            (producer, written)
        });
        bare.occupy(Owner::CONSUMER);
        let shape = bare.bytes();
        let mut reader = Reader::resume(&shape, &*bare.ring).expect("sound words");
        bare.live(&steps, |ring| {
            let found = reader.read(&shape, ring).expect("it was committed before");
            assert_eq!(ring.read(found.payload_offset, 8), [1; 8]);
            reader.release_to(ring, reader.next());
        });
        let released = bare.ring.control().head.position.load(Ordering::Relaxed) != 0;
        bare.recover(Owner::CONSUMER);
        let mut reader = Reader::resume(&shape, &*bare.ring).expect("sound words");
        let mut seen = Vec::new();
        let mut read_on = || loop {
            turn();
            match reader.read(&shape, &*bare.ring) {
                Ok(found) => {
                    seen.push(found.tag);
                    let mut payload = [0; 8];
                    let offset = found.payload_offset;
                    copy::empty::<Heap>(&bare.ring, offset, &mut payload);
                    assert_eq!(payload, [byte_of(found.tag); 8]);
                    reader.release_to(&*bare.ring, reader.next());
                }
                Err(refusal) => break assert_eq!(refusal, ReadRefusal::Empty),
            }
        };
        read_on();
        let (_producer, written) = writing.join().unwrap();
        read_on();
        let first = if released { vec![] } else { vec![1] };
        assert_eq!(
            seen,
            [first, if written { vec![2] } else { vec![] }].concat()
        );
    });
}
