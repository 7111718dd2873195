//! What a single store or exchange of the protocol carries.
//!
//! The handles wake after each publication, and under loom a wake-up is a fence; loom moreover does
//! not take a fence for a step at which another thread may run. Either hides a store that is too
//! weak. These scenarios use the protocol without its handles, so that nothing helps the store.

use loom::thread;

use super::{Bare, byte_ring_at, check, slot_ring_for, turn};
use crate::layout::{EMPTY, RECOVERED, ROLE_PRODUCER};
use crate::protocol::byte_ring::{Reader, Writer};
use crate::protocol::heap::HeapRing;
use crate::protocol::slot_ring::{self, Consumption, Held};
use crate::protocol::{Owner, Store, copy, recovery, switches};
use crate::sync::Ordering;
use crate::{Heap, TryReadError};

const PRODUCER: Owner = Owner::PRODUCER;
const CONSUMER: Owner = Owner::CONSUMER;

/// A ring of 2 slots without handles, and room for a third participant.
fn bare_slots() -> Bare {
    let (producer, _consumer) = slot_ring_for(3);
    Bare::of(producer.participant().attachment())
}

/// Claims a slot and writes a byte into it, as far as there is space.
fn claim_and_write(bare: &Bare, owner: Owner) -> Option<Held> {
    let shape = bare.slots();
    let held = slot_ring::claim_to_write(&shape, &*bare.ring, owner).ok()?;
    copy::fill::<Heap>(&bare.ring, held.payload_offset(&shape), &[1]);
    Some(held)
}

fn write_slot(bare: &Bare) {
    if let Some(held) = claim_and_write(bare, PRODUCER) {
        slot_ring::commit(&*bare.ring, held, 1, 1);
    }
}

/// Claims a slot and reads its byte, as far as there is a record.
fn claim_and_read(bare: &Bare) -> Option<Held> {
    let shape = bare.slots();
    let held = Consumption::new()
        .claim(&shape, &*bare.ring, CONSUMER, &mut false)
        .ok()?;
    let mut payload = [0];
    let offset = held.payload_offset(&shape);
    copy::empty::<Heap>(&bare.ring, offset, &mut payload);
    assert_eq!(payload, [1]);
    assert_eq!(
        slot_ring::tag_and_len(&shape, &*bare.ring, held),
        Ok((1, 1))
    );
    Some(held)
}

#[test]
fn a_commit_carries_the_bytes() {
    check(None, || {
        let bare = bare_slots();
        let writing = thread::spawn({
            let bare = bare.clone();
            move || {
                turn();
                write_slot(&bare);
            }
        });
        turn();
        claim_and_read(&bare);
        writing.join().unwrap();
    });
}

#[test]
fn a_release_carries_that_nobody_reads_the_bytes() {
    check(None, || {
        let bare = bare_slots();
        write_slot(&bare);
        write_slot(&bare);
        let reading = thread::spawn({
            let bare = bare.clone();
            move || {
                turn();
                let held = claim_and_read(&bare).expect("two records are there");
                slot_ring::release(&bare.slots(), &*bare.ring, held);
            }
        });
        turn();
        write_slot(&bare);
        reading.join().unwrap();
    });
}

#[test]
fn an_abort_carries_that_nobody_writes_the_bytes() {
    check(Some(3), || {
        let bare = bare_slots();
        let aborting = thread::spawn({
            let bare = bare.clone();
            move || {
                turn();
                let other = Owner::new(3).expect("a row's number");
                if let Some(held) = claim_and_write(&bare, other) {
                    slot_ring::abort(&bare.slots(), &*bare.ring, other, held);
                }
            }
        });
        turn();
        assert!(claim_and_read(&bare).is_none()); // It may pass the aborted slot.
        write_slot(&bare);
        write_slot(&bare);
        aborting.join().unwrap();
    });
}

#[test]
fn a_requeue_carries_the_bytes_that_its_reader_saw() {
    check(Some(2), || {
        let bare = bare_slots();
        let writing = thread::spawn({
            let bare = bare.clone();
            move || {
                turn();
                write_slot(&bare);
            }
        });
        let requeueing = thread::spawn({
            let bare = bare.clone();
            move || {
                let other = Owner::new(3).expect("a row's number");
                turn();
                let claimed =
                    Consumption::new().claim(&bare.slots(), &*bare.ring, other, &mut false);
                if let Ok(held) = claimed {
                    slot_ring::requeue(&*bare.ring, other, held);
                }
            }
        });
        turn();
        claim_and_read(&bare);
        writing.join().unwrap();
        requeueing.join().unwrap();
    });
}

#[test]
fn a_close_of_slots_carries_what_was_committed_before_it() {
    check(None, || {
        let (producer, consumer) = slot_ring_for(2);
        let bare = Bare::of(producer.participant().attachment());
        let writing = thread::spawn(move || {
            turn();
            write_slot(&bare);
            switches::close(&*bare.ring);
        });
        turn();
        let read = consumer.try_read().map(|record| record.tag());
        assert_ne!(
            read,
            Err(TryReadError::Closed),
            "the record was committed before"
        );
        writing.join().unwrap();
    });
}

/// Writes a record of 16 bytes in all, if there is space.
fn write_bytes(bare: &Bare, writer: &mut Writer) {
    let shape = bare.bytes();
    let Ok(span) = writer.claim(&shape, &*bare.ring, 8) else {
        return;
    };
    copy::fill::<Heap>(&bare.ring, span.payload_offset(&*bare.ring), &[1; 8]);
    writer.stage(&shape, &*bare.ring, span, 1, 8);
    writer.publish(&shape, &*bare.ring);
}

/// Reads a record, if there is one, and releases it.
fn read_bytes(bare: &Bare) {
    let shape = bare.bytes();
    let mut reader = Reader::resume(&shape, &*bare.ring).expect("sound words");
    let Ok(found) = reader.read(&shape, &*bare.ring) else {
        return;
    };
    let mut payload = [0; 8];
    copy::empty::<Heap>(&bare.ring, found.payload_offset, &mut payload);
    assert_eq!(payload, [1; 8]);
    reader.release_to(&*bare.ring, reader.next());
}

fn bare_bytes(capacity: u64) -> (Bare, Writer) {
    let (producer, _consumer) = byte_ring_at(capacity, 0);
    let bare = Bare::of(producer.participant().attachment());
    let writer = Writer::resume(&bare.bytes(), &*bare.ring).expect("sound words");
    (bare, writer)
}

#[test]
fn a_header_carries_the_bytes() {
    check(None, || {
        let (bare, mut writer) = bare_bytes(64);
        let reading = thread::spawn({
            let bare = bare.clone();
            move || {
                turn();
                read_bytes(&bare);
            }
        });
        turn();
        write_bytes(&bare, &mut writer);
        reading.join().unwrap();
    });
}

#[test]
fn the_head_carries_that_nobody_reads_the_bytes() {
    // The second record lies behind the first, the third in its place.
    check(None, || {
        let (bare, mut writer) = bare_bytes(32);
        write_bytes(&bare, &mut writer);
        let reading = thread::spawn({
            let bare = bare.clone();
            move || {
                turn();
                read_bytes(&bare);
                turn();
                read_bytes(&bare);
            }
        });
        turn();
        write_bytes(&bare, &mut writer);
        turn();
        write_bytes(&bare, &mut writer);
        reading.join().unwrap();
    });
}

#[test]
fn the_head_carries_the_same_to_a_producer_that_resumes() {
    check(Some(3), || {
        let (bare, mut writer) = bare_bytes(32);
        write_bytes(&bare, &mut writer);
        let reading = thread::spawn({
            let bare = bare.clone();
            move || {
                turn();
                read_bytes(&bare);
                turn();
                read_bytes(&bare);
            }
        });
        for _ in 0..2 {
            turn();
            let mut writer = Writer::resume(&bare.bytes(), &*bare.ring).expect("sound words");
            write_bytes(&bare, &mut writer);
        }
        reading.join().unwrap();
    });
}

#[test]
fn a_close_of_bytes_carries_what_was_committed_before_it() {
    check(None, || {
        let (producer, mut consumer) = byte_ring_at(64, 0);
        let bare = Bare::of(producer.participant().attachment());
        let writing = thread::spawn({
            let bare = bare.clone();
            move || {
                let mut writer = Writer::resume(&bare.bytes(), &*bare.ring).expect("sound words");
                turn();
                write_bytes(&bare, &mut writer);
                switches::close(&*bare.ring);
            }
        });
        turn();
        let read = consumer.try_read().map(|record| record.tag());
        assert_ne!(
            read,
            Err(TryReadError::Closed),
            "the record was committed before"
        );
        writing.join().unwrap();
    });
}

#[test]
fn a_row_that_is_attached_again_goes_on_counting() {
    check(None, || {
        let (_producer, one) = slot_ring_for(3);
        let bare = Bare::of(one.participant().attachment());
        let (owner, keeper) = (one.participant().me(), one.try_clone().unwrap());
        let leaving = thread::spawn(move || {
            turn();
            assert!(one.try_read().is_err());
            drop(one);
        });
        turn();
        let again = keeper.try_clone();
        if let Ok(again) = &again {
            assert_eq!(
                again.participant().me(),
                owner,
                "the only row that can be free"
            );
            assert!(again.try_read().is_err());
        }
        leaving.join().unwrap();
        assert_eq!(bare.counter(owner, EMPTY), 1 + u64::from(again.is_ok()));
    });
}

#[test]
fn a_row_is_free_only_after_all_of_its_recovery() {
    check(None, || {
        let bare = bare_slots();
        let dead = Owner::new(3).expect("a row's number");
        bare.occupy(dead);
        let recovering = thread::spawn({
            let bare = bare.clone();
            move || {
                turn();
                recovery::recover(&bare.shape, &*bare.ring, dead, || {});
            }
        });
        turn();
        if let Some(next) = HeapRing::attach(&bare.ring, Some(dead), ROLE_PRODUCER) {
            let before = bare.ring.row(dead).baseline[RECOVERED].load(Ordering::Relaxed);
            assert_eq!(before, 1, "its life begins after the recovery");
            drop(next);
        }
        recovering.join().unwrap();
    });
}
